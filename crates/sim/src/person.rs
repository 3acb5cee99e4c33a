//! The person whom a pause without an end waits for.

use molt_core::observed::{Action, ActionView};
use molt_core::state::{Stage, State};
use molt_core::step::Step;

use crate::pods::Millis;

/// How long the person takes.
const TAKES: Millis = 60_000;

/// What they ask for now, and when they come: a minute after the pause began, for nothing speaks against going on.
pub fn asks(state: &State, now: Millis) -> (Vec<ActionView>, Option<Millis>) {
    let attempt = state.attempt.as_ref().filter(|a| a.stage == Stage::Stepping);
    let paused = attempt.filter(|a| a.steps.get(a.step as usize) == Some(&Step::Pause {}));
    let Some(attempt) = paused else {
        return (Vec::new(), None);
    };
    let comes = attempt.step_since.as_millisecond() + TAKES;
    if now < comes {
        return (Vec::new(), Some(comes));
    }
    let action = ActionView {
        uid: format!("step-{}", attempt.step),
        name: format!("step-{}", attempt.step),
        action: Action::Promote,
        created_at: None,
        revision: Some(attempt.revision.clone()),
        attempt: Some(attempt.number),
        step: Some(attempt.awaited_step()),
        to_revision: None,
        gate: None,
        reason: "the simulation assumes so".to_owned(),
        requested_by: "a person".to_owned(),
    };
    (vec![action], None)
}

//! What people ask for: each action is applied once, or expires with a reason.

use super::Turn;
use super::attempt::End;
use super::doubt::MOST_DOUBTS;
use crate::decision::Effect;
use crate::observed::{Action, ActionView};
use crate::plan::{Revision, RouteMode, Step};
use crate::state::{Attempt, MAX_ACTIONS, Outcome, Pause, Stage};

/// At most so many characters of who asks and why are kept in the state.
pub(super) const MOST_BY: usize = 300;

impl Turn<'_> {
    /// Handles what people asked for, each action once, `Abort` before all others.
    pub(super) fn heed_actions(&mut self) {
        let mut actions: Vec<&ActionView> = self.seen.actions.iter().collect();
        actions.sort_by_key(|a| a.action != Action::Abort);
        for action in actions {
            // A late watch may show it once more: what it was answered stands.
            let mut again = true;
            let outcome = if self.state.actions.contains(&action.uid) {
                Ok("applied; the operator was interrupted before it could write what came of it".to_owned())
            } else if self.state.expired_actions.contains(&action.uid) {
                Err("it expired, and nothing was changed; the operator was interrupted before it could write why".to_owned())
            } else {
                again = false;
                let outcome = self.heed(action);
                let handled = match outcome {
                    Ok(_) => &mut self.state.actions,
                    Err(_) => &mut self.state.expired_actions,
                };
                if handled.len() >= MAX_ACTIONS {
                    handled.remove(0);
                }
                handled.push(action.uid.clone());
                self.note_act(action, &outcome);
                outcome
            };
            let applied = outcome.is_ok();
            let message = outcome.unwrap_or_else(|why| why);
            self.ended_actions.push(Effect::EndAction {
                name: action.name.clone(),
                applied,
                message,
                again,
            });
        }
    }

    /// Applies one action, or says why it has expired.
    fn heed(&mut self, action: &ActionView) -> Result<String, String> {
        let why = if action.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", action.reason)
        };
        let by = format!("by {}{why}", action.requested_by);
        if action.action != Action::Release
            && let Some(why) = self.adoption_in_the_way()
        {
            return Err(why);
        }
        match action.action {
            Action::Retry => return self.retry(action, &by),
            Action::Undo => return self.undo(action, &by),
            Action::Restart => return self.restart(action, &by),
            Action::Release => return self.release(action, &by),
            Action::Approve | Action::Reject => return self.answer_gate(action, &by),
            _ => {}
        }
        let Some(attempt) = self.attempt() else {
            if action.action == Action::Override {
                return self.override_group(action, &by);
            }
            return Err("no attempt is under way; nothing was changed".to_owned());
        };
        let (revision, number) = (attempt.revision.clone(), attempt.number);
        if action.revision.as_ref().is_some_and(|r| *r != revision)
            || action.attempt.is_some_and(|n| n != number)
        {
            return Err(format!(
                "it was meant for another revision or attempt; attempt {number} at revision {revision} is under way; nothing was changed"
            ));
        }
        if action.action == Action::Promote
            && let Some(step) = action.step.filter(|step| *step != attempt.awaited_step())
        {
            let many = attempt.steps.len();
            let place = |index: u32| match index as usize {
                index if index < many => format!("step {} of {many}", index + 1),
                _ => "full traffic".to_owned(),
            };
            let (meant, now) = (place(step), place(attempt.awaited_step()));
            return Err(format!(
                "it was meant for the wait at {meant}, and the attempt is at {now}; nothing was changed"
            ));
        }
        match action.action {
            Action::Abort => self.abort(&by),
            Action::Promote => self.promote(&by),
            Action::PromoteFull => self.promote_full(&by),
            Action::Pause => self.pause(&by),
            Action::Resume => self.resume(&by),
            Action::Override => self.override_by(&by),
            Action::Retry
            | Action::Undo
            | Action::Restart
            | Action::Release
            | Action::Approve
            | Action::Reject => Err("it is handled without an attempt".to_owned()),
        }
    }

    fn abort(&mut self, by: &str) -> Result<String, String> {
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way".to_owned());
        };
        if matches!(attempt.stage, Stage::Withdrawing { .. }) {
            return Ok(format!(
                "{} were on their way back to stable already",
                self.users()
            ));
        }
        if self.state.stable.is_none() {
            return Err("this is the first revision: there is no stable one to go back to".to_owned());
        }
        let revision = attempt.revision.clone();
        let called_off = self.call_off_undo(&revision)?;
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way".to_owned());
        };
        if attempt.stage == Stage::Settling && self.plan.route == RouteMode::Adopted {
            // Both fixed names may select the new revision by now; the state still knows the old one.
            self.note(
                "SettlingAborted",
                "the fixed-name services go back to the old revision",
            );
        }
        self.withdraw(End::new(
            Outcome::Aborted,
            "AbortedByPerson",
            format!("aborted {by}"),
        ));
        let stable = self.state.stable.as_ref().map_or("", |stable| &stable.0);
        Ok(format!(
            "revision {revision} is being withdrawn: all {} go to stable revision {stable}{called_off}",
            self.users()
        ))
    }

    /// To abort a way back that a person began is to call it off. One that was begun because stable harmed users is gone to
    /// its end.
    fn call_off_undo(&mut self, revision: &Revision) -> Result<&'static str, String> {
        let Some(pin) = self.state.pinned.as_ref().filter(|pin| pin.revision == *revision) else {
            return Ok("");
        };
        if let Some(why) = &pin.why {
            let left = &pin.instead_of;
            return Err(format!(
                "users are on their way back to revision {revision}, and an abort would leave them on revision {left}: {why}; nothing was changed. `kubectl molt retry` has {left} tried again once they are back"
            ));
        }
        if pin.group.is_none() {
            self.state.pinned = None;
            return Ok(", which the spec asks for: the undo is called off");
        }
        Ok("")
    }

    /// Past the current pause or wait for evidence: one wait, not all.
    fn promote(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
        let deadline = self.progress_until();
        let Some(attempt) = &mut self.state.attempt else {
            return Err("no attempt is under way".to_owned());
        };
        if let Some(pause) = &attempt.paused {
            return Err(format!("{}: resume it first; nothing was changed", pause.text()));
        }
        let step = attempt.step;
        let message = match attempt.stage {
            Stage::Stepping if attempt.steps.get(step as usize).is_some_and(Step::lasts) => {
                attempt.step += 1;
                attempt.step_since = now;
                attempt.deadline = Some(deadline);
                format!("past the pause of step {}", step + 1)
            }
            // Whoever sees the weight in the route before the router has acknowledged it means what comes then.
            Stage::Stepping if attempt.rises_towards_a_pause() => {
                attempt.cleared_step = Some(step + 1);
                format!(
                    "past the pause of step {}, once the router has the weight",
                    step + 2
                )
            }
            Stage::Stepping | Stage::Promoting if !attempt.is_cleared() => {
                attempt.cleared_step = Some(step);
                attempt.deadline = Some(deadline);
                "past the wait for evidence".to_owned()
            }
            Stage::Held => {
                attempt.stage = if (step as usize) < attempt.steps.len() {
                    Stage::Stepping
                } else {
                    Stage::Promoting
                };
                attempt.since = now;
                attempt.hold = None;
                attempt.cleared_step = Some(step);
                attempt.deadline = Some(deadline);
                // What came before the hold has been counted, the hold itself counts for nothing.
                attempt.measured_to = now;
                attempt.evidence.iter_mut().for_each(|e| e.measured_to = now);
                answer_doubts(attempt);
                "on from the hold, without evidence for this step".to_owned()
            }
            _ => return Err("it waits for no person and no evidence now; nothing was changed".to_owned()),
        };
        self.note("PromotedByPerson", format!("{message} {by}"));
        Ok(message)
    }

    /// All the way: past every step, pause and wait for evidence that is left, to full traffic and its bake. Harm still
    /// rolls back.
    fn promote_full(&mut self, by: &str) -> Result<String, String> {
        let now = self.now;
        let deadline = self.progress_until();
        let Some(attempt) = &mut self.state.attempt else {
            return Err("no attempt is under way".to_owned());
        };
        if let Some(standing) = attempt.paused.as_ref().and_then(Pause::standing) {
            return Err(format!("{standing}; nothing was changed"));
        }
        match attempt.stage {
            Stage::Stepping | Stage::Promoting => {}
            Stage::Held => {
                // What came before the hold has been counted, the hold itself counts for nothing.
                attempt.measured_to = now;
                attempt.evidence.iter_mut().for_each(|e| e.measured_to = now);
                answer_doubts(attempt);
            }
            Stage::Migrating => {
                return Err(
                    "its migrations come first, and nobody goes past them; nothing was changed".to_owned(),
                );
            }
            Stage::Deploying => {
                return Err("this is the first revision: it has no steps; nothing was changed".to_owned());
            }
            Stage::Baking { .. } | Stage::Settling => {
                return Err(
                    "all users are on it already, and the bake takes its time; nothing was changed"
                        .to_owned(),
                );
            }
            Stage::Withdrawing { .. } => {
                return Err("users are on their way back to stable; nothing was changed".to_owned());
            }
        }
        attempt.stage = Stage::Promoting;
        attempt.since = now;
        attempt.step = u32::try_from(attempt.steps.len()).unwrap_or(u32::MAX);
        attempt.step_since = now;
        attempt.cleared_step = Some(attempt.step);
        attempt.hold = None;
        attempt.patience = None;
        attempt.paused = None;
        attempt.deadline = Some(deadline);
        let message = "past all steps and waits, to full traffic";
        self.note("PromotedByPerson", format!("{message} {by}"));
        Ok(message.to_owned())
    }

    /// A spent budget or an incident of both no longer keeps this attempt waiting.
    fn override_by(&mut self, by: &str) -> Result<String, String> {
        let Some(attempt) = self.attempt() else {
            return Err("no attempt is under way".to_owned());
        };
        if attempt.overridden.is_some() {
            return Ok("it was overridden already".to_owned());
        }
        let incident = attempt.incident_since.is_some();
        if !incident && self.exhausted(attempt).is_none() {
            return Err(
                "no spent error budget and no incident of both revisions keeps it waiting; nothing was changed"
                    .to_owned(),
            );
        }
        let deadline = self.progress_until();
        let by: String = by.chars().take(MOST_BY).collect();
        self.update(|a| {
            a.overridden = Some(by.clone());
            if a.incident_since.take().is_some() {
                a.evidence.iter_mut().for_each(|e| e.evidence.incident_is_over());
            }
            a.deadline = a.deadline.map(|d| d.max(deadline));
        });
        let message =
            "neither a spent error budget nor an incident of both keeps this attempt waiting any longer";
        self.note("OverriddenByPerson", format!("{message}, {by}"));
        Ok(message.to_owned())
    }
}

/// A person has looked at what comparisons had refuted and was suspected once more: it begins anew, or the first block
/// under all traffic would hold it again.
fn answer_doubts(attempt: &mut Attempt) {
    if attempt
        .doubt
        .as_ref()
        .is_some_and(|doubt| doubt.times >= MOST_DOUBTS)
    {
        attempt.doubt = None;
        for slo in &mut attempt.evidence {
            slo.evidence.compare_again(0.0);
            slo.evidence.acquit();
        }
    }
}

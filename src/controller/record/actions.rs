//! What people asked for while an attempt ran, and before it.

use jiff::Timestamp;
use molt_core::decision::{Decision, Effect};
use molt_core::observed::{Action, ActionView};
use molt_core::state::Act;

use super::cut;
use crate::api::v1alpha1::{ActionKind, ActionState, RecordedAction};

/// Actions that a record holds at most, as its schema says.
const MOST_ACTIONS: usize = 40;
/// Bytes of who, why and what became of it.
const MOST_BYTES: usize = 250;

/// The actions that this decision ended, as a record has them.
pub fn ended(seen: &[ActionView], decision: &Decision, now: Timestamp) -> Vec<RecordedAction> {
    let end = |effect: &Effect| {
        let Effect::EndAction {
            name,
            applied,
            message,
            ..
        } = effect
        else {
            return None;
        };
        let view = seen.iter().find(|view| view.name == *name)?;
        Some(RecordedAction {
            at: now,
            name: name.clone(),
            action: kind(view.action),
            requested_by: cut(&view.requested_by, MOST_BYTES),
            reason: Some(cut(&view.reason, MOST_BYTES)).filter(|reason| !reason.is_empty()),
            state: state(*applied),
            message: cut(message, MOST_BYTES),
        })
    };
    decision.effects.iter().filter_map(end).collect()
}

/// Adds what is not there yet, by the action's name: a decision that a crash cut off is made again.
pub fn add(recorded: &mut Vec<RecordedAction>, actions: &[RecordedAction]) {
    for action in actions {
        let known = recorded.iter().any(|known| known.name == action.name);
        if !known && recorded.len() < MOST_ACTIONS {
            recorded.push(action.clone());
        }
    }
}

/// Writes down what was asked for before the attempt began, once.
pub fn add_before(recorded: &mut Vec<RecordedAction>, acts: &[Act]) {
    if recorded.is_empty() {
        recorded.extend(acts.iter().filter(|act| act.told).map(before));
    }
}

/// What was asked for while no attempt was under way, as a record has it.
pub fn before(act: &Act) -> RecordedAction {
    RecordedAction {
        at: act.at,
        name: act.name.clone(),
        action: kind(act.action),
        requested_by: cut(&act.requested_by, MOST_BYTES),
        reason: Some(cut(&act.reason, MOST_BYTES)).filter(|reason| !reason.is_empty()),
        state: state(act.applied),
        message: cut(&act.message, MOST_BYTES),
    }
}

fn state(applied: bool) -> ActionState {
    if applied {
        ActionState::Applied
    } else {
        ActionState::Expired
    }
}

fn kind(action: Action) -> ActionKind {
    match action {
        Action::Promote => ActionKind::Promote,
        Action::PromoteFull => ActionKind::PromoteFull,
        Action::Abort => ActionKind::Abort,
        Action::Retry => ActionKind::Retry,
        Action::Pause => ActionKind::Pause,
        Action::Resume => ActionKind::Resume,
        Action::Override => ActionKind::Override,
        Action::Undo => ActionKind::Undo,
        Action::Restart => ActionKind::Restart,
        Action::Release => ActionKind::Release,
        Action::Approve => ActionKind::Approve,
        Action::Reject => ActionKind::Reject,
    }
}

//! What people asked for while no attempt was under way: an action object is deleted when others are over, and no record is
//! open then. The state keeps it for the record of the next attempt.

use super::Turn;
use crate::observed::{Action, ActionView};
use crate::state::{Act, MAX_ACT_TEXT, MAX_ACTS};

/// Characters of the name of an object, and of who asks.
const MOST_OF_NAME: usize = 253;

impl Turn<'_> {
    /// Notes what became of an action.
    pub(super) fn note_act(&mut self, action: &ActionView, outcome: &Result<String, String>) {
        let (Ok(message) | Err(message)) = outcome;
        self.acts.push(Act {
            at: self.now,
            name: cut(&action.name, MOST_OF_NAME),
            action: action.action,
            requested_by: cut(&action.requested_by, MOST_OF_NAME),
            reason: cut(&action.reason, MAX_ACT_TEXT),
            applied: outcome.is_ok(),
            message: cut(message, MAX_ACT_TEXT),
            told: false,
        });
    }

    /// Keeps what this turn's actions came to, unless the record of an attempt does: of the one that was under way when they
    /// were looked at, or that they began.
    pub(super) fn keep_acts(&mut self, was_under_way: bool) {
        let acts = std::mem::take(&mut self.acts);
        if was_under_way || self.state.attempt.is_some() {
            return;
        }
        self.state.acts.extend(acts);
        let surplus = self.state.acts.len().saturating_sub(MAX_ACTS);
        self.state.acts.drain(..surplus);
    }

    /// An attempt begins: its record keeps what was asked for before it. What the one before has kept may go.
    pub(super) fn tell_acts(&mut self) {
        self.state.acts.retain(|act| !act.told);
        self.state.acts.iter_mut().for_each(|act| act.told = true);
        if let Some(database) = &mut self.state.database {
            database.ended = database.ended.take().filter(|work| !work.told);
            database.ended.iter_mut().for_each(|work| work.told = true);
        }
    }

    /// What a restart has come to, at the word of whoever asked for it.
    pub(super) fn note_end_of_restart(&mut self, message: &str) {
        let acts = self.state.acts.iter_mut().rev();
        let mut restarts = acts.filter(|act| act.action == Action::Restart && act.applied);
        if let Some(act) = restarts.next() {
            act.message = cut(message, MAX_ACT_TEXT);
        }
    }
}

/// The beginning of a text, of so many characters at most.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

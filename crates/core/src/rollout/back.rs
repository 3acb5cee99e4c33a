//! Back to what was there before: a revision that is tried again, and one that served all users.

use super::Turn;
use super::attempt::End;
use super::database::past_contract;
use super::stages::promoted;
use crate::observed::ActionView;
use crate::plan::Revision;
use crate::state::{Attempt, BY_SPEC, Pin, Stage, by_fleet};

impl Turn<'_> {
    /// The revision that is to serve all users: the spec's, or what a person went back to instead.
    pub(super) fn wanted(&self) -> Option<Revision> {
        let spec = self.plan.revision.as_ref()?;
        let pin = self.state.pinned.as_ref().filter(|pin| pin.instead_of == *spec);
        Some(pin.map_or(spec, |pin| &pin.revision).clone())
    }

    /// The revision may go straight to all users, for it served them before: a person asked for it, or it was stable
    /// among the last of `spec.rollbackWindow`, or it was the last and its pods are still there.
    pub(super) fn is_known(&self, revision: &Revision) -> bool {
        let Some(age) = self.state.served.iter().position(|r| r == revision) else {
            return false;
        };
        let Some(view) = self.seen.revisions.get(revision).filter(|view| !view.altered) else {
            return false;
        };
        let pinned = self
            .state
            .pinned
            .as_ref()
            .is_some_and(|pin| pin.revision == *revision);
        let is_warm = age == 0 && view.wanted > 0 && self.seen.ready(revision) >= self.plan.replicas;
        pinned || age < self.plan.rollback_window || is_warm
    }

    /// A way back to what served before has all users, or takes them without waiting for evidence.
    pub(super) fn flees(&self, attempt: &Attempt) -> bool {
        // While it is compared at a small weight, users are on what they flee from: an edit may help them.
        let compared = attempt.doubt.as_ref().is_some_and(|doubt| doubt.open);
        let straight = attempt.is_cleared() && !compared;
        self.state.served.contains(&attempt.revision)
            && match attempt.stage {
                Stage::Baking { .. } => true,
                Stage::Promoting => straight,
                _ => false,
            }
    }

    /// A spec edit does not send users back to the revision that they flee from, unless it asks for that very one.
    pub(super) fn outlasts_an_edit(&self, attempt: &Attempt) -> bool {
        let asked_for = self
            .wanted()
            .is_some_and(|r| self.state.stable.as_ref() == Some(&r));
        self.flees(attempt) && !asked_for
    }

    /// The revision that waits for a way back to have all users, and is compared with what they went back to.
    pub(super) fn next_after_flight(&self, attempt: &Attempt) -> Option<Revision> {
        let next = self.wanted().filter(|r| *r != attempt.revision);
        next.filter(|_| self.outlasts_an_edit(attempt))
    }

    /// What users went back to is stable without the rest of its bake, for the next revision waits.
    pub(super) fn promoted_for(&self, attempt: &Attempt) -> End {
        let mut end = promoted(attempt);
        if let Some(next) = self.next_after_flight(attempt) {
            end.message = format!(
                "revision {} {} again and is stable; its bake ends early, for the spec went on to revision {next}",
                attempt.revision,
                self.has_all_text()
            );
        }
        end
    }

    /// Tries a revision again that was taken back.
    pub(super) fn retry(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way; nothing was changed"
            ));
        }
        if let Some(convicted) = self.convicted().cloned() {
            return self.retry_convicted(action, &convicted, by);
        }
        if let Some(retried) = self.retry_of_group(action) {
            let revision = retried?;
            self.note(
                "RetriedByPerson",
                format!("revision {revision} is tried again {by}"),
            );
            return Ok(format!("revision {revision} is tried again"));
        }
        let Some(refused) = self.state.refused.clone() else {
            return Err(
                "no revision is refused, so there is none to try again; nothing was changed".to_owned(),
            );
        };
        let last = self.state.last.as_ref().filter(|last| last.revision == refused);
        let number = last.map(|last| last.number);
        if action.revision.as_ref().is_some_and(|r| *r != refused)
            || (action.attempt.is_some() && number.is_some() && action.attempt != number)
        {
            return Err(format!(
                "it was meant for another revision or attempt; revision {refused} is the one that is refused; nothing was changed"
            ));
        }
        if let Some(pause) = self.pause_of(&refused) {
            return Err(format!("{pause}; nothing was changed"));
        }
        self.state.refused = None;
        self.note(
            "RetriedByPerson",
            format!("revision {refused} is tried again {by}"),
        );
        Ok(format!("revision {refused} is tried again"))
    }

    /// Back to a revision that is not the spec's: it stays so, whatever is re-applied, until the spec goes on.
    pub(super) fn undo(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way: abort takes {} back to stable; nothing was changed",
                self.users()
            ));
        }
        let (Some(stable), Some(spec)) = (self.state.stable.clone(), self.plan.revision.clone()) else {
            return Err(
                "there is no stable revision, or no spec that can be used; nothing was changed".to_owned(),
            );
        };
        if action.revision.as_ref().is_some_and(|r| *r != stable) {
            return Err(format!(
                "it was meant for another revision; stable is {stable}; nothing was changed"
            ));
        }
        let usable = |r: &Revision| self.seen.revisions.get(r).is_some_and(|view| !view.altered);
        let before = || self.state.served.iter().find(|r| usable(r)).cloned();
        let Some(target) = action.to_revision.clone().or_else(before) else {
            return Err("no earlier revision is known: name one; nothing was changed".to_owned());
        };
        if target == stable {
            return Err(format!(
                "revision {target} is stable already; nothing was changed"
            ));
        }
        if !usable(&target) {
            let kept: Vec<&str> = self
                .seen
                .revisions
                .keys()
                .filter(|r| usable(r))
                .map(|r| r.0.as_str())
                .collect();
            return Err(format!(
                "there is no ReplicaSet of revision {target} any more; kept are {}; nothing was changed",
                kept.join(", ")
            ));
        }
        if self.is_barred(&target) {
            return Err(format!("{}; nothing was changed", past_contract(&target)));
        }
        if self.plan.paused {
            return Err(format!("{BY_SPEC}; nothing was changed"));
        }
        let fleet = self.seen.fleet_paused.as_ref();
        if let Some(by) = fleet.filter(|_| !self.state.served.contains(&target)) {
            return Err(format!(
                "{}, and revision {target} never served all users; nothing was changed",
                by_fleet(by)
            ));
        }
        self.state.refused = None;
        self.state.pinned = (target != spec).then(|| Pin {
            revision: target.clone(),
            instead_of: spec,
            why: None,
            group: None,
        });
        self.note(
            "UndoneByPerson",
            format!("back from revision {stable} to {target} {by}"),
        );
        Ok(format!("back to revision {target}"))
    }
}

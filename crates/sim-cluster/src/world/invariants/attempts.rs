//! Attempts: how they begin and end, and what a promotion rests on.

use molt_core::plan::Revision;
use molt_core::state::{Outcome, Stage, State};
use molt_sim_api::store::Change;
use serde_json::Value;

use crate::checks::Identity;
use crate::world::people::Quality;
use crate::world::{ACTIONS, SERVICE, SETS, World, meta};

/// Fewer requests than these can't show safety at this objective, whatever they were.
const LEAST_EVIDENCE: f64 = 60.0;

impl World {
    pub(super) fn check_state(&mut self, change: &Change, by_operator: bool) {
        let uid = meta(&change.after, "uid").to_owned();
        let holds = |o: &Value| {
            o["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty())
        };
        let released =
            change.before.as_deref().is_some_and(holds) && (change.deleted || !holds(&change.after));
        if by_operator && released {
            self.check_release();
        }
        if change.deleted {
            self.checks.state = None;
            return;
        }
        if by_operator
            && let Some(before) = &change.before
            && before["spec"] != change.after["spec"]
        {
            self.violate("spec", "the operator changes the spec");
        }
        let replicas = change.after["spec"]["replicas"].as_u64().unwrap_or(1);
        if self.checks.replicas.last().is_none_or(|(_, n)| *n != replicas) {
            self.checks.replicas.push((self.now, replicas));
        }
        let Ok(new) = serde_json::from_value::<State>(change.after["status"]["state"].clone()) else {
            return;
        };
        let old = match self.checks.state.take() {
            Some((of, state)) if of == uid => state,
            _ => State::default(),
        };
        if old != new {
            self.check_attempts(&uid, &old, &new);
        }
        self.checks.state = Some((uid, new));
    }

    /// An edit of the spec does not turn users around who are back on what served them before, unless it asks for the very
    /// revision that they left.
    fn check_flight(&mut self, old: &State, new: &State) {
        let (Some(a), Some(b)) = (&old.attempt, &new.attempt) else {
            return;
        };
        let back = matches!(a.stage, Stage::Baking { .. }) && old.served.contains(&a.revision);
        let same = (&a.revision, a.number) == (&b.revision, b.number);
        if let Stage::Withdrawing { outcome, reason, .. } = &b.stage
            && back
            && same
            && (*outcome == Outcome::Superseded || reason == "SpecInvalid")
        {
            let (revision, number) = (&a.revision, a.number);
            self.violate(
                "flight",
                format!("attempt {number} at revision {revision}, a way back, is turned around: {reason}"),
            );
        }
    }

    pub(super) fn check_attempts(&mut self, uid: &str, old: &State, new: &State) {
        let identity = |r: &Revision, n: u32| -> Identity { (uid.to_owned(), r.0.clone(), n) };
        let of = |s: &State| s.attempt.as_ref().map(|a| identity(&a.revision, a.number));
        let (was, is) = (of(old), of(new));
        if let Some(is) = is.filter(|is| was.as_ref() != Some(is)) {
            if !self.checks.begun.insert(is.clone()) {
                self.violate(
                    "identity",
                    format!("attempt {} at revision {} begins a second time", is.2, is.1),
                );
            }
        } else if let (Some(a), Some(b)) = (&old.attempt, &new.attempt) {
            let halted = |s: &Stage| matches!(s, Stage::Held | Stage::Withdrawing { .. });
            let back = b.step < a.step && !halted(&a.stage);
            let forgot = b.started_at != a.started_at || b.transitions.len() < a.transitions.len();
            let undone =
                matches!(a.stage, Stage::Withdrawing { .. }) && !matches!(b.stage, Stage::Withdrawing { .. });
            if back || forgot || undone {
                self.violate(
                    "history",
                    format!(
                        "attempt {} at revision {} goes back: {:?} step {} to {:?} step {}",
                        a.number, a.revision, a.stage, a.step, b.stage, b.step
                    ),
                );
            }
        }
        self.check_flight(old, new);
        if let Some(last) = &new.last
            && new.last != old.last
        {
            let id = identity(&last.revision, last.number);
            let outcome = format!("{:?}", last.outcome);
            if let Some(before) = self.checks.ended.insert(id.clone(), outcome.clone()) {
                self.violate(
                    "history",
                    format!(
                        "attempt {} at revision {} ends again: {before}, {outcome}",
                        id.2, id.1
                    ),
                );
            }
            let later = last.stable.is_some();
            if later {
                *self.checks.outcomes.entry(outcome).or_default() += 1;
            }
            // It is compared with stable: what is no worse than that one is good enough.
            let beside = last
                .stable
                .as_ref()
                .map_or(Quality::Good, |r| self.people.quality(&r.0));
            if last.transitions.iter().any(|t| t.reason == "RollbackStarted") {
                // A way back rests on what the revision did before.
                self.checks.attempts.entry(id.clone()).or_default().promotes += 1;
            }
            self.check_end(&id, last.outcome, later, beside);
        }
        let applied: Vec<&String> = new.actions.iter().filter(|a| !old.actions.contains(a)).collect();
        for action in applied {
            self.note_applied(action, old, uid, new);
        }
        let promoted = |s: &State| {
            s.last
                .as_ref()
                .filter(|l| l.outcome == Outcome::Promoted)
                .map(|l| l.revision.clone())
        };
        if old.stable.is_some() && new.stable != old.stable && promoted(new) != new.stable {
            self.violate(
                "promotion",
                format!(
                    "stable goes from {:?} to {:?} without a promotion",
                    old.stable, new.stable
                ),
            );
        }
    }

    /// An action is in the state: its consequence has to be there as well.
    pub(super) fn note_applied(&mut self, action: &str, old: &State, uid: &str, new: &State) {
        let found = self
            .server
            .objects(ACTIONS)
            .into_iter()
            .find(|a| meta(a, "uid") == action);
        let (Some(found), Some(attempt)) = (found, &old.attempt) else {
            return;
        };
        let abort = found["spec"]["action"] == "Abort";
        let promotes = matches!(found["spec"]["action"].as_str(), Some("Promote" | "PromoteFull"));
        let id = (uid.to_owned(), attempt.revision.0.clone(), attempt.number);
        let seen = self.checks.attempts.entry(id).or_default();
        if !abort {
            seen.promotes += u32::from(promotes);
            return;
        }
        seen.aborted = true;
        let same =
            |a: &molt_core::state::Attempt| a.revision == attempt.revision && a.number == attempt.number;
        let goes_on = new
            .attempt
            .as_ref()
            .is_some_and(|a| same(a) && !matches!(a.stage, Stage::Withdrawing { .. }));
        if goes_on {
            self.violate(
                "abort",
                format!(
                    "attempt {} at revision {} goes on after its abort",
                    attempt.number, attempt.revision
                ),
            );
        }
    }

    pub(super) fn check_end(&mut self, id: &Identity, outcome: Outcome, later: bool, beside: Quality) {
        if !later {
            return;
        }
        let seen = self.checks.attempts.get(id).cloned().unwrap_or_default();
        let quality = self.people.quality(&id.1);
        let by_evidence = seen.promotes == 0;
        if by_evidence
            && quality == Quality::Bad
            && beside == Quality::Good
            && matches!(outcome, Outcome::Promoted | Outcome::RolledBack)
        {
            self.checks.bad.0 += 1;
            self.checks.bad.1 += u64::from(outcome == Outcome::Promoted);
        }
        if outcome != Outcome::Promoted {
            return;
        }
        let what = format!("attempt {} at revision {}", id.2, id.1);
        if seen.aborted {
            self.violate("abort", format!("{what} is promoted after its abort"));
        }
        if by_evidence && seen.evidence < LEAST_EVIDENCE {
            self.violate(
                "evidence",
                format!("{what} is promoted on {} requests", seen.evidence),
            );
        }
        if by_evidence && quality == Quality::VeryBad && beside != Quality::VeryBad {
            self.violate(
                "evidence",
                format!("{what} is promoted although every other answer is bad"),
            );
        }
        let name = format!("{SERVICE}-{}", id.1);
        let now = self.object(SETS, &name).map(|s| meta(s, "uid").to_owned());
        let tested = now.as_ref().is_some_and(|uid| seen.sets.contains(uid));
        if !tested || seen.sets.len() > 1 {
            self.violate(
                "copy",
                format!(
                    "{what} is promoted with ReplicaSet {now:?}; tested was {:?}",
                    seen.sets
                ),
            );
        }
        let share = self.shares().get(&id.1).copied().unwrap_or(0.0);
        if share < 99.5 && !self.struck.foggy(self.now) && self.people.owns_route() {
            self.violate(
                "acknowledged",
                format!("{what} is promoted while the gateway sends it {share:.0} %"),
            );
        }
    }

    /// The operator was told of requests of a revision.
    pub fn told(&mut self, revision: &str, requests: f64) {
        let Some((uid, state)) = &self.checks.state else {
            return;
        };
        let Some(attempt) = state.attempt.as_ref().filter(|a| a.revision.0 == revision) else {
            return;
        };
        let id = (uid.clone(), attempt.revision.0.clone(), attempt.number);
        self.checks.attempts.entry(id).or_default().evidence += requests;
    }

    /// Which ReplicaSets users are on.
    pub(super) fn note_tested(&mut self) {
        let Some((uid, state)) = &self.checks.state else {
            return;
        };
        let Some(attempt) = &state.attempt else { return };
        let revision = attempt.revision.0.clone();
        let id = (uid.clone(), revision.clone(), attempt.number);
        if !self.checks.used.contains(&revision) {
            return;
        }
        let set = self
            .object(SETS, &format!("{SERVICE}-{revision}"))
            .map(|s| meta(s, "uid").to_owned());
        if let Some(set) = set {
            self.checks.attempts.entry(id).or_default().sets.insert(set);
        }
    }
}

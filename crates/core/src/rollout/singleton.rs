//! What may run only once, such as a scheduler: the old pod stops, then the new one starts, and after a crash it is the
//! other way round. Never are two asked for, and none only for as long as one takes to end and the next to start.
//!
//! A revision gets its pod once no pod of any other is there, by two signs: what is seen of the world, and whom Molt has
//! asked for a pod last. The second is in the state, for what is seen may be older than what was written.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::stages::promoted;
use super::waits::Wait;
use super::{Turn, after};
use crate::plan::{Revision, RouteMode};
use crate::state::{Alone, Attempt, Stage};

/// A pod that was asked for is seen to be asked for within this time, or the request never arrived.
const SEEN_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// What another replica of the operator has written is seen within this time by the one that leads after it.
const SETTLED: SignedDuration = SignedDuration::from_secs(5);
/// How long a new pod may take to get ready before the old revision is started again.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);

impl Turn<'_> {
    pub(super) fn is_singleton(&self) -> bool {
        self.plan.route == RouteMode::Singleton
    }

    /// Notes that the request for the last pod was carried out.
    pub(super) fn follow_alone(&mut self) {
        if !self.is_singleton() {
            self.state.alone = None;
            return;
        }
        let now = self.now;
        let Some(alone) = &mut self.state.alone else {
            return;
        };
        // A clock that went back must not make anybody wait for it.
        alone.since = alone.since.min(now);
        match self.seen.revisions.get(&alone.revision) {
            None => self.state.alone = None,
            Some(view) => alone.seen |= view.wanted > 0,
        }
    }

    /// The revision whose pod is to run.
    pub(super) fn whose_turn(&self) -> Option<Revision> {
        let Some(attempt) = self.attempt() else {
            let failed_first = || {
                let revision = self.plan.revision.clone()?;
                let waits = self.adoption_moves() || self.waits_for_migrations(&revision);
                (!waits).then_some(revision)
            };
            return self.state.stable.clone().or_else(failed_first);
        };
        let goes = match attempt.stage {
            Stage::Migrating | Stage::Stepping | Stage::Held | Stage::Withdrawing { .. } => false,
            Stage::Promoting => attempt.weight == 100,
            Stage::Deploying | Stage::Baking { .. } | Stage::Settling => true,
        };
        if goes {
            return Some(attempt.revision.clone());
        }
        self.state.stable.clone()
    }

    /// Pods that each revision should have now: one, and of one revision.
    pub(super) fn pod_of_singleton(&self) -> BTreeMap<Revision, u32> {
        let turn = self.whose_turn();
        let pods = |revision: &Revision, wanted: u32| {
            let is_meant = turn.as_ref() == Some(revision) && self.plan.replicas > 0;
            u32::from(is_meant && (wanted > 0 || self.may_have_the_pod(revision)))
        };
        let views = self.seen.revisions.iter();
        views
            .map(|(revision, view)| (revision.clone(), pods(revision, view.wanted)))
            .collect()
    }

    /// No pod is there, nor was one of another revision asked for that may come yet.
    fn may_have_the_pod(&self, revision: &Revision) -> bool {
        let mut views = self.seen.revisions.iter();
        // One of its own that ends is one too many as well: its ReplicaSet would not wait for it.
        let seen = views.all(|(other, view)| view.pods == 0 && (other == revision || view.wanted == 0));
        let told = self.state.alone.as_ref().is_none_or(|alone| {
            let time = if alone.seen { SETTLED } else { SEEN_WITHIN };
            alone.revision == *revision || self.now >= after(alone.since, time)
        });
        seen && told
    }

    /// Notes for whom a pod is asked for, before it is.
    pub(super) fn note_alone(&mut self, revision: &Revision, pods: u32) {
        if self.is_singleton() && pods > 0 {
            self.state.alone = Some(Alone {
                revision: revision.clone(),
                since: self.now,
                seen: false,
            });
        }
    }

    /// When what was asked for last keeps no other revision from its pod any more.
    pub(super) fn alone_at(&self) -> Option<Timestamp> {
        let alone = self.state.alone.as_ref()?;
        let time = if alone.seen { SETTLED } else { SEEN_WITHIN };
        Some(after(alone.since, time))
    }

    /// The old pod stops, then the new one starts.
    pub(super) fn taking_turns(&mut self, attempt: &Attempt) -> bool {
        if attempt.weight < 100 {
            if attempt.paused.is_some() {
                return false;
            }
            if let Some(wait) = self.move_wait(attempt, None).filter(|_| !attempt.is_cleared()) {
                return self.check_deadline(attempt, &wait);
            }
            self.raise(100);
            self.note("TurnTaken", "the old pod stops, then the new one starts");
            return true;
        }
        let ready = self.seen.available(&attempt.revision);
        if ready < self.plan.replicas {
            let view = self.seen.revisions.get(&attempt.revision);
            if view.is_none_or(|view| view.wanted == 0) {
                let wait = Wait::World("the old pod has not ended yet".to_owned());
                return self.check_deadline(attempt, &wait);
            }
            let patience = after(self.now, PATIENCE.min(self.plan.progress_deadline));
            if attempt.deadline.is_none_or(|deadline| deadline > patience) {
                self.update(|a| a.deadline = Some(patience));
                return false;
            }
            let wait = Wait::World(self.pods_wait(attempt, self.plan.replicas));
            return self.check_deadline(attempt, &wait);
        }
        self.reached(attempt, 100);
        let until = after(self.now, self.plan.bake);
        self.enter(Stage::Baking { until }, None);
        self.note(
            "BakeStarted",
            format!("the new pod runs, and the old one is gone; it is watched until {until:.0}"),
        );
        true
    }

    /// The bake of what nothing measures is over with its time: a crash would have ended it.
    pub(super) fn bakes_unmeasured(&mut self, attempt: &Attempt) -> bool {
        if !self.is_singleton() || !self.plan.slos.is_empty() {
            return false;
        }
        self.finish(promoted(attempt));
        true
    }
}

//! The bake: all users are on the canary, and the old revision waits at full strength.

use jiff::Timestamp;

use super::waits::Wait;
use super::{Turn, after};
use crate::plan::{RouteMode, SloPlan};
use crate::state::{Attempt, Stage};

impl Turn<'_> {
    pub(super) fn baking(&mut self, attempt: &Attempt, until: Timestamp) -> bool {
        let ready = self.seen.ready(&attempt.revision);
        let serves = self.plan.replicas > 0;
        if ready == 0 && serves {
            return self.check_unready(attempt);
        }
        if self.written_weight(attempt) == 0 && serves && self.state.stable.is_some() {
            // Its users were sent to stable meanwhile: it has to prove itself anew once they are back.
            let until = after(self.now, self.plan.bake);
            self.update(|a| a.stage = Stage::Baking { until });
            return self.bake_waits(attempt, self.now, &Wait::World(self.route_wait()));
        }
        if self.bakes_anew_after_a_crash(attempt, until) {
            return true;
        }
        if self.next_after_flight(attempt).is_some() {
            return if self.bake_world_wait(attempt).is_none() {
                self.ends_bake(attempt)
            } else {
                self.check_unready(attempt)
            };
        }
        if self.now < until || attempt.paused.is_some() {
            return self.check_unready(attempt);
        }
        if let Some(wait) = self.bake_world_wait(attempt) {
            return self.bake_waits(attempt, self.now, &wait);
        }
        if self.state.stable.is_none() {
            // There is nothing else that could serve: that nobody asked it, or nothing can be read, is no reason to
            // wait.
            self.finish(self.first_end(attempt));
            return true;
        }
        if self.bakes_unmeasured(attempt) {
            return true;
        }
        if let Some(wait) = self.bake_evidence_wait(attempt, until) {
            let flees = self.flees(attempt);
            if self.wanted().is_none() && flees {
                // A spec that can't be used may lack the objectives as well: its time must not run out for that, nor
                // before it can be read again once it is repaired.
                if attempt.deadline.is_some() {
                    self.update(|a| a.deadline = None);
                    return true;
                }
                return self.check_unready(attempt);
            }
            let since = if flees { self.now } else { until };
            return self.bake_waits(attempt, since, &wait);
        }
        self.ends_bake(attempt)
    }

    /// All users stay: the revision is stable, once a user's route is in its idle form again.
    fn ends_bake(&mut self, attempt: &Attempt) -> bool {
        if self.plan.route == RouteMode::Adopted {
            self.enter(Stage::Settling, Some(self.plan.progress_deadline));
            return true;
        }
        self.finish(self.promoted_for(attempt));
        true
    }

    /// What a bake that is over still lacks; `None` while it is not over, or lacks nothing.
    pub(super) fn overdue_bake(&self, attempt: &Attempt, until: Timestamp) -> Option<Wait> {
        if self.now < until || self.state.stable.is_none() {
            return None;
        }
        self.bake_world_wait(attempt)
            .or_else(|| self.bake_evidence_wait(attempt, until))
    }

    /// What is promoted has to do without the old revision's pods.
    fn bake_world_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if self.reliable(attempt) < self.plan.replicas {
            return Some(Wait::World(self.pods_wait(attempt, self.plan.replicas)));
        }
        let serves = self.plan.replicas > 0;
        (serves && !self.route_is_as_wanted()).then(|| Wait::World(self.route_wait()))
    }

    /// Missing data never counts as success: the bake is over once it has been read to its end, and enough was shown.
    fn bake_evidence_wait(&self, attempt: &Attempt, until: Timestamp) -> Option<Wait> {
        let unread = |read| after(read, self.plan.block) < until;
        if self.least_read(attempt).is_none_or(unread) {
            let what = "the metrics of the bake could not be read to its end";
            return Some(Wait::Evidence(what.to_owned()));
        }
        let conditions = self.bake_conditions_wait(attempt).map(Wait::Evidence);
        conditions.or_else(|| self.shown_in_bake(attempt))
    }

    /// Half of the canary's pods crashed, which is too little to take it back: it has to last a whole bake without. The
    /// first revision has nobody to wait in its place.
    fn bakes_anew_after_a_crash(&mut self, attempt: &Attempt, until: Timestamp) -> bool {
        let Some(crash) = self
            .crashed_in_bake(attempt)
            .filter(|_| self.state.stable.is_some())
        else {
            return false;
        };
        let Some(end) = crash.ends.last() else {
            return false;
        };
        let what = format!("{}; the bake begins anew", crash.message);
        // By the node's clock, so that the same crash asks for the same end again, wherever that clock is. One that is
        // a whole bake ahead says nothing of when.
        let anew = after(*end, self.plan.bake);
        if anew <= until || *end > after(self.now, self.plan.bake) {
            return false;
        }
        self.update(|a| a.stage = Stage::Baking { until: anew });
        self.note("BakeBegunAnew", what);
        true
    }

    /// The bake is over, and something is still missing: there is a deadline for it, reckoned from `since`.
    fn bake_waits(&mut self, attempt: &Attempt, since: Timestamp, wait: &Wait) -> bool {
        if attempt.deadline.is_none() {
            let deadline = after(since, self.plan.progress_deadline);
            self.update(|a| a.deadline = Some(deadline));
            return true;
        }
        self.check_deadline(attempt, wait)
    }

    /// The time that every objective was read up to; `None` while one of them was never read.
    fn least_read(&self, attempt: &Attempt) -> Option<Timestamp> {
        let read = |slo: &SloPlan| {
            let mut entries = attempt.evidence.iter();
            entries.find(|e| e.is_of(slo)).map(|e| e.measured_to)
        };
        let all: Option<Vec<Timestamp>> = self.plan.slos.iter().map(read).collect();
        all?.into_iter().min()
    }
}

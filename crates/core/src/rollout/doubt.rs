//! Harm that shows while the canary has all the traffic.
//!
//! There is nobody beside it then: an incident that stable would have as well looks like the canary's own harm. So
//! most of the traffic goes back to stable, which helps nine users in ten if it is the canary's, and both are compared
//! in the same minutes. If the canary is no worse, it gets all traffic again and the bake begins anew.

use jiff::Timestamp;

use super::waits::Wait;
use super::{Turn, after};
use crate::analysis::Harm;
use crate::plan::OnShareMismatch;
use crate::state::{Attempt, Doubt, Stage};

/// The weight, in percent, that a canary is compared at.
const COMPARED_AT: u8 = 10;
/// After so many comparisons in an attempt, which have all acquitted it, a further one would show nothing new: what shows
/// only under all traffic may be the canary's, or one incident more. A person decides, and its users are on stable.
pub(super) const MOST_DOUBTS: u8 = 3;

impl Turn<'_> {
    /// What speaks against the canary is a suspicion, and stable can still be asked.
    pub(super) fn is_in_doubt(&self, harm: &Harm) -> bool {
        self.can_be_compared(harm) && self.doubts() < MOST_DOUBTS
    }

    /// What speaks against the canary is a suspicion, and comparisons have refuted enough of them.
    pub(super) fn is_beyond_doubts(&self, harm: &Harm) -> bool {
        !harm.may_be_the_callers() && self.can_be_compared(harm) && self.doubts() >= MOST_DOUBTS
    }

    fn doubts(&self) -> u8 {
        let doubt = self.attempt().and_then(|attempt| attempt.doubt.as_ref());
        doubt.map_or(0, |doubt| doubt.times)
    }

    fn can_be_compared(&self, harm: &Harm) -> bool {
        let stable = self.state.stable.as_ref();
        let ignored = harm.may_be_the_callers() && self.plan.on_share_mismatch == OnShareMismatch::Ignore;
        // Where all users move at once nobody is to meet both revisions: they go back instead.
        let at_once = self.attempt().is_some_and(|a| a.at_once);
        harm.alone && !ignored && !at_once && stable.is_some_and(|stable| self.seen.ready(stable) > 0)
    }

    /// Gives stable most of the traffic, to compare.
    pub(super) fn doubt(&mut self, harm: &Harm) {
        self.enter(Stage::Promoting, Some(self.progress_time()));
        // Half the time that a comparison has.
        let blocks = self.plan.progress_deadline.as_secs_f64() / self.plan.block.as_secs_f64().max(1.0) / 2.0;
        let worth = blocks * f64::from(COMPARED_AT) / 100.0;
        self.update(|a| {
            let times = a.doubt.take().map_or(0, |doubt| doubt.times) + 1;
            a.doubt = Some(Doubt {
                times,
                open: true,
                since: None,
                least: None,
            });
            a.weight = COMPARED_AT;
            a.cleared_step = None;
            a.evidence
                .iter_mut()
                .for_each(|e| e.evidence.compare_again(worth));
        });
        self.note(
            "BakeInterrupted",
            format!(
                "{harm}; stable takes {} % of the traffic again, so that both can be compared in the same minutes",
                100 - COMPARED_AT
            ),
        );
    }

    /// The route has yet to give stable its part: nothing can be compared before.
    pub(super) fn comparison_wait(&self, attempt: &Attempt) -> Option<Wait> {
        let begins = is_pending(attempt) && !self.acknowledged(attempt, attempt.weight);
        begins.then(|| Wait::World(self.route_wait()))
    }

    /// Begins the grid anew where the comparison begins, so that no block mixes before and after; `false` when there is
    /// none to begin.
    pub(super) fn begin_comparison(&mut self, attempt: &Attempt) -> bool {
        if !is_pending(attempt) {
            return false;
        }
        if !self.acknowledged(attempt, attempt.weight) {
            self.follow_way_back(attempt);
            return false;
        }
        let now = self.now;
        let deadline = self.progress_until();
        // What a counter says at an edge is as old as its last scrape: one interval later it is all of the comparison. The
        // block before that shows what stable goes through as it begins.
        let begin = after(now, self.plan.block / 2 - self.plan.block);
        self.update(|a| {
            if let Some(doubt) = &mut a.doubt {
                doubt.since = Some(now);
            }
            a.deadline = Some(deadline);
            a.measured_to = begin;
            a.evidence.iter_mut().for_each(|e| e.measured_to = begin);
        });
        true
    }

    /// Each part of the traffic that stable takes back on the way to the comparison is progress: with little room they are many.
    fn follow_way_back(&mut self, attempt: &Attempt) {
        let percent = self.written_weight(attempt);
        let least = attempt.doubt.as_ref().and_then(|doubt| doubt.least);
        if least.is_some_and(|least| percent >= least) {
            return;
        }
        let deadline = self.progress_until();
        self.update(|a| {
            if let Some(doubt) = &mut a.doubt {
                doubt.least = Some(percent);
            }
            a.deadline = Some(deadline);
        });
    }

    /// The canary may have all traffic: what was suspected was not its own.
    pub(super) fn acquit(&mut self) {
        self.update(|a| {
            if let Some(doubt) = &mut a.doubt {
                doubt.open = false;
                doubt.since = None;
            }
            a.evidence.iter_mut().for_each(|e| e.evidence.acquit());
        });
    }
}

/// The attempt waits for the router, to compare: what is counted until then says nothing.
pub(super) fn is_pending(attempt: &Attempt) -> bool {
    let doubt = attempt.doubt.as_ref();
    doubt.is_some_and(|doubt| doubt.open && doubt.since.is_none())
}

/// The block from then on is before the comparison: stable has hardly any traffic in it.
pub(super) fn is_before_comparison(attempt: &Attempt, start: Timestamp) -> bool {
    let doubt = attempt.doubt.as_ref().filter(|doubt| doubt.open);
    doubt.is_some_and(|doubt| doubt.since.is_none_or(|since| start < since))
}

/// Both are compared again.
pub(super) fn is_open(attempt: &Attempt) -> bool {
    attempt.doubt.as_ref().is_some_and(|doubt| doubt.open)
}

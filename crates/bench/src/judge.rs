//! What a judge is.

use crate::traces::Trace;

/// What a judge says at one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against the canary so far, or not the time to look.
    Continue,
    /// The canary is taken back.
    Rollback,
}

/// Decides on one canary. It is asked after every scrape, in order, and sees nothing of what is to come.
pub trait Judge {
    /// The verdict at `now` seconds after the canary got its weight; a judge that looks at intervals says
    /// [`Verdict::Continue`] in between.
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict;
}

/// The second at which `judge` rolls back, if it does before the trace ends.
pub fn rolled_back_at(judge: &mut dyn Judge, trace: &Trace) -> Option<u32> {
    trace
        .times()
        .find(|now| judge.look(*now, trace) == Verdict::Rollback)
}

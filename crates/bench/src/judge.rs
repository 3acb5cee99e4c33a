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

    /// After a look: by what was read up to `now` the canary could have all traffic. Only judges that show safety say so.
    fn is_safe(&self, _now: u32) -> bool {
        false
    }
}

/// A rollout of four steps with a minute each gives a canary all traffic after so many seconds at the earliest.
const FULL_TRAFFIC: u32 = 240;

/// What becomes of one canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The second at which it is taken back, if it is before the trace ends.
    pub rolled_back_at: Option<u32>,
    /// It would have had all traffic before.
    pub promoted: bool,
}

/// Lets `judge` look until it rolls back, or the trace ends.
pub fn fate(judge: &mut dyn Judge, trace: &Trace) -> Fate {
    let mut fate = Fate::default();
    for now in trace.times() {
        if judge.look(now, trace) == Verdict::Rollback {
            fate.rolled_back_at = Some(now);
            break;
        }
        fate.promoted = fate.promoted || now >= FULL_TRAFFIC && judge.is_safe(now);
    }
    fate
}

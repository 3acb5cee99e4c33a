//! Memory: the canary's grows on and on, and stable's does not.

use jiff::{SignedDuration, Timestamp};

use super::growth::{Growth, growth};
use super::{Compared, GuardEvidence, Silence, lower_median};
use crate::guard::{PodRuntime, RuntimeBlock};

/// Growth is judged over this time.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(4);
/// A process fills its caches and arenas first: so long after its start that is no leak.
const SETTLES: SignedDuration = SignedDuration::from_secs(120);
/// Growth over less than this many seconds says nothing.
const LEAST_SECONDS: f64 = 150.0;
/// Looks are so far apart that they share at most two thirds of their samples.
const APART: SignedDuration = SignedDuration::from_secs(80);
/// A process that grew by less than this, from the first third of the window to the last, may have done so by chance.
const LEAST_RISE: f64 = 14.0 * 1_048_576.0;
/// A leak is as fast at the next look, within its noise.
const AS_FAST: f64 = 0.6;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.02;
/// Seconds of an hour.
const HOUR: f64 = 3600.0;

impl GuardEvidence {
    /// Takes in a block: the canary's memory may grow by `max_per_hour` bytes more than stable's. What both grow by, in
    /// bytes an hour.
    ///
    /// # Errors
    ///
    /// Why it can't be told.
    pub fn absorb_memory(&mut self, block: &RuntimeBlock, max_per_hour: f64) -> Result<Compared, Silence> {
        let canary = of(&block.canary, block.end, Silence::Canary, Silence::Early)?;
        let stable = of(&block.stable, block.end, Silence::Stable, Silence::StableEarly)?;
        let rates = |all: &[Growth]| lower_median(all.iter().map(|g| g.rate).collect());
        let rate = rates(&canary).ok_or(Silence::Canary)?;
        let beside = rates(&stable).ok_or(Silence::Stable)?;
        let compared = Compared {
            canary: rate * HOUR,
            stable: beside * HOUR,
        };
        let due = self.looked_at.and_then(|at| at.checked_add(APART).ok());
        if due.is_some_and(|due| block.end < due) {
            return Ok(compared);
        }
        // A leak is in the code: most of the canary's pods have it.
        let leaking = canary
            .iter()
            .filter(|g| g.goes_on && g.rise >= LEAST_RISE)
            .count();
        let grows = leaking * 2 > canary.len();
        let slower = self.rate.is_some_and(|before| rate < AS_FAST * before);
        let more = rate * HOUR > beside.max(0.0) * HOUR + max_per_hour && rate > 2.0 * beside;
        self.beyond.absorb(grows && more && !slower, CHANCE);
        self.looked_at = Some(block.end);
        self.rate = Some(rate);
        Ok(compared)
    }
}

/// How each pod grew that has run for long enough.
fn of(pods: &[PodRuntime], end: Timestamp, none: Silence, early: Silence) -> Result<Vec<Growth>, Silence> {
    if pods.iter().all(|pod| pod.memory.is_empty()) {
        return Err(none);
    }
    let grown: Vec<Growth> = pods
        .iter()
        .filter_map(|pod| {
            let in_window = |s: &&super::super::Sample| {
                s.at <= end && end.duration_since(s.at) <= WINDOW && s.at.duration_since(pod.since) >= SETTLES
            };
            let samples: Vec<_> = pod.memory.iter().filter(in_window).copied().collect();
            growth(&samples, LEAST_SECONDS)
        })
        .collect();
    if grown.is_empty() { Err(early) } else { Ok(grown) }
}

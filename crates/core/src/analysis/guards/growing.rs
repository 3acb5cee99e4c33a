//! What leaks: memory, and open files. It grows on and on at the canary, and at stable it does not.

use jiff::{SignedDuration, Timestamp};

use super::super::Sample;
use super::growth::{Growth, growth};
use super::{Compared, GuardEvidence, Silence, lower_median};
use crate::guard::{PodRuntime, RuntimeBlock};

/// Growth is judged over this time.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(4);
/// A process fills its caches, arenas and pools first: so long after its start that is no leak.
const SETTLES: SignedDuration = SignedDuration::from_secs(120);
/// Growth over less than this many seconds says nothing.
const LEAST_SECONDS: f64 = 150.0;
/// Looks are so far apart that they share at most two thirds of their samples.
const APART: SignedDuration = SignedDuration::from_secs(80);
/// A process that grew by fewer bytes than this, from the first third of the window to the last, may have done so by
/// chance.
const LEAST_BYTES: f64 = 14.0 * 1_048_576.0;
/// One that opened fewer files beyond those that it closed, likewise.
const LEAST_FILES: f64 = 24.0;
/// A leak is as fast at the next look, within its noise.
const AS_FAST: f64 = 0.6;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.02;
/// Seconds of an hour.
const HOUR: f64 = 3600.0;

/// How something grew in the pods of a revision that have run for long enough.
struct Grown {
    pods: Vec<Growth>,
    /// Per second, of the pod in the middle.
    rate: f64,
    /// What the pod in the middle came to.
    last: f64,
}

impl GuardEvidence {
    /// Takes in a block: the canary's memory may grow by `max_per_hour` bytes more than stable's. What both grow by, in
    /// bytes an hour.
    ///
    /// # Errors
    ///
    /// Why it can't be told.
    pub fn absorb_memory(&mut self, block: &RuntimeBlock, max_per_hour: f64) -> Result<Compared, Silence> {
        let (canary, stable) = both(block, |pod| &pod.memory)?;
        let more = (canary.rate - stable.rate.max(0.0)) * HOUR > max_per_hour;
        self.look(block.end, &canary, &stable, LEAST_BYTES, more);
        Ok(Compared {
            canary: canary.rate * HOUR,
            stable: stable.rate * HOUR,
        })
    }

    /// Takes in a block in which the revisions served so many requests: a pod of the canary may have `max_ratio` times as many
    /// files open as one of stable's, and more in proportion if it has more requests, for connections are files. How many both
    /// have open.
    ///
    /// # Errors
    ///
    /// Why it can't be told.
    pub fn absorb_files(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
        max_ratio: f64,
    ) -> Result<Compared, Silence> {
        let (canary, stable) = both(block, |pod| &pod.files)?;
        // Where nothing is known of requests, pods are taken to have the same.
        let load = super::load(block, canary_requests, stable_requests).map_or(1.0, |load| load.max(1.0));
        let more = canary.last > max_ratio * load * stable.last + LEAST_FILES;
        self.look(block.end, &canary, &stable, LEAST_FILES, more);
        Ok(Compared {
            canary: canary.last,
            stable: stable.last,
        })
    }

    /// Takes in whether most of the canary's pods grew on and on by `least` or more, twice as fast as stable's, and there is
    /// `more` of it than is allowed; if it is time for a look.
    fn look(&mut self, end: Timestamp, canary: &Grown, stable: &Grown, least: f64, more: bool) {
        let due = self.looked_at.and_then(|at| at.checked_add(APART).ok());
        if due.is_some_and(|due| end < due) {
            return;
        }
        // A leak is in the code: most of the canary's pods have it.
        let leaks = |g: &&Growth| g.goes_on && g.rise >= least;
        let most = canary.pods.iter().filter(leaks).count() * 2 > canary.pods.len();
        let slower = self.rate.is_some_and(|before| canary.rate < AS_FAST * before);
        let faster = canary.rate > 2.0 * stable.rate;
        self.beyond.absorb(most && more && faster && !slower, CHANCE);
        self.looked_at = Some(end);
        self.rate = Some(canary.rate);
    }
}

fn both(block: &RuntimeBlock, samples: fn(&PodRuntime) -> &Vec<Sample>) -> Result<(Grown, Grown), Silence> {
    Ok((
        of(&block.canary, samples, block.end, Silence::Canary, Silence::Early)?,
        of(
            &block.stable,
            samples,
            block.end,
            Silence::Stable,
            Silence::StableEarly,
        )?,
    ))
}

fn of(
    pods: &[PodRuntime],
    samples: fn(&PodRuntime) -> &Vec<Sample>,
    end: Timestamp,
    none: Silence,
    early: Silence,
) -> Result<Grown, Silence> {
    if pods.iter().all(|pod| samples(pod).is_empty()) {
        return Err(none);
    }
    let pods: Vec<Growth> = pods
        .iter()
        .filter_map(|pod| {
            let in_window = |s: &&Sample| {
                s.at <= end && end.duration_since(s.at) <= WINDOW && s.at.duration_since(pod.since) >= SETTLES
            };
            let samples: Vec<_> = samples(pod).iter().filter(in_window).copied().collect();
            growth(&samples, LEAST_SECONDS)
        })
        .collect();
    let middle = |of: fn(&Growth) -> f64| lower_median(pods.iter().map(of).collect());
    let (Some(rate), Some(last)) = (middle(|g| g.rate), middle(|g| g.last)) else {
        return Err(early);
    };
    Ok(Grown { pods, rate, last })
}

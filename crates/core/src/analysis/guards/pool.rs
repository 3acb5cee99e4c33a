//! A pool of threads or workers that has none to spare: requests wait for one, at the canary and not at stable.

use jiff::SignedDuration;

use super::super::Counts;
use super::{Compared, GuardEvidence, Silence, counted, seconds};
use crate::guard::{PodRuntime, RuntimeBlock};

/// The first requests import and fill caches: they hold their threads for longer.
const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// A look covers so many seconds at least, for a gauge has a sample for each scrape only.
const LOOK: f64 = 60.0;
/// Of fewer samples nothing can be told.
const LEAST_SAMPLES: f64 = 4.0;
/// A full pool is one that is full in so many samples.
const MOST: f64 = 0.75;
/// Stable's is full in no more than these.
const SELDOM: f64 = 0.1;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.02;

impl GuardEvidence {
    /// Takes in a block in which the revisions served so many requests: with `max_share` busy a pool is full. The shares of samples
    /// in which it was since the last look; for stable, in which it would have been with the canary's requests.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn absorb_pool(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
        max_share: f64,
    ) -> Result<Compared, Silence> {
        // By Little's law a pod with twice the requests has twice as many threads busy, with the same code.
        let load = super::load(block, canary_requests, stable_requests)?;
        let (canary, stable) = counted(
            block,
            SETTLES,
            |pod| full(pod, max_share),
            |pod| as_loaded(pod, max_share, load),
        )?;
        let before = self.lag.take().unwrap_or_default();
        let all = before.plus(canary, stable, seconds(block));
        let (canary, stable) = all.counts();
        if all.seconds() < LOOK || canary.total() < LEAST_SAMPLES || stable.total() < LEAST_SAMPLES {
            self.lag = Some(all);
            return Err(Silence::Few);
        }
        let compared = Compared {
            canary: canary.ratio().unwrap_or(0.0),
            stable: stable.ratio().unwrap_or(0.0),
        };
        let is_full = compared.canary >= MOST && compared.stable <= SELDOM;
        self.beyond.absorb(is_full, CHANCE);
        Ok(compared)
    }
}

/// The same of a pod of stable's, as it would be with so many times its requests. The law is one of means: where the
/// mean would be full, every sample is.
fn as_loaded(pod: &PodRuntime, max_share: f64, load: f64) -> Option<Counts> {
    let samples = full(pod, max_share / load)?;
    let busy: f64 = pod.busy.iter().filter(|share| share.is_finite()).sum();
    if busy / samples.total() * load >= max_share {
        return Counts::new(samples.total(), samples.total());
    }
    Some(samples)
}

/// Samples of a pod's pool, the full ones as the bad ones.
fn full(pod: &PodRuntime, max_share: f64) -> Option<Counts> {
    let known = || pod.busy.iter().filter(|share| share.is_finite());
    let full = known().filter(|share| **share >= max_share).count();
    Counts::new(known().count() as f64, full as f64).filter(|counts| counts.total() > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::SMALL_FALSE_ALARM;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// When a canary whose pool is so busy at two scrapes of a block is found, in seconds; looked at for 20 minutes.
    fn found(busy: [f64; 2], beside: f64, requests: f64) -> Option<i64> {
        let mut evidence = GuardEvidence::default();
        let pod = |busy: [f64; 2]| PodRuntime {
            since: at(0),
            busy: busy.to_vec(),
            ..PodRuntime::default()
        };
        (1..=40).map(|i| i * 30).find(|end| {
            let block = RuntimeBlock {
                canary: vec![pod(busy)],
                stable: vec![pod([beside; 2]), pod([beside; 2])],
                ..RuntimeBlock::silent(at(end - 30), at(*end))
            };
            let _ = evidence.absorb_pool(&block, requests, 100.0, 0.9);
            evidence.is_shown_by(SMALL_FALSE_ALARM)
        })
    }

    #[test]
    fn a_pool_without_a_thread_to_spare_is_found_and_not_if_stable_has_none_or_the_pod_has_more_to_do() {
        let seconds = found([1.0; 2], 0.5, 50.0).expect("it is found");
        assert!(seconds <= 270, "{seconds}");
        assert_eq!(found([1.0; 2], 0.95, 50.0), None, "stable's is full as well");
        assert_eq!(found([1.0, 0.8], 0.5, 50.0), None, "half of the time");
        assert_eq!(found([1.0; 2], 0.5, 100.0), None, "it has twice the requests");
        assert!(found([1.0; 2], 0.3, 100.0).is_some(), "so many are no reason");
        assert_eq!(found([f64::NAN; 2], 0.3, 50.0), None);
    }
}

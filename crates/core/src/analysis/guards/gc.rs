//! The collector of garbage: the share of time that a process stands still for it.
//!
//! How often it runs says little: a young process collects its few objects more often than an old one with the same code, and cheaply.

use jiff::SignedDuration;

use super::{Compared, GuardEvidence, LOOK, Silence, seconds, settled};
use crate::guard::{PodRuntime, RuntimeBlock};

/// What is imported at the start is collected at the start.
const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// A canary that takes less than so many times stable's share is not worse.
const TWICE: f64 = 2.0;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.02;

impl GuardEvidence {
    /// Takes in a block in which the revisions served so many requests: the collector may take `max_share` of the canary's time, and
    /// twice stable's share, and more in proportion if a pod has more requests. The shares since the last look.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn absorb_gc(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
        max_share: f64,
    ) -> Result<Compared, Silence> {
        let canary = of(&block.canary, block, Silence::Canary, Silence::Early)?;
        let stable = of(&block.stable, block, Silence::Stable, Silence::StableEarly)?;
        let load = super::load(block, canary_requests, stable_requests)?;
        let before = self.chunk.take().unwrap_or_default();
        let chunk = before.plus_idle(canary, stable, seconds(block));
        if chunk.seconds() < LOOK {
            self.chunk = Some(chunk);
            return Err(Silence::Few);
        }
        let (canary, stable) = chunk.usages();
        let is_beyond = canary > max_share && canary > TWICE * load * stable;
        self.beyond.absorb(is_beyond, CHANCE);
        Ok(Compared { canary, stable })
    }
}

/// Seconds of the collector, and of the pods that they are of.
fn of(
    pods: &[PodRuntime],
    block: &RuntimeBlock,
    none: Silence,
    early: Silence,
) -> Result<(f64, f64), Silence> {
    let known = |pod: &PodRuntime| pod.gc.filter(|gc| gc.is_finite() && *gc >= 0.0);
    if pods.iter().all(|pod| known(pod).is_none()) {
        return Err(none);
    }
    let told: Vec<f64> = settled(pods, block.start, SETTLES).filter_map(known).collect();
    if told.is_empty() {
        return Err(early);
    }
    let time = told.len() as f64 * seconds(block);
    Ok((f64::min(told.iter().sum(), f64::MAX), time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::SMALL_FALSE_ALARM;
    use jiff::Timestamp;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// When a canary whose collector takes so many seconds of a block of 30 is found; looked at for 20 minutes.
    fn found(gc: f64, beside: f64, requests: f64) -> Option<i64> {
        let mut evidence = GuardEvidence::default();
        let pod = |gc: f64| PodRuntime {
            since: at(0),
            gc: Some(gc),
            ..PodRuntime::default()
        };
        (1..=40).map(|i| i * 30).find(|end| {
            let block = RuntimeBlock {
                canary: vec![pod(gc)],
                stable: vec![pod(beside), pod(beside)],
                ..RuntimeBlock::silent(at(end - 30), at(*end))
            };
            let _ = evidence.absorb_gc(&block, requests, 100.0, 0.05);
            evidence.is_shown_by(SMALL_FALSE_ALARM)
        })
    }

    #[test]
    fn a_collector_that_takes_a_tenth_of_the_time_is_found_and_not_if_stables_does() {
        let seconds = found(3.0, 0.3, 50.0).expect("it is found");
        assert!(seconds <= 180, "{seconds}");
        assert_eq!(found(3.0, 2.0, 50.0), None, "less than twice stable's");
        assert_eq!(found(1.2, 0.1, 50.0), None, "4 % are allowed");
        assert_eq!(found(3.0, 1.0, 100.0), None, "it has twice the requests");
        assert_eq!(found(3.0, 0.3, f64::NAN), None, "nothing is known of requests");
    }

    #[test]
    fn what_is_not_measured_says_nothing() {
        let mut evidence = GuardEvidence::default();
        let dumb = RuntimeBlock {
            canary: vec![PodRuntime::default()],
            ..RuntimeBlock::silent(at(570), at(600))
        };
        assert_eq!(evidence.absorb_gc(&dumb, 1.0, 1.0, 0.05), Err(Silence::Canary));
        let broken = RuntimeBlock {
            canary: vec![PodRuntime {
                gc: Some(f64::NAN),
                ..PodRuntime::default()
            }],
            ..dumb
        };
        assert_eq!(evidence.absorb_gc(&broken, 1.0, 1.0, 0.05), Err(Silence::Canary));
        assert_eq!(evidence.looks(), (0, 0));
    }
}

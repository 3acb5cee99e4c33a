//! Readiness that comes and goes: how often pods that served stopped doing so.
//!
//! Each loss of readiness is told by the kubelet with its time, in whole seconds; only the last one of a pod is known, so
//! they are counted as they are seen. What nobody saw is not counted.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GuardEvidence;

/// So many losses of readiness are no chance, if stable's pods have far fewer each.
const LEAST: u32 = 3;
/// So many times stable's, for each pod.
const RATIO: f64 = 2.0;

/// Losses of readiness since users came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Flaps {
    canary: Lost,
    stable: Lost,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Lost {
    /// How often.
    times: u32,
    /// When last; earlier ones have been counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

impl Lost {
    fn absorb(&mut self, seen: &[Timestamp], since: Timestamp) {
        let is_new = |at: &&Timestamp| **at >= since && self.at.is_none_or(|last| **at > last);
        let news: Vec<Timestamp> = seen.iter().filter(is_new).copied().collect();
        self.times = self
            .times
            .saturating_add(u32::try_from(news.len()).unwrap_or(u32::MAX));
        self.at = news.into_iter().max().or(self.at);
    }
}

impl GuardEvidence {
    /// Takes in when each pod that is not ready now, and was, lost its readiness; those before `since` don't count.
    pub fn absorb_flaps(&mut self, canary: &[Timestamp], stable: &[Timestamp], since: Timestamp) {
        let mut flaps = self.flaps.unwrap_or_default();
        flaps.canary.absorb(canary, since);
        flaps.stable.absorb(stable, since);
        self.flaps = Some(flaps);
    }

    /// How often the canary's pods lost their readiness, and stable's.
    pub fn flaps(&self) -> (u32, u32) {
        self.flaps.map_or((0, 0), |f| (f.canary.times, f.stable.times))
    }
}

/// So many unhappy ends at the canary are no chance beside those at stable, each among so many pods.
pub fn far_more(canary: u32, canary_pods: u32, stable: u32, stable_pods: u32) -> bool {
    let each = |times: u32, pods: u32| f64::from(times) / f64::from(pods.max(1));
    canary > 0 && each(canary, canary_pods) > RATIO * each(stable, stable_pods)
}

/// The canary's pods lose their readiness again and again, and stable's do not.
pub fn flapping(canary: u32, canary_pods: u32, stable: u32, stable_pods: u32) -> bool {
    canary >= LEAST && far_more(canary, canary_pods, stable, stable_pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_loss_is_counted_once_and_those_before_users_came_are_not() {
        let mut evidence = GuardEvidence::default();
        evidence.absorb_flaps(&[at(5)], &[], at(10));
        assert_eq!(evidence.flaps(), (0, 0));
        for _ in 0..5 {
            evidence.absorb_flaps(&[at(20), at(20)], &[at(30)], at(10));
        }
        assert_eq!(evidence.flaps(), (2, 1));
        evidence.absorb_flaps(&[at(15), at(40)], &[], at(10));
        assert_eq!(evidence.flaps(), (3, 1));
    }

    #[test]
    fn what_stable_does_as_well_is_no_harm() {
        assert!(flapping(3, 1, 0, 4) && flapping(3, 1, 5, 4));
        assert!(!flapping(2, 1, 0, 4) && !flapping(3, 1, 6, 4) && !flapping(6, 4, 5, 4));
        assert!(!far_more(0, 0, 0, 0) && far_more(2, 2, 0, 0));
    }
}

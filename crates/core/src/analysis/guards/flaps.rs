//! Readiness that comes and goes: how often pods that served stopped doing so.
//!
//! Each loss of readiness is told by the kubelet with its time, in whole seconds; only the last one of a pod is known, so
//! they are counted as they are seen. What nobody saw is not counted.
//!
//! If the canary is as stable is, the next pod to lose its readiness is one of the canary's with the probability that its part of the
//! pods has, whenever that is and however often it happens: on that each loss is a bet, as a look is for the other guards.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GuardEvidence;

/// So many times stable's, for each pod, is far more.
const RATIO: f64 = 2.0;
/// Where the canary has more of the pods than this, stable has too few to tell.
const MOST_PODS: f64 = 0.75;

/// What is seen of a revision's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses<'a> {
    /// When each pod that is not ready now, and was, lost its readiness.
    pub at: &'a [Timestamp],
    /// How many pods there are.
    pub pods: u32,
}

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
    /// Those that are new.
    fn absorb(&mut self, seen: &[Timestamp], since: Timestamp) -> Vec<Timestamp> {
        let is_new = |at: &&Timestamp| **at >= since && self.at.is_none_or(|last| **at > last);
        let news: Vec<Timestamp> = seen.iter().filter(is_new).copied().collect();
        self.times = self
            .times
            .saturating_add(u32::try_from(news.len()).unwrap_or(u32::MAX));
        self.at = news.iter().copied().max().or(self.at);
        news
    }
}

impl GuardEvidence {
    /// Takes in what is seen of both revisions' pods; what was before `since` doesn't count.
    pub fn absorb_flaps(&mut self, canary: Losses<'_>, stable: Losses<'_>, since: Timestamp) {
        let mut flaps = self.flaps.unwrap_or_default();
        let of_canary = flaps.canary.absorb(canary.at, since);
        let of_stable = flaps.stable.absorb(stable.at, since);
        self.flaps = Some(flaps);
        let part = f64::from(canary.pods) / f64::from(canary.pods.saturating_add(stable.pods));
        if !(part > 0.0 && part <= MOST_PODS) {
            return;
        }
        let of = |lost: Vec<Timestamp>, canary: bool| lost.into_iter().map(move |at| (at, canary));
        let mut all: Vec<_> = of(of_canary, true).chain(of(of_stable, false)).collect();
        all.sort_unstable();
        for (_, canary) in all {
            self.beyond.absorb(canary, part);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn each_loss_is_counted_once_and_those_before_users_came_are_not() {
        let mut evidence = GuardEvidence::default();
        evidence.absorb_flaps(lost(&[at(5)], 1), lost(&[], 4), at(10));
        assert_eq!(evidence.flaps(), (0, 0));
        for _ in 0..5 {
            evidence.absorb_flaps(lost(&[at(20), at(20)], 1), lost(&[at(30)], 4), at(10));
        }
        assert_eq!(evidence.flaps(), (2, 1));
        evidence.absorb_flaps(lost(&[at(15), at(40)], 1), lost(&[], 4), at(10));
        assert_eq!(evidence.flaps(), (3, 1));
        assert_eq!(evidence.looks(), (4, 3));
    }

    fn lost(at: &[Timestamp], pods: u32) -> Losses<'_> {
        Losses { at, pods }
    }

    /// How many losses of the canary's pods alone show that it is worse.
    fn needed(canary_pods: u32, stable_pods: u32) -> Option<i64> {
        let mut evidence = GuardEvidence::default();
        (1..100).find(|second| {
            evidence.absorb_flaps(lost(&[at(*second)], canary_pods), lost(&[], stable_pods), at(0));
            evidence.is_shown()
        })
    }

    #[test]
    fn what_stable_does_as_well_is_no_harm_and_many_pods_need_many_losses() {
        assert_eq!(
            (needed(1, 4), needed(2, 4), needed(3, 3)),
            (Some(5), Some(8), Some(13))
        );
        assert_eq!(
            (needed(4, 0), needed(0, 4)),
            (None, None),
            "nothing to compare with"
        );
        let mut evidence = GuardEvidence::default();
        for second in 1..100 {
            let stable: Vec<Timestamp> = vec![at(second); 4];
            evidence.absorb_flaps(lost(&[at(second)], 1), lost(&stable, 4), at(0));
        }
        assert!(!evidence.is_shown());
        assert!(!far_more(0, 0, 0, 0) && far_more(2, 2, 0, 0));
    }
}

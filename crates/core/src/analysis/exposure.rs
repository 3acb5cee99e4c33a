//! Whether the canary answers at all.
//!
//! Frameworks count a request when it is over. A canary that takes requests and never answers shows no failed
//! request: it shows none. So the share of requests that it completes is evidence as well, beside the share
//! that its weight should bring.
//!
//! Counted at the pods, the share is not the weight: callers inside the cluster may go to stable past the
//! route, sessions may stick. So completing nothing is the only thing that speaks against the canary here, at
//! half the share that it had so far, or half of half its weight before it had any. A share that merely
//! disagrees with the weight, below half or above twice, holds the next step and blames nobody.
//!
//! A canary that has all the traffic has nobody beside it. There a silence is compared with the requests that
//! came so far: a deadlock under full load leaves no failed request behind, and nobody would be served until
//! somebody noticed. That the callers have stopped can't be told from it, so it takes three empty blocks at
//! least, and more where there were empty ones before.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exact;

/// The share that is expected before anything is known, as a part of the weight, and how many requests that
/// expectation is worth.
const PRIOR: (f64, f64) = (0.5, 5.0);
/// The least part of its weight that a canary is expected to serve.
const LEAST_PART: f64 = 0.05;
/// The mean number of blocks after which a canary that answered is expected to stop.
const LATE_BLOCKS: f64 = 480.0;
/// The stake on a canary that never answers from the first block on.
const AT_ONCE: f64 = 0.5;
/// A silence under full weight is expected to begin in one block of so many.
const ALONE_BLOCKS: f64 = 40.0;
/// The least part of the requests so far that callers go on sending.
const LEAST_TRAFFIC: f64 = 0.25;
/// `ln 1000`: a disagreement is told of at 99.9 %.
const LN_DISAGREES: f64 = 6.907_755_278_982_137;

/// What was seen of the canary's share of requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Exposure {
    /// Blocks under a weight in which anything was served.
    blocks: u32,
    /// Blocks under a weight in which nothing was.
    empty: u32,
    /// Requests that both completed in all of these blocks.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    requests: f64,
    /// How long these blocks were together.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    seconds: f64,
    /// Requests that the canary completed in them.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    completed: f64,
    /// Requests that its weight would have brought.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    due: f64,
    /// Of these, what came since it last answered: a silence does not lower what is expected.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    due_in_silence: f64,
    /// Logarithm of the evidence that it no longer answers; absent while it does.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    ln_silent: Option<f64>,
    /// Logarithm of the evidence that its share is below half its weight.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    ln_below: f64,
    /// Logarithm of the evidence that its share is above twice its weight.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    ln_above: f64,
}

impl Default for Exposure {
    fn default() -> Self {
        Self {
            blocks: 0,
            empty: 0,
            requests: 0.0,
            seconds: 0.0,
            completed: 0.0,
            due: 0.0,
            due_in_silence: 0.0,
            ln_silent: None,
            ln_below: 0.0,
            ln_above: 0.0,
        }
    }
}

impl Exposure {
    /// Takes in a block of so many seconds: requests completed by the canary and by stable under a weight
    /// above 0 and below 1.
    pub(super) fn absorb(&mut self, canary: f64, stable: f64, weight: f64, seconds: f64) {
        if weight <= 0.0 || weight >= 1.0 {
            return;
        }
        self.count(canary + stable, seconds);
        if canary + stable <= 0.0 {
            return;
        }
        let due = weight * (canary + stable);
        if canary > 0.0 {
            self.ln_silent = None;
            self.due_in_silence = 0.0;
        } else {
            // As with late harm: the stake on a silence that begins now joins the silence that goes on.
            let stake = ln_stake(self.blocks.saturating_sub(1));
            let before = self.ln_silent.map_or(f64::NEG_INFINITY, |ln| ln);
            let most = before.max(stake);
            let joined = most + ((before - most).exp() + (stake - most).exp()).ln();
            self.ln_silent = Some(joined - stable * (-self.expected(weight)).ln_1p());
        }
        let bet = |null: f64, share: f64| {
            canary * (share / null).ln() + stable * ((1.0 - share) / (1.0 - null)).ln()
        };
        self.ln_below += bet(weight / 2.0, weight / 4.0);
        if weight < 0.25 {
            self.ln_above += bet(weight * 2.0, weight * 3.0);
        }
        self.completed += canary;
        self.due += due;
        if canary <= 0.0 {
            self.due_in_silence += due;
        }
    }

    /// Takes in a block of so many seconds in which the canary had all the traffic.
    pub(super) fn absorb_alone(&mut self, canary: f64, seconds: f64) {
        if canary > 0.0 {
            self.ln_silent = None;
            self.due_in_silence = 0.0;
            self.count(canary, seconds);
        } else if self.requests > 0.0 {
            let due = LEAST_TRAFFIC * self.requests * seconds / self.seconds;
            let empty = f64::from(self.empty) + 1.0;
            let usual = empty / (f64::from(self.blocks) + empty + 1.0);
            let chance = (-due).exp().max(usual);
            let before = self.ln_silent.unwrap_or(-ALONE_BLOCKS.ln());
            self.ln_silent = Some(before - chance.ln());
        }
    }

    fn count(&mut self, requests: f64, seconds: f64) {
        let kind = if requests > 0.0 {
            &mut self.blocks
        } else {
            &mut self.empty
        };
        *kind = kind.saturating_add(1);
        self.requests += requests;
        self.seconds += seconds;
    }

    /// The share that a canary which answers has at the least: half of what it had so far.
    fn expected(&self, weight: f64) -> f64 {
        let (part, worth) = PRIOR;
        let part = (self.completed + part * worth) / (self.due - self.due_in_silence + worth);
        weight * part.clamp(LEAST_PART, 1.0) / 2.0
    }

    /// Logarithm of the evidence that the canary does not answer; 0 while it does.
    pub(super) fn ln_silent(&self) -> f64 {
        self.ln_silent.unwrap_or(0.0)
    }

    /// The canary's share as a part of its weight, where it lies outside a half and twice beyond doubt.
    pub(super) fn disagrees(&self) -> Option<f64> {
        (self.ln_below >= LN_DISAGREES || self.ln_above >= LN_DISAGREES).then(|| self.completed / self.due)
    }
}

fn ln_stake(block: u32) -> f64 {
    if block == 0 {
        AT_ONCE.ln()
    } else {
        (1.0 - AT_ONCE).ln() + f64::from(block - 1) * (1.0 - 1.0 / LATE_BLOCKS).ln() - LATE_BLOCKS.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(blocks: &[(f64, f64)], weight: f64) -> Exposure {
        let mut exposure = Exposure::default();
        for (canary, stable) in blocks {
            exposure.absorb(*canary, *stable, weight, 15.0);
        }
        exposure
    }

    #[test]
    fn a_canary_that_never_answers_is_known_within_two_blocks() {
        // 20 requests a second at a weight of 5 %, blocks of 15 s: 30 s.
        let silent = after(&[(0.0, 285.0); 2], 0.05);
        assert!(silent.ln_silent() > 100f64.ln(), "{}", silent.ln_silent());
        // With blocks of 30 s, one is enough.
        assert!(after(&[(0.0, 570.0)], 0.05).ln_silent() > 100f64.ln());
    }

    #[test]
    fn a_canary_that_stops_answering_is_known_within_two_blocks() {
        let mut blocks = vec![(30.0, 270.0); 200];
        blocks.extend([(0.0, 270.0); 2]);
        let stopped = after(&blocks, 0.1);
        assert!(stopped.ln_silent() > 100f64.ln(), "{}", stopped.ln_silent());
        blocks.push((1.0, 270.0));
        assert_eq!(after(&blocks, 0.1).ln_silent().to_bits(), 0);
    }

    #[test]
    fn a_few_requests_may_all_go_to_stable() {
        // 15 requests a block at 5 %: less than one was due in each.
        assert!(after(&[(0.0, 15.0); 4], 0.05).ln_silent() < 100f64.ln());
    }

    #[test]
    fn callers_past_the_route_hold_a_step_and_blame_nobody() {
        // A canary at 10 % that sees a tenth of its share.
        let diluted = after(&[(3.0, 297.0); 40], 0.1);
        assert_eq!(diluted.ln_silent().to_bits(), 0);
        assert!((diluted.disagrees().unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(after(&[(30.0, 270.0); 40], 0.1).disagrees(), None);
        assert!(after(&[(90.0, 210.0); 40], 0.1).disagrees().unwrap() > 2.0);
    }

    proptest! {
        #[test]
        fn the_evidence_stays_finite_and_comes_back(
            blocks in prop::collection::vec((prop_oneof![Just(0.0), 0.0..1e9f64], 0.0..1e9f64), 0..50),
            weight in 1..100u8,
        ) {
            let exposure = after(&blocks, f64::from(weight) / 100.0);
            prop_assert!(exposure.ln_silent().is_finite() && exposure.ln_below.is_finite());
            let text = serde_json::to_string(&exposure).unwrap();
            prop_assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), exposure);
        }
    }
}

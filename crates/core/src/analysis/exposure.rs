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
/// At the route, a canary that answers less than this part of what is due to it is harmful.
const SHORT: f64 = 0.5;
/// The part that the bet against it supposes.
const SHORT_BET: f64 = 1.0 / 3.0;
/// The largest share that is taken for due, so that what stable answers has a likelihood.
const MOST_DUE: f64 = 0.99;
/// `ln 1000`: a disagreement is told of at 99.9 %.
const LN_DISAGREES: f64 = 6.907_755_278_982_137;

/// What the proxies of a route say beside the answers that they count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AtRoute {
    /// Requests that they sent to the canary and to stable in the block, answered or not: finite, not
    /// negative. `None` where only answers are counted.
    pub sent: Option<(f64, f64)>,
}

impl AtRoute {
    /// The share of the answers that is due to a canary with this weight; `None` when nothing was sent to it.
    fn due(self, weight: f64) -> Option<f64> {
        match self.sent {
            Some((canary, stable)) if canary + stable > 0.0 => {
                let share = canary / (canary + stable);
                (share > 0.0).then_some(share.min(MOST_DUE))
            }
            _ => Some(weight),
        }
    }
}

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
    /// Logarithm of the evidence that it answers less than half of what is due to it at the route; absent
    /// where requests are not counted there.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    ln_short: Option<f64>,
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
            ln_short: None,
            ln_below: 0.0,
            ln_above: 0.0,
        }
    }
}

impl Exposure {
    /// Takes in a block of so many seconds: requests completed by the canary and by stable under a weight
    /// above 0 and below 1, and what else is known where they were counted at the route.
    pub(super) fn absorb(
        &mut self,
        canary: f64,
        stable: f64,
        weight: f64,
        seconds: f64,
        at_route: Option<AtRoute>,
    ) {
        if weight <= 0.0 || weight >= 1.0 {
            return;
        }
        self.count(canary + stable, seconds);
        if canary + stable <= 0.0 {
            return;
        }
        let due = weight * (canary + stable);
        let at_least = match at_route {
            None => Some(self.expected(weight)),
            Some(at_route) => at_route.due(weight).map(|due| answers(due, SHORT)),
        };
        if canary > 0.0 {
            self.ln_silent = None;
            self.due_in_silence = 0.0;
        } else if let Some(at_least) = at_least {
            // As with late harm: the stake on a silence that begins now joins the silence that goes on.
            let joined = joined(self.ln_silent, ln_stake(self.blocks.saturating_sub(1)));
            self.ln_silent = Some(joined - stable * (-at_least).ln_1p());
        }
        let bet = |null: f64, share: f64| {
            canary * (share / null).ln() + stable * ((1.0 - share) / (1.0 - null)).ln()
        };
        if let Some(due) = at_route.and_then(|at_route| at_route.due(weight)) {
            let joined = joined(self.ln_short, ln_stake(self.blocks.saturating_sub(1)));
            self.ln_short = Some(joined + bet(answers(due, SHORT), answers(due, SHORT_BET)));
        }
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

    /// Forgets what the canary left unanswered.
    pub(super) fn begin_anew(&mut self) {
        self.ln_silent = None;
        self.due_in_silence = 0.0;
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

    /// Logarithm of the evidence that the canary answers less than half of what is due to it at the route, or
    /// nothing; `None` where requests are not counted there.
    pub(super) fn ln_short(&self) -> Option<f64> {
        let silent = self.ln_silent.unwrap_or(f64::NEG_INFINITY);
        self.ln_short.map(|ln| ln.max(silent))
    }

    /// The canary's share as a part of its weight, where it lies outside a half and twice beyond doubt.
    pub(super) fn disagrees(&self) -> Option<f64> {
        (self.ln_below >= LN_DISAGREES || self.ln_above >= LN_DISAGREES).then(|| self.completed / self.due)
    }
}

/// The canary's share of all answers, if it answers this part of what is due to it and stable everything.
fn answers(due: f64, part: f64) -> f64 {
    part * due / (1.0 - due + part * due)
}

/// The logarithm of the sum of the evidence so far, if there is any, and of a new stake.
fn joined(ln_before: Option<f64>, ln_stake: f64) -> f64 {
    let before = ln_before.unwrap_or(f64::NEG_INFINITY);
    let most = before.max(ln_stake);
    most + ((before - most).exp() + (ln_stake - most).exp()).ln()
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
            exposure.absorb(*canary, *stable, weight, 15.0, None);
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

    /// Blocks of what was sent to both and answered by both, counted at the route.
    fn at_route(blocks: &[[f64; 4]], weight: f64) -> Exposure {
        let mut exposure = Exposure::default();
        for [sent_canary, sent_stable, canary, stable] in blocks {
            let sent = Some((*sent_canary, *sent_stable));
            exposure.absorb(*canary, *stable, weight, 15.0, Some(AtRoute { sent }));
        }
        exposure
    }

    #[test]
    fn a_third_of_the_answers_is_harm_at_the_route_and_blames_nobody_at_the_pods() {
        let short = at_route(&[[60.0, 540.0, 20.0, 540.0]; 5], 0.1);
        assert!(short.ln_short().unwrap() > 1000f64.ln(), "{short:?}");
        assert_eq!(after(&[(20.0, 540.0); 4], 0.1).ln_short(), None);
        // Late, after hours of good answers, it is found as well.
        let mut blocks = vec![[60.0, 540.0, 60.0, 540.0]; 400];
        assert!(at_route(&blocks, 0.1).ln_short().unwrap() < 0.0);
        blocks.extend([[60.0, 540.0, 20.0, 540.0]; 10]);
        assert!(at_route(&blocks, 0.1).ln_short().unwrap() > 1000f64.ln());
    }

    #[test]
    fn what_the_proxies_send_is_what_is_due() {
        // Sessions stick to stable: the canary gets a tenth of its weight, and answers all of it.
        let sticky = at_route(&[[6.0, 594.0, 6.0, 594.0]; 40], 0.1);
        assert!(sticky.ln_short().unwrap() < 0.0 && sticky.disagrees().is_some());
        // Nothing is sent to it, so nothing is missing.
        let idle = at_route(&[[0.0, 600.0, 0.0, 600.0]; 40], 0.1);
        assert_eq!((idle.ln_short(), idle.ln_silent().to_bits()), (None, 0));
        // One block is enough where it answers nothing.
        let hangs = at_route(&[[60.0, 540.0, 0.0, 540.0]], 0.1);
        assert!(hangs.ln_short().unwrap() > 200f64.ln() && hangs.ln_silent() > 200f64.ln());
        // Without what was sent the weight says it.
        let mut exposure = Exposure::default();
        exposure.absorb(10.0, 540.0, 0.1, 15.0, Some(AtRoute::default()));
        exposure.absorb(10.0, 540.0, 0.1, 15.0, Some(AtRoute::default()));
        assert!(exposure.ln_short().unwrap() > 100f64.ln());
    }

    /// Under a canary that answers just half of what is due, the evidence is a supermartingale: its mean over
    /// all outcomes of a block is at most 1.
    #[test]
    fn half_of_the_answers_is_no_evidence_in_the_mean() {
        for (n, weight) in [(8, 0.1), (12, 0.5), (5, 0.9)] {
            let null = answers(weight, SHORT);
            let mut mean = 0.0;
            let mut ways = 1.0;
            for k in 0..=n {
                if k > 0 {
                    ways *= f64::from(n - k + 1) / f64::from(k);
                }
                let (canary, stable) = (f64::from(k), f64::from(n - k));
                let mut exposure = Exposure::default();
                exposure.absorb(canary, stable, weight, 15.0, Some(AtRoute::default()));
                // Half of the stake is kept for later blocks.
                let evidence = AT_ONCE + exposure.ln_short.unwrap().exp();
                mean += ways * null.powi(k) * (1.0 - null).powi(n - k) * evidence;
            }
            assert!((mean - 1.0).abs() < 1e-9, "{n} {weight}: {mean}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_keeps_the_evidence_finite(
            blocks in prop::collection::vec([0.0..1e9f64, 0.0..1e9f64, 0.0..1e9f64, 0.0..1e9f64], 0..30),
            weight in 1..100u8,
        ) {
            let exposure = at_route(&blocks, f64::from(weight) / 100.0);
            prop_assert!(exposure.ln_short.is_none_or(f64::is_finite) && exposure.ln_silent().is_finite());
            let text = serde_json::to_string(&exposure).unwrap();
            prop_assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), exposure);
        }

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

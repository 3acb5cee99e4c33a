//! Whether the canary answers at all.
//!
//! Frameworks count a request when it is over. A canary that takes requests and never answers shows no failed
//! request: it shows none. So the share of requests that it completes is evidence as well, beside the share
//! that its weight should bring.
//!
//! Counted at the pods, the share is not the weight: callers inside the cluster may go to stable past the
//! route, sessions may stick. So completing nothing is the only thing that speaks against the canary here, at
//! half the share that it had so far, or half of half its weight before it had any. A share that merely
//! disagrees with the weight holds the next step and blames nobody: one that is clearly less than a canary
//! would have that answers everything, or beyond doubt below half or above twice its weight. Before full
//! traffic the opposite must be shown, that it completes more than 77 % of its share. Proxies choose a backend for each request, so a healthy canary's share scatters little around its weight; where it scatters
//! more, as with clients that keep their connections, the requests count for that much less (see `share`).
//!
//! Counted at the route nobody comes past, and less than four fifths is harm. Both are asked only of blocks
//! that begin a while after the router has had the weight: answers follow their requests, and scrapes follow answers.
//!
//! A canary that has all the traffic has nobody beside it. There a silence is compared with the requests that
//! came so far: a deadlock under full load leaves no failed request behind, and nobody would be served until
//! somebody noticed. That the callers have stopped can't be told from it, so the first such block only has
//! stable asked again (see `flow`); by itself it takes three at least, and more where there were empty ones before. Where all users move at once, the hour before tells what came.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exact;
use super::flow::Flow;
use super::past::PastFlow;
use super::share::{Answers, LN_MOST_ENOUGH, Scatter, Short, answers, joined};

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
/// At the route, a canary that answers is expected to answer this part of what is due to it at the least.
const ANSWERING: f64 = 0.5;
/// For so many seconds counters are too young for their silence to convict: two short blocks, or one of the default's.
const YOUNG: f64 = 20.0;
/// So many standard deviations are no chance, although they are looked for after each block.
const CHANCE: f64 = 4.0;
/// The largest share that is taken for due, so that what stable answers has a likelihood.
const MOST_DUE: f64 = 0.99;
/// `ln 1000`: a disagreement is told of at 99.9 %. So of a thousand canaries that answer everything one is ever
/// held for too small a share, for a while.
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
    /// Requests are counted at the route.
    #[serde(default)]
    at_route: bool,
    /// The evidence that it answers less than four fifths of what is due to it at the route.
    #[serde(default)]
    short: Short,
    /// Logarithm of the evidence that it answers more.
    #[serde(default, with = "exact")]
    #[schemars(with = "String")]
    ln_enough: f64,
    /// Answers of the canary's that are missing beside stable's, by the share that is due to it.
    #[serde(default, with = "exact")]
    #[schemars(with = "String")]
    missing: f64,
    /// The variance of that where none is missing and each request goes its own way.
    #[serde(default, with = "exact")]
    #[schemars(with = "String")]
    missing_variance: f64,
    /// How much its share scatters.
    #[serde(default)]
    scatter: Scatter,
    /// How many requests are answered at all.
    #[serde(default)]
    flow: Flow,
    /// Logarithm of the evidence that its share is below half its weight, by whomever it was sent.
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
            at_route: false,
            short: Short::default(),
            ln_enough: 0.0,
            missing: 0.0,
            missing_variance: 0.0,
            scatter: Scatter::default(),
            flow: Flow::default(),
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
        self.hear(canary, stable, weight, at_route);
        let bet = |null: f64, share: f64| {
            canary * (share / null).ln() + stable * ((1.0 - share) / (1.0 - null)).ln()
        };
        self.at_route = at_route.is_some();
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

    /// Whether the canary answers at all in a block in which it had this weight, above 0 and below 1, at the least: of one in
    /// which the weight rises that is known as well.
    pub(super) fn hear(&mut self, canary: f64, stable: f64, weight: f64, at_route: Option<AtRoute>) {
        if weight <= 0.0 || weight >= 1.0 {
            return;
        }
        let at_least = match at_route {
            None => Some(self.expected(weight)),
            Some(at_route) => at_route.due(weight).map(|due| answers(due, ANSWERING)),
        };
        if canary > 0.0 {
            self.ln_silent = None;
            self.due_in_silence = 0.0;
        } else if let Some(at_least) = at_least {
            // As with late harm: the stake on a silence that begins now joins the silence that goes on.
            let joined = joined(self.ln_silent, ln_stake(self.blocks.saturating_sub(1)));
            self.ln_silent = Some(joined - stable * (-at_least).ln_1p());
        }
    }

    /// Takes what was answered before the attempt, in blocks of so many seconds, for what is usual.
    pub(super) fn know(&mut self, past: &PastFlow, seconds: f64) {
        if past.requests > 0.0 && seconds > 0.0 {
            self.blocks = past.blocks;
            self.empty = past.empty;
            self.requests = past.requests;
            self.seconds = f64::from(past.blocks.saturating_add(past.empty)) * seconds;
            self.flow.know(past, seconds);
        }
    }

    /// Forgets what the canary left unanswered.
    pub(super) fn begin_anew(&mut self) {
        self.ln_silent = None;
        self.due_in_silence = 0.0;
        self.flow.begin_anew();
    }

    /// The part of the usual flow of requests that is left to a canary with all the traffic, where it has fallen.
    pub(super) fn fallen(&self) -> Option<f64> {
        self.flow.fallen()
    }

    /// A canary with all the traffic answered hardly anything in a whole block, in which many requests were usual.
    pub(super) fn has_stopped(&self) -> bool {
        self.flow.has_stopped()
    }

    /// Counts what was answered in a block of so many seconds in which the weight had settled.
    pub(super) fn flow(&mut self, requests: f64, seconds: f64, alone: bool) {
        self.flow.absorb(requests, seconds, alone);
    }

    /// Weighs what was answered in such a block against what was due, where the weight has settled.
    pub(super) fn weigh(&mut self, canary: f64, stable: f64, weight: f64, at_route: Option<AtRoute>) {
        if weight <= 0.0 || weight >= 1.0 || canary + stable <= 0.0 {
            return;
        }
        let Some(due) = at_route.map_or(Some(weight), |at_route| at_route.due(weight)) else {
            return;
        };
        // Both are counts of Poisson's kind, the canary's with this many for each of stable's.
        let odds = due / (1.0 - due);
        self.missing += stable * odds - canary;
        self.missing_variance += stable * odds * (1.0 + odds);
        let worth = self.scatter.absorb(Answers { canary, stable, due }, weight);
        if at_route.is_some() {
            self.short.absorb(worth, ln_stake(self.blocks.saturating_sub(1)));
        }
        let ln_enough = self.ln_enough + worth.ln_enough();
        self.ln_enough = ln_enough.clamp(-LN_MOST_ENOUGH, LN_MOST_ENOUGH);
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

    /// Logarithm of the evidence that the canary does not answer; 0 while it does. Where pods count, nothing in the first
    /// seconds: one of several workers that had no request yet may have answered both scrapes.
    pub(super) fn ln_silent(&self) -> f64 {
        self.ln_silent.filter(|_| !self.is_young()).unwrap_or(0.0)
    }

    /// Pods count, and have for a few seconds only: what they tell may be of one of several workers.
    pub(super) fn is_young(&self) -> bool {
        !self.at_route && self.seconds < YOUNG
    }

    /// Logarithm of the evidence that the canary answers less than four fifths of what is due to it at the
    /// route, or nothing; `None` where requests are not counted there.
    pub(super) fn ln_short(&self) -> Option<f64> {
        let both = [self.short.ln(), self.ln_silent];
        both.into_iter()
            .flatten()
            .filter(|_| self.at_route)
            .reduce(f64::max)
    }

    /// The canary's share as a part of its weight, where it is clearly less than due, or lies below half its
    /// weight or above twice beyond doubt.
    pub(super) fn disagrees(&self) -> Option<f64> {
        let disagrees =
            self.ln_enough <= -LN_DISAGREES || self.ln_below >= LN_DISAGREES || self.ln_above >= LN_DISAGREES;
        disagrees.then(|| self.completed / self.due)
    }

    /// Answers that are missing beside stable's, beyond what chance does to so many (four standard deviations); 0 where
    /// that is none.
    pub(super) fn missing(&self) -> f64 {
        let beyond_chance = self.missing >= CHANCE * self.missing_variance.max(0.0).sqrt();
        if beyond_chance { self.missing.max(0.0) } else { 0.0 }
    }

    /// Logarithm of the evidence that the canary answers more than 77 % of what is due to it: at most
    /// a million's.
    pub(super) fn ln_enough(&self) -> f64 {
        self.ln_enough
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
#[path = "exposure_tests.rs"]
mod tests;

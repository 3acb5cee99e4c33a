//! What an attempt has gathered for one objective; persisted in the status.
//!
//! The formulas are those of `e_process`; the bets are made from the blocks before, so that Ville's
//! inequality holds at every block, through changes of weight and through drifts of both arms' rate.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bets::{Beside, HarmBets, ln_add};
use super::clustering::{Clustering, PodCounts, Worth};
use super::exposure::{AtRoute, Exposure};
use super::past::Past;
use super::safety::Safety;
use super::windows::{Windows, least_factor};
use super::{Counts, Objective, exact, plug_in};
use edge::Held;

/// One-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.644_853_626_951_472_2;

/// The share of the stake on harm that waits for a bake to make it suspect.
const STAKE_AGAIN: f64 = 0.05;
/// The largest harm that there is to refute.
const MOST_MARGIN: f64 = 0.5;

/// Counts between two edges of the grid, `(start, end]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// The canary's weight in percent that the router had acknowledged for all of the block, 0 to 100; a
    /// block at weight 0 (warm-up, mirrored traffic) is no evidence.
    pub canary_weight: u8,
    /// The router had just that weight for all of the block: only then is the canary's share of requests
    /// evidence.
    pub weight_in_force: bool,
    /// The router had it for half a block before as well. What pods count up to an edge are their last scrapes before it,
    /// so a block begins up to a scrape interval early; and an answer follows its request.
    pub weight_settled: bool,
    /// The canary's counts.
    pub canary: Counts,
    /// Those of them that stable's counters tell nothing of yet, as they were read earlier:
    /// [`BlockCounts::canary_late`](crate::observed::BlockCounts::canary_late).
    pub canary_late: Counts,
    /// Stable's counts in the same time.
    pub stable: Counts,
    /// The canary's counts by pod; empty where they are not known.
    pub canary_pods: PodCounts,
    /// Stable's counts by pod; empty where they are not known.
    pub stable_pods: PodCounts,
    /// What else is known where requests were counted at the route; `None` where the pods counted them.
    pub at_route: Option<AtRoute>,
    /// Stands for stable's rate when stable serves nobody, as in the bake: an upper bound of what it was, 0
    /// to 1. That of [`Evidence::stable_upper_bound`] is 1 where nothing is known, which is no reference.
    pub reference: Option<f64>,
}

impl Block {
    /// Its reference, where it is one.
    fn known_reference(&self) -> Option<f64> {
        self.reference.filter(|known| (0.0..1.0).contains(known))
    }
}

/// What is known of a block from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct During {
    /// An incident of both goes on. Nobody bets on safety then, and nothing is learnt of what is usual.
    pub incident: bool,
    /// The canary's weight rises within it, to that of the block. Its two parts have different rates if anything
    /// happens meanwhile, and the arms have different shares of each. Whatever happens, the canary has at most
    /// the share of the bad ones that its new weight gives it: harm is bet on beyond that, and safety not at all. Of a rise to
    /// all traffic nothing is beyond that: what it shows beside what stable was before makes suspect, as in the bake.
    pub weight_rises: bool,
    /// The weight that it rises from, in percent, where the canary's share of requests is evidence: what it had for all of
    /// the block at the least.
    pub weight_before: Option<u8>,
}

/// The evidence of one objective in one attempt. Bounded: under 5 kB in a status, exact in every bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// The end of the last block that was taken in; what lies before it is never counted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absorbed_to: Option<Timestamp>,
    /// What the canary served.
    canary: Counts,
    /// What the canary served that harm is bet on with the next block, for stable's counters were read before it.
    #[serde(default, skip_serializing_if = "Counts::is_none")]
    waiting: Counts,
    /// An incident of both began, changed or ended in the last block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    was_edge: bool,
    /// The bet on a block in which an incident of both began, changed or ended: it is settled with the next block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// What stable served in the same time.
    stable: Counts,
    /// Bad events beyond stable's rate in the same time: `Σ (e_c − n_c · e_p / n_p)`.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    attributable: f64,
    /// Bad events beyond what stable's rate was, while the canary had all the traffic: the canary's, or those of an
    /// incident.
    #[serde(default, with = "exact")]
    #[schemars(with = "String")]
    suspected: f64,
    /// Evidence for harm, beside stable.
    harm: HarmBets,
    /// The stake on harm that a bake made suspect: it is at risk only while both are compared again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    again: Option<HarmBets>,
    /// Evidence for harm of this bake, beside what stable's rate was: it makes suspect, and proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alone: Option<HarmBets>,
    /// The canary's requests of this bake.
    #[serde(default, with = "exact")]
    #[schemars(with = "String")]
    alone_requests: f64,
    /// Evidence that the canary is worse by less than a bake made it suspect of: while it lacks, nothing is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refuted: Option<Safety>,
    /// Evidence for safety.
    safety: Safety,
    /// How requests cluster.
    clustering: Clustering,
    /// Whether the canary answers.
    exposure: Exposure,
    /// How fast the canary burns the budget.
    canary_windows: Windows,
    /// How fast stable burns it.
    stable_windows: Windows,
    /// What stable served in blocks that were no worse than usual.
    calm: Counts,
    /// What the canary served in the same blocks.
    #[serde(default)]
    calm_canary: Counts,
    /// How many incidents of both that were over before anybody was told have been forgiven.
    #[serde(default, skip_serializing_if = "is_zero")]
    forgiven: u8,
    /// What stable served in its last two blocks: whether an incident is over shows there first.
    #[serde(default)]
    latest: [Counts; 2],
    /// What stable served before the attempt: bets are made from it as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    past: Option<Counts>,
}

/// One-sided 95 % upper bound of a ratio, 0 to 1: Wilson's score interval (1927; for its coverage see Brown and others,
/// "Interval Estimation for a Binomial Proportion", 2001). 1 without requests.
fn upper_bound(counts: Counts) -> f64 {
    let n = counts.total();
    let Some(p) = counts.ratio() else { return 1.0 };
    let z2 = Z95 * Z95;
    let spread = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    ((p + z2 / (2.0 * n) + spread) / (1.0 + z2 / n)).min(1.0)
}

impl Evidence {
    /// No evidence yet, for an attempt that will ask for safety at these margins (shares above 0 and below
    /// 1; others are left out).
    pub fn for_margins(margins: &[f64]) -> Self {
        Self {
            safety: Safety::for_margins(margins),
            ..Self::default()
        }
    }

    /// Tells it how requests of one revision correlate within a block; 0 to 1, see [`super::correlation_in`].
    pub fn know_correlation(&mut self, correlation: f64) {
        self.clustering.know(correlation);
    }

    /// Tells it what stable did before the attempt.
    pub fn know(&mut self, past: &Past) {
        if let Some(correlation) = past.correlation {
            self.know_correlation(correlation);
        }
        self.past = Some(past.served).filter(|served| served.total() > 0.0);
    }

    /// Tells it how many requests stable answered before, in blocks of so many seconds. Only where the canary gets all
    /// the traffic at once: otherwise a comparison tells more.
    pub fn know_flow(&mut self, past: &Past, seconds: f64) {
        self.exposure.know(&past.flow, seconds);
    }

    /// Takes in one block. The bets are made from what came before it.
    ///
    /// A block that begins before the end of the last one is ignored, so that samples may be read again after
    /// a restart; so is one that ends before it begins.
    pub fn absorb(&mut self, block: &Block) {
        self.absorb_during(block, During::default());
    }

    /// [`absorb`](Self::absorb), with what is known from before.
    pub fn absorb_during(&mut self, block: &Block, during: During) {
        let incident = during.incident;
        if block.end <= block.start || self.absorbed_to.is_some_and(|edge| block.start < edge) {
            return;
        }
        self.absorbed_to = Some(block.end);
        if block.canary_weight == 0 {
            return;
        }
        let (canary, stable) = (block.canary, block.stable);
        match block.known_reference() {
            // A last straggler at stable is no reason to compare with it alone; while the router has yet to take
            // it out, it serves.
            Some(known) if stable.total() <= 0.0 || (block.canary_weight >= 100 && block.weight_in_force) => {
                self.compare_to(known, block);
            }
            _ => self.compare(block, during),
        }
        self.canary = self.canary.plus(canary);
        self.stable = self.stable.plus(stable);
        if self.was_unusual(stable) {
            (self.calm, self.calm_canary) = Default::default();
        }
        if stable.total() > 0.0 && !incident && !self.is_unusual(stable) {
            self.calm = self.calm.plus(stable);
            self.calm_canary = self.calm_canary.plus(canary);
        }
        if !incident && stable.total() > 0.0 && !self.is_unusual(stable) && self.is_unusual(self.latest[1]) {
            self.short_incident_is_over();
        }
        if stable.total() > 0.0 {
            self.latest = [self.latest[1], stable];
        }
        let length = block.end.duration_since(block.start);
        self.canary_windows.absorb(canary, length);
        self.stable_windows.absorb(stable, length);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(times: &u8) -> bool {
    *times == 0
}

fn seconds(block: &Block) -> f64 {
    block.end.duration_since(block.start).as_secs_f64()
}

mod beside;
mod edge;
mod late;
mod suspicion;
mod told;
mod usual;

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]
#[path = "evidence_tests.rs"]
mod tests;

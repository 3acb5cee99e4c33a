//! What an attempt has gathered for one objective; persisted in the status.
//!
//! The formulas are those of `e_process`; the bets are made from the blocks before, so that Ville's
//! inequality holds at every block, through changes of weight and through drifts of both arms' rate.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bets::{Beside, HarmBets, ln_add};
use super::clustering::{Clustering, PodCounts};
use super::exposure::{AtRoute, Exposure};
use super::past::Past;
use super::safety::Safety;
use super::windows::{Windows, least_factor};
use super::{Counts, Objective, exact, plug_in};

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

/// What is known of a block from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct During {
    /// An incident of both goes on. Nobody bets on safety then, and nothing is learnt of what is usual.
    pub incident: bool,
    /// The canary's weight rises within it, to that of the block. Its two parts have different rates if anything
    /// happens meanwhile, and the arms have different shares of each. Whatever happens, the canary has at most
    /// the share of the bad ones that its new weight gives it: harm is bet on beyond that, and safety not at all.
    pub weight_rises: bool,
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
        match block.reference.filter(|known| (0.0..1.0).contains(known)) {
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
        if stable.total() > 0.0 {
            self.latest = [self.latest[1], stable];
        }
        let length = block.end.duration_since(block.start);
        self.canary_windows.absorb(canary, length);
        self.stable_windows.absorb(stable, length);
    }

    /// Both arms side by side.
    fn compare(&mut self, block: &Block, during: During) {
        if during.weight_rises {
            self.bet_beyond_the_weight(block);
        } else {
            self.bet(block, during.incident);
        }
        let (canary, stable) = (block.canary, block.stable);
        // What both answer together is the same whoever has which part of it.
        if block.canary_weight < 100 {
            self.exposure
                .flow(canary.total() + stable.total(), seconds(block), false);
        }
        // Without a request of stable's at the same time, its rate so far stands for it; if it never had
        // any, all that is bad is the canary's.
        let rate = stable.ratio().or(self.stable.ratio()).unwrap_or(0.0);
        self.attributable += canary.bad() - canary.total() * rate;
    }

    /// Of a block whose weight rises: the canary's bad ones are taken to be among as many requests as the new weight
    /// would have given it all the time. If its rate is stable's at each moment, it has no more of them than that.
    fn bet_beyond_the_weight(&mut self, block: &Block) {
        let share = f64::from(block.canary_weight) / 100.0;
        if share < 1.0 {
            let (canary, stable) = self.worth(block);
            self.bet_on_harm(
                canary.among(stable.total() * share / (1.0 - share)),
                stable,
                block.stable,
            );
        }
    }

    /// What the counts are worth as independent requests: the canary's and stable's.
    fn worth(&self, block: &Block) -> (Counts, Counts) {
        let worth = |counts| self.clustering.deflated(counts, self.stable);
        (worth(block.canary), worth(block.stable))
    }

    fn bet_on_harm(&mut self, canary: Counts, stable: Counts, stable_now: Counts) {
        let beside = Beside::Stable {
            now: stable,
            before: self.expected(),
        };
        let is_edge = self.is_edge(stable_now);
        self.harm.absorb(canary, self.canary, beside, !is_edge);
        if let Some(again) = &mut self.again {
            again.absorb(canary, self.canary, beside, !is_edge);
        }
    }

    fn bet(&mut self, block: &Block, incident: bool) {
        let (canary, stable) = (block.canary, block.stable);
        let (canary_worth, stable_worth) = self.worth(block);
        self.bet_on_harm(canary_worth, stable_worth, stable);
        // What was suspected may be such an incident: the first block of the comparison shows it.
        let begins = self.again.is_some() && self.latest[1].total() <= 0.0;
        if !incident && !begins {
            let canary_too = if self.is_unusual(self.latest[1]) {
                Counts::default()
            } else {
                self.calm_canary
            };
            let theta = plug_in(self.expected().plus(canary_too));
            for safety in [Some(&mut self.safety), self.refuted.as_mut()]
                .into_iter()
                .flatten()
            {
                safety.absorb(canary_worth, stable_worth, theta);
            }
        }
        self.clustering
            .absorb(stable, &block.canary_pods, &block.stable_pods, incident);
        if block.weight_in_force {
            let share = f64::from(block.canary_weight) / 100.0;
            self.exposure.absorb(
                canary.total(),
                stable.total(),
                share,
                seconds(block),
                block.at_route,
            );
            if block.weight_settled {
                self.exposure
                    .weigh(canary.total(), stable.total(), share, block.at_route);
            }
        }
    }

    /// The end of the last block that was taken in.
    pub fn absorbed_to(&self) -> Option<Timestamp> {
        self.absorbed_to
    }

    /// One-sided 95 % upper bound of the canary's bad ratio, for as many independent requests as its own are worth in
    /// each of the bake's blocks; 1 without requests.
    pub fn canary_upper_bound(&self) -> f64 {
        let blocks = f64::from(self.alone.as_ref().map_or(1, HarmBets::blocks).max(1));
        let each = self.canary.scaled(1.0 / blocks);
        if each.total() <= 0.0 {
            return 1.0;
        }
        let worth = self.clustering.deflated(each, self.stable).total() / each.total();
        upper_bound(self.canary.scaled(worth))
    }

    /// What the canary served under a weight.
    pub fn canary(&self) -> Counts {
        self.canary
    }

    /// What stable served in the same time.
    pub fn stable(&self) -> Counts {
        self.stable
    }

    /// The canary's bad events beyond stable's rate, not below 0; those while it had all the traffic among them.
    pub fn attributable_bad(&self) -> f64 {
        (self.attributable + self.suspected).max(0.0)
    }

    /// The canary's bad events beyond stable's rate in the same time, not below 0.
    pub fn attributable_beside(&self) -> f64 {
        self.attributable.max(0.0)
    }

    /// Natural logarithm of the evidence that the canary is worse than stable, since the attempt's start or
    /// since any later block, less what clustering takes from it; 0 says nothing.
    pub fn ln_harm(&self) -> f64 {
        let again = self.again.as_ref().map_or(0.0, HarmBets::ln_total);
        let main = self.harm.ln_total() + (1.0 - STAKE_AGAIN).ln();
        self.discounted(ln_add(main, again + STAKE_AGAIN.ln()))
    }

    /// Natural logarithm of the evidence that the canary has been worse than stable since the attempt's
    /// start: the mean of the running products with equal stakes, whatever the pods.
    pub fn ln_harm_from_start(&self) -> f64 {
        self.harm.ln_from_start()
    }

    /// Natural logarithm of the evidence that the canary is worse by less than `margin`, less what clustering
    /// takes from it: that of the largest margin of the attempt's which is not above it. Below all of them
    /// nothing can be shown: negative infinity. What a bake made suspect has to be refuted as well.
    pub fn ln_safe_at(&self, margin: f64) -> f64 {
        let refuted = self
            .refuted
            .as_ref()
            .map_or(f64::INFINITY, |r| r.ln_at(MOST_MARGIN));
        self.discounted(self.safety.ln_at(margin).min(refuted))
    }

    /// `U_Δ`, the upper end of the confidence sequence for how much worse the canary is: the smallest of the
    /// attempt's margins that safety is shown for with `ln_needed`, the natural logarithm of the evidence; 1
    /// if there is none.
    pub fn harm_upper_margin(&self, ln_needed: f64) -> f64 {
        let shown = self.safety.least_shown(ln_needed * self.design_effect());
        shown.unwrap_or(1.0)
    }

    /// How many requests say as much as one independent request would, at least 1: see `clustering`.
    pub fn design_effect(&self) -> f64 {
        self.clustering.design_effect(self.canary, self.stable)
    }

    /// The canary has several pods, and without the worst of them it is not clearly worse than stable: a sick
    /// pod, not a bad revision.
    pub fn rests_on_one_pod(&self) -> bool {
        let past = self
            .past
            .filter(|past| self.alone.is_some() && past.total() > self.stable.total());
        // Where both hardly served together, what stable did before stands for it.
        self.clustering
            .rests_on_one_pod(self.stable.plus(past.unwrap_or_default()))
    }

    /// Clustering weakens evidence; it is no reason to forget what speaks against a claim.
    fn discounted(&self, ln: f64) -> f64 {
        if ln > 0.0 { ln / self.design_effect() } else { ln }
    }

    /// Natural logarithm of the evidence that the canary takes requests and does not answer; 0 while it does.
    pub fn ln_silent(&self) -> f64 {
        self.exposure.ln_silent()
    }

    /// Natural logarithm of the evidence that the canary answers less than four fifths of what is due to it at the
    /// route, or nothing; `None` where requests are not counted there.
    pub fn ln_short(&self) -> Option<f64> {
        self.exposure.ln_short()
    }

    /// The part of the usual requests that a canary with all the traffic still answers, where these have become far
    /// fewer.
    pub fn fallen(&self) -> Option<f64> {
        self.exposure.fallen()
    }

    /// The canary's share of requests as a part of its weight, where it is clearly less than due, or below half or
    /// above twice the weight, beyond doubt (99.9 %).
    pub fn share_disagrees(&self) -> Option<f64> {
        self.exposure.disagrees()
    }

    /// Natural logarithm of the evidence that the canary answers more than 77 % of the requests that are due to it;
    /// it does not grow beyond that of a million.
    pub fn ln_share_shown(&self) -> f64 {
        self.exposure.ln_enough()
    }

    /// The canary's burn rate now, 1 for a budget that lasts just its window; `None` without requests.
    pub fn canary_burn(&self, objective: &Objective) -> Option<f64> {
        self.canary_windows.burn(objective)
    }

    /// The canary alone burns fast enough to page somebody: its burn rate.
    pub fn canary_pages(&self, objective: &Objective) -> Option<f64> {
        self.canary_windows.fires(objective)
    }

    /// Stable alone burns fast enough to page somebody: its burn rate.
    pub fn stable_pages(&self, objective: &Objective) -> Option<f64> {
        self.stable_windows.fires(objective)
    }

    /// One-sided 95 % upper bound of stable's usual bad ratio while the canary had a weight, or of that before the attempt
    /// where both never served together, 0 to 1. 1 without requests.
    pub fn stable_upper_bound(&self) -> f64 {
        let together = Some(self.calm).filter(|calm| calm.total() > 0.0);
        upper_bound(together.or(self.past).unwrap_or_default())
    }

    /// What a canary is judged beside that never served together with stable: the upper bound of all that is known of
    /// stable, and at most the objective or twice stable's ratio. A few requests without a bad one bound nothing, and
    /// users are promised the objective.
    pub fn reference_at_once(&self, objective: &Objective) -> f64 {
        let known = self.calm.plus(self.past.unwrap_or_default());
        let most = objective.bad_fraction.max(2.0 * known.ratio().unwrap_or(0.0));
        upper_bound(known).min(most)
    }
}

fn seconds(block: &Block) -> f64 {
    block.end.duration_since(block.start).as_secs_f64()
}

mod suspicion;
mod usual;

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]
#[path = "evidence_tests.rs"]
mod tests;

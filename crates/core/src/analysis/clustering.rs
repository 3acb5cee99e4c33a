//! Requests are not independent draws: how much less their number says.
//!
//! The formulas of the evidence take each request as a draw of its own. Retries, a sick pod, a tenant that
//! always fails on one pod come in clusters, and a hundred failures of one cluster say less than a hundred
//! failures. Two components of variance are estimated from what both revisions show during the rollout, or
//! from stable's history where there is one:
//!
//! - between blocks: `ρ_b`, the correlation of requests of the same revision in the same block, from the
//!   differences between successive blocks of stable's, so that a slow drift of its rate is none of it;
//! - between pods: `ρ_p`, the correlation of requests to the same pod for as long as the attempt lasts, from
//!   what the pods of each revision had beyond their common rate in the same block, summed over the blocks (the strata of
//!   Mantel and Haenszel, 1959). Pods that came later, once all had begun to fail, differ from the first in their totals,
//!   and not in any block.
//!
//! Together they give the design effect `D` (Kish, "Survey Sampling", 1965): the variance of the difference
//! between the two rates over what it would be for independent requests. As logarithms of likelihood ratios
//! are divided by it (Rao and Scott, "A simple method for the analysis of clustered binary data", 1992), the
//! evidence counts for `ln E / D`. `D` is at least 1: the guarantee for independent requests is untouched,
//! that for clustered ones is approximate, and is measured.
//!
//! Only an excess beyond one standard error counts, lest chance alone discount evidence. Without a history a
//! correlation of 1 % within blocks is assumed for as long as the blocks so far do not rule it out. A canary
//! with a single pod can't be told from its pod: nothing inside the rollout can.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, exact, plug_in};

/// Pods are told apart by this many slots; more pods share them, which leaves the estimate unbiased.
pub const POD_SLOTS: usize = 8;
/// The correlation within a block that is assumed until the blocks rule it out.
const ASSUMED: f64 = 0.01;
/// One-sided 99 % quantile of the normal distribution: how surely the blocks rule a correlation out.
const Z99: f64 = 2.326_347_874_040_841;
/// The mean age in blocks of what counts as recent.
const RECENT: f64 = 20.0;

/// From so many pods on, harm must show without the worst of them too.
const SEVERAL: usize = 3;
/// And from so many on where the canary has all the traffic: nothing else tells a sick one there.
const SEVERAL_ALONE: usize = 2;
/// The log-likelihood ratio of a clear difference: a normal deviate of 3, one in seven hundred by chance.
const LN_CLEARLY: f64 = 4.5;

/// A revision's counts, by slot of its pods' names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PodCounts(
    [Counts; POD_SLOTS],
    /// The pods of one block, a bit of a hash of its name for each: sums of several forget them.
    #[serde(skip)]
    u64,
);

impl PodCounts {
    /// Adds what one pod served. The slot is a hash of its name (Fowler, Noll and Vo's, 64 bits, 1a), the
    /// same on every machine.
    pub fn add(&mut self, pod: &str, counts: Counts) {
        let hash = pod.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The low bits alone would be nearly the parity of the name's letters.
        let slot = usize::try_from((hash ^ (hash >> 32)) % POD_SLOTS as u64).unwrap_or(0);
        self.0[slot] = self.0[slot].plus(counts);
        if counts.total() > 0.0 {
            self.1 |= 1 << ((hash ^ (hash >> 32)) / POD_SLOTS as u64 % 64);
        }
    }

    /// How many pods have served, those that share a slot as well; seldom one too few.
    fn pods(&self) -> u8 {
        u8::try_from(self.1.count_ones()).unwrap_or(u8::MAX)
    }

    fn plus(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine = mine.plus(more);
        }
    }

    /// What is left of it a block later, as far as the recent past goes.
    fn faded(&self) -> Self {
        Self(self.0.map(faded), 0)
    }

    fn served(&self) -> impl Iterator<Item = Counts> {
        self.0.into_iter().filter(|counts| counts.total() > 0.0)
    }

    fn all(&self) -> Counts {
        self.served().fold(Counts::default(), Counts::plus)
    }

    /// The number of pods that would vary as much if all served the same: `(Σn)²/Σn²`.
    fn effective(&self) -> f64 {
        let square: f64 = self.served().map(|counts| counts.total().powi(2)).sum();
        if square > 0.0 {
            self.all().total().powi(2) / square
        } else {
            1.0
        }
    }
}

/// How much the pods of one revision differ from each other in the same blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spread {
    /// For each slot, its bad requests beyond those that the block's common rate gives it: `Σ (e − n·p)`.
    #[serde(with = "exact::list")]
    #[schemars(with = "Vec<String>", length(min = 8, max = 8))]
    beyond: [f64; POD_SLOTS],
    /// What chance expects of its square, but for the degree of freedom that the common rate takes: `Σ n·p·(1 − p)`.
    #[serde(with = "exact::list")]
    #[schemars(with = "Vec<String>", length(min = 8, max = 8))]
    variance: [f64; POD_SLOTS],
    /// The requests that a correlation would show in: `Σ n·(1 − n/N)`.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    requests: f64,
}

impl Spread {
    /// Takes in a block; of a pod that served alone nothing can be told.
    fn absorb(&mut self, pods: &PodCounts) {
        let all = pods.all();
        let Some(rate) = all.ratio().filter(|_| pods.served().count() > 1) else {
            return;
        };
        for (slot, pod) in pods.0.iter().enumerate() {
            self.beyond[slot] += pod.bad() - pod.total() * rate;
            self.variance[slot] += pod.total() * rate * (1.0 - rate);
            self.requests += pod.total() * (1.0 - pod.total() / all.total());
        }
    }

    /// `ρ` of requests to the same pod, 0 to 1: what `X²` is above `df + se`, by the requests that show it.
    fn correlation(&self) -> f64 {
        let slots = self.beyond.iter().zip(self.variance);
        let (mut pods, mut x2, mut kurtosis) = (0.0, 0.0, 0.0);
        for (beyond, variance) in slots.filter(|(_, variance)| *variance > 0.0) {
            pods += 1.0;
            x2 += beyond * beyond / variance;
            kurtosis += 1.0 / variance;
        }
        if pods < 2.0 || self.requests <= 0.0 {
            return 0.0;
        }
        let df = pods - 1.0;
        let error = (2.0 * df + kurtosis).sqrt();
        ((x2 - df - error) / self.requests).clamp(0.0, 1.0)
    }
}

/// How much two groups differ: Wilks's log-likelihood ratio of two rates against one (1938), positive where the
/// first is worse, else 0.
fn ln_difference(worse: Counts, other: Counts) -> f64 {
    let (Some(p), Some(q), Some(both)) = (worse.ratio(), other.ratio(), worse.plus(other).ratio()) else {
        return 0.0;
    };
    if p <= q {
        return 0.0;
    }
    let term = |events: f64, rate: f64| {
        if events > 0.0 {
            events * (rate / both).ln()
        } else {
            0.0
        }
    };
    let good = |events: f64, rate: f64| {
        if events > 0.0 {
            events * ((1.0 - rate) / (1.0 - both)).ln()
        } else {
            0.0
        }
    };
    term(worse.bad(), p) + good(worse.good(), p) + term(other.bad(), q) + good(other.good(), q)
}

/// What the counts of a block are worth as independent requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth {
    correlation: f64,
}

impl Worth {
    /// Those of one revision, divided by `1 + (n − 1)·ρ_b`.
    pub(super) fn of(self, block: Counts) -> Counts {
        let more = (block.total() - 1.0).max(0.0);
        block.scaled(1.0 / (1.0 + more * self.correlation))
    }
}

fn faded(counts: Counts) -> Counts {
    counts.scaled((-1.0 / RECENT).exp())
}

/// The lower 1 % quantile of χ² with `k` degrees of freedom over `k`, by Wilson and Hilferty's cube (1931);
/// `None` where the approximation has none, below two degrees or so.
fn low_chi_square(k: f64) -> Option<f64> {
    let root = 1.0 - 2.0 / (9.0 * k) - Z99 * (2.0 / (9.0 * k)).sqrt();
    (root > 0.0).then(|| root.powi(3))
}

/// What is known of how requests cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Clustering {
    canary_pods: PodCounts,
    stable_pods: PodCounts,
    /// How the canary's pods differ in the same blocks.
    #[serde(default)]
    canary_spread: Spread,
    /// How stable's do.
    #[serde(default)]
    stable_spread: Spread,
    /// What the canary's pods served lately: harm that begins late hides in hours of good service.
    canary_lately: PodCounts,
    /// What stable served lately, while it served.
    stable_lately: Counts,
    /// Stable's last block.
    last: Counts,
    /// Pairs of successive blocks of stable's.
    pairs: u32,
    /// `Σ h·(p_t − p_{t−1})²` over the pairs, with `1/h = 1/n_t + 1/n_{t−1}`.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    differences: f64,
    /// `Σ 2h` over the pairs.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    pair_sizes: f64,
    /// The last pair's `h·(p_t − p_{t−1})²` and `2h`: it counts once the next block has come and no incident had
    /// begun with it, for that is a change of everybody's and no cluster.
    #[serde(default, with = "exact::option_list", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>", length(min = 2, max = 2))]
    pending: Option<[f64; 2]>,
    /// The canary's pods that served in one block, at most so far: two may share a slot.
    #[serde(default)]
    most_pods: u8,
    /// The correlation within blocks that stable's history shows, in parts per million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history_ppm: Option<u32>,
}

impl Clustering {
    /// Takes in a block in which both served. `incident`: it is known from before that an incident of both goes on.
    pub(super) fn absorb(
        &mut self,
        stable: Counts,
        canary_pods: &PodCounts,
        stable_pods: &PodCounts,
        incident: bool,
    ) {
        self.absorb_alone(canary_pods);
        self.canary_spread.absorb(canary_pods);
        self.stable_pods.plus(stable_pods);
        self.stable_spread.absorb(stable_pods);
        if stable.total() > 0.0 {
            self.stable_lately = faded(self.stable_lately).plus(stable);
        }
        self.settle(incident);
        if let (Some(now), Some(before), false) = (stable.ratio(), self.last.ratio(), incident) {
            let harmonic = 1.0 / (1.0 / stable.total() + 1.0 / self.last.total());
            self.pending = Some([harmonic * (now - before).powi(2), 2.0 * harmonic]);
        }
        self.last = stable;
    }

    /// Counts the last pair, unless an incident began with it.
    fn settle(&mut self, incident: bool) {
        if let Some([difference, size]) = self.pending.take()
            && !incident
        {
            self.differences += difference;
            self.pair_sizes += size;
            self.pairs = self.pairs.saturating_add(1);
        }
    }

    /// Takes in a block in which the canary served alone. How its pods differ in such a block says nothing of the evidence
    /// beside stable: harm that begins within it, or an incident, is seen by each pod's scrapes from another moment on.
    pub(super) fn absorb_alone(&mut self, canary_pods: &PodCounts) {
        self.most_pods = self.most_pods.max(canary_pods.pods());
        self.canary_pods.plus(canary_pods);
        self.canary_lately = self.canary_lately.faded();
        self.canary_lately.plus(canary_pods);
    }

    /// Forgets what the pods served. In an incident they all fail alike, but those that began later have less to set
    /// against it, and each was scraped at another moment of it: that is no difference between pods.
    pub(super) fn forget_pods(&mut self) {
        self.canary_pods = PodCounts::default();
        self.stable_pods = PodCounts::default();
        self.canary_spread = Spread::default();
        self.stable_spread = Spread::default();
        self.canary_lately = PodCounts::default();
        self.stable_lately = Counts::default();
    }

    /// What stable's history shows, a share from 0 to 1.
    pub(super) fn know(&mut self, correlation: f64) {
        self.history_ppm = Some((correlation.clamp(0.0, 1.0) * 1e6) as u32);
    }

    /// What counts of one block are worth, as known from the blocks before and from history.
    pub(super) fn worth(&self, stable_before: Counts) -> Worth {
        Worth {
            correlation: self.within_blocks(stable_before),
        }
    }

    /// `D`, at least 1, for all that both have served: that of their pods.
    pub(super) fn design_effect(&self, canary: Counts, stable: Counts) -> f64 {
        let (n_c, n_p) = (canary.total(), stable.total());
        if n_c <= 0.0 || n_p <= 0.0 {
            return 1.0;
        }
        let between = self.between_pods();
        let arm = |n: f64, pods: &PodCounts| 1.0 / n + between / pods.effective();
        let spread = arm(n_c, &self.canary_pods) + arm(n_p, &self.stable_pods);
        (spread / (1.0 / n_c + 1.0 / n_p)).max(1.0)
    }

    /// The canary has several pods, and without the worst of them it is not clearly worse than stable, neither
    /// since the attempt's start nor lately. `stable` is all that stable served; `alone`: nobody is beside it now.
    pub(super) fn rests_on_one_pod(&self, stable: Counts, alone: bool) -> bool {
        let several = if alone { SEVERAL_ALONE } else { SEVERAL };
        // Beside nothing that is known none is worse.
        stable.total() > 0.0
            && is_of_one(&self.canary_pods, stable, self.many(&self.canary_pods, several))
            && is_of_one(
                &self.canary_lately,
                self.stable_lately,
                self.many(&self.canary_lately, several),
            )
    }

    /// Slots that are needed to tell pods apart: one fewer than `several` where there are as many pods, of which two share
    /// a slot. Without the worse slot of two there is a pod left.
    fn many(&self, served: &PodCounts, several: usize) -> usize {
        let shared = usize::from(self.most_pods) >= several && served.served().count() < several;
        if shared {
            several.saturating_sub(1).max(2)
        } else {
            several
        }
    }

    /// `ρ_b`, 0 to 1: what the attempt shows, or more if history does; without a history what is assumed, as
    /// long as the attempt does not rule it out.
    fn within_blocks(&self, stable: Counts) -> f64 {
        let pairs = f64::from(self.pairs);
        let known = self.history_ppm.map(|ppm| f64::from(ppm) / 1e6);
        if pairs <= 0.0 {
            return known.unwrap_or(ASSUMED);
        }
        let rate = plug_in(stable);
        let size = self.pair_sizes / pairs;
        // The variance between successive blocks over what it would be for independent requests.
        let ratio = self.differences / pairs / (rate * (1.0 - rate));
        // What a pair tells: squared differences overlap, and at few bad requests they vary more.
        let each = 3.0 + 1.0 / (size * rate);
        let correlation = |ratio: f64| ((ratio - 1.0) / (size - 1.0).max(1.0)).clamp(0.0, 1.0);
        let seen = correlation(ratio - (each / pairs).sqrt());
        let known = known.unwrap_or_else(|| {
            let highest = low_chi_square(2.0 * pairs / each).map(|low| correlation(ratio / low));
            highest.map_or(ASSUMED, |highest| highest.min(ASSUMED))
        });
        seen.max(known)
    }

    /// `ρ_p`, 0 to 1: that of the revision whose pods differ more. What happens to pods of one may happen to
    /// pods of the other.
    fn between_pods(&self) -> f64 {
        self.canary_spread
            .correlation()
            .max(self.stable_spread.correlation())
    }
}

/// See [`Clustering::rests_on_one_pod`].
fn is_of_one(canary: &PodCounts, stable: Counts, several: usize) -> bool {
    let mut slots = [Counts::default(); POD_SLOTS];
    let mut many = 0;
    for counts in canary.served() {
        slots[many] = counts;
        many += 1;
    }
    if many < several {
        return false;
    }
    let pods = &slots[..many];
    let without = |worst: usize| {
        let others = pods.iter().enumerate().filter(|(index, _)| *index != worst);
        let rest = others.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts));
        ln_difference(rest, stable)
    };
    let least = (0..pods.len()).map(without).fold(f64::INFINITY, f64::min);
    least < LN_CLEARLY
}

/// `ρ_b` from stable's history in equal strata of time: the moment estimate from successive differences with
/// two standard errors on top, as a share from 0 to 1. `None` below eight pairs of strata with requests, and where so few
/// requests were bad that what is assumed without a history is not ruled out: of none nobody knows how they cluster.
pub fn correlation_in(history: &[Counts]) -> Option<f64> {
    const LEAST: u32 = 8;
    let mut seen = Clustering::default();
    let mut all = Counts::default();
    for stratum in history {
        seen.absorb(*stratum, &PodCounts::default(), &PodCounts::default(), false);
        all = all.plus(*stratum);
    }
    seen.settle(false);
    let rate = all.ratio().filter(|_| seen.pairs >= LEAST)?;
    let spread = rate * (1.0 - rate);
    if spread <= 0.0 {
        return None;
    }
    let pairs = f64::from(seen.pairs);
    let size = seen.pair_sizes / pairs;
    if size <= 1.0 {
        return None;
    }
    let ratio = seen.differences / pairs / spread;
    let each = 3.0 + 1.0 / (size * rate);
    let error = 2.0 * ratio.max(1.0) * (each / pairs).sqrt();
    let above = ratio - 1.0;
    if above > error {
        return Some(((above + error) / (size - 1.0)).clamp(0.0, 1.0));
    }
    // Where there is no excess, chance is no reason to see one, if an excess would show.
    let highest = low_chi_square(2.0 * pairs / each).map(|low| (ratio / low - 1.0) / (size - 1.0));
    highest.filter(|highest| *highest < ASSUMED).map(|_| 0.0)
}

#[cfg(test)]
#[path = "clustering_tests.rs"]
mod tests;

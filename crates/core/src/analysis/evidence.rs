//! What an attempt has gathered for one objective; persisted in the status.
//!
//! The formulas are those of `e_process`; here are the bets. They are made from the blocks before, so that
//! Ville's inequality holds at every block, through changes of weight and through drifts of both arms' rate.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, exact, ln_harm_factor, ln_point_factor, ln_safe_factor, plug_in};

/// The margins that safety is shown for, from 0.001 % to 50 %, a factor of 1.6 apart. There is one running
/// product for each, fed from the first block: restarting a product, or moving its margin while it runs,
/// would either cost minutes or break its guarantee. Persisted evidence is by index: never change them.
pub const MARGINS: [f64; 24] = [
    0.000_01, 0.000_016, 0.000_025, 0.000_04, 0.000_065, 0.000_1, 0.000_16, 0.000_25, 0.000_4, 0.000_65,
    0.001, 0.001_6, 0.002_5, 0.004, 0.006_5, 0.01, 0.016, 0.025, 0.04, 0.065, 0.1, 0.16, 0.25, 0.5,
];

/// The bet on harm: the canary fails this many times as often as stable.
const HARM_RATIO: f64 = 5.0;
/// The highest rate that is bet on.
const MOST: f64 = 0.95;
/// One-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.644_853_626_951_472_2;

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
    /// The canary's counts.
    pub canary: Counts,
    /// Stable's counts in the same time.
    pub stable: Counts,
    /// Stands for stable's rate when stable serves nobody, as in the bake: an upper bound of what it was, 0
    /// to 1. That of [`Evidence::stable_upper_bound`] is 1 where nothing is known, which is no reference.
    pub reference: Option<f64>,
}

/// The evidence of one objective in one attempt. Bounded: under 1.5 kB in a status, exact in every bit.
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
    /// Bad events beyond stable's rate: `Σ (e_c − n_c · e_p / n_p)`.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    attributable: f64,
    /// Logarithm of the evidence for harm.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    ln_harm: f64,
    /// Logarithm of the evidence for safety, one for each margin of the fixed grid.
    #[serde(with = "exact::list")]
    #[schemars(with = "Vec<String>", length(min = 24, max = 24))]
    ln_safe: [f64; MARGINS.len()],
}

impl Evidence {
    /// Takes in one block. The bets are made from what came before it.
    ///
    /// A block that begins before the end of the last one is ignored, so that samples may be read again after
    /// a restart; so is one that ends before it begins.
    pub fn absorb(&mut self, block: &Block) {
        if block.end <= block.start || self.absorbed_to.is_some_and(|edge| block.start < edge) {
            return;
        }
        self.absorbed_to = Some(block.end);
        if block.canary_weight == 0 {
            return;
        }
        let (canary, stable) = (block.canary, block.stable);
        match block.reference.filter(|known| (0.0..1.0).contains(known)) {
            // A last straggler at stable is no reason to compare with it alone.
            Some(known) if stable.total() <= 0.0 || block.canary_weight >= 100 => {
                self.compare_to(known, canary);
            }
            _ => self.compare(canary, stable),
        }
        self.canary = self.canary.plus(canary);
        self.stable = self.stable.plus(stable);
    }

    /// Both arms side by side.
    fn compare(&mut self, canary: Counts, stable: Counts) {
        let theta_p = plug_in(self.stable);
        self.ln_harm += ln_harm_factor(canary, stable, (HARM_RATIO * theta_p).min(MOST), theta_p);
        let theta = plug_in(self.stable.plus(self.canary));
        for (ln, margin) in self.ln_safe.iter_mut().zip(MARGINS) {
            *ln += ln_safe_factor(canary, stable, theta, margin);
        }
        // Without a request of stable's at the same time, its rate so far stands for it; if it never had
        // any, all that is bad is the canary's.
        let rate = stable.ratio().or(self.stable.ratio()).unwrap_or(0.0);
        self.attributable += canary.bad() - canary.total() * rate;
    }

    /// The canary alone beside what stable's rate was. That says nothing of safety.
    fn compare_to(&mut self, reference: f64, canary: Counts) {
        let known = reference.max(plug_in(self.stable));
        self.ln_harm += ln_point_factor(canary, (HARM_RATIO * known).min(MOST), known);
        self.attributable += canary.bad() - canary.total() * reference;
    }

    /// The end of the last block that was taken in.
    pub fn absorbed_to(&self) -> Option<Timestamp> {
        self.absorbed_to
    }

    /// What the canary served under a weight.
    pub fn canary(&self) -> Counts {
        self.canary
    }

    /// What stable served in the same time.
    pub fn stable(&self) -> Counts {
        self.stable
    }

    /// The canary's bad events beyond stable's rate, not below 0.
    pub fn attributable_bad(&self) -> f64 {
        self.attributable.max(0.0)
    }

    /// Natural logarithm of the evidence that the canary is worse than stable; 0 says nothing.
    pub fn ln_harm(&self) -> f64 {
        self.ln_harm
    }

    /// Natural logarithm of the evidence that the canary is worse by less than `margin`: that of the largest
    /// margin of the grid which is not above it. Below the grid nothing can be shown: negative infinity.
    pub fn ln_safe_at(&self, margin: f64) -> f64 {
        let slack = margin * (1.0 + 1e-9);
        MARGINS
            .iter()
            .zip(&self.ln_safe)
            .rev()
            .find(|(m, _)| **m <= slack)
            .map_or(f64::NEG_INFINITY, |(_, ln)| *ln)
    }

    /// `U_Δ`, the upper end of the confidence sequence for how much worse the canary is: the smallest margin
    /// of the grid that safety is shown for with `ln_needed`, the natural logarithm of the evidence; 1 if
    /// there is none.
    pub fn harm_upper_margin(&self, ln_needed: f64) -> f64 {
        MARGINS
            .iter()
            .zip(&self.ln_safe)
            .find(|(_, ln)| **ln >= ln_needed)
            .map_or(1.0, |(m, _)| *m)
    }

    /// One-sided 95 % upper bound of stable's bad ratio while the canary had a weight, 0 to 1: Wilson's score
    /// interval (1927; for its coverage see Brown and others, "Interval Estimation for a Binomial
    /// Proportion", 2001). 1 without requests.
    pub fn stable_upper_bound(&self) -> f64 {
        let n = self.stable.total();
        let Some(p) = self.stable.ratio() else { return 1.0 };
        let z2 = Z95 * Z95;
        let spread = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        ((p + z2 / (2.0 * n) + spread) / (1.0 + z2 / n)).min(1.0)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]
#[path = "evidence_tests.rs"]
mod tests;

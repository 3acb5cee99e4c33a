//! Evidence for harm: bets on how much worse the canary could be, and since when.
//!
//! Nobody knows by how much a bad canary fails more often, so the stake is spread: over ratios of stable's
//! rate, over absolute rates for a stable that hardly ever fails, and over what the canary itself has shown
//! so far. The mean of running products is an e-process again, because each of them is one.
//!
//! A product that began with the attempt sinks while the canary is healthy, and harm that begins late has to
//! earn all of that back. So a tenth of the stake is spread over the times at which harm may begin: with
//! weights `π_t` that sum to at most 1, `W_t = (W_{t−1} + π_t)·S_t` is the stake of all the products that have
//! begun, and `W_t` with the weights not yet spent is an e-process.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, exact, ln_harm_factor, ln_point_factor, plug_in};

/// Bets on ratios of stable's rate.
const RATIOS: [f64; 6] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0];
/// Bets on absolute rates.
const RATES: [f64; 3] = [0.2, 0.5, 0.9];
/// The bets of the product that begins with the attempt: those above, and the canary's own rate.
const BETS: usize = RATIOS.len() + RATES.len() + 1;
/// How the stake is spread over these bets: most on what bad releases do, a few times to ten times as many
/// failures. Sums to 1.
const STAKES: [f64; BETS] = [0.03, 0.07, 0.20, 0.31, 0.16, 0.05, 0.03, 0.03, 0.03, 0.09];
/// Which of these bets late harm is bet on as well: twice, five and thirty times stable's rate, and a half.
const LATE: [usize; LATE_BETS] = [1, 3, 5, RATIOS.len() + 1];
/// The bets on late harm.
const LATE_BETS: usize = 4;
/// The highest rate that a ratio is bet up to.
const MOST: f64 = 0.95;
/// The canary's own rate is bet on where it is above stable's at all.
const JUST_ABOVE: f64 = 1.0001;
/// The share of the stake that is on late harm.
const LATE_STAKE: f64 = 0.1;
/// The mean number of blocks after which late harm is expected to begin: two hours of 15 s.
const LATE_BLOCKS: f64 = 480.0;

/// What the canary is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Beside {
    /// Stable's counts in the same time, and all before.
    Stable { now: Counts, before: Counts },
    /// A rate that is known, above 0 and below 1.
    Rate(f64),
}

/// The running products of one objective, as natural logarithms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HarmBets {
    /// From the attempt's start.
    #[serde(with = "exact::list")]
    #[schemars(with = "Vec<String>", length(min = 10, max = 10))]
    from_start: [f64; BETS],
    /// From any later block: the stakes of the products that have begun, times what they have won, for each
    /// bet. Absent until the first block, when none has begun.
    #[serde(default, with = "exact::option_list", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>", length(min = 4, max = 4))]
    late: Option<[f64; LATE_BETS]>,
    /// Blocks so far.
    blocks: u32,
}

impl Default for HarmBets {
    fn default() -> Self {
        Self {
            from_start: [0.0; BETS],
            late: None,
            blocks: 0,
        }
    }
}

impl HarmBets {
    /// Takes in a block. `canary_before` is what the canary had served before: bets are made from the past. With a rate
    /// that the canary may have had without being worse (`excused`), no bet wins more than it would beside that one, but
    /// may lose: it takes nothing from the guarantee to win less.
    pub(super) fn absorb(
        &mut self,
        canary: Counts,
        canary_before: Counts,
        beside: Beside,
        excused: Option<f64>,
    ) {
        let base = match beside {
            Beside::Stable { before, .. } => plug_in(before),
            Beside::Rate(rate) => rate,
        };
        let won = |rate: f64| {
            let most = excused.map_or(f64::INFINITY, |excused| {
                ln_point_factor(canary, rate, excused).max(0.0)
            });
            let ln = match beside {
                Beside::Stable { now, .. } => ln_harm_factor(canary, now, rate, base),
                Beside::Rate(known) => ln_point_factor(canary, rate, known),
            };
            ln.min(most)
        };
        let won = bets(base, canary_before).map(won);
        for (ln, won) in self.from_start.iter_mut().zip(won) {
            *ln += won;
        }
        let ln_started = ln_start_weight(self.blocks);
        let late = self.late.get_or_insert([f64::NEG_INFINITY; LATE_BETS]);
        for (ln, bet) in late.iter_mut().zip(LATE) {
            *ln = ln_add(*ln, ln_started) + won[bet];
        }
        self.blocks = self.blocks.saturating_add(1);
    }

    /// The blocks so far.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The evidence from the attempt's start: the mean of its products, each bet with the same stake. Natural
    /// logarithm. It does not decide; it is the figure that can be compared with other engines'.
    pub(super) fn ln_from_start(&self) -> f64 {
        ln_mean(&self.from_start, &[1.0 / BETS as f64; BETS])
    }

    /// All the evidence: that from the start and that of late harm, by their stakes. Natural logarithm.
    pub(super) fn ln_total(&self) -> f64 {
        let Some(late) = &self.late else { return 0.0 };
        // What has not begun yet is still at stake.
        let waiting = f64::from(self.blocks) * (1.0 - 1.0 / LATE_BLOCKS).ln();
        let late = ln_add(ln_mean(late, &[1.0 / LATE_BETS as f64; LATE_BETS]), waiting);
        ln_add(
            ln_mean(&self.from_start, &STAKES) + (1.0 - LATE_STAKE).ln(),
            late + LATE_STAKE.ln(),
        )
    }
}

fn bets(base: f64, canary_before: Counts) -> [f64; BETS] {
    let mut rates = [0.0; BETS];
    let ratios = RATIOS.iter().map(|ratio| (ratio * base).min(MOST));
    let absolute = RATES.iter().map(|rate| rate.max(base));
    let own = plug_in(canary_before).max(base * JUST_ABOVE);
    for (rate, bet) in rates.iter_mut().zip(ratios.chain(absolute).chain([own])) {
        *rate = bet;
    }
    rates
}

/// Logarithm of `π_t`, the geometric weight of a beginning at block `t`, counted from 0.
fn ln_start_weight(block: u32) -> f64 {
    f64::from(block) * (1.0 - 1.0 / LATE_BLOCKS).ln() - LATE_BLOCKS.ln()
}

/// `ln(eᵃ + eᵇ)`.
pub(super) fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// The logarithm of the weighted mean of what these are the logarithms of; the weights sum to 1.
fn ln_mean<const N: usize>(values: &[f64; N], weights: &[f64; N]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values
        .iter()
        .zip(weights)
        .map(|(ln, w)| w * (ln - most).exp())
        .sum();
    most + sum.ln()
}

#[cfg(test)]
#[path = "bets_tests.rs"]
mod tests;

//! A canary's share of the answers beside the share that is due to it.
//!
//! Of `n` answers to both, a canary that answers the part `r` of its requests has `n·q(r)` in the mean, with
//! `q(r) = r·d / (1 − d + r·d)` where the share `d` of the requests is due to it and stable answers all of its own.
//! A product of ratios of likelihoods `q(bet) / q(null)` is evidence against the null. It is so for every `r`
//! on the null's side too, as the ratio of likelihoods is monotone in the canary's answers.
//!
//! That takes each request for independent of the others. A share that scatters more between neighbouring blocks than
//! chance lets it, by the factor `D`, is worth that much less: counts are divided by `D`, estimated from the
//! blocks before by their successive differences (von Neumann, "Distribution of the ratio of the mean square
//! successive difference to the variance", 1941), which a share that is small throughout does not raise.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::exact;

/// A canary that answers less than this part of what is due to it does not answer all of it.
pub(super) const SHORT: f64 = 0.8;
/// The parts that the bets against it suppose, with equal stakes: most of it, and hardly any.
const SHORT_BETS: [f64; 2] = [0.7, 0.4];
/// One that answers more than this part may get full traffic. The product that shows it shrinks up to a part of
/// 0.88, so that one who answers [`SHORT`] is seldom shown to answer enough either.
const ENOUGH: f64 = 0.77;
/// The part that the bet for it supposes: all of it. So the product's inverse is evidence against one that answers all.
const ENOUGH_BET: f64 = 1.0;
/// Evidence that it answers enough, or not, is not laid up beyond this, a million, so that a canary which
/// stops doing so, or begins to, is known soon.
pub const LN_MOST_ENOUGH: f64 = 13.815_510_557_964_274;
/// How many pairs of blocks the assumption is worth that requests are independent.
const PRIOR_PAIRS: f64 = 4.0;

/// Answers of one block, and the share of them that is due to the canary: above 0 and below 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answers {
    pub canary: f64,
    pub stable: f64,
    pub due: f64,
}

impl Answers {
    /// Logarithm of the ratio of likelihoods of two parts, the bet's and the null's.
    pub fn ln_ratio(self, null: f64, bet: f64) -> f64 {
        let (null, bet) = (answers(self.due, null), answers(self.due, bet));
        self.canary * (bet / null).ln() + self.stable * ((1.0 - bet) / (1.0 - null)).ln()
    }

    /// Logarithm of the factor by which this speaks for a part above [`ENOUGH`].
    pub fn ln_enough(self) -> f64 {
        self.ln_ratio(ENOUGH, ENOUGH_BET)
    }

    /// The same of so many times as many answers.
    fn times(self, worth: f64) -> Self {
        Self {
            canary: self.canary * worth,
            stable: self.stable * worth,
            due: self.due,
        }
    }
}

/// The canary's share of all answers, if it answers this part of what is due to it and stable everything.
pub(super) fn answers(due: f64, part: f64) -> f64 {
    part * due / (1.0 - due + part * due)
}

/// The logarithm of the sum of the evidence so far, if there is any, and of a new stake.
pub(super) fn joined(ln_before: Option<f64>, ln_stake: f64) -> f64 {
    ln_before.map_or(ln_stake, |before| ln_sum(before, ln_stake))
}

fn ln_sum(a: f64, b: f64) -> f64 {
    let most = a.max(b);
    most + ((a - most).exp() + (b - most).exp()).ln()
}

/// Evidence that the canary answers less than [`SHORT`] of what is due to it, since any block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Short {
    /// Logarithm of the product that supposes that it answers most.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    ln_most: Option<f64>,
    /// Logarithm of the one that supposes that it answers little.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    ln_little: Option<f64>,
}

impl Short {
    /// Takes in a block; the stake of a shortness that begins with it joins first.
    pub fn absorb(&mut self, block: Answers, ln_stake: f64) {
        for (ln, bet) in [&mut self.ln_most, &mut self.ln_little]
            .into_iter()
            .zip(SHORT_BETS)
        {
            *ln = Some(joined(*ln, ln_stake) + block.ln_ratio(SHORT, bet));
        }
    }

    /// Logarithm of the evidence; `None` before the first block.
    pub fn ln(self) -> Option<f64> {
        let half = 0.5f64.ln();
        Some(ln_sum(self.ln_most? + half, self.ln_little? + half))
    }
}

/// How much the share scatters between successive blocks under one weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scatter {
    /// Pairs of successive blocks.
    pairs: u32,
    /// The sum of their squared differences, each in units of what chance makes of it.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    squares: f64,
    /// The last block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Deviation>,
}

/// One block: how far the share was from the share due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Deviation {
    /// The weight, 0 to 1.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    weight: f64,
    /// Answers to both.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    requests: f64,
    /// The canary's share of them.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    share: f64,
    /// That share less the one due.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    beyond: f64,
}

impl Scatter {
    /// `D`, at least 1.
    pub fn factor(&self) -> f64 {
        ((PRIOR_PAIRS + self.squares) / (PRIOR_PAIRS + f64::from(self.pairs))).max(1.0)
    }

    /// Takes in a block with an answer, and says what it is worth by the blocks before.
    pub fn absorb(&mut self, block: Answers, weight: f64) -> Answers {
        let worth = block.times(1.0 / self.factor());
        let requests = block.canary + block.stable;
        let share = block.canary / requests;
        let now = Deviation {
            weight,
            requests,
            share,
            beyond: share - block.due,
        };
        let last = self
            .last
            .take()
            .filter(|last| last.weight.to_bits() == weight.to_bits());
        if let Some(last) = &last {
            let all = requests + last.requests;
            let share = (share * requests + last.share * last.requests) / all;
            let by_chance = share * (1.0 - share) * (1.0 / requests + 1.0 / last.requests);
            if by_chance > 0.0 {
                self.pairs = self.pairs.saturating_add(1);
                self.squares += (now.beyond - last.beyond).powi(2) / by_chance;
            }
        }
        self.last = Some(now);
        worth
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;

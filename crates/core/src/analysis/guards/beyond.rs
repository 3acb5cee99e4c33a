//! How often the canary was beyond a bound that a healthy one seldom is: a bet on each look.
//!
//! Let a healthy canary be beyond the bound with a probability of at most `p` at each look, whatever was seen before.
//! A bet that it is so with probability `θ` multiplies its stake by `θ/p` or by `(1−θ)/(1−p)`, which is no more than 1 in
//! expectation; by Ville's inequality the stake ever reaches `1/α` with a probability of at most `α`, however many looks
//! there are. Half of the stake is on the attempt's start; the other half is spread over the looks at which something may
//! begin, with weights `π_t` that sum to 1: `W_t = (W_{t−1} + π_t)·S_t`, as in `bets`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::bets::ln_add;
use super::super::exact;

/// What is bet on: a canary that is worse is beyond the bound in nine looks of ten.
const BET: f64 = 0.9;
/// The mean number of looks after which something begins that was not there at the start.
const LATE_LOOKS: f64 = 60.0;

/// The running stakes, as natural logarithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Beyond {
    /// Looks so far.
    looks: u32,
    /// Those beyond the bound, or mostly the canary's.
    times: u32,
    /// The stake on the start.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    from_start: f64,
    /// The stake on all later beginnings that have come; absent before the first look.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    late: Option<f64>,
}

impl Beyond {
    /// Takes in a look. A healthy canary is beyond the bound with a probability of `chance` at most, above 0 and below 0.9.
    pub(super) fn absorb(&mut self, is_beyond: bool, chance: f64) {
        self.absorb_share(f64::from(u8::from(is_beyond)), chance);
    }

    /// Takes in a block of things that happened, of which so many of one were the canary's, from 0 to 1. Each is a healthy
    /// canary's with a probability of `chance` at most, above 0 and below 0.9.
    ///
    /// The stake is multiplied by `(θ/p)^s · ((1−θ)/(1−p))^(1−s)` with the share `s`. That is convex in `s`, so its expectation is at most
    /// `(1−E s)·(1−θ)/(1−p) + E s·θ/p`, which is no more than 1 if `E s ≤ p`: however the things of one block hang together (one client
    /// that tries again, one outage), they count as one.
    pub(super) fn absorb_share(&mut self, share: f64, chance: f64) {
        let won = share * (BET / chance).ln() + (1.0 - share) * ((1.0 - BET) / (1.0 - chance)).ln();
        let begins = self.ln_waiting() - LATE_LOOKS.ln();
        let late = self.late.map_or(begins, |late| ln_add(late, begins));
        self.from_start += won;
        self.late = Some(late + won);
        self.looks = self.looks.saturating_add(1);
        self.times = self.times.saturating_add(u32::from(share > 0.5));
    }

    /// The evidence, as a natural logarithm.
    pub(super) fn ln(&self) -> f64 {
        let Some(late) = self.late else { return 0.0 };
        ln_add(self.from_start, ln_add(late, self.ln_waiting())) - std::f64::consts::LN_2
    }

    /// Nothing was looked at.
    pub(super) fn is_none(&self) -> bool {
        self.looks == 0
    }

    pub(super) fn looks(&self) -> u32 {
        self.looks
    }

    pub(super) fn times(&self) -> u32 {
        self.times
    }

    /// What has not begun yet is still at stake.
    fn ln_waiting(&self) -> f64 {
        f64::from(self.looks) * (1.0 - 1.0 / LATE_LOOKS).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(looks: &[bool], chance: f64) -> f64 {
        let mut beyond = Beyond::default();
        for look in looks {
            beyond.absorb(*look, chance);
        }
        beyond.ln()
    }

    #[test]
    fn two_looks_in_a_row_are_enough_from_the_start_and_three_later() {
        let needed = 625f64.ln();
        assert!(after(&[true], 0.02) < needed && after(&[true, true], 0.02) >= needed);
        let mut late = vec![false; 10];
        late.extend([true, true]);
        assert!(after(&late, 0.02) < needed);
        late.push(true);
        assert!(after(&late, 0.02) >= needed);
    }

    /// The expectation of the stake under the null hypothesis is exactly 1, over all sequences of looks.
    #[test]
    fn the_stake_is_a_fair_game() {
        for chance in [0.02, 0.05, 0.1] {
            let mut expected = 0.0;
            for sequence in 0u32..1 << 12 {
                let looks: Vec<bool> = (0..12).map(|i| sequence >> i & 1 == 1).collect();
                let likely: f64 = looks
                    .iter()
                    .map(|b| if *b { chance } else { 1.0 - chance })
                    .product();
                expected += likely * after(&looks, chance).exp();
            }
            assert!((expected - 1.0).abs() < 1e-9, "{expected}");
        }
    }

    /// However things in one block hang together, the expectation is no more than 1: all of one fate, each its own, or in pairs.
    #[test]
    fn a_block_of_things_is_one_however_they_hang_together() {
        for chance in [0.05, 0.2, 0.5] {
            for clusters in [1u32, 2, 4] {
                let mut expected = 0.0;
                for fates in 0u32..1 << clusters {
                    let of_canary = f64::from(fates.count_ones());
                    let rest = f64::from(clusters) - of_canary;
                    let mut beyond = Beyond::default();
                    beyond.absorb_share(of_canary / f64::from(clusters), chance);
                    expected += chance.powf(of_canary) * (1.0 - chance).powf(rest) * beyond.ln().exp();
                }
                assert!(expected < 1.0 + 1e-9, "{expected}");
                assert!(clusters > 1 || expected > 1.0 - 1e-9, "{expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_restart_changes_nothing(looks in prop::collection::vec(any::<bool>(), 0..200), cut in 0usize..200) {
            let (mut whole, mut cut_off) = (Beyond::default(), Beyond::default());
            for (index, look) in looks.iter().enumerate() {
                whole.absorb(*look, 0.02);
                if index == cut {
                    let text = serde_json::to_string(&cut_off).unwrap();
                    cut_off = serde_json::from_str(&text).unwrap();
                }
                cut_off.absorb(*look, 0.02);
            }
            prop_assert_eq!(whole, cut_off);
            prop_assert!(whole.ln().is_finite());
        }
    }
}

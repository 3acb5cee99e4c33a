//! What an attempt has gathered for one objective; persisted in the status.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, ln_harm_factor, ln_point_factor, ln_safe_factor, plug_in};

/// The margins that safety is shown for, from 0.001 % to 50 %, a factor of 1.6 apart. There is one running
/// product for each, fed from the first block: restarting a product, or moving its margin while it runs,
/// would either cost minutes or break its guarantee. Persisted evidence is by index: never change them.
pub const MARGINS: [f64; 24] = [
    0.000_01, 0.000_016, 0.000_025, 0.000_04, 0.000_065, 0.000_1, 0.000_16, 0.000_25, 0.000_4, 0.000_65, 0.001,
    0.001_6, 0.002_5, 0.004, 0.006_5, 0.01, 0.016, 0.025, 0.04, 0.065, 0.1, 0.16, 0.25, 0.5,
];

/// The bet on harm: the canary fails this many times as often as stable.
const HARM_RATIO: f64 = 5.0;
/// The highest rate that is bet on.
const MOST: f64 = 0.95;
/// One-sided 95 % quantile of the normal distribution.
const Z95: f64 = 1.644_853_626_951_472_2;

/// Counts between two edges of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// The canary's weight in percent; a block at weight 0 is no evidence.
    pub canary_weight: u8,
    /// The canary's counts.
    pub canary: Counts,
    /// Stable's counts in the same time.
    pub stable: Counts,
    /// Stands for stable's rate when stable serves nobody: an upper bound of what it was.
    pub reference: Option<f64>,
}

/// The evidence of one objective in one attempt. Bounded: under 1.5 kB in a status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
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
    /// Logarithm of the evidence for safety, one for each of [`MARGINS`].
    #[serde(with = "exact_list")]
    #[schemars(with = "Vec<String>", length(min = 24, max = 24))]
    ln_safe: Vec<f64>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            canary: Counts::default(),
            stable: Counts::default(),
            attributable: 0.0,
            ln_harm: 0.0,
            ln_safe: vec![0.0; MARGINS.len()],
        }
    }
}

impl Evidence {
    /// Takes in one block. The bets are made from what came before it.
    pub fn absorb(&mut self, block: &Block) {
        if block.canary_weight == 0 {
            return;
        }
        let (canary, stable) = (block.canary, block.stable);
        if let Some(known) = block.reference {
            self.ln_harm += ln_point_factor(canary, (HARM_RATIO * known).min(MOST).max(known), known);
            self.attributable += canary.bad() - canary.total() * known;
        } else {
            let theta_p = plug_in(self.stable);
            self.ln_harm += ln_harm_factor(canary, stable, (HARM_RATIO * theta_p).min(MOST), theta_p);
            let theta = plug_in(self.stable.plus(self.canary));
            for (ln, margin) in self.ln_safe.iter_mut().zip(MARGINS) {
                *ln += ln_safe_factor(canary, stable, theta, margin);
            }
            // Without a concurrent request of stable's, its rate so far stands for it.
            let rate = stable.ratio().or(self.stable.ratio()).unwrap_or(0.0);
            self.attributable += canary.bad() - canary.total() * rate;
        }
        self.canary = self.canary.plus(canary);
        self.stable = self.stable.plus(stable);
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

    /// Logarithm of the evidence that the canary is worse than stable.
    pub fn ln_harm(&self) -> f64 {
        self.ln_harm
    }

    /// Logarithm of the evidence that the canary is worse by less than `margin`: that of the largest margin
    /// of the grid which is not above it. Below the grid nothing can be shown: negative infinity.
    pub fn ln_safe_at(&self, margin: f64) -> f64 {
        let slack = margin * (1.0 + 1e-9);
        MARGINS
            .iter()
            .zip(&self.ln_safe)
            .rev()
            .find(|(m, _)| **m <= slack)
            .map_or(f64::NEG_INFINITY, |(_, ln)| *ln)
    }

    /// The smallest margin of the grid that safety is shown for with `ln_needed`; 1 if there is none.
    pub fn shown_margin(&self, ln_needed: f64) -> f64 {
        MARGINS.iter().zip(&self.ln_safe).find(|(_, ln)| **ln >= ln_needed).map_or(1.0, |(m, _)| *m)
    }

    /// One-sided 95 % upper bound of stable's bad ratio (Wilson's score interval, 1927); 1 without requests.
    pub fn stable_upper_bound(&self) -> f64 {
        let n = self.stable.total();
        let Some(p) = self.stable.ratio() else { return 1.0 };
        let z2 = Z95 * Z95;
        let spread = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        ((p + z2 / (2.0 * n) + spread) / (1.0 + z2 / n)).min(1.0)
    }
}

/// Floats as text that reads back to the same bits; a status has no place for binary floats.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&text(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }

    pub(super) fn text(value: f64) -> String {
        // Plain where it is short, scientific where plain would be hundreds of digits.
        let plain = value.abs() < 1e15 && (value == 0.0 || value.abs() > 1e-6);
        if plain { format!("{value}") } else { format!("{value:e}") }
    }

    pub(super) fn parse(text: &str) -> Result<f64, String> {
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
        number.ok_or_else(|| format!("{text:?} is not a finite number"))
    }
}

mod exact_list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{MARGINS, exact};

    pub fn serialize<S: Serializer>(values: &[f64], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(values.iter().map(|v| exact::text(*v)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        if texts.len() != MARGINS.len() {
            return Err(D::Error::custom(format!("{} margins instead of {}", texts.len(), MARGINS.len())));
        }
        texts.iter().map(|t| exact::parse(t).map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(canary: (f64, f64), stable: (f64, f64)) -> Block {
        Block {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            canary_weight: 10,
            canary: Counts::new(canary.0, canary.1).unwrap(),
            stable: Counts::new(stable.0, stable.1).unwrap(),
            reference: None,
        }
    }

    #[test]
    fn vectors_of_the_running_product() {
        let mut evidence = Evidence::default();
        let blocks = [
            ((30.0, 0.0), (270.0, 3.0), -1.043_694_19),
            ((31.0, 1.0), (265.0, 2.0), -0.480_657_98),
            ((28.0, 2.0), (272.0, 4.0), 0.872_049_26),
            ((30.0, 3.0), (268.0, 1.0), 4.438_254_15),
            ((29.0, 2.0), (271.0, 3.0), 6.062_056_47),
        ];
        for (canary, stable, cumulative) in blocks {
            evidence.absorb(&block(canary, stable));
            assert!((evidence.ln_harm() - cumulative).abs() < 1e-7, "{} is not {cumulative}", evidence.ln_harm());
        }
        assert!((evidence.attributable_bad() - (8.0 - 148.0 * 13.0 / 1346.0)).abs() < 0.05);
    }

    #[test]
    fn a_total_outage_is_seen_in_one_block_even_beside_a_stable_without_errors() {
        let mut evidence = Evidence::default();
        evidence.absorb(&block((20.0, 20.0), (180.0, 0.0)));
        assert!(evidence.ln_harm() > 100f64.ln());
    }

    #[test]
    fn a_block_without_weight_is_no_evidence() {
        let mut evidence = Evidence::default();
        evidence.absorb(&Block { canary_weight: 0, ..block((20.0, 20.0), (180.0, 0.0)) });
        assert_eq!(evidence, Evidence::default());
    }

    #[test]
    fn stables_upper_bound_is_above_its_ratio_and_one_without_data() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.stable_upper_bound(), 1.0);
        evidence.absorb(&block((1.0, 0.0), (1000.0, 10.0)));
        assert!((evidence.stable_upper_bound() - 0.016_6).abs() < 2e-4, "{}", evidence.stable_upper_bound());
    }

    proptest! {
        #[test]
        fn a_restart_after_any_block_changes_nothing(
            blocks in prop::collection::vec((0..200u32, 0..200u32, 0..2000u32, 0..2000u32), 0..20), cut in 0..20usize,
        ) {
            let mut whole = Evidence::default();
            let mut resumed = Evidence::default();
            for (i, (n_c, e_c, n_p, e_p)) in blocks.into_iter().enumerate() {
                let b = block((f64::from(n_c), f64::from(e_c)), (f64::from(n_p), f64::from(e_p)));
                if i == cut {
                    resumed = serde_json::from_str(&serde_json::to_string(&resumed).unwrap()).unwrap();
                }
                whole.absorb(&b);
                resumed.absorb(&b);
            }
            prop_assert_eq!(&whole, &resumed);
            prop_assert!(serde_json::to_string(&whole).unwrap().len() < 1500);
        }
    }
}

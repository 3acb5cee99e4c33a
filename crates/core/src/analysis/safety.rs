//! Evidence for safety: that the canary is worse by less than a margin.
//!
//! Each margin has one running product, fed from the first block under a weight. To restart a product, or to
//! move its margin while it runs, would either cost minutes or break its guarantee. So the margins are fixed
//! when the attempt begins: those that its steps and its promotion will ask for, and a grid around them for
//! the upper bound of the harm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counts, exact, ln_safe_factor};

/// The margins of an attempt of which nothing is known: from 0.001 % to 50 %, a factor of 1.6 apart.
pub const MARGINS: [f64; 24] = [
    0.000_01, 0.000_016, 0.000_025, 0.000_04, 0.000_065, 0.000_1, 0.000_16, 0.000_25, 0.000_4, 0.000_65,
    0.001, 0.001_6, 0.002_5, 0.004, 0.006_5, 0.01, 0.016, 0.025, 0.04, 0.065, 0.1, 0.16, 0.25, 0.5,
];
/// At most so many margins run side by side.
pub const MOST_MARGINS: usize = MARGINS.len();
/// Margins that are this close are one: the smaller.
const SAME: f64 = 1.02;

/// The products, by margin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, try_from = "Form")]
pub(super) struct Safety {
    /// Shares above 0 and below 1, growing.
    #[serde(with = "exact::many")]
    #[schemars(with = "Vec<String>")]
    margins: Vec<f64>,
    /// Logarithm of the evidence at each.
    #[serde(with = "exact::many")]
    #[schemars(with = "Vec<String>")]
    ln: Vec<f64>,
}

/// What is read from a status, before it is known to be possible.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    /// Shares above 0 and below 1, growing.
    #[serde(with = "exact::many")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 24))]
    margins: Vec<f64>,
    /// Logarithm of the evidence at each.
    #[serde(with = "exact::many")]
    #[schemars(with = "Vec<String>", length(min = 1, max = 24))]
    ln: Vec<f64>,
}

impl TryFrom<Form> for Safety {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let Form { margins, ln } = form;
        let possible = !margins.is_empty()
            && margins.len() <= MOST_MARGINS
            && margins.len() == ln.len()
            && margins.iter().all(|m| *m > 0.0 && *m < 1.0)
            && margins.windows(2).all(|pair| pair[0] < pair[1]);
        if possible {
            Ok(Self { margins, ln })
        } else {
            Err(format!(
                "{} margins and {} values are no evidence for safety",
                margins.len(),
                ln.len()
            ))
        }
    }
}

impl Default for Safety {
    fn default() -> Self {
        Self::for_margins(&[])
    }
}

impl Safety {
    /// Evidence at one margin alone, at most 50 %.
    pub(super) fn of(margin: f64) -> Self {
        Self {
            margins: vec![margin.clamp(MARGINS[0], MARGINS[MARGINS.len() - 1])],
            ln: vec![0.0],
        }
    }

    /// Starts with these margins before all others, then as many of `MARGINS` as fit; those that are no
    /// margins (not above 0 or not below 1) are left out.
    pub(super) fn for_margins(wanted: &[f64]) -> Self {
        let mut margins: Vec<f64> = Vec::with_capacity(MOST_MARGINS);
        let far = |margins: &[f64], new: f64| margins.iter().all(|m| (m / new).max(new / m) > SAME);
        let possible = wanted.iter().copied().filter(|m| *m > 0.0 && *m < 1.0);
        let least = possible.clone().fold(1.0, f64::min);
        for margin in possible {
            if margins.len() < MOST_MARGINS && far(&margins, margin) {
                margins.push(margin);
            }
        }
        // Without wishes, all. With them, what lies above a third of the least: below it no decision is made.
        // Each costs a search for the nearest point in every block, so every second is enough around them.
        let known = least < 1.0;
        let around = |m: &&f64| !known || **m > least / 3.0;
        for margin in MARGINS.iter().filter(around).step_by(1 + usize::from(known)) {
            if margins.len() < MOST_MARGINS && far(&margins, *margin) {
                margins.push(*margin);
            }
        }
        margins.sort_by(f64::total_cmp);
        Self {
            ln: vec![0.0; margins.len()],
            margins,
        }
    }

    /// Takes back what spoke against safety.
    pub(super) fn forgive(&mut self) {
        for ln in &mut self.ln {
            *ln = ln.max(0.0);
        }
    }

    /// Forgets what was shown.
    pub(super) fn begin_anew(&mut self) {
        self.ln.fill(0.0);
    }

    /// Takes in a block, betting that both have the rate `theta`.
    pub(super) fn absorb(&mut self, canary: Counts, stable: Counts, theta: f64) {
        for (ln, margin) in self.ln.iter_mut().zip(&self.margins) {
            *ln += ln_safe_factor(canary, stable, theta, *margin);
        }
    }

    /// Logarithm of the evidence at the largest margin that is not above `margin`; below all of them nothing
    /// can be shown: negative infinity.
    pub(super) fn ln_at(&self, margin: f64) -> f64 {
        let slack = margin * (1.0 + 1e-9);
        let mut fitting = self.margins.iter().zip(&self.ln).rev();
        fitting
            .find(|(m, _)| **m <= slack)
            .map_or(f64::NEG_INFINITY, |(_, ln)| *ln)
    }

    /// The smallest margin at which the evidence's logarithm is at least `needed`.
    pub(super) fn least_shown(&self, needed: f64) -> Option<f64> {
        let mut shown = self.margins.iter().zip(&self.ln);
        shown.find(|(_, ln)| **ln >= needed).map(|(m, _)| *m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_asks_for_is_on_the_grid_to_the_digit() {
        let safety = Safety::for_margins(&[0.0144, 0.5, 0.432, 0.0864, 0.0144]);
        for wanted in [0.0144, 0.0864, 0.432, 0.5] {
            assert!(safety.margins.contains(&wanted), "{:?}", safety.margins);
        }
        assert!(safety.margins.len() <= MOST_MARGINS);
        assert!(safety.margins.windows(2).all(|pair| pair[1] / pair[0] > SAME));
        assert!(safety.margins[0] > 0.0144 / 3.0 - 1e-9);
        assert_eq!(Safety::default().margins, MARGINS);
    }

    #[test]
    fn wishes_beyond_count_and_reason_leave_a_usable_grid() {
        let many: Vec<f64> = (1..200).map(|i| f64::from(i) / 200.0).collect();
        assert_eq!(Safety::for_margins(&many).margins.len(), MOST_MARGINS);
        assert_eq!(
            Safety::for_margins(&[0.0, -1.0, 1.0, f64::NAN, f64::INFINITY]).margins,
            MARGINS
        );
    }

    #[test]
    fn a_margin_is_that_of_the_grid_below_it() {
        let mut safety = Safety::default();
        let counts = |n, e| Counts::new(n, e).unwrap();
        safety.absorb(counts(300.0, 0.0), counts(2700.0, 3.0), 0.01);
        let at = |index: usize| safety.ln[index];
        assert_eq!(safety.ln_at(0.01).to_bits(), at(15).to_bits());
        assert_eq!(safety.ln_at(0.015_9).to_bits(), at(15).to_bits());
        assert_eq!(safety.ln_at(0.1 + 0.2 - 0.3 + 0.01).to_bits(), at(15).to_bits());
        assert_eq!(safety.ln_at(1.0).to_bits(), at(23).to_bits());
        for too_small in [0.000_009, 0.0, -1.0, f64::NAN] {
            assert!(safety.ln_at(too_small) < f64::MIN);
        }
    }

    #[test]
    fn what_can_not_be_evidence_is_not_read() {
        let read = |text: &str| serde_json::from_str::<Safety>(text).is_ok();
        assert!(read(r#"{"margins":["0.01","0.02"],"ln":["1","-2.5"]}"#));
        for impossible in [
            r#"{"margins":[],"ln":[]}"#,
            r#"{"margins":["0.01","0.02"],"ln":["1"]}"#,
            r#"{"margins":["0.02","0.01"],"ln":["1","1"]}"#,
            r#"{"margins":["0"],"ln":["1"]}"#,
            r#"{"margins":["1"],"ln":["1"]}"#,
            r#"{"margins":["0.1"],"ln":["NaN"]}"#,
        ] {
            assert!(!read(impossible), "{impossible}");
        }
    }
}

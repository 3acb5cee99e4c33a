//! How fast each revision burns the budget now, over the windows of the multi-window table.
//!
//! A sliding window would need every block that it holds. These fade instead: what was counted `t` ago weighs
//! `exp(−2t/window)`, which has the same mean age, half a window, and takes two numbers.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BURN_RATES, Counts, Objective};

/// The rules that a rollout is judged by: those that page.
const RULES: usize = 2;
/// Fewer bad requests than these in the short window are bad luck.
const FEW: f64 = 5.0;

/// Fading counts of one revision, for the long and the short window of each rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Windows([[Counts; 2]; RULES]);

impl Windows {
    /// Takes in what was counted in a block of this length.
    pub(super) fn absorb(&mut self, counts: Counts, length: SignedDuration) {
        for (pair, rule) in self.0.iter_mut().zip(BURN_RATES) {
            for (faded, window) in pair.iter_mut().zip([rule.long, rule.short()]) {
                let left = (-2.0 * length.as_secs_f64() / window.as_secs_f64()).exp();
                // A product of a count and a number up to 1 is a count.
                let before = Counts::new(faded.total() * left, faded.bad() * left).unwrap_or_default();
                *faded = before.plus(counts);
            }
        }
    }

    /// The burn rate now: that of the shortest window. `None` without requests.
    pub(super) fn burn(&self, objective: &Objective) -> Option<f64> {
        self.0[0][1].ratio().map(|ratio| objective.burn(ratio))
    }

    /// The burn rate of the rule that fires, if one does.
    pub(super) fn fires(&self, objective: &Objective) -> Option<f64> {
        self.0.iter().zip(BURN_RATES).find_map(|([long, short], rule)| {
            let factor = rule.factor(objective.window);
            let above = |counts: &Counts| counts.ratio().is_some_and(|ratio| objective.burn(ratio) > factor);
            (short.bad() >= FEW && above(long) && above(short))
                .then(|| short.ratio().map(|ratio| objective.burn(ratio)))
                .flatten()
        })
    }
}

/// The least factor of the rules that page: a revision that burns slower than that now pages nobody.
pub(super) fn least_factor(objective: &Objective) -> f64 {
    let paging = BURN_RATES.iter().take(RULES);
    paging
        .map(|rule| rule.factor(objective.window))
        .fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(blocks: usize, total: f64, bad: f64) -> Windows {
        let mut windows = Windows::default();
        for _ in 0..blocks {
            windows.absorb(Counts::new(total, bad).unwrap(), SignedDuration::from_secs(15));
        }
        windows
    }

    fn objective() -> Objective {
        Objective::parse("99.9", SignedDuration::from_hours(720)).unwrap()
    }

    #[test]
    fn a_burn_above_the_factor_fires_and_one_below_does_not() {
        // 2 % of 1,000 a block burn 20 times; 1 % burns 10 times, above 6 only; half a per cent 5 times.
        let fires = |bad| windows(40, 1000.0, bad).fires(&objective());
        assert!((fires(20.0).unwrap() - 20.0).abs() < 1e-9);
        assert!((fires(10.0).unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(fires(5.0), None);
        assert_eq!(Windows::default().fires(&objective()), None);
    }

    #[test]
    fn a_few_bad_requests_fire_nothing() {
        assert_eq!(windows(1, 20.0, 4.0).fires(&objective()), None);
        assert!(windows(1, 20.0, 5.0).fires(&objective()).is_some());
    }

    #[test]
    fn what_is_over_stops_firing_by_the_short_window() {
        let mut windows = windows(8, 1000.0, 200.0);
        assert!(windows.fires(&objective()).is_some());
        for _ in 0..60 {
            windows.absorb(Counts::new(1000.0, 0.0).unwrap(), SignedDuration::from_secs(15));
        }
        // A quarter of an hour later the long windows still burn, the short one of five minutes does not; that of
        // half an hour does.
        assert!(windows.0[0][1].ratio().unwrap() < 0.001);
        assert!(windows.0[0][0].ratio().unwrap() > 0.01);
    }

    #[test]
    fn the_mean_age_is_half_a_window() {
        // A steady stream of one request a second fills half the window's seconds.
        let mut windows = Windows::default();
        for _ in 0..200_000 {
            windows.absorb(Counts::new(1.0, 0.0).unwrap(), SignedDuration::from_secs(1));
        }
        let filled = windows.0[0].map(Counts::total);
        for (filled, seconds) in filled.into_iter().zip([3600.0, 300.0]) {
            assert!((filled / (seconds / 2.0) - 1.0).abs() < 0.01, "{filled}");
        }
    }
}

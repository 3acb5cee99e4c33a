//! Kayenta's judge `NetflixACAJudge-v1.0` on the error ratio of each minute.
//!
//! Sources: `spinnaker/kayenta`, `docs/canary-config.md` and the behaviour of `NetflixACAJudge`,
//! `MannWhitneyClassifier` and `WeightedSumScorer`: confidence 98 %, tolerance a quarter of the
//! Hodges–Lehmann estimate; `High` if the interval's lower end is above it and the ratio of
//! means at least `effectSize.allowedIncrease`. Values that are `NaN` are removed (`nanStrategy: remove`); with
//! none left the metric is `Nodata`, and with half of the metrics so, the canary scores 0. Thresholds 95 and 75: with one
//! metric the score is 100 or 0. Looks repeat every `interval`; each judges all minutes so far ("growing").
//! Kayenta recommends a baseline of the canary's size and age; here the baseline is stable itself, which
//! has less noise: that favours Kayenta.

use super::mann_whitney::{is_above_zero, shift};
use crate::judge::{Judge, Verdict};
use crate::traces::{Arm, Trace};

/// Seconds of one point.
const POINT: u32 = 60;

/// A canary config.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Normal quantile of the interval's confidence.
    pub z: f64,
    /// Share of the estimate that is tolerated.
    pub tolerance: f64,
    /// `effectSize.allowedIncrease`: the least ratio of means.
    pub allowed_increase: f64,
    /// Seconds between looks.
    pub interval: u32,
}

impl Settings {
    /// The defaults, looking every ten minutes.
    pub const DOCUMENTED: Self = Self {
        z: 2.326_347_874_040_841,
        tolerance: 0.25,
        allowed_increase: 1.0,
        interval: 600,
    };
}

/// How a metric is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No worse.
    Pass,
    /// Worse.
    High,
    /// Nothing to compare.
    Nodata,
}

/// Classifies a metric whose increase is bad.
pub fn classify(experiment: &[f64], control: &[f64], settings: &Settings) -> Class {
    if experiment.is_empty() || control.is_empty() {
        return Class::Nodata;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let worse = mean(experiment) >= settings.allowed_increase * mean(control);
    // Most looks end here, where the differences need not be sorted.
    if !worse || !is_above_zero(experiment, control, settings.z) {
        return Class::Pass;
    }
    match shift(experiment, control, settings.z) {
        Some(shift) if shift.lower > settings.tolerance * shift.estimate.abs() => Class::High,
        // All values tied: there is no interval, and no difference.
        _ => Class::Pass,
    }
}

/// One canary analysis.
#[derive(Clone, Debug)]
pub struct Kayenta {
    settings: Settings,
}

impl Kayenta {
    /// An analysis at its start.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

impl Judge for Kayenta {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        if !now.is_multiple_of(self.settings.interval) {
            return Verdict::Continue;
        }
        let points = |arm| -> Vec<f64> {
            (1..=now / POINT)
                .filter_map(|i| trace.window(arm, i * POINT, POINT).ratio())
                .collect()
        };
        match classify(&points(Arm::Canary), &points(Arm::Stable), &self.settings) {
            Class::Pass => Verdict::Continue,
            Class::High | Class::Nodata => Verdict::Rollback,
        }
    }
}

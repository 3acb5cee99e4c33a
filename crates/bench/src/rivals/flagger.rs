//! Flagger's check of a canary's success rate.
//!
//! Sources: `fluxcd/flagger`, `docs/gitbook/usage/how-it-works.md` (interval, threshold),
//! `docs/gitbook/usage/metrics.md` (`request-success-rate`, `thresholdRange.min: 99`, one minute) and the
//! tutorials (threshold 5). A check fails when the value is out of range, and also when there is none: no
//! series, or `NaN` (issues 1501, 1633). Failed checks add up over the whole analysis, they need not be in a row;
//! at `threshold` of them the canary is rolled back.
//! Not modelled: Flagger rolls back at the tick after the last failed check; counting it at that check
//! favours Flagger. Neither is the weight that grows with each passed check: the cases have one weight.

use super::{Answer, success_ratio};
use crate::judge::{Judge, Verdict};
use crate::traces::Trace;

/// A canary's analysis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `thresholdRange.min`, as a share from 0 to 1.
    pub least: f64,
    /// Seconds between checks.
    pub interval: u32,
    /// Seconds that the metric looks back.
    pub window: u32,
    /// Failed checks before it rolls back, at least 1.
    pub threshold: u32,
}

impl Settings {
    /// The documentation's example: 99 % each minute, five failed checks.
    pub const DOCUMENTED: Self = Self {
        least: 0.99,
        interval: 60,
        window: 60,
        threshold: 5,
    };
}

/// One analysis.
#[derive(Clone, Debug)]
pub struct Flagger {
    settings: Settings,
    failed: u32,
}

impl Flagger {
    /// An analysis at its start.
    pub fn new(settings: Settings) -> Self {
        Self { settings, failed: 0 }
    }
}

impl Judge for Flagger {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        if !now.is_multiple_of(self.settings.interval) {
            return Verdict::Continue;
        }
        let answer = success_ratio(trace, now, self.settings.window);
        let good = matches!(answer, Answer::Ratio(ratio) if ratio >= self.settings.least);
        self.failed += u32::from(!good);
        if self.failed >= self.settings.threshold {
            Verdict::Rollback
        } else {
            Verdict::Continue
        }
    }
}

//! Argo Rollouts' analysis of a canary's success ratio.
//!
//! Sources: `argoproj/argo-rollouts`, `docs/features/analysis.md` (the example of background analysis;
//! failure limit; errors) and `docs/features/specification.md`, as of v1.9. A measurement fails when its
//! success condition does not hold; the run fails when **more** than `failureLimit` measurements failed. A `NaN`
//! fails the success condition. An empty answer is an error: it is tried again after ten seconds (here: at
//! the next scrape), and the run ends after more than `consecutiveErrorLimit` in a row, 4 by default; the
//! rollout is then aborted too (argo-rollouts issue 1466).
//! Not modelled: the first measurement at second 0, before there is anything to measure. Leaving it out
//! favours Argo Rollouts.

use super::{Answer, success_ratio};
use crate::judge::{Judge, Verdict};
use crate::traces::{SCRAPE, Trace};

/// An analysis template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `successCondition: result >= least`, 0 to 1.
    pub least: f64,
    /// Seconds between measurements.
    pub interval: u32,
    /// Seconds that the query looks back.
    pub window: u32,
    /// `failureLimit`.
    pub failures: u32,
    /// `consecutiveErrorLimit`.
    pub errors: u32,
}

impl Settings {
    /// The documentation's example: 95 % every five minutes, three failures allowed. Its query takes
    /// `irate`, which looks at the last two scrapes only.
    pub const DOCUMENTED: Self = Self {
        least: 0.95,
        interval: 300,
        window: SCRAPE,
        failures: 3,
        errors: 4,
    };
}

/// One analysis run.
#[derive(Clone, Debug)]
pub struct Argo {
    settings: Settings,
    next: u32,
    failed: u32,
    errors_in_a_row: u32,
}

impl Argo {
    /// An analysis run at its start.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            next: settings.interval,
            failed: 0,
            errors_in_a_row: 0,
        }
    }
}

impl Judge for Argo {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        if now < self.next {
            return Verdict::Continue;
        }
        self.next = now + self.settings.interval;
        match success_ratio(trace, now, self.settings.window) {
            Answer::Empty => {
                self.errors_in_a_row += 1;
                self.next = now + SCRAPE;
            }
            answer => {
                self.errors_in_a_row = 0;
                let good = matches!(answer, Answer::Ratio(ratio) if ratio >= self.settings.least);
                self.failed += u32::from(!good);
            }
        }
        if self.failed > self.settings.failures || self.errors_in_a_row > self.settings.errors {
            Verdict::Rollback
        } else {
            Verdict::Continue
        }
    }
}

//! Molt's judge. The only file that knows the engine's functions.

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{Block, Counts, Evidence, Limits, Objective, PodCounts, SloView, judge_harm};

use crate::judge::{Judge, Verdict};
use crate::traces::{Arm, SCRAPE, Seen, Trace};

/// Molt's engine with one objective and the default limits.
#[derive(Clone, Debug)]
pub struct Engine {
    objective: Objective,
    limits: Limits,
    evidence: Evidence,
}

impl Engine {
    /// The engine at a canary's start, for an objective of thirty days that allows `bad_fraction`, above 0
    /// and below 1.
    pub fn new(bad_fraction: f64) -> Self {
        let window = SignedDuration::from_hours(30 * 24);
        Self {
            objective: Objective { bad_fraction, window },
            limits: Limits::default(),
            evidence: Evidence::default(),
        }
    }

    /// Takes in the block of one scrape that begins at `start`.
    fn absorb(&mut self, start: u32, weight: f64, canary: Counts, stable: Counts) {
        self.evidence.absorb(&Block {
            start: at(start),
            end: at(start + SCRAPE),
            canary_weight: (weight * 100.0).round() as u8,
            weight_in_force: true,
            canary,
            stable,
            canary_pods: PodCounts::default(),
            stable_pods: PodCounts::default(),
            reference: None,
        });
    }

    /// The objective with its evidence, for a service that history promises `per_second` requests.
    fn view(&self, per_second: f64) -> SloView<'_> {
        SloView {
            name: "availability",
            objective: &self.objective,
            expected_requests: self.objective.expected_requests(per_second),
            may_spend: self.limits.max_budget_spend(),
            evidence: &self.evidence,
        }
    }
}

fn counts(seen: Seen) -> Counts {
    Counts::new(seen.total, seen.bad).unwrap_or_default()
}

fn at(seconds: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(seconds))
}

impl Judge for Engine {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        let [canary, stable] = [Arm::Canary, Arm::Stable].map(|arm| counts(trace.window(arm, now, SCRAPE)));
        self.absorb(now - SCRAPE, trace.weight, canary, stable);
        match judge_harm(&[self.view(trace.per_second)], &self.limits) {
            Some(_) => Verdict::Rollback,
            None => Verdict::Continue,
        }
    }
}

/// Several objectives in the middle of a rollout, for measuring what one verdict costs.
#[derive(Clone, Debug)]
pub struct Verdicts {
    engines: Vec<Engine>,
    now: u32,
}

impl Verdicts {
    /// This many objectives which have seen ten minutes of healthy traffic at 20 requests a second.
    pub fn warm(objectives: usize) -> Self {
        let mut verdicts = Self {
            engines: vec![Engine::new(0.01); objectives],
            now: 0,
        };
        for _ in 0..40 {
            verdicts.judge();
        }
        verdicts
    }

    /// Takes in one block for each objective and judges them together: whether the canary is taken back.
    pub fn judge(&mut self) -> bool {
        let bad = f64::from(self.now / SCRAPE % 2);
        for engine in &mut self.engines {
            let canary = Counts::new(30.0, bad).unwrap_or_default();
            let stable = Counts::new(270.0, 3.0).unwrap_or_default();
            engine.absorb(self.now, 0.1, canary, stable);
        }
        self.now += SCRAPE;
        let slos: Vec<_> = self.engines.iter().map(|engine| engine.view(20.0)).collect();
        self.engines
            .first()
            .is_some_and(|engine| judge_harm(&slos, &engine.limits).is_some())
    }
}

//! Molt's judge. The only file that knows the engine's functions.

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Limits, Objective, Past, PodCounts, SloView, WATCH, judge_harm,
    margin_for_promotion, margin_for_step, safe_for_promotion,
};

use crate::judge::{Judge, Verdict};
use crate::traces::{Arm, BEFORE, Pods, SCRAPE, Seen, Trace, World};

/// Molt's engine with one objective and the default limits.
#[derive(Clone, Debug)]
pub struct Engine {
    objective: Objective,
    limits: Limits,
    evidence: Evidence,
    /// Scrapes in one block.
    scrapes: u32,
    /// Seconds up to which blocks were read, or given up.
    read_to: u32,
}

/// A history that the operator reads: a hundred and twenty blocks.
const HISTORY: u32 = 120 * SCRAPE;
/// The steps that a rollout with default settings asks for.
const STEPS: [f64; 4] = [0.05, 0.1, 0.25, 0.5];

/// What stable's history before the canary came tells, as the operator finds it out.
pub fn history(world: &World, seed: u64) -> Past {
    let before = World {
        weight: 0.0,
        canary_bad: world.stable_bad,
        incident: false,
        hangs: false,
        seconds: HISTORY,
        ..*world
    };
    let trace = Trace::simulate(&before, seed);
    if trace.falls(0, i64::from(HISTORY)).count() >= SAW_TOOTH {
        return Past::default();
    }
    let blocks: Vec<Counts> = trace
        .times()
        .map(|end| counts(trace.once(Arm::Stable, end)))
        .collect();
    Past::of(&blocks)
}

impl Engine {
    /// The engine at a canary's start, for an objective of thirty days that allows `bad_fraction`, above 0
    /// and below 1, and what its history tells.
    pub fn new(bad_fraction: f64, past: &Past) -> Self {
        let window = SignedDuration::from_hours(30 * 24);
        let objective = Objective { bad_fraction, window };
        let limits = Limits::default();
        let steps = STEPS.map(|share| margin_for_step(&objective, share));
        let promotion = margin_for_promotion(&objective, &limits, WATCH);
        let margins: Vec<f64> = steps.into_iter().chain([promotion]).collect();
        let mut evidence = Evidence::for_margins(&margins);
        evidence.know(past);
        Self {
            objective,
            limits,
            evidence,
            scrapes: 1,
            read_to: 0,
        }
    }

    /// The same with blocks of so many scrapes, 1 or more.
    #[must_use]
    pub fn in_blocks_of(self, scrapes: u32) -> Self {
        Self { scrapes, ..self }
    }

    /// Takes in the block that begins at `start`.
    fn absorb(&mut self, start: u32, weight: f64, [canary, stable]: [Counts; 2], pods: Option<&[Pods; 2]>) {
        let [canary_pods, stable_pods] = pods.map_or_else(Default::default, |pods| pods.map(by_pod));
        self.evidence.absorb(&Block {
            start: at(start),
            end: at(start + self.scrapes * SCRAPE),
            canary_weight: (weight * 100.0).round() as u8,
            weight_in_force: true,
            weight_settled: true,
            canary,
            canary_late: Counts::default(),
            stable,
            canary_pods,
            stable_pods,
            at_route: None,
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
            alone: false,
            evidence: &self.evidence,
        }
    }
}

fn by_pod(pods: Pods) -> PodCounts {
    let mut all = PodCounts::default();
    for (pod, seen) in pods.into_iter().enumerate() {
        all.add(POD_NAMES[pod % POD_NAMES.len()], counts(seen));
    }
    all
}

/// Names as a ReplicaSet gives them.
const POD_NAMES: [&str; 5] = [
    "web-7d9f8-2xkqz",
    "web-7d9f8-9b4mt",
    "web-7d9f8-c7wvn",
    "web-7d9f8-hl5rp",
    "web-7d9f8-zq8dj",
];

/// The pods of both arms in two times.
fn both_plus(mut sum: [Pods; 2], more: [Pods; 2]) -> [Pods; 2] {
    for (sum, more) in sum.iter_mut().flatten().zip(more.into_iter().flatten()) {
        *sum = sum.plus(more);
    }
    sum
}

fn counts(seen: Seen) -> Counts {
    Counts::new(seen.total, seen.bad).unwrap_or_default()
}

fn at(seconds: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(seconds))
}

/// The operator looks so many seconds back before the first block that it reads.
const LOOK_BACK: u32 = 120;
/// From so many falls in that time on nothing that it reads counts.
const SAW_TOOTH: usize = 2;
/// From so many in the hour before the canary on nothing ever does.
const SAW_TOOTH_BEFORE: usize = 5;
/// After so many changes of the process without a fall these don't matter.
const OCCASIONS: usize = 4;
/// So many blocks that could not be read are asked for again.
const AGAIN: u32 = 20;

impl Engine {
    /// The blocks up to `now` that the operator takes for evidence, by their ends.
    fn readable(&mut self, now: u32, trace: &Trace) -> Vec<u32> {
        let block = self.scrapes * SCRAPE;
        let from = self.read_to.max(now.saturating_sub(AGAIN * block));
        let (since, to) = (i64::from(from) - i64::from(LOOK_BACK), i64::from(now));
        let before = -i64::from(BEFORE * SCRAPE);
        let (falls, changes) = (trace.falls(since, to).count(), trace.changes(since, to));
        let several = changes > 0 && (falls > 0 || changes < OCCASIONS);
        if several || falls >= SAW_TOOTH || trace.falls(before, 0).count() >= SAW_TOOTH_BEFORE {
            return Vec::new();
        }
        let is_spoilt = |end: u32| {
            let end = i64::from(end);
            trace
                .falls(end - i64::from(block) - i64::from(LOOK_BACK), end)
                .next()
                .is_some()
        };
        let ends: Vec<u32> = (from / block + 1..=now / block)
            .map(|edge| edge * block)
            .filter(|end| !is_spoilt(*end))
            .collect();
        self.read_to = ends.last().copied().unwrap_or(from);
        ends
    }

    fn take_in(&mut self, end: u32, trace: &Trace) {
        let block = self.scrapes * SCRAPE;
        let scrapes = || (0..self.scrapes).map(|scrape| end - scrape * SCRAPE);
        let pods = scrapes()
            .map(|end| trace.pods(end).copied())
            .reduce(|sum, more| Some(both_plus(sum?, more?)))
            .flatten();
        let both = match pods {
            // A pod that is scraped twice counts once.
            Some(pods) => pods.map(|pods| counts(pods.into_iter().fold(Seen::default(), Seen::plus))),
            None => [Arm::Canary, Arm::Stable].map(|arm| {
                let parts = scrapes().map(|end| trace.once(arm, end));
                counts(parts.fold(Seen::default(), Seen::plus))
            }),
        };
        self.absorb(end - block, trace.weight, both, pods.as_ref());
    }
}

impl Judge for Engine {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        if !now.is_multiple_of(self.scrapes * SCRAPE) {
            return Verdict::Continue;
        }
        for end in self.readable(now, trace) {
            self.take_in(end, trace);
        }
        match judge_harm(&[self.view(trace.per_second)], 1, &self.limits) {
            Some(_) => Verdict::Rollback,
            None => Verdict::Continue,
        }
    }

    fn is_safe(&self, now: u32) -> bool {
        // What the rate of requests is matters for the budget alone, which this does not ask.
        self.read_to == now && safe_for_promotion(&[self.view(1.0)], &self.limits, WATCH).is_ok()
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
            engines: vec![
                Engine::new(
                    0.01,
                    &Past {
                        correlation: Some(0.0),
                        ..Past::default()
                    }
                );
                objectives
            ],
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
            engine.absorb(self.now, 0.1, [canary, stable], None);
        }
        self.now += SCRAPE;
        let slos: Vec<_> = self.engines.iter().map(|engine| engine.view(20.0)).collect();
        self.engines
            .first()
            .is_some_and(|engine| judge_harm(&slos, slos.len(), &engine.limits).is_some())
    }
}

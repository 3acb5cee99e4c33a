//! Molt's judge. The only file that knows the engine's functions.

use std::collections::BTreeMap;
use std::slice;

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Falls, Limits, MANY_FALLS, Objective, Past, PodCounts, Sample, Series, SloView,
    Starts, WATCH, increase, judge_harm, look_back, margin_for_promotion, margin_for_step,
    safe_for_promotion,
};

use crate::judge::{Judge, Verdict};
use crate::traces::{Arm, BEFORE, Pods, SCRAPE, Scrape, Seen, Trace, World};

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
    /// Stable's counters of the hour before are evidence, once that was looked at.
    is_known: Option<bool>,
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
    let read = Reading::of(&trace, Arm::Stable, 0, i64::from(HISTORY));
    if read.is_some_and(|reading| reading.falls.is_saw_tooth()) {
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
            is_known: None,
        }
    }

    /// The same with blocks of so many scrapes, 1 or more.
    #[must_use]
    pub fn in_blocks_of(self, scrapes: u32) -> Self {
        Self { scrapes, ..self }
    }

    /// Takes in the block that begins at `start`, of so many scrapes.
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

/// The start of each trace, in seconds of the epoch.
const BEGIN: i64 = 1_000_000;

fn at(seconds: u32) -> Timestamp {
    at_millis(i64::from(seconds) * 1000)
}

/// So many milliseconds from the start.
fn at_millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGIN * 1000 + millis).unwrap_or_default()
}

/// An arm's counters fell so often in the hour before the canary that nothing is compared with it.
fn falls_before(trace: &Trace, arm: Arm) -> bool {
    let reading = Reading::of(trace, arm, -i64::from(BEFORE * SCRAPE), 0);
    reading.is_some_and(|reading| reading.falls.count() >= MANY_FALLS)
}

/// So many blocks that could not be read are asked for again.
const AGAIN: u32 = 20;

/// The counters of one arm, as the operator reads them: where several workers answer, by its own rules.
struct Reading {
    /// The counters of good requests, and those of bad ones.
    series: [Series; 2],
    falls: Falls,
    /// The beginning of the time that the samples cover.
    seen_from: Timestamp,
    /// When the pod was created.
    births: BTreeMap<String, Timestamp>,
}

impl Reading {
    /// What was scraped in `(from, to]` seconds from the start; `None` where nothing but clean counters is.
    fn of(trace: &Trace, arm: Arm, from: i64, to: i64) -> Option<Self> {
        let scrapes = trace.raw(arm, from, to);
        if scrapes.is_empty() {
            return None;
        }
        let counter = |value: fn(&Scrape) -> f64| -> Vec<Sample> {
            let sample = |s: &Scrape| Sample {
                at: at_millis(s.millis),
                value: value(s),
            };
            scrapes.iter().map(sample).collect()
        };
        let good = counter(|s| s.good);
        let bad = counter(|s| s.bad);
        // All of them tell when they began, or none does.
        let began = if scrapes[0].began.is_some() {
            counter(|s| BEGIN as f64 + s.began.unwrap_or(0.0))
        } else {
            Vec::new()
        };
        // Its container began with it, before the first request: nothing explains a fall.
        let born = at_millis(match arm {
            Arm::Canary => -20_000,
            Arm::Stable => -7_200_000,
        });
        let containers = Starts {
            at: vec![born],
            older: false,
        };
        let falls = Falls::find(
            POD_NAMES[0],
            [good.as_slice(), bad.as_slice()].into_iter(),
            &[began],
            &containers,
        );
        let series = |key: &str, samples: Vec<Sample>| Series {
            pod: POD_NAMES[0].to_owned(),
            key: key.to_owned(),
            samples,
        };
        Some(Self {
            series: [series("good", good), series("bad", bad)],
            falls,
            seen_from: at_millis(from * 1000),
            births: BTreeMap::from([(POD_NAMES[0].to_owned(), born)]),
        })
    }

    /// What was counted in `(start, end]` seconds from the start; `None` where it is no evidence.
    fn counts(&self, start: u32, end: u32) -> Option<Counts> {
        let (start, end) = (at(start), at(end));
        if self.falls.spoil(start, end) {
            return None;
        }
        let grown = |series| increase(slice::from_ref(series), &self.births, self.seen_from, start, end);
        let [good, bad] = self.series.each_ref().map(grown);
        Counts::new(good + bad, bad)
    }
}

/// What the operator has of both arms in `(start, end]`, of counters that several workers answer with.
fn both_counts(
    [canary, stable]: &[Option<Reading>; 2],
    trace: &Trace,
    start: u32,
    end: u32,
) -> Option<[Counts; 2]> {
    let of = |reading: &Option<Reading>, arm| match reading {
        Some(reading) => reading.counts(start, end),
        None => Some(clean(trace, arm, start, end)),
    };
    Some([of(canary, Arm::Canary)?, of(stable, Arm::Stable)?])
}

/// What counters that each request is counted by once tell.
fn clean(trace: &Trace, arm: Arm, start: u32, end: u32) -> Counts {
    let scrapes = (start / SCRAPE + 1..=end / SCRAPE).map(|scrape| trace.once(arm, scrape * SCRAPE));
    counts(scrapes.fold(Seen::default(), Seen::plus))
}

impl Engine {
    /// Takes in what the operator can read up to `now`: it reads again what it could not before.
    fn read(&mut self, now: u32, trace: &Trace) {
        let block = self.scrapes * SCRAPE;
        let from = self.read_to.max(now.saturating_sub(AGAIN * block)) / block * block;
        let since = i64::from(from) - look_back(SignedDuration::from_secs(i64::from(block) / 2)).as_secs();
        let readings = [Arm::Canary, Arm::Stable].map(|arm| Reading::of(trace, arm, since, i64::from(now)));
        let spoilt = readings
            .iter()
            .flatten()
            .any(|reading| reading.falls.is_saw_tooth());
        for edge in from / block..if spoilt { 0 } else { now / block } {
            let (start, end) = (edge * block, (edge + 1) * block);
            if let Some(both) = both_counts(&readings, trace, start, end) {
                self.take_in(start, end, both, trace);
                self.read_to = end;
            }
        }
        self.read_to = self.read_to.max(from);
    }

    fn take_in(&mut self, start: u32, end: u32, both: [Counts; 2], trace: &Trace) {
        let scrapes = (start / SCRAPE + 1..=end / SCRAPE).map(|scrape| scrape * SCRAPE);
        let pods = scrapes
            .map(|end| trace.pods(end).copied())
            .reduce(|sum, more| Some(both_plus(sum?, more?)))
            .flatten();
        self.absorb(start, trace.weight, both, pods.as_ref());
    }
}

impl Judge for Engine {
    fn look(&mut self, now: u32, trace: &Trace) -> Verdict {
        if !now.is_multiple_of(self.scrapes * SCRAPE) {
            return Verdict::Continue;
        }
        let is_known = *self
            .is_known
            .get_or_insert_with(|| !falls_before(trace, Arm::Stable));
        if is_known {
            self.read(now, trace);
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

//! Many rollouts: how often they end how, and what that costs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde::Serialize;

use crate::run::{Outcome, Summary, follow};
use crate::setup::Setup;

/// The middle and the tail of what was seen, by nearest rank; `None` where nothing was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of all were at most this.
    pub p50: Option<f64>,
    /// 95 % of all were at most this.
    pub p95: Option<f64>,
}

impl Percentiles {
    /// Of these values, which are no NaN.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        // Whole percents, so that no float dust moves a rank.
        let rank = |percent: usize| {
            sorted
                .get((sorted.len() * percent).div_ceil(100).max(1) - 1)
                .copied()
        };
        Self {
            p50: rank(50),
            p95: rank(95),
        }
    }
}

/// Why some rollouts ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// How they ended.
    pub outcome: Outcome,
    /// Why: one `CamelCase` word of the state machine.
    pub reason: String,
    /// What the first one said of it.
    pub message: String,
    /// How many did.
    pub runs: u32,
    /// The seed of the first one, to look at it by itself.
    pub seed: u64,
}

/// The distribution of many rollouts.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Study {
    /// Rollouts.
    pub runs: u32,
    /// How many ended how; every outcome is listed.
    pub outcomes: BTreeMap<Outcome, u32>,
    /// Why those that were not promoted ended, the most frequent first.
    pub reasons: Vec<Reason>,
    /// Seconds from the canary's first request to the decision, of the rollouts that had one.
    pub decide_seconds: Percentiles,
    /// Seconds in which users were sent to the canary.
    pub canary_exposure_seconds: Percentiles,
    /// Requests that failed at the canary.
    pub failed_requests: Percentiles,
    /// Requests that failed at stable in the same rollouts.
    pub failed_requests_at_stable: Percentiles,
    /// Share of the window's error budget that the rollout spent, in percent.
    pub budget_spent_percent: Percentiles,
    /// What the scenario had for later than the end, such as `errors@10m`, and in how many rollouts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_begun: BTreeMap<String, u32>,
}

impl Study {
    /// Of these rollouts.
    pub fn of(summaries: &[Summary]) -> Self {
        let all = || summaries.iter();
        let mut outcomes: BTreeMap<Outcome, u32> = Outcome::ALL.into_iter().map(|o| (o, 0)).collect();
        for summary in all() {
            *outcomes.entry(summary.outcome).or_default() += 1;
        }
        let mut not_begun: BTreeMap<String, u32> = BTreeMap::new();
        for what in all().flat_map(|s| &s.not_begun) {
            *not_begun.entry(what.clone()).or_default() += 1;
        }
        Self {
            runs: outcomes.values().sum(),
            outcomes,
            reasons: reasons(summaries),
            decide_seconds: Percentiles::of(all().filter_map(|s| s.decide_seconds)),
            canary_exposure_seconds: Percentiles::of(all().map(|s| s.canary_exposure_seconds)),
            failed_requests: Percentiles::of(all().map(|s| s.canary.failed as f64)),
            failed_requests_at_stable: Percentiles::of(all().map(|s| s.stable.failed as f64)),
            budget_spent_percent: Percentiles::of(all().map(|s| s.budget_spent_percent)),
            not_begun,
        }
    }
}

fn reasons(summaries: &[Summary]) -> Vec<Reason> {
    let mut found: Vec<Reason> = Vec::new();
    for summary in summaries.iter().filter(|s| s.outcome != Outcome::Promoted) {
        let same = |known: &&mut Reason| (known.outcome, &known.reason) == (summary.outcome, &summary.reason);
        match found.iter_mut().find(same) {
            Some(known) => known.runs += 1,
            None => found.push(Reason {
                outcome: summary.outcome,
                reason: summary.reason.clone(),
                message: summary.message.clone(),
                runs: 1,
                seed: summary.seed,
            }),
        }
    }
    found.sort_by_key(|known| std::cmp::Reverse(known.runs));
    found
}

/// Simulates `runs` rollouts on every core. Rollout `i` is [`run`](crate::run) with the seed `seed + i`, so
/// that each can be looked at by itself, and the number of threads changes nothing.
pub fn study(setup: &Setup, runs: u32, seed: u64) -> Study {
    Study::of(&summaries(setup, runs, seed))
}

/// How each rollout of a [`study`] ended, in the order of their seeds.
pub fn summaries(setup: &Setup, runs: u32, seed: u64) -> Vec<Summary> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    on_threads(setup, runs, seed, cores)
}

fn on_threads(setup: &Setup, runs: u32, seed: u64, threads: usize) -> Vec<Summary> {
    let next = AtomicU32::new(0);
    let work = || {
        let mut mine = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= runs {
                return mine;
            }
            let summary = follow(setup, seed.wrapping_add(u64::from(index)), |_, _| ());
            mine.push((index, summary));
        }
    };
    let threads = threads.clamp(1, runs.max(1) as usize);
    let mut all: Vec<(u32, Summary)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let finished = workers.into_iter().map(|worker| match worker.join() {
            Ok(mine) => mine,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        finished.flatten().collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, summary)| summary).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::setup::Measure;
    use jiff::SignedDuration;
    use molt_core::analysis::{Limits, Objective};
    use molt_core::plan::{
        BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Room, RouteMode, RunsPlan, SloPlan, Step,
    };

    /// A short rollout.
    pub fn plan(slo: &str) -> Plan {
        let seconds = SignedDuration::from_secs;
        Plan {
            revision: Some("7d9f8c0000".into()),
            deleting: false,
            replicas: 2,
            room: Room::default(),
            steps: vec![Step::SetWeight(20), Step::Dwell(30)],
            at_once: false,
            bake: seconds(60),
            watch: SignedDuration::ZERO,
            scale_down_delay: seconds(10),
            abort_scale_down_delay: seconds(10),
            drain: seconds(10),
            progress_deadline: seconds(300),
            paused: false,
            strict_paused: false,
            migrations: None,
            rollback_window: 0,
            workload: None,
            group: None,
            revision_history_limit: 2,
            route: RouteMode::Owned,
            runs: RunsPlan::default(),
            shared_in_cluster: false,
            sticky: false,
            slos: vec![SloPlan {
                name: slo.to_owned(),
                objective: Objective::parse("99", SignedDuration::from_hours(720)).unwrap(),
                question: String::new(),
            }],
            limits: Limits::default(),
            on_inconclusive: OnInconclusive::Pause,
            budget_exhausted: BudgetExhausted::Slow,
            on_share_mismatch: OnShareMismatch::Hold,
            block: seconds(10),
            basis: String::new(),
            conditions: Vec::new(),
            guards: Vec::new(),
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let plan = plan("availability");
        let scenario = "errors=5%".parse().unwrap();
        let baseline = "errors=2%".parse().unwrap();
        let setup = Setup::new(plan, vec![Measure::Errors], baseline, scenario, 30.0).unwrap();
        let one = on_threads(&setup, 40, 7, 1);
        assert_eq!(one, on_threads(&setup, 40, 7, 3));
        let seeds: Vec<u64> = one.iter().map(|s| s.seed).collect();
        assert_eq!(seeds, (7..47).collect::<Vec<_>>());
        assert_eq!(one[5], crate::run(&setup, 12).summary);
        assert!(one.iter().any(|s| *s
            != Summary {
                seed: s.seed,
                ..one[0].clone()
            }));
    }

    #[test]
    fn reasons_are_told_with_how_often_and_where_to_look() {
        let setup = |scenario: &str| {
            let (scenario, baseline) = (scenario.parse().unwrap(), "errors=1%".parse().unwrap());
            Setup::new(
                plan("availability"),
                vec![Measure::Errors],
                baseline,
                scenario,
                30.0,
            )
            .unwrap()
        };
        let told = |known: &Reason| (known.outcome, known.reason.clone(), known.runs, known.seed);
        let reason = |outcome, reason: &str, runs, seed| (outcome, reason.to_owned(), runs, seed);
        let mut all = summaries(&setup("crash@20s"), 2, 1);
        all.extend(summaries(&setup("hang=100%"), 3, 7));
        assert_eq!(
            Study::of(&all).reasons.iter().map(told).collect::<Vec<_>>(),
            [
                reason(Outcome::RolledBack, "MissingResponses", 3, 7),
                reason(Outcome::RolledBack, "CanaryCrashLooping", 2, 1),
            ]
        );
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |n: u32| Percentiles::of((1..=n).map(f64::from));
        assert_eq!((of(0).p50, of(0).p95), (None, None));
        assert_eq!((of(1).p50, of(1).p95), (Some(1.0), Some(1.0)));
        assert_eq!((of(100).p50, of(100).p95), (Some(50.0), Some(95.0)));
        assert_eq!((of(20).p50, of(20).p95), (Some(10.0), Some(19.0)));
    }
}

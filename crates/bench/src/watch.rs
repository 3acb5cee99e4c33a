//! The watch after a promotion: what it costs healthy releases, and what it finds of harm that begins in it.
//!
//! Nobody is left beside the revision then, so it is judged beside what stable's rate was (`judge_watch`): by evidence, and
//! by a burn that pages or real spend.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{
    Block, Counts, Evidence, Limits, Objective, Past, PodCounts, SloView, WATCH, judge_watch,
};

use crate::cases::PLAIN;
use crate::measure::{parallel, percent, seed, wilson};
use crate::traces::{Arm, SCRAPE, Seen, Trace, World};

/// The purpose of its seeds: beyond those of the table's cases.
const PURPOSE: u64 = 1000;
/// Seconds that both served side by side before, at a tenth of the traffic.
const BESIDE: u32 = 240;
/// Seconds of the bake.
const BAKE: u32 = 300;
/// Seconds of a block.
const BLOCK: u32 = 2 * SCRAPE;

/// One row: requests per second, and what the revision does from its promotion on.
struct Case {
    name: &'static str,
    per_second: f64,
    bad: f64,
    incident: bool,
}

const fn case(name: &'static str, per_second: f64, bad: f64) -> Case {
    Case {
        name,
        per_second,
        bad,
        incident: false,
    }
}

/// Stable failed one request in a thousand, and the objective is 99.9 %.
const USUAL: f64 = 0.001;

const CASES: [Case; 9] = [
    case("healthy, 20 rps", 20.0, USUAL),
    case("healthy, 1 rps", 1.0, USUAL),
    Case {
        incident: true,
        ..case(
            "healthy, an incident of ten times the errors for 5 min, 20 rps",
            20.0,
            USUAL,
        )
    },
    Case {
        incident: true,
        ..case(
            "healthy, an incident of ten times the errors for 5 min, 200 rps",
            200.0,
            USUAL,
        )
    },
    case("0.5 %, five times the objective, 20 rps", 20.0, 0.005),
    case("1 %, ten times the objective, 20 rps", 20.0, 0.01),
    case("5 %, 20 rps", 20.0, 0.05),
    case("5 %, 1 rps", 1.0, 0.05),
    case("all, 20 rps", 20.0, 1.0),
];

/// When a revision was taken back, in seconds from its promotion, and the share of the month's budget that its bad requests
/// beyond stable's rate had spent until then, or until the watch was over.
#[derive(Clone, Copy, Debug)]
struct Fate {
    at: Option<u32>,
    spent: f64,
}

struct Watched {
    objective: Objective,
    evidence: Evidence,
    blocks: i64,
}

impl Watched {
    fn new() -> Self {
        let objective = Objective {
            bad_fraction: 0.001,
            window: SignedDuration::from_hours(30 * 24),
        };
        Self {
            objective,
            evidence: Evidence::default(),
            blocks: 0,
        }
    }

    /// Takes in the block of a trace that ends at `end`, at a weight of a tenth or of all.
    fn absorb(&mut self, trace: &Trace, end: u32, alone: bool) {
        let counted = |arm| {
            let seen: Seen = trace.window(arm, end, BLOCK);
            Counts::new(seen.total, seen.bad).unwrap_or_default()
        };
        let at = |block: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::from(BLOCK) * block);
        self.evidence.absorb(&Block {
            start: at(self.blocks),
            end: at(self.blocks + 1),
            canary_weight: if alone { 100 } else { 10 },
            weight_in_force: true,
            weight_settled: true,
            canary: counted(Arm::Canary),
            canary_late: Counts::default(),
            stable: counted(Arm::Stable),
            canary_pods: PodCounts::default(),
            stable_pods: PodCounts::default(),
            at_route: None,
            reference: alone.then(|| self.evidence.stable_upper_bound()),
        });
        self.blocks += 1;
    }

    fn is_taken_back(&self, per_second: f64) -> bool {
        let limits = Limits::default();
        let view = SloView {
            name: "availability",
            objective: &self.objective,
            expected_requests: self.objective.expected_requests(per_second),
            may_spend: limits.max_budget_spend(),
            alone: true,
            evidence: &self.evidence,
        };
        judge_watch(&[view], 1, &limits).is_some()
    }
}

fn live(case: &Case, run: u64) -> Fate {
    let world = |weight: f64, bad: f64, seconds: u32, incident: bool| World {
        per_second: case.per_second,
        weight,
        stable_bad: USUAL,
        canary_bad: bad,
        incident,
        seconds,
        ..PLAIN
    };
    let trace = |kind: u64, world: World| Trace::simulate(&world, seed(run, PURPOSE, kind));
    let mut watched = Watched::new();
    let requests = case.per_second * f64::from(BLOCK);
    watched.evidence.know(&Past::steady(requests, USUAL, Some(0.0)));
    let before = trace(0, world(0.1, USUAL, BESIDE, false));
    (1..=BESIDE / BLOCK).for_each(|block| watched.absorb(&before, block * BLOCK, false));
    let bake = trace(1, world(1.0, USUAL, BAKE, false));
    (1..=BAKE / BLOCK).for_each(|block| watched.absorb(&bake, block * BLOCK, true));
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    let after = trace(2, world(1.0, case.bad, seconds, case.incident));
    let mut ends = (1..=seconds / BLOCK).map(|block| block * BLOCK);
    let at = ends.find(|end| {
        watched.absorb(&after, *end, true);
        watched.is_taken_back(case.per_second)
    });
    let until = at.unwrap_or(seconds);
    let seen = after.window(Arm::Canary, until, until);
    let budget = watched.objective.budget(
        watched
            .objective
            .expected_requests(case.per_second)
            .unwrap_or(f64::INFINITY),
    );
    Fate {
        at,
        spent: (seen.bad - seen.total * USUAL).max(0.0) / budget,
    }
}

/// The table, as Markdown, of so many runs of each row.
pub fn table(runs: usize, root: u64) -> String {
    let mut text = "| from the promotion on | taken back, % (95 % interval) | seconds, median / 95 % | of the month's budget, median / 95 % |\n|---|---|---|---|\n".to_owned();
    for (row, case) in (0..).zip(&CASES) {
        let fates = parallel(runs, |run| live(case, seed(root, PURPOSE + 1 + row, run as u64)));
        let mut at: Vec<f64> = fates.iter().filter_map(|fate| fate.at.map(f64::from)).collect();
        let mut spent: Vec<f64> = fates.iter().map(|fate| fate.spent * 100.0).collect();
        let taken = at.len();
        let (low, high) = wilson(taken, runs);
        let share = taken as f64 / runs.max(1) as f64;
        let rank = |values: &mut Vec<f64>, part: f64| {
            values.sort_by(f64::total_cmp);
            let rank = (part * runs as f64).ceil().max(1.0) as usize;
            values.get(rank - 1).copied()
        };
        let seconds = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.0}"));
        let percents = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.2} %"));
        let _ = writeln!(
            text,
            "| {} | {} ({}–{}) | {} / {} | {} / {} |",
            case.name,
            percent(share),
            percent(low),
            percent(high),
            seconds(rank(&mut at, 0.5)),
            seconds(rank(&mut at, 0.95)),
            percents(rank(&mut spent, 0.5)),
            percents(rank(&mut spent, 0.95)),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_finds_an_outage_and_leaves_healthy_revisions_alone() {
        let fates = |case: &Case| (0..40).map(|run| live(case, run)).collect::<Vec<_>>();
        assert!(fates(&CASES[0]).iter().all(|fate| fate.at.is_none()));
        let outage = fates(&CASES[CASES.len() - 1]);
        assert!(
            outage
                .iter()
                .all(|fate| fate.at.is_some_and(|at| at <= 2 * BLOCK))
        );
        assert_eq!(table(4, 1).lines().count(), 2 + CASES.len());
    }
}

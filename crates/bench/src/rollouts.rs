//! Whole rollouts, from the first step to the promotion, by the operator's own state machine.

use std::fmt::Write as _;

use jiff::SignedDuration;
use molt_core::analysis::{Limits, Objective};
use molt_core::plan::{
    BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Room, RouteMode, SloPlan, Step,
};
use molt_sim::{Measure, Outcome, Setup, Study, study};

use crate::report::MISSED;

/// What is expected of a rollout.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Nothing is asked for: this is what the others are held against.
    Reference,
    /// Nothing is asked for: what it takes is told.
    Reported,
    /// Promoted, unattended, at the median a second after the floor at most, and within so many seconds at the 95th
    /// percentile. The floor is what the dwells and the router take: a rollout whose objective is shown at once.
    AtTheFloor(f64),
    /// Promoted, unattended, within so many seconds at the 95th percentile.
    Promoted(f64),
    /// At most this share rolled back.
    SeldomRolledBack(f64),
    /// At most one in twenty promoted.
    SeldomPromoted,
    /// Rolled back within so many seconds at the 95th percentile.
    RolledBack(f64),
    /// Rolled back within so many seconds at the median and at the 95th percentile.
    Found(f64, f64),
    /// Rolled back by the first block, which is read two seconds after its end.
    InOneBlock,
}

/// One rollout: its name, objective in percent, requests per second, what stable does, what the canary does, the share
/// of the budget that is left, and the goal.
struct Case {
    name: &'static str,
    objective: &'static str,
    rps: f64,
    stable: &'static str,
    canary: &'static str,
    left: f64,
    /// Seconds of a block.
    block: i64,
    /// The weights of its steps; without any all users move at once.
    weights: &'static [u8],
    goal: Goal,
}

/// The steps and blocks of a case that says nothing of them.
const WEIGHTS: &[u8] = &[5, 10, 25, 50];
const BLOCK: i64 = 15;

/// A case whose stable fails one request in a thousand, with all of the budget left.
const fn case(
    name: &'static str,
    objective: &'static str,
    rps: f64,
    canary: &'static str,
    goal: Goal,
) -> Case {
    Case {
        name,
        objective,
        rps,
        stable: "errors=0.1%",
        canary,
        left: 1.0,
        block: BLOCK,
        weights: WEIGHTS,
        goal,
    }
}

/// The cases; the first is the floor.
const CASES: [Case; 29] = [
    case(
        "the floor: an objective of 10 %",
        "10",
        1000.0,
        "good",
        Goal::Reference,
    ),
    case(
        "healthy, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "good",
        Goal::AtTheFloor(300.0),
    ),
    case(
        "healthy, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "good",
        Goal::Promoted(900.0),
    ),
    case(
        "healthy, 99.9 %, 5 rps",
        "99.9",
        5.0,
        "good",
        Goal::Promoted(1200.0),
    ),
    case(
        "healthy, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "good",
        Goal::Promoted(1800.0),
    ),
    case(
        "1.1 % of the canary's bad, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "errors=1.1%",
        Goal::SeldomPromoted,
    ),
    case(
        "1.554 % of the canary's bad, 1 % above the margin of a promotion, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "errors=1.5544%",
        Goal::SeldomPromoted,
    ),
    case(
        "all of the canary's bad, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "errors=100%",
        Goal::InOneBlock,
    ),
    Case {
        block: 30,
        ..case(
            "all of the canary's bad, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "errors=100%",
            Goal::InOneBlock,
        )
    },
    Case {
        block: 30,
        ..case(
            "no answers at all, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "hang=100%",
            Goal::RolledBack(45.0),
        )
    },
    // The goal is of judges at a weight of 10 %; a block and its reading come on top here.
    Case {
        stable: "errors=1%",
        weights: &[10, 25, 50],
        ..case(
            "1 → 5 %, the first step at 10 %, 99 %, 20 rps",
            "99",
            20.0,
            "errors=5%",
            Goal::Found(90.0 + BLOCK as f64 + READ, 225.0 + BLOCK as f64 + READ),
        )
    },
    Case {
        stable: "errors=1%",
        block: 30,
        weights: &[10, 25, 50],
        ..case(
            "1 → 5 %, the first step at 10 %, blocks of 30 s, 99 %, 20 rps",
            "99",
            20.0,
            "errors=5%",
            Goal::Reported,
        )
    },
    case(
        "no answers at all, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=100%",
        Goal::RolledBack(45.0),
    ),
    case(
        "no answers at all, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "hang=100%",
        Goal::RolledBack(45.0),
    ),
    // Some twenty requests must have been due by the weight, 21 / (r·w), in whole blocks, of which the first begins up to
    // one later and the last is read two seconds after its end.
    case(
        "no answers at all, 99.9 %, 5 rps",
        "99.9",
        5.0,
        "hang=100%",
        Goal::RolledBack(107.0),
    ),
    case(
        "no answers at all, 99.9 %, 2 rps",
        "99.9",
        2.0,
        "hang=100%",
        Goal::RolledBack(242.0),
    ),
    Case {
        weights: &[],
        ..case(
            "all users at once, half of the requests never answered, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "hang=50%",
            Goal::RolledBack(62.0),
        )
    },
    Case {
        weights: &[],
        ..case(
            "all users at once, healthy, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    case(
        "a fifth of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=20%",
        Goal::SeldomPromoted,
    ),
    case(
        "half of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=50%",
        Goal::SeldomPromoted,
    ),
    case(
        "healthy, incident of both, 10 × for 5 min from 130 s, as a weight rises, 99.9 %, 100 rps",
        "99.9",
        100.0,
        "incident=10x@130s+300s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "healthy, incident of both, 10 × for 2 min from 300 s, in the bake, 99.9 %, 100 rps",
        "99.9",
        100.0,
        "incident=10x@300s+120s",
        Goal::SeldomRolledBack(0.005),
    ),
    case(
        "healthy, incident of both, 200 × for 100 s from 113 s, 99.9 %, 200 rps",
        "99.9",
        200.0,
        "incident=200x@113s+100s",
        Goal::SeldomRolledBack(0.01),
    ),
    case(
        "healthy, incident of both, all fails for 100 s from 220 s, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "incident=1000x@220s+100s",
        Goal::SeldomRolledBack(0.01),
    ),
    Case {
        stable: "errors=1%",
        left: 0.0,
        ..case(
            "healthy, stable at 1 %, no budget left, 99.9 %, 1 rps",
            "99.9",
            1.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        block: 30,
        ..case(
            "healthy, stable at 1 %, no budget left, blocks of 30 s, 99.9 %, 20 rps",
            "99.9",
            20.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        weights: &[],
        ..case(
            "all users at once, healthy, stable at 1 %, no budget left, 99.9 %, 5 rps",
            "99.9",
            5.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=0.5%",
        left: 0.0,
        ..case(
            "healthy, stable at 0.5 %, no budget left, 99.9 %, 5 rps",
            "99.9",
            5.0,
            "good",
            Goal::SeldomRolledBack(0.01),
        )
    },
    Case {
        stable: "errors=1%",
        left: 0.0,
        ..case(
            "5 % of the canary's bad, stable at 1 %, no budget left, 99.9 %, 1 rps",
            "99.9",
            1.0,
            "errors=5%",
            Goal::SeldomPromoted,
        )
    },
];

/// So many seconds after its end, at the most, a block has been read and decided on.
const READ: f64 = 2.0;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Rollout {
    name: &'static str,
    goal: Goal,
    /// Seconds of a block.
    block: f64,
    /// The share of the budget that it may spend, in percent.
    may_spend: f64,
    /// What it may be seen to have spent by then, in percent: chance moves the count.
    seen_spend: f64,
    study: Study,
}

/// Lives through all cases, so many times each, from this seed.
///
/// # Errors
///
/// When a case can't be simulated.
pub fn measure(runs: u32, seed: u64) -> Result<Vec<Rollout>, Box<dyn std::error::Error>> {
    CASES
        .into_iter()
        .map(|case| {
            let mut plan = plan(case.objective, case.weights).ok_or("no objective")?;
            plan.block = SignedDuration::from_secs(case.block);
            let measures = plan.slos.iter().map(|_| Measure::Errors).collect();
            let (baseline, scenario) = (case.stable.parse()?, case.canary.parse()?);
            let mut setup = Setup::new(plan, measures, baseline, scenario, case.rps)?;
            setup.budget_remaining = Some(case.left);
            let objective = &setup.plan.slos[0].objective;
            let budget = objective.budget(objective.expected_requests(case.rps).unwrap_or(0.0));
            let study = study(&setup, runs, seed);
            Ok(Rollout {
                name: case.name,
                goal: case.goal,
                block: case.block as f64,
                may_spend: may_spend(case.left) * 100.0,
                seen_spend: seen_spend(may_spend(case.left), budget) * 100.0,
                study,
            })
        })
        .collect()
}

/// What a rollout may spend of the budget with so much of it left, 1 for all: what is left, at most what any may, and a
/// tenth of that at the least (docs/adr/0011-an-exhausted-budget-slows.md).
fn may_spend(left: f64) -> f64 {
    let usual = Limits::default().max_budget_spend();
    left.clamp(0.1 * usual, usual)
}

/// What has been spent when the count says `share` of a budget of so many requests, at the 95th percentile of Poisson's
/// distribution: five requests of two thousand may be eight.
fn seen_spend(share: f64, budget: f64) -> f64 {
    let requests = share * budget;
    if requests > 0.0 {
        share * (1.0 + 1.645 / requests.sqrt())
    } else {
        share
    }
}

/// The default strategy with these weights, in blocks of 15 s.
fn plan(objective: &str, weights: &[u8]) -> Option<Plan> {
    let minutes = SignedDuration::from_mins;
    Some(Plan {
        revision: Some("7d9f8c0000".into()),
        deleting: false,
        replicas: 4,
        room: Room::default(),
        steps: weights
            .iter()
            .flat_map(|weight| [Step::SetWeight(*weight), Step::Dwell(60)])
            .collect(),
        at_once: weights.is_empty(),
        bake: minutes(5),
        watch: SignedDuration::ZERO,
        scale_down_delay: SignedDuration::from_secs(30),
        abort_scale_down_delay: SignedDuration::from_secs(30),
        drain: minutes(1),
        progress_deadline: minutes(10),
        paused: false,
        strict_paused: false,
        migrations: None,
        rollback_window: 0,
        workload: None,
        group: None,
        revision_history_limit: 5,
        route: RouteMode::Owned,
        shared_in_cluster: false,
        sticky: false,
        slos: vec![SloPlan {
            name: "availability".to_owned(),
            objective: Objective::parse(objective, SignedDuration::from_hours(30 * 24))?,
            question: String::new(),
        }],
        conditions: Vec::new(),
        guards: Vec::new(),
        limits: Limits::default(),
        on_inconclusive: OnInconclusive::Pause,
        budget_exhausted: BudgetExhausted::Slow,
        on_share_mismatch: OnShareMismatch::Hold,
        block: SignedDuration::from_secs(BLOCK),
        basis: String::new(),
    })
}

impl Rollout {
    fn share(&self, outcome: Outcome) -> f64 {
        f64::from(self.study.outcomes.get(&outcome).copied().unwrap_or(0)) / f64::from(self.study.runs.max(1))
    }

    /// Whether its goal is reached, with this median as the floor; `None` if it has none.
    fn is_met(&self, floor: Option<f64>) -> Option<bool> {
        let (p50, p95) = (self.study.decide_seconds.p50, self.study.decide_seconds.p95);
        let within = |seconds: Option<f64>, most: f64| seconds.is_some_and(|s| s <= most);
        let promoted = self.share(Outcome::Promoted);
        let rolled_back = self.share(Outcome::RolledBack);
        // Whatever else is asked for: no more of the budget than this rollout may spend, as far as it can be seen.
        let spends = self.study.budget_spent_percent.p95;
        let bounded = spends.is_none_or(|spent| spent <= self.seen_spend);
        Some(
            bounded
                && match self.goal {
                    Goal::Reference | Goal::Reported => return None,
                    Goal::AtTheFloor(most) => {
                        let median = floor.is_some_and(|floor| within(p50, floor + 1.0));
                        promoted >= 0.95 && median && within(p95, most)
                    }
                    Goal::Promoted(most) => promoted >= 0.95 && within(p95, most),
                    Goal::SeldomRolledBack(most) => rolled_back <= most,
                    Goal::SeldomPromoted => promoted <= 0.05,
                    Goal::RolledBack(most) => rolled_back >= 0.99 && within(p95, most),
                    Goal::Found(median, most) => {
                        rolled_back >= 0.99 && within(p50, median) && within(p95, most)
                    }
                    Goal::InOneBlock => rolled_back >= 0.99 && within(p95, self.block + READ),
                },
        )
    }

    fn wanted(&self) -> String {
        match self.goal {
            Goal::Reference | Goal::Reported => "–".to_owned(),
            Goal::AtTheFloor(most) => format!("at the floor / {most:.0} s"),
            Goal::Promoted(most) => format!("95 % within {:.0} min", most / 60.0),
            Goal::SeldomRolledBack(most) => format!("rolled back: at most {} %", most * 100.0),
            Goal::SeldomPromoted => "promoted: at most 5 %".to_owned(),
            Goal::RolledBack(most) => format!("95 % within {most:.0} s"),
            Goal::Found(median, most) => format!("within {median:.0} s / {most:.0} s"),
            Goal::InOneBlock => "95 % by the first block".to_owned(),
        }
    }
}

/// The table.
pub fn table(rollouts: &[Rollout]) -> String {
    let mut text = "| rollout | promoted | rolled back | undecided | to the decision, median / 95 % | budget spent, median / 95 % | of what it may | goal | |\n|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let floor = rollouts.first().and_then(|floor| floor.study.decide_seconds.p50);
    for row in rollouts {
        let share = |outcome| format!("{:.1} %", row.share(outcome) * 100.0);
        let seconds = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.0} s"));
        let percent = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.3} %"));
        let study = &row.study;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} / {} | {} / {} | {} % | {} | {} |",
            row.name,
            share(Outcome::Promoted),
            share(Outcome::RolledBack),
            share(Outcome::Inconclusive),
            seconds(study.decide_seconds.p50),
            seconds(study.decide_seconds.p95),
            percent(study.budget_spent_percent.p50),
            percent(study.budget_spent_percent.p95),
            row.may_spend,
            row.wanted(),
            match row.is_met(floor) {
                None => "",
                Some(true) => "met",
                Some(false) => MISSED,
            }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_can_be_lived_through_and_is_in_the_table() {
        let rollouts = measure(20, 1).unwrap();
        let table = table(&rollouts);
        assert_eq!(table.lines().count(), 2 + CASES.len());
        assert!(rollouts[1].share(Outcome::Promoted) > 0.8, "{table}");
        assert!(rollouts[7].share(Outcome::RolledBack) > 0.8, "{table}");
    }
}

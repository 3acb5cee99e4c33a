//! Whole rollouts, from the first step to the promotion, by the operator's own state machine.

use std::fmt::Write as _;

use jiff::SignedDuration;
use molt_core::analysis::{Limits, Objective};
use molt_core::plan::{
    BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Room, RouteMode, RunsPlan, SloPlan, Step,
};
use molt_sim::{Measure, Outcome, Setup, Study, study};

use crate::report::MISSED;

mod cases;

use cases::{CASES, LATE, SILENCE};

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
    /// 99 % rolled back, whenever that was.
    AllRolledBack,
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
    /// So many seconds of a total outage may pass, whatever they spend: what begins late can't be foreseen.
    outage: f64,
    /// Seconds of a block.
    block: i64,
    /// Pods of each revision.
    pods: u32,
    /// The weights of its steps; without any all users move at once.
    weights: &'static [u8],
    goal: Goal,
    /// The goal that was set at first, where it is another: it did not say for how many requests, or for which blocks.
    set: Option<Goal>,
}

/// Seconds of a block where a case says nothing of it.
const BLOCK: i64 = 15;
/// So many seconds after its end, at the most, a block has been read and decided on.
const READ: f64 = 2.0;

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Rollout {
    name: &'static str,
    goal: Goal,
    /// See [`Case::set`].
    set: Option<Goal>,
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
    live_through(&CASES, runs, seed)
}

/// The same of those with little traffic, of which some are silent.
///
/// # Errors
///
/// When a case can't be simulated.
pub fn measure_silence(runs: u32, seed: u64) -> Result<Vec<Rollout>, Box<dyn std::error::Error>> {
    live_through(&SILENCE, runs, seed)
}

/// The same of those whose harm begins late.
///
/// # Errors
///
/// When a case can't be simulated.
pub fn measure_late(runs: u32, seed: u64) -> Result<Vec<Rollout>, Box<dyn std::error::Error>> {
    live_through(&LATE, runs, seed)
}

fn live_through(cases: &[Case], runs: u32, seed: u64) -> Result<Vec<Rollout>, Box<dyn std::error::Error>> {
    cases
        .iter()
        .map(|case| {
            let mut plan = plan(case.objective, case.weights).ok_or("no objective")?;
            plan.block = SignedDuration::from_secs(case.block);
            plan.replicas = case.pods;
            let measures = plan.slos.iter().map(|_| Measure::Errors).collect();
            let (baseline, scenario) = (case.stable.parse()?, case.canary.parse()?);
            let mut setup = Setup::new(plan, measures, baseline, scenario, case.rps)?;
            setup.budget_remaining = Some(case.left);
            let objective = &setup.plan.slos[0].objective;
            let budget = objective.budget(objective.expected_requests(case.rps).unwrap_or(0.0));
            let window = objective.window.as_secs_f64();
            let may_spend = may_spend(case.left).max(case.outage / (window * objective.bad_fraction));
            let study = study(&setup, runs, seed);
            Ok(Rollout {
                name: case.name,
                goal: case.goal,
                set: case.set,
                block: case.block as f64,
                may_spend: may_spend * 100.0,
                seen_spend: seen_spend(may_spend, budget) * 100.0,
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
        runs: RunsPlan::default(),
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
    fn is_met(&self, goal: Goal, floor: Option<f64>) -> Option<bool> {
        let (p50, p95) = (self.study.decide_seconds.p50, self.study.decide_seconds.p95);
        let within = |seconds: Option<f64>, most: f64| seconds.is_some_and(|s| s <= most);
        let promoted = self.share(Outcome::Promoted);
        let rolled_back = self.share(Outcome::RolledBack);
        let reached = match goal {
            Goal::Reference | Goal::Reported => return None,
            Goal::AtTheFloor(most) => {
                let median = floor.is_some_and(|floor| within(p50, floor + 1.0));
                promoted >= 0.95 && median && within(p95, most)
            }
            Goal::Promoted(most) => promoted >= 0.95 && within(p95, most),
            Goal::SeldomRolledBack(most) => rolled_back <= most,
            Goal::SeldomPromoted => promoted <= 0.05,
            Goal::AllRolledBack => rolled_back >= 0.99,
            Goal::RolledBack(most) => rolled_back >= 0.99 && within(p95, most),
            Goal::Found(median, most) => rolled_back >= 0.99 && within(p50, median) && within(p95, most),
            Goal::InOneBlock => rolled_back >= 0.99 && within(p95, self.block + READ),
        };
        // Whatever else is asked for: no more of the budget than this rollout may spend, as far as it can be seen.
        let spends = self.study.budget_spent_percent.p95;
        Some(reached && spends.is_none_or(|spent| spent <= self.seen_spend))
    }

    fn wanted(goal: Goal) -> String {
        match goal {
            Goal::Reference | Goal::Reported => "–".to_owned(),
            Goal::AtTheFloor(most) => format!("at the floor / {most:.0} s"),
            Goal::Promoted(most) => format!("95 % within {:.0} min", most / 60.0),
            Goal::SeldomRolledBack(most) => format!("rolled back: at most {} %", most * 100.0),
            Goal::SeldomPromoted => "promoted: at most 5 %".to_owned(),
            Goal::AllRolledBack => "rolled back: 99 %".to_owned(),
            Goal::RolledBack(most) => format!("95 % within {most:.0} s"),
            Goal::Found(median, most) => format!("within {median:.0} s / {most:.0} s"),
            Goal::InOneBlock => "95 % by the first block".to_owned(),
        }
    }
}

/// The table.
pub fn table(rollouts: &[Rollout]) -> String {
    let mut text = "| rollout | promoted | rolled back | undecided | to the decision, median / 95 % | budget spent, median / 95 % | of what it may | goal | | set at first |\n|---|---|---|---|---|---|---|---|---|---|\n".to_owned();
    let floor = rollouts.first().and_then(|floor| floor.study.decide_seconds.p50);
    for row in rollouts {
        let share = |outcome| format!("{:.1} %", row.share(outcome) * 100.0);
        let seconds = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.0} s"));
        let percent = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.3} %"));
        let study = &row.study;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} / {} | {} / {} | {:.2} % | {} | {} | {} |",
            row.name,
            share(Outcome::Promoted),
            share(Outcome::RolledBack),
            share(Outcome::Inconclusive),
            seconds(study.decide_seconds.p50),
            seconds(study.decide_seconds.p95),
            percent(study.budget_spent_percent.p50),
            percent(study.budget_spent_percent.p95),
            row.may_spend,
            Rollout::wanted(row.goal),
            match row.is_met(row.goal, floor) {
                None => "",
                Some(true) => "met",
                Some(false) => MISSED,
            },
            row.set.map_or(String::new(), |set| {
                let met = row.is_met(set, floor) == Some(true);
                format!(
                    "{}: {}",
                    Rollout::wanted(set),
                    if met { "met" } else { "not met" }
                )
            })
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

    #[test]
    fn what_begins_late_goes_back_and_spends_no_more_than_passes_until_it_is_seen() {
        let rollouts = measure_late(20, 1).unwrap();
        let table = table(&rollouts);
        for row in &rollouts {
            assert_ne!(row.is_met(row.goal, None), Some(false), "{table}");
        }
    }

    #[test]
    fn silence_is_never_promoted_by_steps_however_little_traffic_there_is() {
        let rollouts = measure_silence(20, 1).unwrap();
        let table = table(&rollouts);
        assert_eq!(table.lines().count(), 2 + SILENCE.len());
        let silent = |row: &&Rollout| row.name.starts_with("no answers");
        assert_eq!(rollouts.iter().filter(silent).count(), 3);
        for row in rollouts.iter().filter(silent) {
            assert_eq!(row.study.outcomes[&Outcome::Promoted], 0, "{table}");
        }
    }
}

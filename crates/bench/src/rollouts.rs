//! Whole rollouts, from the first step to the promotion, by the operator's own state machine.

use std::fmt::Write as _;

use jiff::SignedDuration;
use molt_core::analysis::{Limits, Objective};
use molt_core::plan::{BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, RouteMode, SloPlan, Step};
use molt_sim::{Measure, Outcome, Setup, Study, study};

/// What is expected of a rollout.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Promoted, unattended, within these seconds at the median and the 95th percentile.
    Promoted(f64, f64),
    /// At most one in twenty promoted.
    SeldomPromoted,
    /// Rolled back within so many seconds at the 95th percentile.
    RolledBack(f64),
}

/// One rollout: its name, objective in percent, requests per second, what the canary does, and the goal.
type Case = (&'static str, &'static str, f64, &'static str, Goal);

/// The cases; stable fails one request in a thousand.
const CASES: [Case; 10] = [
    (
        "healthy, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "good",
        Goal::Promoted(240.0, 300.0),
    ),
    (
        "healthy, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "good",
        Goal::Promoted(900.0, 900.0),
    ),
    (
        "healthy, 99.9 %, 5 rps",
        "99.9",
        5.0,
        "good",
        Goal::Promoted(1200.0, 1200.0),
    ),
    (
        "healthy, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "good",
        Goal::Promoted(1800.0, 1800.0),
    ),
    (
        "1.1 % of the canary's bad, 99.5 %, 20 rps",
        "99.5",
        20.0,
        "errors=1.1%",
        Goal::SeldomPromoted,
    ),
    (
        "1.55 % of the canary's bad, just above the margin of a promotion, 99.9 %, 1 rps",
        "99.9",
        1.0,
        "errors=1.55%",
        Goal::SeldomPromoted,
    ),
    (
        "all of the canary's bad, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "errors=100%",
        Goal::RolledBack(45.0),
    ),
    (
        "no answers at all, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=100%",
        Goal::RolledBack(45.0),
    ),
    (
        "a fifth of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=20%",
        Goal::SeldomPromoted,
    ),
    (
        "half of the requests never answered, 99.9 %, 20 rps",
        "99.9",
        20.0,
        "hang=50%",
        Goal::SeldomPromoted,
    ),
];

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Rollout {
    name: &'static str,
    goal: Goal,
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
        .map(|(name, objective, rps, scenario, goal)| {
            let plan = plan(objective).ok_or("no objective")?;
            let (baseline, scenario) = ("errors=0.1%".parse()?, scenario.parse()?);
            let setup = Setup::new(plan, vec![Measure::Errors], baseline, scenario, rps)?;
            let study = study(&setup, runs, seed);
            Ok(Rollout { name, goal, study })
        })
        .collect()
}

/// The default strategy, in blocks of 15 s.
fn plan(objective: &str) -> Option<Plan> {
    let minutes = SignedDuration::from_mins;
    Some(Plan {
        revision: Some("7d9f8c0000".into()),
        deleting: false,
        replicas: 4,
        steps: [5, 10, 25, 50]
            .into_iter()
            .flat_map(|weight| [Step::SetWeight(weight), Step::Dwell(60)])
            .collect(),
        bake: minutes(5),
        scale_down_delay: SignedDuration::from_secs(30),
        abort_scale_down_delay: SignedDuration::from_secs(30),
        drain: minutes(1),
        progress_deadline: minutes(10),
        revision_history_limit: 5,
        route: RouteMode::Owned,
        slos: vec![SloPlan {
            name: "availability".to_owned(),
            objective: Objective::parse(objective, SignedDuration::from_hours(30 * 24))?,
            question: String::new(),
        }],
        conditions: Vec::new(),
        limits: Limits::default(),
        on_inconclusive: OnInconclusive::Pause,
        budget_exhausted: BudgetExhausted::Slow,
        on_share_mismatch: OnShareMismatch::Hold,
        block: SignedDuration::from_secs(15),
        basis: String::new(),
    })
}

impl Rollout {
    fn share(&self, outcome: Outcome) -> f64 {
        f64::from(self.study.outcomes.get(&outcome).copied().unwrap_or(0)) / f64::from(self.study.runs.max(1))
    }

    fn is_met(&self) -> bool {
        let (p50, p95) = (self.study.decide_seconds.p50, self.study.decide_seconds.p95);
        let within = |seconds: Option<f64>, most: f64| seconds.is_some_and(|s| s <= most);
        match self.goal {
            Goal::Promoted(median, most) => {
                self.share(Outcome::Promoted) >= 0.95 && within(p50, median) && within(p95, most)
            }
            Goal::SeldomPromoted => self.share(Outcome::Promoted) <= 0.05,
            Goal::RolledBack(most) => self.share(Outcome::RolledBack) >= 0.99 && within(p95, most),
        }
    }

    fn wanted(&self) -> String {
        match self.goal {
            Goal::Promoted(median, most) if median < most => format!("{median:.0} / {most:.0} s"),
            Goal::Promoted(_, most) => format!("95 % within {:.0} min", most / 60.0),
            Goal::SeldomPromoted => "promoted: at most 5 %".to_owned(),
            Goal::RolledBack(most) => format!("95 % within {most:.0} s"),
        }
    }
}

/// The table.
pub fn table(rollouts: &[Rollout]) -> String {
    let mut text = "| rollout | promoted | rolled back | undecided | to the decision, median / 95 % | budget spent, median / 95 % | goal | |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for row in rollouts {
        let share = |outcome| format!("{:.1} %", row.share(outcome) * 100.0);
        let seconds = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.0} s"));
        let percent = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{s:.3} %"));
        let study = &row.study;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} / {} | {} / {} | {} | {} |",
            row.name,
            share(Outcome::Promoted),
            share(Outcome::RolledBack),
            share(Outcome::Inconclusive),
            seconds(study.decide_seconds.p50),
            seconds(study.decide_seconds.p95),
            percent(study.budget_spent_percent.p50),
            percent(study.budget_spent_percent.p95),
            row.wanted(),
            if row.is_met() { "met" } else { "**missed**" }
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
        assert!(rollouts[0].share(Outcome::Promoted) > 0.8, "{table}");
        assert!(rollouts[6].share(Outcome::RolledBack) > 0.8, "{table}");
    }
}

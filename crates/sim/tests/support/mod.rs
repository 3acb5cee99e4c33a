//! The setup of the tests: the smallest useful service, with every default of the operator's.

use jiff::SignedDuration;
use molt_core::analysis::{Limits, Objective};
use molt_core::plan::{
    BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Room, RouteMode, RunsPlan, SloPlan, Step,
};
use molt_sim::{Measure, Setup};

/// The plan of a spec that says no more than it must.
pub fn plan(slos: &[(&str, &str)]) -> Plan {
    let window = SignedDuration::from_hours(30 * 24);
    let steps = [5, 10, 25, 50];
    Plan {
        revision: Some("7d9f8c0000".into()),
        deleting: false,
        replicas: 4,
        room: Room::default(),
        steps: steps
            .iter()
            .flat_map(|weight| [Step::SetWeight(*weight), Step::Dwell(60)])
            .collect(),
        at_once: false,
        bake: SignedDuration::from_mins(5),
        watch: SignedDuration::ZERO,
        scale_down_delay: SignedDuration::from_secs(30),
        abort_scale_down_delay: SignedDuration::from_secs(30),
        drain: SignedDuration::from_secs(60),
        progress_deadline: SignedDuration::from_mins(10),
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
        slos: slos
            .iter()
            .map(|(name, objective)| SloPlan {
                name: (*name).to_owned(),
                objective: Objective::parse(objective, window).unwrap(),
                question: String::new(),
            })
            .collect(),
        limits: Limits::default(),
        on_inconclusive: OnInconclusive::Pause,
        budget_exhausted: BudgetExhausted::Slow,
        on_share_mismatch: OnShareMismatch::Hold,
        block: SignedDuration::from_secs(30),
        basis: String::new(),
        conditions: Vec::new(),
        guards: Vec::new(),
    }
}

/// One objective of availability.
#[allow(dead_code, reason = "each test file uses what it needs of this module")]
pub fn setup(baseline: &str, scenario: &str, rps: f64) -> Setup {
    Setup::new(
        plan(&[("availability", "99.9")]),
        vec![Measure::Errors],
        baseline.parse().unwrap(),
        scenario.parse().unwrap(),
        rps,
    )
    .unwrap()
}

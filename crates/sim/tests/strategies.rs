//! Other ways than by shares, in virtual time.

mod support;

use molt_core::step::{CanaryScale, Step};
use molt_sim::{Outcome, Setup, Study, run, study};

use support::setup;

fn count(study: &Study, outcome: Outcome) -> u32 {
    study.outcomes[&outcome]
}

/// All users move at once.
fn blue_green(baseline: &str, scenario: &str, rps: f64) -> Setup {
    let mut setup = setup(baseline, scenario, rps);
    setup.plan.steps = vec![Step::SetCanaryScale(CanaryScale::Percent(100))];
    setup.plan.at_once = true;
    setup
}

#[test]
fn a_pause_without_an_end_is_ended_by_a_person_who_is_told_of() {
    let mut setup = setup("errors=0.1%", "good", 20.0);
    setup.plan.steps = vec![Step::SetWeight(10), Step::Pause {}, Step::SetWeight(50)];
    let run = run(&setup, 1);
    assert_eq!(run.summary.outcome, Outcome::Promoted, "{}", run.summary.message);
    let told = run
        .timeline
        .transitions
        .iter()
        .find(|t| t.reason == "PromotedByPerson");
    assert!(told.is_some_and(|t| t.message.contains("the simulation assumes so")));
}

#[test]
fn a_healthy_green_is_promoted_and_seldom_taken_back() {
    for (baseline, rps) in [("errors=0.1%", 20.0), ("errors=1%", 20.0), ("errors=0.05%", 5.0)] {
        let study = study(&blue_green(baseline, "good", rps), 300, 1);
        assert!(
            count(&study, Outcome::RolledBack) <= 6,
            "{baseline} {rps}: {study:?}"
        );
        assert!(
            count(&study, Outcome::Promoted) >= 285,
            "{baseline} {rps}: {study:?}"
        );
    }
}

#[test]
fn a_bad_green_is_found_within_blocks_and_never_promoted() {
    for (errors, soon) in [("errors=5%", 120.0), ("errors=50%", 65.0), ("errors=100%", 65.0)] {
        let study = study(&blue_green("errors=0.1%", errors, 20.0), 200, 1);
        assert_eq!(count(&study, Outcome::Promoted), 0, "{errors}: {study:?}");
        assert!(study.decide_seconds.p95 <= Some(soon), "{errors}: {study:?}");
    }
}

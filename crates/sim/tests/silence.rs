//! What nobody saw answered is counted towards what a rollout may spend.

mod support;

use molt_core::plan::OnShareMismatch;
use molt_sim::{Outcome, Setup, study};
use support::setup;

#[test]
fn a_canary_that_leaves_requests_unanswered_is_held_once_it_may_have_spent_its_part() {
    for scenario in ["hang=30%", "hang=50%"] {
        let mut setup = setup("errors=0.1%", scenario, 20.0);
        setup.plan.block = jiff::SignedDuration::from_secs(15);
        setup.environment.scrape_interval = setup.plan.block / 2;
        let study = study(&setup, 100, 1);
        assert_eq!(study.outcomes[&Outcome::Promoted], 0, "{scenario} {study:?}");
        assert!(
            study.budget_spent_percent.p95 <= Some(2.5),
            "{scenario} {study:?}"
        );
    }
}

#[test]
fn a_healthy_canary_with_few_requests_is_not_taken_for_silent() {
    let mut setup = setup("errors=0.1%", "good", 1.0);
    setup.plan.block = jiff::SignedDuration::from_secs(15);
    setup.environment.scrape_interval = setup.plan.block / 2;
    let study = study(&setup, 300, 1);
    // A few find no decision in time, by too few requests.
    assert!(study.outcomes[&Outcome::Promoted] >= 291, "{study:?}");
}

/// All users move at once, at so many requests a second.
fn at_once(scenario: &str, rps: f64) -> Setup {
    let mut setup = setup("errors=0.1%", scenario, rps);
    setup.plan.at_once = true;
    setup.plan.steps = Vec::new();
    setup
}

#[test]
fn all_users_at_once_are_back_where_the_new_version_leaves_many_without_an_answer() {
    for rps in [5.0, 20.0, 200.0] {
        for scenario in ["hang=50%", "hang=70%", "hang=90%"] {
            let study = study(&at_once(scenario, rps), 50, 1);
            assert_eq!(
                study.outcomes[&Outcome::RolledBack],
                50,
                "{scenario} {rps} {study:?}"
            );
            assert!(
                study.decide_seconds.p95 <= Some(125.0),
                "{scenario} {rps} {study:?}"
            );
        }
    }
    // With less traffic it takes longer.
    for (rps, least) in [(0.5, 0.5), (1.0, 0.9), (2.0, 0.98)] {
        let study = study(&at_once("hang=50%", rps), 200, 1);
        let back = f64::from(study.outcomes[&Outcome::RolledBack]);
        assert!(back >= 200.0 * least, "{rps} {study:?}");
    }
    let mut ignored = at_once("hang=50%", 20.0);
    ignored.plan.on_share_mismatch = OnShareMismatch::Ignore;
    assert_eq!(study(&ignored, 20, 1).outcomes[&Outcome::RolledBack], 0);
}

#[test]
fn a_healthy_version_that_all_users_move_to_is_not_missed_by_chance() {
    for rps in [0.5, 2.0, 20.0] {
        let study = study(&at_once("good", rps), 500, 1);
        let missed = study
            .reasons
            .iter()
            .any(|reason| reason.reason == "MissingResponses");
        assert!(!missed, "{rps} {study:?}");
    }
}

#[test]
fn all_users_at_once_are_back_after_a_few_silent_blocks() {
    let mut setup = at_once("hang=100%", 20.0);
    let study = study(&setup, 50, 1);
    assert_eq!(study.outcomes[&Outcome::RolledBack], 50, "{study:?}");
    // Three blocks of 30 s, and what it takes to read and to move.
    assert!(study.decide_seconds.p95 <= Some(125.0), "{study:?}");
    setup.scenario = "good".parse().unwrap();
    let healthy = molt_sim::study(&setup, 100, 1);
    assert_eq!(healthy.outcomes[&Outcome::RolledBack], 0, "{healthy:?}");
}

//! What nobody saw answered is counted towards what a rollout may spend.

mod support;

use molt_sim::{Outcome, study};
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

#[test]
fn all_users_at_once_are_back_after_a_few_silent_blocks() {
    let mut setup = setup("errors=0.1%", "hang=100%", 20.0);
    setup.plan.at_once = true;
    setup.plan.steps = Vec::new();
    let study = study(&setup, 50, 1);
    assert_eq!(study.outcomes[&Outcome::RolledBack], 50, "{study:?}");
    // Three blocks of 30 s, and what it takes to read and to move.
    assert!(study.decide_seconds.p95 <= Some(125.0), "{study:?}");
    setup.scenario = "good".parse().unwrap();
    let healthy = molt_sim::study(&setup, 100, 1);
    assert_eq!(healthy.outcomes[&Outcome::RolledBack], 0, "{healthy:?}");
}

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
        assert!(study.budget_spent_percent.p95 <= Some(2.5), "{scenario} {study:?}");
    }
}

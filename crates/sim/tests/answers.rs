//! Canaries that leave some of their requests without an answer.

mod support;

use molt_core::plan::{OnInconclusive, OnShareMismatch};
use molt_sim::{Counter, Outcome, Setup, Study, run, study};

use support::setup;

const SENT: Counter = Counter::Route { sent: true };
const ANSWERED: Counter = Counter::Route { sent: false };

fn counted_at(counter: Counter, scenario: &str) -> Setup {
    let mut setup = setup("errors=0.1%", scenario, 20.0);
    setup.counters = vec![counter];
    setup.check().unwrap();
    setup
}

fn share(study: &Study, outcome: Outcome) -> f64 {
    f64::from(study.outcomes[&outcome]) / f64::from(study.runs)
}

#[test]
fn counted_at_the_pods_they_are_held_and_blamed_for_nothing() {
    for (hang, most) in [("20%", 0.05), ("30%", 0.0), ("50%", 0.0), ("70%", 0.0)] {
        let setup = counted_at(Counter::Pods, &format!("hang={hang}"));
        let held = study(&setup, 200, 1);
        assert!(share(&held, Outcome::Promoted) <= most, "{hang}: {held:?}");
        assert!(share(&held, Outcome::RolledBack) <= 0.01, "{hang}: {held:?}");
    }
    // It can't be known where most callers come past the route.
    let mut ignored = counted_at(Counter::Pods, "hang=50%");
    ignored.plan.on_share_mismatch = OnShareMismatch::Ignore;
    assert_eq!(run(&ignored, 1).summary.outcome, Outcome::Promoted);
}

#[test]
fn counted_at_the_route_they_are_taken_back() {
    for counter in [SENT, ANSWERED] {
        for hang in ["40%", "50%", "70%", "100%"] {
            let setup = counted_at(counter, &format!("hang={hang}"));
            let back = study(&setup, 100, 1);
            assert!(
                share(&back, Outcome::RolledBack) >= 0.99,
                "{counter:?} {hang}: {back:?}"
            );
            assert_eq!(run(&setup, 1).summary.reason, "MissingResponses");
        }
        // A fifth is neither clearly too much nor shown to be little.
        let fifth = study(&counted_at(counter, "hang=20%"), 200, 1);
        assert!(share(&fifth, Outcome::Promoted) <= 0.05, "{counter:?}: {fifth:?}");
        assert!(
            share(&fifth, Outcome::RolledBack) <= 0.01,
            "{counter:?}: {fifth:?}"
        );
    }
}

#[test]
fn no_policy_promotes_what_is_reckoned_to_have_spent_too_much() {
    for (rps, hang) in [(0.2, "50%"), (0.5, "70%"), (1.0, "50%")] {
        let mut setup = setup("errors=0.1%", &format!("hang={hang}"), rps);
        setup.plan.on_inconclusive = OnInconclusive::PromoteIfBudgetSafe;
        setup.check().unwrap();
        let with = study(&setup, 100, 1);
        assert!(share(&with, Outcome::Promoted) <= 0.2, "{rps} {hang}: {with:?}");
    }
}

#[test]
fn who_answers_is_promoted_as_soon_whoever_counts() {
    for counter in [Counter::Pods, SENT, ANSWERED] {
        let good = study(&counted_at(counter, "good"), 300, 1);
        assert!(share(&good, Outcome::Promoted) >= 0.99, "{counter:?}: {good:?}");
        // Four dwells of a minute each.
        assert!(good.decide_seconds.p50 < Some(262.0), "{counter:?}: {good:?}");
        let bad = study(&counted_at(counter, "errors=10%"), 100, 1);
        assert_eq!(bad.outcomes[&Outcome::RolledBack], 100, "{counter:?}: {bad:?}");
    }
}

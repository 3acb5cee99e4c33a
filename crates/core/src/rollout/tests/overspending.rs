//! The first users go to a revision of which nothing is known: only as many as the budget bears.

use jiff::SignedDuration;

use super::world::{World, plan};
use crate::analysis::{Limits, Objective};
use crate::decision::Phase;
use crate::plan::{OnShareMismatch, Step};

fn stepping(weight: u8, dwell: u32) -> World {
    let mut world = World::with_stable();
    world.plan = plan("v1");
    world.plan.steps = vec![Step::SetWeight(weight), Step::Dwell(dwell)];
    world
}

#[test]
fn a_long_first_step_begins_by_itself_as_it_ends_when_it_overspends() {
    for (weight, minutes) in [(10, 10), (20, 30), (40, 5)] {
        let mut world = stepping(weight, minutes * 60);
        world.update("v2");
        world.run(60);
        assert_eq!(world.weight("v2"), weight, "{:?}", world.last);
    }
}

#[test]
fn a_long_first_step_of_a_bad_revision_ends_within_the_budget() {
    for bad in [1.0, 0.3, 0.05] {
        let mut world = stepping(20, 1800);
        world.bad.insert("v2".into(), bad);
        world.update("v2");
        let mut bad_seconds = 0.0;
        for _ in 0..400 {
            world.run(1);
            bad_seconds += f64::from(world.weight("v2")) / 100.0 * bad;
        }
        assert_eq!(world.phase(), Phase::RolledBack, "{:?}", world.last);
        let spent = bad_seconds / (0.001 * 30.0 * 86_400.0);
        assert!(spent < world.plan.limits.max_budget_spend(), "{bad}: {spent}");
    }
}

#[test]
fn what_is_spent_ends_a_wait_that_nothing_is_left_for_and_convicts_nobody() {
    // A service far beyond its objective, with nothing left: a tenth of the usual spend is 26 requests, and 130 are bad by
    // then.
    let mut world = stepping(5, 60);
    (world.rps, world.budget_remaining) = (5.0, 0.0);
    world.plan.progress_deadline = SignedDuration::from_hours(2);
    world.bad = [("v1".into(), 0.08), ("v2".into(), 0.10)].into_iter().collect();
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 7200), "{:?}", world.last);
    assert_eq!(world.weight("v2"), 0);
    let told = &world.state.attempt.as_ref().unwrap().transitions;
    let told = told.iter().find(|t| t.reason == "Inconclusive").unwrap();
    assert!(
        told.message.contains("and may spend 0.20 %, which may be chance"),
        "{}",
        told.message
    );
}

#[test]
fn a_first_step_that_overspends_before_anything_is_seen_waits_for_a_person() {
    let mut world = stepping(50, 60);
    let window = world.plan.slos[0].objective.window;
    world.plan.slos[0].objective = Objective::parse("99.99", window).unwrap();
    world.update("v2");
    world.run(120);
    assert_eq!(world.weight("v2"), 0);
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(message.contains("`promote` takes the risk"), "{message}");
}

#[test]
fn a_canary_that_leaves_requests_unanswered_is_not_raised_to_a_weight_that_the_budget_does_not_bear() {
    // So little is missing that its share is neither shown nor doubted for a while: that alone holds nobody.
    let given = |answers: f64| {
        let mut world = World::with_stable();
        world.plan = plan("v1");
        world.plan.steps = vec![
            Step::SetWeight(10),
            Step::Dwell(120),
            Step::SetWeight(80),
            Step::Dwell(120),
        ];
        world.plan.limits = Limits::new(0.01, 0.95, 0.0032).unwrap();
        world.rps = 200.0;
        world.answers.insert("v2".into(), answers);
        world.update("v2");
        world
    };
    // An eighth of four fifths of the traffic would spend 0.30 % of the budget in the 80 s until it is undone, and 0.06 of 0.32 %
    // are gone.
    let mut world = given(0.88);
    let mut told = String::new();
    for _ in 0..600 {
        world.run(1);
        assert!(world.weight("v2") <= 10, "{:?}", world.last);
        let message = &world.last.as_ref().unwrap().report.message;
        if message.contains("80 % of the traffic could spend") {
            told.clone_from(message);
        }
    }
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(
        told.contains("requests failed that were due to the canary"),
        "{told:?} {message}"
    );
    // One that answers gets there, and so does one whose share says nothing.
    for (answers, counts) in [(1.0, OnShareMismatch::Hold), (0.88, OnShareMismatch::Ignore)] {
        let mut world = given(answers);
        world.plan.on_share_mismatch = counts;
        let raised = (0..300).any(|_| {
            world.run(1);
            world.weight("v2") >= 80
        });
        assert!(raised, "{answers} {counts:?} {:?}", world.last);
    }
}

#[test]
fn with_little_budget_left_a_first_step_that_it_does_not_bear_is_preceded_by_one_that_it_does() {
    let mut world = stepping(20, 60);
    world.budget_remaining = 0.0;
    world.rps = 500.0;
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 1800), "{:?}", world.last);
    let told = &world.state.last.as_ref().unwrap().transitions;
    let raised: Vec<&str> = told
        .iter()
        .filter(|t| t.reason == "WeightRaised")
        .map(|t| t.message.as_str())
        .collect();
    // A tenth of what a rollout may spend is 5.2 s of an outage: for a minute, 8 % of the traffic.
    assert!(
        raised[0].contains(" 8 %") && raised[1].contains(" 20 %"),
        "{raised:?}"
    );
    assert_eq!(told.iter().filter(|t| t.reason == "BeginsSmaller").count(), 1);
}

#[test]
fn a_first_step_that_no_part_of_can_be_borne_waits_for_a_person_with_little_budget_as_well() {
    let mut world = stepping(50, 60);
    world.budget_remaining = 0.0;
    let window = world.plan.slos[0].objective.window;
    world.plan.slos[0].objective = Objective::parse("99.999", window).unwrap();
    world.update("v2");
    world.run(300);
    assert_eq!(world.weight("v2"), 0, "{:?}", world.last);
    let attempt = world.state.attempt.as_ref().unwrap();
    assert_eq!(attempt.steps.len(), 2);
}

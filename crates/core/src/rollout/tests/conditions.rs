//! Thresholds beside the objectives: what fails, what passes, and what says nothing.

use super::world::World;
use crate::condition::Bound;
use crate::decision::Phase;
use crate::guard::GuardMode;
use crate::observed::Action;
use crate::plan::{Check, ConditionPlan, OnInconclusive};
use crate::state::{ConditionState, Outcome, Stage};

fn given(failure_limit: u32, value: Result<f64, &str>) -> World {
    let mut world = World::with_stable();
    world.plan.conditions = vec![ConditionPlan {
        name: "latency".into(),
        check: Check::Value(Bound::parse("value < 0.8").unwrap()),
        mode: GuardMode::Rollback,
        failure_limit,
    }];
    set(&mut world, value);
    world.update("v2");
    world
}

fn set(world: &mut World, value: Result<f64, &str>) {
    world.conditions = vec![value.map_err(str::to_owned)];
}

fn until_weight(world: &mut World, weight: u8) {
    for _ in 0..600 {
        if world.weight("v2") >= weight {
            return;
        }
        world.run(1);
    }
    panic!(
        "never reached {weight} %: {:?}",
        world.last.as_ref().map(|d| &d.report.message)
    );
}

fn entry(world: &World) -> &ConditionState {
    let attempt = world.state.attempt.as_ref().expect("an attempt is under way");
    &attempt.conditions[0]
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

#[test]
fn one_that_is_met_at_every_weight_lets_the_rollout_pass() {
    let mut world = given(0, Ok(0.3));
    assert!(world.run_until(Phase::Healthy, 300), "{}", message(&world));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Promoted);
    let entry = &last.conditions[0];
    assert_eq!(
        (entry.failed, entry.passed_at_weight, entry.value.as_deref()),
        (0, Some(100), Some("0.3"))
    );
    assert!(entry.evaluated >= 3);
}

#[test]
fn one_more_failure_than_the_limit_rolls_back_with_name_value_and_bound() {
    for limit in [0, 2] {
        let mut world = given(limit, Ok(1.25));
        until_weight(&mut world, 10);
        let started = world.now;
        assert!(world.run_until(Phase::RolledBack, 120), "{}", message(&world));
        let last = world.state.last.as_ref().unwrap();
        assert_eq!(
            (last.outcome, last.reason.as_str()),
            (Outcome::RolledBack, "ConditionFailed")
        );
        let n = limit + 1;
        let expected = format!(
            "condition latency: the value is 1.25, not < 0.8; {n} of {n} evaluations failed, {limit} may"
        );
        assert_eq!(last.message, expected);
        let blocks = last.ended_at.duration_since(started).as_secs() / 10;
        assert!(blocks >= i64::from(limit), "one evaluation a block: {blocks}");
    }
}

#[test]
fn a_failure_within_the_limit_holds_the_next_step_until_it_is_met_again() {
    let mut world = given(50, Ok(1.0));
    until_weight(&mut world, 10);
    world.run(60);
    assert_eq!(world.weight("v2"), 10);
    let failed = entry(&world).failed;
    assert!(failed > 3, "{:?}", entry(&world));
    assert!(message(&world).contains("condition latency was not met at last: the value is 1, not < 0.8"));
    set(&mut world, Ok(0.5));
    until_weight(&mut world, 50);
    assert_eq!(entry(&world).failed, failed, "the count is kept");
}

#[test]
fn no_number_is_neither_success_nor_failure_and_blocks_until_the_deadline() {
    for (value, why) in [
        (Err("the query gave no element"), "the query gave no element"),
        (Ok(f64::NAN), "the value is NaN"),
    ] {
        let mut world = given(0, value);
        until_weight(&mut world, 10);
        world.run(100);
        assert_eq!(world.weight("v2"), 10);
        assert_eq!((entry(&world).failed, entry(&world).evaluated), (0, 0));
        assert_eq!(entry(&world).not_evaluated.as_deref(), Some(why));
        let expected = format!("condition latency could not be evaluated at 10 %: {why}");
        assert!(message(&world).contains(&expected), "{}", message(&world));
        assert!(world.run_until(Phase::Paused, 300));
        assert_eq!(world.weight("v2"), 0);
    }
}

#[test]
fn what_was_met_at_a_smaller_weight_does_not_count_for_a_larger_one() {
    let mut world = given(0, Ok(0.1));
    until_weight(&mut world, 50);
    set(&mut world, Err("the query gave no element"));
    assert!(world.run_until(Phase::Paused, 400), "{}", message(&world));
    assert_eq!(entry(&world).passed_at_weight, Some(10));
}

#[test]
fn a_budget_that_is_safe_does_not_stand_for_a_condition() {
    let mut world = given(0, Err("the query gave no element"));
    world.plan.on_inconclusive = OnInconclusive::PromoteIfBudgetSafe;
    assert!(world.run_until(Phase::Paused, 600), "{}", message(&world));
}

#[test]
fn a_person_may_promote_past_it() {
    let mut world = given(0, Err("the query gave no element"));
    until_weight(&mut world, 10);
    world.run(60);
    world.act("a", Action::Promote);
    until_weight(&mut world, 50);
}

#[test]
fn it_is_judged_in_the_bake_and_a_bake_without_a_number_does_not_end() {
    let mut world = given(0, Ok(0.1));
    until_weight(&mut world, 100);
    set(&mut world, Ok(2.0));
    assert!(world.run_until(Phase::RolledBack, 60), "{}", message(&world));
    assert_eq!(world.state.last.as_ref().unwrap().reason, "ConditionFailed");

    let mut world = given(0, Ok(0.1));
    until_weight(&mut world, 100);
    set(&mut world, Err("the query gave no element"));
    world.run(60);
    let attempt = world.state.attempt.as_ref().expect("the bake goes on");
    assert!(
        matches!(attempt.stage, Stage::Baking { .. }),
        "{:?}",
        attempt.stage
    );
    assert!(world.run_until(Phase::Paused, 300));
}

#[test]
fn the_same_edge_is_counted_once_and_the_count_is_bounded() {
    let mut world = given(3, Ok(1.0));
    // The objective can't be read, so that the same edges are asked for again and again.
    until_weight(&mut world, 10);
    world.unread = Some(0);
    world.run(15);
    let failed = entry(&world).failed;
    assert!((1..=2).contains(&failed), "{failed}");
}

#[test]
fn an_edge_that_gave_no_number_may_give_one_when_it_is_asked_again() {
    let mut world = given(5, Err("Prometheus is unreachable"));
    until_weight(&mut world, 10);
    world.unread = Some(0);
    while world.state.attempt.as_ref().unwrap().conditions.is_empty() {
        world.run(1);
    }
    assert_eq!(entry(&world).evaluated, 0);
    set(&mut world, Ok(0.1));
    world.run(6);
    assert_eq!(
        (entry(&world).evaluated, entry(&world).not_evaluated.clone()),
        (1, None)
    );
}

#[test]
fn a_condition_that_was_changed_or_taken_away_starts_anew_or_is_forgotten() {
    let mut world = given(50, Ok(1.0));
    until_weight(&mut world, 10);
    world.run(30);
    assert!(entry(&world).failed > 0);
    world.plan.conditions[0].check = Check::Value(Bound::parse("value < 2").unwrap());
    world.run(15);
    assert_eq!(
        (entry(&world).failed, entry(&world).bound.as_str()),
        (0, "value < 2")
    );
    world.plan.conditions.clear();
    world.conditions.clear();
    world.run(1);
    until_weight(&mut world, 50);
    assert!(world.last.as_ref().unwrap().report.guards.is_empty());
}

#[test]
fn one_that_only_warns_is_told_of_once_and_decides_nothing() {
    for (value, failed, told) in [(Ok(1.25), true, 1), (Err("the query gave no element"), false, 0)] {
        let mut world = given(0, value);
        world.plan.conditions[0].mode = GuardMode::Warn;
        assert!(world.run_until(Phase::Healthy, 300), "{}", message(&world));
        let last = world.state.last.as_ref().unwrap();
        assert_eq!(last.outcome, Outcome::Promoted);
        let entry = &last.conditions[0];
        assert_eq!(entry.mode, GuardMode::Warn);
        assert_eq!(entry.failed, entry.evaluated, "all that were evaluated");
        assert_eq!(entry.failed > 3, failed, "{entry:?}");
        let notes = last.transitions.iter();
        let notes: Vec<_> = notes.filter(|t| t.reason == "ConditionWarned").collect();
        assert_eq!(notes.len(), told, "{notes:?}");
        let expected =
            "condition latency: the value is 1.25, not < 0.8; 1 of 1 evaluations failed, it only warns";
        assert!(notes.iter().all(|note| note.message == expected), "{notes:?}");
    }
}

#[test]
fn one_that_is_made_to_decide_takes_back_what_it_had_only_warned_of() {
    let mut world = given(0, Ok(1.25));
    world.plan.conditions[0].mode = GuardMode::Warn;
    until_weight(&mut world, 50);
    world.plan.conditions[0].mode = GuardMode::Rollback;
    assert!(world.run_until(Phase::RolledBack, 120), "{}", message(&world));
    assert_eq!(world.state.last.as_ref().unwrap().reason, "ConditionFailed");
}

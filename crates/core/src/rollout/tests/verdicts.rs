//! The rules of the verdicts, one by one, as a whole rollout meets them.

use jiff::SignedDuration;

use super::world::World;
use crate::analysis::Objective;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::{BudgetExhausted, OnInconclusive, OnShareMismatch, Step};
use crate::state::Outcome;

pub(super) fn until_weight(world: &mut World, weight: u8) {
    for _ in 0..900 {
        if world.weight("v2") >= weight {
            return;
        }
        world.run(1);
    }
    panic!("it never got {weight} %: {:?}", world.last);
}

/// Under `v2`'s first weight for so many seconds.
pub(super) fn stepping(seconds: u32) -> World {
    let mut world = World::with_stable();
    world.plan.steps = vec![
        Step::SetWeight(10),
        Step::Dwell(100),
        Step::SetWeight(50),
        Step::Dwell(20),
    ];
    world.update("v2");
    until_weight(&mut world, 10);
    world.run(seconds);
    assert_eq!(world.weight("v2"), 10);
    world
}

pub(super) fn both_fail(world: &mut World, share: f64) {
    world.bad.insert("v1".into(), share);
    world.bad.insert("v2".into(), share);
}

fn sound(world: &World) -> String {
    let report = &world.last.as_ref().unwrap().report;
    let condition = report.conditions.iter().find(|c| c.kind == "EvidenceSound");
    condition.unwrap().reason.clone()
}

pub(super) fn reason(world: &World) -> (Outcome, String) {
    let last = world.state.last.clone().expect("an attempt has ended");
    (last.outcome, last.reason)
}

pub(super) fn message(world: &World) -> &str {
    &world.last.as_ref().unwrap().report.message
}

#[test]
fn beside_a_stable_whose_counters_fell_for_an_hour_nobody_is_put_on_the_canary() {
    for falls in [false, true] {
        let mut world = World::with_stable();
        world.stable_falls = falls;
        world.update("v2");
        world.run(30);
        assert_eq!(world.weight("v2") == 0, falls, "{:?}", world.last);
        let attempt = world.state.attempt.as_ref().unwrap();
        assert_eq!(attempt.evidence.is_empty(), falls);
    }
}

#[test]
fn an_incident_of_both_freezes_the_rollout_until_it_is_over() {
    let mut world = stepping(0);
    world.plan.progress_deadline = SignedDuration::from_mins(10);
    world.run(60);
    both_fail(&mut world, 0.05);
    world.run(80);
    assert_eq!(
        (world.weight("v2"), sound(&world).as_str()),
        (10, "SharedIncident")
    );
    assert_eq!(world.phase(), Phase::Progressing);
    both_fail(&mut world, 0.0);
    // Two blocks after its end it is over, whatever the longer windows remember.
    world.run(25);
    assert_eq!(sound(&world), "Sound");
    let told: Vec<_> = world.state.attempt.as_ref().unwrap().transitions.iter().collect();
    let of = |reason: &str| told.iter().filter(|t| t.reason == reason).count();
    assert_eq!((of("SharedIncident"), of("IncidentOver")), (1, 1), "{told:?}");
    assert!(world.run_until(Phase::Healthy, 900), "{:?}", world.last);
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn an_incident_does_not_keep_the_way_back_waiting() {
    let begin = |revisions: &[&str]| {
        let mut world = World::with_stable();
        world.plan.steps = vec![Step::SetWeight(10), Step::Dwell(200)];
        world.update("v2");
        assert!(world.run_until(Phase::Healthy, 900));
        // Warm pods would let the way back go straight.
        world.run(120);
        for next in revisions {
            world.update(next);
            for _ in 0..60 {
                world.run(1);
            }
            assert_eq!(world.weight(next), 10);
        }
        world.bad = ["v1", "v2", "v3"].map(|r| (r.into(), 0.05)).into();
        world.run(60);
        sound(&world)
    };
    assert_eq!(begin(&["v3"]), "SharedIncident");
    assert_eq!(begin(&["v1"]), "Sound");
}

#[test]
fn a_canary_that_is_far_worse_than_stable_in_an_incident_is_to_blame() {
    let mut world = stepping(60);
    world.bad.insert("v1".into(), 0.05);
    world.bad.insert("v2".into(), 0.5);
    assert!(world.run_until(Phase::RolledBack, 60), "{:?}", world.last);
    assert_eq!(reason(&world).1, "HarmShown");
}

#[test]
fn a_canary_that_never_answers_has_no_weight_45_seconds_later() {
    let mut world = World::with_stable();
    world.answers.insert("v2".into(), 0.0);
    world.update("v2");
    until_weight(&mut world, 10);
    world.run(45);
    assert_eq!(world.weight("v2"), 0);
    assert_eq!(
        reason(&world),
        (Outcome::RolledBack, "MissingResponses".to_owned())
    );
    assert!(world.state.last.unwrap().message.contains("missing responses"));
}

#[test]
fn a_canary_that_falls_silent_under_all_the_traffic_is_taken_back() {
    let mut world = World::with_stable();
    world.plan.bake = SignedDuration::from_mins(5);
    world.plan.steps = vec![
        Step::SetWeight(10),
        Step::Dwell(60),
        Step::SetWeight(50),
        Step::Dwell(60),
    ];
    world.update("v2");
    until_weight(&mut world, 100);
    world.run(20);
    world.answers.insert("v2".into(), 0.0);
    assert!(world.run_until(Phase::RolledBack, 70), "{:?}", world.last);
    assert_eq!(reason(&world).1, "MissingResponses");
    assert_eq!(world.weight("v1"), 100);
}

#[test]
fn a_share_that_is_not_the_weight_holds_the_next_step_and_blames_nobody() {
    let mut world = World::with_stable();
    world.plan.steps[1] = Step::Dwell(60);
    world.answers.insert("v2".into(), 0.2);
    world.update("v2");
    until_weight(&mut world, 10);
    world.run(100);
    assert_eq!(
        (world.weight("v2"), sound(&world).as_str()),
        (10, "ShareMismatch")
    );
    world.plan.on_share_mismatch = OnShareMismatch::Ignore;
    assert!(world.run_until(Phase::Healthy, 300), "{:?}", world.last);
}

#[test]
fn an_exhausted_budget_keeps_users_from_a_new_revision_and_not_from_the_way_back() {
    let mut world = World::with_stable();
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 400));
    world.plan.budget_exhausted = BudgetExhausted::Refuse;
    world.budget_remaining = 0.01;
    let mut refused = world.clone();
    refused.update("v3");
    refused.run(600);
    assert_eq!(refused.weight("v3"), 0);
    assert!(
        message(&refused).contains("budgetExhausted"),
        "{}",
        message(&refused)
    );
    // Back to what was stable before the last promotion.
    world.update("v1");
    assert!(world.run_until(Phase::Healthy, 400), "{:?}", world.last);
    assert_eq!(world.state.stable, Some("v1".into()));
}

#[test]
fn a_first_step_that_may_cost_too_much_waits_for_a_person_unless_it_is_the_way_back() {
    let mut world = World::with_stable();
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 400));
    // At 99.99 %, half of the traffic for a minute at the worst is 11 % of the budget.
    let window = SignedDuration::from_hours(30 * 24);
    world.plan.slos[0].objective = Objective::parse("99.99", window).unwrap();
    world.plan.slos[0].question = "q2".into();
    world.plan.steps = vec![Step::SetWeight(50), Step::Dwell(60)];
    // Warm pods would let the way back go straight.
    world.run(120);
    let risky = world.clone();
    world.update("v3");
    world.run(900);
    assert_eq!((world.weight("v3"), world.phase()), (0, Phase::Progressing));
    assert!(
        message(&world).contains("`promote` takes the risk"),
        "{}",
        message(&world)
    );
    world.act("go", Action::Promote);
    world.run(10);
    assert_eq!(world.weight("v3"), 50);

    let mut world = risky;
    world.update("v1");
    world.run(60);
    assert_eq!(world.weight("v1"), 50);
}

#[test]
fn what_can_not_be_shown_safe_follows_the_policy_within_the_budget() {
    let promoted_with = |policy: OnInconclusive, bad: f64| {
        let mut world = World::with_stable();
        world.plan.on_inconclusive = policy;
        // Twelve requests a minute show nothing at 99.9 %, and are watched five times as long for it.
        world.rps = 0.2;
        world.bad.insert("v2".into(), bad);
        world.update("v2");
        for _ in 0..4000 {
            world.run(1);
            if matches!(world.phase(), Phase::Healthy | Phase::Paused | Phase::RolledBack) {
                break;
            }
        }
        world.phase()
    };
    assert_eq!(
        promoted_with(OnInconclusive::PromoteIfBudgetSafe, 0.0),
        Phase::Healthy
    );
    assert_eq!(promoted_with(OnInconclusive::Pause, 0.0), Phase::Paused);
    assert_eq!(promoted_with(OnInconclusive::Rollback, 0.0), Phase::RolledBack);
}

#[test]
fn an_objective_that_is_changed_on_the_way_begins_anew() {
    let mut world = stepping(80);
    let canary = |world: &World| {
        let attempt = world.state.attempt.as_ref().unwrap();
        attempt
            .evidence
            .iter()
            .map(|e| e.evidence.canary().total())
            .sum::<f64>()
    };
    assert!(canary(&world) >= 240.0, "{}", canary(&world));
    world.plan.slos[0].question = "q2".into();
    world.run(1);
    let counted = canary(&world);
    assert!(
        counted <= 40.0,
        "one block at most is of the new question: {counted}"
    );
    // History is read again, and it goes on.
    assert!(world.run_until(Phase::Healthy, 400), "{:?}", world.last);
}

#[test]
fn what_was_shown_of_another_question_does_not_promote() {
    let mut world = stepping(0);
    // Safety is shown, and pods are missing for the last step.
    world.plan.replicas = 4;
    until_weight(&mut world, 50);
    while world.state.attempt.as_ref().unwrap().cleared_step != Some(4) {
        world.run(1);
        assert!(
            world.weight("v2") < 100,
            "the growth to full strength takes a moment"
        );
    }
    world.plan.slos[0].question = "q2".into();
    let before = world.now;
    until_weight(&mut world, 100);
    assert!(world.now.duration_since(before) >= SignedDuration::from_secs(20));
}

#[test]
fn a_fix_is_released_while_stable_burns() {
    let mut world = World::with_stable();
    world.bad.insert("v1".into(), 0.1);
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 900), "{:?}", world.last);
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn evidence_in_the_last_moment_leaves_the_router_its_time() {
    // Of so many deadlines some end in the moment after the evidence has come.
    for seconds in 4..140 {
        let mut world = World::with_stable();
        world.plan.progress_deadline = SignedDuration::from_secs(seconds);
        world.plan.steps = vec![Step::SetWeight(10), Step::SetWeight(50)];
        // One pod carries every weight: nothing but the evidence is waited for.
        world.plan.replicas = 1;
        world.run(10);
        world.update("v2");
        let (mut weight, mut quiet) = (0, 0);
        for _ in 0..400 {
            world.run(1);
            quiet = if world.weight("v2") == weight {
                quiet + 1
            } else {
                0
            };
            weight = world.weight("v2");
            // The router takes three seconds.
            world.deaf = quiet < 3;
        }
        if let Some(last) = world.state.last.filter(|last| last.revision.0 == "v2") {
            assert_ne!(
                last.reason, "ProgressDeadlineExceeded",
                "{seconds} s: {}",
                last.message
            );
        }
    }
}

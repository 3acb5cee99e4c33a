//! Steps beside weights, and all users at once.

use jiff::SignedDuration;

use super::world::World;
use crate::analysis::Counts;
use crate::decision::{Phase, VerdictKind};
use crate::guard::GuardMode;
use crate::observed::{Action, Backend, JobPhase, Preview, Trouble, TroubleKind};
use crate::plan::{Check, ConditionPlan, JobPlan, OnShareMismatch, RouteMode};
use crate::state::{Outcome, Stage};
use crate::step::{CanaryScale, HeaderMatch, HeaderValue, Mirror, Step};

/// Long enough for any rollout here.
const LONG: u32 = 900;

fn header(value: &str) -> Vec<HeaderMatch> {
    vec![HeaderMatch {
        header: "x-canary".into(),
        value: HeaderValue::Exact(value.into()),
    }]
}

fn testers() -> Step {
    Step::SetHeaderRoute {
        name: "testers".into(),
        matches: header("1"),
    }
}

fn copies(percent: u8) -> Step {
    Step::SetMirror(Mirror {
        percent,
        methods: vec!["GET".into()],
    })
}

fn on_its_way(steps: Vec<Step>) -> World {
    let mut world = World::with_stable();
    world.plan.steps = steps;
    world.update("v2");
    world
}

fn blue_green(previews: u32) -> World {
    let mut world = on_its_way(vec![Step::SetCanaryScale(CanaryScale::Replicas(previews))]);
    world.plan.at_once = true;
    world
}

fn smoke_test(world: &mut World, fate: JobPhase) {
    world.plan.conditions = vec![ConditionPlan {
        name: "smoke".into(),
        check: Check::Job(JobPlan {
            digest: "d1".into(),
            timeout: SignedDuration::from_secs(30),
            interval: None,
        }),
        mode: GuardMode::Rollback,
        failure_limit: 0,
    }];
    world.job_fate = fate;
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn preview_of(world: &World, revision: &str) -> Option<Preview> {
    world.preview.clone().filter(|p| p.revision == revision.into())
}

/// Every share of all users that the canary has had.
fn shares(world: &mut World, seconds: u32) -> Vec<u8> {
    let mut shares = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        let share = world.weight("v2");
        if shares.last() != Some(&share) {
            shares.push(share);
        }
    }
    shares
}

#[test]
fn a_pause_without_an_end_waits_for_a_person_for_days() {
    let mut world = on_its_way(vec![Step::SetWeight(10), Step::Pause {}, Step::SetWeight(50)]);
    world.run(3 * 24 * 3600);
    assert_eq!((world.weight("v2"), world.phase()), (10, Phase::Paused));
    assert!(
        message(&world).contains("kubectl molt promote"),
        "{}",
        message(&world)
    );
    world.act("promote", Action::Promote);
    assert!(world.run_until(Phase::Healthy, LONG));
    assert_eq!(world.state.stable, Some("v2".into()));
}

/// Whoever promotes when the route shows the weight may be quicker than the router.
#[test]
fn a_promotion_before_the_router_has_answered_counts_for_the_pause_that_follows() {
    for pause in [Step::Pause {}, Step::Dwell(24 * 3600)] {
        let mut world = on_its_way(vec![Step::SetWeight(10), pause, Step::SetWeight(50)]);
        world.deaf = true;
        world.run(20);
        assert_eq!((world.weight("v2"), world.acknowledged), (10, false));
        world.act("promote", Action::Promote);
        world.run(5);
        assert_eq!(world.ended_actions, [("promote".to_owned(), true)]);
        assert_eq!(world.weight("v2"), 10, "the router comes first");
        world.deaf = false;
        assert!(world.run_until(Phase::Healthy, LONG), "{}", message(&world));
        assert_eq!(world.state.stable, Some("v2".into()));
    }
}

#[test]
fn harm_ends_a_pause_without_an_end() {
    let mut world = on_its_way(vec![Step::SetWeight(10), Step::Pause {}]);
    world.run(60);
    world.bad.insert("v2".into(), 0.5);
    world.run(120);
    assert_eq!(world.weight("v2"), 0);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn a_canary_scale_holds_until_the_weight_needs_more_or_it_is_taken_back() {
    let mut world = on_its_way(vec![
        Step::SetCanaryScale(CanaryScale::Replicas(2)),
        Step::Pause {},
        Step::SetWeight(10),
        Step::Pause {},
        Step::SetCanaryScale(CanaryScale::MatchWeight(true)),
        Step::Pause {},
        Step::SetWeight(75),
        Step::Pause {},
    ]);
    world.run(60);
    assert_eq!((world.sets[&"v2".into()].wanted, world.weight("v2")), (2, 0));
    for (uid, weight, pods) in [("p1", 10, 2), ("p2", 10, 2), ("p3", 75, 3)] {
        world.act(uid, Action::Promote);
        world.run(300);
        // While it makes progress a revision keeps the pods that it has.
        assert_eq!(
            (world.weight("v2"), world.sets[&"v2".into()].wanted),
            (weight, pods),
            "{uid}"
        );
    }
}

#[test]
fn testers_meet_the_canary_by_a_header_before_anybody_else_and_until_it_has_all() {
    let mut world = on_its_way(vec![
        testers(),
        Step::Dwell(60),
        Step::SetWeight(50),
        Step::Dwell(20),
    ]);
    world.run(30);
    assert_eq!(world.weight("v2"), 0);
    let preview = preview_of(&world, "v2").expect("the route leads testers there");
    assert_eq!(preview.headers, vec![header("1")]);
    assert!(world.run_until(Phase::Healthy, LONG), "{}", message(&world));
    assert_eq!(
        (world.state.stable.clone(), world.preview.clone()),
        (Some("v2".into()), None)
    );
}

#[test]
fn what_testers_meet_rolls_back_though_nobody_else_has_met_it() {
    let mut world = on_its_way(vec![testers(), Step::Pause {}]);
    world.bad.insert("v2".into(), 0.6);
    world.run(300);
    assert_eq!(world.phase(), Phase::RolledBack, "{}", message(&world));
    assert_eq!(
        (
            world.state.last.as_ref().unwrap().max_weight,
            world.preview.clone()
        ),
        (0, None)
    );
}

#[test]
fn copies_that_fail_roll_back_and_no_user_has_met_it() {
    let mut world = on_its_way(vec![copies(20), Step::Pause {}]);
    world.run(60);
    assert_eq!(
        preview_of(&world, "v2").and_then(|p| p.mirror).map(|m| m.percent),
        Some(20)
    );
    assert_eq!(world.phase(), Phase::Paused);
    world.bad.insert("v2".into(), 0.3);
    world.run(120);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(
        (
            world.state.last.as_ref().unwrap().max_weight,
            world.preview.clone()
        ),
        (0, None)
    );
}

#[test]
fn a_later_step_takes_headers_and_copies_back() {
    let gone = Step::SetHeaderRoute {
        name: "testers".into(),
        matches: Vec::new(),
    };
    let mut world = on_its_way(vec![
        testers(),
        copies(20),
        Step::Dwell(20),
        gone,
        copies(0),
        Step::Pause {},
    ]);
    world.run(25);
    assert!(world.preview.is_some());
    assert!(world.run_until(Phase::Paused, 200));
    world.run(5);
    assert_eq!(world.preview, None);
}

#[test]
fn nobody_is_led_to_pods_that_are_gone() {
    let mut world = on_its_way(vec![testers(), Step::Pause {}]);
    world.run(60);
    assert!(world.preview.is_some());
    let trouble = Trouble {
        kind: TroubleKind::Unschedulable,
        message: "no node".into(),
        restarts: 0,
    };
    world.sets.get_mut(&"v2".into()).unwrap().broken = Some(trouble);
    world.run(5);
    assert_eq!(world.preview, None);
    // And a canary that testers wait for may not be gone for ever.
    world.run(400);
    assert_eq!(world.phase(), Phase::RolledBack, "{}", message(&world));
}

#[test]
fn an_abort_takes_testers_back_before_the_pods_go() {
    let mut world = on_its_way(vec![testers(), Step::Pause {}]);
    world.run(60);
    world.deaf = true;
    world.act("abort", Action::Abort);
    world.run(60);
    assert_eq!(world.preview, None);
    assert!(
        world.sets[&"v2".into()].wanted > 0,
        "the router has not acknowledged it yet"
    );
    world.deaf = false;
    world.run(60);
    assert_eq!(world.sets[&"v2".into()].wanted, 0);
}

#[test]
fn metrics_that_cannot_be_read_keep_testers_away() {
    let mut world = World::with_stable();
    world.plan.steps = vec![testers(), Step::Pause {}];
    world.blind = true;
    world.update("v2");
    world.run(120);
    assert_eq!(world.preview, None);
    assert!(message(&world).contains("unreachable"), "{}", message(&world));
    world.blind = false;
    assert!(world.run_until(Phase::Paused, 60));
    assert!(world.preview.is_some());
}

#[test]
fn all_users_move_at_once_and_none_meets_both() {
    let mut world = blue_green(1);
    assert_eq!(shares(&mut world, LONG), [0, 100]);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into()))
    );
}

#[test]
fn a_bad_green_sends_all_users_back_to_blue_at_once() {
    let mut world = blue_green(1);
    world.bad.insert("v2".into(), 0.3);
    assert_eq!(shares(&mut world, LONG), [0, 100, 0]);
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::RolledBack);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn the_verdict_on_a_bad_green_has_the_evidence_that_it_was_made_of() {
    let mut world = blue_green(1);
    world.plan.bake = SignedDuration::from_secs(600);
    world.past = Counts::new(24_000.0, 24.0).unwrap();
    world.bad.insert("v2".into(), 0.3);
    let mut told = Vec::new();
    for _ in 0..LONG {
        world.run(1);
        told.extend(world.last.as_ref().unwrap().report.verdicts.clone());
    }
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.reason, "HarmShown", "{}", last.message);
    let needed = world.plan.limits.ln_harm_needed(world.plan.slos.len());
    let verdict = told.last().unwrap();
    assert_eq!(verdict.verdict, VerdictKind::RollBack, "{verdict:?}");
    assert!(
        verdict.ln_harm_alone.is_some_and(|ln| ln >= needed),
        "{verdict:?}"
    );
    assert!(last.evidence[0].evidence.ln_harm_at_end() >= needed);
}

#[test]
fn green_that_is_a_little_worse_goes_back_by_what_blue_did_before() {
    let mut world = blue_green(1);
    world.plan.bake = SignedDuration::from_secs(600);
    world.past = Counts::new(24_000.0, 24.0).unwrap();
    world.bad.insert("v2".into(), 0.01);
    assert_eq!(shares(&mut world, LONG), [0, 100, 0]);
    let reason = &world.state.last.as_ref().unwrap().reason;
    assert!(
        ["HarmShown", "BurnRate", "BudgetSpent"].contains(&reason.as_str()),
        "{reason}"
    );
}

#[test]
fn green_that_leaves_half_unanswered_sends_all_users_back_unless_shares_are_ignored() {
    let mut world = blue_green(1);
    world.plan.bake = SignedDuration::from_mins(2);
    world.answers.insert("v2".into(), 0.5);
    assert_eq!(shares(&mut world, LONG), [0, 100, 0]);
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "MissingResponses")
    );
    assert!(last.message.contains("50 % of the requests"), "{}", last.message);

    let mut world = blue_green(1);
    world.plan.bake = SignedDuration::from_mins(2);
    world.plan.on_share_mismatch = OnShareMismatch::Ignore;
    world.answers.insert("v2".into(), 0.5);
    assert_eq!(shares(&mut world, LONG), [0, 100]);
}

#[test]
fn the_way_back_to_blue_is_not_held_for_callers_that_have_left() {
    let mut world = blue_green(1);
    assert!(world.run_until(Phase::Healthy, LONG));
    world.rps *= 0.5;
    world.update("v1");
    assert!(world.run_until(Phase::Healthy, LONG), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v1".into()));
}

#[test]
fn green_that_nobody_asks_is_not_promoted() {
    let mut world = blue_green(1);
    world.rps = 0.0;
    world.run(3 * LONG);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!(world.weight("v2"), 0, "{}", message(&world));
    assert_eq!(world.phase(), Phase::Paused);
}

#[test]
fn green_that_loses_most_pods_gives_all_users_back_for_as_long() {
    let mut world = blue_green(1);
    world.plan.bake = SignedDuration::from_secs(300);
    while world.weight("v2") < 100 {
        world.run(1);
    }
    world.run(10);
    world.sets.get_mut(&"v2".into()).unwrap().ready = 1;
    world.turn(usize::MAX);
    assert_eq!(
        world.weight("v2"),
        0,
        "a quarter of the pods carries nobody's users"
    );
    assert_eq!(shares(&mut world, 60).last(), Some(&100));
}

#[test]
fn a_smoke_test_that_fails_keeps_all_users_with_blue() {
    let mut world = blue_green(1);
    smoke_test(&mut world, JobPhase::Failed("exit code 1".into()));
    assert_eq!(shares(&mut world, LONG), [0]);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.state.last.as_ref().unwrap().reason, "ConditionFailed");
}

#[test]
fn a_smoke_test_that_succeeds_lets_all_users_move_and_runs_again_in_the_bake() {
    let mut world = blue_green(1);
    smoke_test(&mut world, JobPhase::Succeeded);
    assert_eq!(shares(&mut world, LONG), [0, 100]);
    assert_eq!(world.phase(), Phase::Healthy);
    assert_eq!(world.created_jobs.len(), 2);
}

#[test]
fn green_waits_for_a_person_and_keeps_only_its_previews() {
    let mut world = blue_green(1);
    world.plan.steps.push(Step::Pause {});
    world.run(3600);
    assert_eq!(
        (world.phase(), world.sets[&"v2".into()].wanted),
        (Phase::Paused, 1)
    );
    world.act("promote", Action::Promote);
    assert!(world.run_until(Phase::Healthy, LONG));
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn a_switch_of_strategy_is_for_the_next_attempt() {
    let mut world = blue_green(1);
    world.plan.steps.push(Step::Pause {});
    world.run(60);
    world.plan.at_once = false;
    world.plan.steps = vec![Step::SetWeight(50), Step::Dwell(20)];
    world.run(60);
    assert_eq!(world.phase(), Phase::Paused);
    world.act("promote", Action::Promote);
    assert_eq!(shares(&mut world, LONG), [0, 100]);
    world.update("v3");
    for _ in 0..LONG {
        world.run(1);
        if world.weight("v3") == 50 {
            return;
        }
    }
    panic!("never at half");
}

#[test]
fn a_strategy_that_is_removed_mid_rollout_is_removed_for_the_next_attempt() {
    // What a spec without a strategy asks for.
    let default = |world: &mut World| {
        world.plan.at_once = false;
        let steps = [5, 10, 25, 50].map(|weight| [Step::SetWeight(weight), Step::Dwell(60)]);
        world.plan.steps = steps.concat();
    };
    let mut canary = on_its_way(vec![Step::SetWeight(20), Step::Pause {}]);
    canary.run(60);
    let mut green = blue_green(1);
    green.plan.steps.push(Step::Pause {});
    green.run(60);
    for mut world in [Box::new(canary), Box::new(green)] {
        let (before, served) = (world.state.attempt.clone().unwrap(), world.weight("v2"));
        default(&mut world);
        world.run(600);
        // It waits for the person that it was begun with, at its weight, and nobody is turned around.
        let now = world.state.attempt.clone().unwrap();
        assert_eq!(
            (now.number, &now.steps, now.step),
            (before.number, &before.steps, before.step)
        );
        assert_eq!((world.phase(), world.weight("v2")), (Phase::Paused, served));
        world.act("promote", Action::Promote);
        world.run(LONG);
        assert_eq!(world.state.stable, Some("v2".into()), "{:?}", world.last);
        world.update("v3");
        world.run(2);
        let next = world.state.attempt.as_ref().unwrap();
        assert_eq!((next.steps.len(), next.at_once), (8, false));
    }
}

#[test]
fn all_users_move_at_once_behind_a_users_route_too() {
    let mut world = World::with_users_route();
    world.plan.route = RouteMode::Adopted;
    world.plan.steps = vec![Step::SetCanaryScale(CanaryScale::Percent(100))];
    world.plan.at_once = true;
    world.update("v2");
    let mut seen = Vec::new();
    for _ in 0..LONG {
        world.run(1);
        let baking =
            world.state.attempt.as_ref().is_some_and(|a| {
                matches!(a.stage, Stage::Stepping | Stage::Promoting | Stage::Baking { .. })
            });
        if baking && seen.last() != Some(&world.canary_weight()) {
            seen.push(world.canary_weight());
        }
    }
    assert_eq!(seen, [0, 100]);
    assert_eq!(world.state.stable, Some("v2".into()));
    assert!(world.weights.keys().all(|b| matches!(b, Backend::Slot(_))));
}

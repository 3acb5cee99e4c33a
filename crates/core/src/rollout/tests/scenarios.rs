//! Given, when, then: each way that a rollout can go has a defined end.

use jiff::SignedDuration;

use super::world::{World, plan};
use crate::decision::{Effect, Phase};
use crate::observed::{Action, Problem, ProblemKind, Slot, Trouble, TroubleKind};
use crate::plan::{OnInconclusive, OnShareMismatch, Revision, RouteMode, SloPlan, Step};
use crate::rollout::decide;
use crate::state::{Outcome, Stage};

fn revision(name: &str) -> Revision {
    name.into()
}

fn outcome(world: &World) -> (String, Outcome, String) {
    let last = world.state.last.clone().expect("an attempt has ended");
    (last.revision.0, last.outcome, last.reason)
}

fn broken(kind: TroubleKind, restarts: u32) -> Trouble {
    Trouble {
        kind,
        message: "pod v2-abcde, container app: it is broken".into(),
        restarts,
    }
}

#[test]
fn a_first_deployment_serves_all_users_once_its_pods_are_ready() {
    let mut world = World::new(plan("v1"));
    world.run(2);
    assert_eq!(world.phase(), Phase::Initializing);
    assert!(
        world.weights.is_empty(),
        "no route before there is somebody to answer"
    );
    world.run(20);
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Initializing));
    assert!(
        world.run_until(Phase::Healthy, 20),
        "it is judged for the length of a bake"
    );
    assert_eq!(world.state.stable, Some(revision("v1")));
    assert_eq!(world.weight("v1"), 100);
    assert_eq!(world.selected.get(&Slot::InCluster), Some(&revision("v1")));
}

#[test]
fn a_steady_service_asks_for_nothing() {
    let mut world = World::with_stable();
    world.live(3600);
    let decision = world.turn(usize::MAX);
    assert_eq!(decision.effects, vec![]);
    assert_eq!(decision.wake_at, None);
    assert!(decision.report.transitions.is_empty());
}

#[test]
fn a_good_revision_is_promoted_and_is_the_replica_set_that_was_tested() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(5);
    let tested = world.sets[&revision("v2")].created_at;
    assert!(world.run_until(Phase::Healthy, 200), "{:?}", world.last);
    assert_eq!(
        outcome(&world),
        ("v2".into(), Outcome::Promoted, "Promoted".into())
    );
    assert_eq!(world.state.stable, Some(revision("v2")));
    assert_eq!(world.sets[&revision("v2")].created_at, tested);
    assert_eq!((world.weight("v2"), world.weight("v1")), (100, 0));
    world.run(30);
    assert_eq!(world.sets[&revision("v1")].wanted, 0);
    assert_eq!(world.selected.get(&Slot::InCluster), Some(&revision("v2")));
}

#[test]
fn a_bad_revision_is_taken_back_in_seconds_and_stays_refused() {
    let mut world = World::with_stable();
    world.bad.insert(revision("v3"), 0.1);
    world.update("v3");
    while world.weight("v3") == 0 {
        world.run(1);
    }
    let mut exposed = 0;
    while world.weight("v3") > 0 {
        world.run(1);
        exposed += 1;
    }
    assert!(exposed <= 25, "exposed for {exposed} s");
    assert!(world.run_until(Phase::RolledBack, 10));
    assert_eq!(
        outcome(&world),
        ("v3".into(), Outcome::RolledBack, "HarmShown".into())
    );
    world.run(600);
    assert_eq!(
        world.phase(),
        Phase::RolledBack,
        "a re-sync of the same spec starts nothing"
    );
    assert_eq!(world.sets[&revision("v3")].wanted, 0);
    world.update("v1");
    world.run(5);
    assert_eq!(world.phase(), Phase::Healthy);
    world.bad.clear();
    world.update("v3");
    world.run(3);
    assert_eq!(
        world.state.attempt.as_ref().map(|a| a.number),
        Some(2),
        "asked for anew, it is a new attempt"
    );
}

#[test]
fn burn_rates_are_told_and_stay_between_two_readings() {
    let mut world = World::with_stable();
    world.bad.insert(revision("v2"), 0.002);
    world.bad.insert(revision("v1"), 0.001);
    world.rps = 4000.0;
    world.update("v2");
    let burn = |world: &World| world.last.as_ref().unwrap().report.slos.first().map(|s| s.burn);
    while burn(&world).is_none_or(|b| b.canary.is_none()) {
        world.run(1);
    }
    let told = burn(&world).unwrap();
    let near = |got: Option<f64>, want: f64| (got.unwrap() - want).abs() < 0.05;
    assert!(near(told.canary, 2.0) && near(told.stable, 1.0), "{told:?}");
    assert!(near(told.attributable, 0.1), "{told:?}");
    let verdict = world.last.as_ref().unwrap().report.verdicts[0].clone();
    assert_eq!(verdict.burn, told);
    world.run(3);
    assert!(world.last.as_ref().unwrap().report.verdicts.is_empty());
    assert_eq!(burn(&world), Some(told), "nothing was read, so nothing changes");
}

#[test]
fn a_spec_that_goes_back_to_stable_ends_the_attempt() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(20);
    assert!(world.weight("v2") > 0);
    world.update("v1");
    assert!(world.run_until(Phase::Healthy, 20));
    assert_eq!(
        outcome(&world),
        ("v2".into(), Outcome::Aborted, "SpecReverted".into())
    );
    assert_eq!(world.weight("v1"), 100);
}

#[test]
fn a_superseded_attempt_gives_way_to_the_next_one() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(20);
    world.update("v3");
    world.run(3);
    assert_eq!(
        outcome(&world),
        ("v2".into(), Outcome::Superseded, "Superseded".into())
    );
    assert_eq!(world.weight("v2"), 0);
    assert!(world.run_until(Phase::Healthy, 200));
    assert_eq!(world.state.stable, Some(revision("v3")));
}

#[test]
fn a_crash_looping_canary_is_taken_back_without_a_request_being_lost_to_it() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(2);
    world.sets.get_mut(&revision("v2")).unwrap().broken = Some(broken(TroubleKind::CrashLoop, 3));
    assert!(world.run_until(Phase::RolledBack, 10));
    assert_eq!(
        outcome(&world),
        ("v2".into(), Outcome::RolledBack, "CanaryCrashLooping".into())
    );
    assert_eq!(world.state.last.as_ref().unwrap().max_weight, 0);
}

#[test]
fn an_image_that_cannot_be_pulled_is_said_at_once_and_taken_back_at_the_deadline() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(2);
    world.sets.get_mut(&revision("v2")).unwrap().broken = Some(broken(TroubleKind::ImagePull, 0));
    world.run(1);
    let conditions = world.last.as_ref().unwrap().report.conditions.clone();
    let canary = conditions.iter().find(|c| c.kind == "CanaryReady").unwrap();
    assert_eq!(
        (canary.status, canary.reason.as_str()),
        (false, "ImagePullFailed")
    );
    assert_eq!(world.phase(), Phase::Progressing);
    assert!(world.run_until(Phase::RolledBack, 190));
    assert_eq!(outcome(&world).2, "ProgressDeadlineExceeded");
}

#[test]
fn a_canary_that_loses_its_pods_under_traffic_loses_the_traffic_too() {
    let mut world = World::with_stable();
    world.update("v2");
    while world.weight("v2") == 0 {
        world.run(1);
    }
    let set = world.sets.get_mut(&revision("v2")).unwrap();
    set.broken = Some(broken(TroubleKind::CrashLoop, 1));
    set.ready = 0;
    world.run(1);
    assert_eq!(world.weight("v2"), 0);
    let ends = vec![world.now; 2];
    world.sets.get_mut(&revision("v2")).unwrap().crashes = ends;
    assert!(world.run_until(Phase::RolledBack, 10));
    assert_eq!(outcome(&world).2, "CanaryCrashLooping");
}

#[test]
fn a_canary_that_loses_its_pods_while_it_bakes_is_not_promoted_without_them() {
    let mut world = World::with_stable();
    world.update("v2");
    let bakes = |world: &World| {
        let attempt = world.state.attempt.as_ref();
        attempt.is_some_and(|a| matches!(a.stage, crate::state::Stage::Baking { .. }))
    };
    while !bakes(&world) {
        world.run(1);
    }
    let set = world.sets.get_mut(&revision("v2")).unwrap();
    set.broken = Some(broken(TroubleKind::Unschedulable, 0));
    set.ready = 0;
    assert!(world.run_until(Phase::RolledBack, 300));
    assert_eq!(outcome(&world).2, "ProgressDeadlineExceeded");
    assert_eq!(world.state.stable, Some(revision("v1")));
}

#[test]
fn a_canary_whose_pods_come_back_bakes_anew_with_users_on_it() {
    let mut world = World::with_stable();
    world.update("v2");
    let until = |world: &World| match world.state.attempt.as_ref().map(|a| &a.stage) {
        Some(crate::state::Stage::Baking { until }) => Some(*until),
        _ => None,
    };
    while until(&world).is_none() {
        world.run(1);
    }
    let first = until(&world).unwrap();
    world.sets.get_mut(&revision("v2")).unwrap().broken = Some(broken(TroubleKind::Unschedulable, 0));
    world.sets.get_mut(&revision("v2")).unwrap().ready = 0;
    while world.now < first {
        world.run(1);
    }
    assert_eq!(world.weight("v2"), 0);
    world.sets.get_mut(&revision("v2")).unwrap().broken = None;
    while world.weight("v2") == 0 {
        world.run(1);
        assert_eq!(world.phase(), Phase::Progressing);
    }
    assert!(until(&world).unwrap() > world.now, "it bakes again");
    assert!(world.run_until(Phase::Healthy, 300));
    assert_eq!(world.state.stable, Some(revision("v2")));
}

#[test]
fn a_canary_whose_only_pod_crashes_in_the_bake_bakes_anew_and_is_taken_back_the_second_time() {
    // A node's clock may be ahead.
    for (again, ahead) in [(false, 0), (true, 0), (false, 20)] {
        let mut world = World::with_stable();
        world.plan.replicas = 1;
        world.update("v2");
        let until = |world: &World| match world.state.attempt.as_ref().map(|a| &a.stage) {
            Some(crate::state::Stage::Baking { until }) => Some(*until),
            _ => None,
        };
        while until(&world).is_none() {
            world.run(1);
        }
        let first = until(&world).unwrap();
        // It was back before anybody saw it unready.
        let half_way = first - world.plan.bake / 2;
        while world.now < half_way {
            world.run(1);
        }
        let crash = world.now + SignedDuration::from_secs(ahead);
        world.sets.get_mut(&revision("v2")).unwrap().crashes = vec![crash];
        while world.now <= first {
            world.run(1);
        }
        assert_eq!(until(&world), Some(crash + world.plan.bake));
        let told = |world: &World| {
            let attempt = world.state.attempt.as_ref().unwrap();
            attempt
                .transitions
                .iter()
                .filter(|t| t.reason == "BakeBegunAnew")
                .count()
        };
        assert_eq!(told(&world), 1);
        if again {
            let now = world.now;
            world.sets.get_mut(&revision("v2")).unwrap().crashes.push(now);
            assert!(world.run_until(Phase::RolledBack, 10));
            assert_eq!(outcome(&world).2, "CanaryCrashLooping");
        } else {
            assert!(world.run_until(Phase::Healthy, 300), "{:?}", world.last);
            assert_eq!(world.state.stable, Some(revision("v2")));
        }
    }
}

#[test]
fn one_pod_of_four_that_crashes_once_does_not_prolong_the_bake() {
    let mut world = World::with_stable();
    world.plan.replicas = 4;
    world.update("v2");
    let until = |world: &World| match world.state.attempt.as_ref().map(|a| &a.stage) {
        Some(crate::state::Stage::Baking { until }) => Some(*until),
        _ => None,
    };
    while until(&world).is_none() {
        world.run(1);
    }
    let first = until(&world).unwrap();
    world.run(2);
    let now = world.now;
    world.sets.get_mut(&revision("v2")).unwrap().crashes = vec![now];
    world.run(2);
    assert_eq!(until(&world), Some(first));
}

#[test]
fn crashes_before_there_were_users_are_not_held_against_a_canary_that_recovered() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(2);
    let set = world.sets.get_mut(&revision("v2")).unwrap();
    set.broken = Some(broken(TroubleKind::CrashLoop, 2));
    let before = vec![world.now; 2];
    world.sets.get_mut(&revision("v2")).unwrap().crashes = before;
    world.run(10);
    // It has started at last; a kubelet still tells of its restarts, and of one more under traffic.
    let set = world.sets.get_mut(&revision("v2")).unwrap();
    set.broken = None;
    let exposed = |world: &World| {
        world
            .state
            .attempt
            .as_ref()
            .is_some_and(|a| a.exposed_since.is_some())
    };
    while !exposed(&world) {
        world.run(1);
        assert_ne!(world.phase(), Phase::RollingBack);
    }
    let now = world.now;
    world.sets.get_mut(&revision("v2")).unwrap().crashes[0] = now;
    assert!(world.run_until(Phase::Healthy, 300));
    assert_eq!(world.state.stable, Some(revision("v2")));
}

#[test]
fn scaling_while_idle_follows_the_spec() {
    let mut world = World::with_stable();
    world.plan.replicas = 6;
    world.run(20);
    assert_eq!(world.sets[&revision("v1")].ready, 6);
    world.plan.replicas = 2;
    world.run(2);
    assert_eq!(
        (world.sets[&revision("v1")].wanted, world.phase()),
        (2, Phase::Healthy)
    );
    assert!(
        world.state.last.as_ref().unwrap().number == 1,
        "scaling is no rollout"
    );
}

#[test]
fn scaling_while_rolling_out_grows_at_once_and_shrinks_afterwards() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(15);
    world.plan.replicas = 8;
    world.run(1);
    assert_eq!(world.sets[&revision("v1")].wanted, 8);
    world.plan.replicas = 2;
    world.run(1);
    assert_eq!(
        world.sets[&revision("v1")].wanted,
        8,
        "stable keeps its strength while it may be needed"
    );
    assert!(world.run_until(Phase::Healthy, 300));
    assert_eq!(world.sets[&revision("v2")].wanted, 2);
}

#[test]
fn scaling_to_zero_while_rolling_out_says_that_it_waits() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(15);
    world.plan.replicas = 0;
    world.run(1);
    assert_eq!(world.sets[&revision("v1")].wanted, 4);
    let report = &world.last.as_ref().unwrap().report;
    let put_off = "scaled to zero: takes effect when the attempt ends; `kubectl molt abort` to have it now";
    assert!(report.message.starts_with(put_off), "{}", report.message);
    let ready = report.conditions.iter().find(|c| c.kind == "Ready").unwrap();
    assert!(ready.message.starts_with(put_off), "{}", ready.message);
    world.run(5);
    let attempt = world.state.attempt.as_ref().unwrap();
    let told = attempt.transitions.iter().filter(|t| t.reason == "ScalingPutOff");
    assert_eq!(told.count(), 1);
    world.act("abort", Action::Abort);
    world.run(60);
    assert_eq!(world.sets[&revision("v1")].wanted, 0);
}

#[test]
fn a_canary_whose_replica_set_is_changed_by_hand_is_not_promoted_and_not_used_again() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(15);
    world.sets.get_mut(&revision("v2")).unwrap().altered = true;
    assert!(world.run_until(Phase::RolledBack, 60));
    assert_eq!(outcome(&world).2, "RevisionAltered");
    world.run(60);
    assert!(!world.sets.contains_key(&revision("v2")));
    assert_eq!(world.state.stable, Some(revision("v1")));
    world.update("v3");
    assert!(world.run_until(Phase::Healthy, 300));
    // Made anew when it is asked for again.
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 300));
    assert_eq!(world.state.stable, Some(revision("v2")));
}

#[test]
fn a_service_without_pods_does_not_claim_to_serve() {
    let mut world = World::with_stable();
    world.plan.replicas = 0;
    world.run(20);
    assert_eq!(
        world.last.as_ref().unwrap().report.message,
        "revision v1 is stable; scaled to zero: nobody is served"
    );
}

#[test]
fn missing_data_is_no_success_and_a_person_may_go_on_or_back() {
    let mut world = World::with_stable();
    world.rps = 0.0;
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 400));
    assert_eq!(world.weight("v2"), 0);
    assert_eq!(world.sets[&revision("v2")].wanted, 1, "its pods are kept");
    world.run(5000);
    assert_eq!(world.phase(), Phase::Paused);
    world.act("promote", Action::Promote);
    world.run(10);
    assert_eq!(world.weight("v2"), 50, "the person answers for this step only");
    world.act("abort", Action::Abort);
    world.run(5);
    assert_eq!(
        world.ended_actions,
        [("promote".to_owned(), true), ("abort".to_owned(), true)]
    );
    assert_eq!(outcome(&world).1, Outcome::Aborted);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn an_unreachable_prometheus_keeps_users_on_stable() {
    let mut world = World::with_stable();
    world.blind = true;
    world.update("v2");
    world.run(60);
    assert_eq!(world.weight("v2"), 0);
    let report = &world.last.as_ref().unwrap().report;
    assert!(
        report
            .conditions
            .iter()
            .any(|c| c.kind == "MetricsAvailable" && !c.status && c.fault)
    );
    world.blind = false;
    assert!(
        world.run_until(Phase::Healthy, 300),
        "nothing is lost once it answers again"
    );
}

#[test]
fn a_bake_is_not_over_before_its_metrics_were_read() {
    let mut world = World::with_stable();
    world.update("v2");
    while world.weight("v2") < 100 {
        world.run(1);
    }
    world.blind = true;
    world.run(120);
    assert_eq!(world.phase(), Phase::Progressing);
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(
        message.contains("was to end at") && message.contains("could not be read to its end"),
        "{message}"
    );
    world.blind = false;
    assert!(world.run_until(Phase::Healthy, 60));
}

#[test]
fn harm_in_the_bake_goes_back_at_once() {
    let mut world = World::with_stable();
    world.update("v2");
    while world.weight("v2") < 100 {
        world.run(1);
    }
    world.bad.insert(revision("v2"), 0.2);
    world.run(25);
    assert!(
        world.weight("v1") >= 90,
        "stable has most of it again, whoever is to blame"
    );
    assert!(world.run_until(Phase::RolledBack, 25));
    assert_eq!(world.weight("v1"), 100);
    assert_eq!(world.selected.get(&Slot::InCluster), Some(&revision("v1")));
}

#[test]
fn an_inconclusive_attempt_follows_the_policy() {
    let mut world = World::with_stable();
    world.plan.on_inconclusive = OnInconclusive::Rollback;
    world.rps = 0.0;
    world.update("v2");
    assert!(world.run_until(Phase::RolledBack, 400));
    assert_eq!(outcome(&world).1, Outcome::Inconclusive);
}

#[test]
fn an_invalid_spec_mid_rollout_brings_users_back_to_stable() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(20);
    world.plan.revision = None;
    world.run(4);
    assert_eq!(world.weight("v1"), 100);
    assert_eq!(outcome(&world).2, "SpecInvalid");
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 200), "corrected, it goes on");
}

#[test]
fn a_deleted_service_ends_its_attempt_and_lets_go() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(20);
    world.plan.deleting = true;
    world.plan.revision = None;
    let decision = world.turn(usize::MAX);
    assert_eq!(decision.effects, vec![Effect::RemoveFinalizer]);
    assert_eq!(outcome(&world).2, "Deleted");
}

#[test]
fn a_stale_action_expires_and_changes_nothing() {
    let mut world = World::with_stable();
    world.act("late", Action::Abort);
    world.run(1);
    assert_eq!(world.ended_actions, [("late".to_owned(), false)]);
    assert_eq!(world.phase(), Phase::Healthy);
}

#[test]
fn old_revisions_are_kept_up_to_the_limit() {
    let mut world = World::with_stable();
    for name in ["v2", "v3", "v4", "v5"] {
        world.update(name);
        assert!(world.run_until(Phase::Healthy, 300), "{name}");
        world.run(30);
    }
    let kept: Vec<_> = world.sets.keys().map(|r| r.0.as_str()).collect();
    assert_eq!(kept, ["v3", "v4", "v5"]);
}

#[test]
fn what_served_users_is_kept_before_what_was_taken_back() {
    let mut world = World::with_stable();
    world.plan.watch = SignedDuration::from_hours(1);
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 300));
    for name in ["bad1", "bad2", "bad3"] {
        world.bad.insert(revision(name), 0.5);
        world.update(name);
        assert!(world.run_until(Phase::RolledBack, 300), "{name}");
        world.run(60);
    }
    let mut kept: Vec<_> = world.sets.keys().map(|r| r.0.as_str()).collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        ["bad2", "bad3", "v1", "v2"],
        "two old ones, beside stable and the spec's"
    );
    // However few are kept, the way back of a watch is not pruned.
    world.plan.revision_history_limit = 0;
    world.update("v3");
    assert!(world.run_until(Phase::Healthy, 300));
    world.run(60);
    let watch = world.state.watch.clone().expect("it is watched");
    assert!(world.sets.contains_key(&watch.back_to), "{:?}", world.sets.keys());
}

#[test]
fn a_users_own_route_ends_as_it_was_with_the_new_revision_behind_stable() {
    let mut world = World::with_users_route();
    let idle = world.weights.clone();
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 300), "{:?}", world.last);
    world.run(60);
    assert_eq!(world.weights, idle);
    for slot in [Slot::InCluster, Slot::Stable, Slot::Canary] {
        assert_eq!(world.selected.get(&slot), Some(&revision("v2")), "{slot:?}");
    }
}

#[test]
fn a_first_revision_that_fails_is_tried_again_when_its_pods_are_ready() {
    let mut world = World::new(plan("v1"));
    world.run(2);
    world.sets.get_mut(&revision("v1")).unwrap().broken = Some(broken(TroubleKind::ImagePull, 0));
    world.run(200);
    assert_eq!(world.phase(), Phase::Degraded);
    world.sets.get_mut(&revision("v1")).unwrap().broken = None;
    assert!(world.run_until(Phase::Healthy, 30));
    assert_eq!(world.state.last.as_ref().unwrap().number, 2);
}

#[test]
fn the_deadline_is_a_persisted_time() {
    let mut world = World::with_stable();
    world.deaf = true;
    world.update("v2");
    world.run(30);
    let deadline = world
        .state
        .attempt
        .as_ref()
        .unwrap()
        .deadline
        .expect("it waits for the router");
    assert!(deadline <= world.now.checked_add(SignedDuration::from_secs(180)).unwrap());
    let json = serde_json::to_string(&world.state).unwrap();
    world.state = serde_json::from_str(&json).unwrap();
    world.run(200);
    assert_eq!(world.phase(), Phase::RollingBack);
    world.deaf = false;
    assert!(world.run_until(Phase::RolledBack, 10));
}

#[test]
fn a_lost_state_is_found_again_in_the_world_and_nobody_notices() {
    let mut world = World::with_stable();
    world.bad.insert(revision("v3"), 0.1);
    world.update("v3");
    assert!(world.run_until(Phase::RolledBack, 100));
    world.state = crate::state::State::default();
    world.run(1);
    assert_eq!(world.state.stable, Some(revision("v1")));
    assert_eq!(world.sets[&revision("v1")].wanted, 4);
    assert!(
        world.run_until(Phase::RolledBack, 100),
        "what is bad is found bad again"
    );
}

#[test]
fn what_was_refused_is_not_tried_again_because_the_state_is_lost() {
    let mut world = World::with_stable();
    world.bad.insert(revision("v3"), 0.1);
    world.update("v3");
    assert!(world.run_until(Phase::RolledBack, 100));
    world.tried.insert(revision("v3"));
    world.state = crate::state::State::default();
    for _ in 0..100 {
        world.run(1);
        assert_eq!((world.phase(), world.weight("v3")), (Phase::RolledBack, 0));
    }
    assert_eq!(world.state.stable, Some(revision("v1")));
    let message = world.last.as_ref().unwrap().report.message.clone();
    assert!(message.contains("its record says so"), "{message}");
    world.act("again", Action::Retry);
    let begins = (0..100).any(|_| {
        world.run(1);
        world.weight("v3") > 0
    });
    assert!(begins, "a person may try it again");
}

#[test]
fn an_objective_that_cannot_be_read_does_not_let_the_bake_pass() {
    let mut world = World::with_stable();
    let latency = SloPlan {
        name: "latency".into(),
        ..world.plan.slos[0].clone()
    };
    world.plan.slos.push(latency);
    world.update("v2");
    while world.weight("v2") < 100 {
        world.run(1);
    }
    world.unread = Some(1);
    world.run(170);
    assert_eq!(
        world.phase(),
        Phase::Progressing,
        "half of the evidence is no evidence"
    );
    world.unread = None;
    assert!(world.run_until(Phase::Healthy, 60));
}

#[test]
fn a_spec_that_goes_on_while_the_route_comes_home_is_followed() {
    let mut world = World::new(plan("v1"));
    world.plan.route = RouteMode::Adopted;
    world.route_exists = true;
    world.weights = [
        (crate::observed::Backend::Slot(Slot::Stable), 100),
        (crate::observed::Backend::Slot(Slot::Canary), 0),
    ]
    .into();
    world.run(30);
    world.update("v2");
    for _ in 0..300 {
        if matches!(
            world.state.attempt.as_ref().map(|a| &a.stage),
            Some(Stage::Settling)
        ) {
            break;
        }
        world.run(1);
    }
    world.deaf = true;
    world.acknowledged = false;
    world.update("v3");
    world.run(2);
    assert_eq!(world.state.stable, Some(revision("v2")));
    assert_eq!(
        world.state.attempt.as_ref().map(|a| a.revision.clone()),
        Some(revision("v3"))
    );
}

/// A canary at its first weight that answers this share of its requests.
fn partly_answering(at_route: bool, answers: f64, on_mismatch: OnShareMismatch) -> World {
    let mut world = World::with_stable();
    world.plan.on_share_mismatch = on_mismatch;
    world.at_route = at_route;
    world.answers.insert("v2".into(), answers);
    world.update("v2");
    while world.weight("v2") == 0 {
        world.run(1);
    }
    world
}

#[test]
fn too_few_answers_are_harm_at_the_route_and_a_hold_at_the_pods() {
    let mut world = partly_answering(true, 0.25, OnShareMismatch::Hold);
    assert!(world.run_until(Phase::RolledBack, 100), "{:?}", world.last);
    assert_eq!(
        outcome(&world),
        ("v2".into(), Outcome::RolledBack, "MissingResponses".into())
    );
    // Callers may have come past the route: nobody is blamed, and nothing goes on.
    let mut world = partly_answering(false, 0.25, OnShareMismatch::Hold);
    world.run(100);
    assert_eq!(world.weight("v2"), 10);
    // What the share says was switched off.
    let mut world = partly_answering(true, 0.25, OnShareMismatch::Ignore);
    world.run(100);
    assert!(world.weight("v2") >= 10);
}

#[test]
fn a_canary_that_answers_nothing_is_taken_back_whoever_counts() {
    for at_route in [true, false] {
        let mut world = partly_answering(at_route, 0.0, OnShareMismatch::Hold);
        assert!(world.run_until(Phase::RolledBack, 100), "{:?}", world.last);
        assert_eq!(outcome(&world).2, "MissingResponses", "{at_route}");
    }
}

#[test]
fn a_route_that_nobody_has_acknowledged_is_not_ready() {
    let mut world = World::with_stable();
    let route_ready = |world: &mut World| {
        let conditions = world.turn(0).report.conditions;
        conditions.into_iter().find(|c| c.kind == "RouteReady").unwrap()
    };
    assert!(route_ready(&mut world).status);
    world.acknowledged = false;
    let seen = route_ready(&mut world);
    assert_eq!(
        (seen.status, seen.reason.as_str(), seen.fault),
        (false, "RoutePending", false)
    );
}

#[test]
fn a_refused_write_is_what_a_first_revision_waits_for() {
    let mut world = World::new(plan("r1"));
    world.turn(0);
    let mut seen = world.observe();
    seen.problems.push(Problem {
        kind: ProblemKind::Apply,
        reason: "NameTaken".into(),
        message: "services checkout exists".into(),
    });
    let report = decide(&world.plan, &world.state, &seen, world.now).report;
    assert_eq!(
        (report.phase, report.message.as_str()),
        (Phase::Initializing, "services checkout exists")
    );
}

#[test]
fn a_router_that_hears_late_leaves_connections_their_time_to_drain() {
    let mut world = World::with_stable();
    world.update("v2");
    while world.weight("v2") == 0 {
        world.run(1);
    }
    world.run(5);
    world.deaf = true;
    world.act("abort", Action::Abort);
    world.run(400);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert!(
        world.sets[&revision("v2")].wanted > 0,
        "the router may still send it users"
    );
    world.deaf = false;
    world.run(9);
    assert!(world.sets[&revision("v2")].wanted > 0, "they have ten seconds");
    world.run(5);
    assert_eq!(world.sets[&revision("v2")].wanted, 0);
}

#[test]
fn the_pods_of_the_next_weight_start_while_the_dwell_lasts_once_the_evidence_is_there() {
    let mut world = World::with_stable();
    world.plan.steps = vec![
        Step::SetWeight(10),
        Step::Dwell(100),
        Step::SetWeight(50),
        Step::Dwell(100),
    ];
    world.update("v2");
    while world.weight("v2") < 10 {
        world.run(1);
    }
    let pods = |world: &World| world.sets[&revision("v2")].wanted;
    world.run(45);
    assert_eq!(pods(&world), 1, "the first half is for one pod");
    world.run(10);
    assert_eq!((pods(&world), world.weight("v2")), (2, 10));
    // Without evidence nothing is prepared.
    let mut blind = World::with_stable();
    blind.plan.steps.clone_from(&world.plan.steps);
    blind.update("v2");
    while blind.weight("v2") < 10 {
        blind.run(1);
    }
    blind.blind = true;
    blind.run(90);
    assert_eq!(pods(&blind), 1);
}

#[test]
fn a_first_revision_that_another_replaces_keeps_no_pods_behind_a_users_route() {
    let mut world = World::with_users_route();
    world.state = crate::state::State::default();
    world.sets.clear();
    world.selected.clear();
    for version in ["v1", "v2"] {
        world.update(version);
        while !world.sets.contains_key(&revision(version)) {
            world.run(1);
        }
        let set = world.sets.get_mut(&revision(version)).unwrap();
        set.broken = Some(broken(TroubleKind::Unschedulable, 0));
        world.run(5);
    }
    world.run(60);
    assert_eq!(world.phase(), Phase::Initializing);
    assert_eq!(world.sets.get(&revision("v1")).map_or(0, |set| set.wanted), 0);
}

#[test]
fn what_callers_inside_the_cluster_came_by_drains_after_the_name_has_left_it() {
    let mut world = World::with_stable();
    world.update("v2");
    let named = |world: &World| world.selected.get(&Slot::InCluster).cloned();
    while named(&world) != Some(revision("v2")) {
        world.run(1);
    }
    world.bad.insert(revision("v2"), 0.5);
    assert!(world.run_until(Phase::RolledBack, 300));
    // Somebody else's hand, or a write that was refused: the name is late.
    world.selected.insert(Slot::InCluster, revision("v2"));
    let at = world.state.retiring[0].scale_down_at;
    world.now = at;
    let (mut left, mut gone) = (None, None);
    for _ in 0..60 {
        if named(&world) == Some(revision("v1")) {
            left = left.or(Some(world.now));
        }
        if world.sets[&revision("v2")].wanted == 0 {
            gone = gone.or(Some(world.now));
        }
        world.run(1);
    }
    let drained = gone.unwrap().duration_since(left.unwrap());
    assert!(drained >= world.plan.drain, "{drained:#}");
}

#[test]
fn a_first_revision_that_failed_keeps_its_pods_until_the_router_has_left_them() {
    let mut world = World::new(plan("v1"));
    world.deaf = true;
    world.run(100);
    world.set_clock(3);
    // One pod is missing when the deadline passes, so that it is not tried again at once.
    world.plan.replicas = 5;
    world.turn(0);
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Degraded));
    world.update("v2");
    world.run(60);
    assert_eq!((world.weight("v2"), world.acknowledged), (100, false));
    assert_eq!(world.sets[&"v1".into()].wanted, 4, "requests may still go there");
    world.deaf = false;
    world.run(60);
    assert_eq!(world.sets[&"v1".into()].wanted, 0);
}

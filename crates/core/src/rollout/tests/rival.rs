//! Another writer of a user's route.

use super::world::World;
use crate::decision::{ConditionView, Phase};
use crate::observed::{Trouble, TroubleKind};
use crate::rollout::rival::CALM;

const RIVAL: &str = "argocd-controller";

fn route_ready(world: &World) -> ConditionView {
    let report = &world.last.as_ref().unwrap().report;
    report
        .conditions
        .iter()
        .find(|c| c.kind == "RouteReady")
        .unwrap()
        .clone()
}

/// A canary with its first weight.
fn with_canary() -> World {
    let mut world = World::with_users_route();
    world.advice.insert(RIVAL.into(), "Set this.".into());
    world.update("v2");
    while world.canary_weight() == 0 {
        world.run(1);
    }
    world.run(1);
    assert!(route_ready(&world).status);
    world
}

#[test]
fn weights_that_are_written_back_are_set_again_and_the_writer_is_named() {
    let mut world = with_canary();
    world.write_weights(RIVAL, 0);
    world.run(1);
    assert_eq!(world.canary_weight(), 10, "at once for the first time");
    let told = route_ready(&world);
    assert_eq!((told.status, told.reason.as_str()), (false, "WeightsWrittenBack"));
    assert!(told.fault, "a change to it is an event");
    assert!(
        told.message.contains(RIVAL) && told.message.ends_with("Set this."),
        "{}",
        told.message
    );
    assert!(
        told.message
            .contains("wrote the weights of the route back less than 15 minutes ago"),
        "true as long as it is told, also while the rival is silent: {}",
        told.message
    );
    assert!(world.run_until(Phase::Healthy, 300), "{:?}", world.last);
    assert_eq!(route_ready(&world), told, "one episode, one condition, one event");
}

#[test]
fn a_rival_that_never_rests_makes_no_hot_loop_and_the_deadline_names_it() {
    let mut world = with_canary();
    let before = world.weight_writes;
    let (mut seconds, mut gaps) = (0, Vec::new());
    while world.phase() == Phase::Progressing && seconds < 1000 {
        if world.canary_weight() > 0 {
            world.write_weights(RIVAL, 0);
        }
        world.run(1);
        gaps.push(world.last.as_ref().unwrap().report.message.clone());
        seconds += 1;
    }
    let writes = world.weight_writes - before;
    let gap = "revision v2 at 10 % (0 % in the route): step";
    let told = gaps.iter().filter(|message| message.starts_with(gap)).count();
    assert!(told > 10, "{told} of {}: {:?}", gaps.len(), gaps.last());
    let last = world.state.attempt.as_ref().unwrap().transitions.last().unwrap();
    assert!(
        last.reason == "Inconclusive" && last.message.contains(RIVAL),
        "{last:?}"
    );
    assert!(seconds > 60 && writes < 20, "{writes} writes in {seconds} s");
}

#[test]
fn traffic_that_must_leave_the_canary_does_not_wait_for_the_rival_to_rest() {
    let mut world = with_canary();
    for _ in 0..20 {
        world.write_weights(RIVAL, 0);
        world.run(2);
    }
    world.update("v1");
    world.write_weights(RIVAL, 50);
    world.run(3);
    assert_eq!(world.canary_weight(), 0);
}

#[test]
fn users_whom_stable_cannot_serve_do_not_wait_either() {
    let mut world = with_canary();
    for _ in 0..20 {
        world.write_weights(RIVAL, 0);
        world.run(2);
    }
    world.write_weights(RIVAL, 0);
    world.sets.get_mut(&"v1".into()).unwrap().broken = Some(Trouble {
        kind: TroubleKind::Unschedulable,
        message: "its node is gone".into(),
        restarts: 0,
    });
    world.run(3);
    assert_eq!(world.canary_weight(), 100);
}

#[test]
fn a_rival_that_keeps_still_is_forgotten() {
    let mut world = with_canary();
    world.write_weights(RIVAL, 0);
    world.run(1);
    assert!(!route_ready(&world).status);
    let last = world.state.rival.as_ref().unwrap().last;
    assert!(world.run_until(Phase::Healthy, 300));
    world.run(120);
    let decision = world.turn(usize::MAX);
    assert_eq!(decision.wake_at, last.checked_add(CALM).ok());
    world.now = decision.wake_at.unwrap();
    world.turn(usize::MAX);
    assert!(route_ready(&world).status);
    assert_eq!(world.state.rival, None);
}

#[test]
fn one_who_changes_the_rules_but_not_the_weights_is_no_rival() {
    let mut world = with_canary();
    world.write_weights("person", 10);
    world.run(30);
    assert!(route_ready(&world).status);
    assert_eq!(world.state.rival, None);
    assert!(world.run_until(Phase::Healthy, 300));
}

#[test]
fn users_that_a_rival_sends_to_a_revision_that_retires_drain_as_all_others() {
    let mut world = with_canary();
    world.bad.insert("v2".into(), 0.5);
    assert!(world.run_until(Phase::RolledBack, 300), "{:?}", world.last);
    let at = world.state.retiring[0].scale_down_at;
    while world.now.duration_since(at).as_secs() < -2 {
        world.run(1);
    }
    let pods = |world: &World| world.sets[&"v2".into()].wanted;
    assert!(pods(&world) > 0);
    world.write_weights(RIVAL, 50);
    let mut last_used = world.now;
    for _ in 0..60 {
        if world.canary_weight() > 0 || !world.acknowledged {
            last_used = world.now;
        }
        if pods(&world) == 0 {
            break;
        }
        world.run(1);
    }
    assert_eq!(pods(&world), 0);
    let drained = world.now.duration_since(last_used);
    assert!(drained >= world.plan.drain, "{drained:#}");
}

//! Without a router: pods behind one Service divide the traffic.

use super::world::{World, plan};
use crate::decision::Phase;
use crate::observed::{Action, Slot};
use crate::plan::RouteMode;
use crate::state::Outcome;
use crate::step::{CanaryScale, Step};

fn given() -> World {
    let mut world = World::new(plan("v1"));
    world.plan.route = RouteMode::Shares;
    assert!(world.run_until(Phase::Healthy, 90), "{:?}", world.last);
    world
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

/// The canary's part of the traffic, and stable's pods, whenever one of them changed.
fn parts(world: &mut World, seconds: u32) -> Vec<(u8, u32)> {
    let mut parts = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        let part = (world.weight("v2"), world.sets[&"v1".into()].wanted);
        if parts.last() != Some(&part) {
            parts.push(part);
        }
    }
    parts
}

#[test]
fn a_good_revision_gets_a_fifth_a_half_and_all_while_stable_keeps_its_pods() {
    let mut world = given();
    world.update("v2");
    let parts = parts(&mut world, 600);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into()))
    );
    let before_all: Vec<u8> = parts
        .iter()
        .map(|(part, _)| *part)
        .take_while(|part| *part < 100)
        .collect();
    // 10 and 50 % of four pods, one after the other as they become ready.
    assert_eq!(before_all, [0, 20, 33, 42, 50]);
    let full = parts
        .iter()
        .take_while(|(part, _)| *part < 100)
        .all(|(_, pods)| *pods == 4);
    assert!(full, "{parts:?}");
    assert_eq!(world.sets[&"v1".into()].wanted, 0, "it goes after the bake");
    assert_eq!(world.selected[&Slot::InCluster], "v2".into());
}

#[test]
fn a_bad_revision_loses_its_part_at_once() {
    let mut world = given();
    world.bad.insert("v2".into(), 0.3);
    world.update("v2");
    let parts: Vec<u8> = parts(&mut world, 300).iter().map(|(part, _)| *part).collect();
    assert_eq!(parts, [0, 20, 0]);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.selected[&Slot::InCluster], "v1".into());
}

#[test]
fn pods_of_a_third_revision_are_led_to_by_nobody() {
    let mut world = given();
    world.update("v2");
    world.run(30);
    assert!(world.weight("v2") > 0);
    world.plan.abort_scale_down_delay = jiff::SignedDuration::from_secs(60);
    world.update("v3");
    let mut waited = false;
    for _ in 0..120 {
        world.run(1);
        assert!(world.weight("v2") == 0 || world.weight("v3") == 0);
        waited |= message(&world).contains("revision v2 still has pods");
    }
    assert!(waited);
    assert!(world.weight("v3") > 0, "{}", message(&world));
}

#[test]
fn all_at_once_needs_no_parts() {
    let mut world = given();
    world.plan.steps = vec![Step::SetCanaryScale(CanaryScale::Percent(100))];
    world.plan.at_once = true;
    world.update("v2");
    let mut parts: Vec<u8> = parts(&mut world, 300).iter().map(|(part, _)| *part).collect();
    parts.dedup();
    assert_eq!(parts, [0, 100]);
    assert_eq!(world.phase(), Phase::Healthy);
}

#[test]
fn an_abort_at_half_takes_everybody_home() {
    let mut world = given();
    world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.act("abort", Action::Abort);
    world.run(60);
    assert_eq!((world.weight("v1"), world.weight("v2")), (100, 0));
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Aborted);
    assert_eq!(world.sets[&"v2".into()].wanted, 0);
}

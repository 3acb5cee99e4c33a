//! Callers inside the cluster who are to meet the canary as well, by its part of the pods; and users who stay where they
//! are.

use super::world::{World, plan};
use crate::decision::Phase;
use crate::observed::{Action, Backend, Slot};
use crate::plan::RouteMode;
use crate::step::Step;

fn shared(route: RouteMode) -> World {
    let mut world = match route {
        RouteMode::Adopted => World::with_users_route(),
        _ => World::with_stable(),
    };
    world.plan.shared_in_cluster = true;
    world
}

/// Whom the service of the service's own name leads to, whenever that changed.
fn leads(world: &mut World, seconds: u32) -> Vec<String> {
    let mut leads = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        let lead = if world.shared {
            "all".to_owned()
        } else {
            world.selected[&Slot::InCluster].to_string()
        };
        if leads.last() != Some(&lead) {
            leads.push(lead);
        }
    }
    leads
}

#[test]
fn callers_inside_the_cluster_meet_both_while_the_canary_has_a_part_of_the_users() {
    for route in [RouteMode::Owned, RouteMode::Adopted] {
        let mut world = shared(route);
        world.update("v2");
        assert_eq!(leads(&mut world, 600), ["v1", "all", "v2"], "{route:?}");
        assert_eq!(world.phase(), Phase::Healthy, "{route:?}");
        assert_eq!(world.sets[&"v1".into()].wanted, 0, "{route:?}");
    }
}

#[test]
fn by_default_they_move_once() {
    let mut world = World::with_stable();
    world.update("v2");
    assert_eq!(leads(&mut world, 600), ["v1", "v2"]);
}

#[test]
fn they_are_told_of_and_go_home_with_the_users() {
    let mut world = shared(RouteMode::Owned);
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    assert!(world.shared);
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(
        message.contains("callers inside the cluster meet it at 1 of 5 pods"),
        "{message}"
    );
    world.act("abort", Action::Abort);
    world.turn(usize::MAX);
    assert!(!world.shared);
    assert_eq!(world.selected[&Slot::InCluster], "v1".into());
}

#[test]
fn its_pods_stay_as_long_as_a_name_leads_to_them() {
    let mut world = shared(RouteMode::Owned);
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.act("abort", Action::Abort);
    for _ in 0..60 {
        world.run(1);
        // Whatever keeps the Service from being written.
        world.selected.remove(&Slot::InCluster);
        world.shared = true;
    }
    assert!(
        world.sets[&"v2".into()].wanted > 0,
        "users would be led to nobody"
    );
    world.run(60);
    assert_eq!(world.sets[&"v2".into()].wanted, 0);
}

#[test]
fn turned_off_on_the_way_they_go_home() {
    let mut world = shared(RouteMode::Owned);
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.plan.shared_in_cluster = false;
    world.run(1);
    assert!(!world.shared);
    assert_eq!(world.selected[&Slot::InCluster], "v1".into());
    assert_eq!(world.weight("v2"), 25);
}

#[test]
fn one_who_has_no_users_is_met_by_nobody_inside() {
    let mut world = shared(RouteMode::Owned);
    world.plan.steps = vec![
        Step::SetCanaryScale(crate::step::CanaryScale::Replicas(2)),
        Step::Pause {},
    ];
    world.update("v2");
    assert_eq!(leads(&mut world, 120), ["v1"]);
}

fn sticky() -> World {
    let mut world = World::with_stable();
    world.plan.sticky = true;
    world
}

fn has_place(world: &World, revision: &str) -> bool {
    world.weights.contains_key(&Backend::Revision(revision.into()))
}

#[test]
fn users_who_stay_where_they_are_lose_the_canary_with_its_place_in_the_route() {
    let mut world = sticky();
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    assert!(has_place(&world, "v1") && has_place(&world, "v2"));
    world.act("abort", Action::Abort);
    world.turn(usize::MAX);
    assert!(!has_place(&world, "v2"), "sessions last at a weight of 0");
    world.run(60);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.sets[&"v2".into()].wanted, 0);
}

#[test]
fn in_the_bake_nobody_stays_on_the_old_revision() {
    let mut world = sticky();
    world.update("v2");
    let baking = |world: &World| {
        let attempt = world.state.attempt.as_ref();
        attempt.is_some_and(|a| matches!(a.stage, crate::state::Stage::Baking { .. }))
    };
    while !baking(&world) {
        world.run(1);
    }
    assert!(!has_place(&world, "v1") && has_place(&world, "v2"));
    assert!(world.run_until(Phase::Healthy, 120));
}

#[test]
fn before_its_first_user_the_canary_has_a_place_for_the_proxies_to_learn() {
    let mut world = sticky();
    world.update("v2");
    world.run(2);
    assert!(has_place(&world, "v2"));
    assert_eq!(world.weight("v2"), 0);
}

/// `v2` gets a tenth of what its weight says, for most users came before it.
fn few_come() -> World {
    let mut world = World::new(plan("v1"));
    world.run(60);
    world.answers.insert("v2".into(), 0.1);
    world
}

#[test]
fn that_few_users_are_new_holds_and_blames_no_canary() {
    let run = |sticky| {
        let mut world = few_come();
        world.plan.sticky = sticky;
        world.update("v2");
        world.run(400);
        (world.phase(), world.state.stable.clone())
    };
    assert_ne!(run(false).1, Some("v2".into()), "a share that is too small holds");
    assert_eq!(run(true), (Phase::Healthy, Some("v2".into())));
}

#[test]
fn that_nobody_new_has_come_yet_is_no_silence() {
    let mut world = sticky();
    world.answers.insert("v2".into(), 0.0);
    world.update("v2");
    world.run(120);
    let attempt = world.state.attempt.as_ref().expect("it waits for its first user");
    assert_eq!(attempt.weight, 10);
    // Nothing promotes it either.
    world.run(400);
    assert_ne!(world.state.stable, Some("v2".into()));
    assert_eq!(world.weight("v2"), 0);
}

//! The ReplicaSet of the stable revision is deleted while another one is asked for.

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::state::Outcome;

/// A canary waits for a person at half of the traffic, and stable's ReplicaSet goes.
fn given() -> World {
    let mut world = World::with_stable();
    world.plan.steps.push(crate::step::Step::Pause {});
    world.update("v2");
    for _ in 0..600 {
        if world.weight("v2") == 50 {
            break;
        }
        world.run(1);
    }
    world.run(60);
    assert_eq!((world.weight("v2"), world.phase()), (50, Phase::Paused));
    world.sets.remove(&"v1".into());
    world
}

/// Half a minute goes by, in which it is told.
fn is_told(world: &mut World) {
    let mut told = Vec::new();
    for _ in 0..30 {
        world.run(1);
        let report = &world.last.as_ref().unwrap().report;
        told.extend(report.transitions.iter().map(|t| t.reason.clone()));
    }
    assert!(told.contains(&"StableLost".to_owned()), "{told:?}");
    world.plan.steps.pop();
}

fn pods(world: &World, revision: &str) -> u32 {
    world.sets.get(&revision.into()).map_or(0, |set| set.wanted)
}

#[test]
fn the_canary_serves_everybody_with_all_pods_and_that_is_told() {
    let mut world = given();
    is_told(&mut world);
    world.run(600);
    assert_eq!(world.state.stable, Some("v2".into()));
    assert_eq!(
        (world.weight("v2"), pods(&world, "v2")),
        (100, world.plan.replicas)
    );
    assert_eq!(world.phase(), Phase::Healthy);
}

#[test]
fn what_comes_back_soon_was_never_gone() {
    let mut world = given();
    let set = World::with_stable().sets.remove(&"v1".into()).unwrap();
    world.run(5);
    world.sets.insert("v1".into(), set);
    world.run(60);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!(
        (world.state.stable_lost_since, world.phase()),
        (None, Phase::Paused)
    );
}

#[test]
fn one_that_was_being_taken_back_serves_on_and_the_next_one_begins() {
    let mut world = given();
    world.act("abort", Action::Abort);
    is_told(&mut world);
    world.update("v3");
    world.run(900);
    assert_eq!(world.state.stable, Some("v3".into()));
    assert_eq!(
        (world.weight("v3"), pods(&world, "v3")),
        (100, world.plan.replicas)
    );
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Promoted);
}

#[test]
fn its_own_template_brings_it_back() {
    let mut world = given();
    is_told(&mut world);
    world.update("v1");
    world.run(900);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Healthy));
}

/// A bad revision was taken back, and then stable's ReplicaSet goes.
fn given_refused(mut world: World) -> World {
    world.bad.insert("v2".into(), 0.5);
    world.update("v2");
    assert!(world.run_until(Phase::RolledBack, 900));
    world.run(120);
    world.sets.remove(&"v1".into());
    world
}

#[test]
fn what_was_taken_back_serves_where_nothing_else_is_left() {
    let mut world = given_refused(World::with_stable());
    world.run(120);
    assert_eq!(
        (world.weight("v2"), pods(&world, "v2")),
        (100, world.plan.replicas),
        "{:?}",
        world.last
    );
    // It is found wanting once more, and nobody is there to take its users.
    world.run(900);
    assert_eq!(
        (world.weight("v2"), pods(&world, "v2")),
        (100, world.plan.replicas)
    );
    world.update("v3");
    world.run(900);
    assert_eq!(world.state.stable, Some("v3".into()));
}

#[test]
fn what_served_before_is_stable_again_where_the_other_was_taken_back() {
    let mut world = World::with_stable();
    world.update("v0");
    world.run(900);
    assert_eq!(world.state.stable, Some("v0".into()));
    world.update("v1");
    world.run(900);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert!(world.sets.contains_key(&"v0".into()));
    let mut world = given_refused(world);
    world.run(120);
    assert_eq!(world.state.stable, Some("v0".into()));
    assert_eq!(
        (world.weight("v0"), pods(&world, "v0")),
        (100, world.plan.replicas)
    );
    assert_eq!((world.phase(), pods(&world, "v2")), (Phase::RolledBack, 0));
}

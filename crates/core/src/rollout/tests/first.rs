//! A first revision has nothing to be compared with, and nothing to go back to.

use super::world::{World, plan};
use crate::decision::Phase;
use crate::observed::Action;
use crate::state::Outcome;

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn given(bad: f64) -> World {
    let mut world = World::new(plan("v1"));
    world.bad.insert("v1".into(), bad);
    world
}

#[test]
fn one_that_breaks_its_objective_serves_on_and_is_said_to() {
    let mut world = given(0.3);
    assert!(world.run_until(Phase::Degraded, 60), "{}", message(&world));
    assert_eq!(world.weight("v1"), 100, "there is no other");
    assert!(message(&world).contains("30.00 % of"), "{}", message(&world));
    assert!(message(&world).contains("allows 0.10 %"), "{}", message(&world));
    let last = world.state.last.clone().unwrap();
    assert_eq!((last.outcome, last.number), (Outcome::RolledBack, 1));
    // It is not judged again and again, and loses no pod.
    world.run(3600);
    assert_eq!(world.state.last.as_ref().unwrap().number, 1);
    assert_eq!((world.weight("v1"), world.sets[&"v1".into()].wanted), (100, 4));
}

#[test]
fn one_that_was_found_wanting_is_judged_again_when_a_person_asks() {
    let mut world = given(0.3);
    assert!(world.run_until(Phase::Degraded, 60));
    world.bad.clear();
    world.act("retry", Action::Retry);
    assert!(world.run_until(Phase::Healthy, 120), "{}", message(&world));
    assert_eq!(world.state.last.as_ref().unwrap().number, 2);
}

#[test]
fn a_corrected_one_takes_its_place_without_steps() {
    let mut world = given(0.3);
    assert!(world.run_until(Phase::Degraded, 60));
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 120), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v2".into()));
    world.run(60);
    assert_eq!(world.sets[&"v1".into()].wanted, 0);
}

#[test]
fn the_next_one_is_compared_with_it_though_its_bake_is_not_over() {
    let mut world = given(0.0);
    world.run(10);
    assert_eq!(world.phase(), Phase::Initializing);
    world.update("v2");
    world.run(10);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!(world.weight("v2"), 10);
}

#[test]
fn one_that_nobody_asks_or_that_cannot_be_measured_is_stable_after_its_bake() {
    for (rps, blind) in [(0.0, false), (40.0, true)] {
        let mut world = given(0.0);
        (world.rps, world.blind) = (rps, blind);
        assert!(
            world.run_until(Phase::Healthy, 60),
            "{rps} {blind}: {}",
            message(&world)
        );
    }
}

#[test]
fn one_that_is_scaled_to_zero_is_not_said_to_serve_anybody() {
    let mut world = given(0.0);
    world.plan.replicas = 0;
    let mut told = Vec::new();
    for _ in 0..300 {
        world.run(1);
        told.push(message(&world));
    }
    assert_eq!(world.state.stable, Some("v1".into()), "{told:?}");
    let last = world.state.last.as_ref().unwrap();
    told.extend(last.transitions.iter().map(|t| t.message.clone()));
    told.push(last.message.clone());
    let wrong: Vec<_> = told
        .iter()
        .filter(|text| text.contains("serves all users") || text.contains("all users are"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(last.message.contains("scaled to zero"), "{}", last.message);
    // And what waits beside it says so, too.
    world.plan.paused = true;
    world.update("v2");
    world.run(2);
    let waits = message(&world);
    assert!(waits.contains("nobody is served"), "{waits}");
}

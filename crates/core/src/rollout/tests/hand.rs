//! A weight that somebody lowered by hand stays low.

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::RouteMode;
use crate::state::Outcome;

/// The highest weight that the canary has from now on, for so many seconds.
fn highest(world: &mut World, seconds: u32) -> u8 {
    let has = |world: &World| match world.plan.route {
        RouteMode::Adopted => world.canary_weight(),
        _ => world.weight("v2"),
    };
    (0..seconds)
        .map(|_| {
            world.run(1);
            has(world)
        })
        .max()
        .unwrap_or(0)
}

fn at(mut world: World, weight: u8) -> World {
    world.update("v2");
    for _ in 0..900 {
        if world.weight("v2") == weight || world.canary_weight() == weight {
            return world;
        }
        world.run(1);
    }
    panic!("never at {weight} %: {:?}", world.last);
}

fn is_aborted(world: &mut World) {
    let conditions = world.turn(0).report.conditions;
    let route = conditions.into_iter().find(|c| c.kind == "RouteReady").unwrap();
    assert_ne!(
        route.reason, "WeightsWrittenBack",
        "who was heeded is nobody's rival"
    );
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::Aborted, "WeightLowered")
    );
    assert!(last.message.contains("kubectl-patch"), "{}", last.message);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.state.refused, Some("v2".into()));
}

#[test]
fn what_was_lowered_while_the_operator_was_away_is_never_raised() {
    for given in [World::with_stable, World::with_users_route] {
        let mut world = at(given(), 50);
        world.run(5);
        // Nobody decides for a minute.
        world.lower(0);
        world.live(60);
        assert_eq!(highest(&mut world, 600), 0);
        is_aborted(&mut world);
        // It is tried again once somebody asks.
        world.act("retry", Action::Retry);
        assert!(highest(&mut world, 60) > 0);
    }
}

#[test]
fn what_was_lowered_before_the_router_had_acknowledged_it_stays_low() {
    let mut world = at(World::with_stable(), 10);
    world.deaf = true;
    world.live(1);
    world.lower(0);
    assert_eq!(highest(&mut world, 600), 0);
    is_aborted(&mut world);
}

#[test]
fn to_lower_it_a_little_is_to_abort_and_in_the_bake_as_well() {
    let mut world = at(World::with_stable(), 50);
    world.run(5);
    world.lower(20);
    assert!(highest(&mut world, 60) <= 20);
    is_aborted(&mut world);

    let mut world = at(World::with_stable(), 100);
    world.run(5);
    world.lower(0);
    assert_eq!(highest(&mut world, 60), 0);
    is_aborted(&mut world);
}

#[test]
fn a_raise_that_a_crash_kept_from_being_written_is_no_hand_that_lowers() {
    let mut world = at(World::with_stable(), 10);
    world.run(5);
    // Somebody edits the route without a change of the weights, long before.
    world.written_by = Some("kubectl-edit".into());
    world.written_at = world.true_now;
    let mut raised = false;
    for _ in 0..200 {
        world.live(1);
        let limit = if raised { usize::MAX } else { 0 };
        let decision = world.turn(limit);
        raised |= decision.state.attempt.as_ref().is_some_and(|a| a.weight == 50);
        if !raised {
            // Whatever else there is to do is done.
            world.turn(usize::MAX);
            world.written_by = Some("kubectl-edit".into());
        }
    }
    assert_ne!(world.phase(), Phase::RolledBack);
    assert_eq!(world.state.stable, Some("v2".into()));
}

//! The clock of the operator's host is set while a rollout runs.

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::Revision;
use crate::state::Outcome;

/// Users are on the canary at the first step, and it dwells.
fn dwelling() -> World {
    let mut world = World::with_stable();
    world.update("v2");
    assert!((0..200).any(|_| {
        world.run(1);
        world.weight("v2") == 10
    }));
    world.run(5);
    world
}

#[test]
fn a_clock_that_leaps_ahead_promotes_nothing() {
    let mut world = dwelling();
    world.set_clock(180);
    // Prometheus has nothing of the hours that have not been.
    world.blind = true;
    for _ in 0..1500 {
        world.run(1);
        assert!(world.weight("v2") <= 10, "no step without evidence");
        assert_eq!(world.state.stable, Some(Revision::from("v1")));
    }
    assert_eq!(world.phase(), Phase::Paused, "the deadline came early");
    assert_eq!(world.weight("v2"), 0);
    world.set_clock(-180);
    world.act("a", Action::Abort);
    assert!(world.run_until(Phase::RolledBack, 60));
}

#[test]
fn a_clock_that_leaps_ahead_does_not_replace_evidence() {
    let mut world = dwelling();
    world.bad.insert("v2".into(), 0.05);
    world.set_clock(180);
    assert!(world.run_until(Phase::RolledBack, 1500), "{:?}", world.last);
    assert_eq!(world.state.stable, Some(Revision::from("v1")));
}

#[test]
fn a_clock_that_is_set_back_leaves_nobody_on_an_unwatched_canary() {
    let mut world = dwelling();
    world.set_clock(-120);
    world.bad.insert("v2".into(), 0.5);
    assert!(
        world.run_until(Phase::RolledBack, 60),
        "what was read already lies ahead: nothing new would be read for two hours"
    );
    let last = world.state.last.clone().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str(), last.number),
        (Outcome::Inconclusive, "ClockWentBack", 1)
    );
    assert!(last.message.contains("clock"), "{}", last.message);
}

#[test]
fn a_clock_that_is_set_back_a_little_changes_nothing_about_the_end() {
    let mut world = dwelling();
    world.set_clock(-2);
    assert!(world.run_until(Phase::Healthy, 1500));
    assert_eq!(world.state.stable, Some(Revision::from("v2")));
}

#[test]
fn a_person_aborts_whatever_the_clock_says() {
    for minutes in [-300, -2, 300] {
        let mut world = dwelling();
        world.set_clock(minutes);
        world.act("a", Action::Abort);
        assert!(world.run_until(Phase::RolledBack, 60), "{minutes}");
    }
}

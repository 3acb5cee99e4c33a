//! A database has only so many connections, and a rollout has more pods than usual.

use super::verdicts::message;
use super::world::World;
use crate::decision::Phase;
use crate::plan::{ConnectionsPlan, Revision, Room};
use crate::state::Outcome;

/// Four pods of stable with 10 each, and `others`; a limit of 100, of which 90 may be used, and a pod may take 10.
fn given(others: u32) -> World {
    let mut world = World::with_stable();
    world.plan.room = Room {
        connections: Some(ConnectionsPlan {
            per_pod: 10,
            max_percent: 90,
        }),
        ..Room::default()
    };
    world.database = Some(Ok((others, 10, 100)));
    world
}

fn pods(world: &World, revision: &str) -> u32 {
    let set = world.sets.get(&Revision::from(revision));
    set.map_or(0, |set| set.wanted)
}

#[test]
fn a_rollout_whose_pods_fit_goes_on_as_ever() {
    let mut world = given(10);
    world.update("v2");
    let mut most = 0;
    for _ in 0..900 {
        world.run(1);
        most = most.max(pods(&world, "v1") + pods(&world, "v2"));
    }
    assert_eq!(world.phase(), Phase::Healthy, "{}", message(&world));
    assert_eq!((most, world.state.stable.clone()), (8, Some("v2".into())));
}

#[test]
fn no_pod_starts_that_the_database_has_no_connections_for_and_stable_serves_on() {
    // 40 of stable's and 35 of others: one pod fits below 90.
    let mut world = given(35);
    world.update("v2");
    let mut told = String::new();
    for _ in 0..3600 {
        world.run(1);
        assert!(pods(&world, "v2") <= 1);
        if message(&world).contains("databaseConnections") {
            message(&world).clone_into(&mut told);
        }
        if world.phase() == Phase::RolledBack {
            break;
        }
    }
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "ProgressDeadlineExceeded")
    );
    assert!(
        last.message.contains("databaseConnections: 85 of 100"),
        "{}",
        last.message
    );
    assert!(told.contains("one more pod may take 10"), "{told}");
    assert_eq!(pods(&world, "v1"), 4);
}

#[test]
fn it_goes_on_when_others_give_theirs_back() {
    let mut world = given(60);
    world.update("v2");
    world.run(60);
    assert_eq!((pods(&world, "v2"), world.phase()), (0, Phase::Progressing));
    world.database = Some(Ok((10, 10, 100)));
    assert!(world.run_until(Phase::Healthy, 900), "{}", message(&world));
}

#[test]
fn pools_that_are_not_opened_yet_count_as_full() {
    // The pods open none at first: what they may open is held for them all the same.
    let mut world = given(75);
    world.database = Some(Ok((75, 0, 100)));
    world.update("v2");
    let mut most = 0;
    for _ in 0..500 {
        world.run(1);
        most = most.max(pods(&world, "v2"));
    }
    assert_eq!(most, 1, "{}", message(&world));
}

#[test]
fn what_cannot_be_read_lets_no_pod_start_and_says_why() {
    let mut world = given(0);
    world.database = Some(Err("the query gives nothing".into()));
    world.update("v2");
    world.run(120);
    assert_eq!(pods(&world, "v2"), 0);
    assert!(
        message(&world).contains("databaseConnections can't be read: the query gives nothing"),
        "{}",
        message(&world)
    );
    world.database = Some(Ok((0, 10, 100)));
    assert!(world.run_until(Phase::Healthy, 900), "{}", message(&world));
}

#[test]
fn whoever_goes_back_to_what_served_before_is_not_held() {
    let mut world = given(0);
    world.update("v2");
    assert!(world.run_until(Phase::Healthy, 900), "{}", message(&world));
    world.database = Some(Ok((100, 10, 100)));
    world.update("v1");
    assert!(world.run_until(Phase::Healthy, 900), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v1".into()));
}

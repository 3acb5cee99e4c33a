//! The time after a promotion.

use jiff::SignedDuration;

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;

/// Long enough for any rollout here.
const LONG: u32 = 900;
const HOUR: u32 = 3600;

/// `v2` was promoted, the pods of `v1` have gone, and it is watched.
fn watched() -> World {
    let mut world = World::with_stable();
    world.plan.watch = SignedDuration::from_hours(1);
    world.update("v2");
    world.run(LONG);
    assert_eq!(
        (world.state.stable.clone(), world.phase()),
        (Some("v2".into()), Phase::Healthy)
    );
    assert_eq!(world.sets[&"v1".into()].ready, 0, "its pods have gone");
    assert!(world.state.watch.is_some());
    world
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn is_back(world: &World) -> bool {
    world.state.stable == Some("v1".into()) && world.weight("v1") == 100 && world.phase() == Phase::RolledBack
}

/// What a wrong promotion could spend until nobody looks any more bounds the last margin.
#[test]
fn the_longer_the_watch_the_more_a_promotion_asks_for() {
    let seconds_until_all = |hours: i64, on_the_way: Option<i64>| {
        let mut world = World::with_stable();
        (world.rps, world.plan.progress_deadline) = (5.0, SignedDuration::from_hours(2));
        world.plan.watch = SignedDuration::from_hours(hours);
        world.update("v2");
        let mut seconds = 0;
        while world.weight("v2") < 100 && seconds < 6000 {
            world.run(1);
            seconds += 1;
            if let Some(hours) = on_the_way.filter(|_| seconds == 60) {
                world.plan.watch = SignedDuration::from_hours(hours);
            }
        }
        seconds
    };
    let [none, hour, day] = [0, 1, 24].map(|hours| seconds_until_all(hours, None));
    assert_eq!(none, hour, "a watch that nobody keeps allows no more");
    assert!(day > 2 * hour && day < 6000, "{hour} {day}");
    let begun = seconds_until_all(1, Some(24));
    assert_eq!(begun, hour, "an attempt ends by what it began with");
}

#[test]
fn harm_after_the_promotion_starts_the_old_pods_and_takes_users_back() {
    let mut world = watched();
    world.bad.insert("v2".into(), 0.3);
    let mut lowest = u32::MAX;
    for _ in 0..240 {
        world.run(1);
        let carried: u32 = ["v1", "v2"]
            .map(|r| {
                if world.weight(r) > 0 {
                    world.endpoints(&r.into())
                } else {
                    0
                }
            })
            .iter()
            .sum();
        lowest = lowest.min(carried);
    }
    assert!(is_back(&world), "{}", message(&world));
    assert!(
        lowest >= 4,
        "users are never with fewer pods than the service has"
    );
    assert!(
        message(&world).contains("v2") && message(&world).contains("availability"),
        "{}",
        message(&world)
    );
    let transitions = &world.state.last.as_ref().unwrap().transitions;
    assert!(transitions[0].reason == "RollbackStarted" && transitions[0].message.contains("availability"));
    let ready = &world.last.as_ref().unwrap().report.conditions[0];
    assert_eq!((ready.kind, ready.reason.as_str()), ("Ready", "WatchBreached"));
    // Whatever is re-applied, it stays out.
    world.run(HOUR);
    assert!(is_back(&world), "{}", message(&world));
}

#[test]
fn what_was_taken_back_after_its_promotion_takes_the_steps_when_it_is_retried() {
    let mut world = watched();
    world.bad.insert("v2".into(), 0.3);
    world.run(240);
    assert!(is_back(&world), "{}", message(&world));
    world.bad.remove(&"v2".into());
    world.act("retry", Action::Retry);
    world.run(LONG);
    assert_eq!(world.state.stable, Some("v2".into()));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.transitions[0].reason, "AttemptStarted");
    assert!(world.state.watch.is_some());
}

#[test]
fn a_fix_is_rolled_out_by_the_steps_beside_the_revision_that_users_fled_to() {
    let mut world = watched();
    world.bad.insert("v2".into(), 0.3);
    world.run(240);
    world.update("v3");
    world.run(LONG);
    assert_eq!(
        (world.state.stable.clone(), world.phase()),
        (Some("v3".into()), Phase::Healthy)
    );
    assert_eq!(world.state.pinned, None);
}

#[test]
fn a_quiet_watch_ends_and_nothing_is_read_afterwards() {
    let mut world = watched();
    assert!(message(&world).contains("watched until"), "{}", message(&world));
    world.run(HOUR);
    assert_eq!(world.state.watch, None);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into()))
    );
    assert_eq!(world.last.as_ref().unwrap().wake_at, None);
    assert!(!message(&world).contains("watched"), "{}", message(&world));
    world.bad.insert("v2".into(), 0.3);
    world.run(HOUR);
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn a_few_more_errors_than_before_are_no_reason_to_go_back() {
    let mut world = watched();
    // Twice the usual, and below the objective.
    world.bad.insert("v2".into(), 0.0008);
    world.run(HOUR);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into()))
    );
}

#[test]
fn few_requests_of_which_one_fails_are_no_reason_either() {
    let mut world = watched();
    world.rps = 0.1;
    world.bad.insert("v2".into(), 0.005);
    world.run(HOUR);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into()))
    );
}

#[test]
fn pods_that_crash_after_the_promotion_take_users_back() {
    let mut world = watched();
    let (now, set) = (world.true_now, world.sets.get_mut(&"v2".into()).unwrap());
    set.crashes = vec![now, now];
    world.run(60);
    assert!(is_back(&world), "{}", message(&world));
    assert!(message(&world).contains("crashed"), "{}", message(&world));
}

#[test]
fn no_pause_keeps_users_with_a_revision_that_harms_them() {
    for fleet in [false, true] {
        let mut world = watched();
        if fleet {
            world.fleet = Some("by ada".into());
        } else {
            world.plan.paused = true;
        }
        world.bad.insert("v2".into(), 0.3);
        world.run(240);
        assert_eq!(
            (world.weight("v1"), world.weight("v2")),
            (100, 0),
            "{}",
            message(&world)
        );
    }
}

#[test]
fn without_the_old_replica_set_it_says_so_and_stays() {
    let mut world = watched();
    world.sets.remove(&"v1".into());
    world.bad.insert("v2".into(), 0.3);
    let mut told = Vec::new();
    for _ in 0..240 {
        world.run(1);
        let report = &world.last.as_ref().unwrap().report;
        told.extend(
            report
                .transitions
                .iter()
                .map(|t| (t.reason.clone(), t.message.clone())),
        );
    }
    assert_eq!(
        (world.weight("v2"), world.state.stable.clone()),
        (100, Some("v2".into()))
    );
    told.dedup();
    let breached: Vec<_> = told
        .iter()
        .filter(|(reason, _)| reason == "WatchBreached")
        .collect();
    assert_eq!(breached.len(), 1, "{told:?}");
    assert!(breached[0].1.contains("revisionHistoryLimit"));
}

#[test]
fn a_new_revision_need_not_wait_for_the_watch() {
    let mut world = watched();
    world.update("v3");
    world.run(5);
    assert_eq!(world.state.watch, None);
    assert_eq!(world.state.attempt.as_ref().unwrap().revision, "v3".into());
}

#[test]
fn a_way_back_is_not_watched() {
    let mut world = watched();
    world.act("undo", Action::Undo);
    world.run(LONG);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!(world.state.watch, None);
}

#[test]
fn a_revision_before_that_cannot_start_leaves_users_where_they_are() {
    let mut world = watched();
    world.bad.insert("v2".into(), 0.3);
    world.sets.get_mut(&"v1".into()).unwrap().broken = Some(crate::observed::Trouble {
        kind: crate::observed::TroubleKind::BadContainer,
        message: "pod v1-x: no such command".into(),
        restarts: 0,
    });
    world.run(LONG);
    assert_eq!(
        (world.weight("v2"), world.state.stable.clone()),
        (100, Some("v2".into()))
    );
    assert_eq!(world.phase(), Phase::RolledBack, "{}", message(&world));
}

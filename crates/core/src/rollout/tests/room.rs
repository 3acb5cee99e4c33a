//! How many pods a rollout holds: `maxSurge`, `stableDuringCanary`, `minReadySeconds`, autoscalers and lost nodes.

use jiff::SignedDuration;

use super::world::{Set, World};
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::{Plan, Revision, Room, Surge};
use crate::state::{Outcome, Stage};
use crate::step::{CanaryScale, Step};

const LONG: u32 = 900;

fn given(room: Room) -> World {
    let mut world = World::with_stable();
    world.plan.room = room;
    world.update("v2");
    world
}

fn surge(pods: u32) -> Room {
    Room {
        max_surge: Some(Surge::Pods(pods)),
        stable_scales: false,
        connections: None,
    }
}

const SCALES: Room = Room {
    max_surge: None,
    stable_scales: true,
    connections: None,
};

fn wanted(world: &World, revision: &str) -> u32 {
    world
        .sets
        .get(&Revision::from(revision))
        .map_or(0, |set| set.wanted)
}

fn ready(world: &World) -> u32 {
    world.sets.values().map(|set| set.ready).sum()
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

/// Weight of the canary and pods of both, whenever one of them changed; every second is checked.
fn story(world: &mut World, seconds: u32, check: impl Fn(&World)) -> Vec<(u8, u32, u32)> {
    let mut story = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        check(world);
        let now = (world.weight("v2"), wanted(world, "v1"), wanted(world, "v2"));
        if story.last() != Some(&now) {
            story.push(now);
        }
    }
    story
}

fn at_pause(room: Room, weight: u8) -> World {
    let mut world = given(room);
    world.plan.steps = vec![Step::SetWeight(weight), Step::Pause {}];
    assert!(world.run_until(Phase::Paused, LONG), "{}", message(&world));
    world
}

#[test]
fn one_pod_more_is_enough_to_bring_a_good_revision_to_all_users() {
    let mut world = given(surge(1));
    let story = story(&mut world, LONG, |world| {
        let (stable, canary) = (wanted(world, "v1"), wanted(world, "v2"));
        assert!(stable + canary <= 5, "{stable} and {canary} pods");
        assert!(ready(world) >= 4, "only {} serve", ready(world));
    });
    assert_eq!(world.state.stable, Some("v2".into()), "{}", message(&world));
    let mut weights: Vec<u8> = story.iter().map(|(weight, ..)| *weight).collect();
    weights.dedup();
    assert_eq!(weights, [0, 10, 25, 50, 75, 100]);
    let last = story.iter().rev().find(|(_, stable, _)| *stable > 0).unwrap();
    assert_eq!(*last, (100, 1, 4), "what there is room for stays for the bake");
    assert!(world.state.strength.is_none());
}

#[test]
fn what_a_step_waits_for_is_said_with_the_bound() {
    let mut world = given(surge(1));
    world.plan.drain = SignedDuration::from_secs(60);
    let mut said = false;
    for _ in 0..LONG {
        world.run(1);
        said |= message(&world).contains("spec.maxSurge leaves room for 5 pods in all: stable has 4");
    }
    assert!(said);
    assert_eq!(world.state.stable, Some("v2".into()), "the wait ends");
}

#[test]
fn a_first_weight_that_needs_more_pods_than_there_is_room_for_is_reached_by_parts() {
    let mut world = given(surge(1));
    world.plan.steps = vec![Step::SetWeight(75), Step::Dwell(20)];
    let story = story(&mut world, LONG, |world| assert!(ready(world) >= 4));
    let mut weights: Vec<u8> = story.iter().map(|(weight, ..)| *weight).collect();
    weights.dedup();
    assert_eq!(weights, [0, 25, 50, 75, 100]);
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn harm_in_a_part_on_the_way_is_seen() {
    let mut world = given(surge(1));
    world.plan.steps = vec![Step::SetWeight(75), Step::Dwell(20)];
    world.plan.drain = SignedDuration::from_mins(2);
    world.bad.insert("v2".into(), 0.5);
    let story = story(&mut world, LONG, |_| ());
    assert!(story.iter().all(|(weight, ..)| *weight <= 25), "{story:?}");
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn with_little_room_the_way_back_goes_as_far_as_pods_carry_it_and_ends_at_stable() {
    let mut world = given(surge(1));
    world.plan.bake = SignedDuration::from_mins(10);
    for _ in 0..LONG {
        world.run(1);
        if world.weight("v2") == 100 && wanted(&world, "v1") == 1 {
            break;
        }
    }
    assert_eq!((world.weight("v2"), wanted(&world, "v1")), (100, 1));
    world.act("abort", Action::Abort);
    let story = story(&mut world, 120, |world| {
        if world.state.attempt.is_some() {
            assert!(wanted(world, "v1") + wanted(world, "v2") <= 5);
        }
        let (stable, weight) = (
            world.sets[&"v1".into()].ready,
            u32::from(100 - world.weight("v2")),
        );
        // A quarter more for the moment.
        assert!(stable * 125 >= weight * 4, "{stable} pods carry {weight} %");
    });
    assert!(story.len() > 3, "{story:?}");
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Aborted);
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (4, 0));
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::RolledBack));
}

#[test]
fn on_the_way_back_the_canary_keeps_the_pods_that_its_traffic_needs_however_late_others_end() {
    let mut world = given(surge(2));
    world.plan.replicas = 8;
    world.run(10);
    world.plan.bake = SignedDuration::from_mins(10);
    for _ in 0..LONG {
        world.run(1);
        if world.weight("v2") == 100 && wanted(&world, "v1") == 2 {
            break;
        }
    }
    assert_eq!((world.weight("v2"), wanted(&world, "v1")), (100, 2));
    world.linger = 5;
    world.act("abort", Action::Abort);
    let mut rounds = 0;
    for _ in 0..300 {
        let before = wanted(&world, "v2");
        world.run(1);
        if world.state.attempt.is_none() {
            break;
        }
        let needed = world.plan.carriers_of(world.weight("v2"));
        assert!(
            wanted(&world, "v2") >= needed,
            "{} of {needed}",
            wanted(&world, "v2")
        );
        rounds += u32::from(wanted(&world, "v2") < before);
    }
    assert!(rounds > 1, "{rounds}");
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Aborted);
}

#[test]
fn a_canary_gives_up_no_more_pods_than_it_is_asked_for_whatever_still_serves() {
    let mut world = at_pause(surge(1), 10);
    world.run(30);
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (4, 1));
    // It had more until just now, stable was scaled by somebody, and another revision's pods take the room.
    world.sets.get_mut(&"v2".into()).unwrap().ready = 5;
    scale(&mut world, 2);
    let other = Set {
        wanted: 3,
        service: true,
        ..Set::default()
    };
    world.sets.insert("v0".into(), other);
    world.turn(usize::MAX);
    assert_eq!(wanted(&world, "v2"), 1);
}

#[test]
fn a_retired_revision_makes_room_before_its_time() {
    let mut world = given(surge(1));
    world.plan.abort_scale_down_delay = SignedDuration::from_hours(1);
    world.run(20);
    assert_eq!(wanted(&world, "v2"), 1);
    world.update("v3");
    let mut since = None;
    for second in 0..LONG {
        world.run(1);
        let all: u32 = world.sets.values().map(|set| set.wanted).sum();
        assert!(all <= 5, "{all}");
        since = since.or((world.weight("v2") == 0).then_some(second));
        if wanted(&world, "v2") == 0 {
            assert!(
                since.is_some_and(|since| second >= since + 10),
                "it has to drain first"
            );
        }
    }
    assert_eq!(world.state.stable, Some("v3".into()), "{}", message(&world));
}

#[test]
fn a_retired_revision_keeps_its_time_where_nobody_needs_its_room() {
    let mut world = given(surge(2));
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    world.plan.abort_scale_down_delay = SignedDuration::from_hours(1);
    world.run(20);
    assert_eq!(wanted(&world, "v2"), 1);
    world.update("v3");
    assert!(world.run_until(Phase::Paused, LONG), "{}", message(&world));
    world.run(60);
    assert_eq!((wanted(&world, "v2"), wanted(&world, "v3")), (1, 1));
}

#[test]
fn connections_that_drain_longer_than_the_deadline_fail_no_rollout() {
    let mut world = given(surge(1));
    world.plan.drain = SignedDuration::from_secs(200);
    world.min_ready = 30;
    assert_eq!(world.plan.progress_deadline, SignedDuration::from_secs(180));
    world.run(4000);
    assert_eq!(world.state.stable, Some("v2".into()), "{}", message(&world));
}

#[test]
fn a_pod_that_does_not_end_is_named_as_what_takes_the_room() {
    let mut world = given(surge(1));
    world.sets.get_mut(&"v1".into()).unwrap().stuck = 1;
    world.run(20);
    assert_eq!(wanted(&world, "v2"), 0);
    assert!(message(&world).contains("and 1 that end"), "{}", message(&world));
    assert!(world.run_until(Phase::RolledBack, 300));
    assert!(message(&world).contains("and 1 that end"), "{}", message(&world));
}

#[test]
fn stable_that_scales_behind_a_users_route_stays_small_while_traffic_moves_home() {
    let mut world = World::with_users_route();
    world.plan.room = SCALES;
    world.update("v2");
    let (mut least, mut settled) = (4, false);
    for _ in 0..LONG {
        world.run(1);
        let Some(attempt) = &world.state.attempt else {
            if world.state.stable == Some("v2".into()) {
                break;
            }
            continue;
        };
        settled |= attempt.stage == Stage::Settling;
        let has = wanted(&world, "v1");
        assert!(has <= least, "{has} after {least} in {:?}", attempt.stage);
        least = has;
    }
    assert!(settled);
    assert_eq!((world.state.stable.clone(), least), (Some("v2".into()), 1));
}

#[test]
fn pods_that_do_not_serve_make_room_for_stable_at_once() {
    let mut world = at_pause(surge(1), 75);
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (2, 3));
    world.sets.get_mut(&"v2".into()).unwrap().ready = 0;
    world.turn(usize::MAX);
    world.turn(usize::MAX);
    assert_eq!(wanted(&world, "v1") + wanted(&world, "v2"), 5);
    assert!(wanted(&world, "v1") > 2, "{}", wanted(&world, "v1"));
}

#[test]
fn a_canary_scale_is_what_there_is_room_for() {
    let mut world = given(surge(2));
    world.plan.steps = vec![Step::SetCanaryScale(CanaryScale::Percent(100)), Step::Pause {}];
    assert!(world.run_until(Phase::Paused, 60), "{}", message(&world));
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (4, 2));
}

#[test]
fn a_superseded_revision_leaves_its_room_before_the_next_gets_it() {
    let mut world = given(surge(1));
    world.run(20);
    assert!(wanted(&world, "v2") > 0);
    world.update("v3");
    for _ in 0..60 {
        world.run(1);
        let all: u32 = world.sets.values().map(|set| set.wanted).sum();
        assert!(all <= 5, "{all}");
    }
    assert!(world.run_until(Phase::Healthy, LONG));
    assert_eq!(world.state.stable, Some("v3".into()));
}

#[test]
fn back_to_what_served_before_keeps_to_the_room_as_well() {
    let mut world = given(surge(1));
    assert!(world.run_until(Phase::Healthy, LONG));
    world.run(30);
    world.act("undo", Action::Undo);
    story(&mut world, 300, |world| {
        assert!(wanted(world, "v1") + wanted(world, "v2") <= 5);
        assert!(ready(world) >= 4);
    });
    assert_eq!(world.state.stable, Some("v1".into()), "{}", message(&world));
}

#[test]
fn stable_that_scales_has_what_its_traffic_needs_and_not_less_than_one() {
    let mut world = given(SCALES);
    world.plan.bake = SignedDuration::from_secs(60);
    let story = story(&mut world, LONG, |world| {
        assert!(ready(world) >= 4, "only {} serve", ready(world));
    });
    assert_eq!(world.state.stable, Some("v2".into()));
    let with_weight = |weight: u8| -> Vec<u32> {
        let at = story.iter().filter(|(w, ..)| *w == weight);
        let mut pods: Vec<u32> = at.map(|(_, stable, _)| *stable).collect();
        pods.dedup();
        pods
    };
    assert_eq!(with_weight(10), [4], "nine tenths need all of them");
    assert_eq!(with_weight(50), [4, 2]);
    assert_eq!(with_weight(100), [2, 1, 0], "gone after the bake only");
}

#[test]
fn pods_go_only_after_their_connections_had_time_to_drain() {
    let mut world = given(SCALES);
    world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
    world.plan.drain = SignedDuration::from_secs(60);
    world.deaf = false;
    let mut since = None;
    for second in 0..300 {
        world.run(1);
        if world.weight("v2") == 50 && world.acknowledged {
            since = since.or(Some(second));
        }
        if wanted(&world, "v1") < 4 {
            assert!(
                since.is_some_and(|since| second >= since + 59),
                "{since:?} {second}"
            );
            return;
        }
    }
    panic!("it never shrank");
}

#[test]
fn an_abort_brings_a_shrunken_stable_back_before_its_traffic() {
    let mut world = at_pause(SCALES, 50);
    world.run(30);
    assert_eq!(wanted(&world, "v1"), 2);
    world.act("abort", Action::Abort);
    world.run(1);
    assert_eq!(wanted(&world, "v1"), 4, "its pods start at once");
    assert!(world.weight("v2") > 0, "two pods can't carry everything");
    let story = story(&mut world, 60, |world| {
        let stable = world.sets[&"v1".into()].ready;
        assert!(stable * 125 >= u32::from(world.weight("v1")) * 4);
    });
    assert_eq!(world.weight("v1"), 100, "{story:?}");
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn stable_may_be_told_to_keep_its_pods_on_the_way() {
    let mut world = at_pause(SCALES, 50);
    world.run(30);
    assert_eq!(wanted(&world, "v1"), 2);
    world.plan.room = Room::default();
    world.run(10);
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (4, 2));
}

#[test]
fn the_strength_is_known_while_nothing_else_tells_of_it() {
    let mut world = at_pause(SCALES, 50);
    world.run(30);
    assert_eq!((wanted(&world, "v1"), world.state.strength), (2, Some(4)));
    world.act("abort", Action::Abort);
    world.run(60);
    assert_eq!((wanted(&world, "v1"), world.state.strength), (4, None));
}

#[test]
fn an_autoscaler_may_grow_and_shrink_the_service_at_any_step() {
    for room in [Room::default(), SCALES, surge(2)] {
        let mut world = at_pause(room, 50);
        world.run(30);
        world.plan.replicas = 8;
        world.run(60);
        let (stable, canary) = (wanted(&world, "v1"), wanted(&world, "v2"));
        assert_eq!((world.weight("v2"), canary), (50, 4), "{room:?}");
        let most = room.max_surge.map_or(12, |_| 10);
        assert!(stable >= 4 && stable + canary <= most, "{room:?}: {stable}");
        world.plan.replicas = 2;
        world.run(60);
        let kept = wanted(&world, "v1");
        if room == SCALES {
            assert_eq!(kept, 1, "it follows its traffic");
        } else {
            assert_eq!(kept, stable, "{room:?}: a decrease waits for the end");
        }
        world.act("go", Action::Promote);
        assert!(
            world.run_until(Phase::Healthy, LONG),
            "{room:?}: {}",
            message(&world)
        );
        world.run(30);
        assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (0, 2), "{room:?}");
    }
}

#[test]
fn a_pod_counts_once_it_has_been_ready_long_enough() {
    let mut world = World::with_stable();
    world.min_ready = 40;
    world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
    world.update("v2");
    world.run(30);
    assert_eq!((world.weight("v2"), world.sets[&"v2".into()].ready), (0, 2));
    assert!(
        message(&world)
            .contains("0 of 2 pods of revision v2 are ready, and 2 more not for spec.minReadySeconds yet"),
        "{}",
        message(&world)
    );
    assert!(world.run_until(Phase::Paused, 60));
    assert_eq!(world.weight("v2"), 50);
    // A pod that comes back serves at once: what it has had it keeps.
    world.sets.get_mut(&"v2".into()).unwrap().ready = 1;
    world.turn(usize::MAX);
    assert_eq!(world.weight("v2"), 25);
    world.run(3);
    assert_eq!(world.weight("v2"), 50);
}

#[test]
fn stable_serves_however_young_its_pods_are() {
    let mut world = World::with_stable();
    world.min_ready = 600;
    world.plan.progress_deadline = SignedDuration::from_secs(900);
    world.update("v2");
    world.run(20);
    world.sets.get_mut(&"v1".into()).unwrap().ready = 0;
    world.turn(usize::MAX);
    world.run(5);
    assert_eq!(world.weight("v1"), 100);
    assert_eq!(world.sets[&"v1".into()].ready, 4);
}

#[test]
fn a_lost_node_costs_no_rollback_and_stable_grows_for_what_went_with_it() {
    let mut world = at_pause(SCALES, 50);
    world.run(30);
    assert_eq!(wanted(&world, "v1"), 2);
    // One pod of each, and no crash is told of them.
    for name in ["v1", "v2"] {
        world.sets.get_mut(&Revision::from(name)).unwrap().ready -= 1;
    }
    world.turn(usize::MAX);
    assert!(wanted(&world, "v1") >= 3, "one of the canary's is missing");
    world.run(60);
    assert_eq!((world.weight("v2"), world.phase()), (50, Phase::Paused));
    assert_eq!((wanted(&world, "v1"), wanted(&world, "v2")), (2, 2));
    // All of the canary's: stable carries everything again as soon as it can.
    world.sets.get_mut(&"v2".into()).unwrap().ready = 0;
    world.turn(usize::MAX);
    assert_eq!((world.weight("v2"), wanted(&world, "v1")), (0, 4));
    world.run(90);
    assert_eq!((world.weight("v2"), world.phase()), (50, Phase::Paused));
}

/// Somebody else writes the number of pods of stable.
fn scale(world: &mut World, pods: u32) {
    let set = world.sets.get_mut(&"v1".into()).unwrap();
    set.wanted = pods;
    set.ready = set.ready.min(pods);
    set.scaled_by = Some("kube-controller-manager".into());
}

fn overwritten(world: &World) -> Option<String> {
    let conditions = &world.last.as_ref().unwrap().report.conditions;
    let applied = conditions.iter().find(|c| c.kind == "Applied").unwrap();
    (applied.reason == "ReplicasOverwritten").then(|| applied.message.clone())
}

#[test]
fn pods_that_somebody_else_takes_from_stable_are_back_within_a_second() {
    let mut world = World::with_stable();
    for _ in 0..20 {
        scale(&mut world, 1);
        world.run(2);
        assert_eq!(wanted(&world, "v1"), 4);
    }
    let told = overwritten(&world).expect("it is told who does it");
    assert!(
        told.contains("kube-controller-manager changed spec.replicas of the ReplicaSet of revision v1 less than 15 minutes ago")
            && told.contains("kind PythonService"),
        "{told}"
    );
    assert_eq!(world.weight("v1"), 100);
    world.run(20 * 60);
    assert_eq!((overwritten(&world), &world.state.scaler), (None, &None));
    assert_eq!(world.last.as_ref().unwrap().wake_at, None);
}

#[test]
fn pods_too_many_are_taken_back_less_and_less_often() {
    let mut world = World::with_stable();
    let mut writes = 0;
    for _ in 0..1800 {
        // It looks every second and wants seven.
        scale(&mut world, 7);
        world.run(1);
        writes += u32::from(wanted(&world, "v1") == 4);
    }
    assert!((3..=20).contains(&writes), "{writes} in half an hour");
    assert_eq!(world.weight("v1"), 100);
}

#[test]
fn the_part_that_pods_carry_is_what_they_are_given() {
    for replicas in 1..=100u32 {
        let plan = Plan {
            replicas,
            ..super::world::plan("v1")
        };
        for canary in 0..=replicas {
            let share = plan.weight_for(canary);
            let stable = plan.carriers_of(100 - share);
            assert!(stable + canary <= replicas, "{replicas}: {canary} and {stable}");
            assert!(
                u64::from(stable) * 100 + u64::from(replicas) > u64::from(100 - share) * u64::from(replicas)
            );
        }
    }
}

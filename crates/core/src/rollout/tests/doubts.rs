//! Harm that shows while the canary has all the traffic: an incident, or its own.

use jiff::SignedDuration;

use super::verdicts::{both_fail, message, reason, stepping, until_weight};
use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::{Room, Surge};
use crate::state::{Outcome, Stage};

/// A rollout of which the second revision bakes.
fn baking() -> World {
    baking_for(SignedDuration::from_mins(5))
}

fn baking_for(bake: SignedDuration) -> World {
    let mut world = stepping(0);
    world.plan.bake = bake;
    until_weight(&mut world, 100);
    world.run(60);
    assert!(matches!(
        world.state.attempt.as_ref().unwrap().stage,
        Stage::Baking { .. }
    ));
    world
}

fn told(world: &World, reason: &str) -> usize {
    let attempt = world.state.attempt.as_ref();
    attempt.map_or(0, |a| a.transitions.iter().filter(|t| t.reason == reason).count())
}

fn until_told(world: &mut World, reason: &str) {
    for _ in 0..120 {
        if told(world, reason) > 0 {
            return;
        }
        world.run(1);
    }
    panic!("{reason} was never told: {}", message(world));
}

/// In seconds.
fn two_blocks(world: &World) -> u32 {
    u32::try_from(world.plan.block.as_secs() * 2).expect("a block is short")
}

#[test]
fn an_incident_in_the_bake_is_compared_and_not_blamed_on_the_canary() {
    let mut world = baking();
    world.plan.progress_deadline = SignedDuration::from_mins(10);
    both_fail(&mut world, 0.2);
    world.run(60);
    assert_eq!(
        (world.weight("v1"), world.weight("v2")),
        (90, 10),
        "{:?}",
        world.last
    );
    assert_eq!(told(&world, "BakeInterrupted"), 1);
    world.run(120);
    assert_eq!(world.phase(), Phase::Progressing, "{}", message(&world));
    assert!(
        message(&world).contains("compared with stable again"),
        "{}",
        message(&world)
    );
    both_fail(&mut world, 0.0);
    until_weight(&mut world, 100);
    assert!(world.run_until(Phase::Healthy, 900), "{:?}", world.last);
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn a_fourth_incident_in_a_bake_convicts_nobody_and_leaves_its_users_on_stable() {
    let mut world = baking_for(SignedDuration::from_mins(30));
    world.plan.progress_deadline = SignedDuration::from_mins(10);
    for incident in 1..=4 {
        until_weight(&mut world, 100);
        world.run(300);
        both_fail(&mut world, 0.2);
        world.run(60);
        both_fail(&mut world, 0.0);
        if incident < 4 {
            assert_eq!(told(&world, "BakeInterrupted"), incident, "{}", message(&world));
        }
    }
    assert!(world.run_until(Phase::Paused, 300), "{}", message(&world));
    assert_eq!((world.weight("v1"), world.weight("v2")), (100, 0));
    assert!(
        message(&world).contains("under all traffic alone"),
        "{}",
        message(&world)
    );
    // Whoever has looked at it has the last word.
    world.act("word", Action::Promote);
    assert!(world.run_until(Phase::Healthy, 3600), "{}", message(&world));
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn what_the_comparison_acquits_is_promoted_with_little_room_as_well() {
    for (replicas, drain) in [(4, 10), (20, 30)] {
        let mut world = stepping(0);
        world.plan.replicas = replicas;
        world.plan.room = Room {
            max_surge: Some(Surge::Pods(1)),
            stable_scales: false,
            connections: None,
        };
        world.plan.drain = SignedDuration::from_secs(drain);
        world.plan.bake = SignedDuration::from_mins(30);
        for _ in 0..4000 {
            world.run(1);
            if world.weight("v2") == 100 {
                break;
            }
        }
        world.run(60);
        let stage = &world.state.attempt.as_ref().expect("it bakes").stage;
        assert!(matches!(stage, Stage::Baking { .. }), "{}", message(&world));
        assert_eq!(world.sets[&"v1".into()].wanted, 1);
        both_fail(&mut world, 0.2);
        until_told(&mut world, "BakeInterrupted");
        both_fail(&mut world, 0.0);
        let mut least = 100;
        for _ in 0..12_000 {
            world.run(1);
            least = least.min(world.weight("v2"));
            if world.state.attempt.is_none() {
                break;
            }
        }
        assert_eq!(least, 10, "{replicas}: {}", message(&world));
        assert_eq!(
            reason(&world).0,
            Outcome::Promoted,
            "{replicas}: {}",
            message(&world)
        );
    }
}

#[test]
fn harm_in_the_bake_is_shown_beside_stable_and_taken_back() {
    let mut world = baking();
    world.bad.insert("v2".into(), 0.2);
    until_told(&mut world, "BakeInterrupted");
    world.run(2);
    assert_eq!((world.weight("v1"), world.weight("v2")), (90, 10));
    assert!(world.run_until(Phase::RolledBack, 60), "{:?}", world.last);
    assert_eq!(reason(&world), (Outcome::RolledBack, "HarmShown".to_owned()));
    let text = world.state.last.unwrap().message;
    assert!(text.contains("in the same time"), "{text}");
}

#[test]
fn what_a_bake_made_suspect_is_given_back_no_faster_than_stable_can_carry_it() {
    let mut world = baking();
    world.bad.insert("v2".into(), 0.2);
    // The node of stable's other pods is gone, again and again.
    let turn = |world: &mut World| {
        world.sets.get_mut(&"v1".into()).unwrap().ready = 1;
        world.run(1);
    };
    for _ in 0..120 {
        if told(&world, "BakeInterrupted") > 0 {
            break;
        }
        turn(&mut world);
    }
    for _ in 0..4 {
        turn(&mut world);
        let kept = world.weight("v2");
        assert!(kept > 10 && kept < 100, "{kept}: {}", message(&world));
    }
}

#[test]
fn a_canary_that_leaves_half_unanswered_under_full_load_is_compared_and_does_not_get_on() {
    let mut world = baking();
    world.plan.bake = SignedDuration::from_mins(5);
    world.plan.progress_deadline = SignedDuration::from_mins(5);
    world.answers.insert("v2".into(), 0.5);
    until_told(&mut world, "BakeInterrupted");
    world.run(2);
    assert_eq!((world.weight("v1"), world.weight("v2")), (90, 10));
    assert!(world.run_until(Phase::Paused, 1800), "{}", message(&world));
    assert_eq!(world.weight("v2"), 0);
}

#[test]
fn callers_that_become_fewer_cost_a_comparison_and_convict_nobody() {
    let mut world = baking();
    world.rps *= 0.4;
    until_told(&mut world, "BakeInterrupted");
    assert!(world.run_until(Phase::Healthy, 1800), "{}", message(&world));
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn a_canary_that_falls_silent_under_all_traffic_has_a_tenth_of_it_after_one_block() {
    let mut world = baking();
    world.answers.insert("v2".into(), 0.0);
    // The rest of the block that it begins in, and a whole one.
    let began = world.now;
    until_told(&mut world, "BakeInterrupted");
    let took = world.now.duration_since(began).as_secs();
    assert!(took <= two_blocks(&world).into(), "{took} s");
    world.run(5);
    assert_eq!((world.weight("v1"), world.weight("v2")), (90, 10));
    assert!(world.run_until(Phase::RolledBack, 120), "{}", message(&world));
    assert_eq!(reason(&world).1, "MissingResponses");
}

#[test]
fn callers_that_pause_for_a_block_cost_a_comparison_and_convict_nobody() {
    let mut world = baking();
    let usual = std::mem::replace(&mut world.rps, 0.0);
    let blocks = two_blocks(&world);
    world.run(blocks);
    world.rps = usual;
    assert!(world.run_until(Phase::Healthy, 1800), "{}", message(&world));
    assert_eq!(reason(&world).0, Outcome::Promoted);
}

#[test]
fn an_outage_as_the_bake_begins_is_compared_and_convicted_however_much_it_has_spent() {
    let mut world = baking();
    world.rps = 1000.0;
    world.run(5);
    world.bad.insert("v2".into(), 1.0);
    assert!(world.run_until(Phase::RolledBack, 300), "{}", message(&world));
    assert_eq!(reason(&world).0, Outcome::RolledBack);
}

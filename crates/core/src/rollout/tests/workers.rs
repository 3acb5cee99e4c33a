//! Workers: pods take their work themselves, so a revision's part is its part of the pods.

use super::world::{World, plan};
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::RouteMode;
use crate::state::{Outcome, Stage};
use crate::step::Step;

fn given() -> World {
    let mut world = World::new(plan("v1"));
    world.plan.route = RouteMode::Workers;
    assert!(world.run_until(Phase::Healthy, 90), "{:?}", world.last);
    world
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn ready(world: &World, revision: &str) -> u32 {
    world.sets.get(&revision.into()).map_or(0, |set| set.ready)
}

fn wanted(world: &World, revision: &str) -> u32 {
    world.sets.get(&revision.into()).map_or(0, |set| set.wanted)
}

/// The pods that work, stable's and the canary's, whenever one of them changed. Never do fewer than all of them.
fn pods(world: &mut World, seconds: u32) -> Vec<(u32, u32)> {
    let mut pods = Vec::new();
    for _ in 0..seconds {
        world.run(1);
        let now = (ready(world, "v1"), ready(world, "v2"));
        assert!(
            now.0 + now.1 >= world.plan.replicas,
            "{now:?}: {}",
            message(world)
        );
        if pods.last() != Some(&now) {
            pods.push(now);
        }
    }
    pods
}

#[test]
fn a_good_revision_gets_all_the_work_and_nobody_is_pointed_at_it() {
    let mut world = given();
    world.update("v2");
    let pods = pods(&mut world, 600);
    assert_eq!(
        (world.phase(), world.state.stable.clone()),
        (Phase::Healthy, Some("v2".into())),
        "{}",
        message(&world)
    );
    // 10 and 50 % of four pods beside stable's, then all of them: then stable's go, and not before.
    assert_eq!(pods, [(4, 0), (4, 1), (4, 2), (4, 3), (4, 4), (0, 4)]);
    assert!(world.selected.is_empty() && world.weight_writes == 0 && !world.shared);
}

#[test]
fn nothing_is_said_of_users_and_routes_for_it_has_neither() {
    let mut world = World::new(plan("v1"));
    world.plan.route = RouteMode::Workers;
    let mut told = Vec::new();
    let mut watch = |world: &mut World, seconds: u32| {
        for _ in 0..seconds {
            world.run(1);
            told.push(message(world));
        }
    };
    watch(&mut world, 90);
    assert_eq!(message(&world), "revision v1 has all tasks with 4 pods");
    world.update("v2");
    watch(&mut world, 600);
    world.update("v3");
    watch(&mut world, 20);
    world.act("stop", Action::Abort);
    watch(&mut world, 60);
    world.plan.replicas = 0;
    watch(&mut world, 20);
    let last = world.state.last.as_ref().unwrap();
    told.extend(last.transitions.iter().map(|t| t.message.clone()));
    told.push(last.message.clone());
    let wrong: Vec<_> = told
        .iter()
        .filter(|text| {
            ["users", "route", "nobody is served", " serves"]
                .iter()
                .any(|word| text.contains(word))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn stable_has_no_pods_while_the_canary_bakes_and_gets_them_back_if_that_is_bad() {
    let mut world = given();
    world.update("v2");
    let bakes = |w: &World| {
        let attempt = w.state.attempt.as_ref();
        attempt.is_some_and(|a| matches!(a.stage, Stage::Baking { .. }))
    };
    for _ in 0..600 {
        world.run(1);
        if bakes(&world) {
            break;
        }
    }
    world.run(2);
    assert!(bakes(&world) && wanted(&world, "v1") == 0, "{}", message(&world));
    assert!(
        message(&world).contains("the old revision without pods"),
        "{}",
        message(&world)
    );
    world.plan.bake = jiff::SignedDuration::from_secs(120);
    world.bad.insert("v2".into(), 0.5);
    pods(&mut world, 120);
    assert_eq!(world.phase(), Phase::RolledBack, "{}", message(&world));
    assert_eq!((ready(&world, "v1"), ready(&world, "v2")), (4, 0));
}

#[test]
fn a_bad_revision_stops_at_once_where_stable_has_all_its_pods() {
    let mut world = given();
    world.bad.insert("v2".into(), 0.3);
    world.update("v2");
    assert_eq!(pods(&mut world, 300), [(4, 0), (4, 1), (4, 0)]);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.state.last.as_ref().unwrap().reason, "HarmShown");
}

#[test]
fn no_worker_starts_that_nobody_could_watch() {
    let mut world = given();
    world.blind = true;
    world.update("v2");
    for _ in 0..170 {
        world.run(1);
        assert_eq!(wanted(&world, "v2"), 0, "{}", message(&world));
    }
    assert!(
        message(&world).contains("Prometheus is unreachable"),
        "{}",
        message(&world)
    );
    world.run(60);
    assert_eq!(world.phase(), Phase::Paused, "{}", message(&world));
    world.blind = false;
    world.act("promote", Action::Promote);
    assert!(world.run_until(Phase::Healthy, 600), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn metrics_that_go_in_the_middle_promote_nothing_and_take_the_work_back() {
    let mut world = given();
    world.update("v2");
    for _ in 0..300 {
        world.run(1);
        if ready(&world, "v2") == 2 {
            break;
        }
    }
    assert_eq!(ready(&world, "v2"), 2);
    world.blind = true;
    pods(&mut world, 600);
    assert_eq!(world.phase(), Phase::Paused, "{}", message(&world));
    assert_eq!((ready(&world, "v1"), ready(&world, "v2")), (4, 0));
    assert_eq!(world.state.stable, Some("v1".into()));
}

#[test]
fn long_tasks_are_no_silence() {
    // Nothing is counted of the canary for minutes, for its tasks are not done: neither for nor against it.
    let mut world = given();
    world.plan.steps = vec![Step::SetWeight(20), Step::Dwell(20)];
    world.answers.insert("v2".into(), 0.0);
    world.update("v2");
    for _ in 0..150 {
        world.run(1);
        assert_ne!(world.phase(), Phase::RollingBack, "{}", message(&world));
    }
    assert_eq!(ready(&world, "v2"), 1, "{}", message(&world));
    world.answers.clear();
    assert!(world.run_until(Phase::Healthy, 900), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn an_abort_at_full_weight_stops_workers_only_as_others_come() {
    let mut world = given();
    world.plan.bake = jiff::SignedDuration::from_secs(300);
    world.update("v2");
    for _ in 0..600 {
        world.run(1);
        if (ready(&world, "v1"), ready(&world, "v2")) == (0, 4) {
            break;
        }
    }
    assert_eq!(ready(&world, "v2"), 4);
    world.act("abort", Action::Abort);
    let pods = pods(&mut world, 60);
    assert_eq!(pods.last(), Some(&(4, 0)), "{pods:?}");
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Aborted);
}

#[test]
fn the_strength_is_known_while_stable_has_no_pods() {
    let mut world = given();
    world.unsaid_replicas = true;
    world.update("v2");
    pods(&mut world, 600);
    assert_eq!(
        (ready(&world, "v1"), ready(&world, "v2")),
        (0, 4),
        "{}",
        message(&world)
    );
    assert_eq!(world.state.strength, None);
}

#[test]
fn workers_of_a_third_revision_are_gone_before_the_next_ones_begin() {
    let mut world = given();
    world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.update("v3");
    for _ in 0..120 {
        world.run(1);
        assert!(ready(&world, "v2") == 0 || ready(&world, "v3") == 0);
    }
    assert!(ready(&world, "v3") > 0, "{}", message(&world));
}

#[test]
fn at_rest_nothing_is_written() {
    let mut world = given();
    world.update("v2");
    pods(&mut world, 600);
    let decision = world.turn(usize::MAX);
    assert!(decision.effects.is_empty(), "{:?}", decision.effects);
}

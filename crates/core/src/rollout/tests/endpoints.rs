//! What a weight relies on: pods that the router has had the time to learn of.

use jiff::SignedDuration;

use super::world::{World, plan};
use crate::decision::Phase;
use crate::plan::{Revision, RouteMode};
use crate::rollout::endpoints::SETTLE;
use crate::state::State;
use crate::step::Step;

/// Seconds from the first ready pod of `v2` to its first weight, with what was told in between.
fn first_weight(world: &mut World) -> (i64, Vec<String>) {
    world.update("v2");
    let (mut since, mut told) = (None, Vec::new());
    for _ in 0..60 {
        world.run(1);
        if since.is_none() && world.endpoints(&Revision::from("v2")) > 0 {
            since = Some(world.now);
        }
        if world.weight("v2") > 0 || world.canary_weight() > 0 {
            break;
        }
        told.push(world.last.as_ref().unwrap().report.message.clone());
    }
    (world.now.duration_since(since.unwrap()).as_secs(), told)
}

#[test]
fn a_first_weight_begins_when_the_router_has_had_the_time_to_learn_of_the_pod() {
    let (waited, told) = first_weight(&mut World::with_stable());
    assert_eq!(waited, SETTLE.as_secs());
    let why = "1 of 1 pods of revision v2 are ready, and the router has 2 s to learn of 1 of them";
    assert!(told.last().unwrap().contains(why), "{told:?}");
}

#[test]
fn behind_a_users_route_the_time_begins_when_its_name_leads_there() {
    let (waited, told) = first_weight(&mut World::with_users_route());
    assert!(
        waited >= SETTLE.as_secs() && waited <= SETTLE.as_secs() + 2,
        "{waited}"
    );
    let why = "1 of 1 pods of revision v2 are ready, and 1 of them no endpoints of the canary's Service yet";
    assert!(told.iter().any(|text| text.contains(why)), "{told:?}");
}

#[test]
fn the_time_is_asked_for_by_itself_and_outlasts_a_restart() {
    let mut world = World::with_stable();
    world.update("v2");
    while world.endpoints(&Revision::from("v2")) == 0 {
        world.run(1);
    }
    let coming = world.state.attempt.as_ref().unwrap().endpoints.unwrap().coming;
    let since = coming.expect("it has just come").since;
    assert_eq!(world.last.as_ref().unwrap().wake_at, Some(since + SETTLE));
    let text = serde_json::to_string(&world.state).unwrap();
    world.state = serde_json::from_str::<State>(&text).unwrap();
    world.run(2);
    assert_eq!(world.weight("v2"), 10);
}

#[test]
fn pods_that_came_in_a_dwell_are_not_waited_for_again() {
    let mut world = World::with_stable();
    world.plan.replicas = 20;
    world.plan.steps = vec![Step::SetWeight(10), Step::Dwell(60), Step::SetWeight(50)];
    world.run(60);
    world.update("v2");
    let (mut ten, mut fifty) = (None, None);
    for _ in 0..200 {
        world.run(1);
        ten = ten.or((world.weight("v2") == 10).then_some(world.now));
        fifty = fifty.or((world.weight("v2") == 50).then_some(world.now));
    }
    let dwelt = fifty.unwrap().duration_since(ten.unwrap());
    assert!(dwelt <= SignedDuration::from_secs(62), "{dwelt}");
}

#[test]
fn pods_that_come_one_after_the_other_do_not_hold_up_those_before_them() {
    let mut world = World::new(plan("v1"));
    world.plan.replicas = 40;
    world.plan.steps = vec![Step::SetWeight(5), Step::Pause {}];
    assert!(world.run_until(Phase::Healthy, 120));
    // Forty pods, one in each second, of which two are needed.
    world.plan.steps = vec![
        Step::SetCanaryScale(crate::step::CanaryScale::Replicas(2)),
        Step::SetWeight(5),
        Step::Pause {},
    ];
    let (waited, told) = first_weight(&mut world);
    assert!(waited <= 2 * SETTLE.as_secs() + 1, "{waited}: {told:?}");
}

#[test]
fn the_way_back_waits_for_nothing() {
    for route in [RouteMode::Owned, RouteMode::Adopted] {
        let mut world = match route {
            RouteMode::Adopted => World::with_users_route(),
            _ => World::with_stable(),
        };
        world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
        world.update("v2");
        assert!(world.run_until(Phase::Paused, 120));
        world.act("abort", crate::observed::Action::Abort);
        world.turn(usize::MAX);
        assert_eq!((world.weight("v2"), world.canary_weight()), (0, 0), "{route:?}");
    }
}

#[test]
fn a_revision_whose_pods_are_still_there_gets_all_users_at_once() {
    let mut world = World::with_stable();
    world.plan.scale_down_delay = SignedDuration::from_mins(10);
    world.update("v2");
    assert!(world.run_until(Phase::Progressing, 5));
    assert!(world.run_until(Phase::Healthy, 300));
    world.update("v1");
    world.turn(usize::MAX);
    assert_eq!(world.weight("v1"), 100);
}

#[test]
fn a_pod_that_was_gone_for_a_moment_is_new_to_the_router() {
    let mut world = World::with_stable();
    world.plan.steps = vec![Step::SetWeight(10), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.sets.get_mut(&Revision::from("v2")).unwrap().ready = 0;
    world.turn(usize::MAX);
    assert_eq!(world.weight("v2"), 0);
    world.run(2);
    assert_eq!(world.weight("v2"), 0, "it is back for a second");
    world.run(2);
    assert_eq!(world.weight("v2"), 10);
}

#[test]
fn an_attempt_that_an_older_version_began_keeps_its_weight() {
    let mut world = World::with_stable();
    world.plan.steps = vec![Step::SetWeight(50), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.state.attempt.as_mut().unwrap().endpoints = None;
    for _ in 0..5 {
        world.run(1);
        assert_eq!(world.weight("v2"), 50);
    }
}

#[test]
fn a_clock_that_goes_back_keeps_nobody_waiting_for_it() {
    let mut world = World::with_stable();
    world.plan.steps = vec![Step::SetWeight(10), Step::Pause {}];
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 120));
    world.sets.get_mut(&Revision::from("v2")).unwrap().ready = 0;
    world.turn(usize::MAX);
    world.run(1);
    world.set_clock(-1);
    world.run(3);
    assert_eq!(world.weight("v2"), 10);
}

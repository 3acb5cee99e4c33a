//! New pods for stable, one after the other.

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::Revision;
use crate::state::Outcome;

fn stable(world: &World) -> &super::world::Set {
    &world.sets[&Revision::from("v1")]
}

fn told(world: &mut World, seconds: u32, reason: &str) -> Option<String> {
    (0..seconds).find_map(|_| {
        world.run(1);
        let transitions = &world.last.as_ref().unwrap().report.transitions;
        let found = transitions.iter().find(|t| t.reason == reason);
        found.map(|t| t.message.clone())
    })
}

#[test]
fn each_pod_is_replaced_and_never_fewer_serve_than_are_wanted() {
    let mut world = World::with_stable();
    let before: Vec<String> = stable(&world)
        .births
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    world.act("again", Action::Restart);
    let mut done = None;
    for _ in 0..120 {
        world.live(1);
        let decision = world.turn(usize::MAX);
        assert!(stable(&world).ready >= 4, "{:?}", stable(&world));
        assert!(stable(&world).wanted <= 5);
        let transitions = decision.report.transitions;
        done = done.or(transitions.into_iter().find(|t| t.reason == "RestartDone"));
    }
    let done = done.expect("it ends").message;
    assert!(done.contains("of the 4") && done.contains("by oncall"), "{done}");
    assert_eq!(world.evicted, before, "the oldest first, each once");
    assert_eq!((stable(&world).wanted, world.phase()), (4, Phase::Healthy));
    assert!(world.state.restart.is_none());
    assert_eq!(world.last.as_ref().unwrap().wake_at, None);
}

#[test]
fn a_pod_that_came_within_the_second_of_the_restart_is_known_by_whether_it_was_there() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    let since = world.actions[0].created_at.unwrap();
    let v1 = Revision::from("v1");
    let mut before = Vec::new();
    for (name, birth) in &mut world.sets.get_mut(&v1).unwrap().births {
        *birth = since;
        before.push(name.clone());
    }
    for _ in 0..120 {
        world.live(1);
        for (_, birth) in &mut world.sets.get_mut(&v1).unwrap().births {
            *birth = since;
        }
        world.turn(usize::MAX);
    }
    assert_eq!(world.evicted, before, "and none that the restart brought");
    assert!(world.state.restart.is_none());
}

#[test]
fn a_service_whose_replicas_nobody_says_is_as_strong_after_a_restart_as_before() {
    let mut world = World::with_stable();
    world.unsaid_replicas = true;
    let before = stable(&world).births.clone();
    world.act("again", Action::Restart);
    for _ in 0..120 {
        world.run(1);
        assert!(stable(&world).wanted <= 5, "{:?}", stable(&world));
        assert!(stable(&world).ready >= 4, "{:?}", stable(&world));
    }
    assert_eq!(world.evicted.len(), before.len(), "{:?}", world.last);
    assert_eq!((stable(&world).wanted, world.phase()), (4, Phase::Healthy));
    assert_eq!((&world.state.restart, world.state.strength), (&None, None));

    // Nor when it does not come to its end, or a rollout ends it.
    world.guarded = true;
    world.act("once more", Action::Restart);
    told(&mut world, 200, "RestartStopped").expect("a budget forbids it");
    world.run(10);
    assert_eq!((stable(&world).wanted, world.state.strength), (4, None));
    world.act("and again", Action::Restart);
    world.run(10);
    world.update("v2");
    for _ in 0..900 {
        world.run(1);
        assert!(stable(&world).wanted <= 5);
    }
    assert_eq!(world.state.stable, Some("v2".into()));
    assert_eq!(world.sets[&Revision::from("v2")].wanted, 4);
    assert_eq!((stable(&world).wanted, world.state.strength), (0, None));
}

#[test]
fn another_number_in_the_middle_of_a_restart_counts_and_stays() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    world.run(2);
    world.plan.replicas = 6;
    world.run(1);
    // And is left out again.
    world.unsaid_replicas = true;
    assert!(world.state.restart.is_some());
    told(&mut world, 120, "RestartDone").expect("it ends");
    world.run(10);
    assert_eq!((stable(&world).wanted, world.state.strength), (6, None));
}

#[test]
fn it_is_told_where_a_restart_is_and_whose_it_is() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    told(&mut world, 1, "RestartedByPerson").expect("an event tells of it");
    world.run(3);
    let report = &world.last.as_ref().unwrap().report;
    assert_eq!(report.phase, Phase::Progressing);
    assert!(
        report.message.contains("restarted by oncall: ") && report.message.contains(" of 4 pods"),
        "{}",
        report.message
    );
}

#[test]
fn a_disruption_budget_is_waited_for_until_the_deadline() {
    let mut world = World::with_stable();
    world.guarded = true;
    world.act("again", Action::Restart);
    world.run(30);
    assert!(world.evicted.is_empty());
    let decision = world.last.as_ref().unwrap();
    assert!(
        decision.report.message.contains("a disruption budget forbids it"),
        "{}",
        decision.report.message
    );
    assert!(decision.wake_at.is_some(), "it is asked for again");
    let why = told(&mut world, 200, "RestartStopped").expect("it does not wait for ever");
    assert!(why.contains("0 of 4") && why.contains("forbids it"), "{why}");
    world.run(5);
    assert_eq!((stable(&world).wanted, world.phase()), (4, Phase::Healthy));
}

#[test]
fn a_pod_that_serves_nobody_goes_first() {
    let mut world = World::with_stable();
    let last = stable(&world).births[3].0.clone();
    // Nor is one more waited for: it takes nothing from anybody.
    world.sets.get_mut(&"v1".into()).unwrap().ready = 3;
    world.act("again", Action::Restart);
    world.turn(usize::MAX);
    assert_eq!(world.evicted, [last]);
}

#[test]
fn new_pods_that_do_not_get_ready_stop_it_with_all_that_served() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    for _ in 0..181 {
        world.live(1);
        // The fifth never gets ready.
        let set = world.sets.get_mut(&"v1".into()).unwrap();
        set.ready = set.ready.min(4);
        world.turn(usize::MAX);
    }
    assert!(world.evicted.is_empty());
    assert!(world.state.restart.is_none(), "it ended at its deadline");
    world.run(5);
    assert_eq!((stable(&world).wanted, stable(&world).ready), (4, 4));
}

#[test]
fn it_is_refused_while_an_attempt_is_under_way_and_ends_when_one_begins() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    world.run(2);
    assert!(world.state.restart.is_some());
    world.update("v2");
    let why = told(&mut world, 2, "RestartStopped").expect("the rollout replaces all pods");
    assert!(why.contains("attempt 1 at revision v2 begins"), "{why}");
    let evicted = world.evicted.clone();
    world.act("once more", Action::Restart);
    world.run(10);
    assert_eq!(world.ended_actions.last(), Some(&("once more".to_owned(), false)));
    assert_eq!(world.evicted, evicted);
    world.run(900);
    assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Promoted);
}

#[test]
fn what_is_scaled_down_or_altered_meanwhile_ends_it() {
    let mut world = World::with_stable();
    world.plan.replicas = 0;
    world.run(60);
    world.act("none", Action::Restart);
    world.run(1);
    assert_eq!(world.ended_actions.last(), Some(&("none".to_owned(), false)));

    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    world.run(3);
    world.plan.replicas = 0;
    told(&mut world, 60, "RestartDone").expect("no pod is left");
    assert_eq!(stable(&world).wanted, 0);

    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    world.run(3);
    world.sets.get_mut(&"v1".into()).unwrap().altered = true;
    let why = told(&mut world, 2, "RestartStopped").unwrap();
    assert!(why.contains("changed the pod template"), "{why}");
}

#[test]
fn a_restart_leaves_a_refused_revision_refused() {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(10);
    world.act("abort", Action::Abort);
    assert!(world.run_until(Phase::RolledBack, 60));
    world.act("again", Action::Restart);
    world.run(3);
    let report = &world.last.as_ref().unwrap().report;
    assert_eq!(report.phase, Phase::RolledBack);
    assert!(
        report.message.contains("restarted by oncall"),
        "{}",
        report.message
    );
    told(&mut world, 120, "RestartDone").expect("it ends");
    world.run(60);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert_eq!(world.state.refused, Some("v2".into()));
}

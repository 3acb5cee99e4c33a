//! Services that are released together.

use std::collections::BTreeMap;

use super::world::{World, plan};
use crate::decision::Phase;
use crate::group::{Fault, Group, Peer};
use crate::observed::{Action, ActionView};
use crate::plan::RouteMode;
use crate::state::Outcome;
use crate::step::{HeaderMatch, HeaderValue};

/// Long enough for any rollout here.
const LONG: u32 = 900;

/// Some services of one group, each in a world of its own; they see one another as their statuses have it.
struct Town {
    worlds: BTreeMap<&'static str, World>,
}

impl Town {
    /// Each with its wave, and `v1` stable.
    fn new(services: &[(&'static str, u32)]) -> Self {
        let world = |wave: u32| {
            let mut world = World::with_stable();
            world.plan.group = Some(Group {
                name: "shop".into(),
                wave,
                header: None,
                headless: None,
            });
            world
        };
        let worlds = services
            .iter()
            .map(|(name, wave)| (*name, world(*wave)))
            .collect();
        let mut town = Self { worlds };
        town.run(10);
        assert!(town.are("v1", Phase::Healthy));
        town
    }

    fn peers_of(&self, name: &str) -> Vec<Peer> {
        let others = self.worlds.iter().filter(|(other, _)| **other != name);
        others.map(|(name, world)| peer(name, world)).collect()
    }

    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            let names: Vec<&str> = self.worlds.keys().copied().collect();
            for name in names {
                let peers = self.peers_of(name);
                let world = self.get(name);
                world.peers = peers;
                world.run(1);
            }
        }
    }

    fn run_until(&mut self, what: &str, seconds: u32, is: impl Fn(&Self) -> bool) {
        for _ in 0..seconds {
            if is(self) {
                return;
            }
            self.run(1);
        }
        let told: Vec<String> = self
            .worlds
            .keys()
            .map(|n| format!("{n}: {}", self.message(n)))
            .collect();
        panic!("never {what}: {told:?}");
    }

    fn get(&mut self, name: &str) -> &mut World {
        self.worlds.get_mut(name).unwrap()
    }

    fn world(&self, name: &str) -> &World {
        &self.worlds[name]
    }

    fn message(&self, name: &str) -> String {
        self.world(name).last.as_ref().unwrap().report.message.clone()
    }

    fn is_moving(&self, name: &str) -> bool {
        self.world(name).state.attempt.is_some()
    }

    fn is(&self, name: &str, revision: &str, phase: Phase) -> bool {
        let world = self.world(name);
        world.state.stable == Some(revision.into()) && world.phase() == phase
    }

    fn are(&self, revision: &str, phase: Phase) -> bool {
        self.worlds.keys().all(|name| self.is(name, revision, phase))
    }

    fn update(&mut self, names: &[&str], revision: &str) {
        for name in names {
            self.get(name).update(revision);
        }
    }

    /// A person's words, answered within a second.
    fn act(&mut self, name: &str, uid: &str, action: Action) -> bool {
        self.get(name).act(uid, action);
        self.run(1);
        self.world(name).ended_actions.contains(&(uid.into(), true))
    }

    fn happened(&self, name: &str, reason: &str) -> bool {
        let state = &self.world(name).state;
        let of_attempt = state.attempt.iter().flat_map(|a| &a.transitions);
        let of_last = state.last.iter().flat_map(|l| &l.transitions);
        of_attempt.chain(of_last).any(|t| t.reason == reason)
    }
}

/// A service as its status shows it.
fn peer(name: &str, world: &World) -> Peer {
    let state = &world.state;
    let pinned = state.pinned.as_ref().map(|pin| pin.instead_of.clone());
    let group = state.group.as_ref();
    let told = world.last.as_ref().map(|d| d.report.phase);
    Peer {
        name: name.into(),
        wave: world.plan.group.as_ref().map_or(0, |g| g.wave),
        phase: told,
        current: true,
        attempt: state.attempt.is_some(),
        since: group.and_then(|g| g.since),
        out: state.refused.clone().or(pinned),
        deleting: world.plan.deleting,
        fault: group.and_then(|g| g.fault.clone()),
        back: group.and_then(|g| g.waits.as_ref()).is_some_and(|wait| wait.back),
    }
}

/// A service of wave 1, one of wave 0 before it, and the second revision of the former is asked for.
fn waiting(change: impl FnOnce(&mut Peer)) -> World {
    let mut world = World::with_stable();
    world.plan.group = Some(Group {
        name: "shop".into(),
        wave: 1,
        header: None,
        headless: None,
    });
    let mut other = Peer {
        name: "api".into(),
        wave: 0,
        phase: Some(Phase::Healthy),
        current: true,
        attempt: false,
        out: None,
        since: None,
        deleting: false,
        fault: None,
        back: false,
    };
    change(&mut other);
    world.peers = vec![other];
    world.update("v2");
    world.run(10);
    world
}

fn message(world: &World) -> &str {
    &world.last.as_ref().unwrap().report.message
}

fn condition(world: &World, kind: &str) -> (bool, String) {
    let conditions = &world.last.as_ref().unwrap().report.conditions;
    let condition = conditions.iter().find(|c| c.kind == kind).unwrap();
    (condition.status, condition.reason.clone())
}

#[test]
fn waves_follow_one_another() {
    let mut town = Town::new(&[("api", 0), ("cart", 0), ("web", 1)]);
    town.update(&["api", "cart", "web"], "v2");
    town.run_until("wave 0 begins", 20, |t| t.is_moving("api") && t.is_moving("cart"));
    let mut waited = false;
    town.run_until("all are at v2", 3 * LONG, |t| {
        let before = ["api", "cart"].iter().all(|n| t.is(n, "v2", Phase::Healthy));
        assert!(!t.is_moving("web") || before, "{}", t.message("api"));
        t.are("v2", Phase::Healthy)
    });
    let last = town.world("web").state.last.clone().unwrap();
    let began = &last.transitions[0];
    waited |= began.message.contains("for its group, for ");
    assert!(waited, "the record says what it waited for: {}", began.message);
    // The release is over, and nothing of it is left.
    town.run(10);
    assert!(town.worlds.values().all(|w| w.state.group.is_none()));
}

/// Workers in wave 0, and those who give them tasks in wave 1.
fn with_workers() -> Town {
    let mut town = Town::new(&[("tasks", 0), ("web", 1)]);
    let mut workers = World::new(plan("v1"));
    workers.plan.route = RouteMode::Workers;
    workers.plan.group.clone_from(&town.world("tasks").plan.group);
    assert!(workers.run_until(Phase::Healthy, 90));
    town.worlds.insert("tasks", workers);
    town.run(10);
    town
}

/// The same, both at `v2`.
fn with_workers_at_v2() -> Town {
    let mut town = with_workers();
    town.update(&["tasks", "web"], "v2");
    town.run_until("all are at v2", 3 * LONG, |t| {
        let known = t.is("tasks", "v2", Phase::Healthy);
        assert!(
            !t.is_moving("web") || known,
            "a new task would meet an old worker"
        );
        t.are("v2", Phase::Healthy)
    });
    town.run(10);
    town
}

#[test]
fn workers_move_first_on_the_way_forward_and_last_on_the_way_back() {
    let mut town = with_workers_at_v2();
    town.update(&["tasks", "web"], "v1");
    let mut waited = false;
    town.run_until("all are at v1", 3 * LONG, |t| {
        let home = t.is("web", "v1", Phase::Healthy);
        assert!(
            !t.is_moving("tasks") || home,
            "an old worker would meet a new task"
        );
        t.are("v1", Phase::Healthy)
    });
    let last = town.world("tasks").state.last.clone().unwrap();
    waited |= last.transitions[0].message.contains("for web at last");
    assert!(waited, "{}", last.transitions[0].message);
}

#[test]
fn workers_that_go_back_alone_wait_for_nobody() {
    let mut town = with_workers_at_v2();
    town.update(&["tasks"], "v1");
    town.run_until("they move", 20, |t| t.is_moving("tasks"));
    town.run_until("they are at v1", LONG, |t| t.is("tasks", "v1", Phase::Healthy));
    assert!(town.is("web", "v2", Phase::Healthy));
}

#[test]
fn a_bad_revision_of_those_who_give_tasks_takes_the_workers_back_after_it() {
    let mut town = with_workers();
    town.get("web").bad.insert("v2".into(), 0.3);
    town.update(&["tasks", "web"], "v2");
    town.run_until("web was taken back", 3 * LONG, |t| t.happened("web", "HarmShown"));
    town.run_until("the workers were taken back", LONG, |t| {
        assert!(
            !t.is_moving("tasks") || !t.is_moving("web"),
            "{}",
            t.message("tasks")
        );
        t.is("tasks", "v1", Phase::RolledBack)
    });
}

#[test]
fn a_change_that_comes_a_moment_later_is_of_the_same_release() {
    let mut town = Town::new(&[("api", 0), ("web", 1)]);
    town.update(&["web"], "v2");
    town.run(3);
    town.update(&["api"], "v2");
    town.run_until("wave 0 begins", 20, |t| t.is_moving("api"));
    town.run(5);
    assert!(!town.is_moving("web"));
    let (phase, message) = (town.world("web").phase(), town.message("web"));
    assert_eq!(phase, Phase::Progressing, "{message}");
    assert!(
        message.contains("waits for its group shop: api (wave 0): "),
        "{message}"
    );
    assert_eq!(
        condition(town.world("web"), "GroupReady"),
        (false, "WaitingForGroup".into())
    );
    assert_eq!(
        condition(town.world("web"), "Reconciling"),
        (true, "WaitingForGroup".into())
    );
}

#[test]
fn one_that_waits_for_hours_does_not_run_into_a_deadline() {
    let mut world = waiting(|p| {
        p.attempt = true;
        p.phase = Some(Phase::Progressing);
    });
    world.run(6 * 3600);
    assert!(world.state.attempt.is_none() && world.state.refused.is_none());
    let rest = world.last.clone().unwrap();
    assert_eq!((rest.effects, rest.wake_at), (vec![], None), "nothing is polled");
    world.peers[0].attempt = false;
    world.peers[0].phase = Some(Phase::Healthy);
    assert!(world.run_until(Phase::Healthy, LONG));
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn each_way_of_standing_in_the_way_has_a_message() {
    type Case = (fn(&mut Peer), Phase, &'static str);
    let cases: [Case; 7] = [
        (|p| p.current = false, Phase::Progressing, "has just been changed"),
        (|p| p.phase = None, Phase::Progressing, "no status yet"),
        (
            |p| p.phase = Some(Phase::Paused),
            Phase::Paused,
            "it is Paused, see `kubectl molt status api`",
        ),
        (
            |p| p.phase = Some(Phase::Degraded),
            Phase::Paused,
            "it is Degraded",
        ),
        (
            |p| p.out = Some("v7".into()),
            Phase::Paused,
            "its revision v7 was taken back: give it another one, or `kubectl molt retry api`",
        ),
        (
            |p| {
                p.attempt = true;
                p.phase = Some(Phase::Paused);
            },
            Phase::Paused,
            "waits for a person",
        ),
        (
            |p| p.phase = Some(Phase::Initializing),
            Phase::Progressing,
            "it is Initializing",
        ),
    ];
    for (change, phase, text) in cases {
        let world = waiting(change);
        assert!(world.state.attempt.is_none(), "{text}");
        assert_eq!(world.phase(), phase, "{}", message(&world));
        assert!(message(&world).contains(text), "{}", message(&world));
    }
    // Neither keeps anybody waiting.
    for change in [|p: &mut Peer| p.wave = 1, |p: &mut Peer| p.deleting = true] {
        let world = waiting(|p| {
            p.phase = Some(Phase::Degraded);
            change(p);
        });
        assert!(world.state.attempt.is_some(), "{}", message(&world));
    }
}

#[test]
fn a_person_can_have_it_start_all_the_same() {
    let mut world = waiting(|p| p.phase = Some(Phase::Degraded));
    let action = ActionView {
        uid: "o".into(),
        name: "o".into(),
        action: Action::Override,
        revision: Some("v9".into()),
        attempt: None,
        step: None,
        to_revision: None,
        gate: None,
        reason: "INC-12".into(),
        requested_by: "ada".into(),
        created_at: None,
    };
    world.actions.push(action.clone());
    world.run(1);
    assert_eq!(
        world.ended_actions,
        vec![("o".into(), false)],
        "of another revision"
    );
    world.actions.push(ActionView {
        uid: "p".into(),
        name: "p".into(),
        revision: Some("v2".into()),
        ..action
    });
    world.run(1);
    assert_eq!(world.ended_actions[1], ("p".into(), true));
    let attempt = world.state.attempt.as_ref().unwrap();
    assert!(
        attempt.transitions[0]
            .message
            .contains("overridden by ada: INC-12")
    );
    assert!(world.run_until(Phase::Healthy, LONG));
    assert_eq!(world.state.stable, Some("v2".into()));
}

#[test]
fn one_abort_aborts_the_group() {
    let mut town = Town::new(&[("api", 0), ("cart", 0)]);
    town.update(&["api", "cart"], "v2");
    town.run_until("users meet both", 60, |t| {
        ["api", "cart"].iter().all(|n| t.world(n).weight("v2") > 0)
    });
    assert!(town.act("cart", "a", Action::Abort));
    town.run(LONG);
    assert!(town.are("v1", Phase::RolledBack), "{}", town.message("api"));
    let last = town.world("api").state.last.clone().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::Aborted, "GroupAborted")
    );
    assert!(
        last.message
            .contains("cart of its group did not take revision v2 (AbortedByPerson)"),
        "{}",
        last.message
    );
    assert_eq!(
        condition(town.world("api"), "Stalled"),
        (true, "GroupAborted".into())
    );
    // It stays refused, and what was aborted for the sake of another aborts nobody in turn.
    assert!(town.act("cart", "r1", Action::Retry) && town.act("api", "r2", Action::Retry));
    town.run(LONG);
    assert!(town.are("v2", Phase::Healthy), "{}", town.message("api"));
}

#[test]
fn a_later_wave_that_fails_takes_the_earlier_ones_back() {
    let mut town = Town::new(&[("api", 0), ("web", 1)]);
    town.get("api").plan.rollback_window = 2;
    town.get("web").bad.insert("v2".into(), 0.5);
    town.update(&["api", "web"], "v2");
    town.run_until("wave 0 is done", LONG, |t| t.is("api", "v2", Phase::Healthy));
    town.run_until("all are back", LONG, |t| t.are("v1", Phase::RolledBack));
    let message = town.message("api");
    assert!(
        message.contains("revision v2 was taken back: web of its group did not take revision v2 (HarmShown)"),
        "{message}"
    );
    assert!(
        town.happened("api", "RollbackStarted"),
        "it goes straight, by what served before"
    );
    assert_eq!(
        condition(town.world("api"), "GroupReady"),
        (false, "GroupAborted".into())
    );
    assert_eq!(
        condition(town.world("api"), "Stalled"),
        (true, "GroupAborted".into())
    );
    town.run(3600);
    assert!(town.are("v1", Phase::RolledBack), "and stays there");

    // The next wave's correction waits for the first one, which is tried again by all its steps.
    town.update(&["web"], "v3");
    town.run(60);
    let message = town.message("web");
    assert!(
        message.contains("api (wave 0): its revision v2 was taken back"),
        "{message}"
    );
    assert!(town.act("api", "r", Action::Retry));
    town.run_until("it is tried", 60, |t| t.is_moving("api"));
    let attempt = town.world("api").state.attempt.clone().unwrap();
    assert!(attempt.transitions.iter().all(|t| t.reason != "RollbackStarted"));
    town.run_until("all are done", 3 * LONG, |t| {
        t.is("api", "v2", Phase::Healthy) && t.is("web", "v3", Phase::Healthy)
    });
}

#[test]
fn later_waves_go_back_first() {
    let mut town = Town::new(&[("api", 0), ("shop", 1), ("web", 2)]);
    town.get("web").bad.insert("v2".into(), 0.5);
    town.update(&["api", "shop", "web"], "v2");
    town.run_until("it fails", 4 * LONG, |t| {
        t.world("web").state.refused.is_some() || t.world("web").phase() == Phase::RollingBack
    });
    town.run_until("all are back", LONG, |t| {
        let first = t.world("shop").state.stable == Some("v1".into());
        assert!(
            first || t.world("api").weight("v1") == 0,
            "api goes back before shop"
        );
        t.are("v1", Phase::RolledBack)
    });
}

#[test]
fn what_is_over_is_left_alone() {
    let mut town = Town::new(&[("api", 0), ("web", 1)]);
    town.update(&["api", "web"], "v2");
    town.run_until("both are done", 3 * LONG, |t| t.are("v2", Phase::Healthy));
    town.run(5);
    // A release of one alone, and its failure, is no matter of the others.
    town.get("web").bad.insert("v3".into(), 0.5);
    town.update(&["web"], "v3");
    town.run_until("it fails", LONG, |t| t.is("web", "v2", Phase::RolledBack));
    town.run(600);
    assert!(town.is("api", "v2", Phase::Healthy), "{}", town.message("api"));
    // Nor is one that was refused long ago in the way of those before it.
    town.update(&["api"], "v4");
    town.run_until("it is done", LONG, |t| t.is("api", "v4", Phase::Healthy));
    town.run(5);
    assert_eq!(town.world("api").state.group, None);
}

#[test]
fn without_the_revision_before_it_stays_and_says_so() {
    let mut town = Town::new(&[("api", 0), ("web", 1)]);
    town.update(&["api", "web"], "v2");
    town.run_until("wave 1 begins", LONG, |t| t.world("web").weight("v2") > 0);
    town.get("api").sets.get_mut(&"v1".into()).unwrap().altered = true;
    assert!(town.act("web", "a", Action::Abort));
    town.run(120);
    assert!(town.is("api", "v2", Phase::Healthy), "{}", town.message("api"));
    let message = town.message("api");
    assert!(
        message.contains(
            "revision v2 stays all the same: revision v1, which was stable before, is no longer there"
        ),
        "{message}"
    );
    assert_eq!(
        condition(town.world("api"), "GroupReady"),
        (false, "GroupLeftBehind".into())
    );
}

#[test]
fn one_that_waits_is_not_started_into_a_release_that_was_aborted() {
    let mut town = Town::new(&[("api", 0), ("cart", 0)]);
    town.update(&["api"], "v2");
    town.run(4);
    town.update(&["cart"], "v2");
    town.run(4);
    assert!(town.is_moving("api") && !town.is_moving("cart"));
    assert!(town.act("api", "a", Action::Abort));
    town.run(120);
    assert!(!town.is_moving("cart"));
    let message = town.message("cart");
    assert!(
        message.contains("api (wave 0): its revision v2 was taken back (AbortedByPerson)"),
        "{message}"
    );
    town.update(&["api"], "v3");
    town.run_until("both are done", 2 * LONG, |t| {
        t.is("api", "v3", Phase::Healthy) && t.is("cart", "v2", Phase::Healthy)
    });
}

#[test]
fn ways_back_wait_for_nobody_and_are_taken_back_by_nobody() {
    let mut town = Town::new(&[("api", 0), ("web", 1)]);
    town.update(&["api", "web"], "v2");
    town.run_until("both are done", 3 * LONG, |t| t.are("v2", Phase::Healthy));
    town.run(5);
    town.update(&["api"], "v3");
    town.run_until("users meet it", 60, |t| t.world("api").weight("v3") > 0);
    // In the middle of it, somebody goes back with the last wave.
    assert!(town.act("web", "u", Action::Undo));
    town.run(1);
    assert!(town.is_moving("web") && town.happened("web", "RollbackStarted"));
    assert!(town.act("api", "a", Action::Abort));
    town.run_until("it is back", LONG, |t| t.is("web", "v1", Phase::Healthy));
}

#[test]
fn what_was_decided_before_a_crash_is_decided_after_it() {
    // Whatever a peer shows at the moment: its fault is remembered by itself, and by the time that it came.
    let fault = |world: &World, ahead: i64| Fault {
        at: world.now + jiff::SignedDuration::from_secs(ahead),
        revision: "v9".into(),
        attempt: 1,
        reason: "HarmShown".into(),
    };
    let mut world = waiting(|_| ());
    assert!(world.state.attempt.is_some());
    let state = serde_json::to_string(&world.state).unwrap();
    world.state = serde_json::from_str(&state).unwrap();
    world.peers[0].fault = Some(fault(&world, -60));
    world.run(5);
    assert!(
        world.phase() == Phase::Progressing,
        "an old one is no matter: {}",
        message(&world)
    );
    world.peers[0].fault = Some(fault(&world, 0));
    world.run(60);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn a_service_of_no_group_remembers_none() {
    let mut world = waiting(|p| p.phase = Some(Phase::Degraded));
    world.plan.group = None;
    world.run(5);
    assert!(world.state.attempt.is_some() && world.state.group.is_none());
}

#[test]
fn canaries_of_a_group_meet_and_so_do_stables() {
    let header = |value: &str| {
        vec![HeaderMatch {
            header: "x-group".into(),
            value: HeaderValue::Exact(value.into()),
        }]
    };
    let mut world = waiting(|_| ());
    world.plan.group.as_mut().unwrap().header = Some("x-group".into());
    world.update("v3");
    for _ in 0..LONG {
        world.run(1);
        let weight = world.weight("v3");
        let Some(preview) = &world.preview else {
            assert!(
                !(1..100).contains(&weight) || !world.acknowledged,
                "at {weight} %"
            );
            continue;
        };
        assert!((1..100).contains(&weight), "at {weight} %");
        assert_eq!(
            (&preview.revision, &preview.headers),
            (&"v3".into(), &vec![header("canary")])
        );
        let kept = preview.kept.as_ref().unwrap();
        assert_eq!((&kept.revision, &kept.headers), (&"v1".into(), &header("stable")));
    }
    assert_eq!(
        (world.state.stable.clone(), world.phase()),
        (Some("v3".into()), Phase::Healthy)
    );

    // A stable that gives up pods as traffic leaves it can't keep what comes beside the weights.
    world.plan.room.stable_scales = true;
    world.update("v4");
    assert!((0..LONG).any(|_| {
        world.run(1);
        world.preview.is_some()
    }));
    assert_eq!(world.preview.as_ref().unwrap().kept, None);
    world.act("a", Action::Abort);
    world.run(1);
    assert_eq!(world.preview, None);
}

#[test]
fn one_of_a_later_wave_that_has_not_looked_yet_is_waited_for() {
    let mut world = World::with_stable();
    world.plan.group = Some(Group {
        name: "shop".into(),
        wave: 0,
        header: None,
        headless: None,
    });
    let other = |name: &str, wave| Peer {
        name: name.into(),
        wave,
        phase: Some(Phase::Progressing),
        current: true,
        attempt: false,
        since: None,
        out: None,
        deleting: false,
        fault: None,
        back: false,
    };
    world.peers = vec![other("shop", 1), other("web", 2)];
    world.update("v2");
    for _ in 0..LONG {
        world.run(1);
        if world.state.stable == Some("v2".into()) {
            break;
        }
    }
    // Both were promoted, and the last one has failed; nobody but this one has seen it yet.
    world.peers[0].phase = Some(Phase::Healthy);
    world.peers[0].since = Some(world.now - jiff::SignedDuration::from_secs(60));
    world.peers[1].fault = Some(Fault {
        at: world.now,
        revision: "v2".into(),
        attempt: 1,
        reason: "HarmShown".into(),
    });
    world.run(30);
    assert!(world.state.attempt.is_none());
    assert_eq!(world.phase(), Phase::RollingBack);
    assert!(
        message(&world).contains("shop (wave 1) goes before it"),
        "{}",
        message(&world)
    );
    world.peers[0].since = None;
    world.run(60);
    assert_eq!(world.state.stable, Some("v1".into()));
}

//! Guards of the runtime: what they take back, what they only tell, and what says nothing.

use jiff::{SignedDuration, Timestamp};

use super::world::World;
use crate::analysis::{Counts, Sample};
use crate::decision::Phase;
use crate::guard::{
    GuardKind, GuardMode, GuardPlan, GuardRule, GuardState, PodRuntime, Raised, RouteCounts, RuntimeBlock,
};
use crate::observed::{Action, BlockCounts};
use crate::plan::Step;
use crate::state::{Outcome, State};

const MIB: f64 = 1_048_576.0;
const ALL: [GuardRule; 10] = [
    GuardRule::Restarts,
    GuardRule::ClientErrors { max_ratio: 2.0 },
    GuardRule::MemoryGrowth {
        max_per_hour: 64.0 * MIB,
    },
    GuardRule::EventLoopLag { p99: 0.2 },
    GuardRule::CpuPerRequest { max_ratio: 1.5 },
    GuardRule::OpenFiles { max_ratio: 2.0 },
    GuardRule::GcPauses { max_share: 0.05 },
    GuardRule::Saturation { max_share: 0.9 },
    GuardRule::WorkerTimeouts,
    GuardRule::Exceptions,
];

/// A rollout that stays at 10 % for 20 minutes, with blocks of 30 s.
fn given(mode: GuardMode, runtime: fn(Timestamp, Timestamp) -> RuntimeBlock) -> World {
    let mut world = World::with_stable();
    world.plan.block = SignedDuration::from_secs(30);
    world.plan.steps = vec![Step::SetWeight(25), Step::Dwell(1200)];
    world.plan.guards = ALL.map(|rule| GuardPlan { rule, mode }).to_vec();
    world.runtime = Some(runtime);
    world.update("v2");
    world
}

fn pod(name: &str, end: Timestamp, per_second: f64) -> PodRuntime {
    let memory = (0..16).map(|i| {
        let at = end.checked_sub(SignedDuration::from_secs(i * 15)).unwrap();
        Sample {
            at,
            value: 1e8 + per_second * at.as_second() as f64,
        }
    });
    PodRuntime {
        pod: name.to_owned(),
        since: Timestamp::UNIX_EPOCH,
        memory: memory.collect(),
        files: Vec::new(),
        cpu: Some(3.0),
        lag: Counts::new(30.0, 0.0),
        gc: Some(0.3),
        busy: vec![0.3; 2],
        timeouts: Some(0.0),
    }
}

fn healthy(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let counts = |total, bad| Counts::new(total, bad).unwrap();
    RuntimeBlock {
        canary: vec![pod("c", end, 0.0)],
        stable: vec![pod("s", end, 0.0), pod("t", end, 0.0)],
        client_errors: Some(BlockCounts {
            canary: counts(300.0, 6.0),
            stable: counts(900.0, 18.0),
            ..BlockCounts::default()
        }),
        ..RuntimeBlock::silent(start, end)
    }
}

fn leaking(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary = vec![pod("c", end, 1e7 / 60.0)];
    block
}

fn never_closing(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.stable[0].files = pod("s", end, 0.0).memory;
    for sample in &mut block.stable[0].files {
        sample.value = 30.0;
    }
    block.canary[0].files = pod("c", end, 1.0).memory;
    for sample in &mut block.canary[0].files {
        // One a second.
        sample.value = 1000.0 + (sample.value - 1e8) % 100_000.0;
    }
    block
}

fn blocked(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary[0].lag = Counts::new(20.0, 5.0);
    block
}

fn stricter(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    if let Some(counts) = &mut block.client_errors {
        counts.canary = Counts::new(300.0, 40.0).unwrap();
    }
    block
}

fn hungry(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary[0].cpu = Some(9.0);
    block
}

fn collecting(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary[0].gc = Some(3.0);
    block
}

fn full(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary[0].busy = vec![1.0; 2];
    block
}

fn hanging(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    block.canary[0].timeouts = Some(2.0);
    block
}

fn raising(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    let raised = |kind: &str, canary, stable, is_known| Raised {
        kind: kind.to_owned(),
        canary,
        stable,
        is_known,
    };
    block.exceptions = vec![
        raised("TimeoutError", 4.0, 0.0, true),
        raised("KeyError", 4.0, 0.0, false),
    ];
    block
}

fn stricter_on_a_route(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    let mut block = healthy(start, end);
    let counts = |total, bad| Counts::new(total, bad).unwrap();
    block.routes = vec![RouteCounts {
        route: "/pay".to_owned(),
        canary: counts(30.0, 15.0),
        stable: counts(90.0, 1.0),
    }];
    block
}

fn silent(start: Timestamp, end: Timestamp) -> RuntimeBlock {
    RuntimeBlock::silent(start, end)
}

fn until_users(world: &mut World) -> Timestamp {
    for _ in 0..300 {
        if world.weight("v2") > 0 {
            return world.now;
        }
        world.run(1);
    }
    panic!("no users: {:?}", world.last.as_ref().map(|d| &d.report.message));
}

fn entry(state: &State, kind: GuardKind) -> &GuardState {
    let guards = match (&state.attempt, &state.last) {
        (Some(attempt), _) => &attempt.guards,
        (None, Some(last)) => &last.guards,
        _ => panic!("no attempt"),
    };
    guards.iter().find(|g| g.guard == kind).expect("it is judged")
}

#[test]
fn each_takes_the_canary_back_in_time_by_a_reason_of_its_own_and_with_numbers() {
    type Case = (
        fn(Timestamp, Timestamp) -> RuntimeBlock,
        &'static str,
        &'static [&'static str],
        i64,
    );
    let cases: [Case; 10] = [
        (
            never_closing,
            "GuardOpenFiles",
            &["one of stable's 30", "2 times stable's, and 24"],
            480,
        ),
        (
            leaking,
            "GuardMemoryGrowth",
            &["572.2 MiB an hour", "0.0 MiB an hour", "64.0 MiB an hour more"],
            480,
        ),
        (
            blocked,
            "GuardEventLoopLag",
            &["25.0 % late", "0.0 % late", "within 200ms"],
            120,
        ),
        (
            stricter,
            "GuardClientErrors",
            &["13.33 %", "2.00 %", "2 times stable's share"],
            240,
        ),
        (
            hungry,
            "GuardCpuPerRequest",
            &["ms a request", "1.5 times stable's time"],
            300,
        ),
        (
            collecting,
            "GuardGcPauses",
            &["10.0 % of the time", "1.0 % of the time", "5 % of the time"],
            180,
        ),
        (
            full,
            "GuardSaturation",
            &["full in 100 % of samples", "full in 0 % of samples", "90 % busy"],
            300,
        ),
        (
            hanging,
            "GuardWorkerTimeouts",
            &["ended 2 workers", "0 of stable's"],
            480,
        ),
        (
            stricter_on_a_route,
            "GuardClientErrors",
            &["requests of /pay", "2 times stable's share"],
            900,
        ),
        (raising, "GuardExceptions", &["raises KeyError"], 660),
    ];
    for (runtime, reason, parts, within) in cases {
        let mut world = given(GuardMode::Rollback, runtime);
        let began = until_users(&mut world);
        assert!(world.run_until(Phase::RolledBack, 1200), "{reason}");
        let last = world.state.last.as_ref().unwrap();
        assert_eq!(
            (last.outcome, last.reason.as_str()),
            (Outcome::RolledBack, reason),
            "{}",
            last.message
        );
        for part in parts {
            assert!(last.message.contains(part), "{part}: {}", last.message);
        }
        let took = last.ended_at.duration_since(began).as_secs();
        assert!(took <= within, "{reason}: {took} s");
        let fired: Vec<&GuardState> = last.guards.iter().filter(|g| g.fired.is_some()).collect();
        assert!(fired.len() == 1 && fired[0].evidence.is_none(), "{fired:?}");
    }
}

#[test]
fn what_only_warns_tells_it_once_and_the_rollout_goes_on() {
    let mut world = given(GuardMode::Warn, blocked);
    assert!(world.run_until(Phase::Healthy, 3000));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Promoted, "{}", last.message);
    let warned: Vec<_> = last
        .transitions
        .iter()
        .filter(|t| t.reason == "GuardWarned")
        .collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].message.starts_with("eventLoopLag: "),
        "{}",
        warned[0].message
    );
    assert!(entry(&world.state, GuardKind::EventLoopLag).fired.is_some());
}

#[test]
fn a_healthy_canary_and_one_that_tells_nothing_are_promoted() {
    for (runtime, has_data) in [(healthy as fn(_, _) -> _, true), (silent, false)] {
        let mut world = given(GuardMode::Rollback, runtime);
        until_users(&mut world);
        world.run(300);
        let lag = entry(&world.state, GuardKind::EventLoopLag);
        assert_eq!(lag.no_data.is_none(), has_data, "{lag:?}");
        assert!(world.run_until(Phase::Healthy, 3000));
        assert_eq!(world.state.last.as_ref().unwrap().outcome, Outcome::Promoted);
    }
}

#[test]
fn a_guard_that_is_off_is_neither_looked_at_nor_shown() {
    let mut world = given(GuardMode::Rollback, blocked);
    world
        .plan
        .guards
        .retain(|g| g.rule.kind() != GuardKind::EventLoopLag);
    assert!(world.run_until(Phase::Healthy, 3000));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Promoted);
    assert!(last.guards.iter().all(|g| g.guard != GuardKind::EventLoopLag));
}

#[test]
fn what_another_bound_has_shown_is_forgotten() {
    let mut world = given(GuardMode::Warn, blocked);
    until_users(&mut world);
    world.run(200);
    assert!(entry(&world.state, GuardKind::EventLoopLag).fired.is_some());
    for guard in &mut world.plan.guards {
        if let GuardRule::EventLoopLag { p99 } = &mut guard.rule {
            *p99 = 0.5;
        }
    }
    world.run(1);
    let lag = entry(&world.state, GuardKind::EventLoopLag);
    assert!(lag.fired.is_none() && lag.bound.contains("500ms"), "{lag:?}");
}

#[test]
fn kills_for_want_of_memory_in_two_pods_take_it_back_and_not_if_stable_has_them_too() {
    for (beside, expected) in [(0, Outcome::RolledBack), (3, Outcome::Promoted)] {
        let mut world = given(GuardMode::Rollback, silent);
        until_users(&mut world);
        world.run(30);
        let now = world.now;
        let set = world.sets.get_mut(&"v2".into()).unwrap();
        set.kills = vec![now, now];
        let stable = world.sets.get_mut(&"v1".into()).unwrap();
        stable.kills = vec![now; beside * 8];
        world.run_until(Phase::RolledBack, 60);
        world.run_until(Phase::Healthy, 3000);
        let last = world.state.last.as_ref().unwrap();
        assert_eq!(last.outcome, expected, "{}", last.message);
        if expected == Outcome::RolledBack {
            assert_eq!(last.reason, "GuardRestarts");
            assert!(
                last.message.contains("killed for want of memory 2 times"),
                "{}",
                last.message
            );
        }
    }
}

#[test]
fn readiness_that_comes_and_goes_takes_it_back() {
    let mut world = given(GuardMode::Rollback, silent);
    until_users(&mut world);
    for _ in 0..15 {
        world.run(5);
        let now = world.now;
        world.sets.get_mut(&"v2".into()).unwrap().unready_since = vec![now];
    }
    assert!(world.run_until(Phase::RolledBack, 60));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.reason, "GuardRestarts");
    assert!(last.message.contains("no longer ready"), "{}", last.message);
}

#[test]
fn guards_let_no_step_wait_and_a_hold_is_not_judged() {
    let mut world = given(GuardMode::Rollback, blocked);
    world.plan.steps = vec![Step::SetWeight(25), Step::Pause {}];
    until_users(&mut world);
    world.act("a1", Action::Abort);
    world.run(60);
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(
        last.outcome,
        Outcome::Aborted,
        "a person was first: {}",
        last.message
    );
}

#[test]
fn a_restart_at_any_moment_changes_nothing() {
    for runtime in [
        leaking, blocked, stricter, hungry, collecting, full, hanging, raising,
    ] {
        let plain = {
            let mut world = given(GuardMode::Rollback, runtime);
            world.run_until(Phase::RolledBack, 1200);
            world.state.last.clone().unwrap()
        };
        let mut world = given(GuardMode::Rollback, runtime);
        for _ in 0..1200 {
            if world
                .state
                .last
                .as_ref()
                .is_some_and(|l| l.revision == "v2".into())
            {
                break;
            }
            world.run(1);
            let text = serde_json::to_string(&world.state).unwrap();
            world.state = serde_json::from_str(&text).unwrap();
        }
        let restarted = world.state.last.clone().unwrap();
        assert_eq!(
            (plain.reason, plain.ended_at),
            (restarted.reason, restarted.ended_at)
        );
        assert_eq!(plain.message, restarted.message);
    }
}

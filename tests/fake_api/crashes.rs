//! A crash before and after every write changes nothing about the outcome (invariant 7).

use std::time::Duration;

use molt_sim_api::{Fault, Sim};
use serde_json::{Value, json};

use super::config::{has_both_snapshots, put_map, runs_with, with_maps};
use super::stage::{
    act, apply, apply_service, empty, end_state, has_canary, has_stepped, is_healthy, is_restarted, live,
    promote, seen, service, settle, settle_for, settle_to,
};

/// Runs as many lives at the same time: they mostly wait.
const AT_ONCE: usize = 8;

pub fn sweep(prepared: fn() -> Sim, until: fn(&Sim) -> bool) {
    let whole = prepared();
    settle_for(&whole, Duration::from_secs(5), until);
    let expected = end_state(&whole);
    let writes = whole.with_log(|log| log.iter().filter(|l| l.call.is_write()).count());
    assert!(writes > 5, "only {writes} writes");
    let places: Vec<(usize, bool)> = (0..writes).flat_map(|w| [(w, false), (w, true)]).collect();
    for some in places.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for &(write, took_effect) in some {
                let expected = &expected;
                scope.spawn(move || crash_at(&prepared(), write as u64, took_effect, expected));
            }
        });
    }
}

/// Runs a change to its end, dying at one write on the way.
fn crash_at(sim: &Sim, write: u64, took_effect: bool, expected: &[(String, Value)]) {
    sim.plan(move |call, ordinal| {
        (call.is_write() && ordinal.write == write).then_some(Fault::Crash { took_effect })
    });
    settle_to(sim, expected);
    sim.restart();
    settle_to(sim, expected);
    let state = end_state(sim);
    let whose = format!("after a crash at write {write}, took effect: {took_effect}");
    for (is, wanted) in state.iter().zip(expected) {
        assert_eq!(is, wanted, "{whose}");
    }
    assert_eq!(state.len(), expected.len(), "{whose}");
    sim.with_log(|log| {
        let mut created: Vec<&str> = log
            .iter()
            .filter(|l| l.code == Some(201) && !l.call.path.contains("/events"))
            // One that is asked for twice ends the same pod.
            .filter(|l| !l.call.path.ends_with("/eviction"))
            .filter_map(|l| {
                l.call.body["metadata"]["name"]
                    .as_str()
                    .map(|_| l.call.path.as_str())
            })
            .collect();
        // Records and snapshots are posted to their list: a second one of the same name would have been refused.
        created.retain(|path| !path.ends_with("/rolloutrecords") && !path.ends_with("/configmaps"));
        created.sort_unstable();
        assert!(
            created.windows(2).all(|pair| pair[0] != pair[1]),
            "{whose}: {created:#?}"
        );
    });
}

#[test]
fn a_first_deployment_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = empty();
            apply_service(&sim, "checkout:1");
            sim
        },
        is_healthy,
    );
}

#[test]
fn a_canary_step_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = empty();
            apply_service(&sim, "checkout:1");
            settle(&sim, is_healthy);
            apply_service(&sim, "checkout:2");
            live(&sim, has_canary);
            promote(&sim);
            sim.take_log();
            sim
        },
        has_stepped,
    );
}

/// With the canary at a half, each revision has one of the two pods.
fn made_room(sim: &Sim) -> bool {
    let sets = sim.with(|s| {
        s.objects("replicasets.apps")
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    });
    let told = seen(sim)["status"]["stable"]["replicas"] == 1;
    has_stepped(sim) && told && sets.len() == 2 && sets.iter().all(|set| set["spec"]["replicas"] == 1)
}

#[test]
fn a_stable_that_makes_room_survives_a_crash_at_any_write() {
    sweep(
        || {
            let with_room = |image: &str| {
                let mut service = service(image);
                service["spec"]["minReadySeconds"] = json!(0);
                service["spec"]["maxSurge"] = json!(1);
                service["spec"]["strategy"]["canary"]["stableDuringCanary"] = json!("Scale");
                service
            };
            let sim = empty();
            apply(&sim, with_room("checkout:1"));
            settle(&sim, is_healthy);
            apply(&sim, with_room("checkout:2"));
            live(&sim, has_canary);
            promote(&sim);
            sim.take_log();
            sim
        },
        made_room,
    );
}

#[test]
fn a_first_deployment_with_config_maps_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = empty();
            put_map(&sim, "env", "1");
            put_map(&sim, "files", "1");
            apply(&sim, with_maps("checkout:1"));
            sim
        },
        |sim| is_healthy(sim) && has_both_snapshots(sim),
    );
}

#[test]
fn a_changed_config_map_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = empty();
            put_map(&sim, "env", "1");
            put_map(&sim, "files", "1");
            apply(&sim, with_maps("checkout:1"));
            settle(&sim, is_healthy);
            put_map(&sim, "env", "2");
            sim.take_log();
            sim
        },
        |sim| has_canary(sim) && runs_with(sim, "2"),
    );
}

#[test]
fn a_restart_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = empty();
            apply_service(&sim, "checkout:1");
            settle(&sim, is_healthy);
            // Ages are told in whole seconds.
            std::thread::sleep(Duration::from_millis(1100));
            act(&sim, "restart", "Restart");
            sim.take_log();
            sim
        },
        is_restarted,
    );
}

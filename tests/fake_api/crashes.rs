//! A crash before and after every write changes nothing about the outcome (invariant 7).

use molt_sim_api::{Fault, Sim};

use super::stage::{apply_service, empty, end_state, has_stepped, is_healthy, live};

/// Runs a change to its end, dying at one write on the way; returns whether that write was reached.
fn crashed_at(sim: &Sim, write: u64, took_effect: bool, until: fn(&Sim) -> bool) -> bool {
    sim.plan(move |call, ordinal| {
        (call.is_write() && ordinal.write == write).then_some(Fault::Crash { took_effect })
    });
    live(sim, until);
    let crashed = sim.has_crashed();
    sim.restart();
    live(sim, until);
    crashed
}

fn sweep(prepared: fn() -> Sim, until: fn(&Sim) -> bool) {
    let whole = prepared();
    live(&whole, until);
    let expected = end_state(&whole);
    for took_effect in [false, true] {
        let mut write = 0;
        loop {
            let sim = prepared();
            let crashed = crashed_at(&sim, write, took_effect, until);
            let state = end_state(&sim);
            assert_eq!(
                state, expected,
                "after a crash at write {write}, took effect: {took_effect}"
            );
            sim.with_log(|log| {
                let created = log.iter().filter(|l| l.code == Some(201) && l.changed);
                let mut paths: Vec<String> = created
                    .filter(|l| !l.call.path.contains("/events"))
                    .map(|l| format!("{} {}", l.call.path, l.call.body["metadata"]["name"]))
                    .collect();
                paths.sort();
                let all = paths.len();
                paths.dedup();
                assert_eq!(paths.len(), all, "something was created twice: {paths:#?}");
            });
            if !crashed {
                break;
            }
            write += 1;
        }
        assert!(write > 2, "only {write} writes were tried");
    }
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
            live(&sim, is_healthy);
            apply_service(&sim, "checkout:2");
            sim.take_log();
            sim
        },
        has_stepped,
    );
}

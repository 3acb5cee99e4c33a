//! Deliberate mistakes, each of which the simulation has to find within a bounded number of seeds.

use std::sync::Arc;
use std::time::Duration;

use molt::controller::edges::Decide;
use molt::leader::Timing;
use molt::metric_sources::Measured;
use molt_core::analysis::Counts;
use molt_core::decision::Effect;
use molt_core::observed::{Action, BlockCounts, Observed};
use molt_core::plan::Plan;
use molt_core::rollout::decide;
use molt_core::state::State;
use molt_sim_api::Call;
use molt_sim_cluster::life::{Planted, live};
use serde_json::json;

/// Rollouts in each life.
const ROLLOUTS: usize = 4;

fn sees(change: fn(&mut Observed)) -> Planted {
    thinks(move |plan, state, seen| {
        let _ = (plan, state);
        change(seen);
    })
}

fn thinks(change: impl Fn(&mut Plan, &mut State, &mut Observed) + Send + Sync + 'static) -> Planted {
    let decide: Arc<Decide> = Arc::new(move |plan, state, seen, now| {
        let (mut plan, mut state, mut seen) = (plan.clone(), state.clone(), seen.clone());
        change(&mut plan, &mut state, &mut seen);
        decide(&plan, &state, &seen, now)
    });
    Planted {
        decide: Some(decide),
        ..Planted::default()
    }
}

fn does(change: fn(&State, &mut molt_core::decision::Decision)) -> Planted {
    let decide: Arc<Decide> = Arc::new(move |plan, state, seen, now| {
        let mut decision = decide(plan, state, seen, now);
        change(state, &mut decision);
        decision
    });
    Planted {
        decide: Some(decide),
        ..Planted::default()
    }
}

fn sends(rewrite: fn(&mut Call)) -> Planted {
    Planted {
        rewrite: Some(rewrite),
        ..Planted::default()
    }
}

/// Some seed below `seeds` breaks one of these invariants.
fn found(planted: &Planted, invariants: &[&str], seeds: u64) {
    found_by(planted, invariants, 0..seeds);
}

/// Some life with two operators, of so many, breaks one of these invariants.
fn found_by_two(planted: &Planted, invariants: &[&str], lives: u64) {
    found_by(planted, invariants, (0..lives).map(|life| 4 * life + 3));
}

fn found_by(planted: &Planted, invariants: &[&str], seeds: impl Iterator<Item = u64>) {
    let mut others = Vec::new();
    for seed in seeds {
        let outcome = live(seed, ROLLOUTS, planted);
        for violation in outcome.violations {
            if invariants
                .iter()
                .any(|i| violation.starts_with(&format!("VIOLATION {i}:")))
            {
                println!("found by seed {seed}: {violation}");
                return;
            }
            others.push(format!("seed {seed}: {violation}"));
        }
    }
    panic!("no seed has found it; they found {others:#?}");
}

#[test]
fn the_acknowledgement_is_not_waited_for() {
    let planted = sees(|seen| seen.route.acknowledged = true);
    found(&planted, &["acknowledged", "capacity", "drain"], 40);
}

#[test]
fn pods_go_before_their_connections_have_drained() {
    let planted = thinks(|plan, _, _| {
        plan.drain = jiff::SignedDuration::ZERO;
        plan.scale_down_delay = jiff::SignedDuration::ZERO;
        plan.abort_scale_down_delay = jiff::SignedDuration::ZERO;
    });
    found(&planted, &["drain"], 40);
}

#[test]
fn what_is_no_number_counts_as_success() {
    fn blind(measured: &mut Measured) {
        let fine = Counts::new(500.0, 0.0).unwrap_or_default();
        measured.problems.clear();
        for slo in measured.measurement.blocks.iter_mut().flat_map(|b| &mut b.slos) {
            let counts = BlockCounts {
                canary: fine,
                stable: fine,
                ..BlockCounts::default()
            };
            slo.get_or_insert(counts);
        }
    }
    let planted = Planted {
        measure: Some(blind),
        ..Planted::default()
    };
    found(&planted, &["evidence"], 150);
}

#[test]
fn the_attempt_is_not_counted() {
    let planted = does(|_, decision| {
        if let Some(attempt) = &mut decision.state.attempt {
            attempt.number = 1;
        }
    });
    found(&planted, &["identity", "attempts", "history"], 40);
}

#[test]
fn somebody_elses_object_is_taken_over() {
    let planted = sends(|call| {
        let service = call.path.contains("/services/");
        if service && call.method == http::Method::GET {
            call.path.push_str("-none");
        }
        if call.content_type.contains("apply-patch") {
            call.query.insert("force".to_owned(), "true".to_owned());
        }
    });
    found(&planted, &["ownership"], 150);
}

#[test]
fn a_stale_status_is_written() {
    let planted = sends(|call| {
        if call.path.contains("/pythonservices/")
            && let Some(operations) = call.body.as_array_mut()
        {
            operations.retain(|o| o["op"] != "test");
        }
    });
    found(&planted, &["history", "identity", "promotion", "abort"], 300);
}

#[test]
fn the_canarys_errors_are_lost() {
    fn spotless(measured: &mut Measured) {
        for slo in measured.measurement.blocks.iter_mut().flat_map(|b| &mut b.slos) {
            if let Some(counts) = slo {
                counts.canary = Counts::new(counts.canary.total(), 0.0).unwrap_or_default();
            }
        }
    }
    let planted = Planted {
        measure: Some(spotless),
        ..Planted::default()
    };
    found(&planted, &["evidence"], 60);
}

#[test]
fn the_finalizer_goes_before_the_route_is_given_back() {
    let planted = does(|_, decision| decision.effects.retain(|e| *e != Effect::ReleaseRoute));
    found(&planted, &["release"], 150);
}

#[test]
fn an_abort_is_ignored() {
    let planted = sees(|seen| seen.actions.retain(|a| a.action != Action::Abort));
    found(&planted, &["actions"], 40);
}

#[test]
fn users_are_sent_to_pods_that_are_not_ready() {
    let planted = sees(|seen| {
        for view in seen.revisions.values_mut() {
            view.ready = view.wanted;
            view.endpoints = view.wanted;
        }
    });
    found(&planted, &["unready", "strength", "dark"], 40);
}

#[test]
fn stable_shrinks_while_it_may_be_needed() {
    let planted = does(|_, decision| {
        let stable = decision.state.stable.clone();
        if let (Some(revision), Some(_)) = (stable, &decision.state.attempt) {
            decision.effects.push(Effect::Scale {
                revision,
                replicas: 1,
                attempt: None,
            });
        }
    });
    found(&planted, &["stable", "capacity"], 40);
}

#[test]
fn a_leader_writes_after_it_has_lost_the_lease() {
    let planted = Planted {
        // Every second process believes that the lease lasts a minute. What the others see lasts four seconds.
        settings: Some(|process, settings| {
            if process % 2 == 1 {
                let [lease, renew, margin] = [60, 1, 6].map(Duration::from_secs);
                settings.timing = Timing::new(lease, renew, margin).unwrap();
            }
        }),
        rewrite: Some(|call| {
            if let Some(seconds) = call.body.pointer_mut("/spec/leaseDurationSeconds")
                && seconds.is_number()
            {
                *seconds = json!(4);
            }
        }),
        ..Planted::default()
    };
    found_by_two(&planted, &["lease"], 400);
}

#[test]
fn a_replica_stands_under_the_name_of_another() {
    let planted = Planted {
        settings: Some(|_, settings| "molt-1".clone_into(&mut settings.identity)),
        ..Planted::default()
    };
    found_by_two(&planted, &["lease"], 20);
}

#[test]
fn weights_are_written_that_sum_to_something_else() {
    let planted = sends(|call| {
        let backends = call
            .body
            .pointer_mut("/spec/rules/0/backendRefs")
            .and_then(|b| b.as_array_mut());
        for backend in backends.into_iter().flatten().filter(|b| b["weight"] == 20) {
            backend["weight"] = json!(21);
        }
    });
    found(&planted, &["sum"], 40);
}

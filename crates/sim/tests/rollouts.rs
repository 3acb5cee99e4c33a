//! Whole rollouts, decided by the operator's state machine.

mod support;

use molt_core::guard::{GuardMode, GuardPlan, GuardRule};
use molt_core::plan::{RouteMode, Step};
use molt_sim::scenario::{Baseline, Scenario};
use molt_sim::{Clusters, Measure, Outcome, Setup, Study, Tenant, TransitionEntry, run, study, summaries};
use proptest::prelude::*;

use support::{plan, setup};

fn count(study: &Study, outcome: Outcome) -> u32 {
    study.outcomes[&outcome]
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let setup = setup("errors=1%", "errors=3%,incident=4x@60s+60s", 20.0);
    let json = |seed: u64| serde_json::to_string(&run(&setup, seed)).unwrap();
    assert_eq!(json(7), json(7));
    assert_ne!(json(7), json(8));
    let json = |seed: u64| serde_json::to_string(&study(&setup, 50, seed)).unwrap();
    assert_eq!(json(7), json(7));
}

#[test]
fn a_good_release_is_promoted_after_every_dwell_and_the_bake() {
    let study = study(&setup("errors=0.1%,latency=40ms", "good", 20.0), 200, 1);
    assert!(count(&study, Outcome::Promoted) >= 194, "{study:?}");
    // Four dwells of a minute; then all traffic, which bakes for five.
    assert!(study.decide_seconds.p50 >= Some(235.0), "{study:?}");
    assert!(study.decide_seconds.p50 <= Some(420.0), "{study:?}");
    assert!(study.canary_exposure_seconds.p50 >= Some(535.0), "{study:?}");
}

#[test]
fn a_bad_release_is_rolled_back_soon_and_hurts_few() {
    let study = study(&setup("errors=1%", "errors=20%", 20.0), 100, 1);
    assert_eq!(count(&study, Outcome::RolledBack), 100, "{study:?}");
    assert!(study.decide_seconds.p95 <= Some(150.0), "{study:?}");
    // At 5 % of 20 requests a second, a fifth of which fail.
    assert!(study.failed_requests.p50 > Some(0.0), "{study:?}");
    assert!(study.failed_requests.p95 < Some(40.0), "{study:?}");
    assert!(study.budget_spent_percent.p50 > Some(0.0), "{study:?}");
    assert!(study.budget_spent_percent.p95 < Some(2.0), "{study:?}");
}

/// Dwells end with a block, which is read a moment later: when the weight has risen.
#[test]
fn a_block_that_ended_before_the_weight_rose_is_of_the_weight_before() {
    let mut setup = setup("errors=1%", "errors=5%", 20.0);
    setup.plan.slos[0].objective.bad_fraction = 0.01;
    setup.plan.replicas = 1;
    let weights = [10, 25, 50];
    setup.plan.steps = (weights.iter())
        .flat_map(|weight| [Step::SetWeight(*weight), Step::Dwell(60)])
        .collect();
    let found = study(&setup, 200, 1).decide_seconds;
    assert!(found.p50 <= Some(125.0) && found.p95 <= Some(215.0), "{found:?}");

    setup.scenario = "good".parse().unwrap();
    let timeline = run(&setup, 1).timeline;
    let raised = |to: u8| {
        let is_it = |t: &&TransitionEntry| t.reason == "WeightRaised" && t.weight == to;
        timeline.transitions.iter().find(is_it).unwrap().seconds()
    };
    for (weight, next) in [(10, 25), (25, 50)] {
        let mut before = timeline.blocks.iter().filter(|block| block.t <= raised(next));
        assert_eq!(before.next_back().map(|block| block.weight), Some(weight));
    }
}

/// Where stable was scraped before an incident began and the canary after, the canary shows it alone.
#[test]
fn the_more_requests_there_are_an_incident_of_both_takes_no_more_healthy_releases_back() {
    for scenario in [
        "incident=10x@190s+300s",
        "incident=1000x@25s+60s",
        "incident=2.5x@210s+100s",
    ] {
        for rps in [200.0, 1000.0] {
            let mut setup = setup("errors=1%", scenario, rps);
            setup.plan.replicas = 1;
            let study = study(&setup, 200, 1);
            assert!(
                count(&study, Outcome::RolledBack) <= 1,
                "{scenario} {rps} {study:?}"
            );
        }
    }
}

#[test]
fn an_outage_that_begins_late_is_found_whenever_its_pods_came() {
    let study = study(&setup("errors=0.1%", "errors=5%@200s", 200.0), 100, 1);
    assert_eq!(count(&study, Outcome::RolledBack), 100, "{study:?}");
    assert!(study.decide_seconds.p95 <= Some(270.0), "{study:?}");
}

#[test]
fn nothing_is_promoted_that_nobody_has_used() {
    let setup = setup("errors=1%", "no-traffic", 20.0);
    let study = study(&setup, 20, 1);
    assert_eq!(count(&study, Outcome::Promoted), 0, "{study:?}");
    assert_eq!(study.decide_seconds.p50, None);
    assert_eq!(study.failed_requests.p95, Some(0.0));
    let silent = Setup { rps: 0.0, ..setup };
    assert_ne!(run(&silent, 1).summary.outcome, Outcome::Promoted);
}

#[test]
fn a_canary_that_never_answers_is_not_promoted_and_its_users_are_counted() {
    let run = run(&setup("errors=0.1%", "hang=100%", 20.0), 1);
    assert_ne!(run.summary.outcome, Outcome::Promoted);
    assert!(run.summary.canary.requests > 0);
    assert_eq!(run.summary.canary.failed, run.summary.canary.requests);
    assert!(run.timeline.blocks.iter().all(|block| block.canary.total == 0.0));
}

#[test]
fn an_incident_of_both_blames_the_canary_no_more_often_than_is_allowed() {
    let setup = setup("errors=0.1%", "incident=10x@120s+300s", 20.0);
    let study = study(&setup, 300, 1);
    // A hundredth is allowed; nine of 300 lie more than three standard deviations above it.
    assert!(count(&study, Outcome::RolledBack) <= 9, "{study:?}");
    // Both fail alike during it.
    let summaries = summaries(&setup, 20, 1);
    let failed = |arm: fn(&molt_sim::Summary) -> molt_sim::Arm| -> f64 {
        let (requests, failed) = summaries.iter().map(arm).fold((0, 0), |(requests, failed), arm| {
            (requests + arm.requests, failed + arm.failed)
        });
        failed as f64 / requests as f64
    };
    assert!(failed(|s| s.stable) > 0.002 && failed(|s| s.canary) > 0.002);
}

#[test]
fn pods_that_end_again_and_again_are_rolled_back() {
    let crashed = run(&setup("errors=0.1%", "crash@30s", 20.0), 1);
    assert_eq!(crashed.summary.outcome, Outcome::RolledBack);
    assert_eq!(crashed.summary.reason, "CanaryCrashLooping");
    assert!(
        crashed.summary.message.contains("exit code 1"),
        "{}",
        crashed.summary.message
    );

    let mut leaky = setup("errors=0.1%", "leak=200MB/min", 20.0);
    leaky.environment.memory_limit = 256.0 * 1024.0 * 1024.0;
    let killed = run(&leaky, 1);
    assert_eq!(killed.summary.outcome, Outcome::RolledBack);
    assert!(
        killed.summary.message.contains("OOMKilled"),
        "{}",
        killed.summary.message
    );
    // 128 MiB at 10 MB/min last for 13 minutes, longer than the rollout.
    let mut slow = setup("errors=0.1%", "leak=10MB/min", 20.0);
    slow.environment.memory_limit = 256.0 * 1024.0 * 1024.0;
    assert_eq!(run(&slow, 1).summary.outcome, Outcome::Promoted);
}

#[test]
fn a_leak_is_taken_back_by_its_guard_long_before_a_pod_is_killed() {
    let guarded = |scenario: &str| {
        let mut setup = setup("errors=0.1%", scenario, 20.0);
        setup.plan.guards = vec![GuardPlan {
            rule: GuardRule::MemoryGrowth {
                max_per_hour: 64.0 * 1024.0 * 1024.0,
            },
            mode: GuardMode::Rollback,
        }];
        setup
    };
    let leak = run(&guarded("leak=10MB/min"), 1);
    assert_eq!(
        leak.summary.outcome,
        Outcome::RolledBack,
        "{}",
        leak.summary.message
    );
    assert_eq!(leak.summary.reason, "GuardMemoryGrowth");
    assert!(
        leak.summary.message.contains("572.2 MiB an hour"),
        "{}",
        leak.summary.message
    );
    for seed in 0..20 {
        let leak = run(&guarded("leak=10MB/min"), seed).summary;
        assert!(leak.decide_seconds.is_some_and(|s| s <= 480.0), "{leak:?}");
        assert_eq!(run(&guarded("good"), seed).summary.outcome, Outcome::Promoted);
    }
}

#[test]
fn a_slow_release_is_seen_by_an_objective_of_latency_alone() {
    let slow = |slos: &[(&str, &str)], measures: Vec<Measure>| {
        let baseline = "errors=0.1%,latency=40ms".parse().unwrap();
        let scenario = "latency=4x".parse().unwrap();
        let setup = Setup::new(plan(slos), measures, baseline, scenario, 20.0).unwrap();
        study(&setup, 20, 1)
    };
    let threshold = jiff::SignedDuration::from_millis(250);
    let seen = slow(
        &[("availability", "99.9"), ("latency", "99")],
        vec![Measure::Errors, Measure::SlowerThan(threshold)],
    );
    assert_eq!(count(&seen, Outcome::RolledBack), 20, "{seen:?}");
    // Slow is not failed.
    assert!(seen.failed_requests.p95 < Some(5.0), "{seen:?}");
    let unseen = slow(&[("availability", "99.9")], vec![Measure::Errors]);
    assert!(count(&unseen, Outcome::Promoted) >= 18, "{unseen:?}");
}

#[test]
fn a_users_own_route_is_brought_home() {
    let mut setup = setup("errors=0.1%", "good", 20.0);
    setup.plan.route = RouteMode::Adopted;
    let study = study(&setup, 20, 1);
    assert!(count(&study, Outcome::Promoted) >= 18, "{study:?}");
}

/// How often requests fail in all, and by how much more than by chance the shares of stable's blocks vary.
fn failures_with(clusters: Clusters) -> (f64, f64) {
    let mut setup = setup("errors=2%", "good", 100.0);
    setup.clusters = clusters;
    setup.check().unwrap();
    let (mut requests, mut failed, mut excess, mut blocks) = (0, 0, 0.0, 0);
    for seed in 0..40 {
        let run = run(&setup, seed);
        for arm in [run.summary.canary, run.summary.stable] {
            requests += arm.requests;
            failed += arm.failed;
        }
        for block in run.timeline.blocks.iter().filter(|b| b.stable.total > 0.0) {
            let expected = block.stable.total * 0.02;
            excess += (block.stable.bad - expected).powi(2) / expected;
            blocks += 1;
        }
    }
    (failed as f64 / requests as f64, excess / f64::from(blocks))
}

#[test]
fn clusters_change_how_failures_come_and_not_how_many() {
    let none = Clusters::default();
    let (rate, spread) = failures_with(none);
    assert!((rate - 0.02).abs() < 0.001, "{rate}");
    assert!(spread < 1.3, "{spread}");
    let (rate, spread) = failures_with(Clusters {
        correlation: 0.01,
        ..none
    });
    assert!((rate - 0.02).abs() < 0.004, "{rate}");
    assert!(spread > 5.0, "{spread}");
    let tenant = Tenant {
        share: 0.1,
        errors: 1.0,
    };
    let (rate, _) = failures_with(Clusters {
        tenant: Some(tenant),
        ..none
    });
    assert!((rate - 0.118).abs() < 0.004, "{rate}");
    let (rate, _) = failures_with(Clusters {
        sick_pod: Some(10.0),
        ..none
    });
    assert!(rate > 0.025, "{rate}");
}

#[test]
fn kept_connections_change_how_requests_are_split_and_not_how_many_come() {
    let shares = |scenario: &str| {
        let setup = setup("errors=0.1%", scenario, 100.0);
        let mut shares = Vec::new();
        for seed in 0..40 {
            let blocks = run(&setup, seed).timeline.blocks;
            // The first one began at a lower weight.
            let at_half = blocks.iter().filter(|b| b.weight == 50).skip(1);
            shares.extend(at_half.map(|b| b.canary.total / (b.canary.total + b.stable.total)));
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / shares.len() as f64;
        (mean, variance.sqrt())
    };
    let (mean, spread) = shares("good");
    assert!((mean - 0.5).abs() < 0.04 && spread < 0.05, "{mean} {spread}");
    // 25 connections: a deviation of a tenth.
    let (mean, spread) = shares("connections=25@30s");
    assert!((mean - 0.5).abs() < 0.06 && spread > 0.06, "{mean} {spread}");
}

#[test]
fn what_cannot_be_simulated_is_said() {
    let make = |change: fn(&mut molt_core::plan::Plan), rps: f64| {
        let mut plan = plan(&[("availability", "99.9")]);
        change(&mut plan);
        let measures = vec![Measure::Errors];
        Setup::new(plan, measures, Baseline::default(), Scenario::default(), rps)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        make(|p| p.replicas = 0, 20.0),
        "spec.replicas: 0 pods make no rollout: write 1 or more"
    );
    assert_eq!(
        make(|_| (), f64::NAN),
        "rps: NaN is no rate of requests: write 0 to 1000000"
    );
    assert_eq!(
        make(|_| (), -1.0),
        "rps: -1 is no rate of requests: write 0 to 1000000"
    );
    let mut odd = setup("errors=1%", "good", 20.0);
    odd.clusters.correlation = 1.0;
    let why = odd.check().unwrap_err().to_string();
    assert!(why.starts_with("clusters: has a share outside 0 to 1"), "{why}");
    assert!(make(|p| p.slos.clear(), 20.0).starts_with("spec.slos: is empty"));
    assert!(make(|p| p.revision = None, 20.0).starts_with("spec: asks for no revision"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is stated, a rollout ends, counts add up, and what nobody has used is not promoted.
    #[test]
    fn every_rollout_ends(
        seed in any::<u64>(),
        rps in 0.0f64..300.0,
        replicas in 1u32..12,
        errors in 0.0f64..100.0,
        hang in 0.0f64..100.0,
        late in 0u32..900,
        crash in prop::option::of(1u32..900),
        leak in prop::option::of(1u32..5000),
        factor in 1u32..50,
        adopted in any::<bool>(),
    ) {
        let mut scenario = format!(
            "errors={errors:.3}%@{late}s,hang={hang:.3}%,incident={factor}x@40s+90s,incident=3x@100s+{late}500ms"
        );
        if let Some(seconds) = crash {
            scenario = format!("{scenario},crash@{seconds}s");
        }
        if let Some(megabytes) = leak {
            scenario = format!("{scenario},leak={megabytes}MB/min");
        }
        let mut setup = setup("errors=1%", &scenario, rps);
        setup.plan.replicas = replicas;
        if adopted {
            setup.plan.route = RouteMode::Adopted;
        }
        let run = run(&setup, seed);
        let summary = &run.summary;
        prop_assert_ne!(&summary.reason, "Unfinished");
        for arm in [summary.canary, summary.stable] {
            prop_assert!(arm.failed <= arm.requests);
        }
        prop_assert!(summary.canary_exposure_seconds >= 0.0);
        prop_assert!(summary.decide_seconds.is_none_or(|s| s >= 0.0));
        prop_assert!(summary.budget_spent_percent.is_finite() && summary.budget_spent_percent >= 0.0);
        if summary.outcome == Outcome::Promoted {
            prop_assert!(summary.canary.requests > 0);
        }
        let times: Vec<f64> = run.timeline.blocks.iter().map(|b| b.t).collect();
        prop_assert!(times.is_sorted());
        for block in &run.timeline.blocks {
            prop_assert!(block.canary.bad <= block.canary.total && !block.evidence.harm.is_nan());
        }
    }
}

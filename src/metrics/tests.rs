use molt_core::decision::Phase;
use molt_core::state::Outcome;

use super::*;

fn has(metrics: &Metrics, line: &str) {
    let text = metrics.encode();
    assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
}

fn lacks(metrics: &Metrics, part: &str) {
    let text = metrics.encode();
    assert!(!text.contains(part), "{part} is in\n{text}");
}

fn standing(phase: Phase, canary_weight: u8) -> Standing {
    Standing {
        phase,
        canary_weight,
        attempt_since: None,
        objectives: Vec::new(),
    }
}

fn judged(name: &str, verdict: VerdictKind) -> Judged {
    Judged {
        name: name.to_owned(),
        verdict,
        harm: 0.25,
        safe: 0.5,
        budget_remaining: Some(0.831),
        budget_spent: None,
    }
}

#[test]
fn names_carry_each_suffix_once() {
    let metrics = Metrics::new("1.2.3");
    let (cart, checkout) = (Key::new("shop", "cart"), Key::new("shop", "checkout"));
    metrics.set_rollout(&cart, &standing(Phase::Healthy, 0));
    metrics.reconciled(Duration::from_millis(3));
    metrics.reconcile_failed("Conflict");
    metrics.queried(Duration::from_millis(30));
    metrics.query_failed("PrometheusUnreachable");
    metrics.judged(VerdictKind::Safe);
    metrics.reverted(&checkout, RevertedBy::Watch);
    metrics.rollout_ended(
        &checkout,
        Finished {
            outcome: Outcome::Promoted,
            took: Duration::from_secs(100),
            lead_time: Some(Duration::from_secs(4_000)),
            restored_after: None,
        },
    );
    metrics.rollout_ended(
        &checkout,
        Finished {
            outcome: Outcome::RolledBack,
            took: Duration::from_secs(100),
            lead_time: None,
            restored_after: Some(Duration::from_secs(40)),
        },
    );
    for line in [
        "# TYPE molt_reconcile_duration_seconds histogram",
        "molt_reconcile_duration_seconds_bucket{le=\"0.005\"} 1",
        "molt_reconcile_errors_total{category=\"Conflict\"} 1",
        "molt_rollouts_total{namespace=\"shop\",name=\"checkout\",outcome=\"Promoted\"} 1",
        // A counter that appears with its first event hides that event.
        "molt_rollouts_total{namespace=\"shop\",name=\"cart\",outcome=\"RolledBack\"} 0",
        "molt_reconcile_errors_total{category=\"Forbidden\"} 0",
        "molt_notifications_total{sink_kind=\"pagerDuty\",outcome=\"gave_up\"} 0",
        "molt_traces_total{outcome=\"dropped\"} 0",
        "molt_reverts_total{namespace=\"shop\",name=\"checkout\",by=\"watch\"} 1",
        "molt_verdicts_total{verdict=\"Safe\"} 1",
        "molt_verdicts_total{verdict=\"NoData\"} 0",
        "molt_rollout_duration_seconds_bucket{le=\"120.0\",outcome=\"Promoted\"} 1",
        "molt_lead_time_seconds_sum 4000.0",
        "molt_time_to_restore_seconds_count 1",
        "molt_metric_query_duration_seconds_count 1",
        "molt_metric_query_errors_total{reason=\"PrometheusUnreachable\"} 1",
        "molt_build_info{version=\"1.2.3\"} 1",
        "# EOF",
    ] {
        has(&metrics, line);
    }
    for twice in ["_total_total", "_seconds_seconds", "_ratio_ratio"] {
        lacks(&metrics, twice);
    }
}

#[test]
fn a_service_is_in_one_phase_and_leaves_nothing_behind() {
    let metrics = Metrics::new("1.2.3");
    let (checkout, cart) = (Key::new("shop", "checkout"), Key::new("shop", "cart"));
    metrics.set_rollout(&checkout, &standing(Phase::Progressing, 25));
    metrics.set_rollout(&checkout, &standing(Phase::RollingBack, 0));
    metrics.set_rollout(&cart, &standing(Phase::Progressing, 50));
    has(
        &metrics,
        "molt_rollout_phase{namespace=\"shop\",name=\"checkout\",phase=\"RollingBack\"} 1",
    );
    has(
        &metrics,
        "molt_canary_weight_ratio{namespace=\"shop\",name=\"cart\"} 0.5",
    );
    assert_eq!(metrics.encode().matches("molt_rollout_phase{").count(), 2);

    metrics.took_over();
    has(&metrics, "molt_leader 1");

    metrics.forget(&checkout);
    lacks(&metrics, "checkout");
    metrics.stood_down();
    has(&metrics, "molt_leader 0");
    lacks(&metrics, "cart");
}

#[test]
fn objectives_are_told_while_an_attempt_is_under_way() {
    let metrics = Metrics::new("1.2.3");
    let checkout = Key::new("shop", "checkout");
    let mut under_way = Standing {
        attempt_since: Some("2026-03-01T02:00:00Z".parse().unwrap()),
        objectives: vec![
            judged("availability", VerdictKind::NoData),
            judged("latency", VerdictKind::Safe),
        ],
        ..standing(Phase::Progressing, 10)
    };
    metrics.set_rollout(&checkout, &under_way);
    let of = "namespace=\"shop\",name=\"checkout\"";
    for line in [
        format!("molt_attempt_start_timestamp_seconds{{{of}}} 1772330400"),
        format!("molt_objective_verdict{{{of},objective=\"availability\",verdict=\"NoData\"}} 1"),
        format!("molt_evidence_ratio{{{of},objective=\"latency\",bound=\"harm\"}} 0.25"),
        format!("molt_evidence_ratio{{{of},objective=\"latency\",bound=\"safe\"}} 0.5"),
        format!("molt_error_budget_remaining_ratio{{{of},objective=\"latency\"}} 0.831"),
    ] {
        has(&metrics, &line);
    }
    lacks(&metrics, "molt_error_budget_spent_ratio{");
    under_way.objectives = vec![judged("availability", VerdictKind::Continue)];
    metrics.set_rollout(&checkout, &under_way);
    lacks(&metrics, "latency");
    assert_eq!(metrics.encode().matches("molt_objective_verdict{").count(), 1);
    metrics.set_rollout(&checkout, &standing(Phase::Healthy, 0));
    lacks(&metrics, "availability");
    lacks(&metrics, "molt_attempt_start_timestamp_seconds{");
}

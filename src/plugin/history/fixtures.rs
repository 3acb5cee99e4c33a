//! Records for tests.

use serde_json::{Value, json};

use crate::api::v1alpha1::RolloutRecord;

fn verdict(at: &str, step: i32, weight: i32, canary: [i64; 2], harm: &str, verdict: &str) -> Value {
    json!({
        "at": at, "step": step, "weight": weight, "slo": "availability",
        "canary": {"total": canary[0], "bad": canary[1]}, "stable": {"total": 300, "bad": 0},
        "evidence": {"harm": harm, "safe": "0.10"}, "margin": "0.014400", "spent": "0.20%",
        "burn": {"canary": "98", "stable": "0.00"}, "verdict": verdict,
    })
}

/// Taken back at 25 %, with all that a record can hold.
pub(super) fn rolled_back() -> RolloutRecord {
    let moment = |at: &str, reason: &str, message: &str, weight: u8| json!({"at": at, "reason": reason, "message": message, "weight": weight});
    let slo = |name: &str, sli: &str, spent: &str| {
        json!({
            "name": name, "objective": "99.9", "sli": sli, "canary": {"total": 102, "bad": 10},
            "stable": {"total": 306, "bad": 0}, "spentByRollout": spent, "evidence": {"harm": "140", "safe": "0.00"},
        })
    };
    let record = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord",
        "metadata": {"name": "checkout-7d9f8c0000-1", "namespace": "shop"},
        "spec": {"service": "checkout", "revision": "7d9f8c0000", "attempt": 1, "stableRevision": "5b6c7d0000", "startedAt": "2026-03-01T02:00:00Z"},
        "status": {
            "outcome": "RolledBack", "reason": "HarmShown",
            "message": "availability: 9.80 % of 102 requests to the canary were bad, 0.00 % of 306 to stable",
            "endedAt": "2026-03-01T02:03:10Z", "durationSeconds": 190, "maxWeight": 25,
            "change": {
                "author": "ada@example.com", "more": 3,
                "template": [
                    {"field": "spec.containers[app].env[WORKERS].value", "after": "4"},
                    {"field": "spec.containers[app].image", "before": "checkout:1", "after": "checkout:2"},
                ],
            },
            "actions": [{
                "at": "2026-03-01T02:01:00Z", "name": "checkout-x", "action": "Promote", "requestedBy": "grace",
                "reason": "INC-12", "state": "Expired", "message": "it waits for no person and no evidence now; nothing was changed",
            }],
            "transitions": [
                moment("2026-03-01T02:00:00Z", "AttemptStarted", "attempt 1 at revision 7d9f8c0000 starts; stable is 5b6c7d0000", 0),
                moment("2026-03-01T02:02:50Z", "WeightRaised", "the canary gets 25 % of the traffic", 25),
                moment("2026-03-01T02:03:05Z", "RollbackStarted", "availability is harmed", 0),
            ],
            "slos": [slo("availability", "otel availability", "0.20%"), slo("checkouts", "failed_total of all_total", "0.01%")],
            "guards": {"conditions": [{
                "name": "latency", "successCondition": "value < 0.8", "verdict": "NotMet", "value": "1.2", "evaluated": 4, "failed": 1, "failureLimit": 2,
            }]},
            "verdicts": [
                verdict("2026-03-01T02:01:00Z", 0, 5, [20, 0], "0.90", "Continue"),
                verdict("2026-03-01T02:01:30Z", 0, 5, [20, 1], "1.10", "Continue"),
                verdict("2026-03-01T02:02:00Z", 0, 5, [20, 0], "1.30", "Safe"),
                verdict("2026-03-01T02:03:00Z", 1, 25, [42, 9], "140", "RollBack"),
            ],
        },
    });
    serde_json::from_value(record).expect("the fixture is a RolloutRecord")
}

/// The same revision, tried again and promoted by a person.
pub(super) fn promoted() -> RolloutRecord {
    let mut record = rolled_back();
    record.metadata.name = Some("checkout-7d9f8c0000-2".to_owned());
    record.spec.attempt = 2;
    record.spec.started_at = "2026-03-01T03:00:00Z".parse().expect("a time");
    let status = record.status.as_mut().expect("it has a status");
    status.outcome = Some(molt_core::state::Outcome::Promoted);
    status.reason = Some("Promoted".to_owned());
    status.duration_seconds = Some(1200);
    status.ended_at = None;
    status.max_weight = 100;
    status.slos[0].spent_by_rollout = "0.02%".to_owned();
    status.actions[0].state = crate::api::v1alpha1::ActionState::Applied;
    record
}

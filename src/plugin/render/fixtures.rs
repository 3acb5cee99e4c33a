//! Services at interesting moments, for tests.

use crate::api::v1alpha1::PythonService;
use serde_json::json;

/// At 25 %, in a dwell.
pub(crate) fn progressing() -> PythonService {
    let slo = json!({
        "name": "availability", "budgetRemaining": "83.1%", "spentByRollout": "0.2%", "verdict": "Continue",
        "evidence": {"harm": "0.4", "safe": "11.2"},
        "burn": {"canary": "1.17", "stable": "0.98", "attributable": "0.05"},
        "canary": {"total": 3412, "bad": 4}, "stable": {"total": 10_231, "bad": 10},
    });
    let moment = |at: &str, reason: &str, message: &str, weight: u8| json!({"at": at, "reason": reason, "message": message, "weight": weight});
    serde_json::from_value(json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": "checkout", "namespace": "shop", "generation": 7},
        "spec": {
            "port": 8000,
            "runtime": {"server": "uvicorn"},
            "template": {"spec": {"containers": [{"name": "app", "image": "registry.example.com/checkout"}]}},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
            "slos": [{"name": "availability", "objective": "99.9", "sli": {"preset": "fastapi-instrumentator", "type": "availability"}}],
        },
        "status": {
            "phase": "Progressing",
            "message": "revision 7d9f8c0000 at 25 %: step 2 of 4, dwells 60 s; 3412 requests so far",
            "observedGeneration": 7,
            "stable": {"revision": "5b6c7d0000", "replicas": 4, "ready": 4, "weight": 75},
            "canary": {"revision": "7d9f8c0000", "replicas": 1, "ready": 1, "weight": 25, "attempt": 1},
            "slos": [slo],
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "Progressing", "message": "", "lastTransitionTime": "2026-03-01T02:00:00Z"},
                {"type": "MetricsAvailable", "status": "False", "reason": "Unreachable", "message": "no answer within 5 s from http://prometheus:9090", "lastTransitionTime": "2026-03-01T02:03:20Z"},
            ],
            "state": {
                "stable": "5b6c7d0000",
                "attempt": {
                    "revision": "7d9f8c0000", "number": 1, "startedAt": "2026-03-01T02:00:00Z",
                    "stage": {"name": "Stepping"}, "since": "2026-03-01T02:00:00Z",
                    "steps": [{"setWeight": 25}, {"dwell": 60}, {"setWeight": 50}, {"dwell": 60}],
                    "step": 1, "stepSince": "2026-03-01T02:03:00Z", "weight": 25, "maxWeight": 25,
                    "measuredTo": "2026-03-01T02:03:15Z",
                    "transitions": [
                        moment("2026-03-01T02:00:00Z", "AttemptStarted", "attempt 1 at revision 7d9f8c0000 starts; stable is 5b6c7d0000", 0),
                        moment("2026-03-01T02:02:50Z", "WeightRaised", "the canary gets 25 % of the traffic", 25),
                    ],
                },
            },
        },
    }))
    .expect("the fixture is a PythonService")
}

/// The same, taken back a minute later.
pub(crate) fn rolled_back() -> PythonService {
    let mut service = serde_json::to_value(progressing()).expect("a PythonService is JSON");
    let status = &mut service["status"];
    status["phase"] = json!("RolledBack");
    status["message"] = json!(
        "revision 7d9f8c0000 was taken back: availability: 9.80 % of 102 requests to the canary were bad; stable revision 5b6c7d0000 serves"
    );
    for gone in ["canary", "slos", "conditions"] {
        status
            .as_object_mut()
            .expect("the status is an object")
            .remove(gone);
    }
    status["stable"]["weight"] = json!(100);
    status["state"] = json!({
        "stable": "5b6c7d0000",
        "refused": "7d9f8c0000",
        "last": {
            "revision": "7d9f8c0000", "number": 1, "outcome": "RolledBack", "reason": "HarmShown", "message": "harm",
            "startedAt": "2026-03-01T02:00:00Z", "endedAt": "2026-03-01T02:03:10Z", "stable": "5b6c7d0000", "maxWeight": 25,
        },
    });
    serde_json::from_value(service).expect("the fixture is a PythonService")
}

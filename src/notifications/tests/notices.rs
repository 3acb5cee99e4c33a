//! What there is to tell of a status.

use serde_json::{Value, json};

use crate::api::v1alpha1::{NotificationEvent, PythonServiceStatus};
use crate::notifications::notice::{Notice, notices};

/// When everything happens, unless it happens later.
pub const T0: &str = "2026-01-01T00:00:00Z";

/// The status of a service whose attempt is in this stage.
pub fn attempting(stage: &Value, phase: &str) -> Value {
    json!({
        "phase": phase, "message": "where it is",
        "state": {"stable": "0a", "attempt": {
            "revision": "0b", "number": 2, "startedAt": T0, "stage": stage, "since": T0,
            "steps": [], "step": 0, "stepSince": T0, "weight": 10, "measuredTo": T0,
            "transitions": [
                {"at": T0, "reason": "AttemptStarted", "message": "revision 0b is tried", "weight": 0},
                {"at": "2026-01-01T00:00:10Z", "reason": "WeightRaised", "message": "10 %", "weight": 10},
                {"at": "2026-01-01T00:00:20Z", "reason": "ConditionNotMet", "message": "p99", "weight": 10},
            ],
        }},
    })
}

/// The status after an attempt ended so.
pub fn ended(outcome: &str, reason: &str, phase: &str) -> Value {
    json!({
        "phase": phase, "message": "what is",
        "conditions": [
            {"type": "Ready", "status": "True", "reason": phase, "message": "", "lastTransitionTime": "2026-01-01T00:01:00Z"},
            {"type": "Stalled", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:01:00Z"},
        ],
        "state": {"stable": "0a", "last": {
            "revision": "0b", "number": 2, "outcome": outcome, "reason": reason, "message": "it was so",
            "startedAt": T0, "endedAt": "2026-01-01T00:01:00Z", "maxWeight": 10,
        }},
    })
}

/// The notices of a status.
pub fn of(status: Value) -> Vec<Notice> {
    let status: PythonServiceStatus = serde_json::from_value(status).unwrap();
    notices("u-1", &status)
}

fn told(status: Value) -> Vec<(NotificationEvent, String)> {
    let all = of(status).into_iter();
    all.map(|notice| (notice.event, notice.reason)).collect()
}

fn pair(event: NotificationEvent, reason: &str) -> (NotificationEvent, String) {
    (event, reason.to_owned())
}

#[test]
fn an_attempt_tells_how_it_began_and_what_happened() {
    use NotificationEvent::{Progressed, RolledBack, Started, Warning};
    let stepping = told(attempting(&json!({"name": "Stepping"}), "Progressing"));
    let way = [
        pair(Started, "AttemptStarted"),
        pair(Progressed, "WeightRaised"),
        pair(Warning, "ConditionNotMet"),
    ];
    assert_eq!(stepping, way);
    let stage =
        json!({"name": "Withdrawing", "outcome": "RolledBack", "reason": "HarmShown", "message": "worse"});
    let back = told(attempting(&stage, "RollingBack"));
    assert_eq!(back[3..], [pair(RolledBack, "HarmShown")]);
}

#[test]
fn an_end_is_the_same_notice_before_and_after_it() {
    let stage =
        json!({"name": "Withdrawing", "outcome": "RolledBack", "reason": "HarmShown", "message": "worse"});
    let of_end = |status| {
        let mut all = of(status);
        all.retain(|n| n.event == NotificationEvent::RolledBack);
        assert_eq!(all.len(), 1);
        all.remove(0)
    };
    let (on_the_way, over) = (
        of_end(attempting(&stage, "RollingBack")),
        of_end(ended("RolledBack", "HarmShown", "RolledBack")),
    );
    assert_eq!(on_the_way.id, over.id);
    assert_eq!((over.revision.as_deref(), over.attempt), (Some("0b"), Some(2)));
    let mut again = attempting(&stage, "RollingBack");
    again["state"]["attempt"]["startedAt"] = json!("2026-01-02T00:00:00Z");
    assert_ne!(of_end(again).id, over.id, "another attempt is another end");
}

#[test]
fn what_wants_somebody_is_told_by_the_phase() {
    use NotificationEvent::{
        Aborted, BudgetExhausted, Degraded, Healthy, Paused, Promoted, Superseded, WaitingForApproval,
    };
    let mut step = attempting(&json!({"name": "Stepping"}), "Paused");
    step["state"]["attempt"]["steps"] = json!([{"pause": {}}]);
    assert_eq!(
        told(step.clone()).last(),
        Some(&pair(WaitingForApproval, "StepWaits"))
    );
    step["state"]["attempt"]["paused"] = json!({"since": T0, "person": "by ada"});
    assert_eq!(told(step).last(), Some(&pair(Paused, "PausedByPerson")));
    let held = attempting(&json!({"name": "Held"}), "Paused");
    assert_eq!(told(held).last(), Some(&pair(Paused, "Inconclusive")));

    assert_eq!(
        told(ended("Promoted", "Promoted", "Healthy"))[1..],
        [pair(Promoted, "Promoted"), pair(Healthy, "Healthy")]
    );
    for (outcome, event) in [("Aborted", Aborted), ("Superseded", Superseded)] {
        assert_eq!(told(ended(outcome, "X", "RolledBack"))[1], pair(event, "X"));
    }
    let degraded = told(ended("Promoted", "StableUnavailable", "Degraded"));
    assert_eq!(degraded.last(), Some(&pair(Degraded, "StableUnavailable")));

    let mut spent = attempting(&json!({"name": "Stepping"}), "Progressing");
    let evidence = |left: i64| {
        json!([{
            "name": "availability", "budgetRemainingPpm": left, "measuredTo": T0,
            "evidence": molt_core::analysis::Evidence::default(),
        }])
    };
    spent["state"]["attempt"]["evidence"] = evidence(1);
    assert!(
        told(spent.clone())
            .iter()
            .all(|(event, _)| *event != BudgetExhausted)
    );
    spent["state"]["attempt"]["evidence"] = evidence(-5);
    assert_eq!(
        told(spent).last(),
        Some(&pair(BudgetExhausted, "BudgetExhausted"))
    );
}

#[test]
fn a_migration_that_waits_and_a_promotion_that_is_taken_back_are_told() {
    use NotificationEvent::{RolledBack, WaitingForApproval};
    let mut waits = ended("Promoted", "Promoted", "Healthy");
    waits["conditions"][1] = json!({"type": "Migrated", "status": "False", "reason": "AwaitingApproval", "message": "0042 drops a column", "lastTransitionTime": T0});
    let last = of(waits).pop().unwrap();
    assert_eq!(
        (last.event, last.message.as_str()),
        (WaitingForApproval, "0042 drops a column")
    );
    let mut breached = ended("Promoted", "Promoted", "Progressing");
    breached["state"]["pinned"] = json!({"revision": "0z", "insteadOf": "0b", "why": "2 % of errors"});
    let last = of(breached).pop().unwrap();
    assert_eq!((last.event, last.reason.as_str()), (RolledBack, "WatchBreached"));
    assert!(last.message.contains("2 % of errors"), "{}", last.message);
    // What a person went back to is no rollback.
    let mut undone = ended("Promoted", "Promoted", "Healthy");
    undone["state"]["pinned"] = json!({"revision": "0z", "insteadOf": "0b"});
    assert!(told(undone).iter().all(|(event, _)| *event != RolledBack));
}

#[test]
fn equal_statuses_tell_the_same_and_services_are_told_apart() {
    let status: PythonServiceStatus =
        serde_json::from_value(ended("RolledBack", "HarmShown", "RolledBack")).unwrap();
    assert_eq!(notices("u-1", &status), notices("u-1", &status));
    let others = notices("u-2", &status);
    assert!(
        notices("u-1", &status)
            .iter()
            .zip(&others)
            .all(|(a, b)| a.id != b.id)
    );
    assert_eq!(notices("u-1", &PythonServiceStatus::default()), []);
}

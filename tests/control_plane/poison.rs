//! Objects that somebody else wrote, or another version: the others go on, stable keeps serving, and what is
//! wrong is said with its fix.

use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::support::cluster::{service, stable, until};
use crate::support::{Stage, given, stored};

async fn given_stable(namespace: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

/// Users are still on this revision, and another service is deployed meanwhile.
async fn others_go_on(stage: &Stage, first: &str) {
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);
    stage.apply(service("other", "other:good")).await.unwrap();
    stage.until_phase("other", Phase::Healthy).await;
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);
}

async fn edit_status(stage: &Stage, status: Value) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({ "status": status }));
    stage
        .services()
        .patch_status("shop", &PatchParams::default(), &patch)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_status_that_another_version_wrote_is_written_anew_as_long_as_the_state_can_be_read() {
    let (stage, first) = given_stable("poison-status").await;
    stored::change("poison-status", "shop", |object| {
        object["status"]["phase"] = json!("Frozen");
        object["status"]["slos"] = json!([{"name": "availability", "verdict": "Pondering", "evidence": {}}]);
    });
    let back = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&back), first);
    others_go_on(&stage, &first).await;
}

#[tokio::test]
async fn a_state_that_another_version_wrote_stops_this_service_alone_and_names_the_way_on() {
    let (stage, first) = given_stable("poison-state").await;
    let attempt = json!({
        "revision": "0123456789", "number": 1, "stage": {"name": "Contemplating"}, "steps": [], "step": 0,
        "weight": 10, "startedAt": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z",
        "stepSince": "2026-01-01T00:00:00Z", "measuredTo": "2026-01-01T00:00:00Z"
    });
    stored::change("poison-state", "shop", |object| {
        object["status"]["state"]["attempt"] = attempt;
    });
    let message = stage
        .until_condition("shop", "Stalled", "True", "StateUnreadable")
        .await;
    assert!(
        message.contains("Contemplating") && message.contains("kubectl patch pythonservice shop"),
        "{message}"
    );
    stage.until_event("shop", "StateUnreadable").await;
    others_go_on(&stage, &first).await;

    // As the message says.
    let remove = json!([{"op": "remove", "path": "/status"}]);
    let remove: Patch<()> = Patch::Json(serde_json::from_value(remove).unwrap());
    stage
        .services()
        .patch_status("shop", &PatchParams::default(), &remove)
        .await
        .unwrap();
    let back = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&back), first);
}

#[tokio::test]
async fn a_spec_that_another_version_wrote_keeps_stable_and_names_the_field() {
    let (stage, first) = given_stable("poison-spec").await;
    stored::change("poison-spec", "shop", |object| {
        object["spec"]["runtime"]["server"] = json!("daphne");
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
    });
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(message.contains("daphne"), "{message}");
    stage.until_event("shop", "SpecInvalid").await;
    others_go_on(&stage, &first).await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    assert_eq!(stable(&stage.until_phase("shop", Phase::Healthy).await), first);
}

#[tokio::test]
async fn a_state_that_was_edited_by_hand_is_refused_or_named_or_does_no_harm() {
    let (stage, first) = given_stable("poison-hand").await;
    for (status, field) in [
        (json!({"phase": "Frozen"}), "status.phase"),
        (
            json!({"state": {"asserted": {"stable": -1, "canary": 0}}}),
            "status.state.asserted.stable",
        ),
        (json!({"state": {"actions": "none"}}), "status.state.actions"),
    ] {
        let refused = edit_status(&stage, status).await.unwrap_err().to_string();
        assert!(refused.contains(field), "{refused}");
    }

    edit_status(
        &stage,
        json!({"state": {"asserted": {"stable": 250, "canary": 0}}}),
    )
    .await
    .unwrap();
    let message = stage
        .until_condition("shop", "Stalled", "True", "StateUnreadable")
        .await;
    assert!(message.contains("asserted.stable is 250 %"), "{message}");
    edit_status(&stage, json!({"state": {"asserted": null}}))
        .await
        .unwrap();
    stage.until_phase("shop", Phase::Healthy).await;

    // A stable revision that does not exist: users stay where they are served.
    edit_status(&stage, json!({"state": {"stable": "0000000000"}}))
        .await
        .unwrap();
    others_go_on(&stage, &first).await;
}

/// Moves every time of the state by so many hours: for the operator it is as if its clock had moved the other
/// way.
fn shift(state: &mut Value, hours: i64) {
    match state {
        Value::String(text) => {
            if let Ok(at) = text.parse::<Timestamp>() {
                *text = at
                    .checked_add(SignedDuration::from_hours(hours))
                    .unwrap()
                    .to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, hours)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, hours)),
        _ => {}
    }
}

async fn given_dwelling(namespace: &str) -> (Stage, String, String) {
    let (stage, first) = given_stable(namespace).await;
    let mut slow = service("shop", "shop:second");
    slow["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("1h");
    stage.apply(slow).await.unwrap();
    until("it dwells", async || {
        let status = stage.service("shop").await.status.unwrap_or_default();
        status.step.is_some_and(|s| s.index == 1) && status.canary.is_some_and(|c| c.weight == 10)
    })
    .await;
    let second = stage
        .service("shop")
        .await
        .status
        .unwrap()
        .canary
        .unwrap()
        .revision;
    (stage, first, second)
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_ends_pauses_early_but_promotes_nothing_without_evidence() {
    let (stage, first, second) = given_dwelling("clock-ahead").await;
    stage
        .prometheus
        .behave(crate::support::prometheus::Behaviour::Empty);
    stored::change("clock-ahead", "shop", |object| {
        shift(&mut object["status"]["state"], -3);
    });
    let held = stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(stable(&held), first);
    until("users are on stable", async || {
        stage
            .weights("shop")
            .await
            .contains(&(format!("shop-{first}"), 100))
    })
    .await;
    let abort = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
        // The longest name that there is.
        "metadata": {"name": "a".repeat(253)},
        "spec": {"service": "shop", "action": "Abort", "requestedBy": "b".repeat(253), "reason": "c".repeat(1024)}
    });
    let abort = serde_json::from_value(abort).unwrap();
    stage
        .actions()
        .create(&PostParams::default(), &abort)
        .await
        .unwrap();
    stage.until_phase("shop", Phase::RolledBack).await;
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Aborted));
}

#[tokio::test]
async fn a_clock_that_is_set_back_takes_users_off_a_canary_that_nobody_could_watch() {
    let (stage, first, second) = given_dwelling("clock-back").await;
    stored::change("clock-back", "shop", |object| {
        shift(&mut object["status"]["state"], 3);
    });
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(record.reason.as_deref(), Some("ClockWentBack"));
    stage.until_event("shop", "ClockWentBack").await;
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);
}

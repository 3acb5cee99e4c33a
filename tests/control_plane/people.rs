//! What people ask for by actions, and what becomes of it.

use std::process::ExitCode;

use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use molt::api::v1alpha1::{ActionKind, ActionState, Phase, RolloutAction};
use serde_json::{Value, json};

use crate::rollouts::{given_stable, until_exposed};
use crate::support::cluster::{Stage, kubectl_molt, service, stable, until};

/// Asks for an action, and waits until it is handled.
pub async fn act(stage: &Stage, spec: Value) -> ActionState {
    let mut spec = spec;
    spec["service"] = json!("shop");
    spec["requestedBy"] = json!("oncall");
    let object = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
        "metadata": {"generateName": "shop-"}, "spec": spec,
    });
    let object: RolloutAction = serde_json::from_value(object).unwrap();
    let made = stage
        .actions()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    let handled = async || {
        let seen = stage.actions().get(&made.name_any()).await.unwrap();
        seen.status.and_then(|status| status.state)
    };
    until("the action is handled", async || handled().await.is_some()).await;
    handled().await.unwrap()
}

/// A service with a stable revision whose next one dwells at ten per cent; both revisions.
pub async fn given_a_dwell(namespace: &str) -> (Stage, String, String) {
    let (stage, first) = given_stable(namespace).await;
    let mut slow = service("shop", "shop:second");
    slow["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
    stage.apply(slow).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    until("it dwells", async || {
        let status = stage.service("shop").await.status;
        status.and_then(|s| s.step).is_some_and(|s| s.index == 1)
    })
    .await;
    (stage, first, second)
}

#[tokio::test]
async fn a_person_pauses_resumes_and_aborts_and_a_late_action_expires() {
    let (stage, first, second) = given_a_dwell("people").await;
    let act = async |action: &str| {
        let spec = json!({"revision": second, "attempt": 1, "action": action});
        act(&stage, spec).await
    };
    assert_eq!(
        kubectl_molt("people", &["explain", "shop"]).await,
        ExitCode::from(2)
    );
    assert_eq!(act("Pause").await, ActionState::Applied);
    let paused = stage.until_phase("shop", Phase::Paused).await;
    let message = paused.status.unwrap().message.unwrap();
    assert!(message.contains("at 10 %: paused by oncall"), "{message}");
    assert_eq!(act("Promote").await, ActionState::Expired);
    assert_eq!(act("Resume").await, ActionState::Applied);
    // Twice for the same wait: it ends once.
    let promote = json!({"revision": second, "attempt": 1, "action": "Promote", "step": 1});
    let once = self::act(&stage, promote.clone()).await;
    assert_eq!(once, ActionState::Applied);
    assert_eq!(self::act(&stage, promote).await, ActionState::Expired);
    until_exposed(&stage, 50).await;
    assert_eq!(act("Abort").await, ActionState::Applied);
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert!(record.message.unwrap().contains("oncall"));
    // Who asked for what is in the record, what had no effect as well.
    let asked: Vec<_> = record.actions.iter().map(|a| (a.action, a.state)).collect();
    let (applied, expired) = (ActionState::Applied, ActionState::Expired);
    assert_eq!(
        asked,
        [
            (ActionKind::Pause, applied),
            (ActionKind::Promote, expired),
            (ActionKind::Resume, applied),
            (ActionKind::Promote, applied),
            (ActionKind::Promote, expired),
            (ActionKind::Abort, applied),
        ]
    );
    assert!(record.actions.iter().all(|a| a.requested_by == "oncall"));
    assert!(record.actions[1].message.contains("resume it first"));
    assert_eq!(act("Abort").await, ActionState::Expired);
    assert_eq!(
        kubectl_molt("people", &["explain", "shop"]).await,
        ExitCode::from(1)
    );
    assert_eq!(
        kubectl_molt("people", &["history", "shop", "--attempt", "1"]).await,
        ExitCode::SUCCESS
    );
}

#[tokio::test]
async fn what_was_taken_back_is_retried_promoted_in_full_and_undone() {
    let (stage, first, second) = given_a_dwell("undo").await;
    let of = |attempt: u32, action: &str| json!({"revision": second, "attempt": attempt, "action": action});
    assert_eq!(act(&stage, of(1, "Abort")).await, ActionState::Applied);
    stage.until_phase("shop", Phase::RolledBack).await;
    // Once more, as an attempt with a record of its own, and to the end without its steps.
    assert_eq!(act(&stage, of(1, "Retry")).await, ActionState::Applied);
    until_exposed(&stage, 10).await;
    let late = act(&stage, of(1, "PromoteFull")).await;
    assert_eq!(late, ActionState::Expired, "it names the first attempt");
    assert_eq!(act(&stage, of(2, "PromoteFull")).await, ActionState::Applied);
    let promoted = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&promoted), second);
    let told = |record: molt::api::v1alpha1::RolloutRecord| -> Vec<String> {
        let transitions = record.status.unwrap().transitions;
        transitions.into_iter().map(|t| t.reason).collect()
    };
    let record = told(stage.ended_record("shop", &second, 2).await);
    assert!(record.contains(&"PromotedByPerson".to_owned()), "{record:?}");

    // And back, against the spec, which nobody writes.
    let undo = json!({"revision": second, "action": "Undo"});
    assert_eq!(act(&stage, undo).await, ActionState::Applied);
    until("the first revision is stable again", async || {
        let status = stage.service("shop").await.status.unwrap();
        status.phase == Some(Phase::Healthy) && status.stable.is_some_and(|s| s.revision == first)
    })
    .await;
    let undone = stage.service("shop").await;
    assert_eq!(
        undone.status.as_ref().unwrap().pinned_revision.as_ref(),
        Some(&first)
    );
    let template = undone.spec.template.and_then(|t| t.spec).unwrap();
    let image = template.containers[0].image.as_deref();
    assert_eq!(image, Some("shop:second"));
    let record = told(stage.ended_record("shop", &first, 2).await);
    assert!(record.contains(&"RollbackStarted".to_owned()), "{record:?}");
}

#[tokio::test]
async fn an_action_for_nothing_is_answered_and_the_oldest_that_are_over_go() {
    let (stage, _) = given_stable("answers").await;
    let make = async |service: &str, n: usize| {
        let object = json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
            "metadata": {"name": format!("{service}-{n:02}")},
            "spec": {"service": service, "action": "Pause", "requestedBy": "oncall"},
        });
        let object: RolloutAction = serde_json::from_value(object).unwrap();
        stage
            .actions()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    };
    let status = async |name: &str| {
        let action = stage.actions().get(name).await.unwrap();
        action.status.unwrap_or_default()
    };
    make("nothing", 0).await;
    until("it is answered", async || {
        status("nothing-00").await.state == Some(ActionState::Expired)
    })
    .await;
    let message = status("nothing-00").await.message.unwrap();
    assert!(
        message.contains("there is no PythonService nothing in namespace answers"),
        "{message}"
    );

    // No attempt is under way: each expires. Of a service twenty stay.
    for n in 0..22 {
        make("shop", n).await;
        let name = format!("shop-{n:02}");
        until("it is answered", async || {
            stage
                .actions()
                .get_opt(&name)
                .await
                .unwrap()
                .is_none_or(|a| a.status.is_some_and(|s| s.state.is_some()))
        })
        .await;
    }
    let names = async || {
        let all = stage.actions().list(&ListParams::default()).await.unwrap();
        let names = all.items.iter().map(ResourceExt::name_any);
        names.filter(|n| n.starts_with("shop")).collect::<Vec<_>>()
    };
    until("the two oldest are gone", async || {
        let names = names().await;
        names.len() == 20 && names.first().is_some_and(|n| n == "shop-02")
    })
    .await;
    status("nothing-00").await;
}

#[tokio::test]
async fn what_a_record_says_of_an_attempt_under_way_is_nobodys_to_change() {
    let (stage, _, second) = given_a_dwell("unaltered").await;
    let spec = json!({"revision": second, "attempt": 1, "action": "Pause"});
    assert_eq!(act(&stage, spec).await, ActionState::Applied);
    let name = format!("shop-{second}-1");
    let record = async || json!(stage.records().get(&name).await.unwrap())["status"].clone();
    until("it says what was asked for, and a verdict", async || {
        let status = record().await;
        status["actions"][0].is_object() && status["verdicts"][0].is_object()
    })
    .await;
    let patch = async |operations: Value| {
        let patch: json_patch::Patch = serde_json::from_value(operations).unwrap();
        let patch = Patch::<()>::Json(patch);
        let patched = stage
            .records()
            .patch_status(&name, &PatchParams::default(), &patch)
            .await;
        patched.map(drop).map_err(|error| error.to_string())
    };
    for (operation, word) in [
        (
            json!({"op": "replace", "path": "/status/transitions/0/message", "value": "forged"}),
            "transition",
        ),
        (
            json!({"op": "remove", "path": "/status/transitions/0"}),
            "transition",
        ),
        (
            json!({"op": "replace", "path": "/status/actions/0/requestedBy", "value": "forged"}),
            "action",
        ),
        (json!({"op": "remove", "path": "/status/actions"}), "action"),
        (
            json!({"op": "replace", "path": "/status/verdicts/0/verdict", "value": "Safe!"}),
            "verdict",
        ),
        (json!({"op": "remove", "path": "/status/verdicts/0"}), "verdict"),
    ] {
        let refused = patch(json!([operation])).await.unwrap_err();
        assert!(
            refused.contains("a record is only added to") && refused.contains(word),
            "{operation}: {refused}"
        );
    }
    // The operator goes on adding.
    let spec = json!({"revision": second, "attempt": 1, "action": "Abort"});
    assert_eq!(act(&stage, spec).await, ActionState::Applied);
    let ended = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(ended.actions.len(), 2);
}

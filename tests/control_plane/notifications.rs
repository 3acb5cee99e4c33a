//! A NotificationPolicy: what is told, and what its status says.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, ValidationDirective};
use molt::api::v1alpha1::{NotificationPolicy, NotificationPolicyStatus, Phase};
use serde_json::{Value, json};

use crate::rollouts::given_stable;
use crate::support::Stage;
use crate::support::cluster::{service, until};

type Got = Arc<Mutex<Vec<Value>>>;

/// A receiver that fails once, and takes everything afterwards; its address, and what it took.
async fn receiver() -> (String, Got) {
    let handler = |State((got, failed)): State<(Got, Arc<Mutex<bool>>)>, headers: HeaderMap, body: String| async move {
        if !std::mem::replace(&mut *failed.lock().unwrap(), true) {
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        let mut body: Value = serde_json::from_str(&body).unwrap();
        let header = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        body["authorization"] = json!(header("authorization"));
        got.lock().unwrap().push(body);
        StatusCode::ACCEPTED
    };
    let (got, failed) = (Got::default(), Arc::default());
    let router = Router::new()
        .route("/hush", post(handler))
        .with_state((got.clone(), failed));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/hush", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    (address, got)
}

fn policies(stage: &Stage) -> Api<NotificationPolicy> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

async fn apply(stage: &Stage, name: &str, spec: Value) -> kube::Result<NotificationPolicy> {
    let policy = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "NotificationPolicy", "metadata": {"name": name}, "spec": spec,
    });
    let params = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("person").force()
    };
    policies(stage).patch(name, &params, &Patch::Apply(policy)).await
}

async fn secret(stage: &Stage, name: &str, data: Value) {
    let secret = json!({"metadata": {"name": name}, "stringData": data});
    Api::<Secret>::namespaced(stage.client.clone(), &stage.namespace)
        .create(&PostParams::default(), &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
}

async fn status(stage: &Stage, name: &str) -> NotificationPolicyStatus {
    policies(stage)
        .get(name)
        .await
        .unwrap()
        .status
        .unwrap_or_default()
}

/// Waits until `Ready` of a policy has this reason, and returns its message.
async fn until_ready(stage: &Stage, name: &str, reason: &str) -> String {
    let message = Mutex::new(String::new());
    until(&format!("policy {name} is {reason}"), async || {
        let conditions = status(stage, name).await.conditions.unwrap_or_default();
        let found = conditions
            .into_iter()
            .find(|c| c.type_ == "Ready" && c.reason == reason);
        found.is_some_and(|c| {
            *message.lock().unwrap() = c.message;
            true
        })
    })
    .await;
    message.into_inner().unwrap()
}

fn events(got: &Got) -> Vec<String> {
    let got = got.lock().unwrap();
    let of = |body: &Value| {
        format!(
            "{} {}",
            body["event"].as_str().unwrap(),
            body["service"].as_str().unwrap()
        )
    };
    got.iter().map(of).collect()
}

#[tokio::test]
async fn a_rollback_is_told_once_also_across_a_restart_of_the_operator() {
    let (mut stage, _) = given_stable("notify").await;
    let (address, got) = receiver().await;
    secret(
        &stage,
        "hooks",
        json!({"url": address, "Authorization": "Bearer hush\n"}),
    )
    .await;
    secret(&stage, "hook-headers", json!({"Authorization": "Bearer hush\n"})).await;
    let spec = json!({
        "events": ["RolledBack", "Promoted", "Degraded"],
        "sinks": [{"name": "hook", "webhook": {
            "urlFrom": {"name": "hooks", "key": "url"}, "headersFrom": {"name": "hook-headers"}, "allowHttp": true,
        }}],
    });
    apply(&stage, "oncall", spec).await.unwrap();
    until_ready(&stage, "oncall", "Deliverable").await;
    assert!(
        got.lock().unwrap().is_empty(),
        "what was before a policy is not told to it"
    );

    stage.apply(service("shop", "shop:bad")).await.unwrap();
    stage.until_phase("shop", Phase::RolledBack).await;
    until("it is told, after a failure", async || {
        !got.lock().unwrap().is_empty()
    })
    .await;
    until("the policy says so", async || {
        let sinks = status(&stage, "oncall").await.sinks.unwrap_or_default();
        sinks
            .iter()
            .any(|sink| sink.delivered == 1 && sink.told.len() == 1)
    })
    .await;
    // Another operator finds the same status, and the next rollout tells it that it has looked at it.
    stage.stop_operator().await;
    stage.start_operator();
    stage.apply(service("shop", "shop:better")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    until("the promotion is told", async || got.lock().unwrap().len() >= 2).await;
    assert_eq!(events(&got), ["RolledBack shop", "Promoted shop"]);
    let first = got.lock().unwrap()[0].clone();
    assert_eq!(
        (&first["namespace"], &first["attempt"]),
        (&json!("notify"), &json!(1))
    );
    assert_eq!(first["authorization"], "Bearer hush");
    let command = first["command"].as_str().unwrap();
    assert!(
        command.starts_with("kubectl molt history shop -n notify --revision "),
        "{command}"
    );
    let status = serde_json::to_string(&status(&stage, "oncall").await).unwrap();
    assert!(!status.contains("hush"), "{status}");
}

#[tokio::test]
async fn a_policy_that_can_not_be_used_says_the_field_the_reason_and_the_fix() {
    let stage = crate::support::given("notifybad").await;
    let slack = json!({"sinks": [{"name": "chat", "slack": {"urlFrom": {"name": "hooks", "key": "slack"}}}]});
    apply(&stage, "chat", slack).await.unwrap();
    let message = until_ready(&stage, "chat", "SecretUnusable").await;
    assert_eq!(
        message,
        "spec.sinks[chat].slack.urlFrom: Secret notifybad/hooks does not exist: create it, or correct the name"
    );
    secret(&stage, "hooks", json!({"slack": "http://hush.example/hush"})).await;
    let message = until_ready(&stage, "chat", "UrlInvalid").await;
    assert!(
        message.contains("write https://, or set allowHttp: true"),
        "{message}"
    );
    assert!(!message.contains("hush"), "{message}");
    let template =
        json!({"sinks": [{"name": "w", "webhook": {"url": "https://x.example/"}, "template": "{{nme}}"}]});
    apply(&stage, "template", template).await.unwrap();
    let message = until_ready(&stage, "template", "PolicyInvalid").await;
    assert!(
        message.starts_with("spec.sinks[w].template: {{nme}} is no field"),
        "{message}"
    );

    // The rest is refused at once.
    for (sink, part) in [
        (json!({"name": "a"}), "exactly one of slack, teams"),
        (
            json!({"name": "a", "webhook": {}}),
            "set exactly one of url and urlFrom",
        ),
        (
            json!({"name": "A_b", "webhook": {"url": "https://x.example/"}}),
            "should match",
        ),
        (
            json!({"name": "a", "cloudEvents": {"url": "https://x.example/"}, "template": "x"}),
            "the data of a CloudEvent is fixed",
        ),
    ] {
        let refused = apply(&stage, "refused", json!({"sinks": [sink]}))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let empty = apply(&stage, "refused", json!({"sinks": []})).await.unwrap_err();
    assert!(empty.to_string().contains("spec.sinks"), "{empty}");
}

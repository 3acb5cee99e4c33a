//! Faults of the surroundings: each is said with what, where and how to fix it, and stable keeps serving.

use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use serde_json::json;

use crate::support::cluster::{service, stable};
use crate::support::given;
use crate::support::prometheus::Behaviour;

#[tokio::test]
async fn a_prometheus_that_answers_nonsense_keeps_users_on_stable_until_it_is_corrected() {
    let stage = given("nonsense").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    stage.prometheus.behave(Behaviour::Nonsense);
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let message = stage
        .until_condition("shop", "MetricsAvailable", "False", "PrometheusBadAnswer")
        .await;
    assert!(message.contains(&stage.prometheus.address), "{message}");
    stage.until_event("shop", "PrometheusBadAnswer").await;
    let weights = stage.weights("shop").await;
    assert!(
        weights
            .iter()
            .all(|(name, w)| *w == if *name == format!("shop-{first}") { 100 } else { 0 }),
        "{weights:?}"
    );
    stage.prometheus.behave(Behaviour::Answers);
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first, "nothing was lost");
}

#[tokio::test]
async fn no_data_is_never_success() {
    let stage = given("nodata").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    stage.prometheus.behave(Behaviour::Empty);
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let held = stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(stable(&held), first);
    assert!(
        held.status
            .unwrap()
            .message
            .unwrap()
            .contains("neither harm nor safety")
    );
}

#[tokio::test]
async fn an_unreachable_prometheus_is_named() {
    let stage = given("unreachable").await;
    let mut object = service("shop", "shop:good");
    object["spec"]["metrics"]["prometheus"]["address"] = json!("http://127.0.0.1:9");
    stage.apply(object.clone()).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(object).await.unwrap();
    let message = stage
        .until_condition("shop", "MetricsAvailable", "False", "PrometheusUnreachable")
        .await;
    assert!(message.contains("http://127.0.0.1:9"), "{message}");
}

#[tokio::test]
async fn a_pause_for_want_of_metrics_ends_by_itself_once_they_can_be_read() {
    let stage = given("corrected").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let mut wrong = service("shop", "shop:second");
    wrong["spec"]["metrics"]["prometheus"]["address"] = json!("http://127.0.0.1:9");
    stage.apply(wrong.clone()).await.unwrap();
    let held = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let message = held.message.unwrap();
    assert!(
        message.contains("http://127.0.0.1:9") && message.contains("spec.metrics"),
        "{message}"
    );
    let second = held.canary.unwrap().revision;

    // What is no correction of it changes nothing.
    wrong["spec"]["revisionHistoryLimit"] = json!(3);
    stage.apply(wrong).await.unwrap();
    let still = stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(stable(&still), first);

    stage.apply(service("shop", "shop:second")).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&done), second);
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(
        record.outcome,
        Some(Outcome::Promoted),
        "the same attempt, and nobody promoted it"
    );
    let reasons: Vec<&str> = record.transitions.iter().map(|t| t.reason.as_str()).collect();
    assert!(
        reasons.contains(&"Resumed") && !reasons.contains(&"PromotedByPerson"),
        "{reasons:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_come_from_a_secret_that_may_come_late() {
    let stage = given("headers").await;
    let mut object = service("shop", "shop:good");
    object["spec"]["metrics"]["prometheus"]["headersFrom"] = json!({"name": "prom-token"});
    stage.apply(object.clone()).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(object).await.unwrap();
    let message = stage
        .until_condition("shop", "MetricsAvailable", "False", "PrometheusHeadersUnusable")
        .await;
    assert!(
        message.contains("Secret headers/prom-token does not exist"),
        "{message}"
    );
    let secret = json!({"metadata": {"name": "prom-token"}, "stringData": {"Authorization": "Bearer hush"}});
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(stage.client.clone(), &stage.namespace);
    secrets
        .create(
            &kube::api::PostParams::default(),
            &serde_json::from_value(secret).unwrap(),
        )
        .await
        .unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
}

//! The time after a promotion: the old revision's ReplicaSet is kept without pods, and harm starts it again.

use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{ENDPOINTS_COME, Stage, service, stable, until};
use crate::support::given;

fn watched(image: &str, traffic: &Value) -> Value {
    let mut object = service("shop", image);
    object["spec"]["progressDeadline"] = json!(ENDPOINTS_COME);
    object["spec"]["strategy"]["canary"]["watch"] = json!("10m");
    if !traffic.is_null() {
        object["spec"]["traffic"] = traffic.clone();
    }
    object
}

async fn wanted(stage: &Stage, revision: &str) -> Option<i32> {
    let set = stage.sets().get(&format!("shop-{revision}")).await.unwrap();
    set.spec.and_then(|spec| spec.replicas)
}

/// A second revision is promoted, the first one's pods go, then the second fails; both revisions.
async fn promoted_and_failing(stage: &Stage, traffic: &Value) -> (String, String) {
    stage.apply(watched("shop:good", traffic)).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    stage.apply(watched("shop:second", traffic)).await.unwrap();
    until("the second is stable", async || {
        let status = stage.service("shop").await.status;
        let is_healthy = status.as_ref().is_some_and(|s| s.phase == Some(Phase::Healthy));
        is_healthy && status.and_then(|s| s.stable).is_some_and(|s| s.revision != first)
    })
    .await;
    let second = stable(&stage.service("shop").await);
    until("the old pods go", async || wanted(stage, &first).await == Some(0)).await;
    let message = stage.service("shop").await.status.unwrap().message.unwrap();
    assert!(message.contains("watched until"), "{message}");
    stage.prometheus.fails(&second);
    (first, second)
}

#[tokio::test]
async fn harm_after_the_promotion_takes_users_back_to_pods_that_start_first() {
    let stage = given("watch").await;
    let (first, second) = promoted_and_failing(&stage, &Value::Null).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let message = back.status.unwrap().message.unwrap();
    assert!(
        message.contains(&format!(
            "revision {second} was taken back after its promotion: availability"
        )),
        "{message}"
    );
    stage.until_event("shop", "WatchBreached").await;
    let record = stage.ended_record("shop", &first, 2).await.status.unwrap();
    let began = &record.transitions[0];
    assert!(
        began.reason == "RollbackStarted" && began.message.contains("availability"),
        "{began:?}"
    );
    let weights = stage.weights("shop").await;
    assert_eq!(weights, [(format!("shop-{first}"), 100)], "{weights:?}");
}

#[tokio::test]
async fn a_route_of_the_users_leads_back_as_well() {
    let stage = given("watch-own").await;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "front"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [
            {"name": "shop-stable", "port": 8000, "weight": 100}, {"name": "shop-canary", "port": 8000, "weight": 0},
        ]}]}
    });
    let params = PatchParams::apply("person").force();
    stage
        .routes()
        .patch("front", &params, &Patch::Apply(route))
        .await
        .unwrap();
    let traffic = json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}});
    let (first, _) = promoted_and_failing(&stage, &traffic).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let selector = stage
        .core_services()
        .get("shop-stable")
        .await
        .unwrap()
        .spec
        .unwrap()
        .selector
        .unwrap();
    assert_eq!(selector["molt.dev/revision"], first);
}

//! HorizontalPodAutoscalers, of the real controller, that aim at a PythonService while it rolls out, and at what they
//! should not.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use molt_core::state::Stage as At;
use serde_json::{Value, json};

use crate::people::act;
use crate::rollouts::given_stable;
use crate::support::cluster::{Stage, service, stable, until};
use crate::support::{given, metrics_api};

/// The service, with a CPU request that utilisation is reckoned by.
fn shop(image: &str) -> Value {
    let mut shop = service("shop", image);
    shop["spec"].as_object_mut().unwrap().remove("replicas");
    shop["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    shop["spec"]["strategy"]["canary"]["steps"] = json!([{"setWeight": 50}, {"pause": {}}]);
    shop["spec"]["strategy"]["canary"]["bake"] = json!("12s");
    shop["spec"]["progressDeadline"] = json!("60s");
    shop
}

/// A value is read a moment before the pods are counted by which it is multiplied: what is wanted for no longer than
/// it takes a pod to be seen by both is not heard.
async fn scale_by(stage: &Stage, target: Value, metric: Value) {
    let settled = json!({"stabilizationWindowSeconds": 3});
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "shop"},
        "spec": {
            "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
            "behavior": {"scaleUp": settled, "scaleDown": settled},
        },
    });
    autoscalers(stage)
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

fn autoscalers(stage: &Stage) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

fn at_the_service() -> Value {
    json!({"apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "name": "shop"})
}

/// A number of pods is given once: an absent one can't be read by its subresource.
async fn set_replicas(stage: &Stage, replicas: i32) {
    let scale = json!({"spec": {"replicas": replicas}});
    stage
        .services()
        .patch_scale("shop", &PatchParams::default(), &Patch::Merge(scale))
        .await
        .unwrap();
}

async fn replicas(stage: &Stage) -> Option<i32> {
    stage.service("shop").await.spec.replicas
}

/// What the autoscaler has asked for so often as it looks in some seconds: the largest and the smallest.
async fn asked_for(stage: &Stage, seconds: u32) -> (i32, i32) {
    let mut seen = (i32::MAX, i32::MIN);
    for _ in 0..seconds * 5 {
        let now = replicas(stage).await.unwrap();
        seen = (seen.0.min(now), seen.1.max(now));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    seen
}

async fn until_replicas(stage: &Stage, wanted: i32) {
    until(&format!("the autoscaler asks for {wanted}"), async || {
        replicas(stage).await == Some(wanted)
    })
    .await;
}

async fn pods_of(stage: &Stage, revision: &str) -> i32 {
    let set = stage.sets().get(&format!("shop-{revision}")).await.unwrap();
    set.spec.unwrap().replicas.unwrap()
}

async fn is_baking(stage: &Stage) -> bool {
    let status = stage.service("shop").await.status;
    let attempt = status.and_then(|s| s.state).and_then(|s| s.attempt);
    attempt.is_some_and(|a| matches!(a.stage, At::Baking { .. }))
}

/// Load comes, grows and goes while a rollout waits at a half, and the autoscaler follows it and nothing else.
async fn follows_its_metric(namespace: &str, metric: Value) {
    let load = metrics_api::load().await;
    load.set(namespace, 100);
    let stage = given(namespace).await;
    stage.apply(shop("shop:good")).await.unwrap();
    set_replicas(&stage, 2).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    scale_by(&stage, at_the_service(), metric).await;
    until("it is able to scale", async || {
        let status = autoscalers(&stage).get("shop").await.unwrap().status;
        let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "ScalingActive" && c.status == "True")
    })
    .await;
    assert_eq!(asked_for(&stage, 5).await, (2, 2));

    stage.apply(shop("shop:second")).await.unwrap();
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let second = paused.canary.unwrap().revision;
    assert_eq!(
        (pods_of(&stage, &first).await, pods_of(&stage, &second).await),
        (2, 1)
    );
    assert_eq!(
        asked_for(&stage, 8).await,
        (2, 2),
        "the canary's pod is no reason for more or fewer"
    );

    load.set(namespace, 200);
    until_replicas(&stage, 4).await;
    until("both grow", async || {
        (pods_of(&stage, &first).await, pods_of(&stage, &second).await) == (4, 2)
    })
    .await;
    until("their pods are ready", async || {
        let status = stage.service("shop").await.status.unwrap();
        (status.stable.unwrap().ready, status.canary.map(|c| c.ready)) == (4, Some(2))
    })
    .await;
    // What was measured while they started has been heard by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    until_replicas(&stage, 4).await;
    assert_eq!(asked_for(&stage, 8).await, (4, 4));

    load.set(namespace, 100);
    until_replicas(&stage, 2).await;
    assert_eq!(asked_for(&stage, 8).await, (2, 2));
    assert_eq!(pods_of(&stage, &first).await, 4, "a decrease waits for the end");

    act(&stage, json!({"action": "Promote"})).await;
    until("it bakes", async || is_baking(&stage).await).await;
    // The old revision idles beside it now.
    load.set(namespace, 130);
    let mut most = 0;
    until("it is promoted", async || {
        most = most.max(replicas(&stage).await.unwrap());
        stable(&stage.service("shop").await) == second
    })
    .await;
    assert_eq!(most, 3, "the load of one and a half pods more");
    let done = stage.until_phase("shop", Phase::Healthy).await.status.unwrap();
    assert_eq!(done.stable.unwrap().revision, second);
    until("the old one is gone", async || pods_of(&stage, &first).await == 0).await;
}

#[tokio::test]
async fn utilisation_is_followed_through_a_rollout_and_canary_pods_count_for_what_they_carry() {
    let target = json!({"type": "Utilization", "averageUtilization": 50});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    Box::pin(follows_its_metric("hpa-cpu", metric)).await;
}

#[tokio::test]
async fn a_value_is_multiplied_by_pods_that_carry_it_alone() {
    let target = json!({"type": "Value", "value": "50m"});
    let metric =
        json!({"type": "External", "external": {"metric": {"name": "work-of-a-pod"}, "target": target}});
    Box::pin(follows_its_metric("hpa-value", metric)).await;
}

/// As KEDA makes it of a ScaledObject that aims at the PythonService.
#[tokio::test]
async fn what_keda_makes_of_a_scaled_object_is_followed() {
    let name = json!({"name": "s0-work", "selector": {"matchLabels": {"scaledobject.keda.sh/name": "shop"}}});
    let target = json!({"type": "AverageValue", "averageValue": "50m"});
    let metric = json!({"type": "External", "external": {"metric": name, "target": target}});
    Box::pin(follows_its_metric("hpa-keda", metric)).await;
}

#[tokio::test]
async fn an_autoscaler_at_a_replica_set_is_named_and_takes_no_pod_from_users() {
    let load = metrics_api::load().await;
    // So little that one pod would do.
    load.set("hpa-set", 10);
    let (stage, first) = given_stable("hpa-set").await;
    let name = format!("shop-{first}");
    let target = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name});
    let work = json!({"type": "AverageValue", "averageValue": "50m"});
    let metric = json!({"type": "External", "external": {"metric": {"name": "s0-work"}, "target": work}});
    scale_by(&stage, target, metric).await;
    let message = stage
        .until_condition("shop", "Applied", "False", "ReplicasOverwritten")
        .await;
    assert!(
        message.contains("kube-controller-manager")
            && message.contains(&first)
            && message.contains("kind PythonService"),
        "{message}"
    );
    stage.until_event("shop", "ReplicasOverwritten").await;
    for _ in 0..20 {
        assert_eq!(stage.weights("shop").await, [(name.clone(), 100)]);
        let phase = stage.service("shop").await.status.unwrap().phase;
        assert!(
            matches!(phase, Some(Phase::Healthy | Phase::Progressing)),
            "{phase:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // With more pods than are wanted nobody is harmed: it is not fought at its own pace.
    load.set("hpa-set", 400);
    until("it has asked for eight", async || {
        pods_of(&stage, &first).await == 8
    })
    .await;
    let before = stage
        .sets()
        .get(&name)
        .await
        .unwrap()
        .metadata
        .generation
        .unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = stage
        .sets()
        .get(&name)
        .await
        .unwrap()
        .metadata
        .generation
        .unwrap();
    assert!(after - before <= 14, "{} writes in 20 s", after - before);
    // A rollout goes on beside it.
    stage.apply(service("shop", "shop:second")).await.unwrap();
    until("the next one is stable", async || {
        stable(&stage.service("shop").await) != first
    })
    .await;
    assert!(autoscalers(&stage).get("shop").await.unwrap().name_any() == "shop");
}

#[tokio::test]
async fn an_absent_number_has_to_be_given_once_before_an_autoscaler_can_begin() {
    metrics_api::load().await.set("hpa-absent", 100);
    let stage = given("hpa-absent").await;
    stage.apply(shop("shop:good")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(replicas(&stage).await, None, "it is never defaulted");
    let target = json!({"type": "AverageValue", "averageValue": "50m"});
    let metric = json!({"type": "External", "external": {"metric": {"name": "s0-work"}, "target": target}});
    scale_by(&stage, at_the_service(), metric).await;
    until("it says that it can't read the number", async || {
        let status = autoscalers(&stage).get("shop").await.unwrap().status;
        let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.reason.as_deref() == Some("FailedGetScale"))
    })
    .await;
    set_replicas(&stage, 1).await;
    until_replicas(&stage, 2).await;
    // Whoever applies the rest of the spec takes nothing from it.
    stage.apply(shop("shop:good")).await.unwrap();
    assert_eq!(asked_for(&stage, 3).await, (2, 2));
}

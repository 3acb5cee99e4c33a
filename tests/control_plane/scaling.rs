//! How many pods a rollout holds, and which of them count, on a real API server with its own controllers.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::people::act;
use crate::rollouts::given_stable;
use crate::support::cluster::{Stage, service, stable, until};
use crate::support::given;

fn shop(image: &str) -> Value {
    let mut shop = service("shop", image);
    shop["spec"]["replicas"] = json!(4);
    shop["spec"]["progressDeadline"] = json!("60s");
    shop["spec"]["strategy"]["canary"]["steps"] = json!([{"setWeight": 50}, {"pause": {}}]);
    shop
}

async fn pods(stage: &Stage) -> Vec<Pod> {
    stage.pods().list(&ListParams::default()).await.unwrap().items
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

fn is_of(revision: &str) -> impl Fn(&Pod) -> bool {
    move |pod| pod.labels().get("molt.dev/revision").map(String::as_str) == Some(revision)
}

async fn wanted(stage: &Stage, revision: &str) -> i32 {
    let set = stage.sets().get(&format!("shop-{revision}")).await.unwrap();
    set.spec.unwrap().replicas.unwrap()
}

async fn given_four(namespace: &str, spec: impl Fn(Value) -> Value) -> (Stage, String) {
    let stage = given(namespace).await;
    stage.apply(spec(shop("shop:good"))).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

#[tokio::test]
async fn stable_that_scales_keeps_to_a_disruption_budget_of_all_replicas() {
    let scales = |mut shop: Value| {
        shop["spec"]["strategy"]["canary"]["stableDuringCanary"] = json!("Scale");
        shop
    };
    let (stage, first) = given_four("scales", scales).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "all"},
        "spec": {"minAvailable": 4, "selector": {"matchLabels": {"molt.dev/service": "shop"}}},
    });
    budgets
        .create(&PostParams::default(), &serde_json::from_value(budget).unwrap())
        .await
        .unwrap();
    until("the budget is known", async || {
        let status = budgets.get("all").await.unwrap().status;
        status.is_some_and(|s| s.current_healthy == 4)
    })
    .await;
    let fewest = std::cell::Cell::new(i32::MAX);
    let look = async || {
        let status = budgets.get("all").await.unwrap().status.unwrap();
        fewest.set(fewest.get().min(status.current_healthy));
    };
    stage.apply(scales(shop("shop:second"))).await.unwrap();
    until("stable has what a half needs", async || {
        look().await;
        wanted(&stage, &first).await == 2
    })
    .await;
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let second = paused.canary.unwrap().revision;
    assert_eq!(wanted(&stage, &second).await, 2);
    act(&stage, json!({"action": "Promote"})).await;
    until(
        "all users are on it and one pod of the old one waits",
        async || {
            look().await;
            wanted(&stage, &first).await == 1
        },
    )
    .await;
    until("it is promoted, and the old one gone", async || {
        look().await;
        stable(&stage.service("shop").await) == second && wanted(&stage, &first).await == 0
    })
    .await;
    assert!(fewest.get() >= 4, "only {} were healthy", fewest.get());
}

#[tokio::test]
async fn a_shrunken_stable_is_back_at_full_strength_after_an_abort() {
    let scales = |mut shop: Value| {
        shop["spec"]["strategy"]["canary"]["stableDuringCanary"] = json!("Scale");
        shop
    };
    let (stage, first) = given_four("scalesback", scales).await;
    stage.apply(scales(shop("shop:second"))).await.unwrap();
    until("stable has what a half needs", async || {
        wanted(&stage, &first).await == 2
    })
    .await;
    act(&stage, json!({"action": "Abort"})).await;
    stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(wanted(&stage, &first).await, 4);
    assert!(
        stage
            .weights("shop")
            .await
            .contains(&(format!("shop-{first}"), 100))
    );
}

#[tokio::test]
async fn a_rollout_holds_no_more_pods_than_it_may() {
    let bounded = |mut shop: Value| {
        shop["spec"]["maxSurge"] = json!("25%");
        shop["spec"]["strategy"]["canary"]["steps"] =
            json!([{"setWeight": 50}, {"pause": {"duration": "1s"}}]);
        shop
    };
    let (stage, first) = given_four("surge", bounded).await;
    stage.apply(bounded(shop("shop:second"))).await.unwrap();
    let (mut most, mut fewest) = (0, usize::MAX);
    until("it is promoted", async || {
        let all = pods(&stage).await;
        most = most.max(
            all.iter()
                .filter(|p| p.metadata.deletion_timestamp.is_none())
                .count(),
        );
        fewest = fewest.min(all.iter().filter(|p| is_ready(p)).count());
        stable(&stage.service("shop").await) != first
    })
    .await;
    assert!(most <= 5, "{most} pods");
    assert!(fewest >= 4, "only {fewest} were ready");
}

#[tokio::test]
async fn a_pod_counts_after_min_ready_seconds_and_no_pod_is_restarted_for_a_new_value() {
    let (stage, first) = given_stable("minready").await;
    let before: BTreeSet<_> = pods(&stage).await.iter().filter_map(ResourceExt::uid).collect();
    let patient = |image: &str| {
        let mut patient = service("shop", image);
        patient["spec"]["minReadySeconds"] = json!(6);
        patient["spec"]["progressDeadline"] = json!("60s");
        patient
    };
    stage.apply(patient("shop:good")).await.unwrap();
    let set = format!("shop-{first}");
    until("the ReplicaSet knows", async || {
        stage
            .sets()
            .get(&set)
            .await
            .unwrap()
            .spec
            .unwrap()
            .min_ready_seconds
            == Some(6)
    })
    .await;
    let now: BTreeSet<_> = pods(&stage).await.iter().filter_map(ResourceExt::uid).collect();
    assert_eq!(
        (now, stable(&stage.service("shop").await)),
        (before, first.clone())
    );

    stage.apply(patient("shop:second")).await.unwrap();
    until("a pod of the next one is ready", async || {
        pods(&stage)
            .await
            .iter()
            .any(|p| is_ready(p) && !is_of(&first)(p))
    })
    .await;
    let since = std::time::Instant::now();
    until("it is told what is waited for", async || {
        let message = stage.service("shop").await.status.unwrap().message.unwrap();
        message.contains("1 more not for spec.minReadySeconds yet")
    })
    .await;
    until("users are on it", async || {
        let canary = stage.service("shop").await.status.and_then(|s| s.canary);
        canary.is_some_and(|c| c.weight > 0)
    })
    .await;
    assert!(since.elapsed() >= Duration::from_secs(4), "{:?}", since.elapsed());
    until("it is promoted", async || {
        stable(&stage.service("shop").await) != first
    })
    .await;
}

/// What a kubelet says of a pod after its node has been away: the container runs again, and nobody knows how it ended.
async fn node_was_away(stage: &Stage, pod: &Pod) {
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    let now = jiff::Timestamp::now();
    let status = json!({"status": {"containerStatuses": [{
        "name": container.name, "image": container.image, "imageID": "", "ready": true, "restartCount": 1,
        "state": {"running": {"startedAt": now}},
        "lastState": {"terminated": {
            "exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": now, "finishedAt": now,
            "message": "The container could not be located when the pod was terminated",
        }},
    }]}});
    stage
        .pods()
        .patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(status),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_node_that_was_lost_is_no_crash_of_the_revision() {
    let (stage, first) = given_four("nodeloss", |shop| shop).await;
    stage.apply(shop("shop:second")).await.unwrap();
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let second = paused.canary.unwrap().revision;
    for pod in pods(&stage).await.iter().filter(|p| is_of(&second)(p)) {
        node_was_away(&stage, pod).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Then the node is gone, and all of its pods with it: they are evicted, and fail.
    let gone = pods(&stage)
        .await
        .into_iter()
        .find(|p| is_of(&second)(p))
        .unwrap();
    let evicted = json!({"status": {
        "phase": "Failed", "reason": "NodeLost",
        "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager", "lastTransitionTime": jiff::Timestamp::now()},
            {"type": "Ready", "status": "False", "lastTransitionTime": jiff::Timestamp::now()},
        ],
    }});
    stage
        .pods()
        .patch_status(
            &gone.name_any(),
            &PatchParams::default(),
            &Patch::Strategic(evicted),
        )
        .await
        .unwrap();
    until("there is another pod in its place", async || {
        let ready = |p: &&Pod| is_of(&second)(p) && is_ready(p) && p.name_any() != gone.name_any();
        pods(&stage).await.iter().filter(ready).count() == 2
    })
    .await;
    until("the canary has its weight again", async || {
        stage
            .weights("shop")
            .await
            .contains(&(format!("shop-{second}"), 50))
    })
    .await;
    assert_eq!(stable(&stage.service("shop").await), first);
    act(&stage, json!({"action": "Promote"})).await;
    until("it is promoted", async || {
        stable(&stage.service("shop").await) == second
    })
    .await;
}

#[tokio::test]
async fn revisions_can_be_kept_apart_by_the_template_alone() {
    let apart = |mut shop: Value| {
        let term = |key: &str| {
            json!({
                "labelSelector": {"matchLabels": {"molt.dev/service": "shop"}},
                key: ["molt.dev/revision"], "topologyKey": "kubernetes.io/hostname",
            })
        };
        shop["spec"]["template"]["spec"]["affinity"] = json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term("mismatchLabelKeys")],
        }});
        shop["spec"]["template"]["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"molt.dev/service": "shop"}}, "matchLabelKeys": ["molt.dev/revision"],
        }]);
        shop
    };
    let (stage, first) = given_four("apart", apart).await;
    let pod = pods(&stage).await.into_iter().find(|p| is_of(&first)(p)).unwrap();
    let spec = json!(pod.spec.unwrap());
    let term = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        term["labelSelector"]["matchExpressions"],
        json!([{"key": "molt.dev/revision", "operator": "NotIn", "values": [first]}]),
        "{term}"
    );
    assert_eq!(
        spec["topologySpreadConstraints"][0]["matchLabelKeys"],
        json!(["molt.dev/revision"])
    );
}

//! Who else is led to a revision than by a Gateway: callers inside the cluster, and users who stay where they are.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::rollouts::{given_stable, until_exposed};
use crate::support::cluster::{install_experimental, kubectl_molt, service, stable, until};
use crate::support::{Stage, given};

fn with(image: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = service("shop", image);
    change(&mut object["spec"]);
    object
}

/// A weight, and then a person.
fn waits_at(spec: &mut Value, weight: u32) {
    spec["strategy"]["canary"]["steps"] = json!([{"setWeight": weight}, {"pause": {}}]);
}

async fn selector(stage: &Stage) -> Value {
    let service = stage.core_services().get("shop").await.unwrap();
    json!(service.spec.unwrap().selector)
}

fn of_one(revision: &str) -> Value {
    json!({"molt.dev/service": "shop", "molt.dev/revision": revision})
}

async fn route(stage: &Stage) -> Value {
    stage.routes().get("shop").await.unwrap().data["spec"].clone()
}

#[tokio::test]
async fn callers_inside_the_cluster_meet_both_by_their_pods_and_go_home_with_the_users() {
    let (stage, first) = given_stable("inside").await;
    assert_eq!(selector(&stage).await, of_one(&first));
    let shared = |image: &str| {
        with(image, |spec| {
            spec["traffic"]["inCluster"] = json!("ReplicaShare");
            waits_at(spec, 50);
        })
    };
    stage.apply(shared("shop:second")).await.unwrap();
    until_exposed(&stage, 50).await;
    until("the Service leads to both", async || {
        selector(&stage).await == json!({"molt.dev/service": "shop"})
    })
    .await;
    let paused = stage.until_phase("shop", Phase::Paused).await;
    let message = paused.status.unwrap().message.unwrap_or_default();
    assert!(
        message.contains("callers inside the cluster meet it at 1 of 3 pods"),
        "{message}"
    );
    kubectl_molt(&stage.namespace, &["abort", "shop"]).await;
    stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(selector(&stage).await, of_one(&first));

    // Turned off in the middle of the next.
    stage.apply(shared("shop:third")).await.unwrap();
    until("the Service leads to both again", async || {
        selector(&stage).await == json!({"molt.dev/service": "shop"})
    })
    .await;
    stage
        .apply(with("shop:third", |spec| waits_at(spec, 50)))
        .await
        .unwrap();
    until("it leads to stable", async || {
        selector(&stage).await == of_one(&first)
    })
    .await;
    kubectl_molt(&stage.namespace, &["promote", "shop"]).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(selector(&stage).await, of_one(&stable(&done)));
}

#[tokio::test]
async fn a_mesh_goes_by_the_same_route_as_the_gateway() {
    let stage = given("mesh").await;
    let meshed = |image: &str| with(image, |spec| spec["traffic"]["inCluster"] = json!("Mesh"));
    stage.apply(meshed("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let parents = route(&stage).await["parentRefs"].clone();
    assert_eq!(parents[0]["name"], "public");
    assert_eq!(
        (&parents[1]["group"], &parents[1]["kind"], &parents[1]["name"]),
        (&json!(""), &json!("Service"), &json!("shop"))
    );
    stage.apply(meshed("shop:second")).await.unwrap();
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(first, second);

    // Without a Gateway: callers in the mesh alone.
    let alone = with("shop:second", |spec| {
        spec["traffic"] = json!({"gatewayAPI": {"parentRefs": [{"kind": "Service", "name": "shop"}]}});
    });
    stage.apply(alone).await.unwrap();
    until("the Service is its only parent", async || {
        let parents = route(&stage).await["parentRefs"].clone();
        parents.as_array().is_some_and(|all| all.len() == 1) && parents[0]["kind"] == "Service"
    })
    .await;
    stage.until_phase("shop", Phase::Healthy).await;
}

#[tokio::test]
async fn a_weight_counts_once_the_mesh_has_it_too() {
    let (stage, first) = given_stable("meshless").await;
    let meshed = with("shop:second", |spec| spec["traffic"]["inCluster"] = json!("Mesh"));
    stage.apply(meshed).await.unwrap();
    until_exposed(&stage, 10).await;
    let message = stage
        .until_condition("shop", "RouteReady", "False", "RouteNotAcknowledged")
        .await;
    assert!(
        message.contains("Service meshless/shop: is there a mesh"),
        "{message}"
    );
    let back = stage.until_phase("shop", Phase::RollingBack).await;
    assert_eq!(stable(&back), first);
    let weight = back.status.unwrap().canary.map_or(0, |canary| canary.weight);
    assert!(weight <= 10, "nothing went on: {weight} %");
    // Once the Service is no parent any more, the gateway's word is enough.
    stage.apply(service("shop", "shop:good")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
}

#[tokio::test]
async fn users_stay_on_a_revision_as_soon_as_the_cluster_can_keep_them_there() {
    let stage = given("sticky").await;
    let sticky = |image: &str| {
        with(image, |spec| {
            spec["traffic"]["gatewayAPI"]["sessionAffinity"] = json!({"cookieName": "molt", "maxAge": "1h"});
            waits_at(spec, 50);
        })
    };
    stage.apply(sticky("shop:good")).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SessionAffinityUnsupported")
        .await;
    assert!(
        message.starts_with("spec.traffic.gatewayAPI.sessionAffinity: ") && message.contains("experimental"),
        "{message}"
    );
    stage.until_event("shop", "SessionAffinityUnsupported").await;
    assert!(stage.routes().get_opt("shop").await.unwrap().is_none());

    install_experimental(&stage.client).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let persistence = route(&stage).await["rules"][0]["sessionPersistence"].clone();
    assert_eq!(
        persistence,
        json!({
            "sessionName": "molt", "type": "Cookie", "absoluteTimeout": "1h",
            "cookieConfig": {"lifetimeType": "Permanent"},
        })
    );
    stage.apply(sticky("shop:second")).await.unwrap();
    until_exposed(&stage, 50).await;
    stage.until_phase("shop", Phase::Paused).await;
    kubectl_molt(&stage.namespace, &["abort", "shop"]).await;
    stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(
        stage.weights("shop").await,
        [(format!("shop-{first}"), 100)],
        "sessions on the canary have nowhere to stay"
    );
    let writes = stage.routes().get("shop").await.unwrap().metadata.generation;
    // Taken out of the spec it goes out of the route.
    stage.apply(service("shop", "shop:second")).await.unwrap();
    until("the route keeps nobody any more", async || {
        route(&stage).await["rules"][0]["sessionPersistence"].is_null()
    })
    .await;
    let after = stage.routes().get("shop").await.unwrap().metadata.generation;
    assert_eq!(after, writes.map(|n| n + 1), "it took one write");
}

#[tokio::test]
async fn what_a_hand_writes_in_molts_route_is_put_back_and_told_once_for_each_change() {
    let (stage, first) = given_stable("handwritten").await;
    let made = route(&stage).await;
    let edit = async |manager: &str, patch: Value| {
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        stage
            .routes()
            .patch("shop", &params, &Patch::Merge(patch))
            .await
            .unwrap();
        until("it is put back", async || route(&stage).await == made).await;
    };
    edit(
        "kubectl-edit",
        json!({"spec": {"hostnames": ["elsewhere.example.com"]}}),
    )
    .await;
    stage.until_event("shop", "RoutePutBack").await;
    let nowhere = json!({"spec": {"rules": [{"backendRefs": [{"name": "elsewhere", "port": 1}]}]}});
    edit("kubectl-patch", nowhere).await;
    until("the second is told", async || {
        stage.event_count("shop", "RoutePutBack").await == 2
    })
    .await;
    // Molt's own changes are nobody's edits.
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    assert_eq!(stage.event_count("shop", "RoutePutBack").await, 2);
}

#[tokio::test]
async fn marks_of_ones_own_come_onto_the_services_and_go_again() {
    let (stage, first) = given_stable("marks").await;
    let marked = |marks: Value| {
        let mut object = service("shop", "shop:good");
        object["spec"]["serviceMetadata"] = marks;
        object
    };
    let read = async |name: &str| {
        let found = stage.core_services().get(name).await.unwrap();
        (found.labels().clone(), found.annotations().clone())
    };
    let routed = format!("shop-{first}");
    stage
        .apply(marked(json!({
            "inCluster": {"labels": {"scrape": "yes"}, "annotations": {"a.example/one": "1", "a.example/two": "2"}},
            "routed": {"annotations": {"a.example/three": "3"}},
        })))
        .await
        .unwrap();
    until("the marks are there", async || {
        let (called, behind) = (read("shop").await, read(&routed).await);
        called.0.get("scrape").is_some_and(|v| v == "yes")
            && called.1.get("a.example/two").is_some_and(|v| v == "2")
            && !behind.0.contains_key("scrape")
            && behind.1.get("a.example/three").is_some_and(|v| v == "3")
    })
    .await;
    // Somebody else's stays; what is no longer asked for goes.
    let params = PatchParams::default();
    let theirs = json!({"metadata": {"annotations": {"b.example/theirs": "x"}}});
    stage
        .core_services()
        .patch("shop", &params, &Patch::Merge(theirs))
        .await
        .unwrap();
    stage
        .apply(marked(
            json!({"inCluster": {"annotations": {"a.example/one": "1"}}}),
        ))
        .await
        .unwrap();
    until("what is not asked for is gone", async || {
        let (called, behind) = (read("shop").await, read(&routed).await);
        !called.0.contains_key("scrape")
            && called.1.contains_key("a.example/one")
            && !called.1.contains_key("a.example/two")
            && called.1.contains_key("b.example/theirs")
            && behind.1.is_empty()
    })
    .await;
    // They are no part of the revision, and Molt's own are not the user's to set.
    let now = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&now), first);
    let refused = stage
        .apply(marked(json!({"routed": {"labels": {"molt.dev/revision": "x"}}})))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("are set by Molt"), "{refused}");
    stage
        .apply(marked(json!({"routed": {"labels": {"team": "a b"}}})))
        .await
        .unwrap();
    let told = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(
        told.starts_with("spec.serviceMetadata.routed.labels[team]: \"a b\" is no value of a label"),
        "{told}"
    );
}

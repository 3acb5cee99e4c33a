//! Traffic that Istio divides: its own CRD on a real API server, istiod played where it says anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use kube::api::{Patch, PatchParams, PostParams};
use molt::api::v1alpha1::{Phase, RolloutAction};
use molt_core::state::Outcome;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::cluster::{ENDPOINTS_COME, service, stable, until};
use crate::support::{Stage, given, istio};

/// All scenarios share one API server, so whoever is first looks at it without the CRD.
async fn installed() {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_init(missing_at_first).await;
}

async fn missing_at_first() {
    let stage = given("noistio").await;
    stage.apply(owned("shop:good")).await.unwrap();
    let message = stage
        .until_condition("shop", "RouteReady", "False", "IstioMissing")
        .await;
    assert!(message.contains("install Istio"), "{message}");
    stage.until_event("shop", "IstioMissing").await;
    istio::install(&stage.client).await;
    stage.until_phase("shop", Phase::Healthy).await;
}

fn with(image: &str, traffic: &Value) -> Value {
    let mut object = service("shop", image);
    object["spec"]["traffic"] = json!({"istio": traffic});
    object
}

fn owned(image: &str) -> Value {
    with(
        image,
        &json!({"hosts": ["shop.example.com"], "gateways": ["istio-ingress/public"], "propagationDelay": "1s"}),
    )
}

fn users(image: &str) -> Value {
    let mut object = with(
        image,
        &json!({"virtualServiceRef": {"name": "front"}, "propagationDelay": "1s"}),
    );
    object["spec"]["progressDeadline"] = json!(ENDPOINTS_COME);
    object
}

async fn spec(stage: &Stage, name: &str) -> Value {
    let api = istio::virtual_services(stage.client.clone(), &stage.namespace);
    api.get(name).await.expect("it exists").data["spec"].clone()
}

async fn weights(stage: &Stage, name: &str) -> Vec<(String, i64)> {
    istio::backends(&json!({"spec": spec(stage, name).await}))
}

/// One of the user's with more in it than Molt knows.
fn front() -> Value {
    let share = |host: &str, weight: u32| json!({"destination": {"host": host, "port": {"number": 8000}}, "weight": weight});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "front"},
        "spec": {
            "hosts": ["shop.example.com"], "gateways": ["istio-ingress/public", "mesh"],
            "http": [
                {"match": [{"uri": {"prefix": "/static"}}], "route": [{"destination": {"host": "static"}}]},
                {
                    "name": "primary", "timeout": "5s", "retries": {"attempts": 2},
                    "route": [share("shop-stable", 100), share("shop-canary", 0)],
                },
            ],
        },
    })
}

async fn write_front(stage: &Stage, manager: &str) {
    let mut front = front();
    let host = format!("shop-canary.{}.svc.cluster.local", stage.namespace);
    front["spec"]["http"][1]["route"][1]["destination"]["host"] = json!(host);
    let api = istio::virtual_services(stage.client.clone(), &stage.namespace);
    let params = PatchParams::apply(manager).force();
    api.patch("front", &params, &Patch::Apply(front)).await.unwrap();
}

async fn patch(stage: &Stage, name: &str, manager: &str, operations: Value) {
    let patch: json_patch::Patch = serde_json::from_value(operations).unwrap();
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    istio::virtual_services(stage.client.clone(), &stage.namespace)
        .patch(name, &params, &Patch::<Value>::Json(patch))
        .await
        .unwrap();
}

async fn until_weight(stage: &Stage) {
    until("the canary has weight", async || {
        let status = stage.service("shop").await.status.unwrap_or_default();
        status.canary.is_some_and(|canary| canary.weight > 0)
    })
    .await;
}

#[tokio::test]
async fn without_istio_it_is_said_and_istio_is_found_without_a_restart() {
    installed().await;
}

#[tokio::test]
async fn a_good_revision_is_promoted_and_a_bad_one_taken_back() {
    installed().await;
    let stage = given("virtual").await;
    stage.apply(owned("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let made = spec(&stage, "shop").await;
    assert_eq!(made["hosts"], json!(["shop.example.com"]));
    assert_eq!(made["gateways"], json!(["istio-ingress/public"]));
    assert_eq!(weights(&stage, "shop").await, [(format!("shop-{first}"), 100)]);

    stage.apply(owned("shop:second")).await.unwrap();
    until_weight(&stage).await;
    let shares = weights(&stage, "shop").await;
    assert_eq!(shares.iter().map(|(_, weight)| weight).sum::<i64>(), 100);
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(second, first);
    assert_eq!(weights(&stage, "shop").await, [(format!("shop-{second}"), 100)]);

    stage.apply(owned("shop:bad")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!((last.outcome, last.max_weight), (Outcome::RolledBack, 10));
    until("the canary is out of the VirtualService", async || {
        weights(&stage, "shop").await == [(format!("shop-{second}"), 100)]
    })
    .await;
}

#[tokio::test]
async fn testers_and_copies_have_rules_before_the_one_for_all_and_what_is_added_by_hand_goes() {
    installed().await;
    let stage = given("virtualtesters").await;
    stage.apply(owned("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let mut next = owned("shop:second");
    next["spec"]["strategy"]["canary"]["steps"] = json!([
        {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "X-Canary", "exact": "1"}, {"cookieName": "beta", "exact": "yes"}]}},
        {"setMirror": {"percent": 20}},
        {"pause": {}},
        {"setWeight": 50},
    ]);
    stage.apply(next).await.unwrap();
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let canary = format!("shop-{}", paused.canary.unwrap().revision);
    let rules = |spec: &Value| spec["http"].as_array().unwrap().clone();
    let made = spec(&stage, "shop").await;
    let [testers, copies, users] = rules(&made).try_into().expect("three rules");
    assert_eq!(testers["match"][0]["headers"]["x-canary"], json!({"exact": "1"}));
    assert_eq!(
        testers["match"][0]["headers"]["cookie"],
        json!({"regex": "(.*; *)?beta=yes(;.*)?"})
    );
    assert_eq!(testers["route"][0]["destination"]["host"], canary);
    assert_eq!(
        (&copies["mirror"]["host"], &copies["mirrorPercentage"]["value"]),
        (&json!(canary), &json!(20))
    );
    assert_eq!(copies["match"][0], json!({"method": {"exact": "GET"}}));
    assert_eq!(copies["route"], users["route"], "users are answered as before");
    assert_eq!(users["route"][0]["destination"]["host"], format!("shop-{first}"));

    let fault = json!({"abort": {"httpStatus": 503, "percentage": {"value": 100}}});
    let added = json!([{"op": "add", "path": "/spec/http/2/fault", "value": fault}, {"op": "remove", "path": "/spec/http/0"}]);
    patch(&stage, "shop", "kubectl-edit", added).await;
    until("it is put right", async || spec(&stage, "shop").await == made).await;

    let promote = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": "shop-"},
        "spec": {"service": "shop", "action": "Promote", "requestedBy": "oncall"},
    });
    let promote: RolloutAction = serde_json::from_value(promote).unwrap();
    stage
        .actions()
        .create(&PostParams::default(), &promote)
        .await
        .unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(format!("shop-{}", stable(&done)), canary);
    assert_eq!(rules(&spec(&stage, "shop").await).len(), 1);
}

#[tokio::test]
async fn of_a_users_only_the_weights_change_and_they_return_to_stable() {
    installed().await;
    let stage = given("virtualown").await;
    write_front(&stage, "person").await;
    stage.apply(users("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let before = spec(&stage, "front").await;
    stage.apply(users("shop:second")).await.unwrap();
    until_weight(&stage).await;
    let shares: Vec<i64> = weights(&stage, "front").await.iter().map(|(_, w)| *w).collect();
    assert_eq!(shares.iter().sum::<i64>(), 100);
    assert_ne!(stable(&stage.until_phase("shop", Phase::Healthy).await), first);
    assert_eq!(spec(&stage, "front").await, before);
}

#[tokio::test]
async fn a_hand_that_takes_the_weight_away_aborts() {
    installed().await;
    let stage = given("virtualhand").await;
    write_front(&stage, "person").await;
    stage.apply(users("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let mut next = users("shop:second");
    next["spec"]["strategy"]["canary"]["steps"] = json!([{"setWeight": 50}, {"pause": {}}]);
    stage.apply(next).await.unwrap();
    stage.until_phase("shop", Phase::Paused).await;
    let weights = json!([
        {"op": "add", "path": "/spec/http/1/route/0/weight", "value": 100},
        {"op": "add", "path": "/spec/http/1/route/1/weight", "value": 0},
    ]);
    patch(&stage, "front", "kubectl-edit", weights).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::Aborted, "WeightLowered")
    );
}

#[tokio::test]
async fn another_applier_is_named_with_its_setting_and_overruled() {
    installed().await;
    let stage = given("virtualrival").await;
    write_front(&stage, "argocd-controller").await;
    stage.apply(users("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let mut next = users("shop:second");
    next["spec"]["progressDeadline"] = json!("2m");
    stage.apply(next).await.unwrap();
    for time in 1..=2 {
        until_weight(&stage).await;
        write_front(&stage, "argocd-controller").await;
        until("the weights are back", async || {
            let status = stage.service("shop").await.status.unwrap_or_default();
            let rival = status.state.and_then(|s| s.rival);
            rival.is_some_and(|r| r.times >= time)
        })
        .await;
    }
    let message = stage
        .until_condition("shop", "RouteReady", "False", "WeightsWrittenBack")
        .await;
    for word in [
        "argocd-controller",
        "group: networking.istio.io, kind: VirtualService, name: front",
        "'.spec.http[].route[].weight'",
        "spec.traffic.istio.hosts instead of virtualServiceRef",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first, "it has been overruled");
}

#[tokio::test]
async fn what_istiod_says_counts_before_any_delay() {
    installed().await;
    let stage = given("virtualtold").await;
    let have = Arc::new(AtomicU8::new(10));
    let told = have.clone();
    let reported = istio::report(stage.client.clone(), stage.namespace.clone(), move || {
        told.load(Ordering::Relaxed)
    });
    tokio::spawn(reported);
    // By the delay alone nothing would be done within the deadline.
    let slow = |image| {
        let mut object = owned(image);
        object["spec"]["traffic"]["istio"]["propagationDelay"] = json!("9m");
        object["spec"]["progressDeadline"] = json!("10m");
        object
    };
    let began = Instant::now();
    stage.apply(slow("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert!(began.elapsed().as_secs() < 60);

    have.store(6, Ordering::Relaxed);
    stage.apply(slow("shop:second")).await.unwrap();
    let message = stage
        .until_condition("shop", "RouteReady", "False", "RouteNotAcknowledged")
        .await;
    assert!(message.contains("6/10 proxies up to date"), "{message}");
    let status = stage.service("shop").await.status.unwrap();
    assert_eq!(
        status.state.unwrap().attempt.unwrap().step,
        0,
        "it waits at its first weight"
    );
    have.store(10, Ordering::Relaxed);
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
}

#[tokio::test]
async fn what_istio_cannot_be_asked_for_is_refused_at_the_door() {
    installed().await;
    let stage = given("virtualrefused").await;
    stage.apply(owned("shop:good")).await.unwrap();
    for (traffic, message) in [
        (json!({"istio": {}}), "set exactly one of hosts"),
        (
            json!({"istio": {"hosts": ["a"], "virtualServiceRef": {"name": "b"}}}),
            "set exactly one of hosts",
        ),
        (
            json!({"istio": {"virtualServiceRef": {"name": "b"}, "gateways": ["c/d"]}}),
            "gateways belong to a VirtualService that Molt owns",
        ),
        (
            json!({"istio": {"hosts": ["*"]}}),
            "the host * can't be asked for inside the mesh",
        ),
        (
            json!({"istio": {"hosts": ["a"]}, "none": {}}),
            "set exactly one of gatewayAPI",
        ),
    ] {
        let mut object = owned("shop:good");
        object["metadata"]["name"] = json!("other");
        object["spec"]["traffic"] = traffic;
        let refused = stage.apply(object).await.expect_err(message).to_string();
        assert!(refused.contains(message), "{message} is not in: {refused}");
    }
    let mut moved = owned("shop:good");
    moved["spec"]["traffic"] = json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}});
    let refused = stage.apply(moved).await.expect_err("it may not move").to_string();
    assert!(
        refused.contains("can't change between gatewayAPI, istio and none"),
        "{refused}"
    );
}

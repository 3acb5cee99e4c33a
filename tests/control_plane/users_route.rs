//! A route of the user's: Molt changes weights, and nothing else.

use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{ENDPOINTS_COME, service, stable, until};
use crate::support::{Stage, given};

fn own_route(name: &str) -> Value {
    let mut object = service(name, "shop:good");
    object["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}});
    object["spec"]["progressDeadline"] = json!(ENDPOINTS_COME);
    object
}

fn rule(backends: &[(&str, Option<u32>)]) -> Value {
    let backends: Vec<Value> = backends
        .iter()
        .map(|(name, weight)| {
            let mut backend = json!({"name": name, "port": 8000});
            if let Some(weight) = weight {
                backend["weight"] = json!(weight);
            }
            backend
        })
        .collect();
    json!({"matches": [{"path": {"type": "PathPrefix", "value": "/shop"}}], "backendRefs": backends})
}

async fn write_route(stage: &Stage, rules: Value) {
    write_route_as(stage, "person", rules).await;
}

async fn write_route_as(stage: &Stage, manager: &str, rules: Value) {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "front"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": rules}
    });
    stage
        .routes()
        .patch(
            "front",
            &PatchParams::apply(manager).force(),
            &Patch::Apply(route),
        )
        .await
        .expect("the route is valid");
}

#[tokio::test]
async fn only_the_weights_change_and_they_return_to_stable() {
    let stage = given("own").await;
    write_route(
        &stage,
        json!([
            rule(&[("shop-stable", Some(100)), ("shop-canary", Some(0))]),
            rule(&[("other", Some(1))])
        ]),
    )
    .await;
    stage.apply(own_route("shop")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let before = stage.routes().get("front").await.unwrap().data["spec"].clone();

    let mut next = own_route("shop");
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(next).await.unwrap();
    until("the canary has weight", async || {
        stage
            .weights("front")
            .await
            .iter()
            .any(|(name, w)| name == "shop-canary" && *w > 0)
    })
    .await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    assert_eq!(stage.routes().get("front").await.unwrap().data["spec"], before);
}

#[tokio::test]
async fn one_who_writes_the_weights_back_is_named_once_and_overruled() {
    let stage = given("rival").await;
    let rules = json!([rule(&[("shop-stable", Some(100)), ("shop-canary", Some(0))])]);
    write_route(&stage, rules.clone()).await;
    stage.apply(own_route("shop")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);

    let mut next = own_route("shop");
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(next).await.unwrap();
    for time in 1..=3 {
        until(&format!("the canary has weight, time {time}"), async || {
            let status = stage.service("shop").await.status.unwrap_or_default();
            status.canary.is_some_and(|c| c.weight > 0)
        })
        .await;
        write_route_as(&stage, "argocd-controller", rules.clone()).await;
        until("the weights are back", async || {
            let status = stage.service("shop").await.status.unwrap_or_default();
            status
                .state
                .and_then(|s| s.rival)
                .is_some_and(|r| r.times >= time)
        })
        .await;
    }
    let message = stage
        .until_condition("shop", "RouteReady", "False", "WeightsWrittenBack")
        .await;
    for word in [
        "argocd-controller",
        "RespectIgnoreDifferences=true",
        "jqPathExpressions: ['.spec.rules[].backendRefs[].weight']",
        "parentRefs instead of httpRouteRef",
    ] {
        assert!(message.contains(word), "{message}");
    }
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first, "it has been overruled");
    stage.until_event("shop", "WeightsWrittenBack").await;
    assert_eq!(
        stage.event_count("shop", "WeightsWrittenBack").await,
        1,
        "one episode, one event"
    );
}

#[tokio::test]
async fn a_route_that_is_missing_or_names_others_is_said_and_healed_when_corrected() {
    let stage = given("wrong").await;
    stage.apply(own_route("shop")).await.unwrap();
    let message = stage
        .until_condition("shop", "RouteReady", "False", "RouteNotFound")
        .await;
    assert!(message.contains("front"), "{message}");
    stage.until_event("shop", "RouteNotFound").await;
    write_route(&stage, json!([rule(&[("shop", Some(1))])])).await;
    let message = stage
        .until_condition("shop", "RouteReady", "False", "RouteBackendsMismatch")
        .await;
    assert!(
        message.contains("shop-stable") && message.contains("shop-canary"),
        "{message}"
    );
    write_route(
        &stage,
        json!([rule(&[("shop-stable", Some(100)), ("shop-canary", Some(0))])]),
    )
    .await;
    stage.until_phase("shop", Phase::Healthy).await;
}

#[tokio::test]
async fn two_services_that_claim_one_rule_are_both_told() {
    let stage = given("claims").await;
    let rules = rule(&[
        ("shop-stable", Some(50)),
        ("shop-canary", Some(0)),
        ("cart-stable", Some(50)),
        ("cart-canary", Some(0)),
    ]);
    write_route(&stage, json!([rules])).await;
    stage.apply(own_route("shop")).await.unwrap();
    stage.apply(own_route("cart")).await.unwrap();
    for (name, other) in [("shop", "cart"), ("cart", "shop")] {
        let message = stage
            .until_condition(name, "RouteReady", "False", "RouteConflict")
            .await;
        assert!(message.contains(other), "{message}");
    }
    let untouched = stage.weights("front").await;
    assert_eq!(
        untouched.iter().map(|(_, w)| *w).collect::<Vec<_>>(),
        [50, 0, 50, 0]
    );
}

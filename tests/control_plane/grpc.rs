//! gRPC: a GRPCRoute of Molt's or the user's, by the Gateway API's own CRD.

use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{ENDPOINTS_COME, service, stable, until};
use crate::support::{Stage, gateway, given};

fn grpc(image: &str, traffic: &Value) -> Value {
    let mut object = service("shop", image);
    object["spec"]["protocol"] = json!("GRPC");
    object["spec"]["progressDeadline"] = json!(ENDPOINTS_COME);
    object["spec"]["traffic"] = json!({"gatewayAPI": traffic});
    // The names of this counter are those that the fake Prometheus has.
    object["spec"]["slos"][0]["sli"] = json!({"counters": {
        "bad": "http_requests_total{status=\"5xx\"}", "total": "http_requests_total",
    }});
    object
}

fn owned(image: &str) -> Value {
    grpc(
        image,
        &json!({"parentRefs": [{"name": "public"}], "hostnames": ["grpc.example.com"]}),
    )
}

async fn spec(stage: &Stage, name: &str) -> Value {
    let api = gateway::grpc_routes(stage.client.clone(), &stage.namespace);
    api.get(name).await.expect("it exists").data["spec"].clone()
}

async fn weights(stage: &Stage, name: &str) -> Vec<(String, i64)> {
    gateway::backends(&json!({"spec": spec(stage, name).await}))
}

#[tokio::test]
async fn a_grpc_route_is_made_and_testers_come_before_a_good_revision_is_promoted() {
    let stage = given("grpc").await;
    stage.apply(owned("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_eq!(weights(&stage, "shop").await, [(format!("shop-{first}"), 100)]);
    assert_eq!(
        spec(&stage, "shop").await["hostnames"],
        json!(["grpc.example.com"])
    );
    let port = stage.core_services().get(&format!("shop-{first}")).await.unwrap();
    let port = port.spec.unwrap().ports.unwrap().remove(0);
    assert_eq!(port.app_protocol.as_deref(), Some("kubernetes.io/h2c"));
    assert!(
        stage.routes().get_opt("shop").await.unwrap().is_none(),
        "there is one route"
    );

    let mut next = owned("shop:second");
    next["spec"]["strategy"]["canary"]["steps"] = json!([
        {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "x-canary", "exact": "1"}]}},
        {"setWeight": 50}, {"pause": {"duration": "2s"}},
    ]);
    stage.apply(next).await.unwrap();
    until("testers meet it", async || {
        let rules = spec(&stage, "shop").await["rules"].clone();
        rules[1]["matches"][0]["headers"][0]["name"] == "x-canary"
    })
    .await;
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(second, first);
    assert_eq!(weights(&stage, "shop").await, [(format!("shop-{second}"), 100)]);

    stage.apply(owned("shop:bad")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
}

#[tokio::test]
async fn of_a_users_grpc_route_only_the_weights_change() {
    let stage = given("grpcown").await;
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 8000, "weight": weight});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": {"name": "front"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{
            "matches": [{"method": {"service": "shop.Checkout"}}],
            "backendRefs": [backend("shop-stable", 100), backend("shop-canary", 0)],
        }]},
    });
    let own = |image| grpc(image, &json!({"grpcRouteRef": {"name": "front"}}));
    stage.apply(own("shop:good")).await.unwrap();
    let message = stage
        .until_condition("shop", "RouteReady", "False", "RouteNotFound")
        .await;
    assert!(message.contains("GRPCRoute front does not exist"), "{message}");
    gateway::grpc_routes(stage.client.clone(), &stage.namespace)
        .patch("front", &PatchParams::apply("person"), &Patch::Apply(route))
        .await
        .unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let before = spec(&stage, "front").await;
    stage.apply(own("shop:second")).await.unwrap();
    until("the canary has weight", async || {
        weights(&stage, "front").await[1].1 > 0
    })
    .await;
    assert_ne!(stable(&stage.until_phase("shop", Phase::Healthy).await), first);
    assert_eq!(spec(&stage, "front").await, before);

    let mut changed = own("shop:second");
    changed["spec"]["protocol"] = json!("HTTP");
    let refused = stage.apply(changed).await.unwrap_err().to_string();
    assert!(refused.contains("spec.protocol: can't change"), "{refused}");
}

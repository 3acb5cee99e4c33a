//! Acknowledges routes as a Gateway's controller would, and a mesh's but in namespaces whose name ends with `meshless`.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

pub fn routes(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &route_kind())
}

/// The Gateway API's HTTPRoute.
pub fn route_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"),
        "httproutes",
    )
}

/// The backends of the first rule, with their weights.
pub fn backends(route: &Value) -> Vec<(String, i64)> {
    let backends = route["spec"]["rules"][0]["backendRefs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    backends
        .iter()
        .map(|b| {
            (
                b["name"].as_str().unwrap_or_default().to_owned(),
                b["weight"].as_i64().unwrap_or(1),
            )
        })
        .collect()
}

/// What the other rules send to a backend, as parts of all requests: one in twenty has the headers of a rule.
pub fn previews(route: &Value) -> Vec<(String, f64)> {
    let rules = route["spec"]["rules"].as_array().cloned().unwrap_or_default();
    let name = |backend: &Value| backend["name"].as_str().unwrap_or_default().to_owned();
    rules
        .iter()
        .skip(1)
        .map(|rule| {
            let mirror = &rule["filters"][0]["requestMirror"];
            match mirror["percent"].as_f64() {
                Some(percent) => (name(&mirror["backendRef"]), percent / 100.0),
                None => (name(&rule["backendRefs"][0]), 0.05),
            }
        })
        .collect()
}

/// GRPCRoutes, which are made like HTTPRoutes.
pub fn grpc_routes(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "GRPCRoute");
    let kind = ApiResource::from_gvk_with_plural(&kind, "grpcroutes");
    Api::namespaced_with(client, namespace, &kind)
}

pub async fn run(client: Client, namespace: String) {
    let api = routes(client.clone(), &namespace);
    let grpc = grpc_routes(client, &namespace);
    loop {
        for route in grpc.list(&ListParams::default()).await.into_iter().flatten() {
            acknowledge(&grpc, &route).await;
        }
        if let Ok(list) = api.list(&ListParams::default()).await {
            for route in list {
                acknowledge(&api, &route).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Acknowledges a route as it is now, if that was not done yet.
pub async fn acknowledge(api: &Api<DynamicObject>, route: &DynamicObject) {
    let generation = route.metadata.generation;
    let parents = route.data["spec"]["parentRefs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let known = route.data["status"]["parents"][0]["conditions"][0]["observedGeneration"].as_i64();
    if known == generation {
        return;
    }
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let mesh = |parent: &Value| parent["kind"] == "Service";
    let meshless = route.namespace().is_some_and(|n| n.ends_with("meshless"));
    let parents: Vec<Value> = parents
        .into_iter()
        .filter(|parent| !(meshless && mesh(parent)))
        .map(|parent| {
            json!({
                "parentRef": parent, "controllerName": "example.com/gateway",
                "conditions": [condition("Accepted"), condition("ResolvedRefs")],
            })
        })
        .collect();
    let status = json!({"status": {"parents": parents}});
    for _ in 0..5 {
        let told = api
            .patch_status(&route.name_any(), &PatchParams::default(), &Patch::Merge(&status))
            .await;
        match told {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

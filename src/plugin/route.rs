//! How the traffic is taken away when no operator does it: a patch of the route's weights.

use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use super::connect::Cluster;
use crate::api::v1alpha1::PythonService;

/// The patch for a person to apply, or why it can't be given.
pub async fn advice(cluster: &Cluster, service: &PythonService) -> String {
    let name = route_name(service);
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let resource = ApiResource::from_gvk_with_plural(&kind, "httproutes");
    let routes: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let route = match routes.get(&name).await {
        Ok(route) => route,
        Err(error) => {
            return format!(
                "the route {name} can't be read ({}), so no patch can be given for it",
                super::Failure::from(error)
            );
        }
    };
    match patch(service, &route.data) {
        Some(patch) => format!(
            "this takes the traffic away from the canary without the operator:\n\n  kubectl patch httproute {name} -n {} --type=json -p '{patch}'\n",
            cluster.namespace
        ),
        None => format!("the route {name} gives the canary no traffic now"),
    }
}

fn route_name(service: &PythonService) -> String {
    match &service.spec.traffic.gateway_api.http_route_ref {
        Some(own) => own.name.clone(),
        None => service.name_any(),
    }
}

/// A JSON Patch that gives all traffic to stable; each change is guarded by the name that it is meant for.
/// `None` when the canary has no weight, or it is not known which backend is stable.
pub fn patch(service: &PythonService, route: &Value) -> Option<Value> {
    let status = service.status.as_ref()?;
    let name = service.name_any();
    let (stable, canary) = if service.spec.traffic.gateway_api.http_route_ref.is_some() {
        (format!("{name}-stable"), format!("{name}-canary"))
    } else {
        let of = |side: Option<&crate::api::v1alpha1::RevisionStatus>| side.map(|s| s.revision.clone());
        (
            format!("{name}-{}", of(status.stable.as_ref())?),
            format!("{name}-{}", of(status.canary.as_ref())?),
        )
    };
    let mut operations = Vec::new();
    let mut exposed = false;
    for (r, rule) in route["spec"]["rules"].as_array()?.iter().enumerate() {
        let backends = rule["backendRefs"].as_array().map_or(&[][..], Vec::as_slice);
        // A rule without the stable backend is not about this rollout; it would be left without any.
        if !backends.iter().any(|backend| backend["name"] == stable.as_str()) {
            continue;
        }
        for (b, backend) in backends.iter().enumerate() {
            let weight = match backend["name"].as_str() {
                Some(found) if found == stable => 100,
                Some(found) if found == canary => 0,
                _ => continue,
            };
            exposed |= weight == 0 && backend["weight"].as_i64().unwrap_or(1) > 0;
            let path = format!("/spec/rules/{r}/backendRefs/{b}");
            operations.push(json!({"op": "test", "path": format!("{path}/name"), "value": backend["name"]}));
            operations.push(json!({"op": "add", "path": format!("{path}/weight"), "value": weight}));
        }
    }
    exposed.then_some(Value::Array(operations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::progressing;

    fn route(stable: i64, canary: i64) -> Value {
        json!({"spec": {"rules": [
            {"backendRefs": [{"name": "elsewhere", "weight": 1}]},
            {"backendRefs": [
                {"name": "checkout-5b6c7d0000", "weight": stable},
                {"name": "checkout-7d9f8c0000", "weight": canary},
            ]},
        ]}})
    }

    #[test]
    fn the_patch_touches_only_the_weights_of_the_rollout_and_guards_them() {
        assert_eq!(
            patch(&progressing(), &route(75, 25)),
            Some(json!([
                {"op": "test", "path": "/spec/rules/1/backendRefs/0/name", "value": "checkout-5b6c7d0000"},
                {"op": "add", "path": "/spec/rules/1/backendRefs/0/weight", "value": 100},
                {"op": "test", "path": "/spec/rules/1/backendRefs/1/name", "value": "checkout-7d9f8c0000"},
                {"op": "add", "path": "/spec/rules/1/backendRefs/1/weight", "value": 0},
            ]))
        );
    }

    #[test]
    fn a_canary_without_traffic_needs_no_patch() {
        assert_eq!(patch(&progressing(), &route(100, 0)), None);
    }
}

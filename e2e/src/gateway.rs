//! The public gateway's proxies.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::json;

use crate::stage::until;

/// Where Envoy Gateway keeps them.
const NAMESPACE: &str = "envoy-gateway-system";

/// Runs so many Envoys, and waits until all of them are ready.
pub async fn scale(client: &Client, replicas: i32) {
    let kind = GroupVersionKind::gvk("gateway.envoyproxy.io", "v1alpha1", "EnvoyProxy");
    let kind = ApiResource::from_gvk_with_plural(&kind, "envoyproxies");
    let proxies: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let body = json!({"spec": {"provider": {"kubernetes": {"envoyDeployment": {"replicas": replicas}}}}});
    proxies
        .patch("molt", &PatchParams::default(), &Patch::Merge(body))
        .await
        .expect("the gateway's proxies can be changed");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let of_gateway = ListParams::default().labels("gateway.envoyproxy.io/owning-gateway-name=public");
    until("every Envoy is ready and as wanted", async || {
        let found = deployments
            .list(&of_gateway)
            .await
            .expect("Deployments can be read")
            .items;
        !found.is_empty()
            && found.iter().all(|deployment| {
                let status = deployment.status.clone().unwrap_or_default();
                status.ready_replicas == Some(replicas) && status.replicas == Some(replicas)
            })
    })
    .await;
}

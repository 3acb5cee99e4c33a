//! Istio's own CRD of VirtualServices, and what istiod says of them where its status feature is on.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::cluster::until;

pub fn virtual_services(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let kind = ApiResource::from_gvk_with_plural(&kind, "virtualservices");
    Api::namespaced_with(client, namespace, &kind)
}

/// The weights of the last HTTP rule.
pub fn backends(data: &Value) -> Vec<(String, i64)> {
    let rules = data["spec"]["http"].as_array().cloned().unwrap_or_default();
    let shares = rules.last().and_then(|rule| rule["route"].as_array().cloned());
    let share = |share: &Value| {
        let host = share["destination"]["host"].as_str().unwrap_or_default();
        (host.to_owned(), share["weight"].as_i64().unwrap_or(0))
    };
    shares.unwrap_or_default().iter().map(share).collect()
}

/// What the rules before it send to a backend, as parts of all requests: one in twenty has the headers of a rule.
pub fn previews(data: &Value) -> Vec<(String, f64)> {
    let rules = data["spec"]["http"].as_array().cloned().unwrap_or_default();
    let Some((_, others)) = rules.split_last() else {
        return Vec::new();
    };
    let host = |destination: &Value| destination["host"].as_str().unwrap_or_default().to_owned();
    let preview = |rule: &Value| match rule["mirrorPercentage"]["value"].as_f64() {
        Some(percent) => (host(&rule["mirror"]), percent / 100.0),
        None => (host(&rule["route"][0]["destination"]), 0.05),
    };
    others.iter().map(preview).collect()
}

/// Installs it.
pub async fn install(client: &Client) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/istio-crds.sh");
    let output = Command::new(script).output().expect("the script runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let path = String::from_utf8(output.stdout).unwrap();
    let all = std::fs::read_to_string(path.trim()).unwrap();
    let name = "virtualservices.networking.istio.io";
    let is_it = |text: &&str| text.contains(&format!("\n  name: {name}\n"));
    let text = all
        .split("\n---\n")
        .find(is_it)
        .expect("it is among Istio's CRDs");
    let crd: CustomResourceDefinition = serde_saphyr::from_str(text).expect("Istio's CRD is readable");
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PatchParams::apply("tests").force();
    api.patch(name, &params, &Patch::Apply(&crd)).await.unwrap();
    until("VirtualServices can be listed", async || {
        let all = virtual_services(client.clone(), "default");
        all.list(&ListParams::default()).await.is_ok()
    })
    .await;
}

/// Says of each VirtualService in its present form that so many of ten proxies have it, as istiod does.
pub async fn report(client: Client, namespace: String, have: impl Fn() -> u8) {
    let api = virtual_services(client, &namespace);
    loop {
        for live in api.list(&ListParams::default()).await.into_iter().flatten() {
            let generation = live.metadata.generation.unwrap_or_default();
            let have = have();
            let condition = json!({
                "type": "Reconciled", "status": if have == 10 { "True" } else { "False" },
                "message": format!("{have}/10 proxies up to date."),
            });
            // A string, as istiod writes it.
            let status =
                json!({"status": {"observedGeneration": generation.to_string(), "conditions": [condition]}});
            if live.data["status"] != status["status"] {
                let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
                drop(api.patch_status(&live.name_any(), &params, &patch).await);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! Content of ConfigMaps under real load: what pods see is what a request is answered with.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{load, not_its_own, pods_of, stable, until_weight};
use molt_e2e::{Request, Stage, sample, until};
use serde_json::{Value, json};

/// The kubelet brings a changed ConfigMap into the volumes of running pods within a minute or so.
const KUBELET: Duration = Duration::from_secs(75);

/// The version is a file's content, read for each request; how it behaves is in the environment.
fn configured(namespace: &str) -> Value {
    let mut manifest = sample(namespace, "shop", "unused", &[]);
    let pod = &mut manifest["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "files", "configMap": {"name": "files"}}]);
    let container = &mut pod["containers"][0];
    container["env"] = json!([{"name": "APP_VERSION_FILE", "value": "/etc/shop/version"}]);
    container["envFrom"] = json!([{"configMapRef": {"name": "behaviour"}}]);
    container["volumeMounts"] = json!([{"name": "files", "mountPath": "/etc/shop"}]);
    manifest
}

async fn write(stage: &Stage, name: &str, data: Value) {
    let api: Api<ConfigMap> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let params = PatchParams::apply("person").force();
    api.patch(name, &params, &Patch::Apply(map))
        .await
        .expect("a ConfigMap can be written");
}

/// Given a service whose pods answer with `one`, the content of a file.
async fn given(namespace: &str) -> (Stage, String) {
    let stage = Stage::given(namespace).await;
    write(&stage, "behaviour", json!({"ERROR_RATIO": "0"})).await;
    write(&stage, "files", json!({"version": "one"})).await;
    stage.apply(configured(namespace)).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

#[tokio::test]
async fn a_changed_config_map_is_rolled_out_and_no_request_is_lost() {
    let (stage, first) = given("e2e-config").await;
    let load = load(&stage, 40).await;

    write(&stage, "files", json!({"version": "two"})).await;
    until_weight(&stage, &first, |w| w > 0).await;
    // Both contents are served at the same time, each by its own revision.
    until("users see the new content", async || {
        load.requests().iter().any(|r| r.version == "two")
    })
    .await;
    let mixed = load.requests();
    let newest = &mixed[mixed.len().saturating_sub(200)..];
    assert!(newest.iter().any(|r| r.version == "one"), "stable keeps its own");
    stage
        .until("the new content is stable", async || {
            let service = stage.services().get("shop").await.unwrap();
            let status = service.status.unwrap_or_default();
            status.phase == Some(Phase::Healthy) && status.stable.is_some_and(|s| s.revision != first)
        })
        .await;
    let done = stage.services().get("shop").await.unwrap();
    let record = stage.last_record(&done).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    until("the old pods are gone", async || {
        pods_of(&stage, &first).await.is_empty()
    })
    .await;
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "none"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("two"));
    stage.end().await;
}

#[tokio::test]
async fn bad_content_is_rolled_back_and_stable_never_sees_it() {
    let (stage, first) = given("e2e-config-bad").await;
    let load = load(&stage, 40).await;

    // Two files of one change, one after the other.
    write(&stage, "files", json!({"version": "two"})).await;
    write(&stage, "behaviour", json!({"ERROR_RATIO": "0.2"})).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::RolledBack), Some("HarmShown"))
    );
    // The user's ConfigMaps still say the bad content: in none of stable's pods does it appear, not even in those
    // that are started now.
    let mut more = configured("e2e-config-bad");
    more["spec"]["replicas"] = json!(3);
    stage.apply(more).await;
    until("stable has grown", async || {
        pods_of(&stage, &first).await.len() == 3
    })
    .await;
    tokio::time::sleep(KUBELET).await;
    let still = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&still), first);
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "two"), Vec::<&Request>::new());
    let calm = &requests[requests.len().saturating_sub(400)..];
    let other: Vec<&Request> = calm.iter().filter(|r| r.version != "one").collect();
    assert_eq!(other, Vec::<&Request>::new());
    let failed = requests
        .iter()
        .filter(|r| r.failed() && r.version == "two")
        .count();
    println!("bad content: {failed} failed requests of {}", requests.len());
    stage.end().await;
}

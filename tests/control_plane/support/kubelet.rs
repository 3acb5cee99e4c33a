//! Says of pods what a kubelet would say. The image chooses: `…:crash` crash-loops, `…:nopull` can't be
//! pulled, `…:succeeds` and `…:fails` end with exit codes 0 and 3, everything else becomes ready.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::database::{self, Run};

/// Addresses that were given so far; no two pods have the same one.
static ADDRESSES: AtomicU32 = AtomicU32::new(0);

pub async fn run(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    loop {
        // A call that fails is made again in the next round.
        if let Ok(pods) = api.list(&ListParams::default()).await {
            for pod in pods {
                look_after(&api, &pod).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn look_after(api: &Api<Pod>, pod: &Pod) {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = kube::api::DeleteParams {
            grace_period_seconds: Some(0),
            ..Default::default()
        };
        drop(api.delete(&name, &now).await);
        return;
    }
    let said = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).is_some();
    if !said {
        drop(begin(api, pod).await);
    }
}

/// Puts a pod on the node, if it is on none, and says how it does there.
pub async fn begin(api: &Api<Pod>, pod: &Pod) -> kube::Result<()> {
    let name = pod.name_any();
    let spec = pod.spec.as_ref();
    if spec.is_none_or(|s| s.node_name.is_none()) {
        let binding: Binding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        }))
        .unwrap();
        let bound = api
            .create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding)
            .await;
        match bound {
            // Somebody did it at an earlier try.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            bound => drop(bound?),
        }
    }
    let image = spec
        .and_then(|s| s.containers.first())
        .and_then(|c| c.image.clone())
        .unwrap_or_default();
    let address = ADDRESSES.fetch_add(1, Ordering::Relaxed);
    let ip = format!(
        "10.{}.{}.{}",
        address / 62_500 + 1,
        address / 250 % 250,
        address % 250 + 1
    );
    let container = spec
        .and_then(|s| s.containers.first())
        .map(|c| c.name.clone())
        .unwrap_or_default();
    let status = match database::run(pod) {
        Run::Ends(code, message) => ended(&container, &image, &ip, code, &message),
        Run::Hangs => status(&container, "runs", &ip),
        Run::None => status(&container, &image, &ip),
    };
    let body = json!({ "status": status });
    api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(body))
        .await
        .map(drop)
}

fn ended(name: &str, image: &str, ip: &str, code: i32, message: &str) -> Value {
    let ended = json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message,
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z",
    }});
    json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "podIP": ip, "podIPs": [{"ip": ip}],
        "containerStatuses": [{
            "name": name, "image": image, "imageID": image, "ready": false, "restartCount": 0, "state": ended,
        }],
    })
}

fn status(name: &str, image: &str, ip: &str) -> Value {
    let container = |ready: bool, restarts: u32, state: Value| {
        json!([{
            "name": name, "image": image, "imageID": image, "ready": ready, "restartCount": restarts, "state": state,
        }])
    };
    if let Some(code) = match image.rsplit(':').next() {
        Some("succeeds") => Some(0),
        Some("fails") => Some(3),
        _ => None,
    } {
        return ended(name, image, ip, code, "9 checks were made");
    }
    let (ready, containers) = match image.rsplit(':').next() {
        Some("crash") => {
            let mut containers = container(
                false,
                5,
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}),
            );
            containers[0]["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
            (false, containers)
        }
        Some("nopull") => (
            false,
            container(
                false,
                0,
                json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}),
            ),
        ),
        _ => (
            true,
            container(true, 0, json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})),
        ),
    };
    let word = if ready { "True" } else { "False" };
    let now = jiff::Timestamp::now();
    json!({
        "phase": if ready { "Running" } else { "Pending" },
        "podIP": ip, "podIPs": [{"ip": ip}],
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": [
            {"type": "Ready", "status": word, "lastTransitionTime": now},
            {"type": "ContainersReady", "status": word, "lastTransitionTime": now}
        ],
        "containerStatuses": containers,
    })
}

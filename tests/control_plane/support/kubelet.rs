//! Says of pods what a kubelet would say. The image chooses: `…:crash` crash-loops, `…:nopull` can't be
//! pulled, `…:succeeds` and `…:fails` end with exit codes 0 and 3, everything else becomes ready.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, Pod};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

pub async fn run(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut address = 0u32;
    loop {
        // A call that fails is made again in the next round.
        if let Ok(pods) = api.list(&ListParams::default()).await {
            for pod in pods {
                look_after(&api, &pod, &mut address).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn look_after(api: &Api<Pod>, pod: &Pod, address: &mut u32) {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = kube::api::DeleteParams {
            grace_period_seconds: Some(0),
            ..Default::default()
        };
        drop(api.delete(&name, &now).await);
        return;
    }
    let spec = pod.spec.as_ref();
    if spec.is_none_or(|s| s.node_name.is_none()) {
        let binding: Binding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
        }))
        .unwrap();
        drop(
            api.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding)
                .await,
        );
        return;
    }
    let image = spec
        .and_then(|s| s.containers.first())
        .and_then(|c| c.image.clone())
        .unwrap_or_default();
    let said = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).is_some();
    if said {
        return;
    }
    *address += 1;
    let ip = format!("10.1.{}.{}", *address / 250, *address % 250 + 1);
    let name_of = |c: &k8s_openapi::api::core::v1::Container| c.name.clone();
    let container = spec
        .and_then(|s| s.containers.first())
        .map(name_of)
        .unwrap_or_default();
    let status = status(&container, &image, &ip);
    drop(
        api.patch_status(
            &name,
            &PatchParams::default(),
            &Patch::Strategic(json!({ "status": status })),
        )
        .await,
    );
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
        let ended = json!({"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "message": "9 checks were made",
            "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:01Z",
        }});
        return json!({
            "phase": if code == 0 { "Succeeded" } else { "Failed" },
            "podIP": ip, "podIPs": [{"ip": ip}],
            "containerStatuses": container(false, 0, ended),
        });
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
    json!({
        "phase": if ready { "Running" } else { "Pending" },
        "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [
            {"type": "Ready", "status": word, "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "ContainersReady", "status": word, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
        "containerStatuses": containers,
    })
}

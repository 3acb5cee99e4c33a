//! The operator's pods and their processes, as the cluster and this machine's kernel see them.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::stage::until;

/// Ticks of the kernel's clock in a second, of which `/proc` tells the start of a process: `USER_HZ`, which is
/// 100 wherever Linux runs Kubernetes.
const TICKS: f64 = 100.0;
/// What the operator logs once it has read the cluster and can lead or stand by.
const READY: &str = "every cache is filled";
/// The namespace that `install.sh` puts it into.
const NAMESPACE: &str = "molt-system";
/// Its Deployment, and its Lease.
const NAME: &str = "molt";

fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Who holds the operator's lease: its pod's name, and a word of the process's own.
pub async fn leader(client: &Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let lease = leases.get_opt(NAME).await.expect("leases can be read")?;
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

/// The pod of the operator that leads.
pub async fn pod(client: &Client) -> Pod {
    let pods = pods(client);
    let found = std::cell::RefCell::new(None);
    until("an operator that runs leads", async || {
        let Some(leader) = leader(client).await else {
            return false;
        };
        let name = leader.split('_').next().unwrap_or_default();
        let pod = pods.get_opt(name).await.expect("pods can be read");
        *found.borrow_mut() = pod.filter(|p| p.metadata.deletion_timestamp.is_none());
        found.borrow().is_some()
    })
    .await;
    found.into_inner().expect("it was found")
}

/// Runs so many replicas, and waits until all of them are ready.
pub async fn scale(client: &Client, replicas: i32) {
    change(client, &json!({"spec": {"replicas": replicas}})).await;
}

/// Replaces every replica, as a new version does, and waits until the new ones are ready and the old ones gone.
pub async fn upgrade(client: &Client) {
    let now = Timestamp::now().to_string();
    let annotations = json!({"molt.dev/e2e": now});
    change(
        client,
        &json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}),
    )
    .await;
}

async fn change(client: &Client, body: &Value) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let patched = deployments
        .patch(NAME, &PatchParams::default(), &Patch::Merge(body))
        .await
        .expect("the operator's Deployment can be changed");
    let spec = patched.spec.expect("a Deployment has a spec");
    let (generation, wanted) = (patched.metadata.generation, spec.replicas);
    let labels = spec.selector.match_labels.expect("it selects by labels");
    let selector: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let selector = selector.join(",");
    until(
        "every replica of the operator is ready and as wanted",
        async || {
            let status = deployments.get(NAME).await.expect("it exists").status;
            let settled = status.is_some_and(|s| {
                s.observed_generation >= generation
                    && s.updated_replicas == wanted
                    && s.ready_replicas == wanted
                    && s.replicas == wanted
            });
            // A pod that ends counts no more, and may still lead.
            let labelled = ListParams::default().labels(&selector);
            settled
                && pods(client)
                    .list(&labelled)
                    .await
                    .is_ok_and(|p| i32::try_from(p.items.len()).ok() == wanted)
        },
    )
    .await;
}

/// A pod's process on this machine. Another cluster's operator may run beside it: the pod's control group tells.
pub fn process(pod: &Pod) -> Option<u32> {
    let found = Command::new("pgrep")
        .args(["-xf", "/usr/local/bin/molt controller.*"])
        .output()
        .expect("pgrep runs");
    let uid = pod.uid().expect("it has a UID");
    String::from_utf8_lossy(&found.stdout)
        .lines()
        .filter_map(|line| line.parse().ok())
        .find(|id: &u32| {
            std::fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|groups| groups.contains(&uid))
        })
}

/// Ends the process of the operator that leads at once, as the kernel does when memory runs out.
pub async fn kill_leader(client: &Client) -> (Pod, u32) {
    let pod = pod(client).await;
    let first = process(&pod).expect("the operator's process is seen from here");
    let done = Command::new("kill").args(["-KILL", &first.to_string()]).status();
    assert!(done.is_ok_and(|s| s.success()), "the operator can be killed");
    (pod, first)
}

/// Kills the operator that leads, and waits until the kubelet has started it again.
pub async fn kill(client: &Client) {
    let (before, first) = kill_leader(client).await;
    until("the operator runs again", async || {
        process(&before).is_some_and(|id| id != first)
    })
    .await;
}

/// Deletes the pod of the operator that leads without a grace period, as a drained node does that answers no more.
pub async fn delete(client: &Client) {
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    let name = pod(client).await.name_any();
    pods(client).delete(&name, &now).await.expect("it can be deleted");
}

/// Resident memory in KiB, which the kernel calls kB, as it accounts it to the process.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let resident = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .expect("it has memory");
    let number = resident.trim().trim_end_matches(" kB");
    number.parse().expect("it is a number")
}

/// From the start of the process until it can lead or stand by. The pod's status tells whole seconds only: this is
/// the kernel's time of the start, and the time at which the operator says that it has read the cluster.
pub async fn ready_after(client: &Client, pod: &Pod, process: u32) -> SignedDuration {
    let log = pods(client).logs(&pod.name_any(), &LogParams::default()).await;
    let log = log.expect("the log can be read");
    let line = log
        .lines()
        .find(|line| line.contains(READY))
        .expect("it is ready");
    let line: serde_json::Value = serde_json::from_str(line).expect("it logs JSON");
    let ready: Timestamp = line["timestamp"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("it has a time");
    let up = std::fs::read_to_string("/proc/uptime").expect("there is an uptime");
    let now = Timestamp::now();
    let up: f64 = up
        .split(' ')
        .next()
        .and_then(|s| s.parse().ok())
        .expect("it is a number");
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The second field is the name in parentheses, the 22nd the start in ticks since the machine's.
    let started = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(19)?.parse::<f64>().ok());
    let ran = SignedDuration::from_secs_f64(up - started.expect("it has a start") / TICKS);
    ready.duration_since(now) + ran
}

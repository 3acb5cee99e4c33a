//! The operator's pod and its process, as the cluster and this machine's kernel see them.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::{Api, Client, ResourceExt};

use crate::stage::until;

/// Ticks of the kernel's clock in a second, of which `/proc` tells the start of a process: `USER_HZ`, which is
/// 100 wherever Linux runs Kubernetes.
const TICKS: f64 = 100.0;
/// What the operator logs once it has read the cluster and begins to work.
const READY: &str = "every cache is filled; reconciling";

fn pods(client: &Client) -> Api<Pod> {
    Api::namespaced(client.clone(), "molt-system")
}

/// The pod of the operator that runs.
pub async fn pod(client: &Client) -> Pod {
    let pods = pods(client).list(&ListParams::default()).await;
    let pods = pods.expect("pods can be listed").items;
    let running = pods.into_iter().find(|p| p.metadata.deletion_timestamp.is_none());
    running.expect("the operator runs")
}

/// Its process on this machine. Another cluster's operator may run beside it: the pod's control group tells.
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

/// Ends the process of the operator at once, as the kernel does when memory runs out, and waits until the
/// kubelet has started it again.
pub async fn kill(client: &Client) {
    let before = pod(client).await;
    let first = process(&before).expect("the operator's process is seen from here");
    let done = Command::new("kill").args(["-KILL", &first.to_string()]).status();
    assert!(done.is_ok_and(|s| s.success()), "the operator can be killed");
    until("the operator runs again", async || {
        process(&before).is_some_and(|id| id != first)
    })
    .await;
}

/// Deletes the operator's pod without a grace period, as a drained node does that answers no more.
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

/// From the start of the process to its first reconcile. The pod's status tells whole seconds only: this is
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

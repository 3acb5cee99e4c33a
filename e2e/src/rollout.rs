//! What scenarios of rollouts share: a stable version under load, and what is looked at afterwards.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use molt::api::v1alpha1::{Phase, PythonService};
use serde_json::Value;

use crate::load::{Load, Request, Stream};
use crate::stage::{Stage, sample, until};

/// Given version v1 as stable, and load on it.
pub async fn stable_under_load(stage: &Stage, rate: u32) -> Load {
    stage.apply(sample(&stage.namespace, "shop", "v1", &[])).await;
    stage.until_phase("shop", Phase::Healthy).await;
    load(stage, rate).await
}

/// Load that is answered.
pub async fn load(stage: &Stage, rate: u32) -> Load {
    let load = stage.load("shop", rate);
    until("requests are answered", async || {
        load.requests().iter().filter(|r| !r.failed()).count() > 100
    })
    .await;
    load
}

/// Failed requests that are not the bad version's own answers. The very first ones may come before the proxy
/// knows the new route: what counts begins with the first that was answered.
pub fn not_its_own<'a>(requests: &'a [Request], bad: &str) -> Vec<&'a Request> {
    let served = requests.iter().skip_while(|r| r.failed());
    served.filter(|r| r.failed() && r.version != bad).collect()
}

/// Streams that were cut before `drain` seconds had gone since users had left their version, of which the requests that
/// came the same way tell; all streams of the version that still serves.
pub fn cut_early<'a>(
    streams: &'a [Stream],
    requests: &[Request],
    current: &str,
    drain: u32,
) -> Vec<&'a Stream> {
    let left = |version: &str| {
        let of_it = requests.iter().filter(|r| r.version == version);
        of_it.map(|r| r.t).reduce(f64::max)
    };
    let early = |stream: &&Stream| {
        // Clocks of two programs, and a request that was on its way.
        let allowed = left(&stream.version).map(|left| left + f64::from(drain) - 1.0);
        stream.version == current || stream.opened == 0.0 || allowed.is_none_or(|at| stream.closed < at)
    };
    streams.iter().filter(early).collect()
}

/// The stable revision.
pub fn stable(service: &PythonService) -> String {
    let status = service.status.as_ref();
    let stable = status.and_then(|s| s.stable.as_ref());
    stable.expect("there is a stable revision").revision.clone()
}

/// The weight that a route gives to backends other than stable's.
fn canary_weight(route: &Value, stable: &str) -> u64 {
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array();
    backends
        .into_iter()
        .flatten()
        .filter(|b| b["name"].as_str().is_some_and(|name| !name.ends_with(stable)))
        .filter_map(|b| b["weight"].as_u64())
        .sum()
}

/// Then the canary's weight is so. `stable` is what stable's backend ends in: its revision in a route of
/// Molt's, `stable` in one of the user's.
pub async fn until_weight(stage: &Stage, stable: &str, check: impl Fn(u64) -> bool) {
    stage
        .until("the canary's weight is as awaited", async || {
            let route = stage.routes().get("shop").await.expect("the route exists");
            check(canary_weight(&route.data, stable))
        })
        .await;
}

/// The pods of a revision.
pub async fn pods_of(stage: &Stage, revision: &str) -> Vec<Pod> {
    let of = ListParams::default().labels(&format!("molt.dev/revision={revision}"));
    stage.pods().list(&of).await.expect("pods can be listed").items
}

/// The UIDs of pods, and how often their containers were started again: equal if nobody has touched them.
pub fn identity(pods: &[Pod]) -> BTreeSet<(String, i32)> {
    pods.iter()
        .map(|pod| {
            let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
            let restarts = status.into_iter().flatten().map(|c| c.restart_count).sum();
            (pod.uid().expect("it has a UID"), restarts)
        })
        .collect()
}

//! Guards of the runtime, from what pods and Prometheus tell to the rollback.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use molt::api::v1alpha1::{GuardStatus, Phase, PythonService};
use molt_core::state::{Ended, Outcome};
use serde_json::{Value, json};

use crate::support::cluster::{service, stable, until};
use crate::support::{Stage, given};

/// A service whose canary keeps its weight for so long.
fn guarded(image: &str, weight: u32, stays: &str) -> Value {
    let mut object = service("shop", image);
    object["spec"]["progressDeadline"] = json!("15m");
    object["spec"]["strategy"]["canary"]["steps"] =
        json!([{"setWeight": weight}, {"pause": {"duration": stays}}]);
    object
}

async fn given_stable(namespace: &str, image: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    stage.apply(guarded(image, 50, "1s")).await.expect("it is valid");
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

/// How the attempt for another revision than `first` ends, within so long.
async fn ended(stage: &Stage, first: &str, within: Duration) -> Ended {
    let began = Instant::now();
    loop {
        let last = stage.service("shop").await.status.and_then(|s| s.state?.last);
        if let Some(last) = last.filter(|last| last.revision.0 != first) {
            return last;
        }
        assert!(
            began.elapsed() < within,
            "it goes on: {:?}",
            stage.service("shop").await.status.and_then(|s| s.message)
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn guard(service: &PythonService, name: &str) -> Option<GuardStatus> {
    let guards = service.status.as_ref()?.guards.as_ref()?;
    guards.runtime.iter().find(|guard| guard.name == name).cloned()
}

/// Waits until the canary has users.
async fn used(stage: &Stage) {
    until("the canary has users", async || {
        let status = stage.service("shop").await.status;
        status.is_some_and(|s| s.canary.is_some_and(|c| c.weight > 0))
    })
    .await;
}

async fn pods_of(stage: &Stage, image: &str) -> Vec<Pod> {
    let pods = stage.pods().list(&ListParams::default()).await.unwrap().items;
    let is_of = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        spec.is_some_and(|s| s.containers[0].image.as_deref() == Some(image))
    };
    pods.into_iter().filter(is_of).collect()
}

async fn say(stage: &Stage, pod: &str, status: Value) {
    let body = json!({ "status": status });
    let patched = stage
        .pods()
        .patch_status(pod, &PatchParams::default(), &Patch::Strategic(body))
        .await;
    patched.expect("a kubelet may say so");
}

#[tokio::test]
async fn a_canary_that_blocks_its_event_loop_is_taken_back() {
    let (stage, first) = given_stable("guard-loop", "told:good").await;
    stage.apply(guarded("told:blocks", 50, "5m")).await.unwrap();
    let last = ended(&stage, &first, Duration::from_mins(4)).await;
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "GuardEventLoopLag"),
        "{}",
        last.message
    );
    assert!(last.message.contains("25.0 % late"), "{}", last.message);
    stage.until_event("shop", "GuardEventLoopLag").await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage
        .ended_record("shop", &last.revision.0, 1)
        .await
        .status
        .unwrap();
    let runtime = record.guards.expect("the guards are recorded").runtime;
    let beyond: Vec<&str> = runtime
        .iter()
        .filter(|guard| guard.verdict == "Beyond")
        .map(|guard| guard.name.as_str())
        .collect();
    assert_eq!(beyond, ["eventLoopLag"]);
}

#[tokio::test]
async fn what_stable_does_as_well_what_is_off_and_what_only_warns_lets_pass() {
    let (stage, first) = given_stable("guard-both", "told:blocks").await;
    stage.apply(guarded("told:blocks-too", 50, "110s")).await.unwrap();
    let last = ended(&stage, &first, Duration::from_mins(4)).await;
    assert_eq!(last.outcome, Outcome::Promoted, "{}", last.message);
    let told = last
        .guards
        .iter()
        .find(|g| g.guard.name() == "eventLoopLag")
        .unwrap();
    assert!(told.canary.is_some() && told.fired.is_none(), "{told:?}");

    let mode = |namespace: &'static str, image: &'static str, mode: &'static str| async move {
        let (stage, first) = given_stable(namespace, "told:good").await;
        let mut object = guarded(image, 50, "110s");
        object["spec"]["guards"] = json!({"eventLoopLag": {"mode": mode}});
        stage.apply(object).await.unwrap();
        let last = ended(&stage, &first, Duration::from_mins(4)).await;
        assert_eq!(last.outcome, Outcome::Promoted, "{}", last.message);
        (stage, last)
    };
    let ((off, without), (warn, warned)) = futures::join!(
        mode("guard-off", "told:blocks", "Off"),
        mode("guard-warn", "told:blocks", "Warn"),
    );
    assert!(without.guards.iter().all(|g| g.guard.name() != "eventLoopLag"));
    assert_eq!(off.event_count("shop", "GuardWarned").await, 0);
    warn.until_event("shop", "GuardWarned").await;
    assert!(
        warned
            .guards
            .iter()
            .any(|g| g.guard.name() == "eventLoopLag" && g.fired.is_some())
    );
}

#[tokio::test]
async fn a_guard_without_its_metric_is_silent_and_says_so() {
    let (stage, first) = given_stable("guard-silent", "shop:good").await;
    stage.apply(guarded("shop:second", 50, "30s")).await.unwrap();
    used(&stage).await;
    until("the guards have looked", async || {
        let shown = guard(&stage.service("shop").await, "memoryGrowth");
        shown.is_some_and(|g| {
            g.message
                .is_some_and(|m| m.contains("process_resident_memory_bytes"))
        })
    })
    .await;
    let shown = stage.service("shop").await;
    for name in ["memoryGrowth", "eventLoopLag", "cpuPerRequest"] {
        let guard = guard(&shown, name).unwrap();
        assert_eq!(guard.verdict, "NoData", "{guard:?}");
    }
    let message = guard(&shown, "eventLoopLag").unwrap().message.unwrap();
    assert!(message.contains("eventLoopLag.metric"), "{message}");
    let wrong: Vec<_> = shown.status.unwrap().conditions.unwrap_or_default();
    assert!(
        wrong
            .iter()
            .all(|c| c.type_ != "MetricsAvailable" || c.status == "True"),
        "{wrong:?}"
    );
    let last = ended(&stage, &first, Duration::from_mins(2)).await;
    assert_eq!(last.outcome, Outcome::Promoted, "{}", last.message);
}

#[tokio::test]
async fn a_stricter_schema_is_taken_back_although_no_request_fails() {
    let (stage, first) = given_stable("guard-strict", "shop:good").await;
    stage.apply(guarded("shop:strict", 50, "3m")).await.unwrap();
    let last = ended(&stage, &first, Duration::from_mins(3)).await;
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "GuardClientErrors"),
        "{}",
        last.message
    );
    assert!(
        last.message.contains("2 times stable's share"),
        "{}",
        last.message
    );
}

/// Memory is looked at over minutes, and these are real.
#[tokio::test]
async fn a_canary_that_leaks_is_taken_back_and_not_if_stable_leaks_too() {
    let leaks = async {
        let (stage, first) = given_stable("guard-leak", "told:good").await;
        stage.apply(guarded("told:leaks", 50, "9m")).await.unwrap();
        ended(&stage, &first, Duration::from_mins(9)).await
    };
    let both_leak = async {
        let (stage, first) = given_stable("guard-leaks", "told:leaks").await;
        stage.apply(guarded("told:leaks-too", 50, "7m")).await.unwrap();
        ended(&stage, &first, Duration::from_mins(10)).await
    };
    let (leaks, both_leak) = futures::join!(leaks, both_leak);
    assert_eq!(
        (leaks.outcome, leaks.reason.as_str()),
        (Outcome::RolledBack, "GuardMemoryGrowth"),
        "{}",
        leaks.message
    );
    let took = leaks.ended_at.duration_since(leaks.started_at);
    assert!(took < SignedDuration::from_mins(8), "{took:#}");
    assert_eq!(both_leak.outcome, Outcome::Promoted, "{}", both_leak.message);
    let memory = both_leak.guards.iter().find(|g| g.guard.name() == "memoryGrowth");
    assert!(memory.is_some_and(|g| g.canary.is_some()), "{memory:?}");
}

#[tokio::test]
async fn kills_for_want_of_memory_in_two_pods_are_taken_back() {
    let (stage, first) = given_stable("guard-kills", "shop:good").await;
    stage.apply(guarded("shop:hungry", 60, "3m")).await.unwrap();
    used(&stage).await;
    let pods = pods_of(&stage, "shop:hungry").await;
    assert_eq!(pods.len(), 2);
    // Times are in whole seconds, and count from when users came.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for pod in &pods {
        let now = Timestamp::now();
        let began = now.checked_sub(SignedDuration::from_secs(5)).unwrap();
        let ended = json!({"terminated": {
            "exitCode": 137, "reason": "OOMKilled", "startedAt": began, "finishedAt": now,
        }});
        let status = json!({"containerStatuses": [{
            "name": "app", "image": "shop:hungry", "imageID": "", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": now}}, "lastState": ended,
        }]});
        say(&stage, &pod.name_any(), status).await;
    }
    let last = ended(&stage, &first, Duration::from_mins(2)).await;
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "GuardRestarts"),
        "{}",
        last.message
    );
    assert!(
        last.message.contains("killed for want of memory 2 times"),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn readiness_that_comes_and_goes_is_taken_back() {
    let (stage, first) = given_stable("guard-flaps", "shop:good").await;
    stage.apply(guarded("shop:flaky", 60, "3m")).await.unwrap();
    used(&stage).await;
    // Twice as many calls as losses: it comes back each time.
    for times in 0..60 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let word = if times % 2 == 0 { "False" } else { "True" };
        let pods = pods_of(&stage, "shop:flaky").await;
        let over = stage.service("shop").await.status.and_then(|s| s.phase) != Some(Phase::Progressing);
        let Some(pod) = pods.first().filter(|_| !over) else {
            break;
        };
        let now = Timestamp::now();
        let conditions = ["Ready", "ContainersReady"]
            .map(|kind| json!({"type": kind, "status": word, "lastTransitionTime": now}));
        say(&stage, &pod.name_any(), json!({ "conditions": conditions })).await;
    }
    let last = ended(&stage, &first, Duration::from_mins(2)).await;
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "GuardRestarts"),
        "{}",
        last.message
    );
    assert!(last.message.contains("no longer ready"), "{}", last.message);
}

#[tokio::test]
async fn a_canary_that_stands_still_for_its_collector_is_taken_back() {
    let (stage, first) = given_stable("guard-gc", "told:good").await;
    stage.apply(guarded("told:collects", 50, "6m")).await.unwrap();
    let last = ended(&stage, &first, Duration::from_mins(5)).await;
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "GuardGcPauses"),
        "{}",
        last.message
    );
    assert!(last.message.contains("20.0 % of the time"), "{}", last.message);
    stage.until_event("shop", "GuardGcPauses").await;
}

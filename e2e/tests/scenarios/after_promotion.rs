//! What comes before users, and after the bake: warm-up, and the watch over what was promoted.

use molt::api::v1alpha1::Phase;
use molt_e2e::rollout::{not_its_own, pods_of, stable, stable_under_load, until_weight};
use molt_e2e::{Request, Stage, sample, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks each pod of a revision by its own address.
async fn ask_pods(stage: &Stage, revision: &str, path: &str) {
    for pod in pods_of(stage, revision).await {
        let address = pod.status.and_then(|s| s.pod_ip).expect("it has an address");
        let mut stream = TcpStream::connect((address.as_str(), 8000))
            .await
            .expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

fn watched(namespace: &str, version: &str) -> Value {
    let mut manifest = sample(namespace, "shop", version, &[]);
    manifest["spec"]["strategy"]["canary"]["watch"] = json!("1h");
    manifest
}

#[tokio::test]
async fn a_version_that_begins_to_fail_after_its_promotion_is_left_by_itself() {
    let namespace = "e2e-watch";
    let stage = Stage::given(namespace).await;
    let load = stable_under_load(&stage, 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    stage.apply(watched(namespace, "v2")).await;
    stage
        .until("the second is stable", async || {
            let service = stage.services().get("shop").await.unwrap();
            let phase = service.status.as_ref().and_then(|s| s.phase);
            phase == Some(Phase::Healthy) && stable(&service) != first
        })
        .await;
    let second = stable(&stage.services().get("shop").await.unwrap());
    until("the old pods are gone", async || {
        pods_of(&stage, &first).await.is_empty()
    })
    .await;

    ask_pods(&stage, &second, "/faults?error_ratio=0.3").await;
    let failing_since = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let message = back.status.and_then(|s| s.message).unwrap();
    assert!(
        message.contains("was taken back after its promotion"),
        "{message}"
    );
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "v2"), Vec::<&Request>::new());
    let last = requests
        .iter()
        .rev()
        .find(|r| r.failed())
        .map_or(failing_since, |r| r.t);
    println!(
        "harm after the promotion: the last failed request came {:.0} s after the first",
        last - failing_since
    );
    stage.end().await;
}

#[tokio::test]
async fn pods_are_asked_before_users_reach_them_and_a_wrong_path_keeps_users_away() {
    let namespace = "e2e-warm";
    let stage = Stage::given(namespace).await;
    let load = stable_under_load(&stage, 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    let warmed = |path: &str| {
        let mut manifest = sample(namespace, "shop", "v2", &[]);
        manifest["spec"]["runtime"]["warmUp"] = json!({"duration": "3s", "requests": 30, "path": path});
        manifest
    };
    stage.apply(warmed("/nowhere")).await;
    stage
        .until("it is told why users don't come", async || {
            let status = stage.services().get("shop").await.unwrap().status;
            let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
            let wanted = "GET /nowhere at port 8000 was answered 404";
            conditions.iter().any(|c| c.message.contains(wanted))
        })
        .await;
    assert!(load.requests().iter().all(|r| r.failed() || r.version == "v1"));
    stage.apply(warmed("/healthz?deep=1")).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "none"), Vec::<&Request>::new());
    stage.end().await;
}

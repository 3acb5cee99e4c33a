//! Three services that are released together, in two waves, under constant load.

use std::process::Command;

use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{not_its_own, stable};
use molt_e2e::{Load, Request, Stage, sample, until};
use serde_json::{Value, json};

/// Each service, and its wave.
const SERVICES: [(&str, u32); 3] = [("api", 0), ("cart", 0), ("web", 1)];
const RATE: u32 = 20;

fn member(namespace: &str, (name, wave): (&str, u32), version: &str, behaviour: &[(&str, &str)]) -> Value {
    let mut manifest = sample(namespace, name, version, behaviour);
    manifest["spec"]["replicas"] = json!(1);
    manifest["spec"]["group"] = json!({"name": "shop", "wave": wave, "header": "x-molt-group"});
    manifest
}

/// All of them serve `v1`, under load.
async fn given(stage: &Stage) -> Vec<Load> {
    for service in SERVICES {
        stage.apply(member(&stage.namespace, service, "v1", &[])).await;
    }
    let mut loads = Vec::new();
    for (name, _) in SERVICES {
        stage.until_phase(name, Phase::Healthy).await;
        let load = stage.load(name, RATE);
        until("requests are answered", async || {
            load.requests().iter().filter(|r| !r.failed()).count() > 50
        })
        .await;
        loads.push(load);
    }
    loads
}

async fn stable_of(stage: &Stage, name: &str) -> String {
    stable(&stage.services().get(name).await.unwrap())
}

/// The version of a service that answers a request which came by revisions of the group that this says.
fn version_by(stage: &Stage, service: &str, mark: &str) -> String {
    let answer = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "5"])
        .args(["--header", &format!("Host: {}", stage.host(service))])
        .args(["--header", &format!("x-molt-group: {mark}")])
        .arg(&stage.gateway)
        .output()
        .expect("curl is there");
    let body: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    body["version"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
#[ignore = "it passed by itself, and was not seen to pass in a whole run of the suite yet: run it by name"]
async fn waves_follow_one_another_and_canaries_meet_by_the_header() {
    let namespace = "e2e-groups";
    let stage = Stage::given(namespace).await;
    let loads = given(&stage).await;
    let first = stable_of(&stage, "web").await;
    for service in SERVICES {
        let mut next = member(namespace, service, "v2", &[]);
        if service.0 == "api" {
            next["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("60s");
        }
        stage.apply(next).await;
    }
    // What comes by a canary meets the canary, and what comes by stable revisions stays with them.
    stage
        .until("canaries meet", async || {
            (0..10).all(|_| {
                version_by(&stage, "api", "canary") == "v2" && version_by(&stage, "api", "stable") == "v1"
            })
        })
        .await;
    let web = stage.services().get("web").await.unwrap();
    let message = web.status.as_ref().and_then(|s| s.message.clone()).unwrap();
    assert!(message.contains("waits for its group shop"), "{message}");
    assert_eq!(stable(&web), first);

    stage
        .until("all are promoted", async || {
            let mut all = true;
            for (name, _) in SERVICES {
                let status = stage.services().get(name).await.unwrap().status.unwrap();
                let stable = status.stable.map(|s| s.revision);
                all &= status.phase == Some(Phase::Healthy) && stable.is_some_and(|r| r != first);
            }
            all
        })
        .await;
    let mut ended = Vec::new();
    for (name, wave) in SERVICES {
        let service = stage.services().get(name).await.unwrap();
        let record = stage.last_record(&service).await;
        let status = record.status.unwrap();
        assert_eq!(status.outcome, Some(Outcome::Promoted), "{name}");
        match wave {
            0 => ended.push(status.ended_at.unwrap()),
            _ => assert!(ended.iter().all(|at| *at <= record.spec.started_at), "{name}"),
        }
    }
    for load in loads {
        assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    }
    stage.end().await;
}

#[tokio::test]
#[ignore = "it passed by itself, and was not seen to pass in a whole run of the suite yet: run it by name"]
async fn a_bad_last_wave_takes_the_first_one_back_and_only_its_own_requests_fail() {
    let namespace = "e2e-groupback";
    let stage = Stage::given(namespace).await;
    let loads = given(&stage).await;
    let first = stable_of(&stage, "api").await;
    for service in SERVICES {
        let behaviour: &[(&str, &str)] = match service.1 {
            0 => &[],
            _ => &[("ERROR_RATIO", "0.5")],
        };
        stage.apply(member(namespace, service, "v2", behaviour)).await;
    }
    for (name, _) in SERVICES {
        let back = stage.until_phase(name, Phase::RolledBack).await;
        assert_eq!(stable(&back), first, "{name}");
    }
    let message = stage.services().get("api").await.unwrap().status.unwrap().message;
    let message = message.unwrap();
    assert!(
        message.contains("web of its group did not take revision"),
        "{message}"
    );
    for ((name, _), load) in SERVICES.into_iter().zip(loads) {
        let requests = load.end();
        let bad = if name == "web" { "v2" } else { "none" };
        assert_eq!(not_its_own(&requests, bad), Vec::<&Request>::new(), "{name}");
        assert!(requests.iter().any(|r| r.version == "v2"), "{name} had it");
        assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v1"), "{name}");
    }
    stage.end().await;
}

//! Strategies beside shares of the traffic, under real load.

use std::process::Command;
use std::time::Duration;

use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{not_its_own, pods_of, stable, stable_under_load, until_weight};
use molt_e2e::{Load, Request, Stage, Way, sample, until};
use serde_json::{Value, json};

/// The version that answers a request with this header, by the gateway.
fn version_for(stage: &Stage, header: &str) -> String {
    let host = format!("Host: shop.{}.example.com", stage.namespace);
    let answer = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "5",
            "--header",
            &host,
            "--header",
            header,
        ])
        .arg(&stage.gateway)
        .output()
        .expect("curl is there");
    let body: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    body["version"].as_str().unwrap_or_default().to_owned()
}

fn blue_green(namespace: &str, version: &str, behaviour: &[(&str, &str)]) -> Value {
    let mut manifest = sample(namespace, "shop", version, behaviour);
    manifest["spec"]["strategy"] = json!({"blueGreen": {
        "previewReplicas": 1,
        "previewTraffic": {"headerName": "x-preview", "exact": "1"},
        "bake": "20s", "watch": "0s", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s",
    }});
    manifest
}

#[tokio::test]
async fn testers_and_copies_meet_a_version_that_no_user_has_met_yet() {
    let namespace = "e2e-testers";
    let stage = Stage::given(namespace).await;
    let load = stable_under_load(&stage, 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    let mut next = sample(namespace, "shop", "v2", &[]);
    next["spec"]["strategy"]["canary"]["steps"] = json!([
        {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "x-canary", "exact": "1"}]}},
        {"setHeaderRoute": {"name": "beta", "match": [{"cookieName": "beta", "exact": "yes"}]}},
        {"setMirror": {"percent": 50}},
        {"pause": {}},
        {"setWeight": 50},
    ]);
    stage.apply(next).await;
    stage.until_phase("shop", Phase::Paused).await;
    // The proxies have heard of it a moment after the route's controller has acknowledged it.
    stage
        .until("testers meet the new version", async || {
            version_for(&stage, "x-canary: 1") == "v2"
        })
        .await;
    assert_eq!(version_for(&stage, "cookie: a=b; beta=yes; c=d"), "v2");
    for other in ["x-canary: 2", "cookie: beta=yesterday", "accept: */*"] {
        assert_eq!(version_for(&stage, other), "v1", "{other}");
    }
    stage
        .until(
            "copies are counted at the canary, a hundred and more",
            async || {
                let status = stage.services().get("shop").await.unwrap().status.unwrap();
                let attempt = status.state.and_then(|state| state.attempt);
                let counted =
                    |attempt: molt_core::state::Attempt| attempt.evidence[0].evidence.canary().total();
                attempt.is_some_and(|attempt| counted(attempt) > 100.0)
            },
        )
        .await;
    assert!(
        load.requests().iter().all(|r| r.version != "v2"),
        "no user has met it"
    );

    let promoted = stage.kubectl_molt(&["promote", "shop"]).await;
    assert!(promoted.status.success(), "{promoted:?}");
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    stage
        .until("the old pods are gone", async || {
            pods_of(&stage, &first).await.is_empty()
        })
        .await;
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "none"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    stage.end().await;
}

#[tokio::test]
async fn blue_green_moves_all_users_at_once_and_a_bad_version_back_at_once() {
    let namespace = "e2e-bluegreen";
    let stage = Stage::given(namespace).await;
    let load = stable_under_load(&stage, 100).await;
    let first = stable(&stage.services().get("shop").await.unwrap());

    stage.apply(blue_green(namespace, "v2", &[])).await;
    until_weight(&stage, &first, |w| w == 100).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(second, first);
    let record = stage.last_record(&done).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    let requests = load.requests();
    let moved = requests
        .iter()
        .position(|r| r.version == "v2")
        .expect("users have moved");
    let both = |r: &&Request| r.version == "v1" && r.t > requests[moved].t + 2.0;
    assert_eq!(requests.iter().filter(both).count(), 0, "nobody is left behind");

    stage
        .apply(blue_green(namespace, "v3", &[("ERROR_RATIO", "0.2")]))
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "v3"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    let bad: Vec<&Request> = requests.iter().filter(|r| r.version == "v3").collect();
    if let (Some(from), Some(to)) = (bad.first(), bad.last()) {
        println!(
            "bad green: all users back after {:.1} s, {} failed requests",
            to.t - from.t,
            bad.iter().filter(|r| r.failed()).count()
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn without_a_router_pods_are_the_shares_and_nobody_loses_a_request() {
    let namespace = "e2e-none";
    let stage = Stage::given(namespace).await;
    let version = |name: &str, behaviour: &[(&str, &str)]| {
        let mut manifest = sample(namespace, "shop", name, behaviour);
        let spec = &mut manifest["spec"];
        spec["replicas"] = json!(4);
        spec["traffic"] = json!({"none": {}});
        spec["strategy"]["canary"]["steps"] = json!([
            {"setWeight": 25}, {"pause": {"duration": "15s"}}, {"setWeight": 50}, {"pause": {"duration": "15s"}}
        ]);
        manifest
    };
    stage.apply(version("v1", &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let inside = stage.inside("shop").await;
    let users = [Way::KeepAlive, Way::NewConnections].map(|way| Load::start(way, &inside, "shop", 20));
    until("everybody is served", async || {
        let served = |load: &Load| load.requests().iter().filter(|r| !r.failed()).count();
        users.iter().all(|load| served(load) > 100)
    })
    .await;

    stage.apply(version("v2", &[])).await;
    stage
        .until("half of the users meet the new version", async || {
            let requests = users[1].requests();
            let last = &requests[requests.len().saturating_sub(200)..];
            (70..=130).contains(&last.iter().filter(|r| r.version == "v2").count())
        })
        .await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(second, first);

    stage.apply(version("v3", &[("ERROR_RATIO", "0.2")])).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    let bad = back.status.unwrap().state.unwrap().last.unwrap().revision.0;
    stage
        .until("the bad pods are gone", async || {
            pods_of(&stage, &bad).await.is_empty()
        })
        .await;
    for load in users {
        assert_eq!(not_its_own(&load.end(), "v3"), Vec::<&Request>::new());
    }
    stage.end().await;
}

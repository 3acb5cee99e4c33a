//! The dashboard in a real browser, in front of real rollouts: `make e2e-browser`. It leaves pictures in `docs/images`.

use std::process::Stdio;

use kube::Api;
use kube::api::{DeleteParams, PostParams};
use molt::api::v1alpha1::{Phase, PythonService};
use molt::dashboard::{Settings, serve_locally};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::cluster::{Stage, config, given, make_namespace, service, until};
use crate::support::dashboard::{Dashboard, account};

/// Services of other teams, where nothing moves.
const QUIET: [(&str, &[&str]); 4] = [
    ("billing", &["invoices", "ledger", "tax", "dunning"]),
    ("identity", &["login", "tokens", "avatars"]),
    ("search", &["suggest", "index", "ranking", "synonyms", "spelling"]),
    ("media", &["thumbnails", "transcode", "captions"]),
];

fn release(name: &str, image: &str, steps: Value) -> Value {
    let mut object = service(name, image);
    object["metadata"]["annotations"] = json!({"molt.dev/author": "ada@example.com"});
    object["spec"]["strategy"]["canary"]["steps"] = steps;
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([
        {"name": "WORKERS", "value": if image.ends_with(":good") { "2" } else { "4" }},
        {"name": "DATABASE_URL", "value": image},
    ]);
    object
}

async fn quiet(stage: &Stage, namespace: &str, name: &str, message: &str, phase: &str, left: i64) {
    let ended = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(left.rem_euclid(977_777));
    let started = ended - jiff::SignedDuration::from_mins(31);
    let services: Api<PythonService> = Api::namespaced(stage.client.clone(), namespace);
    let object = serde_json::from_value(service(name, "shop:good")).unwrap();
    services.create(&PostParams::default(), &object).await.unwrap();
    let status = json!({
        "phase": phase, "message": message, "observedGeneration": 1,
        "stable": {"revision": "5b6c7d8e9f", "replicas": 4, "ready": 4, "weight": 100},
        "state": {"stable": "5b6c7d8e9f", "last": {
            "revision": "5b6c7d8e9f", "number": 1, "outcome": "Promoted", "reason": "Promoted", "message": "",
            "startedAt": started, "endedAt": ended, "maxWeight": 100,
            "evidence": [{
                "name": "availability", "budgetRemainingPpm": left, "measuredTo": ended,
                "evidence": serde_json::to_value(molt_core::analysis::Evidence::default()).unwrap(),
            }],
        }},
    });
    crate::dashboard::say(&services, name, status).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a browser: make e2e-browser"]
async fn a_person_on_call_in_a_browser() {
    let stage = given("shop").await;
    let short = json!([{"setWeight": 10}, {"pause": {"duration": "2s"}}, {"setWeight": 50}, {"pause": {"duration": "2s"}}]);
    let long = json!([
        {"setWeight": 5}, {"pause": {"duration": "5s"}}, {"setWeight": 25}, {"pause": {"duration": "15m"}},
        {"setWeight": 50}, {"pause": {"duration": "5m"}},
    ]);
    let waits = json!([{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]);
    for name in ["checkout", "payments", "cart", "catalog", "wishlist"] {
        stage
            .apply(release(name, &format!("{name}:good"), short.clone()))
            .await
            .unwrap();
    }
    for name in ["checkout", "payments", "cart", "catalog", "wishlist"] {
        stage.until_phase(name, Phase::Healthy).await;
    }
    for (namespace, names) in QUIET {
        make_namespace(&stage.client, namespace).await;
        for (i, name) in names.iter().enumerate() {
            let left = [972_000, 641_000, 183_000, -20_000, 888_000][i];
            quiet(
                &stage,
                namespace,
                name,
                "revision 5b6c7d8e9f serves all users",
                "Healthy",
                left,
            )
            .await;
        }
    }
    let wicked = "spec.slos[0].objective: \"<img src=x onerror=window.pwned=1>\" is not a number: write 99.9";
    quiet(&stage, "media", "upload", wicked, "Degraded", 500_000).await;
    stage
        .apply(release("payments", "payments:bad", short))
        .await
        .unwrap();
    stage.apply(release("cart", "cart:second", waits)).await.unwrap();
    stage
        .apply(release("checkout", "checkout:second", long))
        .await
        .unwrap();
    stage.until_phase("payments", Phase::RolledBack).await;
    stage.until_phase("cart", Phase::Paused).await;
    until("checkout is at a quarter", async || {
        let status = stage.service("checkout").await.status;
        status.and_then(|s| s.canary).is_some_and(|c| c.weight == 25)
    })
    .await;
    // Some blocks at this weight.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (link, server) = serve_locally(listener, config().await, None, std::future::pending()).unwrap();
    tokio::spawn(server);
    let in_cluster = Dashboard::start(config().await, Settings::default()).await;
    let bob = account(&stage, "bob", json!([])).await;

    let root = env!("CARGO_MANIFEST_DIR");
    let mut browser = Command::new("node")
        .arg(format!("{root}/e2e/browser/look.mjs"))
        .env("MOLT_LINK", link)
        .env(
            "MOLT_SIGN_IN",
            in_cluster.address.replace("127.0.0.1", "localhost"),
        )
        .env("MOLT_TOKEN", bob)
        .env("MOLT_DELETED", "wishlist")
        .env(
            "MOLT_OUT",
            std::env::var("MOLT_OUT").unwrap_or(format!("{root}/docs/images")),
        )
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is there");
    let mut lines = BufReader::new(browser.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        println!("{line}");
        if let Some(name) = line.strip_prefix("DELETE ") {
            stage
                .services()
                .delete(name, &DeleteParams::default())
                .await
                .unwrap();
        }
    }
    assert!(browser.wait().await.unwrap().success(), "see above");
}

//! Connections of a real PostgreSQL, by its exporter's metrics.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use molt::api::v1alpha1::Phase;
use molt_e2e::rollout::{load, not_its_own, stable};
use molt_e2e::{Request, Stage, sample};
use serde_json::{Value, json};

use super::migrations::{PASSWORD, database, run_database};

/// Connections that one pod may open.
const PER_POD: u32 = 25;

/// A database with its exporter beside it; the operator asks Prometheus for what that one says.
async fn given_a_measured_database(stage: &Stage) {
    let mut pod = database();
    pod["metadata"]["annotations"] = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9187"});
    let exporter = json!({
        "name": "exporter", "image": "molt.local/postgres:dev", "imagePullPolicy": "IfNotPresent",
        "command": ["/usr/bin/prometheus-postgres-exporter", "--web.listen-address=:9187"],
        "env": [{"name": "DATA_SOURCE_NAME",
                 "value": format!("postgresql://shop:{PASSWORD}@127.0.0.1/shop?sslmode=disable")}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    });
    pod["spec"]["containers"].as_array_mut().unwrap().push(exporter);
    run_database(stage, pod).await;
}

/// A report that holds so many connections and does nothing with them.
async fn start_report(stage: &Stage, connections: u32) {
    let db = stage.pods().get("db").await.unwrap();
    let host = db.status.and_then(|s| s.pod_ip).expect("it runs");
    let program = format!(
        "import psycopg, threading\nheld = [psycopg.connect('postgresql://shop:{PASSWORD}@{host}/shop') for _ in range({connections})]\nprint(len(held), flush=True)\nthreading.Event().wait()"
    );
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "report"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "report", "image": "molt.local/projects:dev", "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-c", program],
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            }],
        },
    }))
    .unwrap();
    stage.pods().create(&PostParams::default(), &pod).await.unwrap();
}

fn release(stage: &Stage, version: &str) -> Value {
    let mut manifest = sample(&stage.namespace, "shop", version, &[]);
    let of_ours = format!("{{namespace=\"{}\"}}", stage.namespace);
    manifest["spec"]["guards"] = json!({"databaseConnections": {
        "query": format!("sum(pg_stat_database_numbackends{of_ours})"),
        "limitQuery": format!("max(pg_settings_max_connections{of_ours})"),
        "perPod": PER_POD,
    }});
    manifest
}

#[tokio::test]
async fn no_pod_starts_that_the_database_has_no_connections_for() {
    let stage = Stage::given("e2e-connections").await;
    given_a_measured_database(&stage).await;
    stage.apply(release(&stage, "v1")).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = load(&stage, 10).await;
    // 100 are allowed, 90 of them by the guard: beside these no pod has room.
    start_report(&stage, 80).await;
    let mut said = String::new();
    stage
        .until("the exporter has seen the report", async || {
            let log = stage
                .pods()
                .logs("report", &kube::api::LogParams::default())
                .await;
            log.is_ok_and(|log| log.starts_with("80"))
        })
        .await;
    // One interval of the scrape, and one more.
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    stage.apply(release(&stage, "v2")).await;
    stage
        .until("it waits for connections", async || {
            let service = stage.services().get("shop").await.unwrap();
            let status = service.status.unwrap();
            said = status.message.unwrap_or_default();
            said.contains("guards.databaseConnections: ")
        })
        .await;
    println!("{said}");
    assert!(said.contains(" of 100 connections"), "{said}");
    let service = stage.services().get("shop").await.unwrap();
    let canary = service.status.unwrap().canary.expect("it is tried");
    assert_eq!((canary.replicas, canary.weight), (0, 0), "{said}");
    // It gives its connections back.
    stage
        .pods()
        .delete("report", &DeleteParams::default())
        .await
        .unwrap();
    stage
        .until("it goes on and is stable", async || {
            let service = stage.services().get("shop").await.unwrap();
            service.status.is_some_and(|s| {
                s.phase == Some(Phase::Healthy) && s.stable.is_some_and(|s| s.revision != first)
            })
        })
        .await;
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

//! The dashboard with as much as a large company has: what its server holds, and how soon its viewers see a change.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams};
use molt::api::v1alpha1::RolloutRecord;
use serde_json::{Value, json};

use super::dashboard::{BOUND, is_row, progressing, say};
use crate::support::cluster::{Stage, service, until, without_operator};
use crate::support::dashboard::{Dashboard, Person};

const SERVICES: usize = 1_000;
const RECORDS: usize = 10_000;
const VIEWERS: usize = 50;

fn name(i: usize) -> String {
    format!("service-{i:04}")
}

/// Ends with the test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A record of a rollout of some steps, as large as they usually are.
fn record(i: usize) -> (RolloutRecord, Value) {
    let at = |minute: usize| {
        format!(
            "2026-03-{:02}T{:02}:{:02}:00Z",
            1 + i / 1440,
            i / 60 % 24,
            minute % 60
        )
    };
    let record = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord",
        "metadata": {"name": format!("{}-{i}", name(i % SERVICES)), "labels": {"molt.dev/service": name(i % SERVICES)}},
        "spec": {
            "service": name(i % SERVICES), "revision": "7d9f8c0000", "stableRevision": "5b6c7d0000",
            "attempt": i / SERVICES + 1, "startedAt": at(i),
        },
    });
    let transition = |n: usize| {
        json!({
            "at": at(i + n), "weight": n * 10, "reason": "StepComplete",
            "message": format!("step {n} of 10 is complete: <b>no harm</b> was found at {} %", n * 10),
        })
    };
    let transitions: Vec<Value> = (0..10).map(transition).collect();
    let status = json!({
        "outcome": if i.is_multiple_of(7) { "RolledBack" } else { "Promoted" }, "reason": "StepsComplete",
        "message": "the canary is as good as stable", "maxWeight": 100, "durationSeconds": 600,
        "endedAt": at(i + 10), "transitions": transitions,
    });
    (serde_json::from_value(record).unwrap(), status)
}

/// Writes the services, a status of each, and the records of their past.
async fn fill(stage: &Stage) {
    stream::iter(0..SERVICES)
        .for_each_concurrent(16, |i| async move {
            stage.apply(service(&name(i), "shop:good")).await.unwrap();
            let weight = i32::try_from(i % 100).unwrap();
            say(
                &stage.services(),
                &name(i),
                progressing(weight, "at the beginning"),
            )
            .await;
        })
        .await;
    let records = &stage.records();
    stream::iter(0..RECORDS)
        .for_each_concurrent(32, |i| async move {
            let (record, status) = record(i);
            let created = records.create(&PostParams::default(), &record).await.unwrap();
            let named = created.metadata.name.unwrap();
            let patch = Patch::Merge(json!({"status": status}));
            let params = PatchParams::default();
            records.patch_status(&named, &params, &patch).await.unwrap();
        })
        .await;
}

/// Reads the records' lines page by page, once all are there; how many there are.
async fn page_through(guest: &Person) -> usize {
    until("all records are there", async || {
        let (_, page) = guest.get("/api/records").await;
        page["total"] == RECORDS
    })
    .await;
    let mut seen = std::collections::BTreeSet::new();
    let mut after = String::new();
    loop {
        let (status, page) = guest.get(&format!("/api/records?limit=200{after}")).await;
        assert_eq!(status, 200, "{page}");
        for head in page["records"].as_array().unwrap() {
            assert!(seen.insert(head["name"].to_string()), "twice: {head}");
        }
        let Some(next) = page["next"].as_str() else {
            return seen.len();
        };
        after = format!("&after={next}");
    }
}

/// What the server holds and how soon 50 viewers see a change, with 1,000 services and 10,000 records:
/// `make bench-dashboard`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and measures the machine as well"]
async fn a_thousand_services_and_fifty_viewers() {
    let stage = without_operator("dash-many").await;
    fill(&stage).await;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let server = Process(
        std::process::Command::new(
            std::env::var_os("MOLT_OPERATOR").unwrap_or(env!("CARGO_BIN_EXE_molt").into()),
        )
        .args(["dashboard", "--anonymous-read", "--listen", &address])
        .env("KUBECONFIG", crate::support::cluster::kubeconfig())
        .spawn()
        .unwrap(),
    );
    let dashboard = Dashboard {
        address: format!("http://{address}"),
    };
    until("it serves", async || {
        tokio::net::TcpStream::connect(&address).await.is_ok()
    })
    .await;
    let guest = dashboard.person("");
    let began = Instant::now();
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(guest.stream().await);
    }
    for viewer in &mut viewers {
        viewer
            .until(BOUND * 12, "all are there", |name, _| name == "whole")
            .await;
    }
    println!(
        "{VIEWERS} viewers have {SERVICES} services after {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    let seen = page_through(&guest).await;
    println!("all {seen} records are paged through after {:?}", began.elapsed());
    assert_eq!(seen, RECORDS);
    let mut times = Vec::new();
    for round in 0..20_usize {
        let target = name(round * 37 % SERVICES);
        let message = format!("round {round}");
        say(&stage.services(), &target, progressing(42, &message)).await;
        let written = Instant::now();
        for viewer in &mut viewers {
            viewer
                .until(BOUND, "the change is seen", |_, data| {
                    is_row(data, &target).is_some_and(|row| row["message"] == message)
                })
                .await;
        }
        times.push(written.elapsed());
    }
    times.sort_unstable();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id())).unwrap();
    let memory = |what: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    };
    let (now, most) = (memory("VmRSS:"), memory("VmHWM:"));
    println!(
        "from the answered status write until the last of {VIEWERS} viewers has it: median {:?}, most {:?}; resident {now:.1} MiB, at most {most:.1} MiB",
        times[10], times[19]
    );
    assert!(
        times[19] < Duration::from_secs(1) && most * 1.048_576 < 60.0,
        "{times:?} {most}"
    );
}

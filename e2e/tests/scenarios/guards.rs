//! Guards of the runtime, on real pods whose metrics a real Prometheus scrapes.

use std::time::{Duration, Instant};

use molt::api::v1alpha1::{GuardStatus, Phase};
use molt_core::state::Outcome;
use molt_e2e::rollout::{load, not_its_own, stable, until_weight};
use molt_e2e::{Load, Request, Stage, sample};
use serde_json::json;

/// Load on a service, in requests per second.
const RATE: u32 = 20;
/// So the sample tells how late its event loop is.
const MEASURED: (&str, &str) = ("MEASURE_LOOP_LAG", "1");

async fn given_measured(namespace: &str) -> (Stage, Load, String) {
    let stage = Stage::given(namespace).await;
    stage.apply(sample(namespace, "shop", "v1", &[MEASURED])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = load(&stage, RATE).await;
    (stage, load, first)
}

/// A version that stays at half of the traffic until it is taken back.
async fn released(stage: &Stage, version: &str, behaviour: &[(&str, &str)]) {
    let mut all = vec![MEASURED];
    all.extend(behaviour);
    let mut manifest = sample(&stage.namespace, "shop", version, &all);
    manifest["spec"]["strategy"]["canary"]["steps"] =
        json!([{"setWeight": 50}, {"pause": {"duration": "20m"}}]);
    stage.apply(manifest).await;
}

async fn guard(stage: &Stage, name: &str) -> Option<GuardStatus> {
    let service = stage.services().get("shop").await.expect("the service exists");
    let guards = service.status?.guards?;
    guards.runtime.into_iter().find(|guard| guard.name == name)
}

async fn taken_back(stage: &Stage, first: &str, reason: &str) -> String {
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::RolledBack), Some(reason)),
        "{:?}",
        record.message
    );
    record.message.unwrap_or_default()
}

#[tokio::test]
async fn a_version_that_blocks_its_event_loop_is_taken_back() {
    let (stage, load, first) = given_measured("e2e-blocked").await;
    released(&stage, "v2", &[("BLOCK_LOOP_MS", "400")]).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let began = Instant::now();
    until_weight(&stage, &first, |w| w == 0).await;
    let took = began.elapsed().as_secs();
    let message = taken_back(&stage, &first, "GuardEventLoopLag").await;
    println!("blocked event loop: weight 0 after {took} s: {message}");
    assert_eq!(not_its_own(&load.end(), "v2"), Vec::<&Request>::new());
    stage.end().await;
}

#[tokio::test]
#[ignore = "takes five to ten minutes: make e2e-long"]
async fn a_version_that_leaks_ten_megabytes_a_minute_is_taken_back() {
    let (stage, load, first) = given_measured("e2e-leak").await;
    released(&stage, "v2", &[("LEAK_MB_PER_MINUTE", "10")]).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let began = Instant::now();
    // Longer than anything else here may take: two minutes to settle, and minutes to look at.
    tokio::time::sleep(Duration::from_mins(4)).await;
    stage
        .until("its memory was compared", async || {
            guard(&stage, "memoryGrowth")
                .await
                .is_none_or(|guard| guard.verdict != "NoData")
        })
        .await;
    until_weight(&stage, &first, |w| w == 0).await;
    let took = began.elapsed().as_secs();
    let message = taken_back(&stage, &first, "GuardMemoryGrowth").await;
    println!("leak of 10 MB/min: weight 0 after {took} s: {message}");
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

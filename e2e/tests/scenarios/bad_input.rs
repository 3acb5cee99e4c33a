//! What is wrong with a spec and shows only beside real metrics: said with what, where and how to fix it.

use molt::api::v1alpha1::Phase;
use molt_e2e::{Stage, sample, until};
use serde_json::{Value, json};

/// The sample with an objective for latency beside the one for availability.
fn with_latency(version: &str, threshold: &str) -> Value {
    let mut manifest = sample("e2e-edge", "shop", version, &[]);
    let slos = manifest["spec"]["slos"]
        .as_array_mut()
        .expect("the sample has objectives");
    slos.push(json!({
        "name": "latency", "objective": "99",
        "sli": {"preset": "fastapi-instrumentator", "type": "latency", "threshold": threshold}
    }));
    manifest
}

#[tokio::test]
async fn a_threshold_that_is_no_edge_of_the_histogram_keeps_users_on_stable_until_it_is_corrected() {
    let stage = Stage::given("e2e-edge").await;
    stage.apply(with_latency("v1", "333ms")).await;
    let first = stage
        .until_phase("shop", Phase::Healthy)
        .await
        .status
        .unwrap()
        .stable
        .unwrap()
        .revision;
    let load = stage.load("shop", 40);
    // Ten seconds of it, two scrapes: a histogram that nobody has filled yet has no edges to be wrong.
    until("requests are answered", async || {
        load.requests().iter().filter(|r| !r.failed()).count() > 400
    })
    .await;

    stage.apply(with_latency("v2", "333ms")).await;
    until("the condition names the edges that there are", async || {
        let status = stage.services().get("shop").await.unwrap().status.unwrap();
        let conditions = status.conditions.unwrap_or_default();
        assert!(
            status.canary.is_none_or(|c| c.weight == 0),
            "nobody is sent to what can't be measured"
        );
        conditions
            .iter()
            .any(|c| c.reason == "HistogramEdgeMissing" && c.message.contains("500ms"))
    })
    .await;

    // The same pods with an objective that can be measured: nothing is lost.
    stage.apply(with_latency("v2", "500ms")).await;
    let done = stage.until_phase("shop", Phase::Healthy).await.status.unwrap();
    assert_ne!(done.stable.unwrap().revision, first);
    let failed = load
        .end()
        .into_iter()
        .skip_while(molt_e2e::Request::failed)
        .filter(molt_e2e::Request::failed)
        .count();
    assert_eq!(failed, 0);
    stage.end().await;
}

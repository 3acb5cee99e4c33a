//! The life of a service under constant load of every kind: 200 requests a second, on kept connections and on new
//! ones, by a gateway of two proxies and by the Service inside the cluster, and WebSockets that are held open.

use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{cut_early, pods_of, stable, until_weight};
use molt_e2e::{Stage, Users, gateway, operator, sample};
use serde_json::{Value, json};

/// How long the connections of a revision may last after users have left it, in seconds. Longer than its pods would
/// need to end by themselves.
const DRAIN: u32 = 20;
/// The version whose answers are errors at times: its own are the only ones that may fail.
const BAD: &str = "bad";
/// Proxies of the gateway.
const ENVOYS: i32 = 2;

/// A version with short steps.
fn version(namespace: &str, name: &str, replicas: u32) -> Value {
    behaving(namespace, name, replicas, &[])
}

/// One that behaves as these variables say.
fn behaving(namespace: &str, name: &str, replicas: u32, behaviour: &[(&str, &str)]) -> Value {
    let mut manifest = sample(namespace, "shop", name, behaviour);
    let spec = &mut manifest["spec"];
    spec["replicas"] = json!(replicas);
    spec["drain"] = json!({"timeout": format!("{DRAIN}s")});
    // Half of the callers don't come by the route.
    spec["analysis"] = json!({"onShareMismatch": "Ignore"});
    spec["strategy"]["canary"]["steps"] = json!([
        {"setWeight": 10}, {"pause": {"duration": "10s"}}, {"setWeight": 50}, {"pause": {"duration": "10s"}}
    ]);
    manifest
}

/// Takes a version to all users.
async fn promote(stage: &Stage, manifest: Value) -> String {
    let before = stable(&stage.services().get("shop").await.expect("it exists"));
    stage.apply(manifest).await;
    until_weight(stage, &before, |w| w > 0).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), before);
    stable(&done)
}

#[tokio::test]
async fn nobody_loses_a_request_or_a_stream_in_the_life_of_a_service() {
    let namespace = "e2e-life";
    // So much load leaves no room for others on a small machine.
    let stage = Stage::given_alone(namespace).await;
    gateway::scale(&stage.client, ENVOYS).await;
    stage.apply(version(namespace, "v1", 4)).await;
    stage.until_phase("shop", Phase::Healthy).await;
    let users = Users::of(&stage, "shop").await;

    let mut first = promote(&stage, version(namespace, "v2", 4)).await;
    users.lost_nothing("promoted");

    for (weight, name) in [(10, "v3"), (50, "v4"), (100, "v5")] {
        stage.apply(version(namespace, name, 4)).await;
        until_weight(&stage, &first, |w| w >= weight).await;
        let aborted = stage.kubectl_molt(&["abort", "shop"]).await;
        assert!(aborted.status.success(), "{aborted:?}");
        let back = stage.until_phase("shop", Phase::RolledBack).await;
        assert_eq!(stable(&back), first);
        users.lost_nothing(&format!("aborted at {weight} %"));
    }

    stage.apply(version(namespace, "v6", 4)).await;
    until_weight(&stage, &first, |w| w > 0).await;
    first = promote(&stage, version(namespace, "v7", 4)).await;
    users.lost_nothing("superseded");

    stage
        .apply(behaving(namespace, BAD, 4, &[("ERROR_RATIO", "0.2")]))
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));
    assert_eq!(stable(&back), first);
    users.lost_nothing("rolled back");

    stage.apply(version(namespace, "v8", 4)).await;
    until_weight(&stage, &first, |w| w > 0).await;
    operator::kill(&stage.client).await;
    first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    users.lost_nothing("promoted by an operator that was killed and started again");

    let mut green = version(namespace, "v9", 4);
    green["spec"]["strategy"] = json!({"blueGreen": {
        "previewReplicas": 1, "bake": "15s", "watch": "0s", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s",
    }});
    let blue = first.clone();
    first = promote(&stage, green.clone()).await;
    users.lost_nothing("blue/green");
    stage
        .until("the old pods are gone", async || {
            pods_of(&stage, &blue).await.is_empty()
        })
        .await;
    let streams = users.streams();
    assert!(
        streams.len() > 20,
        "streams have moved with the revisions: {streams:#?}"
    );
    let requests = users.by_gateway();
    let cut = cut_early(&streams, &requests, "v9", DRAIN);
    assert!(cut.is_empty(), "cut too early: {cut:#?}");

    // Streams of pods that a scale-down ends have the pods' own time to end.
    green["spec"]["replicas"] = json!(2);
    stage.apply(green).await;
    stage
        .until("two pods are left", async || {
            pods_of(&stage, &first).await.len() == 2
        })
        .await;
    users.lost_nothing("scaled down");

    let streams = users.streams().len();
    println!(
        "whole life: none failed of {} but the bad version's own; {streams} WebSockets ended, none before its time",
        users.leave()
    );
    gateway::scale(&stage.client, 1).await;
    stage.end().await;
}

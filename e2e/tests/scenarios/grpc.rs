//! A service that speaks gRPC, under calls and with streams that are held open.

use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{cut_early, not_its_own, pods_of, stable};
use molt_e2e::{Load, Request, Stage, Way, sample, until};
use serde_json::{Value, json};

/// How long the connections of a revision may last after users have left it, in seconds. Longer than its pods would
/// need to end by themselves.
const DRAIN: u32 = 20;

fn version(namespace: &str, name: &str, behaviour: &[(&str, &str)]) -> Value {
    let mut manifest = sample(namespace, "shop", name, behaviour);
    let spec = &mut manifest["spec"];
    spec["protocol"] = json!("GRPC");
    spec["drain"] = json!({"timeout": format!("{DRAIN}s")});
    spec["strategy"]["canary"]["steps"] = json!([
        {"setWeight": 10}, {"pause": {"duration": "10s"}}, {"setWeight": 50}, {"pause": {"duration": "10s"}}
    ]);
    spec["template"]["metadata"]["annotations"]["prometheus.io/port"] = json!("9100");
    let container = &mut spec["template"]["spec"]["containers"][0];
    container["command"] = json!(["/usr/bin/python3", "/app/rpc.py"]);
    container["readinessProbe"] = json!({"tcpSocket": {"port": 8000}, "periodSeconds": 1});
    spec["slos"] = json!([{
        "name": "calls", "objective": "99.9",
        "sli": {"counters": {"bad": "sample_call_failures_total", "total": "sample_calls_total"}}
    }]);
    manifest
}

/// Envoy Gateway ends whatever takes 15 s, streams as well, unless somebody asks for something else.
async fn let_streams_last(stage: &Stage) {
    let kind = GroupVersionKind::gvk("gateway.envoyproxy.io", "v1alpha1", "BackendTrafficPolicy");
    let kind = ApiResource::from_gvk_with_plural(&kind, "backendtrafficpolicies");
    let policies: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.namespace, &kind);
    let policy = serde_json::from_value(json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "streams"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "shop"}],
            "timeout": {"http": {"requestTimeout": "0s"}}
        }
    }));
    let created = policies
        .create(&PostParams::default(), &policy.expect("it is an object"))
        .await;
    created.expect("it is valid");
}

/// Then the canary has so much weight at least.
async fn until_canary_has(stage: &Stage, weight: i32) {
    stage
        .until("the canary's weight is as awaited", async || {
            let service = stage.services().get("shop").await.expect("it exists");
            let canary = service.status.and_then(|s| s.canary);
            canary.is_some_and(|c| c.weight >= weight)
        })
        .await;
}

/// Takes a version to all users.
async fn promote(stage: &Stage, manifest: Value) -> String {
    let before = stable(&stage.services().get("shop").await.expect("it exists"));
    stage.apply(manifest).await;
    stage
        .until("the new version is stable", async || {
            let service = stage.services().get("shop").await.expect("it exists");
            let phase = service.status.as_ref().and_then(|s| s.phase);
            phase == Some(Phase::Healthy) && stable(&service) != before
        })
        .await;
    stable(&stage.services().get("shop").await.expect("it exists"))
}

async fn until_gone(stage: &Stage, revision: &str) {
    stage
        .until("its pods are gone", async || {
            pods_of(stage, revision).await.is_empty()
        })
        .await;
}

#[tokio::test]
async fn calls_and_streams_of_grpc_outlive_the_life_of_a_service() {
    let namespace = "e2e-grpc";
    let stage = Stage::given(namespace).await;
    let_streams_last(&stage).await;
    stage.apply(version(namespace, "v1", &[])).await;
    let mut first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let (address, host) = (format!("{}:80", stage.gateway_address()), stage.host("shop"));
    let calls = Load::start(Way::Grpc, &address, &host, 40);
    until("calls are answered", async || {
        calls.requests().iter().filter(|r| !r.failed()).count() > 100
    })
    .await;
    let streams = Load::start(Way::GrpcStreams, &address, &host, 10);
    // Only the bad version may answer with errors, and only its own.
    let lost_nothing = |when: &str| {
        let requests = calls.requests();
        assert_eq!(not_its_own(&requests, "v8"), Vec::<&Request>::new(), "{when}");
    };

    let before = first.clone();
    first = promote(&stage, version(namespace, "v2", &[])).await;
    until_gone(&stage, &before).await;
    lost_nothing("promoted");

    for (weight, name) in [(10, "v3"), (50, "v4"), (100, "v5")] {
        stage.apply(version(namespace, name, &[])).await;
        until_canary_has(&stage, weight).await;
        let aborted = stage.kubectl_molt(&["abort", "shop"]).await;
        assert!(aborted.status.success(), "{aborted:?}");
        let back = stage.until_phase("shop", Phase::RolledBack).await;
        assert_eq!(stable(&back), first);
        lost_nothing(&format!("aborted at {weight} %"));
    }

    stage.apply(version(namespace, "v6", &[])).await;
    until_canary_has(&stage, 10).await;
    first = promote(&stage, version(namespace, "v7", &[])).await;
    lost_nothing("superseded");

    stage
        .apply(version(namespace, "v8", &[("ERROR_RATIO", "0.2")]))
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));
    let bad = back.status.unwrap().state.unwrap().last.unwrap().revision.0;
    until_gone(&stage, &bad).await;
    assert_eq!(
        calls.requests().last().map(|r| r.version.clone()),
        Some("v7".to_owned())
    );
    lost_nothing("rolled back");

    let mut green = version(namespace, "v9", &[]);
    green["spec"]["strategy"] = json!({"blueGreen": {
        "previewReplicas": 1, "bake": "15s", "watch": "0s", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s",
    }});
    let blue = first.clone();
    promote(&stage, green.clone()).await;
    until_gone(&stage, &blue).await;
    lost_nothing("blue/green");

    let requests = calls.requests();
    let ended = streams.streams();
    assert!(
        ended.len() >= 20,
        "streams have moved with the revisions: {ended:#?}"
    );
    let cut = cut_early(&ended, &requests, "v9", DRAIN);
    assert!(cut.is_empty(), "cut too early: {cut:#?}");

    // Streams of a pod that a scale-down ends have the pod's own time to end.
    green["spec"]["replicas"] = json!(1);
    stage.apply(green).await;
    stage
        .until("one pod is left", async || {
            let all = stage.pods().list(&ListParams::default()).await;
            all.expect("pods can be listed").items.len() == 1
        })
        .await;
    lost_nothing("scaled down");
    println!(
        "gRPC: {} calls, none failed but the bad version's own; {} streams ended, none before its time",
        calls.requests().len(),
        streams.streams().len()
    );
    stage.end().await;
}

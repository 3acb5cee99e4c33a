//! A service that speaks gRPC, under calls and with streams that are held open.

use kube::Api;
use kube::api::{DynamicObject, PostParams};
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

#[tokio::test]
async fn calls_and_streams_of_grpc_outlive_a_promotion_and_a_rollback() {
    let namespace = "e2e-grpc";
    let stage = Stage::given(namespace).await;
    let_streams_last(&stage).await;
    stage.apply(version(namespace, "v1", &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let (address, host) = (format!("{}:80", stage.gateway_address()), stage.host("shop"));
    let calls = Load::start(Way::Grpc, &address, &host, 40);
    until("calls are answered", async || {
        calls.requests().iter().filter(|r| !r.failed()).count() > 100
    })
    .await;
    let streams = Load::start(Way::GrpcStreams, &address, &host, 10);

    stage.apply(version(namespace, "v2", &[])).await;
    stage
        .until("the new version is stable", async || {
            let service = stage.services().get("shop").await.unwrap();
            let phase = service.status.as_ref().and_then(|s| s.phase);
            phase == Some(Phase::Healthy) && stable(&service) != first
        })
        .await;
    stage
        .until("the old pods are gone", async || {
            pods_of(&stage, &first).await.is_empty()
        })
        .await;

    stage
        .apply(version(namespace, "v3", &[("ERROR_RATIO", "0.2")]))
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));
    let bad = back.status.unwrap().state.unwrap().last.unwrap().revision.0;
    stage
        .until("the bad pods are gone", async || {
            pods_of(&stage, &bad).await.is_empty()
        })
        .await;

    let requests = calls.requests();
    assert_eq!(not_its_own(&requests, "v3"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    let ended = streams.streams();
    assert!(
        ended.len() >= 10,
        "streams have moved with the revisions: {ended:#?}"
    );
    let cut = cut_early(&ended, &requests, "v2", DRAIN);
    assert!(cut.is_empty(), "cut too early: {cut:#?}");
    println!(
        "gRPC: {} calls, none failed but the bad version's own; {} streams ended, none before its time",
        requests.len(),
        ended.len()
    );
    stage.end().await;
}

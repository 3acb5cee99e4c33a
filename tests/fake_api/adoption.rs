//! A Deployment is taken over and given back, whatever write the operator dies at.

use http::Method;
use molt_sim_api::{Call, Sim};
use serde_json::{Value, json};

use super::crashes::sweep;
use super::stage::{act, apply, empty, is_healthy, live, seen, service, settle};

/// Pods of the Deployment, and the one that it may have beside them.
const PODS: usize = 3;

fn put_deployment(sim: &Sim, replicas: usize) {
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": "checkout:1"}]},
            },
        },
    });
    let path = "/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=person";
    let answer = sim.ask(&Call::new(
        Method::PATCH,
        path,
        "application/apply-patch+yaml",
        deployment,
    ));
    assert!(answer.code < 300, "{}", answer.body);
}

fn adopting() -> Value {
    let mut service = service("none");
    let spec = service["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.remove("replicas");
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    spec.insert("workloadRef".to_owned(), workload);
    service
}

/// Pods with the labels of the Deployment's, of which there are never too few and never too many.
fn pods(sim: &Sim) -> usize {
    let is_web = |pod: &&Value| pod["metadata"]["labels"]["app"] == "web";
    let pods = sim.with(|s| s.objects("pods").into_iter().filter(is_web).count());
    assert!((PODS..=PODS + 1).contains(&pods), "{pods} pods");
    pods
}

fn deployment(sim: &Sim) -> Value {
    sim.with(|s| s.object("deployments.apps", "shop", "web").cloned().unwrap())
}

/// Given a Deployment that serves.
fn serving() -> Sim {
    let sim = empty();
    put_deployment(&sim, PODS);
    live(&sim, |sim| sim.with(|s| s.objects("pods").len()) == PODS);
    sim
}

fn is_taken(sim: &Sim) -> bool {
    let deployment = deployment(sim);
    let held = &deployment["metadata"]["annotations"];
    pods(sim) == PODS
        && is_healthy(sim)
        && deployment["spec"]["replicas"] == 0
        && deployment["spec"]["paused"] == true
        && held["molt.dev/former-replicas"] == "3"
}

fn is_given_back(sim: &Sim) -> bool {
    let deployment = deployment(sim);
    let conditions = seen(sim)["status"]["conditions"].clone();
    let released = |c: &Value| c["type"] == "WorkloadTaken" && c["reason"] == "Released";
    pods(sim) == PODS
        && conditions.as_array().into_iter().flatten().any(released)
        && deployment["spec"]["replicas"] == PODS
        && deployment["spec"]["paused"] == false
        && deployment["metadata"]["annotations"].is_null()
}

fn taken() -> Sim {
    let sim = serving();
    apply(&sim, adopting());
    settle(&sim, is_taken);
    sim
}

#[test]
fn a_takeover_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = serving();
            apply(&sim, adopting());
            sim.take_log();
            sim
        },
        is_taken,
    );
}

#[test]
fn a_release_survives_a_crash_at_any_write() {
    sweep(
        || {
            let sim = taken();
            act(&sim, "release", "Release");
            sim.take_log();
            sim
        },
        is_given_back,
    );
}

#[test]
fn a_deployment_that_was_parked_at_zero_is_not_started_by_being_taken_over() {
    let sim = empty();
    put_deployment(&sim, 0);
    apply(&sim, adopting());
    settle(&sim, |sim| {
        let taken = deployment(sim)["metadata"]["annotations"]["molt.dev/former-replicas"] == "0";
        let sets = sim.with(|s| {
            s.objects("replicasets.apps")
                .into_iter()
                .cloned()
                .collect::<Vec<_>>()
        });
        let molts = |set: &&Value| {
            set["metadata"]["name"]
                .as_str()
                .is_some_and(|n| n.starts_with("checkout-"))
        };
        let asked: Vec<_> = sets
            .iter()
            .filter(molts)
            .map(|s| s["spec"]["replicas"].clone())
            .collect();
        assert!(asked.iter().all(|n| n.is_null() || *n == 0), "{asked:?}");
        taken && !asked.is_empty() && is_healthy(sim)
    });
}

//! An existing Deployment is taken over and given back, under constant load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use molt_e2e::rollout::not_its_own;
use molt_e2e::{Request, Stage, Users, gateway, sample};
use serde_json::{Value, json};

const PODS: usize = 3;
const SURGE: usize = 1;

fn deployment(namespace: &str) -> Value {
    let mut template = sample(namespace, "shop", "v1", &[])["spec"]["template"].clone();
    template["metadata"]["labels"] = json!({"app": "shop"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "shop"}},
            "strategy": {"rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 0}},
            "template": template,
        }
    })
}

/// The user's own way to the pods: a Service by their labels, and a route to it.
fn front(namespace: &str) -> (Value, Value) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]}
    });
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "front"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": [format!("shop.{namespace}.example.com")],
            "rules": [{"backendRefs": [{"name": "shop", "port": 80}]}]
        }
    });
    (service, route)
}

/// Counts the pods that stay, until it is told to end.
fn count_pods(stage: &Stage) -> (Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (most, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, ends, pods) = (most.clone(), end.clone(), stage.pods());
    tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            if let Ok(pods) = pods.list(&ListParams::default().labels("app=shop")).await {
                let stay = pods
                    .items
                    .iter()
                    .filter(|p| p.metadata.deletion_timestamp.is_none());
                seen.fetch_max(stay.count(), Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    (most, end)
}

#[tokio::test]
async fn a_deployment_is_taken_over_and_given_back_and_no_request_is_lost() {
    let namespace = "e2e-adoption";
    // So much load leaves no room for others on a small machine.
    let stage = Stage::given_alone(namespace).await;
    gateway::scale(&stage.client, 2).await;
    let deployments: Api<Deployment> = Api::namespaced(stage.client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(stage.client.clone(), namespace);
    let (service, route) = front(namespace);
    let person = PatchParams::apply("person");
    deployments
        .patch("shop", &person, &Patch::Apply(deployment(namespace)))
        .await
        .unwrap();
    services
        .patch("shop", &person, &Patch::Apply(service))
        .await
        .unwrap();
    stage
        .routes()
        .patch("front", &person, &Patch::Apply(route))
        .await
        .unwrap();
    stage
        .until("the Deployment serves", async || {
            let status = deployments.get("shop").await.unwrap().status.unwrap_or_default();
            status.ready_replicas == Some(3)
        })
        .await;
    let users = Users::of(&stage, "shop").await;
    let (most, counted) = count_pods(&stage);

    let mut adopting = sample(namespace, "shop", "v1", &[]);
    let spec = adopting["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.remove("replicas");
    spec["traffic"]["gatewayAPI"]["hostnames"] = json!([format!("molt.{namespace}.example.com")]);
    spec.insert(
        "workloadRef".to_owned(),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}),
    );
    stage.apply(adopting).await;
    stage
        .until_told("shop", "WorkloadTaken", "True", "TakenOver")
        .await;
    let taken = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(taken.status.unwrap().stable.unwrap().ready, 3);
    assert_eq!(
        deployments.get("shop").await.unwrap().spec.unwrap().replicas,
        Some(0)
    );

    users.lost_nothing("taken over");
    // Others come by Molt's route meanwhile, and stay there.
    let others = stage.load("molt", 40);
    stage
        .until("Molt's route answers", async || {
            others.requests().iter().filter(|r| !r.failed()).count() > 100
        })
        .await;
    let released = stage
        .kubectl_molt(&["release", "shop", "--reason", "back to before"])
        .await;
    assert!(released.status.success(), "{released:?}");
    stage
        .until_told("shop", "WorkloadTaken", "False", "Released")
        .await;
    let given = deployments.get("shop").await.unwrap().spec.unwrap();
    assert_eq!((given.replicas, given.paused.unwrap_or(false)), (Some(3), false));
    // The pods that end do so while they still answer.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        not_its_own(&others.end(), "none"),
        Vec::<&Request>::new(),
        "by Molt's route"
    );

    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    stage
        .until("the PythonService is gone", async || {
            stage.services().get_opt("shop").await.unwrap().is_none()
        })
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    counted.store(true, Ordering::Relaxed);
    users.lost_nothing("taken over and given back, by the user's own Service and route");
    println!("taken over and given back: none failed of {}", users.leave());
    gateway::scale(&stage.client, 1).await;
    let most = most.load(Ordering::Relaxed);
    assert!(most <= PODS + SURGE, "{most} pods");
    stage.end().await;
}

//! An existing Deployment is taken over and given back, beside the real controller of Deployments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{kubectl_molt, service, stable, until};
use crate::support::{Stage, given};

/// Pods that the Deployment has, and those that it may have beside them.
const PODS: i64 = 4;
const SURGE: i64 = 1;

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": {"app": "shop"}},
            "strategy": {"rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "app", "image": image}]}
            }
        }
    })
}

/// The PythonService that takes it over; it has the same name, as the user's own Service has.
fn adopting() -> Value {
    let mut adopting = service("shop", "none");
    let spec = adopting["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.remove("replicas");
    spec.insert(
        "workloadRef".to_owned(),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}),
    );
    adopting
}

fn deployments(stage: &Stage) -> Api<Deployment> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

async fn apply(stage: &Stage, deployment: Value) {
    deployments(stage)
        .patch(
            "shop",
            &PatchParams::apply("ci").force(),
            &Patch::Apply(deployment),
        )
        .await
        .expect("it is valid");
}

/// What CI and GitOps do: the image changes, and nothing is said of the number of pods.
async fn set_image(stage: &Stage, image: &str) {
    let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}});
    deployments(stage)
        .patch("shop", &PatchParams::default(), &Patch::Strategic(body))
        .await
        .unwrap();
}

/// Ready addresses behind the user's own Service, which is what its callers reach, and pods with the labels.
struct Watch {
    least: Arc<AtomicI64>,
    most: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn of(stage: &Stage) -> Self {
        let watch = Self {
            least: Arc::new(AtomicI64::new(i64::MAX)),
            most: Arc::new(AtomicI64::new(0)),
            over: Arc::default(),
        };
        let (least, most, over) = (watch.least.clone(), watch.most.clone(), watch.over.clone());
        let slices: Api<EndpointSlice> = Api::namespaced(stage.client.clone(), &stage.namespace);
        let pods = stage.pods();
        tokio::spawn(async move {
            let behind = ListParams::default().labels("kubernetes.io/service-name=shop");
            let ours = ListParams::default().labels("app=shop");
            while !over.load(Ordering::Relaxed) {
                if let Ok(slices) = slices.list(&behind).await {
                    least.fetch_min(ready(&slices.items), Ordering::Relaxed);
                }
                if let Ok(pods) = pods.list(&ours).await {
                    let stays = pods
                        .items
                        .iter()
                        .filter(|p| p.metadata.deletion_timestamp.is_none());
                    let stays = i64::try_from(stays.count()).unwrap();
                    most.fetch_max(stays, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        watch
    }

    /// Nobody was left without a pod, and there were never too many.
    fn assert_kept(&self) {
        self.over.store(true, Ordering::Relaxed);
        let (least, most) = (
            self.least.load(Ordering::Relaxed),
            self.most.load(Ordering::Relaxed),
        );
        assert!(least >= PODS, "only {least} ready addresses behind the Service");
        assert!(most <= PODS + SURGE, "{most} pods");
    }
}

fn ready(slices: &[EndpointSlice]) -> i64 {
    let endpoints = slices.iter().flat_map(|s| &s.endpoints);
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    i64::try_from(ready.count()).unwrap()
}

/// Given a Deployment that serves behind a Service of the user's.
async fn given_deployment(namespace: &str) -> Stage {
    let stage = given(namespace).await;
    let own = json!({
        "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8000}]},
    });
    let own: Service = serde_json::from_value(own).unwrap();
    stage
        .core_services()
        .create(&PostParams::default(), &own)
        .await
        .unwrap();
    apply(&stage, deployment("shop:good")).await;
    let slices: Api<EndpointSlice> = Api::namespaced(stage.client.clone(), namespace);
    let behind = ListParams::default().labels("kubernetes.io/service-name=shop");
    until("the Deployment serves", async || {
        let status = deployments(&stage)
            .get("shop")
            .await
            .unwrap()
            .status
            .unwrap_or_default();
        let served = slices.list(&behind).await.is_ok_and(|s| ready(&s.items) == PODS);
        served && status.updated_replicas == Some(4) && status.ready_replicas == Some(4)
    })
    .await;
    stage
}

async fn spec_of(stage: &Stage) -> (Option<i32>, bool) {
    let spec = deployments(stage).get("shop").await.unwrap().spec.unwrap();
    (spec.replicas, spec.paused.unwrap_or(false))
}

#[tokio::test]
async fn a_deployment_is_taken_over_rolled_out_by_molt_and_given_back() {
    let stage = given_deployment("adopt-whole").await;
    let watch = Watch::of(&stage);
    stage.apply(adopting()).await.expect("it is valid");
    stage
        .until_condition("shop", "WorkloadTaken", "True", "TakenOver")
        .await;
    let taken = stage.until_phase("shop", Phase::Healthy).await;
    watch.assert_kept();
    let first = stable(&taken);
    assert_eq!(spec_of(&stage).await, (Some(0), true));
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);
    // The user's own Service is the user's.
    let own = stage.core_services().get("shop").await.unwrap();
    assert!(own.owner_references().is_empty());
    let status = taken.status.unwrap().stable.unwrap();
    assert_eq!((status.ready, status.replicas), (4, 4));

    // What CI does goes on, and Molt rolls it out; the Deployment itself starts no pod.
    set_image(&stage, "shop:better").await;
    until("another revision is stable", async || {
        let status = stage.service("shop").await.status.unwrap();
        status.phase == Some(Phase::Healthy) && status.stable.is_some_and(|s| s.revision != first)
    })
    .await;
    assert_eq!(spec_of(&stage).await, (Some(0), true));
    assert_eq!(
        deployments(&stage)
            .get("shop")
            .await
            .unwrap()
            .status
            .unwrap()
            .replicas
            .unwrap_or(0),
        0
    );

    let second = stable(&stage.service("shop").await);
    until("the pods of the former revision have gone", async || {
        let of = |revision: &str| ListParams::default().labels(&format!("molt.dev/revision={revision}"));
        stage.pods().list(&of(&first)).await.unwrap().items.is_empty()
    })
    .await;
    let watch = Watch::of(&stage);
    let code = kubectl_molt("adopt-whole", &["release", "shop", "--reason", "done trying"]).await;
    assert_eq!(code, std::process::ExitCode::SUCCESS);
    stage
        .until_condition("shop", "WorkloadTaken", "False", "Released")
        .await;
    watch.assert_kept();
    assert_eq!(spec_of(&stage).await, (Some(4), false));
    let given = deployments(&stage).get("shop").await.unwrap();
    assert!(!given.annotations().keys().any(|key| key.starts_with("molt.dev/")));
    assert!(
        given
            .managed_fields()
            .iter()
            .all(|e| e.manager.as_deref() != Some("molt"))
    );
    let pods = stage
        .pods()
        .list(&ListParams::default().labels("app=shop"))
        .await
        .unwrap();
    let image = |p: &k8s_openapi::api::core::v1::Pod| p.spec.as_ref().unwrap().containers[0].image.clone();
    assert!(
        pods.items
            .iter()
            .all(|p| image(p).as_deref() == Some("shop:better"))
    );
    // Who came by Molt's route still gets there: its Service selects the Deployment's pods now.
    let leads = stage
        .core_services()
        .get(&format!("shop-{second}"))
        .await
        .unwrap();
    assert_eq!(
        leads.spec.unwrap().selector,
        Some([("app".to_owned(), "shop".to_owned())].into())
    );
    stage.until_event("shop", "ReleasedByPerson").await;
    stage.until_event("shop", "Released").await;

    // The Deployment is its own again, and the PythonService can go.
    let watch = Watch::of(&stage);
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until("the PythonService is gone", async || {
        stage.services().get_opt("shop").await.unwrap().is_none()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    watch.assert_kept();
    assert_eq!(spec_of(&stage).await, (Some(4), false));
}

#[tokio::test]
async fn a_service_that_is_deleted_gives_its_deployment_back_first() {
    let stage = given_deployment("adopt-deleted").await;
    stage.apply(adopting()).await.expect("it is valid");
    stage
        .until_condition("shop", "WorkloadTaken", "True", "TakenOver")
        .await;
    stage.until_phase("shop", Phase::Healthy).await;
    let watch = Watch::of(&stage);
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until("the PythonService is gone", async || {
        stage.services().get_opt("shop").await.unwrap().is_none()
    })
    .await;
    watch.assert_kept();
    assert_eq!(spec_of(&stage).await, (Some(4), false));
}

#[tokio::test]
async fn an_operator_that_ends_in_the_middle_goes_on_where_it_was() {
    let mut stage = given_deployment("adopt-crash").await;
    let watch = Watch::of(&stage);
    stage.apply(adopting()).await.expect("it is valid");
    for left in [3, 1] {
        until("some pods have moved", async || {
            spec_of(&stage).await.0.unwrap() <= left
        })
        .await;
        stage.stop_operator().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.start_operator();
    }
    stage
        .until_condition("shop", "WorkloadTaken", "True", "TakenOver")
        .await;
    stage.until_phase("shop", Phase::Healthy).await;
    watch.assert_kept();
    let was = deployments(&stage).get("shop").await.unwrap();
    assert_eq!(
        was.annotations()
            .get("molt.dev/former-replicas")
            .map(String::as_str),
        Some("4")
    );
}

#[tokio::test]
async fn a_number_of_pods_that_is_written_back_is_set_again_and_told() {
    let stage = given_deployment("adopt-gitops").await;
    stage.apply(adopting()).await.expect("it is valid");
    stage
        .until_condition("shop", "WorkloadTaken", "True", "TakenOver")
        .await;
    let manager = PatchParams::apply("argocd-controller").force();
    deployments(&stage)
        .patch("shop", &manager, &Patch::Apply(deployment("shop:good")))
        .await
        .unwrap();
    let message = stage
        .until_condition("shop", "WorkloadTaken", "False", "WorkloadWrittenBack")
        .await;
    assert!(
        message.contains("argocd-controller") && message.contains("/spec/replicas"),
        "{message}"
    );
    until("it has no pods again", async || {
        spec_of(&stage).await == (Some(0), true)
    })
    .await;
    assert_eq!(
        stable(&stage.service("shop").await),
        stable(&stage.until_phase("shop", Phase::Healthy).await)
    );
}

#[tokio::test]
async fn what_can_not_be_taken_over_is_refused_with_its_fix() {
    let stage = given("adopt-refused").await;
    stage.apply(adopting()).await.expect("it is valid");
    let nothing = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(
        nothing.contains("spec.workloadRef.name: there is no Deployment shop"),
        "{nothing}"
    );

    let mut owned = deployment("shop:good");
    let someone = stage.service("shop").await;
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": someone.uid().unwrap(), "controller": true,
    }]);
    let uid = stage.client.clone();
    let map = json!({"metadata": {"name": "app"}});
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(uid, &stage.namespace);
    let map = maps
        .create(&PostParams::default(), &serde_json::from_value(map).unwrap())
        .await
        .unwrap();
    owned["metadata"]["ownerReferences"][0]["uid"] = json!(map.uid().unwrap());
    apply(&stage, owned).await;
    until("the owner is told", async || {
        let text = stage
            .until_condition("shop", "SpecValid", "False", "SpecInvalid")
            .await;
        text.contains("is owned by ConfigMap app")
    })
    .await;
    deployments(&stage)
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until("it is gone", async || {
        deployments(&stage).get_opt("shop").await.unwrap().is_none()
    })
    .await;

    let mut recreated = deployment("shop:good");
    recreated["spec"]["strategy"] = json!({"type": "Recreate"});
    apply(&stage, recreated).await;
    until("the strategy is told", async || {
        let text = stage
            .until_condition("shop", "SpecValid", "False", "SpecInvalid")
            .await;
        text.contains("Recreate")
    })
    .await;
    deployments(&stage)
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();

    // An autoscaler is waited for.
    let autoscaler = json!({
        "metadata": {"name": "shop-hpa"},
        "spec": {"maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}},
    });
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let autoscaler = serde_json::from_value(autoscaler).unwrap();
    autoscalers
        .create(&PostParams::default(), &autoscaler)
        .await
        .unwrap();
    until("it is gone", async || {
        deployments(&stage).get_opt("shop").await.unwrap().is_none()
    })
    .await;
    apply(&stage, deployment("shop:good")).await;
    let told = stage
        .until_condition("shop", "WorkloadTaken", "False", "WorkloadHeldBack")
        .await;
    assert!(
        told.contains("shop-hpa") && told.contains("scaleTargetRef"),
        "{told}"
    );
    assert_eq!(spec_of(&stage).await, (Some(4), false));
    autoscalers
        .delete("shop-hpa", &DeleteParams::default())
        .await
        .unwrap();
    stage
        .until_condition("shop", "WorkloadTaken", "True", "TakenOver")
        .await;

    // The schema refuses what can't be meant.
    let mut both = adopting();
    both["metadata"]["name"] = json!("both");
    both["spec"]["template"] = json!({"spec": {"containers": [{"name": "app", "image": "a:1"}]}});
    let refused = stage.apply(both).await.unwrap_err().to_string();
    assert!(refused.contains("set exactly one of template"), "{refused}");
    let mut other = adopting();
    other["spec"]["workloadRef"]["name"] = json!("other");
    let refused = stage.apply(other).await.unwrap_err().to_string();
    assert!(refused.contains("workloadRef.name can't be changed"), "{refused}");
}

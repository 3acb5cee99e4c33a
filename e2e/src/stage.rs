//! Given a cluster with the operator in it, and a namespace of one's own.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config, ResourceExt};
use molt::api::v1alpha1::{Phase, PythonService, RolloutRecord};
use serde_json::{Value, json};

use crate::load::Load;

/// How long anything may take before a scenario fails; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(4);

/// A namespace of the cluster.
pub struct Stage {
    /// The API server, as an administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The gateway's URL.
    pub gateway: String,
}

/// A value of the file that the cluster's scripts leave for others.
fn cluster_value(key: &str) -> String {
    let name = std::env::var("MOLT_E2E_CLUSTER")
        .expect("MOLT_E2E_CLUSTER names the cluster: run the scenarios by `make e2e`, which brings one up");
    let cache = std::env::var("XDG_CACHE_HOME").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").expect("there is a home")).join(".cache"),
        PathBuf::from,
    );
    let file = cache.join("molt/clusters").join(name).join("env");
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}: bring the cluster up by `make cluster`", file.display()));
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("{key} is not in {}", file.display()))
        .to_owned()
}

impl Stage {
    /// Given an empty namespace.
    pub async fn given(namespace: &str) -> Self {
        let kubeconfig =
            Kubeconfig::read_from(cluster_value("KUBECONFIG")).expect("the kubeconfig is readable");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("it is valid");
        let client = Client::try_from(config).expect("a client can be made");
        let stage = Self {
            client,
            namespace: namespace.to_owned(),
            gateway: cluster_value("GATEWAY_URL"),
        };
        stage.clear().await;
        let object =
            serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("it is a namespace");
        Api::<Namespace>::all(stage.client.clone())
            .create(&PostParams::default(), &object)
            .await
            .expect("it is new");
        stage
    }

    /// Removes the namespace with all that is in it.
    pub async fn clear(&self) {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        if namespaces
            .get_opt(&self.namespace)
            .await
            .expect("namespaces can be read")
            .is_none()
        {
            return;
        }
        for service in self
            .services()
            .list(&ListParams::default())
            .await
            .expect("they can be listed")
        {
            self.services()
                .delete(&service.name_any(), &DeleteParams::default())
                .await
                .expect("it can be deleted");
        }
        drop(namespaces.delete(&self.namespace, &DeleteParams::default()).await);
        until("the namespace is gone", async || {
            namespaces
                .get_opt(&self.namespace)
                .await
                .is_ok_and(|n| n.is_none())
        })
        .await;
    }

    /// PythonServices here.
    pub fn services(&self) -> Api<PythonService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Records here.
    pub fn records(&self) -> Api<RolloutRecord> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Pods here.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// HTTPRoutes here.
    pub fn routes(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
        let kind = ApiResource::from_gvk_with_plural(&kind, "httproutes");
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// When somebody applies this manifest.
    pub async fn apply(&self, manifest: Value) -> PythonService {
        let name = manifest["metadata"]["name"]
            .as_str()
            .expect("it has a name")
            .to_owned();
        let params = PatchParams::apply("person").force();
        self.services()
            .patch(&name, &params, &Patch::Apply(manifest))
            .await
            .expect("the manifest is valid")
    }

    /// When somebody sends requests to a service through the gateway.
    pub fn load(&self, service: &str, rate: u32) -> Load {
        Load::start(&self.gateway, &host(&self.namespace, service), rate)
    }

    /// Then it comes to a phase.
    pub async fn until_phase(&self, name: &str, phase: Phase) -> PythonService {
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let service = self.services().get(name).await.expect("the service exists");
                let status = service.status.clone().unwrap_or_default();
                if status.observed_generation == service.metadata.generation && status.phase == Some(phase) {
                    return service;
                }
                last = Some(status);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| {
            panic!(
                "{name} never became {phase:?}; last: {}",
                serde_json::to_string_pretty(&last).unwrap_or_default()
            )
        })
    }

    /// The record of the latest attempt, once it has ended.
    pub async fn last_record(&self, service: &PythonService) -> RolloutRecord {
        let last = service
            .status
            .as_ref()
            .and_then(|s| s.state.as_ref())
            .and_then(|s| s.last.as_ref());
        let last = last.expect("an attempt has ended");
        let name = format!("{}-{}-{}", service.name_any(), last.revision, last.number);
        until("the record is ended", async || {
            let record = self.records().get_opt(&name).await.expect("records can be read");
            record.is_some_and(|r| r.status.is_some_and(|s| s.outcome.is_some()))
        })
        .await;
        self.records().get(&name).await.expect("it was there just now")
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

fn host(namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.example.com")
}

/// The sample service, in a version that behaves as these variables say. Its steps are short, as a scenario
/// needs them.
pub fn sample(namespace: &str, name: &str, version: &str, behaviour: &[(&str, &str)]) -> Value {
    let mut env = vec![json!({"name": "APP_VERSION", "value": version})];
    env.extend(
        behaviour
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    );
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 2,
            "port": 8000,
            "progressDeadline": "60s",
            "drain": {"timeout": "5s"},
            "runtime": {"server": "uvicorn"},
            "template": {
                "metadata": {"annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}},
                "spec": {
                    "terminationGracePeriodSeconds": 20,
                    "containers": [{
                        "name": "app",
                        "image": "molt.local/sample:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "env": env,
                        "ports": [{"name": "http", "containerPort": 8000}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8000}, "periodSeconds": 1},
                        // Endpoints leave the proxies a moment after the pod begins to end.
                        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                        "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}}
                    }]
                }
            },
            "traffic": {"gatewayAPI": {
                "parentRefs": [{"name": "public", "namespace": "gateways"}],
                "hostnames": [host(namespace, name)]
            }},
            "metrics": {"prometheus": {"interval": "5s"}},
            "strategy": {"canary": {
                "steps": [
                    {"setWeight": 10}, {"pause": {"duration": "15s"}},
                    {"setWeight": 50}, {"pause": {"duration": "15s"}}
                ],
                "bake": "10s", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s"
            }},
            "slos": [{
                "name": "availability", "objective": "99.9",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"}
            }]
        }
    })
}

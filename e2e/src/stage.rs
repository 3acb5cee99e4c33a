//! Given a cluster with the operator in it, and a namespace of one's own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, Config, ResourceExt};
use molt::api::v1alpha1::{Phase, PythonService, RolloutRecord};
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::load::{Load, Way};

/// How long anything may take before a scenario fails; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(8);

/// Scenarios share the operator, or have it for themselves.
static OPERATOR: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);

/// A scenario's part in the operator, until it ends.
enum Share {
    With(#[expect(dead_code, reason = "held, never read")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "held, never read")] OwnedRwLockWriteGuard<()>),
}

/// A namespace of the cluster.
pub struct Stage {
    /// The API server, as an administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// The gateway's URL.
    pub gateway: String,
    _operator: Share,
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
    /// Given an empty namespace, while other scenarios may run.
    pub async fn given(namespace: &str) -> Self {
        let share = Share::With(OPERATOR.clone().read_owned().await);
        Box::pin(Self::make(namespace, share)).await
    }

    /// Given an empty namespace, and nobody else whom the operator serves.
    pub async fn given_alone(namespace: &str) -> Self {
        let share = Share::Alone(OPERATOR.clone().write_owned().await);
        Box::pin(Self::make(namespace, share)).await
    }

    async fn make(namespace: &str, share: Share) -> Self {
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
            _operator: share,
        };
        Box::pin(stage.clear()).await;
        let object =
            serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("it is a namespace");
        stage
            .namespaces()
            .create(&PostParams::default(), &object)
            .await
            .expect("it is new");
        stage
    }

    /// Removes what an earlier run left in the namespace.
    async fn clear(&self) {
        let namespaces = self.namespaces();
        let there = namespaces.get_opt(&self.namespace).await;
        if there.expect("namespaces can be read").is_none() {
            return;
        }
        Box::pin(self.leave()).await;
        until("the namespace is gone", async || {
            let there = namespaces.get_opt(&self.namespace).await;
            there.is_ok_and(|n| n.is_none())
        })
        .await;
    }

    /// Ends the scenario: its services go, as they should, and then the namespace, for which nobody waits.
    pub async fn end(self) {
        Box::pin(self.leave()).await;
    }

    async fn leave(&self) {
        let services = self.services();
        let all = services.list(&ListParams::default()).await;
        for service in all.expect("they can be listed") {
            let gone = services
                .delete(&service.name_any(), &DeleteParams::default())
                .await;
            gone.expect("it can be deleted");
        }
        until("the services are gone", async || {
            let left = services.list(&ListParams::default()).await;
            left.is_ok_and(|l| l.items.is_empty())
        })
        .await;
        drop(
            self.namespaces()
                .delete(&self.namespace, &DeleteParams::default())
                .await,
        );
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
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

    /// ReplicaSets here.
    pub fn sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Core Services here.
    pub fn core_services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The gateway's address.
    pub fn gateway_address(&self) -> IpAddr {
        let host = self.gateway.trim_start_matches("http://");
        host.parse().expect("the gateway's URL has an address")
    }

    /// The kubeconfig's path.
    pub fn kubeconfig(&self) -> String {
        cluster_value("KUBECONFIG")
    }

    /// Where `make image` puts the binaries.
    pub fn binaries() -> PathBuf {
        std::env::var("MOLT_BIN_DIR").map_or_else(
            // …/target/debug/deps/TEST
            |_| {
                let test = std::env::current_exe().expect("it has a path");
                test.ancestors().nth(3).expect("cargo built it").join("release")
            },
            PathBuf::from,
        )
    }

    /// When somebody runs `kubectl molt`, as `make image` has built it.
    pub async fn kubectl_molt(&self, arguments: &[&str]) -> Output {
        let dir = Self::binaries();
        tokio::process::Command::new(dir.join("kubectl-molt"))
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .env("KUBECONFIG", cluster_value("KUBECONFIG"))
            .output()
            .await
            .unwrap_or_else(|e| panic!("{}/kubectl-molt: {e}: run `make image`", dir.display()))
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
        self.load_of(service, "", rate)
    }

    /// When somebody sends requests for a path of a service, without a slash at its beginning.
    pub fn load_of(&self, service: &str, path: &str, rate: u32) -> Load {
        let url = format!("{}/{path}", self.gateway);
        Load::start(Way::KeepAlive, &url, &self.host(service), rate)
    }

    /// The URL of a service's own Service, as callers inside the cluster have it.
    pub async fn inside(&self, service: &str) -> String {
        let found = self.core_services().get(service).await.expect("it exists");
        let spec = found.spec.expect("it has a spec");
        let port = spec.ports.expect("it has a port")[0].port;
        format!("http://{}:{port}/", spec.cluster_ip.expect("it has an address"))
    }

    /// The host by which the gateway knows the sample service.
    pub fn host(&self, service: &str) -> String {
        host(&self.namespace, service)
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

    /// Then a condition has this status and reason, and an event tells of it; returns the condition's message.
    pub async fn until_told(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let mut message = String::new();
        self.until(&format!("{kind} of {name} is {status}, {reason}"), async || {
            let service = self.services().get(name).await.expect("the service exists");
            let conditions = service.status.and_then(|s| s.conditions).unwrap_or_default();
            let found = conditions.into_iter().find(|c| c.type_ == kind);
            let found = found.filter(|c| c.status == status && c.reason == reason);
            found.is_some_and(|c| {
                message = c.message;
                true
            })
        })
        .await;
        let events = Api::<Event>::namespaced(self.client.clone(), &self.namespace);
        self.until(&format!("an event tells of {reason}"), async || {
            let events = events.list(&ListParams::default()).await;
            events.is_ok_and(|l| l.items.iter().any(|e| e.reason.as_deref() == Some(reason)))
        })
        .await;
        message
    }

    /// Waits until something is so; what the services and pods say is told if that is in vain.
    pub async fn until(&self, what: &str, check: impl AsyncFnMut() -> bool) {
        if is_in_time(check).await {
            return;
        }
        let services = self.services().list(&ListParams::default()).await;
        let statuses: Vec<_> = services.into_iter().flatten().map(|s| s.status).collect();
        let pods = self.pods().list(&ListParams::default()).await;
        let pods: Vec<_> = pods
            .into_iter()
            .flatten()
            .map(|p| (p.name_any(), p.status))
            .collect();
        panic!(
            "waited in vain until {what}; services: {:#}; pods: {:#}",
            json!(statuses),
            json!(pods)
        );
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
        self.until("the record is ended", async || {
            let record = self.records().get_opt(&name).await.expect("records can be read");
            record.is_some_and(|r| r.status.is_some_and(|s| s.outcome.is_some()))
        })
        .await;
        self.records().get(&name).await.expect("it was there just now")
    }
}

/// Waits until something is so.
pub async fn until(what: &str, check: impl AsyncFnMut() -> bool) {
    assert!(is_in_time(check).await, "waited in vain until {what}");
}

/// Something becomes so before patience ends.
async fn is_in_time(mut check: impl AsyncFnMut() -> bool) -> bool {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    waited.await.is_ok()
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
            // Generous: how long pods need is the machine's business.
            "progressDeadline": "3m",
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
                "bake": "10s", "watch": "0s", "scaleDownDelay": "5s", "abortScaleDownDelay": "5s"
            }},
            "slos": [{
                "name": "availability", "objective": "99.9",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"}
            }]
        }
    })
}

//! Given a control plane, a namespace, and an operator that watches it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use molt::api::v1alpha1::{Phase, PythonService, RolloutAction, RolloutRecord};
use molt::controller::object::ServiceObject;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{gateway, kubelet, prometheus};

/// How long anything may take before a scenario fails; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(2);

/// A `progressDeadline` for whoever has a route of their own. Its fixed names get their endpoints from the control plane's
/// own controller, and where many scenarios share one that may take longer than the pods.
pub const ENDPOINTS_COME: &str = "2m";

struct ControlPlane {
    kubeconfig: PathBuf,
}

/// Starts the control plane once for this process; it ends with the process.
fn control_plane() -> &'static ControlPlane {
    static PLANE: OnceLock<ControlPlane> = OnceLock::new();
    PLANE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("molt-control-plane-{}", std::process::id()));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/cluster/control-plane.sh");
        let status = Command::new(script)
            .arg("start")
            .arg(&dir)
            .env("MOLT_CP_PARENT_PID", std::process::id().to_string())
            .status()
            .expect("the script runs");
        assert!(
            status.success(),
            "the control plane did not start; see {}",
            dir.display()
        );
        ControlPlane {
            kubeconfig: dir.join("kubeconfig"),
        }
    })
}

/// One scenario's stage: its namespace, its operator, and the actors beside it.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    pub prometheus: prometheus::Fake,
    /// The operator may read Secrets.
    pub snapshot_secrets: bool,
    /// What its operators are told of pauses.
    pub strict_paused: bool,
    shutdown: Option<tokio::sync::oneshot::Sender<()>>,
    operator: Option<tokio::task::JoinHandle<()>>,
}

/// Given an operator that watches an empty namespace.
pub async fn given(namespace: &str) -> Stage {
    let mut stage = without_operator(namespace).await;
    stage.start_operator();
    stage
}

/// Given an empty namespace, with a kubelet, a gateway and a Prometheus, but no operator.
pub async fn without_operator(namespace: &str) -> Stage {
    let client = connect().await;
    HERE.set(Some((client.clone(), namespace.to_owned())));
    install_crds(&client).await;
    make_namespace(&client, namespace).await;
    make_node(&client).await;
    tokio::spawn(kubelet::run(client.clone(), namespace.to_owned()));
    tokio::spawn(gateway::run(client.clone(), namespace.to_owned()));
    let prometheus = prometheus::Fake::start(client.clone(), namespace.to_owned()).await;
    Stage {
        client,
        namespace: namespace.to_owned(),
        prometheus,
        snapshot_secrets: false,
        strict_paused: false,
        shutdown: None,
        operator: None,
    }
}

/// The kubeconfig of its administrator.
pub fn kubeconfig() -> String {
    control_plane().kubeconfig.to_string_lossy().into_owned()
}

/// Where the control plane's etcd answers.
pub fn etcd_address() -> String {
    let path = control_plane().kubeconfig.with_file_name("etcd-address");
    let address = std::fs::read_to_string(path).expect("the script writes it");
    address.trim().to_owned()
}

/// How `kubectl molt` ends with these words, in a namespace of the control plane.
pub async fn kubectl_molt(namespace: &str, words: &[&str]) -> std::process::ExitCode {
    let kubeconfig = control_plane().kubeconfig.display().to_string();
    let all = ["kubectl-molt", "--kubeconfig", &kubeconfig, "-n", namespace];
    molt::plugin::run(all.iter().chain(words).map(std::ffi::OsString::from)).await
}

/// How the control plane is connected to, as its administrator.
pub async fn config() -> Config {
    let kubeconfig = Kubeconfig::read_from(&control_plane().kubeconfig).expect("the kubeconfig is readable");
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it is valid")
}

/// A client of the control plane, with a connection of its own.
pub async fn connect() -> Client {
    let mut config = config().await;
    // As the operator's own.
    config.default_retry = false;
    Client::try_from(config).expect("a client can be made")
}

/// A client that acts as somebody else.
pub async fn as_user(name: &str) -> Client {
    let mut config = config().await;
    config.auth_info.impersonate = Some(name.to_owned());
    Client::try_from(config).expect("a client can be made")
}

pub async fn make_namespace(client: &Client, name: &str) {
    let object = json!({"metadata": {"name": name}});
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .expect("the namespace is new");
}

/// The node that all pods run on. Every stage asks for it: the first one makes it.
pub async fn make_node(client: &Client) {
    let node = json!({"metadata": {"name": "node-1"}});
    drop(
        Api::<Node>::all(client.clone())
            .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
            .await,
    );
}

/// Molt's CRDs, and the Gateway API's own HTTPRoute and GRPCRoute of the standard channel. Once: what a scenario has put
/// in their place stays.
pub async fn install_crds(client: &Client) {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let install = async || {
        let mut crds = molt::api::crds::all();
        crds.extend(["httproutes", "grpcroutes"].map(|plural| route_crd("standard", plural)));
        apply_crds(client, crds).await;
    };
    INSTALLED.get_or_init(install).await;
}

/// The HTTPRoute of the experimental channel.
pub async fn install_experimental(client: &Client) {
    apply_crds(client, vec![route_crd("experimental", "httproutes")]).await;
}

async fn apply_crds(client: &Client, crds: Vec<CustomResourceDefinition>) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let params = PatchParams::apply("tests").force();
    for crd in crds {
        let name = crd.metadata.name.clone().unwrap();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let established = |crd: CustomResourceDefinition| {
        crd.status
            .and_then(|s| s.conditions)
            .is_some_and(|c| c.iter().any(|c| c.type_ == "Established" && c.status == "True"))
    };
    until("the CRDs are established", async || {
        api.list(&ListParams::default())
            .await
            .is_ok_and(|l| l.items.len() >= 4 && l.items.into_iter().all(established))
    })
    .await;
}

fn route_crd(channel: &str, plural: &str) -> CustomResourceDefinition {
    let output = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/e2e/cluster/gateway-crds.sh"
    ))
    .output()
    .expect("the script runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let dir = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).with_file_name(channel);
    let text = std::fs::read_to_string(dir.join(format!("gateway.networking.k8s.io_{plural}.yaml"))).unwrap();
    serde_saphyr::from_str(&text).expect("the Gateway API's CRD is readable")
}

/// Waits until something is so.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let told = match waited.await {
        Ok(()) => return,
        Err(_) => what_there_is().await,
    };
    panic!("waited in vain until {what}; {told}");
}

thread_local! {
    /// The stage of this thread's scenario, for what a failure tells; every scenario has a thread of its own.
    static HERE: RefCell<Option<(Client, String)>> = const { RefCell::new(None) };
}

/// The services of this scenario's namespace as they stand: without them, what was waited for in vain tells little.
async fn what_there_is() -> String {
    let Some((client, namespace)) = HERE.take() else {
        return "no stage".to_owned();
    };
    let kinds = [
        ("molt.dev", "v1alpha1", "PythonService"),
        ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ];
    let mut told = String::new();
    for (group, version, kind) in kinds {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, &resource);
        match api.list(&ListParams::default()).await {
            Ok(list) => {
                for object in list {
                    let text = serde_json::to_string(&object).unwrap_or_default();
                    told.extend(["\n", kind, ": ", &text]);
                }
            }
            Err(e) => told.extend(["\n", kind, ": ", &e.to_string()]),
        }
    }
    // What the control plane's own controllers have to say of it.
    let log = control_plane()
        .kubeconfig
        .with_file_name("logs")
        .join("kube-controller-manager.log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let (key, field) = (format!("\"{namespace}/"), format!("namespace=\"{namespace}\""));
    for line in log
        .lines()
        .filter(|line| line.contains(&key) || line.contains(&field))
    {
        told.extend(["\n", line]);
    }
    told
}

impl Stage {
    pub fn start_operator(&mut self) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let operator = molt::controller::run(
            self.client.clone(),
            self.options(),
            molt::metrics::Metrics::new("test"),
            molt::server::Readiness::default(),
            async {
                drop(stopped.await);
            },
        );
        self.shutdown = Some(stop);
        self.operator = Some(tokio::spawn(async move {
            operator.await.expect("the operator ends cleanly");
        }));
    }

    /// What an operator of this stage is given; it is alone.
    pub fn options(&self) -> molt::controller::Options {
        molt::controller::Options {
            prometheus_address: self.prometheus.address.clone(),
            prometheus_headers_file: None,
            prometheus_ca_file: None,
            namespace: Some(self.namespace.clone()),
            concurrency: 4,
            rule_labels: [("release".to_owned(), "prometheus".to_owned())].into(),
            snapshot_secrets: self.snapshot_secrets,
            fleet_namespace: self.namespace.clone(),
            strict_paused: self.strict_paused,
            dashboard_url: None,
            leader_election: None,
        }
    }

    /// Ends the operator and waits until it has ended.
    pub async fn stop_operator(&mut self) {
        drop(self.shutdown.take());
        if let Some(operator) = self.operator.take() {
            operator.await.expect("it ends without a panic");
        }
    }

    pub fn services(&self) -> Api<PythonService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn records(&self) -> Api<RolloutRecord> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn sets(&self) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn core_services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn actions(&self) -> Api<RolloutAction> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn routes(&self) -> Api<DynamicObject> {
        gateway::routes(self.client.clone(), &self.namespace)
    }

    /// Applies a service as a person would: server-side, with strict field validation.
    pub async fn apply(&self, object: Value) -> Result<PythonService, kube::Error> {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams {
            field_validation: Some(kube::api::ValidationDirective::Strict),
            ..PatchParams::apply("person")
        };
        self.services().patch(&name, &params, &Patch::Apply(object)).await
    }

    pub async fn service(&self, name: &str) -> PythonService {
        self.services().get(name).await.expect("the service exists")
    }

    /// Waits for a phase.
    pub async fn until_phase(&self, name: &str, phase: Phase) -> PythonService {
        let seen = std::sync::Mutex::new(None);
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                // One that another version wrote can't be read until the operator has put it right.
                let Ok(service) = self.services().get(name).await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let current = service.metadata.generation
                    == service.status.as_ref().and_then(|s| s.observed_generation);
                if current && service.status.as_ref().and_then(|s| s.phase) == Some(phase) {
                    return service;
                }
                *seen.lock().unwrap() = Some(service);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let Ok(service) = waited.await else {
            let last = seen.into_inner().unwrap().and_then(|s| s.status);
            panic!(
                "{name} never became {phase:?}; last: {}",
                serde_json::to_string_pretty(&last).unwrap()
            );
        };
        service
    }

    /// Waits for a condition with a status and a reason, and returns its message.
    pub async fn until_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let mut message = String::new();
        // As the operator reads it, whatever was written into it.
        let objects: Api<ServiceObject> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let service = objects.get(name).await.expect("the service exists");
                let conditions = service.conditions;
                if let Some(c) = conditions.iter().find(|c| c.type_ == kind) {
                    message = format!("{} {}: {}", c.status, c.reason, c.message);
                    if c.status == status && c.reason == reason {
                        return c.message.clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("{kind} of {name} never became {status} {reason}; last: {message}"))
    }

    /// Waits for an event about an object.
    pub async fn until_event(&self, name: &str, reason: &str) {
        until(&format!("there is an event {reason}"), async || {
            self.event_count(name, reason).await > 0
        })
        .await;
    }

    /// How often an event about an object was told.
    pub async fn event_count(&self, name: &str, reason: &str) -> i32 {
        let api = Api::<Event>::namespaced(self.client.clone(), &self.namespace);
        let events = api
            .list(&ListParams::default())
            .await
            .expect("events can be listed")
            .items;
        let about = |e: &&Event| {
            e.reason.as_deref() == Some(reason)
                && e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(name)
        };
        // The recorder folds repeated events into a series.
        let times = |e: &Event| e.series.as_ref().map_or(1, |s| s.count);
        events.iter().filter(about).map(times).sum()
    }

    /// The weights of the route, by the name of the backend.
    pub async fn weights(&self, route: &str) -> Vec<(String, i64)> {
        let route = self.routes().get(route).await.expect("the route exists");
        gateway::backends(&route.data)
    }

    /// The ended record of a revision's attempt.
    pub async fn ended_record(&self, service: &str, revision: &str, attempt: u32) -> RolloutRecord {
        let name = format!("{service}-{revision}-{attempt}");
        until(&format!("record {name} has an outcome"), async || {
            self.records()
                .get_opt(&name)
                .await
                .unwrap()
                .is_some_and(|r| r.status.is_some_and(|s| s.outcome.is_some()))
        })
        .await;
        self.records().get(&name).await.unwrap()
    }
}

/// A service with short steps; `image` chooses how its pods behave, see [`kubelet`] and [`prometheus`].
pub fn service(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "port": 8000,
            "progressDeadline": "20s",
            "drain": {"timeout": "1s"},
            "runtime": {"server": "uvicorn"},
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
            "metrics": {"prometheus": {"interval": "1s"}},
            "strategy": {"canary": {
                "steps": [
                    {"setWeight": 10}, {"pause": {"duration": "2s"}},
                    {"setWeight": 50}, {"pause": {"duration": "2s"}}
                ],
                "bake": "3s", "watch": "0s", "scaleDownDelay": "2s", "abortScaleDownDelay": "2s"
            }},
            "slos": [{
                "name": "availability", "objective": "99",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"}
            }]
        }
    })
}

/// The revision that is stable.
pub fn stable(service: &PythonService) -> String {
    service
        .status
        .as_ref()
        .and_then(|s| s.stable.as_ref())
        .expect("there is a stable revision")
        .revision
        .clone()
}

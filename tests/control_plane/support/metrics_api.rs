//! The metrics that a HorizontalPodAutoscaler asks for, from an aggregated API server as a metrics server and KEDA are:
//! what the pods of each service use, by the weights of its route, and external numbers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use axum::extract::{Form, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::serve::Listener;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::cluster::{connect, until};
use super::gateway;

/// What the metrics are made of, by namespace.
#[derive(Clone, Default)]
pub struct Load(Arc<Mutex<BTreeMap<String, i64>>>);

impl Load {
    /// The work that all users of a namespace's service bring, in thousandths of a CPU.
    pub fn set(&self, namespace: &str, milli: i64) {
        self.0.lock().unwrap().insert(namespace.to_owned(), milli);
    }

    fn of(&self, namespace: &str) -> i64 {
        self.0.lock().unwrap().get(namespace).copied().unwrap_or(0)
    }
}

#[derive(Clone)]
struct Server {
    client: Client,
    load: Load,
}

/// The server, which the control plane of this process knows; started once.
pub async fn load() -> Load {
    static LOAD: OnceLock<Load> = OnceLock::new();
    let mut is_first = false;
    let load = LOAD.get_or_init(|| {
        is_first = true;
        Load::default()
    });
    let client = connect().await;
    if is_first {
        let of_server = load.clone();
        // It outlives the test that asks for it first, and with it the runtime.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(of_server));
        });
    }
    until("the metrics are served", async || {
        let all = Api::<DynamicObject>::all_with(client.clone(), &api_service());
        let listed = all
            .list(&ListParams::default())
            .await
            .map(|l| l.items)
            .unwrap_or_default();
        let ours = listed.iter().filter(|o| o.name_any().ends_with("metrics.k8s.io"));
        let available = |object: &&DynamicObject| {
            let conditions = object.data["status"]["conditions"].as_array().cloned();
            conditions
                .into_iter()
                .flatten()
                .any(|c| c["type"] == "Available" && c["status"] == "True")
        };
        ours.filter(available).count() == 2
    })
    .await;
    load.clone()
}

fn api_service() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "apiregistration.k8s.io",
        "v1",
        "APIService",
    ))
}

async fn serve(load: Load) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let client = connect().await;
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    register(&client, port).await;
    let router = Router::new().fallback(answer).with_state(Server { client, load });
    axum::serve(Tls { tcp, acceptor }, router).await.unwrap();
}

/// No proxy runs here, so that a Service's address leads nowhere: an external name does.
async fn register(client: &Client, port: u16) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    let params = PatchParams::apply("tests").force();
    Api::<Service>::namespaced(client.clone(), "default")
        .patch("metrics", &params, &Patch::Apply(service))
        .await
        .unwrap();
    for group in ["metrics.k8s.io", "external.metrics.k8s.io"] {
        let name = format!("v1beta1.{group}");
        let object = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": {
                "group": group, "version": "v1beta1", "insecureSkipTLSVerify": true,
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"name": "metrics", "namespace": "default", "port": port},
            },
        });
        Api::<DynamicObject>::all_with(client.clone(), &api_service())
            .patch(&name, &params, &Patch::Apply(object))
            .await
            .unwrap();
    }
}

async fn answer(
    State(server): State<Server>,
    uri: Uri,
    Form(query): Form<BTreeMap<String, String>>,
) -> Response {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let selector = query.get("labelSelector").cloned().unwrap_or_default();
    match parts.as_slice() {
        ["apis", group, "v1beta1"] => {
            let resource = |name: &str, kind: &str| json!({"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get", "list"]});
            let resources = match *group {
                "metrics.k8s.io" => vec![resource("pods", "PodMetrics")],
                _ => vec![resource("work", "ExternalMetricValueList")],
            };
            Json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/v1beta1"), "resources": resources})).into_response()
        }
        [
            "apis",
            "metrics.k8s.io",
            "v1beta1",
            "namespaces",
            namespace,
            "pods",
        ] => Json(pod_metrics(&server, namespace, &selector).await).into_response(),
        [
            "apis",
            "external.metrics.k8s.io",
            "v1beta1",
            "namespaces",
            namespace,
            name,
        ] => {
            let load = server.load.of(namespace);
            let value = match *name {
                // All of the work, as the length of a queue.
                "s0-work" => load,
                // The work of one pod that has users.
                _ => load / i64::try_from(serving(&server, namespace).await.max(1)).unwrap(),
            };
            Json(json!({
                "kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {},
                "items": [{"metricName": name, "metricLabels": {}, "timestamp": jiff::Timestamp::now(), "value": format!("{value}m")}],
            }))
            .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The share of each revision's Service in the namespace's route, in percent.
async fn weights(server: &Server, namespace: &str) -> BTreeMap<String, i64> {
    let routes = gateway::routes(server.client.clone(), namespace);
    let Ok(routes) = routes.list(&ListParams::default()).await else {
        return BTreeMap::new();
    };
    let all = routes
        .items
        .iter()
        .flat_map(|route| gateway::backends(&route.data));
    all.collect()
}

fn is_ready(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// The Service of a pod's revision.
fn backend(pod: &k8s_openapi::api::core::v1::Pod) -> String {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    format!("{}-{}", label("molt.dev/service"), label("molt.dev/revision"))
}

async fn serving(server: &Server, namespace: &str) -> usize {
    let weights = weights(server, namespace).await;
    let pods = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(server.client.clone(), namespace);
    let pods = pods
        .list(&ListParams::default())
        .await
        .map(|l| l.items)
        .unwrap_or_default();
    let answers = |pod: &&k8s_openapi::api::core::v1::Pod| {
        is_ready(pod) && weights.get(&backend(pod)).is_some_and(|weight| *weight > 0)
    };
    pods.iter().filter(answers).count()
}

async fn pod_metrics(server: &Server, namespace: &str, selector: &str) -> Value {
    let weights = weights(server, namespace).await;
    let api = Api::<k8s_openapi::api::core::v1::Pod>::namespaced(server.client.clone(), namespace);
    let all = api
        .list(&ListParams::default())
        .await
        .map(|l| l.items)
        .unwrap_or_default();
    let asked = api.list(&ListParams::default().labels(selector)).await;
    let load = server.load.of(namespace);
    let items: Vec<Value> = asked
        .map(|l| l.items)
        .unwrap_or_default()
        .iter()
        .map(|pod| {
            let of_revision = all
                .iter()
                .filter(|p| is_ready(p) && backend(p) == backend(pod))
                .count();
            let share = weights.get(&backend(pod)).copied().unwrap_or(0);
            let used = load * share / 100 / i64::try_from(of_revision.max(1)).unwrap();
            json!({
                "metadata": {"name": pod.name_any(), "namespace": namespace, "labels": pod.labels()},
                "timestamp": jiff::Timestamp::now(), "window": "1s",
                "containers": [{"name": "app", "usage": {"cpu": format!("{used}m"), "memory": "1Mi"}}],
            })
        })
        .collect();
    json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

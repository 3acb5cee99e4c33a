//! Counts what the route's weights imply, and answers instant queries with the raw samples.
//!
//! The image chooses how a revision fails: `…:bad` answers one request in four with a 500, `…:strict` with a 422; what the
//! runtimes tell, says [`super::runtime`]. Pods of an image `tasks:…` are workers: they share as many tasks, and an exporter counts
//! these by the workers' hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Form, State};
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::runtime::Teller;
use super::{gateway, istio};

/// Requests per second through each route.
const RATE: f64 = 200.0;
/// Samples that are kept of each counter where there are many: answers stay small.
const KEPT_OF_MANY: usize = 80;
/// Between two scrapes.
const INTERVAL: Duration = Duration::from_millis(500);

type Samples = Vec<(f64, f64)>;
/// A pod's namespace and name, and a status class.
type Counter = (String, String, &'static str);

/// What the fake has counted, and how it behaves.
#[derive(Default)]
struct Counted {
    series: BTreeMap<Counter, Samples>,
    behaviour: Behaviour,
    /// What instant queries give.
    instant: Value,
    /// Instant queries with the matchers of pods that were asked.
    asked: Vec<String>,
    /// Revisions that fail whatever their image is.
    failing: BTreeSet<String>,
    /// The pods that tell of their runtime, by name.
    tellers: BTreeMap<String, Teller>,
}

/// How the fake answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// As Prometheus does.
    #[default]
    Answers,
    /// With a page that is no answer.
    Nonsense,
    /// With no series at all.
    Empty,
}

pub struct Fake {
    pub address: String,
    counted: Arc<Mutex<Counted>>,
}

impl Fake {
    /// Counts what happens in one namespace.
    pub async fn start(client: Client, namespace: String) -> Self {
        let fake = Self::serve().await;
        tokio::spawn(scrape(client, namespace, fake.scraper(usize::MAX)));
        fake
    }

    /// Counts what is shown to it, in many namespaces.
    pub async fn of(read: impl Fn() -> Target + Send + Sync + 'static) -> Self {
        let fake = Self::serve().await;
        let mut scraper = fake.scraper(KEPT_OF_MANY);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                scraper.scrape(&read());
            }
        });
        fake
    }

    fn scraper(&self, keeps: usize) -> Scraper {
        Scraper {
            totals: BTreeMap::new(),
            last: now(),
            counted: self.counted.clone(),
            keeps,
        }
    }

    async fn serve() -> Self {
        let counted = Arc::new(Mutex::new(Counted::default()));
        let app = Router::new()
            .route("/api/v1/query", post(query))
            .with_state(counted.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, counted }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        self.counted.lock().unwrap().behaviour = behaviour;
    }

    /// From now on one request in four to this revision fails.
    pub fn fails(&self, revision: &str) {
        self.counted.lock().unwrap().failing.insert(revision.to_owned());
    }

    /// What the queries of thresholds give: a vector with these values.
    pub fn instant(&self, values: &[&str]) {
        let points = values
            .iter()
            .map(|v| json!({"metric": {}, "value": [now(), v]}))
            .collect();
        self.counted.lock().unwrap().instant = Value::Array(points);
    }

    /// The queries of thresholds so far.
    pub fn asked(&self) -> Vec<String> {
        self.counted.lock().unwrap().asked.clone()
    }
}

/// What is scraped: everything that decides who gets which requests.
pub struct Target {
    pub pods: Vec<Pod>,
    pub services: Vec<Service>,
    pub routes: Vec<DynamicObject>,
}

async fn scrape(client: Client, namespace: String, mut scraper: Scraper) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let routes = gateway::routes(client.clone(), &namespace);
    let grpc_routes = gateway::grpc_routes(client.clone(), &namespace);
    let virtual_services = istio::virtual_services(client, &namespace);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let (Ok(pods), Ok(routes), Ok(services)) = (
            pods.list(&ListParams::default()).await,
            routes.list(&ListParams::default()).await,
            services.list(&ListParams::default()).await,
        ) else {
            continue;
        };
        // Where Istio is not installed there are none.
        let virtual_services = virtual_services.list(&ListParams::default()).await;
        let grpc_routes = grpc_routes.list(&ListParams::default()).await;
        scraper.scrape(&Target {
            pods: pods.items,
            services: services.items,
            routes: routes
                .into_iter()
                .chain(virtual_services.into_iter().flatten())
                .chain(grpc_routes.into_iter().flatten())
                .collect(),
        });
    }
}

/// The traffic since the last scrape is spread by the weights, and every counter gets a sample.
struct Scraper {
    totals: BTreeMap<Counter, f64>,
    last: f64,
    counted: Arc<Mutex<Counted>>,
    /// How many samples of each counter are kept.
    keeps: usize,
}

impl Scraper {
    fn scrape(&mut self, target: &Target) {
        let at = now();
        let failing = self.counted.lock().unwrap().failing.clone();
        spread(target, RATE * (at - self.last), &failing, &mut self.totals);
        self.last = at;
        let mut counted = self.counted.lock().unwrap();
        counted.tellers = target.pods.iter().filter_map(teller).collect();
        for (counter, total) in &self.totals {
            let samples = counted.series.entry(counter.clone()).or_default();
            samples.push((at, total.floor()));
            let surplus = samples.len().saturating_sub(self.keeps);
            samples.drain(..surplus);
        }
    }
}

fn spread(target: &Target, requests: f64, failing: &BTreeSet<String>, totals: &mut BTreeMap<Counter, f64>) {
    // A pod that is gone is no longer scraped.
    let live: BTreeSet<_> = target
        .pods
        .iter()
        .map(|pod| (pod.namespace().unwrap_or_default(), pod.name_any()))
        .collect();
    totals.retain(|(namespace, pod, _), _| live.contains(&(namespace.clone(), pod.clone())));
    for (namespace, pod) in live {
        for class in ["2xx", "5xx"] {
            totals.entry((namespace.clone(), pod.clone(), class)).or_default();
        }
    }
    // Without a route callers come by the Service of the service's own name, which spreads them over its pods.
    let routed = |service: &Service| {
        target
            .routes
            .iter()
            .any(|route| route.namespace() == service.namespace())
    };
    let by_name = target
        .services
        .iter()
        .filter(|s| s.name_any() == "shop" && !routed(s));
    for service in by_name {
        for pod in behind(target, service) {
            let ready = behind(target, service).len() as f64;
            count(pod, requests / ready, failing, totals);
        }
    }
    for pod in target.pods.iter().filter(|pod| works(pod)) {
        let beside = target
            .pods
            .iter()
            .filter(|p| works(p) && p.namespace() == pod.namespace());
        count(pod, requests / beside.count() as f64, failing, totals);
    }
    for route in &target.routes {
        let namespace = route.namespace();
        let shares = gateway::backends(&route.data).into_iter();
        let shares = shares.map(|(backend, weight)| (backend, weight as f64 / 100.0));
        let shares = shares.chain(istio_shares(&route.data));
        for (backend, share) in shares.chain(gateway::previews(&route.data)) {
            let mut services = target.services.iter();
            let service = services.find(|s| s.namespace() == namespace && s.name_any() == backend);
            let Some(service) = service else { continue };
            let behind = behind(target, service);
            for pod in &behind {
                count(pod, requests * share / behind.len() as f64, failing, totals);
            }
        }
    }
}

/// A worker that takes tasks.
fn works(pod: &Pod) -> bool {
    let image = pod.spec.as_ref().and_then(|s| s.containers[0].image.as_deref());
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let ready = conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let ends = pod.metadata.deletion_timestamp.is_some();
    image.is_some_and(|image| image.starts_with("tasks:")) && ready && !ends
}

/// What a VirtualService sends to whom, as parts of all requests.
fn istio_shares(data: &Value) -> impl Iterator<Item = (String, f64)> {
    // A name without a domain is of the same namespace, and so are the others here.
    let name = |host: String| host.split('.').next().unwrap_or_default().to_owned();
    let shares = istio::backends(data).into_iter();
    let shares = shares.map(|(host, weight)| (host, weight as f64 / 100.0));
    let shares = shares.chain(istio::previews(data));
    shares.map(move |(host, share)| (name(host), share))
}

/// The pods that a Service selects.
fn behind<'a>(target: &'a Target, service: &Service) -> Vec<&'a Pod> {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    let selects = |pod: &&Pod| {
        let mut labels = selector.into_iter().flatten();
        selector.is_some() && labels.all(|(k, v)| pod.labels().get(k) == Some(v))
    };
    let pods = target.pods.iter();
    pods.filter(|pod| pod.namespace() == service.namespace())
        .filter(selects)
        .collect()
}

/// A pod that tells of its runtime.
fn teller(pod: &Pod) -> Option<(String, Teller)> {
    let image = pod.spec.as_ref()?.containers.first()?.image.as_deref()?;
    let since = pod.metadata.creation_timestamp.as_ref()?.0.as_second() as f64;
    let teller = Teller::of(pod.namespace().unwrap_or_default(), image, since)?;
    Some((pod.name_any(), teller))
}

/// A pod has served so many requests; a bad one, or one of a revision that fails, fails a quarter of them, and a strict one
/// refuses as many.
fn count(pod: &Pod, requests: f64, failing: &BTreeSet<String>, totals: &mut BTreeMap<Counter, f64>) {
    let image = pod.spec.as_ref().and_then(|s| s.containers[0].image.clone());
    let revision = pod.labels().get("molt.dev/revision");
    let fails = revision.is_some_and(|revision| failing.contains(revision));
    let ends = |tag: &str| image.as_deref().is_some_and(|image| image.ends_with(tag));
    let class = if fails || ends(":bad") {
        "5xx"
    } else if ends(":strict") {
        "4xx"
    } else {
        "2xx"
    };
    let mut add = |class, requests| {
        let counter = (pod.namespace().unwrap_or_default(), pod.name_any(), class);
        *totals.entry(counter).or_default() += requests;
    };
    add(class, requests * 0.25);
    add("2xx", requests * 0.75);
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// The revision in a pod's name.
fn revision_of(pod: &str) -> &str {
    pod.rsplit('-').nth(1).unwrap_or("?")
}

fn of_namespace(namespace: &str) -> String {
    format!("namespace=\"{namespace}\"")
}

async fn query(
    State(counted): State<Arc<Mutex<Counted>>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, &'static str> {
    let mut counted = counted.lock().unwrap();
    if counted.behaviour == Behaviour::Nonsense {
        return Err("<html><body>It works!</body></html>");
    }
    let query = form.get("query").cloned().unwrap_or_default();
    let end = form.get("time").and_then(|t| t.parse().ok()).unwrap_or_else(now);
    // Only raw samples: this Prometheus has no history to tell of.
    let raw = query.ends_with(']') && counted.behaviour != Behaviour::Empty;
    if query.starts_with("threshold") || query.contains("pg_stat_database") {
        counted.asked.push(query);
        let result = counted.instant.clone();
        return Ok(Json(
            json!({"status": "success", "data": {"resultType": "vector", "result": result}}),
        ));
    }
    let mut result = Vec::new();
    for (pod, teller) in counted.tellers.iter().filter(|_| raw) {
        if query.contains(revision_of(pod)) && query.contains(&of_namespace(&teller.namespace)) {
            result.extend(teller.series(&query, pod, end));
        }
    }
    let of_tasks = query.contains("celery_");
    for ((namespace, pod, class), samples) in counted.series.iter().filter(|_| raw) {
        let is_asked = query.contains(revision_of(pod)) && query.contains(&of_namespace(namespace));
        if !is_asked {
            continue;
        }
        let seen: Vec<(f64, f64)> = samples.iter().copied().filter(|(at, _)| *at <= end).collect();
        let series = |name: &str, class: Option<&str>, value: fn(f64) -> f64| {
            let mut metric = json!({"__name__": name, "namespace": namespace, "pod": pod, "job": "pods"});
            if of_tasks {
                metric["pod"] = json!("exporter-0");
                metric["hostname"] = json!(pod);
            }
            if let (Some(_), true) = (class, of_tasks) {
                metric["name"] = json!("shop.mail");
                metric["queue_name"] = json!("default");
            } else if let Some(class) = class {
                metric["handler"] = json!("/");
                metric["method"] = json!("GET");
                metric["status"] = json!(class);
            }
            let values: Vec<Value> = seen
                .iter()
                .map(|(at, v)| json!([at, value(*v).to_string()]))
                .collect();
            json!({"metric": metric, "values": values})
        };
        let (metric, shows) = match (of_tasks, *class) {
            (true, "5xx") => ("celery_task_failed_total", "celery_worker_up"),
            (true, _) => ("celery_task_succeeded_total", "celery_worker_up"),
            (false, _) => ("http_requests_total", "up"),
        };
        result.push(series(metric, Some(class), |v| v));
        if *class == "2xx" {
            result.push(series(shows, None, |_| 1.0));
        }
    }
    let kind = if query.ends_with(']') { "matrix" } else { "vector" };
    Ok(Json(
        json!({"status": "success", "data": {"resultType": kind, "result": result}}),
    ))
}

//! Against a server that answers as a Prometheus does, or as something else.

mod at_route;
mod conditions;
mod counting;
mod dirty;
mod failing;
mod native;
mod runtime;
mod secured;
mod tasks;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{Counts, Objective, PodCounts};
use molt_core::observed::BlockCounts;
use prometheus_http_query::reqwest::Url;

use super::super::headers::Headers;
use super::super::http;
use super::super::selector::Sum;
use super::super::{
    MeasureRequest, Measured, MetricSource, PrometheusSource, RouteBackends, SliQuery, SloQuery, Starts,
};
use super::{Prometheus, TimeLimits};
use crate::api::v1alpha1::Preset;
use crate::metrics::Metrics;

const JSON: &str = "application/json";
const CANARY: &str = "checkout-bbbbbbbbbb";
const STABLE: &str = "checkout-aaaaaaaaaa";

/// The time of a second of the tests.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A status, a content type and a body.
type Reply = (u16, &'static str, String);

struct Fake {
    address: String,
    asked: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
}

impl Fake {
    /// Answers each query as told.
    async fn new(answer: impl Fn(&str) -> Reply + Clone + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<BTreeMap<String, String>>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let handler = move |body: String| async move {
            let form = Url::parse(&format!("http://x/?{body}")).unwrap();
            let form: BTreeMap<String, String> = form.query_pairs().into_owned().collect();
            let (status, content_type, body) = answer(&form["query"]);
            kept.lock().unwrap().push(form);
            (
                StatusCode::from_u16(status).unwrap(),
                [(header::CONTENT_TYPE, content_type)],
                body,
            )
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/prefix/api/v1/query", post(handler));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self {
            address: format!("{address}/prefix"),
            asked,
        }
    }

    async fn series(series: Vec<serde_json::Value>) -> Self {
        let body = matrix(&series);
        Self::new(move |_| body.clone()).await
    }

    fn queries(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|form| form["query"].clone())
            .collect()
    }

    async fn measure(&self, request: MeasureRequest) -> Measured {
        let mut request = request;
        request.source.address.clone_from(&self.address);
        source(TimeLimits::default()).measure(&request).await
    }
}

fn source(limits: TimeLimits) -> Prometheus {
    let headers = Arc::new(Headers::new(None, None));
    Prometheus::new(Metrics::new("test"), limits, http::client(None).unwrap(), headers)
}

fn matrix(series: &[serde_json::Value]) -> Reply {
    let data = serde_json::json!({"resultType": "matrix", "result": series});
    (
        200,
        JSON,
        serde_json::json!({"status": "success", "data": data}).to_string(),
    )
}

fn vector(points: &[(&str, &str, &str)]) -> Reply {
    let points: Vec<_> = points
        .iter()
        .map(|(label, text, value)| {
            let metric = if label.is_empty() {
                serde_json::json!({})
            } else {
                serde_json::json!({*label: text})
            };
            serde_json::json!({"metric": metric, "value": [1_700_000_030.123, value]})
        })
        .collect();
    let data = serde_json::json!({"resultType": "vector", "result": points});
    (
        200,
        JSON,
        serde_json::json!({"status": "success", "data": data}).to_string(),
    )
}

/// A series of a pod with labels `a=b,c=d`, as the service's own scraper has them.
fn series(name: &str, pod: &str, labels: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    scraped("shop/checkout", name, pod, labels, samples)
}

fn scraped(job: &str, name: &str, pod: &str, labels: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    let mut metric = BTreeMap::from([
        ("__name__", name),
        ("namespace", "shop"),
        ("pod", pod),
        ("job", job),
        ("instance", "10.0.0.1:8000"),
        ("endpoint", "http"),
    ]);
    metric.extend(labels.split(',').filter_map(|pair| pair.split_once('=')));
    let values: Vec<_> = samples
        .iter()
        .map(|(s, value)| serde_json::json!([1_700_000_000.25 + *s as f64, value]))
        .collect();
    serde_json::json!({"metric": metric, "values": values})
}

fn up(pod: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    series("up", pod, "", samples)
}

fn canary_pod() -> String {
    format!("{CANARY}-x2f9k")
}

fn stable_pod() -> String {
    format!("{STABLE}-4zq7w")
}

fn slo(sli: SliQuery) -> SloQuery {
    let objective = Objective::parse("99.9", SignedDuration::from_hours(720)).unwrap();
    SloQuery {
        name: "checked".to_owned(),
        objective,
        sli,
    }
}

fn availability() -> SloQuery {
    slo(SliQuery::Availability(Preset::FastapiInstrumentator))
}

fn latency(millis: i64) -> SloQuery {
    slo(SliQuery::Latency(
        Preset::FastapiInstrumentator.into(),
        SignedDuration::from_millis(millis),
    ))
}

fn counters() -> SloQuery {
    of_counters("bad_total{why=~\"a.?\"}", "all_total")
}

fn of_counters(bad: &str, total: &str) -> SloQuery {
    let sum = |text| Sum::parse(text, &[]).unwrap();
    slo(SliQuery::Counters {
        bad: sum(bad),
        total: sum(total),
    })
}

/// One block of 30 s, with one pod of each revision, both old.
fn request(slos: Vec<SloQuery>) -> MeasureRequest {
    MeasureRequest {
        source: PrometheusSource::parse(None, "http://replaced").unwrap(),
        namespace: "shop".to_owned(),
        service: "checkout".to_owned(),
        slos,
        canary: Some(CANARY.to_owned()),
        stable: Some(STABLE.to_owned()),
        backends: RouteBackends::default(),
        starts: [canary_pod(), stable_pod()]
            .map(|pod| {
                let at = vec![at(-3600)];
                (pod, Starts { at, older: false })
            })
            .into(),
        warm_at: BTreeMap::new(),
        births: [canary_pod(), stable_pod()].map(|pod| (pod, at(-3600))).into(),
        conditions: Vec::new(),
        guards: Vec::new(),
        connections: None,
        edges: vec![at(0), at(30)],
        want_history: false,
        now: at(35),
    }
}

/// The form in which a block has the counts, which are `(total, bad)`.
#[expect(clippy::unnecessary_wraps, reason = "a block has none where they are unknown")]
fn counts(canary: (f64, f64), stable: (f64, f64)) -> Option<BlockCounts> {
    let counts = |(total, bad)| Counts::new(total, bad).unwrap();
    Some(BlockCounts {
        canary: counts(canary),
        stable: counts(stable),
        ..BlockCounts::default()
    })
}

/// The only block's counts, without those by pod.
fn only(measured: &Measured) -> Option<BlockCounts> {
    measured.measurement.blocks[0].slos[0].as_ref().map(without_pods)
}

fn without_pods(counts: &BlockCounts) -> BlockCounts {
    BlockCounts {
        canary_late: Counts::default(),
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        ..*counts
    }
}

fn reasons(measured: &Measured) -> Vec<&str> {
    measured
        .problems
        .iter()
        .map(|problem| problem.reason.as_str())
        .collect()
}

const REQUESTS: &str = "http_requests_total";

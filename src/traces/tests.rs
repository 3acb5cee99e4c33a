use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::post;
use opentelemetry::trace::SpanId;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::json;
use tokio::net::TcpListener;

use super::export::{deliver, exporter};
use super::spans::spans;
use super::*;

/// A rollback at 25 %, by the second verdict.
fn record() -> (RolloutRecordSpec, RolloutRecordStatus) {
    let verdict = |at: &str, verdict: &str| {
        json!({
            "at": at, "step": 1, "weight": 25, "slo": "availability",
            "canary": {"total": 100, "bad": 10}, "stable": {"total": 300, "bad": 0},
            "evidence": {"harm": "40.0", "safe": "0.1"}, "margin": "0.001", "spent": "0.4%", "verdict": verdict,
        })
    };
    let moment = |at: &str, reason: &str, weight: u8| json!({"at": at, "reason": reason, "message": "m", "weight": weight});
    let spec = json!({
        "service": "checkout", "revision": "7d9f8c0000", "attempt": 1, "stableRevision": "5b6c7d0000",
        "startedAt": "2026-03-01T02:00:00Z",
    });
    let status = json!({
        "outcome": "RolledBack", "reason": "HarmShown", "message": "harm", "endedAt": "2026-03-01T02:04:00Z",
        "maxWeight": 25,
        "transitions": [
            moment("2026-03-01T02:00:00Z", "AttemptStarted", 0),
            moment("2026-03-01T02:02:00Z", "WeightRaised", 25),
            moment("2026-03-01T02:03:30Z", "RollbackStarted", 0),
        ],
        "verdicts": [verdict("2026-03-01T02:02:15Z", "Continue"), verdict("2026-03-01T02:03:30Z", "RollBack")],
    });
    (
        serde_json::from_value(spec).unwrap(),
        serde_json::from_value(status).unwrap(),
    )
}

#[test]
fn steps_and_verdicts_are_spans_of_one_trace() {
    let (spec, status) = record();
    let all = spans("shop", &spec, &status);
    let names: Vec<_> = all.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(
        names,
        [
            "attempt checkout",
            "weight 0%",
            "weight 25%",
            "weight 0%",
            "verdict availability",
            "verdict availability"
        ]
    );
    let root = &all[0];
    assert_eq!(root.parent_span_id, SpanId::INVALID);
    let lasts = |span: &SpanData| span.end_time.duration_since(span.start_time).unwrap();
    assert_eq!(lasts(root), Duration::from_mins(4));
    let of = |span: &SpanData| span.span_context.span_id();
    assert!(all[1..4].iter().all(|step| step.parent_span_id == of(root)));
    assert_eq!(lasts(&all[2]), Duration::from_secs(90));
    assert!(
        all[4..]
            .iter()
            .all(|verdict| verdict.parent_span_id == of(&all[2]))
    );
    // Since users were on it; then since the verdict before, as far as that is not too long ago.
    assert_eq!(lasts(&all[4]), Duration::from_secs(15));
    assert_eq!(lasts(&all[5]), Duration::from_mins(1));
    assert!(format!("{:?}", root.status).contains("harm"));
    assert!(
        all.iter()
            .all(|s| s.span_context.trace_id() == root.span_context.trace_id())
    );
    let mut ids: Vec<_> = all.iter().map(|span| of(span).to_bytes()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn whoever_makes_a_trace_again_makes_the_same_and_another_attempt_another() {
    let (mut spec, status) = record();
    let first = spans("shop", &spec, &status);
    assert_eq!(first, spans("shop", &spec, &status));
    spec.attempt = 2;
    let other = spans("shop", &spec, &status);
    assert_ne!(first[0].span_context.trace_id(), other[0].span_context.trace_id());
    // An end that is not known, times that make no sense: nothing panics, and no span ends before it begins.
    let odd = RolloutRecordStatus {
        ended_at: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        ..status
    };
    for status in [RolloutRecordStatus::default(), odd] {
        for span in spans("shop", &spec, &status) {
            assert!(span.start_time <= span.end_time, "{span:?}");
        }
    }
}

/// A collector of this machine.
#[derive(Clone, Default)]
struct Collector {
    /// What it will answer, the last one first; then it takes what it is given.
    answers: Arc<Mutex<Vec<Answer>>>,
    taken: Arc<Mutex<Vec<Span>>>,
    asked: Arc<Mutex<usize>>,
}

#[derive(Clone, Copy)]
enum Answer {
    Refuse,
    Hang,
}

impl Collector {
    async fn start(answers: &[Answer]) -> (Self, String) {
        let collector = Self::default();
        *collector.answers.lock().unwrap() = answers.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/v1/traces", post(Self::take))
            .with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (collector, url)
    }

    async fn take(State(this): State<Self>, body: Bytes) -> impl axum::response::IntoResponse {
        *this.asked.lock().unwrap() += 1;
        let answer = this.answers.lock().unwrap().pop();
        match answer {
            Some(Answer::Refuse) => {
                return (
                    StatusCode::SERVICE_UNAVAILABLE,
                    [(header::CONTENT_TYPE, "text/plain")],
                );
            }
            Some(Answer::Hang) => std::future::pending().await,
            None => {}
        }
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        this.taken.lock().unwrap().extend(scopes.flat_map(|s| s.spans));
        (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-protobuf")])
    }

    async fn until_taken(&self, count: usize) -> Vec<Span> {
        for _ in 0..3_000 {
            let taken = self.taken.lock().unwrap().clone();
            if taken.len() >= count {
                return taken;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} spans were taken", self.taken.lock().unwrap().len());
    }
}

#[tokio::test]
async fn a_collector_is_brought_each_trace_once_it_takes_it() {
    let (collector, url) = Collector::start(&[Answer::Refuse]).await;
    let metrics = Metrics::new("1");
    let (traces, receiver) = Traces::new(metrics.clone());
    tokio::spawn(deliver(receiver, exporter(Some(&url)).unwrap(), metrics.clone()));
    let (spec, status) = record();
    traces.ended("shop", &spec, &status);
    let taken = collector.until_taken(6).await;
    let root = &taken[0];
    assert_eq!(root.name, "attempt checkout");
    let started: jiff::Timestamp = "2026-03-01T02:00:00Z".parse().unwrap();
    assert_eq!(i128::from(root.start_time_unix_nano), started.as_nanosecond());
    let outcome = root.attributes.iter().find(|a| a.key == "molt.outcome").unwrap();
    assert!(format!("{outcome:?}").contains("RolledBack"));
    assert_eq!(
        *collector.asked.lock().unwrap(),
        2,
        "refused once, and nothing twice"
    );
    // The exporter itself tries a 503 again. The collector has the spans before its answer is read.
    let line = "molt_traces_total{outcome=\"delivered\"} 1";
    for _ in 0..500 {
        if metrics.encode().contains(line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", metrics.encode());
}

#[tokio::test]
async fn a_collector_that_hangs_delays_nobody() {
    let (collector, url) = Collector::start(&[Answer::Hang]).await;
    let metrics = Metrics::new("1");
    let (traces, receiver) = Traces::new(metrics.clone());
    tokio::spawn(deliver(receiver, exporter(Some(&url)).unwrap(), metrics.clone()));
    let (spec, status) = record();
    let began = std::time::Instant::now();
    for _ in 0..ROOM * 2 {
        traces.ended("shop", &spec, &status);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(
        metrics
            .encode()
            .contains("molt_traces_total{outcome=\"dropped\"}")
    );
    assert_eq!(collector.taken.lock().unwrap().len(), 0);
}

#[test]
fn without_a_collector_nothing_is_made() {
    let (spec, status) = record();
    Traces::default().ended("shop", &spec, &status);
}

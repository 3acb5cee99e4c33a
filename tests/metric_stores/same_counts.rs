//! Every store gives the same counts, to the request.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt::metric_sources::MetricSource;
use serde_json::{Value, json};

use crate::support::{PATIENCE, Served, Store, latency, request, source};

/// By a preset's statuses, by a histogram, and by counters of one's own.
fn indicators() -> [Value; 3] {
    [
        json!({"preset": "fastapi-instrumentator", "type": "availability"}),
        latency("500ms"),
        json!({"counters": {
            "bad": "http_requests_total{status=\"5xx\"}",
            "total": "http_request_duration_seconds_count",
        }}),
    ]
}

/// Of the canary and of stable, for each indicator: all requests and the bad ones.
type Told = Vec<[(u32, u32); 2]>;

/// What is told of the time between, and what is complained of; `None` while an indicator is not known.
async fn told(store: &Store, from: Timestamp) -> (Option<Told>, Vec<String>) {
    let measured = source()
        .measure(&request(store, &indicators(), vec![from, Timestamp::now()]))
        .await;
    let block = &measured.measurement.blocks[0].slos;
    let counts = block.iter().map(|counts| {
        let counts = counts.as_ref()?;
        Some([counts.canary, counts.stable].map(|c| (c.total() as u32, c.bad() as u32)))
    });
    let problems = measured.problems.into_iter().chain(measured.of_history);
    (
        counts.collect(),
        problems.map(|p| format!("{}: {}", p.reason, p.message)).collect(),
    )
}

async fn counts_fifty_requests(store: Store, served: Served) {
    let mut last = Vec::new();
    let start = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (counts, problems) = told(&store, Timestamp::now() - SignedDuration::from_secs(3)).await;
            if counts.is_some() && problems.is_empty() {
                return Timestamp::now();
            }
            last = problems;
        }
    })
    .await;
    let start = start.unwrap_or_else(|_| panic!("it is not scraped: {last:?}"));
    served.is(6);
    let expected: Told = vec![[(50, 5), (50, 0)], [(50, 10), (50, 0)], [(50, 5), (50, 0)]];
    let mut last = None;
    let reached = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (counts, problems) = told(&store, start).await;
            if counts.as_ref() == Some(&expected) {
                assert_eq!(problems, Vec::<String>::new());
                return;
            }
            last = Some((counts, problems));
        }
    })
    .await;
    assert!(reached.is_ok(), "{last:?}");
    // What is counted is counted once: nothing is extrapolated, and nothing comes twice.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(told(&store, start).await.0, Some(expected));
}

#[tokio::test]
async fn of_prometheus() {
    let served = Served::once();
    let store = Store::prometheus("counts", &served, "").await;
    counts_fifty_requests(store, served).await;
}

#[tokio::test]
#[ignore = "builds VictoriaMetrics first: make test-stores"]
async fn of_victoria_metrics() {
    let served = Served::once();
    let store = Store::victoria_metrics("victoria", &served).await;
    counts_fifty_requests(store, served).await;
}

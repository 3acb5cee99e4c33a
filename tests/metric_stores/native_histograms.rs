//! Native histograms as a real Prometheus stores them: scraped from a classic histogram and converted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt::metric_sources::MetricSource;

use crate::support::{PATIENCE, Served, Store, latency, request, source};

#[tokio::test]
async fn a_converted_histogram_is_counted_exactly_at_its_edge() {
    let served = Served::once();
    let job = "  scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true\n";
    let store = Store::prometheus("native", &served, job).await;
    let source = source();
    // Once both were scraped, fifty requests more are served.
    let start = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Timestamp::now();
            let edges = vec![now - SignedDuration::from_secs(3), now];
            let measured = source.measure(&request(&store, &[latency("500ms")], edges)).await;
            if measured.measurement.blocks[0].slos[0].is_some() {
                return now;
            }
        }
    });
    let start = start.await.expect("it is scraped");
    served.is(6);
    let counted = tokio::time::timeout(PATIENCE, async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let edges = vec![start, Timestamp::now()];
            let measured = source.measure(&request(&store, &[latency("500ms")], edges)).await;
            let counts = measured.measurement.blocks[0].slos[0].unwrap_or_default();
            if counts.canary.total() > 0.0 && counts.stable.total() > 0.0 {
                return [counts.canary, counts.stable].map(|c| (c.total() as u32, c.bad() as u32));
            }
        }
    });
    assert_eq!(counted.await.expect("it is counted"), [(50, 10), (50, 0)]);
    let edges = vec![start, Timestamp::now()];
    let refused = source.measure(&request(&store, &[latency("300ms")], edges)).await;
    let problem = &refused.problems[0];
    assert_eq!(problem.reason, "HistogramEdgeMissing");
    assert!(
        problem.message.contains("nearest edge below it is 100ms"),
        "{}",
        problem.message
    );
}

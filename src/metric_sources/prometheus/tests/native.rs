//! Native histograms, from the answer to the counts of a block.

use serde_json::{Value, json};

use super::*;

const NAME: &str = "http_request_duration_seconds";

/// A converted classic histogram with edges at 0.1, 0.5 and 1: how many are faster than the first, between the
/// first two, and slower than the last.
fn native(pod: &str, samples: &[(i64, [u32; 3])]) -> Value {
    let mut made = series(NAME, pod, "handler=/pay", &[]);
    let value = |[fast, good, slow]: [u32; 3]| {
        let all = [("-Inf", "0.1", fast), ("0.1", "0.5", good), ("1", "+Inf", slow)];
        let buckets: Vec<Value> = all
            .iter()
            .filter(|(.., n)| *n > 0)
            .map(|(lower, upper, n)| json!([0, lower, upper, n.to_string()]))
            .collect();
        json!({"count": (fast + good + slow).to_string(), "sum": "1", "buckets": buckets})
    };
    let histograms: Vec<Value> = samples
        .iter()
        .map(|(second, counts)| json!([1_700_000_000.25 + *second as f64, value(*counts)]))
        .collect();
    made["histograms"] = json!(histograms);
    made.as_object_mut().unwrap().remove("values");
    made
}

fn both() -> Vec<Value> {
    vec![
        up(&canary_pod(), &[(-10, "1"), (20, "1")]),
        up(&stable_pod(), &[(-10, "1"), (20, "1")]),
        native(&canary_pod(), &[(-10, [10, 5, 0]), (20, [25, 10, 3])]),
        native(&stable_pod(), &[(-10, [900, 80, 20]), (20, [1100, 150, 21])]),
    ]
}

#[tokio::test]
async fn they_are_counted_at_the_threshold_by_the_same_query() {
    let fake = Fake::series(both()).await;
    let measured = fake.measure(request(vec![latency(500)])).await;
    assert_eq!(only(&measured), counts((23.0, 3.0), (271.0, 1.0)));
    assert_eq!(measured.problems, []);
    let queries = fake.queries();
    assert_eq!(queries.len(), 1);
    assert!(
        queries[0].contains(&format!("{NAME}_bucket|{NAME}|up")),
        "{}",
        queries[0]
    );
}

#[tokio::test]
async fn a_reset_is_one_and_the_bucket_is_counted_with_it() {
    let mut all = both();
    all[2] = native(
        &canary_pod(),
        &[(-10, [100, 50, 9]), (5, [2, 1, 0]), (20, [7, 3, 2])],
    );
    let fake = Fake::series(all).await;
    let mut request = request(vec![latency(500)]);
    request.starts.insert(
        canary_pod(),
        Starts {
            at: vec![at(0)],
            older: false,
        },
    );
    let measured = fake.measure(request).await;
    assert_eq!(only(&measured), counts((12.0, 2.0), (271.0, 1.0)));
}

#[tokio::test]
async fn a_threshold_that_no_edge_is_near_is_told_with_the_nearest() {
    let fake = Fake::series(both()).await;
    let measured = fake.measure(request(vec![latency(300)])).await;
    assert_eq!(measured.measurement.blocks[0].slos, [None]);
    assert_eq!(reasons(&measured), ["HistogramEdgeMissing"]);
    let message = &measured.problems[0].message;
    assert!(
        message.contains("across the threshold 300ms, and the nearest edge below it is 100ms"),
        "{message}"
    );
}

//! On answers as a Prometheus 3 gives them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const NAME: &str = "http_server_request_duration_seconds";

fn answer(series: &Value) -> Vec<RawSeries> {
    serde_json::from_value(series.clone()).unwrap()
}

/// Exponential buckets of scale 3, as they came by OTLP.
fn exponential() -> Value {
    json!([{
        "metric": {"__name__": NAME, "http_route": "/pay", "pod": "p"},
        "histograms": [
            [1_795_264_927.418, {"count": "10", "sum": "4", "buckets": [
                [0, "0.3855527063519852", "0.4204482076268572", "4"],
                [0, "0.4204482076268572", "0.45850202160233555", "2"],
                [0, "0.45850202160233555", "0.5", "1"],
                [0, "0.5", "0.5452538663326288", "1"],
                [0, "0.5946035575013605", "0.6484197773255048", "2"],
            ]}],
        ],
    }])
}

/// A classic histogram that the scrape has converted; the empty bucket from 0.5 to 1 is left out by the API.
fn custom() -> Value {
    json!([{
        "metric": {"__name__": NAME, "handler": "/pay", "pod": "p"},
        "histograms": [
            [1_795_264_926.311, {"count": "70", "sum": "24.5", "buckets": [
                [3, "-Inf", "0.1", "35"], [0, "0.1", "0.5", "21"], [0, "1", "+Inf", "14"],
            ]}],
        ],
    }])
}

/// Count and observations within the threshold, of the first sample.
fn counted(series: &Value, threshold: f64) -> Result<(f64, f64), TooCoarse> {
    let made = to_counters(answer(series), NAME, threshold)?;
    let value = |end: &str| {
        let name = format!("{NAME}{end}");
        let found = made.iter().find(|s| s.metric["__name__"] == name).unwrap();
        found.values[0].1.0
    };
    Ok((value("_count"), value("_bucket")))
}

#[test]
fn observations_at_or_below_an_edge_are_counted_exactly() {
    assert_eq!(counted(&exponential(), 0.5), Ok((10.0, 7.0)));
    assert_eq!(counted(&custom(), 0.5), Ok((70.0, 56.0)));
    assert_eq!(counted(&custom(), 0.1), Ok((70.0, 35.0)));
    // No request lies between 0.5 and 1: each threshold there is the same.
    assert_eq!(counted(&custom(), 0.75), Ok((70.0, 56.0)));
    let made = to_counters(answer(&custom()), NAME, 0.5).unwrap();
    assert!(made.iter().all(|s| s.metric["handler"] == "/pay"));
}

#[test]
fn a_bucket_across_the_threshold_counts_as_slow() {
    // In (0.4585, 0.5] and above: nothing is divided.
    assert_eq!(counted(&exponential(), 0.48), Ok((10.0, 6.0)));
    assert_eq!(counted(&exponential(), 0.52), Ok((10.0, 7.0)));
}

#[test]
fn an_edge_that_is_far_off_is_refused() {
    assert_eq!(counted(&custom(), 0.4), Err(TooCoarse { edge: 0.1 }));
    assert_eq!(counted(&custom(), 1.5), Err(TooCoarse { edge: 1.0 }));
    assert_eq!(counted(&custom(), 0.05), Err(TooCoarse { edge: 0.0 }));
}

#[test]
fn one_resolution_stands_for_all_samples() {
    // The second sample's histogram was coarsened: its bucket holds what two of the first did.
    let series = json!([{"metric": {"__name__": NAME, "pod": "p"}, "histograms": [
        [1.0, {"count": "9", "buckets": [[0, "0.84", "0.92", "4"], [0, "0.92", "1", "5"]]}],
        [2.0, {"count": "12", "buckets": [[0, "0.84", "1", "12"]]}],
    ]}]);
    let made = to_counters(answer(&series), NAME, 0.95).unwrap();
    let within: Vec<f64> = made[1].values.iter().map(|v| v.1.0).collect();
    assert_eq!(within, [0.0, 0.0], "judged at 0.84, where both have an edge");
    let made = to_counters(answer(&series), NAME, 1.0).unwrap();
    let within: Vec<f64> = made[1].values.iter().map(|v| v.1.0).collect();
    assert_eq!(within, [9.0, 12.0]);
}

#[test]
fn a_histogram_that_is_there_in_both_forms_counts_once() {
    let classic = |at: f64| {
        json!([
            {"metric": {"__name__": format!("{NAME}_count"), "pod": "p"}, "values": [[at, "70"]]},
            {"metric": {"__name__": format!("{NAME}_bucket"), "le": "0.5", "pod": "p"}, "values": [[at, "50"]]},
            {"metric": {"__name__": "up", "pod": "p"}, "values": [[at, "1"]]},
        ])
    };
    for (at, within) in [(1_795_264_926.311, 50.0), (1_795_264_000.0, 56.0)] {
        let mut both = classic(at).as_array().unwrap().clone();
        both.extend(custom().as_array().unwrap().clone());
        let made = to_counters(answer(&json!(both)), NAME, 0.5).unwrap();
        assert_eq!(made.len(), 3);
        let bucket = made.iter().find(|s| s.metric.contains_key("le")).unwrap();
        assert!((bucket.values[0].1.0 - within).abs() < 1e-9, "{at}");
    }
    // A summary of that name is neither.
    let summary = json!([{"metric": {"__name__": NAME, "quantile": "0.5"}, "values": [[1.0, "3"]]}]);
    assert_eq!(to_counters(answer(&summary), NAME, 0.5), Ok(Vec::new()));
}

#[test]
fn an_empty_histogram_has_no_buckets() {
    let series = json!([{"metric": {"__name__": NAME}, "histograms": [[1.0, {"count": "0", "sum": "0"}]]}]);
    assert_eq!(counted(&series, 0.5), Ok((0.0, 0.0)));
}

proptest! {
    /// What counts as within is never slower than the threshold, whatever the buckets, and at an edge of them all
    /// that is not slower counts.
    #[test]
    fn nothing_slow_counts_as_within(
        ends in prop::collection::btree_set(1..400u32, 2..12), counts in prop::collection::vec(0..50u32, 12),
        threshold in 1..400u32,
    ) {
        let ends: Vec<f64> = ends.into_iter().map(|e| f64::from(e) / 100.0).collect();
        let buckets: Vec<Value> = ends.windows(2).zip(&counts).filter(|(_, n)| **n > 0)
            .map(|(edge, n)| json!([0, edge[0].to_string(), edge[1].to_string(), n.to_string()])).collect();
        let total: u32 = ends.windows(2).zip(&counts).map(|(_, n)| n).sum();
        let series = json!([{"metric": {"__name__": NAME}, "histograms": [
            [1.0, {"count": total.to_string(), "buckets": buckets}],
        ]}]);
        let threshold = f64::from(threshold) / 100.0;
        let surely: u32 = ends.windows(2).zip(&counts).filter(|(e, _)| e[1] <= threshold).map(|(_, n)| n).sum();
        if let Ok((all, within)) = counted(&series, threshold) {
            prop_assert_eq!((all, within), (f64::from(total), f64::from(surely)));
        } else {
            let across = ends.windows(2).zip(&counts).any(|(e, n)| *n > 0 && e[0] < 0.8 * threshold && e[1] > threshold);
            prop_assert!(across);
        }
    }
}

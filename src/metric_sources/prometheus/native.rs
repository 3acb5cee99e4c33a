//! Native histograms, as counters at a threshold.
//!
//! A native histogram is one series whose samples hold a count and the buckets that are not empty. Requests are
//! counted, not estimated: a bucket that the threshold lies in is not divided by interpolation, as PromQL's
//! `histogram_fraction` does, because an exact test needs whole requests. All of such a bucket counts as slower
//! than the threshold, in both revisions and in every sample, which is to judge by the bucket's lower edge: the
//! comparison stays exact, the objective becomes a little stricter, never laxer. Histograms with custom buckets,
//! which Prometheus makes of classic ones, have the edges that the application chose; exponential ones have every
//! power of two.

use super::answer::{Bucket, Labels, Number, RawHistogram, RawSample, RawSeries};

/// The least share of the threshold at which the edge may lie that stands for it: buckets that grow by a fifth
/// or less.
const NEAREST: f64 = 0.8;
/// Relative difference of edges that are printed differently.
const SAME: f64 = 1e-9;

/// The edge that stands for a threshold is too far below it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TooCoarse {
    /// The edge, in the histogram's unit.
    pub edge: f64,
}

/// Makes of an answer with native histograms of this name what one with a classic histogram would be: a count, and
/// a bucket that ends at the threshold (in the histogram's unit). Of a histogram that is there in both forms, the
/// one with the newest sample counts; of two as new, the classic one.
pub fn to_counters(
    answer: Vec<RawSeries>,
    histogram: &str,
    threshold: f64,
) -> Result<Vec<RawSeries>, TooCoarse> {
    let is_native = |series: &RawSeries| {
        series
            .metric
            .get("__name__")
            .is_some_and(|name| name == histogram)
    };
    let (native, mut others): (Vec<_>, Vec<_>) = answer.into_iter().partition(is_native);
    let newest = native
        .iter()
        .filter_map(|s| s.histograms.last())
        .map(|h| h.0)
        .reduce(f64::max);
    let Some(newest) = newest else {
        return Ok(others);
    };
    let is_classic = |series: &RawSeries| {
        let name = series.metric.get("__name__");
        name.is_some_and(|n| {
            n.strip_prefix(histogram)
                .is_some_and(|end| end == "_count" || end == "_bucket")
        })
    };
    let buckets = others.iter().filter(|s| s.metric.contains_key("le"));
    let classic = buckets
        .filter_map(|s| s.values.last())
        .map(|v| v.0)
        .reduce(f64::max);
    if classic.is_some_and(|classic| classic >= newest) {
        return Ok(others);
    }
    others.retain(|series| !is_classic(series));
    let samples = native.iter().flat_map(|s| &s.histograms);
    let buckets: Vec<&Bucket> = samples.flat_map(|h| &h.1.buckets).collect();
    let edge = common_edge(&buckets, threshold);
    if edge < NEAREST * threshold {
        return Err(TooCoarse { edge });
    }
    for series in native {
        let renamed = |end: &str| {
            let mut metric: Labels = series.metric.clone();
            metric.insert("__name__".to_owned(), format!("{histogram}{end}"));
            metric
        };
        let values = |value: fn(&RawHistogram, f64) -> f64| -> Vec<RawSample> {
            let sample = |h: &RawHistogram| RawSample(h.0, Number(value(h, edge)));
            series.histograms.iter().map(sample).collect()
        };
        let mut bucket = renamed("_bucket");
        bucket.insert("le".to_owned(), edge.to_string());
        others.push(RawSeries {
            metric: renamed("_count"),
            values: values(|h, _| h.1.count.0),
            histograms: Vec::new(),
        });
        others.push(RawSeries {
            metric: bucket,
            values: values(|h, edge| {
                h.1.buckets
                    .iter()
                    .filter(|b| ends_by(b, edge))
                    .map(|b| b.count.0)
                    .sum()
            }),
            histograms: Vec::new(),
        });
    }
    Ok(others)
}

fn ends_by(bucket: &Bucket, edge: f64) -> bool {
    bucket.upper.0 <= edge * (1.0 + SAME)
}

/// The largest edge at or below the threshold that no bucket of any sample reaches across: what is at or below it
/// is known of every sample, whatever its resolution.
fn common_edge(buckets: &[&Bucket], threshold: f64) -> f64 {
    let mut edge = threshold;
    loop {
        let across = |b: &&&Bucket| b.lower.0 < edge * (1.0 - SAME) && !ends_by(b, edge);
        let lower = buckets
            .iter()
            .filter(across)
            .map(|b| b.lower.0)
            .fold(edge, f64::min);
        if lower >= edge {
            return edge;
        }
        if lower <= 0.0 {
            return 0.0;
        }
        edge = lower;
    }
}

#[cfg(test)]
mod tests;

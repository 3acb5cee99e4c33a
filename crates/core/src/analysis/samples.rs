//! Raw samples of counters into increases.
//!
//! `increase()` of a query language extrapolates to numbers that were never counted. Here samples are
//! subtracted series by series, resets are honoured, and only then is there a sum.

use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// One scraped value of a counter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it was scraped.
    pub at: Timestamp,
    /// The counter's value.
    pub value: f64,
}

/// One series of a counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The pod that counted.
    pub pod: String,
    /// What tells it from the pod's other series: its labels without those that scraping adds, so that a
    /// pod that is scraped twice counts once.
    pub key: String,
    /// Its samples, in any order.
    pub samples: Vec<Sample>,
}

/// How much the counters grew in `(start, end]`, in all: finite, not negative.
///
/// The value at an edge is that of the last sample at or before it, and a fall means that the counter began
/// again at 0. Values that are no counts (staleness markers are NaN) are skipped. Where `pod` and `key` are
/// the same, the series with the most samples speaks for all.
///
/// A series began at 0 if its pod was scraped without it before its first sample (a counter is often born
/// with its first error), or if the pod was born at or after `seen_from`, the beginning of the time that the
/// samples cover. Otherwise what it had counted before its first sample is not known, and is left out. None
/// of this depends on `start` or `end`: the parts of an interval sum to the whole.
pub fn increase(
    series: &[Series],
    births: &BTreeMap<String, Timestamp>,
    seen_from: Timestamp,
    start: Timestamp,
    end: Timestamp,
) -> f64 {
    let mut pods: BTreeMap<&str, Pod<'_>> = BTreeMap::new();
    for s in series {
        let samples = ordered(s);
        let Some(first) = samples.first().map(|sample| sample.at) else {
            continue;
        };
        let pod = pods.entry(&s.pod).or_insert_with(|| Pod {
            scraped: first,
            counters: BTreeMap::new(),
        });
        pod.scraped = pod.scraped.min(first);
        let counter = pod.counters.entry(&s.key).or_insert_with(|| Counter {
            first,
            samples: Vec::new(),
        });
        counter.first = counter.first.min(first);
        if compare(&samples, &counter.samples) == Ordering::Greater {
            counter.samples = samples;
        }
    }
    let mut sum = 0.0;
    for (name, pod) in &pods {
        let young = births.get(*name).is_some_and(|born| *born >= seen_from);
        for counter in pod.counters.values() {
            sum += grown(&counter.samples, young || pod.scraped < counter.first, start, end);
        }
    }
    f64::min(sum, f64::MAX)
}

/// Some series has a sample in `(start, end]`: the pods were scraped in that time.
pub fn fresh(series: &[Series], start: Timestamp, end: Timestamp) -> bool {
    series
        .iter()
        .flat_map(|s| &s.samples)
        .any(|s| countable(s) && s.at > start && s.at <= end)
}

/// The edges of a histogram in rising order, from the values of its `le` labels in any spelling; `+Inf`,
/// which is no edge that a threshold could lie on, is left out.
pub fn histogram_edges(le: &[&str]) -> Vec<f64> {
    let mut edges: Vec<f64> = le
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|e: &f64| e.is_finite())
        .collect();
    edges.sort_by(f64::total_cmp);
    edges.dedup_by(|a, b| same_edge(*a, *b));
    edges
}

/// The `le` label, as it is spelt, of the edge that equals a threshold in the histogram's unit (seconds, by
/// custom); `"1"` and `"1.0"` are the same edge.
pub fn find_edge<'a>(le: &[&'a str], threshold: f64) -> Option<&'a str> {
    le.iter()
        .copied()
        .find(|text| text.parse().is_ok_and(|edge| same_edge(edge, threshold)))
}

/// Equal but for the last digits, which clients print differently.
fn same_edge(a: f64, b: f64) -> bool {
    a.is_finite() && b.is_finite() && (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What was read of one pod.
struct Pod<'a> {
    /// Its first sample of any series.
    scraped: Timestamp,
    counters: BTreeMap<&'a str, Counter>,
}

/// One counter of a pod, read by however many scrapers.
struct Counter {
    /// The first sample that any scraper took.
    first: Timestamp,
    /// The samples of the scraper that took most.
    samples: Vec<Sample>,
}

fn countable(sample: &Sample) -> bool {
    sample.value.is_finite() && sample.value >= 0.0
}

fn ordered(series: &Series) -> Vec<Sample> {
    let mut samples: Vec<Sample> = series.samples.iter().copied().filter(countable).collect();
    samples.sort_by(|a, b| a.at.cmp(&b.at).then(a.value.total_cmp(&b.value)));
    samples.dedup_by_key(|s| s.at);
    samples
}

/// More samples are greater; between equally many any order will do that does not depend on their places.
fn compare(a: &[Sample], b: &[Sample]) -> Ordering {
    let each = || {
        a.iter()
            .zip(b)
            .map(|(a, b)| a.at.cmp(&b.at).then(a.value.total_cmp(&b.value)))
    };
    a.len()
        .cmp(&b.len())
        .then_with(|| each().find(|o| o.is_ne()).unwrap_or(Ordering::Equal))
}

fn grown(samples: &[Sample], from_zero: bool, start: Timestamp, end: Timestamp) -> f64 {
    let mut last = from_zero.then_some(0.0);
    let mut sum = 0.0;
    for sample in samples.iter().take_while(|s| s.at <= end) {
        if sample.at > start {
            sum += match last {
                Some(before) if sample.value >= before => sample.value - before,
                Some(_) => sample.value,
                None => 0.0,
            };
        }
        last = Some(sample.value);
    }
    sum
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn series(pod: &str, key: &str, samples: &[(i64, f64)]) -> Series {
        let samples = samples
            .iter()
            .map(|(s, value)| Sample {
                at: at(*s),
                value: *value,
            })
            .collect();
        Series {
            pod: pod.into(),
            key: key.into(),
            samples,
        }
    }

    /// Pod `p1` was born in the time that the samples cover; of the others nothing is known.
    fn grew(all: &[Series], start: i64, end: i64) -> f64 {
        let births = BTreeMap::from([("p1".to_owned(), at(-20))]);
        increase(all, &births, at(-60), at(start), at(end))
    }

    #[test]
    fn the_difference_of_the_last_samples_at_the_edges_is_the_increase() {
        let s = [series(
            "a",
            "2xx",
            &[(-5, 10.0), (0, 12.0), (5, 20.0), (10, 30.0), (15, 99.0)],
        )];
        assert_eq!(grew(&s, 0, 10), 18.0);
    }

    #[test]
    fn a_fall_is_a_counter_that_began_again() {
        let s = [series("a", "2xx", &[(0, 100.0), (5, 3.0), (10, 7.0)])];
        assert_eq!(grew(&s, 0, 10), 7.0);
    }

    #[test]
    fn a_staleness_marker_is_no_sample() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let s = [series("a", "2xx", &[(0, 5.0), (5, stale), (10, 9.0)])];
        assert_eq!(grew(&s, 0, 10), 4.0);
        assert!(!fresh(&s, at(0), at(5)));
        assert!(fresh(&s, at(5), at(10)));
        assert!(!fresh(&s, at(10), at(20)));
    }

    #[test]
    fn a_counter_born_with_its_first_error_starts_at_zero_on_a_scraped_pod() {
        let s = [
            series("a", "2xx", &[(0, 5.0), (5, 9.0)]),
            series("a", "5xx", &[(5, 2.0)]),
        ];
        assert_eq!(grew(&s, 0, 10), 6.0);
        // Whatever the interval: the scrape at 0 did not see it.
        assert_eq!(grew(&s, -5, 10), 6.0);
    }

    #[test]
    fn a_young_pod_starts_at_zero_and_an_old_one_at_its_first_sample() {
        let s = |pod| {
            [
                series(pod, "2xx", &[(5, 4.0), (10, 6.0)]),
                series(pod, "5xx", &[(5, 1.0)]),
            ]
        };
        assert_eq!(grew(&s("p0"), 0, 10), 2.0);
        assert_eq!(grew(&s("p1"), 0, 10), 7.0);
        // Born before the samples begin: it was there, and is old.
        let births = BTreeMap::from([("p1".to_owned(), at(-61))]);
        assert_eq!(increase(&s("p1"), &births, at(-60), at(0), at(10)), 2.0);
    }

    #[test]
    fn a_pod_that_is_scraped_twice_counts_once() {
        let most = series("a", "2xx", &[(0, 5.0), (5, 9.0), (10, 12.0)]);
        let fewer = series("a", "2xx", &[(2, 6.0), (7, 11.0)]);
        assert_eq!(grew(&[fewer.clone(), most.clone()], 0, 10), 7.0);
        assert_eq!(grew(&[most.clone(), fewer.clone(), most], 0, 10), 7.0);
    }

    #[test]
    fn a_second_scraper_that_comes_later_makes_no_old_counter_new() {
        let early = series("a", "2xx", &[(0, 500.0)]);
        let late = series("a", "2xx", &[(1, 500.0), (6, 503.0)]);
        assert_eq!(grew(&[early, late], -5, 10), 3.0);
    }

    #[test]
    fn edges_are_numbers_however_they_are_spelt() {
        assert_eq!(find_edge(&["0.1", "1.0", "+Inf"], 1.0), Some("1.0"));
        assert_eq!(find_edge(&["0.1", "1", "+Inf"], 1.0), Some("1"));
        assert_eq!(find_edge(&["0.1", "0.5", "+Inf"], 0.25), None);
        assert_eq!(find_edge(&["+Inf"], f64::INFINITY), None);
        assert_eq!(
            histogram_edges(&["1.0", "+Inf", "0.5", "1", "5e-1", "", "NaN"]),
            [0.5, 1.0]
        );
    }

    fn any_series() -> impl Strategy<Value = Vec<Series>> {
        let odd = [f64::NAN, -1.0, f64::INFINITY, f64::MAX];
        let value =
            prop_oneof![9 => (0..1_000_000u32).prop_map(f64::from), 1 => prop::sample::select(odd.to_vec())];
        let samples = prop::collection::vec((-60i64..60, value), 0..12);
        prop::collection::vec((0..3u8, 0..2u8, samples), 0..6).prop_map(|all| {
            all.into_iter()
                .map(|(pod, key, samples)| series(&format!("p{pod}"), &format!("k{key}"), &samples))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_that_is_scraped_makes_it_negative_or_nan(all in any_series()) {
            let n = grew(&all, 0, 30);
            prop_assert!(n >= 0.0 && n.is_finite());
        }

        #[test]
        fn the_order_of_series_and_samples_does_not_matter(
            (all, mut mixed) in any_series().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
            turn in any::<bool>(),
        ) {
            if turn {
                for series in &mut mixed {
                    series.samples.reverse();
                }
            }
            prop_assert_eq!(grew(&all, 0, 30).to_bits(), grew(&mixed, 0, 30).to_bits());
        }

        #[test]
        fn the_parts_of_an_interval_make_the_whole(
            all in any_series(), mut edges in prop::array::uniform4(-70i64..70),
        ) {
            edges.sort_unstable();
            let whole = grew(&all, edges[0], edges[3]);
            let parts: f64 = edges.windows(2).map(|e| grew(&all, e[0], e[1])).sum();
            let parts = parts.min(f64::MAX);
            prop_assert!(whole == parts || (whole - parts).abs() <= 1e-9 * whole, "{whole} is not {parts}");
        }
    }
}

//! Raw samples of counters into increases.
//!
//! `increase()` of a query language extrapolates to numbers that were never counted. Here samples are
//! subtracted series by series, resets are honoured, and only then is there a sum.

use jiff::Timestamp;
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

/// How much the counters grew in `(start, end]`, in all.
///
/// The value at an edge is that of the last sample at or before it. A fall means that the counter began
/// again at 0. A series without a sample at or before `start` began at 0 if its pod was scraped before
/// (a counter is often born with its first error) or was born after `seen_from`, the beginning of the
/// time that the samples cover; otherwise what it had counted before its first sample is not known, and
/// is left out.
pub fn increase(
    series: &[Series],
    births: &BTreeMap<String, Timestamp>,
    seen_from: Timestamp,
    start: Timestamp,
    end: Timestamp,
) -> f64 {
    let mut scraped_before: BTreeMap<&str, bool> = BTreeMap::new();
    for s in series {
        let before = s.samples.iter().any(|sample| countable(sample) && sample.at <= start);
        *scraped_before.entry(&s.pod).or_default() |= before;
    }
    // The same series from two scrapers: the one with more samples speaks for both.
    let mut unique: BTreeMap<(&str, &str), Vec<Sample>> = BTreeMap::new();
    for s in series {
        let samples = ordered(s);
        let known = unique.entry((&s.pod, &s.key)).or_default();
        if (samples.len(), total(&samples)) > (known.len(), total(known)) {
            *known = samples;
        }
    }
    unique
        .iter()
        .map(|((pod, _), samples)| {
            let young = births.get(*pod).is_some_and(|born| *born >= seen_from);
            let from_zero = young || scraped_before.get(pod).copied().unwrap_or(false);
            grown(samples, from_zero, start, end)
        })
        .sum()
}

/// Some series has a sample in `(start, end]`: the pods were scraped in that time.
pub fn fresh(series: &[Series], start: Timestamp, end: Timestamp) -> bool {
    series.iter().flat_map(|s| &s.samples).any(|s| countable(s) && s.at > start && s.at <= end)
}

/// The edge of a histogram that equals a threshold in seconds; `"1"` and `"1.0"` are the same edge.
pub fn find_edge<'a>(edges: &[&'a str], threshold: f64) -> Option<&'a str> {
    edges.iter().copied().find(|edge| {
        edge.parse::<f64>().is_ok_and(|e| e.is_finite() && (e - threshold).abs() <= 1e-9 * threshold.abs().max(1e-9))
    })
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

fn total(samples: &[Sample]) -> u64 {
    // Any stable order will do to choose between equally long series.
    samples.iter().fold(0, |sum, s| sum ^ s.value.to_bits())
}

fn grown(samples: &[Sample], from_zero: bool, start: Timestamp, end: Timestamp) -> f64 {
    let mut last = if from_zero { Some(0.0) } else { None };
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn series(pod: &str, key: &str, samples: &[(i64, f64)]) -> Series {
        let samples = samples.iter().map(|(s, value)| Sample { at: at(*s), value: *value }).collect();
        Series { pod: pod.into(), key: key.into(), samples }
    }

    fn grew(all: &[Series], start: i64, end: i64) -> f64 {
        increase(all, &BTreeMap::new(), at(-60), at(start), at(end))
    }

    #[test]
    fn the_difference_of_the_last_samples_at_the_edges_is_the_increase() {
        let s = [series("a", "2xx", &[(-5, 10.0), (0, 12.0), (5, 20.0), (10, 30.0), (15, 99.0)])];
        assert_eq!(grew(&s, 0, 10), 18.0);
    }

    #[test]
    fn a_fall_is_a_counter_that_began_again() {
        let s = [series("a", "2xx", &[(0, 100.0), (5, 3.0), (10, 7.0)])];
        assert_eq!(grew(&s, 0, 10), 7.0);
    }

    #[test]
    fn a_counter_born_with_its_first_error_starts_at_zero_on_a_scraped_pod() {
        let s = [series("a", "2xx", &[(0, 5.0), (5, 9.0)]), series("a", "5xx", &[(5, 2.0)])];
        assert_eq!(grew(&s, 0, 10), 6.0);
    }

    #[test]
    fn a_young_pod_starts_at_zero_and_an_old_one_at_its_first_sample() {
        let s = [series("new", "2xx", &[(5, 4.0), (10, 6.0)])];
        assert_eq!(grew(&s, 0, 10), 2.0);
        let births = BTreeMap::from([("new".to_owned(), at(1))]);
        assert_eq!(increase(&s, &births, at(-60), at(0), at(10)), 6.0);
    }

    #[test]
    fn a_pod_that_is_scraped_twice_counts_once() {
        let once = series("a", "2xx", &[(0, 5.0), (5, 9.0)]);
        assert_eq!(grew(&[once.clone(), once], 0, 10), 4.0);
    }

    #[test]
    fn edges_are_numbers_however_they_are_spelt() {
        assert_eq!(find_edge(&["0.1", "1.0", "+Inf"], 1.0), Some("1.0"));
        assert_eq!(find_edge(&["0.1", "0.5"], 0.25), None);
    }

    fn any_series() -> impl Strategy<Value = Vec<Series>> {
        let value = prop_oneof![6 => 0.0..1e6, 1 => Just(f64::NAN), 1 => Just(-1.0), 1 => Just(f64::INFINITY), 1 => Just(1e300)];
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
        fn the_order_of_series_and_samples_does_not_matter(all in any_series()) {
            let mut turned = all.clone();
            turned.reverse();
            turned.iter_mut().for_each(|s| s.samples.reverse());
            let (a, b) = (grew(&all, 0, 30), grew(&turned, 0, 30));
            prop_assert!((a - b).abs() <= 1e-9 * a.max(1.0));
        }

        #[test]
        fn two_halves_make_the_whole_for_a_pod_that_was_scraped_before(
            values in prop::collection::vec(0.0..1e6f64, 8), cut in 1i64..60,
        ) {
            let samples: Vec<_> = values.iter().enumerate().map(|(i, v)| (i as i64 * 10 - 10, *v)).collect();
            let all = [series("a", "k", &samples)];
            let whole = grew(&all, 0, 60);
            let halves = grew(&all, 0, cut) + grew(&all, cut, 60);
            prop_assert!((whole - halves).abs() <= 1e-6 * whole.max(1.0));
        }
    }
}

//! How fast something grows, whatever its noise: Tukey's resistant line (1970), by the medians of three thirds.
//!
//! A collector's saw-tooth and an allocator's steps move a median little, and three medians tell as well whether growth
//! goes on or levels off, as it does while a process warms up.

use super::super::Sample;
use super::lower_median;

/// Each third needs so many samples.
const LEAST_SAMPLES: usize = 3;
/// Growth goes on where the later half has this part of the earlier one's.
const GOES_ON: f64 = 0.4;

/// How something grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Per second.
    pub rate: f64,
    /// From the median of the first third to that of the last.
    pub rise: f64,
    /// The median of the last third.
    pub last: f64,
    /// It grows, and does not level off.
    pub goes_on: bool,
}

/// How the samples grow, in whatever order they are; `None` where they span less than `least_seconds` or are too few.
/// What is no finite number or negative is left out, and of two at the same time the lower counts.
pub fn growth(samples: &[Sample], least_seconds: f64) -> Option<Growth> {
    let mut samples: Vec<Sample> = samples
        .iter()
        .copied()
        .filter(|s| s.value.is_finite() && s.value >= 0.0)
        .collect();
    samples.sort_by(|a, b| a.at.cmp(&b.at).then(a.value.total_cmp(&b.value)));
    samples.dedup_by_key(|s| s.at);
    let (first, last) = (samples.first()?.at, samples.last()?.at);
    let span = last.duration_since(first).as_secs_f64();
    if span < least_seconds || span <= 0.0 {
        return None;
    }
    let third = |sample: &Sample| {
        let passed = sample.at.duration_since(first).as_secs_f64() / span;
        usize::from(passed > 1.0 / 3.0) + usize::from(passed > 2.0 / 3.0)
    };
    let mut thirds: [Vec<(f64, f64)>; 3] = Default::default();
    for sample in &samples {
        let seconds = sample.at.duration_since(first).as_secs_f64();
        thirds[third(sample)].push((seconds, sample.value));
    }
    if thirds.iter().any(|third| third.len() < LEAST_SAMPLES) {
        return None;
    }
    let [a, b, c] = thirds.map(|third| {
        let (times, values): (Vec<f64>, Vec<f64>) = third.into_iter().unzip();
        (
            lower_median(times).unwrap_or_default(),
            lower_median(values).unwrap_or_default(),
        )
    });
    let rise = c.1 - a.1;
    let rate = |from: (f64, f64), to: (f64, f64)| (to.1 - from.1) / (to.0 - from.0).max(1.0);
    let (early, late) = (rate(a, b), rate(b, c));
    Some(Growth {
        rate: rate(a, c),
        rise,
        last: c.1,
        goes_on: rise > 0.0 && late > 0.0 && late >= GOES_ON * early,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn samples(value: impl Fn(f64) -> f64) -> Vec<Sample> {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        (0..=16)
            .map(|i| Sample {
                at: at(i * 15),
                value: value((i * 15) as f64),
            })
            .collect()
    }

    #[test]
    fn a_line_has_its_slope_through_a_saw_tooth_and_single_spikes() {
        let found = growth(&samples(|t| 1e8 + 1e5 * t), 180.0).unwrap();
        assert!((found.rate - 1e5).abs() < 1.0 && found.goes_on);
        let sawtooth = growth(&samples(|t| 1e8 + 1e5 * t + (t / 45.0).fract() * 5e6), 180.0).unwrap();
        assert!((sawtooth.rate - 1e5).abs() < 3e4, "{sawtooth:?}");
        let spiked = growth(
            &samples(|t| if (t - 105.0).abs() < 1.0 { 1e12 } else { 1e8 }),
            180.0,
        )
        .unwrap();
        assert!(spiked.rate.abs() < 1.0 && !spiked.goes_on, "{spiked:?}");
    }

    #[test]
    fn what_levels_off_does_not_go_on() {
        let warming = growth(&samples(|t| 1e8 + 4e7 * (1.0 - (-t / 60.0).exp())), 180.0).unwrap();
        assert!(warming.rise > 1e7 && !warming.goes_on, "{warming:?}");
        let step = growth(&samples(|t| if t < 100.0 { 1e8 } else { 1.3e8 }), 180.0).unwrap();
        assert!(!step.goes_on, "{step:?}");
        let falling = growth(&samples(|t| 1e8 - 1e5 * t), 180.0).unwrap();
        assert!(falling.rate < 0.0 && !falling.goes_on);
    }

    #[test]
    fn a_short_time_or_few_samples_tell_nothing() {
        let all = samples(|t| t);
        assert_eq!(growth(&all[..8], 180.0), None);
        assert_eq!(growth(&[all[0], all[16]], 180.0), None);
        assert_eq!(growth(&[], 180.0), None);
    }

    proptest! {
        #[test]
        fn no_value_and_no_order_breaks_it(
            all in prop::collection::vec((0i64..600, any::<f64>()), 0..60),
        ) {
            let read: Vec<Sample> = all
                .iter()
                .map(|(second, value)| Sample { at: Timestamp::from_second(*second).unwrap(), value: *value })
                .collect();
            let mut turned = read.clone();
            turned.reverse();
            prop_assert_eq!(format!("{:?}", growth(&read, 60.0)), format!("{:?}", growth(&turned, 60.0)));
        }
    }
}

//! Vectors of the judges: what their documentation and their own tests say.

use super::argo::{self, Argo};
use super::flagger::{self, Flagger};
use super::kayenta::{Class, Kayenta, Settings, classify};
use super::mann_whitney::{is_above_zero, shift, sigma, ties};
use crate::judge::{Judge, fate};
use crate::traces::{SCRAPE, Seen, Trace};

const Z95: f64 = 1.959_963_984_540_054;

/// An hour in which every scrape reads `canary`, and stable is well.
fn hour(canary: impl Fn(u32) -> Seen) -> Trace {
    let well = Seen {
        total: 270.0,
        bad: 0.0,
    };
    Trace::new(0.1, 20.0, (0..3600 / SCRAPE).map(|i| (canary(i), well)))
}

fn bad(bad: f64) -> Seen {
    Seen { total: 100.0, bad }
}

fn after(judge: impl Judge, trace: &Trace) -> Option<u32> {
    let mut judge = judge;
    fate(&mut judge, trace).rolled_back_at
}

#[test]
fn the_shift_is_that_of_the_reference() {
    let got = shift(&[10.0, 20.0, 30.0, 40.0], &[1.0, 2.0, 3.0, 4.0], Z95).unwrap();
    assert_eq!((got.lower, got.upper, got.estimate), (6.0, 39.0, 22.5));
}

#[test]
fn the_short_cut_says_what_the_interval_says() {
    let mut state = 1_u64;
    let mut values = |n: usize, most: u64, plus: f64| -> Vec<f64> {
        (0..n)
            .map(|_| {
                state = crate::measure::seed(state, 1, 1);
                (state % most) as f64 + plus
            })
            .collect()
    };
    let mut above = 0;
    for round in 0..2000_u32 {
        let plus = f64::from(round % 4);
        let (x, y) = (
            values(3 + round as usize % 20, 6, plus),
            values(4 + round as usize % 15, 6, 0.0),
        );
        let lower = shift(&x, &y, Z95).map_or(0.0, |shift| shift.lower);
        assert_eq!(is_above_zero(&x, &y, Z95), lower > 0.0, "{x:?} {y:?}");
        above += u32::from(lower > 0.0);
    }
    assert!((200..1800).contains(&above), "{above}");
    assert!(!is_above_zero(&[1.0, 1.0], &[1.0], Z95) && !is_above_zero(&[], &[1.0], Z95));
}

/// scipy's `mannwhitneyu([1,2,3,4], [1,2,3,4,5], method="asymptotic")`: U = 8, p = 0.7086240584439.
#[test]
fn the_deviation_gives_scipys_p() {
    let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
    let u: f64 = x
        .iter()
        .flat_map(|x: &f64| {
            y.iter().map(move |y| {
                if x > y {
                    1.0
                } else if x < y {
                    0.0
                } else {
                    0.5
                }
            })
        })
        .sum();
    assert_eq!(u, 8.0);
    let deviation = sigma(&ties(&[x.as_slice(), y.as_slice()].concat()), x.len(), y.len());
    let deviations = ((u - 10.0).abs() - 0.5) / deviation;
    let p = libm::erfc(deviations / std::f64::consts::SQRT_2);
    assert!((p - 0.708_624_058_443_9).abs() < 1e-12, "{p}");
}

#[test]
fn kayenta_passes_sparse_errors() {
    let settings = Settings::DOCUMENTED;
    let ones = [1.0; 10];
    let mostly = |hundreds: usize| [vec![100.0; hundreds], vec![1.0; 10 - hundreds]].concat();
    assert_eq!(
        classify(&[0.0, 1.0, 2.0, 1.0, 0.0, 0.0], &[0.0; 6], &settings),
        Class::Pass
    );
    assert_eq!(classify(&mostly(7), &ones, &settings), Class::Pass);
    assert_eq!(classify(&mostly(8), &ones, &settings), Class::High);
    assert_eq!(classify(&[1.0; 5], &[1.0; 5], &settings), Class::Pass);
    assert_eq!(classify(&[], &ones, &settings), Class::Nodata);
    assert_eq!(classify(&ones, &[], &settings), Class::Nodata);
}

#[test]
fn kayenta_allows_the_increase_it_is_told_to() {
    let (experiment, control) = (
        [1.30, 1.31, 1.32, 1.33, 1.34, 1.35],
        [1.0, 1.01, 1.02, 1.03, 1.04, 1.05],
    );
    let allowing = |allowed_increase| Settings {
        allowed_increase,
        ..Settings::DOCUMENTED
    };
    assert_eq!(classify(&experiment, &control, &allowing(1.0)), Class::High);
    assert_eq!(classify(&experiment, &control, &allowing(1.5)), Class::Pass);
}

#[test]
fn kayenta_looks_after_ten_minutes_and_fails_without_data() {
    let kayenta = || Kayenta::new(Settings::DOCUMENTED);
    assert_eq!(after(kayenta(), &hour(|_| bad(50.0))), Some(600));
    assert_eq!(after(kayenta(), &hour(|_| bad(0.0))), None);
    assert_eq!(after(kayenta(), &hour(|_| Seen::default())), Some(600));
}

#[test]
fn argo_aborts_at_the_measurement_beyond_the_limit() {
    let documented = || Argo::new(argo::Settings::DOCUMENTED);
    assert_eq!(after(documented(), &hour(|_| bad(10.0))), Some(1200));
    assert_eq!(after(documented(), &hour(|_| bad(5.0))), None);
    let strict = argo::Settings {
        interval: 60,
        window: 60,
        failures: 0,
        ..argo::Settings::DOCUMENTED
    };
    assert_eq!(after(Argo::new(strict), &hour(|_| bad(10.0))), Some(60));
}

#[test]
fn argo_fails_nan_and_aborts_on_the_fifth_empty_answer() {
    let documented = || Argo::new(argo::Settings::DOCUMENTED);
    // Requests at first, and none in any window that is looked at.
    let silent = hour(|i| if i == 0 { bad(0.0) } else { Seen::default() });
    assert_eq!(after(documented(), &silent), Some(1200));
    assert_eq!(
        after(documented(), &hour(|_| Seen::default())),
        Some(300 + 4 * SCRAPE)
    );
    assert_eq!(after(documented(), &hour(|_| bad(100.0))), Some(300 + 4 * SCRAPE));
}

#[test]
fn argo_forgets_errors_once_there_is_an_answer() {
    let late = hour(|i| {
        if i < 303 / SCRAPE + 2 {
            Seen::default()
        } else {
            bad(0.0)
        }
    });
    assert_eq!(after(Argo::new(argo::Settings::DOCUMENTED), &late), None);
}

#[test]
fn flagger_adds_failed_checks_up() {
    let documented = || Flagger::new(flagger::Settings::DOCUMENTED);
    assert_eq!(after(documented(), &hour(|_| bad(2.0))), Some(300));
    assert_eq!(after(documented(), &hour(|_| bad(1.0))), None);
    // Every other minute.
    assert_eq!(
        after(
            documented(),
            &hour(|i| bad(if i / 4 % 2 == 0 { 5.0 } else { 0.0 }))
        ),
        Some(540)
    );
}

#[test]
fn flagger_fails_checks_without_data() {
    let documented = || Flagger::new(flagger::Settings::DOCUMENTED);
    assert_eq!(after(documented(), &hour(|_| Seen::default())), Some(300));
    let silent = hour(|i| if i < 4 { bad(0.0) } else { Seen::default() });
    assert_eq!(after(documented(), &silent), Some(360));
}

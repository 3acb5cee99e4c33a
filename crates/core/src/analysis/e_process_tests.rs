//! The design's reference vectors, and fairness by exact enumeration.

use super::*;
use proptest::prelude::*;

fn counts(total: u32, bad: u32) -> Counts {
    Counts::new(f64::from(total), f64::from(bad)).unwrap()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-10, "{a} is not {b}");
}

#[test]
fn vectors_of_the_harm_factor() {
    close(common_rate(30.0, 270.0, 0.05, 0.01), 0.014);
    let ln = |e_c, e_p| ln_harm_factor(counts(30, e_c), counts(270, e_p), 0.05, 0.01);
    close(ln(2, 3), 1.576_045_418_0);
    close(ln(0, 3), -1.044_274_673_7);
    close(ln(5, 2), 5.847_046_380_6);
}

#[test]
fn vectors_of_the_nearest_point_at_a_margin() {
    let (q_c, q_p) = nearest(30.0, 270.0, 0.05, 0.01, 0.01);
    close(q_c, 0.021_712_809_9);
    close(q_p, 0.011_712_809_9);
    let ln = |e_c, e_p| ln_ratio(counts(30, e_c), 0.05, q_c) + ln_ratio(counts(270, e_p), 0.01, q_p);
    close(ln(2, 3), 0.834_730_670_8);
    close(ln(5, 2), 3.584_945_974_9);
}

#[test]
fn vectors_of_the_safe_factor() {
    close(nearest(30.0, 270.0, 0.01, 0.01, 0.01).0, 0.019_481_999_0);
    let ln = |e_c, e_p| ln_safe_factor(counts(30, e_c), counts(270, e_p), 0.01, 0.01);
    close(ln(0, 3), 0.308_621_197_5);
    close(ln(2, 3), -1.044_438_317_3);
}

#[test]
fn the_bet_follows_the_past() {
    close(plug_in(Counts::default()), 0.5 / 50.5);
    close(plug_in(counts(1346, 13)), 13.5 / 1396.5);
}

#[test]
fn a_bet_that_is_no_harm_is_no_evidence() {
    let (canary, stable) = (counts(40, 0), counts(360, 359));
    assert_eq!(ln_harm_factor(canary, stable, 0.95, 0.99), 0.0);
    assert_eq!(ln_point_factor(canary, 0.95, 1.0), 0.0);
}

/// `Σ P(e_c)·P(e_p)·E(e_c, e_p)` over every outcome.
fn expectation(p_c: f64, p_p: f64, n: (u32, u32), ln: impl Fn(Counts, Counts) -> f64) -> f64 {
    let (chances_c, chances_p) = (binomial(n.0, p_c), binomial(n.1, p_p));
    let mut sum = 0.0;
    for e_c in 0..=n.0 {
        for e_p in 0..=n.1 {
            let p = chances_c[e_c as usize] * chances_p[e_p as usize];
            sum += p * ln(counts(n.0, e_c), counts(n.1, e_p)).exp();
        }
    }
    sum
}

/// The chances of 0 to `n` bad ones.
fn binomial(n: u32, p: f64) -> Vec<f64> {
    let mut ln = f64::from(n) * (1.0 - p).ln();
    (0..=n)
        .map(|k| {
            if k > 0 {
                ln += (f64::from(n - k + 1) / f64::from(k)).ln() + (p / (1.0 - p)).ln();
            }
            ln.exp()
        })
        .collect()
}

#[test]
fn vectors_of_the_expectation_under_the_null() {
    let e = |p| expectation(p, p, (30, 270), |c, s| ln_harm_factor(c, s, 0.05, 0.01));
    close(e(0.014), 1.0);
    close(e(0.01), 0.998_176_669_5);
    close(e(0.05), 0.869_985_584_0);
}

/// Any float at all, or a rate of any size.
fn any_rate() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -0.1..1.1f64,
        (-320.0..0.0f64).prop_map(|e| 10f64.powf(e)),
        Just(0.0),
        Just(1.0)
    ]
}

fn any_counts() -> impl Strategy<Value = Counts> {
    let size = prop_oneof![
        Just(0.0),
        0.0..1e4f64,
        (-300.0..15.9f64).prop_map(|e| 10f64.powf(e))
    ];
    (size, 0.0..=1.0f64).prop_map(|(n, share)| Counts::new(n, n * share).unwrap())
}

proptest! {
    #[test]
    fn harm_is_no_more_than_fair_under_the_null(
        p in 0.001..0.5f64, better in 0.0..1.0f64, theta_p in 0.001..0.999f64, ratio in 0.2..30.0f64,
        n_c in 1..12u32, n_p in 1..20u32,
    ) {
        let theta_c = (ratio * theta_p).min(0.95);
        let p_c = (p * better).max(1e-6);
        let e = expectation(p_c, p, (n_c, n_p), |c, s| ln_harm_factor(c, s, theta_c, theta_p));
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    /// A canary that is like stable in both parts of a block whose weight rises, whatever happens at stable meanwhile.
    #[test]
    fn harm_beyond_the_weight_is_no_more_than_fair_while_it_rises(
        before in 0.0..0.5f64, after in 0.0..0.5f64, theta_p in 0.001..0.5f64, ratio in 1.1..30.0f64,
        early in (0..4u32, 4..8u32), late in (1..5u32, 1..6u32),
    ) {
        prop_assume!(early.0 * late.1 <= late.0 * early.1);
        let theta_c = (ratio * theta_p).min(0.95);
        let of = |n: (u32, u32)| {
            let (a, b) = (binomial(n.0, before), binomial(n.1, after));
            (0..=n.0 + n.1)
                .map(|bad| (0..=bad.min(n.0)).filter(|k| bad - k <= n.1)
                    .map(|k| a[k as usize] * b[(bad - k) as usize]).sum::<f64>())
                .collect::<Vec<f64>>()
        };
        let (canary, stable) = (of((early.0, late.0)), of((early.1, late.1)));
        let (n_c, n_p) = (early.0 + late.0, early.1 + late.1);
        let at_most = f64::from(n_p) * f64::from(late.0) / f64::from(late.1);
        let mut e = 0.0;
        for (bad_c, p_c) in (0..).zip(&canary) {
            for (bad_p, p_p) in (0..).zip(&stable) {
                let canary = counts(n_c, bad_c).among(at_most);
                e += p_c * p_p * ln_harm_factor(canary, counts(n_p, bad_p), theta_c, theta_p).exp();
            }
        }
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn a_point_is_no_more_than_fair_below_what_is_known(
        known in 0.001..0.99f64, better in 0.001..1.0f64, theta in 0.001..0.999f64, n in 1..30u32,
    ) {
        let e = expectation(known * better, 0.5, (n, 0), |c, _| ln_point_factor(c, theta, known));
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn safety_is_no_more_than_fair_under_the_null(
        p in 0.00001..0.4f64, margin in prop_oneof![0.00001..0.001f64, 0.001..0.5f64], worse in 0.0..0.1f64,
        theta in prop_oneof![1e-6..0.001f64, 0.001..0.9f64], n_c in 1..12u32, n_p in 1..20u32,
    ) {
        let p_c = (p + margin + worse).min(0.999);
        let e = expectation(p_c, p, (n_c, n_p), |c, s| ln_safe_factor(c, s, theta, margin));
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }

    #[test]
    fn the_nearest_point_is_nearer_than_its_neighbours(
        n in (0.01..1e6f64, 0.01..1e6f64), theta_c in 1e-6..0.9f64, theta_p in 1e-6..0.9f64,
        margin in 1e-5..0.6f64, step in prop::sample::select(vec![-1e-2, -1e-4, 1e-4, 1e-2]),
    ) {
        let (n_c, n_p) = n;
        let (q_c, q_p) = nearest(n_c, n_p, theta_c, theta_p, margin);
        prop_assert!(q_p > 0.0 && q_c < 1.0);
        let divergence = |q_c: f64, q_p: f64| {
            let kl = |t: f64, q: f64| t * (t / q).ln() + (1.0 - t) * ((1.0 - t) / (1.0 - q)).ln();
            n_c * kl(theta_c, q_c) + n_p * kl(theta_p, q_p)
        };
        let other = q_p * (1.0 + step);
        prop_assume!(other + margin < 1.0);
        let here = divergence(q_c, q_p);
        prop_assert!(here <= divergence(other + margin, other) * (1.0 + 1e-9) + 1e-9);
    }

    #[test]
    fn any_counts_and_any_floats_give_a_finite_number(
        c in any_counts(), s in any_counts(), a in any_rate(), b in any_rate(), margin in any_rate(),
    ) {
        prop_assert!(ln_harm_factor(c, s, a, b).is_finite());
        prop_assert!(ln_point_factor(c, a, b).is_finite());
        let ln = ln_safe_factor(c, s, a, margin);
        prop_assert!(ln.is_finite(), "{ln}");
    }

    #[test]
    fn an_arm_without_requests_says_nothing(n in any_counts(), theta in any_rate(), other in any_rate()) {
        let none = Counts::default();
        for (c, s) in [(none, n), (n, none), (none, none)] {
            prop_assert_eq!(ln_harm_factor(c, s, other, theta).to_bits(), 0);
            prop_assert_eq!(ln_safe_factor(c, s, theta, other).to_bits(), 0);
        }
        prop_assert_eq!(ln_point_factor(none, other, theta).to_bits(), 0);
    }
}

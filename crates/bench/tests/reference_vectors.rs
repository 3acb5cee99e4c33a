//! The vectors of methods that Molt does not decide by, each with a small form of the method: so that a number
//! which the design names can be reckoned again, and what was set aside can be compared.
//!
//! Sources: Lindon and Malek, "Anytime-valid inference for multinomial count data" (2022; R package `savvi`);
//! Howard, Ramdas, `McAuliffe` and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021),
//! and Howard and Ramdas, "Sequential estimation of quantiles" (2022; package `confseq`).

use libm::{erfc, lgamma};
use molt_core::analysis::{Counts, ln_harm_factor};
use proptest::prelude::*;
use std::f64::consts::SQRT_2;

fn close(got: f64, wanted: f64, digits: f64) {
    assert!((got - wanted).abs() < digits, "{got} is not {wanted}");
}

/// Logarithm of the multivariate beta function.
fn ln_beta(alpha: &[f64]) -> f64 {
    alpha.iter().map(|a| lgamma(*a)).sum::<f64>() - lgamma(alpha.iter().sum())
}

/// `ln E` of counts against the shares `theta`, by a Dirichlet mixture: `B(α + s) / B(α) / Π θˢ`.
fn ln_dirichlet(alpha: &[f64], theta: &[f64], counts: &[f64]) -> f64 {
    let after: Vec<f64> = alpha.iter().zip(counts).map(|(a, s)| a + s).collect();
    let under_null: f64 = counts.iter().zip(theta).map(|(s, t)| s * t.ln()).sum();
    ln_beta(&after) - ln_beta(alpha) - under_null
}

#[test]
fn dirichlet_error_shares() {
    let ln = |theta: &[f64], counts: &[f64]| {
        let alpha: Vec<f64> = theta.iter().map(|t| 100.0 * t).collect();
        ln_dirichlet(&alpha, theta, counts)
    };
    close(ln(&[0.1, 0.4, 0.5], &[40.0, 129.0, 233.0]), 3.027_100_944_8, 1e-9);
    close(ln(&[0.8, 0.2], &[148.0, 62.0]), 3.088_294_334_2, 1e-9);
}

/// The scale of a mixture that is tightest at the intrinsic time `v` and the level `alpha`, two-sided.
fn best_scale(v: f64, alpha: f64) -> f64 {
    let spend = -2.0 * alpha.ln();
    v / (spend + spend.ln_1p())
}

/// `ln E` of `bad` among `n` against the share `p`: the beta mixture that is tightest at `t_opt` requests.
fn ln_bernoulli(p: f64, bad: f64, n: f64, t_opt: f64) -> f64 {
    let unit = p * (1.0 - p);
    let r = (best_scale(t_opt * unit, 0.05) - unit).max(1e-3 * unit);
    ln_dirichlet(&[r / (1.0 - p), r / p], &[p, 1.0 - p], &[bad, n - bad])
}

/// The root of a growing function.
fn root(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if f(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[test]
fn bernoulli_confidence_sequence() {
    let ends = |bad: f64, n: f64, t_opt: f64| {
        let excess = |p: f64| ln_bernoulli(p, bad, n, t_opt) - 20f64.ln();
        let lowest = 1e-12;
        // Where no share can be ruled out from below, the sequence begins at 0.
        let low = if excess(lowest) > 0.0 {
            root(lowest, bad / n, |p| -excess(p))
        } else {
            0.0
        };
        (low, root(bad / n, 1.0 - 1e-12, excess))
    };
    let (low, high) = ends(700.0, 1000.0, 100.0);
    close(low, 0.651_629, 1e-6);
    close(high, 0.745_949, 1e-6);
    let (low, high) = ends(1.0, 50.0, 50.0);
    close(low, 0.0, 1e-6);
    close(high, 0.134_89, 5e-6);
}

#[test]
fn one_sided_normal_bound() {
    let rho = best_scale(100.0, 2.0 * 0.05);
    let v = 100.0;
    let bound = root(0.0, 1e3, |s| {
        let deviation = s / (v + rho).sqrt();
        let below = 0.5 * erfc(-deviation / SQRT_2);
        0.5 * (4.0 * rho / (v + rho)).ln() + s * s / (2.0 * (v + rho)) + below.ln() - 20f64.ln()
    });
    close(bound, 27.660_71, 5e-6);
}

/// The p-value that two samples, rising and without ties, have the same quantile: the least sum over all values that
/// it could have of what each sample says against it.
fn quantile_p(share: f64, a: &[f64], b: &[f64]) -> f64 {
    let ln = |below: f64, n: f64| ln_bernoulli(share, below * n, n, 100.0);
    let against = |sample: &[f64], x: f64| {
        let n = sample.len() as f64;
        // Where the evidence against a share is least: between the two values there, nothing speaks more.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..100 {
            let (first, second) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if ln(first, n) < ln(second, n) {
                high = second;
            } else {
                low = first;
            }
        }
        let least = f64::midpoint(low, high);
        let (from, to) = ((least * n).ceil() as usize - 1, (least * n).floor() as usize);
        let below = if x < sample[from] {
            sample.partition_point(|y| *y <= x) as f64 / n
        } else if x > sample[to] {
            sample.partition_point(|y| *y < x) as f64 / n
        } else {
            least
        };
        ln(below, n)
    };
    let least = a.iter().chain(b).map(|x| against(a, *x) + against(b, *x));
    (-least.fold(f64::INFINITY, f64::min)).exp().min(1.0)
}

#[test]
fn sequential_quantiles() {
    let values = |shift: i32| -> Vec<f64> { (1..=1000).map(|i| f64::from(i + shift)).collect() };
    close(quantile_p(0.5, &values(0), &values(100)), 0.005_494_7, 5e-8);
    close(quantile_p(0.9, &values(0), &values(55)), 0.034_046_3, 5e-8);
}

#[test]
fn drift_of_predictions() {
    let (reference, current) = ([0.1, 0.2, 0.4, 0.2, 0.1], [0.05, 0.15, 0.4, 0.25, 0.15]);
    let both = || reference.iter().zip(&current);
    let psi: f64 = both().map(|(r, c): (&f64, &f64)| (c - r) * (c / r).ln()).sum();
    close(psi, 0.080_471_895_6, 1e-10);
    let divergence: f64 = both()
        .map(|(r, c): (&f64, &f64)| {
            let middle = f64::midpoint(*r, *c);
            f64::midpoint(r * (r / middle).ln(), c * (c / middle).ln())
        })
        .sum();
    close(divergence.sqrt(), 0.099_739_732_7, 1e-10);
    close((divergence / 2f64.ln()).sqrt(), 0.119_799_628_0, 1e-10);
}

/// `ln E` of a histogram's buckets: the formula of the 2×2 process with more than two kinds of answers, the rates
/// of the null mixed bucket by bucket.
fn ln_histogram(arms: [&[f64]; 2], theta: [&[f64]; 2]) -> f64 {
    let n = arms.map(|counts| counts.iter().sum::<f64>());
    let mut ln = 0.0;
    for k in 0..theta[0].len() {
        let common = (n[0] * theta[0][k] + n[1] * theta[1][k]) / (n[0] + n[1]);
        for (counts, theta) in arms.iter().zip(theta) {
            ln += counts[k] * (theta[k] / common).ln();
        }
    }
    ln
}

#[test]
fn two_buckets_are_the_two_by_two_process() {
    let product = ln_harm_factor(
        Counts::new(30.0, 2.0).unwrap(),
        Counts::new(270.0, 3.0).unwrap(),
        0.05,
        0.01,
    );
    let histogram = ln_histogram([&[2.0, 28.0], &[3.0, 267.0]], [&[0.05, 0.95], &[0.01, 0.99]]);
    close(product, 1.576_045_418_0, 1e-10);
    close(histogram, product, 1e-12);
}

/// All ways to put `n` requests into three buckets, with their chances.
fn outcomes(n: u32, p: [f64; 3]) -> Vec<([f64; 3], f64)> {
    let mut all = Vec::new();
    for i in 0..=n {
        for j in 0..=n - i {
            let counts = [i, j, n - i - j].map(f64::from);
            let ways = lgamma(f64::from(n) + 1.0) - counts.iter().map(|k| lgamma(k + 1.0)).sum::<f64>();
            let chance: f64 = counts.iter().zip(p).map(|(k, p)| p.powf(*k)).product();
            all.push((counts, ways.exp() * chance));
        }
    }
    all
}

fn shares() -> impl Strategy<Value = [f64; 3]> {
    (0.01..1.0f64, 0.01..1.0f64, 0.01..1.0f64).prop_map(|(a, b, c)| [a, b, c].map(|x| x / (a + b + c)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// "Stays ≤ 1" with three buckets too, whatever both arms' common rates are.
    #[test]
    fn a_histogram_stays_fair(p in shares(), c in shares(), s in shares(), n_c in 1..5u32, n_p in 1..8u32) {
        let mut e = 0.0;
        for (canary, chance_c) in outcomes(n_c, p) {
            for (stable, chance_p) in outcomes(n_p, p) {
                e += chance_c * chance_p * ln_histogram([&canary, &stable], [&c, &s]).exp();
            }
        }
        prop_assert!(e <= 1.0 + 1e-9, "{e}");
    }
}

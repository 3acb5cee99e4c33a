//! One block of counts as a factor of evidence.
//!
//! The exact 2×2 e-process of Turner, Ly and Grünwald ("Generic E-variables for exact sequential k-sample
//! tests that allow for optional stopping", 2024; R package `safestats`): with a bet `(θ_c, θ_p)` that was
//! chosen before the block was seen, `E = Π_arm (θ/q)^bad · ((1−θ)/(1−q))^good` has an expectation of at
//! most 1 whatever the true rates under the null hypothesis, if `(q_c, q_p)` is the null's point nearest to
//! the bet (in Kullback–Leibler divergence, weighted by the arms' requests). By Ville's inequality the
//! running product ever exceeds `1/α` with a probability of at most `α`, however often one looks.

use super::Counts;

/// Rates are kept away from 0 and 1, where one event would make a factor infinite.
const EDGE: f64 = 1e-12;
/// Halvings of the bracket; more than an `f64` has bits.
const HALVINGS: usize = 80;

/// The rate to bet on from what was counted before: `(bad + 0.5) / (total + 50.5)`.
pub fn plug_in(past: Counts) -> f64 {
    (past.bad() + 0.5) / (past.total() + 50.5)
}

/// The logarithm of a block's evidence for harm, against the null hypothesis `p_c <= p_p`.
///
/// For `theta_c > theta_p` the nearest point of the null is the common rate of both arms under the bet.
/// A block in which an arm served nothing says nothing: 0.
pub fn ln_harm_factor(canary: Counts, stable: Counts, theta_c: f64, theta_p: f64) -> f64 {
    let (n_c, n_p) = (canary.total(), stable.total());
    if n_c <= 0.0 || n_p <= 0.0 {
        return 0.0;
    }
    let common = (n_c * theta_c + n_p * theta_p) / (n_c + n_p);
    ln_ratio(canary, theta_c, common) + ln_ratio(stable, theta_p, common)
}

/// The logarithm of a block's evidence for safety, against the null hypothesis `p_c >= p_p + margin`.
///
/// The bet is that both arms have the rate `theta`. A block in which an arm served nothing says nothing: 0.
pub fn ln_safe_factor(canary: Counts, stable: Counts, theta: f64, margin: f64) -> f64 {
    let (n_c, n_p) = (canary.total(), stable.total());
    if n_c <= 0.0 || n_p <= 0.0 {
        return 0.0;
    }
    let q = nearest(n_c, n_p, theta, margin);
    ln_ratio(canary, theta, q + margin) + ln_ratio(stable, theta, q)
}

/// The logarithm of a block's evidence that one arm's rate is above `known`, betting on `theta > known`.
pub fn ln_point_factor(canary: Counts, theta: f64, known: f64) -> f64 {
    if canary.total() <= 0.0 { 0.0 } else { ln_ratio(canary, theta, known) }
}

fn ln_ratio(counts: Counts, theta: f64, q: f64) -> f64 {
    let (theta, q) = (theta.clamp(EDGE, 1.0 - EDGE), q.clamp(EDGE, 1.0 - EDGE));
    let ln = counts.bad() * (theta / q).ln() + counts.good() * ((1.0 - theta) / (1.0 - q)).ln();
    if ln.is_finite() { ln } else { 0.0 }
}

/// Stable's rate at the point of `q_c = q_p + margin` nearest to `(theta, theta)`: the root of the
/// divergence's derivative, which grows all along the bracket.
fn nearest(n_c: f64, n_p: f64, theta: f64, margin: f64) -> f64 {
    let slope = |q: f64| {
        let q_c = q + margin;
        n_c * ((1.0 - theta) / (1.0 - q_c) - theta / q_c) + n_p * ((1.0 - theta) / (1.0 - q) - theta / q)
    };
    let mut low = (theta - margin).max(EDGE);
    let mut high = theta.min(1.0 - margin - EDGE).max(low);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if slope(middle) < 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(total: u32, bad: u32) -> Counts {
        Counts::new(f64::from(total), f64::from(bad)).unwrap()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 2e-9, "{a} is not {b}");
    }

    #[test]
    fn vectors_of_the_harm_factor() {
        let ln = |e_c, e_p| ln_harm_factor(counts(30, e_c), counts(270, e_p), 0.05, 0.01);
        close(ln(2, 3), 1.576_045_418_0);
        close(ln(0, 3), -1.044_274_673_7);
        close(ln(5, 2), 5.847_046_380_6);
    }

    #[test]
    fn vectors_of_the_safe_factor() {
        close(nearest(30.0, 270.0, 0.01, 0.01) + 0.01, 0.019_481_999_0);
        let ln = |e_c, e_p| ln_safe_factor(counts(30, e_c), counts(270, e_p), 0.01, 0.01);
        close(ln(0, 3), 0.308_621_197_5);
        close(ln(2, 3), -1.044_438_317_3);
    }

    /// Σ P(e_c) P(e_p) E(e_c, e_p) over every outcome.
    fn expectation(p_c: f64, p_p: f64, n: (u32, u32), ln: impl Fn(Counts, Counts) -> f64) -> f64 {
        let (binomial_c, binomial_p) = (binomial(n.0, p_c), binomial(n.1, p_p));
        let mut sum = 0.0;
        for e_c in 0..=n.0 {
            for e_p in 0..=n.1 {
                let p = binomial_c[e_c as usize] * binomial_p[e_p as usize];
                sum += p * ln(counts(n.0, e_c), counts(n.1, e_p)).exp();
            }
        }
        sum
    }

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

    proptest! {
        #[test]
        fn harm_is_no_more_than_fair_under_the_null(
            p in 0.001..0.5f64, better in 0.0..1.0f64, theta_p in 0.001..0.15f64, ratio in 1.1..6.0f64,
            n_c in 1..12u32, n_p in 1..20u32,
        ) {
            let e = expectation((p * better).max(1e-6), p, (n_c, n_p), |c, s| ln_harm_factor(c, s, (ratio * theta_p).min(0.95), theta_p));
            prop_assert!(e <= 1.0 + 1e-9, "{e}");
        }

        #[test]
        fn safety_is_no_more_than_fair_under_the_null(
            p in 0.001..0.4f64, margin in 0.0001..0.5f64, worse in 0.0..0.1f64, theta in 0.001..0.2f64,
            n_c in 1..12u32, n_p in 1..20u32,
        ) {
            let p_c = (p + margin + worse).min(0.999);
            let e = expectation(p_c, p, (n_c, n_p), |c, s| ln_safe_factor(c, s, theta, margin));
            prop_assert!(e <= 1.0 + 1e-9, "{e}");
        }

        #[test]
        fn an_arm_without_requests_says_nothing(bad in 0..5u32, theta in 0.001..0.2f64) {
            prop_assert_eq!(ln_harm_factor(counts(0, 0), counts(9, bad), 0.5, theta), 0.0);
            prop_assert_eq!(ln_safe_factor(counts(0, 0), counts(9, bad), theta, 0.01), 0.0);
            prop_assert_eq!(ln_harm_factor(counts(9, bad), counts(0, 0), 0.5, theta), 0.0);
        }
    }
}

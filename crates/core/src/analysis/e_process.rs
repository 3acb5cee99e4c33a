//! One block of counts as a factor of evidence.
//!
//! The exact 2×2 e-process of Turner, Ly and Grünwald ("Generic E-variables for exact sequential k-sample
//! tests that allow for optional stopping", 2024; R package `safestats`): with a bet `(θ_c, θ_p)` that was
//! chosen before the block was seen, `E = Π_arm (θ/q)^bad · ((1−θ)/(1−q))^good` has an expectation of at
//! most 1 whatever the true rates under the null hypothesis, if `(q_c, q_p)` is the null's point nearest to
//! the bet (in Kullback–Leibler divergence, weighted by the arms' requests) and the null is convex. By
//! Ville's inequality the running product ever exceeds `1/α` with a probability of at most `α`, however
//! often one looks. Requests are taken as independent within a block and an arm.
//!
//! All functions return natural logarithms and are total: any counts and any floats give a finite number.

use super::Counts;

/// Rates are kept this far from 0 and 1, where one event would make a factor infinite.
const EDGE: f64 = 1e-12;
/// The nearest point is found with a step that moves it by less than this share: as each step squares the
/// error, it is then known to the last digits.
const CLOSE: f64 = 1e-8;
/// Bounds the search for the nearest point, which takes about five steps where services live.
const MOST_STEPS: usize = 200;

/// The rate to bet on from what was counted before: `(bad + 0.5) / (total + 50.5)`, the mean of a Beta prior
/// which expects one bad request in a hundred and is worth fifty requests.
pub fn plug_in(past: Counts) -> f64 {
    (past.bad() + 0.5) / (past.total() + 50.5)
}

/// The logarithm of a block's evidence for harm, against the null hypothesis `p_c <= p_p`.
///
/// The nearest point of the null is the common rate of both arms under the bet. A block in which an arm
/// served nothing says nothing, and so does a bet that is no harm (`theta_c <= theta_p`): 0.
pub fn ln_harm_factor(canary: Counts, stable: Counts, theta_c: f64, theta_p: f64) -> f64 {
    let (n_c, n_p) = (canary.total(), stable.total());
    let (theta_c, theta_p) = (inside(theta_c), inside(theta_p));
    if n_c <= 0.0 || n_p <= 0.0 || theta_c <= theta_p {
        return 0.0;
    }
    let common = common_rate(n_c, n_p, theta_c, theta_p);
    ln_ratio(canary, theta_c, common) + ln_ratio(stable, theta_p, common)
}

/// The logarithm of a block's evidence for safety, against the null hypothesis `p_c >= p_p + margin`.
///
/// The bet is that both arms have the rate `theta`. A block in which an arm served nothing says nothing, and
/// nothing can be said for a margin that is not above 0 and below 1: 0.
pub fn ln_safe_factor(canary: Counts, stable: Counts, theta: f64, margin: f64) -> f64 {
    let theta = inside(theta);
    if canary.total() <= 0.0 || stable.total() <= 0.0 || !(margin > 0.0 && margin < 1.0) {
        return 0.0;
    }
    let (q_c, q_p) = nearest(canary.total(), stable.total(), theta, theta, margin);
    ln_ratio(canary, theta, q_c) + ln_ratio(stable, theta, q_p)
}

/// The logarithm of a block's evidence that one arm's rate is above `known`, betting on `theta`: a
/// likelihood ratio. A bet that is not above `known` says nothing: 0.
pub fn ln_point_factor(canary: Counts, theta: f64, known: f64) -> f64 {
    let (theta, known) = (inside(theta), inside(known));
    if theta > known {
        ln_ratio(canary, theta, known)
    } else {
        0.0
    }
}

/// Away from 0 and 1; what is no number is anything in between.
fn inside(rate: f64) -> f64 {
    if rate.is_nan() {
        0.5
    } else {
        rate.clamp(EDGE, 1.0 - EDGE)
    }
}

/// `θ₀`: the rate of both arms together under the bet.
fn common_rate(n_c: f64, n_p: f64, theta_c: f64, theta_p: f64) -> f64 {
    (n_c * theta_c + n_p * theta_p) / (n_c + n_p)
}

fn ln_ratio(counts: Counts, theta: f64, q: f64) -> f64 {
    let mut ln = 0.0;
    if counts.bad() > 0.0 {
        ln += counts.bad() * (theta / q).ln();
    }
    if counts.good() > 0.0 {
        // (1 − θ) / (1 − q), with all digits where both rates are small.
        ln += counts.good() * ((q - theta) / (1.0 - q)).ln_1p();
    }
    ln
}

/// The point of `q_c = q_p + margin` nearest to the bet, for `0 < margin < 1` and arms with requests.
///
/// `q_p` is the root of the divergence's derivative
/// `n_c·[(1−θ_c)/(1−q−δ) − θ_c/(q+δ)] + n_p·[(1−θ_p)/(1−q) − θ_p/q]`, which grows all the way from minus to
/// plus infinity on `(0, 1−δ)`, so that there is exactly one. Each arm's term alone has its root at its own
/// rate: the whole has it in between. Newton's method within a bracket, and halving where Newton would leave
/// it or dawdle.
fn nearest(n_c: f64, n_p: f64, theta_c: f64, theta_p: f64, margin: f64) -> (f64, f64) {
    let most = (1.0 - margin) * (1.0 - 1e-15);
    let mut high = theta_p.max(theta_c - margin).min(most);
    // Where θ_p/q outweighs all that could stand against it, the derivative is negative still.
    let against = n_c * (1.0 - theta_c) / (1.0 - high - margin).max(f64::MIN_POSITIVE)
        + n_p * (1.0 - theta_p) / (1.0 - high);
    let mut low = (theta_c - margin)
        .min(theta_p)
        .max(n_p * theta_p / against)
        .clamp(f64::MIN_POSITIVE, high);
    let mut q = start(n_c, n_p, theta_c, theta_p, margin).clamp(low, high);
    for _ in 0..MOST_STEPS {
        let (bad_c, good_c) = (q + margin, 1.0 - q - margin);
        let slope = n_c * ((1.0 - theta_c) / good_c - theta_c / bad_c)
            + n_p * ((1.0 - theta_p) / (1.0 - q) - theta_p / q);
        if slope < 0.0 {
            low = q;
        } else {
            high = q;
        }
        let bend = n_c * ((1.0 - theta_c) / (good_c * good_c) + theta_c / (bad_c * bad_c))
            + n_p * ((1.0 - theta_p) / ((1.0 - q) * (1.0 - q)) + theta_p / (q * q));
        let newton = q - slope / bend;
        let inside = newton > low && newton < high;
        let moved = if inside { newton } else { f64::midpoint(low, high) };
        let found = (moved - q).abs() <= CLOSE * q;
        q = moved;
        if found {
            break;
        }
    }
    ((q + margin).min(1.0 - f64::EPSILON), q)
}

/// Near the root that [`nearest`] looks for: that of the derivative times `q·(q + δ)` with its terms of good requests as they
/// are at the bet, a quadratic. Any number will do; one that is none is `low` there.
fn start(n_c: f64, n_p: f64, theta_c: f64, theta_p: f64, margin: f64) -> f64 {
    let near = theta_p.max(theta_c - margin).max(0.0);
    let good = n_c * (1.0 - theta_c) / (1.0 - near - margin).max(EDGE) + n_p * (1.0 - theta_p) / (1.0 - near);
    let half = (good * margin - n_c * theta_c - n_p * theta_p) / 2.0;
    let root = (half * half + good * n_p * theta_p * margin).sqrt();
    // Of the two forms of the root the one that does not subtract nearly equal numbers.
    let q = if half > 0.0 {
        n_p * theta_p * margin / (half + root)
    } else {
        (root - half) / good
    };
    if q.is_nan() { 0.0 } else { q }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "where these tests say equal they mean every bit")]
#[path = "e_process_tests.rs"]
mod tests;

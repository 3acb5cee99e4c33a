//! Requests by chance: how many arrive, how many of them are bad.

use rand::{Rng, RngExt};
use rand_distr::{Binomial, Distribution, Poisson};

/// Requests that arrive when `mean` are expected: Poisson's distribution.
pub fn arrivals(rng: &mut impl Rng, mean: f64) -> u64 {
    // 0 has no distribution, and beyond 2⁵³ a count is no count any more; the setup keeps far below it.
    match Poisson::new(mean) {
        Ok(poisson) => poisson.sample(rng) as u64,
        Err(_) => 0,
    }
}

/// How many of `requests` have a property that each has with `probability`.
pub fn among(rng: &mut impl Rng, requests: u64, probability: f64) -> u64 {
    if requests == 0 || probability <= 0.0 {
        return 0;
    }
    match Binomial::new(requests, probability.min(1.0)) {
        Ok(binomial) => binomial.sample(rng),
        Err(_) => 0,
    }
}

/// When the first of `requests` arrived, as a share of the time in which all of them did: the least of so
/// many uniform numbers.
pub fn first_of(rng: &mut impl Rng, requests: u64) -> f64 {
    1.0 - rng.random::<f64>().powf(1.0 / requests.max(1) as f64)
}

/// Share of answers that take longer than `threshold` when half of them take longer than `median` and their
/// times are log-normal with this `sigma`: `½·erfc(ln(threshold / median) / (σ√2))`.
pub fn share_slower(threshold: f64, median: f64, sigma: f64) -> f64 {
    0.5 * libm::erfc((threshold / median).ln() / (sigma * std::f64::consts::SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn the_share_of_slow_answers_is_the_log_normals() {
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got} {want}");
        close(share_slower(40.0, 40.0, 0.5), 0.5);
        // One and two standard deviations above the median.
        close(share_slower(40.0 * 0.5f64.exp(), 40.0, 0.5), 0.158_655_25);
        close(share_slower(40.0 * 1f64.exp(), 40.0, 0.5), 0.022_750_13);
    }

    #[test]
    fn arrivals_have_the_mean_that_is_asked_for() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for mean in [0.0, 0.3, 8.0, 500.0] {
            let draws = 4000;
            let sum: u64 = (0..draws).map(|_| arrivals(&mut rng, mean)).sum();
            let got = sum as f64 / f64::from(draws);
            let error = (mean / f64::from(draws)).sqrt();
            assert!((got - mean).abs() <= 5.0 * error, "{got} for {mean}");
        }
    }

    #[test]
    fn what_has_a_property_is_never_more_than_there_is() {
        let mut rng = Pcg64Mcg::seed_from_u64(2);
        assert_eq!(among(&mut rng, 0, 0.5), 0);
        assert_eq!(among(&mut rng, 10, 0.0), 0);
        assert_eq!(among(&mut rng, 10, 1.0), 10);
        assert!((0..500).all(|_| among(&mut rng, 7, 0.4) <= 7));
        assert!((0..500).all(|n| (0.0..=1.0).contains(&first_of(&mut rng, n))));
    }
}

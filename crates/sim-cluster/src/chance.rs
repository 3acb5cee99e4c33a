//! Chance from one seed: each use has a stream of its own, so that one more draw here moves nothing there.

use rand::{RngExt, SeedableRng};
use rand_distr::{Binomial, Distribution, Poisson};
use rand_pcg::Pcg64Mcg;

/// A stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(Pcg64Mcg);

impl Chance {
    /// The stream of a use, named by a number, under a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mixed = seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(Pcg64Mcg::seed_from_u64(mixed))
    }

    /// A number from `low` to below `high`; `low` if there is none.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        self.0.random_range(low..high)
    }

    /// True so often in a hundred times.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    /// A number from 0 to below 1.
    pub fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// Requests that arrive when `mean` are expected.
    pub fn arrivals(&mut self, mean: f64) -> u64 {
        match Poisson::new(mean) {
            Ok(poisson) => poisson.sample(&mut self.0) as u64,
            Err(_) => 0,
        }
    }

    /// How many of `requests` have a property that each has with `probability`.
    pub fn among(&mut self, requests: u64, probability: f64) -> u64 {
        match Binomial::new(requests, probability.clamp(0.0, 1.0)) {
            Ok(binomial) => binomial.sample(&mut self.0),
            Err(_) => 0,
        }
    }
}

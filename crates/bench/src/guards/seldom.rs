//! What hardly ever happens: workers that hang, and exceptions of many types, some of which nobody has seen before.

use molt_core::analysis::Counts;
use molt_core::guard::{Raised, RouteCounts, RuntimeBlock};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Geometric, Poisson};
use rand_pcg::Pcg64Mcg;

use super::pods::Conduct;

/// Types of exceptions.
const TYPES: usize = 40;
/// Workers a second that hang, in all pods of a healthy service.
const HUNG: f64 = 1.0 / 1800.0;
/// What happens together has one cause, a client that tries again: so many at once on average.
const TOGETHER: f64 = 4.0;

/// Routes, and what part of the requests each has.
const ROUTES: [(&str, f64); 5] = [
    ("/list", 0.6),
    ("/show", 0.2),
    ("/pay", 0.1),
    ("/edit", 0.07),
    ("/admin", 0.03),
];

/// What happens in both revisions.
pub struct Seldom {
    rng: Pcg64Mcg,
    /// Of each type: how many clients a second meet it, and whether stable has raised it.
    types: Vec<(f64, bool)>,
    /// Stable has raised the canary's own type.
    knows_new: bool,
}

impl Seldom {
    /// Stable has served for `age` seconds.
    pub fn new(mut rng: Pcg64Mcg, age: f64) -> Self {
        let types = (0..TYPES).map(|_| {
            // From once a second to once a day.
            let rate = 10f64.powf(rng.random_range(-5.0..0.0));
            (rate, rng.random_bool(1.0 - (-rate * age).exp()))
        });
        Self {
            types: types.collect(),
            knows_new: false,
            rng: Pcg64Mcg::seed_from_u64(rng.random()),
        }
    }

    /// What happens in a block in which the canary has a share of the traffic.
    pub fn happen(&mut self, block: &mut RuntimeBlock, share: f64, conduct: [Conduct; 2]) {
        let seconds = block.end.duration_since(block.start).as_secs_f64();
        let hung = self.among(HUNG * seconds, share);
        let shares = [share, 1.0 - share];
        for (arm, pods) in [&mut block.canary, &mut block.stable].into_iter().enumerate() {
            let more = self.count(conduct[arm].hung * shares[arm] * seconds);
            for pod in pods.iter_mut() {
                pod.timeouts = Some(0.0);
            }
            if let Some(pod) = pods.first_mut() {
                pod.timeouts = Some(hung[arm] + more);
            }
        }
        for index in 0..self.types.len() {
            let (rate, is_known) = self.types[index];
            let [canary, stable] = self.among(rate * seconds, share);
            self.types[index].1 |= stable > 0.0;
            block.exceptions.push(Raised {
                kind: format!("Error{index}"),
                canary,
                stable,
                is_known,
            });
        }
        let [canary, stable] = [0, 1].map(|arm| self.count(conduct[arm].raised * shares[arm] * seconds));
        block.exceptions.push(Raised {
            kind: "NewError".to_owned(),
            canary,
            stable,
            is_known: self.knows_new,
        });
        self.knows_new |= stable > 0.0;
    }

    /// The 4xx of each route, of so many requests of both; the canary may be stricter at `/pay`.
    pub fn refuse(
        &mut self,
        block: &mut RuntimeBlock,
        requests: [f64; 2],
        conduct: [Conduct; 2],
        clustered: fn(&mut Pcg64Mcg, f64, f64) -> Counts,
    ) {
        for (route, part) in ROUTES {
            let [canary, stable] = [0, 1].map(|arm| {
                let strict = if route == "/pay" { conduct[arm].strict } else { 0.0 };
                let share = super::REFUSED + conduct[arm].refused + strict;
                let total = self.count(requests[arm] * part);
                clustered(&mut self.rng, total, share)
            });
            block.routes.push(RouteCounts {
                route: route.to_owned(),
                canary,
                stable,
            });
        }
    }

    /// So many causes, each with what comes of it at the canary or at stable.
    fn among(&mut self, causes: f64, share: f64) -> [f64; 2] {
        let mut both = [0.0; 2];
        for _ in 0..self.count(causes) as u64 {
            let more = Geometric::new(1.0 / TOGETHER).map_or(0, |d| d.sample(&mut self.rng));
            both[usize::from(!self.rng.random_bool(share))] += 1.0 + more as f64;
        }
        both
    }

    fn count(&mut self, mean: f64) -> f64 {
        if mean > 0.0 {
            Poisson::new(mean).map_or(0.0, |d| d.sample(&mut self.rng))
        } else {
            0.0
        }
    }
}

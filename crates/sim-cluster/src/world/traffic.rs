//! Users, and what is counted of their requests.

use std::collections::BTreeMap;

use super::{World, people};
use crate::chance::Chance;

/// What the pods of one revision have counted by the end of each second.
#[derive(Clone, Debug, Default)]
struct Counters {
    /// Seconds before these have counted nothing.
    first: u64,
    /// Requests and bad ones by the end of each second.
    totals: Vec<(f64, f64)>,
}

impl Counters {
    fn at(&self, second: u64) -> (f64, f64) {
        if self.totals.is_empty() || second < self.first {
            return (0.0, 0.0);
        }
        let index = usize::try_from(second - self.first).unwrap_or(usize::MAX);
        self.totals[index.min(self.totals.len() - 1)]
    }
}

/// Users and counters.
pub(super) struct Traffic {
    chance: Chance,
    /// Seconds that were lived.
    second: u64,
    counters: BTreeMap<String, Counters>,
    /// Readings that the operator has asked for.
    pub(super) asked: u64,
}

/// What one reading of a revision within a span gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Requests and bad ones.
    Counts(f64, f64),
    /// Nothing can be said.
    Nothing,
}

impl Traffic {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            chance: Chance::new(seed, 3),
            second: 0,
            counters: BTreeMap::new(),
            asked: 0,
        }
    }
}

impl World {
    /// Lets users make their requests up to now.
    pub(super) fn catch_up_traffic(&mut self) {
        let second = self.now / 1000;
        if second <= self.traffic.second {
            return;
        }
        let seconds = second - self.traffic.second;
        let shares = self.shares();
        for (revision, share) in shares {
            if share <= 0.0 || !self.serves(&revision) {
                continue;
            }
            let quality = self.people.quality(&revision);
            let traffic = &mut self.traffic;
            let counters = traffic.counters.entry(revision).or_insert_with(|| Counters {
                first: traffic.second,
                totals: Vec::new(),
            });
            let mut last = counters.totals.last().copied().unwrap_or_default();
            // Seconds without traffic have added nothing.
            let end = counters.first + counters.totals.len() as u64;
            counters.totals.extend((end..traffic.second).map(|_| last));
            for _ in 0..seconds {
                let requests = traffic.chance.arrivals(people::REQUESTS * share / 100.0);
                let bad = traffic.chance.among(requests, quality.bad_share());
                last = (last.0 + requests as f64, last.1 + bad as f64);
                counters.totals.push(last);
            }
        }
        self.traffic.second = second;
    }

    /// Some endpoint of the revision's own service is ready.
    pub(super) fn serves(&self, revision: &str) -> bool {
        let service = format!("{}-{revision}", super::SERVICE);
        self.endpoints(&service).get(revision).is_some_and(|n| *n > 0)
    }

    /// What was counted of a revision between two moments, in seconds of the world.
    pub fn read(&mut self, revision: &str, from: f64, to: f64) -> Reading {
        self.catch_up_traffic();
        let second = |at: f64| at.max(0.0).floor() as u64;
        let known = self.traffic.counters.get(revision);
        let (a, b) = known.map_or_else(Default::default, |c| (c.at(second(from)), c.at(second(to))));
        let (total, bad) = (b.0 - a.0, b.1 - a.1);
        if total <= 0.0 && !self.serves(revision) {
            return Reading::Nothing;
        }
        Reading::Counts(total, bad)
    }

    /// The operator asks Prometheus.
    pub fn asked(&mut self) {
        self.traffic.asked += 1;
        let now = self.now;
        self.checks.measured(now);
    }
}

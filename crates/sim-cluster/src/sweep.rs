//! Many lives, on several threads.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::faults::Kind;
use crate::life::{Outcome, Planted, live};

/// What many lives came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Lives.
    pub lives: u64,
    /// Attempts that began.
    pub rollouts: u64,
    /// Milliseconds of the world.
    pub lived: u64,
    /// Faults that struck.
    pub counts: BTreeMap<Kind, u64>,
    /// Attempts at a later revision that ended, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Attempts at bad revisions that evidence decided, and how many of them were promoted.
    pub bad: (u64, u64),
    /// Lives in which an invariant was broken, by seed.
    pub failed: BTreeMap<u64, Outcome>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.lives += 1;
        self.rollouts += outcome.rollouts;
        self.lived += outcome.lived;
        for (kind, n) in &outcome.counts {
            *self.counts.entry(*kind).or_default() += n;
        }
        for (end, n) in &outcome.outcomes {
            *self.outcomes.entry(end.clone()).or_default() += n;
        }
        self.bad.0 += outcome.bad.0;
        self.bad.1 += outcome.bad.1;
        if !outcome.violations.is_empty() {
            self.failed.insert(outcome.seed, outcome);
        }
    }

    /// What came how often, each on a line: kinds of fault, then how attempts ended.
    pub fn table(&self) -> String {
        let mut kinds: Vec<(&Kind, &u64)> = self.counts.iter().collect();
        kinds.sort_by_key(|(kind, n)| (Reverse(**n), kind.name()));
        let mut lines: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n:>8} {kind}\n")).collect();
        let ends = self.outcomes.iter();
        lines.extend(ends.map(|(end, n)| format!("{n:>8} attempts ended: {end}\n")));
        let (judged, promoted) = self.bad;
        lines.push(format!(
            "{judged:>8} bad revisions were judged by evidence, {promoted} of them promoted\n"
        ));
        lines.concat()
    }

    /// One line: how much was lived, and how it went.
    pub fn line(&self) -> String {
        let faults: u64 = self.counts.values().sum();
        format!(
            "{} rollouts in {} lives, {:.0} simulated hours, {faults} faults of {} kinds, {} violations",
            self.rollouts,
            self.lives,
            self.lived as f64 / 3_600_000.0,
            self.counts.len(),
            self.failed.len(),
        )
    }
}

/// Lives the lives of these seeds on so many threads; the sum does not depend on how many.
pub fn sweep(seeds: std::ops::Range<u64>, rollouts: usize, threads: usize, planted: &Planted) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = live(seed, rollouts, planted);
                    // A poisoned sum is of a life that panicked, which ends the sweep anyway.
                    if let Ok(mut summary) = summary.lock() {
                        summary.add(outcome);
                    }
                }
            });
        }
    });
    summary.into_inner().unwrap_or_default()
}

//! Many runs on all cores, and what came out. The same seed gives the same figures with any number of cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use molt_core::analysis::Past;

use crate::cases::Case;
use crate::engine::Engine;
use crate::judge::{Judge, fate};
use crate::rivals::{argo, flagger, kayenta};
use crate::traces::{Trace, World};

/// Runs that one thread takes at a time.
const CHUNK: usize = 50;

/// A judge with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contender {
    /// Molt, with its defaults, and what it finds in stable's history.
    Molt(Past),
    /// The same in blocks of two scrapes, as with the default interval of scrapes.
    MoltInLongBlocks(Past),
    /// Argo Rollouts.
    Argo(argo::Settings),
    /// Flagger.
    Flagger(flagger::Settings),
    /// Kayenta.
    Kayenta(kayenta::Settings),
}

impl Contender {
    /// A judge at the start of one canary, under an objective that allows this share of bad requests.
    pub fn judge(self, objective: f64) -> Box<dyn Judge> {
        match self {
            Self::Molt(past) => Box::new(Engine::new(objective, &past)),
            Self::MoltInLongBlocks(past) => Box::new(Engine::new(objective, &past).in_blocks_of(2)),
            Self::Argo(settings) => Box::new(argo::Argo::new(settings)),
            Self::Flagger(settings) => Box::new(flagger::Flagger::new(settings)),
            Self::Kayenta(settings) => Box::new(kayenta::Kayenta::new(settings)),
        }
    }
}

/// What one contender did in one case.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Runs with each canary.
    pub runs: usize,
    /// Healthy canaries that were taken back.
    pub false_rollbacks: usize,
    /// Healthy canaries that would have had all traffic within the hour; rivals don't say.
    pub promoted: usize,
    /// Seconds until harmful ones were, ascending; those never found are left out.
    pub found: Vec<u32>,
}

impl Outcome {
    /// The share of healthy canaries taken back, 0 to 1, with its 95 % interval.
    pub fn false_share(&self) -> (f64, f64, f64) {
        let (low, high) = wilson(self.false_rollbacks, self.runs);
        (self.false_rollbacks as f64 / self.runs.max(1) as f64, low, high)
    }

    /// The share of harmful canaries found, 0 to 1.
    pub fn found_share(&self) -> f64 {
        self.found.len() as f64 / self.runs.max(1) as f64
    }

    /// The share of healthy canaries that would have had all traffic, 0 to 1.
    pub fn promoted_share(&self) -> f64 {
        self.promoted as f64 / self.runs.max(1) as f64
    }

    /// Seconds by which this `share` of harmful canaries was found; `None` if fewer ever were.
    pub fn found_by(&self, share: f64) -> Option<u32> {
        let rank = (share * self.runs as f64).ceil().max(1.0) as usize;
        self.found.get(rank - 1).copied()
    }
}

/// Wilson's 95 % score interval (1927) for a share of which `hits` of `runs` were seen.
pub fn wilson(hits: usize, runs: usize) -> (f64, f64) {
    if runs == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z) = (runs as f64, hits as f64 / runs as f64, 1.959_963_984_540_054);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let spread = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - spread).max(0.0), (centre + spread).min(1.0))
}

/// A share in percent, with the digits that matter.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 99.95 {
        "100".to_owned()
    } else if percent >= 10.0 {
        format!("{percent:.0}")
    } else if percent >= 1.0 {
        format!("{percent:.1}")
    } else {
        format!("{percent:.2}")
    }
}

/// A seed for each purpose and run, all from one (Steele, Lea and Flood's `SplitMix64`, 2014).
pub fn seed(seed: u64, purpose: u64, run: u64) -> u64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15_u64;
    let base = mix(seed.wrapping_add(golden)).wrapping_add(purpose.wrapping_mul(golden));
    mix(mix(base).wrapping_add(run.wrapping_mul(golden)))
}

/// `work(0..count)` in order, done by all cores.
///
/// # Panics
///
/// When `work` does.
pub fn parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(count))
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= count {
                            return mine;
                        }
                        mine.push((i, work(i)));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().expect("a worker panicked"))
            .collect()
    });
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, value)| value).collect()
}

/// Lives through `case` in `runs` runs; all contenders judge the same traces.
pub fn measure(case: &Case, contenders: &[Contender], runs: usize, root: u64, purpose: u64) -> Vec<Outcome> {
    let at = |world: &World, kind: u64, run: usize| {
        let trace = Trace::simulate(world, seed(root, purpose * 2 + kind, run as u64));
        contenders
            .iter()
            .map(|c| fate(c.judge(case.objective).as_mut(), &trace))
            .collect::<Vec<_>>()
    };
    let parts = parallel(runs.div_ceil(CHUNK), |chunk| {
        let mut outcomes = vec![Outcome::default(); contenders.len()];
        for run in chunk * CHUNK..runs.min((chunk + 1) * CHUNK) {
            let (healthy, harmful) = (at(&case.healthy(), 0, run), at(&case.harmful, 1, run));
            for ((outcome, false_alarm), found) in outcomes.iter_mut().zip(healthy).zip(harmful) {
                outcome.runs += 1;
                outcome.false_rollbacks += usize::from(false_alarm.rolled_back_at.is_some());
                outcome.promoted += usize::from(false_alarm.promoted);
                outcome.found.extend(found.rolled_back_at);
            }
        }
        outcomes
    });
    let mut all = vec![Outcome::default(); contenders.len()];
    for part in parts {
        for (sum, part) in all.iter_mut().zip(part) {
            sum.runs += part.runs;
            sum.false_rollbacks += part.false_rollbacks;
            sum.promoted += part.promoted;
            sum.found.extend(part.found);
        }
    }
    for outcome in &mut all {
        outcome.found.sort_unstable();
    }
    all
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;

//! The best settings of a rival for one case, found with the truth known: nobody has them in real life.
//!
//! Of all settings that take back at most one healthy canary in a hundred, the one that finds harmful
//! canaries soonest on average; one never found counts as an hour. The traces are not those of the table.

use crate::cases::Case;
use crate::judge::fate;
use crate::measure::{Contender, parallel, seed};
use crate::rivals::{argo, flagger, kayenta};
use crate::traces::{Trace, World};

/// Healthy and harmful runs that settings are tried on.
const RUNS: usize = 300;
/// Healthy canaries of [`RUNS`] that may be taken back: 1 %.
const MOST_FALSE: usize = RUNS / 100;
/// Tells the seeds of tuning from those of the table.
const PURPOSE: u64 = 1 << 32;

/// Bad ratios at which a threshold may lie.
const BAD: [f64; 16] = [
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.3, 0.5,
];
/// Seconds between looks.
const INTERVALS: [u32; 3] = [15, 60, 300];
/// Seconds that a look reaches back.
const WINDOWS: [u32; 4] = [15, 60, 300, 900];
/// Failures that are allowed.
const FAILURES: [u32; 5] = [0, 1, 3, 5, 9];

/// Argo Rollouts', Flagger's and Kayenta's best settings for a case.
///
/// # Panics
///
/// Never: every rival has settings to try.
pub fn tuned(case: &Case, root: u64, purpose: u64) -> [Contender; 3] {
    let traces = |world: &World, kind: u64| {
        parallel(RUNS, |run| {
            Trace::simulate(world, seed(root, PURPOSE + purpose * 2 + kind, run as u64))
        })
    };
    let (healthy, harmful) = (traces(&case.healthy(), 0), traces(&case.harmful, 1));
    [argo_settings(), flagger_settings(), kayenta_settings()].map(|candidates| {
        let costs = parallel(candidates.len(), |i| {
            cost(candidates[i], case.objective, &healthy, &harmful)
        });
        let best = costs.iter().zip(&candidates).min_by(|a, b| a.0.total_cmp(b.0));
        *best.expect("every rival has settings").1
    })
}

/// Mean seconds to find a harmful canary; above an hour, the more the more healthy ones are taken back
/// beyond what is allowed.
fn cost(contender: Contender, objective: f64, healthy: &[Trace], harmful: &[Trace]) -> f64 {
    let at = |trace: &Trace| fate(contender.judge(objective).as_mut(), trace).rolled_back_at;
    let false_alarms = healthy
        .iter()
        .filter(|trace| at(trace).is_some())
        .take(RUNS / 10)
        .count();
    if false_alarms > MOST_FALSE {
        return 1e6 * false_alarms as f64;
    }
    let seconds: f64 = harmful
        .iter()
        .map(|trace| at(trace).map_or(3600.0, f64::from))
        .sum();
    seconds / harmful.len() as f64
}

fn argo_settings() -> Vec<Contender> {
    thresholds()
        .map(|(least, interval, window, failures)| {
            Contender::Argo(argo::Settings {
                least,
                interval,
                window,
                failures,
                errors: 4,
            })
        })
        .collect()
}

fn flagger_settings() -> Vec<Contender> {
    thresholds()
        .map(|(least, interval, window, failures)| {
            Contender::Flagger(flagger::Settings {
                least,
                interval,
                window,
                threshold: failures + 1,
            })
        })
        .collect()
}

fn thresholds() -> impl Iterator<Item = (f64, u32, u32, u32)> {
    BAD.into_iter().flat_map(|bad| {
        INTERVALS.into_iter().flat_map(move |interval| {
            WINDOWS.into_iter().flat_map(move |window| {
                FAILURES
                    .into_iter()
                    .map(move |failures| (1.0 - bad, interval, window, failures))
            })
        })
    })
}

fn kayenta_settings() -> Vec<Contender> {
    let mut all = Vec::new();
    // 95, 98, 99.5 and 99.95 %.
    for z in [1.959_964, 2.326_348, 2.807_034, 3.480_756] {
        for allowed_increase in [1.0, 1.5] {
            for interval in [300, 600, 1800, 3600] {
                let documented = kayenta::Settings::DOCUMENTED;
                all.push(Contender::Kayenta(kayenta::Settings {
                    z,
                    allowed_increase,
                    interval,
                    ..documented
                }));
            }
        }
    }
    all
}

#[cfg(test)]
#[path = "tune_tests.rs"]
mod tests;

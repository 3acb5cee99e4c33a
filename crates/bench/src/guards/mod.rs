//! Guards of the runtime: how often all of them together take a healthy canary back, and how soon a harmful one.

mod pods;
mod seldom;

use std::fmt::Write as _;

use molt_core::analysis::{Block, Counts, GuardEvidence, Losses, PodCounts, SMALL_FALSE_ALARM};
use molt_core::guard::{GuardKind, PodRuntime, RuntimeBlock};
use rand::SeedableRng;
use rand_distr::{Beta, Binomial, Distribution, Poisson};
use rand_pcg::Pcg64Mcg;

use crate::measure::{parallel, seed, wilson};
use pods::{Conduct, POOL, Pod, at};
use seldom::Seldom;

/// Seconds of a block.
const BLOCK: f64 = 30.0;
/// Pods of stable.
const REPLICAS: usize = 4;
/// Seconds before the canary's first request at which its first pod began.
const HEAD_START: f64 = 20.0;
/// Bytes an hour.
const MAX_PER_HOUR: f64 = 64.0 * 1_048_576.0;
/// The share of requests that are answered with 4xx.
const REFUSED: f64 = 0.02;
/// How far requests of one revision in one block have the same fate: one client tries again and again.
const CORRELATION: f64 = 0.002;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What the canary does.
    conduct: Conduct,
    /// What stable does.
    beside: Conduct,
    /// Until when each weight lasts, in seconds, and the weight in percent; the last is the end.
    weights: &'static [(f64, f64)],
    /// Requests per second.
    rps: f64,
    /// It is healthy: to take it back is a false alarm.
    healthy: bool,
    /// The goal: the share that may be taken back, or seconds by which it is to be found at the median.
    goal: f64,
}

/// The default steps, two minutes each, and a bake.
const USUAL: &[(f64, f64)] = &[
    (120.0, 0.05),
    (240.0, 0.10),
    (360.0, 0.25),
    (480.0, 0.5),
    (780.0, 1.0),
];
/// An hour at a quarter.
const LONG: &[(f64, f64)] = &[(3600.0, 0.25)];
const FINE: Conduct = Conduct {
    leak: 0.0,
    late: 0.0,
    price: 0.0,
    refused: 0.0,
    strict: 0.0,
    unclosed: 0.0,
    gc: 0.0,
    held: 0.0,
    hung: 0.0,
    raised: 0.0,
};
/// Ten megabytes a minute.
const LEAK: Conduct = Conduct {
    leak: 1e7 / 60.0,
    ..FINE
};

/// All that is measured.
pub const CASES: [Case; 17] = [
    healthy("healthy, the default steps, 20 rps", FINE, USUAL, 20.0),
    healthy("healthy, the default steps, 200 rps", FINE, USUAL, 200.0),
    healthy("healthy, an hour at 25 %, 20 rps", FINE, LONG, 20.0),
    healthy("both leak 10 MB/min, the default steps", LEAK, USUAL, 20.0),
    harmful("leak of 10 MB/min, the default steps", LEAK, USUAL, 480.0),
    harmful(
        "leak of 6 MB/min, an hour at 25 %",
        Conduct { leak: 1e5, ..FINE },
        LONG,
        1200.0,
    ),
    harmful(
        "event loop blocked for a tenth of the time, the default steps",
        Conduct { late: 0.1, ..FINE },
        USUAL,
        120.0,
    ),
    harmful(
        "a file in two seconds never closed, the default steps",
        Conduct {
            unclosed: 0.5,
            ..FINE
        },
        USUAL,
        480.0,
    ),
    harmful(
        "4xx from 2 % to 8 %, the default steps",
        Conduct {
            refused: 0.06,
            ..FINE
        },
        USUAL,
        480.0,
    ),
    harmful(
        "4xx from 2 % to 30 %, the default steps",
        Conduct {
            refused: 0.28,
            ..FINE
        },
        USUAL,
        180.0,
    ),
    Case {
        rps: 200.0,
        ..harmful(
            "twice the processor time, an hour at 25 %, 200 rps",
            Conduct { price: 2.0, ..FINE },
            LONG,
            600.0,
        )
    },
    Case {
        rps: 200.0,
        ..harmful(
            "three times the processor time, the default steps, 200 rps",
            Conduct { price: 3.0, ..FINE },
            USUAL,
            480.0,
        )
    },
    harmful(
        "4xx from 2 % to 50 % on a route with a tenth of the requests, an hour at 25 %",
        Conduct { strict: 0.48, ..FINE },
        LONG,
        900.0,
    ),
    harmful(
        "the collector takes a tenth of the time, the default steps",
        Conduct { gc: 0.1, ..FINE },
        USUAL,
        240.0,
    ),
    harmful(
        "requests hold their threads 20 times as long, an hour at 25 %",
        Conduct { held: 20.0, ..FINE },
        LONG,
        600.0,
    ),
    harmful(
        "a worker hangs four times a minute, an hour at 25 %",
        Conduct {
            hung: 4.0 / 15.0,
            ..FINE
        },
        LONG,
        600.0,
    ),
    harmful(
        "an exception of a new type in one request of 200, an hour at 25 %",
        Conduct { raised: 0.1, ..FINE },
        LONG,
        1200.0,
    ),
];

const fn healthy(name: &'static str, beside: Conduct, weights: &'static [(f64, f64)], rps: f64) -> Case {
    Case {
        name,
        conduct: beside,
        beside,
        weights,
        rps,
        healthy: true,
        goal: 0.01,
    }
}

const fn harmful(name: &'static str, conduct: Conduct, weights: &'static [(f64, f64)], goal: f64) -> Case {
    Case {
        name,
        conduct,
        beside: FINE,
        weights,
        rps: 20.0,
        healthy: false,
        goal,
    }
}

/// Which guard takes the canary of one rollout back, and when, in seconds since its first request.
fn rollout(case: &Case, run: u64) -> Option<(GuardKind, f64)> {
    let mut seeds = 0u64..;
    let mut rng = || Pcg64Mcg::seed_from_u64(seed(run, 7, seeds.next().unwrap_or(0)));
    let mut dice = rng();
    // What all pods do at this hour of the day.
    let day = (
        rand_range(&mut dice, -15.0, 15.0) * 1e6 / 3600.0,
        rand_range(&mut dice, 0.8, 1.25),
    );
    let age = rand_range(&mut dice, 600.0, 6.0 * 3600.0);
    let mut stable: Vec<Pod> = (0..REPLICAS).map(|_| Pod::new(rng(), -age)).collect();
    let mut canary = vec![Pod::new(rng(), -HEAD_START)];
    let mut guards: [GuardEvidence; 10] = Default::default();
    // With all pods at work their threads are busy for a fifth to four fifths of the time.
    let holds = rand_range(&mut dice, 0.2, 0.8) * POOL * REPLICAS as f64 / case.rps;
    // The same code collects about as much everywhere: from a thousandth of the time to a twentieth.
    let collects = 10f64.powf(rand_range(&mut dice, -3.0, -1.3));
    let mut seldom = Seldom::new(rng(), age);
    let end = case.weights.last().map_or(0.0, |(until, _)| *until);
    let mut now = 0.0;
    let mut weight_before = 0.0;
    while now < end {
        let weight = case
            .weights
            .iter()
            .find(|(until, _)| now < *until)
            .map_or(1.0, |(_, w)| *w);
        let wanted = ((REPLICAS as f64) * weight).ceil() as usize;
        // Pods are ready before the weight rises.
        canary.extend((canary.len()..wanted).map(|_| Pod::new(rng(), now - HEAD_START)));
        let span = (now, now + BLOCK);
        let served = [weight, 1.0 - weight].map(|share| poisson(&mut dice, case.rps * share * BLOCK));
        let each = |pods: &mut Vec<Pod>, requests: f64, conduct: Conduct| -> Vec<PodRuntime> {
            let requests = requests / pods.len() as f64;
            pods.iter_mut()
                .map(|pod| pod.block(span, requests, conduct, day, (holds, collects)))
                .collect()
        };
        let mut block = RuntimeBlock {
            canary: each(&mut canary, served[0], case.conduct),
            stable: each(&mut stable, served[1], case.beside),
            ..RuntimeBlock::silent(at(span.0), at(span.1))
        };
        seldom.happen(&mut block, weight, [case.conduct, case.beside]);
        seldom.refuse(&mut block, served, [case.conduct, case.beside], clustered);
        let settled = (weight - weight_before).abs() < 1e-9;
        weight_before = weight;
        let _ = guards[0].absorb_memory(&block, MAX_PER_HOUR);
        if weight < 1.0 {
            let _ = guards[1].absorb_lag(&block);
        }
        if weight < 1.0 && settled {
            let _ = guards[2].absorb_cpu(&block, served[0], served[1], 1.5);
            let _ = guards[5].absorb_files(&block, served[0], served[1], 2.0);
            let _ = guards[6].absorb_gc(&block, served[0], served[1], 0.05);
            let _ = guards[7].absorb_pool(&block, served[0], served[1], 0.9);
            let _ = guards[8].absorb_timeouts(&block, served[0], served[1]);
            let _ = guards[9].absorb_exceptions(&block, served[0], served[1]);
            let refused = [case.conduct, case.beside].map(|c| REFUSED + c.refused);
            let counts = [0, 1].map(|arm| clustered(&mut dice, served[arm], refused[arm]));
            guards[3].absorb_routes(&block, 2.0);
            let _ = guards[3].absorb_client_errors(&answered(&block, weight, counts));
        }
        let lost = |pods: &[Pod]| pods.iter().flat_map(|pod| pod.flaps.clone()).collect::<Vec<_>>();
        guards[4].absorb_flaps(
            Losses {
                at: &lost(&canary),
                pods: canary.len() as u32,
            },
            Losses {
                at: &lost(&stable),
                pods: REPLICAS as u32,
            },
            at(0.0),
        );
        now += BLOCK;
        let shown = [
            (GuardKind::MemoryGrowth, guards[0].is_shown()),
            (GuardKind::EventLoopLag, guards[1].is_shown()),
            (GuardKind::CpuPerRequest, guards[2].is_shown()),
            (GuardKind::OpenFiles, guards[5].is_shown()),
            (
                GuardKind::ClientErrors,
                guards[3].client_errors_shifted(2.0) || guards[3].stricter_route().is_some(),
            ),
            (GuardKind::Restarts, guards[4].is_shown()),
            (GuardKind::GcPauses, guards[6].is_shown_by(SMALL_FALSE_ALARM)),
            (GuardKind::Saturation, guards[7].is_shown_by(SMALL_FALSE_ALARM)),
            (
                GuardKind::WorkerTimeouts,
                guards[8].is_shown_by(SMALL_FALSE_ALARM),
            ),
            (GuardKind::Exceptions, guards[9].new_exception().is_some()),
        ];
        if let Some((kind, _)) = shown.into_iter().find(|(_, shown)| *shown) {
            return Some((kind, now));
        }
    }
    None
}

fn rand_range(rng: &mut Pcg64Mcg, from: f64, to: f64) -> f64 {
    use rand::RngExt;
    rng.random_range(from..to)
}

fn poisson(rng: &mut Pcg64Mcg, mean: f64) -> f64 {
    Poisson::new(mean).map_or(0.0, |d| d.sample(rng))
}

/// Requests of which a share has 4xx that varies from block to block.
fn clustered(rng: &mut Pcg64Mcg, requests: f64, share: f64) -> Counts {
    let strength = 1.0 / CORRELATION - 1.0;
    let drawn = Beta::new(share * strength, (1.0 - share) * strength).map_or(share, |d| d.sample(rng));
    let refused = Binomial::new(requests as u64, drawn).map_or(0, |d| d.sample(rng));
    Counts::new(requests, refused as f64).unwrap_or_default()
}

fn answered(block: &RuntimeBlock, weight: f64, [canary, stable]: [Counts; 2]) -> Block {
    Block {
        start: block.start,
        end: block.end,
        canary_weight: (weight * 100.0) as u8,
        weight_in_force: true,
        weight_settled: true,
        canary,
        canary_late: Counts::default(),
        stable,
        canary_pods: PodCounts::default(),
        stable_pods: PodCounts::default(),
        at_route: None,
        reference: None,
    }
}

/// What came of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The case.
    pub case: Case,
    /// Rollouts.
    pub runs: usize,
    /// Those that were taken back: by which guard, and when, the soonest first.
    pub found: Vec<(f64, GuardKind)>,
}

impl Measured {
    fn share(&self) -> f64 {
        self.found.len() as f64 / self.runs.max(1) as f64
    }

    fn by(&self, part: f64) -> Option<f64> {
        let rank = (part * self.runs as f64).ceil().max(1.0) as usize;
        self.found.get(rank - 1).map(|(seconds, _)| *seconds)
    }

    /// It is as it should be.
    pub fn is_met(&self) -> bool {
        if self.case.healthy {
            self.share() < self.case.goal
        } else {
            self.by(0.5).is_some_and(|seconds| seconds <= self.case.goal)
        }
    }
}

/// Lives through every case in `runs` rollouts.
pub fn measure(runs: usize, root: u64) -> Vec<Measured> {
    let of = |(purpose, case): (u64, Case)| {
        let mut found: Vec<(f64, GuardKind)> =
            parallel(runs, |run| rollout(&case, seed(root, 1000 + purpose, run as u64)))
                .into_iter()
                .flatten()
                .map(|(kind, seconds)| (seconds, kind))
                .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Measured { case, runs, found }
    };
    (0..).zip(CASES).map(of).collect()
}

/// The table.
pub fn table(all: &[Measured]) -> String {
    let mut text = "| canary | taken back, % (95 % interval) | seconds, median / 95 % | goal | |\n|---|---|---|---|---|\n".to_owned();
    for measured in all {
        let (low, high) = wilson(measured.found.len(), measured.runs);
        let time = |part| measured.by(part).map_or("–".to_owned(), |s| format!("{s:.0}"));
        let times = if measured.case.healthy {
            by_guard(measured)
        } else {
            format!("{} / {}", time(0.5), time(0.95))
        };
        let goal = if measured.case.healthy {
            format!("below {:.0} %", measured.case.goal * 100.0)
        } else {
            format!("{:.0} s", measured.case.goal)
        };
        let verdict = if measured.is_met() { "met" } else { "**missed**" };
        let _ = writeln!(
            text,
            "| {} | {:.2} ({:.2}–{:.2}) | {times} | {goal} | {verdict} |",
            measured.case.name,
            measured.share() * 100.0,
            low * 100.0,
            high * 100.0
        );
    }
    text
}

/// Which guards took healthy canaries back, and how many.
fn by_guard(measured: &Measured) -> String {
    let kinds = [
        GuardKind::Restarts,
        GuardKind::ClientErrors,
        GuardKind::MemoryGrowth,
        GuardKind::EventLoopLag,
        GuardKind::CpuPerRequest,
        GuardKind::OpenFiles,
        GuardKind::GcPauses,
        GuardKind::Saturation,
        GuardKind::WorkerTimeouts,
        GuardKind::Exceptions,
    ];
    let count = |kind| measured.found.iter().filter(|(_, k)| *k == kind).count();
    let told: Vec<String> = kinds
        .iter()
        .filter(|kind| count(**kind) > 0)
        .map(|kind| format!("{kind} {}", count(*kind)))
        .collect();
    if told.is_empty() {
        "–".to_owned()
    } else {
        told.join(", ")
    }
}

const BEGIN: &str = "<!-- measured by `make bench-decisions`; don't edit -->\n";
const END: &str = "<!-- end of what is measured -->";

/// The document with a new table in the place of the old one; `None` if it has no such place.
pub fn document(text: &str, all: &[Measured], root: u64) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let runs = all.first().map_or(0, |m| m.runs);
    let table = table(all);
    Some(format!(
        "{before}{BEGIN}{runs} rollouts of each kind, `SEED={root}`:\n\n{table}{END}{after}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        assert_eq!(measure(3, 1), measure(3, 1));
    }

    #[test]
    fn guards_keep_quiet_and_find_what_they_are_for() {
        for measured in measure(60, 1) {
            let most = if measured.case.healthy { 0.05 } else { 1.0 };
            assert!(measured.share() <= most, "{}", table(&[measured]));
            let found = measured.case.healthy || measured.share() > 0.4;
            assert!(found, "{}", table(&[measured]));
        }
    }

    #[test]
    fn only_the_table_of_the_document_is_written_anew() {
        let all = measure(2, 1);
        let text = format!("# Guards\n\n{BEGIN}old\n{END}\n\nmore\n");
        let written = document(&text, &all, 1).unwrap();
        assert!(written.starts_with("# Guards\n") && written.ends_with("more\n"));
        assert!(written.contains("2 rollouts of each kind") && !written.contains("old\n"));
        assert_eq!(document(&written, &all, 1).as_ref(), Some(&written));
        assert_eq!(document("nothing", &all, 1), None);
    }
}

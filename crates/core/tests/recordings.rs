//! Recorded runs of healthy services: two real servers of the same code beside each other, under load. No guard raises an
//! alarm; what is added to them raises one in each. `e2e/recordings/record.py` made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use molt_core::analysis::{
    Block, Counts, GuardEvidence, MEMORY_WINDOW, PodCounts, Sample, Series, fresh, increase,
};
use molt_core::guard::{GuardKind, PodRuntime, RuntimeBlock};

/// Seconds of a block, and the end of a run.
const BLOCK: f64 = 30.0;
const END: f64 = 480.0;
/// Bytes an hour.
const MAX_PER_HOUR: f64 = 64.0 * 1_048_576.0;

/// What one scrape of one revision's pod told.
#[derive(Clone, Debug)]
struct Scrape {
    seconds: f64,
    canary: bool,
    weight: u8,
    started: f64,
    memory: f64,
    cpu: f64,
    files: f64,
    lag: f64,
    within: f64,
    requests: f64,
    client_errors: f64,
}

/// What is added to the canary of a recording.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    /// Bytes a second.
    leak: f64,
    /// The share of the samples of lag that are late.
    late: f64,
    /// Files a second that are never closed.
    unclosed: f64,
}

fn recordings() -> Vec<(String, Vec<Scrape>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/recordings/runs");
    let mut all: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, text.lines().skip(1).map(scrape).collect())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn scrape(line: &str) -> Scrape {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |index: usize| {
        fields[index]
            .parse::<f64>()
            .unwrap_or_else(|e| panic!("{line}: {e}"))
    };
    Scrape {
        seconds: number(0),
        canary: fields[1] == "canary",
        weight: fields[2].parse().unwrap(),
        started: number(3),
        memory: number(4),
        cpu: number(5),
        files: number(6),
        lag: number(8),
        within: number(9),
        requests: number(10),
        client_errors: number(11),
    }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + (seconds * 1000.0) as i64).unwrap()
}

/// By how much a counter of a revision grew in a block, if it was read.
fn grown(scrapes: &[&Scrape], value: impl Fn(&Scrape) -> f64, start: f64, end: f64) -> Option<f64> {
    let first = scrapes.first()?;
    let samples = scrapes.iter().map(|s| Sample {
        at: at(s.seconds),
        value: value(s),
    });
    let series = [Series {
        pod: "pod".to_owned(),
        key: String::new(),
        samples: samples.collect(),
    }];
    let births = BTreeMap::from([("pod".to_owned(), at(first.started))]);
    let (start, end) = (at(start), at(end));
    fresh(&series, start, end).then(|| increase(&series, &births, at(-60.0), start, end))
}

fn runtime(scrapes: &[&Scrape], start: f64, end: f64, added: Added) -> Vec<PodRuntime> {
    let Some(first) = scrapes.first() else {
        return Vec::new();
    };
    let in_window = |s: &&&Scrape| s.seconds <= end && s.seconds >= end - MEMORY_WINDOW.as_secs_f64();
    let samples = |value: &dyn Fn(&Scrape) -> f64| -> Vec<Sample> {
        let read = scrapes.iter().filter(in_window).map(|s| Sample {
            at: at(s.seconds),
            value: value(s),
        });
        read.collect()
    };
    let lag = grown(scrapes, |s| s.lag, start, end).filter(|total| *total > 0.0);
    let late = grown(scrapes, |s| s.lag - s.within, start, end);
    vec![PodRuntime {
        pod: "pod".to_owned(),
        since: at(first.started),
        memory: samples(&|s| s.memory + added.leak * (s.seconds - s.started)),
        files: samples(&|s| s.files + (added.unclosed * (s.seconds - s.started)).floor()),
        cpu: grown(scrapes, |s| s.cpu, start, end),
        lag: lag.and_then(|total| Counts::new(total, (late? + added.late * total).round().min(total))),
        ..PodRuntime::default()
    }]
}

/// What guards have seen in a run.
#[derive(Debug, Default)]
struct Seen {
    /// The first that raised an alarm, and when.
    alarm: Option<(GuardKind, f64)>,
    /// How often each had something to compare.
    compared: BTreeMap<GuardKind, u32>,
}

fn replay(scrapes: &[Scrape], added: Added) -> Seen {
    let of = |canary: bool| -> Vec<&Scrape> { scrapes.iter().filter(|s| s.canary == canary).collect() };
    let (canary, stable) = (of(true), of(false));
    let [mut memory, mut lag, mut cpu, mut refused, mut files]: [GuardEvidence; 5] = Default::default();
    let mut seen = Seen::default();
    let weight_at = |second: f64| {
        let before = scrapes.iter().rev().find(|s| s.seconds <= second);
        before.map_or(0, |s| s.weight)
    };
    let mut start = 30.0;
    while start + BLOCK <= END {
        let end = start + BLOCK;
        let block = RuntimeBlock {
            canary: runtime(&canary, start, end, added),
            stable: runtime(&stable, start, end, Added::default()),
            ..RuntimeBlock::silent(at(start), at(end))
        };
        let served = |of: &[&Scrape]| grown(of, |s| s.requests, start, end);
        let counts = |of: &[&Scrape]| {
            let bad = grown(of, |s| s.client_errors, start, end)?;
            Counts::new(served(of)?, bad)
        };
        let mut told = vec![
            (
                GuardKind::MemoryGrowth,
                memory.absorb_memory(&block, MAX_PER_HOUR).is_ok(),
            ),
            (GuardKind::EventLoopLag, lag.absorb_lag(&block).is_ok()),
        ];
        let settled = weight_at(start - 15.0) == weight_at(end);
        if let (true, Some(of_canary), Some(of_stable)) = (settled, counts(&canary), counts(&stable)) {
            let (requests, beside) = (of_canary.total(), of_stable.total());
            let compared = cpu.absorb_cpu(&block, requests, beside, 1.5);
            told.push((GuardKind::CpuPerRequest, compared.is_ok()));
            let compared = files.absorb_files(&block, requests, beside, 2.0);
            told.push((GuardKind::OpenFiles, compared.is_ok()));
            let block = Block {
                start: block.start,
                end: block.end,
                canary_weight: weight_at(start),
                weight_in_force: true,
                weight_settled: true,
                canary: of_canary,
                canary_late: Counts::default(),
                stable: of_stable,
                canary_pods: PodCounts::default(),
                stable_pods: PodCounts::default(),
                at_route: None,
                reference: None,
            };
            told.push((
                GuardKind::ClientErrors,
                refused.absorb_client_errors(&block).is_ok(),
            ));
        }
        for (kind, _) in told.into_iter().filter(|(_, compared)| *compared) {
            *seen.compared.entry(kind).or_default() += 1;
        }
        let shown = [
            (GuardKind::MemoryGrowth, memory.is_shown()),
            (GuardKind::EventLoopLag, lag.is_shown()),
            (GuardKind::CpuPerRequest, cpu.is_shown()),
            (GuardKind::OpenFiles, files.is_shown()),
            (GuardKind::ClientErrors, refused.client_errors_shifted(2.0)),
        ];
        let first = shown.into_iter().find(|(_, shown)| *shown);
        seen.alarm = seen.alarm.or(first.map(|(kind, _)| (kind, end)));
        start = end;
    }
    seen
}

#[test]
fn twenty_recorded_healthy_runs_raise_no_alarm() {
    let all = recordings();
    assert_eq!(all.len(), 20);
    let mut compared: BTreeMap<GuardKind, u32> = BTreeMap::new();
    for (name, scrapes) in &all {
        let seen = replay(scrapes, Added::default());
        assert_eq!(seen.alarm, None, "{name}: {seen:?}");
        assert!(
            seen.compared.contains_key(&GuardKind::MemoryGrowth),
            "{name}: {seen:?}"
        );
        seen.compared
            .into_iter()
            .for_each(|(kind, times)| *compared.entry(kind).or_default() += times);
    }
    // They had something to look at.
    for kind in [
        GuardKind::MemoryGrowth,
        GuardKind::EventLoopLag,
        GuardKind::CpuPerRequest,
        GuardKind::ClientErrors,
        GuardKind::OpenFiles,
    ] {
        assert!(
            compared.get(&kind).is_some_and(|times| *times >= 60),
            "{compared:?}"
        );
    }
}

#[test]
fn what_is_added_to_a_recorded_canary_raises_the_alarm_for_it() {
    let leak = Added {
        leak: 1e7 / 60.0,
        ..Added::default()
    };
    let late = Added {
        late: 0.1,
        ..Added::default()
    };
    for (name, scrapes) in recordings() {
        let seen = replay(&scrapes, leak);
        assert!(
            matches!(seen.alarm, Some((GuardKind::MemoryGrowth, seconds)) if seconds <= 480.0),
            "{name}: {seen:?}"
        );
        let unclosed = Added {
            unclosed: 0.5,
            ..Added::default()
        };
        let seen = replay(&scrapes, unclosed);
        assert!(
            matches!(seen.alarm, Some((GuardKind::OpenFiles, _))),
            "{name}: {seen:?}"
        );
        let seen = replay(&scrapes, late);
        let has_loop = seen.compared.contains_key(&GuardKind::EventLoopLag);
        let alarm = matches!(seen.alarm, Some((GuardKind::EventLoopLag, seconds)) if seconds <= 150.0);
        assert_eq!(alarm, has_loop, "{name}: {seen:?}");
    }
}

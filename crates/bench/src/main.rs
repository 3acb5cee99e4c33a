//! `make bench-decisions`: writes `docs/decisions.md` and `docs/img/decisions.svg`.

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use molt_bench::cases::{CASES, Case};
use molt_bench::engine::{Verdicts, history};
use molt_bench::measure::{self, Contender, Outcome, measure};
use molt_bench::report::{self, Row};
use molt_bench::rivals::{argo, flagger, kayenta};
use molt_bench::{chart, guards, rollouts, tune, watch};
use molt_core::analysis::Past;

/// The first cases are those that blocks of two scrapes are measured in as well.
const HEADLINES: usize = 3;

/// What Molt knows of stable before the canary comes.
fn known(case: &Case, seed: u64, purpose: u64) -> Past {
    if case.has_history {
        history(&case.healthy(), measure::seed(seed, purpose, u64::MAX))
    } else {
        Past::default()
    }
}

/// Prints what Molt alone does in the cases whose name has this part, in short blocks and in long ones.
fn only(part: &str, runs: usize, seed: u64) {
    for (purpose, case) in (0..).zip(CASES) {
        if !case.name.contains(part) {
            continue;
        }
        let known = known(&case, seed, purpose);
        let contenders = [Contender::Molt(known), Contender::MoltInLongBlocks(known)];
        let began = Instant::now();
        for outcome in measure(&case, &contenders, runs, seed, purpose) {
            println!("{}", report::line(&case, &outcome));
        }
        eprintln!("{:.1} s for both", began.elapsed().as_secs_f64());
    }
}

/// How often whole rollouts are lived through: a fifth of the runs.
fn few(runs: usize) -> Result<u32, Box<dyn Error>> {
    Ok(u32::try_from((runs / 5).max(1))?)
}

/// Measures the guards of the runtime, and writes their table into `docs/guards.md`.
fn guards_of(runs: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let (path, measured) = ("docs/guards.md", guards::measure(runs, seed));
    println!("{}", guards::table(&measured));
    let text = fs::read_to_string(path)?;
    let text = guards::document(&text, &measured, seed).ok_or("docs/guards.md has no place for the table")?;
    Ok(fs::write(path, text)?)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let runs: usize = arguments.next().as_deref().unwrap_or("10000").parse()?;
    let seed: u64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    if let Some(part) = arguments.next() {
        match part.as_str() {
            "guards" => guards_of(runs, seed)?,
            "rollouts" => {
                let few = few(runs)?;
                println!("{}", rollouts::table(&rollouts::measure(few, seed)?));
                println!("{}", rollouts::table(&rollouts::measure_silence(few, seed)?));
                println!("{}", rollouts::table(&rollouts::measure_late(few, seed)?));
            }
            "watch" => println!("{}", watch::table(runs, seed)),
            part => only(part, runs, seed),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let mut each = Vec::new();
    let known: Vec<Past> = (0..)
        .zip(&CASES)
        .map(|(purpose, case)| known(case, seed, purpose))
        .collect();
    let molt: Vec<Outcome> = (0..)
        .zip(CASES.iter().zip(&known))
        .flat_map(|(purpose, (case, known))| {
            let began = Instant::now();
            let outcomes = measure(case, &[Contender::Molt(*known)], runs, seed, purpose);
            each.push(began.elapsed().as_secs_f64());
            outcomes
        })
        .collect();
    let how_fast = speed(began.elapsed(), each, runs);
    eprintln!("{how_fast}");
    let mut rows = Vec::new();
    let mut long = Vec::new();
    for ((purpose, case), (known, molt)) in (0..).zip(CASES).zip(known.into_iter().zip(molt)) {
        let [best_argo, best_flagger, best_kayenta] = tune::tuned(&case, seed, purpose);
        let contenders = [
            Contender::Molt(known),
            Contender::Argo(argo::Settings::DOCUMENTED),
            best_argo,
            Contender::Flagger(flagger::Settings::DOCUMENTED),
            best_flagger,
            Contender::Kayenta(kayenta::Settings::DOCUMENTED),
            best_kayenta,
        ];
        if rows.len() < HEADLINES || case.goal.none_promoted {
            let in_long = [Contender::MoltInLongBlocks(known)];
            long.extend(
                measure(&case, &in_long, runs, seed, purpose)
                    .into_iter()
                    .map(|outcome| (case, outcome)),
            );
        }
        let rivals = measure(&case, &contenders[1..], runs, seed, purpose);
        let outcomes = std::iter::once(molt).chain(rivals).collect();
        eprintln!("{:>4} s  {}", began.elapsed().as_secs(), case.name);
        rows.push(Row {
            case,
            contenders,
            outcomes,
        });
    }
    let few = few(runs)?;
    let whole = rollouts::table(&rollouts::measure(few, seed)?);
    let silence = rollouts::table(&rollouts::measure_silence(few, seed)?);
    let late = rollouts::table(&rollouts::measure_late(few, seed)?);
    let watch = watch::table(few as usize, seed);
    eprintln!("{:>4} s  whole rollouts", began.elapsed().as_secs());
    let tables = report::tables(&rows);
    println!(
        "{tables}\n{}\n{whole}\n{silence}\n{late}\n{watch}\n{how_fast}",
        report::goals(&rows)
    );
    fs::create_dir_all("docs/img")?;
    let document = report::document(
        &rows,
        &long,
        [&whole, &silence, &late, &watch],
        (runs, seed),
        &how_fast,
    );
    fs::write("docs/decisions.md", &document)?;
    fs::write("docs/img/decisions.svg", chart::draw(&rows))?;
    guards_of(runs, seed)?;
    println!("docs/decisions.md, docs/guards.md and docs/img/decisions.svg are written");
    let missed = report::missed(&document);
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("goals that are missed:\n{}", missed.join("\n"));
    Ok(ExitCode::FAILURE)
}

/// Blocks and verdicts that one measurement of their speed takes.
const VERDICTS: u32 = 2000;

/// How long a table of 10,000 runs may take, in seconds.
const MOST_SECONDS: f64 = 60.0;

/// The seconds of all processors that this process has used, where the system tells (Linux).
fn processor_seconds() -> Option<f64> {
    // In hundredths of a second, after the name in brackets: fields 14 and 15 of proc(5).
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The cases that the goals were set for first; the others were added since, and the goal for the time is not theirs.
const SET_AT_FIRST: [&str; 12] = [
    "1 → 5 %, 20 rps",
    "0.1 → 1 %, 20 rps",
    "0.1 → 0.5 %, 100 rps",
    "outage, errors at once, 20 rps",
    "outage, no answers at all, 20 rps",
    "clustered requests, ρ = 0.002, 200 rps",
    "clustered requests, ρ = 0.01, 200 rps",
    "shared incident, 10 ×, 5 min",
    "sticky tenant, without history",
    "one bad pod of five, without history",
    "four workers, one endpoint",
    "every pod scraped twice",
];

/// How long Molt's column of the table took, in all and for `each` case in seconds, and one verdict.
fn speed(table: Duration, mut each: Vec<f64>, runs: usize) -> String {
    let is_first = |case: &Case| SET_AT_FIRST.contains(&case.name);
    let first = CASES.iter().zip(&each).filter(|(case, _)| is_first(case));
    let first: f64 = first.map(|(_, seconds)| seconds).sum();
    let used = processor_seconds();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut verdicts = Verdicts::warm(5);
    let began = Instant::now();
    for _ in 0..VERDICTS {
        black_box(verdicts.judge());
    }
    let micros = began.elapsed().as_secs_f64() * 1e6 / f64::from(VERDICTS);
    each.sort_by(f64::total_cmp);
    let half = each.get(each.len() / 2).copied().unwrap_or_default();
    let most = each.last().copied().unwrap_or_default();
    let judged = |seconds: f64| if seconds <= MOST_SECONDS { "met" } else { "missed" };
    let used = used.map_or(String::new(), |used| {
        format!(
            ", and {used:.0} s of processor time, which are {:.0} s where nothing else runs",
            used / cores as f64
        )
    });
    format!(
        "Molt's column of the table, {runs} runs with each canary of {} cases, took {:.0} s on {cores} cores{used}; a case took {half:.1} s at the median and {most:.1} s at most. The goal for 10,000 runs is {MOST_SECONDS} s: {} by the {} cases that it was set for, which took {first:.0} s, and {} by the whole column on the clock of this run; `make bench-decisions` prints it. One block and the verdict for five objectives took {micros:.0} µs here; the goal is 20 µs, and `make bench-verdict` measures it by criterion.",
        CASES.len(),
        table.as_secs_f64(),
        judged(first),
        SET_AT_FIRST.len(),
        judged(table.as_secs_f64()),
    )
}

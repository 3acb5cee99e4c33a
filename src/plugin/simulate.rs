//! `kubectl molt simulate`: what would happen to a release, decided by the state machine in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use molt_core::plan::RouteMode;
use molt_sim::{Setup, Study, summaries};

use super::manifest::Manifest;
use super::text::{self, Style};
use super::{Failure, Output, timeline};
use crate::api::v1alpha1::Percent;

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// A manifest with a PythonService; - is the standard input.
    file: PathBuf,
    /// Which PythonService of the file, if it has several.
    #[arg(long)]
    service: Option<String>,
    /// What stable does: share of errors, and median latency (log-normal, sigma 0.5).
    #[arg(long, default_value = "errors=0.1%,latency=40ms", value_name = "WHAT")]
    baseline: String,
    /// What the canary does: good, errors=5%, latency=2x, crash@30s, hang=100%, leak=10MB/min,
    /// incident=10x@120s+300s and connections=50@60s (both revisions), no-traffic; several joined by commas.
    /// errors, latency and hang may begin late, such as errors=5%@6m: so long after the canary's first pod is ready.
    #[arg(long, default_value = "good", value_name = "WHAT")]
    scenario: String,
    /// Requests per second to the service.
    #[arg(long, default_value = "20", value_parser = rate, allow_hyphen_values = true)]
    rps: f64,
    /// How often. One run shows its timeline, many show how often which end comes.
    #[arg(long, default_value = "1", value_parser = runs, allow_negative_numbers = true)]
    runs: u32,
    /// The seed of the first run; run i has the seed SEED + i.
    #[arg(long, default_value = "1", value_parser = seed, allow_negative_numbers = true)]
    seed: u64,
    /// Share of each objective's error budget that is left when the rollout begins.
    #[arg(
        long,
        default_value = "100%",
        value_name = "SHARE",
        allow_hyphen_values = true
    )]
    budget_remaining: String,
    /// The form of the output. Default: text.
    #[arg(short, long)]
    output: Option<Output>,
    /// Draw the first run's evidence, weight and error rates into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

/// Any number: which ones are rates is said where they are used.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .map_err(|_| "no rate of requests: write a number, such as 20 or 0.5".to_owned())
}

fn runs(text: &str) -> Result<u32, String> {
    let runs = text.parse().ok().filter(|runs| *runs > 0);
    runs.ok_or_else(|| format!("no number of runs: write 1 to {}", u32::MAX))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("no seed: write a whole number, 0 to {}", u64::MAX))
}

pub(super) fn run(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let manifest = Manifest::read(&args.file, args.service.as_deref(), None)?;
    let setup = setup(args, &manifest)?;
    for what in setup.uncounted() {
        eprintln!("note: --scenario: {}", uncounted(what, &manifest.name));
    }
    let conditions = timeline::conditions(&setup, &args.scenario);
    let first = molt_sim::run(&setup, args.seed);
    if let Some(path) = &args.picture {
        let end = (first.summary.outcome, first.summary.reason.as_str());
        timeline::draw(path, &manifest, &first.timeline, end)?;
    }
    if args.runs == 1 {
        let all = [first.summary.clone()];
        match args.output {
            Some(output) => output.print(&timeline::StudyOfOne {
                study: Study::of(&all),
                run: &first,
            })?,
            None => text::print(&timeline::one_run(
                &manifest,
                &conditions,
                &first,
                Style::of_stdout(),
            )),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = summaries(&setup, args.runs, args.seed);
    match args.output {
        Some(output) => output.print(&Study::of(&all))?,
        None => text::print(&timeline::many_runs(
            &manifest,
            &conditions,
            &all,
            Style::of_stdout(),
        )),
    }
    Ok(ExitCode::SUCCESS)
}

/// Why a part of the scenario changes nothing, and how to make it count.
fn uncounted(what: &str, service: &str) -> String {
    let (counts, kind) = match what {
        "latency" => ("slow answers", "latency"),
        _ => ("failed requests", "availability"),
    };
    format!(
        "no objective of {service} counts {counts}, so {what} changes nothing: add one with sli.type {kind} to spec.slos"
    )
}

fn setup(args: &SimulateArgs, manifest: &Manifest) -> Result<Setup, Failure> {
    if manifest.plan.route == RouteMode::Runs {
        return Err(Failure::Input(format!(
            "{}: {} is a job (spec.kind): its runs decide, by their success and their duration, and no traffic is there to be simulated",
            args.file.display(),
            manifest.name
        )));
    }
    let wrong = |flag: &str, why: String| Failure::Input(format!("{flag}: {why}"));
    let baseline = args
        .baseline
        .parse()
        .map_err(|e: molt_sim::scenario::BadScenario| wrong("--baseline", e.to_string()))?;
    let scenario = args
        .scenario
        .parse()
        .map_err(|e: molt_sim::scenario::BadScenario| wrong("--scenario", e.to_string()))?;
    let budget = Percent(args.budget_remaining.clone()).parse().map_err(|why| {
        let below = args.budget_remaining.strip_prefix('-');
        let overspent = below.is_some_and(|share| Percent(share.to_owned()).parse().is_ok());
        let fix = if overspent {
            ", and 0% for a budget that is overspent"
        } else {
            ""
        };
        wrong("--budget-remaining", why + fix)
    })?;
    let mut setup = Setup::new(
        manifest.plan.clone(),
        manifest.measures.clone(),
        baseline,
        scenario,
        args.rps,
    )
    .map_err(|invalid| match invalid.field {
        "rps" => wrong("--rps", invalid.reason),
        _ => Failure::Input(format!("{}: {invalid}", args.file.display())),
    })?;
    setup.budget_remaining = Some(budget);
    setup.counters.clone_from(&manifest.counters);
    if let Some(limit) = manifest.memory_limit {
        setup.environment.memory_limit = limit;
        // A service that is given little memory needs less of it.
        setup.environment.memory_at_start = setup.environment.memory_at_start.min(limit / 2.0);
    }
    Ok(setup)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use jiff::SignedDuration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulateArgs,
    }

    fn manifest() -> Manifest {
        Manifest::parse(include_str!("fixtures/checkout.yaml"), None, None).unwrap()
    }

    fn setup_of(flags: &[&str]) -> Result<Setup, String> {
        let words = ["simulate", "checkout.yaml"].iter().chain(flags);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        setup(&line.args, &manifest()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_flag_of_the_contract_is_read() {
        let setup = setup_of(&[
            "--baseline",
            "errors=1%,latency=30ms",
            "--scenario",
            "crash@30s,incident=2x@1m+1m",
            "--rps",
            "0.5",
            "--runs",
            "2000",
            "--seed",
            "1",
            "-o",
            "json",
            "--picture",
            "out.svg",
            "--budget-remaining",
            "40%",
        ])
        .unwrap();
        assert_eq!((setup.rps, setup.baseline.errors), (0.5, 0.01));
        assert_eq!(setup.scenario.crash_after, Some(SignedDuration::from_secs(30)));
        assert_eq!(setup.budget_remaining, Some(0.4));
        assert_eq!(setup.environment.memory_limit as u64, 256 << 20);
        assert_eq!(setup.environment.scrape_interval, SignedDuration::from_secs(15));
    }

    #[test]
    fn a_bad_value_is_named_by_its_flag() {
        let wrong = |flags: &[&str]| setup_of(flags).unwrap_err();
        assert_eq!(
            wrong(&["--scenario", "errors=5"]),
            "--scenario: \"errors=5\" is no share: write 0% to 100%, such as 5% or 0.2%"
        );
        assert_eq!(
            wrong(&["--rps", "-1"]),
            "--rps: -1 is no rate of requests: write 0 to 1000000"
        );
        assert!(wrong(&["--rps", "NaN"]).starts_with("--rps: NaN is no rate"));
        assert!(wrong(&["--baseline", "p99=3"]).starts_with("--baseline: \"p99=3\" is no part"));
        assert!(wrong(&["--budget-remaining", "all"]).starts_with("--budget-remaining: "));
        assert!(wrong(&["--runs", "0"]).contains("--runs"));
    }

    #[test]
    fn an_absurd_number_is_told_in_few_digits() {
        let wrong = |flags: &[&str]| setup_of(flags).unwrap_err();
        assert_eq!(
            wrong(&["--rps", "1e300"]),
            "--rps: 1e300 is no rate of requests: write 0 to 1000000"
        );
        assert_eq!(
            wrong(&["--scenario", "latency=2000000x"]),
            "--scenario: \"latency=2000000x\" has no factor: write a number above 0 and at most 1000000 with an x behind it, such as 2x"
        );
    }

    #[test]
    fn what_no_objective_counts_is_told() {
        let mut setup = setup_of(&["--scenario", "latency=2x,errors=5%"]).unwrap();
        assert_eq!(setup.uncounted(), Vec::<&str>::new());
        setup.measures = vec![molt_sim::Measure::Errors; setup.measures.len()];
        assert_eq!(setup.uncounted(), ["latency"]);
        assert_eq!(
            uncounted("latency", "checkout"),
            "no objective of checkout counts slow answers, so latency changes nothing: add one with sli.type latency to spec.slos"
        );
        setup.measures =
            vec![molt_sim::Measure::SlowerThan(SignedDuration::from_millis(80)); setup.measures.len()];
        assert_eq!(setup.uncounted(), ["errors"]);
    }

    #[test]
    fn lines_come_in_the_order_in_which_it_became_known() {
        // Where a dwell ends between the end of a block and its reading, the weight is raised without knowing it.
        let setup = setup_of(&["--baseline", "errors=1%", "--scenario", "errors=30%"]).unwrap();
        let mut run = molt_sim::run(&setup, 1);
        let mut blocks = run.timeline.blocks.clone();
        blocks.retain(|block| block.verdict == "RollBack");
        blocks.truncate(1);
        assert!(blocks[0].t < blocks[0].judged_at, "{blocks:?}");
        (blocks[0].t, blocks[0].judged_at) = (60.0, 61.6);
        run.timeline.blocks = blocks;
        run.timeline.transitions = vec![molt_sim::TransitionEntry {
            millis: 60_500,
            reason: "WeightRaised".to_owned(),
            message: "the canary gets 10 % of the traffic".to_owned(),
            weight: 10,
        }];
        let text = timeline::one_run(&manifest(), "", &run, Style::PLAIN);
        let (raised, convicted) = (text.find("WeightRaised"), text.find("RollBack "));
        assert!(raised.is_some() && raised < convicted, "{text}");
    }

    #[test]
    fn what_begins_after_the_end_is_told() {
        let setup = setup_of(&["--scenario", "errors=5%@20m,incident=10x@30m+60s,hang=1%@30s"]).unwrap();
        let run = molt_sim::run(&setup, 1);
        assert_eq!(run.summary.not_begun, ["errors@20m", "incident@30m"]);
        let text = timeline::one_run(&manifest(), "", &run, Style::PLAIN);
        assert!(
            text.ends_with(
                "Not begun  errors@20m, incident@30m: the rollout had ended before, and shows nothing of it\n"
            ),
            "{text}"
        );
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["notBegun"][0], "errors@20m");
        let all = summaries(&setup, 3, 1);
        let text = timeline::many_runs(&manifest(), "", &all, Style::PLAIN);
        assert!(
            text.contains("errors@20m had not begun when the rollout ended in 3 of 3 runs"),
            "{text}"
        );
        assert_eq!(Study::of(&all).not_begun["incident@30m"], 3);
        // What has begun is not told.
        let setup = setup_of(&["--scenario", "errors=30%@10s"]).unwrap();
        let run = molt_sim::run(&setup, 1);
        assert!(run.summary.not_begun.is_empty(), "{:?}", run.summary);
        assert!(serde_json::to_value(&run).unwrap().get("notBegun").is_none());
    }

    #[test]
    fn a_value_below_zero_is_a_wrong_value_and_no_flag() {
        let wrong = |flags: &[&str]| setup_of(flags).unwrap_err();
        assert_eq!(
            wrong(&["--budget-remaining", "-20%"]),
            "--budget-remaining: \"-20%\" is not a percentage: write 0% to 100%, such as 2%, and 0% for a budget that is overspent"
        );
        for (flag, value, message) in [
            (
                "--rps",
                "-20%",
                "no rate of requests: write a number, such as 20 or 0.5",
            ),
            ("--rps", "many", "no rate of requests"),
            ("--runs", "-1", "no number of runs: write 1 to 4294967295"),
            (
                "--seed",
                "-1",
                "no seed: write a whole number, 0 to 18446744073709551615",
            ),
        ] {
            let message = format!(
                "invalid value '{value}' for '{flag} <{}>': {message}",
                flag[2..].to_uppercase()
            );
            let why = wrong(&[flag, value]);
            assert!(why.contains(&message), "{message:?} is not in {why:?}");
        }
    }

    #[test]
    fn one_run_is_told_as_a_story_and_many_as_a_table() {
        let setup = setup_of(&["--baseline", "errors=1%", "--scenario", "errors=30%"]).unwrap();
        let conditions = timeline::conditions(&setup, "errors=30%");
        assert_eq!(
            conditions,
            "20 requests/s on 4 pods; stable: errors=1%, latency=40ms; canary: errors=30%"
        );
        let run = molt_sim::run(&setup, 1);
        let text = timeline::one_run(&manifest(), &conditions, &run, Style::PLAIN);
        for part in [
            "checkout: 20 req",
            "seed 1\n",
            "WeightRaised",
            "RollBack",
            "RolledBack (",
            "Decided",
            "Budget",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let all = summaries(&setup, 30, 1);
        let text = timeline::many_runs(&manifest(), &conditions, &all, Style::PLAIN);
        for part in [
            "30 runs\n",
            "RolledBack  30",
            "100.00%",
            "DECIDED p50",
            "such as --runs 1 --seed 1",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn the_suspicion_of_a_bake_is_told_beside_the_harm_of_the_comparison() {
        let setup = setup_of(&["--scenario", "errors=30%@400s", "--rps", "50"]).unwrap();
        let run = molt_sim::run(&setup, 1);
        let text = timeline::one_run(&manifest(), "", &run, Style::PLAIN);
        let judged = |line: &&str| line.contains(" availability: canary ");
        let (bake, beside): (Vec<_>, Vec<_>) = text
            .lines()
            .filter(judged)
            .partition(|line| line.contains(" 100% "));
        assert!(!bake.is_empty() && !beside.is_empty(), "{text}");
        assert!(
            beside.iter().all(|line| !line.contains("suspicion")),
            "{beside:#?}"
        );
        let last = bake.last().unwrap();
        assert!(
            last.ends_with("; suspicion in the bake >1,000,000 of 200"),
            "{last}"
        );
        // Harm beside stable is what it was when the bake began.
        let harm = |line: &str| {
            line.split_once("; harm ")
                .unwrap()
                .1
                .split(',')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(harm(last), harm(bake[0]));
        assert!(text.contains("BakeInterrupted"), "{text}");
        let json = serde_json::to_value(&run).unwrap();
        assert!(json["timeline"][0]["evidence"].get("suspicion").is_none());
    }

    #[test]
    fn the_object_of_one_run_has_the_fields_of_many_and_its_timeline() {
        let setup = setup_of(&["--scenario", "errors=30%"]).unwrap();
        let run = molt_sim::run(&setup, 1);
        let study = Study::of(std::slice::from_ref(&run.summary));
        let json = serde_json::to_value(timeline::StudyOfOne { study, run: &run }).unwrap();
        assert_eq!(
            (&json["runs"], &json["outcomes"]["RolledBack"]),
            (&1.into(), &1.into())
        );
        for field in [
            "decideSeconds",
            "canaryExposureSeconds",
            "failedRequests",
            "budgetSpentPercent",
        ] {
            assert!(
                json[field]["p50"].is_f64() && json[field]["p95"].is_f64(),
                "{field}"
            );
        }
        assert!(
            json["run"]["timeline"]
                .as_array()
                .is_some_and(|blocks| !blocks.is_empty())
        );
    }
}

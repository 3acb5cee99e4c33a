//! `kubectl molt simulate`: what would happen to a release, decided by the state machine in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
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
    /// incident=10x@120s+300s (both revisions), no-traffic; several joined by commas.
    #[arg(long, default_value = "good", value_name = "WHAT")]
    scenario: String,
    /// Requests per second to the service.
    #[arg(long, default_value_t = 20.0, allow_negative_numbers = true)]
    rps: f64,
    /// How often. One run shows its timeline, many show how often which end comes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The seed of the first run; run i has the seed SEED + i.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of each objective's error budget that is left when the rollout begins.
    #[arg(long, default_value = "100%", value_name = "SHARE")]
    budget_remaining: String,
    /// The form of the output. Default: text.
    #[arg(short, long)]
    output: Option<Output>,
    /// Draw the first run's evidence, weight and error rates into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

pub(super) fn run(args: &SimulateArgs) -> Result<ExitCode, Failure> {
    let manifest = Manifest::read(&args.file, args.service.as_deref())?;
    let setup = setup(args, &manifest)?;
    let first = molt_sim::run(&setup, args.seed);
    if let Some(path) = &args.picture {
        timeline::draw(path, &manifest, &first.timeline)?;
    }
    if args.runs == 1 {
        let all = [first.summary.clone()];
        match args.output {
            Some(output) => output.print(&timeline::StudyOfOne {
                study: Study::of(&all),
                run: &first,
            })?,
            None => text::print(&timeline::one_run(&manifest, &setup, &first, Style::of_stdout())),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = summaries(&setup, args.runs, args.seed);
    match args.output {
        Some(output) => output.print(&Study::of(&all))?,
        None => text::print(&timeline::many_runs(&manifest, &setup, &all, Style::of_stdout())),
    }
    Ok(ExitCode::SUCCESS)
}

fn setup(args: &SimulateArgs, manifest: &Manifest) -> Result<Setup, Failure> {
    let wrong = |flag: &str, why: String| Failure::BadInput(format!("{flag}: {why}"));
    let baseline = args
        .baseline
        .parse()
        .map_err(|e: molt_sim::scenario::BadScenario| wrong("--baseline", e.to_string()))?;
    let scenario = args
        .scenario
        .parse()
        .map_err(|e: molt_sim::scenario::BadScenario| wrong("--scenario", e.to_string()))?;
    let budget = Percent(args.budget_remaining.clone())
        .parse()
        .map_err(|why| wrong("--budget-remaining", why))?;
    let mut setup = Setup::new(
        manifest.plan.clone(),
        manifest.measures.clone(),
        baseline,
        scenario,
        args.rps,
    )
    .map_err(|invalid| match invalid.field {
        "rps" => wrong("--rps", invalid.reason),
        _ => Failure::BadInput(format!("{}: {invalid}", args.file.display())),
    })?;
    setup.budget_remaining = Some(budget);
    if let Some(limit) = manifest.memory_limit {
        setup.environment.memory_limit = limit;
        // A service that is given little memory needs less of it.
        setup.environment.memory_at_start = setup.environment.memory_at_start.min(limit / 2.0);
    }
    Ok(setup)
}

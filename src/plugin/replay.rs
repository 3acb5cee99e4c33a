//! `kubectl molt replay`: the state machine driven by recorded counts.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use molt_sim::replay::{Recording, replay};

use super::manifest::{Manifest, read_file};
use super::simulate::rate;
use super::text::{self, Style};
use super::{Failure, Output, timeline};

mod prometheus;

use prometheus::RangeArgs;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A manifest with a PythonService; - is the standard input.
    file: PathBuf,
    /// Which PythonService of the file, if it has several.
    #[arg(long)]
    service: Option<String>,
    /// Recorded counts, one JSON object a line:
    /// {"t":15,"slo":"availability","stable":{"total":270,"bad":3},"canary":{"total":30,"bad":0}};
    /// t is the end of the block in seconds since the recording's start. - is the standard input.
    #[arg(
        long,
        value_name = "FILE.jsonl",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    blocks: Option<PathBuf>,
    #[command(flatten)]
    range: RangeArgs,
    /// Requests per second that history knows, for what is spent of the error budget. Default: as recorded.
    #[arg(long, value_parser = rate, allow_hyphen_values = true)]
    rps: Option<f64>,
    /// The form of the output. Default: text.
    #[arg(short, long)]
    output: Option<Output>,
    /// Draw evidence, weight and error rates into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
}

/// `namespace` is that of the command line.
pub(super) async fn run(args: &ReplayArgs, namespace: Option<String>) -> Result<ExitCode, Failure> {
    let address = args.range.address()?;
    let manifest = Manifest::read(&args.file, args.service.as_deref(), address)?;
    let recording = match &args.blocks {
        Some(path) => {
            let slos: Vec<&str> = manifest.plan.slos.iter().map(|slo| slo.name.as_str()).collect();
            Recording::parse(&read_file(path)?, &slos)
                .map_err(|wrong| Failure::Input(format!("{}: {wrong}", path.display())))?
        }
        None => args.range.read(&manifest, namespace).await?,
    };
    let replayed = replay(&manifest.plan, &recording, args.rps).map_err(|invalid| match invalid.field {
        "rps" => Failure::Input(format!("--rps: {}", invalid.reason)),
        _ => Failure::Input(format!("{}: {invalid}", args.file.display())),
    })?;
    if let Some(path) = &args.picture {
        let end = (replayed.outcome, replayed.reason.as_str());
        timeline::draw(path, &manifest, &replayed.timeline, end)?;
    }
    match args.output {
        Some(output) => output.print(&replayed)?,
        None => text::print(&timeline::replayed(&manifest, &replayed, Style::of_stdout())),
    }
    Ok(ExitCode::SUCCESS)
}

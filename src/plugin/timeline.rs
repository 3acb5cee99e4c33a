//! Simulated and replayed rollouts as text.

use std::fmt::Write as _;
use std::path::Path;

use jiff::SignedDuration;
use molt_sim::replay::Replay;
use molt_sim::{
    BlockEntry, CountsEntry, Outcome, Percentiles, Run, Setup, Study, Summary, Timeline, UNFINISHED, picture,
};
use serde::Serialize;

use super::Failure;
use super::manifest::Manifest;
use super::text::{Style, columns, grouped, ratio, span};

/// One run, with the fields of a study.
#[derive(Serialize)]
pub(super) struct StudyOfOne<'a> {
    #[serde(flatten)]
    pub study: Study,
    /// The run itself.
    pub run: &'a Run,
}

/// Writes the picture of a timeline that ended like this.
pub(super) fn draw(
    path: &Path,
    manifest: &Manifest,
    timeline: &Timeline,
    (outcome, reason): (Outcome, &str),
) -> Result<(), Failure> {
    let end = format!("{outcome:?} ({reason})");
    let svg = picture::draw(&manifest.name, &manifest.plan, timeline, &end);
    std::fs::write(path, svg)
        .map_err(|error| Failure::Input(format!("{}: can't be written: {error}", path.display())))
}

/// What happened in one run.
pub(super) fn one_run(manifest: &Manifest, conditions: &str, run: &Run, style: Style) -> String {
    let summary = &run.summary;
    let name = style.bold(&manifest.name);
    let mut text = format!("{name}: {conditions}; seed {}\n\n", summary.seed);
    text += &timeline(manifest, &run.timeline, style);
    text.push_str(&ending(summary.outcome, &summary.reason, &summary.message, style));
    let decided = match summary.decide_seconds {
        Some(seconds) => format!("{} after the canary's first request", seconds_text(seconds)),
        None if summary.canary.requests == 0 => "the canary had no request".to_owned(),
        None => "before the canary's first request".to_owned(),
    };
    let of = |arm: molt_sim::Arm| {
        format!(
            "{} of {} requests failed",
            grouped(whole(arm.failed)),
            grouped(whole(arm.requests))
        )
    };
    let rows = [
        ("Decided", decided),
        (
            "Canary",
            format!(
                "{}, in {} with traffic",
                of(summary.canary),
                seconds_text(summary.canary_exposure_seconds)
            ),
        ),
        ("Stable", of(summary.stable)),
        (
            "Budget",
            format!(
                "{} of the window's error budget spent",
                percent(summary.budget_spent_percent)
            ),
        ),
    ];
    let not_begun = summary.not_begun.join(", ");
    let not_begun = (!not_begun.is_empty()).then(|| {
        let told = format!("{not_begun}: the rollout had ended before, and shows nothing of it");
        ("Not begun", told)
    });
    let rows: Vec<_> = rows
        .into_iter()
        .chain(not_begun)
        .map(|(name, value)| vec![style.dim(name), value])
        .collect();
    text + &columns(&rows, "")
}

/// How often which end came in many runs.
pub(super) fn many_runs(manifest: &Manifest, conditions: &str, all: &[Summary], style: Style) -> String {
    let name = style.bold(&manifest.name);
    let mut text = format!(
        "{name}: {conditions}; {} runs\n\n",
        grouped(whole(all.len() as u64))
    );
    let header = [
        "OUTCOME",
        "RUNS",
        "SHARE",
        "DECIDED p50",
        "p95",
        "EXPOSED p50",
        "p95",
        "FAILED p50",
        "p95",
        "BUDGET p50",
        "p95",
    ];
    let mut rows = vec![header.map(|title| style.dim(title)).to_vec()];
    let mut row = |name: String, some: &[Summary]| {
        if some.is_empty() {
            return;
        }
        let study = Study::of(some);
        let share = some.len() as f64 / all.len().max(1) as f64 * 100.0;
        let mut cells = vec![name, grouped(whole(some.len() as u64)), format!("{share:.2}%")];
        let mut both = |p: Percentiles, form: fn(f64) -> String| {
            cells.extend([p.p50, p.p95].map(|value| value.map_or_else(|| "-".to_owned(), form)));
        };
        both(study.decide_seconds, seconds_text);
        both(study.canary_exposure_seconds, seconds_text);
        both(study.failed_requests, |n| grouped(n as i64));
        both(study.budget_spent_percent, percent);
        rows.push(cells);
    };
    for outcome in Outcome::ALL {
        let some: Vec<_> = all.iter().filter(|s| s.outcome == outcome).cloned().collect();
        row(outcome_word(outcome, style), &some);
    }
    row("all".to_owned(), all);
    text.push_str(&columns(&rows, ""));
    text.push_str(
        "\nDECIDED counts from the canary's first request; FAILED are the canary's requests; BUDGET is what the rollout spent.\n",
    );
    let study = Study::of(all);
    for (what, runs) in &study.not_begun {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{what} had not begun when the rollout ended in {} of {} runs: these show nothing of it.",
            grouped((*runs).into()),
            grouped(whole(all.len() as u64)),
        );
    }
    let reasons = study.reasons;
    if !reasons.is_empty() {
        let unfinished = reasons.iter().find(|known| known.reason == UNFINISHED);
        let unfinished = unfinished.map(|known| known.message.clone());
        let rows: Vec<_> = reasons
            .into_iter()
            .map(|known| {
                let example = format!("such as --runs 1 --seed {}", known.seed);
                vec![known.reason, grouped(known.runs.into()), example]
            })
            .collect();
        text.push('\n');
        text.push_str(&columns(&rows, "  "));
        // The only one that is not the state machine's own word.
        if let Some(known) = unfinished {
            let _ = writeln!(text, "\nUnfinished, of the first of them: {known}.");
        }
    }
    text
}

/// What the machine made of a recording.
pub(super) fn replayed(manifest: &Manifest, replay: &Replay, style: Style) -> String {
    let mut text = style.bold(&manifest.name);
    if replay.skipped_blocks > 0 {
        let _ = write!(
            text,
            ": begins {} after the recording does, with the canary's first request; {} before it are left out",
            seconds_text(replay.begin),
            blocks(replay.skipped_blocks),
        );
    }
    text += "\n\n";
    text += &timeline(manifest, &replay.timeline, style);
    text += &ending(replay.outcome, &replay.reason, &replay.message, style);
    match replay.unused_blocks {
        0 => text,
        1 => text + "1 recorded block lies after the end.\n",
        unused => text + &format!("{unused} recorded blocks lie after the end.\n"),
    }
}

fn blocks(count: usize) -> String {
    match count {
        1 => "1 recorded block".to_owned(),
        several => format!("{several} recorded blocks"),
    }
}

/// What is simulated, in the words of the flags.
pub(super) fn conditions(setup: &Setup, scenario: &str) -> String {
    let pods = match setup.plan.replicas {
        1 => "1 pod".to_owned(),
        several => format!("{several} pods"),
    };
    format!(
        "{} requests/s on {pods}; stable: errors={}, latency={:#}; canary: {scenario}",
        setup.rps,
        percent(setup.baseline.errors * 100.0),
        setup.baseline.latency,
    )
}

fn timeline(manifest: &Manifest, timeline: &Timeline, style: Style) -> String {
    let header = ["TIME", "WEIGHT", "EVENT", ""];
    let mut rows: Vec<(f64, Vec<String>)> = Vec::new();
    for block in &timeline.blocks {
        rows.push((block.judged_at, block_row(manifest, block, style)));
    }
    for transition in &timeline.transitions {
        let row = vec![
            seconds_text(transition.seconds()),
            format!("{}%", transition.weight),
            style.bold(&transition.reason),
            // The attempt begins at the epoch: what is left tells the time since then.
            transition.message.replace("1970-01-01T", ""),
        ];
        rows.push((transition.seconds(), row));
    }
    // In the order in which it became known; blocks come before what was made of them at the same moment.
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rows: Vec<_> = std::iter::once(header.map(|title| style.dim(title)).to_vec())
        .chain(rows.into_iter().map(|(_, row)| row))
        .collect();
    columns(&rows, "")
}

fn block_row(manifest: &Manifest, block: &BlockEntry, style: Style) -> Vec<String> {
    let limits = &manifest.plan.limits;
    let verdict = match block.verdict.as_str() {
        "Safe" => style.good("Safe"),
        "RollBack" => style.bad("RollBack"),
        other => style.dim(other),
    };
    let harm_needed = evidence(limits.ln_harm_needed(manifest.plan.slos.len()));
    // What decides in a bake makes suspect and convicts nobody: it must not be taken for harm beside stable.
    let suspicion = block.evidence.suspicion.map_or_else(String::new, |ln| {
        format!("; suspicion in the bake {} of {harm_needed}", evidence(ln))
    });
    let message = format!(
        "{}: canary {}, stable {}; harm {} of {harm_needed}, safe {} of {}{suspicion}",
        block.slo,
        counts(block.canary),
        counts(block.stable),
        evidence(block.evidence.deciding_harm),
        evidence(block.evidence.safe),
        evidence(limits.ln_safe_needed()),
    );
    vec![
        seconds_text(block.judged_at),
        format!("{}%", block.weight),
        verdict,
        message,
    ]
}

fn counts(counts: CountsEntry) -> String {
    let (total, bad) = (counts.total as i64, counts.bad as i64);
    format!(
        "{} of {} bad ({})",
        grouped(bad),
        grouped(total),
        ratio(total, bad)
    )
}

/// A factor of evidence from its natural logarithm.
fn evidence(ln: f64) -> String {
    let factor = ln.exp();
    match factor {
        _ if factor > 1e6 => ">1,000,000".to_owned(),
        _ if factor >= 9.95 => grouped(factor.round() as i64),
        _ if factor >= 0.1 => format!("{factor:.1}"),
        _ => "<0.1".to_owned(),
    }
}

fn ending(outcome: Outcome, reason: &str, message: &str, style: Style) -> String {
    format!("\n{} ({reason}): {message}\n", outcome_word(outcome, style))
}

fn outcome_word(outcome: Outcome, style: Style) -> String {
    let word = format!("{outcome:?}");
    match outcome {
        Outcome::Promoted => style.good(&word),
        Outcome::RolledBack => style.bad(&word),
        Outcome::Inconclusive => style.busy(&word),
    }
}

fn seconds_text(seconds: f64) -> String {
    span(SignedDuration::from_millis((seconds * 1000.0).round() as i64))
}

/// A share in percent, with two digits that matter.
fn percent(percent: f64) -> String {
    if percent > 0.0 && percent < 0.01 {
        "<0.01%".to_owned()
    } else {
        let text = format!("{percent:.2}");
        format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

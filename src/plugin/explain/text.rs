//! An explanation as text.

use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;
use molt_core::state::State;

use super::{Explanation, Seen};
use crate::api::v1alpha1::{Phase, PythonService};
use crate::plugin::render::{contact, guards, objectives, steps};
use crate::plugin::text::{Style, columns, span};

pub(super) fn render(seen: &Seen, explained: &Explanation, now: Timestamp, style: Style) -> String {
    let service = &seen.service;
    let status = service.status.clone().unwrap_or_default();
    let state = seen.state();
    let name = format!(
        "{}/{}",
        service.namespace().unwrap_or_default(),
        service.name_any()
    );
    let phase = explained
        .phase
        .map_or_else(|| style.busy("Unknown"), |phase| style.phase(phase));
    let mut text = format!("{}  {phase}\n{}\n", style.bold(&name), explained.message);
    text.push_str(&contact(service, style));
    if explained.phase.is_none() {
        text.push_str("is the operator running? (kubectl get pods -A -l app.kubernetes.io/name=molt)\n");
    }
    let late = status.observed_generation.unwrap_or(0) < service.metadata.generation.unwrap_or(0);
    if late && explained.phase.is_some() {
        text.push_str(
            &style.busy("the operator has not seen the latest spec yet: what follows is of the one before\n"),
        );
    }
    let evidence = if state.attempt.is_some() {
        objectives::table(service, &status, &state, style) + &guards::table(&status, &state, style)
    } else {
        String::new()
    };
    let held = explained
        .held_by
        .iter()
        .fold(String::new(), |text, held| format!("{text}  {held}\n"));
    for (title, section) in [
        ("where it is", steps(service, &state, now, style)),
        ("the evidence, and how much of it is needed", evidence),
        ("what has a part in it", held),
        ("what is wrong, and what to do", wrong(explained, now, style)),
        (
            "what happens by itself",
            by_itself(service, &state, explained, now, style),
        ),
        ("what you can do now", commands(explained, style)),
        ("what would change nothing now", refused(explained, style)),
    ] {
        if !section.is_empty() {
            // Writing to a String does not fail.
            let _ = write!(text, "\n{}\n{section}", style.bold(title));
        }
    }
    text
}

/// Each condition that is wrong; what is said of one already is not said again of the next.
fn wrong(explained: &Explanation, now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    for (index, wrong) in explained.wrong.iter().enumerate() {
        let before = &explained.wrong[..index];
        let since = span(now.duration_since(wrong.since));
        let title = style.bad(&wrong.condition);
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {title}  {}  for {since}", wrong.reason);
        let is_told = wrong.message == explained.message || before.iter().any(|b| b.message == wrong.message);
        if !is_told && !wrong.message.is_empty() {
            let _ = writeln!(text, "    {}", wrong.message);
        }
        if let Some(fix) = wrong
            .fix
            .as_ref()
            .filter(|_| before.iter().all(|b| b.fix != wrong.fix))
        {
            let _ = writeln!(text, "    to do: {}", fix.replace('`', ""));
        }
    }
    text
}

fn by_itself(
    service: &PythonService,
    state: &State,
    explained: &Explanation,
    now: Timestamp,
    style: Style,
) -> String {
    let rows: Vec<_> = explained
        .by_itself
        .iter()
        .map(|entry| {
            vec![
                format!("in {}", span(entry.at.duration_since(now))),
                style.dim(&entry.at.strftime("%H:%M:%SZ").to_string()),
                entry.what.clone(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        return columns(&rows, "  ");
    }
    let schedule = service.spec.job.as_ref().map(|job| &job.schedule);
    let held = explained
        .wrong
        .iter()
        .any(|wrong| wrong.reason == "BothRunsFailed");
    let is_unusable = explained
        .wrong
        .iter()
        .any(|wrong| wrong.condition == "SpecValid=False");
    if is_unusable && schedule.is_some() {
        // The CronJob is as the last spec had it that could be used, and there may have been none.
        let runs = if state.stable.is_some() || state.attempt.is_some() || state.last.is_some() {
            "the next run, as the CronJob has it: nothing of it is changed until the spec is corrected"
        } else {
            "nothing: no run begins until the spec is corrected"
        };
        return format!("  {runs}\n");
    }
    if let Some(schedule) = schedule {
        let runs = match explained.phase {
            Some(Phase::Healthy | Phase::RolledBack) => "the next run is the stable revision's",
            Some(Phase::Paused) if held => {
                "the next runs are the stable revision's, and once one of them succeeds the rollout goes on"
            }
            Some(Phase::Paused) => "the next run is the stable revision's: the new one waits for a person",
            Some(Phase::Degraded) => "the next run, and one that succeeds makes it healthy",
            _ => "the next run, and how it ends decides",
        };
        return format!("  {runs} (schedule {schedule:?})\n");
    }
    let nothing = match explained.phase {
        Some(Phase::Healthy) => "nothing, until the template changes",
        Some(Phase::RolledBack) => "nothing: it waits for another template, or for a person",
        Some(Phase::Paused) => "nothing but a way back if harm shows: it waits for a person",
        _ => "as soon as what the first lines name is there",
    };
    format!("  {nothing}\n")
}

fn commands(explained: &Explanation, style: Style) -> String {
    let rows: Vec<_> = explained
        .commands
        .iter()
        .map(|command| {
            vec![
                style.good(&command.command),
                command.meaning.to_owned(),
                style.dim(&format!("\"{}\"", command.effect)),
            ]
        })
        .collect();
    columns(&rows, "  ")
}

fn refused(explained: &Explanation, style: Style) -> String {
    let rows: Vec<_> = explained
        .refused
        .iter()
        .map(|refused| {
            let why = refused.why.trim_end_matches("; nothing was changed");
            vec![style.dim(refused.verb), style.dim(why)]
        })
        .collect();
    columns(&rows, "  ")
}

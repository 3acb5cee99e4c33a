//! One attempt in full: how it ended, what changed, who did what, and by which numbers.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;

use super::table::{outcome, took};
use crate::api::v1alpha1::{
    ActionState, CountsStatus, FieldChange, RecordedAction, RecordedVerdict, RolloutRecord,
    RolloutRecordStatus,
};
use crate::plugin::render::{guards, had};
use crate::plugin::text::{Style, columns, grouped, ratio, span};

pub(super) fn render(record: &RolloutRecord, now: Timestamp, wide: bool, style: Style) -> String {
    let status = record.status.clone().unwrap_or_default();
    let mut text = head(record, &status, now, style);
    let sections = [
        ("what changed", changes(&status, style)),
        (
            "what people did before it began",
            actions(&status.actions_before, DAY, style),
        ),
        ("what people did", actions(&status.actions, HOUR, style)),
        ("what happened", story(&status, style)),
        ("objectives, of the whole attempt", objectives(&status, style)),
        ("conditions, as they stood at last", conditions(&status, style)),
        (
            if wide {
                "verdicts"
            } else {
                "verdicts: the first and the last at each step (-o wide: all that are kept)"
            },
            verdicts(&status, wide, style),
        ),
    ];
    for (title, section) in sections {
        if !section.is_empty() {
            add(&mut text, format_args!("\n{}\n{section}", style.bold(title)));
        }
    }
    text
}

/// Adds to a text.
fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(more);
}

fn head(record: &RolloutRecord, status: &RolloutRecordStatus, now: Timestamp, style: Style) -> String {
    let spec = &record.spec;
    let name = format!("{}/{}", record.namespace().unwrap_or_default(), spec.service);
    let reason = status
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    let mut text = format!(
        "{}  attempt {} at {}  {}{reason}\n",
        style.bold(&name),
        spec.attempt,
        spec.revision,
        outcome(status.outcome, style)
    );
    if let Some(message) = &status.message {
        add(&mut text, format_args!("{message}\n"));
    }
    let ended = status.ended_at.map_or_else(
        || "under way for ".to_owned(),
        |end| {
            format!(
                "ended {} ({} ago), after ",
                end.strftime("%H:%M:%SZ"),
                span(now.duration_since(end))
            )
        },
    );
    add(
        &mut text,
        format_args!(
            "\n  started  {}; {ended}{}{}\n",
            spec.started_at.strftime("%Y-%m-%d %H:%M:%SZ"),
            took(record, now),
            had(
                status.max_weight,
                status.transitions.iter().any(|t| t.reason == "RunsBegun")
            )
        ),
    );
    match &spec.stable_revision {
        Some(stable) => add(&mut text, format_args!("  stable   {stable}\n")),
        None => text.push_str("  stable   none: a first deployment\n"),
    }
    if let Some(author) = status.change.as_ref().and_then(|change| change.author.as_ref()) {
        add(
            &mut text,
            format_args!("  author   {author}, as the annotation molt.dev/author says\n"),
        );
    }
    text
}

fn changes(status: &RolloutRecordStatus, style: Style) -> String {
    let Some(change) = &status.change else {
        return String::new();
    };
    let row = |field: &FieldChange| {
        let side = |value: &Option<String>| value.as_ref().map_or_else(|| style.dim("nothing"), Clone::clone);
        vec![
            field.field.clone(),
            format!(
                "{} {} {}",
                side(&field.before),
                style.dim("→"),
                side(&field.after)
            ),
        ]
    };
    let rows: Vec<_> = change.template.iter().map(row).collect();
    let mut text = columns(&rows, "  ");
    if let Some(more) = change.more {
        add(&mut text, format_args!("  and {more} more fields\n"));
    }
    text
}

/// A time of the attempt, whose day the head says.
const HOUR: &str = "%H:%M:%SZ";
/// A time that may be of another day.
pub(super) const DAY: &str = "%Y-%m-%d %H:%MZ";

/// One line for each action.
pub(super) fn actions(actions: &[RecordedAction], time: &str, style: Style) -> String {
    let rows: Vec<_> = actions
        .iter()
        .map(|action| {
            let state = match action.state {
                ActionState::Applied => "Applied".to_owned(),
                ActionState::Expired => style.busy("Expired"),
            };
            let reason = action
                .reason
                .as_ref()
                .map_or_else(String::new, |r| format!(" ({r})"));
            vec![
                style.dim(&action.at.strftime(time).to_string()),
                format!("{:?}", action.action),
                format!("by {}{reason}", action.requested_by),
                state,
                action.message.clone(),
            ]
        })
        .collect();
    columns(&rows, "  ")
}

fn story(status: &RolloutRecordStatus, style: Style) -> String {
    let rows: Vec<_> = status
        .transitions
        .iter()
        .map(|t| {
            vec![
                style.dim(&t.at.strftime("%H:%M:%SZ").to_string()),
                format!("{:>3}%", t.weight),
                t.reason.clone(),
                t.message.clone(),
            ]
        })
        .collect();
    columns(&rows, "  ")
}

fn counted(counts: &CountsStatus) -> String {
    format!(
        "{} of {} bad ({})",
        grouped(counts.bad),
        grouped(counts.total),
        ratio(counts.total, counts.bad)
    )
}

fn objectives(status: &RolloutRecordStatus, style: Style) -> String {
    if status.slos.is_empty() {
        return String::new();
    }
    let titles = [
        "objective",
        "counted by",
        "canary",
        "stable",
        "harm",
        "safe",
        "error budget",
    ];
    let mut rows = vec![titles.map(|title| style.dim(title)).to_vec()];
    rows.extend(status.slos.iter().map(|slo| {
        let objective = slo
            .objective
            .as_ref()
            .map_or_else(String::new, |o| format!(" {o}%"));
        vec![
            format!("{}{objective}", slo.name),
            slo.sli.clone().unwrap_or_else(|| "-".to_owned()),
            counted(&slo.canary),
            counted(&slo.stable),
            slo.evidence.harm.clone(),
            slo.evidence.safe.clone(),
            format!("{} spent", slo.spent_by_rollout),
        ]
    }));
    columns(&rows, "  ")
}

fn conditions(status: &RolloutRecordStatus, style: Style) -> String {
    status
        .guards
        .as_ref()
        .map_or_else(String::new, |guards| guards::rows(guards, style))
}

/// The first and the last of each step and objective, or all.
fn verdicts(status: &RolloutRecordStatus, wide: bool, style: Style) -> String {
    let mut of_step: BTreeMap<(i32, &str), Vec<usize>> = BTreeMap::new();
    for (index, verdict) in status.verdicts.iter().enumerate() {
        of_step
            .entry((verdict.step, &verdict.slo))
            .or_default()
            .push(index);
    }
    let is_edge = |index: usize| {
        of_step
            .values()
            .any(|of| of.first() == Some(&index) || of.last() == Some(&index))
    };
    let shown: Vec<&RecordedVerdict> = status
        .verdicts
        .iter()
        .enumerate()
        .filter(|(index, _)| wide || is_edge(*index))
        .map(|(_, verdict)| verdict)
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    let titles = [
        "at",
        "step",
        "weight",
        "objective",
        "",
        "canary",
        "stable",
        "harm",
        "safe",
        "margin",
        "spent",
        "burn",
    ];
    let mut rows = vec![titles.map(|title| style.dim(title)).to_vec()];
    rows.extend(shown.iter().map(|v| row(v, style)));
    columns(&rows, "  ")
}

fn row(verdict: &RecordedVerdict, style: Style) -> Vec<String> {
    let word = match verdict.verdict.as_str() {
        "Safe" => style.good("Safe"),
        "RollBack" => style.bad("RollBack"),
        "NoData" => style.busy("NoData"),
        other => other.to_owned(),
    };
    let short = |counts: &CountsStatus| format!("{}/{}", grouped(counts.bad), grouped(counts.total));
    let rate = |rate: &Option<String>| rate.clone().unwrap_or_else(|| "-".to_owned());
    let burn = verdict.burn.as_ref();
    vec![
        style.dim(&verdict.at.strftime("%H:%M:%SZ").to_string()),
        (verdict.step + 1).to_string(),
        format!("{}%", verdict.weight),
        verdict.slo.clone(),
        word,
        short(&verdict.canary),
        short(&verdict.stable),
        verdict.evidence.harm.clone(),
        verdict.evidence.safe.clone(),
        verdict.margin.clone(),
        verdict.spent.clone(),
        burn.map_or_else(
            || "-".to_owned(),
            |b| format!("{}, stable {}", rate(&b.canary), rate(&b.stable)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::history::fixtures::rolled_back;

    fn now() -> Timestamp {
        "2026-03-01T05:03:10Z".parse().unwrap()
    }

    #[test]
    fn one_attempt_in_full() {
        let text = render(&rolled_back(), now(), false, Style::PLAIN);
        let expected = include_str!("rolled_back.txt");
        assert_eq!(text, expected);
    }

    #[test]
    fn wide_keeps_the_middle_of_a_step() {
        let middle = "02:01:30Z";
        assert!(!render(&rolled_back(), now(), false, Style::PLAIN).contains(middle));
        assert!(render(&rolled_back(), now(), true, Style::PLAIN).contains(middle));
    }

    #[test]
    fn an_attempt_under_way_and_a_first_one_say_so() {
        let mut record = rolled_back();
        record.spec.stable_revision = None;
        record.status = None;
        let text = render(&record, now(), false, Style::PLAIN);
        assert!(
            text.contains("under way") && text.contains("none: a first deployment"),
            "{text}"
        );
        assert!(!text.contains("what happened"), "{text}");
    }
}

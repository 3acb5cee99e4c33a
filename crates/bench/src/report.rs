//! The tables, the goals and the document.

use std::fmt::Write as _;

use crate::cases::Case;
use crate::measure::{Contender, Outcome, percent};

/// Who judges, in the order of the table's columns.
pub const NAMES: [&str; 7] = [
    "Molt",
    "Argo Rollouts, documented",
    "Argo Rollouts, tuned",
    "Flagger, documented",
    "Flagger, tuned",
    "Kayenta, documented",
    "Kayenta, tuned",
];

/// How a table says that a goal is missed.
pub(crate) const MISSED: &str = "**missed**";

/// One case with what came out.
#[derive(Clone, Debug)]
pub struct Row {
    /// The case.
    pub case: Case,
    /// Who judged, in the order of [`NAMES`].
    pub contenders: [Contender; NAMES.len()],
    /// What came out, in the same order.
    pub outcomes: Vec<Outcome>,
}

/// The tables, as Markdown.
pub fn tables(rows: &[Row]) -> String {
    let (falsely, found) = (table(rows, falsely), table(rows, found));
    format!(
        "**Healthy canaries taken back within the hour, %** (95 % interval)\n\n{falsely}\n\
         **Seconds until a harmful canary is taken back, median / 95 %** (share found within the hour, where \
         it is below 95 %)\n\n{found}"
    )
}

fn table(rows: &[Row], cell: impl Fn(&Outcome) -> String) -> String {
    let mut text = format!(
        "| case | {} |\n|---{}|\n",
        NAMES.join(" | "),
        "|---".repeat(NAMES.len())
    );
    for row in rows {
        let cells: Vec<String> = row.outcomes.iter().map(&cell).collect();
        let _ = writeln!(text, "| {} | {} |", row.case.name, cells.join(" | "));
    }
    text
}

/// Molt alone in longer blocks: healthy canaries taken back, and harmful ones found.
pub fn long_blocks(rows: &[(Case, Outcome)]) -> String {
    let mut text = "| case | healthy ones taken back, % (95 % interval) | seconds to a harmful one, median / 95 % | goal | |\n|---|---|---|---|---|\n".to_owned();
    for (case, outcome) in rows {
        let goal = case
            .goal
            .detect
            .map_or("–".to_owned(), |(median, most)| format!("{median} / {most}"));
        let verdict = if is_met(case, outcome) { "met" } else { MISSED };
        let _ = writeln!(text, "{} {goal} | {verdict} |", line(case, outcome));
    }
    text
}

/// Whether Molt keeps what it promises in a case.
fn is_met(case: &Case, molt: &Outcome) -> bool {
    let (share, _, _) = molt.false_share();
    let within = |part, most| molt.found_by(part).is_some_and(|s| s <= most);
    let found = |(median, most)| within(0.5, median) && within(0.95, most);
    (share < case.goal.false_rollbacks || share <= 0.0)
        && case.goal.detect.is_none_or(found)
        && (!case.goal.all_found || molt.found.len() == molt.runs)
        && !(case.goal.none_promoted && molt.promoted > 0)
}

/// One line of such a table.
pub fn line(case: &Case, outcome: &Outcome) -> String {
    format!("| {} | {} | {} |", case.name, falsely(outcome), found(outcome))
}

fn falsely(outcome: &Outcome) -> String {
    let (share, low, high) = outcome.false_share();
    format!("{} ({}–{})", percent(share), percent(low), percent(high))
}

fn found(outcome: &Outcome) -> String {
    match (outcome.found_by(0.5), outcome.found_by(0.95)) {
        (Some(median), Some(most)) => format!("{median} / {most}"),
        (Some(median), None) => format!("{median} / – ({} %)", percent(outcome.found_share())),
        _ => format!("– ({} %)", percent(outcome.found_share())),
    }
}

/// What Molt promises, and whether it is so.
pub fn goals(rows: &[Row]) -> String {
    let mut text = "| goal for Molt | measured | |\n|---|---|---|\n".to_owned();
    let mut line = |what: String, measured: String, met: bool| {
        let _ = writeln!(
            text,
            "| {what} | {measured} | {} |",
            if met { "met" } else { MISSED }
        );
    };
    for row in rows {
        let (goal, molt) = (row.case.goal, &row.outcomes[0]);
        let (share, _, _) = molt.false_share();
        line(
            if goal.false_rollbacks > 0.0 {
                let limit = goal.false_rollbacks * 100.0;
                format!("{}: below {limit} % of healthy ones taken back", row.case.name)
            } else {
                format!("{}: no healthy one taken back", row.case.name)
            },
            format!("{} %", percent(share)),
            share < goal.false_rollbacks || share <= 0.0,
        );
        if goal.none_promoted {
            line(
                format!("{}: none promoted on false evidence", row.case.name),
                format!("{} %", percent(molt.promoted_share())),
                molt.promoted == 0,
            );
        }
        if goal.all_found {
            line(
                format!("{}: all found", row.case.name),
                format!("{} of {}", molt.found.len(), molt.runs),
                molt.found.len() == molt.runs,
            );
        }
        if let Some((median, limit)) = goal.detect {
            let (got_median, got_most) = (molt.found_by(0.5), molt.found_by(0.95));
            let show = |seconds: Option<u32>| seconds.map_or("never".to_owned(), |s| format!("{s} s"));
            line(
                format!(
                    "{}: found within {median} s, 95 % within {limit} s",
                    row.case.name
                ),
                format!("{}, {}", show(got_median), show(got_most)),
                got_median.is_some_and(|s| s <= median) && got_most.is_some_and(|s| s <= limit),
            );
        }
    }
    text
}

/// The lines of a document's tables that say that a goal is missed.
pub fn missed(document: &str) -> Vec<&str> {
    let is_missed = |line: &&str| line.starts_with('|') && line.contains(MISSED);
    document.lines().filter(is_missed).collect()
}

/// The settings that were found by hindsight.
fn settings(rows: &[Row]) -> String {
    let mut text = "| case | Argo Rollouts | Flagger | Kayenta |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let cells: Vec<String> = [2, 4, 6].iter().map(|i| describe(row.contenders[*i])).collect();
        let _ = writeln!(text, "| {} | {} |", row.case.name, cells.join(" | "));
    }
    text
}

fn describe(contender: Contender) -> String {
    let threshold = |least: f64, interval: u32, window: u32| {
        format!("≥ {:.2} % of {window} s, each {interval} s", least * 100.0)
    };
    match contender {
        Contender::Molt(_) | Contender::MoltInLongBlocks(_) => "its defaults".to_owned(),
        Contender::Argo(s) => {
            format!(
                "{}, failureLimit {}",
                threshold(s.least, s.interval, s.window),
                s.failures
            )
        }
        Contender::Flagger(s) => {
            format!(
                "{}, threshold {}",
                threshold(s.least, s.interval, s.window),
                s.threshold
            )
        }
        Contender::Kayenta(s) => {
            format!(
                "z = {:.2}, allowedIncrease {}, each {} s",
                s.z, s.allowed_increase, s.interval
            )
        }
    }
}

/// Where a rival that takes back at most two healthy canaries in a hundred (tuning allows one, on other runs) is
/// sooner than Molt, where one that finds 95 in 100 harmful ones takes back fewer healthy ones, and where Molt
/// takes back more than it promises.
fn worse(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let molt = &row.outcomes[0];
        let (share, _, _) = molt.false_share();
        if share > row.case.goal.false_rollbacks {
            let _ = writeln!(
                text,
                "- {}: Molt takes back {} % of healthy canaries.",
                row.case.name,
                percent(share)
            );
        }
        for (name, other) in NAMES.iter().zip(&row.outcomes).skip(1) {
            if other.false_share().0 > 2.0 * row.case.goal.false_rollbacks {
                continue;
            }
            for (part, place) in [(0.5, "at the median"), (0.95, "for 95 in 100")] {
                let seconds = |o: &Outcome| o.found_by(part);
                let Some(theirs) = seconds(other).filter(|s| seconds(molt).is_none_or(|own| *s < own)) else {
                    continue;
                };
                let own = seconds(molt).map_or("never finds so many".to_owned(), |s| format!("{s} s"));
                let _ = writeln!(
                    text,
                    "- {}: {name} takes {theirs} s {place}, Molt {own}.",
                    row.case.name
                );
            }
            let (theirs, _, _) = other.false_share();
            if theirs < share && other.found_by(0.95).is_some() {
                let _ = writeln!(
                    text,
                    "- {}: {name} takes back {} % of healthy canaries, Molt {} %.",
                    row.case.name,
                    percent(theirs),
                    percent(share)
                );
            }
        }
    }
    if text.is_empty() {
        "- Nowhere in this table.\n".to_owned()
    } else {
        text
    }
}

/// `docs/decisions.md`.
///
/// `how_fast` says how long it took.
pub fn document(
    rows: &[Row],
    long: &[(Case, Outcome)],
    [rollouts, silence, late, watch]: [&str; 4],
    (runs, seed): (usize, u64),
    how_fast: &str,
) -> String {
    let mut text = include_str!("decisions.md").to_owned();
    for (mark, value) in [
        ("{{RUNS}}", runs.to_string()),
        ("{{SEED}}", seed.to_string()),
        ("{{TABLES}}", tables(rows)),
        ("{{LONG}}", long_blocks(long)),
        ("{{ROLLOUTS}}", rollouts.to_owned()),
        ("{{SILENCE}}", silence.to_owned()),
        ("{{LATE}}", late.to_owned()),
        ("{{WATCH}}", watch.to_owned()),
        ("{{GOALS}}", goals(rows)),
        ("{{SETTINGS}}", settings(rows)),
        ("{{WORSE}}", worse(rows)),
        ("{{SPEED}}", how_fast.to_owned()),
    ] {
        text = text.replace(mark, value.trim_end());
    }
    text
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub(crate) mod tests;

//! One line for each attempt, the newest first.

use jiff::{SignedDuration, Timestamp};
use molt_core::state::Outcome;

use crate::api::v1alpha1::{ActionState, RolloutRecord, RolloutRecordStatus};
use crate::plugin::text::{Style, columns, span};

const TITLES: [&str; 9] = [
    "REVISION", "ATTEMPT", "OUTCOME", "WHY", "STARTED", "TOOK", "WEIGHT", "BUDGET", "BY",
];
const WIDE: [&str; 3] = ["STABLE", "CANARY REQUESTS", "MESSAGE"];

pub(super) fn render(records: &[RolloutRecord], now: Timestamp, wide: bool, style: Style) -> String {
    let titles = TITLES.iter().chain(WIDE.iter().filter(|_| wide));
    let mut rows = vec![titles.map(|title| style.dim(title)).collect()];
    rows.extend(records.iter().map(|record| row(record, now, wide, style)));
    columns(&rows, "")
}

fn row(record: &RolloutRecord, now: Timestamp, wide: bool, style: Style) -> Vec<String> {
    let (spec, status) = (&record.spec, record.status.clone().unwrap_or_default());
    let dash = || "-".to_owned();
    let mut row = vec![
        spec.revision.clone(),
        spec.attempt.to_string(),
        outcome(status.outcome, style),
        status.reason.clone().unwrap_or_else(dash),
        format!(
            "{} ({} ago)",
            spec.started_at.strftime("%Y-%m-%d %H:%MZ"),
            span(now.duration_since(spec.started_at))
        ),
        took(record, now),
        format!("{}%", status.max_weight),
        budget(&status),
        by(&status),
    ];
    if wide {
        let requests: i64 = status.slos.first().map_or(0, |slo| slo.canary.total);
        row.push(spec.stable_revision.clone().unwrap_or_else(dash));
        row.push(requests.to_string());
        row.push(status.message.unwrap_or_else(dash));
    }
    row
}

/// The outcome in the colour of its urgency.
pub(super) fn outcome(outcome: Option<Outcome>, style: Style) -> String {
    match outcome {
        None => style.busy("under way"),
        Some(outcome) => {
            let word = format!("{outcome:?}");
            match outcome {
                Outcome::Promoted => style.good(&word),
                Outcome::RolledBack => style.bad(&word),
                Outcome::Aborted | Outcome::Superseded | Outcome::Inconclusive => style.busy(&word),
            }
        }
    }
}

/// How long it took, or has been running.
pub(super) fn took(record: &RolloutRecord, now: Timestamp) -> String {
    let status = record.status.as_ref();
    match (
        status.and_then(|s| s.duration_seconds),
        status.and_then(|s| s.ended_at),
    ) {
        (Some(seconds), _) => span(SignedDuration::from_secs(seconds)),
        (None, Some(end)) => span(end.duration_since(record.spec.started_at)),
        (None, None) => span(now.duration_since(record.spec.started_at)),
    }
}

/// The largest share of an error budget that it spent; what is not known is not none.
fn budget(status: &RolloutRecordStatus) -> String {
    let share = |text: &str| text.trim_end_matches('%').parse::<f64>().ok();
    let known = status
        .slos
        .iter()
        .filter_map(|slo| Some((share(&slo.spent_by_rollout)?, slo)));
    let most = known.max_by(|a, b| a.0.total_cmp(&b.0));
    match (most, status.slos.as_slice()) {
        (Some((_, slo)), [_]) => slo.spent_by_rollout.clone(),
        (Some((_, slo)), _) => format!("{} {}", slo.spent_by_rollout, slo.name),
        (None, []) => "-".to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

/// Who had a hand in it: the author of the change, and whoever acted last with effect.
fn by(status: &RolloutRecordStatus) -> String {
    let author = status.change.as_ref().and_then(|change| change.author.clone());
    let acted = status
        .actions
        .iter()
        .rev()
        .find(|a| a.state == ActionState::Applied);
    let acted = acted.map(|a| format!("{:?} by {}", a.action, a.requested_by));
    let all: Vec<String> = author.into_iter().chain(acted).collect();
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::history::fixtures::{promoted, rolled_back};

    #[test]
    fn a_line_tells_what_became_of_an_attempt_and_by_whom() {
        let now = "2026-03-01T05:00:00Z".parse().unwrap();
        let mut running = rolled_back();
        running.status = None;
        let text = render(&[promoted(), rolled_back(), running], now, false, Style::PLAIN);
        let expected = "\
REVISION    ATTEMPT  OUTCOME     WHY        STARTED                       TOOK   WEIGHT  BUDGET              BY
7d9f8c0000  2        Promoted    Promoted   2026-03-01 03:00Z (2h00m ago)  20m    100%    0.02% availability  ada@example.com; Promote by grace
7d9f8c0000  1        RolledBack  HarmShown  2026-03-01 02:00Z (3h00m ago)  3m10s  25%     0.20% availability  ada@example.com
7d9f8c0000  1        under way   -          2026-03-01 02:00Z (3h00m ago)  3h00m  0%      -                   -
";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(expected), "{text}");
    }

    #[test]
    fn wide_has_the_message() {
        let now = "2026-03-01T05:00:00Z".parse().unwrap();
        let text = render(&[rolled_back()], now, true, Style::PLAIN);
        assert!(
            text.contains("5b6c7d0000") && text.contains("9.80 % of 102 requests"),
            "{text}"
        );
    }

    #[test]
    fn a_budget_that_is_not_known_is_not_taken_for_none() {
        let mut record = rolled_back();
        let status = record.status.as_mut().unwrap();
        status
            .slos
            .iter_mut()
            .for_each(|slo| slo.spent_by_rollout = "unknown".to_owned());
        assert_eq!(budget(status), "unknown");
        status.slos.truncate(1);
        status.slos[0].spent_by_rollout = "0.10%".to_owned();
        assert_eq!(budget(status), "0.10%");
    }
}

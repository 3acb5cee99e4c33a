//! What happens by itself, and when.

use jiff::{SignedDuration, Timestamp};
use molt_core::plan::Step;
use molt_core::state::{Attempt, Stage, State};
use serde::Serialize;

use super::Seen;
use crate::api::v1alpha1::InconclusivePolicy;

/// One thing that will happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    /// When; at the earliest.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

pub(super) fn of(seen: &Seen, state: &State, now: Timestamp) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |at: Timestamp, what: String| entries.push(Entry { at, what });
    if let Some(attempt) = &state.attempt {
        // A pause stops all but harm.
        if attempt.paused.is_none() {
            if let Some((at, what)) = dwell(attempt) {
                add(at, what);
            }
            if let Stage::Baking { until } = attempt.stage {
                add(
                    until,
                    format!(
                        "the bake ends: revision {} is stable, unless harm shows before",
                        attempt.revision
                    ),
                );
            }
            let moves = matches!(
                attempt.stage,
                Stage::Settling | Stage::Withdrawing { .. } | Stage::Held
            );
            let waits = !moves && attempt.incident_since.is_none();
            if let Some(deadline) = attempt.deadline.filter(|_| waits) {
                add(deadline, give_up(seen, attempt));
            }
        }
        for condition in &attempt.conditions {
            if let Some(at) = condition.job.as_ref().and_then(|job| job.retry_at) {
                add(at, format!("the Job of {} runs again", condition.name));
            }
        }
    }
    // What runs by a schedule has no pods that stay.
    let retiring = state.retiring.iter().filter(|_| !seen.object.is_job);
    for retiring in retiring {
        add(
            retiring.scale_down_at,
            format!("the pods of revision {} go", retiring.revision),
        );
    }
    // What has passed is waiting for something that has to be seen, and the message names it.
    entries.retain(|entry| entry.at > now);
    entries.sort_by_key(|entry| entry.at);
    entries
}

fn dwell(attempt: &Attempt) -> Option<(Timestamp, String)> {
    let Some(Step::Dwell(seconds)) = attempt.steps.get(attempt.step as usize) else {
        return None;
    };
    if attempt.stage != Stage::Stepping {
        return None;
    }
    let at = attempt
        .step_since
        .checked_add(SignedDuration::from_secs(i64::from(*seconds)))
        .ok()?;
    let next = attempt.steps[attempt.step as usize + 1..]
        .iter()
        .find(|step| !matches!(step, Step::Dwell(_)))
        .map(ToString::to_string);
    let next = next.unwrap_or_else(|| "all traffic".to_owned());
    Some((
        at,
        format!(
            "the dwell of step {} ends, at the earliest; then {next}, as soon as the evidence for it is there",
            attempt.step + 1
        ),
    ))
}

/// What the end of a wait means.
fn give_up(seen: &Seen, attempt: &Attempt) -> String {
    if attempt.stage == Stage::Deploying {
        return "the first deployment is given up if its pods or its route are not ready".to_owned();
    }
    let policy = seen
        .service
        .spec
        .analysis
        .as_ref()
        .and_then(|analysis| analysis.on_inconclusive);
    let inconclusive = match policy {
        None | Some(InconclusivePolicy::Pause) => "the canary loses its traffic and waits for a person",
        Some(InconclusivePolicy::Rollback) => "it is rolled back as Inconclusive",
        Some(InconclusivePolicy::PromoteIfBudgetSafe) => {
            "it goes on if the budget that is spent is known and within bounds, and pauses otherwise"
        }
    };
    format!(
        "the wait is given up: without pods or a router it is rolled back; without evidence {inconclusive}; while the evidence grows it is prolonged"
    )
}

//! When evidence is to be read, and for which blocks.

use jiff::{SignedDuration, Timestamp};

use super::after;
use super::preview::is_used;
use crate::plan::Plan;
use crate::state::{Attempt, Stage, State};

/// How long after a block's end its last samples are taken to be stored: scrapes are appended when they
/// are complete, and carry the time at which they began.
const INGESTION: SignedDuration = SignedDuration::from_millis(1500);
/// Blocks that are read at once after the operator was away.
const MOST_BLOCKS: i64 = 40;
/// The soonest that a reading which failed is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What is to be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The edges of the blocks, oldest first; `n + 1` edges for `n` blocks, or none.
    pub edges: Vec<Timestamp>,
    /// History has not been read yet.
    pub want_history: bool,
    /// Users are on the canary: the thresholds are to be evaluated, at the last edge, and the guards in each block.
    pub want_conditions: bool,
}

/// What is to be read before the next [`decide`](super::decide); `None` while nothing moves, so that a
/// steady service costs no query.
pub fn measurement_due(plan: &Plan, state: &State, now: Timestamp) -> Option<Due> {
    let watched = state.watched();
    let under_way = state.attempt.as_ref().or(watched.as_ref());
    let attempt = under_way.filter(|a| measures(&a.stage) && asks(plan))?;
    let want_history = unread(plan, attempt);
    if want_history && attempt.exposed_since.is_none() {
        // Before users are on the canary it must be known that its metrics can be read: the block that has
        // just passed shows it, and is no evidence.
        let end = after(now, -INGESTION);
        return Some(Due {
            edges: vec![after(end, -plan.block), end],
            want_history,
            want_conditions: false,
        });
    }
    let edges = edges(plan, attempt, now);
    (edges.len() > 1).then_some(Due {
        edges,
        want_history,
        want_conditions: watched.is_none() && attempt.exposed_since.is_some() && is_used(attempt),
    })
}

/// Some objective has never been read.
fn unread(plan: &Plan, attempt: &Attempt) -> bool {
    plan.slos
        .iter()
        .any(|slo| !attempt.evidence.iter().any(|e| e.is_of(slo)))
}

/// When something is to be read next.
pub(super) fn next_measurement(plan: &Plan, attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
    if !measures(&attempt.stage) || !asks(plan) {
        return None;
    }
    let next = after(after(attempt.measured_to, plan.block), INGESTION);
    Some(if next > now && !unread(plan, attempt) {
        next
    } else {
        after(now, RETRY.min(plan.block))
    })
}

/// Something is to be measured: of what may run only once there may be nothing.
fn asks(plan: &Plan) -> bool {
    !plan.slos.is_empty() || !plan.conditions.is_empty()
}

fn measures(stage: &Stage) -> bool {
    matches!(stage, Stage::Stepping | Stage::Promoting | Stage::Baking { .. })
}

/// The edges of the persisted grid from the last one that was read to the last one that has passed.
fn edges(plan: &Plan, attempt: &Attempt, now: Timestamp) -> Vec<Timestamp> {
    let passed = now.duration_since(attempt.measured_to) - INGESTION;
    let block = plan.block.as_millis().max(1);
    let due = i64::try_from(passed.as_millis() / block)
        .unwrap_or(0)
        .clamp(0, MOST_BLOCKS);
    if due == 0 {
        return Vec::new();
    }
    let block = SignedDuration::from_millis(i64::try_from(block).unwrap_or(i64::MAX));
    let mut edges = vec![attempt.measured_to];
    for _ in 0..due {
        edges.push(after(*edges.last().unwrap_or(&attempt.measured_to), block));
    }
    edges
}

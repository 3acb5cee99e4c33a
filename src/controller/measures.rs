//! What a decision means for the operator's own metrics; pure but for the counting.

use std::time::Duration;

use jiff::Timestamp;
use molt_core::decision::{Decision, SloReport};
use molt_core::observed::Observed;
use molt_core::plan::Plan;
use molt_core::state::{Ended, Outcome, State};

use super::status;
use crate::k8s::Key;
use crate::metrics::{Finished, Judged, Metrics, RevertedBy, Standing};

/// Tells of a decision that was persisted.
pub fn tell(metrics: &Metrics, key: &Key, before: &State, decision: &Decision, seen: &Observed, plan: &Plan) {
    let attempt = decision.state.attempt.as_ref();
    let slos = decision.report.slos.iter();
    let standing = Standing {
        phase: decision.report.phase,
        canary_weight: attempt.map_or(0, |a| status::weight(&a.revision, plan.route, seen)),
        attempt_since: attempt.map(|a| a.started_at),
        objectives: slos
            .filter(|_| attempt.is_some())
            .map(|slo| judged(slo, plan))
            .collect(),
    };
    metrics.set_rollout(key, &standing);
    for verdict in &decision.report.verdicts {
        metrics.judged(verdict.verdict);
    }
    let ended = decision.state.last.as_ref();
    if let Some(last) = ended.filter(|l| before.last.as_ref() != Some(*l)) {
        metrics.rollout_ended(key, finished(before, last));
    }
    if let (None, Some(pin)) = (&before.pinned, &decision.state.pinned) {
        let by = match (&pin.why, &pin.group) {
            (Some(_), _) => RevertedBy::Watch,
            (None, Some(_)) => RevertedBy::Group,
            (None, None) => RevertedBy::Person,
        };
        metrics.reverted(key, by);
    }
}

fn judged(slo: &SloReport, plan: &Plan) -> Judged {
    let come = |ln: f64, needed: f64| if needed > 0.0 { (ln / needed).max(0.0) } else { 0.0 };
    Judged {
        name: slo.name.clone(),
        verdict: slo.verdict,
        harm: come(slo.ln_harm, plan.limits.ln_harm_needed(plan.slos.len())),
        safe: come(slo.ln_safe, plan.limits.ln_safe_needed()),
        budget_remaining: slo.budget_remaining,
        budget_spent: slo.spent,
    }
}

/// An attempt that ended, for statistics; `before` it did.
fn finished(before: &State, last: &Ended) -> Finished {
    let since =
        |from: Timestamp| Duration::try_from(last.ended_at.duration_since(from)).unwrap_or(Duration::ZERO);
    // An earlier attempt at the same revision was for the same release.
    let earlier = before.last.as_ref().filter(|b| b.revision == last.revision);
    let asked_for = earlier.map_or(last.started_at, |b| b.started_at.min(last.started_at));
    let of = before
        .attempt
        .as_ref()
        .filter(|a| a.revision == last.revision && a.number == last.number);
    let exposed = of.and_then(|attempt| attempt.exposed_since);
    Finished {
        outcome: last.outcome,
        took: since(last.started_at),
        lead_time: (last.outcome == Outcome::Promoted).then(|| since(asked_for)),
        restored_after: exposed.filter(|_| last.outcome == Outcome::RolledBack).map(since),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(outcome: &str, started: &str, ended: &str, number: u32) -> Ended {
        serde_json::from_value(json!({
            "revision": "7d9f8c0000", "number": number, "outcome": outcome, "reason": "R", "message": "m",
            "startedAt": started, "endedAt": ended, "maxWeight": 25,
        }))
        .unwrap()
    }

    fn attempt(number: u32) -> State {
        serde_json::from_value(json!({"attempt": {
            "revision": "7d9f8c0000", "number": number, "startedAt": "2026-03-01T02:00:00Z",
            "stage": {"name": "Stepping"}, "since": "2026-03-01T02:00:00Z", "steps": [], "step": 0,
            "stepSince": "2026-03-01T02:00:00Z", "weight": 25, "measuredTo": "2026-03-01T02:00:00Z",
            "exposedSince": "2026-03-01T02:01:00Z",
        }}))
        .unwrap()
    }

    #[test]
    fn users_are_restored_when_the_last_one_has_left_what_was_taken_back() {
        let last = ended("RolledBack", "2026-03-01T02:00:00Z", "2026-03-01T02:03:00Z", 1);
        let told = finished(&attempt(1), &last);
        assert_eq!(told.took, Duration::from_mins(3));
        assert_eq!(told.restored_after, Some(Duration::from_mins(2)));
        assert_eq!(told.lead_time, None);
        // The exposure of another attempt is not its own.
        assert_eq!(finished(&attempt(2), &last).restored_after, None);
    }

    #[test]
    fn the_lead_time_counts_from_the_first_attempt_at_a_revision() {
        let first = ended("Aborted", "2026-03-01T01:00:00Z", "2026-03-01T01:10:00Z", 1);
        let second = ended("Promoted", "2026-03-01T02:00:00Z", "2026-03-01T02:30:00Z", 2);
        let before = State {
            last: Some(first),
            ..attempt(2)
        };
        let told = finished(&before, &second);
        assert_eq!(told.lead_time, Some(Duration::from_mins(90)));
        assert_eq!((told.took, told.restored_after), (Duration::from_mins(30), None));
        assert_eq!(
            finished(&attempt(2), &second).lead_time,
            Some(Duration::from_mins(30))
        );
    }
}

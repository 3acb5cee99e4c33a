//! Thresholds: numbers that were read into failed evaluations and rollbacks.
//!
//! A number that could not be read is neither for nor against the canary. One that does not satisfy its bound
//! counts against it, at whatever weight; one that does counts for the weight that it was read at.

use super::Turn;
use super::attempt::End;
use super::stages::Wait;
use crate::observed::ConditionReading;
use crate::plan::ConditionPlan;
use crate::state::{Attempt, ConditionState, Outcome, Stage};

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 200;

impl Turn<'_> {
    /// Takes in what the thresholds' queries gave, and rolls back where one has failed too often.
    pub(super) fn follow_conditions(&mut self) {
        let Some(measured) = self.seen.measurement.as_ref() else {
            return;
        };
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        let judged = matches!(
            attempt.stage,
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
        );
        let mut failures = Vec::new();
        if judged {
            for (plan, reading) in self.plan.conditions.iter().zip(&measured.conditions) {
                failures.extend(take_in(&mut attempt, plan, reading));
            }
            let known = |c: &ConditionState| self.plan.conditions.iter().any(|plan| plan.name == c.name);
            attempt.conditions.retain(known);
        }
        self.state.attempt = Some(attempt);
        for failure in failures {
            if failure.beyond_limit {
                self.withdraw(End::new(Outcome::RolledBack, "ConditionFailed", failure.message));
            } else {
                self.note("ConditionNotMet", failure.message);
            }
        }
    }

    /// Why neither evidence nor thresholds allow the next move yet: to a weight, or to full traffic.
    pub(super) fn verdict_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<Wait> {
        self.evidence_wait(attempt, next)
            .or_else(|| self.conditions_wait(attempt, next).map(Wait::Evidence))
    }

    /// Why the thresholds do not allow the next move yet: each must have been satisfied at this weight.
    pub(super) fn conditions_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<String> {
        if attempt.max_weight == 0 && next.is_some() {
            // Nothing can be known of a revision that nobody has used.
            return None;
        }
        self.plan
            .conditions
            .iter()
            .find_map(|plan| lack(attempt, plan, attempt.weight))
    }

    /// Why the thresholds do not let the bake end. A bake without a block has nothing to be read in.
    pub(super) fn bake_conditions_wait(&self, attempt: &Attempt) -> Option<String> {
        if self.plan.bake < self.plan.block {
            return None;
        }
        self.conditions_wait(attempt, None)
    }

    /// Where each threshold of the attempt under way stands.
    pub(super) fn condition_reports(&self) -> Vec<ConditionState> {
        let Some(attempt) = self.attempt() else {
            return Vec::new();
        };
        let of = |plan| found(attempt, plan).cloned().unwrap_or_else(|| new(plan));
        self.plan.conditions.iter().map(of).collect()
    }
}

/// An evaluation that failed and is to be told.
struct Failure {
    beyond_limit: bool,
    message: String,
}

fn take_in(attempt: &mut Attempt, plan: &ConditionPlan, reading: &ConditionReading) -> Option<Failure> {
    let exposed = attempt.exposed_since.is_some_and(|since| reading.at >= since);
    let known = found(attempt, plan).cloned();
    let mut entry = known.unwrap_or_else(|| new(plan));
    if !exposed || attempt.weight == 0 || entry.evaluated_at.is_some_and(|last| reading.at <= last) {
        return None;
    }
    let failure = evaluate(&mut entry, attempt, plan, reading);
    attempt.conditions.retain(|c| c.name != plan.name);
    attempt.conditions.push(entry);
    failure
}

fn evaluate(
    entry: &mut ConditionState,
    attempt: &Attempt,
    plan: &ConditionPlan,
    reading: &ConditionReading,
) -> Option<Failure> {
    let value = match &reading.value {
        Ok(value) if value.is_nan() => Err("the value is NaN".to_owned()),
        other => other.clone(),
    };
    let value = match value {
        Ok(value) => value,
        Err(why) => {
            entry.not_evaluated = Some(why.chars().take(LONGEST_REASON).collect());
            return None;
        }
    };
    entry.not_evaluated = None;
    entry.evaluated_at = Some(reading.at);
    entry.value = Some(text(value));
    entry.evaluated = entry.evaluated.saturating_add(1);
    let met_before = std::mem::replace(&mut entry.last_met, plan.bound.holds(value));
    if entry.last_met {
        // What was read before the weight was in force says nothing of it.
        if reading.at >= attempt.step_since.max(attempt.since) {
            entry.passed_at_weight = Some(attempt.weight);
        }
        return None;
    }
    let news = entry.failed == 0 || met_before;
    entry.passed_at_weight = None;
    // Never more than one beyond the limit, however often a rollback is put off.
    entry.failed = entry
        .failed
        .saturating_add(1)
        .min(plan.failure_limit.saturating_add(1));
    let beyond_limit = entry.failed > plan.failure_limit;
    (news || beyond_limit).then(|| Failure {
        beyond_limit,
        message: format!(
            "condition {}: the value is {}, not {}; {} of {} evaluations failed, {} may",
            plan.name,
            text(value),
            wanted(plan),
            entry.failed,
            entry.evaluated,
            plan.failure_limit
        ),
    })
}

/// What is lacking of a threshold before the canary may have more than a weight.
fn lack(attempt: &Attempt, plan: &ConditionPlan, weight: u8) -> Option<String> {
    let entry = found(attempt, plan);
    if entry.is_some_and(|entry| entry.passed_at_weight == Some(weight)) {
        return None;
    }
    let name = &plan.name;
    Some(match entry {
        Some(ConditionState {
            not_evaluated: Some(why),
            ..
        }) => format!("condition {name} could not be evaluated at {weight} %: {why}"),
        Some(ConditionState {
            value: Some(value),
            passed_at_weight: None,
            failed: 1..,
            ..
        }) => format!(
            "condition {name} was not met at last: the value is {value}, not {}",
            wanted(plan)
        ),
        _ => format!("condition {name} has not been evaluated at {weight} % yet"),
    })
}

/// The bound without the word `value`: `< 0.8`.
fn wanted(plan: &ConditionPlan) -> String {
    let bound = plan.bound.to_string();
    bound.strip_prefix("value ").unwrap_or(&bound).to_owned()
}

/// The entry of a threshold; one with another bound is another threshold.
fn found<'a>(attempt: &'a Attempt, plan: &ConditionPlan) -> Option<&'a ConditionState> {
    let bound = plan.bound.to_string();
    attempt
        .conditions
        .iter()
        .find(|c| c.name == plan.name && c.bound == bound)
}

fn new(plan: &ConditionPlan) -> ConditionState {
    ConditionState {
        name: plan.name.clone(),
        bound: plan.bound.to_string(),
        failure_limit: plan.failure_limit,
        ..ConditionState::default()
    }
}

/// A number for people: as many digits as they read.
fn text(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e15).contains(&size) {
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else if size.is_finite() {
        format!("{value:.3e}")
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (0.8, "0.8"),
            (1.0 / 3.0, "0.333333"),
            (1200.0, "1200"),
            (1e-9, "1.000e-9"),
            (f64::MAX, "1.798e308"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(text(value), expected);
        }
    }
}

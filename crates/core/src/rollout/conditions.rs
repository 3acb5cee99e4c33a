//! Conditions: what was found out beside the objectives into failed evaluations and rollbacks.
//!
//! A number that could not be read is neither for nor against the canary. One that does not satisfy its bound
//! counts against it, at whatever weight; one that does counts for the weight that it was read at. The same goes
//! for runs of Jobs, see `jobs.rs`.

use jiff::Timestamp;

use super::Turn;
use super::attempt::End;
use super::preview::is_used;
use super::waits::Wait;
use crate::condition::Bound;
use crate::guard::GuardMode;
use crate::observed::ConditionReading;
use crate::plan::{Check, ConditionPlan};
use crate::state::{Attempt, ConditionState, JobState, Outcome, Stage};

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 200;

/// A text as it is kept in the state, which must stay small.
pub(super) fn short(text: &str) -> String {
    text.chars().take(LONGEST_REASON).collect()
}

impl Turn<'_> {
    /// Takes in the numbers that were read, and rolls back where one has failed too often.
    pub(super) fn follow_conditions(&mut self) {
        let Some(measured) = self.seen.measurement.as_ref() else {
            return;
        };
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        let mut failures = Vec::new();
        if is_judged(&attempt) {
            let bounds = self.plan.conditions.iter();
            let bounds = bounds.filter_map(|plan| Some((plan, plan.check.bound()?)));
            for ((plan, bound), reading) in bounds.zip(&measured.conditions) {
                failures.extend(take_in(&mut attempt, plan, bound, reading));
            }
            self.forget_others(&mut attempt);
        }
        self.state.attempt = Some(attempt);
        self.tell(failures);
    }

    /// Forgets conditions that are no longer asked for.
    pub(super) fn forget_others(&self, attempt: &mut Attempt) {
        let known = |c: &ConditionState| self.plan.conditions.iter().any(|plan| plan.name == c.name);
        attempt.conditions.retain(known);
    }

    /// Tells of failed evaluations, and rolls back where there are too many.
    pub(super) fn tell(&mut self, failures: Vec<Failure>) {
        for failure in failures {
            if failure.beyond_limit {
                self.withdraw(End::new(Outcome::RolledBack, "ConditionFailed", failure.message));
            } else if failure.only_warns {
                self.note("ConditionWarned", failure.message);
            } else {
                self.note("ConditionNotMet", failure.message);
            }
        }
    }

    /// Why neither evidence nor conditions allow the next move yet: to a weight, or to full traffic.
    pub(super) fn verdict_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<Wait> {
        self.evidence_wait(attempt, next)
            .or_else(|| self.conditions_wait(attempt, next).map(Wait::Evidence))
    }

    /// Why the conditions do not allow the next move yet: each must have been satisfied at this weight.
    pub(super) fn conditions_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<String> {
        if attempt.exposed_since.is_none() && next.is_some() {
            // Nothing can be known of a revision that nobody has used.
            return None;
        }
        self.deciding_conditions()
            .find_map(|plan| lack(attempt, plan, attempt.weight))
    }

    /// Those that say where the rollout goes; the others only warn.
    pub(super) fn deciding_conditions(&self) -> impl Iterator<Item = &ConditionPlan> {
        let conditions = self.plan.conditions.iter();
        conditions.filter(|plan| plan.mode == GuardMode::Rollback)
    }

    /// Why the conditions do not let the bake end. A bake without a block has nothing to be read in.
    pub(super) fn bake_conditions_wait(&self, attempt: &Attempt) -> Option<String> {
        if self.plan.bake < self.plan.block {
            return None;
        }
        self.conditions_wait(attempt, None)
    }

    /// Where each condition of the attempt under way stands.
    pub(super) fn condition_reports(&self) -> Vec<ConditionState> {
        let Some(attempt) = self.attempt() else {
            return Vec::new();
        };
        let of = |plan| entry(attempt, plan);
        self.plan.conditions.iter().map(of).collect()
    }
}

/// Verdicts count: users are on the canary, or about to be.
pub(super) fn is_judged(attempt: &Attempt) -> bool {
    matches!(
        attempt.stage,
        Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
    )
}

/// An evaluation that failed and is to be told.
pub(super) struct Failure {
    beyond_limit: bool,
    only_warns: bool,
    message: String,
}

/// What an evaluation has found out.
pub(super) struct Finding {
    /// What it is of.
    pub at: Timestamp,
    /// The condition is met.
    pub met: bool,
    /// It says so of the weight that the canary has now.
    pub of_this_weight: bool,
    /// The number, or what became of the run.
    pub value: String,
    /// The failure in a sentence.
    pub failure: String,
}

fn take_in(
    attempt: &mut Attempt,
    plan: &ConditionPlan,
    bound: &Bound,
    reading: &ConditionReading,
) -> Option<Failure> {
    let exposed = attempt.exposed_since.is_some_and(|since| reading.at >= since);
    let mut entry = entry(attempt, plan);
    if !exposed || !is_used(attempt) || entry.evaluated_at.is_some_and(|last| reading.at <= last) {
        return None;
    }
    let failure = evaluate(&mut entry, attempt, plan, bound, reading);
    keep(attempt, entry);
    failure
}

fn evaluate(
    entry: &mut ConditionState,
    attempt: &Attempt,
    plan: &ConditionPlan,
    bound: &Bound,
    reading: &ConditionReading,
) -> Option<Failure> {
    let value = match &reading.value {
        Ok(value) if value.is_nan() => Err("the value is NaN".to_owned()),
        other => other.clone(),
    };
    let value = match value {
        Ok(value) => value,
        Err(why) => {
            entry.not_evaluated = Some(short(&why));
            return None;
        }
    };
    let finding = Finding {
        at: reading.at,
        met: bound.holds(value),
        // What was read before the weight was in force says nothing of it.
        of_this_weight: reading.at >= attempt.step_since.max(attempt.since),
        value: text(value),
        failure: format!("the value is {}, not {}", text(value), wanted(bound)),
    };
    settle(entry, attempt.weight, plan, finding)
}

/// Counts what an evaluation has found out.
pub(super) fn settle(
    entry: &mut ConditionState,
    weight: u8,
    plan: &ConditionPlan,
    finding: Finding,
) -> Option<Failure> {
    entry.not_evaluated = None;
    entry.evaluated_at = Some(finding.at);
    entry.value = Some(finding.value);
    entry.evaluated = entry.evaluated.saturating_add(1);
    let met_before = std::mem::replace(&mut entry.last_met, finding.met);
    if finding.met {
        if finding.of_this_weight {
            entry.passed_at_weight = Some(weight);
        }
        return None;
    }
    let news = entry.failed == 0 || met_before;
    entry.passed_at_weight = None;
    entry.failed = entry.failed.saturating_add(1);
    let only_warns = plan.mode == GuardMode::Warn;
    if !only_warns {
        // Never more than one beyond the limit, however often a rollback is put off.
        entry.failed = entry.failed.min(plan.failure_limit.saturating_add(1));
    }
    let beyond_limit = !only_warns && entry.failed > plan.failure_limit;
    let allowed = if only_warns {
        "it only warns".to_owned()
    } else {
        format!("{} may", plan.failure_limit)
    };
    (news || beyond_limit).then(|| Failure {
        beyond_limit,
        only_warns,
        message: format!(
            "condition {}: {}; {} of {} evaluations failed, {allowed}",
            plan.name, finding.failure, entry.failed, entry.evaluated
        ),
    })
}

/// What is lacking of a condition before the canary may have more than a weight.
pub(super) fn lack(attempt: &Attempt, plan: &ConditionPlan, weight: u8) -> Option<String> {
    let entry = found(attempt, plan);
    if entry.is_some_and(|entry| entry.passed_at_weight == Some(weight)) {
        return None;
    }
    let name = &plan.name;
    Some(match (entry, &plan.check) {
        (
            Some(ConditionState {
                not_evaluated: Some(why),
                ..
            }),
            _,
        ) => format!("condition {name} could not be evaluated at {weight} %: {why}"),
        (
            Some(ConditionState {
                job:
                    Some(JobState {
                        failure: Some(failure),
                        ..
                    }),
                passed_at_weight: None,
                last_met: false,
                ..
            }),
            Check::Job(_),
        ) => format!("condition {name} was not met at last: {failure}"),
        (
            Some(ConditionState {
                value: Some(value),
                passed_at_weight: None,
                failed: 1..,
                ..
            }),
            Check::Value(bound),
        ) => format!(
            "condition {name} was not met at last: the value is {value}, not {}",
            wanted(bound)
        ),
        (entry, Check::Job(_)) if entry.is_some_and(runs) => {
            format!("condition {name}: its Job runs, begun at {weight} %")
        }
        _ => format!("condition {name} has not been evaluated at {weight} % yet"),
    })
}

fn runs(entry: &ConditionState) -> bool {
    entry.job.as_ref().is_some_and(|job| job.running.is_some())
}

/// The bound without the word `value`: `< 0.8`.
fn wanted(bound: &Bound) -> String {
    let bound = bound.to_string();
    bound.strip_prefix("value ").unwrap_or(&bound).to_owned()
}

/// The entry of a condition; one with another bound, or another Job, is another condition.
pub(super) fn found<'a>(attempt: &'a Attempt, plan: &ConditionPlan) -> Option<&'a ConditionState> {
    let bound = plan.check.to_string();
    let digest = plan.check.job().map(|job| &job.digest);
    attempt
        .conditions
        .iter()
        .find(|c| c.name == plan.name && c.bound == bound && c.job.as_ref().map(|job| &job.digest) == digest)
}

/// The same, or a new one.
pub(super) fn entry(attempt: &Attempt, plan: &ConditionPlan) -> ConditionState {
    let known = found(attempt, plan).cloned().unwrap_or_else(|| new(plan));
    ConditionState {
        mode: plan.mode,
        failure_limit: plan.failure_limit,
        ..known
    }
}

/// Puts an entry in its place.
pub(super) fn keep(attempt: &mut Attempt, entry: ConditionState) {
    attempt.conditions.retain(|c| c.name != entry.name);
    attempt.conditions.push(entry);
}

fn new(plan: &ConditionPlan) -> ConditionState {
    let job = plan.check.job().map(|job| JobState {
        digest: job.digest.clone(),
        ..JobState::default()
    });
    ConditionState {
        name: plan.name.clone(),
        bound: plan.check.to_string(),
        job,
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

//! What an attempt knows of each objective: from its first reading on, and as the verdicts look at it.

use jiff::SignedDuration;

use super::Turn;
use crate::analysis::{Evidence, SloView, WATCH, margin_for_promotion, margin_for_step};
use crate::observed::Measurement;
use crate::plan::{BudgetExhausted, Plan, SloPlan, Step};
use crate::state::{Attempt, SloEvidence, Stage};

/// What a rollout may spend of an exhausted budget, as a part of the usual.
const SLOW_SPEND: f64 = 0.1;
/// Without history, the attempt's own traffic stands for it after this long.
const OWN_HISTORY: SignedDuration = SignedDuration::from_secs(20);

impl Turn<'_> {
    /// The objectives that something is known of, in the plan's order.
    pub(super) fn views<'v>(&'v self, attempt: &'v Attempt) -> Vec<SloView<'v>> {
        self.plan
            .slos
            .iter()
            .filter_map(|slo| {
                let entry = attempt.evidence.iter().find(|e| e.is_of(slo))?;
                Some(self.view(attempt, slo, entry))
            })
            .collect()
    }

    /// One of them.
    pub(super) fn view<'v>(
        &self,
        attempt: &Attempt,
        slo: &'v SloPlan,
        entry: &'v SloEvidence,
    ) -> SloView<'v> {
        let expected_requests = entry
            .expected_requests
            .map(|n| n as f64)
            .or_else(|| own_history(attempt, slo, entry));
        let usual = self.plan.limits.max_budget_spend();
        let slow = self.plan.budget_exhausted == BudgetExhausted::Slow && self.exhausted(attempt).is_some();
        let left = entry.budget_remaining_ppm.map_or(usual, |ppm| ppm as f64 / 1e6);
        SloView {
            name: &slo.name,
            objective: &slo.objective,
            expected_requests,
            may_spend: if slow {
                left.clamp(SLOW_SPEND * usual, usual)
            } else {
                usual
            },
            alone: matches!(attempt.stage, Stage::Baking { .. }),
            evidence: &entry.evidence,
        }
    }
}

impl Turn<'_> {
    /// The time that a wrong promotion is reckoned to spend for: until its watch ends, and an hour at the least, for
    /// nobody looks sooner where there is none. A watch that was made longer on the way counts from the next attempt on:
    /// this one has gathered nothing at so small a margin.
    pub(super) fn reckoned_watch(&self, attempt: &Attempt) -> SignedDuration {
        let watch = longest_watch(self.plan);
        let gathered = |slo: &SloPlan| {
            let margin = margin_for_promotion(&slo.objective, &self.plan.limits, watch);
            let entry = attempt.evidence.iter().find(|entry| entry.is_of(slo));
            entry.is_none_or(|entry| entry.evidence.ln_safe_at(margin).is_finite())
        };
        if self.plan.slos.iter().all(gathered) {
            watch
        } else {
            WATCH
        }
    }
}

fn longest_watch(plan: &Plan) -> SignedDuration {
    plan.watch.max(WATCH)
}

/// The margins that an attempt will ask for.
fn margins(plan: &Plan, attempt: &Attempt, slo: &SloPlan) -> Vec<f64> {
    let weights = attempt.steps.iter().filter_map(Step::weight);
    let steps = weights.map(|weight| margin_for_step(&slo.objective, f64::from(weight) / 100.0));
    let promotions = [longest_watch(plan), WATCH];
    let promotions = promotions.map(|watch| margin_for_promotion(&slo.objective, &plan.limits, watch));
    promotions.into_iter().chain(steps).collect()
}

/// The beginning of an objective's evidence, once something of it could be read. What was read before users
/// were on the canary only shows that it can be. Beside a stable whose counters are no evidence nothing is compared.
pub(super) fn first_reading(
    plan: &Plan,
    attempt: &Attempt,
    index: usize,
    measured: &Measurement,
) -> Option<SloEvidence> {
    let slo = plan.slos.get(index)?;
    let read = measured
        .blocks
        .iter()
        .rev()
        .find(|b| matches!(b.slos.get(index), Some(Some(_))))?;
    let history = measured.history.get(index).copied().unwrap_or_default();
    if history.falls {
        return None;
    }
    let expected = history.rate.map(|rate| rate * slo.objective.window.as_secs_f64());
    let budget = history.budget_remaining.filter(|r| r.is_finite());
    let mut evidence = Evidence::for_margins(&margins(plan, attempt, slo));
    evidence.know(&history.past);
    if attempt.at_once {
        evidence.know_flow(&history.past, plan.block.as_secs_f64());
    }
    Some(SloEvidence {
        name: slo.name.clone(),
        question: slo.question.clone(),
        expected_requests: expected
            .filter(|n| n.is_finite() && *n >= 1.0)
            .map(|n| n.min(1e18) as u64),
        budget_remaining_ppm: budget.map(|r| (r.clamp(-1000.0, 1.0) * 1e6) as i64),
        measured_to: if attempt.exposed_since.is_some() {
            attempt.measured_to
        } else {
            read.end
        },
        newest: None,
        evidence,
    })
}

/// Requests in the window if the attempt's own traffic went on.
pub(super) fn own_history(attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> Option<f64> {
    let counted = entry.measured_to.duration_since(attempt.exposed_since?);
    let requests = entry.evidence.canary().total() + entry.evidence.stable().total();
    (counted >= OWN_HISTORY && requests > 0.0)
        .then(|| requests / counted.as_secs_f64() * slo.objective.window.as_secs_f64())
}

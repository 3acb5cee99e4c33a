//! New counts into evidence, evidence into verdicts.

use jiff::SignedDuration;

use super::Turn;
use super::attempt::End;
use super::resume::first_weight;
use crate::analysis::{
    self, Block, Burn, Evidence, Harm, HarmKind, SloView, WATCH, margin_for_promotion, margin_for_step,
};
use crate::decision::{SloReport, Verdict, VerdictKind};
use crate::observed::{BlockCounts, MeasuredBlock, Measurement, ProblemKind};
use crate::plan::{SloPlan, Step};
use crate::state::{Attempt, NewestBlock, Outcome, SloEvidence, Stage};

/// A block that could not be read for one objective is asked for again this many blocks long; then what it
/// would have said is lost, neither for nor against the canary.
const REREAD_BLOCKS: i32 = 20;
/// Without history, the attempt's own traffic stands for it after this long.
const OWN_HISTORY: SignedDuration = SignedDuration::from_secs(20);

impl Turn<'_> {
    /// Takes in what was measured, and rolls back if it shows harm.
    pub(super) fn follow_evidence(&mut self) {
        let Some(measured) = self.seen.measurement.as_ref() else {
            return;
        };
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        if matches!(
            attempt.stage,
            Stage::Stepping | Stage::Promoting | Stage::Baking { .. }
        ) {
            self.take_in(&mut attempt, measured);
        }
        let harm = analysis::judge_harm(&views(&attempt, &self.plan.slos), &self.plan.limits);
        self.state.attempt = Some(attempt);
        if let Some(harm) = harm {
            self.withdraw(harmed(&harm));
        }
    }

    fn take_in(&mut self, attempt: &mut Attempt, measured: &Measurement) {
        let kept = std::mem::take(&mut attempt.evidence);
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let known = kept.iter().find(|e| e.name == slo.name).cloned();
            attempt
                .evidence
                .extend(known.or_else(|| first_reading(attempt, slo, index, measured)));
        }
        for block in &measured.blocks {
            self.take_in_block(attempt, block);
        }
        // The slowest objective says where to go on, within reason.
        let newest = attempt
            .evidence
            .iter()
            .map(|e| e.measured_to)
            .max()
            .unwrap_or(attempt.measured_to);
        let oldest = attempt
            .evidence
            .iter()
            .map(|e| e.measured_to)
            .min()
            .unwrap_or(attempt.measured_to);
        let bound = newest
            .checked_sub(self.plan.block * REREAD_BLOCKS)
            .unwrap_or(newest);
        if newest > attempt.measured_to {
            attempt.measured_to = oldest.max(bound).max(attempt.measured_to);
        }
    }

    fn take_in_block(&mut self, attempt: &mut Attempt, block: &MeasuredBlock) {
        let exposed = attempt.exposed_since.is_some_and(|since| block.start >= since);
        let weight = if exposed { attempt.weight } else { 0 };
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let Some(Some(counts)) = block.slos.get(index) else {
                continue;
            };
            let Some(entry) = attempt.evidence.iter_mut().find(|e| e.name == slo.name) else {
                continue;
            };
            if block.start < entry.measured_to {
                continue;
            }
            entry.measured_to = block.end;
            let reference = (weight == 100).then(|| entry.evidence.stable_upper_bound());
            entry.evidence.absorb(&Block {
                start: block.start,
                end: block.end,
                canary_weight: weight,
                canary: counts.canary,
                stable: counts.stable,
                reference,
            });
            if exposed {
                entry.newest = Some(NewestBlock {
                    weight,
                    canary: counts.canary,
                    stable: counts.stable,
                });
                let entry = entry.clone();
                let verdict = self.verdict(attempt, slo, &entry, block, *counts);
                self.verdicts.push(verdict);
            }
        }
    }

    fn verdict(
        &self,
        attempt: &Attempt,
        slo: &SloPlan,
        entry: &SloEvidence,
        block: &MeasuredBlock,
        counts: BlockCounts,
    ) -> Verdict {
        let report = self.slo_report(attempt, slo, entry);
        let verdict = if counts.canary.total() > 0.0 {
            report.verdict
        } else {
            VerdictKind::NoData
        };
        Verdict {
            at: block.end,
            step: attempt.step,
            weight: attempt.weight,
            slo: slo.name.clone(),
            canary: counts.canary,
            stable: counts.stable,
            ln_harm: report.ln_harm,
            ln_safe: report.ln_safe,
            margin: self.next_margin(attempt, slo),
            spent: report.spent,
            burn: report.burn,
            verdict,
        }
    }

    /// Where one objective stands.
    pub(super) fn slo_report(&self, attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> SloReport {
        let view = view(attempt, slo, entry);
        let margin = self.next_margin(attempt, slo);
        let ln_safe = entry.evidence.ln_safe_at(margin);
        let harmed = analysis::judge_harm(std::slice::from_ref(&view), &self.plan.limits).is_some();
        let verdict = if harmed {
            VerdictKind::RollBack
        } else if entry.evidence.canary().total() <= 0.0 {
            VerdictKind::NoData
        } else if ln_safe >= self.plan.limits.ln_safe_needed() {
            VerdictKind::Safe
        } else {
            VerdictKind::Continue
        };
        SloReport {
            name: slo.name.clone(),
            ln_harm: entry.evidence.ln_harm(),
            ln_safe,
            canary: entry.evidence.canary(),
            stable: entry.evidence.stable(),
            budget_remaining: entry.budget_remaining_ppm.map(|ppm| ppm as f64 / 1e6),
            spent: view.spent(),
            burn: burn(slo, entry),
            verdict,
        }
    }

    /// The margin that the next move asks for.
    fn next_margin(&self, attempt: &Attempt, slo: &SloPlan) -> f64 {
        let next = attempt
            .steps
            .iter()
            .skip(attempt.step as usize)
            .find_map(|step| match step {
                Step::SetWeight(w) if *w > attempt.weight => Some(*w),
                _ => None,
            });
        match next {
            Some(weight) => margin_for_step(&slo.objective, f64::from(weight) / 100.0),
            None => margin_for_promotion(&slo.objective, &self.plan.limits, WATCH),
        }
    }

    /// Why the evidence does not allow the next move yet: to a weight, or to full traffic.
    pub(super) fn evidence_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<String> {
        if let Some(problem) = self.seen.problem(ProblemKind::Metrics) {
            return Some(problem.message.clone());
        }
        let views = views(attempt, &self.plan.slos);
        if let Some(unread) = self
            .plan
            .slos
            .iter()
            .find(|slo| !views.iter().any(|v| v.name == slo.name))
        {
            return Some(format!("the metrics of {} have not been read yet", unread.name));
        }
        if attempt.weight == 0 && next.is_some() && next == first_weight(attempt).map(|(_, weight)| weight) {
            // Nothing can be known of a revision that nobody has used; after a hold it begins here again.
            return None;
        }
        let limits = &self.plan.limits;
        let lacking = match next {
            Some(weight) => analysis::safe_for_step(&views, limits, f64::from(weight) / 100.0),
            None => analysis::safe_for_promotion(&views, limits, WATCH),
        };
        lacking.err().map(|lack| {
            let needed = limits.ln_safe_needed().exp();
            format!(
                "safe evidence {:.1} of {needed:.0} for {} from {:.0} requests of the canary",
                lack.ln_safe.min(99.0).exp(),
                lack.slo,
                lack.canary_requests
            )
        })
    }

    /// What the rollout spends is known for every objective, and within bounds.
    pub(super) fn spend_is_known_and_within_bounds(&self, attempt: &Attempt) -> bool {
        let views = views(attempt, &self.plan.slos);
        views.len() == self.plan.slos.len()
            && views.iter().all(|v| {
                v.evidence.canary().total() > 0.0
                    && v.spent().is_some_and(|s| s < self.plan.limits.max_budget_spend())
            })
    }
}

/// The beginning of an objective's evidence, once something of it could be read. What was read before users
/// were on the canary only shows that it can be.
fn first_reading(
    attempt: &Attempt,
    slo: &SloPlan,
    index: usize,
    measured: &Measurement,
) -> Option<SloEvidence> {
    let read = measured
        .blocks
        .iter()
        .rev()
        .find(|b| matches!(b.slos.get(index), Some(Some(_))))?;
    let history = measured.history.get(index).copied().flatten();
    let expected = history.map(|h| h.rate * slo.objective.window.as_secs_f64());
    let budget = history.and_then(|h| h.budget_remaining).filter(|r| r.is_finite());
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
        evidence: Evidence::default(),
    })
}

/// How fast both revisions burn the budget now.
fn burn(slo: &SloPlan, entry: &SloEvidence) -> Burn {
    entry.newest.map_or_else(Burn::default, |block| {
        let so_far = entry.evidence.stable().ratio();
        Burn::of(&slo.objective, block.weight, block.canary, block.stable, so_far)
    })
}

fn view<'a>(attempt: &Attempt, slo: &'a SloPlan, entry: &'a SloEvidence) -> SloView<'a> {
    let expected_requests = entry
        .expected_requests
        .map(|n| n as f64)
        .or_else(|| own_history(attempt, slo, entry));
    SloView {
        name: &slo.name,
        objective: &slo.objective,
        expected_requests,
        evidence: &entry.evidence,
    }
}

pub(super) fn views<'a>(attempt: &'a Attempt, slos: &'a [SloPlan]) -> Vec<SloView<'a>> {
    slos.iter()
        .filter_map(|slo| {
            let entry = attempt.evidence.iter().find(|e| e.name == slo.name)?;
            Some(view(attempt, slo, entry))
        })
        .collect()
}

/// Requests in the window if the attempt's own traffic went on.
pub(super) fn own_history(attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> Option<f64> {
    let counted = entry.measured_to.duration_since(attempt.exposed_since?);
    let requests = entry.evidence.canary().total() + entry.evidence.stable().total();
    (counted >= OWN_HISTORY && requests > 0.0)
        .then(|| requests / counted.as_secs_f64() * slo.objective.window.as_secs_f64())
}

fn harmed(harm: &Harm) -> End {
    let reason = match harm.kind {
        HarmKind::Evidence => "HarmShown",
        HarmKind::BudgetSpent => "BudgetSpent",
    };
    End::new(Outcome::RolledBack, reason, harm.to_string())
}

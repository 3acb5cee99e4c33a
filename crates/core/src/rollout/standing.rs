//! Where each objective stands: what a block said of it, and all that is known so far.

use super::Turn;
use crate::analysis::{self, Burn, Harm, margin_for_promotion, margin_for_step};
use crate::decision::{SloReport, Verdict, VerdictKind};
use crate::observed::{BlockCounts, MeasuredBlock};
use crate::plan::{SloPlan, Step};
use crate::state::{Attempt, SloEvidence, Stage};

impl Turn<'_> {
    pub(super) fn verdict(
        &self,
        attempt: &Attempt,
        slo: &SloPlan,
        entry: &SloEvidence,
        block: &MeasuredBlock,
        counts: &BlockCounts,
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
            // A block that ended before the weight rose was counted at the one before.
            weight: entry
                .newest
                .map_or(attempt.weight, |newest| newest.weight.min(attempt.weight)),
            slo: slo.name.clone(),
            canary: counts.canary,
            stable: counts.stable,
            ln_harm: entry.evidence.ln_harm(),
            ln_harm_from_start: entry.evidence.ln_harm_from_start(),
            ln_harm_alone: matches!(attempt.stage, Stage::Baking { .. })
                .then(|| entry.evidence.ln_harm_alone()),
            ln_safe: report.ln_safe,
            margin: self.next_margin(attempt, slo),
            spent: report.spent,
            burn: report.burn,
            verdict,
        }
    }

    /// Where one objective stands.
    pub(super) fn slo_report(&self, attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> SloReport {
        let view = self.view(attempt, slo, entry);
        let margin = self.next_margin(attempt, slo);
        let ln_safe = entry.evidence.ln_safe_at(margin);
        let (slos, limits) = (self.plan.slos.len(), &self.plan.limits);
        let harm = analysis::judge_harm(std::slice::from_ref(&view), slos, limits);
        // A suspicion is told by its transition. Where all users moved at once it takes them back.
        let convicts = |harm: &Harm| attempt.at_once && !harm.may_be_the_callers();
        let harmed = harm.is_some_and(|harm| !harm.alone || convicts(&harm));
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
            ln_harm: view.ln_harm(),
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
    pub(super) fn next_margin(&self, attempt: &Attempt, slo: &SloPlan) -> f64 {
        let next = attempt
            .steps
            .iter()
            .skip(attempt.step as usize)
            .filter_map(Step::weight)
            .find(|weight| *weight > attempt.weight);
        match next {
            Some(weight) => margin_for_step(&slo.objective, f64::from(weight) / 100.0),
            None => margin_for_promotion(&slo.objective, &self.plan.limits, self.reckoned_watch(attempt)),
        }
    }
}

/// How fast both revisions burn the budget now.
fn burn(slo: &SloPlan, entry: &SloEvidence) -> Burn {
    entry.newest.map_or_else(Burn::default, |block| {
        let so_far = entry.evidence.stable().ratio();
        Burn::of(&slo.objective, block.weight, block.canary, block.stable, so_far)
    })
}

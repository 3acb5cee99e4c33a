//! What the canary's share of the answers says of a move: a canary that completes too little of it does not
//! get on, whatever the quality of what it does complete.

use super::Turn;
use super::preview::is_previewed;
use super::waits::Wait;
use crate::analysis::{LN_MOST_ENOUGH, SloView, Unanswered};
use crate::plan::OnShareMismatch;
use crate::state::Attempt;

/// What is missing may come to this part of what the attempt may spend: the rest is for a dwell that has begun, and for
/// blocks that are not read yet or in which the weight rose.
const SILENT_PART: f64 = 0.7;

impl Turn<'_> {
    /// The share of any objective's requests is not what the weight should bring, beyond doubt: a sentence.
    pub(super) fn share_mismatch(&self, attempt: &Attempt, views: &[SloView<'_>]) -> Option<String> {
        if !self.share_counts(attempt) {
            return None;
        }
        views.iter().find_map(|view| {
            let part = view.evidence.share_disagrees()?;
            Some(format!(
                "the canary completes {:.0} % of the requests of {} that its weight should bring: it may not answer some, or many callers do not come by the route (then set analysis.onShareMismatch: Ignore)",
                part * 100.0,
                view.name
            ))
        })
    }

    /// Full traffic asks for more: that the canary is shown to answer, by the objective with the most requests.
    /// One that leaves few of its requests without an answer
    /// is not found short for long, and would leave as many of everybody's.
    pub(super) fn share_wait(&self, attempt: &Attempt, views: &[SloView<'_>]) -> Option<Wait> {
        let ln = self.ln_share_lacking(attempt, views)?;
        Some(Wait::Safety(format!(
            "evidence {:.1} of {:.0} that the canary completes its share, more than 77 % of the requests that its weight should bring: it may not answer some, or many callers do not come by the route (then set analysis.onShareMismatch: Ignore)",
            ln.exp(),
            self.share_needed().exp()
        )))
    }

    /// What becomes of the requests that nobody saw answered: as long as it is not shown that the canary completes its share,
    /// they may have failed.
    pub(super) fn unanswered(&self, attempt: &Attempt, views: &[SloView<'_>]) -> Unanswered {
        let shown =
            self.share_mismatch(attempt, views).is_none() && self.ln_share_lacking(attempt, views).is_none();
        if shown {
            Unanswered::Ignored
        } else {
            Unanswered::Failed
        }
    }

    /// It is not shown that the canary completes its share, and if it fails the requests that nobody saw answered, it has
    /// spent what it may: a sentence. Nobody is to blame, but its users are not to wait for the deadline.
    pub(super) fn spent_in_silence(&self, attempt: &Attempt) -> Option<String> {
        let views = self.views(attempt);
        if self.unanswered(attempt, &views) == Unanswered::Ignored {
            return None;
        }
        let over = |view: &&SloView<'_>| {
            view.evidence.missing() > 0.0
                && view
                    .spent_unanswered()
                    .is_some_and(|spent| spent >= SILENT_PART * view.may_spend)
        };
        let view = views.iter().find(over)?;
        Some(format!(
            "{}: {:.0} requests that were due to the canary were not seen answered; if they failed, the rollout has spent {:.2} % of the error budget, and analysis.maxBudgetSpend allows {:.2} % (if many callers do not come by the route, set analysis.onShareMismatch: Ignore)",
            view.name,
            view.evidence.missing(),
            view.spent_unanswered().unwrap_or(0.0) * 100.0,
            view.may_spend * 100.0
        ))
    }

    /// Logarithm of the evidence that the canary completes its share, where that counts and is not enough.
    pub(super) fn ln_share_lacking(&self, attempt: &Attempt, views: &[SloView<'_>]) -> Option<f64> {
        let busiest = views
            .iter()
            .max_by(|a, b| a.requests().total_cmp(&b.requests()))?;
        let ln = busiest.evidence.ln_share_shown();
        (self.share_counts(attempt) && ln < self.share_needed()).then_some(ln)
    }

    fn share_needed(&self) -> f64 {
        self.plan.limits.ln_safe_needed().min(LN_MOST_ENOUGH)
    }

    fn share_counts(&self, attempt: &Attempt) -> bool {
        // Nobody knows how much comes by a header, or in copies, and connections are not divided as requests.
        self.plan.on_share_mismatch != OnShareMismatch::Ignore
            && (1..100).contains(&attempt.weight)
            && !is_previewed(attempt)
            && !self.divides_by_pods()
            && !self.plan.sticky
    }
}

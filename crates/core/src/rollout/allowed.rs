//! Whether the evidence and the budget allow the next move.

use jiff::SignedDuration;

use super::resume::first_weight;
use super::waits::Wait;
use super::{Turn, after};
use crate::analysis::{self, Overdraft, SloView};
use crate::observed::ProblemKind;
use crate::plan::{BudgetExhausted, SloPlan, Step};
use crate::state::{Attempt, Patience, Stage};

/// A step is reckoned to last this long at least: harm is not seen at once.
const LEAST_STEP: SignedDuration = SignedDuration::from_secs(LEAST_DWELL as i64);
/// The same, in seconds.
const LEAST_DWELL: u32 = 60;
/// What passes between the sight of harm and the last request that it meets: the router and its connections.
const REACTION: SignedDuration = SignedDuration::from_secs(60);
/// A wait for evidence is prolonged this often at most, each time by the progress deadline.
const MOST_PATIENCE: u8 = 5;
/// Growth of the evidence for safety that prolongs a wait, in thousandths of its natural logarithm.
const GROWTH: i64 = 100;

impl Turn<'_> {
    /// Why the evidence does not allow the next move yet: to a weight, or to full traffic.
    pub(super) fn evidence_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<Wait> {
        if let Some(what) = self.unread(attempt) {
            return Some(Wait::Evidence(what));
        }
        let views = self.views(attempt);
        let limits = &self.plan.limits;
        // Nothing can be known of a revision that nobody has used; after a hold it begins here again.
        let begins = first_weight(attempt).map(|(_, weight)| weight);
        let first = attempt.weight == 0 && next.is_some() && next == begins;
        if first && let Some(what) = self.refusal(attempt) {
            return Some(Wait::Person(what));
        }
        if let Some((_, what)) = self.unsound(attempt) {
            return Some(Wait::Evidence(what));
        }
        let share = next.map_or(1.0, |weight| self.plan.share_of(weight));
        // A way back is not kept waiting for what nobody can know of it yet.
        let exempt = first && self.is_way_back(attempt);
        if let Some(over) = self.overdraft(attempt, &views, next).filter(|_| !exempt) {
            let missing = if over.unanswered > 0.0 {
                format!(
                    ", if the {:.0} requests failed that were due to the canary and not seen answered",
                    over.unanswered
                )
            } else {
                String::new()
            };
            let what = format!(
                "{:.0} % of the traffic could spend {:.2} % of the error budget of {}, and {:.2} % are left to this rollout{missing}",
                share * 100.0,
                over.could_spend * 100.0,
                over.slo,
                over.left.max(0.0) * 100.0
            );
            // Nothing can be known of a revision that nobody has used: only a person can take that risk.
            return Some(if first {
                Wait::Person(format!(
                    "{what}: `promote` takes the risk, a smaller first step avoids it"
                ))
            } else {
                Wait::Safety(what)
            });
        }
        if first {
            return None;
        }
        if let Some(wait) = self.block_wait(attempt) {
            return Some(wait);
        }
        let lacking = match next {
            Some(_) => analysis::safe_for_step(&views, limits, share),
            None => analysis::safe_for_promotion(&views, limits, self.reckoned_watch(attempt)),
        };
        let unsafe_yet = lacking.err().map(|lack| {
            let needed = limits.ln_safe_needed().exp();
            Wait::Safety(format!(
                "safe evidence {:.1} of {needed:.0} for {} from {:.0} requests of the canary",
                lack.ln_safe.min(99.0).exp(),
                lack.slo,
                lack.canary_requests
            ))
        });
        unsafe_yet.or_else(|| next.is_none().then(|| self.share_wait(attempt, &views))?)
    }

    /// What the move to a weight, or to full traffic, could spend beyond what is left to the rollout.
    fn overdraft(&self, attempt: &Attempt, views: &[SloView<'_>], next: Option<u8>) -> Option<Overdraft> {
        // The last step lasts as long as the bake; what could be spent afterwards, bounds the last margin.
        let (share, time) = next.map_or((1.0, self.plan.bake), |weight| {
            (self.plan.share_of(weight), time_at(attempt))
        });
        // Every block is weighed against the budget, and a step that overspends ends there: what it can spend
        // beyond is what passes until that is seen and undone, however long it would have lasted.
        let time = time.max(LEAST_STEP).min(self.plan.block * 2 + REACTION);
        let unanswered = self.unanswered(attempt, views);
        analysis::affordable(views, &self.plan.limits, share, time, unanswered).err()
    }

    /// Where less of the budget is left than one rollout may spend, and the first step could spend more than that, a smaller one
    /// comes before it: as large as the budget bears.
    pub(super) fn begins_smaller(&mut self, attempt: &Attempt, weight: u8) -> bool {
        let is_first = attempt.weight == 0 && first_weight(attempt) == Some((attempt.step, weight));
        let slow = self.plan.budget_exhausted == BudgetExhausted::Slow;
        if !is_first || !slow || attempt.is_cleared() || self.unread(attempt).is_some() {
            return false;
        }
        let views = self.views(attempt);
        let bears = |weight: &u8| self.overdraft(attempt, &views, Some(*weight)).is_none();
        let Some((slo, remaining)) = self.exhausted(attempt).filter(|_| !bears(&weight)) else {
            return false;
        };
        let Some(smaller) = (1..weight).rev().find(bears) else {
            return false;
        };
        let what = format!(
            "{:.1} % of the error budget of {slo} are left: it begins with {smaller} % for {} s before the {weight} % of its first step",
            remaining * 100.0,
            LEAST_STEP.as_secs() * 2
        );
        let before = [Step::SetWeight(smaller), Step::Dwell(LEAST_DWELL)];
        let at = attempt.step as usize;
        self.update(|a| drop(a.steps.splice(at..at, before)));
        self.note("BeginsSmaller", what);
        true
    }

    /// What keeps the first user from the canary: nobody could watch over them, or their error budget is spent.
    pub(super) fn unwatched(&self, attempt: &Attempt) -> Option<Wait> {
        let unread = self.unread(attempt).map(Wait::Evidence);
        unread.or_else(|| self.refusal(attempt).map(Wait::Person))
    }

    /// Why something that decides can't be read, or has not been yet.
    fn unread(&self, attempt: &Attempt) -> Option<String> {
        if let Some(problem) = self.seen.problem(ProblemKind::Metrics) {
            return Some(problem.message.clone());
        }
        let is_read = |slo: &&SloPlan| attempt.evidence.iter().any(|entry| entry.is_of(slo));
        let unread = self.plan.slos.iter().find(|slo| !is_read(slo))?;
        Some(format!("the metrics of {} have not been read yet", unread.name))
    }

    /// Each weight is looked at before the next one, by a whole block at least that was read while the router had it:
    /// what a weight brings about, a full queue for instance, lower ones have not shown.
    fn block_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if attempt.weight == 0 {
            return None;
        }
        let looked_at = attempt.in_force_since.is_some_and(|since| {
            let end = after(since, self.plan.block);
            attempt.evidence.iter().all(|entry| entry.measured_to >= end)
        });
        (!looked_at).then(|| {
            Wait::Evidence(format!(
                "nothing has been read yet of a whole block of {} s with the weight at {} %",
                self.plan.block.as_secs(),
                attempt.weight
            ))
        })
    }

    /// What keeps the evidence from being used for a move, although it can be read: a word for the condition,
    /// and a sentence.
    pub(super) fn unsound(&self, attempt: &Attempt) -> Option<(&'static str, String)> {
        let views = self.views(attempt);
        if let Some(what) = self.incident(attempt) {
            return Some(("SharedIncident", what));
        }
        self.share_mismatch(attempt, &views)
            .map(|what| ("ShareMismatch", what))
    }

    /// Why no user may be put on the canary without a person's word.
    fn refusal(&self, attempt: &Attempt) -> Option<String> {
        if self.plan.budget_exhausted != BudgetExhausted::Refuse {
            return None;
        }
        let (slo, remaining) = self.exhausted(attempt)?;
        Some(format!(
            "{:.1} % of the error budget of {slo} are left, and one rollout may spend {:.1} %: analysis.budgetExhausted is Refuse; `promote` starts it all the same",
            remaining * 100.0,
            self.plan.limits.max_budget_spend() * 100.0
        ))
    }

    /// The first objective with less budget left than one rollout may spend, and what is left of it, 1 for
    /// all. None for a way back to the revision that was stable before, which is always allowed, and where a person has
    /// overridden it.
    pub(super) fn exhausted<'a>(&self, attempt: &'a Attempt) -> Option<(&'a str, f64)> {
        let back = self.is_way_back(attempt) || attempt.overridden.is_some();
        attempt.evidence.iter().find_map(|entry| {
            let remaining = entry.budget_remaining_ppm? as f64 / 1e6;
            (!back && remaining < self.plan.limits.max_budget_spend())
                .then_some((entry.name.as_str(), remaining))
        })
    }

    /// The attempt goes back to the revision that was stable before.
    pub(super) fn is_way_back(&self, attempt: &Attempt) -> bool {
        let last = self.state.last.as_ref();
        last.is_some_and(|last| last.stable.as_ref() == Some(&attempt.revision))
    }

    /// A wait for evidence is worth while as long as the evidence grows: how far it has come, if that is
    /// further than when the wait was last prolonged.
    pub(super) fn patience(&self, attempt: &Attempt) -> Option<Patience> {
        let before = attempt.patience.unwrap_or(Patience {
            times: 0,
            safe_milli: i64::MIN,
            requests: 0,
        });
        let views = self.views(attempt);
        let requests = views
            .iter()
            .map(|v| v.evidence.canary().total())
            .fold(f64::INFINITY, f64::min);
        let share = self
            .ln_share_lacking(attempt, &views)
            .filter(|_| attempt.stage == Stage::Promoting);
        let safe = self
            .plan
            .slos
            .iter()
            .zip(&views)
            .map(|(slo, view)| view.evidence.ln_safe_at(self.next_margin(attempt, slo)))
            .chain(share)
            .fold(f64::INFINITY, f64::min);
        let now = Patience {
            times: before.times + 1,
            safe_milli: (safe * 1000.0) as i64,
            requests: requests as u64,
        };
        let grows = views.len() == self.plan.slos.len()
            && safe.is_finite()
            && now.requests > before.requests
            && now.safe_milli >= before.safe_milli.saturating_add(GROWTH);
        (grows && before.times < MOST_PATIENCE).then_some(now)
    }

    /// What the rollout spends is known for every objective, and within bounds. What the canary does not answer
    /// is in no count.
    pub(super) fn spend_is_known_and_within_bounds(&self, attempt: &Attempt) -> bool {
        let views = self.views(attempt);
        views.len() == self.plan.slos.len()
            && self.share_mismatch(attempt, &views).is_none()
            && self.spent_in_silence(attempt).is_none()
            && views
                .iter()
                .all(|v| v.evidence.canary().total() > 0.0 && v.spent().is_some_and(|s| s < v.may_spend))
    }
}

/// How long the step that a move leads to stays before the next one.
fn time_at(attempt: &Attempt) -> SignedDuration {
    let later = attempt.steps.iter().skip(attempt.step as usize + 1);
    let seconds = later
        .take_while(|step| step.weight().is_none())
        .map(|step| match step {
            Step::Dwell(seconds) => i64::from(*seconds),
            _ => 0,
        })
        .sum();
    SignedDuration::from_secs(seconds)
}

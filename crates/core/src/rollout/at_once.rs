//! Blue/green: all users move at once, and back at once; nobody meets both revisions in between.
//!
//! So nothing is compared side by side. What can be tried before, is: Jobs, and requests that come by a header. In the
//! bake the new revision is judged beside what the old one did before, and it has to be shown no worse by more than the
//! margin of a promotion before it is over.

use super::Turn;
use super::conditions::lack;
use super::preview::is_previewed;
use super::waits::Wait;
use crate::analysis::margin_for_promotion;
use crate::plan::{Check, OnShareMismatch, SloPlan};
use crate::state::{Attempt, SloEvidence, Stage};

impl Turn<'_> {
    /// Why neither evidence nor conditions allow the next move yet: to a weight, or to full traffic.
    pub(super) fn move_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<Wait> {
        if attempt.at_once && next.is_none() {
            self.switch_wait(attempt)
        } else {
            self.verdict_wait(attempt, next)
        }
    }

    /// What keeps all users from moving at once. Nobody can know of a revision that nobody has used how it does; what
    /// can be tried before, must have succeeded.
    fn switch_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if let Some(wait) = self.unwatched(attempt) {
            return Some(wait);
        }
        if let Some(what) = self.incident(attempt) {
            return Some(Wait::Evidence(what));
        }
        let tried = |check: &Check| check.job().is_some() || is_previewed(attempt);
        let conditions = self.deciding_conditions().filter(|plan| tried(&plan.check));
        let mut lacks = conditions.filter_map(|plan| lack(attempt, plan, attempt.weight));
        lacks.next().map(Wait::Evidence)
    }

    /// A revision that all users are to move to at once is tried by Jobs before the first of them does.
    pub(super) fn is_tried_before_users(&self, attempt: &Attempt) -> bool {
        let needed = self.scaled_pods(attempt).max(1);
        attempt.at_once
            && attempt.weight == 0
            && !matches!(attempt.stage, Stage::Baking { .. })
            && attempt.cleared_step != Some(u32::try_from(attempt.steps.len()).unwrap_or(u32::MAX))
            && self.seen.available(&attempt.revision) >= needed
    }

    /// The attempt moves all users at once to a revision that never served them, or there is no other.
    fn is_new_to_all(&self, attempt: &Attempt) -> bool {
        let at_once = attempt.at_once || self.state.stable.is_none();
        at_once && !self.state.served.contains(&attempt.revision)
    }

    /// Far fewer answers than usual take all users back: they have just moved, all of them, to a revision that is new to
    /// them, and nobody is to meet both. That as many callers went away in that very moment is less likely.
    pub(super) fn convicts_at_once(&self) -> bool {
        let counts = self.plan.on_share_mismatch != OnShareMismatch::Ignore;
        let of = |attempt: &Attempt| attempt.at_once && self.is_new_to_all(attempt);
        counts && self.state.stable.is_some() && self.attempt().is_some_and(of)
    }

    /// What a revision with all the traffic is judged beside: what stable's rate was, as far as that is known.
    pub(super) fn reference(&self, attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> f64 {
        if self.is_new_to_all(attempt) {
            entry.evidence.reference_at_once(&slo.objective)
        } else {
            entry.evidence.stable_upper_bound()
        }
    }

    /// Why the bake of a revision that all users moved to at once is not over: only a positive verdict promotes.
    pub(super) fn shown_in_bake(&self, attempt: &Attempt) -> Option<Wait> {
        if !self.is_new_to_all(attempt) {
            return None;
        }
        self.plan.slos.iter().find_map(|slo| {
            let entry = attempt.evidence.iter().find(|entry| entry.is_of(slo))?;
            let margin = margin_for_promotion(&slo.objective, &self.plan.limits, self.reckoned_watch(attempt));
            let reference = self.reference(attempt, slo, entry).max(slo.objective.bad_fraction);
            let (bound, most) = (entry.evidence.canary_upper_bound(), reference + margin);
            (bound > most).then(|| {
                Wait::Safety(format!(
                    "at most {:.2} % of the requests of {} may be bad, and from {:.0} requests of the new revision no less than {:.2} % can be ruled out",
                    most * 100.0,
                    slo.name,
                    entry.evidence.canary().total(),
                    bound * 100.0
                ))
            })
        })
    }
}

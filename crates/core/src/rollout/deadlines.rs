//! What becomes of an attempt that does not get on: deadlines, and the policy for what stays undecided.

use super::Turn;
use super::attempt::End;
use super::doubt::is_open;
use super::preview::is_used;
use super::report::pods_are_ready;
use super::waits::Wait;
use crate::analysis::Harm;
use crate::plan::OnInconclusive;
use crate::state::{Attempt, Hold, Outcome, Stage};

/// The reason of an attempt that got stuck.
pub(super) const STUCK: &str = "ProgressDeadlineExceeded";

impl Turn<'_> {
    /// At a deadline: a stuck rollout goes back, an undecided one follows the policy.
    pub(super) fn check_deadline(&mut self, attempt: &Attempt, wait: &Wait) -> bool {
        let of_evidence =
            matches!(wait, Wait::Evidence(_) | Wait::Safety(_)) && attempt.incident_since.is_none();
        let spent = || {
            self.spent_in_silence(attempt)
                .or_else(|| self.spent_in_doubt(attempt))
        };
        if let Some(what) = of_evidence.then(spent).flatten() {
            self.undecided(attempt, &what);
            return true;
        }
        if attempt.deadline.is_none_or(|deadline| self.now < deadline) {
            return false;
        }
        match wait {
            Wait::World(what) => self.stuck(what),
            Wait::Person(_) => return false,
            // Neither the canary nor anybody who waits for it can end that.
            Wait::Evidence(_) if attempt.incident_since.is_some() => return false,
            Wait::Evidence(what) => self.undecided(attempt, what),
            Wait::Safety(what) => match self.patience(attempt) {
                Some(patience) => {
                    let deadline = self.progress_until();
                    self.update(|a| {
                        a.patience = Some(patience);
                        a.deadline = Some(deadline);
                    });
                }
                None => self.undecided(attempt, what),
            },
        }
        true
    }

    /// What the attempt may spend is spent, and nothing shows yet whether by chance: a sentence. Nobody is to blame, and
    /// nothing is left to wait with.
    fn spent_in_doubt(&self, attempt: &Attempt) -> Option<String> {
        // While a comparison is under way, what it finds decides: it has just taken the traffic away.
        if self.is_way_back(attempt) || attempt.overridden.is_some() || is_open(attempt) {
            return None;
        }
        let views = self.views(attempt);
        let view = views.iter().find(|view| view.has_spent_its_part())?;
        Some(format!(
            "{}: the rollout has spent {:.2} % of the error budget and may spend {:.2} %, which may be chance",
            view.name,
            view.spent().unwrap_or(0.0) * 100.0,
            view.may_spend * 100.0
        ))
    }

    fn stuck(&mut self, what: &str) {
        let message = format!("no progress before the deadline: {what}");
        self.withdraw(End::new(Outcome::RolledBack, STUCK, message));
    }

    /// Harm is suspected once more after comparisons have refuted it: no evidence decides that.
    pub(super) fn leave_undecided(&mut self, harm: &Harm) {
        let Some(attempt) = self.attempt().cloned() else {
            return;
        };
        let what = format!("{harm}, under all traffic alone, after it was refuted beside stable");
        self.undecided(&attempt, &what);
    }

    fn undecided(&mut self, attempt: &Attempt, what: &str) {
        let rival = self.state.rival.as_ref().map_or_else(String::new, |rival| {
            format!(
                "; meanwhile {} wrote the weights of the route back",
                rival.manager
            )
        });
        let message = format!("neither harm nor safety could be shown in time: {what}{rival}");
        let budget_safe =
            self.spend_is_known_and_within_bounds(attempt) && self.conditions_wait(attempt, None).is_none();
        match self.plan.on_inconclusive {
            OnInconclusive::Rollback => {
                self.withdraw(End::new(Outcome::Inconclusive, "Inconclusive", message));
            }
            OnInconclusive::PromoteIfBudgetSafe
                if budget_safe && !matches!(attempt.stage, Stage::Baking { .. }) =>
            {
                let deadline = self.progress_until();
                self.update(|a| {
                    a.cleared_step = Some(a.step);
                    a.deadline = Some(deadline);
                });
                self.note(
                    "PromotedWithinBudget",
                    format!("{message}; what it spends is within bounds"),
                );
            }
            OnInconclusive::Pause | OnInconclusive::PromoteIfBudgetSafe => {
                self.enter(Stage::Held, None);
                let basis = self.plan.basis.clone();
                self.update(|a| {
                    a.hold = Some(Hold {
                        basis,
                        weight: a.weight,
                    });
                    a.weight = 0;
                });
                self.note(
                    "Inconclusive",
                    format!(
                        "{message}; no traffic, waits for a person to promote or abort; goes on by itself once spec.slos, spec.metrics or spec.analysis is corrected"
                    ),
                );
            }
        }
    }

    /// While it dwells or bakes no deadline runs, but a canary without a ready pod may not stay for ever.
    pub(super) fn check_unready(&mut self, attempt: &Attempt) -> bool {
        let ready = self.seen.ready(&attempt.revision);
        if ready > 0 || !is_used(attempt) {
            if attempt.deadline.is_some() {
                self.update(|a| a.deadline = None);
            }
            return false;
        }
        if attempt.deadline.is_none() {
            let deadline = self.progress_until();
            self.update(|a| a.deadline = Some(deadline));
            let view = self.seen.revisions.get(&attempt.revision);
            let what = match view.map_or(0, |view| view.ready) {
                0 => "the canary has no ready pod".to_owned(),
                ready => format!(
                    "{}, and the Service of revision {} leads to none of them: it was deleted or changed, and is put right",
                    pods_are_ready(ready),
                    attempt.revision
                ),
            };
            self.note(
                "CanaryUnavailable",
                format!("{what}; its traffic goes to stable meanwhile"),
            );
            return false;
        }
        let wait = Wait::World(self.pods_wait(attempt, 1));
        self.check_deadline(attempt, &wait)
    }
}

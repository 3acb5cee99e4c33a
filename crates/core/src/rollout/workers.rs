//! Workers: pods that take their work themselves, from a queue. No router stands before them, so a pod works as long as it
//! runs, and to start one is to put users on it ([ADR 33](../../../../docs/adr/0033-workers-move-by-their-pods.md)).
//!
//! The canary's part is its part of the pods. Stable keeps all of its own until the canary has as many, then it has none:
//! what the queue holds meanwhile is lost by nobody. On the way back the canary stops as stable's pods come.

use super::Turn;
use super::room::Pods;
use crate::plan::{Revision, RouteMode};
use crate::state::{Attempt, Stage};

impl Turn<'_> {
    /// Pods take their work themselves.
    pub(super) fn pulls(&self) -> bool {
        self.plan.route.pulls()
    }

    /// Whom a revision is for, in the plural: nobody calls workers, so they have no users.
    pub(super) fn users(&self) -> &'static str {
        match self.plan.route {
            RouteMode::Runs => "runs",
            RouteMode::Workers | RouteMode::Singleton => "tasks",
            RouteMode::Owned | RouteMode::Adopted | RouteMode::Shares => "users",
        }
    }

    /// That all of them are a revision's.
    pub(super) fn has_all_text(&self) -> &'static str {
        if self.pulls() {
            "has all tasks"
        } else {
            "serves all users"
        }
    }

    /// What scaling to zero means.
    pub(super) fn nobody_text(&self) -> &'static str {
        if self.pulls() {
            "no task is done"
        } else {
            "nobody is served"
        }
    }

    /// What the canary gets a part of, for people.
    pub(super) fn share_word(&self) -> &'static str {
        if self.pulls() { "the work" } else { "the traffic" }
    }

    /// What both revisions should have; `asks`: pods that the canary needs for where it is cleared to go.
    pub(super) fn pods_of_workers(&self, attempt: &Attempt, stable: &Revision, has: Pods, asks: u32) -> Pods {
        let replicas = self.plan.replicas;
        match attempt.stage {
            // It works until somebody else does: bad work is better than none, and rarely is all of it bad.
            Stage::Withdrawing { .. } | Stage::Held => Pods {
                stable: replicas,
                canary: has
                    .canary
                    .min(replicas.saturating_sub(self.seen.available(stable))),
            },
            _ if attempt.weight == 100 => {
                let ready = self.seen.available(&attempt.revision);
                Pods {
                    // It only gives way, so that a pod that is moved to another node brings no old one back.
                    stable: if ready == 0 && self.seen.ready(&attempt.revision) == 0 {
                        replicas
                    } else {
                        has.stable.min(replicas.saturating_sub(ready))
                    },
                    canary: asks.max(replicas),
                }
            }
            _ => Pods {
                stable: replicas.max(has.stable),
                canary: asks,
            },
        }
    }

    /// Pods that workers of further revisions keep between them and a loss of work: as many as stable and the canary lack.
    /// They have their part of the work because they run, so nobody takes it from them first. `None`: they aren't workers.
    pub(super) fn kept_by_others(&self) -> Option<u32> {
        let works = |revision: &Revision| self.seen.available(revision);
        let stable = self.state.stable.as_ref().map_or(0, works);
        let canary = self.attempt().map_or(0, |a| works(&a.revision));
        self.pulls()
            .then(|| self.plan.replicas.saturating_sub(stable.saturating_add(canary)))
    }

    /// Workers may start: once they run they work, so it must be known before that somebody looks at them.
    pub(super) fn may_begin_to_work(&self, attempt: &Attempt, weight: u8) -> bool {
        !self.pulls() || attempt.is_cleared() || self.verdict_wait(attempt, Some(weight)).is_none()
    }
}

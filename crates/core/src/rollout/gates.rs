//! What ends an attempt without statistics: pods that can't run, a clock that went back.

use jiff::Timestamp;

use super::attempt::End;
use super::preview::is_used;
use super::{CRASHES_BEFORE_TRAFFIC, CRASHES_UNDER_TRAFFIC, Turn, after};
use crate::observed::{Crashes, RevisionView, TroubleKind};
use crate::state::{Attempt, Outcome, Stage};

impl Turn<'_> {
    /// What ends an attempt without statistics: pods that can't run.
    pub(super) fn hard_gate(&self, attempt: &Attempt) -> Option<End> {
        let first = self.state.stable.is_none();
        if first || matches!(attempt.stage, Stage::Withdrawing { .. } | Stage::Settling) {
            return None;
        }
        if let Some(end) = self.clock_went_back(attempt) {
            return Some(end);
        }
        if let Some(end) = self.crashed_under_traffic(attempt) {
            return Some(end);
        }
        if self.seen.revisions.get(&attempt.revision)?.altered {
            return Some(End::new(
                Outcome::RolledBack,
                "RevisionAltered",
                format!(
                    "the pod template in the ReplicaSet of revision {} was changed since its first pods were created, so what would be promoted is not what is tested: change spec.template of the PythonService instead",
                    attempt.revision
                ),
            ));
        }
        let trouble = self.seen.revisions.get(&attempt.revision)?.trouble.as_ref()?;
        // While the only pod waits for a dependency nobody does its work.
        let most = if self.is_singleton() {
            1
        } else {
            CRASHES_BEFORE_TRAFFIC
        };
        match trouble.kind {
            TroubleKind::CrashLoop if attempt.exposed_since.is_none() && trouble.restarts >= most => {
                Some(End::new(
                    Outcome::RolledBack,
                    "CanaryCrashLooping",
                    format!(
                        "the canary crashed {} times: {}",
                        trouble.restarts, trouble.message
                    ),
                ))
            }
            TroubleKind::BadContainer => Some(End::new(
                Outcome::RolledBack,
                "CanaryCannotStart",
                trouble.message.clone(),
            )),
            _ => None,
        }
    }

    /// A container ended too often since users came. What it did before, waiting for a dependency for instance,
    /// is not held against it, and one that runs again at the moment is not acquitted.
    pub(super) fn crashed_under_traffic(&self, attempt: &Attempt) -> Option<End> {
        let since = attempt.exposed_since?;
        let view = self.seen.revisions.get(&attempt.revision)?;
        let of_users = |ends: &[Timestamp]| ends.iter().filter(|end| **end >= since).count();
        let worst = view.crashes.iter().max_by_key(|c| of_users(&c.ends))?;
        let times = of_users(&worst.ends);
        let containers = view.crashes.iter().filter(|c| of_users(&c.ends) > 0).count();
        // Each may have crashed but once: what one pod did by chance, half of them did not.
        let half = half_of(view);
        let what = if self.is_singleton() && times > 0 {
            "the only pod crashed".to_owned()
        } else if times >= CRASHES_UNDER_TRAFFIC {
            format!("the canary crashed {times} times since it has had users")
        } else if containers >= half.max(CRASHES_UNDER_TRAFFIC) {
            format!("{containers} containers of the canary crashed since it has had users")
        } else {
            return None;
        };
        Some(End::new(
            Outcome::RolledBack,
            "CanaryCrashLooping",
            format!("{what}: {}", worst.message),
        ))
    }

    /// When the last of the canary's crashes in this bake was, if half of its pods crashed. Fewer than what takes it back
    /// may be chance; but a bake that only went on would have shown what a fresh process does.
    pub(super) fn crashed_in_bake(&self, attempt: &Attempt) -> Option<&Crashes> {
        let view = self.seen.revisions.get(&attempt.revision)?;
        let in_bake = |c: &&Crashes| c.ends.last().is_some_and(|end| *end >= attempt.since);
        let crashed = || view.crashes.iter().filter(in_bake);
        (crashed().count() >= half_of(view))
            .then(|| crashed().max_by_key(|c| c.ends.last().copied()))
            .flatten()
    }

    /// What was read of the canary lies ahead of the clock: until the clock is there again nothing new is read,
    /// and no deadline comes, so nobody would watch over its users.
    fn clock_went_back(&self, attempt: &Attempt) -> Option<End> {
        let unwatched = attempt.measured_to > after(self.now, self.plan.progress_deadline);
        (is_used(attempt) && unwatched).then(|| {
            End::new(
                Outcome::Inconclusive,
                "ClockWentBack",
                format!(
                    "the operator's clock says {:.0}, and the metrics were read up to {:.0} already: nothing new can be read of the canary; check the time of the operator's node, then try the revision again",
                    self.now, attempt.measured_to
                ),
            )
        })
    }
}

/// Half of a revision's pods, rounded up; one at least.
fn half_of(view: &RevisionView) -> usize {
    view.pods.div_ceil(2).max(1) as usize
}

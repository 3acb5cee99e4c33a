//! Somebody has deleted the ReplicaSet of the stable revision while the spec asks for another one.
//!
//! Its template went with it, so it can't be made again, and users have nothing to go back to: the router leads them to what
//! pods there are. What they are on is judged as a first revision is from then on, which nothing takes them away from, and
//! it gets all the pods that the service should have. Where the other one was taken back, or is being, what served before
//! stable is stable again, if it is still there; if nothing is, what was taken back serves: a poor answer is better than none.

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::{Turn, after};
use crate::plan::Revision;
use crate::state::{Outcome, Stage};

/// So long it must be gone: what a restore or a relist brings back soon is not given up.
const GONE_FOR: SignedDuration = SignedDuration::from_secs(10);

impl Turn<'_> {
    /// Gives a stable revision up that can't serve any more.
    pub(super) fn leave_lost_stable(&mut self) {
        let Some(stable) = self.lost_stable() else {
            self.state.stable_lost_since = None;
            return;
        };
        let since = *self.state.stable_lost_since.get_or_insert(self.now);
        if self.now < after(since, GONE_FOR) {
            return;
        }
        self.state.stable_lost_since = None;
        self.state.watch = None;
        self.state.restart = None;
        let lost = format!(
            "the ReplicaSet of stable revision {stable} is gone, and without its template it can't be made again"
        );
        if let Some(back) = self.served_before(&stable) {
            self.note(
                "StableLost",
                format!("{lost}: revision {back}, which served before it, is stable again; apply the template of {stable} to have it back"),
            );
            self.state.retiring.retain(|retiring| retiring.revision != back);
            self.state
                .served
                .retain(|served| *served != back && *served != stable);
            self.state.stable = Some(back);
            return;
        }
        self.state.stable = None;
        if self
            .state
            .pinned
            .as_ref()
            .is_some_and(|pin| pin.revision == stable)
        {
            self.state.pinned = None;
        }
        let Some(attempt) = self.attempt() else {
            let was = if self.forgive() {
                ", though it was taken back, for there is no other"
            } else {
                ""
            };
            self.note(
                "StableLost",
                format!("{lost}: what the spec asks for serves as a first revision does{was}; apply the template of {stable} to have it back"),
            );
            return;
        };
        let revision = attempt.revision.clone();
        let end = match &attempt.stage {
            Stage::Withdrawing {
                outcome,
                reason,
                message,
            } => End::new(*outcome, reason, message.clone()),
            _ => End::new(Outcome::Aborted, "StableLost", lost.clone()),
        };
        self.note(
            "StableLost",
            format!("{lost}: users are on revision {revision}, which has nothing to go back to; apply the template of {stable} to have it back"),
        );
        self.finish(end);
        self.forgive();
        if self.wanted().as_ref() != Some(&revision) && self.seen.ready(&revision) > 0 {
            // The next one is compared with what users are on.
            self.state
                .retiring
                .retain(|retiring| retiring.revision != revision);
            self.state.stable = Some(revision);
        }
    }

    /// Nothing else is there to serve: what is asked for is tried again, though it was taken back.
    fn forgive(&mut self) -> bool {
        let is_wanted = self.state.refused.is_some() && self.state.refused == self.wanted();
        if is_wanted {
            self.state.refused = None;
        }
        is_wanted
    }

    /// What served before a stable revision that is lost, where the other one is known not to be fit to.
    fn served_before(&self, stable: &Revision) -> Option<Revision> {
        let unfit = match self.attempt() {
            Some(attempt) if matches!(attempt.stage, Stage::Withdrawing { .. }) => attempt.revision.clone(),
            Some(_) => return None,
            None => self
                .state
                .refused
                .clone()
                .filter(|r| self.wanted().as_ref() == Some(r))?,
        };
        let fits = |revision: &&Revision| {
            let view = self.seen.revisions.get(*revision);
            *revision != stable
                && **revision != unfit
                && view.is_some_and(|view| !view.altered)
                && !self.is_barred(revision)
        };
        self.state.served.iter().find(fits).cloned()
    }

    /// When it is to be given up.
    pub(super) fn lost_at(&self) -> Option<Timestamp> {
        self.state.stable_lost_since.map(|since| after(since, GONE_FOR))
    }

    fn lost_stable(&self) -> Option<Revision> {
        let stable = self.state.stable.as_ref()?;
        let spec = self.plan.revision.as_ref()?;
        // A Deployment that is taken over or given back serves beside it, and runs have their own memory of it.
        let is_lost = stable != spec
            && !self.seen.revisions.contains_key(stable)
            && self.state.adoption.is_none()
            && !self.by_runs();
        is_lost.then(|| stable.clone())
    }
}

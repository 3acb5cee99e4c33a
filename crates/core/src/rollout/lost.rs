//! Somebody has deleted the ReplicaSet of the stable revision while the spec asks for another one.
//!
//! Its template went with it, so it can't be made again, and users have nothing to go back to: the router leads them to what
//! pods there are. What they are on is judged as a first revision is from then on, which nothing takes them away from, and
//! it gets all the pods that the service should have.

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
        self.state.stable = None;
        self.state.watch = None;
        self.state.restart = None;
        if self
            .state
            .pinned
            .as_ref()
            .is_some_and(|pin| pin.revision == stable)
        {
            self.state.pinned = None;
        }
        let lost = format!(
            "the ReplicaSet of stable revision {stable} is gone, and without its template it can't be made again"
        );
        let Some(attempt) = self.attempt() else {
            self.note(
                "StableLost",
                format!("{lost}: what the spec asks for serves as a first revision does; apply the template of {stable} to have it back"),
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
        if self.wanted().as_ref() != Some(&revision) && self.seen.ready(&revision) > 0 {
            // The next one is compared with what users are on.
            self.state
                .retiring
                .retain(|retiring| retiring.revision != revision);
            self.state.stable = Some(revision);
        }
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

//! Somebody else who changes how many pods a revision has: an autoscaler that aims at a ReplicaSet instead of the
//! PythonService, or a person.
//!
//! What users need is put back within a second. Pods too many harm nobody: they are taken back less and less often.

use jiff::{SignedDuration, Timestamp};

use super::{Turn, after};
use crate::plan::Revision;
use crate::state::Scaler;

/// The first wait before pods too many are taken back again, from the second time on; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(300);
/// How long it must keep still to be forgotten. An autoscaler looks every 15 seconds.
const CALM: SignedDuration = SignedDuration::from_mins(15);
/// Longest name that is kept.
const MOST_NAME: usize = 128;

impl Turn<'_> {
    /// Notes who has changed the number of pods of a revision that serves or is tried.
    pub(super) fn watch_scaling(&mut self) {
        let of_state = self
            .state
            .stable
            .iter()
            .chain(self.state.attempt.as_ref().map(|a| &a.revision));
        let found = of_state.filter_map(|revision| {
            let by = self.seen.revisions.get(revision)?.scaled_by.as_ref()?;
            Some((revision.clone(), by.chars().take(MOST_NAME).collect::<String>()))
        });
        let found = found.max_by_key(|(revision, _)| {
            // The one that is known already, if there are two.
            self.state
                .scaler
                .as_ref()
                .is_some_and(|known| known.revision == *revision)
        });
        let Some((revision, manager)) = found else {
            let calm = |scaler: &Scaler| self.now >= after(scaler.last, CALM);
            if self.state.scaler.as_ref().is_some_and(calm) {
                self.state.scaler = None;
            }
            return;
        };
        match &mut self.state.scaler {
            Some(known) if known.revision == revision && known.manager == manager => {}
            known => {
                let times = known.as_ref().map_or(0, |known| known.times);
                *known = Some(Scaler {
                    manager,
                    revision,
                    last: self.now,
                    times,
                });
            }
        }
    }

    /// When a number of pods that somebody else has written is changed again; `None`: at once.
    fn scale_again_at(&self, revision: &Revision, has: u32, pods: u32) -> Option<Timestamp> {
        let scaler = self
            .state
            .scaler
            .as_ref()
            .filter(|scaler| scaler.revision == *revision)?;
        self.seen.revisions.get(revision)?.scaled_by.as_ref()?;
        let doublings = scaler.times.checked_sub(1)?;
        let wait = FIRST_WAIT * 2i32.pow(doublings.min(16));
        let longest = if pods < has { LONGEST_WAIT } else { FIRST_WAIT };
        Some(after(scaler.last, wait.min(longest)))
    }

    /// The number of pods waits before it is taken back from somebody else.
    pub(super) fn waits_to_scale(&self, revision: &Revision, has: u32, pods: u32) -> bool {
        self.scale_again_at(revision, has, pods)
            .is_some_and(|at| self.now < at)
    }

    /// Notes that a number of pods is taken back.
    pub(super) fn note_scaling(&mut self, revision: &Revision) {
        let theirs = self
            .seen
            .revisions
            .get(revision)
            .is_some_and(|view| view.scaled_by.is_some());
        if let Some(scaler) = &mut self.state.scaler
            && scaler.revision == *revision
            && theirs
        {
            scaler.last = self.now;
            scaler.times = scaler.times.saturating_add(1);
        }
    }

    /// When to look again.
    pub(super) fn scale_again_times(&self) -> Vec<Timestamp> {
        let Some(scaler) = &self.state.scaler else {
            return Vec::new();
        };
        let calm = after(scaler.last, CALM);
        let again = self.seen.revisions.get(&scaler.revision).and_then(|view| {
            let pods = *self.wanted_pods().get(&scaler.revision)?;
            self.scale_again_at(&scaler.revision, view.wanted, pods)
                .filter(|_| pods != view.wanted)
        });
        again.into_iter().chain([calm]).collect()
    }

    /// What is to be told of it.
    pub(super) fn scaler_text(&self) -> Option<String> {
        let Scaler {
            manager, revision, ..
        } = self.state.scaler.as_ref()?;
        Some(format!(
            "{manager} changed spec.replicas of the ReplicaSet of revision {revision} less than {} minutes ago, and Molt sets it again, of pods too many each time after a longer wait: how many pods each revision has is part of the rollout; let the HorizontalPodAutoscaler, ScaledObject or script aim at the PythonService instead (scaleTargetRef: apiVersion molt.dev/v1alpha1, kind PythonService, and the service's name)",
            CALM.as_mins()
        ))
    }
}

//! A restart that a person asked for: the pods of stable are replaced one after the other, by pods of the same template.
//!
//! A ReplicaSet starts a pod only in place of one that is gone, so one more is asked for while it lasts: a pod that
//! serves is evicted only while one more serves than is wanted. An eviction is the API server's own question to every
//! disruption budget; a refusal is waited out.

use jiff::{SignedDuration, Timestamp};

use super::people::MOST_BY;
use super::{Turn, after};
use crate::decision::{Effect, Phase};
use crate::observed::{ActionView, PodView};
use crate::state::Restart;

/// When an eviction that may have been refused is asked for again: nothing tells when a budget allows it.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Pods of the second of a restart that are remembered: with more of them, the others of it stay.
const MOST_SAME: usize = 64;

/// The pod was there before a restart. Ages are whole seconds, and the first pod of a restart comes within its own.
fn is_older(restart: &Restart, pod: &PodView) -> bool {
    pod.created_at < restart.since || (pod.created_at == restart.since && restart.same.contains(&pod.uid))
}

impl Turn<'_> {
    /// Begins a restart of the stable revision; one under way begins anew.
    pub(super) fn restart(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        if let Some(attempt) = self.attempt() {
            let (number, revision) = (attempt.number, &attempt.revision);
            return Err(format!(
                "attempt {number} at revision {revision} is under way: it is compared with stable's pods as they are, and brings new ones when it is promoted; wait for its end, or abort it first; nothing was changed"
            ));
        }
        let Some(stable) = self.state.stable.clone() else {
            return Err("no revision is stable; nothing was changed".to_owned());
        };
        if action.revision.as_ref().is_some_and(|r| *r != stable) || action.attempt.is_some() {
            return Err(format!(
                "it was meant for another revision or attempt; a restart is of the stable revision, {stable}; nothing was changed"
            ));
        }
        if self.is_singleton() {
            return Err(
                "only one pod may run, and a ReplicaSet starts the next one before the last is gone: change spec.template, an annotation for instance, and the old pod is stopped before the new one starts; nothing was changed"
                    .to_owned(),
            );
        }
        if self.by_runs() {
            return Err(
                "each run has pods of its own, so there are none to restart; nothing was changed".to_owned(),
            );
        }
        if self.plan.replicas == 0 {
            return Err("scaled to zero: there is no pod to restart; nothing was changed".to_owned());
        }
        match self.seen.revisions.get(&stable) {
            None => {
                return Err(format!(
                    "there is no ReplicaSet of revision {stable}; nothing was changed"
                ));
            }
            Some(view) if view.altered => {
                return Err(format!(
                    "somebody changed the pod template in the ReplicaSet of revision {stable}: new pods would not be what was tested; nothing was changed"
                ));
            }
            Some(_) => {}
        }
        // By the API server's clock, as the ages of the pods are.
        let since = action.created_at.unwrap_or(self.now);
        let pods = self.seen.stable_pods.iter().flat_map(|seen| &seen.pods);
        let same = pods.filter(|pod| pod.created_at == since && !pod.leaving);
        let restart = Restart {
            revision: stable.clone(),
            since,
            same: same.map(|pod| pod.uid.clone()).take(MOST_SAME).collect(),
            by: by.chars().take(MOST_BY).collect(),
            pods: 0,
            left: 0,
            deadline: after(self.now, self.plan.progress_deadline),
        };
        let left = u32::try_from(self.older(&restart).len()).unwrap_or(u32::MAX);
        self.state.restart = Some(Restart {
            pods: left,
            left,
            ..restart
        });
        // Before one more is asked for: that one is not to be taken for the service's own.
        self.state.strength = Some(self.plan.replicas);
        let message = format!("the pods of revision {stable} are replaced one after the other");
        self.note("RestartedByPerson", format!("{message} {by}"));
        Ok(message)
    }

    /// Ends a restart: with its work, its deadline, or what is more than it.
    pub(super) fn follow_restart(&mut self) {
        let Some(restart) = self.state.restart.clone() else {
            return;
        };
        if self.plan.deleting {
            self.state.restart = None;
            return;
        }
        let revision = &restart.revision;
        if let Some(attempt) = self.attempt() {
            let what = format!(
                "attempt {} at revision {} begins",
                attempt.number, attempt.revision
            );
            return self.stop_restart(&restart, &what);
        }
        let view = self.seen.revisions.get(revision);
        if self.state.stable.as_ref() != Some(revision) || view.is_none() {
            return self.stop_restart(&restart, &format!("revision {revision} is no longer there"));
        }
        if view.is_some_and(|view| view.altered) {
            return self.stop_restart(&restart, "somebody changed the pod template in its ReplicaSet");
        }
        if self.seen.stable_pods.is_none() {
            return;
        }
        let left = u32::try_from(self.older(&restart).len()).unwrap_or(u32::MAX);
        if left == 0 && self.seen.ready(revision) >= self.plan.replicas {
            self.state.restart = None;
            let (by, pods) = (&restart.by, restart.pods);
            let message =
                format!("no pod of revision {revision} is left of the {pods} from before the restart {by}");
            self.note_end_of_restart(&message);
            return self.note("RestartDone", message);
        }
        let deadline = after(self.now, self.plan.progress_deadline);
        if let Some(restart) = self.state.restart.as_mut().filter(|r| left < r.left) {
            restart.left = left;
            restart.deadline = deadline;
        } else if self.now >= restart.deadline {
            let what = format!("no progress before the deadline: {}", self.restart_wait(&restart));
            self.stop_restart(&restart, &what);
        }
    }

    fn stop_restart(&mut self, restart: &Restart, what: &str) {
        self.state.restart = None;
        let (done, pods, by) = (
            restart.pods.saturating_sub(restart.left),
            restart.pods,
            &restart.by,
        );
        let message = format!("the restart {by} ends with {done} of {pods} pods replaced: {what}");
        self.note_end_of_restart(&message);
        self.note("RestartStopped", message);
    }

    /// Pods that stable has beyond what is wanted, while a restart needs them.
    pub(super) fn restart_surge(&self) -> u32 {
        u32::from(self.state.restart.is_some() && self.state.attempt.is_none() && self.plan.replicas > 0)
    }

    /// The next pod to go, if one may go now.
    pub(super) fn evict(&self) -> Option<Effect> {
        let restart = self.state.restart.as_ref()?;
        let pods = &self.seen.stable_pods.as_ref()?.pods;
        let starts = |pod: &PodView| !is_older(restart, pod) && !pod.ready && !pod.leaving;
        if pods.iter().any(starts) {
            // What replaces the last one has to serve first: new pods that don't get ready must not be all there is.
            return None;
        }
        let spare = self.seen.ready(&restart.revision) > self.plan.replicas;
        let mut old = self.older(restart);
        old.retain(|pod| spare || !pod.ready);
        // Those that serve nobody first, the oldest of them.
        let next = old
            .into_iter()
            .min_by_key(|pod| (pod.ready, pod.created_at, pod.name.clone()))?;
        Some(Effect::Evict {
            pod: next.name.clone(),
            uid: next.uid.clone(),
        })
    }

    /// Pods of stable from before a restart that are not on their way out.
    fn older(&self, restart: &Restart) -> Vec<&PodView> {
        let pods = self.seen.stable_pods.iter().flat_map(|seen| &seen.pods);
        pods.filter(|pod| is_older(restart, pod) && !pod.leaving)
            .collect()
    }

    /// When a restart is to be looked at again.
    pub(super) fn restart_at(&self) -> Option<Timestamp> {
        let restart = self.state.restart.as_ref()?;
        let again = self.evict().map(|_| after(self.now, AGAIN));
        Some(again.map_or(restart.deadline, |again| again.min(restart.deadline)))
    }

    fn restart_wait(&self, restart: &Restart) -> String {
        let revision = &restart.revision;
        let refused = self.seen.stable_pods.as_ref().and_then(|s| s.refused.as_ref());
        if let (Some(why), Some(_)) = (refused, self.evict()) {
            return why.clone();
        }
        let (ready, wanted) = (
            self.seen.ready(revision),
            self.plan.replicas + self.restart_surge(),
        );
        let trouble = self
            .seen
            .revisions
            .get(revision)
            .and_then(|v| v.trouble.as_ref())
            .map_or_else(String::new, |t| format!(": {}", t.message));
        format!("{ready} of {wanted} pods are ready{trouble}")
    }

    /// Where the service is while stable is restarted.
    pub(super) fn with_restart(&self, phase: Phase, message: String) -> (Phase, String) {
        let Some(restart) = &self.state.restart else {
            return (phase, message);
        };
        let text = format!(
            "restarted {}: {} of {} pods of revision {} are replaced; {}",
            restart.by,
            restart.pods.saturating_sub(restart.left),
            restart.pods,
            restart.revision,
            self.restart_wait(restart)
        );
        match phase {
            Phase::Healthy => (Phase::Progressing, text),
            other => (other, format!("{message}; {text}")),
        }
    }
}

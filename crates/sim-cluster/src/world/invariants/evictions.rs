//! The operator ends no pod, but those of stable while a person's restart is under way.

use molt_sim_api::store::Change;

use super::{World, label};

/// How long an eviction may be on its way that was asked for before the restart ended, in milliseconds.
const ON_ITS_WAY: u64 = 30_000;

impl World {
    /// Notes whether stable is being restarted.
    pub(super) fn note_restart(&mut self) {
        let restart = self
            .service()
            .map(|s| s["status"]["state"]["restart"]["revision"].clone());
        let revision = restart.as_ref().and_then(|r| r.as_str()).map(str::to_owned);
        let now = self.now;
        match (revision, &mut self.checks.restart) {
            (Some(revision), restart) => *restart = Some((revision, None)),
            (None, Some((_, ended @ None))) => *ended = Some(now),
            (None, _) => {}
        }
    }

    /// The operator has changed a pod.
    pub(super) fn check_pod(&mut self, change: &Change) {
        let revision = label(&change.after, "molt.dev/revision");
        let asked = self.checks.restart.as_ref().is_some_and(|(restarted, ended)| {
            restarted == revision && ended.is_none_or(|at| self.now.saturating_sub(at) <= ON_ITS_WAY)
        });
        let ends = change.deleted || change.after["metadata"]["deletionTimestamp"].is_string();
        if !asked || !ends {
            self.violate("pods", format!("the operator changes pod {}", change.key.name));
        }
    }
}

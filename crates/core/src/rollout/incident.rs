//! An incident that stable has as well: nothing goes on while it lasts, and it is no fault of the canary's.

use super::Turn;
use crate::analysis;
use crate::state::Attempt;

impl Turn<'_> {
    /// What an incident is told by, while there is one. A way back is not kept waiting by it: it may be what ends it.
    /// Neither is what a person has overridden it for.
    pub(super) fn incident(&self, attempt: &Attempt) -> Option<String> {
        if self.is_way_back(attempt) || attempt.overridden.is_some() {
            return None;
        }
        let views = self.views(attempt);
        let (slo, burn) = analysis::incident(&views, attempt.incident_since.is_some())?;
        Some(format!(
            "stable burns the error budget of {slo} {burn:.1} times as fast as its window allows: an incident that the canary is not shown to cause; the rollout waits until it is over"
        ))
    }

    /// Tells when an incident begins to keep the attempt waiting, and when it no longer does.
    pub(super) fn tell_of_incident(&mut self) {
        let Some(attempt) = self.attempt() else { return };
        let (lasts, since) = (self.incident(attempt), attempt.incident_since);
        let now = self.now;
        match (lasts, since) {
            (Some(what), None) => {
                self.update(|a| a.incident_since = Some(now));
                self.note("SharedIncident", what);
            }
            (None, Some(since)) => {
                let deadline = self.progress_until();
                self.update(|a| {
                    a.incident_since = None;
                    // The time that it took is no lack of progress.
                    a.deadline = a.deadline.map(|d| d.max(deadline));
                    a.evidence.iter_mut().for_each(|e| e.evidence.incident_is_over());
                });
                let lasted = now.duration_since(since).as_secs();
                self.note(
                    "IncidentOver",
                    format!("stable's rate is back to the usual after {lasted} s; the rollout goes on"),
                );
            }
            _ => {}
        }
    }
}

//! Without a router: the Service of the service's own name divides its connections over the pods behind it. With one it does
//! so for callers inside the cluster, where they are to meet the canary as well.
//!
//! It leads to stable, to the pods of both revisions while the canary has a part, or to the new one. Stable stays at full
//! strength until the bake is over, so the canary's part is at most a half before it has all; what part it really has is
//! observed.

use super::Turn;
use crate::decision::Effect;
use crate::observed::Slot;
use crate::plan::Revision;
use crate::state::{Attempt, Stage};

/// Whose pods it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lead {
    /// Those of one revision.
    One(Revision),
    /// Those of every revision.
    All,
}

impl Turn<'_> {
    pub(super) fn divides_by_pods(&self) -> bool {
        self.plan.route.is_by_pods()
    }

    /// The service of the service's own name leads to the pods of both revisions while the canary has a part.
    pub(super) fn leads_by_pods(&self) -> bool {
        self.divides_by_pods() || self.plan.shared_in_cluster
    }

    /// Callers inside the cluster are led to this revision, whatever its weight in the route.
    pub(super) fn leads_to(&self, revision: &Revision) -> bool {
        // Without a router that is the weight.
        let all = self.seen.shared && !self.divides_by_pods();
        let by_name = self.seen.selected.get(&Slot::InCluster);
        all || by_name.is_some_and(|selection| selection.revision == *revision)
    }

    /// What part of the pods that callers inside the cluster are led to is the canary's, where they meet both.
    pub(super) fn in_cluster_text(&self, attempt: &Attempt) -> Option<String> {
        if !self.seen.shared || self.divides_by_pods() {
            return None;
        }
        let canary = self.seen.ready(&attempt.revision);
        let all = canary + self.state.stable.as_ref().map_or(0, |r| self.seen.ready(r));
        Some(format!(
            "callers inside the cluster meet it at {canary} of {all} pods"
        ))
    }

    /// Whose pods it should lead to now; `None` while there is nobody to lead to.
    fn wanted_lead(&self) -> Option<Lead> {
        let (stable, attempt) = match (&self.state.stable, self.attempt()) {
            (None, None) => return None,
            (Some(revision), None) => return Some(Lead::One(revision.clone())),
            (None, Some(attempt)) => return Some(Lead::One(attempt.revision.clone())),
            (Some(stable), Some(attempt)) => (stable, attempt),
        };
        let canary = || Lead::One(attempt.revision.clone());
        let home = || Lead::One(stable.clone());
        let (ready, at_home) = (self.seen.ready(&attempt.revision), self.seen.ready(stable));
        // Pods that take a quarter more for the moment carry everything.
        let carries = |pods: u32| u64::from(pods) * 125 >= u64::from(self.plan.replicas) * 100;
        if ready == 0 {
            return Some(home());
        }
        if at_home == 0 {
            // Nothing else can answer: an unproven answer is better than none.
            return Some(canary());
        }
        Some(match attempt.stage {
            Stage::Withdrawing { .. } | Stage::Held => {
                let was_used = self.written_weight(attempt) > 0;
                if was_used && !carries(at_home) && self.are_alone(attempt) {
                    Lead::All
                } else {
                    home()
                }
            }
            _ if attempt.weight == 0 => home(),
            _ if attempt.weight == 100 => {
                if carries(ready) {
                    canary()
                } else {
                    home()
                }
            }
            _ if self.are_alone(attempt) => Lead::All,
            _ => home(),
        })
    }

    /// No third revision has pods, which would be led to as well.
    pub(super) fn are_alone(&self, attempt: &Attempt) -> bool {
        self.third(attempt).is_none()
    }

    /// A revision that has pods, beside stable and the canary.
    pub(super) fn third(&self, attempt: &Attempt) -> Option<&Revision> {
        let ours = |revision: &Revision| {
            *revision == attempt.revision || self.state.stable.as_ref() == Some(revision)
        };
        let mut others = self.seen.revisions.iter().filter(|(revision, _)| !ours(revision));
        others
            .find(|(_, view)| view.wanted > 0 || view.ready > 0)
            .map(|(revision, _)| revision)
    }

    /// Whose pods it leads to, as it is.
    fn lead(&self) -> Option<Lead> {
        if self.seen.shared {
            return Some(Lead::All);
        }
        let selected = self.seen.selected.get(&Slot::InCluster)?;
        Some(Lead::One(selected.revision.clone()))
    }

    /// It leads where it should.
    pub(super) fn leads_as_wanted(&self) -> bool {
        if self.pulls() {
            return self.attempt().is_none_or(|a| self.has_share(a, a.weight));
        }
        self.wanted_lead() == self.lead()
    }

    /// The canary has the part that comes of asking for this weight.
    pub(super) fn has_share(&self, attempt: &Attempt, weight: u8) -> bool {
        let written = self.written_weight(attempt);
        match weight {
            0 | 100 => written == weight,
            _ => {
                let ready = self.seen.ready(&attempt.revision);
                (self.seen.shared || self.pulls()) && written > 0 && ready >= self.plan.pods_for(weight)
            }
        }
    }

    /// Points it where it should lead, never from pods that serve to none.
    pub(super) fn lead_on(&self, effects: &mut Vec<Effect>) {
        match self.wanted_lead() {
            Some(lead) if self.lead().as_ref() == Some(&lead) => {}
            Some(Lead::All) => effects.push(Effect::Share),
            Some(Lead::One(revision)) => {
                let serves = self.seen.shared
                    || self
                        .seen
                        .selected
                        .get(&Slot::InCluster)
                        .is_some_and(|s| s.endpoints > 0);
                if !serves || self.seen.ready(&revision) > 0 {
                    effects.push(Effect::Select {
                        slot: Slot::InCluster,
                        revision,
                    });
                }
            }
            None => {}
        }
    }
}

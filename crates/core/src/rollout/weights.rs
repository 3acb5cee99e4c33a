//! Who gets which share of the traffic.

use super::Turn;
use super::doubt::is_open;
use crate::observed::{Backend, Slot, Weights};
use crate::plan::{Revision, RouteMode};
use crate::state::{Attempt, Stage};

impl Turn<'_> {
    /// The canary's backend in the route.
    fn canary_backend(&self, revision: &Revision) -> Backend {
        match self.plan.route {
            RouteMode::Adopted => Backend::Slot(Slot::Canary),
            _ => Backend::Revision(revision.clone()),
        }
    }

    /// The canary's weight as the route has it, acknowledged or not.
    pub(super) fn written_weight(&self, attempt: &Attempt) -> u8 {
        let backend = self.canary_backend(&attempt.revision);
        let selects_it = match self.plan.route {
            RouteMode::Adopted => self
                .seen
                .selected
                .get(&Slot::Canary)
                .is_some_and(|s| s.revision == attempt.revision),
            _ => true,
        };
        if selects_it {
            self.seen.route.weights.get(&backend).copied().unwrap_or(0)
        } else {
            0
        }
    }

    /// The router has acknowledged that the canary has this weight.
    pub(super) fn acknowledged(&self, attempt: &Attempt, weight: u8) -> bool {
        let has = if self.divides_by_pods() {
            self.has_share(attempt, weight)
        } else {
            self.written_weight(attempt) == weight
        };
        self.seen.route.acknowledged && has
    }

    /// The weight that any backend gives to a revision, as the route has it.
    pub(super) fn weight_of(&self, revision: &Revision) -> u8 {
        self.seen
            .route
            .weights
            .iter()
            .filter(|(backend, _)| match backend {
                Backend::Revision(r) => r == revision,
                Backend::Slot(slot) => self
                    .seen
                    .selected
                    .get(slot)
                    .is_some_and(|s| s.revision == *revision),
            })
            .fold(0u8, |sum, (_, w)| sum.saturating_add(*w))
    }

    /// The canary's share that the route should have now. `None`: leave the route as it is.
    fn canary_share(&self, attempt: &Attempt, stable: &Revision) -> u8 {
        let canary_ready = self.seen.ready(&attempt.revision);
        let stable_ready = self.seen.ready(stable);
        let routable = self.routable(attempt);
        if canary_ready == 0 {
            return 0;
        }
        if stable_ready == 0 {
            // Nothing else can answer: an unproven answer is better than none.
            return 100;
        }
        match attempt.stage {
            Stage::Withdrawing { .. } | Stage::Held => {
                self.retreat(self.written_weight(attempt), stable_ready, canary_ready)
            }
            Stage::Settling => 0,
            // All users or none: pods that take a quarter more for the moment carry all of them.
            _ if attempt.at_once => {
                let carries = u64::from(routable) * 125 >= u64::from(self.plan.replicas) * 100;
                if carries { attempt.weight } else { 0 }
            }
            _ => {
                // Where stable has given up pods, those that are left share what the canary's can't carry.
                let made_room = self.makes_room(attempt) && stable_ready < self.plan.replicas;
                let back = is_open(attempt);
                if made_room && !back {
                    let kept = self.retreat(self.written_weight(attempt), stable_ready, canary_ready);
                    return attempt.weight.min(self.plan.weight_for(routable).max(kept));
                }
                let share = attempt.weight.min(self.plan.weight_for(routable));
                // Stable takes back what its pods can carry.
                share.max(if back {
                    self.retreat(self.written_weight(attempt), stable_ready, canary_ready)
                } else {
                    0
                })
            }
        }
    }

    /// What the canary must keep for the moment because stable's ready pods can't carry it yet.
    ///
    /// The pods that serve now carry everything; each can take a quarter more for the moment, the surge
    /// that deployments plan for. Stable never gets less than it has.
    fn retreat(&self, canary_weight: u8, stable_ready: u32, canary_ready: u32) -> u8 {
        let serving = (stable_ready + canary_ready).min(self.plan.replicas).max(1);
        let carries = (stable_ready * 125 / serving).min(100);
        let kept = 100u32.saturating_sub(carries);
        canary_weight.min(u8::try_from(kept).unwrap_or(100))
    }

    /// The weights that the route should have; `None` while there is nothing to route to, or no route.
    pub(super) fn wanted_weights(&self) -> Option<Weights> {
        if self.divides_by_pods() {
            return None;
        }
        match (&self.state.stable, self.attempt()) {
            (None, None) => None,
            (None, Some(attempt)) => {
                // A first revision: the route comes once it can carry its traffic.
                let serves = matches!(attempt.stage, Stage::Deploying | Stage::Baking { .. });
                (serves && attempt.weight == 100).then(|| self.split(&attempt.revision, None, 0))
            }
            (Some(stable), None) => Some(self.split(stable, None, 0)),
            (Some(stable), Some(attempt)) => {
                // Where it has lost its pods, scaled to zero for instance, the old revision may still have some.
                let serves = self.seen.ready(&attempt.revision) > 0 || self.seen.ready(stable) == 0;
                if attempt.stage == Stage::Settling && serves && !self.stable_slot_ready(&attempt.revision) {
                    return Some(self.split(stable, Some(&attempt.revision), 100));
                }
                Some(self.split(
                    stable,
                    Some(&attempt.revision),
                    self.canary_share(attempt, stable),
                ))
            }
        }
    }

    /// `<service>-stable` selects the revision and has endpoints of it.
    pub(super) fn stable_slot_ready(&self, revision: &Revision) -> bool {
        self.seen
            .selected
            .get(&Slot::Stable)
            .is_some_and(|s| s.revision == *revision && (s.endpoints > 0 || self.plan.replicas == 0))
    }

    fn split(&self, stable: &Revision, canary: Option<&Revision>, share: u8) -> Weights {
        let mut weights = self.shares_of(stable, canary, share);
        // Whoever has a session on a revision stays there at any weight. Before it has users, its place is
        // for the proxies to learn of it.
        if self.plan.sticky && self.attempt().is_some_and(|a| a.raised_at.is_some()) {
            weights.retain(|_, weight| *weight > 0);
        }
        weights
    }

    fn shares_of(&self, stable: &Revision, canary: Option<&Revision>, share: u8) -> Weights {
        let mut weights = Weights::new();
        if self.plan.route == RouteMode::Adopted {
            weights.insert(Backend::Slot(Slot::Stable), 100 - share);
            weights.insert(Backend::Slot(Slot::Canary), share);
            return weights;
        }
        weights.insert(Backend::Revision(stable.clone()), 100 - share);
        if let Some(canary) = canary {
            weights.insert(Backend::Revision(canary.clone()), share);
        }
        weights
    }
}

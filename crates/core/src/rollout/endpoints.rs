//! Which of the canary's pods the router can know of.
//!
//! A pod is ready, a moment later it is an endpoint of its Service, and another moment later the proxies have its
//! address. A weight that begins in between is answered by a proxy that has nobody to send to. So pods carry a weight
//! once they have been endpoints for [`SETTLE`] ([ADR 27](../../../../docs/adr/0027-endpoints-settle.md)). The way back
//! waits for nothing.

use jiff::{SignedDuration, Timestamp};

use super::{Turn, after};
use crate::observed::Slot;
use crate::plan::{Revision, RouteMode};
use crate::state::{Attempt, Coming, Endpoints};

/// How long a router may take to learn of new endpoints.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(2);

/// When the router is taken to know the endpoints that have come.
pub(super) fn known_at(attempt: &Attempt) -> Option<Timestamp> {
    let coming = attempt.endpoints.as_ref()?.coming.as_ref()?;
    Some(after(coming.since, SETTLE))
}

impl Turn<'_> {
    /// Notes which endpoints of the canary have come and gone.
    pub(super) fn follow_endpoints(&mut self) {
        let Some(attempt) = self.attempt() else { return };
        // Without a router nobody has to learn of them: an address is led to once it is programmed.
        if self.divides_by_pods() || self.state.stable.is_none() {
            return self.update(|a| a.endpoints = None);
        }
        let (now, serving) = (self.now, self.endpoints_of(&attempt.revision));
        // What was there before the attempt, or before an older version's, the router knows.
        let mut endpoints = attempt.endpoints.unwrap_or(Endpoints {
            known: serving,
            coming: None,
        });
        if let Some(coming) = &mut endpoints.coming {
            // A clock that went back must not make anybody wait for it.
            coming.since = coming.since.min(now);
            if now >= after(coming.since, SETTLE) {
                endpoints.known = coming.pods;
                endpoints.coming = None;
            }
        }
        endpoints.known = endpoints.known.min(serving);
        if serving <= endpoints.known {
            endpoints.coming = None;
        } else if endpoints.coming.is_none() {
            // More that come meanwhile wait for their own time, so that these don't wait for them.
            endpoints.coming = Some(Coming {
                pods: serving,
                since: now,
            });
        }
        self.update(|a| a.endpoints = Some(endpoints));
    }

    /// Pods of a revision behind the name that the route knows it by.
    pub(super) fn endpoints_of(&self, revision: &Revision) -> u32 {
        let ready = self.seen.ready(revision);
        match self.plan.route {
            RouteMode::Adopted => {
                let named = self.seen.selected.get(&Slot::Canary);
                let behind = named.filter(|name| name.revision == *revision);
                ready.min(behind.map_or(0, |name| name.endpoints))
            }
            _ => ready,
        }
    }

    /// Pods of the canary that serve, and that the router knows.
    pub(super) fn routable(&self, attempt: &Attempt) -> u32 {
        let ready = self.seen.ready(&attempt.revision);
        attempt.endpoints.map_or(ready, |e| e.known.min(ready))
    }

    /// Pods of the canary that more weight may rely on: the router knows them, and they have been ready for long enough.
    pub(super) fn reliable(&self, attempt: &Attempt) -> u32 {
        self.seen.available(&attempt.revision).min(self.routable(attempt))
    }
}

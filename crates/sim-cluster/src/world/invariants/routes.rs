//! Services and routes: where traffic goes.

use molt_sim_api::store::Change;
use serde_json::Value;

use super::REACTS;
use crate::world::gateway::backends;
use crate::world::{ROUTES, SERVICE, World, label};

impl World {
    pub(super) fn check_service(&mut self, change: &Change) {
        let name = &change.key.name;
        let Some(before) = &change.before else { return };
        if !self.is_ours(before) && self.service().is_some() {
            self.violate("ownership", format!("Service {name} belongs to somebody else"));
            return;
        }
        let selected = |o: &Value| {
            o["spec"]["selector"]["molt.dev/revision"]
                .as_str()
                .map(str::to_owned)
        };
        let (old, new) = (selected(before), selected(&change.after));
        if change.deleted || old == new {
            return;
        }
        if !label(before, "molt.dev/revision").is_empty() {
            self.violate(
                "selector",
                format!("Service {name} of a revision changes its selector"),
            );
        }
        let (Some(old), Some(new)) = (old, new) else {
            return;
        };
        let slot_share: u64 = self.object(ROUTES, self.people.route()).map_or(0, |r| {
            backends(r)
                .iter()
                .filter(|(n, _)| n == name)
                .map(|(_, w)| *w)
                .sum()
        });
        let has_users = name == SERVICE || slot_share > 0;
        let dark = has_users && self.serves_for_sure(&old) && !self.served_lately(&new);
        if dark && !self.struck.foggy(self.now) {
            self.violate(
                "dark",
                format!("Service {name} leaves {old}, which serves, for {new}, which does not"),
            );
        }
        self.note_shares();
    }

    pub(super) fn check_route(&mut self, change: &Change) {
        if change.deleted || change.key.name != self.people.route() {
            return;
        }
        if self.people.owns_route() && change.before.as_ref().is_some_and(|b| !self.is_ours(b)) {
            self.violate(
                "ownership",
                format!("HTTPRoute {} belongs to somebody else", change.key.name),
            );
        }
        let new = backends(&change.after);
        let old = change.before.as_deref().map(backends).unwrap_or_default();
        if new == old {
            return;
        }
        let sum: u64 = new.iter().map(|(_, w)| w).sum();
        if sum != 100 {
            self.violate("sum", format!("the weights are {new:?}"));
        }
        // What is deleted gives its route back to stable, whoever serves: all of its pods go.
        if self.struck.foggy(self.now) || self.people.replicas() == 0 || self.is_going() {
            return;
        }
        let of = |service: &str| self.revision_behind(service);
        let weights: Vec<(String, u64, u64)> = new
            .iter()
            .filter_map(|(service, weight)| {
                let before = old.iter().find(|(s, _)| s == service).map_or(0, |(_, w)| *w);
                Some((of(service)?, *weight, before))
            })
            .collect();
        for (revision, weight, before) in &weights {
            let another = weights
                .iter()
                .any(|(r, ..)| r != revision && self.serves_for_sure(r));
            if *weight > 0 && !self.served_lately(revision) && another {
                self.violate(
                    "unready",
                    format!("{weight} % go to revision {revision}, which has no ready endpoint"),
                );
                return;
            }
            let canary = self
                .current()
                .and_then(|s| s.attempt.as_ref())
                .map(|a| a.revision.0.clone());
            let calm = self.checks.replicas.len() <= 1;
            if weight > before && canary.as_ref() == Some(revision) && another && calm {
                let most = self
                    .checks
                    .strength
                    .get(revision)
                    .into_iter()
                    .flatten()
                    .map(|(_, n)| *n)
                    .max()
                    .unwrap_or(0);
                let carries = if most >= self.people.replicas() {
                    100
                } else {
                    most * 100 / self.people.replicas()
                };
                if *weight > carries {
                    self.violate(
                        "strength",
                        format!("{weight} % go to revision {revision}, whose {most} pods carry {carries} %"),
                    );
                    return;
                }
            }
        }
    }

    /// A user's route is given back before the object goes.
    pub(super) fn check_release(&mut self) {
        if self.people.owns_route() || self.struck.foggy(self.now) {
            return;
        }
        let Some(route) = self.object(ROUTES, self.people.route()) else {
            return;
        };
        let owners = route["metadata"]["managedFields"].as_array();
        let ours = owners.into_iter().flatten().any(|e| e["manager"] == "molt");
        let canary = format!("{SERVICE}-canary");
        let weight = backends(route)
            .iter()
            .find(|(n, _)| *n == canary)
            .map_or(0, |(_, w)| *w);
        if ours || weight > 0 {
            self.violate(
                "release",
                format!("the finalizer goes while the user's route is still Molt's: {weight} % on {canary}"),
            );
        }
    }

    pub(super) fn look_for_darkness(&mut self, works: bool) {
        let Some(route) = self.object(ROUTES, self.people.route()) else {
            self.checks.dark_since = None;
            return;
        };
        let weights: Vec<(String, u64)> = backends(route)
            .iter()
            .filter_map(|(s, w)| Some((self.revision_behind(s)?, *w)))
            .collect();
        let serves = |r: &str| matches!(self.checks.serving.get(r), Some((true, _)));
        let another = weights.iter().any(|(r, _)| serves(r));
        let dark = weights
            .iter()
            .find(|(r, w)| *w > 0 && !serves(r))
            .filter(|_| another)
            .cloned();
        let Some((revision, weight)) = dark else {
            self.checks.dark_since = None;
            return;
        };
        let since = *self.checks.dark_since.get_or_insert(self.now);
        if works && !self.is_going() && self.now - since > REACTS {
            self.violate(
                "dark",
                format!(
                    "{weight} % have gone to revision {revision} without a ready endpoint for {} s",
                    REACTS / 1000
                ),
            );
        }
    }
}

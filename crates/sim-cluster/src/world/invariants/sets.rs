//! ReplicaSets: whose they are, and when they may shrink.

use molt_core::plan::Revision;
use molt_sim_api::store::Change;
use serde_json::Value;

use crate::world::{World, label};

/// The drain time of the spec, in milliseconds, less the resolution of its clock.
const DRAIN: u64 = 5000 - 1100;

impl World {
    pub(super) fn check_set(&mut self, change: &Change) {
        let revision = label(&change.after, "molt.dev/revision").to_owned();
        let Some(before) = &change.before else {
            if !self.is_ours(&change.after) {
                self.violate("ownership", format!("ReplicaSet {} is nobody's", change.key.name));
            }
            return;
        };
        if !self.is_ours(before) && self.service().is_some() {
            self.violate(
                "ownership",
                format!("ReplicaSet {} belongs to somebody else", change.key.name),
            );
        }
        let replicas = |o: &Value| o["spec"]["replicas"].as_u64().unwrap_or(0);
        let (old, new) = (
            replicas(before),
            if change.deleted {
                0
            } else {
                replicas(&change.after)
            },
        );
        let attempt = |o: &Value| {
            let text = o["metadata"]["annotations"]["molt.dev/attempt"].as_str();
            text.and_then(|t| t.parse::<u32>().ok()).unwrap_or(0)
        };
        if !change.deleted && attempt(&change.after) < attempt(before) {
            self.violate(
                "attempts",
                format!("ReplicaSet {} goes back to an earlier attempt", change.key.name),
            );
        }
        if new >= old {
            return;
        }
        let share = self.shares().get(&revision).copied().unwrap_or(0.0);
        let wanted = self
            .checks
            .replicas
            .iter()
            .map(|(_, n)| *n)
            .min()
            .unwrap_or(0)
            .min(self.people.replicas());
        let needed = (wanted as f64 * share / 100.0).ceil() as u64;
        if new < needed {
            self.violate(
                "capacity",
                format!("revision {revision} goes from {old} to {new} pods while the gateway sends it {share:.0} % of the traffic"),
            );
        }
        let drained = self
            .checks
            .unused_since
            .get(&revision)
            .is_none_or(|since| self.now - since >= DRAIN);
        let jumped = self.struck.jumped.is_some_and(|at| self.now - at < 240_000);
        if new == 0 && !drained && !jumped && self.has_connections(&revision) {
            self.violate(
                "drain",
                format!("revision {revision} loses its pods before its connections have drained"),
            );
        }
        let moving = self.current().filter(|s| s.attempt.is_some());
        if moving.is_some_and(|s| s.stable == Some(Revision(revision.clone()))) && new < old {
            self.violate(
                "stable",
                format!("stable revision {revision} shrinks from {old} to {new} during an attempt"),
            );
        }
    }
}

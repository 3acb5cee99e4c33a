//! The invariants, as predicates on the world: none of them knows what the operator remembers.

mod answers;
mod attempts;
mod evictions;
mod routes;
mod serving;
mod sets;

use molt_core::state::State;
use molt_sim_api::store::Change;
use serde_json::Value;

use super::{
    ACTIONS, Author, CORE_SERVICES, PODS, RECORDS, ROUTES, SERVICES, SETS, SLICES, World, label, meta,
};

/// An operator at work has put right within this what it can put right, in milliseconds.
const REACTS: u64 = 60_000;

impl World {
    pub(super) fn violate(&mut self, invariant: &str, what: impl AsRef<str>) {
        let text = format!("VIOLATION {invariant}: {}", what.as_ref());
        self.say(&text);
        self.checks.violations.push(text);
    }

    /// Looks at one change.
    pub(super) fn check(&mut self, change: &Change) {
        let by_operator = matches!(self.author, Author::Operator(_));
        match change.key.resource.as_str() {
            PODS => {
                if by_operator {
                    self.check_pod(change);
                }
                self.note_endpoints();
            }
            SLICES => self.note_endpoints(),
            SETS if by_operator => self.check_set(change),
            CORE_SERVICES if by_operator => self.check_service(change),
            ROUTES if by_operator => self.check_route(change),
            SERVICES => {
                self.note_restart();
                self.check_state(change, by_operator);
            }
            ACTIONS => self.check_action(change),
            RECORDS => self.check_record(change),
            _ => {}
        }
    }

    fn current(&self) -> Option<&State> {
        self.checks.state.as_ref().map(|(_, state)| state)
    }

    /// The service is gone, or is being deleted.
    fn is_going(&self) -> bool {
        self.service()
            .is_none_or(|s| s["metadata"]["deletionTimestamp"].is_string())
    }

    fn is_ours(&self, object: &Value) -> bool {
        let uid = self.service().map(|s| meta(s, "uid")).unwrap_or_default();
        let owners = object["metadata"]["ownerReferences"].as_array();
        owners.into_iter().flatten().any(|o| o["uid"] == uid)
    }

    /// Looks at what lasts.
    pub(super) fn tick_checks(&mut self) {
        let now = self.now;
        while self.checks.replicas.len() > 1 && self.checks.replicas[1].0 + 30_000 < now {
            self.checks.replicas.remove(0);
        }
        self.note_tested();
        let fog = self.struck.fog_until();
        let works = self
            .checks
            .alive_since
            .is_some_and(|since| now.saturating_sub(since.max(fog)) > REACTS);
        self.look_for_darkness(works);
        self.look_for_unanswered(works);
    }

    /// What has to be so at rest.
    pub(super) fn at_rest(&mut self) {
        let open: Vec<String> = self
            .server
            .objects(RECORDS)
            .into_iter()
            .filter(|r| r["status"]["outcome"].is_null())
            .map(|r| meta(r, "name").to_owned())
            .collect();
        if !open.is_empty() {
            self.violate("records", format!("at rest records have no end: {open:?}"));
        }
        // Of a first revision that was found wanting, for there is no other, the state knows that it is refused.
        let serves = |state: &State| state.stable.clone().or_else(|| state.refused.clone());
        let stable = self.current().and_then(serves).map(|r| r.0);
        let shares = self.shares();
        let elsewhere = shares.iter().any(|(r, s)| *s > 0.5 && Some(r) != stable.as_ref());
        if elsewhere && self.people.replicas() > 0 {
            self.violate(
                "stable",
                format!("at rest users are not on stable {stable:?}: {shares:?}"),
            );
        }
    }
}

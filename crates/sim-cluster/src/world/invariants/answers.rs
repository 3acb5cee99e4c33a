//! What people are answered: actions and records.

use molt_sim_api::store::Change;
use serde_json::Value;

use super::REACTS;
use crate::world::{ACTIONS, World, meta};

impl World {
    pub(super) fn check_action(&mut self, change: &Change) {
        let state = |o: &Value| o["status"]["state"].as_str().map(str::to_owned);
        let before = change.before.as_deref().and_then(state);
        if before.is_some() && !change.deleted && state(&change.after) != before {
            self.violate("actions", format!("action {} is answered twice", change.key.name));
        }
    }

    pub(super) fn check_record(&mut self, change: &Change) {
        let outcome = |o: &Value| o["status"]["outcome"].as_str().map(str::to_owned);
        let before = change.before.as_deref().and_then(outcome);
        if before.is_some() && !change.deleted && outcome(&change.after) != before {
            self.violate(
                "records",
                format!("record {} changes its outcome", change.key.name),
            );
        }
    }

    pub(super) fn look_for_unanswered(&mut self, works: bool) {
        let waiting: Vec<String> = self
            .server
            .objects(ACTIONS)
            .into_iter()
            .filter(|a| a["status"]["state"].is_null())
            .map(|a| meta(a, "name").to_owned())
            .collect();
        self.checks.unanswered.retain(|name, _| waiting.contains(name));
        let there = self
            .service()
            .is_some_and(|s| s["metadata"]["deletionTimestamp"].is_null());
        for name in waiting {
            let since = *self.checks.unanswered.entry(name.clone()).or_insert(self.now);
            if works && there && self.now - since > REACTS {
                self.violate(
                    "actions",
                    format!("action {name} has had no answer for {} s", REACTS / 1000),
                );
                return;
            }
        }
    }
}

//! Whether every proxy has a VirtualService in its present form.
//!
//! istiod says so itself only where its status feature is on, which it is not by default. Elsewhere nobody does, and
//! nothing remains but the time that such a change may take (ADR 18).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::types::VirtualService;
use crate::k8s::Key;

/// What is known of a VirtualService's way to the proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every proxy has it, or has had the time that this may take.
    Everywhere,
    /// istiod counts the proxies that have it, and some have not; in its words.
    Told(String),
    /// Nobody says anything; it counts as everywhere at this time.
    Silent(Timestamp),
}

/// Since when VirtualServices have their present form, as far as this process has seen it.
#[derive(Debug, Default)]
pub struct Since(Mutex<HashMap<Key, (Option<i64>, Timestamp)>>);

impl Since {
    /// How far the VirtualService of this key has come by now.
    pub fn reach(&self, key: &Key, live: &VirtualService, delay: SignedDuration, now: Timestamp) -> Reach {
        let since = self.since(key, live, now);
        if let Some((reconciled, message)) = told(live) {
            return if reconciled {
                Reach::Everywhere
            } else {
                Reach::Told(message)
            };
        }
        let at = since.checked_add(delay).unwrap_or(since);
        if at <= now {
            Reach::Everywhere
        } else {
            Reach::Silent(at)
        }
    }

    /// There is none of this key.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// A change that this process has seen counts from then on, by its own clock; what was there before, from the time
    /// that the API server has noted.
    fn since(&self, key: &Key, live: &VirtualService, now: Timestamp) -> Timestamp {
        let generation = live.metadata.generation;
        let mut known = self.lock();
        let since = match known.get(key) {
            Some((had, since)) if *had == generation => *since,
            Some(_) => now,
            None => written(live).unwrap_or(now),
        };
        // A clock that went back must not make anybody wait for it.
        let since = since.min(now);
        known.insert(key.clone(), (generation, since));
        since
    }

    // A panic while the lock is held leaves a map that is still a map.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (Option<i64>, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the rules were written last; the API server leaves out the fraction of a second.
fn written(live: &VirtualService) -> Option<Timestamp> {
    let entries = live.metadata.managed_fields.iter().flatten();
    let last = entries
        .filter_map(|entry| entry.time.as_ref().map(|t| t.0))
        .max()?;
    last.checked_add(SignedDuration::from_secs(1)).ok()
}

/// Whether istiod says of the present form that every proxy has it, and its words; `None` where it says nothing of it.
fn told(live: &VirtualService) -> Option<(bool, String)> {
    let condition = live.status.conditions.iter().find(|c| c.type_ == "Reconciled")?;
    let observed = condition
        .observed_generation
        .as_ref()
        .or(live.status.observed_generation.as_ref())?;
    let observed = match observed {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(text) => text.parse().ok()?,
    };
    // Where the feature was turned off, what it said last stays.
    (Some(observed) == live.metadata.generation)
        .then(|| (condition.status == "True", condition.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const DELAY: SignedDuration = SignedDuration::from_secs(15);

    #[allow(clippy::needless_pass_by_value)]
    fn live(generation: i64, written: Option<&str>, status: Value) -> VirtualService {
        let entries: Vec<Value> = written
            .iter()
            .map(|time| json!({"manager": "molt", "operation": "Apply", "time": time}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "shop", "generation": generation, "managedFields": entries}, "status": status,
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T00:{text}Z").parse().unwrap()
    }

    #[test]
    fn what_istiod_says_of_this_form_counts_and_of_another_one_does_not() {
        let (since, key) = (Since::default(), Key::new("shop", "shop"));
        let reach = |status| {
            since.reach(
                &key,
                &live(2, Some("2026-01-01T00:00:00Z"), status),
                DELAY,
                at("00:05"),
            )
        };
        let said = |status: &str, observed: Value| {
            let condition = json!({"type": "Reconciled", "status": status, "message": "61/122 complete"});
            json!({"observedGeneration": observed, "conditions": [condition]})
        };
        assert_eq!(reach(said("True", json!("2"))), Reach::Everywhere);
        assert_eq!(reach(said("True", json!(2))), Reach::Everywhere);
        assert_eq!(
            reach(said("False", json!(2))),
            Reach::Told("61/122 complete".to_owned())
        );
        let silent = Reach::Silent(at("00:16"));
        assert_eq!(
            reach(said("True", json!("1"))),
            silent,
            "it was of an earlier form"
        );
        assert_eq!(reach(json!({})), silent);
        let of_its_own =
            json!({"conditions": [{"type": "Reconciled", "status": "True", "observedGeneration": 2}]});
        assert_eq!(reach(of_its_own), Reach::Everywhere);
    }

    #[test]
    fn silence_is_waited_out_from_the_change_on_and_a_restart_begins_nothing_anew() {
        let key = Key::new("shop", "shop");
        let first = live(1, Some("2026-01-01T00:00:00Z"), json!({}));
        let since = Since::default();
        assert_eq!(
            since.reach(&key, &first, DELAY, at("10:00")),
            Reach::Everywhere,
            "it is old"
        );
        // The API server's clock is behind: a change that was seen counts by the own one.
        let second = live(2, Some("2026-01-01T00:09:00Z"), json!({}));
        assert_eq!(
            since.reach(&key, &second, DELAY, at("10:01")),
            Reach::Silent(at("10:16"))
        );
        assert_eq!(
            since.reach(&key, &second, DELAY, at("10:15")),
            Reach::Silent(at("10:16"))
        );
        assert_eq!(since.reach(&key, &second, DELAY, at("10:16")), Reach::Everywhere);
        // Who has not seen it, and finds no time, counts from now.
        let anew = Since::default();
        let unknown = live(2, None, json!({}));
        assert_eq!(
            anew.reach(&key, &unknown, DELAY, at("10:01")),
            Reach::Silent(at("10:16"))
        );
        // A clock that goes back for an hour keeps nobody waiting for an hour.
        let ahead = live(3, Some("2026-01-01T01:00:00Z"), json!({}));
        let anew = Since::default();
        assert_eq!(
            anew.reach(&key, &ahead, DELAY, at("10:00")),
            Reach::Silent(at("10:15"))
        );
        since.forget(&key);
        assert_eq!(
            since.reach(&key, &first, DELAY, at("10:30")),
            Reach::Everywhere,
            "by its own time"
        );
    }
}

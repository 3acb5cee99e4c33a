//! RolloutRecords: a line of each, newest first and by the page; each in full at an address that stays.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use kube::core::{DeserializeGuard, Object};
use kube::{Api, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::App;
use super::fleet::Scope;
use super::identity::Viewer;
use super::refusal::Refusal;
use crate::api::v1alpha1::{RolloutRecord, RolloutRecordSpec};
use crate::k8s::Key;

/// Lines of a page, unless it is said otherwise, and at most.
const PAGE: [usize; 2] = [25, 200];

/// A record, as much of it as a line needs: its evidence is not kept.
pub type LeanRecord = DeserializeGuard<Object<RolloutRecordSpec, LeanStatus>>;

/// What a line needs of the status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeanStatus {
    outcome: Option<String>,
    reason: Option<String>,
    ended_at: Option<Timestamp>,
    duration_seconds: Option<i64>,
    max_weight: i32,
    slos: Vec<LeanSlo>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanSlo {
    name: String,
    spent_by_rollout: String,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    namespace: String,
    name: String,
    service: String,
    revision: String,
    attempt: i32,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    max_weight: i32,
    /// What each objective's budget lost: `availability 0.2%`.
    spent: Vec<String>,
}

/// The place of a record: the newest first.
type At = (Reverse<Timestamp>, String, String);

/// All lines, the newest first.
#[derive(Debug, Default)]
pub struct Records(RwLock<Lines>);

#[derive(Debug, Default)]
struct Lines {
    newest: BTreeMap<At, Head>,
    started: HashMap<Key, Timestamp>,
}

/// A page of lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    records: Vec<Head>,
    /// What the next page is asked for by; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// How many there are in all.
    total: usize,
}

/// Which lines.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Which {
    namespace: Option<String>,
    service: Option<String>,
    outcome: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

impl Records {
    /// A record as it is now. One that can't be read has no line.
    pub fn put(&self, record: &LeanRecord) {
        let Ok(record) = &record.0 else {
            return;
        };
        let key = Key::new(record.namespace().unwrap_or_default(), record.name_any());
        self.remove(&key);
        let status = record.status.clone().unwrap_or_default();
        let spec = &record.spec;
        let head = Head {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            service: spec.service.clone(),
            revision: spec.revision.clone(),
            attempt: spec.attempt,
            started_at: spec.started_at,
            ended_at: status.ended_at,
            duration_seconds: status.duration_seconds,
            outcome: status.outcome,
            reason: status.reason,
            max_weight: status.max_weight,
            spent: status
                .slos
                .iter()
                .map(|slo| format!("{} {}", slo.name, slo.spent_by_rollout))
                .collect(),
        };
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lines.newest.insert(at(&key, spec.started_at), head);
        lines.started.insert(key, spec.started_at);
    }

    /// The record is gone.
    pub fn remove(&self, key: &Key) {
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(started) = lines.started.remove(key) {
            lines.newest.remove(&at(key, started));
        }
    }

    /// What is not among these is gone.
    pub fn retain(&self, there: &HashSet<Key>) {
        let gone: Vec<Key> = {
            let lines = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let gone = lines.started.keys().filter(|key| !there.contains(*key));
            gone.cloned().collect()
        };
        for key in &gone {
            self.remove(key);
        }
    }

    /// The namespaces that have any.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let lines = self.0.read().unwrap_or_else(PoisonError::into_inner);
        lines.started.keys().map(|key| key.namespace.clone()).collect()
    }

    /// A page of those that are asked for, the newest first.
    pub fn page(&self, which: &Which, scope: &Scope) -> Result<Page, Refusal> {
        let lines = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is = |wanted: &Option<String>, what: &str| wanted.as_ref().is_none_or(|wanted| wanted == what);
        let asked = |head: &Head| {
            scope.has(&head.namespace)
                && is(&which.namespace, &head.namespace)
                && is(&which.service, &head.service)
                && is(&which.outcome, head.outcome.as_deref().unwrap_or("Running"))
        };
        let limit = which.limit.unwrap_or(PAGE[0]).clamp(1, PAGE[1]);
        let total = lines.newest.values().filter(|head| asked(head)).count();
        let from = which.after.as_deref().map(place).transpose()?;
        let later = lines
            .newest
            .iter()
            .filter(|(at, _)| from.as_ref().is_none_or(|from| *at > from))
            .filter(|(_, head)| asked(head));
        let mut found: Vec<(&At, &Head)> = later.take(limit + 1).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .map(|((started, namespace, name), _)| format!("{}/{namespace}/{name}", started.0));
        Ok(Page {
            records: found.into_iter().map(|(_, head)| head.clone()).collect(),
            next,
            total,
        })
    }
}

fn at(key: &Key, started: Timestamp) -> At {
    (Reverse(started), key.namespace.clone(), key.name.clone())
}

/// The last place of the page before.
fn place(text: &str) -> Result<At, Refusal> {
    let unreadable = || Refusal::Invalid("after: is not what a page before this one said".to_owned());
    let mut parts = text.splitn(3, '/');
    let mut part = || parts.next().ok_or_else(unreadable);
    let started = part()?.parse().map_err(|_| unreadable())?;
    Ok((Reverse(started), part()?.to_owned(), part()?.to_owned()))
}

/// `GET /api/records`: a page of lines.
pub async fn list(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    Query(which): Query<Which>,
) -> Result<Json<Page>, Refusal> {
    let namespaces = match &which.namespace {
        Some(namespace) => BTreeSet::from([namespace.clone()]),
        None => app.records.namespaces(),
    };
    let asked = !namespaces.is_empty();
    let scope = viewer
        .access()
        .scope_of_records(viewer.client(), namespaces)
        .await?;
    if asked && scope.is_empty() {
        let of = which.namespace.as_deref().map_or_else(
            || "in any namespace that has some".to_owned(),
            |namespace| format!("in namespace {namespace}"),
        );
        return Err(Refusal::Forbidden(format!(
            "you may not list RolloutRecords {of}"
        )));
    }
    app.records.page(&which, &scope).map(Json)
}

/// `GET /api/ns/NAMESPACE/records/NAME`: one in full, read with the viewer's own rights.
pub async fn one(
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let api: Api<RolloutRecord> = Api::namespaced(viewer.client().clone(), &namespace);
    let mut record = api.get(&name).await?;
    record.meta_mut().managed_fields = None;
    Ok(Json(serde_json::to_value(record).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(namespace: &str, service: &str, minute: u32, outcome: Option<&str>) -> LeanRecord {
        serde_json::from_value(json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord",
            "metadata": {"name": format!("{service}-{minute}"), "namespace": namespace},
            "spec": {"service": service, "revision": "7d9f8c0000", "attempt": 1, "startedAt": format!("2026-03-01T{:02}:{:02}:00Z", minute / 60, minute % 60)},
            "status": {"outcome": outcome, "maxWeight": 25, "slos": [{"name": "availability", "spentByRollout": "0.2%", "canary": {}}], "verdicts": [{"what": "ever"}]},
        }))
        .unwrap()
    }

    fn names(page: &Page) -> Vec<&str> {
        page.records.iter().map(|head| head.name.as_str()).collect()
    }

    #[test]
    fn ten_thousand_records_are_read_page_by_page_without_gap_or_repetition() {
        let records = Records::default();
        for i in 0..10_000 {
            records.put(&record("shop", &format!("s{i}"), i % 1_000, Some("Promoted")));
        }
        let mut which = Which {
            limit: Some(100_000),
            ..Which::default()
        };
        let (mut seen, mut before) = (HashSet::new(), None);
        loop {
            let page = records.page(&which, &Scope::All).unwrap();
            assert!(page.records.len() <= PAGE[1] && page.total == 10_000);
            for head in &page.records {
                assert!(
                    before.is_none_or(|before| head.started_at <= before),
                    "newest first"
                );
                before = Some(head.started_at);
                assert!(seen.insert(head.name.clone()), "{} twice", head.name);
            }
            let Some(next) = page.next else { break };
            which.after = Some(next);
        }
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn records_are_those_of_the_service_and_of_the_outcome() {
        let records = Records::default();
        records.put(&record("shop", "a", 1, Some("Promoted")));
        records.put(&record("shop", "a", 2, None));
        records.put(&record("shop", "b", 3, Some("RolledBack")));
        records.put(&record("other", "a", 4, Some("RolledBack")));
        let page = |namespace: Option<&str>, service: Option<&str>, outcome: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let which = Which {
                namespace: own(namespace),
                service: own(service),
                outcome: own(outcome),
                ..Which::default()
            };
            records.page(&which, &Scope::All).unwrap()
        };
        assert_eq!(names(&page(Some("shop"), Some("a"), None)), ["a-2", "a-1"]);
        assert_eq!(names(&page(None, None, Some("RolledBack"))), ["a-4", "b-3"]);
        assert_eq!(names(&page(None, None, Some("Running"))), ["a-2"]);
        // The same record again is not another one; one that is gone is gone.
        records.put(&record("shop", "a", 2, Some("Promoted")));
        assert_eq!(page(Some("shop"), Some("a"), None).total, 2);
        records.retain(&[Key::new("shop", "b-3")].into());
        assert_eq!(names(&page(None, None, None)), ["b-3"]);
    }

    #[test]
    fn a_place_that_nobody_gave_is_refused() {
        for after in ["", "x", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z/shop"] {
            let which = Which {
                after: Some(after.to_owned()),
                ..Which::default()
            };
            assert!(
                matches!(
                    Records::default().page(&which, &Scope::All),
                    Err(Refusal::Invalid(_))
                ),
                "{after}"
            );
        }
    }
}

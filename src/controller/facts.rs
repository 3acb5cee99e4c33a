//! What is kept of each watched object. See [`Index`](crate::k8s::index::Index).

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};
use molt_core::config::Content;
use molt_core::observed::{Action, ActionView};
use molt_core::plan::Revision;
use molt_core::state::Outcome;
use serde_json::{Value, json};

use super::object::ServiceObject;
use super::revision::digest;
use super::runs;
use crate::api::v1alpha1::{ActionKind, RolloutAction, RolloutRecord, Traffic};
use crate::k8s::index::Facts;
use crate::k8s::labels;

fn label(object: &impl Resource, key: &str) -> Option<String> {
    object.labels().get(key).cloned()
}

fn annotation<T: std::str::FromStr>(object: &impl Resource, key: &str) -> Option<T> {
    object.annotations().get(key)?.parse().ok()
}

/// What the snapshots of a ReplicaSet hold: a digest for each reference.
pub fn config(set: &ReplicaSet) -> Content {
    let text = set.annotations().get(labels::CONFIG);
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

fn created_at(object: &impl Resource) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|t| t.0)
}

fn owners(object: &impl Resource) -> Vec<String> {
    object
        .owner_references()
        .iter()
        .map(|owner| owner.uid.clone())
        .collect()
}

fn count(number: Option<i32>) -> u32 {
    u32::try_from(number.unwrap_or(0)).unwrap_or(0)
}

/// A ReplicaSet of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSetFacts {
    /// Its revision.
    pub revision: Revision,
    /// Its UID.
    pub uid: String,
    /// The version that is decided on.
    pub resource_version: String,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Pods that it is asked for.
    pub wanted: u32,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// The attempt that used it last; 0 if none did.
    pub attempt: u32,
    /// A digest of its pod template.
    pub template: String,
    /// The digest that it had when it was scaled first.
    pub first_template: Option<String>,
    /// The serving port of its pods.
    pub port: Option<u16>,
    /// What the snapshots of its pods' configuration hold.
    pub config: Content,
    /// Of what runs by a schedule: the pod template of a run.
    pub run: Option<Arc<Value>>,
    /// Why it can't create pods.
    pub failure: Option<String>,
    /// Seconds that a pod must have been ready to be available.
    pub min_ready: u32,
    /// Pods that are available, as its controller says.
    pub available: u32,
    /// Pods that its controller counts; one at least as long as it has not taken up the last change.
    pub counted: u32,
    /// The field manager that wrote `wanted` last, if that was somebody else.
    pub scaled_by: Option<String>,
}

/// Who, beside Molt, owns the number of pods.
fn scaled_by(set: &ReplicaSet) -> Option<String> {
    let entries = set.metadata.managed_fields.iter().flatten();
    let others = entries.filter(|entry| {
        let owns = |fields: &FieldsV1| fields.0.pointer("/f:spec/f:replicas").is_some();
        let ours = [labels::MANAGER, labels::SCALE_MANAGER].map(Some);
        entry.fields_v1.as_ref().is_some_and(owns) && !ours.contains(&entry.manager.as_deref())
    });
    let last = others.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?;
    Some(
        last.manager
            .clone()
            .unwrap_or_else(|| "a field manager without a name".to_owned()),
    )
}

fn counted(set: &ReplicaSet) -> u32 {
    let status = set.status.as_ref();
    let pods = status.map_or(0, |s| count(Some(s.replicas)));
    let taken_up = status.and_then(|s| s.observed_generation) >= set.metadata.generation;
    if taken_up { pods } else { pods.max(1) }
}

impl Facts for ReplicaSetFacts {
    type Object = ReplicaSet;

    const READS_MANAGED_FIELDS: bool = true;

    fn read(set: &ReplicaSet) -> Option<(String, Self)> {
        // One that is on its way out can neither serve nor be scaled.
        if set.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let failure = set
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.type_ == "ReplicaFailure" && c.status == "True")
            .map(|c| c.message.clone().unwrap_or_default());
        let facts = Self {
            revision: Revision(label(set, labels::REVISION)?),
            uid: set.uid().unwrap_or_default(),
            resource_version: set.resource_version().unwrap_or_default(),
            owners: owners(set),
            wanted: set
                .spec
                .as_ref()
                .and_then(|s| s.replicas)
                .map_or(1, |n| u32::try_from(n).unwrap_or(0)),
            created_at: created_at(set),
            attempt: annotation(set, labels::ATTEMPT).unwrap_or(0),
            template: digest(&json!(set.spec.as_ref().and_then(|s| s.template.as_ref()))),
            first_template: annotation(set, labels::TEMPLATE),
            port: annotation(set, labels::PORT),
            config: config(set),
            run: runs::template(set),
            failure,
            min_ready: count(set.spec.as_ref().and_then(|s| s.min_ready_seconds)),
            available: count(set.status.as_ref().and_then(|s| s.available_replicas)),
            counted: counted(set),
            scaled_by: scaled_by(set),
        };
        Some((label(set, labels::SERVICE)?, facts))
    }
}

/// A Service of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceFacts {
    /// Its UID.
    pub uid: String,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// The revision that it selects, if it selects the pods of one.
    pub revision: Option<Revision>,
    /// It selects the pods of every revision.
    pub shared: bool,
    /// Labels, annotations and spec, to be compared with what is rendered.
    pub content: Value,
}

impl Facts for ServiceFacts {
    type Object = Service;

    fn read(service: &Service) -> Option<(String, Self)> {
        if service.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let name = label(service, labels::SERVICE)?;
        let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
        let revision = selector
            .filter(|s| s.get(labels::SERVICE) == Some(&name))
            .and_then(|s| s.get(labels::REVISION))
            .map(|r| Revision(r.clone()));
        let shared = selector.is_some_and(|s| s.len() == 1 && s.get(labels::SERVICE) == Some(&name));
        let spec = service.spec.as_ref();
        let content = serde_json::json!({
            "metadata": {"labels": service.labels(), "annotations": service.annotations()},
            "spec": {"ports": spec.map(|s| &s.ports), "selector": selector},
        });
        let facts = Self {
            uid: service.uid().unwrap_or_default(),
            owners: owners(service),
            revision,
            shared,
            content,
        };
        Some((name, facts))
    }
}

/// Ready addresses behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceFacts {
    /// The Service.
    pub service: String,
    /// The pods behind its ready addresses.
    pub ready: BTreeSet<String>,
}

impl Facts for SliceFacts {
    type Object = EndpointSlice;

    fn read(slice: &EndpointSlice) -> Option<(String, Self)> {
        let is_ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
            e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
        };
        // By pod, not by address: a pod has one in each address family.
        let ready = slice
            .endpoints
            .iter()
            .filter(is_ready)
            .filter_map(|e| e.target_ref.as_ref()?.name.clone())
            .collect();
        Some((
            label(slice, labels::SERVICE)?,
            Self {
                service: label(slice, labels::SLICE_SERVICE)?,
                ready,
            },
        ))
    }
}

/// An action that waits to be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionFacts {
    /// For the decision.
    pub view: ActionView,
}

impl Facts for ActionFacts {
    type Object = DeserializeGuard<RolloutAction>;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        let action = match &object.0 {
            Ok(action) => action,
            Err(error) => {
                let name = error.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(name, %error, "a RolloutAction can't be read; it is left alone");
                return None;
            }
        };
        if action.status.as_ref().is_some_and(|s| s.state.is_some()) {
            return None;
        }
        let spec = &action.spec;
        let view = ActionView {
            uid: action.uid()?,
            name: action.name_any(),
            action: match spec.action {
                ActionKind::Promote => Action::Promote,
                ActionKind::PromoteFull => Action::PromoteFull,
                ActionKind::Abort => Action::Abort,
                ActionKind::Retry => Action::Retry,
                ActionKind::Pause => Action::Pause,
                ActionKind::Resume => Action::Resume,
                ActionKind::Override => Action::Override,
                ActionKind::Undo => Action::Undo,
                ActionKind::Restart => Action::Restart,
                ActionKind::Release => Action::Release,
                ActionKind::Approve => Action::Approve,
                ActionKind::Reject => Action::Reject,
            },
            revision: spec.revision.clone().map(Revision),
            attempt: spec.attempt.and_then(|n| u32::try_from(n).ok()),
            step: spec.step.and_then(|n| u32::try_from(n).ok()),
            to_revision: spec.to_revision.clone().map(Revision),
            gate: spec.gate.clone(),
            reason: spec.reason.clone().unwrap_or_default(),
            requested_by: spec.requested_by.clone(),
            created_at: created_at(action),
        };
        Some((spec.service.clone(), Self { view }))
    }
}

/// A record. What it says may be large; it is read from the server when it is added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFacts {
    /// Its UID.
    pub uid: String,
    /// The revision.
    pub revision: Revision,
    /// The attempt.
    pub attempt: u32,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// It was taken back, or promoted: it is not tried again by itself.
    pub tried: bool,
}

impl Facts for RecordFacts {
    type Object = DeserializeGuard<RolloutRecord>;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        let record = object.0.as_ref().ok()?;
        let ended = record.status.as_ref().filter(|s| s.outcome.is_some());
        let facts = Self {
            uid: record.uid()?,
            revision: Revision(record.spec.revision.clone()),
            attempt: u32::try_from(record.spec.attempt).unwrap_or(0),
            ended_at: ended.map(|s| s.ended_at.unwrap_or(record.spec.started_at)),
            tried: ended.is_some_and(|s| {
                let reason = s.reason.as_deref().unwrap_or_default();
                s.outcome
                    .is_some_and(|o| o == Outcome::Promoted || o.refuses(reason))
            }),
        };
        Some((record.spec.service.clone(), facts))
    }
}

/// Which services use which route: grouped by the route's name, so that a route's change finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUser;

impl Facts for RouteUser {
    type Object = ServiceObject;

    fn read(object: &ServiceObject) -> Option<(String, Self)> {
        let own = object.traffic.as_ref().and_then(Traffic::own_route);
        Some((own.map_or_else(|| object.name_any(), str::to_owned), Self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(managers: &Value) -> ReplicaSetFacts {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {
                "labels": {labels::SERVICE: "checkout", labels::REVISION: "0a"}, "managedFields": managers,
            },
            "spec": {"selector": {}, "minReadySeconds": 7, "template": {}},
            "status": {"replicas": 3, "availableReplicas": 2},
        }))
        .unwrap();
        ReplicaSetFacts::read(&set).unwrap().1
    }

    fn entry(manager: &str, minute: u8, fields: &Value) -> Value {
        json!({
            "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:{minute:02}:00Z"), "fieldsV1": {"f:spec": fields},
        })
    }

    #[test]
    fn the_last_one_who_scaled_is_known_unless_it_was_molt() {
        let (replicas, other) = (json!({"f:replicas": {}}), json!({"f:template": {}}));
        let ours = entry(labels::SCALE_MANAGER, 9, &replicas);
        assert_eq!(
            read(&json!([ours, entry("kubectl-edit", 10, &other)])).scaled_by,
            None
        );
        let theirs = [
            entry("kubectl", 1, &replicas),
            entry("kube-controller-manager", 2, &replicas),
        ];
        let facts = read(&json!([ours, theirs[1], theirs[0]]));
        assert_eq!(facts.scaled_by.as_deref(), Some("kube-controller-manager"));
        assert_eq!((facts.min_ready, facts.available), (7, 2));
    }
}

//! The Deployment that `spec.workloadRef` names: what is kept of it, how it stands in for a template, and how it is
//! held and let go. Whether and when is the core's to decide.
//!
//! See `docs/adr/0022-a-deployment-is-taken-over-beside.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, RemoveOperation, TestOperation};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use molt_core::adoption::{Adoption, AdoptionStage, Sight, WorkloadView};
use molt_core::observed::{Problem, ProblemKind, Slot};
use molt_core::plan::Revision;
use molt_core::state::State;
use serde_json::{Value, json};

use super::caches::Caches;
use super::config::references;
use super::object::ServiceObject;
use super::render::{Owner, revision_name, slot_name};
use super::revision;
use super::validate::FieldError;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::index::{Facts, Index, Presence};
use crate::k8s::writer::Writer;
use crate::k8s::{Key, labels};

/// Kubernetes' own `maxSurge` where a Deployment says nothing.
const DEFAULT_SURGE: &str = "25%";

/// A Deployment.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct DeploymentFacts {
    /// Its UID.
    pub uid: String,
    /// The version that is decided on.
    pub resource_version: String,
    /// Its controlling owner: `HelmApp shop`.
    pub owner: Option<String>,
    /// Pods that it is asked for.
    pub replicas: u32,
    /// Pods that it has.
    pub pods: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// It rolls out no change of its template.
    pub paused: bool,
    /// Its controller has seen its present form.
    pub observed: bool,
    /// All of its pods are of its present template, and ready.
    pub settled: bool,
    /// Its strategy ends all pods before it starts new ones.
    pub recreates: bool,
    /// `maxSurge` as it is written.
    pub surge: IntOrString,
    /// What its pods are selected by; `None` where a Service can't say it.
    pub selector: Option<BTreeMap<String, String>>,
    /// The PythonService that says it has taken it over.
    pub held_by: Option<String>,
    /// How many pods it had before.
    pub former: Option<u32>,
    /// The last field manager beside Molt that wrote `spec.replicas` or `spec.paused`.
    pub written_by: Option<String>,
    /// Its pod template.
    pub template: PodTemplateSpec,
}

impl Facts for DeploymentFacts {
    type Object = Deployment;
    const READS_MANAGED_FIELDS: bool = true;

    fn read(object: &Deployment) -> Option<(String, Self)> {
        let spec = object.spec.as_ref()?;
        let status = object.status.clone().unwrap_or_default();
        let count = |n: Option<i32>| u32::try_from(n.unwrap_or(0)).unwrap_or(0);
        let replicas = u32::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let strategy = spec.strategy.as_ref();
        let observed = status.observed_generation >= object.metadata.generation;
        let (pods, ready) = (count(status.replicas), count(status.ready_replicas));
        let owner = object
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true));
        let labels_of = spec.selector.match_labels.clone().unwrap_or_default();
        let plain = spec.selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
        let surge = strategy.and_then(|s| s.rolling_update.as_ref()?.max_surge.clone());
        let facts = Self {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            owner: owner.map(|o| format!("{} {}", o.kind, o.name)),
            replicas,
            pods,
            ready,
            paused: spec.paused.unwrap_or(false),
            observed,
            settled: observed && [pods, ready, count(status.updated_replicas)] == [replicas; 3],
            recreates: strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate"),
            surge: surge.unwrap_or_else(|| IntOrString::String(DEFAULT_SURGE.to_owned())),
            selector: (plain && !labels_of.is_empty()).then_some(labels_of),
            held_by: object.annotations().get(labels::ADOPTED_BY).cloned(),
            former: object
                .annotations()
                .get(labels::FORMER_REPLICAS)
                .and_then(|n| n.parse().ok()),
            written_by: writer(object),
            template: spec.template.clone(),
        };
        Some((object.name_any(), facts))
    }
}

/// Who wrote `spec.replicas` or `spec.paused` last, beside Molt.
fn writer(object: &Deployment) -> Option<String> {
    let wrote = |fields: &Value| {
        ["/f:spec/f:replicas", "/f:spec/f:paused"]
            .iter()
            .any(|path| fields.pointer(path).is_some())
    };
    let entries = object.managed_fields().iter().filter(|entry| {
        entry.manager.as_deref() != Some(labels::MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| wrote(&fields.0))
    });
    let last = entries.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?;
    last.manager.clone()
}

/// How a tool is made to leave the two fields alone.
fn advice(manager: Option<&str>, name: &str) -> String {
    let setting = match manager {
        Some("argocd-controller") => format!(
            "In the Argo CD Application set syncOptions: [RespectIgnoreDifferences=true] and ignoreDifferences: [{{group: apps, kind: Deployment, name: {name}, jsonPointers: [/spec/replicas, /spec/paused]}}]"
        ),
        Some("helm-controller") => format!(
            "In the Flux HelmRelease set driftDetection.ignore: [{{paths: [/spec/replicas, /spec/paused], target: {{kind: Deployment, name: {name}}}}}]"
        ),
        _ => "Leave spec.replicas and spec.paused out of the manifest".to_owned(),
    };
    format!("{setting}; the number of pods is spec.replicas of the PythonService.")
}

/// What `maxSurge` comes to: a percentage is rounded up.
fn surge(surge: &IntOrString, replicas: u32) -> u32 {
    match surge {
        IntOrString::Int(n) => u32::try_from(*n).unwrap_or(0),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|n| n.parse::<u32>().ok())
                .unwrap_or(0);
            replicas.saturating_mul(percent).div_ceil(100)
        }
    }
}

/// An autoscaler that scales a Deployment: grouped by the Deployment's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoscalerFacts;

impl Facts for AutoscalerFacts {
    type Object = HorizontalPodAutoscaler;

    fn read(object: &HorizontalPodAutoscaler) -> Option<(String, Self)> {
        let target = &object.spec.as_ref()?.scale_target_ref;
        (target.kind == "Deployment").then(|| (target.name.clone(), Self))
    }
}

/// Which services name which Deployment: grouped by the Deployment's name, so that a change of it finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadUser;

impl Facts for WorkloadUser {
    type Object = ServiceObject;

    fn read(object: &ServiceObject) -> Option<(String, Self)> {
        Some((workload_name(object)?, Self))
    }
}

/// The Deployment that a service names, or has taken over.
fn workload_name(object: &ServiceObject) -> Option<String> {
    let taken = object.state.as_ref().ok().and_then(|s| s.adoption.as_ref());
    let taken = taken.map(|adoption| adoption.workload.clone());
    taken.or_else(|| object.workload.as_ref().map(|w| w.name.clone()))
}

/// The service as if it had the Deployment's template itself.
pub fn resolve<'a>(object: &'a ServiceObject, caches: &Caches) -> Cow<'a, ServiceObject> {
    let Some(workload) = &object.workload else {
        return Cow::Borrowed(object);
    };
    let mut resolved = object.clone();
    let mut found = workload.clone();
    let place = Key::new(object.key().namespace, &found.name);
    match caches.deployments.get(&place, &found.name) {
        Some(facts) => {
            found.unusable = found
                .unusable
                .or_else(|| unusable(object, &found.name, &facts, caches));
            let template = json!(facts.template);
            let [runtime, port] = &found.parts;
            resolved.revision = Some(revision::of_parts(&template, runtime, port));
            if let Ok(spec) = &mut resolved.spec {
                spec.template = Some(facts.template.clone());
                resolved.counted = references::counted(spec);
            }
        }
        None if caches.deployments.presence() == Presence::Pending => {
            let first = || "the first list is under way".to_owned();
            found.unknown = Some(caches.deployments.trouble().unwrap_or_else(first));
        }
        None => {
            let message = format!(
                "there is no Deployment {} in namespace {}: create it, or name another one",
                found.name, place.namespace
            );
            found.unusable = Some(FieldError::new("spec.workloadRef.name", message));
        }
    }
    resolved.workload = Some(found);
    Cow::Owned(resolved)
}

/// Why a Deployment can't be taken over at all; nothing is asked of one that has been.
fn unusable(
    object: &ServiceObject,
    name: &str,
    facts: &DeploymentFacts,
    caches: &Caches,
) -> Option<FieldError> {
    let me = object.name_any();
    let taken = object.state.as_ref().is_ok_and(|state| state.adoption.is_some());
    if taken || facts.held_by.as_ref() == Some(&me) {
        return None;
    }
    let error = |message: String| Some(FieldError::new("spec.workloadRef.name", message));
    if let Some(owner) = &facts.owner {
        return error(format!(
            "Deployment {name} is owned by {owner}, which would write back what Molt changes: name a Deployment without a controlling owner, or have {owner} make none"
        ));
    }
    if let Some(other) = &facts.held_by {
        return error(format!(
            "Deployment {name} has been taken over by PythonService {other}: release it there first (`kubectl molt release {other}`), or if that is gone take the annotation {} off",
            labels::ADOPTED_BY
        ));
    }
    let place = Key::new(object.key().namespace, name);
    let age = |o: &ServiceObject| (o.creation_timestamp(), o.uid_text().to_owned());
    let first = |other: &&String| {
        let key = Key::new(&place.namespace, other.as_str());
        let found = caches.services.find(|o| o.key() == key);
        **other != me && found.is_some_and(|o| age(&o) < age(object))
    };
    let users = caches.workload_users.of(&place);
    if let Some(other) = users.keys().find(first) {
        return error(format!(
            "Deployment {name} is named by PythonService {other} as well, and belongs to one, which is {other}: the older of two, or of two of the same second the one with the lower UID; name another Deployment here, or take it out of {other}"
        ));
    }
    if facts.recreates {
        return error(format!(
            "Deployment {name} has spec.strategy.type Recreate, which says that two revisions must never run beside each other, and here they do: write RollingUpdate if they may"
        ));
    }
    if surge(&facts.surge, facts.replicas.max(1)) == 0 {
        return error(format!(
            "Deployment {name} has spec.strategy.rollingUpdate.maxSurge 0, so that no pod of Molt's may start beside its own: write 1 or more"
        ));
    }
    if facts.selector.is_none() {
        return error(format!(
            "the selector of Deployment {name} has matchExpressions, or no labels: a Service can't select its pods by that, which a way back needs"
        ));
    }
    None
}

/// Pods that the service wants while it says nothing itself, where a Deployment says it.
pub fn replicas(object: &ServiceObject, caches: &Caches) -> Option<u32> {
    let state = object.state.as_ref().ok()?;
    if let Some(adoption) = &state.adoption {
        let key = object.key();
        let stable = state.stable.as_ref();
        let set = stable.and_then(|r| caches.sets.get(&key, &revision_name(&key.name, r)));
        let stable_wanted = set.map_or(0, |set| set.wanted).max(state.strength.unwrap_or(0));
        return unsaid(adoption, stable_wanted);
    }
    let name = workload_name(object)?;
    let facts = caches
        .deployments
        .get(&Key::new(object.key().namespace, &name), &name)?;
    state
        .stable
        .is_none()
        .then(|| facts.former.unwrap_or(facts.replicas))
}

/// What a Deployment that was taken over says of the number, where the spec says nothing: while its pods go or come, and
/// as long as stable's own ReplicaSet is asked for none, as where it was parked at zero.
fn unsaid(adoption: &Adoption, stable_wanted: u32) -> Option<u32> {
    let stands = adoption.stage == AdoptionStage::Taken && stable_wanted > 0;
    (!stands).then_some(adoption.replicas)
}

/// What the core is told of the Deployment.
pub fn sight(object: &ServiceObject, caches: &Caches, replicas: u32) -> Sight {
    let Some(name) = workload_name(object) else {
        return Sight::Absent;
    };
    let place = Key::new(object.key().namespace, &name);
    let Some(facts) = caches.deployments.get(&place, &name) else {
        return match caches.deployments.presence() {
            Presence::Pending => Sight::Unknown(
                caches
                    .deployments
                    .trouble()
                    .unwrap_or_else(|| "the first list is under way".to_owned()),
            ),
            Presence::Present | Presence::Missing => Sight::Absent,
        };
    };
    let state = object.state.clone().unwrap_or_default();
    let former = state.adoption.as_ref().map_or(facts.replicas, |a| a.replicas);
    let rival = state.adoption.as_ref().and_then(|a| a.rival.as_ref());
    let rival = rival.map(|rival| rival.manager.as_str());
    let revision = object.workload.as_ref().map(|w| {
        let [runtime, port] = &w.parts;
        revision::of_parts(&json!(facts.template), runtime, port)
    });
    Sight::Seen(WorkloadView {
        uid: facts.uid.clone(),
        replicas: facts.replicas,
        pods: facts.pods,
        ready: facts.ready,
        paused: facts.paused,
        observed: facts.observed,
        settled: facts.settled,
        surge: surge(&facts.surge, former.max(replicas)).max(1),
        held: facts
            .held_by
            .as_ref()
            .filter(|by| **by == object.name_any())
            .map(|_| facts.former.unwrap_or(facts.replicas)),
        is_stable: revision.as_ref().is_some_and(|plain| is_stable(&state, plain)),
        revision,
        selector: facts.selector.clone(),
        autoscalers_unread: unread(&caches.autoscalers),
        autoscaler: caches.autoscalers.of(&place).keys().next().cloned(),
        widened: facts
            .selector
            .as_ref()
            .is_some_and(|labels| is_widened(object, caches, labels)),
        written_by: facts.written_by.clone(),
        // Who wrote it back is known for longer than their hand is on it.
        advice: advice(facts.written_by.as_deref().or(rival), &name),
        name,
    })
}

/// Why it is not known what an index would have; nothing of a kind that the API server does not know.
fn unread<V: Facts>(index: &Index<V>) -> Option<String> {
    let first = || "the first list is under way".to_owned();
    (index.presence() == Presence::Pending).then(|| index.trouble().unwrap_or_else(first))
}

/// The stable revision is made of this template, whatever the content of what it names was.
fn is_stable(state: &State, plain: &Revision) -> bool {
    let taken = state.config.as_ref().and_then(|config| config.taken.as_ref());
    let named = taken
        .filter(|t| state.stable.as_ref() == Some(&t.revision))
        .map(|t| &t.plain);
    state.stable.as_ref() == Some(plain) || named == Some(plain)
}

/// That Deployments can't be read, where one is needed.
pub fn problem(object: &ServiceObject) -> Option<Problem> {
    let workload = object.workload.as_ref()?;
    let why = workload.unknown.as_ref()?;
    Some(Problem {
        kind: ProblemKind::Spec,
        reason: "WorkloadUnread".to_owned(),
        message: format!(
            "spec.workloadRef: Deployment {} can't be read, so nothing changes: {why}; the operator needs get, list, watch and patch on deployments",
            workload.name
        ),
    })
}

/// Molt's own Services of a service that lead to its stable revision, or may.
fn leading(object: &ServiceObject, caches: &Caches) -> Vec<(String, Value)> {
    let key = object.key();
    let stable = object.state.as_ref().ok().and_then(|s| s.stable.clone());
    let mut names: Vec<String> = [Slot::InCluster, Slot::Stable, Slot::Canary]
        .map(|slot| slot_name(&key.name, slot))
        .into();
    names.extend(stable.map(|revision| revision_name(&key.name, &revision)));
    let services = caches.core_services.of(&key);
    let ours = |name: &String| {
        let facts = services.get(name)?;
        let owned = facts.owners.iter().any(|o| o == object.uid_text());
        owned.then(|| (name.clone(), facts.content.clone()))
    };
    names.iter().filter_map(ours).collect()
}

fn is_widened(object: &ServiceObject, caches: &Caches, labels: &BTreeMap<String, String>) -> bool {
    let all = leading(object, caches);
    all.iter()
        .all(|(_, content)| content["spec"]["selector"] == json!(labels))
}

/// A hand on one Deployment.
pub struct Hand<'a> {
    /// The service.
    pub object: &'a ServiceObject,
    /// What is known of the world.
    pub caches: &'a Caches,
    /// Writes.
    pub writer: &'a Writer,
}

impl Hand<'_> {
    fn name(&self) -> String {
        workload_name(self.object).unwrap_or_default()
    }

    fn facts(&self, uid: &str) -> Result<std::sync::Arc<DeploymentFacts>, WriteError> {
        let (name, namespace) = (self.name(), self.object.key().namespace);
        let facts = self.caches.deployments.get(&Key::new(namespace, &name), &name);
        facts
            .filter(|facts| facts.uid == uid)
            .ok_or_else(|| WriteError::Stale(target(&name)))
    }

    /// Asks it for so many pods, and has it roll out no change of its template, or again: only in the version that was
    /// decided on.
    pub async fn hold(&self, uid: &str, replicas: u32, paused: bool, former: u32) -> Result<(), WriteError> {
        let (facts, key) = (self.facts(uid)?, self.object.key());
        let body = json!({
            "metadata": {
                "uid": uid,
                "resourceVersion": facts.resource_version,
                "annotations": {labels::ADOPTED_BY: key.name, labels::FORMER_REPLICAS: former.to_string()},
            },
            "spec": {"replicas": replicas, "paused": paused},
        });
        self.writer
            .merge::<Deployment>(&key.namespace, &self.name(), &body)
            .await
            .map(drop)
    }

    /// Takes off what was written down at it, and Molt from the managers of its fields: whoever applies it next meets
    /// no conflict.
    pub async fn free(&self, uid: &str) -> Result<(), WriteError> {
        let (key, name) = (self.object.key(), self.name());
        let Some(live) = self.writer.get::<Deployment>(&key.namespace, &name).await? else {
            return Ok(());
        };
        let mut operations = vec![PatchOperation::Test(TestOperation {
            path: PointerBuf::from_tokens(["metadata", "uid"]),
            value: json!(uid),
        })];
        for annotation in [labels::ADOPTED_BY, labels::FORMER_REPLICAS] {
            if live.annotations().contains_key(annotation) {
                operations.push(PatchOperation::Remove(RemoveOperation {
                    path: PointerBuf::from_tokens(["metadata", "annotations", annotation]),
                }));
            }
        }
        // From the last to the first, so that no index moves under another.
        for (index, entry) in live.managed_fields().iter().enumerate().rev() {
            if entry.manager.as_deref() == Some(labels::MANAGER) {
                let path = ["metadata", "managedFields", &index.to_string()].map(str::to_owned);
                operations.push(PatchOperation::Test(TestOperation {
                    path: PointerBuf::from_tokens(path.iter().map(String::as_str).chain(["manager"])),
                    value: json!(labels::MANAGER),
                }));
                operations.push(PatchOperation::Remove(RemoveOperation {
                    path: PointerBuf::from_tokens(path.iter().map(String::as_str)),
                }));
            }
        }
        self.writer
            .json_patch::<Deployment>(&key.namespace, &name, Patch(operations))
            .await
            .map(drop)
    }

    /// Has Molt's Services select the Deployment's pods beside stable's, which have the same labels.
    pub async fn widen(&self, owner: &Owner) -> Result<(), WriteError> {
        let (key, name) = (self.object.key(), self.name());
        let facts = self
            .caches
            .deployments
            .get(&Key::new(&key.namespace, &name), &name);
        let Some(selector) = facts.and_then(|facts| facts.selector.clone()) else {
            return Err(WriteError::Stale(target(&name)));
        };
        for (service, content) in leading(self.object, self.caches) {
            let body = owner.widened_service(&service, &content, &selector);
            self.writer
                .apply::<Service>(&key.namespace, labels::MANAGER, true, &body)
                .await?;
        }
        Ok(())
    }
}

fn target(name: &str) -> Target {
    Target {
        verb: "patch",
        resource: "deployments.apps".to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;

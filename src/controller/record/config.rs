//! What a revision changes in the configuration that its template names: which ConfigMaps and Secrets, and which of their keys.
//!
//! The values are in nobody's record: a ConfigMap may hold what is secret, and its snapshots are there while the revision is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use kube::ResourceExt;
use molt_core::plan::Revision;
use serde_json::{Value, json};

use super::change::{MOST_BYTES, WITHHELD};
use super::cut;
use crate::api::v1alpha1::FieldChange;
use crate::controller::config::references::{self, Kind, Reference};
use crate::controller::config::snapshots;
use crate::controller::facts;
use crate::k8s::labels;
use crate::k8s::writer::Writer;

/// Names the objects in a template as the user's template does: each revision has snapshots of its own names.
pub fn with_names_of_users(set: &ReplicaSet, template: &mut PodTemplateSpec) {
    let names: BTreeMap<String, String> = references(set)
        .filter_map(|(reference, _)| Some((snapshot(set, &reference)?, reference.name)))
        .collect();
    references::rename(template, |reference| names.get(&reference.name).cloned());
}

/// What two revisions' ReplicaSets have of each object: one line for each key that differs, or for the object where keys
/// can't be told.
pub async fn differences(
    writer: &Writer,
    namespace: &str,
    before: &ReplicaSet,
    after: &ReplicaSet,
) -> Vec<FieldChange> {
    let digests = |set| references(set).collect::<BTreeMap<Reference, String>>();
    let (old, new) = (digests(before), digests(after));
    let mut changes = Vec::new();
    let all: BTreeSet<&Reference> = old.keys().chain(new.keys()).collect();
    for reference in all.into_iter().filter(|r| old.get(*r) != new.get(*r)) {
        if !(names(before, &old, reference) && names(after, &new, reference)) {
            // What one of them alone names is told by the template's fields.
            continue;
        }
        let held = async |set| content(writer, namespace, set, reference).await;
        let keys = match (held(before).await, held(after).await) {
            (Some(before), Some(after)) => differing(&before, &after),
            _ => Vec::new(),
        };
        changes.extend(lines(reference, keys));
    }
    changes
}

/// A revision's pods see the object: by a snapshot, or as it is at the moment.
fn names(set: &ReplicaSet, digests: &BTreeMap<Reference, String>, reference: &Reference) -> bool {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    digests.contains_key(reference)
        || template.is_some_and(|template| references::named(template).contains(reference))
}

/// The keys that one side alone has, or that hold something else.
fn differing(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<(String, bool, bool)> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| (key.clone(), before.contains_key(key), after.contains_key(key)))
        .collect()
}

fn lines(reference: &Reference, keys: Vec<(String, bool, bool)>) -> Vec<FieldChange> {
    let line = |field: &str, was: bool, is: bool| FieldChange {
        field: cut(field, MOST_BYTES),
        before: was.then(|| WITHHELD.to_owned()),
        after: is.then(|| WITHHELD.to_owned()),
    };
    if keys.is_empty() {
        return vec![line(&reference.to_string(), true, true)];
    }
    let of_key = |(key, was, is): (String, bool, bool)| line(&format!("{reference}[{key}]"), was, is);
    keys.into_iter().map(of_key).collect()
}

async fn content(
    writer: &Writer,
    namespace: &str,
    set: &ReplicaSet,
    reference: &Reference,
) -> Option<BTreeMap<String, Value>> {
    if reference.kind != Kind::ConfigMap {
        // Nobody reads a Secret to tell what became of it.
        return None;
    }
    let name = snapshot(set, reference)?;
    let map = writer.get::<ConfigMap>(namespace, &name).await.ok()??;
    let text = map
        .data
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, json!(value)));
    let binary = map.binary_data.into_iter().flatten();
    Some(
        text.chain(binary.map(|(key, value)| (key, json!(value))))
            .collect(),
    )
}

fn references(set: &ReplicaSet) -> impl Iterator<Item = (Reference, String)> {
    let parsed = |(key, digest): (String, String)| Some((Reference::parse(&key)?, digest));
    facts::config(set).into_iter().filter_map(parsed)
}

fn snapshot(set: &ReplicaSet, reference: &Reference) -> Option<String> {
    let of = |key| set.labels().get(key);
    let revision = Revision(of(labels::REVISION)?.clone());
    Some(snapshots::name(of(labels::SERVICE)?, &revision, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_without_their_values() {
        let map = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
            pairs.collect::<BTreeMap<String, Value>>()
        };
        let keys = differing(
            &map(&[("A", "1"), ("B", "2"), ("GONE", "x")]),
            &map(&[("A", "1"), ("B", "hunter2"), ("NEW", "y")]),
        );
        let told = lines(&Reference::parse("configmap/env").unwrap(), keys);
        let told: Vec<String> = told
            .iter()
            .map(|c| format!("{} {} {}", c.field, c.before.is_some(), c.after.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                "configmap/env[B] true true",
                "configmap/env[GONE] true false",
                "configmap/env[NEW] false true"
            ]
        );
        let secret = lines(&Reference::parse("secret/keys").unwrap(), Vec::new());
        assert_eq!(secret[0].field, "secret/keys");
    }
}

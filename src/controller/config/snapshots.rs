//! Snapshots: copies of what a revision's pods see, which nobody can change.
//!
//! Each belongs to the ReplicaSet of one revision and goes with it: the garbage collector needs no help, and the
//! operator no right to delete or to change a ConfigMap. A ReplicaSet says in an annotation what its snapshots hold,
//! so one that is missing can be made again wherever the content still is.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use molt_core::config::Content;
use molt_core::plan::Revision;
use serde::Serialize;
use serde_json::json;

use super::contents::{Contents, digest_of_map, digest_of_secret, origin};
use super::references::{Kind, Reference};
use crate::controller::facts::ReplicaSetFacts;
use crate::controller::render::revision_name;
use crate::controller::revision;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::writer::{Writable, Writer, is_owned_by};
use crate::k8s::{Key, labels};

/// Hex digits at the end of a snapshot's name, and of a revision.
const DIGITS: usize = 10;

/// The snapshot of what a revision of a service names. At most 68 characters.
pub fn name(service: &str, of: &Revision, reference: &Reference) -> String {
    let digits = revision::digest(&json!(reference.to_string()));
    format!("{}-{digits}", revision_name(service, of))
}

/// The service that an object of this name is a snapshot of, if it is one.
pub fn service_of(name: &str) -> Option<&str> {
    let cut = |name: &'_ str| {
        let (head, tail) = name.split_at_checked(name.len().checked_sub(DIGITS + 1)?)?;
        let digits = tail.strip_prefix('-')?;
        let is_hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && !head.is_empty()).then_some(head.len())
    };
    let revision = &name[..cut(name)?];
    Some(&revision[..cut(revision)?])
}

/// The ReplicaSet that snapshots belong to.
pub struct Owner<'a> {
    /// Its revision.
    pub revision: &'a Revision,
    /// Its UID.
    pub uid: &'a str,
}

/// A service's ReplicaSets by name.
pub type Sets = BTreeMap<String, Arc<ReplicaSetFacts>>;

/// The snapshots of one service.
pub struct Snapshots<'a> {
    /// The service.
    pub service: &'a Key,
    /// What is known of ConfigMaps and Secrets.
    pub contents: &'a Contents,
    /// The service's ReplicaSets.
    pub sets: &'a Sets,
}

impl Snapshots<'_> {
    /// What a ReplicaSet should have snapshots of, and has not.
    pub fn missing(&self, set: &ReplicaSetFacts) -> Vec<(Reference, String)> {
        let is_missing = |reference: &Reference| {
            let held = self.snapshot(&set.revision, reference);
            held.is_none_or(|held| held.owner.as_ref() != Some(&set.uid))
        };
        let mut wanted = entries(&set.config);
        wanted.retain(|(reference, _)| is_missing(reference));
        wanted
    }

    /// A snapshot of a ReplicaSet holds something else than what it was made of: somebody put another in its place.
    pub fn is_altered(&self, set: &ReplicaSetFacts) -> bool {
        let differs = |(reference, digest): &(Reference, String)| {
            let held = self.snapshot(&set.revision, reference);
            held.is_some_and(|held| held.digest != *digest)
        };
        entries(&set.config).iter().any(differs)
    }

    /// The object that holds this content of a reference: the one that is named, or a snapshot of it.
    pub fn source(&self, reference: &Reference, digest: &str) -> Option<String> {
        let live = self.contents.get(&self.service.namespace, reference);
        if live.is_some_and(|held| held.digest == digest) {
            return Some(reference.name.clone());
        }
        self.copy(reference, digest)
    }

    /// A snapshot that holds this content of a reference.
    pub fn copy(&self, reference: &Reference, digest: &str) -> Option<String> {
        let key = reference.to_string();
        let has = |set: &&Arc<ReplicaSetFacts>| {
            set.config.get(&key).is_some_and(|d| d == digest)
                && self
                    .snapshot(&set.revision, reference)
                    .is_some_and(|held| held.digest == digest)
        };
        let set = self.sets.values().find(has)?;
        Some(name(&self.service.name, &set.revision, reference))
    }

    fn snapshot(&self, revision: &Revision, reference: &Reference) -> Option<super::contents::Held> {
        let snapshot = Reference {
            kind: reference.kind,
            name: name(&self.service.name, revision, reference),
        };
        self.contents.get(&self.service.namespace, &snapshot)
    }

    /// Makes one snapshot. `false` if its content is nowhere any more: a cache may be behind, so what is copied is
    /// read once, and compared.
    pub async fn make(
        &self,
        writer: &Writer,
        owner: &Owner<'_>,
        reference: &Reference,
        digest: &str,
    ) -> Result<bool, WriteError> {
        let Some(source) = self.source(reference, digest) else {
            return Ok(false);
        };
        let namespace = &self.service.namespace;
        let mut metadata = self.metadata(owner, reference);
        match reference.kind {
            Kind::ConfigMap => {
                let Some(live) = writer.get::<ConfigMap>(namespace, &source).await? else {
                    return Ok(false);
                };
                if digest_of_map(&live) != digest {
                    return Ok(false);
                }
                let copy = ConfigMap {
                    metadata,
                    immutable: Some(true),
                    ..live
                };
                post(writer, namespace, &copy, owner).await?;
            }
            Kind::Secret => {
                let Some(live) = writer.get::<Secret>(namespace, &source).await? else {
                    return Ok(false);
                };
                if digest_of_secret(&live) != digest {
                    return Ok(false);
                }
                let from = origin(&live.metadata).to_owned();
                let annotations = metadata.annotations.get_or_insert_default();
                annotations.insert(labels::SNAPSHOT_ORIGIN.to_owned(), from);
                let copy = Secret {
                    metadata,
                    immutable: Some(true),
                    // Rules of other types were kept by the original.
                    type_: None,
                    ..live
                };
                post(writer, namespace, &copy, owner).await?;
            }
        }
        Ok(true)
    }

    fn metadata(&self, owner: &Owner<'_>, reference: &Reference) -> ObjectMeta {
        let Key {
            namespace,
            name: service,
        } = self.service;
        let set = revision_name(service, owner.revision);
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        ObjectMeta {
            name: Some(name(service, owner.revision, reference)),
            namespace: Some(namespace.clone()),
            labels: Some(BTreeMap::from([
                label(labels::APP_NAME, service),
                label(labels::MANAGED_BY, labels::MOLT),
                label(labels::SERVICE, service),
                label(labels::REVISION, &owner.revision.0),
            ])),
            annotations: Some(BTreeMap::from([label(labels::SNAPSHOT_OF, &reference.name)])),
            owner_references: Some(vec![OwnerReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: set,
                uid: owner.uid.to_owned(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        }
    }
}

/// What the content is of. A key that can't be read was written by another version.
pub fn entries(content: &Content) -> Vec<(Reference, String)> {
    content
        .iter()
        .filter_map(|(key, digest)| Some((Reference::parse(key)?, digest.clone())))
        .collect()
}

/// Creates a snapshot. One that is there already is the same, for nobody can change it; one of an earlier ReplicaSet
/// of this name is about to be collected.
async fn post<K: Writable + Serialize>(
    writer: &Writer,
    namespace: &str,
    copy: &K,
    owner: &Owner<'_>,
) -> Result<(), WriteError> {
    if writer.post(namespace, copy).await?.is_some() {
        return Ok(());
    }
    let name = copy.meta().name.clone().unwrap_or_default();
    match writer.get::<K>(namespace, &name).await? {
        Some(live) if is_owned_by(&live, owner.uid) => Ok(()),
        Some(live) if service_of(&name).is_some() && is_ours(&live) => Err(WriteError::Stale(Target {
            verb: "create",
            resource: K::plural(&()).into_owned(),
            name,
        })),
        Some(_) => Err(WriteError::NameTaken {
            target: Target {
                verb: "create",
                resource: K::plural(&()).into_owned(),
                name,
            },
            hint: "delete that object".to_owned(),
        }),
        None => Ok(()),
    }
}

fn is_ours(object: &impl Resource) -> bool {
    let annotations = object.meta().annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(labels::SNAPSHOT_OF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_whose_they_are() {
        let reference = |key| Reference::parse(key).unwrap();
        let revision = Revision::from("694e87771d");
        let service = "a".repeat(46);
        let map = name(&service, &revision, &reference("configmap/env"));
        assert!(map.len() <= 68, "{map}");
        assert!(map.starts_with(&format!("{service}-694e87771d-")));
        assert_ne!(map, name(&service, &revision, &reference("configmap/env2")));
        assert_ne!(map, name(&service, &revision, &reference("secret/env")));
        assert_eq!(service_of(&map), Some(&*service));
        let long = reference(&format!("configmap/{}", "x".repeat(253)));
        assert_eq!(name(&service, &revision, &long).len(), map.len());
        for other in [
            "app-env",
            "checkout-694e87771d",
            "-694e87771d-694e87771d",
            "694e87771d-694e87771d",
            "checkout-694e87771d-694E87771d",
            "é-694e87771d-é",
            "",
        ] {
            assert_eq!(service_of(other), None, "{other}");
        }
    }
}

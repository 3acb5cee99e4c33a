//! The content of ConfigMaps and Secrets as a part of the revision.
//!
//! | | |
//! |---|---|
//! | [`references`] | what a template names, and how its names are replaced |
//! | [`contents`] | a digest of what each object holds |
//! | [`users`] | which services a change concerns |
//! | [`snapshots`] | copies for the pods of one revision |
//! | [`molt_core::config`] | which revision is asked for, and when |
//!
//! See `docs/adr/0016-content-is-part-of-the-revision.md`.

pub mod contents;
pub mod references;
pub mod snapshots;
pub mod users;

use jiff::{SignedDuration, Timestamp};
use molt_core::config::{Asked, Content, Written, ask as decide, hold};
use molt_core::decision::ConditionView;
use molt_core::plan::Revision;
use molt_core::state::State;
use serde_json::json;

use self::references::{Kind, Reference};
use self::snapshots::Snapshots;
use super::caches::Caches;
use super::object::ServiceObject;
use super::render::revision_name;
use super::revision;
use super::validate::Validated;
use crate::k8s::Key;

/// The condition that tells of it.
pub const CONDITION: &str = "ConfigReady";

/// How long until it is looked again whether contents can be read.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// The name of a revision with content; without any it is the plain one.
pub fn name(plain: &Revision, content: &Content) -> Revision {
    if content.is_empty() {
        return plain.clone();
    }
    let hashed = json!({"plain": plain, "content": content});
    Revision(revision::digest(&hashed))
}

/// Which revision a spec asks for, by what is known of the objects that its template names.
pub fn ask(
    object: &ServiceObject,
    validated: &Validated,
    state: &State,
    caches: &Caches,
    now: Timestamp,
) -> Asked {
    let unknown = object.workload.as_ref().is_some_and(|w| w.unknown.is_some());
    if unknown && validated.errors.is_empty() && !object.is_deleting() {
        return Asked {
            until: Some(now.checked_add(LOOK_AGAIN).unwrap_or(now)),
            ..hold(state)
        };
    }
    let (Some(plain), Some(_)) = (&object.revision, &validated.plan.revision) else {
        return Asked {
            config: state.config.clone(),
            ..Asked::default()
        };
    };
    let contents = &caches.contents;
    if object.counted.iter().any(|r| !contents.is_known(r.kind)) {
        return Asked {
            until: Some(now.checked_add(LOOK_AGAIN).unwrap_or(now)),
            ..hold(state)
        };
    }
    let key = object.key();
    let sets = caches.sets.of(&key);
    let snapshots = Snapshots {
        service: &key,
        contents,
        sets: &sets,
    };
    let mut held = std::collections::BTreeMap::new();
    for reference in &object.counted {
        match contents.get(&key.namespace, reference) {
            Some(found) if found.followed => {}
            found => drop(held.insert(reference.to_string(), found.map(|f| f.digest))),
        }
    }
    let kept = |key: &str, digest: &str| {
        Reference::parse(key).is_some_and(|reference| snapshots.copy(&reference, digest).is_some())
    };
    let written = Written {
        plain: plain.clone(),
        held,
        names_any: !object.counted.is_empty(),
        name: &name,
        exists: &|revision| sets.contains_key(&revision_name(&key.name, revision)),
        kept: &kept,
    };
    decide(state, &written, now)
}

/// What the user is told; nothing where no content counts.
pub fn condition(object: &ServiceObject, asked: &Asked, caches: &Caches) -> Option<ConditionView> {
    let key = object.key();
    let sets = caches.sets.of(&key);
    let counts = !object.counted.is_empty() || sets.values().any(|set| !set.config.is_empty());
    if !counts || object.is_deleting() {
        return None;
    }
    let contents = &caches.contents;
    let unread = [Kind::ConfigMap, Kind::Secret]
        .into_iter()
        .find(|kind| object.counted.iter().any(|r| r.kind == *kind) && !contents.is_known(*kind));
    if let Some(kind) = unread {
        return Some(view(
            false,
            "ConfigUnread",
            unread_message(kind, contents.trouble(kind)),
        ));
    }
    let snapshots = Snapshots {
        service: &key,
        contents,
        sets: &sets,
    };
    if let Some(message) = lost(&key, &snapshots) {
        return Some(view(false, "SnapshotLost", message));
    }
    let config = asked.config.as_ref();
    if let Some(settling) = config.and_then(|c| c.settling.as_ref()) {
        let message = format!(
            "revision {} waits for {} s without a further change of the template or of what it names",
            settling.revision,
            molt_core::config::SETTLES.as_secs()
        );
        return Some(view(true, "Settling", message));
    }
    Some(view(true, "Settled", settled(object, asked, contents)))
}

fn settled(object: &ServiceObject, asked: &Asked, contents: &contents::Contents) -> String {
    let namespace = object.key().namespace;
    let missing: Vec<String> = object
        .counted
        .iter()
        .filter(|r| contents.get(&namespace, r).is_none())
        .map(Reference::to_string)
        .collect();
    let mut message = match asked.content.len() {
        0 => "no content is part of the revision".to_owned(),
        1 => "the content of one object is part of the revision".to_owned(),
        n => format!("the content of {n} objects is part of the revision"),
    };
    for (index, key) in missing.iter().enumerate().take(3) {
        let first = if index == 0 { "; missing: " } else { ", " };
        message = format!("{message}{first}{key}");
    }
    if missing.len() > 3 {
        message = format!("{message} and {} more", missing.len() - 3);
    }
    message
}

/// What pods that are wanted can't be started with any more.
fn lost(key: &Key, snapshots: &Snapshots) -> Option<String> {
    for set in snapshots.sets.values().filter(|set| set.wanted > 0) {
        if !snapshots.contents.knows(&set.config) {
            continue;
        }
        let gone = |(reference, digest): &(Reference, String)| snapshots.source(reference, digest).is_none();
        if let Some((reference, _)) = snapshots.missing(set).into_iter().find(gone) {
            return Some(lost_message(&key.name, &set.revision, &reference));
        }
    }
    None
}

/// That a snapshot is gone, and what to do.
pub fn lost_message(service: &str, revision: &Revision, reference: &Reference) -> String {
    let name = snapshots::name(service, revision, reference);
    format!(
        "the content of {reference} that revision {revision} runs with is nowhere any more: its snapshot {name} was deleted, and {reference} has another content now; new pods of that revision can't start: give {reference} the old content again, or roll out a new revision"
    )
}

/// That a kind can't be read, and what to do.
pub fn unread_message(kind: Kind, trouble: Option<String>) -> String {
    let (plural, fix) = match kind {
        Kind::ConfigMap => ("configmaps", "spec.configRevision.configMaps: Follow"),
        Kind::Secret => ("secrets", "spec.configRevision.secrets: Follow"),
    };
    let why = trouble.unwrap_or_else(|| "the first list is under way".to_owned());
    format!(
        "the contents that are part of the revision are not known, so no new revision begins: {why}; the operator needs get, list, watch and create on {plural}; {fix} does without"
    )
}

fn view(status: bool, reason: &str, message: String) -> ConditionView {
    ConditionView {
        kind: CONDITION,
        status,
        reason: reason.to_owned(),
        message,
        fault: !status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_never_changes_by_accident() {
        let plain = Revision::from("694e87771d");
        let content: Content = [("configmap/env".to_owned(), "00112233445566ff".to_owned())].into();
        assert_eq!(name(&plain, &content).0, "bcde83c203");
        assert_eq!(name(&plain, &Content::new()), plain);
        let other: Content = [("secret/env".to_owned(), "00112233445566ff".to_owned())].into();
        assert_ne!(name(&plain, &content), name(&plain, &other));
    }
}

//! What is kept of ConfigMaps and Secrets: a digest of each one's content, and nothing of the content itself.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use molt_core::config::Content;
use sha2::{Digest, Sha256};

use super::references::{Kind, Reference};
use crate::k8s::index::{Facts, Index, Presence};
use crate::k8s::{Key, labels};

/// Hex digits of a digest.
const DIGITS: usize = 16;

/// A Secret that the control plane itself keeps up to date; a copy of it would be of no use.
const TOKEN: &str = "kubernetes.io/service-account-token";

/// What is kept of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// A digest of its content.
    pub digest: String,
    /// It is followed, whatever the spec says: it says so itself, or can't be copied.
    pub followed: bool,
    /// A snapshot's owner: the UID of the ReplicaSet.
    pub owner: Option<String>,
}

/// What is kept of a ConfigMap, by its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapFacts(pub Held);

/// What is kept of a Secret, by its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts(pub Held);

impl Facts for ConfigMapFacts {
    type Object = ConfigMap;

    fn read(map: &ConfigMap) -> Option<(String, Self)> {
        let held = held(&map.metadata, digest_of_map(map), false)?;
        Some((map.metadata.name.clone()?, Self(held)))
    }
}

impl Facts for SecretFacts {
    type Object = Secret;

    fn read(secret: &Secret) -> Option<(String, Self)> {
        let is_token = secret.type_.as_deref() == Some(TOKEN);
        let held = held(&secret.metadata, digest_of_secret(secret), is_token)?;
        Some((secret.metadata.name.clone()?, Self(held)))
    }
}

fn held(metadata: &ObjectMeta, digest: String, followed: bool) -> Option<Held> {
    if metadata.deletion_timestamp.is_some() {
        return None;
    }
    let says = annotation(metadata, labels::FOLLOW).is_some_and(|value| value == "true");
    let owners = metadata.owner_references.iter().flatten();
    let is_copy = annotation(metadata, labels::SNAPSHOT_OF).is_some();
    Some(Held {
        digest,
        followed: followed || says,
        owner: owners.map(|o| o.uid.clone()).next().filter(|_| is_copy),
    })
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// A digest of what pods see of a ConfigMap.
pub fn digest_of_map(map: &ConfigMap) -> String {
    let mut hash = Sha256::new();
    for (key, value) in map.data.iter().flatten() {
        feed(&mut hash, b't', key, value.as_bytes());
    }
    binary(&mut hash, map.binary_data.as_ref());
    finish(hash)
}

/// A digest of what pods see of a Secret. It is shown in objects that more people may read than the Secret, and what
/// is easily guessed must not be found by trying: so the Secret's UID is in it, which only they know who may read
/// it. A Secret that was deleted and made again has another digest.
pub fn digest_of_secret(secret: &Secret) -> String {
    let mut hash = Sha256::new();
    feed(&mut hash, b'u', "uid", origin(&secret.metadata).as_bytes());
    binary(&mut hash, secret.data.as_ref());
    finish(hash)
}

/// The UID of the Secret that this is, or is a copy of.
pub fn origin(metadata: &ObjectMeta) -> &str {
    annotation(metadata, labels::SNAPSHOT_ORIGIN)
        .or(metadata.uid.as_deref())
        .unwrap_or_default()
}

fn binary(hash: &mut Sha256, data: Option<&BTreeMap<String, ByteString>>) {
    for (key, value) in data.into_iter().flatten() {
        feed(hash, b'b', key, &value.0);
    }
}

/// Lengths come first, so that no two contents are the same stream of bytes.
fn feed(hash: &mut Sha256, sort: u8, key: &str, value: &[u8]) {
    hash.update([sort]);
    for part in [key.as_bytes(), value] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
}

fn finish(hash: Sha256) -> String {
    let mut digits = String::with_capacity(DIGITS);
    for byte in hash.finalize().iter().take(DIGITS / 2) {
        // Writing to a String does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// The caches of both kinds.
#[derive(Default)]
pub struct Contents {
    /// ConfigMaps.
    pub config_maps: Arc<Index<ConfigMapFacts>>,
    /// Secrets; nobody fills it unless the operator was told that it may read them.
    pub secrets: Arc<Index<SecretFacts>>,
}

impl Contents {
    /// What is known of an object.
    pub fn get(&self, namespace: &str, reference: &Reference) -> Option<Held> {
        let group = Key::new(namespace, &reference.name);
        match reference.kind {
            Kind::ConfigMap => Some(self.config_maps.get(&group, &reference.name)?.0.clone()),
            Kind::Secret => Some(self.secrets.get(&group, &reference.name)?.0.clone()),
        }
    }

    /// Everything of the kind that there is is known.
    pub fn is_known(&self, kind: Kind) -> bool {
        let presence = match kind {
            Kind::ConfigMap => self.config_maps.presence(),
            Kind::Secret => self.secrets.presence(),
        };
        presence == Presence::Present
    }

    /// Everything of the kinds that there is content of is known.
    pub fn knows(&self, content: &Content) -> bool {
        let kinds = content.keys().filter_map(|key| Reference::parse(key));
        kinds
            .map(|reference| reference.kind)
            .all(|kind| self.is_known(kind))
    }

    /// Why the kind can't be watched.
    pub fn trouble(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::ConfigMap => self.config_maps.trouble(),
            Kind::Secret => self.secrets.trouble(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn map(content: &Value) -> ConfigMap {
        let mut object = json!({"metadata": {"name": "env", "namespace": "shop", "uid": "u"}});
        for (field, value) in content.as_object().unwrap() {
            object[field] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn secret(uid: &str, annotations: &Value) -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": "token", "uid": uid, "annotations": annotations},
            "data": {"password": "aHVudGVyMg=="},
        }))
        .unwrap()
    }

    #[test]
    fn the_digest_never_changes_by_accident() {
        // Live services are known by it: another one for the same content would start a rollout of each.
        assert_eq!(digest_of_map(&map(&json!({"data": {"a": "1"}}))), VECTORS[0]);
        assert_eq!(
            digest_of_map(&map(
                &json!({"data": {"a": "1", "b": ""}, "binaryData": {"c": "AAH/"}})
            )),
            VECTORS[1]
        );
        assert_eq!(digest_of_map(&map(&json!({}))), VECTORS[2]);
        assert_eq!(digest_of_secret(&secret("u-1", &Value::Null)), VECTORS[3]);
    }

    const VECTORS: [&str; 4] = [
        "4ba20645c456cda3",
        "dd09b7b2cb86889c",
        "e3b0c44298fc1c14",
        "52bbea67d3072ee7",
    ];

    #[test]
    fn only_the_content_counts_and_all_of_it() {
        let digest = |content: Value| digest_of_map(&map(&content));
        let base = digest(json!({"data": {"a": "1"}}));
        assert_eq!(
            base,
            digest(json!({"data": {"a": "1"}, "immutable": true, "binaryData": {}}))
        );
        for other in [
            json!({"data": {"a": "2"}}),
            json!({"data": {"b": "1"}}),
            json!({"data": {"a1": ""}}),
            json!({"data": {"a": "1", "b": ""}}),
            json!({"binaryData": {"a": "MQ=="}}),
            json!({}),
        ] {
            assert_ne!(digest(other.clone()), base, "{other}");
        }
    }

    #[test]
    fn a_secrets_digest_can_be_guessed_by_nobody_who_may_not_read_it() {
        let own = digest_of_secret(&secret("u-1", &Value::Null));
        assert_ne!(own, digest_of_secret(&secret("u-2", &Value::Null)));
        let copy = secret("u-3", &json!({labels::SNAPSHOT_ORIGIN: "u-1"}));
        assert_eq!(own, digest_of_secret(&copy), "a copy holds the same");
    }

    #[test]
    fn an_object_may_opt_out() {
        let read = |annotations: Value| {
            let mut map = map(&json!({}));
            map.metadata.annotations = serde_json::from_value(annotations).unwrap();
            ConfigMapFacts::read(&map).unwrap().1.0.followed
        };
        assert!(read(json!({"molt.dev/follow": "true"})));
        assert!(!read(json!({"molt.dev/follow": "false"})));
        assert!(!read(Value::Null));
        let mut token = secret("u-1", &Value::Null);
        token.type_ = Some(TOKEN.to_owned());
        assert!(SecretFacts::read(&token).unwrap().1.0.followed);
    }

    #[test]
    fn what_is_on_its_way_out_is_gone() {
        let mut map = map(&json!({}));
        map.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(ConfigMapFacts::read(&map), None);
    }
}

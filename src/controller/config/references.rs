//! Which ConfigMaps and Secrets a pod template names.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Volume};

use crate::api::v1alpha1::{ConfigRevision, ContentPolicy, PythonServiceSpec};

/// The kinds of what can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl Kind {
    /// What happens with its content, by the spec or by default.
    pub fn policy(self, written: Option<&ConfigRevision>) -> ContentPolicy {
        match self {
            Self::ConfigMap => written
                .and_then(|c| c.config_maps)
                .unwrap_or(ContentPolicy::Snapshot),
            Self::Secret => written.and_then(|c| c.secrets).unwrap_or(ContentPolicy::Follow),
        }
    }

    /// The first part of a key.
    fn word(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmap",
            Self::Secret => "secret",
        }
    }
}

/// One object that a template names, in the namespace of the service: there is no way to name another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// Reads a key.
    pub fn parse(key: &str) -> Option<Self> {
        let (word, name) = key.split_once('/')?;
        let kind = [Kind::ConfigMap, Kind::Secret]
            .into_iter()
            .find(|kind| kind.word() == word)?;
        Some(Self {
            kind,
            name: name.to_owned(),
        })
    }
}

/// Its key: `configmap/app-env`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.name)
    }
}

/// A certificate that the control plane renews by itself: a copy of it would grow old.
const ALWAYS_FOLLOWED: &str = "kube-root-ca.crt";

/// What a spec's template names of which the content counts, as far as the spec alone tells.
pub fn counted(spec: &PythonServiceSpec) -> BTreeSet<Reference> {
    let policy = |kind: Kind| kind.policy(spec.config_revision.as_ref());
    let template = spec.template.as_ref().map(named).unwrap_or_default();
    template
        .into_iter()
        .filter(|r| policy(r.kind) == ContentPolicy::Snapshot && r.name != ALWAYS_FOLLOWED)
        .collect()
}

/// What a template names: in volumes, projected volumes, `env` and `envFrom`, of all containers. What the
/// kubelet or a driver reads for itself, such as pull secrets and the credentials of volumes, is none of it.
pub fn named(template: &PodTemplateSpec) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    // One walk for finding and for renaming: neither can know of a place that the other does not.
    rename(&mut template.clone(), |reference| {
        found.insert(reference.clone());
        None
    });
    found
}

/// Gives what a template names other names; `None` leaves one as it is.
pub fn rename(template: &mut PodTemplateSpec, mut to: impl FnMut(&Reference) -> Option<String>) {
    let mut visit = |kind: Kind, name: &mut String| {
        if name.is_empty() {
            return;
        }
        let reference = Reference {
            kind,
            name: name.clone(),
        };
        if let Some(other) = to(&reference) {
            *name = other;
        }
    };
    if let Some(spec) = &mut template.spec {
        in_volumes(spec, &mut visit);
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            in_container(container, &mut visit);
        }
    }
}

fn in_volumes(spec: &mut PodSpec, visit: &mut impl FnMut(Kind, &mut String)) {
    for volume in spec.volumes.iter_mut().flatten() {
        let Volume {
            config_map,
            secret,
            projected,
            ..
        } = volume;
        if let Some(map) = config_map {
            visit(Kind::ConfigMap, &mut map.name);
        }
        if let Some(name) = secret.as_mut().and_then(|s| s.secret_name.as_mut()) {
            visit(Kind::Secret, name);
        }
        for source in projected.iter_mut().filter_map(|p| p.sources.as_mut()).flatten() {
            if let Some(map) = &mut source.config_map {
                visit(Kind::ConfigMap, &mut map.name);
            }
            if let Some(secret) = &mut source.secret {
                visit(Kind::Secret, &mut secret.name);
            }
        }
    }
}

fn in_container(container: &mut Container, visit: &mut impl FnMut(Kind, &mut String)) {
    for source in container.env_from.iter_mut().flatten() {
        if let Some(map) = &mut source.config_map_ref {
            visit(Kind::ConfigMap, &mut map.name);
        }
        if let Some(secret) = &mut source.secret_ref {
            visit(Kind::Secret, &mut secret.name);
        }
    }
    for source in container
        .env
        .iter_mut()
        .flatten()
        .filter_map(|v| v.value_from.as_mut())
    {
        if let Some(map) = &mut source.config_map_key_ref {
            visit(Kind::ConfigMap, &mut map.name);
        }
        if let Some(secret) = &mut source.secret_key_ref {
            visit(Kind::Secret, &mut secret.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Names something in every place that there is.
    fn template() -> PodTemplateSpec {
        serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "configMap": {"name": "volume", "optional": true}},
                {"name": "b", "secret": {"secretName": "volume"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "projected", "items": [{"key": "k", "path": "p"}]}},
                    {"secret": {"name": "projected"}},
                    {"downwardAPI": {}},
                ]}},
                {"name": "d", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "e", "emptyDir": {}},
            ],
            "initContainers": [{"name": "init", "envFrom": [{"configMapRef": {"name": "init"}}]}],
            "containers": [{"name": "app", "image": "checkout:1",
                "envFrom": [
                    {"configMapRef": {"name": "env-from"}, "prefix": "A_"},
                    {"secretRef": {"name": "env-from"}},
                    {"configMapRef": {"name": ""}},
                ],
                "env": [
                    {"name": "A", "value": "configmap/none"},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "k"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                    {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
            }],
        }}))
        .unwrap()
    }

    #[test]
    fn every_place_is_found_and_no_other() {
        let found: Vec<String> = named(&template()).iter().map(Reference::to_string).collect();
        let maps = ["env", "env-from", "init", "projected", "volume"].map(|n| format!("configmap/{n}"));
        let secrets = ["env", "env-from", "projected", "volume"].map(|n| format!("secret/{n}"));
        assert_eq!(found, [maps.as_slice(), secrets.as_slice()].concat());
        for key in found {
            assert_eq!(Reference::parse(&key).unwrap().to_string(), key);
        }
        assert_eq!(Reference::parse("pod/x"), None);
    }

    #[test]
    fn what_is_found_is_what_is_renamed() {
        let mut renamed = template();
        rename(&mut renamed, |r| {
            (r.kind == Kind::ConfigMap).then(|| format!("{}-1", r.name))
        });
        let expected = json!(template()).to_string();
        let expected =
            ["volume", "projected", "init", "env-from", "env"]
                .iter()
                .fold(expected, |text, name| {
                    let once = |text: String, form: &str| {
                        text.replace(&form.replace('?', name), &form.replace('?', &format!("{name}-1")))
                    };
                    let text = once(text, r#""configMap":{"name":"?""#);
                    let text = once(
                        text,
                        r#""configMap":{"items":[{"key":"k","path":"p"}],"name":"?""#,
                    );
                    let text = once(text, r#""configMapRef":{"name":"?""#);
                    once(text, r#""configMapKeyRef":{"key":"k","name":"?""#)
                });
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(json!(renamed), expected);
        assert_ne!(renamed, template());
    }

    #[test]
    fn the_spec_says_what_counts() {
        let spec = |policy: Value| -> PythonServiceSpec {
            let mut object = crate::controller::object::tests::minimal();
            object["spec"]["template"] = json!(template());
            object["spec"]["configRevision"] = policy;
            serde_json::from_value(object["spec"].take()).unwrap()
        };
        let counts = |policy: Value| {
            let counted = counted(&spec(policy));
            let of = |kind| counted.iter().filter(|r| r.kind == kind).count();
            (of(Kind::ConfigMap), of(Kind::Secret))
        };
        assert_eq!(counts(Value::Null), (5, 0));
        assert_eq!(counts(json!({})), (5, 0));
        assert_eq!(counts(json!({"configMaps": "Follow"})), (0, 0));
        assert_eq!(counts(json!({"secrets": "Snapshot"})), (5, 4));
        assert_eq!(
            counts(json!({"configMaps": "Follow", "secrets": "Snapshot"})),
            (0, 4)
        );
    }
}

//! Kinds that the server knows.

use serde_json::{Value, json};

use crate::shape::{Shape, metadata};

/// What a delete does that has not been asked to hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The object goes at once, and the answer is a `Status`.
    AtOnce,
    /// The object goes at once, and the answer is the object.
    AtOnceWithObject,
    /// A pod: once it has a node, its kubelet ends it.
    ByKubelet,
}

/// A kind.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // Facts about a kind, independent of each other.
pub struct Kind {
    /// The API group, empty for the core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The plural.
    pub plural: String,
    /// It lives in namespaces.
    pub namespaced: bool,
    /// It has a status subresource.
    pub status: bool,
    /// It is defined by a `CustomResourceDefinition`.
    pub custom: bool,
    /// It counts the generations of its spec.
    pub generation: bool,
    /// How server-side apply sees it.
    pub shape: Shape,
    /// What of it has defaults.
    pub defaulted: Shape,
    /// What a delete does.
    pub ending: Ending,
    /// Sets what the server decides at creation and at each update: defaults, addresses.
    pub defaults: fn(&mut Value),
}

impl Kind {
    /// A built-in kind with a status, in a namespace.
    pub fn built_in(group: &str, version: &str, kind: &str, plural: &str, shape: Shape) -> Self {
        let shape = shape.with("metadata", metadata(), None);
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            namespaced: true,
            status: true,
            custom: false,
            generation: false,
            defaulted: shape.with_defaults().unwrap_or_default(),
            shape,
            ending: Ending::AtOnce,
            defaults: |_| (),
        }
    }

    /// The kind of a `CustomResourceDefinition`: the first version that it serves.
    pub fn from_crd(crd: &Value) -> Self {
        let (spec, names) = (&crd["spec"], &crd["spec"]["names"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let versions = spec["versions"].as_array();
        let version = versions.into_iter().flatten().find(|v| v["served"] != false);
        let version = version.unwrap_or(&Value::Null);
        let shape = Shape::from_schema(&version["schema"]["openAPIV3Schema"]);
        let kind = Self::built_in(
            &text(&spec["group"]),
            &text(&version["name"]),
            &text(&names["kind"]),
            &text(&names["plural"]),
            shape,
        );
        Self {
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            custom: true,
            generation: true,
            ..kind
        }
    }

    /// `group/version`, or the version alone for the core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The plural with its group, as messages name it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The path of its list, or of an object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() { "/api/" } else { "/apis/" };
        let namespace = if namespace.is_empty() {
            String::new()
        } else {
            format!("/namespaces/{namespace}")
        };
        let name = if name.is_empty() {
            String::new()
        } else {
            format!("/{name}")
        };
        format!("{root}{}{namespace}/{}{name}", self.api_version(), self.plural)
    }

    /// Gives an object what the server gives it.
    pub fn finish(&self, object: &mut Value) {
        self.defaulted.apply_defaults(object);
        (self.defaults)(object);
        if let Some(metadata) = object["metadata"].as_object_mut() {
            // The server's own type has no empty ones.
            metadata.retain(|_, value| !is_empty(value));
        }
        object["apiVersion"] = json!(self.api_version());
        object["kind"] = json!(self.kind);
    }
}

/// Lists and maps that the types of Kubernetes leave out.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

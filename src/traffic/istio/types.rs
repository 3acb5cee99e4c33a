//! As much of `VirtualService` (`networking.istio.io/v1`) as is read here. What a user's says beside is never written,
//! so it need not be kept.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::k8s::index::Facts;
use crate::traffic::rules_owners::Kind;

/// The API version, served since Istio 1.22.
pub const API_VERSION: &str = "networking.istio.io/v1";

/// What its owners are told by.
pub const VIRTUAL_SERVICE: Kind = Kind {
    group: "networking.istio.io",
    kind: "VirtualService",
    plural: "virtualservices",
    reference: "virtualServiceRef",
    rules: &["http", "tls", "tcp"],
    written: &["gateways", "hosts", "http"],
    weights: ".spec.http[].route[].weight",
    instead: "spec.traffic.istio.hosts instead of virtualServiceRef",
};

/// A `VirtualService`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct VirtualService {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it asks for.
    #[serde(default)]
    pub spec: Spec,
    /// What istiod says of it, which it mostly does not.
    #[serde(default)]
    pub status: Status,
}

/// What a `VirtualService` asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Its hosts.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Its Gateways; none means the mesh.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Rules for HTTP, of which the first that matches counts.
    #[serde(default)]
    pub http: Vec<Rule>,
    /// Rules for TLS that is passed through.
    #[serde(default)]
    pub tls: Vec<Rule>,
    /// Rules for TCP.
    #[serde(default)]
    pub tcp: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which requests it is for; all, if there are none.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Value>,
    /// Where its traffic goes.
    #[serde(default)]
    pub route: Vec<Weighted>,
    /// Where copies go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Destination>,
    /// How many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_percentage: Option<Percentage>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A share of a rule's traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Weighted {
    /// Where it goes.
    #[serde(default)]
    pub destination: Destination,
    /// Its weight; one that is left out beside others is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Its host: the name of a Service, short or in full.
    #[serde(default)]
    pub host: String,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// A subset of its pods, as a `DestinationRule` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
}

/// A port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    #[serde(default)]
    pub number: u32,
}

/// A percentage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentage {
    /// 0 to 100.
    #[serde(default)]
    pub value: f64,
}

impl Destination {
    /// The Service in this namespace that it names; `None` if it names something else.
    pub fn service(&self, namespace: &str) -> Option<&str> {
        let mut parts = self.host.split('.');
        let name = parts.next()?;
        match (parts.next(), parts.next()) {
            (None, _) => Some(name),
            (Some(other), None | Some("svc")) if other == namespace => Some(name),
            _ => None,
        }
    }
}

/// What istiod says of a `VirtualService`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Which generation `Reconciled` is about.
    #[serde(default)]
    pub observed_generation: Option<IntOrString>,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A condition of Istio's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(default, rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// In words.
    #[serde(default)]
    pub message: String,
    /// Which generation it is about.
    #[serde(default)]
    pub observed_generation: Option<IntOrString>,
}

impl Resource for VirtualService {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        VIRTUAL_SERVICE.kind.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        VIRTUAL_SERVICE.group.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        VIRTUAL_SERVICE.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// They are grouped by their own name: a service finds its own by it.
impl Facts for VirtualService {
    type Object = DeserializeGuard<VirtualService>;

    const READS_MANAGED_FIELDS: bool = true;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        let live = object.0.as_ref().ok()?;
        let name = live.metadata.name.clone()?;
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: live.metadata.namespace.clone(),
            uid: live.metadata.uid.clone(),
            resource_version: live.metadata.resource_version.clone(),
            generation: live.metadata.generation,
            owner_references: live.metadata.owner_references.clone(),
            managed_fields: Some(VIRTUAL_SERVICE.kept(&live.metadata)),
            ..ObjectMeta::default()
        };
        Some((
            name,
            Self {
                metadata,
                spec: live.spec.clone(),
                status: live.status.clone(),
            },
        ))
    }
}

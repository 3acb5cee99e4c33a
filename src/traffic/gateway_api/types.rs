//! As much of `HTTPRoute` (`gateway.networking.k8s.io/v1`) as is read here. What a user's route says beside
//! is never written, so it need not be kept.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use serde::{Deserialize, Serialize};

use crate::k8s::index::Facts;
use crate::traffic::rules_owners::Kind;

/// The API version.
pub const API_VERSION: &str = "gateway.networking.k8s.io/v1";

/// What its owners are told by.
pub const HTTP_ROUTE: Kind = Kind {
    group: "gateway.networking.k8s.io",
    kind: "HTTPRoute",
    plural: "httproutes",
    reference: "httpRouteRef",
    rules: &["rules"],
    written: &["hostnames", "parentRefs", "rules"],
    weights: ".spec.rules[].backendRefs[].weight",
    instead: "spec.traffic.gatewayAPI.parentRefs instead of httpRouteRef",
};

/// The same of a `GRPCRoute`, which is an `HTTPRoute` in all that is read or written here.
pub const GRPC_ROUTE: Kind = Kind {
    kind: "GRPCRoute",
    plural: "grpcroutes",
    reference: "grpcRouteRef",
    instead: "spec.traffic.gatewayAPI.parentRefs instead of grpcRouteRef",
    ..HTTP_ROUTE
};

/// A kind of route of the Gateway API.
pub trait GatewayRoute:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Facts
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
{
    /// Which.
    const KIND: &'static Kind;

    /// What it says.
    fn content(&self) -> &HttpRoute;
}

impl GatewayRoute for HttpRoute {
    const KIND: &'static Kind = &HTTP_ROUTE;

    fn content(&self) -> &HttpRoute {
        self
    }
}

/// A `GRPCRoute`. Its matches differ by the method alone, which Molt writes into none.
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcRoute(HttpRoute);

impl GatewayRoute for GrpcRoute {
    const KIND: &'static Kind = &GRPC_ROUTE;

    fn content(&self) -> &HttpRoute {
        &self.0
    }
}

impl<'de> Deserialize<'de> for GrpcRoute {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut content = HttpRoute::deserialize(deserializer)?;
        content.of = Of(&GRPC_ROUTE);
        Ok(Self(content))
    }
}

impl Resource for GrpcRoute {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        GRPC_ROUTE.kind.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GRPC_ROUTE.group.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        GRPC_ROUTE.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl Facts for GrpcRoute {
    type Object = DeserializeGuard<GrpcRoute>;

    const READS_MANAGED_FIELDS: bool = true;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        let (name, content) = facts(&object.0.as_ref().ok()?.0)?;
        Some((name, Self(content)))
    }
}

/// Which kind a route is of, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Of(pub &'static Kind);

impl Default for Of {
    fn default() -> Self {
        Self(&HTTP_ROUTE)
    }
}

/// An `HTTPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct HttpRoute {
    /// What it is: a `GRPCRoute` has the same content.
    #[serde(skip)]
    pub of: Of,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it asks for.
    #[serde(default)]
    pub spec: HttpRouteSpec,
    /// What its parents say of it.
    #[serde(default)]
    pub status: HttpRouteStatus,
}

/// What a route asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Its parents, usually Gateways.
    #[serde(default)]
    pub parent_refs: Vec<ParentReference>,
    /// Its host names.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Its rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A parent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Its API group; by default that of the Gateway API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; by default `Gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; by default the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its listeners; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One of its ports; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

impl ParentReference {
    /// What the reference means in a route of this namespace, with every default filled in.
    pub fn meaning<'a>(
        &'a self,
        namespace: &'a str,
    ) -> (&'a str, &'a str, &'a str, &'a str, &'a str, Option<i32>) {
        (
            self.group.as_deref().unwrap_or("gateway.networking.k8s.io"),
            self.kind.as_deref().unwrap_or("Gateway"),
            self.namespace.as_deref().unwrap_or(namespace),
            &self.name,
            self.section_name.as_deref().unwrap_or_default(),
            self.port,
        )
    }
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which requests it is for; all, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<serde_json::Value>,
    /// Its filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<serde_json::Value>,
    /// How users stay on a backend; the CRDs of the standard channel don't have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<serde_json::Value>,
    /// Where its traffic goes.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Its API group; by default the core's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its kind; by default `Service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace; by default the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Its weight; by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Its filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<serde_json::Value>,
}

impl BackendRef {
    /// The Service in the route's own namespace that it names; `None` if it names something else.
    pub fn service(&self, namespace: &str) -> Option<&str> {
        let is_service = self.group.as_deref().is_none_or(str::is_empty)
            && self.kind.as_deref().is_none_or(|k| k == "Service")
            && self.namespace.as_deref().is_none_or(|n| n == namespace);
        is_service.then_some(self.name.as_str())
    }
}

/// What the parents of a route say of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct HttpRouteStatus {
    /// One entry for each parent and controller.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// What one controller says of the route at one parent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The parent.
    pub parent_ref: ParentReference,
    /// The controller.
    #[serde(default)]
    pub controller_name: String,
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Resource for HttpRoute {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "HTTPRoute".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "gateway.networking.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        HTTP_ROUTE.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Routes are grouped by their own name: a service finds its route by it.
impl Facts for HttpRoute {
    type Object = DeserializeGuard<HttpRoute>;

    const READS_MANAGED_FIELDS: bool = true;

    fn read(object: &Self::Object) -> Option<(String, Self)> {
        facts(object.0.as_ref().ok()?)
    }
}

/// What is kept of a route.
fn facts(route: &HttpRoute) -> Option<(String, HttpRoute)> {
    let name = route.metadata.name.clone()?;
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: route.metadata.namespace.clone(),
        uid: route.metadata.uid.clone(),
        resource_version: route.metadata.resource_version.clone(),
        generation: route.metadata.generation,
        owner_references: route.metadata.owner_references.clone(),
        managed_fields: Some(route.of.0.kept(&route.metadata)),
        ..ObjectMeta::default()
    };
    Some((
        name,
        HttpRoute {
            of: route.of,
            metadata,
            spec: route.spec.clone(),
            status: route.status.clone(),
        },
    ))
}

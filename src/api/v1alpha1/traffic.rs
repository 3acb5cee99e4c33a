//! PythonService: how traffic reaches it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How traffic reaches the service.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.gatewayAPI), has(self.istio), has(self.none)].exists_one(set, set)")
        .message("set exactly one of gatewayAPI (a route divides the traffic), istio (a VirtualService does) and none (no router: the pods behind the Service do)"),
    validation = Rule::new("has(self.none) == has(oldSelf.none) && has(self.istio) == has(oldSelf.istio)")
        .message("a service can't change between gatewayAPI, istio and none: users would be left on the old one; make a second PythonService, and delete this one when it is unused"),
    validation = Rule::new("!has(self.inCluster) || self.inCluster != 'Mesh' || (has(self.gatewayAPI) && has(self.gatewayAPI.parentRefs))")
        .message("inCluster: Mesh needs a route that Molt owns, with gatewayAPI.parentRefs: give a route of yours the parent {group: \"\", kind: Service, name: <service>} yourself; with istio name the host <service> and the gateway mesh"),
    validation = Rule::new("!has(self.inCluster) || !has(self.none) || self.inCluster == 'ReplicaShare'")
        .message("without a router the pods behind the Service divide the traffic of all callers: leave inCluster out, or write ReplicaShare")
)]
pub struct Traffic {
    /// By an HTTPRoute or GRPCRoute of the Gateway API.
    #[serde(default, rename = "gatewayAPI", skip_serializing_if = "Option::is_none")]
    pub gateway_api: Option<GatewayApi>,
    /// By a VirtualService of Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub istio: Option<Istio>,
    /// No router: callers come by the Service of the service's name, which divides its connections evenly over the pods
    /// behind it. A weight is what share comes nearest to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoRouter>,
    /// What callers of the Service of the service's name get during a rollout. Default Stable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cluster: Option<InCluster>,
}

/// What callers inside the cluster get during a rollout.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InCluster {
    /// Stable, until all users have moved and every new pod is ready.
    Stable,
    /// While the canary has a part of the users, the pods of both revisions: its share is its share of the pods.
    ReplicaShare,
    /// What the route says, by a mesh: the Service is a parent of the route that Molt owns.
    Mesh,
}

impl Traffic {
    /// The name of the user's own route.
    pub fn own_route(&self) -> Option<&str> {
        let gateway = self.gateway_api.as_ref();
        let gateway = gateway.and_then(|g| g.http_route_ref.as_ref().or(g.grpc_route_ref.as_ref()));
        let istio = self.istio.as_ref().and_then(|i| i.virtual_service_ref.as_ref());
        let own = gateway.map(|own| &own.name);
        own.or(istio.map(|own| &own.name)).map(String::as_str)
    }
}

/// No router. It has no fields yet: write `none: {}`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoRouter {}

/// A route of the Gateway API: Molt's own, or the user's.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.parentRefs), has(self.httpRouteRef), has(self.grpcRouteRef)].exists_one(set, set)")
        .message("set exactly one of parentRefs (Molt creates and owns the route) and httpRouteRef or grpcRouteRef (your own route)"),
    validation = Rule::new("has(self.parentRefs) == has(oldSelf.parentRefs) && has(self.grpcRouteRef) == has(oldSelf.grpcRouteRef)")
        .message("a service can't change between a route that Molt owns (parentRefs) and your own (httpRouteRef, grpcRouteRef): users would be left on the old one; make a second PythonService for the other route, and delete this one when it is unused"),
    validation = Rule::new("!has(self.hostnames) || has(self.parentRefs)")
        .message("hostnames belong to a route that Molt owns: set parentRefs, or put the hostnames into your own route"),
    validation = Rule::new("!has(self.sessionAffinity) || has(self.parentRefs)")
        .message("sessionAffinity belongs to a route that Molt owns: set parentRefs, or write sessionPersistence into the rules of your own route")
)]
pub struct GatewayApi {
    /// The parents of the route that Molt creates and owns: Gateways, or Services of a mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub parent_refs: Option<Vec<ParentRef>>,
    /// Your own route in the same namespace: Molt changes only the weights of the backendRefs that name
    /// `<service>-stable` and `<service>-canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route_ref: Option<HttpRouteRef>,
    /// The same of a GRPCRoute of yours, where `protocol` is GRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_route_ref: Option<HttpRouteRef>,
    /// Host names of the route that Molt owns. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub hostnames: Option<Vec<String>>,
    /// Users stay on the revision that they met first, by a cookie. It takes the Gateway API's CRDs of the experimental
    /// channel, and a gateway that knows `sessionPersistence`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
}

/// Users stay on the revision that they met first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// The cookie that the gateway gives them.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub cookie_name: String,
    /// How long it lasts. Default: until the browser is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

/// The kind of a route's parent.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParentKind {
    /// A Gateway.
    Gateway,
    /// A Service, whose callers in a mesh go by the route.
    Service,
}

/// A parent of a route.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.group) || (self.group == '') == (has(self.kind) && self.kind == 'Service')")
        .message("the group of a Service is \"\", that of a Gateway gateway.networking.k8s.io: leave group out")
)]
pub struct ParentRef {
    /// The API group of its kind; it need not be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["", "gateway.networking.k8s.io"]))]
    pub group: Option<String>,
    /// Its kind. Default Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ParentKind>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace. Default: the service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One of its listeners. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One of its ports. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

/// A route of the user's.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A VirtualService of Istio: Molt's own, or the user's.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.hosts) != has(self.virtualServiceRef)")
        .message("set exactly one of hosts (Molt creates and owns the VirtualService) and virtualServiceRef (your own)"),
    validation = Rule::new("has(self.hosts) == has(oldSelf.hosts)")
        .message("a service can't change between a VirtualService that Molt owns (hosts) and your own (virtualServiceRef): users would be left on the old one; make a second PythonService for the other, and delete this one when it is unused"),
    validation = Rule::new("!has(self.gateways) || has(self.hosts)")
        .message("gateways belong to a VirtualService that Molt owns: set hosts, or put the gateways into your own"),
    validation = Rule::new("!has(self.hosts) || !self.hosts.exists(host, host == '*') || (has(self.gateways) && !self.gateways.exists(gateway, gateway == 'mesh'))")
        .message("the host * can't be asked for inside the mesh: name gateways other than mesh, or the hosts")
)]
pub struct Istio {
    /// The hosts of the VirtualService that Molt creates and owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub hosts: Option<Vec<String>>,
    /// Its Gateways, `<namespace>/<name>`, and `mesh` for callers inside the mesh. Default: mesh alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub gateways: Option<Vec<String>>,
    /// Your own VirtualService in the same namespace: Molt changes only the weights of the destinations whose hosts are
    /// `<service>-stable` and `<service>-canary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_service_ref: Option<VirtualServiceRef>,
    /// How long a change may take to every proxy. It counts where istiod does not report that itself, which it
    /// rarely does. Default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation_delay: Option<Duration>,
}

/// A VirtualService of the user's.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

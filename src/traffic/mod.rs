//! What carries a service's traffic.
//!
//! A router is one module that implements [`TrafficRouter`], and one line in [`Routers::of`].

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use molt_core::group::{CANARY, STABLE};
use molt_core::observed::{Backend, Preview, Problem, ProblemKind, RouteView, Weights};
use molt_core::plan::{Revision, RouteMode};

use crate::api::v1alpha1::ParentRef;
use crate::controller::runs::Schedule;
use crate::k8s::Key;
use crate::k8s::failure::WriteError;
use rules_owners::Edit;

pub mod gateway_api;
pub mod istio;
pub mod replica_share;
pub mod rules_owners;
pub mod users_route;
pub mod workers;

/// The route that a spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteSpec {
    /// Molt's own of the Gateway API, named as the service.
    Owned {
        /// What is spoken.
        protocol: Protocol,
        /// What it says beside the weights; absent while the spec can't be used, then it keeps what it says.
        content: Option<OwnedRoute>,
    },
    /// The user's of the Gateway API.
    Adopted {
        /// What is spoken.
        protocol: Protocol,
        /// Its name.
        name: String,
    },
    /// A VirtualService of Istio.
    Istio {
        /// Whose it is.
        whose: Whose,
        /// How long a change may take to every proxy, where istiod does not report it.
        delay: SignedDuration,
    },
    /// There is none: the pods behind the Service divide the traffic.
    Shares,
    /// There is no traffic: workers take their work themselves.
    Workers {
        /// Only one pod may run.
        singleton: bool,
    },
    /// There is none: runs come by a schedule, which is absent while the spec can't be used; then it stays as it is.
    Runs {
        /// The schedule, and what else is no part of a revision.
        schedule: Option<Schedule>,
    },
}

impl RouteSpec {
    /// Who owns it, for the plan.
    pub fn mode(&self) -> RouteMode {
        match self {
            Self::Owned { .. }
            | Self::Istio {
                whose: Whose::Molts(_),
                ..
            } => RouteMode::Owned,
            Self::Adopted { .. }
            | Self::Istio {
                whose: Whose::Users(_),
                ..
            } => RouteMode::Adopted,
            Self::Shares => RouteMode::Shares,
            Self::Workers { singleton: false } => RouteMode::Workers,
            Self::Workers { singleton: true } => RouteMode::Singleton,
            Self::Runs { .. } => RouteMode::Runs,
        }
    }

    /// Runs come by a schedule.
    pub fn by_runs(&self) -> bool {
        matches!(self, Self::Runs { .. })
    }

    /// The schedule of runs, where the spec says it.
    pub fn schedule(&self) -> Option<&Schedule> {
        match self {
            Self::Runs { schedule } => schedule.as_ref(),
            _ => None,
        }
    }

    /// What kind of object the route is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Owned { protocol, .. } | Self::Adopted { protocol, .. } => match protocol {
                Protocol::Http => gateway_api::HTTP_ROUTE.kind,
                Protocol::Grpc => gateway_api::GRPC_ROUTE.kind,
            },
            Self::Istio { .. } => istio::VIRTUAL_SERVICE.kind,
            Self::Shares => "Service",
            Self::Workers { .. } => "ReplicaSet",
            Self::Runs { .. } => "CronJob",
        }
    }

    /// The route's name.
    pub fn name<'a>(&'a self, service: &'a str) -> &'a str {
        match self {
            Self::Owned { .. }
            | Self::Shares
            | Self::Workers { .. }
            | Self::Runs { .. }
            | Self::Istio {
                whose: Whose::Molts(_),
                ..
            } => service,
            Self::Adopted { name, .. }
            | Self::Istio {
                whose: Whose::Users(name),
                ..
            } => name,
        }
    }
}

/// What a route of the Gateway API speaks, and so which kind it is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// An HTTPRoute.
    #[default]
    Http,
    /// A GRPCRoute.
    Grpc,
}

/// Whose a VirtualService is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Molt's own, named as the service; what it says beside the weights is absent while the spec can't be used.
    Molts(Option<OwnedVirtualService>),
    /// The user's: its name.
    Users(String),
}

/// What a VirtualService of Molt's says beside the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedVirtualService {
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its Gateways; empty for the mesh alone.
    pub gateways: Vec<String>,
}

/// What a route of Molt's says beside the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRoute {
    /// Its parents.
    pub parents: Vec<ParentRef>,
    /// The Service of the service's own name is one as well.
    pub mesh: bool,
    /// How users stay on a revision.
    pub sessions: Option<Sessions>,
    /// Its host names; empty for all.
    pub hostnames: Vec<String>,
    /// Each backend sets a request header that names its revision, which also gives it an Envoy cluster of its
    /// own.
    pub names_revisions: bool,
}

/// A cookie that keeps users on the revision that they met first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Its name.
    pub cookie: String,
    /// How long it lasts, as the Gateway API writes it; until the browser is closed, if absent.
    pub max_age: Option<String>,
}

/// The service whose traffic is meant.
#[derive(Clone, Debug)]
pub struct RouteTarget {
    /// The PythonService.
    pub service: Key,
    /// The PythonService as an owner.
    pub owner: OwnerReference,
    /// Its route.
    pub spec: RouteSpec,
    /// The serving port of each revision.
    pub ports: BTreeMap<Revision, u16>,
    /// The field manager that lately wrote the weights of a user's route back.
    pub rival: Option<String>,
    /// How a route of Molt's tells the rest of a group which revision a request went to.
    pub mark: Option<Mark>,
}

/// A request header that is set for each revision: `canary` for the one under test, `stable` for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its name.
    pub header: String,
    /// The revision under test.
    pub canary: Option<Revision>,
}

impl Mark {
    fn value(&self, revision: &Revision) -> &'static str {
        if self.canary.as_ref() == Some(revision) {
            CANARY
        } else {
            STABLE
        }
    }
}

impl RouteTarget {
    /// The same with what the route tells of each revision.
    #[must_use]
    pub fn marked(&self, mark: Option<Mark>) -> Self {
        Self { mark, ..self.clone() }
    }

    /// The ports of all revisions that a preview names are known.
    fn serves(&self, preview: &Preview) -> bool {
        let kept = preview.kept.as_ref().map(|kept| &kept.revision);
        let mut named = kept.into_iter().chain([&preview.revision]);
        named.all(|revision| self.ports.contains_key(revision))
    }

    /// The name of a revision's own Service.
    pub fn service_of(&self, revision: &Revision) -> String {
        format!("{}-{revision}", self.service.name)
    }

    /// What a user's route has to have, in words; the port where all revisions have the same.
    fn backends_to_write(&self) -> String {
        let [(_, stable), (_, canary)] = users_route::slot_names(&self.service.name);
        let mut ports = self.ports.values();
        let first = ports.next().filter(|first| ports.all(|port| port == *first));
        let port = first.map_or_else(String::new, |port| format!(", port {port}"));
        format!("{stable} (weight: 100) and {canary} (weight: 0){port}, with both weights written out")
    }

    /// Of what a route of Molt's has, the weights of those revisions that can still be written, in percent.
    fn writable(&self, weights: &BTreeMap<Backend, i32>) -> Weights {
        let mut weights = users_route::percent(weights);
        weights.retain(|backend, _| matches!(backend, Backend::Revision(r) if self.ports.contains_key(r)));
        weights
    }
}

/// The route as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// For the decision. Its `acknowledged` says that the router has taken the route in its present form.
    pub view: RouteView,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    /// For which of the route's parents no controller has answered yet, in words; usual for a moment after each
    /// change.
    pub unanswered: Option<String>,
    /// When it counts as acknowledged by the time that has passed alone, if that is still to come.
    pub acknowledged_at: Option<Timestamp>,
    /// Where the route names the revisions' Services.
    pub backends: Vec<BackendPlace>,
    /// What somebody else has written in a route of Molt's.
    pub edit: Option<Edit>,
}

/// Where a route names a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPlace {
    /// The Service.
    pub service: String,
    /// The index of the rule.
    pub rule: usize,
    /// The index of the backend in the rule.
    pub index: usize,
}

/// Something that divides traffic by weights.
pub trait TrafficRouter: Send + Sync {
    /// The route as the caches have it, and what its controller has acknowledged by now.
    fn observe(&self, target: &RouteTarget, now: Timestamp) -> Sighting;

    /// Brings everything but the weights into the form that the spec asks for, and says whether anything had to be
    /// written for it.
    fn reconcile<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<bool, WriteError>>;

    /// Gives the route these weights, and what goes to a revision beside its weight; creates a route of Molt's that does
    /// not exist yet. A route of the user's takes weights only.
    fn set_route<'a>(
        &'a self,
        target: &'a RouteTarget,
        weights: &'a Weights,
        preview: Option<&'a Preview>,
    ) -> BoxFuture<'a, Result<(), WriteError>>;

    /// Gives a route of the user's back: all traffic on stable, no field owned.
    fn finalize<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<(), WriteError>>;
}

/// Every router.
pub struct Routers {
    /// The Gateway API.
    pub gateway_api: gateway_api::GatewayApi<gateway_api::HttpRoute>,
    /// The Gateway API's routes for gRPC.
    pub grpc: gateway_api::GatewayApi<gateway_api::GrpcRoute>,
    /// Istio.
    pub istio: istio::Istio,
    /// No router.
    pub replica_share: replica_share::ReplicaShare,
    /// No traffic.
    pub workers: workers::Workers,
    /// Whether routes of the Gateway API can keep users on a backend.
    pub sessions: gateway_api::sessions::Sessions,
}

impl Routers {
    /// The router of a route.
    pub fn of(&self, route: &RouteSpec) -> &dyn TrafficRouter {
        match route {
            RouteSpec::Owned { protocol, .. } | RouteSpec::Adopted { protocol, .. } => match protocol {
                Protocol::Http => &self.gateway_api,
                Protocol::Grpc => &self.grpc,
            },
            RouteSpec::Istio { .. } => &self.istio,
            RouteSpec::Shares => &self.replica_share,
            RouteSpec::Workers { .. } | RouteSpec::Runs { .. } => &self.workers,
        }
    }
}

/// Nobody has answered for a parent of the route, and not only for a moment.
pub fn unanswered(message: String) -> Problem {
    problem(ProblemKind::RouteStatus, "RouteNotAcknowledged", message)
}

/// Nobody knows yet what there is: nothing that may be in use is touched.
fn unread(kind: &rules_owners::Kind, trouble: Option<String>) -> Sighting {
    let why = trouble.unwrap_or_else(|| "the API server has not answered yet".to_owned());
    let message = format!(
        "{}s can't be read: {why}; give the operator the rights on {} that its chart has",
        kind.kind,
        kind.resource()
    );
    Sighting {
        view: RouteView {
            exists: true,
            ..RouteView::default()
        },
        problems: vec![problem(ProblemKind::Route, "RoutesUnread", message)],
        ..Sighting::default()
    }
}

fn problem(kind: ProblemKind, reason: &str, message: String) -> Problem {
    Problem {
        kind,
        reason: reason.to_owned(),
        message,
    }
}

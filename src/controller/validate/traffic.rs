//! What carries the traffic.

use jiff::SignedDuration;
use molt_core::plan::OnShareMismatch;
use molt_core::step::Step;

use super::fields::duration;
use super::{FieldError, Known, workers};
use crate::api::v1alpha1 as api;
use crate::metric_sources::at_route::Naming;
use crate::traffic::gateway_api::sessions::Support;
use crate::traffic::{OwnedRoute, OwnedVirtualService, Protocol, RouteSpec, Sessions, Whose};

/// How long a change of a VirtualService may take to every proxy: istiod gathers changes for up to 10 s, and then
/// pushes them.
const DELAY: SignedDuration = SignedDuration::from_secs(15);

/// The route that a spec asks for, and whether the objectives can be counted there.
pub(super) fn resolve(
    spec: &api::PythonServiceSpec,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> RouteSpec {
    let workers = workers::resolve(spec, errors);
    let mut route = match (workers, &spec.traffic) {
        (Some(workers), _) => workers,
        (None, Some(traffic)) => route(Some(traffic), spec.protocol, known, errors),
        // What is missing has been told.
        (None, None) => kept(known),
    };
    tell_clusters_apart(&mut route, &spec.slos, errors);
    check_counted(&route, &spec.slos, errors);
    check_grpc(spec, errors);
    if let Some(traffic) = &spec.traffic {
        check_in_cluster(traffic, errors);
    }
    route
}

/// Callers inside the cluster can only be led as what carries the traffic can.
fn check_in_cluster(traffic: &api::Traffic, errors: &mut Vec<FieldError>) {
    let gateway = traffic.gateway_api.as_ref();
    let is_owned = gateway.is_some_and(|gateway| gateway.parent_refs.is_some());
    let message = match traffic.in_cluster {
        Some(api::InCluster::Mesh) if traffic.istio.is_some() => {
            "is Mesh, which takes a route of the Gateway API: name the host of the Service in spec.traffic.istio.hosts, and mesh in its gateways, and leave inCluster out"
        }
        Some(api::InCluster::Mesh) if gateway.is_some() && !is_owned => {
            "is Mesh, which takes a route that Molt owns: write the parent {group: \"\", kind: Service, name: <service>} into your own route, and leave inCluster out"
        }
        Some(api::InCluster::Mesh) if !is_owned => {
            "is Mesh, which takes a route: set spec.traffic.gatewayAPI.parentRefs, or leave inCluster out"
        }
        Some(api::InCluster::Stable | api::InCluster::Mesh) if traffic.none.is_some() => {
            "can't be Stable without a router: the pods behind the Service divide the traffic of all callers; leave it out, or write ReplicaShare"
        }
        _ => return,
    };
    errors.push(FieldError::new("spec.traffic.inCluster", message));
}

/// Callers of the Service of the service's name meet both revisions, beside a route.
pub(super) fn is_shared_in_cluster(traffic: Option<&api::Traffic>) -> bool {
    traffic.is_some_and(|t| t.none.is_none() && t.in_cluster == Some(api::InCluster::ReplicaShare))
}

/// Users stay on a revision.
pub(super) fn is_sticky(traffic: Option<&api::Traffic>) -> bool {
    let gateway = traffic.and_then(|t| t.gateway_api.as_ref());
    gateway.is_some_and(|g| g.parent_refs.is_some() && g.session_affinity.is_some())
}

/// Where callers come past the route and are counted at the pods, the canary's share of requests is not its weight.
pub(super) fn share_counts(spec: &api::PythonServiceSpec, policy: OnShareMismatch) -> OnShareMismatch {
    let at_route = |slo: &api::Slo| slo.sli.preset.and_then(Naming::of).is_some();
    if is_shared_in_cluster(spec.traffic.as_ref()) && !spec.slos.iter().all(at_route) {
        OnShareMismatch::Ignore
    } else {
        policy
    }
}

/// Objectives that are counted by Envoy's clusters need one for each backend of the route.
fn tell_clusters_apart(route: &mut RouteSpec, slos: &[api::Slo], errors: &mut Vec<FieldError>) {
    let by_cluster = |slo: &api::Slo| slo.sli.preset.and_then(Naming::of) == Some(Naming::Cluster);
    let Some(index) = slos.iter().position(by_cluster) else {
        return;
    };
    match route {
        RouteSpec::Owned { content, .. } => {
            if let Some(content) = content {
                content.names_revisions = true;
                if content.sessions.is_some() {
                    let message = "is counted by a cluster of Envoy's for each revision, and no session lasts between two clusters: choose a preset that is counted at the pods, or leave spec.traffic.gatewayAPI.sessionAffinity out";
                    errors.push(FieldError::new(format!("spec.slos[{index}].sli.preset"), message));
                }
            }
        }
        RouteSpec::Adopted { name, .. } if name.contains('.') => errors.push(FieldError::new(
            format!("spec.slos[{index}].sli.preset"),
            format!(
                "can't be read of HTTPRoute {name}: Envoy cuts the names of its clusters at the first dot; choose another preset, or rename the route"
            ),
        )),
        RouteSpec::Adopted { .. }
        | RouteSpec::Istio { .. }
        | RouteSpec::Shares
        | RouteSpec::Workers { .. }
        | RouteSpec::Runs { .. } => {}
    }
}

/// Nobody but a route's proxies counts at the route, and Istio's have names of their own.
fn check_counted(route: &RouteSpec, slos: &[api::Slo], errors: &mut Vec<FieldError>) {
    for (index, slo) in slos.iter().enumerate() {
        let Some(preset) = slo.sli.preset.filter(|preset| Naming::of(*preset).is_some()) else {
            continue;
        };
        let message = match route {
            RouteSpec::Shares => {
                "is counted at a route, and spec.traffic.none has none: choose a preset of the application"
            }
            RouteSpec::Istio { .. } if preset != api::Preset::IstioGateway => {
                "is counted by other proxies than Istio's: choose istio-gateway, istio or a preset of the application"
            }
            _ => continue,
        };
        errors.push(FieldError::new(format!("spec.slos[{index}].sli.preset"), message));
        return;
    }
}

/// A gRPC call that fails is answered with the HTTP status 200, so what counts by that would never see a failure.
fn check_grpc(spec: &api::PythonServiceSpec, errors: &mut Vec<FieldError>) {
    if spec.protocol != Some(api::Protocol::Grpc) {
        return;
    }
    let blind = |slo: &api::Slo| {
        slo.sli
            .preset
            .is_some_and(|preset| preset != api::Preset::Linkerd)
    };
    if let Some(index) = spec.slos.iter().position(blind) {
        let message = "counts HTTP requests, and a gRPC call that fails is answered with 200: use counters, such as grpc_server_handled_total, or linkerd";
        errors.push(FieldError::new(format!("spec.slos[{index}].sli.preset"), message));
    }
}

/// The route that is meant. A contradictory spec must not make Molt change routes: then the one that it
/// created is kept if there is one.
pub(super) fn route(
    traffic: Option<&api::Traffic>,
    spoken: Option<api::Protocol>,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> RouteSpec {
    let protocol = match spoken {
        Some(api::Protocol::Grpc) => Protocol::Grpc,
        None if known.owned_grpc_route && !known.owned_route => Protocol::Grpc,
        _ => Protocol::Http,
    };
    let kept = kept(known);
    let Some(traffic) = traffic else { return kept };
    match (&traffic.gateway_api, &traffic.istio, &traffic.none) {
        (Some(gateway), None, None) => {
            let mesh = traffic.in_cluster == Some(api::InCluster::Mesh);
            gateway_route(gateway, mesh, protocol, known, errors)
        }
        (None, Some(istio), None) => istio_route(istio, known, errors),
        (None, None, Some(_)) => RouteSpec::Shares,
        (gateway, istio, none) => {
            let set = [
                ("gatewayAPI", gateway.is_some()),
                ("istio", istio.is_some()),
                ("none", none.is_some()),
            ];
            let set: Vec<&str> = set
                .iter()
                .filter(|(_, set)| *set)
                .map(|(name, _)| *name)
                .collect();
            let has = match set.as_slice() {
                [] => "has none of gatewayAPI, istio and none".to_owned(),
                set => format!("has {}", set.join(" and ")),
            };
            let message = format!(
                "{has}: set gatewayAPI for a route, istio for a VirtualService, or none: {{}} where pods divide the traffic"
            );
            errors.push(FieldError::new("spec.traffic", message));
            kept
        }
    }
}

/// What Molt has made, while nobody knows what is meant.
fn kept(known: Known) -> RouteSpec {
    if known.owned_virtual_service && !known.owned_route {
        return RouteSpec::Istio {
            whose: Whose::Molts(None),
            delay: DELAY,
        };
    }
    let protocol = if known.owned_grpc_route && !known.owned_route {
        Protocol::Grpc
    } else {
        Protocol::Http
    };
    RouteSpec::Owned {
        protocol,
        content: None,
    }
}

fn gateway_route(
    gateway: &api::GatewayApi,
    mesh: bool,
    protocol: Protocol,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> RouteSpec {
    let path = "spec.traffic.gatewayAPI";
    let kept = kept(known);
    match (
        &gateway.parent_refs,
        &gateway.http_route_ref,
        &gateway.grpc_route_ref,
    ) {
        (Some(parents), None, None) => {
            let hostnames = gateway.hostnames.clone().unwrap_or_default();
            if parents.is_empty() {
                let message = "is empty: name at least one Gateway, or set httpRouteRef";
                errors.push(FieldError::new(format!("{path}.parentRefs"), message));
                return kept;
            }
            let sessions = sessions(gateway, protocol, known, errors);
            if sessions.is_none() && known.sessions == Support::Unknown {
                return kept;
            }
            RouteSpec::Owned {
                protocol,
                content: Some(OwnedRoute {
                    parents: parents
                        .iter()
                        .enumerate()
                        .map(|(n, p)| parent(n, p, errors))
                        .collect(),
                    mesh,
                    sessions,
                    hostnames,
                    names_revisions: false,
                }),
            }
        }
        (None, Some(own), None) | (None, None, Some(own)) => {
            if gateway.session_affinity.is_some() {
                let message = "belongs to a route that Molt creates: write sessionPersistence into the rules of your own route, or set parentRefs";
                errors.push(FieldError::new(format!("{path}.sessionAffinity"), message));
            }
            if gateway.hostnames.is_some() {
                let message =
                    "belong to a route that Molt creates: write them into your own route, or set parentRefs";
                errors.push(FieldError::new(format!("{path}.hostnames"), message));
            }
            let (named, is) = match gateway.grpc_route_ref {
                Some(_) => (Protocol::Grpc, "grpcRouteRef"),
                None => (Protocol::Http, "httpRouteRef"),
            };
            if named != protocol {
                let message = match named {
                    Protocol::Grpc => "names a GRPCRoute: set spec.protocol: GRPC, or httpRouteRef",
                    Protocol::Http => {
                        "names an HTTPRoute, and spec.protocol is GRPC: set grpcRouteRef, or leave protocol out"
                    }
                };
                errors.push(FieldError::new(format!("{path}.{is}"), message));
            }
            RouteSpec::Adopted {
                protocol: named,
                name: own.name.clone(),
            }
        }
        (parents, http, grpc) => {
            let set = [
                ("parentRefs", parents.is_some()),
                ("httpRouteRef", http.is_some()),
                ("grpcRouteRef", grpc.is_some()),
            ];
            let set: Vec<&str> = set
                .iter()
                .filter(|(_, set)| *set)
                .map(|(name, _)| *name)
                .collect();
            let has = match set.as_slice() {
                [] => "has none of parentRefs, httpRouteRef and grpcRouteRef".to_owned(),
                set => format!("has {}", set.join(" and ")),
            };
            errors.push(FieldError::new(
                path,
                format!(
                    "{has}: set parentRefs to let Molt create and own the route, or httpRouteRef or grpcRouteRef to name your own"
                ),
            ));
            match (http, grpc) {
                (Some(own), None) if !known.owned_route => RouteSpec::Adopted {
                    protocol: Protocol::Http,
                    name: own.name.clone(),
                },
                _ => kept,
            }
        }
    }
}

/// A parent as it is written: the group of a Service has to be said.
fn parent(index: usize, parent: &api::ParentRef, errors: &mut Vec<FieldError>) -> api::ParentRef {
    let is_service = parent.kind == Some(api::ParentKind::Service);
    if parent
        .group
        .as_ref()
        .is_some_and(|group| group.is_empty() != is_service)
    {
        errors.push(FieldError::new(
            format!("spec.traffic.gatewayAPI.parentRefs[{index}].group"),
            "is not that of its kind: leave it out",
        ));
    }
    api::ParentRef {
        group: is_service.then(String::new),
        ..parent.clone()
    }
}

/// How users stay on a revision; `None` where they don't, or can't.
fn sessions(
    gateway: &api::GatewayApi,
    protocol: Protocol,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> Option<Sessions> {
    const UNSUPPORTED: &str = "SessionAffinityUnsupported";
    let path = "spec.traffic.gatewayAPI.sessionAffinity";
    let affinity = gateway.session_affinity.as_ref()?;
    if protocol == Protocol::Grpc {
        let message = "is kept by a cookie, and clients of gRPC keep none: leave it out";
        errors.push(FieldError::new(path, message));
        return None;
    }
    let name = &affinity.cookie_name;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(fits) {
        let message = "must have 1 to 128 letters, digits, dots, dashes and underscores";
        errors.push(FieldError::new(format!("{path}.cookieName"), message));
        return None;
    }
    let (age, before) = (affinity.max_age.as_ref(), errors.len());
    let second = SignedDuration::from_secs(1);
    duration(errors, &format!("{path}.maxAge"), age, second, second);
    if errors.len() > before {
        return None;
    }
    let message = match known.sessions {
        Support::Unasked | Support::Kept => {
            return Some(Sessions {
                cookie: name.clone(),
                max_age: age.map(|age| age.0.clone()),
            });
        }
        Support::Dropped => {
            "can't be kept: the HTTPRoutes of this cluster have no sessionPersistence, which only the Gateway API's CRDs of the experimental channel have: install those, with a gateway that knows it, or leave sessionAffinity out; it is found without a restart"
        }
        Support::Unknown => {
            "can't be kept: the API server does not tell the schema of HTTPRoutes (get on /openapi/v3, which every authenticated client has by default), so nobody knows whether they have sessionPersistence; it is asked again"
        }
    };
    errors.push(FieldError::new(path, message).because(UNSUPPORTED));
    None
}

fn istio_route(istio: &api::Istio, known: Known, errors: &mut Vec<FieldError>) -> RouteSpec {
    let path = "spec.traffic.istio";
    let delay = duration(
        errors,
        &format!("{path}.propagationDelay"),
        istio.propagation_delay.as_ref(),
        DELAY,
        SignedDuration::ZERO,
    );
    let whose = match (&istio.hosts, &istio.virtual_service_ref) {
        (Some(hosts), None) => {
            let gateways = istio.gateways.clone().unwrap_or_default();
            if hosts.is_empty() {
                let message = "is empty: name at least one host, or set virtualServiceRef";
                errors.push(FieldError::new(format!("{path}.hosts"), message));
            }
            let in_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
            if in_mesh && hosts.iter().any(|host| host == "*") {
                let message = "has *, which can't be asked for inside the mesh: name the hosts, or gateways other than mesh";
                errors.push(FieldError::new(format!("{path}.hosts"), message));
            }
            let content = OwnedVirtualService {
                hosts: hosts.clone(),
                gateways,
            };
            Whose::Molts((!hosts.is_empty()).then_some(content))
        }
        (None, Some(own)) => {
            if istio.gateways.is_some() {
                let message =
                    "belong to a VirtualService that Molt creates: write them into your own, or set hosts";
                errors.push(FieldError::new(format!("{path}.gateways"), message));
            }
            Whose::Users(own.name.clone())
        }
        (hosts, own) => {
            let has = if hosts.is_some() {
                "has both hosts and"
            } else {
                "has neither hosts nor"
            };
            let message = format!(
                "{has} virtualServiceRef: set hosts to let Molt create and own the VirtualService, or virtualServiceRef to name your own"
            );
            errors.push(FieldError::new(path, message));
            match own {
                Some(own) if !known.owned_virtual_service => Whose::Users(own.name.clone()),
                _ => Whose::Molts(None),
            }
        }
    };
    RouteSpec::Istio { whose, delay }
}

/// Brings steps into the form in which the route can be read back: the headers of a rule of Istio's are a map. A
/// GRPCRoute copies nothing: each call is a POST, so that none is known to change nothing.
pub(super) fn fit(route: &RouteSpec, steps: &mut [Step], errors: &mut Vec<FieldError>) {
    let is_copied = |step: &Step| matches!(step, Step::SetMirror(mirror) if mirror.percent > 0);
    if is_grpc(route) && steps.iter().any(is_copied) {
        let message = "asks for a mirror, and each gRPC call is a POST, so that none is known to change nothing: take setMirror out of the steps";
        errors.push(FieldError::new("spec.strategy", message));
    }
    if !matches!(route, RouteSpec::Istio { .. }) {
        return;
    }
    for step in steps {
        if let Step::SetHeaderRoute { matches, .. } = step {
            matches.sort();
        }
    }
}

fn is_grpc(route: &RouteSpec) -> bool {
    let (RouteSpec::Owned { protocol, .. } | RouteSpec::Adopted { protocol, .. }) = route else {
        return false;
    };
    *protocol == Protocol::Grpc
}

/// A weight that is never acknowledged in time would end every attempt.
pub(super) fn check_delay(route: &RouteSpec, deadline: SignedDuration, errors: &mut Vec<FieldError>) {
    if let RouteSpec::Istio { delay, .. } = route
        && *delay >= deadline
    {
        let message = "must be shorter than spec.progressDeadline: each change of weights waits for it";
        errors.push(FieldError::new("spec.traffic.istio.propagationDelay", message));
    }
}

#[cfg(test)]
mod tests;

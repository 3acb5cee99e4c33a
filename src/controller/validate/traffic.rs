//! What carries the traffic.

use jiff::SignedDuration;
use molt_core::step::Step;

use super::fields::duration;
use super::{FieldError, Known};
use crate::api::v1alpha1 as api;
use crate::metric_sources::at_route::Naming;
use crate::traffic::{OwnedRoute, OwnedVirtualService, Protocol, RouteSpec, Whose};

/// How long a change of a VirtualService may take to every proxy: istiod gathers changes for up to 10 s, and then
/// pushes them.
const DELAY: SignedDuration = SignedDuration::from_secs(15);

/// The route that a spec asks for, and whether the objectives can be counted there.
pub(super) fn resolve(
    spec: &api::PythonServiceSpec,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> RouteSpec {
    let mut route = route(Some(&spec.traffic), spec.protocol, known, errors);
    tell_clusters_apart(&mut route, &spec.slos, errors);
    check_counted(&route, &spec.slos, errors);
    check_grpc(spec, errors);
    route
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
            }
        }
        RouteSpec::Adopted { name, .. } if name.contains('.') => errors.push(FieldError::new(
            format!("spec.slos[{index}].sli.preset"),
            format!(
                "can't be read of HTTPRoute {name}: Envoy cuts the names of its clusters at the first dot; choose another preset, or rename the route"
            ),
        )),
        RouteSpec::Adopted { .. } | RouteSpec::Istio { .. } | RouteSpec::Shares => {}
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
        (Some(gateway), None, None) => gateway_route(gateway, protocol, known, errors),
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
            RouteSpec::Owned {
                protocol,
                content: Some(OwnedRoute {
                    parents: parents.clone(),
                    hostnames,
                    names_revisions: false,
                }),
            }
        }
        (None, Some(own), None) | (None, None, Some(own)) => {
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

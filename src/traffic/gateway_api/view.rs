//! From a route as it is to what the decision needs: weights, acknowledgement, problems.

use molt_core::observed::{Problem, ProblemKind, RouteView, Weights};

use super::types::{BackendRef, HttpRoute, ParentReference, Rule};
use crate::k8s::writer::is_owned_by;
use crate::traffic::rules_owners::{Kind, rules_owners};
use crate::traffic::users_route::{self, Share, SplitRule, percent, slot_names, slot_weights};
use crate::traffic::{BackendPlace, RouteTarget, Sighting, problem};

/// A route that Molt owns.
pub fn owned(kind: &Kind, service: &str, uid: &str, route: Option<&HttpRoute>) -> Sighting {
    let Some(route) = route else {
        return Sighting::default();
    };
    if !is_owned_by(route, uid) {
        let message = format!(
            "{} {service} exists and was not created by Molt: delete or rename it, or use it as yours with spec.traffic.gatewayAPI.{}",
            kind.kind, kind.reference
        );
        return Sighting {
            view: RouteView::default(),
            problems: vec![problem(ProblemKind::Route, "RouteConflict", message)],
            ..Sighting::default()
        };
    }
    let view = RouteView {
        exists: true,
        weights: percent(&super::owned::weights(service, route)),
        preview: super::owned::preview(service, route),
        acknowledged: acknowledged(route),
        rules: rules_owners(kind, &route.metadata, &[], None),
    };
    Sighting {
        view,
        problems: refusals(route),
        unanswered: unanswered(route),
        backends: owned_places(route),
        edit: kind.edit(&route.metadata),
        ..Sighting::default()
    }
}

/// The backends of a route that Molt owns, in all of its rules.
fn owned_places(route: &HttpRoute) -> Vec<BackendPlace> {
    let rules = route.spec.rules.iter().enumerate();
    rules
        .flat_map(|(rule, content)| {
            let place = move |(index, backend): (usize, &BackendRef)| BackendPlace {
                service: backend.name.clone(),
                rule,
                index,
            };
            content.backend_refs.iter().enumerate().map(place)
        })
        .collect()
}

/// A route of Molt's gives these weights.
pub fn gives(service: &str, route: &HttpRoute, weights: &Weights) -> bool {
    percent(&super::owned::weights(service, route)) == *weights
}

/// A user's route that is not there.
pub fn missing(kind: &Kind, target: &RouteTarget, name: &str) -> Sighting {
    let message = format!(
        "{} {name} does not exist in namespace {}: create it with backendRefs {}, or set parentRefs to let Molt create one",
        kind.kind,
        target.service.namespace,
        target.backends_to_write()
    );
    Sighting {
        view: RouteView::default(),
        problems: vec![problem(ProblemKind::Route, "RouteNotFound", message)],
        ..Sighting::default()
    }
}

/// A user's route. `is_service` says whether another PythonService of this name exists, `rival` is the field
/// manager that lately wrote the weights back.
pub fn adopted(
    kind: &Kind,
    service: &str,
    name: &str,
    namespace: &str,
    route: &HttpRoute,
    is_service: &dyn Fn(&str) -> bool,
    rival: Option<&str>,
) -> Sighting {
    let [(_, stable), (_, canary)] = slot_names(service);
    let rules = split_rules(service, namespace, route);
    let (weights, agree) = slot_weights(&rules, 1);
    let blocked = |reason, message| Sighting {
        view: RouteView {
            exists: true,
            weights: weights.clone(),
            ..RouteView::default()
        },
        problems: vec![problem(ProblemKind::Route, reason, message)],
        ..Sighting::default()
    };
    if let Some(message) = conflict(service, name, namespace, route, is_service) {
        return blocked("RouteConflict", message);
    }
    if rules.is_empty() {
        return blocked("RouteBackendsMismatch", mismatch(service, name, route));
    }
    if let Some(rule) = rules
        .iter()
        .find(|r| r.stable.weight.is_none() || r.canary.weight.is_none())
    {
        let message = format!(
            "spec.rules[{}] of {} {name} leaves out a weight: write `weight: 100` at {stable} and `weight: 0` at {canary}; what is left out counts as 1",
            rule.index, kind.kind
        );
        return blocked("RouteWeightsImplicit", message);
    }
    let view = RouteView {
        exists: true,
        weights,
        preview: None,
        acknowledged: agree && acknowledged(route),
        rules: rules_owners(kind, &route.metadata, &rules, rival),
    };
    Sighting {
        view,
        problems: refusals(route),
        unanswered: unanswered(route),
        backends: users_route::places(service, &rules),
        ..Sighting::default()
    }
}

/// The rules with both fixed names.
pub fn split_rules(service: &str, namespace: &str, route: &HttpRoute) -> Vec<SplitRule> {
    let [(_, stable), (_, canary)] = slot_names(service);
    let find = |rule: &Rule, name: &str| {
        let index = rule
            .backend_refs
            .iter()
            .position(|b| b.service(namespace) == Some(name))?;
        let BackendRef { name, weight, .. } = &rule.backend_refs[index];
        Some(Share {
            index,
            name: name.clone(),
            weight: *weight,
        })
    };
    route
        .spec
        .rules
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| {
            Some(SplitRule {
                index,
                list: vec![
                    "spec".to_owned(),
                    "rules".to_owned(),
                    index.to_string(),
                    "backendRefs".to_owned(),
                ],
                name_at: &["name"],
                stable: find(rule, &stable)?,
                canary: find(rule, &canary)?,
            })
        })
        .collect()
}

/// A rule that names our service and somebody else's: neither may change it.
fn conflict(
    service: &str,
    name: &str,
    namespace: &str,
    route: &HttpRoute,
    is_service: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let ours = slot_names(service).map(|(_, name)| name);
    route.spec.rules.iter().enumerate().find_map(|(index, rule)| {
        let is_ours = |b: &&super::types::BackendRef| b.service(namespace).is_some_and(|n| ours.iter().any(|o| o == n));
        if !rule.backend_refs.iter().any(|b| is_ours(&b)) {
            return None;
        }
        let other = rule.backend_refs.iter().find(|b| !is_ours(b))?;
        let neighbour = other
            .service(namespace)
            .and_then(|n| n.strip_suffix("-stable").or_else(|| n.strip_suffix("-canary")))
            .filter(|n| is_service(n));
        let whose = match neighbour {
            Some(neighbour) => format!(", of PythonService {neighbour}"),
            None => String::new(),
        };
        Some(format!(
            "spec.rules[{index}] of {} {name} names {} as well{whose}: give each PythonService a rule of its own; the route is not changed meanwhile, and stable keeps serving with the weight that it has",
            route.of.0.kind, other.name
        ))
    })
}

fn mismatch(service: &str, name: &str, route: &HttpRoute) -> String {
    let [(_, stable), (_, canary)] = slot_names(service);
    let mut names: Vec<&str> = route
        .spec
        .rules
        .iter()
        .flat_map(|r| &r.backend_refs)
        .map(|b| b.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let has = if names.is_empty() {
        "no backends".to_owned()
    } else {
        format!("the backends {}", names.join(", "))
    };
    let kind = route.of.0.kind;
    format!(
        "no rule of {kind} {name} names both {stable} and {canary}; it has {has}: write `{{name: {stable}, port: …, weight: 100}}` and `{{name: {canary}, port: …, weight: 0}}` into one rule"
    )
}

/// Every parent that the route names has accepted and resolved it in its present form.
pub fn acknowledged(route: &HttpRoute) -> bool {
    !route.spec.parent_refs.is_empty()
        && route.spec.parent_refs.iter().all(|parent| {
            let mut spoken = spoken_for(route, parent).peekable();
            spoken.peek().is_some()
                && spoken.all(|status| {
                    ["Accepted", "ResolvedRefs"]
                        .iter()
                        .all(|kind| is_true(route, status, kind))
                })
        })
}

fn is_true(route: &HttpRoute, status: &super::types::ParentStatus, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.type_ == kind && c.status == "True" && c.observed_generation == route.metadata.generation)
}

fn spoken_for<'a>(
    route: &'a HttpRoute,
    parent: &'a ParentReference,
) -> impl Iterator<Item = &'a super::types::ParentStatus> {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    route
        .status
        .parents
        .iter()
        .filter(move |s| s.parent_ref.meaning(namespace) == parent.meaning(namespace))
}

/// Which parents no controller has answered for in the route's present form. A controller need not write
/// anything where the parent does not exist.
fn unanswered(route: &HttpRoute) -> Option<String> {
    let name = route.metadata.name.as_deref().unwrap_or_default();
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    if route.spec.parent_refs.is_empty() {
        return Some(format!(
            "{} {name} names no Gateway in spec.parentRefs, so no controller answers for it",
            route.of.0.kind
        ));
    }
    let answered = |parent: &ParentReference| {
        spoken_for(route, parent)
            .flat_map(|status| &status.conditions)
            .any(|c| c.observed_generation == route.metadata.generation)
    };
    let silent = || route.spec.parent_refs.iter().filter(|parent| !answered(parent));
    let names: Vec<String> = silent()
        .map(|parent| {
            let (_, kind, place, name, ..) = parent.meaning(namespace);
            format!("{kind} {place}/{name}")
        })
        .collect();
    let is_service = |parent: &ParentReference| parent.meaning(namespace).1 == "Service";
    let mut questions = Vec::new();
    if silent().any(|parent| !is_service(parent)) {
        questions.push(format!(
            "does it exist, does its listener admit namespace {namespace}?"
        ));
    }
    if silent().any(is_service) {
        questions.push("is there a mesh that takes routes with a Service as parent?".to_owned());
    }
    (!names.is_empty()).then(|| {
        format!(
            "no controller has answered for {}: {}",
            names.join(", "),
            questions.join(" ")
        )
    })
}

/// What controllers say against the route in its present form. What they said of an earlier one is past.
fn refusals(route: &HttpRoute) -> Vec<Problem> {
    let name = route.metadata.name.as_deref().unwrap_or_default();
    let mut problems = Vec::new();
    for parent in &route.spec.parent_refs {
        for status in spoken_for(route, parent) {
            let against = status.conditions.iter().find(|c| {
                ["Accepted", "ResolvedRefs"].contains(&c.type_.as_str())
                    && c.status == "False"
                    && c.observed_generation == route.metadata.generation
            });
            if let Some(condition) = against {
                let message = format!(
                    "{} says of {} {name} at {}: {}=False, {}: {}",
                    status.controller_name,
                    route.of.0.kind,
                    parent.name,
                    condition.type_,
                    condition.reason,
                    condition.message
                );
                problems.push(problem(ProblemKind::RouteStatus, "RouteNotAccepted", message));
            }
        }
    }
    problems
}

//! From a VirtualService as it is to what the decision needs: weights and problems.

use molt_core::observed::{ProblemKind, RouteView, Weights};

use super::types::{Rule, Spec, VIRTUAL_SERVICE, VirtualService, Weighted};
use crate::k8s::writer::is_owned_by;
use crate::traffic::rules_owners::rules_owners;
use crate::traffic::users_route::{Share, SplitRule, percent, places, slot_names, slot_weights};
use crate::traffic::{BackendPlace, RouteTarget, Sighting, problem};

/// One that Molt owns.
pub fn owned(service: &str, uid: &str, live: Option<&VirtualService>) -> Sighting {
    let Some(live) = live else {
        return Sighting::default();
    };
    if !is_owned_by(live, uid) {
        return blocked(
            RouteView::default(),
            "RouteConflict",
            format!(
                "VirtualService {service} exists and was not created by Molt: delete or rename it, or use it as yours with spec.traffic.istio.virtualServiceRef"
            ),
        );
    }
    Sighting {
        view: RouteView {
            exists: true,
            weights: percent(&super::owned::weights(service, live)),
            preview: super::owned::preview(service, live),
            acknowledged: false,
            rules: rules_owners(&VIRTUAL_SERVICE, &live.metadata, &[], None),
        },
        backends: owned_places(live),
        edit: VIRTUAL_SERVICE.edit(&live.metadata),
        ..Sighting::default()
    }
}

fn owned_places(live: &VirtualService) -> Vec<BackendPlace> {
    let namespace = live.metadata.namespace.as_deref().unwrap_or_default();
    let rules = live.spec.http.iter().enumerate();
    rules
        .flat_map(|(rule, content)| {
            let shares = content.route.iter().enumerate();
            shares.filter_map(move |(index, share)| {
                Some(BackendPlace {
                    service: share.destination.service(namespace)?.to_owned(),
                    rule,
                    index,
                })
            })
        })
        .collect()
}

/// A user's that is not there.
pub fn missing(target: &RouteTarget, name: &str) -> Sighting {
    let message = format!(
        "VirtualService {name} does not exist in namespace {}: create it with destinations {}, or set hosts to let Molt create one",
        target.service.namespace,
        target.backends_to_write()
    );
    blocked(RouteView::default(), "RouteNotFound", message)
}

/// A user's. `rival` is the field manager that lately wrote the weights back.
pub fn adopted(
    service: &str,
    name: &str,
    namespace: &str,
    live: &VirtualService,
    is_service: &dyn Fn(&str) -> bool,
    rival: Option<&str>,
) -> Sighting {
    let rules = split_rules(service, namespace, &live.spec);
    let (weights, agree) = slot_weights(&rules, 0);
    let untouched = |weights: &Weights| RouteView {
        exists: true,
        weights: weights.clone(),
        ..RouteView::default()
    };
    if let Some(message) = conflict(service, name, namespace, &live.spec, is_service) {
        return blocked(untouched(&weights), "RouteConflict", message);
    }
    if rules.is_empty() {
        let message = mismatch(service, name, &live.spec);
        return blocked(untouched(&weights), "RouteBackendsMismatch", message);
    }
    Sighting {
        view: RouteView {
            exists: true,
            weights,
            preview: None,
            acknowledged: agree,
            rules: rules_owners(&VIRTUAL_SERVICE, &live.metadata, &rules, rival),
        },
        backends: places(service, &rules),
        ..Sighting::default()
    }
}

fn blocked(view: RouteView, reason: &str, message: String) -> Sighting {
    Sighting {
        view,
        problems: vec![problem(ProblemKind::Route, reason, message)],
        ..Sighting::default()
    }
}

/// Every rule, with the name of its list and its index there.
fn rules(spec: &Spec) -> impl Iterator<Item = (&'static str, usize, &Rule)> {
    let lists = [("http", &spec.http), ("tls", &spec.tls), ("tcp", &spec.tcp)];
    lists
        .into_iter()
        .flat_map(|(list, rules)| rules.iter().enumerate().map(move |(i, rule)| (list, i, rule)))
}

/// The rules with both fixed names.
pub fn split_rules(service: &str, namespace: &str, spec: &Spec) -> Vec<SplitRule> {
    let [(_, stable), (_, canary)] = slot_names(service);
    let find = |rule: &Rule, name: &str| {
        let is_it = |share: &Weighted| share.destination.service(namespace) == Some(name);
        let index = rule.route.iter().position(is_it)?;
        Some(Share {
            index,
            name: rule.route[index].destination.host.clone(),
            weight: rule.route[index].weight,
        })
    };
    rules(spec)
        .filter_map(|(list, index, rule)| {
            let list = ["spec", list, &index.to_string(), "route"].map(str::to_owned);
            Some(SplitRule {
                index,
                list: list.into(),
                name_at: &["destination", "host"],
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
    spec: &Spec,
    is_service: &dyn Fn(&str) -> bool,
) -> Option<String> {
    let ours = slot_names(service).map(|(_, name)| name);
    let is_ours = |share: &&Weighted| {
        let named = share.destination.service(namespace);
        named.is_some_and(|named| ours.iter().any(|our| our == named))
    };
    rules(spec).find_map(|(list, index, rule)| {
        rule.route.iter().find(is_ours)?;
        let other = rule.route.iter().find(|share| !is_ours(share))?;
        let neighbour = other
            .destination
            .service(namespace)
            .and_then(|n| n.strip_suffix("-stable").or_else(|| n.strip_suffix("-canary")))
            .filter(|n| is_service(n));
        let whose = neighbour.map_or_else(String::new, |n| format!(", of PythonService {n}"));
        Some(format!(
            "spec.{list}[{index}] of VirtualService {name} names {} as well{whose}: give each PythonService a rule of its own; the VirtualService is not changed meanwhile, and stable keeps serving with the weight that it has",
            other.destination.host
        ))
    })
}

fn mismatch(service: &str, name: &str, spec: &Spec) -> String {
    let [(_, stable), (_, canary)] = slot_names(service);
    let destinations = || rules(spec).flat_map(|(_, _, rule)| &rule.route);
    let mut names: Vec<String> = destinations()
        .map(|share| match &share.destination.subset {
            Some(subset) => format!("{} (subset {subset})", share.destination.host),
            None => share.destination.host.clone(),
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let has = if names.is_empty() {
        "no destinations".to_owned()
    } else {
        format!("the destinations {}", names.join(", "))
    };
    let subsets = destinations().any(|share| share.destination.subset.is_some());
    let instead = if subsets {
        " in place of subsets of one Service: each of the two is a Service of its own, and needs no DestinationRule"
    } else {
        ""
    };
    format!(
        "no rule of VirtualService {name} names both {stable} and {canary}; it has {has}: write `{{destination: {{host: {stable}}}, weight: 100}}` and `{{destination: {{host: {canary}}}, weight: 0}}` into one rule{instead}"
    )
}

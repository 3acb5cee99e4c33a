//! What a patch of the route does not reach: who else meets the canary, and what a person does about it.

use kube::ResourceExt;
use molt_core::state::Stage;
use serde_json::{Value, json};

use super::Shape;
use crate::api::v1alpha1::{InCluster, PythonService, Traffic};

/// Why there is no traffic that could be taken away, or nobody who could get it.
pub(super) fn nowhere_to_go(service: &PythonService) -> Option<String> {
    let status = service.status.as_ref();
    let name = service.name_any();
    if status.and_then(|s| s.stable.as_ref()).is_none() {
        return Some(format!(
            "the status of {name} names no stable revision, so there is nobody to give the traffic to: apply a template that works"
        ));
    }
    if status.and_then(|s| s.canary.as_ref()).is_none() {
        return Some(format!(
            "no canary of {name} is under way: stable has all traffic"
        ));
    }
    None
}

/// What is left, for a route as it is.
pub(super) fn notes(service: &PythonService, route: &Value) -> Vec<String> {
    let rules = rules_left(service, route);
    rules.into_iter().chain(in_cluster(service)).collect()
}

/// Rules of a user's route that name the canary and not stable: what is in them is the user's.
fn rules_left(service: &PythonService, route: &Value) -> Option<String> {
    let name = service.name_any();
    let own = service.spec.traffic.as_ref().and_then(Traffic::own_route)?;
    let namespace = service.namespace().unwrap_or_default();
    let shape = Shape::of(service);
    let names = |rule: &Value, slot: &str| {
        let backends = rule[shape.backends].as_array().map_or(&[][..], Vec::as_slice);
        let service = format!("{name}-{slot}");
        let is = |backend: &Value| Shape::is(backend, shape.name, &namespace, &service);
        backends.iter().any(is)
    };
    let mut left = Vec::new();
    for list in shape.lists {
        let rules = route["spec"][*list].as_array().map_or(&[][..], Vec::as_slice);
        for (index, rule) in rules.iter().enumerate() {
            let copies = Shape::is(rule, shape.copies, &namespace, &format!("{name}-canary"));
            if copies || names(rule, "canary") && !names(rule, "stable") {
                left.push(format!("spec.{list}[{index}]"));
            }
        }
    }
    (!left.is_empty()).then(|| {
        format!(
            "{} of {own} sends requests or copies to {name}-canary alone; your own rules are not changed. This leads that name to stable for as long as the operator is away:\n\n  {}",
            left.join(", "),
            lead(service, &format!("{name}-canary"))
        )
    })
}

/// Callers inside the cluster come by Services, which the route does not steer.
fn in_cluster(service: &PythonService) -> Option<String> {
    let name = service.name_any();
    let traffic = service.spec.traffic.as_ref()?;
    let stage = &service.status.as_ref()?.state.as_ref()?.attempt.as_ref()?.stage;
    let moved = matches!(stage, Stage::Baking { .. } | Stage::Settling);
    if !(moved || traffic.in_cluster == Some(InCluster::ReplicaShare)) {
        return None;
    }
    let mut commands = vec![lead(service, &name)];
    if *stage == Stage::Settling && traffic.own_route().is_some() {
        commands.push(lead(service, &format!("{name}-stable")));
    }
    Some(format!(
        "callers inside the cluster come by the Service, and meet the canary still; this leads them to stable:\n\n  {}",
        commands.join("\n  ")
    ))
}

/// The command that leads a Service to stable.
fn lead(service: &PythonService, name: &str) -> String {
    let stable = service.status.as_ref().and_then(|s| s.stable.as_ref());
    let revision = stable.map_or("", |s| s.revision.as_str());
    let patch = json!({"spec": {"selector": {"molt.dev/revision": revision}}});
    format!(
        "kubectl patch service {name} -n {} --type=merge -p '{patch}'",
        service.namespace().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{GatewayApi, HttpRouteRef};
    use crate::plugin::render::fixtures::progressing;

    #[test]
    fn what_the_patch_does_not_reach_is_told_with_a_command() {
        let mut service = progressing();
        assert_eq!(notes(&service, &json!({})), Vec::<String>::new());
        service.spec.traffic.get_or_insert_default().in_cluster = Some(InCluster::ReplicaShare);
        let told = notes(&service, &json!({}));
        assert!(told[0].contains("kubectl patch service checkout -n"), "{told:?}");
        assert!(
            told[0].contains(r#""molt.dev/revision":"5b6c7d0000""#),
            "{told:?}"
        );
    }

    #[test]
    fn a_users_own_rule_for_testers_is_named() {
        let mut service = progressing();
        let traffic = service.spec.traffic.get_or_insert_default();
        traffic.gateway_api = Some(GatewayApi {
            http_route_ref: Some(HttpRouteRef { name: "front".into() }),
            ..GatewayApi::default()
        });
        let share = |name: &str, weight: i64| json!({"name": name, "weight": weight});
        let route = json!({"spec": {"rules": [
            {"backendRefs": [share("checkout-stable", 90), share("checkout-canary", 10)]},
            {"backendRefs": [share("checkout-canary", 1)]},
        ]}});
        let told = notes(&service, &route);
        assert!(told[0].contains("spec.rules[1] of front"), "{told:?}");
        assert!(
            told[0].contains("kubectl patch service checkout-canary"),
            "{told:?}"
        );
    }

    #[test]
    fn without_a_canary_or_a_stable_it_is_said() {
        let mut service = progressing();
        assert_eq!(nowhere_to_go(&service), None);
        service.status.as_mut().unwrap().canary = None;
        assert!(nowhere_to_go(&service).unwrap().contains("no canary"));
        service.status = None;
        assert!(nowhere_to_go(&service).unwrap().contains("no stable revision"));
    }
}

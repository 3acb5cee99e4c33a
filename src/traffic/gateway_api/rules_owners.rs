//! Whose the rules of a route are, and how others are made to leave the weights in them alone.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use molt_core::observed::RulesOwners;

use super::types::HttpRoute;
use super::view::SplitRule;
use crate::k8s::labels;

/// Argo CD's field manager, with and without server-side apply.
const ARGO_CD: &str = "argocd-controller";
/// The field managers of Flux: of a Kustomization, and of a `HelmRelease`.
const FLUX_KUSTOMIZATION: &str = "kustomize-controller";
const FLUX_HELM_RELEASE: &str = "helm-controller";

/// The entry covers `spec.rules`, which is atomic and has one owner for the whole list.
pub fn owns_rules(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    fields.is_some_and(|f| f.pointer("/f:spec/f:rules").is_some())
}

/// Who owns the rules. `told` is another field manager that advice is wanted for.
pub fn rules_owners(route: &HttpRoute, rules: &[SplitRule], told: Option<&str>) -> RulesOwners {
    let owners = || route.managed_fields().iter().filter(|entry| owns_rules(entry));
    let is_ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(labels::MANAGER);
    let other = owners()
        .filter(|entry| !is_ours(entry))
        .max_by_key(|entry| entry.time.as_ref().map(|t| t.0));
    let other_at = other.and_then(|entry| entry.time.as_ref().map(|t| t.0));
    let other = other.and_then(|entry| entry.manager.clone());
    let advised = other.as_deref().into_iter().chain(told);
    let advice: BTreeMap<String, String> = advised
        .map(|manager| (manager.to_owned(), advice(manager, route, rules)))
        .collect();
    RulesOwners {
        ours: owners().any(|entry| is_ours(&entry)),
        other,
        other_at,
        advice,
    }
}

/// The setting that makes a field manager leave the weights alone.
fn advice(manager: &str, route: &HttpRoute, rules: &[SplitRule]) -> String {
    let name = route.name_any();
    let setting = match manager {
        ARGO_CD => format!(
            "In the Argo CD Application set syncOptions: [RespectIgnoreDifferences=true] and ignoreDifferences: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: {name}, jqPathExpressions: ['.spec.rules[].backendRefs[].weight']}}]"
        ),
        FLUX_KUSTOMIZATION => format!(
            "In Git annotate HTTPRoute {name} with `kustomize.toolkit.fluxcd.io/ssa: IfNotPresent`: Flux creates it and leaves it alone (`Merge` does not help, because rules are an atomic list)"
        ),
        FLUX_HELM_RELEASE => format!(
            "In the Flux HelmRelease set driftDetection.ignore: [{{paths: [{}], target: {{kind: HTTPRoute, name: {name}}}}}]",
            pointers(rules)
        ),
        _ => format!(
            "Make {manager} leave the weights of HTTPRoute {name} alone: in Argo CD by ignoreDifferences on '.spec.rules[].backendRefs[].weight' with RespectIgnoreDifferences=true, in Flux by `kustomize.toolkit.fluxcd.io/ssa: IfNotPresent` or driftDetection.ignore; and apply the route by hand only between rollouts"
        ),
    };
    format!(
        "{setting}. Better, let Molt own the route: spec.traffic.gatewayAPI.parentRefs instead of httpRouteRef"
    )
}

/// JSON pointers to the weights that Molt changes.
fn pointers(rules: &[SplitRule]) -> String {
    let pointers: Vec<String> = rules
        .iter()
        .flat_map(|rule| [rule.stable.0, rule.canary.0].map(|backend| (rule.index, backend)))
        .map(|(rule, backend)| format!("/spec/rules/{rule}/backendRefs/{backend}/weight"))
        .collect();
    pointers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(entries: &[(&str, &str, bool)]) -> HttpRoute {
        let entries: Vec<_> = entries
            .iter()
            .map(|(manager, time, rules)| {
                let field = if *rules { "f:rules" } else { "f:hostnames" };
                json!({"manager": manager, "operation": "Apply", "time": time, "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {field: {}}}})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "front", "managedFields": entries}})).unwrap()
    }

    const RULE: SplitRule = SplitRule {
        index: 1,
        stable: (0, Some(100)),
        canary: (2, Some(0)),
    };

    #[test]
    fn the_last_other_owner_of_the_rules_is_named() {
        let owners = rules_owners(
            &route(&[
                ("argocd-controller", "2026-01-01T00:00:02Z", true),
                ("person", "2026-01-01T00:00:01Z", true),
                ("gateway", "2026-01-01T00:00:03Z", false),
                ("molt", "2026-01-01T00:00:03Z", false),
            ]),
            &[RULE],
            None,
        );
        assert_eq!(
            (owners.ours, owners.other.as_deref()),
            (false, Some("argocd-controller"))
        );
        let owners = rules_owners(&route(&[("molt", "2026-01-01T00:00:03Z", true)]), &[RULE], None);
        assert_eq!((owners.ours, owners.other), (true, None));
    }

    #[test]
    fn each_tool_is_told_the_setting_that_it_knows() {
        for (manager, words) in [
            (
                "argocd-controller",
                [
                    "RespectIgnoreDifferences=true",
                    "jqPathExpressions: ['.spec.rules[].backendRefs[].weight']",
                ],
            ),
            (
                "kustomize-controller",
                ["kustomize.toolkit.fluxcd.io/ssa: IfNotPresent", "front"],
            ),
            (
                "helm-controller",
                [
                    "driftDetection.ignore",
                    "/spec/rules/1/backendRefs/0/weight, /spec/rules/1/backendRefs/2/weight",
                ],
            ),
            ("kubectl", ["Make kubectl leave", "front"]),
        ] {
            let advice = &rules_owners(&route(&[]), &[RULE], Some(manager)).advice[manager];
            for word in words.into_iter().chain(["parentRefs instead of httpRouteRef"]) {
                assert!(advice.contains(word), "{manager}: {advice}");
            }
            // Together with what the condition says before it, an event must be able to hold it.
            assert!(advice.len() < 700, "{manager}: {}", advice.len());
        }
    }
}

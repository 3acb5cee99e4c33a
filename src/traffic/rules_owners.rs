//! Whose the rules of a route are, and how others are made to leave the weights in them alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use molt_core::observed::RulesOwners;

use super::users_route::SplitRule;
use crate::k8s::labels;

/// Argo CD's field manager, with and without server-side apply.
const ARGO_CD: &str = "argocd-controller";
/// The field managers of Flux: of a Kustomization, and of a `HelmRelease`.
const FLUX_KUSTOMIZATION: &str = "kustomize-controller";
const FLUX_HELM_RELEASE: &str = "helm-controller";

/// A kind of route, as far as its owners are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its API group.
    pub group: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its plural, as the API server has it.
    pub plural: &'static str,
    /// The field of a spec that names one of the user's.
    pub reference: &'static str,
    /// The fields of `spec` with rules: atomic lists, of which one manager owns the whole.
    pub rules: &'static [&'static str],
    /// The fields of `spec` that Molt writes in one of its own: atomic lists as well.
    pub written: &'static [&'static str],
    /// A jq path of the weights.
    pub weights: &'static str,
    /// How Molt is made the owner instead.
    pub instead: &'static str,
}

impl Kind {
    /// `httproutes.gateway.networking.k8s.io`.
    pub fn resource(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The entry covers the rules.
    pub fn owns_rules(&self, entry: &ManagedFieldsEntry) -> bool {
        self.rules.iter().any(|rules| covers(entry, rules))
    }

    /// Who, beside Molt, last wrote what Molt writes in a route of its own. Once Molt has written it again nobody is left.
    pub fn edit(&self, route: &ObjectMeta) -> Option<Edit> {
        let entries = route.managed_fields.iter().flatten();
        let edits = entries.filter_map(|entry| {
            let fields = self.written.iter().filter(|field| covers(entry, field));
            let edit = Edit {
                kind: self.kind,
                manager: entry.manager.clone()?,
                fields: fields.copied().collect(),
                at: entry.time.as_ref().map(|t| t.0),
            };
            (edit.manager != labels::MANAGER && !edit.fields.is_empty()).then_some(edit)
        });
        edits.max_by_key(|edit| edit.at)
    }

    /// What of `managedFields` is looked at: those of the status change all the time, and tell nothing.
    pub fn kept(&self, metadata: &ObjectMeta) -> Vec<ManagedFieldsEntry> {
        let entries = metadata.managed_fields.iter().flatten();
        let tells = |entry: &&ManagedFieldsEntry| {
            self.owns_rules(entry) || self.written.iter().any(|field| covers(entry, field))
        };
        entries.filter(tells).cloned().collect()
    }
}

/// The entry covers a field of `spec`.
fn covers(entry: &ManagedFieldsEntry, field: &str) -> bool {
    let spec = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
    spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some())
}

/// What somebody else has written in a route of Molt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The route's kind.
    pub kind: &'static str,
    /// The field manager.
    pub manager: String,
    /// The fields of `spec`.
    pub fields: Vec<&'static str>,
    /// When.
    pub at: Option<Timestamp>,
}

/// Who owns the rules. `told` is another field manager that advice is wanted for.
pub fn rules_owners(kind: &Kind, route: &ObjectMeta, rules: &[SplitRule], told: Option<&str>) -> RulesOwners {
    let entries = route.managed_fields.as_deref().unwrap_or_default();
    let owners = || entries.iter().filter(|entry| kind.owns_rules(entry));
    let is_ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(labels::MANAGER);
    let other = owners()
        .filter(|entry| !is_ours(entry))
        .max_by_key(|entry| entry.time.as_ref().map(|t| t.0));
    let other_at = other.and_then(|entry| entry.time.as_ref().map(|t| t.0));
    let other = other.and_then(|entry| entry.manager.clone());
    let advised = other.as_deref().into_iter().chain(told);
    let advice: BTreeMap<String, String> = advised
        .map(|manager| (manager.to_owned(), advice(manager, kind, route, rules)))
        .collect();
    RulesOwners {
        ours: owners().any(|entry| is_ours(&entry)),
        other,
        other_at,
        advice,
    }
}

/// The setting that makes a field manager leave the weights alone.
fn advice(manager: &str, kind: &Kind, route: &ObjectMeta, rules: &[SplitRule]) -> String {
    let name = route.name.as_deref().unwrap_or_default();
    let Kind {
        group,
        kind,
        weights,
        instead,
        ..
    } = kind;
    let setting = match manager {
        ARGO_CD => format!(
            "In the Argo CD Application set syncOptions: [RespectIgnoreDifferences=true] and ignoreDifferences: [{{group: {group}, kind: {kind}, name: {name}, jqPathExpressions: ['{weights}']}}]"
        ),
        FLUX_KUSTOMIZATION => format!(
            "In Git annotate {kind} {name} with `kustomize.toolkit.fluxcd.io/ssa: IfNotPresent`: Flux creates it and leaves it alone (`Merge` does not help, because rules are an atomic list)"
        ),
        FLUX_HELM_RELEASE => format!(
            "In the Flux HelmRelease set driftDetection.ignore: [{{paths: [{}], target: {{kind: {kind}, name: {name}}}}}]",
            pointers(rules)
        ),
        _ => format!(
            "Make {manager} leave the weights of {kind} {name} alone: in Argo CD by ignoreDifferences on '{weights}' with RespectIgnoreDifferences=true, in Flux by `kustomize.toolkit.fluxcd.io/ssa: IfNotPresent` or driftDetection.ignore; and apply the route by hand only between rollouts"
        ),
    };
    format!("{setting}. Better, let Molt own the route: {instead}")
}

/// JSON pointers to the weights that Molt changes.
fn pointers(rules: &[SplitRule]) -> String {
    let pointers: Vec<String> = rules.iter().flat_map(SplitRule::pointers).collect();
    pointers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::gateway_api::HTTP_ROUTE;
    use crate::traffic::istio::VIRTUAL_SERVICE;
    use crate::traffic::users_route::Share;
    use serde_json::json;

    fn route(entries: &[(&str, &str, bool)]) -> ObjectMeta {
        let entries: Vec<_> = entries
            .iter()
            .map(|(manager, time, rules)| {
                let field = if *rules { "f:rules" } else { "f:hostnames" };
                json!({"manager": manager, "operation": "Apply", "time": time, "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {field: {}}}})
            })
            .collect();
        serde_json::from_value(json!({"name": "front", "managedFields": entries})).unwrap()
    }

    fn rule() -> SplitRule {
        let share = |index, weight| Share {
            index,
            name: String::new(),
            weight: Some(weight),
        };
        SplitRule {
            index: 1,
            list: ["spec", "rules", "1", "backendRefs"].map(str::to_owned).into(),
            name_at: &["name"],
            stable: share(0, 100),
            canary: share(2, 0),
        }
    }

    #[test]
    fn the_last_other_owner_of_the_rules_is_named() {
        let owners = rules_owners(
            &HTTP_ROUTE,
            &route(&[
                ("argocd-controller", "2026-01-01T00:00:02Z", true),
                ("person", "2026-01-01T00:00:01Z", true),
                ("gateway", "2026-01-01T00:00:03Z", false),
                ("molt", "2026-01-01T00:00:03Z", false),
            ]),
            &[rule()],
            None,
        );
        assert_eq!(
            (owners.ours, owners.other.as_deref()),
            (false, Some("argocd-controller"))
        );
        let owners = rules_owners(
            &HTTP_ROUTE,
            &route(&[("molt", "2026-01-01T00:00:03Z", true)]),
            &[rule()],
            None,
        );
        assert_eq!((owners.ours, owners.other), (true, None));
    }

    #[test]
    fn who_edits_a_route_of_molts_is_known_until_molt_has_written_it_again() {
        let edited = HTTP_ROUTE.edit(&route(&[
            ("molt", "2026-01-01T00:00:09Z", true),
            ("kubectl-patch", "2026-01-01T00:00:01Z", true),
            ("kubectl-edit", "2026-01-01T00:00:02Z", false),
        ]));
        let edit = edited.unwrap();
        assert_eq!(
            (edit.manager.as_str(), edit.fields.as_slice()),
            ("kubectl-edit", &["hostnames"][..])
        );
        assert_eq!(
            HTTP_ROUTE.edit(&route(&[("molt", "2026-01-01T00:00:09Z", true)])),
            None
        );
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
            let advice = &rules_owners(&HTTP_ROUTE, &route(&[]), &[rule()], Some(manager)).advice[manager];
            for word in words.into_iter().chain(["parentRefs instead of httpRouteRef"]) {
                assert!(advice.contains(word), "{manager}: {advice}");
            }
            // Together with what the condition says before it, an event must be able to hold it.
            assert!(advice.len() < 700, "{manager}: {}", advice.len());
        }
    }

    #[test]
    fn of_a_virtual_service_each_list_of_rules_counts() {
        let entry = |field: &str| {
            let metadata: ObjectMeta = serde_json::from_value(json!({"managedFields": [
                {"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {field: {}}}},
            ]}))
            .unwrap();
            VIRTUAL_SERVICE.kept(&metadata).len()
        };
        assert_eq!(
            ["f:http", "f:tls", "f:tcp", "f:hosts", "f:rules"].map(entry),
            [1, 1, 1, 1, 0]
        );
        let advice = &rules_owners(
            &VIRTUAL_SERVICE,
            &route(&[]),
            &[rule()],
            Some("argocd-controller"),
        )
        .advice;
        let advice = &advice["argocd-controller"];
        for word in [
            "group: networking.istio.io, kind: VirtualService",
            "'.spec.http[].route[].weight'",
            "istio.hosts",
        ] {
            assert!(advice.contains(word), "{advice}");
        }
    }
}

//! A route of the user's, of whatever kind: rules that divide traffic between two fixed names. Molt changes the two
//! weights, by a JSON Patch that tests the names, and gives them back at the end.

use std::collections::BTreeMap;
use std::fmt::Debug;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use molt_core::observed::{Backend, ProblemKind, Slot, Weights};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{BackendPlace, Sighting};
use crate::k8s::failure::WriteError;
use crate::k8s::labels;
use crate::k8s::writer::Writer;

/// The fixed names in a user's route.
pub fn slot_names(service: &str) -> [(Slot, String); 2] {
    [
        (Slot::Stable, format!("{service}-stable")),
        (Slot::Canary, format!("{service}-canary")),
    ]
}

/// A rule that divides traffic between the two fixed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRule {
    /// Its index in the route.
    pub index: usize,
    /// Where its backends are in the object: `["spec", "rules", "0", "backendRefs"]`.
    pub list: Vec<String>,
    /// Where a backend has its name: `["name"]`.
    pub name_at: &'static [&'static str],
    /// The stable backend.
    pub stable: Share,
    /// The canary's.
    pub canary: Share,
}

/// One of the two backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its index in the rule.
    pub index: usize,
    /// What the route calls it.
    pub name: String,
    /// Its weight; absent where the route leaves it out.
    pub weight: Option<i32>,
}

impl SplitRule {
    fn shares(&self) -> [(Slot, &Share); 2] {
        [(Slot::Stable, &self.stable), (Slot::Canary, &self.canary)]
    }

    /// The JSON pointers of the two weights.
    pub fn pointers(&self) -> [String; 2] {
        self.shares()
            .map(|(_, share)| format!("/{}/{}/weight", self.list.join("/"), share.index))
    }

    fn path(&self, share: &Share, end: &[&str]) -> PointerBuf {
        let index = share.index.to_string();
        let list = self.list.iter().map(String::as_str);
        PointerBuf::from_tokens(list.chain([index.as_str()]).chain(end.iter().copied()))
    }
}

/// The two names in the rules that divide traffic between them.
pub fn places(service: &str, rules: &[SplitRule]) -> Vec<BackendPlace> {
    let names = slot_names(service).map(|(_, name)| name);
    rules
        .iter()
        .flat_map(|rule| {
            [(&names[0], &rule.stable), (&names[1], &rule.canary)].map(|(service, share)| BackendPlace {
                service: service.clone(),
                rule: rule.index,
                index: share.index,
            })
        })
        .collect()
}

/// The weights of all rules, and whether they agree; what is left out counts as `absent`. If they don't, each name has the
/// most that any rule gives it: no sum that could be wanted, so they are written anew, and the canary is not taken for
/// gone.
pub fn slot_weights(rules: &[SplitRule], absent: i32) -> (Weights, bool) {
    let each: Vec<Weights> = rules
        .iter()
        .map(|rule| {
            let weights = rule.shares();
            percent(
                &weights
                    .into_iter()
                    .map(|(slot, share)| (Backend::Slot(slot), share.weight.unwrap_or(absent)))
                    .collect(),
            )
        })
        .collect();
    let agree = each.windows(2).all(|pair| pair[0] == pair[1]);
    let mut most = Weights::new();
    for (backend, weight) in each.into_iter().flatten() {
        let entry = most.entry(backend).or_default();
        *entry = weight.max(*entry);
    }
    (most, agree)
}

/// Shares in percent: the numbers in a route may have any sum.
pub fn percent(weights: &BTreeMap<Backend, i32>) -> Weights {
    let sum: i64 = weights.values().map(|w| i64::from(*w).max(0)).sum();
    let share = |weight: i64| match sum {
        0 => 0,
        sum => u8::try_from((weight.max(0) * 100 + sum / 2) / sum).unwrap_or(100),
    };
    weights
        .iter()
        .map(|(backend, weight)| (backend.clone(), share(i64::from(*weight))))
        .collect()
}

/// All traffic on stable.
pub fn idle() -> Weights {
    Weights::from([
        (Backend::Slot(Slot::Stable), 100),
        (Backend::Slot(Slot::Canary), 0),
    ])
}

/// Gives a route of the user's back: all traffic on stable, where it can be used, and no field owned. `sight` and `rules`
/// say what is to be seen of it.
pub async fn give_back<K>(
    writer: &Writer,
    namespace: &str,
    name: &str,
    sight: impl Fn(&K) -> Sighting,
    rules: impl Fn(&K) -> Vec<SplitRule>,
) -> Result<(), WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let Some(mut live) = writer.get::<K>(namespace, name).await? else {
        return Ok(());
    };
    let sighting = sight(&live);
    let usable = !sighting.problems.iter().any(|p| p.kind == ProblemKind::Route);
    let patch = weight_patch(live.meta(), &rules(&live), &idle());
    if usable
        && sighting.view.weights != idle()
        && let Some(patch) = patch
    {
        live = writer.json_patch::<K>(namespace, name, patch).await?;
    }
    match disown_patch(live.meta()) {
        Some(patch) => writer.json_patch::<K>(namespace, name, patch).await.map(drop),
        None => Ok(()),
    }
}

/// Changes the weights in every rule with both fixed names, and nothing else; only if the route is still the
/// one that was decided on.
pub fn weight_patch(metadata: &ObjectMeta, rules: &[SplitRule], weights: &Weights) -> Option<Patch> {
    let version = metadata.resource_version.as_deref()?;
    let mut operations = vec![test(
        PointerBuf::from_tokens(["metadata", "resourceVersion"]),
        version,
    )];
    for rule in rules {
        for (slot, share) in rule.shares() {
            operations.push(test(rule.path(share, rule.name_at), &share.name));
            operations.push(PatchOperation::Add(AddOperation {
                path: rule.path(share, &["weight"]),
                value: json!(weights.get(&Backend::Slot(slot))?),
            }));
        }
    }
    (!rules.is_empty()).then_some(Patch(operations))
}

/// Drops Molt from `managedFields`; a patch that changes nothing else adds no new entry.
pub fn disown_patch(metadata: &ObjectMeta) -> Option<Patch> {
    let ours = metadata
        .managed_fields
        .iter()
        .flatten()
        .enumerate()
        .filter(|(_, entry)| entry.manager.as_deref() == Some(labels::MANAGER))
        .map(|(index, _)| index.to_string());
    let mut operations = Vec::new();
    // From the last to the first, so that no index moves under another.
    for index in ours.collect::<Vec<_>>().into_iter().rev() {
        let entry = ["metadata", "managedFields", &index];
        operations.push(test(
            PointerBuf::from_tokens(entry.into_iter().chain(["manager"])),
            labels::MANAGER,
        ));
        operations.push(PatchOperation::Remove(RemoveOperation {
            path: PointerBuf::from_tokens(entry),
        }));
    }
    (!operations.is_empty()).then_some(Patch(operations))
}

fn test(path: PointerBuf, value: &str) -> PatchOperation {
    PatchOperation::Test(TestOperation {
        path,
        value: json!(value),
    })
}

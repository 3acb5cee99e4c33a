//! What other objects of the files have to do with a PythonService.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use molt_readiness::Facts;
use molt_readiness::review::Related;
use serde::Deserialize;
use serde_json::Value;

use super::source::Object;
use crate::k8s::labels;

/// The Deployment that a PythonService names.
pub(super) fn workload<'a>(service: &Object, objects: &'a [Object]) -> Option<&'a Object> {
    let name = service.value["spec"]["workloadRef"]["name"].as_str()?;
    objects
        .iter()
        .find(|other| other.is("apps", "Deployment") && other.name() == name && other.is_near(service))
}

/// What they say of it. `value` is the object with the template that counts.
pub(super) fn facts(service: &Object, value: &Value, objects: &[Object]) -> Facts {
    let labels = pod_labels(service.name(), value);
    let near = || objects.iter().filter(|other| other.is_near(service));
    let count = |group: &str, kind: &str, selector: &str| {
        near()
            .filter(|other| other.is(group, kind) && selects(&other.value["spec"][selector], &labels))
            .count()
    };
    Facts {
        related: Some(Related {
            disruption_budgets: count("policy", "PodDisruptionBudget", "selector"),
            network_policies: count("networking.k8s.io", "NetworkPolicy", "podSelector"),
        }),
        autoscaled: near().any(|other| keeps_two(other, service.name())),
        // A monitor may be in a namespace of its own.
        monitored: objects.iter().any(|other| {
            let monitors = ["PodMonitor", "ServiceMonitor"];
            monitors
                .iter()
                .any(|kind| other.is("monitoring.coreos.com", kind))
                && selects(&other.value["spec"]["selector"], &labels)
        }),
    }
}

/// The labels of its pods, but for that of the revision.
fn pod_labels(name: &str, value: &Value) -> BTreeMap<String, String> {
    let written = &value["spec"]["template"]["metadata"]["labels"];
    let mut set: BTreeMap<String, String> = BTreeMap::deserialize(written).unwrap_or_default();
    set.entry(labels::APP_NAME.to_owned())
        .or_insert_with(|| name.to_owned());
    set.entry(labels::MANAGED_BY.to_owned())
        .or_insert_with(|| labels::MOLT.to_owned());
    // Pods of runs are no pods that a service leads to.
    let label = if value["spec"]["kind"] == "job" {
        labels::JOB_OF
    } else {
        labels::SERVICE
    };
    set.insert(label.to_owned(), name.to_owned());
    set
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let read = LabelSelector::deserialize(selector).ok();
    let selector = read.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(labels))
}

/// It is an autoscaler of the service that keeps two pods at least.
fn keeps_two(other: &Object, service: &str) -> bool {
    let spec = &other.value["spec"];
    let least = if other.is("autoscaling", "HorizontalPodAutoscaler") {
        &spec["minReplicas"]
    } else if other.is("keda.sh", "ScaledObject") {
        &spec["minReplicaCount"]
    } else {
        return false;
    };
    let target = &spec["scaleTargetRef"];
    target["kind"] == "PythonService" && target["name"] == service && least.as_i64().is_some_and(|n| n > 1)
}

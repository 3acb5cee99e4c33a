//! Checks of single fields.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::{FieldError, MAX_NAME};
use crate::api::v1alpha1::{Decimal, Duration, PythonServiceSpec};
use crate::controller::config::references::{Kind, Reference};
use crate::controller::object::ServiceObject;
use crate::k8s::labels;
use crate::k8s::syntax::is_dns;

/// The longest duration that a field may ask for: beyond it lies a slip of the pen.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 30);

pub(super) fn check_name(object: &ServiceObject, errors: &mut Vec<FieldError>) {
    let name = object.name_any();
    let label = name.starts_with(|c: char| c.is_ascii_lowercase()) && is_dns(&name);
    if name.len() > MAX_NAME || !label {
        let message = format!(
            "{name:?} can't be part of every derived name: at most {MAX_NAME} lower case letters, digits and '-', beginning with a letter"
        );
        errors.push(FieldError::new("metadata.name", message));
    }
}

pub(super) fn check_label(path: &str, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() || name.len() > 63 || !is_dns(name) {
        let message = format!("{name:?} is no name: write lower case letters, digits and '-', at most 63");
        errors.push(FieldError::new(path, message));
    }
}

/// What would keep every ReplicaSet of it from being made.
pub(super) fn check_template(template: &PodTemplateSpec, errors: &mut Vec<FieldError>) {
    let path = "spec.template";
    match &template.spec {
        Some(spec) if !spec.containers.is_empty() => {
            if let Some(policy) = spec.restart_policy.as_deref().filter(|p| *p != "Always") {
                let message = format!("{policy} is for jobs: leave it out, or write Always");
                errors.push(FieldError::new(format!("{path}.spec.restartPolicy"), message));
            }
        }
        _ => errors.push(FieldError::new(
            format!("{path}.spec.containers"),
            "is empty: write the container of the application",
        )),
    }
    let reserved = [labels::SERVICE, labels::REVISION];
    let set = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    for key in set
        .into_iter()
        .flat_map(|labels| labels.keys())
        .filter(|key| reserved.contains(&key.as_str()))
    {
        let message = "is set by Molt, which finds its pods by it: leave it out";
        errors.push(FieldError::new(format!("{path}.metadata.labels[{key}]"), message));
    }
}

/// The container that is named as the application's is in the template: what a server needs would be added to none
/// otherwise, and nobody would see that it is missing.
pub(super) fn check_container(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let pod = spec.template.as_ref().and_then(|template| template.spec.as_ref());
    let Some((name, pod)) = spec.runtime.container.as_ref().zip(pod) else {
        return;
    };
    // A template without any is told already.
    if pod.containers.is_empty() || pod.containers.iter().any(|container| container.name == *name) {
        return;
    }
    let names: Vec<&str> = pod.containers.iter().map(|c| c.name.as_str()).collect();
    let message = format!(
        "{name:?} is none of the template's containers: write {}, or leave it out for the first",
        names.join(" or ")
    );
    errors.push(FieldError::new("spec.runtime.container", message));
}

/// At most so many objects can be part of a revision: each has a snapshot for each revision, and a line in the state.
const MOST_COUNTED: usize = 100;

/// What is to be part of the revision can be.
pub(super) fn check_counted(counted: &BTreeSet<Reference>, no_secrets: bool, errors: &mut Vec<FieldError>) {
    if counted.len() > MOST_COUNTED {
        let message = format!(
            "names {} ConfigMaps and Secrets whose content is part of the revision, and {MOST_COUNTED} are possible: put several into one, or write spec.configRevision.configMaps: Follow",
            counted.len()
        );
        errors.push(FieldError::new("spec.template", message));
    }
    if no_secrets && let Some(secret) = counted.iter().find(|r| r.kind == Kind::Secret) {
        let message = format!(
            "is Snapshot, and the operator may not read Secrets such as {:?}, which the template names: write Follow, or install the chart with rbac.configSecrets=true",
            secret.name
        );
        errors.push(FieldError::new("spec.configRevision.secrets", message));
    }
}

/// What would keep every Job of it from being made, or have its pods taken for the service's.
pub(super) fn check_job_template(path: &str, template: &PodTemplateSpec, errors: &mut Vec<FieldError>) {
    match &template.spec {
        Some(spec) if !spec.containers.is_empty() => {
            if let Some(policy) = spec.restart_policy.as_deref().filter(|p| *p != "Never") {
                let message = format!("{policy} would hide failures: leave it out, or write Never");
                errors.push(FieldError::new(format!("{path}.spec.restartPolicy"), message));
            }
            let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
            for container in containers {
                let reserved = |e: &&k8s_openapi::api::core::v1::EnvVar| e.name.starts_with("MOLT_");
                for variable in container.env.iter().flatten().filter(reserved) {
                    let at = format!(
                        "{path}.spec.containers[{}].env[{}]",
                        container.name, variable.name
                    );
                    errors.push(FieldError::new(
                        at,
                        "names that begin with MOLT_ are set by Molt: choose another",
                    ));
                }
            }
        }
        _ => errors.push(FieldError::new(
            format!("{path}.spec.containers"),
            "is empty: write the container that checks the revision",
        )),
    }
    let set = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let keys = set.into_iter().flat_map(|labels| labels.keys());
    for key in keys.filter(|key| key.starts_with("molt.dev/")) {
        let message = "labels of molt.dev are set by Molt, which finds pods by them: leave it out";
        errors.push(FieldError::new(format!("{path}.metadata.labels[{key}]"), message));
    }
}

/// A duration, or its default; the default stands in for one that can't be used.
pub(super) fn duration(
    errors: &mut Vec<FieldError>,
    field: &str,
    written: Option<&Duration>,
    default: SignedDuration,
    least: SignedDuration,
) -> SignedDuration {
    let Some(written) = written else { return default };
    let wrong = match written.parse() {
        Ok(duration) if duration < least => format!("{:?} is too short: write {least:#} or more", written.0),
        Ok(duration) if duration > LONGEST => {
            format!("{:?} is more than 720h: write a shorter one", written.0)
        }
        Ok(duration) => return duration,
        Err(message) => message,
    };
    errors.push(FieldError::new(field, wrong));
    default
}

/// A probability above 0 and below 1, or its default.
pub(super) fn probability(
    errors: &mut Vec<FieldError>,
    field: &str,
    written: Option<&Decimal>,
    default: f64,
) -> f64 {
    let wrong = match written.map(Decimal::parse) {
        None => return default,
        Some(Ok(p)) if p > 0.0 && p < 1.0 => return p,
        Some(Ok(p)) => format!("{p} is no probability above 0 and below 1, such as {default}"),
        Some(Err(message)) => message,
    };
    errors.push(FieldError::new(field, wrong));
    default
}

/// A whole number in a range, or its default.
pub(super) fn in_range<T: Copy + TryFrom<i32>>(
    errors: &mut Vec<FieldError>,
    field: &str,
    written: Option<i32>,
    range: RangeInclusive<i32>,
    default: T,
) -> T {
    let Some(written) = written else { return default };
    if range.contains(&written)
        && let Ok(number) = T::try_from(written)
    {
        return number;
    }
    errors.push(FieldError::new(field, out_of_range(written, &range)));
    default
}

fn out_of_range(number: impl Display, range: &RangeInclusive<i32>) -> String {
    if *range.end() == i32::MAX {
        format!("{number} is out of range: write {} or more", range.start())
    } else {
        format!(
            "{number} is out of range: write {} to {}",
            range.start(),
            range.end()
        )
    }
}

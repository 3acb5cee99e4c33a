//! The Job of a condition's run, as it is written. Pure.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodTemplateSpec};
use molt_core::observed::JobKey;
use serde_json::{Value, json};

use super::render::{Owner, revision_name};
use super::revision::hex_digest;
use crate::api::v1alpha1::PythonServiceSpec;
use crate::k8s::labels;

/// How long a Job is left after its end, so that the logs of its pod can be read.
const KEPT_SECONDS: i64 = 3600;
/// Hex digits of a run in a Job's name: with the longest service's name, it is just short enough for a label.
const DIGITS: usize = 11;

/// The name of a run's Job. It says which run it is, so that none is created twice, and can't be taken for that
/// of a revision or of its pods: no hash of those has an `x`.
pub fn name(service: &str, uid: &str, key: &JobKey) -> String {
    let identity = json!([
        uid,
        key.revision.0,
        key.attempt,
        key.condition,
        key.digest,
        key.run
    ]);
    format!("{service}-job-x{}", hex_digest(&identity, DIGITS))
}

/// The Job of a run.
///
/// It is tried once: a container that ends without success fails it by the failure policy, while a pod that was
/// taken away (evicted, preempted, drained) fails it by the limit of retries, which is 0. So the reason of the
/// failure tells the two apart.
pub fn render(
    owner: &Owner,
    key: &JobKey,
    template: &PodTemplateSpec,
    spec: &PythonServiceSpec,
    at_most: SignedDuration,
) -> Value {
    let name = name(&owner.service.name, &owner.reference.uid, key);
    job(
        owner,
        key,
        &name,
        at_most,
        &pod_template(owner, key, template, spec),
    )
}

/// The Job around a pod.
pub(super) fn job(
    owner: &Owner,
    key: &JobKey,
    name: &str,
    at_most: SignedDuration,
    template: &PodTemplateSpec,
) -> Value {
    let mut metadata = owner.metadata(name, Some(&key.revision));
    let labels = &mut metadata["labels"];
    labels[labels::ATTEMPT] = json!(key.attempt.to_string());
    labels[labels::CONDITION] = json!(key.condition);
    labels[labels::RUN] = json!(key.run.to_string());
    labels[labels::DIGEST] = json!(key.digest);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": at_most.as_secs(),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "podFailurePolicy": {"rules": [
                {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
            ]},
            "template": template,
        },
    })
}

/// The user's template. What it leaves out of image, pull secrets and security contexts is as in the service's:
/// where the service's pods may run, so may these.
fn pod_template(
    owner: &Owner,
    key: &JobKey,
    template: &PodTemplateSpec,
    spec: &PythonServiceSpec,
) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.creation_timestamp = None;
    let set = metadata.labels.get_or_insert_default();
    set.insert(labels::JOB_OF.to_owned(), owner.service.name.clone());
    set.insert(labels::CONDITION.to_owned(), key.condition.clone());
    let environment = environment(owner, key, spec.port);
    let service = spec.template.as_ref().and_then(|t| t.spec.as_ref());
    let serving = service.and_then(|s| s.containers.first());
    let pod = template.spec.get_or_insert_default();
    pod.restart_policy = Some("Never".to_owned());
    if pod.service_account_name.is_none() && pod.automount_service_account_token.is_none() {
        pod.automount_service_account_token = Some(false);
    }
    if pod.image_pull_secrets.is_none() {
        pod.image_pull_secrets = service.and_then(|s| s.image_pull_secrets.clone());
    }
    if pod.security_context.is_none() {
        pod.security_context = service.and_then(|s| s.security_context.clone());
    }
    for container in pod
        .init_containers
        .iter_mut()
        .flatten()
        .chain(&mut pod.containers)
    {
        complete(container, serving, &environment);
    }
    template
}

fn complete(container: &mut Container, serving: Option<&Container>, environment: &[EnvVar]) {
    if container.image.is_none() {
        container.image = serving.and_then(|s| s.image.clone());
    }
    if container.security_context.is_none() {
        container.security_context = serving.and_then(|s| s.security_context.clone());
    }
    // First, so that the user's own can refer to them.
    let mut env = environment.to_vec();
    env.extend(container.env.take().into_iter().flatten());
    container.env = Some(env);
}

fn environment(owner: &Owner, key: &JobKey, port: Option<i32>) -> Vec<EnvVar> {
    let service = &owner.service;
    // Workers have none.
    let address = port.map(|port| {
        let name = revision_name(&service.name, &key.revision);
        ("MOLT_ADDRESS", format!("{name}.{}.svc:{port}", service.namespace))
    });
    let identity = [
        ("MOLT_NAMESPACE", service.namespace.clone()),
        ("MOLT_SERVICE", service.name.clone()),
        ("MOLT_REVISION", key.revision.0.clone()),
        ("MOLT_ATTEMPT", key.attempt.to_string()),
    ];
    let all = address.into_iter().chain(identity);
    all.map(|(name, value)| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    })
    .collect()
}

#[cfg(test)]
mod tests;

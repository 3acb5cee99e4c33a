//! The Job of a run of migrations, as it is written. Pure.
//!
//! Its pod is made of the revision's own pod template, for a migration needs what the application needs: image,
//! environment, volumes, service account. What would make users or other containers depend on it goes.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, PodTemplateSpec};
use molt_core::migration::MigrationPhase;
use molt_core::observed::JobKey;
use serde_json::{Value, json};

use super::job_template::{job, name};
use super::pods::LOG_AS_LAST_WORDS;
use super::render::Owner;
use crate::api::v1alpha1::{MigrationGate, MigrationTool};
use crate::k8s::labels;
use crate::migrations::RUNNER;

/// How long a pod may take to end, at most. The next run waits for it.
const GRACE_SECONDS: i64 = 10;

/// What a run is to do.
pub struct Run<'a> {
    /// Which it is.
    pub key: &'a JobKey,
    /// What for.
    pub phase: MigrationPhase,
    /// How long it may exist without an end.
    pub at_most: SignedDuration,
    /// The migration that it stops before.
    pub stop_before: Option<&'a str>,
    /// A downgrade: where to.
    pub target: &'a [String],
}

/// The Job of a run. `template` is that of the revision's ReplicaSet, `container` the one that the application is.
pub fn render(
    owner: &Owner,
    run: &Run<'_>,
    gate: &MigrationGate,
    template: &PodTemplateSpec,
    container: Option<&str>,
) -> Value {
    let name = name(&owner.service.name, &owner.reference.uid, run.key);
    let pod = pod_template(owner, run, gate, template, container);
    job(owner, run.key, &name, run.at_most, &pod)
}

fn pod_template(
    owner: &Owner,
    run: &Run<'_>,
    gate: &MigrationGate,
    template: &PodTemplateSpec,
    container: Option<&str>,
) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    metadata.creation_timestamp = None;
    // By the application's own labels somebody's Service or budget would find it.
    metadata.labels = Some(
        [
            (labels::JOB_OF, owner.service.name.as_str()),
            (labels::CONDITION, run.key.condition.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| !key.starts_with("prometheus.io/"));
    }
    let pod = template.spec.get_or_insert_default();
    pod.restart_policy = Some("Never".to_owned());
    // The application's may be made for users who are still connected.
    let grace = pod.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS);
    pod.termination_grace_period_seconds = Some(grace.min(GRACE_SECONDS));
    alone(pod);
    let application = application(pod, container);
    pod.containers = application
        .map(|c| migrating(owner, run, gate, c))
        .into_iter()
        .collect();
    template
}

/// What depends on the place of the application's pods, or on others of them.
fn alone(pod: &mut PodSpec) {
    pod.topology_spread_constraints = None;
    pod.readiness_gates = None;
    pod.active_deadline_seconds = None;
    pod.hostname = None;
    pod.subdomain = None;
    if let Some(affinity) = &mut pod.affinity {
        affinity.pod_affinity = None;
        affinity.pod_anti_affinity = None;
    }
    // Native sidecars, a proxy to the database for instance; others may be what migrates today.
    if let Some(init) = &mut pod.init_containers {
        init.retain(|c| c.restart_policy.as_deref() == Some("Always"));
        for container in init.iter_mut() {
            container.ports = None;
        }
    }
}

fn application(pod: &PodSpec, name: Option<&str>) -> Option<Container> {
    let named = name.and_then(|name| pod.containers.iter().find(|c| c.name == name));
    named.or(pod.containers.first()).cloned()
}

fn migrating(owner: &Owner, run: &Run<'_>, gate: &MigrationGate, application: Container) -> Container {
    let mut env = environment(owner, run, gate);
    env.extend(application.env.into_iter().flatten());
    Container {
        command: Some(command(run.phase, gate)),
        args: None,
        env: Some(env),
        ports: None,
        liveness_probe: None,
        readiness_probe: None,
        startup_probe: None,
        lifecycle: None,
        working_dir: gate.working_dir.clone().or(application.working_dir),
        termination_message_path: None,
        termination_message_policy: Some(LOG_AS_LAST_WORDS.to_owned()),
        ..application
    }
}

fn command(phase: MigrationPhase, gate: &MigrationGate) -> Vec<String> {
    let own = gate
        .custom
        .as_ref()
        .filter(|_| gate.tool == MigrationTool::Custom);
    match (own, phase) {
        (Some(custom), MigrationPhase::Check) => custom.check.clone(),
        (Some(custom), MigrationPhase::Downgrade) => custom.rollback.clone().unwrap_or_default(),
        (Some(custom), _) => custom.apply.clone(),
        (None, _) => ["python3", "-c", RUNNER].map(str::to_owned).into(),
    }
}

fn environment(owner: &Owner, run: &Run<'_>, gate: &MigrationGate) -> Vec<EnvVar> {
    let service = &owner.service;
    let seconds = |written: Option<&crate::api::v1alpha1::Duration>, default: f64| {
        let parsed = written.and_then(|d| d.parse().ok());
        parsed.map_or(default, |d| d.as_secs_f64())
    };
    let timeout = seconds(gate.timeout.as_ref(), 300.0);
    let what = json!({
        "phase": run.phase,
        "tool": gate.tool,
        "service": service.to_string(),
        "revision": run.key.revision.0,
        "attempt": run.key.attempt,
        "timeout": timeout,
        "lockTimeout": seconds(gate.lock_timeout.as_ref(), f64::min(5.0, timeout / 2.0)),
        "stopBefore": run.stop_before,
        "target": run.target,
    });
    [
        ("MOLT_MIGRATION", what.to_string()),
        ("MOLT_NAMESPACE", service.namespace.clone()),
        ("MOLT_SERVICE", service.name.clone()),
        ("MOLT_REVISION", run.key.revision.0.clone()),
        ("MOLT_ATTEMPT", run.key.attempt.to_string()),
        ("MOLT_PHASE", format!("{:?}", run.phase)),
    ]
    .into_iter()
    .map(|(name, value)| EnvVar {
        name: name.to_owned(),
        // A `$(…)` in it is nobody's variable.
        value: Some(value.replace("$(", "$$(")),
        ..EnvVar::default()
    })
    .collect()
}

#[cfg(test)]
mod tests;

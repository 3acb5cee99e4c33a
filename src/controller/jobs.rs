//! The Jobs of conditions: what is seen of them, and how they are created and deleted.
//!
//! Nothing waits for them: a Job that can't be written stops no effect, and the core is told why. A Job is
//! created by a plain `create` under a name that says which run it is, so that the second of two tries finds
//! the first one's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::ResourceExt;
use molt_core::decision::JobEffect;
use molt_core::migration::{MigrationFailure, MigrationPhase, MigrationReport};
use molt_core::observed::{JobKey, JobPhase};
use molt_core::plan::Revision;
use molt_core::rollout::runs_under_way;
use molt_core::state::State;

use super::Context;
use super::caches::Caches;
use super::job_template;
use super::migration_job;
use super::object::ServiceObject;
use super::pods::{short, short_end, trouble};
use super::render::{Owner, revision_name};
use crate::api::v1alpha1::MigrationTool;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::index::{Facts, Presence};
use crate::k8s::writer::is_owned_by;
use crate::k8s::{Key, labels};
use crate::migrations::report;
use serde_json::Value;

/// The first wait after a Job that could not be written.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is kept of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFacts {
    key: JobKey,
    uid: String,
    owners: Vec<String>,
    end: Option<End>,
    /// It is being deleted: its end will not be told any more, but its pods may still run.
    leaving: bool,
}

/// How a Job ended, as the Job controller says it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Failed { reason: String, message: String },
}

impl Facts for JobFacts {
    type Object = Job;

    fn read(job: &Job) -> Option<(String, Self)> {
        let label = |name: &str| job.labels().get(name).cloned();
        let key = JobKey {
            revision: Revision(label(labels::REVISION)?),
            attempt: label(labels::ATTEMPT)?.parse().ok()?,
            condition: label(labels::CONDITION)?,
            digest: label(labels::DIGEST)?,
            run: label(labels::RUN)?.parse().ok()?,
        };
        let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let end = conditions
            .filter(|c| c.status == "True")
            .find_map(|c| match c.type_.as_str() {
                "Complete" => Some(End::Complete),
                "Failed" => Some(End::Failed {
                    reason: c.reason.clone().unwrap_or_default(),
                    message: c.message.clone().unwrap_or_default(),
                }),
                _ => None,
            });
        let facts = Self {
            key,
            uid: job.uid().unwrap_or_default(),
            owners: job.owner_references().iter().map(|o| o.uid.clone()).collect(),
            end,
            leaving: job.metadata.deletion_timestamp.is_some(),
        };
        Some((label(labels::SERVICE)?, facts))
    }
}

/// What is kept of a Job's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPodFacts {
    job: String,
    /// When the first container started.
    since: Option<Timestamp>,
    /// Every container has ended.
    ended: bool,
    /// A container that ended without success.
    exit: Option<Exit>,
    /// What keeps the containers from starting.
    waits: Option<String>,
    /// Why the pod was taken away.
    lost: Option<String>,
    /// What the application's container of a migration wrote down at its end, or the end of its log.
    said: Option<String>,
    /// It is one of a migration.
    migrates: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exit {
    /// It ran: a command that could not even be started tells nothing of the canary.
    ran: bool,
    how: String,
}

impl Facts for JobPodFacts {
    type Object = Pod;

    fn read(pod: &Pod) -> Option<(String, Self)> {
        let status = pod.status.as_ref();
        let containers: Vec<&ContainerStatus> = status
            .iter()
            .flat_map(|s| {
                let init = s.init_container_statuses.iter().flatten();
                init.chain(s.container_statuses.iter().flatten())
            })
            .collect();
        let name = pod.name_any();
        let lost = status.and_then(|s| {
            let mut conditions = s.conditions.iter().flatten();
            let disrupted = conditions.find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
            let why = |reason: Option<&String>, message: Option<&String>| {
                let text: Vec<&str> = [reason, message]
                    .into_iter()
                    .flatten()
                    .map(String::as_str)
                    .collect();
                format!("pod {name}: {}", short(&text.join(": ")))
            };
            disrupted
                .map(|c| why(c.reason.as_ref(), c.message.as_ref()))
                .or_else(|| {
                    s.reason
                        .is_some()
                        .then(|| why(s.reason.as_ref(), s.message.as_ref()))
                })
        });
        let facts = Self {
            job: pod.labels().get(labels::POD_JOB)?.clone(),
            since: containers.iter().filter_map(|c| started(pod, c)).min(),
            ended: status
                .and_then(|s| s.phase.as_deref())
                .is_some_and(|phase| phase == "Succeeded" || phase == "Failed"),
            exit: containers.iter().find_map(|c| exit(&name, c)),
            waits: trouble(pod).map(|t| t.message),
            lost,
            said: said(pod),
            migrates: migrates(pod),
        };
        Some((pod.labels().get(labels::JOB_OF)?.clone(), facts))
    }
}

impl JobPodFacts {
    /// It is a pod of this Job.
    pub(super) fn is_of(&self, job: &str) -> bool {
        self.job == job
    }

    /// When its first container began.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// A container of it has run.
    pub(super) fn has_run(&self) -> bool {
        self.since.is_some()
    }

    /// What keeps its containers from starting.
    pub(super) fn waits(&self) -> Option<&str> {
        self.waits.as_deref()
    }

    /// How it failed.
    pub(super) fn failure(&self) -> Option<&str> {
        self.exit
            .as_ref()
            .map(|exit| exit.how.as_str())
            .or(self.lost.as_deref())
    }
}

/// What a migration has said at its end. Sidecars say nothing of it.
fn said(pod: &Pod) -> Option<String> {
    if !migrates(pod) {
        return None;
    }
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers
        .iter()
        .find_map(|c| c.state.as_ref()?.terminated.as_ref()?.message.clone())
}

fn migrates(pod: &Pod) -> bool {
    let condition = pod.labels().get(labels::CONDITION);
    condition.and_then(|c| MigrationPhase::of(c)).is_some()
}

/// When a container began first. Of one that is started again and again only this time and the one before are told; the first
/// was as old as its pod, or nearly so.
fn started(pod: &Pod, container: &ContainerStatus) -> Option<Timestamp> {
    let of = |state: &ContainerState| {
        let running = state.running.as_ref().and_then(|s| s.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|s| s.started_at.as_ref());
        running.or(ended).map(|t| t.0)
    };
    let told = [container.state.as_ref(), container.last_state.as_ref()];
    let first = told.into_iter().flatten().filter_map(of).min();
    let as_old = pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .map(|t| t.0);
    let untold = as_old.filter(|_| container.restart_count > 1);
    first.into_iter().chain(untold).min()
}

fn exit(pod: &str, container: &ContainerStatus) -> Option<Exit> {
    let ended = container.state.as_ref()?.terminated.as_ref()?;
    if ended.exit_code == 0 {
        return None;
    }
    let reason = ended.reason.as_deref().unwrap_or_default();
    let why = match reason {
        "" | "Error" => String::new(),
        reason => format!(" ({reason})"),
    };
    let said = match ended.message.as_deref().map(str::trim) {
        None | Some("") => String::new(),
        Some(message) => format!(": {}", short_end(message)),
    };
    Some(Exit {
        ran: !matches!(
            reason,
            "StartError" | "ContainerCannotRun" | "ContainerStatusUnknown"
        ),
        how: format!(
            "container {} of pod {pod} ended with exit code {}{why}{said}",
            container.name, ended.exit_code
        ),
    })
}

/// Where a Job is, by what the Job controller and the kubelet say.
fn phase(job: &JobFacts, pods: &[Arc<JobPodFacts>]) -> JobPhase {
    let under_way = || {
        if pods.iter().any(|p| p.ended) {
            return JobPhase::Ending;
        }
        let since = pods.iter().filter_map(|p| p.since).min();
        match since {
            Some(since) => JobPhase::Running { since },
            None => JobPhase::Waiting(
                pods.iter()
                    .find_map(|p| p.waits.clone().or_else(|| p.lost.clone())),
            ),
        }
    };
    let (reason, message) = match &job.end {
        None => return under_way(),
        Some(End::Complete) => return JobPhase::Succeeded,
        Some(End::Failed { reason, message }) => (reason.as_str(), message),
    };
    match reason {
        // Only its own exit code fails it that way: see the policy in `job_template`.
        "PodFailurePolicy" => match pods.iter().find_map(|p| p.exit.as_ref()) {
            Some(exit) if exit.ran => JobPhase::Failed(exit.how.clone()),
            Some(exit) => JobPhase::Broken(exit.how.clone()),
            None if pods.is_empty() => JobPhase::Failed(message.clone()),
            // The pod's own word is on its way.
            None => under_way(),
        },
        _ => JobPhase::Broken(
            pods.iter()
                .find_map(|p| p.lost.clone())
                .unwrap_or_else(|| format!("{reason}: {message}")),
        ),
    }
}

/// The Jobs of a service, as the decision sees them.
pub fn observe(object: &ServiceObject, caches: &Caches) -> BTreeMap<JobKey, JobPhase> {
    let key = object.key();
    let pods = caches.job_pods.of(&key);
    let mut seen = BTreeMap::new();
    for (name, job) in caches.jobs.of(&key) {
        // One that is on its way out is gone.
        if job.leaving {
            continue;
        }
        // A name that says something else than the labels is not Molt's work.
        let ours = job.owners.iter().any(|o| o == object.uid_text())
            && name == job_template::name(&key.name, object.uid_text(), &job.key);
        if ours {
            let of_job: Vec<_> = pods.values().filter(|p| p.job == name).cloned().collect();
            seen.insert(job.key.clone(), phase(&job, &of_job));
        }
    }
    if caches.jobs.presence() != Presence::Present {
        for run in object.state().iter().flat_map(runs_under_way) {
            let why = "Jobs have not been read yet: if this stays, give the operator's role the verbs list and watch on jobs.batch";
            seen.entry(run)
                .or_insert_with(|| JobPhase::Refused(why.to_owned()));
        }
    }
    seen
}

/// What of migrations may still run though nothing is heard of it any more, as people look for it.
pub fn leaving_migrations(object: &ServiceObject, caches: &Caches) -> Vec<String> {
    let key = object.key();
    if caches.job_pods.presence() != Presence::Present {
        return vec!["any pod of a Job, for they have not been read yet".to_owned()];
    }
    leaving(&caches.jobs.of(&key), &caches.job_pods.of(&key))
}

/// A Job that is deleted leaves its pod the grace period, and one that has failed may: until the kubelet says that the
/// containers have ended, or the pod is gone, they run.
fn leaving(jobs: &BTreeMap<String, Arc<JobFacts>>, pods: &BTreeMap<String, Arc<JobPodFacts>>) -> Vec<String> {
    let over = |job: &str| jobs.get(job).is_none_or(|job| job.leaving || job.end.is_some());
    let of_pods = pods
        .iter()
        .filter(|(_, p)| p.migrates && !p.ended && over(&p.job));
    // Its pods may not have been heard of yet.
    let of_jobs = jobs
        .iter()
        .filter(|(_, job)| job.leaving && MigrationPhase::of(&job.key.condition).is_some());
    of_pods
        .map(|(name, _)| format!("pod {name}"))
        .chain(of_jobs.map(|(name, _)| format!("Job {name}")))
        .collect()
}

/// A Job that could not be created.
#[derive(Clone, Debug)]
pub struct Refused {
    message: String,
    /// Failures in a row.
    times: u32,
    again: Instant,
}

/// What the Jobs of migrations that have ended wrote down.
pub fn reports(object: &ServiceObject, caches: &Caches) -> BTreeMap<JobKey, MigrationReport> {
    let key = object.key();
    let pods = caches.job_pods.of(&key);
    let gate = object
        .spec
        .as_ref()
        .ok()
        .and_then(|s| s.gates.as_ref()?.migrations.as_ref());
    let is_custom = gate.is_some_and(|gate| gate.tool == MigrationTool::Custom);
    let mut reports = BTreeMap::new();
    for (name, job) in caches.jobs.of(&key) {
        if MigrationPhase::of(&job.key.condition).is_none() || job.end.is_none() || job.leaving {
            continue;
        }
        let Some(pod) = pods.values().find(|p| p.job == name) else {
            continue;
        };
        let report = match (&job.end, &pod.said) {
            // Its exit code is all that a command of one's own has to say.
            (Some(End::Complete), _) if is_custom => Some(MigrationReport::default()),
            (Some(End::Failed { .. }), Some(said)) if is_custom => Some(failed(said)),
            (_, Some(said)) => Some(report::read(said).unwrap_or_else(|| failed(said))),
            (Some(End::Complete), None) if pod.ended => Some(failed("it ended without a report")),
            (_, None) => None,
        };
        reports.extend(report.map(|report| (job.key.clone(), report)));
    }
    reports
}

/// A command that ended with its log for a report.
fn failed(said: &str) -> MigrationReport {
    MigrationReport {
        failure: Some(MigrationFailure::new(false, report::tail(said))),
        ..MigrationReport::default()
    }
}

/// Adds the Jobs that the API server did not take.
pub fn add_refused(
    seen: &mut BTreeMap<JobKey, JobPhase>,
    refused: &BTreeMap<JobKey, Refused>,
    before: &State,
) {
    for run in runs_under_way(before) {
        if let Some(refused) = refused.get(&run) {
            let phase = JobPhase::Refused(refused.message.clone());
            seen.entry(run).or_insert(phase);
        }
    }
}

/// Carries out what was decided, and says when to look again if something failed. `current` is the revision of the
/// spec as it is written, if it has been taken up.
pub(super) async fn carry_out(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    current: Option<&Revision>,
    effects: &[JobEffect],
) -> Option<Duration> {
    let before = context.memories.of(key).jobs;
    let mut refused = BTreeMap::new();
    let mut again = None;
    for effect in effects {
        let wait = match effect {
            JobEffect::Start { key: run, .. } | JobEffect::StartMigration { key: run, .. } => {
                let now = Instant::now();
                let known = before.get(run);
                if let Some(known) = known.filter(|k| k.again > now) {
                    refused.insert(run.clone(), known.clone());
                    Some(known.again - now)
                } else {
                    let failed = start(object, context, key, current, effect).await.err();
                    failed.map(|error| {
                        let times = known.map_or(0, |k| k.times);
                        let wait = backoff(times);
                        tracing::warn!(%error, wait_seconds = wait.as_secs(), "the Job is created later");
                        let kept = Refused {
                            message: error.to_string(),
                            times: times.saturating_add(1),
                            again: now + wait,
                        };
                        refused.insert(run.clone(), kept);
                        // The first failure has to be told; afterwards it waits.
                        if times == 0 { Duration::ZERO } else { wait }
                    })
                }
            }
            JobEffect::Delete(run) => {
                let deleted = delete(object, context, key, run).await;
                deleted.err().map(|error| {
                    tracing::warn!(%error, "the Job is deleted later");
                    FIRST_WAIT
                })
            }
        };
        again = again.into_iter().chain(wait).min();
    }
    context.memories.update(key, |m| m.jobs = refused);
    again
}

fn backoff(times: u32) -> Duration {
    FIRST_WAIT
        .saturating_mul(2u32.saturating_pow(times.min(16)))
        .min(LONGEST_WAIT)
}

fn condition_job(
    object: &ServiceObject,
    current: Option<&Revision>,
    run: &JobKey,
    at_most: SignedDuration,
) -> Option<Value> {
    let spec = object.spec.as_ref().ok()?;
    let mut conditions = spec.guards.iter().flat_map(|g| g.conditions.iter().flatten());
    let condition = conditions.find(|c| c.name == run.condition)?;
    let check = condition
        .job
        .as_ref()
        .filter(|_| current == Some(&run.revision))?;
    Some(job_template::render(
        &Owner::of(object),
        run,
        &check.template,
        spec,
        at_most,
    ))
}

/// From the ReplicaSet of the revision, which may not be the spec's any more.
async fn migration_job(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    effect: &JobEffect,
) -> Result<Option<Value>, WriteError> {
    let JobEffect::StartMigration {
        key: run,
        phase,
        at_most,
        stop_before,
        target,
    } = effect
    else {
        return Ok(None);
    };
    let Some(spec) = object.spec.as_ref().ok() else {
        return Ok(None);
    };
    let Some(gate) = spec.gates.as_ref().and_then(|g| g.migrations.as_ref()) else {
        return Ok(None);
    };
    let name = revision_name(&key.name, &run.revision);
    let set = context.writer.get::<ReplicaSet>(&key.namespace, &name).await?;
    let template = set
        .filter(|set| is_owned_by(set, object.uid_text()))
        .and_then(|set| set.spec?.template)
        .ok_or_else(|| WriteError::Unready {
            reason: "RevisionGone",
            message: format!("there is no ReplicaSet {name} to take the image of the migration from"),
        })?;
    let run = migration_job::Run {
        key: run,
        phase: *phase,
        at_most: *at_most,
        stop_before: stop_before.as_deref(),
        target,
    };
    let container = spec.runtime.container.as_deref();
    Ok(Some(migration_job::render(
        &Owner::of(object),
        &run,
        gate,
        &template,
        container,
    )))
}

async fn start(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    current: Option<&Revision>,
    effect: &JobEffect,
) -> Result<(), WriteError> {
    // What the spec no longer asks for, the next decision doesn't either.
    let body = match effect {
        JobEffect::Start { key: run, at_most } => condition_job(object, current, run, *at_most),
        JobEffect::StartMigration { .. } => migration_job(object, context, key, effect).await?,
        JobEffect::Delete(_) => None,
    };
    let Some(body) = body else { return Ok(()) };
    let unready = |message: String| WriteError::Unready {
        reason: "JobUnusable",
        message,
    };
    let job: Job = serde_json::from_value(body).map_err(|error| unready(format!("the Job: {error}")))?;
    let name = job.name_any();
    if context.writer.post(&key.namespace, &job).await?.is_some() {
        return Ok(());
    }
    match context.writer.get::<Job>(&key.namespace, &name).await? {
        Some(live) if !is_owned_by(&live, object.uid_text()) => Err(WriteError::NameTaken {
            target: Target {
                verb: "create",
                resource: "jobs.batch".to_owned(),
                name,
            },
            hint: "delete that Job".to_owned(),
        }),
        // Created before, or gone again: the watch tells which.
        _ => Ok(()),
    }
}

async fn delete(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    run: &JobKey,
) -> Result<(), WriteError> {
    let name = job_template::name(&key.name, object.uid_text(), run);
    match context.caches.jobs.get(key, &name) {
        Some(job) => {
            let (writer, namespace) = (&context.writer, &key.namespace);
            if MigrationPhase::of(&run.condition).is_some() {
                // It stays until its pod has ended: no other may change the database before.
                return writer.end::<Job>(namespace, &name, &job.uid).await;
            }
            writer.delete::<Job>(namespace, &name, &job.uid, None).await
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

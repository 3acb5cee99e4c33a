//! What runs by a schedule: its CronJob, and the Jobs that Kubernetes makes of it.
//!
//! What a revision is, is kept as that of any other is: in a ReplicaSet, which has no pods here. The CronJob is written from
//! the template of the one whose turn it is.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use molt_core::observed::{NextRun, Problem, ProblemKind, RunEnd, RunView, RunsView};
use molt_core::plan::{Revision, RouteMode};
use serde_json::{Map, Value, json};

use super::caches::Caches;
use super::jobs::JobPodFacts;
use super::object::ServiceObject;
use super::pods::LOG_AS_LAST_WORDS;
use super::render::Owner;
use super::revision::digest;
use crate::api::v1alpha1 as api;
use crate::k8s::index::{Facts, Presence};
use crate::k8s::labels;
use crate::k8s::subset::is_subset;

/// When runs come, and what becomes of them: what is no part of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Fields of the CronJob's spec.
    cron: Map<String, Value>,
    /// Fields of the Jobs' spec.
    job: Map<String, Value>,
    /// What it was written from.
    digest: String,
}

impl Schedule {
    /// As the spec says it; what it leaves out is said as Kubernetes has it, so that nobody else's word counts.
    pub fn of(written: &api::Schedule) -> Self {
        let cron = json!({
            "schedule": written.schedule,
            "timeZone": written.time_zone,
            "concurrencyPolicy": written.concurrency_policy.unwrap_or(api::Concurrency::Allow),
            "startingDeadlineSeconds": written.starting_deadline_seconds,
            "suspend": written.suspend.unwrap_or(false),
            "successfulJobsHistoryLimit": written.successful_jobs_history_limit.unwrap_or(3),
            "failedJobsHistoryLimit": written.failed_jobs_history_limit.unwrap_or(1),
        });
        let job = json!({
            "backoffLimit": written.backoff_limit.unwrap_or(6),
            "activeDeadlineSeconds": written.active_deadline_seconds,
        });
        Self {
            digest: digest(&json!([cron, job])),
            cron: said(cron),
            job: said(job),
        }
    }
}

/// The fields that have a value.
fn said(fields: Value) -> Map<String, Value> {
    let Value::Object(mut fields) = fields else {
        return Map::new();
    };
    fields.retain(|_, value| !value.is_null());
    fields
}

/// What is kept of a CronJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronJobFacts {
    uid: String,
    owners: Vec<String>,
    /// What the next run is made from; absent where its labels don't say.
    pub next: Option<NextRun>,
    /// When runs come, as it is.
    pub schedule: Schedule,
    /// Labels, annotations and spec, to be compared with what is rendered.
    content: Value,
}

impl CronJobFacts {
    /// One of its owners has this UID.
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.owners.iter().any(|owner| owner == uid)
    }

    /// It says what was rendered.
    pub fn says(&self, body: &Value) -> bool {
        is_subset(&compared(body), &self.content)
    }
}

/// The live object does not say what was rendered.
pub fn differs(live: &CronJob, body: &Value) -> bool {
    !is_subset(&compared(body), &json!(live))
}

fn compared(body: &Value) -> Value {
    json!({
        "metadata": {"labels": body["metadata"]["labels"], "annotations": body["metadata"]["annotations"]},
        "spec": body["spec"],
    })
}

impl Facts for CronJobFacts {
    type Object = CronJob;

    fn read(cron: &CronJob) -> Option<(String, Self)> {
        if cron.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let annotation = |name: &str| cron.annotations().get(name).cloned();
        let template = cron.spec.as_ref().map(|spec| &spec.job_template);
        let set = template.and_then(|t| t.metadata.as_ref()?.labels.as_ref());
        let label = |name: &str| set.and_then(|set| set.get(name));
        let next = label(labels::REVISION).map(|revision| NextRun {
            revision: Revision(revision.clone()),
            attempt: attempt(label(labels::ATTEMPT)),
            stable: annotation(labels::STABLE).map(Revision),
        });
        let without = |value: Value, field: &str| {
            let mut fields = said(value);
            fields.remove(field);
            fields
        };
        let facts = Self {
            uid: cron.uid().unwrap_or_default(),
            owners: cron.owner_references().iter().map(|o| o.uid.clone()).collect(),
            next,
            schedule: Schedule {
                cron: without(json!(cron.spec), "jobTemplate"),
                job: without(json!(template.and_then(|t| t.spec.as_ref())), "template"),
                digest: annotation(labels::SCHEDULE).unwrap_or_default(),
            },
            content: json!({
                "metadata": {"labels": cron.labels(), "annotations": cron.annotations()},
                "spec": cron.spec,
            }),
        };
        Some((cron.labels().get(labels::SERVICE)?.clone(), facts))
    }
}

fn attempt(label: Option<&String>) -> u32 {
    label.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What is kept of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    owners: Vec<String>,
    view: RunView,
}

impl Facts for RunFacts {
    type Object = Job;

    fn read(job: &Job) -> Option<(String, Self)> {
        // One that is on its way out is gone: its end will not be told any more.
        if job.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let label = |name: &str| job.labels().get(name);
        let status = job.status.as_ref();
        let created_at = job.metadata.creation_timestamp.as_ref().map(|t| t.0)?;
        let ended = status.and_then(|s| {
            let mut conditions = s.conditions.iter().flatten();
            conditions.find(|c| c.status == "True" && ["Complete", "Failed"].contains(&c.type_.as_str()))
        });
        let end = ended.map(|condition| {
            let told = condition.last_transition_time.as_ref().map(|t| t.0);
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let failed = || format!("{}: {}", text(&condition.reason), text(&condition.message));
            let completed = status.and_then(|s| s.completion_time.as_ref()).map(|t| t.0);
            RunEnd {
                at: completed.or(told).unwrap_or(created_at),
                failure: (condition.type_ == "Failed").then(failed),
            }
        });
        let some = |count: Option<i32>| count.is_some_and(|n| n > 0);
        let view = RunView {
            uid: job.uid()?,
            name: job.name_any(),
            revision: Revision(label(labels::REVISION)?.clone()),
            attempt: attempt(label(labels::ATTEMPT)),
            created_at,
            started_at: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            worked: status.is_some_and(|s| some(s.ready) || some(s.succeeded) || some(s.failed)),
            waits: None,
            end,
        };
        let owners = job.owner_references().iter().map(|o| o.uid.clone()).collect();
        Some((label(labels::RUN_OF)?.clone(), Self { owners, view }))
    }
}

/// What is seen of a service's runs.
pub fn observe(object: &ServiceObject, mode: RouteMode, caches: &Caches) -> RunsView {
    if mode != RouteMode::Runs || !is_known(caches) {
        return RunsView::default();
    }
    let key = object.key();
    let cron = caches.cron_jobs.get(&key, &key.name);
    let Some(cron) = cron.filter(|cron| cron.is_owned_by(object.uid_text())) else {
        return RunsView {
            known: true,
            ..RunsView::default()
        };
    };
    let pods = caches.job_pods.of(&key);
    let runs = caches.runs.of(&key);
    let ours = runs.values().filter(|run| run.owners.contains(&cron.uid));
    let jobs = ours
        .map(|run| with_pods(run.view.clone(), pods.values()))
        .collect();
    RunsView {
        known: true,
        next: cron.next.clone(),
        jobs,
    }
}

/// The pods of a run know better why it waits, and what it said.
fn with_pods<'a>(mut run: RunView, pods: impl Iterator<Item = &'a Arc<JobPodFacts>>) -> RunView {
    let pods: Vec<_> = pods.filter(|pod| pod.is_of(&run.name)).collect();
    run.worked |= pods.iter().any(|pod| pod.has_run());
    // To fetch an image and to find a node is no part of the work: what runs already has both.
    let began = pods.iter().filter_map(|pod| pod.since()).min();
    run.started_at = began.or(run.started_at.filter(|_| run.worked));
    if run.end.is_none() && !run.worked {
        run.waits = pods.iter().find_map(|pod| pod.waits()).map(str::to_owned);
    }
    let said = pods.iter().find_map(|pod| pod.failure());
    if let (Some(failure), Some(said)) = (run.end.as_mut().and_then(|end| end.failure.as_mut()), said) {
        // What the pod says comes first, for all of it may be too long.
        let reason = failure.split(':').next().unwrap_or_default();
        *failure = format!("{said} ({reason})");
    }
    run
}

fn is_known(caches: &Caches) -> bool {
    [caches.cron_jobs.presence(), caches.runs.presence()] == [Presence::Present; 2]
}

/// Why nothing is known of the runs.
pub fn problem(mode: RouteMode, caches: &Caches) -> Option<Problem> {
    (mode == RouteMode::Runs && !is_known(caches)).then(|| Problem {
        kind: ProblemKind::Apply,
        reason: "RunsUnread".to_owned(),
        message: "CronJobs and Jobs have not been read yet: if this stays, give the operator's role the verbs list and watch on cronjobs.batch and jobs.batch".to_owned(),
    })
}

/// Has a run's pods keep the end of their log as their last words, unless the template says where those are.
pub fn keep_last_words(template: &mut PodTemplateSpec) {
    let pod = template.spec.iter_mut();
    for container in pod.flat_map(|pod| &mut pod.containers) {
        let policy = &mut container.termination_message_policy;
        if policy.is_none() && container.termination_message_path.is_none() {
            *policy = Some(LOG_AS_LAST_WORDS.to_owned());
        }
    }
}

/// Takes the restart policy out of a template, for no ReplicaSet has another than `Always`.
pub fn take_restart_policy(template: &mut PodTemplateSpec) -> String {
    let written = template.spec.as_mut().and_then(|pod| pod.restart_policy.take());
    written.unwrap_or_else(|| "Never".to_owned())
}

/// The pod template of a run of the revision that a ReplicaSet stands for.
pub(super) fn template(set: &ReplicaSet) -> Option<Arc<Value>> {
    let policy = set.annotations().get(labels::RESTART_POLICY)?.clone();
    let mut template = set.spec.as_ref()?.template.clone()?;
    let metadata = template.metadata.get_or_insert_default();
    metadata.creation_timestamp = None;
    let set_of = metadata.labels.get_or_insert_default();
    // By the label of the service's own pods they would be counted as such.
    let service = set_of.remove(labels::SERVICE)?;
    set_of.insert(labels::JOB_OF.to_owned(), service);
    template.spec.as_mut()?.restart_policy = Some(policy);
    Some(Arc::new(json!(template)))
}

/// The CronJob that makes the next runs from this template.
pub fn cron_job(owner: &Owner, next: &NextRun, schedule: &Schedule, template: &Value) -> Value {
    let service = &owner.service.name;
    let mut metadata = owner.metadata(service, None);
    metadata["annotations"] = json!({labels::SCHEDULE: schedule.digest});
    if let Some(stable) = &next.stable {
        metadata["annotations"][labels::STABLE] = json!(stable.0);
    }
    let mut of_run = json!({
        labels::APP_NAME: service,
        labels::MANAGED_BY: labels::MOLT,
        labels::RUN_OF: service,
        labels::REVISION: next.revision.0,
    });
    if next.attempt > 0 {
        of_run[labels::ATTEMPT] = json!(next.attempt.to_string());
    }
    let mut job = schedule.job.clone();
    job.insert("template".to_owned(), template.clone());
    let mut spec = schedule.cron.clone();
    let job_template = json!({"metadata": {"labels": of_run}, "spec": job});
    spec.insert("jobTemplate".to_owned(), job_template);
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata,
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::controller::object::tests::changed;

    fn set() -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"annotations": {labels::RESTART_POLICY: "OnFailure"}},
            "spec": {"selector": {}, "template": {
                "metadata": {"labels": {labels::SERVICE: "checkout", labels::REVISION: "0a", "team": "a"}},
                "spec": {"containers": [{"name": "app", "image": "report:1"}]},
            }},
        }))
        .unwrap()
    }

    fn schedule(more: &Value) -> Schedule {
        let mut written = json!({"schedule": "*/5 * * * *"});
        for (key, value) in more.as_object().unwrap() {
            written[key] = value.clone();
        }
        Schedule::of(&serde_json::from_value(written).unwrap())
    }

    fn rendered(attempt: u32, schedule: &Schedule) -> Value {
        let next = NextRun {
            revision: "0a".into(),
            attempt,
            stable: Some("0b".into()),
        };
        let owner = Owner::of(&changed(|_| ()));
        cron_job(&owner, &next, schedule, &template(&set()).unwrap())
    }

    #[test]
    fn the_end_of_the_log_is_the_last_word_where_the_template_names_no_other() {
        let mut template: PodTemplateSpec = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a"},
            {"name": "b", "terminationMessagePolicy": "File"},
            {"name": "c", "terminationMessagePath": "/tmp/end"},
        ]}}))
        .unwrap();
        keep_last_words(&mut template);
        let policies = template.spec.unwrap().containers.into_iter();
        let policies: Vec<_> = policies.map(|c| c.termination_message_policy).collect();
        assert_eq!(
            policies,
            [
                Some("FallbackToLogsOnError".to_owned()),
                Some("File".to_owned()),
                None
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let plan = schedule(&json!({"activeDeadlineSeconds": 60, "timeZone": "Etc/UTC"}));
        let body = rendered(2, &plan);
        assert_eq!(body["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"], 60);
        let pod = &body["spec"]["jobTemplate"]["spec"]["template"];
        assert_eq!(pod["spec"]["restartPolicy"], "OnFailure");
        assert!(pod["metadata"]["labels"].get(labels::SERVICE).is_none());
        assert_eq!(pod["metadata"]["labels"][labels::JOB_OF], "checkout");
        let live: CronJob = serde_json::from_value(body.clone()).unwrap();
        let (service, facts) = CronJobFacts::read(&live).unwrap();
        assert_eq!((service.as_str(), &facts.schedule), ("checkout", &plan));
        let next = facts.next.clone().unwrap();
        assert_eq!(
            (next.revision, next.attempt, next.stable),
            ("0a".into(), 2, Some("0b".into()))
        );
        assert!(facts.says(&body) && !differs(&live, &body));
        // What the spec no longer says is seen by the digest.
        assert!(!facts.says(&rendered(2, &schedule(&json!({"activeDeadlineSeconds": 60})))));
        assert!(!facts.says(&rendered(2, &schedule(&json!({"suspend": true})))));
    }

    #[test]
    fn a_run_ends_once_its_job_says_so() {
        let run = |status: Value| {
            let job = json!({
                "metadata": {
                    "name": "report-1", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z",
                    "labels": {labels::RUN_OF: "report", labels::REVISION: "0a", labels::ATTEMPT: "3"},
                },
                "status": status,
            });
            RunFacts::read(&serde_json::from_value(job).unwrap())
                .unwrap()
                .1
                .view
        };
        let start = "2026-01-01T00:00:01Z";
        let fresh = run(json!({"startTime": start, "active": 1, "ready": 0}));
        assert_eq!((fresh.attempt, fresh.worked, fresh.end), (3, false, None));
        assert!(run(json!({"ready": 1})).worked && run(json!({"failed": 1})).worked);
        let condition = |kind: &str| {
            json!({"startTime": start, "completionTime": "2026-01-01T00:00:09Z", "conditions": [{
                "type": kind, "status": "True", "reason": "BackoffLimitExceeded", "message": "it failed",
                "lastTransitionTime": "2026-01-01T00:00:09Z",
            }]})
        };
        let end = run(condition("Complete")).end.unwrap();
        let at: Timestamp = "2026-01-01T00:00:09Z".parse().unwrap();
        assert_eq!((end.at, end.failure), (at, None));
        let failed = run(condition("Failed")).end.unwrap();
        assert_eq!(failed.failure.as_deref(), Some("BackoffLimitExceeded: it failed"));
        assert_eq!(run(condition("SuccessCriteriaMet")).end, None);
    }
}

//! What runs by a schedule can be asked for, and what it can't.

use jiff::SignedDuration;
use molt_core::plan::{Plan, RouteMode, RunsPlan};

use super::fields::{check_container, check_template, duration, in_range};
use super::{DEFAULT_REPLICAS, Defaults, FieldError, Validated, default_plan, gates, kept};
use crate::api::v1alpha1::{self as api, PythonServiceSpec, Server, ServiceKind};
use crate::controller::runs::Schedule;
use crate::k8s::cron;
use crate::traffic::RouteSpec;

/// It runs by a schedule.
pub(super) fn are_meant(spec: &PythonServiceSpec) -> bool {
    spec.kind == Some(ServiceKind::Job)
}

/// What says that it does, where it does not.
pub(super) fn check_place(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    if are_meant(spec) {
        return;
    }
    if spec.job.is_some() {
        let message = "is of what runs by a schedule: write kind: job, or leave it out";
        errors.push(FieldError::new("spec.job", message));
    }
    if spec
        .exposure
        .as_ref()
        .is_some_and(|exposure| exposure.runs.is_some())
    {
        let message = "is of what runs by a schedule: write kind: job, or leave it out";
        errors.push(FieldError::new("spec.exposure.runs", message));
    }
}

/// Resolves the spec of what runs by a schedule.
pub(super) fn resolve(
    spec: &PythonServiceSpec,
    defaults: &Defaults,
    errors: &mut Vec<FieldError>,
) -> Validated {
    check_fields(spec, errors);
    check_pod(spec, errors);
    check_container(spec, errors);
    let runs = resolve_runs(spec, errors);
    check_schedule(spec.job.as_ref(), errors);
    let schedule = spec.job.as_ref().map(Schedule::of);
    let fallback = default_plan(DEFAULT_REPLICAS, RouteMode::Runs);
    let (history, rollback_window, record_limit) = kept(spec, errors);
    let progress_deadline = duration(
        errors,
        "spec.progressDeadline",
        spec.progress_deadline.as_ref(),
        fallback.progress_deadline,
        SignedDuration::from_secs(1),
    );
    let plan = Plan {
        runs,
        steps: Vec::new(),
        watch: SignedDuration::ZERO,
        progress_deadline,
        paused: spec.paused.unwrap_or(false),
        strict_paused: defaults.strict_paused,
        rollback_window,
        revision_history_limit: history,
        migrations: gates::migrations(spec, errors),
        ..fallback
    };
    Validated {
        plan,
        queries: Vec::new(),
        conditions: Vec::new(),
        guards: Vec::new(),
        connections: None,
        source: None,
        warm_up: None,
        route: RouteSpec::Runs { schedule },
        record_limit,
        errors: Vec::new(),
    }
}

fn resolve_runs(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) -> RunsPlan {
    let path = "spec.exposure.runs";
    let none = api::ByRuns::default();
    let written = spec.exposure.as_ref().and_then(|exposure| exposure.runs.as_ref());
    let written = written.unwrap_or(&none);
    if written.shadow == Some(true) {
        let message = "is not in this version: a run of the new revision beside each of stable's would do its work twice; leave it out, and the next runs are the new revision's";
        errors.push(FieldError::new(format!("{path}.shadow"), message));
    }
    let unset = RunsPlan::default();
    let ratio = match written.max_duration_ratio.as_ref().map(api::Decimal::parse) {
        None => unset.max_duration_ratio,
        Some(Ok(ratio)) if (1.0..=100.0).contains(&ratio) => ratio,
        Some(result) => {
            let message = result.err().unwrap_or_else(|| {
                "is out of range: write a number from 1 to 100, such as \"1.5\"".to_owned()
            });
            errors.push(FieldError::new(format!("{path}.maxDurationRatio"), message));
            unset.max_duration_ratio
        }
    };
    let job = spec.job.as_ref();
    RunsPlan {
        count: in_range(
            errors,
            &format!("{path}.count"),
            written.count,
            1..=20,
            unset.count,
        ),
        max_duration_ratio: ratio,
        forbids: job.is_some_and(|job| job.concurrency_policy == Some(api::Concurrency::Forbid)),
        suspended: job.is_some_and(|job| job.suspend == Some(true)),
    }
}

fn check_schedule(job: Option<&api::Schedule>, errors: &mut Vec<FieldError>) {
    let Some(job) = job else {
        let message = "is missing beside kind: job: write job: {schedule: \"*/15 * * * *\"}";
        return errors.push(FieldError::new("spec.job", message));
    };
    if job.concurrency_policy == Some(api::Concurrency::Replace) && job.active_deadline_seconds.is_none() {
        let message = "is Replace: the next run would end one that hangs, and none would ever show that; write activeDeadlineSeconds, less than the time between two runs, or Forbid";
        errors.push(FieldError::new("spec.job.concurrencyPolicy", message));
    }
    if let Err(why) = cron::check_schedule(&job.schedule) {
        let message = format!(
            "is no schedule that a CronJob takes: {why}; write five fields of cron (minute, hour, day of the month, month, day of the week), such as \"*/15 * * * *\""
        );
        errors.push(FieldError::new("spec.job.schedule", message));
    }
    if let Some(Err(why)) = job.time_zone.as_deref().map(cron::check_zone) {
        errors.push(FieldError::new("spec.job.timeZone", why));
    }
    let limits = [
        ("successfulJobsHistoryLimit", job.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", job.failed_jobs_history_limit),
    ];
    for (field, limit) in limits {
        if limit.is_some_and(|limit| !(1..=20).contains(&limit)) {
            let message = "is out of range: write 1 to 20; Molt counts the Jobs that it sees, so one at least has to stay";
            errors.push(FieldError::new(format!("spec.job.{field}"), message));
        }
    }
    let numbers = [
        ("startingDeadlineSeconds", job.starting_deadline_seconds, 10),
        ("activeDeadlineSeconds", job.active_deadline_seconds, 1),
        ("backoffLimit", job.backoff_limit.map(i64::from), 0),
    ];
    for (field, number, least) in numbers {
        if number.is_some_and(|number| number < least) {
            let message = format!("is out of range: write {least} or more");
            errors.push(FieldError::new(format!("spec.job.{field}"), message));
        }
    }
}

/// What a pod that ends can have, and a ReplicaSet, which keeps the revision, can hold.
fn check_pod(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let path = "spec.template";
    let Some(template) = &spec.template else {
        let message = "is missing: write the pod template of a run";
        return errors.push(FieldError::new(path, message));
    };
    let mut checked = template.clone();
    let policy = checked.spec.as_mut().and_then(|pod| pod.restart_policy.take());
    if policy.is_some_and(|policy| !["Never", "OnFailure"].contains(&policy.as_str())) {
        let message = "is Always, and a run has to end: leave it out for Never, or write OnFailure";
        errors.push(FieldError::new(format!("{path}.spec.restartPolicy"), message));
    }
    let deadline = template.spec.as_ref().and_then(|pod| pod.active_deadline_seconds);
    if deadline.is_some() {
        let message = "is of one pod: write spec.job.activeDeadlineSeconds, which is of the whole run";
        errors.push(FieldError::new(
            format!("{path}.spec.activeDeadlineSeconds"),
            message,
        ));
    }
    check_template(&checked, errors);
}

/// Fields that say something about pods that stay, or about what is measured of them.
fn check_fields(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) {
    let exposure = spec.exposure.as_ref();
    let other = exposure.is_some_and(|e| e.replicas.is_some() || e.queue.is_some() || e.singleton.is_some());
    let nobody = "is of what is called, and nobody calls a job: leave it out";
    let no_pods = "is of pods that stay, and those of a job end: leave it out";
    let by_runs = "is not for a job: its runs decide, by their success and their duration (spec.exposure.runs); leave it out";
    let fields = [
        ("spec.port", spec.port.is_some(), nobody),
        ("spec.traffic", spec.traffic.is_some(), nobody),
        ("spec.protocol", spec.protocol.is_some(), nobody),
        ("spec.drain", spec.drain.is_some(), nobody),
        ("spec.replicas", spec.replicas.is_some(), no_pods),
        ("spec.maxSurge", spec.max_surge.is_some(), no_pods),
        ("spec.minReadySeconds", spec.min_ready_seconds.is_some(), no_pods),
        ("spec.runtime.warmUp", spec.runtime.warm_up.is_some(), no_pods),
        ("spec.strategy", spec.strategy.is_some(), by_runs),
        ("spec.slos", !spec.slos.is_empty(), by_runs),
        ("spec.metrics", spec.metrics.is_some(), by_runs),
        ("spec.analysis", spec.analysis.is_some(), by_runs),
        ("spec.guards", spec.guards.is_some(), by_runs),
        (
            "spec.exposure",
            other || exposure.is_some_and(|e| e.runs.is_none()),
            "is of workers: a job is exposed by runs: {count: 3}, which is the default",
        ),
        (
            "spec.group",
            spec.group.is_some(),
            "is not for a job in this version: when its next runs come nobody can wait for; leave it out",
        ),
        (
            "spec.workloadRef",
            spec.workload_ref.is_some(),
            "is of a Deployment: write the pod template into spec.template, and delete the CronJob that runs it now",
        ),
        (
            "spec.runtime.queues",
            spec.runtime.queues.is_some(),
            "are of workers: leave them out",
        ),
        (
            "spec.runtime.server",
            spec.runtime.server != Server::Custom,
            "is of what serves or takes work from a queue: write custom",
        ),
    ];
    for (field, is_set, message) in fields {
        if is_set {
            errors.push(FieldError::new(field, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::object::tests::changed;
    use crate::controller::validate::{Known, validate};

    /// A job that can be used, changed.
    fn given(change: impl FnOnce(&mut Value)) -> Validated {
        let object = changed(|o| {
            let template = o["spec"]["template"].clone();
            o["spec"] = json!({
                "kind": "job",
                "job": {"schedule": "*/5 * * * *", "concurrencyPolicy": "Forbid"},
                "runtime": {"server": "custom"},
                "template": template,
            });
            change(&mut o["spec"]);
        });
        validate(&object, &Defaults::default(), Known::default())
    }

    #[test]
    fn a_job_needs_a_schedule_and_a_template_and_no_prometheus() {
        let usual = given(|_| ());
        assert_eq!(usual.errors, []);
        let plan = &usual.plan;
        assert_eq!(
            (plan.route, plan.runs.count, plan.runs.forbids),
            (RouteMode::Runs, 3, true)
        );
        assert!(plan.revision.is_some() && plan.slos.is_empty() && plan.steps.is_empty());
        assert!(usual.route.schedule().is_some());
        let replaced = given(|s| s["job"]["concurrencyPolicy"] = json!("Replace"));
        let why = &replaced.errors[0];
        assert_eq!(why.field, "spec.job.concurrencyPolicy");
        assert!(
            why.message.contains("write activeDeadlineSeconds"),
            "{}",
            why.message
        );
        let bounded = given(|s| {
            s["job"]["concurrencyPolicy"] = json!("Replace");
            s["job"]["activeDeadlineSeconds"] = json!(60);
        });
        assert_eq!(bounded.errors, []);
        let tuned = given(|s| s["exposure"] = json!({"runs": {"count": 1, "maxDurationRatio": "1.5"}}));
        assert_eq!(tuned.errors, []);
        assert_eq!(
            (tuned.plan.runs.count, tuned.plan.runs.max_duration_ratio),
            (1, 1.5)
        );
        let other = given(|s| s["template"]["spec"]["restartPolicy"] = json!("OnFailure"));
        assert_eq!(other.errors, []);
    }

    #[test]
    fn an_unusable_spec_leaves_the_schedule_as_it_is() {
        let wrong = given(|s| s["job"]["successfulJobsHistoryLimit"] = json!(0));
        assert!(!wrong.errors.is_empty());
        assert_eq!(
            (wrong.plan.route, wrong.plan.revision.clone()),
            (RouteMode::Runs, None)
        );
        assert_eq!(wrong.route, RouteSpec::Runs { schedule: None });
        let unreadable = given(|s| s["job"] = json!(3));
        assert_eq!(unreadable.plan.route, RouteMode::Runs);
    }

    #[test]
    fn what_a_job_can_not_have_says_why_and_what_to_write() {
        let cases = [
            ("port", json!(8000), "spec.port: is of what is called"),
            ("replicas", json!(2), "spec.replicas: is of pods that stay"),
            ("maxSurge", json!(2), "spec.maxSurge: is of pods that stay"),
            (
                "strategy",
                json!({"canary": {}}),
                "spec.strategy: is not for a job",
            ),
            ("analysis", json!({}), "spec.analysis: is not for a job"),
            ("guards", json!({}), "spec.guards: is not for a job"),
            ("group", json!({"name": "a"}), "spec.group: is not for a job"),
            (
                "exposure",
                json!({"singleton": {}}),
                "spec.exposure: is of workers",
            ),
            (
                "exposure",
                json!({"runs": {"shadow": true}}),
                "spec.exposure.runs.shadow: is not in this version",
            ),
            (
                "exposure",
                json!({"runs": {"count": 0}}),
                "spec.exposure.runs.count: 0 is out of range",
            ),
            (
                "exposure",
                json!({"runs": {"maxDurationRatio": "0.5"}}),
                "spec.exposure.runs.maxDurationRatio: is out of range",
            ),
            (
                "runtime",
                json!({"server": "celery"}),
                "spec.runtime.server: is of what serves",
            ),
            (
                "runtime",
                json!({"server": "custom", "container": "nope"}),
                "spec.runtime.container: \"nope\" is none of the template's containers: write app,",
            ),
            ("job", json!(null), "spec.job: is missing beside kind: job"),
            (
                "job",
                json!({"schedule": "TZ=UTC * * * * *"}),
                "spec.job.schedule: is no schedule",
            ),
            (
                "job",
                json!({"schedule": "61 * * * *"}),
                "spec.job.schedule: is no schedule that a CronJob takes: \"61\" is no minute: write 0 to 59",
            ),
            (
                "job",
                json!({"schedule": "1 * * * *", "timeZone": "Local"}),
                "spec.job.timeZone: is no name of a time zone",
            ),
        ];
        for (field, value, expected) in cases {
            let errors: Vec<String> = given(|s| s[field] = value)
                .errors
                .iter()
                .map(ToString::to_string)
                .collect();
            assert!(
                errors.iter().any(|e| e.starts_with(expected)),
                "{expected}: {errors:?}"
            );
        }
        let pod = given(|s| {
            s["template"]["spec"]["restartPolicy"] = json!("Always");
            s["template"]["spec"]["activeDeadlineSeconds"] = json!(5);
        });
        let errors: Vec<_> = pod.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(
            errors,
            [
                "spec.template.spec.restartPolicy",
                "spec.template.spec.activeDeadlineSeconds"
            ]
        );
        let service = changed(|o| o["spec"]["job"] = json!({"schedule": "* * * * *"}));
        let errors = validate(&service, &Defaults::default(), Known::default()).errors;
        assert!(errors.iter().any(|e| e.field == "spec.job"), "{errors:?}");
    }
}

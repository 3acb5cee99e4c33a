//! What runs by a schedule, on a real API server: the schedule never comes, and the test makes the runs, as
//! `kubectl create job --from=cronjob/report` does.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{stable, until};
use crate::support::{Stage, given};

fn report(image: &str) -> Value {
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": "report"},
        "spec": {
            "kind": "job",
            "job": {
                "schedule": "0 0 1 1 *", "concurrencyPolicy": "Forbid", "backoffLimit": 0,
                "startingDeadlineSeconds": 60, "successfulJobsHistoryLimit": 20, "failedJobsHistoryLimit": 20,
            },
            "exposure": {"runs": {"count": 2}},
            "progressDeadline": "20s",
            "runtime": {"server": "custom"},
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": image}]}},
        },
    })
}

fn cron_jobs(stage: &Stage) -> Api<CronJob> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

/// The image and the revision that the CronJob runs next, and the attempt that it is for.
async fn next(stage: &Stage) -> Option<(String, String, Option<String>)> {
    let cron = cron_jobs(stage).get_opt("report").await.unwrap()?;
    let template = cron.spec.unwrap().job_template;
    let labels = template.metadata.unwrap().labels.unwrap();
    let pod = template.spec.unwrap().template.spec.unwrap();
    let image = pod.containers[0].image.clone().unwrap();
    let attempt = labels.get("molt.dev/attempt").cloned();
    Some((image, labels["molt.dev/revision"].clone(), attempt))
}

async fn until_next(stage: &Stage, image: &str) {
    until(image, async || {
        next(stage).await.is_some_and(|(next, ..)| next == image)
    })
    .await;
}

fn jobs(stage: &Stage) -> Api<Job> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

/// Makes a run.
async fn begin(stage: &Stage, name: &str) {
    let cron = cron_jobs(stage).get("report").await.unwrap();
    let template = cron.spec.clone().unwrap().job_template;
    let mut body = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": template.metadata, "spec": template.spec,
    });
    body["metadata"]["name"] = json!(name);
    body["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "name": "report", "uid": cron.uid().unwrap(), "controller": true,
    }]);
    let job: Job = serde_json::from_value(body).unwrap();
    jobs(stage).create(&PostParams::default(), &job).await.unwrap();
}

/// Makes a run, and waits for its end.
async fn run(stage: &Stage, name: &str) {
    begin(stage, name).await;
    let jobs = jobs(stage);
    until("the run ends", async || {
        let job = jobs.get(name).await.unwrap();
        let mut conditions = job
            .status
            .into_iter()
            .flat_map(|s| s.conditions.into_iter().flatten());
        conditions.any(|c| c.status == "True" && ["Complete", "Failed"].contains(&c.type_.as_str()))
    })
    .await;
}

async fn given_stable(namespace: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    stage
        .apply(report("one/report:succeeds"))
        .await
        .expect("it is valid");
    until_next(&stage, "one/report:succeeds").await;
    run(&stage, "first-1").await;
    run(&stage, "first-2").await;
    let first = stable(&stage.until_phase("report", Phase::Healthy).await);
    (stage, first)
}

#[tokio::test]
async fn a_job_whose_next_runs_succeed_is_promoted() {
    let (stage, first) = given_stable("jobs-good").await;
    stage.apply(report("two/report:succeeds")).await.unwrap();
    until_next(&stage, "two/report:succeeds").await;
    assert_eq!(stable(&stage.service("report").await), first);
    run(&stage, "second-1").await;
    until("one run is counted", async || {
        let status = stage.service("report").await.status.unwrap();
        status
            .message
            .is_some_and(|m| m.contains("1 of 2 runs succeeded"))
    })
    .await;
    // What was counted is not counted again by the next operator.
    let mut stage = stage;
    stage.stop_operator().await;
    stage.start_operator();
    run(&stage, "second-2").await;
    until("it is stable", async || {
        stable(&stage.service("report").await) != first
    })
    .await;
    let second = stable(&stage.service("report").await);
    until("the CronJob is of no attempt", async || {
        next(&stage).await == Some(("two/report:succeeds".into(), second.clone(), None))
    })
    .await;
    let record = stage.ended_record("report", &second, 1).await.status.unwrap();
    let told = |reason: &str| record.transitions.iter().filter(|t| t.reason == reason).count();
    assert_eq!(
        (told("RunsBegun"), told("RunSucceeded"), told("Promoted")),
        (1, 2, 1)
    );
    let sets = stage.sets().list(&ListParams::default()).await.unwrap().items;
    assert!(
        sets.iter()
            .all(|set| set.spec.as_ref().unwrap().replicas == Some(0))
    );
    let services = stage.core_services().list(&ListParams::default()).await.unwrap();
    assert!(services.items.is_empty(), "nobody calls it");
}

#[tokio::test]
async fn a_run_that_fails_takes_it_back_and_the_cron_job_is_kept_as_it_should_be() {
    let (stage, first) = given_stable("jobs-bad").await;
    stage.apply(report("two/report:fails")).await.unwrap();
    until_next(&stage, "two/report:fails").await;
    run(&stage, "second-1").await;
    let back = stage.until_phase("report", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let message = back.status.unwrap().message.unwrap();
    assert!(message.contains("ended with exit code 3"), "{message}");
    until_next(&stage, "one/report:succeeds").await;
    stage.until_event("report", "RunFailed").await;

    let crons = cron_jobs(&stage);
    let hand = json!({"spec": {"suspend": true, "jobTemplate": {"spec": {"backoffLimit": 9}}}});
    crons
        .patch("report", &PatchParams::default(), &Patch::Merge(&hand))
        .await
        .unwrap();
    until("it is put right", async || {
        let spec = crons.get("report").await.unwrap().spec.unwrap();
        spec.suspend == Some(false) && spec.job_template.spec.unwrap().backoff_limit == Some(0)
    })
    .await;
    let mut other = report("two/report:fails");
    other["spec"]["job"]["schedule"] = json!("0 0 2 2 *");
    stage.apply(other).await.unwrap();
    until("the schedule is no part of a revision", async || {
        crons.get("report").await.unwrap().spec.unwrap().schedule == "0 0 2 2 *"
    })
    .await;
    assert_eq!(next(&stage).await.unwrap().1, first);
    crons.delete("report", &DeleteParams::default()).await.unwrap();
    until_next(&stage, "one/report:succeeds").await;
}

#[tokio::test]
async fn a_run_whose_image_can_not_be_pulled_is_no_run_for_ever() {
    let (stage, first) = given_stable("jobs-nopull").await;
    stage.apply(report("two/report:nopull")).await.unwrap();
    until_next(&stage, "two/report:nopull").await;
    begin(&stage, "second-1").await;
    until("it is told why it waits", async || {
        let status = stage.service("report").await.status.unwrap();
        status.message.is_some_and(|m| m.contains("run second-1 waits: "))
    })
    .await;
    let back = stage.until_phase("report", Phase::RolledBack).await;
    let message = back.status.as_ref().unwrap().message.clone().unwrap();
    assert!(
        message.contains("run second-1 has not begun to work since"),
        "{message}"
    );
    assert_eq!(stable(&back), first);
    until("it keeps nobody from running", async || {
        jobs(&stage).get_opt("second-1").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn somebody_elses_cron_job_of_that_name_is_left_alone() {
    let stage = given("jobs-foreign").await;
    let foreign: CronJob = serde_json::from_value(json!({
        "metadata": {"name": "report"},
        "spec": {"schedule": "0 0 3 3 *", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "app", "image": "theirs:1"}],
        }}}}},
    }))
    .unwrap();
    let crons = cron_jobs(&stage);
    crons.create(&PostParams::default(), &foreign).await.unwrap();
    stage.apply(report("one/report:succeeds")).await.unwrap();
    let message = stage
        .until_condition("report", "Applied", "False", "NameTaken")
        .await;
    assert!(message.contains("rename"), "{message}");
    let live = crons.get("report").await.unwrap().spec.unwrap();
    assert_eq!(live.schedule, "0 0 3 3 *");
}

//! Tasks of workers, by exporters that name the worker in a label.

use super::*;
use crate::metric_sources::presets::{Timed, Timing};
use crate::metric_sources::tasks::{outcomes, retries};

const GOOD: &str = "celery_task_succeeded_total";
const BAD: &str = "celery_task_failed_total";
const UP: &str = "celery_worker_up";

/// A series of the exporter's, of one worker.
fn of_worker(name: &str, worker: &str, labels: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    let labels = format!("hostname={worker},{labels}");
    scraped("exporter", name, "celery-exporter-0", &labels, samples)
}

fn tasks() -> SloQuery {
    slo(SliQuery::Tasks(outcomes(Preset::CeleryExporter).unwrap()))
}

#[tokio::test]
async fn revisions_are_told_apart_by_the_workers_host() {
    let mail = "name=shop.mail,queue_name=default";
    let failed = format!("{mail},exception=ValueError");
    let fake = Fake::series(vec![
        of_worker(UP, &canary_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(UP, &stable_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(GOOD, &canary_pod(), mail, &[(-10, "10"), (20, "40")]),
        of_worker(GOOD, &stable_pod(), mail, &[(-10, "0"), (20, "270")]),
        // With the same labels as what succeeded, and another that is new.
        of_worker(BAD, &canary_pod(), mail, &[(-10, "1"), (20, "3")]),
        of_worker(BAD, &canary_pod(), &failed, &[(20, "4")]),
        // A worker that is named, and one of somebody else's.
        of_worker(
            GOOD,
            &format!("w1@{}", stable_pod()),
            mail,
            &[(-10, "5"), (20, "6")],
        ),
        of_worker(
            GOOD,
            "celery@other-aaaaaaaaaa-4zq7w",
            mail,
            &[(-10, "0"), (20, "99")],
        ),
    ])
    .await;
    let measured = fake.measure(request(vec![tasks()])).await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((36.0, 6.0), (271.0, 0.0)));
    let query = fake.queries().remove(0);
    assert!(
        query.contains(r#"hostname=~"(?:.*[^a-z0-9-])?(checkout-bbbbbbbbbb|checkout-aaaaaaaaaa)-[a-z0-9]+(?:[^a-z0-9-].*)?""#)
            && query.contains(UP)
            && query.contains("celery_task_rejected_total")
            && !query.contains("pod=~"),
        "{query}"
    );
}

#[tokio::test]
async fn workers_that_have_done_nothing_yet_are_known() {
    let fake = Fake::series(vec![
        of_worker(UP, &canary_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(UP, &stable_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(GOOD, &stable_pod(), "name=a", &[(-10, "0"), (20, "9")]),
    ])
    .await;
    let measured = fake.measure(request(vec![tasks()])).await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((0.0, 0.0), (9.0, 0.0)));
}

#[tokio::test]
async fn runs_that_end_in_another_try_are_bad_and_those_that_fail_for_good_are_not() {
    const AGAIN: &str = "celery_task_retried_total";
    let fake = Fake::series(vec![
        of_worker(UP, &canary_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(UP, &stable_pod(), "", &[(-10, "1"), (20, "1")]),
        of_worker(GOOD, &canary_pod(), "name=a", &[(-10, "10"), (20, "40")]),
        of_worker(AGAIN, &canary_pod(), "name=a", &[(-10, "2"), (20, "9")]),
        of_worker(GOOD, &stable_pod(), "name=a", &[(-10, "0"), (20, "90")]),
        of_worker(BAD, &stable_pod(), "name=a", &[(-10, "0"), (20, "5")]),
    ])
    .await;
    let of_runs = slo(SliQuery::Tasks(retries(Preset::CeleryExporter).unwrap()));
    let measured = fake.measure(request(vec![of_runs])).await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((37.0, 7.0), (95.0, 0.0)));
}

#[tokio::test]
async fn without_an_exporter_nothing_is_known_and_it_says_so() {
    let measured = Fake::series(Vec::new())
        .await
        .measure(request(vec![tasks()]))
        .await;
    assert_eq!(only(&measured), None);
    assert_eq!(reasons(&measured), ["PodsNotScraped"]);
    let message = &measured.problems[0].message;
    assert!(
        message.contains("hostname") && message.contains("celery worker -E"),
        "{message}"
    );
}

#[tokio::test]
async fn an_exporter_that_begins_again_spoils_nothing() {
    let fake = Fake::series(vec![
        of_worker(UP, &canary_pod(), "", &[(-10, "1"), (5, "1"), (20, "1")]),
        of_worker(UP, &stable_pod(), "", &[(-10, "1"), (5, "1"), (20, "1")]),
        of_worker(
            GOOD,
            &canary_pod(),
            "name=a",
            &[(-10, "500"), (5, "510"), (20, "4")],
        ),
        of_worker(
            GOOD,
            &stable_pod(),
            "name=a",
            &[(-10, "900"), (5, "910"), (20, "4")],
        ),
    ])
    .await;
    let measured = fake.measure(request(vec![tasks()])).await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((14.0, 0.0), (14.0, 0.0)));
}

#[tokio::test]
async fn a_wait_in_the_queue_is_a_histogram_of_its_own() {
    let wait = Timed {
        preset: Preset::CeleryExporter,
        timing: Timing::QueueWait,
    };
    let name = |suffix: &str| format!("celery_task_queue_wait_time_{suffix}");
    let mut all = Vec::new();
    for pod in [canary_pod(), stable_pod()] {
        all.push(of_worker(UP, &pod, "", &[(-10, "1"), (20, "1")]));
        all.push(of_worker(
            &name("count"),
            &pod,
            "name=a",
            &[(-10, "0"), (20, "50")],
        ));
        all.push(of_worker(
            &name("bucket"),
            &pod,
            "name=a,le=10.0",
            &[(-10, "0"), (20, "45")],
        ));
    }
    let fake = Fake::series(all).await;
    let waits = slo(SliQuery::Latency(wait, SignedDuration::from_secs(10)));
    let measured = fake.measure(request(vec![waits])).await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((50.0, 5.0), (50.0, 5.0)));
}

#[tokio::test]
async fn workers_of_rq_are_told_by_their_names() {
    let of = |name: &str, worker: &str, labels: &str, samples: &[(i64, &str)]| {
        let labels = format!("name={worker},{labels}");
        scraped("exporter", name, "rq-exporter-0", &labels, samples)
    };
    let fake = Fake::series(vec![
        of(
            "rq_workers",
            &canary_pod(),
            "queues=default,state=busy",
            &[(-10, "1"), (20, "1")],
        ),
        of(
            "rq_workers",
            &stable_pod(),
            "queues=default,state=idle",
            &[(-10, "1"), (20, "1")],
        ),
        of(
            "rq_workers_success_total",
            &canary_pod(),
            "queues=default",
            &[(-10, "1"), (20, "8")],
        ),
        of(
            "rq_workers_failed_total",
            &canary_pod(),
            "queues=default",
            &[(-10, "0"), (20, "3")],
        ),
        of(
            "rq_workers_success_total",
            &stable_pod(),
            "queues=default",
            &[(-10, "1"), (20, "9")],
        ),
    ])
    .await;
    let measured = fake
        .measure(request(vec![slo(SliQuery::Tasks(
            outcomes(Preset::RqExporter).unwrap(),
        ))]))
        .await;
    assert_eq!(measured.problems, []);
    assert_eq!(only(&measured), counts((10.0, 3.0), (8.0, 0.0)));
}

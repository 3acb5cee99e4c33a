//! Workers, which take their work themselves, on a real API server: no Service, no route, pods alone.

use kube::ResourceExt;
use kube::api::ListParams;
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::support::cluster::{service, stable, until};
use crate::support::prometheus::Behaviour;
use crate::support::{Stage, given};

fn workers(image: &str) -> Value {
    let mut object = service("mail", image);
    let spec = object["spec"].as_object_mut().unwrap();
    for called in ["port", "traffic", "drain"] {
        spec.remove(called);
    }
    object["spec"]["runtime"] = json!({"server": "celery", "queues": ["default", "mail"]});
    object["spec"]["slos"][0]["sli"] = json!({"preset": "celery-exporter", "type": "availability"});
    object
}

fn scheduler(image: &str) -> Value {
    let mut object = workers(image);
    object["spec"]["exposure"] = json!({"singleton": {}});
    object["spec"]["strategy"]["canary"] = json!({"bake": "4s", "watch": "0s"});
    for field in ["replicas", "slos"] {
        object["spec"].as_object_mut().unwrap().remove(field);
    }
    object
}

async fn given_stable(namespace: &str, object: Value) -> (Stage, String) {
    let stage = given(namespace).await;
    stage.apply(object).await.expect("it is valid");
    let first = stage.until_phase("mail", Phase::Healthy).await;
    let revision = stable(&first);
    (stage, revision)
}

/// Pods that there are of each revision, those that end included.
async fn pods(stage: &Stage) -> Vec<String> {
    let pods = stage.pods().list(&ListParams::default()).await.unwrap().items;
    pods.iter()
        .map(|pod| pod.labels()["molt.dev/revision"].clone())
        .collect()
}

async fn wanted(stage: &Stage, revision: &str) -> i32 {
    let set = stage.sets().get(&format!("mail-{revision}")).await.unwrap();
    set.spec.and_then(|s| s.replicas).unwrap_or(1)
}

#[tokio::test]
async fn workers_are_promoted_by_their_pods_and_nobody_calls_them() {
    let (stage, first) = given_stable("workers-good", workers("tasks:good")).await;
    let set = stage.sets().get(&format!("mail-{first}")).await.unwrap();
    assert!(!set.annotations().contains_key("molt.dev/port"));
    let pod = serde_json::to_value(set.spec.unwrap().template.unwrap().spec).unwrap();
    assert_eq!(pod["terminationGracePeriodSeconds"], 600);
    assert_eq!(
        pod["containers"][0]["env"],
        json!([{"name": "MOLT_QUEUES", "value": "default,mail"}])
    );

    stage.apply(workers("tasks:better")).await.unwrap();
    let done = stage.until_phase("mail", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(first, second);
    until("the old workers are gone", async || {
        pods(&stage).await.iter().all(|revision| *revision == second)
    })
    .await;
    assert_eq!(
        (wanted(&stage, &first).await, wanted(&stage, &second).await),
        (0, 2)
    );
    let services = stage.core_services().list(&ListParams::default()).await.unwrap();
    assert!(services.items.is_empty(), "nobody calls workers");
    let record = stage.ended_record("mail", &second, 1).await.status.unwrap();
    let counted: f64 = record
        .verdicts
        .iter()
        .map(|verdict| {
            serde_json::to_value(verdict).unwrap()["canary"]["total"]
                .as_f64()
                .unwrap_or(0.0)
        })
        .sum();
    assert!(counted > 0.0, "the tasks of the canary's workers were counted");
}

#[tokio::test]
async fn bad_workers_are_stopped_and_the_old_ones_work_on() {
    let (stage, first) = given_stable("workers-bad", workers("tasks:good")).await;
    stage.apply(workers("tasks:bad")).await.unwrap();
    let back = stage.until_phase("mail", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    until("the bad workers are gone", async || {
        pods(&stage).await == [first.clone(), first.clone()]
    })
    .await;
}

#[tokio::test]
async fn without_an_exporter_no_worker_of_a_new_revision_starts() {
    let (stage, first) = given_stable("workers-blind", workers("tasks:good")).await;
    stage.prometheus.behave(Behaviour::Empty);
    stage.apply(workers("tasks:better")).await.unwrap();
    let paused = stage.until_phase("mail", Phase::Paused).await;
    assert_eq!(pods(&stage).await, [first.clone(), first.clone()]);
    let message = paused.status.unwrap().message.unwrap();
    assert!(
        message.contains("the metrics of availability have not been read"),
        "{message}"
    );
    assert_eq!(stable(&stage.service("mail").await), first);
}

#[tokio::test]
async fn of_a_scheduler_there_are_never_two() {
    let (stage, first) = given_stable("scheduler", scheduler("tasks:good")).await;
    let change = async |image: &str, phase: Phase| {
        stage.apply(scheduler(image)).await.unwrap();
        let mut most = 0;
        until("it ends", async || {
            most = most.max(pods(&stage).await.len());
            let service = stage.service("mail").await;
            let status = service.status.unwrap();
            status.observed_generation == service.metadata.generation
                && status.canary.is_none()
                && status.phase == Some(phase)
        })
        .await;
        assert_eq!(most, 1, "pods at once");
        stable(&stage.service("mail").await)
    };
    let second = change("tasks:better", Phase::Healthy).await;
    assert_ne!(first, second);
    assert_eq!(change("tasks:crash", Phase::RolledBack).await, second);
    until("the old one runs again", async || {
        pods(&stage).await == [second.clone()]
    })
    .await;
}

#[tokio::test]
async fn what_workers_can_not_be_is_refused() {
    let stage = given("workers-refused").await;
    let with = |change: fn(&mut Value)| {
        let mut object = workers("tasks:good");
        change(&mut object["spec"]);
        object
    };
    let cases: [(Value, &str); 7] = [
        (
            with(|s| s["port"] = json!(8000)),
            "port and traffic belong together",
        ),
        (
            with(|s| {
                s["port"] = json!(8000);
                s["traffic"] = json!({"none": {}});
            }),
            "celery, rq and arq take their work from a queue",
        ),
        (
            with(|s| s["runtime"] = json!({"server": "uvicorn"})),
            "all others but custom serve requests",
        ),
        (with(|s| s["exposure"] = json!({})), "set exactly one of replicas"),
        (with(|s| s["slos"] = json!([])), "set one objective at least"),
        (
            with(|s| s["slos"][0]["sli"] = json!({"preset": "celery-exporter", "type": "queueWait"})),
            "threshold belongs to type latency, queueWait or runtime",
        ),
        (
            with(|s| s["slos"][0]["sli"] = json!({"preset": "dramatiq", "type": "availability"})),
            "spec.slos[0].sli.preset",
        ),
    ];
    for (object, expected) in cases {
        let refused = stage.apply(object.clone()).await.expect_err(expected).to_string();
        assert!(
            refused.contains(expected),
            "{refused:?} does not say {expected:?}"
        );
    }
    stage.apply(workers("tasks:good")).await.unwrap();
    let mut called = service("mail", "shop:good");
    called["spec"]["runtime"] = json!({"server": "custom"});
    let refused = stage.apply(called).await.unwrap_err().to_string();
    assert!(refused.contains("port can't be added or taken away"), "{refused}");
    // What the schema can't say, the operator does.
    let object = with(|s| s["exposure"] = json!({"queue": {"name": "mail-canary"}}));
    stage.apply(object).await.unwrap();
    let message = stage
        .until_condition("mail", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(
        message.contains("spec.exposure.queue: is not in this version"),
        "{message}"
    );
}

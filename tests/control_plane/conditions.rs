//! Thresholds beside the objectives, from the spec to the rollback.

use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::support::cluster::{service, stable, until};
use crate::support::{Stage, given};

fn guarded(image: &str) -> Value {
    let mut object = service("shop", image);
    object["spec"]["guards"] = json!({"conditions": [{
        "name": "latency",
        "successCondition": "value < 0.8",
        "failureLimit": 1,
    }]});
    object["spec"]["guards"]["conditions"][0]["query"] = json!("threshold{$selector}");
    object
}

async fn given_stable(namespace: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    stage.apply(guarded("shop:good")).await.expect("it is valid");
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

#[tokio::test]
async fn a_threshold_that_is_broken_rolls_back_and_one_that_is_met_lets_pass() {
    let (stage, first) = given_stable("threshold").await;
    stage.prometheus.instant(&["1.5"]);
    stage.apply(guarded("shop:second")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "ConditionFailed")
    );
    assert!(
        last.message
            .contains("condition latency: the value is 1.5, not < 0.8"),
        "{}",
        last.message
    );
    let record = stage
        .ended_record("shop", &last.revision.0, 1)
        .await
        .status
        .unwrap();
    let recorded = &record.guards.expect("the guards are recorded").conditions[0];
    assert_eq!((recorded.failed, recorded.verdict.as_str()), (2, "NotMet"));
    let asked = stage.prometheus.asked();
    assert!(!asked.is_empty());
    for query in asked {
        let expected = format!(
            "threshold{{namespace=\"threshold\",pod=~\"shop-{}-[a-z0-9]+\"}}",
            last.revision
        );
        assert_eq!(query, expected);
    }

    stage.prometheus.instant(&["0.3"]);
    stage.apply(guarded("shop:third")).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
}

#[tokio::test]
async fn a_threshold_that_only_warns_is_told_of_and_the_revision_is_promoted() {
    let (stage, first) = given_stable("threshold-warns").await;
    stage.prometheus.instant(&["1.5"]);
    let mut object = guarded("shop:second");
    object["spec"]["guards"]["conditions"][0]["mode"] = json!("Warn");
    stage.apply(object).await.unwrap();
    stage.until_event("shop", "ConditionWarned").await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let record = stage.ended_record("shop", &stable(&done), 1).await;
    let recorded = &record.status.unwrap().guards.unwrap().conditions[0];
    assert_eq!(
        (recorded.mode.as_deref(), recorded.verdict.as_str()),
        (Some("Warn"), "NotMet")
    );
    assert!(recorded.failed > 2, "{recorded:?}");
}

#[tokio::test]
async fn a_threshold_without_one_number_never_counts_as_success() {
    let (stage, first) = given_stable("threshold-nodata").await;
    stage.prometheus.instant(&["0.1", "0.2"]);
    stage.apply(guarded("shop:second")).await.unwrap();
    let held = stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(stable(&held), first);
    let status = held.status.unwrap();
    assert!(status.message.unwrap().contains("the query gives 2 series"));
    let shown = &status.guards.unwrap().conditions[0];
    assert_eq!(
        (shown.verdict.as_str(), shown.evaluated, shown.failed),
        ("NotEvaluated", 0, 0)
    );
}

#[tokio::test]
async fn a_query_that_is_no_promql_is_refused_with_its_field() {
    let (stage, first) = given_stable("threshold-syntax").await;
    let mut object = guarded("shop:second");
    object["spec"]["guards"]["conditions"][0]["query"] = json!("rate(a{$selector}");
    stage.apply(object).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(
        message.starts_with("spec.guards.conditions[0].query: is no PromQL"),
        "{message}"
    );
    assert_eq!(stable(&stage.service("shop").await), first);
    let mut object = guarded("shop:second");
    object["spec"]["guards"]["conditions"][0]["successCondition"] = json!("result < 1");
    let error = stage.apply(object).await.unwrap_err().to_string();
    assert!(error.contains("successCondition"), "{error}");
}

#[tokio::test]
async fn a_number_that_a_url_answers_with_is_judged_too() {
    let app = axum::Router::new().route(
        "/{revision}",
        axum::routing::get(async || axum::Json(json!({"checks": {"failed": 3}}))),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/$revision", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let stage = given("threshold-web").await;
    let with = |image: &str| {
        let mut object = guarded(image);
        object["spec"]["guards"] = json!({"conditions": [{
            "name": "smoke",
            "web": {"url": url, "jsonPath": "$.checks.failed"},
            "successCondition": "value == 0",
        }]});
        object
    };
    stage.apply(with("shop:good")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    stage.apply(with("shop:second")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(last.reason, "ConditionFailed");
    assert!(
        last.message.contains("condition smoke: the value is 3, not == 0"),
        "{}",
        last.message
    );

    let mut both = with("shop:third");
    both["spec"]["guards"]["conditions"][0]["query"] = json!("a{$selector}");
    let error = stage.apply(both).await.unwrap_err().to_string();
    assert!(
        error.contains("exactly one of query (PromQL), web and job"),
        "{error}"
    );
}

fn checked_by(image: &str, check: &str) -> Value {
    let mut object = service("shop", image);
    object["spec"]["guards"] = json!({"conditions": [{
        "name": "smoke",
        "job": {
            "template": {"spec": {"containers": [{
                "name": "smoke", "image": check, "args": ["--url=http://$(MOLT_ADDRESS)/"],
            }]}},
            "timeout": "10s",
        },
    }]});
    object
}

#[tokio::test]
async fn a_job_that_fails_rolls_back_and_one_that_succeeds_lets_pass() {
    let stage = given("threshold-job").await;
    stage
        .apply(service("shop", "shop:good"))
        .await
        .expect("it is valid");
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let jobs: Api<Job> = Api::namespaced(stage.client.clone(), "threshold-job");
    let all = ListParams::default();
    let made = || jobs.list(&all);
    stage
        .apply(checked_by("shop:second", "smoke:fails"))
        .await
        .unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(last.reason, "ConditionFailed", "{}", last.message);
    for part in [
        "condition smoke: its Job failed: container smoke of pod",
        "exit code 3: 9 checks were made",
    ] {
        assert!(last.message.contains(part), "{}", last.message);
    }
    let runs = made().await.unwrap().items;
    assert_eq!(runs.len(), 1, "one run, and it is left for its logs");
    let labels = runs[0].labels();
    assert_eq!(labels["molt.dev/revision"], last.revision.0);
    assert_eq!(
        (
            labels["molt.dev/attempt"].as_str(),
            labels["molt.dev/run"].as_str()
        ),
        ("1", "1")
    );
    let of_service = ListParams::default().labels("molt.dev/service=shop");
    let pods = stage.pods().list(&of_service).await.unwrap();
    assert!(
        pods.iter().all(|p| !p.name_any().contains("-job-")),
        "no pod of a Job is the service's"
    );

    stage
        .apply(checked_by("shop:third", "smoke:succeeds"))
        .await
        .unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let ended = done.status.unwrap().state.unwrap().last.unwrap();
    let condition = &ended.conditions[0];
    assert_eq!(
        (condition.failed, condition.value.as_deref()),
        (0, Some("succeeded"))
    );
    assert_eq!(condition.passed_at_weight, Some(100));
}

#[tokio::test]
async fn a_job_whose_image_cannot_be_pulled_says_nothing_of_the_canary() {
    let stage = given("threshold-job-image").await;
    stage
        .apply(checked_by("shop:good", "smoke:nopull"))
        .await
        .unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    stage
        .apply(checked_by("shop:second", "smoke:nopull"))
        .await
        .unwrap();
    let held = stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(stable(&held), first);
    let status = held.status.unwrap();
    let shown = &status.guards.unwrap().conditions[0];
    assert_eq!((shown.verdict.as_str(), shown.failed), ("NotEvaluated", 0));
    let message = shown.message.as_deref().unwrap_or_default();
    assert!(message.contains("ImagePullBackOff"), "{message}");

    let mut both = checked_by("shop:third", "smoke:succeeds");
    both["spec"]["guards"]["conditions"][0]["successCondition"] = json!("value == 0");
    let error = stage.apply(both).await.unwrap_err().to_string();
    assert!(error.contains("a job has none"), "{error}");
}

#[tokio::test]
async fn no_pod_starts_that_the_database_has_no_connections_for() {
    let bounded = |image: &str| {
        let mut object = service("shop", image);
        object["spec"]["guards"] = json!({"databaseConnections": {
            "query": "sum(pg_stat_database_numbackends)", "limit": 100, "perPod": 20,
        }});
        object
    };
    let stage = given("connections").await;
    stage.apply(bounded("shop:good")).await.expect("it is valid");
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    stage.prometheus.instant(&["85"]);
    stage.apply(bounded("shop:second")).await.unwrap();
    let told = async || {
        let message = stage.service("shop").await.status.and_then(|s| s.message);
        message.unwrap_or_default()
    };
    until("the wait for connections", async || {
        told()
            .await
            .contains("databaseConnections: 85 of 100 connections are in use")
    })
    .await;
    let waiting = stage.service("shop").await;
    assert_eq!(stable(&waiting), first);
    let canary = waiting.status.unwrap().canary.expect("there is one");
    assert_eq!(canary.replicas, 0);
    assert!(
        stage
            .prometheus
            .asked()
            .contains(&"sum(pg_stat_database_numbackends)".to_owned())
    );

    stage.prometheus.instant(&["10"]);
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
}

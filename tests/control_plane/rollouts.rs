//! The life of a rollout on a real API server.

use std::process::ExitCode;

use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use molt::api::v1alpha1::{Phase, PythonService};
use molt_core::state::Outcome;
use serde_json::json;

use crate::support::cluster::{kubectl_molt, service, stable, until};
use crate::support::{Stage, given};

/// Given a service whose first revision serves.
pub async fn given_stable(namespace: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    stage
        .apply(service("shop", "shop:good"))
        .await
        .expect("it is valid");
    let first = stage.until_phase("shop", Phase::Healthy).await;
    let revision = stable(&first);
    (stage, revision)
}

async fn pods_of(stage: &Stage, revision: &str) -> Vec<String> {
    let pods = stage
        .pods()
        .list(&ListParams::default().labels(&format!("molt.dev/revision={revision}")))
        .await
        .unwrap();
    pods.items.iter().map(ResourceExt::name_any).collect()
}

fn canary(service: &PythonService) -> Option<String> {
    service
        .status
        .as_ref()
        .and_then(|s| s.canary.as_ref())
        .map(|c| c.revision.clone())
}

/// Waits until users are on the canary, and returns its revision.
pub async fn until_exposed(stage: &Stage, at_least: i32) -> String {
    until("users are on the canary", async || {
        stage
            .service("shop")
            .await
            .status
            .and_then(|s| s.canary)
            .is_some_and(|c| c.weight >= at_least)
    })
    .await;
    canary(&stage.service("shop").await).expect("there is a canary")
}

#[tokio::test]
async fn a_good_revision_is_promoted_with_the_pods_that_were_tested() {
    let (stage, first) = given_stable("good").await;
    let route = stage.weights("shop").await;
    assert_eq!(route, [(format!("shop-{first}"), 100)]);

    let mut better = service("shop", "shop:better");
    better["metadata"]["annotations"] = json!({"molt.dev/author": "ada@example.com"});
    better["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "DATABASE_URL", "value": "hunter2"}]);
    stage.apply(better).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    let tested = pods_of(&stage, &second).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;

    assert_eq!(stable(&done), second);
    assert_eq!(stage.weights("shop").await, [(format!("shop-{second}"), 100)]);
    let serving = pods_of(&stage, &second).await;
    assert!(
        tested.iter().all(|pod| serving.contains(pod)),
        "{tested:?} are among {serving:?}"
    );
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    assert!(record.slos[0].canary.total > 0);
    assert!(!record.verdicts.is_empty());
    assert_eq!(record.slos[0].objective.as_deref(), Some("99"));
    // What changed, told once; no more than that of what may be secret.
    let change = record.change.unwrap();
    assert_eq!(change.author.as_deref(), Some("ada@example.com"));
    let fields: Vec<_> = change
        .template
        .iter()
        .map(|f| (f.field.as_str(), f.after.as_deref()))
        .collect();
    assert_eq!(
        fields,
        [
            (
                "spec.containers[app].env[DATABASE_URL].value",
                Some("(not recorded)")
            ),
            ("spec.containers[app].image", Some("shop:better")),
        ]
    );
    until("the old revision's pods are gone", async || {
        pods_of(&stage, &first).await.is_empty()
    })
    .await;
    stage.until_event("shop", "Promoted").await;
}

#[tokio::test]
async fn a_bad_revision_is_rolled_back_and_stays_refused_through_a_restart() {
    let (mut stage, first) = given_stable("bad").await;
    stage.apply(service("shop", "shop:bad")).await.unwrap();
    let bad = until_exposed(&stage, 10).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    // The status is written before what follows from it.
    until("the route leads to stable alone", async || {
        stage.weights("shop").await == [(format!("shop-{first}"), 100)]
    })
    .await;
    let record = stage.ended_record("shop", &bad, 1).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::RolledBack), Some("HarmShown"))
    );
    assert!(record.slos[0].canary.bad > 0);
    let burn = record.verdicts.last().unwrap().burn.clone().unwrap();
    // One request in four is bad, one in a hundred may be.
    assert!(burn.canary.unwrap().parse::<f64>().unwrap() > 10.0);
    assert_eq!(burn.stable.as_deref(), Some("0.00"));
    assert!(record.message.unwrap().contains("availability"));
    until("the bad revision's pods are gone", async || {
        pods_of(&stage, &bad).await.is_empty()
    })
    .await;

    stage.stop_operator().await;
    stage.start_operator();
    let mut scaled = service("shop", "shop:bad");
    scaled["spec"]["replicas"] = json!(3);
    stage.apply(scaled).await.unwrap();
    until("stable has grown", async || {
        pods_of(&stage, &first).await.len() == 3
    })
    .await;
    let still = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(
        canary(&still),
        None,
        "neither a restart nor a scaling tries it again"
    );
}

#[tokio::test]
async fn a_restart_of_the_operator_mid_rollout_changes_nothing_about_its_end() {
    let (mut stage, _) = given_stable("restart").await;
    stage.apply(service("shop", "shop:better")).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    stage.stop_operator().await;
    stage.start_operator();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&done), second);
    assert_eq!(
        stage
            .records()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2,
        "one record an attempt"
    );
}

#[tokio::test]
async fn a_status_that_is_wiped_mid_rollout_leaves_no_record_without_an_end() {
    let (stage, first) = given_stable("wiped").await;
    stage.apply(service("shop", "shop:better")).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    stage
        .services()
        .patch_status(
            "shop",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": null})),
        )
        .await
        .unwrap();
    let lost = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(
        (lost.outcome, lost.reason.as_deref()),
        (Some(Outcome::Superseded), Some("StateLost"))
    );
    let next = stage.ended_record("shop", &second, 2).await;
    assert_eq!(next.spec.stable_revision, Some(first));
    assert_eq!(next.status.unwrap().outcome, Some(Outcome::Promoted));
}

#[tokio::test]
async fn a_reverted_and_a_superseded_spec_have_their_ends() {
    let (stage, first) = given_stable("revert").await;
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let back = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&back), first);
    assert_eq!(
        stage
            .ended_record("shop", &second, 1)
            .await
            .status
            .unwrap()
            .outcome,
        Some(Outcome::Aborted)
    );

    let away = Patch::Merge(json!({"status": null}));
    let refused = stage
        .records()
        .patch_status(&format!("shop-{second}-1"), &PatchParams::default(), &away)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("can't be taken away"), "{refused}");

    stage.apply(service("shop", "shop:second")).await.unwrap();
    until_exposed(&stage, 10).await;
    stage.apply(service("shop", "shop:third")).await.unwrap();
    assert_eq!(
        stage
            .ended_record("shop", &second, 2)
            .await
            .status
            .unwrap()
            .outcome,
        Some(Outcome::Superseded)
    );
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert!(stable(&done) != first && stable(&done) != second);
}

#[tokio::test]
async fn pods_that_cannot_run_are_said_and_taken_back() {
    let (stage, first) = given_stable("broken").await;
    stage.apply(service("shop", "shop:crash")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    assert_eq!(
        back.status.unwrap().state.unwrap().last.unwrap().reason,
        "CanaryCrashLooping"
    );

    stage.apply(service("shop", "shop:nopull")).await.unwrap();
    let message = stage
        .until_condition("shop", "CanaryReady", "False", "ImagePullFailed")
        .await;
    assert!(
        message.contains("shop:nopull") || message.contains("pull"),
        "{message}"
    );
    stage.until_event("shop", "ImagePullFailed").await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(
        back.status.unwrap().state.unwrap().last.unwrap().reason,
        "ProgressDeadlineExceeded"
    );
    until("only stable is left in the route", async || {
        stage.weights("shop").await == [(format!("shop-{first}"), 100)]
    })
    .await;
}

#[tokio::test]
async fn scaling_follows_the_spec_and_is_no_rollout() {
    let (stage, first) = given_stable("scale").await;
    let mut more = service("shop", "shop:good");
    more["spec"]["replicas"] = json!(4);
    stage.apply(more).await.unwrap();
    until("there are four pods", async || {
        pods_of(&stage, &first).await.len() == 4
    })
    .await;
    let same = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&same), first);
    assert_eq!(same.status.unwrap().replicas, Some(4));
    assert_eq!(
        stage
            .records()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test]
async fn a_deleted_service_takes_everything_with_it_but_its_records() {
    let (stage, _) = given_stable("delete").await;
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until("the service is gone", async || {
        stage.services().get_opt("shop").await.unwrap().is_none()
    })
    .await;
    until("its children are gone", async || {
        let none = ListParams::default();
        stage.sets().list(&none).await.unwrap().items.is_empty()
            && stage.core_services().list(&none).await.unwrap().items.is_empty()
            && stage.routes().list(&none).await.unwrap().items.is_empty()
    })
    .await;
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::Aborted), Some("Deleted"))
    );
    // The command still tells its history, and that there is nothing else to tell.
    assert_eq!(
        kubectl_molt("delete", &["history", "shop"]).await,
        ExitCode::SUCCESS
    );
    let one = ["history", "shop", "--revision", &second, "-o", "wide"];
    assert_eq!(kubectl_molt("delete", &one).await, ExitCode::SUCCESS);
    assert_eq!(
        kubectl_molt("delete", &["history", "other"]).await,
        ExitCode::from(4)
    );
    assert_eq!(
        kubectl_molt("delete", &["explain", "shop"]).await,
        ExitCode::from(4)
    );
}

#[tokio::test]
async fn a_steady_service_is_never_written() {
    let (stage, _) = given_stable("steady").await;
    let versions = async || {
        let none = ListParams::default();
        let service = stage.service("shop").await.resource_version();
        let sets = stage.sets().list(&none).await.unwrap().items;
        let services = stage.core_services().list(&none).await.unwrap().items;
        let records = stage.records().list(&none).await.unwrap().items;
        (
            service,
            sets.iter().map(ResourceExt::resource_version).collect::<Vec<_>>(),
            services
                .iter()
                .map(ResourceExt::resource_version)
                .collect::<Vec<_>>(),
            records
                .iter()
                .map(ResourceExt::resource_version)
                .collect::<Vec<_>>(),
        )
    };
    // What followed the promotion may still be on its way.
    let mut before = versions().await;
    until("nothing moves any more", async || {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let now = versions().await;
        std::mem::replace(&mut before, now.clone()) == now
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    assert_eq!(versions().await, before);
}

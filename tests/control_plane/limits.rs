//! Sizes, numbers and names at their limits.

use std::time::Instant;

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::support::cluster::{service, stable, until};
use crate::support::{Stage, given};

/// Old ReplicaSets of one service; `MOLT_OLD_SETS` sets another number.
const OLD_SETS: usize = 300;

/// A service with an environment variable of so many bytes.
fn large(size: usize) -> Value {
    let mut object = service("shop", "shop:good");
    object["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "MODEL", "value": "x".repeat(size)}]);
    object
}

#[tokio::test]
async fn an_object_that_leaves_no_room_for_its_status_starts_no_rollout() {
    let stage = given("large").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);

    let mut annotated = service("shop", "shop:good");
    annotated["metadata"]["annotations"] = json!({"notes": "x".repeat(1 << 20)});
    let refused = stage.apply(annotated).await.unwrap_err().to_string();
    assert!(
        refused.contains("annotations: Too long"),
        "the API server itself limits annotations: {}",
        &refused[..refused.len().min(300)]
    );

    stage.apply(large(1_100_000)).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(
        message.contains("is too large") && message.contains("ConfigMaps"),
        "{message}"
    );

    stage.apply(service("other", "other:good")).await.unwrap();
    stage.until_phase("other", Phase::Healthy).await;
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);

    stage.apply(service("shop", "shop:good")).await.unwrap();
    assert_eq!(stable(&stage.until_phase("shop", Phase::Healthy).await), first);
}

#[tokio::test]
async fn thousands_of_old_replica_sets_go_a_few_at_a_time_and_hold_nothing_up() {
    let mut stage = given("old-sets").await;
    let mut object = service("shop", "shop:good");
    object["spec"]["revisionHistoryLimit"] = json!(5);
    stage.apply(object.clone()).await.unwrap();
    let healthy = stage.until_phase("shop", Phase::Healthy).await;
    let count: usize = std::env::var("MOLT_OLD_SETS").map_or(OLD_SETS, |n| n.parse().expect("a number"));
    stage.stop_operator().await;
    make_old_sets(&stage, &healthy.uid().unwrap(), count).await;

    stage.start_operator();
    let began = Instant::now();
    object["spec"]["replicas"] = json!(3);
    stage.apply(object).await.unwrap();
    let left = async || {
        stage
            .sets()
            .list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len()
    };
    until("what is asked for meanwhile is done", async || {
        stage
            .service("shop")
            .await
            .status
            .is_some_and(|s| s.replicas == Some(3))
    })
    .await;
    let (scaled, still) = (began.elapsed(), left().await);
    until("the old ones are gone", async || left().await == 6).await;
    println!(
        "{count} old ReplicaSets: scaled after {:.1} s with {still} left, cleaned up after {:.1} s",
        scaled.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    stage.until_phase("shop", Phase::Healthy).await;
}

async fn make_old_sets(stage: &Stage, owner: &str, count: usize) {
    stream::iter(0..count)
        .for_each_concurrent(16, async |n| {
            let revision = format!("{n:010x}");
            let labels = json!({"molt.dev/service": "shop", "molt.dev/revision": revision});
            let set: ReplicaSet = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("shop-{revision}"), "labels": labels,
                    "annotations": {"molt.dev/port": "8000"},
                    "ownerReferences": [{
                        "apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "name": "shop", "uid": owner,
                        "controller": true,
                    }],
                },
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "app", "image": "shop:old"}]},
                    },
                },
            }))
            .unwrap();
            stage.sets().create(&PostParams::default(), &set).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn the_longest_names_work_from_the_first_deployment_to_a_rollback() {
    let namespace = format!("long-{}", "n".repeat(58));
    assert_eq!(namespace.len(), 63);
    let stage = given(&namespace).await;
    let name = "s".repeat(46);
    let with = |image: &str| {
        let mut object = service(&name, image);
        object["spec"]["slos"][0]["name"] = json!("o".repeat(63));
        object["spec"]["template"]["metadata"] = json!({"labels": {"team": "t".repeat(63)}});
        object
    };
    stage.apply(with("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase(&name, Phase::Healthy).await);
    stage.apply(with("shop:second")).await.unwrap();
    let second = stable(&stage.until_phase(&name, Phase::Healthy).await);
    assert_ne!(second, first);
    let record = stage.ended_record(&name, &second, 1).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    stage.apply(with("shop:bad")).await.unwrap();
    let back = stage.until_phase(&name, Phase::RolledBack).await;
    assert_eq!(stable(&back), second);

    for (name, part) in [
        ("s".repeat(47), "at most 46 characters"),
        ("s".repeat(253), "at most 46 characters"),
        ("7shop".to_owned(), "beginning with a letter"),
        ("shop.eu".to_owned(), "lower case letters, digits and '-'"),
    ] {
        let refused = stage
            .apply(service(&name, "shop:good"))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("metadata.name") && refused.contains(part),
            "{refused}"
        );
    }
}

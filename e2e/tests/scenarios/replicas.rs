//! The operator that leads is killed or replaced amid a rollout: another one steers on, and no request is lost.

use std::time::{Duration, Instant};

use kube::api::ListParams;
use molt::api::v1alpha1::{Phase, RolloutAction};
use molt_e2e::rollout::{not_its_own, stable, stable_under_load, until_weight};
use molt_e2e::{Request, Stage, operator, sample, until};
use serde_json::json;

/// Load on the service, in requests per second.
const RATE: u32 = 200;

/// A canary at 10 % that stays there until somebody promotes it; the leader is killed, and asked at once to go on.
/// How long until somebody has heeded that.
async fn killed_mid_rollout(namespace: &str, replicas: i32) -> Duration {
    let stage = Stage::given_alone(namespace).await;
    operator::scale(&stage.client, replicas).await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable(&stage.services().get("shop").await.expect("it exists"));
    let mut next = sample(namespace, "shop", "v2", &[]);
    next["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
    stage.apply(next).await;
    until_weight(&stage, &first, |w| w == 10).await;

    let before = operator::leader(&stage.client).await;
    operator::kill_leader(&stage.client).await;
    let killed = Instant::now();
    let actions = kube::Api::<RolloutAction>::namespaced(stage.client.clone(), namespace);
    let answered = async {
        until("the wish is answered", async || {
            let actions = actions.list(&ListParams::default()).await.into_iter().flatten();
            actions.filter_map(|a| a.status?.state).next().is_some()
        })
        .await;
        killed.elapsed()
    };
    // The command itself may give up waiting before.
    let (_, steers) = tokio::join!(stage.kubectl_molt(&["promote", "shop"]), answered);
    until_weight(&stage, &first, |w| w > 10).await;
    assert_ne!(operator::leader(&stage.client).await, before);

    until("the new revision is stable", async || {
        let service = stage.services().get("shop").await.expect("it exists");
        let phase = service.status.as_ref().and_then(|s| s.phase);
        phase == Some(Phase::Healthy) && stable(&service) != first
    })
    .await;
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    operator::scale(&stage.client, 2).await;
    stage.end().await;
    steers
}

#[tokio::test]
async fn two_replicas_the_leader_is_killed_mid_rollout_and_the_other_steers_on() {
    let steers = killed_mid_rollout("e2e-two", 2).await;
    println!(
        "two replicas, the leader killed mid-rollout: steered again after {:.1} s, no request lost",
        steers.as_secs_f64()
    );
}

#[tokio::test]
async fn a_single_replica_is_killed_mid_rollout_and_steers_on() {
    let steers = killed_mid_rollout("e2e-single", 1).await;
    println!(
        "a single replica killed mid-rollout: steered again after {:.1} s, no request lost",
        steers.as_secs_f64()
    );
}

#[tokio::test]
async fn the_operator_is_replaced_mid_rollout_without_a_gap() {
    let stage = Stage::given_alone("e2e-upgrade").await;
    operator::scale(&stage.client, 2).await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable(&stage.services().get("shop").await.expect("it exists"));
    stage.apply(sample("e2e-upgrade", "shop", "v2", &[])).await;
    until_weight(&stage, &first, |w| w > 0).await;

    let before = operator::leader(&stage.client).await;
    let mut gap = Duration::ZERO;
    let watch = async {
        let mut led = Instant::now();
        loop {
            if operator::leader(&stage.client).await.is_some() {
                led = Instant::now();
            }
            gap = gap.max(led.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        () = operator::upgrade(&stage.client) => {}
    }
    assert_ne!(operator::leader(&stage.client).await, before);
    println!(
        "the operator replaced mid-rollout: nobody held the lease for {:.2} s at most",
        gap.as_secs_f64()
    );
    until("the new revision is stable", async || {
        let service = stage.services().get("shop").await.expect("it exists");
        let phase = service.status.as_ref().and_then(|s| s.phase);
        phase == Some(Phase::Healthy) && stable(&service) != first
    })
    .await;
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

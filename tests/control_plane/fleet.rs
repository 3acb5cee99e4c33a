//! Everything is paused by one ConfigMap, written by `kubectl` alone or by Git.

use std::process::ExitCode;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use molt::controller::fleet::CONFIG_MAP;
use serde_json::{Value, json};

use crate::gitops::plugin;
use crate::people::given_a_dwell;
use crate::support::cluster::{Stage, service, stable, until};

fn maps(stage: &Stage) -> Api<ConfigMap> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

async fn pause(stage: &Stage, data: Value) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": data,
    });
    let params = PatchParams::apply("kubectl-create").force();
    maps(stage)
        .patch(CONFIG_MAP, &params, &Patch::Apply(map))
        .await
        .unwrap();
}

async fn resume(stage: &Stage) {
    maps(stage)
        .delete(CONFIG_MAP, &DeleteParams::default())
        .await
        .unwrap();
}

async fn weight(stage: &Stage) -> i32 {
    let status = stage.service("shop").await.status.unwrap();
    status.canary.map_or(0, |canary| canary.weight)
}

#[tokio::test]
async fn the_fleet_is_paused_through_a_restart_of_the_operator_and_goes_on_when_the_pause_is_gone() {
    let (mut stage, first, second) = given_a_dwell("fleet").await;
    stage.apply(service("calm", "shop:good")).await.unwrap();
    stage.until_phase("calm", Phase::Healthy).await;
    pause(&stage, json!({"paused": "true", "reason": "INC-12"})).await;
    let paused = stage.until_phase("shop", Phase::Paused).await;
    let message = paused.status.unwrap().message.unwrap();
    let who = "by ConfigMap fleet/molt-fleet: INC-12";
    assert!(message.contains(who), "{message}");
    // One that nothing was going on at says it too, and is none the less ready.
    let said = stage
        .until_condition("calm", "Paused", "True", "FleetPaused")
        .await;
    assert!(said.contains(who), "{said}");
    let ready = stage.until_condition("calm", "Ready", "True", "Healthy").await;
    assert!(ready.contains(who), "{ready}");

    // Whoever starts anew knows it before it does anything; the dwell is made short meanwhile.
    stage.stop_operator().await;
    stage.apply(service("calm", "shop:next")).await.unwrap();
    stage.start_operator();
    let waits = stage.until_phase("calm", Phase::Paused).await.status.unwrap();
    assert!(waits.message.unwrap().contains("waits, stable revision"));
    assert!(waits.canary.is_none(), "no attempt begins");
    // Another reason is told as well.
    pause(&stage, json!({"paused": "true", "reason": "INC-13", "by": "ada"})).await;
    until("the new reason is told", async || {
        let message = stage.service("shop").await.status.unwrap().message.unwrap();
        message.contains("by ada: INC-13")
    })
    .await;
    assert_eq!(weight(&stage).await, 10, "{second} keeps its users");

    resume(&stage).await;
    stage
        .until_condition("shop", "Paused", "False", "Progressing")
        .await;
    let done = stage.until_phase("calm", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let transitions = stage
        .service("shop")
        .await
        .status
        .unwrap()
        .state
        .unwrap()
        .attempt
        .unwrap()
        .transitions;
    let reasons: Vec<&str> = transitions.iter().map(|t| t.reason.as_str()).collect();
    assert!(
        reasons.ends_with(&["PausedByFleet", "ResumedByFleet"]),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn harm_takes_a_canary_back_while_the_fleet_is_paused() {
    let (stage, first) = crate::rollouts::given_stable("fleetharm").await;
    let mut bad = service("shop", "shop:bad");
    bad["spec"]["strategy"]["canary"]["steps"][0]["setWeight"] = json!(50);
    bad["spec"]["strategy"]["canary"]["steps"][2]["setWeight"] = json!(60);
    stage.apply(bad).await.unwrap();
    until("it is under way", async || {
        stage
            .service("shop")
            .await
            .status
            .is_some_and(|s| s.canary.is_some())
    })
    .await;
    crate::rollouts::until_exposed(&stage, 10).await;
    pause(&stage, json!({"paused": "yes"})).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
}

#[tokio::test]
async fn the_command_writes_the_pause_and_tells_whether_it_is_heeded() {
    let (stage, _, _) = given_a_dwell("fleetcmd").await;
    let fleet = async |words: &[&str]| {
        let place = ["fleet", "--operator-namespace", &stage.namespace];
        let words: Vec<&str> = place.iter().chain(words).copied().collect();
        plugin(&stage, &words).await
    };
    assert_eq!(fleet(&["status"]).await, ExitCode::SUCCESS);
    assert_eq!(fleet(&["resume"]).await, ExitCode::from(5), "it is not paused");
    // Services of other scenarios have operators of their own, which don't hear of it: not all say so.
    let code = fleet(&["pause", "--reason", "INC-12"]).await;
    assert!([ExitCode::SUCCESS, ExitCode::from(3)].contains(&code));
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let message = paused.message.unwrap();
    assert!(message.contains("paused by admin: INC-12"), "{message}");
    assert_eq!(fleet(&["status"]).await, ExitCode::from(2));
    let code = fleet(&["resume"]).await;
    assert!([ExitCode::SUCCESS, ExitCode::from(3)].contains(&code));
    stage
        .until_condition("shop", "Paused", "False", "Progressing")
        .await;
    assert_eq!(fleet(&["status"]).await, ExitCode::SUCCESS);
}

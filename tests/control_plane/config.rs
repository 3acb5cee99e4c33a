//! Content of ConfigMaps as a part of the revision, on a real API server with its garbage collector.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::rollouts::until_exposed;
use crate::support::cluster::{service, stable, until, without_operator};
use crate::support::{Stage, given};

/// A service whose pods read what is named: `env` by the environment, the others as volumes.
fn reading(maps: &[&str]) -> Value {
    let mut object = service("shop", "shop:good");
    let spec = &mut object["spec"]["template"]["spec"];
    spec["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "env"}}]);
    let volume = |name: &&str| json!({"name": name, "configMap": {"name": name}});
    spec["volumes"] = maps.iter().map(volume).collect();
    object
}

fn maps(stage: &Stage) -> Api<ConfigMap> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

async fn write(stage: &Stage, name: &str, content: Value) {
    let mut map = content;
    map["apiVersion"] = json!("v1");
    map["kind"] = json!("ConfigMap");
    map["metadata"] = json!({ "name": name });
    let params = PatchParams::apply("person").force();
    maps(stage)
        .patch(name, &params, &Patch::Apply(map))
        .await
        .unwrap();
}

async fn write_env(stage: &Stage, value: &str) {
    write(stage, "env", json!({"data": {"A": value}})).await;
}

async fn set_of(stage: &Stage, revision: &str) -> ReplicaSet {
    stage.sets().get(&format!("shop-{revision}")).await.unwrap()
}

fn env_name(set: &ReplicaSet) -> String {
    let pod = set
        .spec
        .as_ref()
        .unwrap()
        .template
        .as_ref()
        .unwrap()
        .spec
        .clone()
        .unwrap();
    let from = pod.containers[0].env_from.clone().unwrap();
    from[0].config_map_ref.clone().unwrap().name
}

/// What new pods of a revision see of `env`.
async fn env_of(stage: &Stage, revision: &str) -> String {
    let name = env_name(&set_of(stage, revision).await);
    let map = maps(stage)
        .get(&name)
        .await
        .expect("pods could not start without it");
    map.data.unwrap()["A"].clone()
}

async fn snapshots(stage: &Stage) -> Vec<ConfigMap> {
    let ours = ListParams::default().labels("molt.dev/service=shop");
    maps(stage).list(&ours).await.unwrap().items
}

async fn records(stage: &Stage) -> usize {
    stage
        .records()
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .len()
}

async fn given_stable(namespace: &str) -> (Stage, String) {
    let stage = given(namespace).await;
    write_env(&stage, "1").await;
    stage.apply(reading(&[])).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

async fn until_stable_is_another_than(stage: &Stage, revision: &str) -> String {
    until("another revision is stable", async || {
        let service = stage.service("shop").await;
        let status = service.status.unwrap_or_default();
        status.phase == Some(Phase::Healthy) && status.stable.is_some_and(|s| s.revision != revision)
    })
    .await;
    stable(&stage.service("shop").await)
}

#[tokio::test]
async fn a_changed_config_map_is_a_rollout_and_the_old_content_is_the_old_revision() {
    let (stage, first) = given_stable("config-change").await;
    write_env(&stage, "2").await;
    let second = until_stable_is_another_than(&stage, &first).await;
    assert_eq!(env_of(&stage, &second).await, "2");
    assert_eq!(env_of(&stage, &first).await, "1");
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    let change = record.change.unwrap().template;
    let changed: Vec<&str> = change.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(
        changed,
        ["configmap/env[A]"],
        "the key, and not the snapshot's name"
    );
    for snapshot in snapshots(&stage).await {
        let refused = maps(&stage)
            .patch(
                &snapshot.name_any(),
                &PatchParams::default(),
                &Patch::Merge(json!({"data": {"A": "9"}})),
            )
            .await;
        assert!(refused.unwrap_err().to_string().contains("immutable"));
    }

    write_env(&stage, "1").await;
    let third = until_stable_is_another_than(&stage, &second).await;
    assert_eq!(third, first);
    assert_eq!(env_of(&stage, &third).await, "1");
}

#[tokio::test]
async fn bad_content_is_rolled_back_and_stable_never_sees_it() {
    let (stage, first) = given_stable("config-bad").await;
    write_env(&stage, "bad").await;
    let second = until_exposed(&stage, 10).await;
    stage.prometheus.fails(&second);
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(last.reason, "HarmShown");
    assert_eq!(env_of(&stage, &first).await, "1");
    let live = maps(&stage).get("env").await.unwrap();
    assert_eq!(live.data.unwrap()["A"], "bad", "it belongs to the user");
    // It stays refused until the content is another one.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(
        stage.service("shop").await.status.unwrap().phase,
        Some(Phase::RolledBack)
    );
    write_env(&stage, "1").await;
    stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(records(&stage).await, 2);
}

#[tokio::test]
async fn two_edits_within_seconds_are_one_rollout() {
    let (stage, first) = given_stable("config-edits").await;
    write_env(&stage, "2").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    write_env(&stage, "3").await;
    let second = until_stable_is_another_than(&stage, &first).await;
    assert_eq!(env_of(&stage, &second).await, "3");
    assert_eq!(records(&stage).await, 2);
    assert_eq!(
        stage
            .sets()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        2
    );
}

#[tokio::test]
async fn a_secret_is_followed_and_to_ask_for_more_needs_a_right() {
    let stage = given("config-secret").await;
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let put = async |value: &str| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"T": value}});
        let params = PatchParams::apply("person").force();
        secrets
            .patch("token", &params, &Patch::Apply(secret))
            .await
            .unwrap();
    };
    put("1").await;
    write_env(&stage, "1").await;
    let mut object = reading(&[]);
    let env_from = &mut object["spec"]["template"]["spec"]["containers"][0]["envFrom"];
    let envs = env_from.as_array_mut().unwrap();
    envs.push(json!({"secretRef": {"name": "token"}}));
    stage.apply(object.clone()).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    put("2").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let service = stage.service("shop").await;
    assert_eq!((stable(&service), records(&stage).await), (first.clone(), 1));

    object["spec"]["configRevision"] = json!({"secrets": "Snapshot"});
    stage.apply(object.clone()).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(message.contains("rbac.configSecrets=true"), "{message}");
    assert_eq!(stage.weights("shop").await, [(format!("shop-{first}"), 100)]);
    object["spec"]["configRevision"] = json!({"secrets": "Sometimes"});
    assert!(stage.apply(object).await.is_err());
}

#[tokio::test]
async fn secrets_with_the_right_are_copied_and_come_back() {
    let mut stage = without_operator("config-secrets").await;
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "", "tls.key": ""}});
    let params = PatchParams::apply("person").force();
    secrets
        .patch("tls", &params, &Patch::Apply(secret))
        .await
        .unwrap();
    stage.snapshot_secrets = true;
    stage.start_operator();
    let mut object = service("shop", "shop:good");
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "tls", "secret": {"secretName": "tls"}}]);
    object["spec"]["configRevision"] = json!({"secrets": "Snapshot"});
    stage.apply(object).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    let ours = ListParams::default().labels("molt.dev/service=shop");
    let copies = secrets.list(&ours).await.unwrap().items;
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].immutable, Some(true));
    assert!(copies[0].data.as_ref().unwrap().contains_key("tls.crt"));
}

#[tokio::test]
async fn snapshots_go_with_their_revision() {
    let (stage, first) = given_stable("config-garbage").await;
    let old = env_name(&set_of(&stage, &first).await);
    let mut object = reading(&[]);
    object["spec"]["revisionHistoryLimit"] = json!(0);
    stage.apply(object).await.unwrap();
    write_env(&stage, "2").await;
    let second = until_stable_is_another_than(&stage, &first).await;
    until("the old snapshot is collected", async || {
        maps(&stage).get_opt(&old).await.unwrap().is_none()
    })
    .await;
    assert_eq!(env_of(&stage, &second).await, "2");
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    until("no snapshot is left", async || snapshots(&stage).await.is_empty()).await;
    assert!(maps(&stage).get("env").await.is_ok());
}

#[tokio::test]
async fn whatever_a_config_map_may_hold_is_copied() {
    let stage = given("config-large").await;
    write_env(&stage, "1").await;
    // The most that the API server takes.
    let large = "x".repeat((1 << 20) - 16);
    write(&stage, "large", json!({"data": {"a": large}})).await;
    write(
        &stage,
        "binary",
        json!({"binaryData": {"a": "AAH//w=="}, "data": {"b": "ü"}}),
    )
    .await;
    write(&stage, "empty", json!({})).await;
    let many: Vec<String> = (0..27).map(|n| format!("many-{n}")).collect();
    for name in &many {
        write(&stage, name, json!({"data": {"n": name}})).await;
    }
    let mut names: Vec<&str> = many.iter().map(String::as_str).collect();
    names.extend(["large", "binary", "empty"]);
    let mut object = reading(&names);
    let volumes = &mut object["spec"]["template"]["spec"]["volumes"];
    // No name leads out of the namespace.
    let other = "kube-system/extension-apiserver-authentication";
    let volumes = volumes.as_array_mut().unwrap();
    volumes.push(json!({"name": "other", "configMap": {"name": other, "optional": true}}));
    stage.apply(object).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let copies = snapshots(&stage).await;
    assert_eq!(copies.len(), 31);
    let of = |name: &str| {
        let is = |map: &&ConfigMap| map.annotations()["molt.dev/snapshot-of"] == name;
        copies.iter().find(is).unwrap().clone()
    };
    assert_eq!(of("large").data.unwrap()["a"].len(), large.len());
    assert_eq!(of("binary").binary_data.unwrap()["a"].0, [0, 1, 255, 255]);
    assert_eq!((of("empty").data, of("empty").binary_data), (None, None));
    let message = stage
        .until_condition("shop", "ConfigReady", "True", "Settled")
        .await;
    assert!(
        message.contains("31 objects") && message.contains("missing: configmap/kube-system/"),
        "{message}"
    );
    let versions = async || {
        let service = stage.service("shop").await.resource_version();
        (service, set_of(&stage, &first).await.resource_version())
    };
    let before = versions().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(versions().await, before, "it is steady");
}

#[tokio::test]
async fn too_many_are_refused_in_words() {
    let stage = given("config-many").await;
    let names: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.apply(reading(&names)).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(message.contains("names 101 ConfigMaps and Secrets"), "{message}");
}

#[tokio::test]
async fn a_manifest_that_comes_before_its_config_map_is_one_deployment() {
    let stage = given("config-order").await;
    stage.apply(reading(&[])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    write_env(&stage, "1").await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_eq!(env_of(&stage, &first).await, "1");
    assert_ne!(env_name(&set_of(&stage, &first).await), "env");
    assert_eq!(records(&stage).await, 1);
}

//! Content as a part of the revision: what is read, what is written, and what becomes of what is lost.

use std::time::{Duration, Instant};

use http::Method;
use molt::controller::Options;
use molt_sim_api::{Call, Fault, Sim};
use serde_json::{Value, json};

use super::stage::{
    apply, empty, has_canary, idle, is_healthy, live, live_as, options, seen, service, settle,
};

/// A service whose pods read two ConfigMaps and a Secret.
pub fn with_maps(image: &str) -> Value {
    let mut object = service(image);
    let spec = &mut object["spec"]["template"]["spec"];
    spec["containers"][0]["envFrom"] =
        json!([{"configMapRef": {"name": "env"}}, {"secretRef": {"name": "token"}}]);
    spec["volumes"] = json!([{"name": "files", "configMap": {"name": "files", "optional": true}}]);
    object
}

fn put(sim: &Sim, resource: &str, body: Value) {
    let name = body["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/shop/{resource}/{name}?fieldManager=person&force=true");
    let answer = sim.ask(&Call::new(
        Method::PATCH,
        &path,
        "application/apply-patch+yaml",
        body,
    ));
    assert!(answer.code < 300, "{}", answer.body);
}

/// Writes a ConfigMap as a person would.
pub fn put_map(sim: &Sim, name: &str, value: &str) {
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"A": value}});
    put(sim, "configmaps", map);
}

fn put_secret(sim: &Sim, value: &str) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "data": {"T": value}});
    put(sim, "secrets", secret);
}

fn delete(sim: &Sim, resource: &str, name: &str) {
    let path = format!("/api/v1/namespaces/shop/{resource}/{name}");
    let answer = sim.ask(&Call::new(Method::DELETE, &path, "application/json", json!({})));
    assert!(answer.code < 300, "{}", answer.body);
}

/// The ReplicaSets, the oldest first.
fn sets(sim: &Sim) -> Vec<Value> {
    let mut sets: Vec<Value> = sim.with(|s| s.objects("replicasets.apps").into_iter().cloned().collect());
    sets.sort_by_key(|set| set["metadata"]["uid"].to_string());
    sets
}

/// The ReplicaSet of the canary, or of stable if there is none.
fn newest(sim: &Sim) -> Value {
    let status = seen(sim)["status"].take();
    let revision = [&status["canary"]["revision"], &status["stable"]["revision"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let name = format!("checkout-{revision}");
    let set = sim.with(|s| s.object("replicasets.apps", "shop", &name).cloned());
    set.unwrap_or_default()
}

fn env_of(set: &Value) -> String {
    let names = &set["spec"]["template"]["spec"]["containers"][0]["envFrom"];
    names[0]["configMapRef"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn content(sim: &Sim, map: &str) -> Option<Value> {
    sim.with(|s| s.object("configmaps", "shop", map).cloned())
}

/// What the pods of a ReplicaSet see of the ConfigMap `env`.
fn value_of(sim: &Sim, set: &Value) -> Value {
    content(sim, &env_of(set)).unwrap_or_default()["data"]["A"].clone()
}

/// The newest revision's pods see this.
pub fn runs_with(sim: &Sim, value: &str) -> bool {
    value_of(sim, &newest(sim)) == value
}

fn snapshots(sim: &Sim) -> Vec<Value> {
    let is_snapshot = |map: &&Value| map["metadata"]["annotations"]["molt.dev/snapshot-of"].is_string();
    sim.with(|s| {
        s.objects("configmaps")
            .into_iter()
            .filter(is_snapshot)
            .cloned()
            .collect()
    })
}

/// The first revision has the snapshots of both.
pub fn has_both_snapshots(sim: &Sim) -> bool {
    snapshots(sim).len() == 2
}

/// The reason of the condition.
fn config_ready(sim: &Sim) -> (String, String) {
    let service = seen(sim);
    let mut conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions
        .find(|c| c["type"] == "ConfigReady")
        .cloned()
        .unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn given_stable() -> Sim {
    let sim = empty();
    put_map(&sim, "env", "1");
    put_map(&sim, "files", "1");
    put_secret(&sim, "b25l");
    apply(&sim, with_maps("checkout:1"));
    settle(&sim, is_healthy);
    sim
}

/// Requests for ConfigMaps and Secrets other than the watch of all ConfigMaps.
fn reads(sim: &Sim) -> Vec<String> {
    let is_read = |call: &Call| {
        let is_list = call.path.ends_with("/configmaps");
        call.path.contains("/secrets") || (call.path.contains("/configmaps") && !is_list)
    };
    sim.with_log(|log| {
        let calls = log.iter().map(|l| &l.call).filter(|c| is_read(c));
        calls.map(|c| format!("{} {}", c.method, c.path)).collect()
    })
}

#[test]
fn pods_get_copies_that_belong_to_their_replica_set_and_secrets_are_never_asked_for() {
    let sim = given_stable();
    let set = &sets(&sim)[0];
    let copies = snapshots(&sim);
    assert_eq!(copies.len(), 2);
    for copy in &copies {
        assert_eq!(copy["immutable"], true);
        assert_eq!(copy["data"]["A"], "1");
        let owners = copy["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!((owners.len(), &owners[0]["uid"]), (1, &set["metadata"]["uid"]));
        assert_eq!(copy["metadata"]["labels"]["molt.dev/service"], "checkout");
    }
    let template = &set["spec"]["template"]["spec"];
    let secret = &template["containers"][0]["envFrom"][1]["secretRef"]["name"];
    assert_eq!(secret, "token", "it is followed");
    let volume = &template["volumes"][0]["configMap"];
    assert_eq!(volume["optional"], true);
    assert_ne!(volume["name"], "files");
    let secrets: Vec<String> = reads(&sim)
        .into_iter()
        .filter(|r| r.contains("/secrets"))
        .collect();
    assert_eq!(secrets, Vec::<String>::new());
    assert_eq!(config_ready(&sim).0, "Settled");
}

#[test]
fn a_steady_service_reads_nothing_and_what_changes_no_content_wakes_nobody() {
    let sim = given_stable();
    sim.take_log();
    put_secret(&sim, "dHdv");
    put(
        &sim,
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env", "annotations": {"a": "b"}}, "data": {"A": "1"}}),
    );
    put_map(&sim, "unrelated", "7");
    idle(&sim, 1500);
    assert_eq!(reads(&sim), Vec::<String>::new());
    let writes = sim.with_log(|log| log.iter().filter(|l| l.call.is_write()).count());
    assert_eq!(writes, 0);
    assert_eq!(sets(&sim).len(), 1);
}

#[test]
fn several_edits_are_one_rollout_and_stable_keeps_its_content() {
    let sim = given_stable();
    let stable = newest(&sim);
    put_map(&sim, "env", "2");
    live(&sim, |sim| config_ready(sim).0 == "Settling");
    assert_eq!(sets(&sim).len(), 1, "nothing begins before it is settled");
    put_map(&sim, "env", "3");
    put_map(&sim, "files", "3");
    settle(&sim, has_canary);
    assert_eq!(sets(&sim).len(), 2);
    assert!(runs_with(&sim, "3"));
    assert_eq!(value_of(&sim, &stable), "1");

    put_map(&sim, "env", "1");
    put_map(&sim, "files", "1");
    settle(&sim, is_healthy);
    assert_eq!(
        seen(&sim)["status"]["stable"]["revision"],
        stable["metadata"]["labels"]["molt.dev/revision"]
    );
    assert_eq!(sets(&sim).len(), 2, "the same content has the same name");
}

#[test]
fn what_another_version_made_starts_no_rollout() {
    let sim = empty();
    put_map(&sim, "env", "1");
    // What there is afterwards is what a version that knew of no content has left.
    let mut old = with_maps("checkout:1");
    old["spec"]["configRevision"] = json!({"configMaps": "Follow"});
    apply(&sim, old);
    settle(&sim, is_healthy);
    let plain = newest(&sim);
    assert_eq!(env_of(&plain), "env");
    assert_eq!(seen(&sim)["status"]["state"].get("config"), None);

    apply(&sim, with_maps("checkout:1"));
    settle(&sim, |sim| is_healthy(sim) && config_ready(sim).0 == "Settled");
    idle(&sim, 1000);
    assert_eq!(sets(&sim).len(), 1);
    assert_eq!(snapshots(&sim).len(), 0);

    put_map(&sim, "env", "2");
    settle(&sim, has_canary);
    assert!(runs_with(&sim, "2"));
    assert_ne!(env_of(&newest(&sim)), "env");
}

#[test]
fn what_is_missing_keeps_the_name_that_the_user_wrote_and_what_is_deleted_changes_nothing() {
    let sim = empty();
    put_map(&sim, "env", "1");
    apply(&sim, with_maps("checkout:1"));
    settle(&sim, is_healthy);
    let set = newest(&sim);
    let volume = &set["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"];
    assert_eq!(volume, "files");
    assert!(
        config_ready(&sim).1.contains("missing: configmap/files"),
        "{:?}",
        config_ready(&sim)
    );

    delete(&sim, "configmaps", "env");
    settle(&sim, |sim| config_ready(sim).1.contains("configmap/env"));
    assert_eq!(sets(&sim).len(), 1);
    // Another template still gets what there was.
    apply(&sim, with_maps("checkout:2"));
    settle(&sim, has_canary);
    assert!(runs_with(&sim, "1"));
    assert_ne!(env_of(&newest(&sim)), env_of(&set));
}

#[test]
fn an_object_that_opts_out_is_followed() {
    let sim = empty();
    put(
        &sim,
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env", "annotations": {"molt.dev/follow": "true"}}, "data": {"A": "1"}}),
    );
    put_map(&sim, "files", "1");
    apply(&sim, with_maps("checkout:1"));
    settle(&sim, is_healthy);
    assert_eq!(env_of(&newest(&sim)), "env");
    assert_eq!(snapshots(&sim).len(), 1);
}

#[test]
fn a_snapshot_that_is_deleted_is_made_again_as_long_as_its_content_is_known() {
    let sim = given_stable();
    let snapshot = env_of(&newest(&sim));
    delete(&sim, "configmaps", &snapshot);
    settle(&sim, |sim| content(sim, &snapshot).is_some());
    assert_eq!(config_ready(&sim).0, "Settled");

    put_map(&sim, "env", "2");
    live(&sim, |sim| config_ready(sim).0 == "Settling");
    delete(&sim, "configmaps", &snapshot);
    live(&sim, |sim| config_ready(sim).0 == "SnapshotLost");
    let (_, message) = config_ready(&sim);
    assert!(
        message.contains("configmap/env") && message.contains(&snapshot),
        "{message}"
    );
    put_map(&sim, "env", "1");
    settle(&sim, |sim| content(sim, &snapshot).is_some() && is_healthy(sim));
}

#[test]
fn another_object_in_the_place_of_a_canarys_snapshot_takes_it_back() {
    let sim = given_stable();
    put_map(&sim, "env", "2");
    settle(&sim, has_canary);
    let snapshot = content(&sim, &env_of(&newest(&sim))).unwrap();
    delete(&sim, "configmaps", snapshot["metadata"]["name"].as_str().unwrap());
    let mut other = snapshot.clone();
    other["metadata"] = json!({
        "name": snapshot["metadata"]["name"],
        "annotations": snapshot["metadata"]["annotations"],
        "ownerReferences": snapshot["metadata"]["ownerReferences"],
    });
    other["data"]["A"] = json!("9");
    put(&sim, "configmaps", other);
    live(&sim, |sim| {
        seen(sim)["status"]["state"]["last"]["reason"] == "RevisionAltered"
    });
}

#[test]
fn config_maps_that_may_not_be_listed_stop_the_services_that_name_them_and_no_other() {
    let sim = empty();
    sim.plan(|call, _| {
        let list = call.path.ends_with("/shop/configmaps") && !call.is_write();
        list.then(|| Fault::forbidden("list", "configmaps", "", ""))
    });
    apply(&sim, with_maps("checkout:1"));
    let since = std::cell::Cell::new(None);
    live(&sim, |sim| {
        if since.get().is_none() && config_ready(sim).0 == "ConfigUnread" {
            since.set(Some(Instant::now()));
        }
        // What is not known is not taken for missing, which would be taken up after 5 s.
        since.get().is_some_and(|s| s.elapsed() > Duration::from_secs(7))
    });
    let (_, message) = config_ready(&sim);
    assert!(
        message.contains("cannot list resource \"configmaps\""),
        "{message}"
    );
    assert!(sets(&sim).is_empty());
    apply(&sim, service("checkout:1"));
    live(&sim, is_healthy);
}

fn with_secrets() -> Options {
    Options {
        snapshot_secrets: true,
        ..options()
    }
}

fn secrets_too() -> Value {
    let mut object = with_maps("checkout:1");
    object["spec"]["configRevision"] = json!({"secrets": "Snapshot"});
    object
}

#[test]
fn secrets_are_part_of_the_revision_where_the_operator_may_read_them() {
    let sim = empty();
    put_map(&sim, "env", "1");
    put_map(&sim, "files", "1");
    put_secret(&sim, "b25l");
    apply(&sim, secrets_too());
    live_as(&sim, with_secrets(), is_healthy);
    let of = |set: &Value| {
        let name = &set["spec"]["template"]["spec"]["containers"][0]["envFrom"][1]["secretRef"]["name"];
        let name = name.as_str().unwrap().to_owned();
        sim.with(|s| s.object("secrets", "shop", &name).cloned()).unwrap()
    };
    let first = newest(&sim);
    assert_eq!(
        (of(&first)["data"]["T"].as_str(), &of(&first)["immutable"]),
        (Some("b25l"), &json!(true))
    );
    put_secret(&sim, "dHdv");
    live_as(&sim, with_secrets(), has_canary);
    assert_eq!(of(&newest(&sim))["data"]["T"], "dHdv");
    assert_eq!(of(&first)["data"]["T"], "b25l");
}

#[test]
fn secrets_that_may_not_be_read_are_told_and_stable_serves() {
    let sim = given_stable();
    apply(&sim, secrets_too());
    live(&sim, |sim| seen(sim)["status"]["phase"] == "Degraded");
    let message = seen(&sim)["status"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("spec.configRevision.secrets") && message.contains("rbac.configSecrets=true"),
        "{message}"
    );
    sim.plan(|call, _| {
        call.path
            .contains("/secrets")
            .then(|| Fault::forbidden("list", "secrets", "", ""))
    });
    live_as(&sim, with_secrets(), |sim| config_ready(sim).0 == "ConfigUnread");
    let status = seen(&sim)["status"].take();
    assert_eq!(
        (&status["stable"]["ready"], status.get("canary")),
        (&json!(2), None)
    );
}

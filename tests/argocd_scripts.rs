//! Argo CD's scripts, run by an interpreter of its language, Lua 5.1.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib, Value as LuaValue};
use molt::api::v1alpha1::RolloutAction;
use molt::gitops::argocd::{ACTIONS, DISCOVERY, HEALTH, action, config_map};
use serde_json::{Value, json};

/// What a script gives for an object, in the sandbox that Argo CD has: the base library, tables, and of `os` the time and
/// the date (`runLua` in Argo CD's util/lua/lua.go; `useOpenLibs` is not for actions, argoproj/argo-cd#10670).
fn run(script: &str, object: &Value) -> Value {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::OS, LuaOptions::default()).unwrap();
    lua.load("os = { date = os.date, time = os.time }")
        .exec()
        .unwrap();
    // Absent fields are nil, as in Argo CD, and no value of their own.
    let options = mlua::serde::SerializeOptions::new().serialize_none_to_null(false);
    let object = lua.to_value_with(object, options).unwrap();
    lua.globals().set("obj", object).unwrap();
    let result: LuaValue = lua
        .load(script)
        .eval()
        .unwrap_or_else(|error| panic!("{error}\n{script}"));
    lua.from_value(result).unwrap()
}

fn service(phase: &str, canary: bool) -> Value {
    let mut object = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "PythonService",
        "metadata": {"name": "shop", "namespace": "web", "generation": 3},
        "status": {
            "phase": phase, "message": format!("it is {phase}"), "observedGeneration": 3,
            "stable": {"revision": "aaaaaaaaaa", "weight": 75},
        },
    });
    if canary {
        object["status"]["canary"] = json!({"revision": "bbbbbbbbbb", "attempt": 2, "weight": 25});
        object["status"]["step"] = json!({"index": 2, "awaited": 3, "total": 6});
    }
    object
}

#[test]
fn every_phase_has_a_health() {
    let expected = [
        ("Initializing", "Progressing"),
        ("Progressing", "Progressing"),
        ("RollingBack", "Progressing"),
        ("Healthy", "Healthy"),
        ("Paused", "Suspended"),
        ("RolledBack", "Degraded"),
        ("Degraded", "Degraded"),
    ];
    let crd: CustomResourceDefinition = molt::api::v1alpha1::PythonService::crd();
    let schema = json!(crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let phases = schema["properties"]["status"]["properties"]["phase"]["enum"]
        .as_array()
        .unwrap()
        .clone();
    for phase in phases.iter().filter_map(Value::as_str) {
        let health = run(HEALTH, &service(phase, false));
        let wanted = expected.iter().find(|(of, _)| *of == phase);
        let wanted = wanted.unwrap_or_else(|| panic!("phase {phase} has no health"));
        assert_eq!(
            health,
            json!({"status": wanted.1, "message": format!("it is {phase}")})
        );
    }
}

#[test]
fn a_spec_that_nobody_has_looked_at_is_in_progress() {
    let mut late = service("Healthy", false);
    late["metadata"]["generation"] = json!(4);
    assert_eq!(run(HEALTH, &late)["status"], "Progressing");
    late.as_object_mut().unwrap().remove("status");
    assert_eq!(run(HEALTH, &late)["status"], "Progressing");
}

#[test]
fn what_can_be_asked_depends_on_where_it_is() {
    let possible = |object: &Value| -> Vec<String> {
        let all = run(DISCOVERY, object);
        let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
        assert!(
            all.as_object()
                .unwrap()
                .keys()
                .all(|name| names.contains(&name.as_str()))
        );
        let enabled = |name: &&str| all[*name]["disabled"] == json!(false);
        names.into_iter().filter(enabled).map(str::to_owned).collect()
    };
    assert_eq!(
        possible(&service("Progressing", true)),
        ["promote", "promote-full", "abort", "pause"]
    );
    assert_eq!(possible(&service("Healthy", false)), ["undo", "restart"]);
    assert_eq!(possible(&service("RolledBack", false)), ["retry"]);
    assert_eq!(possible(&service("RollingBack", true)), Vec::<String>::new());
    let mut paused = service("Paused", true);
    paused["status"]["conditions"] =
        json!([{"type": "Paused", "status": "True", "reason": "PausedByPerson", "message": "at 10 %"}]);
    assert_eq!(possible(&paused), ["promote", "promote-full", "abort", "resume"]);
    assert_eq!(
        possible(&json!({"metadata": {"name": "shop"}})),
        Vec::<String>::new()
    );
}

#[test]
fn an_action_is_one_that_molt_takes_and_means_what_was_seen() {
    for (name, wish) in ACTIONS {
        let canary = !["retry", "undo", "restart"].contains(&name);
        let made = run(&action(name, wish), &service("Progressing", canary));
        assert_eq!(made[0]["operation"], "create");
        let made: RolloutAction = serde_json::from_value(made[0]["resource"].clone()).unwrap();
        assert_eq!(json!(made.spec.action), json!(wish));
        assert_eq!(
            (made.spec.service.as_str(), made.metadata.namespace.as_deref()),
            ("shop", Some("web"))
        );
        let revision = match name {
            "retry" => None,
            "undo" | "restart" => Some("aaaaaaaaaa"),
            _ => Some("bbbbbbbbbb"),
        };
        assert_eq!(made.spec.revision.as_deref(), revision, "{name}");
        assert_eq!(made.spec.attempt, canary.then_some(2), "{name}");
        assert_eq!(made.spec.step, (name == "promote").then_some(3), "{name}");
        assert!(
            made.metadata
                .name
                .unwrap()
                .starts_with(&format!("shop-{name}-20"))
        );
    }
}

#[test]
fn the_config_map_holds_the_scripts_and_is_committed() {
    let written = std::fs::read_to_string("deploy/argocd/argocd-cm.yaml").unwrap();
    assert_eq!(written, config_map(), "run `make generate`");
    let patch: BTreeMap<String, BTreeMap<String, String>> = serde_saphyr::from_str(&written).unwrap();
    let data = &patch["data"];
    assert_eq!(
        data["resource.customizations.health.molt.dev_PythonService"].trim(),
        HEALTH.trim()
    );
    let actions: Value =
        serde_saphyr::from_str(&data["resource.customizations.actions.molt.dev_PythonService"]).unwrap();
    assert_eq!(
        actions["discovery.lua"].as_str().unwrap().trim(),
        DISCOVERY.trim()
    );
    for (given, (name, wish)) in actions["definitions"].as_array().unwrap().iter().zip(ACTIONS) {
        assert_eq!(given["name"], name);
        assert_eq!(
            given["action.lua"].as_str().unwrap().trim(),
            action(name, wish).trim()
        );
    }
}

//! The runbook's commands, by the real `kubectl` against a real API server, as they stand in `docs/runbook.md`.

use std::collections::BTreeMap;
use std::process::Command;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::json;

use crate::people::given_a_dwell;
use crate::rollouts::given_stable;
use crate::support::cluster::{Stage, given, kubeconfig, service, until};

const RUNBOOK: &str = include_str!("../../docs/runbook.md");
/// What the tests below run.
const TRIED: [&str; 16] = [
    "abort",
    "actions",
    "another-prometheus",
    "forget-state",
    "go-on",
    "let-go",
    "look",
    "operator",
    "past-the-gateway",
    "restart-operator",
    "route-status",
    "scale",
    "stop-all",
    "stop-one",
    "take-away",
    "take-away-own",
];

/// The blocks of commands by the name in the comment before them.
fn blocks() -> BTreeMap<&'static str, &'static str> {
    let parts = RUNBOOK.split("<!-- test: ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part
                .split_once(" -->\n```sh\n")
                .expect("a block follows the comment");
            (name, rest.split_once("\n```").expect("the block ends").0)
        })
        .collect()
}

/// Runs a block for the service `shop` of the stage, with the stage's namespace as the operator's.
async fn run(stage: &Stage, name: &str) -> String {
    let block = blocks()[name];
    let bin = std::env::var("MOLT_BIN").unwrap_or_else(|_| {
        let cache = std::env::var("XDG_CACHE_HOME")
            .unwrap_or_else(|_| format!("{}/.cache", std::env::var("HOME").unwrap()));
        let versions = include_str!("../../e2e/cluster/versions.env");
        let version = versions
            .lines()
            .find_map(|l| l.strip_prefix("MOLT_CACHE_VERSION="));
        format!("{cache}/molt/{}/bin", version.expect("the cache has a version"))
    });
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", block])
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
        .env("KUBECONFIG", kubeconfig())
        .envs([("ns", &stage.namespace), ("operator", &stage.namespace)])
        .env("name", "shop");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name}: {block}\n{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

async fn message(stage: &Stage) -> String {
    stage.service("shop").await.status.unwrap().message.unwrap()
}

#[test]
fn every_block_of_commands_has_a_name_and_is_tried() {
    let blocks = RUNBOOK.matches("```sh\n").count();
    // The first one only names what it is about.
    assert_eq!(blocks - 1, self::blocks().len(), "a block without a name");
    assert_eq!(self::blocks().into_keys().collect::<Vec<_>>(), TRIED);
}

#[tokio::test]
async fn without_an_operator_the_traffic_is_taken_away_and_stays_away() {
    let (mut stage, first, second) = given_a_dwell("runbook").await;
    let seen = run(&stage, "look").await;
    assert!(
        seen.contains("Progressing: ") && seen.contains(&format!("shop-{second} 10")),
        "{seen}"
    );
    run(&stage, "operator").await;
    run(&stage, "restart-operator").await;
    stage.stop_operator().await;
    run(&stage, "take-away").await;
    assert_eq!(
        stage.weights("shop").await,
        [(format!("shop-{first}"), 100), (format!("shop-{second}"), 0)]
    );
    run(&stage, "scale").await;
    stage.start_operator();
    stage.until_phase("shop", Phase::RolledBack).await;
    let last = stage
        .service("shop")
        .await
        .status
        .unwrap()
        .state
        .unwrap()
        .last
        .unwrap();
    assert_eq!(last.reason, "WeightLowered");
    until("the spec's number of pods is followed", async || {
        let set = stage.sets().get(&format!("shop-{first}")).await.unwrap();
        set.spec.unwrap().replicas == Some(2)
    })
    .await;
}

#[tokio::test]
async fn a_route_of_ones_own_is_taken_back_as_the_runbook_says() {
    let mut stage = given("runown").await;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "front"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [
            {"name": "shop-stable", "port": 8000, "weight": 100},
            {"name": "shop-canary", "port": 8000, "weight": 0},
        ]}]},
    });
    stage
        .routes()
        .patch("front", &PatchParams::apply("person"), &Patch::Apply(route))
        .await
        .unwrap();
    let mut object = service("shop", "shop:good");
    object["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}});
    object["spec"]["progressDeadline"] = json!(crate::support::cluster::ENDPOINTS_COME);
    object["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
    stage.apply(object.clone()).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(object).await.unwrap();
    crate::rollouts::until_exposed(&stage, 10).await;
    stage.stop_operator().await;
    run(&stage, "take-away-own").await;
    let gone = [("shop-stable".to_owned(), 100), ("shop-canary".to_owned(), 0)];
    assert_eq!(stage.weights("front").await, gone);
    stage.start_operator();
    stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stage.weights("front").await, gone);
}

#[tokio::test]
async fn a_person_aborts_and_pauses_one_and_all_by_kubectl_alone() {
    let (stage, _, _) = given_a_dwell("runpeople").await;
    run(&stage, "stop-all").await;
    until("everything is paused", async || {
        message(&stage).await.contains("INC-12")
    })
    .await;
    run(&stage, "go-on").await;
    until("it goes on", async || !message(&stage).await.contains("INC-12")).await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), &stage.namespace);
    assert!(maps.get_opt("molt-fleet").await.unwrap().is_none());
    run(&stage, "stop-one").await;
    stage.until_phase("shop", Phase::Paused).await;
    run(&stage, "another-prometheus").await;
    let spec = stage.service("shop").await.spec;
    let address = serde_json::to_value(&spec).unwrap()["metrics"]["prometheus"]["address"].clone();
    assert_eq!(address, "http://prometheus-b.monitoring:9090");
    run(&stage, "abort").await;
    stage.until_phase("shop", Phase::RolledBack).await;
    until("the action is answered", async || {
        run(&stage, "actions").await.contains("Applied")
    })
    .await;
}

#[tokio::test]
async fn what_was_taken_back_stays_so_when_the_state_is_forgotten() {
    let (mut stage, first, second) = given_a_dwell("runforget").await;
    run(&stage, "abort").await;
    stage.until_phase("shop", Phase::RolledBack).await;
    stage.ended_record("shop", &second, 1).await;
    stage.stop_operator().await;
    run(&stage, "forget-state").await;
    stage.start_operator();
    let found = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(crate::support::cluster::stable(&found), first);
    assert!(message(&stage).await.contains("its record says so"));
    let users = [(format!("shop-{first}"), 100)];
    assert_eq!(stage.weights("shop").await[..1], users);
    // Somebody tries it again.
    crate::support::cluster::kubectl_molt(&stage.namespace, &["retry", "shop"]).await;
    crate::rollouts::until_exposed(&stage, 10).await;
    assert!(stage.records().get(&format!("shop-{second}-2")).await.is_ok());
}

#[tokio::test]
async fn past_the_gateway_a_lost_state_and_a_service_that_cannot_go() {
    let (mut stage, first) = given_stable("runrest").await;
    let said = run(&stage, "route-status").await;
    assert!(said.contains("public Accepted=True"), "{said}");
    let port = run(&stage, "past-the-gateway").await;
    assert!(port.lines().last().unwrap().parse::<u16>().is_ok(), "{port}");
    let direct = stage
        .core_services()
        .get("shop-direct")
        .await
        .unwrap()
        .spec
        .unwrap();
    assert_eq!(direct.selector.unwrap()["molt.dev/revision"], first);
    stage.stop_operator().await;
    run(&stage, "forget-state").await;
    stage.start_operator();
    let found = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(crate::support::cluster::stable(&found), first);
    stage.stop_operator().await;
    let all = kube::api::DeleteParams::default();
    stage.services().delete("shop", &all).await.unwrap();
    assert!(
        stage.services().get_opt("shop").await.unwrap().is_some(),
        "it waits for an operator"
    );
    run(&stage, "let-go").await;
    until("it is gone", async || {
        stage.services().get_opt("shop").await.unwrap().is_none()
    })
    .await;
}

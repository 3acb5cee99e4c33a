//! Spec in Git, people at the route, and operators that come and go: what must stay as it was decided.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use serde_json::{Value, json};

use crate::people::given_a_dwell;
use crate::rollouts::{given_stable, until_exposed};
use crate::support::cluster::{Stage, kubeconfig, service, stable, until};

/// `kubectl molt` with these words, in the stage's namespace.
pub async fn plugin(stage: &Stage, words: &[&str]) -> ExitCode {
    let kubeconfig = kubeconfig();
    let place = [
        "kubectl-molt",
        "--kubeconfig",
        &kubeconfig,
        "-n",
        &stage.namespace,
    ];
    molt::plugin::run(place.iter().chain(words).map(Into::into)).await
}

/// The weight that the route gives to a revision.
async fn weight(stage: &Stage, revision: &str) -> i64 {
    let weights = stage.weights("shop").await;
    let found = weights.iter().find(|(name, _)| name.ends_with(revision));
    found.map_or(0, |(_, weight)| *weight)
}

/// Lowers a canary's weight to nothing as `kubectl patch` does.
async fn take_away(stage: &Stage, stable: &str, canary: &str) {
    let patch = json!([
        {"op": "test", "path": "/spec/rules/0/backendRefs/0/name", "value": format!("shop-{stable}")},
        {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 100},
        {"op": "test", "path": "/spec/rules/0/backendRefs/1/name", "value": format!("shop-{canary}")},
        {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 0},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let params = PatchParams {
        field_manager: Some("kubectl-patch".to_owned()),
        ..PatchParams::default()
    };
    let patch: Patch<()> = Patch::Json(patch);
    stage.routes().patch("shop", &params, &patch).await.unwrap();
}

/// Looks at the canary's weight until the service has a phase; the highest that there was.
async fn highest_until(stage: &Stage, canary: &str, phase: Phase) -> i64 {
    let highest = std::cell::Cell::new(0);
    until("the phase is reached", async || {
        highest.set(highest.get().max(weight(stage, canary).await));
        stage.service("shop").await.status.unwrap().phase == Some(phase)
    })
    .await;
    highest.get()
}

async fn last_reason(stage: &Stage) -> String {
    let status = stage.service("shop").await.status.unwrap();
    status.state.unwrap().last.unwrap().reason
}

#[tokio::test]
async fn a_weight_that_was_lowered_while_the_operator_was_down_is_not_raised_again() {
    let (mut stage, first, second) = given_a_dwell("lowered").await;
    stage.stop_operator().await;
    take_away(&stage, &first, &second).await;
    stage.start_operator();
    assert_eq!(highest_until(&stage, &second, Phase::RolledBack).await, 0);
    assert_eq!(last_reason(&stage).await, "WeightLowered");
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    assert!(record.message.unwrap().contains("kubectl-patch lowered"));
}

#[tokio::test]
async fn an_abort_that_nobody_acknowledges_can_take_the_traffic_away_itself() {
    let (mut stage, first, second) = given_a_dwell("direct").await;
    stage.stop_operator().await;
    assert_eq!(
        plugin(&stage, &["abort", "shop", "--reason", "INC-12"]).await,
        ExitCode::from(3)
    );
    assert_eq!(weight(&stage, &second).await, 10, "it was only told how");
    assert_eq!(
        plugin(&stage, &["abort", "shop", "--direct"]).await,
        ExitCode::SUCCESS
    );
    assert_eq!(
        (weight(&stage, &first).await, weight(&stage, &second).await),
        (100, 0)
    );
    // Both actions wait, and are read before anything is written: the person is the reason, not the hand at the route.
    stage.start_operator();
    assert_eq!(highest_until(&stage, &second, Phase::RolledBack).await, 0);
    until("every action is answered", async || {
        let actions = stage.actions().list(&ListParams::default()).await.unwrap().items;
        actions
            .iter()
            .all(|a| a.status.as_ref().is_some_and(|s| s.state.is_some()))
    })
    .await;
}

#[tokio::test]
async fn an_abort_that_waited_for_the_operator_comes_before_any_weight() {
    let (mut stage, _, second) = given_a_dwell("waiting").await;
    stage.stop_operator().await;
    // The next weight is due, and allowed.
    assert_eq!(plugin(&stage, &["promote", "shop"]).await, ExitCode::from(3));
    assert_eq!(plugin(&stage, &["abort", "shop"]).await, ExitCode::from(3));
    stage.start_operator();
    assert_eq!(highest_until(&stage, &second, Phase::RolledBack).await, 10);
    assert_eq!(last_reason(&stage).await, "AbortedByPerson");
}

#[tokio::test]
async fn what_was_refused_stays_so_through_syncs_edits_and_restarts() {
    let (mut stage, first) = given_stable("refused").await;
    let mut bad = service("shop", "shop:crash");
    stage.apply(bad.clone()).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let refused = back.status.unwrap().state.unwrap().refused.unwrap();
    let attempts = async || {
        let records = stage.records().list(&ListParams::default()).await.unwrap();
        records
            .items
            .iter()
            .filter(|r| r.spec.revision == refused.0)
            .count()
    };
    assert_eq!(attempts().await, 1);
    // The same again, as a tool that syncs does; with labels of its own; with another number of pods.
    stage.apply(bad.clone()).await.unwrap();
    bad["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "shop"});
    bad["metadata"]["annotations"] = json!({"argocd.argoproj.io/refresh": "hard"});
    stage.apply(bad.clone()).await.unwrap();
    bad["spec"]["replicas"] = json!(3);
    stage.apply(bad.clone()).await.unwrap();
    until("the new number is followed", async || {
        let status = stage.service("shop").await.status.unwrap();
        status.stable.is_some_and(|s| s.replicas == 3 && s.ready == 3)
    })
    .await;
    let still = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&still), first);
    assert_eq!(attempts().await, 1);
    stage.stop_operator().await;
    stage.start_operator();
    bad["spec"]["replicas"] = json!(2);
    stage.apply(bad).await.unwrap();
    until("the old number is followed", async || {
        let status = stage.service("shop").await.status.unwrap();
        status.stable.is_some_and(|s| s.replicas == 2)
    })
    .await;
    let still = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&still), first);
    let records = stage.records().list(&ListParams::default()).await.unwrap();
    assert_eq!(
        records
            .items
            .iter()
            .filter(|r| r.spec.revision == refused.0)
            .count(),
        1
    );
}

#[tokio::test]
async fn a_sync_of_what_is_there_already_restarts_nothing() {
    let (stage, first) = given_stable("sync").await;
    let pods = async || {
        let pods = stage.pods().list(&ListParams::default()).await.unwrap();
        let mut names: Vec<String> = pods.items.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    };
    let before = pods().await;
    let mut same = service("shop", "shop:good");
    same["metadata"]["annotations"] = json!({"kustomize.toolkit.fluxcd.io/reconcile": "enabled"});
    stage.apply(same.clone()).await.unwrap();
    // What is no part of the template is no new revision.
    same["spec"]["progressDeadline"] = json!("30s");
    stage.apply(same).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!((stable(&done), pods().await), (first, before));
    let sets = stage.sets().list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 1);
}

#[tokio::test]
async fn a_sync_every_other_second_takes_no_weight_back_during_a_rollout() {
    let (stage, first) = given_stable("drift").await;
    let next = service("shop", "shop:better");
    stage.apply(next.clone()).await.unwrap();
    let second = until_exposed(&stage, 1).await;
    let mut weights = vec![weight(&stage, &second).await];
    let mut syncs = 0;
    until("it is promoted", async || {
        // As a delivery tool does that takes back whatever it finds changed.
        stage.apply(next.clone()).await.unwrap();
        syncs += 1;
        let status = stage.service("shop").await.status.unwrap();
        weights.push(weight(&stage, &second).await);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        status.phase == Some(Phase::Healthy)
    })
    .await;
    assert!(syncs > 3, "{syncs}");
    assert!(weights.is_sorted(), "no weight was taken back: {weights:?}");
    assert_eq!(stable(&stage.service("shop").await), second);
    assert_ne!(first, second);
    assert_eq!(stage.ended_record("shop", &second, 1).await.spec.attempt, 1);
    // Apply, get, apply: nothing was written into the spec that a sync would see as a difference.
    let before = stage.service("shop").await.metadata.generation;
    stage.apply(next).await.unwrap();
    assert_eq!(stage.service("shop").await.metadata.generation, before);
}

/// What kstatus makes of an object: the library that Flux asks, by the program of e2e/cluster/kstatus.
fn kstatus(object: &Value) -> String {
    let path = Command::new("bash")
        .args([
            "-c",
            ". e2e/cluster/node/common.sh && printf %s \"$MOLT_BIN/kstatus\"",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("bash runs");
    let path = String::from_utf8(path.stdout).expect("a path in UTF-8");
    let mut asked = Command::new(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{path}: {error}; build it with e2e/cluster/build.sh kstatus"));
    let mut input = asked.stdin.take().expect("it is piped");
    write!(input, "{object}").expect("it reads");
    drop(input);
    let output = asked.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{object}");
    let text = String::from_utf8(output.stdout).expect("it writes UTF-8");
    text.lines().next().expect("it says something").to_owned()
}

#[tokio::test]
async fn delivery_tools_read_each_phase_as_it_is_meant() {
    let (mut stage, _, second) = given_a_dwell("kstatus").await;
    let now = async |stage: &Stage| kstatus(&serde_json::to_value(stage.service("shop").await).unwrap());
    assert_eq!(now(&stage).await, "InProgress");
    let pause = json!({"revision": second, "action": "Pause"});
    crate::people::act(&stage, pause).await;
    stage.until_phase("shop", Phase::Paused).await;
    assert_eq!(now(&stage).await, "Current");
    // An operator that is told to be strict.
    stage.stop_operator().await;
    stage.strict_paused = true;
    stage.start_operator();
    stage
        .until_condition("shop", "Reconciling", "True", "Paused")
        .await;
    assert_eq!(now(&stage).await, "InProgress");
    stage.stop_operator().await;
    stage.strict_paused = false;
    // A spec that nobody has looked at is not done.
    let mut invalid = service("shop", "shop:second");
    invalid["spec"]["template"]["metadata"] = json!({"labels": {"molt.dev/revision": "mine"}});
    stage.apply(invalid).await.expect("the schema lets it through");
    assert_eq!(now(&stage).await, "InProgress");
    stage.start_operator();
    stage.until_phase("shop", Phase::Degraded).await;
    assert_eq!(now(&stage).await, "Failed");
    stage.apply(service("shop", "shop:crash")).await.unwrap();
    stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(now(&stage).await, "Failed");
    stage.apply(service("shop", "shop:good")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(now(&stage).await, "Current");
}

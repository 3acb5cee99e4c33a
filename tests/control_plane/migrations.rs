//! Migrations by Jobs before the first pod of a revision, from the spec to what users and auditors read.

use std::process::ExitCode;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::{Phase, PythonService};
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::support::cluster::{kubectl_molt, service, stable, until};
use crate::support::{Stage, given};

fn migrated(image: &str, more: &Value) -> Value {
    let mut object = service("shop", image);
    let mut gate = json!({"tool": "alembic", "timeout": "20s"});
    for (field, value) in more.as_object().into_iter().flatten() {
        gate[field] = value.clone();
    }
    object["spec"]["gates"] = json!({"migrations": gate});
    object
}

async fn given_stable(namespace: &str, more: &Value) -> (Stage, String) {
    let stage = given(namespace).await;
    stage
        .apply(migrated("shop:good", more))
        .await
        .expect("it is valid");
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    (stage, first)
}

/// The runs there have been: phase and number, in order of their creation.
async fn runs(stage: &Stage, namespace: &str, revision: &str) -> Vec<String> {
    let jobs: Api<Job> = Api::namespaced(stage.client.clone(), namespace);
    let of = ListParams::default().labels(&format!("molt.dev/revision={revision}"));
    let mut jobs = jobs.list(&of).await.unwrap().items;
    jobs.sort_by_key(|job| job.creation_timestamp().map(|t| t.0));
    let name = |job: &Job| {
        format!(
            "{} {}",
            job.labels()["molt.dev/condition"],
            job.labels()["molt.dev/run"]
        )
    };
    jobs.iter().map(name).collect()
}

fn last_revision(service: &PythonService) -> String {
    let state = service.status.as_ref().unwrap().state.as_ref().unwrap();
    state.last.as_ref().unwrap().revision.0.clone()
}

/// Pods that its ReplicaSet has ever created, by the events of their controller.
async fn pods_ever(stage: &Stage, namespace: &str, revision: &str) -> usize {
    let events: Api<Event> = Api::namespaced(stage.client.clone(), namespace);
    let set = format!("shop-{revision}");
    let created = |e: &&Event| {
        e.reason.as_deref() == Some("SuccessfulCreate")
            && e.regarding.as_ref().and_then(|r| r.name.as_ref()) == Some(&set)
    };
    let all = events.list(&ListParams::default()).await.unwrap();
    all.iter().filter(created).count()
}

#[tokio::test]
async fn what_expands_is_applied_before_the_first_pod_and_told_in_the_record() {
    let (stage, first) = given_stable("migrated", &json!({})).await;
    stage.apply(migrated("shop:expand", &json!({}))).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(second, first);
    assert_eq!(
        runs(&stage, "migrated", &second).await,
        ["migration.check 1", "migration.apply 1"]
    );
    let record = stage.ended_record("shop", &second, 1).await.status.unwrap();
    let told = |reason: &str| {
        record
            .transitions
            .iter()
            .find(|t| t.reason == reason)
            .map(|t| t.message.clone())
    };
    assert_eq!(
        told("MigrationsChecked").as_deref(),
        Some("1 migration is pending: m2 expands (adds column orders.note)")
    );
    assert_eq!(told("MigrationsApplied").as_deref(), Some("applied 1: m2"));
    let message = stage.until_condition("shop", "Migrated", "True", "Applied").await;
    assert!(message.contains("nothing"), "{message}");
    let own = ListParams::default().labels("molt.dev/service=shop");
    let pods = stage.pods().list(&own).await.unwrap();
    assert!(
        pods.iter().all(|p| !p.name_any().contains("-job-")),
        "no pod of a run is the service's"
    );
}

#[tokio::test]
async fn what_is_wrong_with_migrations_ends_the_attempt_before_a_pod_and_says_how() {
    let (stage, first) = given_stable("migrations-bad", &json!({})).await;
    for (tag, reason, what) in [
        (
            "heads",
            "MigrationFailed",
            "the check failed: the migrations have 2 heads",
        ),
        (
            "renames",
            "MigrationBlocked",
            "m2 expands and contracts in one (renames column orders.customer to buyer)",
        ),
        (
            "breaks",
            "MigrationFailed",
            "does not exist at postgresql://shop:***@db/shop",
        ),
    ] {
        stage
            .apply(migrated(&format!("shop:{tag}"), &json!({})))
            .await
            .unwrap();
        let back = stage.until_phase("shop", Phase::RolledBack).await;
        assert_eq!(stable(&back), first);
        assert!(pods_ever(&stage, "migrations-bad", &first).await > 0);
        let last = back
            .status
            .as_ref()
            .unwrap()
            .state
            .as_ref()
            .unwrap()
            .last
            .clone()
            .unwrap();
        assert_eq!(
            (last.outcome, last.reason.as_str()),
            (Outcome::RolledBack, reason),
            "{}",
            last.message
        );
        assert!(last.message.contains(what), "{}", last.message);
        assert_eq!(
            pods_ever(&stage, "migrations-bad", &last.revision.0).await,
            0,
            "{tag}"
        );
        let record = stage
            .ended_record("shop", &last.revision.0, 1)
            .await
            .status
            .unwrap();
        assert_eq!(record.reason.as_deref(), Some(reason));
        assert_eq!(record.gates[0].outcome, "Failed");
        assert!(!json!(record).to_string().contains("hunter2"));
        stage.until_condition("shop", "Migrated", "False", reason).await;
    }
    let events: Api<Event> = Api::namespaced(stage.client.clone(), "migrations-bad");
    let events = events.list(&ListParams::default()).await.unwrap();
    assert!(
        events
            .iter()
            .any(|e| e.reason.as_deref() == Some("MigrationBlocked"))
    );
}

#[tokio::test]
async fn one_that_hangs_is_deleted_when_its_time_is_over() {
    // Enough for a run that does not hang, on a slow machine as well.
    let gate = json!({"timeout": "15s", "lockTimeout": "1s"});
    let (stage, first) = given_stable("migration-hangs", &gate).await;
    stage.apply(migrated("shop:hangs", &gate)).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert!(
        last.message.contains("it ran for 15s without an end"),
        "{}",
        last.message
    );
    until("its Job is deleted", async || {
        runs(&stage, "migration-hangs", &last.revision.0).await == ["migration.check 1"]
    })
    .await;
}

#[tokio::test]
async fn what_contracts_is_held_back_until_the_next_release_has_it() {
    let (stage, first) = given_stable("migration-held", &json!({})).await;
    stage.apply(migrated("shop:contract", &json!({}))).await.unwrap();
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(second, first);
    let message = stage
        .until_condition("shop", "Migrated", "True", "HeldBack")
        .await;
    assert!(message.contains("m3"), "{message}");
    stage.apply(migrated("shop:later", &json!({}))).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let third = stable(&done);
    assert_ne!(third, second);
    let database = done.status.unwrap().state.unwrap().database.unwrap();
    assert_eq!(
        (database.barred, database.held),
        (vec![first.as_str().into()], Vec::new())
    );
}

#[tokio::test]
async fn a_contract_that_waits_for_approval_runs_after_it_and_bars_the_way_back() {
    let gate = json!({"contract": "Approval"});
    let (stage, first) = given_stable("migration-approval", &gate).await;
    stage.apply(migrated("shop:contract", &gate)).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let second = last_revision(&done);
    stage
        .until_condition("shop", "Migrated", "False", "AwaitingApproval")
        .await;
    let answer = kubectl_molt("migration-approval", &["approve", "shop", "--gate", "contract"]).await;
    assert_eq!(answer, ExitCode::SUCCESS);
    stage.until_condition("shop", "Migrated", "True", "Applied").await;
    assert_eq!(
        runs(&stage, "migration-approval", &second).await,
        ["migration.check 1", "migration.apply 1", "migration.contract 1"]
    );
    stage.apply(migrated("shop:good", &gate)).await.unwrap();
    let message = stage
        .until_condition("shop", "Migrated", "False", "PastContract")
        .await;
    assert!(message.contains(&first), "{message}");
    assert_eq!(stable(&stage.service("shop").await), second);
    let mut next = migrated("shop:contract", &gate);
    next["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "RELEASE", "value": "next"}]);
    stage.apply(next).await.unwrap();
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let record = stage.ended_record("shop", &stable(&done), 1).await;
    let record = record.status.unwrap();
    let before = &record.gates[0];
    assert_eq!(
        (before.name.as_str(), before.outcome.as_str()),
        ("contract", "Passed")
    );
    let message = before.message.as_deref().unwrap();
    assert!(
        message.starts_with(&format!("of attempt 1 at revision {second}: approved by ")),
        "{message}"
    );
    assert!(record.ended_at.unwrap() > before.at.unwrap() && !before.applied.is_empty());
    assert_eq!(record.gates[1].name, "migrations");
}

#[tokio::test]
async fn what_cannot_be_a_gate_is_refused_with_its_field() {
    let stage = given("migration-fields").await;
    for (more, what) in [
        (
            json!({"tool": "custom"}),
            "custom: belongs to tool: custom, and is needed there",
        ),
        (
            json!({"custom": {"check": ["c"], "apply": ["a"]}}),
            "custom: belongs to tool: custom",
        ),
        (
            json!({"tool": "custom", "custom": {"check": ["c"], "apply": ["a"]}, "onRollback": "Downgrade"}),
            "Downgrade needs custom.rollback",
        ),
        (json!({"workingDir": "app"}), "workingDir"),
        (json!({"tool": "flyway"}), "Unsupported value"),
    ] {
        let error = stage
            .apply(migrated("shop:good", &more))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(what), "{error}");
    }
    let long = json!({"timeout": "5s", "lockTimeout": "5s"});
    stage.apply(migrated("shop:good", &long)).await.unwrap();
    let message = stage
        .until_condition("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(message.contains("spec.gates.migrations.lockTimeout"), "{message}");
}

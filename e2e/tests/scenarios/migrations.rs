//! Migrations before the first pod, by real projects against a real PostgreSQL, under load that writes to it.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use molt::api::v1alpha1::{Phase, PythonService};
use molt_core::state::{Ended, Outcome};
use molt_e2e::rollout::{not_its_own, pods_of, stable};
use molt_e2e::{Load, Stage, sample, until};
use serde_json::{Value, json};

/// What a database must never be told by.
pub(crate) const PASSWORD: &str = "hunter2";

/// A database, and the service before its first release.
async fn given_a_database(namespace: &str) -> Stage {
    let stage = Stage::given(namespace).await;
    start_database(&stage).await;
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "db"},
        "spec": {"selector": {"app": "db"}, "ports": [{"port": 5432}]},
    }))
    .unwrap();
    stage
        .core_services()
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    stage
}

async fn start_database(stage: &Stage) {
    run_database(stage, database()).await;
}

/// The pod of a database.
pub(crate) fn database() -> Value {
    // Generous: a database that is slow to say so is not away.
    let ready = json!({
        "exec": {"command": ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "shop"]},
        "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 20,
    });
    json!({
        "metadata": {"name": "db", "labels": {"app": "db"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "securityContext": {"fsGroup": 65532},
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{
                "name": "db", "image": "molt.local/postgres:dev", "imagePullPolicy": "IfNotPresent",
                "env": [
                    {"name": "POSTGRES_USER", "value": "shop"}, {"name": "POSTGRES_DB", "value": "shop"},
                    {"name": "POSTGRES_PASSWORD", "value": PASSWORD},
                ],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": ready,
                "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            }],
        },
    })
}

pub(crate) async fn run_database(stage: &Stage, pod: Value) {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    stage.pods().create(&PostParams::default(), &pod).await.unwrap();
    stage
        .until("the database answers", async || {
            let pod = stage.pods().get("db").await.unwrap();
            let conditions = pod.status.and_then(|s| s.conditions).unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "True")
        })
        .await;
}

async fn stop_database(stage: &Stage) {
    stage.pods().delete("db", &DeleteParams::default()).await.unwrap();
    stage
        .until("the database is gone", async || {
            stage.pods().get_opt("db").await.unwrap().is_none()
        })
        .await;
}

/// The service as release `release` of the Alembic project, with more of the gate's fields and of the environment.
fn release(stage: &Stage, version: &str, release: &str, gate: &Value, env: &[(&str, &str)]) -> Value {
    let url = format!("postgresql+psycopg://shop:{PASSWORD}@db/shop");
    let config = format!("releases/{release}.ini");
    let mut all = vec![
        ("DATABASE_URL", url.as_str()),
        ("ALEMBIC_CONFIG", config.as_str()),
    ];
    all.extend(env);
    let mut manifest = sample(&stage.namespace, "shop", version, &all);
    let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
    container["image"] = json!("molt.local/projects:dev");
    container["command"] = json!(["python3", "/projects/alembic-app/serve.py"]);
    manifest["spec"]["gates"]["migrations"] = json!({
        "tool": "alembic", "workingDir": "/projects/alembic-app", "timeout": "90s", "lockTimeout": "1s",
    });
    for (field, value) in gate.as_object().into_iter().flatten() {
        manifest["spec"]["gates"]["migrations"][field] = value.clone();
    }
    manifest
}

/// Orders that are written all the time.
async fn orders(stage: &Stage) -> Load {
    let load = stage.load_of("shop", "orders", 20);
    until("orders are written", async || {
        load.requests().iter().filter(|r| !r.failed()).count() > 60
    })
    .await;
    load
}

fn last(service: &PythonService) -> Ended {
    let state = service.status.as_ref().and_then(|s| s.state.as_ref());
    state.and_then(|s| s.last.clone()).expect("an attempt has ended")
}

/// It ends before a pod, for this reason; nobody is told the password.
async fn ends_before_a_pod(stage: &Stage, manifest: Value, reason: &str, parts: &[&str]) -> Ended {
    let first = stable(&stage.services().get("shop").await.unwrap());
    stage.apply(manifest).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    let ended = last(&back);
    assert_eq!(
        (ended.outcome, ended.reason.as_str()),
        (Outcome::RolledBack, reason),
        "{}",
        ended.message
    );
    for part in parts {
        assert!(
            ended.message.contains(part),
            "{part} is not in: {}",
            ended.message
        );
    }
    assert_eq!((ended.max_weight, stable(&back)), (0, first));
    assert!(pods_of(stage, &ended.revision.0).await.is_empty());
    stage.until_told("shop", "Migrated", "False", reason).await;
    let record = stage.last_record(&back).await;
    // Its environment has the URL; what is told of it has not.
    let told = json!([back.status, record.status]).to_string();
    assert!(!told.contains(PASSWORD), "{told}");
    ended
}

/// Where the database is, by the condition `Migrated`.
async fn until_migrated(stage: &Stage, reason: &str) -> String {
    let mut message = String::new();
    stage
        .until(&format!("Migrated is {reason}"), async || {
            let service = stage.services().get("shop").await.unwrap();
            let conditions = service.status.and_then(|s| s.conditions).unwrap_or_default();
            let found = conditions
                .into_iter()
                .find(|c| c.type_ == "Migrated" && c.reason == reason);
            found.is_some_and(|c| {
                message = c.message;
                true
            })
        })
        .await;
    message
}

/// Every order since the first one was written; each has to be.
fn all_written(load: Load) {
    let failed: Vec<_> = load
        .end()
        .into_iter()
        .skip_while(molt_e2e::Request::failed)
        .filter(molt_e2e::Request::failed)
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn releases_expand_and_contract_while_orders_are_written() {
    let stage = given_a_database("e2e-migrate").await;
    stage.apply(release(&stage, "v1", "base", &json!({}), &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = orders(&stage).await;

    // What contracts is in this release already, whose code does without the column.
    let writes = [("WRITES", "customer,note")];
    stage
        .apply(release(&stage, "v2", "contract", &json!({}), &writes))
        .await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    let second = stable(&done);
    assert_ne!(second, first);
    let told: Vec<String> = last(&done).transitions.into_iter().map(|t| t.message).collect();
    let checked = "2 migrations are pending: note expands (adds column orders.note); no_amount contracts (drops column orders.amount); held back from no_amount on (1): an older revision is live";
    assert!(told.iter().any(|m| m == checked), "{told:#?}");
    assert!(told.iter().any(|m| m == "applied 1: note"), "{told:#?}");
    until_migrated(&stage, "HeldBack").await;

    // The next one has it too, and more: stable has shipped it, so it goes, while orders are written.
    stage
        .apply(release(&stage, "v3", "later", &json!({}), &writes))
        .await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), second);
    let told: Vec<String> = last(&done).transitions.into_iter().map(|t| t.message).collect();
    assert!(
        told.iter().any(|m| m == "applied 2: no_amount, place"),
        "{told:#?}"
    );
    let undone = stage
        .kubectl_molt(&["undo", "shop", "--to-revision", &first])
        .await;
    assert!(!undone.status.success());
    all_written(load);
    stage.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_migrations_ends_a_release_before_its_first_pod() {
    let stage = given_a_database("e2e-migrate-bad").await;
    let hold = [("HOLD_LOCK", "1")];
    stage
        .apply(release(&stage, "v1", "expand", &json!({}), &hold))
        .await;
    stage.until_phase("shop", Phase::Healthy).await;
    let load = orders(&stage).await;
    let gate = json!({});
    ends_before_a_pod(
        &stage,
        release(&stage, "v2", "heads", &gate, &[]),
        "MigrationFailed",
        &[
            "the migrations have 2 heads, and one is wanted: note, other",
            "alembic merge heads",
        ],
    )
    .await;
    ends_before_a_pod(
        &stage,
        release(&stage, "v6", "mixed", &gate, &[]),
        "MigrationBlocked",
        &["renamed expands and contracts in one (renames column orders.customer to buyer)"],
    )
    .await;
    ends_before_a_pod(
        &stage,
        release(&stage, "v3", "data", &gate, &[]),
        "MigrationBlocked",
        &[
            "filled can't be judged (`UPDATE orders SET note = customer",
            "`molt: expand`",
        ],
    )
    .await;
    // The old revision's forgotten transaction has read the table.
    ends_before_a_pod(
        &stage,
        release(&stage, "v4", "failing", &gate, &[]),
        "MigrationFailed",
        &[
            "a lock was not to be had within lockTimeout, 3 times",
            "(forgetful-report): idle in transaction, its transaction open for",
        ],
    )
    .await;
    let hanging = release(&stage, "v5", "hanging", &json!({"timeout": "40s"}), &[]);
    let ended = ends_before_a_pod(&stage, hanging, "MigrationFailed", &[]).await;
    // The database ends the statement, or the operator the whole run, where that was slow to begin.
    let said = [
        "a statement ran into the timeout",
        "it ran for 40s without an end",
    ];
    assert!(
        said.iter().any(|part| ended.message.contains(part)),
        "{}",
        ended.message
    );
    all_written(load);
    stage.end().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_waited_for_and_a_failing_migration_leaves_nothing_half_done() {
    let stage = given_a_database("e2e-migrate-away").await;
    stop_database(&stage).await;
    stage
        .apply(release(&stage, "v1", "expand", &json!({}), &[]))
        .await;
    stage
        .until("it says that the database can't be reached", async || {
            let service = stage.services().get("shop").await.unwrap();
            let message = service.status.and_then(|s| s.message).unwrap_or_default();
            message.contains("the database can't be reached") && message.contains("is tried again")
        })
        .await;
    start_database(&stage).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let parts = [
        "relation \"nowhere\" does not exist",
        "ALTER TABLE nowhere ADD COLUMN done text",
    ];
    // Twice the same, so nothing of the first try was left: its first statement would have failed.
    for version in ["v2", "v3"] {
        ends_before_a_pod(
            &stage,
            release(&stage, version, "failing", &json!({}), &[]),
            "MigrationFailed",
            &parts,
        )
        .await;
    }
    assert_eq!(stable(&stage.services().get("shop").await.unwrap()), first);
    stage.end().await;
}

#[tokio::test]
async fn what_contracts_runs_after_the_bake_and_bars_the_way_back() {
    let stage = given_a_database("e2e-contract").await;
    let gate = json!({"contract": "AfterBake"});
    stage.apply(release(&stage, "v1", "base", &gate, &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = stage.load("shop", 20);
    stage.apply(release(&stage, "v2", "contract", &gate, &[])).await;
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    until_migrated(&stage, "Applied").await;
    assert!(
        pods_of(&stage, &first).await.is_empty(),
        "not before the last old pod has gone"
    );
    let undone = stage.kubectl_molt(&["undo", "shop"]).await;
    let told = String::from_utf8_lossy(&undone.stderr).into_owned();
    assert!(
        !undone.status.success() && told.contains("has taken from the database what it needs"),
        "{told}"
    );
    stage.apply(release(&stage, "v1", "base", &gate, &[])).await;
    stage
        .until_told("shop", "Migrated", "False", "PastContract")
        .await;
    drop(load);
    assert_eq!(stable(&stage.services().get("shop").await.unwrap()), second);
    stage.end().await;
}

#[tokio::test]
async fn a_rollback_keeps_what_was_applied_and_takes_it_back_where_it_is_asked_to() {
    let stage = given_a_database("e2e-migrate-back").await;
    stage.apply(release(&stage, "v1", "base", &json!({}), &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = orders(&stage).await;
    // It writes a column that there is not.
    let bad = [("WRITES", "customer,amount,nothing")];
    stage
        .apply(release(&stage, "v2", "expand", &json!({}), &bad))
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(
        (stable(&back), last(&back).reason.as_str()),
        (first.clone(), "HarmShown")
    );
    until_migrated(&stage, "Applied").await;

    // The database is ahead of this one, which has nothing of its own to apply.
    stage.apply(release(&stage, "v3", "base", &json!({}), &[])).await;
    let third = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(third, first);

    // What is kept is not taken back; what this attempt applies, is.
    let gate = json!({"onRollback": "Downgrade"});
    stage.apply(release(&stage, "v4", "more", &gate, &bad)).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!((stable(&back), last(&back).reason.as_str()), (third, "HarmShown"));
    stage
        .until("an event tells that it is taken back", async || {
            let events = Api::<Event>::namespaced(stage.client.clone(), &stage.namespace);
            let events = events.list(&ListParams::default()).await;
            events.is_ok_and(|all| {
                let told = |e: &Event| {
                    e.reason.as_deref() == Some("Downgraded")
                        && e.note.as_deref() == Some("taken back: extra")
                };
                all.items.iter().any(told)
            })
        })
        .await;
    let requests = load.end();
    let others: Vec<_> = not_its_own(&requests, "v2")
        .into_iter()
        .filter(|r| r.version != "v4")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    stage.end().await;
}

#[tokio::test]
async fn a_django_project_is_migrated_the_same_way() {
    let stage = given_a_database("e2e-django").await;
    let django = |version: &str, name: &str| {
        let mut manifest = release(
            &stage,
            version,
            "base",
            &json!({"tool": "django", "workingDir": "/projects/django-app"}),
            &[],
        );
        let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
        container["command"] = json!(["python3", "/app/app.py"]);
        let env = container["env"].as_array_mut().unwrap();
        env.push(json!({"name": "DJANGO_RELEASE", "value": name}));
        manifest
    };
    stage.apply(django("v1", "base")).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    // Nothing is sent to it: what is looked at is before its first pod.
    for (version, name, reason, what) in [
        (
            "v2",
            "heads",
            "MigrationFailed",
            "several heads (shop: 0002_note, 0002_other)",
        ),
        (
            "v3",
            "data",
            "MigrationBlocked",
            "shop.0003_fill can't be judged (RunPython can't be written as SQL)",
        ),
        (
            "v4",
            "needed",
            "MigrationBlocked",
            "shop.0003_place expands and contracts in one",
        ),
    ] {
        ends_before_a_pod(&stage, django(version, name), reason, &[what]).await;
    }
    let load = stage.load("shop", 20);
    stage.apply(django("v5", "contract")).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let told: Vec<String> = last(&done).transitions.into_iter().map(|t| t.message).collect();
    assert!(told.iter().any(|m| m == "applied 1: shop.0002_note"), "{told:#?}");
    let message = until_migrated(&stage, "HeldBack").await;
    assert!(message.contains("shop.0003_no_amount"), "{message}");
    drop(load);
    stage.end().await;
}

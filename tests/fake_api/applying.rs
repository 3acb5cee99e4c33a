//! The writer on its own.

use k8s_openapi::api::core::v1::Service;
use molt::k8s::failure::WriteError;
use molt::k8s::writer::Writer;
use molt_sim_api::{Fault, Sim};
use serde_json::{Value, json};

use super::stage::empty;

fn body(port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "a", "ownerReferences": [
            {"apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "name": "a", "uid": "u"}
        ]},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": port}]},
    })
}

fn run<T>(sim: &Sim, work: impl AsyncFnOnce(Writer) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        work(Writer::new(
            sim.client(),
            "test".into(),
            molt::leader::Fence::open(),
        ))
        .await
    })
}

#[test]
fn without_force_the_owner_of_a_field_is_named() {
    let sim = empty();
    run(&sim, async |writer| {
        writer
            .apply::<Service>("shop", "other", false, &body(1))
            .await
            .unwrap();
        let error = writer
            .apply::<Service>("shop", "molt", false, &body(2))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("conflict with \"other\""), "{error}");
        assert!(error.problem().is_some(), "waiting does not help");
        let taken = writer
            .apply::<Service>("shop", "molt", true, &body(2))
            .await
            .unwrap();
        let ports = taken.spec.unwrap().ports.unwrap();
        assert_eq!(ports.len(), 1);
    });
}

#[test]
fn what_is_there_already_is_not_made_again() {
    let sim = empty();
    run(&sim, async |writer| {
        writer.create::<Service>("shop", "u", &body(1)).await.unwrap();
        writer.create::<Service>("shop", "u", &body(1)).await.unwrap();
        let taken = writer.create::<Service>("shop", "another", &body(1)).await;
        assert!(matches!(taken, Err(WriteError::NameTaken { .. })));
    });
    assert_eq!(sim.with_log(|log| log.iter().filter(|l| l.changed).count()), 1);
}

#[test]
fn an_answer_that_never_comes_is_a_timeout_and_repeating_it_changes_nothing() {
    let sim = empty();
    sim.plan(|call, ordinal| {
        (call.is_write() && ordinal.write == 0).then_some(Fault::Silent { took_effect: true })
    });
    run(&sim, async |writer| {
        let first = writer.create::<Service>("shop", "u", &body(1)).await;
        assert!(matches!(first, Err(WriteError::Timeout { .. })), "{first:?}");
        writer.create::<Service>("shop", "u", &body(1)).await.unwrap();
    });
    assert_eq!(sim.with(|s| s.objects("services").len()), 1);
}

#[test]
fn a_status_is_put_on_the_version_that_was_decided_on_or_not_at_all() {
    let sim = empty();
    super::stage::apply_service(&sim, "checkout:1");
    let version = super::stage::seen(&sim)["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let status = json!({"phase": "Healthy"});
    run(&sim, async |writer| {
        let put = async |version: &str| {
            writer
                .put_status::<molt::controller::object::ServiceObject>(
                    "shop",
                    "checkout",
                    version,
                    status.clone(),
                )
                .await
        };
        put(version).await.unwrap();
        assert!(matches!(put(version).await, Err(WriteError::Stale(_))));
    });
}

#[test]
fn deleting_another_object_of_the_same_name_is_refused() {
    let sim = empty();
    run(&sim, async |writer| {
        let made = writer
            .apply::<Service>("shop", "molt", false, &body(1))
            .await
            .unwrap();
        let uid = made.metadata.uid.unwrap();
        let other = writer.delete::<Service>("shop", "a", "another", None).await;
        assert!(matches!(other, Err(WriteError::Stale(_))), "{other:?}");
        writer.delete::<Service>("shop", "a", &uid, None).await.unwrap();
        writer.delete::<Service>("shop", "a", &uid, None).await.unwrap();
    });
}

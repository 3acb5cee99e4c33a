//! What runs by a schedule: Kubernetes' own CronJob controller makes the runs, and real pods do their work.

use k8s_openapi::api::batch::v1::CronJob;
use kube::Api;
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::Stage;
use molt_e2e::rollout::stable;
use serde_json::{Value, json};

/// A report every minute, which one run of a new revision decides on.
fn report(program: &str) -> Value {
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": "report", "namespace": "e2e-jobs"},
        "spec": {
            "kind": "job",
            "job": {"schedule": "* * * * *", "concurrencyPolicy": "Forbid", "backoffLimit": 0},
            "exposure": {"runs": {"count": 1}},
            "runtime": {"server": "custom"},
            "template": {"spec": {"containers": [{
                "name": "report",
                "image": "molt.local/sample:dev",
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-c", program],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            }]}},
        },
    })
}

/// The program that the next run is.
async fn next_program(stage: &Stage) -> String {
    let crons: Api<CronJob> = Api::namespaced(stage.client.clone(), "e2e-jobs");
    let spec = crons.get("report").await.unwrap().spec.unwrap();
    let pod = spec.job_template.spec.unwrap().template.spec.unwrap();
    pod.containers[0].command.clone().unwrap()[2].clone()
}

#[tokio::test]
async fn a_scheduled_run_that_succeeds_promotes_and_one_that_fails_gives_the_next_ones_back() {
    let stage = Stage::given("e2e-jobs").await;
    let (first, second, bad) = (
        "print('first')",
        "print('second')",
        "raise SystemExit('no rates')",
    );
    stage.apply(report(first)).await;
    let one = stable(&stage.until_phase("report", Phase::Healthy).await);

    stage.apply(report(second)).await;
    let done = stage.until_phase("report", Phase::Healthy).await;
    let two = stable(&done);
    assert_ne!(two, one);
    let record = stage.last_record(&done).await.status.unwrap();
    assert!(
        record.transitions.iter().any(|t| t.reason == "RunSucceeded"),
        "{record:?}"
    );

    stage.apply(report(bad)).await;
    let back = stage.until_phase("report", Phase::RolledBack).await;
    assert_eq!(stable(&back), two);
    let last = back.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, "RunFailed")
    );
    assert!(last.message.contains("no rates"), "{}", last.message);
    // The status says so before the CronJob is written.
    stage
        .until("the next run is stable's", async || {
            next_program(&stage).await == second
        })
        .await;
    stage.end().await;
}

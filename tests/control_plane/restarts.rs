//! New pods for stable, with the API server's own evictions and disruption budgets.

use std::collections::BTreeSet;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use molt::api::v1alpha1::{ActionKind, ActionState, Phase};
use serde_json::json;

use crate::people::{act, given_a_dwell};
use crate::rollouts::{given_stable, until_exposed};
use crate::support::cluster::{Stage, service, until};

/// The pods that serve, by name.
async fn serving(stage: &Stage) -> BTreeSet<String> {
    let pods = stage.pods().list(&ListParams::default()).await.unwrap();
    let serves = |pod: &k8s_openapi::api::core::v1::Pod| {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ready = conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        ready && pod.metadata.deletion_timestamp.is_none()
    };
    pods.items
        .iter()
        .filter(|p| serves(p))
        .map(ResourceExt::name_any)
        .collect()
}

fn budgets(stage: &Stage) -> Api<PodDisruptionBudget> {
    Api::namespaced(stage.client.clone(), &stage.namespace)
}

#[tokio::test]
async fn pods_are_replaced_one_by_one_as_a_disruption_budget_allows() {
    let (stage, revision) = given_stable("restarts").await;
    let before = serving(&stage).await;
    assert_eq!(before.len(), 2);
    let set = format!("shop-{revision}");
    let template = stage.sets().get(&set).await.unwrap().spec.unwrap().template;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "all"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"molt.dev/service": "shop"}}},
    });
    budgets(&stage)
        .create(&PostParams::default(), &serde_json::from_value(budget).unwrap())
        .await
        .unwrap();
    until("the budget is known", async || {
        let budget = budgets(&stage).get("all").await.unwrap();
        budget.status.is_some_and(|s| s.current_healthy == 2)
    })
    .await;
    // Ages are told in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;

    let restart = json!({"revision": revision, "action": "Restart", "reason": "stale certificates"});
    assert_eq!(act(&stage, restart).await, ActionState::Applied);
    stage.until_event("shop", "RestartedByPerson").await;
    // Seconds are not enough to see it on a slow machine.
    until("the refusal is told", async || {
        let message = stage.service("shop").await.status.unwrap().message.unwrap();
        message.contains("by oncall: stale certificates") && message.contains("disruption budget")
    })
    .await;
    let meanwhile = serving(&stage).await;
    assert!(meanwhile.is_superset(&before), "nothing goes against the budget");
    assert_eq!(meanwhile.len(), 3, "one more stands by");

    budgets(&stage)
        .delete("all", &DeleteParams::default())
        .await
        .unwrap();
    let fewest = std::cell::Cell::new(usize::MAX);
    until("the pods are others", async || {
        let now = serving(&stage).await;
        fewest.set(fewest.get().min(now.len()));
        now.is_disjoint(&before)
    })
    .await;
    assert!(fewest.get() >= 2, "only {} served", fewest.get());
    stage.until_event("shop", "RestartDone").await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert!(done.status.unwrap().state.unwrap().restart.is_none());
    until("the one more is gone", async || serving(&stage).await.len() == 2).await;
    let set = stage.sets().get(&set).await.unwrap().spec.unwrap();
    assert_eq!((set.replicas, set.template), (Some(2), template));

    // Of both, and of what had no effect, the objects may be gone before anybody asks: the next attempt's record has them.
    let late = json!({"revision": revision, "action": "Abort"});
    assert_eq!(act(&stage, late).await, ActionState::Expired);
    stage.apply(service("shop", "shop:second")).await.unwrap();
    let second = until_exposed(&stage, 10).await;
    let record = stage.records().get(&format!("shop-{second}-1")).await.unwrap();
    let before = record.status.unwrap().actions_before;
    let told: Vec<_> = before.iter().map(|a| (a.action, a.state)).collect();
    let (applied, expired) = (ActionState::Applied, ActionState::Expired);
    assert_eq!(
        told,
        [(ActionKind::Restart, applied), (ActionKind::Abort, expired)]
    );
    assert_eq!(before[0].reason.as_deref(), Some("stale certificates"));
    assert!(
        before[0].message.contains("no pod of revision"),
        "{}",
        before[0].message
    );
}

#[tokio::test]
async fn stable_is_not_restarted_while_something_is_compared_with_it() {
    let (stage, first, _) = given_a_dwell("norestart").await;
    let before = serving(&stage).await;
    let restart = json!({"revision": first, "action": "Restart"});
    assert_eq!(act(&stage, restart).await, ActionState::Expired);
    let actions = stage.actions().list(&ListParams::default()).await.unwrap().items;
    let message = actions[0].status.clone().unwrap().message.unwrap();
    assert!(
        message.contains("attempt 1") && message.contains("abort it first"),
        "{message}"
    );
    assert!(serving(&stage).await.is_superset(&before));
}

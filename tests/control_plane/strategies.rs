//! Steps beside weights, and blue/green, on a real API server with the Gateway API's own CRD.

use kube::api::PostParams;
use molt::api::v1alpha1::{Phase, RolloutAction};
use molt_core::state::Outcome;
use serde_json::{Value, json};

use crate::rollouts::given_stable;
use crate::support::cluster::{Stage, service, stable, until};

async fn promote(stage: &Stage) {
    let object = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction", "metadata": {"generateName": "shop-"},
        "spec": {"service": "shop", "action": "Promote", "requestedBy": "oncall"},
    });
    let object: RolloutAction = serde_json::from_value(object).unwrap();
    stage
        .actions()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
}

fn with_steps(image: &str, steps: &Value) -> Value {
    let mut service = service("shop", image);
    service["spec"]["strategy"]["canary"]["steps"] = steps.clone();
    service
}

fn blue_green(image: &str) -> Value {
    let mut service = service("shop", image);
    service["spec"]["strategy"] = json!({"blueGreen": {
        "previewReplicas": 1, "bake": "4s", "watch": "0s", "scaleDownDelay": "2s", "abortScaleDownDelay": "2s",
    }});
    service
}

async fn rules(stage: &Stage) -> Vec<Value> {
    let route = stage.routes().get("shop").await.unwrap();
    route.data["spec"]["rules"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Every weight of a revision until a phase is reached.
async fn weights_until(stage: &Stage, phase: Phase, not: &str) -> Vec<i64> {
    let mut seen: Vec<i64> = Vec::new();
    until("it ends", async || {
        let others = stage
            .weights("shop")
            .await
            .into_iter()
            .filter(|(name, _)| !name.ends_with(not));
        let weight = others.map(|(_, weight)| weight).sum();
        if seen.last() != Some(&weight) {
            seen.push(weight);
        }
        let status = stage.service("shop").await.status.unwrap();
        let begun = status.observed_generation == stage.service("shop").await.metadata.generation;
        begun && status.canary.is_none() && status.phase == Some(phase)
    })
    .await;
    seen
}

#[tokio::test]
async fn testers_and_copies_come_first_and_a_person_lets_everybody_follow() {
    let (stage, first) = given_stable("testers").await;
    let steps = json!([
        {"setCanaryScale": {"replicas": 2}},
        {"setHeaderRoute": {"name": "testers", "match": [{"headerName": "X-Canary", "exact": "1"}, {"cookieName": "beta", "exact": "yes"}]}},
        {"setMirror": {"percent": 20}},
        {"pause": {}},
        {"setWeight": 50},
    ]);
    stage.apply(with_steps("shop:second", &steps)).await.unwrap();
    let paused = stage.until_phase("shop", Phase::Paused).await.status.unwrap();
    let canary = paused.canary.unwrap();
    assert_eq!((canary.weight, canary.ready), (0, 2));
    assert!(paused.message.unwrap().contains("kubectl molt promote"));
    let name = format!("shop-{}", canary.revision);
    let [all, copies, testers] = rules(&stage).await.try_into().expect("three rules");
    assert_eq!(all["backendRefs"][0]["name"], format!("shop-{first}"));
    assert_eq!(testers["backendRefs"][0]["name"], name);
    assert_eq!(testers["matches"][0]["headers"][0]["name"], "x-canary");
    assert_eq!(
        testers["matches"][0]["headers"][1]["value"],
        "(.*; *)?beta=yes(;.*)?"
    );
    let mirror = &copies["filters"][0]["requestMirror"];
    assert_eq!(
        (&mirror["backendRef"]["name"], &mirror["percent"]),
        (&json!(name), &json!(20))
    );
    assert_eq!(
        copies["backendRefs"], all["backendRefs"],
        "users are answered as before"
    );

    // Somebody takes the testers' rule away by hand: it comes back.
    let gone = json!([{"op": "remove", "path": "/spec/rules/2"}]);
    let patch: json_patch::Patch = serde_json::from_value(gone).unwrap();
    let patch = kube::api::Patch::<Value>::Json(patch);
    stage
        .routes()
        .patch("shop", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
    until("the rule is back", async || rules(&stage).await.len() == 3).await;

    promote(&stage).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&done), canary.revision);
    assert_eq!(rules(&stage).await.len(), 1);
}

#[tokio::test]
async fn copies_alone_take_a_bad_revision_back_and_no_user_has_met_it() {
    let (stage, first) = given_stable("copies").await;
    let steps = json!([{"setMirror": {"percent": 50}}, {"pause": {}}]);
    stage.apply(with_steps("shop:bad", &steps)).await.unwrap();
    let seen = weights_until(&stage, Phase::RolledBack, &first).await;
    assert_eq!(seen, [0]);
    assert_eq!(rules(&stage).await.len(), 1);
}

#[tokio::test]
async fn blue_green_moves_all_users_at_once_and_a_bad_one_back_at_once() {
    let (stage, first) = given_stable("bluegreen").await;
    stage.apply(blue_green("shop:second")).await.unwrap();
    let seen = weights_until(&stage, Phase::Healthy, &first).await;
    assert!(seen == [0, 100] || seen == [100], "{seen:?}");
    let second = stable(&stage.service("shop").await);
    assert_ne!(second, first);

    stage.apply(blue_green("shop:bad")).await.unwrap();
    let seen = weights_until(&stage, Phase::RolledBack, &second).await;
    assert!(seen == [0, 100, 0] || seen == [0], "{seen:?}");
    let service = stage.service("shop").await;
    assert_eq!(stable(&service), second);
    let last = service.status.unwrap().state.unwrap().last.unwrap();
    assert_eq!((last.outcome, last.max_weight), (Outcome::RolledBack, 100));
}

#[tokio::test]
async fn steps_and_strategies_that_contradict_themselves_are_refused_at_the_door() {
    let (stage, _) = given_stable("contradictions").await;
    for (strategy, message) in [
        (
            json!({"canary": {}, "blueGreen": {}}),
            "set exactly one of canary",
        ),
        (json!({}), "set exactly one of canary"),
        (
            json!({"canary": {"steps": [{"setWeight": 5, "pause": {}}]}}),
            "a step has exactly one of",
        ),
        (
            json!({"canary": {"steps": [{"setCanaryScale": {"replicas": 1, "percent": 5}}]}}),
            "exactly one of replicas",
        ),
        (
            json!({"canary": {"steps": [{"setMirror": {"percent": 101}}]}}),
            "less than or equal to 100",
        ),
        (
            json!({"canary": {"steps": [{"setMirror": {"percent": 1, "methods": ["FETCH"]}}]}}),
            "FETCH",
        ),
        (
            json!({"canary": {"steps": [{"setHeaderRoute": {"name": "a", "match": [{"headerName": "x"}]}}]}}),
            "exactly one of exact",
        ),
        (
            json!({"blueGreen": {"previewTraffic": {"cookieName": "x", "regex": "y"}}}),
            "a cookie is matched by its exact value",
        ),
        (
            json!({"blueGreen": {"previewReplicas": 0}}),
            "greater than or equal to 1",
        ),
    ] {
        let mut object = service("shop", "shop:second");
        object["metadata"]["name"] = json!("other");
        object["spec"]["strategy"] = strategy;
        let refused = stage.apply(object).await.expect_err(message).to_string();
        assert!(refused.contains(message), "{message} is not in: {refused}");
    }
}

fn without_a_router(image: &str) -> Value {
    let mut service = service("shop", image);
    service["spec"]["replicas"] = json!(4);
    service["spec"]["traffic"] = json!({"none": {}});
    service
}

async fn selector(stage: &Stage) -> Option<String> {
    let service = stage.core_services().get("shop").await.unwrap();
    service.spec?.selector?.get("molt.dev/revision").cloned()
}

#[tokio::test]
async fn without_a_router_pods_divide_the_traffic() {
    let stage = crate::support::given("noroute").await;
    stage.apply(without_a_router("shop:good")).await.unwrap();
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_eq!(selector(&stage).await, Some(first.clone()));

    stage.apply(without_a_router("shop:second")).await.unwrap();
    // One pod beside four is what comes nearest to ten per cent, and the status says what it is.
    until("a fifth comes to the canary", async || {
        let canary = stage.service("shop").await.status.and_then(|s| s.canary);
        canary.is_some_and(|canary| canary.weight == 20)
    })
    .await;
    assert_eq!(selector(&stage).await, None, "the Service leads to both");
    let second = stable(&stage.until_phase("shop", Phase::Healthy).await);
    assert_ne!(second, first);
    assert_eq!(selector(&stage).await, Some(second.clone()));

    stage.apply(without_a_router("shop:bad")).await.unwrap();
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), second);
    assert_eq!(selector(&stage).await, Some(second));
    assert!(
        stage
            .routes()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

//! What the API server refuses, in which words.

use serde_json::{Value, json};

use crate::support::cluster::{service, without_operator};

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one table of cases")]
async fn bad_specs_are_refused_with_the_field_and_the_fix() {
    let stage = without_operator("admission").await;
    let with = |pointer: &str, value: Value| {
        let mut object = service("shop", "shop:good");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    };
    let steps = |steps: Value| with("/spec/strategy/canary/steps", steps);
    let cases = [
        (with("/spec/relpicas", json!(3)), ".spec.relpicas"),
        (
            with("/spec/slos/0/sli/preset", json!("flask")),
            "spec.slos[0].sli.preset",
        ),
        (
            steps(json!([{"setWeight": 50}, {"setWeight": 10}])),
            "weights must not fall",
        ),
        (
            with("/spec/maxSurge", json!(0)),
            "maxSurge is a number of pods of at least 1",
        ),
        (
            with("/spec/maxSurge", json!("0%")),
            "maxSurge is a number of pods of at least 1",
        ),
        (
            with("/spec/maxSurge", json!("1")),
            "maxSurge is a number of pods of at least 1",
        ),
        (with("/spec/minReadySeconds", json!(-1)), "spec.minReadySeconds"),
        (
            steps(json!([{"setWeight": 101}])),
            "spec.strategy.canary.steps[0].setWeight",
        ),
        (
            steps(json!([{"setWeight": 10, "pause": {"duration": "1s"}}])),
            "a step has exactly one of setWeight, pause, setCanaryScale",
        ),
        (
            with("/spec/traffic/gatewayAPI", json!({})),
            "exactly one of parentRefs",
        ),
        (
            with(
                "/spec/traffic",
                json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}, "inCluster": "Mesh"}),
            ),
            "inCluster: Mesh needs a route that Molt owns",
        ),
        (
            with(
                "/spec/traffic",
                json!({"istio": {"hosts": ["a"]}, "inCluster": "Mesh"}),
            ),
            "with istio name the host",
        ),
        (
            with("/spec/traffic", json!({"none": {}, "inCluster": "Stable"})),
            "leave inCluster out, or write ReplicaShare",
        ),
        (
            with("/spec/traffic/inCluster", json!("Everybody")),
            "spec.traffic.inCluster",
        ),
        (
            with(
                "/spec/traffic/gatewayAPI",
                json!({"httpRouteRef": {"name": "front"}, "sessionAffinity": {"cookieName": "a"}}),
            ),
            "sessionAffinity belongs to a route that Molt owns",
        ),
        (
            with(
                "/spec/traffic/gatewayAPI/sessionAffinity",
                json!({"cookieName": "a b"}),
            ),
            "sessionAffinity.cookieName",
        ),
        (
            with("/spec/traffic/gatewayAPI/parentRefs/0/group", json!("")),
            "the group of a Service is",
        ),
        (
            with("/spec/slos/0/sli", json!({"preset": "otel", "type": "latency"})),
            "threshold belongs to type latency",
        ),
        (
            with("/spec/progressDeadline", json!("ten minutes")),
            "spec.progressDeadline",
        ),
        (with("/spec/port", json!(0)), "spec.port"),
        (service(&"x".repeat(47), "shop:good"), "at most 46 characters"),
    ];
    for (object, expected) in cases {
        let refused = stage
            .apply(object.clone())
            .await
            .expect_err(&format!("{expected}: {object}"))
            .to_string();
        assert!(
            refused.contains(expected),
            "{refused:?} does not say {expected:?}"
        );
    }
    stage
        .apply(service(&"x".repeat(46), "shop:good"))
        .await
        .expect("46 characters fit");
}

#[tokio::test]
async fn the_scale_subresource_works() {
    let stage = without_operator("subresource").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let scale = stage.services().get_scale("shop").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
}

#[tokio::test]
async fn what_is_imported_is_taken_by_the_api_server() {
    let stage = without_operator("imported").await;
    for (name, text) in [
        ("argo", include_str!("../../src/plugin/import/fixtures/argo.yaml")),
        (
            "flagger",
            include_str!("../../src/plugin/import/fixtures/flagger.yaml"),
        ),
        (
            "argo-istio",
            include_str!("../../src/plugin/import/fixtures/argo-istio.yaml"),
        ),
        (
            "flagger-istio",
            include_str!("../../src/plugin/import/fixtures/flagger-istio.yaml"),
        ),
        (
            "deployment",
            include_str!("../../src/plugin/import/fixtures/deployment.yaml"),
        ),
    ] {
        let made = molt::plugin::import::convert(&[(name.to_owned(), text.to_owned())]).unwrap();
        assert!(!made.services.is_empty());
        for (index, service) in made.services.into_iter().enumerate() {
            let mut object = service.object;
            object["metadata"]["name"] = json!(format!("{name}-{index}"));
            object["metadata"]["namespace"] = json!("imported");
            stage
                .apply(object)
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

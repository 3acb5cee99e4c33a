use super::*;
use crate::catalogue::EXEMPLARY;
use serde_json::json;

fn engine() -> Engine {
    Engine::new(Catalogue::all()).unwrap()
}

fn exemplary() -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(EXEMPLARY).unwrap();
    documents.into_iter().next().unwrap()
}

/// The sample after a JSON patch.
fn changed(patch: &Value) -> Value {
    let mut object = exemplary();
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
    json_patch::patch(&mut object, &patch).unwrap_or_else(|error| panic!("{patch:?}: {error}"));
    object
}

const RELATED: Facts = Facts {
    related: Some(Related {
        disruption_budgets: 1,
        network_policies: 1,
    }),
    autoscaled: false,
    monitored: false,
};

#[test]
fn nothing_is_said_against_the_exemplary_sample() {
    let engine = engine();
    let review = engine.review(&exemplary(), RELATED);
    assert_eq!(review.findings, []);
    assert_eq!((review.score, review.grade), (100, Grade::A));
    assert_eq!(review.failed(), [""; 0]);
}

#[test]
fn every_rule_tells_its_examples_apart() {
    let engine = engine();
    let object = exemplary();
    let asked = Asked::new(&engine, &object, RELATED);
    for (rule, program) in &engine.rules {
        assert!(
            asked.failing(rule, program).is_some(),
            "{} can't be asked",
            rule.id
        );
        assert!(
            !rule.fails.is_empty() || rule.needs.is_some(),
            "{} has no example",
            rule.id
        );
        let fails = |patch: &Value| {
            let object = changed(patch);
            let asked = Asked::new(&engine, &object, RELATED);
            let failing = asked.failing(rule, program);
            failing.unwrap_or_else(|| panic!("{}: trips over {patch}", rule.id))
        };
        for patch in &rule.fails {
            assert!(!fails(patch).is_empty(), "{}: lets {patch} through", rule.id);
        }
        for patch in &rule.passes {
            assert!(fails(patch).is_empty(), "{}: stops {patch}", rule.id);
        }
    }
}

#[test]
fn no_example_trips_another_rule() {
    let engine = engine();
    for patch in Catalogue::all().rules.iter().flat_map(|rule| &rule.fails) {
        let object = changed(patch);
        let asked = Asked::new(&engine, &object, RELATED);
        for (rule, program) in &engine.rules {
            assert!(
                asked.failing(rule, program).is_some(),
                "{} trips over {patch}",
                rule.id
            );
        }
    }
}

#[test]
fn what_needs_other_objects_is_asked_only_with_them() {
    let engine = engine();
    let failed = |facts| {
        let object = exemplary();
        let review = engine.review(&object, facts);
        let failed = review.failed();
        let failed: Vec<String> = failed.into_iter().map(str::to_owned).collect();
        (failed, review.score)
    };
    assert_eq!(failed(Facts::default()), (vec![], 100));
    let none = Facts {
        related: Some(Related::default()),
        ..Facts::default()
    };
    let both = ["disruption-budget", "network-policy"].map(str::to_owned);
    assert_eq!(failed(none), (both.to_vec(), 100), "they have no points");
}

#[test]
fn an_autoscaler_and_a_monitor_count() {
    let engine = engine();
    let patch = json!([{"op": "remove", "path": "/spec/replicas"}, {"op": "remove", "path": "/spec/template/metadata"}]);
    let object = changed(&patch);
    let failed = |autoscaled, monitored| {
        let facts = Facts {
            autoscaled,
            monitored,
            ..Facts::default()
        };
        engine.review(&object, facts).failed().len()
    };
    assert_eq!(
        (failed(false, false), failed(true, false), failed(true, true)),
        (2, 1, 0)
    );
}

#[test]
fn the_field_names_the_container_and_the_variable() {
    let engine = engine();
    let secret = json!([
        {"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "API_KEY", "value": "x"}},
        {"op": "add", "path": "/spec/template/spec/initContainers", "value": [{"name": "a", "image": "b"}]},
    ]);
    let object = changed(&secret);
    let review = engine.review(&object, Facts::default());
    let fields: Vec<(&str, &str)> = review
        .findings
        .iter()
        .map(|finding| (finding.rule.id.as_str(), finding.field.as_str()))
        .collect();
    assert!(fields.contains(&(
        "no-literal-secrets",
        "spec.template.spec.containers[0].env[3].value"
    )));
    assert!(fields.contains(&("image-names-one", "spec.template.spec.initContainers[0].image")));
    assert_eq!(
        review.failed()[0],
        "no-literal-secrets",
        "what matters most is first"
    );
    assert!(review.grade >= Grade::D);
}

#[test]
fn what_is_ignored_counts_for_nothing_and_is_told() {
    let engine = engine();
    let mut object = changed(&json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]));
    assert!(engine.review(&object, Facts::default()).score < 100);
    object["metadata"]["annotations"] = json!({"molt.dev/lint-ignore": " replicas ,nonsense,"});
    let review = engine.review(&object, Facts::default());
    assert_eq!((review.score, review.findings.len()), (100, 0));
    assert_eq!(review.ignored[0].rule.id, "replicas");
    assert_eq!(review.unknown, ["nonsense"]);
}

#[test]
fn a_service_without_a_template_is_judged_by_what_it_says_itself() {
    let engine = engine();
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"});
    let object = changed(&json!([
        {"op": "remove", "path": "/spec/template"},
        {"op": "add", "path": "/spec/workloadRef", "value": workload},
    ]));
    let review = engine.review(&object, Facts::default());
    assert_eq!((review.failed(), review.score), (vec![], 100));
}

#[test]
fn whatever_is_there_no_review_panics() {
    let engine = engine();
    for object in [
        json!(null),
        json!({"spec": 3}),
        json!({"spec": {"slos": 1, "template": {"spec": {"containers": [null, 3, {"env": [null]}]}}}}),
        json!({"metadata": {"annotations": 3}, "spec": {"template": {"spec": {"containers": {}}}}}),
    ] {
        let review = engine.review(&object, RELATED);
        assert!(review.score <= 100);
    }
}

#[test]
fn a_grade_follows_the_score_but_for_an_error() {
    let grades = [100, 90, 89, 79, 69, 59].map(|score| grade(score, false));
    assert_eq!(
        grades,
        [Grade::A, Grade::A, Grade::B, Grade::C, Grade::D, Grade::F]
    );
    assert_eq!((grade(99, true), grade(10, true)), (Grade::D, Grade::F));
}

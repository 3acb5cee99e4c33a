//! What is read of a Deployment.

use super::*;

fn deployment(change: impl FnOnce(&mut Value)) -> Deployment {
    let mut value = json!({
        "metadata": {
            "name": "shop", "namespace": "prod", "uid": "d-1", "resourceVersion": "7", "generation": 3,
            "managedFields": [
                {"manager": "argocd-controller", "operation": "Apply", "time": "2026-01-01T00:00:01Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "molt", "operation": "Update", "time": "2026-01-01T00:00:02Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "time": "2026-01-01T00:00:03Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:replicas": {}}}},
            ],
        },
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "shop:1"}]}},
        },
        "status": {"observedGeneration": 3, "replicas": 4, "readyReplicas": 4, "updatedReplicas": 4},
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn facts(change: impl FnOnce(&mut Value)) -> DeploymentFacts {
    DeploymentFacts::read(&deployment(change)).unwrap().1
}

#[test]
fn a_deployment_is_settled_when_all_of_its_pods_are_of_its_template_and_ready() {
    assert!(facts(|_| ()).settled);
    for (field, value) in [
        ("observedGeneration", 2),
        ("replicas", 5),
        ("readyReplicas", 3),
        ("updatedReplicas", 1),
    ] {
        assert!(!facts(|d| d["status"][field] = json!(value)).settled, "{field}");
    }
}

#[test]
fn who_wrote_the_number_of_pods_is_told_with_the_setting_that_it_knows() {
    let by = facts(|_| ()).written_by;
    assert_eq!(by.as_deref(), Some("argocd-controller"));
    let text = advice(by.as_deref(), "shop");
    assert!(
        text.contains("jsonPointers: [/spec/replicas, /spec/paused]") && text.contains("name: shop"),
        "{text}"
    );
    assert!(advice(Some("helm-controller"), "shop").contains("driftDetection.ignore"));
    assert!(advice(Some("kubectl"), "shop").contains("out of the manifest"));
}

#[test]
fn its_own_surge_counts() {
    for (written, replicas, pods) in [
        (json!("25%"), 4, 1),
        (json!("25%"), 10, 3),
        (json!(2), 10, 2),
        (json!("0%"), 9, 0),
    ] {
        let change = |d: &mut Value| d["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": written}});
        assert_eq!(surge(&facts(change).surge, replicas), pods);
    }
    assert_eq!(surge(&facts(|_| ()).surge, 8), 2, "Kubernetes' own default");
}

#[test]
fn a_selector_that_no_service_can_have_is_none() {
    assert!(facts(|_| ()).selector.is_some());
    let expressions = json!([{"key": "app", "operator": "Exists"}]);
    let change = |d: &mut Value| d["spec"]["selector"]["matchExpressions"] = expressions;
    assert!(facts(change).selector.is_none());
}

#[test]
fn a_deployment_that_was_parked_at_zero_stays_there_until_the_spec_says_a_number() {
    let adoption = |replicas: u32, stage: &str| -> Adoption {
        serde_json::from_value(json!({
            "workload": "shop", "uid": "d-1", "replicas": replicas, "stage": stage,
            "movedAt": "2026-01-01T00:00:00Z", "seenReplicas": 0,
        }))
        .unwrap()
    };
    for (former, stage, stable_wanted, expected) in [
        (0, "Taking", 0, Some(0)),
        (0, "Taken", 0, Some(0)),
        // It was told a number later, and then nothing any more.
        (0, "Taken", 3, None),
        (4, "Taking", 1, Some(4)),
        (4, "Taken", 4, None),
        (4, "Taken", 0, Some(4)),
        (4, "Returning", 2, Some(4)),
    ] {
        let unsaid = unsaid(&adoption(former, stage), stable_wanted);
        assert_eq!(unsaid, expected, "{former} {stage} {stable_wanted}");
    }
}

#[test]
fn nothing_is_known_of_autoscalers_before_the_first_list_has_come() {
    use kube::runtime::watcher::Event;
    let index = Index::<AutoscalerFacts>::default();
    index.take_in(&Event::Init);
    assert!(unread(&index).unwrap().contains("under way"));
    index.take_in(&Event::InitDone);
    assert_eq!(unread(&index), None);
    let unknown = Index::<AutoscalerFacts>::default();
    unknown.set_missing();
    assert_eq!(unread(&unknown), None, "an API server without the kind has none");
}

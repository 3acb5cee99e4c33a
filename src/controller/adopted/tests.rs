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

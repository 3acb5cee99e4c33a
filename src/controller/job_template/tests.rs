use super::*;
use crate::controller::object::tests::changed;
use crate::controller::render::Owner;
use molt_core::plan::Revision;

fn key(run: u32) -> JobKey {
    JobKey {
        revision: Revision::from("694e87771d"),
        attempt: 2,
        condition: "smoke".into(),
        digest: "0123456789".into(),
        run,
    }
}

/// The Job of a condition of a service whose template has this pod.
fn rendered(service: &Value, check: &Value) -> Value {
    let object = changed(|o| o["spec"]["template"]["spec"] = service.clone());
    let owner = Owner::of(&object);
    let template: PodTemplateSpec = serde_json::from_value(check.clone()).unwrap();
    render(
        &owner,
        &key(1),
        &template,
        &object.spec.unwrap(),
        SignedDuration::from_secs(660),
    )
}

#[test]
fn names_differ_by_run_and_fit_and_are_never_those_of_pods() {
    let long = "s".repeat(crate::controller::validate::MAX_NAME);
    let first = name(&long, "u", &key(1));
    assert_eq!(first.len(), 63);
    assert_ne!(first, name(&long, "u", &key(2)));
    assert_ne!(
        first,
        name(&long, "v", &key(1)),
        "of another object of the same name"
    );
    assert_eq!(first, name(&long, "u", &key(1)));
    let other = JobKey {
        digest: "x".into(),
        ..key(1)
    };
    assert_ne!(first, name(&long, "u", &other));
    // The pods of a service `shop-job` are `shop-job-<ten hex digits>-…`.
    assert!(name("shop", "u", &key(1)).starts_with("shop-job-x"));
}

#[test]
fn its_pods_are_none_of_the_services_own() {
    let job = rendered(
        &json!({"containers": [{"name": "app", "image": "checkout:2"}]}),
        &json!({"metadata": {"labels": {"team": "a"}}, "spec": {"containers": [{"name": "smoke"}]}}),
    );
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let expected = json!({"team": "a", "molt.dev/job-of": "checkout", "molt.dev/condition": "smoke"});
    assert_eq!(*labels, expected);
    assert_eq!(job["metadata"]["labels"]["molt.dev/service"], "checkout");
    assert_eq!(job["metadata"]["labels"]["molt.dev/attempt"], "2");
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "u-1");
}

#[test]
fn it_is_tried_once_for_a_bounded_time_and_what_is_left_out_is_as_in_the_service() {
    let service = json!({
        "containers": [{
            "name": "app",
            "image": "checkout:2",
            "securityContext": {"allowPrivilegeEscalation": false},
        }],
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"runAsNonRoot": true},
    });
    let job = rendered(
        &service,
        &json!({"spec": {"containers": [{
            "name": "smoke",
            "args": ["--url=http://$(MOLT_ADDRESS)/"],
            "env": [{"name": "URL", "value": "http://$(MOLT_ADDRESS)"}],
        }]}}),
    );
    let spec = &job["spec"];
    assert_eq!(spec["backoffLimit"], 0);
    assert_eq!(spec["activeDeadlineSeconds"], 660);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["imagePullSecrets"], service["imagePullSecrets"]);
    assert_eq!(pod["securityContext"], service["securityContext"]);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "checkout:2");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    let env: Vec<&str> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["name"].as_str())
        .collect();
    assert_eq!(env.last(), Some(&"URL"), "after what it refers to");
    assert_eq!(container["env"][0]["value"], "checkout-694e87771d.shop.svc:8000");
}

#[test]
fn what_the_user_wrote_stays() {
    let pod = json!({
        "containers": [{
            "name": "smoke",
            "image": "other:1",
            "securityContext": {"runAsUser": 7},
        }],
        "serviceAccountName": "checker",
        "imagePullSecrets": [],
        "securityContext": {},
    });
    let job = rendered(
        &json!({
            "containers": [{"name": "app", "image": "checkout:2", "securityContext": {"runAsUser": 1}}],
            "securityContext": {"runAsNonRoot": true},
        }),
        &json!({"spec": pod}),
    );
    let made = &job["spec"]["template"]["spec"];
    assert_eq!(made["containers"][0]["image"], "other:1");
    assert_eq!(made["containers"][0]["securityContext"]["runAsUser"], 7);
    assert_eq!(made["securityContext"], json!({}));
    assert_eq!(made["imagePullSecrets"], json!([]));
    assert!(made.get("automountServiceAccountToken").is_none());
}

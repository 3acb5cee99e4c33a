//! Who may ask for what, and who writes a record: the chart's admission policies, on a real API server.

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt};
use molt::api::v1alpha1::{RolloutAction, RolloutRecord};
use serde_json::{Value, json};

use crate::support::cluster::{Stage, as_user, service, until, without_operator};

/// The policy and its binding as `deploy/molt.yaml` has them, for this namespace alone: other scenarios ask for actions
/// in names of their own choice.
async fn install(stage: &Stage) {
    let rendered = include_str!("../../deploy/molt.yaml");
    for text in rendered
        .split("\n---\n")
        .filter(|text| text.contains("kind: ValidatingAdmissionPolicy"))
    {
        let mut object: Value = serde_saphyr::from_str(text).expect("the chart renders YAML");
        let kind = object["kind"].as_str().unwrap().to_owned();
        // Policies are the cluster's: each scenario has its own.
        let own = |name: &Value| format!("{}-{}", name.as_str().unwrap(), stage.namespace);
        let name = own(&object["metadata"]["name"]);
        object["metadata"]["name"] = json!(name);
        if kind == "ValidatingAdmissionPolicyBinding" {
            object["spec"]["policyName"] = json!(own(&object["spec"]["policyName"]));
            object["spec"]["matchResources"] = json!({"namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": stage.namespace},
            }});
        }
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", &kind);
        let api: Api<DynamicObject> = Api::all_with(stage.client.clone(), &ApiResource::from_gvk(&gvk));
        api.patch(&name, &PatchParams::apply("tests"), &Patch::Apply(&object))
            .await
            .expect("the API server takes the policy: its expressions are checked");
    }
}

/// A user who may create actions, and has these verbs on the service `shop`.
async fn allow(stage: &Stage, user: &str, verbs: &[&str]) {
    let namespace = &stage.namespace;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": user, "namespace": namespace},
        "rules": [
            {"apiGroups": ["molt.dev"], "resources": ["rolloutactions"], "verbs": ["create"]},
            {"apiGroups": ["molt.dev"], "resources": ["pythonservices"], "verbs": verbs, "resourceNames": ["shop"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": user, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    for object in [role, binding] {
        put(stage, user, &object).await;
    }
}

/// Writes a role or its binding.
async fn put(stage: &Stage, name: &str, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
    let api: Api<DynamicObject> = Api::namespaced_with(
        stage.client.clone(),
        &stage.namespace,
        &ApiResource::from_gvk(&gvk),
    );
    api.patch(name, &PatchParams::apply("tests"), &Patch::Apply(object))
        .await
        .expect("roles are taken");
}

async fn ask(
    client: &Client,
    namespace: &str,
    service: &str,
    action: &str,
    by: &str,
) -> Result<String, String> {
    let actions: Api<RolloutAction> = Api::namespaced(client.clone(), namespace);
    let object = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
        "metadata": {"generateName": "shop-"},
        "spec": {"service": service, "action": action, "requestedBy": by},
    });
    let object = serde_json::from_value(object).unwrap();
    match actions.create(&PostParams::default(), &object).await {
        Ok(made) => Ok(made.name_any()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn an_action_is_asked_for_in_ones_own_name_by_whoever_may() {
    let stage = without_operator("policy").await;
    install(&stage).await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    allow(&stage, "ada", &["abort", "promote"]).await;
    let ada = as_user("ada").await;
    let namespace = stage.namespace.clone();
    let namespace = namespace.as_str();

    // A policy and a role are in force a moment after they were written.
    until("the policy refuses a borrowed name", async || {
        let refused = ask(&ada, namespace, "shop", "Abort", "bob").await;
        refused.is_err_and(|why| why.contains("in one's own name; write ada"))
    })
    .await;
    for action in ["Abort", "Promote", "PromoteFull"] {
        ask(&ada, namespace, "shop", action, "ada")
            .await
            .unwrap_or_else(|why| panic!("{action}: {why}"));
    }
    for (service, action, verb) in [
        ("shop", "Override", "override"),
        ("shop", "Pause", "pause"),
        ("other", "Abort", "abort"),
    ] {
        let refused = ask(&ada, namespace, service, action, "ada").await.unwrap_err();
        let wanted = format!("ada may not {verb} the PythonService {service}");
        assert!(refused.contains(&wanted), "{refused}");
    }
}

#[tokio::test]
async fn a_record_is_written_by_the_operator_alone() {
    let stage = without_operator("recordpolicy").await;
    let record = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutRecord", "metadata": {"name": "shop-0123456789-1"},
        "spec": {"service": "shop", "revision": "0123456789", "attempt": 1, "startedAt": "2026-03-01T02:00:00Z"},
    });
    let record = serde_json::from_value(record).unwrap();
    stage
        .records()
        .create(&PostParams::default(), &record)
        .await
        .unwrap();
    let write = async |client: &Client, requests: i64| {
        let slo = json!({
            "name": "availability", "canary": {"total": requests, "bad": 0}, "stable": {"total": 1, "bad": 0},
            "spentByRollout": "0.00%", "evidence": {"harm": "1", "safe": "1"},
        });
        let status = json!({"status": {
            "maxWeight": 5, "slos": [slo], "transitions": [], "verdicts": [],
            "gates": [{"name": "migrations", "outcome": "Passed"}],
        }});
        let records: Api<RolloutRecord> = Api::namespaced(client.clone(), &stage.namespace);
        let written = records
            .patch_status(
                "shop-0123456789-1",
                &PatchParams::default(),
                &Patch::Merge(status),
            )
            .await;
        written.map(drop).map_err(|error| error.to_string())
    };
    // The tests are the cluster's admin: before the policy they may.
    write(&stage.client, 100).await.unwrap();
    install(&stage).await;
    until("the policy refuses the admin", async || {
        let refused = write(&stage.client, 200).await;
        refused.is_err_and(|why| why.contains("written by Molt's operator alone"))
    })
    .await;
    let operator = as_user("system:serviceaccount:molt-system:molt").await;
    grant_records(&stage).await;
    until("the operator may", async || write(&operator, 300).await.is_ok()).await;
    // Retention and people delete as before.
    stage
        .records()
        .delete("shop-0123456789-1", &DeleteParams::default())
        .await
        .unwrap();
}

/// The operator's rights on records, for the name that it has in `deploy/molt.yaml`.
async fn grant_records(stage: &Stage) {
    let rendered = include_str!("../../deploy/molt.yaml");
    assert!(rendered.contains("system:serviceaccount:molt-system:molt'"));
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "operator", "namespace": stage.namespace},
        "rules": [{"apiGroups": ["molt.dev"], "resources": ["rolloutrecords/status"], "verbs": ["patch", "update"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "operator", "namespace": stage.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "molt", "namespace": "molt-system"}],
    });
    for object in [role, binding] {
        put(stage, "operator", &object).await;
    }
}

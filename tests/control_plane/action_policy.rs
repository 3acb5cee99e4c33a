//! Who may ask for what: the chart's admission policy, on a real API server.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Client, ResourceExt};
use molt::api::v1alpha1::RolloutAction;
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
        if kind == "ValidatingAdmissionPolicyBinding" {
            object["spec"]["matchResources"] = json!({"namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": stage.namespace},
            }});
        }
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", &kind);
        let api: Api<DynamicObject> = Api::all_with(stage.client.clone(), &ApiResource::from_gvk(&gvk));
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
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
        let kind = object["kind"].as_str().unwrap();
        let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
        let api: Api<DynamicObject> =
            Api::namespaced_with(stage.client.clone(), namespace, &ApiResource::from_gvk(&gvk));
        api.patch(user, &PatchParams::apply("tests"), &Patch::Apply(&object))
            .await
            .expect("roles are taken");
    }
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

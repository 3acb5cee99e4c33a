//! The PrometheusRule of objectives that ask for one, in clusters that know the kind and in one that learns it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use molt::controller::rules::PrometheusRule;
use serde_json::{Value, json};

use crate::support::cluster::{service, until};
use crate::support::{Stage, given};

const CRD: &str = "prometheusrules.monitoring.coreos.com";

/// As much of the Prometheus Operator's CRD as a server needs to store the kind.
fn crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "PrometheusRule", "plural": "prometheusrules", "singular": "prometheusrule"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"groups": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "interval": {"type": "string"},
                        "rules": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
                    }}
                }}}}
            }}}]
        }
    })
}

fn asking(rules: bool) -> Value {
    let mut object = service("shop", "shop:good");
    object["spec"]["slos"][0]["rules"] = json!(rules);
    object
}

async fn rule(stage: &Stage) -> Option<PrometheusRule> {
    let api = Api::<PrometheusRule>::namespaced(stage.client.clone(), &stage.namespace);
    // A kind that the server does not know has no objects either.
    api.get_opt("shop-slos").await.ok().flatten()
}

// One scenario, for the kind is of the whole cluster.
#[tokio::test]
async fn rules_follow_the_objectives_once_the_cluster_knows_the_kind() {
    let stage = given("rules").await;
    stage.apply(asking(true)).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    let message = stage
        .until_condition("shop", "RulesApplied", "False", "PrometheusRuleMissing")
        .await;
    assert!(
        message.contains("install the Prometheus Operator's CRDs"),
        "{message}"
    );
    stage.until_event("shop", "PrometheusRuleMissing").await;

    let crds = Api::<CustomResourceDefinition>::all(stage.client.clone());
    crds.patch(CRD, &PatchParams::apply("tests").force(), &Patch::Apply(crd()))
        .await
        .expect("the CRD is valid");
    stage
        .until_condition("shop", "RulesApplied", "True", "Applied")
        .await;
    let made = rule(&stage).await.expect("it is there");
    let owner = &made.metadata.owner_references.as_ref().expect("it has an owner")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("PythonService", "shop")
    );
    assert_eq!(made.metadata.labels.as_ref().unwrap()["release"], "prometheus");
    let groups = made.spec["groups"].as_array().unwrap();
    assert_eq!(groups[0]["name"], "molt/rules/shop/availability");

    // A restart finds everything as it should be and writes nothing.
    let mut stage = stage;
    let steady = stage.service("shop").await.metadata.resource_version;
    stage.stop_operator().await;
    stage.start_operator();
    let mut longer = asking(true);
    longer["spec"]["revisionHistoryLimit"] = json!(3);
    stage.apply(longer.clone()).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(
        stage.service("shop").await.metadata.resource_version,
        steady,
        "it was reconciled"
    );
    let version = rule(&stage).await.unwrap().metadata.resource_version;
    assert_eq!(version, made.metadata.resource_version, "nothing was written");

    // What somebody else changes is put right; an objective's change is followed.
    let api = Api::<PrometheusRule>::namespaced(stage.client.clone(), &stage.namespace);
    let vandal = json!([{"op": "replace", "path": "/spec/groups/0/rules", "value": []}]);
    let vandal: Patch<()> = Patch::Json(serde_json::from_value(vandal).unwrap());
    api.patch("shop-slos", &PatchParams::default(), &vandal)
        .await
        .unwrap();
    let rules = async || rule(&stage).await.map(|r| r.spec["groups"][0]["rules"].clone());
    until("the rules are back", async || {
        rules().await == Some(made.spec["groups"][0]["rules"].clone())
    })
    .await;
    longer["spec"]["slos"][0]["objective"] = json!("98");
    stage.apply(longer.clone()).await.unwrap();
    until("the rules are of 98 %", async || {
        rules().await.is_some_and(|r| r[0]["expr"] == "vector(0.98)")
    })
    .await;

    longer["spec"]["slos"][0]["rules"] = json!(false);
    stage.apply(longer).await.unwrap();
    until("the rules are gone", async || rule(&stage).await.is_none()).await;

    // Without the kind again, nothing else suffers.
    crds.delete(CRD, &DeleteParams::default())
        .await
        .expect("it is deleted");
    let mut next = asking(true);
    next["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:second");
    stage.apply(next).await.unwrap();
    stage
        .until_condition("shop", "RulesApplied", "False", "PrometheusRuleMissing")
        .await;
    stage.until_phase("shop", Phase::Healthy).await;
}

//! The rules of readiness on a real API server: the policy that is made of them, and what the operator says by them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::client::Body;
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use molt::api::v1alpha1::Phase;
use molt::readiness::{catalogue, engine};
use molt_readiness::policy::{Action, Options, policy};
use molt_readiness::{Facts, Severity};
use serde_json::{Value, json};

use crate::support::cluster::{Stage, given, service, until, without_operator};

fn options(stage: &Stage, action: Action, severity: Severity) -> Options {
    Options {
        name: format!("readiness-{}-{action:?}", stage.namespace).to_lowercase(),
        severity,
        action,
        // Other scenarios have services that nobody would put into production.
        namespaces: BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), stage.namespace.clone())]),
        heed_ignore: true,
    }
}

fn of_policies(stage: &Stage, kind: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(stage.client.clone(), &ApiResource::from_gvk(&gvk))
}

async fn install(stage: &Stage, options: &Options) {
    for object in policy(catalogue(), options) {
        of_policies(stage, object["kind"].as_str().unwrap())
            .patch(
                &options.name,
                &PatchParams::apply("tests"),
                &Patch::Apply(&object),
            )
            .await
            .expect("the API server takes the policy: its expressions are checked");
    }
}

/// The sample that every rule holds for, after a JSON patch.
fn example(name: &str, patch: &Value) -> Value {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(molt_readiness::catalogue::EXEMPLARY).expect("the sample is YAML");
    let mut object = documents.into_iter().next().unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
    json_patch::patch(&mut object, &patch).unwrap();
    object["metadata"]["name"] = json!(name);
    object
}

/// What the API server answers to an object that is not kept: its status, body and warnings.
async fn try_out(stage: &Stage, object: &Value) -> (u16, String, Vec<String>) {
    let path = format!(
        "/apis/molt.dev/v1alpha1/namespaces/{}/pythonservices?dryRun=All&fieldValidation=Strict",
        stage.namespace
    );
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(Body::from(serde_json::to_vec(object).unwrap()))
        .unwrap();
    let answer = stage.client.send(request).await.expect("it answers");
    let warnings = answer.headers().get_all("warning").iter();
    let warnings = warnings
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await.expect("it has a body");
    (status, String::from_utf8_lossy(&body).into_owned(), warnings)
}

/// The rules that warnings name.
fn named(warnings: &[String]) -> BTreeSet<String> {
    warnings
        .iter()
        .filter_map(|warning| {
            let (_, said) = warning.split_once("denied request: ").or_else(|| {
                // `Validation failed for ValidatingAdmissionPolicy 'x' with binding 'y': id: …`.
                warning.split_once("': ")
            })?;
            Some(said.split(':').next().unwrap_or_default().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn the_api_server_and_lint_agree_on_every_example_of_every_rule() {
    let stage = without_operator("readiness-policy").await;
    let warn = options(&stage, Action::Warn, Severity::Info);
    install(&stage, &warn).await;
    let bad = example(
        "probe",
        &json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]),
    );
    until("the policy is in force", async || {
        !try_out(&stage, &bad).await.2.is_empty()
    })
    .await;

    let known = |rule: &&molt_readiness::Rule| rule.needs.is_none();
    let mut asked = 0;
    let mut wrong = Vec::new();
    for rule in catalogue().rules.iter().filter(known) {
        let base = json!([]);
        let examples = std::iter::once(&base).chain(&rule.passes).chain(&rule.fails);
        for patch in examples {
            let object = example(&rule.id, patch);
            let (status, body, warnings) = try_out(&stage, &object).await;
            assert_eq!(status, 201, "{}: {patch}: {body}", rule.id);
            let review = engine().review(&object, Facts::default());
            let here: BTreeSet<String> = review.failed().into_iter().map(str::to_owned).collect();
            let there = named(&warnings);
            if here != there {
                wrong.push(format!(
                    "{}: {patch}: here {here:?}, there {there:?}: {warnings:?}",
                    rule.id
                ));
            }
            assert_eq!(
                here.contains(&rule.id),
                rule.fails.contains(patch),
                "{}: {patch}",
                rule.id
            );
            asked += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {asked}: {wrong:#?}", wrong.len());

    // What the API server says of the expressions, knowing the schema.
    let mut checked = Value::Null;
    until("the expressions are type-checked", async || {
        let policy = of_policies(&stage, "ValidatingAdmissionPolicy")
            .get(&warn.name)
            .await
            .unwrap();
        checked = policy.data["status"].clone();
        checked["observedGeneration"].is_number()
    })
    .await;
    assert_eq!(
        checked["typeChecking"]["expressionWarnings"],
        Value::Null,
        "{checked:#}"
    );
}

#[tokio::test]
async fn a_policy_that_denies_refuses_a_new_mistake_and_leaves_what_is_there_alone() {
    let stage = given("readiness-deny").await;
    let bad = |image: &str| {
        let mut object = service("shop", image);
        object["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
        object
    };
    stage.apply(bad("shop:good")).await.unwrap();
    stage.until_phase("shop", Phase::Healthy).await;
    install(&stage, &options(&stage, Action::Deny, Severity::Error)).await;
    until("the policy is in force", async || {
        try_out(&stage, &bad("shop:good")).await.0 == 422
    })
    .await;

    let why = stage.apply(bad("shop:better")).await.unwrap_err().to_string();
    assert!(
        why.contains("host-namespaces: the pod shares the node's network"),
        "{why}"
    );
    let mut excepted = bad("shop:better");
    excepted["metadata"]["annotations"] = json!({"molt.dev/lint-ignore": "replicas, host-namespaces"});
    let (status, body, _) = try_out(&stage, &{
        excepted["metadata"]["name"] = json!("excepted");
        excepted.clone()
    })
    .await;
    assert_eq!(status, 201, "an annotation counts with --heed-ignore: {body}");

    // Metadata may change, and the operator may take its finalizer off.
    let mut labelled = bad("shop:good");
    labelled["metadata"]["labels"] = json!({"team": "shop"});
    stage
        .apply(labelled)
        .await
        .expect("what is there already can be labelled");
    stage
        .services()
        .delete("shop", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    until("it is gone", async || {
        stage.services().get_opt("shop").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn the_status_has_a_grade_that_follows_the_spec_and_costs_no_write() {
    let stage = given("readiness-status").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let before = stage.until_phase("shop", Phase::Healthy).await;
    let said = before.status.unwrap().readiness.expect("it is judged");
    assert!(said.failed.contains(&"run-as-non-root".to_owned()), "{said:?}");

    let mut better = service("shop", "shop:good");
    better["spec"]["template"]["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    better["metadata"]["annotations"] = json!({"molt.dev/lint-ignore": "fault-handler"});
    stage.apply(better).await.unwrap();
    let mut after = None;
    until("the grade follows", async || {
        after = stage
            .service("shop")
            .await
            .status
            .and_then(|status| status.readiness);
        after.as_ref().is_some_and(|after| after.score > said.score)
    })
    .await;
    let after = after.unwrap();
    assert!(!after.failed.contains(&"run-as-non-root".to_owned()), "{after:?}");
    assert_eq!(after.ignored, ["fault-handler"]);

    stage.until_phase("shop", Phase::Healthy).await;
    // The old pods go some time later, and then nobody has anything to write.
    let mut version = None;
    until("nothing is written for five seconds", async || {
        let before = std::mem::replace(
            &mut version,
            stage.service("shop").await.metadata.resource_version,
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        before.is_some() && before == version
    })
    .await;
}

//! Rollouts of a real service, under real load.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{load, not_its_own, pods_of, stable, stable_under_load, until_weight};
use molt_e2e::{Dashboard, Load, Request, Stage, operator, sample, until};
use serde_json::{Value, json};

/// Given version v1 as stable, and load on it.
async fn given_stable_under_load(namespace: &str, rate: u32) -> (Stage, Load) {
    let stage = Stage::given(namespace).await;
    let load = stable_under_load(&stage, rate).await;
    (stage, load)
}

#[tokio::test]
async fn a_good_version_is_promoted_and_no_request_is_lost() {
    let (stage, load) = given_stable_under_load("e2e-good", 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());

    stage.apply(sample("e2e-good", "shop", "v2", &[])).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;

    assert_ne!(stable(&done), first);
    let record = stage.last_record(&done).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::Promoted));
    until("the old pods are gone", async || {
        pods_of(&stage, &first).await.is_empty()
    })
    .await;
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "none"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    println!(
        "good version: {} requests, none failed; {} s",
        requests.len(),
        record.duration_seconds.unwrap_or(0)
    );
    stage.end().await;
}

#[tokio::test]
async fn a_version_that_fails_a_tenth_of_its_requests_is_rolled_back_in_seconds() {
    let (stage, load) = given_stable_under_load("e2e-bad", 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());

    stage
        .apply(sample("e2e-bad", "shop", "v3", &[("ERROR_RATIO", "0.1")]))
        .await;
    until_weight(&stage, &first, |w| w > 0).await;
    until_weight(&stage, &first, |w| w == 0).await;
    let back_at = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    let back = stage.until_phase("shop", Phase::RolledBack).await;

    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::RolledBack), Some("HarmShown"))
    );
    // The canary's pods are scaled down meanwhile: that loses nothing either.
    until("the bad pods are gone", async || {
        let last = back
            .status
            .as_ref()
            .unwrap()
            .state
            .as_ref()
            .unwrap()
            .last
            .as_ref()
            .unwrap()
            .revision
            .clone();
        pods_of(&stage, &last.0).await.is_empty()
    })
    .await;
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "v3"), Vec::<&Request>::new());
    let failed: Vec<&Request> = requests.iter().filter(|r| r.failed()).collect();
    let first_failed = failed.first().expect("v3 fails").t;
    println!(
        "bad version: weight 0 after {:.1} s, {} failed requests",
        back_at - first_failed,
        failed.len()
    );
    stage.end().await;
}

#[tokio::test]
async fn a_version_that_never_answers_is_seen_by_the_gateway_and_taken_back() {
    let namespace = "e2e-silent";
    let counted_by_the_gateway = |version: &str, behaviour: &[(&str, &str)]| {
        let mut manifest = sample(namespace, "shop", version, behaviour);
        manifest["spec"]["slos"][0]["sli"] = json!({"preset": "envoy-gateway", "type": "availability"});
        manifest
    };
    let stage = Stage::given(namespace).await;
    stage.apply(counted_by_the_gateway("v1", &[])).await;
    let service = stage.until_phase("shop", Phase::Healthy).await;
    let first = stable(&service);
    let load = load(&stage, 40).await;

    // It takes every request, its probe answers.
    let silent = counted_by_the_gateway("v2", &[("EXTRA_LATENCY_MS", "3600000")]);
    stage.apply(silent).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let exposed = std::time::Instant::now();
    let route = stage.routes().get("shop").await.unwrap();
    let backends = &route.data["spec"]["rules"][0]["backendRefs"];
    let names_its_revision = |backend: &Value| {
        let header = &backend["filters"][0]["requestHeaderModifier"]["set"][0];
        let revision = header["value"].as_str().unwrap_or_default();
        header["name"] == "x-molt-revision" && backend["name"] == format!("shop-{revision}")
    };
    assert!(
        backends.as_array().unwrap().iter().all(names_its_revision),
        "{backends}"
    );
    until_weight(&stage, &first, |w| w == 0).await;
    println!(
        "silent version: weight 0 after {:.1} s",
        exposed.elapsed().as_secs_f64()
    );

    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.outcome, Some(Outcome::RolledBack));
    // Callers give up after 5 s, which Envoy counts for nobody; after 15 s it would give up itself, by a 504.
    assert_eq!(record.reason.as_deref(), Some("MissingResponses"), "{record:?}");
    let requests = load.end();
    let served = requests.iter().skip_while(|r| r.failed());
    // Whoever waited in vain was with the canary; stable has answered all others.
    let failed: Vec<&Request> = served.filter(|r| r.failed() && r.status != 0).collect();
    assert_eq!(failed, Vec::<&Request>::new());
    assert!(requests.iter().all(|r| r.version != "v2"));
    stage.end().await;
}

#[tokio::test]
async fn a_version_that_crashes_never_harms_stable() {
    let (stage, load) = given_stable_under_load("e2e-crash", 20).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    // It ends before it is ever ready: nobody is sent to it.
    stage
        .apply(sample(
            "e2e-crash",
            "shop",
            "v4",
            &[("FAIL_READINESS", "1"), ("CRASH_AFTER_SECONDS", "1")],
        ))
        .await;
    // Who is on call reads on the service's page what a container said before it ended.
    let dashboard = Dashboard::open(&stage).await;
    stage
        .until(
            "the last words of a container that crashed are shown",
            async || {
                let shown = dashboard.json("ns/e2e-crash/services/shop/pods").await;
                let pods = shown
                    .iter()
                    .filter_map(|shown| shown["pods"].as_array())
                    .flatten();
                let crashed = pods.filter(|pod| pod["revision"] != first.as_str());
                for name in crashed.filter_map(|pod| pod["name"].as_str()) {
                    let path = format!("ns/e2e-crash/pods/{name}/log?previous=true");
                    let said = dashboard.text(&path).await.unwrap_or_default();
                    if said.contains("CRASH_AFTER_SECONDS is over") {
                        return true;
                    }
                }
                false
            },
        )
        .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let last = back
        .status
        .as_ref()
        .unwrap()
        .state
        .as_ref()
        .unwrap()
        .last
        .clone()
        .unwrap();
    assert_eq!((last.reason.as_str(), last.max_weight), ("CanaryCrashLooping", 0));
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_said_and_taken_back() {
    let stage = Stage::given("e2e-image").await;
    stage.apply(sample("e2e-image", "shop", "v1", &[])).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let mut missing = sample("e2e-image", "shop", "v5", &[]);
    missing["spec"]["template"]["spec"]["containers"][0]["image"] = json!("molt.local/missing:v5");
    missing["spec"]["progressDeadline"] = json!("20s");
    stage.apply(missing).await;
    until("the condition names the image", async || {
        let status = stage.services().get("shop").await.unwrap().status.unwrap();
        let conditions = status.conditions.unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.reason == "ImagePullFailed" && c.message.contains("molt.local/missing:v5"))
    })
    .await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    stage.end().await;
}

#[tokio::test]
async fn the_operator_may_end_in_the_middle_and_nothing_is_lost() {
    let stage = Stage::given_alone("e2e-operator").await;
    let load = stable_under_load(&stage, 40).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    stage.apply(sample("e2e-operator", "shop", "v2", &[])).await;
    until_weight(&stage, &first, |w| w > 0).await;
    operator::delete(&stage.client).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

#[tokio::test]
async fn a_users_own_route_is_served_without_a_gap() {
    let stage = Stage::given("e2e-own").await;
    let own = |version: &str| {
        let mut manifest = sample("e2e-own", "shop", version, &[]);
        manifest["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "shop"}}});
        manifest
    };
    let backend = |name: &str, weight: u32| json!({"name": name, "port": 8000, "weight": weight});
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["shop.e2e-own.example.com"],
            "rules": [{"backendRefs": [backend("shop-stable", 100), backend("shop-canary", 0)]}]
        }
    });
    stage
        .routes()
        .patch("shop", &PatchParams::apply("person"), &Patch::Apply(route))
        .await
        .unwrap();
    stage.apply(own("v1")).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = load(&stage, 40).await;
    let from = load
        .requests()
        .iter()
        .filter(|r| !r.failed())
        .map(|r| r.t)
        .fold(f64::MAX, f64::min);
    stage.apply(own("v2")).await;
    until("the new revision is stable", async || {
        let service = stage.services().get("shop").await.unwrap();
        service
            .status
            .is_some_and(|s| s.phase == Some(Phase::Healthy) && s.stable.is_some_and(|s| s.revision != first))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let requests = load.end();
    let lost: Vec<&Request> = requests.iter().filter(|r| r.t >= from && r.failed()).collect();
    assert_eq!(lost, Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    stage.end().await;
}

#[tokio::test]
async fn the_operator_is_small_and_soon_ready() {
    let stage = Stage::given_alone("e2e-size").await;
    for n in 0..10 {
        let mut manifest = sample("e2e-size", &format!("shop-{n}"), "v1", &[]);
        manifest["spec"]["replicas"] = json!(1);
        stage.apply(manifest).await;
    }
    for n in 0..10 {
        stage.until_phase(&format!("shop-{n}"), Phase::Healthy).await;
    }
    let pod = operator::pod(&stage.client).await;
    let process = operator::process(&pod).expect("the operator's process is seen from here");
    let resident = operator::resident(process);
    let ready = operator::ready_after(&stage.client, &pod, process).await;
    println!(
        "operator with 10 services: {:.1} MiB resident; ready {:.2} s after its process began",
        resident as f64 / 1024.0,
        ready.as_secs_f64()
    );
    assert!(resident < 40 * 1024, "{resident} KiB resident");
    stage.end().await;
}

#[tokio::test]
async fn a_job_that_fails_takes_the_canary_back_and_one_that_succeeds_lets_it_pass() {
    let (stage, load) = given_stable_under_load("e2e-job", 20).await;
    let first = stable(&stage.services().get("shop").await.unwrap());
    // The image is the service's own: it has Python, and nothing else is needed.
    let checked = |version: &str, expected: &str| {
        let mut object = sample("e2e-job", "shop", version, &[]);
        let script = format!(
            "import os, sys, urllib.request as r; \
             got = r.urlopen('http://' + os.environ['MOLT_ADDRESS'] + '/').headers['x-app-version']; \
             sys.exit(0 if got == '{expected}' else 3)"
        );
        object["spec"]["guards"] = json!({"conditions": [{
            "name": "smoke",
            "job": {
                "template": {"spec": {"containers": [
                    {"name": "smoke", "command": ["python3", "-c", script]},
                ]}},
                "timeout": "30s",
            },
        }]});
        object
    };

    stage.apply(checked("v2", "v9")).await;
    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(record.reason.as_deref(), Some("ConditionFailed"));
    let message = record.message.unwrap_or_default();
    assert!(
        message.contains("its Job failed: container smoke of pod"),
        "{message}"
    );

    stage.apply(checked("v4", "v4")).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    drop(load.end());
    stage.end().await;
}

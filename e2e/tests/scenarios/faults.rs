//! What may go wrong around a rollout while users are on the canary: none of it costs them a request.

use std::time::Instant;

use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use molt::api::v1alpha1::Phase;
use molt_core::state::Outcome;
use molt_e2e::rollout::{identity, load, not_its_own, pods_of, stable, stable_under_load, until_weight};
use molt_e2e::{BlackHole, Request, Stage, operator, sample, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Load on a service, in requests per second.
const RATE: u32 = 40;

/// The sample in a version that stays at its first weight until somebody promotes or aborts it.
fn dwelling(namespace: &str, version: &str) -> Value {
    let mut manifest = sample(namespace, "shop", version, &[]);
    manifest["spec"]["strategy"]["canary"]["steps"][1]["pause"]["duration"] = json!("10m");
    manifest
}

async fn stable_of(stage: &Stage) -> String {
    stable(&stage.services().get("shop").await.expect("the service exists"))
}

#[tokio::test]
async fn an_operator_that_is_killed_mid_rollout_still_takes_a_bad_version_back() {
    let stage = Stage::given_alone("e2e-kill").await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable_of(&stage).await;
    let pods = identity(&pods_of(&stage, &first).await);

    let bad = sample("e2e-kill", "shop", "v3", &[("ERROR_RATIO", "0.1")]);
    stage.apply(bad).await;
    until_weight(&stage, &first, |w| w > 0).await;
    operator::kill(&stage.client).await;

    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    let record = stage.last_record(&back).await.status.unwrap();
    assert_eq!(
        (record.outcome, record.reason.as_deref()),
        (Some(Outcome::RolledBack), Some("HarmShown"))
    );
    assert_eq!(
        identity(&pods_of(&stage, &first).await),
        pods,
        "stable is untouched"
    );
    assert_eq!(not_its_own(&load.end(), "v3"), Vec::<&Request>::new());
    stage.end().await;
}

#[tokio::test]
async fn an_abort_does_not_wait_for_a_prometheus_that_hangs() {
    let stage = Stage::given("e2e-hang").await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable_of(&stage).await;
    let mut manifest = dwelling("e2e-hang", "v2");
    stage.apply(manifest.clone()).await;
    until_weight(&stage, &first, |w| w > 0).await;

    let hole = BlackHole::open(stage.gateway_address()).await;
    manifest["spec"]["metrics"]["prometheus"]["address"] = json!(hole.url);
    stage.apply(manifest).await;
    until("the operator asks, and gets no answer", async || hole.taken() > 0).await;
    let asked = Instant::now();
    let abort = stage.kubectl_molt(&["abort", "shop"]).await;
    assert!(abort.status.success(), "{abort:?}");
    let acknowledged = asked.elapsed();
    until_weight(&stage, &first, |w| w == 0).await;
    println!(
        "abort while Prometheus hangs: acknowledged after {:.1} s, weight 0 after {:.1} s",
        acknowledged.as_secs_f64(),
        asked.elapsed().as_secs_f64()
    );

    let back = stage.until_phase("shop", Phase::RolledBack).await;
    assert_eq!(stable(&back), first);
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

#[tokio::test]
async fn a_spec_that_cannot_be_used_costs_no_request_and_its_correction_goes_on() {
    let stage = Stage::given("e2e-spec").await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable_of(&stage).await;
    let good = sample("e2e-spec", "shop", "v2", &[]);
    stage.apply(good.clone()).await;
    until_weight(&stage, &first, |w| w > 0).await;

    // The schema lets it through: selectors are read by the operator.
    let mut broken = good.clone();
    let slo = &mut broken["spec"]["slos"][0];
    slo["sli"] = json!({"counters": {"bad": "shop_failures_total{code=}", "total": "shop_requests_total"}});
    stage.apply(broken).await;
    let message = stage
        .until_told("shop", "SpecValid", "False", "SpecInvalid")
        .await;
    assert!(message.contains("spec.slos[0].sli.counters.bad"), "{message}");
    // Nothing can be said of the canary without its objectives: users go back to stable.
    until_weight(&stage, &first, |w| w == 0).await;

    stage.apply(good).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let requests = load.end();
    assert_eq!(not_its_own(&requests, "none"), Vec::<&Request>::new());
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    stage.end().await;
}

#[tokio::test]
async fn a_status_that_is_wiped_is_found_again_in_the_world() {
    let stage = Stage::given("e2e-wiped").await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable_of(&stage).await;
    stage.apply(sample("e2e-wiped", "shop", "v2", &[])).await;
    until_weight(&stage, &first, |w| w > 0).await;
    let old = identity(&pods_of(&stage, &first).await);
    let service = stage.services().get("shop").await.unwrap();
    let second = service.status.unwrap().canary.unwrap().revision;
    let tried = identity(&pods_of(&stage, &second).await);
    assert!(!tried.is_empty(), "users are on the canary");

    let nothing = Patch::Merge(json!({"status": null}));
    let wiped = stage
        .services()
        .patch_status("shop", &PatchParams::default(), &nothing)
        .await;
    assert_eq!(wiped.unwrap().status.and_then(|s| s.state), None);
    until("stable is found again", async || {
        let status = stage.services().get("shop").await.unwrap().status;
        status.and_then(|s| s.stable).is_some_and(|s| s.revision == first)
    })
    .await;
    assert_eq!(
        identity(&pods_of(&stage, &first).await),
        old,
        "stable is untouched"
    );

    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_eq!(stable(&done), second);
    let sets = stage.sets().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 2, "no second copy of anything");
    let now = identity(&pods_of(&stage, &second).await);
    assert!(now.is_superset(&tried), "what was tested is what serves: {now:?}");
    assert_eq!(now.len(), 2, "{now:?}");
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    stage.end().await;
}

/// A route of the user's, with these backends.
fn route(backends: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["shop.e2e-route.example.com"],
            "rules": [{"backendRefs": backends}]
        }
    })
}

async fn write_route(stage: &Stage, backends: &Value) {
    let params = PatchParams::apply("person").force();
    let written = stage
        .routes()
        .patch("shop", &params, &Patch::Apply(route(backends)))
        .await;
    written.expect("the route is valid");
}

/// What a caller within the cluster gets from a Service, by its cluster address.
async fn call(stage: &Stage, service: &str) -> String {
    let service = stage.core_services().get(service).await.expect("it exists");
    let address = service
        .spec
        .and_then(|s| s.cluster_ip)
        .expect("it has an address");
    let mut answer = String::new();
    let mut connection = TcpStream::connect((address.as_str(), 8000))
        .await
        .expect("it is reached");
    let request = "GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    connection
        .write_all(request.as_bytes())
        .await
        .expect("it listens");
    connection.read_to_string(&mut answer).await.expect("it answers");
    answer
}

#[tokio::test]
async fn a_users_route_may_be_changed_and_deleted_mid_rollout_and_it_goes_on_once_it_is_back() {
    let stage = Stage::given("e2e-route").await;
    let both = json!([
        {"name": "shop-stable", "port": 8000, "weight": 100},
        {"name": "shop-canary", "port": 8000, "weight": 0}
    ]);
    write_route(&stage, &both).await;
    let own = |version: &str| {
        let mut manifest = sample("e2e-route", "shop", version, &[]);
        manifest["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "shop"}}});
        manifest
    };
    // A Service of the user's own, long enough there for the gateway to know its endpoints.
    let theirs: Service = serde_json::from_value(json!({
        "metadata": {"name": "front"},
        "spec": {"selector": {"molt.dev/service": "shop"}, "ports": [{"port": 8000}]}
    }))
    .unwrap();
    stage
        .core_services()
        .create(&PostParams::default(), &theirs)
        .await
        .unwrap();
    stage.apply(own("v1")).await;
    let first = stable(&stage.until_phase("shop", Phase::Healthy).await);
    let load = load(&stage, RATE).await;
    let pods = identity(&pods_of(&stage, &first).await);
    stage.apply(own("v2")).await;
    until_weight(&stage, "-stable", |w| w > 0).await;

    // Somebody sends the traffic elsewhere.
    write_route(&stage, &json!([{"name": "front", "port": 8000, "weight": 1}])).await;
    let message = stage
        .until_told("shop", "RouteReady", "False", "RouteBackendsMismatch")
        .await;
    assert!(
        message.contains("HTTPRoute shop") && message.contains("front"),
        "{message}"
    );
    write_route(&stage, &both).await;
    until_weight(&stage, "-stable", |w| w > 0).await;

    // Without a route nobody comes in by the gateway; who calls the Service is served by stable.
    let until_here = load.requests().len();
    let deleted = stage.routes().delete("shop", &DeleteParams::default()).await;
    deleted.expect("it can be deleted");
    let message = stage
        .until_told("shop", "RouteReady", "False", "RouteNotFound")
        .await;
    assert!(message.contains("HTTPRoute shop"), "{message}");
    let answer = call(&stage, "shop").await;
    assert!(answer.contains("x-app-version: v1"), "{answer}");
    assert_eq!(
        identity(&pods_of(&stage, &first).await),
        pods,
        "stable is untouched"
    );
    until("the gateway has heard of it", async || {
        load.requests()[until_here..].iter().any(Request::failed)
    })
    .await;
    write_route(&stage, &both).await;
    let a_second = RATE as usize;
    until("users are served again", async || {
        let requests = load.requests();
        requests.iter().rev().take(a_second).all(|r| !r.failed())
    })
    .await;
    let from_here = load.requests().len();

    until_weight(&stage, "-stable", |w| w > 0).await;
    let done = stage.until_phase("shop", Phase::Healthy).await;
    assert_ne!(stable(&done), first);
    let requests = load.end();
    assert_eq!(
        not_its_own(&requests[..until_here], "none"),
        Vec::<&Request>::new()
    );
    assert_eq!(
        not_its_own(&requests[from_here..], "none"),
        Vec::<&Request>::new()
    );
    // Between, the gateway had no route: it answered itself.
    let gap = requests[until_here..from_here].iter().filter(|r| r.failed());
    assert_eq!(gap.filter(|r| !r.version.is_empty()).count(), 0);
    assert_eq!(requests.last().map(|r| r.version.as_str()), Some("v2"));
    stage.end().await;
}

#[tokio::test]
async fn an_incident_in_the_bake_is_compared_and_not_blamed_on_the_new_version() {
    let stage = Stage::given("e2e-incident").await;
    let load = stable_under_load(&stage, RATE).await;
    let first = stable_of(&stage).await;
    let mut manifest = sample("e2e-incident", "shop", "v2", &[]);
    manifest["spec"]["strategy"]["canary"]["bake"] = json!("60s");
    stage.apply(manifest).await;
    until_weight(&stage, &first, |w| w == 100).await;

    // What all versions need is down.
    let incident = stage.load_of("shop", "fail", RATE / 2);
    until_weight(&stage, &first, |w| w == 10).await;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    drop(incident.end());
    // Nobody is blamed, and the rollout goes on from there.
    let told = async || {
        let service = stage.services().get("shop").await.expect("the service exists");
        let attempt = service.status.and_then(|s| s.state).and_then(|s| s.attempt);
        let transitions = attempt.expect("the attempt goes on").transitions;
        transitions.into_iter().map(|t| t.reason).collect::<Vec<String>>()
    };
    stage
        .until("the incident is over", async || {
            told().await.iter().any(|reason| reason == "IncidentOver")
        })
        .await;
    let told = told().await;
    assert!(told.iter().any(|reason| reason == "BakeInterrupted"), "{told:?}");
    assert_eq!(not_its_own(&load.end(), "none"), Vec::<&Request>::new());
    println!("incident in the bake: {told:?}");
    stage.end().await;
}

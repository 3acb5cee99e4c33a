//! Series of a gateway's proxies, as Envoy Gateway's, Istio's and Linkerd's are exported.

use molt_core::analysis::AtRoute;

use super::*;
use crate::traffic::BackendPlace;

const CLUSTER: &str = "httproute/shop/checkout/rule/0";

fn place(service: &str, index: usize) -> BackendPlace {
    BackendPlace {
        service: service.to_owned(),
        rule: 0,
        index,
    }
}

/// Of both revisions, stable first in the route.
fn asking(preset: Preset) -> MeasureRequest {
    let mut request = request(vec![slo(SliQuery::Availability(preset))]);
    request.backends = RouteBackends {
        route: "checkout".to_owned(),
        canary: vec![place(CANARY, 1)],
        stable: vec![place(STABLE, 0)],
    };
    request
}

/// A series of a proxy, which lives in a namespace of its own.
fn of_proxy(name: &str, proxy: &str, labels: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    let labels = format!("namespace=envoy-gateway-system,instance={proxy}:19001,{labels}");
    scraped("pods", name, proxy, &labels, samples)
}

/// What Envoy counts for a backend: `class` is `2` or `5`, or empty for what was sent.
fn envoy(proxy: &str, backend: usize, class: &str, samples: &[(i64, &str)]) -> serde_json::Value {
    let cluster = format!("envoy_cluster_name={CLUSTER}/backend/{backend}");
    match class {
        "" => of_proxy("envoy_cluster_upstream_rq_total", proxy, &cluster, samples),
        class => {
            let labels = format!("{cluster},envoy_response_code_class={class}");
            of_proxy("envoy_cluster_upstream_rq_xx", proxy, &labels, samples)
        }
    }
}

fn at_route(canary: (f64, f64), stable: (f64, f64), sent: Option<(f64, f64)>) -> Option<BlockCounts> {
    Some(BlockCounts {
        at_route: Some(AtRoute { sent }),
        ..counts(canary, stable)?
    })
}

#[tokio::test]
async fn every_proxy_counts_for_the_backend_that_its_cluster_is_of() {
    let fake = Fake::series(vec![
        envoy("envoy-a", 0, "", &[(-10, "1000"), (20, "1270")]),
        envoy("envoy-a", 0, "2", &[(-10, "990"), (20, "1260")]),
        envoy("envoy-a", 0, "5", &[(-10, "10"), (20, "10")]),
        envoy("envoy-a", 1, "", &[(-10, "0"), (20, "30")]),
        envoy("envoy-a", 1, "2", &[(-10, "0"), (20, "25")]),
        // Born with its first error, on a proxy that was read before.
        envoy("envoy-a", 1, "5", &[(20, "3")]),
        // One that has been restarted.
        envoy("envoy-b", 0, "", &[(-10, "500"), (20, "100")]),
        envoy("envoy-b", 0, "2", &[(-10, "500"), (20, "100")]),
    ])
    .await;
    let measured = fake.measure(asking(Preset::EnvoyGateway)).await;
    assert_eq!(measured.problems, []);
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((28.0, 3.0), (370.0, 0.0), Some((30.0, 370.0))));

    let queries = fake.queries();
    assert_eq!(queries.len(), 1, "{queries:?}");
    assert_eq!(
        queries[0],
        format!(
            "{{envoy_cluster_name=~\"{CLUSTER}|{CLUSTER}/backend/0|{CLUSTER}/backend/1\",\
             __name__=~\"envoy_cluster_upstream_rq_xx|envoy_cluster_upstream_rq_total\"}}[150s]"
        )
    );
}

#[tokio::test]
async fn a_canary_that_never_answers_was_sent_requests() {
    let fake = Fake::series(vec![
        envoy("envoy-a", 0, "", &[(-10, "1000"), (20, "1270")]),
        envoy("envoy-a", 0, "2", &[(-10, "1000"), (20, "1270")]),
        // Its cluster was made with its first weight.
        envoy("envoy-a", 1, "", &[(20, "30")]),
    ])
    .await;
    let measured = fake.measure(asking(Preset::EnvoyGateway)).await;
    assert_eq!(measured.problems, []);
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((0.0, 0.0), (270.0, 0.0), Some((30.0, 270.0))));
}

#[tokio::test]
async fn a_canary_that_is_not_in_the_route_yet_serves_nobody() {
    let fake = Fake::series(vec![
        envoy("envoy-a", 0, "", &[(-10, "1000"), (20, "1270")]),
        envoy("envoy-a", 0, "2", &[(-10, "1000"), (20, "1270")]),
        // The last canary's.
        envoy("envoy-a", 1, "5", &[(-10, "70"), (20, "90")]),
    ])
    .await;
    let mut request = asking(Preset::EnvoyGateway);
    request.backends.canary.clear();
    let measured = fake.measure(request).await;
    assert_eq!(measured.problems, []);
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((0.0, 0.0), (270.0, 0.0), Some((0.0, 270.0))));
}

#[tokio::test]
async fn one_cluster_for_the_whole_rule_says_what_to_add() {
    let whole = format!("envoy_cluster_name={CLUSTER},envoy_response_code_class=2");
    let fake = Fake::series(vec![of_proxy(
        "envoy_cluster_upstream_rq_xx",
        "envoy-a",
        &whole,
        &[(-10, "0"), (5, "9"), (20, "9")],
    )])
    .await;
    let measured = fake.measure(asking(Preset::EnvoyGateway)).await;
    assert_eq!(measured.measurement.blocks[0].slos[0], None);
    assert_eq!(reasons(&measured), ["SeriesMissing"]);
    let message = &measured.problems[0].message;
    for part in ["HTTPRoute checkout", "RequestHeaderModifier", "x-molt-slot"] {
        assert!(message.contains(part), "{message}");
    }
    // Nothing at all is another matter.
    let measured = Fake::series(Vec::new())
        .await
        .measure(asking(Preset::EnvoyGateway))
        .await;
    assert_eq!(reasons(&measured), ["SeriesMissing"]);
    assert!(measured.problems[0].message.contains("/stats/prometheus"));
}

#[tokio::test]
async fn proxies_that_answer_scrapes_in_turn_count_for_nobody() {
    let saw = [(-40, "100"), (-25, "40"), (-10, "140"), (5, "60"), (20, "180")];
    let fake = Fake::series(vec![
        envoy("envoy", 0, "2", &saw),
        envoy("envoy", 1, "2", &[(-10, "0"), (20, "10")]),
    ])
    .await;
    let measured = fake.measure(asking(Preset::EnvoyGateway)).await;
    assert_eq!(measured.measurement.blocks[0].slos[0], None);
    assert_eq!(reasons(&measured), ["MetricsUnusable"]);
    assert!(measured.problems[0].message.contains("each proxy's pod"));
}

#[tokio::test]
async fn durations_are_told_apart_by_backend_as_well() {
    let name = "envoy_cluster_upstream_rq_time";
    let both = |backend: usize, all: &str, within: &str| {
        let cluster = format!("envoy_cluster_name={CLUSTER}/backend/{backend}");
        [
            of_proxy(
                &format!("{name}_count"),
                "envoy-a",
                &cluster,
                &[(-10, "0"), (20, all)],
            ),
            of_proxy(
                &format!("{name}_bucket"),
                "envoy-a",
                &format!("{cluster},le=500"),
                &[(-10, "0"), (20, within)],
            ),
        ]
    };
    let fake = Fake::series([both(0, "270", "268"), both(1, "30", "20")].concat()).await;
    let mut request = asking(Preset::EnvoyGateway);
    request.slos = vec![slo(SliQuery::Latency(
        Preset::EnvoyGateway.into(),
        SignedDuration::from_millis(500),
    ))];
    let measured = fake.measure(request).await;
    assert_eq!(measured.problems, []);
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((30.0, 10.0), (270.0, 2.0), None));
    let query = &fake.queries()[0];
    assert!(query.contains(r#"le=~"(500([.]0*)?)?""#), "{query}");
}

#[tokio::test]
async fn meshes_name_the_backends_service() {
    let istio = |service: &str, code: &str, samples: &[(i64, &str)]| {
        let labels = format!(
            "reporter=source,destination_service_namespace=shop,destination_service_name={service},response_code={code}"
        );
        of_proxy("istio_requests_total", "gateway-7d9f", &labels, samples)
    };
    let fake = Fake::series(vec![
        istio(STABLE, "200", &[(-10, "1000"), (20, "1270")]),
        istio(CANARY, "200", &[(-10, "5"), (20, "30")]),
        istio(CANARY, "503", &[(20, "4")]),
    ])
    .await;
    let measured = fake.measure(asking(Preset::IstioGateway)).await;
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((29.0, 4.0), (270.0, 0.0), None));
    let query = &fake.queries()[0];
    for part in [
        r#"destination_service_name=~"checkout-aaaaaaaaaa|checkout-bbbbbbbbbb""#,
        r#"destination_service_namespace="shop""#,
        r#"reporter="source",response_code!="0""#,
    ] {
        assert!(query.contains(part), "{query}");
    }
    assert!(!query.contains("pod="), "{query}");

    let linkerd = |name: &str, service: &str, labels: &str, samples: &[(i64, &str)]| {
        let labels = format!("backend_namespace=shop,backend_name={service},{labels}");
        of_proxy(
            &format!("outbound_http_route_backend_{name}_total"),
            "web-5c6d",
            &labels,
            samples,
        )
    };
    let fake = Fake::series(vec![
        linkerd("requests", STABLE, "", &[(-10, "1000"), (20, "1270")]),
        linkerd("requests", CANARY, "", &[(-10, "0"), (20, "31")]),
        linkerd(
            "response_statuses",
            STABLE,
            "http_status=200,error=",
            &[(-10, "1000"), (20, "1270")],
        ),
        linkerd(
            "response_statuses",
            CANARY,
            "http_status=200,error=",
            &[(-10, "0"), (20, "20")],
        ),
        linkerd(
            "response_statuses",
            CANARY,
            "http_status=,error=RESPONSE_HEADERS_TIMEOUT",
            &[(20, "9")],
        ),
    ])
    .await;
    let measured = fake.measure(asking(Preset::LinkerdOutbound)).await;
    let read = measured.measurement.blocks[0].slos[0];
    assert_eq!(read, at_route((29.0, 9.0), (270.0, 0.0), Some((31.0, 270.0))));
}

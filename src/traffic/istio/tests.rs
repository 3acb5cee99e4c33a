use molt_core::observed::{Backend, Slot};
use molt_core::plan::Revision;
use molt_core::step::{HeaderMatch, HeaderValue, Mirror};
use serde_json::{Value, json};

use super::*;
use crate::traffic::OwnedVirtualService;

const OLD: &str = "bbbbbbbbbb";
const NEW: &str = "aaaaaaaaaa";

fn content() -> OwnedVirtualService {
    OwnedVirtualService {
        hosts: vec!["shop.example.com".to_owned()],
        gateways: vec!["istio-ingress/public".to_owned()],
    }
}

fn target() -> RouteTarget {
    RouteTarget {
        service: Key::new("shop", "checkout"),
        owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference::default(),
        spec: RouteSpec::Istio {
            whose: Whose::Molts(Some(content())),
            delay: jiff::SignedDuration::from_secs(15),
        },
        ports: [OLD, NEW].map(|revision| (Revision::from(revision), 8000)).into(),
        rival: None,
        mark: None,
    }
}

fn weights(of: &[(&str, u8)]) -> Weights {
    of.iter()
        .map(|(revision, weight)| (Backend::Revision(Revision::from(*revision)), *weight))
        .collect()
}

fn live(body: &Value) -> VirtualService {
    serde_json::from_value(body.clone()).unwrap()
}

fn matched(name: &str, value: HeaderValue) -> HeaderMatch {
    HeaderMatch {
        header: name.to_owned(),
        value,
    }
}

#[test]
fn what_is_written_is_read_back_and_the_rule_for_all_is_the_last() {
    let shares = weights(&[(OLD, 90), (NEW, 10)]);
    // In the order in which a plan has them: the API server sorts the keys of a map.
    let testers = vec![
        matched("user-agent", HeaderValue::Regex("curl.*".to_owned())),
        matched("x-canary", HeaderValue::Exact("1".to_owned())),
    ];
    let mirror = Mirror {
        percent: 20,
        methods: vec!["GET".to_owned(), "HEAD".to_owned()],
    };
    for (headers, mirror, names) in [
        (vec![], None, vec!["users"]),
        (vec![testers.clone()], None, vec!["testers-0", "users"]),
        (vec![], Some(mirror.clone()), vec!["copies", "users"]),
        (
            vec![testers.clone(), vec![testers[1].clone()]],
            Some(mirror),
            vec!["testers-0", "testers-1", "copies", "users"],
        ),
    ] {
        let preview = (names.len() > 1).then(|| Preview {
            revision: Revision::from(NEW),
            headers,
            mirror,
            kept: None,
        });
        let body = owned::body(&target(), Some(&content()), None, &shares, preview.as_ref()).unwrap();
        let live = live(&body);
        let found: Vec<_> = live
            .spec
            .http
            .iter()
            .filter_map(|rule| rule.name.as_deref())
            .collect();
        assert_eq!(found, names);
        let last = live.spec.http.last().unwrap();
        assert!(last.matches.is_empty() && last.mirror.is_none());
        assert_eq!(owned::preview("checkout", &live), preview, "{body:#}");
        assert_eq!(
            crate::traffic::users_route::percent(&owned::weights("checkout", &live)),
            shares
        );
        assert!(is_complete("checkout", &live, preview.as_ref()).is_ok());
        let other = Preview {
            revision: Revision::from(OLD),
            headers: vec![],
            mirror: None,
            kept: None,
        };
        assert!(is_complete("checkout", &live, Some(&other)).is_err());
        if names.contains(&"copies") {
            let copies = &live.spec.http[names.len() - 2];
            assert_eq!(copies.route, last.route, "users are answered as before");
        }
    }
}

#[test]
fn a_spec_that_cant_be_used_changes_neither_hosts_nor_gateways() {
    let shares = weights(&[(OLD, 100)]);
    let first = owned::body(&target(), Some(&content()), None, &shares, None).unwrap();
    let kept = owned::body(&target(), None, Some(&live(&first)), &shares, None).unwrap();
    assert_eq!(kept["spec"], first["spec"]);
    assert!(owned::body(&target(), None, None, &shares, None).is_err());
}

#[allow(clippy::needless_pass_by_value)]
fn users(http: Value) -> VirtualService {
    live(&json!({
        "metadata": {"name": "front", "namespace": "shop", "resourceVersion": "7", "generation": 1},
        "spec": {"hosts": ["shop.example.com"], "http": http},
    }))
}

fn share(host: &str, weight: Option<i32>) -> Value {
    let mut share = json!({"destination": {"host": host}});
    if let Some(weight) = weight {
        share["weight"] = json!(weight);
    }
    share
}

fn seen(live: &VirtualService) -> Sighting {
    let is_service = |name: &str| name == "cart";
    view::adopted("checkout", "front", "shop", live, &is_service, None)
}

#[test]
fn of_a_users_only_the_two_weights_change_and_their_hosts_are_tested() {
    let route = users(json!([
        {"match": [{"uri": {"prefix": "/static"}}], "route": [share("static", None)]},
        {"route": [share("checkout-canary.shop.svc.cluster.local", None), share("checkout-stable", Some(100))]},
    ]));
    let sighting = seen(&route);
    assert_eq!(sighting.problems, []);
    assert_eq!(
        sighting.view.weights,
        users_route::idle(),
        "what is left out beside others is none"
    );
    let rules = view::split_rules("checkout", "shop", &route.spec);
    let wanted = Weights::from([
        (Backend::Slot(Slot::Stable), 75),
        (Backend::Slot(Slot::Canary), 25),
    ]);
    let patch = users_route::weight_patch(&route.metadata, &rules, &wanted).unwrap();
    assert_eq!(
        serde_json::to_value(&patch).unwrap(),
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "test", "path": "/spec/http/1/route/1/destination/host", "value": "checkout-stable"},
            {"op": "add", "path": "/spec/http/1/route/1/weight", "value": 75},
            {"op": "test", "path": "/spec/http/1/route/0/destination/host", "value": "checkout-canary.shop.svc.cluster.local"},
            {"op": "add", "path": "/spec/http/1/route/0/weight", "value": 25},
        ])
    );
}

#[test]
fn rules_that_disagree_are_not_acknowledged_and_show_the_most_of_each() {
    let rule = |stable, canary| json!({"route": [share("checkout-stable", Some(stable)), share("checkout-canary", Some(canary))]});
    let sighting = seen(&users(json!([rule(100, 0), rule(50, 50)])));
    assert!(!sighting.view.acknowledged);
    assert_eq!(sighting.view.weights[&Backend::Slot(Slot::Canary)], 50);
    assert_eq!(sighting.backends.len(), 4);
    let sighting = seen(&users(json!([rule(50, 50), rule(1, 1)])));
    assert!(sighting.view.acknowledged, "a half is a half");
}

#[test]
fn what_cant_be_used_is_said_with_what_to_write() {
    let subset = |name: &str| json!({"destination": {"host": "checkout", "subset": name}, "weight": 50});
    let both = [
        share("checkout-stable", Some(100)),
        share("checkout-canary", Some(0)),
    ];
    for (http, reason, words) in [
        (
            json!([{"route": [subset("stable"), subset("canary")]}]),
            "RouteBackendsMismatch",
            [
                "checkout (subset canary)",
                "{destination: {host: checkout-stable}, weight: 100}",
                "needs no DestinationRule",
            ],
        ),
        (
            json!([{"route": [share("checkout-stable.other", Some(1)), share("checkout-canary", Some(1))]}]),
            "RouteConflict",
            [
                "spec.http[0]",
                "names checkout-stable.other as well",
                "stable keeps serving",
            ],
        ),
        (
            json!([{"route": [both[0], both[1], share("cart-stable", Some(0))]}]),
            "RouteConflict",
            ["cart-stable", "of PythonService cart", "a rule of its own"],
        ),
        (
            json!([]),
            "RouteBackendsMismatch",
            ["no destinations", "checkout-stable", "checkout-canary"],
        ),
    ] {
        let sighting = seen(&users(http));
        assert_eq!(sighting.problems[0].reason, reason);
        for word in words {
            let message = &sighting.problems[0].message;
            assert!(message.contains(word), "{word}: {message}");
        }
    }
    let missing = view::missing(&target(), "front");
    assert_eq!(missing.problems[0].reason, "RouteNotFound");
    let message = &missing.problems[0].message;
    assert!(
        message.contains(
            "destinations checkout-stable (weight: 100) and checkout-canary (weight: 0), port 8000, with both weights written out"
        ),
        "{message}"
    );
}

#[test]
fn tls_that_is_passed_through_is_divided_too() {
    let route = live(&json!({
        "metadata": {"name": "front", "namespace": "shop", "resourceVersion": "7"},
        "spec": {"hosts": ["shop.example.com"], "tls": [{"match": [{"sniHosts": ["shop.example.com"]}],
            "route": [share("checkout-stable", Some(100)), share("checkout-canary", None)]}]},
    }));
    assert_eq!(seen(&route).view.weights, users_route::idle());
    let rules = view::split_rules("checkout", "shop", &route.spec);
    assert_eq!(
        rules[0].pointers(),
        ["/spec/tls/0/route/0/weight", "/spec/tls/0/route/1/weight"]
    );
}

#[test]
fn hosts_are_services_of_the_namespace_only_where_they_say_so() {
    for (host, service) in [
        ("checkout", Some("checkout")),
        ("checkout.shop", Some("checkout")),
        ("checkout.shop.svc", Some("checkout")),
        ("checkout.shop.svc.example.org", Some("checkout")),
        ("checkout.other", None),
        ("checkout.shop.example.com", None),
    ] {
        let destination = Destination {
            host: host.to_owned(),
            ..Destination::default()
        };
        assert_eq!(destination.service("shop"), service, "{host}");
    }
}

#[test]
fn a_group_is_told_which_revision_a_request_went_to_and_each_keeps_to_its_own() {
    let mut target = target();
    target.mark = Some(crate::traffic::Mark {
        header: "x-molt-group".to_owned(),
        canary: Some(Revision::from(NEW)),
    });
    let says = |value: &str| vec![matched("x-molt-group", HeaderValue::Exact(value.to_owned()))];
    let preview = Preview {
        revision: Revision::from(NEW),
        headers: vec![says("canary")],
        mirror: None,
        kept: Some(molt_core::observed::Kept {
            revision: Revision::from(OLD),
            headers: says("stable"),
        }),
    };
    let shares = weights(&[(OLD, 90), (NEW, 10)]);
    let body = owned::body(&target, Some(&content()), None, &shares, Some(&preview)).unwrap();
    assert_eq!(
        owned::preview("checkout", &live(&body)),
        Some(preview),
        "{body:#}"
    );
    let rules = body["spec"]["http"].as_array().unwrap();
    assert_eq!(rules.len(), 3);
    for share in rules.iter().flat_map(|rule| rule["route"].as_array().unwrap()) {
        let is_new = share["destination"]["host"] == format!("checkout-{NEW}");
        let value = if is_new { "canary" } else { "stable" };
        assert_eq!(share["headers"]["request"]["set"]["x-molt-group"], value);
    }
}

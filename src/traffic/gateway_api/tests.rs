use std::collections::BTreeMap;

use molt_core::observed::{Backend, Slot};
use molt_core::plan::Revision;
use molt_core::step::{HeaderMatch, HeaderValue, Mirror};
use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::ParentRef;
use crate::traffic::{OwnedRoute, Protocol, Sessions};

const OLD: &str = "bbbbbbbbbb";
const NEW: &str = "aaaaaaaaaa";

fn content(names_revisions: bool) -> OwnedRoute {
    OwnedRoute {
        parents: Vec::new(),
        mesh: false,
        sessions: None,
        hostnames: Vec::new(),
        names_revisions,
    }
}

fn target() -> RouteTarget {
    RouteTarget {
        service: Key::new("shop", "checkout"),
        owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference::default(),
        spec: RouteSpec::Owned {
            protocol: Protocol::Http,
            content: None,
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

fn live(body: &Value) -> HttpRoute {
    serde_json::from_value(body.clone()).unwrap()
}

fn names(body: &Value) -> Vec<&str> {
    let backends = body["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
    backends.iter().map(|b| b["name"].as_str().unwrap()).collect()
}

#[test]
fn a_new_revision_comes_last_whatever_its_name() {
    let target = target();
    let first = owned::route(&target, Some(&content(true)), None, &weights(&[(OLD, 100)]), None).unwrap();
    let both = weights(&[(NEW, 5), (OLD, 95)]);
    let second = owned::route(&target, Some(&content(true)), Some(&live(&first)), &both, None).unwrap();
    assert_eq!(names(&second), ["checkout-bbbbbbbbbb", "checkout-aaaaaaaaaa"]);
    let third = owned::route(&target, Some(&content(true)), Some(&live(&second)), &both, None).unwrap();
    assert_eq!(names(&third), names(&second));

    let places = view::owned(&HTTP_ROUTE, "checkout", "", Some(&live(&second))).backends;
    let places: BTreeMap<&str, (usize, usize)> = places
        .iter()
        .map(|place| (place.service.as_str(), (place.rule, place.index)))
        .collect();
    assert_eq!(places["checkout-bbbbbbbbbb"], (0, 0));
    assert_eq!(places["checkout-aaaaaaaaaa"], (0, 1));
}

#[test]
fn a_header_names_the_revision_where_an_objective_needs_it() {
    let target = target();
    let one = weights(&[(OLD, 100)]);
    let plain = owned::route(&target, Some(&content(false)), None, &one, None).unwrap();
    let backend = |body: &Value| body["spec"]["rules"][0]["backendRefs"][0].clone();
    assert_eq!(backend(&plain)["filters"], Value::Null);
    let named = owned::route(&target, Some(&content(true)), Some(&live(&plain)), &one, None).unwrap();
    assert_eq!(
        backend(&named)["filters"],
        json!([{
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "x-molt-revision", "value": OLD}]},
        }])
    );
    // The route is put right when the first such objective comes.
    let spec = serde_json::to_value(&live(&plain).spec).unwrap();
    assert!(!is_subset(&named["spec"], &spec));
    let spec = serde_json::to_value(&live(&named).spec).unwrap();
    assert!(is_subset(&named["spec"], &spec));
    // A spec that can't be used changes nothing of it.
    let kept = owned::route(&target, None, Some(&live(&named)), &one, None).unwrap();
    assert_eq!(backend(&kept), backend(&named));
}

#[test]
fn a_gateway_that_nobody_answers_for_is_named() {
    let route = |status: Value| {
        live(&json!({
            "metadata": {"name": "checkout", "namespace": "shop", "generation": 2, "ownerReferences": [
                {"apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "name": "checkout", "uid": "u", "controller": true},
            ]},
            "spec": {"parentRefs": [{"name": "public"}, {"name": "inner", "namespace": "gateways"}]},
            "status": {"parents": status},
        }))
    };
    let answer = |parent: Value, generation: i64| {
        json!({"parentRef": parent, "controllerName": "example.com/gateway", "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": generation,
        }]})
    };
    let unanswered = |status| view::owned(&HTTP_ROUTE, "checkout", "u", Some(&route(status))).unanswered;
    let inner = json!({"name": "inner", "namespace": "gateways"});
    assert_eq!(
        unanswered(json!([answer(inner.clone(), 2)])).unwrap(),
        "no controller has answered for Gateway shop/public: does it exist, does its listener admit namespace shop?"
    );
    let both = json!([answer(json!({"name": "public"}), 2), answer(inner.clone(), 2)]);
    assert_eq!(unanswered(both), None);
    let late = json!([answer(json!({"name": "public"}), 1), answer(inner, 2)]);
    assert!(unanswered(late).is_some(), "it answered for an earlier form");
}

#[test]
fn a_contested_rule_is_shown_with_the_weights_that_it_has() {
    let backend = |name: &str, weight: i32| json!({"name": name, "port": 8000, "weight": weight});
    let route = live(&json!({
        "metadata": {"name": "front", "namespace": "shop"},
        "spec": {"rules": [{"backendRefs": [
            backend("checkout-stable", 100), backend("checkout-canary", 0),
            backend("cart-stable", 100), backend("cart-canary", 0),
        ]}]},
    }));
    let is_service = |name: &str| name == "cart";
    let seen = view::adopted(
        &HTTP_ROUTE,
        "checkout",
        "front",
        "shop",
        &route,
        &is_service,
        None,
    );
    assert_eq!(seen.problems[0].reason, "RouteConflict");
    assert!(seen.problems[0].message.contains("stable keeps serving"));
    let shares = [
        (Backend::Slot(Slot::Stable), 100),
        (Backend::Slot(Slot::Canary), 0),
    ];
    assert_eq!(seen.view.weights, Weights::from(shares));
}

#[test]
fn who_has_to_create_the_route_is_told_what_to_write() {
    let mut target = target();
    let told = |target: &RouteTarget| {
        let problem = view::missing(&HTTP_ROUTE, target, "front").problems.remove(0);
        assert_eq!(problem.reason, "RouteNotFound");
        problem.message
    };
    assert_eq!(
        told(&target),
        "HTTPRoute front does not exist in namespace shop: create it with backendRefs checkout-stable (weight: 100) and checkout-canary (weight: 0), port 8000, with both weights written out, or set parentRefs to let Molt create one"
    );
    // Of two ports neither is right for both.
    target.ports.insert(Revision::from(NEW), 9000);
    assert!(told(&target).contains("(weight: 0), with both weights"));
}

#[test]
fn what_goes_to_the_canary_beside_its_weight_is_read_back_as_it_was_written() {
    let target = target();
    let matched = |name: &str, value| HeaderMatch {
        header: name.to_owned(),
        value,
    };
    let testers = vec![
        matched("x-canary", HeaderValue::Exact("1".to_owned())),
        matched("user-agent", HeaderValue::Regex("curl.*".to_owned())),
    ];
    let mirror = Mirror {
        percent: 20,
        methods: vec!["GET".to_owned(), "HEAD".to_owned()],
    };
    let shares = weights(&[(OLD, 90), (NEW, 10)]);
    for (headers, mirror) in [
        (vec![testers.clone()], None),
        (vec![], Some(mirror.clone())),
        (vec![testers.clone(), vec![testers[0].clone()]], Some(mirror)),
    ] {
        let preview = Preview {
            revision: Revision::from(NEW),
            headers,
            mirror,
            kept: None,
        };
        let body = owned::route(&target, Some(&content(true)), None, &shares, Some(&preview)).unwrap();
        let route = live(&body);
        assert_eq!(
            owned::preview("checkout", &route),
            Some(preview.clone()),
            "{body:#}"
        );
        assert_eq!(
            owned::weights("checkout", &route).len(),
            2,
            "all users have the first rule"
        );
        assert!(is_complete("checkout", &route, Some(&preview)).is_ok());
        assert!(is_complete("checkout", &route, None).is_err());
    }
}

#[test]
fn testers_are_told_apart_from_copies_by_method_as_well() {
    let preview = Preview {
        revision: Revision::from(NEW),
        headers: vec![vec![HeaderMatch {
            header: "x-canary".to_owned(),
            value: HeaderValue::Exact("1".to_owned()),
        }]],
        mirror: Some(Mirror {
            percent: 100,
            methods: vec!["GET".to_owned()],
        }),
        kept: None,
    };
    let shares = weights(&[(OLD, 100), (NEW, 0)]);
    let body = owned::route(&target(), Some(&content(false)), None, &shares, Some(&preview)).unwrap();
    let header = json!({"type": "Exact", "name": "x-canary", "value": "1"});
    assert_eq!(
        body["spec"]["rules"][2]["matches"],
        json!([{"headers": [header]}, {"method": "GET", "headers": [header]}]),
        "the Gateway API prefers a rule with a method to one with headers"
    );
}

#[test]
fn a_rule_in_a_new_place_waits_until_the_router_knows_it() {
    let target = target();
    let shares = weights(&[(OLD, 100), (NEW, 0)]);
    let plain = owned::route(&target, Some(&content(false)), None, &shares, None).unwrap();
    let preview = Preview {
        revision: Revision::from(NEW),
        headers: Vec::new(),
        mirror: Some(Mirror {
            percent: 20,
            methods: vec!["GET".to_owned()],
        }),
        kept: None,
    };
    let wanted = |live: &Value| {
        owned::route(
            &target,
            Some(&content(false)),
            Some(&self::live(live)),
            &shares,
            Some(&preview),
        )
    };
    let mut first = wanted(&plain).unwrap();
    assert!(owned::hold_back(&mut first, &live(&plain)));
    assert_eq!(
        first["spec"]["rules"][1]["backendRefs"],
        plain["spec"]["rules"][0]["backendRefs"]
    );
    let held = live(&first);
    assert!(owned::holds_back(&held));
    assert_eq!(owned::preview("checkout", &held), None, "nobody is copied yet");
    assert_eq!(first["spec"]["rules"][0], plain["spec"]["rules"][0]);

    let mut second = wanted(&first).unwrap();
    assert!(!owned::hold_back(&mut second, &held));
    assert_eq!(owned::preview("checkout", &live(&second)), Some(preview.clone()));

    // What heals the route meanwhile leaves it alone.
    let mut healed = owned::route(&target, Some(&content(false)), Some(&held), &shares, None).unwrap();
    owned::keep_held_back(&mut healed, &held);
    assert_eq!(healed["spec"]["rules"].as_array().map(Vec::len), Some(2));
    assert!(is_subset(
        &healed["spec"],
        &serde_json::to_value(&held.spec).unwrap()
    ));
}

#[test]
fn a_group_is_told_which_revision_a_request_went_to_and_each_keeps_to_its_own() {
    let mut target = target();
    target.mark = Some(crate::traffic::Mark {
        header: "x-molt-group".to_owned(),
        canary: Some(Revision::from(NEW)),
    });
    let says = |value: &str| {
        vec![HeaderMatch {
            header: "x-molt-group".to_owned(),
            value: HeaderValue::Exact(value.to_owned()),
        }]
    };
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
    for named in [false, true] {
        let body = owned::route(&target, Some(&content(named)), None, &shares, Some(&preview)).unwrap();
        let route = live(&body);
        assert_eq!(
            owned::preview("checkout", &route),
            Some(preview.clone()),
            "{body:#}"
        );
        let rules = body["spec"]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 3);
        for backend in rules
            .iter()
            .flat_map(|rule| rule["backendRefs"].as_array().unwrap())
        {
            let set = &backend["filters"][0]["requestHeaderModifier"]["set"][usize::from(named)];
            let is_new = backend["name"] == format!("checkout-{NEW}");
            let value = if is_new { "canary" } else { "stable" };
            assert_eq!(*set, json!({"name": "x-molt-group", "value": value}));
        }
        // What is written of it while the spec can't be used goes by what the route says.
        let kept = owned::route(&target, None, Some(&route), &shares, Some(&preview)).unwrap();
        assert_eq!(kept["spec"]["rules"], body["spec"]["rules"]);
    }
}

#[test]
fn a_mesh_has_the_service_itself_as_a_parent_once() {
    let gateway: ParentRef = serde_json::from_value(json!({"name": "public"})).unwrap();
    let own: ParentRef =
        serde_json::from_value(json!({"group": "", "kind": "Service", "name": "checkout"})).unwrap();
    let parents = |parents: &[&ParentRef], mesh| {
        let content = OwnedRoute {
            parents: parents.iter().copied().cloned().collect(),
            mesh,
            ..content(false)
        };
        let one = weights(&[(OLD, 100)]);
        let body = owned::route(&target(), Some(&content), None, &one, None).unwrap();
        body["spec"]["parentRefs"].clone()
    };
    let both = json!([{"name": "public"}, {"group": "", "kind": "Service", "name": "checkout"}]);
    assert_eq!(parents(&[&gateway], true), both);
    assert_eq!(parents(&[&gateway, &own], true), both);
    assert_eq!(parents(&[&gateway], false), json!([{"name": "public"}]));
}

#[test]
fn both_the_gateway_and_the_mesh_have_to_answer() {
    let answer = |parent: Value| {
        let condition = |kind: &str| {
            json!({"type": kind, "status": "True", "reason": kind, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2})
        };
        let conditions = [condition("Accepted"), condition("ResolvedRefs")];
        json!({"parentRef": parent, "controllerName": "example.com/any", "conditions": conditions})
    };
    let route = |answers: Value| {
        live(&json!({
            "metadata": {"name": "checkout", "namespace": "shop", "generation": 2},
            "spec": {"parentRefs": [{"name": "public"}, {"group": "", "kind": "Service", "name": "checkout"}]},
            "status": {"parents": answers},
        }))
    };
    let gateway = answer(json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}));
    let mesh = answer(json!({"group": "", "kind": "Service", "name": "checkout", "namespace": "shop"}));
    assert!(!view::acknowledged(&route(json!([gateway]))));
    assert!(!view::acknowledged(&route(json!([mesh]))));
    assert!(view::acknowledged(&route(json!([gateway, mesh]))));
    let mut owned = route(json!([gateway]));
    owned.metadata.owner_references = serde_json::from_value(json!([
        {"apiVersion": "molt.dev/v1alpha1", "kind": "PythonService", "name": "checkout", "uid": "u", "controller": true},
    ]))
    .unwrap();
    let silent = view::owned(&HTTP_ROUTE, "checkout", "u", Some(&owned)).unanswered;
    assert_eq!(
        silent.as_deref(),
        Some(
            "no controller has answered for Service shop/checkout: is there a mesh that takes routes with a Service as parent?"
        )
    );
}

#[test]
fn sessions_are_in_every_rule_of_users_and_in_none_of_testers() {
    let sticky = OwnedRoute {
        sessions: Some(Sessions {
            cookie: "molt".to_owned(),
            max_age: Some("1h".to_owned()),
        }),
        ..content(false)
    };
    let preview = Preview {
        revision: Revision::from(NEW),
        headers: vec![vec![HeaderMatch {
            header: "x-canary".to_owned(),
            value: HeaderValue::Exact("1".to_owned()),
        }]],
        mirror: Some(Mirror {
            percent: 20,
            methods: vec!["GET".to_owned()],
        }),
        kept: None,
    };
    let both = weights(&[(OLD, 95), (NEW, 5)]);
    let body = owned::route(&target(), Some(&sticky), None, &both, Some(&preview)).unwrap();
    let persistence = json!({
        "sessionName": "molt", "type": "Cookie", "absoluteTimeout": "1h",
        "cookieConfig": {"lifetimeType": "Permanent"},
    });
    let of = |body: &Value, rule: usize| body["spec"]["rules"][rule]["sessionPersistence"].clone();
    assert_eq!(
        [of(&body, 0), of(&body, 1)],
        [persistence.clone(), persistence.clone()]
    );
    assert_eq!(of(&body, 2), Value::Null);
    // A spec that can't be used changes nothing of it, and one without takes it away.
    let kept = owned::route(&target(), None, Some(&live(&body)), &both, None).unwrap();
    assert_eq!(of(&kept, 0), persistence);
    let gone = owned::route(&target(), Some(&content(false)), Some(&live(&body)), &both, None).unwrap();
    assert_eq!(of(&gone, 0), Value::Null);
    assert_eq!(
        owned::persistence(&OwnedRoute {
            sessions: Some(Sessions {
                cookie: "molt".to_owned(),
                max_age: None
            }),
            ..content(false)
        }),
        Some(json!({"sessionName": "molt", "type": "Cookie"}))
    );
}

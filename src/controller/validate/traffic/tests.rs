use molt_core::plan::RouteMode;
use serde_json::{Value, json};

use super::*;
use crate::controller::object::tests::changed;
use crate::controller::validate::{Defaults, Validated, validate};

fn of(traffic: Value, change: impl FnOnce(&mut Value), known: Known) -> Validated {
    let object = changed(|o| {
        o["spec"]["traffic"] = traffic;
        change(o);
    });
    validate(&object, &Defaults::default(), known)
}

fn errors(traffic: Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let validated = of(traffic, change, Known::default());
    assert_eq!(
        validated.plan.revision.is_none(),
        !validated.errors.is_empty(),
        "what is wrong starts nothing"
    );
    validated.errors.iter().map(ToString::to_string).collect()
}

fn istio() -> Value {
    json!({"istio": {"hosts": ["shop.example.com"], "gateways": ["istio-ingress/public"]}})
}

#[test]
fn a_virtual_service_is_molts_or_the_users() {
    let owned = of(istio(), |_| (), Known::default());
    assert_eq!((owned.errors.len(), owned.plan.route), (0, RouteMode::Owned));
    let content = OwnedVirtualService {
        hosts: vec!["shop.example.com".to_owned()],
        gateways: vec!["istio-ingress/public".to_owned()],
    };
    let whose = Whose::Molts(Some(content));
    assert_eq!(owned.route, RouteSpec::Istio { whose, delay: DELAY });
    let own = json!({"istio": {"virtualServiceRef": {"name": "front"}, "propagationDelay": "3s"}});
    let users = of(own, |_| (), Known::default());
    assert_eq!((users.errors.len(), users.plan.route), (0, RouteMode::Adopted));
    let delay = SignedDuration::from_secs(3);
    let whose = Whose::Users("front".to_owned());
    assert_eq!(users.route, RouteSpec::Istio { whose, delay });
    assert_eq!(users.route.name("checkout"), "front");
}

#[test]
fn what_contradicts_itself_is_said_and_what_molt_has_made_is_kept() {
    for (traffic, error) in [
        (
            json!({}),
            "spec.traffic: has none of gatewayAPI, istio and none: set gatewayAPI",
        ),
        (
            json!({"istio": {"hosts": ["a"]}, "none": {}}),
            "spec.traffic: has istio and none: set gatewayAPI",
        ),
        (
            json!({"istio": {}}),
            "spec.traffic.istio: has neither hosts nor virtualServiceRef: set hosts",
        ),
        (
            json!({"istio": {"hosts": ["a"], "virtualServiceRef": {"name": "front"}}}),
            "spec.traffic.istio: has both hosts and virtualServiceRef: set hosts",
        ),
        (
            json!({"istio": {"hosts": []}}),
            "spec.traffic.istio.hosts: is empty: name at least one host",
        ),
        (
            json!({"istio": {"virtualServiceRef": {"name": "front"}, "gateways": ["mesh"]}}),
            "spec.traffic.istio.gateways: belong to a VirtualService that Molt creates",
        ),
        (
            json!({"istio": {"hosts": ["*"]}}),
            "spec.traffic.istio.hosts: has *, which can't be asked for inside the mesh",
        ),
        (
            json!({"istio": {"hosts": ["a"], "propagationDelay": "10m"}}),
            "spec.traffic.istio.propagationDelay: must be shorter than spec.progressDeadline",
        ),
    ] {
        let errors = errors(traffic, |_| ());
        assert!(
            errors.len() == 1 && errors[0].starts_with(error),
            "{error}: {errors:?}"
        );
    }
    let known = Known {
        owned_virtual_service: true,
        ..Known::default()
    };
    let kept = RouteSpec::Istio {
        whose: Whose::Molts(None),
        delay: DELAY,
    };
    assert_eq!(of(json!({}), |_| (), known).route, kept);
    let both = json!({"istio": {"hosts": ["a"], "virtualServiceRef": {"name": "front"}}});
    assert_eq!(of(both, |_| (), known).route, kept);
}

#[test]
fn of_what_is_counted_at_the_route_istios_own_is_left() {
    let by = |preset: &'static str| {
        move |o: &mut Value| o["spec"]["slos"][0]["sli"] = json!({"preset": preset, "type": "availability"})
    };
    for preset in ["envoy-gateway", "linkerd-outbound"] {
        let errors = errors(istio(), by(preset));
        let said = "spec.slos[0].sli.preset: is counted by other proxies than Istio's";
        assert!(errors.len() == 1 && errors[0].starts_with(said), "{errors:?}");
    }
    for preset in ["istio-gateway", "istio", "otel"] {
        assert_eq!(errors(istio(), by(preset)), Vec::<String>::new(), "{preset}");
    }
}

#[test]
fn headers_are_in_the_order_in_which_they_are_read_back_and_none_is_there_twice() {
    let with = |matches: Value| {
        move |o: &mut Value| {
            o["spec"]["strategy"] =
                json!({"canary": {"steps": [{"setHeaderRoute": {"name": "a", "match": matches}}]}});
        }
    };
    let two = json!([{"headerName": "x-a", "exact": "1"}, {"cookieName": "beta", "exact": "yes"}]);
    let names = |traffic: Value| {
        let steps = of(traffic, with(two.clone()), Known::default()).plan.steps;
        let [Step::SetHeaderRoute { matches, .. }] = steps.as_slice() else {
            panic!("{steps:?}");
        };
        matches.iter().map(|m| m.header.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(istio()), ["cookie", "x-a"]);
    assert_eq!(
        names(json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}})),
        ["x-a", "cookie"]
    );

    let twice = json!([{"cookieName": "a", "exact": "1"}, {"cookieName": "b", "exact": "1"}]);
    let errors = errors(istio(), with(twice));
    let said = "spec.strategy.canary.steps[0].setHeaderRoute.match: matches the header cookie twice";
    assert!(errors.len() == 1 && errors[0].starts_with(said), "{errors:?}");
}

#[test]
fn grpc_has_routes_of_its_own_and_nothing_that_it_would_be_blind_to() {
    let counted = |o: &mut Value| {
        o["spec"]["protocol"] = json!("GRPC");
        o["spec"]["slos"][0]["sli"] = json!({"counters": {"bad": "failed_total", "total": "handled_total"}});
    };
    let parents = json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}});
    let owned = of(parents.clone(), counted, Known::default());
    assert_eq!(
        (owned.errors.as_slice(), owned.route.kind()),
        (&[][..], "GRPCRoute")
    );
    let own = json!({"gatewayAPI": {"grpcRouteRef": {"name": "front"}}});
    let users = of(own.clone(), counted, Known::default());
    assert_eq!(
        (users.errors.as_slice(), users.route.kind()),
        (&[][..], "GRPCRoute")
    );
    assert_eq!(users.plan.route, RouteMode::Adopted);

    let with = |change: fn(&mut Value)| {
        move |o: &mut Value| {
            counted(o);
            change(o);
        }
    };
    let by_preset = with(|o| o["spec"]["slos"][0]["sli"] = json!({"preset": "otel", "type": "availability"}));
    let copied =
        with(|o| o["spec"]["strategy"] = json!({"canary": {"steps": [{"setMirror": {"percent": 5}}]}}));
    for (errors, said) in [
        (
            errors(own, |_| ()),
            "spec.traffic.gatewayAPI.grpcRouteRef: names a GRPCRoute: set spec.protocol",
        ),
        (
            errors(
                json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}}),
                counted,
            ),
            "spec.traffic.gatewayAPI.httpRouteRef: names an HTTPRoute, and spec.protocol is GRPC",
        ),
        (
            errors(parents.clone(), by_preset),
            "spec.slos[0].sli.preset: counts HTTP requests",
        ),
        (
            errors(parents, copied),
            "spec.strategy: asks for a mirror, and each gRPC call is a POST",
        ),
    ] {
        assert!(
            errors.len() == 1 && errors[0].starts_with(said),
            "{said}: {errors:?}"
        );
    }
    let known = Known {
        owned_grpc_route: true,
        ..Known::default()
    };
    assert_eq!(
        of(json!({}), |_| (), known).route.kind(),
        "GRPCRoute",
        "what Molt has made is kept"
    );
}

fn gateway(more: &Value) -> Value {
    let mut traffic = json!({"gatewayAPI": {"parentRefs": [{"name": "public"}]}});
    for (name, value) in more.as_object().unwrap() {
        traffic["gatewayAPI"][name] = value.clone();
    }
    traffic
}

#[test]
fn callers_inside_the_cluster_are_led_as_what_carries_the_traffic_can() {
    let with = |mut traffic: Value, in_cluster: &str| {
        traffic["inCluster"] = json!(in_cluster);
        traffic
    };
    let users = || json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}}});
    let path = "spec.traffic.inCluster: ";
    for (traffic, in_cluster, error) in [
        (
            users(),
            "Mesh",
            "is Mesh, which takes a route that Molt owns: write the parent",
        ),
        (
            istio(),
            "Mesh",
            "is Mesh, which takes a route of the Gateway API: name the host",
        ),
        (json!({"none": {}}), "Mesh", "is Mesh, which takes a route: set"),
        (json!({"none": {}}), "Stable", "can't be Stable without a router"),
    ] {
        let errors = errors(with(traffic, in_cluster), |_| ());
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("{path}{error}")),
            "{error}: {errors:?}"
        );
    }
    for (traffic, in_cluster, shared) in [
        (gateway(&json!({})), "Stable", false),
        (gateway(&json!({})), "Mesh", false),
        (gateway(&json!({})), "ReplicaShare", true),
        (users(), "ReplicaShare", true),
        (istio(), "ReplicaShare", true),
        (json!({"none": {}}), "ReplicaShare", false),
    ] {
        let validated = of(with(traffic, in_cluster), |_| (), Known::default());
        assert_eq!(validated.errors, []);
        assert_eq!(validated.plan.shared_in_cluster, shared, "{in_cluster}");
    }
    let mesh = of(with(gateway(&json!({})), "Mesh"), |_| (), Known::default()).route;
    let RouteSpec::Owned { content, .. } = mesh else {
        panic!("{mesh:?}");
    };
    assert!(content.unwrap().mesh);
}

#[test]
fn who_comes_past_the_route_is_no_part_of_a_weight_where_pods_are_counted() {
    let policy = |preset: &'static str, in_cluster: &str| {
        let mut traffic = gateway(&json!({}));
        traffic["inCluster"] = json!(in_cluster);
        let by =
            |o: &mut Value| o["spec"]["slos"][0]["sli"] = json!({"preset": preset, "type": "availability"});
        of(traffic, by, Known::default()).plan.on_share_mismatch
    };
    assert_eq!(policy("otel", "ReplicaShare"), OnShareMismatch::Ignore);
    assert_eq!(policy("envoy-gateway", "ReplicaShare"), OnShareMismatch::Hold);
    assert_eq!(policy("otel", "Mesh"), OnShareMismatch::Hold);
}

#[test]
fn a_parent_may_be_a_service_of_a_mesh() {
    let parents = |parents: Value| {
        let validated = of(gateway(&json!({"parentRefs": parents})), |_| (), Known::default());
        let RouteSpec::Owned { content, .. } = validated.route else {
            panic!("it is Molt's");
        };
        let errors: Vec<String> = validated.errors.iter().map(ToString::to_string).collect();
        (json!(content.unwrap().parents), errors)
    };
    let service = json!({"kind": "Service", "name": "checkout", "port": 8000});
    let whole = json!([{"group": "", "kind": "Service", "name": "checkout", "port": 8000}]);
    assert_eq!(parents(json!([service])), (whole.clone(), vec![]));
    assert_eq!(parents(whole.clone()), (whole, vec![]));
    let (_, errors) = parents(json!([{"group": "", "name": "public"}]));
    assert_eq!(
        errors,
        ["spec.traffic.gatewayAPI.parentRefs[0].group: is not that of its kind: leave it out"]
    );
}

#[test]
fn users_stay_on_a_revision_where_the_cluster_can_keep_them() {
    let affinity = || gateway(&json!({"sessionAffinity": {"cookieName": "molt", "maxAge": "1h"}}));
    let given = |sessions| {
        let known = Known {
            sessions,
            ..Known::default()
        };
        let validated = of(affinity(), |_| (), known);
        let content = match &validated.route {
            RouteSpec::Owned { content, .. } => content.clone(),
            other => panic!("{other:?}"),
        };
        let reason = validated
            .problem()
            .map(|problem| (problem.reason, problem.message));
        (validated.plan.sticky, content.map(|c| c.sessions), reason)
    };
    let kept = Sessions {
        cookie: "molt".to_owned(),
        max_age: Some("1h".to_owned()),
    };
    for support in [Support::Unasked, Support::Kept] {
        assert_eq!(given(support), (true, Some(Some(kept.clone())), None));
    }
    let (_, content, problem) = given(Support::Dropped);
    let (reason, message) = problem.unwrap();
    assert_eq!(
        (content, reason.as_str()),
        (Some(None), "SessionAffinityUnsupported")
    );
    assert!(
        message.contains("spec.traffic.gatewayAPI.sessionAffinity")
            && message.contains("experimental channel")
    );
    let (_, content, problem) = given(Support::Unknown);
    assert_eq!(content, None, "what is there stays as it is");
    assert_eq!(problem.unwrap().0, "SessionAffinityUnsupported");

    let grpc = |o: &mut Value| {
        o["spec"]["protocol"] = json!("GRPC");
        o["spec"]["slos"][0]["sli"] = json!({"counters": {"bad": "b", "total": "t"}});
    };
    let by_cluster = |o: &mut Value| {
        o["spec"]["slos"][0]["sli"] = json!({"preset": "envoy-gateway", "type": "availability"});
    };
    let apart = errors(affinity(), by_cluster);
    let said = "spec.slos[0].sli.preset: is counted by a cluster of Envoy's for each revision";
    assert!(apart.len() == 1 && apart[0].starts_with(said), "{apart:?}");
    let path = "spec.traffic.gatewayAPI.sessionAffinity";
    for (errors, said) in [
        (
            errors(
                json!({"gatewayAPI": {"httpRouteRef": {"name": "front"}, "sessionAffinity": {"cookieName": "molt"}}}),
                |_| (),
            ),
            ": belongs to a route that Molt creates",
        ),
        (
            errors(affinity(), grpc),
            ": is kept by a cookie, and clients of gRPC keep none",
        ),
        (
            errors(
                gateway(&json!({"sessionAffinity": {"cookieName": "a b"}})),
                |_| (),
            ),
            ".cookieName: must have 1 to 128 letters",
        ),
        (
            errors(
                gateway(&json!({"sessionAffinity": {"cookieName": "a", "maxAge": "0s"}})),
                |_| (),
            ),
            ".maxAge: \"0s\" is too short",
        ),
    ] {
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("{path}{said}")),
            "{said}: {errors:?}"
        );
    }
}

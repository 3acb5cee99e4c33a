use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::PythonServiceSpec;

fn files(text: &str) -> Vec<(String, String)> {
    vec![("in.yaml".to_owned(), text.to_owned())]
}

fn imported(text: &str) -> Imported {
    convert(&files(text)).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn error(text: &str) -> String {
    let wrong = convert(&files(text)).unwrap_err();
    wrong
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

const ARGO: &str = include_str!("fixtures/argo.yaml");
const FLAGGER: &str = include_str!("fixtures/flagger.yaml");
const ARGO_ISTIO: &str = include_str!("fixtures/argo-istio.yaml");
const FLAGGER_ISTIO: &str = include_str!("fixtures/flagger-istio.yaml");
const DEPLOYMENT: &str = include_str!("fixtures/deployment.yaml");

#[test]
fn a_rollout_of_argo_is_carried_over_with_a_note_of_all_that_is_not_the_same() {
    insta_like(ARGO, include_str!("fixtures/argo.out.yaml"));
}

#[test]
fn a_canary_of_flagger_is_carried_over_with_its_objectives() {
    insta_like(FLAGGER, include_str!("fixtures/flagger.out.yaml"));
}

#[test]
fn a_deployment_is_carried_over_and_a_worker_is_told() {
    insta_like(DEPLOYMENT, include_str!("fixtures/deployment.out.yaml"));
    let told = imported(DEPLOYMENT).told.join("\n");
    assert!(
        told.contains("document 2: items[1]: Deployment/worker: passed over: it has no port"),
        "{told}"
    );
    assert!(told.contains("ConfigMap/settings: passed over"), "{told}");
}

fn traffic(made: &Imported) -> Value {
    made.services[0].object["spec"]["traffic"].clone()
}

#[test]
fn a_plain_virtual_service_of_argo_is_made_anew_and_another_one_stays_the_users() {
    let made = imported(ARGO_ISTIO);
    let owned = json!({"istio": {"hosts": ["shop.example.com"], "gateways": ["istio-ingress/public"]}});
    assert_eq!(traffic(&made), owned);
    sound(&made, &made.yaml().unwrap());
    let told = made.told.join("\n");
    for line in [
        "approximated: VirtualService/front: Molt makes a VirtualService of its own",
        "not carried over: DestinationRule/shop: each revision has a Service of its own in place of a subset",
        "not carried over: spec.strategy.canary.trafficRouting.istio.virtualServices[0].routes: Molt changes the weights in every rule",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    // One piece of advice for each, not two that contradict each other.
    assert!(!told.contains("VirtualService/front: passed over"), "{told}");
    let steps = &made.services[0].object["spec"]["strategy"]["canary"]["steps"];
    assert_eq!(
        steps[0]["setHeaderRoute"]["name"], "testers",
        "the route is Molt's"
    );

    let kept = json!({"istio": {"virtualServiceRef": {"name": "front"}}});
    for other in [
        ARGO_ISTIO.replace("- name: primary", "- name: primary\n    timeout: 5s"),
        // It is not in the files.
        ARGO_ISTIO.replace("{name: front, namespace: shop}", "{name: other, namespace: shop}"),
        ARGO_ISTIO.replace(
            "gateways: [istio-ingress/public]",
            "gateways: [mesh]\n  exportTo: [\".\"]",
        ),
    ] {
        let made = imported(&other);
        assert_eq!(traffic(&made), kept);
        sound(&made, &made.yaml().unwrap());
        let told = made.told.join("\n");
        assert!(
            told.contains("VirtualService/front: stays yours: name the hosts <service>-stable"),
            "{told}"
        );
        assert!(
            told.contains("setHeaderRoute: needs a route that Molt owns"),
            "{told}"
        );
    }
}

#[test]
fn flaggers_confirmations_are_steps_that_wait_for_a_person() {
    let steps = |kinds: &[&str], analysis: &str| {
        let hooks: Vec<_> = kinds
            .iter()
            .map(|kind| format!("{{name: gate, type: {kind}, url: \"http://gate/\", timeout: 5s}}"))
            .collect();
        let text = FLAGGER
            .replace(
                "webhooks: [{name: load, url: \"http://loadtester/\"}]",
                &format!("webhooks: [{}]", hooks.join(", ")),
            )
            .replace("    stepWeight: 1\n    maxWeight: 50\n", analysis);
        let made = imported(&text);
        sound(&made, &made.yaml().unwrap());
        let strategy = &made.services[0].object["spec"]["strategy"];
        let steps = strategy["canary"]["steps"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let words: Vec<String> = steps
            .iter()
            .map(
                |step| match (step.get("setWeight"), step.pointer("/pause/duration")) {
                    (Some(weight), _) => weight.to_string(),
                    (_, Some(_)) => "dwell".to_owned(),
                    _ if step.get("pause").is_some() => "person".to_owned(),
                    _ => "headers".to_owned(),
                },
            )
            .collect();
        (words.join(" "), strategy.clone(), made.told.join("\n"))
    };
    let weights = "    stepWeights: [5, 20]\n";
    let (words, _, told) = steps(
        &["confirm-rollout", "confirm-promotion", "load", "rollback"],
        weights,
    );
    assert_eq!(words, "person 5 dwell 20 dwell person");
    for line in [
        "approximated: spec.analysis.webhooks[0] (confirm-rollout, gate): a person says it here: a step `pause: {}` before the first weight",
        "approximated: spec.analysis.webhooks[1] (confirm-promotion, gate): a person says it here: a step `pause: {}` after the last weight",
        "not carried over: spec.analysis.webhooks[2] (load, gate): what a webhook checks",
        "not carried over: spec.analysis.webhooks[3] (rollback, gate): `kubectl molt abort`",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let (words, ..) = steps(&["confirm-traffic-increase", "confirm-rollout"], weights);
    assert_eq!(words, "person 5 person 20 dwell");
    // All fit, with as many weights as there can be.
    let all = ["confirm-rollout", "confirm-traffic-increase", "confirm-promotion"];
    let (words, _, told) = steps(&all, "    stepWeight: 1\n    maxWeight: 50\n");
    assert!(
        words.starts_with("person 1 person ") && words.ends_with(" 50 dwell person"),
        "{words}"
    );
    assert!(!told.contains("at most 40 steps"), "{told}");
    // Without weights: around the test by headers, and before all users move.
    let headers = "    iterations: 10\n    match: [{headers: {x-test: {exact: \"1\"}}}]\n";
    assert_eq!(steps(&all, headers).0, "person headers dwell person");
    let (words, strategy, _) = steps(&["confirm-promotion"], "    iterations: 10\n");
    assert_eq!(
        (words.as_str(), &strategy),
        ("", &json!({"blueGreen": {"autoPromotion": false}}))
    );
}

#[test]
fn subscriptions_of_argos_notifications_are_told_with_what_corresponds() {
    let (first, rest) = ARGO.split_once("\n---").unwrap_or((ARGO, ""));
    let mut document: Value = serde_saphyr::from_str(first).unwrap();
    document["metadata"]["annotations"] = json!({
        "notifications.argoproj.io/subscribe.on-rollout-aborted.slack": "shop-oncall",
        "notifications.argoproj.io/subscribe.on-rollout-completed.email": "a@example.com",
        "notifications.argoproj.io/subscriptions": "- trigger: [x]",
        "team": "shop",
    });
    let made = imported(&format!("{document}\n---{rest}"));
    let annotations = &made.services[0].object["metadata"]["annotations"];
    assert_eq!(annotations, &json!({"team": "shop"}));
    let told = made.told.join("\n");
    for line in [
        "subscribe.on-rollout-aborted.slack]: a NotificationPolicy in the namespace tells it (docs/notifications.md): events: [RolledBack, Aborted]; sink for shop-oncall: slack: {urlFrom}",
        "subscribe.on-rollout-completed.email]: a NotificationPolicy in the namespace tells it (docs/notifications.md): events: [Promoted]; sink for a@example.com: no sink sends mail",
        "subscriptions]: a NotificationPolicy in the namespace tells it (docs/notifications.md): a sink for each place",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn a_canary_of_flagger_by_istio_gets_the_hosts_that_flagger_would_ask_for() {
    let made = imported(FLAGGER_ISTIO);
    let istio = |hosts: &[&str], gateways: &[&str]| json!({"istio": {"hosts": hosts, "gateways": gateways}});
    let gateways = ["istio-ingress/public", "mesh"];
    assert_eq!(traffic(&made), istio(&["cart.example.com", "cart"], &gateways));
    sound(&made, &made.yaml().unwrap());
    let slo = &made.services[0].object["spec"]["slos"][0]["sli"]["preset"];
    assert_eq!(slo, "istio");
    let told = made.told.join("\n");
    assert!(
        told.contains("sessionAffinity: takes a route of the Gateway API that Molt owns"),
        "{told}"
    );
    let any = imported(&FLAGGER_ISTIO.replace("[cart.example.com]", "[\"*\"]"));
    assert_eq!(traffic(&any), json!({"istio": {"hosts": ["cart"]}}));
    assert!(any.told.join("\n").contains("* only at gateways other than mesh"));
    let mesh = imported(&FLAGGER_ISTIO.replace("    gateways: [istio-ingress/public, mesh]\n", ""));
    assert_eq!(
        traffic(&mesh),
        json!({"istio": {"hosts": ["cart.example.com", "cart"]}})
    );
}

#[test]
fn a_rollout_of_argo_without_a_router_goes_on_by_its_pods() {
    let template = "metadata: {labels: {app: shop}}, spec: {containers: [{name: app, image: \"shop:1\", ports: [{containerPort: 8000}]}]}";
    let rollout = |spec: &str| {
        format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: shop}}\nspec: {{{spec}}}\n"
        )
    };
    let steps = "steps: [{setWeight: 20}, {pause: {}}]";
    let own = format!("template: {{{template}}}");
    let plain = imported(&rollout(&format!("strategy: {{canary: {{{steps}}}}}, {own}")));
    assert_eq!(traffic(&plain), json!({"none": {}}));
    sound(&plain, &plain.yaml().unwrap());
    let told = plain.told.join("\n");
    assert!(
        told.contains("approximated: spec.traffic.none: there is no trafficRouting"),
        "{told}"
    );
    for other in [
        format!(
            "strategy: {{canary: {{{steps}, trafficRouting: {{nginx: {{stableIngress: shop}}}}}}}}, {own}"
        ),
        format!("strategy: {{blueGreen: {{activeService: shop-active}}}}, {own}"),
    ] {
        let made = imported(&rollout(&other));
        assert!(
            made.told.join("\n").contains("PLACEHOLDER: no Gateway is known"),
            "{other}"
        );
    }

    let deployment = format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: old}}\nspec: {{template: {{{template}}}}}\n"
    );
    let named = format!(
        "strategy: {{canary: {{{steps}}}}}, workloadRef: {{apiVersion: apps/v1, kind: Deployment, name: old, scaleDown: onsuccess}}"
    );
    let told = imported(&(rollout(&named) + &deployment)).told.join("\n");
    for line in [
        "approximated: spec.workloadRef: the template of Deployment/old was copied",
        "not carried over: spec.workloadRef.scaleDown: onsuccess",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn session_affinity_of_flagger_is_carried_over_where_it_can_be_kept() {
    let plain = FLAGGER
        .replace(
            "    - name: request-success-rate\n      thresholdRange: {min: 99}\n      interval: 1m\n",
            "",
        )
        .replace(
            "    - name: request-duration\n      thresholdRange: {max: 500}\n",
            "",
        );
    let made = imported(&plain);
    assert_eq!(
        traffic(&made)["gatewayAPI"]["sessionAffinity"],
        json!({"cookieName": "flagger-cookie", "maxAge": "24h"})
    );
    sound(&made, &made.yaml().unwrap());
    let beside = imported(FLAGGER);
    assert_eq!(traffic(&beside)["gatewayAPI"]["sessionAffinity"], Value::Null);
    assert!(
        beside
            .told
            .join("\n")
            .contains("no session lasts beside objectives by envoy-gateway")
    );
}

fn insta_like(input: &str, expected: &str) {
    let made = imported(input);
    let yaml = made.yaml().unwrap();
    assert_eq!(yaml, expected);
    assert_eq!(imported(input).yaml().unwrap(), yaml, "it is the same each time");
    sound(&made, &yaml);
}

/// What comes out is read again as it was made, has only fields that there are, and is valid. (`finish` would have
/// refused it otherwise: `validate` is asked there.)
fn sound(made: &Imported, yaml: &str) {
    let read: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    assert_eq!(read.len(), made.services.len());
    for (read, service) in read.iter().zip(&made.services) {
        assert_eq!(*read, service.object);
        let spec: PythonServiceSpec = serde_json::from_value(read["spec"].clone()).unwrap();
        let mut again = serde_json::to_value(&spec).unwrap();
        let mut written = read["spec"].clone();
        // The pod templates are Kubernetes' own, of whatever version.
        for spec in [&mut again, &mut written] {
            spec["template"] = Value::Null;
            let conditions = spec
                .pointer_mut("/guards/conditions")
                .and_then(Value::as_array_mut);
            for condition in conditions.into_iter().flatten() {
                if let Some(template) = condition.pointer_mut("/job/template") {
                    *template = Value::Null;
                }
            }
        }
        assert_eq!(again, written);
        fits(&schema()["properties"]["spec"], &written, "spec");
        let manifest =
            crate::plugin::manifest::Manifest::parse(&serde_json::to_string(read).unwrap(), None, None);
        assert!(manifest.is_ok(), "{manifest:?}");
    }
}

/// The schema that the API server would ask.
fn schema() -> &'static Value {
    static SCHEMA: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| {
        let mut crds = crate::api::crds::all().into_iter();
        let crd = crds.find(|crd| crd.spec.names.kind == "PythonService").unwrap();
        serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()
    });
    &SCHEMA
}

/// Types, lengths, ranges, enums and required fields; patterns and rules are asked of a real API server by
/// `what_is_imported_is_taken_by_the_api_server`.
fn fits(schema: &Value, value: &Value, path: &str) {
    let number = |name: &str| schema[name].as_f64();
    match value {
        // Taken out above.
        Value::Null => {}
        Value::Object(fields) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    fields.contains_key(required.as_str().unwrap()),
                    "{path}.{required}"
                );
            }
            for (name, value) in fields {
                let of = schema["properties"]
                    .get(name)
                    .unwrap_or(&schema["additionalProperties"]);
                assert!(of.is_object(), "{path}.{name} is no field");
                fits(of, value, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => {
            assert!(
                number("maxItems").is_none_or(|most| items.len() as f64 <= most),
                "{path}: {}",
                items.len()
            );
            for item in items {
                fits(&schema["items"], item, path);
            }
        }
        Value::String(text) => {
            let either = schema["x-kubernetes-int-or-string"] == true;
            assert!(either || schema["type"] == "string", "{path}");
            let length = text.chars().count() as f64;
            assert!(
                number("maxLength").is_none_or(|most| length <= most),
                "{path}: {text}"
            );
            assert!(
                number("minLength").is_none_or(|least| length >= least),
                "{path}: {text}"
            );
            let allowed = schema["enum"].as_array();
            assert!(allowed.is_none_or(|all| all.contains(value)), "{path}: {text}");
        }
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            assert!(number("maximum").is_none_or(|most| n <= most), "{path}: {n}");
            assert!(number("minimum").is_none_or(|least| n >= least), "{path}: {n}");
        }
        Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{path}"),
    }
}

#[test]
fn what_can_not_be_read_is_named_by_file_document_and_field() {
    for (from, to, expected) in [
        (
            "replicas: 4",
            "replicas: many",
            "in.yaml: document 1: Rollout/checkout: spec.replicas: has \"many\", and wants a number",
        ),
        (
            "duration: 90",
            "duration: soon",
            "in.yaml: document 1: Rollout/checkout: spec.strategy.canary.steps[1].pause.duration: \"soon\" is no duration",
        ),
        (
            "setWeight: 50",
            "setWeight: [50]",
            "spec.strategy.canary.steps[3].setWeight: has [50], and wants a number",
        ),
        (
            "name: checkout\n  namespace",
            "name: Checkout\n  namespace",
            "metadata.name: \"Checkout\" can't be part of every derived name",
        ),
        (
            "failureLimit: 2",
            "failureLimit: few",
            "AnalysisTemplate/quality spec.metrics[0].failureLimit: has \"few\"",
        ),
        (
            "kind: Rollout",
            "kind: ''",
            "in.yaml: document 1: has no apiVersion and kind",
        ),
    ] {
        let text = ARGO.replacen(from, to, 1);
        assert_ne!(text, ARGO, "{from}");
        let wrong = error(&text);
        assert!(wrong.contains(expected), "{expected} in {wrong}");
    }
    assert!(error("a: [").starts_with("in.yaml: is no YAML: "));
    assert!(error("- 1").contains("in.yaml: document 1: is no object"));
    let alone = FLAGGER.split("---").next().unwrap();
    assert!(error(alone).contains("Canary/cart: spec.targetRef: Deployment/cart is not in the files"));
}

#[test]
fn every_field_that_nobody_takes_is_told() {
    let strange = ARGO
        .replacen(
            "  minReadySeconds: 10",
            "  minReadySeconds: 10\n  shiny: {new: 1}",
            1,
        )
        .replacen("      maxSurge: 25%", "      maxSurge: 25%\n      hue: blue", 1)
        .replacen("    interval: 1m", "    interval: 1m\n    mood: good", 1)
        .replacen("- setCanaryScale: {weight: 30}", "- dance: {long: 1}", 1);
    let told = imported(&strange).told.join("\n");
    for field in [
        "spec.shiny: ",
        "spec.strategy.canary.hue: ",
        "spec.metrics[0].mood: ",
        "spec.strategy.canary.steps[2].dance: ",
    ] {
        assert!(told.contains(field), "{field} in\n{told}");
    }
}

#[test]
fn a_template_from_a_reference_and_blue_green_are_carried_over() {
    let text = "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: cart}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: cart}
  strategy: {blueGreen: {activeService: cart, autoPromotionEnabled: false, scaleDownDelaySeconds: 60}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec: {template: {spec: {containers: [{name: app, image: 'cart:1', ports: [{containerPort: 80}]}]}}}
";
    let made = imported(text);
    assert_eq!(made.services.len(), 1, "the Deployment is the Rollout's");
    let spec = &made.services[0].object["spec"];
    assert_eq!(spec["template"]["spec"]["containers"][0]["image"], "cart:1");
    assert_eq!(
        spec["strategy"],
        json!({"blueGreen": {"scaleDownDelay": "1m", "autoPromotion": false}})
    );
    let missing = error(text.split("---").next().unwrap());
    assert!(
        missing.contains("spec.workloadRef: Deployment/cart is not in the files"),
        "{missing}"
    );
}

/// Argo's steps that lead certain requests, or copies, to the canary.
const TESTERS: &str = "
      - setHeaderRoute: {name: Testers, match: [{headerName: x-canary, headerValue: {exact: '1'}}]}
      - setMirrorRoute: {name: copies, percentage: 35, match: [{method: {exact: POST}}]}
      - setMirrorRoute: {name: copies}
      - setHeaderRoute: {name: Testers}
      - setWeight: 50";

#[test]
fn header_routes_and_copies_of_argo_are_steps_of_a_route_that_molt_owns() {
    let text = ARGO.replacen("\n      - setWeight: 50", TESTERS, 1);
    let made = imported(&text);
    let steps = &made.services[0].object["spec"]["strategy"]["canary"]["steps"];
    assert_eq!(
        steps.as_array().unwrap()[3..8],
        [
            json!({"setHeaderRoute": {"name": "testers", "match": [{"headerName": "x-canary", "exact": "1"}]}}),
            json!({"setMirror": {"percent": 35, "methods": ["POST"]}}),
            json!({"setMirror": {"percent": 0}}),
            json!({"setHeaderRoute": {"name": "testers"}}),
            json!({"setWeight": 50}),
        ]
    );
    sound(&made, &made.yaml().unwrap());

    let users = imported(&text.replace("checkout-front", "checkout"));
    let steps = &users.services[0].object["spec"]["strategy"]["canary"]["steps"];
    assert_eq!(steps[3], json!({"setWeight": 50}), "the route is the user's");
    let told = users.told.join("\n");
    assert!(
        told.contains("steps[3].setHeaderRoute: needs a route that Molt owns"),
        "{told}"
    );
}

#[test]
fn tests_by_headers_and_copies_of_flagger_are_carried_over() {
    let weights = "stepWeight: 1\n    maxWeight: 50";
    let by_header = FLAGGER.replacen(
        weights,
        "iterations: 10\n    match:\n    - headers: {x-canary: {exact: insider}}\n    - headers: {cookie: {regex: '^(.*?;)?(canary=always)(;.*)?$'}}",
        1,
    );
    let made = imported(&by_header);
    let strategy = |made: &Imported| made.services[0].object["spec"]["strategy"].clone();
    assert_eq!(
        strategy(&made)["canary"]["steps"],
        json!([
            {"setHeaderRoute": {"name": "ab-1", "match": [{"headerName": "x-canary", "exact": "insider"}]}},
            {"setHeaderRoute": {"name": "ab-2", "match": [{"headerName": "cookie", "regex": "^(.*?;)?(canary=always)(;.*)?$"}]}},
            {"pause": {"duration": "5m"}},
        ])
    );
    sound(&made, &made.yaml().unwrap());

    let copies = FLAGGER.replacen(
        weights,
        "stepWeights: [10]\n    mirror: true\n    mirrorWeight: 40",
        1,
    );
    assert_eq!(
        strategy(&imported(&copies))["canary"]["steps"],
        json!([
            {"setMirror": {"percent": 40}}, {"pause": {"duration": "30s"}}, {"setMirror": {"percent": 0}},
            {"setWeight": 10}, {"pause": {"duration": "30s"}},
        ])
    );

    let at_once = imported(&FLAGGER.replacen(weights, "iterations: 10", 1));
    assert_eq!(strategy(&at_once), json!({"blueGreen": {}}));
    assert!(
        at_once
            .told
            .join("\n")
            .contains("approximated: spec.analysis.iterations: 10 intervals")
    );
}

#[test]
fn a_route_of_the_services_name_stays_the_users_own() {
    let text = ARGO.replace("checkout-front", "checkout");
    let traffic = imported(&text).services[0].object["spec"]["traffic"].clone();
    assert_eq!(
        traffic,
        json!({"gatewayAPI": {"httpRouteRef": {"name": "checkout"}}})
    );
}

#[test]
fn a_comment_can_not_be_left() {
    let text = DEPLOYMENT.replacen(
        "strategy: {rollingUpdate",
        "\"evil\\nspec: {}\": 1\n  strategy: {rollingUpdate",
        1,
    );
    let made = imported(&text);
    sound(&made, &made.yaml().unwrap());
}

/// Any YAML, of words that the importer knows and of others.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        prop_oneof![Just(0.0), Just(1e300), Just(-1.5), Just(33.3)].prop_map(|n| json!(n)),
        "[a-z{}\\[\\].<>=$ 0-9\\n:#é-]{0,12}".prop_map(|s| json!(s)),
        prop_oneof![
            Just("30s"),
            Just("1h"),
            Just("result[0] > 1"),
            Just("{{args.a}}"),
            Just("checkout")
        ]
        .prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof![
            proptest::sample::select(vec![
                "steps",
                "setWeight",
                "pause",
                "duration",
                "canary",
                "blueGreen",
                "analysis",
                "templates",
                "templateName",
                "metrics",
                "name",
                "provider",
                "prometheus",
                "query",
                "web",
                "job",
                "spec",
                "template",
                "thresholdRange",
                "min",
                "max",
                "stepWeight",
                "stepWeights",
                "maxWeight",
                "interval",
                "service",
                "targetPort",
                "containers",
                "args",
                "value",
                "selector",
                "replicas",
                "trafficRouting",
                "plugins",
                "failureLimit",
                "labels",
                "metadata",
                "setHeaderRoute",
                "setMirrorRoute",
                "match",
                "headers",
                "headerName",
                "headerValue",
                "exact",
                "iterations",
                "mirror",
            ])
            .prop_map(str::to_owned),
            "[a-zA-Z./\\n -]{1,8}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((key, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Puts an odd value at some place of a document.
fn spoilt(mut document: Value, at: usize, odd: Value) -> Value {
    let mut pointers = vec![String::new()];
    let mut next = 0;
    while next < pointers.len() {
        let pointer = pointers[next].clone();
        next += 1;
        match document.pointer(&pointer) {
            Some(Value::Object(fields)) => {
                let escape = |key: &String| key.replace('~', "~0").replace('/', "~1");
                pointers.extend(fields.keys().map(|key| format!("{pointer}/{}", escape(key))));
            }
            Some(Value::Array(items)) => pointers.extend((0..items.len()).map(|i| format!("{pointer}/{i}"))),
            _ => {}
        }
    }
    if let Some(place) = document.pointer_mut(&pointers[at % pointers.len()]) {
        *place = odd;
    }
    document
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_written_is_imported_or_told(which in 0usize..5, document in 0usize..5, at in any::<usize>(), odd in odd()) {
        let text = [ARGO, FLAGGER, DEPLOYMENT, ARGO_ISTIO, FLAGGER_ISTIO][which];
        let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let index = document % documents.len();
        documents[index] = spoilt(documents[index].clone(), at, odd);
        let texts: Vec<String> = documents.iter().map(ToString::to_string).collect();
        let text = texts.join("\n---\n");
        match convert(&files(&text)) {
            Ok(made) => sound(&made, &made.yaml().unwrap()),
            Err(wrong) => prop_assert!(wrong.iter().all(|w| w.0.starts_with("in.yaml: ")), "{wrong:?}"),
        }
    }

    #[test]
    fn any_text_is_imported_or_told(text in "\\PC{0,200}") {
        let _ = convert(&files(&text));
    }
}

#[test]
fn metrics_of_a_dry_run_become_conditions_that_only_warn() {
    let rollout = "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: checkout, namespace: shop}
spec:
  template: {spec: {containers: [{name: app, image: 'shop/checkout:1', ports: [{containerPort: 8000}]}]}}
  strategy:
    canary:
      steps: [{setWeight: 50}]
      analysis:
        templates: [{templateName: quality}]
        dryRun: [{metricName: '^sm'}]
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {name: quality, namespace: shop}
spec:
  dryRun: [{metricName: queue.*}]
  metrics:
  - {name: errors, successCondition: 'result < 1', provider: {web: {url: 'https://a.b/c', jsonPath: '$.d'}}}
  - {name: queue-depth, successCondition: 'result < 1', provider: {web: {url: 'https://a.b/c', jsonPath: '$.d'}}}
  - {name: smoke, provider: {job: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: s, image: 'i:1'}]}}}}}}
";
    let made = imported(rollout);
    let conditions = &made.services[0].object["spec"]["guards"]["conditions"];
    let conditions = conditions.as_array().unwrap();
    let modes: Vec<_> = conditions
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["mode"].as_str()))
        .collect();
    let expected = [
        ("errors", None),
        ("queue-depth", Some("Warn")),
        ("smoke", Some("Warn")),
    ];
    assert_eq!(modes, expected);
    sound(&made, &made.yaml().unwrap());
    let told = made.told.join("\n");
    assert!(!told.contains("dryRun"), "{told}");
    let error = error(&rollout.replace("^sm", "["));
    assert!(
        error.contains("metricName") && error.contains("no regular expression"),
        "{error}"
    );
}

#[test]
fn what_flagger_writes_on_services_is_written_on_molts() {
    let text = FLAGGER.replacen(
        "  service:\n",
        "  service:\n    apex: {labels: {team: shop}}\n    primary: {annotations: {a.example/b: c}}\n    canary: {labels: {x: z}}\n",
        1,
    );
    assert_ne!(text, FLAGGER);
    let made = imported(&text);
    assert_eq!(
        made.services[0].object["spec"]["serviceMetadata"],
        json!({"inCluster": {"labels": {"team": "shop"}}, "routed": {"annotations": {"a.example/b": "c"}}})
    );
    sound(&made, &made.yaml().unwrap());
    let told = made.told.join("\n");
    assert!(
        told.contains("not carried over: spec.service.canary: a Service is of one revision"),
        "{told}"
    );
}

/// A Rollout with an analysis of these metrics, by this strategy.
fn analysed(strategy: &str, metrics: &str) -> String {
    format!(
        "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {{name: checkout, namespace: shop}}
spec:
  template: {{spec: {{containers: [{{name: app, image: 'shop/checkout:1', ports: [{{containerPort: 8000}}]}}]}}}}
  strategy: {{{strategy}}}
---
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata: {{name: quality, namespace: shop}}
spec:
  metrics:
{metrics}
"
    )
}

const BY_CANARY: &str =
    "canary: {steps: [{setWeight: 50}], analysis: {templates: [{templateName: quality}]}}";

fn conditions(made: &Imported) -> Vec<Value> {
    let list = made.services[0].object.pointer("/spec/guards/conditions");
    list.and_then(Value::as_array).cloned().unwrap_or_default()
}

#[test]
fn pods_that_argo_keeps_for_good_are_kept_as_long_as_can_be() {
    let text = ARGO.replace("abortScaleDownDelaySeconds: 45", "abortScaleDownDelaySeconds: 0");
    let made = imported(&text);
    sound(&made, &made.yaml().unwrap());
    let canary = &made.services[0].object["spec"]["strategy"]["canary"];
    assert_eq!(canary["abortScaleDownDelay"], "720h");
    let told = made.told.join("\n");
    assert!(
        told.contains("approximated: spec.strategy.canary.abortScaleDownDelaySeconds: 0 keeps the pods"),
        "{told}"
    );
    let at_once = ARGO.replace("abortScaleDownDelaySeconds: 45", "scaleDownDelaySeconds: 0");
    let made = imported(&at_once);
    let canary = &made.services[0].object["spec"]["strategy"]["canary"];
    assert_eq!(canary["scaleDownDelay"], "0s");
}

#[test]
fn only_a_metric_that_is_carried_over_names_the_prometheus() {
    let metric = |name: &str, bound: &str, address: &str| {
        format!(
            "  - {{name: {name}, successCondition: '{bound}', provider: {{prometheus: {{address: '{address}', query: 'up{{$selector}} > {}'}}}}}}\n",
            name.len()
        )
    };
    let metrics = metric("first", "len(result) > 0", "http://one:9090")
        + &metric("second", "result[0] < 1", "http://two:9090")
        + &metric("the-third", "result[0] < 1", "http://three:9090")
        + &metric("last-one-of-two", "result[0] < 1", "http://two:9090");
    let made = imported(&analysed(BY_CANARY, &metrics));
    sound(&made, &made.yaml().unwrap());
    assert_eq!(conditions(&made).len(), 3);
    let metrics = &made.services[0].object["spec"]["metrics"];
    assert_eq!(metrics, &json!({"prometheus": {"address": "http://two:9090"}}));
    let told = made.told.join("\n");
    assert!(
        told.contains("not carried over: AnalysisTemplate/quality spec.metrics[2].provider.prometheus.address: one Prometheus is asked for everything: http://two:9090,"),
        "{told}"
    );
    assert_eq!(told.matches("one Prometheus is asked").count(), 1, "{told}");
    let none = imported(&analysed(
        BY_CANARY,
        &metric("first", "len(result) > 0", "http://one:9090"),
    ));
    assert_eq!(none.services[0].object["spec"].get("metrics"), None);
}

#[test]
fn a_metric_is_told_as_it_fares() {
    let metrics = "
  - {name: dropped, failureLimit: 1.5, successCondition: 'len(result) > 0', provider: {prometheus: {query: up}}}
  - {name: kept, successCondition: 'len(result) > 0', failureCondition: 'result[0] > 5', provider: {prometheus: {query: up}}}
";
    let made = imported(&analysed(BY_CANARY, metrics));
    sound(&made, &made.yaml().unwrap());
    let kept = conditions(&made);
    assert_eq!(
        (kept.len(), &kept[0]["successCondition"]),
        (1, &json!("value <= 5"))
    );
    let told = made.told.join("\n");
    assert!(
        told.contains("not carried over: AnalysisTemplate/quality spec.metrics[0] (dropped): its condition"),
        "{told}"
    );
    assert!(
        told.contains("not carried over: AnalysisTemplate/quality spec.metrics[1] (kept).successCondition: "),
        "{told}"
    );
    assert!(!told.contains("(kept).failureCondition"), "{told}");
    let approximated =
        |line: &&String| line.contains("approximated: AnalysisTemplate/quality spec.metrics[0]");
    assert_eq!(made.told.iter().find(approximated), None);
}

#[test]
fn a_bound_that_finds_no_room_is_told_beside_the_one_that_did() {
    let metric = |n: usize| {
        format!("    - {{name: m{n}, query: 'up{{$selector}} > {n}', thresholdRange: {{max: 1}}}}\n")
    };
    let others: String = (0..9).map(metric).collect();
    let text = FLAGGER.replacen("    - name: orders\n", &(others + "    - name: orders\n"), 1);
    let made = imported(&text);
    sound(&made, &made.yaml().unwrap());
    assert_eq!(conditions(&made).len(), 10);
    let told = made.told.join("\n");
    for line in [
        "not carried over: spec.analysis.metrics[11] (orders), value <= 900: a service has at most 10 conditions",
        "approximated: spec.analysis.metrics[11] (orders): its query does not tell",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn what_is_analysed_before_and_after_the_promotion_runs_once() {
    let strategy = "blueGreen: {activeService: checkout, prePromotionAnalysis: {templates: [{templateName: quality}]}, postPromotionAnalysis: {templates: [{templateName: quality}]}}";
    let job = |name: &str| {
        format!(
            "  - {{name: {name}, provider: {{job: {{spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: s, image: 'i:1'}}]}}}}}}}}}}}}\n"
        )
    };
    let made = imported(&analysed(strategy, &(job("j") + &job("k"))));
    sound(&made, &made.yaml().unwrap());
    let names: Vec<Value> = conditions(&made).iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["j"]);
    let told = made.told.join("\n");
    assert!(
        told.contains("(k): is the same as the condition j, so it is written once"),
        "{told}"
    );
    assert!(!told.contains("(j): is the same"), "{told}");
}

#[test]
fn what_flagger_says_of_metrics_that_become_objectives_is_told() {
    let text = FLAGGER.replacen("{max: 500}", "{min: 3, max: 500}\n      threshold: 400", 1);
    let told = imported(&text).told.join("\n");
    for line in [
        "not carried over: spec.analysis.threshold: an objective counts no failed checks",
        "not carried over: spec.analysis.metrics[0].interval: an objective is counted in blocks",
        "not carried over: spec.analysis.metrics[1].threshold: thresholdRange says it already",
        "not carried over: spec.analysis.metrics[1] (request-duration).thresholdRange.min: an objective has one bound",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("metrics[2].interval"), "its query has it: {told}");
}

#[test]
fn sessions_that_a_service_keeps_are_told() {
    let why = "spec.sessionAffinity: the Services of revisions keep no caller at a pod";
    let service = "selector: {app: mail}}}";
    let deployment = DEPLOYMENT.replacen(service, "selector: {app: mail}, sessionAffinity: ClientIP}}", 1);
    let rollout = ARGO.replacen(
        "selector: {app: checkout}}\n---",
        "selector: {app: checkout}, sessionAffinity: ClientIP}\n---",
        1,
    );
    for (text, plain, name) in [(deployment, DEPLOYMENT, "mail"), (rollout, ARGO, "checkout-live")] {
        let told = imported(&text).told.join("\n");
        assert!(
            told.contains(&format!("not carried over: Service/{name} {why}")),
            "{told}"
        );
        assert!(!imported(plain).told.join("\n").contains(why));
    }
}

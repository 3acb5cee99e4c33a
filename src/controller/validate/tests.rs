use super::*;
use crate::controller::object::tests::changed;
use molt_core::step::{CanaryScale, HeaderMatch, HeaderValue, Mirror};
use serde_json::{Value, json};

fn result(change: impl FnOnce(&mut Value)) -> Validated {
    validate(&changed(change), &Defaults::default(), Known::default())
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Value), expected: &str) {
    let validated = result(change);
    let messages: Vec<String> = validated.errors.iter().map(ToString::to_string).collect();
    assert!(
        messages.iter().any(|m| m == expected),
        "{expected}\nis not among\n{}",
        messages.join("\n")
    );
    assert_eq!(validated.plan.revision, None);
}

#[test]
fn the_smallest_service_gets_every_default() {
    let validated = result(|_| ());
    assert_eq!(validated.errors, []);
    let plan = &validated.plan;
    assert_eq!(plan.revision.as_ref().map(|r| r.0.len()), Some(10));
    assert_eq!(
        (plan.replicas, plan.revision_history_limit, validated.record_limit),
        (4, 5, 20)
    );
    assert_eq!(
        plan.steps[..3],
        [Step::SetWeight(5), Step::Dwell(60), Step::SetWeight(10)]
    );
    assert_eq!(plan.steps.len(), 8);
    let seconds = [
        plan.bake,
        plan.scale_down_delay,
        plan.abort_scale_down_delay,
        plan.drain,
        plan.progress_deadline,
        plan.block,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [300, 30, 30, 60, 600, 30]);
    assert_eq!(
        (plan.limits, plan.on_inconclusive),
        (Limits::default(), OnInconclusive::Pause)
    );
    assert_eq!(plan.route, RouteMode::Owned);
    assert_eq!(validated.queries.len(), plan.slos.len());
}

#[test]
fn steps_beside_weights_are_resolved_with_their_defaults() {
    let plan = result(|o| {
        o["spec"]["strategy"] = json!({"canary": {"steps": [
            {"setCanaryScale": {"percent": 50}}, {"setCanaryScale": {"matchWeight": true}},
            {"setHeaderRoute": {"name": "testers", "match": [
                {"headerName": "X-Canary", "exact": "1"}, {"headerName": "user-agent", "prefix": "a.b(c)"},
                {"cookieName": "beta", "exact": "y+s"},
            ]}},
            {"setHeaderRoute": {"name": "testers"}},
            {"setMirror": {"percent": 20}}, {"setMirror": {"percent": 0, "methods": ["POST", "GET", "POST"]}},
            {"pause": {}},
        ]}});
    })
    .plan;
    let matched = |header: &str, value| HeaderMatch {
        header: header.to_owned(),
        value,
    };
    let route = |matches| Step::SetHeaderRoute {
        name: "testers".to_owned(),
        matches,
    };
    let mirror = |percent, methods: &[&str]| {
        Step::SetMirror(Mirror {
            percent,
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        })
    };
    assert_eq!(
        plan.steps,
        [
            Step::SetCanaryScale(CanaryScale::Percent(50)),
            Step::SetCanaryScale(CanaryScale::MatchWeight(true)),
            route(vec![
                matched("x-canary", HeaderValue::Exact("1".to_owned())),
                matched("user-agent", HeaderValue::Regex(r"a\.b\(c\).*".to_owned())),
                matched(
                    "cookie",
                    HeaderValue::Regex(r"(.*; *)?beta=y\+s(;.*)?".to_owned())
                ),
            ]),
            route(Vec::new()),
            mirror(20, &["GET", "HEAD", "OPTIONS"]),
            mirror(0, &["GET", "POST"]),
            Step::Pause {},
        ]
    );
}

#[test]
fn what_is_taken_back_has_been_set_before() {
    let told = |steps: Value| {
        let validated = result(|o| o["spec"]["strategy"] = json!({"canary": {"steps": steps}}));
        let errors = validated.errors.iter();
        errors.map(ToString::to_string).collect::<Vec<_>>()
    };
    let matches = json!([{"headerName": "x-canary", "exact": "1"}]);
    let sets = json!({"setHeaderRoute": {"name": "testers", "match": matches}});
    let ends = |name: &str| json!({"setHeaderRoute": {"name": name}});
    let copies = |percent: u8| json!({"setMirror": {"percent": percent}});
    let weight = json!({"setWeight": 10});
    let good = json!([sets, ends("testers"), copies(20), copies(0), sets, weight]);
    assert_eq!(told(good), Vec::<String>::new());
    assert_eq!(
        told(json!([sets, ends("tester"), weight])),
        [
            "spec.strategy.canary.steps[1].setHeaderRoute.name: \"tester\" is taken back, for the step has no match, and no step before has set it (there is testers then): correct the name, write match to set it, or leave the step out"
        ]
    );
    let twice = told(json!([sets, ends("testers"), ends("testers"), weight]));
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].contains("steps[2].setHeaderRoute.name") && twice[0].contains("there is none then"));
    assert_eq!(
        told(json!([copies(0), weight])),
        [
            "spec.strategy.canary.steps[0].setMirror.percent: 0 ends copies, and no step before has begun any: write 1 to 100, or leave the step out"
        ]
    );
}

#[test]
fn blue_green_is_previews_and_all_users_at_once() {
    let plan = |strategy: Value| result(|o| o["spec"]["strategy"] = strategy).plan;
    let smallest = plan(json!({"blueGreen": {}}));
    assert!(smallest.at_once);
    assert_eq!(smallest.steps, [Step::SetCanaryScale(CanaryScale::Percent(100))]);
    assert_eq!(smallest.bake.as_secs(), 300);
    let full = plan(json!({"blueGreen": {
        "previewReplicas": 1, "autoPromotion": false, "bake": "1m", "scaleDownDelay": "5m",
        "previewTraffic": {"headerName": "x-preview", "exact": "1"},
    }}));
    assert_eq!(full.steps.len(), 3);
    assert_eq!(full.steps[2], Step::Pause {});
    assert_eq!((full.bake.as_secs(), full.scale_down_delay.as_secs()), (60, 300));
}

#[test]
fn what_a_users_route_cannot_carry_is_said() {
    let own = |strategy: Value| {
        move |o: &mut Value| {
            o["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "own"}}});
            o["spec"]["strategy"] = strategy;
        }
    };
    refused(
        own(json!({"canary": {"steps": [{"setMirror": {"percent": 5}}]}})),
        "spec.strategy: asks for a mirror 5 %, which needs a route that Molt owns, and not one of yours, where Molt changes nothing but weights, or none: set spec.traffic.gatewayAPI.parentRefs or spec.traffic.istio.hosts, or leave it out and write that rule yourself",
    );
    assert_eq!(result(own(json!({"blueGreen": {}}))).errors, []);
}

#[test]
fn each_bad_field_is_named_with_its_reason_and_its_fix() {
    let steps =
        |steps: Value| move |o: &mut Value| o["spec"]["strategy"] = json!({"canary": {"steps": steps}});
    refused(
        steps(json!([{"setWeight": 50}, {"pause": {"duration": "10s"}}, {"setWeight": 20}])),
        "spec.strategy.canary.steps[2].setWeight: 20 comes after 50; weights must not fall: put the steps in order",
    );
    refused(
        steps(json!([{"setWeight": 101}])),
        "spec.strategy.canary.steps[0].setWeight: 101 is no share of the traffic: write whole percents from 1 to 100",
    );
    refused(
        steps(json!([{"setWeight": 5, "pause": {"duration": "1s"}}])),
        "spec.strategy.canary.steps[0]: has setWeight and pause: make a step of each",
    );
    refused(
        steps(json!([{"pause": {"duration": "1d"}}])),
        "spec.strategy.canary.steps[0].pause.duration: \"1d\" is not a duration: write hours, minutes, seconds or milliseconds, such as 90s or 1h30m",
    );
    refused(
        |o| o["spec"]["port"] = json!(0),
        "spec.port: 0 is out of range: write 1 to 65535",
    );
    refused(
        |o| o["spec"]["replicas"] = json!(-1),
        "spec.replicas: -1 is out of range: write 0 or more",
    );
    refused(
        |o| o["spec"]["template"]["spec"]["containers"] = json!([]),
        "spec.template.spec.containers: is empty: write the container of the application",
    );
    refused(
        |o| o["spec"]["template"]["metadata"] = json!({"labels": {"molt.dev/revision": "x"}}),
        "spec.template.metadata.labels[molt.dev/revision]: is set by Molt, which finds its pods by it: leave it out",
    );
    refused(
        |o| o["metadata"]["name"] = json!("x".repeat(47)),
        &format!(
            "metadata.name: {:?} can't be part of every derived name: at most 46 lower case letters, digits and '-', beginning with a letter",
            "x".repeat(47)
        ),
    );
    refused(
        |o| o["spec"]["analysis"] = json!({"falseRollbackProbability": "1"}),
        "spec.analysis.falseRollbackProbability: 1 is no probability above 0 and below 1, such as 0.01",
    );
    refused(
        |o| o["spec"]["analysis"] = json!({"maxBudgetSpend": "0%"}),
        "spec.analysis.maxBudgetSpend: must be above 0%, such as 2%",
    );
    refused(
        |o| o["spec"]["slos"] = json!([]),
        "spec.slos: has 0 objectives: write 1 to 10; without one nothing can be decided",
    );
}

#[test]
fn objectives_are_named_once_and_lie_between_0_and_100() {
    refused(
        |o| {
            let slo = o["spec"]["slos"][0].clone();
            o["spec"]["slos"] = json!([slo, slo]);
        },
        "spec.slos[1].name: \"availability\" is the name of spec.slos[0] already: give each its own",
    );
    let validated = result(|o| o["spec"]["slos"][0]["objective"] = json!("100"));
    assert_eq!(validated.errors[0].field, "spec.slos[0].objective");
}

#[test]
fn exactly_one_of_both_kinds_of_route() {
    refused(
        |o| o["spec"]["traffic"]["gatewayAPI"]["httpRouteRef"] = json!({"name": "own"}),
        "spec.traffic.gatewayAPI: has parentRefs and httpRouteRef: set parentRefs to let Molt create and own the route, or httpRouteRef or grpcRouteRef to name your own",
    );
    refused(
        |o| o["spec"]["traffic"]["gatewayAPI"] = json!({}),
        "spec.traffic.gatewayAPI: has none of parentRefs, httpRouteRef and grpcRouteRef: set parentRefs to let Molt create and own the route, or httpRouteRef or grpcRouteRef to name your own",
    );
    let adopted = result(|o| o["spec"]["traffic"]["gatewayAPI"] = json!({"httpRouteRef": {"name": "own"}}));
    assert_eq!(
        (adopted.errors.len(), adopted.plan.route),
        (0, RouteMode::Adopted)
    );
}

#[test]
fn the_operators_prometheus_stands_in() {
    let without = changed(|o| o["spec"]["metrics"] = Value::Null);
    let refused = validate(&without, &Defaults::default(), Known::default());
    assert_eq!(
        refused.errors[0].to_string(),
        "spec.metrics.prometheus.address: no Prometheus is known: set it here, or start the operator with --prometheus-address"
    );
    let defaults = Defaults {
        no_secrets: false,
        prometheus_address: Some("http://prometheus.monitoring:9090".to_owned()),
        ..Defaults::default()
    };
    let validated = validate(&without, &defaults, Known::default());
    assert_eq!(validated.errors, []);
    assert_eq!(
        validated.source.unwrap().address,
        "http://prometheus.monitoring:9090"
    );
}

#[test]
fn absent_replicas_are_what_stable_has() {
    let object = changed(|o| o["spec"]["replicas"] = Value::Null);
    let replicas = |stable_wanted| {
        let known = Known {
            stable_wanted,
            ..Known::default()
        };
        validate(&object, &Defaults::default(), known).plan.replicas
    };
    assert_eq!((replicas(None), replicas(Some(7)), replicas(Some(0))), (1, 7, 1));
}

#[test]
fn a_deleted_service_wants_nothing_new() {
    let validated = result(|o| o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    assert!(validated.plan.deleting);
    assert_eq!(validated.plan.revision, None);
}

#[test]
fn a_spec_that_cannot_be_read_keeps_the_route_and_what_serves() {
    let object = changed(|o| {
        o["spec"]["runtime"] = json!({"server": "unheard-of"});
        o["spec"]["traffic"] = json!({"gatewayAPI": {"httpRouteRef": {"name": "own"}}});
    });
    let known = Known {
        workload_replicas: None,
        stable_wanted: Some(6),
        ..Known::default()
    };
    let validated = validate(&object, &Defaults::default(), known);
    assert_eq!(
        (validated.plan.replicas, validated.plan.route),
        (6, RouteMode::Adopted)
    );
    let problem = validated.problem().unwrap();
    assert!(
        problem
            .message
            .starts_with("spec: can't be read: runtime.server: unknown variant `unheard-of`"),
        "{}",
        problem.message
    );
}

#[test]
fn many_errors_are_told_in_bounds() {
    let validated = result(|o| {
        let bad: Vec<Value> = (0..9).map(|_| json!({"setWeight": 0})).collect();
        o["spec"]["strategy"] = json!({"canary": {"steps": bad}});
    });
    assert!(validated.problem().unwrap().message.ends_with("; and 5 more"));
}

#[test]
fn guards_are_resolved_and_each_bad_condition_is_named() {
    let with =
        |conditions: Value| move |o: &mut Value| o["spec"]["guards"] = json!({"conditions": conditions});
    let good = json!({"name": "latency", "query": "a{$selector}", "successCondition": "value <= 2", "failureLimit": 3});
    let validated = result(with(json!([good])));
    assert_eq!(validated.errors, []);
    let plan = &validated.plan.conditions[0];
    assert_eq!(
        (
            plan.name.as_str(),
            plan.check.to_string().as_str(),
            plan.failure_limit
        ),
        ("latency", "value <= 2", 3)
    );
    assert_eq!(validated.conditions.len(), 1);

    let bad = |field: &str, value: Value| {
        let mut condition = good.clone();
        condition[field] = value;
        with(json!([condition]))
    };
    refused(
        bad("successCondition", json!("value ~ 2")),
        "spec.guards.conditions[0].successCondition: \"value ~ 2\" has no comparison after value: write value, one of < <= > >= == !=, and a number, such as value < 0.8",
    );
    refused(
        bad("query", json!("a{$selector}[5m]")),
        "spec.guards.conditions[0].query: gives a range of samples, not one number: put a function around it, such as rate() or avg_over_time()",
    );
    refused(
        bad("failureLimit", json!(-1)),
        "spec.guards.conditions[0].failureLimit: -1 is out of range: write 0 to 100",
    );
    refused(
        bad("name", json!("p99 latency")),
        "spec.guards.conditions[0].name: \"p99 latency\" is no name: write lower case letters, digits and '-', at most 63",
    );
    let web = json!({"url": "https://checks/$revision", "jsonPath": "$.p99"});
    refused(
        bad("web", web.clone()),
        "spec.guards.conditions[0]: has several of query, web and job: make a condition of each",
    );
    refused(
        with(json!([{"name": "a", "successCondition": "value < 1"}])),
        "spec.guards.conditions[0]: has neither query nor web nor job: write PromQL, a URL that answers with JSON, or a Job",
    );
    refused(
        with(
            json!([{"name": "a", "successCondition": "value < 1", "web": {"url": "https://a", "jsonPath": "p99"}}]),
        ),
        "spec.guards.conditions[0].web.jsonPath: \"p99\" is no JSONPath: write where the number is, such as $.checks.p99",
    );
    let of_web = json!({"name": "a", "successCondition": "value < 1", "web": web});
    assert_eq!(result(with(json!([of_web]))).errors, []);
    refused(
        with(json!([good, good])),
        "spec.guards.conditions[1].name: \"latency\" is the name of spec.guards.conditions[0] already: give each its own",
    );
}

#[test]
fn guards_of_the_runtime_are_on_unless_they_are_off() {
    let with = |guards: Value| move |o: &mut Value| o["spec"]["guards"] = guards;
    let names = |validated: &Validated| {
        let all = validated.plan.guards.iter();
        all.map(|guard| format!("{}: {}, {:?}", guard.rule.kind(), guard.rule, guard.mode))
            .collect::<Vec<_>>()
    };
    let usual = [
        "restarts: no more than stable, Rollback",
        "clientErrors: 2 times stable's share, Rollback",
        "memoryGrowth: 64.0 MiB an hour more than stable, Rollback",
        "eventLoopLag: 99 % of samples within 200ms, Rollback",
        "cpuPerRequest: 1.5 times stable's time, Rollback",
        "openFiles: 2 times stable's, and 24, Rollback",
        "gcPauses: 5 % of the time, and twice stable's, Rollback",
        "saturation: 90 % busy a quarter of the time, Rollback",
        "workerTimeouts: no more than stable, Rollback",
        "exceptions: kinds that stable raises too, Warn",
    ];
    let validated = result(|_| ());
    assert_eq!(names(&validated), usual);
    assert_eq!(validated.guards.len(), 9, "restarts ask nobody");
    assert_eq!(names(&result(with(json!({"memoryGrowth": {}})))), usual);
    let tuned = result(with(json!({
        "restarts": {"mode": "Off"},
        "clientErrors": {"maxRatio": "3.5", "mode": "Warn"},
        "memoryGrowth": {"maxPerHour": "1Gi"},
        "eventLoopLag": {"p99": "1s", "metric": "loop:lag_seconds"},
        "cpuPerRequest": {"mode": "Off", "maxRatio": "2"},
        "openFiles": {"mode": "Warn", "maxRatio": "4"},
        "gcPauses": {"maxShare": "12.5%", "metric": "gc_seconds"},
        "saturation": {"metric": "http_server_active_requests", "limit": 40, "maxShare": "80%", "mode": "Warn"},
        "workerTimeouts": {"mode": "Off"},
        "exceptions": {"metric": "shop_errors_total", "label": "error", "mode": "Rollback"},
    })));
    assert_eq!(tuned.errors, []);
    assert_eq!(
        names(&tuned),
        [
            "clientErrors: 3.5 times stable's share, Warn",
            "memoryGrowth: 1024.0 MiB an hour more than stable, Rollback",
            "eventLoopLag: 99 % of samples within 1000ms, Rollback",
            "openFiles: 4 times stable's, and 24, Warn",
            "gcPauses: 12.5 % of the time, and twice stable's, Rollback",
            "saturation: 80 % busy a quarter of the time, Warn",
            "exceptions: kinds that stable raises too, Rollback",
        ]
    );
    assert_eq!(tuned.guards.len(), 7);
}

#[test]
fn a_guard_that_can_not_be_used_is_named_with_its_field_and_a_fix() {
    let with = |guards: Value| move |o: &mut Value| o["spec"]["guards"] = guards;
    for (guards, expected) in [
        (
            json!({"clientErrors": {"maxRatio": "0.5"}}),
            "spec.guards.clientErrors.maxRatio: 0.5 is out of range: write 1 to 100, as many times as at stable, such as 2.0",
        ),
        (
            json!({"cpuPerRequest": {"maxRatio": "NaN"}}),
            "spec.guards.cpuPerRequest.maxRatio: \"NaN\" is not a decimal number, such as 0.01",
        ),
        (
            json!({"openFiles": {"maxRatio": "101"}}),
            "spec.guards.openFiles.maxRatio: 101 is out of range: write 1 to 100, as many times as at stable, such as 2.0",
        ),
        (
            json!({"memoryGrowth": {"maxPerHour": "64MB"}}),
            "spec.guards.memoryGrowth.maxPerHour: \"64MB\" is no amount of memory: write bytes with k, M, G, Ki, Mi or Gi, such as 64Mi",
        ),
        (
            json!({"memoryGrowth": {"maxPerHour": "10Ki"}}),
            "spec.guards.memoryGrowth.maxPerHour: is less than any process varies by: write 1Mi or more, such as 64Mi",
        ),
        (
            json!({"gcPauses": {"maxShare": "0%"}}),
            "spec.guards.gcPauses.maxShare: must be above 0%, such as 5%",
        ),
        (
            json!({"saturation": {"limit": 0}}),
            "spec.guards.saturation.limit: 0 threads serve nobody: write 1 or more, such as 40",
        ),
        (
            json!({"saturation": {"limit": 4, "limitMetric": "threads"}}),
            "spec.guards.saturation.limit: is written beside limitMetric: leave one of them out",
        ),
        (
            json!({"databaseConnections": {"query": "a{$selector}", "limit": 100, "perPod": 10}}),
            "spec.guards.databaseConnections.query: has $selector, which pins the pods of one revision: the connections of a server are everybody's, so name its series by their own labels",
        ),
        (
            json!({"databaseConnections": {"query": "a", "limit": 0, "perPod": 10}}),
            "spec.guards.databaseConnections.limit: is 0: write how many connections the server allows, above 0",
        ),
        (
            json!({"databaseConnections": {"query": "a", "limit": 1, "limitQuery": "b", "perPod": 10}}),
            "spec.guards.databaseConnections.limit: and limitQuery are both there: leave one out",
        ),
        (
            json!({"databaseConnections": {"query": "a", "perPod": 10}}),
            "spec.guards.databaseConnections.limit: and limitQuery are both missing: write how many connections the server allows, or the query that tells, such as max(pg_settings_max_connections{instance=\"shop-db\"})",
        ),
        (
            json!({"databaseConnections": {"query": "a", "limit": 100, "perPod": 0}}),
            "spec.guards.databaseConnections.perPod: 0 is out of range: write 1 to 10000",
        ),
        (
            json!({"exceptions": {"label": "kind"}}),
            "spec.guards.exceptions.label: belongs to metric, which is missing: write both, or neither",
        ),
        (
            json!({"exceptions": {"metric": "errors total"}}),
            "spec.guards.exceptions.metric: \"errors total\" is no name of a metric: write letters, digits and underscores, without _bucket, such as python_exceptions_total",
        ),
        (
            json!({"eventLoopLag": {"p99": "0s"}}),
            "spec.guards.eventLoopLag.p99: \"0s\" is too short: write 1ms or more",
        ),
        (
            json!({"eventLoopLag": {"p99": "2m"}}),
            "spec.guards.eventLoopLag.p99: is longer than a minute, in which no request is answered: write 1ms to 1m, such as 200ms",
        ),
        (
            json!({"eventLoopLag": {"metric": "lag_seconds_bucket"}}),
            "spec.guards.eventLoopLag.metric: \"lag_seconds_bucket\" is no name of a metric: write letters, digits and underscores, without _bucket, such as event_loop_lag_seconds",
        ),
    ] {
        refused(with(guards), expected);
    }
}

#[test]
fn a_job_is_resolved_and_what_would_never_run_is_named() {
    let with = |job: Value| {
        move |o: &mut Value| {
            o["spec"]["guards"] = json!({"conditions": [{"name": "smoke", "job": job, "failureLimit": 1}]});
        }
    };
    let template = json!({"spec": {"containers": [{"name": "smoke", "args": ["$(MOLT_ADDRESS)"]}]}});
    let validated = result(with(json!({"template": template})));
    assert_eq!(validated.errors, []);
    assert!(validated.conditions.is_empty(), "nothing is asked of a source");
    let plan = &validated.plan.conditions[0];
    let job = plan.check.job().expect("it is a Job");
    assert_eq!(
        (job.timeout, job.interval, plan.failure_limit),
        (SignedDuration::from_mins(5), None, 1)
    );
    let other = json!({"template": template, "timeout": "30s", "interval": "1m"});
    let validated = result(with(other));
    let changed = validated.plan.conditions[0].check.job().unwrap();
    assert_eq!(
        changed.digest, job.digest,
        "how long it may run is not what it runs"
    );
    assert_eq!(changed.interval, Some(SignedDuration::from_mins(1)));

    let at = "spec.guards.conditions[0].job";
    let bad = |pointer: &str, value: Value| {
        let mut job = json!({"template": template});
        match pointer.split_once('/') {
            Some((first, rest)) => job[first]["spec"][rest] = value,
            None => job[pointer] = value,
        }
        with(job)
    };
    refused(
        bad("timeout", json!("10m")),
        &format!(
            "{at}.timeout: 10m is no shorter than spec.progressDeadline, which is 10m: the attempt would end before the Job"
        ),
    );
    refused(
        bad("interval", json!("1s")),
        &format!("{at}.interval: \"1s\" is too short: write 10s or more"),
    );
    refused(
        bad("template/restartPolicy", json!("OnFailure")),
        &format!(
            "{at}.template.spec.restartPolicy: OnFailure would hide failures: leave it out, or write Never"
        ),
    );
    refused(
        bad("template/containers", json!([])),
        &format!("{at}.template.spec.containers: is empty: write the container that checks the revision"),
    );
    let reserved = json!([{"name": "smoke", "env": [{"name": "MOLT_ADDRESS", "value": "a"}]}]);
    refused(
        bad("template/containers", reserved),
        &format!(
            "{at}.template.spec.containers[smoke].env[MOLT_ADDRESS]: names that begin with MOLT_ are set by Molt: choose another"
        ),
    );
    let mut labelled = template.clone();
    labelled["metadata"] = json!({"labels": {"molt.dev/service": "checkout"}});
    refused(
        bad("template", labelled),
        &format!(
            "{at}.template.metadata.labels[molt.dev/service]: labels of molt.dev are set by Molt, which finds pods by them: leave it out"
        ),
    );
    refused(
        |o| {
            o["spec"]["guards"] = json!({"conditions": [
                {"name": "smoke", "job": {"template": template}, "successCondition": "value == 0"},
            ]});
        },
        "spec.guards.conditions[0].successCondition: belongs to query and web: leave it out, for a Job has to succeed",
    );
}

#[test]
fn clusters_are_told_apart_where_an_objective_counts_by_them() {
    let names = |validated: &Validated| match &validated.route {
        RouteSpec::Owned {
            content: Some(content),
            ..
        } => Some(content.names_revisions),
        _ => None,
    };
    let by_cluster = |o: &mut Value| {
        o["spec"]["slos"][0]["sli"] = json!({"preset": "envoy-gateway", "type": "availability"});
    };
    assert_eq!(names(&result(|_| ())), Some(false));
    let validated = result(by_cluster);
    assert_eq!(validated.errors, []);
    assert_eq!(names(&validated), Some(true));
    let own = |name: &'static str| {
        result(move |o| {
            by_cluster(o);
            o["spec"]["traffic"]["gatewayAPI"] = json!({"httpRouteRef": {"name": name}});
        })
    };
    assert_eq!(own("front").errors, []);
    let errors = own("www.shop").errors;
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0]
            .to_string()
            .starts_with("spec.slos[0].sli.preset: can't be read of HTTPRoute www.shop")
    );
}

#[test]
fn what_is_to_be_part_of_the_revision_can_be() {
    let named = |secrets: Value, count: usize| {
        changed(|o| {
            let map = |n| json!({"configMapRef": {"name": format!("map-{n}")}});
            let mut from: Vec<Value> = (0..count).map(map).collect();
            from.push(json!({"secretRef": {"name": "token"}}));
            o["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!(from);
            o["spec"]["configRevision"] = json!({ "secrets": secrets });
        })
    };
    let told = |object: &ServiceObject, no_secrets| {
        let defaults = Defaults {
            no_secrets,
            ..Defaults::default()
        };
        let errors = validate(object, &defaults, Known::default()).errors;
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(told(&named(json!("Follow"), 100), true), none);
    assert_eq!(told(&named(json!("Snapshot"), 99), false), none);
    assert_eq!(
        told(&named(json!("Snapshot"), 1), true),
        [
            "spec.configRevision.secrets: is Snapshot, and the operator may not read Secrets such as \"token\", which the template names: write Follow, or install the chart with rbac.configSecrets=true"
        ]
    );
    assert_eq!(
        told(&named(json!("Snapshot"), 100), false),
        [
            "spec.template: names 101 ConfigMaps and Secrets whose content is part of the revision, and 100 are possible: put several into one, or write spec.configRevision.configMaps: Follow"
        ]
    );
}

#[test]
fn a_template_or_a_deployment_is_named() {
    let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    refused(
        |o| drop(o["spec"].as_object_mut().unwrap().remove("template")),
        "spec.template: is missing: write a pod template, or workloadRef for that of an existing Deployment",
    );
    refused(
        |o| o["spec"]["workloadRef"] = workload.clone(),
        "spec.workloadRef: is set beside spec.template: set exactly one of them",
    );
    let adopting = result(|o| {
        o["spec"].as_object_mut().unwrap().remove("template");
        o["spec"]["workloadRef"] = workload.clone();
    });
    assert_eq!(adopting.errors, []);
    assert_eq!(adopting.plan.workload.as_deref(), Some("web"));
    assert_eq!(adopting.plan.revision, None, "the template is not known yet");
}

#[test]
fn the_applications_container_is_one_of_the_template_with_migrations_or_without() {
    let named = |container: &str, gates: Option<Value>| {
        let validated = result(|o| {
            let containers = json!([{"name": "app", "image": "a:1"}, {"name": "proxy", "image": "p:1"}]);
            o["spec"]["template"]["spec"]["containers"] = containers;
            o["spec"]["runtime"]["container"] = json!(container);
            if let Some(gates) = gates {
                o["spec"]["gates"] = gates;
            }
        });
        let errors = validated.errors.iter();
        errors.map(ToString::to_string).collect::<Vec<_>>()
    };
    let migrations = json!({"migrations": {"tool": "alembic"}});
    for gates in [None, Some(migrations)] {
        assert_eq!(named("proxy", gates.clone()), Vec::<String>::new());
        assert_eq!(
            named("nope", gates),
            [
                "spec.runtime.container: \"nope\" is none of the template's containers: write app or proxy, or leave it out for the first"
            ]
        );
    }
    let empty = result(|o| {
        o["spec"]["template"]["spec"]["containers"] = json!([]);
        o["spec"]["runtime"]["container"] = json!("nope");
    });
    let told = |field: &str| empty.errors.iter().any(|error| error.field == field);
    assert!(told("spec.template.spec.containers") && !told("spec.runtime.container"));
}

#[test]
fn a_group_has_a_name_a_wave_and_perhaps_a_header() {
    let group = |group: Value, traffic: Option<Value>| {
        result(|o| {
            o["spec"]["group"] = group;
            if let Some(traffic) = traffic {
                o["spec"]["traffic"] = traffic;
            }
        })
    };
    assert_eq!(result(|_| ()).plan.group, None);
    let plain = group(json!({"name": "shop"}), None).plan.group.unwrap();
    assert_eq!((plain.name.as_str(), plain.wave, plain.header), ("shop", 0, None));
    let all = group(json!({"name": "shop", "wave": 3, "header": "X-Molt-Group"}), None);
    assert_eq!(all.errors, []);
    let all = all.plan.group.unwrap();
    assert_eq!(
        (all.wave, all.header.as_deref(), all.headless),
        (3, Some("x-molt-group"), None)
    );
    for (traffic, whose) in [
        (json!({"none": {}}), "pods that divide the traffic"),
        (
            json!({"gatewayAPI": {"httpRouteRef": {"name": "own"}}}),
            "here it is yours",
        ),
    ] {
        let validated = group(json!({"name": "shop", "header": "x-molt-group"}), Some(traffic));
        assert_eq!(validated.errors, [], "it is said, and stops nothing");
        let group = validated.plan.group.unwrap();
        assert_eq!(group.header, None);
        assert!(group.headless.unwrap().contains(whose));
    }
    for (wrong, field) in [
        (json!({"name": "Shop!"}), "spec.group.name"),
        (json!({"name": "shop", "wave": -1}), "spec.group.wave"),
        (json!({"name": "shop", "header": "x molt"}), "spec.group.header"),
        (json!({"name": "shop", "header": "Host"}), "spec.group.header"),
    ] {
        let errors = group(wrong, None).errors;
        assert!(errors.iter().any(|e| e.field == field), "{errors:?}");
    }
}

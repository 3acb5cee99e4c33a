//! What the snapshots in `tests/rules` don't show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::api::v1alpha1::{Preset, Slo};

fn source(interval: &str) -> PrometheusSource {
    let spec = serde_json::from_value(json!({"interval": interval})).unwrap();
    PrometheusSource::parse(Some(&spec), "http://prometheus").unwrap()
}

fn slo(objective: &str, window: &str) -> SloQuery {
    let slo: Slo = serde_json::from_value(json!({
        "name": "a", "objective": objective, "window": window,
        "sli": {"preset": "otel", "type": "availability"},
    }))
    .unwrap();
    SloQuery::parse(&slo, &source("15s")).unwrap()
}

fn made(slo: SloQuery, interval: &str) -> Result<Rules, FieldError> {
    build(Subject {
        namespace: "shop",
        service: "checkout",
        route: "checkout",
        source: &source(interval),
        slos: &[slo],
        owner: None,
        runbook: None,
    })
}

fn alerts(rules: &Rules) -> Vec<&String> {
    let rules = rules.groups.iter().flat_map(|g| &g.rules);
    rules
        .filter_map(|rule| match rule {
            Rule::Alert { alert, expr, .. } if *alert == alerts::BURN => Some(expr),
            _ => None,
        })
        .collect()
}

#[test]
fn factors_are_scaled_to_the_window() {
    for (window, factors) in [
        ("30d", &["14.4", "6", "3", "1"][..]),
        ("28d", &["13.44", "5.6", "2.8", "0.9333"]),
        ("7d", &["3.36", "1.4", "0.7"]),
        ("1d", &[]),
    ] {
        let rules = made(slo("99.9", window), "15s").unwrap();
        let found: Vec<String> = alerts(&rules)
            .iter()
            .map(|expr| {
                expr.rsplit(" > ")
                    .next()
                    .unwrap()
                    .trim_end_matches(')')
                    .to_owned()
            })
            .collect();
        assert_eq!(found, factors, "{window}");
        assert_eq!(
            rules.notes.len(),
            4 - factors.len(),
            "{window}: {:?}",
            rules.notes
        );
    }
}

#[test]
fn an_alert_that_can_never_fire_is_left_out_and_said() {
    let rules = made(slo("90", "30d"), "15s").unwrap();
    assert_eq!(alerts(&rules).len(), 3);
    assert!(
        rules.notes[0].contains("even if every event were bad"),
        "{:?}",
        rules.notes
    );
}

#[test]
fn what_is_counted_at_the_route_is_recorded_by_backend() {
    let recorded = |preset| {
        let sli = crate::metric_sources::SliQuery::Availability(preset);
        let rules = made(
            SloQuery {
                sli,
                ..slo("99.9", "30d")
            },
            "15s",
        )
        .unwrap();
        let rules = rules.groups.into_iter().flat_map(|g| g.rules);
        let records: BTreeMap<String, String> = rules
            .filter_map(|rule| match rule {
                Rule::Record { record, expr, .. } => Some((record, expr)),
                Rule::Alert { .. } => None,
            })
            .collect();
        records
    };
    let mesh = recorded(Preset::LinkerdOutbound);
    assert!(
        mesh[recording::EVENTS]
            .contains(r#"backend_name=~"checkout-([0-9a-f]{10}|stable|canary)",backend_namespace="shop""#)
    );
    assert!(mesh[recording::EVENTS_BY_REVISION].contains(r#""revision","$1","backend_name""#));
    let envoy = recorded(Preset::EnvoyGateway);
    assert!(
        envoy[recording::EVENTS]
            .contains(r#"envoy_cluster_name=~"httproute/shop/checkout/rule/[0-9]+/backend/[0-9]+""#)
    );
    // A place in the route is no revision.
    assert_eq!(envoy.get(recording::EVENTS_BY_REVISION), None);
}

#[test]
fn windows_up_to_an_hour_read_the_counters_and_longer_ones_sum_rates() {
    let rules = made(slo("99.9", "30d"), "15s").unwrap();
    let mut windows = BTreeMap::new();
    for rule in rules.groups.iter().flat_map(|g| &g.rules) {
        if let Rule::Record { record, expr, .. } = rule
            && let Some(window) = record.strip_prefix("molt:slo_bad:ratio_rate")
        {
            windows.insert(window, expr.as_str());
        }
    }
    for (window, range) in [("30m", "[1800s]"), ("1h", "[3600s]")] {
        let expr = windows[window];
        assert_eq!(expr.matches(range).count(), 2, "bad ones and all: {expr}");
        assert!(!expr.contains("sum_over_time"), "{expr}");
    }
    for window in ["2h", "6h", "1d", "3d"] {
        let expr = windows[window];
        let range = format!("[{window}]");
        assert_eq!(expr.matches("sum_over_time(molt:").count(), 2, "{expr}");
        assert_eq!(expr.matches(range.as_str()).count(), 2, "{expr}");
    }
    assert_eq!(
        windows.len(),
        7,
        "5m is of what is recorded: {:?}",
        windows.keys()
    );
}

#[test]
fn an_alert_says_whom_to_call_and_where_it_is_written_what_to_do() {
    let source = source("15s");
    let named = |owner| {
        build(Subject {
            namespace: "shop",
            service: "checkout",
            route: "checkout",
            source: &source,
            slos: &[slo("99.9", "30d")],
            owner,
            runbook: owner.map(|_| "https://runbooks.example/{{ $x }}"),
        })
    };
    let mut alerts = 0;
    for rule in named(Some("team {{ x"))
        .unwrap()
        .groups
        .iter()
        .flat_map(|g| &g.rules)
    {
        if let Rule::Alert {
            labels, annotations, ..
        } = rule
        {
            assert_eq!(labels["owner"], "team {{ `{{` }} x", "no template of its own");
            assert_eq!(
                annotations["runbook_url"],
                "https://runbooks.example/{{ `{{` }} $x }}"
            );
            alerts += 1;
        }
    }
    assert!(alerts > 2);
    let text = serde_json::to_string(&named(None).unwrap().groups).unwrap();
    assert!(!text.contains("owner") && !text.contains("runbook"), "{text}");
}

#[test]
fn a_service_that_is_scraped_too_seldom_has_no_rules() {
    assert!(made(slo("99.9", "30d"), "2m").is_ok());
    assert_eq!(made(slo("99.9", "30d"), "5m").unwrap_err().field, "interval");
}

#[test]
fn a_service_has_one_dashboard_and_each_panel_a_place() {
    let (source, slos) = (source("15s"), [slo("99.9", "30d"), slo("99", "7d")]);
    let of = |namespace| {
        dashboard::dashboard(Subject {
            namespace,
            service: "checkout",
            route: "checkout",
            source: &source,
            slos: &slos,
            owner: None,
            runbook: None,
        })
    };
    let (shop, test) = (of("shop"), of("test"));
    assert_ne!(shop["uid"], test["uid"]);
    assert!(shop["uid"].as_str().unwrap().len() <= 40, "Grafana takes no more");
    let mut taken = BTreeSet::new();
    for panel in shop["panels"].as_array().unwrap() {
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24);
        for cell in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(taken.insert(cell), "{} covers another panel", panel["title"]);
        }
    }
}

proptest! {
    /// Whatever the objective, every alert that is made can fire, and everything that it reads is recorded.
    #[test]
    fn alerts_read_what_is_recorded_and_can_fire(nines in 1u32..999_999, hours in 1u32..9999) {
        let percent = format!("{}.{:04}", nines / 10_000, nines % 10_000);
        let slo = slo(&percent, &format!("{hours}h"));
        let budget = slo.objective.bad_fraction;
        let rules = made(slo, "15s").unwrap();
        let recorded: BTreeSet<&str> = rules.groups.iter().flat_map(|g| &g.rules).filter_map(|rule| match rule {
            Rule::Record { record, .. } => Some(record.as_str()),
            Rule::Alert { .. } => None,
        }).collect();
        for expr in alerts(&rules) {
            for part in expr.split("molt:").skip(1) {
                let name = format!("molt:{}", part.split('{').next().unwrap());
                prop_assert!(recorded.contains(name.as_str()), "{name}");
            }
            let factor: f64 = expr.rsplit(" > ").next().unwrap().trim_end_matches(')').parse().unwrap();
            prop_assert!(factor >= 0.4999 && factor * budget <= 1.0, "{expr}");
        }
    }
}

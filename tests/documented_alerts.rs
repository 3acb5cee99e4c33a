//! The operator's alerts and dashboard, as the chart has them: each alert is explained, and each series is one that there is.

use std::collections::BTreeSet;
use std::fs;

use molt::k8s::Key;
use molt::metrics::{Finished, Judged, Metrics, RevertedBy, Standing};
use molt_core::decision::{Phase, VerdictKind};
use molt_core::state::Outcome;
use promql_parser::parser::{self, Expr, VectorSelector};
use serde_json::Value;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn alerts() -> Vec<(String, String)> {
    let file: Value = serde_saphyr::from_str(&read("charts/molt/files/alerts.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rules
        .map(|rule| (text(&rule["alert"]), text(&rule["expr"])))
        .collect()
}

/// The names of the series that an expression reads.
fn series(query: &str) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl promql_parser::util::ExprVisitor for Names {
        type Error = String;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
            let of = |selector: &VectorSelector| selector.name.clone();
            match expr {
                Expr::VectorSelector(selector) => self.0.extend(of(selector)),
                Expr::MatrixSelector(matrix) => self.0.extend(of(&matrix.vs)),
                _ => {}
            }
            Ok(true)
        }
    }
    let expr = parser::parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut names = Names(BTreeSet::new());
    promql_parser::util::walk_expr(&mut names, &expr).unwrap();
    names.0
}

/// Every series of an operator to which all kinds of things have happened.
fn exposed() -> String {
    let metrics = Metrics::new("1");
    let cart = Key::new("shop", "cart");
    let judged = Judged {
        name: "availability".to_owned(),
        verdict: VerdictKind::NoData,
        harm: 0.0,
        safe: 0.0,
        budget_remaining: Some(0.5),
        budget_spent: Some(0.0),
    };
    let standing = Standing {
        phase: Phase::Progressing,
        canary_weight: 5,
        attempt_since: Some(jiff::Timestamp::UNIX_EPOCH),
        objectives: vec![judged],
    };
    metrics.set_rollout(&cart, &standing);
    metrics.judged(VerdictKind::Safe);
    metrics.reverted(&cart, RevertedBy::Watch);
    let hour = std::time::Duration::from_hours(1);
    metrics.rollout_ended(
        &cart,
        Finished {
            outcome: Outcome::Promoted,
            took: hour,
            lead_time: Some(hour),
            restored_after: Some(hour),
        },
    );
    metrics.reconciled(std::time::Duration::from_millis(1));
    metrics.reconcile_failed("Forbidden");
    metrics.queried(std::time::Duration::from_millis(1));
    metrics.query_failed("PrometheusUnreachable");
    metrics.set_fleet_paused(false);
    metrics.encode()
}

#[test]
fn each_alert_has_a_section_of_its_own() {
    let text = read("docs/alerts.md");
    let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = alerts();
    let names: Vec<&str> = alerts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, sections);
}

#[test]
fn what_alerts_and_dashboard_read_is_exposed() {
    let exposed = exposed();
    let dashboard: Value = serde_json::from_str(&read("charts/molt/files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap().replace("$namespace", ".*"));
    let mut names = BTreeSet::new();
    for query in alerts().into_iter().map(|(_, expr)| expr).chain(queries) {
        names.extend(series(&query));
    }
    assert!(names.len() > 6, "{names:?}");
    for name in names {
        let is_there = exposed
            .lines()
            .any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        assert!(is_there, "{name} is none of:\n{exposed}");
    }
}

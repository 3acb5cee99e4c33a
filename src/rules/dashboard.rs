//! A Grafana dashboard of a service: its objectives from what is [recorded](super::recording), its rollouts from
//! the operator's own metrics.

use molt_core::analysis::BURN_RATES;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::recording::{
    self, BAD_BY_REVISION, BUDGET, EVENTS, EVENTS_BY_REVISION, OBJECTIVE, REMAINING, ratio,
};
use super::{Subject, Target, alerts, series, time};
use crate::metrics;

/// The model's version, as Grafana 11 writes it; newer ones read it.
const SCHEMA: u32 = 39;
/// Columns of the grid.
const WIDTH: u32 = 24;

/// Panels, laid out from left to right and top to bottom.
#[derive(Default)]
struct Grid {
    panels: Vec<Value>,
    column: u32,
    row: u32,
    height: u32,
}

impl Grid {
    fn add(&mut self, width: u32, height: u32, mut panel: Value) {
        if self.column + width > WIDTH {
            self.row += self.height;
            (self.column, self.height) = (0, 0);
        }
        panel["id"] = json!(self.panels.len() + 1);
        panel["gridPos"] = json!({"x": self.column, "y": self.row, "w": width, "h": height});
        self.column += width;
        self.height = self.height.max(height);
        self.panels.push(panel);
    }

    fn heading(&mut self, title: &str) {
        self.add(
            WIDTH,
            1,
            json!({"type": "row", "title": title, "collapsed": false, "panels": []}),
        );
    }
}

/// The dashboard; the same service always has the same `uid`, so that an import replaces the older one.
pub fn dashboard(subject: Subject<'_>) -> Value {
    let Subject {
        namespace, service, ..
    } = subject;
    let mut grid = Grid::default();
    grid.heading("Rollout");
    rollout(&mut grid, subject);
    for slo in subject.slos {
        let target = Target { subject, slo };
        grid.heading(&format!(
            "{}: {} % in {}",
            slo.name,
            super::decimal(100.0 - slo.objective.bad_fraction * 100.0),
            time(slo.objective.window)
        ));
        objective(&mut grid, &target);
    }
    json!({
        "uid": uid(namespace, service),
        "title": format!("{namespace}/{service}: objectives and rollouts"),
        "tags": ["molt", "slo"],
        "schemaVersion": SCHEMA,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{
            "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
            "refresh": 1, "hide": 0, "current": {}, "options": [], "regex": ""
        }]},
        "annotations": {"list": annotations(subject)},
        "panels": grid.panels,
    })
}

fn uid(namespace: &str, service: &str) -> String {
    let digest = Sha256::digest(format!("{namespace}/{service}").as_bytes());
    digest[..8]
        .iter()
        .fold("molt-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn rollout(grid: &mut Grid, subject: Subject<'_>) {
    let labels = recording::service_labels(subject);
    let phase = own(metrics::ROLLOUT_PHASE, subject, "");
    grid.add(
        8,
        7,
        graph(
            "Canary's share of the traffic",
            "As the route has it. Read from the operator's own metrics.",
            "percentunit",
            &[(own(metrics::CANARY_WEIGHT, subject, ""), "canary")],
            &json!({"min": 0, "max": 1, "custom": {"fillOpacity": 20, "lineInterpolation": "stepAfter"}}),
        ),
    );
    grid.add(
        8,
        7,
        json!({
            "type": "state-timeline",
            "title": "Phase",
            "description": "Read from the operator's own metrics.",
            "datasource": datasource(),
            "targets": [query(0, &phase, "{{phase}}")],
            "fieldConfig": {"defaults": {"custom": {"fillOpacity": 70, "lineWidth": 0}, "mappings": [
                {"type": "value", "options": {"1": {"text": "", "color": "blue"}}}
            ]}, "overrides": []},
            "options": {"showValue": "never", "mergeValues": true, "legend": {"showLegend": false}},
        }),
    );
    let by_revision = |name| format!("max by (revision) ({})", series(name, &labels));
    grid.add(
        8,
        7,
        graph(
            "Events per second by revision",
            "Of the objective with the most events, over 5 minutes.",
            "reqps",
            &[(by_revision(EVENTS_BY_REVISION), "{{revision}}")],
            &json!({"min": 0}),
        ),
    );
}

fn objective(grid: &mut Grid, target: &Target<'_>) {
    let (name, window) = (&target.slo.name, time(target.window()));
    let remaining = target.series(REMAINING);
    grid.add(
        4,
        8,
        json!({
            "type": "stat",
            "title": "Error budget left",
            "description": format!("Of the budget of {window}, from counts of events."),
            "datasource": datasource(),
            "targets": [query(0, &remaining, name)],
            "fieldConfig": {"defaults": {"unit": "percentunit", "decimals": 1, "thresholds": steps(&[
                (None, "red"), (Some(0.0), "orange"), (Some(0.25), "green")
            ])}, "overrides": []},
            "options": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                "colorMode": "background", "graphMode": "area"},
        }),
    );
    let good = |recorded: String| format!("1 - {}", target.series(&recorded));
    let [short, long] = [BURN_RATES[0].short(), BURN_RATES[0].long];
    grid.add(
        10,
        8,
        graph(
            "Good events against the objective",
            "The share of good events.",
            "percentunit",
            &[
                (good(ratio(short)), &format!("over {}", time(short))),
                (good(ratio(long)), &format!("over {}", time(long))),
                (target.series(OBJECTIVE), "objective"),
            ],
            &json!({"max": 1}),
        ),
    );
    grid.add(10, 8, burn_rates(target));
    grid.add(
        8,
        7,
        graph(
            "Error budget left",
            &format!("Of the budget of {window}; below 0 it is overspent."),
            "percentunit",
            &[(remaining, name)],
            &json!({"max": 1}),
        ),
    );
    grid.add(
        8,
        7,
        graph(
            "Events per second",
            "Over 5 minutes. With few events one bad one is a high burn rate.",
            "reqps",
            &[(target.series(EVENTS), "events")],
            &json!({"min": 0}),
        ),
    );
    grid.add(
        8,
        7,
        graph(
            "Bad events by revision",
            "The share of bad events over 5 minutes.",
            "percentunit",
            &[(target.series(BAD_BY_REVISION), "{{revision}}")],
            &json!({"min": 0}),
        ),
    );
}

/// Burn rates over every long window, with a line where each alert begins.
fn burn_rates(target: &Target<'_>) -> Value {
    let budget = target.series(BUDGET);
    let queries: Vec<(String, String)> = BURN_RATES
        .iter()
        .map(|rate| {
            let burn = format!("{} / {budget}", target.series(&ratio(rate.long)));
            (burn, format!("over {}", time(rate.long)))
        })
        .collect();
    let queries: Vec<(String, &str)> = queries.iter().map(|(q, l)| (q.clone(), l.as_str())).collect();
    let mut lines: Vec<(Option<f64>, &str)> = vec![(None, "green")];
    // Thresholds are in rising order; the table is in falling order.
    lines.extend(alerts::of(target).rev().map(|rate| {
        let colour = match rate.severity {
            molt_core::analysis::Severity::Ticket => "orange",
            molt_core::analysis::Severity::Page => "red",
        };
        (Some(rate.factor(target.window())), colour)
    }));
    graph(
        "Burn rate",
        "1 spends the budget in exactly one window. Lines: where tickets (orange) and pages (red) begin, each for its own window.",
        "none",
        &queries,
        &json!({"min": 0, "thresholds": steps(&lines), "custom": {"thresholdsStyle": {"mode": "line"}}}),
    )
}

/// When rollouts were under way, waited, and were taken back.
fn annotations(subject: Subject<'_>) -> Value {
    let one = |name: &str, phases: &str, colour: &str| {
        json!({
            "name": name, "datasource": datasource(), "enable": true, "hide": false, "iconColor": colour,
            "expr": format!("max by (phase) ({})", own(metrics::ROLLOUT_PHASE, subject, &format!(",phase=~\"{phases}\""))),
            "step": "30s", "titleFormat": "{{phase}}", "textFormat": subject.service, "useValueForTime": false,
        })
    };
    json!([
        one("Rollout", "Progressing", "blue"),
        one("Paused", "Paused", "yellow"),
        one("Rolled back", "RollingBack|RolledBack", "red"),
    ])
}

/// A series of the operator's about this service. A scraper that labels targets with their namespace moves the
/// operator's own label out of the way.
fn own(name: &str, subject: Subject<'_>, more: &str) -> String {
    let Subject {
        namespace, service, ..
    } = subject;
    format!(
        "{name}{{name=\"{service}\",exported_namespace=\"{namespace}\"{more}}} or {name}{{name=\"{service}\",namespace=\"{namespace}\",exported_namespace=\"\"{more}}}"
    )
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn query(index: u8, expr: &str, legend: &str) -> Value {
    json!({
        "refId": char::from(b'A' + index).to_string(), "datasource": datasource(), "expr": expr,
        "legendFormat": legend, "editorMode": "code", "range": true,
    })
}

fn graph(title: &str, description: &str, unit: &str, queries: &[(String, &str)], defaults: &Value) -> Value {
    let mut field =
        json!({"unit": unit, "custom": {"lineWidth": 1, "showPoints": "never", "spanNulls": false}});
    json_patch::merge(&mut field, defaults);
    json!({
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": datasource(),
        "targets": (0..).zip(queries).map(|(i, (expr, legend))| query(i, expr, legend)).collect::<Vec<_>>(),
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    })
}

/// Colours from a value on; the first has none.
fn steps(steps: &[(Option<f64>, &str)]) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(from, colour)| json!({"value": from, "color": colour}))
        .collect();
    json!({"mode": "absolute", "steps": steps})
}

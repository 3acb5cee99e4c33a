//! Prometheus rules and a Grafana dashboard for the objectives of a PythonService; pure.
//!
//! - [`recording`]: what is recorded: rates, bad ratios over each window, the budget that is left.
//! - [`alerts`]: multi-window, multi-burn-rate alerts.
//! - [`dashboard`]: a dashboard that reads what is recorded.
//!
//! What counts as an event, and as a bad one, comes from the queries that the operator itself decides by
//! ([`promql`](crate::metric_sources::prometheus::promql)); the factors come from
//! [`BURN_RATES`](molt_core::analysis::BURN_RATES), by which it stops a rollout.

pub mod alerts;
pub mod dashboard;
pub mod recording;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Serialize;
use serde_json::{Value, json};

use crate::metric_sources::selector::{MatchOp, Matcher, Selector};
use crate::metric_sources::{FieldError, PrometheusSource, SloQuery};

/// The API version of a PrometheusRule.
pub const API_VERSION: &str = "monitoring.coreos.com/v1";
/// Its kind.
pub const KIND: &str = "PrometheusRule";
/// The longest scrape interval: a rate over 5 minutes needs two samples, also when one is late.
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_mins(2);

/// What rules are made for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The namespace of the service.
    pub namespace: &'a str,
    /// The service.
    pub service: &'a str,
    /// Its HTTPRoute.
    pub route: &'a str,
    /// How its series are named.
    pub source: &'a PrometheusSource,
    /// Its objectives.
    pub slos: &'a [SloQuery],
    /// Who is called for it: a label of its alerts, to route them by.
    pub owner: Option<&'a str>,
    /// Where it is written what to do: the annotation `runbook_url` of its alerts.
    pub runbook: Option<&'a str>,
}

/// The rules of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Groups of rules, two for each objective. Their names begin with [`GROUP_PREFIX`].
    pub groups: Vec<Group>,
    /// What was left out, and why: sentences for people.
    pub notes: Vec<String>,
}

/// What the name of every group begins with.
pub const GROUP_PREFIX: &str = "molt/";

/// A group: its rules are evaluated in order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its name, unique among all services.
    pub name: String,
    /// How often it is evaluated.
    pub interval: &'static str,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// The value of an expression becomes a series.
    Record {
        /// The name of the series.
        record: String,
        /// The expression.
        expr: String,
        /// Labels that the series gets.
        labels: BTreeMap<String, String>,
    },
    /// An alert fires for each series that the expression has.
    Alert {
        /// Its name.
        alert: &'static str,
        /// The expression.
        expr: String,
        /// Labels that the alert gets.
        labels: BTreeMap<String, String>,
        /// Text for people.
        annotations: BTreeMap<&'static str, String>,
    },
}

/// One objective of a subject.
struct Target<'a> {
    subject: Subject<'a>,
    slo: &'a SloQuery,
}

impl Target<'_> {
    /// The labels of all that is recorded. Matchers of the spec belong to them: they tell two clusters with a
    /// service of the same name apart.
    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = recording::service_labels(self.subject);
        labels.insert("slo".to_owned(), self.slo.name.clone());
        labels
    }

    /// A recorded series of this objective, as a query has it.
    fn series(&self, name: &str) -> String {
        series(name, &self.labels())
    }

    fn window(&self) -> SignedDuration {
        self.slo.objective.window
    }
}

fn series(name: &str, labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .fold(Selector::named(name), |selector, (label, value)| {
            selector.with(Matcher::new(label, MatchOp::Equal, value))
        })
        .to_string()
}

/// The rules of a service; the error names a field under `spec.metrics.prometheus`.
pub fn build(subject: Subject<'_>) -> Result<Rules, FieldError> {
    if subject.source.interval > LONGEST_INTERVAL {
        return Err(FieldError {
            field: "interval".to_owned(),
            message: "is too long for rules, whose shortest window is 5m: scrape the service every 2m or more often"
                .to_owned(),
        });
    }
    let mut rules = Rules::default();
    for slo in subject.slos {
        let target = Target { subject, slo };
        let (mut fast, mut slow) = recording::records(&target);
        alerts::add(&target, &mut fast, &mut slow, &mut rules.notes);
        let name = format!(
            "{GROUP_PREFIX}{}/{}/{}",
            subject.namespace, subject.service, slo.name
        );
        rules.groups.push(Group {
            name: name.clone(),
            interval: "30s",
            rules: fast,
        });
        // A day and more is read: twice a minute would tell no more.
        rules.groups.push(Group {
            name: format!("{name}/slow"),
            interval: "2m",
            rules: slow,
        });
    }
    Ok(rules)
}

/// The name of the PrometheusRule of a service.
pub fn object_name(service: &str) -> String {
    format!("{service}-slos")
}

/// A PrometheusRule with this metadata.
pub fn object(metadata: &Value, groups: &[Group]) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "spec": {"groups": groups},
    })
}

/// A share without float dust: at most eleven decimals, as an objective in percent has nine.
fn decimal(number: f64) -> String {
    let text = format!("{number:.11}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A time as Prometheus writes it, in its largest whole unit: `30d`, `36h`, `5m`.
fn time(time: SignedDuration) -> String {
    let seconds = time.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds % size == 0 {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

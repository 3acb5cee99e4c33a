//! What is asked of a source, read from the spec.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use molt_core::analysis::Objective;

use super::at_route::Naming;
use super::presets::{Timed, Timing};
use super::selector::{Sum, is_label_name};
use super::tasks::{self, Outcomes};
use crate::api::v1alpha1::{self as api, Preset, SliType};

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Its path from where reading began: `sli.counters.bad`.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A Prometheus, and how its series name what Molt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSource {
    /// Its address, without `/api/v1`.
    pub address: String,
    /// The address is the operator's own, not the spec's.
    pub is_operators: bool,
    /// The Secret, in the service's namespace, with the headers that it asks for.
    pub headers_from: Option<String>,
    /// How often it scrapes the service.
    pub interval: SignedDuration,
    /// The label that names the pod.
    pub pod_label: String,
    /// The label that names the namespace.
    pub namespace_label: String,
    /// Further labels that every series must have.
    pub matchers: BTreeMap<String, String>,
}

impl PrometheusSource {
    /// Reads `spec.metrics.prometheus`; what it leaves open is the operator's. Fields are named from there.
    pub fn parse(spec: Option<&api::Prometheus>, default_address: &str) -> Result<Self, Vec<FieldError>> {
        let none = api::Prometheus::default();
        let spec = spec.unwrap_or(&none);
        let mut errors = Vec::new();

        let address = spec
            .address
            .as_deref()
            .unwrap_or(default_address)
            .trim_end_matches('/');
        if !is_http_address(address) {
            errors.push(FieldError::new(
                "address",
                format!("{address:?} is not an address: write http:// or https://, a host and a port, such as http://prometheus.monitoring:9090"),
            ));
        }
        if address.ends_with("/api/v1") {
            errors.push(FieldError::new(
                "address",
                format!("{address:?} ends with /api/v1, which is added to it: leave that out"),
            ));
        }
        let interval = match spec.interval.as_ref().map(api::Duration::parse) {
            None => SignedDuration::from_secs(15),
            Some(Ok(interval)) => {
                if !(SignedDuration::from_secs(1)..=SignedDuration::from_mins(5)).contains(&interval) {
                    errors.push(FieldError::new(
                        "interval",
                        "must be 1s to 5m: as often as Prometheus scrapes the service",
                    ));
                }
                interval
            }
            Some(Err(message)) => {
                errors.push(FieldError::new("interval", message));
                SignedDuration::ZERO
            }
        };
        let label = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        let pod_label = label(&spec.pod_label, "pod");
        let namespace_label = label(&spec.namespace_label, "namespace");
        for (field, name) in [("podLabel", &pod_label), ("namespaceLabel", &namespace_label)] {
            if !is_label_name(name) {
                errors.push(FieldError::new(field, not_a_label(name)));
            }
        }
        let matchers = spec.matchers.clone().unwrap_or_default();
        for name in matchers.keys() {
            let field = format!("matchers.{name}");
            if !is_label_name(name) {
                errors.push(FieldError::new(field, not_a_label(name)));
            } else if *name == pod_label || *name == namespace_label || name == "__name__" {
                errors.push(FieldError::new(
                    field,
                    "Molt sets this label itself: leave it out",
                ));
            }
        }
        if spec
            .headers_from
            .as_ref()
            .is_some_and(|from| !is_object_name(&from.name))
        {
            errors.push(FieldError::new(
                "headersFrom.name",
                "is no name of a Secret: write lower case letters, digits, '-' and '.'",
            ));
        }
        if errors.is_empty() {
            Ok(Self {
                address: address.to_owned(),
                is_operators: spec.address.is_none(),
                headers_from: spec.headers_from.as_ref().map(|from| from.name.clone()),
                interval,
                pod_label,
                namespace_label,
                matchers,
            })
        } else {
            Err(errors)
        }
    }
}

fn is_object_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !text.is_empty() && text.len() <= 253 && text.chars().all(allowed)
}

fn is_http_address(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.strip_prefix(scheme).is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']) && !rest.contains([' ', '?', '#'])
        })
    })
}

fn not_a_label(name: &str) -> String {
    format!("{name:?} is not the name of a label: letters, digits and underscores, such as pod")
}

/// One objective to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct SloQuery {
    /// Its name.
    pub name: String,
    /// What it asks for, and its window.
    pub objective: Objective,
    /// How good and bad are counted.
    pub sli: SliQuery,
}

impl SloQuery {
    /// Reads one of `spec.slos`. Fields are named from there: `sli.counters.bad`.
    pub fn parse(slo: &api::Slo, source: &PrometheusSource) -> Result<Self, Vec<FieldError>> {
        let objective = parse_objective(slo);
        let sli = SliQuery::parse(&slo.sli, source);
        match (objective, sli) {
            (Ok(objective), Ok(sli)) => Ok(Self {
                name: slo.name.clone(),
                objective,
                sli,
            }),
            (objective, sli) => Err(objective
                .err()
                .into_iter()
                .flatten()
                .chain(sli.err().into_iter().flatten())
                .collect()),
        }
    }
}

/// How good and bad are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliQuery {
    /// Failed requests of a preset are bad.
    Availability(Preset),
    /// Tasks that ended badly, or had to be tried again.
    Tasks(Outcomes),
    /// Requests of a preset that take longer than this are bad, or tasks that run or wait longer.
    Latency(Timed, SignedDuration),
    /// Own counters.
    Counters {
        /// Counts bad events.
        bad: Sum,
        /// Counts all events.
        total: Sum,
    },
}

impl SliQuery {
    /// How its series name the route's backends; `None` where they are of the revisions' own pods.
    pub fn at_route(&self) -> Option<Naming> {
        match self {
            Self::Availability(preset) => Naming::of(*preset),
            Self::Latency(timed, _) => Naming::of(timed.preset),
            Self::Tasks(_) | Self::Counters { .. } => None,
        }
    }

    /// The label that names the worker whose tasks a series counts, where it is not of the worker's own pod.
    pub fn worker_label(&self) -> Option<&'static str> {
        match self {
            Self::Tasks(outcomes) => outcomes.worker,
            Self::Latency(timed, _) => tasks::outcomes(timed.preset)?.worker,
            Self::Availability(_) | Self::Counters { .. } => None,
        }
    }

    /// Reads `sli`. The schema refuses most of these errors first, but objects may be older than it.
    pub fn parse(sli: &api::Sli, source: &PrometheusSource) -> Result<Self, Vec<FieldError>> {
        let one = |field: &str, message: &str| Err(vec![FieldError::new(field, message)]);
        match (sli.preset, &sli.counters) {
            (Some(preset), None) => match (sli.kind, &sli.threshold) {
                (Some(SliType::Availability), None) => {
                    Ok(tasks::outcomes(preset).map_or(Self::Availability(preset), Self::Tasks))
                }
                (Some(SliType::Availability), Some(_)) => one(
                    "sli.threshold",
                    "belongs to type latency: leave it out, or set sli.type to latency",
                ),
                (Some(SliType::Retries), None) if let Some(outcomes) = tasks::retries(preset) => {
                    Ok(Self::Tasks(outcomes))
                }
                (Some(SliType::Retries), Some(_)) => one(
                    "sli.threshold",
                    "belongs to type queueWait or runtime: leave it out",
                ),
                (Some(kind), _) if let Some(what) = not_counted(preset, kind) => one("sli.type", what),
                (Some(kind), Some(threshold)) => match threshold.parse() {
                    Ok(threshold) if threshold > SignedDuration::ZERO => {
                        let timing = if kind == SliType::QueueWait {
                            Timing::QueueWait
                        } else {
                            Timing::Run
                        };
                        Ok(Self::Latency(Timed { preset, timing }, threshold))
                    }
                    Ok(_) => one(
                        "sli.threshold",
                        "must be more than 0: an edge of the histogram, such as 500ms",
                    ),
                    Err(message) => one("sli.threshold", &message),
                },
                (Some(_), None) => one(
                    "sli.threshold",
                    "is missing: set an edge of the histogram, such as 500ms",
                ),
                (None, _) if tasks::outcomes(preset).is_some() => one(
                    "sli.type",
                    "is missing: set availability, retries, queueWait or runtime",
                ),
                (None, _) => one("sli.type", "is missing: set availability or latency"),
            },
            (None, Some(counters)) => {
                if sli.kind.is_some() || sli.threshold.is_some() {
                    return one(
                        "sli.type",
                        "type and threshold belong to a preset: leave them out beside counters",
                    );
                }
                Self::parse_counters(counters, source)
            }
            (Some(_), Some(_)) => one("sli", "has both preset and counters: set one"),
            (None, None) => one("sli", "has neither preset nor counters: set one"),
        }
    }

    fn parse_counters(counters: &api::Counters, source: &PrometheusSource) -> Result<Self, Vec<FieldError>> {
        let reserved = [source.pod_label.as_str(), source.namespace_label.as_str()];
        let read = |field: &str, text: &str| {
            Sum::parse(text, &reserved)
                .map_err(|message| FieldError::new(format!("sli.counters.{field}"), message))
        };
        match (read("bad", &counters.bad), read("total", &counters.total)) {
            (Ok(bad), Ok(total)) if bad.is_same(&total) => Err(vec![FieldError::new(
                "sli.counters.bad",
                "is the same as total, so that every event would be bad: select the bad ones only",
            )]),
            (Ok(bad), Ok(total)) => Ok(Self::Counters { bad, total }),
            (bad, total) => Err(bad.err().into_iter().chain(total.err()).collect()),
        }
    }
}

/// Why a preset has no such number.
fn not_counted(preset: Preset, kind: SliType) -> Option<&'static str> {
    let tasks = tasks::outcomes(preset).is_some();
    match kind {
        SliType::Latency if tasks => {
            Some("is of requests: tasks have runtime and queueWait, which celery-exporter times")
        }
        SliType::Retries if !tasks => Some("is of tasks: requests have availability and latency"),
        SliType::Retries if tasks::retries(preset).is_none() => {
            Some("is counted by celery-exporter and arq alone: set availability, or counters of your own")
        }
        SliType::QueueWait | SliType::Runtime if !tasks => Some("is of tasks: requests have latency"),
        SliType::QueueWait | SliType::Runtime if preset != Preset::CeleryExporter => {
            Some("is timed by celery-exporter alone: set availability, or counters of your own")
        }
        _ => None,
    }
}

/// The window of an objective that does not set one.
const DEFAULT_WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);

fn parse_objective(slo: &api::Slo) -> Result<Objective, Vec<FieldError>> {
    let window = match slo.window.as_ref().map(api::Window::parse) {
        None => DEFAULT_WINDOW,
        Some(Ok(window)) => window,
        Some(Err(message)) => return Err(vec![FieldError::new("window", message)]),
    };
    Objective::parse(&slo.objective.0, window).ok_or_else(|| {
        vec![FieldError::new(
            "objective",
            format!(
                "{:?} is not an objective: write the share of good requests in percent, above 0 and below 100, such as 99.9",
                slo.objective.0
            ),
        )]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> PrometheusSource {
        PrometheusSource::parse(None, "http://prometheus:9090/").unwrap()
    }

    fn slo(sli: &str) -> Result<SloQuery, String> {
        let text = format!(r#"{{"name": "a", "objective": "99.9", "sli": {sli}}}"#);
        SloQuery::parse(&serde_json::from_str(&text).unwrap(), &source()).map_err(|errors| {
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    #[test]
    fn presets_and_counters_are_read() {
        let read = slo(r#"{"preset": "otel", "type": "latency", "threshold": "250ms"}"#).unwrap();
        assert_eq!(
            read.sli,
            SliQuery::Latency(Preset::Otel.into(), SignedDuration::from_millis(250))
        );
        assert_eq!(read.objective, Objective::parse("99.9", DEFAULT_WINDOW).unwrap());
        let read = slo(r#"{"preset": "fastapi-instrumentator", "type": "availability"}"#).unwrap();
        assert_eq!(read.sli, SliQuery::Availability(Preset::FastapiInstrumentator));
        let read = slo(r#"{"counters": {"bad": "f_total", "total": "c_total{kind=\"card\"}"}}"#).unwrap();
        let SliQuery::Counters { bad, total } = read.sli else {
            panic!("{:?}", read.sli)
        };
        assert_eq!(
            (bad.to_string(), total.to_string()),
            ("f_total".into(), "c_total{kind=\"card\"}".into())
        );
    }

    #[test]
    fn errors_name_their_field() {
        for (sli, part) in [
            ("{}", "sli: has neither"),
            (r#"{"preset": "otel"}"#, "sli.type: is missing"),
            (
                r#"{"preset": "otel", "type": "latency"}"#,
                "sli.threshold: is missing",
            ),
            (
                r#"{"preset": "otel", "type": "latency", "threshold": "0s"}"#,
                "sli.threshold: must be more than 0",
            ),
            (
                r#"{"preset": "otel", "type": "latency", "threshold": "1d"}"#,
                "sli.threshold: \"1d\" is not a duration",
            ),
            (
                r#"{"preset": "otel", "type": "availability", "threshold": "1s"}"#,
                "sli.threshold: belongs to type latency",
            ),
            (
                r#"{"preset": "otel", "type": "retries"}"#,
                "sli.type: is of tasks",
            ),
            (
                r#"{"preset": "rq-exporter", "type": "retries"}"#,
                "sli.type: is counted by celery-exporter and arq alone",
            ),
            (
                r#"{"preset": "arq", "type": "retries", "threshold": "1s"}"#,
                "sli.threshold: belongs to type queueWait or runtime",
            ),
            (
                r#"{"counters": {"bad": "a", "total": "a"}}"#,
                "sli.counters.bad: is the same as total",
            ),
            (
                r#"{"counters": {"bad": "a + b", "total": "sum(b) + sum(a)"}}"#,
                "sli.counters.bad: is the same as total",
            ),
            (
                r#"{"counters": {"bad": "a", "total": "a / b"}}"#,
                "sli.counters.total: \"a / b\" is an expression",
            ),
            (
                r#"{"counters": {"bad": "rate(a[1m])", "total": "b{pod=\"x\"}"}}"#,
                "sli.counters.total: \"b{pod=\\\"x\\\"}\" has a matcher on \"pod\"",
            ),
            (
                r#"{"counters": {"bad": "rate(a[1m])", "total": "b"}}"#,
                "sli.counters.bad: \"rate(a[1m])\" applies rate()",
            ),
            (
                r#"{"type": "latency", "counters": {"bad": "a", "total": "b"}}"#,
                "sli.type: type and threshold",
            ),
        ] {
            let error = slo(sli).unwrap_err();
            assert!(error.contains(part), "{sli}: {error}");
        }
        let text = r#"{"name": "a", "objective": "100", "window": "0d", "sli": {}}"#;
        let errors = SloQuery::parse(&serde_json::from_str(text).unwrap(), &source()).unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["window", "sli"]);
    }

    #[test]
    fn a_source_has_defaults_and_errors() {
        let read = source();
        assert_eq!(read.address, "http://prometheus:9090");
        assert_eq!(
            (read.pod_label.as_str(), read.namespace_label.as_str()),
            ("pod", "namespace")
        );
        assert_eq!(read.interval, SignedDuration::from_secs(15));

        let text = r#"{"address": "prometheus:9090", "interval": "10ms", "podLabel": "k8s.pod", "matchers": {"namespace": "x", "a-b": "y"}}"#;
        let errors =
            PrometheusSource::parse(Some(&serde_json::from_str(text).unwrap()), "http://p").unwrap_err();
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "address",
                "interval",
                "podLabel",
                "matchers.a-b",
                "matchers.namespace"
            ]
        );
        assert!(PrometheusSource::parse(None, "").is_err());
    }
}

//! The operator's own Prometheus metrics.
//!
//! Labels are bounded: words that the code chooses, and the names of PythonServices, which are removed
//! together with the object.

mod services;

use std::sync::Arc;
use std::time::Duration;

use molt_core::decision::VerdictKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::services::Services;
pub use self::services::{CANARY_WEIGHT, Finished, Judged, ROLLOUT_PHASE, RevertedBy, Standing};
use crate::k8s::Key;

/// What [`Metrics::encode`] produces, as an HTTP content type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper edges in seconds: from a reconcile that changes nothing to one that waits for a time limit.
const EDGES: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// Categories of failed reconciles: `WriteError::category`, and a status that can't be read.
const CATEGORIES: [&str; 10] = [
    "Conflict",
    "Forbidden",
    "Invalid",
    "NameTaken",
    "NotLeading",
    "Refused",
    "Timeout",
    "Unreachable",
    "UnreadableState",
    "Unready",
];

/// Kinds of sinks of notifications.
const SINKS: [&str; 5] = ["cloudEvents", "pagerDuty", "slack", "teams", "webhook"];

/// What becomes of a notification; a trace is under no limit of a rate.
const OUTCOMES: [&str; 5] = ["delivered", "retried", "gave_up", "dropped", "rate_limited"];

/// What the registry puts before every name.
const PREFIX: &str = "molt";

/// A handle to the operator's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconcile_duration: Histogram,
    reconcile_errors: Family<CategoryLabels, Counter>,
    services: Services,
    query_duration: Histogram,
    query_errors: Family<ReasonLabels, Counter>,
    leader: Gauge,
    fleet_paused: Gauge,
    notifications: Family<NotificationLabels, Counter>,
    traces: Family<TraceLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabels {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotificationLabels {
    sink_kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabels {
    outcome: &'static str,
}

impl Metrics {
    /// Metrics of a process that runs this version.
    pub fn new(version: &str) -> Self {
        let reconcile_duration = Histogram::new(EDGES);
        let reconcile_errors = Family::default();
        let query_duration = Histogram::new(EDGES);
        let query_errors = Family::default();
        let leader = Gauge::default();
        let fleet_paused = Gauge::default();
        let notifications = Family::default();
        let traces = Family::default();

        // Names follow the conventions of Prometheus; the encoder itself appends `_seconds`, `_total`, `_info`.
        let mut registry = Registry::with_prefix(PREFIX);
        let services = Services::new(&mut registry);
        registry.register_with_unit(
            "reconcile_duration",
            "Time that one reconcile of a PythonService took",
            Unit::Seconds,
            reconcile_duration.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed, by category of the error",
            reconcile_errors.clone(),
        );
        registry.register_with_unit(
            "metric_query_duration",
            "Time that one query to a metric source took",
            Unit::Seconds,
            query_duration.clone(),
        );
        registry.register(
            "metric_query_errors",
            "Queries to metric sources that gave no usable answer, by reason",
            query_errors.clone(),
        );
        registry.register(
            "leader",
            "1 if this replica steers, 0 if it stands by",
            leader.clone(),
        );
        registry.register(
            "fleet_paused",
            "1 while every service of this operator is paused",
            fleet_paused.clone(),
        );
        registry.register(
            "notifications",
            "Notifications by kind of sink, and tries that failed and are made again",
            notifications.clone(),
        );
        registry.register(
            "traces",
            "Traces of attempts by what became of them, and tries that failed and are made again",
            traces.clone(),
        );
        registry.register(
            "build",
            "The version that runs",
            Info::new(vec![("version".to_owned(), version.to_owned())]),
        );

        Self(Arc::new(Inner {
            registry,
            reconcile_duration,
            reconcile_errors,
            services,
            query_duration,
            query_errors,
            leader,
            fleet_paused,
            notifications,
            traces,
        }))
        .begun()
    }

    /// A reconcile took this long.
    pub fn reconciled(&self, took: Duration) {
        self.0.reconcile_duration.observe(took.as_secs_f64());
    }

    /// A reconcile failed. The category is a word of the code's, never the text of an error, so that the
    /// number of series stays bounded.
    pub fn reconcile_failed(&self, category: &'static str) {
        self.0
            .reconcile_errors
            .get_or_create(&CategoryLabels { category })
            .inc();
    }

    /// Whether every service is paused.
    pub fn set_fleet_paused(&self, paused: bool) {
        self.0.fleet_paused.set(i64::from(paused));
    }

    /// An attempt of a service ended.
    pub fn rollout_ended(&self, service: &Key, finished: Finished) {
        self.0.services.ended(service, finished);
    }

    /// A service went back from a revision that was promoted.
    pub fn reverted(&self, service: &Key, by: RevertedBy) {
        self.0.services.reverted(service, by);
    }

    /// A block was judged.
    pub fn judged(&self, verdict: VerdictKind) {
        self.0.services.judged(verdict);
    }

    /// Where a service is.
    pub fn set_rollout(&self, service: &Key, standing: &Standing) {
        self.0.services.set(service, standing);
    }

    /// A service is gone, and its series with it.
    pub fn forget(&self, service: &Key) {
        self.0.services.forget(service);
    }

    /// This replica steers from now on.
    pub fn took_over(&self) {
        self.0.leader.set(1);
    }

    /// This replica steers no longer: what was said of the services is another one's to say.
    pub fn stood_down(&self) {
        self.0.leader.set(0);
        self.0.services.clear();
    }

    /// A query to a metric source took this long, whatever came of it.
    pub fn queried(&self, took: Duration) {
        self.0.query_duration.observe(took.as_secs_f64());
    }

    /// A query to a metric source gave no usable answer.
    pub fn query_failed(&self, reason: &'static str) {
        self.0.query_errors.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A notification for a kind of sink ended so: `delivered`, `gave_up`, `rate_limited`, `dropped`; or a try failed, and
    /// it is `retried`. Both are words of the code's.
    pub fn notified(&self, sink_kind: &'static str, outcome: &'static str) {
        let labels = NotificationLabels { sink_kind, outcome };
        self.0.notifications.get_or_create(&labels).inc();
    }

    /// The trace of an attempt ended so: `delivered`, `gave_up`, `dropped`; or a try failed, and it is `retried`.
    pub fn traced(&self, outcome: &'static str) {
        self.0.traces.get_or_create(&TraceLabels { outcome }).inc();
    }

    /// Counters begin at 0, so that the first event is an increase.
    fn begun(self) -> Self {
        for category in CATEGORIES {
            let _ = self
                .0
                .reconcile_errors
                .get_or_create(&CategoryLabels { category });
        }
        for sink_kind in SINKS {
            for outcome in OUTCOMES {
                let labels = NotificationLabels { sink_kind, outcome };
                let _ = self.0.notifications.get_or_create(&labels);
            }
        }
        for outcome in &OUTCOMES[..4] {
            let _ = self.0.traces.get_or_create(&TraceLabels { outcome });
        }
        self
    }

    /// Everything, as [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut buffer = String::new();
        // Writing to a `String` does not fail.
        let _ = text::encode(&mut buffer, &self.0.registry);
        buffer
    }
}

/// The name that the registry is given of a metric.
fn unprefixed(name: &str) -> &str {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_prefix('_'))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests;

//! The operator's own Prometheus metrics.
//!
//! Labels are bounded: words that the code chooses, and the names of PythonServices, which are removed
//! together with the object.

use std::sync::Arc;
use std::time::Duration;

use molt_core::decision::Phase;
use molt_core::state::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// What [`Metrics::encode`] produces, as an HTTP content type.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper edges in seconds: from a reconcile that changes nothing to one that waits for a time limit.
const EDGES: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// 1 for the phase that a PythonService (`namespace`, `name`) is in, as it is scraped.
pub const ROLLOUT_PHASE: &str = "molt_rollout_phase";
/// The share of the traffic that a PythonService's revision under test has, as it is scraped.
pub const CANARY_WEIGHT: &str = "molt_canary_weight_ratio";
/// What the registry puts before every name.
const PREFIX: &str = "molt";

const PHASES: [Phase; 7] = [
    Phase::Initializing,
    Phase::Healthy,
    Phase::Progressing,
    Phase::Paused,
    Phase::RollingBack,
    Phase::RolledBack,
    Phase::Degraded,
];

const OUTCOMES: [Outcome; 5] = [
    Outcome::Promoted,
    Outcome::RolledBack,
    Outcome::Aborted,
    Outcome::Superseded,
    Outcome::Inconclusive,
];

/// A handle to the operator's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    reconcile_duration: Histogram,
    reconcile_errors: Family<CategoryLabels, Counter>,
    rollouts: Family<OutcomeLabels, Counter>,
    rollout_phase: Family<PhaseLabels, Gauge>,
    canary_weight: Family<ObjectLabels, WeightGauge>,
    query_duration: Histogram,
    query_errors: Family<ReasonLabels, Counter>,
    leader: Gauge,
    fleet_paused: Gauge,
    notifications: Family<NotificationLabels, Counter>,
}

type WeightGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CategoryLabels {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
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
struct ObjectLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    namespace: String,
    name: String,
    phase: &'static str,
}

impl Metrics {
    /// Metrics of a process that runs this version.
    pub fn new(version: &str) -> Self {
        let reconcile_duration = Histogram::new(EDGES);
        let reconcile_errors = Family::default();
        let rollouts = Family::default();
        let rollout_phase = Family::default();
        let canary_weight = Family::default();
        let query_duration = Histogram::new(EDGES);
        let query_errors = Family::default();
        let leader = Gauge::default();
        let fleet_paused = Gauge::default();
        let notifications = Family::default();

        // Names follow the conventions of Prometheus; the encoder itself appends `_seconds`, `_total`, `_info`.
        let mut registry = Registry::with_prefix(PREFIX);
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
        registry.register("rollouts", "Attempts that ended, by outcome", rollouts.clone());
        registry.register(
            unprefixed(ROLLOUT_PHASE),
            "1 for the phase that a PythonService is in",
            rollout_phase.clone(),
        );
        registry.register(
            unprefixed(CANARY_WEIGHT),
            "Share of the traffic that the revision under test has, 0 to 1",
            canary_weight.clone(),
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
            "build",
            "The version that runs",
            Info::new(vec![("version".to_owned(), version.to_owned())]),
        );

        let metrics = Self(Arc::new(Inner {
            registry,
            reconcile_duration,
            reconcile_errors,
            rollouts,
            rollout_phase,
            canary_weight,
            query_duration,
            query_errors,
            leader,
            fleet_paused,
            notifications,
        }));
        // A counter that appears with its first event hides that event from `rate()`.
        for outcome in OUTCOMES {
            metrics
                .0
                .rollouts
                .get_or_create(&OutcomeLabels {
                    outcome: outcome_name(outcome),
                })
                .inc_by(0);
        }
        metrics
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

    /// An attempt ended.
    pub fn rollout_ended(&self, outcome: Outcome) {
        self.0
            .rollouts
            .get_or_create(&OutcomeLabels {
                outcome: outcome_name(outcome),
            })
            .inc();
    }

    /// A PythonService is in this phase, and the router gives its canary this many percent of the traffic.
    pub fn set_rollout(&self, namespace: &str, name: &str, phase: Phase, canary_weight: u8) {
        for other in PHASES.into_iter().filter(|&other| other != phase) {
            self.0.rollout_phase.remove(&phase_labels(namespace, name, other));
        }
        self.0
            .rollout_phase
            .get_or_create(&phase_labels(namespace, name, phase))
            .set(1);
        self.0
            .canary_weight
            .get_or_create(&object_labels(namespace, name))
            .set(f64::from(canary_weight) / 100.0);
    }

    /// A PythonService is gone, and its series with it.
    pub fn forget(&self, namespace: &str, name: &str) {
        for phase in PHASES {
            self.0.rollout_phase.remove(&phase_labels(namespace, name, phase));
        }
        self.0.canary_weight.remove(&object_labels(namespace, name));
    }

    /// This replica steers from now on.
    pub fn took_over(&self) {
        self.0.leader.set(1);
    }

    /// This replica steers no longer: what was said of the services is another one's to say.
    pub fn stood_down(&self) {
        self.0.leader.set(0);
        self.0.rollout_phase.clear();
        self.0.canary_weight.clear();
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

fn object_labels(namespace: &str, name: &str) -> ObjectLabels {
    ObjectLabels {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn phase_labels(namespace: &str, name: &str, phase: Phase) -> PhaseLabels {
    let phase = match phase {
        Phase::Initializing => "Initializing",
        Phase::Healthy => "Healthy",
        Phase::Progressing => "Progressing",
        Phase::Paused => "Paused",
        Phase::RollingBack => "RollingBack",
        Phase::RolledBack => "RolledBack",
        Phase::Degraded => "Degraded",
    };
    PhaseLabels {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        phase,
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Promoted => "Promoted",
        Outcome::RolledBack => "RolledBack",
        Outcome::Aborted => "Aborted",
        Outcome::Superseded => "Superseded",
        Outcome::Inconclusive => "Inconclusive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.encode().lines().any(|l| l == line)
    }

    #[test]
    fn names_carry_each_suffix_once() {
        let metrics = Metrics::new("1.2.3");
        metrics.reconciled(Duration::from_millis(3));
        metrics.reconcile_failed("Conflict");
        metrics.queried(Duration::from_millis(30));
        metrics.query_failed("PrometheusUnreachable");
        metrics.rollout_ended(Outcome::Promoted);
        for line in [
            "# TYPE molt_reconcile_duration_seconds histogram",
            "molt_reconcile_duration_seconds_bucket{le=\"0.005\"} 1",
            "molt_reconcile_errors_total{category=\"Conflict\"} 1",
            "molt_rollouts_total{outcome=\"Promoted\"} 1",
            "molt_rollouts_total{outcome=\"RolledBack\"} 0",
            "molt_metric_query_duration_seconds_count 1",
            "molt_metric_query_errors_total{reason=\"PrometheusUnreachable\"} 1",
            "molt_build_info{version=\"1.2.3\"} 1",
            "# EOF",
        ] {
            assert!(has(&metrics, line), "{line} is not in\n{}", metrics.encode());
        }
        assert!(!metrics.encode().contains("_total_total"));
    }

    #[test]
    fn a_service_is_in_one_phase_and_leaves_nothing_behind() {
        let metrics = Metrics::new("1.2.3");
        metrics.set_rollout("shop", "checkout", Phase::Progressing, 25);
        metrics.set_rollout("shop", "checkout", Phase::RollingBack, 0);
        metrics.set_rollout("shop", "cart", Phase::Progressing, 50);
        assert!(has(
            &metrics,
            "molt_rollout_phase{namespace=\"shop\",name=\"checkout\",phase=\"RollingBack\"} 1"
        ));
        assert!(has(
            &metrics,
            "molt_canary_weight_ratio{namespace=\"shop\",name=\"cart\"} 0.5"
        ));
        assert_eq!(metrics.encode().matches("molt_rollout_phase{").count(), 2);

        metrics.took_over();
        assert!(has(&metrics, "molt_leader 1"), "{}", metrics.encode());

        metrics.forget("shop", "checkout");
        assert!(!metrics.encode().contains("checkout"));
        assert!(metrics.encode().contains("cart"));
        metrics.stood_down();
        assert!(has(&metrics, "molt_leader 0") && !metrics.encode().contains("cart"));
    }
}

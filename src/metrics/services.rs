//! What each service's rollout is at, and what became of those that ended: the questions of whoever is on call, and
//! those of how well releases go.
//!
//! What is said of an objective is said while an attempt is under way; everything about a service goes with it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use molt_core::decision::{Phase, VerdictKind};
use molt_core::state::Outcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::unprefixed;
use crate::k8s::Key;

/// 1 for the phase that a PythonService (`namespace`, `name`) is in, as it is scraped.
pub const ROLLOUT_PHASE: &str = "molt_rollout_phase";
/// The share of the traffic that a PythonService's revision under test has, as it is scraped.
pub const CANARY_WEIGHT: &str = "molt_canary_weight_ratio";

/// Upper edges in seconds: from a rollback at once to a rollout of days.
const EDGES: [f64; 13] = [
    15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0, 86_400.0,
];

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

const VERDICTS: [VerdictKind; 4] = [
    VerdictKind::Continue,
    VerdictKind::Safe,
    VerdictKind::RollBack,
    VerdictKind::NoData,
];

/// Where a service is.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Its phase.
    pub phase: Phase,
    /// The share of the traffic that the router gives the revision under test, in percent.
    pub canary_weight: u8,
    /// When the attempt under way began; absent while there is none.
    pub attempt_since: Option<Timestamp>,
    /// Its objectives, while an attempt is under way.
    pub objectives: Vec<Judged>,
}

/// Where an objective of an attempt is.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// The latest verdict.
    pub verdict: VerdictKind,
    /// How far the evidence of harm has come: 0 is none, 1 rolls back. By logarithms.
    pub harm: f64,
    /// How far that of safety has come: 1 lets a step pass.
    pub safe: f64,
    /// Share of the window's error budget that was left when the attempt began; below 0 once overspent.
    pub budget_remaining: Option<f64>,
    /// Share of it that the attempt has spent.
    pub budget_spent: Option<f64>,
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// Of one that was promoted: since the revision was first tried, earlier attempts at it included.
    pub lead_time: Option<Duration>,
    /// Of one that was taken back: since the first user was on it.
    pub restored_after: Option<Duration>,
}

/// Who went back to an older revision after a promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevertedBy {
    /// A person.
    Person,
    /// What was measured while the revision was watched.
    Watch,
    /// Another service of the group, which was taken back.
    Group,
}

type Share = Gauge<f64, AtomicU64>;
type OfOutcome = Family<OutcomeLabels, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub(super) struct Services {
    phase: Family<PhaseLabels, Gauge>,
    canary_weight: Family<ObjectLabels, Share>,
    attempt_since: Family<ObjectLabels, Gauge>,
    verdict: Family<VerdictLabels, Gauge>,
    evidence: Family<EvidenceLabels, Share>,
    budget_remaining: Family<ObjectiveLabels, Share>,
    budget_spent: Family<ObjectiveLabels, Share>,
    rollouts: Family<EndLabels, Counter>,
    reverts: Family<RevertLabels, Counter>,
    verdicts: Family<KindLabels, Counter>,
    duration: OfOutcome,
    lead_time: Histogram,
    time_to_restore: Histogram,
    /// Services of which something is said, and the objectives of their attempts.
    told: Mutex<BTreeMap<(String, String), Vec<String>>>,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectiveLabels {
    namespace: String,
    name: String,
    objective: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    namespace: String,
    name: String,
    objective: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EvidenceLabels {
    namespace: String,
    name: String,
    objective: String,
    bound: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    namespace: String,
    name: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevertLabels {
    namespace: String,
    name: String,
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    verdict: &'static str,
}

impl Services {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let services = Self {
            phase: Family::default(),
            canary_weight: Family::default(),
            attempt_since: Family::default(),
            verdict: Family::default(),
            evidence: Family::default(),
            budget_remaining: Family::default(),
            budget_spent: Family::default(),
            rollouts: Family::default(),
            reverts: Family::default(),
            verdicts: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(EDGES)),
            lead_time: Histogram::new(EDGES),
            time_to_restore: Histogram::new(EDGES),
            told: Mutex::default(),
        };
        services.register(registry);
        for kind in VERDICTS {
            services
                .verdicts
                .get_or_create(&KindLabels {
                    verdict: verdict_name(kind),
                })
                .inc_by(0);
        }
        services
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            unprefixed(ROLLOUT_PHASE),
            "1 for the phase that a PythonService is in",
            self.phase.clone(),
        );
        registry.register(
            unprefixed(CANARY_WEIGHT),
            "Share of the traffic that the revision under test has, 0 to 1",
            self.canary_weight.clone(),
        );
        registry.register_with_unit(
            "attempt_start_timestamp",
            "When the attempt under way began, since 1970; absent while there is none",
            Unit::Seconds,
            self.attempt_since.clone(),
        );
        registry.register(
            "objective_verdict",
            "1 for the latest verdict on an objective of the attempt under way",
            self.verdict.clone(),
        );
        registry.register(
            "evidence_ratio",
            "How far the evidence of an attempt has come, by logarithms: harm 1 rolls back, safe 1 lets a step pass",
            self.evidence.clone(),
        );
        registry.register(
            "error_budget_remaining_ratio",
            "Share of the window's error budget that was left when the attempt under way began; below 0 once overspent",
            self.budget_remaining.clone(),
        );
        registry.register(
            "error_budget_spent_ratio",
            "Share of the window's error budget that the attempt under way has spent",
            self.budget_spent.clone(),
        );
        registry.register(
            "rollouts",
            "Attempts that ended, by outcome",
            self.rollouts.clone(),
        );
        registry.register(
            "reverts",
            "Promoted revisions that were gone back from, by who did it",
            self.reverts.clone(),
        );
        registry.register(
            "verdicts",
            "Blocks that were judged, by verdict",
            self.verdicts.clone(),
        );
        registry.register_with_unit(
            "rollout_duration",
            "How long an attempt took, by its outcome",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "lead_time",
            "From the first attempt at a revision to its promotion",
            Unit::Seconds,
            self.lead_time.clone(),
        );
        registry.register_with_unit(
            "time_to_restore",
            "From the first user on a revision that was taken back until nobody was",
            Unit::Seconds,
            self.time_to_restore.clone(),
        );
    }

    pub(super) fn set(&self, key: &Key, standing: &Standing) {
        let of = |phase| PhaseLabels {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            phase: phase_name(phase),
        };
        for other in PHASES.into_iter().filter(|&other| other != standing.phase) {
            self.phase.remove(&of(other));
        }
        self.phase.get_or_create(&of(standing.phase)).set(1);
        let object = object(key);
        self.canary_weight
            .get_or_create(&object)
            .set(f64::from(standing.canary_weight) / 100.0);
        match standing.attempt_since {
            Some(since) => drop(self.attempt_since.get_or_create(&object).set(since.as_second())),
            None => drop(self.attempt_since.remove(&object)),
        }
        let names: Vec<String> = standing.objectives.iter().map(|o| o.name.clone()).collect();
        let before = self
            .told()
            .insert((key.namespace.clone(), key.name.clone()), names.clone());
        if before.is_none() {
            // A counter that appears with its first event hides that event from `rate()`.
            for outcome in OUTCOMES {
                self.rollouts.get_or_create(&end(key, outcome)).inc_by(0);
            }
            for by in [RevertedBy::Person, RevertedBy::Watch, RevertedBy::Group] {
                self.reverts.get_or_create(&revert(key, by)).inc_by(0);
            }
        }
        for gone in before.iter().flatten().filter(|name| !names.contains(name)) {
            self.forget_objective(key, gone);
        }
        for judged in &standing.objectives {
            self.set_objective(key, judged);
        }
    }

    fn set_objective(&self, key: &Key, judged: &Judged) {
        for kind in VERDICTS {
            let labels = verdict(key, &judged.name, kind);
            if kind == judged.verdict {
                self.verdict.get_or_create(&labels).set(1);
            } else {
                self.verdict.remove(&labels);
            }
        }
        for (bound, share) in [("harm", judged.harm), ("safe", judged.safe)] {
            self.evidence
                .get_or_create(&evidence(key, &judged.name, bound))
                .set(share);
        }
        let of = objective(key, &judged.name);
        for (family, share) in [
            (&self.budget_remaining, judged.budget_remaining),
            (&self.budget_spent, judged.budget_spent),
        ] {
            match share {
                Some(share) => drop(family.get_or_create(&of).set(share)),
                None => drop(family.remove(&of)),
            }
        }
    }

    fn forget_objective(&self, key: &Key, name: &str) {
        for kind in VERDICTS {
            self.verdict.remove(&verdict(key, name, kind));
        }
        for bound in ["harm", "safe"] {
            self.evidence.remove(&evidence(key, name, bound));
        }
        self.budget_remaining.remove(&objective(key, name));
        self.budget_spent.remove(&objective(key, name));
    }

    pub(super) fn ended(&self, key: &Key, finished: Finished) {
        self.rollouts.get_or_create(&end(key, finished.outcome)).inc();
        self.duration
            .get_or_create(&OutcomeLabels {
                outcome: outcome_name(finished.outcome),
            })
            .observe(finished.took.as_secs_f64());
        if let Some(lead_time) = finished.lead_time {
            self.lead_time.observe(lead_time.as_secs_f64());
        }
        if let Some(after) = finished.restored_after {
            self.time_to_restore.observe(after.as_secs_f64());
        }
    }

    pub(super) fn reverted(&self, key: &Key, by: RevertedBy) {
        self.reverts.get_or_create(&revert(key, by)).inc();
    }

    pub(super) fn judged(&self, verdict: VerdictKind) {
        self.verdicts
            .get_or_create(&KindLabels {
                verdict: verdict_name(verdict),
            })
            .inc();
    }

    pub(super) fn forget(&self, key: &Key) {
        let objectives = self.told().remove(&(key.namespace.clone(), key.name.clone()));
        for name in objectives.unwrap_or_default() {
            self.forget_objective(key, &name);
        }
        for phase in PHASES {
            self.phase.remove(&PhaseLabels {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                phase: phase_name(phase),
            });
        }
        self.canary_weight.remove(&object(key));
        self.attempt_since.remove(&object(key));
        for outcome in OUTCOMES {
            self.rollouts.remove(&end(key, outcome));
        }
        for by in [RevertedBy::Person, RevertedBy::Watch, RevertedBy::Group] {
            self.reverts.remove(&revert(key, by));
        }
    }

    /// What was said of the services is another replica's to say.
    pub(super) fn clear(&self) {
        let told = self.told().keys().cloned().collect::<Vec<_>>();
        for (namespace, name) in told {
            self.forget(&Key { namespace, name });
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Vec<String>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn object(key: &Key) -> ObjectLabels {
    ObjectLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn objective(key: &Key, objective: &str) -> ObjectiveLabels {
    ObjectiveLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        objective: objective.to_owned(),
    }
}

fn verdict(key: &Key, objective: &str, kind: VerdictKind) -> VerdictLabels {
    VerdictLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        objective: objective.to_owned(),
        verdict: verdict_name(kind),
    }
}

fn evidence(key: &Key, objective: &str, bound: &'static str) -> EvidenceLabels {
    EvidenceLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        objective: objective.to_owned(),
        bound,
    }
}

fn end(key: &Key, outcome: Outcome) -> EndLabels {
    EndLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        outcome: outcome_name(outcome),
    }
}

fn revert(key: &Key, by: RevertedBy) -> RevertLabels {
    RevertLabels {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        by: match by {
            RevertedBy::Person => "person",
            RevertedBy::Watch => "watch",
            RevertedBy::Group => "group",
        },
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Initializing => "Initializing",
        Phase::Healthy => "Healthy",
        Phase::Progressing => "Progressing",
        Phase::Paused => "Paused",
        Phase::RollingBack => "RollingBack",
        Phase::RolledBack => "RolledBack",
        Phase::Degraded => "Degraded",
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

fn verdict_name(kind: VerdictKind) -> &'static str {
    match kind {
        VerdictKind::Continue => "Continue",
        VerdictKind::Safe => "Safe",
        VerdictKind::RollBack => "RollBack",
        VerdictKind::NoData => "NoData",
    }
}

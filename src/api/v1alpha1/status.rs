//! PythonService: the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use molt_core::state::State;
use molt_readiness::Grade;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a PythonService is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PythonServiceStatus {
    /// In one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// In one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods of the revisions with traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Selects the pods of the revisions with traffic, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The revision that users are served by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<RevisionStatus>,
    /// The revision under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<RevisionStatus>,
    /// What a person went back to: it stands for the spec's revision until the template changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_revision: Option<String>,
    /// The current step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// Where each objective stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub slos: Option<Vec<SloStatus>>,
    /// Where the guards of the attempt under way stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<GuardsStatus>,
    /// How ready the spec is for production, by its own words alone; `kubectl molt lint` says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<ReadinessStatus>,
    /// Conditions that kstatus understands (`Ready`, `Reconciling`, `Stalled`), and `SpecValid`,
    /// `RouteReady`, `MetricsAvailable`, `CanaryReady`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// What the operator needs to go on after a restart. Not for reading by people or tools.
    // On the heap: services are moved about by value, and this is most of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<State>>,
}

/// How ready a spec is for production.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessStatus {
    /// `A` to `D`, or `F`; with an error at most `D`.
    pub grade: Grade,
    /// Of 100.
    #[schemars(range(min = 0, max = 100))]
    pub score: i32,
    /// The rules that don't hold, what matters most first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub failed: Vec<String>,
    /// The rules that would not hold, and are ignored by the annotation `molt.dev/lint-ignore`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub ignored: Vec<String>,
}

/// Where a PythonService is, in one word.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// A first revision is being deployed.
    Initializing,
    /// Stable serves; nothing moves.
    Healthy,
    /// Something moves.
    Progressing,
    /// An attempt waits for a person.
    Paused,
    /// Traffic goes back to stable.
    RollingBack,
    /// The revision that the spec asks for was rolled back; stable serves.
    RolledBack,
    /// Stable can't serve, or the spec can't be used.
    Degraded,
}

impl Phase {
    /// The place in a list of many services, from 0: what needs somebody comes first, then what moves. A service that no
    /// operator has looked at yet is like one that begins.
    pub fn urgency(phase: Option<Self>) -> u8 {
        match phase {
            Some(Self::Degraded) => 0,
            Some(Self::RolledBack) => 1,
            Some(Self::Paused) => 2,
            Some(Self::RollingBack) => 3,
            Some(Self::Progressing) => 4,
            Some(Self::Initializing) | None => 5,
            Some(Self::Healthy) => 6,
        }
    }
}

/// One revision.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Ten hex digits.
    pub revision: String,
    /// Pods asked for.
    pub replicas: i32,
    /// Pods that serve.
    pub ready: i32,
    /// The share of traffic that the router has acknowledged, in percent.
    pub weight: i32,
    /// The attempt, for a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
}

/// The current step.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Its index, from 0.
    pub index: i32,
    /// How many there are.
    pub total: i32,
    /// Index of the step whose wait a `Promote` ends now: this one, or the pause after it once its weight is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<i32>,
    /// When it was entered.
    pub started_at: jiff::Timestamp,
}

/// Where one objective stands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SloStatus {
    /// The objective.
    pub name: String,
    /// What was left of the window's error budget when the attempt started: `"83.1%"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_remaining: Option<String>,
    /// What this rollout has spent of it: `"0.2%"`; `unknown` without history.
    pub spent_by_rollout: String,
    /// `Continue`, `Safe`, `RollBack` or `NoData`.
    pub verdict: String,
    /// Evidence as factors: harm rolls back at 1/α, safe lets a step pass at 20 (confidence 95 %).
    pub evidence: EvidenceStatus,
    /// How fast the error budget burns, in the newest block with users on the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn: Option<BurnStatus>,
    /// What the canary served, and how much of it was bad.
    pub canary: CountsStatus,
    /// What stable served in the same time.
    pub stable: CountsStatus,
}

/// Burn rates: `"1.00"` spends the error budget in exactly one window. What is not known is absent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BurnStatus {
    /// The canary's own: its bad ratio by the share that may be bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// Stable's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// What the rollout adds to the service's burn at the canary's weight; below 0 if the canary is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributable: Option<String>,
}

/// Evidence as factors.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceStatus {
    /// For harm.
    pub harm: String,
    /// For safety, at the margin that the next move needs.
    pub safe: String,
}

/// Requests and the bad ones among them.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountsStatus {
    /// All.
    pub total: i64,
    /// Bad ones.
    pub bad: i64,
}

/// Where the guards stand.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardsStatus {
    /// One for each of `spec.guards.conditions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub conditions: Vec<GuardConditionStatus>,
    /// One for each guard of the runtime that is not off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub runtime: Vec<GuardStatus>,
}

/// Where one guard of the runtime stands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardStatus {
    /// Its field in `spec.guards`.
    pub name: String,
    /// `Rollback` or `Warn`.
    pub mode: String,
    /// `Within`, `Beyond`, or `NoData` where nothing can be compared, which speaks neither for nor against the canary.
    pub verdict: String,
    /// What is allowed.
    pub allowed: String,
    /// What was measured of the canary at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// What was measured of stable at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// Why there is nothing newer, or what it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where one threshold stands.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardConditionStatus {
    /// Its name.
    pub name: String,
    /// `Rollback`, or `Warn`, which decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What the number must be: `value < 0.8`.
    pub success_condition: String,
    /// `Met`, `NotMet` or `NotEvaluated`: what the last evaluation said.
    pub verdict: String,
    /// The last number there was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why there is no newer number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Evaluations that gave a number.
    pub evaluated: i32,
    /// Evaluations that failed.
    pub failed: i32,
    /// Evaluations that may fail.
    pub failure_limit: i32,
}

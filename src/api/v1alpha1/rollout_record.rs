//! RolloutRecord: the evidence of one attempt.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use molt_core::migration::PendingMigration;
use molt_core::state::{Outcome, Transition};
use serde::{Deserialize, Serialize};

use super::{ActionKind, ActionState, BurnStatus, CountsStatus, EvidenceStatus, GuardsStatus};

/// The evidence of one attempt. It has no owner, so that deleting the service does not erase it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "molt.dev",
    version = "v1alpha1",
    kind = "RolloutRecord",
    plural = "rolloutrecords",
    category = "molt",
    namespaced,
    status = "RolloutRecordStatus",
    derive = "PartialEq",
    doc = "The evidence of one attempt to bring a revision to all users.",
    validation = Rule::new("!has(oldSelf.status) || has(self.status)").message("a record says what happened; it can't be taken away"),
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".spec.revision"),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".spec.attempt"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Started", type_ = "date", json_path = ".spec.startedAt")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a record says what happened; it can't be changed"))]
pub struct RolloutRecordSpec {
    /// The PythonService.
    pub service: String,
    /// The revision under test.
    pub revision: String,
    /// The attempt at it, from 1.
    #[schemars(range(min = 1))]
    pub attempt: i32,
    /// The revision that served users when the attempt started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    /// When it started.
    pub started_at: jiff::Timestamp,
}

/// What happened.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.outcome) || self == oldSelf")
        .message("the attempt has ended; its record can't be changed"),
    // Looked up by content: the server's budget has room for it, and a transition has no key.
    validation = Rule::new("oldSelf.transitions.all(t, t in self.transitions)")
        .message("a record is only added to: no transition is changed or taken away"),
    validation = Rule::new("!has(oldSelf.actions) || (has(self.actions) && oldSelf.actions.all(a, a in self.actions))")
        .message("a record is only added to: no action is changed or taken away"),
    validation = Rule::new("!has(oldSelf.actionsBefore) || (has(self.actionsBefore) && self.actionsBefore == oldSelf.actionsBefore)")
        .message("what was asked for before the attempt began is written once"),
    validation = Rule::new("oldSelf.verdicts.all(v, v in self.verdicts || (size(oldSelf.verdicts) > 50 && !self.verdicts.exists(w, w.at == v.at && w.slo == v.slo)))")
        .message("a record is only added to: where there are more than 50 verdicts they are thinned, and none is changed"),
    validation = Rule::new("!has(oldSelf.change) || (has(self.change) && self.change == oldSelf.change)")
        .message("what changed is written once")
)]
pub struct RolloutRecordStatus {
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why: one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<jiff::Timestamp>,
    /// How long it took, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// What the revision changes, and who says to have changed it. Absent of a first revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<RecordedChange>,
    /// What people asked for while it ran, the first 40.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub actions: Vec<RecordedAction>,
    /// What people asked for after the attempt before it had ended and before this one began, the newest 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub actions_before: Vec<RecordedAction>,
    /// What had to happen before its first pod, and what came of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub gates: Vec<RecordedGate>,
    /// The highest weight that was acknowledged, in percent.
    #[serde(default)]
    pub max_weight: i32,
    /// Every transition.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub transitions: Vec<Transition>,
    /// What each objective says in all.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub slos: Vec<RecordedSlo>,
    /// Where the guards stood at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<GuardsStatus>,
    /// Verdicts: the first and last ones of each step in full, the rest thinned.
    #[serde(default)]
    #[schemars(length(max = 400))]
    pub verdicts: Vec<RecordedVerdict>,
}

/// A gate, and what came of it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedGate {
    /// `migrations`; `contract` or `downgrade` of what was done to the database between the attempt before and this one.
    #[schemars(length(max = 63))]
    pub name: String,
    /// `Passed`, `Failed`, or `Open` while it is neither, and if the attempt ended otherwise before. Of what was left to be done
    /// before it also `Rejected` by a person, or `Left`, for nothing is left of the revision.
    #[schemars(length(max = 16))]
    pub outcome: String,
    /// Whose it was, who approved or rejected it, and why it failed: the end of what the failing command said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub message: Option<String>,
    /// Migrations that were pending when it was checked, and what each does to older revisions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub pending: Vec<PendingMigration>,
    /// Those that were applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied: Vec<String>,
    /// Those that were held back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub held: Vec<String>,
    /// When it came to its end, where that was before this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// What a revision changes against the one that was stable when its attempt began.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedChange {
    /// The PythonService's annotation `molt.dev/author`, as it was written; absent when the attempt is not at the
    /// spec's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub author: Option<String>,
    /// What differs, the first 60: keys of ConfigMaps that the template names, as `configmap/env[LOG_LEVEL]` (Secrets, and
    /// what can't be read any more, by their names alone), and then fields of the pod template, in order of their names.
    #[serde(default)]
    #[schemars(length(max = 60))]
    pub template: Vec<FieldChange>,
    /// Fields that differ beyond those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<i32>,
}

/// One field of the pod template that differs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// Its path: `spec.containers[app].image`, or `configmap/env[LOG_LEVEL]`, whose values are not recorded.
    #[schemars(length(max = 256))]
    pub field: String,
    /// What stable has; absent where it has nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub before: Option<String>,
    /// What the revision has; absent where it has nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub after: Option<String>,
}

/// What a person asked for.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedAction {
    /// When it was handled.
    pub at: jiff::Timestamp,
    /// The RolloutAction's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What.
    pub action: ActionKind,
    /// Who.
    #[schemars(length(max = 256))]
    pub requested_by: String,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// `Applied`, or `Expired` and without effect.
    pub state: ActionState,
    /// What became of it.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What one objective says of the whole attempt.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedSlo {
    /// The objective.
    pub name: String,
    /// The share of good requests that it asks for, in percent: `"99.9"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub objective: Option<String>,
    /// How good and bad were counted: `otel latency 250ms`, or the two counters, bad first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2100))]
    pub sli: Option<String>,
    /// What the canary served.
    pub canary: CountsStatus,
    /// What stable served in the same time.
    pub stable: CountsStatus,
    /// The share of the window's error budget spent by the attempt: `"0.02%"`; `unknown` without history.
    pub spent_by_rollout: String,
    /// Evidence at the end.
    pub evidence: EvidenceStatus,
}

/// One judged block.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedVerdict {
    /// The block's end.
    pub at: jiff::Timestamp,
    /// The step.
    pub step: i32,
    /// The canary's weight, in percent.
    pub weight: i32,
    /// The objective.
    #[schemars(length(max = 63))]
    pub slo: String,
    /// The canary's counts in the block.
    pub canary: CountsStatus,
    /// Stable's counts in the block.
    pub stable: CountsStatus,
    /// Evidence after it.
    pub evidence: EvidenceStatus,
    /// The margin by which the canary may be worse, for the safe evidence.
    pub margin: String,
    /// The share of the window's error budget spent so far.
    pub spent: String,
    /// How fast the error budget burnt in the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn: Option<BurnStatus>,
    /// `Continue`, `Safe`, `RollBack` or `NoData`.
    pub verdict: String,
}

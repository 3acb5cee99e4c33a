//! RolloutAction: what a person does.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a person asks of a rollout; immutable, and used once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "molt.dev",
    version = "v1alpha1",
    kind = "RolloutAction",
    plural = "rolloutactions",
    category = "molt",
    namespaced,
    status = "RolloutActionStatus",
    derive = "PartialEq",
    doc = "What a person asks of a rollout; immutable, and used once. Leave it out of Git.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.action == 'Undo' || !has(self.toRevision)").message("toRevision: belongs to Undo alone"))]
#[x_kube(validation = Rule::new("self.action == 'Promote' || !has(self.step)").message("step: belongs to Promote alone"))]
#[x_kube(validation = Rule::new("self.action in ['Approve', 'Reject'] || !has(self.gate)").message("gate: belongs to Approve and Reject alone"))]
#[x_kube(validation = Rule::new("self == oldSelf").message("an action can't be changed: create another one"))]
pub struct RolloutActionSpec {
    /// The PythonService.
    #[schemars(length(min = 1, max = 46))]
    pub service: String,
    /// The revision that is meant; the action expires if it is no longer the one under test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The attempt that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempt: Option<i32>,
    /// `Promote` only: index of the step whose wait is meant, as `status.step.awaited` of the PythonService has it; the action
    /// expires if the attempt has gone past it, so that one that is sent twice ends one wait. Default: whatever it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub step: Option<i32>,
    /// What to do.
    pub action: ActionKind,
    /// `Undo` only: the revision to go back to. Default: the one that was stable before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub to_revision: Option<String>,
    /// `Approve` and `Reject` only: what of. `contract` is the migration that breaks older revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub gate: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Who asks.
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: String,
}

/// What to do.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionKind {
    /// Past the current pause or wait for evidence.
    Promote,
    /// Past all steps, pauses and waits that are left, to full traffic and its bake.
    PromoteFull,
    /// Back to stable.
    Abort,
    /// Once more at the revision that was taken back; `revision` and `attempt` are those of the last attempt.
    Retry,
    /// No further for now: the canary keeps its weight, and harm still takes it back.
    Pause,
    /// On from a pause.
    Resume,
    /// On in spite of a spent error budget or an incident of both revisions, in this attempt.
    Override,
    /// Back to the revision before, or to `toRevision`, until the template changes; `revision` is stable's.
    Undo,
    /// New pods for the stable revision, one after the other; `revision` is stable's.
    Restart,
    /// The Deployment that was taken over gets its place back; `revision` is stable's.
    Release,
    /// What waits for a word, named by `gate`, may go on; `revision` is stable's.
    Approve,
    /// What waits for a word, named by `gate`, is not done.
    Reject,
}

/// What became of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutActionStatus {
    /// In one word; absent until it is handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ActionState>,
    /// In a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_at: Option<jiff::Timestamp>,
}

/// What became of an action.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionState {
    /// Done.
    Applied,
    /// It meant a service that does not exist, or a revision or attempt that is no longer current; nothing was changed.
    Expired,
}

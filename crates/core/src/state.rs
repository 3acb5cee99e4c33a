//! What decides and must survive a restart. It lives in the status of the PythonService: small and bounded.

mod check;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::adoption::Adoption;
use crate::analysis::{Counts, Evidence};
use crate::config::ConfigState;
use crate::group::GroupState;
use crate::guard::{GuardMode, GuardState};
use crate::migration::{Database, Migration, MigrationStage};
use crate::observed::Action;
use crate::plan::{Revision, SloPlan, Step};
use crate::room::Connections;

/// At most this many transitions of an attempt are kept in the state; the first half and the newest are.
pub const MAX_TRANSITIONS: usize = 40;
/// At most this many handled actions are remembered; older ones are recognised by their attempt.
pub const MAX_ACTIONS: usize = 16;
/// At most so many actions that were handled between attempts are kept, the newest.
pub const MAX_ACTS: usize = 16;
/// At most so many characters of why an act was asked for, and of what became of it.
pub const MAX_ACT_TEXT: usize = 250;
/// At most so many revisions that were stable are remembered.
pub const MAX_SERVED: usize = 10;
/// At most so many runs of a job are remembered as counted: more than Kubernetes keeps of those that ended.
pub const MAX_COUNTED_RUNS: usize = 64;
/// At most so many durations of runs are remembered.
pub const MAX_DURATIONS: usize = 20;

/// The whole persisted state of one PythonService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The revision that users are served by; absent until a first one has been deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Revision>,
    /// Since when there is no ReplicaSet of the stable revision, while the spec asks for another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_lost_since: Option<Timestamp>,
    /// The attempt under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The last attempt that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Ended>,
    /// A revision that was rolled back or aborted; it stays refused until another revision is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Revision>,
    /// What a person, or the group, went back to, until the spec goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
    /// The stable revision was promoted not long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// The pods of the stable revision are being replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Revisions that were stable before, the last one first; at most [`MAX_SERVED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<Revision>,
    /// Revisions without traffic whose pods wait for their drain time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retiring: Vec<Retiring>,
    /// A user's route only: the weights that were last seen as Molt had written them; absent once somebody
    /// has changed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asserted: Option<SlotWeights>,
    /// Somebody who lately wrote the weights of a user's route back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<Rival>,
    /// Somebody else who lately changed the number of a revision's pods in its ReplicaSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<Scaler>,
    /// Pods that the service is to have again, while stable may have fewer to make room for a canary, or has one more for a
    /// restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<u32>,
    /// Of what may run only once: the revision that was asked for a pod last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
    /// Of what runs by a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// UIDs of the actions that were handled, newest last: none is handled twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// UIDs of the actions that had expired when they were looked at, newest last: none is applied afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expired_actions: Vec<String>,
    /// What people asked for while no attempt was under way, the newest last: the record of the next attempt keeps it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub acts: Vec<Act>,
    /// The Deployment that `spec.workloadRef` names, once it is being taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Of the group that it is released with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupState>,
    /// What is known of the service's database, where migrations are a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The revision that the spec asks for, where content is part of it; absent while the template names nothing that
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ConfigState>,
}

impl State {
    /// Pods that a service wants of which `spec.replicas` says nothing; `wanted` is what stable's ReplicaSet is asked for.
    #[must_use]
    pub fn strength_beside(&self, wanted: Option<u32>) -> Option<u32> {
        self.strength.or(wanted)
    }
}

/// A revision that was promoted, and is looked at for a while longer: what spends the error budget then still takes users
/// back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watch {
    /// The revision that was stable before it.
    pub back_to: Revision,
    /// Since when users have been on it.
    pub exposed_since: Timestamp,
    /// Since when all of them have been.
    pub since: Timestamp,
    /// When it is over.
    pub until: Timestamp,
    /// The last edge of the block grid that evidence was read up to.
    pub measured_to: Timestamp,
    /// Evidence, one for each objective: that of the bake goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<SloEvidence>,
}

/// The revision that was asked for the only pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Alone {
    /// The revision.
    pub revision: Revision,
    /// When it was asked for.
    pub since: Timestamp,
    /// Its ReplicaSet was seen to be asked for a pod since.
    #[serde(default)]
    pub seen: bool,
}

/// A revision that stands for the spec's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pin {
    /// What is wanted.
    pub revision: Revision,
    /// The spec's, which it stands for: once the spec asks for another, the pin is forgotten.
    pub instead_of: Revision,
    /// What spoke against the spec's while it was watched; absent where a person went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 600))]
    pub why: Option<String>,
    /// Nobody asked for it: another service of the group was taken back; in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub group: Option<String>,
}

/// What is known of the runs of what runs by a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runs {
    /// UIDs of the runs that ended and were counted, newest last; at most [`MAX_COUNTED_RUNS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub counted: Vec<String>,
    /// Seconds that the last runs took which succeeded, of revisions that were stable or became it, newest last; at most
    /// [`MAX_DURATIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub seconds: Vec<u32>,
    /// Stable's last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
}

/// Stable's last run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastRun {
    /// When it ended.
    pub at: Timestamp,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub failure: Option<String>,
}

/// What the runs of an attempt have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trial {
    /// Seconds that the runs took which succeeded, in the order of their ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub seconds: Vec<u32>,
    /// What speaks against it: a word, and a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<RunFault>,
}

/// What speaks against a revision after one of its runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunFault {
    /// One `CamelCase` word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// A sentence.
    #[schemars(length(max = 700))]
    pub message: String,
}

/// A person has asked for new pods of the stable revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// The revision.
    pub revision: Revision,
    /// Pods that are older than this are replaced. By the API server's clock, in whole seconds.
    pub since: Timestamp,
    /// UIDs of pods of that very second that were there when it began: others of it were asked for by the restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub same: Vec<String>,
    /// The person, and why: `by ada: INC-12`.
    #[schemars(length(max = 400))]
    pub by: String,
    /// Pods that were there when it began.
    pub pods: u32,
    /// Pods of these that were left when they were counted last.
    pub left: u32,
    /// When it ends unless another pod has been replaced by then.
    pub deadline: Timestamp,
}

/// What a person asked for while no attempt was under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Act {
    /// When it was handled.
    pub at: Timestamp,
    /// The action object's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// What.
    pub action: Action,
    /// Who.
    #[schemars(length(max = 253))]
    pub requested_by: String,
    /// Why, in the person's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 250))]
    pub reason: String,
    /// It was applied; otherwise it had expired.
    pub applied: bool,
    /// What became of it.
    #[schemars(length(max = 250))]
    pub message: String,
    /// An attempt has begun since, whose record keeps it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
}

/// The weights of a user's route's two fixed names, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotWeights {
    /// Of `<service>-stable`.
    pub stable: u8,
    /// Of `<service>-canary`.
    pub canary: u8,
}

/// Another field manager that changed the weights which Molt had written. It is forgotten once it has kept
/// still for long enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rival {
    /// Its name, as the API server knows it.
    pub manager: String,
    /// When its last change was seen, or the weights were last set again.
    pub last: Timestamp,
    /// How often Molt has set the weights again without a long rest.
    pub times: u32,
}

/// Another field manager that changed how many pods a revision has. It is forgotten once it has kept still for long
/// enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scaler {
    /// Its name, as the API server knows it.
    #[schemars(length(max = 128))]
    pub manager: String,
    /// Whose ReplicaSet it changed last.
    pub revision: Revision,
    /// When its last change was seen, or was last taken back.
    pub last: Timestamp,
    /// How often Molt has taken it back without a long rest.
    pub times: u32,
}

/// The canary's share of the traffic, as the router has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Carried {
    /// In percent.
    pub percent: u8,
    /// Since when, acknowledged.
    pub since: Timestamp,
}

/// The canary's endpoints, as far as the router can know of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoints {
    /// Pods that the router has had the time to learn of.
    pub known: u32,
    /// More that have become endpoints since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming: Option<Coming>,
}

/// Endpoints that the router may not know of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Coming {
    /// Pods in all, those that it knows included.
    pub pods: u32,
    /// Since when so many have been seen.
    pub since: Timestamp,
}

/// One attempt to bring a revision to all users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    /// The revision under test.
    pub revision: Revision,
    /// Counts the attempts at this revision, from 1.
    pub number: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Where it is.
    #[schemars(with = "StageForm")]
    pub stage: Stage,
    /// When it came there.
    pub since: Timestamp,
    /// The steps it runs: those of the spec when it started.
    pub steps: Vec<Step>,
    /// After the steps all users move at once, and none of them meets both revisions in between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
    /// Index of the current step; equal to the number of steps once they are done.
    pub step: u32,
    /// When the current step was entered.
    pub step_since: Timestamp,
    /// The share of traffic, in percent, that the attempt asks for; what the router has is observed.
    pub weight: u8,
    /// The highest weight that was acknowledged.
    #[serde(default)]
    pub max_weight: u8,
    /// Since when users have been on the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_since: Option<Timestamp>,
    /// When it asked for that weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_at: Option<Timestamp>,
    /// Since when the router has had just the weight that the attempt asks for, above 0; the share of requests
    /// says nothing of the canary before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<Timestamp>,
    /// The canary's pods that the router has had the time to learn of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The share that the router gives the canary, where pods may go because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// The connections of the database that pods of the canary may use up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// When the current wait ends without a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How far the evidence had come when the wait for it was last prolonged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Patience>,
    /// While it is held by a deadline: what that depended on. A hold without it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The step whose wait for evidence is over: by evidence, or by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleared_step: Option<u32>,
    /// Since when an incident that stable has as well has kept it waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_since: Option<Timestamp>,
    /// Who had it go on in spite of a spent error budget or an incident of both revisions, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub overridden: Option<String>,
    /// It goes no further for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What the bake made suspect, and both are compared for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// Its migrations, where they are a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// The last edge of the block grid that evidence was read up to.
    pub measured_to: Timestamp,
    /// The header that says which revisions of its group a request came by, while that decides which one it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub group_header: Option<String>,
    /// Evidence, one for each objective.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<SloEvidence>,
    /// Thresholds, one for each that was evaluated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionState>,
    /// Guards of the runtime, one for each that was looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardState>,
    /// Of what runs by a schedule: what its runs have shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// What happened so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
}

/// How far the evidence had come when the wait for it was prolonged: it is prolonged while the evidence grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patience {
    /// How often it was prolonged.
    pub times: u8,
    /// Thousandths of the natural logarithm of the evidence for safety, of the objective that has least.
    pub safe_milli: i64,
    /// Requests of the canary.
    pub requests: u64,
}

/// Somebody stopped the progress of an attempt: it keeps its weight, and is judged as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// The person, and why: `by ada: INC-12`. A person's pause is ended by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub person: Option<String>,
    /// `spec.paused` is true.
    #[serde(default)]
    pub spec: bool,
    /// Everything is paused: who did it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub fleet: Option<String>,
}

/// A pause by the spec, in words.
pub(crate) const BY_SPEC: &str = "spec.paused is true: set it to false";

/// A pause of everything, in words; `by` says who and why.
pub(crate) fn by_fleet(by: &str) -> String {
    format!("the fleet is paused {by} (`kubectl molt fleet resume` ends it)")
}

impl Pause {
    /// That no person's resumption of this one service ends it, and what does.
    pub fn standing(&self) -> Option<String> {
        let spec = self.spec.then(|| BY_SPEC.to_owned());
        let both: Vec<String> = spec
            .into_iter()
            .chain(self.fleet.as_deref().map(by_fleet))
            .collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// Whose pause it is, and how it ends.
    pub fn text(&self) -> String {
        let person = self.person.as_ref().map(|by| format!("paused {by}"));
        let all: Vec<String> = person.into_iter().chain(self.standing()).collect();
        all.join("; ")
    }
}

/// Harm was suspected in the bake, and most of the traffic went back to stable so that both could be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Doubt {
    /// How often in this attempt.
    pub times: u8,
    /// It is not settled yet.
    pub open: bool,
    /// Since when the router has had the weight that both are compared at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The lowest weight, in percent, that the canary had on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<u8>,
}

/// What a hold depended on: once it is corrected, the attempt goes on by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    /// [`Plan::basis`](crate::plan::Plan::basis) when it began.
    pub basis: String,
    /// The weight that the attempt had, in percent.
    pub weight: u8,
}

/// The evidence of one objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SloEvidence {
    /// The objective's name.
    pub name: String,
    /// [`SloPlan::question`](crate::plan::SloPlan::question) that was asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub question: String,
    /// Requests expected in the objective's window; absent while there is no history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_requests: Option<u64>,
    /// Share of the window's error budget that was left when the attempt started, in parts per million;
    /// negative once overspent. Absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_remaining_ppm: Option<i64>,
    /// The last edge that this objective was read up to.
    pub measured_to: Timestamp,
    /// The newest block with users on the canary: the burn rates that are shown are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestBlock>,
    /// The evidence itself.
    pub evidence: Evidence,
}

impl SloEvidence {
    /// It answers this objective's question, and not that of another of the same name.
    pub fn is_of(&self, slo: &SloPlan) -> bool {
        self.name == slo.name && self.question == slo.question
    }
}

/// What was counted in one block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewestBlock {
    /// The canary's weight in percent.
    pub weight: u8,
    /// The canary's counts.
    pub canary: Counts,
    /// Stable's counts.
    pub stable: Counts,
}

/// Where one threshold stands in an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionState {
    /// Its name.
    pub name: String,
    /// What is wanted: `value < 0.8`, or that the Job succeeds.
    pub bound: String,
    /// What its failures do.
    #[serde(default)]
    pub mode: GuardMode,
    /// Evaluations that may fail.
    pub failure_limit: u32,
    /// Evaluations that failed.
    #[serde(default)]
    pub failed: u32,
    /// Evaluations that gave a number, or runs that said something.
    #[serde(default)]
    pub evaluated: u32,
    /// The edge that the last number is of, or the begin of the last run that said something; none is counted
    /// twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluated_at: Option<Timestamp>,
    /// The number of the last evaluation that gave one, as text; what became of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// That number satisfied the bound.
    #[serde(default)]
    pub last_met: bool,
    /// Why the last time that it was asked for gave no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_evaluated: Option<String>,
    /// The weight, in percent, at which the last number satisfied the bound; absent once one did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at_weight: Option<u8>,
    /// A Job only: its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobState>,
}

/// The runs of one condition's Job in an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobState {
    /// [`JobPlan::digest`](crate::plan::JobPlan::digest) of what was run.
    pub digest: String,
    /// How many were begun; the number of the last.
    #[serde(default)]
    pub runs: u32,
    /// The one under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<JobRun>,
    /// After a run that failed or said nothing: when the next begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The weight, in percent, that the last run that failed was begun at; absent once one succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at_weight: Option<u8>,
    /// How the last run that said something ended, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A run of a Job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRun {
    /// When it was begun.
    pub since: Timestamp,
    /// The weight, in percent, that it was begun at.
    pub weight: u8,
    /// The Job was seen: it has been created, and is not created again.
    #[serde(default)]
    pub seen: bool,
}

/// Where an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StageForm", into = "StageForm")]
pub enum Stage {
    /// The database is brought to where the revision needs it. It has no pod yet.
    Migrating,
    /// A first revision: nothing serves yet. Its pods start; the route comes when they are ready.
    Deploying,
    /// The steps run.
    Stepping,
    /// The steps are done: full strength, then full traffic.
    Promoting,
    /// Full traffic, the old revision still at full strength.
    Baking {
        /// When the bake is over.
        until: Timestamp,
    },
    /// A user's route only: the fixed-name services and weights return to their idle form.
    Settling,
    /// Neither harm nor safety could be shown in time: no traffic, pods kept, waits for a person, or for a
    /// correction of what stood in the way.
    Held,
    /// Traffic goes back to stable; ends when the router has acknowledged it.
    Withdrawing {
        /// How the attempt will end.
        outcome: Outcome,
        /// Why: one `CamelCase` word.
        reason: String,
        /// Why, in a sentence.
        message: String,
    },
}

/// The persisted form of a [`Stage`]: a structural schema can't mix plain words and objects in one enum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StageForm {
    name: StageName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum StageName {
    Migrating,
    Deploying,
    Stepping,
    Promoting,
    Baking,
    Settling,
    Held,
    Withdrawing,
}

impl From<Stage> for StageForm {
    fn from(stage: Stage) -> Self {
        let plain = |name| StageForm {
            name,
            until: None,
            outcome: None,
            reason: None,
            message: None,
        };
        match stage {
            Stage::Migrating => plain(StageName::Migrating),
            Stage::Deploying => plain(StageName::Deploying),
            Stage::Stepping => plain(StageName::Stepping),
            Stage::Promoting => plain(StageName::Promoting),
            Stage::Baking { until } => StageForm {
                until: Some(until),
                ..plain(StageName::Baking)
            },
            Stage::Settling => plain(StageName::Settling),
            Stage::Held => plain(StageName::Held),
            Stage::Withdrawing {
                outcome,
                reason,
                message,
            } => StageForm {
                outcome: Some(outcome),
                reason: Some(reason),
                message: Some(message),
                ..plain(StageName::Withdrawing)
            },
        }
    }
}

impl TryFrom<StageForm> for Stage {
    type Error = &'static str;

    fn try_from(form: StageForm) -> Result<Self, Self::Error> {
        Ok(match form.name {
            StageName::Migrating => Stage::Migrating,
            StageName::Deploying => Stage::Deploying,
            StageName::Stepping => Stage::Stepping,
            StageName::Promoting => Stage::Promoting,
            StageName::Baking => Stage::Baking {
                until: form.until.ok_or("stage Baking has no until")?,
            },
            StageName::Settling => Stage::Settling,
            StageName::Held => Stage::Held,
            StageName::Withdrawing => Stage::Withdrawing {
                outcome: form.outcome.ok_or("stage Withdrawing has no outcome")?,
                reason: form.reason.unwrap_or_default(),
                message: form.message.unwrap_or_default(),
            },
        })
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The revision is stable now.
    Promoted,
    /// Evidence or a hard gate spoke against it.
    RolledBack,
    /// A person, or a spec that was taken back, ended it.
    Aborted,
    /// Another revision took its place.
    Superseded,
    /// Neither harm nor safety could be shown, and the policy is to roll back.
    Inconclusive,
}

/// An attempt that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ended {
    /// Its revision.
    pub revision: Revision,
    /// Its number.
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why: one `CamelCase` word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The revision that was stable when it ended, before a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<Revision>,
    /// The highest weight that was acknowledged.
    pub max_weight: u8,
    /// Its migrations, where they are a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// The evidence at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<SloEvidence>,
    /// The thresholds at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionState>,
    /// The guards of the runtime at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardState>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
}

impl Ended {
    /// It ended at its migrations: it never had a pod.
    pub fn ended_at_migrations(&self) -> bool {
        let open = |m: &Migration| m.stage != MigrationStage::Applied;
        self.migration.as_ref().is_some_and(open)
    }
}

impl Outcome {
    /// Somebody, or something, has spoken against the revision, so that it is not tried again by itself. Of one that was
    /// superseded, reverted or deleted nobody did. `reason` is the attempt's.
    pub fn refuses(self, reason: &str) -> bool {
        match self {
            Self::RolledBack | Self::Inconclusive => true,
            Self::Aborted => ["AbortedByPerson", "WeightLowered", "GroupAborted"].contains(&reason),
            Self::Promoted | Self::Superseded => false,
        }
    }
}

/// A revision that waits to be scaled down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retiring {
    /// The revision.
    pub revision: Revision,
    /// When its pods may go.
    pub scale_down_at: Timestamp,
    /// The router has not acknowledged yet that nobody is sent to it: its connections begin to drain when it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
}

/// One thing that happened in an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// What: one `CamelCase` word; the reason of the event too.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The weight asked for afterwards, in percent.
    pub weight: u8,
}

//! What the edges saw of the world: facts, without judgement.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::adoption::Sight;
use crate::analysis::{AtRoute, Counts, Past, PodCounts};
use crate::group::Peer;
use crate::guard::RuntimeBlock;
use crate::migration::MigrationReport;
use crate::plan::Revision;
use crate::step::{HeaderMatch, Mirror};

/// Everything that was seen for one PythonService at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The ReplicaSets that belong to it.
    pub revisions: BTreeMap<Revision, RevisionView>,
    /// The route as it is.
    pub route: RouteView,
    /// What each fixed-name service selects, as it is.
    pub selected: BTreeMap<Slot, Selection>,
    /// The service of the service's own name, which is Molt's, selects the pods of every revision.
    pub shared: bool,
    /// Evidence read for this decision; `None` when none was due.
    pub measurement: Option<Measurement>,
    /// Actions that have not been ended yet, oldest first.
    pub actions: Vec<ActionView>,
    /// The pods of the stable revision one by one; only while a restart is under way, or asked for.
    pub stable_pods: Option<StablePods>,
    /// The highest attempt number seen for each revision on ReplicaSets and records.
    pub attempts: BTreeMap<Revision, u32>,
    /// Revisions whose newest record says that they were taken back, or promoted: where the state was lost, one of them that
    /// serves nobody is not begun with again by itself.
    pub tried: BTreeSet<Revision>,
    /// The Jobs of conditions that there are, and those that the API server did not take.
    pub jobs: BTreeMap<JobKey, JobPhase>,
    /// Of what runs by a schedule: its CronJob, and the runs.
    pub runs: RunsView,
    /// What the Jobs of migrations wrote down at their end.
    pub reports: BTreeMap<JobKey, MigrationReport>,
    /// Pods of migrations that may still run though their Job is deleted or has ended, and Jobs of migrations that are being
    /// deleted: as people look for them, `pod shop-job-x1-abcde`. Beside them no other run begins.
    pub leaving_migrations: Vec<String>,
    /// The Deployment that `spec.workloadRef` names, or that was taken over.
    pub workload: Sight,
    /// A Service of the service's own name is somebody else's, and stays so.
    pub name_taken: bool,
    /// The other services of its group.
    pub peers: Vec<Peer>,
    /// Somebody has paused every service of this operator: who, and why, such as `by ada: INC-12`.
    pub fleet_paused: Option<String>,
    /// What stands in the way, as the edges found it.
    pub problems: Vec<Problem>,
}

impl Observed {
    /// Ready pods of a revision that are endpoints as well.
    pub fn ready(&self, revision: &Revision) -> u32 {
        self.revisions.get(revision).map_or(0, RevisionView::serving)
    }

    /// Pods of a revision that serve and have been ready for long enough.
    pub fn available(&self, revision: &Revision) -> u32 {
        self.revisions.get(revision).map_or(0, RevisionView::available)
    }

    /// The first problem of a kind.
    pub fn problem(&self, kind: ProblemKind) -> Option<&Problem> {
        self.problems.iter().find(|p| p.kind == kind)
    }
}

/// One ReplicaSet and its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevisionView {
    /// Pods that the ReplicaSet is asked for.
    pub wanted: u32,
    /// Pods that exist.
    pub pods: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Of the ready ones, those that have not been ready for `spec.minReadySeconds` yet: they serve, and nothing goes on
    /// because of them.
    pub young: u32,
    /// The field manager, other than Molt, that wrote `wanted` last.
    pub scaled_by: Option<String>,
    /// Ready addresses behind the revision's own service.
    pub endpoints: u32,
    /// The revision's own service exists.
    pub has_service: bool,
    /// When the ReplicaSet was created.
    pub created_at: Option<Timestamp>,
    /// The attempt that the ReplicaSet was last used by.
    pub attempt: u32,
    /// What is wrong with its pods, worst first.
    pub trouble: Option<Trouble>,
    /// Its pod template is no longer the one that its first pods were created from.
    pub altered: bool,
    /// Its containers that were restarted, whether they have recovered or not.
    pub crashes: Vec<Crashes>,
    /// For each pod that was ready, whose containers go on running, and that is not ready now: since when.
    pub unready_since: Vec<Timestamp>,
}

impl RevisionView {
    /// Pods that can serve: ready, and known to the proxies by their endpoint.
    pub fn serving(&self) -> u32 {
        self.ready.min(self.endpoints)
    }

    /// Pods that a rollout may rely on: they serve, and have done so for long enough.
    pub fn available(&self) -> u32 {
        self.ready.saturating_sub(self.young).min(self.endpoints)
    }
}

/// The pods of the stable revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StablePods {
    /// Each of them that has not ended.
    pub pods: Vec<PodView>,
    /// Why the last eviction was refused.
    pub refused: Option<String>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// When it was created, by the API server's clock, in whole seconds.
    pub created_at: Timestamp,
    /// It serves.
    pub ready: bool,
    /// It is on its way out.
    pub leaving: bool,
}

/// What is wrong with a revision's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The kind.
    pub kind: TroubleKind,
    /// Which pod and container, and what the kubelet said of it.
    pub message: String,
    /// How often the container was restarted.
    pub restarts: u32,
}

/// The ends of one container's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crashes {
    /// Which pod and container, and how the last run ended.
    pub message: String,
    /// When runs ended, oldest first, as far as it is known: the last two at least, by the node's clock.
    pub ends: Vec<Timestamp>,
    /// Those of them that were kills for want of memory, as far as it is known.
    pub out_of_memory: Vec<Timestamp>,
}

/// Kinds of trouble with pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// A container runs, and a probe keeps it from being ready: usual while it starts.
    NotReady,
    /// A pod can't be created (quota, admission).
    CreateFailed,
    /// No node takes it.
    Unschedulable,
    /// The image can't be pulled; may pass.
    ImagePull,
    /// The container can't be made yet, for want of something it refers to; may pass.
    NotCreated,
    /// The container can't be made from what the template says; never passes.
    BadContainer,
    /// The container ends again and again.
    CrashLoop,
}

/// A backend of the route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// The service of one revision (owned route).
    Revision(Revision),
    /// A fixed-name service (a user's route).
    Slot(Slot),
}

/// A service with a fixed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// `<service>`: callers inside the cluster.
    InCluster,
    /// `<service>-stable`: a user's route.
    Stable,
    /// `<service>-canary`: a user's route.
    Canary,
}

/// What a fixed-name service selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The revision in its selector.
    pub revision: Revision,
    /// Ready addresses behind it that belong to that revision.
    pub endpoints: u32,
}

/// Weights by backend, in percent; they sum to 100.
pub type Weights = BTreeMap<Backend, u8>;

/// What a route of Molt's own sends to a revision beside its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The revision.
    pub revision: Revision,
    /// Requests with headers that match all of one of these go to it.
    pub headers: Vec<Vec<HeaderMatch>>,
    /// It gets copies of requests, and nobody gets its answers to them.
    pub mirror: Option<Mirror>,
    /// What stays with another revision, whatever the weights.
    pub kept: Option<Kept>,
}

/// Requests that stay with a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The revision.
    pub revision: Revision,
    /// Those with headers that match all of these.
    pub headers: Vec<HeaderMatch>,
}

/// The route as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// It exists.
    pub exists: bool,
    /// The weights of our backends, as written in the route.
    pub weights: Weights,
    /// What it sends to a revision beside its weight.
    pub preview: Option<Preview>,
    /// Every parent has accepted and resolved the route in its present form.
    pub acknowledged: bool,
    /// Whose the rules are.
    pub rules: RulesOwners,
}

/// The field managers of a route's rules. The rules are one atomic list, so whoever changed a weight
/// last owns them all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesOwners {
    /// Molt is one of them: nobody has changed the rules since Molt wrote its weights.
    pub ours: bool,
    /// The last of the others.
    pub other: Option<String>,
    /// When that one wrote them, by the API server's clock, in whole seconds.
    pub other_at: Option<Timestamp>,
    /// For the field managers that may be told of: the setting that makes it leave the weights alone.
    pub advice: BTreeMap<String, String>,
}

/// Evidence for the blocks that were due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// Blocks in order of time, one entry for each objective in the plan's order.
    pub blocks: Vec<MeasuredBlock>,
    /// History of each objective, in the plan's order; empty when it was not asked for.
    pub history: Vec<History>,
    /// What was read for each condition with a bound, in the plan's order; empty when they were not asked for.
    pub conditions: Vec<ConditionReading>,
    /// What the runtimes told of the same blocks; empty when it was not asked for.
    pub runtime: Vec<RuntimeBlock>,
    /// What a database says of its connections; `None` when it was not asked for.
    pub connections: Option<Result<ConnectionsReading, String>>,
}

/// A database's connections at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionsReading {
    /// In use, by whoever.
    pub used: u32,
    /// What the server allows.
    pub limit: u32,
}

/// What was read for one condition with a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionReading {
    /// The time that it was evaluated for.
    pub at: Timestamp,
    /// The number, or why there is none: neither for nor against the canary.
    pub value: Result<f64, String>,
}

/// What runs by a schedule, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunsView {
    /// CronJobs and Jobs have been read: what is not here does not exist.
    pub known: bool,
    /// What the next run is made from; `None` where the service has no CronJob.
    pub next: Option<NextRun>,
    /// The runs that there are.
    pub jobs: Vec<RunView>,
}

/// What the next run is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextRun {
    /// The revision.
    pub revision: Revision,
    /// The attempt that it is for; 0 for none.
    pub attempt: u32,
    /// The revision that was stable when it was written.
    pub stable: Option<Revision>,
}

/// One run: a Job of the CronJob's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// The Job's UID: counted once.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The revision that it was made from.
    pub revision: Revision,
    /// The attempt that it is for; 0 for none.
    pub attempt: u32,
    /// When it was created, by the API server's clock, in whole seconds.
    pub created_at: Timestamp,
    /// When its first container began, images fetched; of one whose pods are gone, when its controller took it up.
    pub started_at: Option<Timestamp>,
    /// A pod of it has run, or has ended.
    pub worked: bool,
    /// What keeps its pod from starting.
    pub waits: Option<String>,
    /// How it ended.
    pub end: Option<RunEnd>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// When.
    pub at: Timestamp,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Which run of which condition a Job is. A Job's name is made of it, so that none is run twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobKey {
    /// The revision under test.
    pub revision: Revision,
    /// The attempt.
    pub attempt: u32,
    /// The condition's name.
    pub condition: String,
    /// [`JobPlan::digest`](crate::plan::JobPlan::digest) of what is run.
    pub digest: String,
    /// Counts the runs, from 1.
    pub run: u32,
}

/// Where a Job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// There is none: the API server did not take it, for this reason.
    Refused(String),
    /// None of its containers has started; why, where it is known.
    Waiting(Option<String>),
    /// Its containers run.
    Running {
        /// When the first of them started.
        since: Timestamp,
    },
    /// Its containers have ended; how, is not told yet.
    Ending,
    /// Every container ended with success.
    Succeeded,
    /// A container ended by itself, without success; how, and what it said.
    Failed(String),
    /// It ended otherwise: its pod was evicted, a container could not be started, its own deadline passed.
    Broken(String),
}

impl JobPhase {
    /// It exists, and has not ended.
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Running { .. } | Self::Ending)
    }

    /// It has ended, however.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed(_) | Self::Broken(_))
    }
}

/// What was counted between two edges of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredBlock {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// One for each objective, in the plan's order; `None` where the data could not be read.
    pub slos: Vec<Option<BlockCounts>>,
}

/// Both revisions' counts in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BlockCounts {
    /// The canary's.
    pub canary: Counts,
    /// Stable's.
    pub stable: Counts,
    /// The canary's by pod; empty where the source does not tell pods apart.
    pub canary_pods: PodCounts,
    /// Stable's by pod; empty where the source does not tell pods apart.
    pub stable_pods: PodCounts,
    /// What else is known where requests were counted at the route; `None` where the pods counted them.
    pub at_route: Option<AtRoute>,
    /// Those of the canary's that were counted after the last sample of some pod of stable's: of that time stable's
    /// counters tell nothing yet. None where both are read in one scrape, or the source does not tell.
    pub canary_late: Counts,
}

/// What an objective's series say of the time before the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct History {
    /// Mean requests per second; `None` where the time before was too short to tell.
    pub rate: Option<f64>,
    /// Share of the window's error budget that is left: 1 is all of it, negative is overspent.
    pub budget_remaining: Option<f64>,
    /// What stable's last blocks tell.
    pub past: Past,
    /// Stable's counters fell again and again although nothing was restarted: several answer in turn, and what they
    /// count is no evidence.
    pub falls: bool,
}

/// What a person asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionView {
    /// The action object's UID: handled once.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// What.
    pub action: Action,
    /// For which revision; any if absent.
    pub revision: Option<Revision>,
    /// For which attempt; any if absent.
    pub attempt: Option<u32>,
    /// Past the wait of which step, as [`Attempt::awaited_step`](crate::state::Attempt::awaited_step) has it; any if absent.
    pub step: Option<u32>,
    /// Back to which revision; the one before if absent.
    pub to_revision: Option<Revision>,
    /// An approval: of what.
    pub gate: Option<String>,
    /// Why, in the person's words.
    pub reason: String,
    /// Who.
    pub requested_by: String,
    /// When, by the API server's clock, in whole seconds.
    pub created_at: Option<Timestamp>,
}

/// What a person can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// Past the current pause or wait for evidence.
    Promote,
    /// Past all that is left, to full traffic and its bake.
    PromoteFull,
    /// Back to stable.
    Abort,
    /// Once more at the revision that was taken back.
    Retry,
    /// No further for now.
    Pause,
    /// On from a pause.
    Resume,
    /// On in spite of a spent error budget or an incident of both revisions.
    Override,
    /// Back to a revision that is not the spec's, until the spec goes on.
    Undo,
    /// New pods for the stable revision.
    Restart,
    /// The Deployment that was taken over gets its place back.
    Release,
    /// What waits for a word may go on.
    Approve,
    /// What waits for a word is not done.
    Reject,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which part of the work it stops.
    pub kind: ProblemKind,
    /// One `CamelCase` word for the condition.
    pub reason: String,
    /// What is wrong, where, and how to fix it.
    pub message: String,
}

/// Which part of the work a problem stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The spec can't be used.
    Spec,
    /// The route can't be used or changed.
    Route,
    /// The route is written, but its parent has not accepted it.
    RouteStatus,
    /// Metrics can't be read, or can't be understood.
    Metrics,
    /// The API server refused a write.
    Apply,
}

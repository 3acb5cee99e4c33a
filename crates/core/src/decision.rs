//! What is to be done, and why.

use jiff::{SignedDuration, Timestamp};

use crate::analysis::{Burn, Counts};
use crate::guard::GuardState;
use crate::migration::MigrationPhase;
use crate::observed::{JobKey, NextRun, Preview, Slot, Weights};
use crate::plan::Revision;
use crate::state::{ConditionState, State, Transition};

/// The outcome of one [`decide`](crate::rollout::decide).
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The state to persist, before any effect is applied.
    pub state: State,
    /// What to do, in order. Each is level-based: repeating one that was done changes nothing.
    pub effects: Vec<Effect>,
    /// Jobs of conditions to create and to delete. Nothing waits for them, so one that can't be written keeps no
    /// effect from being applied.
    pub jobs: Vec<JobEffect>,
    /// When to decide again if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// What to tell.
    pub report: Report,
}

/// A change to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Create the ReplicaSet of the plan's revision, with no pods yet, and its service.
    CreateRevision {
        /// The revision: always the plan's.
        revision: Revision,
    },
    /// Create the service of a revision, which names its pods for ever.
    CreateRevisionService {
        /// The revision.
        revision: Revision,
    },
    /// Ask a ReplicaSet for so many pods.
    Scale {
        /// The revision.
        revision: Revision,
        /// Pods.
        replicas: u32,
        /// The attempt that uses it, when it is the canary.
        attempt: Option<u32>,
    },
    /// Point a fixed-name service at a revision.
    Select {
        /// The service.
        slot: Slot,
        /// The revision.
        revision: Revision,
    },
    /// Point the service of the service's own name at the pods of every revision.
    Share,
    /// Give the route this form.
    SetRoute {
        /// Its weights.
        weights: Weights,
        /// What goes to a revision beside its weight.
        preview: Option<Preview>,
    },
    /// Evict a pod: its ReplicaSet starts another one. A refusal, by a disruption budget for instance, is no failure.
    Evict {
        /// Its name.
        pod: String,
        /// Its UID: no other pod of this name is meant.
        uid: String,
    },
    /// Ask a Deployment for so many pods, and have it roll out no change of its template, or again.
    HoldWorkload {
        /// Its UID: no other Deployment of this name is meant.
        uid: String,
        /// Pods.
        replicas: u32,
        /// It rolls out no change of its template.
        paused: bool,
        /// Pods that it had before: written down at the Deployment, for the case that the state is lost.
        former: u32,
    },
    /// Have Molt's Services that lead to stable select the Deployment's pods beside stable's.
    WidenServices,
    /// Take what Molt has written down at a Deployment off it again, its place among the field managers as well.
    FreeWorkload {
        /// Its UID.
        uid: String,
    },
    /// Have the CronJob make the next runs from a revision's template.
    RunNext(NextRun),
    /// End a run: delete its Job, with its pods.
    EndRun {
        /// The Job's name.
        name: String,
        /// Its UID: no other Job of this name is meant.
        uid: String,
    },
    /// Delete a revision's ReplicaSet and service: it has no pods and no weight.
    DeleteRevision {
        /// The revision.
        revision: Revision,
    },
    /// Give a user's route back: all traffic on stable, no field owned.
    ReleaseRoute,
    /// Everything that had to happen before the object goes has happened.
    RemoveFinalizer,
    /// End an action.
    EndAction {
        /// The action object's name.
        name: String,
        /// It was applied; otherwise it had expired.
        applied: bool,
        /// What became of it.
        message: String,
        /// It was answered by an earlier decision: it is ended so only if that answer was never written.
        again: bool,
    },
}

/// A change to the Jobs of conditions and migrations. Level-based, as effects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEffect {
    /// Create the Job of a run.
    Start {
        /// Which.
        key: JobKey,
        /// How long it may exist without an end: for the case that nobody is there to delete it.
        at_most: SignedDuration,
    },
    /// Create the Job of a run of migrations, from the image of the ReplicaSet of its revision.
    StartMigration {
        /// Which.
        key: JobKey,
        /// What for.
        phase: MigrationPhase,
        /// How long it may exist without an end.
        at_most: SignedDuration,
        /// The migration that it stops before.
        stop_before: Option<String>,
        /// A downgrade: where to.
        target: Vec<String>,
    },
    /// Delete the Job of a run, with its pods.
    Delete(JobKey),
}

/// What the user sees: derived from the state, never read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The phase.
    pub phase: Phase,
    /// One sentence: where it is, and why.
    pub message: String,
    /// Conditions, always the full set.
    pub conditions: Vec<ConditionView>,
    /// What happened in this decision, for events and the record.
    pub transitions: Vec<Transition>,
    /// One for each block and objective that was judged, for the record.
    pub verdicts: Vec<Verdict>,
    /// One for each objective of the attempt under way, or of the last.
    pub slos: Vec<SloReport>,
    /// One for each threshold of the attempt under way.
    pub guards: Vec<ConditionState>,
    /// One for each guard of the runtime of the attempt under way.
    pub runtime: Vec<GuardState>,
}

/// Where a PythonService is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionView {
    /// Its type.
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// One `CamelCase` word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// `true` when it tells of a fault: a change to it is a warning event.
    pub fault: bool,
}

/// One judged block of one objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The block's end.
    pub at: Timestamp,
    /// The step index.
    pub step: u32,
    /// The weight it was counted at.
    pub weight: u8,
    /// The objective.
    pub slo: String,
    /// The canary's counts in the block.
    pub canary: Counts,
    /// Stable's counts in the block.
    pub stable: Counts,
    /// Evidence of harm beside stable after it, natural logarithm: what decides while both serve.
    pub ln_harm: f64,
    /// Evidence of harm since the attempt's start, for independent requests, natural logarithm.
    pub ln_harm_from_start: f64,
    /// While the canary has all the traffic: evidence of this bake that it is worse than stable was before, natural
    /// logarithm. It makes suspect; where all users moved at once it convicts. Absent while both serve.
    pub ln_harm_alone: Option<f64>,
    /// Evidence of safety at the margin asked for, natural logarithm.
    pub ln_safe: f64,
    /// The margin asked for.
    pub margin: f64,
    /// Share of the window's budget spent by the attempt, if the window's requests are known.
    pub spent: Option<f64>,
    /// Burn rates in the block.
    pub burn: Burn,
    /// `Continue`, `Safe`, `RollBack` or `NoData`.
    pub verdict: VerdictKind,
}

/// What one block said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// Neither harm nor safety is shown yet.
    Continue,
    /// Safety is shown at the margin asked for.
    Safe,
    /// Harm is shown.
    RollBack,
    /// The canary's counts could not be read, or it served nothing.
    NoData,
}

/// Where one objective stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SloReport {
    /// The objective.
    pub name: String,
    /// Evidence of harm, natural logarithm: while the canary has all the traffic, that it is worse than stable was before.
    pub ln_harm: f64,
    /// Evidence of safety at the margin asked for next, natural logarithm.
    pub ln_safe: f64,
    /// The canary's counts so far.
    pub canary: Counts,
    /// Stable's counts so far.
    pub stable: Counts,
    /// Share of the window's budget left when the attempt started.
    pub budget_remaining: Option<f64>,
    /// Share of the window's budget spent by the attempt.
    pub spent: Option<f64>,
    /// Burn rates in the newest block with users on the canary.
    pub burn: Burn,
    /// The latest verdict.
    pub verdict: VerdictKind,
}

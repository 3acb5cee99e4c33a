//! What the user wants, after validation: every field is resolved and in range.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::analysis::{Limits, Objective};
use crate::condition::Bound;
use crate::group::Group;
use crate::guard::{GuardMode, GuardPlan};
use crate::migration::MigrationPlan;
pub use crate::room::{ConnectionsPlan, Room, Surge};
pub use crate::step::Step;

/// The name of a revision: a versioned hash of what its pods run, ten hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Revision {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// What happens when a deadline passes with neither harm nor safety shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// Take the traffic away from the canary, keep its pods, and wait for a person.
    #[default]
    Pause,
    /// Roll back.
    Rollback,
    /// Go on if the budget that this rollout could spend is known and not spent; otherwise pause.
    PromoteIfBudgetSafe,
}

/// What happens to a rollout when less of an objective's error budget is left than one rollout may spend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetExhausted {
    /// It goes on with twice the dwell, and may spend what is left, at least a tenth of the usual.
    #[default]
    Slow,
    /// No user is put on the canary until a person says so.
    Refuse,
    /// It goes on as always.
    Allow,
}

/// What happens when the canary's share of requests does not fit its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShareMismatch {
    /// The next step waits.
    #[default]
    Hold,
    /// Nothing: many callers do not come by the route.
    Ignore,
}

/// Who owns the route that carries the service's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteMode {
    /// Molt creates the route; its backends are the services of each revision.
    Owned,
    /// The user's route, with two fixed backends `<service>-stable` and `<service>-canary`, whose weights
    /// alone are Molt's.
    Adopted,
    /// There is none: the Service of the service's own name divides its connections evenly over the pods behind it.
    Shares,
    /// There is none, for the pods take their work themselves, from a queue: each of them works as long as it runs.
    Workers,
    /// The same, and only one pod may run at a time, such as a scheduler.
    Singleton,
    /// There is none, for no pod stays: a CronJob starts runs by a schedule.
    Runs,
}

impl RouteMode {
    /// Pods are what divides the work.
    pub fn is_by_pods(self) -> bool {
        matches!(self, Self::Shares | Self::Workers | Self::Singleton | Self::Runs)
    }

    /// Pods take their work themselves, and nobody calls them: nobody can keep it from them but by stopping them.
    pub fn pulls(self) -> bool {
        matches!(self, Self::Workers | Self::Singleton | Self::Runs)
    }
}

/// Of what runs by a schedule: what a new revision has to show.
#[derive(Clone, Debug, PartialEq)]
pub struct RunsPlan {
    /// Runs that have to succeed, 1 or more.
    pub count: u32,
    /// A run may take so many times as long as the longest of stable's; 1 or more.
    pub max_duration_ratio: f64,
    /// No run begins while another one is there (`concurrencyPolicy: Forbid`).
    pub forbids: bool,
    /// No run begins at all.
    pub suspended: bool,
}

impl Default for RunsPlan {
    fn default() -> Self {
        Self {
            count: 3,
            max_duration_ratio: 2.0,
            forbids: false,
            suspended: false,
        }
    }
}

/// One service level objective of the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct SloPlan {
    /// Its name, unique within the service.
    pub name: String,
    /// The objective and its window.
    pub objective: Objective,
    /// A digest of what is asked: counts that were read under another one are no evidence for this.
    pub question: String,
}

/// One condition of the plan: what must hold while users are on the canary, beside the objectives.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionPlan {
    /// Its name, unique within the service.
    pub name: String,
    /// How it is found out.
    pub check: Check,
    /// What its failures do.
    pub mode: GuardMode,
    /// Evaluations that may fail in one attempt; one more rolls back, unless it only warns.
    pub failure_limit: u32,
}

/// How a condition is found out.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A number that the edges read at the end of each block must satisfy this.
    Value(Bound),
    /// A Job must end with success.
    Job(JobPlan),
}

impl Check {
    /// The bound of a number.
    pub fn bound(&self) -> Option<&Bound> {
        match self {
            Self::Value(bound) => Some(bound),
            Self::Job(_) => None,
        }
    }

    /// The Job.
    pub fn job(&self) -> Option<&JobPlan> {
        match self {
            Self::Job(job) => Some(job),
            Self::Value(_) => None,
        }
    }
}

/// What is wanted, for people.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(bound) => bound.fmt(f),
            Self::Job(_) => f.write_str("the Job succeeds"),
        }
    }
}

/// A Job that is run at each weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPlan {
    /// A digest of what it runs: what another one has found is not about this one.
    pub digest: String,
    /// How long its container may run, and how long it may take to start.
    pub timeout: SignedDuration,
    /// How long after its begin a run that was met is repeated while the weight stays; once, if absent.
    pub interval: Option<SignedDuration>,
}

/// A validated PythonService. See [`Plan::without_revision`] for one that could not be validated.
#[allow(clippy::struct_excessive_bools, reason = "each is a wish of its own")]
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The revision that the spec asks for; `None` while the spec is invalid or the object is being deleted.
    pub revision: Option<Revision>,
    /// The object is being deleted.
    pub deleting: bool,
    /// Pods that the service wants at full strength.
    pub replicas: u32,
    /// Pods that a rollout may hold, and what stable keeps.
    pub room: Room,
    /// The steps before full traffic.
    pub steps: Vec<Step>,
    /// Blue/green: after the steps all users move at once, and none of them meets both revisions in between.
    pub at_once: bool,
    /// How long both revisions stay at full strength, at 100 %, before the old one may go.
    pub bake: SignedDuration,
    /// How long a revision is looked at after its promotion: what spends the error budget then takes users back.
    pub watch: SignedDuration,
    /// How long the old revision keeps its pods after a promotion.
    pub scale_down_delay: SignedDuration,
    /// How long a rolled-back revision keeps its pods.
    pub abort_scale_down_delay: SignedDuration,
    /// How long open connections may last after traffic has moved away.
    pub drain: SignedDuration,
    /// The longest time without progress; dwell, bake and waits for people don't count.
    pub progress_deadline: SignedDuration,
    /// `spec.paused`: nothing goes on, and no attempt but a first begins; harm still takes a canary back.
    pub paused: bool,
    /// A pause for a person is told as work in progress, so that delivery tools wait for its end.
    pub strict_paused: bool,
    /// A revision that was stable among the last so many goes straight to all users when it is asked for again.
    pub rollback_window: usize,
    /// The Deployment whose place Molt's pods take: its name.
    pub workload: Option<String>,
    /// The group that it is released with.
    pub group: Option<Group>,
    /// Old revisions that are kept, scaled to zero, beside stable and canary.
    pub revision_history_limit: usize,
    /// Who owns the route.
    pub route: RouteMode,
    /// Of [`RouteMode::Runs`]: what a new revision has to show.
    pub runs: RunsPlan,
    /// There is a route, and the service of the service's own name leads its callers to the pods of both revisions while a
    /// canary has users.
    pub shared_in_cluster: bool,
    /// Users stay on the revision that they met first, as long as it has a place in the route: weights are about new
    /// sessions.
    pub sticky: bool,
    /// The objectives that decide.
    pub slos: Vec<SloPlan>,
    /// What becomes of the database before the first pod of a new revision.
    pub migrations: Option<MigrationPlan>,
    /// The conditions that decide beside them.
    pub conditions: Vec<ConditionPlan>,
    /// The guards of the runtime that are not off, each kind once.
    pub guards: Vec<GuardPlan>,
    /// Error probabilities and the budget that one rollout may spend.
    pub limits: Limits,
    /// What to do at a deadline without a verdict.
    pub on_inconclusive: OnInconclusive,
    /// What to do when the error budget is as good as spent before the rollout begins.
    pub budget_exhausted: BudgetExhausted,
    /// What to do when the canary's share of requests does not fit its weight.
    pub on_share_mismatch: OnShareMismatch,
    /// The length of one block of evidence: two scrape intervals.
    pub block: SignedDuration,
    /// A digest of all that a verdict depends on: objectives, where and how they are measured, limits, policy.
    pub basis: String,
}

impl Plan {
    /// The plan of a spec that can't be validated: nothing new is wanted, what is stable keeps serving.
    #[must_use]
    pub fn without_revision(mut self) -> Self {
        self.revision = None;
        self
    }

    /// Pods that a revision needs to carry `weight` percent of the traffic: rounded up, at least one
    /// unless the service itself is scaled to zero. Where pods are what divides it, as many as come nearest to that
    /// beside a stable at full strength.
    pub fn pods_for(&self, weight: u8) -> u32 {
        if !self.route.is_by_pods() || weight == 0 || weight >= 100 || self.replicas == 0 {
            return self.part_of(weight);
        }
        let (wanted, left) = (self.replicas * u32::from(weight), 100 - u32::from(weight));
        ((wanted + left / 2) / left).clamp(1, self.replicas)
    }

    /// Pods that a revision needs so as not to be given more than its part: the fewest whose part, in percent and
    /// rounded up, is `share` at least. What [`weight_for`](Self::weight_for) leaves to the others, they carry.
    pub fn carriers_of(&self, share: u8) -> u32 {
        if share == 0 || self.replicas == 0 {
            return 0;
        }
        let whole = u64::from(share.min(100) - 1) * u64::from(self.replicas) / 100;
        u32::try_from(whole).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// So many percent of the service's replicas: rounded up, at least one unless the service itself is scaled to zero,
    /// or nothing is asked for.
    pub fn part_of(&self, percent: u8) -> u32 {
        if percent == 0 || self.replicas == 0 {
            return 0;
        }
        (self.replicas * u32::from(percent)).div_ceil(100).max(1)
    }

    /// The share of the traffic, 0 to 1, that comes of asking for `weight` percent: a router gives just that.
    pub fn share_of(&self, weight: u8) -> f64 {
        let pods = f64::from(self.pods_for(weight));
        if !self.route.is_by_pods() || weight >= 100 || pods <= 0.0 {
            return f64::from(weight) / 100.0;
        }
        pods / (pods + f64::from(self.replicas))
    }

    /// The largest weight, in percent, that `ready` pods can carry.
    pub fn weight_for(&self, ready: u32) -> u8 {
        if self.replicas == 0 || ready >= self.replicas {
            return if ready == 0 { 0 } else { 100 };
        }
        // The inverse of `pods_for`: the largest w with pods_for(w) <= ready.
        u8::try_from(ready * 100 / self.replicas).unwrap_or(100)
    }
}

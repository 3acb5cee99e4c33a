//! Guards of the runtime: what of a canary must not be worse than stable's, beside the objectives.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::{Counts, GuardEvidence, Sample};
use crate::observed::BlockCounts;

/// What a guard looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GuardKind {
    /// Kills for want of memory, and readiness that comes and goes. What crashes is taken back without a guard.
    Restarts,
    /// The share of requests that are answered with 4xx.
    ClientErrors,
    /// How fast the memory of a pod grows.
    MemoryGrowth,
    /// How late the event loop runs what is due.
    EventLoopLag,
    /// The processor time that a request takes.
    CpuPerRequest,
    /// Files and sockets that a pod has open.
    OpenFiles,
    /// The share of time that the collector of garbage takes.
    GcPauses,
    /// A pool of threads or workers that has none to spare.
    Saturation,
    /// Workers that the server ends because they don't answer any more.
    WorkerTimeouts,
    /// Kinds of exceptions that stable never raises.
    Exceptions,
}

impl GuardKind {
    /// Its field in `spec.guards`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Restarts => "restarts",
            Self::ClientErrors => "clientErrors",
            Self::MemoryGrowth => "memoryGrowth",
            Self::EventLoopLag => "eventLoopLag",
            Self::CpuPerRequest => "cpuPerRequest",
            Self::OpenFiles => "openFiles",
            Self::GcPauses => "gcPauses",
            Self::Saturation => "saturation",
            Self::WorkerTimeouts => "workerTimeouts",
            Self::Exceptions => "exceptions",
        }
    }
}

impl fmt::Display for GuardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a guard does when it has shown that the canary is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardMode {
    /// The canary is taken back.
    #[default]
    Rollback,
    /// An event and the status tell of it, once in an attempt.
    Warn,
}

/// One guard of the plan; one that is off is not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardPlan {
    /// What is looked at, and what is allowed.
    pub rule: GuardRule,
    /// What happens otherwise.
    pub mode: GuardMode,
}

/// What a guard allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GuardRule {
    /// No more than at stable.
    Restarts,
    /// So many times stable's share of 4xx, 1 or more.
    ClientErrors {
        /// The factor.
        max_ratio: f64,
    },
    /// So many bytes an hour more than stable's memory grows, above 0.
    MemoryGrowth {
        /// Bytes.
        max_per_hour: f64,
    },
    /// One sample in a hundred may be later than this, above 0.
    EventLoopLag {
        /// Seconds.
        p99: f64,
    },
    /// So many times stable's processor time for a request, 1 or more.
    CpuPerRequest {
        /// The factor.
        max_ratio: f64,
    },
    /// So many times stable's open files, 1 or more, where they grow on and on.
    OpenFiles {
        /// The factor.
        max_ratio: f64,
    },
    /// The collector may take so much of the time, and twice stable's; above 0, at most 1.
    GcPauses {
        /// The share.
        max_share: f64,
    },
    /// Most of the time so much of the pool may be busy; above 0, at most 1.
    Saturation {
        /// The share.
        max_share: f64,
    },
    /// No more than at stable.
    WorkerTimeouts,
    /// None that stable never raises.
    Exceptions,
}

impl GuardRule {
    /// What is looked at.
    pub fn kind(&self) -> GuardKind {
        match self {
            Self::Restarts => GuardKind::Restarts,
            Self::ClientErrors { .. } => GuardKind::ClientErrors,
            Self::MemoryGrowth { .. } => GuardKind::MemoryGrowth,
            Self::EventLoopLag { .. } => GuardKind::EventLoopLag,
            Self::CpuPerRequest { .. } => GuardKind::CpuPerRequest,
            Self::OpenFiles { .. } => GuardKind::OpenFiles,
            Self::GcPauses { .. } => GuardKind::GcPauses,
            Self::Saturation { .. } => GuardKind::Saturation,
            Self::WorkerTimeouts => GuardKind::WorkerTimeouts,
            Self::Exceptions => GuardKind::Exceptions,
        }
    }
}

/// What is allowed, for people.
impl fmt::Display for GuardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarts | Self::WorkerTimeouts => f.write_str("no more than stable"),
            Self::ClientErrors { max_ratio } => write!(f, "{max_ratio} times stable's share"),
            Self::MemoryGrowth { max_per_hour } => {
                write!(f, "{} an hour more than stable", Bytes(*max_per_hour))
            }
            Self::EventLoopLag { p99 } => write!(f, "99 % of samples within {:.0}ms", p99 * 1000.0),
            Self::CpuPerRequest { max_ratio } => write!(f, "{max_ratio} times stable's time"),
            Self::OpenFiles { max_ratio } => write!(f, "{max_ratio} times stable's, and 24"),
            Self::GcPauses { max_share } => {
                write!(f, "{} % of the time, and twice stable's", percent(*max_share))
            }
            Self::Saturation { max_share } => {
                write!(f, "{} % busy a quarter of the time", percent(*max_share))
            }
            Self::Exceptions => f.write_str("kinds that stable raises too"),
        }
    }
}

/// A share in percent, without the dust of binary fractions.
fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

/// Bytes for people: `64.0 MiB`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bytes(pub f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 / f64::from(1u32 << 20))
    }
}

/// Where one guard stands in an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardState {
    /// What it looks at.
    pub guard: GuardKind,
    /// What is allowed, in words; what another bound has shown is not about this one.
    #[schemars(length(max = 100))]
    pub bound: String,
    /// What it does.
    #[serde(default)]
    pub mode: GuardMode,
    /// The end of the last block that it was judged by; none is counted twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_to: Option<Timestamp>,
    /// What was measured of the canary at last, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub canary: Option<String>,
    /// What was measured of stable at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub stable: Option<String>,
    /// Why nothing could be compared in the last block: neither for nor against the canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub no_data: Option<String>,
    /// It has shown that the canary is worse: what it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub fired: Option<String>,
    /// What it has gathered; nothing of an attempt that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<GuardEvidence>,
}

impl GuardState {
    /// One that knows nothing yet.
    pub fn of(plan: &GuardPlan) -> Self {
        Self {
            guard: plan.rule.kind(),
            bound: plan.rule.to_string(),
            mode: plan.mode,
            measured_to: None,
            canary: None,
            stable: None,
            no_data: Some("not measured yet".to_owned()),
            fired: None,
            evidence: None,
        }
    }

    /// It is about the same thing and the same bound.
    pub fn is_of(&self, plan: &GuardPlan) -> bool {
        self.guard == plan.rule.kind() && self.bound == plan.rule.to_string()
    }

    /// What is told of it once its attempt has ended.
    #[must_use]
    pub fn summary(self) -> Self {
        Self {
            evidence: None,
            ..self
        }
    }
}

/// What the runtimes of both revisions told of one block.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeBlock {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// The canary's pods.
    pub canary: Vec<PodRuntime>,
    /// Stable's pods.
    pub stable: Vec<PodRuntime>,
    /// Requests, those that were answered with 4xx as the bad ones; `None` where they could not be read.
    pub client_errors: Option<BlockCounts>,
    /// Exceptions that were raised, by kind; each kind once, in any order. Kinds of which none was raised may be left out.
    pub exceptions: Vec<Raised>,
    /// The requests of each route that has had 4xx lately, these as the bad ones; each route once, in any order.
    pub routes: Vec<RouteCounts>,
    /// Why something is not there, by guard, where the edges know.
    pub silent: Vec<(GuardKind, String)>,
}

impl RuntimeBlock {
    /// A block of which nothing is known.
    pub fn silent(start: Timestamp, end: Timestamp) -> Self {
        Self {
            start,
            end,
            canary: Vec::new(),
            stable: Vec::new(),
            client_errors: None,
            exceptions: Vec::new(),
            routes: Vec::new(),
            silent: Vec::new(),
        }
    }
}

/// How often one kind of exception was raised in one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// Its type, as `ValueError`.
    pub kind: String,
    /// At the canary.
    pub canary: f64,
    /// At stable.
    pub stable: f64,
    /// Stable had raised it before the block already, as far as its counters go back.
    pub is_known: bool,
}

/// What became of the requests of one route in one block.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteCounts {
    /// Its pattern, as `/orders/{id}`.
    pub route: String,
    /// At the canary.
    pub canary: Counts,
    /// At stable.
    pub stable: Counts,
}

/// What the runtime of one pod told of one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodRuntime {
    /// Its name.
    pub pod: String,
    /// When its youngest container began, or when it was warm, whichever is later.
    pub since: Timestamp,
    /// Its resident memory in bytes, in any order: of the [time](crate::analysis::MEMORY_WINDOW) up to the block's end.
    /// Empty where it is not known.
    pub memory: Vec<Sample>,
    /// How many files and sockets it had open, in the same way.
    pub files: Vec<Sample>,
    /// Processor seconds that it took in the block.
    pub cpu: Option<f64>,
    /// Samples of its event loop's lag in the block, those beyond the bound as the bad ones.
    pub lag: Option<Counts>,
    /// Seconds that its collector of garbage took in the block.
    pub gc: Option<f64>,
    /// What part of its pool of threads or workers was busy at each scrape of the block, in any order.
    pub busy: Vec<f64>,
    /// Workers that its server ended in the block because they didn't answer any more.
    pub timeouts: Option<f64>,
}

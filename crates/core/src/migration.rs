//! Migrations of a service's database: what is wanted of them, what a run reported, and what must survive a restart.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

use crate::observed::JobKey;
use crate::plan::Revision;

/// Migrations that are told one by one, at most; with more a release is held to be too large to be read.
pub const MAX_MIGRATIONS: usize = 100;
/// Revisions from before a contract that are remembered.
pub const MAX_BARRED: usize = 30;
/// Trees whose migrations are known to be applied that are remembered.
pub const MAX_HEADS: usize = 10;
/// Characters of a reason or message that are kept.
pub const MAX_TEXT: usize = 400;

/// The gate `migrations` of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPlan {
    /// A digest of what is run.
    pub digest: String,
    /// How long a run may take, and how long it may take to start.
    pub timeout: SignedDuration,
    /// When what contracts may run.
    pub contract: Contract,
    /// What becomes of applied migrations on a rollback.
    pub on_rollback: OnRollback,
    /// A run tells which migrations are pending, and can stop before one of them: Alembic and Django.
    pub tells: bool,
}

/// When a migration that breaks older revisions may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contract {
    /// In a later release, whose stable revision has shipped it.
    #[default]
    NextRelease,
    /// Once its own revision is promoted and no pod of an older one is left.
    AfterBake,
    /// As `AfterBake`, once a person approves.
    Approval,
}

/// What becomes of applied migrations when their attempt does not end in a promotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnRollback {
    /// They stay.
    #[default]
    Keep,
    /// They are taken back once the revision's pods are gone.
    Downgrade,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MigrationPhase {
    /// Looks, and changes nothing.
    Check,
    /// Before the first pod of the canary.
    Apply,
    /// What was held back, after the promotion.
    Contract,
    /// Back to where the database was before the attempt.
    Downgrade,
}

impl MigrationPhase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Check, Self::Apply, Self::Contract, Self::Downgrade];

    /// What stands for a condition's name in the identity of its Job. No condition's name has a dot.
    pub fn condition(self) -> &'static str {
        match self {
            Self::Check => "migration.check",
            Self::Apply => "migration.apply",
            Self::Contract => "migration.contract",
            Self::Downgrade => "migration.downgrade",
        }
    }

    /// The phase that a Job's identity names.
    pub fn of(condition: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.condition() == condition)
    }
}

/// For people: `the check`.
impl fmt::Display for MigrationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "the check",
            Self::Apply => "the migration",
            Self::Contract => "the contracting migration",
            Self::Downgrade => "the downgrade",
        })
    }
}

/// What a migration does to revisions that are older than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationKind {
    /// They don't notice.
    Expand,
    /// It takes something from them, and gives nothing to the new one.
    Contract,
    /// It does both in one.
    Mixed,
    /// Nobody knows.
    Unknown,
}

/// A migration that is not applied yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PendingMigration {
    /// Its name: `ae1027a6acf`, `shop.0004_rename`.
    #[schemars(length(max = 128))]
    pub id: String,
    /// What it does to older revisions.
    pub kind: MigrationKind,
    /// Why it is taken for that.
    #[schemars(length(max = 400))]
    pub why: String,
}

/// What a run wrote down at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// Why it failed, if it did.
    pub failure: Option<MigrationFailure>,
    /// Where the database is.
    pub current: Vec<String>,
    /// The ends of the revision's own tree.
    pub heads: Vec<String>,
    /// Where the database is that the revision's tree does not know.
    pub unknown: Vec<String>,
    /// What is not applied, in the order in which it would be.
    pub pending: Vec<PendingMigration>,
    /// What this run has applied, or taken back.
    pub applied: Vec<String>,
    /// What else is worth knowing: locks that are taken for long, a database without advisory locks.
    pub notes: Vec<String>,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationFailure {
    /// It may pass by itself: the database can't be reached, another run holds the lock.
    pub transient: bool,
    /// What happened.
    pub message: String,
    /// The migration that it failed at, where it is known.
    pub at: Option<String>,
    /// A part of that one may stay: it was not, or not all of it, in a transaction.
    pub partly: bool,
    /// Whether the database is another since; absent of a run that changes nothing, or can't tell.
    pub changed: Option<Changed>,
}

impl MigrationFailure {
    /// One of which nothing is known but what happened.
    pub fn new(transient: bool, message: impl Into<String>) -> Self {
        Self {
            transient,
            message: message.into(),
            at: None,
            partly: false,
            changed: None,
        }
    }
}

/// Whether a run that failed has changed the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is as it was.
    No,
    /// Something of the run stays.
    Yes,
    /// The database could not be asked, or a part of a migration may stay.
    Unknown,
}

/// The migrations of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Migration {
    /// Where it is.
    pub stage: MigrationStage,
    /// When no further run begins.
    pub deadline: Timestamp,
    /// The run under way, or the last.
    pub run: MigrationRun,
    /// Where the database was when it was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// The ends of the revision's tree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<String>,
    /// What was pending when it was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub pending: Vec<PendingMigration>,
    /// What is not applied in this attempt: it contracts, and an older revision is live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub held: Vec<String>,
    /// What was applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied: Vec<String>,
    /// Something that contracts was applied, or begun to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contracted: bool,
    /// What its own spec said last of a rollback: the spec of the next revision says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_rollback: Option<OnRollback>,
}

/// Where the migrations of an attempt are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationStage {
    /// What is pending is looked up.
    Checking,
    /// What may be applied is.
    Applying,
    /// The attempt goes on.
    Applied,
}

/// Runs of one phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MigrationRun {
    /// What for.
    pub phase: MigrationPhase,
    /// [`MigrationPlan::digest`] of what is run.
    pub digest: String,
    /// The number of the last one, from 1.
    pub number: u32,
    /// When it was begun; absent between two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Its Job was seen: it has been created, and is not created again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
    /// When the next one begins, after one that may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// The migration that it stops before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub stop_before: Option<String>,
    /// A downgrade: where to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
    /// Why the last one is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub trouble: Option<String>,
}

impl MigrationRun {
    /// The first run of a phase, begun now.
    pub fn begin(phase: MigrationPhase, digest: &str, now: Timestamp) -> Self {
        Self {
            phase,
            digest: digest.to_owned(),
            number: 1,
            since: Some(now),
            seen: false,
            retry_at: None,
            stop_before: None,
            target: Vec::new(),
            trouble: None,
        }
    }

    /// The identity of its Job.
    pub fn key(&self, revision: &Revision, attempt: u32) -> JobKey {
        JobKey {
            revision: revision.clone(),
            attempt,
            condition: self.phase.condition().to_owned(),
            digest: self.digest.clone(),
            run: self.number,
        }
    }
}

/// What is known of a service's database beyond one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Database {
    /// Ends of trees whose migrations are applied but for what was held back, the last first: a revision with such a tree
    /// has nothing to apply, even where the database has gone on since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub trees: Vec<String>,
    /// What stable's tree has that was held back: stable has shipped it, and does not need what it takes away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub held: Vec<String>,
    /// Ends of the tree of the revision that has shipped what is held back: it does not need what that takes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped_with: Option<String>,
    /// What contracts and has been applied, the last first: a revision without it is from before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub contracted: Vec<String>,
    /// Revisions that a migration has taken something from: none of them may serve again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub barred: Vec<Revision>,
    /// What is to be done to the database between two attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<DatabaseWork>,
    /// What was last done of such, for the record of the next attempt: that of the one that had left it is closed by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedWork>,
}

/// What became of what an attempt had left to be done to the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndedWork {
    /// The attempt's revision.
    pub revision: Revision,
    /// Its number.
    pub attempt: u32,
    /// To contract, or to take back.
    pub phase: MigrationPhase,
    /// How it ended.
    pub outcome: WorkOutcome,
    /// When.
    pub at: Timestamp,
    /// What was applied, or taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied: Vec<String>,
    /// Whose word it had, why it failed, or why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub message: Option<String>,
    /// The attempt that began then has it in its record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
}

/// How what was left to be done to the database ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkOutcome {
    /// It was done.
    Passed,
    /// It failed, and is not tried again.
    Failed,
    /// A person left it for a later release.
    Rejected,
    /// It can't be done any more: nothing is left of the revision.
    Left,
}

/// What is to be done to the database between two attempts: to contract, or to take back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseWork {
    /// Whose image knows how.
    pub revision: Revision,
    /// The attempt that left it.
    pub attempt: u32,
    /// To contract, or to take back.
    pub phase: MigrationPhase,
    /// Where a downgrade leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
    /// It waits for a person's word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
    /// Its runs, once they have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<MigrationRun>,
    /// When no further run begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// It failed, and is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub failed: Option<String>,
    /// What contracts, and by which statement, for whoever approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub what: Option<String>,
    /// What its runs have applied, or taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub applied: Vec<String>,
    /// Who approved it, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub approved: Option<String>,
}

impl DatabaseWork {
    /// It is over.
    pub fn end(&self, outcome: WorkOutcome, message: Option<String>, at: Timestamp) -> EndedWork {
        EndedWork {
            revision: self.revision.clone(),
            attempt: self.attempt,
            phase: self.phase,
            outcome,
            at,
            applied: self.applied.clone(),
            message,
            told: false,
        }
    }

    /// A run of it is under way, or follows.
    pub fn has_begun(&self) -> bool {
        self.run.is_some() && self.failed.is_none()
    }
}

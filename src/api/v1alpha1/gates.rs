//! `spec.gates`: what must have happened before users, or the first pod, come to a revision.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// What must have happened before a revision goes on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// The database is migrated before the first pod of a new revision, by Jobs from its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<MigrationGate>,
}

/// Migrations before the first pod of a new revision.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.tool == 'custom') == has(self.custom)")
    .message("custom: belongs to tool: custom, and is needed there"))]
#[x_kube(validation = Rule::new("!has(self.onRollback) || self.onRollback != 'Downgrade' || self.tool != 'custom' || (has(self.custom) && has(self.custom.rollback))")
    .message("onRollback: Downgrade needs custom.rollback, the command that takes migrations back"))]
pub struct MigrationGate {
    /// What knows the migrations. `alembic` finds `alembic.ini` (or `ALEMBIC_CONFIG`) in `workingDir`, `django` its
    /// `manage.py` (or `DJANGO_SETTINGS_MODULE`), and `custom` is commands of your own.
    pub tool: MigrationTool,
    /// Where the commands run. Default: the container's own working directory. Image, environment, volumes, native
    /// sidecars and service account come from the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub working_dir: Option<String>,
    /// The commands, where the tool is `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<MigrationCommands>,
    /// How long a run may take, and how long it may take to start. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long a statement waits for a lock, which keeps everybody waiting who comes after it. Default `5s`. Not for
    /// `custom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout: Option<Duration>,
    /// When what breaks older revisions may run. Default `NextRelease`: held back now, and applied before the next
    /// revision. `AfterBake`: once its own revision is promoted and no older pod is left. `Approval`: so, when a person
    /// approves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<ContractPolicy>,
    /// What becomes of applied migrations when a revision is rolled back. Default `Keep`: they stay. `Downgrade`: they
    /// are taken back once its pods are gone; refused once something that contracts was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_rollback: Option<MigrationRollback>,
}

/// Commands of one's own.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationCommands {
    /// Looks, and changes nothing: success lets `apply` run, failure ends the attempt.
    #[schemars(length(min = 1, max = 64))]
    pub check: Vec<String>,
    /// Migrates; it must bear to be run again.
    #[schemars(length(min = 1, max = 64))]
    pub apply: Vec<String>,
    /// Takes back what `apply` did, for `onRollback: Downgrade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub rollback: Option<Vec<String>>,
}

/// What knows the migrations.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MigrationTool {
    /// Alembic.
    Alembic,
    /// Django.
    Django,
    /// Commands of one's own.
    Custom,
}

/// When what breaks older revisions may run.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContractPolicy {
    /// Before the next revision.
    NextRelease,
    /// After the promotion, once no older pod is left.
    AfterBake,
    /// So, when a person approves.
    Approval,
}

/// What becomes of applied migrations when a revision is rolled back.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationRollback {
    /// They stay.
    Keep,
    /// They are taken back.
    Downgrade,
}

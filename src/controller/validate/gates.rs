//! `spec.gates`.

use jiff::SignedDuration;
use molt_core::migration::{Contract, MigrationPlan, OnRollback};
use serde_json::json;

use super::FieldError;
use super::fields::duration;
use crate::api::v1alpha1::{
    ContractPolicy, MigrationGate, MigrationRollback, MigrationTool, PythonServiceSpec,
};
use crate::controller::revision::digest;

/// How long a run may take unless the spec says otherwise.
const TIMEOUT: SignedDuration = SignedDuration::from_mins(5);
/// How long a statement waits for a lock unless the spec says otherwise.
pub const LOCK_TIMEOUT: SignedDuration = SignedDuration::from_secs(5);

/// The gate of migrations.
pub(super) fn migrations(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) -> Option<MigrationPlan> {
    let gate = spec.gates.as_ref()?.migrations.as_ref()?;
    let path = "spec.gates.migrations";
    check_commands(path, gate, errors);
    if let Some(dir) = gate.working_dir.as_ref().filter(|dir| !dir.starts_with('/')) {
        let message = format!("{dir:?} is no absolute path: begin it with /");
        errors.push(FieldError::new(format!("{path}.workingDir"), message));
    }
    let second = SignedDuration::from_secs(1);
    let field = format!("{path}.timeout");
    let timeout = duration(errors, &field, gate.timeout.as_ref(), TIMEOUT, second);
    let field = format!("{path}.lockTimeout");
    let least = SignedDuration::from_millis(100);
    let lock = duration(
        errors,
        &field,
        gate.lock_timeout.as_ref(),
        LOCK_TIMEOUT.min(timeout / 2),
        least,
    );
    if lock >= timeout {
        let message = format!(
            "{lock:#} is no shorter than timeout, which is {timeout:#}: no statement would ever give up a lock"
        );
        errors.push(FieldError::new(field, message));
    }
    Some(MigrationPlan {
        digest: digest(&json!([
            gate.tool,
            gate.working_dir,
            gate.custom,
            gate.timeout,
            gate.lock_timeout
        ])),
        timeout,
        contract: match gate.contract {
            None | Some(ContractPolicy::NextRelease) => Contract::NextRelease,
            Some(ContractPolicy::AfterBake) => Contract::AfterBake,
            Some(ContractPolicy::Approval) => Contract::Approval,
        },
        on_rollback: match gate.on_rollback {
            None | Some(MigrationRollback::Keep) => OnRollback::Keep,
            Some(MigrationRollback::Downgrade) => OnRollback::Downgrade,
        },
        tells: gate.tool != MigrationTool::Custom,
    })
}

fn check_commands(path: &str, gate: &MigrationGate, errors: &mut Vec<FieldError>) {
    let is_custom = gate.tool == MigrationTool::Custom;
    match &gate.custom {
        None if is_custom => errors.push(FieldError::new(
            format!("{path}.custom"),
            "is missing: write the commands check and apply, or tool: alembic or django",
        )),
        Some(_) if !is_custom => errors.push(FieldError::new(
            format!("{path}.custom"),
            "belongs to tool: custom: leave it out, or write tool: custom",
        )),
        Some(custom) => {
            for (name, command) in [("check", &custom.check), ("apply", &custom.apply)] {
                if command.is_empty() {
                    errors.push(FieldError::new(
                        format!("{path}.custom.{name}"),
                        "is empty: write a command",
                    ));
                }
            }
        }
        None => {}
    }
    let takes_back = gate.on_rollback == Some(MigrationRollback::Downgrade);
    if is_custom && takes_back && gate.custom.as_ref().is_some_and(|c| c.rollback.is_none()) {
        errors.push(FieldError::new(
            format!("{path}.custom.rollback"),
            "is missing: onRollback is Downgrade, so write the command that takes migrations back",
        ));
    }
}

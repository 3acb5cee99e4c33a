//! Gates, and what came of them.

use molt_core::migration::{Migration, MigrationStage};

use super::cut;
use crate::api::v1alpha1::RecordedGate;

/// Bytes of a failure that are kept.
const MOST_BYTES: usize = 1000;

/// The gates of an attempt; `failed` is why it was taken back, if it was.
pub fn of(migration: Option<&Migration>, failed: Option<&str>) -> Vec<RecordedGate> {
    let gate = |m: &Migration| {
        let passed = m.stage == MigrationStage::Applied;
        let outcome = match (passed, failed) {
            (true, _) => "Passed",
            (false, Some(_)) => "Failed",
            (false, None) => "Open",
        };
        RecordedGate {
            name: "migrations".to_owned(),
            outcome: outcome.to_owned(),
            message: failed.filter(|_| !passed).map(|why| cut(why, MOST_BYTES)),
            pending: m.pending.clone(),
            applied: m.applied.clone(),
            held: m.held.clone(),
        }
    };
    migration.map(gate).into_iter().collect()
}

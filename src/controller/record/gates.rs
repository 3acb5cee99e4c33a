//! Gates, and what came of them.

use molt_core::migration::{Database, EndedWork, Migration, MigrationPhase, MigrationStage};

use super::cut;
use crate::api::v1alpha1::RecordedGate;

/// Bytes of a failure that are kept.
const MOST_BYTES: usize = 1000;

/// The gates of an attempt; `failed` is why it was taken back, if it was.
fn of(migration: Option<&Migration>, failed: Option<&str>) -> Vec<RecordedGate> {
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
            at: None,
        }
    };
    migration.map(gate).into_iter().collect()
}

/// The gates of an attempt as they are now, behind what was left to be done before it.
pub fn put(gates: &mut Vec<RecordedGate>, migration: Option<&Migration>, failed: Option<&str>) {
    gates.retain(|gate| gate.at.is_some());
    gates.extend(of(migration, failed));
}

/// Writes down, once, what was done to the database between the attempt before and this one.
pub fn add_before(gates: &mut Vec<RecordedGate>, database: Option<&Database>) {
    let ended = database.and_then(|database| database.ended.as_ref());
    if let Some(ended) = ended.filter(|ended| ended.told)
        && gates.iter().all(|gate| gate.at.is_none())
    {
        gates.insert(0, before(ended));
    }
}

fn before(ended: &EndedWork) -> RecordedGate {
    let name = match ended.phase {
        MigrationPhase::Downgrade => "downgrade",
        _ => "contract",
    };
    let whose = format!("of attempt {} at revision {}", ended.attempt, ended.revision);
    let message = match &ended.message {
        Some(message) => format!("{whose}: {message}"),
        None => whose,
    };
    RecordedGate {
        name: name.to_owned(),
        outcome: format!("{:?}", ended.outcome),
        message: Some(cut(&message, MOST_BYTES)),
        pending: Vec::new(),
        applied: ended.applied.clone(),
        held: Vec::new(),
        at: Some(ended.at),
    }
}

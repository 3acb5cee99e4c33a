//! Server-side apply: whose field is what, and what an applied configuration makes of an object.
//!
//! The rules are those of `sigs.k8s.io/structured-merge-diff`.

pub mod fields;
pub mod merge;
pub mod owners;

use serde_json::Value;

use crate::shape::Shape;
use fields::{FieldSet, compare};
use owners::{Conflict, Owners, Writer};

/// An object and who owns what of it, after a write.
#[derive(Debug)]
pub struct Outcome {
    /// The object, without `managedFields`.
    pub object: Value,
    /// Who owns what.
    pub owners: Owners,
}

/// Applies a configuration. Without `force`, a field that somebody else owns and the configuration changes is
/// a conflict.
pub fn apply(
    live: &Value,
    config: &Value,
    shape: &Shape,
    mut owners: Owners,
    writer: &Writer,
    reset: &[&str],
    force: bool,
) -> Result<Outcome, Vec<Conflict>> {
    let wanted = owners::without_reset(FieldSet::of(config, shape), reset);
    let before = owners.replace(writer, wanted);
    let merged = merge::merge(live, config, shape);
    let object = merge::prune(&merged, shape, &before, &owners.all());
    let comparison = compare(live, &object, shape);
    owners.take(writer, &comparison, force)?;
    Ok(Outcome { object, owners })
}

/// Takes over what a write that is no apply has changed.
pub fn update(
    live: &Value,
    object: Value,
    shape: &Shape,
    mut owners: Owners,
    writer: &Writer,
    reset: &[&str],
) -> Outcome {
    let comparison = compare(live, &object, shape);
    owners.take_changes(writer, &comparison, reset);
    Outcome { object, owners }
}

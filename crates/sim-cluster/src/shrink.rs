//! The least schedule of faults that still breaks the same invariant.

use crate::faults::Fault;
use crate::life::{Outcome, Planted, live_with};

/// The invariant that a violation is of.
pub fn invariant(violation: &str) -> &str {
    violation.split(':').next().unwrap_or_default()
}

/// Leaves out as many faults as can be left out: first halves, then quarters, at last single ones.
pub fn shrink(failed: &Outcome, rollouts: usize, planted: &Planted) -> Outcome {
    let Some(wanted) = failed.violations.first().map(|v| invariant(v).to_owned()) else {
        return failed.clone();
    };
    let fails = |faults: &[Fault], rollouts: usize| {
        let outcome = live_with(failed.seed, rollouts, faults.to_vec(), planted);
        let same = outcome.violations.first().is_some_and(|v| invariant(v) == wanted);
        same.then_some(outcome)
    };
    let mut best = failed.clone();
    let mut size = best.faults.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < best.faults.len() {
            let mut fewer = best.faults.clone();
            fewer.drain(from..(from + size).min(fewer.len()));
            match fails(&fewer, rollouts) {
                Some(outcome) => best = outcome,
                None => from += size,
            }
        }
        size /= 2;
    }
    best
}

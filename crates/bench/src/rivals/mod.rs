//! The judges of other tools, written anew from what they document: no code of theirs is here.

pub mod argo;
pub mod flagger;
pub mod kayenta;
pub mod mann_whitney;

use crate::traces::{Arm, Trace};

/// The success ratio of the canary in a window, as Prometheus answers the query of both Argo Rollouts' and
/// Flagger's documentation: `sum(rate(good)) / sum(rate(all))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// A ratio, 0 to 1.
    Ratio(f64),
    /// Series, but no requests: `0/0`.
    Nan,
    /// A series of the query does not exist: nothing good was ever counted.
    Empty,
}

/// Asks for the canary's success ratio in the `window` seconds before `now`.
pub fn success_ratio(trace: &Trace, now: u32, window: u32) -> Answer {
    let ever = trace.window(Arm::Canary, now, now);
    if ever.total <= ever.bad {
        return Answer::Empty;
    }
    match trace.window(Arm::Canary, now, window).ratio() {
        Some(bad) => Answer::Ratio(1.0 - bad),
        None => Answer::Nan,
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the vectors are exact")]
mod tests;

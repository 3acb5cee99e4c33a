//! The event loop: what is due runs late, at the canary and not at stable.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Counts, exact};
use super::{Compared, GuardEvidence, LOOK, Silence, counted, seconds};
use crate::guard::RuntimeBlock;

/// The first requests import and compile: so long after its start a pod's loop may be late.
const SETTLES: SignedDuration = SignedDuration::from_secs(30);
/// One sample in a hundred may be later than the bound: it is about the 99th percentile.
const MAY: f64 = 0.01;
/// One late sample is a collection of garbage, or a page that was swapped out.
const LEAST_LATE: f64 = 2.0;
/// Of fewer samples nothing can be told.
const LEAST_SAMPLES: f64 = 5.0;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.02;

/// Samples since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Lateness {
    canary: Counts,
    stable: Counts,
    /// The time that they are of.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    seconds: f64,
}

impl Lateness {
    /// With what was counted in so many seconds more.
    pub(super) fn plus(self, canary: Counts, stable: Counts, seconds: f64) -> Self {
        Self {
            canary: self.canary.plus(canary),
            stable: self.stable.plus(stable),
            seconds: self.seconds + seconds,
        }
    }

    /// Of the canary, and of stable.
    pub(super) fn counts(&self) -> (Counts, Counts) {
        (self.canary, self.stable)
    }

    /// The time that they are of.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }
}

impl GuardEvidence {
    /// Takes in a block. The shares of samples that were beyond the bound since the last look.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn absorb_lag(&mut self, block: &RuntimeBlock) -> Result<Compared, Silence> {
        let (canary, stable) = counted(block, SETTLES, |pod| pod.lag, |pod| pod.lag)?;
        let before = self.lag.take().unwrap_or_default();
        let all = before.plus(canary, stable, seconds(block));
        let (canary, stable) = all.counts();
        if all.seconds() < LOOK || canary.total() < LEAST_SAMPLES || stable.total() < LEAST_SAMPLES {
            self.lag = Some(all);
            return Err(Silence::Few);
        }
        let compared = Compared {
            canary: canary.ratio().unwrap_or(0.0),
            stable: stable.ratio().unwrap_or(0.0),
        };
        let late = canary.bad() >= LEAST_LATE && compared.canary > MAY;
        self.beyond
            .absorb(late && compared.canary > 2.0 * compared.stable, CHANCE);
        Ok(compared)
    }
}

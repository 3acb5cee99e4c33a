//! The event loop: what is due runs late, at the canary and not at stable.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Counts, exact};
use super::{Compared, GuardEvidence, LOOK, Silence, seconds, settled};
use crate::guard::{PodRuntime, RuntimeBlock};

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

impl GuardEvidence {
    /// Takes in a block. The shares of samples that were beyond the bound since the last look.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn absorb_lag(&mut self, block: &RuntimeBlock) -> Result<Compared, Silence> {
        let canary = of(&block.canary, block, Silence::Canary, Silence::Early)?;
        let stable = of(&block.stable, block, Silence::Stable, Silence::StableEarly)?;
        let before = self.lag.take().unwrap_or_default();
        let all = Lateness {
            canary: before.canary.plus(canary),
            stable: before.stable.plus(stable),
            seconds: before.seconds + seconds(block),
        };
        let (canary, stable) = (all.canary, all.stable);
        if all.seconds < LOOK || canary.total() < LEAST_SAMPLES || stable.total() < LEAST_SAMPLES {
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

fn of(pods: &[PodRuntime], block: &RuntimeBlock, none: Silence, early: Silence) -> Result<Counts, Silence> {
    if pods.iter().all(|pod| pod.lag.is_none()) {
        return Err(none);
    }
    let told: Vec<Counts> = settled(pods, block.start, SETTLES)
        .filter_map(|pod| pod.lag)
        .collect();
    if told.is_empty() {
        return Err(early);
    }
    Ok(told.into_iter().fold(Counts::default(), Counts::plus))
}

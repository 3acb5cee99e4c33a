//! Processor time for a request.
//!
//! A process takes some time whether or not anybody asks it: `a + b·λ` for `λ` requests a second. A canary with few
//! requests would look expensive if its time were divided by them. So the times of both revisions' pods are compared as
//! they are, and what a pod of the canary may take grows with its requests beyond stable's: with the same code
//! `a + b·λ_c ≤ max(1, λ_c/λ_s)·(a + b·λ_s)`, whatever `a` and `b` are. The other way round that bound is loose: a pod
//! with half of the requests may take twice as much for each. Below that nothing is counted.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::exact;
use super::{Compared, GuardEvidence, LOOK, Silence, seconds, settled};
use crate::guard::{PodRuntime, RuntimeBlock};

/// The first requests import and compile: that is no request's price.
const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// Requests of each revision in one look: the price of a few is chance.
const LEAST_REQUESTS: f64 = 100.0;
/// A pod that takes no more than this part of a processor beyond the bound is not worth a rollback; what it does beside its
/// requests may differ by as much from pod to pod.
const SLIGHT: f64 = 0.05;
/// Each pod of the canary has this part of the requests of each of stable's, at least.
const LEAST_LOAD: f64 = 0.5;
/// A healthy canary is beyond the bound at so many looks, at most.
const CHANCE: f64 = 0.05;

/// What both took since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Chunk {
    canary: Work,
    stable: Work,
    /// The time that they are of.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    seconds: f64,
}

/// What the pods of one revision did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Work {
    /// Processor seconds.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    cpu: f64,
    /// Seconds, of each pod.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    time: f64,
    /// Requests.
    #[serde(with = "exact")]
    #[schemars(with = "String")]
    requests: f64,
}

impl Work {
    fn plus(self, other: Self) -> Self {
        let sum = |a: f64, b: f64| f64::min(a + b, f64::MAX);
        Self {
            cpu: sum(self.cpu, other.cpu),
            time: sum(self.time, other.time),
            requests: sum(self.requests, other.requests),
        }
    }

    fn load(&self) -> f64 {
        self.requests / self.time
    }

    fn usage(&self) -> f64 {
        self.cpu / self.time
    }

    fn price(&self) -> f64 {
        self.cpu / self.requests
    }
}

impl Chunk {
    /// With so many seconds of work more, each with the time of the pods that they are of, in a block of so many seconds; no requests.
    pub(super) fn plus_idle(self, canary: (f64, f64), stable: (f64, f64), seconds: f64) -> Self {
        let work = |(cpu, time)| Work {
            cpu,
            time,
            requests: 0.0,
        };
        Self {
            canary: self.canary.plus(work(canary)),
            stable: self.stable.plus(work(stable)),
            seconds: self.seconds + seconds,
        }
    }

    /// The time that it is of.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The share of time that the canary's pods worked, and stable's.
    pub(super) fn usages(&self) -> (f64, f64) {
        (self.canary.usage(), self.stable.usage())
    }
}

impl GuardEvidence {
    /// Takes in a block in which the revisions served so many requests: for each the canary may take `max_ratio` times
    /// stable's time. Processor seconds for each request since the last look.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub fn absorb_cpu(
        &mut self,
        block: &RuntimeBlock,
        canary_requests: f64,
        stable_requests: f64,
        max_ratio: f64,
    ) -> Result<Compared, Silence> {
        let canary = of(
            &block.canary,
            block,
            canary_requests,
            Silence::Canary,
            Silence::Early,
        )?;
        let stable = of(
            &block.stable,
            block,
            stable_requests,
            Silence::Stable,
            Silence::StableEarly,
        )?;
        let before = self.chunk.take().unwrap_or_default();
        let (canary, stable) = (before.canary.plus(canary), before.stable.plus(stable));
        let seconds = before.seconds + seconds(block);
        if seconds < LOOK || canary.requests < LEAST_REQUESTS || stable.requests < LEAST_REQUESTS {
            self.chunk = Some(Chunk {
                canary,
                stable,
                seconds,
            });
            return Err(Silence::Few);
        }
        let load = canary.load() / stable.load();
        // Whether a look counts must not depend on what it shows.
        if load.is_nan() || load < LEAST_LOAD {
            return Err(Silence::LightLoad);
        }
        let may = max_ratio * load.max(1.0) * stable.usage();
        self.beyond.absorb(canary.usage() > may + SLIGHT, CHANCE);
        Ok(Compared {
            canary: canary.price(),
            stable: stable.price(),
        })
    }
}

fn of(
    pods: &[PodRuntime],
    block: &RuntimeBlock,
    requests: f64,
    none: Silence,
    early: Silence,
) -> Result<Work, Silence> {
    let known = |pod: &&PodRuntime| pod.cpu.is_some_and(|cpu| cpu.is_finite() && cpu >= 0.0);
    let all = pods.iter().filter(known).count();
    if all == 0 || !requests.is_finite() || requests < 0.0 {
        return Err(none);
    }
    let old: Vec<f64> = settled(pods, block.start, SETTLES)
        .filter(known)
        .filter_map(|pod| pod.cpu)
        .collect();
    if old.is_empty() {
        return Err(early);
    }
    // Requests are known of all pods together.
    let part = old.len() as f64 / all as f64;
    Ok(Work {
        cpu: f64::min(old.iter().sum(), f64::MAX),
        time: old.len() as f64 * seconds(block),
        requests: requests * part,
    })
}

//! Guards of the runtime: memory, open files, event loop, processor time and 4xx of the canary beside stable's, and more.
//!
//! Each is a sequential test with a stated probability of a false alarm, [`FALSE_ALARM`] for six of them and [`SMALL_FALSE_ALARM`] for
//! four and for routes, so that all of them together raise one in no more than one in a hundred rollouts. Shares of 4xx are what objectives are, and use their [`Evidence`]. What the
//! others measure has no distribution that could be written down (a collector's saw-tooth, steps of an allocator, a
//! noisy neighbour), so they look at each block with a robust bound and count how often the canary is beyond it:
//! see `beyond`.
//!
//! - `beyond`: how often the canary was beyond a bound that a healthy one seldom is.
//! - `growth`: how fast something grows, by medians of thirds.
//! - `growing`, `event_loop`, `cpu`: the bound of each, memory and open files being what grows.
//! - `gc`, `pool`: the time that the collector takes, and pools of threads that have none to spare.
//! - `mostly`: what happens mostly at the canary: workers that hang, new exceptions, 4xx of one route.
//! - `flaps`: readiness that comes and goes, by numbers alone.
//!
//! What is not measured says nothing, for or against.

mod beyond;
mod cpu;
mod event_loop;
mod flaps;
mod gc;
mod growing;
mod growth;
mod mostly;
mod pool;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use flaps::{Losses, far_more};
pub use growing::WINDOW as MEMORY_WINDOW;
pub use growth::{Growth, growth};
pub use mostly::Shown;

use self::beyond::Beyond;
use self::cpu::Chunk;
use self::event_loop::Lateness;
use self::flaps::Flaps;
use self::mostly::Kind;
use super::{Block, Counts, Evidence, exact};
use crate::guard::{PodRuntime, RuntimeBlock};

/// The probability that one guard takes a healthy canary back, at most.
pub const FALSE_ALARM: f64 = 0.0016;

/// The same of a guard for something that is seldom, or slow to harm: it may take a look or two longer. So of 4xx by route.
pub const SMALL_FALSE_ALARM: f64 = 0.00008;
/// A look covers so many seconds at least: what lasts for a moment is one look, however often the pods are scraped.
const LOOK: f64 = 30.0;
/// A share of 4xx is not worse by less than this: half a percent of the requests.
const LEAST_EXCESS: f64 = 0.005;

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    /// Of the canary, in the guard's own unit.
    pub canary: f64,
    /// Of stable.
    pub stable: f64,
}

/// Why nothing was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// No pod of the canary tells it.
    Canary,
    /// No pod of stable tells it.
    Stable,
    /// Pods of the canary have not run for long enough.
    Early,
    /// Pods of stable have not run for long enough.
    StableEarly,
    /// Too little happened.
    Few,
    /// Each pod of the canary has less than half of what each of stable's has to do.
    LightLoad,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Canary => "no pod of the canary tells it",
            Self::Stable => "no pod of stable tells it",
            Self::Early => "the canary's pods have not run for long enough",
            Self::StableEarly => "stable's pods have not run for long enough",
            Self::Few => "too little was counted so far",
            Self::LightLoad => "each pod of the canary has less than half of what each of stable's has to do",
        })
    }
}

/// What one guard has gathered in one attempt. Bounded, exact in every bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardEvidence {
    /// How often the canary was beyond the bound.
    #[serde(default, skip_serializing_if = "Beyond::is_none")]
    beyond: Beyond,
    /// What grows: the end of the last block that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    looked_at: Option<Timestamp>,
    /// What grows: how fast the canary's did then, a second.
    #[serde(default, with = "exact::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    rate: Option<f64>,
    /// The event loop, and pools: what is not enough for a look yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lag: Option<Lateness>,
    /// Processor time, and the collector's: what is not enough for a look yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk: Option<Chunk>,
    /// Losses of readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flaps: Option<Flaps>,
    /// 4xx: the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shift: Option<Evidence>,
    /// Exceptions: the kinds that stable had not raised when they were first seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    kinds: Vec<Kind>,
    /// 4xx: the routes that have had any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    routes: Vec<Kind>,
}

impl GuardEvidence {
    /// Takes in a block of the share of 4xx; the canary's and stable's share so far.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn absorb_client_errors(&mut self, block: &Block) -> Result<Compared, Silence> {
        let evidence = self.shift.get_or_insert_with(|| Evidence::for_margins(&[]));
        evidence.absorb(block);
        match (evidence.canary().ratio(), evidence.stable().ratio()) {
            (Some(canary), Some(stable)) => Ok(Compared { canary, stable }),
            (None, _) => Err(Silence::Canary),
            (_, None) => Err(Silence::Stable),
        }
    }

    /// The canary's share of 4xx is beyond `max_ratio` times stable's, and that it is higher at all has been shown.
    pub fn client_errors_shifted(&self, max_ratio: f64) -> bool {
        let Some(evidence) = &self.shift else { return false };
        let share = |counts: Counts| counts.ratio().unwrap_or(0.0);
        let (canary, stable) = (share(evidence.canary()), share(evidence.stable()));
        evidence.ln_harm() >= -FALSE_ALARM.ln()
            && canary > max_ratio * stable
            && canary >= stable + LEAST_EXCESS
            && !evidence.rests_on_one_pod()
    }

    /// The canary has been beyond the bound so often that it is no chance.
    pub fn is_shown(&self) -> bool {
        self.is_shown_by(FALSE_ALARM)
    }

    /// So often that it would be a chance with a probability of at most `false_alarm`, above 0 and below 1.
    pub fn is_shown_by(&self, false_alarm: f64) -> bool {
        self.beyond.ln() >= -false_alarm.ln()
    }

    /// Of so many looks, so many were beyond the bound.
    pub fn looks(&self) -> (u32, u32) {
        (self.beyond.looks(), self.beyond.times())
    }
}

/// How many requests a pod of the canary has for one of a pod of stable's, at least one: a canary with less to do is held
/// to what stable does with more. Where that is not known, or stable has none, nothing can be compared.
fn load(block: &RuntimeBlock, canary_requests: f64, stable_requests: f64) -> Result<f64, Silence> {
    let each = |requests: f64, pods: &[PodRuntime]| requests / pods.len().max(1) as f64;
    let load = each(canary_requests, &block.canary) / each(stable_requests, &block.stable);
    if load.is_finite() && load >= 0.0 {
        Ok(load.max(1.0))
    } else {
        Err(Silence::Few)
    }
}

/// What the pods that had run for `settles` counted, of both revisions; `of_canary` and `of_stable` read it.
fn counted(
    block: &RuntimeBlock,
    settles: SignedDuration,
    of_canary: impl Fn(&PodRuntime) -> Option<Counts>,
    of_stable: impl Fn(&PodRuntime) -> Option<Counts>,
) -> Result<(Counts, Counts), Silence> {
    Ok((
        sum(&block.canary, block.start, settles, of_canary)
            .map_err(|early| if early { Silence::Early } else { Silence::Canary })?,
        sum(&block.stable, block.start, settles, of_stable).map_err(|early| {
            if early {
                Silence::StableEarly
            } else {
                Silence::Stable
            }
        })?,
    ))
}

/// The sum of what the pods that had run for `settles` counted; otherwise whether others did.
fn sum(
    pods: &[PodRuntime],
    start: Timestamp,
    settles: SignedDuration,
    of: impl Fn(&PodRuntime) -> Option<Counts>,
) -> Result<Counts, bool> {
    let told = settled(pods, start, settles).filter_map(&of);
    told.reduce(Counts::plus)
        .ok_or_else(|| pods.iter().any(|pod| of(pod).is_some()))
}

/// The pods that had run for `settles` when the block began.
fn settled(
    pods: &[PodRuntime],
    start: Timestamp,
    settles: SignedDuration,
) -> impl Iterator<Item = &PodRuntime> {
    let old_enough = move |pod: &&PodRuntime| start.duration_since(pod.since) >= settles;
    pods.iter().filter(old_enough)
}

/// How long a block is; nothing is shorter than nothing.
fn seconds(block: &RuntimeBlock) -> f64 {
    block.end.duration_since(block.start).as_secs_f64().max(0.0)
}

/// The middle of these; of two in the middle the lower. `None` of none. What is no number comes last.
fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

#[cfg(test)]
mod tests;

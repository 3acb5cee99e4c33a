//! What happened in one rollout, in order of time.

use jiff::Timestamp;
use molt_core::analysis::Counts;
use molt_core::decision::{Decision, Verdict};
use molt_core::state::Transition;
use serde::Serialize;

use crate::pods::Millis;

/// What happened in one rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Every judged block of every objective.
    #[serde(rename = "timeline")]
    pub blocks: Vec<BlockEntry>,
    /// Every change of state.
    pub transitions: Vec<TransitionEntry>,
}

/// One judged block of one objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockEntry {
    /// Its end, in seconds since the attempt began, or the recording that is replayed.
    pub t: f64,
    /// When it was judged, in the same seconds: samples are read a moment after a block's end, and what was decided in
    /// between did not know it.
    pub judged_at: f64,
    /// The objective.
    pub slo: String,
    /// The canary's weight in percent that it was counted at.
    pub weight: u8,
    /// What stable served in it.
    pub stable: CountsEntry,
    /// What the canary served in it.
    pub canary: CountsEntry,
    /// The evidence after it.
    pub evidence: EvidenceEntry,
    /// `Continue`, `Safe`, `RollBack` or `NoData`.
    pub verdict: String,
    /// Share of the window's error budget that the attempt has spent, in percent; unknown without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_spent_percent: Option<f64>,
}

/// Requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CountsEntry {
    /// All.
    pub total: f64,
    /// The bad ones.
    pub bad: f64,
}

impl From<Counts> for CountsEntry {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total(),
            bad: counts.bad(),
        }
    }
}

/// Evidence as natural logarithms: 0 says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceEntry {
    /// That the canary has been worse than stable since the first block, as if requests were independent.
    pub harm: f64,
    /// The evidence of harm that decides: since the first or any later block, less what clusters of requests
    /// take from it.
    pub deciding_harm: f64,
    /// That it is not worse by more than the margin that the next move asks for; negative infinity, `null` in
    /// JSON, where that margin is too small to be shown.
    pub safe: f64,
    /// In the bake alone: that the canary, with all the traffic, is worse than stable was before. It decides there
    /// whether both are compared again, and by itself convicts nobody, for stable might have had the same. Absent
    /// outside of the bake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<f64>,
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransitionEntry {
    /// When, in milliseconds since the attempt began, or the recording that is replayed.
    #[serde(rename = "t", serialize_with = "as_seconds")]
    pub millis: i64,
    /// What: one `CamelCase` word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// The weight that the canary is to have then, in percent.
    pub weight: u8,
}

impl TransitionEntry {
    /// When, in seconds since the attempt began.
    pub fn seconds(&self) -> f64 {
        self.millis as f64 / 1000.0
    }
}

impl Timeline {
    /// Adds what one turn tells, at its time.
    pub(crate) fn note(&mut self, decision: &Decision, now: Millis) {
        let report = &decision.report;
        self.blocks
            .extend(report.verdicts.iter().map(|verdict| block(verdict, now)));
        self.transitions.extend(report.transitions.iter().map(transition));
    }
}

/// The time of a world whose attempt began at the epoch.
pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
}

fn block(verdict: &Verdict, now: Millis) -> BlockEntry {
    BlockEntry {
        t: verdict.at.as_millisecond() as f64 / 1000.0,
        judged_at: now as f64 / 1000.0,
        slo: verdict.slo.clone(),
        weight: verdict.weight,
        stable: verdict.stable.into(),
        canary: verdict.canary.into(),
        evidence: EvidenceEntry {
            harm: verdict.ln_harm_from_start,
            deciding_harm: verdict.ln_harm,
            safe: verdict.ln_safe,
            suspicion: verdict.ln_harm_alone,
        },
        verdict: format!("{:?}", verdict.verdict),
        budget_spent_percent: verdict.spent.map(|share| share * 100.0),
    }
}

fn transition(transition: &Transition) -> TransitionEntry {
    TransitionEntry {
        millis: transition.at.as_millisecond(),
        reason: transition.reason.clone(),
        message: transition.message.clone(),
        weight: transition.weight,
    }
}

// The signature is serde's.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn as_seconds<S: serde::Serializer>(millis: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*millis as f64 / 1000.0)
}

//! What a bake's own evidence says of a canary that has all the traffic.

use jiff::Timestamp;
use molt_core::decision::Verdict;
use molt_core::rollout::decide;
use molt_core::state::{Doubt, SloEvidence, Stage, State};

use super::Turn;

/// For each objective whose blocks were judged in a bake: the end of the newest one, and the natural logarithm of the
/// evidence after it.
#[derive(Debug, Default)]
pub(super) struct Suspicions(Vec<(String, Timestamp, f64)>);

impl Suspicions {
    /// What there is of them after this turn.
    pub(super) fn after(turn: &Turn<'_>) -> Self {
        let report = &turn.decision.report;
        let bakes = turn
            .before
            .attempt
            .as_ref()
            .is_some_and(|attempt| matches!(attempt.stage, Stage::Baking { .. }));
        if !bakes || report.verdicts.is_empty() {
            return Self::default();
        }
        if report.transitions.iter().any(|t| t.reason == "BakeInterrupted") {
            // What made it suspect is set aside in the same turn.
            Self::of(&believed(turn))
        } else {
            Self::of(&turn.decision.state)
        }
    }

    fn of(state: &State) -> Self {
        let attempt = state.attempt.as_ref().map(|attempt| &attempt.evidence);
        let evidence = attempt.or(state.last.as_ref().map(|ended| &ended.evidence));
        let entry = |slo: &SloEvidence| (slo.name.clone(), slo.measured_to, slo.evidence.ln_harm_alone());
        Self(evidence.into_iter().flatten().map(entry).collect())
    }

    /// That after the block of this verdict, which must be of the same turn.
    pub(super) fn of_block(&self, verdict: &Verdict) -> Option<f64> {
        let of_it = |(slo, to, _): &&(String, Timestamp, f64)| *slo == verdict.slo && *to == verdict.at;
        self.0.iter().find(of_it).map(|(_, _, ln)| *ln)
    }
}

/// The state after the same turn, were the canary suspected so often before that it is taken at its word now: such a
/// suspicion is not compared for, so its evidence is kept.
fn believed(turn: &Turn<'_>) -> State {
    let mut before = turn.before.clone();
    if let Some(attempt) = &mut before.attempt {
        attempt.doubt = Some(Doubt {
            times: u8::MAX,
            open: false,
            since: None,
        });
    }
    decide(turn.plan, &before, turn.seen, turn.now).state
}

//! An attempt that was paused by a deadline goes on by itself once what stood in the way is corrected.

use super::Turn;
use super::objectives::own_history;
use crate::analysis;
use crate::observed::Action;
use crate::state::{Attempt, Stage};

impl Turn<'_> {
    /// Takes an attempt out of its hold if the objectives, their metrics or the limits have been changed since.
    ///
    /// Nothing is skipped: each weight has to pass its gate again, and the counts of an objective that is no
    /// longer the same are forgotten. What a person paused, or evidence took back, is never touched.
    pub(super) fn resume_corrected(&mut self) {
        let plan = self.plan;
        let abort = self.seen.actions.iter().any(|a| a.action == Action::Abort);
        let Some(mut attempt) = self.attempt().cloned() else {
            return;
        };
        let wanted = !plan.deleting && self.wanted().as_ref() == Some(&attempt.revision);
        let Some(hold) = attempt.hold.take().filter(|hold| hold.basis != plan.basis) else {
            return;
        };
        if abort || !wanted || attempt.stage != Stage::Held {
            return;
        }
        let now = self.now;
        attempt
            .evidence
            .retain(|entry| plan.slos.iter().any(|slo| entry.is_of(slo)));
        self.keep_own_history(&mut attempt);
        attempt.step = self.step_to_resume(&attempt, hold.weight);
        attempt.stage = Stage::Stepping;
        attempt.since = now;
        attempt.step_since = now;
        attempt.deadline = Some(self.progress_until());
        attempt.cleared_step = None;
        attempt.patience = None;
        if let Some(doubt) = &mut attempt.doubt {
            doubt.open = false;
            doubt.since = None;
        }
        // The hold counts for nothing, and neither does what comes before users are back on the canary.
        attempt.exposed_since = None;
        attempt.measured_to = now;
        attempt.evidence.iter_mut().for_each(|e| e.measured_to = now);
        let step = attempt.step + 1;
        self.state.attempt = Some(attempt);
        self.note(
            "Resumed",
            format!(
                "spec.slos, spec.metrics or spec.analysis was changed since the pause; the attempt goes on at step {step}"
            ),
        );
    }

    /// The step whose weight the attempt had at most, if what is left of the evidence still allows it; else
    /// the first with a weight.
    fn step_to_resume(&self, attempt: &Attempt, had: u8) -> u32 {
        let views = self.views(attempt);
        let allowed = |weight: u8| {
            views.len() == self.plan.slos.len()
                && analysis::safe_for_step(&views, &self.plan.limits, f64::from(weight) / 100.0).is_ok()
        };
        let reached = weights(attempt).filter(|(index, weight)| *index <= attempt.step && *weight <= had);
        let step = reached
            .filter(|(_, weight)| allowed(*weight))
            .last()
            .or_else(|| first_weight(attempt));
        step.map_or(0, |(index, _)| index)
    }

    /// What stood for the history of an objective while the attempt had traffic goes on standing for it: the
    /// time without traffic would make it look small.
    fn keep_own_history(&self, attempt: &mut Attempt) {
        for slo in &self.plan.slos {
            let Some(index) = attempt.evidence.iter().position(|e| e.is_of(slo)) else {
                continue;
            };
            let entry = &attempt.evidence[index];
            let own = own_history(attempt, slo, entry).map(|n| n.min(1e18) as u64);
            let known = entry.expected_requests.or(own);
            attempt.evidence[index].expected_requests = known;
        }
    }
}

/// The steps that set a weight, with their index.
fn weights(attempt: &Attempt) -> impl Iterator<Item = (u32, u8)> {
    (0..)
        .zip(&attempt.steps)
        .filter_map(|(index, step)| Some((index, step.weight()?)))
}

/// The first step that sets a weight.
pub(super) fn first_weight(attempt: &Attempt) -> Option<(u32, u8)> {
    weights(attempt).next()
}

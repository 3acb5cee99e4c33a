//! New counts into evidence, evidence into verdicts.

use jiff::Timestamp;

use super::attempt::End;
use super::doubt::{is_before_comparison, is_pending};
use super::objectives::first_reading;
use super::preview::is_previewed;
use super::{Turn, after};
use crate::analysis::{self, Block, During, Harm, HarmKind};
use crate::observed::{MeasuredBlock, Measurement};
use crate::plan::{OnShareMismatch, SloPlan};
use crate::state::{Attempt, NewestBlock, Outcome, Rival, SloEvidence, Stage};

/// A block that could not be read for one objective is asked for again this many blocks long; then what it
/// would have said is lost, neither for nor against the canary.
const REREAD_BLOCKS: i32 = 20;

impl Turn<'_> {
    /// Takes in what was measured, and rolls back if it shows harm.
    pub(super) fn follow_evidence(&mut self) {
        self.follow_weight();
        self.forget_other_questions();
        let Some(measured) = self.seen.measurement.as_ref() else {
            return;
        };
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        if judged(&attempt.stage) && !is_pending(&attempt) {
            self.take_in(&mut attempt, measured);
        }
        let harm = analysis::judge_harm(&self.views(&attempt), self.plan.slos.len(), &self.plan.limits);
        self.state.attempt = Some(attempt);
        match harm {
            Some(harm) if self.is_in_doubt(&harm) => self.doubt(&harm),
            Some(harm) if self.is_beyond_doubts(&harm) => self.leave_undecided(&harm),
            // Callers come and go: that alone convicts nobody who could be asked beside stable.
            Some(harm) if harm.kind == HarmKind::HardlyAny => {}
            Some(harm) if harm.kind == HarmKind::FewerRequests && !self.convicts_at_once() => {}
            Some(harm) => self.withdraw(self.harmed(&harm)),
            None => self.tell_of_incident(),
        }
    }

    /// Notes since when the router has had the weight that the attempt asks for.
    fn follow_weight(&mut self) {
        let Some(attempt) = self.attempt() else { return };
        // A rival may be faster than the watch: only when it has kept still for a block are the weights Molt's.
        let rests = |rival: &Rival| self.now >= after(rival.last, self.plan.block);
        let in_force = attempt.weight > 0
            && self.state.rival.as_ref().is_none_or(rests)
            && self.acknowledged(attempt, attempt.weight);
        let since = in_force.then(|| attempt.in_force_since.unwrap_or(self.now));
        if let Some(attempt) = &mut self.state.attempt {
            attempt.in_force_since = since;
        }
    }

    /// Counts of an objective that was changed answer another question, and so does what they have shown.
    fn forget_other_questions(&mut self) {
        let slos = &self.plan.slos;
        let Some(attempt) = self.state.attempt.as_mut().filter(|a| judged(&a.stage)) else {
            return;
        };
        let other = |e: &SloEvidence| slos.iter().any(|slo| slo.name == e.name && !e.is_of(slo));
        if attempt.evidence.iter().any(other) {
            attempt.evidence.retain(|e| !other(e));
            attempt.cleared_step = None;
        }
    }

    pub(super) fn take_in(&mut self, attempt: &mut Attempt, measured: &Measurement) {
        let mut kept = std::mem::take(&mut attempt.evidence);
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let place = kept.iter().position(|e| e.is_of(slo));
            let known = place.map(|place| kept.remove(place));
            attempt
                .evidence
                .extend(known.or_else(|| first_reading(self.plan, attempt, index, measured)));
        }
        for block in &measured.blocks {
            self.take_in_block(attempt, block);
        }
        // The slowest objective says where to go on, within reason.
        let newest = attempt
            .evidence
            .iter()
            .map(|e| e.measured_to)
            .max()
            .unwrap_or(attempt.measured_to);
        let oldest = attempt
            .evidence
            .iter()
            .map(|e| e.measured_to)
            .min()
            .unwrap_or(attempt.measured_to);
        let bound = newest
            .checked_sub(self.plan.block * REREAD_BLOCKS)
            .unwrap_or(newest);
        if newest > attempt.measured_to {
            attempt.measured_to = oldest.max(bound).max(attempt.measured_to);
        }
    }

    fn take_in_block(&mut self, attempt: &mut Attempt, block: &MeasuredBlock) {
        let exposed = attempt.exposed_since.is_some_and(|since| block.start >= since);
        let previews = is_previewed(attempt);
        // Who comes by a header, and how much is copied, is in no weight: what is counted is compared all the same, and
        // shares say nothing.
        let by_pods = self.divides_by_pods() && attempt.weight > 0;
        let asked = if by_pods {
            self.written_weight(attempt)
        } else {
            attempt.weight
        };
        let weight = if exposed {
            asked.max(u8::from(previews || by_pods))
        } else {
            0
        };
        // Those who came before the canary stay where they are, and sessions are of any length.
        let by_sessions = self.plan.sticky && weight < 100;
        // Tasks are counted when they are done, and of long ones none is for a while after new workers have begun.
        let by_pods_alone = by_pods && (weight < 100 || self.pulls());
        let says_nothing = previews || by_sessions || by_pods_alone;
        let shares_count = self.plan.on_share_mismatch != OnShareMismatch::Ignore;
        let in_force_for = attempt
            .in_force_since
            .map(|since| block.start.duration_since(since));
        let is_in_force = in_force_for.is_some_and(|time| !time.is_negative());
        let in_force = is_in_force && !says_nothing;
        let settled = !says_nothing && in_force_for.is_some_and(|time| time >= self.plan.block / 2);
        // A router that never acknowledges has not changed anything either.
        // What ended before it rose is of the weight before, for it is read a moment later.
        let is_of_before = exposed && attempt.raised_at.is_some_and(|at| block.end <= at);
        let rises = |at: Timestamp| at < block.end && block.start < after(at, self.plan.block);
        let during = During {
            incident: attempt.incident_since.is_some(),
            weight_rises: !is_in_force && attempt.raised_at.is_some_and(rises),
            weight_before: None,
        };
        let rises_in_it = attempt
            .raised_at
            .is_some_and(|at| during.weight_rises && at >= block.start && !says_nothing);
        let before_comparison = is_before_comparison(attempt, block.start);
        let entry_of = |slo: &SloPlan| attempt.evidence.iter().find(|e| e.is_of(slo));
        let reference = |slo| entry_of(slo).map_or(1.0, |entry| self.reference(attempt, slo, entry));
        let references: Vec<f64> = self.plan.slos.iter().map(reference).collect();
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let Some(Some(counts)) = block.slos.get(index) else {
                continue;
            };
            let Some(place) = attempt.evidence.iter().position(|e| e.is_of(slo)) else {
                continue;
            };
            let entry = &mut attempt.evidence[place];
            if block.start < entry.measured_to {
                continue;
            }
            entry.measured_to = block.end;
            if before_comparison {
                entry.evidence.look_at_stable(counts.stable);
                continue;
            }
            let before = entry.newest.filter(|_| is_of_before).map(|newest| newest.weight);
            let weight = before.unwrap_or(weight);
            let reference = (weight == 100).then_some(references[index]);
            let block_of_slo = Block {
                start: block.start,
                end: block.end,
                canary_weight: weight,
                weight_in_force: in_force,
                weight_settled: settled,
                canary: counts.canary,
                canary_late: counts.canary_late,
                stable: counts.stable,
                canary_pods: counts.canary_pods,
                stable_pods: counts.stable_pods,
                at_route: counts.at_route.filter(|_| shares_count),
                reference,
            };
            let during = During {
                weight_before: entry.newest.filter(|_| rises_in_it).map(|newest| newest.weight),
                ..during
            };
            entry.evidence.absorb_during(&block_of_slo, during);
            if exposed {
                entry.newest = Some(NewestBlock {
                    weight,
                    canary: counts.canary,
                    stable: counts.stable,
                });
                let verdict = self.verdict(attempt, slo, &attempt.evidence[place], block, counts);
                self.verdicts.push(verdict);
            }
        }
    }

    fn harmed(&self, harm: &Harm) -> End {
        let mut end = harmed(harm);
        if self.state.stable.is_none() {
            let objective = self.plan.slos.iter().find(|slo| slo.name == harm.slo);
            end.message = format!(
                "{}: {:.2} % of {:.0} requests were bad, and its objective allows {:.2} %",
                harm.slo,
                harm.canary_ratio * 100.0,
                harm.canary_requests,
                objective.map_or(0.0, |slo| slo.objective.bad_fraction * 100.0)
            );
        }
        end
    }
}

/// Users are on the canary, or will be: what is measured counts.
fn judged(stage: &Stage) -> bool {
    matches!(stage, Stage::Stepping | Stage::Promoting | Stage::Baking { .. })
}

pub(super) fn harmed(harm: &Harm) -> End {
    let reason = match harm.kind {
        HarmKind::Evidence => "HarmShown",
        HarmKind::BudgetSpent => "BudgetSpent",
        HarmKind::BurnRate => "BurnRate",
        HarmKind::MissingResponses
        | HarmKind::FewResponses
        | HarmKind::FewerRequests
        | HarmKind::HardlyAny => "MissingResponses",
    };
    End::new(Outcome::RolledBack, reason, harm.to_string())
}

//! New counts into evidence, evidence into verdicts.

use jiff::SignedDuration;

use super::attempt::End;
use super::doubt::is_pending;
use super::objectives::first_reading;
use super::preview::is_previewed;
use super::resume::first_weight;
use super::waits::Wait;
use super::{Turn, after};
use crate::analysis::{
    self, Block, Burn, During, Harm, HarmKind, WATCH, margin_for_promotion, margin_for_step,
};
use crate::decision::{SloReport, Verdict, VerdictKind};
use crate::observed::{BlockCounts, MeasuredBlock, Measurement, ProblemKind};
use crate::plan::{BudgetExhausted, OnShareMismatch, SloPlan, Step};
use crate::state::{Attempt, NewestBlock, Outcome, Patience, Rival, SloEvidence, Stage};

/// A block that could not be read for one objective is asked for again this many blocks long; then what it
/// would have said is lost, neither for nor against the canary.
const REREAD_BLOCKS: i32 = 20;
/// A step is reckoned to last this long at least: harm is not seen at once.
const LEAST_STEP: SignedDuration = SignedDuration::from_secs(60);
/// What passes between the sight of harm and the last request that it meets: the router and its connections.
const REACTION: SignedDuration = SignedDuration::from_secs(60);
/// A wait for evidence is prolonged this often at most, each time by the progress deadline.
const MOST_PATIENCE: u8 = 5;
/// Growth of the evidence for safety that prolongs a wait, in thousandths of its natural logarithm.
const GROWTH: i64 = 100;

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
            // Callers come and go: that alone convicts nobody.
            Some(harm) if harm.kind == HarmKind::FewerRequests => {}
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

    fn take_in(&mut self, attempt: &mut Attempt, measured: &Measurement) {
        let kept = std::mem::take(&mut attempt.evidence);
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let known = kept.iter().find(|e| e.is_of(slo)).cloned();
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
        let says_nothing = previews || (by_pods && weight < 100);
        let shares_count = self.plan.on_share_mismatch != OnShareMismatch::Ignore;
        let in_force_for = attempt
            .in_force_since
            .map(|since| block.start.duration_since(since));
        let is_in_force = in_force_for.is_some_and(|time| !time.is_negative());
        let in_force = is_in_force && !says_nothing;
        let settled = !says_nothing && in_force_for.is_some_and(|time| time >= self.plan.block / 2);
        // A router that never acknowledges has not changed anything either.
        let raised = attempt.raised_at.map(|at| after(at, self.plan.block));
        let during = During {
            incident: attempt.incident_since.is_some(),
            weight_rises: !is_in_force && raised.is_some_and(|until| block.start < until),
        };
        let entry_of = |slo: &SloPlan| attempt.evidence.iter().find(|e| e.is_of(slo));
        let reference = |slo| entry_of(slo).map_or(1.0, |entry| self.reference(attempt, slo, entry));
        let references: Vec<f64> = self.plan.slos.iter().map(reference).collect();
        for (index, slo) in self.plan.slos.iter().enumerate() {
            let Some(Some(counts)) = block.slos.get(index) else {
                continue;
            };
            let Some(entry) = attempt.evidence.iter_mut().find(|e| e.is_of(slo)) else {
                continue;
            };
            if block.start < entry.measured_to {
                continue;
            }
            entry.measured_to = block.end;
            let reference = (weight == 100).then_some(references[index]);
            let block_of_slo = Block {
                start: block.start,
                end: block.end,
                canary_weight: weight,
                weight_in_force: in_force,
                weight_settled: settled,
                canary: counts.canary,
                stable: counts.stable,
                canary_pods: counts.canary_pods,
                stable_pods: counts.stable_pods,
                at_route: counts.at_route.filter(|_| shares_count),
                reference,
            };
            entry.evidence.absorb_during(&block_of_slo, during);
            if exposed {
                entry.newest = Some(NewestBlock {
                    weight,
                    canary: counts.canary,
                    stable: counts.stable,
                });
                let entry = entry.clone();
                let verdict = self.verdict(attempt, slo, &entry, block, counts);
                self.verdicts.push(verdict);
            }
        }
    }

    fn verdict(
        &self,
        attempt: &Attempt,
        slo: &SloPlan,
        entry: &SloEvidence,
        block: &MeasuredBlock,
        counts: &BlockCounts,
    ) -> Verdict {
        let report = self.slo_report(attempt, slo, entry);
        let verdict = if counts.canary.total() > 0.0 {
            report.verdict
        } else {
            VerdictKind::NoData
        };
        Verdict {
            at: block.end,
            step: attempt.step,
            weight: attempt.weight,
            slo: slo.name.clone(),
            canary: counts.canary,
            stable: counts.stable,
            ln_harm: report.ln_harm,
            ln_harm_from_start: entry.evidence.ln_harm_from_start(),
            ln_safe: report.ln_safe,
            margin: self.next_margin(attempt, slo),
            spent: report.spent,
            burn: report.burn,
            verdict,
        }
    }

    /// Where one objective stands.
    pub(super) fn slo_report(&self, attempt: &Attempt, slo: &SloPlan, entry: &SloEvidence) -> SloReport {
        let view = self.view(attempt, slo, entry);
        let margin = self.next_margin(attempt, slo);
        let ln_safe = entry.evidence.ln_safe_at(margin);
        let (slos, limits) = (self.plan.slos.len(), &self.plan.limits);
        let harm = analysis::judge_harm(std::slice::from_ref(&view), slos, limits);
        // A suspicion is told by its transition.
        let harmed = harm.is_some_and(|harm| !harm.alone);
        let verdict = if harmed {
            VerdictKind::RollBack
        } else if entry.evidence.canary().total() <= 0.0 {
            VerdictKind::NoData
        } else if ln_safe >= self.plan.limits.ln_safe_needed() {
            VerdictKind::Safe
        } else {
            VerdictKind::Continue
        };
        SloReport {
            name: slo.name.clone(),
            ln_harm: entry.evidence.ln_harm(),
            ln_safe,
            canary: entry.evidence.canary(),
            stable: entry.evidence.stable(),
            budget_remaining: entry.budget_remaining_ppm.map(|ppm| ppm as f64 / 1e6),
            spent: view.spent(),
            burn: burn(slo, entry),
            verdict,
        }
    }

    /// The margin that the next move asks for.
    fn next_margin(&self, attempt: &Attempt, slo: &SloPlan) -> f64 {
        let next = attempt
            .steps
            .iter()
            .skip(attempt.step as usize)
            .filter_map(Step::weight)
            .find(|weight| *weight > attempt.weight);
        match next {
            Some(weight) => margin_for_step(&slo.objective, f64::from(weight) / 100.0),
            None => margin_for_promotion(&slo.objective, &self.plan.limits, WATCH),
        }
    }

    /// Why the evidence does not allow the next move yet: to a weight, or to full traffic.
    pub(super) fn evidence_wait(&self, attempt: &Attempt, next: Option<u8>) -> Option<Wait> {
        if let Some(what) = self.unread(attempt) {
            return Some(Wait::Evidence(what));
        }
        let views = self.views(attempt);
        let limits = &self.plan.limits;
        // Nothing can be known of a revision that nobody has used; after a hold it begins here again.
        let begins = first_weight(attempt).map(|(_, weight)| weight);
        let first = attempt.weight == 0 && next.is_some() && next == begins;
        if first && let Some(what) = self.refusal(attempt) {
            return Some(Wait::Person(what));
        }
        if let Some((_, what)) = self.unsound(attempt) {
            return Some(Wait::Evidence(what));
        }
        // The last step lasts as long as the bake; what could be spent afterwards, bounds the last margin.
        let (share, time) = next.map_or((1.0, self.plan.bake), |weight| {
            (self.plan.share_of(weight), time_at(attempt))
        });
        // Every block is weighed against the budget, and a step that overspends ends there: what it can spend
        // beyond is what passes until that is seen and undone, however long it would have lasted.
        let time = time.max(LEAST_STEP).min(self.plan.block * 2 + REACTION);
        // A way back is not kept waiting for what nobody can know of it yet.
        let exempt = first && self.is_way_back(attempt);
        if let Err(over) = analysis::affordable(&views, limits, share, time)
            && !exempt
        {
            let what = format!(
                "{:.0} % of the traffic could spend {:.2} % of the error budget of {}, and {:.2} % are left to this rollout",
                share * 100.0,
                over.could_spend * 100.0,
                over.slo,
                over.left.max(0.0) * 100.0
            );
            // Nothing can be known of a revision that nobody has used: only a person can take that risk.
            return Some(if first {
                Wait::Person(format!(
                    "{what}: `promote` takes the risk, a smaller first step avoids it"
                ))
            } else {
                Wait::Safety(what)
            });
        }
        if first {
            return None;
        }
        if let Some(wait) = self.block_wait(attempt) {
            return Some(wait);
        }
        let lacking = match next {
            Some(_) => analysis::safe_for_step(&views, limits, share),
            None => analysis::safe_for_promotion(&views, limits, WATCH),
        };
        let unsafe_yet = lacking.err().map(|lack| {
            let needed = limits.ln_safe_needed().exp();
            Wait::Safety(format!(
                "safe evidence {:.1} of {needed:.0} for {} from {:.0} requests of the canary",
                lack.ln_safe.min(99.0).exp(),
                lack.slo,
                lack.canary_requests
            ))
        });
        unsafe_yet.or_else(|| next.is_none().then(|| self.share_wait(attempt, &views))?)
    }

    /// What keeps the first user from the canary: nobody could watch over them, or their error budget is spent.
    pub(super) fn unwatched(&self, attempt: &Attempt) -> Option<Wait> {
        let unread = self.unread(attempt).map(Wait::Evidence);
        unread.or_else(|| self.refusal(attempt).map(Wait::Person))
    }

    /// Why something that decides can't be read, or has not been yet.
    fn unread(&self, attempt: &Attempt) -> Option<String> {
        if let Some(problem) = self.seen.problem(ProblemKind::Metrics) {
            return Some(problem.message.clone());
        }
        let is_read = |slo: &&SloPlan| attempt.evidence.iter().any(|entry| entry.is_of(slo));
        let unread = self.plan.slos.iter().find(|slo| !is_read(slo))?;
        Some(format!("the metrics of {} have not been read yet", unread.name))
    }

    /// Each weight is looked at before the next one, by a whole block at least that was read while the router had it:
    /// what a weight brings about, a full queue for instance, lower ones have not shown.
    fn block_wait(&self, attempt: &Attempt) -> Option<Wait> {
        if attempt.weight == 0 {
            return None;
        }
        let looked_at = attempt.in_force_since.is_some_and(|since| {
            let end = after(since, self.plan.block);
            attempt.evidence.iter().all(|entry| entry.measured_to >= end)
        });
        (!looked_at).then(|| {
            Wait::Evidence(format!(
                "nothing has been read yet of a whole block of {} s with the weight at {} %",
                self.plan.block.as_secs(),
                attempt.weight
            ))
        })
    }

    /// What keeps the evidence from being used for a move, although it can be read: a word for the condition,
    /// and a sentence.
    pub(super) fn unsound(&self, attempt: &Attempt) -> Option<(&'static str, String)> {
        let views = self.views(attempt);
        if let Some(what) = self.incident(attempt) {
            return Some(("SharedIncident", what));
        }
        self.share_mismatch(attempt, &views)
            .map(|what| ("ShareMismatch", what))
    }

    /// Why no user may be put on the canary without a person's word.
    fn refusal(&self, attempt: &Attempt) -> Option<String> {
        if self.plan.budget_exhausted != BudgetExhausted::Refuse {
            return None;
        }
        let (slo, remaining) = self.exhausted(attempt)?;
        Some(format!(
            "{:.1} % of the error budget of {slo} are left, and one rollout may spend {:.1} %: analysis.budgetExhausted is Refuse; `promote` starts it all the same",
            remaining * 100.0,
            self.plan.limits.max_budget_spend() * 100.0
        ))
    }

    /// The first objective with less budget left than one rollout may spend, and what is left of it, 1 for
    /// all. None for a way back to the revision that was stable before, which is always allowed, and where a person has
    /// overridden it.
    pub(super) fn exhausted<'a>(&self, attempt: &'a Attempt) -> Option<(&'a str, f64)> {
        let back = self.is_way_back(attempt) || attempt.overridden.is_some();
        attempt.evidence.iter().find_map(|entry| {
            let remaining = entry.budget_remaining_ppm? as f64 / 1e6;
            (!back && remaining < self.plan.limits.max_budget_spend())
                .then_some((entry.name.as_str(), remaining))
        })
    }

    /// The attempt goes back to the revision that was stable before.
    pub(super) fn is_way_back(&self, attempt: &Attempt) -> bool {
        let last = self.state.last.as_ref();
        last.is_some_and(|last| last.stable.as_ref() == Some(&attempt.revision))
    }

    /// A wait for evidence is worth while as long as the evidence grows: how far it has come, if that is
    /// further than when the wait was last prolonged.
    pub(super) fn patience(&self, attempt: &Attempt) -> Option<Patience> {
        let before = attempt.patience.unwrap_or(Patience {
            times: 0,
            safe_milli: i64::MIN,
            requests: 0,
        });
        let views = self.views(attempt);
        let requests = views
            .iter()
            .map(|v| v.evidence.canary().total())
            .fold(f64::INFINITY, f64::min);
        let share = self
            .ln_share_lacking(attempt, &views)
            .filter(|_| attempt.stage == Stage::Promoting);
        let safe = self
            .plan
            .slos
            .iter()
            .zip(&views)
            .map(|(slo, view)| view.evidence.ln_safe_at(self.next_margin(attempt, slo)))
            .chain(share)
            .fold(f64::INFINITY, f64::min);
        let now = Patience {
            times: before.times + 1,
            safe_milli: (safe * 1000.0) as i64,
            requests: requests as u64,
        };
        let grows = views.len() == self.plan.slos.len()
            && safe.is_finite()
            && now.requests > before.requests
            && now.safe_milli >= before.safe_milli.saturating_add(GROWTH);
        (grows && before.times < MOST_PATIENCE).then_some(now)
    }

    /// What the rollout spends is known for every objective, and within bounds. What the canary does not answer
    /// is in no count.
    pub(super) fn spend_is_known_and_within_bounds(&self, attempt: &Attempt) -> bool {
        let views = self.views(attempt);
        views.len() == self.plan.slos.len()
            && self.share_mismatch(attempt, &views).is_none()
            && views
                .iter()
                .all(|v| v.evidence.canary().total() > 0.0 && v.spent().is_some_and(|s| s < v.may_spend))
    }
}

/// Users are on the canary, or will be: what is measured counts.
fn judged(stage: &Stage) -> bool {
    matches!(stage, Stage::Stepping | Stage::Promoting | Stage::Baking { .. })
}

/// How long the step that a move leads to stays before the next one.
fn time_at(attempt: &Attempt) -> SignedDuration {
    let later = attempt.steps.iter().skip(attempt.step as usize + 1);
    let seconds = later
        .take_while(|step| step.weight().is_none())
        .map(|step| match step {
            Step::Dwell(seconds) => i64::from(*seconds),
            _ => 0,
        })
        .sum();
    SignedDuration::from_secs(seconds)
}

/// How fast both revisions burn the budget now.
fn burn(slo: &SloPlan, entry: &SloEvidence) -> Burn {
    entry.newest.map_or_else(Burn::default, |block| {
        let so_far = entry.evidence.stable().ratio();
        Burn::of(&slo.objective, block.weight, block.canary, block.stable, so_far)
    })
}

impl Turn<'_> {
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

fn harmed(harm: &Harm) -> End {
    let reason = match harm.kind {
        HarmKind::Evidence => "HarmShown",
        HarmKind::BudgetSpent => "BudgetSpent",
        HarmKind::BurnRate => "BurnRate",
        HarmKind::MissingResponses | HarmKind::FewResponses | HarmKind::FewerRequests => "MissingResponses",
    };
    End::new(Outcome::RolledBack, reason, harm.to_string())
}

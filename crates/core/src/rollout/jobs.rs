//! Jobs of conditions: when a run begins, and what its end says of the canary.
//!
//! A Job is run once at each weight, from the moment that the router has acknowledged it, and again where the
//! condition has an interval. It is not run in every block, as numbers are read: a run costs pods. Only a
//! container that ended by itself, or ran longer than it may, says something of the canary. What kept it from
//! running (no node, no image, a quota, an eviction) is neither for nor against it, and another run follows.
//!
//! A run is in the state before its Job is created, and each has its own name, so that a crash between the two
//! never runs one twice: a Job that was seen once is not created again, whatever became of it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::conditions::{Failure, Finding, entry, found, is_judged, keep, settle, short};
use super::migration_runs::migration_under_way;
use super::preview::is_used;
use super::{Turn, after};
use crate::decision::JobEffect;
use crate::guard::GuardMode;
use crate::migration::MigrationPhase;
use crate::observed::{JobKey, JobPhase};
use crate::plan::{ConditionPlan, JobPlan};
use crate::state::{Attempt, ConditionState, JobRun, JobState, State};

/// How much longer than it may take to start and to run a Job exists, should nobody delete it.
pub(super) const BACKSTOP: SignedDuration = SignedDuration::from_secs(60);

/// What there is to say of a run.
enum Said {
    /// Nothing yet; why its containers have not started, where it is known.
    Nothing(Option<String>),
    /// It succeeded.
    Met,
    /// It failed: how.
    NotMet(String),
    /// It ended without saying anything: why.
    NotEvaluated(String),
}

impl Turn<'_> {
    /// The conditions with a Job.
    fn job_conditions(&self) -> impl Iterator<Item = (&ConditionPlan, &JobPlan)> {
        let conditions = self.plan.conditions.iter();
        conditions.filter_map(|plan| Some((plan, plan.check.job()?)))
    }

    /// Takes in how runs have ended, and rolls back where one has failed too often.
    pub(super) fn follow_jobs(&mut self) {
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        let mut failures = Vec::new();
        if is_judged(&attempt) {
            for (plan, job) in self.job_conditions() {
                let mut entry = entry(&attempt, plan);
                let Some((run, key)) = run(&attempt, plan) else {
                    continue;
                };
                let phase = self.seen.jobs.get(&key);
                let said = self.said(&run, phase, job);
                failures.extend(self.hear(&mut entry, &attempt, plan, &run, said));
                keep(&mut attempt, entry);
            }
            self.forget_others(&mut attempt);
        } else {
            // Nobody waits for their word any more.
            attempt
                .conditions
                .iter_mut()
                .filter_map(|c| c.job.as_mut())
                .for_each(|job| job.running = None);
        }
        self.state.attempt = Some(attempt);
        self.tell(failures);
    }

    fn said(&self, run: &JobRun, phase: Option<&JobPhase>, job: &JobPlan) -> Said {
        let timeout = job.timeout;
        let overdue = self.now >= after(run.since, timeout);
        let waits = |why: Option<&String>| match why {
            _ if !overdue => Said::Nothing(why.cloned()),
            Some(why) => Said::NotEvaluated(format!("its Job did not start within {timeout:#}: {why}")),
            None => Said::NotEvaluated(format!(
                "its Job did not start within {timeout:#}: the events of the Job say why"
            )),
        };
        match phase {
            None if run.seen => Said::NotEvaluated("its Job was deleted before its end was seen".to_owned()),
            None => waits(None),
            Some(JobPhase::Refused(why)) => waits(Some(why)),
            Some(JobPhase::Waiting(why)) => waits(why.as_ref()),
            // By the node's clock it may have begun before it was asked for.
            Some(JobPhase::Running { since }) if self.now >= after((*since).max(run.since), timeout) => {
                Said::NotMet(format!("its Job ran for {timeout:#} without an end"))
            }
            Some(JobPhase::Ending) if self.now >= after(run.since, at_most(job)) => {
                Said::NotEvaluated("its containers ended, and nothing says how".to_owned())
            }
            Some(JobPhase::Running { .. } | JobPhase::Ending) => Said::Nothing(None),
            Some(JobPhase::Succeeded) => Said::Met,
            Some(JobPhase::Failed(how)) => Said::NotMet(format!("its Job failed: {how}")),
            Some(JobPhase::Broken(why)) => Said::NotEvaluated(format!("its Job ended early: {why}")),
        }
    }

    fn hear(
        &self,
        entry: &mut ConditionState,
        attempt: &Attempt,
        plan: &ConditionPlan,
        run: &JobRun,
        said: Said,
    ) -> Option<Failure> {
        let key = run_key(attempt, entry);
        let seen = run.seen
            || matches!(self.seen.jobs.get(&key), Some(phase) if !matches!(phase, JobPhase::Refused(_)));
        let job = entry.job.as_mut()?;
        job.running = None;
        job.retry_at = Some(after(self.now, self.plan.block));
        match said {
            Said::Nothing(why) => {
                job.running = Some(JobRun { seen, ..run.clone() });
                job.retry_at = None;
                // What kept the run before from saying something stands until this one does.
                if let Some(why) = why {
                    entry.not_evaluated = Some(short(&why));
                }
                None
            }
            Said::NotEvaluated(why) => {
                entry.not_evaluated = Some(short(&why));
                None
            }
            Said::Met | Said::NotMet(_) => {
                let failure = match said {
                    Said::NotMet(how) => Some(short(&how)),
                    _ => None,
                };
                // What only warns has been told of; one that decides is asked until it can go on.
                if failure.is_none() || plan.mode == GuardMode::Warn {
                    job.retry_at = None;
                }
                job.failed_at_weight = failure.is_some().then_some(run.weight);
                job.failure.clone_from(&failure);
                let finding = Finding {
                    at: run.since,
                    met: failure.is_none(),
                    of_this_weight: run.weight == attempt.weight,
                    value: if failure.is_some() { "failed" } else { "succeeded" }.to_owned(),
                    failure: failure.unwrap_or_default(),
                };
                settle(entry, attempt.weight, plan, finding)
            }
        }
    }

    /// Begins the runs that are due.
    pub(super) fn begin_runs(&mut self) {
        let Some(mut attempt) = self.state.attempt.take() else {
            return;
        };
        if self.may_run(&attempt) {
            for (plan, job) in self.job_conditions() {
                let mut entry = entry(&attempt, plan);
                let is_due = due_at(plan, &entry, &attempt, job).is_some_and(|at| at <= self.now);
                let Some(state) = entry.job.as_mut().filter(|_| is_due) else {
                    continue;
                };
                state.runs = state.runs.saturating_add(1);
                state.retry_at = None;
                state.running = Some(JobRun {
                    since: self.now,
                    weight: attempt.weight,
                    seen: false,
                });
                keep(&mut attempt, entry);
            }
        }
        self.state.attempt = Some(attempt);
    }

    /// Users are on the canary, by the weight that it is meant to have, or its previews are there to be tried.
    fn may_run(&self, attempt: &Attempt) -> bool {
        is_judged(attempt)
            && !self.plan.deleting
            && self.plan.revision.as_ref() == Some(&attempt.revision)
            && (self.is_tried_before_users(attempt)
                || attempt.exposed_since.is_some()
                    && is_used(attempt)
                    && self.acknowledged(attempt, attempt.weight))
    }

    /// Jobs to create and to delete. The last run of each condition is left for an hour after its end, by the
    /// Job's own time to live, so that its logs can be read.
    pub(super) fn job_effects(&self) -> Vec<JobEffect> {
        if self.plan.deleting {
            // They go with the service.
            return Vec::new();
        }
        let judged = self.attempt().filter(|a| is_judged(a));
        let running: Vec<(JobKey, JobRun, &JobPlan)> = judged
            .iter()
            .flat_map(|attempt| {
                self.job_conditions().filter_map(|(plan, job)| {
                    let (run, key) = run(attempt, plan)?;
                    Some((key, run, job))
                })
            })
            .collect();
        let migration = self.migration_run();
        let migration_key = migration.as_ref().map(|(key, _)| key);
        let wanted: BTreeSet<&JobKey> = running.iter().map(|(key, ..)| key).chain(migration_key).collect();
        let mut effects = Vec::new();
        for (key, phase) in &self.seen.jobs {
            let replaced = || {
                self.attempt().is_some_and(|a| {
                    (&a.revision, a.number) == (&key.revision, key.attempt) && !is_last(a, key)
                })
            };
            let goes = phase.is_under_way() || (phase.has_ended() && replaced());
            if goes && !wanted.contains(key) {
                effects.push(JobEffect::Delete(key.clone()));
            }
        }
        for (key, run, job) in &running {
            let there = !matches!(self.seen.jobs.get(key), None | Some(JobPhase::Refused(_)));
            if !there && !run.seen {
                effects.push(JobEffect::Start {
                    key: key.clone(),
                    at_most: at_most(job),
                });
            }
        }
        effects.extend(
            migration
                .as_ref()
                .and_then(|(key, run)| self.start_migration(key, run)),
        );
        effects
    }

    /// When something is to be decided about Jobs.
    pub(super) fn job_times(&self, attempt: &Attempt) -> Vec<Timestamp> {
        let mut times = Vec::new();
        let may_run = self.may_run(attempt);
        for (plan, job) in self.job_conditions() {
            match run(attempt, plan) {
                Some((run, key)) => {
                    times.push(after(run.since, job.timeout));
                    if let Some(JobPhase::Running { since }) = self.seen.jobs.get(&key) {
                        times.push(after((*since).max(run.since), job.timeout));
                    }
                    times.push(after(run.since, at_most(job)));
                }
                None if may_run => times.extend(due_at(plan, &entry(attempt, plan), attempt, job)),
                None => {}
            }
        }
        times
    }
}

/// How long a Job may exist without an end.
fn at_most(job: &JobPlan) -> SignedDuration {
    job.timeout * 2 + BACKSTOP
}

/// When the next run is due; `None` while one is under way, or none is.
fn due_at(
    plan: &ConditionPlan,
    entry: &ConditionState,
    attempt: &Attempt,
    job: &JobPlan,
) -> Option<Timestamp> {
    let state = entry.job.as_ref().filter(|state| state.running.is_none())?;
    if state.retry_at.is_some() {
        return state.retry_at;
    }
    let warned = plan.mode == GuardMode::Warn && state.failed_at_weight == Some(attempt.weight);
    if entry.passed_at_weight != Some(attempt.weight) && !warned {
        return Some(attempt.started_at);
    }
    Some(after(entry.evaluated_at?, job.interval?))
}

/// The run of a condition that is under way.
fn run(attempt: &Attempt, plan: &ConditionPlan) -> Option<(JobRun, JobKey)> {
    let entry = found(attempt, plan)?;
    let run = entry.job.as_ref()?.running.clone()?;
    Some((run, run_key(attempt, entry)))
}

/// The runs that are under way, by what is in the state.
pub fn runs_under_way(state: &State) -> Vec<JobKey> {
    let attempt = state.attempt.iter();
    let migration = migration_under_way(state).map(|(key, _)| key);
    attempt
        .flat_map(|attempt| {
            let runs = |c: &&ConditionState| c.job.as_ref().is_some_and(|job| job.running.is_some());
            let conditions = attempt.conditions.iter().filter(runs);
            conditions.map(|entry| run_key(attempt, entry))
        })
        .chain(migration)
        .collect()
}

fn run_key(attempt: &Attempt, entry: &ConditionState) -> JobKey {
    let state = entry.job.as_ref();
    JobKey {
        revision: attempt.revision.clone(),
        attempt: attempt.number,
        condition: entry.name.clone(),
        digest: state.map(|s| s.digest.clone()).unwrap_or_default(),
        run: state.map_or(0, |s| s.runs),
    }
}

/// No later run of the same condition has begun.
fn is_last(attempt: &Attempt, key: &JobKey) -> bool {
    // Each run of a migration tells something else.
    if MigrationPhase::of(&key.condition).is_some() {
        return true;
    }
    let is = |JobState { digest, runs, .. }: &JobState| (digest, *runs) == (&key.digest, key.run);
    let mut conditions = attempt.conditions.iter();
    conditions.any(|c| c.name == key.condition && c.job.as_ref().is_some_and(is))
}

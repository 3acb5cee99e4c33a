//! Runs of migrations: what each says, whether another follows, and that none is begun twice.

use jiff::{SignedDuration, Timestamp};

use super::conditions::short;
use super::jobs::BACKSTOP;
use super::migrations::cut;
use super::{Turn, after};
use crate::decision::JobEffect;
use crate::migration::{
    Changed, MAX_HEADS, MAX_MIGRATIONS, MigrationFailure, MigrationPhase, MigrationPlan, MigrationReport,
    MigrationRun,
};
use crate::observed::{JobKey, JobPhase};
use crate::plan::Revision;
use crate::state::{Stage, State};

/// The first wait after a run that may be tried again; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(5);
/// The longest such wait.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(60);

/// What there is to say of a run.
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// It succeeded.
    Done(Box<MigrationReport>),
    /// It failed for good.
    Failed(String),
    /// It is worth another.
    Again(String),
}

impl Turn<'_> {
    /// What a run says.
    pub(super) fn hear_migration(
        &self,
        run: &mut MigrationRun,
        revision: &Revision,
        attempt: u32,
        plan: &MigrationPlan,
    ) -> Heard {
        let Some(since) = run.since else {
            return Heard::Nothing;
        };
        let key = run.key(revision, attempt);
        let timeout = plan.timeout;
        let phase = self.seen.jobs.get(&key);
        let was_seen = run.seen;
        run.seen |= !matches!(phase, None | Some(JobPhase::Refused(_)));
        let mut waits = |why: Option<&String>| {
            if self.now < after(since, timeout) {
                if let Some(why) = why {
                    run.trouble = Some(short(why));
                }
                return Heard::Nothing;
            }
            let why = why.map_or("the events of the Job say why", String::as_str);
            Heard::Again(format!("its Job did not start within {timeout:#}: {why}"))
        };
        match phase {
            None if was_seen => Heard::Again("its Job was deleted before its end was seen".to_owned()),
            None => waits(self.other_migration(&key).as_ref()),
            Some(JobPhase::Refused(why)) => waits(Some(why)),
            Some(JobPhase::Waiting(why)) => waits(why.as_ref()),
            Some(JobPhase::Running { since: started })
                if self.now >= after((*started).max(since), timeout) =>
            {
                let left = left_by(run.phase, plan);
                Heard::Failed(format!(
                    "it ran for {timeout:#} without an end, and was ended{left}"
                ))
            }
            Some(JobPhase::Ending) if self.now >= after(since, at_most(plan)) => {
                Heard::Again("its container ended, and nothing says how".to_owned())
            }
            Some(JobPhase::Running { .. } | JobPhase::Ending) => {
                run.trouble = None;
                Heard::Nothing
            }
            Some(JobPhase::Succeeded) => match self.seen.reports.get(&key) {
                Some(
                    report @ MigrationReport {
                        failure: Some(failure),
                        ..
                    },
                ) => Heard::Failed(failure_text(run.phase, report, failure)),
                Some(report) => Heard::Done(Box::new(report.clone())),
                None if self.now >= after(since, at_most(plan)) => {
                    Heard::Again("its pod was deleted before its report was read".to_owned())
                }
                None => Heard::Nothing,
            },
            Some(JobPhase::Failed(how)) => {
                let report = self.seen.reports.get(&key);
                match report.and_then(|report| Some((report, report.failure.as_ref()?))) {
                    Some((report, failure)) => {
                        let text = failure_text(run.phase, report, failure);
                        // Of what was begun a part may be there: begun once more it would fail for another reason.
                        if failure.transient && !failure.partly {
                            Heard::Again(text)
                        } else {
                            Heard::Failed(text)
                        }
                    }
                    None => Heard::Failed(how.clone()),
                }
            }
            Some(JobPhase::Broken(why)) => Heard::Again(format!("its Job ended early: {why}")),
        }
    }

    /// Adds what a run has applied or taken back, by its own word: one that fails may have done a part, and the one that
    /// follows tells of the rest alone.
    pub(super) fn add_applied(&self, applied: &mut Vec<String>, key: &JobKey) {
        let report = self.seen.reports.get(key);
        for id in report.iter().flat_map(|report| &report.applied) {
            if !applied.contains(id) && applied.len() < MAX_MIGRATIONS {
                applied.push(id.clone());
            }
        }
    }

    /// Another run is put down for later; what to tell of it, or why there is none.
    pub(super) fn try_again(
        &self,
        run: &mut MigrationRun,
        deadline: Timestamp,
        why: &str,
    ) -> Result<String, String> {
        let doublings = run.number.saturating_sub(1).min(8);
        let wait = (FIRST_WAIT * 2i32.pow(doublings)).min(LONGEST_WAIT);
        let at = after(self.now, wait);
        run.since = None;
        run.trouble = Some(cut(why));
        if at >= deadline {
            return Err(why.to_owned());
        }
        run.retry_at = Some(at);
        Ok(format!("{} is tried again in {wait:#}: {why}", run.phase))
    }

    /// Begins the run that was put down for now.
    pub(super) fn begin_again(&self, run: &mut MigrationRun) -> bool {
        if run.since.is_some() || run.retry_at.is_none_or(|at| self.now < at) {
            return false;
        }
        run.number = run.number.saturating_add(1);
        run.since = Some(self.now);
        run.seen = false;
        run.retry_at = None;
        true
    }

    /// The run that is under way.
    pub(super) fn migration_run(&self) -> Option<(JobKey, MigrationRun)> {
        self.plan.migrations.as_ref()?;
        migration_under_way(&self.state)
    }

    /// Its Job, unless there is one or has been.
    pub(super) fn start_migration(&self, key: &JobKey, run: &MigrationRun) -> Option<JobEffect> {
        let plan = self.plan.migrations.as_ref()?;
        let there = !matches!(self.seen.jobs.get(key), None | Some(JobPhase::Refused(_)));
        (!there && !run.seen && self.other_migration(key).is_none()).then(|| JobEffect::StartMigration {
            key: key.clone(),
            phase: run.phase,
            at_most: at_most(plan),
            stop_before: run.stop_before.clone(),
            target: run.target.clone(),
        })
    }

    /// What may still change the database beside this run: another one under way, or one whose Job is gone and whose pod
    /// is not. A tool of its own has a lock at best, and a command of one's own has none.
    fn other_migration(&self, key: &JobKey) -> Option<String> {
        let mut others = self.seen.jobs.iter().filter(|(other, phase)| {
            *other != key && MigrationPhase::of(&other.condition).is_some() && phase.is_under_way()
        });
        let other = others
            .next()
            .and_then(|(other, _)| MigrationPhase::of(&other.condition));
        let leaving = self.seen.leaving_migrations.first().cloned();
        let what = leaving.or_else(|| other.map(|phase| phase.to_string()))?;
        Some(format!(
            "{what} of a run before has not ended yet, and no two change the database at once: should it hang, look at it, and at its node"
        ))
    }

    /// When something is to be decided about migrations.
    pub(super) fn migration_times(&self) -> Vec<Timestamp> {
        let Some(plan) = &self.plan.migrations else {
            return Vec::new();
        };
        let attempt = self.attempt().filter(|a| a.stage == Stage::Migrating);
        let of_attempt = attempt.and_then(|a| a.migration.as_ref()).map(|m| &m.run);
        let work = self.state.database.as_ref().and_then(|d| d.work.as_ref());
        let of_work = work.and_then(|w| w.run.as_ref());
        let mut times: Vec<Timestamp> = [of_attempt, of_work]
            .into_iter()
            .flatten()
            .filter_map(|run| run.retry_at)
            .collect();
        if let Some((key, run)) = self.migration_run()
            && let Some(since) = run.since
        {
            times.push(after(since, plan.timeout));
            times.push(after(since, at_most(plan)));
            if let Some(JobPhase::Running { since: started }) = self.seen.jobs.get(&key) {
                times.push(after((*started).max(since), plan.timeout));
            }
        }
        times
    }
}

/// The run that a state has under way.
pub(super) fn migration_under_way(state: &State) -> Option<(JobKey, MigrationRun)> {
    let attempt = state.attempt.as_ref().filter(|a| a.stage == Stage::Migrating);
    let of_attempt = attempt.and_then(|a| Some((&a.revision, a.number, &a.migration.as_ref()?.run)));
    let work = state.database.as_ref().and_then(|d| d.work.as_ref());
    let of_work = work.and_then(|w| Some((&w.revision, w.attempt, w.run.as_ref()?)));
    let (revision, attempt, run) = of_attempt.or(of_work)?;
    run.since?;
    Some((run.key(revision, attempt), run.clone()))
}

/// Where a run is, for people.
pub(super) fn run_text(run: &MigrationRun) -> String {
    let phase = run.phase;
    let trouble = run
        .trouble
        .as_ref()
        .map_or_else(String::new, |why| format!(": {why}"));
    match (run.since, run.retry_at) {
        (None, Some(at)) => format!("{phase} is tried again at {at:.0}{trouble}"),
        _ if run.number > 1 => format!("{phase} runs, for the {}. time{trouble}", run.number),
        _ => format!("{phase} runs{trouble}"),
    }
}

/// Why a run failed, behind what it had done by then.
fn failure_text(phase: MigrationPhase, report: &MigrationReport, failure: &MigrationFailure) -> String {
    let mut told = Vec::new();
    if !report.applied.is_empty() {
        let what = if phase == MigrationPhase::Downgrade {
            "took back"
        } else {
            "applied"
        };
        told.push(format!("{what} {}", few(&report.applied)));
    }
    if let Some(at) = &failure.at {
        let partly = if failure.partly {
            ", a part of which may stay"
        } else {
            ""
        };
        told.push(format!("failed at {at}{partly}"));
    }
    told.extend(failure.changed.map(|changed| {
        match changed {
            Changed::No => "the database has not changed",
            Changed::Yes => "the database has changed",
            Changed::Unknown => {
                "whether the database has changed is not known, so look at it before you try again"
            }
        }
        .to_owned()
    }));
    if told.is_empty() {
        return failure.message.clone();
    }
    format!("{}: {}", told.join("; "), failure.message)
}

/// The first names of a list.
pub(super) fn few(names: &[String]) -> String {
    let few: Vec<&str> = names.iter().take(MAX_HEADS).map(String::as_str).collect();
    let more = if names.len() > few.len() { ", …" } else { "" };
    format!("{}{more}", few.join(", "))
}

/// What a run leaves that had to be ended.
fn left_by(phase: MigrationPhase, plan: &MigrationPlan) -> &'static str {
    match (phase, plan.tells) {
        (MigrationPhase::Check, _) => "",
        (_, true) => {
            "; what it had not committed is undone, and what it had stays: the tool's own table in the database says which"
        }
        (_, false) => {
            "; whether the database has changed is not known, for a command of your own can't be asked: look at the database before you try again"
        }
    }
}

/// How long a Job may exist without an end.
pub(super) fn at_most(plan: &MigrationPlan) -> SignedDuration {
    plan.timeout * 2 + BACKSTOP
}

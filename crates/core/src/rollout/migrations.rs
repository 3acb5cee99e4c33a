//! Migrations before the first pod of a revision: they are checked, and applied as far as older revisions bear it.
//!
//! Each run is a Job of its own name, in the state before it is created, so that none is run twice; what a run finds
//! applied already, by one that a crash cut off, the tool's own table tells it under a lock. A run that could not
//! say anything (no node, an eviction, a database that is away) is followed by another until a deadline; one that
//! failed, or never ends, ends the attempt before it has a pod. Nobody's traffic has moved then.

use jiff::{SignedDuration, Timestamp};

use super::attempt::End;
use super::conditions::short;
use super::jobs::BACKSTOP;
use super::{Turn, after};
use crate::decision::{JobEffect, Phase};
use crate::migration::{
    MAX_HEADS, MAX_MIGRATIONS, MAX_TEXT, Migration, MigrationKind, MigrationPhase, MigrationPlan,
    MigrationReport, MigrationRun, MigrationStage, PendingMigration,
};
use crate::observed::{JobKey, JobPhase};
use crate::plan::Revision;
use crate::state::{Attempt, Outcome, Stage, State};

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

/// What is to be done about what is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is applied up to what is held back.
    Apply { held: Vec<String>, contracts: bool },
    /// The attempt ends.
    End(&'static str, String),
    /// It can't be said yet.
    Wait(String),
}

impl Turn<'_> {
    /// The migrations of an attempt that begins.
    pub(super) fn first_check(&self) -> Option<Migration> {
        let plan = self.plan.migrations.as_ref()?;
        Some(Migration {
            stage: MigrationStage::Checking,
            deadline: self.migration_deadline(plan),
            run: MigrationRun::begin(MigrationPhase::Check, &plan.digest, self.now),
            before: Vec::new(),
            heads: Vec::new(),
            pending: Vec::new(),
            held: Vec::new(),
            applied: Vec::new(),
            contracted: false,
        })
    }

    /// When no further run begins: runs that can't be had are waited for as long as pods are.
    pub(super) fn migration_deadline(&self, plan: &MigrationPlan) -> Timestamp {
        after(self.now, plan.timeout + self.plan.progress_deadline)
    }

    /// The database before the first pod; the attempt goes on, or ends.
    pub(super) fn migrating(&mut self, attempt: &Attempt) -> bool {
        let (Some(plan), Some(mut migration)) = (self.plan.migrations.clone(), attempt.migration.clone())
        else {
            // The gate was taken out of the spec.
            self.leave_migrations(None);
            return true;
        };
        if migration.run.digest != plan.digest {
            let anew = self.first_check();
            self.update(|a| a.migration = anew);
            return true;
        }
        let heard = self.hear_migration(&mut migration.run, &attempt.revision, attempt.number, &plan);
        let moved = match heard {
            Heard::Nothing => {
                let paused = attempt.paused.is_some();
                let begins = !paused && self.begin_again(&mut migration.run);
                self.update(|a| a.migration = Some(migration));
                return begins;
            }
            Heard::Again(why) => self.try_again(&mut migration.run, migration.deadline, &why),
            Heard::Failed(why) => Err(why),
            Heard::Done(report) if migration.stage == MigrationStage::Checking => {
                self.checked(&mut migration, &plan, *report);
                return true;
            }
            Heard::Done(report) => {
                migration.applied = bounded(report.applied);
                let message = applied_text(&migration, &report.notes);
                self.note("MigrationsApplied", message);
                self.leave_migrations(Some(migration));
                return true;
            }
        };
        let phase = migration.run.phase;
        self.update(|a| a.migration = Some(migration));
        match moved {
            Ok(note) => self.note("MigrationRetried", note),
            Err(why) => self.end_at_migrations("MigrationFailed", format!("{phase} failed: {why}")),
        }
        true
    }

    fn end_at_migrations(&mut self, reason: &str, message: String) {
        self.withdraw(End::new(Outcome::RolledBack, reason, message));
    }

    /// What is pending is known.
    fn checked(&mut self, migration: &mut Migration, plan: &MigrationPlan, report: MigrationReport) {
        migration.before = bounded(report.current.clone());
        migration.heads = bounded(report.heads.clone());
        let verdict = self.judge_migrations(plan, &report);
        if report.unknown.is_empty() {
            self.remember_tree(&report.current);
        }
        let many = report.pending.len();
        migration.pending = report.pending.into_iter().take(MAX_MIGRATIONS).collect();
        match verdict {
            Verdict::Wait(why) => {
                let moved = self.try_again(&mut migration.run, migration.deadline, &why);
                let kept = migration.clone();
                self.update(|a| a.migration = Some(kept));
                match moved {
                    Ok(note) => self.note("MigrationRetried", note),
                    Err(why) => self.end_at_migrations("MigrationBlocked", why),
                }
            }
            Verdict::End(reason, why) => {
                let kept = migration.clone();
                self.update(|a| a.migration = Some(kept));
                self.end_at_migrations(reason, why);
            }
            Verdict::Apply { held, contracts } => {
                let text = checked_text(&migration.pending, &held, many, &report.notes);
                self.note("MigrationsChecked", text);
                migration.contracted = contracts;
                let nothing = plan.tells && held.len() == many;
                let stop_before = held.first().cloned();
                migration.held = held;
                if nothing {
                    return self.leave_migrations(Some(migration.clone()));
                }
                if contracts {
                    self.bar_older();
                }
                migration.stage = MigrationStage::Applying;
                migration.deadline = self.migration_deadline(plan);
                migration.run = MigrationRun::begin(MigrationPhase::Apply, &plan.digest, self.now);
                migration.run.stop_before = stop_before;
                let kept = migration.clone();
                self.update(|a| a.migration = Some(kept));
            }
        }
    }

    /// What may be applied while older revisions are live.
    fn judge_migrations(&self, plan: &MigrationPlan, report: &MigrationReport) -> Verdict {
        let known = self.state.database.as_ref();
        if !report.unknown.is_empty() {
            let tree = tree(&report.heads);
            if known.is_some_and(|d| d.trees.contains(&tree)) {
                return Verdict::Apply {
                    held: Vec::new(),
                    contracts: false,
                }
                .without(report);
            }
            return Verdict::End(
                "MigrationFailed",
                format!(
                    "the database is at {}, which this revision does not have: it was built before that migration, or beside it; bring the migration into it, or take the database back",
                    report.unknown.join(", ")
                ),
            );
        }
        let Some(stable) = &self.state.stable else {
            // Nobody is served by an older one.
            return Verdict::Apply {
                held: Vec::new(),
                contracts: false,
            };
        };
        let pending = &report.pending;
        if pending.len() > MAX_MIGRATIONS {
            let many = pending.len();
            return Verdict::End(
                "MigrationBlocked",
                format!(
                    "{many} migrations are pending, and at most {MAX_MIGRATIONS} can be judged while revision {stable} is live: release them in parts, or apply them by hand"
                ),
            );
        }
        let shipped = |m: &PendingMigration| known.is_some_and(|d| d.held.contains(&m.id));
        let breaks = |m: &&PendingMigration| m.kind != MigrationKind::Expand;
        let contracts = pending.iter().filter(breaks).any(shipped);
        let first = pending.iter().position(|m| breaks(&m) && !shipped(m));
        let held = &pending[first.unwrap_or(pending.len())..];
        if let Some(m) = held.first()
            && let Some(why) = unholdable(plan, held)
        {
            return Verdict::End(
                "MigrationBlocked",
                format!("{} {}, and revision {stable} is live; {why}", m.id, told(m)),
            );
        }
        let applies_contract = pending[..first.unwrap_or(pending.len())]
            .iter()
            .any(|m| breaks(&m));
        if contracts
            && applies_contract
            && let Some(third) = self.older_with_pods(stable)
        {
            return Verdict::Wait(format!(
                "revision {third} still has pods, and what contracts would break them"
            ));
        }
        Verdict::Apply {
            held: held.iter().map(|m| m.id.clone()).collect(),
            contracts: applies_contract,
        }
    }

    /// A revision with pods beside stable and the one under test.
    pub(super) fn older_with_pods(&self, stable: &Revision) -> Option<&Revision> {
        let tested = self.attempt().map(|a| &a.revision);
        let other = |r: &Revision| r != stable && Some(r) != tested;
        let mut revisions = self.seen.revisions.iter();
        revisions
            .find(|(r, view)| other(r) && view.pods > 0)
            .map(|(r, _)| r)
    }

    /// On to the first pods.
    fn leave_migrations(&mut self, migration: Option<Migration>) {
        let now = self.now;
        let stage = if self.state.stable.is_none() {
            Stage::Deploying
        } else {
            Stage::Stepping
        };
        self.enter(stage, Some(self.plan.progress_deadline));
        self.update(|a| {
            a.migration = migration.map(|m| Migration {
                stage: MigrationStage::Applied,
                ..m
            });
            a.step_since = now;
            a.measured_to = now;
        });
        self.no_deadline_while_it_lasts();
    }

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
            None => waits(None),
            Some(JobPhase::Refused(why)) => waits(Some(why)),
            Some(JobPhase::Waiting(why)) => waits(why.as_ref()),
            Some(JobPhase::Running { since: started })
                if self.now >= after((*started).max(since), timeout) =>
            {
                Heard::Failed(format!(
                    "it ran for {timeout:#} without an end, and was ended; what it had not committed is undone"
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
                Some(MigrationReport {
                    failure: Some(failure),
                    ..
                }) => Heard::Failed(failure.message.clone()),
                Some(report) => Heard::Done(Box::new(report.clone())),
                None if self.now >= after(since, at_most(plan)) => {
                    Heard::Again("its pod was deleted before its report was read".to_owned())
                }
                None => Heard::Nothing,
            },
            Some(JobPhase::Failed(how)) => {
                match self.seen.reports.get(&key).and_then(|r| r.failure.clone()) {
                    Some(failure) if failure.transient => Heard::Again(failure.message),
                    Some(failure) => Heard::Failed(failure.message),
                    None => Heard::Failed(how.clone()),
                }
            }
            Some(JobPhase::Broken(why)) => Heard::Again(format!("its Job ended early: {why}")),
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
        (!there && !run.seen).then(|| JobEffect::StartMigration {
            key: key.clone(),
            phase: run.phase,
            at_most: at_most(plan),
            stop_before: run.stop_before.clone(),
            target: run.target.clone(),
        })
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

    /// Where an attempt is whose migrations are under way.
    pub(super) fn place_of_migrations(&self, attempt: &Attempt) -> (Phase, String) {
        let first = self.state.stable.is_none();
        let phase = if first {
            Phase::Initializing
        } else {
            Phase::Progressing
        };
        let text = attempt
            .migration
            .as_ref()
            .map_or_else(String::new, |m| run_text(&m.run));
        (
            phase,
            format!("revision {}, before its first pod: {text}", attempt.revision),
        )
    }

    /// The first revision has no pods, for its migrations have not been applied.
    pub(super) fn waits_for_migrations(&self, revision: &Revision) -> bool {
        let last = self.state.last.as_ref().filter(|last| last.revision == *revision);
        self.plan.migrations.is_some() && last.is_none_or(|last| last.ended_at_migrations())
    }
}

impl Verdict {
    /// Nothing of what is pending is to be applied.
    fn without(self, report: &MigrationReport) -> Self {
        match self {
            Self::Apply { .. } => Self::Apply {
                held: report.pending.iter().map(|m| m.id.clone()).collect(),
                contracts: false,
            },
            other => other,
        }
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

/// How long a Job may exist without an end.
pub(super) fn at_most(plan: &MigrationPlan) -> SignedDuration {
    plan.timeout * 2 + BACKSTOP
}

/// A tree, by its ends.
pub(super) fn tree(heads: &[String]) -> String {
    let mut heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    heads.sort_unstable();
    cut(&heads.join(","))
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn bounded(ids: Vec<String>) -> Vec<String> {
    ids.into_iter()
        .take(MAX_MIGRATIONS)
        .map(|id| id.chars().take(128).collect())
        .collect()
}

/// Why what follows can't be left for later, if it can't.
fn unholdable(plan: &MigrationPlan, held: &[PendingMigration]) -> Option<String> {
    if !plan.tells {
        return Some("a command of your own can't stop before it: release what expands first".to_owned());
    }
    let needed = held.iter().find(|m| m.kind != MigrationKind::Contract)?;
    let first = &held[0].id;
    Some(if needed.id == *first {
        match needed.kind {
            MigrationKind::Unknown => format!(
                "say in {first} what it does to older revisions, by a comment `molt: expand` or `molt: contract`"
            ),
            _ => {
                "what the new revision needs of it can't be had without: make two migrations of it".to_owned()
            }
        }
    } else {
        format!(
            "{} comes after it and {}: put it before, or release it first",
            needed.id,
            told(needed)
        )
    })
}

/// What a migration does, for people.
fn told(migration: &PendingMigration) -> String {
    let what = match migration.kind {
        MigrationKind::Expand => "expands",
        MigrationKind::Contract => "contracts",
        MigrationKind::Mixed => "expands and contracts in one",
        MigrationKind::Unknown => "can't be judged",
    };
    if migration.why.is_empty() {
        what.to_owned()
    } else {
        format!("{what} ({})", migration.why)
    }
}

fn checked_text(pending: &[PendingMigration], held: &[String], many: usize, notes: &[String]) -> String {
    let mut text = match many {
        0 => "no migration is pending".to_owned(),
        1 => format!("1 migration is pending: {} {}", pending[0].id, told(&pending[0])),
        _ => {
            let few: Vec<String> = pending
                .iter()
                .take(3)
                .map(|m| format!("{} {}", m.id, told(m)))
                .collect();
            let more = if many > few.len() {
                format!(" and {} more", many - few.len())
            } else {
                String::new()
            };
            format!("{many} migrations are pending: {}{more}", few.join("; "))
        }
    };
    if let Some(first) = held.first() {
        let held = held.len();
        text = format!("{text}; held back from {first} on ({held}): an older revision is live");
    }
    with_notes(text, notes)
}

fn applied_text(migration: &Migration, notes: &[String]) -> String {
    let applied = &migration.applied;
    let text = match applied.len() {
        0 => "the database is where this revision needs it".to_owned(),
        n => {
            let few: Vec<&str> = applied.iter().take(MAX_HEADS).map(String::as_str).collect();
            let more = if n > few.len() { ", …" } else { "" };
            format!("applied {n}: {}{more}", few.join(", "))
        }
    };
    with_notes(text, notes)
}

fn with_notes(text: String, notes: &[String]) -> String {
    notes
        .iter()
        .take(4)
        .fold(text, |text, note| format!("{text}; {note}"))
}

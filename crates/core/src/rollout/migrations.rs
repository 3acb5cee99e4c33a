//! Migrations before the first pod of a revision: they are checked, and applied as far as older revisions bear it.
//!
//! Each run is a Job of its own name, in the state before it is created, so that none is run twice; what a run finds
//! applied already, by one that a crash cut off, the tool's own table tells it under a lock. A run that could not
//! say anything (no node, an eviction, a database that is away) is followed by another until a deadline; one that
//! failed, or never ends, ends the attempt before it has a pod. Nobody's traffic has moved then.

use jiff::Timestamp;

use super::attempt::End;
use super::database::PAST_CONTRACT;
use super::migration_runs::{Heard, few, run_text};
use super::{Turn, after};
use crate::decision::Phase;
use crate::migration::{
    MAX_MIGRATIONS, MAX_TEXT, Migration, MigrationKind, MigrationPhase, MigrationPlan, MigrationReport,
    MigrationRun, MigrationStage, PendingMigration,
};
use crate::plan::Revision;
use crate::state::{Attempt, Ended, Outcome, Stage};

/// What is to be done about what is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is applied up to what is held back; what of that contracts is named.
    Apply {
        held: Vec<String>,
        contracted: Vec<String>,
    },
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
            on_rollback: Some(plan.on_rollback),
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
        let key = migration.run.key(&attempt.revision, attempt.number);
        let heard = self.hear_migration(&mut migration.run, &attempt.revision, attempt.number, &plan);
        if !matches!(heard, Heard::Nothing) {
            self.add_applied(&mut migration.applied, &key);
        }
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
            Verdict::Apply { held, contracted } => {
                let text = if plan.tells || many > 0 {
                    checked_text(&migration.pending, &held, many, &report.notes)
                } else {
                    let text = "the check succeeded; a command of your own does not tell what is pending";
                    with_notes(text.to_owned(), &report.notes)
                };
                self.note("MigrationsChecked", text);
                migration.contracted = !contracted.is_empty();
                let nothing = plan.tells && held.len() == many;
                let stop_before = held.first().cloned();
                migration.held = held;
                if nothing {
                    return self.leave_migrations(Some(migration.clone()));
                }
                if migration.contracted {
                    self.bar_older(&contracted);
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
        let contracted = known.map_or(&[][..], |d| &d.contracted);
        if let Some(past) = report.unknown.iter().find(|id| contracted.contains(id)) {
            return Verdict::End(
                PAST_CONTRACT,
                format!(
                    "{past} has taken from the database what this revision needs, which was built before that migration: build it from a tree that has it"
                ),
            );
        }
        // A tool without ends does not mind what it does not have.
        if !report.unknown.is_empty() && !report.heads.is_empty() {
            let tree = tree(&report.heads);
            if known.is_some_and(|d| d.trees.contains(&tree)) {
                return Verdict::Apply {
                    held: report.pending.iter().map(|m| m.id.clone()).collect(),
                    contracted: Vec::new(),
                };
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
                contracted: Vec::new(),
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
        let applied = pending[..first.unwrap_or(pending.len())].iter();
        let contracted: Vec<String> = applied.filter(breaks).map(|m| m.id.clone()).collect();
        if contracts
            && !contracted.is_empty()
            && let Some(third) = self.older_with_pods(stable)
        {
            return Verdict::Wait(format!(
                "revision {third} still has pods, and what contracts would break them"
            ));
        }
        Verdict::Apply {
            held: held.iter().map(|m| m.id.clone()).collect(),
            contracted,
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
        self.plan.migrations.is_some() && last.is_none_or(Ended::ended_at_migrations)
    }
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

/// What was held back, and by which statement it contracts; the first for all.
pub(super) fn held_text(migration: &Migration) -> Option<String> {
    let first = migration.held.first()?;
    let first = migration.pending.iter().find(|m| m.id == *first)?;
    let text = format!("{} {}", first.id, told(first));
    // What is counted must not be cut off.
    let more = match migration.held.len() - 1 {
        0 => String::new(),
        1 => ", and 1 more follows".to_owned(),
        more => format!(", and {more} more follow"),
    };
    let room = MAX_TEXT - more.len();
    let text: String = text.chars().take(room).collect();
    Some(text + &more)
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
        n => format!("applied {n}: {}", few(applied)),
    };
    with_notes(text, notes)
}

fn with_notes(text: String, notes: &[String]) -> String {
    notes
        .iter()
        .take(4)
        .fold(text, |text, note| format!("{text}; {note}"))
}

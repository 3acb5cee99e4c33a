//! The database between two attempts: what was held back is done once nobody needs what it takes away, what a rollback
//! leaves is taken back where that is asked for, and no revision from before a contract serves again.

use super::Turn;
use super::migration_runs::{Heard, few, run_text};
use super::migrations::{cut, held_text, tree};
use crate::decision::ConditionView;
use crate::migration::{
    Contract, Database, DatabaseWork, MAX_BARRED, MAX_HEADS, MAX_MIGRATIONS, MigrationPhase, MigrationRun,
    MigrationStage, OnRollback, WorkOutcome,
};
use crate::observed::{Action, ActionView};
use crate::plan::Revision;
use crate::state::{Attempt, Outcome, Stage};

/// Why a revision is refused that the database is no longer made for.
pub(super) const PAST_CONTRACT: &str = "PastContract";
/// The gate that people approve.
const GATE: &str = "contract";

/// The refusal of a revision, in words.
pub(super) fn past_contract(revision: &Revision) -> String {
    format!(
        "revision {revision} is from before a migration that has taken from the database what it needs: release a new revision that does without"
    )
}

impl Turn<'_> {
    /// A migration has taken something from this revision.
    pub(super) fn is_barred(&self, revision: &Revision) -> bool {
        self.plan.migrations.is_some()
            && self
                .state
                .database
                .as_ref()
                .is_some_and(|d| d.barred.contains(revision))
    }

    /// The revision that is wanted is refused for it.
    pub(super) fn past_contract(&self) -> Option<String> {
        let wanted = self.wanted()?;
        let other = self.state.stable.as_ref() != Some(&wanted);
        (other && self.is_barred(&wanted)).then(|| past_contract(&wanted))
    }

    fn database(&mut self) -> &mut Database {
        self.state.database.get_or_insert_default()
    }

    /// Whoever has a tree with these ends finds all of it applied.
    pub(super) fn remember_tree(&mut self, heads: &[String]) {
        if heads.is_empty() {
            return;
        }
        let tree = tree(heads);
        let trees = &mut self.database().trees;
        trees.retain(|known| *known != tree);
        trees.insert(0, tree);
        trees.truncate(MAX_HEADS);
    }

    /// From now on no revision may serve that is older than stable, nor one that is built anew from such a tree.
    pub(super) fn bar_older(&mut self, contracts: &[String]) {
        let tested = self.attempt().map(|a| a.revision.clone());
        let stays = [self.state.stable.clone(), tested];
        let known = self
            .state
            .served
            .iter()
            .chain(self.seen.revisions.keys())
            .cloned();
        let older: Vec<Revision> = known
            .filter(|r| !stays.iter().flatten().any(|s| s == r))
            .collect();
        let barred = &mut self.database().barred;
        for revision in older {
            if !barred.contains(&revision) {
                barred.insert(0, revision);
            }
        }
        barred.truncate(MAX_BARRED);
        let database = self.database();
        let fits = database.shipped_with.clone();
        database.trees.retain(|tree| Some(tree) == fits.as_ref());
        for id in contracts {
            database.contracted.retain(|known| known != id);
            database.contracted.insert(0, id.clone());
        }
        database.contracted.truncate(MAX_MIGRATIONS);
    }

    /// What an attempt leaves of its migrations.
    pub(super) fn keep_of_migrations(&mut self, attempt: &Attempt, outcome: Outcome) {
        let Some(plan) = self.plan.migrations.clone() else {
            return;
        };
        let had_stable = self.state.stable.is_some();
        let Some(migration) = attempt.migration.clone() else {
            if outcome == Outcome::Promoted && self.state.database.is_some() {
                // What this revision has shipped, nobody knows any more.
                self.database().held.clear();
                self.database().shipped_with = None;
                self.database().work = None;
            }
            return;
        };
        let work = |phase, target: Vec<String>, needs_approval| DatabaseWork {
            revision: attempt.revision.clone(),
            attempt: attempt.number,
            phase,
            target,
            needs_approval,
            run: None,
            deadline: None,
            failed: None,
            what: None,
            applied: Vec::new(),
            approved: None,
        };
        if outcome == Outcome::Promoted {
            self.remember_tree(&migration.heads);
            let later = plan.contract != Contract::NextRelease && !migration.held.is_empty();
            let needs_approval = plan.contract == Contract::Approval;
            let what = held_text(&migration);
            let database = self.database();
            database.shipped_with = (!migration.heads.is_empty()).then(|| tree(&migration.heads));
            database.held = migration.held;
            database.work = later.then(|| DatabaseWork {
                what,
                ..work(MigrationPhase::Contract, Vec::new(), needs_approval)
            });
            return;
        }
        let began = migration.stage == MigrationStage::Applying || !migration.applied.is_empty();
        let on_rollback = migration.on_rollback.unwrap_or(plan.on_rollback);
        if !began || on_rollback == OnRollback::Keep || !had_stable {
            return;
        }
        if migration.contracted {
            return self.note(
                "DowngradeRefused",
                "something that contracts was applied, which nothing brings back: the database stays as it is",
            );
        }
        let work = work(MigrationPhase::Downgrade, migration.before, false);
        self.database().work = Some(work);
    }

    /// Keeps what the attempt's own spec says of a rollback, as long as it is the spec.
    pub(super) fn follow_rollback_policy(&mut self) {
        let Some(on_rollback) = self.plan.migrations.as_ref().map(|m| m.on_rollback) else {
            return;
        };
        let wanted = self.plan.revision.clone();
        self.update(|a| {
            if let Some(migration) = &mut a.migration
                && wanted.as_ref() == Some(&a.revision)
            {
                migration.on_rollback = Some(on_rollback);
            }
        });
    }

    /// The database is being changed, or is to be before anything else is tried.
    pub(super) fn database_is_busy(&self) -> bool {
        let work = self.state.database.as_ref().and_then(|d| d.work.as_ref());
        self.plan.migrations.is_some()
            && work.is_some_and(|w| {
                w.has_begun() || (w.phase == MigrationPhase::Downgrade && w.failed.is_none())
            })
    }

    /// Contracts or takes back what is left to be, once it may be.
    pub(super) fn follow_database(&mut self) {
        let Some(mut work) = self.state.database.as_ref().and_then(|d| d.work.clone()) else {
            return;
        };
        if self.plan.deleting || self.attempt().is_some() {
            return;
        }
        let Some(plan) = self.plan.migrations.clone() else {
            self.database().work = None;
            return;
        };
        let Some(mut run) = work.run.take() else {
            if work.failed.is_some() {
                return;
            }
            if !self.seen.revisions.contains_key(&work.revision) {
                let (what, revision) = (work.phase, work.revision.clone());
                let message = format!(
                    "there is no ReplicaSet of revision {revision} any more, so {what} is not done; the database stays as it is"
                );
                self.end_work(&work, WorkOutcome::Left, Some(&message));
                return self.note("DatabaseLeft", message);
            }
            if self.work_wait(&work).is_none() {
                if work.phase == MigrationPhase::Contract {
                    let held = self.database().held.clone();
                    self.bar_older(&held);
                }
                let mut run = MigrationRun::begin(work.phase, &plan.digest, self.now);
                run.target.clone_from(&work.target);
                work.deadline = Some(self.migration_deadline(&plan));
                work.run = Some(run);
                let reason = if work.phase == MigrationPhase::Contract {
                    "ContractStarted"
                } else {
                    "DowngradeStarted"
                };
                let message = format!(
                    "{} begins, from the image of revision {}",
                    work.phase, work.revision
                );
                self.database().work = Some(work);
                self.note(reason, message);
            }
            return;
        };
        let key = run.key(&work.revision, work.attempt);
        let heard = self.hear_migration(&mut run, &work.revision, work.attempt, &plan);
        if !matches!(heard, Heard::Nothing) {
            self.add_applied(&mut work.applied, &key);
        }
        let contracts = work.phase == MigrationPhase::Contract;
        let moved = match heard {
            Heard::Nothing => {
                self.begin_again(&mut run);
                work.run = Some(run);
                self.database().work = Some(work);
                return;
            }
            Heard::Done(_) => {
                let applied = few(&work.applied);
                self.end_work(&work, WorkOutcome::Passed, None);
                return if contracts {
                    self.database().held.clear();
                    self.note(
                        "Contracted",
                        format!("applied: {applied}; revisions from before can no longer serve"),
                    );
                } else {
                    self.note("Downgraded", format!("taken back: {applied}"));
                };
            }
            Heard::Again(why) => {
                let deadline = work.deadline.unwrap_or(self.now);
                self.try_again(&mut run, deadline, &why)
            }
            Heard::Failed(why) => Err(why),
        };
        let failed = if contracts {
            "ContractFailed"
        } else {
            "DowngradeFailed"
        };
        match moved {
            Ok(note) => {
                work.run = Some(run);
                self.database().work = Some(work);
                self.note("MigrationRetried", note);
            }
            Err(why) => {
                work.failed = Some(cut(&why));
                let message = format!("{} failed, and is not tried again: {why}", work.phase);
                self.end_work(&work, WorkOutcome::Failed, Some(&why));
                self.database().work = Some(work);
                self.note(failed, message);
            }
        }
    }

    /// Nothing is left to do of it; the record of its attempt is told.
    fn end_work(&mut self, work: &DatabaseWork, outcome: WorkOutcome, why: Option<&str>) {
        let words = [work.approved.as_deref(), why];
        let message: Vec<&str> = words.into_iter().flatten().collect();
        let message = (!message.is_empty()).then(|| cut(&message.join("; ")));
        let ended = work.end(outcome, message, self.now);
        let database = self.database();
        database.work = None;
        database.ended = Some(ended);
    }

    /// What keeps the work from beginning.
    fn work_wait(&self, work: &DatabaseWork) -> Option<String> {
        if work.needs_approval {
            return Some("it waits for a person: `kubectl molt approve NAME --gate contract`".to_owned());
        }
        let asked = self
            .plan
            .migrations
            .as_ref()
            .is_some_and(|plan| plan.contract == Contract::Approval);
        if work.phase == MigrationPhase::Contract
            && !asked
            && let Some(watch) = &self.state.watch
        {
            return Some(format!(
                "until {:.0} users may have to go back to revision {}, which needs the database as it is",
                watch.until, watch.back_to
            ));
        }
        let pods = |r: &Revision| self.seen.revisions.get(r).map_or(0, |v| v.pods);
        match work.phase {
            MigrationPhase::Contract => {
                if self.state.stable.as_ref() != Some(&work.revision) {
                    return Some("its revision is not stable".to_owned());
                }
                if let Some(pause) = self.standing_pause() {
                    return Some(pause);
                }
                let other = self.older_with_pods(&work.revision)?;
                Some(format!("revision {other} still has {} pods", pods(other)))
            }
            _ => (pods(&work.revision) > 0).then(|| {
                format!(
                    "revision {} still has {} pods",
                    work.revision,
                    pods(&work.revision)
                )
            }),
        }
    }

    /// A person's word on what was held back.
    pub(super) fn answer_gate(&mut self, action: &ActionView, by: &str) -> Result<String, String> {
        let gate = action.gate.as_deref().unwrap_or(GATE);
        if gate != GATE {
            return Err(format!(
                "there is no gate {gate}: {GATE} is the one that can wait; nothing was changed"
            ));
        }
        let work = self.state.database.as_mut().and_then(|d| d.work.as_mut());
        let Some(work) = work.filter(|w| w.needs_approval) else {
            return Err("nothing that contracts waits for a person; nothing was changed".to_owned());
        };
        let (revision, attempt) = (work.revision.clone(), work.attempt);
        if action.revision.as_ref().is_some_and(|r| *r != revision)
            || action.attempt.is_some_and(|n| n != attempt)
        {
            return Err(format!(
                "it was meant for another revision or attempt; what waits is of attempt {attempt} at revision {revision}; nothing was changed"
            ));
        }
        if action.action == Action::Approve {
            work.needs_approval = false;
            work.approved = Some(cut(&format!("approved {by}")));
            self.note(
                "ApprovedByPerson",
                format!("the contracting migration of revision {revision} may run, {by}"),
            );
            return Ok("it runs once no pod of an older revision is left".to_owned());
        }
        let work = work.clone();
        self.end_work(&work, WorkOutcome::Rejected, Some(&format!("rejected {by}")));
        self.note(
            "RejectedByPerson",
            format!("the contracting migration of revision {revision} is left for a later release, {by}"),
        );
        Ok("it is left for a later release".to_owned())
    }

    /// Where the database is, beside what the service is told by.
    pub(super) fn migrated(&self) -> Option<ConditionView> {
        self.plan.migrations.as_ref()?;
        let view = |status, reason: &str, message: String, fault| ConditionView {
            kind: "Migrated",
            status,
            reason: reason.to_owned(),
            message,
            fault,
        };
        if let Some(message) = self.past_contract() {
            return Some(view(false, PAST_CONTRACT, message, true));
        }
        if let Some(attempt) = self.attempt().filter(|a| a.stage == Stage::Migrating) {
            let run = attempt.migration.as_ref().map(|m| &m.run);
            let reason = match run.map(|r| r.phase) {
                Some(MigrationPhase::Apply) => "Applying",
                _ => "Checking",
            };
            return Some(view(false, reason, run.map_or_else(String::new, run_text), false));
        }
        let refused = self.state.refused.as_ref();
        if let Some(last) = self
            .state
            .last
            .as_ref()
            .filter(|l| l.ended_at_migrations() && refused == Some(&l.revision))
        {
            return Some(view(false, &last.reason, last.message.clone(), true));
        }
        let database = self.state.database.as_ref();
        if let Some(work) = database.and_then(|d| d.work.as_ref()) {
            let contracts = work.phase == MigrationPhase::Contract;
            let (reason, message, fault) = match (&work.failed, &work.run) {
                (Some(why), _) => (
                    if contracts {
                        "ContractFailed"
                    } else {
                        "DowngradeFailed"
                    },
                    format!("{} failed: {why}", work.phase),
                    true,
                ),
                (None, Some(run)) => (
                    if contracts { "Contracting" } else { "Downgrading" },
                    run_text(run),
                    false,
                ),
                (None, None) => (
                    match (contracts, work.needs_approval) {
                        (true, true) => "AwaitingApproval",
                        (true, false) => "ContractPending",
                        (false, _) => "DowngradePending",
                    },
                    format!(
                        "{}{} is left to do: {}",
                        work.what
                            .as_ref()
                            .map_or_else(String::new, |what| format!("{what}; ")),
                        work.phase,
                        self.work_wait(work).unwrap_or_default()
                    ),
                    false,
                ),
            };
            return Some(view(false, reason, message, fault));
        }
        let held = database.map_or(&[][..], |d| &d.held);
        Some(match held.first() {
            Some(first) => view(
                true,
                "HeldBack",
                format!("applied up to {first}, which contracts: it is applied in the next release"),
                false,
            ),
            None => view(
                true,
                "Applied",
                "nothing that is known of is left to apply".to_owned(),
                false,
            ),
        })
    }
}

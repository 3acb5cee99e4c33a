//! What runs by a schedule: a CronJob that is played here makes a run each minute from the revision that it was given last.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

use super::world::plan;
use crate::decision::JobEffect;
use crate::decision::{Decision, Effect, Phase};
use crate::migration::{Contract, MigrationPlan, MigrationReport, OnRollback};
use crate::observed::{
    Action, ActionView, JobKey, JobPhase, NextRun, Observed, RevisionView, RunEnd, RunView, RunsView,
};
use crate::plan::{Plan, Revision, RouteMode};
use crate::rollout::decide;
use crate::state::{Outcome, Stage, State};

/// Seconds between two runs.
const EVERY: i64 = 60;

/// What a run of a revision does.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// It succeeds after so many seconds.
    Succeed(i64),
    /// It fails after so many seconds.
    Fail(i64),
    /// Its pod never starts.
    Wait,
}

struct Cron {
    now: Timestamp,
    born: Timestamp,
    plan: Plan,
    state: State,
    sets: BTreeMap<Revision, u32>,
    next: Option<NextRun>,
    jobs: Vec<RunView>,
    does: BTreeMap<Revision, Does>,
    /// The name of a run that goes on and on.
    hangs: Option<String>,
    actions: Vec<ActionView>,
    /// Jobs that ended and are kept.
    kept: usize,
    made: usize,
    /// How often the CronJob was written.
    writes: usize,
    ended: Vec<String>,
    migrations: BTreeMap<JobKey, JobPhase>,
    /// Whether the CronJob can be written.
    refuses: bool,
    known: bool,
    last: Option<Decision>,
}

impl Cron {
    fn new() -> Self {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut plan = plan("v1");
        plan.route = RouteMode::Runs;
        plan.replicas = 1;
        plan.slos.clear();
        plan.steps.clear();
        plan.watch = SignedDuration::ZERO;
        Self {
            now,
            born: now,
            plan,
            state: State::default(),
            sets: BTreeMap::new(),
            next: None,
            jobs: Vec::new(),
            does: BTreeMap::new(),
            hangs: None,
            actions: Vec::new(),
            kept: 3,
            made: 0,
            writes: 0,
            ended: Vec::new(),
            migrations: BTreeMap::new(),
            refuses: false,
            known: true,
            last: None,
        }
    }

    /// One whose first revision is stable, and so many of its runs are known.
    fn stable(runs: usize) -> Self {
        let mut cron = Self::new();
        cron.plan.runs.count = 1;
        cron.minutes(i64::try_from(runs).unwrap() + 2);
        assert_eq!(cron.state.stable, Some("v1".into()), "{}", cron.message());
        let known = cron.state.runs.as_ref().unwrap().seconds.len();
        assert!(known >= runs, "{known}");
        cron.plan.runs.count = 3;
        cron
    }

    fn update(&mut self, revision: &str) {
        self.plan.revision = Some(revision.into());
    }

    fn ask(&mut self, action: Action) {
        let uid = format!("a{}", self.state.actions.len() + self.state.expired_actions.len());
        self.actions.push(ActionView {
            name: uid.clone(),
            uid,
            action,
            revision: None,
            attempt: None,
            to_revision: None,
            gate: None,
            step: None,
            reason: String::new(),
            requested_by: "ada".into(),
            created_at: Some(self.now),
        });
    }

    fn seen(&self) -> Observed {
        let view = |attempt: &u32| RevisionView {
            created_at: Some(self.born),
            has_service: true,
            attempt: *attempt,
            ..RevisionView::default()
        };
        let known = self.known;
        Observed {
            revisions: self
                .sets
                .iter()
                .map(|(r, attempt)| (r.clone(), view(attempt)))
                .collect(),
            route: crate::observed::RouteView {
                acknowledged: true,
                ..Default::default()
            },
            runs: RunsView {
                known,
                next: self.next.clone().filter(|_| known),
                jobs: if known { self.jobs.clone() } else { Vec::new() },
            },
            jobs: self.migrations.clone(),
            reports: (self.migrations.iter())
                .filter(|(_, phase)| phase.has_ended())
                .map(|(key, _)| (key.clone(), MigrationReport::default()))
                .collect(),
            actions: self.actions.clone(),
            ..Observed::default()
        }
    }

    /// The state survives only as what is written of it.
    fn restart(&mut self) {
        let text = serde_json::to_string(&self.state).unwrap();
        self.state = serde_json::from_str(&text).unwrap();
        self.state.check().unwrap();
    }

    fn turn(&mut self) {
        for _ in 0..10 {
            let decision = decide(&self.plan, &self.state, &self.seen(), self.now);
            self.restart();
            self.state = decision.state.clone();
            let idle = decision.effects.is_empty() && decision.jobs.is_empty();
            for effect in decision.effects.clone() {
                self.apply(effect);
            }
            for effect in &decision.jobs {
                match effect {
                    JobEffect::StartMigration { key, .. } => {
                        self.migrations.insert(key.clone(), JobPhase::Succeeded);
                    }
                    JobEffect::Delete(key) => drop(self.migrations.remove(key)),
                    JobEffect::Start { .. } => panic!("no condition was asked for"),
                }
            }
            self.last = Some(decision);
            if idle {
                let again = decide(&self.plan, &self.state, &self.seen(), self.now);
                assert_eq!(again.state, self.state, "it is settled");
                return;
            }
        }
        panic!("it never settles: {:?}", self.last);
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::CreateRevision { revision } => drop(self.sets.insert(revision, 0)),
            Effect::DeleteRevision { revision } => drop(self.sets.remove(&revision)),
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => {
                assert_eq!(replicas, 0, "no pod stays");
                if let Some(attempt) = attempt {
                    self.sets.insert(revision, attempt);
                }
            }
            Effect::RunNext(next) => {
                if !self.refuses {
                    self.next = Some(next);
                    self.writes += 1;
                }
            }
            Effect::EndRun { name, uid } => {
                self.jobs.retain(|job| job.uid != uid);
                self.ended.push(name);
            }
            Effect::EndAction { name, .. } => self.actions.retain(|a| a.name != name),
            other => panic!("{other:?} is none of a job's effects"),
        }
    }

    /// What the control plane does in a second.
    fn second(&mut self) {
        self.now += SignedDuration::from_secs(1);
        let now = self.now;
        let does = self.does.clone();
        for job in self.jobs.iter_mut().filter(|job| job.end.is_none()) {
            if self.hangs.as_ref() == Some(&job.name) {
                job.started_at = Some(job.created_at);
                job.worked = true;
                continue;
            }
            let age = now.duration_since(job.created_at).as_secs();
            let (ends, failure) = match does.get(&job.revision).unwrap_or(&Does::Succeed(5)) {
                Does::Succeed(seconds) => (*seconds, None),
                Does::Fail(seconds) => (*seconds, Some("BackoffLimitExceeded".to_owned())),
                Does::Wait => {
                    job.waits = Some("ImagePullBackOff".into());
                    continue;
                }
            };
            job.started_at = Some(job.created_at);
            job.worked = true;
            job.end = (age >= ends).then_some(RunEnd { at: now, failure });
        }
        let due = now.duration_since(self.born).as_secs() % EVERY == 0;
        let forbidden = self.plan.runs.forbids && self.jobs.iter().any(|job| job.end.is_none());
        if let Some(next) = self.next.clone().filter(|_| due && !forbidden) {
            self.made += 1;
            self.jobs.push(RunView {
                uid: format!("u{}", self.made),
                name: format!("report-{}", self.made),
                revision: next.revision,
                attempt: next.attempt,
                created_at: now,
                started_at: None,
                worked: false,
                waits: None,
                end: None,
            });
        }
    }

    /// Seconds pass, with a decision in each of them.
    fn seconds(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.second();
            self.turn();
            while self.jobs.iter().filter(|j| j.end.is_some()).count() > self.kept {
                let oldest = self.jobs.iter().position(|j| j.end.is_some()).unwrap();
                self.jobs.remove(oldest);
            }
        }
    }

    fn minutes(&mut self, minutes: i64) {
        self.seconds(minutes * EVERY);
    }

    fn next(&self) -> &str {
        self.next.as_ref().map_or("", |next| next.revision.0.as_str())
    }

    fn message(&self) -> String {
        self.last
            .as_ref()
            .map_or_else(String::new, |d| d.report.message.clone())
    }

    fn phase(&self) -> Phase {
        self.last.as_ref().unwrap().report.phase
    }

    fn outcome(&self) -> (Outcome, &str) {
        let last = self.state.last.as_ref().unwrap();
        (last.outcome, last.reason.as_str())
    }

    fn told(&self) -> Vec<&str> {
        let last = self.state.last.as_ref().unwrap();
        last.transitions.iter().map(|t| t.reason.as_str()).collect()
    }
}

#[test]
fn the_first_revision_runs_at_once_and_its_runs_decide() {
    let mut cron = Cron::new();
    cron.seconds(1);
    assert_eq!((cron.next(), cron.phase()), ("v1", Phase::Initializing));
    cron.minutes(2);
    assert_eq!(cron.state.stable, None, "{}", cron.message());
    assert!(cron.message().contains("1 of 3 runs succeeded") || cron.message().contains("2 of 3"));
    cron.minutes(2);
    assert_eq!(
        (cron.state.stable.clone(), cron.phase()),
        (Some("v1".into()), Phase::Healthy)
    );
    assert_eq!(cron.outcome(), (Outcome::Promoted, "FirstDeployment"));
    // For the attempt, and once it is over.
    assert_eq!(cron.writes, 2);
}

#[test]
fn a_revision_whose_next_runs_succeed_is_stable() {
    let mut cron = Cron::stable(6);
    cron.update("v2");
    cron.seconds(1);
    assert_eq!(cron.next(), "v2");
    cron.minutes(2);
    assert_eq!(
        (cron.state.stable.clone(), cron.phase()),
        (Some("v1".into()), Phase::Progressing)
    );
    assert!(
        cron.message()
            .contains("of 3 runs succeeded, the longest in 5 s, and 10 s are allowed"),
        "{}",
        cron.message()
    );
    cron.minutes(2);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
    let expected = [
        "AttemptStarted",
        "RunsBegun",
        "RunSucceeded",
        "RunSucceeded",
        "RunSucceeded",
        "Promoted",
    ];
    assert_eq!(cron.told(), expected);
    assert_eq!(cron.next.as_ref().unwrap().attempt, 0);
    assert!(
        cron.message()
            .starts_with("revision v2 runs by the schedule; the last one succeeded")
    );
}

#[test]
fn one_run_that_fails_takes_it_back_at_once_and_it_stays_refused() {
    let mut cron = Cron::stable(6);
    cron.does.insert("v2".into(), Does::Fail(7));
    cron.update("v2");
    cron.minutes(2);
    assert_eq!(cron.outcome(), (Outcome::RolledBack, "RunFailed"));
    assert_eq!((cron.next(), cron.phase()), ("v1", Phase::RolledBack));
    let of_v2 = cron.jobs.iter().filter(|j| j.revision == "v2".into()).count();
    assert_eq!(of_v2, 1, "no other run was made of it");
    cron.minutes(5);
    assert_eq!((cron.next(), cron.phase()), ("v1", Phase::RolledBack));
    // A person tries it again: the failure of the first attempt is not counted for the second.
    cron.does.insert("v2".into(), Does::Succeed(5));
    cron.ask(Action::Retry);
    cron.minutes(5);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
    assert_eq!(cron.state.last.as_ref().unwrap().number, 2);
}

#[test]
fn a_run_that_takes_too_long_ends_the_attempt_while_it_runs() {
    for forbids in [false, true] {
        let mut cron = Cron::stable(8);
        cron.plan.runs.forbids = forbids;
        cron.does.insert("v1".into(), Does::Succeed(12));
        cron.minutes(2);
        cron.does.insert("v2".into(), Does::Succeed(1000));
        cron.update("v2");
        cron.seconds(60 + 24);
        assert_eq!(
            cron.state.last.as_ref().unwrap().revision,
            "v1".into(),
            "24 s are allowed"
        );
        cron.seconds(2);
        assert_eq!(
            cron.outcome(),
            (Outcome::RolledBack, "RunTooLong"),
            "{}",
            cron.message()
        );
        assert_eq!(cron.next(), "v1");
        // It would keep stable's runs from beginning where two may not run at a time; otherwise it is left alone.
        assert_eq!(cron.ended.len(), usize::from(forbids), "{:?}", cron.ended);
        let (made, of_v1) = (cron.made, |c: &Cron| c.next() == "v1");
        cron.minutes(2);
        assert!(cron.made > made && of_v1(&cron));
    }
}

#[test]
fn what_stable_has_begun_ends_in_peace() {
    let mut cron = Cron::stable(8);
    cron.plan.runs.forbids = true;
    cron.does.insert("v1".into(), Does::Succeed(150));
    cron.minutes(1);
    cron.update("v2");
    cron.seconds(1);
    cron.ask(Action::Promote);
    cron.seconds(120);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
    assert!(cron.ended.is_empty(), "{:?}", cron.ended);
}

#[test]
fn a_run_that_took_too_long_between_two_looks_counts_as_well() {
    let mut cron = Cron::stable(8);
    cron.does.insert("v2".into(), Does::Succeed(30));
    cron.update("v2");
    while !cron.jobs.iter().any(|j| j.revision == "v2".into()) {
        cron.seconds(1);
    }
    (0..40).for_each(|_| cron.second());
    cron.turn();
    assert_eq!(cron.outcome(), (Outcome::RolledBack, "RunTooLong"));
    assert!(
        cron.state
            .last
            .as_ref()
            .unwrap()
            .message
            .contains("took 30 s, and 10 s are allowed")
    );
}

#[test]
fn with_little_history_only_success_decides() {
    let mut cron = Cron::stable(1);
    let known = cron.state.runs.as_ref().unwrap().seconds.len();
    assert!(known < super::super::runs::LEAST_DURATIONS, "{known}");
    cron.does.insert("v2".into(), Does::Succeed(45));
    cron.update("v2");
    cron.minutes(1);
    cron.seconds(30);
    assert!(
        cron.message().contains("how long it takes does not decide"),
        "{}",
        cron.message()
    );
    cron.minutes(4);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

#[test]
fn what_stable_failed_of_as_well_is_not_the_revisions_fault() {
    let mut cron = Cron::stable(6);
    for revision in ["v1", "v2"] {
        cron.does.insert(revision.into(), Does::Fail(5));
    }
    cron.minutes(2);
    assert!(
        cron.message().contains("the last one failed"),
        "{}",
        cron.message()
    );
    assert_eq!(cron.phase(), Phase::Degraded);
    let stalled = cron.last.as_ref().unwrap().report.conditions.iter();
    let stalled = stalled.clone().find(|c| c.kind == "Stalled").unwrap();
    assert_eq!(
        (stalled.status, stalled.reason.as_str()),
        (true, "StableRunFailed")
    );
    cron.update("v2");
    cron.minutes(2);
    assert!(
        cron.state
            .attempt
            .as_ref()
            .is_some_and(|a| a.stage == Stage::Held)
    );
    assert_eq!((cron.phase(), cron.next()), (Phase::Paused, "v1"));
    // Once stable's succeed again it goes on, and what fails now is its own.
    cron.does.insert("v1".into(), Does::Succeed(5));
    for _ in 0..90 {
        cron.seconds(1);
        if cron.next() == "v2" {
            break;
        }
    }
    assert_eq!(cron.next(), "v2", "{}", cron.message());
    cron.minutes(2);
    assert_eq!(cron.outcome(), (Outcome::RolledBack, "RunFailed"));
}

#[test]
fn a_run_whose_pod_never_starts_ends_the_attempt_and_is_ended() {
    let mut cron = Cron::stable(6);
    cron.plan.runs.forbids = true;
    cron.does.insert("v2".into(), Does::Wait);
    cron.update("v2");
    cron.minutes(3);
    assert!(
        cron.message().contains("waits: ImagePullBackOff"),
        "{}",
        cron.message()
    );
    cron.minutes(2);
    assert_eq!(cron.outcome(), (Outcome::RolledBack, "ProgressDeadlineExceeded"));
    assert_eq!((cron.ended.len(), cron.next()), (1, "v1"));
}

#[test]
fn neither_a_cronjob_that_is_refused_nor_the_schedule_speaks_against_a_revision() {
    let mut cron = Cron::stable(6);
    cron.refuses = true;
    cron.update("v2");
    for _ in 0..1800 {
        cron.second();
        let decision = decide(&cron.plan, &cron.state, &cron.seen(), cron.now);
        cron.state = decision.state.clone();
        for effect in decision.effects {
            cron.apply(effect);
        }
    }
    let decision = decide(&cron.plan, &cron.state, &cron.seen(), cron.now);
    assert_eq!((decision.report.phase, cron.next()), (Phase::Progressing, "v1"));
    let attempt = cron.state.attempt.as_ref().expect("it waits");
    assert_eq!(attempt.deadline, None);
    // Once what was refused is corrected it goes on.
    cron.refuses = false;
    cron.minutes(4);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());

    // No run for an hour is no lack of progress.
    let mut idle = Cron::stable(6);
    idle.plan.runs.suspended = true;
    idle.update("v2");
    idle.seconds(1);
    idle.next = idle.next.take();
    idle.born = idle.now + SignedDuration::from_secs(30);
    let next = idle.next.clone();
    idle.now += SignedDuration::from_hours(1);
    idle.turn();
    assert_eq!((idle.next.clone(), idle.phase()), (next, Phase::Progressing));
    assert!(
        idle.message().contains("spec.job.suspend is true"),
        "{}",
        idle.message()
    );
}

#[test]
fn people_promote_abort_pause_and_undo() {
    let mut cron = Cron::stable(6);
    cron.update("v2");
    cron.seconds(1);
    cron.ask(Action::Pause);
    cron.seconds(1);
    assert_eq!(
        (cron.next(), cron.phase()),
        ("v1", Phase::Paused),
        "{}",
        cron.message()
    );
    cron.ask(Action::Resume);
    cron.seconds(1);
    assert_eq!(cron.next(), "v2");
    cron.ask(Action::Abort);
    cron.seconds(1);
    assert_eq!(cron.outcome(), (Outcome::Aborted, "AbortedByPerson"));
    assert_eq!((cron.next(), cron.phase()), ("v1", Phase::RolledBack));
    cron.ask(Action::Retry);
    cron.seconds(1);
    cron.ask(Action::Promote);
    cron.seconds(1);
    assert_eq!(
        (cron.state.stable.clone(), cron.next()),
        (Some("v2".into()), "v2")
    );
    assert!(
        cron.state
            .last
            .as_ref()
            .unwrap()
            .message
            .contains("a person said so")
    );
    cron.ask(Action::Undo);
    cron.seconds(1);
    assert_eq!(
        (cron.state.stable.clone(), cron.next()),
        (Some("v1".into()), "v1"),
        "{}",
        cron.message()
    );
    cron.ask(Action::Restart);
    cron.seconds(1);
    assert_eq!(cron.state.expired_actions.len(), 1);
    cron.update("v3");
    cron.seconds(1);
    cron.ask(Action::PromoteFull);
    cron.seconds(1);
    assert_eq!(cron.state.stable, Some("v3".into()));
}

#[test]
fn another_spec_supersedes_and_a_bad_first_one_runs_on_alone() {
    let mut cron = Cron::stable(6);
    cron.update("v2");
    cron.minutes(1);
    cron.update("v3");
    cron.minutes(5);
    assert_eq!(cron.state.stable, Some("v3".into()), "{}", cron.message());

    let mut first = Cron::new();
    first.does.insert("v1".into(), Does::Fail(3));
    first.minutes(3);
    assert_eq!(first.outcome(), (Outcome::RolledBack, "RunFailed"));
    assert_eq!(
        (first.next(), first.phase()),
        ("v1", Phase::Degraded),
        "{}",
        first.message()
    );
    first.update("v2");
    first.minutes(5);
    assert_eq!(
        (first.state.stable.clone(), first.next()),
        (Some("v2".into()), "v2")
    );
}

#[test]
fn a_first_revision_that_never_starts_blocks_no_correction() {
    let mut cron = Cron::new();
    cron.plan.runs.forbids = true;
    cron.plan.runs.count = 1;
    cron.does.insert("v1".into(), Does::Wait);
    cron.minutes(2);
    cron.update("v2");
    cron.seconds(2);
    assert!(
        cron.message()
            .contains("of revision v1 is still there, and concurrencyPolicy is Forbid"),
        "{}",
        cron.message()
    );
    let deadline = cron.plan.progress_deadline.as_secs();
    cron.seconds(deadline + 3 * EVERY);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

#[test]
fn a_run_that_succeeds_while_somebody_has_paused_promotes_nobody() {
    let mut cron = Cron::stable(6);
    cron.plan.runs.count = 1;
    cron.update("v2");
    while !cron
        .jobs
        .iter()
        .any(|job| job.end.is_none() && job.revision == "v2".into())
    {
        cron.seconds(1);
    }
    cron.ask(Action::Pause);
    cron.minutes(3);
    assert_eq!(
        (cron.state.stable.clone(), cron.phase()),
        (Some("v1".into()), Phase::Paused),
        "{}",
        cron.message()
    );
    cron.ask(Action::Resume);
    cron.seconds(2);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

#[test]
fn migrations_come_before_the_first_run() {
    let mut cron = Cron::stable(6);
    cron.plan.migrations = Some(MigrationPlan {
        digest: "m".into(),
        timeout: SignedDuration::from_secs(60),
        contract: Contract::NextRelease,
        on_rollback: OnRollback::Keep,
        tells: true,
    });
    cron.update("v2");
    let decision = decide(&cron.plan, &cron.state, &cron.seen(), cron.now);
    assert_eq!(decision.state.attempt.unwrap().stage, Stage::Migrating);
    cron.seconds(2);
    assert_eq!(cron.next(), "v2", "{}", cron.message());
    cron.minutes(4);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

#[test]
fn what_can_not_be_read_moves_nothing_and_a_lost_state_is_found_again() {
    let mut cron = Cron::stable(6);
    cron.update("v2");
    cron.minutes(1);
    assert_eq!(cron.next(), "v2");
    cron.state = State::default();
    cron.known = false;
    cron.minutes(1);
    assert_eq!(
        (cron.state.stable.clone(), cron.state.attempt.is_some()),
        (None, false)
    );
    cron.known = true;
    cron.seconds(1);
    assert_eq!(cron.state.stable, Some("v1".into()), "the CronJob says so");
    cron.minutes(6);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

#[test]
fn a_run_is_counted_once_however_long_its_job_is_kept() {
    let mut cron = Cron::stable(6);
    cron.kept = 1000;
    cron.plan.runs.count = 20;
    cron.update("v2");
    cron.minutes(8);
    let trial = cron.state.attempt.as_ref().unwrap().trial.clone().unwrap();
    let runs = cron
        .jobs
        .iter()
        .filter(|j| j.revision == "v2".into() && j.end.is_some());
    assert_eq!(trial.seconds.len(), runs.count());
}

/// Whatever happens in whatever order: it settles in every second, only a revision of which every run succeeded is promoted
/// unless a person says so, and nothing but the revision under test and stable is ever run next.
#[test]
fn whatever_happens_only_success_promotes() {
    use proptest::prelude::*;
    let does = prop_oneof![
        4 => (1i64..20).prop_map(Does::Succeed),
        1 => (1i64..50).prop_map(Does::Fail),
        1 => (50i64..400).prop_map(Does::Succeed),
        1 => Just(Does::Wait),
    ];
    let event = (0u8..8, 1i64..150);
    let story = (
        prop::collection::vec(does, 4),
        prop::collection::vec(event, 1..14),
        any::<bool>(),
        1u32..4,
    );
    proptest!(ProptestConfig::with_cases(150), |((does, events, forbids, count) in story)| {
        let mut cron = Cron::stable(5);
        cron.plan.runs.forbids = forbids;
        cron.plan.runs.count = count;
        let mut newest = 1;
        for (what, seconds) in events {
            match what {
                0..=2 if newest < 5 => {
                    newest += 1;
                    let name = format!("v{newest}");
                    cron.does.insert(name.as_str().into(), does[newest - 2]);
                    cron.update(&name);
                }
                3 => cron.ask(Action::Abort),
                4 => cron.ask(Action::Pause),
                5 => cron.ask(Action::Resume),
                6 => cron.next = None,
                _ => drop(cron.jobs.pop()),
            }
            for _ in 0..seconds {
                let before = cron.state.stable.clone();
                cron.seconds(1);
                let next = cron.next.clone().map(|next| next.revision);
                let tried = cron.state.attempt.as_ref().filter(|a| a.weight == 100);
                let expected = tried.map(|a| a.revision.clone()).or(cron.state.stable.clone());
                prop_assert_eq!(next, expected, "{}", cron.message());
                if cron.state.stable != before {
                    let last = cron.state.last.as_ref().unwrap();
                    let good = last.transitions.iter().filter(|t| t.reason == "RunSucceeded").count();
                    prop_assert_eq!(good, count as usize, "{:?}", last);
                    let made = cron.does.get(&last.revision).copied();
                    prop_assert!(matches!(made, None | Some(Does::Succeed(..=21))), "{:?}", made);
                }
                prop_assert!(cron.state.runs.as_ref().unwrap().counted.len() <= 64);
            }
        }
    });
}

#[test]
fn a_run_that_hangs_is_not_passed_by_those_after_it() {
    let mut cron = Cron::stable(1);
    cron.hangs = Some(format!("report-{}", cron.made + 1));
    cron.update("v2");
    cron.minutes(8);
    assert_eq!(cron.state.stable, Some("v1".into()), "{}", cron.message());
    let said = format!("run {} runs since", cron.hangs.clone().unwrap_or_default());
    assert!(
        cron.message().contains(&said) && cron.message().contains("it is waited for"),
        "{}",
        cron.message()
    );
    cron.hangs = None;
    cron.minutes(1);
    assert_eq!(cron.state.stable, Some("v2".into()), "{}", cron.message());
}

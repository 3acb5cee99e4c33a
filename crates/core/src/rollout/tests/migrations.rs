//! Migrations: before the first pod, as far as older revisions bear it, and what is left of them afterwards.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::world::World;
use crate::decision::{JobEffect, Phase};
use crate::migration::{
    Changed, Contract, DatabaseWork, MigrationFailure, MigrationKind, MigrationPhase, MigrationPlan,
    MigrationReport, OnRollback, PendingMigration, WorkOutcome,
};
use crate::observed::{Action, JobPhase};
use crate::rollout::decide;
use crate::state::{Outcome, Stage};

use MigrationKind::{Contract as Contracts, Expand, Mixed, Unknown};
use MigrationPhase::{Apply, Check, Contract as ContractRun, Downgrade};

fn gate() -> MigrationPlan {
    MigrationPlan {
        digest: "m1".into(),
        timeout: SignedDuration::from_secs(30),
        contract: Contract::NextRelease,
        on_rollback: OnRollback::Keep,
        tells: true,
    }
}

fn pending(migrations: &[(&str, MigrationKind)]) -> MigrationReport {
    MigrationReport {
        current: vec!["m1".into()],
        heads: vec![migrations.last().map_or("m1", |m| m.0).into()],
        pending: migrations
            .iter()
            .map(|(id, kind)| PendingMigration {
                id: (*id).into(),
                kind: *kind,
                why: "for a reason".into(),
            })
            .collect(),
        ..MigrationReport::default()
    }
}

fn applied(ids: &[&str]) -> MigrationReport {
    MigrationReport {
        applied: ids.iter().map(|id| (*id).into()).collect(),
        ..MigrationReport::default()
    }
}

fn failure(message: &str, transient: bool) -> MigrationReport {
    MigrationReport {
        failure: Some(MigrationFailure::new(transient, message)),
        ..MigrationReport::default()
    }
}

/// A run that has applied these before it failed at the next.
fn half(ids: &[&str], at: &str, transient: bool, partly: bool, changed: Changed) -> MigrationReport {
    MigrationReport {
        failure: Some(MigrationFailure {
            at: Some(at.into()),
            partly,
            changed: Some(changed),
            ..MigrationFailure::new(transient, "column exists")
        }),
        ..applied(ids)
    }
}

/// `v1` is stable, and `v2` brings these migrations.
fn given(migrations: &[(&str, MigrationKind)]) -> World {
    let mut world = World::with_stable();
    world.plan.migrations = Some(gate());
    reports(&mut world, migrations);
    world.update("v2");
    world
}

fn reports(world: &mut World, migrations: &[(&str, MigrationKind)]) {
    succeeds(world, Check, pending(migrations));
    let expand: Vec<&str> = migrations.iter().map(|m| m.0).collect();
    succeeds(world, Apply, applied(&expand));
}

fn succeeds(world: &mut World, phase: MigrationPhase, report: MigrationReport) {
    world
        .migrations
        .insert(phase, (JobPhase::Succeeded, Some(report)));
}

fn fails(world: &mut World, phase: MigrationPhase, report: MigrationReport) {
    let fate = JobPhase::Failed("container app ended with exit code 1".into());
    world.migrations.insert(phase, (fate, Some(report)));
}

fn runs(world: &World) -> Vec<(MigrationPhase, u32)> {
    let run = |key: &crate::observed::JobKey| Some((MigrationPhase::of(&key.condition)?, key.run));
    world.created_jobs.iter().filter_map(run).collect()
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn condition(world: &World) -> (bool, String, String) {
    let conditions = &world.last.as_ref().unwrap().report.conditions;
    let migrated = conditions.iter().find(|c| c.kind == "Migrated").unwrap();
    (migrated.status, migrated.reason.clone(), migrated.message.clone())
}

/// The pods that a revision has ever had.
fn pods(world: &World, revision: &str) -> u32 {
    world
        .sets
        .get(&revision.into())
        .map_or(0, |set| set.wanted + set.ready)
}

fn work(world: &World) -> Option<DatabaseWork> {
    world.state.database.as_ref().and_then(|d| d.work.clone())
}

fn ends_before_a_pod(mut world: World, reason: &str, what: &str) -> World {
    for _ in 0..600 {
        world.run(1);
        assert_eq!(pods(&world, "v2"), 0, "no pod of the canary");
        assert_eq!(pods(&world, "v1"), 8, "stable keeps its strength");
        if world.phase() == Phase::RolledBack {
            break;
        }
    }
    let last = world.state.last.clone().unwrap();
    assert_eq!(
        (last.outcome, last.reason.as_str()),
        (Outcome::RolledBack, reason),
        "{}",
        last.message
    );
    assert!(last.message.contains(what), "{}", last.message);
    assert_eq!(last.max_weight, 0);
    assert_eq!(condition(&world).1, reason);
    let runs = runs(&world).len();
    world.run(300);
    assert_eq!(
        self::runs(&world).len(),
        runs,
        "it is refused, and not tried again by itself"
    );
    world
}

#[test]
fn what_expands_is_checked_and_applied_before_the_first_pod() {
    let mut world = given(&[("m2", Expand), ("m3", Expand)]);
    while pods(&world, "v2") == 0 {
        world.run(1);
    }
    let done = |(key, phase): (&crate::observed::JobKey, &JobPhase)| {
        key.condition == Apply.condition() && *phase == JobPhase::Succeeded
    };
    assert!(world.jobs.iter().any(done), "{:?}", world.jobs);
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v2".into()));
    assert_eq!(condition(&world).1, "Applied");
    assert_eq!(runs(&world).len(), 2, "and never again");
    let told: Vec<String> = world
        .state
        .last
        .unwrap()
        .transitions
        .into_iter()
        .map(|t| t.message)
        .collect();
    assert!(
        told.iter()
            .any(|m| m.starts_with("2 migrations are pending: m2 expands")),
        "{told:?}"
    );
    assert!(told.iter().any(|m| m == "applied 2: m2, m3"), "{told:?}");
}

#[test]
fn the_first_revision_gets_all_of_them_whatever_they_do() {
    let mut world = World::new(super::world::plan("v1"));
    world.plan.migrations = Some(gate());
    reports(&mut world, &[("m1", Expand), ("m2", Contracts), ("m3", Unknown)]);
    world.run(2);
    assert_eq!((pods(&world, "v1"), world.phase()), (0, Phase::Initializing));
    assert!(world.run_until(Phase::Healthy, 100), "{}", message(&world));
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);
}

#[test]
fn a_first_revision_whose_migrations_fail_has_no_pods_until_a_person_tries_again() {
    let mut world = World::new(super::world::plan("v1"));
    world.plan.migrations = Some(gate());
    reports(&mut world, &[("m1", Expand)]);
    fails(&mut world, Apply, failure("relation exists", false));
    world.run(200);
    assert_eq!(
        (pods(&world, "v1"), world.phase()),
        (0, Phase::Degraded),
        "{}",
        message(&world)
    );
    assert!(
        message(&world).contains("has no pods: the migration failed: relation exists"),
        "{}",
        message(&world)
    );
    reports(&mut world, &[("m1", Expand)]);
    world.act("a", Action::Retry);
    assert!(world.run_until(Phase::Healthy, 100), "{}", message(&world));
}

#[test]
fn a_check_or_a_migration_that_fails_ends_the_attempt() {
    let mut world = given(&[]);
    fails(&mut world, Check, failure("two heads: a, b", false));
    ends_before_a_pod(world, "MigrationFailed", "the check failed: two heads: a, b");
    let mut world = given(&[("m2", Expand)]);
    fails(&mut world, Apply, failure("column exists", false));
    ends_before_a_pod(world, "MigrationFailed", "the migration failed: column exists");
    let mut world = given(&[("m2", Expand)]);
    world.migrations.insert(
        Apply,
        (JobPhase::Failed("exit code 137 (OOMKilled)".into()), None),
    );
    ends_before_a_pod(world, "MigrationFailed", "OOMKilled");
}

#[test]
fn one_that_fails_half_way_tells_what_is_applied_and_where_it_failed() {
    for (ids, partly, changed, what) in [
        (
            &["m2", "m3"][..],
            false,
            Changed::Yes,
            "the migration failed: applied m2, m3; failed at m4; the database has changed: column exists",
        ),
        (
            &[],
            false,
            Changed::No,
            "the migration failed: failed at m4; the database has not changed: column exists",
        ),
        (
            &[],
            true,
            Changed::Unknown,
            "failed at m4, a part of which may stay; whether the database has changed is not known",
        ),
    ] {
        let mut world = given(&[("m2", Expand), ("m3", Expand), ("m4", Expand)]);
        fails(&mut world, Apply, half(ids, "m4", false, partly, changed));
        let world = ends_before_a_pod(world, "MigrationFailed", what);
        let kept = world.state.last.unwrap().migration.unwrap().applied;
        assert_eq!(kept, ids, "the record has them");
    }
}

#[test]
fn what_a_run_applied_before_it_was_cut_off_counts_with_the_next() {
    let mut world = given(&[("m2", Expand), ("m3", Expand)]);
    fails(&mut world, Apply, half(&["m2"], "m3", true, false, Changed::Yes));
    while !runs(&world).contains(&(Apply, 1)) {
        world.run(1);
    }
    world.run(3);
    succeeds(&mut world, Apply, applied(&["m3"]));
    assert!(world.run_until(Phase::Healthy, 500), "{}", message(&world));
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1), (Apply, 2)]);
    let last = world.state.last.unwrap();
    assert_eq!(last.migration.unwrap().applied, ["m2", "m3"]);
    assert!(last.transitions.iter().any(|t| t.message == "applied 2: m2, m3"));
}

#[test]
fn what_may_have_left_a_part_is_not_begun_again_though_the_database_went_away() {
    let mut world = given(&[("m2", Expand), ("m3", Expand)]);
    let gone = half(&["m2"], "m3", true, true, Changed::Unknown);
    fails(&mut world, Apply, gone);
    let world = ends_before_a_pod(world, "MigrationFailed", "failed at m3, a part of which may stay");
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);
}

#[test]
fn one_that_hangs_is_ended_and_has_failed() {
    for phase in [Check, Apply] {
        let mut world = given(&[("m2", Expand)]);
        let since = world.now;
        world
            .migrations
            .insert(phase, (JobPhase::Running { since }, None));
        let world = ends_before_a_pod(world, "MigrationFailed", "ran for 30s without an end");
        assert!(!world.jobs.values().any(JobPhase::is_under_way));
    }
}

#[test]
fn no_run_begins_while_the_pod_of_one_before_still_runs() {
    let mut world = given(&[("m2", Expand)]);
    world.plan.migrations.as_mut().unwrap().tells = false;
    world.job_linger = 20;
    let since = world.now;
    world
        .migrations
        .insert(Apply, (JobPhase::Running { since }, None));
    assert!(world.run_until(Phase::RolledBack, 100), "{}", message(&world));
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);
    assert_eq!(world.leaving.len(), 1, "its Job is gone, and its pod is not");
    reports(&mut world, &[("m2", Expand)]);
    world.act("a", Action::Retry);
    while !world.leaving.is_empty() {
        assert_eq!(runs(&world).len(), 2, "{:?}", world.leaving);
        world.run(1);
    }
    assert!(world.run_until(Phase::Healthy, 500), "{}", message(&world));
    assert_eq!(runs(&world)[2..], [(Check, 1), (Apply, 1)]);
}

#[test]
fn a_pod_of_a_run_before_that_never_ends_is_named_and_ends_the_attempt() {
    let mut world = given(&[("m2", Expand)]);
    let never = world.now + SignedDuration::from_hours(24);
    world.leaving.push(("pod shop-job-x1-abcde".into(), never));
    world.run(5);
    assert_eq!(runs(&world), []);
    world.run(40);
    assert!(
        condition(&world)
            .2
            .contains("pod shop-job-x1-abcde of a run before has not ended yet"),
        "{}",
        condition(&world).2
    );
    let world = ends_before_a_pod(world, "MigrationFailed", "pod shop-job-x1-abcde of a run before");
    assert_eq!(runs(&world), []);
}

#[test]
fn nobody_says_that_the_work_of_a_command_of_ones_own_was_undone() {
    for (tells, what) in [
        (true, "what it had not committed is undone"),
        (false, "whether the database has changed is not known"),
    ] {
        let mut world = given(&[("m2", Expand)]);
        world.plan.migrations.as_mut().unwrap().tells = tells;
        let since = world.now;
        world
            .migrations
            .insert(Apply, (JobPhase::Running { since }, None));
        let world = ends_before_a_pod(world, "MigrationFailed", what);
        let last = world.state.last.unwrap().message;
        assert!(tells || !last.contains("undone"), "{last}");
    }
}

#[test]
fn a_database_that_is_away_is_waited_for_and_the_deadline_ends_it() {
    let mut world = given(&[("m2", Expand)]);
    fails(&mut world, Check, failure("connection refused", true));
    world.run(40);
    assert!(
        message(&world).contains("connection refused"),
        "{}",
        message(&world)
    );
    assert_eq!(
        runs(&world)[..3],
        [(Check, 1), (Check, 2), (Check, 3)],
        "less and less often"
    );
    assert!(runs(&world).len() <= 4);
    reports(&mut world, &[("m2", Expand)]);
    assert!(world.run_until(Phase::Healthy, 500), "{}", message(&world));

    let mut world = given(&[("m2", Expand)]);
    fails(&mut world, Check, failure("connection refused", true));
    ends_before_a_pod(world, "MigrationFailed", "connection refused");
}

#[test]
fn what_says_nothing_of_the_database_is_tried_again_under_another_name() {
    for fate in [
        JobPhase::Broken("its pod was evicted".into()),
        JobPhase::Waiting(Some("image pull".into())),
        JobPhase::Refused("exceeded quota".into()),
    ] {
        let mut world = given(&[("m2", Expand)]);
        world.migrations.insert(Apply, (fate.clone(), None));
        if let JobPhase::Refused(_) = fate {
            world.job_fate = fate.clone();
        }
        world.run(50);
        assert_eq!(pods(&world, "v2"), 0);
        world.job_fate = JobPhase::Succeeded;
        reports(&mut world, &[("m2", Expand)]);
        assert!(
            world.run_until(Phase::Healthy, 500),
            "{fate:?}: {}",
            message(&world)
        );
        let mut names = world.created_jobs.clone();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), world.created_jobs.len());
    }
}

#[test]
fn what_contracts_is_held_back_and_applied_in_the_next_release() {
    let mut world = given(&[("m2", Expand), ("m3", Contracts)]);
    succeeds(&mut world, Apply, applied(&["m2"]));
    world.run(2);
    let stops = world
        .state
        .attempt
        .as_ref()
        .unwrap()
        .migration
        .as_ref()
        .unwrap()
        .run
        .stop_before
        .clone();
    assert_eq!(stops.as_deref(), Some("m3"));
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
    assert_eq!(
        condition(&world),
        (
            true,
            "HeldBack".into(),
            "applied up to m3, which contracts: it is applied in the next release".into()
        )
    );
    world.run(60);
    // The next release has it too, and more: stable has shipped m3.
    world.update("v3");
    reports(&mut world, &[("m3", Contracts), ("m4", Expand)]);
    assert!(
        world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400),
        "{}",
        message(&world)
    );
    let database = world.state.database.clone().unwrap();
    assert_eq!(database.held, Vec::<String>::new());
    assert_eq!(
        database.barred,
        ["v1".into()],
        "v2 has shipped what m3 takes away"
    );
}

#[test]
fn a_contract_that_comes_alone_needs_no_run_and_one_that_brings_something_too_blocks() {
    let mut world = given(&[("m2", Contracts)]);
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    assert_eq!(runs(&world), [(Check, 1)]);
    for (migrations, what) in [
        (
            &[("m2", Mixed)][..],
            "m2 expands and contracts in one (for a reason), and revision v1 is live",
        ),
        (&[("m2", Expand), ("m3", Unknown)], "say in m3 what it does"),
        (
            &[("m2", Contracts), ("m3", Expand)],
            "m3 comes after it and expands (for a reason): put it before",
        ),
    ] {
        ends_before_a_pod(given(migrations), "MigrationBlocked", what);
    }
}

#[test]
fn a_command_of_ones_own_can_stop_before_nothing() {
    let mut world = given(&[("m2", Expand), ("m3", Contracts)]);
    world.plan.migrations.as_mut().unwrap().tells = false;
    ends_before_a_pod(world, "MigrationBlocked", "can't stop before it");
    let mut world = given(&[]);
    world.plan.migrations.as_mut().unwrap().tells = false;
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    assert_eq!(
        runs(&world),
        [(Check, 1), (Apply, 1)],
        "whoever tells nothing is asked to apply it"
    );
    let told: Vec<String> = world
        .state
        .last
        .unwrap()
        .transitions
        .into_iter()
        .map(|t| t.message)
        .collect();
    assert!(
        told.iter().all(|m| !m.contains("no migration is pending")),
        "nobody was asked for it: {told:?}"
    );
    assert!(
        told.iter()
            .any(|m| m == "the check succeeded; a command of your own does not tell what is pending"),
        "{told:?}"
    );
}

#[test]
fn a_contract_after_the_bake_waits_for_the_old_pods_and_bars_their_revision() {
    let mut world = given(&[("m2", Expand), ("m3", Contracts)]);
    world.plan.migrations.as_mut().unwrap().contract = Contract::AfterBake;
    succeeds(&mut world, Apply, applied(&["m2"]));
    succeeds(&mut world, ContractRun, applied(&["m3"]));
    while work(&world).is_none() {
        world.run(1);
    }
    assert!(pods(&world, "v1") > 0);
    assert_eq!(condition(&world).1, "ContractPending");
    assert!(
        condition(&world).2.contains("revision v1 still has 4 pods"),
        "{}",
        condition(&world).2
    );
    while work(&world).is_some() {
        world.run(1);
        let begun = runs(&world).contains(&(ContractRun, 1));
        assert!(!begun || pods(&world, "v1") == 0, "not while an old pod is left");
    }
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1), (ContractRun, 1)]);
    assert_eq!(world.state.database.as_ref().unwrap().barred, ["v1".into()]);
    // Nobody goes back to it: not by Undo, and not by the spec.
    world.act("u", Action::Undo);
    world.run(2);
    assert_eq!(world.ended_actions, [("u".to_owned(), false)]);
    world.update("v1");
    world.run(30);
    assert_eq!(
        (world.phase(), pods(&world, "v1"), pods(&world, "v2")),
        (Phase::Degraded, 0, 8)
    );
    assert_eq!(condition(&world).1, "PastContract");
    let stalled = world
        .last
        .as_ref()
        .unwrap()
        .report
        .conditions
        .iter()
        .find(|c| c.kind == "Stalled")
        .unwrap();
    assert_eq!((stalled.status, stalled.reason.as_str()), (true, "PastContract"));
}

#[test]
fn a_contract_that_needs_approval_waits_for_it_and_a_rejection_leaves_it() {
    for (answer, applies) in [(Action::Approve, true), (Action::Reject, false)] {
        let mut world = given(&[("m2", Contracts)]);
        world.plan.migrations.as_mut().unwrap().contract = Contract::Approval;
        succeeds(&mut world, ContractRun, applied(&["m2"]));
        assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
        world.run(100);
        assert_eq!(
            condition(&world),
            (
                false,
                "AwaitingApproval".to_owned(),
                "m2 contracts (for a reason); the contracting migration is left to do: it waits for a person: `kubectl molt approve NAME --gate contract`".to_owned()
            )
        );
        world.act("a", answer);
        world.act("b", answer);
        world.run(10);
        assert_eq!(
            world.ended_actions,
            [("a".to_owned(), true), ("b".to_owned(), false)]
        );
        assert_eq!(runs(&world).contains(&(ContractRun, 1)), applies);
        assert_eq!(condition(&world).1, if applies { "Applied" } else { "HeldBack" });
        let database = world.state.database.clone().unwrap();
        assert_eq!(!database.barred.is_empty(), applies);
        let ended = database.ended.unwrap();
        let (outcome, what) = if applies {
            (WorkOutcome::Passed, "approved by oncall")
        } else {
            (WorkOutcome::Rejected, "rejected by oncall")
        };
        assert_eq!(
            (ended.outcome, ended.message.as_deref(), ended.attempt, ended.told),
            (outcome, Some(what), 1, false)
        );
        // The record of the next attempt has it, and that of the one after it does not.
        let told = |world: &World| {
            let database = world.state.database.as_ref().unwrap();
            database.ended.as_ref().map(|ended| ended.told)
        };
        reports(&mut world, &[]);
        world.update("v3");
        assert!(world.run_until(Phase::Progressing, 5));
        assert_eq!(told(&world), Some(true));
        assert!(world.run_until(Phase::Healthy, 400));
        world.update("v4");
        assert!(world.run_until(Phase::Progressing, 5));
        assert_eq!(told(&world), None);
    }
}

#[test]
fn of_several_contracts_that_wait_the_first_is_named_and_the_rest_are_counted() {
    let mut world = given(&[("m2", Contracts), ("m3", Contracts), ("m4", Contracts)]);
    world.plan.migrations.as_mut().unwrap().contract = Contract::Approval;
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(100);
    let (_, reason, message) = condition(&world);
    assert_eq!(reason, "AwaitingApproval");
    assert!(
        message
            .starts_with("m2 contracts (for a reason), and 2 more follow; the contracting migration is left"),
        "{message}"
    );
}

#[test]
fn a_contract_that_fails_is_told_and_the_next_release_has_it_again() {
    let mut world = given(&[("m2", Contracts)]);
    world.plan.migrations.as_mut().unwrap().contract = Contract::AfterBake;
    fails(&mut world, ContractRun, failure("lock timeout", false));
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(100);
    assert_eq!(
        (condition(&world).1.as_str(), world.phase()),
        ("ContractFailed", Phase::Healthy)
    );
    world.update("v3");
    reports(&mut world, &[("m2", Contracts)]);
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    assert_eq!(condition(&world).1, "Applied");
}

fn rolled_back(on_rollback: OnRollback) -> World {
    let mut world = given(&[("m2", Expand)]);
    world.plan.migrations.as_mut().unwrap().on_rollback = on_rollback;
    succeeds(&mut world, Downgrade, applied(&["m2"]));
    world.bad.insert("v2".into(), 0.5);
    assert!(world.run_until(Phase::RolledBack, 400), "{}", message(&world));
    world
}

#[test]
fn a_rollback_keeps_what_was_applied_unless_it_is_asked_to_take_it_back() {
    let mut world = rolled_back(OnRollback::Keep);
    world.run(200);
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);

    let mut world = rolled_back(OnRollback::Downgrade);
    assert_eq!(condition(&world).1, "DowngradePending");
    while work(&world).is_some() {
        world.run(1);
        let begun = runs(&world).contains(&(Downgrade, 1));
        assert!(
            !begun || pods(&world, "v2") == 0,
            "not while a pod that needs it is left"
        );
        if let Some(run) = work(&world).and_then(|w| w.run) {
            assert_eq!(run.target, ["m1"]);
        }
    }
    assert_eq!(runs(&world), [(Check, 1), (Apply, 1), (Downgrade, 1)]);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn the_spec_of_the_next_revision_says_nothing_of_the_one_before() {
    for (first, next) in [
        (OnRollback::Keep, OnRollback::Downgrade),
        (OnRollback::Downgrade, OnRollback::Keep),
    ] {
        let mut world = given(&[("m2", Expand)]);
        world.plan.migrations.as_mut().unwrap().on_rollback = first;
        succeeds(&mut world, Downgrade, applied(&["m2"]));
        assert!(world.run_until(Phase::Progressing, 5), "{}", message(&world));
        while !runs(&world).contains(&(Apply, 1)) {
            world.run(1);
        }
        world.run(30);
        world.plan.migrations.as_mut().unwrap().on_rollback = next;
        world.update("v3");
        reports(&mut world, &[]);
        for _ in 0..900 {
            world.run(1);
            if world.state.stable == Some("v3".into()) {
                break;
            }
        }
        assert_eq!(world.state.stable, Some("v3".into()), "{}", message(&world));
        let took_back = runs(&world).iter().any(|(phase, _)| *phase == Downgrade);
        assert_eq!(took_back, first == OnRollback::Downgrade);
    }
}

#[test]
fn the_next_attempt_waits_for_a_downgrade() {
    let mut world = rolled_back(OnRollback::Downgrade);
    world.bad.clear();
    world.update("v3");
    while work(&world).is_some() {
        world.run(1);
        assert!(world.state.attempt.is_none() || world.phase() == Phase::RollingBack);
    }
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v3".into()));
}

#[test]
fn past_a_contract_nothing_is_taken_back() {
    let mut world = given(&[("m2", Contracts)]);
    world.plan.migrations.as_mut().unwrap().on_rollback = OnRollback::Downgrade;
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(60);
    world.update("v3");
    reports(&mut world, &[("m2", Contracts)]);
    world.bad.insert("v3".into(), 0.5);
    assert!(world.run_until(Phase::RolledBack, 400), "{}", message(&world));
    world.run(100);
    assert!(!runs(&world).contains(&(Downgrade, 1)));
    let told = world
        .state
        .last
        .as_ref()
        .unwrap()
        .transitions
        .iter()
        .any(|t| t.reason == "DowngradeRefused");
    assert!(told);
    assert_eq!(world.state.stable, Some("v2".into()), "which has shipped it");
}

#[test]
fn a_way_back_needs_no_run() {
    let mut world = given(&[("m2", Expand)]);
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(60);
    let before = runs(&world).len();
    world.act("u", Action::Undo);
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    assert_eq!(
        (world.state.stable.clone(), runs(&world).len()),
        (Some("v1".into()), before)
    );
}

#[test]
fn a_database_ahead_of_the_revision_ends_it_unless_its_tree_is_known_to_be_applied() {
    let ahead = |heads: &str| MigrationReport {
        current: vec!["m9".into()],
        unknown: vec!["m9".into()],
        heads: vec![heads.into()],
        ..MigrationReport::default()
    };
    // v2 was rolled back, and what it applied is kept: v3 is built from v1's tree.
    let mut world = rolled_back(OnRollback::Keep);
    succeeds(&mut world, Check, ahead("m1"));
    world.update("v3");
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));

    let mut world = given(&[]);
    succeeds(&mut world, Check, ahead("m7"));
    ends_before_a_pod(
        world,
        "MigrationFailed",
        "the database is at m9, which this revision does not have",
    );
}

/// v2 has shipped m3, which contracts, and v3 has applied it, with m4.
fn past_m3() -> World {
    let mut world = given(&[("m2", Expand), ("m3", Contracts)]);
    succeeds(&mut world, Apply, applied(&["m2"]));
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(60);
    world.update("v3");
    reports(&mut world, &[("m3", Contracts), ("m4", Expand)]);
    assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
    world.run(60);
    world
}

#[test]
fn a_revision_built_from_a_tree_of_before_a_contract_is_refused_under_whatever_name() {
    let check = |unknown: &str, heads: &[&str]| MigrationReport {
        current: vec!["m4".into()],
        unknown: vec![unknown.into()],
        heads: heads.iter().map(|head| (*head).into()).collect(),
        ..MigrationReport::default()
    };
    for (unknown, heads, refused) in [
        // Alembic tells the ends: that of v1, and that of v2, which does without what m3 took.
        ("m4", &["m1"][..], Some("MigrationFailed")),
        ("m4", &["m3"], None),
        ("m3", &["m2"], Some("PastContract")),
        // Django tells all that there is and the files do not have, and has no ends.
        ("m3", &[], Some("PastContract")),
        ("m4", &[], None),
    ] {
        let mut world = past_m3();
        world.update("v4");
        succeeds(&mut world, Check, check(unknown, heads));
        match refused {
            None => {
                assert!(world.run_until(Phase::Progressing, 5) && world.run_until(Phase::Healthy, 400));
                assert_eq!(world.state.stable, Some("v4".into()), "{unknown} {heads:?}");
            }
            Some(reason) => {
                assert!(world.run_until(Phase::RolledBack, 60), "{unknown} {heads:?}");
                assert_eq!(
                    world.state.last.as_ref().unwrap().reason,
                    reason,
                    "{}",
                    message(&world)
                );
                assert_eq!((pods(&world, "v4"), world.weight("v3")), (0, 100));
            }
        }
    }
}

#[test]
fn an_abort_and_another_revision_end_the_run() {
    let hanging = || {
        let mut world = given(&[("m2", Expand)]);
        let since = world.now;
        world
            .migrations
            .insert(Apply, (JobPhase::Running { since }, None));
        world.run(10);
        assert_eq!(runs(&world), [(Check, 1), (Apply, 1)]);
        world
    };
    let mut world = hanging();
    world.act("a", Action::Abort);
    world.run(3);
    assert_eq!(world.state.last.as_ref().unwrap().reason, "AbortedByPerson");
    assert!(!world.jobs.values().any(JobPhase::is_under_way));
    let mut world = hanging();
    reports(&mut world, &[("m2", Expand)]);
    world.update("v3");
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
    assert_eq!(world.state.stable, Some("v3".into()));
}

#[test]
fn a_gate_that_is_taken_out_of_the_spec_keeps_nobody() {
    let mut world = given(&[("m2", Expand)]);
    let since = world.now;
    world
        .migrations
        .insert(Check, (JobPhase::Running { since }, None));
    world.run(5);
    world.plan.migrations = None;
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
    assert!(!world.jobs.values().any(JobPhase::is_under_way));
}

#[test]
fn a_changed_gate_begins_anew() {
    let mut world = given(&[("m2", Expand)]);
    fails(&mut world, Check, failure("no such directory", true));
    world.run(12);
    reports(&mut world, &[("m2", Expand)]);
    world.plan.migrations.as_mut().unwrap().digest = "m2".into();
    world.run(2);
    assert_eq!(world.created_jobs.last().unwrap().digest, "m2");
    assert!(world.run_until(Phase::Healthy, 400), "{}", message(&world));
}

proptest! {
    /// Whatever becomes of runs and wherever the operator crashes: none is created again once it was seen, one is under
    /// way at most, no pod of the canary is there before what it needs is applied, and every attempt ends.
    #[test]
    fn no_migration_is_run_twice_and_no_pod_comes_before_it(
        events in prop::collection::vec((0..9u8, 0..9u8, 0..3usize), 1..60),
        kinds in prop::collection::vec(0..3u8, 0..4),
        contract in 0..2u8,
        downgrade in any::<bool>(),
        linger in any::<bool>(),
    ) {
        let names = ["m2", "m3", "m4", "m5"];
        let kind = |k: &u8| [Expand, Contracts, Unknown][*k as usize];
        let migrations: Vec<_> = names.iter().copied().zip(kinds.iter().map(kind)).collect();
        let mut world = given(&migrations);
        let plan = world.plan.migrations.as_mut().unwrap();
        plan.contract = [Contract::NextRelease, Contract::AfterBake][contract as usize];
        let lingers = [0, 7][usize::from(linger)];
        plan.on_rollback = if downgrade { OnRollback::Downgrade } else { OnRollback::Keep };
        world.job_linger = lingers;
        let mut seen = std::collections::BTreeSet::new();
        let mut chaos = events.into_iter();
        for _ in 0..400 {
            let (event, seconds, limit) = chaos.next().unwrap_or((8, 5, usize::MAX));
            reports(&mut world, &migrations);
            succeeds(&mut world, ContractRun, applied(&["m9"]));
            succeeds(&mut world, Downgrade, applied(&["m9"]));
            let now = world.now;
            for (fate, report) in world.migrations.values_mut() {
                match event {
                    0 => { *fate = JobPhase::Failed("exit 1".into()); *report = Some(failure("f", false)); }
                    1 => { *fate = JobPhase::Failed("exit 1".into()); *report = Some(failure("t", true)); }
                    2 => *fate = JobPhase::Broken("evicted".into()),
                    3 => *fate = JobPhase::Running { since: now },
                    4 => *fate = JobPhase::Waiting(None),
                    5 => *report = None,
                    _ => {}
                }
            }
            match event {
                6 => {
                    for key in world.jobs.keys().cloned().collect::<Vec<_>>() {
                        world.delete_job(&key);
                    }
                }
                7 => { world.bad.insert("v2".into(), 0.5); }
                _ => {}
            }
            for _ in 0..=seconds {
                world.live(1);
                seen.extend(world.jobs.iter().filter(|(_, p)| !matches!(p, JobPhase::Refused(_))).map(|(k, _)| k.clone()));
                let before = world.clone();
                let decision = world.turn(limit);
                let again = decide(&world.plan, &before.state, &before.clone().observe(), world.now);
                prop_assert_eq!(&again.jobs, &decision.jobs);
                for effect in &decision.jobs {
                    if let JobEffect::StartMigration { key, .. } = effect {
                        prop_assert!(!seen.contains(key), "{key:?} is run twice");
                    }
                }
                let under_way = world.jobs.values().filter(|p| p.is_under_way()).count();
                prop_assert!(under_way + world.leaving.len() <= 1, "{:?} beside {:?}", world.jobs, world.leaving);
                let migrates = world.state.attempt.as_ref().is_some_and(|a| a.stage == Stage::Migrating);
                prop_assert!(!migrates || pods(&world, "v2") == 0 || world.state.stable == Some("v2".into()));
                prop_assert!(world.weight("v1") + world.weight("v2") == 100);
            }
        }
        prop_assert!(world.state.attempt.is_none(), "{}", message(&world));
    }
}

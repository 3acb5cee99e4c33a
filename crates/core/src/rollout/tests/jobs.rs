//! Jobs of conditions: when they run, what their end says, and that none is run twice.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::world::World;
use crate::decision::{JobEffect, Phase};
use crate::guard::GuardMode;
use crate::observed::{Action, JobPhase};
use crate::plan::{Check, ConditionPlan, JobPlan};
use crate::rollout::decide;
use crate::state::{ConditionState, Outcome};

fn given(failure_limit: u32, fate: JobPhase) -> World {
    let mut world = World::with_stable();
    world.plan.conditions = vec![ConditionPlan {
        name: "smoke".into(),
        check: Check::Job(JobPlan {
            digest: "d1".into(),
            timeout: SignedDuration::from_secs(30),
            interval: None,
        }),
        mode: GuardMode::Rollback,
        failure_limit,
    }];
    world.job_fate = fate;
    world.update("v2");
    world
}

fn job(world: &mut World) -> &mut JobPlan {
    match &mut world.plan.conditions[0].check {
        Check::Job(job) => job,
        Check::Value(bound) => panic!("{bound}"),
    }
}

fn until_weight(world: &mut World, weight: u8) {
    for _ in 0..600 {
        if world.weight("v2") >= weight {
            return;
        }
        world.run(1);
    }
    panic!("never reached {weight} %: {}", message(world));
}

fn message(world: &World) -> String {
    world.last.as_ref().unwrap().report.message.clone()
}

fn entry(world: &World) -> ConditionState {
    world.last.as_ref().unwrap().report.guards[0].clone()
}

#[test]
fn it_runs_once_at_each_weight_and_success_lets_the_rollout_pass() {
    let mut world = given(0, JobPhase::Succeeded);
    assert!(world.run_until(Phase::Healthy, 300), "{}", message(&world));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Promoted);
    let entry = &last.conditions[0];
    assert_eq!(
        (
            entry.evaluated,
            entry.failed,
            entry.value.as_deref(),
            entry.passed_at_weight
        ),
        (3, 0, Some("succeeded"), Some(100))
    );
    let runs: Vec<u32> = world.created_jobs.iter().map(|key| key.run).collect();
    assert_eq!(runs, [1, 2, 3], "at 10, 50 and 100 %");
    assert_eq!(world.jobs.len(), 1, "the last stays for its logs");
}

#[test]
fn a_run_that_fails_rolls_back_and_says_how_it_ended() {
    for limit in [0, 2] {
        let mut world = given(limit, JobPhase::Failed("container smoke: exit code 3".into()));
        assert!(world.run_until(Phase::RolledBack, 200), "{}", message(&world));
        let last = world.state.last.as_ref().unwrap();
        assert_eq!(
            (last.outcome, last.reason.as_str()),
            (Outcome::RolledBack, "ConditionFailed")
        );
        let n = limit + 1;
        let expected = format!(
            "condition smoke: its Job failed: container smoke: exit code 3; {n} of {n} evaluations failed, {limit} may"
        );
        assert_eq!(last.message, expected);
        assert_eq!(
            world.created_jobs.len(),
            n as usize,
            "one run for each evaluation"
        );
        assert_eq!(last.max_weight, 10);
    }
}

#[test]
fn a_failure_within_the_limit_holds_the_step_until_a_later_run_succeeds() {
    let mut world = given(9, JobPhase::Failed("exit code 1".into()));
    until_weight(&mut world, 10);
    world.run(45);
    assert_eq!(world.weight("v2"), 10);
    assert!(
        message(&world).contains("condition smoke was not met at last: its Job failed: exit code 1"),
        "{}",
        message(&world)
    );
    let runs = world.created_jobs.len();
    assert!((3..=5).contains(&runs), "a block lies between two runs: {runs}");
    world.job_fate = JobPhase::Succeeded;
    until_weight(&mut world, 50);
}

#[test]
fn one_that_runs_too_long_has_failed_and_is_deleted() {
    let mut world = given(
        0,
        JobPhase::Running {
            since: World::with_stable().now,
        },
    );
    until_weight(&mut world, 10);
    world.run(5);
    assert!(message(&world).contains("its Job runs, begun at 10 %") || message(&world).contains("dwells"));
    assert!(world.run_until(Phase::RolledBack, 60), "{}", message(&world));
    let last = world.state.last.as_ref().unwrap();
    assert!(
        last.message.contains("its Job ran for 30s without an end"),
        "{}",
        last.message
    );
    assert!(world.jobs.is_empty());
}

#[test]
fn what_keeps_it_from_running_is_no_failure_of_the_canary_and_no_success() {
    let cases = [
        (
            JobPhase::Waiting(Some("the image can't be pulled".into())),
            "the image can't be pulled",
        ),
        (
            JobPhase::Refused("exceeded quota: small".into()),
            "exceeded quota: small",
        ),
        (
            JobPhase::Broken("its pod was evicted".into()),
            "its pod was evicted",
        ),
        (JobPhase::Waiting(None), "did not start within 30s"),
        (JobPhase::Ending, "nothing says how"),
    ];
    for (fate, why) in cases {
        let mut world = given(0, fate);
        until_weight(&mut world, 10);
        world.run(130);
        let entry = entry(&world);
        assert_eq!((entry.failed, entry.evaluated), (0, 0), "{why}");
        let said = entry.not_evaluated.unwrap_or_default();
        assert!(said.contains(why), "{said}");
        assert_eq!(world.weight("v2"), 10);
        assert!(message(&world).contains(why), "{}", message(&world));
        assert!(world.run_until(Phase::Paused, 400), "{}", message(&world));
        assert_eq!(world.weight("v2"), 0);
        let under_way = world.jobs.values().filter(|job| job.is_under_way()).count();
        assert_eq!(under_way, 0, "{why}");
    }
}

#[test]
fn a_quota_that_is_raised_in_time_lets_the_same_run_begin() {
    let mut world = given(0, JobPhase::Refused("exceeded quota".into()));
    until_weight(&mut world, 10);
    world.run(10);
    world.job_fate = JobPhase::Succeeded;
    until_weight(&mut world, 50);
    assert_eq!(world.created_jobs[0].run, 1);
}

#[test]
fn one_that_somebody_deleted_is_not_created_again_under_its_name() {
    let mut world = given(
        0,
        JobPhase::Running {
            since: World::with_stable().now,
        },
    );
    until_weight(&mut world, 10);
    world.run(4);
    world.jobs.clear();
    world.job_fate = JobPhase::Succeeded;
    world.run(1);
    let said = entry(&world).not_evaluated.unwrap_or_default();
    assert!(said.contains("was deleted before its end was seen"), "{said}");
    until_weight(&mut world, 50);
    let runs: Vec<u32> = world.created_jobs.iter().map(|key| key.run).collect();
    assert_eq!(runs[..2], [1, 2]);
}

#[test]
fn an_interval_repeats_it_while_the_weight_stays_and_a_late_failure_rolls_back() {
    let mut world = given(0, JobPhase::Succeeded);
    job(&mut world).interval = Some(SignedDuration::from_secs(5));
    until_weight(&mut world, 10);
    world.run(12);
    assert!(world.created_jobs.len() >= 3, "{:?}", world.created_jobs);
    assert_eq!(world.jobs.len(), 1, "earlier runs are taken away");
    world.job_fate = JobPhase::Failed("exit code 1".into());
    assert!(world.run_until(Phase::RolledBack, 60), "{}", message(&world));
}

#[test]
fn an_end_of_the_attempt_ends_its_jobs() {
    let mut world = given(
        0,
        JobPhase::Running {
            since: World::with_stable().now,
        },
    );
    until_weight(&mut world, 10);
    world.run(3);
    assert_eq!(world.jobs.len(), 1);
    world.act("a", Action::Abort);
    world.run(1);
    assert!(world.jobs.is_empty());
    assert!(world.run_until(Phase::RolledBack, 30));
}

#[test]
fn another_job_under_the_same_name_is_another_condition() {
    let mut world = given(9, JobPhase::Failed("exit code 1".into()));
    until_weight(&mut world, 10);
    world.run(15);
    job(&mut world).digest = "d2".into();
    world.job_fate = JobPhase::Succeeded;
    until_weight(&mut world, 50);
    assert_eq!(entry(&world).failed, 0);
    let digests: Vec<&str> = world.created_jobs.iter().map(|key| key.digest.as_str()).collect();
    assert!(
        digests.contains(&"d1") && digests.ends_with(&["d2"]),
        "{digests:?}"
    );
}

#[test]
fn a_person_may_promote_past_it() {
    let mut world = given(0, JobPhase::Waiting(Some("no node".into())));
    until_weight(&mut world, 10);
    world.run(25);
    world.act("a", Action::Promote);
    until_weight(&mut world, 50);
}

proptest! {
    /// Whatever happens to Jobs and wherever the operator crashes: no run is created twice once it was seen, at
    /// most one of a condition is under way, and nothing but a success at each weight promotes.
    #[test]
    fn no_run_is_run_twice(
        events in prop::collection::vec((0..8u8, 0..9u8, 0..3usize), 1..60),
        interval in prop::option::of(1..20i64),
    ) {
        let mut world = given(1, JobPhase::Succeeded);
        job(&mut world).interval = interval.map(SignedDuration::from_secs);
        let (mut successes, mut seen) = (0, std::collections::BTreeSet::new());
        for (event, seconds, limit) in events {
            world.job_fate = match event {
                0 => JobPhase::Failed("exit code 1".into()),
                1 => JobPhase::Broken("evicted".into()),
                2 => JobPhase::Refused("quota".into()),
                3 => JobPhase::Running { since: world.now },
                4 => JobPhase::Waiting(None),
                _ => JobPhase::Succeeded,
            };
            if event == 7 {
                world.jobs.clear();
            }
            for _ in 0..=seconds {
                world.live(1);
                seen.extend(world.jobs.iter().filter(|(_, p)| !matches!(p, JobPhase::Refused(_))).map(|(k, _)| k.clone()));
                successes += usize::from(world.jobs.values().any(|p| *p == JobPhase::Succeeded));
                let before = world.clone();
                let decision = world.turn(limit);
                prop_assert_eq!(
                    &decide(&world.plan, &before.state, &before.clone().observe(), world.now).jobs,
                    &decision.jobs
                );
                for effect in &decision.jobs {
                    if let JobEffect::Start { key, .. } = effect {
                        prop_assert!(!seen.contains(key), "{key:?} is run twice");
                    }
                }
                let under_way = world.jobs.values().filter(|p| p.is_under_way()).count();
                prop_assert!(under_way <= 2, "the one that is deleted, and the one that follows: {under_way}");
            }
            let promoted = world.state.last.as_ref().is_some_and(|l| l.revision.0 == "v2" && l.outcome == Outcome::Promoted);
            prop_assert!(!promoted || successes > 0);
        }
    }
}

#[test]
fn one_that_only_warns_is_run_once_at_each_weight_and_decides_nothing() {
    let mut world = given(0, JobPhase::Failed("exit code 1".into()));
    world.plan.conditions[0].mode = GuardMode::Warn;
    assert!(world.run_until(Phase::Healthy, 300), "{}", message(&world));
    let last = world.state.last.as_ref().unwrap();
    assert_eq!(last.outcome, Outcome::Promoted);
    let entry = &last.conditions[0];
    assert_eq!(entry.failed, entry.evaluated);
    let runs: Vec<u32> = world.created_jobs.iter().map(|key| key.run).collect();
    assert_eq!(runs, [1, 2, 3], "at 10, 50 and 100 %");
}

//! A pause that nobody asked for ends by itself once what it depended on is corrected.

use super::world::World;
use crate::decision::Phase;
use crate::observed::Action;
use crate::plan::OnInconclusive;
use crate::state::{Outcome, Stage};

/// Paused before any user was on the canary: nothing could be read.
fn paused_unread() -> World {
    let mut world = World::with_stable();
    world.blind = true;
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 400));
    world
}

/// Paused at the second weight: the metrics went away after the first.
fn paused_midway() -> World {
    let mut world = World::with_stable();
    world.update("v2");
    while world.weight("v2") < 50 {
        world.run(1);
    }
    world.blind = true;
    assert!(world.run_until(Phase::Paused, 600), "{:?}", world.last);
    assert_eq!(world.weight("v2"), 0);
    world
}

fn canary_total(world: &World) -> f64 {
    let attempt = world.state.attempt.as_ref().unwrap();
    attempt.evidence.iter().map(|e| e.evidence.canary().total()).sum()
}

fn reasons(world: &World) -> Vec<String> {
    let attempt = world.state.attempt.as_ref();
    let ended = world.state.last.as_ref();
    let transitions = attempt.map_or_else(|| ended.unwrap().transitions.clone(), |a| a.transitions.clone());
    transitions.into_iter().map(|t| t.reason).collect()
}

#[test]
fn a_corrected_address_lets_it_go_on_to_its_end() {
    let mut world = paused_unread();
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(
        message.contains("spec.metrics"),
        "what would help is said: {message}"
    );
    world.blind = false;
    world.run(100);
    assert_eq!(world.phase(), Phase::Paused, "nobody has corrected anything");
    world.plan.basis = "b2".into();
    assert!(world.run_until(Phase::Healthy, 300), "{:?}", world.last);
    let last = world.state.last.as_ref().unwrap();
    assert_eq!((last.number, last.outcome), (1, Outcome::Promoted));
    assert!(reasons(&world).contains(&"Resumed".to_owned()));
}

#[test]
fn a_correction_that_does_not_help_ends_in_the_same_pause_and_exposes_nobody() {
    let mut world = paused_unread();
    world.plan.basis = "b2".into();
    world.run(1);
    assert_eq!(world.phase(), Phase::Progressing);
    let deadline = world.state.attempt.as_ref().unwrap().deadline;
    assert_eq!(
        deadline,
        world.now.checked_add(world.plan.progress_deadline).ok(),
        "it runs anew"
    );
    for _ in 0..400 {
        world.run(1);
        assert_eq!(world.weight("v2"), 0);
    }
    assert_eq!(world.phase(), Phase::Paused);
}

#[test]
fn it_goes_on_from_the_weight_it_had_with_the_evidence_it_had() {
    let mut world = paused_midway();
    let before = canary_total(&world);
    world.blind = false;
    world.plan.basis = "b2".into();
    world.run(1);
    assert!(canary_total(&world) >= before && before > 0.0);
    let mut seen = Vec::new();
    while world.phase() != Phase::Healthy && seen.len() < 400 {
        world.run(1);
        seen.push(world.weight("v2"));
    }
    seen.retain(|w| *w > 0);
    seen.dedup();
    assert_eq!(seen, [50, 100], "both were allowed before");
}

#[test]
fn a_changed_objective_is_asked_anew_from_the_first_weight() {
    let mut world = paused_midway();
    let before = canary_total(&world);
    world.blind = false;
    world.plan.basis = "b2".into();
    world.plan.slos[0].question = "q2".into();
    world.run(1);
    assert!(before > 0.0);
    let mut seen = Vec::new();
    let mut least = f64::MAX;
    while world.phase() != Phase::Healthy && seen.len() < 400 {
        world.run(1);
        seen.push(world.weight("v2"));
        if world.state.attempt.is_some() {
            least = least.min(canary_total(&world));
        }
    }
    assert!(least < 1.0, "the old counts answer another question: {least}");
    seen.retain(|w| *w > 0);
    seen.dedup();
    assert_eq!(seen, [10, 50, 100], "every weight through its gate");
}

#[test]
fn a_canary_that_is_bad_after_all_is_taken_back_after_a_correction() {
    let mut world = paused_unread();
    world.bad.insert("v2".into(), 0.3);
    world.blind = false;
    world.plan.basis = "b2".into();
    assert!(world.run_until(Phase::RolledBack, 200));
}

#[test]
fn a_softer_policy_is_a_correction_too() {
    let mut world = World::with_stable();
    world.rps = 0.0;
    world.update("v2");
    assert!(world.run_until(Phase::Paused, 400));
    world.plan.on_inconclusive = OnInconclusive::Rollback;
    world.plan.basis = "b2".into();
    assert!(world.run_until(Phase::RolledBack, 400));
}

#[test]
fn what_a_person_paused_or_evidence_took_back_stays_so() {
    let mut world = paused_unread();
    // A pause that tells nothing of its cause: a person's, or that of another version.
    world.state.attempt.as_mut().unwrap().hold = None;
    world.blind = false;
    world.plan.basis = "b2".into();
    world.run(300);
    assert_eq!(world.phase(), Phase::Paused);

    let mut world = World::with_stable();
    world.bad.insert("v2".into(), 0.3);
    world.update("v2");
    assert!(world.run_until(Phase::RolledBack, 200));
    world.plan.basis = "b2".into();
    world.plan.slos[0].question = "q2".into();
    world.run(300);
    assert_eq!(world.phase(), Phase::RolledBack);
    assert!(world.state.attempt.is_none());
}

#[test]
fn a_persons_word_comes_before_a_correction() {
    let mut world = paused_unread();
    world.blind = false;
    world.plan.basis = "b2".into();
    world.act("abort", Action::Abort);
    world.run(20);
    assert_eq!(world.phase(), Phase::RolledBack);

    let mut world = paused_unread();
    world.act("promote", Action::Promote);
    world.run(2);
    let attempt = world.state.attempt.as_ref().unwrap();
    assert!(attempt.stage == Stage::Stepping && attempt.hold.is_none());
}

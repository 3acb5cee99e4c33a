//! What people ask for, and what becomes of it.

use super::world::World;
use crate::decision::{Effect, Phase};
use crate::observed::Action;
use crate::plan::{BudgetExhausted, RouteMode, Step};
use crate::state::Stage;

/// Long enough for any rollout here.
const LONG: u32 = 900;

fn until_weight(world: &mut World, weight: u8) {
    for _ in 0..LONG {
        if world.weight("v2") == weight {
            return;
        }
        world.run(1);
    }
    panic!("never at {weight} %: {:?}", world.last);
}

/// A second revision is on its way, at ten per cent.
fn at_ten() -> World {
    let mut world = World::with_stable();
    world.update("v2");
    until_weight(&mut world, 10);
    world
}

/// Why things happened in the attempt under way, or in the last one.
fn happened(world: &World, reason: &str) -> bool {
    let state = &world.state;
    let of_attempt = state.attempt.iter().flat_map(|a| &a.transitions);
    let of_last = state.last.iter().flat_map(|l| &l.transitions);
    of_attempt.chain(of_last).any(|t| t.reason == reason)
}

fn is_stable(world: &World, revision: &str) -> bool {
    world.state.stable == Some(revision.into()) && world.phase() == Phase::Healthy
}

#[test]
fn a_paused_rollout_keeps_its_weight_for_hours_and_goes_on_when_resumed() {
    let mut world = at_ten();
    world.act("pause", Action::Pause);
    world.run(4 * 3600);
    assert_eq!((world.weight("v2"), world.phase()), (10, Phase::Paused));
    assert!(happened(&world, "PausedByPerson"));
    world.act("resume", Action::Resume);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    assert!(happened(&world, "ResumedByPerson"));
}

#[test]
fn a_pause_does_not_keep_a_harmful_canary_with_its_users() {
    let mut world = at_ten();
    world.act("pause", Action::Pause);
    world.run(60);
    world.bad.insert("v2".into(), 0.5);
    world.run(120);
    assert_eq!(world.weight("v2"), 0);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert!(happened(&world, "HarmShown"));
}

#[test]
fn a_pause_by_the_spec_holds_what_is_under_way_and_what_comes_next() {
    let mut world = at_ten();
    world.plan.paused = true;
    world.run(3600);
    assert_eq!((world.weight("v2"), world.phase()), (10, Phase::Paused));
    // A person can't end what the spec says.
    world.act("resume", Action::Resume);
    world.run(600);
    assert_eq!(world.weight("v2"), 10);
    // The next revision supersedes it, and waits.
    world.update("v3");
    world.run(600);
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Paused));
    assert!(world.state.attempt.is_none());
    world.plan.paused = false;
    world.run(LONG);
    assert!(is_stable(&world, "v3"));
}

#[test]
fn a_bake_that_is_paused_does_not_end() {
    let mut world = at_ten();
    until_weight(&mut world, 100);
    world.act("pause", Action::Pause);
    world.run(3600);
    assert_eq!(world.state.stable, Some("v1".into()));
    world.act("resume", Action::Resume);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
}

#[test]
fn promoting_all_the_way_skips_steps_and_waits_and_not_the_bake() {
    let mut world = at_ten();
    world.act("go", Action::PromoteFull);
    until_weight(&mut world, 100);
    assert_eq!(world.state.stable, Some("v1".into()), "it bakes first");
    let at_fifty = world.state.attempt.iter().flat_map(|a| &a.transitions);
    assert!(
        at_fifty.clone().all(|t| t.weight != 50),
        "{:?}",
        at_fifty.collect::<Vec<_>>()
    );
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
}

/// Asks for a promotion past the wait of one step.
fn promote_at(world: &mut World, uid: &str, step: u32) {
    world.act(uid, Action::Promote);
    world.actions.last_mut().unwrap().step = Some(step);
}

#[test]
fn a_promotion_that_is_sent_twice_ends_one_wait() {
    let paused_at = |step: u32| {
        let mut world = World::with_stable();
        let (ten, half) = (Step::SetWeight(10), Step::SetWeight(50));
        world.plan.steps = vec![ten, Step::Pause {}, half, Step::Pause {}];
        world.update("v2");
        for _ in 0..LONG {
            if world
                .state
                .attempt
                .as_ref()
                .is_some_and(|a| a.awaited_step() == step)
            {
                return world;
            }
            world.run(1);
        }
        panic!("never at step {step}: {:?}", world.last);
    };
    let at = |world: &World| world.state.attempt.as_ref().unwrap().awaited_step();
    let answers =
        |world: &World| -> Vec<bool> { world.ended_actions.iter().map(|(_, done)| *done).collect() };
    // Both in one look, and one after the other: while the router raises the weight, or takes its time at the pause.
    let mut world = paused_at(1);
    promote_at(&mut world, "first", 1);
    promote_at(&mut world, "again", 1);
    world.run(LONG);
    assert_eq!(
        (at(&world), world.phase()),
        (3, Phase::Paused),
        "{:?}",
        world.last
    );
    assert_eq!(answers(&world).first(), Some(&true));
    let mut world = paused_at(1);
    world.run(60);
    promote_at(&mut world, "first", 1);
    world.run(1);
    promote_at(&mut world, "again", 1);
    world.run(1);
    assert_eq!(answers(&world), [true, false]);
    world.run(LONG);
    assert_eq!((at(&world), world.phase()), (3, Phase::Paused));
    // What waits for its evidence is one wait, the pause after it another.
    let mut world = paused_at(0);
    promote_at(&mut world, "first", 0);
    world.run(2);
    promote_at(&mut world, "again", 0);
    world.run(LONG);
    assert_eq!(at(&world), 1);
    assert_eq!(answers(&world), [true, false]);
    promote_at(&mut world, "next", 1);
    world.run(LONG);
    assert_eq!((at(&world), answers(&world).last()), (3, Some(&true)));
}

#[test]
fn what_was_taken_back_is_tried_again_once_somebody_asks() {
    let mut world = at_ten();
    world.act("abort", Action::Abort);
    world.run(LONG);
    assert_eq!(
        (world.state.refused.clone(), world.phase()),
        (Some("v2".into()), Phase::RolledBack)
    );
    world.act("retry", Action::Retry);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    assert_eq!(
        world.state.last.as_ref().map(|l| l.number),
        Some(2),
        "a new attempt, with a record of its own"
    );
    // Nothing is refused any more.
    world.act("again", Action::Retry);
    world.run(LONG);
    assert_eq!(world.state.last.as_ref().map(|l| l.number), Some(2));
    assert!(world.ended_actions.contains(&("again".to_owned(), false)));
}

#[test]
fn a_spent_budget_that_refuses_is_overridden_for_one_attempt() {
    let mut world = World::with_stable();
    world.plan.budget_exhausted = BudgetExhausted::Refuse;
    world.budget_remaining = 0.0;
    world.update("v2");
    world.run(3600);
    assert_eq!(world.weight("v2"), 0);
    world.act("override", Action::Override);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    assert!(happened(&world, "OverriddenByPerson"));
}

#[test]
fn what_there_is_no_reason_for_expires_and_changes_nothing() {
    let mut world = at_ten();
    for (uid, action) in [
        ("r", Action::Resume),
        ("o", Action::Override),
        ("t", Action::Retry),
    ] {
        world.act(uid, action);
    }
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    assert_eq!(world.state.expired_actions, ["r", "o", "t"]);
}

/// A second revision was promoted, and the pods of the first have gone.
fn second_is_stable() -> World {
    let mut world = World::with_stable();
    world.update("v2");
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    world
}

fn weights_of(world: &World) -> Vec<u8> {
    let last = world.state.last.as_ref().unwrap();
    last.transitions.iter().map(|t| t.weight).collect()
}

#[test]
fn undone_it_goes_straight_back_and_stays_there_until_the_spec_goes_on() {
    let mut world = second_is_stable();
    world.act("undo", Action::Undo);
    world.run(LONG);
    assert!(is_stable(&world, "v1"));
    assert!(happened(&world, "RollbackStarted"));
    assert!(
        weights_of(&world).iter().all(|w| [0, 100].contains(w)),
        "{:?}",
        weights_of(&world)
    );
    // The spec still asks for v2; nobody brings it back.
    world.run(3600);
    assert!(is_stable(&world, "v1"));
    world.update("v3");
    world.run(LONG);
    assert!(is_stable(&world, "v3"));
    assert_eq!(world.state.pinned, None);
}

/// Users have fled from v2 to v1, which bakes.
fn undone_and_baking(world: World) -> World {
    let mut world = world;
    world.update("v2");
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    world.plan.bake = jiff::SignedDuration::from_mins(5);
    world.act("undo", Action::Undo);
    let bakes = |world: &World| {
        let attempt = world.state.attempt.as_ref();
        attempt.is_some_and(|a| matches!(a.stage, Stage::Baking { .. }))
    };
    for _ in 0..LONG {
        world.run(1);
        if bakes(&world) {
            return world;
        }
    }
    panic!("never in its bake: {:?}", world.last);
}

/// Nobody is led to v2 in so many seconds.
fn nobody_goes_back(world: &mut World, seconds: u32) {
    for _ in 0..seconds {
        world.run(1);
        assert_eq!(world.weight("v2"), 0, "{:?}", world.last);
    }
}

#[test]
fn a_fix_that_comes_in_the_bake_of_an_undo_starts_from_what_users_went_back_to() {
    let mut world = undone_and_baking(World::with_stable());
    world.update("v3");
    nobody_goes_back(&mut world, 5);
    assert_eq!(world.state.stable, Some("v1".into()));
    assert_eq!(world.state.attempt.as_ref().unwrap().revision, "v3".into());
    nobody_goes_back(&mut world, LONG);
    assert!(is_stable(&world, "v3"));
}

#[test]
fn a_fix_that_comes_before_an_undo_has_all_users_starts_after_it() {
    let mut world = second_is_stable();
    world.run(600);
    world.act("undo", Action::Undo);
    world.run(1);
    assert!(world.weight("v2") > 0, "v1 has no pods yet");
    world.update("v3");
    for _ in 0..LONG {
        world.run(1);
        if world.state.stable == Some("v1".into()) {
            break;
        }
        assert_eq!(world.weight("v3"), 0);
    }
    nobody_goes_back(&mut world, LONG);
    assert!(is_stable(&world, "v3"));
}

#[test]
fn a_spec_that_cant_be_used_leaves_users_where_an_undo_took_them() {
    for given in [World::with_stable, World::with_users_route] {
        let mut world = given();
        if world.state.stable.is_none() {
            world.run(60);
        }
        let adopted = world.plan.route == RouteMode::Adopted;
        world = undone_and_baking(world);
        let on_v2 = |world: &World| {
            if adopted {
                world.canary_weight() != 100
            } else {
                world.weight("v2") > 0
            }
        };
        world.plan.revision = None;
        for _ in 0..120 {
            world.run(1);
            assert!(!on_v2(&world), "{:?}", world.last);
        }
        assert!(!happened(&world, "SpecInvalid"));
        world.plan.revision = Some("v2".into());
        world.run(LONG);
        assert!(is_stable(&world, "v1"));
    }
}

#[test]
fn without_objectives_to_read_the_time_of_an_undo_does_not_run_out() {
    let mut world = undone_and_baking(World::with_stable());
    let slos = std::mem::take(&mut world.plan.slos);
    world.plan.revision = None;
    nobody_goes_back(&mut world, 3600);
    world.plan.slos = slos;
    world.plan.revision = Some("v2".into());
    nobody_goes_back(&mut world, LONG);
    assert!(is_stable(&world, "v1"));
}

#[test]
fn a_spec_that_is_repaired_late_leaves_an_undo_the_time_to_be_read() {
    // The bake waited for its metrics before the spec was spoilt, or it did not; its deadline is long past either way.
    for waited in [false, true] {
        let mut world = undone_and_baking(World::with_stable());
        let bake = u32::try_from(world.plan.bake.as_secs()).unwrap();
        let deadline = u32::try_from(world.plan.progress_deadline.as_secs()).unwrap();
        world.blind = waited;
        nobody_goes_back(&mut world, if waited { bake + deadline / 2 } else { 1 });
        let slos = std::mem::take(&mut world.plan.slos);
        world.plan.revision = None;
        nobody_goes_back(&mut world, bake + 2 * deadline);
        // Repaired; and Prometheus takes a moment.
        world.plan.slos = slos;
        world.plan.revision = Some("v2".into());
        world.blind = true;
        nobody_goes_back(&mut world, deadline / 2);
        world.blind = false;
        nobody_goes_back(&mut world, LONG);
        assert!(is_stable(&world, "v1"), "{waited}: {:?}", world.last);
    }
}

#[test]
fn an_undone_revision_that_harms_is_taken_back_whatever_is_edited() {
    let mut world = undone_and_baking(World::with_stable());
    world.plan.revision = None;
    world.bad.insert("v1".into(), 0.5);
    world.run(LONG);
    assert_eq!(
        (world.weight("v2"), world.state.stable.clone()),
        (100, Some("v2".into()))
    );
}

#[test]
fn what_is_undone_to_a_revision_that_is_gone_expires() {
    let mut world = second_is_stable();
    world.sets.remove(&"v1".into());
    world.act("undo", Action::Undo);
    world.run(60);
    assert!(is_stable(&world, "v2"));
    assert_eq!(world.state.expired_actions, ["undo"]);
}

#[test]
fn an_undone_revision_that_harms_is_taken_back_and_not_tried_again() {
    let mut world = second_is_stable();
    world.bad.insert("v1".into(), 0.5);
    world.plan.bake = jiff::SignedDuration::from_mins(5);
    world.act("undo", Action::Undo);
    world.run(2 * LONG);
    assert_eq!(world.state.stable, Some("v2".into()));
    assert_eq!((world.weight("v2"), world.phase()), (100, Phase::RolledBack));
}

#[test]
fn a_spec_that_goes_back_takes_the_steps_unless_the_pods_are_warm_or_the_window_says_so() {
    let straight = |window: usize, wait: u32| {
        let mut world = World::with_stable();
        world.plan.scale_down_delay = jiff::SignedDuration::from_secs(300);
        world.plan.rollback_window = window;
        world.update("v2");
        for _ in 0..LONG {
            world.run(1);
            if world.state.stable == Some("v2".into()) {
                break;
            }
        }
        world.run(wait);
        world.update("v1");
        world.run(LONG);
        assert!(is_stable(&world, "v1"));
        happened(&world, "RollbackStarted")
    };
    assert!(straight(0, 30), "warm");
    assert!(!straight(0, 600), "cold");
    assert!(straight(1, 600), "in the window");
}

#[test]
fn a_pause_says_whose_word_it_waits_for() {
    let reason = |world: &World| {
        let report = world.last.clone().unwrap().report;
        let paused = report
            .conditions
            .into_iter()
            .find(|c| c.kind == "Paused")
            .unwrap();
        let ready = |kind: &str| {
            world
                .last
                .as_ref()
                .unwrap()
                .report
                .conditions
                .iter()
                .any(|c| c.kind == kind && c.status)
        };
        assert_eq!(paused.status, world.phase() == Phase::Paused && ready("Ready"));
        paused.reason
    };
    let mut world = World::with_stable();
    world.plan.steps = vec![Step::SetWeight(10), Step::Pause {}];
    world.update("v2");
    until_weight(&mut world, 10);
    world.run(120);
    assert_eq!(reason(&world), "StepWaits");
    world.act("a", Action::Pause);
    world.run(10);
    assert_eq!(reason(&world), "PausedByPerson");
    world.act("b", Action::Resume);
    world.run(10);
    assert_eq!(reason(&world), "StepWaits");
    world.plan.paused = true;
    world.run(10);
    assert_eq!(reason(&world), "PausedBySpec");
    world.plan.paused = false;
    world.run(10);
    world.act("c", Action::Promote);
    world.run(20);
    assert_eq!(reason(&world), "Progressing");
}

/// Long after `fleet` was set or taken away.
fn with_fleet(world: &mut World, by: Option<&str>, seconds: u32) {
    world.fleet = by.map(str::to_owned);
    world.run(seconds);
}

#[test]
fn a_pause_of_the_fleet_holds_what_is_under_way_and_what_comes_next_and_says_whose_it_is() {
    let mut world = at_ten();
    with_fleet(&mut world, Some("by ada: INC-12"), 3600);
    assert_eq!((world.weight("v2"), world.phase()), (10, Phase::Paused));
    let report = world.last.clone().unwrap().report;
    assert!(
        report.message.contains("paused by ada: INC-12"),
        "{}",
        report.message
    );
    let paused = report.conditions.iter().find(|c| c.kind == "Paused").unwrap();
    assert_eq!((paused.status, paused.reason.as_str()), (true, "FleetPaused"));
    assert!(happened(&world, "PausedByFleet"));
    for (uid, action) in [
        ("a", Action::Resume),
        ("b", Action::Promote),
        ("c", Action::PromoteFull),
    ] {
        world.act(uid, action);
        world.run(60);
        assert_eq!(
            world.ended_actions.last(),
            Some(&(uid.to_owned(), false)),
            "{action:?}"
        );
    }
    world.update("v3");
    world.run(600);
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Paused));
    assert!(world.state.attempt.is_none());
    with_fleet(&mut world, None, LONG);
    assert!(is_stable(&world, "v3"));
}

#[test]
fn harm_still_takes_a_canary_back_while_the_fleet_is_paused() {
    let mut world = at_ten();
    with_fleet(&mut world, Some("by ada: INC-12"), 60);
    world.bad.insert("v2".into(), 0.5);
    world.run(120);
    assert_eq!((world.weight("v2"), world.phase()), (0, Phase::RolledBack));
    assert!(happened(&world, "HarmShown"));
    let message = world.last.clone().unwrap().report.message;
    assert!(message.ends_with("the fleet is paused by ada: INC-12 (`kubectl molt fleet resume` ends it)"));
    // What was refused stays so when the pause is over.
    with_fleet(&mut world, None, 600);
    assert_eq!(world.phase(), Phase::RolledBack);
}

#[test]
fn a_pause_of_the_fleet_outlasts_that_of_the_spec_and_of_a_person_and_each_ends_by_itself() {
    let mut world = at_ten();
    world.act("pause", Action::Pause);
    world.plan.paused = true;
    with_fleet(&mut world, Some("by ada"), 60);
    world.plan.paused = false;
    world.run(60);
    assert_eq!(world.weight("v2"), 10);
    with_fleet(&mut world, None, 600);
    assert_eq!(
        (world.weight("v2"), world.phase()),
        (10, Phase::Paused),
        "a person's is left"
    );
    world.act("resume", Action::Resume);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
}

#[test]
fn a_service_that_is_healthy_says_that_the_fleet_is_paused_and_is_ready() {
    let mut world = World::with_stable();
    with_fleet(&mut world, Some("by ada: INC-12"), 1);
    let report = &world.last.as_ref().unwrap().report;
    assert_eq!(report.phase, Phase::Healthy);
    let of = |kind| report.conditions.iter().find(|c| c.kind == kind).unwrap();
    assert!(of("Ready").status && of("Paused").status && !of("Paused").fault);
    assert!(of("Paused").message.contains("by ada: INC-12"));
}

#[test]
fn first_revisions_and_ways_back_go_on_while_the_fleet_is_paused() {
    let mut world = World::new(super::world::plan("v1"));
    with_fleet(&mut world, Some("by ada"), 90);
    assert_eq!(world.state.stable, Some("v1".into()));
    with_fleet(&mut world, None, 1);
    world.update("v2");
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    with_fleet(&mut world, Some("by ada"), 5);
    world.act("back", Action::Undo);
    world.run(LONG);
    assert_eq!(world.state.stable, Some("v1".into()));
    // Forward again is no way back.
    world.act("retry", Action::Retry);
    world.update("v3");
    world.run(600);
    assert_eq!((world.weight("v1"), world.phase()), (100, Phase::Paused));
}

#[test]
fn strictly_paused_is_work_in_progress() {
    let of = |strict: bool| {
        let mut world = at_ten();
        world.plan.strict_paused = strict;
        world.act("pause", Action::Pause);
        world.run(5);
        let conditions = world.last.unwrap().report.conditions;
        ["Ready", "Reconciling", "Stalled", "Paused"]
            .map(|kind| conditions.iter().find(|c| c.kind == kind).unwrap().status)
    };
    assert_eq!(of(false), [true, false, false, true]);
    assert_eq!(of(true), [false, true, false, true]);
}

#[test]
fn an_undo_that_is_aborted_is_called_off() {
    let mut world = undone_and_baking(World::with_stable());
    world.act("abort", Action::Abort);
    world.run(LONG);
    assert!(is_stable(&world, "v2"));
    assert_eq!((world.weight("v2"), world.phase()), (100, Phase::Healthy));
    assert_eq!((&world.state.pinned, &world.state.refused), (&None, &None));
    // And it can be asked for again.
    world.act("again", Action::Undo);
    world.run(LONG);
    assert!(is_stable(&world, "v1"));
}

#[test]
fn what_was_answered_and_is_seen_once_more_keeps_its_answer() {
    let mut world = at_ten();
    world.act("r", Action::Resume);
    let ends = |world: &mut World| -> Vec<(bool, bool)> {
        let effects = world.turn(0).effects;
        let end = |effect: &Effect| match effect {
            Effect::EndAction { applied, again, .. } => Some((*applied, *again)),
            _ => None,
        };
        effects.iter().filter_map(end).collect()
    };
    assert_eq!(ends(&mut world), [(false, false)]);
    // The watch is late, and shows it as it was.
    assert_eq!(
        ends(&mut world),
        [(false, true)],
        "only if nothing was written yet"
    );
}

#[test]
fn steps_that_are_edited_under_way_are_told_of_and_count_for_the_next_attempt() {
    let told = "spec.strategy was edited since it began";
    let message = |world: &mut World| world.turn(0).report.message;
    let mut world = at_ten();
    assert!(!message(&mut world).contains(told));
    let steps = world.plan.steps.clone();
    // The index is past the end of what is written now.
    world.plan.steps = vec![Step::SetWeight(1)];
    assert!(message(&mut world).contains(told), "{}", message(&mut world));
    assert_eq!(world.state.attempt.as_ref().unwrap().steps, steps);
    world.run(LONG);
    assert!(is_stable(&world, "v2"), "it goes on by its own steps");
    world.update("v3");
    for _ in 0..LONG {
        world.run(1);
        assert!(!message(&mut world).contains(told));
    }
    assert!(is_stable(&world, "v3"));
}

#[test]
fn a_good_revision_follows_a_bad_one_without_anybody_s_word() {
    let mut world = World::with_stable();
    world.bad.insert("v2".into(), 0.5);
    world.update("v2");
    assert!(world.run_until(Phase::RolledBack, LONG));
    world.update("v3");
    assert!(world.run_until(Phase::Progressing, 60));
    assert!(world.run_until(Phase::Healthy, LONG));
    assert!(is_stable(&world, "v3"));
    assert_eq!((world.weight("v3"), world.state.refused.clone()), (100, None));
}

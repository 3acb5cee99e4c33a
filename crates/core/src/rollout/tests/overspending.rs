//! The first users go to a revision of which nothing is known: only as many as the budget bears.

use super::world::{World, plan};
use crate::analysis::Objective;
use crate::decision::Phase;
use crate::plan::Step;

fn stepping(weight: u8, dwell: u32) -> World {
    let mut world = World::with_stable();
    world.plan = plan("v1");
    world.plan.steps = vec![Step::SetWeight(weight), Step::Dwell(dwell)];
    world
}

#[test]
fn a_long_first_step_begins_by_itself_as_it_ends_when_it_overspends() {
    for (weight, minutes) in [(10, 10), (20, 30), (40, 5)] {
        let mut world = stepping(weight, minutes * 60);
        world.update("v2");
        world.run(60);
        assert_eq!(world.weight("v2"), weight, "{:?}", world.last);
    }
}

#[test]
fn a_long_first_step_of_a_bad_revision_ends_within_the_budget() {
    for bad in [1.0, 0.3, 0.05] {
        let mut world = stepping(20, 1800);
        world.bad.insert("v2".into(), bad);
        world.update("v2");
        let mut bad_seconds = 0.0;
        for _ in 0..400 {
            world.run(1);
            bad_seconds += f64::from(world.weight("v2")) / 100.0 * bad;
        }
        assert_eq!(world.phase(), Phase::RolledBack, "{:?}", world.last);
        let spent = bad_seconds / (0.001 * 30.0 * 86_400.0);
        assert!(spent < world.plan.limits.max_budget_spend(), "{bad}: {spent}");
    }
}

#[test]
fn a_first_step_that_overspends_before_anything_is_seen_waits_for_a_person() {
    let mut world = stepping(50, 60);
    let window = world.plan.slos[0].objective.window;
    world.plan.slos[0].objective = Objective::parse("99.99", window).unwrap();
    world.update("v2");
    world.run(120);
    assert_eq!(world.weight("v2"), 0);
    let message = &world.last.as_ref().unwrap().report.message;
    assert!(message.contains("`promote` takes the risk"), "{message}");
}

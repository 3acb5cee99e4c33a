//! What people ask for, and what a late watch shows of it.

use super::world::World;
use crate::observed::Action;
use crate::plan::Step;

#[test]
fn an_action_that_had_expired_is_not_applied_when_a_late_watch_shows_it_again() {
    let mut world = World::with_stable();
    world.plan.steps = vec![Step::SetWeight(10), Step::Dwell(60)];
    world.act("early", Action::Promote);
    world.run(1);
    assert_eq!(world.ended_actions, vec![("early".to_owned(), false)]);
    world.update("v2");
    while world.weight("v2") < 10 {
        world.run(1);
    }
    // It dwells: such an action would be applied now.
    world.act("early", Action::Promote);
    world.run(1);
    assert_eq!(world.ended_actions.last(), Some(&("early".to_owned(), false)));
    assert_eq!(world.state.attempt.as_ref().unwrap().step, 1);
    world.act("in time", Action::Promote);
    world.run(1);
    assert_eq!(world.ended_actions.last(), Some(&("in time".to_owned(), true)));
}

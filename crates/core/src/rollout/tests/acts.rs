//! What people asked for between two attempts, and how long it is kept.

use super::world::World;
use crate::observed::Action;
use crate::state::{Act, MAX_ACT_TEXT, MAX_ACTS, State};

fn names(world: &World) -> Vec<(&str, bool)> {
    let acts = world.state.acts.iter();
    acts.map(|act| (act.name.as_str(), act.told)).collect()
}

fn begin(world: &mut World, revision: &str) {
    world.update(revision);
    world.run(2);
    let attempt = world.state.attempt.as_ref();
    assert!(
        attempt.is_some_and(|a| a.revision == revision.into()),
        "{:?}",
        world.last
    );
}

#[test]
fn what_was_asked_for_between_attempts_is_kept_until_the_record_after_the_next() {
    let mut world = World::with_stable();
    world.act("early", Action::Promote);
    world.run(1);
    world.act("again", Action::Restart);
    world.run(1);
    let act = |world: &World, name: &str| -> Act {
        world.state.acts.iter().find(|a| a.name == name).unwrap().clone()
    };
    assert!(!act(&world, "early").applied && act(&world, "early").message.contains("no attempt"));
    assert!(act(&world, "again").applied && act(&world, "again").message.contains("one after the other"));
    world.run(300);
    // What it came to is told as well.
    assert!(
        act(&world, "again")
            .message
            .contains("no pod of revision v1 is left")
    );
    assert_eq!(names(&world), [("early", false), ("again", false)]);
    begin(&mut world, "v2");
    assert_eq!(names(&world), [("early", true), ("again", true)]);
    // The record of an attempt has what was asked for while it ran.
    world.act("stop", Action::Abort);
    world.run(300);
    assert!(world.state.attempt.is_none());
    world.act("late", Action::Abort);
    world.run(1);
    assert_eq!(names(&world), [("early", true), ("again", true), ("late", false)]);
    begin(&mut world, "v3");
    assert_eq!(names(&world), [("late", true)]);
}

#[test]
fn what_begins_an_attempt_is_that_attempts() {
    let mut world = World::with_stable();
    begin(&mut world, "v2");
    world.act("stop", Action::Abort);
    world.run(300);
    world.act("retry", Action::Retry);
    world.run(2);
    assert!(world.state.attempt.is_some());
    assert_eq!(names(&world), []);
}

#[test]
fn a_restart_that_an_attempt_stops_is_told_with_its_end() {
    let mut world = World::with_stable();
    world.act("again", Action::Restart);
    world.run(1);
    begin(&mut world, "v2");
    let act = &world.state.acts[0];
    assert!(act.told && act.message.contains("begins"), "{act:?}");
}

#[test]
fn only_the_newest_are_kept_and_long_words_are_cut() {
    let mut world = World::with_stable();
    for number in 0..40 {
        world.act(&format!("act-{number}"), Action::Promote);
        let asked = world.actions.last_mut().unwrap();
        asked.reason = "ä".repeat(1000);
        asked.requested_by = "u".repeat(2000);
        world.run(1);
    }
    assert_eq!(world.state.acts.len(), MAX_ACTS);
    let last = world.state.acts.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.reason.chars().count()),
        ("act-39", MAX_ACT_TEXT)
    );
    assert_eq!(last.requested_by.chars().count(), 253);
    let text = serde_json::to_string(&world.state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&text).unwrap(), world.state);
    // One of before this was kept has none.
    let older: State = serde_json::from_str(r#"{"stable": "v1"}"#).unwrap();
    assert!(older.acts.is_empty());
}

//! Thousands of old revisions.

use jiff::SignedDuration;

use super::world::{Set, World};
use crate::decision::Effect;
use crate::plan::Revision;

#[test]
fn ten_thousand_old_revisions_go_a_few_at_a_time_the_oldest_first() {
    let mut world = World::with_stable();
    world.run(60);
    for n in 0..10_000i64 {
        let set = Set {
            created_at: world.now.checked_sub(SignedDuration::from_secs(n + 1)).ok(),
            ..Set::default()
        };
        world.sets.insert(Revision(format!("old{n:05}")), set);
    }
    let decision = world.turn(usize::MAX);
    let deleted: Vec<&str> = decision
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::DeleteRevision { revision } => Some(revision.0.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted.len(), decision.effects.len());
    assert!(!deleted.is_empty() && deleted.len() <= 50, "{}", deleted.len());
    assert_eq!(deleted[0], "old09999", "the oldest first");
    let mut turns = 1;
    while world.sets.len() > 1 + world.plan.revision_history_limit {
        assert!(!world.turn(usize::MAX).effects.is_empty(), "it goes on by itself");
        turns += 1;
        assert!(turns <= 1000);
    }
    assert!(
        world.sets.contains_key(&Revision::from("old00000")),
        "the newest stay"
    );
    assert!(world.turn(usize::MAX).effects.is_empty());
}

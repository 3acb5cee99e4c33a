//! Each weight is looked at before the next one.

use jiff::Timestamp;
use proptest::prelude::*;

use super::world::World;
use crate::decision::Phase;
use crate::plan::Step;
use crate::state::Stage;

/// Lives through a rollout of `v2` by these steps; every weight that it left and how many whole blocks had been
/// read with it in force by then.
fn looked_at(steps: Vec<Step>) -> Vec<(u8, usize)> {
    let mut world = World::with_stable();
    world.plan.steps = steps;
    world.update("v2");
    let block = world.plan.block;
    let (mut weights, mut blocks) = (Vec::new(), 0);
    let mut in_force: Option<(u8, Timestamp)> = None;
    for _ in 0..1500 {
        world.run(1);
        let at_route = world.weight("v2");
        for verdict in &world.last.as_ref().unwrap().report.verdicts {
            let whole = in_force.is_some_and(|(weight, since)| {
                weight == verdict.weight && verdict.at.duration_since(since) >= block
            });
            blocks += usize::from(whole);
        }
        if let Some((weight, _)) = in_force
            && at_route > weight
        {
            weights.push((weight, blocks));
            (blocks, in_force) = (0, None);
        }
        if at_route > 0 && world.acknowledged && in_force.is_none() {
            in_force = Some((at_route, world.now));
        }
        let stage = world.state.attempt.as_ref().map(|a| a.stage.clone());
        if matches!(stage, Some(Stage::Baking { .. })) {
            return weights;
        }
    }
    panic!("it never got all traffic: {:?}", world.last);
}

#[test]
fn steps_without_a_pause_are_looked_at_one_by_one() {
    let steps = [10, 20, 50].map(Step::SetWeight).to_vec();
    let weights = looked_at(steps);
    assert_eq!(
        weights.iter().map(|(weight, _)| *weight).collect::<Vec<_>>(),
        [10, 20, 50]
    );
    assert!(weights.iter().all(|(_, blocks)| *blocks >= 1), "{weights:?}");
}

#[test]
fn a_pause_that_is_long_enough_for_a_block_is_not_prolonged() {
    let mut world = World::with_stable();
    world.plan.steps = vec![
        Step::SetWeight(10),
        Step::Dwell(60),
        Step::SetWeight(25),
        Step::Dwell(30),
        Step::SetWeight(50),
        Step::Dwell(30),
    ];
    world.update("v2");
    while world.weight("v2") == 0 {
        world.run(1);
    }
    let first = world.now;
    while world.state.attempt.as_ref().is_some_and(|a| a.weight < 100) {
        world.run(1);
    }
    let took = world.now.duration_since(first).as_secs();
    // Two minutes of pauses, and a few seconds for the router and for pods to start.
    assert!((120..=132).contains(&took), "{took} s");
    assert!(world.run_until(Phase::Healthy, 200), "{:?}", world.last);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_weight_is_left_before_a_whole_block_was_read_with_it(
        raises in prop::collection::vec((1u8..25, prop::option::of(0u32..40)), 1..4),
    ) {
        let mut weight = 0;
        let mut steps = Vec::new();
        for (by, dwell) in raises {
            weight += by;
            steps.push(Step::SetWeight(weight));
            steps.extend(dwell.map(Step::Dwell));
        }
        for (weight, blocks) in looked_at(steps) {
            prop_assert!(blocks >= 1, "{weight} %");
        }
    }
}

//! Lives without planted mistakes: nothing is broken, and a seed tells the same story each time.

use molt_sim_cluster::faults::{Fault, Kind};
use molt_sim_cluster::life::live_with;
use molt_sim_cluster::sweep::sweep;
use molt_sim_cluster::{Planted, live};

/// Rollouts in each life.
const ROLLOUTS: usize = 4;

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in [1, 2, 3] {
        let [a, b] = [(); 2].map(|()| live(seed, ROLLOUTS, &Planted::default()).log.join("\n"));
        let at = a.lines().zip(b.lines()).find(|(a, b)| a != b);
        assert_eq!(a, b, "seed {seed} differs first at {at:?}");
    }
}

#[test]
fn nothing_is_broken_in_lives_of_known_seeds() {
    let summary = sweep(0..16, ROLLOUTS, 2, &Planted::default());
    println!("{}", summary.line());
    let failed: Vec<_> = summary
        .failed
        .iter()
        .map(|(seed, o)| (seed, &o.violations))
        .collect();
    assert!(
        failed.is_empty(),
        "replay with `make sim SEEDS=<seed>`: {failed:#?}"
    );
}

/// A pod that becomes ready is written into the status, so that nothing is at rest before it is.
#[test]
fn a_service_is_not_at_rest_while_a_pod_starts_slowly() {
    let at = |after, kind, size| Fault {
        rollout: 0,
        after,
        kind,
        size,
    };
    for seed in 0..24 {
        let faults = vec![at(120_000, Kind::SlowStart, 39), at(128_000, Kind::Scaled, 4)];
        let outcome = live_with(seed, 1, faults, &Planted::default());
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}: {:?}",
            outcome.violations
        );
    }
}

/// The fix is pushed while users are on their way back, or have just come back (ADR 44).
#[test]
fn a_fix_that_is_pushed_in_an_undo_turns_nobody_around() {
    for seed in 0..16 {
        let undo = |after| Fault {
            rollout: 0,
            after,
            kind: Kind::Undo,
            size: 9_000,
        };
        let faults = vec![undo(100_000), undo(140_000), undo(180_000)];
        let outcome = live_with(seed, 1, faults, &Planted::default());
        assert!(
            outcome.violations.is_empty(),
            "seed {seed}: {:?}",
            outcome.violations
        );
    }
}

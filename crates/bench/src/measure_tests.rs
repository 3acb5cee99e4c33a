use super::*;
use crate::cases::CASES;

#[test]
fn wilsons_interval_is_that_of_the_tables() {
    let close = |got: (f64, f64), want: (f64, f64)| {
        assert!(
            (got.0 - want.0).abs() < 1e-4 && (got.1 - want.1).abs() < 1e-4,
            "{got:?}"
        );
    };
    // Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    close(wilson(81, 263), (0.2553, 0.3662));
    close(wilson(15, 148), (0.0624, 0.1605));
    close(wilson(0, 20), (0.0, 0.1611));
    close(wilson(1, 29), (0.0061, 0.1718));
}

#[test]
fn those_never_found_count_in_the_median() {
    let outcome = Outcome {
        runs: 4,
        false_rollbacks: 1,
        promoted: 0,
        found: vec![30, 60],
    };
    assert_eq!((outcome.found_by(0.5), outcome.found_by(0.75)), (Some(60), None));
    assert_eq!(Outcome::default().found_by(0.5), None);
}

#[test]
fn work_comes_back_in_order() {
    assert_eq!(
        parallel(1000, |i| i * i),
        (0..1000).map(|i| i * i).collect::<Vec<_>>()
    );
    assert_eq!(parallel(0, |i| i), Vec::<usize>::new());
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let contenders = [
        Contender::Molt(molt_core::analysis::Past::default()),
        Contender::Flagger(flagger::Settings::DOCUMENTED),
    ];
    let go = |seed| measure(&CASES[0], &contenders, 60, seed, 0);
    assert_eq!(go(1), go(1));
    assert_ne!(go(1), go(2));
    assert!(
        go(1)
            .iter()
            .all(|outcome| outcome.runs == 60 && outcome.found.is_sorted())
    );
}

#[test]
fn each_purpose_has_seeds_of_its_own() {
    let mut all: Vec<u64> = (0..30)
        .flat_map(|p| (0..100).map(move |run| seed(1, p, run)))
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3000);
}

/// The table's first case, as the design has it: below 1 %, and found within two minutes.
#[test]
fn molt_finds_harm_and_leaves_healthy_canaries_alone() {
    let outcome = &measure(
        &CASES[0],
        &[Contender::Molt(molt_core::analysis::Past {
            correlation: Some(0.0),
            ..Default::default()
        })],
        300,
        1,
        0,
    )[0];
    assert!(outcome.false_rollbacks <= 9, "{outcome:?}");
    assert!(
        outcome.found_by(0.5).is_some_and(|seconds| seconds <= 120),
        "{:?}",
        outcome.found_by(0.5)
    );
}

#[test]
fn longer_blocks_are_judged_at_their_ends() {
    let outage = crate::cases::CASES
        .into_iter()
        .find(|case| case.name.starts_with("outage, errors"))
        .unwrap();
    let both = [
        Contender::Molt(molt_core::analysis::Past::default()),
        Contender::MoltInLongBlocks(molt_core::analysis::Past::default()),
    ];
    let outcomes = measure(&outage, &both, 20, 1, 0);
    assert_eq!(outcomes[0].found_by(0.5), Some(15));
    assert_eq!(outcomes[1].found_by(0.5), Some(30));
}

//! A canary's share of the answers.

use proptest::prelude::*;

use super::*;

const WEIGHTS: [f64; 4] = [0.05, 0.1, 0.5, 0.9];

/// The mean, over all outcomes of a block of `n` answers, of what evidence makes of it, for a canary that
/// answers this part of what is due to it.
fn mean(n: i32, due: f64, part: f64, evidence: impl Fn(Answers) -> f64) -> f64 {
    let share = answers(due, part);
    let (mut mean, mut ways) = (0.0, 1.0);
    for k in 0..=n {
        if k > 0 {
            ways *= f64::from(n - k + 1) / f64::from(k);
        }
        let (canary, stable) = (f64::from(k), f64::from(n - k));
        mean += ways * share.powi(k) * (1.0 - share).powi(n - k) * evidence(Answers { canary, stable, due });
    }
    mean
}

/// What a block makes of the whole stake.
fn short(block: Answers) -> f64 {
    let mut short = Short::default();
    short.absorb(block, 0.0);
    short.ln().unwrap().exp()
}

#[test]
fn four_fifths_are_no_evidence_in_the_mean_and_more_are_none_either() {
    for due in WEIGHTS {
        let fair = mean(12, due, SHORT, short);
        assert!((fair - 1.0).abs() < 1e-9, "{due}: {fair}");
        let fair = mean(12, due, ENOUGH, |block| block.ln_enough().exp());
        assert!((fair - 1.0).abs() < 1e-9, "{due}: {fair}");
        for part in [0.85, 1.0, 1.5] {
            assert!(mean(12, due, part, short) < 1.0, "{due} {part}");
        }
        for part in [0.0, 0.3, 0.76] {
            let enough = mean(12, due, part, |block| block.ln_enough().exp());
            assert!(enough < 1.0, "{due} {part}");
        }
        // One that answers all of it is seldom taken for short: the inverse is fair to it.
        let fair = mean(12, due, 1.0, |block| (-block.ln_enough()).exp());
        assert!((fair - 1.0).abs() < 1e-9, "{due}: {fair}");
        for (part, grows) in [(SHORT, false), (0.9, true), (1.0, true)] {
            let growth = mean(12, due, part, Answers::ln_enough);
            assert_eq!(growth > 0.0, grows, "{due} {part}: {growth}");
        }
    }
}

/// Blocks in which the canary's share is this many standard deviations off, in turns.
fn scattered(deviations: f64, blocks: u32) -> Scatter {
    let (n, due) = (300.0, 0.1);
    let off = deviations * f64::sqrt(n * due * (1.0 - due));
    let mut scatter = Scatter::default();
    for block in 0..blocks {
        let canary = if block % 2 == 0 {
            n * due + off
        } else {
            n * due - off
        };
        let stable = n - canary;
        scatter.absorb(Answers { canary, stable, due }, due);
    }
    scatter
}

#[test]
fn a_share_that_scatters_more_is_worth_less() {
    // Independent requests differ by a variance of two between blocks: a deviation of 0.71 each.
    assert!((scattered(std::f64::consts::FRAC_1_SQRT_2, 200).factor() - 1.0).abs() < 0.02);
    let twofold = scattered(2.0, 200).factor();
    assert!((7.0..8.5).contains(&twofold), "{twofold}");
    // A share that is small in every block scatters no more for it.
    let mut scatter = Scatter::default();
    for _ in 0..50 {
        let block = Answers {
            canary: 10.0,
            stable: 290.0,
            due: 0.1,
        };
        scatter.absorb(block, 0.1);
    }
    assert!(scatter.factor() <= 1.0);
}

#[test]
fn a_block_is_weighed_by_those_before_it() {
    let mut scatter = scattered(2.0, 40);
    let factor = scatter.factor();
    let block = Answers {
        canary: 300.0,
        stable: 0.0,
        due: 0.1,
    };
    let worth = scatter.absorb(block, 0.1);
    assert!((worth.canary - 300.0 / factor).abs() < 1e-9);
    // What two weights bring is no scatter.
    let before = scatter.factor();
    scatter.absorb(block, 0.5);
    assert!((scatter.factor() - before).abs() < 1e-12);
}

proptest! {
    #[test]
    fn what_comes_back_from_a_status_is_the_same(
        blocks in prop::collection::vec((0.0..1e9f64, 1e-3..1e9f64), 0..30),
        weight in 1..100u8,
    ) {
        let weight = f64::from(weight) / 100.0;
        let (mut scatter, mut short) = (Scatter::default(), Short::default());
        for (canary, stable) in blocks {
            let worth = scatter.absorb(Answers { canary, stable, due: weight }, weight);
            short.absorb(worth, -1.0);
        }
        prop_assert!(scatter.factor().is_finite() && short.ln().is_none_or(f64::is_finite));
        let text = serde_json::to_string(&(&scatter, short)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Scatter, Short)>(&text).unwrap(), (scatter, short));
    }
}

use super::*;
use proptest::prelude::*;

fn counts(total: u32, bad: u32) -> Counts {
    Counts::new(f64::from(total), f64::from(bad)).unwrap()
}

/// The products after blocks of `(n_c, e_c, n_p, e_p)`.
fn after(blocks: &[[u32; 4]]) -> HarmBets {
    let mut bets = HarmBets::default();
    let (mut canary_before, mut before) = (Counts::default(), Counts::default());
    for [n_c, e_c, n_p, e_p] in blocks {
        let (canary, now) = (counts(*n_c, *e_c), counts(*n_p, *e_p));
        bets.absorb(canary, canary_before, Beside::Stable { now, before }, None);
        canary_before = canary_before.plus(canary);
        before = before.plus(now);
    }
    bets
}

#[test]
fn vectors_of_the_mixture() {
    let blocks = [
        [30, 0, 270, 3],
        [31, 1, 265, 2],
        [28, 2, 272, 4],
        [30, 3, 268, 1],
        [29, 2, 271, 3],
    ];
    let cumulative = [
        -0.998_151_08,
        -0.693_557_49,
        0.202_382_00,
        2.987_924_88,
        4.464_674_48,
    ];
    for (last, wanted) in cumulative.into_iter().enumerate() {
        let ln = after(&blocks[..=last]).ln_from_start();
        assert!((ln - wanted).abs() < 1e-8, "{ln} is not {wanted}");
    }
}

#[test]
fn nothing_is_known_at_the_start() {
    assert!(HarmBets::default().ln_from_start().abs() < 1e-12);
    assert!(HarmBets::default().ln_total().abs() < 1e-12);
    assert!((STAKES.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    // A block without a canary request says nothing, and the stakes sum to what was put in.
    let idle = after(&[[0, 0, 270, 3]; 1000]);
    assert!(idle.ln_from_start().abs() < 1e-12);
    assert!(idle.ln_total().abs() < 1e-9, "{}", idle.ln_total());
}

#[test]
fn late_harm_is_seen_soon_although_the_canary_was_healthy_for_an_hour() {
    let mut blocks = vec![[30, 0, 270, 3]; 240];
    blocks.extend([[30, 6, 270, 3]; 8]);
    let bets = after(&blocks);
    assert!(bets.ln_total() > 100f64.ln(), "{}", bets.ln_total());
    assert!(bets.ln_from_start() < 0.0, "{}", bets.ln_from_start());
}

#[test]
fn no_harm_costs_much_for_the_stakes_on_others() {
    // The least stake is three hundredths, of nine tenths.
    for bad in [2, 5, 10, 20, 30] {
        let bets = after(&[[30, bad, 270, 3]; 4]);
        let cost = bets.ln_from_start() - bets.ln_total();
        assert!(cost <= -(0.9f64 * 0.03 / 0.1).ln() + 1e-12, "{bad}: {cost}");
    }
}

fn choose(n: u32, k: u32) -> f64 {
    (0..k).fold(1.0, |all, i| all * f64::from(n - i) / f64::from(i + 1))
}

fn binomial(n: u32, k: u32, p: f64) -> f64 {
    choose(n, k) * p.powi(k.cast_signed()) * (1.0 - p).powi((n - k).cast_signed())
}

/// `Σ P·E` over every outcome of two blocks in which both arms have the rate `p`, or stable a higher one.
fn expectation(n_c: u32, n_p: u32, p_c: f64, p_p: f64, value: fn(&HarmBets) -> f64) -> f64 {
    let mut sum = 0.0;
    for a in 0..=n_c {
        for b in 0..=n_p {
            for c in 0..=n_c {
                for d in 0..=n_p {
                    let chance = binomial(n_c, a, p_c)
                        * binomial(n_p, b, p_p)
                        * binomial(n_c, c, p_c)
                        * binomial(n_p, d, p_p);
                    sum += chance * value(&after(&[[n_c, a, n_p, b], [n_c, c, n_p, d]])).exp();
                }
            }
        }
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The guarantee itself, by exact enumeration: no bettor gains on a canary that is no worse.
    #[test]
    fn the_evidence_is_a_supermartingale(
        n_c in 1..4u32, n_p in 1..6u32, p in 0.0..=1.0f64, better in 0.0..=1.0f64,
    ) {
        for value in [HarmBets::ln_from_start as fn(&HarmBets) -> f64, HarmBets::ln_total] {
            let e = expectation(n_c, n_p, p * better, p, value);
            prop_assert!(e <= 1.0 + 1e-9, "{e}");
        }
    }

    #[test]
    fn a_restart_changes_no_bit(blocks in prop::collection::vec((0..500u32, 0..500u32, 0..500u32, 0..500u32), 0..30)) {
        let blocks: Vec<_> = blocks.into_iter().map(|(a, b, c, d)| [a, b, c, d]).collect();
        let bets = after(&blocks);
        let text = serde_json::to_string(&bets).unwrap();
        prop_assert_eq!(serde_json::from_str::<HarmBets>(&text).unwrap(), bets.clone());
        prop_assert!(bets.ln_total().is_finite() && bets.ln_from_start().is_finite());
    }
}

//! Whether the canary answers.

use super::*;
use proptest::prelude::*;

/// A block of 15 s under a weight that has settled.
fn take(exposure: &mut Exposure, canary: f64, stable: f64, weight: f64, at_route: Option<AtRoute>) {
    exposure.absorb(canary, stable, weight, 15.0, at_route);
    exposure.weigh(canary, stable, weight, at_route);
}

fn after(blocks: &[(f64, f64)], weight: f64) -> Exposure {
    let mut exposure = Exposure::default();
    for (canary, stable) in blocks {
        take(&mut exposure, *canary, *stable, weight, None);
    }
    exposure
}

#[test]
fn a_canary_that_never_answers_is_known_within_two_blocks() {
    // 20 requests a second at a weight of 5 %, blocks of 15 s: 30 s.
    let silent = after(&[(0.0, 285.0); 2], 0.05);
    assert!(silent.ln_silent() > 100f64.ln(), "{}", silent.ln_silent());
    // With blocks of 30 s, one is enough; of 15 s none is, however many requests it has: one of several workers that
    // had none yet may have answered both of its scrapes.
    let mut long = Exposure::default();
    long.absorb(0.0, 570.0, 0.05, 30.0, None);
    assert!(long.ln_silent() > 100f64.ln());
    assert_eq!(after(&[(0.0, 570.0)], 0.05).ln_silent().to_bits(), 0);
}

#[test]
fn a_canary_that_stops_answering_is_known_within_two_blocks() {
    let mut blocks = vec![(30.0, 270.0); 200];
    blocks.extend([(0.0, 270.0); 2]);
    let stopped = after(&blocks, 0.1);
    assert!(stopped.ln_silent() > 100f64.ln(), "{}", stopped.ln_silent());
    blocks.push((1.0, 270.0));
    assert_eq!(after(&blocks, 0.1).ln_silent().to_bits(), 0);
}

#[test]
fn a_few_requests_may_all_go_to_stable() {
    // 15 requests a block at 5 %: less than one was due in each.
    assert!(after(&[(0.0, 15.0); 4], 0.05).ln_silent() < 100f64.ln());
}

#[test]
fn callers_past_the_route_hold_a_step_and_blame_nobody() {
    // A canary at 10 % that sees a tenth of its share.
    let diluted = after(&[(3.0, 297.0); 40], 0.1);
    assert_eq!(diluted.ln_silent().to_bits(), 0);
    assert!((diluted.disagrees().unwrap() - 0.1).abs() < 1e-12);
    assert_eq!(after(&[(30.0, 270.0); 40], 0.1).disagrees(), None);
    assert!(after(&[(90.0, 210.0); 40], 0.1).disagrees().unwrap() > 2.0);
}

/// Blocks of what was sent to both and answered by both, counted at the route.
fn at_route(blocks: &[[f64; 4]], weight: f64) -> Exposure {
    let mut exposure = Exposure::default();
    for [sent_canary, sent_stable, canary, stable] in blocks {
        let sent = Some((*sent_canary, *sent_stable));
        take(&mut exposure, *canary, *stable, weight, Some(AtRoute { sent }));
    }
    exposure
}

#[test]
fn a_third_of_the_answers_is_harm_at_the_route_and_blames_nobody_at_the_pods() {
    let short = at_route(&[[60.0, 540.0, 20.0, 540.0]; 5], 0.1);
    assert!(short.ln_short().unwrap() > 1000f64.ln(), "{short:?}");
    assert_eq!(after(&[(20.0, 540.0); 4], 0.1).ln_short(), None);
    // Late, after hours of good answers, it is found as well.
    let mut blocks = vec![[60.0, 540.0, 60.0, 540.0]; 400];
    assert!(at_route(&blocks, 0.1).ln_short().unwrap() < 0.0);
    blocks.extend([[60.0, 540.0, 20.0, 540.0]; 10]);
    assert!(at_route(&blocks, 0.1).ln_short().unwrap() > 1000f64.ln());
}

#[test]
fn what_the_proxies_send_is_what_is_due() {
    // Sessions stick to stable: the canary gets a tenth of its weight, and answers all of it.
    let sticky = at_route(&[[6.0, 594.0, 6.0, 594.0]; 40], 0.1);
    assert!(sticky.ln_short().unwrap() < 0.0 && sticky.disagrees().is_some());
    // Nothing is sent to it, so nothing is missing.
    let idle = at_route(&[[0.0, 600.0, 0.0, 600.0]; 40], 0.1);
    assert_eq!((idle.ln_short(), idle.ln_silent().to_bits()), (None, 0));
    // One block is enough where it answers nothing.
    let hangs = at_route(&[[60.0, 540.0, 0.0, 540.0]], 0.1);
    assert!(hangs.ln_short().unwrap() > 200f64.ln() && hangs.ln_silent() > 200f64.ln());
    // Without what was sent the weight says it.
    let mut exposure = Exposure::default();
    take(&mut exposure, 10.0, 540.0, 0.1, Some(AtRoute::default()));
    take(&mut exposure, 10.0, 540.0, 0.1, Some(AtRoute::default()));
    assert!(exposure.ln_short().unwrap() > 100f64.ln());
}

#[test]
fn a_silence_is_heard_in_a_block_in_which_the_weight_rises() {
    let mut exposure = after(&[(60.0, 540.0); 2], 0.1);
    // It rises from 10 % to 25 %: a canary that answers has 54 of 540 at the least.
    exposure.hear(0.0, 540.0, 0.1, None);
    assert!(exposure.ln_silent() > 100f64.ln(), "{}", exposure.ln_silent());
    exposure.hear(1.0, 540.0, 0.1, None);
    assert!(exposure.ln_silent() <= 0.0, "one answer ends it");
}

proptest! {
    #[test]
    fn what_is_sent_keeps_the_evidence_finite(
        blocks in prop::collection::vec([0.0..1e9f64, 0.0..1e9f64, 0.0..1e9f64, 0.0..1e9f64], 0..30),
        weight in 1..100u8,
    ) {
        let exposure = at_route(&blocks, f64::from(weight) / 100.0);
        prop_assert!(exposure.ln_short().is_none_or(f64::is_finite) && exposure.ln_silent().is_finite());
        let text = serde_json::to_string(&exposure).unwrap();
        prop_assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), exposure);
    }

    #[test]
    fn the_evidence_stays_finite_and_comes_back(
        blocks in prop::collection::vec((prop_oneof![Just(0.0), 0.0..1e9f64], 0.0..1e9f64), 0..50),
        weight in 1..100u8,
    ) {
        let exposure = after(&blocks, f64::from(weight) / 100.0);
        prop_assert!(exposure.ln_silent().is_finite() && exposure.ln_below.is_finite());
        let text = serde_json::to_string(&exposure).unwrap();
        prop_assert_eq!(serde_json::from_str::<Exposure>(&text).unwrap(), exposure);
    }
}

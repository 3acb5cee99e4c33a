//! What begins while the canary has all the traffic: harm of its own, and incidents of both.

mod support;

use molt_sim::{Outcome, Run, Setup, run, study};

use support::setup;

/// In the middle of the bake: its four steps last a minute each at least, and the bake five.
const IN_THE_BAKE: &str = "400s";

/// When a transition with this reason was, in seconds.
fn time_of(run: &Run, reason: &str) -> Option<f64> {
    let transition = run.timeline.transitions.iter().find(|t| t.reason == reason);
    transition.map(molt_sim::TransitionEntry::seconds)
}

/// A service of 50 requests a second.
fn given(scenario: &str) -> Setup {
    setup("errors=0.1%", scenario, 50.0)
}

#[test]
fn errors_that_begin_in_the_bake_interrupt_it_and_are_rolled_back() {
    let setup = given(&format!("errors=20%@{IN_THE_BAKE}"));

    let run = run(&setup, 1);

    assert_eq!(
        run.summary.outcome,
        Outcome::RolledBack,
        "{}",
        run.summary.message
    );
    let baked = time_of(&run, "BakeStarted").unwrap();
    let interrupted = time_of(&run, "BakeInterrupted").unwrap();
    assert!(baked < 400.0, "{baked}");
    // A block of 30 s shows it, which ends at most 30 s after it begins and is read at once.
    assert!((400.0..=475.0).contains(&interrupted), "{interrupted}");
    let before = run.timeline.blocks.iter().filter(|block| block.t < 400.0);
    let (requests, bad) = before.fold((0.0, 0.0), |(requests, bad), block| {
        (requests + block.canary.total, bad + block.canary.bad)
    });
    assert!(requests > 1000.0 && bad / requests < 0.005, "{bad} of {requests}");

    let all = study(&setup, 100, 1);
    assert_eq!(all.outcomes[&Outcome::RolledBack], 100, "{all:?}");
}

#[test]
fn the_suspicion_is_told_while_the_bake_lasts_and_the_harm_beside_stable_stays_as_it_was() {
    let run = run(&given(&format!("errors=20%@{IN_THE_BAKE}")), 1);

    let baked = time_of(&run, "BakeStarted").unwrap();
    let interrupted = time_of(&run, "BakeInterrupted").unwrap();
    for block in &run.timeline.blocks {
        let is_alone = block.t > baked && block.t <= interrupted;
        assert_eq!(block.evidence.suspicion.is_some(), is_alone, "{block:?}");
    }
    let alone: Vec<_> = (run.timeline.blocks.iter())
        .filter(|block| block.evidence.suspicion.is_some())
        .collect();
    let [.., before, last] = alone[..] else {
        panic!("{alone:?}")
    };
    // That of the block that interrupted is told too, though it is set aside in the same moment.
    assert!(last.evidence.suspicion >= Some(100f64.ln()), "{last:?}");
    assert!(before.evidence.suspicion < Some(100f64.ln()), "{before:?}");
    assert!(last.verdict != "RollBack");
    // Nothing of it is bet on beside stable; that pods differ in the block in which it began may only take from that.
    assert!(
        (last.evidence.harm - before.evidence.harm).abs() < 1e-9,
        "{before:?} {last:?}"
    );
    let (then, now) = (before.evidence.deciding_harm, last.evidence.deciding_harm);
    assert!(now <= then && now * then >= 0.0, "{before:?} {last:?}");
}

#[test]
fn harm_that_begins_late_is_not_there_before() {
    let shares = |scenario: &str| {
        let setup = given(scenario);
        let (mut requests, mut failed) = (0, 0);
        for seed in 0..10 {
            let canary = run(&setup, seed).summary.canary;
            requests += canary.requests;
            failed += canary.failed;
        }
        failed as f64 / requests as f64
    };
    // Later than the rollout lasts.
    for scenario in ["errors=20%@1h", "hang=100%@1h"] {
        let share = shares(scenario);
        assert!(share < 0.002, "{scenario}: {share}");
    }
    let run = run(&given(&format!("hang=100%@{IN_THE_BAKE}")), 1);
    assert!(
        time_of(&run, "BakeInterrupted").is_some(),
        "{}",
        run.summary.message
    );
    assert_eq!(
        run.summary.outcome,
        Outcome::RolledBack,
        "{}",
        run.summary.message
    );
}

#[test]
fn two_incidents_leave_a_healthy_canary_promoted() {
    // One in the steps, one in the bake.
    let setup = given("incident=10x@120s+60s,incident=10x@400s+60s");

    let all = study(&setup, 100, 1);

    assert!(all.outcomes[&Outcome::Promoted] >= 99, "{all:?}");
    // Stable and canary both fail more often in the first.
    let blocks = run(&setup, 1).timeline.blocks;
    let rate_in = |from: f64, to: f64| {
        let (requests, bad) = (blocks
            .iter()
            .filter(|block| block.t - 30.0 >= from && block.t <= to))
        .map(|block| {
            (
                block.canary.total + block.stable.total,
                block.canary.bad + block.stable.bad,
            )
        })
        .fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        bad / requests
    };
    assert!(rate_in(120.0, 190.0) > 4.0 * rate_in(190.0, 390.0).max(0.001));
    assert!(rate_in(400.0, 470.0) > 4.0 * rate_in(190.0, 390.0).max(0.001));
}

//! The state machine driven by recorded counts.

mod support;

use molt_sim::Outcome;
use molt_sim::replay::{Recording, Replay, replay};
use proptest::prelude::*;

use support::plan;

/// One block: the canary's requests and bad ones, then stable's.
type Counts = (u32, u32, u32, u32);

fn lines(blocks: &[Counts]) -> String {
    let line = |(index, (n_c, e_c, n_p, e_p)): (usize, &Counts)| {
        let t = (index + 1) * 15;
        format!(
            r#"{{"t":{t},"slo":"availability","stable":{{"total":{n_p},"bad":{e_p}}},"canary":{{"total":{n_c},"bad":{e_c}}}}}"#
        )
    };
    blocks.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn replayed(text: &str) -> Replay {
    let recording = Recording::parse(text, &["availability"]).unwrap();
    replay(&plan(&[("availability", "99.9")]), &recording, None).unwrap()
}

/// The reference vector of the mixture of ten bets.
const HARM: [f64; 5] = [
    -0.998_151_08,
    -0.693_557_49,
    0.202_382_00,
    2.987_924_88,
    4.464_674_48,
];

#[test]
fn the_reference_blocks_have_the_reference_evidence() {
    let blocks = [
        (30, 0, 270, 3),
        (31, 1, 265, 2),
        (28, 2, 272, 4),
        (30, 3, 268, 1),
        (29, 2, 271, 3),
    ];
    let replay = replayed(&lines(&blocks));
    let times: Vec<f64> = replay.timeline.blocks.iter().map(|b| b.t).collect();
    assert_eq!(times, [15.0, 30.0, 45.0, 60.0, 75.0]);
    let harm: Vec<f64> = replay.timeline.blocks.iter().map(|b| b.evidence.harm).collect();
    for (got, want) in harm.iter().zip(HARM) {
        assert!((got - want).abs() < 1e-7, "{harm:?}");
    }
    let json = serde_json::to_value(&replay).unwrap();
    assert_eq!(json["timeline"][1]["canary"]["total"], 31.0);
    assert!(json["timeline"][4]["evidence"]["safe"].is_f64());
    assert_eq!(json["timeline"][0]["verdict"], "Safe");
    assert!(json["outcome"].is_string());
}

#[test]
fn a_healthy_recording_is_promoted_and_a_bad_one_rolled_back() {
    let healthy = replayed(&lines(&[(300, 0, 300, 0); 60]));
    assert_eq!(healthy.outcome, Outcome::Promoted, "{}", healthy.message);
    let weights: Vec<u8> = healthy.timeline.blocks.iter().map(|b| b.weight).collect();
    assert!(weights.is_sorted() && weights.ends_with(&[100]));
    // Four minutes of steps and five of bake.
    assert!((36..=40).contains(&weights.len()), "{}", weights.len());
    assert_eq!(healthy.unused_blocks, 60 - weights.len());

    let bad = replayed(&lines(&[(300, 150, 300, 0); 60]));
    assert_eq!(bad.outcome, Outcome::RolledBack, "{}", bad.message);
    assert_eq!(bad.unused_blocks, 59);
    assert_eq!(bad.timeline.blocks[0].verdict, "RollBack");
}

#[test]
fn a_recording_that_ends_too_soon_decides_nothing() {
    let short = replayed(&lines(&[(30, 0, 270, 0); 3]));
    assert_eq!(
        (short.outcome, short.reason.as_str()),
        (Outcome::Inconclusive, "RecordingEnded")
    );
    assert!(
        short.message.starts_with("the recording ends after 45 s"),
        "{}",
        short.message
    );
    assert_eq!(short.unused_blocks, 0);
}

#[test]
fn what_was_recorded_before_the_canarys_first_request_is_left_out() {
    // Half an hour of stable alone, longer than a rollout may wait for its pods; then a healthy release.
    let mut blocks = vec![(0, 0, 600, 1); 120];
    blocks.extend([(300, 0, 300, 0); 60]);
    for (at_once, name) in [(false, "steps"), (true, "at once")] {
        let recording = Recording::parse(&lines(&blocks), &["availability"]).unwrap();
        let mut plan = plan(&[("availability", "99.9")]);
        if at_once {
            (plan.at_once, plan.steps) = (true, Vec::new());
        }
        let late = replay(&plan, &recording, None).unwrap();
        assert_eq!(late.outcome, Outcome::Promoted, "{name}: {}", late.message);
        assert_eq!((late.begin, late.skipped_blocks), (1800.0, 120));
        assert_eq!(late.timeline.transitions[0].millis, 1_800_000);
        assert!((late.timeline.blocks[0].t - 1815.0).abs() < 1e-9);
        // It is the same rollout as without the time before.
        let recording = Recording::parse(&lines(&blocks[120..]), &["availability"]).unwrap();
        let early = replay(&plan, &recording, None).unwrap();
        assert_eq!((early.begin, early.skipped_blocks), (0.0, 0));
        let judged = |replay: &Replay| -> Vec<_> {
            let blocks = replay.timeline.blocks.iter();
            blocks
                .map(|b| (b.t - replay.begin, b.weight, b.evidence))
                .collect()
        };
        assert_eq!(judged(&late), judged(&early), "{name}");
    }
}

#[test]
fn a_canary_that_never_had_a_request_is_silent_from_the_start() {
    let silent = replayed(&lines(&[(0, 0, 600, 1); 10]));
    assert_eq!(silent.reason, "MissingResponses", "{}", silent.message);
    assert_eq!((silent.begin, silent.skipped_blocks), (0.0, 0));
    // One that had them and falls silent is so too.
    let mut blocks = vec![(30, 0, 570, 1); 3];
    blocks.extend([(0, 0, 600, 1); 20]);
    let fallen = replayed(&lines(&blocks));
    assert_eq!(fallen.reason, "MissingResponses", "{}", fallen.message);
}

#[test]
fn an_objective_that_was_not_recorded_promotes_nothing() {
    let text = lines(&[(300, 0, 300, 0); 80]);
    let slos = ["availability", "latency"];
    let recording = Recording::parse(&text, &slos).unwrap();
    let plan = plan(&[("availability", "99.9"), ("latency", "99")]);
    let replay = replay(&plan, &recording, None).unwrap();
    assert_ne!(replay.outcome, Outcome::Promoted, "{}", replay.message);
}

#[test]
fn a_rate_of_requests_says_how_much_budget_is_spent() {
    let text = lines(&[(30, 1, 270, 0); 2]);
    let recording = Recording::parse(&text, &["availability"]).unwrap();
    let plan = plan(&[("availability", "99.9")]);
    let spent = |rps| {
        let replay = replay(&plan, &recording, rps).unwrap();
        replay.timeline.blocks[0].budget_spent_percent
    };
    // One event of 0.001 × 20/s × 30 d.
    assert!((spent(Some(20.0)).unwrap() - 100.0 / 51_840.0).abs() < 1e-9);
    assert_eq!(spent(None), None);
    assert!(replay(&plan, &recording, Some(0.0)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Counts of every kind: the blocks that are judged come in order, and nothing is counted twice.
    #[test]
    fn every_recording_is_followed(
        blocks in prop::collection::vec((0u32..5000, 0u32..5000, 0u32..5000, 0u32..5000), 1..80),
    ) {
        let blocks: Vec<Counts> = blocks
            .into_iter()
            .map(|(n_c, e_c, n_p, e_p)| (n_c, e_c.min(n_c), n_p, e_p.min(n_p)))
            .collect();
        let replay = replayed(&lines(&blocks));
        let judged = &replay.timeline.blocks;
        prop_assert!(judged.windows(2).all(|pair| pair[0].t < pair[1].t));
        // Each time that a bake makes suspect, the block in which the comparison begins is left out.
        let left_out = blocks.len() - judged.len() - replay.unused_blocks - replay.skipped_blocks;
        let interrupted = replay.timeline.transitions.iter().filter(|e| e.reason == "BakeInterrupted");
        prop_assert!(left_out <= 2 * interrupted.count(), "{left_out}");
        let mut recorded = blocks.iter();
        for entry in judged {
            prop_assert!(recorded.any(|counts| entry.canary.total as u32 == counts.0));
            prop_assert!(!entry.evidence.harm.is_nan() && !entry.evidence.safe.is_nan());
        }
    }
}

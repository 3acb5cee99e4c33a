use super::*;
use crate::timeline::{CountsEntry, EvidenceEntry, TransitionEntry};

#[test]
fn every_line_is_named_and_nothing_lies_outside() {
    let block = |t: f64, harm: f64| BlockEntry {
        t,
        judged_at: t,
        slo: "a<b".to_owned(),
        weight: 5,
        stable: CountsEntry {
            total: 100.0,
            bad: 1.0,
        },
        canary: CountsEntry { total: 0.0, bad: 0.0 },
        evidence: EvidenceEntry {
            harm,
            deciding_harm: harm,
            safe: f64::NEG_INFINITY,
            suspicion: None,
        },
        verdict: "Continue".to_owned(),
        budget_spent_percent: None,
    };
    let timeline = Timeline {
        blocks: vec![block(30.0, 0.0), block(60.0, 1e300), block(90.0, f64::NAN)],
        transitions: vec![TransitionEntry {
            millis: 10_000,
            reason: String::new(),
            message: String::new(),
            weight: 5,
        }],
    };
    let svg = draw(
        "check&out",
        &crate::study::tests::plan("a<b"),
        &timeline,
        "RolledBack (HarmShown)",
    );
    for text in [
        "Rollout of check&amp;out",
        "a&lt;b: evidence",
        "harm, needs 100",
        "safe, needs 20",
        "a&lt;b: bad requests in each block",
        "canary",
        "stable",
        "weight",
        "prefers-color-scheme:dark",
        "time since the beginning",
        ">RolledBack (HarmShown)</text>",
        // The end is where the last line ends, in all panels.
        &format!("x1=\"{RIGHT:.1}\" x2=\"{RIGHT:.1}\" y1=\"{MARK}\""),
    ] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let points = svg
        .split("points=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    for pair in points.flat_map(str::split_whitespace) {
        let (x, y) = pair.split_once(',').unwrap();
        let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
        assert!(
            (LEFT..=RIGHT).contains(&x) && (TOP..=600.0).contains(&y),
            "{pair}"
        );
    }
}

#[test]
fn a_rollout_without_a_block_is_drawn_too() {
    let svg = draw(
        "checkout",
        &crate::study::tests::plan("availability"),
        &Timeline::default(),
        "Inconclusive (Unfinished)",
    );
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn weights_are_drawn_as_steps() {
    let change = |seconds: i64, weight: u8| TransitionEntry {
        millis: seconds * 1000,
        reason: String::new(),
        message: String::new(),
        weight,
    };
    let timeline = Timeline {
        blocks: Vec::new(),
        transitions: vec![change(10, 5), change(70, 50), change(90, 0), change(120, 0)],
    };
    let svg = draw(
        "checkout",
        &crate::study::tests::plan("availability"),
        &timeline,
        "RolledBack (HarmShown)",
    );
    let points = svg
        .split_once("line plain\" points=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap();
    let points: Vec<(&str, &str)> = points
        .split_whitespace()
        .filter_map(|pair| pair.split_once(','))
        .collect();
    assert_eq!(points.len(), 10, "{points:?}");
    for pair in points.windows(2) {
        assert!(pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1, "{pair:?}");
    }
    assert_eq!(points[0].0, format!("{LEFT:.1}"), "from the start on");
}

#[test]
fn the_suspicion_of_a_bake_is_a_line_of_its_own_while_the_bake_lasts() {
    let block = |t: f64, suspicion: Option<f64>| BlockEntry {
        t,
        judged_at: t,
        slo: "availability".to_owned(),
        weight: 100,
        stable: CountsEntry { total: 0.0, bad: 0.0 },
        canary: CountsEntry {
            total: 100.0,
            bad: 1.0,
        },
        evidence: EvidenceEntry {
            harm: 0.0,
            deciding_harm: 0.0,
            safe: 3.0,
            suspicion,
        },
        verdict: "Continue".to_owned(),
        budget_spent_percent: None,
    };
    let drawn = |suspicions: &[Option<f64>]| {
        let blocks = suspicions
            .iter()
            .zip(1..)
            .map(|(s, n)| block(f64::from(n) * 30.0, *s));
        let timeline = Timeline {
            blocks: blocks.collect(),
            transitions: Vec::new(),
        };
        draw(
            "checkout",
            &crate::study::tests::plan("availability"),
            &timeline,
            "Promoted (Promoted)",
        )
    };
    let lines = |svg: &str| svg.matches("<polyline class=\"line doubt\"").count();
    let legend = "suspicion in the bake, needs 100";

    let never = drawn(&[None, None]);
    assert!(lines(&never) == 0 && !never.contains(legend));

    let twice = drawn(&[None, Some(1.0), Some(5.0), None, None, Some(0.5)]);
    assert!(lines(&twice) == 2 && twice.contains(legend));
    let places = twice
        .split_once("line doubt\" points=\"")
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap();
    assert_eq!(
        places.split_whitespace().count(),
        3,
        "it begins with none: {places}"
    );
}

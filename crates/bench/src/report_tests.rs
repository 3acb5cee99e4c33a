use super::*;
use crate::cases::CASES;
use crate::rivals::{argo, flagger, kayenta};

/// Two cases: one where Molt does well, and one where it doesn't.
pub fn rows() -> Vec<Row> {
    let contenders = [
        Contender::Molt(molt_core::analysis::Past::default()),
        Contender::Argo(argo::Settings::DOCUMENTED),
        Contender::Argo(argo::Settings::DOCUMENTED),
        Contender::Flagger(flagger::Settings::DOCUMENTED),
        Contender::Flagger(flagger::Settings::DOCUMENTED),
        Contender::Kayenta(kayenta::Settings::DOCUMENTED),
        Contender::Kayenta(kayenta::Settings::DOCUMENTED),
    ];
    let outcome = |false_rollbacks, found: &[u32]| Outcome {
        runs: 4,
        false_rollbacks,
        promoted: 0,
        found: found.to_vec(),
    };
    let rivals = || [outcome(0, &[30, 30, 30]), outcome(0, &[]), outcome(4, &[15; 4])];
    let row = |case, molt| {
        let [a, b, c] = rivals();
        let outcomes = vec![molt, a.clone(), a, b.clone(), b, c.clone(), c];
        Row {
            case,
            contenders,
            outcomes,
        }
    };
    vec![
        row(CASES[0], outcome(0, &[15, 15, 90, 120])),
        row(CASES[1], outcome(2, &[900, 900, 900])),
    ]
}

#[test]
fn the_table_says_what_was_counted() {
    let text = tables(&rows());
    assert!(text.contains("| 1 → 5 %, 20 rps | 0.00 (0.00–49) |"), "{text}");
    assert!(text.contains("| 15 / 120 | 30 / – (75 %) |"), "{text}");
    assert!(text.contains("| – (0.00 %) |"), "{text}");
}

#[test]
fn goals_are_met_or_missed() {
    let text = goals(&rows());
    assert!(text.contains("| 15 s, 120 s | met |"), "{text}");
    assert!(text.contains("| 50 % | **missed** |"), "{text}");
    let missed = missed(&text);
    assert!(missed.iter().any(|line| line.contains("50 %")), "{missed:?}");
    assert!(missed.iter().all(|line| !line.contains("| met |")), "{missed:?}");
}

#[test]
fn the_document_says_where_molt_is_worse_and_leaves_no_mark() {
    let long: Vec<_> = rows()
        .into_iter()
        .map(|row| (row.case, row.outcomes[0].clone()))
        .collect();
    let text = document(&rows(), &long, ["", "", "", ""], (4, 7), "It took a while.");
    assert!(
        text.contains("| 1 → 5 %, 20 rps | 0.00 (0.00–49) | 15 / 120 |"),
        "{text}"
    );
    assert!(!text.contains("{{"));
    assert!(text.contains("RUNS=4 SEED=7"));
    assert!(text.contains("Molt takes back 50 % of healthy canaries"));
    assert!(
        text.contains("0.1 → 1 %, 20 rps: Argo Rollouts, documented takes 30 s at the median, Molt 900 s.")
    );
    // A judge that takes back everything isn't faster.
    assert!(!text.contains("Kayenta, documented takes 15 s"));
}

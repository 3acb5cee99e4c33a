use super::*;
use crate::cases::CASES;
use crate::report::tests::rows;

#[test]
fn every_judge_has_its_marks_in_both_panels() {
    let rows = rows();
    let svg = draw(&rows);
    assert_eq!(svg.matches("<circle").count(), rows.len() * NAMES.len() * 2 + 4);
    assert!(svg.contains("prefers-color-scheme: dark"));
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn the_name_of_every_case_has_room() {
    // A wide letter of 12 pixels, on average.
    const LETTER: f64 = 6.5;
    for case in CASES {
        let width = case.name.chars().count() as f64 * LETTER;
        assert!(width <= NAMES_END as f64, "{} is {width} wide", case.name);
    }
}

#[test]
#[expect(clippy::float_cmp, reason = "the ends of the axis are exact")]
fn values_beyond_the_axis_lie_at_its_ends() {
    assert_eq!(place(0, 0.0, 0.01, 100.0), 14.0);
    assert_eq!(place(0, 0.01, 0.01, 100.0), 14.0);
    assert_eq!(place(0, 1e9, 0.01, 100.0), WIDTH - 14.0);
}

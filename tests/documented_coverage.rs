//! The table of coverage names tests that there are, and counts its rows right.

use std::collections::BTreeMap;
use std::path::Path;

const DOCUMENT: &str = include_str!("../docs/coverage.md");

/// A test that the table names, as `path::name` in backticks.
fn cited() -> Vec<(&'static str, &'static str)> {
    DOCUMENT
        .split('`')
        .filter_map(|code| code.split_once(".rs::"))
        .filter(|(path, name)| !path.contains(char::is_whitespace) && !name.contains(char::is_whitespace))
        .collect()
}

#[test]
fn every_test_that_is_cited_is_there() {
    let mut gone = Vec::new();
    let cited = cited();
    assert!(cited.len() > 200, "{} tests are cited", cited.len());
    for (path, name) in cited {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{path}.rs"));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if !is_test(&text, name) {
            gone.push(format!("{path}.rs::{name}"));
        }
    }
    assert!(gone.is_empty(), "are no tests: {gone:#?}");
}

/// The file has a function of the name that is run as a test: by an attribute, or within `proptest!`.
fn is_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else {
        return false;
    };
    let attributes = before.rsplit('}').next().unwrap_or(before);
    attributes.contains("#[test]") || attributes.contains("#[tokio::test")
}

#[test]
fn the_rows_are_as_many_as_is_said() {
    let (_, scenarios) = DOCUMENT
        .split_once("## Scenarios")
        .expect("it has a part on scenarios");
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let head = |row: &&str| row.starts_with("| ") && !row.starts_with("| scenario ");
    for row in scenarios.lines().filter(head) {
        let kind = ["not yet: ", "does not apply: ", "<br>partly: "]
            .into_iter()
            .find(|kind| row.contains(kind))
            .unwrap_or("covered");
        *count.entry(kind).or_default() += 1;
        let has_test = row.contains(".rs::");
        assert_eq!(has_test, matches!(kind, "covered" | "<br>partly: "), "{row}");
    }
    let of = |kind: &str| count.get(kind).copied().unwrap_or_default();
    let said = format!(
        "Of {} scenarios {} are covered, {} in part, {} not yet, and {} don't apply",
        count.values().sum::<usize>(),
        of("covered"),
        of("<br>partly: "),
        of("not yet: "),
        of("does not apply: ")
    );
    let plain = DOCUMENT.replace('\n', " ");
    assert!(plain.contains(&said), "write: {said}");
}

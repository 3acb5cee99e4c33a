//! The rules are in the document that people look them up in.

use molt_readiness::{Catalogue, document};

#[test]
fn the_table_of_rules_is_that_of_the_rules() {
    let text = include_str!("../../../docs/readiness.md");
    let filled = document::fill(text, Catalogue::all()).expect("it has a place for the table");
    assert_eq!(filled, text, "run `make rules-table`");
}

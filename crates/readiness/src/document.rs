//! The rules as the table of docs/readiness.md.

use std::fmt::Write;

use crate::catalogue::{Catalogue, Needs, Severity};

const BEGIN: &str = "<!-- The rules: written by `make rules-table` from crates/readiness/rules.yaml. -->\n";
const END: &str = "\n<!-- The end of the rules. -->";

/// The text of a document with the tables of now between its two marks; `None` if they are not there.
pub fn fill(text: &str, catalogue: &Catalogue) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", table(catalogue)))
}

/// A Markdown table for each severity, what matters most first.
pub fn table(catalogue: &Catalogue) -> String {
    let mut text = String::new();
    for (severity, title) in [
        (Severity::Error, "Errors"),
        (Severity::Warning, "Warnings"),
        (Severity::Info, "Good to have"),
    ] {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "\n### {title}\n\n| rule | points | what is wrong | why it matters | how to put it right |\n|---|---|---|---|---|\n"
        );
        for rule in catalogue.rules.iter().filter(|rule| rule.severity == severity) {
            let points = match (&rule.needs, &rule.requires) {
                (Some(Needs::Related), _) => "lint alone".to_owned(),
                (None, Some(field)) => format!("{}, once there is `{field}`", rule.points),
                (None, None) => rule.points.to_string(),
            };
            let cells = [&rule.says, &rule.why, &rule.fix].map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| `{}` | {points} | {} |", rule.id, cells.join(" | "));
        }
    }
    text
}

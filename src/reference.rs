//! The reference pages of `docs/`, made from what the API server and the command line really take. Pure.

use std::fmt::Write;

use serde_json::{Map, Value};

use crate::api::crds;
use crate::plugin;

/// Each page's file name and text.
pub fn pages() -> [(&'static str, String); 2] {
    [("fields.md", fields()), ("commands.md", plugin::reference())]
}

/// Fields that are Kubernetes' own, or the operator's memory: what is in them is told elsewhere.
const CLOSED: [&str; 2] = ["template", "state"];

fn fields() -> String {
    let mut page = String::from(
        "# Every field\n\nMade from the CRDs (`make generate`): what the API server takes. What the fields do, and what is taken where they are \
         left out, is in [api.md](api.md). `[]` is a list, `{}` a map with names of your own.\n",
    );
    // From the types: what is written beside it now was read when this was compiled.
    for document in crds::documents() {
        let kind = document["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let schema = &document["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "\n## {kind}\n\n| field | type | what it is |\n|---|---|---|\n"
        );
        for part in ["spec", "status"] {
            walk(&mut page, part, &schema["properties"][part]);
        }
    }
    page
}

/// The rows of what is below a field.
fn walk(page: &mut String, path: &str, schema: &Value) {
    let none = Map::new();
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
        let path = format!("{path}.{name}");
        let needed = if required.contains(&name.as_str()) {
            "**required** "
        } else {
            ""
        };
        let _ = writeln!(
            page,
            "| `{path}` | {needed}{} | {} |",
            kind(field),
            one_line(field["description"].as_str().unwrap_or_default())
        );
        if CLOSED.contains(&name.as_str()) {
            continue;
        }
        walk(page, &path, field);
        walk(page, &format!("{path}[]"), &field["items"]);
        walk(page, &format!("{path}.{{}}"), &field["additionalProperties"]);
    }
}

/// Its type, with what bounds it.
fn kind(field: &Value) -> String {
    let mut text = match field["type"].as_str() {
        Some("array") => format!(
            "list of {}",
            field["items"]["type"].as_str().unwrap_or("anything")
        ),
        Some("object") if field["additionalProperties"].is_object() => "map".to_owned(),
        Some(kind) => kind.to_owned(),
        None => "anything".to_owned(),
    };
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect();
        text = words.join(", ");
    }
    for (key, word) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minItems", "at least"),
        ("maxItems", "at most"),
        ("maxLength", "characters at most"),
        ("pattern", "pattern"),
        ("default", "default"),
    ] {
        let value = &field[key];
        let shown = match value {
            Value::Null => continue,
            Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
            Value::String(text) => format!("`{}`", text.replace('|', "\\|")),
            other => format!("`{other}`"),
        };
        let _ = write!(text, "; {word} {shown}");
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pages_are_those_of_the_types() {
        for (name, text) in pages() {
            let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == text, "docs/{name}: run `make generate`");
        }
    }

    #[test]
    fn fields_have_their_bounds_and_stop_at_what_is_not_molts() {
        let page = fields();
        let line = |start: &str| {
            let found = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{start}` |")));
            found.unwrap_or_else(|| panic!("{start}")).to_owned()
        };
        assert!(line("spec.runtime.server").contains("**required** `uvicorn`, `gunicorn`"));
        assert!(line("spec.slos[].name").contains("**required** string"));
        assert!(line("spec.group.wave").contains("from 0; to 1000"));
        assert!(!page.contains("spec.template.spec"));
    }
}

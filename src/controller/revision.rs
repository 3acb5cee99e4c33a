//! The name of what runs: a hash of template, runtime and port as the user wrote them.

use std::fmt::Write;

use molt_core::plan::Revision;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Counts the forms of what is hashed. Changing the form without raising it would give every live service a
/// new revision when the operator is upgraded.
const VERSION: u32 = 1;
/// Hex digits of a revision.
const DIGITS: usize = 10;

/// The revision of a spec, taken from its JSON: a library that reads or writes a field differently changes
/// nothing. A null is the same as an absent field.
pub fn of_spec(spec: &Value) -> Revision {
    let field = |name: &str| spec.get(name).cloned().unwrap_or(Value::Null);
    of_parts(&field("template"), &field("runtime"), &field("port"))
}

/// The same of its parts, as they were written.
pub fn of_parts(template: &Value, runtime: &Value, port: &Value) -> Revision {
    let hashed = json!({
        "version": VERSION,
        "template": template,
        "runtime": runtime,
        "port": port,
    });
    Revision(digest(&hashed))
}

/// Ten hex digits of a hash; the order of keys and what is null make no difference.
pub fn digest(value: &Value) -> String {
    hex_digest(value, DIGITS)
}

/// The same with so many digits, at most 64.
pub fn hex_digest(value: &Value, length: usize) -> String {
    let hash = Sha256::digest(canonical(value).to_string().as_bytes());
    let mut digits = String::with_capacity(2 * hash.len());
    for byte in hash {
        // Writing to a String does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.truncate(length);
    digits
}

/// Sorted keys, no nulls.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut entries: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.clone(), canonical(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "replicas": 4,
            "port": 8000,
            "runtime": {"server": "uvicorn"},
            "template": {"spec": {"containers": [{"name": "app", "image": "checkout:1"}]}},
        })
    }

    #[test]
    fn the_name_never_changes_by_accident() {
        assert_eq!(of_spec(&spec()).0, "694e87771d");
    }

    #[test]
    fn only_what_runs_counts() {
        let mut other = spec();
        other["replicas"] = json!(9);
        other["template"]["metadata"] = Value::Null;
        assert_eq!(of_spec(&other), of_spec(&spec()));
        for (pointer, value) in [
            ("/port", json!(8001)),
            ("/runtime/server", json!("granian")),
            ("/template/spec/containers/0/image", json!("checkout:2")),
        ] {
            let mut other = spec();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_ne!(of_spec(&other), of_spec(&spec()), "{pointer}");
        }
    }

    #[test]
    fn the_order_of_keys_does_not_count() {
        let a: Value = serde_json::from_str(r#"{"port":1,"runtime":{"a":1,"b":2}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"runtime":{"b":2,"a":1},"port":1}"#).unwrap();
        assert_eq!(of_spec(&a), of_spec(&b));
    }
}

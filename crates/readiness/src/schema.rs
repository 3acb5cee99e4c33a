//! What a closed structural schema says to an object, field by field, before any API server does.

use std::collections::HashSet;
use std::sync::LazyLock;

use kube_cel::Validator;
use regex::Regex;
use serde_json::{Map, Value, json};

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path, `spec.strategy.canary.steps[2].setWeight`; empty for the whole object.
    pub field: String,
    /// What is wrong.
    pub says: String,
    /// How to put it right, if that is known.
    pub fix: Option<String>,
}

/// What an `openAPIV3Schema` says to an object that is about to be created: its structure, and if that is right its
/// rules.
pub fn check(schema: &Value, object: &Value) -> Vec<Violation> {
    let mut found = structure(schema, object);
    if found.is_empty()
        && let Err(errors) = Validator::new().validate(schema, object, None)
    {
        found.extend(errors.into_iter().map(|error| Violation {
            field: error.field_path,
            says: error.message,
            fix: None,
        }));
    }
    found
}

/// Fields of an object that an `openAPIV3Schema` does not know: an API server would drop them, or refuse the object.
pub fn unknown_fields(schema: &Value, object: &Value) -> Vec<Violation> {
    let mut found = structure(schema, object);
    found.retain(|violation| violation.says == UNKNOWN);
    found
}

/// What the structure of a schema says to an object.
fn structure(schema: &Value, object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    // The API server knows these of every object, and a CRD says nothing of them.
    let mut own = object.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.retain(|name, _| name != "apiVersion" && name != "kind");
        let metadata = fields.remove("metadata").unwrap_or_default();
        node(&METADATA, &json!({"metadata": metadata}), "", &mut found);
    }
    node(schema, &own, "", &mut found);
    found
}

/// What is said of a field that the schema does not have.
const UNKNOWN: &str = "is no field of this version";

/// What metadata can say.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({"required": ["metadata"], "properties": {"metadata": {"type": "object", "properties": {
        "name": {"type": "string"}, "generateName": {"type": "string"}, "namespace": {"type": "string"},
        "labels": texts, "annotations": texts,
        "finalizers": {"type": "array", "items": {"type": "string"}}, "ownerReferences": {"type": "array"},
        "creationTimestamp": {}, "deletionTimestamp": {}, "deletionGracePeriodSeconds": {}, "generation": {},
        "managedFields": {}, "resourceVersion": {}, "selfLink": {}, "uid": {},
    }}}})
});

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn node(schema: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    let mut wrong = |says: String| {
        found.push(Violation {
            field: path.to_owned(),
            says,
            fix: None,
        });
    };
    // It counts as absent.
    if value.is_null() {
        return;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_i64() && !value.is_string() {
            wrong(format!("is {}, and wants a whole number or a text", kind(value)));
        }
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        wrong(format!("is {}, and wants {}", kind(value), article(wanted)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed.iter().map(plain).collect();
        let says = format!("{} is unknown: write one of {}", plain(value), names.join(", "));
        found.push(Violation {
            field: path.to_owned(),
            fix: value
                .as_str()
                .and_then(|written| near(written, names.iter().map(String::as_str)))
                .map(|name| format!("did you mean {name}?")),
            says,
        });
        return;
    }
    bounds(schema, value, &mut wrong);
    match value {
        Value::Object(fields) => object(schema, fields, path, found),
        Value::Array(items) => array(schema, items, path, found),
        _ => {}
    }
}

/// A bound as people write it: schemas have `0.0` for 0.
fn bound(number: &Value) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn bounds(schema: &Value, value: &Value, wrong: &mut impl FnMut(String)) {
    let number = |name: &str| schema[name].as_f64();
    if let Some(have) = value.as_f64() {
        if number("minimum").is_some_and(|least| have < least) {
            wrong(format!(
                "{value} is too small: write {} or more",
                bound(&schema["minimum"])
            ));
        }
        if number("maximum").is_some_and(|most| have > most) {
            wrong(format!(
                "{value} is too large: write {} or less",
                bound(&schema["maximum"])
            ));
        }
    }
    let (size, what, least, most) = match value {
        Value::String(text) => (text.chars().count(), "characters", "minLength", "maxLength"),
        Value::Array(items) => (items.len(), "items", "minItems", "maxItems"),
        Value::Object(fields) => (fields.len(), "entries", "minProperties", "maxProperties"),
        _ => return,
    };
    if number(least).is_some_and(|least| (size as f64) < least) {
        wrong(format!(
            "has {size} {what}: at least {} are needed",
            schema[least]
        ));
    }
    if number(most).is_some_and(|most| size as f64 > most) {
        wrong(format!(
            "has {size} {what}: at most {} are possible",
            schema[most]
        ));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str())
        && !matches(text, pattern)
    {
        wrong(format!("{text:?} does not match {pattern}"));
    }
}

/// What is no expression matches everything.
fn matches(text: &str, pattern: &str) -> bool {
    Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text))
}

fn object(schema: &Value, fields: &Map<String, Value>, path: &str, found: &mut Vec<Violation>) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if fields.get(name).is_none_or(Value::is_null) {
            found.push(Violation {
                field: join(path, name),
                says: "is missing".to_owned(),
                fix: schema["properties"][name]["description"]
                    .as_str()
                    .map(|what| format!("write it: {}", what.replace('\n', " ").trim_end_matches('.'))),
            });
        }
    }
    let properties = schema["properties"].as_object();
    let more = &schema["additionalProperties"];
    for (name, value) in fields {
        let at = join(path, name);
        match properties.and_then(|known| known.get(name)) {
            Some(known) => node(known, value, &at, found),
            None if more.is_object() => node(more, value, &at, found),
            None if *more == true || schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            // A type without any field, such as metadata of the root, is open.
            None if properties.is_none() => {}
            None => {
                let names = properties.into_iter().flat_map(Map::keys).map(String::as_str);
                found.push(Violation {
                    field: at,
                    says: UNKNOWN.to_owned(),
                    fix: Some(near(name, names).map_or_else(
                        || "leave it out".to_owned(),
                        |near| format!("did you mean {near}?"),
                    )),
                });
            }
        }
    }
}

fn array(schema: &Value, items: &[Value], path: &str, found: &mut Vec<Violation>) {
    for (index, item) in items.iter().enumerate() {
        node(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if keys.is_empty() {
        return;
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let default = |key: &str| schema["items"]["properties"][key]["default"].clone();
        let of = |key: &&str| {
            item.get(*key)
                .cloned()
                .unwrap_or_else(|| default(key))
                .to_string()
        };
        let own: Vec<String> = keys.iter().map(of).collect();
        if !seen.insert(own.clone()) {
            found.push(Violation {
                field: format!("{path}[{index}]"),
                says: format!(
                    "has the same {} as another: {}",
                    keys.join(" and "),
                    own.join(" ")
                ),
                fix: Some("give it another one, or take one of them out".to_owned()),
            });
        }
    }
}

/// The name that a slip of the pen was meant for.
fn near<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    names
        .map(|name| {
            let distance = strsim::damerau_levenshtein(&lower, &name.to_lowercase());
            (distance, name)
        })
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len().min(written.len()) / 4)
        .map(|(_, name)| name)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn kind(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn article(kind: &str) -> &str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text: put it into quotes",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(schema: &Value, object: &Value) -> Vec<String> {
        let mut object = object.clone();
        object["metadata"] = json!({"name": "a"});
        let found = check(schema, &object);
        let text = |v: Violation| format!("{}: {}; {}", v.field, v.says, v.fix.unwrap_or_default());
        found.into_iter().map(text).collect()
    }

    #[test]
    fn every_kind_of_mistake_is_told_with_its_place() {
        let schema = json!({"type": "object", "required": ["port"], "properties": {
            "port": {"type": "integer", "minimum": 1, "maximum": 9, "description": "The port."},
            "replicas": {"type": "integer"},
            "server": {"type": "string", "enum": ["uvicorn", "gunicorn"]},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
            "size": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "steps": {"type": "array", "minItems": 1, "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        }});
        let cases = [
            (json!({"port": 3, "replicas": null}), None),
            (json!({}), Some("port: is missing; write it: The port")),
            (
                json!({"port": "3"}),
                Some("port: is the text \"3\", and wants a whole number; "),
            ),
            (
                json!({"port": 10}),
                Some("port: 10 is too large: write 9 or less; "),
            ),
            (
                json!({"port": 3, "replica": 1}),
                Some("replica: is no field of this version; did you mean replicas?"),
            ),
            (
                json!({"port": 3, "zzz": 1}),
                Some("zzz: is no field of this version; leave it out"),
            ),
            (
                json!({"port": 3, "server": "gunicron"}),
                Some("server: gunicron is unknown: write one of uvicorn, gunicorn; did you mean gunicorn?"),
            ),
            (
                json!({"port": 3, "name": "A"}),
                Some("name: \"A\" does not match ^[a-z]+$; "),
            ),
            (
                json!({"port": 3, "name": "abcd"}),
                Some("name: has 4 characters: at most 3 are possible; "),
            ),
            (
                json!({"port": 3, "size": []}),
                Some("size: is a list, and wants a whole number or a text; "),
            ),
            (
                json!({"port": 3, "labels": {"a": 1}}),
                Some("labels.a: is 1, and wants a text: put it into quotes; "),
            ),
            (
                json!({"port": 3, "steps": []}),
                Some("steps: has 0 items: at least 1 are needed; "),
            ),
            (
                json!({"port": 3, "steps": [{"name": "a"}, {"name": "a"}]}),
                Some(
                    "steps[1]: has the same name as another: \"a\"; give it another one, or take one of them out",
                ),
            ),
        ];
        for (object, expected) in cases {
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(said(&schema, &object), expected, "{object}");
        }
    }

    #[test]
    fn the_schemas_own_rules_are_asked_once_its_structure_is_right() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "has(self.a) != has(self.b)", "message": "set one of a and b"}]});
        assert_eq!(
            said(&schema, &json!({"a": 1, "b": 2})),
            [": set one of a and b; "]
        );
        assert_eq!(said(&schema, &json!({"a": 1})), [""; 0]);
    }
}

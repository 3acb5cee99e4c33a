//! What a revision changes: the fields of two pod templates that differ, without what may be secret.
//!
//! A record outlives the service and is read by more people than may read its template, so values that could be
//! secret are left out: all values of environment variables and of headers but plain numbers and booleans, and
//! whatever a name beside them calls a secret.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::Value;

use super::config::with_names_of_users;
use super::cut;
use crate::api::v1alpha1::{FieldChange, RecordedChange};
use crate::k8s::labels;

/// Fields that are kept at most, as the schema says.
const MOST_FIELDS: usize = 60;
/// Bytes of a value or a path that are kept, so that a record stays small.
pub const MOST_BYTES: usize = 200;
/// Stands for a value that is not kept.
pub const WITHHELD: &str = "(not recorded)";

/// Names of what is secret, as words of a longer name.
const SECRET_WORDS: [&str; 20] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "cert",
    "cookie",
    "credential",
    "credentials",
    "dsn",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pin",
    "private",
    "pwd",
    "salt",
    "secret",
    "token",
];

/// Keys of the lists that are told apart by them; other lists are told apart by place.
const KEYS: [&str; 5] = ["mountPath", "containerPort", "name", "ip", "topologyKey"];

/// What of `after`'s template differs from `before`'s, beside the configuration that differs, and who says to have changed it.
pub fn between(
    before: &ReplicaSet,
    after: &ReplicaSet,
    config: Vec<FieldChange>,
    author: Option<String>,
) -> RecordedChange {
    let template = |set: &ReplicaSet| {
        let mut template = set
            .spec
            .as_ref()
            .and_then(|spec| spec.template.clone())
            .unwrap_or_default();
        with_names_of_users(set, &mut template);
        let mut template = serde_json::to_value(template).unwrap_or_default();
        if let Some(set) = template
            .pointer_mut("/metadata/labels")
            .and_then(Value::as_object_mut)
        {
            // Differs by its nature, and is what the record is of.
            set.remove(labels::REVISION);
        }
        template
    };
    let mut fields = config;
    fields.extend(differences(&template(before), &template(after)));
    let more = fields.len().saturating_sub(MOST_FIELDS);
    fields.truncate(MOST_FIELDS);
    RecordedChange {
        author,
        template: fields,
        more: (more > 0).then(|| i32::try_from(more).unwrap_or(i32::MAX)),
    }
}

/// The author of a change, no longer than a record takes.
pub fn author(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| cut(text, MOST_BYTES))
}

fn differences(before: &Value, after: &Value) -> Vec<FieldChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves("", before, None, &mut old);
    leaves("", after, None, &mut new);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        // What an item is told apart by is in the path of its other fields, on whichever side it has some.
        .filter(|path| {
            let item = path.rsplit_once("].").filter(|(item, field)| {
                let leaf = old.get(*path).or(new.get(*path));
                let is_place = leaf.is_some_and(|leaf| item.ends_with(&format!("[{}", leaf.text)));
                is_place && KEYS.contains(field)
            });
            let others = |(item, _): (&str, &str)| {
                let prefix = format!("{item}].");
                let of_item = |side: &BTreeMap<String, Leaf>| {
                    let mut fields = side.range(prefix.clone()..).map(|(name, _)| name);
                    fields
                        .by_ref()
                        .take_while(|name| name.starts_with(&prefix))
                        .any(|name| name != *path)
                };
                of_item(&old) || of_item(&new)
            };
            !item.is_some_and(others)
        })
        .map(|path| FieldChange {
            field: cut(path, MOST_BYTES),
            before: old.get(path).map(|leaf| leaf.shown(path)),
            after: new.get(path).map(|leaf| leaf.shown(path)),
        })
        .collect()
}

/// A value without parts, and what stands before it in a list.
#[derive(Debug, PartialEq)]
struct Leaf {
    text: String,
    previous: Option<String>,
}

impl Leaf {
    fn shown(&self, path: &str) -> String {
        if is_secret(path, self) {
            WITHHELD.to_owned()
        } else {
            cut(&self.text, MOST_BYTES)
        }
    }
}

fn leaves(path: &str, value: &Value, previous: Option<&str>, found: &mut BTreeMap<String, Leaf>) {
    let under = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                // A key of an annotation may have dots of its own.
                let name = if name.contains('.') {
                    format!("[{name}]")
                } else {
                    name.clone()
                };
                leaves(&under(&name), value, None, found);
            }
        }
        Value::Array(items) => {
            let key = key_of(items);
            let mut previous = None;
            for (index, item) in items.iter().enumerate() {
                let place = key.map_or_else(|| index.to_string(), |key| text(&item[key]));
                leaves(&format!("{path}[{place}]"), item, previous, found);
                previous = item.as_str();
            }
        }
        plain => {
            let leaf = Leaf {
                text: text(plain),
                previous: previous.map(str::to_owned),
            };
            found.insert(path.to_owned(), leaf);
        }
    }
}

/// The field that all items of a list have, each with another value.
fn key_of(items: &[Value]) -> Option<&'static str> {
    KEYS.into_iter().find(|key| {
        let values: BTreeSet<String> = items
            .iter()
            .filter(|item| item[*key].is_string() || item[*key].is_number())
            .map(|item| text(&item[*key]))
            .collect();
        values.len() == items.len()
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value that is better not kept.
fn is_secret(path: &str, leaf: &Leaf) -> bool {
    let last = path.rsplit(['.']).next().unwrap_or(path);
    let of_name = path.ends_with("].value") && ["env[", "Headers["].iter().any(|list| path.contains(list));
    if of_name {
        let name = path.rsplit('[').next().unwrap_or_default();
        return !is_plain(&leaf.text) || names_a_secret(name);
    }
    let in_list = path.contains("command[") || path.contains("args[");
    let in_annotation = path.starts_with("metadata.annotations");
    let flag = |text: &str| text.starts_with('-') && names_a_secret(text.split('=').next().unwrap_or(text));
    let assigned = leaf
        .text
        .split_once('=')
        .is_some_and(|(name, _)| names_a_secret(name));
    has_credentials(&leaf.text)
        || (in_annotation && names_a_secret(last))
        || (in_list && (assigned || leaf.previous.as_deref().is_some_and(|p| flag(p) && !p.contains('='))))
        // A script may hold anything.
        || (in_list && leaf.text.contains(char::is_whitespace) && names_a_secret(&leaf.text))
}

/// A number or a boolean, with a unit at most.
fn is_plain(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    matches!(
        text,
        "true" | "false" | "True" | "False" | "yes" | "no" | "on" | "off"
    ) || (number.len() <= 9 && unit.len() <= 2 && number.parse::<f64>().is_ok())
}

/// One of its words is that of a secret: `DB_PASSWORD`, `--api-key`, `apiKey`.
fn names_a_secret(name: &str) -> bool {
    let mut words = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            ' '
        });
        before = c;
    }
    words.split(' ').any(|word| {
        let one = word.strip_suffix('s').unwrap_or(word);
        SECRET_WORDS.contains(&word) || SECRET_WORDS.contains(&one) || word.contains("password")
    })
}

/// `scheme://user:word@host`.
fn has_credentials(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let authority = text[at + 3..].split(['/', '?', ' ']).next().unwrap_or_default();
        authority.contains('@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(template: &Value) -> ReplicaSet {
        serde_json::from_value(json!({"spec": {"selector": {}, "template": template}})).unwrap()
    }

    fn changed(before: &Value, after: &Value) -> Vec<(String, Option<String>, Option<String>)> {
        let change = between(&set(before), &set(after), Vec::new(), None);
        change
            .template
            .into_iter()
            .map(|f| (f.field, f.before, f.after))
            .collect()
    }

    fn container(fields: Value) -> Value {
        let mut container = fields;
        container["name"] = json!("app");
        json!({"spec": {"containers": [{"name": "side", "image": "side:1"}, container]}})
    }

    #[test]
    fn a_field_is_named_by_its_lists_keys_with_both_values() {
        let before = json!({
            "metadata": {"labels": {"molt.dev/revision": "a", "team": "shop"}},
            "spec": {"containers": [{"name": "app", "image": "checkout:1", "ports": [{"containerPort": 80}]}]},
        });
        let after = json!({
            "metadata": {"labels": {"molt.dev/revision": "b", "team": "shop"}},
            "spec": {"containers": [
                {"name": "side", "image": "side:1"},
                {"name": "app", "image": "checkout:2", "ports": [{"containerPort": 80, "name": "http"}]},
            ]},
        });
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changed(&before, &after),
            [
                (
                    "spec.containers[app].image".to_owned(),
                    some("checkout:1"),
                    some("checkout:2")
                ),
                (
                    "spec.containers[app].ports[80].name".to_owned(),
                    None,
                    some("http")
                ),
                ("spec.containers[side].image".to_owned(), None, some("side:1")),
            ]
        );
        assert_eq!(changed(&before, &before), []);
    }

    #[test]
    fn what_may_be_secret_is_told_without_its_value() {
        let hidden = |fields: Value| {
            let found = changed(&container(json!({})), &container(fields.clone()));
            let text = format!("{found:?}");
            assert!(!found.is_empty(), "{fields} is told at all");
            text.contains(WITHHELD) && !text.contains("hunter2")
        };
        for secret in [
            json!({"env": [{"name": "DATABASE_URL", "value": "hunter2"}]}),
            json!({"env": [{"name": "UNLIKELY", "value": "hunter2"}]}),
            json!({"env": [{"name": "SHOP_PIN", "value": "1234"}]}),
            json!({"args": ["--password", "hunter2"]}),
            json!({"args": ["--api-key=hunter2"]}),
            json!({"command": ["sh", "-c", "export TOKEN=hunter2; run"]}),
            json!({"args": ["postgres://shop:hunter2@db/shop"]}),
            json!({"readinessProbe": {"httpGet": {"port": 1, "httpHeaders": [{"name": "Authorization", "value": "hunter2"}]}}}),
        ] {
            assert!(hidden(secret.clone()), "{secret}");
        }
        let annotated = |value: &str| json!({"metadata": {"annotations": {"shop.example/api-token": value}}, "spec": {"containers": []}});
        let found = changed(&annotated("hunter1"), &annotated("hunter2"));
        assert_eq!(found[0].2.as_deref(), Some(WITHHELD), "{found:?}");
    }

    #[test]
    fn what_a_person_on_call_looks_for_is_told() {
        let shown = |fields: Value, value: &str| {
            let found = changed(&container(json!({})), &container(fields));
            assert!(
                found.iter().any(|(_, _, after)| after.as_deref() == Some(value)),
                "{value} in {found:?}"
            );
        };
        shown(json!({"env": [{"name": "NEW_CART", "value": "true"}]}), "true");
        shown(json!({"env": [{"name": "WORKERS", "value": "4"}]}), "4");
        shown(json!({"env": [{"name": "TIMEOUT", "value": "250ms"}]}), "250ms");
        shown(json!({"args": ["shop.main:app", "--workers=4"]}), "--workers=4");
        shown(json!({"resources": {"limits": {"memory": "256Mi"}}}), "256Mi");
        shown(
            json!({"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}),
            "db",
        );
        let url = json!({"command": ["run", "http://models.shop/v2"]});
        shown(url, "http://models.shop/v2");
    }

    #[test]
    fn it_stays_small_however_much_differs() {
        let env = |value: &str| {
            let env: Vec<Value> = (0..500)
                .map(|i| json!({"name": format!("V{i}"), "value": value}))
                .collect();
            container(json!({"env": env, "args": [value.repeat(100_000)]}))
        };
        let change = between(
            &set(&env("1")),
            &set(&env("2")),
            Vec::new(),
            author(&"a".repeat(10_000)),
        );
        assert_eq!((change.template.len(), change.more), (MOST_FIELDS, Some(441)));
        assert!(serde_json::to_string(&change).unwrap().len() < 16 * 1024);
        assert_eq!(author("  "), None);
    }
}

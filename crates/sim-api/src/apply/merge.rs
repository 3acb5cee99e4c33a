//! Merging an applied configuration into an object, and taking away what is no longer applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fields::{FieldSet, members};
use crate::shape::Shape;

/// The live object with what the configuration says.
pub fn merge(live: &Value, config: &Value, shape: &Shape) -> Value {
    if !shape.merges(live) || !shape.merges(config) {
        return config.clone();
    }
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            let mut merged = live.clone();
            for (name, value) in config {
                let value = match live.get(name) {
                    Some(old) => merge(old, value, shape.member(name)),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        _ => merge_lists(live, config, shape),
    }
}

/// Items of both lists: those of the live one keep their places, shared ones follow the configuration's order.
fn merge_lists(live: &Value, config: &Value, shape: &Shape) -> Value {
    let (left, right) = (members(live, shape), members(config, shape));
    let in_left: BTreeMap<&str, &Value> = left.iter().map(|(e, v, _)| (e.as_str(), *v)).collect();
    let in_right: BTreeSet<&str> = right.iter().map(|(e, ..)| e.as_str()).collect();
    let mut merged = Vec::new();
    let mut rest = right.iter().peekable();
    let take = |(element, value, below): &(String, &Value, &Shape)| match in_left.get(element.as_str()) {
        Some(old) => merge(old, value, below),
        None => (*value).clone(),
    };
    for (element, value, _) in &left {
        if !in_right.contains(element.as_str()) {
            merged.push((*value).clone());
            continue;
        }
        // One shared item for one shared item, with the new ones before it.
        for item in rest.by_ref() {
            merged.push(take(item));
            if in_left.contains_key(item.0.as_str()) {
                break;
            }
        }
    }
    merged.extend(rest.map(take));
    Value::Array(merged)
}

/// Takes away what the applier had applied before and nobody owns any longer.
pub fn prune(value: &Value, shape: &Shape, before: &FieldSet, owned: &FieldSet) -> Value {
    let keep = |element: &str, member: &Value, below: &Shape| -> Option<Value> {
        // Whoever owns something below a named field owns the field.
        let named = shape.is_named() && element.starts_with("f:");
        let was = before.has(element) || (named && before.touches(element));
        let is = owned.has(element) || (named && owned.touches(element));
        if was && !is {
            return None;
        }
        let empty = FieldSet::default();
        Some(match before.below(element) {
            Some(before) if below.merges(member) => {
                prune(member, below, before, owned.below(element).unwrap_or(&empty))
            }
            _ => member.clone(),
        })
    };
    let kept = members(value, shape)
        .into_iter()
        .filter_map(|(element, member, below)| Some((element.clone(), keep(&element, member, below)?)));
    match value {
        Value::Object(_) => {
            let named = kept.map(|(element, member)| (element[2..].to_owned(), member));
            Value::Object(named.collect::<Map<_, _>>())
        }
        _ => Value::Array(kept.map(|(_, member)| member).collect()),
    }
}

//! Sets of fields, as `managedFields` has them, and what differs between two objects.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::shape::Shape;

/// A set of fields: a tree by path elements in the notation of `FieldsV1` (`f:name`, `k:{…}`, `v:…`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<String, Node>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    /// The element itself is in the set, not only something below it.
    member: bool,
    below: FieldSet,
}

/// What is in one object and not, or otherwise, in the other.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Only in the new one.
    pub added: FieldSet,
    /// In both, with other values.
    pub modified: FieldSet,
    /// Only in the old one.
    pub removed: FieldSet,
}

impl FieldSet {
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// The path is a member.
    pub fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|n| n.member)
    }

    /// The element, or something below it, is a member.
    pub fn touches(&self, element: &str) -> bool {
        self.0.contains_key(element)
    }

    /// What is below an element.
    pub fn below(&self, element: &str) -> Option<&Self> {
        self.0.get(element).map(|n| &n.below).filter(|s| !s.is_empty())
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.add(other);
        all
    }

    /// Adds what is in the other.
    pub fn add(&mut self, other: &Self) {
        for (element, node) in &other.0 {
            match self.0.get_mut(element) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below.add(&node.below);
                }
                None => drop(self.0.insert(element.clone(), node.clone())),
            }
        }
    }

    /// Something is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let meet =
            |mine: &Node, theirs: &Node| mine.member && theirs.member || mine.below.meets(&theirs.below);
        self.0
            .iter()
            .any(|(element, node)| other.0.get(element).is_some_and(|theirs| meet(node, theirs)))
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let absent = Node::default();
        let combined = self.0.iter().filter_map(|(element, node)| {
            let theirs = other.0.get(element).unwrap_or(&absent);
            let combined = Node {
                member: keep(node.member, theirs.member),
                below: node.below.combine(&theirs.below, keep),
            };
            (combined.member || !combined.below.is_empty()).then(|| (element.clone(), combined))
        });
        Self(combined.collect())
    }

    /// Without a path and everything below it.
    pub fn remove_tree(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        if rest.is_empty() {
            self.0.remove(*first);
        } else if let Some(node) = self.0.get_mut(*first) {
            node.below.remove_tree(rest);
            if !node.member && node.below.is_empty() {
                self.0.remove(*first);
            }
        }
    }

    /// Without one path; what is below it stays.
    pub fn remove_member(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        if let Some(node) = self.0.get_mut(*first) {
            if rest.is_empty() {
                node.member = false;
            } else {
                node.below.remove_member(rest);
            }
            if !node.member && node.below.is_empty() {
                self.0.remove(*first);
            }
        }
    }

    /// In the notation of `managedFields`.
    pub fn to_fields_v1(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.0 {
            let mut below = node.below.to_fields_v1();
            if node.member && !node.below.is_empty() {
                below["."] = json!({});
            }
            fields.insert(element.clone(), below);
        }
        Value::Object(fields)
    }

    /// From the notation of `managedFields`.
    pub fn from_fields_v1(fields: &Value) -> Self {
        let nodes = fields.as_object().into_iter().flatten();
        let nodes = nodes
            .filter(|(element, _)| *element != ".")
            .map(|(element, below)| {
                let set = Self::from_fields_v1(below);
                let node = Node {
                    member: set.is_empty() || below.get(".").is_some(),
                    below: set,
                };
                (element.clone(), node)
            });
        Self(nodes.collect())
    }

    /// Every member as a path, as conflicts name it: `.spec.replicas`, `.spec.ports[port=80,protocol="TCP"]`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.0 {
            let path = format!("{prefix}{}", readable(element));
            if node.member {
                paths.push(path.clone());
            }
            node.below.collect_paths(&path, paths);
        }
    }

    /// The fields that a value of a shape says something about.
    pub fn of(value: &Value, shape: &Shape) -> Self {
        let mut set = Self::default();
        collect(value, shape, &mut Vec::new(), &mut set);
        set
    }
}

fn readable(element: &str) -> String {
    match element.split_at(2) {
        ("f:", name) => format!(".{name}"),
        ("k:", keys) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", keys.join(","))
        }
        (_, value) => format!("[={value}]"),
    }
}

fn collect(value: &Value, shape: &Shape, path: &mut Vec<String>, set: &mut FieldSet) {
    if !shape.merges(value) {
        set.insert(path);
        return;
    }
    for (element, member, below) in members(value, shape) {
        path.push(element);
        let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
        if empty || !shape.is_named() || value.is_array() {
            set.insert(path);
        }
        collect(member, below, path, set);
        path.pop();
    }
}

/// The members of a value that merges, in its order.
pub fn members<'v, 's>(value: &'v Value, shape: &'s Shape) -> Vec<(String, &'v Value, &'s Shape)> {
    match (value, shape) {
        (Value::Array(items), Shape::ListMap { keys, item }) => {
            items.iter().map(|i| (key_element(i, keys), i, &**item)).collect()
        }
        (Value::Array(items), _) => items
            .iter()
            .map(|i| (format!("v:{i}"), i, shape.member("")))
            .collect(),
        (Value::Object(object), _) => object
            .iter()
            .map(|(name, v)| (format!("f:{name}"), v, shape.member(name)))
            .collect(),
        _ => Vec::new(),
    }
}

fn key_element(item: &Value, keys: &[(String, Option<Value>)]) -> String {
    let keys: BTreeMap<&str, &Value> = keys
        .iter()
        .filter_map(|(key, default)| Some((key.as_str(), item.get(key).or(default.as_ref())?)))
        .collect();
    format!("k:{}", json!(keys))
}

/// Compares two objects of a shape.
pub fn compare(old: &Value, new: &Value, shape: &Shape) -> Comparison {
    let mut comparison = Comparison::default();
    if old != new {
        walk(Some(old), Some(new), shape, &mut Vec::new(), &mut comparison);
    }
    comparison
}

/// Both differ. Most of an object stays as it is; nothing below that is looked at.
fn walk(
    old: Option<&Value>,
    new: Option<&Value>,
    shape: &Shape,
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    let merges = |v: Option<&Value>| v.is_none_or(|v| shape.merges(v));
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (old, new)
        && merges(old)
    {
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        for name in after.keys().chain(gone) {
            let (b, a) = (before.get(name), after.get(name));
            if b != a {
                path.push(format!("f:{name}"));
                walk(b, a, shape.member(name), path, found);
                path.pop();
            }
        }
    } else if merges(old) && merges(new) {
        let index = |v| -> BTreeMap<_, _> {
            let members = Option::map_or(v, Vec::new(), |v| members(v, shape));
            members.into_iter().map(|(e, v, s)| (e, (v, s))).collect()
        };
        let (before, after) = (index(old), index(new));
        let elements: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for element in elements {
            let (b, a) = (before.get(element), after.get(element));
            let below = a.or(b).map_or(shape, |(_, s)| s);
            let [b, a] = [b, a].map(|member| member.map(|(v, _)| *v));
            if b != a {
                path.push(element.clone());
                walk(b, a, below, path, found);
                path.pop();
            }
        }
    } else if old.is_some() && new.is_some() {
        found.modified.insert(path);
    }
    match (old, new) {
        (None, Some(_)) => found.added.insert(path),
        (Some(_), None) => found.removed.insert(path),
        _ => {}
    }
}

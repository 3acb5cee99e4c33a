//! Objects of files, with the place of each field.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// Where something begins, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub line: u64,
    pub column: u64,
}

/// A value, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Node {
    place: Place,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Place, Node)>),
}

/// An object of Kubernetes.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// The file.
    pub file: String,
    /// The object.
    pub value: Value,
    node: Node,
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `PythonService/checkout`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind(), self.name())
    }

    /// It is of the group, in whatever version, and of the kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let own = self.value["apiVersion"].as_str().unwrap_or_default();
        own.split_once('/').map_or("", |(group, _)| group) == group && self.kind() == kind
    }

    /// They are in the same namespace, as far as they name one.
    pub fn is_near(&self, other: &Self) -> bool {
        let namespace = |object: &Self| object.value["metadata"]["namespace"].as_str().map(str::to_owned);
        match (namespace(self), namespace(other)) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        }
    }

    /// The place of a field, or of what it would be in.
    pub fn place(&self, field: &str) -> Place {
        self.node.find(field, self.node.place)
    }
}

impl Node {
    fn find(&self, rest: &str, own: Place) -> Place {
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.is_empty() {
            return own;
        }
        let bracket = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match &self.kind {
            Kind::Scalar(_) => own,
            Kind::List(items) => {
                let Some((name, rest)) = bracket else { return own };
                let named = |item: &&Node| item.name() == Some(name);
                let item = match name.parse::<usize>() {
                    Ok(index) => items.get(index),
                    Err(_) => items.iter().find(named),
                };
                item.map_or(own, |item| item.find(rest, item.place))
            }
            Kind::Map(fields) => {
                let after = |key: &str| match bracket {
                    Some((name, rest)) => (name == key).then_some(rest),
                    None => rest
                        .strip_prefix(key)
                        .filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])),
                };
                // Keys may have dots themselves: the longest that fits.
                fields
                    .iter()
                    .filter_map(|(key, place, node)| Some((key.len(), place, node, after(key)?)))
                    .max_by_key(|(length, ..)| *length)
                    .map_or(own, |(_, place, node, rest)| node.find(rest, *place))
            }
        }
    }

    fn name(&self) -> Option<&str> {
        let Kind::Map(fields) = &self.kind else {
            return None;
        };
        fields.iter().find_map(|(key, _, node)| match &node.kind {
            Kind::Scalar(Value::String(name)) if key == "name" => Some(name.as_str()),
            _ => None,
        })
    }

    fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Node::value).collect(),
            Kind::Map(fields) => {
                let fields = fields.iter().map(|(key, _, node)| (key.clone(), node.value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

/// The objects of a file, those within lists as well; or why it can't be read.
pub(super) fn objects(file: &str, text: &str) -> Result<Vec<Object>, String> {
    let documents: Vec<Node> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("{file}: is no YAML: {error}"))?;
    let mut found = Vec::new();
    for document in documents {
        let value = document.value();
        if value.is_null() {
            continue;
        }
        let object = |node: Node| {
            let value = node.value();
            let place = node.place;
            if value["apiVersion"].is_string() && value["kind"].is_string() {
                Ok(Object {
                    file: file.to_owned(),
                    value,
                    node,
                })
            } else {
                Err(format!(
                    "{file}:{}:{}: has no apiVersion and kind: it is no object of Kubernetes",
                    place.line, place.column
                ))
            }
        };
        match document.kind {
            Kind::Map(fields) if value["kind"] == "List" => {
                let items = fields.into_iter().find(|(key, ..)| key == "items");
                if let Some((
                    ..,
                    Node {
                        kind: Kind::List(items),
                        ..
                    },
                )) = items
                {
                    for item in items {
                        found.push(object(item)?);
                    }
                }
            }
            _ => found.push(object(document)?),
        }
    }
    Ok(found)
}

fn place<T>(spanned: &Spanned<T>) -> Place {
    Place {
        line: spanned.referenced.line(),
        column: spanned.referenced.column(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self {
            place: place(&spanned),
            kind: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            let node = fields.next_value()?;
            let place = place(&key);
            map.push((key.value, place, node));
        }
        Ok(Kind::Map(map))
    }
}

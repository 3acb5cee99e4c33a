//! Objects of other tools, read field by field: whatever nobody has taken in the end is told.

use std::fmt;

use serde_json::{Map, Value};

/// One object of a file.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// Where it is: `rollout.yaml: document 2`.
    pub place: String,
    /// Its group and version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, if it names one.
    pub namespace: Option<String>,
    /// The whole.
    pub value: Value,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}/{}", self.place, self.kind, self.name)
    }
}

impl Object {
    /// They are in the same namespace, as far as they name one.
    pub fn is_near(&self, other: &Self) -> bool {
        self.namespace.is_none() || other.namespace.is_none() || self.namespace == other.namespace
    }

    /// It is of the group, in whatever version, and of the kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let own = self.api_version.split_once('/').map_or("", |(group, _)| group);
        own == group && self.kind == kind
    }
}

/// The objects of a file, those within lists as well; or what can't be read in it.
pub(super) fn objects(file: &str, text: &str) -> Result<Vec<Object>, Wrong> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| Wrong::at(file, format!("is no YAML: {error}")))?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let place = format!("{file}: document {}", index + 1);
        let is_list = document["kind"] == "List" && document["items"].is_array();
        match document {
            Value::Null => {}
            Value::Object(mut fields) if is_list => {
                let items = fields.remove("items").and_then(|items| match items {
                    Value::Array(items) => Some(items),
                    _ => None,
                });
                for (item, value) in items.unwrap_or_default().into_iter().enumerate() {
                    objects.push(object(&format!("{place}: items[{item}]"), value)?);
                }
            }
            other => objects.push(object(&place, other)?),
        }
    }
    Ok(objects)
}

fn object(place: &str, value: Value) -> Result<Object, Wrong> {
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if !value.is_object() {
        return Err(Wrong::at(
            place,
            "is no object: each document is one, with apiVersion and kind",
        ));
    }
    let object = Object {
        place: place.to_owned(),
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        name: text("/metadata/name"),
        namespace: Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty()),
        value,
    };
    if object.api_version.is_empty() || object.kind.is_empty() {
        return Err(Wrong::at(
            place,
            "has no apiVersion and kind: it is no object of Kubernetes",
        ));
    }
    Ok(object)
}

/// What can't be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Wrong {
    /// At a place: `file: document 2: Rollout/shop: spec.replicas`.
    pub fn at(place: &str, why: impl fmt::Display) -> Self {
        Self(format!("{place}: {why}"))
    }
}

/// The fields of an object that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    place: String,
    path: String,
    left: Map<String, Value>,
}

impl Fields {
    /// The fields of `value`, which is at `path` of what is at `place`; absent ones are none.
    pub fn of(place: &str, path: &str, value: Option<Value>) -> Result<Self, Wrong> {
        let left = match value {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(left)) => left,
            Some(other) => {
                let why = format!("{path}: has {}, and wants fields", short(&other));
                return Err(Wrong::at(place, why));
            }
        };
        Ok(Self {
            place: place.to_owned(),
            path: path.to_owned(),
            left,
        })
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// The names of those that nobody has taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.left.keys().map(String::as_str)
    }

    /// Takes a field.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// Takes an object.
    pub fn fields(&mut self, name: &str) -> Result<Self, Wrong> {
        let value = self.take(name);
        Self::of(&self.place, &self.path(name), value)
    }

    /// Takes an object, if it is there.
    pub fn maybe(&mut self, name: &str) -> Result<Option<Self>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            value => Self::of(&self.place, &self.path(name), value).map(Some),
        }
    }

    /// Takes the items of a list.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Wrong> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(self.wrong(name, format!("has {}, and wants a list", short(&other)))),
        }
    }

    /// Takes the items of a list, each with its fields.
    pub fn each(&mut self, name: &str) -> Result<Vec<Self>, Wrong> {
        self.each_of(name, |item| item)
    }

    /// The same, each after a change.
    pub fn each_of(&mut self, name: &str, change: impl Fn(Value) -> Value) -> Result<Vec<Self>, Wrong> {
        let path = self.path(name);
        let items = self.list(name)?.into_iter().enumerate();
        items
            .map(|(index, item)| Self::of(&self.place, &format!("{path}[{index}]"), Some(change(item))))
            .collect()
    }

    /// Takes a text; a number counts as one.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.wrong(name, format!("has {}, and wants a text", short(&other)))),
        }
    }

    /// Takes a number; a text of digits counts as one.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>, Wrong> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        match number.filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, format!("has {}, and wants a number", short(&value)))),
        }
    }

    /// Takes a truth.
    pub fn truth(&mut self, name: &str) -> Result<Option<bool>, Wrong> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(truth)) => Ok(Some(truth)),
            Some(other) => Err(self.wrong(name, format!("has {}, and wants true or false", short(&other)))),
        }
    }

    /// What is wrong with one of them.
    pub fn wrong(&self, name: &str, why: impl fmt::Display) -> Wrong {
        Wrong::at(&self.place, format!("{}: {why}", self.path(name)))
    }

    /// The paths of those that nobody has taken.
    pub fn rest(&self) -> Vec<String> {
        let is_something = |value: &Value| !matches!(value, Value::Null) && !is_empty(value);
        self.left
            .iter()
            .filter(|(_, value)| is_something(value))
            .map(|(name, _)| self.path(name))
            .collect()
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// A value as a message has it.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

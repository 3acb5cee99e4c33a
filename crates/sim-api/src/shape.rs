//! How server-side apply sees the values of a kind: what is merged, and what is one value.

use std::collections::BTreeMap;

use serde_json::Value;

/// The shape of a value. What no shape describes is [`Shape::Deduced`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shape {
    /// An object is merged field by field, a list or a scalar is one value.
    #[default]
    Deduced,
    /// One value, whatever it is.
    Atomic,
    /// An object with named fields; others are deduced.
    Fields(BTreeMap<String, Field>),
    /// An object with keys of the user's.
    Map(Box<Shape>),
    /// A list whose items are known by some of their fields.
    ListMap {
        /// The fields, each with what stands for one that is absent.
        keys: Vec<(String, Option<Value>)>,
        /// The shape of an item.
        item: Box<Shape>,
    },
    /// A list of scalars, each at most once.
    Set,
    /// An atomic list whose items have a shape: it matters for defaults alone.
    List(Box<Shape>),
}

/// A named field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// Its shape.
    pub shape: Shape,
    /// What an absent field is given when its parent is there.
    pub default: Option<Value>,
}

static DEDUCED: Shape = Shape::Deduced;

impl Shape {
    /// An object with these named fields.
    pub fn fields<const N: usize>(fields: [(&str, Shape); N]) -> Self {
        let field = |(name, shape): (&str, Shape)| (name.to_owned(), Field { shape, default: None });
        Self::Fields(fields.into_iter().map(field).collect())
    }

    /// An object with strings under keys of the user's.
    pub fn strings() -> Self {
        Self::Map(Box::default())
    }

    /// A list map by these keys. A port's `protocol` may be left out: it is then `TCP`.
    pub fn list_map<const N: usize>(keys: [&str; N], item: Self) -> Self {
        let key = |key: &str| (key.to_owned(), (key == "protocol").then(|| Value::from("TCP")));
        Self::ListMap {
            keys: keys.into_iter().map(key).collect(),
            item: Box::new(item),
        }
    }

    /// With another named field.
    #[must_use]
    pub fn with(mut self, name: &str, shape: Self, default: Option<Value>) -> Self {
        if let Self::Fields(fields) = &mut self {
            fields.insert(name.to_owned(), Field { shape, default });
        }
        self
    }

    /// Reads the schema of a `CustomResourceDefinition`.
    pub fn from_schema(schema: &Value) -> Self {
        let is = |key: &str, word: &str| schema[key] == word;
        if let Some(items) = schema.get("items") {
            let item = Box::new(Self::from_schema(items));
            return match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => Self::Set,
                Some("map") => {
                    let keys = schema["x-kubernetes-list-map-keys"].as_array();
                    let key = |key: &str| {
                        let default = items["properties"][key].get("default").cloned();
                        (key.to_owned(), default)
                    };
                    Self::ListMap {
                        keys: keys
                            .into_iter()
                            .flatten()
                            .filter_map(Value::as_str)
                            .map(key)
                            .collect(),
                        item,
                    }
                }
                _ => Self::List(item),
            };
        }
        if is("x-kubernetes-map-type", "atomic") {
            return Self::Atomic;
        }
        if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
            return Self::Map(Box::new(Self::from_schema(values)));
        }
        match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => {
                let field = |(name, schema): (&String, &Value)| {
                    let field = Field {
                        shape: Self::from_schema(schema),
                        default: schema.get("default").cloned(),
                    };
                    (name.clone(), field)
                };
                Self::Fields(properties.iter().map(field).collect())
            }
            None => Self::Deduced,
        }
    }

    /// The shape of a member of an object.
    pub fn member(&self, name: &str) -> &Self {
        match self {
            Self::Fields(fields) => fields.get(name).map_or(&DEDUCED, |f| &f.shape),
            Self::Map(values) => values,
            _ => &DEDUCED,
        }
    }

    /// Members are fields of the kind, not keys of the user's: whoever owns something below one owns it too.
    pub fn is_named(&self) -> bool {
        !matches!(self, Self::Map(_))
    }

    /// A value of this shape is merged member by member.
    pub fn merges(&self, value: &Value) -> bool {
        match self {
            Self::Atomic | Self::List(_) => false,
            Self::Deduced | Self::Fields(_) | Self::Map(_) => value.is_object(),
            Self::ListMap { .. } | Self::Set => value.is_array(),
        }
    }

    /// What of it has defaults: most of a schema has none, and is not looked at for them.
    #[must_use]
    pub fn with_defaults(&self) -> Option<Self> {
        match self {
            Self::Fields(fields) => {
                let fields: BTreeMap<String, Field> = fields
                    .iter()
                    .filter_map(|(name, field)| {
                        let (shape, default) = (field.shape.with_defaults(), field.default.clone());
                        let matters = shape.is_some() || default.is_some();
                        let shape = shape.unwrap_or_default();
                        matters.then(|| (name.clone(), Field { shape, default }))
                    })
                    .collect();
                (!fields.is_empty()).then_some(Self::Fields(fields))
            }
            Self::Map(values) => values.with_defaults().map(|values| Self::Map(Box::new(values))),
            Self::ListMap { item, .. } | Self::List(item) => {
                item.with_defaults().map(|item| Self::List(Box::new(item)))
            }
            Self::Deduced | Self::Atomic | Self::Set => None,
        }
    }

    /// Gives absent fields their defaults, wherever their parents are present.
    pub fn apply_defaults(&self, value: &mut Value) {
        match (self, value) {
            (Self::Fields(fields), Value::Object(object)) => {
                for (name, field) in fields {
                    if let Some(default) = &field.default
                        && !object.contains_key(name)
                    {
                        object.insert(name.clone(), default.clone());
                    }
                    if let Some(member) = object.get_mut(name) {
                        field.shape.apply_defaults(member);
                    }
                }
            }
            (Self::Map(values), Value::Object(object)) => {
                object.values_mut().for_each(|v| values.apply_defaults(v));
            }
            (Self::ListMap { item, .. } | Self::List(item), Value::Array(items)) => {
                for value in items {
                    item.apply_defaults(value);
                }
            }
            _ => {}
        }
    }
}

/// What every object's metadata looks like.
pub fn metadata() -> Shape {
    Shape::fields([
        ("labels", Shape::strings()),
        ("annotations", Shape::strings()),
        ("finalizers", Shape::Set),
        ("ownerReferences", Shape::list_map(["uid"], Shape::Atomic)),
        ("managedFields", Shape::Atomic),
    ])
}

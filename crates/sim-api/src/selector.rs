//! Label and field selectors.

use serde_json::Value;

/// What a list or a watch is limited to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Exists,
    Missing,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Reads both as they are written in a query.
    ///
    /// # Errors
    ///
    /// What can't be read.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let fields = fields.split(',').filter(|f| !f.is_empty()).map(|field| {
            let (key, value, equal) = if let Some((key, value)) = field.split_once("!=") {
                (key, value, false)
            } else {
                let (key, value) = field.split_once('=').ok_or_else(|| field.to_owned())?;
                (key, value.trim_start_matches('='), true)
            };
            Ok((key.to_owned(), value.to_owned(), equal))
        });
        Ok(Self {
            labels: split_labels(labels).iter().map(|r| requirement(r)).collect(),
            fields: fields.collect::<Result<_, String>>()?,
        })
    }

    /// The object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let labels = self.labels.iter().all(|r| match (&r.rule, label(&r.key)) {
            (Rule::Exists, value) => value.is_some(),
            (Rule::Missing, value) => value.is_none(),
            (Rule::In(values), value) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            (Rule::NotIn(values), value) => value.is_none_or(|v| values.iter().all(|w| w != v)),
        });
        labels
            && self.fields.iter().all(|(path, wanted, equal)| {
                let pointer = format!("/{}", path.replace('.', "/"));
                let value = object
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                (value == wanted) == *equal
            })
    }
}

/// At the commas outside of parentheses.
fn split_labels(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        inside = (inside || c == '(') && c != ')';
        match parts.last_mut() {
            Some(last) if c != ',' || inside => last.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts.retain(|p| !p.trim().is_empty());
    parts
}

fn requirement(text: &str) -> Requirement {
    let text = text.trim();
    let list = |values: &str| {
        let values = values.trim().trim_start_matches('(').trim_end_matches(')');
        values.split(',').map(|v| v.trim().to_owned()).collect()
    };
    let (key, rule) = if let Some((key, values)) = text.split_once(" notin ") {
        (key, Rule::NotIn(list(values)))
    } else if let Some((key, values)) = text.split_once(" in ") {
        (key, Rule::In(list(values)))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Rule::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once('=') {
        (
            key,
            Rule::In(vec![value.trim_start_matches('=').trim().to_owned()]),
        )
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Rule::Missing)
    } else {
        (text, Rule::Exists)
    };
    Requirement {
        key: key.trim().to_owned(),
        rule,
    }
}

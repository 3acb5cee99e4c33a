//! Conditions in the making: what is told of a metric, and the Prometheus that it names, count only while a condition is
//! made of it.

use serde_json::{Value, json};

use super::{Draft, Fate, label};

/// Conditions that a service has at most.
const MOST_CONDITIONS: usize = 10;

/// A Prometheus that a metric asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The field that names it.
    pub field: String,
    /// Its address.
    pub address: String,
}

/// A condition in the making.
#[derive(Debug)]
pub struct Carried {
    /// The metric that it is made of.
    field: String,
    /// That metric's name, made one that fits.
    base: String,
    /// The same, if nobody else has it.
    name: String,
    /// All but its name.
    content: Value,
    /// Whom its metric asks, and others that are the same.
    asks: Vec<Asked>,
}

impl Carried {
    fn written(&self) -> Value {
        let mut written = self.content.clone();
        written["name"] = json!(self.name);
        written
    }
}

impl Draft {
    /// A condition; its name is made one that fits. What is there already is not written a second time: it would run twice.
    pub fn condition(&mut self, field: &str, name: &str, content: Value, asks: Option<Asked>) {
        let base = label(name, "condition");
        if let Some(twin) = self.conditions.iter_mut().find(|other| other.content == content) {
            twin.asks.extend(asks);
            let why = format!(
                "is the same as the condition {}, so it is written once",
                twin.name
            );
            if twin.base != base {
                self.note(Fate::Approximated, field, why);
            }
            return;
        }
        if let Some(why) = self.too_much(&content) {
            self.leave_out(field, &content, why);
            return;
        }
        let name = self.free_name(&base);
        self.conditions.push(Carried {
            field: field.to_owned(),
            base,
            name,
            content,
            asks: asks.into_iter().collect(),
        });
    }

    /// Why one more can't be written.
    fn too_much(&self, content: &Value) -> Option<String> {
        if self.conditions.len() >= MOST_CONDITIONS {
            return Some(format!("a service has at most {MOST_CONDITIONS} conditions"));
        }
        let texts = [
            ("/query", 4096),
            ("/successCondition", 64),
            ("/web/url", 2048),
            ("/web/jsonPath", 512),
        ];
        texts.into_iter().find_map(|(pointer, most)| {
            let length = content.pointer(pointer)?.as_str()?.chars().count();
            let field = pointer[1..].replace('/', ".");
            (length > most).then(|| format!("{field} has {length} characters and may have {most}"))
        })
    }

    fn free_name(&self, base: &str) -> String {
        let taken = |name: &str| self.conditions.iter().any(|other| other.name == name);
        let mut name = base.to_owned();
        let mut count = 2;
        while taken(&name) {
            name = format!("{base}-{count}");
            count += 1;
        }
        name
    }

    /// Takes a condition out again, which turned out to be none.
    pub fn remove_condition(&mut self, index: usize, why: String) {
        let dropped = self.conditions.remove(index);
        self.leave_out(&dropped.field, &dropped.content, why);
    }

    /// Tells of a condition that is not written; of its bound alone where another one of the same metric is.
    fn leave_out(&mut self, field: &str, content: &Value, why: String) {
        match content["successCondition"].as_str() {
            Some(bound) if self.is_carried(field) => {
                self.note(Fate::NotCarriedOver, format!("{field}, {bound}"), why);
            }
            _ => self.drop_metric(field, why),
        }
    }

    fn is_carried(&self, field: &str) -> bool {
        self.conditions.iter().any(|condition| condition.field == field)
    }

    /// Tells that nothing is made of a metric. How it would have been written is no longer of interest.
    pub fn drop_metric(&mut self, field: &str, why: impl Into<String>) {
        if !self.is_carried(field) {
            let path = field.split_once(" (").map_or(field, |(path, _)| path);
            let (own, within) = (format!("{field}."), format!("{path}."));
            let of_it = |at: &str| at == field || at.starts_with(&own) || at.starts_with(&within);
            self.notes
                .retain(|note| note.fate != Fate::Approximated || !of_it(&note.field));
        }
        self.note(Fate::NotCarriedOver, field, why);
    }

    /// All of them, as they are written.
    pub fn written_conditions(&self) -> Vec<Value> {
        self.conditions.iter().map(Carried::written).collect()
    }

    fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.conditions.iter().flat_map(|condition| &condition.asks)
    }

    /// The address of the Prometheus that is asked for everything: the first that a condition's metric names.
    pub fn address(&self) -> Option<&str> {
        self.asked().next().map(|asked| asked.address.as_str())
    }

    /// Tells of metrics that named another one.
    pub fn tell_other_addresses(&mut self) {
        let Some(first) = self.address().map(str::to_owned) else {
            return;
        };
        let others: Vec<String> = self
            .asked()
            .filter(|asked| asked.address != first)
            .map(|asked| asked.field.clone())
            .collect();
        for field in others {
            let why = format!(
                "one Prometheus is asked for everything: {first}, the first that is named by a metric that is carried over"
            );
            self.note(Fate::NotCarriedOver, field, why);
        }
    }
}

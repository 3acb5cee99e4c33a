//! `managedFields`: the owners of an object's fields.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::{Comparison, FieldSet};

/// How a writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Anything else.
    Update,
}

/// Who writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// How.
    pub operation: Operation,
    /// The field manager.
    pub manager: String,
    /// The API version that it writes.
    pub api_version: String,
    /// The subresource, empty for the object itself.
    pub subresource: String,
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner.
    pub owner: Writer,
    /// The field.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    writer: Writer,
    time: String,
    /// Shared: most writes leave most owners as they are.
    fields: Arc<FieldSet>,
}

impl Entry {
    /// What entries are ordered by.
    fn place(&self) -> (Operation, &str, &Writer) {
        (self.writer.operation, &self.time, &self.writer)
    }
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owners(Vec<Entry>);

/// Metadata that nobody owns.
const NOBODYS: [&str; 8] = [
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

/// Without what the server sets itself, and without the fields that an endpoint does not write.
pub fn without_reset(mut set: FieldSet, reset: &[&str]) -> FieldSet {
    for field in ["f:apiVersion", "f:kind"] {
        set.remove_tree(&[field]);
    }
    set.remove_member(&["f:metadata"]);
    for field in NOBODYS {
        set.remove_tree(&["f:metadata", field]);
    }
    for field in reset {
        let path: Vec<String> = field.split('/').map(|name| format!("f:{name}")).collect();
        set.remove_tree(&path.iter().map(String::as_str).collect::<Vec<_>>());
    }
    set
}

impl Owners {
    /// Reads `metadata.managedFields`.
    pub fn read(managed_fields: &Value) -> Self {
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let entries = managed_fields.as_array().into_iter().flatten();
        let entries = entries.filter(|e| e["fieldsV1"].is_object()).map(|entry| Entry {
            writer: Writer {
                operation: match entry["operation"].as_str() {
                    Some("Apply") => Operation::Apply,
                    _ => Operation::Update,
                },
                manager: text(entry, "manager"),
                api_version: text(entry, "apiVersion"),
                subresource: text(entry, "subresource"),
            },
            time: text(entry, "time"),
            fields: Arc::new(FieldSet::from_fields_v1(&entry["fieldsV1"])),
        });
        Self(entries.collect())
    }

    /// Nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Entries that have changed since `before` are of `now`; all are in their order.
    pub fn settle(&mut self, before: &Self, now: &str) {
        for entry in &mut self.0 {
            // Whoever loses a field has not written.
            let same = before.0.iter().find(|b| b.writer == entry.writer);
            let gained = same
                .is_none_or(|b| b.fields != entry.fields && !entry.fields.difference(&b.fields).is_empty());
            let applied =
                entry.writer.operation == Operation::Apply && same.is_some_and(|b| b.fields != entry.fields);
            if entry.time.is_empty() || gained || applied {
                now.clone_into(&mut entry.time);
            }
        }
        self.0.sort_by(|a, b| a.place().cmp(&b.place()));
    }

    /// As `metadata.managedFields`.
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|entry| {
            let mut value = json!({
                "manager": entry.writer.manager,
                "operation": format!("{:?}", entry.writer.operation),
                "apiVersion": entry.writer.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
            });
            value["fieldsV1"] = entry.fields.to_fields_v1();
            if !entry.writer.subresource.is_empty() {
                value["subresource"] = json!(entry.writer.subresource);
            }
            value
        });
        entries.collect()
    }

    /// The same owners own the same fields, whenever they wrote them.
    pub fn same_fields(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }

    fn sorted(&self) -> Vec<(&Writer, &FieldSet)> {
        let mut fields: Vec<_> = self.0.iter().map(|e| (&e.writer, &*e.fields)).collect();
        fields.sort_by_key(|(writer, _)| *writer);
        fields
    }

    /// Everything that somebody owns.
    pub fn all(&self) -> FieldSet {
        let mut all = FieldSet::default();
        self.0.iter().for_each(|entry| all.add(&entry.fields));
        all
    }

    /// Gives a writer this set, and returns the one that it had.
    pub fn replace(&mut self, writer: &Writer, fields: FieldSet) -> FieldSet {
        // An applier of another version of the API is the same one.
        let same = |e: &&mut Entry| {
            e.writer.operation == writer.operation
                && e.writer.manager == writer.manager
                && e.writer.subresource == writer.subresource
        };
        if let Some(entry) = self.0.iter_mut().find(same) {
            entry.writer.api_version.clone_from(&writer.api_version);
            return Arc::unwrap_or_clone(std::mem::replace(&mut entry.fields, Arc::new(fields)));
        }
        self.0.push(Entry {
            writer: writer.clone(),
            time: String::new(),
            fields: Arc::new(fields),
        });
        FieldSet::default()
    }

    /// The others lose what this writer has changed, with `force`; without, it is a conflict.
    pub fn take(
        &mut self,
        writer: &Writer,
        comparison: &Comparison,
        force: bool,
    ) -> Result<(), Vec<Conflict>> {
        let changed = comparison.modified.union(&comparison.added);
        let mut conflicts = Vec::new();
        for entry in self.0.iter().filter(|e| e.writer != *writer) {
            conflicts.extend(
                entry
                    .fields
                    .intersection(&changed)
                    .paths()
                    .into_iter()
                    .map(|path| Conflict {
                        owner: entry.writer.clone(),
                        path,
                    }),
            );
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for entry in self.0.iter_mut().filter(|e| e.writer != *writer) {
            if entry.fields.meets(&changed) || entry.fields.meets(&comparison.removed) {
                let kept = entry.fields.difference(&changed).difference(&comparison.removed);
                entry.fields = Arc::new(kept);
            }
        }
        self.0.retain(|e| !e.fields.is_empty());
        Ok(())
    }

    /// A writer owns what it has changed; nobody else does.
    pub fn take_changes(&mut self, writer: &Writer, comparison: &Comparison, reset: &[&str]) {
        // Forced, so there is no conflict.
        drop(self.take(writer, comparison, true));
        let changed = comparison.modified.union(&comparison.added);
        let changed = without_reset(changed, reset);
        match self.0.iter_mut().find(|e| e.writer == *writer) {
            Some(entry) => {
                let mut fields = entry.fields.difference(&comparison.removed);
                fields.add(&changed);
                entry.fields = Arc::new(fields);
                if !changed.is_empty() {
                    entry.time.clear();
                }
            }
            None => self.0.push(Entry {
                writer: writer.clone(),
                time: String::new(),
                fields: Arc::new(changed),
            }),
        }
        self.0.retain(|e| !e.fields.is_empty());
    }
}

//! Objects, their versions, and the history of what changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

/// Which object: its resource, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The plural with its group.
    pub resource: String,
    /// The namespace; empty for what is in none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version of the store that it made.
    pub version: u64,
    /// The object.
    pub key: ObjectKey,
    /// What it was.
    pub before: Option<Arc<Value>>,
    /// What it is; if it is gone, what it was last, with the version of its end.
    pub after: Arc<Value>,
    /// It is gone.
    pub deleted: bool,
}

/// Every object. What is stored is shared and never changed: a write stores another value.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<ObjectKey, Arc<Value>>,
    version: u64,
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    identities: u64,
}

impl Store {
    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Every object, in the order of resources, namespaces and names.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The objects of a resource, in the order of namespaces and names.
    pub fn of<'s>(&'s self, resource: &str) -> impl Iterator<Item = (&'s ObjectKey, &'s Arc<Value>)> {
        let first = ObjectKey {
            resource: resource.to_owned(),
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.resource == resource)
    }

    /// Stores an object under the next version, and returns it.
    pub fn put(&mut self, key: &ObjectKey, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.remember(key, before, Arc::clone(&object), false);
        object
    }

    /// Takes an object away, and returns it as it was last.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(last);
        self.remember(key, Some(before), Arc::clone(&last), true);
        Some(last)
    }

    fn remember(&mut self, key: &ObjectKey, before: Option<Arc<Value>>, after: Arc<Value>, deleted: bool) {
        self.history.push_back(Change {
            version: self.version,
            key: key.clone(),
            before,
            after,
            deleted,
        });
    }

    /// What changed after a version; `None` if that is forgotten.
    pub fn since(&self, version: u64) -> Option<impl Iterator<Item = &Change>> {
        let known = version >= self.compacted;
        known.then(|| {
            // Versions grow along the history.
            let first = self.history.partition_point(|c| c.version <= version);
            self.history.range(first..)
        })
    }

    /// Forgets all but the newest changes: a long life must not remember everything.
    pub fn keep(&mut self, changes: usize) {
        while self.history.len() > changes {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.version;
            }
        }
    }

    /// Forgets the history: whoever has not seen all of it has to list again.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
    }

    /// The next number for what has to be unique.
    pub fn identity(&mut self) -> u64 {
        self.identities += 1;
        self.identities
    }
}

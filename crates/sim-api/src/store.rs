//! Objects, their versions, and the history of what changed.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::apply::owners::Owners;

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

/// The parts of a key, owned or borrowed: objects are looked up far more often than they are made.
pub(crate) trait Parts {
    /// The resource, the namespace and the name.
    fn parts(&self) -> (&str, &str, &str);
}

impl Parts for ObjectKey {
    fn parts(&self) -> (&str, &str, &str) {
        (&self.resource, &self.namespace, &self.name)
    }
}

impl Parts for (&str, &str, &str) {
    fn parts(&self) -> (&str, &str, &str) {
        *self
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl PartialOrd for dyn Parts + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Parts + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl<'k> Borrow<dyn Parts + 'k> for ObjectKey {
    fn borrow(&self) -> &(dyn Parts + 'k) {
        self
    }
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

/// An object, and its owners as its `managedFields` have them: each write asks for both.
#[derive(Debug)]
struct Stored {
    object: Arc<Value>,
    owners: Arc<Owners>,
}

/// Every object. What is stored is shared and never changed: a write stores another value.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<ObjectKey, Stored>,
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
        self.objects.get(key).map(|stored| &stored.object)
    }

    /// An object by the parts of its key.
    pub fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        let stored = self.objects.get(&(resource, namespace, name) as &dyn Parts);
        stored.map(|stored| &stored.object)
    }

    /// Who owns what of an object; nobody owns anything of one that is not there.
    pub fn owners(&self, key: &ObjectKey) -> Arc<Owners> {
        let stored = self.objects.get(key);
        stored.map_or_else(Arc::default, |stored| Arc::clone(&stored.owners))
    }

    /// Every object, in the order of resources, namespaces and names.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Value>)> {
        self.objects.iter().map(|(key, stored)| (key, &stored.object))
    }

    /// The objects of a resource, in the order of namespaces and names.
    pub fn of<'s>(&'s self, resource: &str) -> impl Iterator<Item = (&'s ObjectKey, &'s Arc<Value>)> {
        let first = (resource, "", "");
        let from = Bound::Included(&first as &dyn Parts);
        self.objects
            .range::<dyn Parts, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.resource == resource)
            .map(|(key, stored)| (key, &stored.object))
    }

    /// Stores an object, with who owns what of it, under the next version, and returns it.
    pub fn put(&mut self, key: &ObjectKey, mut object: Value, owners: Arc<Owners>) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let stored = Stored {
            object: Arc::clone(&object),
            owners,
        };
        let before = self
            .objects
            .insert(key.clone(), stored)
            .map(|before| before.object);
        self.remember(key, before, Arc::clone(&object), false);
        object
    }

    /// Takes an object away, and returns it as it was last.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?.object;
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

//! Watches: a place in the history and what is wanted of it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::selector::Selector;
use crate::status::Refusal;
use crate::store::{Change, Store};

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub word: &'static str,
    /// The object, or a `Status`.
    pub object: Arc<Value>,
}

impl Event {
    /// As a server sends it: a line, given the object's text.
    pub fn line(&self, object: &str) -> String {
        format!("{{\"type\":\"{}\",\"object\":{object}}}\n", self.word)
    }
}

/// A watch. It holds no connection: whoever asks for its events gets what has happened since.
#[derive(Debug)]
pub struct Watch {
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) selector: Selector,
    pub(crate) api_version: String,
    pub(crate) kind: String,
    pub(crate) seen: u64,
    pub(crate) bookmarks: bool,
    pub(crate) waiting: VecDeque<Event>,
    pub(crate) ended: bool,
}

impl Watch {
    /// Nothing more will come.
    pub fn is_ended(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// What is watched: the plural with its group.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Ends it as a server does that wants its watches to be asked for again.
    pub fn end(&mut self) {
        self.ended = true;
    }

    fn wants(&self, object: &Value) -> bool {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        (self.namespace.is_empty() || self.namespace == namespace) && self.selector.matches(object)
    }

    /// The event that a change is for this watch: an object that comes to be selected is added.
    fn event(&self, change: &Change) -> Option<Event> {
        if change.key.resource != self.resource {
            return None;
        }
        let was = change.before.as_ref().is_some_and(|b| self.wants(b));
        let is = !change.deleted && self.wants(&change.after);
        let word = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(Event {
            word,
            object: Arc::clone(&change.after),
        })
    }

    /// The next event.
    pub fn next(&mut self, store: &Store) -> Option<Event> {
        if self.waiting.is_empty() && !self.ended {
            self.take_in(store);
        }
        self.waiting.pop_front()
    }

    fn take_in(&mut self, store: &Store) {
        let Some(changes) = store.since(self.seen) else {
            let message = format!("too old resource version: {} ({})", self.seen, store.version());
            let gone = Refusal::new(410, "Expired", message).to_value();
            self.waiting.push_back(Event {
                word: "ERROR",
                object: Arc::new(gone),
            });
            self.ended = true;
            return;
        };
        let events: Vec<Event> = changes.filter_map(|c| self.event(c)).collect();
        self.waiting.extend(events);
        let moved = self.seen < store.version();
        self.seen = store.version();
        if self.bookmarks && moved && self.waiting.is_empty() {
            // What happened was nothing to this watch: a bookmark keeps its place from growing old.
            let bookmark = json!({
                "kind": self.kind,
                "apiVersion": self.api_version,
                "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
            });
            self.waiting.push_back(Event {
                word: "BOOKMARK",
                object: Arc::new(bookmark),
            });
        }
    }
}

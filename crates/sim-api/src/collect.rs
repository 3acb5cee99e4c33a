//! Garbage collection, as an explicit step.

use std::sync::Arc;

use serde_json::Value;

use crate::server::{ApiServer, FOREGROUND, ORPHAN};
use crate::store::ObjectKey;

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object["metadata"]["ownerReferences"].as_array();
    references.into_iter().flatten().map(|r| text(r, "/uid"))
}

impl ApiServer {
    /// Does what the garbage collector would do, until nothing is left to do: deletes what none of the owners
    /// of are left, orphans, and finishes foreground deletions. Returns what it deleted or changed.
    pub fn collect_garbage(&mut self) -> Vec<ObjectKey> {
        let mut touched = Vec::new();
        while let Some(key) = self.collect_one() {
            touched.push(key);
        }
        touched
    }

    fn collect_one(&mut self) -> Option<ObjectKey> {
        let all: Vec<(ObjectKey, Arc<Value>)> = self
            .store()
            .iter()
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect();
        let find = |uid: &str| {
            all.iter()
                .find(|(_, o)| text(o, "/metadata/uid") == uid)
                .map(|(_, o)| o)
        };
        let has = |object: &Value, finalizer: &str| {
            let finalizers = object["metadata"]["finalizers"].as_array();
            finalizers.into_iter().flatten().any(|f| f == finalizer)
        };
        let deleting = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        for (key, object) in &all {
            let uid = text(object, "/metadata/uid");
            let mut owned = all.iter().filter(|(_, o)| owners(o).any(|owner| owner == uid));
            if deleting(object) && has(object, ORPHAN) {
                for (dependent, _) in owned {
                    self.drop_owner(dependent, uid);
                }
                self.drop_finalizer(key, ORPHAN);
                return Some(key.clone());
            }
            if deleting(object) && has(object, FOREGROUND) {
                match owned.find(|(_, o)| !deleting(o)) {
                    Some((dependent, _)) => {
                        self.begin_deletion(dependent);
                        return Some(dependent.clone());
                    }
                    None if !all.iter().any(|(_, o)| owners(o).any(|owner| owner == uid)) => {
                        self.drop_finalizer(key, FOREGROUND);
                        return Some(key.clone());
                    }
                    None => {}
                }
            }
            let mut of = owners(object).peekable();
            if of.peek().is_some() && !deleting(object) && of.all(|owner| find(owner).is_none()) {
                self.begin_deletion(key);
                return Some(key.clone());
            }
        }
        None
    }
}

//! Deletions, and what the garbage collector does.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ApiServer, FOREGROUND, ORPHAN, Place};
use crate::call::Call;
use crate::kind::Ending;
use crate::status::Refusal;
use crate::store::ObjectKey;

impl ApiServer {
    pub(super) fn delete(&mut self, place: &Place, call: &Call) -> Result<Arc<Value>, Refusal> {
        let live = self.live(place)?;
        let options = &call.body;
        for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let Some(wanted) = options["preconditions"][field].as_str() else {
                continue;
            };
            let is = live["metadata"][field].as_str().unwrap_or_default();
            if wanted != is {
                let why = format!(
                    "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {is}"
                );
                return Err(Refusal::conflict(&place.kind, &place.name, &why));
            }
        }
        let mut object = Value::clone(&live);
        let policy = match call.parameter("propagationPolicy") {
            "" => options["propagationPolicy"].as_str().unwrap_or("Background"),
            named => named,
        };
        let finalizer = match policy {
            "Foreground" => Some(FOREGROUND),
            "Orphan" => Some(ORPHAN),
            _ => None,
        };
        if let Some(finalizer) = finalizer {
            let mut finalizers = object["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if !finalizers.contains(&json!(finalizer)) {
                finalizers.push(json!(finalizer));
            }
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        let grace = options["gracePeriodSeconds"].as_i64();
        let held = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|f| !f.is_empty());
        let running = place.kind.ending == Ending::ByKubelet
            && object["spec"]["nodeName"].is_string()
            && grace != Some(0);
        if held || running {
            if !live["metadata"]["deletionTimestamp"].is_string() {
                let seconds = if running { grace.unwrap_or(30) } else { 0 };
                object["metadata"]["deletionTimestamp"] = json!(self.timestamp());
                object["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
                if let Some(generation) = object["metadata"]["generation"].as_i64() {
                    object["metadata"]["generation"] = json!(generation + 1);
                }
            }
            return Ok(if object == *live {
                live
            } else {
                let owners = self.store.owners(&place.key());
                self.store.put(&place.key(), object, owners)
            });
        }
        let last = self.store.remove(&place.key()).unwrap_or(live);
        if place.kind.ending != Ending::AtOnce {
            return Ok(last);
        }
        Ok(Arc::new(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": place.name, "group": place.kind.group, "kind": place.kind.plural,
                "uid": last["metadata"]["uid"],
            },
        })))
    }

    /// An eviction is a deletion that disruption budgets may forbid; there are none here.
    pub(super) fn evict(&mut self, place: &Place, call: &Call) -> Result<(u16, Arc<Value>), Refusal> {
        let mut options = call.clone();
        options.body = call.body["deleteOptions"].clone();
        self.delete(place, &options)?;
        let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
        Ok((201, Arc::new(done)))
    }

    /// Deletes as the garbage collector does, without a word to anybody.
    pub(crate) fn begin_deletion(&mut self, key: &ObjectKey) {
        let Some(kind) = self.kinds.iter().find(|k| k.resource() == key.resource).cloned() else {
            self.store.remove(key);
            return;
        };
        let path = kind.path(&key.namespace, &key.name);
        let call = Call::new(http::Method::DELETE, &path, "application/json", json!({}));
        self.handle(&call);
    }

    pub(crate) fn drop_finalizer(&mut self, key: &ObjectKey, finalizer: &str) {
        let left = self.change(key, |object| {
            let finalizers = object["metadata"]["finalizers"].as_array_mut();
            finalizers.map_or(0, |f| {
                f.retain(|f| f != finalizer);
                f.len()
            })
        });
        if left == Some(0) {
            self.store.remove(key);
        }
    }

    pub(crate) fn drop_owner(&mut self, key: &ObjectKey, uid: &str) {
        self.change(key, |object| {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|o| o["uid"] != uid);
            }
        });
    }

    fn change<T>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Value) -> T) -> Option<T> {
        let mut object = Value::clone(self.store.get(key)?);
        let result = change(&mut object);
        // Neither finalizers nor owner references are kept apart by who wrote them.
        self.store.put(key, object, self.store.owners(key));
        Some(result)
    }
}

//! Creations, replacements and patches.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ApiServer, Place};
use crate::apply::owners::{Operation, Owners, Writer};
use crate::apply::{self, Outcome};
use crate::call::Call;
use crate::status::Refusal;

/// Metadata that no write changes.
const FIXED: [&str; 8] = [
    "uid",
    "name",
    "namespace",
    "generateName",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn set_or_remove(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

fn without_owners(object: &Value) -> Value {
    let Some(fields) = object.as_object() else {
        return object.clone();
    };
    let fields = fields.iter().map(|(name, value)| {
        let value = match value.as_object().filter(|_| name == "metadata") {
            Some(metadata) => {
                let kept = metadata.iter().filter(|(field, _)| *field != "managedFields");
                kept.map(|(field, value)| (field.clone(), value.clone()))
                    .collect()
            }
            None => value.clone(),
        };
        (name.clone(), value)
    });
    fields.collect()
}

/// Takes the owners out of an object.
fn take_owners(object: &mut Value) -> Value {
    let metadata = object["metadata"].as_object_mut();
    metadata
        .and_then(|m| m.remove("managedFields"))
        .unwrap_or_default()
}

/// A patch may say something of the owners. One that does not keeps them.
fn may_touch_owners(patch: &Value) -> bool {
    match patch.as_array() {
        Some(operations) => operations.iter().any(|operation| {
            let paths = ["path", "from"].map(|key| operation[key].as_str().unwrap_or_default());
            let elsewhere = ["/spec", "/status", "/metadata/resourceVersion"];
            !elsewhere.iter().any(|place| paths[0].starts_with(place)) || !paths[1].is_empty()
        }),
        None => patch.get("metadata").is_some(),
    }
}

/// They differ at most in what no generation counts.
fn same_content(a: &Value, b: &Value) -> bool {
    fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(name, _)| *name != "metadata" && *name != "status")
    }
    content(a).eq(content(b))
}

/// What a write is about.
struct Live {
    object: Arc<Value>,
    /// Without its owners.
    plain: Value,
    owners: Arc<Owners>,
}

impl Live {
    fn new(object: Arc<Value>, owners: Arc<Owners>) -> Self {
        Self {
            plain: without_owners(&object),
            owners,
            object,
        }
    }
}

impl Place {
    fn writer(&self, operation: Operation, manager: &str) -> Writer {
        Writer {
            operation,
            manager: manager.to_owned(),
            api_version: self.kind.api_version(),
            subresource: self.subresource.clone(),
        }
    }

    /// Gives a written object the fields that a write here leaves alone. Both are without their owners.
    fn restore(&self, live: &Value, object: &mut Value) {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        if self.is_status() {
            let kept = |name: &str| name != "status" && (self.kind.custom || name != "metadata");
            if let Some(fields) = object.as_object_mut() {
                fields.retain(|name, _| !kept(name) || live.get(name).is_some());
            }
            let rest = live.as_object().into_iter().flatten();
            for (name, value) in rest.filter(|(name, _)| kept(name)) {
                // Most writes leave them as they are.
                if object.get(name) != Some(value) {
                    set_or_remove(object, name, Some(value));
                }
            }
        } else if self.kind.status {
            set_or_remove(object, "status", live.get("status"));
        }
        for field in FIXED {
            set_or_remove(&mut object["metadata"], field, live["metadata"].get(field));
        }
    }

    /// The version and the identity that a write names are those that there are.
    fn check(&self, live: &Value, written: &Value) -> Result<(), Refusal> {
        let (uid, version) = (text(written, "uid"), text(written, "resourceVersion"));
        if !version.is_empty() && version != text(live, "resourceVersion") {
            return Err(Refusal::stale(&self.kind, &self.name));
        }
        if !uid.is_empty() && uid != text(live, "uid") {
            let why = format!("metadata.uid: Invalid value: \"{uid}\": field is immutable");
            return Err(Refusal::invalid(&self.kind, &self.name, &why));
        }
        Ok(())
    }
}

impl ApiServer {
    pub(super) fn create(&mut self, mut place: Place, call: &Call) -> Result<(u16, Arc<Value>), Refusal> {
        let mut object = call.body.clone();
        if !object["metadata"].is_object() {
            return Err(Refusal::bad_request("the object has no metadata"));
        }
        if !text(&object, "resourceVersion").is_empty() {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::new(500, "InternalError", why));
        }
        if text(&object, "name").is_empty() {
            let prefix = text(&object, "generateName").to_owned();
            if prefix.is_empty() {
                let why = "metadata.name: Required value: name or generateName is required";
                return Err(Refusal::invalid(&place.kind, "", why));
            }
            let name = format!("{prefix}{:05x}", self.store.identity());
            object["metadata"]["name"] = json!(name);
        }
        text(&object, "name").clone_into(&mut place.name);
        if self.store.get(&place.key()).is_some() {
            return Err(Refusal::already_exists(&place.kind, &place.name));
        }
        self.initialize(&place, &mut object);
        let writer = place.writer(Operation::Update, call.manager());
        let outcome = apply::update(
            &json!({"metadata": {}}),
            object,
            &place.kind.shape,
            Owners::default(),
            &writer,
            place.reset(),
        );
        Ok((201, self.insert(&place, outcome)))
    }

    /// Makes a new object of what was written.
    fn initialize(&mut self, place: &Place, object: &mut Value) {
        if place.kind.status {
            set_or_remove(object, "status", None);
        }
        let metadata = &mut object["metadata"];
        for field in ["managedFields", "deletionTimestamp", "generation"] {
            set_or_remove(metadata, field, None);
        }
        metadata["name"] = json!(place.name);
        if place.kind.namespaced {
            metadata["namespace"] = json!(place.namespace);
        }
        metadata["uid"] = self.uid();
        metadata["creationTimestamp"] = json!(self.timestamp());
        if place.kind.generation {
            metadata["generation"] = json!(1);
        }
        place.kind.finish(object);
    }

    fn insert(&mut self, place: &Place, outcome: Outcome) -> Arc<Value> {
        let (mut object, mut owners) = (outcome.object, outcome.owners);
        owners.settle(&Owners::default(), &self.timestamp());
        object["metadata"]["managedFields"] = owners.to_value();
        self.store.put(&place.key(), object, Arc::new(owners))
    }

    pub(super) fn replace(&mut self, place: &Place, call: &Call) -> Result<Arc<Value>, Refusal> {
        let live = self.live(place)?;
        if text(&call.body, "name") != place.name {
            return Err(Refusal::bad_request(
                "the name of the object does not match the name on the URL",
            ));
        }
        if place.kind.custom && text(&call.body, "resourceVersion").is_empty() {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(Refusal::invalid(&place.kind, &place.name, why));
        }
        let live = Live::new(live, self.store.owners(&place.key()));
        self.update(place, &live, call.body.clone(), call.manager())
    }

    pub(super) fn patch(&mut self, place: &Place, call: &Call) -> Result<(u16, Arc<Value>), Refusal> {
        if call.content_type.contains("apply-patch") {
            return self.apply(place, call);
        }
        let live = Live::new(self.live(place)?, self.store.owners(&place.key()));
        let mut object = if may_touch_owners(&call.body) {
            Value::clone(&live.object)
        } else {
            live.plain.clone()
        };
        if call.content_type.contains("json-patch") {
            let patch = json_patch::Patch::deserialize(&call.body)
                .map_err(|e| Refusal::bad_request(format!("error decoding patch: {e}")))?;
            // A real server does not say which operation failed, nor that it was a test.
            json_patch::patch(&mut object, &patch).map_err(|_| {
                let why = "the server rejected our request due to an error in our request";
                Refusal::new(422, "Invalid", why)
            })?;
        } else if call.content_type.contains("merge-patch") {
            json_patch::merge(&mut object, &call.body);
        } else {
            let why = "the body of the request was in an unknown format";
            return Err(Refusal::new(415, "UnsupportedMediaType", why));
        }
        self.update(place, &live, object, call.manager())
            .map(|object| (200, object))
    }

    fn update(
        &mut self,
        place: &Place,
        live: &Live,
        mut object: Value,
        manager: &str,
    ) -> Result<Arc<Value>, Refusal> {
        place.check(&live.plain, &object)?;
        let written = take_owners(&mut object);
        let fields = written.as_array();
        // One empty entry asks for all of them to be forgotten; none are taken for an oversight.
        let reset = fields.is_some_and(|f| f.len() == 1 && f[0].as_object().is_some_and(Map::is_empty));
        let mut owners = Owners::clone(&live.owners);
        if !place.is_status() && written != live.object["metadata"]["managedFields"] {
            let read = Owners::read(&written);
            if !read.is_empty() || reset {
                owners = read;
            }
        }
        place.restore(&live.plain, &mut object);
        place.kind.finish(&mut object);
        let writer = place.writer(Operation::Update, manager);
        // Where nobody owns anything, only an apply begins to keep owners.
        let untracked = owners.is_empty();
        let mut outcome = apply::update(
            &live.plain,
            object,
            &place.kind.shape,
            owners,
            &writer,
            place.reset(),
        );
        if untracked {
            outcome.owners = Owners::default();
        }
        self.store_update(place, live, outcome)
    }

    fn apply(&mut self, place: &Place, call: &Call) -> Result<(u16, Arc<Value>), Refusal> {
        let manager = call.parameter("fieldManager");
        if manager.is_empty() {
            return Err(Refusal::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        if call.body["metadata"]["managedFields"].is_array() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let force = call.parameter("force") == "true";
        let writer = place.writer(Operation::Apply, manager);
        let mut config = call.body.clone();
        for field in place.reset() {
            set_or_remove(&mut config, field, None);
        }
        for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
            set_or_remove(&mut config["metadata"], field, None);
        }
        let shape = &place.kind.shape;
        let Some(live) = self.store.get(&place.key()).cloned() else {
            let uid = text(&call.body, "uid");
            if place.is_status() {
                return Err(place.not_found());
            }
            if !uid.is_empty() {
                let why = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Refusal::conflict(&place.kind, &place.name, &why));
            }
            let empty = json!({"metadata": {}});
            let mut outcome = apply::apply(
                &empty,
                &config,
                shape,
                Owners::default(),
                &writer,
                place.reset(),
                force,
            )
            .map_err(|c| Refusal::owned_by_others(&c))?;
            self.initialize(place, &mut outcome.object);
            return Ok((201, self.insert(place, outcome)));
        };
        let live = Live::new(live, self.store.owners(&place.key()));
        let (plain, owners) = (&live.plain, Owners::clone(&live.owners));
        let mut outcome = apply::apply(plain, &config, shape, owners, &writer, place.reset(), force)
            .map_err(|c| Refusal::owned_by_others(&c))?;
        // Who owns what is looked at first, as in a real server.
        place.check(plain, &call.body)?;
        place.restore(plain, &mut outcome.object);
        outcome.object["metadata"]["resourceVersion"] = plain["metadata"]["resourceVersion"].clone();
        place.kind.finish(&mut outcome.object);
        self.store_update(place, &live, outcome)
            .map(|object| (200, object))
    }

    /// Stores what a write has made of an object, if it made anything of it.
    fn store_update(&mut self, place: &Place, live: &Live, outcome: Outcome) -> Result<Arc<Value>, Refusal> {
        let (mut owners, mut object) = (outcome.owners, outcome.object);
        let plain = &live.plain;
        object["metadata"]["resourceVersion"] = plain["metadata"]["resourceVersion"].clone();
        if object == *plain && owners.same_fields(&live.owners) {
            return Ok(Arc::clone(&live.object));
        }
        let finalizers = |o: &Value| {
            o["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let deleting = plain["metadata"]["deletionTimestamp"].is_string();
        if deleting && finalizers(&object).iter().any(|f| !finalizers(plain).contains(f)) {
            let why = "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted";
            return Err(Refusal::invalid(&place.kind, &place.name, why));
        }
        if place.kind.generation && !same_content(&object, plain) {
            let generation = plain["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        owners.settle(&live.owners, &self.timestamp());
        object["metadata"]["managedFields"] = owners.to_value();
        let stored = self.store.put(&place.key(), object, Arc::new(owners));
        if deleting && finalizers(&stored).is_empty() {
            self.store.remove(&place.key());
        }
        Ok(stored)
    }
}

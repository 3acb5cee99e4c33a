//! The state machine: what each request does.

mod delete;
mod read;
mod write;

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Answer, Call};
use crate::kind::{Ending, Kind};
use crate::status::Refusal;
use crate::store::{ObjectKey, Store};

/// The finalizer of a deletion that waits for what is owned.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that leaves what is owned.
pub const ORPHAN: &str = "orphan";

/// The API server.
#[derive(Debug)]
pub struct ApiServer {
    kinds: Vec<Arc<Kind>>,
    store: Store,
    now: Timestamp,
}

/// What a path leads to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Place {
    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey {
            resource: self.kind.resource(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    pub(crate) fn not_found(&self) -> Refusal {
        Refusal::not_found(&self.kind, &self.name)
    }

    pub(crate) fn is_status(&self) -> bool {
        self.subresource == "status"
    }

    /// The fields that nobody comes to own by a write here, as paths.
    pub(crate) fn reset(&self) -> &'static [&'static str] {
        match (self.is_status(), self.kind.status, self.kind.custom) {
            (true, _, true) => &["metadata", "spec"],
            (true, _, false) => &["spec"],
            // Addresses are given after it is known who owns what.
            (false, true, _) if self.kind.resource() == "services" => &[
                "status",
                "spec/clusterIP",
                "spec/clusterIPs",
                "spec/ipFamilies",
                "spec/ipFamilyPolicy",
            ],
            (false, true, _) => &["status"],
            (false, false, _) => &[],
        }
    }
}

impl ApiServer {
    /// An empty server with these kinds.
    pub fn new(kinds: impl IntoIterator<Item = Kind>, now: Timestamp) -> Self {
        Self {
            kinds: kinds.into_iter().map(Arc::new).collect(),
            store: Store::default(),
            now,
        }
    }

    /// Tells it the time. Timestamps are of whole seconds.
    pub fn set_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Makes a kind known, or known in another way.
    pub fn register(&mut self, kind: Kind) {
        self.forget(&kind.resource());
        self.kinds.push(Arc::new(kind));
    }

    /// Makes a kind unknown; its objects stay, out of reach.
    pub fn forget(&mut self, resource: &str) {
        self.kinds.retain(|k| k.resource() != resource);
    }

    /// What is stored.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Forgets the history: watches that lag, and those that begin in the past, end with `410 Gone`.
    pub fn expire(&mut self) {
        self.store.compact();
    }

    /// Forgets all but the newest changes, as a server does that compacts its history now and then.
    pub fn keep(&mut self, changes: usize) {
        self.store.keep(changes);
    }

    /// An object by the plural with its group.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.store.find(resource, namespace, name).map(Arc::as_ref)
    }

    /// The objects of a resource, in the order of their names.
    pub fn objects(&self, resource: &str) -> Vec<&Value> {
        self.store
            .of(resource)
            .map(|(_, object)| object.as_ref())
            .collect()
    }

    /// Answers a request. Watches are begun by [`ApiServer::watch`] instead.
    pub fn handle(&mut self, call: &Call) -> Answer {
        let version = self.store.version();
        let (code, body) = match self.route(call) {
            Ok(answer) => answer,
            Err(refusal) => return refusal.into(),
        };
        Answer {
            code,
            body,
            changed: self.store.version() != version,
        }
    }

    fn route(&mut self, call: &Call) -> Result<(u16, Arc<Value>), Refusal> {
        let place = self.place(&call.path)?;
        if place.subresource == "eviction"
            && place.kind.ending == Ending::ByKubelet
            && call.method == Method::POST
        {
            return self.evict(&place, call);
        }
        if place.is_status() && !place.kind.status || !matches!(place.subresource.as_str(), "" | "status") {
            return Err(no_such_path());
        }
        match (&call.method, place.name.is_empty()) {
            (&Method::GET, true) => self.list(&place, call).map(|list| (200, Arc::new(list))),
            (&Method::GET, false) => self.live(&place).map(|object| (200, object)),
            (&Method::POST, true) => self.create(place, call),
            (&Method::PUT, false) => self.replace(&place, call).map(|object| (200, object)),
            (&Method::PATCH, false) => self.patch(&place, call),
            (&Method::DELETE, false) => self.delete(&place, call).map(|answer| (200, answer)),
            _ => {
                let why = "the server does not allow this method on the requested resource";
                Err(Refusal::new(405, "MethodNotAllowed", why))
            }
        }
    }

    pub(crate) fn place(&self, path: &str) -> Result<Place, Refusal> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(no_such_path()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, rest) = rest.split_first().ok_or_else(no_such_path)?;
        let known = |k: &&Arc<Kind>| k.group == group && k.version == version && k.plural == *plural;
        let kind = self.kinds.iter().find(known).ok_or_else(no_such_path)?;
        Ok(Place {
            kind: Arc::clone(kind),
            namespace: namespace.to_owned(),
            name: rest.first().copied().unwrap_or_default().to_owned(),
            subresource: rest.get(1..).unwrap_or_default().join("/"),
        })
    }

    pub(crate) fn live(&self, place: &Place) -> Result<Arc<Value>, Refusal> {
        self.store
            .get(&place.key())
            .cloned()
            .ok_or_else(|| place.not_found())
    }

    pub(crate) fn timestamp(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A UID that no other object has.
    pub(crate) fn uid(&mut self) -> Value {
        json!(format!("00000000-0000-4000-8000-{:012x}", self.store.identity()))
    }
}

/// What an API server says of kinds that it does not know.
pub fn no_such_path() -> Refusal {
    Refusal::new(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

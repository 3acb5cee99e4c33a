//! Which services are concerned by a change of a ConfigMap or a Secret.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::runtime::watcher::Event;

use super::references::Reference;
use super::snapshots;
use crate::controller::object::ServiceObject;
use crate::k8s::Key;

/// The services by what they name.
#[derive(Debug, Default)]
pub struct Users(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What each service names.
    named: HashMap<Key, BTreeSet<Reference>>,
    /// The services that name an object, by its namespace and its own name: both kinds together.
    users: HashMap<Key, BTreeSet<String>>,
    /// The services that a new list has brought so far.
    listed: Option<BTreeSet<Key>>,
}

impl Users {
    /// Takes in what happened to a service.
    pub fn take_in(&self, event: &Event<ServiceObject>) {
        let mut inner = self.lock();
        match event {
            Event::Init => inner.listed = Some(BTreeSet::new()),
            Event::InitApply(service) => {
                inner.put(service);
                if let Some(listed) = &mut inner.listed {
                    listed.insert(service.key());
                }
            }
            Event::InitDone => {
                let listed = inner.listed.take().unwrap_or_default();
                let gone: Vec<Key> = inner
                    .named
                    .keys()
                    .filter(|k| !listed.contains(k))
                    .cloned()
                    .collect();
                for key in &gone {
                    inner.remove(key);
                }
            }
            Event::Apply(service) => inner.put(service),
            Event::Delete(service) => inner.remove(&service.key()),
        }
    }

    /// Takes in what a service names by the Deployment that stands in for its template.
    pub fn learn(&self, service: &ServiceObject) {
        self.lock().put(service);
    }

    /// The services that name this object, and the one that it is a snapshot of.
    pub fn of(&self, object: &Key) -> BTreeSet<Key> {
        let inner = self.lock();
        let users = inner.users.get(object).into_iter().flatten();
        users
            .map(String::as_str)
            .chain(snapshots::service_of(&object.name))
            .map(|name| Key::new(&object.namespace, name))
            .collect()
    }

    /// The services that name anything.
    pub fn all(&self) -> Vec<Key> {
        self.lock().named.keys().cloned().collect()
    }

    // A panic while the lock is held leaves maps that are still maps.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put(&mut self, service: &ServiceObject) {
        let key = service.key();
        if self.named.get(&key) == Some(&service.counted) {
            return;
        }
        self.remove(&key);
        if service.counted.is_empty() {
            return;
        }
        for reference in &service.counted {
            let object = Key::new(&key.namespace, &reference.name);
            self.users.entry(object).or_default().insert(key.name.clone());
        }
        self.named.insert(key, service.counted.clone());
    }

    fn remove(&mut self, service: &Key) {
        for reference in self.named.remove(service).unwrap_or_default() {
            let object = Key::new(&service.namespace, &reference.name);
            if let Some(users) = self.users.get_mut(&object) {
                users.remove(&service.name);
                if users.is_empty() {
                    self.users.remove(&object);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use serde_json::json;

    fn service(name: &str, maps: &[&str]) -> ServiceObject {
        changed(|o| {
            o["metadata"]["name"] = json!(name);
            let env_from: Vec<_> = maps
                .iter()
                .map(|m| json!({"configMapRef": {"name": m}}))
                .collect();
            o["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!(env_from);
        })
    }

    fn of(users: &Users, name: &str) -> Vec<String> {
        let keys = users.of(&Key::new("shop", name));
        keys.into_iter().map(|k| k.name).collect()
    }

    #[test]
    fn a_change_concerns_those_who_name_it() {
        let users = Users::default();
        for (name, maps) in [("a", &["env", "files"][..]), ("b", &["env"]), ("c", &[])] {
            users.take_in(&Event::Apply(service(name, maps)));
        }
        assert_eq!(of(&users, "env"), ["a", "b"]);
        assert_eq!(of(&users, "files"), ["a"]);
        assert!(of(&users, "other").is_empty());
        assert!(users.of(&Key::new("elsewhere", "env")).is_empty());
        users.take_in(&Event::Apply(service("a", &["files"])));
        assert_eq!(of(&users, "env"), ["b"]);
        users.take_in(&Event::Delete(service("b", &["env"])));
        assert!(of(&users, "env").is_empty());
        assert_eq!(users.all(), [Key::new("shop", "a")]);
    }

    #[test]
    fn a_new_list_drops_whom_it_lacks() {
        let users = Users::default();
        users.take_in(&Event::Apply(service("a", &["env"])));
        users.take_in(&Event::Init);
        users.take_in(&Event::InitApply(service("b", &["env"])));
        users.take_in(&Event::InitDone);
        assert_eq!(of(&users, "env"), ["b"]);
    }

    #[test]
    fn a_snapshot_concerns_its_service() {
        let name = snapshots::name(
            "checkout",
            &"694e87771d".into(),
            &Reference::parse("configmap/env").unwrap(),
        );
        assert_eq!(of(&Users::default(), &name), ["checkout"]);
    }
}

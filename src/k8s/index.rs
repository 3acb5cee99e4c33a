//! Caches of what reconciles read: facts of the watched objects, grouped by the service they belong to.
//!
//! An index keeps a projection of each object, not the object: memory grows slowly, and an event that
//! changes none of the facts wakes nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Key;

/// What an index keeps of an object.
pub trait Facts: Sized + PartialEq + Send + Sync + 'static {
    /// The object.
    type Object;

    /// The group within the object's namespace, and the facts; `None` for what concerns nobody.
    fn read(object: &Self::Object) -> Option<(String, Self)>;

    /// Whether the facts depend on `managedFields`, which are dropped before anything is read otherwise.
    const READS_MANAGED_FIELDS: bool = false;
}

/// Whether the kind can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Not known yet.
    Pending,
    /// The index is complete.
    Present,
    /// The API server does not know the kind.
    Missing,
}

/// Facts by group and name.
pub struct Index<V> {
    inner: RwLock<Inner<V>>,
    presence: watch::Sender<Presence>,
    version: watch::Sender<u64>,
    trouble: Mutex<Option<String>>,
}

type Groups<V> = HashMap<Key, BTreeMap<String, Arc<V>>>;

struct Inner<V> {
    groups: Groups<V>,
    /// Which group each object is in: it may move when its labels change.
    homes: HashMap<Key, String>,
    /// What a new list has brought so far.
    incoming: Option<Vec<(Key, String, V)>>,
}

impl<V> Default for Index<V> {
    fn default() -> Self {
        let inner = Inner {
            groups: HashMap::new(),
            homes: HashMap::new(),
            incoming: None,
        };
        Self {
            inner: RwLock::new(inner),
            presence: watch::Sender::new(Presence::Pending),
            version: watch::Sender::new(0),
            trouble: Mutex::default(),
        }
    }
}

impl<V: Facts> Index<V> {
    /// The members of a group by name.
    pub fn of(&self, group: &Key) -> BTreeMap<String, Arc<V>> {
        self.read().groups.get(group).cloned().unwrap_or_default()
    }

    /// The groups that have members.
    pub fn groups(&self) -> Vec<Key> {
        self.read().groups.keys().cloned().collect()
    }

    /// A group has members.
    pub fn has(&self, group: &Key) -> bool {
        self.read().groups.contains_key(group)
    }

    /// Everything, by the objects' own keys.
    pub fn all(&self) -> BTreeMap<Key, Arc<V>> {
        let inner = self.read();
        let of = |(group, members): (&Key, &BTreeMap<String, Arc<V>>)| {
            let namespace = group.namespace.clone();
            let own = |(name, facts): (&String, &Arc<V>)| (Key::new(&namespace, name), facts.clone());
            members.iter().map(own).collect::<Vec<_>>()
        };
        inner.groups.iter().flat_map(of).collect()
    }

    /// One member of a group.
    pub fn get(&self, group: &Key, name: &str) -> Option<Arc<V>> {
        self.read().groups.get(group)?.get(name).cloned()
    }

    /// Whether the kind can be read.
    pub fn presence(&self) -> Presence {
        *self.presence.borrow()
    }

    /// Why the last try to watch the kind failed; nothing once it has succeeded.
    pub fn trouble(&self) -> Option<String> {
        self.last_trouble().clone()
    }

    /// Completes once it is known whether the kind can be read.
    pub async fn known(&self) {
        let mut presence = self.presence.subscribe();
        // The sender lives as long as `self`.
        let _ = presence.wait_for(|p| *p != Presence::Pending).await;
    }

    /// Completes once a group has a member.
    pub async fn any(&self, group: &Key) {
        let mut version = self.version.subscribe();
        // The sender lives as long as `self`.
        let _ = version.wait_for(|_| !self.of(group).is_empty()).await;
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Takes in an event and returns the groups that it changed.
    pub fn take_in(&self, event: &Event<V::Object>) -> BTreeSet<Key>
    where
        V::Object: Resource,
    {
        let changed = self.write().take_in(event);
        if matches!(event, Event::InitDone) {
            *self.last_trouble() = None;
            self.presence
                .send_if_modified(|p| std::mem::replace(p, Presence::Present) != Presence::Present);
        }
        if !changed.is_empty() {
            self.version.send_modify(|v| *v += 1);
        }
        changed
    }

    /// The API server does not know the kind: there are no objects. Returns whether that is new.
    pub fn set_missing(&self) -> bool {
        let mut inner = self.write();
        inner.groups.clear();
        inner.homes.clear();
        self.presence
            .send_if_modified(|p| std::mem::replace(p, Presence::Missing) != Presence::Missing)
    }

    fn last_trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // A panic while the lock is held leaves a map that is still a map; the next list renews it.
    fn read(&self) -> RwLockReadGuard<'_, Inner<V>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Facts> Inner<V> {
    fn take_in(&mut self, event: &Event<V::Object>) -> BTreeSet<Key>
    where
        V::Object: Resource,
    {
        match event {
            Event::Init => {
                self.incoming = Some(Vec::new());
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                if let (Some(incoming), Some((group, facts))) = (&mut self.incoming, V::read(object)) {
                    incoming.push((key(object), group, facts));
                }
                BTreeSet::new()
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => match V::read(object) {
                Some((group, facts)) => self.put(&key(object), &group, facts),
                None => self.remove(&key(object)),
            },
            Event::Delete(object) => self.remove(&key(object)),
        }
    }

    fn put(&mut self, object: &Key, group: &str, facts: V) -> BTreeSet<Key> {
        let mut changed = match self.homes.get(object) {
            Some(home) if home != group => self.remove(object),
            _ => BTreeSet::new(),
        };
        let home = Key::new(&object.namespace, group);
        let members = self.groups.entry(home.clone()).or_default();
        if members.get(&object.name).is_none_or(|old| **old != facts) {
            members.insert(object.name.clone(), Arc::new(facts));
            self.homes.insert(object.clone(), group.to_owned());
            changed.insert(home);
        }
        changed
    }

    fn remove(&mut self, object: &Key) -> BTreeSet<Key> {
        let Some(group) = self.homes.remove(object) else {
            return BTreeSet::new();
        };
        let home = Key::new(&object.namespace, group);
        if let Some(members) = self.groups.get_mut(&home) {
            members.remove(&object.name);
            if members.is_empty() {
                self.groups.remove(&home);
            }
        }
        BTreeSet::from([home])
    }

    fn replace(&mut self) -> BTreeSet<Key> {
        let incoming = self.incoming.take().unwrap_or_default();
        let listed: BTreeSet<Key> = incoming.iter().map(|(object, ..)| object.clone()).collect();
        let gone: Vec<Key> = self
            .homes
            .keys()
            .filter(|object| !listed.contains(object))
            .cloned()
            .collect();
        let mut changed = BTreeSet::new();
        for object in gone {
            changed.extend(self.remove(&object));
        }
        for (object, group, facts) in incoming {
            changed.extend(self.put(&object, &group, facts));
        }
        changed
    }
}

fn key(object: &impl Resource) -> Key {
    Key::new(
        object.meta().namespace.clone().unwrap_or_default(),
        object.meta().name.clone().unwrap_or_default(),
    )
}

/// Keeps an index up to date for ever, and tells which groups change.
///
/// `appeared` is called when the index is complete for the first time, and when the kind becomes known to the API
/// server, or unknown.
pub async fn follow<V>(
    api: Api<V::Object>,
    config: watcher::Config,
    backoff: Box<dyn Backoff>,
    index: Arc<Index<V>>,
    changed: impl Fn(Key),
    appeared: impl Fn(),
) where
    V: Facts,
    V::Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = V::Object::kind(&()).into_owned();
    let mut events = watcher(api, config).backoff(backoff).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(mut event) => {
                if !V::READS_MANAGED_FIELDS
                    && let Event::Apply(object) | Event::InitApply(object) = &mut event
                {
                    object.managed_fields_mut().clear();
                }
                let before = index.presence();
                index.take_in(&event).into_iter().for_each(&changed);
                if before != Presence::Present && index.presence() == Presence::Present {
                    if before == Presence::Missing {
                        tracing::info!(kind, "the API server knows the kind now");
                    }
                    appeared();
                }
            }
            Err(error) if is_missing(&error) => {
                if index.set_missing() {
                    tracing::warn!(
                        kind,
                        "the API server does not know the kind; it is asked for again"
                    );
                    appeared();
                }
            }
            Err(error) => {
                tracing::warn!(kind, %error, "watching failed; it is tried again");
                *index.last_trouble() = Some(error.to_string());
            }
        }
    }
}

fn is_missing(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[derive(Debug, PartialEq)]
    struct Size(usize);

    impl Facts for Size {
        type Object = ConfigMap;

        fn read(object: &ConfigMap) -> Option<(String, Self)> {
            let group = object.labels().get("group")?.clone();
            Some((group, Self(object.data.as_ref().map_or(0, BTreeMap::len))))
        }
    }

    fn object(name: &str, group: Option<&str>, data: &[&str]) -> ConfigMap {
        let data: BTreeMap<_, _> = data.iter().map(|k| (*k, "")).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "labels": group.map(|g| json!({"group": g}))},
            "data": data,
        }))
        .unwrap()
    }

    fn groups(changed: &BTreeSet<Key>) -> Vec<&str> {
        changed.iter().map(|k| k.name.as_str()).collect()
    }

    #[test]
    fn only_changed_facts_are_told() {
        let index = Index::<Size>::default();
        assert_eq!(
            groups(&index.take_in(&Event::Apply(object("a", Some("x"), &["1"])))),
            ["x"]
        );
        assert!(
            index
                .take_in(&Event::Apply(object("a", Some("x"), &["2"])))
                .is_empty()
        );
        assert_eq!(
            groups(&index.take_in(&Event::Apply(object("a", Some("x"), &["1", "2"])))),
            ["x"]
        );
        assert_eq!(*index.get(&Key::new("shop", "x"), "a").unwrap(), Size(2));
    }

    #[tokio::test]
    async fn who_waits_for_a_member_hears_of_the_first() {
        let index = Arc::new(Index::<Size>::default());
        let waiting = tokio::spawn({
            let index = index.clone();
            async move { index.any(&Key::new("shop", "x")).await }
        });
        index.take_in(&Event::Apply(object("b", Some("y"), &[])));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        index.take_in(&Event::Apply(object("a", Some("x"), &[])));
        waiting.await.unwrap();
        index.any(&Key::new("shop", "x")).await;
    }

    #[test]
    fn an_object_that_moves_changes_both_groups() {
        let index = Index::<Size>::default();
        index.take_in(&Event::Apply(object("a", Some("x"), &[])));
        assert_eq!(
            groups(&index.take_in(&Event::Apply(object("a", Some("y"), &[])))),
            ["x", "y"]
        );
        assert_eq!(
            groups(&index.take_in(&Event::Apply(object("a", None, &[])))),
            ["y"]
        );
        assert!(index.of(&Key::new("shop", "y")).is_empty());
    }

    #[test]
    fn a_new_list_drops_what_it_lacks_and_tells_no_more_than_changed() {
        let index = Index::<Size>::default();
        assert_eq!(index.presence(), Presence::Pending);
        for (name, group) in [("a", "x"), ("b", "y")] {
            index.take_in(&Event::Apply(object(name, Some(group), &[])));
        }
        index.take_in(&Event::Init);
        index.take_in(&Event::InitApply(object("a", Some("x"), &[])));
        index.take_in(&Event::InitApply(object("c", Some("z"), &[])));
        assert_eq!(groups(&index.take_in(&Event::InitDone)), ["y", "z"]);
        assert_eq!(index.presence(), Presence::Present);
    }
}

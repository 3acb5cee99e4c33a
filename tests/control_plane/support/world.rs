//! Many namespaces on one API server: what is there is known from one watch of each kind, and the actors
//! beside the operators act on what these bring. A namespace more costs no more requests than happen in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use molt::api::v1alpha1::{PythonService, RolloutAction, RolloutRecord};
use serde::de::DeserializeOwned;

use super::{gateway, kubelet, prometheus};

/// What is known of one kind.
pub struct Seen<K> {
    live: Mutex<BTreeMap<(String, String), K>>,
    /// Every UID that an object of this name ever had: two of them are two objects.
    uids: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
}

impl<K: Resource + Clone> Seen<K> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            live: Mutex::default(),
            uids: Mutex::default(),
        })
    }

    fn take_in(&self, event: &Event<K>) {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let uids = &mut *self.uids.lock().unwrap();
                uids.entry(key(object)).or_default().extend(object.uid());
                self.live.lock().unwrap().insert(key(object), object.clone());
            }
            Event::Delete(object) => drop(self.live.lock().unwrap().remove(&key(object))),
            Event::Init | Event::InitDone => {}
        }
    }

    /// What a namespace holds, by name.
    pub fn of(&self, namespace: &str) -> BTreeMap<String, K> {
        within(&self.live.lock().unwrap(), namespace)
            .map(|(name, object)| (name.clone(), object.clone()))
            .collect()
    }

    /// Everything.
    fn all(&self) -> Vec<K> {
        self.live.lock().unwrap().values().cloned().collect()
    }

    /// How many objects of each name a namespace has ever held.
    pub fn ever(&self, namespace: &str) -> BTreeMap<String, usize> {
        within(&self.uids.lock().unwrap(), namespace)
            .map(|(name, uids)| (name.clone(), uids.len()))
            .collect()
    }
}

fn within<'a, T>(
    map: &'a BTreeMap<(String, String), T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    map.range((namespace.to_owned(), String::new())..)
        .take_while(move |((n, _), _)| n == namespace)
        .map(|((_, name), value)| (name, value))
}

fn key(object: &impl Resource) -> (String, String) {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

pub struct World {
    pub services: Arc<Seen<PythonService>>,
    pub sets: Arc<Seen<ReplicaSet>>,
    pub pods: Arc<Seen<Pod>>,
    pub core_services: Arc<Seen<Service>>,
    pub routes: Arc<Seen<DynamicObject>>,
    pub records: Arc<Seen<RolloutRecord>>,
    pub actions: Arc<Seen<RolloutAction>>,
    pub prometheus: prometheus::Fake,
}

impl World {
    /// The world of all namespaces whose names begin with this.
    pub async fn of(client: &Client, prefix: &'static str) -> Arc<Self> {
        let pods = Seen::<Pod>::new();
        let core_services = Seen::<Service>::new();
        let routes = Seen::<DynamicObject>::new();
        let shown = (pods.clone(), core_services.clone(), routes.clone());
        let prometheus = prometheus::Fake::of(move || prometheus::Target {
            pods: shown.0.all(),
            services: shown.1.all(),
            routes: shown.2.all(),
        });
        let world = Arc::new(Self {
            services: Seen::new(),
            sets: Seen::new(),
            pods,
            core_services,
            routes,
            records: Seen::new(),
            actions: Seen::new(),
            prometheus: prometheus.await,
        });
        let all = || client.clone();
        follow(Api::all(all()), prefix, world.services.clone(), |_| ());
        follow(Api::all(all()), prefix, world.sets.clone(), |_| ());
        follow(Api::all(all()), prefix, world.core_services.clone(), |_| ());
        follow(Api::all(all()), prefix, world.records.clone(), |_| ());
        follow(Api::all(all()), prefix, world.actions.clone(), |_| ());
        let of_pods = all();
        let begin = move |pod: Pod| drop(tokio::spawn(begin(of_pods.clone(), pod)));
        follow(Api::all(all()), prefix, world.pods.clone(), begin);
        let of_routes = all();
        let acknowledge = move |route: DynamicObject| {
            let api = gateway::routes(of_routes.clone(), &route.namespace().unwrap_or_default());
            tokio::spawn(async move { gateway::acknowledge(&api, &route).await });
        };
        let routes = Api::all_with(all(), &gateway::route_kind());
        follow(routes, prefix, world.routes.clone(), acknowledge);
        world
    }
}

fn follow<K>(api: Api<K>, prefix: &'static str, seen: Arc<Seen<K>>, changed: impl Fn(K) + Send + 'static)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = watcher(api, Config::default()).default_backoff().boxed();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Ok(event) = event else { continue };
            if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &event
                && !key(object).0.starts_with(prefix)
            {
                continue;
            }
            seen.take_in(&event);
            if let Event::Apply(object) | Event::InitApply(object) = event {
                changed(object);
            }
        }
    });
}

/// Puts a new pod on the node, and says of it what a kubelet would say. Pods that end at once when they are
/// deleted need nothing more.
async fn begin(client: Client, pod: Pod) {
    if pod.spec.as_ref().is_some_and(|s| s.node_name.is_some()) || pod.metadata.deletion_timestamp.is_some() {
        return;
    }
    let api: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    for _ in 0..5 {
        match kubelet::begin(&api, &pod).await {
            Ok(()) => return,
            Err(kube::Error::Api(status)) if status.code == 404 => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

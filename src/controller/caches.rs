//! What is watched, and who is woken by it.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc::UnboundedSender;

use super::adopted::{AutoscalerFacts, DeploymentFacts, WorkloadUser};
use super::config::contents::Contents;
use super::config::users::Users;
use super::edges::Edges;
use super::facts::{ActionFacts, RecordFacts, ReplicaSetFacts, RouteUser, ServiceFacts, SliceFacts};
use super::fleet::{self, Fleet};
use super::groups::PeerFacts;
use super::jobs::{JobFacts, JobPodFacts};
use super::object::ServiceObject;
use super::pods::PodFacts;
use super::rules::{PrometheusRule, RuleFacts};
use super::runs::{CronJobFacts, RunFacts};
use crate::api::v1alpha1::{RolloutAction, RolloutRecord};
use crate::k8s::index::{Facts, Index, follow};
use crate::k8s::{Key, labels};
use crate::metrics::Metrics;
use crate::notifications::books::PolicyFacts;
use crate::traffic::gateway_api::{GrpcRoute, HttpRoute};
use crate::traffic::istio::VirtualService;

/// Objects of a page of ConfigMaps or Secrets: each may have a mebibyte, and a page is held as a whole.
const PAGE: u32 = 16;
/// The ConfigMaps that are looked at: all but one that is in every namespace and never counts.
const MAPS: &str = "metadata.name!=kube-root-ca.crt";
/// The Secrets that are looked at: none of Helm's releases, which are large and which no pod names.
const SECRETS: &str = "type!=helm.sh/release.v1";
/// How long the start waits for what not every service needs.
const CONTENTS_LIMIT: Duration = Duration::from_secs(10);

/// Every cache. All but the services are grouped by the service they belong to.
pub struct Caches {
    /// PythonServices.
    pub services: Store<ServiceObject>,
    /// ReplicaSets.
    pub sets: Arc<Index<ReplicaSetFacts>>,
    /// Pods.
    pub pods: Arc<Index<PodFacts>>,
    /// Services.
    pub core_services: Arc<Index<ServiceFacts>>,
    /// EndpointSlices.
    pub slices: Arc<Index<SliceFacts>>,
    /// Actions that wait.
    pub actions: Arc<Index<ActionFacts>>,
    /// Records.
    pub records: Arc<Index<RecordFacts>>,
    /// Jobs of conditions. Nothing waits for them.
    pub jobs: Arc<Index<JobFacts>>,
    /// Their pods, which are none of the services' own.
    pub job_pods: Arc<Index<JobPodFacts>>,
    /// CronJobs of what runs by a schedule. Nothing but these waits for them.
    pub cron_jobs: Arc<Index<CronJobFacts>>,
    /// Their Jobs.
    pub runs: Arc<Index<RunFacts>>,
    /// PrometheusRules. Nothing waits for them.
    pub rules: Arc<Index<RuleFacts>>,
    /// What pauses every service.
    pub fleet: Arc<Index<Fleet>>,
    /// The group that it is in.
    fleet_key: Key,
    /// HTTPRoutes, by their own name.
    pub routes: Arc<Index<HttpRoute>>,
    /// GRPCRoutes, by their own name. Nothing waits for them for long.
    pub grpc_routes: Arc<Index<GrpcRoute>>,
    /// VirtualServices, by their own name. Nothing waits for them for long.
    pub virtual_services: Arc<Index<VirtualService>>,
    /// Which services use a route, by the route's name.
    pub route_users: Arc<Index<RouteUser>>,
    /// Deployments, by their own name. Nothing waits for them for long.
    pub deployments: Arc<Index<DeploymentFacts>>,
    /// Which services name a Deployment, by its name.
    pub workload_users: Arc<Index<WorkloadUser>>,
    /// The services of each group, by the group's name.
    pub groups: Arc<Index<PeerFacts>>,
    /// Autoscalers of Deployments, by the Deployment's name. Nothing waits for them for long.
    pub autoscalers: Arc<Index<AutoscalerFacts>>,
    /// Digests of ConfigMaps and Secrets. Nothing waits for them for long.
    pub contents: Contents,
    /// Which services name them.
    pub config_users: Arc<Users>,
    /// Who is to be told what. Nothing waits for them for long, and nothing is decided by them.
    pub policies: Arc<Index<PolicyFacts>>,
}

impl Caches {
    /// Starts the watches, that of Secrets only if they may be read; each change is told to `wake` by the key of the
    /// PythonService that it concerns.
    pub fn start(
        edges: &Edges,
        namespace: Option<&str>,
        secrets: bool,
        fleet_namespace: &str,
        metrics: &Metrics,
        wake: &UnboundedSender<Key>,
    ) -> Self {
        let (client, backoff) = (&edges.client, edges.backoff);
        let (reader, writer) = reflector::store();
        let caches = Self {
            services: reader,
            sets: Arc::default(),
            pods: Arc::default(),
            core_services: Arc::default(),
            slices: Arc::default(),
            actions: Arc::default(),
            records: Arc::default(),
            jobs: Arc::default(),
            job_pods: Arc::default(),
            cron_jobs: Arc::default(),
            runs: Arc::default(),
            rules: Arc::default(),
            fleet: Arc::default(),
            fleet_key: Key::new(fleet_namespace, fleet::CONFIG_MAP),
            routes: Arc::default(),
            grpc_routes: Arc::default(),
            virtual_services: Arc::default(),
            route_users: Arc::default(),
            deployments: Arc::default(),
            workload_users: Arc::default(),
            groups: Arc::default(),
            autoscalers: Arc::default(),
            contents: Contents::default(),
            config_users: Arc::default(),
            policies: Arc::default(),
        };
        caches.follow_services(api(client, namespace), writer, backoff(), wake.clone());
        let ours = Config::default().labels(labels::SERVICE);
        let watch = Watch {
            client,
            namespace,
            backoff,
            wake,
        };
        watch.start::<ReplicaSet, _>(ours.clone(), &caches.sets);
        watch.start::<Pod, _>(ours.clone(), &caches.pods);
        watch.start::<Job, _>(ours.clone(), &caches.jobs);
        watch.start::<Pod, _>(Config::default().labels(labels::JOB_OF), &caches.job_pods);
        watch.start::<CronJob, _>(ours.clone(), &caches.cron_jobs);
        watch.start::<Job, _>(Config::default().labels(labels::RUN_OF), &caches.runs);
        watch.start::<Service, _>(ours.clone(), &caches.core_services);
        watch.start::<EndpointSlice, _>(ours.clone(), &caches.slices);
        watch.start::<DeserializeGuard<RolloutAction>, _>(Config::default(), &caches.actions);
        watch.start::<DeserializeGuard<RolloutRecord>, _>(Config::default(), &caches.records);
        let users = &caches.route_users;
        caches.follow_named(&watch, &caches.routes, users, |_| true);
        caches.follow_named(&watch, &caches.grpc_routes, users, |_| true);
        caches.follow_named(&watch, &caches.virtual_services, users, |_| true);
        let (users, adopts) = (&caches.workload_users, |o: &ServiceObject| o.workload.is_some());
        caches.follow_named(&watch, &caches.deployments, users, adopts);
        caches.follow_named(&watch, &caches.autoscalers, users, adopts);
        caches.follow_rules(api(client, namespace), ours, backoff(), wake.clone());
        let small = Config::default().page_size(PAGE);
        let maps = caches.contents.config_maps.clone();
        caches.follow_contents(&watch, small.clone().fields(MAPS), maps);
        if secrets {
            let index = caches.contents.secrets.clone();
            caches.follow_contents(&watch, small.fields(SECRETS), index);
        }
        caches.follow_fleet(client, backoff(), metrics.clone(), wake.clone());
        if edges.outside.is_some() {
            let (api, index) = (api(client, namespace), caches.policies.clone());
            tokio::spawn(follow(api, Config::default(), backoff(), index, |_| (), || ()));
        } else {
            caches.policies.set_missing();
        }
        caches
    }

    /// Who has paused every service, and why.
    pub fn fleet_paused(&self) -> Option<String> {
        self.fleet.get(&self.fleet_key, fleet::CONFIG_MAP)?.paused.clone()
    }

    /// A pause of the fleet concerns every service.
    fn follow_fleet(
        &self,
        client: &Client,
        backoff: Box<dyn Backoff>,
        metrics: Metrics,
        wake: UnboundedSender<Key>,
    ) {
        let (index, store, place) = (self.fleet.clone(), self.services.clone(), self.fleet_key.clone());
        let changed = {
            let index = index.clone();
            move |_| {
                let paused = index
                    .get(&place, fleet::CONFIG_MAP)
                    .is_some_and(|f| f.paused.is_some());
                metrics.set_fleet_paused(paused);
                store.state().iter().for_each(|o| drop(wake.send(o.key())));
            }
        };
        let one = Config::default().fields(&format!("metadata.name={}", fleet::CONFIG_MAP));
        let api = api(client, Some(&self.fleet_key.namespace));
        tokio::spawn(follow(api, one, backoff, index, changed, || ()));
    }

    fn follow_services(
        &self,
        api: Api<ServiceObject>,
        writer: reflector::store::Writer<ServiceObject>,
        backoff: Box<dyn Backoff>,
        wake: UnboundedSender<Key>,
    ) {
        let (users, config_users) = (self.route_users.clone(), self.config_users.clone());
        let (workload_users, groups) = (self.workload_users.clone(), self.groups.clone());
        let store = self.services.clone();
        let events = watcher(api, Config::default()).backoff(backoff);
        let mut events = reflector::reflector(writer, events).boxed();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::warn!(%error, "watching PythonServices failed; it is tried again");
                        continue;
                    }
                };
                users.take_in(&event);
                workload_users.take_in(&event);
                config_users.take_in(&event);
                // What becomes of one concerns the others of its group.
                for group in groups.take_in(&event) {
                    for name in groups.of(&group).keys() {
                        drop(wake.send(Key::new(&group.namespace, name)));
                    }
                }
                match event {
                    Event::Apply(object) | Event::Delete(object) => drop(wake.send(object.key())),
                    Event::InitDone => store.state().iter().for_each(|o| drop(wake.send(o.key()))),
                    Event::Init | Event::InitApply(_) => {}
                }
            }
        });
    }

    /// A change of what services name concerns those that do, whoever wrote it; when its kind appears, those that may.
    fn follow_named<V, U>(
        &self,
        watch: &Watch,
        index: &Arc<Index<V>>,
        users: &Arc<Index<U>>,
        may_name: fn(&ServiceObject) -> bool,
    ) where
        V: Facts,
        V::Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
        U: Facts,
    {
        let (users, store) = (users.clone(), self.services.clone());
        let (wake, all) = (watch.wake.clone(), watch.wake.clone());
        let changed = move |named: Key| {
            for name in users.of(&named).keys() {
                drop(wake.send(Key::new(&named.namespace, name)));
            }
        };
        let appeared = move || {
            let state = store.state();
            let concerned = state.iter().filter(|o| may_name(o));
            concerned.for_each(|o| drop(all.send(o.key())));
        };
        let api = api(watch.client, watch.namespace);
        let config = Config::default();
        tokio::spawn(follow(
            api,
            config,
            (watch.backoff)(),
            index.clone(),
            changed,
            appeared,
        ));
    }

    /// When the kind appears, or disappears, it concerns every service.
    fn follow_rules(
        &self,
        api: Api<PrometheusRule>,
        config: Config,
        backoff: Box<dyn Backoff>,
        wake: UnboundedSender<Key>,
    ) {
        let (store, all) = (self.services.clone(), wake.clone());
        let changed = move |key| drop(wake.send(key));
        let appeared = move || store.state().iter().for_each(|o| drop(all.send(o.key())));
        tokio::spawn(follow(
            api,
            config,
            backoff,
            self.rules.clone(),
            changed,
            appeared,
        ));
    }

    /// A change of a ConfigMap or a Secret concerns the services that name it, and the one that it is a snapshot of.
    fn follow_contents<V>(&self, watch: &Watch, config: Config, index: Arc<Index<V>>)
    where
        V: Facts,
        V::Object: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let (wake, all) = (watch.wake.clone(), watch.wake.clone());
        let (users, every) = (self.config_users.clone(), self.config_users.clone());
        let changed = move |object: Key| {
            for service in users.of(&object) {
                drop(wake.send(service));
            }
        };
        let appeared = move || every.all().into_iter().for_each(|key| drop(all.send(key)));
        let api = api(watch.client, watch.namespace);
        tokio::spawn(follow(api, config, (watch.backoff)(), index, changed, appeared));
    }

    /// Waits until every cache that decisions need has been filled once.
    pub async fn known(&self) {
        // The writer lives as long as the watch, and the watch as long as the process.
        drop(self.services.wait_until_ready().await);
        self.sets.known().await;
        self.pods.known().await;
        self.core_services.known().await;
        self.slices.known().await;
        self.actions.known().await;
        self.records.known().await;
        self.routes.known().await;
        // Services without a ConfigMap, gRPC, Istio or a Deployment don't need these; the others change nothing until
        // they are known.
        let others = async {
            tokio::join!(
                self.contents.config_maps.known(),
                self.grpc_routes.known(),
                self.virtual_services.known(),
                self.deployments.known(),
                self.autoscalers.known(),
                self.policies.known()
            )
        };
        drop(tokio::time::timeout(CONTENTS_LIMIT, others).await);
        self.fleet.known().await;
    }
}

struct Watch<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    backoff: fn() -> Box<dyn Backoff>,
    wake: &'a UnboundedSender<Key>,
}

impl Watch<'_> {
    fn start<K, V>(&self, config: Config, index: &Arc<Index<V>>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
        V: crate::k8s::index::Facts<Object = K>,
    {
        let wake = self.wake.clone();
        let changed = move |key| drop(wake.send(key));
        tokio::spawn(follow(
            api(self.client, self.namespace),
            config,
            (self.backoff)(),
            index.clone(),
            changed,
            || (),
        ));
    }
}

fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(
    client: &Client,
    namespace: Option<&str>,
) -> Api<K> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

//! Stands by with warm caches, and steers as long as this replica leads.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Shared;
use futures::{FutureExt, StreamExt};
use kube::api::{DynamicObject, ListParams, PartialObjectMeta};
use kube::runtime::controller::{self, Config, ReconcileRequest, applier};
use kube::runtime::events::{Event, EventType, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::actions::{self, Chore};
use super::caches::Caches;
use super::edges::Edges;
use super::memory::Memories;
use super::object::ServiceObject;
use super::warm_up::WarmUps;
use super::{Context, reconcile, validate};
use crate::k8s::Key;
use crate::k8s::writer::Writer;
use crate::leader::{Fence, Leadership, Leading};
use crate::metrics::Metrics;
use crate::notifications::delivery::{self, Delivery};
use crate::notifications::desk::Patience;
use crate::notifications::outbox::{Handover, Outbox};
use crate::server::Readiness;
use crate::traffic::Routers;
use crate::traffic::gateway_api::GatewayApi;
use crate::traffic::gateway_api::sessions::Sessions;
use crate::traffic::istio::Istio;
use crate::traffic::replica_share::ReplicaShare;
use crate::traffic::workers::Workers;

/// How long running reconciles may go on once the process is to stop: another replica waits to take over, and
/// they may be cut off anywhere.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait before the versions of the services are asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// What stays the same through every leadership.
pub struct Operator {
    /// The world.
    pub edges: Edges,
    /// What is watched.
    pub caches: Arc<Caches>,
    /// The only namespace to work in; all if absent.
    pub namespace: Option<String>,
    /// Services that are reconciled at the same time, at most.
    pub concurrency: u16,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// What services are measured by that say nothing else.
    pub defaults: validate::Defaults,
    /// Labels of every PrometheusRule.
    pub rule_labels: BTreeMap<String, String>,
    /// Where people find the dashboard.
    pub dashboard_url: Option<String>,
}

/// The keys of services that something has happened to.
pub struct Wakes {
    /// Where they are told.
    pub sender: UnboundedSender<Key>,
    /// Where they come out.
    pub receiver: UnboundedReceiver<Key>,
}

impl Operator {
    /// Reconciles while it leads, and nothing meanwhile, until `shutdown`. Every cache must be filled.
    pub async fn run<S>(
        &self,
        leadership: Leadership,
        readiness: Readiness,
        mut wakes: Wakes,
        shutdown: Shared<S>,
    ) where
        S: Future<Output = ()> + Send + 'static,
    {
        readiness.ready(leadership.clone());
        loop {
            let (leading, fence) = tokio::select! {
                biased;
                () = shutdown.clone() => return,
                // The caches have it; whoever takes over looks at everything.
                () = discard(&mut wakes.receiver) => return,
                won = leadership.won() => won,
            };
            tracing::info!(
                term = leading.term,
                before = leading.before,
                "this replica leads; reconciling"
            );
            self.metrics.took_over();
            let stopped = tokio::select! {
                biased;
                () = overdue(shutdown.clone()) => true,
                () = fence.ended() => false,
                () = self.term(&leading, fence.clone(), &mut wakes, shutdown.clone()) => true,
            };
            self.metrics.stood_down();
            tracing::info!(term = leading.term, stopped, "this replica leads no longer");
            if stopped {
                return;
            }
        }
    }

    /// One leadership, until `shutdown`. What it learns ends with it.
    async fn term<S>(&self, leading: &Leading, fence: Fence, wakes: &mut Wakes, shutdown: Shared<S>)
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (outbox, handovers) = Outbox::new(self.caches.policies.clone(), self.metrics.clone());
        let (chores, to_do) = unbounded_channel();
        let context = Arc::new(self.context(fence, outbox, chores));
        tokio::select! {
            biased;
            () = shutdown.clone() => return,
            () = self.catch_up(leading, &context.memories) => {}
        }
        for service in self.caches.services.state() {
            drop(wakes.sender.send(service.key()));
        }
        for service in self.caches.actions.groups() {
            drop(wakes.sender.send(service));
        }
        let config = Config::default()
            .concurrency(self.concurrency)
            .debounce(Duration::from_millis(20));
        let delivery = self.deliver(&context, handovers, shutdown.clone());
        let keeper = actions::Keeper {
            writer: context.writer.clone(),
            caches: self.caches.clone(),
            clock: self.edges.clock.clone(),
        };
        let stops = shutdown.clone();
        let tidy = async {
            tokio::select! {
                biased;
                () = stops => {}
                () = keeper.run(to_do) => {}
            }
        };
        let queue = requests(&mut wakes.receiver)
            .take_until(shutdown)
            .map(Ok::<_, std::convert::Infallible>);
        let reconciles = applier(
            |object: Arc<ServiceObject>, context: Arc<Context>| {
                async move {
                    // Thousands of services that need nothing must not keep the lease from being renewed.
                    tokio::task::yield_now().await;
                    reconcile::reconcile(object, context).await
                }
                .boxed()
            },
            reconcile::on_error,
            context.clone(),
            self.caches.services.clone(),
            queue,
            config,
        )
        .for_each(|result| {
            if let Err(error) = result {
                if let controller::Error::ObjectNotFound(missing) = &error {
                    self.miss(missing, &context.chores);
                }
                tracing::debug!(%error, "reconcile");
            }
            std::future::ready(())
        });
        tokio::join!(reconciles, tell(leading, &context.writer), delivery, tidy);
    }

    /// Something was told of a service that the caches don't have.
    fn miss(&self, missing: &ObjectRef<DynamicObject>, chores: &UnboundedSender<Chore>) {
        let key = Key::new(missing.namespace.clone().unwrap_or_default(), &missing.name);
        if self.caches.actions.has(&key) {
            drop(chores.send(Chore::Orphans(key)));
        }
    }

    /// Delivers notifications beside the reconciles, for as long as this replica leads.
    async fn deliver(
        &self,
        context: &Context,
        handovers: Receiver<Handover>,
        shutdown: impl Future<Output = ()>,
    ) {
        let Some(outside) = self.edges.outside.clone() else {
            return;
        };
        let edges = delivery::Edges {
            policies: self.caches.policies.clone(),
            outside,
            store: Arc::new(context.writer.clone()),
            clock: self.edges.clock.clone(),
            metrics: self.metrics.clone(),
            patience: Patience::default(),
            dashboard: self.dashboard_url.clone(),
        };
        Delivery::new(edges, handovers).run(shutdown).await;
    }

    fn context(&self, fence: Fence, outbox: Outbox, chores: UnboundedSender<Chore>) -> Context {
        let reporter = Reporter {
            controller: "molt".to_owned(),
            instance: std::env::var("POD_NAME").ok(),
        };
        let writer = Writer::new(self.edges.client.clone(), reporter, fence);
        let (routes, services) = (self.caches.routes.clone(), self.caches.services.clone());
        Context {
            routers: Routers {
                sessions: Sessions::new(self.edges.client.clone()),
                gateway_api: GatewayApi::new(writer.clone(), routes, services.clone()),
                grpc: GatewayApi::new(writer.clone(), self.caches.grpc_routes.clone(), services.clone()),
                istio: Istio::new(writer.clone(), self.caches.virtual_services.clone(), services),
                replica_share: ReplicaShare::new(
                    self.caches.core_services.clone(),
                    self.caches.slices.clone(),
                    self.caches.pods.clone(),
                ),
                workers: Workers::new(self.caches.pods.clone()),
            },
            writer,
            source: self.edges.source.clone(),
            clock: self.edges.clock.clone(),
            decide: self.edges.decide.clone(),
            metrics: self.metrics.clone(),
            memories: Memories::default(),
            warm_ups: WarmUps::default(),
            defaults: self.defaults.clone(),
            caches: self.caches.clone(),
            rule_labels: self.rule_labels.clone(),
            outbox,
            traces: self.edges.traces.clone(),
            chores,
        }
    }

    /// Notes which version of each service the last leader may have written: a watch that lags must not bring
    /// back what that one has decided away.
    async fn catch_up(&self, leading: &Leading, memories: &Memories) {
        if leading.lease.is_none() {
            return;
        }
        let api: Api<ServiceObject> = match &self.namespace {
            Some(namespace) => Api::namespaced(self.edges.client.clone(), namespace),
            None => Api::all(self.edges.client.clone()),
        };
        loop {
            match api.list_metadata(&ListParams::default()).await {
                Ok(services) => {
                    for service in services {
                        note(memories, &service);
                    }
                    return;
                }
                Err(error) => tracing::warn!(%error, "the services can't be listed; it is tried again"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn note(memories: &Memories, service: &PartialObjectMeta<ServiceObject>) {
    let key = Key::new(service.namespace().unwrap_or_default(), service.name_any());
    let version = service.resource_version();
    memories.update(&key, |m| m.written = version);
}

/// Tells of the change where `kubectl describe lease` shows it.
async fn tell(leading: &Leading, writer: &Writer) {
    let Some(lease) = &leading.lease else { return };
    let before = leading.before.as_ref().map_or_else(
        || "nobody held the lease".to_owned(),
        |b| format!("{b} did not renew it"),
    );
    let event = Event {
        type_: EventType::Normal,
        reason: "LeaderElected".to_owned(),
        note: Some(format!("{} leads; {before}", leading.me)),
        action: format!("term {}", leading.term),
        secondary: None,
    };
    if let Err(error) = writer.publish(&event, lease).await {
        tracing::warn!(%error, "an event was lost");
    }
}

/// Forgets what happened. Ends when nothing can happen any more.
async fn discard(woken: &mut UnboundedReceiver<Key>) {
    while woken.recv().await.is_some() {}
}

async fn overdue(shutdown: impl Future<Output = ()>) {
    shutdown.await;
    tokio::time::sleep(GRACE).await;
}

/// Keys as requests to reconcile.
fn requests(
    woken: &mut UnboundedReceiver<Key>,
) -> impl futures::Stream<Item = ReconcileRequest<ServiceObject>> {
    futures::stream::poll_fn(move |cx| woken.poll_recv(cx)).map(|key| {
        ObjectRef::<ServiceObject>::new(&key.name)
            .within(&key.namespace)
            .into()
    })
}

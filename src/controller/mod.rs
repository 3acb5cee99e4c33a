//! The controller of PythonServices: read, decide, persist, apply.
//!
//! | step | module | API client |
//! |---|---|---|
//! | watch | [`caches`], [`facts`], [`pods`], [`object`] | reads |
//! | validate | [`validate`], [`revision`] | none |
//! | observe | [`observe`] | none |
//! | measure | [`metric_sources`](crate::metric_sources) | none; Prometheus |
//! | decide | [`molt_core::rollout::decide`] | none |
//! | persist | [`status`] | one write |
//! | apply | [`apply`], [`render`], [`traffic`](crate::traffic) | writes |
//! | side objects | [`rules`], [`jobs`] | writes that nothing waits for |
//! | tell | [`record`], [`events`] | writes |
//!
//! The status is written before any effect, see `docs/adr/0001-persist-before-effects.md`.

pub mod apply;
pub mod caches;
pub mod events;
pub mod facts;
pub mod job_template;
pub mod jobs;
pub mod memory;
pub mod object;
pub mod observe;
pub mod pods;
mod reconcile;
pub mod record;
pub mod render;
pub mod revision;
pub mod rules;
pub mod status;
pub mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::Client;
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::k8s::Key;
use crate::k8s::failure::WriteError;
use crate::k8s::secrets::Secrets;
use crate::k8s::writer::Writer;
use crate::metric_sources::MetricSource;
use crate::metric_sources::headers::{self, Headers};
use crate::metric_sources::sources::Sources;
use crate::metrics::Metrics;
use crate::server::Readiness;
use crate::traffic::Routers;
use crate::traffic::gateway_api::GatewayApi;
use caches::Caches;
use memory::Memories;
use object::ServiceObject;

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Prometheus of services that name none.
    pub prometheus_address: String,
    /// Headers for that Prometheus, one `Name: value` a line.
    pub prometheus_headers_file: Option<PathBuf>,
    /// Certificates of authorities that are trusted beside the system's, for every Prometheus, in PEM.
    pub prometheus_ca_file: Option<PathBuf>,
    /// The only namespace to watch; all if absent.
    pub namespace: Option<String>,
    /// Services that are reconciled at the same time, at most.
    pub concurrency: u16,
    /// Labels of every PrometheusRule, for a Prometheus that selects rules by them.
    pub rule_labels: BTreeMap<String, String>,
}

/// Why the controller could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The client for Prometheus can't be made.
    #[error("the HTTP client for Prometheus can't be made: {0}")]
    Prometheus(String),
}

/// What every reconcile shares.
struct Context {
    caches: Caches,
    writer: Writer,
    routers: Routers,
    source: Arc<dyn MetricSource>,
    recorder: Recorder,
    metrics: Metrics,
    memories: Memories,
    defaults: validate::Defaults,
    rule_labels: BTreeMap<String, String>,
}

/// Why a reconcile has to be tried again.
#[derive(Debug, Error)]
enum Failure {
    /// A write failed, or was refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The status holds a state that this version can't read.
    #[error("status.state can't be read: {0}")]
    State(String),
}

/// Runs until `shutdown`, then lets running reconciles end.
///
/// `readiness` turns true once every cache is filled.
pub async fn run(
    client: Client,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let source = sources(&client, &options, &metrics).map_err(StartError::Prometheus)?;
    let (wake, woken) = mpsc::unbounded_channel::<Key>();
    let caches = Caches::start(&client, options.namespace.as_deref(), &wake);
    let writer = Writer::new(client.clone());
    let gateway_api = GatewayApi::new(writer.clone(), caches.routes.clone(), caches.services.clone());
    let store = caches.services.clone();
    let reporter = Reporter {
        controller: "molt".to_owned(),
        instance: std::env::var("POD_NAME").ok(),
    };
    let context = Arc::new(Context {
        routers: Routers { gateway_api },
        writer,
        source: Arc::new(source),
        recorder: Recorder::new(client, reporter),
        metrics,
        memories: Memories::default(),
        defaults: validate::Defaults {
            prometheus_address: Some(options.prometheus_address),
        },
        caches,
        rule_labels: options.rule_labels,
    });
    let shutdown = shutdown.shared();
    tokio::select! {
        () = context.caches.known() => {}
        () = shutdown.clone() => return Ok(()),
    }
    readiness.set(true);
    tracing::info!("every cache is filled; reconciling");
    let queue = requests(woken)
        .take_until(shutdown)
        .map(Ok::<_, std::convert::Infallible>);
    let config = Config::default()
        .concurrency(options.concurrency)
        .debounce(Duration::from_millis(20));
    applier(
        |object: Arc<ServiceObject>, context: Arc<Context>| reconcile::reconcile(object, context).boxed(),
        reconcile::on_error,
        context,
        store,
        queue,
        config,
    )
    .map(Ok::<_, std::convert::Infallible>)
    .try_for_each(|result| {
        if let Err(error) = result {
            tracing::debug!(%error, "reconcile");
        }
        std::future::ready(Ok(()))
    })
    .await
    .unwrap_or_default();
    // The wake-ups hold the queue open until here.
    drop(wake);
    Ok(())
}

/// The sources of measurements, with what the operator was given for it.
fn sources(client: &Client, options: &Options, metrics: &Metrics) -> Result<Sources, String> {
    let file = options.prometheus_headers_file.clone();
    if let Some(path) = &file {
        // A slip is told at the start, not at the first rollout.
        headers::read_file(path)?;
    }
    let ca = options.prometheus_ca_file.as_ref().map(|path| {
        std::fs::read(path)
            .map_err(|error| format!("--prometheus-ca-file {} can't be read: {error}", path.display()))
    });
    let secrets = Arc::new(Secrets::new(client.clone()));
    Sources::new(
        metrics.clone(),
        Headers::new(Some(secrets), file),
        ca.transpose()?.as_deref(),
    )
}

/// Keys as requests to reconcile.
fn requests(
    mut woken: mpsc::UnboundedReceiver<Key>,
) -> impl futures::Stream<Item = ReconcileRequest<ServiceObject>> {
    futures::stream::poll_fn(move |cx| woken.poll_recv(cx)).map(|key| {
        ObjectRef::<ServiceObject>::new(&key.name)
            .within(&key.namespace)
            .into()
    })
}

/// When to look again if nothing happens.
fn requeue(wait: Option<Duration>) -> Action {
    wait.map_or_else(Action::await_change, Action::requeue)
}

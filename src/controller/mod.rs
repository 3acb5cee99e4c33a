//! The controller of PythonServices: read, decide, persist, apply.
//!
//! | step | module | API client |
//! |---|---|---|
//! | watch | [`caches`], [`facts`], [`pods`], [`object`] | reads |
//! | validate | [`validate`], [`revision`], [`config`] | none |
//! | observe | [`observe`] | none |
//! | measure | [`metric_sources`](crate::metric_sources) | none; Prometheus |
//! | decide | [`molt_core::rollout::decide`] | none |
//! | persist | [`status`] | one write |
//! | apply | [`apply`], [`render`], [`traffic`](crate::traffic) | writes |
//! | side objects | [`rules`], [`jobs`] | writes that nothing waits for |
//! | tell | [`record`], [`events`]; [`notifications`](crate::notifications), beside the reconciles | writes |
//! | tidy | [`actions`], beside the reconciles | writes |
//!
//! `steer` does so while this replica leads, see [`crate::leader`].
//!
//! The status is written before any effect, see `docs/adr/0001-persist-before-effects.md`.

pub mod actions;
pub mod adopted;
pub mod apply;
pub mod caches;
pub mod config;
pub mod edges;
mod effect_words;
pub mod events;
pub mod facts;
pub mod fleet;
pub mod groups;
pub mod job_template;
pub mod jobs;
mod measures;
pub mod memory;
pub mod migration_job;
pub mod object;
pub mod observe;
pub mod pods;
mod readiness;
mod reconcile;
pub mod record;
pub mod render;
pub mod revision;
pub mod rules;
pub mod runs;
pub mod server_presets;
mod service_marks;
pub mod status;
mod steer;
pub mod validate;
pub mod warm_up;
pub mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::Client;
use kube::runtime::controller::Action;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::k8s::Key;
use crate::k8s::failure::WriteError;
use crate::k8s::secrets::Secrets;
use crate::k8s::writer::Writer;
use crate::leader::{Candidate, Leadership, Settings};
use crate::metric_sources::MetricSource;
use crate::metric_sources::headers::{self, Headers};
use crate::metric_sources::sources::Sources;
use crate::metrics::Metrics;
use crate::notifications::outbox::Outbox;
use crate::notifications::outside::World;
use crate::server::Readiness;
use crate::traces::{self, Traces};
use crate::traffic::Routers;
use actions::Chore;
use caches::Caches;
use edges::{Clock, Decide, Edges};
use memory::Memories;
use steer::{Operator, Wakes};
use warm_up::WarmUps;

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
    /// The operator may read Secrets, and make snapshots of them: services may ask for it.
    pub snapshot_secrets: bool,
    /// Where the ConfigMap is that pauses everything, see [`fleet`]: the operator's own namespace.
    pub fleet_namespace: String,
    /// A pause for a person is told to delivery tools as work in progress.
    pub strict_paused: bool,
    /// Where people find the dashboard, for links in notifications.
    pub dashboard_url: Option<String>,
    /// How one of several replicas is chosen; without it this one must be alone.
    pub leader_election: Option<Settings>,
}

/// Why the controller could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The client for Prometheus can't be made.
    #[error("the HTTP client for Prometheus can't be made: {0}")]
    Prometheus(String),
    /// The collector of traces that the environment names can't be used.
    #[error("traces can't be sent: {0}; OTEL_EXPORTER_OTLP_ENDPOINT is a URL such as http://collector:4318")]
    Traces(String),
}

/// How long the last traces may take once the process is to stop.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// What every reconcile shares.
struct Context {
    caches: Arc<Caches>,
    writer: Writer,
    routers: Routers,
    source: Arc<dyn MetricSource>,
    clock: Arc<dyn Clock>,
    decide: Arc<Decide>,
    metrics: Metrics,
    memories: Memories,
    warm_ups: WarmUps,
    defaults: validate::Defaults,
    rule_labels: BTreeMap<String, String>,
    outbox: Outbox,
    traces: Traces,
    chores: mpsc::UnboundedSender<Chore>,
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
/// `readiness` turns true once every cache is filled, whether this replica leads or stands by.
pub async fn run(
    client: Client,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let source = sources(&client, &options, &metrics).map_err(StartError::Prometheus)?;
    let ca = authorities(&options).map_err(StartError::Prometheus)?;
    let world = World::new(client.clone(), ca.as_deref()).map_err(StartError::Prometheus)?;
    let exporter =
        traces::export::from_environment().map_err(|error| StartError::Traces(error.to_string()))?;
    let (traces, delivery) = match exporter {
        Some(exporter) => {
            let (traces, ended) = Traces::new(metrics.clone());
            let delivery = tokio::spawn(traces::export::deliver(ended, exporter, metrics.clone()));
            (traces, Some(delivery))
        }
        None => (Traces::default(), None),
    };
    let edges = Edges {
        outside: Some(Arc::new(world)),
        traces,
        ..Edges::new(client, Arc::new(source))
    };
    run_on(edges, options, metrics, readiness, shutdown).await;
    if let Some(delivery) = delivery {
        // What still waits has a moment left; a collector that hangs keeps nobody.
        drop(tokio::time::timeout(LAST_TRACES, delivery).await);
    }
    Ok(())
}

/// Runs on any edges until `shutdown`, as [`run`] does. Of the options, those that say where the measurements
/// come from are without effect but for the address.
pub async fn run_on(
    edges: Edges,
    options: Options,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let (sender, receiver) = mpsc::unbounded_channel::<Key>();
    let caches = Arc::new(Caches::start(
        &edges,
        options.namespace.as_deref(),
        options.snapshot_secrets,
        &options.fleet_namespace,
        &metrics,
        &sender,
    ));
    let wakes = Wakes { sender, receiver };
    let operator = Operator {
        caches,
        namespace: options.namespace,
        concurrency: options.concurrency,
        metrics,
        defaults: validate::Defaults {
            prometheus_address: Some(options.prometheus_address),
            no_secrets: !options.snapshot_secrets,
            strict_paused: options.strict_paused,
        },
        rule_labels: options.rule_labels,
        dashboard_url: options.dashboard_url,
        edges,
    };
    let shutdown = shutdown.shared();
    tokio::select! {
        biased;
        () = shutdown.clone() => return,
        // Whoever does not see everything must not keep others from leading.
        () = operator.caches.known() => {}
    }
    tracing::info!("every cache is filled");
    let (mut candidate, leadership) = match options.leader_election {
        Some(settings) => {
            let (candidate, leadership) = Candidate::new(&operator.edges, settings);
            (Some(candidate), leadership)
        }
        None => (None, Leadership::alone()),
    };
    let campaign = async {
        match &mut candidate {
            Some(candidate) => candidate.campaign().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        never = campaign => match never {},
        () = Box::pin(operator.run(leadership, readiness, wakes, shutdown)) => {}
    }
    if let Some(candidate) = candidate {
        candidate.resign().await;
    }
}

/// The sources of measurements, with what the operator was given for it.
fn sources(client: &Client, options: &Options, metrics: &Metrics) -> Result<Sources, String> {
    let file = options.prometheus_headers_file.clone();
    if let Some(path) = &file {
        // A slip is told at the start, not at the first rollout.
        headers::read_file(path)?;
    }
    let ca = authorities(options)?;
    let secrets = Arc::new(Secrets::new(client.clone()));
    Sources::new(metrics.clone(), Headers::new(Some(secrets), file), ca.as_deref())
}

/// Authorities that are trusted beside the system's.
fn authorities(options: &Options) -> Result<Option<Vec<u8>>, String> {
    let read = |path: &PathBuf| {
        std::fs::read(path)
            .map_err(|error| format!("--prometheus-ca-file {} can't be read: {error}", path.display()))
    };
    options.prometheus_ca_file.as_ref().map(read).transpose()
}

/// When to look again if nothing happens.
fn requeue(wait: Option<Duration>) -> Action {
    wait.map_or_else(Action::await_change, Action::requeue)
}

/// What every log line about a service says beside its own words; the revision and the attempt once they are known. It
/// has the highest level, so that no filter that lets a line through takes this from it.
pub(crate) fn log_span(service: &Key) -> tracing::Span {
    tracing::error_span!(
        "service",
        namespace = service.namespace,
        service = service.name,
        revision = tracing::field::Empty,
        attempt = tracing::field::Empty,
    )
}

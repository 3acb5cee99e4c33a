//! The operator.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use molt::controller::{self, Options};
use molt::dashboard::args::DashboardArgs;
use molt::leader::{Settings, Timing, TimingError};
use molt::metrics::Metrics;
use molt::server::{self, Readiness, ServerState};
use molt::telemetry::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Progressive delivery of Python services, decided by evidence.
#[derive(Debug, Parser)]
#[command(name = "molt", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller, inside a cluster or with the kubeconfig of the environment.
    Controller(Box<ControllerArgs>),
    /// Serve the dashboard of a cluster to people in their browsers.
    Dashboard(Box<DashboardArgs>),
    /// Print the CustomResourceDefinitions.
    Crds,
    /// Print the version.
    Version,
}

#[derive(Debug, clap::Args)]
struct ControllerArgs {
    /// The Prometheus of services whose spec names none.
    #[arg(
        long,
        env = "MOLT_PROMETHEUS_ADDRESS",
        default_value = "http://prometheus.monitoring:9090"
    )]
    prometheus_address: String,
    /// A file with headers for that Prometheus, one `Name: value` a line; sent to no other address.
    #[arg(long, env = "MOLT_PROMETHEUS_HEADERS_FILE")]
    prometheus_headers_file: Option<PathBuf>,
    /// A file with certificates, in PEM, of authorities that are trusted beside the system's when a
    /// Prometheus is asked over TLS.
    #[arg(long, env = "MOLT_PROMETHEUS_CA_FILE")]
    prometheus_ca_file: Option<PathBuf>,
    /// Where probes and metrics are served.
    #[arg(long, env = "MOLT_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Watch only this namespace.
    #[arg(long, env = "MOLT_NAMESPACE")]
    namespace: Option<String>,
    /// Services that are reconciled at the same time, at most.
    #[arg(long, env = "MOLT_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Labels of every PrometheusRule that objectives ask for, `key=value,…`: those that your Prometheus selects
    /// rules by.
    #[arg(long, env = "MOLT_RULE_LABELS", value_delimiter = ',', value_parser = label)]
    rule_labels: Vec<(String, String)>,
    /// Let services make the content of Secrets part of a revision, by `spec.configRevision.secrets: Snapshot`. The
    /// operator then reads every Secret that it may, and needs the right to get, list, watch and create them.
    #[arg(long, env = "MOLT_SNAPSHOT_SECRETS")]
    snapshot_secrets: bool,
    /// Tell delivery tools that a rollout which waits for a person is work in progress (kstatus: in progress), so that
    /// they wait for its end. Default: Current, with a `Paused` condition.
    #[arg(long, env = "MOLT_STRICT_PAUSED", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false)]
    strict_paused: bool,
    /// Where people find the dashboard, such as `https://molt.example.com`: notifications link to it.
    #[arg(long, env = "MOLT_DASHBOARD_URL", value_name = "URL", value_parser = web_address)]
    dashboard_url: Option<String>,
    #[command(flatten)]
    election: ElectionArgs,
    /// How logs are written; what is logged is chosen by the filter in `MOLT_LOG`.
    #[arg(long, env = "MOLT_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
}

/// How one of several replicas is chosen.
#[derive(Debug, clap::Args)]
struct ElectionArgs {
    /// Whether one of several replicas is chosen by a Lease. Without it this one must be alone. Default: inside a
    /// cluster.
    #[arg(long = "leader-election", env = "MOLT_LEADER_ELECTION", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enabled: Option<bool>,
    /// The name of the Lease; the same for all replicas, and another one for an operator of another namespace.
    #[arg(
        long = "leader-election-lease",
        env = "MOLT_LEADER_ELECTION_LEASE",
        value_name = "NAME",
        default_value = "molt"
    )]
    lease: String,
    /// The namespace of the Lease. Default: the operator's own.
    #[arg(
        long = "leader-election-namespace",
        env = "MOLT_LEADER_ELECTION_NAMESPACE",
        value_name = "NAMESPACE"
    )]
    election_namespace: Option<String>,
    /// How long the lease lasts that its holder does not renew: whole seconds, such as 4s.
    #[arg(long = "leader-election-lease-duration", env = "MOLT_LEADER_ELECTION_LEASE_DURATION", value_name = "DURATION", default_value = "4s", value_parser = duration)]
    lease_duration: Duration,
    /// How often its holder renews it.
    #[arg(long = "leader-election-renew-interval", env = "MOLT_LEADER_ELECTION_RENEW_INTERVAL", value_name = "DURATION", default_value = "1s", value_parser = duration)]
    renew_interval: Duration,
    /// How long before its end its holder stops writing.
    #[arg(long = "leader-election-margin", env = "MOLT_LEADER_ELECTION_MARGIN", value_name = "DURATION", default_value = "1s", value_parser = duration)]
    margin: Duration,
}

impl ElectionArgs {
    /// The settings; `None` for a replica that is alone.
    fn settings(self, own_namespace: &str) -> Result<Option<Settings>, TimingError> {
        let timing = Timing::new(self.lease_duration, self.renew_interval, self.margin)?;
        // What every container of a cluster is given.
        let in_cluster = || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let settings = || Settings {
            namespace: self.election_namespace.unwrap_or(own_namespace.to_owned()),
            lease: self.lease,
            identity: identity(),
            timing,
        };
        Ok(self.enabled.unwrap_or_else(in_cluster).then(settings))
    }
}

/// The pod's name, and a word of this process's own: a container that is started again is another candidate.
fn identity() -> String {
    let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    // Each is made with keys of its own, which come from the system's source of randomness.
    let word = RandomState::new().hash_one(std::process::id());
    format!("{}_{word:016x}", name.as_deref().unwrap_or("molt"))
}

fn web_address(text: &str) -> Result<String, String> {
    let is_one = text.starts_with("https://") || text.starts_with("http://");
    let address = text.trim_end_matches('/').to_owned();
    is_one
        .then_some(address)
        .ok_or_else(|| "write https:// and a host".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = molt::api::v1alpha1::Duration::from(text).parse()?;
    Duration::try_from(parsed).map_err(|e| e.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Version => {
            println!("molt {VERSION}");
            Ok(())
        }
        Command::Crds => {
            print!("{}", molt::api::crds::all_yaml());
            Ok(())
        }
        Command::Controller(args) => run(*args),
        Command::Dashboard(args) => show(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("molt: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A client that tells of every answer at once: whoever asked knows best whether and when to ask again. One that waits by
/// itself, for seconds where a disruption budget refuses an eviction, would keep a person's abort waiting too.
async fn connect() -> kube::Result<kube::Client> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    kube::Client::try_from(config)
}

#[tokio::main(worker_threads = 2)]
async fn show(args: DashboardArgs) -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(LogFormat::Auto)?;
    let config = kube::Config::infer()
        .await
        .map_err(|e| format!("no cluster can be reached: {e}; run inside a cluster, or set KUBECONFIG"))?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    args.run(config, stopped)
        .await
        .map_err(|error| error.to_string().into())
}

#[tokio::main(worker_threads = 2)]
async fn run(args: ControllerArgs) -> Result<(), Box<dyn std::error::Error>> {
    telemetry::init(args.log_format)?;
    let client = connect()
        .await
        .map_err(|e| format!("no cluster can be reached: {e}; run inside a cluster, or set KUBECONFIG"))?;
    let (metrics, readiness) = (Metrics::new(VERSION), Readiness::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let wait = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        // A dropped sender ends it as well.
        drop(stopped.wait_for(|s| *s).await);
    };
    let state = ServerState {
        metrics: metrics.clone(),
        readiness: readiness.clone(),
    };
    let server = tokio::spawn(server::serve(args.listen, state, wait(stopped.clone())));
    let options = Options {
        prometheus_address: args.prometheus_address,
        prometheus_headers_file: args.prometheus_headers_file,
        prometheus_ca_file: args.prometheus_ca_file,
        namespace: args.namespace,
        concurrency: args.concurrency,
        rule_labels: args.rule_labels.into_iter().collect(),
        snapshot_secrets: args.snapshot_secrets,
        fleet_namespace: client.default_namespace().to_owned(),
        strict_paused: args.strict_paused,
        dashboard_url: args.dashboard_url,
        leader_election: args.election.settings(client.default_namespace())?,
    };
    tracing::info!(version = VERSION, "molt controller");
    let mut controller = std::pin::pin!(controller::run(
        client,
        options,
        metrics,
        readiness.clone(),
        wait(stopped.clone())
    ));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        done = &mut controller => done?,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("ending: running reconciles are let to end");
    readiness.ending();
    stop.send_replace(true);
    controller.await?;
    server.await??;
    Ok(())
}

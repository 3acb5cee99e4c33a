//! One life: the real controller in virtual time on a simulated world, until the script ends or an invariant
//! is broken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::utils::Backoff;
use molt::controller::edges::{Clock, Decide, Edges};
use molt::controller::{Options, run_on};
use molt::leader::{Settings, Timing};
use molt::metric_sources::MetricSource;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::faults::{Fault, Kind, plan};
use crate::link::{Link, elapsed};
use crate::source::Source;
use crate::world::{Cluster, Order, Setup};

/// A mistake that is planted into the operator, to see whether the invariants find it.
#[derive(Clone, Default)]
pub struct Planted {
    /// Decides instead of [`decide`](molt_core::rollout::decide).
    pub decide: Option<Arc<Decide>>,
    /// Changes what is sent to the API server.
    pub rewrite: Option<fn(&mut molt_sim_api::Call)>,
    /// Changes how an operator's process stands for the lease.
    pub settings: Option<fn(u32, &mut Settings)>,
    /// Changes what was measured.
    pub measure: Option<fn(&mut molt::metric_sources::Measured)>,
}

/// What became of a life.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The faults that were planned.
    pub faults: Vec<Fault>,
    /// Everything that happened, a line each.
    pub log: Vec<String>,
    /// What was broken.
    pub violations: Vec<String>,
    /// Faults that struck.
    pub counts: BTreeMap<Kind, u64>,
    /// Attempts that began.
    pub rollouts: u64,
    /// Attempts at a later revision that ended, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Attempts at bad revisions that evidence decided, and how many of them were promoted.
    pub bad: (u64, u64),
    /// Milliseconds of the world.
    pub lived: u64,
}

/// The operator's clock.
struct SkewedClock {
    cluster: Cluster,
    process: u32,
    began: Instant,
}

impl Clock for SkewedClock {
    fn now(&self) -> jiff::Timestamp {
        self.cluster.at(elapsed(self.began)).operators_time(self.process)
    }
}

/// Waits as kube's own watches do, without chance.
struct Steady {
    next: Duration,
    /// The last failure.
    failed: Option<Instant>,
}

const FIRST: Duration = Duration::from_millis(800);
const LONGEST: Duration = Duration::from_secs(30);
/// Only after so long without a failure a watch is taken for well.
const WELL: Duration = Duration::from_mins(2);

impl Steady {
    fn new() -> Self {
        Self {
            next: FIRST,
            failed: None,
        }
    }
}

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        self.failed = Some(Instant::now());
        Some(wait)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {
        // A watch that only begins to be read resets this as well.
        if self.failed.is_some_and(|at| at.elapsed() >= WELL) {
            *self = Self::new();
        }
    }
}

/// A source whose readings a planted mistake changes.
struct Altered {
    source: Source,
    alter: fn(&mut molt::metric_sources::Measured),
}

impl MetricSource for Altered {
    fn measure<'a>(
        &'a self,
        request: &'a molt::metric_sources::MeasureRequest,
    ) -> futures::future::BoxFuture<'a, molt::metric_sources::Measured> {
        Box::pin(async move {
            let mut measured = self.source.measure(request).await;
            (self.alter)(&mut measured);
            measured
        })
    }
}

/// Lives the life of a seed.
pub fn live(seed: u64, rollouts: usize, planted: &Planted) -> Outcome {
    live_with(seed, rollouts, plan(seed, rollouts), planted)
}

/// Lives a life with just these faults.
///
/// # Panics
///
/// If no runtime can be made.
pub fn live_with(seed: u64, rollouts: usize, faults: Vec<Fault>, planted: &Planted) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads needs nothing from the machine");
    let setup = Setup {
        seed,
        rollouts,
        faults: faults.clone(),
        rewrite: planted.rewrite,
    };
    let cluster = Cluster::new(setup);
    runtime.block_on(drive(&cluster, planted));
    // Whatever the operators had spawned ends with it.
    drop(runtime);
    let world = cluster.lock();
    Outcome {
        seed,
        faults,
        log: world.log().to_vec(),
        violations: world.checks().violations().to_vec(),
        counts: world.counts().clone(),
        rollouts: world.checks().rollouts(),
        outcomes: world.checks().outcomes().clone(),
        bad: world.checks().bad(),
        lived: world.lived(),
    }
}

async fn drive(cluster: &Cluster, planted: &Planted) {
    let began = Instant::now();
    let mut operators: BTreeMap<u32, Running> = BTreeMap::new();
    loop {
        let next = {
            let mut world = cluster.at(elapsed(began));
            world.run_due();
            while let Some(order) = world.next_order() {
                match order {
                    Order::Start(process) => {
                        operators.insert(process, Running::start(cluster, process, began, planted));
                    }
                    Order::Kill(process) => {
                        if let Some(operator) = operators.remove(&process) {
                            operator.task.abort();
                        }
                    }
                    Order::End(process) => {
                        if let Some(end) = operators.get_mut(&process).and_then(|o| o.end.take()) {
                            // One that has ended already does not hear it.
                            end.send(()).ok();
                        }
                    }
                }
            }
            if world.is_finished() {
                return;
            }
            world.next_at()
        };
        let next = began + Duration::from_millis(next.unwrap_or(u64::MAX / 2));
        tokio::select! {
            biased;
            () = cluster.notify.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

/// A process of the operator.
struct Running {
    task: JoinHandle<()>,
    /// Asks it to end.
    end: Option<oneshot::Sender<()>>,
}

impl Running {
    fn start(cluster: &Cluster, process: u32, began: Instant, planted: &Planted) -> Self {
        let (end, ends) = oneshot::channel();
        let (cluster, planted) = (cluster.clone(), planted.clone());
        let task = tokio::spawn(async move {
            operate(cluster.clone(), process, began, planted, ends).await;
            cluster.at(elapsed(began)).ended(process);
        });
        Self { task, end: Some(end) }
    }
}

async fn operate(
    cluster: Cluster,
    process: u32,
    began: Instant,
    planted: Planted,
    ends: oneshot::Receiver<()>,
) {
    let elects = cluster.lock().elects();
    let link = Link {
        cluster: cluster.clone(),
        process,
        began,
    };
    let source = Source {
        cluster: cluster.clone(),
        began,
    };
    let source: Arc<dyn MetricSource> = match planted.measure {
        Some(alter) => Arc::new(Altered { source, alter }),
        None => Arc::new(source),
    };
    let mut edges = Edges::new(Client::new(link, "default"), source);
    edges.clock = Arc::new(SkewedClock {
        cluster,
        process,
        began,
    });
    edges.backoff = || Box::new(Steady::new());
    if let Some(decide) = planted.decide {
        edges.decide = decide;
    }
    let mut settings = Settings {
        namespace: crate::world::NAMESPACE.to_owned(),
        lease: crate::world::LEASE.to_owned(),
        identity: crate::world::identity(process),
        timing: Timing::default(),
    };
    if let Some(change) = planted.settings {
        change(process, &mut settings);
    }
    let options = Options {
        prometheus_address: "http://prometheus".to_owned(),
        prometheus_headers_file: None,
        prometheus_ca_file: None,
        namespace: Some(crate::world::NAMESPACE.to_owned()),
        concurrency: 1,
        rule_labels: BTreeMap::new(),
        snapshot_secrets: false,
        fleet_namespace: crate::world::NAMESPACE.to_owned(),
        strict_paused: false,
        dashboard_url: None,
        leader_election: elects.then_some(settings),
    };
    run_on(
        edges,
        options,
        molt::metrics::Metrics::new("simulated"),
        molt::server::Readiness::default(),
        // Whoever would ask it to end is gone: it runs on.
        async move {
            if ends.await.is_err() {
                std::future::pending::<()>().await;
            }
        },
    )
    .await;
}

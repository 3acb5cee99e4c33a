//! Prometheus, as the operator's edge sees it.

use std::time::Duration;

use futures::future::BoxFuture;
use molt::metric_sources::{MeasureRequest, Measured, MetricSource};
use molt_core::analysis::{Counts, Past};
use molt_core::observed::{BlockCounts, History, MeasuredBlock, Measurement, Problem, ProblemKind};
use tokio::time::{Instant, sleep};

use crate::link::elapsed;
use crate::world::{Cluster, Reading, SERVICE, World, timestamp};

/// Prometheus.
pub struct Source {
    /// The world.
    pub cluster: Cluster,
    /// When the world began.
    pub began: Instant,
}

fn problem(reason: &str) -> Problem {
    Problem {
        kind: ProblemKind::Metrics,
        reason: reason.to_owned(),
        message: "played".to_owned(),
    }
}

impl MetricSource for Source {
    fn measure<'a>(&'a self, request: &'a MeasureRequest) -> BoxFuture<'a, Measured> {
        Box::pin(async move {
            let state = {
                let mut world = self.cluster.at(elapsed(self.began));
                world.asked();
                world.metrics()
            };
            let wait = state.err().unwrap_or(20);
            sleep(Duration::from_millis(wait)).await;
            let mut world = self.cluster.at(elapsed(self.began));
            if state.is_err() {
                return Measured {
                    measurement: unread(request),
                    problems: vec![problem("PrometheusUnreachable")],
                    of_history: Vec::new(),
                };
            }
            if world.metrics_are_no_numbers() {
                return Measured {
                    measurement: unread(request),
                    problems: vec![problem("NotANumber")],
                    of_history: Vec::new(),
                };
            }
            Measured {
                measurement: measure(&mut world, request),
                problems: Vec::new(),
                of_history: Vec::new(),
            }
        })
    }
}

/// Blocks in which nothing could be read.
fn unread(request: &MeasureRequest) -> Measurement {
    let blocks = request.edges.windows(2).map(|edge| MeasuredBlock {
        start: edge[0],
        end: edge[1],
        slos: vec![None; request.slos.len()],
    });
    Measurement {
        blocks: blocks.collect(),
        ..Measurement::default()
    }
}

fn measure(world: &mut World, request: &MeasureRequest) -> Measurement {
    let since = |at: jiff::Timestamp| at.duration_since(timestamp(0)).as_secs_f64();
    let name = |set: &Option<String>| {
        let set = set.as_deref().unwrap_or_default();
        set.strip_prefix(SERVICE)
            .map(|r| r.trim_start_matches('-').to_owned())
    };
    let (canary, stable) = (name(&request.canary), name(&request.stable));
    let mut blocks = Vec::new();
    for edge in request.edges.windows(2) {
        let (from, to) = (since(edge[0]), since(edge[1]));
        let counts = counts(world, canary.as_deref(), stable.as_deref(), (from, to));
        if let (Some(counts), Some(canary)) = (&counts, &canary) {
            world.told(canary, counts.canary.total());
        }
        blocks.push(MeasuredBlock {
            start: edge[0],
            end: edge[1],
            slos: vec![counts; request.slos.len()],
        });
    }
    let history = History {
        rate: Some(200.0),
        budget_remaining: Some(0.9),
        past: Past {
            correlation: Some(0.0),
            ..Past::default()
        },
        falls: false,
    };
    let wanted = if request.want_history {
        request.slos.len()
    } else {
        0
    };
    Measurement {
        blocks,
        history: vec![history; wanted],
        conditions: Vec::new(),
        runtime: Vec::new(),
        connections: None,
    }
}

fn counts(
    world: &mut World,
    canary: Option<&str>,
    stable: Option<&str>,
    span: (f64, f64),
) -> Option<BlockCounts> {
    let millis = |at: f64| (at.max(0.0) * 1000.0) as u64;
    let (from, to) = (millis(span.0), millis(span.1));
    if world.metrics_lack(from, to) {
        return None;
    }
    let lost = world.metrics_lost(from, to);
    let mut read = |revision: Option<&str>| match revision.map(|r| world.read(r, span.0, span.1)) {
        Some(Reading::Counts(total, bad)) if lost => Counts::new((total / 2.0).floor(), (bad / 2.0).floor()),
        Some(Reading::Counts(total, bad)) => Counts::new(total, bad),
        Some(Reading::Nothing) => None,
        None => Some(Counts::default()),
    };
    Some(BlockCounts {
        canary: read(canary)?,
        stable: read(stable)?,
        ..BlockCounts::default()
    })
}

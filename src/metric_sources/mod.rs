//! Where measurements come from.
//!
//! A source reads raw samples and hands them to [`molt_core::analysis`], which does all the counting. What
//! can't be read is `None` and a [`Problem`], never a zero.
//!
//! - [`query`]: what is asked for, from the spec.
//! - [`selector`]: selectors of own counters.
//! - [`presets`]: the metrics of well-known instrumentations.
//! - [`tasks`]: what exporters of queues count, and how they name workers.
//! - [`at_route`]: how the proxies of a route name its backends.
//! - [`conditions`]: the queries of thresholds.
//! - [`guards`]: what guards of the runtime ask for.
//! - [`headers`]: what a source asks for beside the query.
//! - [`web`]: numbers that a URL answers with.
//! - [`sources`]: all of them as one.
//! - [`http`]: their HTTP client.
//! - [`prometheus`]: the Prometheus HTTP API.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use jiff::Timestamp;
use molt_core::observed::{Measurement, Problem};

pub use molt_core::analysis::Starts;

pub mod at_route;
pub mod conditions;
pub mod guards;
pub mod headers;
pub mod http;
pub mod presets;
pub mod prometheus;
pub mod query;
pub mod selector;
pub mod sources;
pub mod tasks;
pub mod web;

pub use at_route::RouteBackends;
pub use conditions::ConditionQuery;
pub use guards::{ConnectionsLimit, ConnectionsQuery, GuardQuery, PoolLimit};
pub use query::{FieldError, PrometheusSource, SliQuery, SloQuery};

/// Something that measurements can be read from.
pub trait MetricSource: Send + Sync {
    /// Reads the blocks and the history that are asked for. It takes a bounded time and does not fail as a
    /// whole: an objective that can't be read is `None` in each block and has a problem, the others are read
    /// all the same.
    fn measure<'a>(&'a self, request: &'a MeasureRequest) -> BoxFuture<'a, Measured>;
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureRequest {
    /// Where.
    pub source: PrometheusSource,
    /// The namespace of the service.
    pub namespace: String,
    /// The service: history is read of all its revisions.
    pub service: String,
    /// The objectives, in the plan's order.
    pub slos: Vec<SloQuery>,
    /// The canary's ReplicaSet.
    pub canary: Option<String>,
    /// Stable's ReplicaSet.
    pub stable: Option<String>,
    /// Where the route names both.
    pub backends: RouteBackends,
    /// When each pod of both was created.
    pub births: BTreeMap<String, Timestamp>,
    /// When a pod that is warmed up became warm, or will: latencies before say nothing.
    pub warm_at: BTreeMap<String, Timestamp>,
    /// When containers of each pod of both began; a pod that is not there is not known any more.
    pub starts: BTreeMap<String, Starts>,
    /// The edges of the blocks in order of time, one more than there are blocks; fewer than two ask for no
    /// block.
    pub edges: Vec<Timestamp>,
    /// The thresholds to evaluate at the last edge, in the plan's order; none while nobody is on the canary.
    pub conditions: Vec<ConditionQuery>,
    /// What guards of the runtime ask for; none while nobody is on the canary.
    pub guards: Vec<GuardQuery>,
    /// The connections of a database, read at the last edge.
    pub connections: Option<ConnectionsQuery>,
    /// Read the history too.
    pub want_history: bool,
    /// The time of the request.
    pub now: Timestamp,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The blocks, one for each pair of edges, and the history.
    pub measurement: Measurement,
    /// What could not be read, and why; each cause once.
    pub problems: Vec<Problem>,
    /// What the history shows that stands in the way, likewise: as long as that history is the last that was read.
    pub of_history: Vec<Problem>,
}

//! The HTTP API of Prometheus, which Thanos, Mimir and others speak as well.
//!
//! Each objective is one query of raw samples for both revisions at once, evaluated at the last edge, so that both are read from the same moment and cut by the times of their samples.

mod answer;
mod ask;
mod conditions;
mod history;
mod native;
pub mod promql;
mod reading;
mod runtime;
mod series;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{self, BoxFuture};
use molt_core::observed::{MeasuredBlock, Measurement, Problem, ProblemKind};

use prometheus_http_query::reqwest::Client;

use self::ask::{Asker, Failure};
use super::headers::Headers;
use super::{MeasureRequest, Measured, MetricSource};
use crate::metrics::Metrics;

/// How long one query may take, including the wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a query of samples.
    pub samples: Duration,
    /// For a query of the history, which reads a window of days, once for each attempt.
    pub history: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            samples: Duration::from_secs(5),
            history: Duration::from_secs(10),
        }
    }
}

/// Reads measurements from Prometheuses. One serves all addresses.
pub struct Prometheus {
    asker: Asker,
    limits: TimeLimits,
}

impl Prometheus {
    /// A source without connections yet.
    /// `headers` are read when a Prometheus wants them.
    pub fn new(metrics: Metrics, limits: TimeLimits, http: Client, headers: Arc<Headers>) -> Self {
        Self {
            asker: Asker::new(metrics, http, headers),
            limits,
        }
    }

    async fn read(&self, request: &MeasureRequest) -> Measured {
        let columns = future::join_all(
            request
                .slos
                .iter()
                .map(|slo| reading::read(&self.asker, request, slo, self.limits.samples)),
        );
        let history = async {
            if !request.want_history {
                return Vec::new();
            }
            let limit = self.limits.history;
            future::join_all(
                request
                    .slos
                    .iter()
                    .map(|slo| history::read(&self.asker, request, slo, limit)),
            )
            .await
        };
        let conditions = conditions::read(&self.asker, request, self.limits.samples);
        let runtime = runtime::read(&self.asker, request, self.limits.samples);
        let connections = conditions::connections(&self.asker, request, self.limits.samples);
        let (columns, history, conditions, runtime, connections) =
            future::join5(columns, history, conditions, runtime, connections).await;
        let (conditions, refusals) = conditions;

        let (history, unusable): (Vec<_>, Vec<_>) = history.into_iter().unzip();
        let unread = columns.iter().filter_map(|column| column.failure.as_ref());
        let problems = problems_of(unread.chain(&refusals));
        let of_history = problems_of(unusable.iter().flatten());
        let blocks = request
            .edges
            .windows(2)
            .enumerate()
            .map(|(i, edge)| MeasuredBlock {
                start: edge[0],
                end: edge[1],
                slos: columns.iter().map(|column| column.counts[i]).collect(),
            })
            .collect();
        Measured {
            measurement: Measurement {
                blocks,
                history,
                conditions,
                runtime,
                connections,
            },
            problems,
            of_history,
        }
    }
}

/// What is wrong with the whole source is found by each objective, and told once.
fn problems_of<'a>(failures: impl Iterator<Item = &'a Failure>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for failure in failures {
        let problem = Problem {
            kind: ProblemKind::Metrics,
            reason: failure.reason.to_owned(),
            message: failure.message.clone(),
        };
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    problems
}

impl MetricSource for Prometheus {
    fn measure<'a>(&'a self, request: &'a MeasureRequest) -> BoxFuture<'a, Measured> {
        Box::pin(self.read(request))
    }
}

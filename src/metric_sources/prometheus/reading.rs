//! One objective, read for both revisions.

use std::borrow::Cow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use molt_core::analysis::{Counts, Falls, PodCounts, look_back};
use molt_core::guard::RouteCounts;
use molt_core::observed::BlockCounts;

use super::super::presets::{self, Timed};
use super::super::selector::{Picker, Selector};
use super::super::tasks::{self, Outcomes};
use super::super::{MeasureRequest, SliQuery, SloQuery};
use super::answer::{Answer, Labels, RawPoint, RawSeries};
use super::ask::{self, Asker, Failure, Target};
use super::native::{self, TooCoarse};
use super::promql::{self, Scope};
use super::series::{self, Arm, Frame, Role};
use crate::api::v1alpha1::Preset;

mod at_route;
mod routes;

/// Pods of a revision have been there for a while, but nothing was read from them lately.
const NOT_SCRAPED: &str = "PodsNotScraped";
/// The pods are read, but none has a series of the metric.
const SERIES_MISSING: &str = "SeriesMissing";
/// The histogram has no bucket that ends at the threshold.
const EDGE_MISSING: &str = "HistogramEdgeMissing";
/// Counters fall although nothing was restarted.
const UNUSABLE: &str = "MetricsUnusable";
/// Edges that a message lists at most.
const MAX_EDGES_SHOWN: usize = 20;

/// One objective's counts in each block.
pub async fn read(asker: &Asker, request: &MeasureRequest, slo: &SloQuery, limit: Duration) -> Column {
    read_as(asker, request, slo, limit, presets::is_failure).await
}

/// The same requests, of which those answered with 4xx are the bad ones. The objective's indicator is a preset of
/// availability.
pub async fn read_client_errors(
    asker: &Asker,
    request: &MeasureRequest,
    slo: &SloQuery,
    limit: Duration,
) -> (Column, Vec<Vec<RouteCounts>>) {
    let column = |failure| (Column::unknown(request, failure), Vec::new());
    let Some(reading) = Reading::of(asker, request, slo, limit, presets::is_client_error) else {
        return column(None);
    };
    match reading.answer().await {
        Ok(answer) => match reading.judged(&answer).await {
            Ok(column) => (column, reading.routes(&answer)),
            Err(failure) => column(Some(failure)),
        },
        Err(failure) => column(Some(failure)),
    }
}

/// Whether a series of a preset's requests counts bad ones, by its labels.
type IsBad = for<'a> fn(Preset, &dyn Fn(&str) -> Option<&'a str>) -> bool;

async fn read_as(
    asker: &Asker,
    request: &MeasureRequest,
    slo: &SloQuery,
    limit: Duration,
    is_bad: IsBad,
) -> Column {
    let Some(reading) = Reading::of(asker, request, slo, limit, is_bad) else {
        return Column::unknown(request, None);
    };
    let judged = match reading.answer().await {
        Ok(answer) => reading.judged(&answer).await,
        Err(failure) => Err(failure),
    };
    judged.unwrap_or_else(|failure| Column::unknown(request, Some(failure)))
}

/// How far before the first edge is read; and the age at which a pod should have been scraped.
pub fn lookback(request: &MeasureRequest) -> SignedDuration {
    look_back(request.source.interval)
}

/// What was read of one objective.
pub struct Column {
    /// For each block.
    pub counts: Vec<Option<BlockCounts>>,
    /// What stands in the way of the newest ones.
    pub failure: Option<Failure>,
    /// How often the counters of the pod fell that is why these can't be used, where that stands in the way.
    pub falls: usize,
}

impl Column {
    fn unknown(request: &MeasureRequest, failure: Option<Failure>) -> Self {
        Self {
            counts: vec![None; request.edges.len().saturating_sub(1)],
            failure,
            falls: 0,
        }
    }
}

/// The two revisions of a comparison; one that does not exist is `None`.
struct Arms {
    canary: Option<Arm>,
    stable: Option<Arm>,
}

/// The reading of one objective.
struct Reading<'a> {
    asker: &'a Asker,
    limit: Duration,
    request: &'a MeasureRequest,
    slo: &'a SloQuery,
    is_bad: IsBad,
    scope: Scope,
    /// The last edge.
    at: Timestamp,
    range: SignedDuration,
}

impl<'a> Reading<'a> {
    /// `None` where there is nothing to read.
    fn of(
        asker: &'a Asker,
        request: &'a MeasureRequest,
        slo: &'a SloQuery,
        limit: Duration,
        is_bad: IsBad,
    ) -> Option<Self> {
        let scope = match slo.sli.at_route() {
            Some(naming) => Scope::of_backends(request, naming),
            None => Scope::of_revisions(request, &slo.sli),
        }?;
        let [first, .., last] = request.edges.as_slice() else {
            return None;
        };
        Some(Self {
            asker,
            limit,
            request,
            slo,
            is_bad,
            scope,
            at: *last,
            range: last.duration_since(*first) + lookback(request),
        })
    }

    async fn judged(&self, answer: &[(Role, RawSeries)]) -> Result<Column, Failure> {
        let arms = self.arms(answer).await?;
        Ok(match self.slo.sli.at_route() {
            Some(naming) => self.column_at_route(naming, &arms),
            None => self.column(&arms),
        })
    }

    /// What is counted, with what shows that it is read.
    async fn answer(&self) -> Result<Vec<(Role, RawSeries)>, Failure> {
        Ok(match &self.slo.sli {
            SliQuery::Availability(preset) => {
                let selector = match self.slo.sli.at_route() {
                    Some(_) => promql::with_sent(*preset),
                    None => promql::with_scrapes(*preset),
                };
                tagged(self.samples(&selector).await?, |labels| {
                    if is_sent(*preset, labels) {
                        return Role::Sent;
                    }
                    let label = |label: &str| labels.get(label).map(String::as_str);
                    if (self.is_bad)(*preset, &label) {
                        Role::BadOfTotal
                    } else {
                        Role::Total
                    }
                })
            }
            SliQuery::Tasks(outcomes) => {
                let selector = promql::with_workers(*outcomes);
                tagged(self.samples(&selector).await?, |labels| {
                    let name = labels.get("__name__").map_or("", String::as_str);
                    shows_worker(*outcomes, labels).unwrap_or(if outcomes.bad.contains(&name) {
                        Role::BadOfTotal
                    } else {
                        Role::Total
                    })
                })
            }
            SliQuery::Counters { bad, total } => {
                let mut all = self.samples(&promql::counters_with_scrapes(bad, total)).await?;
                // The query has the names of both, and of their matchers what they have in common.
                let [bad, total] = [bad.picker(), total.picker()];
                let is =
                    |picker: &Picker, labels: &Labels| picker.picks(|l| labels.get(l).map(String::as_str));
                all.retain(|s| shows_scrape(&s.metric) || is(&bad, &s.metric) || is(&total, &s.metric));
                tagged(all, |labels| match (is(&bad, labels), is(&total, labels)) {
                    (true, true) => Role::BadOfTotal,
                    (true, false) => Role::Bad,
                    _ => Role::Total,
                })
            }
            SliQuery::Latency(timed, edge) => {
                let preset = timed.preset;
                let all = self.samples(&promql::count_and_bucket(*timed, *edge)).await?;
                let histogram = presets::durations(*timed).name;
                let all = native::to_counters(all, &histogram, presets::in_unit(*timed, *edge))
                    .map_err(|coarse| self.too_coarse(*timed, *edge, coarse))?;
                tagged(all, |labels| {
                    if let Some(role) = tasks::outcomes(preset).and_then(|o| shows_worker(o, labels)) {
                        role
                    } else if is_sent(preset, labels) {
                        Role::Sent
                    } else if labels.contains_key("le") {
                        Role::Within
                    } else {
                        Role::Total
                    }
                })
            }
        })
    }

    async fn arms(&self, answer: &[(Role, RawSeries)]) -> Result<Arms, Failure> {
        let request = self.request;
        let arms = match self.slo.sli.at_route() {
            Some(naming) => self.arms_at_route(naming, answer),
            None => self.arms_of_pods(answer),
        };
        let arms = arms.map_err(|what| ask::bad_answer(&request.source.address, &what))?;
        if let SliQuery::Latency(preset, edge) = &self.slo.sli
            && [&arms.canary, &arms.stable]
                .into_iter()
                .flatten()
                .any(Arm::lacks_bucket)
        {
            return Err(self.edge_missing(*preset, *edge).await?);
        }
        Ok(arms)
    }

    fn arms_of_pods(&self, answer: &[(Role, RawSeries)]) -> Result<Arms, String> {
        let request = self.request;
        let arm = |replica_set: &Option<String>| {
            replica_set
                .as_deref()
                .map(|replica_set| Arm::new(request, replica_set, self.slo.sli.worker_label(), answer))
                .transpose()
        };
        Ok(Arms {
            canary: arm(&request.canary)?,
            stable: arm(&request.stable)?,
        })
    }

    async fn samples(&self, selector: &Selector) -> Result<Vec<RawSeries>, Failure> {
        self.ask(&promql::samples(&self.scope.pin(selector), self.range))
            .await
    }

    async fn ask<T: Answer>(&self, query: &str) -> Result<T, Failure> {
        let answer = self
            .asker
            .ask(&Target::of(self.request), query, self.at, self.limit)
            .await;
        answer.map_err(|failure| match failure.reason {
            // The query is this objective's; everything else is the same for all of them.
            ask::REFUSED => Failure {
                message: self.of_slo(&failure.message),
                ..failure
            },
            _ => failure,
        })
    }

    fn column(&self, arms: &Arms) -> Column {
        let request = self.request;
        let named = [(&request.canary, &arms.canary), (&request.stable, &arms.stable)];
        let named = named.map(|(name, arm)| name.as_deref().zip(arm.as_ref()));
        let recently = self.at - lookback(request);
        let of_age = |name: &str| {
            request
                .births
                .iter()
                .any(|(pod, born)| *born <= recently && series::is_pod_of(name, pod))
        };

        let with_pods = || named.iter().flatten().filter(|(name, _)| self.has_pods(name));
        if !with_pods().any(|(_, arm)| arm.has_total())
            && with_pods().any(|(name, arm)| of_age(name) && arm.was_read(recently, self.at))
        {
            return Column::unknown(request, Some(self.series_missing()));
        }
        // Worse than what is not there is what can't be believed.
        let newest = request.edges.windows(2).last();
        let dirty = named.iter().flatten().find_map(|(_, arm)| {
            let edge = newest?;
            arm.spoilt(edge[0], edge[1])
        });
        let unread = with_pods().find(|(name, arm)| of_age(name) && !arm.was_read(recently, self.at));
        let frame = Frame {
            births: &request.births,
            seen_from: self.at - self.range,
        };
        let [canary, stable] = named;
        let counts = request
            .edges
            .windows(2)
            .map(|edge| {
                let counts = |arm| self.counts(&frame, arm, edge[0], edge[1]);
                let by_pod = |arm: Option<(&str, &Arm)>| {
                    arm.map_or_else(PodCounts::default, |(_, arm)| {
                        self.warm(arm, edge[0]).by_pod(&frame, edge[0], edge[1])
                    })
                };
                let known_to = stable.and_then(|(_, arm)| arm.known_to(edge[0], edge[1]));
                let late = canary
                    .zip(known_to)
                    .and_then(|((_, arm), known_to)| arm.counts(&frame, known_to, edge[1]));
                Some(BlockCounts {
                    canary: counts(canary)?,
                    canary_late: late.unwrap_or_default(),
                    stable: counts(stable)?,
                    canary_pods: by_pod(canary),
                    stable_pods: by_pod(stable),
                    at_route: None,
                })
            })
            .collect();
        Column {
            counts,
            failure: dirty
                .map(|falls| self.unusable(falls))
                .or_else(|| unread.map(|(name, _)| self.not_scraped(name))),
            falls: dirty.map_or(0, Falls::count),
        }
    }

    fn counts(
        &self,
        frame: &Frame<'_>,
        arm: Option<(&str, &Arm)>,
        start: Timestamp,
        end: Timestamp,
    ) -> Option<Counts> {
        // A revision that does not exist, or has no pods, serves nothing.
        let Some((name, arm)) = arm else {
            return Some(Counts::default());
        };
        if arm.spoilt(start, end).is_some() {
            return None;
        }
        self.warm(arm, start)
            .counts(frame, start, end)
            .or_else(|| (!self.has_pods(name)).then(Counts::default))
    }

    /// The arm without the pods whose latencies say nothing yet. One whose every pod is cold is taken as it is: that it
    /// were silent would be worse.
    fn warm<'m>(&self, arm: &'m Arm, start: Timestamp) -> Cow<'m, Arm> {
        let warm_at = &self.request.warm_at;
        let is_cold = |pod: &&str| warm_at.get(*pod).is_some_and(|at| *at > start);
        let cold: Vec<&str> = arm.pods().filter(is_cold).collect();
        let judged = matches!(self.slo.sli, SliQuery::Latency(..));
        if !judged || cold.is_empty() || cold.len() == arm.pods().count() {
            return Cow::Borrowed(arm);
        }
        Cow::Owned(arm.without(&cold))
    }

    fn has_pods(&self, replica_set: &str) -> bool {
        self.request
            .births
            .keys()
            .any(|pod| series::is_pod_of(replica_set, pod))
    }

    fn of_slo(&self, message: &str) -> String {
        format!("SLO {:?}: {message}", self.slo.name)
    }

    fn unusable(&self, falls: &Falls) -> Failure {
        let seen = match falls.count() {
            _ if falls.are_several() => "are of several processes, by process_start_time_seconds".to_owned(),
            n => {
                let times = if n == 1 {
                    "once".to_owned()
                } else {
                    format!("{n} times")
                };
                let range = self.range.as_secs();
                format!("fell {times} in the last {range} s although nothing was restarted")
            }
        };
        Failure {
            reason: UNUSABLE,
            message: self.of_slo(&format!(
                "the counters of pod {} {seen}, so they count neither for nor against a revision: several worker processes answer scrapes in turn, each with counters of its own. Set PROMETHEUS_MULTIPROC_DIR and collect by prometheus_client's multiprocess mode, or run one worker in each pod",
                falls.pod
            )),
        }
    }

    fn not_scraped(&self, replica_set: &str) -> Failure {
        let source = &self.request.source;
        if let Some(worker) = self.slo.sli.worker_label() {
            return Failure {
                reason: NOT_SCRAPED,
                message: self.of_slo(&format!(
                    "Prometheus at {} has read nothing lately of workers in pods of ReplicaSet {replica_set}, by the labels {}={:?} and {worker}, which names the pod: check that the exporter runs in this namespace and is scraped, that the workers send it their events (celery worker -E), and that their names contain their pods' (RQ: --name $(POD_NAME))",
                    ask::without_credentials(&source.address),
                    source.namespace_label,
                    self.request.namespace,
                )),
            };
        }
        Failure {
            reason: NOT_SCRAPED,
            message: format!(
                "Prometheus at {} has read nothing lately from the pods of ReplicaSet {replica_set}, by the labels {}={:?} and {}: check that it scrapes them (ServiceMonitor, PodMonitor, scrape configuration), that the scrapes succeed, and spec.metrics.prometheus.podLabel, namespaceLabel and matchers",
                ask::without_credentials(&source.address),
                source.namespace_label,
                self.request.namespace,
                source.pod_label
            ),
        }
    }

    fn series_missing(&self) -> Failure {
        let (metric, advice) = match &self.slo.sli {
            SliQuery::Availability(preset) => (
                presets::requests(*preset).name,
                "choose the preset that the application is instrumented with",
            ),
            SliQuery::Tasks(outcomes) => (
                outcomes.good.join(" or "),
                "choose the preset of the exporter that there is",
            ),
            SliQuery::Latency(preset, _) => (
                promql::count(&presets::durations(*preset)).name,
                "choose the preset that the application is instrumented with, and have it export classic histograms",
            ),
            SliQuery::Counters { total, .. } => (total.to_string(), "correct sli.counters.total"),
        };
        Failure {
            reason: SERIES_MISSING,
            message: self.of_slo(&format!(
                "the pods are scraped, but none has a series of {metric} (probes aside): if requests reach them, {advice}; otherwise send a first request"
            )),
        }
    }

    fn too_coarse(&self, preset: Timed, edge: SignedDuration, coarse: TooCoarse) -> Failure {
        let nearest = presets::edge_name(preset, &coarse.edge.to_string());
        let nearest = nearest.map_or_else(
            || "none of its edges is near below it".to_owned(),
            |(_, name)| format!("the nearest edge below it is {name}"),
        );
        Failure {
            reason: EDGE_MISSING,
            message: self.of_slo(&format!(
                "the native histogram {} has a bucket across the threshold {}ms, and {nearest}: set sli.threshold to an edge (every power of two is one, such as 250ms, 500ms and 1s), or let the buckets grow by less than a fifth",
                presets::durations(preset).name,
                edge.as_millis()
            )),
        }
    }

    async fn edge_missing(&self, preset: Timed, edge: SignedDuration) -> Result<Failure, Failure> {
        let histogram = presets::durations(preset);
        let buckets: Vec<RawPoint> = self.ask(&promql::edges(&self.scope, &histogram)).await?;
        let mut edges: Vec<_> = buckets
            .iter()
            .filter_map(|b| presets::edge_name(preset, b.metric.get("le")?))
            .collect();
        edges.sort();
        edges.dedup();
        let shown: Vec<&str> = edges
            .iter()
            .map(|(_, name)| name.as_str())
            .take(MAX_EDGES_SHOWN)
            .collect();
        let threshold = format!("{}ms", edge.as_millis());
        let advice = if edges.iter().any(|(known, _)| *known == edge) {
            "but not in both revisions: give both the same edges".to_owned()
        } else if shown.is_empty() {
            "nor any other: have the application export classic histogram buckets".to_owned()
        } else {
            let more = if edges.len() > shown.len() { ", …" } else { "" };
            format!(
                "set sli.threshold to one of its edges, {}{more}, or add this one to the application's buckets",
                shown.join(", ")
            )
        };
        Ok(Failure {
            reason: EDGE_MISSING,
            message: self.of_slo(&format!(
                "the histogram {} has no bucket at the threshold {threshold}; {advice}",
                histogram.name
            )),
        })
    }
}

/// A series that shows that a worker is known to the exporter.
fn shows_worker(outcomes: Outcomes, labels: &Labels) -> Option<Role> {
    let name = labels.get("__name__")?;
    let role = if outcomes.alive_varies {
        Role::Target
    } else {
        Role::Up
    };
    (outcomes.alive == Some(name.as_str())).then_some(role)
}

/// Whether a series counts what proxies of the route sent.
fn is_sent(preset: Preset, labels: &Labels) -> bool {
    presets::sent(preset).is_some_and(|name| labels.get("__name__").is_some_and(|is| is == name))
}

/// What a series says of the reading itself, whatever is counted.
fn of_scrapes(labels: &Labels) -> Option<Role> {
    match labels.get("__name__").map(String::as_str) {
        Some(promql::UP) => Some(Role::Up),
        Some(promql::TARGET) => Some(Role::Target),
        Some(promql::START) => Some(Role::Start),
        _ => None,
    }
}

fn shows_scrape(labels: &Labels) -> bool {
    of_scrapes(labels).is_some()
}

fn tagged(answer: Vec<RawSeries>, role: impl Fn(&Labels) -> Role) -> Vec<(Role, RawSeries)> {
    answer
        .into_iter()
        .map(|series| {
            let role = of_scrapes(&series.metric).unwrap_or_else(|| role(&series.metric));
            (role, series)
        })
        .collect()
}

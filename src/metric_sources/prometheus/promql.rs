//! Queries as text.

use jiff::SignedDuration;

use super::super::presets;
use super::super::selector::{MatchOp, Matcher, Selector};
use super::super::{MeasureRequest, PrometheusSource, SliQuery};
use crate::api::v1alpha1::Preset;

/// The last part of a pod's name, which its ReplicaSet adds.
const POD_SUFFIX: &str = "-[a-z0-9]+";
/// A revision and the last part of a pod's name.
const REVISION_AND_POD: &str = "-[0-9a-f]{10}-[a-z0-9]+";

/// The labels that every series of a request must have.
pub struct Scope {
    matchers: Vec<Matcher>,
}

impl Scope {
    /// The pods of the revisions under comparison; `None` when there is no revision.
    pub fn of_revisions(request: &MeasureRequest) -> Option<Self> {
        let sets: Vec<String> = [&request.canary, &request.stable]
            .into_iter()
            .flatten()
            .map(|rs| escape_regex(rs))
            .collect();
        let pods = format!("({}){POD_SUFFIX}", sets.join("|"));
        (!sets.is_empty()).then(|| Self::new(&request.source, &request.namespace, &pods))
    }

    /// The pods of the revision under test; `None` when there is none.
    pub fn of_canary(request: &MeasureRequest) -> Option<Self> {
        let canary = escape_regex(request.canary.as_deref()?);
        Some(Self::new(
            &request.source,
            &request.namespace,
            &format!("{canary}{POD_SUFFIX}"),
        ))
    }

    /// The matchers as they stand between braces.
    pub fn matchers(&self) -> String {
        let all: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
        all.join(",")
    }

    /// The pods of all revisions of the service.
    pub fn of_service(source: &PrometheusSource, namespace: &str, service: &str) -> Self {
        Self::new(
            source,
            namespace,
            &format!("{}{REVISION_AND_POD}", escape_regex(service)),
        )
    }

    fn new(source: &PrometheusSource, namespace: &str, pods: &str) -> Self {
        let mut matchers = vec![
            Matcher::new(&source.namespace_label, MatchOp::Equal, namespace),
            Matcher::new(&source.pod_label, MatchOp::Regex, pods),
        ];
        matchers.extend(
            source
                .matchers
                .iter()
                .map(|(label, value)| Matcher::new(label, MatchOp::Equal, value)),
        );
        Self { matchers }
    }

    /// The selector, within this scope.
    pub fn pin(&self, selector: &Selector) -> Selector {
        Selector {
            name: selector.name.clone(),
            matchers: self.matchers.iter().chain(&selector.matchers).cloned().collect(),
        }
    }
}

/// What tells of a pod that it is read, whatever it counts: `up` of scrapes, `target_info` of OpenTelemetry.
pub const UP: &str = "up";
/// See [`UP`].
pub const TARGET: &str = "target_info";
/// When the process that answers a scrape began, as clients for Python tell it outside of multiprocess mode.
pub const START: &str = "process_start_time_seconds";

/// The series that tell whether pods are read.
pub fn scrapes() -> Selector {
    named_as(&[UP, TARGET, START])
}

/// A preset's counter, together with [`scrapes`], which none of its matchers leaves out.
pub fn with_scrapes(counter: &Selector) -> Selector {
    let mut selector = named_as(&[&counter.name, UP, TARGET, START]);
    selector.matchers.extend(counter.matchers.iter().cloned());
    selector
}

/// A histogram's count and its bucket at an edge, as two series with the same labels but `le`, or the one series
/// that a native histogram is; together with [`scrapes`]. All but the bucket have no `le`, which matches the empty
/// alternative.
pub fn count_and_bucket(preset: Preset, edge: SignedDuration) -> Selector {
    let histogram = &presets::durations(preset);
    let [count, bucket] = [count(histogram), buckets(histogram)];
    let mut selector =
        named_as(&[&count.name, &bucket.name, &histogram.name, UP, TARGET, START]).with(Matcher::new(
            "le",
            MatchOp::Regex,
            format!("({})?", presets::edge_pattern(preset, edge)),
        ));
    selector.matchers.extend(histogram.matchers.iter().cloned());
    selector
}

fn named_as(names: &[&str]) -> Selector {
    Selector::named("").with(Matcher::new("__name__", MatchOp::Regex, names.join("|")))
}

/// A histogram's count.
pub fn count(histogram: &Selector) -> Selector {
    Selector {
        name: format!("{}_count", histogram.name),
        matchers: histogram.matchers.clone(),
    }
}

/// All of a histogram's buckets.
pub fn buckets(histogram: &Selector) -> Selector {
    Selector {
        name: format!("{}_bucket", histogram.name),
        matchers: histogram.matchers.clone(),
    }
}

/// A histogram's bucket at an edge.
fn bucket(preset: Preset, edge: SignedDuration) -> Selector {
    buckets(&presets::durations(preset)).with(Matcher::new(
        "le",
        MatchOp::Regex,
        presets::edge_pattern(preset, edge),
    ))
}

/// The raw samples of the last so many seconds.
pub fn samples(selector: &Selector, range: SignedDuration) -> String {
    format!("{selector}[{}s]", range.as_secs())
}

/// The edges that a histogram has.
pub fn edges(scope: &Scope, histogram: &Selector) -> String {
    format!("count by (le) ({})", scope.pin(&buckets(histogram)))
}

/// A pod that is read by way of two Services, or by two scrapers, counts once. These are the labels that
/// differ then; sums can't look as closely as the reading of samples does.
fn once_each(series: &str) -> String {
    format!("max without ({READ_TWICE}) ({series})")
}

/// Labels that differ when a pod is read twice.
const READ_TWICE: &str = "job,service,prometheus,prometheus_replica";

fn once(series: &str) -> String {
    format!("sum({})", once_each(series))
}

/// The counter of all events.
fn total(sli: &SliQuery) -> Selector {
    match sli {
        SliQuery::Availability(preset) => presets::requests(*preset),
        SliQuery::Latency(preset, _) => count(&presets::durations(*preset)),
        SliQuery::Counters { total, .. } => total.clone(),
    }
}

/// Bad events, of what `sum` makes of a counter.
fn bad(sli: &SliQuery, sum: impl Fn(&Selector) -> String) -> String {
    match sli {
        SliQuery::Availability(preset) => sum(&presets::failed_requests(*preset)),
        SliQuery::Latency(preset, edge) => {
            let histogram = presets::durations(*preset);
            format!("{} - {}", sum(&count(&histogram)), sum(&bucket(*preset, *edge)))
        }
        SliQuery::Counters { bad, .. } => sum(bad),
    }
}

/// Mean requests per second of the last day, and of how many points it is the mean: two series that differ
/// in their label `what`.
pub fn request_rate(scope: &Scope, sli: &SliQuery, interval: SignedDuration) -> String {
    // `rate` needs at least two samples, also when one is late.
    let window = (interval.as_secs() * 4).max(120);
    let mut rate = once(&format!("rate({}[{window}s])", scope.pin(&total(sli))));
    if let SliQuery::Latency(preset, _) = sli {
        let native = native(scope, *preset, "rate", window);
        rate = format!("{rate} or histogram_count({native})");
    }
    let points = format!("({rate})[1d:2m]");
    format!(
        "label_replace(avg_over_time({points}),\"what\",\"rate\",\"\",\"\") \
         or label_replace(count_over_time({points}),\"what\",\"points\",\"\",\"\")"
    )
}

/// Bad events of the window; nothing when there is no series of any.
pub fn bad_events(scope: &Scope, sli: &SliQuery, window: SignedDuration) -> String {
    let bad = bad(sli, |selector| {
        once(&format!(
            "increase({}[{}s])",
            scope.pin(selector),
            window.as_secs()
        ))
    });
    let SliQuery::Latency(preset, edge) = sli else {
        return bad;
    };
    let native = native(scope, *preset, "increase", window.as_secs());
    let edge = presets::in_unit(*preset, *edge);
    // Interpolated, unlike evidence: a budget is an estimate anyway.
    format!("{bad} or histogram_count({native}) * (1 - histogram_fraction(0, {edge}, {native}))")
}

/// Native histograms as one, of what a function makes of each. Of a pod that is read twice it takes the mean,
/// for there is no greatest histogram.
fn native(scope: &Scope, preset: Preset, function: &str, seconds: i64) -> String {
    let selector = scope.pin(&presets::durations(preset));
    format!("sum(avg without ({READ_TWICE}) ({function}({selector}[{seconds}s])))")
}

/// Events per second of a service, for rules that record them.
pub struct Rates<'a> {
    scope: Scope,
    sli: &'a SliQuery,
    over: SignedDuration,
    /// The labels of a pod's name and of a revision within it; `None` for all revisions together.
    revision: Option<(String, String)>,
}

impl<'a> Rates<'a> {
    /// Of all revisions together, over a time.
    pub fn of_service(
        source: &PrometheusSource,
        namespace: &str,
        service: &str,
        sli: &'a SliQuery,
        over: SignedDuration,
    ) -> Self {
        Self {
            scope: Scope::of_service(source, namespace, service),
            sli,
            over,
            revision: None,
        }
    }

    /// Of each revision, which the label `revision` names. A pod's name tells it: its ReplicaSet is
    /// `<service>-<revision>`.
    #[must_use]
    pub fn by_revision(self, source: &PrometheusSource, service: &str) -> Self {
        let pattern = format!("{}-([0-9a-f]{{10}}){POD_SUFFIX}", escape_regex(service));
        Self {
            revision: Some((source.pod_label.clone(), pattern)),
            ..self
        }
    }

    /// All events.
    pub fn events(&self) -> String {
        self.sum(&total(self.sli))
    }

    /// Bad ones: 0 where there are events, which were recorded as `events`, and no series of bad ones; but
    /// nothing for a histogram that lacks the edge.
    pub fn bad(&self, events: &str) -> String {
        let bad = bad(self.sli, |selector| self.sum(selector));
        match self.sli {
            // What is left of a difference of equal floats may be below zero.
            SliQuery::Latency(..) => format!("clamp_min({bad}, 0)"),
            SliQuery::Availability(_) | SliQuery::Counters { .. } => {
                format!("{bad} or {} * 0", self.recorded(events))
            }
        }
    }

    /// A recorded series with no other labels than the sums have.
    pub fn recorded(&self, series: &str) -> String {
        match self.revision {
            Some(_) => format!("sum by (revision) ({series})"),
            None => format!("sum({series})"),
        }
    }

    fn sum(&self, selector: &Selector) -> String {
        let rate = format!("rate({}[{}s])", self.scope.pin(selector), self.over.as_secs());
        match &self.revision {
            Some((pod, pattern)) => format!(
                "sum by (revision) (label_replace({},\"revision\",\"$1\",\"{pod}\",\"{pattern}\"))",
                once_each(&rate)
            ),
            None => once(&rate),
        }
    }
}

/// Names of ReplicaSets may have dots, which a pattern would take for any character.
fn escape_regex(text: &str) -> String {
    text.replace('.', "[.]")
}

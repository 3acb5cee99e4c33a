//! Queries as text.

use jiff::SignedDuration;

use super::super::at_route::Naming;
use super::super::presets::{self, Timed, escape_regex};
use super::super::selector::{MatchOp, Matcher, Selector, Sum};
use super::super::tasks::{self, Outcomes};
use super::super::{MeasureRequest, PrometheusSource, SliQuery};
use crate::api::v1alpha1::Preset;
use crate::rules::Subject;

/// The last part of a pod's name, which its ReplicaSet adds.
const POD_SUFFIX: &str = "-[a-z0-9]+";
/// A revision and the last part of a pod's name.
const REVISION_AND_POD: &str = "-[0-9a-f]{10}-[a-z0-9]+";

/// The labels that every series of a request must have.
pub struct Scope {
    matchers: Vec<Matcher>,
}

impl Scope {
    /// The pods of the revisions under comparison, as an indicator's series name them; `None` when there is no revision.
    pub fn of_revisions(request: &MeasureRequest, sli: &SliQuery) -> Option<Self> {
        let pods = compared(request)?;
        Some(Self::of_pods(&request.source, &request.namespace, sli, &pods))
    }

    /// The pods of the revisions under comparison by their own label, whatever counts their work; `None` when there is no
    /// revision.
    pub fn of_runtimes(request: &MeasureRequest) -> Option<Self> {
        let pods = compared(request)?;
        Some(Self::new(&request.source, &request.namespace, &pods))
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

    /// The backends of the revisions under comparison; `None` when the route names neither.
    pub fn of_backends(request: &MeasureRequest, naming: Naming) -> Option<Self> {
        let backends = &request.backends;
        let named = !backends.canary.is_empty() || !backends.stable.is_empty();
        named.then(|| Self::of(&request.source, naming.matchers(&request.namespace, backends)))
    }

    /// All revisions of the service, as an indicator's series name them: by their pods, or by the backends of
    /// its route.
    pub fn of_sli(
        source: &PrometheusSource,
        namespace: &str,
        service: &str,
        route: &str,
        sli: &SliQuery,
    ) -> Self {
        if let Some(naming) = sli.at_route() {
            return Self::of(source, naming.of_service(namespace, service, route).0);
        }
        let pods = format!("{}{REVISION_AND_POD}", escape_regex(service));
        Self::of_pods(source, namespace, sli, &pods)
    }

    /// The matchers as they stand between braces.
    pub fn matchers(&self) -> String {
        let all: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
        all.join(",")
    }

    /// These pods, by their own label or by the names of the workers in them.
    fn of_pods(source: &PrometheusSource, namespace: &str, sli: &SliQuery, pods: &str) -> Self {
        let Some(worker) = sli.worker_label() else {
            return Self::new(source, namespace, pods);
        };
        Self::of(
            source,
            vec![
                Matcher::new(&source.namespace_label, MatchOp::Equal, namespace),
                Matcher::new(worker, MatchOp::Regex, tasks::worker_pattern(pods)),
            ],
        )
    }

    fn new(source: &PrometheusSource, namespace: &str, pods: &str) -> Self {
        let pods = vec![
            Matcher::new(&source.namespace_label, MatchOp::Equal, namespace),
            Matcher::new(&source.pod_label, MatchOp::Regex, pods),
        ];
        Self::of(source, pods)
    }

    fn of(source: &PrometheusSource, mut matchers: Vec<Matcher>) -> Self {
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

/// The names of the pods of the revisions under comparison, as a pattern.
fn compared(request: &MeasureRequest) -> Option<String> {
    let sets = [&request.canary, &request.stable].into_iter().flatten();
    let sets: Vec<String> = sets.map(|rs| escape_regex(rs)).collect();
    (!sets.is_empty()).then(|| format!("({}){POD_SUFFIX}", sets.join("|")))
}

/// What tells of a pod that it is read, whatever it counts: `up` of scrapes, `target_info` of OpenTelemetry.
pub const UP: &str = "up";
/// See [`UP`].
pub const TARGET: &str = "target_info";
/// When the process that answers a scrape began, as clients for Python tell it outside of multiprocess mode.
pub const START: &str = "process_start_time_seconds";

/// Own counters, together with the series that tell whether pods are read. Their matchers are no part of it: labels that
/// are rewritten as they are scraped are not on what shows that pods are read. The reader leaves out what is too much.
pub fn counters_with_scrapes(bad: &Sum, total: &Sum) -> Selector {
    let terms = bad.terms().iter().chain(total.terms());
    let mut names: Vec<&str> = terms.map(|term| term.name.as_str()).collect();
    names.extend([UP, TARGET, START]);
    names.sort_unstable();
    names.dedup();
    presets::named_as(&names)
}

/// What is counted of tasks, together with what shows that their workers are known.
pub fn with_workers(outcomes: Outcomes) -> Selector {
    let counters = outcomes.good.iter().chain(outcomes.bad);
    let names: Vec<&str> = counters.copied().chain(shown_by(Some(outcomes))).collect();
    presets::named_as(&names)
}

/// A preset's counter, together with what tells whether pods are read, which none of its matchers leaves out.
pub fn with_scrapes(preset: Preset) -> Selector {
    let counter = presets::requests(preset);
    let mut selector = presets::named_as(&[&counter.name, UP, TARGET, START]);
    selector.matchers.extend(counter.matchers.iter().cloned());
    selector
}

/// What shows that the pods, or the workers in them, are read.
fn shown_by(tasks: Option<Outcomes>) -> Vec<&'static str> {
    match tasks {
        Some(outcomes) if outcomes.worker.is_some() => outcomes.alive.into_iter().collect(),
        _ => vec![UP, TARGET, START],
    }
}

/// A counter of proxies of the route, together with what they sent.
pub fn with_sent(preset: Preset) -> Selector {
    let requests = presets::requests(preset);
    let names: Vec<&str> = std::iter::once(requests.name.as_str())
        .chain(presets::sent(preset))
        .collect();
    let mut selector = presets::named_as(&names);
    selector.matchers.extend(requests.matchers.iter().cloned());
    selector
}

/// A histogram's count and its bucket at an edge, as two series with the same labels but `le`, or the one
/// series that a native histogram is; together with
/// what tells that pods are read or, at the route, with what was sent. These and the count have no `le`, which matches the empty
/// alternative.
pub fn count_and_bucket(timed: Timed, edge: SignedDuration) -> Selector {
    let preset = timed.preset;
    let histogram = &presets::durations(timed);
    let [count, bucket] = [count(histogram), buckets(histogram)];
    let mut names = vec![count.name.as_str(), &bucket.name, &histogram.name];
    match Naming::of(preset) {
        Some(_) => names.extend(presets::sent(preset)),
        None => names.extend(shown_by(tasks::outcomes(preset))),
    }
    let mut selector = presets::named_as(&names).with(Matcher::new(
        "le",
        MatchOp::Regex,
        format!("({})?", presets::edge_pattern(preset, edge)),
    ));
    selector.matchers.extend(histogram.matchers.iter().cloned());
    selector
}

/// Series of any of these names.
pub fn any_of(names: &[String]) -> Selector {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    presets::named_as(&names)
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
fn bucket(timed: Timed, edge: SignedDuration) -> Selector {
    buckets(&presets::durations(timed)).with(Matcher::new(
        "le",
        MatchOp::Regex,
        presets::edge_pattern(timed, edge),
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

/// All events, of what `sum` makes of a counter.
fn total(sli: &SliQuery, sum: impl Fn(&Selector) -> String) -> String {
    match sli {
        SliQuery::Availability(preset) => sum(&presets::requests(*preset)),
        SliQuery::Tasks(outcomes) => all_of(&named(&[outcomes.good, outcomes.bad].concat()), sum),
        SliQuery::Latency(timed, _) => sum(&count(&presets::durations(*timed))),
        SliQuery::Counters { total, .. } => all_of(total.terms(), sum),
    }
}

/// The sum of several counters, of which some may not be there. A metric for each: as one selector they would lose
/// the name that tells them apart, and `a + b` is nothing where one of them is.
fn all_of(counters: &[Selector], sum: impl Fn(&Selector) -> String) -> String {
    if let [one] = counters {
        return sum(one);
    }
    let numbered = counters.iter().enumerate();
    let sums: Vec<String> = numbered
        .map(|(i, counter)| format!("label_replace({},\"counter\",\"{i}\",\"\",\"\")", sum(counter)))
        .collect();
    format!("sum without (counter) ({})", sums.join(" or "))
}

fn named(metrics: &[&str]) -> Vec<Selector> {
    metrics.iter().map(|metric| Selector::named(*metric)).collect()
}

/// Bad events, of what `sum` makes of a counter.
fn bad(sli: &SliQuery, sum: impl Fn(&Selector) -> String) -> String {
    match sli {
        SliQuery::Availability(preset) => sum(&presets::failed_requests(*preset)),
        SliQuery::Tasks(outcomes) => all_of(&named(outcomes.bad), sum),
        SliQuery::Latency(preset, edge) => {
            let histogram = presets::durations(*preset);
            format!("{} - {}", sum(&count(&histogram)), sum(&bucket(*preset, *edge)))
        }
        SliQuery::Counters { bad, .. } => all_of(bad.terms(), sum),
    }
}

/// Mean requests per second of the last day, and of how many points it is the mean: two series that differ
/// in their label `what`.
pub fn request_rate(scope: &Scope, sli: &SliQuery, interval: SignedDuration) -> String {
    // `rate` needs at least two samples, also when one is late.
    let window = (interval.as_secs() * 4).max(120);
    let mut rate = total(sli, |counter| {
        once(&format!("rate({}[{window}s])", scope.pin(counter)))
    });
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
fn native(scope: &Scope, timed: Timed, function: &str, seconds: i64) -> String {
    let selector = scope.pin(&presets::durations(timed));
    format!("sum(avg without ({READ_TWICE}) ({function}({selector}[{seconds}s])))")
}

/// Events per second of a service, for rules that record them.
pub struct Rates<'a> {
    scope: Scope,
    sli: &'a SliQuery,
    over: SignedDuration,
    /// The label that names a pod or a backend, and the revision within it; `None` for all revisions together.
    revision: Option<(String, String)>,
}

impl<'a> Rates<'a> {
    /// Of all revisions together, over a time.
    pub fn of_service(subject: Subject<'_>, sli: &'a SliQuery, over: SignedDuration) -> Self {
        Self {
            scope: Scope::of_sli(
                subject.source,
                subject.namespace,
                subject.service,
                subject.route,
                sli,
            ),
            sli,
            over,
            revision: None,
        }
    }

    /// Of each revision, which the label `revision` names; `None` where no label tells it. A pod's name does:
    /// its ReplicaSet is `<service>-<revision>`.
    pub fn by_revision(subject: Subject<'_>, sli: &'a SliQuery, over: SignedDuration) -> Option<Self> {
        let Subject {
            namespace,
            service,
            route,
            source,
            ..
        } = subject;
        let pods = || format!("{}-([0-9a-f]{{10}}){POD_SUFFIX}", escape_regex(service));
        let revision = match (sli.at_route(), sli.worker_label()) {
            (Some(naming), _) => (
                naming.label().to_owned(),
                naming.of_service(namespace, service, route).1?,
            ),
            (None, Some(worker)) => (worker.to_owned(), tasks::worker_pattern(&pods())),
            (None, None) => (source.pod_label.clone(), pods()),
        };
        Some(Self {
            revision: Some(revision),
            ..Self::of_service(subject, sli, over)
        })
    }

    /// All events.
    pub fn events(&self) -> String {
        total(self.sli, |counter| self.sum(counter))
    }

    /// Bad ones: 0 where there are events, which were recorded as `events`, and no series of bad ones; but
    /// nothing for a histogram that lacks the edge.
    pub fn bad(&self, events: &str) -> String {
        let bad = bad(self.sli, |selector| self.sum(selector));
        match self.sli {
            // What is left of a difference of equal floats may be below zero.
            SliQuery::Latency(..) => format!("clamp_min({bad}, 0)"),
            SliQuery::Availability(_) | SliQuery::Tasks(_) | SliQuery::Counters { .. } => {
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

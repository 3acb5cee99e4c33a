//! What only some applications export: the collector's time, pools, workers that were ended, exceptions by type.

use std::collections::BTreeMap;

use jiff::Timestamp;
use molt_core::guard::{GuardKind, Raised};

use super::super::super::{GuardQuery, PoolLimit};
use super::super::series::is_pod_of;
use super::{Line, Runtime};

/// What gunicorn's statsd metrics have from the start on: where it is, a counter that is not there yet is 0.
const GUNICORN: &str = "gunicorn_workers";

/// The names of the series that a guard asks for.
pub(super) fn names(query: &GuardQuery) -> Vec<String> {
    match query {
        GuardQuery::GcPauses { metric } => spellings(metric, &["_sum", "_total"]),
        GuardQuery::WorkerTimeouts { metric } => {
            let mut names = spellings(metric, &["_total"]);
            names.push(GUNICORN.to_owned());
            names
        }
        GuardQuery::Saturation { metric, limit } => match limit {
            PoolLimit::Metric(limit) => vec![metric.clone(), limit.clone()],
            PoolLimit::Number(_) => vec![metric.clone()],
        },
        GuardQuery::Exceptions { counters } => counters.iter().map(|(metric, _)| metric.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The label with the type of the exceptions that a series counts, if it does.
pub(super) fn label_of_type<'a>(guards: &'a [GuardQuery], name: &str) -> Option<&'a str> {
    guards.iter().find_map(|query| match query {
        GuardQuery::Exceptions { counters } => counters
            .iter()
            .find(|(metric, _)| metric == name)
            .map(|(_, label)| label.as_str()),
        _ => None,
    })
}

fn spellings(metric: &str, suffixes: &[&str]) -> Vec<String> {
    let with = |suffix: &&str| format!("{metric}{suffix}");
    std::iter::once(metric.to_owned())
        .chain(suffixes.iter().map(with))
        .collect()
}

impl Runtime<'_> {
    /// Seconds that the collector took.
    pub(super) fn gc(&self, pod: &str, start: Timestamp, end: Timestamp) -> Option<f64> {
        let query = self.query(|query| matches!(query, GuardQuery::GcPauses { .. }))?;
        self.counter(pod, &names(query), start, end)
    }

    /// Workers that the server ended.
    pub(super) fn timeouts(&self, pod: &str, start: Timestamp, end: Timestamp) -> Option<f64> {
        let query = self.query(|query| matches!(query, GuardQuery::WorkerTimeouts { .. }))?;
        let counters = names(query).into_iter().filter(|name| name != GUNICORN);
        let counted = self.counter(pod, &counters.collect::<Vec<_>>(), start, end);
        counted.or_else(|| {
            let is_read = |at: Timestamp| at > start && at <= end;
            let mut workers = self.of(pod, GUNICORN);
            let tells = workers.any(|line| line.samples.iter().any(|s| is_read(s.at)));
            tells.then_some(0.0)
        })
    }

    /// What part of the pool was busy at each scrape of the block. Of several pools, or of several readers, the busiest counts.
    pub(super) fn busy(&self, pod: &str, start: Timestamp, end: Timestamp) -> Vec<f64> {
        let query = self.query(|query| matches!(query, GuardQuery::Saturation { .. }));
        let Some(GuardQuery::Saturation { metric, limit }) = query else {
            return Vec::new();
        };
        let limit = match limit {
            PoolLimit::Number(number) => Some(*number),
            PoolLimit::Metric(name) => {
                let last = |line: &Line| {
                    let known = line.samples.iter().filter(|s| s.at <= end).max_by_key(|s| s.at);
                    known.map(|s| s.value).filter(|v| v.is_finite() && *v > 0.0)
                };
                self.of(pod, name).filter_map(last).max_by(f64::total_cmp)
            }
        };
        let Some(limit) = limit else { return Vec::new() };
        let shares = self.of(pod, metric).map(|line| {
            let samples = line.samples.iter().filter(|s| s.at > start && s.at <= end);
            let shares = samples.map(|s| s.value / limit).filter(|share| share.is_finite());
            shares.collect::<Vec<f64>>()
        });
        let sum = |shares: &Vec<f64>| shares.iter().sum::<f64>();
        shares
            .max_by(|a, b| sum(a).total_cmp(&sum(b)))
            .unwrap_or_default()
    }

    /// Exceptions by type, of all pods of a revision together.
    pub(super) fn exceptions(&self, start: Timestamp, end: Timestamp) -> Vec<Raised> {
        let mut raised: BTreeMap<&str, Raised> = BTreeMap::new();
        let is_of = |set: &Option<String>, pod: &str| set.as_ref().is_some_and(|set| is_pod_of(set, pod));
        for line in &self.lines {
            let Some(kind) = line.kind.as_deref().filter(|kind| !kind.is_empty()) else {
                continue;
            };
            let grown = self.grown(line, start, end).unwrap_or(0.0);
            let one = raised.entry(kind).or_insert_with(|| Raised {
                kind: kind.to_owned(),
                canary: 0.0,
                stable: 0.0,
                is_known: false,
            });
            if is_of(&self.request.canary, &line.pod) {
                one.canary += grown;
            } else if is_of(&self.request.stable, &line.pod) {
                one.stable += grown;
                one.is_known |= line.samples.iter().any(|s| s.at <= start && s.value > 0.0);
            }
        }
        raised.into_values().collect()
    }

    /// Why one of these guards has nothing to go by.
    pub(super) fn lacks_rare(&self, query: &GuardQuery) -> (GuardKind, Option<String>) {
        let names = names(query);
        let tells = |name: &String| self.lines.iter().any(|line| line.name == *name);
        let found = names.iter().any(tells);
        let why = |why: String| (!found).then_some(why);
        match query {
            GuardQuery::Saturation { metric, limit } => {
                let lacking = match limit {
                    PoolLimit::Metric(limit) if tells(metric) && !tells(limit) => Some(format!(
                        "no pod has {limit}, of how many threads or workers it has: name another in saturation.limitMetric, or write saturation.limit"
                    )),
                    _ => (!tells(metric)).then(|| {
                        format!("no pod has the gauge {metric}: name another in saturation.metric, or have the application export one")
                    }),
                };
                (GuardKind::Saturation, lacking)
            }
            GuardQuery::WorkerTimeouts { metric } => (
                GuardKind::WorkerTimeouts,
                why(format!(
                    "no pod has {metric} or {GUNICORN}: gunicorn tells them to a statsd exporter beside it (--statsd-host)"
                )),
            ),
            GuardQuery::Exceptions { .. } => (
                GuardKind::Exceptions,
                why(format!(
                    "no pod has {}: none was raised yet, or exceptions.metric has to name another",
                    names.join(" or ")
                )),
            ),
            _ => (
                GuardKind::GcPauses,
                why(format!(
                    "no pod has {}: name another in gcPauses.metric, or have the application export one",
                    names.join(" or ")
                )),
            ),
        }
    }

    fn query(&self, is: impl Fn(&GuardQuery) -> bool) -> Option<&GuardQuery> {
        self.request.guards.iter().find(|query| is(query))
    }

    /// By how much a counter of one of these names grew; of several that which grew most.
    fn counter(&self, pod: &str, names: &[String], start: Timestamp, end: Timestamp) -> Option<f64> {
        let lines = self
            .lines
            .iter()
            .filter(|line| line.pod == pod && names.contains(&line.name));
        let grown = lines.filter_map(|line| self.grown(line, start, end));
        grown.max_by(f64::total_cmp)
    }
}

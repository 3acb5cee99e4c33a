//! What the runtimes of pods tell, for guards: one query of raw samples for all of them, one for 4xx.
//!
//! A process tells of itself where the client for Python runs in one process; for pods with several, the kubelet's
//! cAdvisor tells of the container. One is never compared with the other. Of several series of a pod the one that tells
//! most counts: the application is larger than what stands beside it, and a pod that is read twice counts once.
//! What can't be read is said, and is neither for nor against a revision.

mod rare;

use std::time::Duration;

use futures::future;
use jiff::Timestamp;
use molt_core::analysis::{Counts, MEMORY_WINDOW, Sample, Series, fresh, increase};
use molt_core::guard::{GuardKind, PodRuntime, RuntimeBlock};

use super::super::{GuardQuery, MeasureRequest};
use super::answer::RawSeries;
use super::ask::{Asker, Failure, Target};
use super::promql::{self, Scope};
use super::reading;
use super::series::{is_pod_of, samples};

/// Memory by the process itself, and by the kubelet.
const MEMORY: [&str; 2] = [
    "process_resident_memory_bytes",
    "container_memory_working_set_bytes",
];
/// Processor seconds, likewise.
const CPU: [&str; 2] = ["process_cpu_seconds_total", "container_cpu_usage_seconds_total"];

/// Files and sockets that a process has open; nobody else tells of them.
const FILES: &str = "process_open_fds";

/// What the guards of a request ask for, in each block; none if there is no guard.
pub async fn read(asker: &Asker, request: &MeasureRequest, limit: Duration) -> Vec<RuntimeBlock> {
    if request.guards.is_empty() || request.canary.is_none() || request.edges.len() < 2 {
        return Vec::new();
    }
    let client_errors = async {
        let mut queries = request.guards.iter();
        let slo = queries.find_map(|query| match query {
            GuardQuery::ClientErrors(slo) => Some(slo),
            _ => None,
        })?;
        Some(reading::read_client_errors(asker, request, slo, limit).await)
    };
    let (client_errors, runtime) = future::join(client_errors, Runtime::read(asker, request, limit)).await;
    let mut blocks = runtime.blocks();
    match client_errors {
        Some((column, routes)) => {
            for (block, routes) in blocks.iter_mut().zip(routes) {
                block.routes = routes;
            }
            for (block, counts) in blocks.iter_mut().zip(column.counts) {
                block.client_errors = counts;
                if let Some(failure) = column.failure.as_ref().filter(|_| counts.is_none()) {
                    block
                        .silent
                        .push((GuardKind::ClientErrors, failure.message.clone()));
                }
            }
        }
        None => blocks.iter_mut().for_each(|block| {
            let why = "no objective of availability has a preset, which tells statuses apart";
            block.silent.push((GuardKind::ClientErrors, why.to_owned()));
        }),
    }
    blocks
}

/// One series.
struct Line {
    pod: String,
    name: String,
    /// The edge of a bucket.
    le: Option<f64>,
    /// The type of the exceptions that it counts.
    kind: Option<String>,
    /// Its other labels.
    key: String,
    samples: Vec<Sample>,
}

/// The series of all guards.
struct Runtime<'a> {
    request: &'a MeasureRequest,
    lines: Vec<Line>,
    seen_from: Timestamp,
    /// Why there are none.
    failure: Option<String>,
}

impl<'a> Runtime<'a> {
    async fn read(asker: &Asker, request: &'a MeasureRequest, limit: Duration) -> Self {
        let names = names(&request.guards);
        let none = |failure| Self {
            request,
            lines: Vec::new(),
            seen_from: Timestamp::MIN,
            failure,
        };
        let (Some(scope), [first, .., last]) = (Scope::of_runtimes(request), request.edges.as_slice()) else {
            return none(None);
        };
        if names.is_empty() {
            return none(None);
        }
        let range = last.duration_since(*first) + reading::lookback(request).max(MEMORY_WINDOW);
        let query = promql::samples(&scope.pin(&promql::any_of(&names)), range);
        let target = Target::of(request);
        let answer: Result<Vec<RawSeries>, Failure> = asker.ask(&target, &query, *last, limit).await;
        let lines: Result<Vec<Line>, String> = answer
            .map_err(|failure| failure.message)
            .and_then(|answer| answer.iter().filter_map(|raw| line(request, raw)).collect());
        match lines {
            Ok(lines) => Self {
                request,
                lines,
                seen_from: last.checked_sub(range).unwrap_or(Timestamp::MIN),
                failure: None,
            },
            Err(why) => none(Some(why)),
        }
    }

    fn blocks(&self) -> Vec<RuntimeBlock> {
        let edges = self.request.edges.windows(2);
        edges.map(|edge| self.block(edge[0], edge[1])).collect()
    }

    fn block(&self, start: Timestamp, end: Timestamp) -> RuntimeBlock {
        let request = self.request;
        let (memory, cpu) = (self.told_by(&MEMORY), self.told_by(&CPU));
        let pods = |replica_set: &Option<String>| -> Vec<PodRuntime> {
            let of_set = |pod: &&String| replica_set.as_ref().is_some_and(|set| is_pod_of(set, pod));
            let all = request.births.keys().filter(of_set);
            all.map(|pod| PodRuntime {
                pod: pod.clone(),
                since: since(request, pod),
                memory: memory.map_or_else(Vec::new, |name| self.values(pod, name, end)),
                files: self.values(pod, FILES, end),
                cpu: cpu.and_then(|name| self.cpu(pod, name, start, end)),
                lag: self.lag(pod, start, end),
                gc: self.gc(pod, start, end),
                busy: self.busy(pod, start, end),
                timeouts: self.timeouts(pod, start, end),
            })
            .collect()
        };
        RuntimeBlock {
            canary: pods(&request.canary),
            stable: pods(&request.stable),
            exceptions: self.exceptions(start, end),
            silent: self.silent(),
            ..RuntimeBlock::silent(start, end)
        }
    }

    /// Who tells of both revisions.
    fn told_by(&self, names: &[&'static str; 2]) -> Option<&'static str> {
        let tells = |set: &Option<String>, name: &str| {
            let set = set.as_deref().unwrap_or_default();
            self.lines
                .iter()
                .any(|l| l.name == name && is_pod_of(set, &l.pod))
        };
        let both = |name: &&&str| tells(&self.request.canary, name) && tells(&self.request.stable, name);
        names.iter().find(both).copied()
    }

    fn of<'l>(&'l self, pod: &'l str, name: &'l str) -> impl Iterator<Item = &'l Line> {
        let mut lines: Vec<&Line> = self
            .lines
            .iter()
            .filter(|l| l.pod == pod && l.name == name)
            .collect();
        // Whatever the order of an answer, of equals the same counts.
        lines.sort_by(|a, b| a.key.cmp(&b.key));
        lines.into_iter()
    }

    /// What a gauge of a pod was in the time up to the end of a block.
    fn values(&self, pod: &str, name: &str, end: Timestamp) -> Vec<Sample> {
        let in_window = |s: &&Sample| s.at <= end && end.duration_since(s.at) <= MEMORY_WINDOW;
        let most = |line: &Line| {
            let values = line.samples.iter().map(|s| s.value);
            values.filter(|v| v.is_finite()).fold(0.0, f64::max)
        };
        let line = self.of(pod, name).max_by(|a, b| most(a).total_cmp(&most(b)));
        line.map_or_else(Vec::new, |line| {
            line.samples.iter().filter(in_window).copied().collect()
        })
    }

    fn cpu(&self, pod: &str, name: &str, start: Timestamp, end: Timestamp) -> Option<f64> {
        let grown = self.of(pod, name).filter_map(|line| self.grown(line, start, end));
        grown.max_by(f64::total_cmp)
    }

    fn lag(&self, pod: &str, start: Timestamp, end: Timestamp) -> Option<Counts> {
        let (metric, p99) = self.lag_query()?;
        let (count, bucket) = (format!("{metric}_count"), format!("{metric}_bucket"));
        let counted = self.of(pod, &count).filter_map(|all| {
            let total = self.grown(all, start, end)?;
            let buckets = self.of(pod, &bucket).filter(|line| line.key == all.key);
            let edges = buckets.filter(|line| line.le.is_some_and(|le| le.is_finite() && le >= p99));
            let within = edges.min_by(|a, b| a.le.unwrap_or(p99).total_cmp(&b.le.unwrap_or(p99)))?;
            let within = self.grown(within, start, end)?;
            Counts::new(total, (total - within).max(0.0))
        });
        counted.max_by(|a, b| a.total().total_cmp(&b.total()))
    }

    fn lag_query(&self) -> Option<(&str, f64)> {
        self.request.guards.iter().find_map(|query| match query {
            GuardQuery::EventLoopLag { metric, p99 } => Some((metric.as_str(), *p99)),
            _ => None,
        })
    }

    /// By how much a counter grew; `None` where it was not read in that time.
    fn grown(&self, line: &Line, start: Timestamp, end: Timestamp) -> Option<f64> {
        let series = [Series {
            pod: line.pod.clone(),
            key: line.key.clone(),
            samples: line.samples.clone(),
        }];
        let read = fresh(&series, start, end);
        read.then(|| increase(&series, &self.request.births, self.seen_from, start, end))
    }

    /// Why guards have nothing to go by.
    fn silent(&self) -> Vec<(GuardKind, String)> {
        let mut silent = Vec::new();
        for query in &self.request.guards {
            let (kind, why) = match query {
                GuardQuery::ClientErrors(_) => continue,
                GuardQuery::Memory => (GuardKind::MemoryGrowth, self.lacks(&MEMORY)),
                GuardQuery::Cpu => (GuardKind::CpuPerRequest, self.lacks(&CPU)),
                GuardQuery::OpenFiles => (GuardKind::OpenFiles, self.lacks_files()),
                GuardQuery::EventLoopLag { metric, p99 } => {
                    (GuardKind::EventLoopLag, self.lacks_lag(metric, *p99))
                }
                GuardQuery::GcPauses { .. }
                | GuardQuery::Saturation { .. }
                | GuardQuery::WorkerTimeouts { .. }
                | GuardQuery::Exceptions { .. } => self.lacks_rare(query),
            };
            silent.extend(self.failure.clone().or(why).map(|why| (kind, why)));
        }
        silent
    }

    fn lacks(&self, names: &[&'static str; 2]) -> Option<String> {
        self.told_by(names).is_none().then(|| {
            let [own, kubelet] = names;
            format!("not both revisions' pods have {own}, nor {kubelet} by the kubelet's cAdvisor")
        })
    }

    fn lacks_files(&self) -> Option<String> {
        let tells = self.lines.iter().any(|line| line.name == FILES);
        (!tells).then(|| {
            format!("no pod has {FILES}: the client for Python has none where several processes serve")
        })
    }

    fn lacks_lag(&self, metric: &str, p99: f64) -> Option<String> {
        let bucket = format!("{metric}_bucket");
        let mut buckets = self.lines.iter().filter(|line| line.name == bucket).peekable();
        if buckets.peek().is_none() {
            return Some(format!(
                "no pod has the histogram {metric}: name another in eventLoopLag.metric, or have the application export one"
            ));
        }
        let fits = buckets.any(|line| line.le.is_some_and(|le| le.is_finite() && le >= p99));
        (!fits).then(|| {
            format!(
                "the histogram {metric} has no edge at or above {:.0}ms",
                p99 * 1000.0
            )
        })
    }
}

/// The names of the series that the guards ask for.
fn names(guards: &[GuardQuery]) -> Vec<String> {
    let owned = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    guards
        .iter()
        .flat_map(|query| match query {
            GuardQuery::ClientErrors(_) => Vec::new(),
            GuardQuery::Memory => owned(MEMORY),
            GuardQuery::Cpu => owned(CPU),
            GuardQuery::OpenFiles => vec![FILES.to_owned()],
            GuardQuery::EventLoopLag { metric, .. } => ["count", "bucket"]
                .map(|part| format!("{metric}_{part}"))
                .to_vec(),
            GuardQuery::GcPauses { .. }
            | GuardQuery::Saturation { .. }
            | GuardQuery::WorkerTimeouts { .. }
            | GuardQuery::Exceptions { .. } => rare::names(query),
        })
        .collect()
}

/// A series of a pod; `None` for one that is of no pod, or of the pod as a whole.
fn line(request: &MeasureRequest, raw: &RawSeries) -> Option<Result<Line, String>> {
    let label = |name: &str| raw.metric.get(name).map(String::as_str);
    let (pod, name) = (label(&request.source.pod_label)?, label("__name__")?);
    let is_containers =
        matches!(label("container"), Some(container) if !container.is_empty() && container != "POD");
    if !request.births.contains_key(pod) || (name.starts_with("container_") && !is_containers) {
        return None;
    }
    let mut labels: Vec<_> = raw.metric.iter().collect();
    labels.retain(|(name, _)| !matches!(name.as_str(), "__name__" | "le"));
    labels.sort();
    Some(samples(raw).map(|samples| {
        Line {
            pod: pod.to_owned(),
            name: name.to_owned(),
            le: label("le").and_then(|le| le.parse().ok()),
            kind: rare::label_of_type(&request.guards, name)
                .and_then(label)
                .map(str::to_owned),
            key: format!("{labels:?}"),
            samples,
        }
    }))
}

/// Since when a pod does what it always does: its youngest container, or its warmth.
fn since(request: &MeasureRequest, pod: &str) -> Timestamp {
    let started = request.starts.get(pod).and_then(|starts| starts.at.iter().max());
    let born = request.births.get(pod);
    let warm = request.warm_at.get(pod);
    let times = started.into_iter().chain(born).chain(warm);
    times.max().copied().unwrap_or(request.now)
}

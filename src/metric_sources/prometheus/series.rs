//! Series of an answer, sorted by revision and pod, as the core counts them.
//!
//! A series is told from the pod's others by its labels without those that scraping adds: the same counter
//! comes twice when two scrapers, or one by two Services, read a pod. Scraping adds `job`, `instance` and
//! whatever labels the pod's `up` has; an application's label of the same name arrives as `exported_…`. One
//! scraper speaks for all series of a pod, so that a histogram's count and bucket are of the same moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use molt_core::analysis::{Counts, Falls, PodCounts, Sample, Series, Starts, fresh, increase};

use super::super::{MeasureRequest, PrometheusSource, tasks};
use super::answer::{Labels, RawSeries};

/// Labels that reading adds even where the pod has no `up`: to series that are pushed, for one. Of these the
/// `instance` is a process's own: several workers push from one pod.
const READER_LABELS: [&str; 4] = ["job", "prometheus", "prometheus_replica", "__replica__"];

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Events, good or bad.
    Total,
    /// Bad events, which are part of the total.
    BadOfTotal,
    /// Bad events, which the total counts in another series.
    Bad,
    /// Events within the threshold, which are not bad.
    Within,
    /// Nothing; it is 1 when the scrape succeeded, and its labels are those that scraping adds.
    Up,
    /// Nothing; it comes with every push or scrape.
    Target,
    /// Nothing; it tells when the process began.
    Start,
    /// Requests that a proxy of the route sent, answered or not.
    Sent,
    /// Nothing that this revision served; it shows that the proxy was read.
    Witness,
}

/// The series of one revision.
#[derive(Clone, Debug, Default)]
pub struct Arm {
    total: Vec<Series>,
    bad: Vec<Series>,
    within: Vec<Series>,
    sent: Vec<Series>,
    /// For each pod, when it was read.
    reads: Vec<Series>,
    /// For each pod, when the scraper that counts read it: counters that stay at 0. They tell the core that a
    /// series is new on a pod that was scraped before, also when it is the first series of all. The times of
    /// another scraper would make a counter new that is only read a moment later.
    scrapes: Vec<Series>,
    /// For each pod whose counters fell without a restart.
    falls: Vec<Falls>,
}

/// The times that the samples cover and the pods that they come from.
pub struct Frame<'a> {
    /// When each pod was created.
    pub births: &'a BTreeMap<String, Timestamp>,
    /// The beginning of the time that the samples cover.
    pub seen_from: Timestamp,
}

impl Arm {
    /// The series of one ReplicaSet's pods among those of an answer; `worker` is the label that names the worker in the
    /// pod, where an exporter counts for all of them.
    pub fn new(
        request: &MeasureRequest,
        replica_set: &str,
        worker: Option<&str>,
        answer: &[(Role, RawSeries)],
    ) -> Result<Self, String> {
        let mut pods: BTreeMap<&str, Vec<(Role, &RawSeries)>> = BTreeMap::new();
        for (role, series) in answer {
            let label = worker.unwrap_or(&request.source.pod_label);
            let name = series.metric.get(label).map(String::as_str).unwrap_or_default();
            let is_meant = |pod: &str| is_pod_of(replica_set, pod);
            let pod = if worker.is_some() {
                tasks::pod_of(name, is_meant)
            } else {
                Some(name).filter(|name| is_meant(name))
            };
            if let Some(pod) = pod {
                pods.entry(pod).or_default().push((*role, series));
            }
        }
        let mut arm = Self::default();
        for (pod, series) in pods {
            let exporters = Starts::default();
            let starts = match worker {
                None => request.starts.get(pod),
                Some(_) => Some(&exporters),
            };
            arm.add(&request.source, pod, &series, starts, worker)?;
        }
        if worker.is_some() {
            // Its exporter begins again now and then, and the worker's starts tell nothing of that.
            arm.falls.retain(Falls::is_saw_tooth);
        }
        Ok(arm)
    }

    /// The series of the backends with these values of a label, by the proxies that counted them. Whatever else
    /// of the answer is of a proxy shows that it was read.
    pub fn at_route(
        source: &PrometheusSource,
        label: &str,
        values: &[String],
        answer: &[(Role, RawSeries)],
    ) -> Result<Self, String> {
        let mut proxies: BTreeMap<String, Vec<(Role, &RawSeries)>> = BTreeMap::new();
        for (role, series) in answer {
            let value = series.metric.get(label);
            let own = value.is_some_and(|value| values.contains(value));
            proxies
                .entry(proxy(source, &series.metric))
                .or_default()
                .push((if own { *role } else { Role::Witness }, series));
        }
        let mut arm = Self::default();
        for (proxy, series) in proxies {
            arm.add(source, &proxy, &series, Some(&Starts::default()), None)?;
        }
        // A proxy begins again, and so do the counters of a cluster that was gone for a while. Several falls in
        // a short time are several proxies behind one address.
        arm.falls.retain(Falls::is_saw_tooth);
        Ok(arm)
    }

    fn add(
        &mut self,
        source: &PrometheusSource,
        pod: &str,
        series: &[(Role, &RawSeries)],
        starts: Option<&Starts>,
        worker: Option<&str>,
    ) -> Result<(), String> {
        let ups = series.iter().filter(|(role, _)| *role == Role::Up);
        let added = ups.flat_map(|(_, up)| up.metric.keys()).map(String::as_str);
        // The label of the worker is the exporter's own, also where it comes with what stands for `up`.
        let mut ignored: BTreeSet<&str> = added
            .chain(READER_LABELS)
            .filter(|label| worker != Some(*label))
            .collect();
        let scraper = speaker(series, &ignored);
        let speaks = |series: &RawSeries| {
            scraper
                .as_ref()
                .is_none_or(|scraper| *scraper == labels(&series.metric, |l| ignored.contains(l)))
        };
        let mut read_at: Vec<Sample> = Vec::new();
        let mut scraped_at: Vec<Sample> = Vec::new();
        let mut processes: Vec<Vec<Sample>> = Vec::new();
        let mut counters: Vec<(Role, &RawSeries, Vec<Sample>)> = Vec::new();
        for (role, raw) in series {
            // Its own times, and often its own labels, come with `target_info`.
            if *role != Role::Target && !speaks(raw) {
                continue;
            }
            let samples = samples(raw)?;
            let counts = |sample: &&Sample| match role {
                Role::Up => sample.value > 0.0,
                // What is no count must not pass for a scrape that found nothing.
                _ => sample.value.is_finite() && sample.value >= 0.0,
            };
            let times = samples
                .iter()
                .filter(counts)
                .map(|s| Sample { at: s.at, value: 0.0 });
            read_at.extend(times.clone());
            if *role != Role::Target {
                scraped_at.extend(times);
            }
            if *role == Role::Start {
                processes.push(samples.into_iter().filter(|s| s.value.is_finite()).collect());
            } else if !matches!(role, Role::Up | Role::Target | Role::Witness) {
                counters.push((*role, raw, samples));
            }
        }
        // What began in a pod that is gone nobody knows.
        if let Some(starts) = starts {
            let all = counters.iter().map(|(_, _, samples)| samples.as_slice());
            let falls = Falls::find(pod, all, &processes, starts);
            if falls.count() > 0 || falls.are_several() {
                self.falls.push(falls);
            }
        }
        let constant = |samples| Series {
            pod: pod.to_owned(),
            key: "up".to_owned(),
            samples,
        };
        self.reads.push(constant(read_at));
        self.scrapes.push(constant(scraped_at));

        ignored.extend(["__name__", "le", &source.pod_label]);
        for (role, raw, samples) in counters {
            let mut key = labels(&raw.metric, |label| !ignored.contains(label));
            // The same labels may come with several metrics, each of which counts other events. A histogram's bucket
            // has the key of its count.
            if let Some(metric) = raw.metric.get("__name__") {
                let [metric, end] = match metric.strip_suffix("_bucket") {
                    Some(histogram) if role == Role::Within => [histogram, "_count"],
                    _ => [metric.as_str(), ""],
                };
                key = format!("{metric}{end}\0{key}");
            }
            let series = Series {
                pod: pod.to_owned(),
                key,
                samples,
            };
            match role {
                Role::BadOfTotal => {
                    self.bad.push(series.clone());
                    self.total.push(series);
                }
                Role::Bad => self.bad.push(series),
                Role::Within => self.within.push(series),
                Role::Sent => self.sent.push(series),
                _ => self.total.push(series),
            }
        }
        Ok(())
    }

    /// Some series counts events.
    pub fn has_total(&self) -> bool {
        !self.total.is_empty()
    }

    /// Some series counts what was sent.
    pub fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// What proxies sent in `(start, end]`.
    pub fn sent(&self, frame: &Frame<'_>, start: Timestamp, end: Timestamp) -> f64 {
        increase(
            &[self.sent.as_slice(), &self.scrapes].concat(),
            frame.births,
            frame.seen_from,
            start,
            end,
        )
    }

    /// A pod whose counters can't be used in `(start, end]`.
    pub fn spoilt(&self, start: Timestamp, end: Timestamp) -> Option<&Falls> {
        self.falls.iter().find(|falls| falls.spoil(start, end))
    }

    /// Events are counted by a histogram that has no bucket at the threshold: none at all, or that of some of its
    /// series has none.
    pub fn lacks_bucket(&self) -> bool {
        let within: BTreeSet<(&str, &str)> = self.within.iter().map(identity).collect();
        self.total.iter().any(|s| !within.contains(&identity(s)))
    }

    /// Some pod was read in that time.
    pub fn was_read(&self, start: Timestamp, end: Timestamp) -> bool {
        fresh(&self.reads, start, end)
    }

    /// Up to when all of its pods that were read in `(start, end]` tell: the earliest of their last scrapes. `None` where none
    /// was read in that time.
    pub fn known_to(&self, start: Timestamp, end: Timestamp) -> Option<Timestamp> {
        let mut last: BTreeMap<&str, Timestamp> = BTreeMap::new();
        for scrapes in &self.scrapes {
            let times = scrapes.samples.iter().map(|sample| sample.at);
            if let Some(at) = times.filter(|at| *at > start && *at <= end).max() {
                let known = last.entry(&scrapes.pod).or_insert(at);
                *known = at.max(*known);
            }
        }
        last.into_values().min()
    }

    /// What was counted in `(start, end]`; `None` when no pod was read in that time, or all that was read is
    /// no count.
    pub fn counts(&self, frame: &Frame<'_>, start: Timestamp, end: Timestamp) -> Option<Counts> {
        let read = self
            .total
            .iter()
            .any(|s| s.samples.iter().any(|s| s.at > start && s.at <= end));
        if !self.was_read(start, end) || (read && !fresh(&self.total, start, end)) {
            return None;
        }
        let grown = |series: &[Series], scrapes: &[Series]| {
            increase(
                &[series, scrapes].concat(),
                frame.births,
                frame.seen_from,
                start,
                end,
            )
        };
        let total = grown(&self.total, &self.scrapes);
        if self.within.is_empty() {
            return Counts::new(total, grown(&self.bad, &self.scrapes));
        }
        // Series by series, so that one which is read in part can't hide what another counts.
        let mut identities: BTreeMap<(&str, &str), [Vec<Series>; 2]> = BTreeMap::new();
        for (i, all) in [&self.total, &self.within].into_iter().enumerate() {
            for s in all {
                identities.entry((&s.pod, &s.key)).or_default()[i].push(s.clone());
            }
        }
        let mut bad = 0.0;
        for ((pod, _), [all, within]) in &identities {
            let scrapes = self.scrapes_of(pod);
            let counted = grown(all, scrapes);
            if counted > 0.0 && within.is_empty() {
                return None;
            }
            bad += (counted - grown(within, scrapes)).max(0.0);
        }
        Counts::new(total, bad)
    }

    /// The same by pod, for those of which something is known.
    pub fn by_pod(&self, frame: &Frame<'_>, start: Timestamp, end: Timestamp) -> PodCounts {
        let mut counts = PodCounts::default();
        for pod in self.pods() {
            if let Some(served) = self.only(pod).counts(frame, start, end) {
                counts.add(pod, served);
            }
        }
        counts
    }

    /// The series of one pod.
    /// The pods that were scraped.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.reads.iter().map(|reads| reads.pod.as_str())
    }

    /// Without some of its pods.
    pub fn without(&self, pods: &[&str]) -> Self {
        self.of_pods(|pod| !pods.contains(&pod))
    }

    fn only(&self, pod: &str) -> Self {
        self.of_pods(|other| other == pod)
    }

    fn of_pods(&self, is_meant: impl Fn(&str) -> bool) -> Self {
        let of_pods = |all: &[Series]| all.iter().filter(|s| is_meant(&s.pod)).cloned().collect();
        Self {
            total: of_pods(&self.total),
            bad: of_pods(&self.bad),
            within: of_pods(&self.within),
            sent: of_pods(&self.sent),
            reads: of_pods(&self.reads),
            scrapes: of_pods(&self.scrapes),
            // Falls spoil the whole revision, not a pod.
            falls: Vec::new(),
        }
    }

    fn scrapes_of(&self, pod: &str) -> &[Series] {
        // They were added in order of their pods, one for each.
        let found = self
            .scrapes
            .binary_search_by(|scrapes| scrapes.pod.as_str().cmp(pod));
        found.map_or(&[], |i| std::slice::from_ref(&self.scrapes[i]))
    }
}

fn identity(series: &Series) -> (&str, &str) {
    (&series.pod, &series.key)
}

/// What tells a proxy from the others: its pod, or the address that was scraped.
fn proxy(source: &PrometheusSource, metric: &Labels) -> String {
    let label = |name: &str| metric.get(name).map(String::as_str);
    let pod = label(&source.pod_label).or_else(|| label("instance"));
    let namespace = label(&source.namespace_label).unwrap_or_default();
    format!("{namespace}/{}", pod.unwrap_or_default())
}

/// Whether a ReplicaSet named the pod.
pub fn is_pod_of(replica_set: &str, pod: &str) -> bool {
    pod.strip_prefix(replica_set)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|suffix| !suffix.is_empty() && !suffix.contains('-'))
}

/// The scraper with the most samples of the pod's counters; of equals the first by name, so that repeated
/// readings agree. `None` when the pod has no counter.
fn speaker(series: &[(Role, &RawSeries)], ignored: &BTreeSet<&str>) -> Option<String> {
    let mut samples: BTreeMap<String, usize> = BTreeMap::new();
    for (role, series) in series {
        if !matches!(role, Role::Up | Role::Target | Role::Start) {
            *samples
                .entry(labels(&series.metric, |label| ignored.contains(label)))
                .or_default() += series.values.len();
        }
    }
    samples
        .into_iter()
        .rev()
        .max_by_key(|(_, samples)| *samples)
        .map(|(scraper, _)| scraper)
}

/// Some of a series' labels, in order of their names.
fn labels(metric: &Labels, wanted: impl Fn(&str) -> bool) -> String {
    let mut chosen: Vec<_> = metric
        .iter()
        .filter(|(name, _)| *name != "__name__" && wanted(name))
        .collect();
    chosen.sort();
    let mut text = String::new();
    for (name, value) in chosen {
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        // A separator that no exporter writes.
        text.push('\0');
    }
    text
}

/// The samples of a series; an error for a time that can't be.
pub fn samples(series: &RawSeries) -> Result<Vec<Sample>, String> {
    series
        .values
        .iter()
        .map(|raw| {
            // The API writes milliseconds as decimals of seconds.
            let at = Timestamp::from_millisecond((raw.0 * 1000.0).round() as i64)
                .map_err(|_| "a sample with an impossible time".to_owned())?;
            Ok(Sample { at, value: raw.1.0 })
        })
        .collect()
}

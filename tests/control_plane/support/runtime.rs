//! What the runtimes of pods tell, as functions of their age. The image chooses: pods of `told:…` tell it, `…:leaks…` grow by
//! ten megabytes a minute, the loop of `…:blocks…` is late in one sample of four, the collector of `…:collects…` takes
//! a fifth of the time; of others nothing is known.

use serde_json::{Value, json};

/// What a metric is, by the age of its pod in seconds.
type ByAge = Box<dyn Fn(f64) -> f64>;

/// A pod that tells of its runtime.
pub struct Teller {
    /// Its namespace.
    pub namespace: String,
    /// What its image is called behind the colon.
    tag: String,
    /// When it began, in seconds.
    since: f64,
}

impl Teller {
    /// A pod that began at `since`; `None` for one that tells nothing.
    pub fn of(namespace: String, image: &str, since: f64) -> Option<Self> {
        let tag = image.strip_prefix("told:")?.to_owned();
        Some(Self {
            namespace,
            tag,
            since,
        })
    }

    /// The series that a query asks for, with a sample for each second up to `end`.
    pub fn series(&self, query: &str, pod: &str, end: f64) -> Vec<Value> {
        let leak = if self.tag.starts_with("leaks") {
            1e7 / 60.0
        } else {
            0.0
        };
        let late = if self.tag.starts_with("blocks") { 0.25 } else { 0.0 };
        let collects = if self.tag.starts_with("collects") {
            0.2
        } else {
            0.01
        };
        let all: [(&str, &str, ByAge); 5] = [
            (
                "python_gc_pause_seconds_sum",
                "",
                Box::new(move |age| collects * age),
            ),
            (
                "process_resident_memory_bytes",
                "",
                Box::new(move |age| 1e8 + leak * age),
            ),
            ("process_cpu_seconds_total", "", Box::new(|age| 0.1 * age)),
            (
                "event_loop_lag_seconds_count",
                "",
                Box::new(|age| (4.0 * age).floor()),
            ),
            (
                "event_loop_lag_seconds_bucket",
                "0.25",
                Box::new(move |age| (4.0 * age * (1.0 - late)).floor()),
            ),
        ];
        let seconds = || {
            let first = self.since.max(end - 300.0).ceil();
            (0..)
                .map(move |i| first + f64::from(i))
                .take_while(move |at| *at <= end)
        };
        all.iter()
            .filter(|(name, _, _)| query.contains(name))
            .map(|(name, le, value)| {
                let mut metric =
                    json!({"__name__": name, "namespace": self.namespace, "pod": pod, "job": "pods"});
                if !le.is_empty() {
                    metric["le"] = json!(le);
                }
                let values: Vec<Value> = seconds()
                    .map(|at| json!([at, value(at - self.since).to_string()]))
                    .collect();
                json!({"metric": metric, "values": values})
            })
            .collect()
    }
}

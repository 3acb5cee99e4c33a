//! Tasks of workers: what their exporters count, and how these name the worker that ran a task.
//!
//! Some exporters ask the broker, so their series are of the exporter's own pod, and the worker is in a label: its name
//! contains the pod's, because a worker's host is its pod unless somebody names it otherwise. Others are in the worker.

use crate::api::v1alpha1::Preset;

/// What a preset's exporter counts: each task that ended, or each run of one, by how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcomes {
    /// Counters of tasks that did what they should.
    pub good: &'static [&'static str],
    /// Counters of those that failed, or were given up.
    pub bad: &'static [&'static str],
    /// The label that names the worker; `None` where the series are of the worker's own pod.
    pub worker: Option<&'static str>,
    /// A gauge that there is of each worker, whether it has ended a task or not: it shows that the worker is known.
    pub alive: Option<&'static str>,
    /// The gauge has labels that the counters have not.
    pub alive_varies: bool,
}

/// What the exporter of a preset counts; `None` for one that counts requests.
pub fn outcomes(preset: Preset) -> Option<Outcomes> {
    match preset {
        // What is retried will end some other way. A task that the worker does not know is a failed one; one that it
        // rejects goes to the dead letters.
        Preset::CeleryExporter => Some(Outcomes {
            good: &["celery_task_succeeded_total"],
            bad: &["celery_task_failed_total", "celery_task_rejected_total"],
            worker: Some("hostname"),
            alive: Some("celery_worker_up"),
            alive_varies: false,
        }),
        Preset::RqExporter => Some(Outcomes {
            good: &["rq_workers_success_total"],
            bad: &["rq_workers_failed_total"],
            worker: Some("name"),
            alive: Some("rq_workers"),
            alive_varies: true,
        }),
        Preset::Arq => Some(Outcomes {
            good: &["arq_jobs_completed", "arq_jobs_completed_total"],
            bad: &["arq_jobs_failed", "arq_jobs_failed_total"],
            worker: None,
            alive: None,
            alive_varies: false,
        }),
        _ => None,
    }
}

/// The same for runs of tasks, of which those are bad that end in another try; `None` for an exporter that does not count
/// them. What fails for good is not counted as bad once more.
pub fn retries(preset: Preset) -> Option<Outcomes> {
    let ended = outcomes(preset)?;
    let (good, bad): (&[&str], &[&str]) = match preset {
        Preset::CeleryExporter => (
            &[
                "celery_task_succeeded_total",
                "celery_task_failed_total",
                "celery_task_rejected_total",
            ],
            &["celery_task_retried_total"],
        ),
        Preset::Arq => (
            &[
                "arq_jobs_completed",
                "arq_jobs_completed_total",
                "arq_jobs_failed",
                "arq_jobs_failed_total",
            ],
            &["arq_jobs_retried", "arq_jobs_retried_total"],
        ),
        _ => return None,
    };
    Some(Outcomes { good, bad, ..ended })
}

/// A pattern for the names of workers in pods of this name: `celery@<pod>`, `<pod>`, `<pod>.default`.
pub fn worker_pattern(pods: &str) -> String {
    format!("(?:.*[^a-z0-9-])?{pods}(?:[^a-z0-9-].*)?")
}

/// The pod that a worker's name contains, of those that `is_meant`.
pub fn pod_of(worker: &str, is_meant: impl Fn(&str) -> bool) -> Option<&str> {
    let parts = worker.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    parts.into_iter().find(|part| is_meant(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_by_the_pod_in_its_name() {
        let of = |worker| pod_of(worker, |pod| pod.starts_with("mail-0a1b2c3d4e-"));
        for worker in [
            "mail-0a1b2c3d4e-x7k2p",
            "celery@mail-0a1b2c3d4e-x7k2p",
            "w1@mail-0a1b2c3d4e-x7k2p",
            "mail-0a1b2c3d4e-x7k2p.default",
        ] {
            assert_eq!(of(worker), Some("mail-0a1b2c3d4e-x7k2p"), "{worker}");
        }
        for worker in ["celery@other", "5f0c1d", "", "e-mail-0a1b2c3d4e-x7k2p"] {
            assert_eq!(of(worker), None, "{worker}");
        }
    }

    #[test]
    fn every_counter_is_known_to_be_one_of_several() {}
}

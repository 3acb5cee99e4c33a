//! Guards of what only some applications export: the collector's time, pools, workers that hang, exceptions by type.

use molt_core::guard::GuardRule;

use super::{FieldError, is_metric};
use crate::api::v1alpha1 as api;
use crate::metric_sources::{GuardQuery, PoolLimit};

/// There is no name that all use: these are the ones of the documentation.
const GC: &str = "python_gc_pause_seconds";
const BUSY: &str = "thread_pool_busy";
const LIMIT: &str = "thread_pool_limit";
/// gunicorn logs one kind of line as critical, `WORKER TIMEOUT`, and counts such lines for statsd.
const TIMEOUTS: &str = "gunicorn_log_critical";
/// What django-prometheus exports, and what the documentation calls a counter of one's own.
const EXCEPTIONS: [&str; 2] = [
    "django_http_exceptions_total_by_type_total",
    "python_exceptions_total",
];
const TYPE: &str = "type";

/// Each with its mode as it is written, what it allows, and how it is read.
pub(super) fn resolve(
    guards: &api::Guards,
    errors: &mut Vec<FieldError>,
) -> [(Option<api::GuardMode>, GuardRule, GuardQuery); 4] {
    let gc = guards.gc_pauses.clone().unwrap_or_default();
    let timeouts = guards.worker_timeouts.clone().unwrap_or_default();
    let exceptions = guards.exceptions.clone().unwrap_or_default();
    let gc_rule = GuardRule::GcPauses {
        max_share: share(
            errors,
            "spec.guards.gcPauses.maxShare",
            gc.max_share.as_ref(),
            0.05,
        ),
    };
    let gc_query = GuardQuery::GcPauses {
        metric: metric(errors, "spec.guards.gcPauses.metric", gc.metric, GC),
    };
    let timeouts_query = GuardQuery::WorkerTimeouts {
        metric: metric(
            errors,
            "spec.guards.workerTimeouts.metric",
            timeouts.metric,
            TIMEOUTS,
        ),
    };
    let exceptions_query = GuardQuery::Exceptions {
        counters: counters(errors, &exceptions),
    };
    // A new type may be an old one by another name.
    let told = exceptions.mode.or(Some(api::GuardMode::Warn));
    [
        (gc.mode, gc_rule, gc_query),
        pool(guards.saturation.clone().unwrap_or_default(), errors),
        (timeouts.mode, GuardRule::WorkerTimeouts, timeouts_query),
        (told, GuardRule::Exceptions, exceptions_query),
    ]
}

fn pool(
    spec: api::SaturationGuard,
    errors: &mut Vec<FieldError>,
) -> (Option<api::GuardMode>, GuardRule, GuardQuery) {
    let at = "spec.guards.saturation";
    let max_share = share(errors, &format!("{at}.maxShare"), spec.max_share.as_ref(), 0.9);
    let limit = match (spec.limit, spec.limit_metric) {
        (Some(limit), None) if limit >= 1 => PoolLimit::Number(f64::from(limit)),
        (Some(limit), None) => {
            let message = format!("{limit} threads serve nobody: write 1 or more, such as 40");
            errors.push(FieldError::new(format!("{at}.limit"), message));
            PoolLimit::Number(1.0)
        }
        (Some(_), Some(_)) => {
            let message = "is written beside limitMetric: leave one of them out";
            errors.push(FieldError::new(format!("{at}.limit"), message));
            PoolLimit::Number(1.0)
        }
        (None, name) => PoolLimit::Metric(metric(errors, &format!("{at}.limitMetric"), name, LIMIT)),
    };
    let query = GuardQuery::Saturation {
        metric: metric(errors, &format!("{at}.metric"), spec.metric, BUSY),
        limit,
    };
    (spec.mode, GuardRule::Saturation { max_share }, query)
}

/// The counters of exceptions, each with its label.
fn counters(errors: &mut Vec<FieldError>, spec: &api::ExceptionsGuard) -> Vec<(String, String)> {
    let at = "spec.guards.exceptions";
    let label = spec.label.clone().unwrap_or_else(|| TYPE.to_owned());
    let is_label = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) || !label.chars().all(is_label) {
        let message =
            format!("{label:?} is no name of a label: write letters, digits and underscores, such as {TYPE}");
        errors.push(FieldError::new(format!("{at}.label"), message));
    }
    if spec.label.is_some() && spec.metric.is_none() {
        let message = "belongs to metric, which is missing: write both, or neither";
        errors.push(FieldError::new(format!("{at}.label"), message));
    }
    match spec.metric.clone() {
        None => EXCEPTIONS
            .map(|metric| (metric.to_owned(), TYPE.to_owned()))
            .to_vec(),
        written => vec![(
            metric(errors, &format!("{at}.metric"), written, EXCEPTIONS[1]),
            label,
        )],
    }
}

fn metric(errors: &mut Vec<FieldError>, field: &str, written: Option<String>, usual: &str) -> String {
    let Some(name) = written else {
        return usual.to_owned();
    };
    if !is_metric(&name) {
        let message = format!(
            "{name:?} is no name of a metric: write letters, digits and underscores, without _bucket, such as {usual}"
        );
        errors.push(FieldError::new(field, message));
    }
    name
}

pub(super) fn share(
    errors: &mut Vec<FieldError>,
    field: &str,
    written: Option<&api::Percent>,
    usual: f64,
) -> f64 {
    let wrong = match written.map(api::Percent::parse) {
        None => return usual,
        Some(Ok(share)) if share > 0.0 => return share,
        Some(Ok(_)) => format!("must be above 0%, such as {:.0}%", usual * 100.0),
        Some(Err(message)) => message,
    };
    errors.push(FieldError::new(field, wrong));
    usual
}

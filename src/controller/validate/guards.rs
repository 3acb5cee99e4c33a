//! `spec.guards`.

pub(super) mod connections;
mod rare;

use jiff::SignedDuration;
use molt_core::condition::Bound;
use molt_core::guard::{GuardMode, GuardPlan, GuardRule};
use molt_core::plan::{Check, ConditionPlan, JobPlan};
use serde_json::json;

use super::FieldError;
use super::fields::{check_job_template, check_label, duration, in_range};
use crate::api::v1alpha1 as api;
use crate::controller::revision::digest;
use crate::metric_sources::conditions::PromqlQuery;
use crate::metric_sources::web::WebQuery;
use crate::metric_sources::{ConditionQuery, GuardQuery, SliQuery, SloQuery};

/// Conditions of one service, at most: most are a query in every block.
const MOST_CONDITIONS: usize = 10;

/// How long a Job may run unless the spec says otherwise.
const JOB_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

/// The conditions, each with its query if it has one. An attempt waits for a Job no longer than
/// `progress_deadline`.
pub(super) fn resolve(
    guards: Option<&api::Guards>,
    progress_deadline: SignedDuration,
    errors: &mut Vec<FieldError>,
) -> Vec<(ConditionPlan, Option<ConditionQuery>)> {
    let Some(conditions) = guards.and_then(|g| g.conditions.as_ref()) else {
        return Vec::new();
    };
    let path = "spec.guards.conditions";
    if conditions.len() > MOST_CONDITIONS {
        let message = format!(
            "has {} conditions: write at most {MOST_CONDITIONS}",
            conditions.len()
        );
        errors.push(FieldError::new(path, message));
    }
    let mut resolved = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let at = format!("{path}[{index}]");
        check_label(&format!("{at}.name"), &condition.name, errors);
        if let Some(first) = conditions[..index].iter().position(|c| c.name == condition.name) {
            let message = format!(
                "{:?} is the name of {path}[{first}] already: give each its own",
                condition.name
            );
            errors.push(FieldError::new(format!("{at}.name"), message));
        }
        let failure_limit = in_range(
            errors,
            &format!("{at}.failureLimit"),
            condition.failure_limit,
            0..=100,
            0,
        );
        let checked = check(&at, condition, progress_deadline, errors);
        if let (Some((check, query)), Some(mode)) = (checked, mode(condition.mode)) {
            let plan = ConditionPlan {
                name: condition.name.clone(),
                check,
                mode,
                failure_limit,
            };
            resolved.push((plan, query));
        }
    }
    resolved
}

/// What a guard does; `None` if it is off.
fn mode(written: Option<api::GuardMode>) -> Option<GuardMode> {
    match written.unwrap_or_default() {
        api::GuardMode::Rollback => Some(GuardMode::Rollback),
        api::GuardMode::Warn => Some(GuardMode::Warn),
        api::GuardMode::Off => None,
    }
}

/// What has to hold, and where a number for it comes from.
fn check(
    at: &str,
    condition: &api::GuardCondition,
    progress_deadline: SignedDuration,
    errors: &mut Vec<FieldError>,
) -> Option<(Check, Option<ConditionQuery>)> {
    let query = match (&condition.query, &condition.web, &condition.job) {
        (Some(query), None, None) => PromqlQuery::parse(&condition.name, query)
            .map(ConditionQuery::Promql)
            .map_err(|error| vec![FieldError::under(at, error)]),
        (None, Some(web), None) => WebQuery::parse(web)
            .map(ConditionQuery::Web)
            .map_err(|errors| errors.into_iter().map(|e| FieldError::under(at, e)).collect()),
        (None, None, Some(check)) => {
            if condition.success_condition.is_some() {
                let message = "belongs to query and web: leave it out, for a Job has to succeed";
                errors.push(FieldError::new(format!("{at}.successCondition"), message));
            }
            let job = job(&format!("{at}.job"), check, progress_deadline, errors);
            return Some((Check::Job(job), None));
        }
        (None, None, None) => Err(vec![FieldError::new(
            at,
            "has neither query nor web nor job: write PromQL, a URL that answers with JSON, or a Job",
        )]),
        _ => Err(vec![FieldError::new(
            at,
            "has several of query, web and job: make a condition of each",
        )]),
    };
    let bound = match &condition.success_condition {
        Some(text) => Bound::parse(text),
        None => Err("is missing: write what the number must be, such as value < 0.8".to_owned()),
    };
    let bound = bound.map_err(|message| FieldError::new(format!("{at}.successCondition"), message));
    match (bound, query) {
        (Ok(bound), Ok(query)) => Some((Check::Value(bound), Some(query))),
        (bound, query) => {
            errors.extend(bound.err().into_iter().chain(query.err().into_iter().flatten()));
            None
        }
    }
}

fn job(
    at: &str,
    check: &api::JobCheck,
    progress_deadline: SignedDuration,
    errors: &mut Vec<FieldError>,
) -> JobPlan {
    check_job_template(&format!("{at}.template"), &check.template, errors);
    let second = SignedDuration::from_secs(1);
    let field = format!("{at}.timeout");
    let timeout = duration(errors, &field, check.timeout.as_ref(), JOB_TIMEOUT, second);
    if timeout >= progress_deadline {
        let message = format!(
            "{timeout:#} is no shorter than spec.progressDeadline, which is {progress_deadline:#}: the attempt would end before the Job"
        );
        errors.push(FieldError::new(field, message));
    }
    let field = format!("{at}.interval");
    let ten = SignedDuration::from_secs(10);
    let interval = check.interval.as_ref();
    JobPlan {
        digest: digest(&json!(check.template)),
        timeout,
        interval: interval.map(|interval| duration(errors, &field, Some(interval), ten, ten)),
    }
}

/// The histogram of the event loop's lag, unless the spec names another: there is no name that all use.
const LAG: &str = "event_loop_lag_seconds";

/// The guards of the runtime that are not off, and how those that are measured are read, in the same order.
pub(super) fn runtime(
    guards: Option<&api::Guards>,
    slos: &[SloQuery],
    errors: &mut Vec<FieldError>,
) -> (Vec<GuardPlan>, Vec<GuardQuery>) {
    let none = api::Guards::default();
    let guards = guards.unwrap_or(&none);
    let (mut plans, mut queries) = (Vec::new(), Vec::new());
    let mut add = |mode: Option<api::GuardMode>, rule: GuardRule, query: Option<GuardQuery>| {
        let Some(mode) = self::mode(mode) else {
            return;
        };
        plans.push(GuardPlan { rule, mode });
        queries.extend(query);
    };
    let restarts = guards.restarts.clone().unwrap_or_default();
    add(restarts.mode, GuardRule::Restarts, None);

    let spec = guards.client_errors.clone().unwrap_or_default();
    let max_ratio = ratio(
        errors,
        "spec.guards.clientErrors.maxRatio",
        spec.max_ratio.as_ref(),
        2.0,
    );
    // Tasks have no statuses.
    let of_preset = |slo: &&SloQuery| matches!(slo.sli, SliQuery::Availability(_));
    let query = slos.iter().find(of_preset).cloned().map(GuardQuery::ClientErrors);
    add(spec.mode, GuardRule::ClientErrors { max_ratio }, query);

    let spec = guards.memory_growth.clone().unwrap_or_default();
    let max_per_hour = bytes(
        errors,
        "spec.guards.memoryGrowth.maxPerHour",
        spec.max_per_hour.as_ref(),
    );
    let rule = GuardRule::MemoryGrowth { max_per_hour };
    add(spec.mode, rule, Some(GuardQuery::Memory));

    let spec = guards.event_loop_lag.clone().unwrap_or_default();
    let p99 = lag(errors, "spec.guards.eventLoopLag.p99", spec.p99.as_ref());
    let metric = spec.metric.unwrap_or_else(|| LAG.to_owned());
    if !is_metric(&metric) {
        let message = format!(
            "{metric:?} is no name of a metric: write letters, digits and underscores, without _bucket, such as {LAG}"
        );
        errors.push(FieldError::new("spec.guards.eventLoopLag.metric", message));
    }
    let query = GuardQuery::EventLoopLag { metric, p99 };
    add(spec.mode, GuardRule::EventLoopLag { p99 }, Some(query));

    let spec = guards.cpu_per_request.clone().unwrap_or_default();
    let max_ratio = ratio(
        errors,
        "spec.guards.cpuPerRequest.maxRatio",
        spec.max_ratio.as_ref(),
        1.5,
    );
    let rule = GuardRule::CpuPerRequest { max_ratio };
    add(spec.mode, rule, Some(GuardQuery::Cpu));

    let spec = guards.open_files.clone().unwrap_or_default();
    let max_ratio = ratio(
        errors,
        "spec.guards.openFiles.maxRatio",
        spec.max_ratio.as_ref(),
        2.0,
    );
    let rule = GuardRule::OpenFiles { max_ratio };
    add(spec.mode, rule, Some(GuardQuery::OpenFiles));
    for (mode, rule, query) in rare::resolve(guards, errors) {
        add(mode, rule, Some(query));
    }
    (plans, queries)
}

fn is_metric(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    (1..=200).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.ends_with("_bucket")
        && name.chars().all(allowed)
}

fn ratio(errors: &mut Vec<FieldError>, field: &str, written: Option<&api::Decimal>, default: f64) -> f64 {
    let wrong = match written.map(api::Decimal::parse) {
        None => return default,
        Some(Ok(ratio)) if (1.0..=100.0).contains(&ratio) => return ratio,
        Some(Ok(ratio)) => {
            format!(
                "{ratio} is out of range: write 1 to 100, as many times as at stable, such as {default:?}"
            )
        }
        Some(Err(message)) => message,
    };
    errors.push(FieldError::new(field, wrong));
    default
}

fn bytes(errors: &mut Vec<FieldError>, field: &str, written: Option<&api::Bytes>) -> f64 {
    let mebibyte = f64::from(1u32 << 20);
    let default = 64.0 * mebibyte;
    let wrong = match written.map(api::Bytes::parse) {
        None => return default,
        Some(Ok(bytes)) if bytes >= mebibyte => return bytes,
        Some(Ok(_)) => "is less than any process varies by: write 1Mi or more, such as 64Mi".to_owned(),
        Some(Err(message)) => message,
    };
    errors.push(FieldError::new(field, wrong));
    default
}

fn lag(errors: &mut Vec<FieldError>, field: &str, written: Option<&api::Duration>) -> f64 {
    let millisecond = SignedDuration::from_millis(1);
    let default = SignedDuration::from_millis(200);
    let p99 = duration(errors, field, written, default, millisecond);
    if p99 > SignedDuration::from_mins(1) {
        errors.push(FieldError::new(
            field,
            "is longer than a minute, in which no request is answered: write 1ms to 1m, such as 200ms",
        ));
        return default.as_secs_f64();
    }
    p99.as_secs_f64()
}

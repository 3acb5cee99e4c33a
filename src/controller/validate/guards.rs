//! `spec.guards`.

use jiff::SignedDuration;
use molt_core::condition::Bound;
use molt_core::plan::{Check, ConditionPlan, JobPlan};
use serde_json::json;

use super::FieldError;
use super::fields::{check_job_template, check_label, duration, in_range};
use crate::api::v1alpha1 as api;
use crate::controller::revision::digest;
use crate::metric_sources::ConditionQuery;
use crate::metric_sources::conditions::PromqlQuery;
use crate::metric_sources::web::WebQuery;

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
        if let Some((check, query)) = check(&at, condition, progress_deadline, errors) {
            let plan = ConditionPlan {
                name: condition.name.clone(),
                check,
                failure_limit,
            };
            resolved.push((plan, query));
        }
    }
    resolved
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

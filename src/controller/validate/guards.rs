//! `spec.guards`.

use molt_core::condition::Bound;
use molt_core::plan::ConditionPlan;

use super::FieldError;
use super::fields::{check_slo_name, in_range};
use crate::api::v1alpha1 as api;
use crate::metric_sources::ConditionQuery;
use crate::metric_sources::conditions::PromqlQuery;
use crate::metric_sources::web::WebQuery;

/// Thresholds of one service, at most: each is a query in every block.
const MOST_CONDITIONS: usize = 10;

/// The thresholds, each with its query.
pub(super) fn resolve(
    guards: Option<&api::Guards>,
    errors: &mut Vec<FieldError>,
) -> Vec<(ConditionPlan, ConditionQuery)> {
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
        check_slo_name(&at, &condition.name, errors);
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
        let bound = Bound::parse(&condition.success_condition)
            .map_err(|message| FieldError::new(format!("{at}.successCondition"), message));
        let query = source(&at, condition);
        match (bound, query) {
            (Ok(bound), Ok(query)) => {
                let plan = ConditionPlan {
                    name: condition.name.clone(),
                    bound,
                    failure_limit,
                };
                resolved.push((plan, query));
            }
            (bound, query) => errors.extend(bound.err().into_iter().chain(query.err().into_iter().flatten())),
        }
    }
    resolved
}

/// Where the number of a condition comes from.
fn source(at: &str, condition: &api::GuardCondition) -> Result<ConditionQuery, Vec<FieldError>> {
    match (&condition.query, &condition.web) {
        (Some(query), None) => PromqlQuery::parse(&condition.name, query)
            .map(ConditionQuery::Promql)
            .map_err(|error| vec![FieldError::under(at, error)]),
        (None, Some(web)) => WebQuery::parse(web)
            .map(ConditionQuery::Web)
            .map_err(|errors| errors.into_iter().map(|e| FieldError::under(at, e)).collect()),
        (Some(_), Some(_)) => Err(vec![FieldError::new(
            at,
            "has both query and web: make two conditions of it",
        )]),
        (None, None) => Err(vec![FieldError::new(
            at,
            "has neither query nor web: write PromQL, or a URL that answers with JSON",
        )]),
    }
}

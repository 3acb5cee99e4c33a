//! `spec.guards.databaseConnections`.

use molt_core::plan::ConnectionsPlan;

use super::rare::share;
use super::{FieldError, in_range};
use crate::api::v1alpha1 as api;
use crate::metric_sources::conditions::PromqlQuery;
use crate::metric_sources::{ConnectionsLimit, ConnectionsQuery};

const AT: &str = "spec.guards.databaseConnections";

/// What is allowed, and how it is read; `None` where nothing is written, or nothing of use.
pub(in super::super) fn resolve(
    guards: Option<&api::Guards>,
    errors: &mut Vec<FieldError>,
) -> Option<(ConnectionsPlan, ConnectionsQuery)> {
    let written = guards?.database_connections.as_ref()?;
    let per_pod = in_range(
        errors,
        &format!("{AT}.perPod"),
        Some(written.per_pod),
        1..=10_000,
        1,
    );
    let max_share = share(errors, &format!("{AT}.maxShare"), written.max_share.as_ref(), 0.9);
    let max_percent = (max_share * 100.0).round().clamp(1.0, 100.0) as u8;
    let mut parse = |field: &str, query: &str| {
        if query.contains("$selector") {
            let message = "has $selector, which pins the pods of one revision: the connections of a server are everybody's, so name its series by their own labels";
            errors.push(FieldError::new(format!("{AT}.{field}"), message));
            return None;
        }
        PromqlQuery::parse(field, query)
            .map_err(|error| errors.push(FieldError::new(format!("{AT}.{field}"), error.message)))
            .ok()
    };
    let used = parse("query", &written.query);
    let limit = match (&written.limit_query, written.limit) {
        (Some(query), None) => parse("limitQuery", query).map(ConnectionsLimit::Query),
        (None, Some(limit)) if limit > 0 => u32::try_from(limit).ok().map(ConnectionsLimit::Number),
        (None, Some(limit)) => {
            let message = format!("is {limit}: write how many connections the server allows, above 0");
            errors.push(FieldError::new(format!("{AT}.limit"), message));
            None
        }
        (limit_query, _) => {
            let what = if limit_query.is_some() {
                "and limitQuery are both there: leave one out"
            } else {
                "and limitQuery are both missing: write how many connections the server allows, or the query that tells, such as max(pg_settings_max_connections{instance=\"shop-db\"})"
            };
            errors.push(FieldError::new(format!("{AT}.limit"), what));
            None
        }
    };
    let plan = ConnectionsPlan {
        per_pod: u32::try_from(per_pod).unwrap_or(1).max(1),
        max_percent,
    };
    Some((
        plan,
        ConnectionsQuery {
            used: used?,
            limit: limit?,
        },
    ))
}

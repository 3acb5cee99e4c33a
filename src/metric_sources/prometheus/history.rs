//! What an objective's series say of the time before an attempt.
//!
//! It only informs: with none, evidence alone decides and budgets are unknown. So a failure here is no
//! problem of the service's.

use std::time::Duration;

use molt_core::analysis::{Counts, MANY_FALLS, Past};
use molt_core::observed::History;

use super::super::{MeasureRequest, SliQuery, SloQuery};
use super::answer::RawPoint;
use super::ask::{Asker, Failure, Target};
use super::promql::{self, Scope};
use super::reading;

/// Fewer points than these, at two minutes each, say nothing of a day.
const MIN_POINTS: f64 = 3.0;
/// Blocks before the attempt that tell how requests correlate: an hour of half minutes.
const BLOCKS: i32 = 120;

/// The history of one objective, and why nothing can be compared with it, if so.
pub async fn read(
    asker: &Asker,
    request: &MeasureRequest,
    slo: &SloQuery,
    limit: Duration,
) -> (History, Option<Failure>) {
    let days = days(asker, request, slo, limit).await;
    let (past, unusable) = past(asker, request, slo, limit).await;
    let history = History {
        rate: days.map(|days| days.rate),
        budget_remaining: days.and_then(|days| days.budget_remaining),
        past,
        falls: unusable.is_some(),
    };
    (history, unusable)
}

/// What is known of days.
#[derive(Clone, Copy)]
struct Days {
    rate: f64,
    budget_remaining: Option<f64>,
}

/// Requests and what is left of the budget, from the sums of days; `None` where there are not enough of them.
async fn days(asker: &Asker, request: &MeasureRequest, slo: &SloQuery, limit: Duration) -> Option<Days> {
    let scope = Scope::of_sli(
        &request.source,
        &request.namespace,
        &request.service,
        &request.backends.route,
        &slo.sli,
    );
    let target = Target::of(request);
    let rates: Vec<RawPoint> = asker
        .ask(
            &target,
            &promql::request_rate(&scope, &slo.sli, request.source.interval),
            request.now,
            limit,
        )
        .await
        .ok()?;
    let points = value(&rates, Some("points"))?;
    let rate = value(&rates, Some("rate")).filter(|&rate| rate > 0.0)?;
    if points < MIN_POINTS {
        return None;
    }
    let bad: Option<Vec<RawPoint>> = asker
        .ask(
            &target,
            &promql::bad_events(&scope, &slo.sli, slo.objective.window),
            request.now,
            limit,
        )
        .await
        .ok();
    let bad = bad.and_then(|points| match slo.sli {
        // Requests without any bad series had no bad event yet; a histogram always has its buckets.
        SliQuery::Availability(_) | SliQuery::Tasks(_) | SliQuery::Counters { .. } if points.is_empty() => {
            Some(0.0)
        }
        _ => value(&points, None),
    });
    Some(Days {
        rate,
        budget_remaining: bad.and_then(|bad| remaining(bad, rate, slo)),
    })
}

/// What stable's last hundred and twenty blocks tell, read as evidence is. Sums over longer strata would hide
/// what happens within a block, and extrapolated ones would add to it.
///
/// An hour shows counters of several workers for what they are, which a few scrapes may not.
async fn past(
    asker: &Asker,
    request: &MeasureRequest,
    slo: &SloQuery,
    limit: Duration,
) -> (Past, Option<Failure>) {
    let block = request.source.interval * 2;
    // The last samples may not be stored yet.
    let Ok(last) = request.now.checked_sub(request.source.interval) else {
        return (Past::default(), None);
    };
    let edges: Result<Vec<_>, _> = (0..=BLOCKS)
        .rev()
        .map(|back| last.checked_sub(block * back))
        .collect();
    let Ok(edges) = edges else {
        return (Past::default(), None);
    };
    let before = MeasureRequest {
        canary: None,
        edges,
        want_history: false,
        ..request.clone()
    };
    let column = reading::read(asker, &before, slo, limit).await;
    let blocks: Vec<Counts> = column
        .counts
        .into_iter()
        .flatten()
        .map(|counts| counts.stable)
        .collect();
    // Proxies of a route begin again now and then; within an hour that is no sign of several.
    let unusable = column
        .failure
        .filter(|_| column.falls >= MANY_FALLS && slo.sli.at_route().is_none());
    (Past::of(&blocks), unusable)
}

/// The value of the point whose label `what` says so, if it is a number that can be counted with.
fn value(points: &[RawPoint], what: Option<&str>) -> Option<f64> {
    let point = points
        .iter()
        .find(|point| point.metric.get("what").map(String::as_str) == what)?;
    point
        .value
        .map(|sample| sample.1.0)
        .filter(|value| value.is_finite())
}

/// The share of the window's budget that is left: 1 is all of it, negative is overspent.
fn remaining(bad: f64, rate: f64, slo: &SloQuery) -> Option<f64> {
    let objective = &slo.objective;
    let budget = objective.budget(rate * objective.window.as_secs_f64());
    // Extrapolation may find less than nothing.
    let left = 1.0 - bad.max(0.0) / budget;
    left.is_finite().then_some(left.min(1.0))
}

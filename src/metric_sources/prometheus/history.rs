//! What an objective's series say of the time before an attempt.
//!
//! It only informs: with none, evidence alone decides and budgets are unknown. So a failure here is no
//! problem of the service's.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use molt_core::analysis::{Counts, correlation_in};
use molt_core::observed::History;

use super::super::{MeasureRequest, SliQuery, SloQuery};
use super::answer::{RawPoint, RawSeries};
use super::ask::{Asker, Target};
use super::promql::{self, Scope};

/// Fewer points than these, at two minutes each, say nothing of a day.
const MIN_POINTS: f64 = 3.0;

/// The history of one objective, `None` where there is none.
pub async fn read(
    asker: &Asker,
    request: &MeasureRequest,
    slo: &SloQuery,
    limit: Duration,
) -> Option<History> {
    let scope = Scope::of_service(&request.source, &request.namespace, &request.service);
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
        SliQuery::Availability(_) | SliQuery::Counters { .. } if points.is_empty() => Some(0.0),
        _ => value(&points, None),
    });
    Some(History {
        rate,
        budget_remaining: bad.and_then(|bad| remaining(bad, rate, slo)),
        correlation: correlation(asker, request, &target, slo, &scope, limit).await,
    })
}

/// How requests correlate in a short time: from six hours in strata of two minutes, or from the last half
/// hour in strata of four scrapes where the service is younger.
async fn correlation(
    asker: &Asker,
    request: &MeasureRequest,
    target: &Target<'_>,
    slo: &SloQuery,
    scope: &Scope,
    limit: Duration,
) -> Option<f64> {
    let short = request.source.interval * 4;
    let choices = [
        (
            SignedDuration::from_mins(2).max(short),
            SignedDuration::from_hours(6),
        ),
        (short, SignedDuration::from_mins(30)),
    ];
    for (width, span) in choices {
        let ask = |query: String| async move {
            let answer: Result<Vec<RawSeries>, _> = asker.ask(target, &query, request.now, limit).await;
            answer.ok()
        };
        let all = ask(promql::strata_of_events(scope, &slo.sli, width, span)).await?;
        let bad = ask(promql::strata_of_bad_events(scope, &slo.sli, width, span)).await?;
        let strata = strata(&all, &bad);
        if let Some(correlation) = correlation_in(&strata) {
            return Some(correlation);
        }
    }
    None
}

/// The counts of each stratum in order of time. Where there is no bad series there was no bad event.
fn strata(all: &[RawSeries], bad: &[RawSeries]) -> Vec<Counts> {
    let samples = |series: &[RawSeries]| -> BTreeMap<i64, f64> {
        let points = series.iter().flat_map(|s| &s.values);
        points
            .map(|raw| ((raw.0 * 1000.0).round() as i64, raw.1.0))
            .collect()
    };
    let bad = samples(bad);
    samples(all)
        .into_iter()
        .filter_map(|(at, total)| {
            // Extrapolation may find less than nothing of the difference of two increases.
            Counts::new(total, bad.get(&at).copied().unwrap_or(0.0).max(0.0))
        })
        .filter(|counts| counts.total() > 0.0)
        .collect()
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

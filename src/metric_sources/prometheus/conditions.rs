//! Thresholds in PromQL, each an instant query at the last edge.

use std::time::Duration;

use futures::future;
use jiff::Timestamp;
use molt_core::observed::{ConditionReading, ConnectionsReading};

use super::super::conditions::PromqlQuery;
use super::super::{ConditionQuery, ConnectionsLimit, MeasureRequest};
use super::answer::{Instant, RawPoint};
use super::ask::{self, Asker, Failure, Target};
use super::promql::Scope;

/// What each PromQL query gave, in order, and the failures that are not about a value.
pub async fn read(
    asker: &Asker,
    request: &MeasureRequest,
    limit: Duration,
) -> (Vec<ConditionReading>, Vec<Failure>) {
    let (Some(scope), Some(at)) = (Scope::of_canary(request), request.edges.last()) else {
        return (Vec::new(), Vec::new());
    };
    let (matchers, target) = (scope.matchers(), Target::of(request));
    let queries = request.conditions.iter().filter_map(|condition| match condition {
        ConditionQuery::Promql(query) => Some(query),
        ConditionQuery::Web(_) => None,
    });
    let (matchers, target) = (matchers.as_str(), &target);
    let answers = future::join_all(queries.map(|condition| async move {
        let query = condition.for_matchers(matchers);
        let answer = asker.ask::<Instant>(target, &query, *at, limit).await;
        answer.map_err(|failure| match failure.reason {
            // The query is this condition's; everything else is the same for all of them.
            ask::REFUSED => Failure {
                message: format!("condition {:?}: {}", condition.name, failure.message),
                ..failure
            },
            _ => failure,
        })
    }))
    .await;
    let readings = answers.iter().map(|answer| reading(*at, answer)).collect();
    (readings, answers.into_iter().filter_map(Result::err).collect())
}

fn reading(at: Timestamp, answer: &Result<Instant, Failure>) -> ConditionReading {
    let value = match answer {
        Ok(Instant::Scalar(value)) => Ok(value.1.0),
        Ok(Instant::Vector(points)) => one(points),
        Err(failure) => Err(failure.message.clone()),
    };
    ConditionReading { at, value }
}

fn one(points: &[RawPoint]) -> Result<f64, String> {
    match points {
        [point] => point.value.map(|sample| sample.1.0).ok_or_else(|| {
            "the query gives a histogram, not a number: put histogram_quantile() or another function around it"
                .to_owned()
        }),
        [] => Err("the query gives nothing: no series matches, or none has samples yet".to_owned()),
        several => Err(format!(
            "the query gives {} series, and it must be one: aggregate them, such as by sum() or max()",
            several.len()
        )),
    }
}

/// The connections of the database, where they are asked for. What can't be read is the guard's own trouble: objectives are
/// read all the same.
pub async fn connections(
    asker: &Asker,
    request: &MeasureRequest,
    limit: Duration,
) -> Option<Result<ConnectionsReading, String>> {
    let database = request.connections.as_ref()?;
    let at = request.edges.last()?;
    let target = Target::of(request);
    let target = &target;
    let number = |query: PromqlQuery| async move {
        let text = query.for_matchers("");
        let answer = asker.ask::<Instant>(target, &text, *at, limit).await;
        let value = reading(*at, &answer).value;
        value
            .and_then(count)
            .map_err(|why| format!("{}: {why}", query.name))
    };
    let allowed = async {
        match &database.limit {
            ConnectionsLimit::Query(query) => number(query.clone()).await,
            ConnectionsLimit::Number(limit) => Ok(*limit),
        }
    };
    let (used, allowed) = future::join(number(database.used.clone()), allowed).await;
    Some(used.and_then(|used| {
        Ok(ConnectionsReading {
            used,
            limit: allowed?,
        })
    }))
}

/// A number of connections, rounded up.
fn count(value: f64) -> Result<u32, String> {
    if value.is_finite() && (0.0..=1e9).contains(&value) {
        Ok(value.ceil() as u32)
    } else {
        Err(format!("gives {value}, which is no number of connections"))
    }
}

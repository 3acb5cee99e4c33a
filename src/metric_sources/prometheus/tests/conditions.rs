//! Thresholds: what an instant query can give.

use molt_core::observed::{ConditionReading, ConnectionsReading};

use super::super::super::conditions::PromqlQuery;
use super::super::super::{ConditionQuery, ConnectionsLimit, ConnectionsQuery};
use super::*;

fn asking(queries: &[&str]) -> MeasureRequest {
    let conditions = queries.iter().enumerate();
    MeasureRequest {
        conditions: conditions
            .map(|(i, query)| ConditionQuery::Promql(PromqlQuery::parse(&format!("c{i}"), query).unwrap()))
            .collect(),
        ..request(Vec::new())
    }
}

fn scalar(value: &str) -> Reply {
    let data = serde_json::json!({"resultType": "scalar", "result": [1_700_000_030, value]});
    (
        200,
        JSON,
        serde_json::json!({"status": "success", "data": data}).to_string(),
    )
}

async fn value(reply: Reply) -> Result<f64, String> {
    let fake = Fake::new(move |_| reply.clone()).await;
    let measured = fake.measure(asking(&["a{$selector}"])).await;
    assert_eq!(measured.problems, []);
    let [ConditionReading { at: when, value }] = &measured.measurement.conditions[..] else {
        panic!("{measured:?}")
    };
    assert_eq!(*when, at(30), "the last edge");
    value.clone()
}

#[tokio::test]
async fn one_number_is_read_and_anything_else_says_why_it_is_none() {
    assert_eq!(value(vector(&[("", "", "0.75")])).await, Ok(0.75));
    assert_eq!(value(vector(&[("le", "1", "+Inf")])).await, Ok(f64::INFINITY));
    assert_eq!(value(scalar("3")).await, Ok(3.0));
    assert!(value(vector(&[("", "", "NaN")])).await.unwrap().is_nan());
    assert!(value(vector(&[])).await.unwrap_err().contains("gives nothing"));
    let several = value(vector(&[("path", "/a", "1"), ("path", "/b", "2")])).await;
    assert!(several.unwrap_err().contains("gives 2 series"));
    let data = serde_json::json!({"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]});
    let histogram = serde_json::json!({"status": "success", "data": data}).to_string();
    assert!(
        value((200, JSON, histogram))
            .await
            .unwrap_err()
            .contains("gives a histogram")
    );
}

#[tokio::test]
async fn the_selector_pins_the_pods_of_the_revision_under_test() {
    let fake = Fake::new(|_| vector(&[("", "", "1")])).await;
    let mut request = asking(&["max(a{$selector,path=\"/\"})"]);
    request.source.matchers = [("cluster".to_owned(), "eu1".to_owned())].into();
    fake.measure(request.clone()).await;
    assert_eq!(
        fake.queries(),
        [format!(
            "max(a{{namespace=\"shop\",pod=~\"{CANARY}-[a-z0-9]+\",cluster=\"eu1\",path=\"/\"}})"
        )]
    );
    assert_eq!(fake.asked.lock().unwrap()[0]["time"], "1700000030.000");

    request.conditions.clear();
    fake.measure(request).await;
    assert_eq!(fake.queries().len(), 1, "nobody asks for what there is none of");
}

#[tokio::test]
async fn a_query_that_is_refused_is_a_problem_that_names_the_condition() {
    let refused = r#"{"status": "error", "errorType": "bad_data", "error": "many-to-many matching"}"#;
    let fake = Fake::new(move |query: &str| {
        if query.starts_with('b') {
            (422, JSON, refused.to_owned())
        } else {
            vector(&[("", "", "1")])
        }
    })
    .await;
    let measured = fake.measure(asking(&["a", "b"])).await;
    assert_eq!(reasons(&measured), ["QueryRefused"]);
    assert!(measured.problems[0].message.starts_with("condition \"c1\": "));
    let values: Vec<bool> = measured
        .measurement
        .conditions
        .iter()
        .map(|c| c.value.is_ok())
        .collect();
    assert_eq!(values, [true, false]);
}

/// What is read of a database whose queries are answered by this.
async fn connections(
    limit: ConnectionsLimit,
    answer: impl Fn(&str) -> Reply + Clone + Send + Sync + 'static,
) -> Result<ConnectionsReading, String> {
    let fake = Fake::new(answer).await;
    let parse = |query| PromqlQuery::parse("query", query).unwrap();
    let asking = MeasureRequest {
        connections: Some(ConnectionsQuery {
            used: parse("sum(pg_stat_database_numbackends)"),
            limit,
        }),
        ..request(Vec::new())
    };
    let measured = fake.measure(asking).await;
    assert_eq!(measured.problems, [], "it is the guard's own trouble");
    measured.measurement.connections.expect("it was asked for")
}

#[tokio::test]
async fn the_connections_of_a_database_are_read_or_it_says_why_not() {
    let query = |text| ConnectionsLimit::Query(PromqlQuery::parse("limitQuery", text).unwrap());
    let both = |asked: &str| {
        let used = asked.contains("numbackends");
        vector(&[("", "", if used { "41.5" } else { "100" })])
    };
    let read = ConnectionsReading { used: 42, limit: 100 };
    assert_eq!(
        connections(query("max(pg_settings_max_connections)"), both).await,
        Ok(read)
    );
    assert_eq!(connections(ConnectionsLimit::Number(100), both).await, Ok(read));
    let nothing = |asked: &str| {
        if asked.contains("numbackends") {
            vector(&[("", "", "1")])
        } else {
            vector(&[])
        }
    };
    let why = connections(query("max(gone)"), nothing).await.unwrap_err();
    assert!(why.starts_with("limitQuery: the query gives nothing"), "{why}");
    let absurd = |_: &str| vector(&[("", "", "NaN")]);
    let why = connections(ConnectionsLimit::Number(1), absurd)
        .await
        .unwrap_err();
    assert!(why.contains("no number of connections"), "{why}");
}

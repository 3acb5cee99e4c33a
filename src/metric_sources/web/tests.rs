//! Against a server that answers as told.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap as Given;
use axum::routing::get;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::super::headers::{SecretData, SecretReader};
use super::super::{PrometheusSource, RouteBackends, http};
use super::*;
use crate::api::v1alpha1::SecretRef;

type Reply = (u16, String);

/// A server that answers every request with the reply, if it has the token; the last query is in the answer's
/// `asked`.
async fn server(reply: Reply, token: Option<&'static str>) -> String {
    let handler = move |State(reply): State<Reply>, RawQuery(query): RawQuery, given: Given| async move {
        let authorization = given.get("authorization").and_then(|v| v.to_str().ok());
        if token.is_some() && authorization != token {
            return (StatusCode::UNAUTHORIZED, String::new());
        }
        let body = reply.1.replace("ASKED", &query.unwrap_or_default());
        (StatusCode::from_u16(reply.0).unwrap(), body)
    };
    let router = Router::new().route("/checks", get(handler)).with_state(reply);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/checks", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}

struct Token;

impl SecretReader for Token {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, String>> {
        assert_eq!((namespace, name), ("shop", "check-token"));
        Box::pin(async { Ok(vec![("Authorization".to_owned(), b"Bearer hush".to_vec())]) })
    }
}

fn check(url: &str, json_path: &str) -> WebCheck {
    WebCheck {
        url: url.to_owned(),
        json_path: json_path.to_owned(),
        headers_from: None,
        timeout_seconds: Some(1),
    }
}

async fn read(check: &WebCheck) -> Result<f64, String> {
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let request = MeasureRequest {
        source: PrometheusSource::parse(None, "http://unused").unwrap(),
        namespace: "shop".to_owned(),
        service: "checkout".to_owned(),
        slos: Vec::new(),
        canary: Some("checkout-bbbbbbbbbb".to_owned()),
        stable: Some("checkout-aaaaaaaaaa".to_owned()),
        backends: RouteBackends::default(),
        births: BTreeMap::new(),
        warm_at: BTreeMap::new(),
        starts: BTreeMap::new(),
        conditions: vec![ConditionQuery::Web(WebQuery::parse(check).unwrap())],
        guards: Vec::new(),
        connections: None,
        edges: vec![at - Duration::from_secs(30), at],
        want_history: false,
        now: at,
    };
    let headers = Arc::new(Headers::new(Some(Arc::new(Token)), None));
    let web = Web::new(http::client(None).unwrap(), headers);
    let readings = web.read(&request).await;
    assert_eq!(readings.len(), 1);
    assert_eq!(readings[0].at, at);
    readings[0].value.clone()
}

#[tokio::test]
async fn one_number_is_read_and_anything_else_says_why_it_is_none() {
    let body = r#"{"checks": {"p99": 0.25, "all": [1, 2], "text": "hush"}, "ok": true}"#;
    let url = server((200, body.to_owned()), None).await;
    assert_eq!(read(&check(&url, "$.checks.p99")).await, Ok(0.25));
    assert_eq!(read(&check(&url, "$.checks.all[1]")).await, Ok(2.0));
    for (path, part) in [
        (
            "$.checks.all[*]",
            "$.checks.all[*] finds 2 values, and it must be one",
        ),
        ("$.checks.text", "what $.checks.text finds is no number"),
        ("$.ok", "what $.ok finds is no number"),
        ("$.nothing", "$.nothing finds nothing in its answer"),
    ] {
        let why = read(&check(&url, path)).await.unwrap_err();
        assert_eq!(why, format!("{url}: {part}"));
        assert!(!why.contains("hush"));
    }
    for (reply, part) in [
        ((503, body.to_owned()), "it answers HTTP 503"),
        ((302, body.to_owned()), "it answers HTTP 302"),
        ((200, "<html>".to_owned()), "its answer is no JSON"),
        (
            (200, format!("\"{}\"", "x".repeat(MAX_ANSWER))),
            "longer than 1024 KiB",
        ),
    ] {
        let url = server(reply, None).await;
        let why = read(&check(&url, "$.checks.p99")).await.unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    let why = read(&check("http://127.0.0.1:9/checks?key=hush", "$.a"))
        .await
        .unwrap_err();
    assert!(
        why.starts_with("http://127.0.0.1:9/checks: ") && !why.contains("hush"),
        "{why}"
    );
}

#[tokio::test]
async fn the_revision_under_test_and_headers_are_sent() {
    let url = server(
        (200, r#"{"asked": "ASKED", "n": 1}"#.to_owned()),
        Some("Bearer hush"),
    )
    .await;
    let mut check = check(&url, "$.n");
    assert!(read(&check).await.unwrap_err().contains("HTTP 401"));
    check.headers_from = Some(SecretRef {
        name: "check-token".to_owned(),
    });
    assert_eq!(read(&check).await, Ok(1.0));
    check.url = format!("{url}?of=$namespace/$service/$revision");
    let right = "$[?@ == 'of=shop/checkout/bbbbbbbbbb']";
    check.json_path = right.to_owned();
    assert!(
        read(&check).await.unwrap_err().contains("is no number"),
        "it finds the text"
    );
}

#[test]
fn each_bad_field_says_what_to_write() {
    for (url, path, seconds, expected) in [
        ("ftp://a/b", "$.a", None, "web.url: \"ftp://a/b\" is no URL"),
        ("https://", "$.a", None, "web.url: \"https://\" is no URL"),
        ("https://me:hush@a/b", "$.a", None, "web.url: has a password"),
        (
            "https://a/$revision",
            "$.[",
            None,
            "web.jsonPath: \"$.[\" is no JSONPath",
        ),
        ("https://a/b", "p99", None, "web.jsonPath: \"p99\" is no JSONPath"),
        (
            "https://a/b",
            "$.a",
            Some(60),
            "web.timeoutSeconds: 60 is out of range: write 1 to 10",
        ),
    ] {
        let mut check = check(url, path);
        check.timeout_seconds = seconds;
        let errors = WebQuery::parse(&check).unwrap_err();
        assert_eq!(errors.len(), 1);
        let error = errors[0].to_string();
        assert!(error.starts_with(expected) && !error.contains("hush"), "{error}");
    }
}

//! What a viewer is sent.

use axum::body::Body;
use axum::http::StatusCode;
use futures::StreamExt;

use super::super::fleet::{Place, Scope};
use super::super::{MOST_STREAMS, Settings};
use super::{ADA, given, request};
use crate::k8s::Key;

/// The events of a stream until one of this name.
async fn until(stream: &mut axum::body::BodyDataStream, name: &str) -> Vec<(String, String)> {
    let mut events = Vec::new();
    loop {
        let chunk = tokio::time::timeout(std::time::Duration::from_secs(5), stream.next()).await;
        let text = String::from_utf8(chunk.expect("it comes").unwrap().unwrap().to_vec()).unwrap();
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            let field = |name: &str| {
                let line = event.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().trim().to_owned()
            };
            events.push((field("event:"), field("data:")));
        }
        if events.iter().any(|(event, _)| event == name) {
            return events;
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_what_there_is_and_goes_on_with_what_changes() {
    let stage = given(Settings::default(), None);
    let fleet = &stage.app.fleet;
    let key = |name: &str| Key::new("shop", name);
    fleet.put(key("a"), r#"{"name":"a"}"#.to_owned());
    fleet.put(key("b"), r#"{"name":"b"}"#.to_owned());
    fleet.synced(&[key("a"), key("b")].into());
    let response = stage
        .ask(request("GET", "/api/stream", &[ADA], Body::empty()))
        .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let events = until(&mut stream, "whole").await;
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["standing", "rows", "whole"]);
    assert_eq!(
        events[1].1,
        r#"{"reset":false,"rows":[{"name":"a"},{"name":"b"}],"gone":[]}"#
    );
    fleet.put(key("a"), r#"{"name":"a","weight":5}"#.to_owned());
    fleet.remove(&key("b"));
    let events = until(&mut stream, "rows").await;
    assert_eq!(
        events[0].1,
        r#"{"reset":false,"rows":[{"name":"a","weight":5}],"gone":["shop/b"]}"#
    );
    fleet.connected(false);
    let events = until(&mut stream, "standing").await;
    assert!(events[0].1.contains(r#""connected":false"#), "{events:?}");

    // Whoever was there before is sent what came since, and whoever may see nothing is sent nothing.
    let place: Place = fleet.after(None, 9, &Scope::All).place;
    let after = format!("/api/stream?after={place}");
    let response = stage.ask(request("GET", &after, &[ADA], Body::empty())).await;
    let events = until(&mut response.into_body().into_data_stream(), "whole").await;
    assert!(events.iter().all(|(name, _)| name != "rows"), "{events:?}");
    let response = stage
        .ask(request(
            "GET",
            "/api/stream",
            &[("authorization", "Bearer bob")],
            Body::empty(),
        ))
        .await;
    let events = until(&mut response.into_body().into_data_stream(), "whole").await;
    assert!(events[0].1.contains(r#""nothing":true"#), "{events:?}");
    assert_eq!(events[1].1, r#"{"reset":false,"rows":[],"gone":[]}"#);
}

#[tokio::test]
async fn streams_are_bounded() {
    let stage = given(Settings::default(), None);
    let _all = stage
        .app
        .streams
        .clone()
        .try_acquire_many_owned(u32::try_from(MOST_STREAMS).unwrap())
        .unwrap();
    assert_eq!(
        stage.get("/api/stream", &[ADA]).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

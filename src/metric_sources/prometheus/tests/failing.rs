//! What can go wrong.

use super::*;

#[tokio::test]
async fn one_objective_that_fails_leaves_the_others() {
    let samples = [canary_pod(), stable_pod()]
        .map(|pod| series(REQUESTS, &pod, "status=2xx", &[(-10, "10"), (20, "40")]));
    let good = matrix(&samples);
    let refusal = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:9: parse error"}"#;
    let fake = Fake::new(move |query| {
        if query.contains(REQUESTS) {
            good.clone()
        } else {
            (400, JSON, refusal.to_owned())
        }
    })
    .await;
    let measured = fake.measure(request(vec![counters(), availability()])).await;
    let slos = &measured.measurement.blocks[0].slos;
    assert_eq!(slos.len(), 2);
    assert_eq!(slos[0], None);
    assert_eq!(
        slos[1].as_ref().map(without_pods),
        counts((30.0, 0.0), (30.0, 0.0))
    );
    assert_eq!(reasons(&measured), ["QueryRefused"]);
    assert!(
        measured.problems[0].message.contains("parse error"),
        "{}",
        measured.problems[0].message
    );
}

/// Asks for two objectives twice, and finds both unknown, for the same reason each time.
async fn fails(reply: Reply, reason: &str, part: &str) {
    let fake = Fake::new(move |_| reply.clone()).await;
    let first = fake.measure(request(vec![availability(), latency(500)])).await;
    assert_eq!(first.measurement.blocks[0].slos, [None, None], "{part}");
    assert!(
        reasons(&first).iter().all(|found| *found == reason),
        "{part}: {:?}",
        first.problems
    );
    let message = &first.problems[0].message;
    assert!(
        message.contains(part) && message.contains(&fake.address),
        "{part}: {message}"
    );
    assert!(message.chars().count() < 600, "{message}");
    let second = fake.measure(request(vec![availability(), latency(500)])).await;
    assert_eq!(first.problems, second.problems);
}

#[tokio::test]
async fn nonsense_is_a_problem_and_never_a_count() {
    let sample = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"matrix","result":[{{"metric":{{}},"values":[{value}]}}]}}}}"#
        )
    };
    let instant = vector(&[("a", "b", "1")]).2;
    let (word, bare) = (sample(r#"[1700000000,"many"]"#), sample("[1700000000,5]"));
    for (body, part) in [
        ("<html>log in</html>", "a page of HTML"),
        ("", "an empty answer"),
        ("ok", "text that is not JSON"),
        (r#"{"status":"succ"#, "cut off"),
        (r#"{"items":[]}"#, "JSON of another kind"),
        (r#"{"status":"success"}"#, "without a result"),
        (&instant, "\"vector\" instead of a matrix"),
        (&word, "a number in quotes"),
        (&bare, "a number in quotes"),
    ] {
        fails((200, JSON, body.to_owned()), "PrometheusBadAnswer", part).await;
    }
}

#[tokio::test]
async fn refusals_say_who_refuses_what() {
    let slow = r#"{"status":"error","errorType":"timeout","error":"too slow"}"#;
    let long = format!(
        r#"{{"status":"error","errorType":"execution","error":"{}"}}"#,
        "x ".repeat(5000)
    );
    for (status, body, reason, part) in [
        (302, "<a href=x>", "PrometheusBadAnswer", "HTTP 302"),
        (400, "<html>", "PrometheusBadAnswer", "HTTP 400"),
        (401, "", "PrometheusForbidden", "HTTP 401"),
        (403, "<html>", "PrometheusForbidden", "HTTP 403"),
        (404, "404 page not found", "PrometheusBadAnswer", "HTTP 404"),
        (422, &long, "QueryRefused", "x x x"),
        (502, "<h1>Bad Gateway</h1>", "PrometheusBadAnswer", "HTTP 502"),
        (503, slow, "PrometheusBadAnswer", "too slow"),
    ] {
        fails((status, JSON, body.to_owned()), reason, part).await;
    }
}

#[tokio::test]
async fn a_sample_with_an_impossible_time_is_nonsense() {
    let mut sample = series(REQUESTS, &canary_pod(), "status=2xx", &[(0, "1")]);
    sample["values"][0][0] = 1e300.into();
    let measured = Fake::series(vec![sample])
        .await
        .measure(request(vec![availability()]))
        .await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (None, vec!["PrometheusBadAnswer"])
    );
}

#[tokio::test]
async fn no_more_than_eight_questions_at_a_time() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entered, highest) = (Arc::clone(&now), Arc::clone(&most));
    let handler = move || async move {
        highest.fetch_max(entered.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        entered.fetch_sub(1, Ordering::SeqCst);
        let (_, _, body) = matrix(&[]);
        body
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(vec![availability(); 40]);
    request.source.address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/query", post(handler));
    tokio::spawn(async { axum::serve(listener, router).await });
    source(TimeLimits::default()).measure(&request).await;
    assert_eq!((now.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (0, 8));
}

#[tokio::test]
async fn nobody_there_and_no_answer_are_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://user:secret@{}", listener.local_addr().unwrap());
    let mut hanging = request(vec![availability()]);
    hanging.source.address = address;
    hanging.want_history = true;
    let limits = TimeLimits {
        samples: Duration::from_millis(300),
        history: Duration::from_millis(300),
    };
    let source = source(limits);
    let measured = source.measure(&hanging).await;
    assert_eq!(
        (only(&measured), reasons(&measured)),
        (None, vec!["PrometheusUnreachable"])
    );
    let message = &measured.problems[0].message;
    assert!(
        message.contains("no answer within 300ms") && !message.contains("secret"),
        "{message}"
    );
    assert_eq!(
        measured.measurement.history,
        [molt_core::observed::History::default()]
    );

    drop(listener);
    let measured = source.measure(&hanging).await;
    assert_eq!(reasons(&measured), ["PrometheusUnreachable"]);
    assert!(
        measured.problems[0].message.contains("refused"),
        "{}",
        measured.problems[0].message
    );

    hanging.source.address = "http://[".to_owned();
    assert_eq!(
        reasons(&source.measure(&hanging).await),
        ["PrometheusUnreachable"]
    );
}

//! Against a real receiver that fails, hangs, hangs up and asks for patience.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::notices::{attempting, ended};
use super::stage::{Answer, Receiver, Stage, until};
use crate::controller::object::tests::changed;
use crate::notifications::outside::retry_after;

const OK: Answer = Answer::Code(200, "");
const FAILS: Answer = Answer::Code(500, "");

/// The status after an attempt ended just now.
fn now(outcome: &str, reason: &str, phase: &str) -> Value {
    let mut status = ended(outcome, reason, phase);
    let at = Timestamp::now();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!(at);
    }
    status["state"]["last"]["startedAt"] = json!(at);
    status["state"]["last"]["endedAt"] = json!(at);
    status
}

fn webhook(receiver: &Receiver) -> Value {
    json!({"name": "hook", "webhook": {"url": format!("{}/hush?token=hush", receiver.address), "allowHttp": true}})
}

async fn settles() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn a_receiver_that_fails_hangs_and_hangs_up_is_told_once_it_takes_it() {
    let answers = [
        FAILS,
        Answer::Hang,
        Answer::Close,
        Answer::Code(429, "retry-after: 1\r\n"),
        OK,
    ];
    let receiver = Receiver::answering(&answers);
    let stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
    let began = Instant::now();
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("it has arrived", || {
        stage.status().sinks.is_some_and(|s| s[0].delivered == 1)
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(1), "it asked for a second");
    let got = receiver.got();
    assert_eq!(got.len(), 5, "{got:?}");
    let id = |i: usize| {
        got[i]
            .headers
            .iter()
            .find(|h| h.starts_with("idempotency-key"))
            .cloned()
    };
    assert!(
        id(0).is_some() && (1..5).all(|i| id(i) == id(0)),
        "a receiver can tell repetitions"
    );
    assert_eq!(got[4].body["event"], "RolledBack");
    assert_eq!(
        (
            stage.counted("webhook", "retried"),
            stage.counted("webhook", "delivered")
        ),
        (4, 1)
    );
    let sink = stage.status().sinks.unwrap().remove(0);
    assert_eq!((sink.failed, sink.dropped, sink.told.len()), (0, 0, 1));
    assert_eq!(sink.last_delivery.unwrap().service, "checkout");
    assert_eq!(stage.condition("Ready").unwrap().1, "Deliverable");
    assert_eq!(stage.condition("Delivering").unwrap().1, "Delivered");
}

#[tokio::test]
async fn giving_up_is_told_and_keeps_no_other_sink_waiting() {
    let (broken, works) = (Receiver::answering(&[FAILS]), Receiver::answering(&[OK]));
    let mut bad = webhook(&broken);
    bad["name"] = json!("bad");
    let stage = Stage::of(json!({"sinks": [bad, webhook(&works)]}));
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("the other one was told", || works.got().len() == 1).await;
    until("it was given up", || stage.counted("webhook", "gave_up") == 1).await;
    until("that is said", || {
        stage.condition("Delivering").is_some_and(|c| c.0 == "False")
    })
    .await;
    let (_, reason, message) = stage.condition("Delivering").unwrap();
    assert_eq!(reason, "DeliveryFailed");
    assert!(
        message.contains("sink bad: it answers HTTP 500; given up after 6 tries"),
        "{message}"
    );
    let status = serde_json::to_string(&stage.status()).unwrap();
    assert!(
        !status.contains("hush") && !status.contains("127.0.0.1"),
        "{status}"
    );
    assert_eq!(broken.got().len(), 6);
    // What works again says so.
    stage.tell_of("cart", "u-2", &now("RolledBack", "HarmShown", "RolledBack"));
    until("the other one was told again", || works.got().len() == 2).await;
}

#[tokio::test]
async fn what_will_never_be_taken_is_not_tried_again_and_no_redirect_is_followed() {
    let target = Receiver::answering(&[OK]);
    let location = format!("location: {}/\r\n", target.address);
    for (code, more, part) in [
        (404, "", "nobody is there"),
        (403, "", "the token in its URL or headers is refused"),
        (302, &*location, "it redirects (HTTP 302)"),
        (307, &*location, "it redirects (HTTP 307)"),
    ] {
        let receiver = Receiver::answering(&[Answer::Code(code, more.to_owned().leak())]);
        let stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
        stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
        until("it was given up", || {
            stage.condition("Delivering").is_some_and(|c| c.2.contains(part))
        })
        .await;
        assert_eq!(receiver.got().len(), 1);
    }
    assert!(target.got().is_empty());
}

#[tokio::test]
async fn a_wait_that_is_longer_than_it_is_worth_is_not_waited() {
    let receiver = Receiver::answering(&[Answer::Code(503, "retry-after: 3600\r\n")]);
    let stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("it was given up", || stage.counted("webhook", "gave_up") == 1).await;
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(retry_after(" 7 ", at), Some(Duration::from_secs(7)));
    assert_eq!(
        retry_after("Thu, 01 Jan 2026 00:00:30 GMT", at),
        Some(Duration::from_secs(30))
    );
    assert_eq!(
        retry_after("Wed, 31 Dec 2025 00:00:30 GMT", at),
        Some(Duration::ZERO)
    );
    assert_eq!(retry_after("soon", at), None);
}

#[tokio::test]
async fn nobody_is_told_twice_across_restarts_and_what_a_crash_cut_off_is_told() {
    let receiver = Receiver::answering(&[Answer::Hang, OK]);
    let mut stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
    let status = now("RolledBack", "HarmShown", "RolledBack");
    stage.tell(&status);
    until("it is on its way", || receiver.got().len() == 1).await;
    stage.kill();
    stage.start();
    stage.tell(&status);
    until("the next leader has told it", || {
        stage.status().sinks.is_some_and(|s| s[0].delivered == 1)
    })
    .await;
    assert_eq!(receiver.got().len(), 2);
    stage.tell(&status);
    stage.stop().await;
    let writes = stage.writes();
    stage.start();
    stage.tell(&status);
    settles().await;
    assert_eq!(receiver.got().len(), 2, "{:?}", receiver.got());
    assert_eq!(
        stage.writes(),
        writes,
        "a leader that has nothing to say writes nothing"
    );
    // What is old is not news to a leader that knows nothing of it.
    let mut old = ended("RolledBack", "BurnRate", "RolledBack");
    old["state"]["last"]["endedAt"] = json!("2026-01-01T00:05:00Z");
    stage.tell_of("old", "u-9", &old);
    settles().await;
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn somebody_is_paged_once_and_the_incident_ends_with_it_also_after_a_restart() {
    let receiver = Receiver::answering(&[OK]);
    let pager = json!({"name": "pager", "pagerDuty": {
        "routingKeyFrom": {"name": "pd", "key": "key"}, "url": receiver.address, "allowHttp": true,
    }});
    let mut stage = Stage::of(json!({"sinks": [pager]}));
    stage.secret("pd", "key", "hush\n");
    stage.tell(&now("Promoted", "Promoted", "Healthy"));
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("somebody is paged", || {
        stage.status().sinks.is_some_and(|s| s[0].delivered == 1)
    })
    .await;
    stage.stop().await;
    stage.start();
    stage.tell(&now("Promoted", "Promoted", "Healthy"));
    until("it is resolved", || receiver.got().len() == 2).await;
    assert_eq!(receiver.told("event_action"), ["trigger", "resolve"]);
    assert_eq!(receiver.told("routing_key"), ["hush", "hush"]);
    until("it is closed", || {
        stage.status().sinks.is_some_and(|s| s[0].open.is_empty())
    })
    .await;
    // A service that is deleted keeps nobody awake.
    stage.tell(&now("RolledBack", "BurnRate", "RolledBack"));
    until("somebody is paged again", || receiver.got().len() == 3).await;
    stage.outbox.gone(&changed(|_| ()), Timestamp::now());
    until("that is resolved", || receiver.got().len() == 4).await;
    assert!(!serde_json::to_string(&stage.status()).unwrap().contains("hush"));
}

#[tokio::test]
async fn the_rate_limit_is_told_and_leaves_no_call_out() {
    let receiver = Receiver::answering(&[OK]);
    let mut sink = webhook(&receiver);
    sink["rateLimit"] = json!({"perMinute": 2});
    let stage = Stage::of(json!({"sinks": [sink], "events": ["Promoted", "RolledBack"]}));
    for i in 0..5 {
        stage.tell_of(
            &format!("s{i}"),
            &format!("u-{i}"),
            &now("Promoted", "Promoted", "Healthy"),
        );
    }
    until("two arrive and three are left out", || {
        stage.counted("webhook", "rate_limited") == 3 && receiver.got().len() == 2
    })
    .await;
    stage.tell_of("s5", "u-5", &now("RolledBack", "HarmShown", "RolledBack"));
    until("that is said", || {
        stage
            .status()
            .sinks
            .is_some_and(|s| s[0].dropped == 3 && s[0].delivered == 3)
    })
    .await;
    assert_eq!(receiver.told("service"), ["s0", "s1", "s5"]);
    assert_eq!(receiver.got()[2].body["omittedBefore"], 3);
    let (_, reason, message) = stage.condition("Delivering").unwrap();
    assert_eq!(reason, "Delivered");
    assert!(message.contains("3 were left out"), "{message}");
}

#[tokio::test]
async fn a_policy_that_can_not_be_used_says_why_and_is_used_once_it_can() {
    let receiver = Receiver::answering(&[OK]);
    let slack = |key: &str| json!({"sinks": [{"name": "chat", "slack": {"urlFrom": {"name": "hooks", "key": key}, "allowHttp": true}}]});
    let stage = Stage::of(slack("slack"));
    let says = async |reason: &str, part: &str| {
        let said = || {
            stage
                .condition("Ready")
                .is_some_and(|c| c.1 == reason && c.2.contains(part))
        };
        until(part, said).await;
    };
    says(
        "SecretUnusable",
        "spec.sinks[chat].slack.urlFrom: Secret shop/hooks does not exist: create it",
    )
    .await;
    stage.secret("hooks", "url", "hush");
    stage.apply(slack("slack"), 2);
    says("SecretUnusable", "Secret shop/hooks has no key \"slack\": add it").await;
    stage.apply(slack("url"), 3);
    says(
        "UrlInvalid",
        "the value of \"url\" in Secret shop/hooks: it is no URL: write https://",
    )
    .await;
    stage.apply(json!({"sinks": [{"name": "chat"}]}), 4);
    says("PolicyInvalid", "spec.sinks[chat]: is of no kind").await;
    stage.apply(slack("url"), 5);
    stage.secret("hooks", "url", &receiver.address);
    says("Deliverable", "1 sinks can be told").await;
    assert_eq!(stage.status().observed_generation, Some(5));
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("it is told", || receiver.got().len() == 1).await;
    assert!(receiver.told("text")[0].contains("rolled back"));
}

#[tokio::test]
async fn nothing_more_is_sent_for_a_policy_that_is_gone() {
    let receiver = Receiver::answering(&[Answer::Code(503, "retry-after: 1\r\n"), OK]);
    let stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("it was tried", || stage.counted("webhook", "retried") == 1).await;
    stage.delete();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn a_full_outbox_keeps_nobody_waiting_and_without_a_policy_nothing_is_handed_over() {
    let receiver = Receiver::answering(&[OK]);
    let stage = Stage::of(json!({"sinks": [webhook(&receiver)]}));
    let (outbox, mut handovers) = stage.unattended();
    let mut object = changed(|_| ());
    let status = serde_json::from_value(now("RolledBack", "HarmShown", "RolledBack")).unwrap();
    for i in 0..1030 {
        object.metadata.name = Some(format!("s{i}"));
        outbox.tell(&object, &status, Timestamp::now());
    }
    // The start and the end of each that found no room.
    assert_eq!(stage.counted("none", "dropped"), 12);
    while handovers.try_recv().is_ok() {}
    // Again the same is no news.
    outbox.tell(&object, &status, Timestamp::now());
    assert!(handovers.try_recv().is_err());
    stage.delete();
    object.metadata.name = Some("other".to_owned());
    outbox.tell(&object, &status, Timestamp::now());
    assert!(handovers.try_recv().is_err());
}

#[tokio::test]
async fn somebody_is_called_before_news_that_were_not_taken_and_the_all_clear_comes_after() {
    let receiver = Receiver::answering(&[
        Answer::Code(503, "retry-after: 2\r\n"),
        Answer::Code(503, "retry-after: 1\r\n"),
        OK,
    ]);
    let events = json!(["Started", "RolledBack", "Healthy"]);
    let stage = Stage::of(json!({"sinks": [webhook(&receiver)], "events": events}));
    let mut begins = attempting(&json!({"name": "Stepping"}), "Progressing");
    let at = Timestamp::now();
    begins["state"]["attempt"]["startedAt"] = json!(at);
    for transition in begins["state"]["attempt"]["transitions"].as_array_mut().unwrap() {
        transition["at"] = json!(at);
    }
    stage.tell(&begins);
    until("the news are not taken", || {
        stage.counted("webhook", "retried") == 1
    })
    .await;
    stage.tell(&now("RolledBack", "HarmShown", "RolledBack"));
    until("the call is not taken", || {
        stage.counted("webhook", "retried") == 2
    })
    .await;
    stage.tell(&now("Promoted", "Promoted", "Healthy"));
    until("all have arrived", || stage.counted("webhook", "delivered") >= 3).await;
    let told = receiver.told("event");
    assert_eq!(told[..2], ["Started", "RolledBack"], "{told:?}");
    let when = |event: &str| told.iter().rposition(|told| told == event).unwrap();
    assert!(when("RolledBack") < when("Healthy"), "{told:?}");
    assert!(when("RolledBack") < when("Started"), "{told:?}");
}

//! What sinks are told, with names and messages that come from anywhere.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::api::v1alpha1::{NotificationEvent, NotificationPolicySpec};
use crate::notifications::notice::Notice;
use crate::notifications::policy::{Plan, SinkPlan};
use crate::notifications::render::{Body, Facts, body, mrkdwn};

const NASTY: &str = "<b>bad</b> & \"quoted\" \\ *bold* _it_ `code` ~no~ <!channel> <@U1>\n> quote\r\n{{title}} é\u{0} [x](http://evil)";

/// A validated policy.
pub fn plan(spec: Value) -> Result<Plan, Vec<String>> {
    let spec: NotificationPolicySpec = serde_json::from_value(spec).unwrap();
    let told = |errors: Vec<crate::controller::validate::FieldError>| {
        errors
            .iter()
            .map(|e| format!("{}: {}", e.field, e.message))
            .collect()
    };
    Plan::parse(&spec).map_err(told)
}

fn sink(sink: Value) -> SinkPlan {
    plan(json!({"sinks": [sink]})).unwrap().sinks.remove(0)
}

fn rendered(sink: &SinkPlan, message: &str, event: NotificationEvent) -> Body {
    let example = Facts::example();
    let notice = Notice {
        event,
        message: message.to_owned(),
        ..example.notice.clone().into_owned()
    };
    let facts = Facts {
        notice: Cow::Owned(notice),
        omitted: 3,
        ..example
    };
    body(sink, &facts)
}

fn secret() -> Value {
    json!({"urlFrom": {"name": "s", "key": "k"}})
}

/// Every string that is in a value.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, found)),
        _ => {}
    }
}

#[test]
fn slack_shows_what_comes_from_elsewhere_as_plain_text() {
    let told = rendered(
        &sink(json!({"name": "s", "slack": secret()})),
        NASTY,
        NotificationEvent::RolledBack,
    );
    let blocks = told.json["blocks"].as_array().unwrap();
    assert_eq!(
        blocks[1]["text"],
        json!({"type": "plain_text", "text": NASTY, "emoji": false})
    );
    assert!(blocks.iter().all(|block| block["text"]["type"] != "mrkdwn"));
    let text = told.json.to_string();
    assert!(
        text.contains("kubectl molt history checkout -n shop --revision 0a1b2c3d4e"),
        "{text}"
    );
    assert!(
        text.contains("https://molt.example/ns/shop/services/checkout"),
        "{text}"
    );
    assert!(text.contains("3 notifications before this one"), "{text}");
    // Slack refuses texts that are empty or too long.
    let empty = rendered(
        &sink(json!({"name": "s", "slack": secret()})),
        " ",
        NotificationEvent::Paused,
    );
    assert_eq!(empty.json["blocks"][1]["text"]["text"], "–");
    let long = rendered(
        &sink(json!({"name": "s", "slack": secret()})),
        &"é".repeat(9000),
        NotificationEvent::Paused,
    );
    assert_eq!(
        long.json["blocks"][1]["text"]["text"]
            .as_str()
            .unwrap()
            .chars()
            .count(),
        1500
    );
}

#[test]
fn nothing_in_a_template_of_slack_is_markup_but_the_template() {
    let with = sink(json!({"name": "s", "slack": secret(), "template": "*{{service}}*: {{ message }}"}));
    let told = rendered(&with, NASTY, NotificationEvent::RolledBack);
    let text = told.json["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(
        text.starts_with("*checkout*: &lt;b&gt;bad&lt;/b&gt; &amp; "),
        "{text}"
    );
    let rest = text.strip_prefix("*checkout*: ").unwrap();
    assert!(!rest.contains(['<', '>', '\n', '\r']), "{rest}");
    let chars: Vec<char> = rest.chars().collect();
    for pair in chars.windows(2) {
        assert!(
            !['*', '_', '`', '~', '@'].contains(&pair[1]) || pair[0] == '\u{200b}',
            "{rest}"
        );
    }
    assert!(
        text.contains("{{title}}"),
        "what is filled in is not filled in again"
    );
    assert_eq!(mrkdwn("<!channel>"), "&lt;!channel&gt;");
}

#[test]
fn teams_pager_duty_and_machines_get_it_as_it_is() {
    let teams = rendered(
        &sink(json!({"name": "t", "teams": secret()})),
        NASTY,
        NotificationEvent::Degraded,
    );
    let card = &teams.json["attachments"][0]["content"];
    assert_eq!(card["body"][1]["inlines"][0]["text"], NASTY);
    let kinds = card["body"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| &block["type"]);
    assert!(
        kinds.into_iter().all(|kind| kind == "RichTextBlock"),
        "text blocks are Markdown"
    );

    let url = json!({"url": "https://hooks.example/x"});
    let webhook = rendered(
        &sink(json!({"name": "w", "webhook": url})),
        NASTY,
        NotificationEvent::Degraded,
    );
    assert_eq!(
        (&webhook.json["message"], &webhook.json["event"]),
        (&json!(NASTY), &json!("Degraded"))
    );
    assert_eq!(webhook.json["omittedBefore"], 3);

    for (told, path) in [
        (&webhook.json["owner"], "team \"checkout\" <@U1>"),
        (&webhook.json["runbook"], "https://runbooks.example/checkout"),
        (&card["actions"][1]["url"], "https://runbooks.example/checkout"),
    ] {
        assert_eq!(told, path);
    }

    let event = rendered(
        &sink(json!({"name": "c", "cloudEvents": url})),
        NASTY,
        NotificationEvent::Degraded,
    );
    assert_eq!(event.content_type, "application/cloudevents+json");
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("id", "0123456789ab"),
        ("type", "dev.molt.rollout.degraded"),
        (
            "source",
            "/apis/molt.dev/v1alpha1/namespaces/shop/pythonservices/checkout",
        ),
    ] {
        assert_eq!(event.json[attribute], value);
    }
    assert_eq!(event.json["data"]["message"], NASTY);

    let key = json!({"routingKeyFrom": {"name": "pd", "key": "key"}});
    let pager = sink(json!({"name": "p", "pagerDuty": key}));
    let page = rendered(&pager, NASTY, NotificationEvent::Degraded);
    assert_eq!(
        (&page.json["event_action"], &page.json["payload"]["severity"]),
        (&json!("trigger"), &json!("critical"))
    );
    let resolve = rendered(&pager, NASTY, NotificationEvent::Healthy);
    assert_eq!(resolve.json["event_action"], "resolve");
    assert_eq!(resolve.json["dedup_key"], page.json["dedup_key"]);
}

#[test]
fn a_webhooks_template_makes_json_whatever_is_filled_in() {
    let with = json!({"name": "w", "webhook": {"url": "https://x.example/"}, "template": "{\"text\": \"{{title}} – {{message}}\", \"n\": 1}"});
    let told = rendered(&sink(with), NASTY, NotificationEvent::Paused);
    assert_eq!(told.json["n"], 1);
    assert!(told.json["text"].as_str().unwrap().ends_with(NASTY));
    let mut all = Vec::new();
    strings(&told.json, &mut all);
    assert_eq!(all.len(), 1, "no value makes another field: {all:?}");
}

#[test]
fn what_can_not_be_used_is_named_with_its_field_and_a_fix() {
    let https = json!({"url": "https://x.example/"});
    for (sink, part) in [
        (json!({"name": "a"}), "spec.sinks[a]: is of no kind"),
        (
            json!({"name": "a", "slack": secret(), "teams": secret()}),
            "spec.sinks[a]: is of no kind, or of several",
        ),
        (
            json!({"name": "a", "webhook": {"url": "hush://x"}}),
            "spec.sinks[a].webhook.url: it is no URL",
        ),
        (
            json!({"name": "a", "webhook": {}}),
            "spec.sinks[a].webhook.url: set exactly one",
        ),
        (
            json!({"name": "a", "webhook": {"url": "http://hush.example/"}}),
            "write https://, or set allowHttp",
        ),
        (
            json!({"name": "a", "webhook": {"url": "https://hush:b@x.example/"}}),
            "headersFrom",
        ),
        (
            json!({"name": "a", "webhook": https, "template": "{\"a\": {{message}}}"}),
            "spec.sinks[a].template: it makes no JSON",
        ),
        (
            json!({"name": "a", "slack": secret(), "template": "{{nme}}"}),
            "{{nme}} is no field: write one of event, title",
        ),
        (
            json!({"name": "a", "slack": secret(), "template": "{{service"}),
            "is not closed",
        ),
        (
            json!({"name": "a", "cloudEvents": https, "template": "x"}),
            "leave the template out",
        ),
    ] {
        let errors = plan(json!({"sinks": [sink]})).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(part), "{errors:?}");
        assert!(!errors[0].contains("hush"), "{errors:?}");
    }
    let twice = plan(json!({"sinks": [{"name": "a", "slack": secret()}, {"name": "a", "slack": secret()}]}));
    assert!(twice.unwrap_err()[0].contains("is there twice"));
}

#[test]
fn selectors_and_events_choose() {
    let labels = |team: &str| [("team".to_owned(), team.to_owned())].into();
    let all = plan(json!({"sinks": [{"name": "a", "slack": secret()}]})).unwrap();
    assert!(all.selects("cart", &labels("shop")));
    let some = plan(json!({
        "selector": {"matchLabels": {"team": "shop"}, "names": ["cart"]}, "events": ["Promoted", "Degraded"],
        "sinks": [
            {"name": "a", "slack": secret()},
            {"name": "p", "pagerDuty": {"routingKeyFrom": {"name": "pd", "key": "key"}}},
        ],
    }))
    .unwrap();
    assert!(some.selects("cart", &labels("shop")));
    assert!(!some.selects("cart", &labels("other")) && !some.selects("checkout", &labels("shop")));
    let tells = |sink: usize, event| some.tells(&some.sinks[sink], event);
    assert!(tells(0, NotificationEvent::Promoted) && !tells(0, NotificationEvent::Healthy));
    // Nobody is paged for a promotion, and what was paged for is resolved.
    assert!(!tells(1, NotificationEvent::Promoted) && !tells(1, NotificationEvent::RolledBack));
    assert!(tells(1, NotificationEvent::Degraded) && tells(1, NotificationEvent::Healthy));
}

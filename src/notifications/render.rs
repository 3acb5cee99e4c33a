//! The words, for each kind of sink. Names and messages come from anywhere: none of them is markup in any sink.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::notice::Notice;
use super::policy::{Form, SinkPlan};
use super::template::{Field, Template};
use crate::api::v1alpha1::{NotificationEvent, PagerDutySeverity};

/// The longest text in a sink, in characters: what Slack takes in one section, with room for escapes.
const MAX_TEXT: usize = 1500;
/// The longest headline; PagerDuty takes 1024, Slack's headers 150.
const MAX_TITLE: usize = 150;

/// What is known of a notification.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// What happened.
    pub notice: Cow<'a, Notice>,
    /// Where.
    pub namespace: &'a str,
    /// The PythonService.
    pub service: &'a str,
    /// Its UID.
    pub uid: &'a str,
    /// Who is called for it, if it is said.
    pub owner: Option<&'a str>,
    /// Where it is written what to do, if it is said.
    pub runbook: Option<&'a str>,
    /// Where the dashboard is, if there is one.
    pub dashboard: Option<&'a str>,
    /// Notifications before this one that the rate limit left out.
    pub omitted: u64,
}

impl Facts<'_> {
    /// An example, with what is hard to write.
    pub fn example() -> Facts<'static> {
        let notice = Notice {
            event: NotificationEvent::RolledBack,
            reason: "HarmShown".to_owned(),
            message: "a \"message\" with <tags>,\nlines and \\".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            revision: Some("0a1b2c3d4e".to_owned()),
            attempt: Some(1),
            weight: Some(10),
            id: "0123456789ab".to_owned(),
            lasts: false,
        };
        Facts {
            notice: Cow::Owned(notice),
            namespace: "shop",
            service: "checkout",
            uid: "u-1",
            owner: Some("team \"checkout\" <@U1>"),
            runbook: Some("https://runbooks.example/checkout"),
            dashboard: Some("https://molt.example"),
            omitted: 0,
        }
    }

    /// What a field of a template stands for.
    pub fn field(&self, field: Field) -> String {
        let notice = &self.notice;
        let number = |n: Option<u32>| n.map_or_else(String::new, |n| n.to_string());
        match field {
            Field::Event => event(notice.event),
            Field::Title => self.title(),
            Field::Reason => notice.reason.clone(),
            Field::Message => cut(&notice.message, MAX_TEXT),
            Field::Namespace => self.namespace.to_owned(),
            Field::Service => self.service.to_owned(),
            Field::Revision => notice.revision.clone().unwrap_or_default(),
            Field::Attempt => number(notice.attempt),
            Field::Weight => number(notice.weight.map(u32::from)),
            Field::At => notice.at.to_string(),
            Field::Command => self.command(),
            Field::Owner => self.owner.unwrap_or_default().to_owned(),
            Field::Runbook => self.runbook.unwrap_or_default().to_owned(),
            Field::Url => self.url().unwrap_or_default(),
            Field::Omitted if self.omitted > 0 => self.omitted.to_string(),
            Field::Omitted => String::new(),
            Field::Id => notice.id.clone(),
        }
    }

    /// The headline.
    fn title(&self) -> String {
        let what = match self.notice.event {
            NotificationEvent::Started => "a rollout began",
            NotificationEvent::Progressed => "the rollout goes on",
            NotificationEvent::Warning => "a warning of the rollout",
            NotificationEvent::Promoted => "promoted",
            NotificationEvent::RolledBack => "rolled back",
            NotificationEvent::Aborted => "aborted",
            NotificationEvent::Superseded => "superseded",
            NotificationEvent::WaitingForApproval => "waits for approval",
            NotificationEvent::Paused => "paused",
            NotificationEvent::Degraded => "degraded",
            NotificationEvent::BudgetExhausted => "error budget exhausted",
            NotificationEvent::Healthy => "healthy again",
        };
        cut(&format!("{}/{}: {what}", self.namespace, self.service), MAX_TITLE)
    }

    /// The command that shows more: the record of an attempt, or where the service is.
    fn command(&self) -> String {
        let (namespace, service) = (self.namespace, self.service);
        match (&self.notice.revision, self.notice.attempt) {
            (Some(revision), Some(_)) => {
                format!("kubectl molt history {service} -n {namespace} --revision {revision}")
            }
            _ => format!("kubectl molt explain {service} -n {namespace}"),
        }
    }

    /// The service's page in the dashboard.
    fn url(&self) -> Option<String> {
        let base = self.dashboard?.trim_end_matches('/');
        Some(format!("{base}/ns/{}/services/{}", self.namespace, self.service))
    }

    /// Where links lead, and what they are called.
    fn links(&self) -> Vec<(&'static str, String)> {
        let runbook = self.runbook.map(|url| ("Runbook", url.to_owned()));
        let dashboard = self.url().map(|url| ("Dashboard", url));
        dashboard.into_iter().chain(runbook).collect()
    }

    /// What machines read, the same for webhooks, CloudEvents and PagerDuty.
    fn data(&self) -> Value {
        let notice = &self.notice;
        let mut data = Map::new();
        let mut put = |key: &str, value: Value| {
            if !value.is_null() {
                data.insert(key.to_owned(), value);
            }
        };
        put("event", json!(event(notice.event)));
        put("reason", json!(notice.reason));
        put("message", json!(notice.message));
        put("at", json!(notice.at));
        put("namespace", json!(self.namespace));
        put("service", json!(self.service));
        put("uid", json!(self.uid));
        put("revision", json!(notice.revision));
        put("attempt", json!(notice.attempt));
        put("weight", json!(notice.weight));
        put("command", json!(self.command()));
        put("url", json!(self.url()));
        put("owner", json!(self.owner));
        put("runbook", json!(self.runbook));
        put("omittedBefore", json!((self.omitted > 0).then_some(self.omitted)));
        Value::Object(data)
    }

    fn omitted_text(&self) -> Option<String> {
        (self.omitted > 0).then(|| {
            format!(
                "{} notifications before this one were left out by the rate limit",
                self.omitted
            )
        })
    }
}

/// A request's body, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// The media type.
    pub content_type: &'static str,
    /// The document. PagerDuty's lacks its routing key.
    pub json: Value,
}

/// The body for a sink.
pub fn body(sink: &SinkPlan, facts: &Facts<'_>) -> Body {
    let template = sink.template.as_ref();
    let json = match &sink.form {
        Form::Slack => slack(template, facts),
        Form::Teams => teams(template, facts),
        Form::Webhook => webhook(template, facts),
        Form::CloudEvents => {
            return Body {
                content_type: "application/cloudevents+json",
                json: cloud_event(facts),
            };
        }
        Form::PagerDuty { severity, .. } => pager_duty(template, *severity, facts),
    };
    Body {
        content_type: "application/json",
        json,
    }
}

/// Block Kit. What comes from elsewhere is in blocks of plain text, where nothing is markup; a template is mrkdwn.
fn slack(template: Option<&Template>, facts: &Facts<'_>) -> Value {
    let plain = |text: String| json!({"type": "plain_text", "text": text, "emoji": false});
    let title = facts.title();
    let mut blocks = match template {
        Some(template) => {
            let text = cut(&template.fill(facts, mrkdwn), 2 * MAX_TEXT);
            vec![json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})]
        }
        None => vec![
            json!({"type": "header", "text": plain(title.clone())}),
            json!({"type": "section", "text": plain(one_or_more(cut(&facts.notice.message, MAX_TEXT)))}),
            json!({"type": "context", "elements": [plain(line(facts))]}),
        ],
    };
    let buttons = facts.links().into_iter().map(
        |(name, url)| json!({"type": "button", "text": plain(name.to_owned()), "url": url, "action_id": name}),
    );
    let buttons: Vec<Value> = buttons.collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    if let Some(text) = facts.omitted_text() {
        blocks.push(json!({"type": "context", "elements": [plain(text)]}));
    }
    // What a phone shows; it is mrkdwn.
    json!({"text": mrkdwn(&title), "blocks": blocks})
}

/// An Adaptive Card. Text runs are shown as they are; only text blocks would be Markdown.
fn teams(template: Option<&Template>, facts: &Facts<'_>) -> Value {
    let run = |text: String, weight: &str| json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, "weight": weight}]});
    let mut body = match template {
        Some(template) => vec![run(cut(&template.fill(facts, as_is), 2 * MAX_TEXT), "Default")],
        None => vec![
            run(facts.title(), "Bolder"),
            run(one_or_more(cut(&facts.notice.message, MAX_TEXT)), "Default"),
            run(line(facts), "Lighter"),
        ],
    };
    body.extend(facts.omitted_text().map(|text| run(text, "Lighter")));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard", "version": "1.4", "body": body,
    });
    let actions = facts.links().into_iter();
    let actions = actions.map(|(name, url)| json!({"type": "Action.OpenUrl", "title": name, "url": url}));
    let actions: Vec<Value> = actions.collect();
    if !actions.is_empty() {
        card["actions"] = json!(actions);
    }
    json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
    }]})
}

fn webhook(template: Option<&Template>, facts: &Facts<'_>) -> Value {
    let filled = template.map(|template| template.fill(facts, json_text));
    // Validation has seen that it makes JSON, and escapes keep it so.
    let filled = filled.and_then(|text| serde_json::from_str(&text).ok());
    filled.unwrap_or_else(|| {
        let mut data = facts.data();
        data["id"] = json!(facts.notice.id);
        data
    })
}

fn cloud_event(facts: &Facts<'_>) -> Value {
    let notice = &facts.notice;
    let subject = match (&notice.revision, notice.attempt) {
        (Some(revision), Some(attempt)) => format!("{revision}/{attempt}"),
        (Some(revision), None) => revision.clone(),
        _ => facts.service.to_owned(),
    };
    json!({
        "specversion": "1.0",
        "id": notice.id,
        "source": format!("/apis/molt.dev/v1alpha1/namespaces/{}/pythonservices/{}", facts.namespace, facts.service),
        "type": format!("dev.molt.rollout.{}", event(notice.event).to_lowercase()),
        "subject": subject,
        "time": notice.at,
        "datacontenttype": "application/json",
        "data": facts.data(),
    })
}

/// One incident for each service: `dedup_key` is its own.
fn pager_duty(template: Option<&Template>, severity: Option<PagerDutySeverity>, facts: &Facts<'_>) -> Value {
    let key = format!("molt/{}/{}/{}", facts.namespace, facts.service, facts.uid);
    if facts.notice.event == NotificationEvent::Healthy {
        return json!({"event_action": "resolve", "dedup_key": key});
    }
    let severity = severity.unwrap_or(match facts.notice.event {
        NotificationEvent::Degraded => PagerDutySeverity::Critical,
        NotificationEvent::RolledBack => PagerDutySeverity::Error,
        _ => PagerDutySeverity::Warning,
    });
    let summary = template.map_or_else(
        || format!("{}: {}", facts.title(), facts.notice.message),
        |template| template.fill(facts, as_is),
    );
    let mut event = json!({
        "event_action": "trigger",
        "dedup_key": key,
        "client": "Molt",
        "payload": {
            "summary": cut(&summary, 1000),
            "source": format!("{}/{}", facts.namespace, facts.service),
            "severity": severity,
            "timestamp": facts.notice.at,
            "component": facts.service,
            "group": facts.namespace,
            "class": facts.notice.reason,
            "custom_details": facts.data(),
        },
    });
    if let Some(url) = facts.url() {
        event["client_url"] = json!(url);
    }
    let links = facts.links().into_iter();
    let links: Vec<Value> = links
        .map(|(text, href)| json!({"href": href, "text": text}))
        .collect();
    if !links.is_empty() {
        event["links"] = json!(links);
    }
    event
}

/// The line below the message.
fn line(facts: &Facts<'_>) -> String {
    let notice = &facts.notice;
    let revision = notice.revision.as_ref();
    let about = revision.map_or_else(String::new, |revision| {
        let attempt = notice
            .attempt
            .map_or_else(String::new, |n| format!(", attempt {n}"));
        format!(" · revision {revision}{attempt}")
    });
    let owner = facts
        .owner
        .map_or_else(String::new, |owner| format!(" · {owner}"));
    format!(
        "{}{about} · {:.0} · {}{owner}",
        notice.reason,
        notice.at,
        facts.command()
    )
}

fn event(event: NotificationEvent) -> String {
    format!("{event:?}")
}

/// Not empty: Slack refuses such texts.
fn one_or_more(text: String) -> String {
    if text.trim().is_empty() {
        "–".to_owned()
    } else {
        text
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn as_is(text: &str) -> String {
    text.to_owned()
}

/// Within a string of JSON.
pub fn json_text(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Within Slack's mrkdwn: a character of no width keeps marks from being any, and there is no line to begin a quote or a
/// list at.
pub fn mrkdwn(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '*' | '_' | '~' | '`' | '@' | '#' => safe.extend(['\u{200b}', c]),
            '\n' | '\r' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

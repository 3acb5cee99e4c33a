//! A NotificationPolicy that has been validated: who is to be told, of what, and how.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_http_query::reqwest::Url;
use serde_json::Value;

use super::ledger::Rate;
use super::render::Facts;
use super::template::Template;
use crate::api::v1alpha1::{
    NotificationEvent, NotificationPolicySpec, NotificationSelector, NotificationSink, PagerDutySeverity,
    PagerDutySink, SecretKeyRef, UrlSink,
};
use crate::controller::validate::FieldError;

/// What is told unless the policy says otherwise: what wants somebody, and that it is over.
pub const DEFAULT_ON: [NotificationEvent; 6] = [
    NotificationEvent::RolledBack,
    NotificationEvent::WaitingForApproval,
    NotificationEvent::Paused,
    NotificationEvent::Degraded,
    NotificationEvent::BudgetExhausted,
    NotificationEvent::Healthy,
];

/// What somebody is called for: `Healthy` is told after one of these.
pub const CALLS: [NotificationEvent; 5] = [
    NotificationEvent::RolledBack,
    NotificationEvent::WaitingForApproval,
    NotificationEvent::Paused,
    NotificationEvent::Degraded,
    NotificationEvent::BudgetExhausted,
];

/// What PagerDuty pages somebody for.
const PAGES: [NotificationEvent; 3] = [
    NotificationEvent::RolledBack,
    NotificationEvent::WaitingForApproval,
    NotificationEvent::Degraded,
];

/// Where PagerDuty takes events.
const PAGER_DUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// A validated policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    selector: NotificationSelector,
    on: BTreeSet<NotificationEvent>,
    /// Its sinks.
    pub sinks: Vec<SinkPlan>,
}

/// A validated sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPlan {
    /// Its name.
    pub name: String,
    /// Its path in the policy: `spec.sinks[pager]`.
    pub field: String,
    /// What it understands.
    pub form: Form,
    /// Where it is.
    pub address: Address,
    /// The Secret with headers to send.
    pub headers_from: Option<String>,
    /// `http://` will do.
    pub allow_http: bool,
    /// The text in place of the usual one.
    pub template: Option<Template>,
    /// How much it is told at most.
    pub rate: Rate,
}

/// Where a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// There.
    Url(String),
    /// Where a key of a Secret says.
    Secret(SecretKeyRef),
}

/// What a sink understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Slack's incoming webhooks.
    Slack,
    /// Workflows of Teams.
    Teams,
    /// Plain JSON.
    Webhook,
    /// CloudEvents.
    CloudEvents,
    /// PagerDuty's Events API v2.
    PagerDuty {
        /// The Secret with the routing key.
        key: SecretKeyRef,
        /// How bad everything is.
        severity: Option<PagerDutySeverity>,
    },
}

impl Form {
    /// The sink's kind, as metrics and the spec name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Webhook => "webhook",
            Self::CloudEvents => "cloudEvents",
            Self::PagerDuty { .. } => "pagerDuty",
        }
    }
}

impl Plan {
    /// Reads a spec; each error has the field and what to write.
    pub fn parse(spec: &NotificationPolicySpec) -> Result<Self, Vec<FieldError>> {
        let (mut errors, mut sinks) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for sink in &spec.sinks {
            if !names.insert(&sink.name) {
                let field = format!("spec.sinks[{}].name", sink.name);
                errors.push(FieldError::new(
                    &field,
                    "is there twice: each sink has a name of its own",
                ));
            }
            match SinkPlan::parse(sink) {
                Ok(plan) => sinks.push(plan),
                Err(found) => errors.extend(found),
            }
        }
        if spec.sinks.is_empty() {
            errors.push(FieldError::new(
                "spec.sinks",
                "is empty: name somebody who is told",
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let on = spec.events.clone().unwrap_or_else(|| DEFAULT_ON.to_vec());
        Ok(Self {
            selector: spec.selector.clone().unwrap_or_default(),
            on: on.into_iter().collect(),
            sinks,
        })
    }

    /// Whether it is about a service.
    pub fn selects(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let NotificationSelector { match_labels, names } = &self.selector;
        let named = names.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
        let wanted = match_labels.iter().flatten();
        named
            && wanted
                .into_iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether a sink is told of this. What resolves an incident is told whatever `events` says.
    pub fn tells(&self, sink: &SinkPlan, event: NotificationEvent) -> bool {
        if !matches!(sink.form, Form::PagerDuty { .. }) {
            return self.on.contains(&event);
        }
        event == NotificationEvent::Healthy || (PAGES.contains(&event) && self.on.contains(&event))
    }
}

impl SinkPlan {
    fn parse(sink: &NotificationSink) -> Result<Self, Vec<FieldError>> {
        let field = format!("spec.sinks[{}]", sink.name);
        let from = |from: &SecretKeyRef| Address::Secret(from.clone());
        let NotificationSink {
            name,
            slack,
            teams,
            webhook,
            cloud_events,
            pager_duty,
            template,
            rate_limit,
        } = sink;
        let kinds = [
            slack
                .as_ref()
                .map(|s| (Form::Slack, Some(from(&s.url_from)), None, s.allow_http)),
            teams
                .as_ref()
                .map(|s| (Form::Teams, Some(from(&s.url_from)), None, s.allow_http)),
            webhook.as_ref().map(|s| of_url(Form::Webhook, s)),
            cloud_events.as_ref().map(|s| of_url(Form::CloudEvents, s)),
            pager_duty.as_ref().map(of_pager_duty),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some((form, address, headers_from, allow_http)), None) = (kinds.next(), kinds.next()) else {
            let message = "is of no kind, or of several: set exactly one of slack, teams, webhook, cloudEvents, pagerDuty";
            return Err(vec![FieldError::new(&field, message)]);
        };
        let (mut errors, allow_http) = (Vec::new(), allow_http.unwrap_or(false));
        let place = format!("{field}.{}.url", form.kind());
        match &address {
            None => errors.push(FieldError::new(&place, "set exactly one of url and urlFrom")),
            Some(Address::Url(url)) => {
                if let Err(why) = usable(url, allow_http) {
                    errors.push(FieldError::new(&place, why));
                }
            }
            Some(Address::Secret(_)) => {}
        }
        let parsed = template
            .as_deref()
            .map(|text| parse_template(text, &form))
            .transpose();
        let parsed = parsed.unwrap_or_else(|why| {
            errors.push(FieldError::new(format!("{field}.template"), why));
            None
        });
        let (Some(address), true) = (address, errors.is_empty()) else {
            return Err(errors);
        };
        Ok(Self {
            name: name.clone(),
            field,
            form,
            address,
            headers_from,
            allow_http,
            template: parsed,
            rate: Rate::per_minute(rate_limit.as_ref().map(|r| r.per_minute)),
        })
    }
}

type Parts = (Form, Option<Address>, Option<String>, Option<bool>);

fn of_url(form: Form, sink: &UrlSink) -> Parts {
    let address = match (&sink.url, &sink.url_from) {
        (Some(url), None) => Some(Address::Url(url.clone())),
        (None, Some(from)) => Some(Address::Secret(from.clone())),
        _ => None,
    };
    let headers = sink.headers_from.as_ref().map(|from| from.name.clone());
    (form, address, headers, sink.allow_http)
}

fn of_pager_duty(sink: &PagerDutySink) -> Parts {
    let form = Form::PagerDuty {
        key: sink.routing_key_from.clone(),
        severity: sink.severity,
    };
    let url = sink.url.clone().unwrap_or_else(|| PAGER_DUTY.to_owned());
    (form, Some(Address::Url(url)), None, sink.allow_http)
}

/// That notifications can be sent to a URL. The error says what to write, and nothing of the URL, which may be a secret.
pub fn usable(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(text.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        return Err("it is no URL: write https://, a host and a path".to_owned());
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "it has a user or a password: put an Authorization header into a Secret, and name it by headersFrom"
                .to_owned(),
        );
    }
    if url.scheme() == "http" && !allow_http {
        return Err(
            "it begins with http://, so that everybody on the way can read it: write https://, or set allowHttp: true"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Of a webhook it must make JSON, whatever the values are.
fn parse_template(text: &str, form: &Form) -> Result<Template, String> {
    let template = Template::parse(text)?;
    match form {
        Form::CloudEvents => Err("the data of a CloudEvent is fixed: leave the template out".to_owned()),
        Form::Webhook => {
            let filled = template.fill(&Facts::example(), super::render::json_text);
            serde_json::from_str::<Value>(&filled).map_err(|error| {
                format!("it makes no JSON ({error}): write a JSON document, with fields inside of strings")
            })?;
            Ok(template)
        }
        _ => Ok(template),
    }
}

//! NotificationPolicy: who is told what of the rollouts of a namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;

/// Who is told what of the rollouts of a namespace.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "molt.dev",
    version = "v1alpha1",
    kind = "NotificationPolicy",
    plural = "notificationpolicies",
    category = "molt",
    namespaced,
    status = "NotificationPolicyStatus",
    derive = "PartialEq",
    doc = "Who is told what of the rollouts of a namespace.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Delivering",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Delivering\")].status"
    ),
    printcolumn(
        name = "Delivery",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Delivering\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NotificationPolicySpec {
    /// Which PythonServices of the namespace. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NotificationSelector>,
    /// What is told. Default: `RolledBack`, `WaitingForApproval`, `Paused`, `Degraded`, `BudgetExhausted`, `Healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 12))]
    pub events: Option<Vec<NotificationEvent>>,
    /// Where it is told.
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Vec<NotificationSink>,
}

/// Which PythonServices: those that both parts mean.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationSelector {
    /// Labels that they have, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub names: Option<Vec<String>>,
}

/// What happened to a PythonService.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NotificationEvent {
    /// An attempt began.
    Started,
    /// It got more traffic, or all of it.
    Progressed,
    /// Something in an attempt that a person may want to know of, and that ends nothing.
    Warning,
    /// A revision was promoted.
    Promoted,
    /// A revision was taken back by evidence, a hard gate or a deadline; also one that was promoted before.
    RolledBack,
    /// A person, or a spec that was taken back, ended an attempt.
    Aborted,
    /// Another revision took an attempt's place.
    Superseded,
    /// A step without an end, or a migration that contracts, waits for a person's word.
    WaitingForApproval,
    /// A rollout goes no further: paused by somebody, or nothing could be shown in time.
    Paused,
    /// Stable can't serve, or the spec or the route can't be used.
    Degraded,
    /// An attempt runs while nothing is left of an objective's error budget.
    BudgetExhausted,
    /// After one of those that want somebody: stable serves, and nothing moves.
    Healthy,
}

/// A place where it is told, of exactly one kind.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.slack) ? 1 : 0) + (has(self.teams) ? 1 : 0) + (has(self.webhook) ? 1 : 0) + (has(self.cloudEvents) ? 1 : 0) + (has(self.pagerDuty) ? 1 : 0) == 1")
    .message("a sink is exactly one of slack, teams, webhook, cloudEvents, pagerDuty"))]
#[x_kube(validation = Rule::new("!has(self.template) || !has(self.cloudEvents)")
    .message("template: the data of a CloudEvent is fixed"))]
pub struct NotificationSink {
    /// Its name, unique within the policy.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// An incoming webhook of Slack, or of what understands the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SecretUrlSink>,
    /// A workflow of Microsoft Teams that is started by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<SecretUrlSink>,
    /// A POST of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<UrlSink>,
    /// A POST of a CloudEvent 1.0 in structured mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_events: Option<UrlSink>,
    /// PagerDuty's Events API v2: one incident for each service, resolved when it is healthy again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pager_duty: Option<PagerDutySink>,
    /// The text, with fields such as `{{service}}`; of a webhook, the whole JSON document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub template: Option<String>,
    /// How much is told at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<NotificationRate>,
}

/// How much is told at most.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationRate {
    /// Notifications in a minute; as many at once. Default 20.
    #[schemars(range(min = 1, max = 600))]
    pub per_minute: i32,
}

/// A URL that is a secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretUrlSink {
    /// The Secret with the URL.
    pub url_from: SecretKeyRef,
    /// `http://` is allowed: what is told, and the URL itself, can be read on the way. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
}

/// A URL, and headers to send.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.urlFrom)").message("set exactly one of url and urlFrom"))]
pub struct UrlSink {
    /// The URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// The Secret with the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_from: Option<SecretKeyRef>,
    /// The Secret whose keys and values are headers to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_from: Option<SecretRef>,
    /// `http://` is allowed: what is told, headers included, can be read on the way. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
}

/// PagerDuty.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PagerDutySink {
    /// The Secret with the integration's routing key.
    pub routing_key_from: SecretKeyRef,
    /// How bad it is. Default: `critical` for `Degraded`, `error` for `RolledBack`, `warning` for `WaitingForApproval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<PagerDutySeverity>,
    /// Default: `https://events.pagerduty.com/v2/enqueue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub url: Option<String>,
    /// `http://` is allowed: the routing key can be read on the way. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_http: Option<bool>,
}

/// How bad it is, in PagerDuty's words.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagerDutySeverity {
    /// Somebody is paged at night.
    Critical,
    /// Somebody is paged.
    Error,
    /// Somebody looks at it.
    Warning,
    /// Nobody has to.
    Info,
}

/// One key of a Secret in the policy's namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What became of it.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationPolicyStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the spec and its Secrets can be used. `Delivering`: the last notification of every sink arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Option<Vec<Condition>>,
    /// Each sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sinks: Option<Vec<SinkStatus>>,
}

/// What became of one sink.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// The sink.
    pub name: String,
    /// Notifications that arrived.
    #[serde(default)]
    pub delivered: i64,
    /// Notifications that were given up.
    #[serde(default)]
    pub failed: i64,
    /// Notifications that were left out: above the rate limit, or while too many waited.
    #[serde(default)]
    pub dropped: i64,
    /// The last that arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<LastDelivery>,
    /// Why the last that did not arrive was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// What was told lately: nobody is told twice after a restart of the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub told: Vec<ToldStatus>,
    /// UIDs of the services that somebody was called for, and that are not healthy yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub open: Vec<String>,
}

/// A notification that arrived.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastDelivery {
    /// When.
    pub at: jiff::Timestamp,
    /// Of which PythonService.
    pub service: String,
    /// What.
    pub event: NotificationEvent,
}

/// A notification that was given up.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When.
    pub at: jiff::Timestamp,
    /// Of which PythonService.
    pub service: String,
    /// Why, and what to do. Never a URL.
    pub message: String,
}

/// One notification that is over: it arrived, was left out or given up.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldStatus {
    /// A digest of what it was about.
    #[schemars(length(max = 64))]
    pub id: String,
    /// When that happened.
    pub at: jiff::Timestamp,
}

//! `spec.guards`: what rolls back beside the objectives.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, SecretRef};

/// What rolls back beside the objectives.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Plain thresholds and Jobs, judged while users are on the canary, the bake included. Each must have been met at
    /// a weight before the canary gets more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub conditions: Option<Vec<GuardCondition>>,
}

/// A number and the threshold that it must keep, or a Job that must succeed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.query), has(self.web), has(self.job)].filter(x, x).size() == 1")
    .message("a condition has exactly one of query (PromQL), web and job"))]
#[x_kube(validation = Rule::new("has(self.job) != has(self.successCondition)")
    .message("query and web need a successCondition, and a job has none: it has to succeed"))]
pub struct GuardCondition {
    /// Its name, unique within the service.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// PromQL that gives one number: a scalar, or a vector of one element. `$selector` stands for the matchers
    /// that pin the namespace, the pods of the revision under test and `metrics.prometheus.matchers`:
    /// `rate(shop_errors_total{$selector}[2m])`. No element, several, or NaN say nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub query: Option<String>,
    /// A number in the JSON that a URL answers with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebCheck>,
    /// A Job that has to succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobCheck>,
    /// What the number must be: `value < 0.8`; also `<=`, `>`, `>=`, `==` and `!=`. A Job has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        regex(
            pattern = "^ *value *(<|<=|>|>=|==|!=) *[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)? *$"
        )
    )]
    pub success_condition: Option<String>,
    /// Evaluations that may fail in one attempt; one more rolls back. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_limit: Option<i32>,
}

/// A Job that is run once at each weight, from the moment that the router has the weight.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCheck {
    /// Its pod: each container gets `MOLT_ADDRESS` (host and port of the revision under test), `MOLT_NAMESPACE`,
    /// `MOLT_SERVICE`, `MOLT_REVISION` and `MOLT_ATTEMPT` as environment, and `$(MOLT_ADDRESS)` can be written in
    /// `command`, `args` and `env`. A container without `image` runs the image of the service's first container.
    pub template: PodTemplateSpec,
    /// How long its containers may run, and how long they may take to start. Default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long after its begin a run that succeeded is repeated while the weight stays. Once, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// A number in the JSON that a URL answers a GET with.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebCheck {
    /// The URL; `$namespace`, `$service` and `$revision` stand for those under test.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^ ]+$"))]
    pub url: String,
    /// Where the number is: a path as of RFC 9535 that finds one number, `$.checks.p99`.
    #[schemars(length(min = 1, max = 512))]
    pub json_path: String,
    /// A Secret in the service's namespace whose keys are the names of headers to send. The operator must have
    /// been given the right to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_from: Option<SecretRef>,
    /// How long the answer may take. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub timeout_seconds: Option<i32>,
}

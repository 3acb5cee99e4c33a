//! `spec.guards`: what rolls back beside the objectives.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use schemars::JsonSchema;

use super::{Bytes, Decimal, Duration, Percent, SecretRef};

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
    /// Kills for want of memory, and readiness that comes and goes, straight from Kubernetes. A canary that crashes
    /// again and again is taken back whatever is written here. On unless `mode` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartsGuard>,
    /// The share of requests that are answered with 4xx, as of a stricter schema. On, where an objective has a preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_errors: Option<ClientErrorsGuard>,
    /// Memory that grows on and on. On, where the pods tell their memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_growth: Option<MemoryGrowthGuard>,
    /// An event loop that something blocks. On, where the pods tell how late theirs is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_loop_lag: Option<EventLoopLagGuard>,
    /// Processor time for a request. On, where the pods tell their processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_per_request: Option<CpuPerRequestGuard>,
    /// Files and sockets that are never closed. On, where the pods tell how many they have open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<OpenFilesGuard>,
    /// Time that the collector of garbage takes. On, where the pods tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gc_pauses: Option<GcPausesGuard>,
    /// A pool of threads or workers that has none to spare. On, where the pods tell how many are busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saturation: Option<SaturationGuard>,
    /// Workers that gunicorn ends because they hang. On, where the pods tell them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_timeouts: Option<WorkerTimeoutsGuard>,
    /// Types of exceptions that stable never raises. They are told of, where the pods count exceptions by type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<ExceptionsGuard>,
    /// The connections that a database has left for the pods of a rollout. Off unless it is written: nobody else knows which database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_connections: Option<DatabaseConnectionsGuard>,
}

/// What a guard does when the canary is shown to be worse than stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardMode {
    /// The canary is taken back.
    #[default]
    Rollback,
    /// An event and the status tell of it.
    Warn,
    /// It is not looked at.
    Off,
}

/// Restarts and readiness.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartsGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
}

/// The share of 4xx.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientErrorsGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// How many times stable's share the canary's may be, from 1 to 100. Default `"2"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Decimal>,
}

/// Growth of memory.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryGrowthGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// How much more than at stable a pod's memory may grow in an hour, 1Mi or more. Default `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_hour: Option<Bytes>,
}

/// Lag of the event loop.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLoopLagGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// How late one sample in a hundred may be, `1ms` to `1m`; the next edge of the histogram counts. Default `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Duration>,
    /// The histogram of the lag in seconds, without `_bucket`. Default `event_loop_lag_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub metric: Option<String>,
}

/// Processor time for a request.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuPerRequestGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// How many times stable's time a request may take, from 1 to 100. Default `"1.5"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Decimal>,
}

/// Open files and sockets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenFilesGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// How many times as many as at stable a pod may have open while they grow on and on, from 1 to 100, and 24 more; in
    /// proportion to its requests where it has more of them. Default `"2"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Decimal>,
}

/// Time of the collector of garbage.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcPausesGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// The share of the time that it may take, above 0 % and up to 100 %; less than twice stable's is never too much. Default `5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<Percent>,
    /// Seconds that it takes: a counter, or a histogram or summary without `_sum`. Default `python_gc_pause_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub metric: Option<String>,
}

/// A pool of threads or workers.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.limit) && has(self.limitMetric))")
    .message("a pool has limit or limitMetric, not both"))]
pub struct SaturationGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// With this share of them busy the pool is full, above 0 % and up to 100 %. Default `90%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<Percent>,
    /// The gauge of those that are busy. Default `thread_pool_busy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub metric: Option<String>,
    /// The gauge of how many there are in a pod. Default `thread_pool_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub limit_metric: Option<String>,
    /// How many there are in a pod, where no gauge tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub limit: Option<i32>,
}

/// Workers that hang.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerTimeoutsGuard {
    /// `Rollback` (the default), `Warn` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// The counter of workers that were ended because they did not answer, with or without `_total`. Default
    /// `gunicorn_log_critical`, by which gunicorn counts exactly those for statsd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub metric: Option<String>,
}

/// Exceptions by type.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.label) || has(self.metric)")
    .message("label belongs to metric: write both, or neither"))]
pub struct ExceptionsGuard {
    /// `Warn` (the default, for a new type may be an old one by another name), `Rollback` or `Off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// The counter. Default: `django_http_exceptions_total_by_type_total`, which django-prometheus exports, and
    /// `python_exceptions_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub metric: Option<String>,
    /// Its label with the type. Default `type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub label: Option<String>,
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
    /// What a failure does. `Rollback` (the default): the rollout goes on only while the condition is met, and one that
    /// fails more often than `failureLimit` is taken back. `Warn`: it is evaluated, shown and told of in an event, and
    /// decides nothing, as for a threshold that is still being tried out. `Off`: it is not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<GuardMode>,
    /// Evaluations that may fail in one attempt; one more rolls back. Default 0. Nothing to a condition that only warns.
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

/// The connections of a database: the canary gets no pod whose pool has no room in them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.limit) != has(self.limitQuery)")
    .message("databaseConnections has limit or limitQuery, one of them"))]
pub struct DatabaseConnectionsGuard {
    /// PromQL that gives how many connections the server has, whoever opened them.
    #[schemars(length(min = 1, max = 1000))]
    pub query: String,
    /// PromQL that gives how many it allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub limit_query: Option<String>,
    /// How many it allows, where no query tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: Option<i32>,
    /// How many one pod may open at the most: its processes times what the pool of each may hold (`pool_size` and `max_overflow`).
    #[schemars(range(min = 1, max = 10_000))]
    pub per_pod: i32,
    /// So much of the limit may be in use before no further pod starts, whole percents above 0 % and up to 100 %. Default `90%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<Percent>,
}

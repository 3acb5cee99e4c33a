//! PythonService: the spec.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Decimal, Duration, Gates, Guards, Percent, PythonServiceStatus, Strategy, Traffic, Window};

/// A Python web service whose new revisions are brought to users by evidence.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "molt.dev",
    version = "v1alpha1",
    kind = "PythonService",
    plural = "pythonservices",
    shortname = "pysvc",
    category = "molt",
    namespaced,
    status = "PythonServiceStatus",
    derive = "PartialEq",
    doc = "A Python web service whose new revisions are brought to users by evidence.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Stable", type_ = "string", json_path = ".status.stable.revision"),
    printcolumn(name = "Canary", type_ = "string", json_path = ".status.canary.revision"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.canary.weight"),
    printcolumn(name = "Readiness", type_ = "string", json_path = ".status.readiness.grade", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 46 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: at most 46 characters, lower case letters, digits and '-', beginning with a letter, so that every derived name fits"),
    validation = Rule::new("(has(self.spec.protocol) ? self.spec.protocol : 'HTTP') == (has(oldSelf.spec.protocol) ? oldSelf.spec.protocol : 'HTTP')")
        .message("spec.protocol: can't change, for users would be left on the old route; make a second PythonService, and delete this one when it is unused"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.kind) ? self.kind : 'service') == (has(oldSelf.kind) ? oldSelf.kind : 'service')")
        .message("kind can't be changed: what runs all the time can't become a job, nor the other way round; make a second PythonService, and delete this one when it is unused"),
    validation = Rule::new("has(self.job) == (has(self.kind) && self.kind == 'job')")
        .message("job and kind: job belong together: a service that runs by a schedule has both, and any other neither"),
    validation = Rule::new("!has(self.exposure) || has(self.exposure.runs) == (has(self.kind) && self.kind == 'job')")
        .message("exposure.runs is of kind: job, and is all that such a service can be exposed by"),
    validation = Rule::new("!has(self.kind) || self.kind != 'job' || !(has(self.port) || has(self.replicas) || has(self.maxSurge) || has(self.strategy) || has(self.workloadRef) || has(self.group) || (has(self.slos) && size(self.slos) > 0))")
        .message("kind: job has no pods that stay: leave port, replicas, maxSurge, strategy, workloadRef, group and slos out; its runs decide, see exposure.runs"),
    validation = Rule::new("has(self.port) == has(self.traffic)")
        .message("port and traffic belong together: a service that is called has both, and workers, which take their work from a queue, have neither"),
    validation = Rule::new("!has(self.serviceMetadata) || has(self.port)")
        .message("serviceMetadata is of Services, and workers and jobs have none: leave it out"),
    validation = Rule::new("!has(self.exposure) || !has(self.port)")
        .message("exposure is of workers, which have neither port nor traffic: of what is called, traffic says who gets it"),
    validation = Rule::new("self.runtime.server in ['celery', 'rq', 'arq'] ? !has(self.port) : (self.runtime.server == 'custom' || has(self.port))")
        .message("runtime.server: celery, rq and arq take their work from a queue, so leave port and traffic out; all others but custom serve requests, so set both"),
    validation = Rule::new("has(self.port) == has(oldSelf.port)")
        .message("port can't be added or taken away: a service that is called can't become workers, nor the other way round; make a second PythonService, and delete this one when it is unused"),
    validation = Rule::new("(has(self.slos) && size(self.slos) > 0) || (has(self.exposure) && has(self.exposure.singleton)) || (has(self.kind) && self.kind == 'job')")
        .message("slos: set one objective at least: without any nothing could be shown of a new revision; only with exposure.singleton, and of kind: job, it may be left out"),
    validation = Rule::new("has(self.template) != has(self.workloadRef)")
        .message("set exactly one of template (the pods of this service) and workloadRef (those of an existing Deployment, which is taken over)"),
    validation = Rule::new("!has(self.workloadRef) || has(oldSelf.workloadRef)")
        .message("workloadRef: a service that has pods of its own can't take over a Deployment: make another PythonService for it"),
    validation = Rule::new("!has(self.workloadRef) || !has(oldSelf.workloadRef) || self.workloadRef.name == oldSelf.workloadRef.name")
        .message("workloadRef.name can't be changed: give the Deployment back with `kubectl molt release`, delete this PythonService, and make another for the other Deployment")
)]
pub struct PythonServiceSpec {
    /// What it is. Default service: its pods run all the time. With job they run by a schedule, see `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceKind>,
    /// Of `kind: job`: when it runs, and what becomes of a run. The fields are those of a CronJob and of its Jobs, and what is
    /// left out is as Kubernetes has it. They are no part of a revision: a change takes effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Schedule>,
    /// Who is called for it: a team, a rota, a channel. Shown wherever somebody is, and a label of its alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 120), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub owner: Option<String>,
    /// Where it is written what to do when it is in trouble: a URL, shown beside the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^https?://[^\s]+$"))]
    pub runbook: Option<String>,
    /// Pods at full strength. Leave it out when a HorizontalPodAutoscaler owns it: it is never defaulted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// Pods that a rollout may hold beyond `replicas`, the canary's included: a number, or a percentage of `replicas`,
    /// rounded up. Default: as many as it takes, at most as many again, so that stable keeps its strength until the end of
    /// the bake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == string(self) ? self.matches('^([1-9][0-9]?|100)%$') : int(self) >= 1")
        .message("maxSurge is a number of pods of at least 1, or a percentage from \"1%\" to \"100%\": with none nothing could be replaced"))]
    pub max_surge: Option<IntOrString>,
    /// Seconds that a pod must have been ready before a rollout goes on because of it. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: Option<i32>,
    /// Old revisions that are kept, scaled to zero. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 50))]
    pub revision_history_limit: Option<i32>,
    /// Which earlier revisions go straight to all users when they are asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_window: Option<RollbackWindow>,
    /// RolloutRecords that are kept. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 500))]
    pub rollout_record_limit: Option<i32>,
    /// The longest time without progress; dwell, bake and waits for people don't count. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<Duration>,
    /// Nothing goes on while it is true, and no attempt but a first begins; harm still takes a canary back. Default
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// The serving port. Workers, which take their work from a queue, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// What is spoken there. Default HTTP, which carries WebSockets and streams as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Labels and annotations of one's own on the Services that Molt makes, as a mesh, a cloud's load balancer or a
    /// ServiceMonitor asks for them. They are no part of a revision: a change takes effect at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_metadata: Option<ServiceMetadata>,
    /// The services of this namespace that it is released with. Default: it is released by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// How connections end after traffic has moved away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// How the application is served.
    pub runtime: Runtime,
    /// An ordinary pod template; labels and selectors are injected. Write this or `workloadRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
    /// An existing Deployment in the same namespace instead of `template`: its pod template counts, a change of it is
    /// rolled out by Molt, and Molt's pods take the place of its own. `kubectl molt release` gives it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
    /// Whether the content of what the template names is part of the revision. Default: that of ConfigMaps is
    /// (Snapshot), that of Secrets is not (Follow).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_revision: Option<ConfigRevision>,
    /// How traffic reaches the service. Workers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Of workers, which have neither port nor traffic: what part of the work a new revision gets. Default replicas; of
    /// `kind: job`, runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// How a new revision reaches all users. Default: canary 5, 10, 25, 50 with a dwell of 60s each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Where measurements come from. Default: the operator's Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The objectives that decide: one at least, but for `exposure.singleton` and `kind: job`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub slos: Vec<Slo>,
    /// Error probabilities, and the budget that one rollout may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What rolls back beside the objectives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards: Option<Guards>,
    /// What must have happened before a revision goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
}

/// What the Services of a PythonService carry beside what Molt writes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMetadata {
    /// On the Service with the name of the PythonService, which callers in the cluster use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cluster: Option<ObjectMarks>,
    /// On those that a route leads to: one for each revision, and `-stable` and `-canary` where there are. A pod is
    /// behind several of them, so a label that makes a Prometheus scrape them counts its requests twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<ObjectMarks>,
}

/// Labels and annotations, in the form that Kubernetes wants of them. Those that Molt sets itself are refused:
/// `app.kubernetes.io/name`, `app.kubernetes.io/managed-by`, and all that begin with `molt.dev/`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.labels) ? self.labels : {}, has(self.annotations) ? self.annotations : {}].all(set, set.all(key, !key.startsWith('molt.dev/') && key != 'app.kubernetes.io/name' && key != 'app.kubernetes.io/managed-by'))")
    .message("serviceMetadata: app.kubernetes.io/name, app.kubernetes.io/managed-by and what begins with molt.dev/ are set by Molt, which finds its Services by them: leave them out"))]
pub struct ObjectMarks {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What a service is.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServiceKind {
    /// Its pods run all the time: they are called, or take their work from a queue.
    Service,
    /// Its pods run by a schedule, and end.
    Job,
}

/// When a job runs, and what becomes of a run: fields of a CronJob and of its Jobs.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// When it runs, in cron's form: `*/15 * * * *`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// The time zone of the schedule, `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// What happens when a run is due while the last one still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<Concurrency>,
    /// Seconds after which a run that was missed is not made up for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10))]
    pub starting_deadline_seconds: Option<i64>,
    /// No run begins while it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Pods that may fail in a run; one more, and the run has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit: Option<i32>,
    /// Seconds after which a run is ended, and has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// Jobs that succeeded and are kept. Molt counts those that it sees: 1 at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub successful_jobs_history_limit: Option<i32>,
    /// Jobs that failed and are kept. Molt counts those that it sees: 1 at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub failed_jobs_history_limit: Option<i32>,
}

/// What happens when a run is due while the last one still runs.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Concurrency {
    /// Both run.
    Allow,
    /// The new one is left out.
    Forbid,
    /// The old one is ended.
    Replace,
}

/// What is spoken at the serving port.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP.
    #[serde(rename = "HTTP")]
    Http,
    /// gRPC.
    #[serde(rename = "GRPC")]
    Grpc,
}

/// Services of one namespace that are released together: those that name the same group.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A rollout starts once every service of a lower wave is Healthy with what its spec asks for. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub wave: Option<i32>,
    /// A request header that applications pass on, `x-molt-group`: the service's route sets it to `canary` for what it
    /// sends to a canary, and to `stable` for the rest, and while there is a canary it sends what comes with it to just
    /// that revision. Default: requests are divided by weight alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$")
    )]
    pub header: Option<String>,
}

/// An existing workload.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// `apps/v1`.
    pub api_version: WorkloadApi,
    /// `Deployment`.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// API groups of workloads that can be taken over.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadApi {
    /// That of Deployments.
    #[serde(rename = "apps/v1")]
    AppsV1,
}

/// Kinds of workloads that can be taken over.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
}

/// Whether the content of ConfigMaps and Secrets that the template names is part of the revision.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRevision {
    /// Of ConfigMaps. Default Snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_maps: Option<ContentPolicy>,
    /// Of Secrets. Default Follow: a rollback must not bring back a revoked credential. Snapshot needs a right that
    /// the operator has only if the chart's value `rbac.configSecrets` gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<ContentPolicy>,
}

/// Whether content is part of the revision.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentPolicy {
    /// It is: a change is a rollout, each revision has its own copy, and a rollback brings the old content back.
    Snapshot,
    /// It is not: pods of all revisions see what there is now.
    Follow,
}

/// Which earlier revisions go straight to all users, without steps, when they are asked for again.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackWindow {
    /// Those among the last so many that were stable. Default 0: only the last one, while its pods are still there.
    #[schemars(range(min = 0, max = 10))]
    pub revisions: i32,
}

/// How connections end after traffic has moved away.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long open connections and streams may last. Default 60s.
    pub timeout: Duration,
}

/// How the application is served.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// The server process.
    pub server: Server,
    /// Which container is the application. Default: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// Of workers: the queues that they take their work from. The application gets them as `MOLT_QUEUES`, comma-separated,
    /// unless it has a variable of this name: `celery -A shop worker -Q $(MOLT_QUEUES)`. Default: Molt does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub queues: Option<Vec<String>>,
    /// What makes a new pod warm; until then it does not count as available, and its latency as no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
}

/// What part of the work a new revision of workers, or of a job, gets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.replicas), has(self.queue), has(self.singleton), has(self.runs)].exists_one(set, set)")
    .message("set exactly one of replicas (the share of the pods is the share of the work), queue (a queue of its own), singleton (only one pod may run) and, of kind: job, runs (the next ones)"))]
pub struct Exposure {
    /// Its share of the pods: each takes work from the same queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<ByReplicas>,
    /// What comes by a queue of its own. Not in this version: it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<ByQueue>,
    /// All of it or nothing, for only one pod may run, such as a scheduler: the old one stops, then the new one starts,
    /// and after a crash it is the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub singleton: Option<Singleton>,
    /// Of `kind: job`: the next runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<ByRuns>,
}

/// A new revision gets the next runs of a job: their success and their duration decide.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ByRuns {
    /// So many have to succeed. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub count: Option<i32>,
    /// A run may take so many times as long as the longest of stable's last 20, and 10 s in any case: `"1.5"`, at least 1. Default
    /// 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("double(self) >= 1.0 && double(self) <= 100.0")
        .message("maxDurationRatio is a number from 1 to 100, such as \"1.5\""))]
    pub max_duration_ratio: Option<Decimal>,
    /// A run of the new revision beside each of stable's. Not in this version: it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
}

/// The share of the pods is the share of the work. It has no fields yet: write `replicas: {}`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByReplicas {}

/// A new revision gets what comes by a queue of its own.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ByQueue {
    /// The queue's name.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
}

/// Only one pod may run. It has no fields yet: write `singleton: {}`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Singleton {}

/// What makes a new pod warm.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.duration) || has(self.requests)")
    .message("set duration, requests or both"))]
#[x_kube(validation = Rule::new("has(self.requests) || !has(self.path)")
    .message("path is that of requests: set requests too"))]
pub struct WarmUp {
    /// How long it has been ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// GET requests of the operator's that it has answered below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests: Option<i32>,
    /// Their path, with its query. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[^ #]*$"))]
    pub path: Option<String>,
}

/// Server processes.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Server {
    /// uvicorn.
    Uvicorn,
    /// gunicorn.
    Gunicorn,
    /// hypercorn.
    Hypercorn,
    /// granian.
    Granian,
    /// A Celery worker, or Celery beat.
    Celery,
    /// An RQ worker.
    Rq,
    /// An arq worker.
    Arq,
    /// Anything else: it serves HTTP, or without a port it takes work from a queue.
    Custom,
}

/// Where measurements come from.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// A Prometheus, or what speaks its HTTP API.
    pub prometheus: Prometheus,
}

/// A Prometheus.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Its address, `http://prometheus.monitoring:9090`. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^https?://[^ ]+$"))]
    pub address: Option<String>,
    /// A Secret in the service's namespace whose keys are the names of headers that the Prometheus asks for,
    /// such as `Authorization` or `X-Scope-OrgID`. The operator must have been given the right to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_from: Option<SecretRef>,
    /// How often it scrapes the service. Evidence is read in blocks of two intervals. Default 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// The label that names the pod. Default `pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub pod_label: Option<String>,
    /// The label that names the namespace. Default `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub namespace_label: Option<String>,
    /// Further label matchers for every query, `{cluster: eu1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matchers: Option<BTreeMap<String, String>>,
}

/// A Secret in the service's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One objective.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slo {
    /// Its name, unique within the service.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The share of good requests in percent, above 0 and below 100: `"99.9"`.
    #[x_kube(validation = Rule::new("double(self) > 0.0 && double(self) < 100.0")
        .message("an objective is a percentage above 0 and below 100, such as \"99.9\""))]
    pub objective: Decimal,
    /// The window of the error budget. Default 30d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// How good and bad are counted.
    pub sli: Sli,
    /// Keep recording rules and burn-rate alerts for it in the PrometheusRule `<service>-slos`. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<bool>,
}

/// How good and bad are counted: by a preset, or by own counters.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.preset) != has(self.counters)")
        .message("set exactly one of preset and counters"),
    validation = Rule::new("has(self.preset) == has(self.type)")
        .message("type belongs to a preset, and a preset needs it: availability or latency, or of tasks availability, retries, queueWait or runtime"),
    validation = Rule::new("(has(self.type) && !(self.type in ['availability', 'retries'])) == has(self.threshold)")
        .message("threshold belongs to type latency, queueWait or runtime, which needs it: an edge of the histogram, such as 500ms")
)]
pub struct Sli {
    /// The metrics of a well-known instrumentation; probes and `/metrics` are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// What is measured.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<SliType>,
    /// Slower than this is bad; must be an edge of the histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Duration>,
    /// Own counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
}

impl std::fmt::Display for Sli {
    /// `otel latency 250ms`, or the two counters, bad first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(counters) = &self.counters {
            return write!(f, "{} of {}", counters.bad, counters.total);
        }
        let word = |value: serde_json::Result<serde_json::Value>| {
            value
                .ok()
                .and_then(|v| Some(v.as_str()?.to_owned()))
                .unwrap_or_default()
        };
        let preset = self.preset.map(|preset| word(serde_json::to_value(preset)));
        let kind = self.kind.map(|kind| word(serde_json::to_value(kind)));
        let threshold = self.threshold.as_ref().map(|threshold| threshold.0.clone());
        let parts: Vec<String> = [preset, kind, threshold].into_iter().flatten().collect();
        f.write_str(&parts.join(" "))
    }
}

/// Well-known instrumentations.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// prometheus-fastapi-instrumentator.
    #[serde(rename = "fastapi-instrumentator")]
    FastapiInstrumentator,
    /// `starlette_exporter`, with its default prefix.
    #[serde(rename = "starlette-exporter")]
    StarletteExporter,
    /// django-prometheus. A view that raises an exception is timed twice by it.
    #[serde(rename = "django-prometheus")]
    DjangoPrometheus,
    /// prometheus-flask-exporter, grouped by path as it is by default.
    #[serde(rename = "flask-exporter")]
    FlaskExporter,
    /// OpenTelemetry's stable HTTP semantic conventions: `OTEL_SEMCONV_STABILITY_OPT_IN=http`.
    #[serde(rename = "otel")]
    Otel,
    /// OpenTelemetry's instrumentations for Python without that setting: milliseconds.
    #[serde(rename = "otel-python-default")]
    OtelPythonDefault,
    /// BentoML's own server.
    #[serde(rename = "bentoml")]
    Bentoml,
    /// Istio's proxy beside each pod: `istio_requests_total` with `reporter="destination"`.
    #[serde(rename = "istio")]
    Istio,
    /// Linkerd's proxy beside each pod: `response_total` with `direction="inbound"`.
    #[serde(rename = "linkerd")]
    Linkerd,
    /// Envoy Gateway's proxies, at the route: `envoy_cluster_upstream_rq_xx`.
    #[serde(rename = "envoy-gateway")]
    EnvoyGateway,
    /// Istio's gateway, at the route: `istio_requests_total` with `reporter="source"`.
    #[serde(rename = "istio-gateway")]
    IstioGateway,
    /// Linkerd's proxy beside each caller, at the route:
    /// `outbound_http_route_backend_response_statuses_total`.
    #[serde(rename = "linkerd-outbound")]
    LinkerdOutbound,
    /// celery-exporter, which reads the events of Celery's workers: `celery_task_succeeded_total`, with the worker's host
    /// in `hostname`.
    #[serde(rename = "celery-exporter")]
    CeleryExporter,
    /// rq-exporter: `rq_workers_success_total`, with the worker's name in `name`, which must contain the pod's.
    #[serde(rename = "rq-exporter")]
    RqExporter,
    /// arq's jobs as each worker counts them: `arq_jobs_completed` and `arq_jobs_failed`, with or without `_total`.
    #[serde(rename = "arq")]
    Arq,
}

/// What a preset measures.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SliType {
    /// Answers that are no server error.
    Availability,
    /// Answers in time.
    Latency,
    /// Runs of tasks that did not end in another try.
    Retries,
    /// Tasks that did not wait too long in their queue.
    QueueWait,
    /// Tasks that did not run too long.
    Runtime,
}

/// Own counters: a metric name, optionally with matchers, or several with `+` between them; no `rate` or other
/// function, so that raw samples of each series can be read.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Counts bad events.
    #[schemars(length(min = 1, max = 1024))]
    pub bad: String,
    /// Counts all events.
    #[schemars(length(min = 1, max = 1024))]
    pub total: String,
}

/// Error probabilities, and the budget that one rollout may spend.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// The probability that a healthy revision is rolled back by the evidence. Default `"0.01"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_rollback_probability: Option<Decimal>,
    /// The confidence that a promoted revision is safe. Default `"0.95"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe_confidence: Option<Decimal>,
    /// The share of the window's error budget that one rollout may spend. Default `"2%"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_budget_spend: Option<Percent>,
    /// What to do when neither harm nor safety can be shown in time. Default Pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<InconclusivePolicy>,
    /// What to do when less of an objective's error budget is left than one rollout may spend. Going back to
    /// the revision that was stable before is always allowed. Default Slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_exhausted: Option<ExhaustedPolicy>,
    /// What to do when the canary completes clearly less, or more than twice, of the requests that its weight
    /// should bring. Default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_share_mismatch: Option<MismatchPolicy>,
}

/// What to do when the error budget is as good as spent.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExhaustedPolicy {
    /// Go on with pauses of twice the length, and spend no more than is left, or a tenth of the usual.
    Slow,
    /// Put no user on the canary until somebody promotes it.
    Refuse,
    /// Go on as always.
    Allow,
}

/// What to do when the canary's share of requests does not fit its weight.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MismatchPolicy {
    /// The next step waits: the canary may not answer some requests.
    Hold,
    /// Go on: many callers do not come by the route.
    Ignore,
}

/// What to do when neither harm nor safety can be shown in time.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InconclusivePolicy {
    /// Take the canary's traffic away, keep its pods and wait for a person.
    Pause,
    /// Roll back.
    Rollback,
    /// Go on while the budget that is spent is known and within bounds; otherwise pause.
    PromoteIfBudgetSafe,
}

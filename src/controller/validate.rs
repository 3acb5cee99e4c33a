//! From what a user wrote to a plan, or to a list of what is wrong with it, field by field.
//!
//! Everything that the schema checks is checked again: an object may have been written by another version, or
//! by a client that the schema did not stop.

use std::fmt;

use jiff::SignedDuration;
use molt_core::analysis::Limits;
use molt_core::group::Group;
use molt_core::observed::{Problem, ProblemKind};
use molt_core::plan::{
    BudgetExhausted, OnInconclusive, OnShareMismatch, Plan, Room, RouteMode, RunsPlan, SloPlan, Step,
};

use super::object::ServiceObject;
use crate::api::v1alpha1::{
    self as api, ExhaustedPolicy, InconclusivePolicy, MismatchPolicy, PythonServiceSpec,
};
use crate::metric_sources::{self, ConditionQuery, ConnectionsQuery, GuardQuery, PrometheusSource, SloQuery};
use crate::traffic::RouteSpec;
use crate::traffic::gateway_api::sessions::Support;

mod basis;
mod fields;
mod gates;
mod guards;
mod jobs;
mod room;
mod strategy;
mod traffic;
mod warm_up;
mod workers;

use fields::{check_container, check_name, check_template, duration, in_range, probability};

/// The longest name: every derived name, such as `<name>-<revision>-<hash>` of a pod, must fit.
pub const MAX_NAME: usize = 46;

const STEPS: [u8; 4] = [5, 10, 25, 50];
const DWELL: u32 = 60;
const DEFAULT_REPLICAS: u32 = 1;
const DEFAULT_HISTORY: usize = 5;
/// Records that are kept of a service that says nothing of it.
pub const DEFAULT_RECORDS: usize = 20;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Its path: `spec.strategy.canary.steps[2].setWeight`.
    pub field: String,
    /// What is wrong with it, and how to put it right.
    pub message: String,
    /// One `CamelCase` word, where it is not the spec alone that is wrong.
    pub reason: Option<&'static str>,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
            reason: None,
        }
    }

    pub(super) fn because(self, reason: &'static str) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    fn under(prefix: &str, error: metric_sources::FieldError) -> Self {
        Self {
            field: format!("{prefix}.{}", error.field),
            message: error.message,
            reason: None,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// What the operator contributes to every spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The address of the operator's Prometheus.
    pub prometheus_address: Option<String>,
    /// The operator may not read Secrets, so none can be part of a revision.
    pub no_secrets: bool,
    /// A pause for a person is told as work in progress.
    pub strict_paused: bool,
}

/// What of the world a spec's meaning depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Pods that stable's ReplicaSet is asked for: what counts while `replicas` is absent.
    pub stable_wanted: Option<u32>,
    /// Pods of the Deployment that is taken over or given back: what counts meanwhile while `replicas` is absent.
    pub workload_replicas: Option<u32>,
    /// An HTTPRoute that Molt created for this service exists.
    pub owned_route: bool,
    /// A GRPCRoute that Molt created for it exists.
    pub owned_grpc_route: bool,
    /// A VirtualService that Molt created for it exists.
    pub owned_virtual_service: bool,
    /// Whether HTTPRoutes can keep users on a backend, where that is asked for.
    pub sessions: Support,
}

/// A spec whose every field is resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// The core's part.
    pub plan: Plan,
    /// How the objectives are measured, in the plan's order.
    pub queries: Vec<SloQuery>,
    /// How the numbers of conditions are read, in the plan's order.
    pub conditions: Vec<ConditionQuery>,
    /// How the connections of a database are read, where they bound the pods.
    pub connections: Option<ConnectionsQuery>,
    /// How the guards of the runtime are read.
    pub guards: Vec<GuardQuery>,
    /// Where; absent only in the plan of an invalid spec.
    pub source: Option<PrometheusSource>,
    /// The route.
    pub route: RouteSpec,
    /// What makes a new pod warm.
    pub warm_up: Option<super::warm_up::WarmUp>,
    /// Records to keep.
    pub record_limit: usize,
    /// What is wrong; the plan then asks for no revision, so that stable keeps serving.
    pub errors: Vec<FieldError>,
}

impl Validated {
    /// What the core is told of the errors.
    pub fn problem(&self) -> Option<Problem> {
        let first = self.errors.first()?;
        let more = match self.errors.len() {
            1 => String::new(),
            n => self.errors[1..n.min(4)]
                .iter()
                .fold(String::new(), |text, e| format!("{text}; {e}")),
        };
        let rest = self.errors.len().saturating_sub(4);
        let rest = if rest == 0 {
            String::new()
        } else {
            format!("; and {rest} more")
        };
        Some(Problem {
            kind: ProblemKind::Spec,
            reason: first.reason.unwrap_or("SpecInvalid").to_owned(),
            message: format!("{first}{more}{rest}"),
        })
    }
}

/// Bytes of JSON that an object may have without its status.
const MOST_BYTES: usize = 1 << 20;

/// Resolves a spec.
pub fn validate(object: &ServiceObject, defaults: &Defaults, known: Known) -> Validated {
    let mut errors = Vec::new();
    errors.extend(object.workload.as_ref().and_then(|w| w.unusable.clone()));
    check_name(object, &mut errors);
    check_size(object, &mut errors);
    super::service_marks::check(&object.service_metadata, &mut errors);
    fields::check_counted(&object.counted, defaults.no_secrets, &mut errors);
    let mut validated = match &object.spec {
        Ok(spec) if jobs::are_meant(spec) => jobs::resolve(spec, defaults, &mut errors),
        Ok(spec) => resolve(spec, defaults, known, &mut errors),
        Err(why) => {
            let message =
                format!("can't be read: {why}; compare it with `kubectl explain pythonservice.spec`");
            errors.push(FieldError::new("spec", message));
            unreadable(object, known)
        }
    };
    validated.plan.deleting = object.is_deleting();
    if errors.is_empty() && !object.is_deleting() {
        validated.plan.revision.clone_from(&object.revision);
    } else {
        validated.plan = validated.plan.without_revision();
    }
    if let RouteSpec::Runs { schedule } = &mut validated.route
        && !errors.is_empty()
    {
        // What can't be used as a whole changes nothing.
        *schedule = None;
    }
    validated.errors = errors;
    validated
}

/// etcd takes objects of 1.5 MiB. A rollout whose status no longer fits could be neither steered nor aborted.
fn check_size(object: &ServiceObject, errors: &mut Vec<FieldError>) {
    if object.size > MOST_BYTES {
        let message = format!(
            "is too large: the object has {} KiB and may have {}, so that its status can be stored as well: move large values of the template to ConfigMaps",
            object.size >> 10,
            MOST_BYTES >> 10
        );
        errors.push(FieldError::new("spec", message));
    }
}

/// The plan of a spec that can't be read at all.
fn unreadable(object: &ServiceObject, known: Known) -> Validated {
    let route = match object.workers {
        _ if object.is_job => RouteSpec::Runs { schedule: None },
        Some(singleton) => RouteSpec::Workers { singleton },
        None => traffic::route(object.traffic.as_ref(), object.protocol, known, &mut Vec::new()),
    };
    let replicas = known
        .workload_replicas
        .or(known.stable_wanted.filter(|_| !object.is_job))
        .unwrap_or(DEFAULT_REPLICAS);
    Validated {
        warm_up: None,
        plan: Plan {
            shared_in_cluster: traffic::is_shared_in_cluster(object.traffic.as_ref()),
            sticky: traffic::is_sticky(object.traffic.as_ref()),
            ..default_plan(replicas, route.mode())
        },
        queries: Vec::new(),
        conditions: Vec::new(),
        guards: Vec::new(),
        connections: None,
        source: None,
        route,
        record_limit: DEFAULT_RECORDS,
        errors: Vec::new(),
    }
}

/// What counts where the spec says nothing.
fn default_plan(replicas: u32, route: RouteMode) -> Plan {
    Plan {
        revision: None,
        deleting: false,
        replicas,
        room: Room::default(),
        steps: STEPS
            .iter()
            .flat_map(|weight| [Step::SetWeight(*weight), Step::Dwell(DWELL)])
            .collect(),
        at_once: false,
        bake: SignedDuration::from_mins(5),
        watch: SignedDuration::from_hours(1),
        scale_down_delay: SignedDuration::from_secs(30),
        abort_scale_down_delay: SignedDuration::from_secs(30),
        drain: SignedDuration::from_secs(60),
        progress_deadline: SignedDuration::from_mins(10),
        paused: false,
        strict_paused: false,
        migrations: None,
        rollback_window: 0,
        workload: None,
        group: None,
        revision_history_limit: DEFAULT_HISTORY,
        route,
        runs: RunsPlan::default(),
        shared_in_cluster: false,
        sticky: false,
        slos: Vec::new(),
        conditions: Vec::new(),
        guards: Vec::new(),
        limits: Limits::default(),
        on_inconclusive: OnInconclusive::Pause,
        budget_exhausted: BudgetExhausted::Slow,
        on_share_mismatch: OnShareMismatch::Hold,
        block: SignedDuration::from_secs(30),
        basis: String::new(),
    }
}

fn resolve(
    spec: &PythonServiceSpec,
    defaults: &Defaults,
    known: Known,
    errors: &mut Vec<FieldError>,
) -> Validated {
    in_range(errors, "spec.port", spec.port, 1..=65535, 0);
    jobs::check_place(spec, errors);
    match &spec.template {
        Some(template) => check_template(template, errors),
        None if spec.workload_ref.is_none() => {
            let message =
                "is missing: write a pod template, or workloadRef for that of an existing Deployment";
            errors.push(FieldError::new("spec.template", message));
        }
        None => {}
    }
    check_container(spec, errors);
    // What serves must not be scaled by a number that can't be used.
    let stable = known.stable_wanted.filter(|n| *n > 0);
    let unset = known.workload_replicas.or(stable).unwrap_or(DEFAULT_REPLICAS);
    let replicas = in_range(errors, "spec.replicas", spec.replicas, 0..=i32::MAX, unset);
    let route = traffic::resolve(spec, known, errors);
    let fallback = default_plan(replicas, route.mode());
    let (history, rollback_window, record_limit) = kept(spec, errors);
    let progress_deadline = duration(
        errors,
        "spec.progressDeadline",
        spec.progress_deadline.as_ref(),
        fallback.progress_deadline,
        SignedDuration::from_secs(1),
    );
    let mut way = strategy::resolve(spec.strategy.as_ref(), &fallback, errors);
    traffic::fit(&route, &mut way.steps, errors);
    workers::fit(route.mode(), &mut way.steps, errors);
    workers::check_slos(spec, errors);
    traffic::check_delay(&route, progress_deadline, errors);
    let room = room::resolve(spec, route.mode(), errors);
    room::check_ready(spec, progress_deadline, errors);
    let drain = spec.drain.as_ref().map(|d| &d.timeout);
    let drain = duration(
        errors,
        "spec.drain.timeout",
        drain,
        fallback.drain,
        SignedDuration::ZERO,
    );
    let policies = resolve_analysis(spec.analysis.as_ref(), errors);
    let source = resolve_source(spec, defaults, errors);
    let least = workers::least_slos(spec);
    let queries = resolve_slos(&spec.slos, least, source.as_ref(), errors);
    let conditions = guards::resolve(spec.guards.as_ref(), progress_deadline, errors);
    let (runtime, guard_queries) = guards::runtime(spec.guards.as_ref(), &queries, errors);
    let connections = guards::connections::resolve(spec.guards.as_ref(), errors);
    let room = Room {
        connections: connections.as_ref().map(|(plan, _)| *plan),
        ..room
    };
    let mut plan = Plan {
        group: resolve_group(spec.group.as_ref(), &route, errors),
        room,
        steps: way.steps,
        at_once: way.at_once,
        bake: way.bake,
        watch: way.watch,
        scale_down_delay: way.scale_down_delay,
        abort_scale_down_delay: way.abort_scale_down_delay,
        drain,
        progress_deadline,
        workload: spec.workload_ref.as_ref().map(|workload| workload.name.clone()),
        paused: spec.paused.unwrap_or(false),
        strict_paused: defaults.strict_paused,
        rollback_window,
        revision_history_limit: history,
        slos: slo_plans(spec, &queries),
        migrations: gates::migrations(spec, errors),
        conditions: conditions.iter().map(|(plan, _)| plan.clone()).collect(),
        guards: runtime,
        limits: policies.limits,
        on_inconclusive: policies.on_inconclusive,
        budget_exhausted: policies.budget_exhausted,
        on_share_mismatch: traffic::share_counts(spec, policies.on_share_mismatch),
        shared_in_cluster: traffic::is_shared_in_cluster(spec.traffic.as_ref()),
        sticky: traffic::is_sticky(spec.traffic.as_ref()),
        // Two scrapes: one sample at least in each block, whatever the phase of the scrapes.
        block: source.as_ref().map_or(fallback.block, |s| s.interval * 2),
        basis: basis::basis(spec, source.as_ref()),
        ..fallback
    };
    workers::limit(&mut plan);
    Validated {
        plan,
        queries,
        conditions: conditions.into_iter().filter_map(|(_, query)| query).collect(),
        guards: guard_queries,
        connections: connections.map(|(_, query)| query),
        source,
        warm_up: warm_up::resolve(spec, errors),
        route,
        record_limit,
        errors: Vec::new(),
    }
}

/// The services that it is released with.
fn resolve_group(
    group: Option<&api::Group>,
    route: &RouteSpec,
    errors: &mut Vec<FieldError>,
) -> Option<Group> {
    let group = group?;
    fields::check_label("spec.group.name", &group.name, errors);
    let header = group.header.as_ref().map(|header| header.to_lowercase());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_name = |h: &String| (1..=64).contains(&h.len()) && h.chars().all(inner);
    if header.as_ref().is_some_and(|h| !is_name(h) || h == "host") {
        let message = "is no name of a header of one's own: letters, digits and '-', such as x-molt-group";
        errors.push(FieldError::new("spec.group.header", message));
    }
    let owned = route.mode() == RouteMode::Owned;
    let headless = header.as_ref().filter(|_| !owned).map(|_| {
        format!(
            "spec.group.header is without effect: only a route of Molt's own (parentRefs, or hosts of Istio) can set it, and here it is {}",
            match route.mode() {
                RouteMode::Shares => "pods that divide the traffic",
                RouteMode::Workers | RouteMode::Singleton | RouteMode::Runs => "none, for nobody calls workers",
                _ => "yours",
            }
        )
    });
    Some(Group {
        name: group.name.clone(),
        wave: in_range(errors, "spec.group.wave", group.wave, 0..=1000, 0),
        header: header.filter(|_| owned),
        headless,
    })
}

/// How much of the past is kept, or still counts: old revisions, those that a rollback goes straight to, records.
fn kept(spec: &PythonServiceSpec, errors: &mut Vec<FieldError>) -> (usize, usize, usize) {
    let history = in_range(
        errors,
        "spec.revisionHistoryLimit",
        spec.revision_history_limit,
        0..=50,
        DEFAULT_HISTORY,
    );
    let rollback_window = in_range(
        errors,
        "spec.rollbackWindow.revisions",
        spec.rollback_window.as_ref().map(|window| window.revisions),
        0..=10,
        0,
    );
    let record_limit = in_range(
        errors,
        "spec.rolloutRecordLimit",
        spec.rollout_record_limit,
        1..=500,
        DEFAULT_RECORDS,
    );
    (history, rollback_window, record_limit)
}

fn resolve_analysis(analysis: Option<&api::Analysis>, errors: &mut Vec<FieldError>) -> Policies {
    let none = api::Analysis::default();
    let analysis = analysis.unwrap_or(&none);
    let alpha = probability(
        errors,
        "spec.analysis.falseRollbackProbability",
        analysis.false_rollback_probability.as_ref(),
        0.01,
    );
    let confidence = probability(
        errors,
        "spec.analysis.safeConfidence",
        analysis.safe_confidence.as_ref(),
        0.95,
    );
    let spend = match analysis.max_budget_spend.as_ref().map(api::Percent::parse) {
        None => 0.02,
        Some(Ok(share)) if share > 0.0 => share,
        Some(result) => {
            let message = result
                .err()
                .unwrap_or_else(|| "must be above 0%, such as 2%".to_owned());
            errors.push(FieldError::new("spec.analysis.maxBudgetSpend", message));
            0.02
        }
    };
    let policy = match analysis.on_inconclusive {
        None | Some(InconclusivePolicy::Pause) => OnInconclusive::Pause,
        Some(InconclusivePolicy::Rollback) => OnInconclusive::Rollback,
        Some(InconclusivePolicy::PromoteIfBudgetSafe) => OnInconclusive::PromoteIfBudgetSafe,
    };
    Policies {
        limits: Limits::new(alpha, confidence, spend).unwrap_or_default(),
        on_inconclusive: policy,
        budget_exhausted: match analysis.budget_exhausted {
            None | Some(ExhaustedPolicy::Slow) => BudgetExhausted::Slow,
            Some(ExhaustedPolicy::Refuse) => BudgetExhausted::Refuse,
            Some(ExhaustedPolicy::Allow) => BudgetExhausted::Allow,
        },
        on_share_mismatch: match analysis.on_share_mismatch {
            None | Some(MismatchPolicy::Hold) => OnShareMismatch::Hold,
            Some(MismatchPolicy::Ignore) => OnShareMismatch::Ignore,
        },
    }
}

/// What the core needs to know of the objectives.
fn slo_plans(spec: &PythonServiceSpec, queries: &[SloQuery]) -> Vec<SloPlan> {
    queries
        .iter()
        .map(|q| SloPlan {
            name: q.name.clone(),
            objective: q.objective.clone(),
            question: basis::question(spec, &q.name),
        })
        .collect()
}

/// `spec.analysis`, resolved.
struct Policies {
    limits: Limits,
    on_inconclusive: OnInconclusive,
    budget_exhausted: BudgetExhausted,
    on_share_mismatch: OnShareMismatch,
}

fn resolve_source(
    spec: &PythonServiceSpec,
    defaults: &Defaults,
    errors: &mut Vec<FieldError>,
) -> Option<PrometheusSource> {
    let path = "spec.metrics.prometheus";
    let written = spec.metrics.as_ref().map(|m| &m.prometheus);
    let mut complete = true;
    if defaults.prometheus_address.is_none() && written.is_none_or(|p| p.address.is_none()) {
        complete = false;
        errors.push(FieldError::new(
            format!("{path}.address"),
            "no Prometheus is known: set it here, or start the operator with --prometheus-address",
        ));
    }
    // The other fields are checked all the same.
    let default = defaults.prometheus_address.as_deref().unwrap_or("http://unset");
    match PrometheusSource::parse(written, default) {
        Ok(source) => complete.then_some(source),
        Err(wrong) => {
            errors.extend(wrong.into_iter().map(|e| FieldError::under(path, e)));
            None
        }
    }
}

fn resolve_slos(
    slos: &[api::Slo],
    least: usize,
    source: Option<&PrometheusSource>,
    errors: &mut Vec<FieldError>,
) -> Vec<SloQuery> {
    if slos.len() < least || slos.len() > 10 {
        let message = format!(
            "has {} objectives: write 1 to 10; without one nothing can be decided",
            slos.len()
        );
        errors.push(FieldError::new("spec.slos", message));
    }
    let unset = || PrometheusSource::parse(None, "http://unset").ok();
    let Some(source) = source.cloned().or_else(unset) else {
        return Vec::new();
    };
    let mut queries: Vec<SloQuery> = Vec::new();
    for (index, slo) in slos.iter().enumerate() {
        let path = format!("spec.slos[{index}]");
        fields::check_label(&format!("{path}.name"), &slo.name, errors);
        if let Some(first) = slos[..index].iter().position(|other| other.name == slo.name) {
            let message = format!(
                "{:?} is the name of spec.slos[{first}] already: give each its own",
                slo.name
            );
            errors.push(FieldError::new(format!("{path}.name"), message));
        }
        match SloQuery::parse(slo, &source) {
            Ok(query) => queries.push(query),
            Err(wrong) => errors.extend(wrong.into_iter().map(|e| FieldError::under(&path, e))),
        }
    }
    queries
}

#[cfg(test)]
mod tests;

//! One reconcile of one service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use molt_core::config::Asked;
use molt_core::decision::{ConditionView, Decision, Effect};
use molt_core::observed::{Observed, ProblemKind, Slot};
use molt_core::plan::{Revision, RouteMode};
use molt_core::rollout::{Due, measurement_due};
use molt_core::state::State;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument;

use super::actions::Chore;
use super::apply::Applier;
use super::memory::{KeptHistory, Memory};
use super::object::ServiceObject;
use super::observe::{known, mark, observe, route_target};
use super::render::{revision_name, slot_name};
use super::validate::{Known, Validated, validate};
use super::{
    Context, Failure, adopted, config, events, jobs, log_span, measures, readiness, record, requeue, rules,
    status, warm_up,
};
use crate::api::v1alpha1::PythonServiceStatus;
use crate::k8s::Key;
use crate::k8s::failure::{Target, WriteError};
use crate::metric_sources::{MeasureRequest, RouteBackends};
use crate::rules::object_name;
use crate::traffic::gateway_api::sessions::{self, Support};
use crate::traffic::rules_owners::Edit;
use crate::traffic::{self, BackendPlace, RouteTarget};

/// What a conflict waits for the watch to catch up.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How long a history may stand for that of the present.
const HISTORY_LASTS: Duration = Duration::from_mins(2);
/// When a record that could not be written is tried again.
const RECORD_RETRY: Duration = Duration::from_secs(5);

/// Reconciles a service, with its duration and its failures counted.
pub async fn reconcile(object: Arc<ServiceObject>, context: Arc<Context>) -> Result<Action, Failure> {
    let span = log_span(&object.key());
    Box::pin(timed(&object, &context)).instrument(span).await
}

async fn timed(object: &ServiceObject, context: &Context) -> Result<Action, Failure> {
    let key = object.key();
    let began = Instant::now();
    let result = Box::pin(one(object, context, &key)).await;
    context.metrics.reconciled(began.elapsed());
    match &result {
        Ok(_) => context.memories.update(&key, |m| {
            m.failures = 0;
            m.apply_problem = None;
        }),
        Err(Failure::Write(error)) => {
            if error.is_untold() {
                tell_beside(object, context, "StatusNotWritten", &error.to_string()).await;
            }
            // The next decision tells of it; what passes by itself is no news.
            let problem = error.problem();
            context.memories.update(&key, |m| m.apply_problem = problem);
        }
        Err(Failure::State(_)) => {}
    }
    result
}

/// Tells by an event alone: the status can't be written, or may not be.
async fn tell_beside(object: &ServiceObject, context: &Context, reason: &str, message: &str) {
    let event = events::untold(reason, message);
    if let Err(error) = context.writer.publish(&event, &events::reference(object)).await {
        tracing::warn!(reason, %error, "an event was lost");
    }
}

/// How long a failed reconcile waits.
#[allow(clippy::needless_pass_by_value)] // The signature is kube's.
pub fn on_error(object: Arc<ServiceObject>, failure: &Failure, context: Arc<Context>) -> Action {
    let key = object.key();
    let _span = log_span(&key).entered();
    if let Ok(state) = object.state() {
        name_attempt(&state);
    }
    let category = match failure {
        Failure::Write(error) => error.category(),
        Failure::State(_) => "UnreadableState",
    };
    context.metrics.reconcile_failed(category);
    if matches!(
        failure,
        Failure::Write(WriteError::Stale(_) | WriteError::NotLeading { .. })
    ) {
        tracing::debug!(error = %failure, "decided anew");
        return Action::requeue(CATCH_UP);
    }
    let for_a_person = matches!(failure, Failure::Write(error) if error.is_for_a_person());
    let wait = context.memories.failed(&key, for_a_person);
    tracing::warn!(error = %failure, wait_seconds = wait.as_secs(), "reconcile failed");
    Action::requeue(wait)
}

/// Has the log lines that follow name the stable revision.
fn name_stable(state: &State) {
    if let Some(stable) = &state.stable {
        tracing::Span::current().record("revision", stable.0.as_str());
    }
}

/// Has the log lines that follow say which attempt they are about; one that has just ended stays to be named.
fn name_attempt(state: &State) {
    let span = tracing::Span::current();
    if let Some(attempt) = &state.attempt {
        span.record("revision", attempt.revision.0.as_str());
        span.record("attempt", attempt.number);
    }
}

async fn one(object: &ServiceObject, context: &Context, key: &Key) -> Result<Action, Failure> {
    let memory = context.memories.of(key);
    if is_behind(object, memory.written.as_deref()) {
        // The watch will bring what this operator has written last.
        return Ok(Action::requeue(CATCH_UP));
    }
    if object.is_deleting() && !object.has_finalizer() {
        return Ok(gone(object, context, key));
    }
    let before = match object.state() {
        Ok(state) => state,
        // What is being deleted needs no state to give its route back.
        Err(_) if object.is_deleting() => State::default(),
        Err(why) => return unreadable_state(object, context, key, why).await,
    };
    name_stable(&before);
    name_attempt(&before);
    let resolved = adopted::resolve(object, &context.caches);
    let object = &*resolved;
    if object.workload.is_some() {
        context.caches.config_users.learn(object);
    }
    let known = known_of(object, context).await;
    let mut validated = validate(object, &context.defaults, known);
    let now = context.clock.now();
    let asked = config::ask(object, &validated, &before, &context.caches, now);
    validated.plan.revision.clone_from(&asked.revision);
    let before = State {
        config: asked.config.clone(),
        ..before
    };
    let target = route_target(object, &validated, &context.caches, &asked);
    let applier = Applier {
        object,
        asked: &asked,
        target: &target,
        caches: &context.caches,
        routers: &context.routers,
        writer: &context.writer,
    };
    if !object.is_deleting() && !object.has_finalizer() {
        applier.set_finalizer(true).await?;
        return Ok(Action::await_change());
    }
    let mut seen = see(object, context, key, &validated, &target, &before).await;
    let now = context.clock.now();
    let patience = answer_awaited(context, key, &target, &mut seen, now);
    let warm = warm(&before, context, key, &validated, &mut seen, now);
    let mut decision = (context.decide)(&validated.plan, &before, &seen, now);
    name_attempt(&decision.state);
    let target = target.marked(mark(&validated, &decision.state));
    let applier = applier.with(&target);
    let rules = plan_rules(object, context, key, &validated, memory.rules.as_ref());
    let beside = conditions_beside(object, context, &asked, &rules, &memory);
    decision.report.conditions.extend(beside);
    let written = persist(object, context, key, &validated, &seen, &decision, now).await?;
    context.outbox.tell(object, &written, now);
    measures::tell(&context.metrics, key, &before, &decision, &seen, &validated.plan);

    let mut verdicts = memory.verdicts.clone();
    verdicts.extend(decision.report.verdicts.iter().cloned());
    let goes = decision.effects.contains(&Effect::RemoveFinalizer);
    let keeper = keeper(context, object, &seen, now, validated.record_limit);
    let record = || write_record(context, keeper, &before, &decision, &verdicts);
    let mut recorded = Ok(());
    if goes {
        // Afterwards nobody would know that there is something left to write.
        recorded = record().await;
    }
    let edit = context.routers.of(&target.spec).observe(&target, now).edit;
    let outcome = applier.apply(&decision.effects, now).await;
    let evictions = applier.evict(&decision.effects).await;
    context.memories.update(key, |m| m.eviction_refused = evictions);
    if !goes {
        recorded = record().await;
    }
    tell_events(object, context, &decision).await;
    forget_ended_actions(context, key, &decision, validated.record_limit);
    if let Err(WriteError::NameTaken { target, .. }) = &outcome
        && is_own_name(object, &validated, target)
    {
        // The Service that leads to the Deployment's pods, and to those of Molt's by the same labels.
        context.memories.update(key, |m| m.name_taken = true);
        return Ok(Action::requeue(CATCH_UP));
    }
    outcome?;
    if goes {
        return Ok(gone(object, context, key));
    }
    if !object.is_deleting() {
        let healed = applier.heal(&decision.effects, now).await?;
        tell_of_edit(object, context, key, &decision, edit, healed).await;
        tell_of_deletion(object, context, key, &target, &seen, &decision).await;
    }
    let again = rules::carry_out(object, context, key, &rules.step, &memory).await;
    let jobs_again = jobs::carry_out(object, context, key, applier.current(), &decision.jobs).await;
    let retry = recorded.err().map(|()| RECORD_RETRY);
    // What was told of is over. If the status said it already, nothing was written, and no event brings this again.
    let over = memory.apply_problem.is_some().then_some(CATCH_UP);
    // Nothing tells of other CRDs.
    let lacks = matches!(known.sessions, Support::Dropped | Support::Unknown).then_some(sessions::LASTS);
    let (wake, settled) = (until(context, decision.wake_at), until(context, asked.until));
    let all = [
        wake, retry, over, again, jobs_again, patience, settled, warm, lacks,
    ];
    Ok(requeue(all.into_iter().flatten().min()))
}

/// Another action has ended: the oldest are deleted beyond the limit, beside the reconciles.
fn forget_ended_actions(context: &Context, key: &Key, decision: &Decision, limit: usize) {
    let ends = |effect: &Effect| matches!(effect, Effect::EndAction { .. });
    if decision.effects.iter().any(ends) {
        let service = key.clone();
        // Nobody listens while the operator ends.
        drop(context.chores.send(Chore::Surplus { service, limit }));
    }
}

/// Who keeps the records of a service, as it was decided on.
fn keeper<'a>(
    context: &'a Context,
    object: &'a ServiceObject,
    seen: &'a Observed,
    now: Timestamp,
    limit: usize,
) -> record::Keeper<'a> {
    record::Keeper {
        writer: &context.writer,
        caches: &context.caches,
        traces: &context.traces,
        object,
        asked: &seen.actions,
        now,
        limit,
    }
}

/// How long until then.
fn until(context: &Context, at: Option<Timestamp>) -> Option<Duration> {
    let left = at?.duration_since(context.clock.now());
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

/// It is gone, and nothing is remembered of it.
fn gone(object: &ServiceObject, context: &Context, key: &Key) -> Action {
    context.memories.forget(key);
    context.outbox.gone(object, context.clock.now());
    context.metrics.forget(key);
    Action::await_change()
}

/// Warms the pods of an attempt, and adds which of them are not warm yet; says when to look again.
fn warm(
    before: &State,
    context: &Context,
    key: &Key,
    validated: &Validated,
    seen: &mut Observed,
    now: Timestamp,
) -> Option<Duration> {
    let pods = context.caches.pods.of(key);
    let (Some(plan), Some((revision, pods))) = (&validated.warm_up, warm_up::warmed(before, &pods)) else {
        context.warm_ups.forget(key);
        return None;
    };
    if plan.requests > 0 {
        context.warm_ups.carry_out(key, plan, &pods, &context.clock);
    }
    context.warm_ups.tell(key, plan, (&revision, &pods), seen, now)
}

/// What a spec's meaning depends on; whether users can be kept on a revision, where the spec wants them to be.
async fn known_of(object: &ServiceObject, context: &Context) -> Known {
    let gateway = object.traffic.as_ref().and_then(|t| t.gateway_api.as_ref());
    let sessions = if gateway.is_some_and(|gateway| gateway.session_affinity.is_some()) {
        context.routers.sessions.support().await
    } else {
        Support::Unasked
    };
    Known {
        sessions,
        ..known(object, &context.caches)
    }
}

/// Conditions of what the core knows nothing of.
fn conditions_beside(
    object: &ServiceObject,
    context: &Context,
    asked: &Asked,
    rules: &rules::Plan,
    memory: &Memory,
) -> impl Iterator<Item = ConditionView> {
    let of_config = config::condition(object, asked, &context.caches);
    let of_record = memory.unrecorded.clone().map(|message| ConditionView {
        kind: "Recorded",
        status: false,
        reason: "RecordRefused".to_owned(),
        message,
        fault: true,
    });
    let rules = rules.condition.clone().into_iter();
    rules.chain(of_config).chain(of_record)
}

/// What becomes of the rules that the objectives ask for.
fn plan_rules(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    validated: &Validated,
    failed: Option<&rules::Failed>,
) -> rules::Plan {
    rules::plan(
        object,
        validated,
        context.caches.rules.presence(),
        context.caches.rules.get(key, &object_name(&key.name)).as_deref(),
        &context.rule_labels,
        failed,
    )
}

/// A Service of the service's own name was there before, and belongs to the Deployment that is taken over.
fn is_own_name(object: &ServiceObject, validated: &Validated, target: &Target) -> bool {
    let own = target.resource == "services" && target.name == object.key().name;
    own && object.workload.is_some() && validated.plan.route != RouteMode::Shares
}

/// Events are told once; one that is lost is no reason to do anything again.
async fn tell_events(object: &ServiceObject, context: &Context, decision: &Decision) {
    let told = events::events(object, &decision.report);
    for event in &told {
        tracing::info!(
            reason = event.reason,
            "{}",
            event.note.as_deref().unwrap_or_default()
        );
    }
    for event in told.into_iter().chain(events::advice(object)) {
        if let Err(error) = context.writer.publish(&event, &events::reference(object)).await {
            tracing::warn!(reason = event.reason, %error, "an event was lost");
        }
    }
}

/// Tells, once, that what somebody wrote in a route of Molt's was written over.
async fn tell_of_edit(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    decision: &Decision,
    seen: Option<Edit>,
    healed: Option<Edit>,
) {
    let sets_route = |effect: &Effect| matches!(effect, Effect::SetRoute { .. });
    // Who lowers a weight is told of its own: it was heeded.
    let heeded = decision
        .report
        .transitions
        .iter()
        .any(|t| t.reason == "WeightLowered");
    let written = healed.is_some() || decision.effects.iter().any(sets_route);
    let Some(edit) = healed.or(seen) else { return };
    if !(written || heeded) || context.memories.of(key).edit.as_ref() == Some(&edit) {
        return;
    }
    if !heeded {
        let event = events::put_back(object, &edit);
        if let Err(error) = context.writer.publish(&event, &events::reference(object)).await {
            tracing::warn!(reason = event.reason, %error, "an event was lost");
        }
    }
    context.memories.update(key, |m| m.edit = Some(edit));
}

/// Tells of a route of Molt's that is gone though nobody asked for another one.
async fn tell_of_deletion(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    target: &RouteTarget,
    seen: &Observed,
    decision: &Decision,
) {
    if target.spec.mode() != RouteMode::Owned {
        return context.memories.update(key, |m| m.route = None);
    }
    let route = (target.spec.kind(), target.spec.name(&key.name).to_owned());
    let carries = !seen.route.weights.is_empty();
    let sets_route = |effect: &Effect| matches!(effect, Effect::SetRoute { .. });
    let makes_it = decision.effects.iter().any(sets_route);
    let was_there = context.memories.of(key).route.as_ref() == Some(&route);
    // While routes can't be read none is seen.
    if !carries && (!makes_it || seen.problem(ProblemKind::Route).is_some()) {
        return;
    }
    // One that somebody wrote other backends into is there: it is told of as an edit.
    if !carries && was_there && !seen.route.exists {
        let event = events::made_again(route.0, &route.1);
        if let Err(error) = context.writer.publish(&event, &events::reference(object)).await {
            tracing::warn!(reason = event.reason, %error, "an event was lost");
        }
    }
    context
        .memories
        .update(key, |m| m.route = carries.then_some(route));
}

/// The cache is older than what this operator has written: versions of one object can be compared.
fn is_behind(object: &ServiceObject, written: Option<&str>) -> bool {
    let version = |text: &str| text.parse::<u64>().ok();
    let (Some(written), Some(have)) = (
        written.and_then(version),
        object.metadata.resource_version.as_deref().and_then(version),
    ) else {
        return false;
    };
    have < written
}

/// Everything that the decision is told, evidence included if it is due.
async fn see(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    validated: &Validated,
    target: &RouteTarget,
    before: &State,
) -> Observed {
    let now = context.clock.now();
    // A person's word does not wait for a Prometheus that hangs.
    let asked = !context.caches.actions.of(key).is_empty();
    if !asked
        && let Some(due) = measurement_due(&validated.plan, before, now)
        && let Some(request) = request(key, validated, target, context, before, due, now)
    {
        let mut request = request;
        let kept = context.memories.of(key).history;
        let basis = &validated.plan.basis;
        let kept = kept.filter(|k| k.at.elapsed() < HISTORY_LASTS && k.basis == *basis);
        let ask = request.want_history && kept.is_none();
        let wanted = std::mem::replace(&mut request.want_history, ask);
        // A Prometheus that hangs does so for seconds; what is asked for meanwhile does not wait for it. The
        // reading is given up and made anew.
        let measured = tokio::select! {
            biased;
            () = context.caches.actions.any(key) => None,
            measured = context.source.measure(&request) => Some(measured),
        };
        if let Some(mut measured) = measured {
            match kept {
                Some(kept) if wanted => {
                    measured.measurement.history = kept.history;
                    measured.problems.extend(kept.problems);
                }
                None if wanted => {
                    let history = KeptHistory {
                        at: Instant::now(),
                        basis: basis.clone(),
                        history: measured.measurement.history.clone(),
                        problems: measured.of_history.clone(),
                    };
                    measured.problems.extend(std::mem::take(&mut measured.of_history));
                    context.memories.update(key, |m| m.history = Some(history));
                }
                _ => {}
            }
            context
                .memories
                .update(key, |m| m.metric_problems.clone_from(&measured.problems));
            let now = context.clock.now();
            let mut seen = observe(object, validated, target, &context.caches, &context.routers, now);
            seen.measurement = Some(measured.measurement);
            return with_problems(seen, context, key, before);
        }
    }
    let seen = observe(object, validated, target, &context.caches, &context.routers, now);
    with_problems(seen, context, key, before)
}

/// Adds that nobody answers for the route, once that has lasted; until then, how long to wait for it. Also how long for
/// a route that counts as acknowledged by the time alone.
fn answer_awaited(
    context: &Context,
    key: &Key,
    target: &RouteTarget,
    seen: &mut Observed,
    now: Timestamp,
) -> Option<Duration> {
    let sighting = context.routers.of(&target.spec).observe(target, now);
    let left = context
        .memories
        .unanswered(key, sighting.unanswered.is_some(), now);
    let by_time = sighting.acknowledged_at.map(|at| at.duration_since(now));
    let by_time = by_time.map(|wait| Duration::try_from(wait).unwrap_or_default());
    let Some(message) = sighting.unanswered else {
        return by_time;
    };
    if left.is_zero() {
        seen.problems.push(traffic::unanswered(message));
        return by_time;
    }
    Some(left.min(by_time.unwrap_or(left)))
}

/// Adds what earlier reconciles have learnt.
fn with_problems(mut seen: Observed, context: &Context, key: &Key, before: &State) -> Observed {
    if before.attempt.is_none() && before.watch.is_none() {
        // Nothing is measured while nothing moves, so nothing can be said of the metrics either.
        context.memories.update(key, |m| m.metric_problems.clear());
    }
    let memory = context.memories.of(key);
    seen.name_taken = memory.name_taken;
    seen.problems.extend(memory.metric_problems);
    seen.problems.extend(memory.apply_problem);
    if let Some(stable) = &mut seen.stable_pods {
        stable.refused = memory.eviction_refused;
    }
    jobs::add_refused(&mut seen.jobs, &memory.jobs, before);
    // A reading that failed as a whole is none at all: the core must ask again.
    let unread = |m: &molt_core::observed::Measurement| m.blocks.is_empty() && m.history.is_empty();
    if seen.problem(ProblemKind::Metrics).is_some() && seen.measurement.as_ref().is_some_and(unread) {
        seen.measurement = None;
    }
    seen
}

fn request(
    key: &Key,
    validated: &Validated,
    target: &RouteTarget,
    context: &Context,
    before: &State,
    due: Due,
    now: Timestamp,
) -> Option<MeasureRequest> {
    let name = |revision: &Revision| revision_name(&key.name, revision);
    let pods = context.caches.pods.of(key);
    let births: BTreeMap<String, Timestamp> = pods
        .iter()
        .filter_map(|(name, pod)| Some((name.clone(), pod.created_at?)))
        .collect();
    let (canary, stable) = before.counted();
    // A revision that is watched after its promotion has stable's place in a route.
    let place_of_canary = if before.attempt.is_some() {
        Slot::Canary
    } else {
        Slot::Stable
    };
    let places = context.routers.of(&target.spec).observe(target, now).backends;
    let in_route = |revision: Option<&Revision>, slot| {
        let service = match target.spec.mode() {
            RouteMode::Adopted => revision.map(|_| slot_name(&key.name, slot)),
            _ => revision.map(name),
        };
        let of_revision = |place: &&BackendPlace| Some(&place.service) == service.as_ref();
        places.iter().filter(of_revision).cloned().collect()
    };
    Some(MeasureRequest {
        backends: RouteBackends {
            route: target.spec.name(&key.name).to_owned(),
            canary: in_route(canary, place_of_canary),
            stable: in_route(stable, Slot::Stable),
        },
        source: validated.source.clone()?,
        namespace: key.namespace.clone(),
        service: key.name.clone(),
        slos: validated.queries.clone(),
        canary: canary.map(name),
        stable: stable.map(name),
        births,
        warm_at: match (&validated.warm_up, warm_up::warmed(before, &pods)) {
            (Some(plan), Some((_, pods))) => context.warm_ups.times(key, plan, &pods),
            _ => BTreeMap::new(),
        },
        starts: pods
            .iter()
            .map(|(name, pod)| (name.clone(), pod.starts.clone()))
            .collect(),
        conditions: if due.want_conditions {
            validated.conditions.clone()
        } else {
            Vec::new()
        },
        guards: if due.want_conditions {
            validated.guards.clone()
        } else {
            Vec::new()
        },
        connections: validated.connections.clone().filter(|_| before.attempt.is_some()),
        edges: due.edges,
        want_history: due.want_history,
        now,
    })
}

/// The one status write, of the version that was decided on; skipped when nothing has changed. Returns what it says.
async fn persist(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    validated: &Validated,
    seen: &Observed,
    decision: &Decision,
    now: Timestamp,
) -> Result<PythonServiceStatus, WriteError> {
    let ready = readiness::judge(object, validated.plan.replicas, &context.memories, key);
    let new = status::status(object, validated.plan.route, seen, decision, ready, now);
    if object.status.as_ref().is_ok_and(|old| *old == new) {
        return Ok(new);
    }
    put(object, context, key, &new).await?;
    Ok(new)
}

async fn put(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    new: &PythonServiceStatus,
) -> Result<(), WriteError> {
    let version = object.metadata.resource_version.clone().unwrap_or_default();
    let body = json!(new);
    let written = context
        .writer
        .put_status::<ServiceObject>(&key.namespace, &key.name, &version, body)
        .await?;
    context
        .memories
        .update(key, |m| m.written = written.resource_version);
    Ok(())
}

/// A state that this version can't read: nothing is touched, so stable keeps serving, and it is said.
async fn unreadable_state(
    object: &ServiceObject,
    context: &Context,
    key: &Key,
    why: &str,
) -> Result<Action, Failure> {
    let message = format!(
        "status.state can't be read: {why}; another version has written it, or somebody has edited it: run the version that wrote it, or remove it with `kubectl patch pythonservice {} --subresource=status --type=json -p '[{{\"op\":\"remove\",\"path\":\"/status\"}}]'`: the revision that users are served by is then taken for stable",
        key.name
    );
    if !object
        .conditions
        .iter()
        .any(|c| c.type_ == "Stalled" && c.reason == "StateUnreadable")
    {
        // Whatever else is wrong with the status may keep the API server from taking a condition.
        tell_beside(object, context, "StateUnreadable", &message).await;
        let body = json!({"status": {"phase": "Degraded", "observedGeneration": object.metadata.generation, "message": message, "conditions": [{
            "type": "Stalled", "status": "True", "reason": "StateUnreadable", "message": message,
            "lastTransitionTime": context.clock.now(), "observedGeneration": object.metadata.generation,
        }]}});
        context
            .writer
            .merge_status::<ServiceObject>(&key.namespace, &key.name, &body)
            .await?;
    }
    Err(Failure::State(why.to_owned()))
}

async fn write_record(
    context: &Context,
    keeper: record::Keeper<'_>,
    before: &State,
    decision: &Decision,
    verdicts: &[molt_core::decision::Verdict],
) -> Result<(), ()> {
    let key = &keeper.object.key();
    let written = record::write(keeper, before, decision, verdicts).await;
    let kept = if written.is_ok() {
        Vec::new()
    } else {
        verdicts.to_vec()
    };
    let refused = written.as_ref().err().filter(|error| error.is_lasting());
    let refused = refused.map(|error| {
        format!("{error}; the rollout goes on, and what happens is written down as soon as it is taken")
    });
    context.memories.update(key, |m| {
        m.verdicts = kept;
        m.unrecorded = refused;
    });
    written.map_err(|error| tracing::warn!(%error, "the record is written later"))
}

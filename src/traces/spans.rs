//! The record of an attempt as a trace.
//!
//! The identity of the trace and of each span follows from that of the attempt: whoever makes the trace again makes the
//! same one, and nothing is there twice.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use molt_core::state::{Outcome, Transition};
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest, Sha256};

use crate::api::v1alpha1::{RecordedVerdict, RolloutRecordSpec, RolloutRecordStatus};

/// A verdict is on no longer time than this: between two that a record keeps, others may have been thinned out.
const LONGEST_BLOCK: Duration = Duration::from_mins(1);

/// The spans of an attempt: the attempt, one for each weight that the canary was given, and in these one for each verdict
/// that the record has. What happened is events on them.
pub fn spans(namespace: &str, spec: &RolloutRecordSpec, status: &RolloutRecordStatus) -> Vec<SpanData> {
    let trace = Trace::of(namespace, spec);
    let ended_at = status.ended_at.unwrap_or(spec.started_at).max(spec.started_at);
    let root = trace.span_id("attempt", "");
    let mut spans = vec![attempt(&trace, root, namespace, spec, status, ended_at)];
    let steps = steps(&status.transitions, spec.started_at, ended_at);
    for step in &steps {
        spans.push(step_span(&trace, root, step));
    }
    for (index, verdict) in status.verdicts.iter().enumerate() {
        let step = steps.iter().rev().find(|step| step.from < verdict.at);
        let earliest = verdict
            .at
            .saturating_sub(LONGEST_BLOCK)
            .unwrap_or(spec.started_at);
        let previous = status.verdicts[..index]
            .iter()
            .rev()
            .find(|v| v.slo == verdict.slo);
        let from = [Some(earliest), step.map(|s| s.from), previous.map(|p| p.at)];
        let from = from
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(earliest)
            .min(verdict.at);
        let parent = step.map_or(root, |step| trace.span_id("step", &step.from.to_string()));
        spans.push(verdict_span(&trace, parent, verdict, from));
    }
    spans
}

/// The identity of an attempt's trace.
struct Trace([u8; 16]);

impl Trace {
    fn of(namespace: &str, spec: &RolloutRecordSpec) -> Self {
        let identity = format!(
            "{namespace}/{}/{}/{}/{}",
            spec.service, spec.revision, spec.attempt, spec.started_at
        );
        Self(digest(&[b"molt.dev/attempt/", identity.as_bytes()]))
    }

    fn span_id(&self, kind: &str, which: &str) -> SpanId {
        let id: [u8; 16] = digest(&[&self.0, kind.as_bytes(), b"/", which.as_bytes()]);
        let mut half = [0; 8];
        half.copy_from_slice(&id[..8]);
        SpanId::from_bytes(half)
    }

    #[allow(clippy::too_many_arguments)] // All that a span is.
    fn span(
        &self,
        id: SpanId,
        parent: SpanId,
        name: impl Into<Cow<'static, str>>,
        (from, to): (Timestamp, Timestamp),
        attributes: Vec<KeyValue>,
        events: Vec<Event>,
        status: Status,
    ) -> SpanData {
        let context = SpanContext::new(
            TraceId::from_bytes(self.0),
            id,
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let mut all = SpanEvents::default();
        all.events = events;
        SpanData {
            span_context: context,
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: SystemTime::from(from),
            end_time: SystemTime::from(to),
            attributes,
            dropped_attributes_count: 0,
            events: all,
            links: SpanLinks::default(),
            status,
            instrumentation_scope: InstrumentationScope::builder("molt")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part);
    }
    let whole = sha.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

fn attempt(
    trace: &Trace,
    id: SpanId,
    namespace: &str,
    spec: &RolloutRecordSpec,
    status: &RolloutRecordStatus,
    ended_at: Timestamp,
) -> SpanData {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let outcome = status.outcome.map(|outcome| format!("{outcome:?}"));
    let mut attributes = vec![
        KeyValue::new("k8s.namespace.name", namespace.to_owned()),
        KeyValue::new("molt.service", spec.service.clone()),
        KeyValue::new("molt.revision", spec.revision.clone()),
        KeyValue::new("molt.attempt", i64::from(spec.attempt)),
        KeyValue::new("molt.outcome", outcome.unwrap_or_default()),
        KeyValue::new("molt.reason", text(&status.reason)),
        KeyValue::new("molt.max_weight", i64::from(status.max_weight)),
    ];
    if let Some(stable) = &spec.stable_revision {
        attributes.push(KeyValue::new("molt.stable_revision", stable.clone()));
    }
    let actions = status.actions.iter().map(|action| {
        let attributes = vec![
            KeyValue::new("molt.state", format!("{:?}", action.state)),
            KeyValue::new("molt.message", action.message.clone()),
        ];
        Event::new(
            format!("action {:?}", action.action),
            action.at.into(),
            attributes,
            0,
        )
    });
    let verdict = match status.outcome {
        Some(Outcome::Promoted) => Status::Ok,
        Some(Outcome::RolledBack | Outcome::Inconclusive) => Status::error(text(&status.message)),
        _ => Status::Unset,
    };
    trace.span(
        id,
        SpanId::INVALID,
        format!("attempt {}", spec.service),
        (spec.started_at, ended_at),
        attributes,
        actions.collect(),
        verdict,
    )
}

/// The time that the canary had one weight.
struct Step<'a> {
    from: Timestamp,
    to: Timestamp,
    weight: u8,
    told: Vec<&'a Transition>,
}

/// Each weight in turn; what happened before the first users is one as well.
fn steps(transitions: &[Transition], from: Timestamp, to: Timestamp) -> Vec<Step<'_>> {
    let mut steps = vec![Step {
        from,
        to,
        weight: 0,
        told: Vec::new(),
    }];
    for transition in transitions {
        let at = transition.at.clamp(from, to);
        match steps.last_mut() {
            Some(last) if last.weight == transition.weight => last.told.push(transition),
            last => {
                if let Some(last) = last {
                    last.to = at.max(last.from);
                }
                steps.push(Step {
                    from: at,
                    to,
                    weight: transition.weight,
                    told: vec![transition],
                });
            }
        }
    }
    // Two weights at the same moment are the later one.
    steps.retain(|step| step.from < step.to || !step.told.is_empty());
    steps
}

fn step_span(trace: &Trace, root: SpanId, step: &Step<'_>) -> SpanData {
    let events = step.told.iter().map(|transition| {
        let message = KeyValue::new("molt.message", transition.message.clone());
        Event::new(transition.reason.clone(), transition.at.into(), vec![message], 0)
    });
    trace.span(
        trace.span_id("step", &step.from.to_string()),
        root,
        format!("weight {}%", step.weight),
        (step.from, step.to),
        vec![KeyValue::new("molt.weight", i64::from(step.weight))],
        events.collect(),
        Status::Unset,
    )
}

fn verdict_span(trace: &Trace, parent: SpanId, verdict: &RecordedVerdict, from: Timestamp) -> SpanData {
    let attributes = vec![
        KeyValue::new("molt.objective", verdict.slo.clone()),
        KeyValue::new("molt.verdict", verdict.verdict.clone()),
        KeyValue::new("molt.step", i64::from(verdict.step)),
        KeyValue::new("molt.weight", i64::from(verdict.weight)),
        KeyValue::new("molt.canary.total", verdict.canary.total),
        KeyValue::new("molt.canary.bad", verdict.canary.bad),
        KeyValue::new("molt.stable.total", verdict.stable.total),
        KeyValue::new("molt.stable.bad", verdict.stable.bad),
        KeyValue::new("molt.evidence.harm", verdict.evidence.harm.clone()),
        KeyValue::new("molt.evidence.safe", verdict.evidence.safe.clone()),
        KeyValue::new("molt.budget.spent", verdict.spent.clone()),
    ];
    let status = if verdict.verdict == "RollBack" {
        Status::error(format!("{}: harm", verdict.slo))
    } else {
        Status::Unset
    };
    trace.span(
        trace.span_id("verdict", &format!("{}/{}", verdict.slo, verdict.at)),
        parent,
        format!("verdict {}", verdict.slo),
        (from, verdict.at),
        attributes,
        Vec::new(),
        status,
    )
}

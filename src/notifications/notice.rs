//! What there is to tell of a service's status. Equal statuses tell the same, so it can be derived again at any time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use molt_core::plan::Step;
use molt_core::state::{Attempt, Ended, Outcome, Stage, State, Transition};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

use crate::api::v1alpha1::{NotificationEvent, Phase, PythonServiceStatus};
use crate::controller::events::is_warning;

/// Something that happened to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub event: NotificationEvent,
    /// One `CamelCase` word, as of the event or the condition.
    pub reason: String,
    /// A sentence; of whatever length and content.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// The revision that it is about.
    pub revision: Option<String>,
    /// The attempt at it.
    pub attempt: Option<u32>,
    /// The weight asked for afterwards, in percent.
    pub weight: Option<u8>,
    /// Tells it from every other: a digest of the service's UID, the attempt, the event and its reason, and of the time
    /// where the same may happen again in one attempt.
    pub id: String,
    /// It lasts, and may come again as the same once it has passed.
    pub lasts: bool,
}

/// What tells two notices apart beside event and reason.
struct Source<'a> {
    uid: &'a str,
    attempt: Option<(&'a str, u32, Timestamp)>,
}

impl Source<'_> {
    fn notice(
        &self,
        event: NotificationEvent,
        (reason, message): (&str, &str),
        at: Timestamp,
        mark: &str,
    ) -> Notice {
        let of = self
            .attempt
            .map_or_else(String::new, |(revision, number, began)| {
                format!("{revision}/{number}/{began}")
            });
        let text = format!("{}\n{of}\n{event:?}\n{reason}\n{mark}", self.uid);
        let digest = Sha256::digest(text.as_bytes());
        Notice {
            event,
            reason: reason.to_owned(),
            message: message.to_owned(),
            at,
            revision: self.attempt.map(|(revision, ..)| revision.to_owned()),
            attempt: self.attempt.map(|(_, number, _)| number),
            weight: None,
            id: digest[..12].iter().fold(String::new(), |mut id, byte| {
                // Writing to a String does not fail.
                let _ = write!(id, "{byte:02x}");
                id
            }),
            lasts: false,
        }
    }
}

/// Everything that the status of the service with this UID tells, in no order of time.
pub fn notices(uid: &str, status: &PythonServiceStatus) -> Vec<Notice> {
    let Some(state) = &status.state else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if let Some(last) = &state.last {
        all.extend(of_last(uid, last));
    }
    if let Some(attempt) = &state.attempt {
        all.extend(of_attempt(uid, attempt));
    }
    all.extend(of_phase(uid, status, state));
    all
}

fn of_last(uid: &str, last: &Ended) -> Vec<Notice> {
    let source = Source {
        uid,
        attempt: Some((&last.revision.0, last.number, last.started_at)),
    };
    let mut all = on_the_way(&source, &last.transitions, last.started_at, Some(&last.reason));
    // No time in it: the same is told while the traffic still goes back.
    let why = (last.reason.as_str(), last.message.as_str());
    all.push(source.notice(of_outcome(last.outcome), why, last.ended_at, ""));
    all
}

fn of_attempt(uid: &str, attempt: &Attempt) -> Vec<Notice> {
    let source = Source {
        uid,
        attempt: Some((&attempt.revision.0, attempt.number, attempt.started_at)),
    };
    let withdrawing = match &attempt.stage {
        Stage::Withdrawing {
            outcome,
            reason,
            message,
        } => Some((*outcome, reason, message)),
        _ => None,
    };
    let end = withdrawing.map(|(_, reason, _)| reason.as_str());
    let mut all = on_the_way(&source, &attempt.transitions, attempt.started_at, end);
    if let Some((outcome, reason, message)) = withdrawing {
        let mut notice = source.notice(of_outcome(outcome), (reason, message), attempt.since, "");
        notice.weight = Some(attempt.weight);
        all.push(notice);
    }
    let spent = |ppm: &i64| *ppm <= 0;
    let exhausted = attempt
        .evidence
        .iter()
        .find(|entry| entry.budget_remaining_ppm.as_ref().is_some_and(spent));
    if let Some(entry) = exhausted {
        let message = format!(
            "nothing is left of the error budget of {}: revision {} is tried all the same, as spec.analysis.budgetExhausted says",
            entry.name, attempt.revision
        );
        let why = ("BudgetExhausted", message.as_str());
        all.push(source.notice(NotificationEvent::BudgetExhausted, why, attempt.started_at, ""));
    }
    all
}

/// How an attempt began, and what happened in it but for its end.
fn on_the_way(
    source: &Source<'_>,
    transitions: &[Transition],
    began: Timestamp,
    end: Option<&str>,
) -> Vec<Notice> {
    let first = transitions.iter().find(|t| t.at == began);
    let why = first.map_or(("AttemptStarted", "an attempt began"), |t| {
        (t.reason.as_str(), t.message.as_str())
    });
    let mut all = vec![source.notice(NotificationEvent::Started, why, began, "")];
    for transition in transitions {
        let reason = transition.reason.as_str();
        let event = match reason {
            "WeightRaised" | "BakeStarted" => NotificationEvent::Progressed,
            // Told by the phase, or as the end.
            "Inconclusive" | "PausedByPerson" | "PausedBySpec" | "PausedByFleet" => continue,
            _ if Some(reason) == end || !is_warning(reason) => continue,
            _ => NotificationEvent::Warning,
        };
        let at = transition.at;
        let mut notice = source.notice(event, (reason, &transition.message), at, &at.to_string());
        notice.weight = Some(transition.weight);
        all.push(notice);
    }
    all
}

fn of_outcome(outcome: Outcome) -> NotificationEvent {
    match outcome {
        Outcome::Promoted => NotificationEvent::Promoted,
        Outcome::RolledBack | Outcome::Inconclusive => NotificationEvent::RolledBack,
        Outcome::Aborted => NotificationEvent::Aborted,
        Outcome::Superseded => NotificationEvent::Superseded,
    }
}

/// What the phase and the conditions tell; it lasts.
fn of_phase(uid: &str, status: &PythonServiceStatus, state: &State) -> Vec<Notice> {
    let (alone, mut all) = (Source { uid, attempt: None }, Vec::new());
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let condition = |kind: &str| conditions.iter().find(|c| c.type_ == kind);
    let since = |kind: &str| condition(kind).map_or(Timestamp::UNIX_EPOCH, |c| c.last_transition_time.0);
    let reason = |kind: &str, or: &'static str| condition(kind).map_or(or, |c: &Condition| c.reason.as_str());
    let message = status.message.as_deref().unwrap_or_default();
    let stable = state.stable.as_ref().map(|r| r.0.clone());
    match status.phase {
        Some(Phase::Paused) => all.push(of_pause(uid, status, state, since("Paused"))),
        Some(Phase::Degraded) => {
            let (why, at) = (reason("Stalled", "Degraded"), since("Stalled"));
            let mut notice = alone.notice(NotificationEvent::Degraded, (why, message), at, &at.to_string());
            notice.revision.clone_from(&stable);
            all.push(notice);
        }
        Some(Phase::Healthy) => {
            let at = since("Ready");
            let why = ("Healthy", message);
            let mut notice = alone.notice(NotificationEvent::Healthy, why, at, &at.to_string());
            notice.revision.clone_from(&stable);
            all.push(notice);
        }
        _ => {}
    }
    // What was promoted is taken back: by an attempt of its own, at the revision before.
    if let Some(pin) = &state.pinned
        && let Some(why) = pin.why.as_ref().or(pin.group.as_ref())
    {
        let reason = if pin.why.is_some() {
            "WatchBreached"
        } else {
            "GroupAborted"
        };
        let way = state.attempt.as_ref().filter(|a| a.revision == pin.revision);
        let at = way.map_or_else(|| since("Stalled"), |a| a.started_at);
        let text = format!(
            "revision {} is taken back after its promotion: {why}; users go to {}",
            pin.instead_of, pin.revision
        );
        let mark = format!("{}/{}", pin.instead_of, pin.revision);
        let mut notice = alone.notice(NotificationEvent::RolledBack, (reason, &text), at, &mark);
        notice.revision = Some(pin.instead_of.0.clone());
        all.push(notice);
    }
    if let Some(migrated) = condition("Migrated").filter(|c| c.reason == "AwaitingApproval") {
        let at = migrated.last_transition_time.0;
        let why = ("AwaitingApproval", migrated.message.as_str());
        let mut notice = alone.notice(NotificationEvent::WaitingForApproval, why, at, &at.to_string());
        notice.revision = stable;
        all.push(notice);
    }
    for notice in &mut all {
        notice.lasts = true;
    }
    all
}

/// Why nothing moves, and whom it waits for.
fn of_pause(uid: &str, status: &PythonServiceStatus, state: &State, since: Timestamp) -> Notice {
    let message = status.message.as_deref().unwrap_or_default();
    let Some(attempt) = &state.attempt else {
        let source = Source { uid, attempt: None };
        return source.notice(
            NotificationEvent::Paused,
            ("Paused", message),
            since,
            &since.to_string(),
        );
    };
    let source = Source {
        uid,
        attempt: Some((&attempt.revision.0, attempt.number, attempt.started_at)),
    };
    let (event, reason, at) = match (&attempt.paused, &attempt.stage) {
        (Some(pause), _) => {
            let reason = match pause {
                p if p.person.is_some() => "PausedByPerson",
                p if p.spec => "PausedBySpec",
                _ => "PausedByFleet",
            };
            (NotificationEvent::Paused, reason, pause.since)
        }
        (None, Stage::Stepping) if attempt.steps.get(attempt.step as usize) == Some(&Step::Pause {}) => {
            let since = attempt.step_since;
            (NotificationEvent::WaitingForApproval, "StepWaits", since)
        }
        _ => (NotificationEvent::Paused, "Inconclusive", attempt.since),
    };
    let mut notice = source.notice(event, (reason, message), at, &at.to_string());
    notice.weight = Some(attempt.weight);
    notice
}

//! One service as a line of the fleet: what a person on call needs to choose where to look. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{DeserializeGuard, Object};
use kube::{Resource, ResourceExt};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::{Analysis, Phase, RevisionStatus, SloStatus, StepStatus};
use crate::k8s::Key;
use crate::plugin::render::objectives::Needed;
use crate::plugin::render::wrong;

/// Bytes of a message that a line keeps.
const MOST_OF_MESSAGE: usize = 600;

/// A PythonService, as much of it as a line needs: templates are not kept.
pub type LeanService = DeserializeGuard<Object<LeanSpec, LeanStatus>>;

/// What a line needs of the spec: how much evidence a decision needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LeanSpec {
    analysis: Option<serde_json::Value>,
    slos: Vec<IgnoredAny>,
}

impl LeanSpec {
    /// By the spec as far as it can be read, else by the defaults.
    fn needed(&self) -> Needed {
        let analysis = self.analysis.clone().map(serde_json::from_value::<Analysis>);
        Needed::by(analysis.and_then(Result::ok).unwrap_or_default(), self.slos.len())
    }
}

/// What a line needs of the status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeanStatus {
    phase: Option<Phase>,
    message: Option<String>,
    observed_generation: Option<i64>,
    stable: Option<RevisionStatus>,
    canary: Option<RevisionStatus>,
    step: Option<StepStatus>,
    slos: Option<Vec<SloStatus>>,
    conditions: Option<Vec<Condition>>,
    state: Option<LeanState>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeanState {
    attempt: Option<LeanAttempt>,
    last: Option<LeanEnded>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanAttempt {
    started_at: Timestamp,
    stage: LeanStage,
}

#[derive(Clone, Debug, Deserialize)]
struct LeanStage {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanEnded {
    revision: String,
    outcome: String,
    reason: String,
    ended_at: Timestamp,
    #[serde(default)]
    evidence: Vec<LeanEvidence>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeanEvidence {
    name: String,
    budget_remaining_ppm: Option<i64>,
}

/// A line of the fleet.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The place in the list, as `kubectl molt get` has it: what needs somebody first, then what moves.
    pub urgency: u8,
    /// In one word; absent while no operator has looked at it, or if the status can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// In one sentence.
    message: String,
    /// The status is about an older spec.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    /// Since when it has been so: the begin of a wait for a person or of the attempt under way, or the end of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Where the attempt is.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stable: Option<RevisionStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<RevisionStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<StepStatus>,
    /// Objectives of the attempt under way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slos: Vec<SloStatus>,
    /// How much evidence a decision about them needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    needed: Option<Needed>,
    /// The objective with the least budget left.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    /// The last attempt that ended, while none is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
    /// Conditions that are wrong: `MetricsAvailable: PrometheusUnreachable`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wrong: Vec<String>,
}

/// What is left of an error budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Budget {
    slo: String,
    /// In percent of the window's; negative once it is overspent.
    left: f64,
    /// When it was known; absent of an attempt under way, whose begin it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Last {
    revision: String,
    outcome: String,
    reason: String,
}

impl Row {
    /// The line of a service, whatever was written into it.
    pub fn of(service: &LeanService) -> Self {
        let generation = service.meta().generation.unwrap_or(0);
        let key = key(service);
        match &service.0 {
            Ok(object) => {
                let mut row = Self::read(key, object.status.clone().unwrap_or_default(), generation);
                row.needed = (!row.slos.is_empty()).then(|| object.spec.needed());
                row
            }
            Err(invalid) => {
                let message = format!("its status can't be read: {}", invalid.error);
                let mut row = Self::read(key, LeanStatus::default(), 0);
                row.message = cut(&message);
                row.urgency = 0;
                row
            }
        }
    }

    fn read(key: Key, status: LeanStatus, generation: i64) -> Self {
        let state = status.state.unwrap_or_default();
        let last = state.last.filter(|_| state.attempt.is_none());
        let wrong: Vec<String> = wrong(status.conditions.as_deref().unwrap_or_default())
            .map(|c| format!("{}: {}", c.type_, c.reason))
            .collect();
        let quiet = status.phase == Some(Phase::Healthy) && state.attempt.is_none();
        let slos = status.slos.unwrap_or_default();
        Self {
            namespace: key.namespace,
            name: key.name,
            urgency: Phase::urgency(status.phase),
            phase: status.phase,
            message: cut(&status
                .message
                .unwrap_or_else(|| "no operator has taken it up yet".to_owned())),
            late: status.phase.is_some() && status.observed_generation.unwrap_or(0) < generation,
            since: paused_since(status.phase, status.conditions.as_deref().unwrap_or_default()).or(state
                .attempt
                .as_ref()
                .map(|attempt| attempt.started_at)
                .or_else(|| last.as_ref().map(|last| last.ended_at))),
            stage: state.attempt.map(|attempt| attempt.stage.name),
            stable: status.stable,
            canary: status.canary,
            step: status.step,
            budget: live_budget(&slos).or_else(|| last.as_ref().and_then(past_budget)),
            slos: if quiet { Vec::new() } else { slos },
            needed: None,
            last: last.map(|last| Last {
                revision: last.revision,
                outcome: last.outcome,
                reason: last.reason,
            }),
            wrong,
        }
    }
}

/// Its key.
pub fn key(service: &LeanService) -> Key {
    Key::new(service.namespace().unwrap_or_default(), service.name_any())
}

/// The objective with the least left, as the status has it: `"83.1%"`.
/// Since when it waits for a person, if it does.
fn paused_since(phase: Option<Phase>, conditions: &[Condition]) -> Option<Timestamp> {
    let paused = conditions
        .iter()
        .find(|c| c.type_ == "Paused" && c.status == "True");
    paused
        .filter(|_| phase == Some(Phase::Paused))
        .map(|condition| condition.last_transition_time.0)
}

fn live_budget(slos: &[SloStatus]) -> Option<Budget> {
    let left = |slo: &SloStatus| slo.budget_remaining.as_ref()?.trim_end_matches('%').parse().ok();
    slos.iter()
        .filter_map(|slo| {
            Some(Budget {
                slo: slo.name.clone(),
                left: left(slo)?,
                at: None,
            })
        })
        .min_by(|a, b| a.left.total_cmp(&b.left))
}

fn past_budget(last: &LeanEnded) -> Option<Budget> {
    last.evidence
        .iter()
        .filter_map(|slo| {
            Some(Budget {
                slo: slo.name.clone(),
                left: slo.budget_remaining_ppm? as f64 / 10_000.0,
                at: Some(last.ended_at),
            })
        })
        .min_by(|a, b| a.left.total_cmp(&b.left))
}

fn cut(text: &str) -> String {
    if text.len() <= MOST_OF_MESSAGE {
        return text.to_owned();
    }
    let end = (0..=MOST_OF_MESSAGE)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::{progressing, rolled_back};
    use serde_json::{Value, json};

    fn row(service: &Value) -> Value {
        let service: LeanService = serde_json::from_value(service.clone()).unwrap();
        serde_json::to_value(Row::of(&service)).unwrap()
    }

    #[test]
    fn a_line_has_what_moves_and_what_it_costs() {
        let service = serde_json::to_value(progressing()).unwrap();
        let row = row(&service);
        assert_eq!(row["namespace"], "shop");
        assert_eq!(row["urgency"], 4);
        assert_eq!(row["phase"], "Progressing");
        assert_eq!(row["canary"]["weight"], 25);
        assert_eq!(row["slos"][0]["spentByRollout"], "0.2%");
        assert_eq!(row["needed"], json!({"harm": "100", "safe": "20", "spend": "2%"}));
        assert_eq!(row["budget"], json!({"slo": "availability", "left": 83.1}));
        assert_eq!(row["since"], "2026-03-01T02:00:00Z");
        assert_eq!(row["stage"], "Stepping");
        assert_eq!(row["wrong"], json!(["MetricsAvailable: Unreachable"]));
        assert!(row.get("late").is_none());
    }

    #[test]
    fn a_line_of_a_pause_says_since_when() {
        let mut service = serde_json::to_value(progressing()).unwrap();
        service["status"]["phase"] = json!("Paused");
        service["status"]["conditions"] = json!([{
            "type": "Paused", "status": "True", "reason": "StepWaits", "message": "",
            "lastTransitionTime": "2026-03-01T02:02:30Z",
        }]);
        assert_eq!(row(&service)["since"], "2026-03-01T02:02:30Z");
    }

    #[test]
    fn a_line_of_what_was_taken_back_says_when_and_why() {
        let row = row(&serde_json::to_value(rolled_back()).unwrap());
        assert_eq!(row["urgency"], 1);
        assert_eq!(row["last"]["reason"], "HarmShown");
        assert_eq!(row["since"], "2026-03-01T02:03:10Z");
    }

    #[test]
    fn what_another_version_wrote_is_a_line_that_needs_somebody() {
        let mut service = serde_json::to_value(progressing()).unwrap();
        service["status"]["phase"] = json!("<b>Levitating</b>");
        let row = row(&service);
        assert_eq!((&row["urgency"], &row["name"]), (&json!(0), &json!("checkout")));
        assert!(
            row["message"]
                .as_str()
                .unwrap()
                .starts_with("its status can't be read"),
            "{row}"
        );
    }

    #[test]
    fn a_new_service_and_a_late_status_say_so() {
        let mut service = serde_json::to_value(progressing()).unwrap();
        service["metadata"]["generation"] = json!(8);
        assert_eq!(row(&service)["late"], true);
        service.as_object_mut().unwrap().remove("status");
        let row = row(&service);
        assert_eq!(row["message"], "no operator has taken it up yet");
        assert!(row.get("late").is_none());
    }

    #[test]
    fn a_line_stays_small() {
        let mut service = serde_json::to_value(progressing()).unwrap();
        service["status"]["message"] = json!("ä".repeat(10_000));
        assert!(row(&service).to_string().len() < 4_096);
    }
}

//! Events: what happened, told where `kubectl describe` and `kubectl events` show it.

use k8s_openapi::api::core::v1::{Container, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use molt_core::decision::Report;
use serde_json::json;

use super::object::ServiceObject;
use super::revision::hex_digest;
use crate::traffic::rules_owners::Edit;

/// An event's note must stay below 1 kB.
const MAX_NOTE: usize = 1000;

/// The events of one decision: one for each transition, and one for each fault that is new.
pub fn events(object: &ServiceObject, report: &Report) -> Vec<Event> {
    let transitions = report.transitions.iter().map(|t| {
        event(
            is_warning(&t.reason),
            &t.reason,
            &t.message,
            &format!("weight {}", t.weight),
        )
    });
    let faults = report
        .conditions
        .iter()
        .filter(|c| c.fault && !was_told(&object.conditions, c.kind, c.status, &c.reason))
        .map(|c| event(true, &c.reason, &c.message, c.kind));
    // One cause shows in several conditions; one event tells it.
    let mut told: Vec<Event> = Vec::new();
    for event in transitions.chain(faults) {
        if !told
            .iter()
            .any(|t| t.reason == event.reason && t.note == event.note)
        {
            told.push(event);
        }
    }
    told
}

/// What is worth a warning in a spec that can be used; told once for each generation.
pub fn advice(object: &ServiceObject) -> Option<Event> {
    let told = object.status.as_ref().ok().and_then(|s| s.observed_generation);
    let spec = object.spec.as_ref().ok()?;
    if told == object.metadata.generation || object.is_deleting() {
        return None;
    }
    // Workers get no requests that could fail.
    let port = spec.port?;
    let containers = &spec.template.as_ref()?.spec.as_ref()?.containers;
    let serves = |c: &&Container| c.ports.iter().flatten().any(|p| p.container_port == port);
    let serving = containers.iter().find(serves).or_else(|| containers.first())?;
    if serving.readiness_probe.is_some() {
        return None;
    }
    let note = format!(
        "container {} of spec.template has no readinessProbe: its pods count as ready before they answer, so requests fail while pods start; give it one at port {}",
        serving.name, port
    );
    Some(event(true, "NoReadinessProbe", &note, "spec.template"))
}

/// What can't be said by a condition, because the object itself can't be written.
pub fn untold(reason: &str, message: &str) -> Event {
    event(true, reason, message, "write status")
}

/// What somebody wrote in a route of Molt's is not there any more.
pub fn put_back(object: &ServiceObject, edit: &Edit) -> Event {
    let fields: Vec<String> = edit.fields.iter().map(|field| format!("spec.{field}")).collect();
    let at = edit.at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let note = format!(
        "the field manager {} wrote {} of {} {}{at}, which belongs to Molt: it is as spec.traffic and the rollout ask for again. Change spec.traffic instead, or name a route of your own there",
        edit.manager,
        fields.join(", "),
        edit.kind,
        object.name_any(),
    );
    event(true, "RoutePutBack", &note, &format!("put back{at}"))
}

/// A route of Molt's that carried the weights was deleted.
pub fn made_again(kind: &str, name: &str) -> Event {
    let note = format!(
        "somebody deleted {kind} {name}, which belongs to Molt, and requests met no route until it was made again, with the weights that it had. To take the service from the router change spec.traffic instead"
    );
    event(true, "RouteMadeAgain", &note, "make the route again")
}

/// What the events are about.
pub fn reference(object: &ServiceObject) -> ObjectReference {
    object.object_ref(&())
}

fn was_told(conditions: &[Condition], kind: &str, status: bool, reason: &str) -> bool {
    let status = if status { "True" } else { "False" };
    conditions
        .iter()
        .any(|c| c.type_ == kind && c.status == status && c.reason == reason)
}

pub(crate) fn is_warning(reason: &str) -> bool {
    !matches!(
        reason,
        "FirstDeployment"
            | "AttemptStarted"
            | "PodsReady"
            | "BeginsSmaller"
            | "RunsBegun"
            | "RunSucceeded"
            | "WeightRaised"
            | "TurnTaken"
            | "PreviewChanged"
            | "Resumed"
            | "ShownSafe"
            | "BakeStarted"
            | "MigrationsChecked"
            | "MigrationsApplied"
            | "ContractStarted"
            | "Contracted"
            | "DowngradeStarted"
            | "Downgraded"
            | "ApprovedByPerson"
            | "RejectedByPerson"
            | "Promoted"
            | "PromotedByPerson"
            | "ResumedByPerson"
            | "ResumedByFleet"
            | "ResumedBySpec"
            | "ReleasedByPerson"
            | "GivenBack"
            | "Released"
            | "TakeoverStarted"
            | "TakenOver"
            | "WorkloadLeft"
            | "RestartDone"
            | "RestartedByPerson"
            | "RetriedByPerson"
            | "RollbackStarted"
            | "UndoneByPerson"
            | "WatchEnded"
            | "SpecReverted"
            | "Superseded"
            | "AttemptEnded"
            | "Deleted"
    )
}

fn event(warning: bool, reason: &str, note: &str, action: &str) -> Event {
    let mut note = note.to_owned();
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE - 3)
            .rev()
            .find(|i| note.is_char_boundary(*i))
            .unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    Event {
        type_: if warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.to_owned(),
        // The recorder takes events with the same reason and action for one, and keeps the first one's note.
        action: format!("{action} {}", hex_digest(&json!(note), 8)),
        note: Some(note),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use molt_core::decision::{ConditionView, Phase};
    use serde_json::json;

    fn report(reason: &str) -> Report {
        let condition = |kind| ConditionView {
            kind,
            status: false,
            reason: reason.to_owned(),
            message: "what, where, how".to_owned(),
            fault: true,
        };
        Report {
            phase: Phase::Degraded,
            message: String::new(),
            conditions: vec![condition("RouteReady"), condition("Other")],
            transitions: vec![],
            verdicts: vec![],
            slos: vec![],
            guards: Vec::new(),
            runtime: Vec::new(),
        }
    }

    #[test]
    fn a_serving_container_without_a_readiness_probe_is_told_once() {
        let with = |containers: serde_json::Value, observed: i64| {
            let object = changed(|o| {
                o["spec"]["template"]["spec"]["containers"] = containers;
                o["status"] = json!({"observedGeneration": observed});
            });
            advice(&object).and_then(|e| e.note)
        };
        let probe = json!({"tcpSocket": {"port": 8000}});
        let bare = json!([{"name": "app", "image": "checkout:1"}]);
        assert!(with(bare.clone(), 2).unwrap().contains("container app of"));
        assert_eq!(with(bare, 3), None, "generation 3 was told of");
        let probed = json!([{"name": "app", "image": "checkout:1", "readinessProbe": probe}]);
        assert_eq!(with(probed, 2), None);
        let beside = json!([
            {"name": "proxy", "image": "proxy:1", "readinessProbe": probe},
            {"name": "app", "image": "checkout:1", "ports": [{"containerPort": 8000}]},
        ]);
        assert!(with(beside, 2).unwrap().contains("container app of"));
    }

    #[test]
    fn a_fault_is_told_once_and_again_when_its_reason_changes() {
        let fresh = changed(|_| ());
        assert_eq!(
            events(&fresh, &report("RouteNotFound")).len(),
            1,
            "one cause, one event"
        );
        let told = changed(|o| {
            let condition = |kind| json!({"type": kind, "status": "False", "reason": "RouteNotFound", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            o["status"] = json!({"conditions": [condition("RouteReady"), condition("Other")]});
        });
        assert!(events(&told, &report("RouteNotFound")).is_empty());
        assert_eq!(events(&told, &report("RouteConflict")).len(), 1);
    }
}

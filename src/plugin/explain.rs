//! `kubectl molt explain`: why a service is where it is, and what would move it.
//!
//! All of it is read from the status, but for what a person could do now: that is asked of the operator's own
//! [`decide`](molt_core::rollout::decide), action by action, so that no rule is told twice.

mod advice;
mod options;
#[cfg(test)]
mod tests;
mod text;
mod timetable;

use std::process::ExitCode;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use molt_core::state::State;
use serde::Serialize;

use super::connect::Cluster;
use super::text::{Style, print};
use super::{Failure, Output, status};
use crate::api::v1alpha1::{Phase, PythonService, RolloutAction};
use crate::controller::facts::ReplicaSetFacts;
use crate::controller::object::ServiceObject;
use crate::k8s::index::Facts;
use crate::k8s::labels;

pub(super) async fn run(cluster: &Cluster, name: &str, output: Option<Output>) -> Result<ExitCode, Failure> {
    let seen = Box::pin(Seen::read(cluster, name)).await?;
    let explanation = Explanation::of(&seen, Timestamp::now());
    match output {
        Some(output) => output.print(&explanation)?,
        None => print(&text::render(
            &seen,
            &explanation,
            Timestamp::now(),
            Style::of_stdout(),
        )),
    }
    Ok(status::exit_code(&seen.service))
}

/// What an explanation is made of.
pub(crate) struct Seen {
    /// The service, as its kind has it.
    pub(crate) service: PythonService,
    /// The same, as the operator reads it.
    pub(crate) object: ServiceObject,
    /// Its ReplicaSets; `None` if they may not be listed.
    pub(crate) sets: Option<Vec<ReplicaSetFacts>>,
    /// What people asked for and nobody has handled yet.
    pub(crate) waiting: Vec<RolloutAction>,
}

impl Seen {
    /// Reads all of it, with the rights of whoever asks.
    pub(crate) async fn read(cluster: &Cluster, name: &str) -> Result<Self, Failure> {
        let kind = ApiResource::erase::<PythonService>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind);
        // As it was written: a field that this version does not know counts for the revision, too.
        let Some(raw) = api.get_opt(name).await.unwrap_or_default() else {
            cluster.service(name).await?;
            return Err(cluster.missing(name).await);
        };
        Self::around(&cluster.client, &cluster.namespace, raw)
            .await
            .map_err(Failure::Other)
    }

    /// What there is around a service that was read.
    pub(crate) async fn around(client: &Client, namespace: &str, raw: DynamicObject) -> Result<Self, String> {
        let name = &raw.name_any();
        let raw = serde_json::to_value(raw).unwrap_or_default();
        let of_service = ListParams::default().labels(&format!("{}={name}", labels::SERVICE));
        let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
        // Whoever may not see them is told all the rest.
        let sets = sets.list(&of_service).await.ok().map(|list| {
            let read = |set: &ReplicaSet| ReplicaSetFacts::read(set).map(|(_, facts)| facts);
            list.items.iter().filter_map(read).collect()
        });
        let actions: Api<RolloutAction> = Api::namespaced(client.clone(), namespace);
        let waiting = actions.list(&ListParams::default()).await.map(|list| list.items);
        let unhandled = |action: &RolloutAction| {
            action.spec.service == *name && action.status.as_ref().is_none_or(|s| s.state.is_none())
        };
        let parse = |error: serde_json::Error| format!("{name} can't be read: {error}");
        Ok(Self {
            service: serde_json::from_value(raw.clone()).map_err(parse)?,
            object: serde_json::from_value(raw).map_err(parse)?,
            sets,
            waiting: waiting
                .unwrap_or_default()
                .into_iter()
                .filter(unhandled)
                .collect(),
        })
    }

    /// What decides; empty if it can't be read.
    pub(crate) fn state(&self) -> State {
        self.object.state().unwrap_or_default()
    }
}

/// Why a service is where it is, and what would move it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// Where it is, in one word.
    phase: Option<Phase>,
    /// Where it is, and what it waits for, in one sentence.
    message: String,
    /// What holds it beside that, or has a part in it: pauses, pins, refusals, rivals, actions that wait.
    held_by: Vec<String>,
    /// Conditions that are wrong.
    wrong: Vec<Wrong>,
    /// What happens by itself, the next first.
    by_itself: Vec<timetable::Entry>,
    /// What a person could do now.
    commands: Vec<options::Possible>,
    /// What would not be accepted now.
    refused: Vec<options::Refused>,
}

/// A condition that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wrong {
    /// `MetricsAvailable=False`.
    condition: String,
    /// In one word.
    reason: String,
    /// In a sentence.
    message: String,
    /// Since when.
    since: Timestamp,
    /// What to do, as docs/troubleshooting.md has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Explanation {
    /// Of what was seen, as of `now`.
    pub(crate) fn of(seen: &Seen, now: Timestamp) -> Self {
        let status = seen.service.status.clone().unwrap_or_default();
        let state = seen.state();
        let (commands, refused) = options::ask(seen, &state, now);
        let message = match (&seen.object.state, status.message) {
            (Err(why), _) => format!("status.state can't be read: {why}"),
            (Ok(_), Some(message)) => message,
            (Ok(_), None) => "no operator has taken it up yet".to_owned(),
        };
        let last = state.last.as_ref().map(|last| &last.revision);
        let revision = state.attempt.as_ref().map(|a| &a.revision).or(last);
        let wrong = super::render::wrong(status.conditions.as_deref().unwrap_or_default());
        Self {
            phase: status.phase,
            message,
            held_by: held_by(seen, &state),
            wrong: wrong
                .map(|condition| Wrong {
                    condition: format!("{}={}", condition.type_, condition.status),
                    reason: condition.reason.clone(),
                    message: condition.message.clone(),
                    since: condition.last_transition_time.0,
                    fix: advice::of(&condition.type_, &condition.reason)
                        .map(|fix| advice::filled(&fix, &seen.service, revision)),
                })
                .collect(),
            by_itself: timetable::of(seen, &state, now),
            commands,
            refused,
        }
    }
}

/// Who or what has a say in it beside the evidence.
fn held_by(seen: &Seen, state: &State) -> Vec<String> {
    let mut held = Vec::new();
    let attempt = state.attempt.as_ref();
    if let Some(pause) = attempt.and_then(|attempt| attempt.paused.as_ref()) {
        held.push(format!("{}, since {:.0}", pause.text(), pause.since));
    } else if seen.service.spec.paused == Some(true) {
        held.push("spec.paused is true: nothing goes on until it is false".to_owned());
    }
    if let Some(since) = attempt.and_then(|attempt| attempt.incident_since) {
        held.push(format!(
            "an incident of both revisions, since {since:.0}: no deadline runs meanwhile"
        ));
    }
    if attempt
        .and_then(|a| a.doubt.as_ref())
        .is_some_and(|doubt| doubt.open)
    {
        held.push("the bake made it suspect: both revisions are compared side by side again".to_owned());
    }
    if let Some(by) = attempt.and_then(|attempt| attempt.overridden.as_ref()) {
        held.push(format!(
            "overridden {by}: neither a spent budget nor an incident keeps it waiting"
        ));
    }
    if let Some(hold) = attempt.and_then(|attempt| attempt.hold.as_ref()) {
        held.push(format!(
            "a deadline without a verdict took its traffic at {} %: a correction of slos, metrics or analysis lets it go on by itself",
            hold.weight
        ));
    }
    if let Some(refused) = &state.refused {
        held.push(format!("revision {refused} was taken back and stays refused until the template changes, or somebody retries it"));
    }
    if let Some(group) = &state.group {
        held.extend(group.waits.as_ref().map(|wait| {
            let peer = wait
                .peer
                .as_ref()
                .map_or_else(String::new, |p| format!(", for {p} at last"));
            format!(
                "revision {} waits for its group since {:.0}{peer}",
                wait.revision, wait.since
            )
        }));
        held.extend(group.stayed.clone());
    }
    if let Some(pin) = &state.pinned
        && let Some(why) = &pin.group
    {
        held.push(format!(
            "{why}: revision {} stands for the spec's revision {} until the template changes, or somebody retries it",
            pin.revision, pin.instead_of
        ));
    } else if let Some(pin) = &state.pinned {
        held.push(format!(
            "a person went back to revision {}: it stands for the spec's revision {} until the template changes",
            pin.revision, pin.instead_of
        ));
    }
    if let Some(rival) = &state.rival {
        held.push(format!(
            "{} writes the route's weights as well: last at {:.0}, set again {} times",
            rival.manager, rival.last, rival.times
        ));
    }
    held.extend(seen.waiting.iter().map(|action| {
        format!(
            "{:?} by {} waits to be handled: the operator does not answer, or has not yet",
            action.spec.action, action.spec.requested_by
        )
    }));
    held
}

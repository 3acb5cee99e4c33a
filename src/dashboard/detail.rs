//! One service in full, its pods, and their last lines: all of it read with the viewer's own rights.

use axum::Json;
use axum::extract::{Path, Query};
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use kube::{Client, ResourceExt};
use molt_core::state::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::act::Meant;
use super::identity::Viewer;
use super::refusal::Refusal;
use crate::api::v1alpha1::{PythonService, RolloutRecord};
use crate::k8s::labels;
use crate::plugin::act::contracting;
use crate::plugin::explain::{Explanation, Seen};
use crate::plugin::render::objectives::Needed;
use crate::plugin::render::{at, runs_wanted, way};

/// Pods that are shown at most.
const MOST_PODS: usize = 200;
/// The last lines of a log, and bytes.
const LOG: (i64, i64) = (200, 64 << 10);

/// `GET /api/ns/NAMESPACE/services/NAME`.
pub async fn service(
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let client = viewer.client();
    let kind = ApiResource::erase::<PythonService>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind);
    let seen = Seen::around(client, &namespace, api.get(&name).await?)
        .await
        .map_err(Refusal::Upstream)?;
    let record = record(client, &namespace, &name, &seen.state()).await;
    Ok(Json(shown(&seen, record.as_ref(), Timestamp::now())))
}

/// The record of the attempt under way, or of the last one; it has the history of both revisions and what changed.
/// Whoever may not read it is shown the rest.
async fn record(client: &Client, namespace: &str, service: &str, state: &State) -> Option<RolloutRecord> {
    let attempt = state.attempt.as_ref().map(|a| (&a.revision, a.number));
    let (revision, number) = attempt.or_else(|| state.last.as_ref().map(|l| (&l.revision, l.number)))?;
    let api: Api<RolloutRecord> = Api::namespaced(client.clone(), namespace);
    api.get_opt(&crate::controller::render::record_name(service, revision, number))
        .await
        .ok()?
}

/// What the page shows of a service.
fn shown(seen: &Seen, record: Option<&RolloutRecord>, now: Timestamp) -> Value {
    let service = &seen.service;
    let state = seen.state();
    let mut status = service.status.clone().unwrap_or_default();
    // The page gets what is for people.
    status.state = None;
    let runs = runs_wanted(service);
    let attempt = state.attempt.as_ref().map(|attempt| {
        json!({
            "revision": attempt.revision,
            "number": attempt.number,
            "startedAt": attempt.started_at,
            "at": at(attempt, runs, now),
            "way": way(attempt, runs),
            "transitions": attempt.transitions,
        })
    });
    let last = state.last.as_ref().filter(|_| attempt.is_none()).map(|last| {
        json!({
            "revision": last.revision,
            "number": last.number,
            "startedAt": last.started_at,
            "endedAt": last.ended_at,
            "outcome": last.outcome,
            "reason": last.reason,
            "message": last.message,
            "maxWeight": last.max_weight,
            "transitions": last.transitions,
        })
    });
    let slos = service.spec.slos.iter();
    let containers = service
        .spec
        .template
        .iter()
        .flat_map(|t| &t.spec)
        .flat_map(|s| &s.containers);
    json!({
        "namespace": service.namespace(),
        "name": service.name_any(),
        "generation": service.metadata.generation,
        "deleting": service.metadata.deletion_timestamp.is_some(),
        "owner": service.spec.owner,
        "runbook": service.spec.runbook,
        "author": service.annotations().get(labels::AUTHOR),
        "images": containers.map(|c| json!({"container": c.name, "image": c.image})).collect::<Vec<_>>(),
        "objectives": slos.map(|slo| json!({"name": slo.name, "objective": slo.objective})).collect::<Vec<_>>(),
        "needed": Needed::of(service),
        "status": status,
        "attempt": attempt,
        "last": last,
        "explanation": Explanation::of(seen, now),
        "meant": Meant::all(service),
        "approvals": if contracting(service).is_some() { vec!["contract"] } else { vec![] },
        "record": record.map(|record| json!({
            "name": record.name_any(),
            "spec": record.spec,
            "status": record.status,
        })),
        "now": now,
    })
}

/// A pod, as the page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodLine {
    name: String,
    revision: String,
    phase: String,
    ready: bool,
    restarts: i32,
    /// Why it waits, or how it ended at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    containers: Vec<String>,
}

impl PodLine {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let ready = |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
        let containers = status.container_statuses.unwrap_or_default();
        let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
        Self {
            name: pod.name_any(),
            revision: pod.labels().get(labels::REVISION).cloned().unwrap_or_default(),
            phase: if pod.metadata.deletion_timestamp.is_some() {
                "Terminating".to_owned()
            } else {
                phase
            },
            ready: status.conditions.iter().flatten().any(ready),
            restarts: containers.iter().map(|c| c.restart_count).sum(),
            trouble: containers.iter().find_map(trouble).or(status.message),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            started_at: status.start_time.map(|time| time.0),
            containers: pod
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .map(|c| c.name.clone())
                .collect(),
        }
    }
}

fn trouble(status: &ContainerStatus) -> Option<String> {
    let told = |reason: Option<&String>, message: Option<&String>| {
        let words: Vec<&str> = [reason, message]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!words.is_empty()).then(|| words.join(": "))
    };
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    if let Some(waiting) = waiting {
        return told(waiting.reason.as_ref(), waiting.message.as_ref());
    }
    let ended = status.last_state.as_ref()?.terminated.as_ref()?;
    let why = ended.reason.as_deref().unwrap_or("ended");
    Some(format!("last ended as {why}, exit code {}", ended.exit_code))
}

/// Pods and what they say are for whoever has signed in, whatever the server itself may read.
fn pods_of(viewer: &Viewer, namespace: &str) -> Result<Api<Pod>, Refusal> {
    if viewer.is_guest() {
        let why = "pods and their logs are shown to those who have signed in";
        return Err(Refusal::Forbidden(why.to_owned()));
    }
    Ok(Api::namespaced(viewer.client().clone(), namespace))
}

/// `GET /api/ns/NAMESPACE/services/NAME/pods`.
pub async fn pods(
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let api = pods_of(&viewer, &namespace)?;
    let of_service = ListParams::default().labels(&format!("{}={name}", labels::SERVICE));
    let mut pods: Vec<PodLine> = api
        .list(&of_service)
        .await?
        .items
        .iter()
        .map(PodLine::of)
        .collect();
    let total = pods.len();
    // What is wrong comes first.
    pods.sort_by_key(|pod| (pod.ready, pod.revision.clone(), pod.name.clone()));
    pods.truncate(MOST_PODS);
    Ok(Json(json!({"pods": pods, "total": total})))
}

/// Whose lines.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Lines {
    container: Option<String>,
    #[serde(default)]
    previous: bool,
}

/// `GET /api/ns/NAMESPACE/pods/NAME/log`: the last lines, as text.
pub async fn log(
    viewer: Viewer,
    Path((namespace, name)): Path<(String, String)>,
    Query(which): Query<Lines>,
) -> Result<impl IntoResponse, Refusal> {
    let api = pods_of(&viewer, &namespace)?;
    let params = LogParams {
        container: which.container,
        previous: which.previous,
        tail_lines: Some(LOG.0),
        limit_bytes: Some(LOG.1),
        timestamps: true,
        ..LogParams::default()
    };
    let text = api.logs(&name, &params).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::{progressing, rolled_back};

    fn seen(service: &PythonService) -> Seen {
        let raw = serde_json::to_value(service).unwrap();
        Seen {
            service: service.clone(),
            object: serde_json::from_value(raw).unwrap(),
            sets: None,
            waiting: Vec::new(),
        }
    }

    #[test]
    fn a_rollout_is_shown_with_its_way_and_its_bounds() {
        let now = "2026-03-01T02:03:22Z".parse().unwrap();
        let shown = shown(&seen(&progressing()), None, now);
        assert_eq!(shown["attempt"]["at"], "step 2 of 4: dwells, 38s left");
        assert_eq!(
            shown["attempt"]["way"][1],
            json!({"word": "1m", "here": true, "done": false})
        );
        assert_eq!(
            shown["needed"],
            json!({"harm": "100", "safe": "20", "spend": "2%"})
        );
        assert_eq!(shown["objectives"][0]["objective"], "99.9");
        assert!(shown["status"].get("state").is_none(), "it is not for people");
        let commands = shown["explanation"]["commands"].as_array().unwrap();
        assert!(
            commands
                .iter()
                .any(|c| c["command"] == "kubectl molt abort checkout -n shop")
        );
    }

    #[test]
    fn what_was_taken_back_is_shown_by_its_last_attempt() {
        let now = "2026-03-01T02:10:00Z".parse().unwrap();
        let shown = shown(&seen(&rolled_back()), None, now);
        assert_eq!(shown["attempt"], Value::Null);
        assert_eq!(shown["last"]["reason"], "HarmShown");
    }

    #[test]
    fn a_pod_tells_why_it_is_not_ready() {
        let pod = |state: Value| -> PodLine {
            let pod = json!({
                "metadata": {"name": "p", "labels": {"molt.dev/revision": "7d9f8c0000"}},
                "spec": {"containers": [{"name": "app"}]},
                "status": {"phase": "Running", "containerStatuses": [
                    {"name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 3, "state": state["now"], "lastState": state["last"]},
                ]},
            });
            PodLine::of(&serde_json::from_value(pod).unwrap())
        };
        let waits = pod(
            json!({"now": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}, "last": {}}),
        );
        assert_eq!(waits.trouble.as_deref(), Some("ImagePullBackOff: no such image"));
        let ended = pod(
            json!({"now": {"running": {}}, "last": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}),
        );
        assert_eq!(
            ended.trouble.as_deref(),
            Some("last ended as OOMKilled, exit code 137")
        );
        assert_eq!((ended.restarts, ended.ready), (3, false));
    }
}

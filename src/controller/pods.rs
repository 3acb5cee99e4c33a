//! What is kept of a pod, and what is wrong with it.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use molt_core::observed::{Crashes, Trouble, TroubleKind};
use molt_core::plan::Revision;

use crate::k8s::index::Facts;
use crate::k8s::labels;
use crate::metric_sources::Starts;

/// Longest message of the kubelet's that is passed on.
const MAX_MESSAGE: usize = 300;
/// The policy by which the end of a container's log is its last words, if it leaves none.
pub(super) const LOG_AS_LAST_WORDS: &str = "FallbackToLogsOnError";

/// A pod of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// Its revision.
    pub revision: Revision,
    /// Its UID.
    pub uid: String,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// It serves, and is not on its way out.
    pub ready: bool,
    /// Since when it has been ready.
    pub ready_since: Option<Timestamp>,
    /// Where it listens.
    pub address: Option<IpAddr>,
    /// It is on its way out.
    pub leaving: bool,
    /// When its containers began.
    pub starts: Starts,
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
    /// Its containers that were restarted.
    pub crashes: Vec<Crashes>,
    /// It was ready, its containers go on running, and it is not ready now: since when.
    pub unready_since: Option<Timestamp>,
}

impl Facts for PodFacts {
    type Object = Pod;

    fn read(pod: &Pod) -> Option<(String, Self)> {
        let status = pod.status.as_ref();
        // One that has ended, or was evicted, is no pod of the ReplicaSet any more.
        if status
            .and_then(|s| s.phase.as_deref())
            .is_some_and(|p| p == "Failed" || p == "Succeeded")
        {
            return None;
        }
        let set = pod.labels();
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let ready = status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .find(|c| c.type_ == "Ready" && c.status == "True");
        let ready_since = ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
        let ready = ready.is_some();
        let facts = Self {
            revision: Revision(set.get(labels::REVISION)?.clone()),
            uid: pod.uid().unwrap_or_default(),
            created_at: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            // Of a node that is gone nobody can say how its pods are.
            ready: ready && !leaving && status.and_then(|s| s.phase.as_deref()) != Some("Unknown"),
            ready_since,
            address: status.and_then(|s| s.pod_ip.as_deref()?.parse().ok()),
            leaving,
            starts: starts(pod),
            trouble: if leaving || is_disrupted(pod) {
                None
            } else {
                trouble(pod)
            },
            crashes: if is_disrupted(pod) {
                Vec::new()
            } else {
                crashes(pod)
            },
            unready_since: unready_since(pod).filter(|_| !leaving && !is_disrupted(pod)),
        };
        Some((set.get(labels::SERVICE)?.clone(), facts))
    }
}

/// Somebody takes the pod away, whatever it does: an eviction, a taint of its node, a preemption.
fn is_disrupted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|c| c.type_ == "DisruptionTarget" && c.status == "True")
}

/// The run ended with its node: the kubelet found nothing of it when it came back.
fn went_with_node(run: &ContainerStateTerminated) -> bool {
    match run.reason.as_deref() {
        Some("ContainerStatusUnknown") => true,
        // What containerd says of a task that it can't find any more.
        Some("Unknown") => run.exit_code == 255,
        _ => false,
    }
}

/// The runs of the containers; proxies may be init containers that stay.
fn starts(pod: &Pod) -> Starts {
    let containers = pod.status.iter().flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        init.chain(s.container_statuses.iter().flatten())
    });
    let mut starts = Starts::default();
    for container in containers {
        let mut known = 0;
        for state in [&container.state, &container.last_state].into_iter().flatten() {
            let running = state.running.as_ref().and_then(|s| s.started_at.as_ref());
            let ended = state.terminated.as_ref().and_then(|s| s.started_at.as_ref());
            let began = running.or(ended).map(|t| t.0);
            known += i32::from(began.is_some());
            starts.at.extend(began);
        }
        // The first run is no restart.
        starts.older |= container.restart_count + 1 > known;
    }
    starts.at.sort_unstable();
    starts
}

/// The worst of several troubles: of the kind that is least likely to pass, then the most restarts.
pub fn worst(troubles: impl Iterator<Item = Trouble>) -> Option<Trouble> {
    troubles.max_by_key(|t| (t.kind, t.restarts))
}

/// What is wrong with a pod.
pub(super) fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let unschedulable = status.conditions.iter().flatten().filter_map(|c| {
        let is =
            c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable");
        let message = format!(
            "pod {name}: {}",
            short(c.message.as_deref().unwrap_or("no node takes it"))
        );
        is.then_some(Trouble {
            kind: TroubleKind::Unschedulable,
            message,
            restarts: 0,
        })
    });
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter_map(|container| container_trouble(&name, container));
    let unready = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|container| unready(&name, container));
    worst(unschedulable.chain(containers).chain(unready))
}

/// A container that runs, and whose probe keeps it from being ready.
fn unready(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let runs = container.state.as_ref().is_some_and(|s| s.running.is_some());
    let probe = match container.started {
        Some(false) => "startup",
        _ => "readiness",
    };
    (runs && !container.ready).then(|| Trouble {
        kind: TroubleKind::NotReady,
        message: format!(
            "pod {pod}, container {}: it runs, and its {probe} probe has not succeeded yet: `kubectl describe pod {pod}` tells more",
            container.name
        ),
        restarts: 0,
    })
}

fn container_trouble(pod: &str, container: &ContainerStatus) -> Option<Trouble> {
    let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref());
    let reason = waiting.and_then(|w| w.reason.as_deref()).unwrap_or_default();
    let said = waiting.and_then(|w| w.message.as_deref()).unwrap_or_default();
    let restarts = u32::try_from(container.restart_count).unwrap_or(0);
    let at = format!("pod {pod}, container {}", container.name);
    let kind = match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ImageInspectError" | "RegistryUnavailable" => {
            TroubleKind::ImagePull
        }
        "CreateContainerConfigError" | "CreateContainerError" => TroubleKind::NotCreated,
        "InvalidImageName" | "ErrImageNeverPull" => TroubleKind::BadContainer,
        "CrashLoopBackOff" => TroubleKind::CrashLoop,
        // One that is ready has recovered.
        _ if restarts > 0 && has_terminated(container) && !container.ready => TroubleKind::CrashLoop,
        _ => return None,
    };
    let message = match kind {
        TroubleKind::CrashLoop => format!("{at}: {}", last_end(container)),
        _ if said.is_empty() => format!("{at}: {reason}"),
        _ => format!("{at}: {reason}: {}", short(said)),
    };
    Some(Trouble {
        kind,
        message,
        restarts,
    })
}

/// The ends of the runs of the containers that were restarted.
fn crashes(pod: &Pod) -> Vec<Crashes> {
    let name = pod.name_any();
    let containers = pod.status.iter().flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        init.chain(s.container_statuses.iter().flatten())
    });
    containers
        .filter(|c| c.restart_count > 0)
        .map(|container| Crashes {
            message: format!(
                "pod {name}, container {}: {}",
                container.name,
                last_end(container)
            ),
            ends: ends(container),
            out_of_memory: kills(container),
        })
        .collect()
}

/// When the runs ended that the kubelet knows of, and the one before: it ended, at the latest, when the oldest
/// of them began. Those that ended with their node are left out.
fn ends(container: &ContainerStatus) -> Vec<Timestamp> {
    let state = |s: &Option<ContainerState>| s.as_ref().and_then(|s| s.terminated.clone());
    // What has ended and is ready is an init container that is done.
    let current = state(&container.state).filter(|_| !container.ready);
    let known: Vec<_> = state(&container.last_state).into_iter().chain(current).collect();
    let runs = container.state.as_ref().is_some_and(|s| s.running.is_some());
    let ended = container.restart_count + i32::from(!runs && !container.ready);
    let before = known
        .first()
        .filter(|_| usize::try_from(ended).is_ok_and(|n| n > known.len()));
    before
        .and_then(|run| run.started_at.as_ref())
        .into_iter()
        .chain(
            known
                .iter()
                .filter(|run| !went_with_node(run))
                .filter_map(|run| run.finished_at.as_ref()),
        )
        .map(|t| t.0)
        .collect()
}

/// Which of the ends that the kubelet tells were kills for want of memory.
fn kills(container: &ContainerStatus) -> Vec<Timestamp> {
    let states = [&container.last_state, &container.state].into_iter().flatten();
    let ended = states.filter_map(|state| state.terminated.as_ref());
    ended
        .filter(|run| run.reason.as_deref() == Some("OOMKilled"))
        .filter_map(|run| run.finished_at.as_ref())
        .map(|t| t.0)
        .collect()
}

/// Since when a pod that was ready, and whose containers all go on running, is ready no more. The condition of one that
/// never was is as old as the pod, so older than the run of its containers.
fn unready_since(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready")?;
    let since = condition.last_transition_time.as_ref()?.0;
    let began = |container: &ContainerStatus| {
        let state = container.state.as_ref()?.running.as_ref()?;
        state.started_at.as_ref().map(|t| t.0)
    };
    let containers = status
        .container_statuses
        .as_deref()
        .filter(|all| !all.is_empty())?;
    let runs: Option<Vec<Timestamp>> = containers.iter().map(began).collect();
    let youngest = runs?.into_iter().max()?;
    (condition.status == "False" && since > youngest).then_some(since)
}

fn has_terminated(container: &ContainerStatus) -> bool {
    let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    last.is_some_and(|run| !went_with_node(run))
}

/// How the container ended last: `OOMKilled` says more than the exit code 137.
fn last_end(container: &ContainerStatus) -> String {
    let ended = [&container.state, &container.last_state]
        .into_iter()
        .find_map(|state| state.as_ref()?.terminated.as_ref());
    let Some(ended) = ended else {
        return "crashed".to_owned();
    };
    let reason = ended.reason.as_deref().filter(|r| !r.is_empty() && *r != "Error");
    let reason = reason.map_or_else(String::new, |r| format!(" ({r})"));
    let said = ended.message.as_deref().map(str::trim).filter(|m| !m.is_empty());
    let said = said.map_or_else(String::new, |m| format!(": {}", short_end(m)));
    format!("ended with exit code {}{reason}{said}", ended.exit_code)
}

pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A termination message is often a log; what matters is at its end, and all of it has to fit into one line of a table.
pub(super) fn short_end(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let text = lines.collect::<Vec<_>>().join(" | ");
    let chars = text.chars().count();
    if chars <= MAX_MESSAGE {
        return text;
    }
    let end: String = text.chars().skip(chars - MAX_MESSAGE).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(status: &Value) -> PodFacts {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "checkout-0a-x", "labels": {"molt.dev/service": "checkout", "molt.dev/revision": "0a"}},
            "status": status,
        }))
        .unwrap();
        PodFacts::read(&pod).unwrap().1
    }

    fn container(state: &Value, last: &Value, restarts: i32) -> Value {
        json!({"containerStatuses": [{
            "name": "app", "image": "", "imageID": "", "ready": false,
            "restartCount": restarts, "state": state, "lastState": last,
        }]})
    }

    fn waiting(reason: &str) -> Value {
        json!({"waiting": {"reason": reason, "message": "the kubelet's words"}})
    }

    #[test]
    fn the_end_of_a_log_is_one_line() {
        let trace = "loading\n\nTraceback:\n  File \"a.py\"\nValueError: no rates\n";
        assert_eq!(
            short_end(trace),
            "loading | Traceback: | File \"a.py\" | ValueError: no rates"
        );
        let long = format!("{}\nthe end", "a".repeat(400));
        assert!(short_end(&long).starts_with("…aaa") && short_end(&long).ends_with(" | the end"));
    }

    #[test]
    fn lost_readiness_is_told_of_what_was_ready_and_goes_on_running() {
        let pod = |ready: &str, since: &str, state: &Value| {
            read(&json!({
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}],
                "containerStatuses": [{
                    "name": "app", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
                }],
            }))
            .unready_since
        };
        let running = json!({"running": {"startedAt": "2026-01-01T00:10:00Z"}});
        let lost = "2026-01-01T00:20:00Z";
        assert_eq!(pod("False", lost, &running), Some(lost.parse().unwrap()));
        assert_eq!(pod("True", lost, &running), None);
        assert_eq!(
            pod("False", "2026-01-01T00:09:00Z", &running),
            None,
            "it never was ready"
        );
        assert_eq!(
            pod("False", lost, &waiting("CrashLoopBackOff")),
            None,
            "it does not run"
        );
        assert_eq!(read(&json!({})).unready_since, None);
    }

    #[test]
    fn kills_for_want_of_memory_are_told_apart_from_other_ends() {
        let ended = |reason: &str, at: &str| {
            json!({"terminated": {
                "exitCode": 137, "reason": reason, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": at,
            }})
        };
        let (first, second) = ("2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z");
        let facts = read(&container(&ended("OOMKilled", second), &ended("Error", first), 1));
        let [crashes] = &facts.crashes[..] else {
            panic!("{facts:?}")
        };
        assert_eq!(crashes.out_of_memory, [second.parse().unwrap()]);
        assert_eq!(crashes.ends.len(), 2);
    }

    #[test]
    fn the_runs_of_containers_are_known_as_far_as_the_kubelet_tells() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:10:00Z"}});
        let ended = json!({"terminated": {
            "exitCode": 1, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:09:00Z",
        }});
        let times = |times: &[&str]| {
            times
                .iter()
                .map(|t| t.parse().unwrap())
                .collect::<Vec<Timestamp>>()
        };
        let starts = |last: &Value, restarts| read(&container(&running, last, restarts)).starts;
        let now = "2026-01-01T00:10:00Z";
        assert_eq!(
            starts(&json!({}), 0),
            Starts {
                at: times(&[now]),
                older: false
            }
        );
        let before = "2026-01-01T00:00:00Z";
        for (restarts, older) in [(1, false), (2, true)] {
            let at = times(&[before, now]);
            assert_eq!(starts(&ended, restarts), Starts { at, older });
        }
    }

    #[test]
    fn waiting_reasons_are_told_apart() {
        for (reason, kind) in [
            ("ErrImagePull", TroubleKind::ImagePull),
            ("ImagePullBackOff", TroubleKind::ImagePull),
            ("InvalidImageName", TroubleKind::BadContainer),
            ("CreateContainerConfigError", TroubleKind::NotCreated),
            ("CreateContainerError", TroubleKind::NotCreated),
            ("ErrImageNeverPull", TroubleKind::BadContainer),
        ] {
            let trouble = read(&container(&waiting(reason), &json!({}), 0)).trouble.unwrap();
            assert_eq!(trouble.kind, kind, "{reason}");
            assert_eq!(
                trouble.message,
                format!("pod checkout-0a-x, container app: {reason}: the kubelet's words")
            );
        }
        assert_eq!(
            read(&container(&waiting("ContainerCreating"), &json!({}), 0)).trouble,
            None
        );
    }

    #[test]
    fn a_crash_tells_how_it_ended() {
        let last = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let trouble = read(&container(&waiting("CrashLoopBackOff"), &last, 3))
            .trouble
            .unwrap();
        assert_eq!((trouble.kind, trouble.restarts), (TroubleKind::CrashLoop, 3));
        assert_eq!(
            trouble.message,
            "pod checkout-0a-x, container app: ended with exit code 137 (OOMKilled)"
        );

        let last =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no module named shop\n"}});
        let trouble = read(&container(&json!({"running": {}}), &last, 1))
            .trouble
            .unwrap();
        assert_eq!(
            trouble.message,
            "pod checkout-0a-x, container app: ended with exit code 1: no module named shop"
        );
    }

    #[test]
    fn a_container_that_recovered_is_no_trouble_but_its_ends_are_known() {
        let last = json!({"terminated": {
            "exitCode": 1, "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:20Z",
        }});
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:30Z"}});
        let ends = |state: &Value, restarts, ready: bool| {
            let mut status = container(state, &last, restarts);
            status["containerStatuses"][0]["ready"] = json!(ready);
            let facts = read(&status);
            let ends: Vec<_> = facts.crashes[0].ends.iter().map(|t| t.as_second() % 60).collect();
            (facts.trouble.is_some(), ends)
        };
        assert_eq!(ends(&running, 1, true), (false, vec![20]));
        assert_eq!(ends(&running, 2, true), (false, vec![10, 20]));
        assert_eq!(ends(&running, 2, false), (true, vec![10, 20]));
        assert_eq!(ends(&waiting("CrashLoopBackOff"), 1, false), (true, vec![10, 20]));
        let again = json!({"terminated": {
            "exitCode": 1, "startedAt": "2026-01-01T00:00:30Z", "finishedAt": "2026-01-01T00:00:40Z",
        }});
        assert_eq!(ends(&again, 1, false), (true, vec![20, 40]));
        let done = json!({"terminated": {
            "exitCode": 0, "startedAt": "2026-01-01T00:00:30Z", "finishedAt": "2026-01-01T00:00:40Z",
        }});
        assert_eq!(ends(&done, 1, true), (false, vec![20]), "an init container");
    }

    #[test]
    fn what_ended_with_its_node_has_not_crashed() {
        for (reason, code, crashed) in [
            ("Unknown", 255, 0),
            ("Unknown", 137, 1),
            ("ContainerStatusUnknown", 137, 0),
            ("OOMKilled", 137, 1),
            ("Error", 1, 1),
        ] {
            let last = json!({"terminated": {
                "exitCode": code, "reason": reason, "finishedAt": "2026-01-01T00:00:20Z",
            }});
            let running = json!({"running": {"startedAt": "2026-01-01T00:00:30Z"}});
            assert_eq!(
                read(&container(&running, &last, 1)).crashes[0].ends.len(),
                crashed,
                "{reason}"
            );
        }
    }

    #[test]
    fn a_container_that_runs_and_is_not_ready_says_which_probe_to_look_at() {
        let mut status = container(&json!({"running": {}}), &json!({}), 0);
        for (started, probe) in [(true, "readiness"), (false, "startup")] {
            status["containerStatuses"][0]["started"] = json!(started);
            let trouble = read(&status).trouble.unwrap();
            assert_eq!(trouble.kind, TroubleKind::NotReady);
            assert_eq!(
                trouble.message,
                format!(
                    "pod checkout-0a-x, container app: it runs, and its {probe} probe has not succeeded yet: `kubectl describe pod checkout-0a-x` tells more"
                )
            );
        }
        status["containerStatuses"][0]["ready"] = json!(true);
        assert_eq!(read(&status).trouble, None);
    }

    #[test]
    fn what_ended_with_its_node_is_no_crash() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:10:00Z"}});
        for (reason, code, crashed) in [
            ("ContainerStatusUnknown", 137, false),
            ("Unknown", 255, false),
            ("Unknown", 1, true),
            ("Error", 255, true),
        ] {
            let last = json!({"terminated": {
                "exitCode": code, "reason": reason,
                "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:20Z",
            }});
            let facts = read(&container(&running, &last, 1));
            assert_eq!(!facts.crashes[0].ends.is_empty(), crashed, "{reason} {code}");
            let crashing = facts.trouble.is_some_and(|t| t.kind == TroubleKind::CrashLoop);
            assert_eq!(crashing, crashed, "{reason} {code}");
        }
        let last =
            json!({"terminated": {"exitCode": 137, "reason": "Error", "finishedAt": "2026-01-01T00:00:20Z"}});
        let mut status = container(&running, &last, 1);
        status["conditions"] =
            json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]);
        let facts = read(&status);
        assert_eq!(
            (facts.crashes.len(), facts.trouble),
            (0, None),
            "it is taken away"
        );
    }

    #[test]
    fn of_a_node_that_is_gone_nobody_knows_how_its_pods_are() {
        let ready = json!([{"type": "Ready", "status": "True"}]);
        assert!(!read(&json!({"phase": "Unknown", "conditions": ready})).ready);
        assert!(read(&json!({"phase": "Running", "conditions": ready})).ready);
    }

    #[test]
    fn no_node_takes_it() {
        let status = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
        ]});
        let trouble = read(&status).trouble.unwrap();
        assert_eq!(
            (trouble.kind, trouble.message.as_str()),
            (
                TroubleKind::Unschedulable,
                "pod checkout-0a-x: 0/3 nodes are available"
            )
        );
    }

    #[test]
    fn ready_means_serving() {
        assert!(read(&json!({"conditions": [{"type": "Ready", "status": "True"}]})).ready);
        assert!(!read(&json!({"conditions": [{"type": "Ready", "status": "False"}]})).ready);
    }
}

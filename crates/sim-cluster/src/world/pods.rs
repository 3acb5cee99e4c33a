//! ReplicaSets, kubelets and endpoints.

use std::collections::BTreeMap;

use http::Method;
use molt_sim_api::store::Change;
use serde_json::{Value, json};

use super::{CORE_SERVICES, Event, PODS, SETS, SLICES, World, label, meta, path, timestamp};
use crate::faults::Kind;

/// A pod as its kubelet knows it.
#[derive(Clone, Debug, Default)]
struct Pod {
    revision: String,
    node: u64,
    /// When it becomes ready if nothing is against it.
    ready_at: u64,
    ready: bool,
    restarts: u32,
    /// How its container's last run ended, and when.
    last_end: Option<(&'static str, u64)>,
    leaving: bool,
}

/// Every pod.
#[derive(Default)]
pub(super) struct Pods {
    known: BTreeMap<String, Pod>,
    created: u64,
}

impl World {
    pub(super) fn sync_set(&mut self, name: &str) {
        let Some(set) = self.object(SETS, name).cloned() else {
            return;
        };
        if set["metadata"]["deletionTimestamp"].is_string() {
            return;
        }
        let uid = &set["metadata"]["uid"];
        let wanted = usize::try_from(set["spec"]["replicas"].as_u64().unwrap_or(1)).unwrap_or(0);
        let mut pods: Vec<(bool, String)> = self
            .server
            .objects(PODS)
            .into_iter()
            .filter(|p| p["metadata"]["ownerReferences"][0]["uid"] == *uid)
            .filter(|p| p["metadata"]["deletionTimestamp"].is_null() && p["status"]["phase"] != "Failed")
            .map(|p| {
                let name = meta(p, "name").to_owned();
                (self.pods.known.get(&name).is_some_and(|p| p.ready), name)
            })
            .collect();
        // Those that are not ready go first.
        pods.sort();
        let surplus = pods.len().saturating_sub(wanted);
        for (_, pod) in pods.iter().take(surplus) {
            self.ask(Method::DELETE, &path(PODS, pod), "application/json", json!({}));
        }
        for _ in pods.len()..wanted {
            self.create_pod(&set);
        }
    }

    fn create_pod(&mut self, set: &Value) {
        self.pods.created += 1;
        let name = format!("{}-{:05x}", meta(set, "name"), self.pods.created);
        let node = self.chance.between(0, 3);
        let mut start = self.chance.between(1000, 4000);
        if self.struck.slow_start > self.now {
            start += self.chance.between(15_000, 60_000);
        }
        let body = json!({
            "metadata": {
                "name": name,
                "labels": set["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": meta(set, "name"),
                    "uid": set["metadata"]["uid"], "controller": true,
                }],
            },
            "spec": {"containers": set["spec"]["template"]["spec"]["containers"], "nodeName": format!("node-{node}")},
        });
        let pod = Pod {
            revision: label(set, "molt.dev/revision").to_owned(),
            node,
            ready_at: self.now + start,
            ..Pod::default()
        };
        self.pods.known.insert(name.clone(), pod);
        self.ask(Method::POST, &path(PODS, ""), "application/json", body);
        self.in_ms(start.min(2000), Event::Kubelet(name));
    }

    /// The kubelet looks after a pod.
    pub(super) fn kubelet(&mut self, name: &str) {
        let now = self.now;
        let Some(pod) = self.pods.known.get(name).cloned().filter(|p| !p.leaving) else {
            return;
        };
        let flaw = self.struck.flaw(&pod.revision, now);
        let mut next = pod.clone();
        let mut waiting = None;
        let mut again = None;
        match flaw {
            Some((Kind::CrashLoop, until)) => {
                next.ready = false;
                next.restarts += 1;
                next.last_end = Some(("Error", now));
                next.ready_at = until + 1000;
                waiting = Some("CrashLoopBackOff");
                again = Some(10_000);
            }
            Some((Kind::ImagePull, until)) if !pod.ready => {
                waiting = Some("ImagePullBackOff");
                again = Some(until.saturating_sub(now) + 500);
            }
            Some((Kind::NeverReady, until)) => {
                next.ready = false;
                again = Some(until.saturating_sub(now) + 500);
            }
            _ => {
                next.ready = now >= pod.ready_at;
                if !next.ready {
                    again = Some(pod.ready_at - now);
                }
            }
        }
        if let Some(wait) = again {
            self.in_ms(wait.max(1), Event::Kubelet(name.to_owned()));
        }
        self.pods.known.insert(name.to_owned(), next.clone());
        self.tell(name, &next, waiting);
    }

    fn tell(&mut self, name: &str, pod: &Pod, waiting: Option<&str>) {
        let seconds = |at| timestamp(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let since = seconds(self.now.min(pod.ready_at));
        let state = match waiting {
            Some(reason) => json!({"waiting": {"reason": reason, "message": "played"}}),
            None => json!({"running": {"startedAt": since}}),
        };
        let last = match pod.last_end {
            Some((reason, at)) => json!({"terminated": {
                "exitCode": 137, "reason": reason, "startedAt": seconds(at.saturating_sub(1000)), "finishedAt": seconds(at),
            }}),
            None => json!({}),
        };
        let ready = if pod.ready { "True" } else { "False" };
        let status = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{
                "name": "app", "image": "", "imageID": "", "ready": pod.ready,
                "restartCount": pod.restarts, "state": state, "lastState": last,
            }],
        });
        self.merge(
            &format!("{}/status", path(PODS, name)),
            json!({ "status": status }),
        );
    }

    /// The pod has ended.
    pub(super) fn gone(&mut self, name: &str) {
        self.pods.known.remove(name);
        let now = json!({"gracePeriodSeconds": 0});
        self.ask(Method::DELETE, &path(PODS, name), "application/json", now);
    }

    pub(super) fn pod_changed(&mut self, change: &Change, deleting: bool) {
        let name = change.key.name.clone();
        let set = change.after["metadata"]["ownerReferences"][0]["name"]
            .as_str()
            .map(str::to_owned);
        if deleting && self.pods.known.get(&name).is_some_and(|p| !p.leaving) {
            if let Some(pod) = self.pods.known.get_mut(&name) {
                pod.leaving = true;
                pod.ready = false;
            }
            let wait = self.chance.between(500, 4000);
            self.in_ms(wait, Event::Gone(name));
        }
        if change.deleted || change.after["status"]["phase"] == "Failed" {
            self.pods.known.remove(&change.key.name);
            if let Some(set) = set {
                self.in_ms(100, Event::SyncSet(set));
            }
        }
        let labels = &change.after["metadata"]["labels"];
        let selects = |service: &Value| selects(service, labels);
        let services: Vec<String> = self
            .server
            .objects(CORE_SERVICES)
            .into_iter()
            .filter(|s| selects(s))
            .map(|s| meta(s, "name").to_owned())
            .collect();
        self.slices_of(&services);
    }

    /// Endpoints follow in a while.
    pub(super) fn slices_of(&mut self, services: &[String]) {
        for service in services {
            let mut wait = self.chance.between(10, 150);
            if self.struck.slices_late > self.now {
                wait += self.chance.between(2000, 12_000);
            }
            self.in_ms(wait, Event::SyncSlice(service.clone()));
        }
    }

    pub(super) fn sync_slice(&mut self, name: &str) {
        let Some(service) = self.object(CORE_SERVICES, name).cloned() else {
            return;
        };
        let endpoints: Vec<Value> = self
            .server
            .objects(PODS)
            .into_iter()
            .filter(|pod| selects(&service, &pod["metadata"]["labels"]))
            .filter(|pod| pod["status"]["phase"] != "Failed")
            .map(|pod| {
                let name = meta(pod, "name");
                let ready = self.pods.known.get(name).is_some_and(|p| p.ready);
                json!({
                    "addresses": ["10.1.0.1"],
                    "conditions": {"ready": ready},
                    "targetRef": {"kind": "Pod", "name": name},
                })
            })
            .collect();
        let mut labels = service["metadata"]["labels"].clone();
        labels["kubernetes.io/service-name"] = json!(name);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": name, "uid": service["metadata"]["uid"],
                }],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
        });
        self.catch_up_traffic();
        self.apply(&path(SLICES, name), "endpoints", slice);
    }

    /// Ready endpoints behind a service, by revision.
    pub(super) fn endpoints(&self, service: &str) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        let slice = self.object(SLICES, service);
        for endpoint in slice.iter().filter_map(|s| s["endpoints"].as_array()).flatten() {
            let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
            if endpoint["conditions"]["ready"] == true
                && let Some(pod) = self.object(PODS, pod)
            {
                *found
                    .entry(label(pod, "molt.dev/revision").to_owned())
                    .or_default() += 1;
            }
        }
        found
    }

    /// A pod that is struck: of the canary if there is one.
    pub(super) fn victim(&self, size: u64) -> Option<String> {
        let serving: Vec<&String> = self
            .pods
            .known
            .iter()
            .filter(|(_, p)| p.ready && !p.leaving)
            .map(|(name, _)| name)
            .collect();
        let index = usize::try_from(size).unwrap_or(0).checked_rem(serving.len())?;
        serving.get(index).map(|name| (*name).clone())
    }

    /// A pod is not ready for a while; with a restart or not.
    pub(super) fn disturb(&mut self, name: &str, wait: u64, ended: Option<&'static str>) {
        let now = self.now;
        let Some(pod) = self.pods.known.get_mut(name) else {
            return;
        };
        pod.ready = false;
        pod.ready_at = now + wait;
        if let Some(reason) = ended {
            pod.restarts += 1;
            pod.last_end = Some((reason, now));
        }
        let pod = pod.clone();
        self.tell(name, &pod, None);
        self.in_ms(wait, Event::Kubelet(name.to_owned()));
    }

    pub(super) fn evict(&mut self, name: &str) {
        let status =
            json!({"phase": "Failed", "reason": "Evicted", "conditions": [], "containerStatuses": []});
        self.merge(
            &format!("{}/status", path(PODS, name)),
            json!({ "status": status }),
        );
        self.in_ms(15_000, Event::Gone(name.to_owned()));
    }

    pub(super) fn lose_node(&mut self, size: u64) {
        let node = size % 3;
        let lost: Vec<String> = self
            .pods
            .known
            .iter()
            .filter(|(_, p)| p.node == node && !p.leaving)
            .map(|(name, _)| name.clone())
            .collect();
        for name in lost {
            self.disturb(&name, 60_000, None);
            let now = json!({"gracePeriodSeconds": 5});
            self.ask(Method::DELETE, &path(PODS, &name), "application/json", now);
        }
    }

    /// Kubelets look at every pod now, and no longer when a flaw was to end.
    pub(super) fn mend_kubelets(&mut self) {
        self.queue.retain(|_, event| !matches!(event, Event::Kubelet(_)));
        let pods: Vec<String> = self.pods.known.keys().cloned().collect();
        for pod in pods {
            self.in_ms(1, Event::Kubelet(pod));
        }
    }

    /// Kubelets look at every pod of a revision now.
    pub(super) fn wake_kubelets(&mut self, revision: &str) {
        let pods: Vec<String> = self
            .pods
            .known
            .iter()
            .filter(|(_, p)| p.revision == revision)
            .map(|(name, _)| name.clone())
            .collect();
        for pod in pods {
            self.in_ms(1, Event::Kubelet(pod));
        }
    }
}

fn selects(service: &Value, labels: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| labels[k] == *v))
}

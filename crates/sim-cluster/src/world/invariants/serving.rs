//! Who can serve, and who is used: what the predicates on traffic and pods rest on.

use serde_json::Value;

use crate::world::{PODS, SERVICE, SETS, SLICES, World, label, meta};

/// What an operator can't know yet: events under way, requests under way, a decision being carried out.
const KNOWS: u64 = 4000;

impl World {
    /// A revision has had a ready endpoint within what the operator can know.
    pub(super) fn served_lately(&self, revision: &str) -> bool {
        match self.checks.serving.get(revision) {
            Some((true, _)) => true,
            Some((false, since)) => self.now - since <= KNOWS,
            None => false,
        }
    }

    /// A revision has had a ready endpoint for so long that the operator must know.
    pub(super) fn serves_for_sure(&self, revision: &str) -> bool {
        matches!(self.checks.serving.get(revision), Some((true, since)) if self.now - since > KNOWS)
    }

    pub(super) fn note_endpoints(&mut self) {
        let now = self.now;
        let revisions: Vec<String> = self
            .server
            .objects(SETS)
            .into_iter()
            .map(|s| label(s, "molt.dev/revision").to_owned())
            .collect();
        for revision in revisions {
            let ready = self.carriers(&revision).len() as u64;
            let serving = self
                .checks
                .serving
                .entry(revision.clone())
                .or_insert((false, now));
            if serving.0 != (ready > 0) {
                *serving = (ready > 0, now);
            }
            let strength = self.checks.strength.entry(revision).or_default();
            if strength.last().is_none_or(|(_, n)| *n != ready) {
                strength.push((now, ready));
            }
            while strength.len() > 1 && strength[1].0 + KNOWS < now {
                strength.remove(0);
            }
        }
        self.note_connections();
    }

    /// The pods that carry a revision's traffic: endpoints know them, and the pods themselves are ready and stay.
    fn carriers(&self, revision: &str) -> Vec<&str> {
        let slice = self.object(SLICES, &format!("{SERVICE}-{revision}"));
        let endpoints = slice
            .and_then(|s| s["endpoints"].as_array())
            .into_iter()
            .flatten();
        let carries = |pod: &&str| {
            let Some(pod) = self.object(PODS, pod) else {
                return false;
            };
            let stays = pod["metadata"]["deletionTimestamp"].is_null();
            stays && label(pod, "molt.dev/revision") == revision && is_ready(pod)
        };
        endpoints
            .filter(|e| e["conditions"]["ready"] == true)
            .filter_map(|e| e["targetRef"]["name"].as_str())
            .filter(carries)
            .collect()
    }

    /// Users may be connected to whatever pod was ready while they were sent to its revision.
    fn note_connections(&mut self) {
        let used = self.checks.used.iter();
        let now: Vec<String> = used
            .flat_map(|revision| self.carriers(revision))
            .filter(|pod| !self.checks.connected.contains(*pod))
            .map(str::to_owned)
            .collect();
        self.checks.connected.extend(now);
    }

    /// Somebody may be connected to a pod of this revision that is there to stay.
    pub(super) fn has_connections(&self, revision: &str) -> bool {
        self.server.objects(PODS).into_iter().any(|pod| {
            label(pod, "molt.dev/revision") == revision
                && pod["metadata"]["deletionTimestamp"].is_null()
                && self.checks.connected.contains(meta(pod, "name"))
        })
    }

    /// The gateway has taken over a route: notes who is used by it.
    pub(in crate::world) fn note_shares(&mut self) {
        let shares = self.shares();
        let now = self.now;
        let used: Vec<String> = shares
            .into_iter()
            .filter(|(_, s)| *s > 0.0)
            .map(|(r, _)| r)
            .collect();
        let gone: Vec<String> = self
            .checks
            .used
            .iter()
            .filter(|r| !used.contains(r))
            .cloned()
            .collect();
        for revision in gone {
            self.checks.unused_since.insert(revision, now);
        }
        for revision in &used {
            self.checks.unused_since.remove(revision);
        }
        self.checks.used = used.into_iter().collect();
        self.note_connections();
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

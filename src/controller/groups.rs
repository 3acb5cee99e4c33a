//! The services that one is released with: what their objects and statuses say of them.
//!
//! They are in the watch of PythonServices already. A status that changes what the others go by wakes them; numbers and
//! messages wake nobody.

use std::sync::Arc;

use kube::ResourceExt;
use molt_core::decision::Phase;
use molt_core::group::Peer;
use molt_core::state::State;

use super::caches::Caches;
use super::object::ServiceObject;
use crate::api::v1alpha1 as api;
use crate::k8s::Key;
use crate::k8s::index::Facts;

/// What the others of its group go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts(pub Peer);

impl Facts for PeerFacts {
    type Object = ServiceObject;

    fn read(object: &ServiceObject) -> Option<(String, Self)> {
        let group = object.group.as_ref()?;
        let status = object.status.as_ref().ok();
        // A state that can't be read is told as Degraded.
        let state = object.state().unwrap_or_default();
        let current = status
            .and_then(|s| s.observed_generation)
            .is_some_and(|seen| object.metadata.generation == Some(seen));
        let known = state.group.as_ref();
        let peer = Peer {
            name: object.name_any(),
            wave: u32::try_from(group.wave.unwrap_or(0)).unwrap_or(0),
            phase: status.and_then(|s| s.phase).map(phase),
            current,
            attempt: state.attempt.is_some(),
            out: out(&state),
            since: known.and_then(|g| g.since),
            deleting: object.is_deleting(),
            fault: known.and_then(|g| g.fault.clone()),
            back: known.and_then(|g| g.waits.as_ref()).is_some_and(|wait| wait.back),
        };
        Some((group.name.clone(), Self(peer)))
    }
}

/// The revision that its spec asks for, where that is kept out.
fn out(state: &State) -> Option<molt_core::plan::Revision> {
    let pinned = state.pinned.as_ref().map(|pin| pin.instead_of.clone());
    state.refused.clone().or(pinned)
}

fn phase(phase: api::Phase) -> Phase {
    match phase {
        api::Phase::Initializing => Phase::Initializing,
        api::Phase::Healthy => Phase::Healthy,
        api::Phase::Progressing => Phase::Progressing,
        api::Phase::Paused => Phase::Paused,
        api::Phase::RollingBack => Phase::RollingBack,
        api::Phase::RolledBack => Phase::RolledBack,
        api::Phase::Degraded => Phase::Degraded,
    }
}

/// The other services of its group.
pub fn peers(object: &ServiceObject, caches: &Caches) -> Vec<Peer> {
    let Some(group) = &object.group else {
        return Vec::new();
    };
    let key = object.key();
    let members = caches.groups.of(&Key::new(&key.namespace, &group.name));
    let others = members.iter().filter(|(name, _)| **name != key.name);
    others
        .map(|(_, facts): (_, &Arc<PeerFacts>)| facts.0.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::object::tests::changed;
    use serde_json::json;

    #[test]
    fn what_others_go_by_is_read_and_nothing_else() {
        let status = |phase: &str, message: &str| {
            json!({
                "phase": phase, "message": message, "observedGeneration": 3,
                "state": {
                    "stable": "0a", "refused": "0b",
                    "group": {
                        "since": "2026-01-01T00:00:00Z",
                        "fault": {"at": "2026-01-02T00:00:00Z", "revision": "0b", "attempt": 2, "reason": "HarmShown"},
                    },
                },
            })
        };
        let with = |status: serde_json::Value| {
            let object = changed(|o| {
                o["spec"]["group"] = json!({"name": "shop", "wave": 2});
                o["status"] = status;
            });
            PeerFacts::read(&object).unwrap()
        };
        let (group, facts) = with(status("RolledBack", "one"));
        let peer = &facts.0;
        assert_eq!((group.as_str(), peer.wave, peer.current), ("shop", 2, true));
        assert_eq!((peer.phase, peer.attempt), (Some(Phase::RolledBack), false));
        assert_eq!(peer.out, Some("0b".into()));
        assert_eq!(peer.fault.as_ref().unwrap().reason, "HarmShown");
        assert_eq!(
            facts,
            with(status("RolledBack", "two")).1,
            "a message wakes nobody"
        );
        assert_ne!(facts, with(status("Healthy", "one")).1);
        // What a newer version writes, or nobody yet, keeps it in its group.
        for odd in [json!(null), json!({"phase": "Frozen", "state": {"stable": 7}})] {
            let (_, facts) = with(odd);
            assert_eq!((facts.0.phase, facts.0.current), (None, false));
        }
        assert!(PeerFacts::read(&changed(|_| ())).is_none());
        let odd = changed(|o| o["spec"]["group"] = json!({"wave": 1}));
        assert!(PeerFacts::read(&odd).is_none());
    }
}

//! From the caches to what the core is told: facts, without judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use molt_core::config::Asked;
use molt_core::observed::{
    Action, Observed, PodView, RevisionView, Selection, Slot, StablePods, Trouble, TroubleKind,
};
use molt_core::plan::{Revision, RouteMode};
use molt_core::state::State;

use super::adopted;
use super::caches::Caches;
use super::config::snapshots::Snapshots;
use super::facts::ActionFacts;
use super::groups;
use super::jobs;
use super::object::ServiceObject;
use super::pods::worst;
use super::render::{revision_name, slot_name};
use super::runs;
use super::validate::{Known, Validated};
use crate::k8s::Key;
use crate::k8s::writer::is_owned_by;
use crate::traffic::gateway_api::sessions::Support;
use crate::traffic::{Mark, RouteTarget, Routers};

/// What a spec's meaning depends on.
pub fn known(object: &ServiceObject, caches: &Caches) -> Known {
    let key = object.key();
    let state = object.state().unwrap_or_default();
    let set = state
        .stable
        .as_ref()
        .and_then(|revision| caches.sets.get(&key, &revision_name(&key.name, revision)));
    let route = caches.routes.get(&key, &key.name);
    let grpc = caches.grpc_routes.get(&key, &key.name);
    let virtual_service = caches.virtual_services.get(&key, &key.name);
    Known {
        stable_wanted: state.strength_beside(set.map(|s| s.wanted)),
        workload_replicas: adopted::replicas(object, caches),
        owned_route: route.is_some_and(|r| is_owned_by(&*r, object.uid_text())),
        owned_grpc_route: grpc.is_some_and(|r| is_owned_by(&*r, object.uid_text())),
        sessions: Support::Unasked,
        owned_virtual_service: virtual_service.is_some_and(|v| is_owned_by(&*v, object.uid_text())),
    }
}

/// The service's traffic, with the port of each revision that there is a ReplicaSet of.
pub fn route_target(
    object: &ServiceObject,
    validated: &Validated,
    caches: &Caches,
    asked: &Asked,
) -> RouteTarget {
    let key = object.key();
    let mut ports: BTreeMap<Revision, u16> = caches
        .sets
        .of(&key)
        .values()
        .filter_map(|set| Some((set.revision.clone(), set.port?)))
        .collect();
    let port = object
        .spec
        .as_ref()
        .ok()
        .and_then(|s| u16::try_from(s.port?).ok());
    let revision = asked.revision.as_ref().filter(|_| asked.current);
    if let (Some(revision), Some(port)) = (revision.or(object.revision.as_ref()), port) {
        ports.insert(revision.clone(), port);
    }
    RouteTarget {
        service: key,
        owner: object.owner(),
        spec: validated.route.clone(),
        ports,
        mark: None,
        rival: object.state().ok().and_then(|s| s.rival).map(|r| r.manager),
    }
}

/// What the route tells the rest of its group: which revision is under test is part of what was decided.
pub fn mark(validated: &Validated, state: &State) -> Option<Mark> {
    let header = validated.plan.group.as_ref()?.header.clone()?;
    let tried = state.attempt.as_ref().map(|attempt| &attempt.revision);
    let is_canary = |r: &&Revision| state.stable.as_ref().is_some_and(|stable| stable != *r);
    Some(Mark {
        header,
        canary: tried.filter(is_canary).cloned(),
    })
}

/// Everything but evidence, which is read afterwards if it is due.
pub fn observe(
    object: &ServiceObject,
    validated: &Validated,
    target: &RouteTarget,
    caches: &Caches,
    routers: &Routers,
    now: Timestamp,
) -> Observed {
    let key = object.key();
    let sighting = routers.of(&target.spec).observe(target, now);
    let mut problems: Vec<_> = validated.problem().into_iter().collect();
    problems.extend(adopted::problem(object));
    problems.extend(sighting.problems);
    problems.extend(runs::problem(target.spec.mode(), caches));
    let mut actions: Vec<_> = caches.actions.of(&key).into_values().collect();
    actions.sort_by(|a, b| (a.view.created_at, &a.view.uid).cmp(&(b.view.created_at, &b.view.uid)));
    Observed {
        revisions: revisions(object, target.spec.mode(), caches),
        route: sighting.view,
        selected: selected(object, caches),
        shared: is_shared(object, caches),
        measurement: None,
        stable_pods: stable_pods(object, caches),
        peers: groups::peers(object, caches),
        fleet_paused: caches.fleet_paused(),
        actions: actions.iter().map(|a| a.view.clone()).collect(),
        attempts: attempts(&key, caches),
        tried: tried(&key, caches),
        runs: runs::observe(object, target.spec.mode(), caches),
        reports: jobs::reports(object, caches),
        leaving_migrations: jobs::leaving_migrations(object, caches),
        jobs: jobs::observe(object, caches),
        workload: adopted::sight(object, caches, validated.plan.replicas),
        name_taken: false,
        problems,
    }
}

/// The pods of the stable revision, where a restart needs them.
fn stable_pods(object: &ServiceObject, caches: &Caches) -> Option<StablePods> {
    let key = object.key();
    let state = object.state().ok()?;
    let asked = |a: &Arc<ActionFacts>| a.view.action == Action::Restart;
    if state.restart.is_none() && !caches.actions.of(&key).values().any(asked) {
        return None;
    }
    let stable = state.stable?;
    let pods = caches.pods.of(&key);
    let of_stable = pods.iter().filter(|(_, pod)| pod.revision == stable);
    let views = of_stable.map(|(name, pod)| PodView {
        name: name.clone(),
        uid: pod.uid.clone(),
        created_at: pod.created_at.unwrap_or(Timestamp::MIN),
        ready: pod.ready,
        leaving: pod.leaving,
    });
    Some(StablePods {
        pods: views.collect(),
        refused: None,
    })
}

fn revisions(object: &ServiceObject, route: RouteMode, caches: &Caches) -> BTreeMap<Revision, RevisionView> {
    let key = object.key();
    let pods = caches.pods.of(&key);
    let slices = caches.slices.of(&key);
    let services = caches.core_services.of(&key);
    let sets = caches.sets.of(&key);
    let snapshots = Snapshots {
        service: &key,
        contents: &caches.contents,
        sets: &sets,
    };
    let mut views = BTreeMap::new();
    let pulls = route.pulls();
    for set in sets
        .values()
        .filter(|s| s.owners.iter().any(|o| o == object.uid_text()))
    {
        let name = revision_name(&key.name, &set.revision);
        let of_set: Vec<_> = pods.values().filter(|p| p.revision == set.revision).collect();
        let failure = set.failure.as_ref().map(|message| Trouble {
            kind: TroubleKind::CreateFailed,
            message: format!("ReplicaSet {name} can't create pods: {message}"),
            restarts: 0,
        });
        let ready_behind: std::collections::BTreeSet<&String> = slices
            .values()
            .filter(|s| s.service == name)
            .flat_map(|s| &s.ready)
            .collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let ready = count(of_set.iter().filter(|p| p.ready).count());
        let view = RevisionView {
            wanted: set.wanted,
            // A change that the ReplicaSet's controller has not taken up yet may still bring a pod.
            pods: if route == RouteMode::Singleton {
                count(of_set.len()).max(set.counted)
            } else {
                count(of_set.len())
            },
            ready,
            young: if set.min_ready > 0 {
                ready.saturating_sub(set.available)
            } else {
                0
            },
            scaled_by: set.scaled_by.clone(),
            // Workers are called by nobody.
            endpoints: if pulls { ready } else { count(ready_behind.len()) },
            has_service: pulls
                || services
                    .get(&name)
                    .is_some_and(|s| s.owners.iter().any(|o| o == object.uid_text())),
            created_at: set.created_at,
            attempt: set.attempt,
            trouble: worst(of_set.iter().filter_map(|p| p.trouble.clone()).chain(failure)),
            altered: set
                .first_template
                .as_ref()
                .is_some_and(|first| *first != set.template)
                || snapshots.is_altered(set),
            crashes: of_set.iter().flat_map(|p| p.crashes.clone()).collect(),
            unready_since: of_set.iter().filter_map(|p| p.unready_since).collect(),
        };
        views.insert(set.revision.clone(), view);
    }
    views
}

fn selected(object: &ServiceObject, caches: &Caches) -> BTreeMap<Slot, Selection> {
    let key = object.key();
    let services = caches.core_services.of(&key);
    let pods = caches.pods.of(&key);
    let slices = caches.slices.of(&key);
    [Slot::InCluster, Slot::Stable, Slot::Canary]
        .into_iter()
        .filter_map(|slot| {
            let name = slot_name(&key.name, slot);
            let service = services
                .get(&name)
                .filter(|s| s.owners.iter().any(|o| o == object.uid_text()))?;
            let revision = service.revision.clone()?;
            // Addresses of a former selection may still be there for a moment.
            let endpoints = slices
                .values()
                .filter(|s| s.service == name)
                .flat_map(|s| &s.ready)
                .filter(|pod| pods.get(*pod).is_some_and(|p| p.revision == revision))
                .count();
            Some((
                slot,
                Selection {
                    revision,
                    endpoints: u32::try_from(endpoints).unwrap_or(u32::MAX),
                },
            ))
        })
        .collect()
}

/// The service of the service's own name leads to the pods of every revision.
fn is_shared(object: &ServiceObject, caches: &Caches) -> bool {
    let key = object.key();
    let service = caches.core_services.get(&key, &key.name);
    service.is_some_and(|s| s.shared && s.owners.iter().any(|o| o == object.uid_text()))
}

/// The revisions whose newest attempt says that they are not to be tried again by themselves.
fn tried(key: &Key, caches: &Caches) -> BTreeSet<Revision> {
    let mut newest: BTreeMap<Revision, (u32, bool)> = BTreeMap::new();
    for record in caches.records.of(key).values() {
        let known = newest.entry(record.revision.clone()).or_default();
        *known = (*known).max((record.attempt, record.tried));
    }
    let tried = newest.into_iter().filter(|(_, (_, tried))| *tried);
    tried.map(|(revision, _)| revision).collect()
}

fn attempts(key: &Key, caches: &Caches) -> BTreeMap<Revision, u32> {
    let mut highest: BTreeMap<Revision, u32> = BTreeMap::new();
    let mut see = |revision: &Revision, attempt: u32| {
        let known = highest.entry(revision.clone()).or_default();
        *known = attempt.max(*known);
    };
    caches
        .sets
        .of(key)
        .values()
        .for_each(|s| see(&s.revision, s.attempt));
    caches
        .records
        .of(key)
        .values()
        .for_each(|r| see(&r.revision, r.attempt));
    highest
}

//! Routes of the Gateway API.
//!
//! Two facts shape this. `rules` and `backendRefs` are atomic lists: one weight inside a user's route can't be
//! owned, so it is changed by JSON Patch with tests, and the entry in `managedFields` is dropped at the end. And
//! `observedGeneration` says that the controller has translated the route.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, TestOperation};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use molt_core::observed::{Backend, ProblemKind, RouteView, Slot, Weights};
use molt_core::plan::Revision;
use serde_json::{Value, json};

use super::{OwnedRoute, RouteSpec, RouteTarget, Sighting, TrafficRouter, problem};
use crate::controller::object::ServiceObject;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::index::{Index, Presence};
use crate::k8s::subset::is_subset;
use crate::k8s::writer::{Writer, is_owned_by};
use crate::k8s::{Key, labels};

mod rules_owners;
mod types;
mod view;

pub use types::*;

/// The Gateway API.
pub struct GatewayApi {
    writer: Writer,
    routes: Arc<Index<HttpRoute>>,
    services: Store<ServiceObject>,
}

impl GatewayApi {
    /// A router that reads these caches.
    pub fn new(writer: Writer, routes: Arc<Index<HttpRoute>>, services: Store<ServiceObject>) -> Self {
        Self {
            writer,
            routes,
            services,
        }
    }

    fn route(&self, target: &RouteTarget) -> Option<Arc<HttpRoute>> {
        let name = target.spec.name(&target.service.name);
        self.routes.get(&Key::new(&target.service.namespace, name), name)
    }

    async fn set(&self, target: &RouteTarget, weights: &Weights) -> Result<(), WriteError> {
        let Key { namespace, name } = &target.service;
        let live = self.route(target);
        match &target.spec {
            RouteSpec::Owned { content } => {
                let live = live.filter(|route| is_owned_by(&**route, &target.owner.uid));
                let body = owned_route(target, content.as_ref(), live.as_deref(), weights)?;
                match live {
                    Some(_) => self
                        .writer
                        .apply::<HttpRoute>(namespace, labels::MANAGER, true, &body)
                        .await
                        .map(drop),
                    None => {
                        self.writer
                            .create::<HttpRoute>(namespace, &target.owner.uid, &body)
                            .await
                    }
                }
            }
            RouteSpec::Adopted { name: route } => {
                let stale = || WriteError::Stale(target_of(route));
                let live = live.ok_or_else(stale)?;
                let patch = weight_patch(name, &live, weights).ok_or_else(stale)?;
                self.writer
                    .json_patch::<HttpRoute>(namespace, route, patch)
                    .await
                    .map(drop)
            }
        }
    }

    async fn heal(&self, target: &RouteTarget) -> Result<(), WriteError> {
        let RouteSpec::Owned {
            content: Some(content),
        } = &target.spec
        else {
            return Ok(());
        };
        let Some(live) = self
            .route(target)
            .filter(|route| is_owned_by(&**route, &target.owner.uid))
        else {
            return Ok(());
        };
        // The weights stay as they are: to change them is a decision.
        let weights: Weights = view::owned_weights(&target.service.name, &live)
            .into_iter()
            .filter(|(backend, _)| matches!(backend, Backend::Revision(r) if target.ports.contains_key(r)))
            .map(|(backend, weight)| (backend, u8::try_from(weight).unwrap_or(u8::MAX)))
            .collect();
        if weights.is_empty() {
            return Ok(());
        }
        let body = owned_route(target, Some(content), Some(&live), &weights)?;
        let spec = serde_json::to_value(&live.spec).unwrap_or_default();
        if is_subset(&body["spec"], &spec) {
            return Ok(());
        }
        let namespace = &target.service.namespace;
        self.writer
            .apply::<HttpRoute>(namespace, labels::MANAGER, true, &body)
            .await
            .map(drop)
    }

    async fn give_back(&self, target: &RouteTarget) -> Result<(), WriteError> {
        let RouteSpec::Adopted { name } = &target.spec else {
            return Ok(());
        };
        let Key {
            namespace,
            name: service,
        } = &target.service;
        if self.routes.presence() == Presence::Missing {
            return Ok(());
        }
        let Some(mut live) = self.writer.get::<HttpRoute>(namespace, name).await? else {
            return Ok(());
        };
        let idle = Weights::from([
            (Backend::Slot(Slot::Stable), 100),
            (Backend::Slot(Slot::Canary), 0),
        ]);
        let blocked = |sighting: &Sighting| sighting.problems.iter().any(|p| p.kind == ProblemKind::Route);
        let sighting = self.sight(target, Some(&live));
        if !blocked(&sighting)
            && sighting.view.weights != idle
            && let Some(patch) = weight_patch(service, &live, &idle)
        {
            live = self
                .writer
                .json_patch::<HttpRoute>(namespace, name, patch)
                .await?;
        }
        match disown_patch(&live) {
            Some(patch) => self
                .writer
                .json_patch::<HttpRoute>(namespace, name, patch)
                .await
                .map(drop),
            None => Ok(()),
        }
    }

    fn sight(&self, target: &RouteTarget, route: Option<&HttpRoute>) -> Sighting {
        let Key { namespace, name } = &target.service;
        match &target.spec {
            RouteSpec::Owned { .. } => view::owned(name, &target.owner.uid, route),
            RouteSpec::Adopted { name: own } => {
                let is_service = |other: &str| {
                    other != name
                        && self
                            .services
                            .get(&ObjectRef::new(other).within(namespace))
                            .is_some()
                };
                view::adopted(name, own, namespace, route, &is_service, target.rival.as_deref())
            }
        }
    }
}

impl TrafficRouter for GatewayApi {
    fn observe(&self, target: &RouteTarget) -> Sighting {
        if self.routes.presence() == Presence::Missing {
            let message = format!(
                "the cluster has no HTTPRoute in {API_VERSION}: install the Gateway API's CRDs and a controller for them; they are found without a restart"
            );
            return Sighting {
                view: RouteView::default(),
                problems: vec![problem(ProblemKind::Route, "GatewayApiMissing", message)],
                ..Sighting::default()
            };
        }
        self.sight(target, self.route(target).as_deref())
    }

    fn reconcile<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<(), WriteError>> {
        self.heal(target).boxed()
    }

    fn set_weights<'a>(
        &'a self,
        target: &'a RouteTarget,
        weights: &'a Weights,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        self.set(target, weights).boxed()
    }

    fn finalize<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<(), WriteError>> {
        self.give_back(target).boxed()
    }
}

fn target_of(route: &str) -> Target {
    Target {
        verb: "patch",
        resource: "httproutes.gateway.networking.k8s.io".to_owned(),
        name: route.to_owned(),
    }
}

/// The whole route that Molt owns. Without content from the spec it keeps what the live one says.
fn owned_route(
    target: &RouteTarget,
    content: Option<&OwnedRoute>,
    live: Option<&HttpRoute>,
    weights: &Weights,
) -> Result<Value, WriteError> {
    let Key { namespace, name } = &target.service;
    let unready = |reason, message| WriteError::Unready { reason, message };
    let (parents, hostnames) = match (content, live) {
        (Some(content), _) => (json!(content.parents), json!(content.hostnames)),
        (None, Some(live)) => (json!(live.spec.parent_refs), json!(live.spec.hostnames)),
        (None, None) => {
            let message = "the route can't be created while spec.traffic can't be used".to_owned();
            return Err(unready("RouteUnknown", message));
        }
    };
    let written = live.map_or(&[][..], |live| {
        live.spec.rules.first().map_or(&[][..], |rule| &rule.backend_refs)
    });
    let names_revisions = content.map_or_else(
        || written.iter().any(|backend| !backend.filters.is_empty()),
        |content| content.names_revisions,
    );
    let mut backends = Vec::new();
    for (backend, weight) in weights {
        let Backend::Revision(revision) = backend else {
            continue;
        };
        let port = target.ports.get(revision).ok_or_else(|| {
            let message =
                format!("the serving port of revision {revision} is not known: its ReplicaSet is gone");
            unready("RevisionGone", message)
        })?;
        let service = format!("{name}-{revision}");
        let mut backend = json!({"name": service, "port": port, "weight": weight});
        if names_revisions {
            backend["filters"] = json!([revision_header(revision)]);
        }
        let place = written.iter().position(|backend| backend.name == service);
        backends.push((place.unwrap_or(usize::MAX), backend));
    }
    // Those that are there keep their order, a new one comes last: a proxy that has a cluster for each place
    // would else send stable's requests to the canary while it takes the change.
    backends.sort_by_key(|(place, _)| *place);
    let backends: Vec<Value> = backends.into_iter().map(|(_, backend)| backend).collect();
    let mut body = json!({
        "apiVersion": API_VERSION,
        "kind": HttpRoute::kind(&()),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {labels::MANAGED_BY: labels::MOLT, labels::SERVICE: name, labels::APP_NAME: name},
            "ownerReferences": [target.owner],
        },
        "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": [{"backendRefs": backends}]},
    });
    if let Some(version) = live.and_then(ResourceExt::resource_version) {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    Ok(body)
}

/// The header that names the revision which a request is sent to.
const REVISION_HEADER: &str = "x-molt-revision";

fn revision_header(revision: &Revision) -> Value {
    json!({
        "type": "RequestHeaderModifier",
        "requestHeaderModifier": {"set": [{"name": REVISION_HEADER, "value": revision.to_string()}]},
    })
}

/// Changes the weights in every rule with both fixed names, and nothing else; only if the route is still the
/// one that was decided on.
fn weight_patch(service: &str, route: &HttpRoute, weights: &Weights) -> Option<Patch> {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    let rules = view::split_rules(service, namespace, route);
    let version = route.metadata.resource_version.as_deref()?;
    let mut operations = vec![test(["metadata", "resourceVersion"], version)];
    for rule in &rules {
        for (slot, (index, _)) in [(Slot::Stable, rule.stable), (Slot::Canary, rule.canary)] {
            let (r, b) = (rule.index.to_string(), index.to_string());
            let name = &route.spec.rules[rule.index].backend_refs[index].name;
            operations.push(test(["spec", "rules", &r, "backendRefs", &b, "name"], name));
            operations.push(PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["spec", "rules", &r, "backendRefs", &b, "weight"]),
                value: json!(weights.get(&Backend::Slot(slot))?),
            }));
        }
    }
    (!rules.is_empty()).then_some(Patch(operations))
}

/// Drops Molt from `managedFields`; a patch that changes nothing else adds no new entry.
fn disown_patch(route: &HttpRoute) -> Option<Patch> {
    let ours = route
        .managed_fields()
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.manager.as_deref() == Some(labels::MANAGER))
        .map(|(index, _)| index.to_string());
    let mut operations = Vec::new();
    // From the last to the first, so that no index moves under another.
    for index in ours.collect::<Vec<_>>().into_iter().rev() {
        operations.push(test(
            ["metadata", "managedFields", &index, "manager"],
            labels::MANAGER,
        ));
        operations.push(PatchOperation::Remove(RemoveOperation {
            path: PointerBuf::from_tokens(["metadata", "managedFields", &index]),
        }));
    }
    (!operations.is_empty()).then_some(Patch(operations))
}

fn test<const N: usize>(path: [&str; N], value: &str) -> PatchOperation {
    PatchOperation::Test(TestOperation {
        path: PointerBuf::from_tokens(path),
        value: json!(value),
    })
}

#[cfg(test)]
mod tests;

//! Routes of the Gateway API.
//!
//! Two facts shape this. `rules` and `backendRefs` are atomic lists: one weight inside a user's route can't be
//! owned, so it is changed by JSON Patch with tests, and the entry in `managedFields` is dropped at the end. And
//! `observedGeneration` says that the controller has translated the route.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use json_patch::Patch;
use kube::runtime::reflector::{ObjectRef, Store};
use molt_core::observed::{Preview, ProblemKind, RouteView, Weights};

use super::rules_owners::Kind;
use super::{RouteSpec, RouteTarget, Sighting, TrafficRouter, problem, unread, users_route};
use crate::controller::object::ServiceObject;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::index::{Index, Presence};
use crate::k8s::subset::is_subset;
use crate::k8s::writer::{Writer, is_owned_by};
use crate::k8s::{Key, labels};

mod owned;
mod places;
pub mod sessions;
mod types;
mod view;

pub use types::*;

/// The Gateway API.
pub struct GatewayApi<R> {
    writer: Writer,
    routes: Arc<Index<R>>,
    services: Store<ServiceObject>,
}

impl<R: GatewayRoute> GatewayApi<R> {
    /// A router that reads these caches.
    pub fn new(writer: Writer, routes: Arc<Index<R>>, services: Store<ServiceObject>) -> Self {
        Self {
            writer,
            routes,
            services,
        }
    }

    fn route(&self, target: &RouteTarget) -> Option<Arc<R>> {
        let name = target.spec.name(&target.service.name);
        self.routes.get(&Key::new(&target.service.namespace, name), name)
    }

    async fn set(
        &self,
        target: &RouteTarget,
        weights: &Weights,
        preview: Option<&Preview>,
    ) -> Result<(), WriteError> {
        let Key { namespace, name } = &target.service;
        let live = self.route(target);
        match &target.spec {
            RouteSpec::Owned { content, .. } => {
                let live = live.filter(|route| is_owned_by(&**route, &target.owner.uid));
                let live = live.as_deref().map(R::content);
                let mut body = owned::route(target, content.as_ref(), live, weights, preview)?;
                match live {
                    Some(live) => {
                        let new = owned::hold_back(&mut body, live);
                        owned::retire(&mut body, live);
                        let gets_ready = owned::holds_back(live) && !view::acknowledged(live);
                        let wanted = if new {
                            preview_of(name, &body)
                        } else if gets_ready && view::gives(name, live, weights) {
                            // Its acknowledgement brings the next turn.
                            return Ok(());
                        } else {
                            preview.cloned()
                        };
                        let applied = self
                            .writer
                            .apply::<R>(namespace, labels::MANAGER, true, &body)
                            .await?;
                        is_complete(name, applied.content(), wanted.as_ref())
                    }
                    None => self
                        .writer
                        .create::<R>(namespace, &target.owner.uid, &body)
                        .await
                        .map(drop),
                }
            }
            RouteSpec::Adopted { name: route, .. } => {
                let stale = || WriteError::Stale(target_of(R::KIND, route));
                let live = live.ok_or_else(stale)?;
                let patch = weight_patch(name, live.content(), weights).ok_or_else(stale)?;
                self.writer
                    .json_patch::<R>(namespace, route, patch)
                    .await
                    .map(drop)
            }
            RouteSpec::Istio { .. }
            | RouteSpec::Shares
            | RouteSpec::Workers { .. }
            | RouteSpec::Runs { .. } => Ok(()),
        }
    }

    async fn heal(&self, target: &RouteTarget) -> Result<bool, WriteError> {
        let RouteSpec::Owned {
            content: Some(content),
            ..
        } = &target.spec
        else {
            return Ok(false);
        };
        let Some(live) = self
            .route(target)
            .filter(|route| is_owned_by(&**route, &target.owner.uid))
        else {
            return Ok(false);
        };
        let live = live.content();
        // The weights stay as they are: to change them is a decision.
        let service = &target.service.name;
        let preview = owned::preview(service, live);
        let weights = target.writable(&owned::weights(service, live));
        if weights.is_empty() {
            return Ok(false);
        }
        let preview = preview.filter(|preview| target.serves(preview));
        let mut body = owned::route(target, Some(content), Some(live), &weights, preview.as_ref())?;
        owned::keep_held_back(&mut body, live);
        let spec = serde_json::to_value(&live.spec).unwrap_or_default();
        let kept = live
            .spec
            .rules
            .first()
            .and_then(|r| r.session_persistence.clone());
        if is_subset(&body["spec"], &spec) && kept == owned::persistence(content) {
            return Ok(false);
        }
        let namespace = &target.service.namespace;
        self.writer
            .apply::<R>(namespace, labels::MANAGER, true, &body)
            .await
            .map(|_| true)
    }

    async fn give_back(&self, target: &RouteTarget) -> Result<(), WriteError> {
        let RouteSpec::Adopted { name, .. } = &target.spec else {
            return Ok(());
        };
        let Key {
            namespace,
            name: service,
        } = &target.service;
        if self.routes.presence() == Presence::Missing {
            return Ok(());
        }
        let sight = |live: &R| self.sight(target, Some(live.content()));
        let rules = |live: &R| view::split_rules(service, namespace, live.content());
        users_route::give_back(&self.writer, namespace, name, sight, rules).await
    }

    fn sight(&self, target: &RouteTarget, route: Option<&HttpRoute>) -> Sighting {
        let Key { namespace, name } = &target.service;
        match &target.spec {
            RouteSpec::Owned { .. } => view::owned(R::KIND, name, &target.owner.uid, route),
            RouteSpec::Istio { .. }
            | RouteSpec::Shares
            | RouteSpec::Workers { .. }
            | RouteSpec::Runs { .. } => Sighting::default(),
            RouteSpec::Adopted { name: own, .. } => {
                let Some(route) = route else {
                    return view::missing(R::KIND, target, own);
                };
                let is_service = |other: &str| {
                    other != name
                        && self
                            .services
                            .get(&ObjectRef::new(other).within(namespace))
                            .is_some()
                };
                view::adopted(
                    R::KIND,
                    name,
                    own,
                    namespace,
                    route,
                    &is_service,
                    target.rival.as_deref(),
                )
            }
        }
    }
}

impl<R: GatewayRoute> TrafficRouter for GatewayApi<R> {
    fn observe(&self, target: &RouteTarget, _: Timestamp) -> Sighting {
        if self.routes.presence() == Presence::Pending {
            return unread(R::KIND, self.routes.trouble());
        }
        if self.routes.presence() == Presence::Missing {
            let message = format!(
                "the cluster has no {} in {API_VERSION}: install the Gateway API's CRDs and a controller for them; they are found without a restart",
                R::KIND.kind
            );
            return Sighting {
                view: RouteView::default(),
                problems: vec![problem(ProblemKind::Route, "GatewayApiMissing", message)],
                ..Sighting::default()
            };
        }
        self.sight(target, self.route(target).as_deref().map(R::content))
    }

    fn reconcile<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<bool, WriteError>> {
        self.heal(target).boxed()
    }

    fn set_route<'a>(
        &'a self,
        target: &'a RouteTarget,
        weights: &'a Weights,
        preview: Option<&'a Preview>,
    ) -> BoxFuture<'a, Result<(), WriteError>> {
        self.set(target, weights, preview).boxed()
    }

    fn finalize<'a>(&'a self, target: &'a RouteTarget) -> BoxFuture<'a, Result<(), WriteError>> {
        self.give_back(target).boxed()
    }
}

/// What a route that is about to be written sends to a revision beside its weight.
fn preview_of(service: &str, body: &serde_json::Value) -> Option<Preview> {
    let route = serde_json::from_value::<HttpRoute>(body.clone()).ok()?;
    owned::preview(service, &route)
}

/// A CRD that is too old drops fields that it does not know: a mirror without a percentage copies everything.
fn is_complete(service: &str, applied: &HttpRoute, preview: Option<&Preview>) -> Result<(), WriteError> {
    if owned::preview(service, applied).as_ref() == preview {
        return Ok(());
    }
    Err(WriteError::Unready {
        reason: "RouteFieldDropped",
        message: format!(
            "the API server did not keep all rules of {} {service}: the percentage of a mirror needs the CRDs of the Gateway API 1.3 or later; install them, or take setMirror out of the steps",
            applied.of.0.kind
        ),
    })
}

fn target_of(kind: &Kind, route: &str) -> Target {
    Target {
        verb: "patch",
        resource: kind.resource(),
        name: route.to_owned(),
    }
}

fn weight_patch(service: &str, route: &HttpRoute, weights: &Weights) -> Option<Patch> {
    let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
    users_route::weight_patch(
        &route.metadata,
        &view::split_rules(service, namespace, route),
        weights,
    )
}

#[cfg(test)]
mod tests;

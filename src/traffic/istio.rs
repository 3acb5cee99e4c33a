//! VirtualServices of Istio: Molt's own, or the user's.
//!
//! `spec.http` is an atomic list, as the rules of an HTTPRoute are: one weight inside a user's is changed by JSON Patch
//! with tests. Whether the proxies have it is another matter, see [`acknowledgement`].

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::runtime::reflector::{ObjectRef, Store};
use molt_core::observed::{Preview, ProblemKind, Weights};

use super::{RouteSpec, RouteTarget, Sighting, TrafficRouter, Whose, problem, unread, users_route};
use crate::controller::object::ServiceObject;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::index::{Index, Presence};
use crate::k8s::writer::{Writer, is_owned_by};
use crate::k8s::{Key, labels};

pub mod acknowledgement;
mod owned;
mod types;
mod view;

use acknowledgement::{Reach, Since};
pub use types::*;

/// Istio.
pub struct Istio {
    writer: Writer,
    live: Arc<Index<VirtualService>>,
    services: Store<ServiceObject>,
    since: Since,
}

impl Istio {
    /// A router that reads these caches.
    pub fn new(writer: Writer, live: Arc<Index<VirtualService>>, services: Store<ServiceObject>) -> Self {
        Self {
            writer,
            live,
            services,
            since: Since::default(),
        }
    }

    fn key(target: &RouteTarget) -> Key {
        Key::new(&target.service.namespace, target.spec.name(&target.service.name))
    }

    fn live(&self, target: &RouteTarget) -> Option<Arc<VirtualService>> {
        let key = Self::key(target);
        self.live.get(&key, &key.name)
    }

    /// The one that Molt has made for this service.
    fn own(&self, target: &RouteTarget) -> Option<Arc<VirtualService>> {
        self.live(target)
            .filter(|live| is_owned_by(&**live, &target.owner.uid))
    }

    async fn set(
        &self,
        target: &RouteTarget,
        weights: &Weights,
        preview: Option<&Preview>,
    ) -> Result<(), WriteError> {
        let Key { namespace, name } = &target.service;
        let RouteSpec::Istio { whose, .. } = &target.spec else {
            return Ok(());
        };
        match whose {
            Whose::Molts(content) => {
                let live = self.own(target);
                let body = owned::body(target, content.as_ref(), live.as_deref(), weights, preview)?;
                if live.is_none() {
                    let owner = &target.owner.uid;
                    return self
                        .writer
                        .create::<VirtualService>(namespace, owner, &body)
                        .await
                        .map(drop);
                }
                let applied = self
                    .writer
                    .apply::<VirtualService>(namespace, labels::MANAGER, true, &body)
                    .await?;
                is_complete(name, &applied, preview)
            }
            Whose::Users(own) => {
                let stale = || WriteError::Stale(target_of(own));
                let live = self.live(target).ok_or_else(stale)?;
                let rules = view::split_rules(name, namespace, &live.spec);
                let patch = users_route::weight_patch(&live.metadata, &rules, weights).ok_or_else(stale)?;
                self.writer
                    .json_patch::<VirtualService>(namespace, own, patch)
                    .await
                    .map(drop)
            }
        }
    }

    async fn heal(&self, target: &RouteTarget) -> Result<bool, WriteError> {
        let RouteSpec::Istio {
            whose: Whose::Molts(Some(content)),
            ..
        } = &target.spec
        else {
            return Ok(false);
        };
        let Some(live) = self.own(target) else {
            return Ok(false);
        };
        // The weights stay as they are: to change them is a decision.
        let service = &target.service.name;
        let weights = target.writable(&owned::weights(service, &live));
        if weights.is_empty() {
            return Ok(false);
        }
        let preview = owned::preview(service, &live);
        let preview = preview.filter(|preview| target.serves(preview));
        let body = owned::body(target, Some(content), Some(&live), &weights, preview.as_ref())?;
        // What somebody has added to a rule, a fault for instance, counts as well.
        if serde_json::from_value::<Spec>(body["spec"].clone()).is_ok_and(|wanted| wanted == live.spec) {
            return Ok(false);
        }
        self.writer
            .apply::<VirtualService>(&target.service.namespace, labels::MANAGER, true, &body)
            .await
            .map(|_| true)
    }

    async fn give_back(&self, target: &RouteTarget) -> Result<(), WriteError> {
        let RouteSpec::Istio {
            whose: Whose::Users(own),
            ..
        } = &target.spec
        else {
            return Ok(());
        };
        let Key {
            namespace,
            name: service,
        } = &target.service;
        if self.live.presence() == Presence::Missing {
            return Ok(());
        }
        let sight = |live: &VirtualService| self.sight(target, Some(live));
        let rules = |live: &VirtualService| view::split_rules(service, namespace, &live.spec);
        users_route::give_back(&self.writer, namespace, own, sight, rules).await
    }

    /// All but the acknowledgement.
    fn sight(&self, target: &RouteTarget, live: Option<&VirtualService>) -> Sighting {
        let Key { namespace, name } = &target.service;
        let RouteSpec::Istio { whose, .. } = &target.spec else {
            return Sighting::default();
        };
        match whose {
            Whose::Molts(_) => {
                let mut sighting = view::owned(name, &target.owner.uid, live);
                sighting.view.acknowledged = sighting.view.exists;
                sighting
            }
            Whose::Users(own) => {
                let Some(live) = live else {
                    return view::missing(target, own);
                };
                let is_service = |other: &str| {
                    let other = ObjectRef::new(other).within(namespace);
                    self.services.get(&other).is_some_and(|o| o.key().name != *name)
                };
                view::adopted(name, own, namespace, live, &is_service, target.rival.as_deref())
            }
        }
    }
}

impl TrafficRouter for Istio {
    fn observe(&self, target: &RouteTarget, now: Timestamp) -> Sighting {
        let RouteSpec::Istio { delay, .. } = &target.spec else {
            return Sighting::default();
        };
        match self.live.presence() {
            Presence::Present => {}
            Presence::Missing => {
                let message = format!(
                    "the cluster has no VirtualService in {API_VERSION}: install Istio (1.22 or later); it is found without a restart"
                );
                return Sighting {
                    problems: vec![problem(ProblemKind::Route, "IstioMissing", message)],
                    ..Sighting::default()
                };
            }
            Presence::Pending => return unread(&VIRTUAL_SERVICE, self.live.trouble()),
        }
        let key = Self::key(target);
        let live = self.live(target);
        let mut sighting = self.sight(target, live.as_deref());
        let Some(live) = live else {
            self.since.forget(&key);
            return sighting;
        };
        let reach = self.since.reach(&key, &live, *delay, now);
        sighting.view.acknowledged &= reach == Reach::Everywhere;
        match reach {
            Reach::Everywhere => {}
            Reach::Told(message) => {
                sighting.unanswered = Some(format!(
                    "istiod says of VirtualService {} that not every proxy has it yet: {message}",
                    key.name
                ));
            }
            Reach::Silent(until) => sighting.acknowledged_at = Some(until),
        }
        sighting
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

/// A CRD that does not know a field drops it.
fn is_complete(service: &str, applied: &VirtualService, preview: Option<&Preview>) -> Result<(), WriteError> {
    if owned::preview(service, applied).as_ref() == preview {
        return Ok(());
    }
    Err(WriteError::Unready {
        reason: "RouteFieldDropped",
        message: format!(
            "the API server did not keep all rules of VirtualService {service}: install the CRDs of Istio 1.22 or later, or take setHeaderRoute and setMirror out of the steps"
        ),
    })
}

fn target_of(name: &str) -> Target {
    Target {
        verb: "patch",
        resource: VIRTUAL_SERVICE.resource(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;

//! Carries out what was decided.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use molt_core::decision::Effect;
use molt_core::observed::Slot;
use molt_core::plan::Revision;
use serde_json::{Value, json};

use super::caches::Caches;
use super::facts::ReplicaSetFacts;
use super::object::ServiceObject;
use super::render::{self, Owner, action_status, revision_name, slot_name};
use crate::api::v1alpha1::RolloutAction;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::labels;
use crate::k8s::subset::is_subset;
use crate::k8s::writer::Writer;
use crate::traffic::{RouteTarget, Routers};

/// One service's hand on the API server.
pub struct Applier<'a> {
    /// The service.
    pub object: &'a ServiceObject,
    /// Its traffic.
    pub target: &'a RouteTarget,
    /// What is known of the world.
    pub caches: &'a Caches,
    /// The routers.
    pub routers: &'a Routers,
    /// Writes.
    pub writer: &'a Writer,
}

impl Applier<'_> {
    /// Carries out the effects in order. The first that fails ends it: what follows may depend on it.
    pub async fn apply(&self, effects: &[Effect], now: Timestamp) -> Result<(), WriteError> {
        for effect in effects {
            tracing::info!(service = %self.target.service, ?effect, "apply");
            self.apply_one(effect, now).await?;
        }
        Ok(())
    }

    async fn apply_one(&self, effect: &Effect, now: Timestamp) -> Result<(), WriteError> {
        let namespace = &self.target.service.namespace;
        match effect {
            Effect::CreateRevision { revision } => self.create_revision(revision).await,
            Effect::CreateRevisionService { revision } => {
                let body = self.owner().revision_service(revision, self.port(revision)?);
                self.writer
                    .create::<Service>(namespace, self.object.uid_text(), &body)
                    .await
            }
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => self.scale(revision, *replicas, *attempt).await,
            Effect::Select { slot, revision } => self.select(*slot, revision).await,
            Effect::SetWeights(weights) => {
                self.routers
                    .of(&self.target.spec)
                    .set_weights(self.target, weights)
                    .await
            }
            Effect::DeleteRevision { revision } => self.delete_revision(revision).await,
            Effect::ReleaseRoute => self.routers.of(&self.target.spec).finalize(self.target).await,
            Effect::RemoveFinalizer => self.set_finalizer(false).await,
            Effect::EndAction {
                name,
                applied,
                message,
            } => {
                let status = action_status(*applied, message, now);
                let ended = self
                    .writer
                    .merge_status::<RolloutAction>(namespace, name, &status)
                    .await;
                match ended {
                    // Somebody has deleted it: nobody waits for an answer any more.
                    Err(error) if error.status().is_some_and(|s| s.code == 404) => Ok(()),
                    result => result.map(drop),
                }
            }
        }
    }

    /// Puts right what somebody else has changed, but never a weight: that is a decision.
    pub async fn heal(&self) -> Result<(), WriteError> {
        let namespace = &self.target.service.namespace;
        let services = self.caches.core_services.of(&self.target.service);
        for (name, facts) in &services {
            if !facts.owners.iter().any(|o| o == self.object.uid_text()) {
                continue;
            }
            let Some(body) = self.wanted_service(name, facts.revision.as_ref()) else {
                continue;
            };
            let wanted = json!({"metadata": {"labels": body["metadata"]["labels"]}, "spec": body["spec"]});
            if !is_subset(&wanted, &facts.content) {
                self.writer
                    .apply::<Service>(namespace, labels::MANAGER, true, &body)
                    .await?;
            }
        }
        self.routers.of(&self.target.spec).reconcile(self.target).await
    }

    /// How a service of ours should look, with the selection that it has.
    fn wanted_service(&self, name: &str, selects: Option<&Revision>) -> Option<Value> {
        let service = &self.target.service.name;
        for slot in [Slot::InCluster, Slot::Stable, Slot::Canary] {
            if name == slot_name(service, slot) {
                let revision = selects?;
                return Some(
                    self.owner()
                        .slot_service(slot, revision, self.port(revision).ok()?),
                );
            }
        }
        let revision = Revision(name.strip_prefix(service)?.strip_prefix('-')?.to_owned());
        let port = self.port(&revision).ok()?;
        Some(self.owner().revision_service(&revision, port))
    }

    fn owner(&self) -> Owner {
        Owner {
            service: self.target.service.clone(),
            reference: self.object.owner(),
        }
    }

    fn port(&self, revision: &Revision) -> Result<u16, WriteError> {
        self.target
            .ports
            .get(revision)
            .copied()
            .ok_or_else(|| WriteError::Unready {
                reason: "RevisionGone",
                message: format!(
                    "the serving port of revision {revision} is not known: its ReplicaSet is gone"
                ),
            })
    }

    fn set(&self, revision: &Revision) -> Result<Arc<ReplicaSetFacts>, WriteError> {
        let name = revision_name(&self.target.service.name, revision);
        self.caches.sets.get(&self.target.service, &name).ok_or_else(|| {
            WriteError::Stale(Target {
                verb: "patch",
                resource: "replicasets.apps".to_owned(),
                name,
            })
        })
    }

    async fn create_revision(&self, revision: &Revision) -> Result<(), WriteError> {
        let Ok(spec) = &self.object.spec else {
            return Ok(());
        };
        let namespace = &self.target.service.namespace;
        let port = self.port(revision)?;
        // The service first: its endpoints are known by the time the pods are ready.
        let service = self.owner().revision_service(revision, port);
        self.writer
            .create::<Service>(namespace, self.object.uid_text(), &service)
            .await?;
        let set = self.owner().replica_set(revision, &spec.template, port);
        self.writer
            .create::<ReplicaSet>(namespace, self.object.uid_text(), &set)
            .await
    }

    async fn scale(
        &self,
        revision: &Revision,
        replicas: u32,
        attempt: Option<u32>,
    ) -> Result<(), WriteError> {
        let set = self.set(revision)?;
        let attempt = attempt.unwrap_or(set.attempt);
        let body = self.owner().scale(&set, replicas, attempt);
        let namespace = &self.target.service.namespace;
        self.writer
            .apply::<ReplicaSet>(namespace, labels::SCALE_MANAGER, true, &body)
            .await
            .map(drop)
    }

    async fn select(&self, slot: Slot, revision: &Revision) -> Result<(), WriteError> {
        let namespace = &self.target.service.namespace;
        let body = self.owner().slot_service(slot, revision, self.port(revision)?);
        let name = slot_name(&self.target.service.name, slot);
        let ours = self
            .caches
            .core_services
            .get(&self.target.service, &name)
            .is_some_and(|s| s.owners.iter().any(|o| o == self.object.uid_text()));
        if ours {
            self.writer
                .apply::<Service>(namespace, labels::MANAGER, true, &body)
                .await
                .map(drop)
        } else {
            self.writer
                .create::<Service>(namespace, self.object.uid_text(), &body)
                .await
        }
    }

    async fn delete_revision(&self, revision: &Revision) -> Result<(), WriteError> {
        let namespace = &self.target.service.namespace;
        let name = revision_name(&self.target.service.name, revision);
        let set = self.set(revision)?;
        // The ReplicaSet last: it is what a revision is known by, so whatever a crash cuts off is asked for again.
        if let Some(service) = self.caches.core_services.get(&self.target.service, &name) {
            self.writer
                .delete::<Service>(namespace, &name, &service.uid, None)
                .await?;
        }
        self.writer
            .delete::<ReplicaSet>(namespace, &name, &set.uid, Some(&set.resource_version))
            .await
    }

    /// Adds the finalizer, or takes it off.
    pub async fn set_finalizer(&self, present: bool) -> Result<(), WriteError> {
        let finalizers = self
            .object
            .metadata
            .finalizers
            .iter()
            .flatten()
            .filter(|f| *f != labels::FINALIZER);
        let mut finalizers: Vec<String> = finalizers.cloned().collect();
        if present {
            finalizers.push(labels::FINALIZER.to_owned());
        }
        let body = json!({"metadata": {
            "finalizers": finalizers,
            "resourceVersion": self.object.metadata.resource_version,
        }});
        let render::Owner { service, .. } = self.owner();
        match self
            .writer
            .merge::<ServiceObject>(&service.namespace, &service.name, &body)
            .await
        {
            Err(error) if !present && error.status().is_some_and(|s| s.code == 404) => Ok(()),
            result => result.map(drop),
        }
    }
}

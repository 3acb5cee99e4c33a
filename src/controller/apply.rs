//! Carries out what was decided.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Service;
use molt_core::adoption::AdoptionStage;
use molt_core::config::Asked;
use molt_core::decision::Effect;
use molt_core::observed::{NextRun, Slot};
use molt_core::plan::Revision;
use serde_json::{Value, json};

use super::adopted::Hand;
use super::caches::Caches;
use super::config;
use super::config::references::Reference;
use super::config::snapshots::{self, Sets, Snapshots};
use super::effect_words;
use super::facts::{ReplicaSetFacts, ServiceFacts};
use super::object::ServiceObject;
use super::render::{self, Owner, action_status, revision_name, slot_name};
use super::runs;
use super::server_presets;
use super::service_marks;
use super::workers;
use crate::api::v1alpha1::RolloutAction;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::labels;
use crate::k8s::subset::is_subset;
use crate::k8s::writer::Writer;
use crate::traffic::rules_owners::Edit;
use crate::traffic::{RouteTarget, Routers};

fn set_target(verb: &'static str, name: String) -> Target {
    Target {
        verb,
        resource: "replicasets.apps".to_owned(),
        name,
    }
}

/// One service's hand on the API server.
pub struct Applier<'a> {
    /// The service.
    pub object: &'a ServiceObject,
    /// The revision that it asks for, and what its pods get.
    pub asked: &'a Asked,
    /// Its traffic.
    pub target: &'a RouteTarget,
    /// What is known of the world.
    pub caches: &'a Caches,
    /// The routers.
    pub routers: &'a Routers,
    /// Writes.
    pub writer: &'a Writer,
}

impl<'a> Applier<'a> {
    /// The same with what else is known of the traffic.
    #[must_use]
    pub fn with(self, target: &'a RouteTarget) -> Self {
        Self { target, ..self }
    }
}

impl Applier<'_> {
    /// Carries out the effects in order. The first that fails ends it: what follows may depend on it.
    pub async fn apply(&self, effects: &[Effect], now: Timestamp) -> Result<(), WriteError> {
        for effect in effects {
            tracing::info!("{}", effect_words::words(effect));
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
                    .map(drop)
            }
            Effect::Scale {
                revision,
                replicas,
                attempt,
            } => self.scale(revision, *replicas, *attempt).await,
            Effect::Select { slot, revision } => self.select(*slot, revision).await,
            // See `evict`: nothing else waits for it.
            Effect::Evict { .. } => Ok(()),
            Effect::Share => self.share().await,
            Effect::SetRoute { weights, preview } => {
                self.routers
                    .of(&self.target.spec)
                    .set_route(self.target, weights, preview.as_ref())
                    .await
            }
            Effect::HoldWorkload {
                uid,
                replicas,
                paused,
                former,
            } => self.hand().hold(uid, *replicas, *paused, *former).await,
            Effect::WidenServices => self.hand().widen(&self.owner()).await,
            Effect::FreeWorkload { uid } => self.hand().free(uid).await,
            Effect::RunNext(next) => self.run_next(next).await,
            Effect::EndRun { name, uid } => self.writer.end::<Job>(namespace, name, uid).await,
            Effect::DeleteRevision { revision } => self.delete_revision(revision).await,
            Effect::ReleaseRoute => self.routers.of(&self.target.spec).finalize(self.target).await,
            Effect::RemoveFinalizer => self.set_finalizer(false).await,
            Effect::EndAction {
                name,
                applied,
                message,
                again,
            } => {
                // The cache may be older than the first answer, which stands.
                if *again && self.is_answered(name).await? {
                    return Ok(());
                }
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

    /// An action has its answer, or is gone.
    async fn is_answered(&self, name: &str) -> Result<bool, WriteError> {
        let namespace = &self.target.service.namespace;
        let action = self.writer.get::<RolloutAction>(namespace, name).await?;
        Ok(action.is_none_or(|action| action.status.is_some_and(|status| status.state.is_some())))
    }

    /// Evicts the pods that a restart replaces, and says why the API server refused it, if it did: mostly for a
    /// disruption budget, which is waited out. No other write depends on it.
    pub async fn evict(&self, effects: &[Effect]) -> Option<String> {
        let mut refused = None;
        for effect in effects {
            let Effect::Evict { pod, uid } = effect else {
                continue;
            };
            let evicted = self.writer.evict(&self.target.service.namespace, pod, uid).await;
            refused = refused.or(evicted.err().and_then(|error| match error {
                WriteError::Stale(_) | WriteError::NotLeading { .. } => None,
                error => Some(error.to_string()),
            }));
        }
        refused
    }

    /// Puts right what somebody else has changed, but never a weight: that is a decision. Returns what somebody
    /// had written in a route of Molt's, if it was written over. `effects` are those of this turn, which have been applied.
    pub async fn heal(&self, effects: &[Effect], now: Timestamp) -> Result<Option<Edit>, WriteError> {
        let namespace = &self.target.service.namespace;
        let adoption = self.object.state.as_ref().ok().and_then(|s| s.adoption.as_ref());
        let widened =
            adoption.is_some_and(|a| matches!(a.stage, AdoptionStage::Returning | AdoptionStage::Returned));
        if widened {
            // They lead to the Deployment's pods as well.
            return Ok(None);
        }
        let services = self.caches.core_services.of(&self.target.service);
        for (name, facts) in &services {
            if !facts.owners.iter().any(|o| o == self.object.uid_text()) {
                continue;
            }
            let Some(body) = self.wanted_service(name, facts) else {
                continue;
            };
            let mut wanted = json!({"metadata": {}, "spec": body["spec"]});
            // A part that isn't asked for is left out: a null would never be found in what is live.
            for kind in ["labels", "annotations"] {
                if let Some(marks) = body["metadata"].get(kind) {
                    wanted["metadata"][kind] = marks.clone();
                }
            }
            if !is_subset(&wanted, &facts.content) || service_marks::has_others(&wanted, &facts.content) {
                self.writer
                    .apply::<Service>(namespace, labels::MANAGER, true, &body)
                    .await?;
            }
        }
        for set in self.caches.sets.of(&self.target.service).values() {
            // Until the cache is filled everything looks as if it were missing.
            if set.wanted > 0 && self.caches.contents.knows(&set.config) {
                self.complete(set).await?;
            }
            let is_ours = set.owners.iter().any(|o| o == self.object.uid_text());
            if is_ours && set.wanted > 0 && set.min_ready != self.min_ready(set) {
                self.write_scale(set, set.wanted, set.attempt).await?;
            }
        }
        // What is known of a CronJob that has just been written is older than that.
        if !effects.iter().any(|effect| matches!(effect, Effect::RunNext(_))) {
            self.heal_cron_job().await?;
        }
        let router = self.routers.of(&self.target.spec);
        // Looked at as late as can be: an edit comes at any time, and once it is written over nothing shows it.
        let edit = router.observe(self.target, now).edit;
        let written = router.reconcile(self.target).await?;
        Ok(edit.filter(|_| written))
    }

    /// How a service of ours should look, with the selection that it has.
    fn wanted_service(&self, name: &str, facts: &ServiceFacts) -> Option<Value> {
        let service = &self.target.service.name;
        if name == service && facts.shared {
            return Some(self.owner().shared_service(self.shared_port()?));
        }
        for slot in [Slot::InCluster, Slot::Stable, Slot::Canary] {
            if name == slot_name(service, slot) {
                let revision = facts.revision.as_ref()?;
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

    fn hand(&self) -> Hand<'_> {
        Hand {
            object: self.object,
            caches: self.caches,
            writer: self.writer,
        }
    }

    fn owner(&self) -> Owner {
        Owner::of(self.object)
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
        self.caches
            .sets
            .get(&self.target.service, &name)
            .ok_or_else(|| WriteError::Stale(set_target("patch", name)))
    }

    async fn create_revision(&self, revision: &Revision) -> Result<(), WriteError> {
        let Ok(spec) = &self.object.spec else {
            return Ok(());
        };
        let Some(template) = &spec.template else {
            return Ok(());
        };
        if self.current() != Some(revision) {
            // The template is that of another one by now, or nobody knows yet what it is made of.
            return Err(WriteError::Unready {
                reason: "ConfigUnread",
                message: format!(
                    "revision {revision} can't be created: the template has changed, or what it names is not known yet"
                ),
            });
        }
        let namespace = &self.target.service.namespace;
        // Workers are called by nobody.
        let is_called = !self.target.spec.mode().pulls();
        let port = is_called.then(|| self.port(revision)).transpose()?;
        let name = revision_name(&self.target.service.name, revision);
        let sets = self.caches.sets.of(&self.target.service);
        let snapshots = self.snapshots(&sets);
        let content = snapshots::entries(&self.asked.content);
        if content
            .iter()
            .any(|(r, digest)| snapshots.source(r, digest).is_none())
        {
            return Err(WriteError::Stale(set_target("create", name)));
        }
        // The service first: its endpoints are known by the time the pods are ready.
        if let Some(port) = port {
            let service = self.owner().revision_service(revision, port);
            self.writer
                .create::<Service>(namespace, self.object.uid_text(), &service)
                .await?;
        }
        let content_of = &self.asked.content;
        let mut template = workers::complete(spec, template);
        let by_runs = self.target.spec.by_runs();
        let restarts = by_runs.then(|| {
            runs::keep_last_words(&mut template);
            runs::take_restart_policy(&mut template)
        });
        let added = server_presets::complete(&mut template, spec);
        let mut set = self.owner().replica_set(revision, &template, port, content_of);
        if !added.is_empty() {
            let added: Vec<String> = added.iter().map(ToString::to_string).collect();
            set["metadata"]["annotations"][labels::ADDED] = json!(added.join("; "));
        }
        if let Some(restarts) = restarts {
            set["metadata"]["annotations"][labels::RESTART_POLICY] = json!(restarts);
        }
        let live = self
            .writer
            .create::<ReplicaSet>(namespace, self.object.uid_text(), &set)
            .await?;
        // It has no pods yet. What is cut off here is made up for before it gets any.
        let owner = snapshots::Owner {
            revision,
            uid: live.metadata.uid.as_deref().unwrap_or_default(),
        };
        for (reference, digest) in &content {
            snapshots.make(self.writer, &owner, reference, digest).await?;
        }
        Ok(())
    }

    /// The revision of the spec as it is written, if it has been taken up.
    pub fn current(&self) -> Option<&Revision> {
        self.asked.revision.as_ref().filter(|_| self.asked.current)
    }

    fn snapshots<'s>(&'s self, sets: &'s Sets) -> Snapshots<'s> {
        Snapshots {
            service: &self.target.service,
            contents: &self.caches.contents,
            sets,
        }
    }

    /// Makes the snapshots of a ReplicaSet that there are not, and returns the first whose content is nowhere.
    async fn complete(&self, set: &ReplicaSetFacts) -> Result<Option<Reference>, WriteError> {
        let sets = self.caches.sets.of(&self.target.service);
        let snapshots = self.snapshots(&sets);
        let owner = snapshots::Owner {
            revision: &set.revision,
            uid: &set.uid,
        };
        let mut lost = None;
        for (reference, digest) in snapshots.missing(set) {
            if !snapshots.make(self.writer, &owner, &reference, &digest).await? {
                lost = lost.or(Some(reference));
            }
        }
        Ok(lost)
    }

    /// Before a ReplicaSet gets more pods, it has the snapshots that they need. A canary that can't have them gets no
    /// pods; what serves users is scaled all the same: there may be pods that need none of it anew, and traffic that
    /// is on its way back must not wait.
    async fn complete_before_growth(&self, set: &ReplicaSetFacts, is_tried: bool) -> Result<(), WriteError> {
        let service = &self.target.service.name;
        let Some(lost) = self.complete(set).await? else {
            return Ok(());
        };
        let message = config::lost_message(service, &set.revision, &lost);
        if !is_tried {
            tracing::warn!(message);
            return Ok(());
        }
        if self.caches.contents.is_known(lost.kind) {
            return Err(WriteError::Unready {
                reason: "SnapshotLost",
                message,
            });
        }
        Err(WriteError::Unready {
            reason: "ConfigUnread",
            message: config::unread_message(lost.kind, self.caches.contents.trouble(lost.kind)),
        })
    }

    async fn scale(
        &self,
        revision: &Revision,
        replicas: u32,
        attempt: Option<u32>,
    ) -> Result<(), WriteError> {
        let set = self.set(revision)?;
        if replicas > set.wanted {
            self.complete_before_growth(&set, attempt.is_some()).await?;
        }
        let attempt = attempt.unwrap_or(set.attempt);
        self.write_scale(&set, replicas, attempt).await
    }

    async fn write_scale(
        &self,
        set: &ReplicaSetFacts,
        replicas: u32,
        attempt: u32,
    ) -> Result<(), WriteError> {
        let body = self.owner().scale(set, replicas, self.min_ready(set), attempt);
        let namespace = &self.target.service.namespace;
        self.writer
            .apply::<ReplicaSet>(namespace, labels::SCALE_MANAGER, true, &body)
            .await
            .map(drop)
    }

    /// Has the CronJob make the next runs from a revision's template.
    async fn run_next(&self, next: &NextRun) -> Result<(), WriteError> {
        let set = self.set(&next.revision)?;
        self.complete_before_growth(&set, next.attempt > 0).await?;
        let service = &self.target.service;
        let live = self.caches.cron_jobs.get(service, &service.name);
        let live = live.filter(|cron| cron.is_owned_by(self.object.uid_text()));
        let settings = self
            .target
            .spec
            .schedule()
            .or(live.as_deref().map(|cron| &cron.schedule));
        let (Some(settings), Some(template)) = (settings, &set.run) else {
            return Err(WriteError::Stale(set_target("get", service.name.clone())));
        };
        let body = runs::cron_job(&self.owner(), next, settings, template);
        let created = if live.is_some() {
            None
        } else {
            let owner = self.object.uid_text();
            Some(
                self.writer
                    .create::<CronJob>(&service.namespace, owner, &body)
                    .await?,
            )
        };
        if created.is_none_or(|cron| runs::differs(&cron, &body)) {
            self.writer
                .apply::<CronJob>(&service.namespace, labels::MANAGER, true, &body)
                .await?;
        }
        Ok(())
    }

    /// Puts the CronJob right, with the revision that it has.
    async fn heal_cron_job(&self) -> Result<(), WriteError> {
        let service = &self.target.service;
        let Some(live) = self.caches.cron_jobs.get(service, &service.name) else {
            return Ok(());
        };
        let (true, Some(next)) = (live.is_owned_by(self.object.uid_text()), &live.next) else {
            return Ok(());
        };
        let name = revision_name(&service.name, &next.revision);
        let set = self.caches.sets.get(service, &name);
        let set = set.filter(|set| {
            set.first_template
                .as_ref()
                .is_none_or(|first| *first == set.template)
        });
        let Some(template) = set.as_ref().and_then(|set| set.run.as_ref()) else {
            return Ok(());
        };
        let settings = self.target.spec.schedule().unwrap_or(&live.schedule);
        let body = runs::cron_job(&self.owner(), next, settings, template);
        if !live.says(&body) {
            tracing::info!("put the CronJob right");
            self.writer
                .apply::<CronJob>(&service.namespace, labels::MANAGER, true, &body)
                .await?;
        }
        Ok(())
    }

    /// Seconds that a pod must have been ready to be available; as it is, where the spec can't be read.
    fn min_ready(&self, set: &ReplicaSetFacts) -> u32 {
        let Ok(spec) = &self.object.spec else {
            return set.min_ready;
        };
        u32::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(set.min_ready)
    }

    async fn select(&self, slot: Slot, revision: &Revision) -> Result<(), WriteError> {
        let body = self.owner().slot_service(slot, revision, self.port(revision)?);
        self.point(slot, &body).await
    }

    async fn share(&self) -> Result<(), WriteError> {
        let Some(port) = self.shared_port() else {
            return Ok(());
        };
        let body = self.owner().shared_service(port);
        self.point(Slot::InCluster, &body).await
    }

    /// The port of a Service that leads to the pods of every revision.
    fn shared_port(&self) -> Option<u16> {
        let spec = self.object.spec.as_ref().ok();
        let port = spec.and_then(|s| u16::try_from(s.port?).ok());
        port.or(self.target.ports.values().next_back().copied())
    }

    async fn point(&self, slot: Slot, body: &Value) -> Result<(), WriteError> {
        let namespace = &self.target.service.namespace;
        let name = slot_name(&self.target.service.name, slot);
        let ours = self
            .caches
            .core_services
            .get(&self.target.service, &name)
            .is_some_and(|s| s.owners.iter().any(|o| o == self.object.uid_text()));
        if ours {
            self.writer
                .apply::<Service>(namespace, labels::MANAGER, true, body)
                .await
                .map(drop)
        } else {
            self.writer
                .create::<Service>(namespace, self.object.uid_text(), body)
                .await
                .map(drop)
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

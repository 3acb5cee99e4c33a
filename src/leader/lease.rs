//! The Lease at the API server.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use super::Settings;
use super::election::Seen;
use super::timing::Timing;
use crate::k8s::failure::{Target, WriteError};
use crate::k8s::{labels, writer};

/// One Lease, and who stands for it.
#[derive(Clone)]
pub struct LeaseEdge {
    api: Api<Lease>,
    settings: Arc<Settings>,
}

/// What came of a write.
pub enum Written {
    /// It is done.
    Done(Seen, Arc<ObjectReference>),
    /// The lease is another one meanwhile.
    Stale,
}

impl LeaseEdge {
    /// The Lease of these settings.
    pub fn new(client: Client, settings: Arc<Settings>) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
        }
    }

    /// How long it lasts.
    pub fn timing(&self) -> Timing {
        self.settings.timing
    }

    /// As the server has it now.
    pub async fn read(&self, patience: Duration) -> Result<Option<Seen>, WriteError> {
        let found = self
            .bounded("get", patience, self.api.get_opt(&self.settings.lease))
            .await?;
        Ok(found.as_ref().map(seen))
    }

    /// Whenever it changes: what it is now.
    pub fn watch(
        &self,
        backoff: Box<dyn Backoff>,
    ) -> impl Stream<Item = Result<Option<Seen>, String>> + use<> {
        let only = Config::default().fields(&format!("metadata.name={}", self.settings.lease));
        let mut found = false;
        watcher(self.api.clone(), only)
            .backoff(backoff)
            .filter_map(move |event| {
                let news = match event {
                    Ok(Event::Init) => {
                        found = false;
                        None
                    }
                    Ok(Event::InitApply(lease) | Event::Apply(lease)) => {
                        found = true;
                        Some(Ok(Some(seen(&lease))))
                    }
                    Ok(Event::InitDone) if found => None,
                    Ok(Event::InitDone | Event::Delete(_)) => Some(Ok(None)),
                    Err(error) => Some(Err(error.to_string())),
                };
                std::future::ready(news)
            })
    }

    /// Creates it, held by nobody, and to be waited for.
    pub async fn create(&self, patience: Duration) -> Result<Written, WriteError> {
        let lease = json!({
            "apiVersion": Lease::api_version(&()),
            "kind": Lease::kind(&()),
            "metadata": {"name": self.settings.lease, "labels": {"app.kubernetes.io/managed-by": labels::MANAGER}},
            "spec": {"leaseDurationSeconds": self.settings.timing.lease().as_secs(), "leaseTransitions": 0},
        });
        let lease: Lease = serde_json::from_value(lease).unwrap_or_default();
        let params = PostParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PostParams::default()
        };
        outcome(
            self.bounded("create", patience, self.api.create(&params, &lease))
                .await,
        )
    }

    /// Becomes or stays its holder.
    pub async fn hold(&self, over: &Seen, patience: Duration) -> Result<Written, WriteError> {
        let mut spec = json!({
            "holderIdentity": self.settings.identity,
            "leaseDurationSeconds": self.settings.timing.lease().as_secs(),
            "renewTime": now(),
        });
        if over.holder.as_ref() != Some(&self.settings.identity) {
            spec["acquireTime"] = json!(now());
            spec["leaseTransitions"] = json!(over.transitions.saturating_add(1));
        }
        self.patch(over, &spec, patience).await
    }

    /// Gives it back: nobody holds it, and nobody has to wait for it.
    pub async fn release(&self, over: &Seen, patience: Duration) -> Result<Written, WriteError> {
        let nobody = json!({"holderIdentity": null, "leaseDurationSeconds": null, "renewTime": now()});
        self.patch(over, &nobody, patience).await
    }

    async fn patch(&self, over: &Seen, spec: &Value, patience: Duration) -> Result<Written, WriteError> {
        let params = PatchParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        // With its version, it is refused of any other.
        let body = Patch::Merge(json!({"metadata": {"resourceVersion": over.version}, "spec": spec}));
        let patch = self.api.patch(&self.settings.lease, &params, &body);
        outcome(self.bounded("patch", patience, patch).await)
    }

    async fn bounded<T>(
        &self,
        verb: &'static str,
        patience: Duration,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let target = Target {
            verb,
            resource: "leases.coordination.k8s.io".to_owned(),
            name: format!("{}/{}", self.settings.namespace, self.settings.lease),
        };
        writer::bounded(patience, target, request).await
    }
}

/// People read it; nobody reckons with it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn outcome(answer: Result<Lease, WriteError>) -> Result<Written, WriteError> {
    match answer {
        Ok(lease) => Ok(Written::Done(seen(&lease), lease.object_ref(&()).into())),
        Err(WriteError::Stale(_)) => Ok(Written::Stale),
        // It was created, or deleted, by somebody else.
        Err(error) if error.status().is_some_and(|s| matches!(s.code, 404 | 409)) => Ok(Written::Stale),
        Err(error) => Err(error),
    }
}

fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
    Seen {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|h| !h.is_empty()),
        lasts: seconds.map(Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

//! Writes to the API server: each bounded in time and by the leadership, each failure with the object and verb it
//! is about. The Lease apart, which [`crate::leader`] writes, the operator writes nothing but through here.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, TestOperation};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::{Target, WriteError};
use super::labels;
use crate::leader::Fence;

/// How long one request may take. Watches have no such limit, so the client itself can't have one.
const LIMIT: Duration = Duration::from_secs(15);

/// A kind that can be written.
pub trait Writable:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}

impl<K> Writable for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug
{
}

/// Writes objects, during one leadership.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    recorder: Recorder,
    fence: Fence,
}

impl Writer {
    /// A writer by this client as long as the fence lets it, whose events are `reporter`'s.
    pub fn new(client: Client, reporter: Reporter, fence: Fence) -> Self {
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            fence,
        }
    }

    /// Makes a request that changes something.
    async fn write<T>(
        &self,
        target: Target,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let request = Box::pin(bounded(LIMIT, target.clone(), request));
        let written = self.fence.hold(request).await;
        written.unwrap_or_else(|why| Err(WriteError::NotLeading { target, why }))
    }

    fn api<K: Writable>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// The objects of a namespace as the server has them now.
    pub async fn list<K: Writable>(&self, namespace: &str) -> Result<Vec<K>, WriteError> {
        let (api, params) = (self.api::<K>(namespace), ListParams::default());
        let list = bounded(LIMIT, target::<K>("list", ""), api.list(&params)).await?;
        Ok(list.items)
    }

    /// The object as the server has it now.
    pub async fn get<K: Writable>(&self, namespace: &str, name: &str) -> Result<Option<K>, WriteError> {
        let api = self.api::<K>(namespace);
        bounded(LIMIT, target::<K>("get", name), api.get_opt(name)).await
    }

    /// Server-side apply of a rendered object, whose name it is given by. With `force`, fields of other
    /// managers are taken over.
    pub async fn apply<K: Writable>(
        &self,
        namespace: &str,
        manager: &str,
        force: bool,
        body: &Value,
    ) -> Result<K, WriteError> {
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let params = PatchParams {
            force,
            ..PatchParams::apply(manager)
        };
        let api = self.api::<K>(namespace);
        self.write(
            target::<K>("patch", name),
            api.patch(name, &params, &Patch::Apply(body)),
        )
        .await
    }

    /// Applies an object that the caches don't have: created, left alone if it is there already, refused if
    /// it is somebody else's. Returns what is there.
    pub async fn create<K: Writable>(
        &self,
        namespace: &str,
        owner: &str,
        body: &Value,
    ) -> Result<K, WriteError> {
        let name = body
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match self.get::<K>(namespace, name).await? {
            Some(live) if is_owned_by(&live, owner) => Ok(live),
            Some(_) => Err(WriteError::NameTaken {
                target: target::<K>("patch", name),
                hint: "rename or delete that object, or rename the PythonService".to_owned(),
            }),
            // Without force: if somebody else is faster, their fields conflict instead of being taken over.
            None => self.apply::<K>(namespace, labels::MANAGER, false, body).await,
        }
    }

    /// JSON Patch. A `test` that fails is a change since it was decided on.
    pub async fn json_patch<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        patch: json_patch::Patch,
    ) -> Result<K, WriteError> {
        let api = self.api::<K>(namespace);
        let params = PatchParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch: Patch<()> = Patch::Json(patch);
        let target = target::<K>("patch", name);
        self.write(target.clone(), api.patch(name, &params, &patch))
            .await
            .map_err(|e| stale_test(e, target))
    }

    /// JSON merge patch.
    pub async fn merge<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<K, WriteError> {
        let api = self.api::<K>(namespace);
        let params = PatchParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.write(
            target::<K>("patch", name),
            api.patch(name, &params, &Patch::Merge(body)),
        )
        .await
    }

    /// JSON merge patch of the status.
    pub async fn merge_status<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<K, WriteError> {
        let api = self.api::<K>(namespace);
        let params = PatchParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let mut target = target::<K>("patch", name);
        target.resource = format!("{}/status", target.resource);
        self.write(target, api.patch_status(name, &params, &Patch::Merge(body)))
            .await
    }

    /// Replaces the status of the version of an object that was decided on; a newer one is [`WriteError::Stale`].
    /// Returns the metadata that the object has now: nobody needs the rest, which takes longer to read.
    pub async fn put_status<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        version: &str,
        status: Value,
    ) -> Result<ObjectMeta, WriteError> {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), namespace);
        let params = PatchParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        // A merge would keep what the new status no longer says.
        let patch = vec![
            PatchOperation::Test(TestOperation {
                path: PointerBuf::from_tokens(["metadata", "resourceVersion"]),
                value: Value::from(version),
            }),
            PatchOperation::Add(AddOperation {
                path: PointerBuf::from_tokens(["status"]),
                value: status,
            }),
        ];
        let patch: Patch<()> = Patch::Json(json_patch::Patch(patch));
        let mut target = target::<K>("patch", name);
        target.resource = format!("{}/status", target.resource);
        self.write(target.clone(), api.patch_status(name, &params, &patch))
            .await
            .map(|written| written.metadata)
            .map_err(|e| stale_test(e, target))
    }

    /// Creates an object; `None` if one of this name exists.
    pub async fn post<K: Writable + Serialize>(
        &self,
        namespace: &str,
        body: &K,
    ) -> Result<Option<K>, WriteError> {
        let api = self.api::<K>(namespace);
        let name = body.meta().name.clone().unwrap_or_default();
        let params = PostParams {
            field_manager: Some(labels::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match self
            .write(target::<K>("create", &name), api.create(&params, body))
            .await
        {
            Ok(created) => Ok(Some(created)),
            Err(error) if error.status().is_some_and(kube::core::Status::is_already_exists) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes exactly the object that was meant, and what it owns, in the background.
    pub async fn delete<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        resource_version: Option<&str>,
    ) -> Result<(), WriteError> {
        let meant = (uid, resource_version);
        self.delete_by::<K>(namespace, name, meant, PropagationPolicy::Background)
            .await
    }

    async fn delete_by<K: Writable>(
        &self,
        namespace: &str,
        name: &str,
        (uid, resource_version): (&str, Option<&str>),
        policy: PropagationPolicy,
    ) -> Result<(), WriteError> {
        let api = self.api::<K>(namespace);
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: resource_version.map(str::to_owned),
            }),
            ..DeleteParams::default()
        };
        match self
            .write(target::<K>("delete", name), api.delete(name, &params))
            .await
        {
            Err(error) if error.status().is_some_and(|s| s.code == 404) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Deletes exactly the object that was meant, after what it owns has ended.
    pub async fn end<K: Writable>(&self, namespace: &str, name: &str, uid: &str) -> Result<(), WriteError> {
        self.delete_by::<K>(namespace, name, (uid, None), PropagationPolicy::Foreground)
            .await
    }

    /// Evicts exactly the pod that was meant; one that is gone needs none. A disruption budget answers 429.
    pub async fn evict(&self, namespace: &str, pod: &str, uid: &str) -> Result<(), WriteError> {
        let api = self.api::<Pod>(namespace);
        let params = EvictParams {
            delete_options: Some(DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(uid.to_owned()),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            }),
            ..EvictParams::default()
        };
        let mut target = target::<Pod>("create", pod);
        "pods/eviction".clone_into(&mut target.resource);
        match self.write(target, api.evict(pod, &params)).await {
            Err(error) if error.status().is_some_and(|s| s.code == 404) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Tells of something that happened to an object.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) -> Result<(), WriteError> {
        let target = Target {
            verb: "create",
            resource: "events.events.k8s.io".to_owned(),
            name: event.reason.clone(),
        };
        self.write(target, Box::pin(self.recorder.publish(event, about)))
            .await
    }
}

/// One of the object's owners has this UID.
pub fn is_owned_by(object: &impl Resource, uid: &str) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == uid)
}

fn target<K: Writable>(verb: &'static str, name: &str) -> Target {
    let (plural, group) = (K::plural(&()), K::group(&()));
    let resource = if group.is_empty() {
        plural.into_owned()
    } else {
        format!("{plural}.{group}")
    };
    Target {
        verb,
        resource,
        name: name.to_owned(),
    }
}

/// A patch that does not fit the object: it is no longer what was decided on. The server does not say that
/// it was a `test`; what it finds invalid in the result it names, as it does for any other write.
fn stale_test(error: WriteError, target: Target) -> WriteError {
    let named = |s: &kube::core::Status| {
        let details = s.details.as_ref();
        details.is_some_and(|d| !d.name.is_empty() || !d.causes.is_empty())
    };
    let failed = error.status().is_some_and(|s| s.code == 422 && !named(s));
    if failed { WriteError::Stale(target) } else { error }
}

/// Makes a request that is given up after `limit`.
pub(crate) async fn bounded<T>(
    limit: Duration,
    target: Target,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if is_stale(&status) => Err(WriteError::Stale(target)),
        Ok(Err(error)) => Err(WriteError::Refused {
            target,
            source: Box::new(error),
        }),
        Err(_) => Err(WriteError::Timeout { target, limit }),
    }
}

/// The object has changed. Server-side apply answers `Conflict` too when another manager has a field, and
/// a creation when the name is taken; waiting helps with neither.
fn is_stale(status: &kube::core::Status) -> bool {
    let other_manager = status.details.as_ref().is_some_and(|d| {
        d.causes
            .iter()
            .any(|cause| cause.reason == "FieldManagerConflict")
    });
    status.is_conflict() && !status.is_already_exists() && !other_manager
}

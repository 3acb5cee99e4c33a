//! A PythonService as it was read, even if parts of it can't be.

use std::borrow::Cow;
use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use molt_core::plan::Revision;
use molt_core::state::State;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::config::references::{self, Reference};
use super::revision;
use super::validate::FieldError;
use super::workers;
use crate::api::v1alpha1::{
    Group, Protocol, PythonService, PythonServiceSpec, PythonServiceStatus, ServiceMetadata, Traffic,
};
use crate::k8s::{Key, labels};

/// A PythonService as it was read. Whatever was written into it, by another version or without a schema,
/// reading it does not fail: one odd object must not stop the others.
#[derive(Clone, Debug)]
pub struct ServiceObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The spec, or why it can't be read.
    pub spec: Result<PythonServiceSpec, String>,
    /// The part that says where traffic goes; often readable when the whole is not.
    pub traffic: Option<Traffic>,
    /// They are workers, which nobody calls: whether only one pod may run; as readable.
    pub workers: Option<bool>,
    /// It runs by a schedule (`kind: job`), readable or not as the rest may be.
    pub is_job: bool,
    /// What is spoken at the serving port, if it is said; as readable.
    pub protocol: Option<Protocol>,
    /// What its Services carry of the user's; as readable.
    pub service_metadata: ServiceMetadata,
    /// The services that it is released with; as readable.
    pub group: Option<Group>,
    /// The revision that the spec asks for, from the spec as it was written: without the content of what its template
    /// names.
    pub revision: Option<Revision>,
    /// What its template names of which the content counts.
    pub counted: BTreeSet<Reference>,
    /// `spec.workloadRef`, and what came of looking for it; see [`adopted`](super::adopted).
    pub workload: Option<Workload>,
    /// The status, or why it can't be read. Nothing depends on it: what can't be read is written anew.
    pub status: Result<PythonServiceStatus, String>,
    /// The part of the status that decides, empty for a new object; or why it can't be used.
    pub state: Result<State, String>,
    /// How large the object is without its status, in bytes of JSON.
    pub size: usize,
    /// The conditions, readable or not as the rest of the status may be.
    pub conditions: Vec<Condition>,
}

impl ServiceObject {
    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(self.namespace().unwrap_or_default(), self.name_any())
    }

    /// Its UID.
    pub fn uid_text(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The persisted state; empty for a new object.
    pub fn state(&self) -> Result<State, &str> {
        match &self.state {
            Ok(state) => Ok(state.clone()),
            Err(why) => Err(why),
        }
    }

    /// It is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// It can't go before the finalizer is taken off.
    pub fn has_finalizer(&self) -> bool {
        self.finalizers().iter().any(|f| f == labels::FINALIZER)
    }

    /// A reference to it as the controlling owner of what is created for it.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: PythonService::api_version(&()).into_owned(),
            kind: PythonService::kind(&()).into_owned(),
            name: self.name_any(),
            uid: self.uid_text().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// The Deployment that a spec names instead of a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// `spec.runtime` and `spec.port` as they were written: parts of the revision.
    pub parts: [Value; 2],
    /// Deployments can't be read at the moment, so nothing is known of it; why.
    pub unknown: Option<String>,
    /// Why it can't be used.
    pub unusable: Option<FieldError>,
}

impl Workload {
    /// What a spec names.
    fn of(spec: &PythonServiceSpec, parts: [Value; 2]) -> Option<Self> {
        let name = spec.workload_ref.as_ref()?.name.clone();
        // Both at once: the schema stops it, and validation tells.
        let both = spec.template.is_some();
        let message = "is set beside spec.template: set exactly one of them";
        Some(Self {
            name,
            parts,
            unknown: None,
            unusable: both.then(|| FieldError::new("spec.workloadRef", message)),
        })
    }
}

/// How long a value is as JSON, in bytes.
fn length(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A value has no key that is not a string, and counting does not fail.
    serde_json::to_writer(&mut count, value).ok();
    count.0
}

impl<'de> Deserialize<'de> for ServiceObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let mut take = |field: &str| object.get_mut(field).map_or(Value::Null, Value::take);
        let (mut metadata, spec, status) = (take("metadata"), take("spec"), take("status"));
        let size = length(&metadata) + length(&spec);
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
        }
        let metadata: ObjectMeta = serde_json::from_value(metadata).map_err(de::Error::custom)?;
        let revision = revision::of_spec(&spec);
        let parts = ["runtime", "port"].map(|field| spec.get(field).cloned().unwrap_or(Value::Null));
        let traffic = spec.get("traffic").and_then(|t| Traffic::deserialize(t).ok());
        let protocol = spec.get("protocol").and_then(|p| Protocol::deserialize(p).ok());
        let group = spec.get("group").and_then(|g| Group::deserialize(g).ok());
        let service_metadata = spec
            .get("serviceMetadata")
            .and_then(|m| ServiceMetadata::deserialize(m).ok())
            .unwrap_or_default();
        let workers = workers::of_written(&spec);
        let is_job = spec.get("kind").and_then(Value::as_str) == Some("job");
        let conditions = status
            .get("conditions")
            .and_then(|c| Vec::<Condition>::deserialize(c).ok())
            .unwrap_or_default();
        let state = match status.get("state") {
            None | Some(Value::Null) => Ok(State::default()),
            Some(state) => State::deserialize(state)
                .map_err(|error| error.to_string())
                .and_then(|state| state.check().map(|()| state)),
        };
        let status = if status.is_null() {
            Ok(PythonServiceStatus::default())
        } else {
            serde_json::from_value(status).map_err(|error| error.to_string())
        };
        let spec: Result<PythonServiceSpec, _> =
            // "." is the path of what is missing, or of the whole.
            serde_path_to_error::deserialize(spec).map_err(|error| error.to_string());
        let workload = spec.as_ref().ok().and_then(|spec| Workload::of(spec, parts));
        let revision = spec.is_ok().then_some(revision).filter(|_| workload.is_none());
        Ok(Self {
            metadata,
            counted: spec.as_ref().map(references::counted).unwrap_or_default(),
            workload,
            spec,
            traffic,
            workers,
            is_job,
            protocol,
            service_metadata,
            group,
            revision,
            status,
            state,
            size,
            conditions,
        })
    }
}

impl Resource for ServiceObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        PythonService::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        PythonService::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        PythonService::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        PythonService::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Objects for tests, here and elsewhere in the crate.
#[cfg(test)]
#[allow(clippy::missing_panics_doc)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// The smallest useful PythonService.
    pub fn minimal() -> Value {
        json!({
            "apiVersion": "molt.dev/v1alpha1",
            "kind": "PythonService",
            "metadata": {"name": "checkout", "namespace": "shop", "uid": "u-1", "generation": 3, "resourceVersion": "10"},
            "spec": {
                "replicas": 4,
                "port": 8000,
                "runtime": {"server": "uvicorn"},
                "template": {"spec": {"containers": [{"name": "app", "image": "checkout:1"}]}},
                "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
                "metrics": {"prometheus": {"address": "http://prometheus:9090"}},
                "slos": [{"name": "availability", "objective": "99.9", "sli": {"preset": "fastapi-instrumentator", "type": "availability"}}]
            }
        })
    }

    /// It, after a change.
    pub fn changed(change: impl FnOnce(&mut Value)) -> ServiceObject {
        let mut value = minimal();
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_can_be_read_is_read_whatever_the_rest_is() {
        let object = changed(|o| {
            o["spec"]["runtime"] = json!({"server": "unheard-of"});
            o["status"] = json!({
                "phase": "Healthy",
                "state": {"stable": 7},
                "conditions": [{"type": "Ready", "status": "True", "reason": "Healthy", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
            });
        });
        assert!(object.spec.as_ref().unwrap_err().contains("unheard-of"));
        assert!(object.state().is_err());
        assert_eq!(object.conditions.len(), 1);
        assert!(object.traffic.is_some());
        assert_eq!(object.revision, None);
    }

    #[test]
    fn only_the_part_that_decides_stops_the_work() {
        let object = changed(|o| {
            o["status"] = json!({"phase": "Frozen", "replicas": "many", "state": {"stable": "0a"}});
        });
        assert!(object.status.is_err());
        assert_eq!(object.state().unwrap().stable, Some(Revision::from("0a")));
        for (state, part) in [
            (json!({"stable": "../x"}), "stable is no name of a revision"),
            (
                json!({"asserted": {"stable": 250, "canary": 0}}),
                "asserted.stable is 250 %",
            ),
            (
                json!({"asserted": {"stable": -1, "canary": 0}}),
                "invalid value: integer `-1`",
            ),
            (
                json!({"config": {"taken": {"revision": "a/b", "plain": "0a"}}}),
                "config.taken.revision is no name of a revision",
            ),
            (json!({"attemptz": {}}), "unknown field `attemptz`"),
        ] {
            let object = changed(|o| o["status"] = json!({"phase": "Healthy", "state": state}));
            let why = object.state().unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_new_object_has_an_empty_state() {
        assert_eq!(changed(|_| ()).state(), Ok(State::default()));
    }
}

//! The objects that a service consists of, as they are written. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use molt_core::config::Content;
use molt_core::observed::Slot;
use molt_core::plan::Revision;
use serde_json::{Value, json};

use super::config::{references, snapshots};
use super::facts::ReplicaSetFacts;
use super::object::ServiceObject;
use super::service_marks;
use crate::api::v1alpha1::{Protocol, ServiceMetadata};
use crate::k8s::{Key, labels};
use crate::rules::{self, Group};

/// The ReplicaSet of a revision, and its service.
pub fn revision_name(service: &str, revision: &Revision) -> String {
    format!("{service}-{revision}")
}

/// A service with a fixed name.
pub fn slot_name(service: &str, slot: Slot) -> String {
    match slot {
        Slot::InCluster => service.to_owned(),
        Slot::Stable => format!("{service}-stable"),
        Slot::Canary => format!("{service}-canary"),
    }
}

/// The record of an attempt.
pub fn record_name(service: &str, revision: &Revision, attempt: u32) -> String {
    format!("{service}-{revision}-{attempt}")
}

/// For whom objects are rendered.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The PythonService.
    pub service: Key,
    /// It, as an owner.
    pub reference: OwnerReference,
    /// Its pods speak gRPC.
    pub speaks_grpc: bool,
    /// What its Services carry of the user's.
    pub service_metadata: ServiceMetadata,
}

impl Owner {
    /// For a PythonService.
    pub fn of(object: &ServiceObject) -> Self {
        Self {
            service: object.key(),
            reference: object.owner(),
            speaks_grpc: object.protocol == Some(Protocol::Grpc),
            service_metadata: object.service_metadata.clone(),
        }
    }

    /// The metadata of an object that belongs to it, and to a revision of it.
    pub(super) fn metadata(&self, name: &str, revision: Option<&Revision>) -> Value {
        let mut metadata = json!({
            "name": name,
            "namespace": self.service.namespace,
            "labels": {
                labels::APP_NAME: self.service.name,
                labels::MANAGED_BY: labels::MOLT,
                labels::SERVICE: self.service.name,
            },
            "ownerReferences": [self.reference],
        });
        if let Some(revision) = revision {
            metadata["labels"][labels::REVISION] = json!(revision.0);
        }
        metadata
    }

    /// What picks the pods of one revision, and no others, for ever. Only labels that nobody else has a say
    /// in: a user may give pods another `app.kubernetes.io/name`.
    fn selector(&self, revision: &Revision) -> Value {
        json!({labels::SERVICE: self.service.name, labels::REVISION: revision.0})
    }

    /// The ReplicaSet of a revision, with no pods yet; workers have no port. How many it has is written by another field manager. Where
    /// the template names what there is `content` of, the pods get the snapshot of it.
    pub fn replica_set(
        &self,
        revision: &Revision,
        template: &PodTemplateSpec,
        port: impl Into<Option<u16>>,
        content: &Content,
    ) -> Value {
        let mut metadata = self.metadata(&revision_name(&self.service.name, revision), Some(revision));
        metadata["annotations"] = json!({});
        if let Some(port) = port.into() {
            metadata["annotations"][labels::PORT] = json!(port.to_string());
        }
        if !content.is_empty() {
            metadata["annotations"][labels::CONFIG] = json!(json!(content).to_string());
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": metadata,
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": self.selector(revision)},
                "template": self.pod_template(revision, template, content),
            },
        })
    }

    /// The user's template with the labels that pods are found by, and the names of snapshots. Other labels of the
    /// user's stay.
    fn pod_template(
        &self,
        revision: &Revision,
        template: &PodTemplateSpec,
        content: &Content,
    ) -> PodTemplateSpec {
        let mut template = template.clone();
        references::rename(&mut template, |reference| {
            let counts = content.contains_key(&reference.to_string());
            counts.then(|| snapshots::name(&self.service.name, revision, reference))
        });
        let metadata = template.metadata.get_or_insert_default();
        metadata.creation_timestamp = None;
        let set = metadata.labels.get_or_insert_default();
        set.entry(labels::APP_NAME.to_owned())
            .or_insert_with(|| self.service.name.clone());
        set.entry(labels::MANAGED_BY.to_owned())
            .or_insert_with(|| labels::MOLT.to_owned());
        set.insert(labels::SERVICE.to_owned(), self.service.name.clone());
        set.insert(labels::REVISION.to_owned(), revision.0.clone());
        template
    }

    /// The service of one revision; its selector never changes.
    pub fn revision_service(&self, revision: &Revision, port: u16) -> Value {
        let name = revision_name(&self.service.name, revision);
        self.core_service(self.metadata(&name, Some(revision)), revision, port)
    }

    /// A service with a fixed name that leads to a revision.
    pub fn slot_service(&self, slot: Slot, revision: &Revision, port: u16) -> Value {
        let name = slot_name(&self.service.name, slot);
        self.core_service(self.metadata(&name, None), revision, port)
    }

    /// The service of the service's own name, which leads to the pods of every revision.
    pub fn shared_service(&self, port: u16) -> Value {
        let metadata = self.metadata(&slot_name(&self.service.name, Slot::InCluster), None);
        let selector = json!({labels::SERVICE: self.service.name});
        self.service_with(metadata, &selector, port)
    }

    /// A Service as it is, that selects by other labels.
    pub fn widened_service(&self, name: &str, content: &Value, selector: &BTreeMap<String, String>) -> Value {
        let revision = content
            .pointer("/metadata/labels")
            .and_then(|set| set.get(labels::REVISION));
        let revision = revision.and_then(Value::as_str).map(Revision::from);
        let port = content.pointer("/spec/ports/0/port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
        self.service_with(self.metadata(name, revision.as_ref()), &json!(selector), port)
    }

    fn core_service(&self, metadata: Value, revision: &Revision, port: u16) -> Value {
        self.service_with(metadata, &json!(self.selector(revision)), port)
    }

    fn service_with(&self, mut metadata: Value, selector: &Value, port: u16) -> Value {
        let marks = if metadata["name"] == json!(self.service.name) {
            &self.service_metadata.in_cluster
        } else {
            &self.service_metadata.routed
        };
        service_marks::put(&mut metadata, marks.as_ref());
        let mut ports = json!({"name": "http", "port": port, "targetPort": port, "protocol": "TCP"});
        if self.speaks_grpc {
            // HTTP/2 without TLS; by the name alone it is HTTP/1.1 to Istio, and to gateways that don't go by the kind of route.
            ports["appProtocol"] = json!("kubernetes.io/h2c");
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "ports": [ports],
                "selector": selector,
            },
        })
    }

    /// The PrometheusRule of the service's objectives, with labels that a Prometheus may select it by.
    pub fn prometheus_rule(&self, groups: &[Group], more: &BTreeMap<String, String>) -> Value {
        let mut metadata = self.metadata(&rules::object_name(&self.service.name), None);
        for (label, value) in more {
            let set = &mut metadata["labels"];
            if set.get(label).is_none() {
                set[label] = json!(value);
            }
        }
        rules::object(&metadata, groups)
    }

    /// How many pods a ReplicaSet is asked for, when one of them is available, and by which attempt: all that the field manager for scaling
    /// owns, so what it does not want to change it has to say again.
    pub fn scale(&self, set: &ReplicaSetFacts, replicas: u32, min_ready: u32, attempt: u32) -> Value {
        let first = set.first_template.as_ref().unwrap_or(&set.template);
        let mut metadata = json!({
            "name": revision_name(&self.service.name, &set.revision),
            "namespace": self.service.namespace,
            "uid": set.uid,
            "resourceVersion": set.resource_version,
            "annotations": {labels::TEMPLATE: first},
        });
        if attempt > 0 {
            metadata["annotations"][labels::ATTEMPT] = json!(attempt.to_string());
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": metadata,
            "spec": {"replicas": replicas, "minReadySeconds": min_ready},
        })
    }
}

/// What became of an action.
pub fn action_status(applied: bool, message: &str, now: Timestamp) -> Value {
    let state = if applied { "Applied" } else { "Expired" };
    json!({"status": {"state": state, "message": message, "handledAt": now}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSet;

    use crate::controller::object::tests::changed;
    use crate::k8s::index::Facts;
    use crate::k8s::subset::is_subset;

    fn owner() -> Owner {
        Owner::of(&changed(|_| ()))
    }

    fn template(labels: &Value) -> PodTemplateSpec {
        serde_json::from_value(json!({
            "metadata": {"labels": labels, "annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "app", "image": "checkout:1"}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_revisions_service_selects_the_pods_of_its_replica_set() {
        let revision = Revision::from("694e87771d");
        let set = owner().replica_set(
            &revision,
            &template(&json!({"team": "shop"})),
            8000,
            &Content::new(),
        );
        let service = owner().revision_service(&revision, 8000);
        assert_eq!(set["metadata"]["name"], "checkout-694e87771d");
        assert_eq!(service["metadata"]["name"], "checkout-694e87771d");
        assert_eq!(set["spec"]["replicas"], 0);
        assert_eq!(set["metadata"]["ownerReferences"][0]["controller"], true);
        let pods = &set["spec"]["template"]["metadata"]["labels"];
        assert!(is_subset(&service["spec"]["selector"], pods));
        assert_eq!(
            set["spec"]["selector"]["matchLabels"],
            service["spec"]["selector"]
        );
        let expected = json!({
            "app.kubernetes.io/name": "checkout",
            "app.kubernetes.io/managed-by": "molt",
            "molt.dev/service": "checkout",
            "molt.dev/revision": "694e87771d",
            "team": "shop",
        });
        assert_eq!(*pods, expected);
        assert_eq!(
            service["spec"]["ports"],
            json!([{"name": "http", "port": 8000, "targetPort": 8000, "protocol": "TCP"}])
        );
    }

    #[test]
    fn the_users_labels_stay() {
        let template = template(&json!({"app.kubernetes.io/name": "shop", "team": "a"}));
        let set = owner().replica_set(&Revision::from("0a"), &template, 8000, &Content::new());
        assert_eq!(
            set["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
            "shop"
        );
        assert_eq!(set["spec"]["template"]["metadata"]["annotations"]["a"], "b");
    }

    #[test]
    fn the_pods_get_snapshots_of_what_counts_and_the_users_names_of_the_rest() {
        let mut template = template(&json!({}));
        let env_from = json!([{"configMapRef": {"name": "env"}}, {"configMapRef": {"name": "flags"}}]);
        template.spec.as_mut().unwrap().containers[0].env_from = serde_json::from_value(env_from).unwrap();
        let content: Content = [("configmap/env".to_owned(), "00".to_owned())].into();
        let revision = Revision::from("694e87771d");
        let set = owner().replica_set(&revision, &template, 8000, &content);
        let names = set.pointer("/spec/template/spec/containers/0/envFrom").unwrap();
        let snapshot = names[0]["configMapRef"]["name"].as_str().unwrap();
        assert_eq!(snapshots::service_of(snapshot), Some("checkout"));
        assert_eq!(names[1]["configMapRef"]["name"], "flags");
        assert_eq!(
            set["metadata"]["annotations"]["molt.dev/config"],
            r#"{"configmap/env":"00"}"#
        );
        let mut live: ReplicaSet = serde_json::from_value(set).unwrap();
        assert_eq!(ReplicaSetFacts::read(&live).unwrap().1.config, content);
        let annotations = live.metadata.annotations.as_mut().unwrap();
        annotations.insert(labels::CONFIG.to_owned(), "nonsense".to_owned());
        assert!(ReplicaSetFacts::read(&live).unwrap().1.config.is_empty());
        let plain = owner().replica_set(&revision, &template, 8000, &Content::new());
        assert_eq!(plain["metadata"]["annotations"].get("molt.dev/config"), None);
    }

    #[test]
    fn every_service_can_be_watched_by_its_label() {
        for service in [
            owner().slot_service(Slot::InCluster, &Revision::from("0a"), 8000),
            owner().slot_service(Slot::Canary, &Revision::from("0a"), 8000),
            owner().revision_service(&Revision::from("0a"), 8000),
        ] {
            assert_eq!(service["metadata"]["labels"]["molt.dev/service"], "checkout");
            assert_eq!(
                service["metadata"]["labels"]["app.kubernetes.io/managed-by"],
                "molt"
            );
        }
    }

    #[test]
    fn services_say_that_their_pods_speak_grpc() {
        let revision = Revision::from("0a");
        let speaks = |change: fn(&mut Value)| {
            let owner = Owner::of(&changed(change));
            let services = [
                owner.revision_service(&revision, 8000),
                owner.slot_service(Slot::Stable, &revision, 8000),
                owner.shared_service(8000),
            ];
            services.map(|service| service["spec"]["ports"][0]["appProtocol"].clone())
        };
        let grpc = |object: &mut Value| object["spec"]["protocol"] = json!("GRPC");
        assert_eq!(speaks(grpc), [(); 3].map(|()| json!("kubernetes.io/h2c")));
        let unreadable = |object: &mut Value| {
            object["spec"]["protocol"] = json!("GRPC");
            object["spec"]["port"] = json!("eighty");
        };
        assert_eq!(speaks(unreadable), [(); 3].map(|()| json!("kubernetes.io/h2c")));
        assert_eq!(speaks(|_| ()), [(); 3].map(|()| Value::Null));
    }

    #[test]
    fn users_mark_the_service_of_callers_and_those_of_routes() {
        let marked = changed(|o| {
            o["spec"]["serviceMetadata"] = json!({
                "inCluster": {"labels": {"scrape": "yes"}},
                "routed": {"annotations": {"mesh.example.com/mode": "fast"}},
            });
        });
        let owner = Owner::of(&marked);
        let (called, revision) = (
            owner.slot_service(Slot::InCluster, &Revision::from("r1"), 80),
            owner.revision_service(&Revision::from("r1"), 80),
        );
        assert_eq!(called["metadata"]["labels"]["scrape"], "yes");
        assert_eq!(owner.shared_service(80)["metadata"]["labels"]["scrape"], "yes");
        assert_eq!(revision["metadata"]["labels"].get("scrape"), None);
        for routed in [
            revision,
            owner.slot_service(Slot::Canary, &Revision::from("r1"), 80),
        ] {
            assert_eq!(routed["metadata"]["annotations"]["mesh.example.com/mode"], "fast");
        }
    }

    #[test]
    fn names_of_fixed_services() {
        let names = [Slot::InCluster, Slot::Stable, Slot::Canary].map(|slot| slot_name("checkout", slot));
        assert_eq!(names, ["checkout", "checkout-stable", "checkout-canary"]);
    }

    #[test]
    fn scaling_says_again_which_attempt_it_is() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {
                "labels": {labels::SERVICE: "checkout", labels::REVISION: "0a"},
                "resourceVersion": "7",
            },
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": "checkout:1"}]}}},
        }))
        .unwrap();
        let mut set = ReplicaSetFacts::read(&set).unwrap().1;
        let scale = owner().scale(&set, 3, 10, 2);
        assert_eq!(scale["spec"], json!({"replicas": 3, "minReadySeconds": 10}));
        assert_eq!(scale["metadata"]["annotations"]["molt.dev/attempt"], "2");
        assert_eq!(scale["metadata"]["resourceVersion"], "7");
        assert_eq!(
            scale["metadata"]["annotations"]["molt.dev/template-digest"],
            set.template
        );
        set.first_template = Some("the first".to_owned());
        assert_eq!(
            owner().scale(&set, 3, 0, 0)["metadata"]["annotations"],
            json!({"molt.dev/template-digest": "the first"})
        );
    }
}

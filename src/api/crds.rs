//! The CustomResourceDefinitions: what the types say, made fit for a cluster.
//!
//! The schemas that come from the types lack what the core types have as comments: which lists are maps, and
//! by which keys. Without it server-side apply takes every list of the pod template for one value, and two
//! appliers overwrite each other's containers. The descriptions of the template, on the other hand, would
//! make the CRD too big for the annotation of a client-side apply.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::v1alpha1::{PythonService, RolloutAction, RolloutRecord};

/// Lists of the pod template that are maps, as the core types have them: the path of the object that has the
/// list, within the pod template's spec; the list; its keys. `*` stands for each of the container lists.
const MAP_LISTS: &[(&str, &str, &[&str])] = &[
    ("", "containers", &["name"]),
    ("", "initContainers", &["name"]),
    ("", "ephemeralContainers", &["name"]),
    ("", "volumes", &["name"]),
    ("", "imagePullSecrets", &["name"]),
    ("", "hostAliases", &["ip"]),
    ("", "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("", "schedulingGates", &["name"]),
    ("", "resourceClaims", &["name"]),
    ("resources", "claims", &["name"]),
    ("*", "ports", &["containerPort", "protocol"]),
    ("*", "env", &["name"]),
    ("*", "volumeMounts", &["mountPath"]),
    ("*", "volumeDevices", &["devicePath"]),
    ("*.resources", "claims", &["name"]),
];

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Objects of the pod template that are one value for server-side apply: selectors and references.
const ATOMIC_MAPS: &[&str] = &[
    "nodeSelector",
    "labelSelector",
    "namespaceSelector",
    "selector",
    "configMapKeyRef",
    "fieldRef",
    "fileKeyRef",
    "resourceFieldRef",
    "secretKeyRef",
    "secretRef",
    "nodePublishSecretRef",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preference",
    "dataSource",
];

/// Every CustomResourceDefinition of the group, ready to be applied.
pub fn all() -> Vec<CustomResourceDefinition> {
    documents()
        .into_iter()
        .map(|document| serde_json::from_value(document).expect("a CRD that was made from types is one"))
        .collect()
}

/// The same as YAML: the name of a file for each, and its text.
pub fn files() -> Vec<(String, String)> {
    documents()
        .iter()
        .map(|document| {
            let plural = document["spec"]["names"]["plural"].as_str().unwrap_or_default();
            (format!("{plural}.yaml"), yaml(document))
        })
        .collect()
}

/// The same as one YAML stream.
pub fn all_yaml() -> String {
    files().into_iter().map(|(_, text)| format!("---\n{text}")).collect()
}

fn documents() -> Vec<Value> {
    let mut documents = [PythonService::crd(), RolloutRecord::crd(), RolloutAction::crd()]
        .map(|crd| serde_json::to_value(crd).expect("a CRD is JSON"));
    for document in &mut documents {
        if let Some(schema) = document.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
            finish(schema);
        }
        if let Some(object) = document.as_object_mut() {
            object.remove("status");
        }
    }
    documents.into()
}

fn finish(schema: &mut Value) {
    // Without this a merge patch could take the whole spec away, and its rules with it.
    schema["required"] = json!(["spec"]);
    tidy(schema);
    if let Some(template) = schema.pointer_mut("/properties/spec/properties/template") {
        finish_template(template);
    }
}

/// What every schema needs: no formats that the API server doesn't know.
fn tidy(schema: &mut Value) {
    each_schema(schema, &mut |node| {
        let known = ["int32", "int64", "float", "double", "byte", "date", "date-time", "duration"];
        if node.get("format").and_then(Value::as_str).is_some_and(|format| !known.contains(&format)) {
            node.remove("format");
        }
        if node.get("additionalProperties") == Some(&Value::Bool(false)) {
            node.remove("additionalProperties");
        }
    });
}

fn finish_template(template: &mut Value) {
    each_schema(template, &mut |node| {
        node.remove("description");
    });
    let strings = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    template["properties"]["metadata"] = json!({
        "type": "object",
        "properties": {
            "labels": strings(),
            "annotations": strings(),
            // Some clients write `creationTimestamp: null` into every template.
            "creationTimestamp": {"type": "string", "format": "date-time", "nullable": true},
        },
    });
    template["required"] = json!(["spec"]);
    atomic_maps(template);
    let Some(spec) = template.pointer_mut("/properties/spec") else { return };
    for (place, list, keys) in MAP_LISTS {
        for place in places(place) {
            if let Some(list) = spec.pointer_mut(&format!("{place}/properties/{list}")) {
                map_list(list, keys);
            }
        }
    }
    // Containers without an image would pass the schema and fail at every pod.
    if let Some(containers) = spec.pointer_mut("/properties/containers") {
        containers["minItems"] = json!(1);
    }
}

/// JSON pointers to the schemas that a place of [`MAP_LISTS`] stands for.
fn places(place: &str) -> Vec<String> {
    let below = |prefix: String, rest: &str| {
        rest.split('.').filter(|name| !name.is_empty()).fold(prefix, |at, name| format!("{at}/properties/{name}"))
    };
    match place.strip_prefix('*') {
        Some(rest) => {
            CONTAINER_LISTS.iter().map(|list| below(format!("/properties/{list}/items"), rest)).collect()
        }
        None => vec![below(String::new(), place)],
    }
}

/// Makes a list a map by its keys. A key that may be left out needs a default: that of the core API.
fn map_list(list: &mut Value, keys: &[&str]) {
    list["x-kubernetes-list-type"] = json!("map");
    list["x-kubernetes-list-map-keys"] = json!(keys);
    for key in keys {
        let default = match *key {
            "protocol" => "TCP",
            // References by name alone: the core API takes an empty one for none.
            _ => "",
        };
        let items = &mut list["items"];
        let required = items["required"].as_array().is_some_and(|names| names.iter().any(|name| name == key));
        if !required {
            items["properties"][key]["default"] = json!(default);
        }
    }
}

fn atomic_maps(schema: &mut Value) {
    each_schema(schema, &mut |node| {
        let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) else { return };
        for name in ATOMIC_MAPS {
            if let Some(object) = properties.get_mut(*name).filter(|property| property["type"] == "object") {
                object["x-kubernetes-map-type"] = json!("atomic");
            }
        }
    });
}

/// Calls `change` for a schema and every schema below it.
fn each_schema(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(node) = schema.as_object_mut() else { return };
    change(node);
    for (key, below) in node.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|property| each_schema(property, change));
            }
            ("items" | "additionalProperties", below) => each_schema(below, change),
            ("anyOf" | "oneOf" | "allOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(|branch| each_schema(branch, change));
            }
            _ => {}
        }
    }
}

fn yaml(document: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, document, options)
        .expect("JSON is YAML, and a string takes every write");
    text
}

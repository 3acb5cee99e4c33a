//! The CustomResourceDefinitions: what the types say, made fit for a cluster.
//!
//! The schemas that come from the types lack what the core types have as comments: which lists are maps, and
//! by which keys. Without it server-side apply takes every list of the pod template for one value, and two
//! appliers overwrite each other's containers. The descriptions of the template, on the other hand, would
//! make the CRD too big for the annotation of a client-side apply.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::v1alpha1::{NotificationPolicy, PythonService, RolloutAction, RolloutRecord};

/// Where the pod templates are.
const TEMPLATES: [&str; 2] = [
    "/properties/spec/properties/template",
    "/properties/spec/properties/guards/properties/conditions/items/properties/job/properties/template",
];

/// Lists of the pod template that are maps, as the core types have them: the path of the object that has the
/// list, within the pod template's spec; the list; its keys. `*` stands for each of the container lists.
const MAP_LISTS: &[(&str, &str, &[&str])] = &[
    ("", "containers", &["name"]),
    ("", "initContainers", &["name"]),
    ("", "volumes", &["name"]),
    ("", "imagePullSecrets", &["name"]),
    ("", "hostAliases", &["ip"]),
    (
        "",
        "topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("", "schedulingGates", &["name"]),
    ("", "resourceClaims", &["name"]),
    ("resources", "claims", &["name"]),
    ("*", "ports", &["containerPort", "protocol"]),
    ("*", "env", &["name"]),
    ("*", "volumeMounts", &["mountPath"]),
    ("*", "volumeDevices", &["devicePath"]),
    ("*.resources", "claims", &["name"]),
];

const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

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
///
/// # Panics
///
/// Never: what is made from the types is a CRD, and a test says so.
pub fn all() -> Vec<CustomResourceDefinition> {
    documents()
        .into_iter()
        .map(|document| serde_json::from_value(document).expect("a CRD that was made from types is one"))
        .collect()
}

/// The kinds that there are.
pub const KINDS: [&str; 4] = [
    "PythonService",
    "RolloutRecord",
    "RolloutAction",
    "NotificationPolicy",
];

/// The schema of a kind, as its CustomResourceDefinition has it. To read what was generated takes a tenth of the time
/// that it takes to generate it again.
pub fn schema(kind: &str) -> Option<Value> {
    let text = match kind {
        "PythonService" => include_str!("../../crds/pythonservices.yaml"),
        "RolloutRecord" => include_str!("../../crds/rolloutrecords.yaml"),
        "RolloutAction" => include_str!("../../crds/rolloutactions.yaml"),
        "NotificationPolicy" => include_str!("../../crds/notificationpolicies.yaml"),
        _ => return None,
    };
    let mut document: Value = serde_saphyr::from_str(text).ok()?;
    document
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .map(Value::take)
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
    files()
        .into_iter()
        .fold(String::new(), |stream, (_, text)| stream + "---\n" + &text)
}

/// The same as JSON.
///
/// # Panics
///
/// Never, as [`all`].
pub fn documents() -> Vec<Value> {
    let mut documents = [
        PythonService::crd(),
        RolloutRecord::crd(),
        RolloutAction::crd(),
        NotificationPolicy::crd(),
    ]
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
    for template in TEMPLATES {
        if let Some(template) = schema.pointer_mut(template) {
            finish_template(template);
        }
    }
    // What the state is made of concerns the operator alone; its types describe it.
    if let Some(Value::Object(parts)) = schema.pointer_mut("/properties/status/properties/state/properties") {
        parts.values_mut().for_each(without_descriptions);
    }
}

/// What every schema needs: only formats that the API server knows, and no `null`, which the API server then
/// takes for a field that is absent.
fn tidy(schema: &mut Value) {
    each_schema(schema, &mut |node| {
        node.remove("nullable");
        let known = [
            "int32",
            "int64",
            "float",
            "double",
            "byte",
            "date",
            "date-time",
            "duration",
        ];
        if node
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| !known.contains(&format))
        {
            node.remove("format");
        }
        if node.get("additionalProperties") == Some(&Value::Bool(false)) {
            node.remove("additionalProperties");
        }
    });
}

fn without_descriptions(schema: &mut Value) {
    each_schema(schema, &mut |node| {
        node.remove("description");
    });
}

fn finish_template(template: &mut Value) {
    let said = template["description"].take();
    without_descriptions(template);
    if !said.is_null() {
        template["description"] = said;
    }
    template["properties"]["metadata"] = template_metadata();
    template["required"] = json!(["spec"]);
    each_schema(template, &mut |node| {
        if let Some(claim) = node
            .get_mut("properties")
            .and_then(|p| p.get_mut("volumeClaimTemplate"))
        {
            claim["properties"]["metadata"] = template_metadata();
        }
    });
    atomic_maps(template);
    let Some(spec) = template.pointer_mut("/properties/spec") else {
        return;
    };
    // No template can have these: the core API would refuse them only at the first ReplicaSet.
    if let Some(properties) = spec["properties"].as_object_mut() {
        properties.remove("ephemeralContainers");
    }
    for (place, list, keys) in MAP_LISTS {
        for place in places(place) {
            if let Some(list) = spec.pointer_mut(&format!("{place}/properties/{list}")) {
                map_list(list, keys);
            }
        }
    }
    if let Some(containers) = spec.pointer_mut("/properties/containers") {
        containers["minItems"] = json!(1);
    }
}

/// What a template's metadata can say. Some clients write `creationTimestamp: null` into every template, and
/// templates that were copied from a pod carry the rest: the core API takes them too.
fn template_metadata() -> Value {
    let strings = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "properties": {
            "labels": strings,
            "annotations": strings,
            "name": {"type": "string"},
            "namespace": {"type": "string"},
            "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "creationTimestamp": {"type": "string", "format": "date-time"},
        },
    })
}

/// JSON pointers to the schemas that a place of [`MAP_LISTS`] stands for.
fn places(place: &str) -> Vec<String> {
    let below = |prefix: String, rest: &str| {
        rest.split('.')
            .filter(|name| !name.is_empty())
            .fold(prefix, |at, name| format!("{at}/properties/{name}"))
    };
    match place.strip_prefix('*') {
        Some(rest) => CONTAINER_LISTS
            .iter()
            .map(|list| below(format!("/properties/{list}/items"), rest))
            .collect(),
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
        let required = items["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name == key));
        if !required {
            items["properties"][key]["default"] = json!(default);
        }
    }
}

fn atomic_maps(schema: &mut Value) {
    each_schema(schema, &mut |node| {
        let Some(properties) = node.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        for name in ATOMIC_MAPS {
            let whole = |schema: &&mut Value| {
                // `envFrom` has references of the same name that the core API does not take for one value.
                schema["type"] == "object"
                    && schema["properties"]
                        .get("optional")
                        .is_none_or(|_| *name != "secretRef")
            };
            if let Some(object) = properties.get_mut(*name).filter(whole) {
                object["x-kubernetes-map-type"] = json!("atomic");
            }
        }
    });
}

/// Calls `change` for a schema and every schema below it.
fn each_schema(schema: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    change(node);
    for (key, below) in node.iter_mut() {
        match (key.as_str(), below) {
            ("properties", Value::Object(properties)) => {
                for property in properties.values_mut() {
                    each_schema(property, change);
                }
            }
            ("items" | "additionalProperties", below) => each_schema(below, change),
            ("anyOf" | "oneOf" | "allOf", Value::Array(branches)) => {
                for branch in branches {
                    each_schema(branch, change);
                }
            }
            _ => {}
        }
    }
}

fn yaml(document: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(document, options).expect("JSON is YAML");
    format!("# Generated from the types in src/api by `make generate`.\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<Value> {
        documents()
            .iter()
            .map(|crd| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
            .collect()
    }

    #[test]
    fn schemas_are_closed_and_need_a_spec() {
        for mut schema in schemas() {
            assert_eq!(schema["required"], json!(["spec"]));
            each_schema(&mut schema, &mut |node| {
                assert!(
                    !node.contains_key("x-kubernetes-preserve-unknown-fields"),
                    "open: {node:?}"
                );
            });
        }
    }

    #[test]
    fn every_key_of_a_list_map_is_required_or_has_a_default() {
        let mut found = 0;
        for mut schema in schemas() {
            each_schema(&mut schema, &mut |node| {
                let keys = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                for key in keys.into_iter().flatten().filter_map(Value::as_str) {
                    let items = &node["items"];
                    let required = items["required"]
                        .as_array()
                        .is_some_and(|names| names.contains(&json!(key)));
                    let defaulted = !items["properties"][key]["default"].is_null();
                    assert!(required || defaulted, "{key} of {items}");
                    found += 1;
                }
            });
        }
        assert!(
            found > MAP_LISTS.len(),
            "a list of the template has another name: {found} keys are left"
        );
    }

    #[test]
    fn containers_merge_by_name_and_ports_by_number_and_protocol() {
        let schema = &schemas()[0];
        let spec = "/properties/spec/properties/template/properties/spec/properties";
        let containers = schema.pointer(&format!("{spec}/containers")).unwrap();
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        let ports = &containers["items"]["properties"]["ports"];
        assert_eq!(
            ports["x-kubernetes-list-map-keys"],
            json!(["containerPort", "protocol"])
        );
        assert_eq!(ports["items"]["properties"]["protocol"]["default"], "TCP");
    }

    #[test]
    fn the_crds_stay_small_and_read_back_as_they_were() {
        // A client-side apply keeps each object in an annotation of at most 256 KiB.
        for crd in all() {
            let size = serde_json::to_string(&crd).unwrap().len();
            assert!(size < 230_000, "{size} bytes");
        }
        let names: Vec<_> = all().into_iter().filter_map(|crd| crd.metadata.name).collect();
        assert_eq!(
            names,
            [
                "pythonservices.molt.dev",
                "rolloutrecords.molt.dev",
                "rolloutactions.molt.dev",
                "notificationpolicies.molt.dev"
            ]
        );
        for ((name, text), crd) in files().iter().zip(all()) {
            let read: CustomResourceDefinition = serde_saphyr::from_str(text).unwrap();
            assert_eq!(read, crd, "{name}");
        }
    }

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        for (kind, generated) in KINDS.into_iter().zip(schemas()) {
            assert_eq!(schema(kind), Some(generated), "{kind}: run `make generate`");
        }
        assert_eq!(schema("Rollout"), None);
    }

    #[test]
    fn what_the_schema_accepts_can_be_read() {
        let service: PythonService = serde_json::from_value(json!({
            "metadata": {"name": "checkout"},
            "spec": {
                "port": 8000,
                "runtime": {"server": "uvicorn"},
                "template": {"spec": {"containers": [{"name": "app", "resources": {"limits": {"cpu": 1}}}]}},
                "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
                "slos": [],
            },
        }))
        .unwrap();
        let pod = service.spec.template.unwrap().spec.unwrap();
        let limits = pod.containers[0].resources.clone().unwrap().limits.unwrap();
        assert_eq!(limits["cpu"].0, "1");
    }
}

//! The kinds of Kubernetes, and the `HTTPRoute` of the Gateway API, that the operator reads and writes.

use serde_json::{Value, json};

use crate::kind::{Ending, Kind, is_empty};
use crate::shape::Shape;

/// All of them.
pub fn kinds() -> Vec<Kind> {
    vec![
        namespace(),
        config_map(),
        secret(),
        pod(),
        replica_set(),
        deployment(),
        Kind::built_in(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            Shape::fields([]),
        ),
        Kind::built_in(
            "batch",
            "v1",
            "Job",
            "jobs",
            Shape::fields([("status", Shape::fields([("conditions", conditions())]))]),
        ),
        Kind::built_in("batch", "v1", "CronJob", "cronjobs", Shape::fields([])),
        service(),
        endpoint_slice(),
        Kind {
            status: false,
            ..Kind::built_in("events.k8s.io", "v1", "Event", "events", Shape::fields([]))
        },
        Kind {
            status: false,
            ..Kind::built_in("coordination.k8s.io", "v1", "Lease", "leases", Shape::fields([]))
        },
        http_route(),
    ]
}

fn namespace() -> Kind {
    Kind {
        namespaced: false,
        ..Kind::built_in("", "v1", "Namespace", "namespaces", Shape::fields([]))
    }
}

fn config_map() -> Kind {
    let shape = Shape::fields([("data", Shape::strings()), ("binaryData", Shape::strings())]);
    Kind {
        status: false,
        defaults: without_empty_fields,
        ..Kind::built_in("", "v1", "ConfigMap", "configmaps", shape)
    }
}

fn secret() -> Kind {
    Kind {
        status: false,
        defaults: |secret| {
            without_empty_fields(secret);
            or(secret, "type", json!("Opaque"));
        },
        ..Kind::built_in(
            "",
            "v1",
            "Secret",
            "secrets",
            Shape::fields([("data", Shape::strings())]),
        )
    }
}

fn without_empty_fields(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, value| name == "metadata" || !is_empty(value));
    }
}

fn conditions() -> Shape {
    Shape::list_map(["type"], Shape::Deduced)
}

fn container() -> Shape {
    let resources = Shape::fields([("limits", Shape::strings()), ("requests", Shape::strings())]);
    Shape::fields([
        (
            "ports",
            Shape::list_map(["containerPort", "protocol"], Shape::Deduced),
        ),
        ("env", Shape::list_map(["name"], Shape::Deduced)),
        ("volumeMounts", Shape::list_map(["mountPath"], Shape::Deduced)),
        ("volumeDevices", Shape::list_map(["devicePath"], Shape::Deduced)),
        ("resources", resources),
    ])
}

fn pod_spec() -> Shape {
    Shape::fields([
        ("containers", Shape::list_map(["name"], container())),
        ("initContainers", Shape::list_map(["name"], container())),
        ("volumes", Shape::list_map(["name"], Shape::Deduced)),
        ("imagePullSecrets", Shape::list_map(["name"], Shape::Deduced)),
        ("hostAliases", Shape::list_map(["ip"], Shape::Deduced)),
        ("nodeSelector", Shape::Atomic),
    ])
}

fn pod() -> Kind {
    let status = Shape::fields([
        ("conditions", conditions()),
        ("podIPs", Shape::list_map(["ip"], Shape::Deduced)),
    ]);
    let shape = Shape::fields([("spec", pod_spec()), ("status", status)]);
    Kind {
        generation: true,
        ending: Ending::ByKubelet,
        defaults: |pod| pod_defaults(&mut pod["spec"]),
        ..Kind::built_in("", "v1", "Pod", "pods", shape)
    }
}

fn pod_defaults(spec: &mut Value) {
    or(spec, "restartPolicy", json!("Always"));
    or(spec, "dnsPolicy", json!("ClusterFirst"));
    or(spec, "schedulerName", json!("default-scheduler"));
    or(spec, "terminationGracePeriodSeconds", json!(30));
    or(spec, "securityContext", json!({}));
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let image = container["image"].as_str().unwrap_or_default();
        let latest =
            image.ends_with(":latest") || !image.rsplit('/').next().unwrap_or_default().contains([':', '@']);
        or(
            container,
            "imagePullPolicy",
            json!(if latest { "Always" } else { "IfNotPresent" }),
        );
        or(container, "terminationMessagePath", json!("/dev/termination-log"));
        or(container, "terminationMessagePolicy", json!("File"));
        or(container, "resources", json!({}));
        let ports = container.get_mut("ports").and_then(Value::as_array_mut);
        ports
            .into_iter()
            .flatten()
            .for_each(|port| or(port, "protocol", json!("TCP")));
    }
}

fn or(object: &mut Value, field: &str, default: Value) {
    if object.get(field).is_none_or(Value::is_null) {
        object[field] = default;
    }
}

fn replica_set() -> Kind {
    let template = Shape::fields([("metadata", crate::shape::metadata()), ("spec", pod_spec())]);
    let shape = Shape::fields([
        (
            "spec",
            Shape::fields([("selector", Shape::Atomic), ("template", template)]),
        ),
        ("status", Shape::fields([("conditions", conditions())])),
    ]);
    Kind {
        generation: true,
        defaults: |set| {
            or(&mut set["spec"], "replicas", json!(1));
            pod_defaults(&mut set["spec"]["template"]["spec"]);
            or(set, "status", json!({"replicas": 0}));
        },
        ..Kind::built_in("apps", "v1", "ReplicaSet", "replicasets", shape)
    }
}

fn deployment() -> Kind {
    let template = Shape::fields([("metadata", crate::shape::metadata()), ("spec", pod_spec())]);
    let shape = Shape::fields([
        (
            "spec",
            Shape::fields([("selector", Shape::Atomic), ("template", template)]),
        ),
        ("status", Shape::fields([("conditions", conditions())])),
    ]);
    Kind {
        generation: true,
        defaults: |deployment| {
            or(&mut deployment["spec"], "replicas", json!(1));
            pod_defaults(&mut deployment["spec"]["template"]["spec"]);
            or(deployment, "status", json!({}));
        },
        ..Kind::built_in("apps", "v1", "Deployment", "deployments", shape)
    }
}

fn service() -> Kind {
    let spec = Shape::fields([
        ("ports", Shape::list_map(["port", "protocol"], Shape::Deduced)),
        ("selector", Shape::Atomic),
        ("clusterIPs", Shape::Atomic),
    ]);
    let shape = Shape::fields([
        ("spec", spec),
        ("status", Shape::fields([("conditions", conditions())])),
    ]);
    Kind {
        ending: Ending::AtOnceWithObject,
        defaults: |service| {
            let spec = &mut service["spec"];
            or(spec, "type", json!("ClusterIP"));
            or(spec, "sessionAffinity", json!("None"));
            or(spec, "internalTrafficPolicy", json!("Cluster"));
            or(spec, "ipFamilies", json!(["IPv4"]));
            or(spec, "ipFamilyPolicy", json!("SingleStack"));
            // One address for all: nothing is sent to it.
            or(spec, "clusterIP", json!("10.0.0.10"));
            let address = spec["clusterIP"].clone();
            or(spec, "clusterIPs", json!([address]));
            let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
            for port in ports.into_iter().flatten() {
                or(port, "protocol", json!("TCP"));
                let number = port["port"].clone();
                or(port, "targetPort", number);
            }
            or(service, "status", json!({"loadBalancer": {}}));
        },
        ..Kind::built_in("", "v1", "Service", "services", shape)
    }
}

fn endpoint_slice() -> Kind {
    Kind {
        status: false,
        generation: true,
        ..Kind::built_in(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            Shape::fields([]),
        )
    }
}

/// As the Gateway API's CRD has it, as far as the operator has to do with it.
fn http_route() -> Kind {
    let reference = |kind: &str, group: &str| {
        Shape::fields([])
            .with("group", Shape::Deduced, Some(json!(group)))
            .with("kind", Shape::Deduced, Some(json!(kind)))
    };
    let backend = reference("Service", "").with("weight", Shape::Deduced, Some(json!(1)));
    let prefix = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
    let rule = Shape::fields([("backendRefs", Shape::List(Box::new(backend)))]).with(
        "matches",
        Shape::List(Box::default()),
        Some(prefix),
    );
    let parent = || reference("Gateway", "gateway.networking.k8s.io");
    let spec = Shape::fields([
        ("rules", Shape::List(Box::new(rule))),
        ("parentRefs", Shape::List(Box::new(parent()))),
        ("hostnames", Shape::Atomic),
    ]);
    let parent_status = Shape::fields([("parentRef", parent()), ("conditions", conditions())]);
    let status = Shape::fields([("parents", Shape::List(Box::new(parent_status)))]);
    Kind {
        custom: true,
        generation: true,
        ..Kind::built_in(
            "gateway.networking.k8s.io",
            "v1",
            "HTTPRoute",
            "httproutes",
            Shape::fields([("spec", spec), ("status", status)]),
        )
    }
}

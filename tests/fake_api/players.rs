//! Plays the controllers beside the operator: ReplicaSets, kubelets, endpoints, the gateway.

use http::Method;
use molt_sim_api::{ApiServer, Call};
use serde_json::{Value, json};

fn ask(server: &mut ApiServer, method: Method, path: &str, body: Value) -> Value {
    let kind = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let answer = server.handle(&Call::new(
        method,
        &format!("{path}?fieldManager=players"),
        kind,
        body,
    ));
    assert!(answer.code < 300, "{path}: {}", answer.body);
    Value::clone(&answer.body)
}

fn all(server: &ApiServer, resource: &str) -> Vec<Value> {
    server.objects(resource).into_iter().cloned().collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// Does what is to be done; what is done already is left alone.
pub fn play(server: &mut ApiServer) {
    server.collect_garbage();
    // A kubelet ends what was evicted.
    for pod in all(server, "pods") {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            let path = format!("/api/v1/namespaces/shop/pods/{}", name(&pod));
            ask(server, Method::DELETE, &path, json!({"gracePeriodSeconds": 0}));
        }
    }
    for deployment in all(server, "deployments.apps") {
        deploy(server, &deployment);
    }
    for set in all(server, "replicasets.apps") {
        scale(server, &set);
    }
    for service in all(server, "services") {
        publish(server, &service);
    }
    for route in all(server, "httproutes.gateway.networking.k8s.io") {
        acknowledge(server, &route);
    }
}

/// A Deployment's controller: its pods are those of one ReplicaSet, that of its template unless it is paused.
fn deploy(server: &mut ApiServer, deployment: &Value) {
    let spec = &deployment["spec"];
    let owned = |set: &Value| set["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"];
    let sets: Vec<Value> = all(server, "replicasets.apps")
        .into_iter()
        .filter(owned)
        .collect();
    let image = spec["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap();
    let of_template = format!("{}-{}", name(deployment), image.replace([':', '/'], "-"));
    let is_paused = spec["paused"] == true;
    let active = sets.iter().find(|set| set["spec"]["replicas"] != 0);
    let chosen = match active {
        Some(set) if is_paused => name(set).to_owned(),
        None if is_paused && !sets.is_empty() => name(&sets[0]).to_owned(),
        _ => of_template,
    };
    let path = "/apis/apps/v1/namespaces/shop/replicasets";
    if !sets.iter().any(|set| name(set) == chosen) {
        let mut template = spec["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(chosen);
        let set = json!({
            "metadata": {"name": chosen, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": name(deployment),
                "uid": deployment["metadata"]["uid"], "controller": true,
            }]},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"pod-template-hash": chosen}},
                "template": template,
            },
        });
        ask(server, Method::POST, path, set);
    }
    for set in all(server, "replicasets.apps").into_iter().filter(owned) {
        let wanted = if name(&set) == chosen {
            spec["replicas"].clone()
        } else {
            json!(0)
        };
        if set["spec"]["replicas"] != wanted {
            let path = format!("{path}/{}", name(&set));
            ask(
                server,
                Method::PATCH,
                &path,
                json!({"spec": {"replicas": wanted}}),
            );
        }
    }
    let uids: Vec<Value> = all(server, "replicasets.apps")
        .into_iter()
        .filter(owned)
        .map(|set| set["metadata"]["uid"].clone())
        .collect();
    let pods = all(server, "pods").into_iter();
    let pods = pods
        .filter(|pod| uids.contains(&pod["metadata"]["ownerReferences"][0]["uid"]))
        .count();
    let status = json!({
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": pods, "readyReplicas": pods, "updatedReplicas": pods,
    });
    if deployment["status"] != status {
        let path = format!(
            "/apis/apps/v1/namespaces/shop/deployments/{}/status",
            name(deployment)
        );
        ask(server, Method::PATCH, &path, json!({ "status": status }));
    }
}

fn scale(server: &mut ApiServer, set: &Value) {
    let owned = |pod: &Value| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"];
    let pods: Vec<Value> = all(server, "pods").into_iter().filter(owned).collect();
    let wanted = usize::try_from(set["spec"]["replicas"].as_u64().unwrap()).unwrap();
    for pod in pods.iter().skip(wanted) {
        let path = format!("/api/v1/namespaces/shop/pods/{}", name(pod));
        ask(server, Method::DELETE, &path, json!({"gracePeriodSeconds": 0}));
    }
    if wanted > pods.len() {
        assert_snapshots(server, set);
    }
    for _ in pods.len()..wanted {
        let pod = json!({
            "metadata": {
                "generateName": format!("{}-", name(set)),
                "labels": set["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name(set),
                    "uid": set["metadata"]["uid"], "controller": true,
                }],
            },
            "spec": {"containers": set["spec"]["template"]["spec"]["containers"], "nodeName": "node-1"},
        });
        let pod = ask(server, Method::POST, "/api/v1/namespaces/shop/pods", pod);
        let path = format!("/api/v1/namespaces/shop/pods/{}/status", name(&pod));
        let ready = json!({"type": "Ready", "status": "True"});
        let status = json!({"phase": "Running", "conditions": [ready]});
        ask(server, Method::PATCH, &path, json!({ "status": status }));
    }
}

/// Pods must not start before the snapshots that they read: what is optional would just be left out.
fn assert_snapshots(server: &ApiServer, set: &Value) {
    let annotation = set["metadata"]["annotations"]["molt.dev/config"].as_str();
    let content: Value = annotation.map_or(json!({}), |text| serde_json::from_str(text).unwrap());
    let owned = |object: &&Value| object["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"];
    let of = |resource: &str| server.objects(resource).into_iter().filter(owned).count();
    let there = of("configmaps") + of("secrets");
    assert_eq!(
        there,
        content.as_object().unwrap().len(),
        "snapshots of {}",
        name(set)
    );
}

fn publish(server: &mut ApiServer, service: &Value) {
    let selector = service["spec"]["selector"].as_object().unwrap().clone();
    let selected = |pod: &Value| selector.iter().all(|(k, v)| pod["metadata"]["labels"][k] == *v);
    let endpoints: Vec<Value> = all(server, "pods")
        .iter()
        .filter(|pod| selected(pod))
        .map(|pod| {
            json!({
                "addresses": ["10.1.0.1"],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": name(pod)},
            })
        })
        .collect();
    let mut labels = service["metadata"]["labels"].clone();
    labels["kubernetes.io/service-name"] = json!(name(service));
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name(service),
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": name(service), "uid": service["metadata"]["uid"],
            }],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
    });
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/{}?fieldManager=players&force=true",
        name(service)
    );
    let call = Call::new(Method::PATCH, &path, "application/apply-patch+yaml", slice);
    let answer = server.handle(&call);
    assert!(answer.code < 300, "{}", answer.body);
}

/// A Gateway that does not exist: no controller says anything of its routes.
pub const NO_GATEWAY: &str = "missing";

fn acknowledge(server: &mut ApiServer, route: &Value) {
    if route["spec"]["parentRefs"][0]["name"] == NO_GATEWAY {
        return;
    }
    let generation = &route["metadata"]["generation"];
    if route["status"]["parents"][0]["conditions"][0]["observedGeneration"] == *generation {
        return;
    }
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let parent = json!({
        "parentRef": route["spec"]["parentRefs"][0], "controllerName": "example.com/gateway",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")],
    });
    let path = format!(
        "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/{}/status",
        name(route)
    );
    ask(
        server,
        Method::PATCH,
        &path,
        json!({"status": {"parents": [parent]}}),
    );
}

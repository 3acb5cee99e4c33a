//! The simulated API server of `molt_sim_api` answers as the real one does.
//!
//! The same seeded sequences of calls go to both; compared are status codes, the objects that result, who
//! owns which of their fields, and whether there is a new version.

use http::{Method, Request};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use molt_sim_api::{ApiServer, Kind, Sim, builtin};
use serde_json::{Value, json};

use crate::support::cluster;

/// A generator of numbers, the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // The constants are Knuth's for MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn chance(&mut self) -> bool {
        self.roll(2) == 0
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let index = self.roll(of.len() as u64);
        of[usize::try_from(index).unwrap()]
    }
}

/// A kind that is tried: its path, and what may be written.
struct Subject {
    list: &'static str,
    name: &'static str,
    content: fn(&mut Dice) -> Value,
    status: Option<fn(&mut Dice) -> Value>,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        list: "/api/v1/namespaces/NS/configmaps",
        name: "a",
        content: |dice| {
            let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {}});
            for key in ["x", "y", "z"] {
                if dice.chance() {
                    object["data"][key] = json!(dice.pick(&["1", "2"]));
                }
            }
            object
        },
        status: None,
    },
    Subject {
        list: "/api/v1/namespaces/NS/services",
        name: "b",
        content: |dice| {
            let mut ports = vec![];
            for (name, port) in [("http", 80), ("other", 81)] {
                if ports.is_empty() || dice.chance() {
                    let target = 8000 + dice.roll(2);
                    ports.push(json!({"name": name, "port": port, "protocol": "TCP", "targetPort": target}));
                }
            }
            let mut object = json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": ports}});
            if dice.chance() {
                object["spec"]["selector"] = json!({dice.pick(&["app", "track"]): dice.pick(&["1", "2"])});
            }
            object
        },
        status: None,
    },
    Subject {
        list: "/apis/molt.dev/v1alpha1/namespaces/NS/pythonservices",
        name: "c",
        content: |dice| {
            let mut object = cluster::service("c", dice.pick(&["app:1", "app:2"]));
            let spec = object["spec"].as_object_mut().unwrap();
            for field in ["progressDeadline", "drain", "strategy"] {
                if dice.chance() {
                    spec.remove(field);
                }
            }
            if dice.chance() {
                let container = &mut spec["template"]["spec"]["containers"][0];
                container["env"] = json!([{"name": dice.pick(&["A", "B"]), "value": dice.pick(&["1", "2"])}]);
            }
            object
        },
        status: Some(|dice| {
            let mut status = json!({"phase": dice.pick(&["Healthy", "Progressing"])});
            if dice.chance() {
                status["replicas"] = json!(dice.roll(3));
            }
            status
        }),
    },
    Subject {
        list: "/apis/gateway.networking.k8s.io/v1/namespaces/NS/httproutes",
        name: "d",
        content: |dice| {
            let backend = |weight| json!({"name": "s", "port": 80, "weight": weight});
            let mut object = json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "spec": {"rules": [{"backendRefs": [backend(dice.roll(3))]}]},
            });
            if dice.chance() {
                object["spec"]["hostnames"] = json!([dice.pick(&["a.example", "b.example"])]);
            }
            if dice.chance() {
                object["spec"]["parentRefs"] = json!([{"name": "public"}]);
            }
            object
        },
        status: None,
    },
];

/// A call, with places for what each server makes up.
#[derive(Clone, Debug)]
struct Step {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Value,
}

fn metadata(dice: &mut Dice, object: &mut Value, name: &str) {
    object["metadata"] = json!({"name": name});
    for (field, keys) in [("labels", ["l", "m"]), ("annotations", ["n", "o"])] {
        for key in keys {
            if dice.roll(3) == 0 {
                object["metadata"][field][key] = json!(dice.pick(&["1", "2"]));
            }
        }
    }
    match dice.roll(8) {
        0 => object["metadata"]["resourceVersion"] = json!("CURRENT"),
        1 => object["metadata"]["resourceVersion"] = json!("999999999"),
        2 => object["metadata"]["uid"] = json!("UID"),
        3 => object["metadata"]["uid"] = json!("another"),
        4 => object["metadata"]["finalizers"] = json!([dice.pick(&["example.com/a", "example.com/b"])]),
        _ => {}
    }
}

fn step(dice: &mut Dice) -> (usize, Step) {
    let index = usize::try_from(dice.roll(SUBJECTS.len() as u64)).unwrap();
    let subject = &SUBJECTS[index];
    let manager = dice.pick(&["one", "two"]);
    let one = format!("{}/{}", subject.list, subject.name);
    let mut object = (subject.content)(dice);
    metadata(dice, &mut object, subject.name);
    let apply = "application/apply-patch+yaml";
    let merge = "application/merge-patch+json";
    let (method, path, content_type, body) = match dice.roll(12) {
        0..=4 => {
            let force = dice.chance();
            (
                Method::PATCH,
                format!("{one}?fieldManager={manager}&force={force}"),
                apply,
                object,
            )
        }
        5 | 6 => (
            Method::PATCH,
            format!("{one}?fieldManager={manager}"),
            merge,
            object,
        ),
        7 => {
            object["metadata"]
                .as_object_mut()
                .unwrap()
                .remove("resourceVersion");
            object["metadata"].as_object_mut().unwrap().remove("uid");
            (
                Method::POST,
                format!("{}?fieldManager={manager}", subject.list),
                "application/json",
                object,
            )
        }
        8 => {
            let version = dice.pick(&["CURRENT", "CURRENT", "999999999"]);
            let patch = json!([
                {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                {"op": "add", "path": "/metadata/annotations", "value": {"p": dice.pick(&["1", "2"])}},
            ]);
            (
                Method::PATCH,
                format!("{one}?fieldManager={manager}"),
                "application/json-patch+json",
                patch,
            )
        }
        9 => {
            let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
            match dice.roll(3) {
                0 => body["preconditions"] = json!({"uid": "UID"}),
                1 => body["preconditions"] = json!({"uid": "another"}),
                _ => {}
            }
            (Method::DELETE, one, "application/json", body)
        }
        10 => (
            Method::PATCH,
            format!("{one}?fieldManager={manager}"),
            merge,
            json!({"metadata": {"finalizers": null}}),
        ),
        _ => match subject.status {
            Some(status) => {
                let body = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": subject.name}, "status": status(dice)});
                let content_type = if dice.chance() { apply } else { merge };
                (
                    Method::PATCH,
                    format!("{one}/status?fieldManager={manager}"),
                    content_type,
                    body,
                )
            }
            None => (Method::GET, one, "", Value::Null),
        },
    };
    let step = Step {
        method,
        path,
        content_type,
        body,
    };
    (index, step)
}

async fn send(client: &Client, namespace: &str, step: &Step) -> (u16, Value) {
    let body = if step.body.is_null() {
        vec![]
    } else {
        step.body.to_string().into_bytes()
    };
    let request = Request::builder()
        .method(step.method.clone())
        .uri(step.path.replace("NS", namespace))
        .header(http::header::CONTENT_TYPE, step.content_type)
        .body(Body::from(body))
        .unwrap();
    let response = client.send(request).await.expect("the server answers");
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.expect("all of it");
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Puts in what a server has made up, does the step, and tells what came of it.
async fn perform(client: &Client, namespace: &str, subject: &Subject, step: &Step) -> Value {
    let read = Step {
        method: Method::GET,
        path: format!("{}/{}", subject.list, subject.name),
        content_type: "",
        body: Value::Null,
    };
    let (_, before) = send(client, namespace, &read).await;
    let text = |field: &str| before["metadata"][field].as_str().unwrap_or("7").to_owned();
    let body = step.body.to_string();
    let body = body.replace("\"CURRENT\"", &format!("\"{}\"", text("resourceVersion")));
    let body = body.replace("\"UID\"", &format!("\"{}\"", text("uid")));
    let filled = Step {
        body: serde_json::from_str(&body).unwrap(),
        ..step.clone()
    };
    let (code, answer) = send(client, namespace, &filled).await;
    let (_, after) = send(client, namespace, &read).await;
    let refused = (code >= 400).then(|| {
        let causes = answer["details"]["causes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut causes: Vec<Value> = causes
            .iter()
            .filter(|c| c["reason"] == "FieldManagerConflict")
            .map(|c| {
                let message = c["message"].as_str().unwrap_or_default();
                json!([c["field"], message])
            })
            .collect();
        // In which order a server finds them is nobody's business.
        causes.sort_by_key(Value::to_string);
        json!({"reason": answer["reason"], "causes": causes})
    });
    json!({
        "code": code,
        "refused": refused,
        "moved": before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"],
        "object": comparable(after),
    })
}

/// Without what differs between any two servers.
fn comparable(mut object: Value) -> Value {
    if object["kind"] == "Status" {
        return Value::Null;
    }
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "namespace",
    ] {
        metadata.remove(field);
    }
    let owners = metadata.remove("managedFields");
    let mut owners: Vec<Value> = owners
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .cloned()
        .collect();
    for owner in &mut owners {
        owner.as_object_mut().unwrap().remove("time");
        forget_parents(&mut owner["fieldsV1"]);
    }
    owners.sort_by_key(Value::to_string);
    object["owners"] = json!(owners);
    if let Some(spec) = object["spec"].as_object_mut() {
        for made_up in ["clusterIP", "clusterIPs"] {
            spec.remove(made_up);
        }
    }
    object
}

/// Whether a parent is a member of its own depends on the Go type behind a built-in kind.
fn forget_parents(fields: &mut Value) {
    if let Some(fields) = fields.as_object_mut() {
        fields.remove(".");
        fields.values_mut().for_each(forget_parents);
    }
}

#[tokio::test]
async fn the_simulated_server_answers_as_the_real_one() {
    let stage = cluster::without_operator("like-real").await;
    // The stage's actors look after its own namespace; nobody else writes in this one.
    let namespace = "like-real-alone";
    let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
    Api::<Namespace>::all(stage.client.clone())
        .create(&PostParams::default(), &object)
        .await
        .expect("the namespace is new");
    let ours = molt::api::crds::all()
        .into_iter()
        .map(|crd| Kind::from_crd(&serde_json::to_value(crd).unwrap()));
    let mut faults = Vec::new();
    for seed in 0..30 {
        let mut dice = Dice(seed);
        let kinds = builtin::kinds().into_iter().chain(ours.clone());
        let sim = Sim::new(ApiServer::new(kinds, jiff::Timestamp::now()));
        let client = sim.client();
        for subject in &SUBJECTS {
            clear(&stage.client, namespace, subject).await;
        }
        for number in 0..60 {
            let (index, step) = step(&mut dice);
            sim.with(|s| s.set_time(jiff::Timestamp::now()));
            let subject = &SUBJECTS[index];
            let real = perform(&stage.client, namespace, subject, &step).await;
            let fake = perform(&client, namespace, subject, &step).await;
            if real != fake {
                let mut found = Vec::new();
                differences("", &real, &fake, &mut found);
                faults.push(format!(
                    "seed {seed}, step {number}: {} {} {}\n  {}",
                    step.method,
                    step.path,
                    step.body,
                    found.join("\n  ")
                ));
                break;
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} sequences differ:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Where two answers differ.
fn differences(at: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    match (real, fake) {
        (Value::Object(r), Value::Object(f)) => {
            let keys: std::collections::BTreeSet<&String> = r.keys().chain(f.keys()).collect();
            for key in keys {
                differences(&format!("{at}/{key}"), &real[key], &fake[key], found);
            }
        }
        (Value::Array(r), Value::Array(f)) if r.len() == f.len() => {
            for (index, (real, fake)) in r.iter().zip(f).enumerate() {
                differences(&format!("{at}/{index}"), real, fake, found);
            }
        }
        _ if real == fake => {}
        _ => found.push(format!("{at}: real {real}, simulated {fake}")),
    }
}

/// Takes away what an earlier sequence has left.
async fn clear(client: &Client, namespace: &str, subject: &Subject) {
    let path = format!("{}/{}", subject.list, subject.name);
    let free = Step {
        method: Method::PATCH,
        path: path.clone(),
        content_type: "application/merge-patch+json",
        body: json!({"metadata": {"finalizers": null}}),
    };
    send(client, namespace, &free).await;
    let delete = Step {
        method: Method::DELETE,
        path,
        content_type: "application/json",
        body: json!({}),
    };
    send(client, namespace, &delete).await;
}

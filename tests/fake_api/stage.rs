//! A simulated API server with Molt's kinds, and lives of an operator on it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use molt_sim_api::{ApiServer, Call, Kind, Sim, builtin};
use serde_json::{Value, json};

use super::players;

/// How long anything may take before a test fails; generous, because the machine may be slow.
const PATIENCE: Duration = Duration::from_mins(2);

/// The watches that an operator has.
const WATCHES: usize = 13;

/// A server that knows Molt's kinds and holds nothing.
pub fn empty() -> Sim {
    // Schemas take longer to generate than many a life takes, and a sweep lives hundreds.
    static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
        let ours = molt::api::crds::all()
            .into_iter()
            .map(|crd| Kind::from_crd(&serde_json::to_value(crd).unwrap()));
        builtin::kinds().into_iter().chain(ours).collect()
    });
    Sim::new(ApiServer::new(KINDS.iter().cloned(), Timestamp::now()))
}

/// Applies the service as a person would.
pub fn apply_service(sim: &Sim, image: &str) {
    apply(sim, service(image));
}

/// Applies a service as a person would.
pub fn apply(sim: &Sim, service: Value) {
    let path = "/apis/molt.dev/v1alpha1/namespaces/shop/pythonservices/checkout?fieldManager=person";
    let call = Call::new(Method::PATCH, path, "application/apply-patch+yaml", service);
    let answer = sim.ask(&call);
    assert!(answer.code < 300, "{}", answer.body);
}

/// A service with pauses that a person ends.
pub fn service(image: &str) -> Value {
    json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "PythonService",
        "metadata": {"name": "checkout"},
        "spec": {
            "replicas": 2,
            "port": 8000,
            "drain": {"timeout": "0s"},
            "runtime": {"server": "uvicorn"},
            "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            "traffic": {"gatewayAPI": {"parentRefs": [{"name": "public"}]}},
            "strategy": {"canary": {"steps": [{"setWeight": 50}, {"pause": {"duration": "1h"}}], "bake": "0s"}},
            "slos": [{
                "name": "availability", "objective": "99",
                "sli": {"preset": "fastapi-instrumentator", "type": "availability"}
            }]
        }
    })
}

/// The service as it is.
pub fn seen(sim: &Sim) -> Value {
    sim.with(|s| {
        s.object("pythonservices.molt.dev", "shop", "checkout")
            .cloned()
            .unwrap()
    })
}

/// The first revision serves, and nothing is left to do.
pub fn is_healthy(sim: &Sim) -> bool {
    let service = seen(sim);
    service["status"]["phase"] == "Healthy"
        && service["status"]["observedGeneration"] == service["metadata"]["generation"]
}

/// The canary's pods are ready.
pub fn has_canary(sim: &Sim) -> bool {
    seen(sim)["status"]["canary"]["ready"] == 1
}

/// Asks for a promotion as a person would.
pub fn promote(sim: &Sim) {
    act(sim, "promote", "Promote");
}

/// Asks for something as a person would.
pub fn act(sim: &Sim, name: &str, action: &str) {
    let action = json!({
        "apiVersion": "molt.dev/v1alpha1",
        "kind": "RolloutAction",
        "metadata": {"name": name},
        "spec": {"service": "checkout", "action": action, "reason": "seen enough", "requestedBy": "ada"},
    });
    let path = "/apis/molt.dev/v1alpha1/namespaces/shop/rolloutactions?fieldManager=person";
    let answer = sim.ask(&Call::new(Method::POST, path, "application/json", action));
    assert_eq!(answer.code, 201, "{}", answer.body);
}

/// The person's action has been answered, and the canary has the weight of its first step.
pub fn has_stepped(sim: &Sim) -> bool {
    let action = sim.with(|s| s.object("rolloutactions.molt.dev", "shop", "promote").cloned());
    seen(sim)["status"]["canary"]["weight"] == 50 && action.is_some_and(|a| a["status"]["state"] == "Applied")
}

/// When the pods were created.
pub fn births(sim: &Sim) -> Vec<Timestamp> {
    let birth = |pod: &Value| pod["metadata"]["creationTimestamp"].as_str()?.parse().ok();
    sim.with(|s| s.objects("pods").into_iter().filter_map(birth).collect())
}

/// The person's restart is done: no pod is left that is older than the action.
pub fn is_restarted(sim: &Sim) -> bool {
    let action = sim.with(|s| s.object("rolloutactions.molt.dev", "shop", "restart").cloned());
    let Some(action) = action else { return false };
    let asked: Timestamp = action["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let pods = births(sim);
    is_healthy(sim) && pods.len() == 2 && pods.into_iter().all(|birth| birth >= asked)
}

/// Lets an operator live until something is so and it has written nothing for a while, or until it crashes.
pub fn settle(sim: &Sim, until: impl Fn(&Sim) -> bool) {
    settle_for(sim, Duration::from_millis(1200), until);
}

/// The same with as long a silence: on a slow machine an operator may pause amid its work.
pub fn settle_for(sim: &Sim, silence: Duration, until: impl Fn(&Sim) -> bool) {
    let count =
        |wanted: fn(&Call) -> bool| sim.with_log(|log| log.iter().filter(|l| wanted(&l.call)).count());
    let writes = || count(Call::is_write);
    let watches = || count(Call::is_watch);
    let earlier = watches();
    let last = std::cell::Cell::new((writes(), Instant::now()));
    live(sim, |sim| {
        let now = writes();
        // An operator that does not see everything yet has not looked at anything.
        if now != last.get().0 || watches() < earlier + WATCHES {
            last.set((now, Instant::now()));
        }
        last.get().1.elapsed() > silence && until(sim)
    });
}

/// Lets an operator live until all is as it should be in the end; one that never gets there is left to the
/// comparison that follows, after it has written nothing for long.
pub fn settle_to(sim: &Sim, expected: &[(String, Value)]) {
    let patience = Instant::now();
    settle(sim, |sim| {
        patience.elapsed() > PATIENCE / 2 || end_state(sim) == expected
    });
}

/// An operator of the namespace, with a Prometheus that does not answer.
pub fn options() -> molt::controller::Options {
    molt::controller::Options {
        prometheus_address: "http://127.0.0.1:9".to_owned(),
        namespace: Some("shop".to_owned()),
        concurrency: 1,
        prometheus_ca_file: None,
        prometheus_headers_file: None,
        rule_labels: std::collections::BTreeMap::new(),
        snapshot_secrets: false,
        fleet_namespace: "molt-system".to_owned(),
        strict_paused: false,
        dashboard_url: None,
        leader_election: None,
    }
}

/// Lets an operator live until something is so, or until it crashes, with all that belongs to it.
pub fn live(sim: &Sim, until: impl Fn(&Sim) -> bool) {
    live_as(sim, options(), until);
}

/// The same with other options.
pub fn live_as(sim: &Sim, options: molt::controller::Options, until: impl Fn(&Sim) -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let operator = molt::controller::run(
            sim.client(),
            options,
            molt::metrics::Metrics::new("test"),
            molt::server::Readiness::default(),
            std::future::pending(),
        );
        let watched = async {
            loop {
                sim.with(|server| {
                    server.set_time(Timestamp::now());
                    players::play(server);
                });
                if sim.has_crashed() || until(sim) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            _ = operator => panic!("the operator has ended"),
            ended = tokio::time::timeout(PATIENCE, watched) => if ended.is_err() {
                let asked = sim.with_log(|log| log.iter().rev().take(20).map(|l| format!("{} {} {:?}", l.call.method, l.call.path, l.code)).collect::<Vec<_>>());
                panic!("waited in vain; {}; last asked: {asked:#?}", seen(sim)["status"]);
            },
        }
    });
    // Watches and everything else that the operator had spawned ends with it.
    runtime.shutdown_background();
}

/// Lets an operator live for a while that is longer than it needs.
pub fn idle(sim: &Sim, millis: u64) {
    let began = Instant::now();
    live(sim, |_| began.elapsed() > Duration::from_millis(millis));
}

/// What there is at the end, without what differs from run to run: identities, versions and times.
pub fn end_state(sim: &Sim) -> Vec<(String, Value)> {
    let kept = [
        "pythonservices.molt.dev",
        "rolloutrecords.molt.dev",
        "rolloutactions.molt.dev",
        "replicasets.apps",
        "deployments.apps",
        "services",
        "configmaps",
        "httproutes.gateway.networking.k8s.io",
    ];
    let mut state = Vec::new();
    sim.with(|server| {
        for resource in kept {
            for object in server.objects(resource) {
                let metadata = &object["metadata"];
                let owners = metadata["managedFields"].as_array().into_iter().flatten();
                let mut owners: Vec<Value> = owners
                    .filter(|e| e["manager"] != "players")
                    .map(|e| json!([e["manager"], e["operation"], e["subresource"], e["fieldsV1"]]))
                    .collect();
                if resource == "pythonservices.molt.dev" || resource == "rolloutrecords.molt.dev" {
                    // Which field of the status was written when is of no concern.
                    owners.clear();
                }
                owners.sort_by_key(Value::to_string);
                let status = &object["status"];
                let told = json!({
                    "spec": object["spec"],
                    "data": object["data"],
                    "immutable": object["immutable"],
                    "labels": metadata["labels"],
                    "annotations": metadata["annotations"],
                    "finalizers": metadata["finalizers"],
                    "owners": owners,
                    "phase": status["phase"],
                    "stable": status["stable"],
                    "canary": status["canary"],
                    "outcome": status["outcome"],
                    "state": status["state"].as_str(),
                });
                let name = format!("{resource}/{}", metadata["name"].as_str().unwrap());
                state.push((name, without_times(told)));
            }
        }
        let pods = server.objects("pods").len();
        state.push(("pods".to_owned(), json!(pods)));
    });
    state
}

fn without_times(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("startedAt");
                // Owners are known by their UIDs, which differ.
                let named: Vec<String> = fields
                    .keys()
                    .filter(|k| k.starts_with("k:{\"uid\""))
                    .cloned()
                    .collect();
                for key in named {
                    fields.remove(&key);
                }
                fields.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

//! What all workloads have: a pod template with its port and server, and what leads to it.

use serde_json::{Map, Value, json};

use super::draft::{Draft, Fate};
use super::input::{Fields, Object, Wrong};

const GATEWAY: &str = "gateway.networking.k8s.io";

/// A Deployment that nothing else is about, or `None` if it serves nothing.
pub(super) fn deployment(object: &Object, all: &[Object]) -> Result<Option<Draft>, Wrong> {
    let mut draft = Draft::new(object);
    let mut top = Fields::of(&object.to_string(), "", Some(object.value.clone()))?;
    let mut spec = top.fields("spec")?;
    common(&mut draft, &mut spec)?;
    let template = spec.take("template").unwrap_or_else(|| json!({}));
    let service = service_of(&template, object, all);
    if service.is_none() && first_port(&template).is_none() {
        return Ok(None);
    }
    if spec.take("strategy").is_some() {
        draft.note(
            Fate::NotCarriedOver,
            "spec.strategy",
            "a rolling update is what the default canary of 5, 10, 25 and 50 % takes the place of",
        );
    }
    sessions(&mut draft, service);
    let port = service.and_then(|service| target_port(service, &template));
    pods(&mut draft, template, port);
    draft.rest(&spec, without);
    let names: Vec<String> = service.iter().map(|service| service.name.clone()).collect();
    lead(&mut draft, object, all, &names, false);
    scaled(&mut draft, object, all, &["Deployment"]);
    Ok(Some(draft))
}

/// Fields that Deployments and what takes their place have in common.
pub(super) fn common(draft: &mut Draft, spec: &mut Fields) -> Result<(), Wrong> {
    if let Some(replicas) = spec.number("replicas")? {
        draft.set(
            "replicas",
            json!(replicas.round().clamp(0.0, f64::from(i32::MAX)) as i64),
        );
    }
    if let Some(limit) = spec.number("revisionHistoryLimit")? {
        let used = limit.round().clamp(0.0, 50.0);
        if used < limit {
            draft.note(
                Fate::Approximated,
                spec.path("revisionHistoryLimit"),
                "is written as 50, the most there is",
            );
        }
        draft.set("revisionHistoryLimit", json!(used as i64));
    }
    if let Some(seconds) = spec.number("progressDeadlineSeconds")? {
        let field = spec.path("progressDeadlineSeconds");
        if let Some(deadline) = draft.duration(&field, seconds.max(1.0) * 1000.0) {
            draft.set("progressDeadline", json!(deadline));
        }
    }
    if let Some(seconds) = spec.number("minReadySeconds")? {
        draft.set(
            "minReadySeconds",
            json!(seconds.round().clamp(0.0, 86_400.0) as i64),
        );
    }
    if let Some(paused) = spec.truth("paused")? {
        draft.set("paused", json!(paused));
    }
    // Labels and selectors are made by the operator.
    spec.take("selector");
    Ok(())
}

/// Why a field of a workload has nothing like it.
pub(super) fn without(field: &str) -> Option<&'static str> {
    match field {
        "progressDeadlineAbort" => Some("an attempt that makes no progress always goes back"),
        _ => None,
    }
}

/// The template, its port and its server.
pub(super) fn pods(draft: &mut Draft, mut template: Value, port: Option<i64>) {
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut)
        && spec.remove("ephemeralContainers").is_some()
    {
        draft.note(
            Fate::NotCarriedOver,
            "spec.template.spec.ephemeralContainers",
            "no template can have them",
        );
    }
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
        let labels = metadata.get_mut("labels").and_then(Value::as_object_mut);
        if let Some(labels) = labels {
            labels.retain(|key, _| key != "molt.dev/service" && key != "molt.dev/revision");
        }
    }
    let port = port
        .or_else(|| first_port(&template))
        .filter(|port| (1..=65535).contains(port));
    if port.is_none() {
        draft.note(
            Fate::Approximated,
            "spec.port",
            "PLACEHOLDER: no Service and no containerPort says which port serves: 8000 is a guess",
        );
    }
    draft.set("port", json!(port.unwrap_or(8000)));
    let server = server(&template);
    if server == "custom" {
        draft.note(Fate::Approximated, "spec.runtime.server", "no command names uvicorn, gunicorn, hypercorn or granian, so it is custom: set it if one of them serves");
    }
    draft.set("runtime", json!({"server": server}));
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    let probed = containers.is_some_and(|all| {
        all.iter()
            .any(|c| c.get("readinessProbe").is_some_and(Value::is_object))
    });
    if !probed {
        draft.note(Fate::Approximated, "spec.template", "no container has a readinessProbe: a pod that starts gets requests that it can't answer yet; add one");
    }
    draft.set("template", template);
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    template
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn first_port(template: &Value) -> Option<i64> {
    containers(template).find_map(|c| c.pointer("/ports/0/containerPort")?.as_i64())
}

/// The server that a command names; shells and interpreters name it in their arguments.
fn server(template: &Value) -> &'static str {
    let words = |container: &Value| {
        let of = |part: &str| {
            container
                .get(part)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let all = of("command").into_iter().chain(of("args"));
        all.filter_map(|word| Some(word.as_str()?.to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let said: String = containers(template).map(words).collect::<Vec<_>>().join(" ");
    // `gunicorn -k uvicorn.workers…` is gunicorn.
    ["gunicorn", "hypercorn", "granian", "uvicorn"]
        .into_iter()
        .find(|s| said.contains(s))
        .unwrap_or("custom")
}

/// The Service that leads to the pods of a template.
fn service_of<'a>(template: &Value, near: &Object, all: &'a [Object]) -> Option<&'a Object> {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object)?;
    all.iter().find(|object| {
        let selector = object.value.pointer("/spec/selector").and_then(Value::as_object);
        let leads = |selector: &Map<String, Value>| {
            !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        object.kind == "Service"
            && object.api_version == "v1"
            && object.is_near(near)
            && selector.is_some_and(leads)
    })
}

/// Services that keep each caller at one pod: those of revisions don't.
pub(super) fn sessions<'a>(draft: &mut Draft, services: impl IntoIterator<Item = &'a Object>) {
    for service in services {
        let kept = service.value.pointer("/spec/sessionAffinity");
        if kept.is_some_and(|kept| kept == "ClientIP") {
            let field = format!("Service/{} spec.sessionAffinity", service.name);
            let why = "the Services of revisions keep no caller at a pod; for users who stay on the revision that they met first write traffic.gatewayAPI.sessionAffinity (docs/traffic.md)";
            draft.note(Fate::NotCarriedOver, field, why);
        }
    }
}

/// The port of the pods that a Service leads to.
pub(super) fn target_port(service: &Object, template: &Value) -> Option<i64> {
    let port = service.value.pointer("/spec/ports/0")?;
    let target = port.get("targetPort").or_else(|| port.get("port"))?;
    port_number(target, template)
}

/// Tells of what callers of a Service use and the operator's own Service will not have.
pub(super) fn other_ports(draft: &mut Draft, service: &Object, port: Option<i64>) {
    let ports = service.value.pointer("/spec/ports").and_then(Value::as_array);
    let others: Vec<String> = ports
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("port")?.as_i64())
        .filter(|number| Some(*number) != port)
        .map(|number| number.to_string())
        .collect();
    let place = format!("Service/{}", service.name);
    if let (Some(port), false) = (port, others.is_empty()) {
        other_port(draft, format!("{place} spec.ports"), &others.join(", "), port);
    }
    let kind = service.value.pointer("/spec/type").and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| ["NodePort", "LoadBalancer"].contains(kind)) {
        let why = format!(
            "{kind}: the operator's Services are of the type ClusterIP; keep yours, or lead a route to the service"
        );
        draft.note(Fate::NotCarriedOver, format!("{place} spec.type"), why);
    }
}

/// Tells that callers come to another port than that of the pods.
pub(super) fn other_port(draft: &mut Draft, field: String, others: &str, port: i64) {
    let why = format!(
        "callers come to {others}, and the operator's Service listens on the port of the pods, {port}, alone: change the callers, keep your Service beside it under its own name, or use workloadRef (docs/adoption.md)"
    );
    draft.note(Fate::NotCarriedOver, field, why);
}

/// A port by its number, or by the name that a container gives it.
pub(super) fn port_number(port: &Value, template: &Value) -> Option<i64> {
    if let Some(number) = port.as_i64().or_else(|| port.as_str()?.parse().ok()) {
        return Some(number);
    }
    containers(template)
        .flat_map(|c| c.get("ports").and_then(Value::as_array).into_iter().flatten())
        .find(|p| p.get("name") == Some(port))
        .and_then(|p| p.get("containerPort")?.as_i64())
}

/// The route that leads to one of these Services; without one the pods divide the traffic, where they did before, or there
/// is a placeholder.
pub(super) fn lead(draft: &mut Draft, near: &Object, all: &[Object], services: &[String], by_pods: bool) {
    let names_one = |route: &&Object| {
        let backends = rules(route).flat_map(|rule| {
            rule.get("backendRefs")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
        });
        let named = backends.filter_map(|backend| backend.get("name").and_then(Value::as_str));
        route.is(GATEWAY, "HTTPRoute")
            && route.is_near(near)
            && named.into_iter().any(|n| services.iter().any(|s| s == n))
    };
    let found = all.iter().find(names_one).cloned();
    match found {
        Some(route) => by_route(draft, &route),
        None if by_pods => {
            let why = "there is no trafficRouting, so the pods go on dividing the traffic, and a weight is a share of them; for exact weights write traffic.gatewayAPI or traffic.istio (docs/traffic.md)";
            draft.note(Fate::Approximated, "spec.traffic.none", why);
            draft.set("traffic", json!({"none": {}}));
        }
        None => without_route(draft),
    }
}

/// A Service of the name that the operator's own will have stands in its way.
pub(super) fn name_taken(draft: &mut Draft, near: &Object, all: &[Object]) {
    let taken =
        |object: &&Object| object.kind == "Service" && object.name == near.name && object.is_near(near);
    if all.iter().any(|object| taken(&object)) {
        let why = "the operator makes a Service of this name for callers inside the cluster, and takes nobody's away: rename yours, or delete it just before you apply this; callers of a Service that is to stay as it is are best served by workloadRef (docs/adoption.md)";
        draft.note(Fate::Approximated, format!("Service/{}", near.name), why);
    }
}

fn rules(route: &Object) -> impl Iterator<Item = &Value> {
    route
        .value
        .pointer("/spec/rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// By a route that is in the files: a plain one is made anew, another one stays the user's.
pub(super) fn by_route(draft: &mut Draft, route: &Object) {
    let parents = route
        .value
        .pointer("/spec/parentRefs")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_plain = |rule: &Value| {
        let matches = rule
            .get("matches")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let all = |m: &Value| {
            m.as_object().is_some_and(|m| m.keys().all(|k| k == "path"))
                && m.pointer("/path/value").is_none_or(|v| v == "/")
        };
        let others = rule.as_object().is_some_and(|rule| {
            rule.keys()
                .all(|k| matches!(k.as_str(), "matches" | "backendRefs" | "name"))
        });
        others && matches.iter().all(all)
    };
    let plain = rules(route).count() == 1 && rules(route).all(is_plain);
    let usable: Vec<Value> = parents.iter().filter_map(parent).collect();
    // A route that Molt owns has the service's name, so one of that name can't be beside it.
    if !plain || usable.is_empty() || usable.len() > 8 || draft.name() == route.name {
        own_route(draft, &route.name);
        return;
    }
    let mut gateway = json!({"parentRefs": usable});
    let hosts: Vec<&Value> = route
        .value
        .pointer("/spec/hostnames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|h| h.is_string())
        .collect();
    if !hosts.is_empty() && hosts.len() <= 16 {
        gateway["hostnames"] = json!(hosts);
    }
    let why = "Molt makes a route of its own with these parents and hosts: delete this one when the service is Healthy";
    draft.note(Fate::Approximated, format!("HTTPRoute/{}", route.name), why);
    draft.set("traffic", json!({"gatewayAPI": gateway}));
}

/// A reference to a Gateway, or to a Service of a mesh, with the fields that a PythonService has.
pub(super) fn parent(reference: &Value) -> Option<Value> {
    let name = reference
        .get("name")?
        .as_str()
        .filter(|name| !name.is_empty() && name.len() <= 253)?;
    let kind = reference.get("kind").and_then(Value::as_str).unwrap_or("Gateway");
    let mut parent = json!({"name": name});
    for field in ["namespace", "sectionName"] {
        if let Some(value) = reference.get(field).and_then(Value::as_str) {
            parent[field] = json!(value);
        }
    }
    if kind == "Service" {
        parent["kind"] = json!(kind);
    }
    if let Some(port) = reference
        .get("port")
        .and_then(Value::as_i64)
        .filter(|p| (1..=65535).contains(p))
    {
        parent["port"] = json!(port);
    }
    ["Gateway", "Service"].contains(&kind).then_some(parent)
}

/// By a route of the user's own.
pub(super) fn own_route(draft: &mut Draft, name: &str) {
    if name.is_empty() || name.len() > 253 {
        without_route(draft);
        return;
    }
    let why = "stays yours: name the backends <service>-stable with weight 100 and <service>-canary with weight 0 in it, in place of those of the tool before";
    draft.note(Fate::Approximated, format!("HTTPRoute/{name}"), why);
    draft.set("traffic", json!({"gatewayAPI": {"httpRouteRef": {"name": name}}}));
}

/// Nothing says how users come.
pub(super) fn without_route(draft: &mut Draft) {
    draft.note(Fate::Approximated, "spec.traffic.gatewayAPI.parentRefs", "PLACEHOLDER: no Gateway is known: write yours in place of change-me, and hostnames if it has other routes");
    draft.set(
        "traffic",
        json!({"gatewayAPI": {"parentRefs": [{"name": "change-me"}]}}),
    );
}

/// An autoscaler owns the number of pods: it is left out, and the autoscaler has to aim at the PythonService.
pub(super) fn scaled(draft: &mut Draft, object: &Object, all: &[Object], kinds: &[&str]) {
    let aims = |scaler: &&Object| {
        let at = |field: &str| {
            scaler
                .value
                .pointer(&format!("/spec/scaleTargetRef/{field}"))
                .and_then(Value::as_str)
        };
        let kind = at("kind").is_none_or(|kind| kinds.contains(&kind));
        matches!(scaler.kind.as_str(), "HorizontalPodAutoscaler" | "ScaledObject")
            && kind
            && at("name") == Some(&object.name)
            && scaler.is_near(object)
    };
    if let Some(scaler) = all.iter().find(aims) {
        aimed(draft, &scaler.kind, &scaler.name, &object.name);
    }
}

pub(super) fn aimed(draft: &mut Draft, kind: &str, name: &str, service: &str) {
    draft.unset("replicas");
    let why = format!(
        "owns the number of pods, so replicas is left out: aim its scaleTargetRef at apiVersion molt.dev/v1alpha1, kind PythonService, name {service}"
    );
    draft.note(Fate::Approximated, format!("{kind}/{name}"), why);
}

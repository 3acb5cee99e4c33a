//! Traffic that Istio divides, by the VirtualService of another tool.

use serde_json::{Value, json};

use super::draft::{Draft, Fate};
use super::input::{Fields, Object, Wrong};

const GROUP: &str = "networking.istio.io";
/// Hosts and Gateways of a VirtualService that Molt owns.
const MOST_HOSTS: usize = 16;
const MOST_GATEWAYS: usize = 8;

/// A Rollout names the object, so that what becomes of it is told there.
pub(super) fn is_named(object: &Object, rollout: &Object) -> bool {
    if !super::argo::is_rollout(rollout) || !rollout.is_near(object) {
        return false;
    }
    let istio = rollout
        .value
        .pointer("/spec/strategy/canary/trafficRouting/istio");
    let names = |field: &str| {
        let said = istio
            .and_then(|istio| istio.get(field))
            .cloned()
            .unwrap_or_default();
        let list = said.as_array().cloned().unwrap_or_else(|| vec![said]);
        let name = |one: &Value| Some(one.get("name")?.as_str()?.rsplit('/').next()?.to_owned());
        list.iter().filter_map(name).any(|name| name == object.name)
    };
    match object.kind.as_str() {
        "VirtualService" => names("virtualService") || names("virtualServices"),
        "DestinationRule" => names("destinationRule"),
        _ => false,
    }
}

/// `trafficRouting.istio` of a Rollout.
pub(super) fn argo(
    draft: &mut Draft,
    istio: &mut Fields,
    all: &[Object],
    object: &Object,
) -> Result<(), Wrong> {
    let mut services: Vec<Fields> = istio.maybe("virtualService")?.into_iter().collect();
    services.extend(istio.each("virtualServices")?);
    let mut names = Vec::new();
    for mut service in services {
        let path = service.path("name");
        // It may be `namespace/name`; a service uses one of its own namespace.
        if let Some(name) = service.text("name")? {
            let short = name.rsplit('/').next().unwrap_or_default().to_owned();
            names.push((path, short));
        }
        draft.rest(&service, |field| match field {
            "routes" => Some("Molt changes the weights in every rule that names both <service>-stable and <service>-canary"),
            "tlsRoutes" | "tcpRoutes" => {
                Some("rules for tls and tcp are divided as those for http are, by the same two names")
            }
            _ => None,
        });
    }
    if let Some(mut rule) = istio.maybe("destinationRule")? {
        let name = rule.text("name")?.unwrap_or_default();
        let why = "each revision has a Service of its own in place of a subset: what it says of connections goes to a DestinationRule for each of the two hosts";
        draft.note(Fate::NotCarriedOver, format!("DestinationRule/{name}"), why);
        rule.take("canarySubsetName");
        rule.take("stableSubsetName");
        draft.rest(&rule, |_| None);
    }
    for (_, other) in names.iter().skip(1) {
        let why = "a service has one VirtualService";
        draft.note(Fate::NotCarriedOver, format!("VirtualService/{other}"), why);
    }
    if let Some((path, name)) = names.first() {
        let found = all
            .iter()
            .find(|o| o.is(GROUP, "VirtualService") && o.name == *name && o.is_near(object));
        by_virtual_service(draft, path, name, found);
    }
    draft.rest(istio, |_| None);
    Ok(())
}

/// One that is plain is made anew, another one stays the user's.
fn by_virtual_service(draft: &mut Draft, path: &str, name: &str, found: Option<&Object>) {
    if name.is_empty() || name.len() > 253 {
        draft.note(Fate::NotCarriedOver, path, "is no name of a VirtualService");
        return;
    }
    // One that Molt owns has the service's name, so one of that name can't be beside it.
    let made = found.filter(|found| found.name != draft.name()).and_then(anew);
    let stays = "stays yours: name the hosts <service>-stable with weight 100 and <service>-canary with weight 0 in it, in place of those, or the subsets, of the tool before";
    let anew = "Molt makes a VirtualService of its own with these hosts and gateways: delete this one when the service is Healthy";
    let (why, istio) = made.map_or_else(
        || (stays, json!({"virtualServiceRef": {"name": name}})),
        |istio| (anew, istio),
    );
    draft.note(Fate::Approximated, format!("VirtualService/{name}"), why);
    draft.set("traffic", json!({"istio": istio}));
}

/// `traffic.istio` of a VirtualService that divides all requests and does nothing else.
fn anew(found: &Object) -> Option<Value> {
    let spec = found.value.get("spec")?.as_object()?;
    let known = |key: &String| matches!(key.as_str(), "hosts" | "gateways" | "http");
    let [rule] = spec.get("http")?.as_array()?.as_slice() else {
        return None;
    };
    let plain = |key: &String| matches!(key.as_str(), "name" | "route");
    if !spec.keys().all(known) || !rule.as_object()?.keys().all(plain) {
        return None;
    }
    let list = |field: &str| {
        let list = spec.get(field).and_then(Value::as_array);
        texts(list.map_or(&[][..], Vec::as_slice))
    };
    written(&list("hosts"), &list("gateways"))
}

fn texts(list: &[Value]) -> Vec<String> {
    let texts = list.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// `None` where such a VirtualService can't be asked for.
fn written(hosts: &[String], gateways: &[String]) -> Option<Value> {
    let in_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
    let fits = (1..=MOST_HOSTS).contains(&hosts.len()) && gateways.len() <= MOST_GATEWAYS;
    if !fits || (in_mesh && hosts.iter().any(|host| host == "*")) {
        return None;
    }
    let mut istio = json!({"hosts": hosts});
    if !gateways.is_empty() {
        istio["gateways"] = json!(gateways);
    }
    Some(istio)
}

/// `service` of a Canary whose provider is Istio. Flagger makes the VirtualService, so Molt does.
pub(super) fn flagger(draft: &mut Draft, service: &mut Fields, apex: &str) -> Result<(), Wrong> {
    let (at_hosts, at_gateways) = (service.path("hosts"), service.path("gateways"));
    let mut hosts = texts(&service.list("hosts")?);
    let gateways = texts(&service.list("gateways")?);
    // As Flagger does: callers in the mesh come by the Service's name.
    if !hosts.iter().any(|host| host == apex || host == "*") {
        hosts.push(apex.to_owned());
    }
    if let Some(istio) = written(&hosts, &gateways) {
        draft.set("traffic", json!({"istio": istio}));
    } else {
        let why = format!(
            "{} hosts with {} gateways: at most {MOST_HOSTS} and {MOST_GATEWAYS} can be asked for, and * only at gateways other than mesh; the Service's own name in the mesh is left",
            hosts.len(),
            gateways.len()
        );
        draft.note(Fate::NotCarriedOver, at_hosts, why);
        if !gateways.is_empty() {
            draft.note(Fate::NotCarriedOver, at_gateways, "goes with its hosts");
        }
        draft.set("traffic", json!({"istio": {"hosts": [apex]}}));
    }
    let made = format!("VirtualService/{apex}");
    let why = "Flagger's own goes with its Canary: until then both are for the same hosts, and Istio follows one of them";
    draft.note(Fate::Approximated, made, why);
    Ok(())
}

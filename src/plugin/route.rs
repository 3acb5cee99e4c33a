//! How the traffic is taken away when no operator does it: a patch of the route's weights.

use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use super::connect::Cluster;

mod beside;

use crate::api::v1alpha1::{Protocol, PythonService, Traffic};
use crate::traffic::gateway_api::{GRPC_ROUTE, HTTP_ROUTE as HTTP_ROUTE_KIND};
use crate::traffic::istio::{Destination, VIRTUAL_SERVICE as VIRTUAL_SERVICE_KIND};
use crate::traffic::rules_owners::Kind;

/// How the traffic is taken from the canary.
pub struct TakeAway {
    routes: Api<DynamicObject>,
    /// The route.
    pub name: String,
    kind: &'static str,
    namespace: String,
    /// The JSON Patch; `None` while the route gives the canary no traffic.
    pub patch: Option<Value>,
    /// What the patch leaves, and what else a person may do about it.
    beside: Vec<String>,
}

impl TakeAway {
    /// Reads the route as it is.
    ///
    /// # Errors
    ///
    /// Why no patch can be given.
    pub async fn find(cluster: &Cluster, service: &PythonService) -> Result<Self, String> {
        if let Some(advice) = without_a_router(service, &cluster.namespace) {
            return Err(advice);
        }
        if let Some(why) = beside::nowhere_to_go(service) {
            return Err(why);
        }
        let name = route_name(service);
        let kind = kind_of(service);
        let gvk = GroupVersionKind::gvk(kind.group, "v1", kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let routes: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
        match routes.get(&name).await {
            Ok(route) => Ok(Self {
                patch: patch(service, &route.data),
                beside: beside::notes(service, &route.data),
                namespace: cluster.namespace.clone(),
                routes,
                name,
                kind: kind.kind,
            }),
            Err(error) => Err(format!(
                "the route {name} can't be read ({}), so no patch can be given for it",
                super::Failure::from(error)
            )),
        }
    }

    /// What a person may apply.
    pub fn advice(&self) -> String {
        let advice = match &self.patch {
            Some(patch) => format!(
                "this takes the traffic away from the canary without the operator:\n\n  kubectl patch {} {} -n {} --type=json -p '{patch}'\n\nabort --direct does it by itself; an operator that comes back takes either for an abort",
                self.kind.to_lowercase(),
                self.name,
                self.namespace
            ),
            None => format!("the route {} gives the canary no traffic now", self.name),
        };
        self.with_notes(advice)
    }

    fn with_notes(&self, text: String) -> String {
        self.beside
            .iter()
            .fold(text, |text, note| format!("{text}\n\n{note}"))
    }

    /// Applies it, and says what is so now.
    ///
    /// # Errors
    ///
    /// The API server refuses it, or the route has changed meanwhile.
    pub async fn apply(&self) -> Result<String, super::Failure> {
        let Some(patch) = &self.patch else {
            return Ok(self.advice());
        };
        let patch: json_patch::Patch = serde_json::from_value(patch.clone())
            .map_err(|error| super::Failure::Other(error.to_string()))?;
        let params = PatchParams {
            // The operator knows by it that this was a person.
            field_manager: Some("kubectl-molt".to_owned()),
            ..PatchParams::default()
        };
        let patch: Patch<()> = Patch::Json(patch);
        self.routes.patch(&self.name, &params, &patch).await?;
        Ok(self.with_notes(format!(
            "{} {} gives all traffic to stable now; an operator that comes back takes that for an abort",
            self.kind, self.name
        )))
    }
}

/// Where no router divides the traffic there is no route to patch, but a Service; and of workers their ReplicaSets.
fn without_a_router(service: &PythonService, namespace: &str) -> Option<String> {
    if service.spec.traffic.is_none() {
        let status = service.status.as_ref()?;
        let (stable, canary) = (
            &status.stable.as_ref()?.revision,
            &status.canary.as_ref()?.revision,
        );
        let (name, pods) = (service.name_any(), service.spec.replicas.unwrap_or(1));
        return Some(format!(
            "nobody calls workers, so there is no route, and nothing that --direct could patch; this stops the canary's pods, and starts stable's where they are gone, as long as the operator is away:\n\n  kubectl scale replicaset {name}-{canary} -n {namespace} --replicas=0\n  kubectl scale replicaset {name}-{stable} -n {namespace} --replicas={pods}\n"
        ));
    }
    service.spec.traffic.as_ref()?.none.as_ref()?;
    let stable = &service.status.as_ref()?.stable.as_ref()?.revision;
    let patch = json!({"spec": {"selector": {"molt.dev/revision": stable}}});
    Some(format!(
        "there is no route, and nothing that --direct could patch; this leads callers of the Service to stable alone, without the operator:\n\n  kubectl patch service {} -n {namespace} --type=merge -p '{patch}'\n",
        service.name_any()
    ))
}

fn kind_of(service: &PythonService) -> &'static Kind {
    let spec = &service.spec;
    match spec.traffic.as_ref().and_then(|t| t.istio.as_ref()) {
        Some(_) => &VIRTUAL_SERVICE_KIND,
        None if spec.protocol == Some(Protocol::Grpc) => &GRPC_ROUTE,
        None => &HTTP_ROUTE_KIND,
    }
}

/// The route that divides the traffic, as `kubectl` takes it: its kind, and its name.
pub(super) fn object_of(service: &PythonService) -> (String, String) {
    (kind_of(service).kind.to_lowercase(), route_name(service))
}

fn route_name(service: &PythonService) -> String {
    let own = service.spec.traffic.as_ref().and_then(Traffic::own_route);
    own.map_or_else(|| service.name_any(), str::to_owned)
}

/// How a kind of route is made, as far as weights are concerned.
struct Shape {
    /// Its lists of rules.
    lists: &'static [&'static str],
    /// A rule's list of backends.
    backends: &'static str,
    /// Where a backend has its name.
    name: &'static str,
    /// Where a rule has the name of who gets copies.
    copies: &'static str,
    /// The weight of a backend that says none.
    absent: i64,
}

const HTTP_ROUTE: Shape = Shape {
    lists: &["rules"],
    backends: "backendRefs",
    name: "/name",
    copies: "/filters/0/requestMirror/backendRef/name",
    absent: 1,
};

const VIRTUAL_SERVICE: Shape = Shape {
    lists: &["http", "tls", "tcp"],
    backends: "route",
    name: "/destination/host",
    copies: "/mirror/host",
    absent: 0,
};

impl Shape {
    fn of(service: &PythonService) -> &'static Self {
        match service.spec.traffic.as_ref().and_then(|t| t.istio.as_ref()) {
            Some(_) => &VIRTUAL_SERVICE,
            None => &HTTP_ROUTE,
        }
    }

    /// The name at a place, if it is this Service of the namespace.
    fn is(object: &Value, place: &str, namespace: &str, service: &str) -> bool {
        let host = object.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let destination = Destination {
            host: host.to_owned(),
            ..Destination::default()
        };
        destination.service(namespace) == Some(service)
    }
}

/// A JSON Patch that gives all traffic to stable; each change is guarded by the name that it is meant for.
/// `None` when the canary has no weight, or it is not known which backend is stable.
pub fn patch(service: &PythonService, route: &Value) -> Option<Value> {
    let status = service.status.as_ref()?;
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let owned = service
        .spec
        .traffic
        .as_ref()
        .and_then(Traffic::own_route)
        .is_none();
    let (stable, canary) = if owned {
        let of = |side: Option<&crate::api::v1alpha1::RevisionStatus>| side.map(|s| s.revision.clone());
        (
            format!("{name}-{}", of(status.stable.as_ref())?),
            format!("{name}-{}", of(status.canary.as_ref())?),
        )
    } else {
        (format!("{name}-stable"), format!("{name}-canary"))
    };
    let shape = Shape::of(service);
    let named = |backend: &Value, service: &str| Shape::is(backend, shape.name, &namespace, service);
    let mut operations = Vec::new();
    let mut exposed = false;
    let mut removals = Vec::new();
    let rules = shape.lists.iter().flat_map(|list| {
        let rules = route["spec"][*list].as_array().map_or(&[][..], Vec::as_slice);
        let place = move |(r, rule)| (format!("/spec/{list}/{r}"), rule);
        rules.iter().enumerate().map(place)
    });
    for (place, rule) in rules {
        let backends = rule[shape.backends].as_array().map_or(&[][..], Vec::as_slice);
        // Testers and copies have rules of their own in a route that Molt owns: without them the rule for all counts.
        let copies = Shape::is(rule, shape.copies, &namespace, &canary);
        let testers = !backends.is_empty() && backends.iter().all(|b| named(b, &canary));
        if let Some(first) = backends.first()
            && owned
            && (copies || testers)
        {
            removals.push((place, first.pointer(shape.name).cloned()));
            continue;
        }
        // A rule without the stable backend is not about this rollout; it would be left without any.
        if !backends.iter().any(|backend| named(backend, &stable)) {
            continue;
        }
        // At a weight of 0 sessions would go on: the backend goes.
        let sticky = owned && rule["sessionPersistence"].is_object();
        let mut gone = Vec::new();
        for (b, backend) in backends.iter().enumerate() {
            let weight = if named(backend, &stable) {
                100
            } else if named(backend, &canary) {
                0
            } else {
                continue;
            };
            let path = format!("{place}/{}/{b}", shape.backends);
            let name = backend.pointer(shape.name);
            let test = json!({"op": "test", "path": format!("{path}{}", shape.name), "value": name});
            if sticky && weight == 0 {
                exposed = true;
                gone.push([test, json!({"op": "remove", "path": path})]);
                continue;
            }
            exposed |= weight == 0 && backend["weight"].as_i64().unwrap_or(shape.absent) > 0;
            operations.push(test);
            operations.push(json!({"op": "add", "path": format!("{path}/weight"), "value": weight}));
        }
        operations.extend(gone.into_iter().rev().flatten());
    }
    exposed |= !removals.is_empty();
    // From the last to the first, so that no index moves under another.
    for (place, name) in removals.into_iter().rev() {
        let path = format!("{place}/{}/0{}", shape.backends, shape.name);
        operations.push(json!({"op": "test", "path": path, "value": name}));
        operations.push(json!({"op": "remove", "path": place}));
    }
    exposed.then_some(Value::Array(operations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::render::fixtures::progressing;

    fn route(stable: i64, canary: i64) -> Value {
        json!({"spec": {"rules": [
            {"backendRefs": [{"name": "elsewhere", "weight": 1}]},
            {"backendRefs": [
                {"name": "checkout-5b6c7d0000", "weight": stable},
                {"name": "checkout-7d9f8c0000", "weight": canary},
            ]},
        ]}})
    }

    #[test]
    fn the_patch_touches_only_the_weights_of_the_rollout_and_guards_them() {
        assert_eq!(
            patch(&progressing(), &route(75, 25)),
            Some(json!([
                {"op": "test", "path": "/spec/rules/1/backendRefs/0/name", "value": "checkout-5b6c7d0000"},
                {"op": "add", "path": "/spec/rules/1/backendRefs/0/weight", "value": 100},
                {"op": "test", "path": "/spec/rules/1/backendRefs/1/name", "value": "checkout-7d9f8c0000"},
                {"op": "add", "path": "/spec/rules/1/backendRefs/1/weight", "value": 0},
            ]))
        );
    }

    #[test]
    fn where_users_stay_on_a_revision_the_canary_is_taken_out() {
        let mut route = route(75, 25);
        let rule = &mut route["spec"]["rules"][1];
        rule["sessionPersistence"] = json!({"sessionName": "molt", "type": "Cookie"});
        let patch: json_patch::Patch =
            serde_json::from_value(patch(&progressing(), &route).unwrap()).unwrap();
        json_patch::patch(&mut route, &patch).unwrap();
        let left = json!([{"name": "checkout-5b6c7d0000", "weight": 100}]);
        assert_eq!(route["spec"]["rules"][1]["backendRefs"], left);
        assert_eq!(super::patch(&progressing(), &route), None);
    }

    #[test]
    fn testers_and_copies_are_taken_away_too() {
        let mut route = route(100, 0);
        let rules = route["spec"]["rules"].as_array_mut().unwrap();
        let split = rules[1]["backendRefs"].clone();
        let copies = json!([{"requestMirror": {"backendRef": {"name": "checkout-7d9f8c0000"}}}]);
        rules.push(json!({"backendRefs": split, "filters": copies}));
        rules.push(json!({"backendRefs": [{"name": "checkout-7d9f8c0000", "weight": 1}]}));
        let patch: json_patch::Patch =
            serde_json::from_value(patch(&progressing(), &route).unwrap()).unwrap();
        json_patch::patch(&mut route, &patch).unwrap();
        assert_eq!(route, self::route(100, 0));
    }

    fn by_istio(own: Option<&str>) -> PythonService {
        let mut service = progressing();
        let traffic = service.spec.traffic.get_or_insert_default();
        traffic.gateway_api = None;
        traffic.istio = Some(crate::api::v1alpha1::Istio {
            hosts: own.is_none().then(|| vec!["shop".to_owned()]),
            virtual_service_ref: own.map(|name| crate::api::v1alpha1::VirtualServiceRef {
                name: name.to_owned(),
            }),
            ..crate::api::v1alpha1::Istio::default()
        });
        service
    }

    fn share(host: &str, weight: i64) -> Value {
        json!({"destination": {"host": host}, "weight": weight})
    }

    #[test]
    fn a_virtual_service_is_patched_by_its_hosts() {
        let users = json!({"route": [share("checkout-5b6c7d0000", 75), share("checkout-7d9f8c0000", 25)]});
        let testers = json!({"match": [{}], "route": [share("checkout-7d9f8c0000", 100)]});
        let copies = json!({"mirror": {"host": "checkout-7d9f8c0000"}, "route": users["route"]});
        let mut live = json!({"spec": {"http": [testers, copies, users]}});
        let made: json_patch::Patch = serde_json::from_value(patch(&by_istio(None), &live).unwrap()).unwrap();
        json_patch::patch(&mut live, &made).unwrap();
        let wanted = json!({"route": [share("checkout-5b6c7d0000", 100), share("checkout-7d9f8c0000", 0)]});
        assert_eq!(live["spec"]["http"], json!([wanted]));
        assert_eq!(patch(&by_istio(None), &live), None);

        let namespace = by_istio(None).namespace().unwrap_or_default();
        let full = format!("checkout-canary.{namespace}.svc.cluster.local");
        let own = json!({"spec": {"tls": [{"route": [share("checkout-stable", 90), share(&full, 10)]}]}});
        assert_eq!(
            patch(&by_istio(Some("front")), &own),
            Some(json!([
                {"op": "test", "path": "/spec/tls/0/route/0/destination/host", "value": "checkout-stable"},
                {"op": "add", "path": "/spec/tls/0/route/0/weight", "value": 100},
                {"op": "test", "path": "/spec/tls/0/route/1/destination/host", "value": full},
                {"op": "add", "path": "/spec/tls/0/route/1/weight", "value": 0},
            ]))
        );
    }

    #[test]
    fn without_a_router_the_service_is_what_is_patched() {
        let mut service = progressing();
        assert_eq!(without_a_router(&service, "shop"), None);
        let traffic = service.spec.traffic.get_or_insert_default();
        traffic.gateway_api = None;
        traffic.none = Some(crate::api::v1alpha1::NoRouter {});
        let advice = without_a_router(&service, "shop").unwrap();
        assert!(
            advice.contains("kubectl patch service checkout -n shop"),
            "{advice}"
        );
        assert!(advice.contains(r#""molt.dev/revision":"5b6c7d0000""#), "{advice}");
    }

    #[test]
    fn a_canary_without_traffic_needs_no_patch() {
        assert_eq!(patch(&progressing(), &route(100, 0)), None);
    }
}

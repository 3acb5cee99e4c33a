//! What the simulated server does, request by request.

use http::Method;
use jiff::Timestamp;
use molt_sim_api::{Answer, ApiServer, Call, builtin};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
const SERVICE: &str = "/api/v1/namespaces/shop/services/a";
const ROUTE: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/r";

fn server() -> ApiServer {
    ApiServer::new(builtin::kinds(), Timestamp::UNIX_EPOCH)
}

fn ask(server: &mut ApiServer, method: Method, path: &str, kind: &str, body: Value) -> Answer {
    server.handle(&Call::new(method, path, kind, body))
}

fn apply(server: &mut ApiServer, path: &str, query: &str, body: Value) -> Answer {
    let path = format!("{path}?{query}");
    ask(server, Method::PATCH, &path, "application/apply-patch+yaml", body)
}

fn merge(server: &mut ApiServer, path: &str, body: Value) -> Answer {
    let path = format!("{path}?fieldManager=person");
    ask(server, Method::PATCH, &path, "application/merge-patch+json", body)
}

fn create(server: &mut ApiServer, name: &str) -> Answer {
    let body = json!({"metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}});
    ask(server, Method::POST, MAPS, "application/json", body)
}

fn ports(ports: &Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"ports": ports}})
}

#[test]
fn a_name_is_taken_once_and_a_version_is_written_once() {
    let mut server = server();
    let made = create(&mut server, "a");
    assert_eq!(made.code, 201);
    let again = create(&mut server, "a");
    assert_eq!(
        (again.code, &again.body["reason"]),
        (409, &json!("AlreadyExists"))
    );
    let mut object = Value::clone(&made.body);
    object["data"]["k"] = json!("w");
    let path = format!("{MAPS}/a");
    let replaced = ask(
        &mut server,
        Method::PUT,
        &path,
        "application/json",
        object.clone(),
    );
    assert_eq!(replaced.code, 200);
    let stale = ask(&mut server, Method::PUT, &path, "application/json", object);
    assert_eq!((stale.code, &stale.body["reason"]), (409, &json!("Conflict")));
}

#[test]
fn a_write_that_changes_nothing_makes_no_version() {
    let mut server = server();
    let body = || ports(&json!([{"port": 80, "targetPort": 1}]));
    assert!(apply(&mut server, SERVICE, "fieldManager=one", body()).changed);
    assert!(!apply(&mut server, SERVICE, "fieldManager=one", body()).changed);
    assert!(!merge(&mut server, SERVICE, json!({"spec": {"type": "ClusterIP"}})).changed);
}

#[test]
fn the_owner_of_a_field_is_named_and_loses_it_by_force_alone() {
    let mut server = server();
    apply(
        &mut server,
        SERVICE,
        "fieldManager=one",
        ports(&json!([{"port": 80, "targetPort": 1}])),
    );
    let other = || ports(&json!([{"port": 80, "targetPort": 2}]));
    let refused = apply(&mut server, SERVICE, "fieldManager=two", other());
    assert_eq!(refused.code, 409);
    let cause = &refused.body["details"]["causes"][0];
    assert_eq!(cause["reason"], "FieldManagerConflict");
    assert_eq!(cause["message"], "conflict with \"one\"");
    assert_eq!(cause["field"], ".spec.ports[port=80,protocol=\"TCP\"].targetPort");
    assert_eq!(
        apply(&mut server, SERVICE, "fieldManager=two&force=true", other()).code,
        200
    );
    let now = apply(
        &mut server,
        SERVICE,
        "fieldManager=one",
        ports(&json!([{"port": 80, "targetPort": 1}])),
    );
    assert_eq!(now.code, 409, "it is the other's now");
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_else_owns_it() {
    let mut server = server();
    let both = || ports(&json!([{"name": "x", "port": 80}, {"name": "y", "port": 81}]));
    apply(&mut server, SERVICE, "fieldManager=one", both());
    let kept = || ports(&json!([{"name": "y", "port": 81}]));
    apply(&mut server, SERVICE, "fieldManager=two", kept());
    let left = apply(&mut server, SERVICE, "fieldManager=one", ports(&json!([])));
    let names: Vec<&Value> = left.body["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert_eq!(names, ["y"]);
}

#[test]
fn the_rules_of_a_route_are_one_value() {
    let mut server = server();
    let route = |weight: u8| json!({"metadata": {"name": "r"}, "spec": {"rules": [{"backendRefs": [{"name": "s", "weight": weight}]}]}});
    apply(&mut server, ROUTE, "fieldManager=one", route(1));
    let refused = apply(&mut server, ROUTE, "fieldManager=two", route(2));
    assert_eq!(refused.body["details"]["causes"][0]["field"], ".spec.rules");
}

#[test]
fn spec_and_status_are_written_apart_and_the_spec_alone_has_generations() {
    let mut server = server();
    apply(
        &mut server,
        ROUTE,
        "fieldManager=one",
        json!({"metadata": {"name": "r"}, "spec": {"hostnames": ["a"]}}),
    );
    let status = json!({"spec": {"hostnames": ["b"]}, "status": {"parents": []}});
    let written = merge(&mut server, &format!("{ROUTE}/status"), status);
    assert_eq!(written.body["spec"]["hostnames"], json!(["a"]));
    assert_eq!(written.body["status"], json!({"parents": []}));
    assert_eq!(written.body["metadata"]["generation"], 1);
    let written = merge(
        &mut server,
        ROUTE,
        json!({"spec": {"hostnames": ["b"]}, "status": null}),
    );
    assert_eq!(written.body["status"], json!({"parents": []}));
    assert_eq!(written.body["metadata"]["generation"], 2);
}

#[test]
fn a_failed_test_is_unprocessable() {
    let mut server = server();
    create(&mut server, "a");
    let patch = json!([{"op": "test", "path": "/data/k", "value": "other"}]);
    let answer = ask(
        &mut server,
        Method::PATCH,
        &format!("{MAPS}/a"),
        "application/json-patch+json",
        patch,
    );
    assert_eq!(answer.code, 422);
}

#[test]
fn a_finalizer_holds_an_object_back() {
    let mut server = server();
    create(&mut server, "a");
    let path = format!("{MAPS}/a");
    merge(
        &mut server,
        &path,
        json!({"metadata": {"finalizers": ["example.com/x"]}}),
    );
    let wrong = json!({"preconditions": {"uid": "another"}});
    assert_eq!(ask(&mut server, Method::DELETE, &path, "", wrong).code, 409);
    let held = ask(&mut server, Method::DELETE, &path, "", json!({}));
    assert!(held.body["metadata"]["deletionTimestamp"].is_string());
    merge(&mut server, &path, json!({"metadata": {"finalizers": null}}));
    assert!(server.object("configmaps", "shop", "a").is_none());
}

#[test]
fn what_is_owned_goes_with_its_last_owner_when_it_is_collected() {
    let mut server = server();
    let owner = create(&mut server, "a").body;
    let reference =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": owner["metadata"]["uid"]});
    let dependent = json!({"metadata": {"name": "b", "ownerReferences": [reference]}});
    ask(&mut server, Method::POST, MAPS, "", dependent);
    assert!(server.collect_garbage().is_empty());
    ask(&mut server, Method::DELETE, &format!("{MAPS}/a"), "", json!({}));
    assert_eq!(server.collect_garbage().len(), 1);
    assert!(server.objects("configmaps").is_empty());
}

#[test]
fn a_watch_tells_what_comes_to_be_selected_and_what_no_longer_is() {
    let mut server = server();
    create(&mut server, "a");
    let path = format!(
        "{MAPS}?watch=true&labelSelector=app%20in%20(a,c)&resourceVersion={}",
        server.store().version()
    );
    let call = Call::new(Method::GET, &path, "", Value::Null);
    let mut watch = server.watch(&call).unwrap();
    create(&mut server, "b");
    for label in ["c", "d"] {
        merge(
            &mut server,
            &format!("{MAPS}/b"),
            json!({"metadata": {"labels": {"app": label}}}),
        );
    }
    let words: Vec<&str> = std::iter::from_fn(|| watch.next(server.store()))
        .map(|event| event.word)
        .collect();
    assert_eq!(words, ["ADDED", "DELETED"]);
    create(&mut server, "e");
    server.expire();
    assert_eq!(watch.next(server.store()).unwrap().object["code"], 410);
    assert!(watch.is_ended());
}

#[test]
fn an_unknown_kind_is_not_found_until_it_is_registered() {
    let mut server = server();
    let kind = builtin::kinds()
        .into_iter()
        .find(|k| k.kind == "HTTPRoute")
        .unwrap();
    let list = kind.path("shop", "");
    server.forget(&kind.resource());
    assert_eq!(ask(&mut server, Method::GET, &list, "", Value::Null).code, 404);
    server.register(kind);
    assert_eq!(ask(&mut server, Method::GET, &list, "", Value::Null).code, 200);
}

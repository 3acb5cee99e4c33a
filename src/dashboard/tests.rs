//! The routes, with a fake in the API server's place that tells who asked it for what.

mod streams;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use kube::Client;
use kube::client::Body as KubeBody;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::plugin::render::fixtures::progressing;

/// What reached the fake: by which client, as whom, for what.
type Seen = Arc<Mutex<Vec<(&'static str, String, String)>>>;

fn fake(by: &'static str, seen: &Seen) -> Client {
    let seen = seen.clone();
    let service = service_fn(move |request: Request<KubeBody>| {
        let header = |name: &str| {
            let all = request.headers().get_all(name).iter();
            all.map(|v| v.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join("+")
        };
        let identity = [
            header("authorization"),
            header("impersonate-user"),
            header("impersonate-group"),
        ]
        .join("|");
        let path = format!("{} {}", request.method(), request.uri().path());
        seen.lock().unwrap().push((by, identity.clone(), path.clone()));
        async move {
            let (status, body) = answer(&identity, &path);
            let response = http::Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(KubeBody::from(serde_json::to_vec(&body).unwrap()));
            Ok::<_, std::convert::Infallible>(response.unwrap())
        }
    });
    Client::new(service, "default")
}

fn refused(code: u16, message: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message, "reason": "No"}),
    )
}

/// Who is ada, or carol by a proxy, may do everything; bob may read nothing; the token of eve has expired.
fn answer(identity: &str, path: &str) -> (u16, Value) {
    let name = if identity.contains("ada") { "ada" } else { "carol" };
    if identity.contains("eve") {
        return refused(401, "Unauthorized");
    }
    let services = "/apis/molt.dev/v1alpha1/namespaces/shop/pythonservices/checkout";
    if path.ends_with("selfsubjectreviews") {
        return (
            201,
            json!({"metadata": {}, "status": {"userInfo": {"username": name, "groups": ["oncall"]}}}),
        );
    }
    if path.ends_with("selfsubjectaccessreviews") {
        return (
            201,
            json!({"metadata": {}, "spec": {}, "status": {"allowed": !identity.contains("bob")}}),
        );
    }
    if identity.contains("bob") {
        return refused(
            403,
            "pythonservices.molt.dev \"checkout\" is forbidden: User \"bob\" cannot get it",
        );
    }
    if path.ends_with(services) {
        return (200, serde_json::to_value(progressing()).unwrap());
    }
    let action = json!({
        "apiVersion": "molt.dev/v1alpha1", "kind": "RolloutAction",
        "metadata": {"name": "checkout-x1", "namespace": "shop", "resourceVersion": "1"},
        "spec": {"service": "checkout", "action": "Abort", "requestedBy": name},
        "status": {"state": "Applied", "message": "attempt 1 goes back to stable"},
    });
    match path {
        "POST /apis/molt.dev/v1alpha1/namespaces/shop/rolloutactions" => (201, action),
        "GET /apis/molt.dev/v1alpha1/namespaces/shop/rolloutactions" => (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [action]}),
        ),
        "GET /apis/apps/v1/namespaces/shop/replicasets" | "GET /api/v1/namespaces/shop/pods" => (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}),
        ),
        _ => refused(404, &format!("{path} not found")),
    }
}

struct Stage {
    app: Arc<App>,
    seen: Seen,
}

fn given(settings: Settings, door: Option<Door>) -> Stage {
    let seen = Seen::default();
    let app = App::with(fake("own", &seen), fake("nobody", &seen), settings, door);
    Stage {
        app: Arc::new(app),
        seen,
    }
}

impl Stage {
    async fn ask(&self, request: Request<Body>) -> Response {
        router(self.app.clone()).oneshot(request).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        json_of(self.ask(request("GET", path, headers, Body::empty())).await).await
    }

    async fn abort(&self, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut all = vec![("content-type", "application/json"), ("host", "molt.example")];
        all.extend(headers);
        let body =
            json!({"action": "Abort", "reason": "INC-12", "seen": {"revision": "7d9f8c0000", "attempt": 1}});
        let path = "/api/ns/shop/services/checkout/actions";
        json_of(
            self.ask(request("POST", path, &all, Body::from(body.to_string())))
                .await,
        )
        .await
    }

    /// By which client, and as whom, this was asked.
    fn asked(&self, what: &str) -> Vec<(&'static str, String)> {
        let seen = self.seen.lock().unwrap();
        let of = seen.iter().filter(|(_, _, path)| path.contains(what));
        of.map(|(by, identity, _)| (*by, identity.clone())).collect()
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body).unwrap();
    let peer: SocketAddr = "10.1.2.3:999".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

async fn json_of(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

const ADA: (&str, &str) = ("authorization", "Bearer ada");
const CHANGE: (&str, &str) = (guard::CHANGE_HEADER, "1");

#[tokio::test]
async fn every_answer_keeps_the_browser_to_what_is_meant() {
    let stage = given(Settings::default(), None);
    for path in [
        "/",
        "/ns/shop/services/checkout",
        "/ns/shop/records/checkout-x-1",
        "/assets/app.js",
        "/api/nowhere",
        "/nowhere",
    ] {
        let response = stage.ask(request("GET", path, &[], Body::empty())).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
    }
    let (status, told) = stage.get("/api/nowhere", &[]).await;
    assert_eq!(
        (status, &told["error"]),
        (StatusCode::NOT_FOUND, &json!("NotFound"))
    );
    let page = stage
        .ask(request("GET", "/assets/app.css", &[], Body::empty()))
        .await;
    let tag = page.headers()["etag"].to_str().unwrap().to_owned();
    let again = stage
        .ask(request(
            "GET",
            "/assets/app.css",
            &[("if-none-match", &tag)],
            Body::empty(),
        ))
        .await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn nobody_sees_anything_without_signing_in() {
    let stage = given(Settings::default(), None);
    for path in [
        "/api/stream",
        "/api/records",
        "/api/ns/shop/services/checkout",
        "/api/ns/shop/records/x",
        "/api/ns/shop/pods/x/log",
    ] {
        let (status, told) = stage.get(path, &[]).await;
        assert_eq!(
            (status, &told["error"]),
            (StatusCode::UNAUTHORIZED, &json!("SignIn")),
            "{path}"
        );
    }
    assert_eq!(stage.abort(&[CHANGE]).await.0, StatusCode::UNAUTHORIZED);
    assert!(stage.get("/api/session", &[]).await.1["signIn"].is_string());
    assert!(
        stage.seen.lock().unwrap().is_empty(),
        "the API server was not asked in anybody's name"
    );
}

#[tokio::test]
async fn what_a_token_may_see_is_asked_with_the_token_alone() {
    let stage = given(Settings::default(), None);
    let (status, shown) = stage.get("/api/ns/shop/services/checkout", &[ADA]).await;
    assert_eq!((status, &shown["name"]), (StatusCode::OK, &json!("checkout")));
    let asked = stage.asked("");
    assert!(
        asked.len() > 2
            && asked
                .iter()
                .all(|(by, who)| *by == "nobody" && who.starts_with("Bearer ada|")),
        "{asked:?}"
    );

    let (status, told) = stage
        .get(
            "/api/ns/shop/services/checkout",
            &[("authorization", "Bearer bob")],
        )
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        told["message"].as_str().unwrap().contains("cannot get it"),
        "{told}"
    );
    let expired = [("cookie", "molt-token=eve")];
    let (status, told) = stage.get("/api/ns/shop/services/checkout", &expired).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        told["message"].as_str().unwrap().contains("has expired"),
        "{told}"
    );
    assert_eq!(
        stage.get("/api/stream", &expired).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        stage.get("/api/ns/shop/records/nothing", &[ADA]).await.0,
        StatusCode::NOT_FOUND
    );
    // What is no name would name another resource.
    for path in [
        "/api/ns/kube-system%2Fconfigmaps%3F/pods/x/log",
        "/api/ns/../records/x",
        "/api/ns/shop/services/..",
    ] {
        assert_eq!(stage.get(path, &[ADA]).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn an_address_with_a_slash_too_many_leads_to_the_page_and_never_elsewhere() {
    let stage = given(Settings::default(), None);
    for (asked, leads) in [
        (
            "/ns/shop/services/checkout/?q=a",
            "/ns/shop/services/checkout?q=a",
        ),
        ("//evil.example/", "/evil.example"),
        ("/\\evil.example/", "/evil.example"),
    ] {
        let answer = stage.ask(request("GET", asked, &[], Body::empty())).await;
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT, "{asked}");
        assert_eq!(answer.headers()["location"], leads, "{asked}");
    }
    let answer = stage.ask(request("GET", "/nowhere", &[], Body::empty())).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
}

#[tokio::test]
async fn a_person_acts_in_their_own_name_and_hears_what_became_of_it() {
    let stage = given(Settings::default(), None);
    let (status, became) = stage.abort(&[ADA, CHANGE]).await;
    assert_eq!(status, StatusCode::OK, "{became}");
    assert_eq!(
        became,
        json!({"name": "checkout-x1", "state": "Applied", "message": "attempt 1 goes back to stable"})
    );
    let made = stage.asked("POST /apis/molt.dev");
    assert_eq!(made, [("nobody", "Bearer ada||".to_owned())]);
    // The service has moved on since the person looked.
    let body = json!({"action": "Abort", "seen": {"revision": "0000000000"}}).to_string();
    let headers = [ADA, CHANGE, ("content-type", "application/json")];
    let late = stage
        .ask(request(
            "POST",
            "/api/ns/shop/services/checkout/actions",
            &headers,
            Body::from(body),
        ))
        .await;
    assert_eq!(late.status(), StatusCode::CONFLICT);
    assert_eq!(stage.asked("POST /apis/molt.dev").len(), 1);
}

#[tokio::test]
async fn no_other_sites_page_can_make_a_browser_act() {
    let stage = given(Settings::default(), None);
    let cookie = ("cookie", "molt-token=ada");
    for headers in [
        &[cookie][..],
        &[cookie, CHANGE, ("sec-fetch-site", "cross-site")],
        &[cookie, CHANGE, ("sec-fetch-site", "same-site")],
        &[cookie, CHANGE, ("origin", "https://evil.example")],
        &[cookie, CHANGE, ("origin", "null")],
    ] {
        assert_eq!(stage.abort(headers).await.0, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert!(stage.seen.lock().unwrap().is_empty());
    // A form can send no JSON.
    let form = [cookie, CHANGE, ("content-type", "text/plain")];
    let response = stage
        .ask(request(
            "POST",
            "/api/ns/shop/services/checkout/actions",
            &form,
            Body::from("{}"),
        ))
        .await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    for headers in [
        &[
            cookie,
            CHANGE,
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://before.the.proxy"),
        ][..],
        &[cookie, CHANGE, ("origin", "https://molt.example")],
    ] {
        assert_eq!(stage.abort(headers).await.0, StatusCode::OK, "{headers:?}");
    }
}

#[tokio::test]
async fn a_guest_looks_with_the_servers_rights_and_changes_nothing() {
    let stage = given(
        Settings {
            guests: true,
            ..Settings::default()
        },
        None,
    );
    assert_eq!(
        stage.get("/api/ns/shop/services/checkout", &[]).await.0,
        StatusCode::OK
    );
    assert!(
        stage
            .asked("")
            .iter()
            .all(|(by, who)| *by == "own" && who == "||")
    );
    assert_eq!(stage.abort(&[CHANGE]).await.0, StatusCode::UNAUTHORIZED);
    assert!(stage.asked("POST").is_empty());
    assert_eq!(stage.get("/api/session", &[]).await.1["guest"], true);
}

#[tokio::test]
async fn a_trusted_proxys_user_is_impersonated() {
    let settings = Settings {
        proxy: TrustedProxy {
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            secret: Some(digest(b"s3cret")),
            user_header: "x-forwarded-user".to_owned(),
            groups_header: "x-forwarded-groups".to_owned(),
        },
        ..Settings::default()
    };
    let stage = given(settings, None);
    let user = ("x-forwarded-user", "carol");
    let groups = ("x-forwarded-groups", "dev,oncall");
    assert_eq!(
        stage.abort(&[user, groups, CHANGE]).await.0,
        StatusCode::FORBIDDEN,
        "without the secret"
    );
    assert!(stage.seen.lock().unwrap().is_empty());
    let secret = (proxy::PROXY_SECRET, "s3cret");
    let (status, became) = stage.abort(&[user, groups, secret, CHANGE]).await;
    assert_eq!(status, StatusCode::OK, "{became}");
    assert_eq!(
        stage.asked("POST /apis/molt.dev"),
        [("own", "|carol|dev+oncall".to_owned())]
    );
    assert!(
        stage.asked("").iter().all(|(_, who)| who == "|carol|dev+oncall"),
        "never by itself"
    );
}

#[tokio::test]
async fn a_link_opens_the_local_dashboard_once() {
    let stage = given(
        Settings::default(),
        Some(Door::new("key", "session".to_owned(), 8123)),
    );
    let host = ("host", "127.0.0.1:8123");
    let service = "/api/ns/shop/services/checkout";
    assert_eq!(
        stage.get(service, &[host, ADA]).await.0,
        StatusCode::UNAUTHORIZED,
        "a token is nobody here"
    );
    let opened = stage
        .ask(request("GET", "/open?token=key", &[host], Body::empty()))
        .await;
    assert_eq!(
        (opened.status(), &opened.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/".parse::<http::HeaderValue>().unwrap())
    );
    let cookie = opened.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let again = stage
        .ask(request("GET", "/open?token=key", &[host], Body::empty()))
        .await;
    assert!(!again.headers().contains_key("set-cookie"));
    let session = ("cookie", cookie.as_str());
    assert_eq!(stage.get(service, &[host, session]).await.0, StatusCode::OK);
    assert_eq!(
        stage
            .get(service, &[("host", "evil.example:8123"), session])
            .await
            .0,
        StatusCode::FORBIDDEN
    );
    assert!(stage.asked("").iter().all(|(by, _)| *by == "own"));
}

#[tokio::test]
async fn signing_in_keeps_the_token_where_scripts_and_other_sites_do_not_get_it() {
    let stage = given(Settings::default(), None);
    let sign_in = async |token: &str, origin: &str| {
        let headers = [
            CHANGE,
            ("content-type", "application/json"),
            ("sec-fetch-site", "same-origin"),
            ("origin", origin),
        ];
        let body = Body::from(json!({"token": token}).to_string());
        stage.ask(request("POST", "/api/session", &headers, body)).await
    };
    let response = sign_in(" ada\n", "https://molt.example").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert_eq!(
        cookie,
        "molt-token=ada; Path=/; HttpOnly; SameSite=Strict; Secure"
    );
    assert_eq!(
        sign_in("eve", "https://molt.example").await.status(),
        StatusCode::UNAUTHORIZED
    );
    for (token, origin) in [
        ("ada", "http://molt.example"),
        ("a;b", "https://molt.example"),
        ("", "https://molt.example"),
    ] {
        let response = sign_in(token, origin).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{token} {origin}");
    }
}

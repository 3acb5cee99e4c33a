//! The dashboard on a real API server: what is written is seen at once, by whoever may, and nobody does what they may not.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use molt::api::v1alpha1::{ActionKind, PythonService};
use molt::dashboard::{Settings, TrustedProxy, digest};
use serde_json::{Value, json};

use crate::support::cluster::{config, service, without_operator};
use crate::support::dashboard::{Cable, Dashboard, account, allow};

/// Longer than it ever takes on a machine that does something else as well.
pub const BOUND: Duration = Duration::from_secs(5);

/// A status as an operator writes it in the middle of an attempt.
pub fn progressing(weight: i32, message: &str) -> Value {
    json!({
        "phase": "Progressing", "message": message, "observedGeneration": 1,
        "stable": {"revision": "5b6c7d0000", "replicas": 2, "ready": 2, "weight": 100 - weight},
        "canary": {"revision": "7d9f8c0000", "replicas": 1, "ready": 1, "weight": weight, "attempt": 1},
        "state": {
            "stable": "5b6c7d0000",
            "attempt": {
                "revision": "7d9f8c0000", "number": 1, "startedAt": "2026-03-01T02:00:00Z",
                "stage": {"name": "Stepping"}, "since": "2026-03-01T02:00:00Z",
                "steps": [{"setWeight": 25}, {"dwell": 60}], "step": 1, "stepSince": "2026-03-01T02:03:00Z",
                "weight": weight, "maxWeight": weight, "measuredTo": "2026-03-01T02:03:15Z",
            },
        },
    })
}

pub async fn say(services: &Api<PythonService>, name: &str, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    services
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .expect("the status is valid");
}

/// What somebody on call may do.
fn on_call() -> Value {
    json!([
        {"apiGroups": ["molt.dev"], "resources": ["pythonservices", "rolloutrecords", "rolloutactions"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["molt.dev"], "resources": ["rolloutactions"], "verbs": ["create"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    ])
}

pub fn is_row<'a>(data: &'a Value, name: &str) -> Option<&'a Value> {
    data["rows"].as_array()?.iter().find(|row| row["name"] == name)
}

#[tokio::test]
async fn a_status_write_is_on_the_page_within_a_moment() {
    let stage = without_operator("dash-live").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    let dashboard = Dashboard::start(config().await, Settings::default()).await;
    let ada = dashboard.person(&account(&stage, "ada", on_call()).await);
    let mut stream = ada.stream().await;
    stream
        .until(BOUND, "the service is there", |_, data| {
            is_row(data, "shop").is_some()
        })
        .await;
    let mut times = Vec::new();
    for weight in 1..=20 {
        let message = format!("<img src=x onerror=alert(1)> at {weight} %");
        let began = Instant::now();
        say(&stage.services(), "shop", progressing(weight, &message)).await;
        let written = began.elapsed();
        stream
            .until(BOUND, "the change is seen", |name, data| {
                let row = is_row(data, "shop").filter(|_| name == "rows");
                row.is_some_and(|row| row["message"] == message && row["canary"]["weight"] == weight)
            })
            .await;
        times.push(began.elapsed().saturating_sub(written));
    }
    times.sort_unstable();
    println!(
        "from the answered status write to the viewer: median {:?}, most {:?}",
        times[10], times[19]
    );
    assert!(times[10] < Duration::from_secs(1), "{times:?}");

    let (status, shown) = ada.get("/api/ns/dash-live/services/shop").await;
    assert_eq!((status, &shown["attempt"]["number"]), (200, &json!(1)), "{shown}");
    stage
        .services()
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    stream
        .until(BOUND, "it is gone", |_, data| {
            data["gone"] == json!(["dash-live/shop"])
        })
        .await;
    let (status, told) = ada.get("/api/ns/dash-live/services/shop").await;
    assert_eq!((status, &told["error"]), (404, &json!("NotFound")));
}

#[tokio::test]
async fn who_may_nothing_sees_nothing_and_does_nothing() {
    let stage = without_operator("dash-rights").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    say(&stage.services(), "shop", progressing(25, "at 25 %")).await;
    // The server's own rights are the administrator's: none of them may be lent.
    let guests = Settings {
        guests: true,
        ..Settings::default()
    };
    let dashboard = Dashboard::start(config().await, guests).await;
    let bob = dashboard.person(&account(&stage, "bob", json!([])).await);
    let path = "/api/ns/dash-rights/services/shop";
    for path in [
        path,
        "/api/ns/dash-rights/services/shop/pods",
        "/api/ns/dash-rights/records/x",
        "/api/records?namespace=dash-rights",
    ] {
        let (status, told) = bob.get(path).await;
        assert_eq!(
            (status, &told["error"]),
            (403, &json!("Forbidden")),
            "{path}: {told}"
        );
    }
    let seen = json!({"revision": "7d9f8c0000", "attempt": 1});
    let abort = json!({"action": "Abort", "reason": "INC-12", "seen": seen});
    let (status, told) = bob.act("dash-rights/services/shop", abort.clone()).await;
    assert_eq!(status, 403, "{told}");
    let mut stream = bob.stream().await;
    let mut nothing = false;
    loop {
        let (name, data) = stream.next().await;
        nothing |= data["nothing"] == true;
        assert!(data["rows"].as_array().is_none_or(Vec::is_empty), "{data}");
        if name == "whole" {
            break;
        }
    }
    assert!(nothing);
    let (status, told) = dashboard.person("no-such-token").get(path).await;
    assert_eq!((status, &told["error"]), (401, &json!("SignIn")));
    let guest = dashboard.person("");
    assert_eq!(guest.get(path).await.0, 200);
    // What pods say is for nobody whom nobody knows, whatever the server may read.
    for path in ["services/shop/pods", "pods/shop-x/log"] {
        let (status, told) = guest.get(&format!("/api/ns/dash-rights/{path}")).await;
        assert_eq!((status, &told["error"]), (403, &json!("Forbidden")), "{path}");
    }
    assert_eq!(guest.act("dash-rights/services/shop", abort.clone()).await.0, 401);
    assert!(
        stage
            .actions()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );

    // Who may, does it in their own name; no operator answers here, and that is said.
    let ada = dashboard.person(&account(&stage, "ada", on_call()).await);
    let (status, became) = ada.act("dash-rights/services/shop", abort).await;
    assert_eq!(status, 200, "{became}");
    assert!(
        became["message"]
            .as_str()
            .unwrap()
            .contains("nobody acknowledged"),
        "{became}"
    );
    let made = stage.actions().list(&ListParams::default()).await.unwrap().items;
    let spec = &made[0].spec;
    assert_eq!(spec.requested_by, "system:serviceaccount:dash-rights:ada");
    assert_eq!((spec.action, spec.attempt), (ActionKind::Abort, Some(1)));
    assert_eq!((made.len(), spec.reason.as_deref()), (1, Some("INC-12")));
}

#[tokio::test]
async fn whom_a_trusted_proxy_names_has_the_rights_of_their_groups() {
    let stage = without_operator("dash-proxy").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    say(&stage.services(), "shop", progressing(25, "at 25 %")).await;
    let group = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "payments-oncall"});
    allow(&stage, "oncall", on_call(), group).await;
    let settings = Settings {
        proxy: TrustedProxy {
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            secret: Some(digest(b"s3cret-of-the-proxy")),
            user_header: "x-forwarded-user".to_owned(),
            groups_header: "x-forwarded-groups".to_owned(),
        },
        ..Settings::default()
    };
    let dashboard = Dashboard::start(config().await, settings).await;
    let path = "/api/ns/dash-proxy/services/shop";
    let (carol, secret) = (
        ("x-forwarded-user", "carol"),
        ("x-molt-proxy-secret", "s3cret-of-the-proxy"),
    );
    let member = ("x-forwarded-groups", "dev, payments-oncall");
    assert_eq!(dashboard.proxied(&[carol, member]).get(path).await.0, 403);
    assert_eq!(dashboard.proxied(&[carol, secret]).get(path).await.0, 403);
    let carol = dashboard.proxied(&[carol, member, secret]);
    let (status, shown) = carol.get(path).await;
    assert_eq!((status, &shown["name"]), (200, &json!("shop")), "{shown}");
    let abort = json!({"action": "Abort", "seen": shown["meant"]["Abort"]});
    assert_eq!(carol.act("dash-proxy/services/shop", abort).await.0, 200);
    let made = stage.actions().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(made[0].spec.requested_by, "carol");
}

#[tokio::test]
async fn an_api_server_that_goes_and_comes_back_is_told_of_and_nothing_is_missed() {
    let stage = without_operator("dash-gone").await;
    stage.apply(service("shop", "shop:good")).await.unwrap();
    stage.apply(service("cart", "cart:good")).await.unwrap();
    let mut through = config().await;
    let cable = Cable::between(&mut through).await;
    let guests = Settings {
        guests: true,
        namespace: Some("dash-gone".to_owned()),
        ..Settings::default()
    };
    let dashboard = Dashboard::start(through, guests).await;
    let guest = dashboard.person("");
    let mut stream = guest.stream().await;
    stream
        .until(BOUND, "all are there", |name, _| name == "whole")
        .await;
    cable.plug(false);
    stream
        .until(BOUND * 3, "it is told", |name, data| {
            name == "standing" && data["connected"] == false
        })
        .await;
    let (status, told) = guest.get("/api/ns/dash-gone/services/shop").await;
    assert_eq!((status, &told["error"]), (503, &json!("Unavailable")), "{told}");
    say(&stage.services(), "shop", progressing(25, "while it was gone")).await;
    stage
        .services()
        .delete("cart", &DeleteParams::default())
        .await
        .unwrap();
    cable.plug(true);
    let (mut connected, mut changed, mut gone) = (false, false, false);
    let all = tokio::time::timeout(BOUND * 3, async {
        while !(connected && changed && gone) {
            let (name, data) = stream.next().await;
            connected |= name == "standing" && data["connected"] == true;
            changed |= is_row(&data, "shop").is_some_and(|row| row["message"] == "while it was gone");
            gone |= data["gone"] == json!(["dash-gone/cart"]);
        }
    });
    assert!(
        all.await.is_ok(),
        "connected {connected}, changed {changed}, gone {gone}"
    );
}

//! The dashboard's server in front of the control plane, and people who look at it.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Config};
use molt::dashboard::{Settings, serve};
use prometheus_http_query::reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cluster::Stage;

/// A server of the dashboard; it ends with the test's runtime.
pub struct Dashboard {
    pub address: String,
}

impl Dashboard {
    /// Given a server with this identity.
    pub async fn start(config: Config, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            serve(listener, config, settings, std::future::pending())
                .await
                .expect("it serves");
        });
        Self { address }
    }

    /// Somebody with this token; an empty one is nobody's.
    pub fn person(&self, token: &str) -> Person {
        Person {
            address: self.address.clone(),
            token: token.to_owned(),
            proxied: Vec::new(),
            client: Client::new(),
        }
    }

    /// Somebody whom a proxy names, by these headers.
    pub fn proxied(&self, headers: &[(&'static str, &'static str)]) -> Person {
        Person {
            proxied: headers.to_vec(),
            ..self.person("")
        }
    }
}

/// Somebody in front of a browser.
pub struct Person {
    address: String,
    token: String,
    proxied: Vec<(&'static str, &'static str)>,
    client: Client,
}

impl Person {
    fn of(&self, request: RequestBuilder) -> RequestBuilder {
        let proxied = self.proxied.iter();
        let request = proxied.fold(request, |request, (name, value)| request.header(*name, *value));
        if self.token.is_empty() {
            request
        } else {
            request.bearer_auth(&self.token)
        }
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.address));
        told(self.of(request).send().await.expect("it answers")).await
    }

    pub async fn act(&self, service: &str, body: Value) -> (u16, Value) {
        let path = format!("{}/api/ns/{service}/actions", self.address);
        let request = self
            .client
            .post(path)
            .header("content-type", "application/json")
            .header("x-molt-dashboard", "1")
            .body(body.to_string());
        told(self.of(request).send().await.expect("it answers")).await
    }

    pub async fn stream(&self) -> Stream {
        let request = self.client.get(format!("{}/api/stream", self.address));
        let response = self.of(request).send().await.expect("it answers");
        assert_eq!(response.status().as_u16(), 200);
        Stream {
            response,
            rest: String::new(),
        }
    }
}

async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// The events of one viewer.
pub struct Stream {
    response: Response,
    rest: String,
}

impl Stream {
    /// The next event: its name and its data.
    pub async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
                let found = field("event:").map(|name| {
                    let data = serde_json::from_str(field("data:").unwrap_or("null")).unwrap_or(Value::Null);
                    (name.to_owned(), data)
                });
                let rest = rest.to_owned();
                self.rest = rest;
                match found {
                    Some(found) => return found,
                    // A comment.
                    None => continue,
                }
            }
            let chunk = self
                .response
                .chunk()
                .await
                .expect("it goes on")
                .expect("it has no end");
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Waits, as long as this, until an event is as asked, and says how long it took.
    pub async fn until(&mut self, most: Duration, what: &str, is: impl Fn(&str, &Value) -> bool) -> Duration {
        let began = Instant::now();
        let found = tokio::time::timeout(most, async {
            loop {
                let (name, data) = self.next().await;
                if is(&name, &data) {
                    return;
                }
            }
        });
        assert!(found.await.is_ok(), "waited {most:?} in vain until {what}");
        began.elapsed()
    }
}

/// A role with these rules in the stage's namespace, and somebody who has it.
pub async fn allow(stage: &Stage, name: &str, rules: Value, subject: Value) {
    let namespace = &stage.namespace;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": namespace}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [subject],
    });
    for object in [role, binding] {
        let gvk = GroupVersionKind::gvk(
            "rbac.authorization.k8s.io",
            "v1",
            object["kind"].as_str().unwrap(),
        );
        let api: Api<DynamicObject> =
            Api::namespaced_with(stage.client.clone(), namespace, &ApiResource::from_gvk(&gvk));
        api.patch(name, &PatchParams::apply("tests"), &Patch::Apply(&object))
            .await
            .expect("roles are taken");
    }
}

/// An account with these rules in the stage's namespace; its token.
pub async fn account(stage: &Stage, name: &str, rules: Value) -> String {
    let namespace = &stage.namespace;
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), namespace);
    let object = json!({"metadata": {"name": name}});
    accounts
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .expect("the account is new");
    let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
    allow(stage, name, rules, subject).await;
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request(name, &PostParams::default(), &wanted)
        .await
        .expect("tokens are given");
    made.status.expect("there is one").token
}

/// A way to the API server that can be cut.
pub struct Cable {
    plugged: watch::Sender<bool>,
}

impl Cable {
    /// Puts itself between a client's configuration and its server.
    pub async fn between(config: &mut Config) -> Self {
        let to = format!(
            "{}:{}",
            config.cluster_url.host().unwrap(),
            config.cluster_url.port_u16().unwrap()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        config.cluster_url = format!("https://{here}").parse().unwrap();
        let (plugged, is) = watch::channel(true);
        tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let (to, mut is) = (to.clone(), is.clone());
                tokio::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(to).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = is.wait_for(|plugged| !plugged) => {}
                    }
                });
            }
        });
        Self { plugged }
    }

    pub fn plug(&self, plugged: bool) {
        self.plugged.send_replace(plugged);
    }
}

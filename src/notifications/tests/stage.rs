//! A receiver that answers as told, and a delivery whose policy and Secrets are played.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use prometheus_http_query::reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::v1alpha1::{NotificationPolicy, NotificationPolicyStatus, PythonServiceStatus};
use crate::controller::edges::SystemClock;
use crate::controller::object::tests::changed;
use crate::k8s::Key;
use crate::k8s::index::Index;
use crate::k8s::secrets::Unread;
use crate::metric_sources::headers::SecretData;
use crate::metric_sources::http;
use crate::metrics::Metrics;
use crate::notifications::books::{PolicyFacts, Store};
use crate::notifications::delivery::{Delivery, Edges};
use crate::notifications::desk::Patience;
use crate::notifications::outbox::{Handover, Outbox};
use crate::notifications::outside::{Outside, Refusal, Request, post};

/// How a receiver answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// With a status and further header lines.
    Code(u16, &'static str),
    /// Not at all.
    Hang,
    /// By closing the connection.
    Close,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its headers, one `name: value` a line, names in small letters.
    pub headers: Vec<String>,
    /// Its body.
    pub body: Value,
}

/// A real receiver on a port of its own.
#[derive(Clone)]
pub struct Receiver {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Receiver {
    /// Answers as told, and the last answer for ever.
    pub fn answering(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (got, answers) = (
            Arc::<Mutex<Vec<Got>>>::default(),
            Arc::new(Mutex::new(VecDeque::from(answers.to_vec()))),
        );
        let receiver = Self {
            address,
            got: got.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (got, answers) = (got.clone(), answers.clone());
                std::thread::spawn(move || serve(stream, &got, &answers));
            }
        });
        receiver
    }

    /// What came so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// What came so far, as `field` of each body.
    pub fn told(&self, field: &str) -> Vec<String> {
        let text = |got: &Got| got.body[field].as_str().unwrap_or_default().to_owned();
        self.got().iter().map(text).collect()
    }
}

fn serve(mut stream: TcpStream, got: &Mutex<Vec<Got>>, answers: &Mutex<VecDeque<Answer>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let (mut headers, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim().to_owned();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            }
            headers.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        got.lock().unwrap().push(Got { headers, body });
        let answer = {
            let mut answers = answers.lock().unwrap();
            let next = answers.front().copied().unwrap_or(Answer::Code(200, ""));
            if answers.len() > 1 {
                answers.pop_front();
            }
            next
        };
        match answer {
            Answer::Code(code, more) => {
                let answer = format!("HTTP/1.1 {code} So\r\ncontent-length: 0\r\n{more}\r\n");
                stream.write_all(answer.as_bytes()).unwrap();
            }
            Answer::Hang => std::thread::sleep(Duration::from_secs(20)),
            Answer::Close => return,
        }
    }
}

/// Secrets by name, and the real HTTP client.
struct Played {
    http: Client,
    secrets: Arc<Mutex<BTreeMap<String, SecretData>>>,
}

impl Outside for Played {
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, Unread>> {
        assert_eq!(namespace, "shop");
        let found = self.secrets.lock().unwrap().get(name).cloned();
        Box::pin(async { found.ok_or(Unread::Missing) })
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(post(&self.http, request))
    }
}

/// Statuses in memory.
#[derive(Clone, Default)]
pub struct Kept {
    status: Arc<Mutex<Option<NotificationPolicyStatus>>>,
    writes: Arc<Mutex<usize>>,
}

impl Store for Kept {
    fn load<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<NotificationPolicyStatus>, String>> {
        let status = self.status.lock().unwrap().clone().unwrap_or_default();
        Box::pin(async { Ok(Some(status)) })
    }

    fn save(&self, _: Key, status: NotificationPolicyStatus) -> BoxFuture<'static, Result<(), String>> {
        *self.status.lock().unwrap() = Some(status);
        *self.writes.lock().unwrap() += 1;
        Box::pin(async { Ok(()) })
    }
}

type Handovers = tokio::sync::mpsc::Receiver<Handover>;

/// A policy, and what delivers for it.
pub struct Stage {
    policies: Arc<Index<PolicyFacts>>,
    secrets: Arc<Mutex<BTreeMap<String, SecretData>>>,
    /// What the policy's status says.
    pub kept: Kept,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// Where it is handed over.
    pub outbox: Outbox,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// How long things take here.
const PATIENCE: Patience = Patience {
    request: Duration::from_millis(400),
    first_wait: Duration::from_millis(20),
    longest_wait: Duration::from_millis(100),
    tries: 6,
    worth: Duration::from_secs(5),
};

impl Stage {
    /// A policy with these sinks and events.
    pub fn of(spec: Value) -> Self {
        let policies = Arc::new(Index::<PolicyFacts>::default());
        let metrics = Metrics::new("test");
        let (outbox, _) = Outbox::new(policies.clone(), metrics.clone());
        let mut stage = Self {
            policies,
            secrets: Arc::default(),
            kept: Kept::default(),
            metrics,
            outbox,
            running: None,
        };
        stage.apply(spec, 1);
        stage.start();
        stage
    }

    /// The policy has this spec now.
    pub fn apply(&self, spec: Value, generation: i64) {
        let policy: NotificationPolicy = serde_json::from_value(json!({
            "apiVersion": "molt.dev/v1alpha1", "kind": "NotificationPolicy",
            "metadata": {"name": "oncall", "namespace": "shop", "uid": "p-1", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }))
        .unwrap();
        self.policies.take_in(&Event::Apply(DeserializeGuard(Ok(policy))));
    }

    /// A Secret has this content now.
    pub fn secret(&self, name: &str, key: &str, value: &str) {
        let entry = vec![(key.to_owned(), value.as_bytes().to_vec())];
        self.secrets.lock().unwrap().insert(name.to_owned(), entry);
    }

    /// Another leader starts.
    pub fn start(&mut self) {
        let (outbox, handovers) = Outbox::new(self.policies.clone(), self.metrics.clone());
        self.outbox = outbox;
        let edges = Edges {
            policies: self.policies.clone(),
            outside: Arc::new(Played {
                http: http::client(None).unwrap(),
                secrets: self.secrets.clone(),
            }),
            store: Arc::new(self.kept.clone()),
            clock: Arc::new(SystemClock),
            metrics: self.metrics.clone(),
            patience: PATIENCE,
            dashboard: None,
        };
        let (stop, stopped) = oneshot::channel();
        let run = Delivery::new(edges, handovers).run(async {
            drop(stopped.await);
        });
        self.running = Some((stop, tokio::spawn(run)));
    }

    /// The leader ends as it should.
    pub async fn stop(&mut self) {
        let (stop, task) = self.running.take().unwrap();
        drop(stop);
        task.await.unwrap();
    }

    /// The leader is gone from one moment to the next.
    pub fn kill(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
    }

    /// An outbox that nobody empties.
    pub fn unattended(&self) -> (Outbox, Handovers) {
        Outbox::new(self.policies.clone(), self.metrics.clone())
    }

    /// The policy is gone.
    pub fn delete(&self) {
        self.policies.take_in(&Event::Init);
        self.policies.take_in(&Event::InitDone);
    }

    /// A service has this status.
    pub fn tell(&self, status: &Value) {
        self.tell_of("checkout", "u-1", status);
    }

    /// Another service has this status.
    pub fn tell_of(&self, name: &str, uid: &str, status: &Value) {
        let object = changed(|o| {
            o["metadata"]["name"] = json!(name);
            o["metadata"]["uid"] = json!(uid);
        });
        let status: PythonServiceStatus = serde_json::from_value(status.clone()).unwrap();
        self.outbox.tell(&object, &status, Timestamp::now());
    }

    /// The policy's status.
    pub fn status(&self) -> NotificationPolicyStatus {
        self.kept.status.lock().unwrap().clone().unwrap_or_default()
    }

    /// How often it was written.
    pub fn writes(&self) -> usize {
        *self.kept.writes.lock().unwrap()
    }

    /// A condition: status, reason, message.
    pub fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let conditions = self.status().conditions.unwrap_or_default();
        let found = conditions.into_iter().find(|c| c.type_ == kind)?;
        Some((found.status, found.reason, found.message))
    }

    /// How many notifications had this outcome.
    pub fn counted(&self, kind: &str, outcome: &str) -> usize {
        let line = format!("molt_notifications_total{{sink_kind=\"{kind}\",outcome=\"{outcome}\"}} ");
        let text = self.metrics.encode();
        let found = text.lines().find_map(|l| l.strip_prefix(line.as_str()));
        found.map_or(0, |count| count.parse().unwrap())
    }
}

/// Waits until something is so.
pub async fn until(what: &str, check: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

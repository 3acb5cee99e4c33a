//! One sink's notifications, one at a time: sent, and tried again, until they arrive or are given up; what is urgent goes
//! first. A sink that hangs keeps no other waiting.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout};

use super::WORTH;
use super::ledger::End;
use super::line::{Line, Next, Waiting};
use super::notice::Notice;
use super::outside::{Again, Outside, Refusal, Request};
use super::policy::{Address, Form, SinkPlan, usable};
use super::render::Body;
use crate::api::v1alpha1::SecretKeyRef;
use crate::k8s::Key;
use crate::k8s::secrets::Unread;
use crate::metric_sources::headers::from_entries;
use crate::metrics::Metrics;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// One request, its Secrets included.
    pub request: Duration,
    /// The first wait before another try; each is twice as long, and up to half of it is left to chance.
    pub first_wait: Duration,
    /// The longest of them.
    pub longest_wait: Duration,
    /// Tries.
    pub tries: u32,
    /// From the first try to the last.
    pub worth: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(10),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_mins(1),
            tries: 12,
            worth: WORTH,
        }
    }
}

/// A notification for a sink.
#[derive(Clone, Debug)]
pub struct Job {
    /// How to deliver it.
    pub sink: Arc<SinkPlan>,
    /// What it is about.
    pub notice: Notice,
    /// Of which service, and its UID.
    pub service: (String, String),
    /// The document.
    pub body: Body,
}

/// A notification that has ended.
#[derive(Clone, Debug)]
pub struct Done {
    /// The policy.
    pub policy: Key,
    /// The sink's name.
    pub sink: String,
    /// What it was about.
    pub notice: Notice,
    /// Of which service, and its UID.
    pub service: (String, String),
    /// How.
    pub end: End,
}

/// What desks share.
#[derive(Clone)]
pub struct Desks {
    /// The world.
    pub outside: Arc<dyn Outside>,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// How long things may take.
    pub patience: Patience,
    /// Where the end of each is told.
    pub done: UnboundedSender<Done>,
}

impl Desks {
    /// Works until nobody can bring a job any more, and none is left.
    pub async fn work(self, policy: Key, mut jobs: UnboundedReceiver<Job>) {
        let (mut line, mut closed) = (Line::default(), false);
        loop {
            while let Ok(job) = jobs.try_recv() {
                line.join(job);
            }
            let mut waiting = match line.next(Instant::now()) {
                Next::Try(waiting) => *waiting,
                Next::Empty => match jobs.recv().await {
                    Some(job) => {
                        line.join(job);
                        continue;
                    }
                    None => return,
                },
                Next::Wait(until) => {
                    tokio::select! {
                        () = sleep_until(until) => {}
                        job = jobs.recv(), if !closed => match job {
                            Some(job) => line.join(job),
                            None => closed = true,
                        },
                    }
                    continue;
                }
            };
            let end = match self.attempt(&policy, &mut waiting).await {
                Ok(end) => end,
                Err(refusal) => {
                    let failures = line.fails(&waiting);
                    match self.patience.again(&waiting, &refusal, failures) {
                        Some(wait) => {
                            self.metrics.notified(waiting.job.sink.form.kind(), "retried");
                            let asked = matches!(refusal.again, Again::After(_));
                            line.again(waiting, Instant::now() + wait, asked);
                            continue;
                        }
                        None => End::GaveUp(format!(
                            "{}; given up after {} tries",
                            refusal.message, waiting.tries
                        )),
                    }
                }
            };
            if matches!(end, End::Delivered) {
                line.ends(&waiting.job);
            }
            if !self.tell(&policy, waiting.job, end) {
                return;
            }
        }
    }

    /// Counts and tells the end of a job; whether anybody listens.
    fn tell(&self, policy: &Key, job: Job, end: End) -> bool {
        let kind = job.sink.form.kind();
        match &end {
            End::Delivered => self.metrics.notified(kind, "delivered"),
            End::Dropped => self.metrics.notified(kind, "dropped"),
            End::GaveUp(why) => {
                self.metrics.notified(kind, "gave_up");
                let notice = &job.notice;
                tracing::warn!(policy = %policy, sink = job.sink.name, namespace = policy.namespace, service = job.service.0, revision = notice.revision, attempt = notice.attempt, why, "a notification was given up");
            }
        }
        let done = Done {
            policy: policy.clone(),
            sink: job.sink.name.clone(),
            notice: job.notice,
            service: job.service,
            end,
        };
        self.done.send(done).is_ok()
    }

    /// Tries once: how it ended, or why it did not yet.
    async fn attempt(&self, policy: &Key, waiting: &mut Waiting) -> Result<End, Refusal> {
        let patience = self.patience;
        waiting.began.get_or_insert_with(Instant::now);
        waiting.tries += 1;
        let sent = timeout(patience.request, self.send(&policy.namespace, &waiting.job)).await;
        let late = || Err(Refusal::later(format!("no answer within {:?}", patience.request)));
        match sent.unwrap_or_else(|_| late()) {
            Ok(()) => Ok(End::Delivered),
            Err(refusal) if matches!(refusal.again, Again::Never) => Ok(End::GaveUp(refusal.message)),
            Err(refusal) => Err(refusal),
        }
    }

    async fn send(&self, namespace: &str, job: &Job) -> Result<(), Refusal> {
        let request = self.request(namespace, job).await.map_err(Trouble::refusal)?;
        self.outside.post(request).await
    }

    async fn request(&self, namespace: &str, job: &Job) -> Result<Request, Trouble> {
        let access = access(&*self.outside, namespace, &job.sink).await?;
        let mut json = job.body.json.clone();
        if let Some(key) = access.routing_key {
            json["routing_key"] = Value::from(key);
        }
        Ok(Request {
            url: access.url,
            allow_http: job.sink.allow_http,
            headers: access.headers,
            content_type: job.body.content_type,
            body: json.to_string().into_bytes(),
            id: job.notice.id.clone(),
        })
    }
}

impl Patience {
    /// How long to wait before the sink is tried again after so many failures in a row; `None` if this one is given up.
    fn again(&self, waiting: &Waiting, refusal: &Refusal, failures: u32) -> Option<Duration> {
        let wait = self.wait(failures);
        let wait = match refusal.again {
            Again::After(asked) => asked.max(wait),
            _ => wait,
        };
        let left = self
            .worth
            .saturating_sub(waiting.began.map_or(Duration::ZERO, |began| began.elapsed()));
        (waiting.tries < self.tries && wait <= left).then_some(wait)
    }

    fn wait(&self, tries: u32) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << (tries - 1).min(16));
        let longest = doubled.min(self.longest_wait);
        // Each is made with keys of its own, which come from the system's source of randomness.
        let chance = RandomState::new().hash_one(tries) as u32;
        longest.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX) / 2.0)
    }
}

/// What a request needs of Secrets.
pub struct Access {
    url: String,
    headers: HeaderMap,
    routing_key: Option<String>,
}

/// Why the Secrets of a sink can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The field that names what is wrong.
    pub field: String,
    /// What is wrong, and how to put it right.
    pub message: String,
    /// One `CamelCase` word.
    pub reason: &'static str,
}

impl Trouble {
    fn new(field: String, reason: &'static str, message: String) -> Self {
        Self {
            field,
            message,
            reason,
        }
    }

    /// A Secret may be put right while it is tried again.
    fn refusal(self) -> Refusal {
        Refusal::later(format!("{}: {}", self.field, self.message))
    }
}

/// Reads what a sink needs, as it is now.
pub async fn access(outside: &dyn Outside, namespace: &str, sink: &SinkPlan) -> Result<Access, Trouble> {
    let part = format!("{}.{}", sink.field, sink.form.kind());
    let url = match &sink.address {
        Address::Url(url) => url.clone(),
        Address::Secret(from) => {
            let field = format!("{part}.urlFrom");
            let url = value(outside, namespace, from, &field).await?;
            usable(&url, sink.allow_http).map_err(|why| {
                let message = format!(
                    "the value of {:?} in Secret {namespace}/{}: {why}",
                    from.key, from.name
                );
                Trouble::new(field, "UrlInvalid", message)
            })?;
            url
        }
    };
    let headers = match &sink.headers_from {
        None => HeaderMap::new(),
        Some(name) => {
            let field = format!("{part}.headersFrom");
            let entries = outside.secret(namespace, name).await;
            entries
                .map_err(|unread| unread.told(namespace, name))
                .and_then(|entries| from_entries(&format!("Secret {namespace}/{name}"), entries))
                .map_err(|message| Trouble::new(field, "SecretUnusable", message))?
        }
    };
    let routing_key = match &sink.form {
        Form::PagerDuty { key, .. } => {
            let field = format!("{part}.routingKeyFrom");
            Some(value(outside, namespace, key, &field).await?)
        }
        _ => None,
    };
    Ok(Access {
        url,
        headers,
        routing_key,
    })
}

/// A key of a Secret, as text without space around it.
async fn value(
    outside: &dyn Outside,
    namespace: &str,
    from: &SecretKeyRef,
    field: &str,
) -> Result<String, Trouble> {
    let trouble = |message| Trouble::new(field.to_owned(), "SecretUnusable", message);
    let (name, key) = (&from.name, &from.key);
    let entries = outside.secret(namespace, name).await;
    let entries = entries.map_err(|unread| trouble(unread.told(namespace, name)))?;
    let Some((_, value)) = entries.into_iter().find(|(known, _)| known == key) else {
        let message = format!("Secret {namespace}/{name} has no key {key:?}: add it, or correct {field}.key");
        return Err(trouble(message));
    };
    let text = String::from_utf8(value).ok().map(|text| text.trim().to_owned());
    text.filter(|text| !text.is_empty()).ok_or_else(|| {
        trouble(format!(
            "the value of {key:?} in Secret {namespace}/{name} is empty, or no text"
        ))
    })
}

impl Unread {
    /// What is wrong and how to put it right, for a Secret that a policy names.
    fn told(&self, namespace: &str, name: &str) -> String {
        match self {
            Self::Missing => {
                format!("Secret {namespace}/{name} does not exist: create it, or correct the name")
            }
            Self::Forbidden => format!(
                "the operator may not read Secret {namespace}/{name}: list it in the chart's value notifications.secrets, or bind a Role with the verb get on this Secret to the operator's service account"
            ),
            Self::Failed(why) => format!("Secret {namespace}/{name} can't be read: {why}"),
        }
    }
}

//! Secrets, and requests to the world. No error names a URL or what is in a Secret.

use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use jiff::Timestamp;
use kube::Client as Cluster;
use prometheus_http_query::reqwest::{Client, Response};

use super::policy::usable;
use crate::k8s::secrets::{Secrets, Unread};
use crate::metric_sources::headers::SecretData;
use crate::metric_sources::http::{client, root_cause};

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: String,
    /// `http://` will do.
    pub allow_http: bool,
    /// Headers beside the content's.
    pub headers: HeaderMap,
    /// The media type.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Tells a request from others; the same when it is sent again.
    pub id: String,
}

/// Why a request did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What happened, and what to do where something is known to do.
    pub message: String,
    /// Whether it may arrive later.
    pub again: Again,
}

/// Whether a request may arrive later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It never will.
    Never,
    /// It may.
    Later,
    /// It may, and not before this has passed.
    After(Duration),
}

impl Refusal {
    /// Never.
    pub fn never(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            again: Again::Never,
        }
    }

    /// Maybe later.
    pub fn later(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            again: Again::Later,
        }
    }
}

/// What is outside of the operator.
pub trait Outside: Send + Sync {
    /// The data of a Secret.
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, Unread>>;

    /// Sends a POST, once.
    fn post(&self, request: Request) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// The real one.
pub struct World {
    http: Client,
    secrets: Secrets,
}

impl World {
    /// Trusts the system's authorities and those of `ca`, a bundle in PEM; it fails only when that is none.
    pub fn new(cluster: Cluster, ca: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self {
            http: client(ca)?,
            secrets: Secrets::new(cluster),
        })
    }
}

impl Outside for World {
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<SecretData, Unread>> {
        Box::pin(self.secrets.data(namespace, name))
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(post(&self.http, request))
    }
}

/// Sends it, once. The answer's body is never read: nobody needs it, and it may repeat what is secret.
pub async fn post(http: &Client, request: Request) -> Result<(), Refusal> {
    let url = usable(&request.url, request.allow_http).map_err(Refusal::never)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let sent = http
        .post(url)
        .headers(request.headers)
        .header(CONTENT_TYPE, request.content_type)
        .header("idempotency-key", request.id)
        .body(request.body)
        .send()
        .await;
    match sent {
        Ok(response) => judge(&response),
        Err(error) => {
            let cause = root_cause(&error).replace(&host, "the host");
            Err(Refusal::later(format!("it can't be reached: {cause}")))
        }
    }
}

fn judge(response: &Response) -> Result<(), Refusal> {
    let status = response.status();
    let code = status.as_u16();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(Refusal::never(format!(
            "it redirects (HTTP {code}), which is not followed, so that nothing secret goes elsewhere: write the URL that it leads to"
        )));
    }
    let message = format!("it answers HTTP {code}");
    if matches!(code, 408 | 425 | 429) || status.is_server_error() {
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
        return Err(Refusal {
            message,
            again: wait.map_or(Again::Later, Again::After),
        });
    }
    let fix = match code {
        401 | 403 => ": the token in its URL or headers is refused, put a valid one into the Secret",
        404 | 410 => ": nobody is there, put the URL of one that exists into the Secret or the spec",
        400 | 413 | 422 => ": it does not take this document, look at the sink's kind and its template",
        _ => "",
    };
    Err(Refusal::never(format!("{message}{fix}")))
}

/// Seconds, or a date.
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO))
}

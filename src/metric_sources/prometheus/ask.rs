//! One question to a Prometheus, and what can come back.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use jiff::Timestamp;
use prometheus_http_query::{Client, Error, reqwest};
use tokio::sync::Semaphore;

use super::super::MeasureRequest;
use super::super::headers::{Headers, HeadersFrom};
use super::super::http::root_cause;
use super::answer::{Answer, Body, Head, shape};
use crate::metrics::Metrics;

/// Questions to one address at the same time; more would only queue inside of the Prometheus.
const CONCURRENCY: usize = 8;
/// The longest answer that is read, so that a selector without bounds can't take the operator's memory.
const MAX_ANSWER: usize = 64 << 20;
/// The longest quotation of what a Prometheus said of a query.
const MAX_QUOTE: usize = 200;
/// Addresses whose connections are kept without anybody asking.
const MAX_IDLE_ADDRESSES: usize = 32;

/// Why a question has no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One word for conditions and metrics.
    pub reason: &'static str,
    /// What, where and how to fix it. The same for the same cause, however often it is repeated.
    pub message: String,
}

/// Nothing answers at the address.
pub const UNREACHABLE: &str = "PrometheusUnreachable";
/// Something answers that is no Prometheus, or one that is broken.
pub const BAD_ANSWER: &str = "PrometheusBadAnswer";
/// It asks for credentials, or refuses those it got.
pub const FORBIDDEN: &str = "PrometheusForbidden";
/// The headers that it asks for can't be read.
pub const HEADERS: &str = "PrometheusHeadersUnusable";
/// It understood the request, and refuses the query.
pub const REFUSED: &str = "QueryRefused";

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The address, without `/api/v1`.
    address: &'a str,
    /// The headers that it asks for; `None` where none may be sent.
    headers: Option<HeadersFrom>,
}

impl<'a> Target<'a> {
    /// The Prometheus of a request. The operator's own headers go to the operator's own address alone: an
    /// address in a spec could be anybody's.
    pub fn of(request: &'a MeasureRequest) -> Self {
        let source = &request.source;
        let headers = match &source.headers_from {
            Some(name) => Some(HeadersFrom::Secret {
                namespace: request.namespace.clone(),
                name: name.clone(),
            }),
            None => source.is_operators.then_some(HeadersFrom::Operator),
        };
        Self {
            address: &source.address,
            headers,
        }
    }
}

/// Asks Prometheuses; connections and limits are shared by everybody who asks the same address.
pub struct Asker {
    http: reqwest::Client,
    headers: Arc<Headers>,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    metrics: Metrics,
}

struct Endpoint {
    client: Client,
    slots: Semaphore,
    /// The address as messages show it: without credentials.
    shown: String,
}

impl Asker {
    /// An asker without connections.
    pub fn new(metrics: Metrics, http: reqwest::Client, headers: Arc<Headers>) -> Self {
        Self {
            http,
            headers,
            endpoints: Mutex::default(),
            metrics,
        }
    }

    /// The answer to a query at a time, within a time limit that includes the wait for a free slot.
    pub async fn ask<T: Answer>(
        &self,
        target: &Target<'_>,
        query: &str,
        at: Timestamp,
        limit: Duration,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let answer = self.ask_unmeasured(target, query, at, limit).await;
        self.metrics.queried(started.elapsed());
        if let Err(failure) = &answer {
            self.metrics.query_failed(failure.reason);
            tracing::debug!(reason = failure.reason, query, "{}", failure.message);
        }
        answer
    }

    async fn ask_unmeasured<T: Answer>(
        &self,
        target: &Target<'_>,
        query: &str,
        at: Timestamp,
        limit: Duration,
    ) -> Result<T, Failure> {
        let endpoint = self.endpoint(target.address)?;
        let exchange = async {
            let _slot = endpoint
                .slots
                .acquire()
                .await
                .expect("the semaphore is never closed");
            let Some(from) = &target.headers else {
                return endpoint.exchange(query, at, limit, HeaderMap::new()).await;
            };
            let headers = self
                .headers
                .of(from)
                .await
                .map_err(|why| endpoint.unusable(&why))?;
            let answer = endpoint.exchange(query, at, limit, headers.clone()).await?;
            if !matches!(answer.0, 401 | 403) {
                return Ok(answer);
            }
            // A token that was renewed since it was read.
            match self.headers.after_refusal(from, &headers).await {
                Some(others) => endpoint.exchange(query, at, limit, others).await,
                None => Ok(answer),
            }
        };
        let (status, body) = tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(endpoint.unreachable(&format!("no answer within {limit:?}"))))?;
        endpoint.read(status, &body)
    }

    fn endpoint(&self, address: &str) -> Result<Arc<Endpoint>, Failure> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(address) {
            return Ok(Arc::clone(endpoint));
        }
        let shown = without_credentials(address);
        let client = Client::from(self.http.clone(), address).map_err(|error| Failure {
            reason: UNREACHABLE,
            message: format!("{shown:?} is not the address of a Prometheus: {error}; {CHECK_ADDRESS}"),
        })?;
        if endpoints.len() >= MAX_IDLE_ADDRESSES {
            endpoints.retain(|_, endpoint| Arc::strong_count(endpoint) > 1);
        }
        let endpoint = Arc::new(Endpoint {
            client,
            slots: Semaphore::new(CONCURRENCY),
            shown,
        });
        endpoints.insert(address.to_owned(), Arc::clone(&endpoint));
        Ok(endpoint)
    }
}

/// The failure of an answer that could be read, but means nothing.
pub fn bad_answer(address: &str, what: &str) -> Failure {
    let shown = without_credentials(address);
    Failure {
        reason: BAD_ANSWER,
        message: format!("Prometheus at {shown} gives no usable answer: {what}"),
    }
}

const CHECK_ADDRESS: &str =
    "check spec.metrics.prometheus.address or, where it is not set, the operator's --prometheus-address";

impl Endpoint {
    async fn exchange(
        &self,
        query: &str,
        at: Timestamp,
        limit: Duration,
        headers: HeaderMap,
    ) -> Result<(u16, Vec<u8>), Failure> {
        let question = self.client.query(query);
        let question = headers.iter().fold(question, |question, (name, value)| {
            question.header(name.clone(), value.clone())
        });
        let mut response = question
            .query("time", Seconds(at))
            // So that it gives up when we do.
            .query("timeout", format!("{}ms", limit.as_millis()))
            // Thanos would otherwise leave out what a store does not answer: counts of half a revision.
            .query("partial_response", false)
            .post_raw()
            .await
            .map_err(|error| match error {
                Error::Client(client) => {
                    let cause = client.inner().map_or_else(|| client.to_string(), root_cause);
                    self.unreachable(&cause)
                }
                other => self.unreachable(&other.to_string()),
            })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&format!("the answer broke off: {}", root_cause(&error))))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(bad_answer(
                    &self.shown,
                    &format!(
                        "its answer is longer than {} MiB; select fewer series by matchers",
                        MAX_ANSWER >> 20
                    ),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    fn read<T: Answer>(&self, status: u16, body: &[u8]) -> Result<T, Failure> {
        let head = serde_json::from_slice::<Head>(body);
        let said = || {
            head.as_ref()
                .ok()
                .and_then(|head| head.error.as_deref())
                .map(quote)
        };
        match status {
            200..=299 => {}
            401 | 403 => {
                return Err(Failure {
                    reason: FORBIDDEN,
                    message: format!(
                        "Prometheus at {} refuses access (HTTP {status}): give the headers that it asks for by spec.metrics.prometheus.headersFrom or the operator's --prometheus-headers-file, correct their values, or {CHECK_ADDRESS}",
                        self.shown
                    ),
                });
            }
            // 400: the query can't be read; 422: it can't be run.
            400 | 422 => {
                if let Some(said) = said() {
                    return Err(self.refused(&said));
                }
                return Err(self.no_prometheus(&format!("HTTP {status}")));
            }
            _ => {
                return Err(match said() {
                    Some(said) => bad_answer(&self.shown, &format!("HTTP {status}: {said}")),
                    None => self.no_prometheus(&format!("HTTP {status}")),
                });
            }
        }
        let head = head.map_err(|_| self.no_prometheus(shape(body)))?;
        match (head.status.as_str(), head.data) {
            ("error", _) => Err(self.refused(&quote(head.error.as_deref().unwrap_or("it gives no cause")))),
            ("success", Some(data)) if T::TYPES.contains(&data.result_type.as_str()) => {
                serde_json::from_slice::<Body<T>>(body)
                    .map(|body| body.data.result)
                    .map_err(|error| {
                        self.no_prometheus(&quote(&format!(
                            "its {} can't be read: {error}",
                            T::TYPES.join(" or ")
                        )))
                    })
            }
            ("success", Some(data)) => Err(self.no_prometheus(&format!(
                "a {} instead of a {}",
                quote(&format!("{:?}", data.result_type)),
                T::TYPES.join(" or ")
            ))),
            _ => Err(self.no_prometheus("JSON without a result")),
        }
    }

    fn unusable(&self, why: &str) -> Failure {
        Failure {
            reason: HEADERS,
            message: format!("Prometheus at {} is not asked: {why}", self.shown),
        }
    }

    fn unreachable(&self, cause: &str) -> Failure {
        let cause = quote(cause);
        // What rustls says of a certificate of a private authority, or of another one of the same name.
        let ca = if cause.contains("UnknownIssuer") || cause.contains("BadSignature") {
            " (its certificate is of an authority that the operator does not trust: start the operator with --prometheus-ca-file)"
        } else {
            ""
        };
        Failure {
            reason: UNREACHABLE,
            message: format!(
                "Prometheus at {} can't be reached: {cause}{ca}; {CHECK_ADDRESS}, that it runs, and that network policies let the operator in",
                self.shown
            ),
        }
    }

    fn no_prometheus(&self, what: &str) -> Failure {
        Failure {
            reason: BAD_ANSWER,
            message: format!(
                "{} does not answer as a Prometheus does: {what}; {CHECK_ADDRESS}, with any path before /api/v1",
                self.shown
            ),
        }
    }

    fn refused(&self, said: &str) -> Failure {
        Failure {
            reason: REFUSED,
            message: format!("Prometheus at {} refuses the query: {said}", self.shown),
        }
    }
}

/// A time as the API reads it.
struct Seconds(Timestamp);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millisecond();
        write!(f, "{}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000))
    }
}

/// One line of limited length.
fn quote(text: &str) -> String {
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MAX_QUOTE) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// An address as messages may show it.
pub fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host_start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host_start..])
}

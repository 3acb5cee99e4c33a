//! Numbers that a URL answers with.
//!
//! An answer that can't be had or read is no number: neither for nor against the canary. What was answered is
//! never repeated in a message, for the URL may be one that the user could not read themselves.

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, StatusCode};
use futures::future;
use jsonpath_rust::JsonPath;
use jsonpath_rust::parser::parse_json_path;
use molt_core::observed::ConditionReading;
use prometheus_http_query::reqwest::{Client, Url};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::headers::{Headers, HeadersFrom};
use super::http::root_cause;
use super::{ConditionQuery, FieldError, MeasureRequest};
use crate::api::v1alpha1::WebCheck;

/// Requests at the same time, to all URLs together.
const CONCURRENCY: usize = 16;
/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;
/// How long an answer may take unless the spec says otherwise, in seconds.
const DEFAULT_TIMEOUT: i32 = 5;

/// A URL to ask, and where the number is in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebQuery {
    url: String,
    json_path: String,
    /// The Secret with the headers to send.
    headers_from: Option<String>,
    timeout: Duration,
}

impl WebQuery {
    /// Reads `web`; fields are named from there.
    pub fn parse(web: &WebCheck) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let example = fill(&web.url, "shop", "checkout", "0123456789");
        let usable = Url::parse(&example)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        match usable {
            None => errors.push(FieldError::new(
                "web.url",
                format!(
                    "{:?} is no URL: write http:// or https://, a host and a path, such as https://checks.shop/p99?revision=$revision",
                    web.url
                ),
            )),
            Some(url) if url.password().is_some() => errors.push(FieldError::new(
                "web.url",
                "has a password: put an Authorization header into a Secret, and name it by headersFrom",
            )),
            Some(_) => {}
        }
        if parse_json_path(&web.json_path).is_err() {
            errors.push(FieldError::new(
                "web.jsonPath",
                format!(
                    "{:?} is no JSONPath: write where the number is, such as $.checks.p99",
                    web.json_path
                ),
            ));
        }
        let seconds = web.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        let timeout = u64::try_from(seconds).ok().filter(|s| (1..=10).contains(s));
        if timeout.is_none() {
            let message = format!("{seconds} is out of range: write 1 to 10");
            errors.push(FieldError::new("web.timeoutSeconds", message));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            url: web.url.clone(),
            json_path: web.json_path.clone(),
            headers_from: web.headers_from.as_ref().map(|from| from.name.clone()),
            timeout: Duration::from_secs(timeout.unwrap_or_default()),
        })
    }
}

/// The URL of a revision.
fn fill(url: &str, namespace: &str, service: &str, revision: &str) -> String {
    url.replace("$namespace", namespace)
        .replace("$service", service)
        .replace("$revision", revision)
}

/// Asks URLs.
pub struct Web {
    http: Client,
    headers: Arc<Headers>,
    slots: Semaphore,
}

impl Web {
    /// Without connections yet.
    pub fn new(http: Client, headers: Arc<Headers>) -> Self {
        Self {
            http,
            headers,
            slots: Semaphore::new(CONCURRENCY),
        }
    }

    /// The numbers of a request's URLs, in order; they are of now, and stand for the last edge.
    pub async fn read(&self, request: &MeasureRequest) -> Vec<ConditionReading> {
        let (Some(at), Some(canary)) = (request.edges.last(), &request.canary) else {
            return Vec::new();
        };
        let revision = canary.rsplit('-').next().unwrap_or_default();
        let queries = request.conditions.iter().filter_map(|condition| match condition {
            ConditionQuery::Web(query) => Some(query),
            ConditionQuery::Promql(_) => None,
        });
        let numbers = queries.map(|query| async move {
            let url = fill(&query.url, &request.namespace, &request.service, revision);
            let asked = self.ask(query, &url, &request.namespace);
            let value = tokio::time::timeout(query.timeout, asked)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {:?}", query.timeout)));
            ConditionReading {
                at: *at,
                value: value.map_err(|why| format!("{}: {why}", shown(&url))),
            }
        });
        future::join_all(numbers).await
    }

    async fn ask(&self, query: &WebQuery, url: &str, namespace: &str) -> Result<f64, String> {
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        let Some(name) = &query.headers_from else {
            let (status, body) = self.get(url, HeaderMap::new()).await?;
            return number(status, &body, &query.json_path);
        };
        let from = HeadersFrom::Secret {
            namespace: namespace.to_owned(),
            name: name.clone(),
        };
        let headers = self.headers.of(&from).await?;
        let (mut status, mut body) = self.get(url, headers.clone()).await?;
        if matches!(status.as_u16(), 401 | 403)
            && let Some(others) = self.headers.after_refusal(&from, &headers).await
        {
            (status, body) = self.get(url, others).await?;
        }
        number(status, &body, &query.json_path)
    }

    async fn get(&self, url: &str, headers: HeaderMap) -> Result<(StatusCode, Vec<u8>), String> {
        let request = self.http.get(url).headers(headers);
        let mut response = request.send().await.map_err(|error| root_cause(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("the answer is longer than {} KiB", MAX_ANSWER >> 10));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), body))
    }
}

/// The number in an answer.
fn number(status: StatusCode, body: &[u8], json_path: &str) -> Result<f64, String> {
    if !status.is_success() {
        return Err(format!("it answers HTTP {}", status.as_u16()));
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| "its answer is no JSON".to_owned())?;
    let found = json
        .query(json_path)
        .map_err(|_| format!("{json_path} can't be looked for in its answer"))?;
    match found[..] {
        [Value::Number(number)] => number
            .as_f64()
            .ok_or_else(|| format!("what {json_path} finds is too large a number")),
        [_] => Err(format!("what {json_path} finds is no number")),
        [] => Err(format!("{json_path} finds nothing in its answer")),
        _ => Err(format!(
            "{json_path} finds {} values, and it must be one",
            found.len()
        )),
    }
}

/// A URL without what may be secret: user and query.
fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else {
        return "the URL".to_owned();
    };
    url.set_query(None);
    // These fail for URLs that have no host, which are refused at the start.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

#[cfg(test)]
mod tests;

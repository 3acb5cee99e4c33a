//! Requests and answers, without a transport.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use serde_json::Value;

use crate::status::Refusal;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The type of the body.
    pub content_type: String,
    /// Who sends it: names the field manager of a write that names none.
    pub user_agent: String,
    /// The body.
    pub body: Value,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status code.
    pub code: u16,
    /// The body: shared with what is stored, if it is an object.
    pub body: Arc<Value>,
    /// The request has changed something.
    pub changed: bool,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            body: Arc::new(refusal.to_value()),
            changed: false,
        }
    }
}

impl Call {
    /// A request with a body; the query as it is in a URL.
    pub fn new(method: Method, uri: &str, content_type: &str, body: Value) -> Self {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let pairs = query.split('&').filter(|p| !p.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        });
        Self {
            method,
            path: path.to_owned(),
            query: pairs.collect(),
            content_type: content_type.to_owned(),
            user_agent: String::new(),
            body,
        }
    }

    /// A parameter of the query; empty if it is absent.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// It changes something if it succeeds.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// It asks for a watch.
    pub fn is_watch(&self) -> bool {
        self.method == Method::GET && matches!(self.parameter("watch"), "true" | "1")
    }

    /// The field manager that the request names, or that is taken from the user agent.
    pub fn manager(&self) -> &str {
        match self.parameter("fieldManager") {
            "" => match self.user_agent.split('/').next() {
                None | Some("") => "unknown",
                Some(agent) => agent,
            },
            named => named,
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16)).unwrap_or(0) as u8;
                let high = digit(rest.next());
                high * 16 + digit(rest.next())
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

//! Who asks, and the client that speaks to the API server in their name.
//!
//! A request is somebody's by, in this order: the session of the local link; a bearer token, in the header or in the
//! cookie that signing in sets; the headers of a trusted proxy. What remains is a guest, who may look with the server's
//! own rights where that is allowed, and may change nothing.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use kube::Client;
use kube::client::Body;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tower::service_fn;

use super::App;
use super::access::Access;
use super::refusal::Refusal;

/// The cookie that holds a bearer token.
pub const TOKEN_COOKIE: &str = "molt-token";
/// Identities that are remembered at most.
const MOST_KNOWN: usize = 1_000;
/// After this time without a request an identity is forgotten.
const IDLE: Duration = Duration::from_mins(10);

/// A digest of what somebody shows to be who they are. What is compared and kept is never the thing itself.
pub type Shown = [u8; 32];

/// Bytes as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes whatever is written into it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The digest of a secret.
pub fn digest(secret: &[u8]) -> Shown {
    Sha256::digest(secret).into()
}

/// Somebody, known from an earlier request.
#[derive(Debug)]
pub struct Known {
    /// What they may see.
    pub access: Access,
    client: ClientOf,
    used: Mutex<Instant>,
}

/// A client without a form for debugging of its own.
struct ClientOf(Client);

impl std::fmt::Debug for ClientOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Known {
    /// `sees_all`: the services are watched by this identity.
    pub fn new(client: Client, sees_all: bool) -> Arc<Self> {
        Arc::new(Self {
            access: Access::new(sees_all),
            client: ClientOf(client),
            used: Mutex::new(Instant::now()),
        })
    }
}

/// Everybody who is known, by what they show.
#[derive(Debug, Default)]
pub struct Everybody(Mutex<HashMap<Shown, Arc<Known>>>);

impl Everybody {
    fn known(&self, shown: Shown, make: impl FnOnce() -> Client) -> Arc<Known> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&shown) {
            *known.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return known.clone();
        }
        let idle = |known: &Known| {
            known
                .used
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed()
        };
        if all.len() >= MOST_KNOWN {
            all.retain(|_, known| idle(known) < IDLE);
        }
        if all.len() >= MOST_KNOWN
            && let Some(longest) = all
                .iter()
                .max_by_key(|(_, known)| idle(known))
                .map(|(shown, _)| *shown)
        {
            all.remove(&longest);
        }
        let known = Known::new(make(), false);
        all.insert(shown, known.clone());
        known
    }
}

/// By what a request is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By the link that was printed: the identity is that of the kubeconfig.
    Link,
    /// By a bearer token.
    Token,
    /// By a trusted proxy.
    Proxy,
    /// By nothing: a guest, with the server's own rights to read.
    Guest,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// By what that is known.
    pub how: How,
    known: Arc<Known>,
}

impl Viewer {
    /// Whoever has shown a token.
    pub fn by_token(known: Arc<Known>) -> Self {
        Self {
            how: How::Token,
            known,
        }
    }

    /// The client that speaks in their name.
    pub fn client(&self) -> &Client {
        &self.known.client.0
    }

    /// What they may see.
    pub fn access(&self) -> &Access {
        &self.known.access
    }

    /// Whether they may ask for changes; the API server decides which.
    pub fn may_act(&self) -> bool {
        !self.is_guest()
    }

    /// Nobody knows who they are.
    pub fn is_guest(&self) -> bool {
        self.how == How::Guest
    }
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let peer = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|info| info.0.ip());
        app.viewer(&parts.headers, peer)
    }
}

impl App {
    /// Whose request it is.
    pub fn viewer(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Viewer, Refusal> {
        let own = |how| Viewer {
            how,
            known: self.own.clone(),
        };
        if let Some(door) = &self.door {
            return match cookie(headers, &door.cookie_name()) {
                Some(session) if door.is_session(session) => Ok(own(How::Link)),
                _ => Err(Refusal::SignIn(
                    "this page belongs to the link that `kubectl molt dashboard` printed: open that link, or run the command again".to_owned(),
                )),
            };
        }
        if let Some(token) = bearer(headers).or_else(|| cookie(headers, TOKEN_COOKIE)) {
            return Ok(Viewer {
                how: How::Token,
                known: self.token(token)?,
            });
        }
        if let Some((user, groups)) = self.proxy.user(headers, peer)? {
            let name = serde_json::to_vec(&(&user, &groups)).unwrap_or_default();
            let shown = digest(&[b"proxy\0", &name[..]].concat());
            let make = headers_of_proxied(&user, &groups)?;
            let known = self
                .everybody
                .known(shown, || with_headers(self.own.client.0.clone(), make));
            return Ok(Viewer {
                how: How::Proxy,
                known,
            });
        }
        if self.guests {
            return Ok(own(How::Guest));
        }
        Err(Refusal::SignIn("sign in to see anything here".to_owned()))
    }

    /// Whoever has this token.
    pub fn token(&self, token: &str) -> Result<Arc<Known>, Refusal> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Refusal::Invalid("the token has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        let shown = digest(&[b"token\0", token.as_bytes()].concat());
        let make = || with_headers(self.nobody.0.clone(), vec![(header::AUTHORIZATION, value)]);
        Ok(self.everybody.known(shown, make))
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}

/// The value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
}

fn headers_of_proxied(user: &str, groups: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| {
            Refusal::Invalid("the proxy names a user or a group that no header can carry".to_owned())
        })
    };
    let mut headers = vec![(HeaderName::from_static("impersonate-user"), value(user)?)];
    for group in groups {
        headers.push((HeaderName::from_static("impersonate-group"), value(group)?));
    }
    Ok(headers)
}

/// A client whose requests have these headers; the connections are those of the other one.
fn with_headers(client: Client, extra: Vec<(HeaderName, HeaderValue)>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |mut request: http::Request<Body>| {
        for (name, value) in &extra {
            request.headers_mut().append(name.clone(), value.clone());
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn tokens_and_cookies_are_found_among_others() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer abc ")])), Some("abc"));
        assert_eq!(bearer(&headers(&[("authorization", "Basic abc")])), None);
        let all = headers(&[("cookie", "a=b; molt-token=t=1; c"), ("cookie", "d=e")]);
        assert_eq!(cookie(&all, "molt-token"), Some("t=1"));
        assert_eq!(cookie(&all, "d"), Some("e"));
        assert_eq!(cookie(&all, "token"), None);
        assert_eq!(cookie(&headers(&[("cookie", "molt-token=")]), TOKEN_COOKIE), None);
    }
}

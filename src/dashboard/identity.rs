//! Who asks, and the client that speaks to the API server in their name.
//!
//! A request is somebody's by, in this order: the session of the local link; a bearer token, in the header or in the
//! cookie that signing in sets; the headers of a trusted proxy. What remains is a guest, who may look with the server's
//! own rights where that is allowed, and may change nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
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
/// The header by which a proxy shows that it is the trusted one.
pub const PROXY_SECRET: &str = "x-molt-proxy-secret";
/// Identities that are remembered at most.
const MOST_KNOWN: usize = 1_000;
/// After this time without a request an identity is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// Groups that a proxy may name.
const MOST_GROUPS: usize = 200;

/// A digest of what somebody shows to be who they are. What is compared and kept is never the thing itself.
pub type Shown = [u8; 32];

/// The digest of a secret.
pub fn digest(secret: &[u8]) -> Shown {
    Sha256::digest(secret).into()
}

/// Which proxy may say who somebody is.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxy {
    /// Its addresses. Empty: any, if it knows the secret.
    pub networks: Vec<IpNet>,
    /// A digest of the secret that it sends. `None`: its address is enough.
    pub secret: Option<Shown>,
    /// The header with the user's name.
    pub user_header: String,
    /// The header with the groups, separated by commas; it may be there several times.
    pub groups_header: String,
}

impl TrustedProxy {
    /// No proxy is trusted.
    pub fn is_none(&self) -> bool {
        self.networks.is_empty() && self.secret.is_none()
    }

    /// Whom its headers name; `None` without such headers.
    fn user(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Option<(String, Vec<String>)>, Refusal> {
        let Some(user) = headers.get(&self.user_header).filter(|_| !self.is_none()) else {
            return Ok(None);
        };
        let near = self.networks.is_empty()
            || peer.is_some_and(|peer| {
                self.networks
                    .iter()
                    .any(|network| network.contains(&peer.to_canonical()))
            });
        let knows = self.secret.is_none_or(|secret| {
            let shown = headers.get(PROXY_SECRET).map(|shown| digest(shown.as_bytes()));
            shown == Some(secret)
        });
        if !near || !knows {
            let what = if near {
                "does not send the secret of"
            } else {
                "does not come from an address of"
            };
            return Err(Refusal::Forbidden(format!(
                "the request names a user in {} and {what} a trusted proxy",
                self.user_header
            )));
        }
        // A proxy that adds its own to what a stranger sent would let the stranger choose.
        if headers.get_all(&self.user_header).iter().count() > 1 {
            return Err(Refusal::Forbidden(format!(
                "the request names several users in {}: the proxy must replace that header",
                self.user_header
            )));
        }
        let text = |value: &HeaderValue| value.to_str().map(str::trim).map(str::to_owned);
        let unreadable =
            |_| Refusal::Invalid(format!("the header {} is not readable text", self.user_header));
        let user = text(user).map_err(unreadable)?;
        let mut groups = Vec::new();
        for value in headers.get_all(&self.groups_header) {
            let value = text(value).map_err(unreadable)?;
            groups.extend(
                value
                    .split(',')
                    .map(str::trim)
                    .filter(|g| !g.is_empty())
                    .map(str::to_owned),
            );
        }
        // Names of the cluster's own are no proxy's to give away.
        let own = |name: &String| name.starts_with("system:");
        if user.is_empty() || own(&user) || groups.iter().any(own) || groups.len() > MOST_GROUPS {
            return Err(Refusal::Forbidden(format!(
                "the proxy names a user or a group that it may not name: none is empty or begins with system:, and there are at most {MOST_GROUPS} groups"
            )));
        }
        Ok(Some((user, groups)))
    }
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
        self.how != How::Guest
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

    fn proxy(networks: &[&str], secret: Option<&str>) -> TrustedProxy {
        TrustedProxy {
            networks: networks.iter().map(|n| n.parse().unwrap()).collect(),
            secret: secret.map(|s| digest(s.as_bytes())),
            user_header: "x-forwarded-user".to_owned(),
            groups_header: "x-forwarded-groups".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const ADA: (&str, &str) = ("x-forwarded-user", "ada");

    #[test]
    fn a_proxy_is_believed_by_its_address_and_its_secret() {
        let near = Some("10.1.2.3".parse().unwrap());
        let mapped = Some("::ffff:10.1.2.3".parse().unwrap());
        let far = Some("192.0.2.1".parse().unwrap());
        let with = headers(&[
            ADA,
            (PROXY_SECRET, "s3cret"),
            ("x-forwarded-groups", "dev, ops"),
            ("x-forwarded-groups", "oncall"),
        ]);
        let without = headers(&[ADA]);
        let both = proxy(&["10.0.0.0/8"], Some("s3cret"));
        let (user, groups) = both.user(&with, near).unwrap().unwrap();
        assert_eq!(
            (user.as_str(), groups.join(" ")),
            ("ada", "dev ops oncall".to_owned())
        );
        assert!(both.user(&with, mapped).unwrap().is_some());
        for (headers, peer) in [(&with, far), (&without, near), (&with, None)] {
            assert!(matches!(both.user(headers, peer), Err(Refusal::Forbidden(_))));
        }
        assert!(
            proxy(&["10.0.0.0/8"], None)
                .user(&without, near)
                .unwrap()
                .is_some()
        );
        assert!(proxy(&[], Some("s3cret")).user(&with, far).unwrap().is_some());
        // Nobody is trusted: the headers mean nothing.
        assert!(proxy(&[], None).user(&with, near).unwrap().is_none());
    }

    #[test]
    fn a_proxy_gives_no_name_of_the_clusters_own() {
        let near = Some("10.1.2.3".parse().unwrap());
        let proxy = proxy(&["10.0.0.0/8"], None);
        for pairs in [
            &[("x-forwarded-user", "system:admin")][..],
            &[("x-forwarded-user", "")],
            &[ADA, ("x-forwarded-groups", "dev,system:masters")],
            &[ADA, ("x-forwarded-user", "bob")],
        ] {
            assert!(matches!(
                proxy.user(&headers(pairs), near),
                Err(Refusal::Forbidden(_))
            ));
        }
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

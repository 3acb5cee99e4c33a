//! What holds for every request and every answer, whoever asks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::refusal::Refusal;

/// The header that every change has: another site's page can't send it without being asked first, and is never allowed.
pub const CHANGE_HEADER: &str = "x-molt-dashboard";

/// Only what this server serves is loaded and run, nothing is put into the page as markup, and no page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// How long an answer may take to begin: an action waits for the operator, and the API server may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

fn late() -> Refusal {
    Refusal::Unavailable(format!(
        "the API server did not answer within {} s",
        PATIENCE.as_secs()
    ))
}

/// Refuses what comes from elsewhere, and adds the headers that keep a browser to what is meant.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let refused = check(&app, request.method(), request.headers())
        .and_then(|()| named(request.uri().path()))
        .err();
    let mut response = match refused {
        Some(refusal) => refusal.into_response(),
        None => tokio::time::timeout(PATIENCE, next.run(request))
            .await
            .unwrap_or_else(|_| late().into_response()),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses an address with a part that is no name of Kubernetes': it would name another resource in what is asked for in
/// its place.
fn named(path: &str) -> Result<(), Refusal> {
    let Some(parts) = path.strip_prefix("/api/") else {
        return Ok(());
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_name = |part: &str| {
        part.chars().all(inner)
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !part.contains("..")
    };
    if parts.split('/').all(is_name) {
        return Ok(());
    }
    Err(Refusal::Invalid(
        "the address has a part that is no name: names have letters, digits, - and .".to_owned(),
    ))
}

fn check(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(&header::HOST).unwrap_or_default();
    if app.door.as_ref().is_some_and(|door| !door.is_host(host)) {
        return Err(Refusal::Forbidden(
            "this dashboard answers at 127.0.0.1 and localhost alone".to_owned(),
        ));
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    if !headers.contains_key(CHANGE_HEADER) {
        return Err(Refusal::Forbidden(format!(
            "a change needs the header {CHANGE_HEADER}: 1"
        )));
    }
    let elsewhere = || Refusal::Forbidden("the request comes from a page of another site".to_owned());
    // A browser says it where it can; a proxy may have changed the host's name meanwhile.
    match text(&HeaderName::from_static("sec-fetch-site")) {
        Some("same-origin") => return Ok(()),
        Some(_) => return Err(elsewhere()),
        None => {}
    }
    match text(&header::ORIGIN) {
        Some(origin) if origin.split_once("://").map(|(_, of)| of) != Some(host) => Err(elsewhere()),
        _ => Ok(()),
    }
}

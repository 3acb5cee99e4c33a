//! Signing in and out, and who one is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::identity::{How, TOKEN_COOKIE, Viewer};
use super::local::Opened;
use super::refusal::Refusal;

/// Bytes of a token that fit into a cookie: browsers keep 4,096 in all.
const MOST_OF_TOKEN: usize = 3_900;

/// `GET /api/session`: who one is, and what can be done about it.
pub async fn who(
    State(app): State<Arc<App>>,
    viewer: Result<Viewer, Refusal>,
) -> Result<Json<Value>, Refusal> {
    let mode = if app.door.is_some() { "Local" } else { "Cluster" };
    let mut told = json!({"mode": mode, "version": env!("CARGO_PKG_VERSION"), "namespace": app.namespace});
    match viewer {
        Ok(viewer) if viewer.how == How::Guest => told["guest"] = json!(true),
        Ok(viewer) => {
            told["user"] = json!(viewer.access().user(viewer.client()).await?);
            told["signedInBy"] = json!(format!("{:?}", viewer.how));
        }
        Err(Refusal::SignIn(why)) => told["signIn"] = json!(why),
        Err(refusal) => return Err(refusal),
    }
    Ok(Json(told))
}

/// A token that somebody pastes.
#[derive(Deserialize)]
pub struct Pasted {
    token: String,
}

/// `POST /api/session`: signs in by a token, if the API server takes it.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json(pasted): Json<Pasted>,
) -> Result<Response, Refusal> {
    if app.door.is_some() {
        return Err(Refusal::Invalid(
            "this dashboard uses the identity of the kubeconfig".to_owned(),
        ));
    }
    let token = pasted.token.trim();
    if token.is_empty() || token.len() > MOST_OF_TOKEN || !token.chars().all(fits) {
        return Err(Refusal::Invalid(format!(
            "token: 1 to {MOST_OF_TOKEN} characters of a bearer token are expected; a longer one can be sent by a proxy in the header Authorization"
        )));
    }
    let origin = headers
        .get(header::ORIGIN)
        .and_then(|origin| origin.to_str().ok())
        .unwrap_or_default();
    let Some(secure) = safe(origin) else {
        return Err(Refusal::Invalid(
            "a token does not travel without encryption: open this page by https, or by kubectl port-forward at localhost".to_owned(),
        ));
    };
    let known = app.token(token)?;
    let viewer = Viewer::by_token(known);
    let user = viewer.access().user(viewer.client()).await?;
    let cookie = format!("{TOKEN_COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}");
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({"user": user}))).into_response())
}

/// What a cookie takes, and a header.
fn fits(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | ',' | ';' | '\\')
}

/// Whether a page of this origin may hold a token, and what keeps it on encrypted ways. A program has no origin.
fn safe(origin: &str) -> Option<&'static str> {
    match origin.split_once("://") {
        None | Some(("https", _)) => Some("; Secure"),
        Some((_, host)) => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            ["localhost", "127.0.0.1", "[::1]"].contains(&name).then_some("")
        }
    }
}

/// `DELETE /api/session`: signs out.
pub async fn sign_out() -> impl IntoResponse {
    let cookie = format!("{TOKEN_COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], StatusCode::NO_CONTENT)
}

/// The word of a link.
#[derive(Deserialize)]
pub struct Link {
    token: String,
}

/// `GET /open?token=…`: the link that was printed. The word does not stay in the address.
pub async fn open(State(app): State<Arc<App>>, Query(link): Query<Link>) -> Response {
    let Some(door) = &app.door else {
        return Refusal::NotFound("this dashboard has no such links".to_owned()).into_response();
    };
    match door.open(&link.token) {
        Opened::Session(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        // Whoever has the session already goes on; the page tells the others.
        Opened::No => Redirect::to("/").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_where_it_stays_secret() {
        assert_eq!(safe("https://molt.example.com"), Some("; Secure"));
        assert_eq!(safe("http://localhost:8081"), Some(""));
        assert_eq!(safe("http://[::1]:8081"), Some(""));
        assert_eq!(safe(""), Some("; Secure"));
        for origin in [
            "http://molt.example.com",
            "http://127.0.0.1.evil.example",
            "null://x",
        ] {
            assert_eq!(safe(origin), None, "{origin}");
        }
    }
}

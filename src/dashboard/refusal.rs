//! Why a request is not done, as the page tells it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::plugin::Failure;
use crate::plugin::failure::chain;

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody is signed in, or the API server takes the token for nobody's any more.
    SignIn(String),
    /// Who asks may not.
    Forbidden(String),
    /// There is no such thing.
    NotFound(String),
    /// It is not what it was when the person looked.
    Conflict(String),
    /// The request makes no sense.
    Invalid(String),
    /// The API server can't be reached, or this server is at its limits.
    Unavailable(String),
    /// The API server's answer makes no sense.
    Upstream(String),
}

impl Refusal {
    fn parts(&self) -> (StatusCode, &'static str, &str) {
        match self {
            Self::SignIn(why) => (StatusCode::UNAUTHORIZED, "SignIn", why),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Forbidden", why),
            Self::NotFound(why) => (StatusCode::NOT_FOUND, "NotFound", why),
            Self::Conflict(why) => (StatusCode::CONFLICT, "Conflict", why),
            Self::Invalid(why) => (StatusCode::BAD_REQUEST, "Invalid", why),
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", why),
            Self::Upstream(why) => (StatusCode::BAD_GATEWAY, "Upstream", why),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = self.parts();
        (status, Json(json!({"error": code, "message": message}))).into_response()
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Self::SignIn(
                    "the API server does not accept this sign-in: the token is wrong, has expired or was revoked"
                        .to_owned(),
                ),
                403 => Self::Forbidden(status.message.clone()),
                404 => Self::NotFound(status.message.clone()),
                409 => Self::Conflict(status.message.clone()),
                400 | 422 => Self::Invalid(status.message.clone()),
                _ => Self::Upstream(format!("the API server answered: {}", status.message)),
            },
            other => Self::Unavailable(format!("the API server can't be reached: {}", chain(&other))),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::NotFound(_) => Self::NotFound(text),
            Failure::NothingChanged(_) => Self::Conflict(text),
            Failure::Input(_) => Self::Invalid(text),
            _ => Self::Upstream(text),
        }
    }
}

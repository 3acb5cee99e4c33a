//! The HTTP client of all sources.

use std::time::Duration;

use prometheus_http_query::reqwest::{self, Certificate};

/// Connections to one host that are kept without anybody asking.
const MAX_IDLE: usize = 8;

/// A client that trusts the system's authorities and those of `ca`, a bundle in PEM.
pub fn client(ca: Option<&[u8]>) -> Result<reqwest::Client, String> {
    let ca = ca.map_or_else(|| Ok(Vec::new()), certificates)?;
    reqwest::Client::builder()
        .tls_certs_merge(ca)
        .user_agent(concat!("molt/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(3))
        .pool_max_idle_per_host(MAX_IDLE)
        // A redirect would turn a POST into a GET without its query, and take headers elsewhere; it is
        // reported instead.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| format!("the HTTP client can't be set up: {}", root_cause(&error)))
}

/// The certificates of a bundle in PEM.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("the file of --prometheus-ca-file holds no certificate in PEM".to_owned()),
        Err(error) => Err(format!("the file of --prometheus-ca-file is no PEM: {error}")),
    }
}

/// Errors of HTTP clients name the URL first and the cause last.
pub fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

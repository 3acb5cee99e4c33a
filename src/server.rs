//! Probes and metrics over HTTP.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, extract};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::leader::{Leadership, Standing};
use crate::metrics::{CONTENT_TYPE, Metrics};

/// How long requests under way may last once the process is to stop: a client that never reads must not
/// keep it alive.
const GRACE: Duration = Duration::from_secs(3);

/// Whether the operator can do its work, or stand in for the one that does. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Starting,
    Ready(Leadership),
    Ending,
}

impl Readiness {
    /// The caches are filled; whether this replica leads is told by its leadership.
    pub fn ready(&self, leadership: Leadership) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = State::Ready(leadership);
    }

    /// The process is about to end.
    pub fn ending(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = State::Ending;
    }

    /// What it does, or why it is not ready. A replica that never saw the lease could not take over.
    pub fn tell(&self) -> Result<String, String> {
        let leadership = match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            State::Starting => return Err("caches are not in sync yet".to_owned()),
            State::Ending => return Err("ending".to_owned()),
            State::Ready(leadership) => leadership.standing(),
        };
        match leadership {
            Standing::Leading(_) => Ok("leading".to_owned()),
            Standing::Standby { leader: Some(leader) } => Ok(format!("standby; {leader} leads")),
            Standing::Standby { leader: None } => Ok("standby; nobody is known to lead".to_owned()),
            Standing::Unknown { why: Some(why) } => Err(why),
            Standing::Unknown { why: None } => Err("the lease has not been read yet".to_owned()),
        }
    }
}

/// What the server shows.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/readyz`.
    pub readiness: Readiness,
}

/// `/livez`: the process answers; `/readyz`: it can do its work, or stand in for the one that does, and which; `/metrics`.
pub fn router(state: ServerState) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn readyz(extract::State(state): extract::State<ServerState>) -> impl IntoResponse {
    match state.readiness.tell() {
        Ok(what) => (StatusCode::OK, format!("ok: {what}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(extract::State(state): extract::State<ServerState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.metrics.encode())
}

/// Listens on the address and answers until `shutdown` is complete.
pub async fn serve(
    address: SocketAddr,
    state: ServerState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let advice = "choose another address, or stop what listens there";
        io::Error::new(
            error.kind(),
            format!("can't serve probes and metrics on {address}: {error}; {advice}"),
        )
    })?;
    tracing::info!(%address, "serving probes and metrics");
    serve_on(listener, state, shutdown).await
}

/// As [`serve`], on a socket that listens already.
pub async fn serve_on(
    listener: TcpListener,
    state: ServerState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, router(state)).with_graceful_shutdown(async move {
        shutdown.await;
        // The receiver is gone only when the server is gone as well.
        let _ = stopping.send(());
    });
    let overdue = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server.into_future() => ended,
        () = overdue => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_http_query::reqwest;

    #[tokio::test]
    async fn probes_and_metrics_answer_until_shutdown() {
        let state = ServerState {
            metrics: Metrics::new("1.2.3"),
            readiness: Readiness::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve_on(listener, state.clone(), async {
            let _ = stopped.await;
        }));

        let status = async |path: &str| {
            reqwest::get(format!("{base}{path}"))
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert_eq!(status("/livez").await, 200);
        assert_eq!(status("/readyz").await, 503);
        state.readiness.ready(Leadership::alone());
        assert_eq!(status("/readyz").await, 200);
        assert_eq!(status("/nowhere").await, 404);

        let answer = reqwest::get(format!("{base}/metrics")).await.unwrap();
        assert_eq!(answer.headers()["content-type"], CONTENT_TYPE);
        assert!(answer.text().await.unwrap().ends_with("# EOF\n"));

        stop.send(()).unwrap();
        tokio::time::timeout(GRACE * 2, server)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let state = ServerState {
            metrics: Metrics::new("1.2.3"),
            readiness: Readiness::default(),
        };
        let error = serve(address, state, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}

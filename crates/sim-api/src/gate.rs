//! Clients that are told apart, and whose requests can be withheld, whatever server they talk to.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Response};
use kube::Client;
use kube::client::Body;

/// Says whether a request, by its method and path, gets through.
type Gate = dyn Fn(&Method, &str) -> bool + Send + Sync;

struct Gated {
    inner: Client,
    agent: HeaderValue,
    gate: Arc<Gate>,
}

/// A client that reaches the server of another one, with `agent` as its user agent. What `gate` does not let
/// through is never answered. Must be made within a tokio runtime.
pub fn gated(
    inner: Client,
    agent: &'static str,
    gate: impl Fn(&Method, &str) -> bool + Send + Sync + 'static,
) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let gated = Gated {
        inner,
        agent: HeaderValue::from_static(agent),
        gate: Arc::new(gate),
    };
    Client::new(gated, namespace)
}

impl tower::Service<Request<Body>> for Gated {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, self.agent.clone());
        let (inner, gate) = (self.inner.clone(), self.gate.clone());
        Box::pin(async move {
            if gate(request.method(), request.uri().path()) {
                inner.send(request).await
            } else {
                pending().await
            }
        })
    }
}

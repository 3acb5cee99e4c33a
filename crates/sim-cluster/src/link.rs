//! The operator's connection to the simulated API server.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use molt_sim_api::transport::{AnswerBody, Lines, read, respond};
use tokio::time::Instant;

use crate::world::{Cluster, Reply};

/// One process's connection.
#[derive(Clone)]
pub struct Link {
    /// The world.
    pub cluster: Cluster,
    /// The process.
    pub process: u32,
    /// When the world began.
    pub began: Instant,
}

/// Milliseconds since the world's beginning.
pub fn elapsed(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl tower::Service<Request<Body>> for Link {
    type Response = Response<AnswerBody<Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let link = self.clone();
        Box::pin(async move {
            let call = read(request).await?;
            let reply = link.cluster.at(elapsed(link.began)).submit(link.process, call);
            match reply.await {
                Ok(Reply::Whole {
                    code,
                    body,
                    retry_after,
                }) => Ok(respond(code, retry_after, AnswerBody::whole(body.to_string()))),
                Ok(Reply::Watch(id)) => {
                    let stream = Stream {
                        cluster: link.cluster,
                        id,
                    };
                    Ok(respond(200, None, AnswerBody::Watch(stream)))
                }
                Ok(Reply::Broken(kind)) => Err(io::Error::new(kind, "the connection broke")),
                // The world has ended.
                Err(_) => pending().await,
            }
        })
    }
}

/// The events of a watch.
pub struct Stream {
    cluster: Cluster,
    id: u64,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cluster.lock().drop_watch(self.id);
    }
}

impl Lines for Stream {
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.cluster.lock().poll_watch(self.id, context)
    }
}

//! The operator's connection to the simulated API server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use kube::client::Body;
use molt_sim_api::service::read;
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
    type Response = Response<Answer>;
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
                }) => {
                    let parts = VecDeque::from([Bytes::from(body.to_string())]);
                    Ok(respond(code, retry_after, Answer::Whole(parts)))
                }
                Ok(Reply::Watch(id)) => {
                    let stream = Stream {
                        cluster: link.cluster,
                        id,
                    };
                    Ok(respond(200, None, Answer::Watch(stream)))
                }
                Ok(Reply::Broken(kind)) => Err(io::Error::new(kind, "the connection broke")),
                // The world has ended.
                Err(_) => pending().await,
            }
        })
    }
}

fn respond(code: u16, retry_after: Option<u32>, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The body of an answer.
pub enum Answer {
    /// All of it is there.
    Whole(VecDeque<Bytes>),
    /// The events of a watch, one a line.
    Watch(Stream),
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

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        match self.get_mut() {
            Self::Whole(parts) => Poll::Ready(parts.pop_front().map(frame)),
            Self::Watch(stream) => {
                let next = stream.cluster.lock().poll_watch(stream.id, context);
                next.map(|bytes| bytes.map(frame))
            }
        }
    }
}

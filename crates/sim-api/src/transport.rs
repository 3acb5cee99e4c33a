//! Requests and answers as HTTP has them, whoever carries them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use crate::call::Call;

/// The events of a watch, as text, one a line.
pub trait Lines: Unpin {
    /// The next of them, or the end.
    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

/// The body of an answer.
pub enum AnswerBody<L> {
    /// What is left of it is there.
    Whole(Option<Bytes>),
    /// The events of a watch.
    Watch(L),
}

impl<L> AnswerBody<L> {
    /// The body of an answer that is no watch, from its text.
    pub fn whole(text: String) -> Self {
        Self::Whole(Some(Bytes::from(text)))
    }
}

impl<L: Lines> http_body::Body for AnswerBody<L> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(rest) => Poll::Ready(rest.take()),
            Self::Watch(lines) => lines.poll_line(context),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// An answer, with the seconds after which an overloaded server wants to be asked again.
pub fn respond<L>(code: u16, retry_after: Option<u32>, body: AnswerBody<L>) -> Response<AnswerBody<L>> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The call that an HTTP request makes.
pub async fn read(request: Request<Body>) -> io::Result<Call> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let header = |name| {
        let value = parts.headers.get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let content = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let uri = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let content_type = header(http::header::CONTENT_TYPE);
    let mut call = Call::new(parts.method, uri, &content_type, content);
    call.user_agent = header(http::header::USER_AGENT);
    Ok(call)
}

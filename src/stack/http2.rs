//! The calls of an HTTP/2 connection as a tower service: places and records each, and observes its bodies.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use http::{HeaderMap, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;

use super::record::{Call, RequestHead, RequestObserver};
use super::{BodyEnd, Context, ObservedBody, Observer, StackError};

/// The service.
#[derive(Debug)]
pub(super) struct Record<S> {
    context: Context,
    inner: S,
}

impl<S> Record<S> {
    pub(super) fn new(context: Context, inner: S) -> Self {
        Self { context, inner }
    }
}

impl<S> Service<Request<ObservedBody>> for Record<S>
where
    S: Service<Request<ObservedBody>, Response = Response<Incoming>, Error = StackError>,
{
    type Response = Response<ObservedBody>;
    type Error = StackError;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), StackError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ObservedBody>) -> Self::Future {
        let (mut parts, mut body) = request.into_parts();
        let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let head = RequestHead {
            method: parts.method.as_str(),
            scheme: parts.uri.scheme_str().unwrap_or("http"),
            authority: parts.uri.authority().map(|authority| authority.as_str()).or_else(host),
            path: parts.uri.path_and_query().map_or("", |path| path.as_str()),
            version: parts.version,
            headers: &parts.headers,
        };
        let (edits, call) = self.context.begin(&head);
        edits.apply(&mut parts.headers);
        if !body.is_end_stream() {
            body.observe(Box::new(call.request_observer()));
        }
        Recorded { inner: self.inner.call(Request::from_parts(parts, body)), call: Some(call) }
    }
}

pin_project! {
    /// The answer's head on its way back.
    pub(super) struct Recorded<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F> Future for Recorded<F>
where
    F: Future<Output = Result<Response<Incoming>, StackError>>,
{
    type Output = Result<Response<ObservedBody>, StackError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        let call = this.call.take();
        Poll::Ready(match answer {
            Ok(answer) => Ok(answer_of(answer, call)),
            Err(error) => {
                if let Some(mut call) = call {
                    call.failed(&error);
                }
                Err(error)
            }
        })
    }
}

fn answer_of(answer: Response<Incoming>, call: Option<Call>) -> Response<ObservedBody> {
    let (parts, body) = answer.into_parts();
    let mut body = ObservedBody::from_upstream(body);
    if let Some(mut call) = call {
        call.answered(parts.status.as_u16(), &parts.headers);
        body.observe(Box::new(call));
    }
    Response::from_parts(parts, body)
}

impl Observer for Call {
    fn trailers(&mut self, trailers: &HeaderMap) {
        Call::trailers(self, trailers);
    }

    fn end(mut self: Box<Self>, end: BodyEnd<'_>) {
        match end {
            BodyEnd::Complete => self.complete(),
            BodyEnd::Broken(error) => self.failed(error),
        }
    }
}

impl Observer for RequestObserver {
    fn end(self: Box<Self>, end: BodyEnd<'_>) {
        if let BodyEnd::Broken(_) = end {
            self.broken();
        }
    }
}

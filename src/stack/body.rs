//! A body that is watched as it passes: every frame is shown to the observer before it is handed on, unchanged.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::StackError;

/// How a body ended. One that is dropped before its end has none: the observer is dropped with it.
#[derive(Clone, Copy, Debug)]
pub enum BodyEnd<'a> {
    /// Its last frame was handed on.
    Complete,
    /// Its source failed.
    Broken(&'a StackError),
}

/// Sees a body go by. It cannot fail it, change it or hold it up.
pub trait Observer: Send + Sync + 'static {
    /// A piece of the body, before it is handed on.
    fn data(&mut self, data: &Bytes) {
        let _ = data;
    }

    /// The trailers, before they are handed on.
    fn trailers(&mut self, trailers: &HeaderMap) {
        let _ = trailers;
    }

    /// The end, told with the last frame and not with the `None` behind it, which nobody may ask for.
    fn end(self: Box<Self>, end: BodyEnd<'_>);
}

/// A body from one side on its way to the other.
pub struct ObservedBody {
    inner: Incoming,
    side: fn(hyper::Error) -> StackError,
    observer: Option<Box<dyn Observer>>,
}

impl ObservedBody {
    /// A request's body, from the client.
    pub fn from_client(inner: Incoming) -> Self {
        Self { inner, side: StackError::client, observer: None }
    }

    /// An answer's body, from upstream.
    pub fn from_upstream(inner: Incoming) -> Self {
        Self { inner, side: StackError::upstream, observer: None }
    }

    /// Sets the observer. A body that is empty from the start ends at once.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        if self.inner.is_end_stream() {
            observer.end(BodyEnd::Complete);
        } else {
            self.observer = Some(observer);
        }
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        if let Some(observer) = self.observer.take() {
            observer.end(end);
        }
    }
}

impl Body for ObservedBody {
    type Data = Bytes;
    type Error = StackError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StackError>>> {
        let this = &mut *self;
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(observer) = &mut this.observer {
                    if let Some(data) = frame.data_ref() {
                        observer.data(data);
                    } else if let Some(trailers) = frame.trailers_ref() {
                        observer.trailers(trailers);
                    }
                }
                if this.inner.is_end_stream() {
                    this.end(BodyEnd::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let error = (this.side)(error);
                this.end(BodyEnd::Broken(&error));
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.end(BodyEnd::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl std::fmt::Debug for ObservedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedBody").field("observed", &self.observer.is_some()).finish_non_exhaustive()
    }
}

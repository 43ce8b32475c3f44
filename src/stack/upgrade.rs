//! Joins the two halves of a connection that changed its protocol: `101 Switching Protocols`, or an accepted CONNECT.
//! What follows is passed through unread, by the connection's task.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::Service;

use super::{Handover, ObservedBody, StackError};

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Upgrade<S> {
    handover: Option<Handover>,
    inner: S,
}

impl<S> Upgrade<S> {
    pub(super) fn new(handover: Option<Handover>, inner: S) -> Self {
        Self { handover, inner }
    }
}

impl<S> Service<Request<ObservedBody>> for Upgrade<S>
where
    S: Service<Request<ObservedBody>, Response = Response<Incoming>, Error = StackError>,
    S::Future: Send + 'static,
{
    type Response = Response<Incoming>;
    type Error = StackError;
    type Future = futures_util::future::Either<S::Future, BoxFuture<'static, Result<Response<Incoming>, StackError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StackError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ObservedBody>) -> Self::Future {
        let connect = request.method() == Method::CONNECT;
        let asks = connect || request.headers().contains_key(http::header::UPGRADE);
        let Some(handover) = self.handover.clone().filter(|_| asks) else {
            return self.inner.call(request).left_future();
        };
        let client = hyper::upgrade::on(&mut request);
        let answer = self.inner.call(request);
        async move {
            let mut answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS || (connect && answer.status().is_success()) {
                handover.upgrade(client, hyper::upgrade::on(&mut answer));
            }
            Ok(answer)
        }
        .boxed()
        .right_future()
    }
}

//! Joins the two halves of a connection that changed its protocol: `101 Switching Protocols`, or an accepted CONNECT.
//! What follows is passed through unread.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tower::Service;

use super::{ObservedBody, StackError};

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Upgrade<S> {
    inner: S,
}

impl<S> Upgrade<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
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
        if !connect && !request.headers().contains_key(http::header::UPGRADE) {
            return self.inner.call(request).left_future();
        }
        let client = hyper::upgrade::on(&mut request);
        let answer = self.inner.call(request);
        async move {
            let mut answer = answer.await?;
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS || (connect && answer.status().is_success()) {
                let upstream = hyper::upgrade::on(&mut answer);
                tokio::spawn(async move {
                    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
                    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                    // Either side's end has been passed on; there is nobody left to tell of a failure.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
            Ok(answer)
        }
        .boxed()
        .right_future()
    }
}

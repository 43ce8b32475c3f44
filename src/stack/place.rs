//! Fixes a call's ids and writes them into its headers.

use std::task::{Context, Poll};

use http::Request;
use tower::Service;

use crate::stitch;
use crate::trace::propagation;

/// The service: the request goes on with its `traceparent` written and its [`Placement`](crate::trace::Placement) among
/// the extensions.
#[derive(Clone, Debug)]
pub(super) struct Place<S> {
    inner: S,
}

impl<S> Place<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B> Service<Request<B>> for Place<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let context = propagation::extract(request.headers());
        let placement = stitch::place(context.as_ref(), &mut rand::rng());
        propagation::inject(&placement, request.headers_mut());
        request.extensions_mut().insert(placement);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Placement;

    #[tokio::test]
    async fn the_header_that_goes_upstream_and_the_placement_are_one() {
        let (service, mut upstream) = tower_test::mock::pair::<Request<()>, ()>();
        let mut place = Place::new(service);
        upstream.allow(2);
        for incoming in [None, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")] {
            futures_util::future::poll_fn(|cx| place.poll_ready(cx)).await.unwrap();
            let mut request = Request::new(());
            if let Some(incoming) = incoming {
                request.headers_mut().insert("traceparent", incoming.parse().unwrap());
            }
            let answer = place.call(request);
            let (sent, respond) = upstream.next_request().await.unwrap();
            let placement = sent.extensions().get::<Placement>().unwrap();
            assert_eq!(sent.headers()["traceparent"], propagation::traceparent(placement));
            assert_eq!(placement.parent.is_some(), incoming.is_some());
            respond.send_response(());
            answer.await.unwrap();
        }
    }
}

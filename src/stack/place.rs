//! Fixes a call's ids and writes them into its headers.

use std::net::IpAddr;
use std::task::{Context, Poll};

use http::Request;
use tower::Service;

use crate::net::Target;
use crate::stitch;
use crate::trace::propagation::{Handling, Propagators};
use crate::trace::sampler::Sampler;

/// The service: the request goes on with its context written and its [`Placement`](crate::trace::Placement) among the
/// extensions.
#[derive(Clone, Debug)]
pub(super) struct Place<S> {
    propagators: Propagators,
    sampler: Sampler,
    handling: Handling,
    inner: S,
}

impl<S> Place<S> {
    pub(super) fn new(propagators: Propagators, sampler: Sampler, handling: Handling, inner: S) -> Self {
        Self { propagators, sampler, handling, inner }
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
        let incoming = self.propagators.extract(request.headers());
        let placement = stitch::place(&incoming, self.handling, &self.sampler, &mut rand::rng());
        let edits = self.propagators.inject(&placement, self.handling, request.headers());
        edits.apply(request.headers_mut());
        request.extensions_mut().insert(placement);
        self.inner.call(request)
    }
}

/// How calls to this destination are treated.
pub(super) fn handling(target: &Target) -> Handling {
    Handling { trusted: is_inside(target.original.ip()), ..Handling::default() }
}

/// Loopback, private (RFC 1918, RFC 4193) and shared address space (RFC 6598), which clusters give to pods. Link-local
/// addresses are the cloud's.
fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback() || v4.is_private() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Placement;
    use crate::trace::propagation::w3c;

    async fn sent(handling: Handling, lines: &[(&'static str, &'static str)]) -> Request<()> {
        let (service, mut upstream) = tower_test::mock::pair::<Request<()>, ()>();
        let mut place = Place::new(Propagators::default(), Sampler::default(), handling, service);
        upstream.allow(1);
        futures_util::future::poll_fn(|cx| place.poll_ready(cx)).await.unwrap();
        let mut request = Request::new(());
        for (name, value) in lines {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let answer = place.call(request);
        let (sent, respond) = upstream.next_request().await.unwrap();
        respond.send_response(());
        answer.await.unwrap();
        sent
    }

    #[tokio::test]
    async fn the_header_that_goes_upstream_and_the_placement_are_one() {
        for incoming in [None, Some(("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))] {
            let sent = sent(Handling::default(), incoming.as_slice()).await;
            let placement = sent.extensions().get::<Placement>().unwrap();
            assert_eq!(sent.headers()["traceparent"], w3c::traceparent(placement));
            assert_eq!(placement.parent.is_some(), incoming.is_some());
        }
    }

    #[tokio::test]
    async fn what_is_said_inside_the_trust_boundary_stays_there() {
        let lines = [
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "vendor=tenant7,ot=th:8;x:y"),
            ("baggage", "user=alice"),
            ("baggage", "tier=gold"),
            ("accept", "*/*"),
        ];
        let inside = sent(Handling::default(), &lines).await;
        assert_eq!(inside.headers()["tracestate"], "vendor=tenant7,ot=th:8;x:y");
        assert_eq!(inside.headers().get_all("baggage").iter().count(), 2);
        let outside = sent(Handling { trusted: false, ..Handling::default() }, &lines).await;
        assert_eq!(outside.headers()["tracestate"], "ot=th:8");
        assert!(!outside.headers().contains_key("baggage"));
        assert_eq!(&*outside.extensions().get::<Placement>().unwrap().tracestate, "ot=th:8");
        let left_alone = sent(Handling { trusted: false, inject: false, ..Handling::default() }, &lines).await;
        assert_eq!(left_alone.headers()["traceparent"], lines[0].1);
        assert_eq!(left_alone.headers()["tracestate"], lines[1].1);
        assert!(!left_alone.headers().contains_key("baggage"));
    }

    #[test]
    fn the_boundary_is_drawn_around_loopback_private_and_shared_addresses() {
        for inside in ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.255"] {
            assert!(is_inside(inside.parse().unwrap()), "{inside}");
        }
        for inside in ["::1", "fd00::1", "fc00::1", "::ffff:10.0.0.1"] {
            assert!(is_inside(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "100.63.255.255", "169.254.169.254", "0.0.0.0"] {
            assert!(!is_inside(outside.parse().unwrap()), "{outside}");
        }
        for outside in ["2001:db8::1", "fe80::1", "::ffff:8.8.8.8"] {
            assert!(!is_inside(outside.parse().unwrap()), "{outside}");
        }
    }
}

//! What the pod may ask: `/live`, `/ready`, `/metrics`. Nothing here changes anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::telemetry::Metrics;

/// What the answers are made of.
#[derive(Debug)]
pub struct Health {
    ready: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Not ready yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { ready: AtomicBool::new(false), metrics }
    }

    /// Redirected traffic is served from now on, or no longer.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/live") => (StatusCode::OK, TEXT, "live\n".into()),
            (&Method::GET | &Method::HEAD, "/ready") if self.ready.load(Ordering::Acquire) => {
                (StatusCode::OK, TEXT, "ready\n".into())
            }
            (&Method::GET | &Method::HEAD, "/ready") => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".into()),
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, PROMETHEUS, self.metrics.prometheus()),
            (_, "/live" | "/ready" | "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n".into()),
            _ => (StatusCode::NOT_FOUND, TEXT, "/live, /ready, /metrics\n".into()),
        };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        answer
    }
}

/// Serves until the task is dropped. A stranger can hold at most a few connections, each for a short time.
pub async fn serve(listener: TcpListener, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "health port");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let health = health.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answer = health.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // What a prober does wrong concerns only the prober.
            let _ = tokio::time::timeout(LONGEST, connection).await;
        });
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const MAX_CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);

//! What may be asked, and by whom: the pod's health port (`/live`, `/ready`, `/metrics`, and, if switched on, an orderly
//! quit), and behind a Unix socket of our own user [`control`], which may change things.

pub mod control;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::pipeline::CallMetrics;
use crate::telemetry::Metrics;
use crate::telemetry::exposition::Exposition;

/// What the answers are made of.
#[derive(Debug)]
pub struct Health {
    ready: AtomicBool,
    metrics: Arc<Metrics>,
    calls: Arc<CallMetrics>,
    budget: Arc<Budget>,
    quit: CancellationToken,
    quit_endpoint: bool,
}

impl Health {
    /// Not ready yet. `quit` begins the drain, which the health port may do only with `quit_endpoint`.
    pub fn new(
        (metrics, calls): (Arc<Metrics>, Arc<CallMetrics>),
        budget: Arc<Budget>,
        quit: CancellationToken,
        quit_endpoint: bool,
    ) -> Self {
        Self { ready: AtomicBool::new(false), metrics, calls, budget, quit, quit_endpoint }
    }

    /// Redirected traffic is served from now on, or no longer.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/quitquitquit") if self.quit_endpoint => {
                if peer.ip().to_canonical().is_loopback() {
                    self.quit()
                } else {
                    answer(StatusCode::FORBIDDEN, TEXT, "from this pod's loopback only\n")
                }
            }
            (_, "/quitquitquit") if self.quit_endpoint => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "POST\n"),
            _ => self.look(request).unwrap_or_else(|| answer(StatusCode::NOT_FOUND, TEXT, "/live, /ready, /metrics\n")),
        }
    }

    /// What can be asked without changing anything.
    fn look(&self, request: &Request<Incoming>) -> Option<Answer> {
        let path = request.uri().path();
        if !matches!(path, "/live" | "/ready" | "/metrics") {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some(answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET or HEAD\n"));
        }
        Some(match path {
            "/live" => answer(StatusCode::OK, TEXT, "live\n"),
            "/metrics" => self.prometheus(),
            _ if self.ready.load(Ordering::Acquire) => answer(StatusCode::OK, TEXT, "ready\n"),
            _ => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
        })
    }

    /// Begins the drain, as SIGTERM does. Asked again it says the same.
    fn quit(&self) -> Answer {
        if !self.quit.is_cancelled() {
            tracing::info!("told to quit");
        }
        self.quit.cancel();
        answer(StatusCode::ACCEPTED, TEXT, "draining\n")
    }

    fn prometheus(&self) -> Answer {
        let mut text = Exposition::default();
        self.metrics.expose(&mut text);
        self.budget.expose(&mut text);
        let pages = std::iter::once(text.into_text()).chain(self.calls.clone().pages());
        let frames = pages.map(|page| Ok(Frame::data(Bytes::from(page))));
        respond(StatusCode::OK, PROMETHEUS, StreamBody::new(stream::iter(frames)).boxed())
    }
}

/// Serves until the task is dropped. A stranger can hold at most a few connections, each for a short time.
pub async fn serve(listener: TcpListener, health: Arc<Health>, connections: Connections) {
    loop {
        let Some(place) = connections.place().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "health port");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if stream.local_addr().is_ok_and(|local| local.ip() == peer.ip()) {
            health.metrics.known_opens.inc();
        }
        let health = health.clone();
        connections.serve(place, stream, move |request| {
            let answer = health.answer(&request, peer);
            async move { answer }
        });
    }
}

/// The connections of one listener: few, short, and answered to their end when we stop.
#[derive(Clone, Debug)]
pub struct Connections {
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Default for Connections {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { places, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }
}

impl Connections {
    /// Lets what is being answered come to its end.
    pub async fn finish(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    fn serve<S, A, F>(&self, place: OwnedSemaphorePermit, stream: S, answer: A)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            // What a prober does wrong concerns only the prober.
            let _ = tokio::time::timeout(LONGEST, async {
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    ended = &mut connection => return ended,
                    () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
                }
                connection.await
            })
            .await;
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    respond(status, kind, Full::new(body.into()).boxed())
}

fn respond(status: StatusCode, kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const MAX_CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
const LAST_WORDS: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

//! The bench's own origins, and the sink that counts spans: threads of this process, in `world`, on core 1.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tokio::net::TcpListener as AsyncListener;
use tokio::sync::Barrier;

use super::it::support::Netns;
use super::world::ADDRESS;
use super::{observed, sse};

/// gRPC: `/bench.Bench/Unary` answers a message with a message, `/bench.Bench/Echo` each message with itself.
pub(crate) const GRPC: u16 = 8082;
/// Takes a body and answers with its length.
pub(crate) const UPLOAD: u16 = 8084;
/// Answers with 1 KiB when as many requests wait as make a crowd.
pub(crate) const CROWDED: u16 = 8085;
pub(crate) const CROWD: usize = 1_000;
/// OTLP, http/protobuf.
pub(crate) const SINK: u16 = 4318;

#[derive(Debug)]
pub(crate) struct Origins {
    spans: Arc<AtomicU64>,
}

impl Origins {
    pub(crate) fn start(netns: &Netns) -> Self {
        let spans = Arc::<AtomicU64>::default();
        let bind = |port: u16| netns.enter(move || TcpListener::bind((ADDRESS, port)).unwrap());
        let (grpc, upload, sink, events) = (bind(GRPC), bind(UPLOAD), bind(SINK), bind(sse::PORT));
        let crowded = bind(CROWDED);
        std::thread::spawn(move || sse::serve(events));
        let models = bind(observed::origin::PORT);
        std::thread::spawn(move || observed::origin::serve(models));
        let counted = spans.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let sink = serve_http1(sink, move |body| keep_count(body, counted.clone()));
                let crowd = Arc::new(Barrier::new(CROWD));
                let crowded = serve_http1(crowded, move |_| wait_for_all(crowd.clone()));
                tokio::join!(serve_grpc(grpc), serve_http1(upload, measure), sink, crowded)
            });
        });
        Self { spans }
    }

    /// Spans that have arrived.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.load(Ordering::SeqCst)
    }
}

/// A length-prefixed message of 64 bytes.
pub(crate) fn message() -> Bytes {
    let mut message = vec![0, 0, 0, 0, 64];
    message.extend([b'x'; 64]);
    message.into()
}

async fn serve_http1<F, A>(listener: TcpListener, answer: F)
where
    F: Fn(Incoming) -> A + Clone + Send + 'static,
    A: Future<Output = Bytes> + Send + 'static,
{
    let listener = accepting(listener);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answered = answer(request.into_body());
            async move { Ok::<_, Infallible>(Response::new(Full::new(answered.await))) }
        });
        tokio::spawn(async move {
            // A proxy may close when it likes.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// The body's length.
async fn measure(mut body: Incoming) -> Bytes {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    length.to_string().into()
}

async fn wait_for_all(crowd: Arc<Barrier>) -> Bytes {
    crowd.wait().await;
    Bytes::from_static(&[b'x'; 1 << 10])
}

/// An empty `ExportTraceServiceResponse`: all taken.
async fn keep_count(body: Incoming, spans: Arc<AtomicU64>) -> Bytes {
    let body = body.collect().await.unwrap().to_bytes();
    spans.fetch_add(count_spans(body), Ordering::SeqCst);
    Bytes::new()
}

/// Without decoding them: field 2 (`spans`) of field 2 (`scope_spans`) of field 1 (`resource_spans`).
fn count_spans(request: Bytes) -> u64 {
    let scopes = fields(request, 1).into_iter().flat_map(|resource| fields(resource, 2));
    scopes.map(|scope| fields(scope, 2).len() as u64).sum()
}

/// The embedded messages under one tag.
fn fields(mut message: Bytes, wanted: u32) -> Vec<Bytes> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).unwrap();
        if tag == wanted && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut message).unwrap();
            found.push(message.split_to(usize::try_from(length).unwrap()));
        } else {
            skip_field(wire_type, tag, &mut message, DecodeContext::default()).unwrap();
        }
    }
    found
}

async fn serve_grpc(listener: TcpListener) {
    let listener = accepting(listener);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(call(request, respond));
            }
        });
    }
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let echo = request.uri().path() == "/bench.Bench/Echo";
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    // Errors are the client's that went away when its time was over.
    let Ok(mut send) = respond.send_response(head, false) else { return };
    let _ = if echo {
        return_each(request.into_body(), send).await
    } else {
        return_one(request.into_body(), &mut send).await
    };
}

async fn return_one(mut body: RecvStream, send: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    send.send_data(message(), false)?;
    send.send_trailers(status_ok())
}

async fn return_each(mut body: RecvStream, mut send: SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if !data.is_empty() {
            send.send_data(data, false)?;
        }
    }
    send.send_trailers(status_ok())
}

fn status_ok() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))])
}

pub(crate) fn accepting(listener: TcpListener) -> AsyncListener {
    listener.set_nonblocking(true).unwrap();
    AsyncListener::from_std(listener).unwrap()
}

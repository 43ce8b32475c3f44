//! Sidetrace: a transparent sidecar proxy that gives any AI agent distributed tracing without a line of agent code
//! changed.
//!
//! # The life of a connection
//! `iptables/init.sh` redirects the agent's TCP to the outbound port, and what comes into the pod to the inbound one. [`app`]
//! accepts; [`proxy::serve`] asks [`net`] where the connection wanted to go, and whose it is ([`net::owner`]) where the pod has
//! several workloads, connects there, and lets [`detect`] read who speaks first and what they say. If that is a ClientHello, and nothing speaks against it, [`tls`] shakes hands with upstream as the
//! client asked for it, then with the client as upstream answered, with a certificate of the pod's own [`tls::authority`],
//! which the agent trusts by the files of [`trust`]; what is inside is detected anew. A doubt about upstream sends the untouched
//! ClientHello there on a second connection, and the client judges for itself.
//!
//! HTTP/1 is relayed as it came, with [`http1`] finding where its messages begin and end; HTTP/2 goes stream by stream between
//! two connections. For every request [`stack`] asks [`policy`] whether it is recorded, [`stitch::place`] fixes the ids,
//! [`trace::propagation`] says which header lines change, and a span records the call. If [`genai`] recognises a call of a
//! model or a tool, the head waits for the body, and both bodies are read as they go by: what they say becomes attributes of
//! the span, and evidence ([`call`]) for [`stitch`].
//! Anything else, and TLS that is not intercepted, is passed through unread and leaves one span that says why.
//!
//! # The life of a span
//! A [`trace::ActiveSpan`] is sent to the [`trace::SpanSink`] when its last handle drops, however the call ended. On a
//! thread of its own [`pipeline`] takes what has gathered, counts it in the agent's metrics ([`pipeline::CallMetrics`]), turns
//! it into [`otlp`] and hands batches to [`exporters`]; the metrics follow in their own time.
//! What waits on the way is lent its bytes by the [`budget::Budget`]. What is lost is counted in [`telemetry::Metrics`], by
//! stage and reason, and [`admin`] shows it.

pub mod admin;
pub mod app;
pub mod budget;
pub mod call;
pub mod check;
pub mod cli;
pub mod config;
mod der;
pub mod detect;
pub mod exporters;
pub mod files;
pub mod genai;
pub mod http1;
pub mod net;
pub mod otlp;
pub mod pipeline;
pub mod policy;
pub mod proxy;
pub mod redaction;
pub mod reload;
pub mod stack;
pub mod stitch;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod trust;

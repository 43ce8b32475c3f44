//! The conformance table: each row is run without us and with us, and both ends must see the same: bytes, order, trailers,
//! how the connection ended, the error that a client reports. One test a family of rows; a family runs in one pod, all rows
//! without us, then all with us, and says every row that fails.
//!
//! Rows are either conversations, played step by step by `talk.py` at both ends (`http1`, `endings`, `interim`, `upgrades`, `tcp`), or
//! the steps of real clients against real servers, which say what their programming interface shows.
//!
//! What is taken away before the comparison, and no more: the `traceparent` line that the origin sees (there must be one
//! for each request, and it must be valid), and the value of `Date`.

mod endings;
mod h2;
mod http1;
mod interim;
mod playing;
pub(crate) mod row;
pub(crate) mod seen;
mod servers;
mod tcp;
mod tls;
mod upgrades;

use playing::Stage;
use row::Row;

#[test]
fn http1_raw() {
    conversations("http1_raw", http1::rows());
}

#[test]
fn http1_endings() {
    conversations("http1_endings", endings::rows());
}

#[test]
fn http1_servers() {
    let stage = Stage::new("http1_servers");
    for netns in [&stage.pod.bare, &stage.pod.agent] {
        netns.sh_ok("ip -6 route add unreachable 2001:db8::/32");
    }
    stage.play(&servers::rows(), servers::programs(&stage));
}

#[test]
fn expect_and_interim() {
    conversations("expect_and_interim", interim::rows());
}

#[test]
fn upgrades() {
    conversations("upgrades", upgrades::rows());
}

#[test]
fn websocket_servers() {
    Stage::new("websocket_servers").play(&upgrades::websocket_rows(), upgrades::websocket_programs());
}

#[test]
fn http2() {
    let stage = Stage::new("http2");
    stage.play(&h2::rows(), h2::programs(&stage));
}

#[test]
fn grpc() {
    Stage::new("grpc").play(&h2::grpc_rows(), h2::grpc_programs());
}

#[test]
fn tcp() {
    conversations("tcp", tcp::rows());
}

#[test]
fn tls() {
    let stage = Stage::new("tls");
    stage.play(&tls::rows(), tls::programs(&stage));
}

#[test]
fn java() {
    let stage = Stage::new("java");
    stage.play(&tls::java_rows(), tls::java_programs(&stage));
}

/// Plays rows whose both ends are scripts of steps.
fn conversations(family: &str, rows: Vec<Row>) {
    Stage::new(family).play(&rows, (vec![], vec![]));
}

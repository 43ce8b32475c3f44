//! The conformance table: each row is run without us and with us, and both ends must see the same: bytes, order, trailers,
//! how the connection ended, the error that a client reports. One test a family of rows; a family runs in one pod, all rows
//! without us, then all with us, and says every row that fails.
//!
//! Rows are either conversations, played step by step by `talk.py` at both ends (`http1`, `interim`, `upgrades`, `tcp`), or
//! the steps of real clients against real servers, which say what their programming interface shows.
//!
//! What is taken away before the comparison, and no more: the `traceparent` line that the origin sees (there must be one
//! for each request, and it must be valid), and the value of `Date`.

mod http1;
mod interim;
mod playing;
mod row;
mod seen;
mod tcp;
mod upgrades;

use playing::Stage;
use row::Row;

#[test]
fn http1_raw() {
    conversations("http1_raw", http1::rows());
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
fn tcp() {
    conversations("tcp", tcp::rows());
}

/// Plays rows whose both ends are scripts of steps.
fn conversations(family: &str, rows: Vec<Row>) {
    let stage = Stage::new(family);
    stage.play(&rows, &[], &[]);
}

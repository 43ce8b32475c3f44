//! What the peers cost when the client speaks TLS: an origin with a test authority's certificate, a client that verifies
//! what it is shown, and the loads between them.
//!
//! Both ends have the key exchanges of OpenSSL 3.0 (X25519 first), so that no peer pays for a post-quantum one that another
//! does not have, and its first cipher suite too (AES-256-GCM with SHA-384), which the origin leaves to who connects.

mod authority;
mod client;
mod origin;
mod round_trips;

use std::path::PathBuf;

pub(crate) use authority::{Authority, NAME};
pub(crate) use origin::{Origin, TLS};
pub(crate) use round_trips::relays;
use tokio_rustls::rustls::client::Resumption;

use super::cost;
use super::loads::{Done, Load, Measured, h2load, once, warmed};
use super::origins::CROWD;
use super::report::Figures;
use super::world::{ADDRESS, Agent};
use authority::client_config;
use client::Crew;

/// Runs a load; says also how many handshakes the origin made for a call, and how many of them resumed a session.
pub(crate) fn run(load: Load, agent: &Agent<'_>, proxy: Option<u32>, seconds: u32) -> Done {
    let roots = agent.root_certificate();
    let before = agent.world.tls_origin().handshakes();
    let mut done = match load {
        Load::TlsKeepAlive => keep_alive(agent, roots, proxy, seconds),
        Load::TlsNewConnections => new_connections(agent, roots, proxy, seconds, Resumption::disabled),
        Load::TlsResumed => new_connections(agent, roots, proxy, seconds, || Resumption::in_memory_sessions(8)),
        Load::TlsHttp2 => http2(agent, roots, proxy, seconds),
        Load::TlsDownload => once(agent, proxy, download),
        Load::TlsIdle => idle(agent, roots, proxy),
        Load::TlsNames => names(agent, roots, proxy),
        Load::RoundTrips => round_trips::run(agent, &roots),
        other => unreachable!("{} has no TLS", other.name()),
    };
    let (all, resumed) = agent.world.tls_origin().handshakes();
    done.figures.insert("upstream_handshakes", (all - before.0) as f64 / done.calls as f64);
    let share = percent(resumed - before.1, all - before.0);
    done.figures.entry("upstream_resumed_percent").or_insert(share);
    done
}

fn keep_alive(agent: &Agent<'_>, roots: PathBuf, proxy: Option<u32>, seconds: u32) -> Done {
    agent.netns.enter(move || {
        let mut crew = Crew::open(&client_config(&roots, Resumption::disabled()), CONNECTIONS);
        let done = warmed(proxy, seconds, |seconds| {
            let requests = crew.request(seconds);
            Measured { units: requests, calls: requests, cut: 0 }
        });
        crew.end();
        done
    })
}

/// Every connection asks once. Each client of the crowd has sessions of its own, or none.
fn new_connections(
    agent: &Agent<'_>,
    roots: PathBuf,
    proxy: Option<u32>,
    seconds: u32,
    resumption: fn() -> Resumption,
) -> Done {
    agent.netns.enter(move || {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| client_config(&roots, resumption())).collect();
        let mut share = 0.0;
        let mut done = warmed(proxy, seconds, |seconds| {
            let (connections, resumed) = client::reconnect(&clients, seconds);
            share = percent(resumed, connections);
            Measured { units: connections, calls: connections, cut: 0 }
        });
        done.figures.insert("resumed_percent", share);
        done
    })
}

/// h2load verifies nothing: a client that does goes first.
fn http2(agent: &Agent<'_>, roots: PathBuf, proxy: Option<u32>, seconds: u32) -> Done {
    let verified = agent.netns.enter(move || {
        let mut crew = Crew::open(&client_config(&roots, Resumption::disabled()), 1);
        crew.request(0);
        crew.end();
        1
    });
    let to = format!("--connect-to={ADDRESS}:{TLS}");
    let url = format!("https://{NAME}/");
    let mut done = warmed(proxy, seconds, |seconds| h2load(agent, seconds, &url, &[&to]));
    done.calls += verified;
    done
}

fn download(agent: &Agent<'_>) {
    let (roots, url) = (agent.root_certificate(), format!("https://{NAME}/gib"));
    let to = format!("{NAME}:{TLS}:{ADDRESS}");
    let size = ["-o", "/dev/null", "-w", "%{size_download}"];
    let mut command = vec!["curl", "-sSf", "--http1.1", "--cacert", roots.to_str().unwrap(), "--resolve", &to, &url];
    command.extend(size);
    assert_eq!(agent.client(&command), (1u64 << 30).to_string());
}

fn idle(agent: &Agent<'_>, roots: PathBuf, proxy: Option<u32>) -> Done {
    agent.netns.enter(move || {
        let config = client_config(&roots, Resumption::disabled());
        // What the first request alone makes a proxy load and allocate is no cost of a connection.
        let mut first = Crew::open(&config, 1);
        first.request(0);
        let before = proxy.map(cost::memory);
        let mut crowd = Crew::open(&config, CROWD);
        crowd.ask_all_then_hear();
        let mut figures = Figures::new();
        if let (Some(proxy), Some(before)) = (proxy, before) {
            cost::growth(
                &mut figures,
                ["kib_per_connection", "pss_kib_per_connection"],
                before,
                cost::memory(proxy),
                CROWD,
            );
        }
        first.end();
        crowd.end();
        Done { figures, calls: CROWD as u64 + 1, cut: 0 }
    })
}

/// Names in turn, each asked once over a connection that is closed then: what stays is kept for the name.
fn names(agent: &Agent<'_>, roots: PathBuf, proxy: Option<u32>) -> Done {
    agent.netns.enter(move || {
        let config = client_config(&roots, Resumption::disabled());
        let ask =
            |turns: std::ops::Range<usize>| client::ask_names(&config, turns.map(|turn| format!("n{turn}.{NAME}")));
        ask(0..1);
        let before = proxy.map(cost::memory);
        ask(1..NAMES + 1);
        let mut figures = Figures::new();
        if let (Some(proxy), Some(before)) = (proxy, before) {
            cost::growth(&mut figures, ["kib_per_name", "pss_kib_per_name"], before, cost::memory(proxy), NAMES);
        }
        Done { figures, calls: NAMES as u64 + 1, cut: 0 }
    })
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

const CONNECTIONS: usize = 50;
/// Fewer than the new names at once from which on Sidetrace mints no more certificates.
const NAMES: usize = 400;

//! The load bench: what a request costs the proxy, through the real redirect, beside its peers. `docs/benchmarks.md` says
//! how to run and read it.
//!
//! Every figure comes from a run of one peer under one load: a fresh network namespace `agent` with its redirect, a fresh
//! proxy on core 0 with one worker, the load generator and the origins on core 1. Rounds are interleaved: all peers take
//! their turn before the next round begins, so that a machine that slows down slows all of them.
//!
//! `target/bench/load.json` holds the run:
//! ```json
//! {"settings": {"rounds": 3, "seconds": 3, "kernel": "6.1", "cores": 2,
//!               "others_percent": 0.4, "stolen_percent": 0.1},
//!  "loads": [{"name": "h1", "title": "...", "unit": "request", "key": "cpu_us",
//!             "peers": [{"name": "relay", "title": "haproxy mode tcp",
//!                        "to_direct": null, "to_relay": 1.0, "to_envoy_on": 0.17, "to_mitmproxy": null,
//!                        "median": {"cpu_us": 10.6}, "min": {"cpu_us": 10.5}, "max": {"cpu_us": 10.9},
//!                        "rounds": [{"cpu_us": 10.6}]}]}]}
//! ```
//! `key` names the figure that the ratios compare. Figures: `rate` (units per second), `cpu_us` and `user_us` (the
//! proxy's processor time per unit, and of it in user space), `calls` and `spans` (of traced peers), `p50_us` … `p999_us`,
//! `ms_per_gib`, `rss_before_kib`, `rss_after_kib`, `kib_per_connection`, `pss_kib_per_connection`, `kib_per_name`,
//! `pss_kib_per_name`, `writes`, `reads`; under TLS `resumed_percent` (of the client's connections),
//! `upstream_handshakes` (of the origin, for a call), `upstream_resumed_percent` (of those), `tls13_cold_rtt` …
//! `tls12_warm_rtt` (round trips). Where two paths are compared, `cpu_us` and `p50_us` … are of the one that is recognised,
//! `plain_us` and `plain_p50_us` … of the other, `x_plain` is the first to the second, `extra_us`, `extra_ms` and
//! `extra_p50_us` the first less the second; `large_` is of the larger body, `head_p50_us` from a request's first byte to the
//! server's having its head.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that fails here says where")]

#[path = "../../tests/it"]
mod it {
    #[allow(dead_code, unused_imports, reason = "tests use the rest")]
    pub(crate) mod support;
}

mod clients;
mod cost;
mod envoy;
mod loads;
mod observed;
mod open_loop;
mod origins;
mod peers;
mod report;
mod sse;
mod tls;
mod world;

use cost::Machine;
use loads::Load;
use peers::Peer;
use report::{Figures, Report};
use world::{Agent, World};

/// What the environment narrows.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
    pub(crate) loads: Vec<Load>,
    pub(crate) peers: Vec<Peer>,
}

fn main() {
    // `cargo test --benches` runs this too, with this flag or without any: it is a bench only when asked for one.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let settings = settings();
    cost::stay_on_core(1);
    open_loop::wake_on_time();
    let world = World::new(&settings);
    let mut report = Report::new(&settings);
    let before = Machine::now();
    for round in 1..=settings.rounds {
        for &load in &settings.loads {
            for peer in settings.peers.iter().copied().filter(|peer| load.measures(*peer, round)) {
                eprint!("round {round}/{}: {} {} … ", settings.rounds, load.name(), peer.name());
                let figures = run(&world, peer, load, settings.seconds);
                eprintln!("{}", report::in_short(&figures));
                report.add(load, peer, figures);
            }
        }
    }
    drop(world);
    let (others, stolen) = Machine::now().since(before);
    report.print(others, stolen);
    report.write(others, stolen);
}

/// One peer under one load, from its start to its last span.
fn run(world: &World, peer: Peer, load: Load, seconds: u32) -> Figures {
    let agent = Agent::new(world);
    let spans_before = world.spans();
    let mut running = peers::start(peer, load.protocol(), &agent);
    let done = load.run(&agent, running.id(), seconds);
    let mut figures = done.figures;
    running.wait_for_spans(|| world.spans() - spans_before, done.calls);
    let ledger = running.stop();
    if peer.is_traced() {
        let spans = world.spans() - spans_before;
        check(peer, load, spans, done.calls, done.cut, ledger);
        figures.insert("calls", done.calls as f64);
        figures.insert("spans", spans as f64);
    }
    figures
}

/// Every call has its span and every span is accounted for. A load that stops by the clock leaves calls under way, which
/// it does not count and which end, cut off, with spans of their own.
fn check(peer: Peer, load: Load, spans: u64, calls: u64, cut: u64, ledger: Option<peers::Ledger>) {
    let run = format!("{} under {}", peer.name(), load.name());
    let Some(ledger) = ledger else {
        if spans < calls {
            eprint!("{spans} spans arrived for {calls} calls; ");
        }
        return;
    };
    eprint!("[{}] ", ledger.line);
    assert_eq!(
        ledger.created,
        ledger.exported + ledger.lost,
        "{run}: spans are missing from the ledger: {}",
        ledger.line
    );
    assert_eq!(ledger.exported, spans, "{run}: what it delivered is not what arrived: {}", ledger.line);
    assert!(
        (calls..=calls + cut).contains(&ledger.created),
        "{run}: {calls} calls, at most {cut} more cut off, but {}",
        ledger.line
    );
}

fn settings() -> Settings {
    let number =
        |name, default| variable(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")));
    Settings {
        rounds: number("ROUNDS", 3) as usize,
        seconds: number("SECONDS", 3).clamp(1, 40),
        loads: chosen("LOADS", &Load::ALL, Load::name),
        peers: chosen("PEERS", &Peer::ALL, Peer::name),
    }
}

fn chosen<T: Copy>(name: &str, all: &[T], name_of: fn(T) -> &'static str) -> Vec<T> {
    let Some(text) = variable(name) else { return all.to_vec() };
    let known: Vec<_> = all.iter().map(|one| name_of(*one)).collect();
    for word in text.split(',') {
        assert!(known.contains(&word), "{name}: {word} is not one of {}", known.join(","));
    }
    all.iter().copied().filter(|one| text.split(',').any(|word| word == name_of(*one))).collect()
}

/// A variable; an empty one is unset.
#[allow(clippy::disallowed_methods, reason = "the bench has no configuration but these")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

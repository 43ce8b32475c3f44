//! How many round trips to the server lie between a client's connect and its first answer.
//!
//! The way between proxy and server takes [`TRIP`] there and back, that between client and proxy nothing. The kernel's
//! netem makes it so where there is one; else relays beside the origin do, which hold what passes through. A relay accepts
//! at once, so it holds the first bytes for the round trip longer that the connect would have taken: whoever speaks first
//! on a connection hears the answer when he would have heard it, and a connection too many shows.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::client::Resumption;

use super::authority::client_config;
use super::client::time;
use super::origin::TLS_1_2;
use super::{NAME, TLS, percent};
use crate::it::support::Netns;
use crate::loads::Done;
use crate::open_loop::sleep_until;
use crate::report::Figures;
use crate::world::{ADDRESS, Agent};

/// Under either version: connections to names that nobody has asked for before, then connections to one name, whose
/// sessions are resumed. Medians, in round trips.
pub(super) fn run(agent: &Agent<'_>, roots: &Path) -> Done {
    let netem = agent.delay(TRIP);
    eprint!("[by {}] ", if netem { "netem" } else { "relays" });
    let (port, port_1_2) = if netem { (TLS, TLS_1_2) } else { (FAR, FAR_1_2) };
    let (roots, origin) = (roots.to_owned(), agent.world.tls_origin().clone());
    agent.netns.enter(move || {
        let (mut figures, mut resumed) = (Figures::new(), [0, 0, 0]);
        for (port, cold, warm) in
            [(port, "tls13_cold_rtt", "tls13_warm_rtt"), (port_1_2, "tls12_cold_rtt", "tls12_warm_rtt")]
        {
            let strange = |turn| {
                let config = client_config(&roots, Resumption::disabled());
                time(&config, &format!("cold{turn}-{port}.{NAME}"), port).0
            };
            // The first of all may find a proxy that has yet to load something.
            strange(0);
            figures.insert(cold, median((1..=SAMPLES).map(strange).collect()));
            let known = client_config(&roots, Resumption::in_memory_sessions(8));
            // A name for each: a ticket of TLS 1.3 is worth nothing where there is only TLS 1.2.
            let name = format!("known-{port}.{NAME}");
            time(&known, &name, port);
            let before = origin.handshakes();
            let (times, sessions): (Vec<_>, Vec<_>) = (0..SAMPLES).map(|_| time(&known, &name, port)).unzip();
            figures.insert(warm, median(times));
            let after = origin.handshakes();
            let client = sessions.into_iter().map(u64::from).sum();
            for (sum, more) in resumed.iter_mut().zip([client, after.1 - before.1, after.0 - before.0]) {
                *sum += more;
            }
        }
        figures.insert("resumed_percent", percent(resumed[0], 2 * SAMPLES as u64));
        figures.insert("upstream_resumed_percent", percent(resumed[1], resumed[2]));
        Done { figures, calls: 4 * (SAMPLES as u64 + 1), cut: 0 }
    })
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() / TRIP.as_secs_f64()
}

/// The ports behind which the origin's are far away.
pub(crate) fn relays(netns: &Netns) {
    for (port, origin) in [(FAR, TLS), (FAR_1_2, TLS_1_2)] {
        netns.enter(move || {
            let listener = TcpListener::bind((ADDRESS, port)).unwrap();
            // Threads stay in the namespace of the thread that made them.
            std::thread::spawn(move || {
                loop {
                    let (near, _) = listener.accept().unwrap();
                    let accepted = Instant::now();
                    let far = TcpStream::connect((ADDRESS, origin)).unwrap();
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                    carry(near, far, accepted + TRIP + TRIP / 2);
                    carry(far_too, near_too, accepted);
                }
            });
        });
    }
}

/// What is read leaves half a round trip later, and nothing before a time.
fn carry(mut from: TcpStream, mut to: TcpStream, not_before: Instant) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in receiver {
            sleep_until(due);
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let due = not_before.max(Instant::now() + TRIP / 2);
            if sender.send((due, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// There and back.
const TRIP: Duration = Duration::from_millis(20);
const SAMPLES: usize = 9;
const FAR: u16 = 8445;
const FAR_1_2: u16 = 8446;

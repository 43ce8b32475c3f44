//! Latency without coordinated omission: requests start when the clock says so, whatever became of those before, and time
//! runs from the intended start. A connection that is late sends at once, and its lateness counts.
//!
//! Threads that block, not tasks: a runtime's timers are good to a millisecond, a thread's wake-up to some microseconds.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::prctl::set_timerslack;

use super::clients::Connection;
use super::world::HTTP1;

/// The rate is spread over the connections evenly. Returns nanoseconds.
pub(crate) fn run(rate: u32, connections: u32, duration: Duration) -> Histogram<u64> {
    let interval = Duration::from_secs(1) / rate;
    let each = u32::try_from(duration.as_millis()).unwrap() * rate / 1_000 / connections;
    // All connections stand before the first request is due.
    let open: Vec<_> = (0..connections).map(|_| Connection::open(HTTP1)).collect();
    let start = Instant::now() + Duration::from_millis(50);
    let threads: Vec<_> = (0..connections)
        .zip(open)
        .map(|(index, mut connection)| {
            let requests = move || {
                let mut latencies = histogram();
                for turn in 0..each {
                    let due = start + interval * (turn * connections + index);
                    sleep_until(due);
                    connection.get();
                    latencies.record(u64::try_from(due.elapsed().as_nanos()).unwrap()).unwrap();
                }
                latencies
            };
            std::thread::Builder::new().stack_size(128 << 10).spawn(requests).unwrap()
        })
        .collect();
    let mut all = histogram();
    for thread in threads {
        all.add(thread.join().unwrap()).unwrap();
    }
    all
}

#[allow(clippy::disallowed_methods, reason = "the clock is the event")]
pub(crate) fn sleep_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// The kernel rounds sleeps up by 50 us unless told otherwise; threads inherit what it is told.
pub(crate) fn wake_on_time() {
    set_timerslack(1).unwrap();
}

/// Three digits, from a microsecond to a minute.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap()
}

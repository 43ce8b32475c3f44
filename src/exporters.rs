//! The way out: a backend takes an encoded batch, or says what to do next; delivery tries until it is taken or refused.

pub mod otlp;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::Rng;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::Deliveries;

/// A backend that takes encoded requests of one signal.
pub trait Exporter: fmt::Debug + Send + Sync {
    /// One try.
    fn export(&self, body: Bytes) -> BoxFuture<'_, Answer>;
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The backend took all or part of it: never sent again.
    Delivered(Delivered),
    /// It may work later; after this time, if the backend named one.
    Retry(Option<Duration>, String),
}

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Every span or point was taken.
    All,
    /// Some were not, for good.
    Partly {
        /// How many.
        rejected: usize,
        /// The backend's words.
        message: String,
    },
    /// None was, for good: why.
    Refused(String),
}

/// Tries until the backend has taken or refused the batch. Memory is bounded by the queue before it, not by giving up.
///
/// Waits between tries grow from one to five seconds, each drawn from half to the whole of its step, so that many
/// sidecars do not come back at once; a time that the backend names is kept. When `stop` comes there is no time for that:
/// the next try is made at once, and the others a second apart.
pub async fn deliver(
    exporter: &dyn Exporter,
    body: Bytes,
    timeout: Duration,
    counts: &Deliveries,
    stop: &CancellationToken,
) -> Delivered {
    let mut step = FIRST_WAIT;
    let mut failures = 0_u32;
    loop {
        let begun = tokio::time::Instant::now();
        let answer = tokio::time::timeout(timeout, exporter.export(body.clone())).await;
        counts.duration.observe(begun.elapsed());
        let (after, reason) = match answer {
            Ok(Answer::Delivered(delivered)) => {
                if failures > 0 {
                    info!(failures, "the backend answers again");
                }
                return delivered;
            }
            Ok(Answer::Retry(after, reason)) => (after, reason),
            Err(_) => (None, "timeout".to_owned()),
        };
        counts.retries.inc();
        let drawn = || step.mul_f64(rand::rng().random_range(0.5..=1.0));
        let wait = after.map_or_else(drawn, |named| named.clamp(SHORTEST_NAMED, LONGEST_NAMED));
        if failures == 0 {
            warn!(reason, retry_in = ?wait, "the backend did not take a batch; trying until it does");
        }
        failures += 1;
        step = (step * 2).min(LONGEST_WAIT);
        if stop.is_cancelled() {
            tokio::time::sleep(wait.min(FIRST_WAIT)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A backend may ask for another try, not for all of them at once.
const SHORTEST_NAMED: Duration = Duration::from_millis(500);
/// A backend may ask for patience, not for eternity.
const LONGEST_NAMED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;

    use super::*;

    /// A backend whose answers are written down before.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Answer>>);

    impl Exporter for Script {
        fn export(&self, _: Bytes) -> BoxFuture<'_, Answer> {
            let next = self.0.lock().unwrap().remove(0);
            async move { next }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_waits_as_long_as_it_is_told_and_longer_each_time_otherwise() {
        let named = Answer::Retry(Some(Duration::from_secs(7)), "429".into());
        let again = || Answer::Retry(None, "503".into());
        let script = Script(Mutex::new(vec![named, again(), again(), Answer::Delivered(Delivered::All)]));
        let (begun, counts) = (tokio::time::Instant::now(), Deliveries::default());
        let (timeout, stop) = (Duration::from_secs(10), CancellationToken::new());
        assert_eq!(deliver(&script, Bytes::new(), timeout, &counts, &stop).await, Delivered::All);
        let waited = begun.elapsed().as_secs_f64();
        assert!((7.0 + 1.0 + 2.0..=7.0 + 2.0 + 4.1).contains(&waited), "{waited}");
        assert_eq!(counts.retries.value(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_never_answers_is_asked_again() {
        #[derive(Debug)]
        struct Silent(Mutex<u32>);
        impl Exporter for Silent {
            fn export(&self, _: Bytes) -> BoxFuture<'_, Answer> {
                let mut asked = self.0.lock().unwrap();
                *asked += 1;
                let silent = *asked < 3;
                async move {
                    if silent {
                        std::future::pending::<()>().await;
                    }
                    Answer::Delivered(Delivered::Refused("400".into()))
                }
                .boxed()
            }
        }
        let (timeout, stop) = (Duration::from_secs(10), CancellationToken::new());
        let delivered = deliver(&Silent(Mutex::new(0)), Bytes::new(), timeout, &Deliveries::default(), &stop).await;
        assert_eq!(delivered, Delivered::Refused("400".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_at_once() {
        let later = Answer::Retry(Some(Duration::from_secs(200)), "503".into());
        let at_once = Answer::Retry(Some(Duration::ZERO), "503".into());
        let script = Script(Mutex::new(vec![at_once, later.clone(), later, Answer::Delivered(Delivered::All)]));
        let (begun, stop, counts) = (tokio::time::Instant::now(), CancellationToken::new(), Deliveries::default());
        let delivery = deliver(&script, Bytes::new(), Duration::from_secs(10), &counts, &stop);
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            stop.cancel();
        };
        tokio::join!(delivery, stopping);
        assert_eq!(begun.elapsed(), Duration::from_secs(4));
    }
}

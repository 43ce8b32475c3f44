//! Binds every socket, wires every part, runs, drains: the only file that knows them all.
//!
//! Two runtimes: the data plane's workers, and one thread for the telemetry plane, which outlives the data plane by the
//! time that the last spans need.

mod harden;
mod interception;
mod operators;
mod signals;
mod unseen;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::budget::memory::Memory;
use crate::budget::{self, Budget};
use crate::config::assembly::Assembled;
use crate::config::{Config, Export};
use crate::exporters::Exporter;
use crate::exporters::otlp::Otlp;
use crate::net::{self, Connector, Direction, LoopGuard};
use crate::pipeline::{CallMetrics, Events, EventsBackend, Limits, Pipeline, Reporter};
use crate::policy::{Policies, Policy};
use crate::proxy::forward::{self, Forward};
use crate::proxy::{self, Proxy};
use crate::reload::Reload;
use crate::stack::Settings;
use crate::telemetry::{LogFilter, Metrics};
use crate::{genai, otlp, trace};
use interception::Interception;
use operators::Operators;
use signals::Signals;

/// Runs the sidecar until SIGTERM or SIGINT, then drains.
pub fn run(assembled: &Assembled, log: LogFilter) -> io::Result<()> {
    let config = &assembled.config;
    harden::harden()?;
    raise_open_files();
    let metrics = Arc::new(Metrics::default());
    let connector = Connector { mark: config.mark, metrics: metrics.clone() };
    connector.check().map_err(|error| {
        let text =
            format!("SIDETRACE_MARK: cannot mark connections, which needs CAP_NET_ADMIN or CAP_NET_RAW: {error}");
        io::Error::new(error.kind(), text)
    })?;
    let memory = Memory::find(config.memory_limit);
    let budget = Budget::of(memory.limit);
    budget::look(&budget, &memory);
    let (sink, source) = trace::channel_within(
        budget.clone(),
        config.batch.max_queue_size.max(SINK),
        config.batch.max_export_batch_size,
        metrics.clone(),
    );
    let calls = Arc::new(CallMetrics::new(config.genai.metrics, &budget));
    let operators = Operators::new(assembled, (metrics.clone(), calls.clone()), budget.clone(), log);
    info!(limit = memory.limit, "memory limit");
    let telemetry = TelemetryPlane::start(config, source, (metrics.clone(), calls), (budget.clone(), memory))?;
    let interception = Interception::start(config, budget.clone(), metrics.clone())?;
    let proxy = Proxy {
        interceptor: interception.as_ref().map(|interception| interception.interceptor.clone()),
        connector,
        guard: Arc::new(LoopGuard::new(config.own_ports.clone())),
        settings: Arc::new(Settings {
            enabled: config.enabled,
            sink: sink.clone(),
            budget: budget.clone(),
            metrics: metrics.clone(),
            propagators: config.propagators,
            sampler: config.sampler,
            policies: Policies::new(Policy::new(config.rules.clone())),
            genai: Arc::new(genai::Settings::new(config.genai, budget, metrics.clone(), sink)),
        }),
        metrics: metrics.clone(),
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .thread_name("proxy")
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(data_plane(assembled, proxy, operators, interception));
    // Ends what is left after the deadline: its spans go to the sink as it drops.
    runtime.shutdown_timeout(Duration::from_secs(1));
    telemetry.stop(config.flush_timeout);
    outcome
}

async fn data_plane(
    assembled: &Assembled,
    proxy: Proxy,
    mut operators: Operators,
    interception: Option<Interception>,
) -> io::Result<()> {
    let config = &assembled.config;
    // Before anything is served: a SIGTERM from now on drains.
    let mut signals = Signals::listen()?;
    let redirected = [
        (Direction::Outbound, "SIDETRACE_OUTBOUND_PORT", config.outbound_port),
        (Direction::Inbound, "SIDETRACE_INBOUND_PORT", config.inbound_port),
    ];
    let mut listeners = Vec::new();
    for (direction, setting, port) in redirected {
        let found = net::listen_redirected(direction, port).map_err(|error| named(setting, port, &error))?;
        listeners.extend(found.into_iter().map(|listener| (Way::Redirected(direction), listener)));
    }
    if let Some(forward) = &config.forward {
        let found = net::listen_loopback(forward.port);
        let found = found.map_err(|error| named("SIDETRACE_FORWARD_PORT", forward.port, &error))?;
        let (ports, own_ports) = (forward.destination_ports.clone(), config.own_ports.clone());
        let way = Way::Asked(Arc::new(Forward::new(&forward.credential, ports, own_ports)));
        listeners.extend(found.into_iter().map(|listener| (way.clone(), listener)));
    }
    let policies = &proxy.settings.policies;
    let (file, intercepts) = (config.rules_file.clone(), interception.is_some());
    let reload = Reload::new(file, policies.clone(), proxy.metrics.clone(), intercepts)?;
    operators.on_reload(reload.hook());
    tokio::spawn(reload.run());
    if let Some(interception) = interception {
        tokio::spawn(interception.watch(policies.clone()));
    }
    operators.start(assembled)?;
    let abort = CancellationToken::new();
    let connections = TaskTracker::new();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|(way, listener)| tokio::spawn(accept(way, listener, proxy.clone(), connections.clone(), abort.clone())))
        .collect();
    operators.health.set_ready(true);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        outbound = config.outbound_port,
        inbound = config.inbound_port,
        health = config.health_port,
        forward = config.forward.as_ref().map(|forward| forward.port),
        workers = config.workers,
        export = config.export.as_ref().and_then(|export| export.endpoint.authority()).map(|to| to.as_str()),
        "ready"
    );
    let impatience = tokio::select! {
        impatience = signals.drain_begins(&operators.quit, config.termination_delay) => impatience,
        ended = futures_util::future::select_all(accepting) => {
            error!("a listener stopped: {:?}", ended.0);
            return Err(io::Error::other("a listener stopped"));
        }
    };
    operators.health.set_ready(false);
    info!(open = proxy.metrics.connections_open.value(), deadline = ?config.drain_timeout, "draining");
    proxy.drain.cancel();
    connections.close();
    proxy.tasks.close();
    let drained = async { tokio::join!(connections.wait(), proxy.tasks.wait()) };
    tokio::select! {
        _ = drained => info!("drained"),
        () = tokio::time::sleep(config.drain_timeout) => {
            warn!(open = proxy.metrics.connections_open.value(), "the drain's deadline passed: closing what is left");
        }
        () = async {
            for _ in 0..impatience {
                signals.next().await;
            }
        } => warn!("told again: closing what is left"),
    }
    abort.cancel();
    // What was aborted drops at once; its spans must be in the sink before the pipeline stops.
    let _ = tokio::time::timeout(ABORT, async { tokio::join!(connections.wait(), proxy.tasks.wait()) }).await;
    proxy.settings.genai.drain();
    operators.finish().await;
    Ok(())
}

/// How connections come to us.
#[derive(Clone)]
enum Way {
    /// By the redirect.
    Redirected(Direction),
    /// Because the client has asked.
    Asked(Arc<Forward>),
}

/// Accepts until the drain begins. A connection's task ends with the connection, or with `abort`.
async fn accept(way: Way, listener: TcpListener, proxy: Proxy, connections: TaskTracker, abort: CancellationToken) {
    let proxy = Arc::new(proxy);
    loop {
        let accepted = tokio::select! {
            biased;
            () = proxy.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, peer)) => {
                let (proxy, way, abort) = (proxy.clone(), way.clone(), abort.clone());
                connections.spawn(async move {
                    match &way {
                        Way::Redirected(direction) => {
                            abort.run_until_cancelled(proxy::serve(&proxy, *direction, client, peer)).await;
                        }
                        Way::Asked(forward) => {
                            abort.run_until_cancelled(forward::serve(&proxy, forward, client, peer)).await;
                        }
                    }
                });
            }
            // The client that gave up before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The pipeline's thread.
struct TelemetryPlane {
    thread: std::thread::JoinHandle<()>,
    stop: CancellationToken,
    give_up: CancellationToken,
}

impl TelemetryPlane {
    fn start(
        config: &Config,
        source: trace::SpanSource,
        (metrics, calls): (Arc<Metrics>, Arc<CallMetrics>),
        (budget, memory): (Arc<Budget>, Memory),
    ) -> io::Result<Self> {
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        let connector = Connector { mark: config.mark, metrics: metrics.clone() };
        let (export, metrics_export, batch) = (config.export.clone(), config.metrics_export.clone(), config.batch);
        let logs_export = config.logs_export.clone();
        let resource = otlp::Resource::new(&config.resource);
        let tokens = (stop.clone(), give_up.clone());
        // With a mark it is that which exempts: a user may be the agent's and ours.
        let exempt = config.mark.is_none().then(|| (config.uid, config.own_ports.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("pipeline".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(budget::watch(budget.clone(), memory));
                if let Some((uid, own_ports)) = exempt {
                    tokio::spawn(unseen::watch(uid, own_ports, metrics.clone()));
                }
                let limits = Limits {
                    schedule_delay: batch.schedule_delay,
                    max_queue_size: batch.max_queue_size,
                    max_export_batch_size: batch.max_export_batch_size,
                    export_timeout: export.as_ref().map_or(Duration::ZERO, |export| export.timeout),
                };
                let backend = |export: &Export| Box::new(Otlp::new(export, connector.clone())) as Box<dyn Exporter>;
                let reporter = metrics_export.map(|to| Reporter {
                    calls: calls.clone(),
                    exporter: backend(&to.export),
                    resource: resource.clone(),
                    interval: to.interval,
                    try_timeout: to.export.timeout,
                    timeout: to.timeout,
                    temporality: to.temporality,
                    metrics: metrics.clone(),
                });
                let exporter = export.as_ref().map(&backend);
                let to = logs_export.map(|to| EventsBackend {
                    exporter: backend(&to),
                    resource: resource.clone(),
                    schedule_delay: batch.schedule_delay,
                    timeout: to.timeout,
                });
                let events = Events::new(to, &budget, &metrics);
                let pipeline =
                    Pipeline { source, resource, exporter, limits, budget, calls, reporter, events, metrics };
                pipeline.run(tokens.0, tokens.1).await;
            });
        })?;
        Ok(Self { thread, stop, give_up })
    }

    fn stop(self, patience: Duration) {
        self.stop.cancel();
        let (done, waited) = std::sync::mpsc::channel::<()>();
        let give_up = self.give_up;
        let watch = std::thread::spawn(move || {
            // Ends by the time or by the sender's drop.
            if waited.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                give_up.cancel();
            }
        });
        if self.thread.join().is_err() {
            error!("the telemetry plane has failed; its spans are lost");
        }
        drop(done);
        let _ = watch.join();
    }
}

/// Every proxied connection takes two descriptors; the soft limit of 1,024 is for programs that use `select`.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%error, soft, hard, "open files");
    }
}

fn named(setting: &str, port: u16, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{setting}: cannot listen on port {port}: {error}"))
}

/// Spans between a worker and the pipeline, at least: they are there only until the pipeline's thread gets to run.
const SINK: usize = 8192;
const ABORT: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

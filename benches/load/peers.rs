//! Who is measured, and how each is set up: one worker on core 0, behind the redirect, as the one user it exempts.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use super::cost::on_core;
use super::envoy;
use super::it::support::{Process, full_uid_map, root, until};
use super::origins::SINK;
use super::world::{ADDRESS, Agent};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// No proxy and no rules. Client and server share one core: its throughput is no ceiling.
    Direct,
    /// A relay that only copies: the floor.
    Relay,
    /// The floor for what parses HTTP; no tracing.
    HaproxyHttp,
    /// Writes headers, exports nothing. Passes TLS on as it came: there is nothing to read it for.
    SidecarOff,
    /// Every span exported.
    SidecarOn,
    EnvoyOff,
    /// Every span exported, in batches of 512: its best case.
    EnvoyOn,
    /// Mints certificates as we do; no tracing.
    Mitmproxy,
}

/// What a load speaks; haproxy must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// Anything over TLS.
    Tls,
}

/// The sidecar's last log line.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) created: u64,
    pub(crate) exported: u64,
    pub(crate) lost: u64,
    pub(crate) line: String,
}

impl Peer {
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Relay,
        Self::HaproxyHttp,
        Self::SidecarOff,
        Self::SidecarOn,
        Self::EnvoyOff,
        Self::EnvoyOn,
        Self::Mitmproxy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::HaproxyHttp => "haproxy-http",
            Self::SidecarOff => "sidecar-off",
            Self::SidecarOn => "sidecar-on",
            Self::EnvoyOff => "envoy-off",
            Self::EnvoyOn => "envoy-on",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no proxy",
            Self::Relay => "haproxy mode tcp",
            Self::HaproxyHttp => "haproxy mode http",
            Self::SidecarOff => "sidetrace, tracing off",
            Self::SidecarOn => "sidetrace, tracing on",
            Self::EnvoyOff => "Envoy, tracing off",
            Self::EnvoyOn => "Envoy, tracing on",
            Self::Mitmproxy => "mitmproxy",
        }
    }

    pub(crate) fn is_traced(self) -> bool {
        matches!(self, Self::SidecarOn | Self::EnvoyOn)
    }
}

/// A peer that listens, and the redirect that leads to it.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
    process: Option<Process>,
}

impl Running {
    /// The proxy's process, if there is one.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Envoy drops what it holds when it ends: its spans are waited for, a little longer than it keeps them.
    pub(crate) fn wait_for_spans(&self, arrived: impl Fn() -> u64, expected: u64) {
        if self.peer == Peer::EnvoyOn {
            let mut asked = 0;
            until("Envoy's last spans have left", || {
                asked += 1;
                arrived() >= expected || asked > 250
            });
        }
    }

    pub(crate) fn stop(&mut self) -> Option<Ledger> {
        let (status, said) = self.process.as_mut()?.terminate();
        if self.peer != Peer::SidecarOn {
            return None;
        }
        assert!(status.success(), "{status}\n{said}");
        let line =
            said.lines().rev().find(|line| line.contains("created=")).unwrap_or_else(|| panic!("no ledger: {said}"));
        let line = &line[line.find("created=").unwrap()..];
        let number = |name: &str| -> u64 {
            let rest =
                line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("{line}"));
            rest.parse().unwrap()
        };
        let (created, exported, lost) = (number("created="), number("exported="), number("lost="));
        Some(Ledger { created, exported, lost, line: line.to_owned() })
    }
}

pub(crate) fn start(peer: Peer, protocol: Protocol, agent: &Agent<'_>) -> Running {
    assert!(full_uid_map(), "the proxies are exempt by their uid: the bench needs root");
    let process = match peer {
        Peer::Direct => return Running { peer, process: None },
        Peer::Relay => haproxy(agent, "mode tcp", ""),
        Peer::HaproxyHttp => {
            let proto = if protocol == Protocol::Http2 { "proto h2" } else { "" };
            // Without http-no-delay it holds back what a stream writes, for tens of milliseconds.
            haproxy(agent, "mode http\n  option http-no-delay", proto)
        }
        Peer::SidecarOff => sidecar(agent, ("OTEL_SDK_DISABLED", "true".to_owned()), false),
        Peer::SidecarOn => {
            let exported = ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{ADDRESS}:{SINK}"));
            sidecar(agent, exported, protocol == Protocol::Tls)
        }
        Peer::EnvoyOff => envoy::start(agent, false),
        Peer::EnvoyOn => envoy::start(agent, true),
        Peer::Mitmproxy => mitmproxy(agent),
    };
    // Not by connecting: a relay that is asked for itself asks itself.
    until("the proxy listens", || agent.netns.sh("ss -ltn | grep -q 127.0.0.1:15101").status.success());
    agent.redirect();
    Running { peer, process: Some(process) }
}

/// `server original 0.0.0.0:0`: it takes the original destination by itself.
fn haproxy(agent: &Agent<'_>, mode: &str, proto: &str) -> Process {
    let config = agent.file("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  {mode}\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         listen relay\n  bind 127.0.0.1:15101 backlog 4096\n  server original 0.0.0.0:0 {proto}\n"
    );
    std::fs::write(&config, text).unwrap();
    start_as_proxy(agent, "haproxy", "haproxy".into(), &["-db".into(), "-f".into(), config], &[])
}

fn sidecar(agent: &Agent<'_>, export: (&str, String), intercepts: bool) -> Process {
    let mut settings = vec![
        ("SIDETRACE_WORKERS", "1".to_owned()),
        ("SIDETRACE_LOG", "warn,sidetrace=info".to_owned()),
        ("SIDETRACE_DRAIN_TIMEOUT", "1".to_owned()),
        ("OTEL_SERVICE_NAME", "agent".to_owned()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000".to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        // The sink counts spans.
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
        export,
    ];
    if intercepts {
        settings.push(("SIDETRACE_TRUST_DIR", agent.trust_dir().display().to_string()));
        settings.push(("SIDETRACE_EXTRA_ROOTS", agent.world.authority().root().display().to_string()));
    }
    let process = start_as_proxy(agent, "sidetrace", agent.sidetrace().to_owned(), &["proxy".into()], &settings);
    process.wait_for("ready", 1);
    // Else its client would trust the origin's authority, and not notice that nothing was intercepted.
    assert!(!intercepts || agent.root_certificate().starts_with(agent.trust_dir()), "{}", process.said());
    process
}

fn mitmproxy(agent: &Agent<'_>) -> Process {
    let program = root().join("target/tools/mitmproxy/bin/mitmdump");
    assert!(program.exists(), "{} is missing: `make bench` installs it", program.display());
    let settings = [
        format!("confdir={}", agent.trust_dir().display()),
        format!("ssl_verify_upstream_trusted_ca={}", agent.world.authority().root().display()),
        "termlog_verbosity=error".to_owned(),
        "flow_detail=0".to_owned(),
    ];
    let mut command = on_core(0, &program);
    command.args(["--mode", "transparent", "--listen-host", "127.0.0.1", "--listen-port", "15101"]);
    settings.into_iter().for_each(|setting| _ = command.args(["--set", &setting]));
    // Only the group is exempt, which is enough: a virtual environment need not be readable for another user.
    command.gid(PROXY_ID);
    Process::start("mitmproxy", &agent.netns, command)
}

pub(crate) fn start_as_proxy(
    agent: &Agent<'_>,
    name: &str,
    program: PathBuf,
    arguments: &[PathBuf],
    settings: &[(&str, String)],
) -> Process {
    let mut command = on_core(0, &program);
    command.args(arguments).uid(PROXY_ID).gid(PROXY_ID);
    if name == "sidetrace" {
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(settings.iter().map(|(name, value)| (*name, value)));
    }
    Process::start(name, &agent.netns, command)
}

/// Exempt from the redirect.
pub(crate) const PROXY_ID: u32 = 15100;

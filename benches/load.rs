//! The load bench: what a request costs the proxy, through the real redirect, beside a relay that only copies.
//!
//! `make bench`. Namespaces `agent` and `world` joined by a veth pair; in `agent` iptables redirects all TCP to the proxy
//! under test, which runs on core 0 with one worker; nginx (1 KiB of JSON) and wrk (HTTP/1.1 keep-alive) share core 1.
//! Rounds are interleaved. The figure to quote is CPU per request (user + system time of the proxy's process), and of that
//! the ratio to the relay in the same run: the machine's own speed cancels out. `direct` is the same load without a proxy
//! and without rules; its client and server share one core, so its throughput is no ceiling.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that fails here says where")]

#[path = "../tests/it"]
mod it {
    #[allow(dead_code, unused_imports, reason = "tests use the rest")]
    pub(crate) mod support;
}

use std::os::unix::process::CommandExt;
use std::process::Command;

use it::support::{Pod, Process, WORLD_V4, full_uid_map, until};

const CONNECTIONS: u32 = 50;
const SECONDS: u32 = 5;
const ROUNDS: usize = 3;
const PROXY_ID: u32 = 15100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Direct,
    Relay,
    Sidecar,
}

const MODES: [(Mode, &str); 3] =
    [(Mode::Direct, "direct"), (Mode::Relay, "haproxy mode tcp"), (Mode::Sidecar, "sidetrace, every span exported")];

/// One round of one mode.
#[derive(Debug)]
struct Sample {
    requests_per_second: f64,
    cpu_per_request: f64,
    user_per_request: f64,
}

fn main() {
    // `cargo test --benches` runs this too, with this flag or without any: it is a bench only when asked for one.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("sidetrace-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut samples: Vec<Vec<Sample>> = MODES.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        for ((mode, name), samples) in MODES.into_iter().zip(&mut samples) {
            eprintln!("round {round} of {ROUNDS}: {name}");
            samples.push(run(mode, &folder));
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
    report(&samples);
}

fn run(mode: Mode, folder: &std::path::Path) -> Sample {
    let mut pod = Pod::without_sidecar(&[
        ("SIDETRACE_WORKERS", "1"),
        ("SIDETRACE_LOG", "warn,sidetrace=info"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
    ]);
    let endpoint = pod.collector.own_endpoint();
    pod.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    pod.set("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    // The host's default may be bbr, which cripples bulk over veth.
    for netns in [&pod.agent, &pod.world] {
        netns.sh_ok("sysctl -qw net.ipv4.tcp_congestion_control=reno || true");
    }
    let nginx = folder.join("nginx.conf");
    let body = format!("{{\"padding\":\"{}\"}}", "x".repeat(1010));
    std::fs::write(
        &nginx,
        format!(
            "worker_processes 1; daemon off; pid {0}/nginx.pid; error_log stderr error;
             events {{ worker_connections 4096; }}
             http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}/b; proxy_temp_path {0}/p;
                     fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
                     server {{ listen {WORLD_V4}:8080 reuseport;
                              location / {{ default_type application/json; return 200 '{body}'; }} }} }}",
            folder.display()
        ),
    )
    .unwrap();
    let _nginx = Process::start("nginx", &pod.world, pinned(1, &["nginx", "-c", nginx.to_str().unwrap()]));
    until("nginx answers", || pod.bare.sh(&format!("curl -sf -o /dev/null http://{WORLD_V4}:8080/")).status.success());

    let mut proxy = None;
    match mode {
        Mode::Direct => {}
        Mode::Relay => {
            let config = folder.join("haproxy.cfg");
            std::fs::write(
                &config,
                "global\n  nbthread 1\n  maxconn 8192\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
                 listen relay\n  bind 127.0.0.1:15101\n  server original 0.0.0.0:0\n",
            )
            .unwrap();
            assert!(full_uid_map(), "the relay is exempt by its uid: the bench needs root");
            let mut command = pinned(0, &["haproxy", "-db", "-f", config.to_str().unwrap()]);
            command.uid(PROXY_ID).gid(PROXY_ID);
            proxy = Some(Process::start("haproxy", &pod.agent, command));
            // Not by connecting: a relay that is asked for itself asks itself.
            until("the relay listens", || pod.agent.sh("ss -ltn | grep -q 127.0.0.1:15101").status.success());
            pod.redirect(&[]);
        }
        Mode::Sidecar => {
            pod.redirect(&[]);
            pod.start_sidecar();
            let id = pod.sidecar_id();
            let pin = Command::new("taskset").args(["-acp", "0", &id.to_string()]).output().unwrap();
            assert!(pin.status.success());
        }
    }
    let id = proxy.as_ref().map(Process::id).or_else(|| (mode == Mode::Sidecar).then(|| pod.sidecar_id()));

    load(&pod, 1);
    let before = id.map(cpu_ticks);
    let requests = load(&pod, SECONDS);
    let after = id.map(cpu_ticks);
    let (user, system) = match (before, after) {
        (Some(before), Some(after)) => (after.0 - before.0, after.1 - before.1),
        _ => (0, 0),
    };
    let micros = |ticks: u64| ticks as f64 * 1e6 / ticks_per_second() / requests as f64;
    if mode == Mode::Sidecar {
        let said = pod.stop_sidecar();
        eprintln!("  {}", said.lines().last().unwrap_or_default());
    }
    Sample {
        requests_per_second: requests as f64 / f64::from(SECONDS),
        cpu_per_request: micros(user + system),
        user_per_request: micros(user),
    }
}

/// Requests that wrk got answered.
fn load(pod: &Pod, seconds: u32) -> u64 {
    let url = format!("http://{WORLD_V4}:8080/");
    let (connections, duration) = (CONNECTIONS.to_string(), format!("{seconds}s"));
    let output = pod.agent.output(pinned(1, &["wrk", "-t1", "-c", &connections, "-d", &duration, &url]));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let line = said.lines().find(|line| line.contains(" requests in ")).unwrap();
    let requests = line.split_whitespace().next().unwrap().parse().unwrap();
    assert!(requests > 0, "nothing was answered: {said}");
    requests
}

/// User and system time of a process, all its threads, from `/proc/PID/stat`.
fn cpu_ticks(id: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse().unwrap(), fields[12].parse().unwrap())
}

fn ticks_per_second() -> f64 {
    let output = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn pinned(core: u32, command: &[&str]) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", &core.to_string()]).args(command);
    pinned
}

fn report(samples: &[Vec<Sample>]) {
    let median = |samples: &[Sample], figure: fn(&Sample) -> f64| {
        let mut figures: Vec<_> = samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
    };
    let relay = median(&samples[1], |sample| sample.cpu_per_request).0;
    println!("HTTP/1.1 keep-alive, {CONNECTIONS} connections, 1 KiB answers, {ROUNDS} rounds of {SECONDS} s, medians");
    println!(
        "{:<34}{:>12}{:>32}{:>10}{:>10}",
        "", "requests/s", "proxy CPU us/request (min-max)", "of it user", "to relay"
    );
    for ((mode, name), samples) in MODES.into_iter().zip(samples) {
        let rate = median(samples, |sample| sample.requests_per_second).0;
        let (cpu, low, high) = median(samples, |sample| sample.cpu_per_request);
        let user = median(samples, |sample| sample.user_per_request).0;
        if mode == Mode::Direct {
            println!("{name:<34}{rate:>12.0}{:>32}{:>10}{:>10}", "-", "-", "-");
        } else {
            let spread = format!("{cpu:.1} ({low:.1}-{high:.1})");
            println!("{name:<34}{rate:>12.0}{spread:>32}{user:>10.1}{:>9.2}x", cpu / relay);
        }
    }
}

//! What operators see and change: the metrics, the admin socket, the orderly quit; what happens when memory runs out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Pod, WORLD_V4, binary, full_uid_map, until};

#[test]
fn every_line_of_the_metrics_is_valid_and_they_agree_with_what_happened() {
    let pod = Pod::start();
    let _origin = pod.origin("http", &["8080"]);
    let _greeter = pod.origin("greet", &["8025"]);
    calls(&pod, 5);
    talk(&pod, 8025, b"hello");
    pod.agent.sh(&format!("curl -s http://{WORLD_V4}:9/"));
    pod.collector.wait_for_spans(7);
    until("the batches are counted", || pod.metric("sidetrace_spans_exported_total") == 7);
    let text = pod.agent.sh_ok("curl -sf http://127.0.0.1:15120/metrics");
    let samples = parse(&text);
    let value = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    let duration = |part: &str, direction: &str, protocol: &str| {
        value(&format!("sidetrace_call_duration_seconds_{part}{{direction=\"{direction}\",protocol=\"{protocol}\"}}"))
    };
    assert_eq!(duration("count", "outbound", "http1"), 5.0);
    assert!(duration("sum", "outbound", "http1") > 0.0);
    assert_eq!(duration("count", "outbound", "tcp"), 2.0, "a connection that was not read, one that was refused");
    assert_eq!((duration("count", "outbound", "grpc"), duration("count", "inbound", "http1")), (0.0, 0.0));
    assert!(value("sidetrace_bytes_total{direction=\"sent\"}") >= 5.0);
    assert!(value("sidetrace_bytes_total{direction=\"received\"}") >= 5.0);
    let batches = value("sidetrace_export_batches_total{outcome=\"delivered\"}");
    assert!((1.0..=7.0).contains(&batches));
    assert!(value("sidetrace_export_duration_seconds_count") >= batches);
    assert!(value("sidetrace_export_bytes_total") > 7.0 * 100.0);
    assert_eq!(value("sidetrace_spans_queue_capacity"), 2048.0);
    assert_eq!(
        (value("sidetrace_memory_shedding"), value("sidetrace_budget_refused_total{use=\"queue\"}")),
        (0.0, 0.0)
    );
    until("what was delivered is given back", || pod.metric("sidetrace_budget_lent_bytes{use=\"queue\"}") == 0);
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 5.0);
    assert!(value("process_threads") >= 3.0);
}

#[test]
fn the_log_is_changed_while_it_runs() {
    let socket = Socket::new();
    let pod = Pod::start_with(&[("SIDETRACE_ADMIN_SOCKET", socket.path()), ("SIDETRACE_LOG", "info")]);
    let _origin = pod.origin("http", &["8080"]);
    calls(&pod, 1);
    pod.collector.wait_for_spans(1);
    assert!(!pod.sidecar().said().contains("detected"));
    assert_eq!(socket.ask(&pod, "GET", "/log", ""), (200, "info\n".into()));
    let (status, body) = socket.ask(&pod, "PUT", "/log", "info,sidetrace::proxy=debug");
    assert_eq!((status, body.as_str()), (200, "sidetrace::proxy=debug,info\n"));
    calls(&pod, 1);
    pod.sidecar().wait_for("detected", 1);
    assert_eq!(socket.ask(&pod, "PUT", "/log", "sidetrace=loud").0, 400);
    assert_eq!(socket.ask(&pod, "PUT", "/log", "").0, 400);
    assert_eq!(socket.ask(&pod, "PUT", "/log", &"x".repeat(5000)).0, 400);
    assert_eq!(socket.ask(&pod, "GET", "/log", "").1, "sidetrace::proxy=debug,info\n", "as it was");
}

#[test]
fn the_admin_socket_answers_our_user_and_root_alone_and_is_not_taken_over() {
    let socket = Socket::new();
    let mut pod = Pod::start_with(&[("SIDETRACE_ADMIN_SOCKET", socket.path()), ("SIDETRACE_LOG_FORMAT", "json")]);
    let (status, config) = socket.ask(&pod, "GET", "/config", "");
    let shown = format!("environment  {}", socket.path());
    let found = config.lines().any(|line| line.starts_with("SIDETRACE_ADMIN_SOCKET ") && line.ends_with(&shown));
    assert!(status == 200 && found && config.contains("service.name=agent-under-test"), "{config}");
    assert!(socket.ask(&pod, "GET", "/metrics", "").1.contains("\nsidetrace_connections_total 0\n"));
    let status = |method: &str, path: &str| socket.ask(&pod, method, path, "").0;
    assert_eq!((status("GET", "/ready"), status("GET", "/"), status("POST", "/log")), (200, 404, 405));
    assert_eq!((status("GET", "/quit"), status("POST", "/reload")), (405, 400), "there is no file to reload");

    let file = PathBuf::from(socket.path());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    if full_uid_map() {
        let stranger = format!(
            "setpriv --reuid 15200 --regid 15200 --clear-groups curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {} \
             -X POST http://admin/quit",
            socket.path()
        );
        assert_eq!(pod.agent.sh(&stranger).stdout, b"000", "the mode keeps strangers out");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(pod.agent.sh_ok(&stranger), "403", "and so do we");
    } else {
        // There is one uid here: nobody is a stranger.
        assert_eq!(status("GET", "/live"), 200);
    }

    let mut second = Command::new(binary());
    second.arg("proxy").env_clear().env("SIDETRACE_ADMIN_SOCKET", socket.path());
    for (name, port) in [("OUTBOUND", "16101"), ("INBOUND", "16106"), ("HEALTH", "16120")] {
        second.env(format!("SIDETRACE_{name}_PORT"), port);
    }
    let output = pod.agent.output(second);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("SIDETRACE_ADMIN_SOCKET") && said.contains("another process listens there"), "{said}");
    pod.stop_sidecar();
    assert!(!file.exists(), "the file goes with the sidecar");
}

#[test]
fn a_quit_is_a_drain_with_the_call_under_way_and_a_signal_behind_it_is_no_impatience() {
    let socket = Socket::new();
    let mut pod = Pod::start_with(&[("SIDETRACE_ADMIN_SOCKET", socket.path())]);
    let _origin = pod.origin("http", &["8080"]);
    let mut call = pod.agent.enter(|| TcpStream::connect(format!("{WORLD_V4}:8080")).unwrap());
    call.write_all(b"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").unwrap();
    until("the call is under way", || pod.metric("sidetrace_detected_total{protocol=\"http1\"}") == 1);
    assert_eq!(socket.ask(&pod, "POST", "/quit", ""), (202, "draining\n".into()));
    pod.sidecar().wait_for("draining", 1);
    assert_eq!(socket.ask(&pod, "POST", "/quit", ""), (202, "draining\n".into()), "told again it says the same");
    assert_eq!(socket.ask(&pod, "GET", "/ready", "").0, 503);
    assert_eq!(socket.ask(&pod, "GET", "/live", "").0, 200);
    kill(Pid::from_raw(i32::try_from(pod.sidecar_id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(socket.ask(&pod, "GET", "/live", "").0, 200, "a quit and one signal");
    call.write_all(b"cd").unwrap();
    let mut answer = String::new();
    call.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"length\": 4"), "{answer}");
    let said = pod.sidecar_ends();
    assert!(said.contains("drained") && said.contains("created=1 exported=1 lost=0"), "{said}");
    assert!(!said.contains("told again"), "{said}");
}

#[test]
fn the_pod_may_end_us_through_the_health_port_only_if_asked_for_and_only_from_inside() {
    let ask = |pod: &Pod, from_world: bool, method: &str| {
        let (netns, host) = if from_world { (&pod.world, "10.231.0.1") } else { (&pod.agent, "127.0.0.1") };
        let url = format!("http://{host}:15120/quitquitquit");
        netns.sh_ok(&format!("curl -s -o /dev/null -w '%{{http_code}}' -X {method} {url}"))
    };
    let mut pod = Pod::start();
    assert_eq!(ask(&pod, false, "POST"), "404", "off by default");
    pod.stop_sidecar();
    pod.set("SIDETRACE_QUIT_ENDPOINT", "true");
    pod.start_sidecar();
    assert_eq!((ask(&pod, true, "POST"), ask(&pod, false, "GET")), ("403".into(), "405".into()));
    assert_eq!(pod.metric("sidetrace_connections_open"), 0, "still there");
    assert_eq!(ask(&pod, false, "POST"), "202");
    let said = pod.sidecar_ends();
    assert!(said.contains("told to quit") && said.contains("pipeline stopped"), "{said}");
}

#[test]
fn where_memory_is_nearly_used_up_calls_are_served_and_counted_but_not_recorded() {
    // Less than the program itself takes.
    let mut pod = Pod::start_with(&[
        ("SIDETRACE_MEMORY_LIMIT", "2Mi"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:4399")),
        ("SIDETRACE_FLUSH_TIMEOUT", "0.2"),
    ]);
    let origin = pod.origin("http", &["8080"]);
    let _greeter = pod.origin("greet", &["8025"]);
    calls(&pod, 6);
    talk(&pod, 8025, b"hello");
    until("the connection is over", || pod.metric("sidetrace_connections_open") == 0);
    assert_eq!(pod.metric("sidetrace_spans_dropped_total{stage=\"shed\",reason=\"memory\"}"), 7);
    assert_eq!(pod.metric("sidetrace_memory_shedding"), 1);
    assert_eq!(pod.metric("sidetrace_memory_limit_bytes"), 2 << 20);
    assert!(pod.metric("sidetrace_memory_used_bytes") > 2 << 20);
    assert_eq!(pod.metric("sidetrace_budget_lent_bytes{use=\"queue\"}"), 0);
    let said = pod.stop_sidecar();
    assert_eq!(said.matches("memory is nearly used up").count(), 1, "{said}");
    assert!(said.contains("created=7 exported=0 lost=7"), "{said}");
    for call in origin.into_calls() {
        assert_eq!(call["call"]["traceparent"].as_array().unwrap().len(), 1, "{call}");
    }
}

#[test]
fn a_dead_backend_fills_the_budget_and_no_more() {
    // A queue for more spans than the budget has room for: three quarters of half the limit.
    let mut pod = Pod::start_with(&[
        ("SIDETRACE_MEMORY_LIMIT", "48Mi"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1000000"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{WORLD_V4}:4399")),
        ("SIDETRACE_FLUSH_TIMEOUT", "0.2"),
        ("SIDETRACE_LOG", "info"),
    ]);
    let _origin = pod.origin("http", &["8080"]);
    let mut command = Command::new("curl");
    let long = "/a".repeat(2500);
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain{long}?[1-4300]")]);
    pod.run(command);
    let dropped =
        |stage: &str| pod.metric(&format!("sidetrace_spans_dropped_total{{stage=\"{stage}\",reason=\"budget\"}}"));
    until("every span waits or is counted", || {
        pod.metric("sidetrace_spans_queued") + dropped("buffer") + dropped("sink") == 4300
    });
    assert!(dropped("buffer") > 100, "{}", dropped("buffer"));
    let lent = pod.metric("sidetrace_budget_lent_bytes{use=\"queue\"}");
    assert!((17 << 20..=18 << 20).contains(&lent), "{lent}");
    let used = pod.metric("process_resident_memory_bytes");
    assert!(used < 38 << 20, "{used} bytes: the estimate of what a span holds is too low");
    let said = pod.stop_sidecar();
    assert!(said.contains("created=4300 exported=0 lost=4300") && !said.contains("nearly used up"), "{said}");
}

fn calls(pod: &Pod, count: usize) {
    let mut command = Command::new("curl");
    command.args(["-sSf", "-o", "/dev/null", &format!("http://{WORLD_V4}:8080/plain?[1-{count}]")]);
    pod.run(command);
}

/// Says something, and hears everything that is answered.
fn talk(pod: &Pod, port: u16, words: &'static [u8]) {
    pod.agent.enter(move || {
        let mut stream = TcpStream::connect((WORLD_V4, port)).unwrap();
        stream.write_all(words).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
}

/// A place for the admin socket that the sidecar's user can write to.
struct Socket {
    folder: PathBuf,
    path: String,
}

impl Socket {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sidetrace-admin-{}-{next}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        if full_uid_map() {
            chown(&folder, Some(15100), Some(15100)).unwrap();
        }
        let path = folder.join("admin.sock").to_str().unwrap().to_owned();
        Self { folder, path }
    }

    fn path(&self) -> &str {
        &self.path
    }

    /// The status and the body.
    fn ask(&self, pod: &Pod, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["-s", "-w", "%{http_code}", "-X", method, "--unix-socket", &self.path]);
        if !body.is_empty() {
            command.args(["--data-binary", body]);
        }
        let output = pod.agent.output({
            command.arg(format!("http://admin{path}"));
            command
        });
        let mut said = String::from_utf8(output.stdout).unwrap();
        let status = said.split_off(said.len() - 3);
        (status.parse().unwrap(), said)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Prometheus, "Exposition formats", text format 0.0.4, as strictly as a parser may be. Samples by name and labels.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind, mut helped) = (String::new(), String::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            helped = name.to_owned();
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, of) = declared.split_once(' ').unwrap();
            assert_eq!(name, helped);
            assert!(families.insert(name.to_owned()), "twice: {name}");
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert!((of == "counter") == name.ends_with("_total"), "{line}");
            (family, kind) = (name.to_owned(), of.to_owned());
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            let part = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} in the family {family}"));
            let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.contains(&part), "{line}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            for label in labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once('=').unwrap();
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
                assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
                assert!(!value[1..value.len() - 1].contains(['"', '\\']), "{line}");
            }
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            if part == "_bucket" {
                assert_bucket(&mut samples, key, value);
            } else if part == "_count" {
                let all = key.replace("_count{", "_bucket{").replace('}', ",le=\"+Inf\"}");
                let all = if labels == "}" { format!("{family}_bucket{{le=\"+Inf\"}}") } else { all };
                assert_eq!(samples.get(&all), Some(&value), "{line}");
            }
            assert!(samples.insert(key.to_owned(), value).is_none(), "twice: {key}");
        }
    }
    assert!(families.len() > 25, "{families:?}");
    samples.retain(|key, _| !key.starts_with("of "));
    samples
}

/// Bounds grow from bucket to bucket, and what they count does not shrink.
fn assert_bucket(samples: &mut BTreeMap<String, f64>, key: &str, value: f64) {
    let (series, bound) = key.rsplit_once("le=\"").unwrap();
    let bound = bound.strip_suffix("\"}").unwrap().replace("+Inf", "inf").parse::<f64>().unwrap();
    let last_bound = samples.insert(format!("of {series} bound"), bound);
    let last_value = samples.insert(format!("of {series} value"), value);
    assert!(last_bound.is_none_or(|last| last < bound) && last_value.is_none_or(|last| last <= value), "{key}");
}

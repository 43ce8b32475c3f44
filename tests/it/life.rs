//! The program's life: start, health, configuration, drain, and the proof that it is redirected to.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Netns, Pod, Process, WORLD_V4, binary, full_uid_map, python, root, until};

#[test]
fn health_is_answered_and_a_stranger_gets_nothing_else() {
    let pod = Pod::start();
    let status = |method: &str, path: &str| {
        // From outside the pod, as a kubelet asks.
        let url = format!("http://10.231.0.1:15120{path}");
        let output = pod.world.sh_ok(&format!("curl -s -o /dev/null -w '%{{http_code}}' -X {method} '{url}'"));
        output.parse::<u16>().unwrap()
    };
    assert_eq!([status("GET", "/live"), status("GET", "/ready"), status("GET", "/metrics")], [200; 3]);
    assert_eq!((status("POST", "/ready"), status("GET", "/"), status("GET", "/config")), (405, 404, 404));
    let refused = pod.world.sh("curl -s http://10.231.0.1:15101/");
    assert_eq!(refused.status.code(), Some(7), "the outbound port is on loopback only");
    let commit = option_env!("SIDETRACE_COMMIT").unwrap_or("unknown");
    let build = format!("sidetrace_build_info{{version=\"{}\",commit=\"{commit}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(pod.metric(&build), 1);
}

#[test]
fn sigterm_under_load_ends_calls_in_order_and_loses_no_span() {
    let mut pod = Pod::start();
    let origin = pod.origin("http", &["8080"]);
    let load = || {
        let mut command = Command::new(python());
        command.arg(root().join("tests/it/clients/load.py")).arg(format!("http://{WORLD_V4}:8080/plain"));
        Process::start("load", &pod.agent, command)
    };
    let mut clients = [load(), load(), load()];
    for client in &clients {
        client.wait_for("200 calls", 1);
    }
    let said = pod.stop_sidecar();
    pod.collector.stop_rotel();
    for client in &mut clients {
        client.wait();
    }
    let answered: usize = clients
        .iter()
        .map(|client| client.said().lines().last().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    let spans = pod.collector.spans();
    let ids: BTreeSet<String> =
        spans.iter().map(|span| span.span_id.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(ids.len(), spans.len());
    assert!(said.contains(&format!("created={0} exported={0} lost=0", spans.len())), "{} spans\n{said}", spans.len());
    let calls = origin.into_calls();
    for call in &calls {
        let header = call["call"]["traceparent"][0].as_str().unwrap();
        assert!(ids.contains(&header[36..52]), "a call without a span: {header}");
    }
    assert!(spans.len() >= answered && answered >= 600, "{answered} answered, {} spans", spans.len());
}

#[test]
fn with_a_delay_a_signal_changes_nothing_until_the_next_one() {
    let mut pod = Pod::start_with(&[("SIDETRACE_TERMINATION_DELAY", "600")]);
    let _origin = pod.origin("http", &["8080"]);
    pod.sidecar().signal(Signal::SIGTERM);
    pod.sidecar().wait_for("going on as before", 1);
    assert!(health(&pod, &[], "15120").status.success(), "still ready");
    let call = || pod.agent.sh_ok(&format!("curl -sSf http://{WORLD_V4}:8080/plain"));
    call();
    call();
    // The second one, which is no impatience yet: what is under way ends in order.
    let said = pod.stop_sidecar();
    assert!(said.contains("drained") && said.contains("created=2 exported=2 lost=0"), "{said}");
    assert!(!said.contains("told again"), "{said}");
}

#[test]
fn a_quit_means_that_the_agent_has_ended_and_waits_for_no_delay() {
    let mut pod = Pod::start_with(&[("SIDETRACE_TERMINATION_DELAY", "600"), ("SIDETRACE_QUIT_ENDPOINT", "true")]);
    let quit = |pod: &Pod| pod.agent.sh_ok("curl -sSf -X POST http://127.0.0.1:15120/quitquitquit");
    quit(&pod);
    assert!(!pod.sidecar_ends().contains("going on as before"));
    pod.start_sidecar();
    pod.sidecar().signal(Signal::SIGINT);
    pod.sidecar().wait_for("going on as before", 1);
    quit(&pod);
    assert!(pod.sidecar_ends().contains("drained"));
}

#[test]
fn the_health_command_says_whether_the_sidecar_is_ready() {
    let mut pod = Pod::without_sidecar(&[]);
    let fails = |pod: &Pod, port: &str, why: &str| {
        let output = health(pod, &[], port);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    };
    fails(&pod, "15120", "no sidecar answers");
    // It waits for a sidecar that comes.
    let (netns, waiting) = (pod.agent.clone(), health_command(&["--wait", "30"], "15120"));
    let waiting = std::thread::spawn(move || netns.output(waiting));
    pod.start_sidecar();
    let output = waiting.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"ready\n");
    // With the redirect it is the same, and a rules file that is no longer sound is no illness.
    pod.redirect(&[]);
    let mut command = health_command(&["--quiet"], "15120");
    command.env("SIDETRACE_CONFIG", "/nonexistent");
    let output = pod.agent.output(command);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());

    let _origin = pod.app("http", &["8080"]);
    fails(&pod, "8080", "something else");
    let mute = pod.agent.enter(|| std::net::TcpListener::bind("127.0.0.1:8081").unwrap());
    fails(&pod, "8081", "timed out");
    drop(mute);
    assert_eq!(health(&pod, &[], "none").status.code(), Some(2));
}

#[test]
fn the_health_command_says_that_a_sidecar_drains() {
    let mut pod = Pod::start();
    let _origin = pod.origin("http", &["8080"]);
    let mut call = pod.agent.enter(|| TcpStream::connect(format!("{WORLD_V4}:8080")).unwrap());
    call.write_all(b"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").unwrap();
    until("the call is under way", || pod.metric("sidetrace_detected_total{protocol=\"http1\"}") == 1);
    pod.sidecar().signal(Signal::SIGTERM);
    pod.sidecar().wait_for("draining", 1);
    let output = health(&pod, &[], "15120");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not ready"));
    call.write_all(b"cd").unwrap();
    call.read_to_string(&mut String::new()).unwrap();
    pod.sidecar_ends();
}

#[test]
fn connections_leave_no_descriptor_behind() {
    let pod = Pod::start();
    let _origin = pod.origin("http", &["8080"]);
    let _greeter = pod.origin("greet", &["8025"]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", pod.sidecar_id())).unwrap().count();
    let url = format!("http://{WORLD_V4}");
    let call = || {
        pod.agent.sh(&format!(
            "curl -s {url}:8080/plain {url}:8080/large {url}:8080/reset {url}:8080/cut -o /dev/null;
             curl -s --max-time 0.2 {url}:8080/never; curl -s --max-time 0.2 telnet://{WORLD_V4}:8025; curl -s {url}:9"
        ));
        until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
    };
    // The first round opens what stays: the export connection.
    call();
    pod.collector.wait_for_spans(7);
    let before = descriptors();
    (0..5).for_each(|_| call());
    until("as many descriptors are open as before", || descriptors() <= before);
}

#[test]
fn it_works_as_pid_1() {
    let netns = Netns::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(binary()).arg("proxy").env_clear();
    command.env("SIDETRACE_LOG_FORMAT", "json");
    let mut outer = Process::start("unshare", &netns, command);
    outer.wait_for("\"message\":\"ready\"", 1);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.id())).unwrap();
    kill(Pid::from_raw(children.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert!(outer.wait().success(), "{}", outer.said());
    for line in outer.said().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[test]
fn a_bad_configuration_stops_the_start_with_every_problem() {
    let run = |argument: &str| {
        let mut command = Command::new(binary());
        command.arg(argument).env_clear();
        command.env("SIDETRACE_OUTBOUND_PORT", "none").env("SIDETRACE_OUTBUOND_PORT", "1");
        command.output().unwrap()
    };
    for argument in ["proxy", "config", "check"] {
        let output = run(argument);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("2 problem(s)") && said.contains("\"none\"") && said.contains("OUTBUOND"), "{said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let netns = Netns::new();
    let _taken = netns.enter(|| std::net::TcpListener::bind("127.0.0.1:15101").unwrap());
    let mut command = Command::new(binary());
    command.arg("proxy").env_clear();
    let output = netns.output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("SIDETRACE_OUTBOUND_PORT") && said.contains("15101"), "{said}");
}

#[test]
fn a_mark_that_may_not_be_set_stops_the_start() {
    let netns = Netns::new();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-net_admin,-net_raw", "--inh-caps", "-net_admin,-net_raw"])
        .arg(binary())
        .arg("proxy")
        .env_clear();
    command.env("SIDETRACE_MARK", "15100").env("PATH", "/usr/bin:/bin");
    let output = netns.output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("SIDETRACE_MARK") && said.contains("CAP_NET_ADMIN"), "{said}");
}

#[test]
fn config_prints_what_is_in_force_and_hides_credentials() {
    let mut command = Command::new(binary());
    command.arg("config").env_clear();
    command.envs([("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret")]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !said.contains("s3cret"), "{said}");
    for (name, source, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "environment", "http://c:4318/v1/traces"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "environment", "x-key=(hidden)"),
        ("SIDETRACE_OUTBOUND_PORT", "default", "15101"),
        ("SIDETRACE_TERMINATION_DELAY", "default", "0"),
        ("(resource)", "in force", "service.name=unknown_service"),
    ] {
        let found = said.lines().any(|line| line.starts_with(name) && line.contains(source) && line.ends_with(value));
        assert!(found, "{name} {source} {value} in\n{said}");
    }
}

#[test]
fn check_proves_the_redirect_with_and_without_a_sidecar_and_says_what_is_wrong() {
    let mut pod = Pod::without_sidecar(&[]);
    let output = check(&pod, &[]);
    assert_eq!(output.status.code(), Some(1), "nothing is redirected yet");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("IPv4: not redirected") && said.contains("IPv6: not redirected"), "{said}");
    assert!(said.contains("iptables/init.sh"), "{said}");

    pod.redirect(&[]);
    let redirected = |how: &str| {
        let output = check(&pod, &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.matches(how).count(), 2, "IPv4 and IPv6: {said}");
    };
    redirected("the check itself answered");
    pod.start_sidecar();
    let redirected = |how: &str| {
        let output = check(&pod, &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(said.matches(how).count(), 2, "IPv4 and IPv6: {said}");
    };
    redirected("a running sidecar answered");
    assert!(pod.finish().is_empty(), "a probe is no call");

    pod.redirect(&["--ipv6", "off"]);
    assert_eq!(check(&pod, &[]).status.code(), Some(1), "IPv6 has a route, but no redirect");
    assert!(check(&pod, &["--ipv6", "off"]).status.success());

    pod.agent.sh_ok("ip -6 route del default");
    let output = check(&pod, &[]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("IPv6: not tried"), "what is not proved is said: {said}");
}

#[test]
fn check_says_when_it_runs_as_the_exempt_user() {
    let pod = Pod::without_sidecar(&[]);
    pod.redirect(&[]);
    let mut command = Command::new(binary());
    command.arg("check").env_clear();
    if full_uid_map() {
        command.uid(15100);
        let said = String::from_utf8_lossy(&pod.agent.output(command).stderr).into_owned();
        assert!(said.contains("exempt from the redirect"), "{said}");
    } else {
        // There is one uid here, and exemption is by mark: the check is not exempt.
        assert!(pod.agent.output(command).status.success());
    }
}

#[test]
fn a_redirect_that_does_not_exempt_us_is_refused_and_named_instead_of_looping() {
    let mut pod = Pod::without_sidecar(&[]);
    let _origin = pod.origin("http", &["8080"]);
    pod.redirect(&[]);
    pod.start_sidecar_without_exemption();
    let output = pod.agent.sh(&format!("curl -s http://{WORLD_V4}:8080/plain"));
    assert!(!output.status.success());
    until("the loop is counted", || pod.metric("sidetrace_loops_total") > 0);
    let loops = pod.metric("sidetrace_connections_total");
    assert!(loops < 20, "{loops} connections for one call");
    let said = pod.stop_sidecar();
    assert!(said.contains("--proxy-uid") && said.contains("--proxy-mark"), "{said}");
}

/// As the sidecar's container runs it: by the sidecar's own user, where there is more than one.
fn health_command(arguments: &[&str], port: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(["check", "--health"]).args(arguments).env_clear().env("SIDETRACE_HEALTH_PORT", port);
    if full_uid_map() {
        command.uid(15100).gid(15100);
    }
    command
}

fn health(pod: &Pod, arguments: &[&str], port: &str) -> Output {
    pod.agent.output(health_command(arguments, port))
}

#[test]
fn a_program_that_runs_as_the_sidecars_own_user_is_not_seen_and_named_once() {
    let mut pod = Pod::start();
    if !full_uid_map() {
        // There is one uid here, which agent and sidecar share: exemption is by mark, and nobody is looked for.
        let _listener = pod.app("http", &["8081"]);
        assert_eq!(pod.metric("sidetrace_unseen_sockets"), 0);
        return;
    }
    let _greeter = pod.origin("greet", &["8025"]);
    let mut client = Command::new("python3");
    let talk = "import socket, sys; s = socket.create_connection((sys.argv[1], 8025)); [0 for _ in iter(lambda: s.recv(99), b'')]";
    client.args(["-c", talk, WORLD_V4]).uid(15100).gid(15100);
    let client = Process::start("client", &pod.agent, client);
    until("it is found", || pod.metric("sidetrace_unseen_sockets") == 1);
    pod.sidecar().wait_for("sidecar's own user", 1);
    assert_eq!(pod.metric("sidetrace_connections_total"), 0, "exempt");
    drop(client);
    until("it has gone", || pod.metric("sidetrace_unseen_sockets") == 0);
    let said = pod.stop_sidecar();
    assert_eq!(said.matches("sidecar's own user").count(), 1, "{said}");
    assert!(said.contains("uid=15100") && said.contains("runAsUser"), "{said}");
}

#[test]
fn an_agent_of_which_nothing_is_seen_is_noticed_by_connections_too_short_to_be_found() {
    let mut pod = Pod::start();
    if !full_uid_map() {
        // There is one uid here, which agent and sidecar share: exemption is by mark, and nobody is looked for.
        return;
    }
    let _origin = pod.origin("http", &["8080"]);
    let calls = "import sys, urllib.request\n\
                 for call in range(12): urllib.request.urlopen(f'http://{sys.argv[1]}:8080/plain').read()";
    let mut client = Command::new("python3");
    client.args(["-c", calls, WORLD_V4]).uid(15100).gid(15100);
    pod.run(client);
    pod.sidecar().wait_for("none has come to the sidecar", 1);
    assert_eq!((pod.metric("sidetrace_connections_total"), pod.metric("sidetrace_unseen_connections")), (0, 12));
    // What is redirected is known, and so is what the sidecar opens for it.
    pod.agent.sh_ok(&format!("for call in 1 2 3; do curl -sf http://{WORLD_V4}:8080/plain; done"));
    pod.sidecar().signal(Signal::SIGTERM);
    let said = pod.sidecar_ends();
    assert_eq!(said.matches("none has come to the sidecar").count(), 1, "{said}");
}

fn check(pod: &Pod, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("check").args(arguments).env_clear();
    pod.agent.output(command)
}

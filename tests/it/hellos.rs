//! ClientHellos of real TLS stacks (`tests/fixtures/client_hello`) through the proxy: where TLS is not intercepted, or not
//! understood, or upstream takes no handshake of ours, upstream hears the client's own bytes, however they come.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::hostile::{MIB, bounded, idle, rss};
use super::support::{Origin, Pod, Process, WORLD_V4, integer, python, root, text, until};

#[test]
fn a_hello_that_passes_arrives_byte_for_byte_whatever_the_pieces() {
    let mut pod = Pod::start();
    let hellos = hellos();
    let _origin = origin(&pod, "hears", 1, &hellos);
    let said = count(&pod, "pieces", &hellos);
    let spans = pod.finish();
    assert_eq!(spans.len(), said);
    let reasons =
        |reason: &str| spans.iter().filter(|span| text(span, "sidetrace.passthrough.reason") == reason).count();
    // The frame of SSL 2.0 is not for us to understand.
    assert_eq!((reasons("tls"), reasons("not_http")), (said - said / hellos.len(), said / hellos.len()));
    let named = spans.iter().filter(|span| text(span, "sidetrace.tls.server_name") == "api.example.com").count();
    assert!(named > said * 3 / 4, "{named} of {said}");
}

#[test]
fn a_hello_that_is_damaged_or_cut_arrives_as_it_is() {
    let pod = Pod::start();
    let _origin = origin(&pod, "hears", 1, &[]);
    count(&pod, "changed", &hellos());
    idle(&pod);
}

#[test]
fn what_is_no_hello_any_more_arrives_as_it_is_though_tls_is_intercepted() {
    let mut pod = Pod::start_with(&[("SIDETRACE_INTERCEPT", "true")]);
    let _origin = origin(&pod, "hears", 1, &[]);
    let said = count(&pod, "strange", &hellos());
    let spans = pod.finish();
    let reasons =
        |reason: &str| spans.iter().filter(|span| text(span, "sidetrace.passthrough.reason") == reason).count();
    assert_eq!(spans.len(), said);
    assert_eq!(reasons("tls_not_understood") + reasons("not_http"), said);
}

#[test]
fn an_upstream_that_resets_our_handshake_hears_the_clients_own_bytes() {
    let mut pod = Pod::start_with(&[("SIDETRACE_INTERCEPT", "true")]);
    let hellos = hellos();
    let origin = origin(&pod, "resets", hellos.len(), &hellos);
    let said = count(&pod, "ports", &hellos);
    let mut untried = Vec::new();
    for span in pod.finish() {
        let reason = text(&span, "sidetrace.passthrough.reason");
        if reason != "tls_upstream_closed" {
            let index = integer(&span, "server.port").unwrap() - PORT.parse::<i64>().unwrap();
            let name = hellos[usize::try_from(index).unwrap()].file_stem().unwrap().to_string_lossy().into_owned();
            untried.push(format!("{name}: {reason}"));
        }
    }
    untried.sort();
    // Too old, or with no group that rustls has.
    let known = [
        "openssl-1.0.2-ssl2_frame: not_http",
        "openssl-1.0.2-ssl3: tls_client_offer",
        "openssl-3.0.19-groups: tls_client_offer",
        "openssl-3.0.19-three_records: tls_client_offer",
        "openssl-3.0.19-tls1_0: tls_client_offer",
    ];
    assert_eq!(untried, known);
    let ends: Vec<_> =
        origin.into_calls().iter().map(|call| call["call"]["end"].as_str().unwrap().to_owned()).collect();
    let number = |end: &str| ends.iter().filter(|other| *other == end).count();
    assert_eq!((number("heard"), number("reset")), (said, said - known.len()));
}

#[test]
fn crowds_that_say_half_a_hello_and_stay_take_bounded_memory_and_nobody_elses_turn() {
    for intercept in ["false", "true"] {
        let pod = Pod::start_with(&[("SIDETRACE_INTERCEPT", intercept)]);
        let hellos = hellos();
        let _origin = origin(&pod, "resets", 1, &hellos);
        count(&pod, "ports", &hellos[..1]);
        let chromium = hellos.iter().find(|hello| hello.display().to_string().contains("chromium")).unwrap();
        let warm = rss(&pod);
        // A task, two sockets and what was said: less than 16 KiB, unoptimised.
        held(&pod, &["half", "1000", chromium.to_str().unwrap()], 1000, || {
            count(&pod, "ports", &hellos[..1]);
            bounded(&pod, warm, 16 * MIB, "1,000 halves of a hello");
        });
        idle(&pod);
        held(&pod, &["long", "300"], 300, || {
            // 32 KiB each, and as much again while a buffer grows.
            count(&pod, "ports", &hellos[..1]);
            bounded(&pod, warm, 300 * 64 * 1024 + 16 * MIB, "300 hellos of 32 KiB that never end");
        });
        idle(&pod);
    }
}

fn hellos() -> Vec<PathBuf> {
    let folder = root().join("tests/fixtures/client_hello");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut hellos: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "bin")).collect();
    hellos.sort();
    assert!(hellos.len() > 50);
    hellos
}

fn origin(pod: &Pod, mode: &str, ports: usize, hellos: &[PathBuf]) -> Origin {
    let ports = ports.to_string();
    let files = hellos.iter().map(|hello| hello.to_str().unwrap());
    let arguments: Vec<_> = [mode, PORT, &ports].into_iter().chain(files).collect();
    pod.origin_at("hello_origin.py", &arguments)
}

/// Runs a scenario; how much was said.
fn count(pod: &Pod, scenario: &str, hellos: &[PathBuf]) -> usize {
    let files = hellos.iter().map(|hello| hello.to_str().unwrap());
    let output = pod.run(client(&[scenario].into_iter().chain(files).collect::<Vec<_>>()));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Looks while the client holds its connections.
fn held(pod: &Pod, arguments: &[&str], connections: u64, look: impl FnOnce()) {
    let mut process = Process::start("hellos.py", &pod.agent, client(arguments));
    process.wait_for("holding", 1);
    until("they are there", || pod.metric("sidetrace_connections_open") >= connections);
    look();
    process.signal(Signal::SIGUSR1);
    assert!(process.wait().success(), "{}", process.said());
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/clients/hellos.py")).args([WORLD_V4, PORT]).args(arguments);
    command
}

const PORT: &str = "20000";

//! Clients that mean no good: what is ambiguous is refused so that nothing of it can be smuggled, whatever is piled up has a
//! bound, and nobody else notices.

use std::process::Command;

use nix::sys::signal::Signal;

use super::support::{Pod, Process, WORLD_V4, python, root, text, until};

/// Requests whose end, or whose head's end, two readers could see in different places. Behind each stands what would be
/// smuggled.
const REFUSED: &[&str] = &[
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /smuggled",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\nContent-Length: 4\\r\\n\\r\\n0\\r\\n\\r\\nGET /smuggled",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 4\\r\\nContent-Length: 5\\r\\n\\r\\nabcde",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 4, 5\\r\\n\\r\\nabcde",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: +4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: -4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 0x4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 4 4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: \\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: \\x0c4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 99999999999999999999\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length : 4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 4\\r\\n 5\\r\\n\\r\\nabcde",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nX: 1\\nContent-Length: 4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nX: 1\\rContent-Length: 4\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nX: 1\\0\\r\\n\\r\\nabcd",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding : chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding\\t: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\n Transfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding:\\r\\n chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: \\x0bchunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: \\x0cchunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked, identity\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: identity\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.0\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
    "POST / HTTP/1.1\\r\\n Host: a\\r\\n\\r\\n",
];

/// Chunks at fault: the head, and what came before the fault, may have been passed on, nothing behind it.
const BAD_CHUNKS: &[&str] = &[
    "x\\r\\nSMUGGLED",
    "-1\\r\\nSMUGGLED",
    "0x3\\r\\nSMUGGLED",
    "3 3\\r\\nSMUGGLED",
    "\\r\\nSMUGGLED",
    "11111111111111111\\r\\nSMUGGLED",
    "3\\nabc\\nSMUGGLED",
    "3;a\\nSMUGGLED",
    "3;a=\\0\\r\\nSMUGGLED",
    "3\\r\\nabcSMUGGLED",
    "3\\r\\nabc\\n0\\r\\n\\r\\nSMUGGLED",
    "0\\r\\n\\nSMUGGLED",
    "0\\r\\nX: a\\n\\r\\nSMUGGLED",
];

#[test]
fn what_could_be_smuggled_is_refused_and_the_next_connection_works() {
    let mut pod = Pod::start();
    let origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let said = hostile(&pod, &[&["shapes"], REFUSED].concat());
    assert!(said.lines().all(|line| line == "0 reset") && said.lines().count() == REFUSED.len(), "{said}");
    assert_eq!(pod.metric("sidetrace_requests_ambiguous_total"), REFUSED.len() as u64);
    let head = "POST /quiet HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n";
    let chunks: Vec<_> = BAD_CHUNKS.iter().map(|chunk| format!("{head}{chunk}")).collect();
    let chunks: Vec<_> = chunks.iter().map(String::as_str).collect();
    let said = hostile(&pod, &[&["shapes"], chunks.as_slice()].concat());
    assert!(said.lines().all(|line| line == "0 reset") && said.lines().count() == chunks.len(), "{said}");
    // Behind a head that only some would see the end of, nothing may come; alone it is harmless.
    let loose = "GET /a HTTP/1.1\\r\\nHost: a\\r\\n\\nGET /SMUGGLED HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n";
    assert_eq!(hostile(&pod, &["shapes", loose]), "0 reset\n");
    let all = REFUSED.len() + BAD_CHUNKS.len() + 1;
    assert_eq!(pod.metric("sidetrace_requests_ambiguous_total"), all as u64);
    let spans = pod.finish();
    let refused: Vec<_> = spans.iter().filter(|span| text(span, "sidetrace.end") == "refused").collect();
    assert_eq!(refused.len(), all);
    for span in refused {
        assert!(!text(span, "sidetrace.refused.reason").is_empty(), "{span:#?}");
        assert_eq!(text(span, "error.type"), "ambiguous_request");
    }
    let calls = origin.into_calls();
    assert_eq!(calls.len(), 2 * all, "every connection, and a good one behind it");
    let begins: Vec<_> = calls.iter().map(|call| call["call"]["begin"].as_str().unwrap()).collect();
    assert!(
        begins
            .iter()
            .all(|begin| begin.is_empty() || begin.starts_with("GET /well") || begin.starts_with("POST /quiet"))
    );
    assert!(!begins.iter().any(|begin| begin.contains("SMUGGLED")), "{begins:?}");
}

#[test]
fn heads_that_upstream_takes_arrive_byte_for_byte() {
    let mut pod = Pod::start();
    let origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let said = hostile(&pod, &["big_heads"]);
    let calls = origin.calls(said.lines().count());
    for (line, call) in said.lines().zip(&calls) {
        let (length, sha256) = line.split_once(' ').unwrap();
        let call = &call["call"];
        assert_eq!((call["kept"].to_string(), call["sha256"].as_str()), (length.to_owned(), Some(sha256)));
        assert_eq!(call["ours"], 1, "traceparent");
    }
    assert_eq!(pod.finish().len(), calls.len());
}

#[test]
fn a_request_cut_anywhere_ends_as_it_would_without_us() {
    let pod = Pod::start();
    let origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let said = hostile(&pod, &["truncated"]);
    let length: usize = said.trim().parse().unwrap();
    let ours = origin.calls(length - 1);
    for (index, call) in ours.iter().take(length - 1).enumerate() {
        // What was cut within the head goes on as it came.
        let call = &call["call"];
        assert_eq!((call["kept"].as_u64(), call["error"].is_null()), (Some(index as u64 + 1), true), "{call}");
    }
    until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
}

#[test]
fn crowds_that_say_nothing_little_or_goodbye_take_bounded_memory() {
    let pod = Pod::start();
    let _origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let warm = warm(&pod);
    // How many of them are there at the same time, and how many of their spans wait for delivery, is chance; that it stays is not.
    // All at once they would take some 5 KiB each, unoptimised.
    for _ in 0..3 {
        hostile(&pod, &["aborted", "5000"]);
        idle(&pod);
        bounded(&pod, warm, 36 * MIB, "5,000 connects that were aborted");
    }
    hostile(&pod, &["late_heads", "500"]);
    held(&pod, &["silent", "2000"], || {
        until("they are there", || pod.metric("sidetrace_connections_open") >= 2000);
        // A connection is a task and two sockets: about 5 KiB each, unoptimised.
        bounded(&pod, warm, 40 * MIB, "2,000 connections that say nothing");
    });
    idle(&pod);
    held(&pod, &["half_heads", "500", "60000"], || {
        bounded(&pod, warm, (500 * 64 * 1024) + 16 * MIB, "500 heads of 60 kB that never end");
    });
    idle(&pod);
    hostile(&pod, &["pipelined", "5000"]);
    idle(&pod);
}

#[test]
fn heads_that_never_end_share_a_budget_beyond_64_kib_each() {
    let pod = Pod::start_with(&[("SIDETRACE_MEMORY_LIMIT", "128M")]);
    let _origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let warm = warm(&pod);
    held(&pod, &["half_heads", "200", "500000"], || {
        until("all that was sent was read", || pod.metric("sidetrace_bytes_total{direction=\"sent\"}") > 200 * 500_000);
        assert!(pod.metric("sidetrace_budget_lent_bytes{use=\"heads\"}") <= 16 * MIB);
        assert!(pod.metric("sidetrace_budget_refused_total{use=\"heads\"}") > 100);
        // 200 times 64 KiB, and a quarter of half the limit. Twice that while a buffer grows.
        bounded(&pod, warm, 60 * MIB, "200 heads of 500 kB that never end");
    });
    idle(&pod);
    assert_eq!(pod.metric("sidetrace_budget_lent_bytes{use=\"heads\"}"), 0);
    // What was refused before is held again.
    hostile(&pod, &["big_heads"]);
}

#[test]
fn who_does_not_read_is_waited_for_by_upstream_alone() {
    let pod = Pod::start();
    let _origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let warm = warm(&pod);
    let said = held(&pod, &["unread", "4", "/big"], || {
        bounded(&pod, warm, MIB + 4 * 64 * 1024, "four answers of 64 MiB that are hardly read");
        assert!(pod.metric("sidetrace_bytes_total{direction=\"received\"}") < 128 * MIB, "upstream is held up");
    });
    assert!(said.contains(&format!("\n{}", 4 * (64 * MIB + 45 - 201))), "all of it: {said}");
    idle(&pod);
    let said = held(&pod, &["unread", "4", "/slow"], || {
        bounded(&pod, warm, MIB + 4 * 2 * MIB, "four answers with heads of 1 MiB");
    });
    assert!(said.contains(&format!("\n{}", 4 * (MIB + 45 - 201))), "all of it: {said}");
}

#[test]
fn floods_of_frames_end_their_own_connection_or_are_answered() {
    let pod = Pod::start();
    let _origin = node(&pod);
    let good = good_call(&pod);
    let warm = rss(&pod);
    let mut failed = Vec::new();
    for (name, ends) in FLOODS {
        let said = h2(&pod, 8082, name);
        if !ends.iter().any(|end| said.contains(&format!("{name} {end}"))) {
            failed.push(format!("{said} instead of {ends:?}"));
        }
        assert_eq!(good_call(&pod), good, "after {name}");
        bounded(&pod, warm, 12 * MIB, name);
    }
    assert!(failed.is_empty(), "{failed:#?}");
    until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
}

/// How each may end. A reset may overtake a GOAWAY that nobody was reading for.
const FLOODS: &[(&str, &[&str])] = &[
    ("rapid_reset", &["goaway 11", "alive", "reset"]),
    ("continuation", &["goaway 11", "reset"]),
    ("large_continuation", &["goaway 11", "goaway 9", "reset"]),
    ("endless_string", &["goaway", "reset"]),
    ("settings_flood", &["goaway", "alive", "reset"]),
    ("ping", &["goaway 11", "alive", "reset"]),
    ("empty_data", &["goaway 11", "alive", "reset"]),
    ("large_list", &["alive"]),
    ("abusive_list", &["goaway 11", "reset"]),
    ("hpack", &["goaway 9", "goaway 1", "reset"]),
    ("window", &["goaway 3", "reset"]),
    ("stream_window", &["goaway 3", "alive", "reset"]),
    ("even_stream", &["goaway 1", "reset"]),
    ("too_large_frame", &["goaway 6", "reset"]),
    ("priority", &["alive", "goaway 11", "reset"]),
    ("unknown_frames", &["alive"]),
];

#[test]
fn windows_that_never_open_hold_a_window_each_and_nobody_else() {
    let pod = Pod::start();
    let _origin = node(&pod);
    let good = good_call(&pod);
    let warm = rss(&pod);
    let held = start_h2(&pod, 8082, "zero_window");
    held.wait_for("holding", 1);
    assert_eq!(good_call(&pod), good);
    bounded(&pod, warm, 10 * 256 * 1024 + 4 * MIB, "ten answers of 16 MiB without room");
    assert!(pod.metric("sidetrace_bytes_total{direction=\"received\"}") < 16 * MIB, "upstream is held up");
    held.signal(Signal::SIGUSR1);
    held.wait_for(&(16 * MIB).to_string(), 1);
}

#[test]
fn header_lists_for_an_upstream_that_takes_one_stream_at_a_time_take_bounded_memory() {
    let pod = Pod::start_with(&[("SIDETRACE_MEMORY_LIMIT", "64M")]);
    let _origin = pod.origin_at("hostile_origin.py", &["8090"]);
    let warm = warm(&pod);
    for name in ["header_bomb", "small_header_bomb"] {
        let said = h2(&pod, 8090, name);
        assert!(said.contains("alive"), "{said}");
        hostile(&pod, &["aborted", "1"]);
        if name == "header_bomb" {
            bounded(&pod, warm, 24 * MIB, name);
        } else {
            // A known gap, so no bound is asserted: h2 decodes all streams that it has read, up to the limit of their number,
            // before it hands over the first one. The budget sees a list only then. 15 to 61 MiB were seen here.
            println!("{name}: {} KiB", rss(&pod) / 1024);
        }
    }
    until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
    assert_eq!(pod.metric("sidetrace_budget_lent_bytes{use=\"heads\"}"), 0);
}

fn client(script: &str, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/it/clients").join(script)).args([WORLD_V4, &port.to_string()]).args(arguments);
    command
}

fn hostile(pod: &Pod, arguments: &[&str]) -> String {
    String::from_utf8(pod.run(client("hostile.py", 8090, arguments)).stdout).unwrap()
}

/// Looks while the client holds its connections; what it said in the end.
fn held(pod: &Pod, arguments: &[&str], look: impl FnOnce()) -> String {
    let mut process = Process::start("hostile.py", &pod.agent, client("hostile.py", 8090, arguments));
    process.wait_for("holding", 1);
    look();
    process.signal(Signal::SIGUSR1);
    assert!(process.wait().success(), "{}", process.said());
    process.said()
}

fn h2(pod: &Pod, port: u16, scenario: &str) -> String {
    String::from_utf8(pod.run(client("hostile_h2.py", port, &[scenario])).stdout).unwrap()
}

fn start_h2(pod: &Pod, port: u16, scenario: &str) -> Process {
    Process::start(scenario, &pod.agent, client("hostile_h2.py", port, &[scenario]))
}

fn node(pod: &Pod) -> Process {
    let mut command = Command::new("node");
    command.arg(root().join("tests/it/origin_h2.mjs")).arg("8082");
    let origin = Process::start("origin_h2", &pod.world, command);
    origin.wait_for("listening", 1);
    origin
}

/// What an ordinary client sees.
fn good_call(pod: &Pod) -> String {
    let mut command = Command::new("node");
    command.arg(root().join("tests/it/clients/h2.mjs")).arg(format!("{WORLD_V4}:8082")).arg("host");
    String::from_utf8(pod.run(command).stdout).unwrap()
}

/// Memory once the program has served some of everything.
fn warm(pod: &Pod) -> u64 {
    hostile(pod, &["late_heads", "100"]);
    hostile(pod, &["aborted", "200"]);
    idle(pod);
    rss(pod)
}

pub(super) fn idle(pod: &Pod) {
    until("all connections are closed", || pod.metric("sidetrace_connections_open") == 0);
}

pub(super) fn bounded(pod: &Pod, warm: u64, growth: u64, what: &str) {
    let now = rss(pod);
    println!("{what}: {} KiB over {} KiB", now.saturating_sub(warm) / 1024, warm / 1024);
    assert!(now <= warm + growth, "{what}: {now} bytes, {warm} before");
}

pub(super) fn rss(pod: &Pod) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pod.sidecar_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

pub(super) const MIB: u64 = 1024 * 1024;

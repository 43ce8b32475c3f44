//! HTTP/2 by prior knowledge: streams end as they would without us, and one does not hold up another.

use std::process::Command;

use super::support::{Pod, Process, WORLD_V4, integer, python, root, text};

#[test]
fn answers_trailers_and_resets_arrive_with_their_codes() {
    let mut pod = Pod::start();
    let _origin = origin(&pod);
    let said = same(&pod, "calls");
    assert!(said.contains("trailers too") && said.contains("7 , closed 7"), "{said}");
    let spans = pod.finish();
    let ends: Vec<_> = spans.iter().map(|span| (text(span, "error.type"), text(span, "sidetrace.end"))).collect();
    assert_eq!(ends[0], ("", ""));
    assert_eq!(integer(&spans[0], "http.response.status_code"), Some(200));
    assert_eq!(text(&spans[0], "network.protocol.version"), "2");
    let resets = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "ENHANCE_YOUR_CALM",
        "HTTP_1_1_REQUIRED",
    ];
    assert_eq!(ends[1..], resets.map(|reset| (reset, "broken")));
}

#[test]
fn a_request_with_host_instead_of_authority_is_answered() {
    let mut pod = Pod::start();
    let _origin = origin(&pod);
    let said = same(&pod, "host");
    assert!(said.contains("only.example"), "{said}");
    assert_eq!(text(&pod.finish()[0], "server.address"), "only.example");
}

#[test]
fn answers_that_nobody_reads_hold_up_no_other() {
    let pod = Pod::start();
    let _origin = origin(&pod);
    same(&pod, "unread");
}

#[test]
fn a_cancelled_stream_is_cancelled_upstream() {
    let mut pod = Pod::start();
    let origin = origin(&pod);
    same(&pod, "cancel");
    let closed = origin.wait_for("\"closed\":8", 2);
    assert_eq!(closed.len(), 2, "{closed:?}");
    let spans = pod.finish();
    assert_eq!((text(&spans[0], "sidetrace.end"), text(&spans[0], "error.type")), ("cancelled", ""));
}

#[test]
fn a_goaway_of_upstream_reaches_the_client_while_a_stream_is_open() {
    let pod = Pod::start();
    let _origin = origin(&pod);
    assert!(same(&pod, "goaway").contains("goaway 0"));
}

#[test]
fn a_request_that_a_goaway_leaves_out_is_refused_and_may_be_sent_again() {
    let pod = Pod::start();
    let _origin = origin(&pod);
    assert!(same(&pod, "refused").contains("closed 7"), "REFUSED_STREAM");
}

#[test]
fn a_grpc_server_that_ages_its_connections_fails_no_call() {
    let pod = Pod::start();
    let _origin = pod.origin("grpc", &["8081", "300"]);
    for netns in [&pod.bare, &pod.agent] {
        let mut command = Command::new(python());
        command.arg(root().join("tests/it/clients/grpc_long.py")).arg(format!("{WORLD_V4}:8081"));
        let output = netns.output(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("0 failed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn origin(pod: &Pod) -> Process {
    let mut command = Command::new("node");
    command.arg(root().join("tests/it/origin_h2.mjs")).arg("8082");
    let origin = Process::start("origin_h2", &pod.world, command);
    origin.wait_for("listening", 1);
    origin
}

/// What the client sees, which must be the same with and without us.
fn same(pod: &Pod, scenario: &str) -> String {
    let client = || {
        let mut command = Command::new("node");
        command.arg(root().join("tests/it/clients/h2.mjs")).arg(format!("{WORLD_V4}:8082")).arg(scenario);
        command
    };
    let [bare, ours] =
        [pod.run_bare(client()), pod.run(client())].map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(bare, ours);
    ours
}

//! How pods end, and how agents end and begin again.

use std::io::Write;
use std::net::TcpStream;

use super::deployed::Deployed;
use super::images;
use super::manifest::Manifest;
use super::world::{Family, World};
use crate::it::support::text;

#[test]
fn a_pod_that_is_deleted_loses_no_span() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("python"));
    pod.wait_for_line("agent", "serving");
    for _ in 0..20 {
        pod.ask("/chat");
    }
    pod.delete();
    // One when it began, one in its own handler of SIGTERM.
    let responses = pod.responses();
    assert_eq!(responses.len(), 22, "{:?}", pod.said("agent"));
    world.wait_for_responses(&responses);
}

#[test]
fn a_job_completes_and_the_sidecar_ends_behind_it() {
    images::node();
    for overlay in ["job", "node-job"] {
        let world = World::new(Family::V4);
        let mut pod = Deployed::start(&world, &Manifest::of(overlay));
        pod.wait_for_end(0);
        pod.assert_order(&[
            "startup sidetrace",
            "started agent",
            "exited agent",
            "stopping sidetrace",
            "exited sidetrace",
        ]);
        all_that_a_job_calls(&world, &pod);
    }
}

#[test]
fn a_job_that_fails_fails_and_is_traced() {
    let world = World::new(Family::V4);
    let gone = "containers: [{name: agent, args: [chat, stream, nothing]}]";
    let mut pod = Deployed::start(&world, &Manifest::of("job").with(gone));
    pod.wait_for_end(1);
    assert_eq!(pod.wait_for("exited", "agent")["code"], 1);
    world.wait_for_responses(&pod.responses());
}

#[test]
fn an_agent_that_crashes_and_is_restarted_is_traced_in_both_lives() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("python"));
    pod.wait_for_line("agent", "serving");
    // It ends without an answer.
    TcpStream::connect((pod.addresses()[0], 8080)).unwrap().write_all(b"GET /crash HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(pod.wait_for("exited", "agent")["code"], 3);
    pod.wait_for("restarted", "agent");
    pod.wait_for_lines("agent", "serving", 2);
    pod.ask("/tool");
    pod.delete();
    assert_eq!(pod.responses().len(), 3);
    world.wait_for_responses(&pod.responses());
    world.wait_for_span("tools/call add");
    let sidecars =
        pod.events().into_iter().filter(|event| event == "started sidetrace" || event == "restarted sidetrace");
    assert_eq!(sidecars.count(), 1, "the sidecar went on");
}

/// A Job makes each call once.
pub(crate) fn all_that_a_job_calls(world: &World, pod: &Deployed) {
    let said = pod.said("agent");
    assert_eq!(said.iter().filter(|line| line.starts_with("did ")).count(), 5, "{said:?}");
    world.wait_for_responses(&pod.responses());
    world.wait_for_span("tools/call add");
    let gets = world.wait_for_spans("GET", 2);
    for path in ["/forecast", "/status"] {
        assert_eq!(gets.iter().filter(|span| text(span, "url.full").ends_with(path)).count(), 1, "{gets:#?}");
    }
}

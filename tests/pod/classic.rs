//! Clusters without native sidecars: the sidecar is the first of the ordinary containers.

use super::deployed::Deployed;
use super::ends::all_that_a_job_calls;
use super::manifest::Manifest;
use super::world::{Family, World};

#[test]
fn an_ordinary_container_is_ready_before_the_agent_begins_and_outlives_it() {
    let world = World::new(Family::V4);
    // Long enough for the agent's last call; the overlay's own would only make the test longer.
    let delay = "containers: [{name: sidetrace, env: [{name: SIDETRACE_TERMINATION_DELAY, value: '4'}]}]";
    let mut pod = Deployed::start(&world, &Manifest::of("classic").with(delay));
    pod.wait_for_line("agent", "serving");
    for _ in 0..5 {
        pod.ask("/chat");
    }
    pod.delete();
    // All are told at once; the agent's last call is served and told of all the same.
    pod.assert_order(&["started sidetrace", "post_start sidetrace", "started agent"]);
    pod.assert_order(&["stopping sidetrace", "exited agent", "exited sidetrace"]);
    let responses = pod.responses();
    assert_eq!(responses.len(), 7, "{:?}", pod.said("agent"));
    world.wait_for_responses(&responses);
}

#[test]
fn a_job_says_itself_that_it_has_ended() {
    let world = World::new(Family::V4);
    let mut pod = Deployed::start(&world, &Manifest::of("classic-job"));
    pod.wait_for_end(0);
    pod.assert_order(&["post_start sidetrace", "started agent"]);
    assert_eq!(pod.wait_for("exited", "sidetrace")["code"], 0, "nobody had to stop it");
    assert!(!pod.events().iter().any(|event| event.starts_with("stopping")), "{:?}", pod.events());
    all_that_a_job_calls(&world, &pod);
}

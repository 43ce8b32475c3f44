//! As whom agents run.

use super::deployed::Deployed;
use super::ends::all_that_a_job_calls;
use super::manifest::Manifest;
use super::world::{Family, World};

#[test]
fn agents_are_traced_whoever_they_run_as() {
    for (user, home) in [(0, "/root"), (10001, "/tmp"), (65534, "/")] {
        let world = World::new(Family::V4);
        let context = format!(
            "containers: [{{name: agent, securityContext: {{runAsUser: {user}, runAsGroup: {user}}}, env: [{{name: HOME, value: {home}}}]}}]"
        );
        let mut pod = Deployed::start(&world, &Manifest::of("job").with(&context));
        pod.wait_for_end(0);
        all_that_a_job_calls(&world, &pod);
    }
}

#[test]
fn an_agent_needs_to_write_nowhere() {
    let world = World::new(Family::V4);
    let context = "containers: [{name: agent, securityContext: {readOnlyRootFilesystem: true, runAsUser: 10001, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}}]";
    let mut pod = Deployed::start(&world, &Manifest::of("job").with(context));
    pod.wait_for_end(0);
    all_that_a_job_calls(&world, &pod);
}

//! As whom agents run.

use super::deployed::{Deployed, ask};
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

#[test]
fn an_agent_that_runs_as_the_sidecars_user_works_unseen_and_the_sidecar_says_so() {
    let world = World::new(Family::V4);
    let context = "containers: [{name: agent, securityContext: {runAsUser: 15100, runAsGroup: 15100}}]";
    let mut pod = Deployed::start(&world, &Manifest::of("python").with(context));
    pod.wait_for_line("agent", "serving");
    for call in ["chat", "stream", "fetch", "plain", "tool"] {
        let said = pod.ask(&format!("/{call}"));
        assert!(said.starts_with(&format!("200 did {call} ")), "{said}");
    }
    let warning = pod.wait_for_line("sidetrace", "sidecar's own user");
    assert!(warning.contains("uid=15100"), "{warning}");
    let metrics = ask((pod.addresses()[0], 15120), "/metrics", "");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("sidetrace_unseen_sockets ") > 0.0, "{metrics}");
    pod.delete();
    assert!(world.spans().is_empty(), "{:#?}", world.spans());
}

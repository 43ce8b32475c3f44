//! What `deploy/` has for one machine, systemd units and a Compose file: agents are told of exactly the files of trust that
//! there are, and the parts agree on users and paths. That systemd and Docker understand them, other places say:
//! `.ci/verify-units`, `tests/pod/compose.sh`.

use std::collections::BTreeSet;
use std::path::Path;

use sidetrace::trust;

use super::support::root;

const TRUST: &str = "/run/sidetrace/trust";

#[test]
fn agents_are_given_the_variables_of_trust_and_no_others() {
    let expected: BTreeSet<(String, String)> =
        trust::variables(Path::new(TRUST)).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();

    let drop_in = file("deploy/systemd/agent.service.d/sidetrace.conf");
    let given = drop_in.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    assert_eq!(owned(given), expected, "the agents' drop-in");

    let agent = compose_service("agent");
    let given =
        agent.lines().filter_map(|line| line.trim().split_once(": ")).filter(|(_, value)| value.contains(TRUST));
    assert_eq!(owned(given), expected, "the agent of compose.yaml");
}

#[test]
fn the_sidecar_writes_where_agents_read_and_runs_as_whom_the_redirect_exempts() {
    let unit = file("deploy/systemd/sidetrace.service");
    for line in ["User=sidetrace", "Environment=SIDETRACE_TRUST_DIR=/run/sidetrace/trust", "RuntimeDirectory=sidetrace"]
    {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let users = file("deploy/systemd/sidetrace.sysusers.conf");
    assert!(users.contains("u sidetrace 15100:15100 "), "{users}");

    let sidecar = compose_service("sidetrace");
    for line in ["user: \"15100:15100\"", "SIDETRACE_TRUST_DIR: /run/sidetrace/trust", "- trust:/run/sidetrace/trust"] {
        assert!(sidecar.lines().any(|found| found.trim() == line), "{line}");
    }
    // The key is the sidecar's; the other container that holds the volume is another user, and cannot read it.
    let compose = file("deploy/compose.yaml");
    assert_eq!(compose.matches("ca:/run/sidetrace-ca").count(), 2);
    assert!(
        compose_service("pod").contains("user: \"65534:65534\"") && compose.contains("uid=15100,gid=15100,mode=0700")
    );
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeSet<(String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The lines of one service in the Compose file.
fn compose_service(name: &str) -> String {
    let text = file("deploy/compose.yaml");
    let mut lines = text.lines().skip_while(|line| *line != format!("  {name}:"));
    assert!(lines.next().is_some(), "{name}");
    lines.take_while(|line| line.starts_with("    ")).collect::<Vec<_>>().join("\n")
}

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

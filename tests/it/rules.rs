//! The rules file: at the start a bad one stops the program, later it is refused and the old one stays.

use std::process::{Command, Output};

use nix::sys::signal::Signal;

use super::support::{Netns, Process, RulesFile, binary, until};

#[test]
fn a_bad_rules_file_stops_the_start_with_every_problem() {
    let file = RulesFile::new("bad", "record:\n  - hots: a\n    action: drop\nheaders: {request: [Authorization]}\n");
    for argument in ["proxy", "config", "check"] {
        let mut command = sidetrace(argument, &file);
        command.env("SIDETRACE_OUTBOUND_PORT", "none");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in [
            "4 problem(s)",
            "SIDETRACE_OUTBOUND_PORT",
            "record[0].hots (line 2): unknown key; did you mean host?",
            "record[0].action (line 3): \"drop\" is not record, count or ignore",
            "headers.request[0] (line 4): \"Authorization\" carries credentials",
        ] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
    }
    std::fs::remove_file(file.path()).unwrap();
    let output = sidetrace("proxy", &file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("cannot be read"), "{said}");
}

#[test]
fn config_prints_the_rules_in_force() {
    let file = RulesFile::new(
        "printed",
        "record:\n  - {host: \"*.example.com\", port: 80-90, action: ignore}\ncontext: link\n\
         tls: {client_certificates: [{host: a.example, certificate: /c.pem, key: /c.key}]}\n",
    );
    let Output { stdout, status, .. } = sidetrace("config", &file).output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{said}");
    let path = file.path().display().to_string();
    for (name, source, value) in [
        ("SIDETRACE_CONFIG", "environment", path.as_str()),
        ("record[0]", "file", "host=*.example.com port=80-90 -> ignore"),
        ("record", "default", "everything else -> record"),
        ("context", "file", "link"),
        ("tls.intercept", "default", "everything else -> SIDETRACE_INTERCEPT"),
        ("tls.client_certificates[0]", "file", "host=a.example -> certificate=/c.pem key=/c.key"),
        ("SIDETRACE_INTERCEPT", "default", "false"),
    ] {
        let found = said.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next() == Some(source) && line.ends_with(value)
        });
        assert!(found, "{name} {source} {value} in\n{said}");
    }
}

#[test]
fn a_reload_applies_a_good_file_and_refuses_a_bad_one() {
    let file = RulesFile::new("reloaded", "query: [page]\n");
    let netns = Netns::new();
    let mut sidecar = Process::start("sidetrace", &netns, sidetrace("proxy", &file));
    sidecar.wait_for("ready", 1);
    let reloads = || {
        let text = netns.sh_ok("curl -sf http://127.0.0.1:15120/metrics");
        ["applied", "refused", "unchanged"].map(|outcome| {
            let name = format!("sidetrace_config_reloads_total{{outcome=\"{outcome}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse::<u64>().unwrap()
        })
    };
    assert_eq!(reloads(), [0, 0, 0]);

    sidecar.signal(Signal::SIGHUP);
    until("an unchanged file is counted", || reloads() == [0, 0, 1]);
    file.write("query: [page, limit]\n");
    sidecar.signal(Signal::SIGHUP);
    until("a good file is applied", || reloads() == [1, 0, 1]);
    file.write("query: [page, token]\ncontext: x\n");
    sidecar.signal(Signal::SIGHUP);
    until("a bad file is refused", || reloads() == [1, 1, 1]);
    sidecar.wait_for("query[1] (line 1): \"token\" may carry a credential", 1);
    sidecar.wait_for("context (line 2): \"x\" is not continue, link or ignore", 1);
    // The old one has stayed: it is what the file is compared with.
    file.write("query: [page, limit]\n");
    sidecar.signal(Signal::SIGHUP);
    until("the old rules are still in force", || reloads() == [1, 1, 2]);

    // Without being told: by a rename, in place, and by its end.
    file.write("query: [page]\n");
    until("a new file is noticed", || reloads() == [2, 1, 2]);
    std::fs::write(file.path(), "query: [page").unwrap();
    until("a change in place is noticed", || reloads() == [2, 2, 2]);
    std::fs::remove_file(file.path()).unwrap();
    until("its end is noticed", || reloads() == [2, 3, 2]);
    sidecar.wait_for("cannot be read", 1);
    let (status, said) = sidecar.terminate();
    assert!(status.success(), "{said}");
}

#[test]
fn a_rule_that_asks_for_interception_after_a_start_without_is_said_to_need_a_restart() {
    let file = RulesFile::new("late", "tls: {intercept: [{host: api.example, intercept: false}]}\n");
    let netns = Netns::new();
    let mut sidecar = Process::start("sidetrace", &netns, sidetrace("proxy", &file));
    sidecar.wait_for("ready", 1);
    file.write("tls: {intercept: [{host: api.example, intercept: true}]}\n");
    sidecar.signal(Signal::SIGHUP);
    sidecar.wait_for("a rule asks for interception, and nothing did at the start", 1);
    let (status, said) = sidecar.terminate();
    assert!(status.success(), "{said}");
}

#[test]
fn sighup_without_a_rules_file_ends_nothing() {
    let netns = Netns::new();
    let mut command = Command::new(binary());
    command.arg("proxy").env_clear();
    let mut sidecar = Process::start("sidetrace", &netns, command);
    sidecar.wait_for("ready", 1);
    sidecar.signal(Signal::SIGHUP);
    sidecar.wait_for("names no file", 1);
    let (status, said) = sidecar.terminate();
    assert!(status.success(), "{said}");
}

fn sidetrace(argument: &str, file: &RulesFile) -> Command {
    let mut command = Command::new(binary());
    command.arg(argument).env_clear().env("SIDETRACE_CONFIG", file.path());
    command
}

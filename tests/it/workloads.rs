//! Several containers in one pod: whose a call is, by the user that makes it and by the port that it comes for.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::support::{AGENT_V4, AGENT_V6, Pod, RulesFile, WORLD_V4, WORLD_V6, full_uid_map, text};

#[test]
fn calls_of_two_users_and_to_two_ports_have_a_resource_each() {
    let [planner, writer, stranger] = users();
    let rules = RulesFile::new(
        "workloads",
        &format!(
            "workloads:
             - {{uid: {planner}, port: 8081, name: planner, container: planner, resource: {{team: plans}}}}
             - {{uid: {writer}, port: 8090-8099, name: writer}}\n"
        ),
    );
    let mut pod = Pod::without_sidecar(&[
        ("SIDETRACE_CONFIG", rules.name()),
        ("SIDETRACE_POD_NAME", "pod-1"),
        ("SIDETRACE_POD_NAMESPACE", "prod"),
        ("SIDETRACE_CONTAINER_NAME", "first"),
    ]);
    pod.redirect(&["-b", "*"]);
    pod.start_sidecar();
    let _world = pod.origin("http", &["8080"]);
    let _apps = [pod.app("http", &["8081"]), pod.app("http", &["8092"]), pod.app("http", &["8200"])];
    let hosts = [WORLD_V4.to_owned(), format!("[{WORLD_V6}]")];
    for host in &hosts {
        call_as(&pod, planner, &format!("http://{host}:8080/plain?planner=1"));
        call_as(&pod, writer, &format!("http://{host}:8080/plain?writer=1"));
    }
    if full_uid_map() {
        call_as(&pod, stranger, &format!("http://{WORLD_V4}:8080/plain?pod=1"));
    }
    for (port, whose) in [(8081, "planner"), (8092, "writer"), (8200, "pod")] {
        for host in [AGENT_V4.to_owned(), format!("[{AGENT_V6}]")] {
            pod.world.sh_ok(&format!("curl -gsSf -o /dev/null 'http://{host}:{port}/plain?{whose}=1'"));
        }
    }
    let spans = finish(&mut pod);
    let mut seen = BTreeMap::new();
    for (resource, span) in &spans {
        let url = format!("{}{}", text(span, "url.full"), text(span, "url.query"));
        // Query values are hidden, names are not.
        let whose = ["planner", "writer", "pod"].into_iter().find(|whose| url.contains(whose)).unwrap();
        let expected = match whose {
            "planner" => "planner planner prod.pod-1.planner plans",
            "writer" => "writer - prod.pod-1.first.writer -",
            _ => "agent-under-test first prod.pod-1.first -",
        };
        assert_eq!(shown(resource), expected, "{url}");
        assert_eq!(resource["k8s.pod.name"], "pod-1");
        *seen.entry(whose).or_insert(0) += 1;
    }
    let expected = if full_uid_map() { [("planner", 4), ("pod", 3), ("writer", 4)] } else { one_user() };
    assert_eq!(seen, BTreeMap::from(expected));
}

#[test]
fn a_connection_that_is_not_read_is_its_users_too_and_other_rules_hold_for_the_next_one() {
    let [planner, ..] = users();
    let rules = RulesFile::new("workloads-reload", "");
    let mut pod = Pod::start_with(&[("SIDETRACE_CONFIG", rules.name())]);
    let _greeter = pod.origin("greet", &["8025"]);
    let greeted = |pod: &Pod| {
        let mut client = Command::new("curl");
        client.args(["-s", "--max-time", "0.2", &format!("telnet://{WORLD_V4}:8025")]);
        as_user(&mut client, planner);
        pod.agent.output(client);
    };
    greeted(&pod);
    pod.collector.wait_for_spans(1);
    assert_eq!(pod.metric("sidetrace_owner_lookups_total{outcome=\"found\"}"), 0, "nobody wants to know");
    pod.reload(&rules, &format!("workloads: [{{uid: {planner}, name: planner}}]\n"));
    greeted(&pod);
    pod.collector.wait_for_spans(2);
    assert_eq!(pod.metric("sidetrace_owner_lookups_total{outcome=\"found\"}"), 1);
    let names: Vec<String> =
        finish(&mut pod).into_iter().map(|(mut resource, _)| resource.remove("service.name").unwrap()).collect();
    assert_eq!(names, ["agent-under-test", "planner"]);
}

/// Three users; where there is one, all calls are its own.
fn users() -> [u32; 3] {
    if full_uid_map() { [10001, 10002, 10003] } else { [0, 10002, 10003] }
}

/// In a namespace of one user all outbound calls are the planner's, whatever they say of themselves: only those are made.
fn one_user() -> [(&'static str, i32); 3] {
    [("planner", 4), ("pod", 2), ("writer", 2)]
}

fn as_user(command: &mut Command, uid: u32) {
    if full_uid_map() {
        command.uid(uid).gid(uid);
    }
}

fn call_as(pod: &Pod, uid: u32, url: &str) {
    if !full_uid_map() && uid != 0 {
        return;
    }
    let mut client = Command::new("curl");
    client.args(["-gsSf", "-o", "/dev/null", url]);
    as_user(&mut client, uid);
    pod.run(client);
}

/// Spans, each with its resource's attributes.
fn finish(pod: &mut Pod) -> Vec<(BTreeMap<String, String>, Span)> {
    pod.finish();
    let text = |value: Option<Any>| if let Some(Any::StringValue(text)) = value { text } else { String::new() };
    let attributes = |resource: Resource| {
        let all = resource.attributes.into_iter();
        all.map(|found| (found.key, text(found.value.and_then(|value| value.value)))).collect()
    };
    pod.collector.resourced_spans().into_iter().map(|(resource, span)| (attributes(resource), span)).collect()
}

fn shown(resource: &BTreeMap<String, String>) -> String {
    let names = ["service.name", "k8s.container.name", "service.instance.id", "team"];
    names.map(|name| resource.get(name).map_or("-", String::as_str)).join(" ")
}

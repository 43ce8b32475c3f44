//! Beside a mesh's sidecar: a stand-in for its proxy, behind rules like those of Istio's and Linkerd's init containers, in
//! both orders of laying. Calls go agent -> Sidetrace -> the mesh -> the origin; inbound the mesh keeps what it takes.

use std::process::Command;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::support::{AGENT_V4, Pod, Process, WORLD_V4, full_uid_map, hex, integer, python, root, text};

struct Mesh {
    name: &'static str,
    uid: u32,
    outbound: &'static str,
    inbound: &'static str,
    /// Where its inbound connections to the app come from, if not from the pod's own address.
    source: Option<&'static str>,
    /// What its init container lays, IPv4, for iptables-restore.
    rules: &'static str,
}

const MESHES: [Mesh; 2] = [
    Mesh {
        name: "Istio",
        uid: 1337,
        outbound: "15001",
        inbound: "15006",
        source: Some("127.0.0.6"),
        rules: "*nat\n\
            :ISTIO_INBOUND - [0:0]\n:ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_REDIRECT - [0:0]\n\
            -A PREROUTING -p tcp -j ISTIO_INBOUND\n\
            -A OUTPUT -p tcp -j ISTIO_OUTPUT\n\
            -A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN\n\
            -A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN\n\
            -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n\
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006\n\
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n\
            -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN\n\
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT\n\
            -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN\n\
            -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN\n\
            -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n\
            -A ISTIO_OUTPUT -j ISTIO_REDIRECT\n\
            COMMIT\n",
    },
    Mesh {
        name: "Linkerd",
        uid: 2102,
        outbound: "4140",
        inbound: "4143",
        source: None,
        rules: "*nat\n\
            :PROXY_INIT_REDIRECT - [0:0]\n:PROXY_INIT_OUTPUT - [0:0]\n\
            -A PREROUTING -j PROXY_INIT_REDIRECT\n\
            -A OUTPUT -j PROXY_INIT_OUTPUT\n\
            -A PROXY_INIT_REDIRECT -p tcp -m multiport --dports 4190,4191 -j RETURN\n\
            -A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143\n\
            -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN\n\
            -A PROXY_INIT_OUTPUT -o lo -j RETURN\n\
            -A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140\n\
            COMMIT\n",
    },
];

#[test]
fn a_call_goes_through_us_and_then_through_the_mesh_whoever_laid_rules_first() {
    if !owners_can_be_matched() {
        return;
    }
    for mesh in &MESHES {
        for mesh_first in [true, false] {
            let mut pod = Pod::without_sidecar(&[]);
            let origin = pod.origin("http", &["8080"]);
            let proxy = mesh.start(&pod);
            mesh.lay(&pod, mesh_first, &[]);
            pod.start_sidecar();
            for path in ["/plain", "/large"] {
                pod.agent.sh_ok(&format!("curl -sSf -o /dev/null http://{WORLD_V4}:8080{path}"));
            }

            let spans = pod.finish();
            let calls = origin.into_calls();
            let who = format!("{}, mesh first: {mesh_first}", mesh.name);
            assert_eq!((spans.len(), calls.len()), (2, 2), "{who}: {spans:#?}");
            for (span, call) in spans.iter().zip(&calls) {
                assert_eq!((span.kind(), integer(span, "server.port")), (SpanKind::Client, Some(8080)), "{who}");
                assert_eq!(text(span, "server.address"), WORLD_V4, "{who}");
                let sent = call["call"]["traceparent"][0].as_str().unwrap_or_default();
                assert!(sent.contains(&hex(&span.trace_id)) && sent.contains(&hex(&span.span_id)), "{who}: {sent}");
            }
            // Both clients' connections, and ours to the collector, went through the mesh: it loses nothing of what it had.
            let passed = |to: &str| said(&proxy, "outbound", to);
            assert_eq!(passed(&format!("{WORLD_V4}:8080")), 2, "{who}: {}", proxy.said());
            assert!(passed(&format!("{WORLD_V4}:4317")) > 0, "{who}: {}", proxy.said());
        }
    }
}

#[test]
fn what_the_mesh_takes_inbound_reaches_the_app_and_is_not_seen_by_us() {
    if !owners_can_be_matched() {
        return;
    }
    for mesh in &MESHES {
        // The order that deploy/README.md asks for, and ours first with another run behind the mesh's, which mends it.
        for mesh_first in [true, false] {
            let mut pod = Pod::without_sidecar(&[]);
            let app = pod.app("http", &["8000"]);
            let proxy = mesh.start(&pod);
            mesh.lay(&pod, mesh_first, &["--inbound-ports", "*"]);
            if !mesh_first {
                pod.redirect(&["--inbound-ports", "*"]);
            }
            pod.start_sidecar();
            pod.bare.sh_ok(&format!("curl -sSf http://{AGENT_V4}:8000/plain"));

            let who = format!("{}, mesh first: {mesh_first}", mesh.name);
            let spans = pod.finish();
            assert!(spans.is_empty(), "{who}: {spans:#?}");
            assert_eq!(app.into_calls().len(), 1, "{who}");
            assert_eq!(said(&proxy, "inbound", &format!("{AGENT_V4}:8000")), 1, "{who}: {}", proxy.said());
        }
    }
}

#[test]
fn inbound_rules_laid_before_the_meshs_take_calls_from_it() {
    if !owners_can_be_matched() {
        return;
    }
    // Why the order matters: with mutual TLS we would hand the app ciphertext here.
    for mesh in &MESHES {
        let mut pod = Pod::without_sidecar(&[]);
        let app = pod.app("http", &["8000"]);
        let proxy = mesh.start(&pod);
        mesh.lay(&pod, false, &["--inbound-ports", "*"]);
        pod.start_sidecar();
        pod.bare.sh_ok(&format!("curl -sSf http://{AGENT_V4}:8000/plain"));

        let spans = pod.finish();
        assert_eq!(spans.len(), 1, "{}: {spans:#?}", mesh.name);
        assert_eq!(spans[0].kind(), SpanKind::Server, "{}", mesh.name);
        assert_eq!(app.into_calls().len(), 1, "{}", mesh.name);
        assert_eq!(said(&proxy, "inbound", ""), 0, "{}: {}", mesh.name, proxy.said());
    }
}

impl Mesh {
    /// Its proxy.
    fn start(&self, pod: &Pod) -> Process {
        let mut command = Command::new(python());
        command.arg(root().join("tests/it/mesh.py")).arg(self.uid.to_string());
        command.args([self.outbound, self.inbound]).args(self.source);
        let process = Process::start(self.name, &pod.agent, command);
        process.wait_for("listening", 1);
        process
    }

    /// Its rules and ours, in one order or the other.
    fn lay(&self, pod: &Pod, mesh_first: bool, ours: &[&str]) {
        if !mesh_first {
            pod.redirect(ours);
        }
        pod.agent.sh_ok(&format!("PATH=$PATH:/usr/sbin:/sbin iptables-restore --noflush <<'END'\n{}END\n", self.rules));
        if mesh_first {
            pod.redirect(ours);
        }
    }
}

/// How many connections the mesh's proxy passed on.
fn said(proxy: &Process, direction: &str, to: &str) -> usize {
    let lines = proxy.said();
    let wanted = format!("{{\"mesh\": \"{direction}\", \"to\": \"{to}");
    lines.lines().filter(|line| line.starts_with(&wanted)).count()
}

/// A mesh's rules exempt its proxy by uid, ours both by uid; where ids are not mapped neither can be laid, which init.sh says.
fn owners_can_be_matched() -> bool {
    if full_uid_map() {
        return true;
    }
    let pod = Pod::without_sidecar(&[]);
    let mut init = Command::new("sh");
    init.arg(root().join("iptables/init.sh"));
    let output = pod.agent.output(init);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the owner match for uid 15100 here"), "{said}");
    false
}

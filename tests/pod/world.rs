//! What is outside of the pod: an internal network with names, servers behind the names that agents know, a collector.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use opentelemetry_proto::tonic::trace::v1::Span;

use super::images::{podman, podman_ok, python};
use crate::it::support::{Collector, Internet, LEAF, Netns, Process, root, text, until};

/// Gone with everything in it when its handle is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: String,
    /// The network's own servers say what reached them.
    pub(crate) weather: Process,
    pub(crate) internet: Internet,
    pub(crate) collector: Collector,
    servers: Vec<Process>,
    _cleanup: Cleanup,
}

/// Which addresses the network has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Family {
    V4,
    Both,
}

impl World {
    pub(crate) fn new(family: Family) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let internet = Internet::new(&format!("pod-{name}"));
        for host in ["api.openai.com", "api.weather.example"] {
            internet.sh(&format!(
                "{LEAF}; leaf '{host}' root 'subjectAltName=DNS:{host}'; cat '{host}.key' '{host}.crt' > '{host}.pem'"
            ));
        }
        internet.sh(AUTHORITY);
        let mut create = vec!["network", "create", "--internal", &name];
        if family == Family::Both {
            create.insert(2, "--ipv6");
        }
        podman_ok(&create);
        let cleanup = Cleanup(name.clone());
        let serve = |server: &str, aliases: &[&str], words: &[&str]| {
            let process = Process::start(server, &Netns::here(), container(&name, server, aliases, &internet, words));
            process.wait_for("listening", 1);
            process
        };
        let words = ["0.0.0.0", "::"].map(|address| format!("api.openai.com={address}=443"));
        let openai = ["python3", "/tests/genai/providers.py", "/internet", &words[0], &words[1]];
        let servers = vec![
            serve("openai", &["api.openai.com"], &openai),
            serve("tools", &["tools.example"], &["python3", "/tests/genai/mcp_servers.py", "8000"]),
        ];
        let both = "for f in 'tls 443 /internet/api.weather.example.pem' 'http 80'; do python3 /tests/origin.py $f & done; wait";
        let weather = Process::start(
            "weather",
            &Netns::here(),
            container(&name, "weather", &["api.weather.example"], &internet, &["sh", "-c", both]),
        );
        weather.wait_for("listening", 2);
        // The bridge is there with the first container.
        let gateway = podman_ok(&["network", "inspect", "--format", "{{(index .Subnets 0).Gateway}}", &name]);
        let collector = Collector::behind(&Netns::here(), &gateway);
        let mut world = Self { name, weather, internet, collector, servers, _cleanup: cleanup };
        world.start_rotel();
        world
    }

    /// The sidecar's spans, in the order of the calls' starts.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.collector.spans()
    }

    /// Waits for a span with this name.
    pub(crate) fn wait_for_span(&self, name: &str) -> Span {
        self.wait_for_spans(name, 1).remove(0)
    }

    /// Waits for so many of them, in the order of their starts.
    pub(crate) fn wait_for_spans(&self, name: &str, count: usize) -> Vec<Span> {
        let mut found = Vec::new();
        until(&format!("{count} spans {name:?} have come"), || {
            found = self.spans().into_iter().filter(|span| span.name == name).collect();
            found.len() >= count
        });
        found
    }

    /// Waits until the spans of LLM calls have just these response ids, each once.
    pub(crate) fn wait_for_responses(&self, ids: &[String]) {
        let mut expected = ids.to_vec();
        expected.sort();
        until(&format!("there are spans of the answers {expected:?}, and no others"), || self.responses() == expected);
    }

    /// The answers of LLM calls that there are spans of, in their order; failed calls have none.
    pub(crate) fn responses(&self) -> Vec<String> {
        let spans = self.spans();
        let ids = spans.iter().map(|span| text(span, "gen_ai.response.id")).filter(|id| !id.is_empty());
        let mut ids: Vec<_> = ids.map(str::to_owned).collect();
        ids.sort();
        ids
    }

    fn start_rotel(&mut self) {
        let endpoint = self.collector.own_endpoint();
        let find = "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('rotel').origin).with_name('rotel-agent'))";
        let script = format!(
            "exec \"$(python3 -c \"{find}\")\" start --exporter otlp --otlp-exporter-protocol http --batch-timeout 100ms \
             --otlp-exporter-endpoint {endpoint} --otlp-grpc-endpoint [::]:4317 --otlp-http-endpoint [::]:4318"
        );
        let command = container(
            &self.name,
            "collector",
            &["otel-collector.observability.svc"],
            &self.internet,
            &["sh", "-c", &script],
        );
        self.servers.push(Process::start("collector", &Netns::here(), command));
        let known = format!("{{{{(index .NetworkSettings.Networks \"{}\").IPAddress}}}}", self.name);
        let name = format!("{}-collector", self.name);
        until("the collector listens", || {
            let output = podman(&["inspect", "--format", &known, &name]).output().unwrap();
            let address = String::from_utf8(output.stdout).unwrap();
            output.status.success() && TcpStream::connect(format!("{}:4318", address.trim())).is_ok()
        });
    }
}

/// What the company lets the pods of one namespace sign with, and nobody else trusts.
const AUTHORITY: &str = "
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=Authority of the company' -days 30 \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout authority.key -out authority.crt
";

/// Names of what these tests make begin so.
const PREFIX: &str = "sidetrace-test-";

fn container(network: &str, name: &str, aliases: &[&str], internet: &Internet, words: &[&str]) -> Command {
    let name = format!("{network}-{name}");
    let mut command = podman(&["run", "--rm", "--init", "--pull=never", "--network", network, "--name", &name]);
    for alias in aliases {
        command.args(["--network-alias", alias]);
    }
    command.args(["--volume", &format!("{}:/tests:ro", root().join("tests/it").display())]);
    command.args(["--volume", &format!("{}:/internet:ro", internet.folder().display())]);
    command.arg(python()).args(words);
    command
}

/// Removes the worlds of runs that were killed.
fn sweep() {
    let networks = podman_ok(&["network", "ls", "--format", "{{.Name}}"]);
    for name in networks.lines() {
        let run = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        if run.is_some_and(|(id, _)| !Path::new("/proc").join(id).exists()) {
            drop(Cleanup(name.to_owned()));
        }
    }
}

#[derive(Debug)]
struct Cleanup(String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let servers = ["openai", "tools", "weather", "collector"].map(|server| format!("{}-{server}", self.0));
        let mut words = vec!["rm", "--force", "--ignore", "--time", "0"];
        words.extend(servers.iter().map(String::as_str));
        let _ = podman(&words).output();
        let _ = podman(&["network", "rm", "--force", &self.0]).output();
    }
}

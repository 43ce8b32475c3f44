//! A pod made of namespaces: `agent` is redirected to a sidecar, `bare` is the same without us, `world` holds the origins
//! and the collector.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::{Collector, Internet, Netns, Process, RulesFile, full_uid_map, python, root, until};

/// Where the origins and the collector are.
pub(crate) const WORLD_V4: &str = "10.231.0.254";
pub(crate) const WORLD_V6: &str = "fd00:231::fe";
/// Where the pod is.
pub(crate) const AGENT_V4: &str = "10.231.0.1";
pub(crate) const AGENT_V6: &str = "fd00:231::1";
/// Where clients are that know nothing of us.
pub(crate) const BARE_V4: &str = "10.231.0.2";
pub(crate) const BARE_V6: &str = "fd00:231::2";
const SIDECAR_ID: u32 = 15100;
const COPY: &str = "sidetrace-copy-";

#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) agent: Netns,
    pub(crate) bare: Netns,
    pub(crate) world: Netns,
    pub(crate) collector: Collector,
    settings: BTreeMap<String, String>,
    sidecar: Option<Process>,
    /// In `bare`.
    second: Option<Process>,
}

impl Pod {
    /// Namespaces, redirect, collector and a sidecar that exports to it over gRPC.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with other settings for the sidecar.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut pod = Self::without_sidecar(settings);
        pod.redirect(&[]);
        pod.start_sidecar();
        pod
    }

    /// Neither redirect nor sidecar.
    pub(crate) fn without_sidecar(settings: &[(&str, &str)]) -> Self {
        let (agent, bare, world) = (Netns::new(), Netns::new(), Netns::new());
        world.sh_ok("ip link add bridge type bridge && ip link set bridge up");
        for (index, (netns, v4, v6)) in
            [(&agent, AGENT_V4, AGENT_V6), (&bare, BARE_V4, BARE_V6)].into_iter().enumerate()
        {
            world.join(&format!("veth{index}"), netns, "eth0");
            world.sh_ok(&format!("ip link set veth{index} master bridge && ip link set veth{index} up"));
            netns.sh_ok(&format!(
                "ip addr add {v4}/24 dev eth0 && ip addr add {v6}/64 dev eth0 nodad && ip link set eth0 up &&
                 ip route add default via {WORLD_V4} && ip -6 route add default via {WORLD_V6}"
            ));
        }
        world.sh_ok(&format!("ip addr add {WORLD_V4}/24 dev bridge && ip addr add {WORLD_V6}/64 dev bridge nodad"));
        let collector = Collector::start(&world, WORLD_V4);
        let mut all = BTreeMap::from([
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{WORLD_V4}:4317")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "grpc".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "50".to_owned()),
            ("OTEL_SERVICE_NAME".to_owned(), "agent-under-test".to_owned()),
            ("SIDETRACE_LOG".to_owned(), "info,sidetrace=debug".to_owned()),
        ]);
        if !full_uid_map() {
            all.insert("SIDETRACE_MARK".to_owned(), SIDECAR_ID.to_string());
        }
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { agent, bare, world, collector, settings: all, sidecar: None, second: None }
    }

    /// Lays the rules: exempt by uid where uids are mapped, else by mark.
    pub(crate) fn redirect(&self, options: &[&str]) {
        redirect(&self.agent, options);
    }

    /// Makes a second pod of `bare`, with a redirect and a sidecar of its own.
    pub(crate) fn start_second(&mut self, options: &[&str]) {
        redirect(&self.bare, options);
        self.second = Some(start_sidecar(&self.bare, &self.settings, Some(SIDECAR_ID)));
    }

    /// Changes a setting for the sidecar's next start.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn start_sidecar(&mut self) {
        self.sidecar = Some(start_sidecar(&self.agent, &self.settings, Some(SIDECAR_ID)));
    }

    /// With names that the sidecar itself looks up.
    pub(crate) fn start_sidecar_among(&mut self, internet: &Internet) {
        let as_user = ["setpriv", "--reuid", "15100", "--regid", "15100", "--clear-groups"].map(str::to_owned);
        let mut words = if full_uid_map() { as_user.to_vec() } else { vec![] };
        words.extend([binary().to_str().unwrap().to_owned(), "proxy".to_owned()]);
        let mut command = internet.ignorant(&words, "hosts");
        command.envs(&self.settings);
        let process = Process::start("sidetrace", &self.agent, command);
        process.wait_for("ready", 1);
        self.sidecar = Some(process);
    }

    /// As a user, and without the mark, that the redirect does not know.
    pub(crate) fn start_sidecar_without_exemption(&mut self) {
        self.settings.remove("SIDETRACE_MARK");
        self.sidecar = Some(start_sidecar(&self.agent, &self.settings, None));
    }

    /// The sidecar's process.
    pub(crate) fn sidecar_id(&self) -> u32 {
        self.sidecar.as_ref().expect("the sidecar runs").id()
    }

    /// The sidecar.
    pub(crate) fn sidecar(&self) -> &Process {
        self.sidecar.as_ref().expect("the sidecar runs")
    }

    /// Waits for a sidecar that ends by itself, which it must do well. What it said.
    pub(crate) fn sidecar_ends(&mut self) -> String {
        let mut sidecar = self.sidecar.take().expect("the sidecar runs");
        let status = sidecar.wait();
        assert!(status.success(), "{status}\n{}", sidecar.said());
        sidecar.said()
    }

    /// A server in the world: `tests/it/origin.py` in one of its modes.
    pub(crate) fn origin(&self, mode: &str, arguments: &[&str]) -> Origin {
        Self::origin_in(&self.world, mode, arguments)
    }

    /// The same inside the pod.
    pub(crate) fn app(&self, mode: &str, arguments: &[&str]) -> Origin {
        Self::origin_in(&self.agent, mode, arguments)
    }

    /// The same in any namespace.
    pub(crate) fn origin_in(netns: &Netns, mode: &str, arguments: &[&str]) -> Origin {
        Self::start_origin(netns, "origin.py", &[&[mode], arguments].concat())
    }

    /// Another server of the tests' in the world.
    pub(crate) fn origin_at(&self, script: &str, arguments: &[&str]) -> Origin {
        Self::start_origin(&self.world, script, arguments)
    }

    fn start_origin(netns: &Netns, script: &str, arguments: &[&str]) -> Origin {
        let mut command = Command::new(python());
        command.arg(root().join("tests/it").join(script)).args(arguments);
        let process = Process::start(script, netns, command);
        process.wait_for("listening", 1);
        Origin { process }
    }

    /// Runs a client inside the pod; it must succeed.
    pub(crate) fn run(&self, command: Command) -> Output {
        must_succeed(&self.agent, command)
    }

    /// Runs a client where nothing is redirected; it must succeed.
    pub(crate) fn run_bare(&self, command: Command) -> Output {
        must_succeed(&self.bare, command)
    }

    /// The value of a counter on `/metrics`, by its whole name with labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.agent.sh_ok("curl -sf http://127.0.0.1:15120/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Other rules without a restart; the file is the one that `SIDETRACE_CONFIG` names.
    pub(crate) fn reload(&self, file: &RulesFile, text: &str) {
        let applied = || self.metric("sidetrace_config_reloads_total{outcome=\"applied\"}");
        let before = applied();
        file.write(text);
        self.sidecar().signal(Signal::SIGHUP);
        until("the rules are in force", || applied() > before);
    }

    /// SIGTERM to the sidecar, which must flush and end well, then to the collector: every span that will ever arrive.
    pub(crate) fn finish(&mut self) -> Vec<Span> {
        self.stop_sidecar();
        if let Some(mut second) = self.second.take() {
            let (status, said) = second.terminate();
            assert!(status.success(), "{status}\n{said}");
        }
        self.collector.stop_rotel();
        self.collector.spans()
    }

    pub(crate) fn stop_sidecar(&mut self) -> String {
        let mut sidecar = self.sidecar.take().expect("the sidecar runs");
        let (status, said) = sidecar.terminate();
        assert!(status.success(), "{status}\n{said}");
        said
    }
}

fn redirect(netns: &Netns, options: &[&str]) {
    let mut command = Command::new("sh");
    command.arg(root().join("iptables/init.sh")).args(options);
    if !full_uid_map() {
        command.args(["--proxy-mark", &SIDECAR_ID.to_string()]);
    }
    let output = netns.output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn must_succeed(netns: &Netns, command: Command) -> Output {
    let shown = format!("{command:?}");
    let output = netns.output(command);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}: {}\n{out}\n{err}", output.status);
    output
}

/// `sidetrace proxy` as a user of its own, with no environment but its settings.
fn start_sidecar(netns: &Netns, settings: &BTreeMap<String, String>, uid: Option<u32>) -> Process {
    let mut command = Command::new(binary());
    command.arg("proxy").env_clear().envs(settings);
    if let Some(uid) = uid.filter(|_| full_uid_map()) {
        command.uid(uid).gid(uid);
    }
    let process = Process::start("sidetrace", netns, command);
    process.wait_for("ready", 1);
    process
}

/// The program where its own user can read it: the project may lie in a folder that only root can enter.
pub(crate) fn binary() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        remove_copies_of_the_dead();
        let folder = std::env::temp_dir().join(format!("{COPY}{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let copy = folder.join("sidetrace");
        // By another process: what another thread's child inherits open for writing cannot be run (ETXTBSY).
        let program = env!("CARGO_BIN_EXE_sidetrace");
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        copy
    })
    .clone()
}

fn remove_copies_of_the_dead() {
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(id) = name.strip_prefix(COPY).and_then(|id| id.parse::<u32>().ok())
            && !PathBuf::from(format!("/proc/{id}")).exists()
        {
            // Another run may be at the same.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A server that says on its standard output what reached it.
#[derive(Debug)]
pub(crate) struct Origin {
    process: Process,
}

impl Origin {
    /// The first `count` calls, as JSON.
    pub(crate) fn calls(&self, count: usize) -> Vec<serde_json::Value> {
        let lines = self.process.wait_for("{\"call\":", count);
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All calls, when no more will come.
    pub(crate) fn into_calls(mut self) -> Vec<serde_json::Value> {
        let (_, said) = self.process.terminate();
        said.lines()
            .filter(|line| line.contains("{\"call\":"))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

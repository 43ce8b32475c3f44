//! A pod that runs, or ran: its events, its containers, what they say, and calls to it from outside.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::images::podman_ok;
use super::manifest::Manifest;
use super::world::World;
use crate::it::support::{GUARD, Netns, Process, root, until};

/// Its end is the end of the pod.
#[derive(Debug)]
pub(crate) struct Deployed {
    kubelet: Process,
    over: bool,
}

impl Deployed {
    pub(crate) fn start(world: &World, manifest: &Manifest) -> Self {
        let file = world.internet.path("pod.yaml");
        std::fs::write(&file, manifest.render(world)).unwrap();
        let mut command = Command::new("python3");
        command.arg(root().join("tests/pod/kubelet.py")).args(["--network", &world.name, "--alias", "agent.example"]);
        // Where the documentation says that it has to be on a node.
        let profiles = world.internet.folder().join("seccomp/profiles");
        std::fs::create_dir_all(&profiles).unwrap();
        std::fs::copy(root().join("deploy/seccomp/sidetrace.json"), profiles.join("sidetrace.json")).unwrap();
        command.arg("--seccomp-root").arg(world.internet.folder().join("seccomp")).arg(file);
        Self { kubelet: Process::start("kubelet.py", &Netns::here(), command), over: false }
    }

    /// Waits for an event for the first time.
    pub(crate) fn wait_for(&self, event: &str, container: &str) -> Value {
        self.wait_for_nth(event, container, 1)
    }

    /// Waits until it has come so often; returns the last of them.
    pub(crate) fn wait_for_nth(&self, event: &str, container: &str, count: usize) -> Value {
        let sought = format!(r#"{{"event": "{event}", "container": "{container}""#);
        let line = self.kubelet.wait_for(&sought, count).swap_remove(count - 1);
        serde_json::from_str(&line).unwrap()
    }

    /// Waits for a line of a container's with this text.
    pub(crate) fn wait_for_line(&self, container: &str, text: &str) -> String {
        self.wait_for_lines(container, text, 1).remove(0)
    }

    pub(crate) fn wait_for_lines(&self, container: &str, text: &str, count: usize) -> Vec<String> {
        let start = format!("{container}| ");
        let mut at_least = count;
        loop {
            let found = self.kubelet.wait_for(text, at_least);
            let lines: Vec<_> = found.iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            at_least = found.len() + 1;
        }
    }

    /// What a container has said so far.
    pub(crate) fn said(&self, container: &str) -> Vec<String> {
        let start = format!("{container}| ");
        self.kubelet.said().lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    }

    /// The ids of the answers to the LLM calls that the agent says it made.
    pub(crate) fn responses(&self) -> Vec<String> {
        let said = self.said("agent");
        let words = said.iter().filter_map(|line| line.strip_prefix("did chat ").or(line.strip_prefix("did stream ")));
        words.map(|words| words.split(' ').next().unwrap().to_owned()).collect()
    }

    /// Events so far as `event container`, without the pod's own.
    pub(crate) fn events(&self) -> Vec<String> {
        let said = self.kubelet.said();
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events
            .filter_map(|event| Some(format!("{} {}", event["event"].as_str()?, event["container"].as_str()?)))
            .collect()
    }

    /// Asserts that these events came, in this order, whatever came between them.
    pub(crate) fn assert_order(&self, expected: &[&str]) {
        let events = self.events();
        let mut rest = events.iter();
        for one in expected {
            assert!(rest.any(|event| event == one), "{one:?} did not come in its turn: {expected:?}\n{events:#?}");
        }
    }

    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let created: Value = serde_json::from_str(&self.kubelet.wait_for(r#"{"event": "created""#, 1)[0]).unwrap();
        created["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// SIGKILL to the first process of a container, and its end.
    pub(crate) fn kill(&self, container: &str) {
        let id = self.id(container);
        kill(Pid::from_raw(id), Signal::SIGKILL).unwrap();
        until("the process has gone", || !Path::new(&format!("/proc/{id}")).exists());
    }

    /// Runs a command in a container; what it printed. It has to succeed.
    pub(crate) fn exec(&self, container: &str, words: &[&str]) -> String {
        let life = self.life(container);
        podman_ok(&[&["exec", life["podman"].as_str().unwrap()], words].concat())
    }

    /// The process of a container, as the host sees it.
    pub(crate) fn id(&self, container: &str) -> i32 {
        self.life(container)["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// The event of a container's last start.
    fn life(&self, container: &str) -> Value {
        let said = self.kubelet.said();
        let mut events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.rfind(|event| event["container"] == container && event["pid"].is_number()).unwrap()
    }

    /// Nothing is restarted or probed meanwhile.
    pub(crate) fn without_kubelet<T>(&self, f: impl FnOnce() -> T) -> T {
        self.kubelet.signal(Signal::SIGSTOP);
        let result = f();
        self.kubelet.signal(Signal::SIGCONT);
        result
    }

    /// Asks the agent's server for something, from outside the pod; what it says.
    pub(crate) fn ask(&self, path: &str) -> String {
        ask((self.addresses()[0], 8080), path, "")
    }

    /// Deletes the pod, which has to end in order.
    pub(crate) fn delete(&mut self) {
        self.kubelet.signal(Signal::SIGTERM);
        self.wait_for_end(0);
    }

    /// Waits for the end of the pod with this exit code of kubelet.py: 0 succeeded, 1 failed.
    pub(crate) fn wait_for_end(&mut self, code: i32) {
        let status = self.kubelet.wait();
        self.over = true;
        assert_eq!(status.code(), Some(code), "kubelet.py");
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the pod:\n{}", self.kubelet.said());
        }
        if !self.over {
            self.kubelet.signal(Signal::SIGCONT);
            self.kubelet.signal(Signal::SIGTERM);
            self.kubelet.signal(Signal::SIGINT);
            self.kubelet.wait();
        }
    }
}

/// GET, from outside the pod; status and body.
pub(crate) fn ask(address: (IpAddr, u16), path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: agent.example\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    format!("{} {}", head.split(' ').nth(1).unwrap(), body.trim())
}

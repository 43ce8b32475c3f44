//! Network namespaces that live as long as a handle on them does.

use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::GUARD;

/// A network namespace, mostly of this test's own: lo is up. That dies with its last handle.
#[derive(Clone, Debug)]
pub(crate) struct Netns(Arc<File>);

impl Netns {
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect(
                "no right to make a network namespace: run the tests as root or through `make test`, which makes a user \
                 namespace",
            );
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let netns = Self(Arc::new(made.join().unwrap()));
        netns.sh_ok("ip link set lo up");
        netns
    }

    /// The namespace that the test itself is in.
    #[allow(dead_code, reason = "for tests/pod.rs, whose pods are podman's")]
    pub(crate) fn here() -> Self {
        Self(Arc::new(File::open("/proc/thread-self/ns/net").unwrap()))
    }

    /// Runs `f` on a thread inside the namespace: the sockets and processes that it makes belong there.
    pub(crate) fn enter<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let file = self.0.clone();
        let inside = std::thread::spawn(move || {
            setns(&*file, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command to its end inside; one that hangs is killed.
    pub(crate) fn output(&self, mut command: Command) -> Output {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.enter(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let (done, waited) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if waited.recv_timeout(2 * GUARD) == Err(RecvTimeoutError::Timeout) {
                let _ = kill(id, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        output
    }

    pub(crate) fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        self.output(command)
    }

    /// Runs a script that must succeed; returns what it printed.
    pub(crate) fn sh_ok(&self, script: &str) -> String {
        let output = self.sh(script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Joins this namespace and another by a veth pair.
    pub(crate) fn join(&self, name: &str, other: &Netns, other_name: &str) {
        // `ip` takes a path for a namespace; the thread's own descriptor table is the process's.
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&*other.0));
        self.sh_ok(&format!("ip link add {name} type veth peer name {other_name} netns {path}"));
    }
}

/// Whether this process's user namespace maps uid 15100: root on the host, not the single-uid namespace of others.
pub(crate) fn full_uid_map() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        numbers[0] <= 15100 && 15100 < numbers[0] + numbers[2]
    })
}

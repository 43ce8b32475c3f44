//! A process of the test's: its lines are kept and can be waited for; it dies with its handle.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{GUARD, Netns};

#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

impl Process {
    /// Starts a command inside a namespace.
    pub(crate) fn start(name: &str, netns: &Netns, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = netns.enter(move || command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let lines = Arc::new((Mutex::new(Lines { lines: Vec::new(), open: 2 }), Condvar::new()));
        keep(child.stdout.take().unwrap(), lines.clone());
        keep(child.stderr.take().unwrap(), lines.clone());
        Self { name: name.to_owned(), child, lines }
    }

    /// Waits until this many lines contain `text`; returns them.
    pub(crate) fn wait_for(&self, text: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + GUARD;
        let (lock, changed) = &*self.lines;
        let mut lines = lock.lock().unwrap();
        loop {
            let found: Vec<_> = lines.lines.iter().filter(|line| line.contains(text)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                lines.open > 0 && !left.is_zero(),
                "{}: {count} lines with {text:?} did not come; it said:\n{}",
                self.name,
                lines.lines.join("\n")
            );
            lines = changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        let (lock, changed) = &*self.lines;
        // Who waited in vain has left it poisoned; what is kept is whole.
        let mut lines = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while lines.open > 0 {
            lines = changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        status
    }

    /// SIGTERM, and its end. What it said comes with it.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, String) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        (status, self.said())
    }

    pub(crate) fn said(&self) -> String {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
            let last = said.lines.len().saturating_sub(MOST_SHOWN);
            eprintln!("--- {} said, at the end:\n{}", self.name, said.lines[last..].join("\n"));
        }
    }
}

const MOST_SHOWN: usize = 20;

fn keep(from: impl Read + Send + 'static, lines: Arc<(Mutex<Lines>, Condvar)>) {
    std::thread::spawn(move || {
        let (lock, changed) = &*lines;
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            lock.lock().unwrap_or_else(PoisonError::into_inner).lines.push(String::from_utf8_lossy(&line).into_owned());
            changed.notify_all();
        }
        lock.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
        changed.notify_all();
    });
}

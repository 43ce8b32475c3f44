//! Plays the rows of a family without us and with us, and hands what was seen to the comparison.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::super::support::{Netns, Pod, Process, WORLD_V4, python, root};
use super::row::Row;
use super::seen::{self, Seen};

/// A pod and a folder for one family.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) pod: Pod,
    pub(super) folder: PathBuf,
}

/// A program of the table's: the words of its command line.
pub(super) type Program = Vec<String>;

impl Stage {
    pub(super) fn new(family: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("sidetrace-conformance-{family}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stage = Self { pod: Pod::start(), folder };
        certificate(&stage.folder);
        stage
    }

    /// A file for the servers.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let written = self.folder.join(name);
        std::fs::write(&written, bytes).unwrap();
        path(&written).to_owned()
    }

    /// Plays all rows twice and compares. `servers` say "listening" and are ended by SIGTERM; `clients` end by themselves.
    pub(super) fn play(&self, rows: &[Row], (servers, clients): (Vec<Program>, Vec<Program>)) {
        let [bare, ours] = [("bare", &self.pod.bare), ("ours", &self.pod.agent)]
            .map(|(name, netns)| self.play_in(name, netns, rows, servers.clone(), clients.clone()));
        let failures = seen::compare(rows, &bare, &ours);
        assert!(failures.is_empty(), "{} of {} rows fail\n\n{}", failures.len(), rows.len(), failures.join("\n"));
    }

    fn play_in(
        &self,
        name: &str,
        netns: &Netns,
        rows: &[Row],
        mut servers: Vec<Program>,
        mut clients: Vec<Program>,
    ) -> Seen {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        if rows.iter().any(|row| !row.client.is_empty()) {
            let script = folder.join("rows.json");
            std::fs::write(&script, conversations(rows).to_string()).unwrap();
            let certificate = self.folder.join("both.pem");
            for (mode, last, programs) in
                [("origin", path(&certificate), &mut servers), ("client", WORLD_V4, &mut clients)]
            {
                let mut talk = python_script("talk.py");
                talk.extend([mode, path(&script), path(&folder), last].map(str::to_owned));
                programs.push(talk);
            }
        }
        let mut running: Vec<Process> = servers.iter().map(|words| self.serve(words)).collect();
        let mut seen = Seen::default();
        for words in &clients {
            let output = netns.output(command(words));
            let said = String::from_utf8_lossy(&output.stdout);
            let complaints = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words:?}: {}\n{said}\n{complaints}", output.status);
            seen::gather(&mut seen, &said);
        }
        for server in &mut running {
            let (status, said) = server.terminate();
            assert!(status.success() || status.signal() == Some(SIGTERM), "a server has failed: {status}\n{said}");
            seen::gather(&mut seen, &said);
        }
        seen
    }

    fn serve(&self, words: &Program) -> Process {
        let process = Process::start(&words.join(" "), &self.pod.world, command(words));
        process.wait_for(if words[0] == "nginx" { "getrlimit" } else { "listening" }, 1);
        process
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A script of this folder's, run by the Python with the libraries.
pub(super) fn python_script(name: &str) -> Program {
    program(&[path(&python()), path(&script(name))])
}

/// The same with arguments, run by whatever its name's ending asks for.
pub(super) fn run(name: &str, arguments: &[&str]) -> Program {
    let mut words = match name.rsplit_once('.') {
        Some((_, "mjs")) => program(&["node", path(&script(name))]),
        Some((_, "java")) => program(&["java", path(&script(name))]),
        _ => python_script(name),
    };
    words.extend(program(arguments));
    words
}

pub(super) fn program(words: &[&str]) -> Program {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A script of this folder's.
pub(super) fn script(name: &str) -> PathBuf {
    root().join("tests/it/conformance").join(name)
}

fn command(words: &Program) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The rows as `talk.py` reads them, each with a port of its own.
fn conversations(rows: &[Row]) -> Value {
    let played = rows.iter().zip(FIRST_PORT..).filter(|(row, _)| !row.client.is_empty());
    played.map(|(row, port)| serde_json::json!([row.name, row.port.unwrap_or(port), row.client, row.origin])).collect()
}

/// A certificate for `tls.test`, `cert.pem`, its key, and both in one file.
fn certificate(folder: &Path) {
    let script = format!(
        "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=tls.test \
         -addext subjectAltName=DNS:tls.test,IP:{WORLD_V4} -days 2 -keyout key.pem -out cert.pem 2>&1 && cat key.pem cert.pem > both.pem",
        folder.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

const SIGTERM: i32 = 15;
const FIRST_PORT: u16 = 20000;

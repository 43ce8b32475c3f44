//! `sidetrace check --trust`: starts the runtimes of this machine with the environment that they would have, and sees which of
//! them trust the authority of a folder.
//!
//! The authority's key is not here. A folder of the same files is made for an authority of the moment, a server on loopback
//! shows its certificate, and variables that point into the real folder point into the copy. The client judges as it would.

mod endpoint;
mod runtimes;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use self::endpoint::Endpoint;
use self::runtimes::{ABSENT, RUNTIMES, Runtime, SCRIPTS};
use crate::trust::{self, File as TrustFile, VARIABLES, Variable};

/// Tests all runtimes against this folder, in this environment. 0 if all that were found trust it.
pub(in crate::cli) fn run(folder: Option<&Path>, environment: &[(String, String)], quiet: bool) -> ExitCode {
    let checked = Real::open(folder, environment).and_then(|real| {
        let scratch = Scratch::new()?;
        let probe = Probe::new(&real, scratch)?;
        probe.run(&real, quiet)
    });
    match checked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sidetrace check --trust: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that is asked about, and the environment that points to it, or not.
struct Real<'a> {
    /// Without one, what nothing points to.
    folder: PathBuf,
    environment: &'a [(String, String)],
    bundle: Vec<CertificateDer<'static>>,
    added: Vec<CertificateDer<'static>>,
}

impl<'a> Real<'a> {
    fn open(folder: Option<&Path>, environment: &'a [(String, String)]) -> io::Result<Self> {
        let Some(folder) = folder else {
            say("No folder is named: pass --dir, or set SIDETRACE_TRUST_DIR. DIR below stands for it.");
            let bundle = trust::public_roots().certificates;
            return Ok(Self { folder: "DIR".into(), environment, bundle, added: Vec::new() });
        };
        let folder = std::path::absolute(folder)?;
        let named =
            |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let read = |file: TrustFile| {
            let path = folder.join(file.name());
            fs::read(&path).map_err(|error| named(&path, error))
        };
        let certificates = |file| {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&read(file)?).filter_map(Result::ok).collect();
            Ok::<_, io::Error>(certificates)
        };
        let (bundle, added) = (certificates(TrustFile::Bundle)?, certificates(TrustFile::Added)?);
        let (ours, java) = (certificates(TrustFile::Ours)?, read(TrustFile::Java)?);
        let known = |root: &CertificateDer<'_>| {
            bundle.contains(root)
                && added.contains(root)
                && java.windows(root.len()).any(|window| window == root.as_ref())
        };
        if ours.is_empty() || !ours.iter().all(known) {
            return Err(io::Error::other(format!(
                "{}: the files do not all hold the authority of {}; the sidecar writes them when it starts",
                folder.display(),
                TrustFile::Ours.name()
            )));
        }
        let directory = folder.join(TrustFile::Hashed.name());
        fs::read_dir(&directory).map_err(|error| named(&directory, error))?;
        Ok(Self { folder, environment, bundle, added })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// What to set so that this runtime trusts the folder, if anything is left.
    fn advice(&self, runtime: &Runtime) -> Option<String> {
        let variables = runtime.variables.iter().filter_map(|name| VARIABLES.iter().find(|known| known.name == *name));
        let mut missing = variables
            .filter(|variable| self.value(variable.name).is_none_or(|value| !variable.points_to(&self.folder, value)));
        let variable: &Variable = missing.next()?;
        let name = variable.name;
        let wanted = variable.value(&self.folder, None)?;
        Some(match self.value(name).filter(|value| !value.trim().is_empty()) {
            None => format!("set {name}={wanted}"),
            // What is there is not shown: options may hold passwords.
            Some(current) if variable.value(&self.folder, Some(current)).is_some() => {
                format!("add to {name}: {wanted}")
            }
            Some(_) => format!("set {name}={wanted} (it is something else now)"),
        })
    }
}

/// The copy of the folder, the server, and what the runtimes are started with.
struct Probe {
    scratch: Scratch,
    folder: PathBuf,
    endpoint: Endpoint,
}

impl Probe {
    fn new(real: &Real<'_>, scratch: Scratch) -> io::Result<Self> {
        let (endpoint, authority) = Endpoint::start()?;
        let folder = scratch.0.join("trust");
        trust::write(&folder, &real.bundle, &real.added, &[authority])?;
        for (name, bytes) in SCRIPTS {
            fs::write(scratch.0.join(name), bytes)?;
        }
        Ok(Self { scratch, folder, endpoint })
    }

    fn run(&self, real: &Real<'_>, quiet: bool) -> io::Result<bool> {
        let mut all = true;
        for runtime in RUNTIMES {
            let verdict = self.test(real, runtime)?;
            let (good, text) = match verdict {
                Verdict::Trusts => (true, "trusts".to_owned()),
                Verdict::NotFound => (true, "not found".to_owned()),
                Verdict::Unclear(why) => (false, format!("could not be tested: {why}")),
                Verdict::Refuses(why) => match real.advice(runtime) {
                    Some(advice) => (false, format!("does not trust: {advice}")),
                    None if runtime.beyond_variables => (true, format!("does not trust: no variable moves it ({why})")),
                    None => (false, format!("does not trust, though its variables are set: {why}")),
                },
            };
            all &= good;
            if !(good && quiet) {
                say(&format!("{:NAME_WIDTH$} {text}", runtime.name));
            }
        }
        Ok(all)
    }

    fn test(&self, real: &Real<'_>, runtime: &Runtime) -> io::Result<Verdict> {
        let before = self.endpoint.connections();
        let mut command = (runtime.command)(&self.endpoint.url(), self.endpoint.port(), &self.scratch.0);
        let said = self.scratch.0.join("said");
        command
            .envs(real.environment.iter().map(|(name, value)| (name, moved(value, &real.folder, &self.folder))))
            // A proxy would be asked for our loopback.
            .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
            .envs(SCRATCH_VARIABLES.map(|(name, folder)| (name, self.scratch.0.join(folder))))
            .envs(runtime.environment.iter().copied())
            .current_dir(&self.scratch.0)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?);
        let status = match outcome(command, runtime.patience) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::NotFound),
            Err(error) => return Ok(Verdict::Unclear(error.to_string())),
        };
        Ok(match status.and_then(|status| status.code()) {
            Some(0) => Verdict::Trusts,
            // What a shim for a program that is not installed says is the shell's 127.
            Some(ABSENT | 127) => Verdict::NotFound,
            _ if self.endpoint.connections() > before => Verdict::Refuses(last_line(&said)),
            None => Verdict::Unclear(format!("no answer within {:?}", runtime.patience)),
            Some(_) => Verdict::Unclear(last_line(&said)),
        })
    }
}

enum Verdict {
    Trusts,
    NotFound,
    /// It came to us and did not like what it saw.
    Refuses(String),
    /// It never came.
    Unclear(String),
}

/// Runs a command to its end; one that hangs is killed, with what it started. `None`: it hung.
fn outcome(mut command: Command, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            if let Ok(group) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// What a runtime said last, cut to a line that can be read.
fn last_line(said: &Path) -> String {
    let said = fs::read(said).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it did not say why");
    line.chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect()
}

/// A value with each path into one folder led into the other. What points elsewhere stays.
fn moved(value: &str, from: &Path, to: &Path) -> String {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let mut moved = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(&from).filter(|_| from.starts_with('/')) {
        // It is a path of its own, and not a part of a longer one.
        let starts = !before.ends_with(|c: char| c.is_alphanumeric() || "/._-".contains(c));
        moved.push_str(before);
        moved.push_str(if starts && after.starts_with('/') { &to } else { &from });
        rest = after;
    }
    moved + rest
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A folder of our own that goes with us.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("sidetrace-check-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}; TMPDIR names another place", folder.display()))
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where runtimes keep what they would otherwise write into the user's home.
const SCRATCH_VARIABLES: [(&str, &str); 5] = [
    ("PYTHONPYCACHEPREFIX", "python"),
    ("GOCACHE", "go-cache"),
    ("GOPATH", "go"),
    ("DENO_DIR", "deno"),
    ("DOTNET_CLI_HOME", "dotnet"),
];
const NAME_WIDTH: usize = 18;
const MOST_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_into_the_folder_are_moved() {
        let moved = |value| moved(value, Path::new("/run/t"), Path::new("/tmp/copy"));
        assert_eq!(moved("/run/t/bundle.pem"), "/tmp/copy/bundle.pem");
        assert_eq!(moved("/a:/run/t/certs:/run/t/b"), "/a:/tmp/copy/certs:/tmp/copy/b");
        assert_eq!(moved("-Xmx1g \"-Dstore=/run/t/s.p12\""), "-Xmx1g \"-Dstore=/tmp/copy/s.p12\"");
        for other in ["", "/run/t", "/run/t2/bundle.pem", "/var/run/t/bundle.pem", "run/t/bundle.pem"] {
            assert_eq!(moved(other), other);
        }
        assert_eq!(super::moved("/a/DIR/b:DIR/c", Path::new("DIR"), Path::new("/tmp/copy")), "/a/DIR/b:DIR/c");
    }
}

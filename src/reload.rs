//! Reads the rules file again at SIGHUP, and when it has changed: what is sound replaces the policy in force, what is not is
//! refused with all its problems, and the old policy stays.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::config::assembly::{self, Problems};
use crate::config::rules::Rules;
use crate::policy::{Policies, Policy};
use crate::telemetry::Metrics;

/// Keeps the policy as the file says.
#[derive(Debug)]
pub struct Reload {
    hangup: Signal,
    apply: Apply,
}

/// What a reload does.
#[derive(Clone, Debug)]
struct Apply {
    file: Option<PathBuf>,
    policies: Policies,
    metrics: Arc<Metrics>,
    intercepts: bool,
}

impl Reload {
    /// From now on SIGHUP does not end the process, rules file or not. `intercepts` is whether this process can intercept at
    /// all, which is settled at the start.
    pub fn new(file: Option<PathBuf>, policies: Policies, metrics: Arc<Metrics>, intercepts: bool) -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, apply: Apply { file, policies, metrics, intercepts } })
    }

    /// A reload for whoever asks, and what came of it. Reads a file: it may take a while.
    pub fn hook(&self) -> Arc<dyn Fn() -> Result<String, String> + Send + Sync> {
        let apply = self.apply.clone();
        Arc::new(move || {
            let Some(file) = &apply.file else { return Err("SIDETRACE_CONFIG names no file".to_owned()) };
            match apply.rules(assembly::reload(file), false) {
                Ok(outcome) => Ok(format!("rules: {outcome}")),
                Err(problems) => Err(problems.to_string()),
            }
        })
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let Some(file) = self.apply.file.clone() else {
            while self.hangup.recv().await.is_some() {
                info!("SIGHUP: SIDETRACE_CONFIG names no file that could be read again");
            }
            return;
        };
        let mut look = tokio::time::interval(POLL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::default();
        loop {
            let asked = tokio::select! {
                asked = self.hangup.recv() => asked.is_some(),
                _ = look.tick() => false,
            };
            let mut seen = watch;
            let path = file.clone();
            // Files may be slow, and a parser may fail: neither concerns the data plane.
            let looked = tokio::task::spawn_blocking(move || {
                let due = seen.look(Stamp::of(&path), asked);
                (seen, due.then(|| assembly::reload(&path)))
            });
            let (seen, read) = looked.await.unwrap_or_else(|error| {
                // The same file would fail in the same way.
                let settled = Watch { read: watch.last, ..watch };
                (settled, Some(Err(Problems(vec![format!("{}: {error}", file.display())]))))
            });
            let first = std::mem::replace(&mut watch, seen).read.is_none();
            if let Some(read) = read {
                // Refused or not: it is in the log.
                let _ = self.apply.rules(read, first && !asked);
            }
        }
    }
}

impl Apply {
    /// The first look after the start only makes sure that nothing has changed since the start.
    fn rules(&self, read: Result<Rules, Problems>, first: bool) -> Result<&'static str, Problems> {
        let file = self.file.as_deref().unwrap_or(Path::new("")).display();
        let in_vain = !self.intercepts && read.as_ref().is_ok_and(Rules::ask_for_interception);
        let outcome = match read.map(Policy::new) {
            Ok(policy) if policy == *self.policies.load() => {
                if first {
                    return Ok("unchanged");
                }
                info!(%file, "rules are unchanged");
                Ok("unchanged")
            }
            Ok(policy) => {
                self.policies.replace(policy);
                info!(%file, "rules are in force");
                if in_vain {
                    warn!(%file, "a rule asks for interception, and nothing did at the start: it takes a restart");
                }
                Ok("applied")
            }
            Err(problems) => {
                error!(%file, problems = problems.0.len(), "rules refused, the old ones stay");
                problems.0.iter().for_each(|problem| error!("{problem}"));
                Err(problems)
            }
        };
        self.metrics.config_reloads.inc(outcome.as_ref().map_or("refused", |outcome| outcome));
        outcome
    }
}

/// What tells one version of a file from the next, through symbolic links: Kubernetes swaps a link above the file. `None`
/// is a file that cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<[i64; 5]>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok();
        Self(found.map(|file| {
            [
                file.mtime(),
                file.mtime_nsec(),
                file.size().cast_signed(),
                file.ino().cast_signed(),
                file.dev().cast_signed(),
            ]
        }))
    }
}

/// Decides when a file is to be read: when somebody asks, or when it has changed and then rests. One that is being written may be empty, and an
/// empty file has no rules.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    last: Option<Stamp>,
    read: Option<Stamp>,
}

impl Watch {
    fn look(&mut self, stamp: Stamp, asked: bool) -> bool {
        let rests = self.last.replace(stamp) == Some(stamp);
        let due = asked || (rests && self.read != Some(stamp));
        if due {
            self.read = Some(stamp);
        }
        due
    }
}

const POLL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_it_has_changed_and_rests() {
        let [missing, a, b, c] = [None, Some([1; 5]), Some([2; 5]), Some([3; 5])].map(Stamp);
        let mut watch = Watch::default();
        let seen = [a, a, a, b, c, c, c, missing, c, c, missing, missing, missing, a, a];
        let read: Vec<bool> = seen.into_iter().map(|stamp| watch.look(stamp, false)).collect();
        let at: Vec<usize> = (0..read.len()).filter(|index| read[*index]).collect();
        assert_eq!(at, [1, 5, 11, 14], "a vanished file is read too: that is refused, once");
        assert!(watch.look(b, true) && !watch.look(b, false) && watch.look(b, true), "who asks is not asked to wait");
    }

    #[test]
    fn a_swapped_link_above_the_file_is_a_change() {
        let folder = std::env::temp_dir().join(format!("sidetrace-swap-{}", std::process::id()));
        let file = folder.join("rules.yaml");
        for version in ["one", "two"] {
            std::fs::create_dir_all(folder.join(version)).unwrap();
            std::fs::write(folder.join(version).join("rules.yaml"), "{}").unwrap();
        }
        let link = |version: &str| {
            std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
            std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        };
        link("one");
        std::os::unix::fs::symlink("..data/rules.yaml", &file).unwrap();
        let before = Stamp::of(&file);
        assert_eq!(before, Stamp::of(&file));
        link("two");
        assert_ne!(before, Stamp::of(&file));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(Stamp::of(&file), Stamp(None));
    }
}

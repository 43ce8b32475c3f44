//! How much memory there is: the limit of our control group or of one above it, else a share of the machine's. And how
//! much of it is in use.
//!
//! Sources: Linux, `Documentation/admin-guide/cgroup-v2.rst`, "Memory Interface Files"; `cgroup-v1/memory.rst`; `cgroups(7)`.

use std::path::{Path, PathBuf};

use crate::telemetry::process;

/// A limit, and where its use is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In bytes.
    pub limit: u64,
    usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Usage {
    /// The kernel's account of a control group, which is what it goes by when it ends a process.
    Group(Version, PathBuf),
    /// Our own resident memory.
    Resident,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Memory {
    /// The limit that the configuration names, else the tightest that the kernel sets.
    pub fn find(named: Option<u64>) -> Self {
        match named {
            Some(limit) => Self { limit, usage: Usage::Resident },
            None => of_this_process(|path| std::fs::read_to_string(path).ok()),
        }
    }

    /// Bytes in use. `None` if the kernel does not say.
    pub fn used(&self) -> Option<u64> {
        match &self.usage {
            Usage::Resident => process::resident(),
            Usage::Group(version, group) => {
                used(*version, self.limit, |file| std::fs::read_to_string(group.join(file)).ok())
            }
        }
    }
}

impl Version {
    fn mount(self) -> &'static Path {
        Path::new(match self {
            Version::V1 => "/sys/fs/cgroup/memory",
            Version::V2 => "/sys/fs/cgroup",
        })
    }

    fn limit(self) -> &'static str {
        match self {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        }
    }

    fn current(self) -> &'static str {
        match self {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        }
    }

    /// In `memory.stat`: pages of files, which are taken back before any process is ended. Descendants included.
    fn cache(self) -> [&'static str; 2] {
        match self {
            Version::V1 => ["total_active_file", "total_inactive_file"],
            Version::V2 => ["active_file", "inactive_file"],
        }
    }
}

fn of_this_process(read: impl Fn(&Path) -> Option<String>) -> Memory {
    let total = read(Path::new("/proc/meminfo")).and_then(|text| field(&text, "MemTotal:")).map(|kib| kib * 1024);
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(own_group).flat_map(|(version, group)| {
        // A group may be named as the host sees it and mounted as the container does: the root of the mount is tried too.
        let path = version.mount().join(group.trim_start_matches('/'));
        let above: Vec<_> =
            path.ancestors().take_while(|path| path.starts_with(version.mount())).map(Path::to_owned).collect();
        above.into_iter().map(move |group| (version, group))
    });
    let limits = limits.filter_map(|(version, group)| {
        // Not a number ("max") or more than the machine has: no limit.
        let limit = read(&group.join(version.limit()))?.trim().parse::<u64>().ok()?;
        total.is_none_or(|total| limit < total).then_some((limit, version, group))
    });
    match limits.filter(|(limit, ..)| *limit > 0).min_by_key(|(limit, ..)| *limit) {
        Some((limit, version, group)) => Memory { limit, usage: Usage::Group(version, group) },
        None => Memory { limit: total.map_or(UNKNOWN, |total| total / SHARE), usage: Usage::Resident },
    }
}

/// A line of `/proc/self/cgroup` that names our group for memory: `0::/path`, or `4:memory:/path` in version 1.
fn own_group(line: &str) -> Option<(Version, &str)> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    match id {
        "0" => Some((Version::V2, group)),
        _ => controllers.split(',').any(|controller| controller == "memory").then_some((Version::V1, group)),
    }
}

/// What cannot be taken back. The cache of files can; its size is looked up only where it could matter, for the kernel
/// adds it up over all processors.
fn used(version: Version, limit: u64, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let current: u64 = read(version.current())?.trim().parse().ok()?;
    if current < limit / 2 {
        return Some(current);
    }
    let stat = read("memory.stat").unwrap_or_default();
    let cache: u64 = version.cache().iter().filter_map(|name| field(&stat, name)).sum();
    Some(current.saturating_sub(cache))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() == Some(name) { words.next()?.parse().ok() } else { None }
    })
}

/// Without a limit: we are a guest, and an eighth of the machine is much.
const SHARE: u64 = 8;
const UNKNOWN: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       8000000 kB\nMemFree:  1 kB\n");

    fn find(files: &[(&str, &str)]) -> Memory {
        let files = [&[MACHINE], files].concat();
        of_this_process(|path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    fn group(version: Version, path: &str, limit: u64) -> Memory {
        Memory { limit, usage: Usage::Group(version, path.into()) }
    }

    #[test]
    fn a_container_of_its_own_is_limited_at_the_root_of_its_mount() {
        let files = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "67108864\n")];
        assert_eq!(find(&files), group(Version::V2, "/sys/fs/cgroup", 67_108_864));
    }

    #[test]
    fn the_tightest_limit_on_the_way_up_holds() {
        let files = [
            ("/proc/self/cgroup", "0::/pod/sidecar\n"),
            ("/sys/fs/cgroup/pod/sidecar/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "268435456\n"),
            ("/sys/fs/cgroup/memory.max", "1073741824\n"),
        ];
        assert_eq!(find(&files), group(Version::V2, "/sys/fs/cgroup/pod", 268_435_456));
    }

    #[test]
    fn version_1_is_read_where_version_2_has_no_memory_even_if_the_path_is_the_hosts() {
        let files = [
            ("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/kubepods/pod1/c1\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
        ];
        assert_eq!(find(&files), group(Version::V1, "/sys/fs/cgroup/memory", 134_217_728));
    }

    #[test]
    fn without_a_limit_it_is_a_share_of_the_machine() {
        let share = Memory { limit: 1_024_000_000, usage: Usage::Resident };
        assert_eq!(find(&[]), share);
        // What version 1 says for no limit.
        let files = [
            ("/proc/self/cgroup", "4:memory:/a\n0::/\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(find(&files), share);
        for broken in ["", "0", "0:", "x::\n", "0::/../..\n", "4:memory\n"] {
            assert_eq!(find(&[("/proc/self/cgroup", broken)]), share, "{broken:?}");
        }
    }

    #[test]
    fn what_is_in_use_leaves_out_the_cache_of_files() {
        let read = |file: &str| match file {
            "memory.current" => Some("900\n".to_owned()),
            "memory.stat" => Some("anon 100\nfile 800\ninactive_file 700\nactive_file 100\n".to_owned()),
            _ => None,
        };
        assert_eq!(used(Version::V2, 1000, read), Some(100));
        assert_eq!(used(Version::V2, 10_000, read), Some(900), "far from the limit");
        assert_eq!(used(Version::V1, 1000, read), None);
    }

    #[test]
    fn a_named_limit_is_compared_with_our_own_memory() {
        let memory = Memory::find(Some(1000));
        assert_eq!(memory.limit, 1000);
        assert!(memory.used().is_some_and(|used| used > 1000));
    }
}

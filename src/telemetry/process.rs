//! What the kernel says about this process, under the names that Prometheus clients of every language use.

use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

use super::exposition::Exposition;

/// Writes the family `process_*`. What the kernel does not tell is left out.
pub fn expose(started: SystemTime, text: &mut Exposition) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let seconds = std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64();
        let name = "process_cpu_seconds_total";
        text.family(name, "counter", "User and system CPU time.").sample(name, &[], seconds);
    }
    if let Some(count) = open_files() {
        text.gauge("process_open_fds", "Open file descriptors.", count);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        text.gauge("process_max_fds", "The most file descriptors that may be open.", soft);
    }
    if let Some(status) = read_status() {
        for (field, name, help) in [
            ("VmRSS:", "process_resident_memory_bytes", "Resident memory."),
            ("VmSize:", "process_virtual_memory_bytes", "Virtual memory."),
        ] {
            if let Some(kilobytes) = number(&status, field) {
                text.gauge(name, help, kilobytes * 1024);
            }
        }
        if let Some(threads) = number(&status, "Threads:") {
            text.gauge("process_threads", "Threads.", threads);
        }
    }
    if let Ok(since) = started.duration_since(UNIX_EPOCH) {
        text.gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            since.as_secs_f64(),
        );
    }
}

/// Bytes of resident memory.
pub fn resident() -> Option<u64> {
    Some(number(&read_status()?, "VmRSS:")? * 1024)
}

fn read_status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

/// From Linux 6.2 on the directory's size is the number, which saves reading thousands of entries.
fn open_files() -> Option<u64> {
    let size = std::fs::metadata("/proc/self/fd").ok()?.size();
    if size > 0 {
        return Some(size);
    }
    // One of them is the directory that is being read.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_field() {
        let status = "Name:\tsidetrace\nVmSize:\t  123 kB\nVmRSS:\t   45 kB\nThreads:\t3\n";
        assert_eq!(number(status, "VmRSS:"), Some(45));
        assert_eq!(number(status, "Threads:"), Some(3));
        assert_eq!(number(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_every_standard_name() {
        let mut text = Exposition::default();
        expose(SystemTime::now(), &mut text);
        let text = text.into_text();
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_start_time_seconds",
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap();
            assert!(value > 0.0, "{name} {value}");
        }
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
    }
}

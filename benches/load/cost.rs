//! What a process costs: processor time and memory of it and its children, from `/proc`.

use std::fs;
use std::process::Command;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::report::Figures;

/// Processor time until now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    nanos: u64,
    user_ticks: u64,
    system_ticks: u64,
}

impl Cpu {
    /// Of a process, all its threads and its children. Threads that ended have taken their share with them; no peer here
    /// ends threads.
    pub(crate) fn of(id: u32) -> Self {
        let mut sum = Self::default();
        for id in tree(id) {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
            let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            sum.user_ticks += fields[11].parse::<u64>().unwrap();
            sum.system_ticks += fields[12].parse::<u64>().unwrap();
            for task in fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten() {
                // Nanoseconds on a processor, where the kernel keeps them (CONFIG_SCHED_INFO).
                if let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) {
                    sum.nanos += schedstat.split(' ').next().unwrap().parse::<u64>().unwrap();
                }
            }
        }
        sum
    }

    /// Microseconds since `before`: all, and of them in user space. The kernel splits by sampling at ticks.
    pub(crate) fn since(self, before: Self) -> (f64, f64) {
        let user = (self.user_ticks - before.user_ticks) as f64;
        let system = (self.system_ticks - before.system_ticks) as f64;
        let by_ticks = (user + system) * 1e6 / ticks_per_second();
        let all = if self.nanos > 0 { (self.nanos - before.nanos) as f64 / 1e3 } else { by_ticks };
        (all, if user + system > 0.0 { all * user / (user + system) } else { 0.0 })
    }
}

/// What the machine did, all processes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    all: u64,
    busy: u64,
    stolen: u64,
    ours: u64,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().next().unwrap();
        // user nice system idle iowait irq softirq steal
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        let own: Vec<_> = own.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Of this process and of its children that have ended: between runs those are all.
        let ours = own[11..15].iter().map(|word| word.parse::<u64>().unwrap()).sum();
        Self { all: ticks[..8].iter().sum(), busy: ticks[..3].iter().sum(), stolen: ticks[7], ours }
    }

    /// Percent of the machine's time that went to other processes, and to other machines.
    pub(crate) fn since(self, before: Self) -> (f64, f64) {
        let all = (self.all - before.all) as f64;
        let others = (self.busy - before.busy).saturating_sub(self.ours - before.ours) as f64;
        (others * 100.0 / all, (self.stolen - before.stolen) as f64 * 100.0 / all)
    }
}

/// Resident and proportional set size, KiB.
pub(crate) fn memory(id: u32) -> (f64, f64) {
    let (mut rss, mut pss) = (0.0, 0.0);
    for id in tree(id) {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
        let kib = |name: &str| -> f64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        rss += kib("Rss:");
        pss += kib("Pss:");
    }
    (rss, pss)
}

/// What `count` of something made a process grow by: each, by RSS and by PSS, under these two names.
pub(crate) fn growth(
    figures: &mut Figures,
    names: [&'static str; 2],
    before: (f64, f64),
    after: (f64, f64),
    count: usize,
) {
    figures.insert("rss_before_kib", before.0);
    figures.insert("rss_after_kib", after.0);
    figures.insert(names[0], (after.0 - before.0) / count as f64);
    figures.insert(names[1], (after.1 - before.1) / count as f64);
}

/// This process and all that it starts run on this core alone, until told otherwise, and before what else wants to run.
pub(crate) fn stay_on_core(core: usize) {
    let renice = Command::new("renice").args(["-n", "-15", "-p", &std::process::id().to_string()]).output().unwrap();
    assert!(renice.status.success(), "the bench needs root: {}", String::from_utf8_lossy(&renice.stderr));
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("the bench needs two cores");
}

/// A command on another core.
pub(crate) fn on_core(core: usize, program: &std::path::Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(&id) = all.get(next) {
        next += 1;
        for task in fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().map(|child| child.parse::<u32>().unwrap()));
        }
    }
    all
}

fn ticks_per_second() -> f64 {
    let output = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

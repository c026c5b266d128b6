//! Read what a container used from the kernel's own counters, in both versions of cgroups.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a container used so far, and has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    pub memory_peak_bytes: u64,
    /// Of its quota, with what the file system itself takes.
    pub disk_bytes: u64,
    pub pids: u64,
    pub oom_kills: u64,
}

/// The folders that count for one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Groups {
    V1 { cpuacct: PathBuf, memory: PathBuf, pids: PathBuf },
    V2(PathBuf),
}

/// Whether this machine has one tree of cgroups for everything.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

impl Groups {
    /// Those that the process `pid` is in.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let find = |controller: &str| {
            place(&lines, &mounts, controller).ok_or_else(|| {
                let what = if controller.is_empty() { "cgroup2" } else { controller };
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the cgroup {what} of process {pid} is mounted nowhere"),
                )
            })
        };
        if is_unified() {
            return find("").map(Self::V2);
        }
        Ok(Self::V1 { cpuacct: find("cpuacct")?, memory: find("memory")?, pids: find("pids")? })
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        Ok(match self {
            Self::V1 { cpuacct, memory, pids } => Usage {
                cpu_ns: number(&cpuacct.join("cpuacct.usage"))?,
                memory_bytes: number(&memory.join("memory.usage_in_bytes"))?,
                memory_peak_bytes: number(&memory.join("memory.max_usage_in_bytes"))?,
                disk_bytes: 0,
                pids: number(&pids.join("pids.current"))?,
                oom_kills: field(&memory.join("memory.oom_control"), "oom_kill")?,
            },
            Self::V2(group) => {
                let current = number(&group.join("memory.current"))?;
                Usage {
                    cpu_ns: field(&group.join("cpu.stat"), "usage_usec")?.saturating_mul(1000),
                    memory_bytes: current,
                    // From Linux 5.19 on.
                    memory_peak_bytes: number(&group.join("memory.peak")).unwrap_or(current),
                    disk_bytes: 0,
                    pids: number(&group.join("pids.current"))?,
                    oom_kills: field(&group.join("memory.events"), "oom_kill")?,
                }
            }
        })
    }
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|_| unread(path, &text))
}

/// A line `name number` of a file that has several.
fn field(path: &Path, name: &str) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.ok_or_else(|| unread(path, &text))
}

fn unread(path: &Path, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} says {text:?}", path.display()))
}

/// Where the cgroup of that controller, or of the second version where it is empty, lies on this machine.
fn place(lines: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let group = lines.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let is_it = parts.next()?.split(',').any(|name| name == controller);
        parts.next().filter(|_| is_it)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let (mount, system): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), system.split(' ').collect());
        let is_it = match controller {
            "" => system.first() == Some(&"cgroup2"),
            name => system.first() == Some(&"cgroup") && system.get(2)?.split(',').any(|option| option == name),
        };
        // Mounted from further down, as in a container of its own, what is above is not to be seen.
        let within = group.strip_prefix(mount.get(3)?.trim_end_matches('/')).filter(|_| is_it)?;
        Some(Path::new(mount.get(4)?).join(within.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_where_it_is_mounted() {
        let v1 = "8:pids:/hodei/a\n2:cpu,cpuacct:/hodei/a\n0::/";
        let mounts = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                      31 25 0:27 /hodei /mnt/pids rw shared:1 - cgroup cgroup rw,pids\n\
                      32 25 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let at = |controller| place(v1, mounts, controller);
        assert_eq!(at("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct/hodei/a".into()));
        assert_eq!(at("pids"), Some("/mnt/pids/a".into()));
        assert_eq!(at("memory"), None);
        assert_eq!(place("0::/hodei/b", mounts, ""), Some("/sys/fs/cgroup/hodei/b".into()));
    }
}

//! Write down for the engine what a container is, as the OCI runtime specification has it.

use crate::{
    cgroup, given,
    image::{Process, User},
    seccomp,
    spec::{Spec, UID_BASE, UIDS},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What servers' entrypoints need to hand files and themselves to another user, and to hear on small ports.
const CAPABILITIES: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
];
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const PERIOD_US: u64 = 100_000;
/// Folders in memory count as its memory; one alone may take this much of it.
const SHARED_BYTES_MAX: u64 = 64 << 20;
const FILES_MAX: u64 = 1 << 16;
/// When this machine itself runs out of memory, containers go before the agent.
const OOM_SCORE: i64 = 500;

/// The whole of `config.json`; `run` is the container's folder in `/run`.
pub(crate) fn config(spec: &Spec, process: &Process, user: &User, run: &Path, volumes: &[PathBuf]) -> Value {
    let folder = |name: &str| run.join(name).display().to_string();
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"], &[]),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime"], &["mode=755", "size=65536"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance"], &["ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"], &[]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"], &[]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"], &[]),
    ];
    let half = spec.memory_bytes / 2;
    for (at, bytes, mode, exec) in [
        ("/dev/shm", half.min(SHARED_BYTES_MAX), "mode=1777", "noexec"),
        ("/run", half.min(SHARED_BYTES_MAX), "mode=755", "noexec"),
        ("/tmp", half, "mode=1777", "exec"),
    ] {
        mounts.push(mount(at, "tmpfs", &["nosuid", "nodev", exec], &[mode, &format!("size={bytes}")]));
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(json!({ "destination": format!("/etc/{name}"), "type": "bind", "source": folder(name),
                            "options": ["bind", "ro", "nosuid", "nodev", "noexec"] }));
    }
    for (volume, source) in spec.volumes.iter().zip(volumes) {
        mounts.push(json!({ "destination": volume.path, "type": "bind", "source": source,
                            "options": ["bind", "nosuid", "nodev"] }));
    }
    mounts.extend(given::mounts(spec, run));
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"].map(|kind| json!({ "type": kind }));
    let shifted = json!([{ "containerID": 0, "hostID": UID_BASE, "size": UIDS }]);
    json!({
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": { "path": folder("rootfs"), "readonly": spec.is_read_only },
        "process": inside(process, user),
        "mounts": mounts,
        "linux": {
            "uidMappings": shifted.clone(),
            "gidMappings": shifted,
            "namespaces": namespaces,
            "cgroupsPath": format!("/hodei/{}", spec.id),
            "resources": resources(spec),
            "sysctl": { "net.ipv4.ip_unprivileged_port_start": "0" },
            "seccomp": seccomp::profile(),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn mount(at: &str, kind: &str, flags: &[&str], options: &[&str]) -> Value {
    let options: Vec<&str> = flags.iter().chain(options).copied().collect();
    json!({ "destination": at, "type": kind, "source": kind, "options": options })
}

fn inside(process: &Process, user: &User) -> Value {
    let mut env = process.env.clone();
    if !env.iter().any(|line| line.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    let files = hard_files().min(FILES_MAX);
    json!({
        "terminal": false,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": process.argv,
        "env": env,
        "cwd": process.workdir,
        "noNewPrivileges": true,
        "oomScoreAdj": own_oom_score().max(OOM_SCORE),
        "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        "rlimits": [
            { "type": "RLIMIT_NOFILE", "hard": files, "soft": files },
            { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
        ],
    })
}

fn resources(spec: &Spec) -> Value {
    let bytes = spec.memory_bytes;
    let mut resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        // As much with swap as without: none.
        "memory": { "limit": bytes, "swap": bytes },
        "cpu": { "quota": spec.cpu_milli * PERIOD_US / 1000, "period": PERIOD_US },
        "pids": { "limit": spec.pids },
    });
    if cgroup::is_unified() {
        // A hard limit alone can thrash for minutes over its file cache; and who runs out goes as a whole.
        resources["unified"] = json!({ "memory.high": (bytes - bytes / 16).to_string(), "memory.oom.group": "1" });
    }
    resources
}

/// As many open files as may be asked for: limits do not rise above the parent's.
fn hard_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is the kernel's, and outlives the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => limit.rlim_max,
        _ => 1024,
    }
}

fn own_oom_score() -> i64 {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

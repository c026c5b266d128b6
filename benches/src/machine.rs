//! Say what the disk has room for, and what a process holds in memory.

use anyhow::{Context as _, Result, ensure};
use std::{path::Path, process::Command};

const GIB: f64 = (1u64 << 30) as f64;

/// Prints what a run needs on the disk of `folder`; an error if less is free.
#[allow(dead_code, reason = "not every bench fills the disk")]
pub(crate) fn room(folder: &Path, what: &str, needs: u64) -> Result<()> {
    let asked = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output()?;
    let text = String::from_utf8(asked.stdout)?;
    let free: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).context("df told no bytes")?;
    println!("{what}: needs {:.1} GiB in {}, {:.1} are free", needs as f64 / GIB, folder.display(), free as f64 / GIB);
    ensure!(free > needs, "expected {needs} bytes free in {}, found {free}", folder.display());
    Ok(())
}

/// MiB that processes have in memory now, and the most each had, added up.
pub(crate) fn memory(pids: &[u32]) -> Result<(f64, f64)> {
    let (mut now, mut most) = (0.0, 0.0);
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).context("no such line of Linux")
        };
        now += of("VmRSS:")? / 1024.0;
        most += of("VmHWM:")? / 1024.0;
    }
    Ok((now, most))
}

/// Bytes that files below a folder take on its disk.
#[allow(dead_code, reason = "not every bench looks")]
pub(crate) fn held(folder: &Path) -> Result<u64> {
    let asked = Command::new("du").args(["-s", "-B1"]).arg(folder).output()?;
    let text = String::from_utf8(asked.stdout)?;
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("du told no bytes")
}

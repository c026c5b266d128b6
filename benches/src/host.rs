//! Start a node that offers to compute and nothing else, and look at what it has in memory.

use crate::{
    cloud::{Cloud, children},
    peer::{run, stop, until},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What the host calls the demo's cloud.
const CONTEXT: &str = "bench";
const APP: &str = "idle";
/// Where no host of the demo is.
const REGION: &str = "eu-west";

/// A node with folders of its own, which go with it.
pub(crate) struct Host {
    process: Child,
    folder: PathBuf,
}

impl Host {
    /// Joins the demo's cloud by an invitation, offers, and runs until the market has its offer.
    pub(crate) fn start(cloud: &Cloud, folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let invited = owner(cloud, &["net", "invite", "--coins", "20", "-y"])?;
        let ticket = invited["ticket"].as_str().context("an invitation without its ticket")?;
        told(of(&folder)?.args(["net", "join", ticket, "--context-name", CONTEXT]))?;
        let offer = ["-C", CONTEXT, "node", "offer", "compute", "--cpus", "1", "--memory", "1GiB", "--region", REGION];
        let offered = told(of(&folder)?.args(offer).arg("-y"))?;
        let node = offered["folder"].as_str().context("an offer without its node's folder")?;
        let process = of(&folder)?
            .args(["-C", CONTEXT, "node", "run", "--folder", node])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("messages.txt"))?)
            .spawn()?;
        let host = Self { process, folder };
        until("the host's offer", || {
            let plan = owner(cloud, &["deploy", text(&component())?, "--name", APP, "--region", REGION, "--dry-run"])?;
            ensure!(plan["places"].as_array().is_some_and(|places| !places.is_empty()), "no place: {plan}");
            Ok(())
        })?;
        Ok(host)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Places so many replicas on it, and returns once they are ready.
    pub(crate) fn deploy(&self, cloud: &Cloud, component: &Path, replicas: usize) -> Result<()> {
        let replicas = replicas.to_string();
        let words = ["deploy", text(component)?, "--name", APP, "--replicas", &replicas, "--per-host", "0"];
        owner(cloud, &[&words[..], &["--region", REGION, "--term", "1h", "-y"]].concat()).map(drop)
    }

    /// Its replicas' processes.
    pub(crate) fn children(&self) -> Result<Vec<u32>> {
        children(self.id(), "run-sandbox")
    }

    /// Its proportional share of what it has in memory, and its replicas': pages that several map are counted once.
    pub(crate) fn pss(&self) -> Result<String> {
        let own = pss(self.id()).context("the kernel tells no PSS of the node")?;
        let children = self.children()?;
        let shares: Option<f64> = children.iter().map(|id| pss(*id)).sum();
        Ok(match shares {
            Some(shares) if !children.is_empty() => {
                format!("PSS {own:.1} MiB and {shares:.1} of {} replicas", children.len())
            }
            None => format!("PSS {own:.1} MiB; that of replicas only root reads"),
            Some(_) => format!("PSS {own:.1} MiB"),
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        stop(&mut self.process);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// MiB of a process' proportional share.
fn pss(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

fn component() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.wat")
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// A command of the demo's owner; the last line of its result.
fn owner(cloud: &Cloud, words: &[&str]) -> Result<Value> {
    let context = cloud.doors["context"].as_str().context("the demo names no context")?;
    told(Command::new(binary()?).args(["-C", context]).args(words))
}

/// A command of the host's operator, who has folders of its own.
fn of(folder: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.env("HOME", folder);
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HODEI_CONTEXT", "HODEI_JSON", "HODEI_NODE"] {
        command.env_remove(name);
    }
    Ok(command)
}

fn binary() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("hodei"))
}

fn told(command: &mut Command) -> Result<Value> {
    let printed = run(command.arg("--json"))?;
    let last = printed.lines().rfind(|line| line.starts_with('{')).context("a command told nothing")?;
    Ok(serde_json::from_str(last)?)
}

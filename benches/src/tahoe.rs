//! Run a Tahoe-LAFS grid on this machine: an introducer, six storage servers and a client, coded 3 of 6.

use crate::{load::Door, peer};
use anyhow::{Result, ensure};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

const SERVERS: usize = 6;

/// The grid; killed when dropped.
pub(crate) struct Tahoe {
    processes: Vec<Child>,
    pub(crate) door: Door,
}

impl Tahoe {
    pub(crate) async fn start(binary: &Path, folder: &Path, client: &reqwest::Client) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let web = peer::port()?;
        let url = format!("http://127.0.0.1:{web}");
        let mut grid = Self { processes: Vec::new(), door: Door::Tahoe { url: url.clone() } };
        let introducer = folder.join("introducer");
        listening(binary, "create-introducer", &[], &introducer)?;
        grid.run(binary, &introducer)?;
        let furl = introducer.join("private/introducer.furl");
        let furl = peer::until("Tahoe's introducer", || Ok(std::fs::read_to_string(&furl)?))?;
        let introduced = ["--introducer", furl.trim()];
        for number in 0..SERVERS {
            let server = folder.join(format!("server-{number}"));
            listening(binary, "create-node", &introduced, &server)?;
            grid.run(binary, &server)?;
        }
        let here = folder.join("client");
        let port = format!("tcp:{web}:interface=127.0.0.1");
        let shares = ["--shares-needed", "3", "--shares-happy", "6", "--shares-total", "6", "--webport", &port];
        let mut create = Command::new(binary);
        peer::run(create.arg("create-client").args(introduced).args(shares).arg(&here))?;
        grid.run(binary, &here)?;
        // It is ready when a file goes in over all six.
        for _ in 0..peer::TRIES {
            if let Ok(answer) = client.put(format!("{url}/uri")).body(vec![7u8; 4096]).send().await
                && answer.status().is_success()
            {
                return Ok(grid);
            }
            std::thread::sleep(peer::REST);
        }
        anyhow::bail!("Tahoe's servers did not meet")
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.processes.iter().map(Child::id).collect()
    }

    fn run(&mut self, binary: &Path, folder: &Path) -> Result<()> {
        let log = std::fs::File::create(folder.join("bench.log"))?;
        let mut run = Command::new(binary);
        run.arg("run").arg("--allow-stdin-close").arg(folder);
        self.processes.push(run.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }
}

/// Makes the folder of a node that listens on loopback.
fn listening(binary: &Path, what: &str, words: &[&str], folder: &Path) -> Result<()> {
    let port = peer::port()?;
    let (bind, told) = (format!("tcp:{port}:interface=127.0.0.1"), format!("tcp:127.0.0.1:{port}"));
    let mut create = Command::new(binary);
    create.arg(what).args(words).args(["--listen=tcp", "--port", &bind, "--location", &told]);
    if what == "create-node" {
        create.args(["--webport", "none"]);
    }
    peer::run(create.arg(folder))?;
    ensure!(folder.is_dir(), "tahoe {what} made no {}", folder.display());
    Ok(())
}

impl Drop for Tahoe {
    fn drop(&mut self) {
        self.processes.iter_mut().for_each(peer::stop);
    }
}

//! Run four Garage nodes that keep three copies, on this machine.

use crate::{load::Door, peer};
use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const NODES: usize = 4;
const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The nodes; killed when dropped.
pub(crate) struct Garage {
    nodes: Vec<Child>,
    pub(crate) door: Door,
}

impl Garage {
    /// `is_synced`: answers only when data and metadata are on disk, as hodei does. Its own default is not.
    pub(crate) fn start(binary: &Path, folder: &Path, is_synced: bool) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut configs: Vec<PathBuf> = Vec::new();
        let mut s3 = 0;
        for number in 0..NODES {
            let here = folder.join(format!("{number}"));
            std::fs::create_dir_all(&here)?;
            let (rpc, api) = (peer::port()?, peer::port()?);
            if number == 0 {
                s3 = api;
            }
            let config = format!(
                "metadata_dir = {:?}\ndata_dir = {:?}\ndb_engine = \"lmdb\"\nreplication_factor = 3\n\
                 metadata_fsync = {is_synced}\ndata_fsync = {is_synced}\n\
                 rpc_secret = {SECRET:?}\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
                 [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{api}\"\nroot_domain = \".localhost\"\n",
                here.join("meta"),
                here.join("data"),
            );
            let path = here.join("garage.toml");
            std::fs::write(&path, config)?;
            let log = std::fs::File::create(here.join("log"))?;
            let mut server = Command::new(binary);
            server.arg("-c").arg(&path).arg("server").env("RUST_LOG", "garage=warn");
            nodes.push(server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
            configs.push(path);
        }
        let bucket = "bench";
        let garage = Self { nodes, door: Door::s3(&format!("http://127.0.0.1:{s3}"), "garage", bucket, KEY, SECRET)? };
        let ask = |config: &Path, words: &[&str]| peer::run(Command::new(binary).arg("-c").arg(config).args(words));
        let mut ids = Vec::new();
        for config in &configs {
            let id = peer::until("a Garage node's id", || ask(config, &["node", "id", "-q"]))?;
            ids.push(id.trim().to_owned());
        }
        for id in &ids[1..] {
            peer::until("Garage's nodes to meet", || ask(&configs[0], &["node", "connect", id]))?;
        }
        for (number, id) in ids.iter().enumerate() {
            let id = id.split('@').next().context("an id has an address")?;
            let zone = format!("zone{number}");
            ask(&configs[0], &["layout", "assign", "-z", &zone, "-c", "20G", id])?;
        }
        ask(&configs[0], &["layout", "apply", "--version", "1"])?;
        peer::until("Garage's layout", || ask(&configs[0], &["key", "import", "--yes", "-n", "bench", KEY, SECRET]))?;
        ask(&configs[0], &["bucket", "create", bucket])?;
        ask(&configs[0], &["bucket", "allow", "--read", "--write", "--owner", bucket, "--key", KEY])?;
        let status = ask(&configs[0], &["status"])?;
        ensure!(!status.contains("FAILED"), "Garage is not well: {status}");
        Ok(garage)
    }
}

impl Garage {
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.nodes.iter().map(Child::id).collect()
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(peer::stop);
    }
}

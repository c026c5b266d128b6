//! Give a test hosts that compute, and the door to the apps on them.

use super::{Network, Node, User};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A machine that offers to compute, of an operator of its own.
pub(crate) struct Host {
    pub(crate) process: Option<Node>,
    pub(crate) account: String,
    folder: PathBuf,
    user: User,
}

impl Host {
    /// Three commands: join by a ticket, offer, run.
    pub(crate) fn start(network: &Network, zone: &str) -> Self {
        Self::start_with(network, zone, 60)
    }

    /// The same, where what is on call is kept for so many seconds that nobody asks.
    pub(crate) fn start_with(network: &Network, zone: &str, idle_secs: u64) -> Self {
        Self::offering(network, zone, idle_secs, &[])
    }

    /// One that runs containers.
    pub(crate) fn of_containers(network: &Network, zone: &str) -> Self {
        Self::offering(network, zone, 60, &["--runtime", "oci"])
    }

    fn offering(network: &Network, zone: &str, idle_secs: u64, more: &[&str]) -> Self {
        let user = User::new(&format!("host-{zone}"));
        let (ticket, _) = network.invite("20");
        user.one(&["net", "join", &ticket]);
        let words = ["node", "offer", "compute", "--cpus", "1", "--memory", "512MiB", "--zone", zone, "-y"];
        let offered = user.one(&[&["-C", network.name.as_str()], &words[..], more].concat());
        let folder = PathBuf::from(offered["folder"].as_str().unwrap());
        let settings = std::fs::read_to_string(folder.join("node.toml")).unwrap();
        assert!(settings.contains("idle_secs = 60\n"), "{settings}");
        let settings = settings.replace("idle_secs = 60\n", &format!("idle_secs = {idle_secs}\n"));
        std::fs::write(folder.join("node.toml"), settings).unwrap();
        let process = Node::start(&user, &["-C", &network.name, "node", "run"], folder.clone());
        Self { process: Some(process), account: offered["account"].as_str().unwrap().into(), folder, user }
    }

    /// Starts its agent again, which was killed.
    pub(crate) fn again(&mut self, network: &Network) {
        let words = ["-C", network.name.as_str(), "node", "run"];
        self.process = Some(Node::start(&self.user, &words, self.folder.clone()));
    }

    /// The first process of a container of its, while there is one.
    pub(crate) fn container(&self) -> Option<u64> {
        let containers = std::fs::read_dir(self.folder.join("containers/containers")).ok()?;
        let states = containers.filter_map(|folder| std::fs::read(folder.ok()?.path().join("state.json")).ok());
        states.filter_map(|state| serde_json::from_slice::<Value>(&state).ok()?["pid"].as_u64()).next()
    }

    /// Leases whose containers have volumes here.
    pub(crate) fn volumes(&self) -> usize {
        std::fs::read_dir(self.folder.join("containers/volumes")).map_or(0, |left| left.count())
    }

    /// Its key, as its running node tells it.
    pub(crate) fn key(&self) -> Option<String> {
        let ready: Value = serde_json::from_slice(&std::fs::read(self.folder.join("ready.json")).ok()?).ok()?;
        Some(ready["node"].as_str()?.to_owned())
    }
}

/// The door to a wallet's apps, and the upkeep behind it.
pub(crate) struct Door {
    process: Child,
    address: SocketAddr,
}

impl Door {
    pub(crate) fn open(network: &Network) -> Self {
        let words = ["-C", &network.name, "app", "serve", "--listen", "127.0.0.1:0", "--json"];
        let mut process = network.user.command(&words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // What it tells later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = ready["endpoint"].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Status, lease and body of an answer.
    pub(crate) fn get(&self, host: &str) -> (u16, Option<u64>, String) {
        let (status, headers, body) = self.headed(host);
        (status, headers.get("x-hodei-lease").and_then(|lease| lease.parse().ok()), body)
    }

    /// Status, headers by their names in lower case, and body of an answer.
    pub(crate) fn headed(&self, host: &str) -> (u16, BTreeMap<String, String>, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Of this version an answer ends with its connection, and comes in no chunks.
        write!(socket, "GET /any?thing HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        (status, headers, body.to_owned())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn example(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn wei(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("no amount: {value}")).parse().unwrap()
}

/// What the wallet's account gave away beside fees, as its history adds up.
pub(crate) fn spent(network: &Network) -> i128 {
    let all = network.one(&["wallet", "history", "--last", "1000"]);
    assert_eq!((all["schema"].as_str(), all["is_more"].as_bool()), (Some("hodei.wallet.history/1"), Some(false)));
    wei(&all["out_wei"]) as i128 - wei(&all["in_wei"]) as i128
}

/// Layer, config and list of an image as `docker save` writes them, of nothing but busybox and a page.
const SAVE: &str = r#"
set -e
mkdir -p layer/bin layer/www layer/etc layer/tmp
cp "$(command -v busybox)" layer/bin/busybox
for name in sh httpd cat echo sleep hostname; do ln -s busybox layer/bin/$name; done
echo "$1" > layer/www/any
tar --sort=name --mtime=@0 --owner=0 --group=0 -C layer -cf layer.tar .
hash=$(sha256sum layer.tar | cut -d' ' -f1)
printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["httpd","-f","-vv","-p","8000","-h","/www"],"ExposedPorts":{"8000/tcp":{}}},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $hash > config.json
printf '[{"Config":"config.json","RepoTags":["page:%s"],"Layers":["layer.tar"]}]' "$2" > manifest.json
tar -cf image.tar manifest.json config.json layer.tar
"#;

/// An archive with an image that serves a page.
pub(crate) fn image(user: &User, page: &str, tag: &str) -> String {
    let folder = user.folder().join(format!("image-{tag}"));
    std::fs::create_dir_all(&folder).unwrap();
    let made = Command::new("sh").args(["-c", SAVE, "save", page, tag]).current_dir(&folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder.join("image.tar").to_str().unwrap().to_owned()
}

//! Build a tiny image around the system's static busybox, without a builder.

use hodei_types::app::container::{Blob, Container, Layer, Packing, Reach, Restart};
use sha2::{Digest as _, Sha256};

const APPLETS: [&str; 8] = ["cat", "echo", "httpd", "sh", "sleep", "touch", "true", "wget"];
const BLOCK: usize = 512;

/// An image's config and its one layer, and the container that names them.
pub(crate) struct Image {
    pub(crate) container: Container,
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Image {
    /// Runs a line of shell, and answers at port 80.
    pub(crate) fn new(line: &str, reaches: Vec<Reach>) -> Self {
        let layer = layer();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": { "Entrypoint": ["/bin/sh", "-c"], "Cmd": [line], "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))] },
        });
        let config = serde_json::to_vec(&config).unwrap();
        let blob = |bytes: &[u8]| Blob { sha256: Sha256::digest(bytes).into(), bytes: bytes.len() as u64 };
        let container = Container {
            image: "busybox".into(),
            digest: [1; 32],
            config: blob(&config),
            layers: vec![Layer { blob: blob(&layer), packing: Packing::Plain }],
            entrypoint: None,
            command: None,
            env: Vec::new(),
            workdir: String::new(),
            user: String::new(),
            is_read_only: false,
            port: 80,
            health: None,
            restart: Restart::Always,
            stop_secs: 1,
            reaches,
            salt: [2; 16],
            volumes: Vec::new(),
            files: Vec::new(),
        };
        Self { container, blobs: vec![config, layer] }
    }
}

/// A tar with busybox, its names, and a page to serve.
fn layer() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("/bin/busybox is missing: apt-get install busybox-static");
    let mut tar = Vec::new();
    for folder in ["bin/", "data/", "etc/", "www/"] {
        entry(&mut tar, b'5', folder, "", 0o755, b"");
    }
    entry(&mut tar, b'0', "bin/busybox", "", 0o755, &program);
    for applet in APPLETS {
        entry(&mut tar, b'2', &format!("bin/{applet}"), "busybox", 0o777, b"");
    }
    // Names are in its own file alone.
    entry(&mut tar, b'0', "etc/nsswitch.conf", "", 0o644, b"hosts: files\n");
    entry(&mut tar, b'0', "www/index.html", "", 0o644, b"a page of the image\n");
    tar.extend_from_slice(&[0; 2 * BLOCK]);
    tar
}

/// One entry as POSIX has it.
fn entry(tar: &mut Vec<u8>, kind: u8, name: &str, link: &str, mode: u32, bytes: &[u8]) {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000001");
    // While it is summed, the sum itself is blanks.
    put(148, "        ");
    put(157, link);
    put(257, "ustar");
    put(263, "00");
    head[156] = kind;
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend_from_slice(&head);
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

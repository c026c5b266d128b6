//! Build tiny images, honest and hostile, around the system's static busybox.

use hodei_container::{Blob, Layer, Packing, Spec};
use sha2::{Digest, Sha256};
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use tar::{Builder, EntryType, Header};

const APPLETS: [&str; 24] = [
    "cat", "chmod", "dd", "df", "echo", "grep", "head", "httpd", "id", "ip", "ls", "mkdir", "mount", "nc", "ps", "sh",
    "sleep", "stat", "touch", "true", "unshare", "wc", "wget", "yes",
];

/// A layer that is being made.
pub(crate) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry whose names are written as they are, also where no builder would.
    pub(crate) fn entry(mut self, kind: EntryType, name: &str, link: &str, mode: u32, bytes: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        if matches!(kind, EntryType::Block | EntryType::Char) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        self.entry(EntryType::Regular, name, "", 0o644, text.as_bytes())
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }

    pub(crate) fn link(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, name, to, 0o777, b"")
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A layer with busybox, users, a page to serve, and a set-uid copy of busybox.
pub(crate) fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("/bin/busybox is missing: apt-get install busybox-static");
    let mut tar = Tar::new();
    for folder in ["bin", "etc", "www", "data", "suid"] {
        tar = tar.folder(folder);
    }
    tar = tar.entry(EntryType::Regular, "bin/busybox", "", 0o755, &program);
    for applet in APPLETS {
        tar = tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.entry(EntryType::Regular, "suid/busybox", "", 0o4755, &program)
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/www:/bin/sh\n")
        .file("etc/group", "root:x:0:\nweb:x:33:\n")
        .file("www/index.html", "a page of the image\n")
        .bytes()
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A spec of an image with these plain layers, gzipped, which runs `command` by a shell.
pub(crate) fn spec(folder: &Path, id: &str, layers: &[Vec<u8>], command: &str) -> Spec {
    let mut files = Vec::new();
    let mut diff_ids = Vec::new();
    for plain in layers {
        diff_ids.push(format!("sha256:{}", hex::encode(Sha256::digest(plain))));
        files.push(layer(folder, &gzip(plain), Packing::Gzip));
    }
    Spec {
        id: id.into(),
        config: config(&diff_ids, command),
        layers: files,
        entrypoint: None,
        command: None,
        env: Vec::new(),
        workdir: None,
        user: None,
        hostname: id.into(),
        cpu_milli: 1000,
        memory_bytes: 64 << 20,
        disk_bytes: 64 << 20,
        pids: 64,
        hosts: vec![("db".into(), [127, 0, 0, 7].into())],
        is_read_only: false,
        stop_signal: None,
        stop_secs: 1,
        volumes: Vec::new(),
        files: Vec::new(),
    }
}

pub(crate) fn layer(folder: &Path, packed: &[u8], packing: Packing) -> (Layer, PathBuf) {
    let sha256: [u8; 32] = Sha256::digest(packed).into();
    let path = folder.join(hex::encode(sha256));
    std::fs::write(&path, packed).unwrap();
    (Layer { blob: Blob { sha256, bytes: packed.len() as u64 }, packing }, path)
}

pub(crate) fn config(diff_ids: &[String], command: &str) -> Vec<u8> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let text = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": { "Entrypoint": ["/bin/sh", "-c"], "Cmd": [command], "Env": ["FROM=image"], "WorkingDir": "/data" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    serde_json::to_vec(&text).unwrap()
}

//! Use a mounted bucket with ordinary programs; kill the mount, and let two of them disagree.
//!
//! Needs /dev/fuse, and root or fusermount3: the test fails and says so where they are missing, since what it shows
//! cannot be shown without.

mod machines;

use machines::{
    content,
    demo::{Demo, text, wait_for},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A cloud at a time: each is ten processes.
static ALONE: Mutex<()> = Mutex::new(());

/// What this file asks of a demo besides.
trait Files {
    fn path(&self, name: &str) -> PathBuf;
    fn object(&self, key: &str) -> Vec<u8>;
    fn has(&self, key: &str) -> bool;
}

impl Files for Demo {
    fn path(&self, name: &str) -> PathBuf {
        self.user.folder().join(name)
    }

    /// What the bucket has under a key, got without a mount.
    fn object(&self, key: &str) -> Vec<u8> {
        let to = self.path("got");
        self.one(&["data", "cp", &format!("hodei://files/{key}"), text(&to)]);
        fs::read(to).unwrap()
    }

    fn has(&self, key: &str) -> bool {
        let (code, lines, error) = self.user.run(&self.words(&["data", "list", &format!("hodei://files/{key}")]));
        assert_eq!(code, 0, "{error}");
        lines.iter().any(|line| line["key"] == key)
    }
}

/// A mount, and what it said.
struct Mounted {
    process: Child,
    folder: PathBuf,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Mounted {
    fn start(demo: &Demo, name: &str, bucket: &str, more: &[&str]) -> Self {
        let folder = demo.path(name);
        fs::create_dir_all(&folder).unwrap();
        let words = demo.words(&[&["data", "mount", bucket, text(&folder), "--json"], more].concat());
        let (mut process, errors) = {
            let path = demo.path(&format!("{name}.txt"));
            let errors = fs::File::create(&path).unwrap();
            (demo.user.command(&words).stdout(Stdio::piped()).stderr(errors).spawn().unwrap(), path)
        };
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said: Arc<Mutex<Vec<Value>>> = Arc::default();
        loop {
            let Some(Ok(line)) = lines.next() else { panic!("not mounted: {}", fs::read_to_string(errors).unwrap()) };
            let line: Value = serde_json::from_str(&line).unwrap();
            let is_ready = line["schema"] == "hodei.mount.ready/1";
            said.lock().unwrap().push(line);
            if is_ready {
                break;
            }
        }
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, folder, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn events(&self, event: &str) -> Vec<Value> {
        self.said.lock().unwrap().iter().filter(|line| line["event"] == event).cloned().collect()
    }

    /// The only event of its kind; it comes by a pipe, and so perhaps a little later.
    fn event(&self, event: &str) -> Value {
        wait_for(event, || !self.events(event).is_empty());
        let mut events = self.events(event);
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Its exit code, once it is asked for by a signal.
    fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.process.wait().unwrap().code()
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("umount").args(["-l", text(&self.folder)]).stderr(Stdio::null()).status();
    }
}

/// What a shell says, run in a folder.
fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Fails where no test of this file can say anything.
fn need_fuse() {
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    assert!(
        device.is_ok(),
        "these tests need /dev/fuse, which cannot be opened here: {device:?}. Load the module (modprobe fuse), or give the container the device"
    );
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let has_helper = Command::new("fusermount3").arg("-V").output().is_ok();
    assert!(is_root || has_helper, "these tests need root, or fusermount3: apt-get install fuse3");
}

#[test]
fn a_mounted_bucket_is_a_folder() {
    need_fuse();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("mount");
    demo.one(&["data", "create", "files", "-y"]);
    let large = content(7, 5 << 20);
    let source = demo.path("source");
    fs::write(&source, &large).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    fs::File::options().write(true).open(&source).unwrap().set_modified(then).unwrap();
    demo.one(&["data", "cp", text(&source), "hodei://files/deep/er/large"]);
    demo.one(&["data", "cp", text(&source), "hodei://files/odd//name"]);

    // Where nothing should be mounted, nothing is.
    fs::create_dir(demo.path("full")).unwrap();
    fs::write(demo.path("full/file"), "x").unwrap();
    demo.user.refused(&demo.words(&["data", "mount", "files", text(&demo.path("full"))]), "HD3030");
    fs::create_dir(demo.path("empty")).unwrap();
    demo.user.refused(&demo.words(&["data", "mount", "absent-bucket", text(&demo.path("empty"))]), "HD3001");

    let mount = Mounted::start(&demo, "one", "files", &[]);
    let at = |name: &str| mount.path(name);
    // Read: whole, by ranges from any place, by two programs.
    assert_eq!(fs::read(at("deep/er/large")).unwrap(), large);
    let file = fs::File::open(at("deep/er/large")).unwrap();
    for (from, count) in [(0, 1), (5 << 20, 10), ((5 << 20) - 3, 10), (1_234_567, 700_000), (786_400, 64)] {
        let mut range = vec![0; count];
        let mut got = 0;
        while let Ok(more @ 1..) = file.read_at(&mut range[got..], (from + got) as u64) {
            got += more;
        }
        assert!(range[..got] == large[from.min(large.len())..(from + count).min(large.len())], "{count} from {from}");
    }
    drop(file);
    let sum = sh(&mount.folder, "sha256sum deep/er/large | cut -c1-64");
    assert_eq!(sum, sh(demo.user.folder(), "sha256sum source | cut -c1-64"));
    assert_eq!(sh(&mount.folder, "dd if=deep/er/large bs=1000 skip=3 count=5 status=none | wc -c"), "5000");
    assert_eq!(sh(&mount.folder, "ls; ls deep; find . -type f | sort"), "deep\nodd\ner\n./deep/er/large");
    assert_eq!(mount.event("hidden")["object"], "hodei://files/odd//", "of keys that are no names one is told");

    // Written: copied with its time, appended, changed in the middle, cut, by programs that open for others.
    sh(&mount.folder, "cp -p ../source copy && cmp ../source copy");
    assert_eq!(fs::metadata(at("copy")).unwrap().modified().unwrap(), then);
    assert!(demo.object("copy") == large);
    sh(&mount.folder, "printf hello > small; printf ' world' >> small; (printf '!'; sh -c 'printf ?') >> small");
    assert_eq!(
        (fs::read_to_string(at("small")).unwrap().as_str(), demo.object("small").as_slice()),
        ("hello world!?", &b"hello world!?"[..])
    );
    let mut file = fs::File::options().read(true).write(true).open(at("copy")).unwrap();
    file.seek(SeekFrom::Start(3_000_000)).unwrap();
    file.write_all(b"changed").unwrap();
    file.sync_all().unwrap();
    let mut changed = large.clone();
    changed[3_000_000..3_000_007].copy_from_slice(b"changed");
    assert!(demo.object("copy") == changed, "fsync stores");
    file.set_len(10).unwrap();
    drop(file);
    assert_eq!(demo.object("copy"), large[..10]);
    sh(&mount.folder, "touch -d @1500000000 copy empty; test \"$(stat -c %Y copy)\" = 1500000000; test ! -s empty");
    wait_for("the empty file", || demo.has("empty"));

    // Moved and removed; folders.
    sh(&mount.folder, "mkdir new && mv copy new/moved && mv new/moved small && test ! -e copy && ls new");
    assert_eq!(demo.object("small"), large[..10]);
    assert!(!demo.has("copy") && !demo.has("new/moved"));
    sh(&mount.folder, "mv deep moved && test ! -e deep && cmp moved/er/large ../source && rm -r moved && rmdir new");
    assert!(!demo.has("deep/er/large") && !demo.has("moved/er/large"));
    sh(&mount.folder, "! ln small link 2>/dev/null; ! ln -s small link 2>/dev/null; chmod 600 small");
    assert_eq!(fs::metadata(at("small")).unwrap().permissions().mode() & 0o777, 0o644, "modes are not kept");
    mount.event("ignored");
    sh(&mount.folder, "df . | tail -1 | grep -q hodei");
    // A file that is removed while it is open is read to its end.
    let mut open = fs::File::open(at("small")).unwrap();
    fs::remove_file(at("small")).unwrap();
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, large[..10]);
    drop(open);
    // What others put is seen.
    demo.one(&["data", "cp", text(&source), "hodei://files/from/elsewhere"]);
    wait_for("what others put", || at("from/elsewhere").exists());
    assert_eq!(mount.stop(), Some(0));
    assert!(!demo.path("one/from").exists(), "it is unmounted");

    // A part of it, to be read alone; ended from outside.
    let mut mount = Mounted::start(&demo, "two", "hodei://files/from", &["--read-only"]);
    assert!(fs::read(mount.path("elsewhere")).unwrap() == large);
    assert!(fs::write(mount.path("elsewhere"), "x").is_err() && fs::remove_file(mount.path("elsewhere")).is_err());
    sh(demo.user.folder(), "umount two");
    assert_eq!(mount.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_killed_mount_shows_nothing_half_and_loses_nothing_and_no_writer_undoes_another() {
    need_fuse();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("mount-killed");
    demo.one(&["data", "create", "files", "-y"]);
    let source = demo.path("source");
    fs::write(&source, "as it was").unwrap();
    demo.one(&["data", "cp", text(&source), "hodei://files/report"]);

    // Killed in the middle of a write.
    let mut mount = Mounted::start(&demo, "killed", "files", &[]);
    let mut file = fs::File::options().write(true).truncate(true).open(mount.path("report")).unwrap();
    let half = content(9, 1 << 20);
    file.write_all(&half).unwrap();
    let mut new = fs::File::create(mount.path("new")).unwrap();
    new.write_all(b"never closed").unwrap();
    mount.signal("-KILL");
    assert_eq!(mount.process.wait().unwrap().signal(), Some(9));
    drop((file, new));
    assert_eq!(demo.object("report"), b"as it was");
    assert!(!demo.has("new"));
    demo.user.refused(&demo.words(&["data", "mount", "files", text(&demo.path("killed"))]), "HD3030");
    sh(demo.user.folder(), "umount killed");

    // The next one finds what was written.
    let one = Mounted::start(&demo, "one", "files", &[]);
    let found = one.events("found");
    let kept = |object: &str| {
        let event =
            found.iter().find(|event| event["object"] == object).unwrap_or_else(|| panic!("{object}: {found:?}"));
        fs::read(event["file"].as_str().unwrap()).unwrap()
    };
    assert!(kept("hodei://files/report") == half && kept("hodei://files/new") == b"never closed");

    // Two mounts change one file: the second close is refused, and what it wrote is kept.
    let two = Mounted::start(&demo, "two", "files", &[]);
    let open = |mount: &Mounted| fs::File::options().write(true).open(mount.path("report")).unwrap();
    let (mut first, mut second) = (open(&one), open(&two));
    first.write_all(b"by the first").unwrap();
    second.write_all(b"by the other").unwrap();
    first.sync_all().unwrap();
    let refused = second.sync_all().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(116), "ESTALE, not {refused}");
    drop((first, second));
    assert_eq!(demo.object("report"), b"by the first");
    assert_eq!(fs::read(two.event("kept")["file"].as_str().unwrap()).unwrap(), b"by the other");
    wait_for("the first one's", || fs::read(two.path("report")).is_ok_and(|bytes| bytes == b"by the first"));
    // Who was refused is told again at the end.
    assert_eq!(two.stop(), Some(9));
    assert_eq!(one.stop(), Some(0));
}

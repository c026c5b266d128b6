//! Run tiny images in containers, and let them try to get out.
//!
//! Needs root, runc, mkfs.ext4, and busybox-static; `./check` installs them.
#![cfg(target_os = "linux")]

mod hostile;
mod image;

use hodei_container::{Container, Engine, Entering, Error, Exit, Packing, Program, Spec};
use hodei_types::app::given::Given;
use hodei_types::app::volume::{Kind, Volume};
use image::{Tar, busybox, spec};
use sha2::{Digest, Sha256};
use std::{path::Path, time::Duration};
use tar::EntryType;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A folder with an engine in it, whose containers go with it.
struct House {
    folder: TempDir,
    engine: Engine,
}

/// A test that failed leaves nothing running or mounted either.
impl Drop for House {
    fn drop(&mut self) {
        let left = self.folder.path().join("engine/containers");
        for id in std::fs::read_dir(left).into_iter().flatten().flatten().map(|left| left.file_name()) {
            let (engine, id) = (self.engine.clone(), id.into_string().unwrap());
            // This thread is within a runtime, which waits for nothing any more.
            let cleared = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    if let Ok(Some(container)) = Container::adopt(&engine, &id).await {
                        container.delete().await.ok();
                    }
                });
            });
            cleared.join().ok();
        }
        let left = self.folder.path().join("engine/volumes");
        for id in std::fs::read_dir(left).into_iter().flatten().flatten().map(|left| left.file_name()) {
            self.engine.remove_volumes(id.to_str().unwrap()).ok();
        }
    }
}

/// One of a kind on this machine, whoever else tests.
fn id(name: &str) -> String {
    format!("test-{name}-{:08x}", rand::random::<u32>())
}

fn open(folder: &Path) -> Engine {
    let keeper = Program::new(env!("CARGO_BIN_EXE_hodei-container"), [] as [&str; 0]);
    Engine::find(folder.join("engine"))
        .unwrap_or_else(|error| panic!("these tests need root and runc: {error}"))
        .kept_by(keeper)
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path());
        Self { folder, engine }
    }

    fn spec(&self, name: &str, command: &str) -> Spec {
        spec(self.folder.path(), &id(name), &[busybox()], command)
    }

    async fn started(&self, spec: Spec) -> Container {
        let container = Container::create(&self.engine, spec).await.unwrap_or_else(|error| panic!("{error}"));
        container.start().await.unwrap_or_else(|error| panic!("{error}"));
        container
    }

    /// Runs to its end, and gives how that was and what was said.
    async fn run(&self, spec: Spec) -> (Exit, String) {
        let container = self.started(spec).await;
        let exit = tokio::time::timeout(Duration::from_secs(60), container.wait()).await.expect("it ends");
        let said = said(&container);
        container.delete().await.unwrap();
        (exit, said)
    }
}

fn said(container: &Container) -> String {
    container.logs().iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// Runs a shell line inside; gives its code and all that it said.
async fn shell(container: &Container, line: &str) -> (i32, String) {
    let words = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let mut exec = container.exec(Entering { argv: words, ..Entering::default() }).await.unwrap();
    drop(exec.stdin.take());
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (exec.stdout.take().unwrap(), exec.stderr.take().unwrap());
    let (one, other) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    one.and(other).unwrap();
    (exec.wait().await.unwrap(), out + &err)
}

async fn get(container: &Container) -> String {
    for _ in 0..200 {
        if let Ok(mut stream) = container.connect(80).await {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody hears on port 80: {}", said(container));
}

#[tokio::test]
async fn an_image_serves_is_asked_further_and_is_stopped() {
    let house = House::new();
    let mut asked = house.spec("serves", "echo from $FROM as $(id -u) in $PWD; exec httpd -f -p 80 -h /www");
    asked.user = Some("web".into());
    let container = house.started(asked).await;
    let answer = get(&container).await;
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("a page of the image\n"), "{answer}");
    assert_eq!(said(&container), "from image as 33 in /data\n");
    let (code, said) = shell(&container, "cat /etc/hosts; cat; exit 7").await;
    assert!(code == 7 && said.contains("127.0.0.7 db"), "{code} {said}");
    let exit = container.stop(None).await.unwrap();
    assert!(exit.code.is_some() || exit.signal.is_some(), "{exit:?}");
    let logs = container.logs();
    container.delete().await.unwrap();
    assert!(logs[1].exists(), "what it said is kept");
}

#[tokio::test]
async fn exit_codes_and_both_streams_are_kept() {
    let house = House::new();
    let (exit, said) = house.run(house.spec("code", "echo out; echo err >&2; exit 42")).await;
    assert_eq!((exit.code, exit.signal, exit.is_out_of_memory), (Some(42), None, false));
    assert_eq!(said, "out\nerr\n");
}

#[tokio::test]
async fn a_chatty_container_fills_two_files_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).log_bytes_max(100_000);
    let house = House { folder, engine };
    let container = house.started(house.spec("chatty", "yes | head -c 5000000; echo the last")).await;
    container.wait().await;
    let bytes: u64 = container.logs().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 200_000, "{bytes}");
    assert!(said(&container).ends_with("the last\n"));
    container.delete().await.unwrap();
}

#[tokio::test]
async fn who_takes_more_memory_is_killed() {
    let house = House::new();
    let (exit, _) = house.run(house.spec("memory", "exec dd if=/dev/zero of=/dev/null bs=200M count=1")).await;
    assert_eq!((exit.signal, exit.is_out_of_memory), (Some(libc::SIGKILL), true));
}

#[tokio::test]
async fn a_fork_bomb_stops_at_the_limit() {
    let house = House::new();
    let mut bombed = house.spec("forks", "sleep 60");
    bombed.pids = 20;
    let container = house.started(bombed).await;
    let bomb = "i=0; while [ $i -lt 200 ]; do sleep 60 >/dev/null 2>&1 & i=$((i+1)); done; echo $i were made";
    let (_, said) = shell(&container, bomb).await;
    assert!(said.contains("fork") && !said.contains("200 were made"), "{said}");
    let pids = container.usage().unwrap().pids;
    assert!((2..=20).contains(&pids), "{pids}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn a_disk_is_full_at_its_quota() {
    let house = House::new();
    let container = house.started(house.spec("disk", "sleep 60")).await;
    let before = container.usage().unwrap().disk_bytes;
    let (code, said) = shell(&container, "dd if=/dev/zero of=/data/big bs=1M count=100").await;
    assert!(code != 0 && said.contains("No space left"), "{code} {said}");
    let used = container.usage().unwrap().disk_bytes;
    assert!(used > before + (48 << 20) && used <= 64 << 20, "{before} {used}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn a_read_only_root_takes_no_write_but_tmp_does() {
    let house = House::new();
    let mut fixed = house.spec("fixed", "touch /data/x && echo wrote; touch /tmp/x && echo tmp");
    fixed.is_read_only = true;
    let (_, said) = house.run(fixed).await;
    assert!(!said.contains("wrote") && said.contains("tmp"), "{said}");
}

#[tokio::test]
async fn nothing_outside_is_reached() {
    let house = House::new();
    let hears = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = hears.local_addr().unwrap().port();
    let container = house.started(house.spec("alone", "sleep 60")).await;
    // Nothing but a loopback, and no way out: only then is anything tried.
    let (_, links) = shell(&container, "ls /sys/class/net; cat /proc/net/route | wc -l").await;
    assert_eq!(links, "lo\n1\n");
    let (code, said) = shell(&container, &format!("nc -w 2 127.0.0.1 {port} </dev/null")).await;
    assert!(code != 0, "this machine's loopback was reached: {said}");
    let addresses = std::process::Command::new("hostname").arg("-I").output().unwrap().stdout;
    for address in String::from_utf8(addresses).unwrap().split_whitespace() {
        let (code, said) = shell(&container, &format!("nc -w 2 {address} {port} </dev/null")).await;
        assert!(code != 0, "{address} was reached: {said}");
    }
    let (code, said) = shell(&container, "nc -w 2 203.0.113.1 80 </dev/null").await;
    assert!(code != 0 && said.contains("unreachable"), "{said}");
    assert!(tokio::time::timeout(Duration::from_millis(100), hears.accept()).await.is_err());
    container.delete().await.unwrap();
}

#[tokio::test]
async fn what_others_offer_is_heard_inside() {
    let house = House::new();
    let container = house.started(house.spec("hears", "sleep 60")).await;
    let hears = container.listen("127.0.0.7:5432".parse().unwrap()).await.unwrap();
    let served = async {
        let (mut stream, _) = hears.accept().await.unwrap();
        stream.write_all(b"a row\n").await.unwrap();
    };
    let ((), (code, said)) = tokio::join!(served, shell(&container, "nc -w 5 db 5432 </dev/null"));
    assert_eq!((code, said.as_str()), (0, "a row\n"));
    container.delete().await.unwrap();
}

#[tokio::test]
async fn two_containers_see_nothing_of_each_other() {
    let house = House::new();
    let one = house.started(house.spec("one", "httpd -p 80 -h /www; echo secret > /data/mine; sleep 60")).await;
    let other = house.started(house.spec("other", "sleep 60")).await;
    get(&one).await;
    let (code, said) = shell(&other, "nc -w 2 127.0.0.1 80 </dev/null").await;
    assert!(code != 0, "a neighbour's server was reached: {said}");
    let (_, processes) = shell(&other, "ps; ls /data").await;
    assert!(!processes.contains("httpd") && !processes.contains("mine"), "{processes}");
    assert_eq!(shell(&one, "cat /data/mine").await.1, "secret\n");
    one.delete().await.unwrap();
    other.delete().await.unwrap();
}

#[tokio::test]
async fn no_privilege_is_had_or_gained() {
    let house = House::new();
    let mut asked = house.spec("rights", "sleep 60");
    asked.user = Some("web".into());
    let container = house.started(asked).await;
    let (_, status) =
        shell(&container, "/suid/busybox id -u; grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status").await;
    assert!(status.starts_with("33\n"), "a set-uid program gave a right: {status}");
    let status: Vec<_> = status.split_whitespace().collect();
    assert_eq!(status[1..], ["CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]);
    container.delete().await.unwrap();
    let container = house.started(house.spec("root", "sleep 60")).await;
    let (_, said) = shell(&container, "grep CapEff /proc/self/status; cat /proc/self/uid_map").await;
    let said: Vec<_> = said.split_whitespace().collect();
    assert_eq!(said, ["CapEff:", "00000000000004fb", "0", "1000000", "65536"]);
    for refused in ["unshare -m true", "unshare -U true", "mount -t tmpfs x /data", "echo 1 > /proc/sys/kernel/panic"] {
        let (code, said) = shell(&container, refused).await;
        assert!(code != 0, "{refused} was done: {said}");
    }
    container.delete().await.unwrap();
}

/// Makes each call with nothing but zeroes, and says which the kernel itself looked at.
const CALLS: &str = r#"
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TRY(name) errno = 0, syscall(SYS_##name, 0, 0, 0, 0, 0, 0), printf(#name " %s\n", errno == EPERM ? "refused" : "let through")
int main(void) {
    TRY(mount); TRY(setns); TRY(ptrace); TRY(bpf); TRY(keyctl); TRY(io_uring_setup); TRY(userfaultfd);
    TRY(perf_event_open); TRY(process_vm_readv); TRY(pivot_root); TRY(add_key); TRY(umount2); TRY(dup);
    errno = 0; syscall(SYS_unshare, 0); printf("unshare %s\n", errno == EPERM ? "refused" : "let through");
    errno = 0; syscall(SYS_clone3, 0, 0); printf("clone3 %s\n", errno == ENOSYS ? "refused" : "let through");
    errno = 0; syscall(SYS_socket, 40, 1, 0); printf("vsock %s\n", errno == EPERM ? "refused" : "let through");
    return 0;
}
"#;

#[tokio::test]
async fn system_calls_that_servers_do_not_need_are_refused_also_to_further_programs() {
    let house = House::new();
    let (source, program) = (house.folder.path().join("calls.c"), house.folder.path().join("calls"));
    std::fs::write(&source, CALLS).unwrap();
    let built = std::process::Command::new("cc").arg("-static").arg("-o").arg(&program).arg(&source).output();
    assert!(built.expect("cc is missing: apt-get install gcc").status.success());
    let program = std::fs::read(program).unwrap();
    let layers = [busybox(), Tar::new().entry(EntryType::Regular, "calls", "", 0o755, &program).bytes()];
    let container = house.started(spec(house.folder.path(), &id("calls"), &layers, "/calls; sleep 60")).await;
    let (code, further) = shell(&container, "/calls").await;
    assert_eq!(code, 0, "{further}");
    // That the program can tell at all: what servers do need goes through.
    let through: Vec<_> = further.lines().filter(|line| !line.ends_with(" refused")).collect();
    assert_eq!(through, ["dup let through"], "{further}");
    assert_eq!(said(&container), further);
    container.delete().await.unwrap();
}

#[tokio::test]
async fn whiteouts_and_opaque_folders_hide_what_is_below() {
    let house = House::new();
    let below = Tar::new().folder("a").file("a/kept", "1").file("a/gone", "1").folder("b").file("b/old", "1").bytes();
    let above = Tar::new().folder("a").file("a/.wh.gone", "").folder("b").file("b/.wh..wh..opq", "").file("b/new", "1");
    let layers = [busybox(), below, above.bytes()];
    let (_, said) = house.run(spec(house.folder.path(), &id("white"), &layers, "ls /a /b")).await;
    assert_eq!(said, "/a:\nkept\n\n/b:\nnew\n");
}

#[tokio::test]
async fn layers_are_packed_in_three_ways() {
    let house = House::new();
    let plain = Tar::new().file("x", "packed\n").bytes();
    let zstd = ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    for (packing, packed) in [(Packing::Plain, plain.clone()), (Packing::Zstd, zstd)] {
        let mut asked = spec(house.folder.path(), &id("packed"), &[busybox(), plain.clone()], "cat /x");
        asked.layers[1] = image::layer(house.folder.path(), &packed, packing);
        assert_eq!(house.run(asked).await.1, "packed\n");
        house.engine.forget_layers(&[]).unwrap();
    }
}

async fn refused(house: &House, spec: Spec) -> String {
    match Container::create(&house.engine, spec).await {
        Err(error @ (Error::Layer { .. } | Error::Image(_) | Error::Spec(_))) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was made"),
    }
}

#[tokio::test]
async fn hostile_layers_are_refused_and_leave_nothing() {
    let house = House::new();
    let outside = house.folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let hostile = [
        ("a path that leads up", Tar::new().file("../../../outside/x", "1")),
        ("a device", Tar::new().entry(EntryType::Char, "null", "", 0o666, b"")),
        ("becomes something else", Tar::new().folder("a").link("a", "/etc")),
        ("whiteout of nothing", Tar::new().file(".wh..", "")),
        ("link to nowhere", Tar::new().link("out", out).file("out/x", "1")),
        (
            "outside",
            Tar::new().link("up", "../../../../../..").file(&format!("up{out}/x"), "1").entry(
                EntryType::Link,
                "hard",
                &format!("{out}/not-there"),
                0,
                b"",
            ),
        ),
    ];
    for (why, tar) in hostile {
        let layers = [busybox(), tar.bytes()];
        let asked = spec(house.folder.path(), &id("hostile"), &layers, "true");
        // What leads out through a link ends inside, or is refused; outside nothing is made.
        match Container::create(&house.engine, asked).await {
            Err(Error::Layer { at: 1, why: said }) => assert!(why == "outside" || said.contains(why), "{why}: {said}"),
            Err(error) => panic!("{why}: {error}"),
            Ok(container) => {
                assert_eq!(why, "outside");
                container.delete().await.unwrap();
            }
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{why}");
    }
    let left: Vec<_> = std::fs::read_dir(house.folder.path().join("engine/containers")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_bomb_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path()).image_bytes_max(8 << 20);
    let house = House { folder, engine };
    let bomb = Tar::new().entry(EntryType::Regular, "zeroes", "", 0o644, &vec![0; 64 << 20]).bytes();
    let asked = spec(house.folder.path(), &id("bomb"), &[bomb], "true");
    assert!(asked.layers[0].0.blob.bytes < 1 << 20);
    assert!(refused(&house, asked).await.contains("longer than"));
    assert_eq!(std::fs::read_dir(house.folder.path().join("engine/layers")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_layer_that_is_not_what_was_said_is_refused() {
    let house = House::new();
    let (honest, other) = (busybox(), Tar::new().file("x", "1").bytes());
    // The file's own hash is right, and what is in it is not what the config tells of.
    let mut asked = spec(house.folder.path(), &id("other"), std::slice::from_ref(&honest), "true");
    asked.layers[0] = image::layer(house.folder.path(), &image::gzip(&other), Packing::Gzip);
    assert!(refused(&house, asked).await.contains("unpacked it does not hash"));
    let mut asked = spec(house.folder.path(), &id("changed"), std::slice::from_ref(&honest), "true");
    asked.layers[0].0.blob.sha256 = Sha256::digest(b"else").into();
    assert!(refused(&house, asked).await.contains("bytes are not the"));
}

#[tokio::test]
async fn processor_time_is_the_kernels_own_count_and_within_its_share() {
    let house = House::new();
    let mut busy = house.spec("busy", "while true; do true; done");
    busy.cpu_milli = 200;
    let container = house.started(busy).await;
    let (from, at) = (container.usage().unwrap().cpu_ns, std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (used, took) = (container.usage().unwrap().cpu_ns - from, at.elapsed().as_nanos() as u64);
    // A fifth, and a period more at either end.
    assert!(used > 0 && used <= took / 5 + 40_000_000, "{used} ns in {took}");
    container.delete().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_started_anew_finds_its_containers() {
    let house = House::new();
    let container = house.started(house.spec("again", "echo begun; exec httpd -f -p 80 -h /www")).await;
    let id = container.id().to_owned();
    get(&container).await;
    drop(container);
    let engine = open(house.folder.path());
    let adopted = Container::adopt(&engine, &id).await.unwrap().expect("it is there");
    assert!(get(&adopted).await.ends_with("a page of the image\n"));
    assert_eq!(said(&adopted), "begun\n");
    let exit = adopted.stop(Some(Duration::ZERO)).await.unwrap();
    assert_eq!(exit.signal, Some(libc::SIGKILL));
    // Ended while nobody was there: its end is known all the same.
    drop(adopted);
    let ended = Container::adopt(&engine, &id).await.unwrap().expect("it is there still");
    assert_eq!(ended.wait().await.signal, Some(libc::SIGKILL));
    ended.delete().await.unwrap();
    assert!(Container::adopt(&engine, &id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_created_is_warm_until_it_is_started() {
    let house = House::new();
    let container = Container::create(&house.engine, house.spec("warm", "echo ran")).await.unwrap();
    assert!(container.is_warm().await.unwrap());
    assert_eq!(said(&container), "");
    container.start().await.unwrap();
    assert_eq!(container.wait().await.code, Some(0));
    assert_eq!(said(&container), "ran\n");
    container.delete().await.unwrap();
}

fn data() -> Volume {
    Volume { name: "data".into(), path: "/www".into(), bytes: 64 << 20 }
}

/// All that a container wrote to a file of its volume.
async fn wrote(house: &House, spec: Spec) -> String {
    let container = house.started(spec).await;
    tokio::time::timeout(Duration::from_secs(60), container.wait()).await.expect("it ends");
    let said = said(&container);
    container.delete().await.unwrap();
    said
}

#[tokio::test]
async fn what_is_on_a_volume_outlives_its_container_and_begins_as_the_image_has_it() {
    let house = House::new();
    let mut spec = house.spec("volume", "cat /www/index.html; cat /www/mine; echo mine > /www/mine; id -u");
    spec.volumes = vec![data()];
    let unknown = Container::create(&house.engine, spec.clone()).await;
    assert!(unknown.is_err_and(|error| error.to_string().contains("nobody said")), "it does not begin by itself");
    house.engine.bear_volume(&spec.id, "data").unwrap();
    let first = wrote(&house, spec.clone()).await;
    assert!(first.starts_with("a page of the image\n") && !first.contains("\nmine\n"), "{first}");
    // It is neither written over nor filled anew.
    let again = wrote(&house, spec.clone()).await;
    assert!(again.ends_with("a page of the image\nmine\n0\n"), "{again}");
    let (id, engine) = (spec.id.clone(), house.engine.clone());
    assert!(engine.is_volume_known(&id, "data").unwrap());
    engine.remove_volumes(&id).unwrap();
    assert!(!engine.is_volume_known(&id, "data").unwrap());
}

#[tokio::test]
async fn a_snapshot_is_of_one_moment_and_is_laid_down_elsewhere_as_it_was() {
    let house = House::new();
    // Both files are the same whenever it is held still between two rounds, or the second is one behind.
    let line = "chmod 2750 /www; busybox ln -s /etc/passwd /www/link; i=0; while true; do i=$((i+1)); echo $i > /www/one; \
                echo $i > /www/two; done";
    let mut spec = house.spec("snapshot", line);
    spec.volumes = vec![data()];
    house.engine.bear_volume(&spec.id, "data").unwrap();
    let container = house.started(spec.clone()).await;
    let (mut last, mut compared) = (None, 0);
    for _ in 0..100 {
        let since = last.as_ref().map(|(hash, _): &([u8; 32], u64)| *hash);
        let taken = container.snapshot(&data(), since).await.unwrap();
        let read = |name: &[u8]| {
            let entry = taken.tree().entries().iter().find(|entry| entry.path == name)?;
            let Kind::File { pieces, .. } = &entry.kind else { return None };
            let piece = taken.piece(pieces.first()?).ok()?;
            String::from_utf8(piece).ok()?.trim().parse::<u64>().ok()
        };
        // A file may be empty in the moment: it was about to be written.
        if let (Some(one), Some(two)) = (read(b"one"), read(b"two")) {
            assert!(one == two || one == two + 1, "{one} and {two}");
            assert!(last.as_ref().is_none_or(|(_, before)| *before <= one));
            last = Some((taken.tree().hash(), one));
            compared += 1;
        }
        if compared == 3 {
            break;
        }
        drop(taken);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(compared, 3);
    let taken = container.snapshot(&data(), None).await.unwrap();
    assert!(container.snapshot(&data(), None).await.is_err(), "one at a time");
    let (other, tree) = (id("filled"), taken.tree().clone());
    let mut filling = house.engine.fill_volume(&other, data(), tree.clone()).unwrap();
    for (hash, _) in tree.pieces() {
        filling.put(hash, &taken.piece(&hash).unwrap()).unwrap();
    }
    assert!(filling.put([7; 32], b"other").is_err());
    filling.finish().unwrap();
    drop(taken);
    container.delete().await.unwrap();
    let mut spec = house.spec("filled", "ls -ldn /www; cat /www/index.html; busybox readlink /www/link; cat /www/one");
    spec.id = other.clone();
    spec.volumes = vec![data()];
    assert!(house.engine.fill_volume(&other, data(), tree).is_err(), "what is there is not written over");
    let said = wrote(&house, spec).await;
    assert!(said.starts_with("drwxr-s---"), "{said}");
    assert!(said.contains("a page of the image\n/etc/passwd\n"), "{said}");
}

#[tokio::test]
async fn given_files_are_read_inside_and_stand_on_no_disk() {
    let house = House::new();
    let secret = format!("secret-{:016x}", rand::random::<u64>());
    let given = |path: &str, uid, mode, text: &str| Given { path: path.into(), uid, gid: 0, mode, bytes: text.into() };
    let mut asked = house.spec("given", "sleep 60");
    asked.user = Some("web".into());
    asked.files = vec![
        given("/run/secrets/key", 33, 0o400, &secret),
        given("/run/secrets/other", 0, 0o400, "of root"),
        given("/www/index.html", 0, 0o444, "another page"),
        given("/new/folder/run", 0, 0o555, "#!/bin/sh\necho ran\n"),
    ];
    let container = house.started(asked).await;
    let (_, seen) = shell(&container, "cat /run/secrets/key /www/index.html; /new/folder/run; ls /bin/sh").await;
    assert_eq!(seen, format!("{secret}another pageran\n/bin/sh\n"));
    for refused in ["cat /run/secrets/other", "echo x > /run/secrets/key", "echo x > /www/index.html"] {
        let (code, said) = shell(&container, refused).await;
        assert!(code != 0, "{refused} was done: {said}");
    }
    // Nowhere below the engine's folder, which is on a disk.
    let folder = house.folder.path().to_str().unwrap();
    let found = std::process::Command::new("grep").args(["-rl", &secret, folder]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    let id = container.id().to_owned();
    container.delete().await.unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&format!("{id}/given")), "{mounts}");
}

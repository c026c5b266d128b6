//! Go into a container on somebody else's machine: run programs, copy files, forward a port, and read what it uses.
//!
//! Needs root, runc and a busybox that is linked statically, as `./check` brings them.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Host, example, image},
};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::symlink,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// What `hodei app …` does with that on its standard input; nothing of it is JSON.
fn app(network: &Network, words: &[&str], stdin: &[u8]) -> Output {
    let words = [&["-C", network.name.as_str(), "app"], words].concat();
    let mut child = network
        .user
        .command(&words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut into = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // Both ways at once: neither end holds all of it. Who ends before it read all breaks the pipe.
    let writing = std::thread::spawn(move || _ = into.write_all(&stdin));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn its_owner_runs_programs_in_a_container_copies_files_and_reaches_its_ports() {
    let network = Network::start("inside");
    let archive = image(&network.user, "Hello from inside.", "one");
    let host = Host::of_containers(&network, "attic");
    let deploy = ["deploy", &archive, "--disk", "128MiB", "--name", "page", "--term", "1h"];
    network.ask(&[&deploy[..], &["--dry-run"]].concat(), "an offer", |lines| {
        (lines[0]["places"].as_array()?.len() == 1 && host.key().is_some()).then_some(())
    });
    network.one(&[&deploy[..], &["-y"]].concat());

    // Exit code and both streams are the program's; it is the container that it runs in.
    let line = "echo out; echo err >&2; cat; echo $A in $PWD of $(hostname); exit 7";
    let exec = ["exec", "page", "-i", "-e", "A=b", "-w", "/www", "--", "sh", "-c", line];
    let ran = said(&app(&network, &exec, b"given\n"));
    assert_eq!((ran.0, ran.2.as_str()), (Some(7), "err\n"), "{ran:?}");
    assert!(ran.1.starts_with("out\ngiven\nb in /www of "), "{ran:?}");
    let none = said(&app(&network, &["exec", "page", "--", "cat"], b"not given"));
    assert_eq!((none.0, none.1.as_str()), (Some(0), ""), "without -i nothing goes in: {none:?}");
    let large = vec![b'x'; 3 << 20];
    let back = app(&network, &["exec", "page", "-i", "--", "cat"], &large);
    assert!(back.status.success() && back.stdout == large, "{} bytes came back", back.stdout.len());
    let missing = said(&app(&network, &["exec", "page", "--", "no-such-program"], b""));
    assert!(missing.0.is_some_and(|code| code != 0) && missing.2.contains("no-such-program"), "{missing:?}");
    // No more than the container's own program may.
    let fence = said(&app(&network, &["exec", "page", "--", "sh", "-c", "cat /proc/self/status"], b""));
    for fenced in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(fence.1.contains(fenced), "{fenced} in {}", fence.1);
    }

    // With a terminal, as somebody who types has one.
    // Its size is told to a terminal that is there, as by who changes it later.
    let typed = "busybox tty; for i in 1 2 3 4 5; do busybox stty size | busybox grep . && break; sleep 1; done";
    let hodei = network.user.command(&[]).get_program().to_string_lossy().into_owned();
    let words = format!("stty rows 31 cols 97; {hodei} -C {} app exec page -t -- sh -c '{typed}'", network.name);
    let script = Command::new("script").args(["-qec", &words, "/dev/null"]).env("HOME", network.user.folder()).output();
    let (code, out, error) = said(&script.unwrap());
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains("/dev/pts/") || out.contains("/dev/console"), "{out}");
    assert!(out.contains("31 97"), "{out}");

    // A folder in and out again, under other names; links stay what they are, also those that lead away.
    let folder = network.user.folder().join("site");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    std::fs::write(folder.join("deep/page"), b"copied").unwrap();
    symlink("/etc/hostname", folder.join("away")).unwrap();
    let (from, to) = (folder.to_str().unwrap(), network.user.folder().join("back"));
    let put = network.one(&["app", "cp", from, "page:/www"]);
    assert_eq!(put["files"], 3, "{put}");
    let seen = said(&app(&network, &["exec", "page", "--", "cat", "/www/site/deep/page"], b""));
    assert_eq!(seen.1, "copied");
    network.one(&["app", "cp", "page:/www/site", to.to_str().unwrap()]);
    assert_eq!(std::fs::read(to.join("deep/page")).unwrap(), b"copied");
    assert_eq!(std::fs::read_link(to.join("away")).unwrap().to_str(), Some("/etc/hostname"));
    // A link inside that names a file of the machine's leads to the container's own.
    let link = "ln -s /etc/passwd /tmp/link; echo inside > /etc/passwd";
    assert_eq!(
        said(&app(&network, &["exec", "page", "--", "busybox", "sh", "-c", &format!("busybox {link}")], b"")).0,
        Some(0)
    );
    let file = network.user.folder().join("passwd");
    network.one(&["app", "cp", "page:/tmp/link", file.to_str().unwrap()]);
    assert_eq!(std::fs::read(&file).unwrap(), b"inside\n");
    let words = ["-C", &network.name, "app", "cp", "page:/no/where", to.to_str().unwrap()];
    let (exit, _, error) = network.user.run(&words);
    assert_eq!((exit, &error["error"]["code"]), (3, &"HD1004".into()), "{error}");

    // A port of it, here.
    let words = ["-C", network.name.as_str(), "--json", "app", "port-forward", "page", "0:8000"];
    let mut forward = network.user.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(forward.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mut answer = String::new();
    let mut socket = TcpStream::connect(told["address"].as_str().unwrap()).unwrap();
    socket.write_all(b"GET /any HTTP/1.0\r\n\r\n").unwrap();
    socket.read_to_string(&mut answer).unwrap();
    forward.kill().unwrap();
    forward.wait().unwrap();
    assert!(answer.ends_with("Hello from inside.\n"), "{answer}");

    // What it uses, by its host, who looks each few seconds.
    let begun = Instant::now();
    loop {
        let stats = network.one(&["app", "stats", "page"]);
        let has = |key: &str| stats[key].as_u64().is_some_and(|count| count > 0);
        if has("cpu_ms") && has("memory_bytes") && has("disk_bytes") && has("bytes_in") && has("bytes_out") {
            assert_eq!(stats["disk_bytes_max"], 128 << 20);
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{stats}");
        std::thread::sleep(Duration::from_millis(500));
    }
    let (exit, _, error) = network.user.run(&["-C", &network.name, "app", "stats", "nobody"]);
    assert_eq!((exit, &error["error"]["code"]), (3, &"HD3050".into()), "{error}");
    network.one(&["app", "delete", "page", "-y"]);
}

#[test]
fn a_component_is_not_entered_and_says_so() {
    let network = Network::start("outside");
    let host = Host::start(&network, "cellar");
    let hello = example("hello.wat");
    network.ask(&["deploy", &hello, "--dry-run"], "an offer", |lines| {
        (lines[0]["places"].as_array()?.len() == 1 && host.key().is_some()).then_some(())
    });
    network.one(&["deploy", &hello, "--term", "1h", "-y"]);
    let ran = said(&app(&network, &["exec", "hello", "--", "ls"], b""));
    assert!(ran.0 == Some(7) && ran.2.contains("HD3065") && ran.2.contains("component"), "{ran:?}");
    let other = network.user.folder().join("x");
    network.user.refused(&["-C", &network.name, "app", "cp", "hello:/x", other.to_str().unwrap()], "HD3065");
}

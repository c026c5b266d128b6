//! Let an app count on a volume, and lose its container, its host, and what it counted.
//!
//! Needs root, runc, tar and a busybox that is linked statically, as `./check` brings them.

mod machines;

use machines::{
    Network, PATIENCE, Provider,
    apps::{Door, Host, image},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Counts on in a file that it serves.
const COUNT: &str = "N=$(cat /data/any 2>/dev/null || echo 0); while true; do N=$((N+1)); echo $N > /data/new; busybox mv \
                     /data/new /data/any; sleep 1; done & exec httpd -f -p 8000 -h /data";

fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(begun.elapsed() < PATIENCE, "{what} did not come: {last}"),
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// An app.toml of something that counts.
fn counting(network: &Network, more: &str) -> String {
    let archive = image(&network.user, "not served", "count");
    let text = format!(
        "name = \"count\"\nimage = {archive:?}\ncommand = [\"sh\", \"-c\", {COUNT:?}]\nport = 8000\ndisk = \"128MiB\"\nterm = \
         \"2h\"\nsnapshot = \"5s\"\nvolumes = [{{ name = \"data\", path = \"/data\", size = \"64MiB\" }}]\n{more}"
    );
    let path = network.user.folder().join("app.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn offered(network: &Network, deploy: &[&str], hosts: &[Host]) {
    network.ask(&[deploy, &["--dry-run"]].concat(), "offers", |lines| {
        let places = lines[0]["places"].as_array()?.len();
        (places == 1 && hosts.iter().all(|host| host.key().is_some())).then_some(())
    });
}

/// What the app has counted to, by the door.
fn count(door: &Door) -> Result<u64, String> {
    match door.get("count.localhost") {
        (200, _, body) => body.trim().parse().map_err(|_| body),
        other => Err(format!("{other:?}")),
    }
}

/// A command that may come while the keeper stores the same.
fn done(network: &Network, words: &[&str]) -> Value {
    let words = [&["-C", network.name.as_str(), "app", "volume"], words].concat();
    until("a volume", || match network.user.run(&words) {
        (0, mut lines, _) => Ok(lines.pop().unwrap()),
        (_, _, error) => Err(error.to_string()),
    })
}

fn ready(network: &Network) -> Result<String, String> {
    let shown = network.one(&["app", "show", "count"]);
    let replicas = shown["replicas"].as_array().unwrap();
    let ready = replicas.iter().find(|one| one["state"] == "ready").and_then(|one| one["node"].as_str());
    ready.map(str::to_owned).ok_or(shown.to_string())
}

fn tar(words: &[&str]) -> String {
    let output = Command::new("tar").args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An archive in which somebody counted that far.
fn counted(folder: &Path, to: u64) -> PathBuf {
    let (within, archive) = (folder.join("counted"), folder.join("counted.tar"));
    std::fs::create_dir_all(&within).unwrap();
    std::fs::write(within.join("any"), format!("{to}\n")).unwrap();
    tar(&["-C", within.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    archive
}

#[test]
fn what_an_app_wrote_outlives_its_container_and_its_host_and_is_backed_up_and_restored() {
    let network = Network::start("volumes");
    let file = counting(&network, "");
    let mut hosts: Vec<Host> = ["attic", "cellar", "garden"].map(|zone| Host::of_containers(&network, zone)).into();
    offered(&network, &["deploy", &file], &hosts);
    network.one(&["deploy", &file, "-y"]);
    let door = Door::open(&network);
    let begun = until("a count", || count(&door));

    // Its container is killed, and another one counts on.
    let node = until("a replica", || ready(&network));
    let index = hosts.iter().position(|host| host.key().as_ref() == Some(&node)).unwrap();
    let pid = until("a container", || hosts[index].container().ok_or("none".to_owned()));
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    until("another container", || hosts[index].container().filter(|now| *now != pid).ok_or("none".to_owned()));
    let on = until("a count", || count(&door));
    assert!(on >= begun, "{on} after {begun}");

    // Whoever keeps the app stores what it writes; a second replica would write another disk.
    let listed = until("a snapshot", || {
        let listed = network.one(&["app", "volume", "list", "count"]);
        listed["sequence"].as_u64().map(|_| listed.clone()).ok_or(listed.to_string())
    });
    assert_eq!(listed["volume"], "data", "{listed}");
    assert_eq!((listed["bytes"].as_u64(), listed["every_secs"].as_u64()), (Some(64 << 20), Some(5)));
    network.user.refused(&["-C", &network.name, "app", "scale", "count", "2", "-y"], "HD3082");
    network.user.refused(&["-C", &network.name, "app", "volume", "snapshot", "count", "other"], "HD3080");

    // Its host is gone for good: it counts on elsewhere, from what was stored.
    let seen = until("a count", || count(&door));
    done(&network, &["snapshot", "count", "data"]);
    let pid = until("a container", || hosts[index].container().ok_or("none".to_owned()));
    drop(hosts[index].process.take());
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    until("a replica elsewhere", || ready(&network).and_then(|now| if now == node { Err(now) } else { Ok(now) }));
    let on = until("a count", || count(&door));
    assert!(on >= seen, "{on} after {seen} was stored");

    // What is stored is a tar, and a tar is what is on it from then on.
    let backup = network.user.folder().join("backup.tar");
    let taken = done(&network, &["backup", "count", "data", backup.to_str().unwrap()]);
    assert_eq!(taken["schema"], "hodei.app.volume.backup/1");
    let kept: u64 = tar(&["-xOf", backup.to_str().unwrap(), "any"]).trim().parse().unwrap();
    assert!(kept >= seen, "{kept} after {seen}");
    let archive = counted(network.user.folder(), 1_000_000);
    done(&network, &["restore", "count", "data", archive.to_str().unwrap(), "-y"]);
    until("what was restored", || match count(&door)? {
        on if on >= 1_000_000 => Ok(()),
        on => Err(on.to_string()),
    });

    // Nothing of it stays with hosts, nor with that which was away.
    network.one(&["app", "delete", "count", "-y"]);
    hosts[index].again(&network);
    for host in &hosts {
        until("the end of a volume", || match host.volumes() {
            0 => Ok(()),
            left => Err(format!("{left} folders")),
        });
    }
}

#[test]
fn what_is_stored_in_a_bucket_comes_back_when_the_app_is_deployed_again() {
    let network = Network::start("bucketed");
    let zones = ["north", "east", "south", "west", "up", "down"];
    let _providers: Vec<Provider> = zones.iter().map(|zone| Provider::join(&network, zone)).collect();
    network.one(&["data", "create", "kept", "-y"]);
    let file = counting(&network, "bucket = \"kept\"\n");
    let hosts = [Host::of_containers(&network, "attic")];
    offered(&network, &["deploy", &file], &hosts);
    network.one(&["deploy", &file, "-y"]);
    let archive = counted(network.user.folder(), 5_000_000);
    // Nobody keeps it meanwhile: each command does all of its part.
    let restored = done(&network, &["restore", "count", "data", archive.to_str().unwrap(), "-y"]);
    assert_eq!(restored["files"], 1, "{restored}");
    let stored = done(&network, &["snapshot", "count", "data"]);
    assert_eq!(stored["schema"], "hodei.app.volume.snapshot/1");
    let listed = network.one(&["app", "volume", "list", "count"]);
    assert_eq!(listed["vault"], "hodei://kept", "{listed}");
    network.one(&["app", "delete", "count", "-y"]);
    until("the end of a volume", || if hosts[0].volumes() == 0 { Ok(()) } else { Err("a folder".to_owned()) });

    network.ask(&["deploy", &file, "-y"], "the app again", |lines| (!lines.is_empty()).then_some(()));
    let door = Door::open(&network);
    let on = until("a count", || count(&door));
    assert!(on >= 5_000_000, "{on}");
    network.one(&["app", "delete", "count", "-y"]);
    until("the end of a volume", || if hosts[0].volumes() == 0 { Ok(()) } else { Err("a folder".to_owned()) });
}

//! Deploy a compose file: files that services are given, a name that one reaches the other by, a volume, and a change.
//!
//! Needs root, runc and a busybox that is linked statically, as `./check` brings them.

mod machines;

use machines::{
    Network, PATIENCE,
    apps::{Door, Host, image},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Counts on in a file that it serves.
const COUNT: &str = "N=$$(cat /data/any 2>/dev/null || echo 0); while true; do N=$$((N+1)); echo $$N > /data/new; busybox mv \
                     /data/new /data/any; sleep 1; done & exec httpd -f -p 9000 -h /data";

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

/// A project of two services; what the first serves is of the file.
fn write(folder: &Path, archive: &str, page: &str) {
    let text = format!(
        "services:
  web:
    build: {archive}
    ports: [\"8080:8000\"]
    depends_on: [counter]
    secrets: [{{source: key, mode: 0400}}]
    configs: [{{source: page, target: /www/any}}]
    volumes: [\"./more:/www/more:ro\"]
  counter:
    build: {archive}
    command: [sh, -c, {COUNT:?}]
    expose: [\"9000\"]
    volumes: [\"data:/data\"]
secrets: {{key: {{file: ./key.txt}}}}
configs: {{page: {{content: {page:?}}}}}
volumes: {{data: {{x-hodei: {{size: 64mb}}}}}}
x-hodei: {{disk: 128MiB, term: 2h}}
"
    );
    std::fs::write(folder.join("compose.yaml"), text).unwrap();
}

#[test]
fn a_compose_file_runs_with_its_files_names_and_volume_and_what_changed_in_it_is_updated() {
    let network = Network::start("stack");
    let archive = image(&network.user, "of the image", "stack");
    let folder = network.user.folder().join("shop");
    std::fs::create_dir_all(folder.join("more")).unwrap();
    std::fs::write(folder.join("key.txt"), "a secret").unwrap();
    std::fs::write(folder.join("more/one"), "one more").unwrap();
    write(&folder, &archive, "Hello from a file.");
    let hosts: Vec<Host> = ["attic", "cellar"].map(|zone| Host::of_containers(&network, zone)).into();
    let folder_text = folder.to_str().unwrap().to_owned();
    let deploy = ["deploy", &folder_text];
    network.ask(&[&deploy[..], &["--dry-run"]].concat(), "offers", |lines| {
        let is_priced = lines[0]["services"].as_array()?.len() == 2;
        (is_priced && hosts.iter().all(|host| host.key().is_some())).then_some(())
    });
    let deployed = network.one(&[&deploy[..], &["-y"]].concat());
    assert_eq!((&deployed["deployed"], &deployed["urls"][0]), (&2.into(), &"http://shop-web.localhost:8080".into()));

    let door = Door::open(&network);
    let says = |page: &str| {
        until("a page", || match door.get("shop-web.localhost") {
            (200, _, body) if body == page => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    says("Hello from a file.");
    let inside = |app: &str, words: &[&str]| {
        let words = [&["-C", network.name.as_str(), "app", "exec", app, "--"], words].concat();
        let output = network.user.command(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(said)
        } else {
            Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
        }
    };
    assert_eq!(inside("shop-web", &["cat", "/run/secrets/key", "/www/more/one"]).unwrap(), "a secretone more");
    assert!(inside("shop-web", &["sh", "-c", "echo x > /run/secrets/key"]).is_err(), "it is to be read alone");
    let counted = || until("a count", || inside("shop-web", &["busybox", "wget", "-qO-", "http://counter:9000/any"]));
    let first: u64 = counted().trim().parse().unwrap();

    // Only the service whose file changed is another; the other counts on.
    write(&folder, &archive, "Hello from another file.");
    let again = network.one(&[&deploy[..], &["-y"]].concat());
    assert_eq!((&again["deployed"], &again["updated"]), (&0.into(), &1.into()), "{again}");
    says("Hello from another file.");
    let later: u64 = counted().trim().parse().unwrap();
    assert!(later > first, "{later} after {first}");
    network.one(&["app", "delete", "shop", "-y"]);
    for host in &hosts {
        until("the end of its containers", || host.container().map_or(Ok(()), |pid| Err(format!("process {pid}"))));
    }
}

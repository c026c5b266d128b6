//! Whole files: what is read of them, what is refused where, and that no text takes long.

use super::*;
use std::time::{Duration, Instant};

fn with(text: &str, environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Compose, Broken> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let given = Given { text, environment: Some(&environment), ..Given::default() };
    let file = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
    super::read(&given, &mut |path| Ok(file(path)))
}

fn read(text: &str) -> Result<Compose, Broken> {
    with(text, &[], &[])
}

/// One service of these lines, which begin at line 4.
fn service(lines: &str) -> Result<Service, Broken> {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let end = "volumes:\n  data: {x-hodei: {size: 1gb}}\nsecrets:\n  key: {file: ./key.txt}\n";
    let compose = read(&format!("services:\n  web:\n    image: nginx:1.27\n{lines}{end}"))?;
    Ok(compose.services.into_iter().next().unwrap())
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn a_service_is_read_in_short_forms() {
    let web = service(
        "command: sh -c 'echo \"$$HOME\"'\nentrypoint: [\"/entry\", \"a b\"]\nenvironment:\n  - A=1=2\n  - \
         NONE\nworking_dir: /srv\nuser: 1000:1000\nports: [\"8080:80\", 127.0.0.1:9000:90/tcp, \"443\", \
         \"7000-7001:70-71\"]\nexpose: [3000, \"4000-4001/tcp\"]\nvolumes: [data:/data, ./conf:/etc/conf:ro, \
         /cache]\ntmpfs: /run:size=64m\nrestart: on-failure:3\nhealthcheck:\n  test: curl -f localhost\n  interval: \
         1m30s\nstop_signal: int\nstop_grace_period: 1m\nread_only: true\nmem_limit: 1.5g\ncpus: \
         '0.50'\npids_limit: 100\nscale: 3\nsecrets: [key]\nextra_hosts: [\"db:10.0.0.1\", \"six=[::1]\"]\n",
    )
    .unwrap();
    assert_eq!(web.command, words(&["sh", "-c", "echo \"$HOME\""]));
    assert_eq!(web.entrypoint, words(&["/entry", "a b"]));
    assert_eq!(web.environment, [("A".to_owned(), "1=2".to_owned())].into());
    let ports: Vec<_> = web.ports.iter().map(|port| (port.published, port.target)).collect();
    assert_eq!(ports, [(Some(8080), 80), (Some(9000), 90), (None, 443), (Some(7000), 70), (Some(7001), 71)]);
    assert_eq!(web.ports[1].host, Some(IpAddr::from([127, 0, 0, 1])));
    assert_eq!(web.expose, [3000, 4000, 4001]);
    let mounts: Vec<_> =
        web.mounts.iter().map(|mount| (&mount.source, mount.target.as_str(), mount.is_read_only)).collect();
    assert_eq!(mounts[0], (&Source::Volume("data".into()), "/data", false));
    assert_eq!(mounts[1], (&Source::Project("./conf".into()), "/etc/conf", true));
    assert_eq!(mounts[2..], [(&Source::Anonymous, "/cache", false), (&Source::Scratch(Some(64 << 20)), "/run", false)]);
    assert_eq!(web.restart.when, Restart::Failure(Some(3)));
    let Some(Health::Asked(probe)) = &web.health else { panic!("{:?}", web.health) };
    assert_eq!((&probe.test, probe.interval_ms), (&words(&["/bin/sh", "-c", "curl -f localhost"]), 90_000));
    assert_eq!((web.stop_signal.as_deref(), web.stop_ms, web.is_read_only), (Some("SIGINT"), Some(60_000), true));
    assert_eq!((web.cpu_milli, web.memory_bytes, web.pids, web.replicas), (Some(500), Some(3 << 29), Some(100), 3));
    assert_eq!((web.secrets[0].target.as_str(), web.secrets[0].mode), ("/run/secrets/key", 0o444));
    assert_eq!(web.extra_hosts[0], ("db".to_owned(), IpAddr::from([10, 0, 0, 1])));
}

#[test]
fn a_service_is_read_in_long_forms() {
    let web = service(
        "environment: {A: 1, B: null, C: \"\"}\nports:\n  - {target: 80, published: \"8080\", host_ip: 127.0.0.1, \
         app_protocol: http}\nvolumes:\n  - {type: bind, source: ./a, target: /a, read_only: true}\n  - {type: volume, \
         source: data, target: /data}\n  - {type: tmpfs, target: /t, tmpfs: {size: 1m}}\nhealthcheck: {test: [CMD, a, \
         b], retries: 5, start_period: 10s}\nsecrets:\n  - {source: key, target: other, mode: 0400, uid: \
         \"7\"}\ndeploy:\n  replicas: 2\n  resources: {limits: {cpus: '1.5', memory: 64M, pids: 9}}\n  update_config: \
         {order: start-first, parallelism: 2, delay: 10s, failure_action: rollback, monitor: 1m}\n  restart_policy: \
         {condition: on-failure, max_attempts: 4, delay: 5s}\nnetworks:\n  default: {aliases: [front]}\nbuild: \
         {context: ., dockerfile: D, args: [X=1], target: prod}\n",
    )
    .unwrap();
    let environment: Vec<_> = web.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(environment, [("A", "1"), ("C", "")]);
    assert_eq!((web.ports[0].published, web.ports[0].app_protocol.as_deref()), (Some(8080), Some("http")));
    assert_eq!(web.mounts[0].source, Source::Project("./a".into()));
    assert_eq!(web.mounts[2].source, Source::Scratch(Some(1 << 20)));
    let Some(Health::Asked(probe)) = &web.health else { panic!("{:?}", web.health) };
    assert_eq!((&probe.test, probe.retries, probe.start_period_ms), (&words(&["a", "b"]), 5, 10_000));
    assert_eq!(
        (web.secrets[0].target.as_str(), web.secrets[0].mode, web.secrets[0].uid),
        ("/run/secrets/other", 0o400, 7)
    );
    assert_eq!((web.replicas, web.cpu_milli, web.memory_bytes, web.pids), (2, Some(1500), Some(64 << 20), Some(9)));
    let update = web.update.unwrap();
    assert_eq!((update.order, update.parallelism, update.delay_ms), (UpdateOrder::StartFirst, 2, 10_000));
    assert_eq!((update.failure_action, update.monitor_ms), (FailureAction::Rollback, 60_000));
    assert_eq!((web.restart.when, web.restart.delay_ms), (Restart::Failure(Some(4)), 5_000));
    assert_eq!(web.networks[0].aliases, ["front"]);
    let build = web.build.unwrap();
    assert_eq!(
        (build.context.as_str(), build.dockerfile.as_deref(), build.target.as_deref()),
        (".", Some("D"), Some("prod"))
    );
    for off in ["{test: NONE, disable: true}", "{test: [NONE]}", "{disable: true}"] {
        assert_eq!(service(&format!("healthcheck: {off}")).unwrap().health, Some(Health::Off));
    }
}

#[test]
fn what_no_stranger_gives_is_refused_with_its_line() {
    for lines in [
        "privileged: true",
        "network_mode: host",
        "pid: host",
        "ipc: host",
        "userns_mode: host",
        "devices: [\"/dev/fuse\"]",
        "gpus: all",
        "cap_add: [NET_ADMIN]",
        "security_opt: [\"seccomp:unconfined\"]",
        "sysctls: {net.core.somaxconn: 1}",
        "volumes: [\"/etc:/etc\"]",
        "volumes: [\"~/x:/x\"]",
        "volumes: [\"../x:/x\"]",
        "volumes: [\"/var/run/docker.sock:/var/run/docker.sock\"]",
        "volumes: [\"data:/a/../b\"]",
        "volumes: [\"data:/a\", \"./x:/a/\"]",
        "volumes: [\"dat:/x\"]",
        "secrets: [kez]",
        "networks: [none]",
        "ports: [\"53:53/udp\"]",
        "ports: [{target: 53, protocol: udp}]",
        "ports: [\"0:80\"]",
        "ports: [\"80-90:80\"]",
        "ports: [\"1:2:3:4\"]",
        "ports: [99999]",
        "extra_hosts: [\"host.docker.internal:host-gateway\"]",
        "runtime: io.containerd.wasmedge.v1",
        "platform: wasi/wasm",
        "restart: sometimes",
        "restart: on-failure:x",
        "command: echo 'a",
        "healthcheck: {test: [curl, localhost]}",
        "healthcheck: {interval: 30}",
        "mem_limit: lots",
        "scale: 65",
        "read_only: yes",
        "env_file: missing.env",
        "deploy: {mode: global}",
        "deploy: {placement: {constraints: [node.role == manager]}}",
        "volumes_from: [db]",
        "depends_on: [db]",
        "links: [\"web:w\"]",
        "environment: [\"A=${\"]",
        "image2: a",
    ] {
        let error = service(lines).unwrap_err();
        assert_eq!(error.line, 4, "{lines}: {error}");
        assert!(!error.rule.is_empty() && !error.found.is_empty() && error.to_string().contains("line 4"), "{error}");
    }
    let harmless = "privileged: false\nnetwork_mode: bridge\ndevices: []\ncap_add: [CAP_CHOWN]\nuserns_mode:\n";
    service(harmless).unwrap();
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_wherever_it_stands() {
    for (text, line, nearest) in [
        ("services:\n  a:\n    image: x\n    enviroment: {A: 1}\n", 4, "environment"),
        ("servces: {}\n", 1, "services"),
        ("services:\n  a:\n    image: x\n    deploy:\n      replica: 2\n", 5, "replicas"),
        ("services:\n  a:\n    image: x\n    x-hodei:\n      max_price: 2\n", 5, "price_max"),
        ("services:\n  a: {image: x}\nvolumes:\n  v:\n    extrenal: true\n", 5, "external"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!((error.line, error.nearest), (line, Some(format!("{nearest:?}"))), "{text}");
    }
    let compose = read("x-mine: {any: thing}\nx-hodie: {}\nservices:\n  a: {image: x, x-y: 1}\n").unwrap();
    assert_eq!(compose.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_changes_nothing_is_noted_with_its_line() {
    let text =
        "version: '3'\nservices:\n  a:\n    image: x:$TAG\n    container_name: b\n    volumes: [\"./src:/src\"]\n";
    let compose = read(text).unwrap();
    assert_eq!(compose.notes.iter().map(|note| note.line).collect::<Vec<_>>(), [1, 4, 5, 6]);
    assert!(compose.notes[1].words.contains("TAG is not set"), "{:?}", compose.notes);
    assert!(compose.services[0].mounts[0].is_read_only);
}

#[test]
fn variables_come_from_the_environment_then_from_the_file_of_variables() {
    let text = "services:\n  a:\n    image: nginx:${TAG:?say which}\n    environment: [TAG, TOKEN, OTHER]\n    env_file: \
                [a.env, {path: none.env, required: false}]\n";
    let files = [(".env", "TAG=1\nTOKEN=$TAG-x\n"), ("a.env", "OTHER=3\nMORE=\"${TAG}!\"\nTAG=never\n")];
    let compose = with(text, &[("TAG", "2")], &files).unwrap();
    let a = &compose.services[0];
    assert_eq!(a.image.as_deref(), Some("nginx:2"));
    let environment: Vec<_> = a.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(environment, ["MORE=2!", "OTHER=3", "TAG=2", "TOKEN=2-x"]);
    let error = with(text, &[], &files[1..]).unwrap_err();
    assert_eq!((error.line, error.rule.as_str()), (3, "say which"));
    let error = with(text, &[("TAG", "2")], &[("a.env", "A=1\n=2\n")]).unwrap_err();
    assert_eq!((error.line, error.file.as_deref()), (2, Some("a.env")));
    let raw = "services:\n  a:\n    image: x\n    env_file: [{path: a.env, format: raw}]\n";
    let compose = with(raw, &[], &[("a.env", "# no\nA='$B'\n")]).unwrap();
    assert_eq!(compose.services[0].environment["A"], "'$B'");
    assert_eq!(with(raw, &[], &[("a.env", "=x\n")]).unwrap_err().line, 2);
}

#[test]
fn services_begin_after_those_they_wait_for() {
    let text = "services:\n  web:\n    image: x\n    depends_on:\n      api: {condition: service_healthy}\n      gone: \
                {required: false}\n  api: {image: x, depends_on: [db, init]}\n  init:\n    image: x\n    depends_on: {db: \
                {condition: service_completed_successfully}}\n  db: {image: x}\n";
    let compose = read(text).unwrap();
    let names: Vec<_> = compose.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["db", "init", "api", "web"]);
    assert_eq!(compose.services[3].depends_on.len(), 1);
    assert_eq!(compose.services[3].depends_on[0].condition, Condition::Healthy);
    let error = read(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, \
                      depends_on: [b]}\n",
    )
    .unwrap_err();
    assert!(error.found.contains("b (line 3) → c (line 4) → b"), "{error}");
}

#[test]
fn profiles_and_names_choose_what_is_deployed() {
    let text = "services:\n  web: {image: x, depends_on: [db]}\n  db: {image: x}\n  debug: {image: x, profiles: [dev], \
                privileged: true}\n  admin: {image: x, profiles: [ops], depends_on: [db]}\n";
    let chosen = |profiles: &[&str], services: &[&str]| {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (profiles, services) = (own(profiles), own(services));
        let given = Given { text, profiles: &profiles, services: &services, ..Given::default() };
        let compose = super::read(&given, &mut |_| Ok(None))?;
        Ok::<_, Broken>(compose.services.into_iter().map(|service| service.name).collect::<Vec<_>>())
    };
    assert_eq!(chosen(&[], &[]).unwrap(), ["db", "web"]);
    assert_eq!(chosen(&["ops"], &[]).unwrap(), ["db", "web", "admin"]);
    assert_eq!(chosen(&[], &["admin"]).unwrap(), ["db", "admin"]);
    assert_eq!(chosen(&["*"], &[]).unwrap_err().line, 4, "what is chosen must be within the subset");
    assert_eq!(chosen(&[], &["wab"]).unwrap_err().nearest.as_deref(), Some("\"web\""));
    let error = read("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p]}\n").unwrap_err();
    assert!(error.line == 2 && error.rule.contains("profile"), "{error}");
}

#[test]
fn a_service_extends_another_of_its_file() {
    let text = "services:\n  base:\n    image: x\n    command: [a, b]\n    environment: [A=1, B=1]\n    volumes: [d:/d, \
                e:/e]\n    labels: [l]\n  web:\n    extends: {service: base}\n    command: [c]\n    environment: {B: \
                2}\n    volumes: [f:/e]\n  more: {extends: web, image: y}\nvolumes: {d: , e: , f: }\n";
    let compose = read(text).unwrap();
    let more = compose.services.iter().find(|service| service.name == "more").unwrap();
    assert_eq!((more.image.as_deref(), &more.command), (Some("y"), &words(&["c"])));
    assert_eq!(more.environment.values().collect::<Vec<_>>(), ["1", "2"]);
    let mounts: Vec<_> = more.mounts.iter().map(|mount| &mount.source).collect();
    assert_eq!(mounts, [&Source::Volume("d".into()), &Source::Volume("f".into())]);
    for (text, line) in [
        ("services:\n  a: {extends: b}\n  b: {extends: a}\n", 3),
        ("services:\n  a:\n    extends: {service: b, file: c.yml}\n", 3),
        ("services:\n  a:\n    extends: bb\n  b: {image: x}\n", 3),
    ] {
        assert_eq!(read(text).unwrap_err().line, line, "{text}");
    }
}

#[test]
fn terms_are_the_words_of_an_app_and_a_service_says_its_own() {
    let text = "name: shop\nx-hodei: {term: 7d, budget: 2, spread: [host, operator]}\nservices:\n  a:\n    image: x\n    \
                x-hodei:\n      regions: [local]\n      term: 1d\n      standby: warm\n  b: {image: x}\n";
    let compose = read(text).unwrap();
    let (a, b) = (&compose.services[0].hodei, &compose.services[1].hodei);
    assert_eq!((a.terms.term.as_deref(), b.terms.term.as_deref()), (Some("1d"), Some("7d")));
    assert_eq!((a.terms.budget.as_deref(), a.terms.per_host, a.terms.per_operator), (Some("2"), Some(1), Some(1)));
    assert_eq!((a.standby, a.lines["term"], a.lines["budget"]), (Some(Standby::Warm), 8, 2));
    assert_eq!(read("name: My_Shop\nservices: {a: {image: x}}\n").unwrap_err().nearest.as_deref(), Some("\"my-shop\""));
    let both = "services:\n  a:\n    image: x\n    x-hodei:\n      per_host: 2\n      spread: host\n";
    assert_eq!(read(both).unwrap_err().line, 6);
}

#[test]
fn one_door_is_published_once() {
    let text = "services:\n  a: {image: x, ports: [\"80:80\"]}\n  b: {image: x, ports: [\"127.0.0.1:80:8080\"]}\n";
    let error = read(text).unwrap_err();
    assert!(error.line == 3 && error.rule.contains("line 2"), "{error}");
    read(&text.replace("\"80:80\"", "\"127.0.0.2:80:80\"")).unwrap();
}

/// Whole, cut, with bytes changed, and parts doubled: as many as fit into a second.
#[test]
fn no_text_panics_or_takes_long() {
    let seeds = [
        "services:\n  a: &a\n    image: ${X:-y}\n    ports: [\"1-3:1-3\"]\n    command: \"a 'b' \\\"c\\\"\"\n  b:\n    <<: \
         *a\n    extends: {service: a}\n    depends_on: {a: {condition: service_healthy}}\n",
        "x: &x [a, {b: c}]\ny: [*x, *x]\nservices: {a: {image: |\n  x\n, volumes: [./a:/b:ro, c:/d], mem_limit: 1.5gb}}\n",
        "services:\n  a:\n    image: x\n    healthcheck: {test: [CMD, x], interval: 1m30s}\n    environment:\n      - \
         A=$B\n      - C\n    deploy: {resources: {limits: {cpus: '.5'}}}\nvolumes:\n  c: ~\n",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let alphabet: Vec<char> = "\n\t  :-[]{}&*!|>'\"#%@`,?$abc019.~<=/\\é\u{0}\u{feff}".chars().collect();
    let begun = Instant::now();
    for round in 0..4_000 {
        let mut letters: Vec<char> = seeds[round % seeds.len()].chars().collect();
        for _ in 0..=random(6) {
            let at = random(letters.len());
            match random(4) {
                0 => letters.truncate(at.max(1)),
                1 => letters[at] = alphabet[random(alphabet.len())],
                2 => letters.insert(at, alphabet[random(alphabet.len())]),
                _ => {
                    let end = (at + random(40)).min(letters.len());
                    let part = letters[at..end].to_vec();
                    letters.extend(part);
                }
            }
        }
        let text: String = letters.into_iter().collect();
        if let Err(error) = with(&text, &[("B", "$B")], &[(".env", &text)]) {
            assert!(error.line >= 1 && error.line <= text.split(['\n', '\r']).count() + 1, "{text:?}: {error}");
        }
        if begun.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    let long = [
        "[".repeat(FILE_BYTES_MAX),
        "- ".repeat(FILE_BYTES_MAX / 2),
        "? ".repeat(FILE_BYTES_MAX / 2),
        "&a ".repeat(FILE_BYTES_MAX / 3),
        "a:\n ".repeat(FILE_BYTES_MAX / 4),
        "a".repeat(FILE_BYTES_MAX),
        "\"\\".repeat(FILE_BYTES_MAX / 2),
        format!("services: [{}]", "a,".repeat(FILE_BYTES_MAX / 2 - 20)),
        format!("a: {}", "${A:-".repeat(FILE_BYTES_MAX / 5 - 10)),
        format!("services: {{a: {{image: x, ports: [{}]}}}}", "1-65535,".repeat(1000)),
        (0..20_000).map(|i| format!("k{i}: 1\n")).collect(),
    ];
    for text in long {
        let begun = Instant::now();
        let start: String = text.chars().take(10).collect();
        assert!(read(&text).is_err(), "{start}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{start} took {:?}", begun.elapsed());
    }
}

/// Prints docs/compose-examples.md's rows of the folder of files that HODEI_COMPOSE_FOLDER names.
#[test]
fn a_folder_of_examples_is_read_without_a_panic() {
    let Some(folder) = std::env::var_os("HODEI_COMPOSE_FOLDER").map(std::path::PathBuf::from) else { return };
    let mut folders: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for path in folders {
        let file = ["compose.yaml", "compose.yml", "docker-compose.yml"].map(|name| path.join(name));
        let Some(text) = file.iter().find_map(|file| std::fs::read_to_string(file).ok()) else { continue };
        let given = Given { text: &text, ..Given::default() };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match super::read(&given, &mut |file| Ok(std::fs::read_to_string(path.join(file)).ok())) {
            Ok(compose) => {
                let built = compose.services.iter().filter(|service| service.build.is_some());
                let built: Vec<_> = built.map(|service| service.name.as_str()).collect();
                let notes: Vec<_> = compose.notes.iter().map(|note| note.line.to_string()).collect();
                println!("| {name} | yes | {} | {} | |", built.join(", "), notes.join(", "));
            }
            Err(error) => println!("| {name} | no | | | {error} |"),
        }
    }
}

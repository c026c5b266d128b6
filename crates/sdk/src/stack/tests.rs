//! Services to apps: their names, what is refused with its line, and who reaches whom.

use super::*;
use crate::{
    app::{Contained, Runs},
    compose::{Given, read},
    image::Config,
};
use hodei_types::{app::container, transport::NodeKey};

/// The project's files.
fn beside(path: &str) -> Result<Vec<Found>, String> {
    let found = |path: &str, mode, text: &str| Found { path: path.into(), mode, bytes: text.into() };
    match path {
        "./nginx.conf" => Ok(vec![found("", 0o600, "events {}")]),
        "./key.txt" => Ok(vec![found("", 0o644, "secret")]),
        "./site" => Ok(vec![found("index.html", 0o644, "hello"), found("bin/run", 0o755, "#!")]),
        "./big" => Ok(vec![found("", 0o644, &"x".repeat(40_000))]),
        _ => Err("it is not there".into()),
    }
}

fn stack(text: &str) -> Result<Stack, Broken> {
    let given = Given { text, ..Given::default() };
    Stack::of(&read(&given, &mut |_| Ok(None))?, "My_Shop", &Draft::default(), &mut beside)
}

/// The refusal of one service of these lines, which begin at line 4.
fn refused(lines: &str) -> Broken {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let end = "  db: {image: postgres}\nvolumes: {data: }\nsecrets: {key: {file: ./key.txt}}\n";
    stack(&format!("services:\n  web:\n    image: nginx\n{lines}{end}")).unwrap_err()
}

fn contained(member: &Member) -> &Contained {
    match &member.spec.runs {
        Runs::Container(contained) => contained,
        Runs::Component(what) => panic!("{what} is a component"),
    }
}

fn key(app: &str) -> NodeKey {
    let mut key = [0; 32];
    app.bytes().take(32).enumerate().for_each(|(at, byte)| key[at] = byte);
    NodeKey(key)
}

fn exposing(ports: &[u16]) -> Config {
    Config { ports: ports.to_vec(), health: None, has_command: true, stop_secs: None }
}

/// Names, and ports, that each service reaches.
fn reached(stack: &mut Stack, images: &[Config]) -> Result<Vec<Vec<(String, Vec<u16>)>>, Broken> {
    stack.connect(&images.iter().collect::<Vec<_>>(), key)?;
    let of = |member: &Member| contained(member).reaches.iter().map(|to| (to.name.clone(), to.ports.clone())).collect();
    Ok(stack.members.iter().map(of).collect())
}

#[test]
fn a_service_becomes_an_app_of_its_project() {
    let text = "x-hodei: {term: 2h}\nservices:\n  web_front:\n    image: nginx:1.27\n    command: [a, b]\n    environment: \
                {A: 1}\n    user: 1000:1000\n    working_dir: /srv\n    read_only: true\n    restart: always\n    scale: 2\n    \
                cpus: '0.5'\n    mem_limit: 100m\n    stop_grace_period: 1500ms\n    ports: [\"8080:80\"]\n    healthcheck: \
                {test: [CMD, ok], interval: 500ms}\n    x-hodei: {tier: office, regions: [local]}\n";
    let stack = stack(text).unwrap();
    let web = &stack.members[0];
    assert_eq!((stack.project.as_str(), web.app()), ("my-shop", "my-shop-web-front"));
    let terms = &web.spec.terms;
    assert_eq!((terms.replicas, terms.secs, terms.tierMin), (2, 7200, 1));
    assert_eq!((terms.each.cpuMilli, terms.each.memoryBytes), (500, 100 << 20));
    let runs = contained(web);
    assert_eq!((runs.image.as_str(), runs.port, runs.is_read_only), ("nginx:1.27", Some(80), true));
    assert_eq!((runs.command.as_deref(), runs.stop_secs), (Some(&["a".to_owned(), "b".to_owned()][..]), Some(2)));
    assert_eq!(runs.env, [("A".to_owned(), "1".to_owned())]);
    assert_eq!(
        (runs.user.as_str(), runs.workdir.as_str(), runs.restart),
        ("1000:1000", "/srv", container::Restart::Always)
    );
    let health = runs.health.as_ref().unwrap();
    assert_eq!((health.test.as_slice(), health.every_ms, health.retries), (&["ok".to_owned()][..], 500, 3));
    // Where it is published does not matter, and that is said.
    assert!(
        stack.notes.iter().any(|note| note.line == 15 && note.words.contains("hodei app serve")),
        "{:?}",
        stack.notes
    );
}

#[test]
fn what_nothing_does_yet_is_refused_with_its_line() {
    for (lines, words) in [
        ("volumes: [\"data:/data:ro\"]", "to write"),
        ("tmpfs: /cache", "/tmp"),
        ("extra_hosts: [\"a:10.0.0.1\"]", "nothing outside"),
        ("stop_signal: SIGINT", "STOPSIGNAL"),
        ("stop_grace_period: 11m", "600"),
        ("ports: [\"80:80\", \"81:81\"]", "x-hodei"),
        ("ports: [\"5432:5432\"]", "expose"),
        ("ports: [{target: 80, app_protocol: h2c}]", "expose"),
        ("build: {context: ., target: prod}", "by yourself"),
        ("build: https://example.org/a.git", "this machine"),
        ("x-hodei: {standby: warm}", "placed"),
        ("depends_on: {db: {condition: service_completed_successfully}}", "not yet"),
    ] {
        let error = refused(lines);
        // A grace is of its service, whose line is the one before.
        let line = if lines.starts_with("stop_grace") { 2 } else { 4 };
        assert_eq!(error.line, line, "{lines}: {error}");
        assert!(error.to_string().contains(words), "{lines}: {error}");
    }
}

#[test]
fn a_named_volume_is_a_disk_of_the_one_service_that_writes_it() {
    let end = "  web: {image: x}\nvolumes:\n  pg_data: {x-hodei: {size: 100mb}}\n  other:\nx-hodei: {snapshot: 30s}\n";
    let text = format!("services:\n  db:\n    image: x\n    volumes: [\"pg_data:/data\", \"other:/more\"]\n{end}");
    let stack = stack(&text).unwrap();
    let [db, web] = &stack.members[..] else { panic!("two services") };
    let volumes: Vec<_> =
        contained(db).volumes.iter().map(|one| (one.name.as_str(), one.path.as_str(), one.bytes >> 20)).collect();
    assert_eq!(volumes, [("pg-data", "/data", 100), ("other", "/more", 1024)]);
    assert_eq!(db.spec.draft.snapshot.as_deref(), Some("30s"));
    assert!(contained(web).volumes.is_empty() && web.spec.draft.snapshot.is_none());
    assert!(stack.notes.iter().any(|note| note.line == 4 && note.words.contains("1GiB")), "{:?}", stack.notes);
    let shared = text.replace("web: {image: x}", "web: {image: x, volumes: [\"other:/x\"]}");
    let error = super::tests::stack(&shared).unwrap_err();
    assert!(error.line == 5 && error.rule.contains("db writes it"), "{error}");
    let many = text.replace("    image: x\n", "    image: x\n    scale: 2\n");
    let error = super::tests::stack(&many).unwrap_err();
    assert!(error.key.contains("replicas") && error.rule.contains("once"), "{error}");
}

#[test]
fn what_is_done_otherwise_is_noted_and_goes_on() {
    let text = "services:\n  a:\n    image: x\n    hostname: box\n    pids_limit: 9\n    init: true\n    tmpfs: /tmp:size=1m\n    \
                volumes: [/var/lib]\n    restart: on-failure:3\n    x-hodei: {standby: cold}\n";
    let stack = stack(text).unwrap();
    let lines: Vec<_> = stack.notes.iter().map(|note| note.line).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7, 8], "{:?}", stack.notes);
    assert_eq!(contained(&stack.members[0]).restart, container::Restart::OnFailure);
}

#[test]
fn two_services_are_not_one_app() {
    let error = stack("services:\n  a_b: {image: x}\n  a.b: {image: x}\n").unwrap_err();
    assert!(error.line == 3 && error.rule.contains("line 2"), "{error}");
    let long = "a".repeat(60);
    assert_eq!(stack(&format!("services:\n  {long}: {{image: x}}\n")).unwrap_err().line, 2);
    assert!(Stack::of(&Compose::default(), "…", &Draft::default(), &mut beside).unwrap_err().rule.contains("-p"));
}

#[test]
fn flags_are_said_for_all_services_and_win() {
    let text = "services:\n  a: {image: x, x-hodei: {term: 1h}}\n  b: {image: x}\n";
    let compose = read(&Given { text, ..Given::default() }, &mut |_| Ok(None)).unwrap();
    let terms = Draft { term: Some("3h".into()), ..Draft::default() };
    let stack = Stack::of(&compose, "shop", &terms, &mut beside).unwrap();
    assert!(stack.members.iter().all(|member| member.spec.terms.secs == 3 * 3600));
}

#[test]
fn services_of_a_common_network_reach_each_other_by_name() {
    let text = "services:\n  db: {image: x, networks: {back: {aliases: [store]}}}\n  web: {image: x, ports: [80], networks: \
                [front, back]}\n  ui: {image: x, expose: [3000], networks: [front]}\nnetworks: {front: , back: }\n";
    let mut stack = stack(text).unwrap();
    let all = reached(&mut stack, &[exposing(&[5432]), exposing(&[80]), exposing(&[])]).unwrap();
    let to = |name: &str, port: u16| (name.to_owned(), vec![port]);
    assert_eq!(all[0], [to("web", 80)]);
    assert_eq!(all[1], [to("db", 5432), to("store", 5432), to("ui", 3000)]);
    assert_eq!(all[2], [to("web", 80)]);
    let web = contained(&stack.members[1]);
    assert_eq!(web.reaches[0].app, key("my-shop-db"));
    // Only what is published answers from outside.
    assert_eq!((contained(&stack.members[0]).port, web.port), (Some(0), Some(80)));
}

#[test]
fn a_service_that_says_no_port_is_reached_by_nobody_and_told() {
    let mut stack = stack("services:\n  worker: {image: x}\n  web: {image: x, ports: [80]}\n").unwrap();
    let all = reached(&mut stack, &[exposing(&[]), exposing(&[])]).unwrap();
    assert_eq!(all[0], [("web".to_owned(), vec![80])]);
    assert!(all[1].is_empty());
    assert!(stack.notes.iter().any(|note| note.line == 2 && note.words.contains("expose")), "{:?}", stack.notes);
}

#[test]
fn one_port_is_not_heard_at_twice_in_a_container() {
    let text = "services:\n  api: {image: x}\n  web: {image: x, depends_on: [api]}\n";
    let error = reached(&mut stack(text).unwrap(), &[exposing(&[80]), exposing(&[80])]).unwrap_err();
    assert!(error.line == 3 && error.rule.contains("80"), "{error}");
    let mut both = stack(text).unwrap();
    let all = reached(&mut both, &[exposing(&[80, 81]), exposing(&[80])]).unwrap();
    assert_eq!(all[1], [("api".to_owned(), vec![81])]);
    assert!(all[0].is_empty());
    assert!(both.notes.iter().any(|note| note.words.contains("80")), "{:?}", both.notes);
}

#[test]
fn names_that_cannot_be_reached_by_are_refused_where_somebody_would() {
    let text = "services:\n  my_db: {image: x, expose: [1]}\n  web: {image: x}\n";
    let error = reached(&mut stack(text).unwrap(), &[exposing(&[]), exposing(&[])]).unwrap_err();
    assert_eq!((error.line, error.nearest.as_deref()), (2, Some("\"my-db\"")), "{error}");
    let alone = "services:\n  my_db: {image: x, expose: [1]}\n";
    reached(&mut stack(alone).unwrap(), &[exposing(&[])]).unwrap();
    let twice = "services:\n  a: {image: x, expose: [1], networks: {default: {aliases: [c]}}}\n  b: {image: x, expose: [2], \
                 networks: {default: {aliases: [c]}}}\n  web: {image: x}\n";
    let images = [exposing(&[]), exposing(&[]), exposing(&[])];
    assert!(reached(&mut stack(twice).unwrap(), &images).unwrap_err().rule.contains("called so"));
}

#[test]
fn an_images_own_test_is_asked_as_often_as_the_file_says() {
    let text = "services:\n  a: {image: x, healthcheck: {interval: 5s}}\n";
    let mut asked = stack(text).unwrap();
    let check = crate::image::Check { test: vec!["own".into()], ..crate::image::Check::default() };
    let image = Config { health: Some(check), ..exposing(&[]) };
    reached(&mut asked, &[image]).unwrap();
    let health = contained(&asked.members[0]).health.clone().unwrap();
    assert_eq!((health.test.as_slice(), health.every_ms), (&["own".to_owned()][..], 5000));
    assert_eq!(reached(&mut stack(text).unwrap(), &[exposing(&[])]).unwrap_err().line, 2);
}

#[test]
fn secrets_configs_and_files_of_the_project_are_given_as_files() {
    let text = "services:\n  web:\n    image: nginx\n    secrets:\n      - key\n      - {source: key, target: /etc/key, uid: '7', \
                mode: 0400}\n    configs: [{source: conf, target: /etc/app.conf}]\n    volumes:\n      - \
                ./nginx.conf:/etc/nginx/nginx.conf:ro\n      - ./site:/www:ro\nsecrets: {key: {file: ./key.txt}}\nconfigs: \
                {conf: {content: \"a = 1\"}}\n";
    let stack = stack(text).unwrap();
    let files = &contained(&stack.members[0]).files;
    let shown: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.uid, file.mode, &file.bytes[..])).collect();
    assert_eq!(
        shown,
        [
            ("/run/secrets/key", 0, 0o444, &b"secret"[..]),
            ("/etc/key", 7, 0o400, b"secret"),
            ("/etc/app.conf", 0, 0o444, b"a = 1"),
            ("/etc/nginx/nginx.conf", 0, 0o444, b"events {}"),
            ("/www/index.html", 0, 0o444, b"hello"),
            ("/www/bin/run", 0, 0o555, b"#!"),
        ]
    );
    assert!(stack.notes.iter().any(|note| note.line == 10 && note.words.contains("stays there")), "{:?}", stack.notes);
}

#[test]
fn files_that_cannot_be_given_are_refused_with_their_line() {
    for (lines, rule) in [
        ("volumes: [\"./none:/a:ro\"]", "not there"),
        ("volumes: [\"./big:/a:ro\"]", "build what is more"),
        ("volumes: [\"./key.txt:/proc/x:ro\"]", "/proc"),
        ("volumes: [\"./key.txt:/a:ro\", \"./key.txt:/a/b:ro\"]", "one file is at one place"),
        ("secrets: [{source: key, target: /sys/x}]", "/proc"),
        ("secrets: [{source: key, target: /run}]", "each container has"),
        ("volumes: [\"data:/data\", \"./key.txt:/data/key:ro\"]", "a volume at"),
    ] {
        let error = refused(lines);
        assert!(error.line == 4 && error.rule.contains(rule), "{lines}: {error}");
    }
}

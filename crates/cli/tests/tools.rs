//! Share, carry, save and recover what a cloud of real processes keeps; see what a person would see.

mod machines;

use machines::{
    User, content,
    demo::{Demo, text, wait_for},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A cloud at a time: each is ten processes.
static ALONE: Mutex<()> = Mutex::new(());

/// What this file asks of a demo besides.
trait Tools {
    fn refused(&self, words: &[&str], code: &str);
    fn door(&self, name: &str) -> &str;
    fn keys(&self, bucket: &str) -> Vec<String>;
}

impl Tools for Demo {
    fn refused(&self, words: &[&str], code: &str) {
        self.user.refused(&self.words(words), code);
    }

    fn door(&self, name: &str) -> &str {
        self.doors["s3"][name].as_str().unwrap()
    }

    fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = self.lines(&["data", "list", &format!("hodei://{bucket}")]);
        listed.iter().filter_map(|line| Some(line["key"].as_str()?.to_owned())).collect()
    }
}

/// A file that only its owner reads, as secrets must be.
fn secret(path: &Path, line: &str) {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// Ordinary files below a folder by their relative names; what begins with a dot is left out.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(text(path.strip_prefix(root).unwrap()).to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// `hodei share serve`, until its standard input closes; and where it answers.
fn serve_links(demo: &Demo) -> (Child, String) {
    let words = demo.words(&["share", "serve", "--listen", "127.0.0.1:0", "--until-stdin-closes", "--json"]);
    let mut door = demo.user.command(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(door.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the door did not open: {line:?}"));
    (door, ready["url"].as_str().unwrap().to_owned())
}

/// What a browser gets: status, headers in lower case, body.
fn get(method: &str, url: &str, header: &str) -> (u16, String, Vec<u8>) {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    // Who waits to be asked for a body is sent away without being told to.
    let close = if header.contains("expect") { "" } else { "connection: close\r\n" };
    write!(stream, "{method} /{path} HTTP/1.1\r\nhost: {host}\r\n{close}{header}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

#[test]
fn a_link_lets_anybody_read_one_object_until_it_ends() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("links");
    let bytes = content(3, 3 << 20);
    let file = demo.user.folder().join("a b.jpg");
    fs::write(&file, &bytes).unwrap();
    demo.one(&["data", "create", "photos", "-y"]);
    demo.one(&["data", "cp", text(&file), "hodei://photos/attic/a b.jpg"]);
    demo.one(&["data", "cp", text(&file), "hodei://photos/other"]);

    demo.refused(&["share", "create", "hodei://photos/absent", "-y"], "HD3002");
    demo.refused(&["share", "create", "hodei://photos/other", "--expires", "tomorrow", "-y"], "HD1001");
    let plan = demo.one(&["share", "create", "hodei://photos/other", "--dry-run"]);
    assert_eq!((&plan["schema"], &plan["size_bytes"]), (&"hodei.share.create.plan/1".into(), &(3 << 20).into()));
    assert!(demo.lines(&["share", "list"]).is_empty(), "looking makes nothing");

    let brief = demo.one(&["share", "create", "hodei://photos/other", "--expires", "1m", "-y"]);
    let made = demo.one(&["share", "create", "hodei://photos/attic/a b.jpg", "--expires", "1h", "-y"]);
    let (url, name) = (made["link"].as_str().unwrap(), made["name"].as_str().unwrap());
    assert!(url.starts_with(&format!("{}/s/hodeishare1", demo.doors["share"].as_str().unwrap())), "{url}");
    let brief_url = format!("{}/x", brief["link"].as_str().unwrap());
    assert!(get("GET", &brief_url, "").2 == bytes, "it leads there while it lasts");

    // A browser: a page, then the bytes, whole or a part of them.
    let (status, head, page) = get("GET", url, "");
    assert_eq!(status, 200, "{head}");
    assert!(
        String::from_utf8_lossy(&page).contains("a b.jpg") && !String::from_utf8_lossy(&page).contains("attic"),
        "{head}"
    );
    let bytes_url = format!("{url}/a%20b.jpg");
    let (status, head, body) = get("GET", &bytes_url, "");
    assert_eq!((status, body == bytes), (200, true), "{head}");
    let (status, head, body) = get("GET", &bytes_url, "range: bytes=1048570-1048585\r\n");
    assert_eq!((status, body.as_slice()), (206, &bytes[1_048_570..1_048_586]), "{head}");
    let (status, head, body) = get("HEAD", &bytes_url, "");
    assert_eq!((status, body.len()), (200, 0));
    assert!(
        head.contains("content-length: 3145728") && head.contains("no-store") && head.contains("attachment"),
        "{head}"
    );
    assert_eq!(get("PUT", &bytes_url, "content-length: 0\r\n").0, 405);
    let (status, head, _) = get("PUT", &bytes_url, "content-length: 1\r\nexpect: 100-continue\r\n");
    assert!(status == 405 && head.contains("connection: close"), "{head}");
    let bent = format!("{}q", &url[..url.len() - 1]);
    assert_eq!(get("GET", &if bent == url { format!("{}p", &url[..url.len() - 1]) } else { bent }, "").0, 404);

    // Somebody else, by the providers themselves: no key of the owner, no bucket of their own.
    let stranger = User::new("links-stranger");
    let ticket = demo.one(&["net", "invite", "--coins", "1", "-y"])["ticket"].as_str().unwrap().to_owned();
    stranger.one(&["net", "join", &ticket, "--context-name", "other"]);
    let got = stranger.folder().join("got");
    let said = stranger.one(&["-C", "other", "share", "get", url, text(&got)]);
    assert_eq!((&said["name"], fs::read(&got).unwrap() == bytes), (&"a b.jpg".into(), true), "{said}");
    stranger.refused(&["-C", "other", "share", "get", &url[..url.len() - 3], text(&got)], "HD3009");
    stranger.refused(&["-C", "other", "data", "cp", "hodei://photos/other", text(&got)], "HD3001");

    // Whatever is put under the name later, and though it is removed: the link shows what it was made of.
    let later = demo.user.folder().join("later");
    fs::write(&later, content(4, 1 << 20)).unwrap();
    demo.one(&["data", "cp", text(&later), "hodei://photos/attic/a b.jpg"]);
    demo.one(&["data", "rm", "hodei://photos/attic/a b.jpg", "-y"]);
    // Longer than anything else that is replaced is kept; then the next command releases it.
    std::thread::sleep(Duration::from_secs(65));
    demo.one(&["data", "cp", text(&file), "hodei://photos/attic/a b.jpg"]);
    assert!(get("GET", &bytes_url, "").2 == bytes);
    stranger.one(&["-C", "other", "share", "get", url, text(&got)]);
    assert!(fs::read(&got).unwrap() == bytes);

    // The owner lists the links, never the words, and takes one back.
    let listed = demo.lines(&["share", "list", "photos"]);
    let ours = listed.iter().find(|line| line["name"] == name).unwrap();
    assert_eq!((listed.len(), &ours["key"], &ours["expired"]), (2, &"attic/a b.jpg".into(), &false.into()));
    assert!(!listed.iter().any(|line| line.to_string().contains("hodeishare1")));
    demo.refused(&["share", "revoke", "photos", "000000000000", "-y"], "HD3009");
    let gone = demo.one(&["share", "revoke", "photos", name, "-y"]);
    assert_eq!(gone["revoked"], 1, "{gone}");
    assert_eq!(get("GET", &bytes_url, "").0, 410);
    stranger.refused(&["-C", "other", "share", "get", url, text(&got)], "HD3009");
    assert_eq!(demo.lines(&["share", "list"]).len(), 1);

    // A door of its own serves the same links, here alone, until it is stopped.
    demo.refused(&["share", "serve", "--listen", "0.0.0.0:0"], "HD1002");
    let (mut door, url) = serve_links(&demo);
    let passed = demo.one(&["share", "create", "hodei://photos/other", "--gateway", &url, "-y"]);
    let link = passed["link"].as_str().unwrap();
    assert!(link.starts_with(&format!("{url}/s/hodeishare1")), "{link}");
    assert_eq!(get("GET", link, "").0, 200);
    let (status, head, body) = get("GET", &format!("{link}/other"), "range: bytes=5-20\r\n");
    assert_eq!((status, body.as_slice()), (206, &bytes[5..21]), "{head}");
    assert_eq!(get("GET", &format!("{url}/s/hodeishare1qqqq"), "").0, 404);
    assert_eq!(get("GET", &format!("{url}/"), "").0, 404);
    demo.one(&["share", "revoke", "photos", passed["name"].as_str().unwrap(), "-y"]);
    wait_for("the door to hear of it", || get("GET", &format!("{link}/other"), "").0 == 410);
    drop(door.stdin.take());
    assert_eq!(door.wait().unwrap().code(), Some(0));

    // With new keys the object is the owner's alone, and unchanged.
    let again = demo.one(&["share", "create", "hodei://photos/attic/a b.jpg", "-y"]);
    let gone = demo.one(&["share", "revoke", "hodei://photos/attic/a b.jpg", "--rekey", "-y"]);
    assert_eq!(gone["rekeyed"], serde_json::json!(["attic/a b.jpg"]), "{gone}");
    assert_eq!(get("GET", &format!("{}/x", again["link"].as_str().unwrap()), "").0, 410);
    let back = demo.user.folder().join("back");
    demo.one(&["data", "cp", "hodei://photos/attic/a b.jpg", text(&back)]);
    assert!(fs::read(&back).unwrap() == bytes);

    // What was given for a minute ends by itself, and is then cleared away.
    wait_for("the end of a minute", || get("GET", &brief_url, "").0 == 410);
    assert_eq!(demo.one(&["share", "list"])["expired"], true);
    assert_eq!(demo.one(&["share", "revoke", "photos", "-y"])["revoked"], 1);
    assert!(demo.lines(&["share", "list"]).is_empty());
}

#[test]
fn a_folder_is_shared_by_a_link_or_sold_by_a_pass_to_one_reader() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("folders");
    let tree = demo.user.folder().join("tree");
    fs::create_dir_all(tree.join("seg")).unwrap();
    for (name, size) in [("index.html", 300), ("seg/one.webm", 200_000), ("seg/two.webm", 0), ("a&b.txt", 1000)] {
        fs::write(tree.join(name), content(size as u64 + 1, size)).unwrap();
    }
    let there = files(&tree);
    demo.one(&["data", "sync", text(&tree), "hodei://films/alps", "-y"]);
    demo.one(&["data", "cp", text(&tree.join("a&b.txt")), "hodei://films/alpsee"]);
    demo.refused(&["share", "create", "hodei://films/none/", "-y"], "HD3002");
    demo.refused(&["share", "create", "hodei://films/alps/", "--for", "hodeireader1qqqq", "-y"], "HD1001");
    let plan = demo.one(&["share", "create", "hodei://films/alps", "--prefix", "--dry-run"]);
    assert_eq!((&plan["objects"], &plan["prefix"]), (&5.into(), &true.into()), "and what only begins so");

    // A link: a page, its files, and all of them at once.
    let made = demo.one(&["share", "create", "hodei://films/alps/", "--expires", "1h", "-y"]);
    let link = made["link"].as_str().unwrap().to_owned();
    assert_eq!((&made["objects"], link.ends_with('/')), (&4.into(), true), "{made}");
    let (status, head, _) = get("GET", link.trim_end_matches('/'), "");
    assert!(status == 302 && head.contains("/\r\n"), "what a page names beside itself is below it: {head}");
    let (status, _, page) = get("GET", &link, "");
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(status == 200 && page.contains("href=\"./seg/one.webm\"") && page.contains("a&amp;b.txt"), "{page}");
    assert!(!page.contains("alpsee") && !page.contains("films"), "{page}");
    for (name, bytes) in &there {
        let (status, head, body) = get("GET", &format!("{link}{}", name.replace('&', "%26")), "");
        assert!(status == 200 && body == *bytes && !head.contains("attachment"), "{name}: {head}");
        assert!(head.contains("access-control-allow-origin: *") && head.contains("x-hodei-from: providers="), "{head}");
        assert_eq!(head.contains("allow-scripts"), name.ends_with(".html"), "{name}: {head}");
    }
    let one = format!("{link}seg/one.webm");
    let (status, head, body) = get("GET", &one, "range: bytes=100000-100009\r\n");
    assert_eq!((status, body.as_slice()), (206, &there["seg/one.webm"][100_000..100_010]), "{head}");
    let (status, head, body) = get("HEAD", &one, "");
    assert!(status == 200 && body.is_empty() && head.contains("content-type: video/webm"), "{head}");
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(get("GET", &one, &format!("if-none-match: {etag}\r\n")).0, 304);
    assert_eq!(get("GET", &one, "if-match: \"another\"\r\n").0, 412);
    for absent in ["seg", "seg/", "seg/three", "%2e%2e/alpsee", "%ff"] {
        assert_eq!(get("GET", &format!("{link}{absent}"), "").0, 404, "{absent}");
    }
    let word = made["word"].as_str().unwrap();
    let whole = demo.user.folder().join("whole");
    let got = demo.one(&["share", "get", word, text(&whole)]);
    assert_eq!((&got["objects"], files(&whole) == there), (&4.into(), true), "{got}");
    assert!(got["first_byte_ms"].is_u64() && !got["from"].as_array().unwrap().is_empty(), "{got}");
    demo.refused(&["share", "get", word, text(&whole)], "HD1103");
    let single = demo.user.folder().join("single");
    demo.one(&["share", "get", word, "seg/one.webm", text(&single)]);
    assert!(fs::read(&single).unwrap() == there["seg/one.webm"]);
    demo.refused(&["share", "get", word, "seg/three", text(&single)], "HD3002");

    // A pass: to its reader alone, whichever command of that reader asks.
    let reader = User::new("folders-reader");
    let ticket = demo.one(&["net", "invite", "--coins", "1", "-y"])["ticket"].as_str().unwrap().to_owned();
    reader.one(&["net", "join", &ticket, "--context-name", "other"]);
    let name = reader.one(&["-C", "other", "share", "reader"])["reader"].as_str().unwrap().to_owned();
    assert_eq!(reader.one(&["-C", "other", "share", "reader"])["reader"], name, "it stays the same");
    // Too little for what is read of anybody is told beforehand, with what is enough.
    let sell = |money: &[&str]| {
        let words = [&["share", "create", "hodei://films/alps/", "--for", &name, "--dry-run"][..], money].concat();
        demo.user.run(&demo.words(&words))
    };
    for money in [
        &["--pay", "0"][..],
        &["--pay", "0.000001"],
        &["--pay", "1", "--per-gib", "0"],
        &["--pay", "1", "--per-gib", "0.000000000000000001"],
    ] {
        let (code, _, error) = sell(money);
        let error = &error["error"];
        assert_eq!((code, error["code"].as_str()), (2, Some("HD1001")), "{money:?}: {error}");
        assert!(error["expected"].as_str().is_some_and(|least| least.starts_with("at least 0.0")), "{error}");
    }
    let (code, plan, error) = sell(&["--pay", "1"]);
    assert!(code == 0 && plan[0]["paid_bytes"].as_u64().is_some_and(|bytes| bytes >= 6 << 20), "{plan:?} {error}");
    let asked = demo.one(&["status"])["providers"][0]["price_read_wei"].clone();
    assert!(asked.as_str().is_some_and(|wei| wei.parse::<u128>().is_ok_and(|wei| wei > 0)), "{asked}");
    let sold = demo.one(&["share", "create", "hodei://films/alps/", "--for", &name, "-y"]);
    let pass = sold["word"].as_str().unwrap();
    assert_eq!(sold["link"], sold["word"], "no gateway answers it");
    let (status, _, page) = get("GET", &format!("{}/s/{pass}/seg/one.webm", demo.doors["share"].as_str().unwrap()), "");
    assert!(
        status == 403 && String::from_utf8_lossy(&page).contains("another reader"),
        "the owner's door is not its reader"
    );
    demo.refused(&["share", "get", pass, "seg/one.webm", text(&single)], "HD3018");
    let told = reader.one(&["-C", "other", "share", "open", pass]);
    assert_eq!((&told["objects"], &told["ledger"], &told["paid"]), (&4.into(), &true.into(), &false.into()), "{told}");
    let bought = reader.folder().join("bought");
    reader.one(&["-C", "other", "share", "get", pass, text(&bought)]);
    assert!(files(&bought) == there);
    let listed = demo.lines(&["share", "list", "films"]);
    let ours = listed.iter().find(|line| line["name"] == sold["name"]).unwrap();
    assert_eq!((&ours["prefix"], ours["readers"].as_array().unwrap().len()), (&true.into(), 1), "{ours}");
    assert!(!listed.iter().any(|line| line.to_string().contains("hodeishare1")));

    // What they show stays though it is removed, until they are taken back.
    demo.one(&["data", "rm", "hodei://films/alps/seg/one.webm", "-y"]);
    std::thread::sleep(Duration::from_secs(65));
    demo.one(&["data", "cp", text(&single), "hodei://films/other"]);
    reader.one(&["-C", "other", "share", "get", pass, "seg/one.webm", text(&single)]);
    assert!(fs::read(&single).unwrap() == there["seg/one.webm"]);
    let gone = demo.one(&["share", "revoke", "hodei://films/alps/", "-y"]);
    assert_eq!(gone["revoked"], 2, "{gone}");
    reader.refused(&["-C", "other", "share", "get", pass, "seg/one.webm", text(&single)], "HD3009");
    wait_for("the door to hear of it", || get("GET", &one, "").0 == 410);
}

#[test]
fn a_kit_alone_recovers_everything_on_an_empty_machine() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("kit");
    let folder = demo.user.folder();
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    for (name, size) in [("one", 10), ("deep/two", 2 << 20), ("deep/er/three", 0)] {
        fs::write(tree.join(name), content(size as u64 + 5, size)).unwrap();
    }
    demo.one(&["data", "sync", text(&tree), "hodei://papers", "-y"]);
    demo.one(&["data", "create", "empty", "-y"]);
    // Two versions of one key, by whoever speaks S3.
    let sign = format!("{}:{}", demo.door("access_key_id"), demo.door("secret_access_key"));
    // Older versions of curl do not say by themselves that they leave the body unsigned.
    let unsigned = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    let s3 = |words: &[&str], path: &str| {
        let url = format!("{}/papers/{path}", demo.door("endpoint"));
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &sign, "-H", unsigned])
            .args(words)
            .arg(url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?} {path}: {output:?}");
    };
    let on = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
    s3(&["-X", "PUT", "-H", "content-type: application/xml", "--data-binary", on], "?versioning=");
    s3(&["-X", "PUT", "-H", "content-type: text/plain", "--data-binary", "first"], "letter");
    s3(&["-X", "PUT", "-H", "content-type: text/plain", "--data-binary", "second"], "letter");

    let (kit, words) = (folder.join("demo.kit"), folder.join("passphrase"));
    secret(&words, "correct horse battery");
    let backup = ["key", "backup", text(&kit), "--passphrase-file", text(&words)];
    let made = demo.one(&backup);
    assert_eq!(made["rehearsed"], true, "{made}");
    let papers = |said: &Value| -> (u64, u64) {
        let bucket = said["buckets"].as_array().unwrap().iter().find(|bucket| bucket["bucket"] == "papers").unwrap();
        (bucket["objects"].as_u64().unwrap(), bucket["versions"].as_u64().unwrap())
    };
    assert_eq!(papers(&made), (4, 5), "{made}");
    assert_eq!(fs::metadata(&kit).unwrap().permissions().mode() & 0o777, 0o600);
    demo.refused(&backup, "HD1103");
    // What is made later is not in it, and that is told.
    let check = ["key", "check", text(&kit), "--passphrase-file", text(&words)];
    assert_eq!(demo.one(&check)["lacks"], serde_json::json!([]));
    let later = demo.one(&["s3", "key", "add", "later"]);
    let lacks = demo.one(&check)["lacks"].clone();
    let named = later["access_key_id"].as_str().unwrap();
    assert!(lacks.as_array().is_some_and(|all| all.len() == 1 && all[0].as_str().unwrap().contains(named)), "{lacks}");
    let attention = demo.one(&["status"])["attention"].clone();
    assert!(attention.to_string().contains("hodei key backup"), "{attention}");

    // Nothing of the owner's is here but the kit and what its owner remembers.
    let empty = User::new("kit-empty");
    let (carried, remembered) = (empty.folder().join("a.kit"), empty.folder().join("passphrase"));
    fs::copy(&kit, &carried).unwrap();
    secret(&remembered, "correct horse battery");
    let wrong = empty.folder().join("wrong");
    secret(&wrong, "correct horse");
    let (kit, words) = (text(&carried), text(&remembered));
    empty.refused(&["key", "recover", kit, "--passphrase-file", text(&wrong)], "HD4003");
    assert_eq!(papers(&empty.one(&["key", "check", kit, "--passphrase-file", words])), (4, 5));
    let back = empty.one(&["key", "recover", kit, "--passphrase-file", words, "--context-name", "mine"]);
    assert_eq!(
        (&back["context"], &back["account"], papers(&back)),
        (&"mine".into(), &made["account"], (4, 5)),
        "{back}"
    );
    empty.refused(&["key", "recover", kit, "--passphrase-file", words, "--context-name", "mine"], "HD1103");

    // Everything as ordinary files, older versions among them.
    let all = empty.folder().join("all");
    let export = ["-C", "mine", "--passphrase-file", words, "data", "export", "hodei://", text(&all), "--versions"];
    let said = empty.one(&export);
    assert_eq!((said["failed"].as_u64(), said["same"].as_u64()), (Some(0), Some(0)), "{said}");
    let mut want = files(&tree);
    want.insert("letter".into(), b"second".to_vec());
    assert!(files(&all.join("papers")) == want, "{:?}", files(&all.join("papers")).keys());
    assert!(all.join("empty").is_dir());
    let older: Vec<PathBuf> =
        fs::read_dir(all.join("papers/.hodei-versions/letter")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(older.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>(), [b"first"]);
    let list = fs::read_to_string(all.join("papers/.hodei-objects.jsonl")).unwrap();
    assert!(list.lines().count() == 5 && list.contains("text/plain"), "{list}");
    let again = empty.one(&export);
    assert_eq!((again["written"].as_u64(), again["same"].as_u64()), (Some(0), said["written"].as_u64()), "{again}");
    // And it is the owner's to write on.
    let file = empty.folder().join("new");
    fs::write(&file, b"new").unwrap();
    empty.one(&["-C", "mine", "--passphrase-file", words, "data", "cp", text(&file), "hodei://papers/new"]);
    assert!(demo.keys("papers").contains(&"new".to_owned()));

    // All versions are told, so that whoever wants the bucket gone sees what is left.
    demo.one(&["data", "rm", "hodei://papers/letter", "-y"]);
    let told = demo.lines(&["data", "list", "hodei://papers/letter", "--versions"]);
    let told: Vec<_> = told.iter().map(|one| (one["size_bytes"].as_u64(), &one["is_delete_marker"])).collect();
    assert_eq!(told, [(Some(0), &true.into()), (Some(6), &false.into()), (Some(5), &false.into())]);
    // And where each is, stripe by stripe: each shard with another provider, as many with each as the sum says.
    let whole = demo.lines(&["data", "list", "hodei://papers/letter", "--versions"]);
    let [marker, newer, older] = [0, 1, 2].map(|at: usize| whole[at]["version"].as_str().unwrap().to_owned());
    for version in [&newer, &older] {
        let place = ["data", "where", "hodei://papers/letter", "--version", version];
        let stripes = demo.lines(&[&place[..], &["--stripes"]].concat());
        let [stripe] = &stripes[..] else { panic!("{stripes:?}") };
        let shards = stripe["shards"].as_array().unwrap();
        let nodes: BTreeSet<_> = shards.iter().map(|shard| shard["node"].as_str().unwrap().to_owned()).collect();
        assert_eq!((stripe["k"].as_u64(), shards.len(), nodes.len()), (Some(3), 6, 6), "{stripe}");
        let summed = demo.lines(&place);
        assert!(summed.iter().all(|line| line["shards"] == 1 && nodes.contains(line["node"].as_str().unwrap())));
        assert_eq!(summed.len(), 6);
    }
    for (id, code) in [(&*marker, "HD3002"), ("0123456789abcdef0123456789abcdef", "HD3002"), ("yesterday", "HD3003")] {
        demo.refused(&["data", "where", "hodei://papers/letter", "--version", id], code);
    }
    demo.refused(&["data", "where", "hodei://papers/letter"], "HD3002");
    // One version goes for good: without its marker the object is there again, and what was before it stays.
    let remove = |version: &str| demo.one(&["data", "rm", "hodei://papers/letter", "--version", version, "-y"]);
    assert_eq!(remove(&marker)["version"], marker.as_str());
    assert!(demo.keys("papers").contains(&"letter".to_owned()));
    remove(&newer);
    let left = demo.lines(&["data", "list", "hodei://papers/letter", "--versions"]);
    let left: Vec<_> = left.iter().map(|one| (one["version"].as_str().unwrap(), one["is_newest"] == true)).collect();
    assert_eq!(left, [(older.as_str(), true)]);
    demo.refused(&["data", "rm", "hodei://papers/letter", "--version", &newer, "-y"], "HD3002");
    demo.refused(&["data", "rm", "hodei://papers", "--version", &older, "-y"], "HD3003");
    let (code, _, error) = demo.user.run(&demo.words(&["data", "rm", "hodei://papers", "-y"]));
    assert!(code == 8 && error.to_string().contains("--versions"), "{code} {error}");
    // A key of the door that is not there.
    demo.refused(&["s3", "key", "rotate", "HODEI0"], "HD3021");
    demo.refused(&["s3", "key", "remove", "HODEI0"], "HD3021");
}

#[test]
fn a_folder_and_another_server_are_carried_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("carry");
    let folder = demo.user.folder();
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for (name, size) in [("a.txt", 5), ("sub/b.bin", 2 << 20), ("50% ü %20.md", 100), ("sub/nothing", 0)] {
        fs::write(tree.join(name), content(size as u64 + 9, size)).unwrap();
    }
    let sync = |words: &[&str]| demo.one(&[&["data", "sync"], words].concat());
    let count = |said: &Value, name: &str| said[name].as_u64().unwrap_or_else(|| panic!("{name} of {said}"));

    // The price first, and nothing done.
    let plan = sync(&[text(&tree), "hodei://photos", "--dry-run"]);
    assert_eq!((count(&plan, "copy"), count(&plan, "copy_bytes")), (4, (2 << 20) + 105), "{plan}");
    assert!(plan["escrow_wei"].as_str().unwrap().parse::<u128>().unwrap() > 0, "{plan}");
    demo.refused(&["data", "list", "hodei://photos"], "HD3001");
    demo.refused(&["data", "sync", text(&tree), "hodei://photos"], "HD1104");

    let first = sync(&[text(&tree), "hodei://photos", "-y"]);
    assert_eq!((count(&first, "carried"), count(&first, "failed")), (4, 0), "{first}");
    let second = sync(&[text(&tree), "hodei://photos", "-y"]);
    assert_eq!((count(&second, "carried"), count(&second, "same")), (0, 4), "{second}");
    let looked = sync(&[text(&tree), "hodei://photos", "--checksum", "-y"]);
    assert_eq!(count(&looked, "same"), 4, "{looked}");
    // One changes, one goes.
    fs::write(tree.join("a.txt"), b"changed").unwrap();
    fs::remove_file(tree.join("sub/nothing")).unwrap();
    let third = sync(&[text(&tree), "hodei://photos", "-y"]);
    assert_eq!((count(&third, "carried"), count(&third, "removed")), (1, 0), "nothing goes unless told: {third}");
    let fourth = sync(&[text(&tree), "hodei://photos", "--delete", "-y"]);
    assert_eq!((count(&fourth, "carried"), count(&fourth, "removed")), (0, 1), "{fourth}");

    // Another server: what answers S3 for this very cloud is one as good as any.
    let (good, bad) = (folder.join("secret"), folder.join("wrong"));
    secret(&good, demo.door("secret_access_key"));
    secret(&bad, "0000000000000000000000000000000000000000");
    let server = |file: &Path, endpoint: &str, words: &[&str]| -> Vec<String> {
        let options =
            ["--endpoint", endpoint, "--access-key", demo.door("access_key_id"), "--secret-file", text(file), "-y"];
        [&["data", "sync"], words, &options].concat().into_iter().map(str::to_owned).collect()
    };
    let say = |words: &[String]| demo.one(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let refuse =
        |words: &[String], code: &str| demo.refused(&words.iter().map(String::as_str).collect::<Vec<_>>(), code);
    let way = ["s3://photos", "hodei://copy"];
    refuse(&server(&bad, demo.door("endpoint"), &way), "HD3010");
    refuse(&server(&good, "http://127.0.0.1:9", &way), "HD3011");
    refuse(&server(&good, demo.door("endpoint"), &["s3://absent", "hodei://copy"]), "HD3017");
    let over = server(&good, demo.door("endpoint"), &way);
    let carried = say(&over);
    assert_eq!((count(&carried, "carried"), count(&carried, "failed")), (3, 0), "{carried}");
    let carried = say(&over);
    assert_eq!((count(&carried, "carried"), count(&carried, "same")), (0, 3), "{carried}");
    let etags = |bucket: &str| -> Vec<(String, String)> {
        let listed = demo.lines(&["data", "list", &format!("hodei://{bucket}")]);
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        listed.iter().map(|line| (text(line, "key"), text(line, "etag"))).collect()
    };
    assert_eq!(etags("copy"), etags("photos"));

    // And back into a folder, as it was.
    let back = folder.join("back");
    let down = sync(&["hodei://copy", text(&back), "-y"]);
    assert_eq!(count(&down, "carried"), 3, "{down}");
    assert!(files(&back) == files(&tree), "{:?}", files(&back).keys());
    let down = sync(&["hodei://copy", text(&back), "-y"]);
    assert_eq!((count(&down, "carried"), count(&down, "same")), (0, 3), "{down}");
    fs::write(back.join("mine"), b"mine").unwrap();
    assert_eq!(count(&sync(&["hodei://copy", text(&back), "--delete", "-y"]), "removed"), 1);

    // Killed in the middle: what is there is whole, and the same command goes on behind it.
    let many = folder.join("many");
    fs::create_dir(&many).unwrap();
    // One after the other they take ten times as long as it takes to see the first ones there.
    const MANY: u64 = 400;
    for index in 0..MANY {
        fs::write(many.join(format!("{index:03}")), content(index, 20_000 + index as usize)).unwrap();
    }
    demo.one(&["data", "create", "many", "-y"]);
    let words = demo.words(&["data", "sync", text(&many), "hodei://many", "--parallel", "1", "-y"]);
    let mut running = demo.user.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("some objects", || demo.keys("many").len() > 2 || running.try_wait().unwrap().is_some());
    assert!(running.try_wait().unwrap().is_none(), "it was too fast to be killed");
    running.kill().unwrap();
    running.wait().unwrap();
    let there = demo.keys("many").len() as u64;
    let rest = sync(&[text(&many), "hodei://many", "-y"]);
    assert!(there < MANY && count(&rest, "same") >= there, "{there} of {rest}");
    assert_eq!(count(&rest, "same") + count(&rest, "carried"), MANY, "{rest}");
    let out = folder.join("out");
    demo.one(&["data", "export", "many", text(&out)]);
    assert!(files(&out) == files(&many));
}

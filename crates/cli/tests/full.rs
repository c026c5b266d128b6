//! Fill a bucket to its brim and empty it again, and carry from a server that does not give everything.

mod machines;

use machines::{
    content,
    demo::{Demo, text, wait_for},
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::{Mutex, PoisonError},
};

/// A cloud at a time: each is ten processes.
static ALONE: Mutex<()> = Mutex::new(());
/// What may pass is tried so often: a machine may be slow.
const TRIES: usize = 4;

fn keys(demo: &Demo, bucket: &str) -> Vec<String> {
    let listed = demo.lines(&["data", "list", &format!("hodei://{bucket}")]);
    listed.iter().filter_map(|line| Some(line["key"].as_str()?.to_owned())).collect()
}

#[test]
fn a_full_bucket_refuses_what_is_put_for_good_and_takes_removals_at_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("full");
    let file = demo.user.folder().join("file");
    demo.user.refused(&demo.words(&["data", "create", "brim", "--capacity", "0.2", "-y"]), "HD1001");
    demo.one(&["data", "create", "brim", "--capacity", "32MiB", "-y"]);
    let put = |key: &str| demo.user.run(&demo.words(&["data", "cp", text(&file), &format!("hodei://brim/{key}")]));
    // Ever smaller ones, until there is no room for any.
    let mut puts = 0;
    for size in [24 << 20, 4 << 20, 200_000] {
        fs::write(&file, content(size as u64, size)).unwrap();
        let (mut tries, mut key) = (0, format!("{size}-{puts}"));
        let error = loop {
            match put(&key) {
                (0, ..) => {
                    puts += 1;
                    key = format!("{size}-{puts}");
                }
                (5, _, error) => {
                    tries += 1;
                    assert!(tries < TRIES, "a full bucket is told as what may pass: {error}");
                }
                (code, _, error) => {
                    assert_eq!(code, 7, "{error}");
                    break error;
                }
            }
            assert!(puts < 60, "it never fills");
        };
        assert_eq!(
            (&error["error"]["code"], &error["error"]["retryable"]),
            (&"HD3007".into(), &false.into()),
            "{error}"
        );
        assert!(error["error"]["help"].as_str().unwrap().contains("hodei data redundancy"), "{error}");
    }
    assert!(puts >= 5, "{puts}");
    // Each writes a layer of the index beside those that are there.
    let held = keys(&demo, "brim");
    assert_eq!(held.len(), puts, "{held:?}");
    for key in &held {
        let (code, _, error) = demo.user.run(&demo.words(&["data", "rm", &format!("hodei://brim/{key}"), "-y"]));
        assert_eq!(code, 0, "{key}: {error}");
    }
    wait_for("the room of what was removed", || put("again").0 == 0);
    assert_eq!(keys(&demo, "brim"), ["again"]);
}

/// A server of others' with one bucket, `ssy`: of its objects one is given to nobody without its customer's key.
fn serve_sealed() -> String {
    const LIST: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>ssy</Name><Prefix></Prefix>\
        <KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>\
        <Contents><Key>open</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
        <ETag>&quot;5d41402abc4b2a76b9719d911017c592&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>\
        <Contents><Key>s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
        <ETag>&quot;00000000000000000000000000000000&quot;</ETag><Size>9</Size><StorageClass>STANDARD</StorageClass></Contents>\
        </ListBucketResult>";
    const SEALED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InvalidRequest</Code><Message>The object \
        was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the \
        object.</Message></Error>";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = first.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match path.split('?').next().unwrap_or_default() {
                "/ssy/open" => ("200 OK", "hello"),
                "/ssy/s" => ("400 Bad Request", SEALED),
                _ => ("200 OK", LIST),
            };
            let etag = "\"5d41402abc4b2a76b9719d911017c592\"";
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: {etag}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[test]
fn what_another_server_gives_only_for_its_customers_key_is_left_out_and_holds_nothing_up() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let demo = Demo::start("sealed");
    let folder = demo.user.folder().join("before");
    fs::create_dir(&folder).unwrap();
    for name in ["s", "extra"] {
        fs::write(folder.join(name), name).unwrap();
    }
    demo.one(&["data", "sync", text(&folder), "hodei://copy", "-y"]);
    let url = serve_sealed();
    let count = |said: &Value, name: &str| said[name].as_u64().unwrap_or_else(|| panic!("{name} of {said}"));
    let sync = ["data", "sync", "s3://ssy", "hodei://copy", "--endpoint", &url, "--delete", "-y"];
    let said = demo.one(&sync);
    let counts = ["carried", "sealed", "failed", "removed"].map(|name| count(&said, name));
    assert_eq!(counts, [1, 1, 0, 1], "{said}");
    assert_eq!(keys(&demo, "copy"), ["open", "s"], "what stands in its place stays");
    let again = demo.one(&sync);
    assert_eq!(["carried", "sealed", "same"].map(|name| count(&again, name)), [0, 1, 1], "{again}");
}

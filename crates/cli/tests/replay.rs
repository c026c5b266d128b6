//! Ask an app for a transcript of its answer, and run it again: as it was signed, tampered with, and signed by a liar.

mod machines;

use hodei_types::{
    ack::Signer,
    app::transcript::{Outcome, Record},
};
use machines::{Network, Node, User};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A machine that offers to compute, of an operator of its own.
fn offer(network: &Network) -> (User, Node) {
    let user = User::new("replay-host");
    let (ticket, _) = network.invite("20");
    user.one(&["net", "join", &ticket]);
    let words = ["node", "offer", "compute", "--cpus", "1", "--memory", "512MiB", "--zone", "attic", "-y"];
    let offered = user.one(&[&["-C", network.name.as_str()], &words[..]].concat());
    let folder = PathBuf::from(offered["folder"].as_str().unwrap());
    let node = Node::start(&user, &["-C", &network.name, "node", "run"], folder);
    (user, node)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn read(path: &Path) -> Record {
    Record::decode(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_transcript_runs_again_for_anybody_and_no_changed_one_passes() {
    let network = Network::start("replay");
    let hello = format!("{}/../../examples/hello.wat", env!("CARGO_MANIFEST_DIR"));
    let (_user, _node) = offer(&network);
    network.ask(&["deploy", &hello, "--dry-run"], "an offer", |lines| {
        (lines[0]["places"].as_array()?.len() == 1).then_some(())
    });
    network.one(&["deploy", &hello, "--term", "1h", "-y"]);

    // Whoever asks may want it; what came is compared with what is signed before it is kept.
    let folder = network.user.folder();
    let kept = folder.join("hello.request");
    let body = folder.join("body");
    fs::write(&body, b"any body").unwrap();
    let words =
        ["app", "ask", "hello", "/any?thing", "--method", "POST", "--body", text(&body), "--header", "X-One: 1"];
    let asked = network.one(&[&words[..], &["--transcript", text(&kept)]].concat());
    assert_eq!((asked["status"].as_u64(), asked["schema"].as_str()), (Some(200), Some("hodei.app.ask/1")), "{asked}");
    assert_eq!(asked["body"].as_str().unwrap().trim_end(), "Hello from somebody else's machine.");
    let bare = network.one(&["app", "ask", "hello"]);
    assert!(bare["transcript"].is_null() && bare["status"] == 200, "{bare}");

    // Somebody with folders of his own: no wallet, no network, nothing but the file and the component.
    let anybody = User::new("replay-anybody");
    let words = |file: &Path| ["app", "replay", text(file), "--component", &hello].map(str::to_owned);
    let again = |file: &Path| {
        let words = words(file);
        anybody.run(&words.each_ref().map(String::as_str))
    };
    let (exit, lines, error) = again(&kept);
    assert_eq!((exit, lines[0]["verdict"].as_str()), (0, Some("same")), "{lines:?} {error}");
    assert_eq!((&lines[0]["fuel"], &lines[0]["node"]), (&asked["fuel"], &asked["node"]));
    assert!(lines[0]["lines"].as_array().unwrap().iter().all(|line| line["same"] == true), "{lines:?}");
    let node = asked["node"].as_str().unwrap();
    let of_host = ["app", "replay", text(&kept), "--component", &hello, "--host"];
    assert_eq!(anybody.one(&[&of_host[..], &[node]].concat())["verdict"], "same");
    anybody.refused(&[&of_host[..], &[&"07".repeat(32)]].concat(), "HD5007");

    // Tampered with: every signature is over all of it. Signed by a host that lies: the run tells, and says where.
    let bent = folder.join("bent.request");
    let bends: [(&str, fn(&mut Outcome)); 3] = [
        ("fuel", |outcome| outcome.fuel -= 1),
        ("memory peak", |outcome| outcome.memory_peak_bytes += 65_536),
        ("status", |outcome| outcome.status = Some(500)),
    ];
    for (what, bend) in bends {
        let mut record = read(&kept);
        bend(&mut record.signed.transcript.outcome);
        fs::write(&bent, record.encode()).unwrap();
        let (exit, lines, error) = again(&bent);
        assert_eq!((exit, lines.len(), &error["error"]["code"]), (6, 0, &"HD5007".into()), "{what}: {error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("did not sign"), "{error}");

        let liar = Signer::new(&[9; 32]);
        record.signed.transcript.node = liar.node();
        record.signed = record.signed.transcript.sign(&liar);
        fs::write(&bent, record.encode()).unwrap();
        let (exit, lines, error) = again(&bent);
        assert_eq!((exit, &error["error"]["code"]), (6, &"HD5007".into()), "{what}: {error}");
        assert_eq!(lines[0]["verdict"], "differs");
        let lied = lines[0]["lines"].as_array().unwrap().iter().filter(|line| line["same"] == false);
        assert_eq!(lied.map(|line| line["what"].as_str().unwrap()).collect::<Vec<_>>(), [what]);
    }
    let mut record = read(&kept);
    record.body = b"other body".to_vec();
    fs::write(&bent, record.encode()).unwrap();
    assert_eq!(again(&bent).2["error"]["code"], "HD5007", "the body is what was asked with");
    let cut = fs::read(&kept).unwrap();
    fs::write(&bent, &cut[..cut.len() - 1]).unwrap();
    assert_eq!(again(&bent).2["error"]["code"], "HD5007", "half a file");
    let other = folder.join("other.wat");
    fs::write(&other, "(component)").unwrap();
    anybody.refused(&["app", "replay", text(&kept), "--component", text(&other)], "HD5007");

    // The host kept the first by itself, for who deployed.
    let out = folder.join("samples");
    let samples = network.user.lines(&["-C", &network.name, "app", "samples", "hello", "--out", text(&out)]);
    assert_eq!((samples.len(), samples[0]["request"].as_u64()), (1, Some(0)), "{samples:?}");
    let sample = PathBuf::from(samples[0]["file"].as_str().unwrap());
    assert_eq!(read(&sample), read(&kept), "the first request is the one that was asked");
    assert_eq!(again(&sample).0, 0);
    network.one(&["app", "delete", "hello", "-y"]);
}

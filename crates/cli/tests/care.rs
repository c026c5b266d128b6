//! Let custodians act while the owner is away: at their first look, after a kill, and for a provider that leaves.

mod machines;

use machines::{
    User, content,
    demo::{Demo, text, wait_for},
};
use serde_json::{Value, json};
use std::{fs, mem, path::PathBuf, process::Stdio, thread, time::Duration};

/// Some ten batches at the lowest rate for what lies with one of six.
const LARGE: usize = 24 << 20;

/// A demo with a bucket of 3 of 6, a shard of each stripe at each of its six providers, and one object in it.
struct Cloud {
    demo: Demo,
    object: Vec<u8>,
}

impl Cloud {
    fn start(name: &str, bytes: usize) -> Self {
        Self::start_with(name, bytes, &[])
    }

    fn start_with(name: &str, bytes: usize, options: &[&str]) -> Self {
        let demo = Demo::start(name);
        demo.one(&[&["data", "create", "vault", "--code", "3/6", "--operators", "6", "-y"][..], options].concat());
        let (object, file) = (content(1, bytes), demo.user.folder().join("there"));
        fs::write(&file, &object).unwrap();
        demo.one(&["data", "cp", text(&file), "hodei://vault/large", "--wait", "full"]);
        Self { demo, object }
    }

    fn check(&self) {
        let back = self.demo.user.folder().join("back");
        self.demo.one(&["data", "cp", "hodei://vault/large", text(&back)]);
        assert!(fs::read(&back).unwrap() == self.object, "it came back as something else");
    }

    /// What an owner's look finds, without a change.
    fn survey(&self) -> Value {
        let words = self.demo.words(&["data", "repair", "vault", "--dry-run"]);
        let (code, lines, error) = self.demo.user.run(&words);
        lines.into_iter().next().unwrap_or_else(|| panic!("no survey: {code} {error}"))
    }

    /// Takes a provider with all that it has, and waits until it missed a proof.
    fn lose(&self, index: usize) {
        let gone = self.demo.ready(index)["node"].as_str().unwrap().to_owned();
        self.demo.kill(index);
        fs::remove_dir_all(self.demo.folder(index)).unwrap();
        wait_for("a proof that is missed", || {
            let survey = self.survey();
            let seat = survey["providers"].as_array().unwrap().iter().find(|seat| seat["node"] == gone.as_str());
            matches!(seat.unwrap()["state"].as_str(), Some("missing" | "closed"))
        });
    }

    /// What the ledger has of the bucket, by the roots that were posted.
    fn held_bytes(&self) -> u64 {
        let status = self.demo.one(&["status"]);
        let bucket = status["buckets"].as_array().unwrap().iter().find(|bucket| bucket["bucket"] == "vault");
        bucket.expect("it is listed")["held_bytes"].as_u64().unwrap()
    }

    /// Somebody with some coins for fees whom the owner appoints, and the file with the word.
    fn appoint(&self, name: &str, reserve: &str) -> Custodian {
        let user = User::new(&format!("care-{name}"));
        let invited = self.demo.one(&["net", "invite", "--coins", "10", "-y"]);
        user.one(&["net", "join", invited["ticket"].as_str().unwrap(), "--context-name", "care"]);
        let account = user.one(&["data", "care", "account"])["account"].as_str().unwrap().to_owned();
        let file = user.folder().join("vault.care");
        let words = ["data", "care", "appoint", "vault", &account, "--reserve", reserve, "--out", text(&file), "-y"];
        self.demo.one(&words);
        Custodian { user, file }
    }
}

struct Custodian {
    user: User,
    file: PathBuf,
}

impl Custodian {
    /// One look that ends by itself: its exit code and what it told.
    fn look(&self) -> (i32, Value) {
        let (code, lines, error) = self.user.run(&["data", "care", "run", text(&self.file), "--once"]);
        let mut looks = lines.into_iter().filter(|line| line["schema"] == "hodei.data.care.look/1");
        let look = looks.next().unwrap_or_else(|| panic!("no look: {code} {error}"));
        assert!(looks.next().is_none(), "one look is one");
        (code, look)
    }
}

fn count(look: &Value, what: &str) -> u64 {
    look[what].as_u64().unwrap_or_else(|| panic!("no {what} in {look}"))
}

/// Whether a look found each shard where it is counted on, and had nothing to do.
fn is_well(look: &Value) -> bool {
    let is_whole = look["stripes"]["margins"] == json!({}) && count(&look["stripes"], "lost") == 0;
    is_whole && count(look, "due_stripes") + count(look, "copies") == 0
}

#[test]
fn the_first_custodian_acts_at_its_first_look_and_the_second_says_what_it_leaves() {
    let cloud = Cloud::start("look", LARGE / 4);
    let (first, second) = (cloud.appoint("first", "20"), cloud.appoint("second", "0"));
    wait_for("a bucket that is whole", || is_well(&first.look().1));
    let _late = cloud.demo.join("attic");
    cloud.lose(0);

    // Each stripe lacks one, and two more may go: the later one waits, says so, and ends.
    let (_, left) = second.look();
    assert!(count(&left, "due_stripes") > 0, "{left}");
    assert_eq!(["rank", "left_looks", "restored_shards"].map(|what| count(&left, what)), [1, 2, 0], "{left}");
    assert_eq!(left["left_stripes"], left["due_stripes"], "{left}");
    // The first waits for nobody.
    let (_, made) = first.look();
    assert_eq!(["rank", "left_stripes", "left_looks"].map(|what| count(&made, what)), [0, 0, 0], "{made}");
    assert!(count(&made, "due_stripes") > 0 && count(&made, "restored_shards") > 0, "{made}");
    wait_for("all that was lost", || is_well(&first.look().1));
    (1..4).for_each(|index| cloud.demo.kill(index));
    cloud.check();
}

#[test]
fn who_leaves_is_let_go_by_a_custodian_while_the_owner_is_away() {
    let cloud = Cloud::start("leave", LARGE);
    let custodian = cloud.appoint("only", "20");
    let mut bucket = Value::Null;
    wait_for("a bucket that is whole", || {
        let (_, look) = custodian.look();
        bucket = look["bucket"].clone();
        is_well(&look)
    });
    // Once nothing of what was put is on its way to the ledger.
    let mut held = cloud.held_bytes();
    wait_for("a ledger that has everything", || {
        thread::sleep(Duration::from_secs(2));
        mem::replace(&mut held, cloud.held_bytes()) == held
    });
    let _late = cloud.demo.join("loft");
    let folder = cloud.demo.folder(1);
    let drain = || cloud.demo.one(&["node", "drain", "--folder", text(&folder), "-y"]);
    let waits = |drained: &Value| {
        let waiting = drained["waiting"].as_array().unwrap_or_else(|| panic!("no deals in {drained}"));
        waiting.iter().find(|one| one["bucket"] == bucket).cloned()
    };
    let drained = drain();
    let waiting = waits(&drained).expect("the bucket's deal is open");
    assert!(count(&waiting, "held_bytes") > 0 && count(&waiting, "paid_until_ms") > 0, "{drained}");
    assert_eq!((&waiting["closing"], &drained["may_go"]), (&false.into(), &false.into()), "{drained}");

    // Killed on the way, after it said where some are.
    let words = ["data", "care", "run", text(&custodian.file), "--rate", "1", "--every", "1"];
    let mut command = custodian.user.command(&words);
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the first that went", || {
        let shown = cloud.demo.one(&["data", "care", "show", "vault"]);
        count(&shown, "restored_shards") > 0 || process.try_wait().unwrap().is_some()
    });
    let _ = process.kill();
    process.wait().unwrap();
    cloud.check();
    // The next one goes on; what the killed one brought is said, and posted: each shard is there once more by the ledger.
    wait_for("what lay with who leaves", || {
        let (_, look) = custodian.look();
        assert_eq!(count(&look, "released_deals"), 0, "nobody allowed it: {look}");
        is_well(&look) && count(&look, "leaving_deals") == 1 && !look["stays"].as_array().unwrap().is_empty()
    });
    wait_for("a ledger that has all that was brought", || cloud.held_bytes() >= held + held / 7);

    // Allowed to, it ends that deal; its owner needs nothing of it, and has nothing to store again.
    let release = ["data", "care", "release", "vault", "allow"];
    let plan = cloud.demo.one(&[&release[..], &["--dry-run"]].concat());
    assert_eq!((&plan["allowed"], &plan["allowed_before"]), (&true.into(), &false.into()), "{plan}");
    cloud.demo.one(&[&release[..], &["-y"]].concat());
    assert_eq!(cloud.demo.one(&["data", "care", "show", "vault"])["may_release"], true);
    let mut released = 0;
    wait_for("a provider that is let go", || {
        released += count(&custodian.look().1, "released_deals");
        waits(&drain()).is_none()
    });
    assert!(released <= 1, "one deal ended {released} times");
    cloud.demo.kill(1);
    wait_for("an owner's look that finds nothing to do", || {
        let survey = cloud.survey();
        count(&survey, "due_parts") == 0 && survey["index_due"] == false && survey["stripes"]["margins"] == json!({})
    });
    (2..5).for_each(|index| cloud.demo.kill(index));
    cloud.check();
}

#[test]
fn a_custodian_opens_deals_in_the_regions_that_the_owner_allows_and_nowhere_else() {
    let cloud = Cloud::start_with("regions", LARGE / 8, &["--regions", "attic,cellar,office"]);
    let custodian = cloud.appoint("regions", "20");
    wait_for("a bucket that is whole", || is_well(&custodian.look().1));
    let far = cloud.demo.join("barn");
    cloud.lose(0);
    // Somebody offers room, where the owner allows nobody.
    let (_, look) = custodian.look();
    assert!(count(&look, "due_stripes") > 0, "{look}");
    assert_eq!(["new_deals", "restored_shards"].map(|what| count(&look, what)), [0, 0], "{look}");
    assert!(look["failures"].to_string().contains("in attic, cellar, office"), "{look}");

    let near = cloud.demo.join("cellar-late");
    wait_for("all that was lost", || is_well(&custodian.look().1));
    let survey = cloud.survey();
    let has = |node: &str| survey["providers"].as_array().unwrap().iter().any(|seat| seat["node"] == node);
    assert!(has(&near.key) && !has(&far.key), "{survey}");
}

#[test]
fn who_declined_some_shards_takes_others_of_the_same_stripes_from_a_custodian() {
    let cloud = Cloud::start("declined", LARGE / 8);
    let custodian = cloud.appoint("declined", "20");
    wait_for("a bucket that is whole", || is_well(&custodian.look().1));
    let node = cloud.demo.ready(0)["node"].as_str().unwrap().to_owned();
    let stripes = cloud.demo.lines(&["data", "where", "hodei://vault/large", "--stripes"]);
    let shards = stripes.iter().filter_map(|line| line["shards"].as_array()).flatten();
    let its = shards.filter(|shard| shard["node"] == node.as_str());
    let ids: Vec<&str> = its.map(|shard| shard["id"].as_str().unwrap()).collect();
    let folder = cloud.demo.folder(0);
    let words = ["node", "decline", "--folder", text(&folder), "--reason", "court", "-y"];
    let declined = cloud.demo.user.one(&[&words[..], &ids[..]].concat());
    assert_eq!(
        (&declined["done"], count(&declined, "declined_shards")),
        (&true.into(), ids.len() as u64),
        "{declined}"
    );
    // Another takes all of these; who declined them has nothing of the object any more.
    let _other = cloud.demo.join("shed");
    let mut deals = 0;
    wait_for("what was declined", || {
        let (_, look) = custodian.look();
        deals += count(&look, "new_deals");
        is_well(&look)
    });
    assert_eq!(deals, 1);

    // What a third one had of the same stripes finds its place there: nobody else is on offer.
    cloud.lose(1);
    let mut restored = 0;
    wait_for("what was lost", || {
        let (_, look) = custodian.look();
        assert_eq!(count(&look, "new_deals"), 0, "{look}");
        restored += count(&look, "restored_shards");
        is_well(&look)
    });
    assert!(restored >= ids.len() as u64, "{restored} of {}", ids.len());
    (2..4).for_each(|index| cloud.demo.kill(index));
    cloud.check();
}

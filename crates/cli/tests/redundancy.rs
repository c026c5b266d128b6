//! Raise and lower what a bucket of real processes may lose, kill it on the way, and see that nothing is lost.

mod machines;

use machines::{
    PATIENCE, content,
    demo::{Demo, text, wait_for},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// More than one swap's worth.
const LARGE: usize = 100 << 20;
const SMALL: usize = 100_000;
/// Objects put while the bucket is raised: each is read again at the end, with half of the providers dead.
const ROUNDS: u64 = 10;

/// Wei of the owner: what it has, and what came, went and was paid for being carried since the ledger began.
#[derive(Debug)]
struct Account {
    has: i128,
    came: i128,
    went: i128,
    fees: i128,
    /// Of what came: out of escrows of deals that ended.
    refunds: i128,
}

/// What this file asks of a demo besides.
trait Vault {
    fn put(&self, key: &str, content: &[u8]);
    fn check(&self, objects: &BTreeMap<String, Vec<u8>>);
    fn bucket(&self) -> Value;
    fn account(&self) -> Account;
    fn provider(&self, index: usize) -> u32;
    fn check_market(&self, planned: &Value, quoted: &Value);
    fn deals_told(&self) -> u64;
    fn begin(&self, words: &[&str]) -> Child;
    fn begin_and_kill(&self, words: &[&str], k: u64, wait: Duration);
}

impl Vault for Demo {
    fn put(&self, key: &str, content: &[u8]) {
        let file = self.user.folder().join("there");
        fs::write(&file, content).unwrap();
        self.one(&["data", "cp", text(&file), &format!("hodei://vault/{key}"), "--wait", "full"]);
    }

    /// Everything is what was put.
    fn check(&self, objects: &BTreeMap<String, Vec<u8>>) {
        let back = self.user.folder().join("back");
        for (key, content) in objects {
            self.one(&["data", "cp", &format!("hodei://vault/{key}"), text(&back)]);
            assert!(fs::read(&back).unwrap() == *content, "{key} came back as something else");
        }
    }

    fn bucket(&self) -> Value {
        let buckets = self.lines(&["data", "list"]);
        buckets.into_iter().find(|line| line["bucket"] == "vault").expect("the bucket is listed")
    }

    /// What the owner has, and what its history tells of it.
    fn account(&self) -> Account {
        let has = || {
            let has = self.one(&["wallet", "balance"]);
            number(&has["balance_wei"]) + has["budget"].get("left_wei").map_or(0, number)
        };
        // Others of the owner's programs spend as well: once more if one did in between.
        let (has, mut told) = loop {
            let (first, told) = (has(), self.lines(&["wallet", "history", "--last", "1000"]));
            if has() == first {
                break (first, told);
            }
        };
        let sum = told.pop().unwrap();
        assert!(sum["is_more"] == false && sum["older"].is_null(), "{sum}");
        let refunds = told.iter().filter(|entry| entry["what"] == "refund");
        Account {
            has,
            came: number(&sum["in_wei"]),
            went: number(&sum["out_wei"]),
            fees: number(&sum["fees_wei"]),
            refunds: refunds.map(|entry| number(&entry["amount_wei"])).sum(),
        }
    }

    /// Its process.
    fn provider(&self, index: usize) -> u32 {
        let folder = self.user.folder().join("cloud").join(format!("provider-{index}"));
        let ready: Value = serde_json::from_slice(&fs::read(folder.join("ready.json")).unwrap()).unwrap();
        ready["process"].as_u64().unwrap() as u32
    }

    /// The book shows who offers, and a quote is what the same bucket's plan says.
    fn check_market(&self, planned: &Value, quoted: &Value) {
        for name in ["k", "n", "survives", "deals", "escrow_wei", "spread"] {
            assert_eq!(quoted[name], planned[name], "{name}");
        }
        assert!(
            number(&quoted["pay_wei"]) > 0 && number(&quoted["pay_wei"]) < number(&quoted["escrow_wei"]),
            "{quoted}"
        );
        let words = self.words(&["market", "book", "--class", "storage"]);
        let lines = self.user.until(&words, "six offers", |lines| {
            let whole = lines.iter().find(|line| line["region"].is_null())?;
            (whole["offers"] == 6 && whole["operators"] == 6).then(|| lines.to_vec())
        });
        let (whole, regions): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["region"].is_null());
        assert_eq!((whole.len(), regions.len()), (1, 3), "{lines:?}");
        assert_eq!(whole[0]["best_wei"], quoted["best_wei"]);
        let sum: i128 = regions.iter().map(|line| number(&line["amount"])).sum();
        assert_eq!(sum, number(&whole[0]["amount"]));
        let zone = regions[0]["region"].as_str().unwrap();
        let there = self.lines(&["market", "book", "--class", "storage", "--region", zone]);
        assert_eq!((there.len(), &there[1]["region"], &there[1]["offers"]), (2, &zone.into(), &regions[0]["offers"]));
        self.user.refused(&self.words(&["market", "book", "--region", "mars"]), "HD3006");
        // The demo's hosts, each its own operator; the region they name is not the zones' of its providers.
        let hosts = self.lines(&["market", "book", "--class", "compute"]);
        let whole = hosts.iter().find(|line| line["region"].is_null()).unwrap();
        assert!(whole["offers"].as_u64() >= Some(3) && whole["operators"] == whole["offers"], "{hosts:?}");
    }

    /// Deals opened since the ledger began, page by page.
    fn deals_told(&self) -> u64 {
        let (mut deals, mut next) = (0, None::<String>);
        loop {
            let before = next.iter().flat_map(|place| ["--before", place.as_str()]);
            let words: Vec<&str> =
                ["market", "history", "--class", "storage", "--last", "5"].into_iter().chain(before).collect();
            let mut told = self.lines(&words);
            let sum = told.pop().unwrap();
            deals += told.iter().filter(|line| line["what"] == "deal").count() as u64;
            match sum["next"].as_str() {
                Some(place) => next = Some(place.to_owned()),
                None => return deals,
            }
        }
    }

    fn begin(&self, words: &[&str]) -> Child {
        let mut command = self.user.command(&self.words(words));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Begins to change the redundancy, and kills that without warning once the bucket has its new shape and so much
    /// more time went by.
    fn begin_and_kill(&self, words: &[&str], k: u64, wait: Duration) {
        let mut process = self.begin(words);
        wait_for("the bucket's shape", || self.bucket()["k"] == k || process.try_wait().unwrap().is_some());
        std::thread::sleep(wait);
        let _ = process.kill();
        process.wait().unwrap();
    }
}

/// Bytes that no two of these objects share: seeds differ in more than their last bit.
fn small(seed: u64) -> Vec<u8> {
    content(2 * seed + 1, SMALL)
}

fn number(value: &Value) -> i128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_living_bucket_is_lowered_and_raised_and_killed_on_the_way() {
    let demo = Demo::start("redundancy");
    let planned = demo.one(&["data", "create", "vault", "--code", "3/6", "--operators", "6", "--dry-run"]);
    assert_eq!((&planned["k"], &planned["n"], &planned["spread"]["operators"]), (&3.into(), &6.into(), &6.into()));
    let odds = &planned["odds"];
    assert!(odds["lost_within_a_year_left_alone"].as_f64() > odds["lost_within_a_year_replaced"].as_f64());
    // Computed, and named so, beside a published figure.
    let energy = &planned["energy"];
    assert_eq!((&energy["computed"], &energy["disk_gib_hours"]), (&true.into(), &1_440.into()));
    let drawn = |of: &Value| of["milliwatt_hours"].as_u64().unwrap_or_else(|| panic!("no draw: {energy}"));
    assert!(drawn(&energy["gib_month"]["beside"]) < drawn(&energy["gib_month"]["whole"]), "{energy}");
    assert!(drawn(&energy["data_centre_gib_month"]) > 0);
    let told = planned["told"].as_array().expect("lines");
    assert!(
        told.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with("Energy (computed)"))),
        "{told:?}"
    );
    let quoted = ["market", "quote", "1GiB", "--code", "3/6", "--operators", "6", "--windows", "30"];
    demo.check_market(&planned, &demo.one(&quoted));
    let before = demo.deals_told();
    let made = demo.one(&["data", "create", "vault", "--code", "3/6", "-y"]);
    let deals = before + made["deals"].as_u64().unwrap();
    wait_for("a history that tells each deal once", || demo.deals_told() == deals);
    let mut objects = BTreeMap::from([("large".to_owned(), content(1, LARGE))]);
    objects.extend((2..8).map(|at| (format!("small-{at}"), small(at))));
    objects.iter().for_each(|(key, content)| demo.put(key, content));

    // A dry run changes nothing and says what it would move.
    let lower = ["data", "redundancy", "vault", "--copies", "2"];
    let planned = demo.one(&[&lower[..], &["--dry-run"]].concat());
    let bytes = objects.values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!((&planned["bytes"], &planned["sent_bytes"]), (&bytes.into(), &(2 * bytes).into()));
    assert_eq!((&planned["ending_deals"], &planned["from"]["k"]), (&2.into(), &3.into()));
    assert_eq!(demo.bucket()["k"], 3);

    // Killed as soon as it began, and again; what is put meanwhile is put in the new shape, and all can be read.
    let slow = [&lower[..], &["--rate", "20", "-y"]].concat();
    for round in 0..2u64 {
        demo.begin_and_kill(&slow, 1, Duration::from_secs(8 * round));
        let key = format!("between-{round}");
        objects.insert(key.clone(), small(10 + round));
        demo.put(&key, &objects[&key]);
        demo.check(&objects);
    }
    let before = demo.account();
    let done = demo.one(&[&lower[..], &["-y"]].concat());
    assert_eq!((&done["k"], &done["n"], &done["kept_parts"]), (&1.into(), &2.into(), &0.into()));
    demo.check(&objects);
    // Deals that are not needed end as soon as the shards of the killed runs are gone as well.
    let begun = Instant::now();
    let mut refunded = number(&done["refund_wei"]);
    let mut closing = done["closing_deals"].as_u64().unwrap();
    while demo.bucket()["deals"] != 4 {
        assert!(begun.elapsed() < 4 * PATIENCE, "{}", demo.bucket());
        std::thread::sleep(Duration::from_secs(20));
        let again = demo.one(&[&lower[..], &["-y"]].concat());
        refunded += again["refund_wei"].as_str().map_or(0, |_| number(&again["refund_wei"]));
        closing += again["closing_deals"].as_u64().unwrap_or(0);
    }
    // Every coin is accounted for, also what went into escrows meanwhile so that nothing outlives its pay.
    let after = demo.account();
    let (came, went, fees) = (after.came - before.came, after.went - before.went, after.fees - before.fees);
    assert_eq!(after.has - before.has, came - went - fees, "{before:?} became {after:?}");
    // A deal that owes a proof ends with that, after the command: its refund is in the history alone.
    let refunds = after.refunds - before.refunds;
    assert!(refunds > 0 && refunded <= refunds, "{refunded}: {before:?} became {after:?}");
    assert!(closing > 0 || refunded == refunds, "{refunded}: {before:?} became {after:?}");

    // Raised: two shards of six suffice, each with another operator. New deals are opened for it. Five acknowledgements
    // are the least that a part has, so any three providers may go, however slow one was.
    let raise = ["data", "redundancy", "vault", "--code", "2/6", "--operators", "6", "-y"];
    let mut process = demo.begin(&raise);
    let mut rounds = 0;
    while process.try_wait().unwrap().is_none() {
        if rounds == ROUNDS {
            std::thread::sleep(Duration::from_millis(300));
            continue;
        }
        let key = format!("during-{rounds}");
        objects.insert(key.clone(), small(100 + rounds));
        demo.put(&key, &objects[&key]);
        // The newest and one of all the others in turn: all are read when it is done.
        let other =
            objects.iter().nth(rounds as usize % objects.len()).map(|(key, content)| (key.clone(), content.clone()));
        demo.check(&BTreeMap::from_iter(other.into_iter().chain([(key.clone(), objects[&key].clone())])));
        rounds += 1;
    }
    assert!(rounds > 0);
    let done = demo.one(&raise);
    assert_eq!((&done["k"], &done["n"], &done["spread"]["operators"]), (&2.into(), &6.into(), &6.into()));
    assert_eq!(demo.bucket()["deals"], 6);
    let again = demo.one(&["data", "redundancy", "vault", "--dry-run"]);
    assert_eq!((&again["parts"], &again["escrow_wei"]), (&0.into(), &"0".into()), "nothing is left to do");
    for index in 0..3 {
        let killed = Command::new("kill").args(["-9", &demo.provider(index).to_string()]).status().unwrap();
        assert!(killed.success());
    }
    demo.check(&objects);
}

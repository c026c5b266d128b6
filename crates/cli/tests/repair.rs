//! Lose providers and disks, have what they held put back, and see that as many may go again.

mod machines;

use machines::{
    PATIENCE, Provider, User, content,
    demo::{Demo, text, wait_for},
};
use serde_json::Value;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

/// Half a minute of work at the rate it is put back here, so that it can be killed on the way.
const LARGE: usize = 24 << 20;
const SMALL: usize = 100_000;

/// What this file asks of a demo besides.
trait Vault {
    fn put(&self, key: &str, content: &[u8], wait: &str);
    fn check(&self, objects: &BTreeMap<String, Vec<u8>>);
    fn look(&self, without: &[&str]) -> Value;
    fn deals(&self) -> u64;
}

impl Vault for Demo {
    fn put(&self, key: &str, content: &[u8], wait: &str) {
        let file = self.user.folder().join("there");
        fs::write(&file, content).unwrap();
        self.one(&["data", "cp", text(&file), &format!("hodei://vault/{key}"), "--wait", wait]);
    }

    /// Everything is what was put.
    fn check(&self, objects: &BTreeMap<String, Vec<u8>>) {
        let back = self.user.folder().join("back");
        for (key, content) in objects {
            self.one(&["data", "cp", &format!("hodei://vault/{key}"), text(&back)]);
            assert!(fs::read(&back).unwrap() == *content, "{key} came back as something else");
        }
    }

    /// The survey alone.
    fn look(&self, without: &[&str]) -> Value {
        let words = [&["data", "repair", "vault", "--all", "--dry-run"], without].concat();
        let (code, lines, error) = self.user.run(&self.words(&words));
        let survey = lines.into_iter().next().unwrap_or_else(|| panic!("no survey: {code} {error}"));
        assert_eq!(survey["schema"], "hodei.data.repair.survey/1");
        survey
    }

    fn deals(&self) -> u64 {
        let buckets = self.lines(&["data", "list"]);
        buckets.into_iter().find(|line| line["bucket"] == "vault").expect("the bucket is listed")["deals"]
            .as_u64()
            .unwrap()
    }
}

/// Bytes that no two of these objects share.
fn small(seed: u64) -> Vec<u8> {
    content(2 * seed + 1, SMALL)
}

/// A provider's line of a survey.
fn seat<'a>(survey: &'a Value, node: &str) -> &'a Value {
    let seats = survey["providers"].as_array().unwrap();
    seats.iter().find(|seat| seat["node"] == node).unwrap_or_else(|| panic!("{node} is not in {survey}"))
}

#[test]
fn what_is_lost_with_providers_is_put_back_and_as_many_may_go_again() {
    let demo = Demo::start("repair");
    // Each stripe has one shard at each of six operators.
    demo.one(&["data", "create", "vault", "--code", "3/6", "--operators", "6", "-y"]);
    let mut objects = BTreeMap::from([("large".to_owned(), content(1, LARGE))]);
    objects.extend((2..6).map(|at| (format!("small-{at}"), small(at))));
    objects.iter().for_each(|(key, content)| demo.put(key, content, "full"));
    let survey = demo.look(&[]);
    let stripes = survey["stripes"]["whole"].as_u64().unwrap();
    assert!(stripes > 30 && survey["stripes"]["margins"] == serde_json::json!({}), "{survey}");
    assert_eq!((&survey["stripes"]["lost"], &survey["due_parts"]), (&0.into(), &0.into()));
    // Short ones lie together in a pack.
    objects.extend((6..9).map(|at| (format!("packed-{at}"), small(at))));
    (6..9).for_each(|at| demo.put(&format!("packed-{at}"), &objects[&format!("packed-{at}")], "quorum"));

    // One is gone with its disk. Five operators are too few for the bucket's promise: said, and nothing done.
    let node = |index| demo.ready(index)["node"].as_str().unwrap().to_owned();
    let (dead, rotten) = (node(0), node(1));
    demo.kill(0);
    fs::remove_dir_all(demo.folder(0)).unwrap();
    let survey = demo.look(&["--without", &dead]);
    assert_eq!((&seat(&survey, &dead)["state"], &seat(&survey, &dead)["shards_there"]), (&"gone".into(), &0.into()));
    let margins = &survey["stripes"];
    assert_eq!((&margins["whole"], &margins["lost"]), (&0.into(), &0.into()), "{survey}");
    assert!(margins["margins"]["2"].as_u64().unwrap() >= stripes, "{survey}");
    let begin = ["data", "repair", "vault", "--without", &dead[..16]];
    demo.user.refused(&demo.words(&[&begin[..], &["-y"]].concat()), "HD3006");
    demo.user.refused(&demo.words(&["data", "repair", "vault", "--without", "xyz", "-y"]), "HD3008");
    assert_eq!(demo.deals(), 6);

    // Two machines join; another provider loses its disk while it runs. Once it proves nothing, its word is worth nothing.
    let _late: Vec<Provider> = ["attic", "cellar"].map(|zone| demo.join(zone)).into();
    for entry in fs::read_dir(demo.folder(1).join("store/shards")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let mut survey = Value::Null;
    wait_for("doubt of who lost its disk", || {
        survey = demo.look(&[]);
        let state = seat(&survey, &rotten)["state"].as_str().unwrap();
        matches!(state, "doubted" | "missing" | "closed")
    });
    let margins = &survey["stripes"];
    assert_eq!((&margins["whole"], &margins["lost"], &margins["margins"]["2"]), (&0.into(), &0.into(), &Value::Null));
    demo.check(&objects);

    // Killed on the way, the same command goes on, and nobody is replaced twice.
    let again = [&begin[..], &["--without", &rotten, "--all", "-y"]].concat();
    let words = demo.words(&[&again[..], &["--rate", "1"]].concat());
    let mut process = demo.user.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("new deals", || demo.deals() >= 8 || process.try_wait().unwrap().is_some());
    std::thread::sleep(Duration::from_secs(8));
    let _ = process.kill();
    process.wait().unwrap();
    demo.check(&objects);
    let begun = Instant::now();
    let mut new_deals = 0;
    let done = loop {
        let (code, mut lines, error) = demo.user.run(&demo.words(&again));
        if code != 0 {
            // On a busy machine one of the six may not answer in time: then too few are left, until it does.
            assert!(matches!(code, 5 | 8) && begun.elapsed() < 3 * PATIENCE, "{code} {error}");
            continue;
        }
        let done = lines.pop().expect("what was done");
        new_deals += done["new_deals"].as_u64().unwrap();
        let is_whole = |what: &str| done[what]["margins"] == serde_json::json!({}) && done[what]["lost"] == 0;
        if is_whole("stripes") && is_whole("index") {
            break done;
        }
        assert!(begun.elapsed() < 3 * PATIENCE, "it does not become whole: {done}");
    };
    assert_eq!((new_deals, &done["unreadable_objects"]), (0, &0.into()), "{done}");
    wait_for("the end of the deals of those that are gone", || demo.deals() == 6);
    let survey = demo.look(&[]);
    assert_eq!((&survey["due_parts"], &survey["index_due"]), (&0.into(), &false.into()), "{survey}");
    assert!(survey["providers"].as_array().unwrap().iter().all(|seat| seat["shards_there"] == seat["shards"]));

    // As many as parity allows may go again.
    (2..5).for_each(|index| demo.kill(index));
    demo.check(&objects);
}

/// Somebody else of the same cloud, with some coins for fees.
fn another(demo: &Demo) -> User {
    let user = User::new("repair-custodian");
    let invited = demo.one(&["net", "invite", "--coins", "10", "-y"]);
    user.one(&["net", "join", invited["ticket"].as_str().unwrap(), "--context-name", "care"]);
    user
}

#[test]
fn what_is_lost_while_its_owner_is_away_is_restored_by_who_cannot_read_it() {
    let demo = Demo::start("care");
    demo.one(&["data", "create", "vault", "--code", "3/6", "--operators", "6", "-y"]);
    let mut objects = BTreeMap::from([("large".to_owned(), content(1, LARGE / 4))]);
    objects.extend((2..5).map(|at| (format!("small-{at}"), small(at))));
    objects.iter().for_each(|(key, content)| demo.put(key, content, "full"));

    // The owner names somebody, who gets a word and no key.
    let custodian = another(&demo);
    let account = custodian.one(&["data", "care", "account"])["account"].as_str().unwrap().to_owned();
    let file = demo.user.folder().join("vault.care");
    let appoint = ["data", "care", "appoint", "vault", &account, "--reserve", "20", "--out", text(&file), "-y"];
    let (coin, coins) = ("1000000000000000000", "20000000000000000000");
    let wage = ["--per-gib", "1", "--a-day", "5"];
    // What it costs beside the reserve is told beforehand, and that there is not enough for it.
    let beyond = ["data", "care", "appoint", "vault", &account, "--reserve", "99999999999", "--dry-run"];
    let beyond = demo.one(&beyond);
    assert!(beyond["is_covered"] == false && beyond["fee_wei"].as_str().is_some_and(|wei| wei != "0"), "{beyond}");
    let appointed = demo.one(&[&appoint[..], &wage].concat());
    assert_eq!((&appointed["word"], &appointed["reserve_wei"]), (&Value::Null, &coins.into()));
    assert_eq!(appointed["wage"]["per_gib_wei"], coin);
    // Another wage is shown first, and set by a word of its own.
    let raise = ["data", "care", "wage", "vault", "--per-gib", "100", "--a-day", "5"];
    let plan = demo.one(&[&raise[..], &["--dry-run"]].concat());
    assert_eq!((&plan["wage_before"]["per_gib_wei"], &plan["reserve_wei"]), (&coin.into(), &coins.into()), "{plan}");
    assert_eq!(demo.one(&["data", "care", "show", "vault"])["wage"]["per_gib_wei"], coin);
    demo.one(&[&raise[..], &["-y"]].concat());
    let shown = demo.one(&["data", "care", "show", "vault"]);
    let wage = serde_json::json!({ "per_gib_wei": "100000000000000000000", "per_day_wei": "5000000000000000000" });
    assert_eq!((&shown["wage"], &shown["earned_wei"][account.as_str()]), (&wage, &"0".into()), "{shown}");
    custodian.refused(&["data", "list", "hodei://vault"], "HD3001");
    let run = ["data", "care", "run", text(&file), "--once", "--every", "1"];
    let wei = |text: &Value| text.as_str().unwrap().parse::<u128>().unwrap();
    // By its own words: what the receipts of its posts told each time it ran.
    let earned = Cell::new(0);
    let look = |user: &User| {
        let (code, lines, error) = user.run(&run);
        let told = lines.iter().filter(|line| line["schema"] == "hodei.data.care.earned/1");
        earned.set(earned.get() + told.map(|line| wei(&line["earned_wei"])).sum::<u128>());
        let look = lines.into_iter().rfind(|line| line["schema"] == "hodei.data.care.look/1");
        (code, look.unwrap_or_else(|| panic!("no look: {code} {error}")))
    };
    let whole = |look: &Value| look["stripes"]["margins"] == serde_json::json!({}) && look["stripes"]["lost"] == 0;
    let is_well = |user: &User| {
        let (code, look) = look(user);
        code == 0 && whole(&look) && look["due_stripes"] == 0 && look["copies"] == 0
    };
    wait_for("a bucket that is whole", || is_well(&custodian));

    // A machine joins, another is gone with its disk. The owner does nothing.
    let _late = demo.join("attic");
    demo.kill(0);
    fs::remove_dir_all(demo.folder(0)).unwrap();
    let (mut restored, mut deals, mut escrow) = (0, 0, 0u128);
    wait_for("what was lost", || {
        let (_, look) = look(&custodian);
        restored += look["restored_shards"].as_u64().unwrap();
        deals += look["new_deals"].as_u64().unwrap();
        escrow += look["escrow_wei"].as_str().unwrap().parse::<u128>().unwrap();
        deals > 0 && look["due_stripes"] == 0 && whole(&look)
    });
    let shown = demo.one(&["data", "care", "show", "vault"]);
    assert!(restored >= 8 && shown["restored_shards"].as_u64().unwrap() >= restored, "{restored} of {shown}");
    let elsewhere = shown["elsewhere_shards"].as_u64().unwrap();
    assert!(elsewhere > 0 && elsewhere <= shown["restored_shards"].as_u64().unwrap(), "each shard once: {shown}");
    assert_eq!((deals, demo.deals()), (1, 7));
    // Every coin that left the reserve is in a deal or the custodian's; what was slashed may have come to it.
    let accounted = |escrow: u128| {
        let shown = demo.one(&["data", "care", "show", "vault"]);
        let (reserve, paid) = (wei(&shown["reserve_wei"]), wei(&shown["earned_wei"][account.as_str()]));
        assert!(escrow > 0 && paid > 0 && reserve + escrow + paid >= wei(&coins.into()), "{escrow} of {shown}");
        (reserve, paid)
    };
    accounted(escrow);

    // One that leaves hands on what it has, as it is.
    let _later = demo.join("loft");
    demo.one(&["node", "drain", "--folder", text(&demo.folder(1)), "-y"]);
    let mut moved = 0;
    wait_for("what lay with who leaves", || {
        let (_, look) = look(&custodian);
        moved += look["moved_shards"].as_u64().unwrap();
        escrow += wei(&look["escrow_wei"]);
        moved > 0 && look["due_stripes"] == 0 && whole(&look) && look["copies"] == 0
    });
    assert!(moved >= 8, "{moved}");
    let (reserve, paid) = accounted(escrow);
    // What the owner is shown is what came to the custodian's account, coin by coin; a run that did not hear of its last
    // post said less.
    let history = custodian.lines(&["wallet", "history", "--last", "1000"]);
    let wages = history.iter().filter(|line| line["what"] == "wage" && line["flow"] == "in");
    assert_eq!(wages.map(|line| wei(&line["amount_wei"])).sum::<u128>(), paid, "{history:?}");
    assert!(0 < earned.get() && earned.get() <= paid, "{} of {paid}", earned.get());
    demo.kill(1);

    // Its owner finds everything with as many gone as parity allows, beside the one that was lost and the one that left.
    (2..4).for_each(|index| demo.kill(index));
    demo.check(&objects);
    let survey = demo.look(&[]);
    assert_eq!(survey["stripes"]["lost"], 0, "{survey}");
    // Who is dismissed can do nothing more; what is left comes back.
    let dismissed = demo.one(&["data", "care", "dismiss", "vault", &account, "-y"]);
    assert_eq!(wei(&dismissed["earned_wei"]), paid);
    custodian.refused(&run, "HD3033");
    let back = demo.one(&["data", "care", "withdraw", "vault", "-y"]);
    assert!(wei(&back["wei"]) >= reserve, "{back}");
}

/// What the ledger has of the bucket's deals, by the roots that were posted.
fn held_bytes(demo: &Demo) -> u64 {
    let status = demo.one(&["status"]);
    let bucket = status["buckets"].as_array().unwrap().iter().find(|bucket| bucket["bucket"] == "vault");
    bucket.expect("it is listed")["held_bytes"].as_u64().unwrap()
}

#[test]
fn what_a_provider_declines_is_read_and_put_elsewhere() {
    let demo = Demo::start("decline");
    demo.one(&["data", "create", "vault", "--code", "3/6", "--operators", "6", "-y"]);
    let objects = BTreeMap::from([("large".to_owned(), content(1, LARGE / 8))]);
    objects.iter().for_each(|(key, content)| demo.put(key, content, "full"));
    let node = demo.ready(0)["node"].as_str().unwrap().to_owned();
    let folder = demo.folder(0);
    // Shards of an object that this one has.
    let its = |key: &str| {
        let stripes = demo.lines(&["data", "where", &format!("hodei://vault/{key}"), "--stripes"]);
        let shards = stripes.iter().filter_map(|line| line["shards"].as_array()).flatten();
        let ids: Vec<String> = shards
            .filter(|shard| shard["node"] == node.as_str())
            .map(|shard| shard["id"].as_str().unwrap().to_owned())
            .collect();
        assert!(ids.len() >= 4, "{stripes:?}");
        ids
    };
    let ids = its("large");

    // What is no id is refused before anything is done.
    let refuse = |words: &[&str]| demo.user.refused(words, "HD1001");
    refuse(&["node", "decline", "--folder", text(&folder), "--reason", "court", "-y"]);
    refuse(&["node", "decline", "123", "--folder", text(&folder), "--reason", "court", "-y"]);
    let named = [
        &["node", "decline", "--folder", text(&folder), "--reason", "court", "--note", "17 B 4"][..],
        &[&ids[0], &ids[1]],
    ]
    .concat();
    // Told beforehand: each shard once, however often and in whatever letters it is named, and what it holds of them.
    let twice = [ids[0].to_uppercase(), format!("0x{}", ids[1])];
    let plan = demo.user.one(&[&named[..], &[&twice[0], &twice[1], "--dry-run"]].concat());
    let counts = ["shards", "named_shards", "held_shards", "declined_shards"].map(|what| plan[what].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(2), Some(0)], "{plan}");
    let nobody = format!("0x{}", "ab".repeat(32));
    let of_nobody =
        ["node", "decline", "--bucket", &nobody, "--folder", text(&folder), "--reason", "terms", "--dry-run"];
    demo.user.refused(&of_nobody, "HD6001");
    assert!(demo.user.run(&["node", "declined", "--folder", text(&folder)]).1.is_empty());
    let declined = demo.user.one(&[&named[..], &["-y"]].concat());
    assert_eq!((&declined["done"], &declined["declined_shards"]), (&true.into(), &2.into()), "{declined}");
    let told = demo.user.command(&["node", "declined", "--folder", text(&folder)]).output().unwrap();
    let rows = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && ids[..2].iter().all(|id| rows.contains(id.as_str())), "{rows}");
    let (_, listed, _) = demo.user.run(&["node", "declined", "--folder", text(&folder)]);
    assert!(
        listed.len() == 2
            && listed
                .iter()
                .all(|line| line["ground"] == "court" && ids.contains(&line["shard"].as_str().unwrap().to_owned())),
        "{listed:?}"
    );

    // Whoever has the network key sees that this node said so, offline, and that nobody changed it.
    let listing = demo.user.folder().join("declined.jsonl");
    let write = |lines: &[Value]| fs::write(&listing, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    write(&listed).unwrap();
    let verified = demo.user.lines(&demo.words(&["verify", text(&listing)]));
    let is_its = |line: &Value| line["node"] == node.as_str() && line["ground"] == "court" && line["verified"] == true;
    assert!(verified.len() == 2 && verified.iter().all(is_its), "{verified:?}");
    let mut changed = listed.clone();
    changed[1]["shard"] = ids[2].as_str().into();
    write(&changed).unwrap();
    demo.user.refused(&demo.words(&["verify", text(&listing)]), "HD5006");

    // Where it lies, what is declined is not counted as held.
    let places = demo.lines(&["data", "where", "hodei://vault/large"]);
    let place = places.iter().find(|place| place["node"] == node.as_str()).expect("it has the others");
    assert_eq!((&place["shards"], &place["shards_declined"]), (&(ids.len() - 2).into(), &2.into()), "{place}");

    // It is read all the same, and the survey tells who declines how much; then it lies elsewhere, and is whole.
    demo.check(&objects);
    let survey = demo.look(&[]);
    assert_eq!(
        (&seat(&survey, &node)["shards_declined"], &survey["stripes"]["lost"]),
        (&2.into(), &0.into()),
        "{survey}"
    );
    assert_eq!((&survey["stripes"]["margins"]["2"], &survey["due_parts"]), (&2.into(), &1.into()), "{survey}");
    let done = demo.one(&["data", "repair", "vault", "-y"]);
    assert_eq!(
        (&done["stripes"]["margins"], &done["due_parts"], &done["parts"]),
        (&serde_json::json!({}), &0.into(), &1.into()),
        "{done}"
    );
    let survey = demo.look(&[]);
    assert_eq!(seat(&survey, &node)["shards_declined"], 0, "{survey}");
    demo.check(&objects);

    // What a link tells of is put nowhere else; who declines some of it is paid for that no more all the same.
    demo.put("told", &content(3, LARGE / 8), "full");
    demo.one(&["share", "create", "hodei://vault/told", "--expires", "1h", "-y"]);
    let ids = its("told");
    // Once nothing of what was put or let go of is on its way to the ledger.
    let mut held = held_bytes(&demo);
    wait_for("a ledger that has everything", || {
        std::thread::sleep(Duration::from_secs(2));
        std::mem::replace(&mut held, held_bytes(&demo)) == held
    });
    let held = held_bytes(&demo);
    demo.user.one(
        &[&["node", "decline", "--folder", text(&folder), "--reason", "report", "-y"][..], &[&ids[0], &ids[1]]]
            .concat(),
    );
    let survey = demo.look(&[]);
    assert_eq!((&seat(&survey, &node)["shards_declined"], &survey["due_parts"]), (&2.into(), &0.into()), "{survey}");
    let done = demo.one(&["data", "repair", "vault", "-y"]);
    assert_eq!(done["due_parts"], 0, "{done}");
    wait_for("a root without what is declined", || held_bytes(&demo) < held);
    demo.check(&objects);
    // With all parity gone beside it, everything is there.
    (1..4).for_each(|index| demo.kill(index));
    demo.check(&objects);
}

#[test]
fn shards_are_brought_as_they_are_to_one_that_joins_and_as_many_may_go_as_before() {
    let demo = Demo::start("rebalance");
    demo.one(&["data", "create", "vault", "--code", "3/6", "--operators", "6", "-y"]);
    let mut objects = BTreeMap::from([("large".to_owned(), content(1, LARGE))]);
    objects.extend((2..5).map(|at| (format!("small-{at}"), small(at))));
    objects.iter().for_each(|(key, content)| demo.put(key, content, "full"));
    let even_out = ["data", "repair", "vault", "--rebalance"];
    let count = |told: &Value, what: &str| told[what].as_u64().unwrap_or_else(|| panic!("no {what} in {told}"));
    // On a busy machine one may not answer in time: then it is asked again.
    let plan = || {
        let mut plan = Value::Null;
        wait_for("an answer of all", || {
            plan = demo.one(&[&even_out[..], &["--dry-run"]].concat());
            count(&plan, "lacking_stripes") + count(&plan, "unread_parts") == 0
        });
        assert_eq!(plan["schema"], "hodei.data.rebalance.plan/1");
        plan
    };
    let held = |told: &Value, node: &str| count(seat(told, node), "bytes");

    // Six with a shard of each stripe are even, and nobody else is there.
    let before = plan();
    assert_eq!((count(&before, "shards"), count(&before, "new_deals"), count(&before, "twins")), (0, 0, 0), "{before}");
    let total: u64 = before["providers"].as_array().unwrap().iter().map(|share| count(share, "bytes")).sum();
    let wei = |text: &Value| text.as_str().unwrap().parse::<u128>().unwrap();
    assert!(total >= 2 * LARGE as u64 && wei(&before["window_wei"]) > 0, "{before}");

    // One joins: it would get a seventh, at its price; nothing is done before somebody agrees.
    let late = demo.join("loft");
    let planned = plan();
    assert_eq!((count(&planned, "new_deals"), held(&planned, &late.key)), (1, 0), "{planned}");
    assert_eq!(plan(), planned, "nothing changed, and neither does the plan");
    let then = |told: &Value, node: &str| count(seat(told, node), "bytes_then");
    assert!(then(&planned, &late.key) >= total / 8 && then(&planned, &late.key) <= total / 6, "{planned}");
    assert!(wei(&planned["escrow_wei"]) > 0 && wei(&planned["window_before_wei"]) > 0, "{planned}");
    demo.user.refused(&demo.words(&even_out), "HD1104");
    let none = demo.one(&[&even_out[..], &["--new", "0", "--dry-run"]].concat());
    assert_eq!((count(&none, "new_deals"), count(&none, "shards"), demo.deals()), (0, 0, 6), "{none}");

    // Killed on the way, before any old place has let go: everything is there, and the same command goes on.
    let words = demo.words(&["data", "repair", "vault", "--rebalance", "--rate", "1", "-y"]);
    let mut process = demo.user.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a deal with who joined", || demo.deals() == 7 || process.try_wait().unwrap().is_some());
    std::thread::sleep(Duration::from_secs(8));
    let _ = process.kill();
    process.wait().unwrap();
    demo.check(&objects);
    let interrupted = plan();
    let left = |plan: &Value| ["shards", "twins", "astray"].map(|what| count(plan, what)).iter().sum::<u64>();
    assert!(left(&interrupted) > 0, "{interrupted}");
    assert_eq!(count(&interrupted, "new_deals") == 0, demo.deals() == 7, "nobody joins twice: {interrupted}");
    let (begun, mut moved) = (Instant::now(), 0);
    let after = loop {
        let done = demo.one(&[&even_out[..], &["-y"]].concat());
        moved += count(&done, "shards") + count(&done, "twins");
        let after = plan();
        if left(&after) == 0 {
            break after;
        }
        assert!(begun.elapsed() < 3 * PATIENCE, "it does not become even: {after}");
    };
    assert!(moved > 0 && demo.deals() == 7);

    // Each shard is at one place, and nobody has much more than another.
    let mut shares: Vec<(u64, String)> = after["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|share| (count(share, "bytes"), share["node"].as_str().unwrap().to_owned()))
        .collect();
    shares.sort();
    assert_eq!((shares.len(), shares.iter().map(|(bytes, _)| bytes).sum::<u64>()), (7, total), "{after}");
    assert!(shares[6].0 - shares[0].0 <= 2 << 20 && held(&after, &late.key) > 0, "{after}");
    let survey = demo.look(&[]);
    let whole = (&survey["stripes"]["margins"], &survey["stripes"]["lost"]);
    assert_eq!(whole, (&serde_json::json!({}), &0.into()), "{survey}");
    let places = || demo.lines(&["data", "where", "hodei://vault/large"]);
    let here = places().into_iter().find(|place| place["node"] == late.key.as_str());
    let here = here.expect("who joined has some of it");
    assert!(count(&here, "shards") > 0 && count(&here, "shards") <= count(seat(&survey, &late.key), "shards_there"));
    // A second run has nothing to do and costs nothing.
    let again = demo.one(&[&even_out[..], &["-y"]].concat());
    assert_eq!((count(&again, "shards"), count(&again, "twins"), count(&again, "new_deals")), (0, 0, 0), "{again}");

    // All of them prove what they have now.
    let proven = |places: &[Value]| places.iter().map(|place| count(place, "last_proven_window")).collect::<Vec<_>>();
    let last = proven(&places()).into_iter().max().unwrap();
    wait_for("proofs of all seven", || {
        let proven = proven(&places());
        proven.len() == 7 && proven.iter().all(|window| *window > last)
    });

    // The fullest three go, as many as parity allows.
    let mut late = Some(late);
    for (_, node) in shares.iter().rev().take(3) {
        match (0..6).find(|index| demo.ready(*index)["node"] == node.as_str()) {
            Some(index) => demo.kill(index),
            None => drop(late.take()),
        }
    }
    demo.check(&objects);
}

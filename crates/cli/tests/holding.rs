//! Let machines join by a ticket, keep data, lose it, and leave; see what a person would see.

mod machines;

use machines::{Network, Node, Provider, User, content};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// One network at a time: each is half a dozen processes.
static ALONE: Mutex<()> = Mutex::new(());

/// A deal's line of `data where`, in numbers.
#[derive(Clone, Debug)]
struct Deal {
    suspended: bool,
    missed_in_row: u64,
    last_proven: u64,
    slashed: u128,
    /// Wei paid out, and owed.
    earned: u128,
}

fn wei(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn deals(lines: &[Value]) -> BTreeMap<String, Deal> {
    let deal = |line: &Value| Deal {
        suspended: line["suspended"].as_bool().unwrap(),
        missed_in_row: line["missed_in_row"].as_u64().unwrap(),
        last_proven: line["last_proven_window"].as_u64().unwrap(),
        slashed: wei(&line["slashed_wei"]),
        earned: wei(&line["paid_wei"]) + wei(&line["owed_wei"]),
    };
    lines.iter().map(|line| (line["node"].as_str().unwrap().to_owned(), deal(line))).collect()
}

#[test]
fn whoever_deletes_what_it_holds_climbs_the_ladder_and_is_not_paid() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let network = Network::start("holding");
    let mut providers: Vec<Provider> = ["attic", "cellar", "office"].map(|zone| Provider::join(&network, zone)).into();
    let file = network.user.folder().join("photo.raw");
    std::fs::write(&file, content(7, 3 << 20)).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    network.one(&["data", "create", "photos", "-y"]);
    network.one(&["data", "cp", &path(&file), "hodei://photos/photo", "--wait", "full"]);
    let look = ["data", "where", "hodei://photos/photo"];

    // All three prove, and earn by it.
    let before = network.ask(&look, "a first proof of each", |lines| {
        let deals = deals(lines);
        (deals.len() == 3 && deals.values().all(|deal| deal.last_proven > 0 && deal.earned > 0)).then_some(deals)
    });

    // One loses what it holds, while it runs.
    let shards = providers[1].node.folder.join("store/shards");
    for entry in std::fs::read_dir(&shards).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let loser = providers[1].key.clone();

    let suspended = network.ask(&look, "the first step of the ladder", |lines| {
        let deals = deals(lines);
        deals[&loser].suspended.then_some(deals)
    });
    // Whatever it earned by then it has earned.
    let kept = suspended[&loser].earned;
    let slashed = network.ask(&look, "the third step of the ladder", |lines| {
        let deals = deals(lines);
        (deals[&loser].slashed > 0).then_some(deals)
    });
    assert!(slashed[&loser].missed_in_row >= 3, "{slashed:?}");
    // A tenth of the collateral of forty coins.
    assert_eq!(slashed[&loser].slashed, 4 * 10u128.pow(18));
    // Another window, in which the others prove again.
    let after = network.ask(&look, "later proofs of the others", |lines| {
        let deals = deals(lines);
        let later = |key: &String| deals[key].last_proven > slashed[key].last_proven;
        deals.keys().filter(|key| **key != loser).all(later).then_some(deals)
    });
    assert_eq!(after[&loser].earned, kept, "windows it missed were paid");
    assert_eq!(after[&loser].last_proven, suspended[&loser].last_proven);
    for (key, deal) in after.iter().filter(|(key, _)| **key != loser) {
        assert!(deal.earned > before[key].earned, "{key} proved and was not paid: {deal:?}");
        assert_eq!(deal.slashed, 0, "{key} is punished for another");
    }

    // What its operator sees, and what a stranger sees.
    let earned = network.user.lines(&["-C", "holding", "node", "earnings", &loser]);
    let summary = earned.last().unwrap();
    assert_eq!((&summary["suspended"], wei(&summary["slashed_wei"])), (&true.into(), after[&loser].slashed));
    let paid: u128 = earned.iter().filter_map(|line| Some(wei(line.get("amount_wei")?))).sum();
    assert_eq!(paid, wei(&summary["paid_wei"]), "the sum of the payments shown is the sum said");
    // Each payment is what the deal held then, for so many windows at its price; and so is each window's part of it.
    for provider in &providers {
        let lines = network.user.lines(&["-C", "holding", "node", "earnings", &provider.key]);
        for line in lines.iter().filter(|line| line["what"] == "store") {
            let (amount, price) = (wei(&line["amount_wei"]), wei(&line["price_wei"]));
            let (bytes, windows) = (line["bytes"].as_u64().unwrap(), line["windows"].as_u64().unwrap());
            let due = (u128::from(windows) * u128::from(bytes) * price) >> 30;
            assert!(amount == due || amount == due + 1 || line["escrow_spent"] == true, "{line}");
            let each = line["each"].as_array().unwrap();
            assert_eq!(each.iter().map(|share| wei(&share["amount_wei"])).sum::<u128>(), amount, "{line}");
            assert!(each.len() as u64 == windows && each.iter().all(|share| share["bytes"] == bytes), "{line}");
        }
    }
    let status = providers[1].user.one(&["-C", "holding", "status"]);
    assert!(status["node"]["provider"]["lost_shards"].as_u64().unwrap() > 0, "{status}");
    let text = |words: &[&str]| {
        let output = network.user.command(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = text(&["-C", "holding", "data", "where", "hodei://photos/photo"]);
    assert!(said.contains("windows in a row: not paid for them") && said.contains("collateral taken"), "{said}");

    // It was one of three: the file is whole.
    assert!(providers[1].node.is_running(), "it answers for what it still has");
    let back = network.user.folder().join("back");
    network.one(&["data", "cp", "hodei://photos/photo", &path(&back)]);
    assert!(std::fs::read(&back).unwrap() == content(7, 3 << 20), "the file came back changed");
}

#[test]
fn a_machine_joins_by_a_ticket_and_leaves_when_told() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let network = Network::start("ticket");
    let balance = |words: &[&str]| wei(&network.one(words)["balance_wei"]);

    // An invitation nobody used comes back, less two transfers' fees.
    let before = balance(&["status"]);
    let (ticket, account) = network.invite("25");
    let open = network.one(&["net", "revoke"]);
    assert_eq!((&open["account"], wei(&open["coins_wei"])), (&account.as_str().into(), 25 * 10u128.pow(18)));
    let back = network.one(&["net", "revoke", &account, "-y"]);
    assert!(wei(&back["coins_wei"]) > 24 * 10u128.pow(18), "{back}");
    assert!(before - balance(&["status"]) < 10u128.pow(17), "the coins are back in the wallet");
    network.user.refused(&["-C", "ticket", "net", "revoke", &account, "-y"], "HD2006");
    assert!(network.user.lines(&["-C", "ticket", "net", "revoke"]).is_empty());
    // With an empty ticket nobody becomes a provider, and nothing is left of the attempt.
    let late = User::new("ticket-late");
    late.refused(&["net", "join", &ticket, "--provide", "1"], "HD4001");
    assert!(!late.folder().join(".local/share/hodei/nodes").join("ticket").exists());
    assert!(!late.folder().join(".config/hodei/contexts/ticket.toml").exists());
    late.refused(&["net", "join", &ticket, "--provide", "900000"], "HD3007");

    let mut provider = Provider::join(&network, "attic");
    // One process a folder, one network a folder.
    let folder = provider.node.folder.to_str().unwrap().to_owned();
    provider.user.refused(&["-C", "ticket", "node", "run"], "HD6002");
    assert!(provider.node.is_running());

    // Told to leave, the running node knows at once.
    let drained = provider.user.one(&["-C", "ticket", "node", "drain", "-y"]);
    assert_eq!(drained["running"]["may_go"], true, "{drained}");
    let status = provider.user.one(&["-C", "ticket", "status"]);
    assert_eq!(status["node"]["provider"]["draining"], true, "{status}");
    assert_eq!(status["providers"][0]["open"], false, "{status}");

    // Told to stop and started again at once, it waits for itself, and lets go of its folder before it is cut off.
    provider.node.terminate();
    let before = provider.node;
    let node = Node::start(&provider.user, &["-C", "ticket", "node", "run"], folder.clone().into());
    provider.user.until(&["-C", "ticket", "status"], "the node that was started again", |lines| {
        let process = std::fs::read_to_string(Path::new(&folder).join("lock")).unwrap_or_default();
        (process.trim() == node.id().to_string() && lines[0]["node"]["provider"].is_object()).then_some(())
    });
    let log = std::fs::read_to_string(Path::new(&folder).join("logs/node.log")).unwrap();
    assert!(log.contains("stopping") && !log.contains("some work was cut off"), "{log}");
    drop((before, node));
    let other = network.user.one(&["net", "create", "other", "-y", "--validator", "127.0.0.1:2"]);
    let settings = Path::new(&folder).join("node.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let ours = text.lines().find(|line| line.starts_with("network_key")).unwrap();
    let theirs = format!("network_key = {}", other["network_key"]);
    std::fs::write(&settings, text.replace(ours, &theirs)).unwrap();
    provider.user.refused(&["-C", "ticket", "node", "run"], "HD2005");
    // Given its own back, it starts again.
    let (caps, prove) = ("[caps]\non_metered = \"stop\"\nmetered = true\n", "[prove]\nat = \"latest\"\n");
    std::fs::write(&settings, format!("{text}\n{caps}{prove}")).unwrap();
    let again = Node::start(&provider.user, &["-C", "ticket", "node", "run"], folder.clone().into());
    let offers = provider.user.until(&["-C", "ticket", "status"], "a node that rests", |lines| {
        let offers = &lines[0]["node"]["provider"];
        (offers["resting"] == true).then(|| offers.clone())
    });
    // Its caps and its preference are those of its file.
    assert!(offers["caps"]["rests"].as_str().unwrap().contains("metered"), "{offers}");
    assert!(offers["prove"].as_str().unwrap().contains("a quarter of the window"), "{offers}");
    drop(again);

    // A machine offers to compute, says why it earns nothing yet, and takes its collateral back.
    let folder = network.user.folder().join("host");
    let place = folder.to_str().unwrap();
    let words = ["node", "offer", "compute", "--folder", place, "--memory", "256MiB"];
    let planned = network.one(&[&words[..], &["--dry-run"]].concat());
    assert_eq!((&planned["new"], &planned["cheaper_offers"]), (&true.into(), &0.into()), "{planned}");
    assert!(!folder.exists(), "a plan makes nothing");
    network.one(&[&words[..], &["-y"]].concat());
    network.user.refused(&["-C", "ticket", "node", "offer", "compute", "--folder", place, "-y"], "HD1103");
    let host = Node::start(&network.user, &["-C", "ticket", "node", "run"], folder.clone());
    let computing = network.ask(&["status", "--folder", place], "a registered host", |lines| {
        let computing = &lines[0]["node"]["compute"];
        (computing["registered"] == true).then(|| computing.clone())
    });
    assert_eq!((&computing["capacity"], wei(&computing["collateral_wei"])), (&computing["free"], 10u128.pow(18)));
    let why = computing["idle"].as_str().unwrap();
    assert!(why.contains("no offer here asks less"), "{why}");
    let drained = network.one(&["node", "drain", "--folder", place, "-y"]);
    assert_eq!((&drained["open"], &drained["withdrawn"]), (&serde_json::json!([]), &true.into()), "{drained}");
    drop(host);
}

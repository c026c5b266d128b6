//! Let providers whom the ledger knows only by a relay store, prove and earn.

mod machines;

use machines::{Network, Node, Provider, User, content};
use std::path::PathBuf;

#[test]
fn providers_known_by_a_relay_alone_store_prove_and_earn() {
    let network = Network::start("hidden");
    let at = format!("127.0.0.1:{}", machines::ports(1)[0]);
    let open = Provider::join_with(&network, "attic", &["--relay-for-others", &at]);
    let hidden = ["cellar", "office"].map(|zone| Provider::join_with(&network, zone, &["--behind-nat", &at]));
    // What others read on the ledger: no address of their own.
    let status = network.one(&["status"]);
    for provider in &hidden {
        let offers = status["providers"].as_array().unwrap();
        let offer = offers.iter().find(|offer| offer["node"] == provider.key.as_str()).unwrap();
        assert_eq!((&offer["addresses"], &offer["relays"]), (&serde_json::json!([]), &serde_json::json!([at])));
    }

    let file = network.user.folder().join("photo.raw");
    std::fs::write(&file, content(7, 3 << 20)).unwrap();
    network.one(&["data", "create", "photos", "-y"]);
    network.one(&["data", "cp", file.to_str().unwrap(), "hodei://photos/photo", "--wait", "full"]);
    let look = ["data", "where", "hodei://photos/photo"];
    network.ask(&look, "a first proof of each", |lines| {
        let has_earned = |node: &str| {
            let line = lines.iter().find(|line| line["node"] == node)?;
            let paid: u128 = line["paid_wei"].as_str()?.parse().ok()?;
            let owed: u128 = line["owed_wei"].as_str()?.parse().ok()?;
            (line["last_proven_window"].as_u64()? > 0 && paid + owed > 0).then_some(())
        };
        hidden.iter().all(|provider| has_earned(&provider.key).is_some()).then_some(())
    });

    // The relay served them, and its owner sees how much; they see that they are reached.
    let relay = open.user.one(&["-C", "hidden", "status"])["node"]["relay"].clone();
    assert_eq!(relay["served"], 2, "{relay}");
    assert!(relay["bytes"].as_u64().unwrap() > 0, "{relay}");
    for provider in &hidden {
        let relays = provider.user.one(&["-C", "hidden", "status"])["node"]["relays"].clone();
        assert_eq!(relays, serde_json::json!([{"address": at, "connected": true}]));
    }

    let back = network.user.folder().join("back");
    network.one(&["data", "cp", "hodei://photos/photo", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == content(7, 3 << 20), "the file came back changed");

    // An address that nobody can dial is no relay, and one that does not answer is told, and nothing is offered through it.
    let user = User::new("hidden-shed");
    let (ticket, _) = network.invite("100");
    let join = ["net", "join", &ticket, "--provide", "4", "--zone", "shed", "--collateral", "40", "--behind-nat"];
    user.refused(&[&join[..], &["0.0.0.0:0"]].concat(), "HD1001");
    let nobody = format!("127.0.0.1:{}", machines::ports(1)[0]);
    let joined = user.one(&[&join[..], &[&nobody]].concat());
    let folder = PathBuf::from(joined["node"]["folder"].as_str().unwrap());
    let _shed = Node::start(&user, &["-C", "hidden", "node", "run"], folder.clone());
    let told = user.until(&["-C", "hidden", "status"], "a node that waits for its relay", |lines| {
        let node = &lines[0]["node"];
        let waits = node["tasks"]["report"]["error"].as_str().is_some_and(|error| error.contains(&nobody));
        (waits && node["reached"]["connected"] == false).then(|| lines[0].clone())
    });
    assert!(told["node"]["reached"]["since_s"].as_u64().unwrap() > 0, "{told}");
    let attention = told["attention"].as_array().unwrap();
    assert!(attention.iter().any(|line| line.as_str().unwrap().contains(&nobody)), "{attention:?}");
    assert!(told["providers"].as_array().unwrap().iter().all(|offer| offer["zone"] != "shed"), "{told}");
    let (_, lines, _) = user.run(&["-C", "hidden", "doctor"]);
    let found = lines[0]["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "node").unwrap();
    assert_eq!(found["well"], false, "{found}");
    assert!(found["text"].as_str().unwrap().contains(&nobody), "{found}");
    // The same of a folder that is named, where no cloud is chosen; people read of the relay that others have here.
    let alone = User::new("hidden-alone").one(&["status", "--folder", folder.to_str().unwrap()]);
    assert_eq!((&alone["context"], &alone["node"]["node"]), (&serde_json::Value::Null, &told["node"]["node"]));
    let shown = open.user.command(&["-C", "hidden", "status"]).output().unwrap().stdout;
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("relay for others: ") && shown.contains("stay in reserve"), "{shown}");
}

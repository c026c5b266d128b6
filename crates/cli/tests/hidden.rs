//! Let providers whom the ledger knows only by a relay store, prove and earn.

mod machines;

use machines::{Network, Provider, content};

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
}

//! Found a network that settles by invoice, run an app on a member's machine, and have both sides' statements agree.

mod machines;

use machines::{Network, Node, User};
use serde_json::Value;
use std::path::PathBuf;

fn wei(value: &Value) -> u128 {
    value.as_str().unwrap_or_else(|| panic!("no amount: {value}")).parse().unwrap()
}

#[test]
fn what_a_tenant_is_to_be_invoiced_is_what_the_hosts_operator_invoices() {
    let network = Network::start_with("euros", &["--settlement", "invoice", "--currency", "EUR"]);
    network
        .user
        .refused(&["net", "create", "other", "--validator", "127.0.0.1:9000", "--currency", "EUR", "-y"], "HD1001");

    // A member with credit of two euros, and none of it at risk.
    let user = User::new("member");
    let (ticket, _) = network.invite("2");
    user.one(&["net", "join", &ticket]);
    let offer =
        ["-C", "euros", "node", "offer", "compute", "--cpus", "1", "--memory", "512MiB", "--zone", "attic", "-y"];
    let offered = user.one(&offer);
    assert_eq!(offered["collateral_wei"], "0", "{offered}");
    let folder = PathBuf::from(offered["folder"].as_str().unwrap());
    let operator = offered["account"].as_str().unwrap().to_owned();
    let _host = Node::start(&user, &["-C", "euros", "node", "run"], folder);

    let hello = format!("{}/../../examples/hello.wat", env!("CARGO_MANIFEST_DIR"));
    network.ask(&["deploy", &hello, "--dry-run"], "an offer", |lines| lines[0]["places"].as_array().map(|_| ()));
    network.one(&["deploy", &hello, "--term", "1h", "-y"]);
    let over = network.one(&["app", "delete", "hello", "-y"]);
    let paid = wei(&over["paid_wei"]);

    let mine = network.one(&["wallet", "statement"]);
    assert_eq!((&mine["settlement"], &mine["currency"]), (&"invoice".into(), &"EUR".into()), "{mine}");
    assert_eq!(wei(&mine["paid_wei"]) + wei(&mine["burned_wei"]), paid, "{mine}");
    let theirs = network.user.lines(&["-C", "euros", "wallet", "statement", "--account", &operator]);
    let (line, sum) = (&theirs[0], theirs.last().unwrap());
    assert_eq!((line["service"].as_str(), &sum["earned_wei"]), (Some("compute"), &mine["paid_wei"]), "{theirs:?}");
    assert_eq!((&line["earned_wei"], sum["paid_wei"].as_str()), (&mine["paid_wei"], Some("0")), "{theirs:?}");
    // Nothing was paid before the network was.
    let before = network.one(&["wallet", "statement", "--from", "2020-01-01", "--to", "2020-12-31"]);
    assert_eq!((wei(&before["paid_wei"]), wei(&before["fees_wei"])), (0, 0), "{before}");

    let printed = network.user.command(&["-C", "euros", "wallet", "statement", "--csv"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let row = printed.lines().find(|line| line.contains(",compute,")).unwrap_or_else(|| panic!("{printed}"));
    assert!(row.contains(",EUR,") && row.to_lowercase().contains(&operator.to_lowercase()), "{row}");
}

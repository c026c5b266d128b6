//! Trade compute at random on four validators, and on one ledger for a day, and see that every book and every wei agrees.
//!
//! `cargo test --release --workspace --locked --test market` runs some minutes; with `HODEI_SIM_DAYS=7` the four
//! validators live for a week, with an order every few minutes.

mod book;
mod cast;
mod day;
mod payer;
mod session;
mod tally;
mod week;

use hodei_sim::{each, seeds};
use std::sync::Mutex;
use tally::Tally;
use week::Plan;

/// Seeds of the short form.
const FEW: u64 = 3;

#[test]
fn four_validators_show_one_book_which_is_that_of_the_hosts_and_their_leases() {
    let days = std::env::var("HODEI_SIM_DAYS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (plan, runs) = if days > 0 { (Plan::days(days), seeds(1)) } else { (Plan::minutes(), seeds(FEW)) };
    let all = Mutex::new(Tally::default());
    each(runs, |seed| {
        let told = plan.run(seed);
        all.lock().expect("no holder of this lock panics").add(&told);
    });
    let all = all.into_inner().expect("no holder of this lock panics");
    println!("{all:#?}");
    all.judge();
}

#[test]
fn a_day_of_leases_pays_to_the_wei_while_its_payers_sleep() {
    each(seeds(2), day::live);
}

#[test]
fn a_budget_at_its_cap_buys_nothing_more_and_what_it_bought_ends_with_its_escrow() {
    payer::live();
}

#[test]
fn the_session_that_the_documents_record_is_what_happens() {
    let told = session::play();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/market.md");
    let document = std::fs::read_to_string(path).expect("docs/market.md is there");
    let recorded = document.split("```session\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    assert_eq!(told, recorded, "docs/market.md records another session; this is what happened:\n{told}");
}

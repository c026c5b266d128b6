//! Show what is offered, at what price, and how much of it stands on one; hold capacity and lend it.

mod cell;
pub(crate) mod held;
pub(crate) mod history;
pub(crate) mod quote;

use crate::{
    args::{MarketBook, Ware as Asked},
    fault::{self, Fault, Result},
    money::SYMBOL,
    out::{Out, table},
    session::{Session, chain_fault},
};
use cell::{amount, bar, coins, cut, percent};
use hodei_sdk::book::{Book, Class, Largest, Line, Pledge, Stands, Step, Ware, asks, epoch, pledges};
use hodei_types::abi::IRelays::Epoch;
use serde_json::{Value, json};

/// `hodei market book`.
pub(crate) async fn book(args: &MarketBook, session: &Session, out: Out) -> Result<()> {
    let asks = asks(&*session.chain, args.class.map(Asked::class)).await.map_err(chain_fault)?;
    let book = Book::of(&asks, args.region.as_deref());
    if let Some(region) = args.region.as_deref().filter(|_| book.lines.is_empty() && !asks.is_empty()) {
        let mut there: Vec<&str> = asks.iter().map(|ask| ask.region()).collect();
        there.sort_unstable();
        there.dedup();
        there.truncate(REGIONS_TOLD);
        return Err(Fault::new(&fault::PLACEMENT, "nothing is offered there", "name a region, or what it begins with")
            .between(there.join(", "), region));
    }
    if out.json {
        book.lines.iter().for_each(|line| out.result("", &object(line)));
        if args.class.is_none_or(|class| class.class() == Class::Compute) {
            let pledges = pledges(&*session.chain, args.region.as_deref()).await.map_err(chain_fault)?;
            pledges.iter().for_each(|pledge| out.result("", &level(pledge)));
        }
    } else if book.lines.is_empty() {
        out.line("nothing is offered");
    } else {
        out.line(&text(&book));
    }
    if args.class.is_none_or(|class| class.class() == Class::Bandwidth) {
        let epoch = epoch(&*session.chain).await.map_err(chain_fault)?;
        if out.json {
            out.result("", &pool_object(&epoch));
        } else if epoch.offers > 0 {
            out.line(&pool(&epoch));
        }
    }
    if !out.json && !book.lines.is_empty() {
        out.next("hodei market quote 100GiB");
    }
    Ok(())
}

/// Regions named to who asked for one where there is nothing.
const REGIONS_TOLD: usize = 12;

fn object(line: &Line) -> Value {
    let step = |step: &Step| {
        json!({
            "from_wei": step.from.to_string(), "to_wei": step.to.to_string(), "amount": step.amount.to_string(),
            "offers": step.offers,
        })
    };
    json!({
        "schema": "hodei.market.line/1", "class": line.ware.class().name(), "ware": line.ware.name(),
        "unit": line.ware.unit(), "amount_of": cell::amount_of(line.ware), "region": line.region,
        "best_wei": line.best.to_string(), "median_wei": line.median.to_string(), "amount": line.amount.to_string(),
        "offers": line.offers, "operators": line.operators, "steps": line.steps.iter().map(step).collect::<Vec<_>>(),
        "largest": stands(&line.stands),
    })
}

/// What a host promises with a bond.
fn level(pledge: &Pledge) -> Value {
    json!({
        "schema": "hodei.market.level/1", "node": pledge.node.to_string(), "operator": pledge.operator.to_string(),
        "region": pledge.region, "availability_bp": pledge.level.availabilityBp, "start_secs": pledge.level.startSecs,
        "restore_secs": pledge.level.restoreSecs, "pay_bp": pledge.level.payBp, "bond_wei": pledge.bond.to_string(),
        "bound_wei": pledge.bound.to_string(),
    })
}

/// The relays' pool, as its epoch opened.
fn pool_object(epoch: &Epoch) -> Value {
    json!({
        "schema": "hodei.market.pool/1", "epoch": epoch.number, "price_wei": epoch.price.to_string(), "unit": "MiB",
        "offers": epoch.offers, "offers_below": epoch.below, "supply_mib": epoch.supplyMib,
        "demand_mib": epoch.demandMib, "redeemed_mib": epoch.redeemedMib,
    })
}

fn pool(epoch: &Epoch) -> String {
    format!(
        "relays, epoch {}: {} {SYMBOL} a MiB; {} of {} offers ask that or less and carry {} MiB; {} MiB were expected",
        epoch.number,
        coins(epoch.price.into()),
        epoch.below,
        epoch.offers,
        epoch.supplyMib,
        epoch.demandMib,
    )
}

/// Who has most, for programs.
fn stands(stands: &Stands) -> Value {
    let largest = |largest: &Largest| json!({ "name": largest.name, "basis_points": largest.bp });
    json!({
        "operator": largest(&stands.operator), "network": largest(&stands.network), "region": largest(&stands.region),
    })
}

/// Of each ware its regions, its depth, and what stands on one.
fn text(book: &Book) -> String {
    let mut parts = Vec::new();
    for ware in Ware::ALL {
        let Some(whole) = book.whole(ware) else { continue };
        let lines: Vec<&Line> = book.lines.iter().filter(|line| line.ware == ware).collect();
        // One region alone is the whole.
        let shown = if lines.len() == 2 { &lines[1..] } else { &lines[..] };
        let head = format!("{}, {SYMBOL} for a {}", ware.name().to_uppercase(), ware.unit());
        let regions = table(&["REGION", "BEST", "MEDIAN", heading(ware), "OFFERS", "OPERATORS"], &rows(shown));
        parts.push(format!("{head}\n{regions}\n\n{}\n\n{}", depth(whole), largest(&whole.stands)));
    }
    parts.join("\n\n")
}

fn heading(ware: Ware) -> &'static str {
    if ware == Ware::Reads { "KEPT" } else { "FREE" }
}

fn rows(lines: &[&Line]) -> Vec<Vec<String>> {
    let row = |line: &&Line| {
        vec![
            cut(line.region.as_deref().unwrap_or("all")),
            coins(line.best),
            coins(line.median),
            amount(line.ware, line.amount),
            line.offers.to_string(),
            line.operators.to_string(),
        ]
    };
    lines.iter().map(row).collect()
}

/// Cheapest first; the bar is all that is to be had up to that price.
fn depth(line: &Line) -> String {
    let mut below = 0_u128;
    let row = |step: &Step| {
        below = below.saturating_add(step.amount);
        vec![
            cell::range(step.from, step.to),
            amount(line.ware, step.amount),
            step.offers.to_string(),
            bar(below, line.amount),
        ]
    };
    table(&["UP TO", heading(line.ware), "OFFERS", "DEPTH"], &line.steps.iter().map(row).collect::<Vec<_>>())
}

/// Who has most of it, and how much.
fn largest(stands: &Stands) -> String {
    let all = [("operator", &stands.operator), ("network", &stands.network), ("region", &stands.region)];
    let row = |(of, largest): (&str, &Largest)| vec![of.to_owned(), percent(largest.bp), largest.name.clone()];
    table(&["MOST ON ONE", "PART", "WHO"], &all.map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Address;
    use hodei_sdk::book::Ask;
    use hodei_types::transport::NodeKey;

    fn ask(operator: u8, place: &str, price: u128, amount: u128) -> Ask {
        Ask {
            ware: Ware::Storage,
            node: NodeKey([operator; 32]),
            operator: Address::repeat_byte(operator),
            network: format!("zone {place}"),
            place: place.into(),
            price,
            amount,
        }
    }

    #[test]
    fn a_book_is_drawn_with_its_depth_and_what_stands_on_one() {
        let asks = [ask(1, "attic", 10_u128.pow(15), 1 << 30), ask(2, "cellar", 2 * 10_u128.pow(15), 3 << 30)];
        let text = text(&Book::of(&asks, None));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "STORAGE, hod for a GiB and month");
        assert_eq!(lines[1], "REGION  BEST   MEDIAN  FREE     OFFERS  OPERATORS");
        assert_eq!(lines[2], "all     0.001  0.002   4.0 GiB  2       2");
        assert_eq!(lines[6], "UP TO  FREE     OFFERS  DEPTH");
        let bar = |full: usize| format!("{}{}", "█".repeat(full), "░".repeat(20 - full));
        assert_eq!(lines[7], format!("0.001  1.0 GiB  1       {} 25 %", bar(5)));
        assert_eq!(lines[8], format!("0.002  3.0 GiB  1       {} 100 %", bar(20)));
        assert_eq!(lines[10], "MOST ON ONE  PART  WHO");
        assert_eq!(lines[11], format!("operator     75 %  {}", Address::repeat_byte(2)));
        assert_eq!(lines[12], "network      75 %  zone cellar");
    }

    #[test]
    fn however_wild_offers_are_a_book_stays_within_a_hundred_columns() {
        let long = "a-zone-of-thirty-one-letters-31";
        let asks: Vec<Ask> = (0..40).map(|i| ask(i, long, u128::MAX - 7 * u128::from(i), u128::MAX / 50)).collect();
        for line in text(&Book::of(&asks, None)).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
        let usual: Vec<Ask> = (0..40).map(|i| ask(i, long, 259_200_123_456 * u128::from(i), 77 << 40)).collect();
        for line in text(&Book::of(&usual, None)).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn programs_are_told_every_wei_and_whose_the_most_is() {
        let book = Book::of(&[ask(1, "attic", 7, 5)], None);
        let value = object(&book.lines[0]);
        assert_eq!((&value["best_wei"], &value["region"], &value["amount"]), (&"7".into(), &Value::Null, &"5".into()));
        assert_eq!(value["largest"]["network"], json!({ "name": "zone attic", "basis_points": 10_000 }));
        assert_eq!((&value["class"], &value["amount_of"]), (&"storage".into(), &"bytes".into()));
    }
}

//! Let buyers and sellers drawn from a seed meet by four mechanisms, and try to cheat.
//!
//! Run: `cargo run --release -p hodei-benches --bin bench-agents [--json]`
//!
//! Sellers have private costs, buyers private values that fall while they wait; both are truthful but for the one who is
//! told not to be. Prices are the ledger's own: rates and curves of `types::market`. Everything is an integer, and the
//! same for the same seed; nothing is timed. No network, no ledger: what one order costs to match is `bench-market`'s.

mod dice;
mod index;
mod play;
mod town;
mod trade;

use hodei_types::market::BP;
use play::{Deviation, shade, shades, wash, withhold};
use trade::{Mechanism, Outcome, run};

const SEEDS: u64 = 4;
/// Seconds that orders come for; and a day, for the index.
const SECS: u64 = 4 * 3_600;
const DAY: u64 = 24 * 3_600;
/// What orders would fill of all capacity, if all were served.
const LOADS: [(&str, u64); 2] = [("low", 3_500), ("high", 13_000)];

/// A part of a whole in hundredths of a percent; 0 of nothing.
fn bp(part: u128, whole: u128) -> u128 {
    // Sums are far below 2^100.
    (part * u128::from(BP)).checked_div(whole).unwrap_or(0)
}

/// Hundredths as a number with two decimals.
fn hundredths(number: u128) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}

/// One line of a table, and one object of the JSON.
struct Row(Vec<(&'static str, String)>);

impl Row {
    fn json(&self) -> String {
        let field = |(name, value): &(&str, String)| match value.replace('.', "").parse::<u128>() {
            Ok(_) => format!("\"{name}\":{value}"),
            Err(_) => format!("\"{name}\":\"{value}\""),
        };
        format!("{{{}}}", self.0.iter().map(field).collect::<Vec<_>>().join(","))
    }
}

fn table(title: &str, rows: &[Row]) {
    println!("\n{title}\n");
    let Some(first) = rows.first() else { return };
    println!("| {} |", first.0.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    println!("|{}", "---|".repeat(first.0.len()));
    for row in rows {
        println!("| {} |", row.0.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" | "));
    }
}

fn main() {
    let (mut trade, mut cheat) = (Vec::new(), Vec::new());
    for (name, load_bp) in LOADS {
        let mut sums = [const { None::<Outcome> }; Mechanism::ALL.len()];
        let cheats = [Mechanism::Curve, Mechanism::Reverse];
        let mut withheld = cheats.map(|_| Deviation::default());
        let mut shaded = cheats.map(|_| shades());
        for seed in 0..SEEDS {
            let sellers = town::sellers(seed);
            let wishes = town::wishes(seed, &sellers, SECS, load_bp);
            for (sum, mechanism) in sums.iter_mut().zip(Mechanism::ALL) {
                let outcome = run(mechanism, &sellers, &wishes);
                if let Some(at) = cheats.iter().position(|cheat| *cheat == mechanism) {
                    withhold(mechanism, &sellers, &wishes, &outcome, &mut withheld[at]);
                    shade(mechanism, &sellers, &wishes, &outcome, &mut shaded[at]);
                }
                sum.get_or_insert_default().add(&outcome);
            }
        }
        let outcomes = sums.map(Option::unwrap_or_default);
        trade.extend(
            Mechanism::ALL.iter().zip(&outcomes).map(|(mechanism, one)| traded(name, *mechanism, one, &outcomes[0])),
        );
        for ((mechanism, withheld), shaded) in cheats.iter().zip(withheld).zip(shaded) {
            cheat.push(deviated(name, *mechanism, "half withheld".into(), withheld));
            cheat.extend(
                shaded
                    .into_iter()
                    .filter(|(shade_bp, _)| *shade_bp > 0)
                    .map(|(shade_bp, sum)| deviated(name, *mechanism, format!("{} % above cost", shade_bp / 100), sum)),
            );
        }
    }
    let sellers = town::sellers(0);
    let day = run(Mechanism::Curve, &sellers, &town::wishes(0, &sellers, DAY, LOADS[0].1));
    let (index, tried) = wash(&day.leases);
    let washed: Vec<Row> = tried.iter().map(washed).collect();
    if std::env::args().any(|word| word == "--json") {
        let list = |rows: &[Row]| rows.iter().map(Row::json).collect::<Vec<_>>().join(",");
        println!(
            "{{\"trade\":[{}],\"deviations\":[{}],\"index\":{{\"price\":{},\"accounts\":{},\"weight\":{},\
             \"move_weight\":{},\"move_accounts\":{},\"move_burned\":{}}},\"wash\":[{}]}}",
            list(&trade),
            list(&cheat),
            index.price,
            index.accounts,
            index.weight,
            index.move_weight,
            index.move_accounts,
            index.move_burned,
            list(&washed)
        );
        return;
    }
    table("What each mechanism makes of the same orders (surplus in percent of the posted asks')", &trade);
    table(
        "What the largest seller gains by not being truthful, in percent of its costs while it was, and what buyers keep",
        &cheat,
    );
    println!(
        "\nThe index of a day: {} wei an hour for a unit, {} accounts, {} wei counted; to move it by 5 %: {} wei, {} \
         accounts, {} wei burned",
        index.price, index.accounts, index.weight, index.move_weight, index.move_accounts, index.move_burned
    );
    table("What a wash trader did to it", &washed);
}

fn traded(load: &str, mechanism: Mechanism, one: &Outcome, posted: &Outcome) -> Row {
    let buyers = (one.surplus + one.cost).saturating_sub(one.paid);
    Row(vec![
        ("load", load.into()),
        ("mechanism", mechanism.name().into()),
        ("surplus", hundredths(bp(one.surplus, posted.surplus))),
        ("buyers keep", hundredths(bp(buyers, one.surplus))),
        ("served", hundredths(bp(one.served.into(), one.orders.into()))),
        ("paid of cost", hundredths(bp(one.paid, one.cost))),
        ("wei a CPU and hour", (one.paid * 3_600).checked_div(one.cpu_secs).unwrap_or(0).to_string()),
        ("messages an order", hundredths(bp(one.messages.into(), one.orders.into()) / 100)),
        ("waited s", hundredths(bp(one.waited.into(), one.served.into()) / 100)),
    ])
}

fn deviated(load: &str, mechanism: Mechanism, how: String, sum: Deviation) -> Row {
    Row(vec![
        ("load", load.into()),
        ("mechanism", mechanism.name().into()),
        ("the largest seller", how),
        ("profit, truthful", hundredths(bp(sum.honest, sum.costs))),
        ("profit, so", hundredths(bp(sum.kept, sum.costs))),
        ("buyers' surplus", hundredths(bp(sum.buyers, sum.buyers_honest))),
    ])
}

fn washed(one: &play::Wash) -> Row {
    let moved = one.after.abs_diff(one.before);
    Row(vec![
        ("tried", one.what.into()),
        ("accounts", one.accounts.to_string()),
        ("paid to himself, wei", one.paid.to_string()),
        ("burned, wei", one.burned.to_string()),
        ("index moved, percent", hundredths(bp(moved, one.before))),
    ])
}

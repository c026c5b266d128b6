//! Show prices that were asked and agreed on.

use super::cell::{coins, wide};
use crate::{
    args::{MarketHistory, Ware as Asked},
    fault::Result,
    out::{Out, table},
    session::{Session, chain_fault},
};
use hodei_sdk::book::{Class, Trade, indices, trades};
use hodei_types::market::{Index, Runtime};
use serde_json::{Value, json};

/// `hodei market history`.
pub(crate) async fn show(args: &MarketHistory, session: &Session, out: Out) -> Result<()> {
    let class = args.class.map(Asked::class);
    let chain = &*session.chain;
    let found = trades(chain, class, args.last as usize, args.before).await.map_err(chain_fault)?;
    // The index is of now: it stands above the newest page alone.
    let is_asked = args.before.is_none() && class.is_none_or(|class| class == Class::Compute);
    let indices = if is_asked { indices(chain).await.map_err(chain_fault)? } else { Vec::new() };
    if out.json {
        indices.iter().for_each(|index| out.result("", &index_object(index)));
        found.rows.iter().for_each(|trade| out.result("", &object(trade)));
    } else {
        indices.iter().for_each(|index| out.line(&index_text(index)));
        if !found.rows.is_empty() {
            out.line(&rows(&found.rows));
            out.line("");
        }
    }
    let mut text = match (found.rows.len(), found.is_more) {
        (0, _) => format!("nothing was offered or traded in blocks {} to {}", found.from, found.to),
        (count, true) => format!("{count} of blocks {} to {}; there are more", found.from, found.to),
        (count, false) => format!("{count} of blocks {} to {}", found.from, found.to),
    };
    if let Some(reason) = &found.cut {
        text.push_str(&format!("\nwhat is older is not listed: {reason}"));
    }
    if let Some(next) = &found.next {
        let of = class.map_or_else(String::new, |class| format!(" --class {}", class.name()));
        text.push_str(&format!("\nwhat is older: hodei market history{of} --last {} --before {next}", args.last));
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.market.history/1", "class": class.map(Class::name), "from": found.from, "to": found.to,
            "is_more": found.is_more, "older": found.cut, "next": found.next.map(|next| next.to_string()),
        }),
    );
    Ok(())
}

fn object(trade: &Trade) -> Value {
    json!({
        "schema": "hodei.market.trade/1", "height": trade.height, "class": trade.class.name(), "what": trade.what.name(),
        "node": trade.node.map(|node| node.to_string()), "price_wei": trade.price.to_string(), "unit": trade.per,
        "text": trade.text, "transaction": trade.tx.to_string(),
    })
}

fn rows(trades: &[Trade]) -> String {
    let row = |trade: &Trade| {
        let node = trade.node.map_or_else(String::new, |node| node.to_string().chars().take(8).collect());
        let price = format!("{} a {}", wide(trade.price), trade.per);
        vec![trade.height.to_string(), trade.what.name().to_owned(), price, node, trade.text.clone()]
    };
    table(&["BLOCK", "WHAT", "PRICE", "NODE", "FOR"], &trades.iter().map(row).collect::<Vec<_>>())
}

/// The word programs are told.
fn runtime_name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Wasm => "wasm",
        Runtime::Oci => "oci",
    }
}

fn index_object((region, runtime, index): &(&'static str, Runtime, Index)) -> Value {
    json!({
        "schema": "hodei.market.index/1", "region": region, "runtime": runtime_name(*runtime),
        "price_wei": index.price.to_string(), "unit": "unit and hour", "accounts": index.accounts,
        "weight_wei": index.weight.to_string(), "move_weight_wei": index.moveWeight.to_string(),
        "move_accounts": index.moveAccounts, "move_burned_wei": index.moveBurned.to_string(),
    })
}

fn index_text((region, runtime, index): &(&'static str, Runtime, Index)) -> String {
    format!(
        "index of {} in {region}: {} a unit and hour, by {} accounts; moving it by 5 % takes {} paid by {} accounts, \
         {} of it burned",
        runtime_name(*runtime),
        coins(index.price),
        index.accounts,
        wide(index.moveWeight),
        index.moveAccounts,
        wide(index.moveBurned),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, U256};
    use hodei_sdk::book::What;
    use hodei_types::transport::NodeKey;

    #[test]
    fn a_trade_is_told_with_its_price_and_what_for() {
        let trade = Trade {
            height: 41,
            index: 0,
            tx: B256::ZERO,
            class: Class::Storage,
            what: What::Deal,
            node: Some(NodeKey([0xab; 32])),
            price: U256::from(10u64.pow(15)),
            per: "GiB and month",
            text: "deal 3 over 5 MiB".into(),
        };
        let text = rows(std::slice::from_ref(&trade));
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, "41     deal  0.001 a GiB and month  abababab  deal 3 over 5 MiB");
        let value = object(&trade);
        assert_eq!((&value["price_wei"], &value["what"]), (&"1000000000000000".into(), &"deal".into()));
    }

    #[test]
    fn an_index_tells_what_moving_it_costs() {
        let index = Index {
            price: 10u128.pow(16),
            accounts: 7,
            weight: U256::from(5),
            moveWeight: U256::from(10u128.pow(18)),
            moveAccounts: 2,
            moveBurned: U256::from(10u128.pow(16)),
        };
        let text = index_text(&("local", Runtime::Wasm, index));
        assert_eq!(
            text,
            "index of wasm in local: 0.01 a unit and hour, by 7 accounts; moving it by 5 % takes 1 paid by 2 accounts, \
             0.01 of it burned"
        );
        assert_eq!(index_object(&("local", Runtime::Wasm, index))["move_accounts"], 2);
    }
}

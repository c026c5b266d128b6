//! Say what a provider earned, coin by coin, with the reason of each.
//!
//! Every number comes from the ledger: payments from its events, what is owed and why from its deals. The sum
//! of the payments shown is the sum said.

use crate::{
    args::NodeEarnings,
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes, table},
    serve,
    session::{Session, chain_fault},
    status::short,
};
use alloy_primitives::{B256, U256};
use hodei_node::{
    home::Home,
    keys::Keys,
    provider::earnings::{Earnings, Payment, Read, earnings},
};
use hodei_sdk::market::{self, Offer};
use hodei_types::{
    abi::{DEALS, IDeals, LEAF_BYTES, PAGE_MAX},
    call::ask,
    chain::Chain,
};
use serde_json::json;
use std::collections::BTreeMap;

/// `hodei node earnings`.
pub(crate) async fn show(args: &NodeEarnings, session: &Session, out: Out) -> Result<()> {
    let chain = &*session.chain;
    let offer = offer(args, session).await?;
    let node = B256::from(offer.node.0);
    let head = chain.head().await.map_err(chain_fault)?;
    let from = head.height.saturating_sub(args.blocks.saturating_sub(1)).max(1);
    let earned = earnings(chain, node, from, head.height).await.map_err(chain_fault)?;
    let deals = deals(chain, node, &earned).await?;
    let standing = ask(chain, DEALS, &IDeals::standingCall { provider: node }).await.map_err(chain_fault)?;
    let owed = deals.values().fold(U256::ZERO, |sum, deal| sum + deal.owed);

    let reason = |deal: u64, windows: u64| match deals.get(&deal) {
        Some(deal) => format!(
            "{}; it keeps {} now, at {} a GiB and window",
            counted(windows, "proven window"),
            bytes(deal.leaves * LEAF_BYTES),
            money::show(U256::from(deal.price)),
        ),
        None => counted(windows, "proven window"),
    };
    if out.json {
        for payment in &earned.payments {
            let value = json!({
                "schema": "hodei.node.payment/1", "what": "store", "node": offer.node.to_string(), "deal": payment.deal, "height": payment.height,
                "transaction": payment.tx.to_string(), "windows": payment.windows, "amount_wei": payment.amount.to_string(),
                "each": payment.each.iter().map(|share| json!({ "window": share.window, "amount_wei": share.amount.to_string() })).collect::<Vec<_>>(),
                "why": reason(payment.deal, payment.windows),
            });
            out.result("", &value);
        }
        for read in &earned.reads {
            let value = json!({
                "schema": "hodei.node.payment/1", "what": "read", "node": offer.node.to_string(), "tab": read.tab.to_string(),
                "leaf": read.leaf, "height": read.height, "transaction": read.tx.to_string(), "ticks": read.ticks,
                "amount_wei": read.amount.to_string(), "why": read_reason(read),
            });
            out.result("", &value);
        }
    } else {
        tables(&earned, reason, out);
    }
    let mut text = format!(
        "provider {} in zone {} was paid {} in blocks {} to {}",
        short(&offer.node.to_string()),
        offer.zone,
        money::exact(earned.paid),
        earned.from,
        earned.to
    );
    if !earned.read.is_zero() {
        text.push_str(&format!("\n{} of it for what was read", money::exact(earned.read)));
    }
    text.push_str(&format!(
        "\n{} more is earned and not yet paid out, in {}",
        money::exact(owed),
        counted(open(&deals) as u64, "open deal")
    ));
    text.push_str(&format!(
        "\n{} ever, {} missed{}",
        counted(standing.proven, "proven window"),
        standing.misses,
        match standing.slashed.is_zero() {
            true => String::new(),
            false => format!(", {} of collateral taken for that", money::show(standing.slashed)),
        }
    ));
    if standing.suspended {
        text.push_str("\nit is suspended since it missed its last proof: see logs/node.log of that node");
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.node.earnings/1", "node": offer.node.to_string(), "operator": offer.operator.to_string(),
            "from": earned.from, "to": earned.to, "paid_wei": earned.paid.to_string(), "read_wei": earned.read.to_string(), "owed_wei": owed.to_string(),
            "slashed_wei": earned.slashed.to_string(), "windows_proven": standing.proven, "windows_missed": standing.misses,
            "suspended": standing.suspended, "open_deals": open(&deals),
        }),
    );
    let last = earned.payments.last().map(|payment| payment.tx).or(earned.reads.last().map(|read| read.tx));
    out.next(match last {
        Some(tx) => format!("hodei chain show {tx}"),
        None => "hodei status".into(),
    });
    Ok(())
}

/// What deals paid, and what tabs did.
fn tables(earned: &Earnings, reason: impl Fn(u64, u64) -> String, out: Out) {
    if !earned.payments.is_empty() {
        let row = |payment: &Payment| {
            let (deal, windows) = (payment.deal, payment.windows);
            vec![payment.height.to_string(), deal.to_string(), money::exact(payment.amount), reason(deal, windows)]
        };
        out.line(&table(&["BLOCK", "DEAL", "PAID", "WHY"], &earned.payments.iter().map(row).collect::<Vec<_>>()));
        out.line("");
    }
    if !earned.reads.is_empty() {
        let row = |read: &Read| {
            let tab = short(&hex::encode(read.tab));
            vec![read.height.to_string(), tab, money::exact(read.amount), read_reason(read)]
        };
        out.line(&table(&["BLOCK", "TAB", "PAID", "WHY"], &earned.reads.iter().map(row).collect::<Vec<_>>()));
        out.line("");
    }
}

fn read_reason(read: &Read) -> String {
    format!("{} MiB read", read.ticks)
}

/// The provider meant: named by the beginning of its key, or the one in a folder.
async fn offer(args: &NodeEarnings, session: &Session) -> Result<Offer> {
    let offers = market::offers(&*session.chain).await.map_err(chain_fault)?;
    let key = match &args.node {
        Some(text) => text.strip_prefix("node/").unwrap_or(text).trim_start_matches("0x").to_lowercase(),
        None => {
            let folder = serve::folder(args.folder.as_ref(), || Ok(session.context.node.clone())).map_err(|_| {
                let help = "name the provider by the first digits of its key: `hodei status` lists them";
                Fault::new(&fault::USAGE, "this context has no node of its own here", help)
            })?;
            serve::check_present(&folder)?;
            let home = Home::create(&folder).map_err(serve::home_fault)?;
            let keys = Keys::open(&home).map_err(|error| {
                Fault::new(&fault::WALLET, error, "put the right key file there").at(folder.display())
            })?;
            hex::encode(hodei_node::deal::public_key(&keys.node).as_ref())
        }
    };
    let mut found: Vec<Offer> =
        offers.into_iter().filter(|offer| hex::encode(offer.node.0).starts_with(&key)).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        count => {
            Err(Fault::new(&fault::NO_PROVIDER, "no single provider is meant by that", "`hodei status` lists them")
                .between("the first digits of one provider's key", format!("{key:?}, which {count} begin with")))
        }
    }
}

/// The deals that were paid, and those that are open.
async fn deals(chain: &dyn Chain, node: B256, earned: &Earnings) -> Result<BTreeMap<u64, IDeals::Deal>> {
    let mut ids: Vec<u64> = earned.payments.iter().map(|payment| payment.deal).collect();
    let mut first = 0;
    loop {
        let call = IDeals::ofProviderCall { provider: node, first, most: PAGE_MAX };
        let page = ask(chain, DEALS, &call).await.map_err(chain_fault)?;
        first += page.len() as u64;
        ids.extend(&page);
        if (page.len() as u64) < PAGE_MAX {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let mut deals = BTreeMap::new();
    for ids in ids.chunks(PAGE_MAX as usize) {
        let many = ask(chain, DEALS, &IDeals::manyCall { deals: ids.to_vec() }).await.map_err(chain_fault)?;
        deals.extend(many.into_iter().map(|deal| (deal.id, deal)));
    }
    Ok(deals)
}

/// `1 window`, `2 windows`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn open(deals: &BTreeMap<u64, IDeals::Deal>) -> usize {
    /// `IDeals::Deal::state` of a deal that still runs.
    const OPEN: u8 = 1;
    deals.values().filter(|deal| deal.state == OPEN).count()
}

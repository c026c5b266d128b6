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
    host::paid::{For, Paid, paid},
    keys::Keys,
    provider::earnings::{Earnings, Payment, Read, earnings},
};
use hodei_sdk::market::{self, Offer};
use hodei_types::{
    abi::{DEALS, IDeals, IMarket, MARKET, PAGE_MAX},
    call::ask,
    chain::Chain,
};
use serde_json::json;
use std::collections::BTreeMap;

/// `hodei node earnings`.
pub(crate) async fn show(args: &NodeEarnings, session: &Session, out: Out) -> Result<()> {
    let chain = &*session.chain;
    let key = key(args, session)?;
    let head = chain.head().await.map_err(chain_fault)?;
    let from = head.height.saturating_sub(args.blocks.saturating_sub(1)).max(1);
    let hosts = hosts(chain, &key).await?;
    if let [host] = &hosts[..] {
        leases(chain, host, from, head.height, out).await?;
    }
    let offer = match offer(key, session).await {
        // It computes and keeps nothing: that is told.
        Err(_) if hosts.len() == 1 => return Ok(()),
        offer => offer?,
    };
    let node = B256::from(offer.node.0);
    let mut earned = earnings(chain, node, from, head.height).await.map_err(chain_fault)?;
    let deals = deals(chain, node, &earned).await?;
    deals.values().for_each(|deal| earned.know(deal.id, deal.leaves, deal.price));
    let standing = ask(chain, DEALS, &IDeals::standingCall { provider: node }).await.map_err(chain_fault)?;
    let owed = deals.values().fold(U256::ZERO, |sum, deal| sum + deal.owed);

    if out.json {
        for payment in &earned.payments {
            let value = json!({
                "schema": "hodei.node.payment/1", "what": "store", "node": offer.node.to_string(), "deal": payment.deal, "height": payment.height,
                "transaction": payment.tx.to_string(), "windows": payment.windows, "amount_wei": payment.amount.to_string(),
                "bytes": payment.bytes(), "price_wei": payment.price.map(|wei| wei.to_string()), "escrow_spent": payment.is_last,
                "each": payment.each.iter().map(|share| json!({
                    "window": share.window, "bytes": payment.bytes(), "amount_wei": share.amount.to_string(),
                })).collect::<Vec<_>>(),
                "why": reason(payment),
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
        tables(&earned, out);
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
fn tables(earned: &Earnings, out: Out) {
    if !earned.payments.is_empty() {
        let row = |payment: &Payment| {
            let (height, deal) = (payment.height.to_string(), payment.deal.to_string());
            vec![height, deal, money::exact(payment.amount), reason(payment)]
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

/// What a deal paid for: how much, for which windows, at what price, all as they were then.
fn reason(payment: &Payment) -> String {
    let mut text = counted(payment.windows, "proven window");
    let known: Vec<u64> = payment.each.iter().filter_map(|share| share.window).collect();
    if !known.is_empty() {
        let earlier = if known.len() < payment.each.len() { "earlier ones, " } else { "" };
        text.push_str(&format!(" ({earlier}{})", stretches(&known)));
    }
    if let Some(held) = payment.bytes() {
        text.push_str(&format!(" of {}", bytes(held)));
    }
    if let Some(price) = payment.price {
        text.push_str(&format!(", at {} a GiB and window", money::show(U256::from(price))));
    }
    if payment.is_last {
        text.push_str("; the escrow had no more");
    }
    text
}

/// `3 to 5, 7`: numbers in order.
fn stretches(numbers: &[u64]) -> String {
    let runs = numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let told = runs.map(|run| match run {
        [first, .., last] => format!("{first} to {last}"),
        one => one.iter().map(u64::to_string).collect(),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn read_reason(read: &Read) -> String {
    format!("{} MiB read", read.ticks)
}

/// The beginning of the key of the node meant: as named, or of the one in a folder.
fn key(args: &NodeEarnings, session: &Session) -> Result<String> {
    if let Some(text) = &args.node {
        return Ok(text.strip_prefix("node/").unwrap_or(text).trim_start_matches("0x").to_lowercase());
    }
    let folder = serve::folder(args.folder.as_ref(), || Ok(session.context.node.clone())).map_err(|_| {
        let help = "name the provider by the first digits of its key: `hodei status` lists them";
        Fault::new(&fault::USAGE, "this context has no node of its own here", help)
    })?;
    serve::check_present(&folder)?;
    let home = Home::create(&folder).map_err(serve::home_fault)?;
    let keys = Keys::open(&home)
        .map_err(|error| Fault::new(&fault::WALLET, error, "put the right key file there").at(folder.display()))?;
    Ok(hex::encode(hodei_node::deal::public_key(&keys.node).as_ref()))
}

/// Hosts of compute whose key begins so.
async fn hosts(chain: &dyn Chain, key: &str) -> Result<Vec<IMarket::Host>> {
    let (mut first, mut found) = (0, Vec::new());
    loop {
        let page = ask(chain, MARKET, &IMarket::pageCall { first, most: PAGE_MAX }).await.map_err(chain_fault)?;
        first += page.len() as u64;
        let is_last = (page.len() as u64) < PAGE_MAX;
        found.extend(page.into_iter().filter(|host| hex::encode(host.node).starts_with(key)));
        if is_last {
            return Ok(found);
        }
    }
}

/// What leases paid a host, each settling with its reason.
async fn leases(chain: &dyn Chain, host: &IMarket::Host, from: u64, to: u64, out: Out) -> Result<()> {
    let node = host.node.to_string();
    let payments = paid(chain, (host.node, host.operator), from, to).await.map_err(chain_fault)?;
    let why = |payment: &Paid| match payment.what {
        For::Secs(secs) => format!("{} of lease {}", counted(secs, "second"), payment.lease),
        For::Calls => format!("calls of lease {}", payment.lease),
        For::Watching => format!("telling that the host of lease {} was lost", payment.lease),
    };
    let secs = |payment: &Paid| if let For::Secs(secs) = payment.what { secs } else { 0 };
    if out.json {
        for payment in &payments {
            let value = json!({
                "schema": "hodei.node.payment/1", "what": "lease", "node": node, "lease": payment.lease,
                "height": payment.height, "transaction": payment.tx.to_string(), "secs": secs(payment),
                "amount_wei": payment.amount.to_string(), "why": why(payment),
            });
            out.result("", &value);
        }
    } else if !payments.is_empty() {
        let row = |payment: &Paid| vec![payment.height.to_string(), money::exact(payment.amount), why(payment)];
        out.line(&table(&["BLOCK", "PAID", "WHY"], &payments.iter().map(row).collect::<Vec<_>>()));
        out.line("");
    }
    let sum = payments.iter().fold(U256::ZERO, |sum, payment| sum + payment.amount);
    out.result(
        format!(
            "host {} was paid {} for computing in blocks {from} to {to}; {} now",
            short(&node),
            money::exact(sum),
            counted(host.leases, "lease")
        ),
        &json!({
            "schema": "hodei.node.earnings.compute/1", "node": node, "from": from, "to": to, "paid_wei": sum.to_string(),
            "leases": host.leases,
        }),
    );
    Ok(())
}

/// The provider whose key begins so.
async fn offer(key: String, session: &Session) -> Result<Offer> {
    let offers = market::offers(&*session.chain).await.map_err(chain_fault)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_node::provider::earnings::Share;

    #[test]
    fn a_payment_says_what_for() {
        let share = |window| Share { window, amount: U256::from(1) };
        let mut payment = Payment {
            height: 9,
            tx: B256::ZERO,
            deal: 7,
            windows: 5,
            amount: U256::from(5),
            leaves: Some(3 << 10),
            price: Some(100_000_000_000_000),
            is_last: false,
            each: vec![share(Some(3)), share(Some(4)), share(Some(5)), share(Some(7)), share(Some(9))],
        };
        let said = "5 proven windows (3 to 5, 7, 9) of 3.0 MiB, at 0.0001 hod a GiB and window";
        assert_eq!(reason(&payment), said);
        payment.each[0].window = None;
        (payment.leaves, payment.price, payment.is_last) = (None, None, true);
        assert_eq!(reason(&payment), "5 proven windows (earlier ones, 4 to 5, 7, 9); the escrow had no more");
        payment.each = vec![share(None)];
        payment.windows = 1;
        assert_eq!(reason(&payment), "1 proven window; the escrow had no more");
    }
}

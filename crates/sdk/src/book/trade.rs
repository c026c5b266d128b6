//! Tell what was asked and agreed on, by the events of the modules that hold the book.

use super::{
    Class, Ware,
    ask::{hour_prices, month_price},
    window_secs,
};
use crate::moves::{Cursor, Dated, Page, event, newest};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use futures::future::try_join_all;
use hodei_types::{
    abi::{DEALS, IDeals, ILeases, IMarket, IProviders, ITabs, LEASES, MARKET, PROVIDERS, TABS},
    chain::{Chain, ChainError, Log, LogFilter},
    market::{REGIONS, WITHIN_RATE},
    transport::NodeKey,
};
use std::cmp::Reverse;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody offers, or offers otherwise, at this price.
    Offer,
    /// A deal was opened.
    Deal,
    /// A deal goes on with another capacity, at this price.
    Resize,
    /// Reads were paid.
    Read,
    /// A lease began.
    Lease,
    /// What a lease paid for whole hours: the price index is made of these.
    Sample,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Deal => "deal",
            Self::Resize => "resize",
            Self::Read => "read",
            Self::Lease => "lease",
            Self::Sample => "sample",
        }
    }
}

/// One price that was asked or agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trade {
    pub height: u64,
    /// Of its log in the block.
    pub index: u32,
    pub tx: B256,
    pub class: Class,
    pub what: What,
    /// Whose price it is; a sample is no single machine's.
    pub node: Option<NodeKey>,
    /// Wei.
    pub price: U256,
    /// What the price is for.
    pub per: &'static str,
    pub text: String,
}

impl Dated for Trade {
    fn height(&self) -> u64 {
        self.height
    }
}

/// The `last` newest trades and offers of one class, or of all; where `before` is said, of those that are older. How far
/// back: as [`crate::moves::moves`].
pub async fn trades(
    chain: &dyn Chain,
    class: Option<Class>,
    last: usize,
    before: Option<Cursor>,
) -> Result<Page<Trade>, ChainError> {
    let window_secs = window_secs(chain).await?;
    newest(chain, last, before, async |from, to| {
        let questions = sources(class).into_iter().map(|(address, topic0)| {
            chain.logs(LogFilter { from, to, address: Some(address), topic0: Some(topic0), ..LogFilter::default() })
        });
        let logs = try_join_all(questions).await?;
        let mut rows: Vec<Trade> = logs.iter().flatten().flat_map(|log| told(log, window_secs)).collect();
        rows.retain(|row| class.is_none_or(|class| row.class == class));
        rows.sort_by_key(|row| Reverse((row.height, row.index)));
        Ok(rows)
    })
    .await
}

/// Which events tell of a class.
fn sources(class: Option<Class>) -> Vec<(Address, B256)> {
    use Class::{Bandwidth, Compute, Reads, Storage};
    let all: [(&[Class], Address, B256); 9] = [
        (&[Storage, Reads], PROVIDERS, IProviders::Registered::SIGNATURE_HASH),
        (&[Storage, Reads], PROVIDERS, IProviders::Updated::SIGNATURE_HASH),
        (&[Storage], DEALS, IDeals::Opened::SIGNATURE_HASH),
        (&[Storage], DEALS, IDeals::Resized::SIGNATURE_HASH),
        (&[Reads], TABS, ITabs::Claimed::SIGNATURE_HASH),
        (&[Compute, Bandwidth], MARKET, IMarket::Offered::SIGNATURE_HASH),
        (&[Compute, Bandwidth], MARKET, IMarket::Updated::SIGNATURE_HASH),
        (&[Compute], MARKET, IMarket::Sampled::SIGNATURE_HASH),
        (&[Compute], LEASES, ILeases::Begun::SIGNATURE_HASH),
    ];
    let fits = |of: &[Class]| class.is_none_or(|class| of.contains(&class));
    all.into_iter().filter(|(of, ..)| fits(of)).map(|(_, address, topic0)| (address, topic0)).collect()
}

/// What one event says: an offer has more prices than one.
fn told(log: &Log, window_secs: u64) -> Vec<Trade> {
    let trade = |class, what, node: Option<B256>, price, per, text| Trade {
        height: log.height,
        index: log.index,
        tx: log.tx,
        class,
        what,
        node: node.map(|node| NodeKey(node.0)),
        price,
        per,
        text,
    };
    let of_ware = |ware: Ware, what, node, price: u128, text| {
        trade(ware.class(), what, Some(node), U256::from(price), ware.unit(), text)
    };
    let month = |price| month_price(price, window_secs);
    let provider = |node, offer: &IProviders::Offer, verb: &str| {
        let text = format!("{verb} in {}", offer.zone);
        let stored = of_ware(Ware::Storage, What::Offer, node, month(offer.priceStore), text.clone());
        vec![stored, of_ware(Ware::Reads, What::Offer, node, offer.priceRead, text)]
    };
    let host = |node, offer: &IMarket::Offer, verb: &str| {
        let text = format!("{verb} in {}", region(offer.region));
        let has = [1, 1, offer.capacity.bandwidthBits, offer.capacity.transferBytes];
        let wares =
            [Ware::Cpu, Ware::Memory, Ware::Line, Ware::Transfer].into_iter().zip(hour_prices(offer, 0)).zip(has);
        wares
            .filter(|(_, has)| *has > 0)
            .map(|((ware, price), _)| of_ware(ware, What::Offer, node, price, text.clone()))
            .collect()
    };
    let found = match log.address {
        PROVIDERS => event::<IProviders::Registered>(log)
            .map(|new| provider(new.node, &new.offer, "offered"))
            .or_else(|| event::<IProviders::Updated>(log).map(|new| provider(new.node, &new.offer, "changed"))),
        DEALS => event::<IDeals::Opened>(log)
            .map(|deal| {
                let text = format!("deal {} over {} MiB", deal.deal, deal.capacityBytes >> 20);
                vec![of_ware(Ware::Storage, What::Deal, deal.provider, month(deal.price), text)]
            })
            .or_else(|| {
                let deal = event::<IDeals::Resized>(log)?;
                let text = format!("deal {} now over {} MiB", deal.deal, deal.capacityBytes >> 20);
                Some(vec![of_ware(Ware::Storage, What::Resize, deal.provider, month(deal.price), text)])
            }),
        TABS => event::<ITabs::Claimed>(log).map(|read| {
            let price = read.amount.saturating_mul(U256::from(1024)).checked_div(U256::from(read.ticks));
            let text = format!("{} MiB read", read.ticks);
            let price = price.unwrap_or_default();
            vec![trade(Class::Reads, What::Read, Some(read.provider), price, Ware::Reads.unit(), text)]
        }),
        MARKET => event::<IMarket::Offered>(log)
            .map(|new| host(new.node, &new.offer, "offered"))
            .or_else(|| event::<IMarket::Updated>(log).map(|new| host(new.node, &new.offer, "changed")))
            .or_else(|| {
                let paid = event::<IMarket::Sampled>(log)?;
                let text = format!("paid in {}", region(paid.region));
                Some(vec![trade(Class::Compute, What::Sample, None, U256::from(paid.price), "unit and hour", text)])
            }),
        // What stands in its owner's own reservation is no trade.
        LEASES => event::<ILeases::Begun>(log).filter(|begun| begun.rate != WITHIN_RATE).map(|begun| {
            let hour = U256::from(begun.rate) * U256::from(3600);
            let text = format!("lease {} of order {}", begun.lease, begun.order);
            vec![trade(Class::Compute, What::Lease, Some(begun.node), hour, "replica and hour", text)]
        }),
        _ => None,
    };
    found.unwrap_or_default()
}

fn region(place: u8) -> &'static str {
    REGIONS.get(usize::from(place)).copied().unwrap_or("a region this program does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: B256 = B256::repeat_byte(5);

    fn log(address: Address, event: &impl SolEvent) -> Log {
        let data = event.encode_log_data();
        Log { address, topics: data.topics().to_vec(), data: data.data, height: 7, tx: B256::ZERO, index: 2 }
    }

    fn prices(log: &Log) -> Vec<(&'static str, &'static str, u64, &'static str)> {
        let name = |trade: Trade| (trade.class.name(), trade.what.name(), trade.price.to(), trade.per);
        told(log, 86_400).into_iter().map(name).collect()
    }

    #[test]
    fn a_deal_and_an_offer_are_told_at_the_price_of_a_month() {
        let bucket = B256::ZERO;
        let opened = IDeals::Opened {
            deal: 3,
            bucket,
            provider: NODE,
            owner: Address::ZERO,
            capacityBytes: 5 << 20,
            price: 4,
            escrow: 1,
        };
        let opened = log(DEALS, &opened);
        assert_eq!(prices(&opened), [("storage", "deal", 120, "GiB and month")]);
        let trade = told(&opened, 86_400).remove(0);
        assert_eq!(
            (trade.height, trade.index, trade.node, trade.text.as_str()),
            (7, 2, Some(NodeKey(NODE.0)), "deal 3 over 5 MiB")
        );
        let resized = IDeals::Resized { deal: 3, provider: NODE, capacityBytes: 1, price: 5 };
        assert_eq!(prices(&log(DEALS, &resized)), [("storage", "resize", 150, "GiB and month")]);
        let offer = IProviders::Offer {
            zone: "attic".into(),
            network: String::new(),
            addresses: Default::default(),
            capacityBytes: 1,
            priceStore: 2,
            priceRead: 9,
            class: 0,
        };
        let changed = IProviders::Updated { node: NODE, operator: Address::ZERO, offer, version: 2 };
        let both = [("storage", "offer", 60, "GiB and month"), ("reads", "offer", 9, "GiB read")];
        assert_eq!(prices(&log(PROVIDERS, &changed)), both);
    }

    #[test]
    fn reads_leases_and_samples_are_told_by_their_units() {
        let claimed = |ticks, amount: u64| ITabs::Claimed {
            payer: Address::ZERO,
            provider: NODE,
            tab: B256::ZERO,
            operator: Address::ZERO,
            leaf: 0,
            index: 0,
            ticks,
            amount: U256::from(amount),
        };
        assert_eq!(prices(&log(TABS, &claimed(4, 8))), [("reads", "read", 2048, "GiB read")]);
        assert_eq!(prices(&log(TABS, &claimed(0, 0))), [("reads", "read", 0, "GiB read")]);
        let begun = ILeases::Begun {
            lease: 1,
            node: NODE,
            owner: Address::ZERO,
            order: 2,
            rate: 3,
            escrow: 4,
            workload: B256::ZERO,
        };
        assert_eq!(prices(&log(LEASES, &begun)), [("compute", "lease", 10_800, "replica and hour")]);
        let within = ILeases::Begun { rate: WITHIN_RATE, ..begun };
        assert!(prices(&log(LEASES, &within)).is_empty(), "it is paid to oneself");
        let paid = IMarket::Sampled { region: 0, runtime: 0, owner: Address::ZERO, price: 11, weight: U256::from(1) };
        assert_eq!(prices(&log(MARKET, &paid)), [("compute", "sample", 11, "unit and hour")]);
    }

    #[test]
    fn what_is_no_trade_or_another_module_says_is_not_told() {
        let retired = IProviders::Retired { node: NODE };
        assert!(told(&log(PROVIDERS, &retired), 1).is_empty());
        let paid = IMarket::Sampled { region: 0, runtime: 0, owner: Address::ZERO, price: 11, weight: U256::from(1) };
        assert!(told(&log(DEALS, &paid), 1).is_empty());
        assert_eq!((sources(None).len(), sources(Some(Class::Reads)).len()), (9, 3));
    }
}

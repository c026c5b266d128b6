//! Add up what accounts paid to whom, and were paid by whom, between two blocks: storage, reads, compute and care alike.
//!
//! All of it is read from the modules' events, each of which is one receipt: the sum of the lines is the sum of the
//! receipts. Coins that were sent or bound paid nobody yet, and are not in it; [`crate::moves`] tells those.

use crate::moves::{Cursor, Dated, PIECE_BLOCKS, event, learn, newest};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use hodei_ledger::light::link;
use hodei_types::{
    abi::{
        BATCH_MAX, BUCKETS, DEALS, IBuckets, IDeals, ILeases, ILevels, IMarket, IRelays, ITabs, LEASES, LEVELS, MARKET,
        RELAYS, TABS,
    },
    call::ask,
    chain::{Chain, ChainError, LogFilter},
    settlement::Settlement,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// What was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    Storage,
    Reads,
    Compute,
    /// Bytes carried, by the tick.
    Bandwidth,
    /// Telling of a host that was lost.
    Watching,
    /// Restoring what an absent owner's bucket lost.
    Care,
    /// A promise that was not kept, out of its bond.
    Breach,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Reads => "reads",
            Self::Compute => "compute",
            Self::Bandwidth => "bandwidth",
            Self::Watching => "watching",
            Self::Care => "care",
            Self::Breach => "breach",
        }
    }
}

/// What passed between the accounts and one other, for one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Wei that the other was paid.
    pub paid: U256,
    /// Wei that the other paid.
    pub earned: U256,
    pub receipts: u64,
}

/// Who was paid for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    pub lines: BTreeMap<(Address, Service), Line>,
    /// Wei that nobody got: of what the accounts' leases paid, the part that is burned.
    pub burned: U256,
    /// Wei of the accounts' own transactions.
    pub fees: U256,
    /// The blocks looked through.
    pub from: u64,
    pub to: u64,
    /// Why older blocks that were asked for were not looked through.
    pub cut: Option<String>,
}

impl Statement {
    pub fn paid(&self) -> U256 {
        self.lines.values().map(|line| line.paid).sum()
    }

    pub fn earned(&self) -> U256 {
        self.lines.values().map(|line| line.earned).sum()
    }

    fn add(&mut self, accounts: &[Address], receipt: &Receipt) {
        if accounts.contains(&receipt.payer) {
            self.line(receipt.payee, receipt.service).paid += receipt.amount;
            self.burned += receipt.burned;
        }
        if accounts.contains(&receipt.payee) {
            self.line(receipt.payer, receipt.service).earned += receipt.amount;
        }
    }

    /// The line of one more receipt.
    fn line(&mut self, party: Address, service: Service) -> &mut Line {
        let line = self.lines.entry((party, service)).or_default();
        line.receipts += 1;
        line
    }
}

/// One payment of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Receipt {
    height: u64,
    service: Service,
    /// Zero of a bucket or host that is no more.
    payer: Address,
    payee: Address,
    amount: U256,
    burned: U256,
}

impl Dated for Receipt {
    fn height(&self) -> u64 {
        self.height
    }
}

/// How members of this network settle.
pub async fn settlement(chain: &dyn Chain) -> Result<Settlement, ChainError> {
    let told = ask(chain, MARKET, &IMarket::settlementCall {}).await?;
    let invalid = || ChainError::Invalid(format!("a settlement of kind {}", told.kind));
    Settlement::of(told.kind, told.currency.0).ok_or_else(invalid)
}

/// The first block that is not older than `secs` since 1970, of those that are kept; one above the head if all are.
pub async fn block_at(chain: &dyn Chain, secs: u64) -> Result<u64, ChainError> {
    let (mut low, mut high) = (1, chain.head().await?.height + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let is_before = match chain.certificate(middle).await {
            Ok(certificate) => {
                let headers = link(&certificate.headers).map_err(|error| ChainError::Invalid(error.to_string()))?;
                headers.first().is_none_or(|first| first.header.timestamp < secs)
            }
            // What is no longer kept is older than all that is.
            Err(ChainError::Refused(_)) => true,
            Err(error) => return Err(error),
        };
        if is_before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// What `accounts` paid and were paid in blocks `from` to `to`.
pub async fn statement(chain: &dyn Chain, accounts: &[Address], from: u64, to: u64) -> Result<Statement, ChainError> {
    let to = to.min(chain.head().await?.height);
    let mut statement = Statement { from: to + 1, to, ..Statement::default() };
    let mut known = Known::default();
    let mut before = Some(Cursor::below(to + 1));
    while let Some(cursor) = before.take()
        && statement.from > from
    {
        let all = usize::MAX;
        let page = newest(chain, all, Some(cursor), async |first, last| {
            if last < from { Ok(Vec::new()) } else { known.receipts(chain, first.max(from), last).await }
        })
        .await?;
        page.rows.iter().for_each(|receipt| statement.add(accounts, receipt));
        statement.from = page.from.max(from);
        before = page.next;
        if before.is_none() && page.from > from {
            statement.cut = page.cut;
        }
    }
    for account in accounts {
        for (first, last) in ranges(statement.from, to) {
            statement.fees += chain.fees(*account, first, last).await?.iter().map(|fee| fee.fee).sum::<U256>();
        }
    }
    Ok(statement)
}

/// Pieces of which one question is answered.
fn ranges(from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
    (from..=to).step_by(PIECE_BLOCKS as usize).map(move |first| (first, to.min(first + PIECE_BLOCKS - 1)))
}

/// Whose what is, as far as it was asked.
#[derive(Default)]
struct Known {
    deals: BTreeMap<u64, Address>,
    leases: BTreeMap<u64, Address>,
    buckets: BTreeMap<B256, Address>,
    /// By whom they are operated.
    hosts: BTreeMap<B256, Address>,
}

impl Known {
    /// All payments in some blocks, newest first.
    async fn receipts(&mut self, chain: &dyn Chain, from: u64, to: u64) -> Result<Vec<Receipt>, ChainError> {
        let asked = Asked { chain, from, to };
        let deals: Vec<_> = asked.events::<IDeals::Paid>(DEALS).await?;
        learn(chain, &mut self.deals, deals.iter().map(|(_, paid)| paid.deal)).await?;
        let watched: Vec<_> = asked.events::<ILeases::Watched>(LEASES).await?;
        self.learn_leases(chain, watched.iter().map(|(_, watched)| watched.lease)).await?;
        let wages: Vec<_> = asked.events::<IDeals::WagePaid>(DEALS).await?;
        self.learn_buckets(chain, wages.iter().map(|(_, wage)| wage.bucket)).await?;
        let mut breaches = asked.events::<ILevels::Breached>(LEVELS).await?;
        breaches.retain(|(_, breach)| !breach.amount.is_zero());
        self.learn_hosts(chain, breaches.iter().map(|(_, breach)| breach.node)).await?;
        let owner = |of: Option<&Address>| of.copied().unwrap_or_default();
        let mut found = Vec::new();
        found.extend(deals.into_iter().map(|(height, paid)| {
            Receipt::new(height, Service::Storage, owner(self.deals.get(&paid.deal)), paid.operator, paid.amount)
        }));
        found.extend(asked.events::<ITabs::Claimed>(TABS).await?.into_iter().map(|(height, claimed)| {
            Receipt::new(height, Service::Reads, claimed.payer, claimed.operator, claimed.amount)
        }));
        found.extend(asked.events::<ILeases::Settled>(LEASES).await?.into_iter().map(|(height, settled)| {
            let paid = Receipt::new(height, Service::Compute, settled.owner, settled.operator, settled.amount);
            Receipt { burned: settled.burned, ..paid }
        }));
        found.extend(asked.events::<ILeases::Claimed>(LEASES).await?.into_iter().map(|(height, claimed)| {
            let paid = Receipt::new(height, Service::Compute, claimed.owner, claimed.operator, claimed.amount);
            Receipt { burned: claimed.burned, ..paid }
        }));
        found.extend(asked.events::<IRelays::Claimed>(RELAYS).await?.into_iter().map(|(height, claimed)| {
            let paid = Receipt::new(height, Service::Bandwidth, claimed.payer, claimed.payee, claimed.amount);
            Receipt { burned: claimed.burned, ..paid }
        }));
        found.extend(breaches.into_iter().map(|(height, breach)| {
            let payer = owner(self.hosts.get(&breach.node));
            Receipt::new(height, Service::Breach, payer, breach.owner, breach.amount)
        }));
        found.extend(watched.into_iter().map(|(height, watched)| {
            let payer = owner(self.leases.get(&watched.lease));
            Receipt::new(height, Service::Watching, payer, watched.operator, watched.amount)
        }));
        found.extend(wages.into_iter().map(|(height, wage)| {
            Receipt::new(height, Service::Care, owner(self.buckets.get(&wage.bucket)), wage.custodian, wage.amount)
        }));
        found.sort_by_key(|receipt| Reverse(receipt.height));
        Ok(found)
    }

    async fn learn_leases(&mut self, chain: &dyn Chain, leases: impl Iterator<Item = u64>) -> Result<(), ChainError> {
        let unknown: BTreeSet<u64> = leases.filter(|lease| !self.leases.contains_key(lease)).collect();
        for leases in unknown.into_iter().collect::<Vec<_>>().chunks(BATCH_MAX) {
            let states = ask(chain, LEASES, &ILeases::manyCall { leases: leases.to_vec() }).await?;
            self.leases.extend(states.iter().map(|lease| (lease.id, lease.owner)));
        }
        Ok(())
    }

    async fn learn_buckets(
        &mut self,
        chain: &dyn Chain,
        buckets: impl Iterator<Item = B256>,
    ) -> Result<(), ChainError> {
        let unknown: BTreeSet<B256> = buckets.filter(|bucket| !self.buckets.contains_key(bucket)).collect();
        for id in unknown {
            let bucket = or_gone(ask(chain, BUCKETS, &IBuckets::getCall { id }).await)?;
            self.buckets.insert(id, bucket.map_or(Address::ZERO, |bucket| bucket.owner));
        }
        Ok(())
    }

    async fn learn_hosts(&mut self, chain: &dyn Chain, hosts: impl Iterator<Item = B256>) -> Result<(), ChainError> {
        let unknown: BTreeSet<B256> = hosts.filter(|host| !self.hosts.contains_key(host)).collect();
        for node in unknown {
            let host = or_gone(ask(chain, MARKET, &IMarket::getCall { node }).await)?;
            self.hosts.insert(node, host.map_or(Address::ZERO, |host| host.operator));
        }
        Ok(())
    }
}

/// None of what was removed since.
fn or_gone<T>(told: Result<T, ChainError>) -> Result<Option<T>, ChainError> {
    match told {
        Ok(told) => Ok(Some(told)),
        Err(ChainError::Reverted(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Receipt {
    fn new(height: u64, service: Service, payer: Address, payee: Address, amount: U256) -> Self {
        Self { height, service, payer, payee, amount, burned: U256::ZERO }
    }
}

/// Some blocks of which events are asked.
struct Asked<'a> {
    chain: &'a dyn Chain,
    from: u64,
    to: u64,
}

impl Asked<'_> {
    /// The events of one kind, with their heights.
    async fn events<E: SolEvent>(&self, address: Address) -> Result<Vec<(u64, E)>, ChainError> {
        let topic0 = Some(E::SIGNATURE_HASH);
        let (from, to) = (self.from, self.to);
        let logs = self.chain.logs(LogFilter { from, to, address: Some(address), topic0, ..LogFilter::default() });
        Ok(logs.await?.iter().filter_map(|log| Some((log.height, event(log)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_tells_what_was_paid_and_earned_by_party_and_service() {
        let [me, mine, other, third] = [1, 2, 3, 4].map(Address::repeat_byte);
        let receipt = |service, payer, payee, amount: u64, burned: u64| Receipt {
            burned: U256::from(burned),
            ..Receipt::new(7, service, payer, payee, U256::from(amount))
        };
        let mut statement = Statement::default();
        let receipts = [
            receipt(Service::Compute, me, other, 99, 1),
            receipt(Service::Compute, mine, other, 198, 2),
            receipt(Service::Reads, me, other, 5, 0),
            receipt(Service::Storage, other, mine, 40, 0),
            receipt(Service::Compute, other, third, 1000, 10),
            receipt(Service::Storage, me, mine, 3, 0),
        ];
        receipts.iter().for_each(|receipt| statement.add(&[me, mine], receipt));
        let line = |party, service| {
            let line = &statement.lines[&(party, service)];
            (line.paid.to::<u64>(), line.earned.to::<u64>(), line.receipts)
        };
        assert_eq!(line(other, Service::Compute), (297, 0, 2));
        assert_eq!(line(other, Service::Reads), (5, 0, 1));
        assert_eq!(line(other, Service::Storage), (0, 40, 1));
        // Between one's own accounts: paid by one, earned by the other.
        assert_eq!((line(mine, Service::Storage), line(me, Service::Storage)), ((3, 0, 1), (0, 3, 1)));
        assert_eq!(statement.lines.len(), 5, "what strangers pay each other is not in it");
        assert_eq!((statement.paid(), statement.earned()), (U256::from(305), U256::from(43)));
        assert_eq!(statement.burned, U256::from(3));
    }

    #[test]
    fn blocks_are_asked_for_in_pieces_without_a_gap() {
        let pieces: Vec<_> = ranges(5, 20_005).collect();
        assert_eq!(pieces, [(5, 10_004), (10_005, 20_004), (20_005, 20_005)]);
        assert_eq!(ranges(8, 7).count(), 0);
    }
}

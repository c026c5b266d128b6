//! Read the whole book of a height from one validator, and build it anew from the hosts' records and their leases.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::SolCall;
use hodei_ledger::read::Reader;
use hodei_types::{
    abi::{ILeases, IMarket, LEASES, MARKET, PAGE_MAX},
    ethereum::{At, Call, Ethereum as _},
    market::{CAPACITY_MIN, Capacity, Placed, REFERENCE, Runtime, Step, hour_price, region},
};
use std::collections::BTreeMap;

use crate::cast::REGIONS;

/// What a view of a module answers at a height, and its bytes; none if this validator cannot tell.
pub(crate) async fn ask<C: SolCall>(reader: &Reader, at: u64, to: Address, call: C) -> Option<(C::Return, Bytes)> {
    let call = Call { to: Some(to), data: call.abi_encode().into(), ..Call::default() };
    let outcome = reader.simulate(call, At::Height(at)).await.ok()?;
    assert!(outcome.success, "a view of {to} failed at height {at}: {outcome:?}");
    let value = C::abi_decode_returns(&outcome.output).expect("a module answers in its own words");
    Some((value, outcome.output))
}

/// All that is offered, ordered and leased at one height.
pub(crate) struct Book {
    depth: BTreeMap<(u8, u8), Vec<Step>>,
    hosts: Vec<IMarket::Host>,
    orders: Vec<Placed>,
    running: Vec<ILeases::Lease>,
    /// Of the market's and the leases' own accounts.
    balances: [U256; 2],
    /// Every answer, as it came.
    pub(crate) bytes: Vec<u8>,
}

impl Book {
    /// None if this validator does not have that height any longer, or not yet.
    pub(crate) async fn read(reader: &Reader, at: u64, owners: &[Address]) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut depth = BTreeMap::new();
        for region in REGIONS.map(|name| region(name).expect("a region of the list")) {
            for runtime in Runtime::ALL.map(|runtime| runtime as u8) {
                let (steps, said) = ask(reader, at, MARKET, IMarket::depthCall { region, runtime }).await?;
                bytes.extend_from_slice(&said);
                depth.insert((region, runtime), steps);
            }
        }
        let mut hosts = Vec::new();
        loop {
            let call = IMarket::pageCall { first: hosts.len() as u64, most: PAGE_MAX };
            let (page, said) = ask(reader, at, MARKET, call).await?;
            bytes.extend_from_slice(&said);
            let is_last = (page.len() as u64) < PAGE_MAX;
            hosts.extend(page);
            if is_last {
                break;
            }
        }
        let mut orders = Vec::new();
        for owner in owners {
            let mut first = 0;
            loop {
                let call = IMarket::ofOwnerCall { owner: *owner, first, most: PAGE_MAX };
                let (ids, said) = ask(reader, at, MARKET, call).await?;
                bytes.extend_from_slice(&said);
                for id in &ids {
                    let (placed, said) = ask(reader, at, MARKET, IMarket::placedCall { id: *id }).await?;
                    bytes.extend_from_slice(&said);
                    orders.push(placed);
                }
                first += PAGE_MAX;
                if (ids.len() as u64) < PAGE_MAX {
                    break;
                }
            }
        }
        let mut running = Vec::new();
        for host in &hosts {
            let mut first = 0;
            loop {
                let call = ILeases::ofHostCall { node: host.node, first, most: PAGE_MAX };
                let (leases, said) = ask(reader, at, LEASES, call).await?;
                bytes.extend_from_slice(&said);
                let is_last = (leases.len() as u64) < PAGE_MAX;
                let (leases, said) = ask(reader, at, LEASES, ILeases::manyCall { leases }).await?;
                bytes.extend_from_slice(&said);
                running.extend(leases);
                first += PAGE_MAX;
                if is_last {
                    break;
                }
            }
        }
        let mut balances = [U256::ZERO; 2];
        for (balance, account) in balances.iter_mut().zip([MARKET, LEASES]) {
            *balance = reader.balance(account, At::Height(at)).await.ok()?;
            bytes.extend_from_slice(&balance.to_be_bytes::<32>());
        }
        Some(Self { depth, hosts, orders, running, balances, bytes })
    }

    /// What must hold at any height, from the records alone.
    pub(crate) fn check(&self, at: u64) {
        for ((region, runtime), shown) in &self.depth {
            assert_eq!(shown, &self.rebuilt(*region, *runtime), "height {at}: the book of {region} and {runtime}");
        }
        let mut collateral = U256::ZERO;
        for host in &self.hosts {
            let its: Vec<_> = self.running.iter().filter(|lease| lease.node == host.node).collect();
            let taken = its.iter().try_fold(host.free, |sum, lease| sum.checked_add(&lease.capacity));
            assert_eq!(taken, Some(host.offer.capacity), "height {at}: room of {}", host.node);
            assert_eq!(host.leases, its.len() as u64, "height {at}: leases of {}", host.node);
            collateral += host.collateral;
        }
        let waiting: U256 = self.orders.iter().map(|placed| U256::from(placed.deposit)).sum();
        assert_eq!(self.balances[0], collateral + waiting, "height {at}: coin of the market");
        let escrow: U256 = self.running.iter().map(|lease| U256::from(lease.left)).sum();
        assert_eq!(self.balances[1], escrow, "height {at}: coin of leases");
        for lease in &self.running {
            assert!(lease.state == 1 && lease.owed <= lease.left, "height {at}: {lease:?}");
        }
    }

    /// The steps of one book: each host that did not retire, has its collateral and room for the smallest replica, at
    /// the half octave of what the reference costs there.
    fn rebuilt(&self, region: u8, runtime: u8) -> Vec<Step> {
        let mut steps = BTreeMap::<u128, (u64, Capacity)>::new();
        let here = |host: &&IMarket::Host| (host.offer.region, host.offer.runtime) == (region, runtime);
        for host in self.hosts.iter().filter(here) {
            let is_open = !host.retired && host.collateral >= host.collateralMin && CAPACITY_MIN.fits_in(&host.free);
            if !is_open {
                continue;
            }
            let (offers, free) = steps.entry(step_from(hour_price(&REFERENCE, &host.offer.prices))).or_default();
            *offers += 1;
            *free = free.checked_add(&host.free).expect("few hosts");
        }
        steps.into_iter().map(|(price_from, (offers, free))| Step { priceFrom: price_from, offers, free }).collect()
    }

    /// The same without what the clock alone moves: what a transaction that reverted must leave as it was.
    pub(crate) fn still(mut self) -> impl PartialEq + std::fmt::Debug {
        for host in &mut self.hosts {
            host.quitsFreeMs = 0;
        }
        for order in &mut self.orders {
            order.untilMs = 0;
        }
        for lease in &mut self.running {
            (lease.owed, lease.begunMs, lease.untilMs, lease.lostMs) = (0, 0, 0, 0);
        }
        (self.depth, self.hosts, self.orders, self.running, self.balances)
    }
}

/// The highest of 1, 2, 3, 4, 6, 8, 12, 16… that is no more than a price; 1 for nothing.
fn step_from(price: u128) -> u128 {
    let octaves = (0..127).map(|octave| 1_u128 << octave);
    let steps = octaves.flat_map(|octave| [octave, octave + octave / 2]);
    steps.take_while(|from| *from <= price).last().unwrap_or(1)
}

//! Hold a region's capacity for a term, see what is in it, and lend what is free.
//!
//! A reservation is an order that runs nothing: its leases hold room, at the book's price by the second. What is deployed
//! within it stands there for nothing more; what is lent is in the open book, and pays its holder.

use crate::{
    app::{Draft, Plan, Renewed},
    fault::Fault,
    market::listed,
    moves::event,
    wallet::Wallet,
};
use alloy_primitives::U256;
use alloy_sol_types::SolCall as _;
use hodei_ledger::account::Order as Transaction;
use hodei_types::{
    abi::{BATCH_MAX, ILeases, IMarket, LEASES, MARKET, PAGE_MAX},
    call::ask,
    chain::{Chain, ChainError},
    market::{CAPACITY_MAX, Capacity, Held, Order, PRICE_MAX, Prices, hour_price},
};

/// Lending writes a record and its place in the book.
const LEND_GAS: u64 = 600_000;
const END_GAS: u64 = 500_000;
/// Leases ended in one transaction.
const END_BATCH: usize = 16;
const HOUR_SECS: u128 = 3600;
/// One hundred percent.
const WHOLE: u128 = 100;

/// What one lease holds, and what that costs.
#[derive(Clone, Debug)]
pub struct Room {
    pub held: Held,
    /// Wei a second.
    pub rate: u128,
    /// Wei in escrow beyond what is owed.
    pub left: u128,
}

/// A reservation of a wallet that holds something.
#[derive(Clone, Debug)]
pub struct Reservation {
    /// Its order's number.
    pub id: u64,
    pub terms: Order,
    pub rooms: Vec<Room>,
    /// Wei that others paid for standing in it so far.
    pub earned: U256,
}

impl Reservation {
    /// Wei an hour for all of it.
    pub fn hour(&self) -> U256 {
        let rate: u128 = self.rooms.iter().map(|room| room.rate).sum();
        U256::from(rate) * U256::from(HOUR_SECS)
    }

    /// What all of it holds, and what of that is free.
    pub fn capacity(&self) -> (Capacity, Capacity) {
        let sum = |of: fn(&Held) -> Capacity| {
            let all = self.rooms.iter().map(|room| of(&room.held));
            all.fold(Capacity::default(), |sum, one| sum.checked_add(&one).unwrap_or(sum))
        };
        (sum(|held| held.capacity), sum(|held| held.free))
    }

    /// What holding all of it for so much longer takes.
    pub fn renewal(&self, secs: u64) -> Renewed {
        let of = |room: &Room| (room.held.lease, U256::from(room.rate) * U256::from(secs));
        Renewed { leases: self.rooms.iter().map(of).collect(), secs }
    }

    /// Leases that stand in it.
    pub fn leases(&self) -> u64 {
        self.rooms.iter().map(|room| room.held.leases).sum()
    }

    /// Leases of it that are lent.
    pub fn lent(&self) -> usize {
        self.rooms.iter().filter(|room| room.held.lent).count()
    }

    /// When the first of its leases ends, in milliseconds since 1970.
    pub fn until_ms(&self) -> u64 {
        self.rooms.iter().map(|room| room.held.untilMs).min().unwrap_or(0)
    }
}

/// What is lent is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Wei an hour for a CPU, and for a GiB of memory; nothing else costs.
    Prices { cpu: u128, memory: u128 },
    /// So many percent of what it costs its holder, split over its parts as its host splits it.
    Part(u64),
}

impl Ask {
    /// The same by the market's units, for what costs `rate` a second at a host that asks `host`.
    pub fn prices(self, rate: u128, capacity: &Capacity, host: &Prices) -> Prices {
        let unit = |wei: u128| u64::try_from(wei).unwrap_or(u64::MAX).min(PRICE_MAX);
        match self {
            Self::Prices { cpu, memory } => Prices {
                cpuMilli: unit(cpu.div_ceil(1000)),
                memoryMib: unit(memory.div_ceil(1024)),
                ..Prices::default()
            },
            Self::Part(percent) => {
                let hour = rate.saturating_mul(HOUR_SECS).saturating_mul(percent.into()).div_ceil(WHOLE);
                let asked = hour_price(capacity, host);
                if asked == 0 {
                    return Prices {
                        cpuMilli: unit(hour.div_ceil(u128::from(capacity.cpuMilli).max(1))),
                        ..Prices::default()
                    };
                }
                let scaled = |price: u64| {
                    let price = U256::from(price) * U256::from(hour);
                    unit(price.div_ceil(U256::from(asked)).saturating_to())
                };
                Prices::of_dims(host.dims().map(scaled))
            }
        }
    }
}

/// What is to be held of `each` host, of what flags say, and bandwidth and transfer beside.
pub fn terms(draft: &Draft, bandwidth_bits: u64, transfer_bytes: u64) -> Result<Order, Fault> {
    let mut terms = draft.reservation()?;
    terms.each.bandwidthBits = bandwidth_bits.min(CAPACITY_MAX.bandwidthBits);
    terms.each.transferBytes = transfer_bytes.min(CAPACITY_MAX.transferBytes);
    Ok(terms)
}

/// Where it would be held now, and what it costs.
pub async fn plan(chain: &dyn Chain, terms: Order) -> Result<Plan, Fault> {
    let is_capped = terms.priceMax != u128::MAX;
    Plan::of_terms(chain, terms, is_capped).await
}

impl Wallet {
    /// Holds what was planned; the reservation's number.
    pub async fn reserve(&self, plan: &Plan) -> Result<u64, Fault> {
        let call = IMarket::orderCall { terms: plan.terms.clone() };
        let order = Transaction::call(MARKET, call.abi_encode(), plan.gas()).with_value(plan.deposit);
        let logs = self.run(&order).await?;
        let told = logs.iter().filter(|log| log.address == MARKET).find_map(event::<IMarket::Ordered>);
        let told = told.ok_or_else(|| Fault::Chain(ChainError::Invalid("an order without its event".into())))?;
        Ok(told.order)
    }

    /// Reservations of this wallet's owner that hold something.
    pub async fn reservations(&self) -> Result<Vec<Reservation>, Fault> {
        let (chain, owner) = (&**self.chain(), self.owner());
        let ids =
            listed(
                |first| async move { ask(chain, MARKET, &IMarket::ofOwnerCall { owner, first, most: PAGE_MAX }).await },
            );
        let mut found = Vec::new();
        for id in ids.await? {
            let placed = ask(chain, MARKET, &IMarket::placedCall { id }).await?;
            if placed.order.is_reservation() && placed.firstLease > 0 {
                found.push(self.held(id, placed.order).await?);
            }
        }
        found.sort_by_key(|one| one.id);
        Ok(found)
    }

    /// One of them.
    pub async fn reservation(&self, id: u64) -> Result<Reservation, Fault> {
        let found = self.reservations().await?.into_iter().find(|one| one.id == id);
        found.ok_or(Fault::NoReservation(id))
    }

    async fn held(&self, id: u64, terms: Order) -> Result<Reservation, Fault> {
        let chain = &**self.chain();
        let shown = ask(chain, MARKET, &IMarket::reservedCall { order: id }).await?;
        let mut rooms = Vec::new();
        for held in shown.held.chunks(BATCH_MAX) {
            let leases = held.iter().map(|one| one.lease).collect();
            let leases = ask(chain, LEASES, &ILeases::manyCall { leases }).await?;
            rooms.extend(held.iter().zip(leases).map(|(held, lease)| Room {
                held: held.clone(),
                rate: lease.rate,
                left: lease.left.saturating_sub(lease.owed),
            }));
        }
        Ok(Reservation { id, terms, rooms, earned: shown.earned })
    }

    /// What each of its leases would ask for what is free, by the lease's number.
    pub async fn lending(&self, reservation: &Reservation, asked: Ask) -> Result<Vec<(u64, Prices)>, Fault> {
        let mut prices = Vec::new();
        for Room { held, rate, .. } in &reservation.rooms {
            let host = ask(&**self.chain(), MARKET, &IMarket::getCall { node: held.node }).await?;
            prices.push((held.lease, asked.prices(*rate, &held.capacity, &host.offer.prices)));
        }
        Ok(prices)
    }

    /// Puts what is free of these leases in the book; preemptible orders pay so many hundredths of a percent.
    pub async fn lend(&self, leases: &[(u64, Prices)], preemptible_bp: u16) -> Result<(), Fault> {
        for (lease, prices) in leases {
            let call = IMarket::lendCall { lease: *lease, prices: *prices, preemptibleBp: preemptible_bp };
            self.run(&Transaction::call(MARKET, call.abi_encode(), LEND_GAS)).await?;
        }
        Ok(())
    }

    /// Takes what is lent of it out of the book; how many leases that were.
    pub async fn recall(&self, reservation: &Reservation) -> Result<usize, Fault> {
        let lent: Vec<_> = reservation.rooms.iter().filter(|room| room.held.lent).collect();
        for room in &lent {
            let call = IMarket::recallCall { lease: room.held.lease };
            self.run(&Transaction::call(MARKET, call.abi_encode(), LEND_GAS)).await?;
        }
        Ok(lent.len())
    }

    /// Ends it, unless something stands in it; wei that came back.
    pub async fn release(&self, reservation: &Reservation) -> Result<U256, Fault> {
        let leases = reservation.leases();
        if leases > 0 {
            return Err(Fault::PoolUsed { order: reservation.id, leases });
        }
        let mut back = U256::ZERO;
        for batch in reservation.rooms.chunks(END_BATCH) {
            let leases: Vec<u64> = batch.iter().map(|room| room.held.lease).collect();
            let gas = END_GAS * (leases.len() as u64 + 1);
            let call = ILeases::endCall { leases };
            let logs = self.run(&Transaction::call(LEASES, call.abi_encode(), gas)).await?;
            back += logs.iter().filter_map(event::<ILeases::Ended>).map(|ended| ended.refund).sum::<U256>();
        }
        Ok(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_sol_types::SolValue as _;
    use hodei_types::market::rate;

    #[test]
    fn each_lease_of_it_is_renewed_at_its_own_rate() {
        let room = |lease, rate| {
            let mut held = Held::abi_decode(&[0; 32 * 64]).expect("all of its fields may be zero");
            held.lease = lease;
            Room { held, rate, left: 0 }
        };
        let terms = terms(&Draft { regions: Some(vec!["local".into()]), ..Draft::default() }, 0, 0).unwrap();
        let one = Reservation { id: 7, terms, rooms: vec![room(3, 1_000), room(5, 2_000)], earned: U256::ZERO };
        let renewal = one.renewal(60);
        assert_eq!(renewal.leases, [(3, U256::from(60_000)), (5, U256::from(120_000))]);
        assert_eq!((renewal.wei(), renewal.secs), (U256::from(180_000), 60));
    }

    #[test]
    fn a_part_of_what_it_costs_is_asked_for_the_whole_of_it() {
        let capacity = Capacity::of_dims([4000, 16 << 30, 0, 0, 0]);
        let host = Prices::of_dims([36_000, 900, 7, 0, 0]);
        let cost = rate(&capacity, &host, 5_000, 10_000);
        let asked = Ask::Part(80).prices(cost, &capacity, &host);
        let told = rate(&capacity, &asked, 0, 10_000);
        // Units are rounded up each.
        assert!(told >= cost * 80 / 100 && told <= cost * 81 / 100 + 10, "{told} of {cost}");
        assert_eq!(asked.transferMib, 0);
        let free = Ask::Part(50).prices(10, &capacity, &Prices::default());
        assert_eq!(rate(&capacity, &free, 0, 10_000), 6, "where its host asks for nothing, in whole units");
    }

    #[test]
    fn prices_of_a_cpu_and_a_gib_are_brought_to_the_markets_units() {
        let asked = Ask::Prices { cpu: 5_001, memory: 2_048 }.prices(1, &Capacity::default(), &Prices::default());
        assert_eq!(asked, Prices { cpuMilli: 6, memoryMib: 2, ..Prices::default() });
        let wild = Ask::Prices { cpu: u128::MAX, memory: 0 }.prices(1, &Capacity::default(), &Prices::default());
        assert!(wild.are_within());
    }
}

//! Bind escrow for chains of ticks, pay their words, and give back what is left.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{
        IRelays::{self, Claim, Direct, Ticket},
        MODULES, RELAYS, SYSTEM,
    },
    market::{CHAIN_TICKS_MAX, CHAIN_WINDOWS, PRICE_MAX, TICKET_TICKS, chain_id, fee, follows_word},
    tab::{Tick, TickError},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, GAS_HASH, Stop, revert},
        list::List,
        queue,
        slots::{at, base, pack, pack_address, unpack, unpack_address},
    },
    epoch,
    offer::Record,
};

const TAG_CHAIN: u8 = 20;
const TAG_NEXT: u8 = 21;
const TAG_PAYER: u8 = 22;

// Slots of a record, from its base.
const PAYER: u64 = 0;
const PAYEE: u64 = 1;
const RELAY: u64 = 2;
const WORD: u64 = 3;
const REST: u64 = 4;

/// One chain that is open.
#[derive(Clone, Copy, Debug)]
struct Chain {
    id: B256,
    payer: Address,
    payee: Address,
    /// Zero where it is no ticket of the pool.
    relay: B256,
    number: u64,
    ticks: u32,
    price: u64,
    /// What was claimed last; the anchor at zero.
    known: Tick,
    /// The active clock when claims end.
    ends_ms: u64,
}

impl Chain {
    fn known(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<Self, Stop> {
        let slots = chain_slot(id);
        let (payer, _) = unpack_address(ctx.load(RELAYS, at(slots, PAYER))?);
        if payer.is_zero() {
            return Err(revert(IRelays::UnknownChain { chain: id }));
        }
        let (payee, price) = unpack_address(ctx.load(RELAYS, at(slots, PAYEE))?);
        let relay = ctx.load(RELAYS, at(slots, RELAY))?.into();
        let value = ctx.load(RELAYS, at(slots, WORD))?.into();
        let [number, ends_ms, ticks, index] = unpack(ctx.load(RELAYS, at(slots, REST))?);
        let known = Tick { index: index as u32, value };
        Ok(Self { id, payer, payee, relay, number, ticks: ticks as u32, price, known, ends_ms })
    }

    /// Writes what a claim changes.
    fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = chain_slot(self.id);
        ctx.store(RELAYS, at(slots, WORD), self.known.value.into())?;
        let rest = pack([self.number, self.ends_ms, self.ticks.into(), self.known.index.into()]);
        ctx.store(RELAYS, at(slots, REST), rest)
    }

    /// Wei that are not claimed.
    fn left(&self) -> U256 {
        pay_of(self.ticks - self.known.index, self.price)
    }

    fn is_over(&self, clock_ms: u64) -> bool {
        clock_ms > self.ends_ms
    }
}

/// Opens chains to relays of the pool. What was sent beyond their price goes back to who sent it.
pub(super) fn buy(ctx: &mut Ctx<'_, '_>, tickets: &[Ticket], price_max: u64) -> Result<Vec<B256>, Stop> {
    let price = epoch::price(ctx)?;
    if price > price_max {
        return Err(revert(IRelays::PriceAbove { price, most: price_max }));
    }
    let needed = tickets.iter().map(|ticket| pay_of(ticket.ticks, price)).sum::<U256>();
    if ctx.value < needed {
        return Err(revert(IRelays::WrongDeposit { value: ctx.value, needed }));
    }
    let payer = budgets::principal(ctx, ctx.caller)?;
    let mut ids = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        let Ticket { relay, number, anchor, ticks } = *ticket;
        if !TICKET_TICKS.contains(&ticks) {
            return Err(revert(IRelays::BadTicks { ticks }));
        }
        let record = Record::known(ctx, relay)?;
        if !record.is_in_pool(price) {
            return Err(revert(IRelays::NotInPool { node: relay, price }));
        }
        ids.push(begin(ctx, payer, relay, &Direct { payee: record.operator, number, anchor, ticks, price })?);
    }
    let (caller, beyond) = (ctx.caller, ctx.value - needed);
    if !beyond.is_zero() {
        ctx.transfer(RELAYS, caller, beyond)?;
    }
    Ok(ids)
}

/// Opens chains to any accounts.
pub(super) fn open(ctx: &mut Ctx<'_, '_>, wants: &[Direct]) -> Result<Vec<B256>, Stop> {
    let needed = wants.iter().map(|want| pay_of(want.ticks, want.price)).sum::<U256>();
    if ctx.value != needed {
        return Err(revert(IRelays::WrongDeposit { value: ctx.value, needed }));
    }
    let payer = budgets::principal(ctx, ctx.caller)?;
    let mut ids = Vec::with_capacity(wants.len());
    for want in wants {
        if !(1..=CHAIN_TICKS_MAX).contains(&want.ticks) {
            return Err(revert(IRelays::BadTicks { ticks: want.ticks }));
        }
        if !(1..=PRICE_MAX).contains(&want.price) {
            return Err(revert(IRelays::BadPrice {}));
        }
        // Coin paid to a module would be nobody's.
        if want.payee.is_zero() || want.payee == SYSTEM || MODULES.contains(&want.payee) {
            return Err(revert(IRelays::BadPayee {}));
        }
        ids.push(begin(ctx, payer, B256::ZERO, want)?);
    }
    Ok(ids)
}

fn begin(ctx: &mut Ctx<'_, '_>, payer: Address, relay: B256, want: &Direct) -> Result<B256, Stop> {
    let Direct { payee, number, anchor, ticks, price } = *want;
    let next = next_number(ctx, payer)?;
    let after = number.checked_add(1).filter(|_| number >= next);
    let after = after.ok_or_else(|| revert(IRelays::NumberUsed { number, next }))?;
    ctx.store(RELAYS, next_slot(payer), U256::from(after))?;
    let id = chain_id(ctx.params.chain_id, payer, payee, number);
    let term_ms = ctx.params.window_ms.saturating_mul(CHAIN_WINDOWS);
    let ends_ms = queue::window(ctx)?.clock_ms.saturating_add(term_ms);
    let known = Tick { index: 0, value: anchor };
    let chain = Chain { id, payer, payee, relay, number, ticks, price, known, ends_ms };
    let slots = chain_slot(id);
    ctx.store(RELAYS, at(slots, PAYER), pack_address(payer, 0))?;
    ctx.store(RELAYS, at(slots, PAYEE), pack_address(payee, price))?;
    ctx.store(RELAYS, at(slots, RELAY), relay.into())?;
    chain.store(ctx)?;
    of_payer(payer).push(ctx, id.into())?;
    let until_ms = queue::wall_ms(ctx, ends_ms)?;
    ctx.emit(RELAYS, &IRelays::Opened { chain: id, payer, payee, relay, number, ticks, price, untilMs: until_ms })?;
    Ok(id)
}

/// Pays ticks that nobody was paid for yet; the wei, with what was burned.
pub(super) fn claim(ctx: &mut Ctx<'_, '_>, claim: &Claim) -> Result<U256, Stop> {
    let (id, given) = (claim.chain, Tick { index: claim.index, value: claim.word });
    let mut chain = Chain::known(ctx, id)?;
    if chain.is_over(queue::window(ctx)?.clock_ms) {
        let until_ms = queue::wall_ms(ctx, chain.ends_ms)?;
        return Err(revert(IRelays::Over { chain: id, untilMs: until_ms }));
    }
    let bad_word = || revert(IRelays::BadWord { chain: id, index: given.index });
    if given.index > chain.ticks {
        return Err(bad_word());
    }
    let ticks = given.index.saturating_sub(chain.known.index);
    ctx.charge(GAS_HASH * u64::from(ticks))?;
    follows_word(id, chain.payee, &chain.known, &given).map_err(|error| match error {
        TickError::Old { known, .. } => revert(IRelays::NothingNew { chain: id, index: known }),
        TickError::Far { .. } | TickError::Value(_) => bad_word(),
    })?;
    chain.known = given;
    chain.store(ctx)?;
    let Chain { payer, payee, relay, price, .. } = chain;
    let paid = pay_of(ticks, price);
    let burned = fee(paid);
    let amount = paid - burned;
    ctx.transfer(RELAYS, payee, amount)?;
    ctx.burn(RELAYS, burned)?;
    // What one pays oneself is no demand.
    if !relay.is_zero() && payer != payee {
        epoch::redeem(ctx, ticks)?;
    }
    let index = given.index;
    ctx.emit(RELAYS, &IRelays::Claimed { chain: id, payer, payee, relay, index, ticks, amount, burned })?;
    Ok(paid)
}

/// Gives back what is left of a chain whose claims ended.
pub(super) fn close(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<(), Stop> {
    let chain = Chain::known(ctx, id)?;
    if !chain.is_over(queue::window(ctx)?.clock_ms) {
        let until_ms = queue::wall_ms(ctx, chain.ends_ms)?;
        return Err(revert(IRelays::TooEarly { chain: id, untilMs: until_ms }));
    }
    // Its number is not used again: nothing of it needs to stay.
    let slots = chain_slot(id);
    for slot in PAYER..=REST {
        ctx.store(RELAYS, at(slots, slot), U256::ZERO)?;
    }
    let (payer, refund) = (chain.payer, chain.left());
    of_payer(payer).remove(ctx, id.into())?;
    ctx.transfer(RELAYS, payer, refund)?;
    ctx.emit(RELAYS, &IRelays::Closed { chain: id, payer, refund })
}

pub(super) fn show(ctx: &mut Ctx<'_, '_>, id: B256) -> Result<IRelays::Chain, Stop> {
    let chain = Chain::known(ctx, id)?;
    let until_ms = queue::wall_ms(ctx, chain.ends_ms)?;
    let left = chain.left();
    let Chain { payer, payee, relay, number, ticks, price, known, .. } = chain;
    let (claimed, word) = (known.index, known.value);
    Ok(IRelays::Chain { id, payer, payee, relay, number, ticks, price, claimed, word, left, untilMs: until_ms })
}

/// The least number that a payer's next chain may have.
pub(super) fn next_number(ctx: &mut Ctx<'_, '_>, payer: Address) -> Result<u64, Stop> {
    Ok(ctx.load(RELAYS, next_slot(payer))?.saturating_to())
}

/// Open chains of an account.
pub(super) fn of_payer(payer: Address) -> List {
    List::new(RELAYS, base(TAG_PAYER, &[payer.as_slice()]))
}

fn pay_of(ticks: u32, price: u64) -> U256 {
    U256::from(u128::from(ticks) * u128::from(price))
}

fn chain_slot(id: B256) -> U256 {
    base(TAG_CHAIN, &[id.as_slice()])
}

fn next_slot(payer: Address) -> U256 {
    base(TAG_NEXT, &[payer.as_slice()])
}

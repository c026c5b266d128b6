//! Take orders: match at once, or keep those that wait.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{
        IMarket::{self, Order, Placed, Placement},
        LEASES, MARKET,
    },
    market::{Capacity, Class, LEASE_SECS_MIN, LOST_MAX, TERM_SECS_MAX},
};

use super::{
    super::{
        budgets,
        ctx::{Ctx, Stop, broken, revert},
        leases,
        list::List,
        queue,
        slots::{at, base, pack, pack_address, pack_wide, unpack, unpack_address, unpack_wide},
    },
    batch,
    held::Held,
    matcher::{self, Beside},
    offer::Record,
};

const WAITING: u8 = 1;
const FILLED: u8 = 2;
const CANCELLED: u8 = 3;
const OVER: u8 = 4;

const TAG_NEXT: u8 = 5;
const TAG_ORDER: u8 = 6;
const TAG_OWNER: u8 = 7;

// Slots of a record, from its base.
const OWNER: u64 = 0;
const EACH: u64 = 1;
const TERMS: u64 = 2;
const COIN: u64 = 3;
const TIMES: u64 = 4;
const WORKLOAD: u64 = 5;
const LIMITS: u64 = 6;
const EXCLUDE: u64 = 7;
const LOST: u64 = 16;
/// The last lease of each replica, if it is not its first.
const LAST: u64 = 32;
/// What others paid for standing in what it holds.
const EARNED: u64 = 96;
/// The last deputy of each replica, if it had one.
const DEPUTY: u64 = 128;

/// One order, as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) id: u64,
    pub(crate) owner: Address,
    state: u8,
    /// Leases of it that run.
    running: u8,
    pub(crate) terms: Order,
    deposit: u128,
    /// The active clock when it stops waiting.
    pub(super) until_ms: u64,
    first_lease: u64,
    /// Hosts that were lost.
    lost: Vec<B256>,
}

impl Standing {
    /// An order that must be there.
    pub(crate) fn known(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Self, Stop> {
        let slots = order_slot(id);
        let (owner, bits) = unpack_address(ctx.load(MARKET, at(slots, OWNER))?);
        if owner.is_zero() {
            return Err(revert(IMarket::UnknownOrder { order: id }));
        }
        let [cpu, memory, disk, bandwidth] = unpack(ctx.load(MARKET, at(slots, EACH))?);
        let [transfer, regions, small, secs] = unpack(ctx.load(MARKET, at(slots, TERMS))?);
        let (price_max, deposit) = unpack_wide(ctx.load(MARKET, at(slots, COIN))?);
        let [first_lease, until_ms, patience_ms, more] = unpack(ctx.load(MARKET, at(slots, TIMES))?);
        let [replicas, runtime, tier, attestation, renewable, host, operator, network] = small.to_be_bytes();
        let (collateral_min, limits) = unpack_wide(ctx.load(MARKET, at(slots, LIMITS))?);
        let excluded = more >> 24 & 0xff;
        let exclude = nodes(ctx, at(slots, EXCLUDE), excluded)?;
        let lost = nodes(ctx, at(slots, LOST), limits as u64)?;
        let terms = Order {
            each: Capacity::of_dims([cpu, memory, disk, bandwidth, transfer]),
            replicas,
            regions,
            country: ((more >> 8) as u16).to_be_bytes().into(),
            runtime,
            tierMin: tier,
            attestationMin: attestation,
            renewableMin: renewable,
            priceMax: price_max,
            perHost: host,
            perOperator: operator,
            perNetwork: network,
            class: more as u8,
            secs,
            patienceMs: patience_ms,
            workload: ctx.load(MARKET, at(slots, WORKLOAD))?.into(),
            collateralMin: collateral_min,
            availabilityMinBp: (more >> 32) as u16,
            within: (limits >> 64) as u64,
            exclude,
        };
        let (state, running) = (bits as u8, (bits >> 8) as u8);
        Ok(Self { id, owner, state, running, terms, deposit, until_ms, first_lease, lost })
    }

    pub(crate) fn is_on_call(&self) -> bool {
        self.terms.is_on_call()
    }

    /// What each of its leases takes of its host: nothing where it is on call.
    pub(crate) fn room(&self) -> Capacity {
        if self.is_on_call() { Capacity::default() } else { self.terms.each }
    }

    /// Whether its leases have a service level.
    pub(crate) fn has_level(&self) -> bool {
        self.terms.availabilityMinBp > 0
    }

    /// Writes what changes in an order's life.
    fn store(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = order_slot(self.id);
        let terms = &self.terms;
        let country = u64::from(u16::from_be_bytes(terms.country.0));
        let more = u64::from(terms.availabilityMinBp) << 32
            | (terms.exclude.len() as u64) << 24
            | country << 8
            | u64::from(terms.class);
        self.store_state(ctx)?;
        ctx.store(MARKET, at(slots, COIN), pack_wide(terms.priceMax, self.deposit))?;
        ctx.store(MARKET, at(slots, TIMES), pack([self.first_lease, self.until_ms, terms.patienceMs, more]))
    }

    fn store_limits(&self, ctx: &mut Ctx<'_, '_>, lost: u64) -> Result<(), Stop> {
        let limits = u128::from(self.terms.within) << 64 | u128::from(lost);
        ctx.store(MARKET, at(order_slot(self.id), LIMITS), pack_wide(self.terms.collateralMin, limits))
    }

    fn store_state(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let bits = u64::from(self.state) | u64::from(self.running) << 8;
        ctx.store(MARKET, at(order_slot(self.id), OWNER), pack_address(self.owner, bits))
    }

    /// Writes an order that did not exist, and its place in its owner's list.
    fn store_new(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let slots = order_slot(self.id);
        let terms = &self.terms;
        let [cpu, memory, disk, bandwidth, transfer] = terms.each.dims();
        let small = u64::from_be_bytes([
            terms.replicas,
            terms.runtime,
            terms.tierMin,
            terms.attestationMin,
            terms.renewableMin,
            terms.perHost,
            terms.perOperator,
            terms.perNetwork,
        ]);
        ctx.store(MARKET, at(slots, EACH), pack([cpu, memory, disk, bandwidth]))?;
        ctx.store(MARKET, at(slots, TERMS), pack([transfer, terms.regions, small, terms.secs]))?;
        ctx.store(MARKET, at(slots, WORKLOAD), terms.workload.into())?;
        if terms.collateralMin > 0 || terms.within > 0 {
            self.store_limits(ctx, 0)?;
        }
        for (i, node) in (0..).zip(&terms.exclude) {
            ctx.store(MARKET, at(slots, EXCLUDE + i), (*node).into())?;
        }
        self.store(ctx)?;
        of_owner(self.owner).push(ctx, U256::from(self.id))
    }

    /// Moves the deposit into leases, and what it is more than whole seconds for all of them to `change_to`.
    fn begin_leases(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        placements: &[Placement],
        change_to: Address,
    ) -> Result<IMarket::Filled, Stop> {
        // Below 2^128: 64 rates of 2^93, for seconds of 2^26.
        let is_on_call = self.is_on_call();
        let rate: u128 = placements.iter().map(|placement| leases::stream_rate(is_on_call, placement)).sum();
        let secs = self.deposit.checked_div(rate).unwrap_or(0).min(TERM_SECS_MAX.into());
        if secs < self.terms.secs.into() {
            let needed = U256::from(rate) * U256::from(self.terms.secs);
            return Err(revert(IMarket::DepositTooSmall { given: U256::from(self.deposit), needed }));
        }
        let mut escrow: u128 = 0;
        for placement in placements {
            // No more than the deposit: each is funded for so many seconds at most.
            escrow = escrow.saturating_add(leases::escrow(
                ctx,
                leases::stream_rate(is_on_call, placement),
                placement.via,
                secs,
            )?);
        }
        let change = self.deposit.checked_sub(escrow).ok_or_else(|| broken("an escrow beyond its deposit"))?;
        let change = U256::from(change);
        self.deposit = 0;
        self.state = FILLED;
        self.running = self.terms.replicas;
        self.first_lease = leases::begin(ctx, self, placements, 0, secs)?;
        for placement in placements {
            self.take(ctx, placement)?;
        }
        ctx.transfer(MARKET, LEASES, U256::from(escrow))?;
        ctx.transfer(MARKET, change_to, change)?;
        let (order, owner, first_lease) = (self.id, self.owner, self.first_lease);
        Ok(IMarket::Filled { order, owner, firstLease: first_lease, escrow: U256::from(escrow), change })
    }

    /// Takes the room of one replica: of its host, or of the lease it stands in.
    fn take(&self, ctx: &mut Ctx<'_, '_>, placement: &Placement) -> Result<(), Stop> {
        let (record, each) = (Record::known(ctx, placement.node)?, self.room());
        if placement.via == 0 {
            return record.take(ctx, &each);
        }
        record.take(ctx, &Capacity::default())?;
        let held = Held::find(ctx, placement.via)?.ok_or_else(|| broken("a match in nothing held"))?;
        held.take(ctx, &each)
    }

    /// Begins the leases of one that waits.
    pub(super) fn fill(&mut self, ctx: &mut Ctx<'_, '_>, placements: &[Placement]) -> Result<(), Stop> {
        let filled = self.begin_leases(ctx, placements, self.owner)?;
        self.store(ctx)?;
        batch::leave(ctx, self.id)?;
        ctx.emit(MARKET, &filled)
    }

    /// Takes back the deposit of one that waits.
    pub(super) fn cancel(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let refund = U256::from(self.deposit);
        self.deposit = 0;
        self.state = CANCELLED;
        self.store(ctx)?;
        batch::leave(ctx, self.id)?;
        of_owner(self.owner).remove(ctx, U256::from(self.id))?;
        ctx.transfer(MARKET, self.owner, refund)?;
        ctx.emit(MARKET, &IMarket::Cancelled { order: self.id, owner: self.owner, refund })
    }

    /// Counts a lease of it that ended; with the last it leaves its owner's list.
    pub(crate) fn count_ended(&mut self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        self.running = self.running.checked_sub(1).ok_or_else(|| broken("more leases end than began"))?;
        if self.running == 0 {
            self.state = OVER;
            of_owner(self.owner).remove(ctx, U256::from(self.id))?;
        }
        self.store_state(ctx)
    }

    /// Whether what it loses goes on elsewhere: not after so many losses.
    pub(crate) fn may_lose(&self) -> bool {
        self.lost.len() < LOST_MAX
    }

    /// Keeps in mind that a host was lost, where there is room for it.
    pub(crate) fn note_lost(&mut self, ctx: &mut Ctx<'_, '_>, lost: B256) -> Result<(), Stop> {
        if !self.may_lose() {
            return Ok(());
        }
        let count = self.lost.len() as u64;
        self.lost.push(lost);
        ctx.store(MARKET, at(order_slot(self.id), LOST + count), lost.into())?;
        self.store_limits(ctx, count + 1)
    }

    /// Finds another host for a replica within the terms, beside its other leases: none that was lost, nor one of `away`.
    pub(crate) fn place_again(
        &self,
        ctx: &mut Ctx<'_, '_>,
        replica: u8,
        away: &[B256],
    ) -> Result<Option<Placement>, Stop> {
        let lost = [&self.lost, away].concat();
        let mut living = Vec::new();
        for other in (0..self.terms.replicas).filter(|other| *other != replica) {
            let (last, deputy) = (self.last_lease(ctx, other)?, self.last_deputy(ctx, other)?);
            for lease in [last].into_iter().chain(deputy.filter(|deputy| *deputy != last)) {
                living.extend(leases::living(ctx, lease)?);
            }
        }
        // It goes on for what is left, be that less than was asked for; a bond backs the term that was.
        let secs = if self.has_level() { self.terms.secs } else { LEASE_SECS_MIN };
        let one = Order { replicas: 1, secs, ..self.terms.clone() };
        let found = matcher::place(ctx, &one, Beside { living: &living, lost: &lost })?;
        Ok(found.ok().and_then(|placements| placements.first().copied()))
    }

    /// Takes the room of a replica's deputy, and counts and notes its lease.
    pub(crate) fn depute(
        &mut self,
        ctx: &mut Ctx<'_, '_>,
        replica: u8,
        placement: &Placement,
        lease: u64,
    ) -> Result<(), Stop> {
        self.take(ctx, placement)?;
        // At most two of each of 64 replicas.
        self.running += 1;
        self.store_state(ctx)?;
        ctx.store(MARKET, at(order_slot(self.id), DEPUTY + u64::from(replica)), U256::from(lease))
    }

    /// Notes that a replica's deputy is its lease from now on.
    pub(crate) fn succeed(&self, ctx: &mut Ctx<'_, '_>, replica: u8, lease: u64) -> Result<(), Stop> {
        ctx.store(MARKET, at(order_slot(self.id), LAST + u64::from(replica)), U256::from(lease))
    }

    /// The last deputy of a replica, if it had one, be it over or its lease by now.
    fn last_deputy(&self, ctx: &mut Ctx<'_, '_>, replica: u8) -> Result<Option<u64>, Stop> {
        let last: u64 = ctx.load(MARKET, at(order_slot(self.id), DEPUTY + u64::from(replica)))?.saturating_to();
        Ok((last > 0).then_some(last))
    }

    /// Takes the room of a replica that was placed again, and notes its lease.
    pub(crate) fn go_on(
        &self,
        ctx: &mut Ctx<'_, '_>,
        replica: u8,
        placement: &Placement,
        lease: u64,
    ) -> Result<(), Stop> {
        self.take(ctx, placement)?;
        self.succeed(ctx, replica, lease)
    }

    /// The last lease of a replica, of an order that was filled.
    fn last_lease(&self, ctx: &mut Ctx<'_, '_>, replica: u8) -> Result<u64, Stop> {
        let last: u64 = ctx.load(MARKET, at(order_slot(self.id), LAST + u64::from(replica)))?.saturating_to();
        Ok(if last == 0 { self.first_lease.saturating_add(replica.into()) } else { last })
    }

    /// Its deputies, the last of each replica, but for those that are its leases by now.
    fn deputies(&self, ctx: &mut Ctx<'_, '_>, leases: &[u64]) -> Result<Vec<u64>, Stop> {
        let mut deputies = Vec::new();
        for replica in 0..leases.len().min(usize::from(self.terms.replicas)) as u8 {
            deputies.extend(self.last_deputy(ctx, replica)?.filter(|deputy| !leases.contains(deputy)));
        }
        Ok(deputies)
    }

    /// The last lease of each replica; none while it waits.
    pub(super) fn last_leases(&self, ctx: &mut Ctx<'_, '_>) -> Result<Vec<u64>, Stop> {
        let replicas = if self.first_lease > 0 { self.terms.replicas } else { 0 };
        (0..replicas).map(|replica| self.last_lease(ctx, replica)).collect()
    }

    fn show(self, leases: Vec<u64>, until_ms: u64) -> Placed {
        Placed {
            id: self.id,
            owner: self.owner,
            state: self.state,
            order: self.terms,
            deposit: self.deposit,
            untilMs: until_ms,
            firstLease: self.first_lease,
            leases,
            lost: self.lost,
        }
    }
}

pub(super) fn check(terms: &Order) -> Result<(), Stop> {
    terms.check().map_err(|error| revert(IMarket::BadOrder { field: super::field(error) }))
}

pub(super) fn order(ctx: &mut Ctx<'_, '_>, terms: &Order) -> Result<u64, Stop> {
    check(terms)?;
    let deposit = u128::try_from(ctx.value).map_err(|_| revert(IMarket::BadOrder { field: "value".to_owned() }))?;
    let waits = terms.class == Class::Deferrable as u8;
    // What waits must be paid for at whatever price within its terms it finds.
    let hours = U256::from(terms.priceMax) * U256::from(terms.secs) * U256::from(terms.replicas);
    let needed = hours.div_ceil(U256::from(3600));
    if waits && U256::from(deposit) < needed {
        return Err(revert(IMarket::DepositTooSmall { given: U256::from(deposit), needed }));
    }
    let owner = budgets::principal(ctx, ctx.caller)?;
    if terms.within > 0 {
        check_within(ctx, owner, terms.within)?;
    }
    let next = base(TAG_NEXT, &[]);
    let id = ctx.load(MARKET, next)?.saturating_to::<u64>() + 1;
    ctx.store(MARKET, next, U256::from(id))?;
    let mut order = Standing {
        id,
        owner,
        state: WAITING,
        running: 0,
        terms: terms.clone(),
        deposit,
        until_ms: 0,
        first_lease: 0,
        lost: Vec::new(),
    };
    let found = matcher::place(ctx, terms, Beside::default())?;
    let filled = match found {
        Ok(placements) => Some(order.begin_leases(ctx, &placements, ctx.caller)?),
        Err(short) if !waits => return Err(matcher::no_fit(terms, &short)),
        Err(_) => {
            order.until_ms = queue::window(ctx)?.clock_ms.saturating_add(terms.patienceMs);
            None
        }
    };
    order.store_new(ctx)?;
    if filled.is_none() {
        batch::enter(ctx, id)?;
    }
    let ordered = IMarket::Ordered { order: id, owner, state: order.state, terms: terms.clone(), deposit: ctx.value };
    ctx.emit(MARKET, &ordered)?;
    if let Some(filled) = filled {
        ctx.emit(MARKET, &filled)?;
    }
    Ok(id)
}

/// Refuses to place anything within an order that holds nothing, or is another's.
fn check_within(ctx: &mut Ctx<'_, '_>, owner: Address, id: u64) -> Result<(), Stop> {
    let held = Standing::known(ctx, id)?;
    if !held.terms.is_reservation() {
        return Err(revert(IMarket::NotReserved { order: id }));
    }
    if held.owner == owner { Ok(()) } else { Err(revert(IMarket::NotOwner { owner: held.owner })) }
}

/// Notes what others paid for standing in what an order holds.
pub(crate) fn earn(ctx: &mut Ctx<'_, '_>, id: u64, amount: U256) -> Result<(), Stop> {
    let earned = earned(ctx, id)?.saturating_add(amount);
    ctx.store(MARKET, at(order_slot(id), EARNED), earned)
}

/// What others paid for that so far.
pub(super) fn earned(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<U256, Stop> {
    ctx.load(MARKET, at(order_slot(id), EARNED))
}

pub(super) fn fill(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut order = waiting(ctx, id)?;
    if queue::window(ctx)?.clock_ms > order.until_ms {
        let until_ms = queue::wall_ms(ctx, order.until_ms)?;
        return Err(revert(IMarket::TooLate { untilMs: until_ms }));
    }
    let found = matcher::place(ctx, &order.terms, Beside::default())?;
    let placements = found.map_err(|short| matcher::no_fit(&order.terms, &short))?;
    order.fill(ctx, &placements)
}

pub(super) fn cancel(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<(), Stop> {
    let mut order = waiting(ctx, id)?;
    let is_over = queue::window(ctx)?.clock_ms > order.until_ms;
    if !is_over && budgets::principal(ctx, ctx.caller)? != order.owner {
        return Err(revert(IMarket::NotOwner { owner: order.owner }));
    }
    order.cancel(ctx)
}

pub(super) fn quote(ctx: &mut Ctx<'_, '_>, terms: &Order) -> Result<Vec<Placement>, Stop> {
    check(terms)?;
    matcher::place(ctx, terms, Beside::default())?.map_err(|short| matcher::no_fit(terms, &short))
}

pub(super) fn get(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Placed, Stop> {
    let order = Standing::known(ctx, id)?;
    let until_ms = if order.until_ms > 0 { queue::wall_ms(ctx, order.until_ms)? } else { 0 };
    let mut leases = order.last_leases(ctx)?;
    leases.extend(order.deputies(ctx, &leases)?);
    Ok(order.show(leases, until_ms))
}

/// Orders of an account that wait or have leases.
pub(super) fn of_owner(owner: Address) -> List {
    List::new(MARKET, base(TAG_OWNER, &[owner.as_slice()]))
}

fn waiting(ctx: &mut Ctx<'_, '_>, id: u64) -> Result<Standing, Stop> {
    let order = Standing::known(ctx, id)?;
    if order.state == WAITING { Ok(order) } else { Err(revert(IMarket::NotWaiting { order: id })) }
}

/// So many node keys, from a slot on.
fn nodes(ctx: &mut Ctx<'_, '_>, slots: U256, count: u64) -> Result<Vec<B256>, Stop> {
    (0..count).map(|i| Ok(ctx.load(MARKET, at(slots, i))?.into())).collect()
}

fn order_slot(id: u64) -> U256 {
    base(TAG_ORDER, &[&id.to_be_bytes()])
}

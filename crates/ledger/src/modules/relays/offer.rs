//! Record which relays offer bandwidth at what price, and hold their collateral.

use alloy_primitives::{Address, B256, U256};
use hodei_types::{
    abi::{
        IRelays::{self, Relay, RelayOffer},
        RELAYS, operator_consent,
    },
    market::{NOTICE_WINDOWS, RELAYS_MAX, Standing, TermsError},
};

use super::{
    super::{
        ctx::{Ctx, Stop, revert},
        list::List,
        queue,
        slots::{
            at, base, load_bytes, pack, pack_address, pack_text, store_bytes, unpack, unpack_address, unpack_text,
        },
    },
    epoch, least,
};

const TAG_RECORD: u8 = 1;
const TAG_NODES: u8 = 2;

// Slots of a record, from its base.
const OPERATOR: u64 = 0;
const TERMS: u64 = 1;
const COLLATERAL: u64 = 2;
const WITHDRAWS: u64 = 3;
const NETWORK: u64 = 4;
const ZONE: u64 = 5;
const ADDRESSES: u64 = 6;

/// Beside the operator.
const RETIRED: u64 = 1;

/// What a record has beside its texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    node: B256,
    pub(super) operator: Address,
    retired: bool,
    price: u64,
    bandwidth_bits: u64,
    transfer_bytes: u64,
    region: u8,
}

impl Record {
    fn find(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Option<Self>, Stop> {
        let slots = record_slot(node);
        let (operator, bits) = unpack_address(ctx.load(RELAYS, at(slots, OPERATOR))?);
        if operator.is_zero() {
            return Ok(None);
        }
        let [price, bandwidth_bits, transfer_bytes, region] = unpack(ctx.load(RELAYS, at(slots, TERMS))?);
        let (retired, region) = (bits & RETIRED != 0, region as u8);
        Ok(Some(Self { node, operator, retired, price, bandwidth_bits, transfer_bytes, region }))
    }

    /// The record of a relay that must be there.
    pub(super) fn known(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        Self::find(ctx, node)?.ok_or_else(|| revert(IRelays::UnknownRelay { node }))
    }

    fn operated(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        let record = Self::known(ctx, node)?;
        let operator = record.operator;
        if operator == ctx.caller { Ok(record) } else { Err(revert(IRelays::NotOperator { operator })) }
    }

    /// Whether chains are opened to it at that price.
    pub(super) fn is_in_pool(&self, price: u64) -> bool {
        !self.retired && self.price <= price
    }

    fn store_operator(&self, ctx: &mut Ctx<'_, '_>) -> Result<(), Stop> {
        let bits = if self.retired { RETIRED } else { 0 };
        ctx.store(RELAYS, at(record_slot(self.node), OPERATOR), pack_address(self.operator, bits))
    }
}

pub(super) fn offer(ctx: &mut Ctx<'_, '_>, node: B256, terms: &RelayOffer, possession: &[u8]) -> Result<(), Stop> {
    if node.is_zero() || Record::find(ctx, node)?.is_some() {
        return Err(revert(IRelays::AlreadyOffered { node }));
    }
    check(ctx, terms)?;
    let (operator, collateral) = (ctx.caller, ctx.value);
    let least = least(ctx, terms.bandwidthBits);
    if collateral < least {
        return Err(revert(IRelays::CollateralTooSmall { given: collateral, least }));
    }
    if nodes().len(ctx)? >= RELAYS_MAX {
        return Err(revert(IRelays::ListFull { most: RELAYS_MAX }));
    }
    if !ctx.node_signed(node, &operator_consent(ctx.params.chain_id, operator, node), possession)? {
        return Err(revert(IRelays::BadPossession {}));
    }
    nodes().push(ctx, node.into())?;
    let slots = record_slot(node);
    ctx.store(RELAYS, at(slots, OPERATOR), pack_address(operator, 0))?;
    ctx.store(RELAYS, at(slots, COLLATERAL), collateral)?;
    write(ctx, node, terms)?;
    ctx.emit(RELAYS, &IRelays::Offered { node, operator, offer: terms.clone(), collateral })
}

pub(super) fn update(ctx: &mut Ctx<'_, '_>, node: B256, terms: &RelayOffer) -> Result<(), Stop> {
    let record = Record::operated(ctx, node)?;
    if record.retired {
        return Err(revert(IRelays::IsRetired {}));
    }
    check(ctx, terms)?;
    let (given, least) = (ctx.load(RELAYS, at(record_slot(node), COLLATERAL))?, least(ctx, terms.bandwidthBits));
    if given < least {
        return Err(revert(IRelays::CollateralTooSmall { given, least }));
    }
    write(ctx, node, terms)?;
    ctx.emit(RELAYS, &IRelays::Updated { node, operator: record.operator, offer: terms.clone() })
}

pub(super) fn deposit(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    Record::known(ctx, node)?;
    let (slot, amount) = (at(record_slot(node), COLLATERAL), ctx.value);
    let collateral = ctx.load(RELAYS, slot)?.saturating_add(amount);
    ctx.store(RELAYS, slot, collateral)?;
    ctx.emit(RELAYS, &IRelays::Deposited { node, amount, collateral })
}

pub(super) fn retire(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let mut record = Record::operated(ctx, node)?;
    if record.retired {
        return Err(revert(IRelays::IsRetired {}));
    }
    record.retired = true;
    record.store_operator(ctx)?;
    let notice_ms = ctx.params.window_ms.saturating_mul(NOTICE_WINDOWS);
    let ends_ms = queue::window(ctx)?.clock_ms.saturating_add(notice_ms);
    ctx.store(RELAYS, at(record_slot(node), WITHDRAWS), U256::from(ends_ms))?;
    let withdraws_ms = queue::wall_ms(ctx, ends_ms)?;
    ctx.emit(RELAYS, &IRelays::Retired { node, withdrawsMs: withdraws_ms })
}

pub(super) fn withdraw(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let record = Record::operated(ctx, node)?;
    if !record.retired {
        return Err(revert(IRelays::NotRetired {}));
    }
    let slots = record_slot(node);
    let ends_ms = ctx.load(RELAYS, at(slots, WITHDRAWS))?.saturating_to();
    if queue::window(ctx)?.clock_ms < ends_ms {
        let until_ms = queue::wall_ms(ctx, ends_ms)?;
        return Err(revert(IRelays::NoticeRuns { untilMs: until_ms }));
    }
    let amount = ctx.load(RELAYS, at(slots, COLLATERAL))?;
    nodes().remove(ctx, node.into())?;
    store_bytes(ctx, at(slots, ADDRESSES), &[])?;
    for slot in OPERATOR..ADDRESSES {
        ctx.store(RELAYS, at(slots, slot), U256::ZERO)?;
    }
    ctx.transfer(RELAYS, record.operator, amount)?;
    ctx.emit(RELAYS, &IRelays::Withdrawn { node, amount })
}

pub(super) fn get(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Relay, Stop> {
    let record = Record::known(ctx, node)?;
    let slots = record_slot(node);
    let offer = RelayOffer {
        price: record.price,
        bandwidthBits: record.bandwidth_bits,
        transferBytes: record.transfer_bytes,
        region: record.region,
        network: unpack_text(ctx.load(RELAYS, at(slots, NETWORK))?),
        zone: unpack_text(ctx.load(RELAYS, at(slots, ZONE))?),
        addresses: load_bytes(ctx, RELAYS, at(slots, ADDRESSES))?.into(),
    };
    let ends_ms = ctx.load(RELAYS, at(slots, WITHDRAWS))?.saturating_to();
    Ok(Relay {
        node,
        operator: record.operator,
        offer,
        collateral: ctx.load(RELAYS, at(slots, COLLATERAL))?,
        collateralMin: least(ctx, record.bandwidth_bits),
        retired: record.retired,
        withdrawsMs: if record.retired { queue::wall_ms(ctx, ends_ms)? } else { 0 },
        inPool: record.is_in_pool(epoch::price(ctx)?),
    })
}

/// What the price is made of: all offers that did not retire.
pub(super) fn standing(ctx: &mut Ctx<'_, '_>) -> Result<Vec<Standing>, Stop> {
    let mut found = Vec::new();
    for node in nodes().page(ctx, 0, RELAYS_MAX)? {
        let record = Record::find(ctx, node.into())?;
        found.extend(
            record
                .filter(|record| !record.retired)
                .map(|record| Standing { price: record.price, mib: record.transfer_bytes >> 20 }),
        );
    }
    Ok(found)
}

fn check(ctx: &Ctx<'_, '_>, terms: &RelayOffer) -> Result<(), Stop> {
    let field = |error| match error {
        TermsError::Field(field) => field.to_owned(),
        other => other.to_string(),
    };
    terms.check(ctx.params.window_ms).map_err(|error| revert(IRelays::BadOffer { field: field(error) }))
}

/// Writes all of a record that an offer states.
fn write(ctx: &mut Ctx<'_, '_>, node: B256, terms: &RelayOffer) -> Result<(), Stop> {
    let slots = record_slot(node);
    let word = pack([terms.price, terms.bandwidthBits, terms.transferBytes, terms.region.into()]);
    ctx.store(RELAYS, at(slots, TERMS), word)?;
    ctx.store(RELAYS, at(slots, NETWORK), pack_text(&terms.network))?;
    ctx.store(RELAYS, at(slots, ZONE), pack_text(&terms.zone))?;
    store_bytes(ctx, at(slots, ADDRESSES), &terms.addresses)
}

fn record_slot(node: B256) -> U256 {
    base(TAG_RECORD, &[node.as_slice()])
}

/// Every relay there is.
pub(super) fn nodes() -> List {
    List::new(RELAYS, base(TAG_NODES, &[]))
}

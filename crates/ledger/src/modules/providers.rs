//! Record who offers storage, where, at what key and address, and hold their collateral.
//!
//! Invariants: a node key registers only with its own signature, once; its collateral leaves only by slashing
//! or to its operator, when no deal is left; this module's account holds the sum of all collateral, and only coin
//! forced upon it (a contract's last will) beside that.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolCall as _;
use hodei_types::abi::{
    IModule,
    IProviders::{self, Offer},
    PAGE_MAX, PROVIDERS, operator_consent, unpack_reach,
};

use super::{
    ctx::{Ctx, Stop, returns, revert},
    deals,
    list::List,
    slots::{
        at, base, load_bytes, pack, pack_address, pack_text, pack_wide, store_bytes, unpack, unpack_address,
        unpack_text, unpack_wide,
    },
};

const TAG_RECORD: u8 = 1;
const TAG_NODES: u8 = 2;
const CLASSES: u8 = 3;
const PAYABLE: &[[u8; 4]] = &[IProviders::registerCall::SELECTOR, IProviders::depositCall::SELECTOR];

// Slots of a record, from its base.
const OPERATOR: u64 = 0;
const COUNTS: u64 = 1;
const PRICES: u64 = 2;
const COLLATERAL: u64 = 3;
const ZONE: u64 = 4;
const NETWORK: u64 = 5;
const CLASS: u64 = 6;
const ADDRESSES: u64 = 7;

/// The part of a record other modules work with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) node: B256,
    pub(super) operator: Address,
    pub(super) retired: bool,
    pub(super) capacity_bytes: u64,
    pub(super) used_bytes: u64,
    pub(super) deals: u64,
    pub(super) version: u64,
    /// Wei per GiB and window.
    pub(super) price_store: u128,
    pub(super) price_read: u128,
    pub(super) collateral: U256,
}

pub(super) fn call(ctx: &mut Ctx<'_, '_>) -> Result<Vec<u8>, Stop> {
    match ctx.decode::<IProviders::IProvidersCalls>(PAYABLE)? {
        IProviders::IProvidersCalls::register(call) => {
            ctx.writes()?;
            register(ctx, call.node, &call.offer, &call.possession)?;
            Ok(Vec::new())
        }
        IProviders::IProvidersCalls::update(call) => {
            ctx.writes()?;
            update(ctx, call.node, &call.offer)?;
            Ok(Vec::new())
        }
        IProviders::IProvidersCalls::deposit(call) => {
            ctx.writes()?;
            deposit(ctx, call.node)?;
            Ok(Vec::new())
        }
        IProviders::IProvidersCalls::retire(call) => {
            ctx.writes()?;
            let mut record = operated(ctx, call.node)?;
            record.retired = true;
            store(ctx, &record)?;
            ctx.emit(PROVIDERS, &IProviders::Retired { node: call.node })?;
            Ok(Vec::new())
        }
        IProviders::IProvidersCalls::withdraw(call) => {
            ctx.writes()?;
            withdraw(ctx, call.node)?;
            Ok(Vec::new())
        }
        IProviders::IProvidersCalls::count(_) => {
            let count = nodes().len(ctx)?;
            returns(count)
        }
        IProviders::IProvidersCalls::at(call) => {
            let node: B256 = nodes().at(ctx, call.i)?.into();
            returns(node)
        }
        IProviders::IProvidersCalls::get(call) => returns(get(ctx, call.node)?),
        IProviders::IProvidersCalls::page(call) => {
            if call.most > PAGE_MAX {
                return Err(revert(IModule::TooMany { given: U256::from(call.most), most: U256::from(PAGE_MAX) }));
            }
            let page = nodes().page(ctx, call.first, call.most)?;
            let page: Vec<_> = page.into_iter().map(|node| get(ctx, node.into())).collect::<Result<_, _>>()?;
            returns(page)
        }
    }
}

/// The record of a node; none if it is not registered.
pub(super) fn find(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Option<Record>, Stop> {
    let base = record_slot(node);
    let (operator, flags) = unpack_address(ctx.load(PROVIDERS, at(base, OPERATOR))?);
    if operator.is_zero() {
        return Ok(None);
    }
    let [capacity_bytes, used_bytes, deals, version] = unpack(ctx.load(PROVIDERS, at(base, COUNTS))?);
    let (price_store, price_read) = unpack_wide(ctx.load(PROVIDERS, at(base, PRICES))?);
    let collateral = ctx.load(PROVIDERS, at(base, COLLATERAL))?;
    let retired = flags & 1 == 1;
    Ok(Some(Record {
        node,
        operator,
        retired,
        capacity_bytes,
        used_bytes,
        deals,
        version,
        price_store,
        price_read,
        collateral,
    }))
}

/// Writes back what [`find`] returned.
pub(super) fn store(ctx: &mut Ctx<'_, '_>, record: &Record) -> Result<(), Stop> {
    let base = record_slot(record.node);
    ctx.store(PROVIDERS, at(base, OPERATOR), pack_address(record.operator, u64::from(record.retired)))?;
    let counts = pack([record.capacity_bytes, record.used_bytes, record.deals, record.version]);
    ctx.store(PROVIDERS, at(base, COUNTS), counts)?;
    ctx.store(PROVIDERS, at(base, PRICES), pack_wide(record.price_store, record.price_read))?;
    ctx.store(PROVIDERS, at(base, COLLATERAL), record.collateral)
}

fn register(ctx: &mut Ctx<'_, '_>, node: B256, offer: &Offer, possession: &[u8]) -> Result<(), Stop> {
    if find(ctx, node)?.is_some() || node.is_zero() {
        return Err(revert(IProviders::AlreadyRegistered { node }));
    }
    check_offer(offer)?;
    let (operator, collateral) = (ctx.caller, ctx.value);
    let least = ctx.params.slashing.collateral_min;
    if collateral < least {
        return Err(revert(IProviders::CollateralTooSmall { given: collateral, least }));
    }
    if !ctx.node_signed(node, &operator_consent(ctx.params.chain_id, operator, node), possession)? {
        return Err(revert(IProviders::BadPossession {}));
    }
    nodes().push(ctx, node.into())?;
    store(
        ctx,
        &Record {
            node,
            operator,
            retired: false,
            capacity_bytes: offer.capacityBytes,
            used_bytes: 0,
            deals: 0,
            version: 1,
            price_store: offer.priceStore,
            price_read: offer.priceRead,
            collateral,
        },
    )?;
    store_texts(ctx, node, offer)?;
    ctx.emit(PROVIDERS, &IProviders::Registered { node, operator, offer: offer.clone(), collateral })
}

fn update(ctx: &mut Ctx<'_, '_>, node: B256, offer: &Offer) -> Result<(), Stop> {
    let mut record = operated(ctx, node)?;
    check_offer(offer)?;
    record.capacity_bytes = offer.capacityBytes;
    record.price_store = offer.priceStore;
    record.price_read = offer.priceRead;
    record.version += 1;
    store(ctx, &record)?;
    store_texts(ctx, node, offer)?;
    let (operator, version) = (record.operator, record.version);
    ctx.emit(PROVIDERS, &IProviders::Updated { node, operator, offer: offer.clone(), version })
}

fn deposit(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let mut record = known(ctx, node)?;
    let amount = ctx.value;
    record.collateral = record.collateral.saturating_add(amount);
    store(ctx, &record)?;
    ctx.emit(PROVIDERS, &IProviders::Deposited { node, amount, collateral: record.collateral })
}

fn withdraw(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
    let record = operated(ctx, node)?;
    if !record.retired && !deals::is_closed(ctx, node)? {
        return Err(revert(IProviders::NotRetired {}));
    }
    if record.deals > 0 {
        return Err(revert(IProviders::DealsOpen { deals: record.deals }));
    }
    nodes().remove(ctx, node.into())?;
    let base = record_slot(node);
    store_bytes(ctx, at(base, ADDRESSES), &[])?;
    for slot in OPERATOR..ADDRESSES {
        ctx.store(PROVIDERS, at(base, slot), U256::ZERO)?;
    }
    ctx.transfer(PROVIDERS, record.operator, record.collateral)?;
    ctx.emit(PROVIDERS, &IProviders::Withdrawn { node, amount: record.collateral })
}

fn get(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<IProviders::Provider, Stop> {
    let record = known(ctx, node)?;
    let base = record_slot(node);
    let offer = Offer {
        zone: unpack_text(ctx.load(PROVIDERS, at(base, ZONE))?),
        network: unpack_text(ctx.load(PROVIDERS, at(base, NETWORK))?),
        addresses: load_bytes(ctx, PROVIDERS, at(base, ADDRESSES))?.into(),
        capacityBytes: record.capacity_bytes,
        priceStore: record.price_store,
        priceRead: record.price_read,
        class: ctx.load(PROVIDERS, at(base, CLASS))?.saturating_to(),
    };
    let (suspended, closed) = deals::flags(ctx, node)?;
    Ok(IProviders::Provider {
        node,
        operator: record.operator,
        offer,
        collateral: record.collateral,
        usedBytes: record.used_bytes,
        deals: record.deals,
        retired: record.retired,
        suspended,
        closed,
        version: record.version,
    })
}

fn check_offer(offer: &Offer) -> Result<(), Stop> {
    let bad = |field: &str| Err(revert(IProviders::BadOffer { field: field.to_owned() }));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if offer.zone.is_empty() || offer.zone.len() > 31 || !offer.zone.bytes().all(plain) {
        return bad("zone");
    }
    if offer.network.len() > 31 || !offer.network.bytes().all(|byte| byte.is_ascii_graphic()) {
        return bad("network");
    }
    if unpack_reach(&offer.addresses).is_none() {
        return bad("addresses");
    }
    // A deal's pay is a product of these; the bound keeps it far below 2^256 and above any sane price.
    if offer.priceStore > u128::MAX >> 32 {
        return bad("priceStore");
    }
    if offer.capacityBytes > u64::MAX >> 8 {
        return bad("capacityBytes");
    }
    if offer.class >= CLASSES {
        return bad("class");
    }
    Ok(())
}

fn store_texts(ctx: &mut Ctx<'_, '_>, node: B256, offer: &Offer) -> Result<(), Stop> {
    let base = record_slot(node);
    ctx.store(PROVIDERS, at(base, ZONE), pack_text(&offer.zone))?;
    ctx.store(PROVIDERS, at(base, NETWORK), pack_text(&offer.network))?;
    ctx.store(PROVIDERS, at(base, CLASS), U256::from(offer.class))?;
    store_bytes(ctx, at(base, ADDRESSES), &offer.addresses)
}

fn known(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Record, Stop> {
    find(ctx, node)?.ok_or_else(|| revert(IProviders::UnknownProvider { node }))
}

fn operated(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Record, Stop> {
    let record = known(ctx, node)?;
    if record.operator != ctx.caller {
        return Err(revert(IProviders::NotOperator { operator: record.operator }));
    }
    Ok(record)
}

fn record_slot(node: B256) -> U256 {
    base(TAG_RECORD, &[node.as_slice()])
}

fn nodes() -> List {
    List::new(PROVIDERS, base(TAG_NODES, &[]))
}

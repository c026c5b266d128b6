//! Keep in three words what the matcher looks at.

use alloy_primitives::B256;
use hodei_types::{
    abi::{IMarket::Offer, MARKET},
    market::{Capacity, Prices},
};

use super::{
    super::{
        ctx::{Ctx, Stop},
        slots::{at, pack, unpack},
    },
    offer::record_slot,
};

// Slots of a host's record, from its base.
const FREE: u64 = 1;
const PRICES: u64 = 2;
const CARD: u64 = 3;

/// What the matcher looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card {
    pub(super) free: Capacity,
    pub(super) prices: Prices,
    pub(super) leases: u64,
    pub(super) markup_bp: u16,
    pub(super) preemptible_bp: u16,
    pub(super) country: u16,
    pub(super) renewable: u8,
    pub(super) tier: u8,
    pub(super) attestation: u8,
}

impl Card {
    /// What it is of an offer with that much free.
    pub(super) fn of(offer: &Offer, free: Capacity, leases: u64) -> Self {
        Self {
            free,
            prices: offer.prices,
            leases,
            markup_bp: offer.markup_bp(&free),
            preemptible_bp: offer.preemptibleBp,
            country: u16::from_be_bytes(offer.country.0),
            renewable: offer.renewable,
            tier: offer.tier,
            attestation: offer.attestation,
        }
    }

    pub(super) fn load(ctx: &mut Ctx<'_, '_>, node: B256) -> Result<Self, Stop> {
        let slots = record_slot(node);
        let [cpu, memory, disk, bandwidth] = unpack(ctx.load(MARKET, at(slots, FREE))?);
        let prices = unpack(ctx.load(MARKET, at(slots, PRICES))?);
        let [transfer, price, leases, bits] = unpack(ctx.load(MARKET, at(slots, CARD))?);
        Ok(Self {
            free: Capacity::of_dims([cpu, memory, disk, bandwidth, transfer]),
            prices: Prices::of_dims([prices[0], prices[1], prices[2], prices[3], price]),
            leases,
            markup_bp: bits as u16,
            preemptible_bp: (bits >> 16) as u16,
            country: (bits >> 32) as u16,
            renewable: (bits >> 48) as u8,
            tier: (bits >> 56) as u8 & 15,
            attestation: (bits >> 60) as u8,
        })
    }

    pub(super) fn store(&self, ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
        let slots = record_slot(node);
        let [cpu, memory, disk, bandwidth, transfer] = self.free.dims();
        let bits = u64::from(self.markup_bp)
            | u64::from(self.preemptible_bp) << 16
            | u64::from(self.country) << 32
            | u64::from(self.renewable) << 48
            | u64::from(self.tier) << 56
            | u64::from(self.attestation) << 60;
        ctx.store(MARKET, at(slots, FREE), pack([cpu, memory, disk, bandwidth]))?;
        ctx.store(MARKET, at(slots, CARD), pack([transfer, self.prices.transferMib, self.leases, bits]))
    }

    pub(super) fn store_prices(&self, ctx: &mut Ctx<'_, '_>, node: B256) -> Result<(), Stop> {
        let [cpu, memory, disk, bandwidth, _] = self.prices.dims();
        ctx.store(MARKET, at(record_slot(node), PRICES), pack([cpu, memory, disk, bandwidth]))
    }
}

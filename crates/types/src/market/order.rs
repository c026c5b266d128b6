//! Check an order.

use alloy_sol_types::SolValue as _;

use super::{
    AVAILABILITY_BP, CAPACITY_MAX, Capacity, Class, Order, Runtime, TermsError,
    offer::{ATTESTATION_MAX, TIER_MAX},
    region::is_mask,
};

/// Replicas of one order: their leases fit in one transaction's gas.
pub const REPLICAS_MAX: u8 = 64;
/// The same where a service level is asked for, which each lease then keeps.
pub const LEVEL_REPLICAS_MAX: u8 = 32;
/// Of one that holds room: what each holds is written down.
pub(super) const HELD_REPLICAS_MAX: u8 = 48;
/// The least a replica takes: a hundredth of a CPU and a MiB. A host with less left stands in the book no longer.
pub const CAPACITY_MIN: Capacity = Capacity::of_dims([10, 1 << 20, 0, 0, 0]);
/// A lease is paid ahead for so long at most: a year, and a month to renew in.
pub const TERM_SECS_MAX: u64 = 400 * 24 * 3600;
/// A deferrable order waits for a month at most.
pub const PATIENCE_MS_MAX: u64 = 31 * 24 * 3600 * 1000;
/// Hosts an order may keep away from.
pub const EXCLUDE_MAX: usize = 8;
/// Bytes of an encoded order: 26 words, and one for each host it keeps away from.
pub const ORDER_BYTES_MAX: usize = (26 + EXCLUDE_MAX) * 32;

impl Order {
    /// Refuses an order outside of the limits, by the name of the first field that is.
    pub fn check(&self) -> Result<(), TermsError> {
        let field = |is_good: bool, name: &'static str| if is_good { Ok(()) } else { Err(TermsError::Field(name)) };
        field(self.each.fits_in(&CAPACITY_MAX) && CAPACITY_MIN.fits_in(&self.each), "each")?;
        let most = match self.availabilityMinBp {
            0 if self.is_reservation() => HELD_REPLICAS_MAX,
            0 => REPLICAS_MAX,
            _ => LEVEL_REPLICAS_MAX,
        };
        field((1..=most).contains(&self.replicas), "replicas")?;
        field(is_mask(self.regions), "regions")?;
        field(self.country.is_zero() || self.country.iter().all(u8::is_ascii_uppercase), "country")?;
        field(Runtime::of(self.runtime).is_some(), "runtime")?;
        field(self.tierMin <= TIER_MAX, "tierMin")?;
        field(self.attestationMin <= ATTESTATION_MAX, "attestationMin")?;
        field(self.renewableMin <= 100, "renewableMin")?;
        field(Class::of(self.class).is_some(), "class")?;
        field((super::LEASE_SECS_MIN..=TERM_SECS_MAX).contains(&self.secs), "secs")?;
        // Nothing is held within what is held, nor for as long as a host likes; what is on call takes no room.
        let is_on_call = self.is_on_call();
        field(self.within == 0 || !(self.is_reservation() || is_on_call), "within")?;
        // Calls are paid by fuel, which containers have none of.
        field(!is_on_call || self.runtime == Runtime::Wasm as u8, "runtime")?;
        let may_end = is_on_call || self.class == Class::Preemptible as u8;
        field(!self.is_reservation() || !may_end, "class")?;
        // Nothing is promised of what runs nothing, of what its host may end at any time, nor in what another holds.
        let may_be_promised = !self.is_reservation() && !may_end && self.within == 0;
        let is_level = may_be_promised && AVAILABILITY_BP.contains(&self.availabilityMinBp);
        field(self.availabilityMinBp == 0 || is_level, "availabilityMinBp")?;
        // Rising, so that one set is one order.
        let is_set = self.exclude.len() <= EXCLUDE_MAX && self.exclude.windows(2).all(|pair| pair[0] < pair[1]);
        field(is_set, "exclude")?;
        let waits = self.class == Class::Deferrable as u8;
        field(if waits { (1..=PATIENCE_MS_MAX).contains(&self.patienceMs) } else { self.patienceMs == 0 }, "patienceMs")
    }

    /// Whether it holds room and runs nothing.
    pub fn is_reservation(&self) -> bool {
        self.workload.is_zero()
    }

    /// Whether it takes no room, is started when it is asked, and is paid by the call.
    pub fn is_on_call(&self) -> bool {
        self.class == Class::OnCall as u8
    }

    /// The one encoding, as in the ledger's call.
    pub fn encode(&self) -> Vec<u8> {
        self.abi_encode()
    }

    /// Reads [`Self::encode`]'s bytes, refusing every other spelling and what [`Self::check`] refuses.
    pub fn decode(bytes: &[u8]) -> Result<Self, TermsError> {
        if bytes.len() > ORDER_BYTES_MAX {
            return Err(TermsError::TooLong { found: bytes.len(), most: ORDER_BYTES_MAX });
        }
        let order = Self::abi_decode_validate(bytes).map_err(|_| TermsError::Encoding)?;
        if order.encode() != bytes {
            return Err(TermsError::Encoding);
        }
        order.check()?;
        Ok(order)
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn order() -> Order {
        Order {
            each: Capacity::of_dims([100, 1 << 26, 0, 0, 0]),
            replicas: 3,
            regions: 0b11,
            country: Default::default(),
            runtime: 0,
            tierMin: 0,
            attestationMin: 0,
            renewableMin: 0,
            priceMax: 1000,
            perHost: 1,
            perOperator: 0,
            perNetwork: 0,
            class: 0,
            secs: 3600,
            patienceMs: 0,
            workload: Default::default(),
            collateralMin: 5,
            availabilityMinBp: 0,
            within: 0,
            exclude: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
        }
    }

    #[test]
    fn an_order_has_one_encoding_and_its_limits_are_named() {
        let bytes = order().encode();
        assert_eq!(Order::decode(&bytes), Ok(order()));
        assert_eq!(bytes.len(), ORDER_BYTES_MAX - (EXCLUDE_MAX - 2) * 32);
        assert_eq!(Order::decode(&bytes[1..]), Err(TermsError::Encoding));
        assert_eq!(Order::decode(&[&bytes[..], &[0; 32]].concat()), Err(TermsError::Encoding));
        let most = Order { exclude: (1..=EXCLUDE_MAX as u8).map(B256::repeat_byte).collect(), ..order() };
        let bytes = most.encode();
        assert_eq!((bytes.len(), Order::decode(&bytes)), (ORDER_BYTES_MAX, Ok(most)));
        assert!(matches!(Order::decode(&[&bytes[..], &[0]].concat()), Err(TermsError::TooLong { .. })));
        type Change = fn(&mut Order);
        let promised = Order { availabilityMinBp: 9_990, workload: B256::repeat_byte(7), ..order() };
        assert_eq!(promised.check(), Ok(()));
        let held = Order { within: 3, workload: B256::repeat_byte(7), ..order() };
        assert_eq!(held.check(), Ok(()));
        assert_eq!(Order { within: 3, ..promised }.check(), Err(TermsError::Field("availabilityMinBp")));
        let cases: [(&str, Change); 20] = [
            ("each", |order| order.each.memoryBytes = 0),
            ("replicas", |order| order.replicas = 0),
            ("replicas", |order| order.replicas = REPLICAS_MAX + 1),
            ("regions", |order| order.regions = 0),
            ("regions", |order| order.regions = 1 << 63),
            ("country", |order| order.country = [b'E', 0].into()),
            ("class", |order| order.class = 4),
            ("class", |order| order.class = Class::Preemptible as u8),
            ("class", |order| order.class = Class::OnCall as u8),
            ("secs", |order| order.secs = 59),
            ("replicas", |order| (order.availabilityMinBp, order.replicas) = (9_990, LEVEL_REPLICAS_MAX + 1)),
            ("availabilityMinBp", |order| order.availabilityMinBp = 1),
            ("availabilityMinBp", |order| order.availabilityMinBp = 10_000),
            ("availabilityMinBp", |order| {
                order.workload = B256::repeat_byte(7);
                (order.availabilityMinBp, order.class) = (9_990, Class::Preemptible as u8);
            }),
            ("within", |order| order.within = 1),
            ("exclude", |order| order.exclude = (0..=EXCLUDE_MAX as u8).map(B256::repeat_byte).collect()),
            ("exclude", |order| order.exclude.swap(0, 1)),
            ("exclude", |order| order.exclude[1] = order.exclude[0]),
            ("patienceMs", |order| order.patienceMs = 1),
            ("patienceMs", |order| order.class = Class::Deferrable as u8),
        ];
        for (field, change) in cases {
            let mut bad = order();
            change(&mut bad);
            assert_eq!(bad.check(), Err(TermsError::Field(field)));
        }
        let runs = Order { workload: B256::repeat_byte(7), within: 1, class: Class::Preemptible as u8, ..order() };
        assert_eq!(runs.check(), Ok(()), "what runs may stand in what is held");
    }
}

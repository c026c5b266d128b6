//! Name a bucket's deals with those who hold it.

use crate::market::Offer;
use hodei_storage::engine::Provider;
use hodei_types::abi::IDeals;

/// An open deal of a bucket and the provider behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    pub id: u64,
    pub offer: Offer,
    /// The terms, the last root posted, and what is paid and owed.
    pub state: IDeals::Deal,
}

impl Deal {
    /// Its provider, to be asked under a grant.
    pub(crate) fn provider(self, grant: Vec<u8>) -> Provider {
        Provider {
            peer: self.offer.peer(),
            deal: self.id,
            operator: self.offer.operator.into_array(),
            network: self.offer.network(),
            zone: self.offer.zone,
            grant,
        }
    }
}

//! Read where a bucket's owner allows providers, which the index's root says to who has the care key.

use super::{Charge, count::Scene};
use crate::{
    cloud::{Cloud, Runtime},
    fault::Fault,
    market::Offer,
};
use hodei_storage::index::{ROOT_BYTES, regions};
use hodei_types::{slice::ShardId, transport::Transport};
use std::fmt;

/// Where deals of a bucket may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Anywhere,
    In(Vec<String>),
}

impl Allowed {
    /// Whether one on offer is there.
    pub(super) fn has(&self, offer: &Offer) -> bool {
        match self {
            Self::Anywhere => true,
            Self::In(regions) => regions.iter().any(|region| offer.is_of(region)),
        }
    }
}

/// As it follows on what they offer.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => Ok(()),
            Self::In(regions) => write!(f, " in {}, the regions its owner allows", regions.join(", ")),
        }
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// Where the bucket's owner allows providers now; `None` where nobody gives the root that says it.
    pub(super) async fn allowed(&self, charge: &Charge, scene: &Scene) -> Result<Option<Allowed>, Fault> {
        let id = scene.record.id;
        // The owner may have changed it since the look began.
        let now = self.0.buckets.read(id).await?.ok_or_else(|| Fault::NoBucket(id.to_string()))?;
        let Some(root) = self.read_copy(scene, ShardId(now.state.root.0), ROOT_BYTES as u32).await else {
            return Ok(None);
        };
        let told = regions(&root, &self.0.network.0, &id.0, &charge.care);
        Ok(Some(told.map_or(Allowed::Anywhere, Allowed::In)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::offer;

    #[test]
    fn only_who_is_of_an_allowed_region_is_taken_and_nobody_where_none_is() {
        let allowed = Allowed::In(vec!["eu".into(), "uk".into()]);
        let taken = ["eu", "eu-berlin", "europe", "us"].map(|zone| allowed.has(&offer(1, 1, zone, 1)));
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(allowed.to_string(), " in eu, uk, the regions its owner allows");
        let us = offer(1, 1, "us", 1);
        assert_eq!((Allowed::Anywhere.has(&us), Allowed::In(Vec::new()).has(&us)), (true, false));
    }
}

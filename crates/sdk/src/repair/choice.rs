//! Choose providers that take the place of those that are gone.
//!
//! The first of an operator, and of a network, that the bucket does not know goes before the cheapest: a stripe is lost
//! with whoever holds too much of it. Where the living ones together do not lie as a stripe must, more join until they
//! do; where nobody makes them do, nobody is paid.

use crate::{
    market::Offer,
    plan::{DEALS_MAX, placed},
};
use hodei_storage::place::PlaceError;
use hodei_types::code::Shape;
use std::collections::BTreeSet;

/// Gives those of `offered` who join `living` for `lost` others.
pub(crate) fn choose<'a>(
    shape: &Shape,
    living: &[&'a Offer],
    offered: &[&'a Offer],
    lost: usize,
) -> Result<Vec<&'a Offer>, PlaceError> {
    let mut all = living.to_vec();
    let mut left = offered.to_vec();
    loop {
        let fits = placed(shape, &all);
        let is_enough = all.len() >= living.len() + lost;
        if fits.is_ok() && (is_enough || left.is_empty()) {
            return Ok(all.split_off(living.len()));
        }
        if left.is_empty() || all.len() >= DEALS_MAX {
            return fits.map(|()| all.split_off(living.len()));
        }
        let operators: BTreeSet<_> = all.iter().map(|offer| offer.operator).collect();
        let networks: BTreeSet<_> = all.iter().map(|offer| offer.network()).collect();
        let rank = |offer: &Offer| {
            let is_known = operators.contains(&offer.operator);
            (is_known, networks.contains(&offer.network()), offer.price_store, offer.node)
        };
        let best = (0..left.len()).min_by_key(|at| rank(left[*at])).expect("some are left");
        all.push(left.swap_remove(best));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::offer;

    fn nodes(chosen: &[&Offer]) -> Vec<u8> {
        chosen.iter().map(|offer| offer.node.0[0]).collect()
    }

    #[test]
    fn another_operator_goes_before_a_cheaper_one() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let living: Vec<Offer> = (0..5).map(|i| offer(i, i, ["a", "b", "c"][i as usize % 3], 10)).collect();
        let offered = [offer(10, 1, "a", 1), offer(11, 11, "b", 5), offer(12, 12, "d", 9)];
        let (living, offered): (Vec<_>, Vec<_>) = (living.iter().collect(), offered.iter().collect());
        let choose = |lost| choose(&shape, &living, &offered, lost).map(|chosen| nodes(&chosen));
        assert_eq!(choose(0).unwrap(), [0u8; 0], "five suffice");
        assert_eq!(choose(1).unwrap(), [12]);
        assert_eq!(choose(3).unwrap(), [12, 11, 10]);
        assert_eq!(choose(9).unwrap(), [12, 11, 10], "no more are on offer");
    }

    #[test]
    fn more_join_until_a_stripe_finds_its_places_or_nobody_does() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let living = [offer(0, 0, "a", 10), offer(1, 1, "b", 10)];
        let living: Vec<_> = living.iter().collect();
        let same = [offer(10, 10, "a", 1), offer(11, 11, "b", 1)];
        let same: Vec<_> = same.iter().collect();
        assert!(choose(&shape, &living, &same, 1).is_err(), "two networks are not three");
        let other = offer(12, 12, "c", 99);
        let offered = [&same[..], &[&other]].concat();
        assert_eq!(nodes(&choose(&shape, &living, &offered, 0).unwrap()), [12]);
    }
}

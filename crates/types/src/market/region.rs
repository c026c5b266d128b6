//! Name the regions orders choose among.

/// Places in the world; an offer's and an order's region is a place in this list, which only grows, to 64 at most.
/// `local` is for machines of one house.
pub const REGIONS: [&str; 25] = [
    "local",
    "af-east",
    "af-north",
    "af-south",
    "af-west",
    "ap-east",
    "ap-north",
    "ap-south",
    "ap-southeast",
    "ap-oceania",
    "as-central",
    "as-west",
    "eu-central",
    "eu-east",
    "eu-north",
    "eu-south",
    "eu-west",
    "na-canada",
    "na-central",
    "na-east",
    "na-mexico",
    "na-west",
    "sa-east",
    "sa-north",
    "sa-west",
];

/// Which place a name has.
pub fn region(name: &str) -> Option<u8> {
    REGIONS.iter().position(|known| *known == name).map(|place| place as u8)
}

/// The bit of each, together; none if one is none.
pub fn region_mask<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    names.into_iter().try_fold(0, |mask, name| Some(mask | 1 << region(name)?))
}

/// Whether a mask names regions, and only such.
pub(super) fn is_mask(mask: u64) -> bool {
    mask != 0 && mask >> REGIONS.len() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_places_and_bits() {
        assert_eq!((region("local"), region("sa-west"), region("moon")), (Some(0), Some(24), None));
        assert_eq!(region_mask(["local", "af-north"]), Some(0b101));
        assert_eq!(region_mask(["local", "moon"]), None);
        assert!(is_mask(1 << 24) && !is_mask(1 << 25) && !is_mask(0));
        let mut names = REGIONS.to_vec();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), REGIONS.len());
    }
}

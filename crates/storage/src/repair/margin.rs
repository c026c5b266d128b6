//! Count what is left of stripes, and tell which are to be stored again.
//!
//! A stripe's margin is how many more of its shards may go. Stripes of wide codes are stored again only when many of
//! their shards are gone, which moves a quarter to a third of what putting back each at once would; those of short codes
//! as soon as one lacks. A shard whose provider may come back counts as there for that, unless without it nothing more
//! may go.

use hodei_types::code::Shape;
use std::collections::BTreeMap;

/// From this many shards on a stripe is wide.
const WIDE: u8 = 24;
/// Of a wide stripe's parity, in sixteenths, that must be there: as the simulated code for machines at home has it.
const PARITY_SIXTEENTHS: u16 = 7;

/// Where the shards of one stripe are, or the copies of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Their providers say that they hold them.
    pub there: u16,
    /// With providers that are expected back.
    pub back: u16,
    /// With providers that nothing is expected of, but that answer still.
    pub spare: u16,
    /// Of these, with providers that leave: they are moved while they can be.
    pub leaving: u16,
    /// With providers that are away and not given up.
    pub away: u16,
    /// Refused by who should have them: they are put elsewhere, however many others are there.
    pub declined: u16,
}

/// What is to be done about a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Enough,
    Due,
    /// It cannot be read now; with providers that are away it could.
    OutOfReach,
    /// It cannot be read, whoever comes back.
    Lost,
}

/// What a stripe is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// So many restore it.
    k: u16,
    /// Fewer are too few.
    least: u16,
}

/// Shards of a stripe below which it is stored again.
pub fn least(shape: &Shape) -> u8 {
    match (shape.k(), shape.n()) {
        (16, 24) => 16 + 3,
        (16, 32) => 16 + 7,
        (10, 30) => 10 + 10,
        (_, n) if n < WIDE => n,
        (k, n) => k + (u16::from(n - k) * PARITY_SIXTEENTHS / 16) as u8,
    }
}

impl Bar {
    /// Of data: `all` asks for each shard.
    pub fn data(shape: &Shape, all: bool) -> Self {
        Self { k: shape.k().into(), least: if all { shape.n() } else { least(shape) }.into() }
    }

    /// Of layers of the index, which are written anew often: what a put waits for is enough.
    pub fn index(shape: &Shape, all: bool) -> Self {
        let least = if all { shape.n() } else { least(shape).min(shape.q()) };
        Self { k: shape.k().into(), least: least.into() }
    }

    /// Of the pages beside it: as many copies more than one as stripes need shards more than k, as far as there are
    /// `providers` for them.
    pub fn pages(self, providers: usize) -> Self {
        let providers = u16::try_from(providers).unwrap_or(u16::MAX);
        Self { k: 1, least: (self.least - self.k + 1).min(providers) }
    }

    pub fn fate(self, count: Count) -> Fate {
        let Count { there, back, spare, leaving, away, declined } = count;
        if there + spare < self.k {
            return if there + spare + back + away < self.k { Fate::Lost } else { Fate::OutOfReach };
        }
        let is_urgent = there <= self.k && there < self.least;
        if leaving + declined > 0 || there + back < self.least || is_urgent { Fate::Due } else { Fate::Enough }
    }
}

/// How many stripes have which margin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// They lack nothing.
    pub whole: u64,
    /// The others, by how many more shards of them may go.
    pub lacking: BTreeMap<u16, u64>,
    /// Fewer than k are there.
    pub lost: u64,
}

impl Margins {
    /// Takes one of which k of n suffice.
    pub fn add(&mut self, count: Count, k: u16, n: u16) {
        if count.there + count.spare < k {
            self.lost += 1;
        } else if count.there >= n {
            self.whole += 1;
        } else {
            *self.lacking.entry(count.there.saturating_sub(k)).or_default() += 1;
        }
    }

    pub fn all(&self) -> u64 {
        self.whole + self.lacking.values().sum::<u64>() + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(k: u8, n: u8) -> Shape {
        Shape::new(k, n, 1).unwrap()
    }

    fn count(there: u16, back: u16) -> Count {
        Count { there, back, ..Count::default() }
    }

    #[test]
    fn wide_codes_wait_and_short_ones_do_not() {
        let found = [(16, 24), (16, 32), (10, 30), (3, 6), (1, 2), (4, 8), (20, 60), (100, 255)]
            .map(|(k, n)| least(&shape(k, n)));
        assert_eq!(found, [19, 23, 20, 6, 2, 8, 37, 167]);
        for (k, n) in [(16, 24), (16, 32), (10, 30), (20, 60), (100, 255)] {
            let shape = shape(k, n);
            assert!((k..shape.q()).contains(&least(&shape)), "no put is born due: {k}-of-{n}");
            assert_eq!(Bar::data(&shape, true).least, u16::from(n));
        }
        let home = Bar::data(&shape(16, 32), false);
        assert_eq!((home.fate(count(23, 0)), home.fate(count(22, 0))), (Fate::Enough, Fate::Due));
        let index = Bar::index(&shape(3, 6), false);
        assert_eq!((index.fate(count(5, 0)), index.fate(count(4, 0))), (Fate::Enough, Fate::Due));
    }

    #[test]
    fn who_is_expected_back_counts_until_nothing_more_may_go() {
        let small = Bar::data(&shape(3, 6), false);
        let fates =
            [(6, 0), (5, 1), (4, 2), (3, 3), (5, 0), (4, 1)].map(|(there, back)| small.fate(count(there, back)));
        assert_eq!(fates, [Fate::Enough, Fate::Enough, Fate::Enough, Fate::Due, Fate::Due, Fate::Due]);
        assert_eq!(small.fate(count(2, 1)), Fate::OutOfReach);
        assert_eq!(small.fate(Count { away: 1, ..count(2, 0) }), Fate::OutOfReach);
        assert_eq!(small.fate(count(2, 0)), Fate::Lost);
        assert_eq!(small.fate(Count { spare: 1, ..count(2, 0) }), Fate::Due, "what can still be read is saved");
    }

    #[test]
    fn copies_of_pages_are_measured_alike() {
        let pages = Bar::data(&shape(3, 6), false).pages(6);
        let fates = [4, 3, 1, 0].map(|there| pages.fate(count(there, 0)));
        assert_eq!(fates, [Fate::Enough, Fate::Due, Fate::Due, Fate::Lost]);
        let few = Bar::data(&shape(3, 6), false).pages(3);
        assert_eq!(few.fate(count(3, 0)), Fate::Enough, "no more providers are there");
        let home = Bar::data(&shape(16, 32), false).pages(40);
        assert_eq!([8, 7].map(|there| home.fate(count(there, 0))), [Fate::Enough, Fate::Due]);
        let copies = Bar::data(&shape(1, 2), false).pages(4);
        assert_eq!([2, 1].map(|there| copies.fate(count(there, 0))), [Fate::Enough, Fate::Due]);
    }

    #[test]
    fn margins_tell_each_stripe_once() {
        let mut margins = Margins::default();
        for there in [6, 6, 6, 5, 4, 4, 3, 2, 0] {
            margins.add(count(there, 6 - there), 3, 6);
        }
        margins.add(Count { spare: 2, ..count(1, 0) }, 3, 6);
        let expected = BTreeMap::from([(2, 1), (1, 2), (0, 2)]);
        assert_eq!(margins, Margins { whole: 3, lacking: expected, lost: 2 });
        assert_eq!(margins.all(), 10);
    }
}

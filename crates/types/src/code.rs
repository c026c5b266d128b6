//! State a bucket's shape, and what it survives.
//!
//! A stripe is n shards of which any k restore it. A bucket also states t: how many whole operators, or
//! networks, it may lose at once. From these follow how many acks a put waits for (q), how many shards of
//! one stripe an operator or a network may hold (cap), and how many operators are needed:
//! any q acks survive the loss of any t with k + m left. An owner may ask for more: that a stripe lies evenly on
//! so many operators, networks or zones.

/// Bytes of a shard; a stripe carries k of them. 1 MiB shards are for bulk, later.
pub const SHARD_BYTES: u32 = 256 * 1024;
/// No shard is longer: bounds every body on the wire.
pub const SHARD_BYTES_MAX: u32 = 1024 * 1024;
/// A shard's length is a multiple of this, so that sizes say little and a shard is whole BLAKE3 chunks.
pub const SHARD_ALIGN: u32 = 4096;
/// Below this many operators a bucket may lose one of them, from it on two.
pub const OPERATORS_FOR_TWO: usize = 12;
/// Shards kept in hand beyond k after a loss, once a stripe is wide enough to afford it.
const MARGIN: u8 = 2;
/// From this n on stripes are that wide.
const WIDE: u8 = 24;

/// How shards are made of data. It stands in each manifest page and is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum CodeId {
    /// Systematic Reed-Solomon over GF(2⁸), polynomial 0x11d, Vandermonde matrix made systematic by its
    /// inverted top square, as in `reed-solomon-erasure` 6; pads by AES-256-CTR.
    Rs8 = 1,
}

impl CodeId {
    /// `None` for a code this version does not know.
    pub fn from_u16(id: u16) -> Option<Self> {
        (id == Self::Rs8 as u16).then_some(Self::Rs8)
    }
}

/// On how many of each a stripe's shards lie evenly: at most ⌈n / count⌉ on one. 0 asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spread {
    pub operators: u8,
    pub networks: u8,
    pub zones: u8,
}

/// How a bucket's data is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    k: u8,
    n: u8,
    t: u8,
    spread: Spread,
}

/// Bytes of a shape where a format carries it.
pub const SHAPE_BYTES: usize = 6;

/// Why a shape, or a shape among these operators, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("{k}-of-{n} is no code: k must be at least 1 and less than n")]
    Code { k: u8, n: u8 },
    #[error("t must be at least 1")]
    NoLoss,
    #[error(
        "{k}-of-{n} cannot lose {t} operators: each holds a shard, and {q} acks less {t} leave fewer than {least}; the largest t is {largest}"
    )]
    TooFragile { k: u8, n: u8, t: u8, q: u8, least: u8, largest: u8 },
    #[error(
        "{k}-of-{n} with t = {t} puts at most {cap} shards on one {domain} and so needs {needed} {domain}s, there are {found}; {fits}"
    )]
    TooFew { k: u8, n: u8, t: u8, cap: u8, domain: Domain, needed: usize, found: usize, fits: Fits },
    #[error("a stripe of {n} shards cannot lie on {asked} {domain}s: there are more of these than shards")]
    TooWide { n: u8, domain: Domain, asked: u8 },
}

/// The largest t that does fit, for the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fits(pub Option<u8>);

impl std::fmt::Display for Fits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(t) => write!(f, "the largest t that fits is {t}"),
            None => f.write_str("no t fits: choose a smaller class or wait for more providers"),
        }
    }
}

/// What fails together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    Operator,
    Network,
    /// As declared; it counts only where the owner asks for zones.
    Zone,
}

impl Domain {
    pub const ALL: [Self; 3] = [Self::Operator, Self::Network, Self::Zone];
}

impl std::fmt::Display for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Network => "network",
            Self::Zone => "zone",
        })
    }
}

/// The shapes that were simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// 3-of-6: demos and a few machines at home.
    Small,
    /// 16-of-24.
    Datacentre,
    /// 16-of-32.
    Home,
    /// 10-of-30.
    Phone,
}

impl Class {
    pub const ALL: [Self; 4] = [Self::Small, Self::Datacentre, Self::Home, Self::Phone];

    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Datacentre => "datacentre",
            Self::Home => "home",
            Self::Phone => "phone",
        }
    }

    /// (k, n).
    pub fn code(self) -> (u8, u8) {
        match self {
            Self::Small => (3, 6),
            Self::Datacentre => (16, 24),
            Self::Home => (16, 32),
            Self::Phone => (10, 30),
        }
    }

    /// The class's shape in a network of this many operators.
    pub fn shape(self, operators: usize) -> Shape {
        let (k, n) = self.code();
        let t = if operators < OPERATORS_FOR_TWO { 1 } else { 2 };
        Shape { k, n, t: t.min(largest_t(k, n)), spread: Spread::default() }
    }
}

impl Shape {
    /// Checks that any q acks outlive the loss of t operators holding one shard each.
    pub fn new(k: u8, n: u8, t: u8) -> Result<Self, ShapeError> {
        if k == 0 || k >= n {
            return Err(ShapeError::Code { k, n });
        }
        if t == 0 {
            return Err(ShapeError::NoLoss);
        }
        let largest = largest_t(k, n);
        if t > largest {
            return Err(ShapeError::TooFragile { k, n, t, q: acks(k, n), least: k.saturating_add(margin(n)), largest });
        }
        Ok(Self { k, n, t, spread: Spread::default() })
    }

    /// The most operators a code can be promised to lose.
    pub fn losses_max(k: u8, n: u8) -> u8 {
        largest_t(k, n)
    }

    /// The same, spread as asked.
    pub fn spread_over(self, spread: Spread) -> Result<Self, ShapeError> {
        let shape = Self { spread, ..self };
        match Domain::ALL.into_iter().find(|domain| shape.asked(*domain) > self.n) {
            Some(domain) => Err(ShapeError::TooWide { n: self.n, domain, asked: shape.asked(domain) }),
            None => Ok(shape),
        }
    }

    /// As formats carry it: k, n, t, operators, networks, zones.
    pub fn to_bytes(&self) -> [u8; SHAPE_BYTES] {
        let Spread { operators, networks, zones } = self.spread;
        [self.k, self.n, self.t, operators, networks, zones]
    }

    pub fn from_bytes([k, n, t, operators, networks, zones]: [u8; SHAPE_BYTES]) -> Result<Self, ShapeError> {
        Self::new(k, n, t)?.spread_over(Spread { operators, networks, zones })
    }

    /// Shards that restore a stripe.
    pub fn k(&self) -> u8 {
        self.k
    }

    /// Shards of a stripe.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// Whole operators, or networks, that may be lost at once.
    pub fn t(&self) -> u8 {
        self.t
    }

    /// Shards kept in hand beyond k after such a loss.
    pub fn m(&self) -> u8 {
        margin(self.n)
    }

    /// Acks after which a put may return.
    pub fn q(&self) -> u8 {
        acks(self.k, self.n)
    }

    /// What its owner asked for.
    pub fn spread(&self) -> Spread {
        self.spread
    }

    fn asked(&self, domain: Domain) -> u8 {
        match domain {
            Domain::Operator => self.spread.operators,
            Domain::Network => self.spread.networks,
            Domain::Zone => self.spread.zones,
        }
    }

    /// Most shards of one stripe that t whole operators, or networks, may each take with them.
    fn share(&self) -> u8 {
        ((self.q() - self.k - self.m()) / self.t).max(1)
    }

    /// Most shards of one stripe at one operator, in one network or in one zone.
    pub fn cap(&self, domain: Domain) -> u8 {
        let share = if domain == Domain::Zone { self.n } else { self.share() };
        match self.asked(domain) {
            0 => share,
            asked => share.min(self.n.div_ceil(asked)),
        }
    }

    /// Operators, networks or zones without which a stripe cannot be placed within the cap.
    pub fn domains(&self, domain: Domain) -> usize {
        usize::from(self.n).div_ceil(self.cap(domain).into())
    }

    /// Bytes of sealed data a full stripe carries.
    pub fn stripe_bytes(&self) -> u64 {
        u64::from(self.k) * u64::from(SHARD_BYTES)
    }

    /// Providers that hold a copy of each manifest page, so that one is left after any n - k losses.
    pub fn page_copies(&self) -> usize {
        usize::from(self.n - self.k) + 1
    }

    /// Refuses a network too small for this shape, naming the largest t that fits.
    pub fn fits(&self, operators: usize, networks: usize, zones: usize) -> Result<(), ShapeError> {
        let there = |domain| match domain {
            Domain::Operator => operators,
            Domain::Network => networks,
            Domain::Zone => zones,
        };
        let short = |shape: &Self| Domain::ALL.into_iter().find(|domain| there(*domain) < shape.domains(*domain));
        let Some(domain) = short(self) else { return Ok(()) };
        let fits = (1..self.t).rev().find(|t| short(&Self { t: *t, ..*self }).is_none());
        let Self { k, n, t, .. } = *self;
        let (cap, needed, found) = (self.cap(domain), self.domains(domain), there(domain));
        Err(ShapeError::TooFew { k, n, t, cap, domain, needed, found, fits: Fits(fits) })
    }

    /// What is promised and what is not, one sentence a line, for the plan a person is shown.
    pub fn plan(&self) -> Vec<String> {
        let (k, n, t, q) = (self.k, self.n, self.t, self.q());
        let (operator, network, zone) = (self.cap(Domain::Operator), self.cap(Domain::Network), self.cap(Domain::Zone));
        let times = f64::from(n) / f64::from(k);
        let what = if k == 1 {
            format!("{n} copies: any one of them restores the data, {times:.1} times its size is stored.")
        } else {
            format!("{k}-of-{n}: any {k} of {n} shards restore the data, {times:.1} times its size is stored.")
        };
        let mut lines = vec![
            what,
            format!(
                "Survives the loss of any {t} operator(s) or network(s) from the moment a put returns ({q} acks, at most {operator} shards of a stripe at one operator, {network} in one network)."
            ),
        ];
        if self.spread.zones > 0 {
            let outlives = if n - zone >= k {
                "once all shards are placed, the loss of any one zone is survived"
            } else {
                "the loss of a zone is NOT survived"
            };
            lines.push(format!(
                "At most {zone} shards of a stripe in one zone, as its machines declare it: {outlives}."
            ));
        }
        lines.push(format!(
            "Not survived: more than {} shards of a stripe lost faster than they are replaced; operators who are one person under several names; {}the loss of your keys.",
            n - k,
            if self.spread.zones == 0 { "a zone that takes several networks with it; " } else { "" },
        ));
        lines
    }
}

fn margin(n: u8) -> u8 {
    if n >= WIDE { MARGIN } else { 0 }
}

/// The simulated classes wait for what the study found (f = 5-10 % of acks lying, repair thresholds);
/// other shapes leave a quarter of the parity, at least one if there are three, to stragglers.
fn acks(k: u8, n: u8) -> u8 {
    match (k, n) {
        (3, 6) => 5,
        (10, 30) => 24,
        (16, 24) => 22,
        (16, 32) => 28,
        (20, 60) => 44,
        _ => {
            let parity = n - k;
            n - if parity >= 3 { (parity / 4).max(1) } else { 0 }
        }
    }
}

fn largest_t(k: u8, n: u8) -> u8 {
    acks(k, n).saturating_sub(k).saturating_sub(margin(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_are_those_of_the_design() {
        // class, operators → t, q, cap, operators needed.
        let rows = [
            (Class::Datacentre, 12, 2, 22, 2, 12),
            (Class::Phone, 12, 2, 24, 6, 5),
            (Class::Home, 12, 2, 28, 5, 7),
            (Class::Small, 6, 1, 5, 2, 3),
            (Class::Datacentre, 11, 1, 22, 4, 6),
        ];
        for (class, operators, t, q, cap, needed) in rows {
            let shape = class.shape(operators);
            assert_eq!(
                (shape.t(), shape.q(), shape.cap(Domain::Operator), shape.domains(Domain::Network)),
                (t, q, cap, needed),
                "{class:?}"
            );
            assert_eq!(shape.fits(operators, operators, 1), Ok(()));
        }
    }

    #[test]
    fn any_shape_keeps_its_promise() {
        for n in 2..=255u8 {
            for k in 1..n {
                for t in 1..=4 {
                    let Ok(shape) = Shape::new(k, n, t) else { continue };
                    let cap = shape.cap(Domain::Operator);
                    let left = i32::from(shape.q()) - i32::from(t) * i32::from(cap);
                    assert!(left >= i32::from(k) + i32::from(shape.m()), "{shape:?}");
                    assert!(shape.q() <= n && shape.domains(Domain::Operator) * usize::from(cap) >= n.into());
                    assert_eq!(Shape::from_bytes(shape.to_bytes()), Ok(shape));
                }
            }
        }
    }

    #[test]
    fn too_few_operators_are_refused_with_the_largest_t() {
        let shape = Shape::new(16, 24, 2).unwrap();
        let ShapeError::TooFew { needed, found, fits, domain, .. } = shape.fits(11, 40, 1).unwrap_err() else {
            panic!("another refusal");
        };
        assert_eq!((needed, found, fits, domain), (12, 11, Fits(Some(1)), Domain::Operator));
        let ShapeError::TooFew { fits, domain, .. } = shape.fits(12, 3, 1).unwrap_err() else { panic!() };
        assert_eq!((fits, domain), (Fits(None), Domain::Network));
        assert!(matches!(Shape::new(3, 6, 3), Err(ShapeError::TooFragile { largest: 2, .. })));
        assert_eq!(Shape::new(6, 6, 1), Err(ShapeError::Code { k: 6, n: 6 }));
    }

    #[test]
    fn what_an_owner_asks_for_narrows_the_caps() {
        let shape = Shape::new(3, 6, 1).unwrap();
        let asked = Spread { operators: 6, networks: 0, zones: 3 };
        let spread = shape.spread_over(asked).unwrap();
        let caps = |shape: &Shape| Domain::ALL.map(|domain| shape.cap(domain));
        assert_eq!((caps(&shape), caps(&spread)), ([2, 2, 6], [1, 2, 2]));
        assert_eq!(spread.fits(6, 3, 3), Ok(()));
        for (there, domain) in [((5, 9, 9), Domain::Operator), ((9, 2, 9), Domain::Network), ((9, 9, 2), Domain::Zone)]
        {
            let Err(ShapeError::TooFew { domain: short, .. }) = spread.fits(there.0, there.1, there.2) else {
                panic!("{there:?} are enough")
            };
            assert_eq!(short, domain);
        }
        assert_eq!(Shape::from_bytes(spread.to_bytes()), Ok(spread));
        let refused = shape.spread_over(Spread { zones: 7, ..asked });
        assert_eq!(refused, Err(ShapeError::TooWide { n: 6, domain: Domain::Zone, asked: 7 }));
        assert_ne!(shape, spread);
        assert!(spread.plan().iter().any(|line| line.contains("any one zone is survived")));
        // Copies: none but one is enough, and as many operators may be lost as acks allow.
        assert_eq!([2, 3, 4].map(|n| Shape::losses_max(1, n)), [1, 2, 2]);
    }
}

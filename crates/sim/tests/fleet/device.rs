//! Be a device: live for a while, be away now and then, sleep at night.

use hodei_storage::place::Candidate;
use hodei_types::{code::Class, transport::NodeKey};
use rand::{RngExt as _, rngs::StdRng};

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// How devices of a fleet live; days are means of exponential distributions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) class: Class,
    pub(crate) days: f64,
    /// Between two times it is away, and how long it then is.
    pub(crate) outage_every_days: f64,
    pub(crate) outage_days: f64,
    /// Of those that come back, so many of a hundred with what they held.
    pub(crate) returns_whole: u32,
    /// Hours of a day in which it answers, least and most.
    pub(crate) awake_hours: (u64, u64),
}

impl Life {
    /// As the study behind the shapes has phones: half a year, five days away every two months, asleep most of the day.
    pub(crate) const PHONE: Self = Self {
        class: Class::Phone,
        days: 182.5,
        outage_every_days: 60.0,
        outage_days: 5.0,
        returns_whole: 90,
        awake_hours: (6, 16),
    };
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    On,
    /// Heard of last then.
    Out(u64),
    /// It never comes back, which nobody knows; heard of last then.
    Dead(u64),
}

/// A shard: of which group, and which of the code's.
pub(crate) type Held = (u32, u8);

#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) candidate: Candidate,
    pub(crate) network: usize,
    pub(crate) is: Is,
    /// Counts its times away, so that what was planned for one is not done in the next.
    pub(crate) turn: u32,
    awake_from_ms: u64,
    awake_ms: u64,
    /// What it is counted for.
    pub(crate) holds: Vec<Held>,
    /// What it still has, though another is counted for it by now.
    pub(crate) had: Vec<Held>,
}

impl Device {
    pub(crate) fn new(number: u32, network: usize, operator: u32, life: &Life, rng: &mut StdRng) -> Self {
        let mut node = [0; 32];
        node[..4].copy_from_slice(&number.to_be_bytes());
        let mut account = [0; 20];
        account[..4].copy_from_slice(&operator.to_be_bytes());
        let (least, most) = life.awake_hours;
        Self {
            candidate: Candidate {
                node: NodeKey(node),
                operator: account,
                network: network.to_string(),
                // A zone is a country here: networks of one neighbourhood are in one.
                zone: (network % 12).to_string(),
            },
            network,
            is: Is::On,
            turn: 0,
            awake_from_ms: rng.random_range(0..DAY_MS),
            awake_ms: rng.random_range(least..=most) * HOUR_MS,
            holds: Vec::new(),
            had: Vec::new(),
        }
    }

    /// How long until it answers without being woken.
    pub(crate) fn wakes_in(&self, now_ms: u64) -> u64 {
        let since = (now_ms + DAY_MS - self.awake_from_ms) % DAY_MS;
        if since < self.awake_ms { 0 } else { DAY_MS - since }
    }
}

/// Milliseconds, exponentially distributed around a mean of days.
pub(crate) fn after(days: f64, rng: &mut StdRng) -> u64 {
    let uniform: f64 = rng.random();
    (-(1.0 - uniform).ln() * days * DAY_MS as f64) as u64 + 1
}

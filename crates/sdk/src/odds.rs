//! Estimate how often an object is lost, under assumptions that are named with the number.
//!
//! The model is that of the study behind the shapes: machines end independently of each other, each after an
//! exponential life. Where lost shards are put back, that begins as soon as only five spare ones are left, or at once
//! where a code has fewer, and takes three days from the loss. Within half a power of ten it gives what was simulated
//! for the classes: 10-of-30 on phones 10⁻⁶ to 10⁻⁷ a year, 16-of-32 at home 10⁻⁹·⁹, three copies on phones 10⁻²·⁵.
//! What fails together (one network, one faulty release, one person under several names) is not in it: caps are for that.

use hodei_types::code::{Class, Shape};

const YEAR_DAYS: f64 = 365.0;
/// From the end of a machine to its shards being elsewhere.
pub const REPLACED_DAYS: f64 = 3.0;
/// Spare shards at which replacing begins.
const SPARE: u8 = 5;

/// A year's odds for one object of one stripe; a longer one has them for each of its stripes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odds {
    /// What the machines are taken for.
    pub device: Class,
    /// Nobody replaces what is lost.
    pub left_alone: f64,
    /// Lost shards are put elsewhere within [`REPLACED_DAYS`].
    pub replaced: f64,
}

/// Mean life of a machine of this kind in a network, in days.
pub fn life_days(device: Class) -> f64 {
    match device {
        Class::Datacentre => 8.0 * YEAR_DAYS,
        Class::Home | Class::Small => 2.0 * YEAR_DAYS,
        Class::Phone => YEAR_DAYS / 2.0,
    }
}

/// Of `count` machines, that at least `least` end if each does with probability `p`.
fn at_least(least: u8, count: u8, p: f64) -> f64 {
    if p <= 0.0 {
        return f64::from(u8::from(least == 0));
    }
    // Logarithms: the terms span hundreds of orders of magnitude.
    let choose = |of: u8| -> f64 { (1..=of).map(|i| (f64::from(count - of + i) / f64::from(i)).ln()).sum() };
    let term = |ended: u8| choose(ended) + f64::from(ended) * p.ln() + f64::from(count - ended) * (1.0 - p).ln();
    (least..=count).map(|ended| term(ended).exp()).sum::<f64>().min(1.0)
}

impl Odds {
    pub fn of(shape: &Shape, device: Class) -> Self {
        let (k, n, life) = (shape.k(), shape.n(), life_days(device));
        let ends_within = |days: f64| 1.0 - (-days / life).exp();
        let left_alone = at_least(n - k + 1, n, ends_within(YEAR_DAYS));
        let begin = k.saturating_add(SPARE).min(n - 1);
        // Days until so few are left that replacing begins; then it must lose the rest before it is done.
        let between: f64 = (begin + 1..=n).map(|left| life / f64::from(left)).sum();
        let each = at_least(begin - k + 1, begin, ends_within(REPLACED_DAYS));
        Self { device, left_alone, replaced: (each * YEAR_DAYS / between).min(left_alone) }
    }

    /// For people: the numbers, and what they assume.
    pub fn lines(&self) -> Vec<String> {
        let machines = match self.device {
            Class::Datacentre => "machines in data centres that live 8 years",
            Class::Home | Class::Small => "machines at home that live 2 years",
            Class::Phone => "phones that live half a year",
        };
        vec![
            format!(
                "Odds that an object is lost within a year: {} if nobody replaces lost shards: `hodei data care` names somebody who does; {} if they are put elsewhere within {REPLACED_DAYS} days.",
                share(self.left_alone),
                share(self.replaced),
            ),
            format!(
                "Assumed: {machines} on average and end independently of each other; one stripe, and as many chances as stripes for a longer object."
            ),
        ]
    }
}

/// `1 in 4,100`, or a power of ten where nobody could count that far.
fn share(odds: f64) -> String {
    if odds < 1e-9 {
        return format!("about 10^{:.0}", odds.max(1e-300).log10());
    }
    let one_in = (1.0 / odds).round() as u64;
    let digits = one_in.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev().map(|three| std::str::from_utf8(three).unwrap_or(""));
    format!("1 in {}", grouped.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_gives_what_was_simulated() {
        let odds = |k, n, device| Odds::of(&Shape::new(k, n, 1).unwrap(), device).replaced.log10();
        for (k, n, device, low, high) in
            [(10, 30, Class::Phone, -7.0, -6.0), (16, 32, Class::Home, -10.5, -9.0), (1, 3, Class::Phone, -3.0, -2.5)]
        {
            let found = odds(k, n, device);
            assert!((low..=high).contains(&found), "{k}-of-{n}: {found}");
        }
        assert!(odds(16, 24, Class::Datacentre) < odds(16, 24, Class::Home));
    }

    #[test]
    fn left_alone_it_is_never_better_and_sums_are_right() {
        for (k, n) in [(1, 2), (3, 6), (4, 8), (16, 32), (10, 30), (100, 255)] {
            let odds = Odds::of(&Shape::new(k, n, 1).unwrap(), Class::Home);
            assert!(odds.replaced <= odds.left_alone && odds.left_alone <= 1.0, "{k}-of-{n}");
            assert!(odds.lines().iter().any(|line| line.contains("if nobody replaces lost shards")));
        }
        assert!((at_least(0, 6, 0.3) - 1.0).abs() < 1e-12);
        assert!((at_least(1, 2, 0.5) - 0.75).abs() < 1e-12);
        assert!((at_least(2, 2, 0.5) - 0.25).abs() < 1e-12);
        assert_eq!(
            (share(0.25), share(1.0 / 12_345.0), share(3e-12)),
            ("1 in 4".into(), "1 in 12,345".into(), "about 10^-12".into())
        );
    }
}

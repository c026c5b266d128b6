//! Tell what is expected of a provider, from when it was heard of last and what it proved.

use hodei_types::code::Class;

const HOUR_MS: u64 = 3_600_000;

/// What is known of one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    pub class: Class,
    /// When it answered, proved or registered last, in milliseconds since 1970.
    pub heard_ms: u64,
    /// Windows in a row without a proof of it.
    pub missed_in_row: u64,
    /// The ledger ended its deals.
    pub is_closed: bool,
}

/// What is expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    There,
    /// Away, and expected back with what it holds.
    Back,
    /// Given up: its shards are rebuilt, and count again should it return.
    Away,
    /// Nobody expects anything of it.
    Gone,
}

/// How long a machine of this class is taken to be there after it was heard of: a phone proves once a day, and sleeps.
pub fn quiet_ms(class: Class) -> u64 {
    match class {
        Class::Datacentre => HOUR_MS / 12,
        Class::Home | Class::Small => HOUR_MS,
        Class::Phone => 24 * HOUR_MS,
    }
}

/// How long it may be silent until it is given up: data centres mend within hours, people's machines within a day, and
/// phones are away for a weekend (`docs/simulation.md`).
pub fn silence_ms(class: Class) -> u64 {
    match class {
        Class::Datacentre => 4 * HOUR_MS,
        Class::Home | Class::Small => 24 * HOUR_MS,
        Class::Phone => 72 * HOUR_MS,
    }
}

impl Signs {
    pub fn state(&self, now_ms: u64) -> State {
        match self {
            Self { is_closed: true, .. } => State::Gone,
            // It answers and does not prove: what it says it holds is not believed.
            Self { missed_in_row: 2.., .. } => State::Away,
            Self { class, heard_ms, .. } => match now_ms.saturating_sub(*heard_ms) {
                silent if silent <= quiet_ms(*class) => State::There,
                silent if silent <= silence_ms(*class) => State::Back,
                _ => State::Away,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_given_as_long_as_the_class_is_used_to() {
        let signs = |class| Signs { class, heard_ms: 1000, missed_in_row: 0, is_closed: false };
        for class in Class::ALL {
            let (quiet, silence) = (1000 + quiet_ms(class), 1000 + silence_ms(class));
            let states = [0, 1000, quiet, quiet + 1, silence, silence + 1].map(|now_ms| signs(class).state(now_ms));
            // A clock that went back expects nothing worse.
            let there = [State::There; 3];
            assert_eq!(states[..3], there);
            assert_eq!(states[3..], [State::Back, State::Back, State::Away]);
        }
        let liar = Signs { missed_in_row: 2, ..signs(Class::Home) };
        assert_eq!(liar.state(1000), State::Away);
        assert_eq!(Signs { missed_in_row: 1, ..liar }.state(1000), State::There);
        assert_eq!(Signs { is_closed: true, ..liar }.state(1000), State::Gone);
    }
}

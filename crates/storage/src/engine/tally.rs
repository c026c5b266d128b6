//! Count what everybody who was asked for something said.
//!
//! What a reader is told where something could not be read: who was silent, who said that it has it not, and how many other
//! readers were asked. Of who was asked several times the last word counts.

use super::{crowd::Place, remote::RemoteError};
use hodei_types::transport::{NodeKey, TransportError};
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

/// What one said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    /// What was asked for, which was not enough.
    It,
    /// It let nothing be heard in time.
    Nothing,
    /// It could not be reached, or its line broke.
    Away,
    Busy,
    /// It does not have it, or declines it.
    Not,
    /// It wants to be paid, or gives nothing for another reason.
    Refused,
    /// What it gave was something else.
    Wrong,
}

impl From<&RemoteError> for Said {
    fn from(error: &RemoteError) -> Self {
        match error {
            RemoteError::Slow(_) => Self::Nothing,
            RemoteError::Transport(TransportError::Unreachable(..) | TransportError::Closed)
            | RemoteError::Stream(_) => Self::Away,
            RemoteError::Busy { .. } => Self::Busy,
            RemoteError::Gone | RemoteError::Declined(_) => Self::Not,
            RemoteError::Lie(_) => Self::Wrong,
            RemoteError::Transport(_) | RemoteError::Full { .. } | RemoteError::Refused { .. } => Self::Refused,
        }
    }
}

impl Display for Said {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::It => "giving",
            Self::Nothing => "silent",
            Self::Away => "out of reach",
            Self::Busy => "busy",
            Self::Not => "without it",
            Self::Refused => "refusing",
            Self::Wrong => "with something else",
        })
    }
}

/// The words of all who were asked, by whether each is another reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    words: BTreeMap<(bool, NodeKey), Said>,
    /// The most telling: why somebody refused says more than that another is away.
    failure: Option<(bool, String)>,
}

impl Tally {
    pub(super) fn gave(&mut self, place: &Place) {
        self.words.insert((matches!(place, Place::Crowd(_)), *place.node()), Said::It);
    }

    pub(super) fn add(&mut self, place: &Place, error: &RemoteError) {
        let is_reader = matches!(place, Place::Crowd(_));
        self.hear(is_reader, *place.node(), error);
    }

    pub(super) fn hear(&mut self, is_reader: bool, node: NodeKey, error: &RemoteError) {
        self.words.insert((is_reader, node), error.into());
        let is_answer = !error.is_down() || error.is_unpaid();
        if is_answer || self.failure.as_ref().is_none_or(|(was_answer, _)| !was_answer) {
            self.failure = Some((is_answer, format!("{node}: {error}")));
        }
    }

    fn of(&self, is_reader: bool) -> (usize, String) {
        let mut counts: BTreeMap<Said, usize> = BTreeMap::new();
        for said in self.words.iter().filter(|((of, _), _)| *of == is_reader).map(|(_, said)| *said) {
            *counts.entry(said).or_default() += 1;
        }
        let all: usize = counts.values().sum();
        let one = |(said, count): (&Said, &usize)| if all == 1 { said.to_string() } else { format!("{count} {said}") };
        (all, counts.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.of(false) {
            (0, _) => f.write_str("none of its holders is among the bucket's providers")?,
            (1, said) => write!(f, "the provider asked is {said}")?,
            (count, said) => write!(f, "of {count} providers asked are {said}")?,
        }
        match self.of(true) {
            (0, _) => f.write_str("; no other reader was asked")?,
            (1, said) => write!(f, "; the other reader asked is {said}")?,
            (count, said) => write!(f, "; of {count} other readers asked are {said}")?,
        }
        match &self.failure {
            Some((_, failure)) => write!(f, "; {failure}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_was_silent_who_has_it_not_and_who_was_asked_beside_is_told() {
        let mut tally = Tally::default();
        let node = |key| NodeKey([key; 32]);
        assert_eq!(tally.to_string(), "none of its holders is among the bucket's providers; no other reader was asked");
        tally.hear(false, node(1), &RemoteError::Gone);
        for key in 2..6 {
            tally.hear(false, node(key), &RemoteError::Slow(Duration::from_secs(2)));
        }
        let first = node(1);
        assert_eq!(
            tally.to_string(),
            format!(
                "of 5 providers asked are 4 silent, 1 without it; no other reader was asked; {first}: it does not have it"
            )
        );
        // Who was away and then answers is counted once; that one is busy is an answer.
        tally.hear(false, node(2), &RemoteError::Gone);
        tally.hear(true, node(1), &RemoteError::Busy { retry_after_ms: 7 });
        let told = tally.to_string();
        assert!(
            told.starts_with("of 5 providers asked are 3 silent, 2 without it; the other reader asked is busy; "),
            "{told}"
        );
    }
}

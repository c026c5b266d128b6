//! Tell of each provider of a bucket what is expected of it.
//!
//! Who does not answer may be starting anew: as long as it missed no proof, its shards are taken to come back with it.
//! Whoever missed one was away for a window; its shards count as gone, its deal stays in case it returns. Who answers and
//! proves nothing is not believed. Nothing is expected of those whom the ledger closed, whom the owner gives up, or whom
//! this client asked for windows and never reached, though they prove: others take their places. Who answers and rests,
//! since it spares power or transfer or is full, keeps what it has and gets nothing new meanwhile; where it gives nothing
//! either, what it has is taken to come back.

use crate::{
    bucket::{Deal, OPEN, Record},
    cloud::{Cloud, Inner, Runtime},
    fault::Fault,
    present::ASKED_AT_ONCE,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::engine::{Pause, Provider};
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    transport::{NodeKey, Transport},
};

/// Windows missed in a row after which the word of who answers is worth nothing: one goes by with a restart.
const DOUBTED_MISSES: u64 = 2;

/// What is expected of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers: it has what it says.
    Answers,
    /// It answers, but did not prove what it says for windows: what it has can be read at best.
    Doubted,
    /// It answers, and takes no new deals any more: what it has is moved while it can be.
    Leaving,
    /// It does not answer, and missed no proof: taken to come back.
    Away,
    /// It does not answer, and missed at least its last proof: what it has counts as gone, its deal stays.
    Missing,
    /// It proves, and in none of the last [`UNREACHED_WINDOWS`](super::UNREACHED_WINDOWS) windows in which this client asked
    /// it did it answer: what it has counts as gone.
    Unreached,
    /// The ledger closed it for the proofs it missed.
    Closed,
    /// Its owner says that it does not come back.
    GivenUp,
    /// Its deal ends by itself.
    Ending,
}

/// Somebody answers, and takes nothing for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Until when, in milliseconds since 1970, as far as it says.
    pub until_ms: Option<u64>,
    /// What it has it gives all the same.
    pub gives: bool,
}

/// A provider of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub deal: Deal,
    pub state: State,
    /// Whether it answers, whatever is expected of it.
    pub answers: bool,
    /// Where it takes nothing for now.
    pub rest: Option<Rest>,
    /// Windows it missed in a row.
    pub missed_in_row: u64,
    /// Shards, copies of pages among them, that the index says it has; and that are there.
    pub named: u64,
    pub there: u64,
    /// How many it says to have, and gives when it does not rest any more.
    pub kept: u64,
    /// How many of those it was asked for it declines to have, whether it or another is to have them now.
    pub declined: u64,
    /// How many of those that the index says it has.
    pub named_declined: u64,
}

impl Seat {
    pub fn node(&self) -> NodeKey {
        self.deal.offer.node
    }

    /// Whether nothing is expected of it.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Leaving | State::Unreached | State::Closed | State::GivenUp | State::Ending)
    }

    /// Whether it keeps what it has and takes nothing new, since its deal is not needed any more.
    pub fn is_leaving(&self) -> bool {
        !self.is_gone() && self.deal.state.capacityBytes == 0
    }

    /// Whether it stays with what it has, and is to take more, now or when it rested.
    pub fn stays(&self) -> bool {
        self.state == State::Answers && !self.is_leaving()
    }

    /// Whether it takes shards now.
    pub fn takes(&self) -> bool {
        self.stays() && self.rest.is_none()
    }

    /// Whether it answers, and gives nothing for now.
    pub(crate) fn is_shut(&self) -> bool {
        self.answers && self.rest.is_some_and(|rest| !rest.gives)
    }

    /// It stopped answering.
    pub(crate) fn fall_silent(&mut self) {
        (self.answers, self.rest) = (false, None);
        if matches!(self.state, State::Answers | State::Leaving | State::Doubted) {
            self.state = if self.missed_in_row > 0 { State::Missing } else { State::Away };
        }
    }
}

/// What the ledger says of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    /// Of its deal.
    pub(super) is_open: bool,
    pub(super) is_closed: bool,
    pub(super) is_retired: bool,
    pub(super) is_suspended: bool,
    pub(super) missed_in_row: u64,
}

/// One of a bucket's deals, and how its provider was found.
struct Asked {
    deal: Deal,
    word: Word,
    /// Whether it was asked at all.
    is_asked: bool,
    answers: bool,
    rest: Option<Rest>,
}

/// How one is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Answers,
    Silent,
    /// For so many windows that it is not expected back.
    SilentForLong,
}

/// What is to be expected of one by the ledger's word, the wire's, and its owner's.
pub(super) fn judge(word: Word, reach: Reach, is_given_up: bool) -> State {
    let answers = reach == Reach::Answers;
    match (answers, word.is_suspended) {
        _ if !word.is_open => State::Ending,
        _ if is_given_up => State::GivenUp,
        _ if word.is_closed => State::Closed,
        (true, true) if word.missed_in_row >= DOUBTED_MISSES => State::Doubted,
        (true, _) if word.is_retired => State::Leaving,
        (true, _) => State::Answers,
        (false, true) => State::Missing,
        (false, false) if reach == Reach::SilentForLong => State::Unreached,
        (false, false) => State::Away,
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// All providers of a bucket, each asked whether it is there.
    pub(crate) async fn seats(
        &self,
        record: &Record,
        roster: &[Provider],
        without: &[NodeKey],
    ) -> Result<Vec<Seat>, Fault> {
        let chain = &**self.0.wallet.chain();
        let deals = self.0.buckets.deals(record.id).await?;
        let asked = deals.into_iter().map(|deal| {
            let provider = roster.iter().find(|provider| provider.deal == deal.id).cloned();
            async move {
                let node = deal.offer.node;
                let standing = ask(chain, DEALS, &IDeals::standingCall { provider: node.0.into() }).await?;
                let answers = match &provider {
                    Some(provider) => self.is_there(provider).await,
                    None => false,
                };
                let rest = match &provider {
                    Some(provider) if answers => self.rest_of(provider).await,
                    _ => None,
                };
                let word = Word {
                    is_open: deal.state.state == OPEN,
                    is_closed: standing.closed,
                    is_retired: !deal.offer.open,
                    is_suspended: standing.suspended,
                    missed_in_row: standing.missesInRow,
                };
                Ok::<_, Fault>(Asked { deal, word, is_asked: provider.is_some(), answers, rest })
            }
        });
        // Boxed: closures over references make futures that are not provably Send.
        let asked = asked.map(futures::FutureExt::boxed).collect::<Vec<_>>();
        let asked: Vec<Asked> = stream::iter(asked).buffered(ASKED_AT_ONCE).try_collect().await?;
        let window = ask(chain, DEALS, &IDeals::windowCall {}).await?.index;
        let heard = asked.iter().filter(|one| one.is_asked).map(|one| (one.deal.offer.node, one.answers));
        let Inner { context, network, absences, .. } = &*self.0;
        let unreached = absences.hear(context, network, window, &heard.collect::<Vec<_>>()).await;
        let seat = |Asked { deal, word, answers, rest, .. }: Asked| {
            let reach = match (answers, unreached.contains(&deal.offer.node)) {
                (true, _) => Reach::Answers,
                (false, true) => Reach::SilentForLong,
                (false, false) => Reach::Silent,
            };
            let state = judge(word, reach, without.contains(&deal.offer.node));
            let (named, there, kept, declined, named_declined) = (0, 0, 0, 0, 0);
            let missed_in_row = word.missed_in_row;
            Seat { deal, state, answers, rest, missed_in_row, named, there, kept, declined, named_declined }
        };
        Ok(asked.into_iter().map(seat).collect())
    }

    /// Whether one that answers takes nothing for now, by its own word.
    pub(crate) async fn rest_of(&self, provider: &Provider) -> Option<Rest> {
        let Pause { wait, gives } = self.0.engine.pause(provider).await?;
        let until_ms =
            wait.map(|wait| self.now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        Some(Rest { until_ms, gives })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::market::Offer;
    use alloy_primitives::{Address, B256, U256};
    use hodei_types::code::Class;

    /// A provider of a bucket; its deal has its number.
    pub(in crate::repair) fn seat(node: u8, state: State, capacity_bytes: u64, sequence: u64) -> Seat {
        let offer = Offer {
            node: NodeKey([node; 32]),
            operator: Address::repeat_byte(node),
            zone: "a".into(),
            addresses: Vec::new(),
            relays: vec![],
            capacity_bytes: 1 << 40,
            used_bytes: 0,
            price_store: 1,
            price_read: 1,
            collateral: U256::ZERO,
            device: Class::Home,
            open: !matches!(state, State::Closed | State::Leaving),
            suspended: false,
        };
        let deal = IDeals::Deal {
            id: node.into(),
            bucket: B256::ZERO,
            provider: B256::repeat_byte(node),
            owner: Address::ZERO,
            state: OPEN,
            capacityBytes: capacity_bytes,
            pledgedBytes: capacity_bytes,
            price: 1,
            escrow: 0,
            sequence,
            root: B256::ZERO,
            leaves: 0,
            paidWindows: 0,
            missedWindows: 0,
            paid: U256::ZERO,
            owed: U256::ZERO,
        };
        let deal = Deal { id: node.into(), offer, state: deal };
        Seat {
            deal,
            state,
            answers: matches!(state, State::Answers | State::Doubted | State::Leaving),
            rest: None,
            missed_in_row: 0,
            named: 0,
            there: 0,
            kept: 0,
            declined: 0,
            named_declined: 0,
        }
    }

    #[test]
    fn who_rests_stays_and_takes_nothing_until_it_does_not_answer_at_all() {
        let mut resting = seat(0, State::Answers, 1 << 20, 1);
        assert!(resting.takes() && resting.stays() && !resting.is_shut());
        resting.rest = Some(Rest { until_ms: Some(9), gives: true });
        assert!(!resting.takes() && resting.stays() && !resting.is_shut() && !resting.is_gone());
        resting.rest = Some(Rest { until_ms: None, gives: false });
        assert!(!resting.takes() && resting.stays() && resting.is_shut());
        resting.fall_silent();
        assert_eq!((resting.state, resting.rest, resting.answers), (State::Away, None, false));
        assert!(!resting.stays() && !resting.is_shut());
    }

    #[test]
    fn what_is_expected_follows_from_owner_ledger_and_wire_in_this_order() {
        let word = |missed_in_row| Word {
            is_open: true,
            is_closed: false,
            is_retired: false,
            is_suspended: missed_in_row > 0,
            missed_in_row,
        };
        let reach = |answers| if answers { Reach::Answers } else { Reach::Silent };
        let judged = |missed, answers| judge(word(missed), reach(answers), false);
        assert_eq!([0, 1, 2].map(|missed| judged(missed, true)), [State::Answers, State::Answers, State::Doubted]);
        assert_eq!([0, 1, 9].map(|missed| judged(missed, false)), [State::Away, State::Missing, State::Missing]);
        let closed = Word { is_closed: true, ..word(10) };
        assert_eq!([true, false].map(|answers| judge(closed, reach(answers), false)), [State::Closed; 2]);
        assert_eq!([word(0), closed].map(|word| judge(word, Reach::Answers, true)), [State::GivenUp; 2]);
        assert_eq!(judge(Word { is_open: false, ..closed }, Reach::Answers, true), State::Ending);
        let retired = |missed| Word { is_retired: true, ..word(missed) };
        let judged = |missed, answers| judge(retired(missed), reach(answers), false);
        assert_eq!([0, 1, 2].map(|missed| judged(missed, true)), [State::Leaving, State::Leaving, State::Doubted]);
        assert_eq!([0, 1].map(|missed| judged(missed, false)), [State::Away, State::Missing]);
        // Who holds nothing is asked for nothing, whatever it missed before.
        assert_eq!(judge(Word { is_suspended: false, ..word(5) }, Reach::Answers, false), State::Answers);
        // Whom nobody reaches for long does not come back by proving; who proves nothing either keeps its deal.
        let for_long = |word| judge(word, Reach::SilentForLong, false);
        assert_eq!(
            [word(0), word(1), closed, retired(0)].map(for_long),
            [State::Unreached, State::Missing, State::Closed, State::Unreached]
        );
    }
}

//! Tell of each provider of a bucket what is expected of it.
//!
//! Who does not answer may be starting anew: as long as it missed no proof, its shards are taken to come back with it.
//! Whoever missed one was away for a window; its shards count as gone, its deal stays in case it returns. Who answers and
//! proves nothing is not believed. Nothing is expected of those whom the ledger closed, or whom the owner gives up:
//! others take their places. Who answers and rests, since it spares power or transfer or is full, keeps what it has and gets
//! nothing new meanwhile; where it gives nothing either, what it has is taken to come back.

use crate::{
    bucket::{Deal, OPEN, Record},
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_storage::engine::{Pause, Provider};
use hodei_types::{
    abi::{DEALS, IDeals},
    call::ask,
    transport::{NodeKey, Transport},
};
use std::time::Duration;

/// Providers, or questions to the ledger about them, under way at once.
pub(super) const ASKED_AT_ONCE: usize = 16;
/// Times one is asked whether it is there, and the rest between: a busy machine is not a dead one.
const TRIES: u32 = 2;
const REST: Duration = Duration::from_secs(1);
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
        matches!(self.state, State::Leaving | State::Closed | State::GivenUp | State::Ending)
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

/// What is to be expected of one by the ledger's word, the wire's, and its owner's.
pub(super) fn judge(word: Word, answers: bool, is_given_up: bool) -> State {
    match (answers, word.is_suspended) {
        _ if !word.is_open => State::Ending,
        _ if is_given_up => State::GivenUp,
        _ if word.is_closed => State::Closed,
        (true, true) if word.missed_in_row >= DOUBTED_MISSES => State::Doubted,
        (true, _) if word.is_retired => State::Leaving,
        (true, _) => State::Answers,
        (false, true) => State::Missing,
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
        let deals = self.0.buckets.deals(record.id).await?;
        let seats = deals.into_iter().map(|deal| {
            let provider = roster.iter().find(|provider| provider.deal == deal.id).cloned();
            let is_given_up = without.contains(&deal.offer.node);
            async move {
                let chain = &**self.0.wallet.chain();
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
                let (state, missed_in_row) = (judge(word, answers, is_given_up), word.missed_in_row);
                let (named, there, declined, named_declined) = (0, 0, 0, 0);
                Ok::<_, Fault>(Seat {
                    deal,
                    state,
                    answers,
                    rest,
                    missed_in_row,
                    named,
                    there,
                    declined,
                    named_declined,
                })
            }
        });
        // Boxed: closures over references make futures that are not provably Send.
        let seats = seats.map(futures::FutureExt::boxed).collect::<Vec<_>>();
        stream::iter(seats).buffered(ASKED_AT_ONCE).try_collect().await
    }

    /// Whether one that answers takes nothing for now, by its own word.
    pub(super) async fn rest_of(&self, provider: &Provider) -> Option<Rest> {
        let Pause { wait, gives } = self.0.engine.pause(provider).await?;
        let until_ms =
            wait.map(|wait| self.now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
        Some(Rest { until_ms, gives })
    }

    /// Whether a provider answers, asked patiently.
    pub(super) async fn is_there(&self, provider: &Provider) -> bool {
        for tries in 1.. {
            if self.0.engine.answers(provider).await {
                return true;
            }
            if tries == TRIES {
                break;
            }
            self.0.context.sleep(REST).await;
        }
        false
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
        let judged = |missed, answers| judge(word(missed), answers, false);
        assert_eq!([0, 1, 2].map(|missed| judged(missed, true)), [State::Answers, State::Answers, State::Doubted]);
        assert_eq!([0, 1, 9].map(|missed| judged(missed, false)), [State::Away, State::Missing, State::Missing]);
        let closed = Word { is_closed: true, ..word(10) };
        assert_eq!([true, false].map(|answers| judge(closed, answers, false)), [State::Closed; 2]);
        assert_eq!([word(0), closed].map(|word| judge(word, true, true)), [State::GivenUp; 2]);
        assert_eq!(judge(Word { is_open: false, ..closed }, true, true), State::Ending);
        let retired = |missed| Word { is_retired: true, ..word(missed) };
        let judged = |missed, answers| judge(retired(missed), answers, false);
        assert_eq!([0, 1, 2].map(|missed| judged(missed, true)), [State::Leaving, State::Leaving, State::Doubted]);
        assert_eq!([0, 1].map(|missed| judged(missed, false)), [State::Away, State::Missing]);
        // Who holds nothing is asked for nothing, whatever it missed before.
        assert_eq!(judge(Word { is_suspended: false, ..word(5) }, true, false), State::Answers);
    }
}
